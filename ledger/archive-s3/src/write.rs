//! Create-only writing that proves itself by reading back.

use aws_sdk_s3::primitives::{ByteStream, DateTime};
use aws_sdk_s3::types::ObjectLockMode;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use chancery_format::Hash;
use chancery_format::archive::LATEST_CHECKPOINT;
use chancery_ledger::Put;
use md5::{Digest as _, Md5};

use crate::archive::Store;
use crate::attempt::{call, unavailable, with_retries};
use crate::error::{Operation, S3Error};
use crate::limits::{OBJECT_BYTES_MAX, VERSIONS_COMPARED_MAX};
use crate::lock::{least_until, retain_until};
use crate::versions::Versions;

/// What a plain reader is told of an object: its media type, and how long it may be kept. What is written once never
/// changes; the newest checkpoint moves on.
pub(crate) fn headers_of(name: &str) -> (&'static str, &'static str) {
    const FOR_EVER: &str = "max-age=31536000, immutable";
    const TEXT: &str = "text/plain; charset=utf-8";
    if name == LATEST_CHECKPOINT {
        (TEXT, "max-age=2")
    } else if name.starts_with("tile/") {
        ("application/octet-stream", FOR_EVER)
    } else if name.ends_with(".json") {
        ("application/json", FOR_EVER)
    } else {
        (TEXT, FOR_EVER)
    }
}

/// What became of a PutObject.
enum Sent {
    /// A new version, with its id and the second until which it was to be locked.
    Done(String, i64),
    /// The store saw a current version and honoured create-only.
    Existed,
}

impl Store {
    /// Writes `bytes` under `name`, or finds them there. On `Ok` every version of the name holds exactly
    /// these bytes and the original is locked. An error may leave a locked version behind; calling again is
    /// safe and finds it.
    pub(crate) async fn put_new(&self, name: &str, bytes: &[u8]) -> Result<Put, S3Error> {
        if bytes.len() > OBJECT_BYTES_MAX {
            return Err(S3Error::TooLarge { name: name.to_owned() });
        }
        with_retries(&self.patience, || self.put_new_once(name, bytes)).await
    }

    async fn put_new_once(&self, name: &str, bytes: &[u8]) -> Result<Put, S3Error> {
        let found = self.versions_of(name).await?;
        if !found.0.is_empty() {
            return self.settle(name, bytes, &found).await;
        }
        match self.put(name, bytes).await? {
            // The point of no return: from here a version may exist for years.
            Sent::Done(version, until) => self.prove(name, bytes, &version, until).await,
            Sent::Existed => {
                let found = self.versions_of(name).await?;
                self.settle(name, bytes, &found).await
            }
        }
    }

    /// Decides about versions written before this call.
    async fn settle(&self, name: &str, bytes: &[u8], found: &Versions) -> Result<Put, S3Error> {
        self.require_same(name, bytes, found).await?;
        let Some(original) = found.original() else {
            return Err(unavailable(Operation::ListObjectVersions, name, "it exists, but is not listed"));
        };
        let lock = self.lock_of(name, &original.id).await?;
        lock.require(name, &original.id, least_until(original, self.retention_days))?;
        Ok(Put::AlreadyThere)
    }

    /// Reads back what this call wrote, its lock, and whether another writer came in between. Both of two
    /// racing writers list after they wrote, so the later of the two listings shows both versions.
    async fn prove(&self, name: &str, bytes: &[u8], version: &str, until: i64) -> Result<Put, S3Error> {
        if self.read_version(name, version).await? != bytes {
            return Err(S3Error::Damaged { name: name.to_owned(), version: version.to_owned() });
        }
        let lock = self.lock_of(name, version).await?;
        lock.require(name, version, until)?;
        let found = self.versions_of(name).await?;
        let Some(own) = found.0.iter().find(|other| other.id == version) else {
            return Err(unavailable(Operation::ListObjectVersions, name, "what was written is not listed"));
        };
        lock.require(name, version, least_until(own, self.retention_days))?;
        if found.0.len() > 1 {
            self.require_same(name, bytes, &found).await?;
        }
        Ok(Put::Stored)
    }

    /// Every version holds exactly `bytes` and was put whole.
    pub(crate) async fn require_same(
        &self,
        name: &str,
        bytes: &[u8],
        found: &Versions,
    ) -> Result<(), S3Error> {
        if found.0.len() > VERSIONS_COMPARED_MAX {
            return Err(S3Error::TooManyVersions { name: name.to_owned() });
        }
        for version in &found.0 {
            let same_shape = !version.multipart && version.size == bytes.len() as u64;
            if !same_shape || self.read_version(name, &version.id).await? != bytes {
                return Err(S3Error::Conflict { name: name.to_owned(), version: version.id.clone() });
            }
        }
        Ok(())
    }

    /// One PutObject under lock. Sends both checksums and create-only; relies on neither.
    async fn put(&self, name: &str, bytes: &[u8]) -> Result<Sent, S3Error> {
        let until = retain_until(self.clock.now(), self.retention_days);
        let (media_type, caching) = headers_of(name);
        let request = self
            .client
            .put_object()
            .bucket(&self.bucket)
            .key(self.key(name)?)
            .body(ByteStream::from(bytes.to_vec()))
            .content_type(media_type)
            .cache_control(caching)
            .if_none_match("*")
            .object_lock_mode(ObjectLockMode::Compliance)
            .object_lock_retain_until_date(DateTime::from_secs(until))
            .checksum_sha256(STANDARD.encode(Hash::of(&[bytes]).0))
            .content_md5(STANDARD.encode(Md5::digest(bytes)))
            .send();
        match call(Operation::PutObject, name, &self.patience, request).await {
            Ok(reply) => match reply.version_id() {
                Some(version) if version != "null" => Ok(Sent::Done(version.to_owned(), until)),
                _ => Err(S3Error::Unversioned { name: name.to_owned() }),
            },
            Err(S3Error::Refused { code, .. }) if code == "PreconditionFailed" => Ok(Sent::Existed),
            Err(error) => Err(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_readers_are_told_what_may_be_kept() {
        let text = "text/plain; charset=utf-8";
        assert_eq!(headers_of("checkpoint"), (text, "max-age=2"));
        assert_eq!(headers_of("checkpoint/000000000000"), (text, "max-age=31536000, immutable"));
        for tile in ["tile/0/000", "tile/0/000.p/7", "tile/entries/000"] {
            assert_eq!(headers_of(tile), ("application/octet-stream", "max-age=31536000, immutable"));
        }
        assert_eq!(headers_of("registry/00000001.json").0, "application/json");
        assert_eq!(headers_of("registry/00000001.json.sig").0, text);
    }
}
