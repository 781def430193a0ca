//! What the bucket says about the versions of its keys. Plain listings hide whatever a delete marker
//! covers, so this archive only ever looks at versions.

use aws_sdk_s3::operation::list_object_versions::ListObjectVersionsOutput;
use aws_sdk_s3::types::{EncodingType, ObjectVersion};

use crate::alarm::AlarmKind;
use crate::archive::Store;
use crate::attempt::{call, unavailable};
use crate::error::{Operation, S3Error};
use crate::limits::{PAGE_ENTRIES, VERSION_PAGES_MAX};

/// One version of one key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Version {
    pub(crate) id: String,
    /// The store's name of its content.
    pub(crate) tag: String,
    pub(crate) size: u64,
    /// Seconds, by the server's clock.
    pub(crate) written_at: i64,
    /// Made by a multipart upload: the tag of such a version ends in a dash and the number of parts.
    pub(crate) multipart: bool,
}

/// One page of a version listing.
#[derive(Debug, Default)]
pub(crate) struct Page {
    /// Keys with a version each, keys ascending, versions newest first.
    pub(crate) versions: Vec<(String, Version)>,
    /// Keys with a delete marker.
    pub(crate) markers: Vec<String>,
    /// Where the next page begins.
    pub(crate) next: Option<Marker>,
}

/// A place in a listing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Marker {
    pub(crate) key: String,
    /// `None`: after all versions of the key.
    pub(crate) version: Option<String>,
}

/// All versions of one name, newest first.
#[derive(Debug, Default)]
pub(crate) struct Versions(pub(crate) Vec<Version>);

impl Versions {
    /// The first version written. The store lists by time of writing, and dates a multipart upload by its
    /// beginning: one begun early could be completed late and stand first, so none of them counts.
    pub(crate) fn original(&self) -> Option<&Version> {
        self.0.iter().rev().find(|version| !version.multipart)
    }
}

impl Store {
    /// Every version of exactly this name. Raises an alarm for each trace of tampering.
    pub(crate) async fn versions_of(&self, name: &str) -> Result<Versions, S3Error> {
        Ok(self.versions_and_marker_of(name).await?.0)
    }

    /// The same, and whether a delete marker is among them.
    pub(crate) async fn versions_and_marker_of(&self, name: &str) -> Result<(Versions, bool), S3Error> {
        let key = self.key(name)?;
        let mut versions = Versions::default();
        let (mut marker, mut deleted) = (None, false);
        for _ in 0..VERSION_PAGES_MAX {
            let page = self.version_page(&key, marker.as_ref(), PAGE_ENTRIES).await?;
            deleted |= page.markers.contains(&key);
            versions
                .0
                .extend(page.versions.into_iter().filter(|(of, _)| *of == key).map(|(_, version)| version));
            match page.next {
                // Longer keys with the same beginning come after.
                Some(next) if next.key == key => marker = Some(next),
                _ => {
                    let multipart = versions.0.iter().any(|version| version.multipart);
                    self.raise(name, versions.0.len(), multipart, deleted);
                    return Ok((versions, deleted));
                }
            }
        }
        Err(S3Error::TooManyVersions { name: name.to_owned() })
    }

    /// Raises what a name's listing shows.
    pub(crate) fn raise(&self, name: &str, versions: usize, multipart: bool, deleted: bool) {
        let seen = [
            (deleted, AlarmKind::DeleteMarker),
            (versions > 1, AlarmKind::ExtraVersions),
            (multipart, AlarmKind::MultipartVersion),
        ];
        for (_, kind) in seen.into_iter().filter(|(is_seen, _)| *is_seen) {
            self.alarms.raise(kind, name);
        }
    }

    /// One page of at most `entries` versions whose key begins with `key_prefix`.
    pub(crate) async fn version_page(
        &self,
        key_prefix: &str,
        after: Option<&Marker>,
        entries: i32,
    ) -> Result<Page, S3Error> {
        let request = self
            .client
            .list_object_versions()
            .bucket(&self.bucket)
            .prefix(key_prefix)
            .set_key_marker(after.map(|marker| marker.key.clone()))
            .set_version_id_marker(after.and_then(|marker| marker.version.clone()))
            .max_keys(entries)
            // Foreign keys may hold bytes that XML cannot.
            .encoding_type(EncodingType::Url)
            .send();
        let reply = call(Operation::ListObjectVersions, key_prefix, &self.patience, request).await?;
        let page = parse_page(&reply).ok_or_else(|| {
            unavailable(Operation::ListObjectVersions, key_prefix, "the listing is incomplete")
        })?;
        if page.next.is_some() && page.next.as_ref() == after {
            return Err(unavailable(
                Operation::ListObjectVersions,
                key_prefix,
                "the listing does not advance",
            ));
        }
        Ok(page)
    }
}

/// `None` if the reply lacks what every listing has.
fn parse_page(reply: &ListObjectVersionsOutput) -> Option<Page> {
    let encoded = reply.encoding_type() == Some(&EncodingType::Url);
    let key = |text: &str| if encoded { url_decode(text) } else { Some(text.to_owned()) };
    let mut page = Page::default();
    for version in reply.versions() {
        page.versions.push((key(version.key()?)?, parse_version(version)?));
    }
    for marker in reply.delete_markers() {
        page.markers.push(key(marker.key()?)?);
    }
    if reply.is_truncated() == Some(true) {
        let version = reply.next_version_id_marker().filter(|id| !id.is_empty()).map(str::to_owned);
        page.next = Some(Marker { key: key(reply.next_key_marker()?)?, version });
    }
    Some(page)
}

fn parse_version(version: &ObjectVersion) -> Option<Version> {
    let tag = version.e_tag()?;
    Some(Version {
        id: version.version_id()?.to_owned(),
        tag: tag.to_owned(),
        size: u64::try_from(version.size()?).ok()?,
        written_at: version.last_modified()?.secs(),
        multipart: tag.contains('-'),
    })
}

/// `%41+b` → `A b`. `None` if it is not such a text of UTF-8.
fn url_decode(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        bytes.push(match byte {
            b'%' => {
                let digit = |byte: u8| char::from(byte).to_digit(16);
                u8::try_from(digit(rest.next()?)? * 16 + digit(rest.next()?)?).ok()?
            }
            b'+' => b' ',
            plain => plain,
        });
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn version(id: &str, multipart: bool) -> Version {
        Version { id: id.to_owned(), tag: String::new(), size: 1, written_at: 0, multipart }
    }

    #[test]
    fn the_original_is_the_oldest_that_was_put_whole() {
        let id = |versions: Vec<Version>| Versions(versions).original().map(|version| version.id.clone());
        assert_eq!(id(vec![]), None);
        assert_eq!(id(vec![version("b", false), version("a", false)]).as_deref(), Some("a"));
        assert_eq!(
            id(vec![version("b", false), version("a", false), version("m", true)]).as_deref(),
            Some("a")
        );
        assert_eq!(id(vec![version("m", true)]), None);
    }

    #[test]
    fn keys_are_decoded_strictly() {
        assert_eq!(url_decode("tile/0/x001/234%20+%C3%A9").as_deref(), Some("tile/0/x001/234  é"));
        for bad in ["%", "%4", "%zz", "%ff"] {
            assert_eq!(url_decode(bad), None, "{bad}");
        }
    }
}
