//! A bucket as evidence: lists versions, reads the first one written of each object.
//!
//! A plain listing shows what somebody wants it to show: a delete marker hides an object, a later put
//! covers it. So every version is listed; more than one, or a marker, is told (but of the newest checkpoint, the one
//! name that is replaced: of that the newest version is read); and what is read is the oldest version that did not come by multipart upload (such a one is dated by its beginning and could
//! be completed long after what it claims to precede).
//!
//! Requests are signed by rusty-s3 and sent by ureq: no SDK, no runtime. Without credentials requests
//! go unsigned, for archives that are public.

mod client;
mod versions;
mod xml;

use std::collections::{HashMap, HashSet};
use std::sync::{Mutex, PoisonError};

use chancery_format::archive::LATEST_CHECKPOINT;

use self::client::Client;
pub use self::client::{S3Config, S3ConfigError};
use self::versions::{Marker, Version};
use super::{Evidence, EvidenceError, Listed, Oddity};

/// Most pages of one listing: ten million objects.
const PAGES_MAX: usize = 10_000;
/// Versions kept in mind of the newest checkpoint: one that was put whole is among them, unless somebody uploaded this
/// many over it.
const REPLACED_KEPT: usize = 1_000;

/// An archive under a prefix of a bucket.
pub struct S3 {
    client: Client,
    /// Ends in a slash, or is empty.
    prefix: String,
    /// The version to read, of names whose current version is not the first.
    pinned: Mutex<HashMap<String, String>>,
}

impl S3 {
    /// The archive at `s3://bucket/prefix`. Nothing is sent yet.
    pub fn new(config: S3Config) -> Result<Self, S3ConfigError> {
        let trimmed = config.prefix.trim_matches('/');
        let prefix = if trimmed.is_empty() { String::new() } else { format!("{trimmed}/") };
        Ok(Self { client: Client::new(config)?, prefix, pinned: Mutex::default() })
    }

    fn pin(&self, name: &str, version: &Version) {
        let mut pinned = self.pinned.lock().unwrap_or_else(PoisonError::into_inner);
        pinned.insert(name.to_owned(), version.id.clone());
    }

    /// Tells what one key has: `versions` newest first.
    fn show(&self, key: &str, versions: &[Version], is_marked: bool, each: &mut dyn FnMut(Listed)) {
        let name = key.strip_prefix(&self.prefix).unwrap_or(key);
        if versions.iter().any(Version::is_multipart) {
            each(Listed::Odd(name.to_owned(), Oddity::Multipart));
        }
        if name == LATEST_CHECKPOINT {
            let Some(newest) = versions.iter().find(|version| !version.is_multipart()) else { return };
            self.pin(name, newest);
            each(Listed::Object(name.to_owned(), newest.size));
            return;
        }
        let mut plain = versions.iter().rev().filter(|version| !version.is_multipart());
        let Some(first) = plain.next() else { return };
        if versions.len() > 1 || is_marked {
            self.pin(name, first);
        }
        let (mut repeated, mut overwritten) = (false, false);
        for other in plain {
            let same = other.size == first.size && other.etag == first.etag;
            (repeated, overwritten) = (repeated || same, overwritten || !same);
        }
        if overwritten {
            each(Listed::Odd(name.to_owned(), Oddity::Overwritten));
        } else if repeated {
            each(Listed::Odd(name.to_owned(), Oddity::Repeated));
        }
        each(Listed::Object(name.to_owned(), first.size));
    }
}

impl std::fmt::Debug for S3 {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("S3").field("prefix", &self.prefix).finish_non_exhaustive()
    }
}

impl Evidence for S3 {
    fn list(&self, prefix: &str, each: &mut dyn FnMut(Listed)) -> Result<(), EvidenceError> {
        let full = format!("{}{prefix}", self.prefix);
        let replaced = format!("{}{LATEST_CHECKPOINT}", self.prefix);
        let mut from: Option<Marker> = None;
        let mut current: Option<(String, Vec<Version>)> = None;
        let mut marked = HashSet::new();
        for _ in 0..PAGES_MAX {
            let page = self.client.list_versions(&full, from.as_ref())?;
            for key in page.markers {
                let name = key.strip_prefix(&self.prefix).unwrap_or(&key).to_owned();
                if marked.insert(key) {
                    each(Listed::Odd(name, Oddity::Deleted));
                }
            }
            for (key, version) in page.versions {
                match &mut current {
                    // The replaced one may have millions: its newest are enough.
                    Some((same, versions))
                        if *same == key && versions.len() >= REPLACED_KEPT && key == replaced => {}
                    Some((same, versions)) if *same == key => versions.push(version),
                    _ => {
                        if let Some((key, versions)) = current.replace((key, vec![version])) {
                            self.show(&key, &versions, marked.contains(&key), each);
                        }
                    }
                }
            }
            from = page.next;
            if from.is_none() {
                if let Some((key, versions)) = current {
                    self.show(&key, &versions, marked.contains(&key), each);
                }
                return Ok(());
            }
        }
        Err(EvidenceError::Unreadable(format!("more than {PAGES_MAX} pages of objects")))
    }

    fn open(&self, name: &str, bytes_max: usize) -> Result<Vec<u8>, EvidenceError> {
        let version = {
            let pinned = self.pinned.lock().unwrap_or_else(PoisonError::into_inner);
            pinned.get(name).cloned()
        };
        self.client.get(&format!("{}{name}", self.prefix), version.as_deref(), bytes_max)
    }

    fn is_remote(&self) -> bool {
        true
    }
}
