//! [`S3Archive`]: the handle the daemon holds, and the state its calls share.

use std::sync::Arc;

use aws_sdk_s3::Client;
use chancery_ledger::{Archive, ArchiveError, Clock, Protection, Put};

use crate::alarm::{Alarm, AlarmKind, Alarms};
use crate::attempt::unavailable;
use crate::client::connect;
use crate::error::{Operation, S3Error};
use crate::limits::KEY_BYTES_MAX;
use crate::options::{OptionsFault, Patience, S3Options};
use crate::runtime::OwnRuntime;

/// An archive in a bucket with Object Lock.
///
/// Calls block; make them from a thread that may wait. Any number of threads may call at once, and any number
/// of processes may share a bucket: of two that put different bytes under one name, at most one succeeds.
/// Each call ends within `attempts` times a few `request_timeout`s.
#[derive(Debug)]
pub struct S3Archive {
    runtime: OwnRuntime,
    store: Arc<Store>,
}

/// The bucket with everything a call needs.
pub(crate) struct Store {
    pub(crate) client: Client,
    pub(crate) bucket: String,
    /// Empty, or ends with `/`.
    pub(crate) prefix: String,
    pub(crate) retention_days: u32,
    pub(crate) patience: Patience,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) alarms: Alarms,
}

impl S3Archive {
    /// Makes the client. Nothing is asked of the bucket yet: call [`Self::check_at_start`].
    pub fn open(options: &S3Options, clock: Arc<dyn Clock>) -> Result<Self, S3Error> {
        options.check().map_err(S3Error::Options)?;
        let runtime = OwnRuntime::start()
            .map_err(|error| S3Error::Options(OptionsFault::Runtime(error.to_string())))?;
        let to_connect = options.clone();
        let client = runtime
            .wait(async move { connect(&to_connect).await })
            .ok_or_else(|| S3Error::Options(OptionsFault::Runtime("the client could not be made".into())))?;
        let store = Store {
            client,
            bucket: options.bucket.clone(),
            prefix: options.key_prefix(),
            retention_days: options.retention_days,
            patience: options.patience,
            clock,
            alarms: Alarms::default(),
        };
        Ok(Self { runtime, store: Arc::new(store) })
    }

    /// Refuses a bucket that cannot keep the archive's promise, naming every reason.
    pub fn check_at_start(&self) -> Result<(), S3Error> {
        let store = Arc::clone(&self.store);
        self.finish(Operation::GetBucketVersioning, async move { store.check_at_start().await })
    }

    /// Writes `bytes` under a new `name` and proves it by reading back; see the crate's promise.
    pub fn put_new(&self, name: &str, bytes: &[u8]) -> Result<Put, S3Error> {
        let (store, name, bytes) = (Arc::clone(&self.store), name.to_owned(), bytes.to_vec());
        self.finish(Operation::PutObject, async move { store.put_new(&name, &bytes).await })
    }

    /// The original bytes of `name`; `None` if it was never written.
    pub fn get(&self, name: &str) -> Result<Option<Vec<u8>>, S3Error> {
        let (store, name) = (Arc::clone(&self.store), name.to_owned());
        self.finish(Operation::GetObject, async move { store.get(&name).await })
    }

    /// Replaces the newest checkpoint, if it still is `before`; see `latest.rs`.
    pub fn put_latest(&self, before: Option<&[u8]>, bytes: &[u8]) -> Result<(), S3Error> {
        let (store, before, bytes) = (Arc::clone(&self.store), before.map(<[u8]>::to_vec), bytes.to_vec());
        self.finish(Operation::PutObject, async move { store.put_latest(before.as_deref(), &bytes).await })
    }

    /// Up to `max` (at most [`crate::limits::LIST_NAMES_MAX`]) names that begin with `prefix` and sort after
    /// `after`, ascending. Names under a delete marker are listed; names never put whole are not.
    pub fn list_after(&self, prefix: &str, after: Option<&str>, max: usize) -> Result<Vec<String>, S3Error> {
        let (store, prefix, after) = (Arc::clone(&self.store), prefix.to_owned(), after.map(str::to_owned));
        self.finish(Operation::ListObjectVersions, async move {
            store.list_after(&prefix, after.as_deref(), max).await
        })
    }

    /// How well `name`, which holds `bytes`, is kept: its lock, and whatever lies over it. Writes nothing.
    pub fn protection(&self, name: &str, bytes: &[u8]) -> Result<Protection, S3Error> {
        let (store, name, bytes) = (Arc::clone(&self.store), name.to_owned(), bytes.to_vec());
        self.finish(Operation::GetObjectRetention, async move { store.protection(&name, &bytes).await })
    }

    /// How often `kind` was seen since the archive was opened.
    pub fn alarm_count(&self, kind: AlarmKind) -> u64 {
        self.store.alarms.count(kind)
    }

    /// The last few different sightings, oldest first.
    pub fn recent_alarms(&self) -> Vec<Alarm> {
        self.store.alarms.recent()
    }

    fn finish<T: Send + 'static>(
        &self,
        operation: Operation,
        work: impl Future<Output = Result<T, S3Error>> + Send + 'static,
    ) -> Result<T, S3Error> {
        let ended = || unavailable(operation, &self.store.bucket, "the archive's thread gave no answer");
        self.runtime.wait(work).unwrap_or_else(|| Err(ended()))
    }
}

impl Archive for S3Archive {
    fn check_at_start(&self) -> Result<(), ArchiveError> {
        Ok(Self::check_at_start(self)?)
    }

    fn put_new(&self, name: &str, bytes: &[u8]) -> Result<Put, ArchiveError> {
        Ok(Self::put_new(self, name, bytes)?)
    }

    fn get(&self, name: &str) -> Result<Vec<u8>, ArchiveError> {
        Self::get(self, name)?.ok_or_else(|| ArchiveError::NotFound(name.to_owned()))
    }

    fn list_after(&self, prefix: &str, after: Option<&str>, max: usize) -> Result<Vec<String>, ArchiveError> {
        Ok(Self::list_after(self, prefix, after, max)?)
    }

    fn put_latest(&self, before: Option<&[u8]>, bytes: &[u8]) -> Result<(), ArchiveError> {
        Ok(Self::put_latest(self, before, bytes)?)
    }

    fn protection(&self, name: &str, bytes: &[u8]) -> Result<Protection, ArchiveError> {
        Ok(Self::protection(self, name, bytes)?)
    }
}

impl Store {
    /// The whole key of an object.
    pub(crate) fn key(&self, name: &str) -> Result<String, S3Error> {
        let key = format!("{}{name}", self.prefix);
        if name.is_empty() || key.len() > KEY_BYTES_MAX {
            return Err(S3Error::TooLarge { name: name.to_owned() });
        }
        Ok(key)
    }
}

impl std::fmt::Debug for Store {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Store")
            .field("bucket", &self.bucket)
            .field("prefix", &self.prefix)
            .field("retention_days", &self.retention_days)
            .finish_non_exhaustive()
    }
}
