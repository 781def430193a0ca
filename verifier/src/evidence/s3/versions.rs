//! One page of a version listing.

use super::xml::{Scanner, Token};

/// One version of one key.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Version {
    pub(super) id: String,
    pub(super) etag: String,
    pub(super) size: u64,
}

impl Version {
    /// The tag of a multipart upload ends in a dash and the number of parts.
    pub(super) fn is_multipart(&self) -> bool {
        self.etag.contains('-')
    }
}

/// Where the next page begins.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Marker {
    pub(super) key: String,
    pub(super) version: Option<String>,
}

/// What a page shows, in the server's order: keys ascending, versions newest first.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Page {
    pub(super) versions: Vec<(String, Version)>,
    pub(super) markers: Vec<String>,
    pub(super) next: Option<Marker>,
}

/// The parts of a page as they come.
#[derive(Default)]
struct Parts {
    page: Page,
    key: String,
    version: Version,
    truncated: bool,
    next_key: Option<String>,
    next_version: Option<String>,
}

impl Parts {
    /// Text of the element at `path`.
    fn text(&mut self, path: &[&str], text: String) -> Option<()> {
        match path {
            ["ListVersionsResult", "Version" | "DeleteMarker", "Key"] => self.key = text,
            ["ListVersionsResult", "Version", "VersionId"] => self.version.id = text,
            ["ListVersionsResult", "Version", "ETag"] => self.version.etag = text,
            ["ListVersionsResult", "Version", "Size"] => self.version.size = text.parse().ok()?,
            ["ListVersionsResult", "IsTruncated"] => self.truncated = text == "true",
            ["ListVersionsResult", "NextKeyMarker"] => self.next_key = Some(text),
            ["ListVersionsResult", "NextVersionIdMarker"] => self.next_version = Some(text),
            _ => {}
        }
        Some(())
    }

    /// The element at `path` ends.
    fn close(&mut self, path: &[&str]) {
        match path {
            ["ListVersionsResult", "Version"] => {
                let key = std::mem::take(&mut self.key);
                self.page.versions.push((key, std::mem::take(&mut self.version)));
            }
            ["ListVersionsResult", "DeleteMarker"] => self.page.markers.push(std::mem::take(&mut self.key)),
            _ => {}
        }
    }
}

/// Reads a `ListVersionsResult`; `None` if it is not one, or claims more without saying where.
pub(super) fn parse_page(xml: &str) -> Option<Page> {
    let mut parts = Parts::default();
    let mut path: Vec<&str> = Vec::new();
    let mut is_list = false;
    let mut scanner = Scanner::new(xml);
    loop {
        match scanner.next()? {
            Token::Open(name) => {
                path.push(name);
                is_list = is_list || path == ["ListVersionsResult"];
            }
            Token::Text(text) => parts.text(&path, text)?,
            Token::Close => {
                parts.close(&path);
                path.pop()?;
            }
            Token::End => break,
        }
    }
    if !path.is_empty() || !is_list {
        return None;
    }
    if parts.truncated {
        let version = parts.next_version.filter(|version| !version.is_empty());
        parts.page.next = Some(Marker { key: parts.next_key?, version });
    }
    Some(parts.page)
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a failed unwrap is the test's failure")]
    use super::*;

    const PAGE: &str = r#"<?xml version="1.0" encoding="UTF-8"?>
<ListVersionsResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/"><Name>b</Name><Prefix>a/</Prefix>
<KeyMarker/><VersionIdMarker></VersionIdMarker><MaxKeys>1000</MaxKeys><IsTruncated>true</IsTruncated>
<NextKeyMarker>a/y&amp;z</NextKeyMarker><NextVersionIdMarker>v9</NextVersionIdMarker>
<DeleteMarker><Key>a/x</Key><VersionId>v3</VersionId><IsLatest>true</IsLatest></DeleteMarker>
<Version><Key>a/x</Key><VersionId>v1</VersionId><IsLatest>false</IsLatest><ETag>&quot;aa&quot;</ETag><Size>12</Size>
<Owner><ID>Key</ID></Owner></Version>
<Version><Key>a/y&#38;z</Key><VersionId>null</VersionId><ETag>"bb-2"</ETag><Size>0</Size></Version>
</ListVersionsResult>"#;

    #[test]
    fn a_page_is_read() {
        let page = parse_page(PAGE).unwrap();
        assert_eq!(page.markers, ["a/x"]);
        let keys: Vec<_> =
            page.versions.iter().map(|(key, v)| (key.as_str(), v.id.as_str(), v.size)).collect();
        assert_eq!(keys, [("a/x", "v1", 12), ("a/y&z", "null", 0)]);
        assert_eq!(page.versions.iter().map(|(_, v)| v.is_multipart()).collect::<Vec<_>>(), [false, true]);
        assert_eq!(page.next, Some(Marker { key: "a/y&z".into(), version: Some("v9".into()) }));
    }

    #[test]
    fn what_is_not_a_whole_page_is_refused() {
        assert!(parse_page("").is_none());
        assert!(parse_page("<Error><Code>AccessDenied</Code></Error>").is_none());
        assert!(parse_page(&PAGE.replace("<NextKeyMarker>a/y&amp;z</NextKeyMarker>", "")).is_none());
        assert!(parse_page(&PAGE.replace("<Size>12</Size>", "<Size>many</Size>")).is_none());
        for end in 0..PAGE.len() {
            assert!(parse_page(PAGE.get(..end).unwrap()).is_none(), "cut at {end}");
        }
    }
}
