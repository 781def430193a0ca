//! Files, plain or packed, and the members of what is in them.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use chancery_format::{Hash, Timestamp};
use flate2::read::MultiGzDecoder;

use crate::findings::{Finding, Kind};
use chancery_format::chain::dialect;
use chancery_format::chain::json::Value;

/// Largest document read, in bytes, unpacked: a package of a million ledger lines fits. It is read whole.
const DOCUMENT_BYTES_MAX: u64 = 1 << 30;

/// A file could not be read. Nothing can be said about what is in it.
#[derive(Debug, thiserror::Error)]
pub(super) enum ReadError {
    /// It is not there.
    #[error("{0} is not there")]
    Missing(PathBuf),
    /// The file system, or the compression.
    #[error("{file}: {source}", file = .file.display())]
    Io {
        /// The file.
        file: PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
    /// Longer than anything that is read.
    #[error("{file} is larger than {max} bytes", file = .file.display())]
    TooLarge {
        /// The file.
        file: PathBuf,
        /// The bound.
        max: u64,
    },
}

impl ReadError {
    pub(super) fn io(file: &Path, source: std::io::Error) -> Self {
        match source.kind() {
            std::io::ErrorKind::NotFound => Self::Missing(file.to_owned()),
            _ => Self::Io { file: file.to_owned(), source },
        }
    }

    pub(super) fn finding(&self, document: &Path) -> Finding {
        let kind = match self {
            Self::Missing(_) => Kind::MissingFile,
            Self::Io { .. } => Kind::UnreadableFile,
            Self::TooLarge { .. } => Kind::OversizedFile,
        };
        Finding::file(kind, document.display().to_string(), self.to_string())
    }
}

/// Opens a file; what ends in `.gz` is unpacked.
pub(super) fn open(path: &Path) -> Result<Box<dyn Read>, ReadError> {
    let file = File::open(path).map_err(|error| ReadError::io(path, error))?;
    let packed = path.extension().is_some_and(|extension| extension == "gz");
    Ok(if packed { Box::new(MultiGzDecoder::new(file)) } else { Box::new(file) })
}

/// The whole of a document.
pub(super) fn text(path: &Path) -> Result<String, ReadError> {
    let mut text = String::new();
    let read = open(path)?.take(DOCUMENT_BYTES_MAX).read_to_string(&mut text);
    let read = read.map_err(|error| ReadError::io(path, error))?;
    if read as u64 >= DOCUMENT_BYTES_MAX {
        return Err(ReadError::TooLarge { file: path.to_owned(), max: DOCUMENT_BYTES_MAX });
    }
    Ok(text)
}

/// A member under any of its names. `null` counts as absent.
pub(super) fn member<'v, 't>(value: &'v Value<'t>, names: &[&str]) -> Option<&'v Value<'t>> {
    names.iter().find_map(|name| value.get(name)).filter(|value| !matches!(value, Value::Null))
}

/// The same, if it is a text that is not empty.
pub(super) fn text_of<'v>(value: &'v Value<'_>, names: &[&str]) -> Option<&'v str> {
    member(value, names)?.as_str().filter(|text| !text.is_empty())
}

/// The same, if it is a whole number.
pub(super) fn number_of(value: &Value<'_>, names: &[&str]) -> Option<u64> {
    match member(value, names)? {
        Value::Number(text) => text.parse().ok(),
        _ => None,
    }
}

/// Elements of a member that is an array.
pub(super) fn list_of<'v, 't>(value: &'v Value<'t>, names: &[&str]) -> Option<&'v [Value<'t>]> {
    match member(value, names)? {
        Value::Array(items) => Some(items),
        _ => None,
    }
}

/// A SHA-256 in hexadecimal of either case, as tools print it.
pub(super) fn hash(text: &str) -> Option<Hash> {
    Hash::from_hex(&text.strip_prefix("0x").unwrap_or(text).to_ascii_lowercase()).ok()
}

/// A time in any spelling that databases and services write.
pub(super) fn moment(text: &str) -> Option<Timestamp> {
    let row = Value::Object(vec![(b"ts"[..].into(), Value::Text(text.as_bytes().into()))]);
    dialect::moment(&row).ok()
}

/// Names of an object's members that hold something and are none of `known`.
pub(super) fn others(value: &Value<'_>, known: &[&[&str]]) -> Vec<String> {
    let Value::Object(members) = value else { return Vec::new() };
    let is_known = |name: &str| known.iter().any(|names| names.contains(&name));
    let names = members.iter().filter(|(_, value)| *value != Value::Null);
    let names = names.map(|(name, _)| String::from_utf8_lossy(name).into_owned());
    names.filter(|name| !is_known(name)).collect()
}
