//! Files, digests and JSON given on the command line. What cannot be read is a usage error, except
//! evidence.

use std::io::Read;
use std::path::Path;

use chancery_format::policy::{POLICY_BYTES_MAX, Policy};
use chancery_format::{Digest, HashAlgorithm, SignersRegistry};
use serde_json::value::RawValue;
use sha2::{Sha256, Sha384, Sha512};

use crate::args::artifacts::{Hashing, Subject};
use crate::output::Failure;

/// Largest text read from `@FILE`, in bytes: the service takes less.
const TEXT_BYTES_MAX: u64 = 16 * 1024 * 1024;

/// A digest, and how many bytes it is of, where they were read.
#[derive(Debug)]
pub(crate) struct Measured {
    pub(crate) digest: Digest,
    pub(crate) bytes: u64,
}

/// The digest given, or of the file given.
pub(crate) fn subject(subject: &Subject, hashing: Hashing) -> Result<Measured, Failure> {
    match (&subject.digest, &subject.file) {
        (Some(digest), _) => Ok(Measured { digest: *digest, bytes: 0 }),
        (None, Some(path)) => {
            measure(path, hashing.algorithm).map_err(|error| Failure::usage(&named(path, &error)))
        }
        (None, None) => Err(Failure::usage(&"give --digest or --file")),
    }
}

/// Digest and length of a file, read once and never held whole; `-` is standard input.
pub(crate) fn measure(path: &Path, algorithm: HashAlgorithm) -> std::io::Result<Measured> {
    let (digest, bytes) = match algorithm {
        HashAlgorithm::Sha256 => hash_with::<Sha256>(path, |hash| Digest::Sha256(hash.into()))?,
        HashAlgorithm::Sha384 => hash_with::<Sha384>(path, |hash| Digest::Sha384(hash.into()))?,
        HashAlgorithm::Sha512 => hash_with::<Sha512>(path, |hash| Digest::Sha512(hash.into()))?,
    };
    Ok(Measured { digest, bytes })
}

fn hash_with<H: sha2::Digest>(
    path: &Path,
    digest: impl FnOnce(sha2::digest::Output<H>) -> Digest,
) -> std::io::Result<(Digest, u64)> {
    let mut reader: Box<dyn Read> = if path == Path::new("-") {
        Box::new(std::io::stdin())
    } else {
        Box::new(std::fs::File::open(path)?)
    };
    let (mut hasher, mut bytes) = (H::new(), 0);
    let mut buffer = vec![0u8; 64 * 1024];
    loop {
        match reader.read(&mut buffer)? {
            0 => return Ok((digest(hasher.finalize()), bytes)),
            count => {
                hasher.update(buffer.get(..count).unwrap_or_default());
                bytes += count as u64;
            }
        }
    }
}

/// A file's bytes; one that is larger is refused.
pub(crate) fn read_bounded(path: &Path, bytes_max: usize) -> std::io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    std::fs::File::open(path)?.take(bytes_max as u64 + 1).read_to_end(&mut bytes)?;
    let too_large = || std::io::Error::other(format!("larger than {bytes_max} bytes"));
    if bytes.len() > bytes_max { Err(too_large()) } else { Ok(bytes) }
}

/// A C2SP tlog-policy.
pub(crate) fn policy(path: &Path) -> Result<Policy, Failure> {
    let file = read_bounded(path, POLICY_BYTES_MAX).map_err(|error| Failure::usage(&named(path, &error)))?;
    Policy::parse(&file).map_err(|error| Failure::usage(&format!("{}: {error}", path.display())))
}

/// Writes a file whole or not at all, and keeps it through a crash.
pub(crate) fn replace_file(path: &Path, bytes: &[u8]) -> Result<(), Failure> {
    chancery_client::replay::write_whole(path, bytes).map_err(|error| Failure::usage(&named(path, &error)))
}

/// `text`, or what the file behind `@` holds, without surrounding white space.
pub(crate) fn text(given: &str) -> Result<String, Failure> {
    let Some(path) = given.strip_prefix('@') else { return Ok(given.trim().to_owned()) };
    let read = || {
        let mut text = String::new();
        std::fs::File::open(path)?.take(TEXT_BYTES_MAX).read_to_string(&mut text)?;
        std::io::Result::Ok(text.trim().to_owned())
    };
    read().map_err(|error| Failure::usage(&named(Path::new(path), &error)))
}

/// JSON, kept as it is written. The service checks it more strictly than we do.
pub(crate) fn json(given: &str, option: &str) -> Result<Box<RawValue>, Failure> {
    let bad = |error| Failure::usage(&format!("{option} is not JSON: {error}"));
    RawValue::from_string(text(given)?).map_err(bad)
}

/// The signers registry to check evidence with.
pub(crate) fn registry(path: &Path) -> Result<SignersRegistry, Failure> {
    let bytes = std::fs::read(path).map_err(|error| Failure::evidence(&named(path, &error)))?;
    SignersRegistry::parse(&bytes).map_err(|error| Failure::evidence(&named(path, &error)))
}

pub(crate) fn named(path: &Path, error: &dyn std::fmt::Display) -> String {
    format!("{}: {error}", path.display())
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a failed step is a failed test")]

    use super::*;

    #[test]
    fn a_files_digest_is_its_sha256_and_at_reads_a_file() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("abc");
        std::fs::write(&path, "abc").unwrap();
        let measured = measure(&path, HashAlgorithm::Sha256).unwrap();
        let hex = measured.digest.to_hex();
        assert_eq!(measured.bytes, 3);
        assert_eq!(hex, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
        let hex = measure(&path, HashAlgorithm::Sha384).unwrap().digest.to_hex();
        assert!(hex.starts_with("cb00753f45a35e8bb5a03d699ac65007272c32ab0eded163"), "{hex}");
        std::fs::write(&path, " {\"a\":1}\n").unwrap();
        let raw = json(&format!("@{}", path.display()), "--payload").unwrap();
        assert_eq!(raw.get(), "{\"a\":1}");
        assert!(json("{", "--payload").is_err());
        assert!(text("@/nonexistent").is_err());
    }
}
