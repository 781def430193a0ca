//! Reading what was first written, whatever was laid on top of it since.

use std::collections::BTreeMap;

use aws_sdk_s3::operation::get_object::GetObjectOutput;
use chancery_format::archive::LATEST_CHECKPOINT;

use crate::archive::Store;
use crate::attempt::{call, unavailable, with_retries, within};
use crate::error::{Operation, S3Error};
use crate::limits::{LIST_NAMES_MAX, LIST_PAGES_EXTRA, OBJECT_BYTES_MAX, PAGE_ENTRIES};
use crate::versions::{Marker, Page};

impl Store {
    /// The original bytes of `name`; `None` if it was never written.
    pub(crate) async fn get(&self, name: &str) -> Result<Option<Vec<u8>>, S3Error> {
        if name == LATEST_CHECKPOINT {
            return self.latest().await;
        }
        with_retries(&self.patience, || self.get_once(name)).await
    }

    async fn get_once(&self, name: &str) -> Result<Option<Vec<u8>>, S3Error> {
        match self.versions_of(name).await?.original() {
            None => Ok(None),
            Some(original) => self.read_version(name, &original.id).await.map(Some),
        }
    }

    /// The bytes of one version.
    pub(crate) async fn read_version(&self, name: &str, version_id: &str) -> Result<Vec<u8>, S3Error> {
        let key = self.key(name)?;
        within(Operation::GetObject, name, &self.patience, async {
            let request =
                self.client.get_object().bucket(&self.bucket).key(key).version_id(version_id).send();
            let reply = call(Operation::GetObject, name, &self.patience, request).await?;
            read_body(name, reply).await
        })
        .await
    }

    /// Up to `max` names that begin with `prefix` and sort after `after`, ascending. Fewer than `max` only if
    /// there are no more.
    pub(crate) async fn list_after(
        &self,
        prefix: &str,
        after: Option<&str>,
        max: usize,
    ) -> Result<Vec<String>, S3Error> {
        let max = max.min(LIST_NAMES_MAX);
        let mut marker =
            after.map(|name| self.key(name)).transpose()?.map(|key| Marker { key, version: None });
        let begin = marker.clone();
        let key_prefix = format!("{}{prefix}", self.prefix);
        let mut seen: BTreeMap<String, Seen> = BTreeMap::new();
        let replaced = self.key(LATEST_CHECKPOINT)?;
        let mut passed = begin.as_ref().is_some_and(|begin| begin.key >= replaced);
        let page_entries = i32::try_from(max + 1).unwrap_or(PAGE_ENTRIES).min(PAGE_ENTRIES);
        for _ in 0..max.div_ceil(PAGE_ENTRIES as usize) + LIST_PAGES_EXTRA {
            let page = with_retries(&self.patience, || {
                self.version_page(&key_prefix, marker.as_ref(), page_entries)
            })
            .await?;
            let next = page.next.clone();
            note(&mut seen, page, begin.as_ref());
            let names = seen.values().filter(|seen| seen.has_original()).count();
            // The one name that is replaced may have millions of versions: its first page tells all there is to tell.
            let next = next.map(|next| match next.key == replaced && !passed {
                true => Marker { version: None, ..next },
                false => next,
            });
            passed |= next.as_ref().is_some_and(|next| next.key >= replaced);
            // One more than asked for, so that all versions of the last one have been seen.
            match next {
                Some(next) if names <= max => marker = Some(next),
                _ => return Ok(self.names(seen, max)),
            }
        }
        Err(S3Error::TooManyVersions { name: prefix.to_owned() })
    }

    /// The first `max` names that can be read, with an alarm for each trace of tampering up to there.
    fn names(&self, seen: BTreeMap<String, Seen>, max: usize) -> Vec<String> {
        let mut names = Vec::new();
        for (key, seen) in seen {
            if names.len() == max {
                break;
            }
            let Some(name) = key.strip_prefix(&self.prefix) else { continue };
            let versions = if name == LATEST_CHECKPOINT { 1 } else { seen.whole + seen.multipart };
            self.raise(name, versions, seen.multipart > 0, seen.deleted);
            if seen.has_original() {
                names.push(name.to_owned());
            }
        }
        names
    }
}

/// What a listing shows of one key.
#[derive(Debug, Default)]
struct Seen {
    /// Versions put whole.
    whole: usize,
    multipart: usize,
    deleted: bool,
}

impl Seen {
    const fn has_original(&self) -> bool {
        self.whole > 0
    }
}

fn note(seen: &mut BTreeMap<String, Seen>, page: Page, begin: Option<&Marker>) {
    // Stores differ on whether a listing begins at its marker or after it.
    let is_after = |key: &String| begin.is_none_or(|begin| *key > begin.key);
    for (key, version) in page.versions.into_iter().filter(|(key, _)| is_after(key)) {
        let seen = seen.entry(key).or_default();
        if version.multipart { seen.multipart += 1 } else { seen.whole += 1 }
    }
    for key in page.markers.into_iter().filter(is_after) {
        seen.entry(key).or_default().deleted = true;
    }
}

/// The body, bounded, and as long as announced.
async fn read_body(name: &str, reply: GetObjectOutput) -> Result<Vec<u8>, S3Error> {
    let announced = reply.content_length().and_then(|length| usize::try_from(length).ok());
    let Some(announced) = announced else {
        return Err(unavailable(Operation::GetObject, name, "a reply without length"));
    };
    if announced > OBJECT_BYTES_MAX {
        return Err(S3Error::TooLarge { name: name.to_owned() });
    }
    let mut body = reply.body;
    let mut bytes = Vec::with_capacity(announced);
    while let Some(chunk) = body.next().await {
        let chunk = chunk.map_err(|error| unavailable(Operation::GetObject, name, error.to_string()))?;
        bytes.extend_from_slice(&chunk);
        if bytes.len() > announced {
            break;
        }
    }
    if bytes.len() != announced {
        return Err(unavailable(Operation::GetObject, name, "the body is not as long as announced"));
    }
    Ok(bytes)
}
