//! The one object that is replaced: the newest checkpoint, for those who follow the archive as a log.
//!
//! Promises: on `Ok` the newest version of the name holds exactly the given bytes, locked like every other object, so
//! each replacement leaves a version behind that stays until its date. It is replaced only over what the caller saw:
//! asked of the store (`If-Match`), and looked up before for those stores that do not honour it.
//!
//! Reads the newest version, by a listing of versions: a delete marker hides it from plain readers, not from here.

use aws_sdk_s3::primitives::{ByteStream, DateTime};
use aws_sdk_s3::types::ObjectLockMode;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use chancery_format::Hash;
use chancery_format::archive::LATEST_CHECKPOINT;
use chancery_format::note::NOTE_BYTES_MAX;
use md5::{Digest as _, Md5};

use crate::alarm::AlarmKind;
use crate::archive::Store;
use crate::attempt::{call, unavailable, with_retries};
use crate::error::{Operation, S3Error};
use crate::limits::LATEST_VERSIONS_READ;
use crate::lock::{least_until, retain_until};
use crate::versions::Version;
use crate::write::headers_of;

/// What the name has.
struct Newest {
    version: Option<Version>,
    deleted: bool,
}

/// Over what a version is put.
enum Over<'a> {
    Nothing,
    Tag(&'a str),
}

impl Store {
    /// The newest bytes; `None` if the archive was never a static log.
    pub(crate) async fn latest(&self) -> Result<Option<Vec<u8>>, S3Error> {
        with_retries(&self.patience, || self.latest_once()).await
    }

    async fn latest_once(&self) -> Result<Option<Vec<u8>>, S3Error> {
        match self.newest().await?.version {
            None => Ok(None),
            Some(version) => self.read_version(LATEST_CHECKPOINT, &version.id).await.map(Some),
        }
    }

    /// Replaces what holds `before` by `bytes`.
    pub(crate) async fn put_latest(&self, before: Option<&[u8]>, bytes: &[u8]) -> Result<(), S3Error> {
        if bytes.len() > NOTE_BYTES_MAX {
            return Err(S3Error::TooLarge { name: LATEST_CHECKPOINT.to_owned() });
        }
        with_retries(&self.patience, || self.put_latest_once(before, bytes)).await
    }

    async fn put_latest_once(&self, before: Option<&[u8]>, bytes: &[u8]) -> Result<(), S3Error> {
        let newest = self.newest().await?;
        let there = match &newest.version {
            None => None,
            Some(version) => Some(self.read_version(LATEST_CHECKPOINT, &version.id).await?),
        };
        if let (Some(version), true) = (&newest.version, there.as_deref() == Some(bytes)) {
            // An attempt before this one got through.
            let lock = self.lock_of(LATEST_CHECKPOINT, &version.id).await?;
            return lock.require(LATEST_CHECKPOINT, &version.id, least_until(version, self.retention_days));
        }
        if there.as_deref() != before {
            let version = newest.version.map(|version| version.id).unwrap_or_default();
            return Err(S3Error::Conflict { name: LATEST_CHECKPOINT.to_owned(), version });
        }
        let over = newest.version.as_ref().map_or(Over::Nothing, |version| Over::Tag(&version.tag));
        let (version, until) = match self.replace(&over, bytes).await {
            // A delete marker stands over it: to the store there is nothing.
            Err(S3Error::Refused { code, .. }) if newest.deleted && is_no_match(&code) => {
                self.replace(&Over::Nothing, bytes).await
            }
            other => other,
        }
        .map_err(|error| match error {
            S3Error::Refused { code, .. } if is_no_match(&code) => {
                unavailable(Operation::PutObject, LATEST_CHECKPOINT, "somebody else replaced it meanwhile")
            }
            other => other,
        })?;
        if self.read_version(LATEST_CHECKPOINT, &version).await? != bytes {
            return Err(S3Error::Damaged { name: LATEST_CHECKPOINT.to_owned(), version });
        }
        self.lock_of(LATEST_CHECKPOINT, &version).await?.require(LATEST_CHECKPOINT, &version, until)
    }

    /// The newest version that was put whole, looked for among the newest few.
    async fn newest(&self) -> Result<Newest, S3Error> {
        let key = self.key(LATEST_CHECKPOINT)?;
        // Of all keys that begin with this one it is the first.
        let page = self.version_page(&key, None, LATEST_VERSIONS_READ).await?;
        let deleted = page.markers.contains(&key);
        if deleted {
            self.alarms.raise(AlarmKind::DeleteMarker, LATEST_CHECKPOINT);
        }
        let mut versions = page.versions.into_iter().filter(|(of, _)| *of == key).map(|(_, version)| version);
        let version = versions.find(|version| !version.multipart);
        let has_more = page.next.is_some_and(|next| next.key == key);
        if version.is_none() && has_more {
            return Err(S3Error::TooManyVersions { name: LATEST_CHECKPOINT.to_owned() });
        }
        Ok(Newest { version, deleted })
    }

    /// One PutObject under lock; the new version, and until when it is to be locked.
    async fn replace(&self, over: &Over<'_>, bytes: &[u8]) -> Result<(String, i64), S3Error> {
        let until = retain_until(self.clock.now(), self.retention_days);
        let (media_type, caching) = headers_of(LATEST_CHECKPOINT);
        let request = self
            .client
            .put_object()
            .bucket(&self.bucket)
            .key(self.key(LATEST_CHECKPOINT)?)
            .body(ByteStream::from(bytes.to_vec()))
            .content_type(media_type)
            .cache_control(caching)
            .object_lock_mode(ObjectLockMode::Compliance)
            .object_lock_retain_until_date(DateTime::from_secs(until))
            .checksum_sha256(STANDARD.encode(Hash::of(&[bytes]).0))
            .content_md5(STANDARD.encode(Md5::digest(bytes)));
        let request = match over {
            Over::Nothing => request.if_none_match("*"),
            Over::Tag(tag) => request.if_match(*tag),
        };
        let reply = call(Operation::PutObject, LATEST_CHECKPOINT, &self.patience, request.send()).await?;
        match reply.version_id() {
            Some(version) if version != "null" => Ok((version.to_owned(), until)),
            _ => Err(S3Error::Unversioned { name: LATEST_CHECKPOINT.to_owned() }),
        }
    }
}

/// Codes with which stores say that it is not what was to be replaced.
fn is_no_match(code: &str) -> bool {
    matches!(code, "PreconditionFailed" | "NoSuchKey")
}
