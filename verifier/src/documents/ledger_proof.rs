//! Finance's ledger proofs: one signature over the hash of exported rows.
//!
//! The rows are lines of `jq -cS`, each ended by a newline, and stand in a file beside the proof,
//! `<proof without its ending>.ledger_rows.jsonl.gz`. Over their SHA-256 the key's owner signs: as a digest through the
//! proxy, or, where KMS was asked for a message, hashed again. Nothing else in the proof is signed.

use std::io::{BufRead as _, BufReader, Read as _};
use std::path::{Path, PathBuf};

use chancery_format::{Hash, PublicKey};
use sha2::{Digest as _, Sha256};

use super::read::{self, ReadError, hash, number_of, others, text_of};
use super::signatures::{Claim, Keys, SIGNATURE, SIGNER, Signed};
use super::{Document, Refused};
use crate::findings::Kind;
use chancery_format::chain::canonical::Mode;
use chancery_format::chain::json::Value;

const HASH: &[&str] = &["hash"];
const MESSAGE: &[&str] = &["canonical_message"];
const ROWS: &[&str] = &["num_rows"];
/// Longest row, in bytes; a ledger row is small.
const ROW_BYTES_MAX: u64 = 16 << 20;
/// Endings of the rows' file, which stands beside the proof.
const BESIDE: [&str; 2] = ["ledger_rows.jsonl.gz", "ledger_rows.jsonl"];

/// The rows of one file, hashed as they stand and in the form their writer gives them.
struct Rows {
    count: u64,
    as_they_stand: Hash,
    /// `None` if a row is not JSON.
    canonical: Option<Hash>,
}

pub(super) fn check(
    root: &Value<'_>,
    rows: Option<&Path>,
    keys: &Keys<'_>,
    document: &mut Document<'_>,
) -> Result<(), Refused> {
    let message = text_of(root, MESSAGE).map(|text| Hash::of(&[text.as_bytes()]));
    let stored = text_of(root, HASH).and_then(hash);
    let signed =
        stored.or(message).ok_or_else(|| Refused::shape("is no proof: it has no SHA-256 of its rows"))?;
    if message.is_some_and(|message| message != signed) {
        document.found(Kind::HashMismatch, format!("its canonical_message has another hash than {signed}"));
    }
    document.tell("kind", "ledger-proof");
    document.says.push("ledger proof".to_owned());
    match rows.map(Path::to_owned).or_else(|| beside(document.path)) {
        Some(file) => compare(root, &read_rows(&file)?, signed, document),
        None if message.is_none() => document.found(
            Kind::RowsNotGiven,
            "the hash is signed, but its rows are not here: nothing is said of them; name them by --rows",
        ),
        None => {}
    }
    let claim = Claim::read(root, &["ts"]);
    let held = keys.check(&claim, document, |key, signature| find(signed, key, signature));
    let Some((signer, again)) = held else { return Ok(()) };
    let how = if again { "its hash, hashed again" } else { "its hash" };
    document.says.push(format!("{how} signed by {}", signer.name));
    document.tell("signer", signer.name.as_str());
    document.tell("signed", if again { "digest-as-message" } else { "digest" });
    document.unbound(&others(root, &[HASH, MESSAGE, ROWS, SIGNER, SIGNATURE]));
    Ok(())
}

/// Whether the hash was hashed again.
fn find(hash: Hash, key: &PublicKey, signature: &[u8]) -> Option<bool> {
    let ways = [(Signed::Digest(hash), false), (Signed::DigestAsMessage(hash), true)];
    ways.into_iter().find(|(signed, _)| signed.holds(key, signature)).map(|(_, again)| again)
}

fn beside(proof: &Path) -> Option<PathBuf> {
    BESIDE.iter().map(|ending| proof.with_extension(ending)).find(|path| path.is_file())
}

fn compare(root: &Value<'_>, rows: &Rows, signed: Hash, document: &mut Document<'_>) {
    document.tell("rows", rows.count);
    if rows.as_they_stand == signed {
        document.says.push(format!("{} rows", rows.count));
    } else if rows.canonical == Some(signed) {
        document.says.push(format!("{} rows, written otherwise than they were hashed", rows.count));
    } else {
        let found = rows.canonical.unwrap_or(rows.as_they_stand);
        document.found(Kind::HashMismatch, format!("its rows have the hash {found}, not {signed}"));
    }
    if let Some(said) = number_of(root, ROWS).filter(|said| *said != rows.count) {
        document
            .found(Kind::MemberMismatch, format!("it speaks of {said} rows, and there are {}", rows.count));
    }
}

/// Line by line: memory does not grow with the rows.
fn read_rows(path: &Path) -> Result<Rows, ReadError> {
    let mut input = BufReader::with_capacity(1 << 20, read::open(path)?);
    let (mut as_they_stand, mut canonical) = (Sha256::new(), Some(Sha256::new()));
    let mut count = 0;
    loop {
        let mut line = Vec::new();
        let read = input.by_ref().take(ROW_BYTES_MAX).read_until(b'\n', &mut line);
        let read = read.map_err(|error| ReadError::io(path, error))?;
        if read == 0 {
            break;
        }
        if read as u64 >= ROW_BYTES_MAX {
            return Err(ReadError::TooLarge { file: path.to_owned(), max: ROW_BYTES_MAX });
        }
        as_they_stand.update(&line);
        if line.trim_ascii().is_empty() {
            continue;
        }
        count += 1;
        canonical = canonical.and_then(|mut hasher| {
            hasher.update(row(&line)?);
            Some(hasher)
        });
    }
    let finish = |hasher: Sha256| Hash(hasher.finalize().into());
    Ok(Rows { count, as_they_stand: finish(as_they_stand), canonical: canonical.map(finish) })
}

fn row(line: &[u8]) -> Option<Vec<u8>> {
    let value = Value::parse(std::str::from_utf8(line).ok()?.trim()).ok()?;
    let mut text = Mode::Jq16.write(&value)?;
    text.push(b'\n');
    Some(text)
}
