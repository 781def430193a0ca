//! Rows, wherever they were exported to.
//!
//! | input | rows |
//! |---|---|
//! | NDJSON | one for each line; read line by line, so memory does not grow with the file |
//! | a JSON array | its elements |
//! | a JSON object with `events`, `rows`, `audit_events`, `records` or `entries` | the elements of that array |
//! | another JSON object | itself |
//! | a folder (the Go file store) | its `audit_*.json`; `head.hash` is the pinned head |
//! | any of these files with `.gz` | the same, unpacked |

use std::fs::File;
use std::io::{BufRead as _, BufReader, Read};
use std::path::{Path, PathBuf};

use chancery_format::Hash;
use flate2::read::MultiGzDecoder;

use super::json::{JsonError, Value, elements, members};

/// Rows that are looked at together.
const BATCH: usize = 8_192;
/// Longest line; an event is small.
const LINE_BYTES_MAX: u64 = 16 << 20;
/// Largest file that is one JSON value, unpacked: it is read whole.
const FILE_BYTES_MAX: u64 = 4 << 30;
/// Members that hold rows.
const LISTS: [&str; 5] = ["events", "rows", "audit_events", "records", "entries"];

/// Why rows could not be read: the file, or what is in it.
#[derive(Debug, thiserror::Error)]
pub enum RowsError {
    /// The file system, or the compression.
    #[error("{file}: {source}", file = .file.display())]
    Io {
        /// The file.
        file: PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
    /// The file is not JSON as a whole.
    #[error("{file}: {source}", file = .file.display())]
    Json {
        /// The file.
        file: PathBuf,
        /// What is wrong.
        source: JsonError,
    },
    /// A line or a file longer than anything that is read.
    #[error("{file}: longer than {max} bytes", file = .file.display())]
    TooLong {
        /// The file.
        file: PathBuf,
        /// The bound.
        max: u64,
    },
}

/// Gives the rows of `path`, in order and in batches, to `each`. The pinned head, if the folder has one.
pub fn read(path: &Path, mut each: impl FnMut(Vec<String>)) -> Result<Option<Hash>, RowsError> {
    if path.is_dir() {
        return folder(path, each);
    }
    let mut input = BufReader::with_capacity(1 << 20, open(path)?);
    let failed = |source| RowsError::Io { file: path.to_owned(), source };
    let start = input.fill_buf().map_err(failed)?;
    let first =
        start.iter().copied().find(|byte| !byte.is_ascii_whitespace() && !b"\xef\xbb\xbf".contains(byte));
    // One value that spans lines is no NDJSON; its first line alone is no value.
    let line_end = start.iter().position(|byte| *byte == b'\n');
    let whole_line = line_end.and_then(|end| std::str::from_utf8(start.get(..end)?).ok());
    let is_lines = first == Some(b'{') && whole_line.is_some_and(|line| Value::parse(line).is_ok());
    if is_lines {
        return lines(path, &mut input, &mut each).map(|()| None);
    }
    let mut text = String::new();
    let read = input.take(FILE_BYTES_MAX).read_to_string(&mut text).map_err(failed)?;
    if read as u64 >= FILE_BYTES_MAX {
        return Err(RowsError::TooLong { file: path.to_owned(), max: FILE_BYTES_MAX });
    }
    let wrong = |source| RowsError::Json { file: path.to_owned(), source };
    let rows = match first {
        None => Vec::new(),
        Some(b'[') => elements(&text).map_err(wrong)?,
        _ => {
            let found = members(&text).map_err(wrong)?;
            let list = found.iter().find(|(name, value)| {
                LISTS.iter().any(|list| list.as_bytes() == &**name) && value.starts_with('[')
            });
            match list {
                Some((_, list)) => elements(list).map_err(wrong)?,
                None => vec![text.trim()],
            }
        }
    };
    for batch in rows.chunks(BATCH) {
        each(batch.iter().map(|row| (*row).to_owned()).collect());
    }
    Ok(None)
}

fn open(path: &Path) -> Result<Box<dyn Read>, RowsError> {
    let file = File::open(path).map_err(|source| RowsError::Io { file: path.to_owned(), source })?;
    let packed = path.extension().is_some_and(|extension| extension == "gz");
    Ok(if packed { Box::new(MultiGzDecoder::new(file)) } else { Box::new(file) })
}

fn lines(
    path: &Path,
    input: &mut BufReader<Box<dyn Read>>,
    each: &mut impl FnMut(Vec<String>),
) -> Result<(), RowsError> {
    let mut batch = Vec::with_capacity(BATCH);
    loop {
        let mut line = String::new();
        let read = input.by_ref().take(LINE_BYTES_MAX).read_line(&mut line);
        let read = read.map_err(|source| RowsError::Io { file: path.to_owned(), source })?;
        if read as u64 >= LINE_BYTES_MAX {
            return Err(RowsError::TooLong { file: path.to_owned(), max: LINE_BYTES_MAX });
        }
        if !line.trim().is_empty() {
            batch.push(line);
        }
        if batch.len() == BATCH || (read == 0 && !batch.is_empty()) {
            each(std::mem::take(&mut batch));
        }
        if read == 0 {
            return Ok(());
        }
    }
}

/// Files of the Go file store have no order of their own; the links have it.
fn folder(path: &Path, mut each: impl FnMut(Vec<String>)) -> Result<Option<Hash>, RowsError> {
    let failed = |source| RowsError::Io { file: path.to_owned(), source };
    let mut files = Vec::new();
    for entry in std::fs::read_dir(path).map_err(failed)? {
        let name = entry.map_err(failed)?.file_name().to_string_lossy().into_owned();
        if name.starts_with("audit_") && name.ends_with(".json") {
            files.push(name);
        }
    }
    files.sort();
    for batch in files.chunks(BATCH) {
        let mut rows = Vec::with_capacity(batch.len());
        for name in batch {
            let file = path.join(name);
            let text = std::fs::read_to_string(&file).map_err(|source| RowsError::Io { file, source })?;
            rows.push(text);
        }
        each(rows);
    }
    let head = std::fs::read_to_string(path.join("head.hash")).ok();
    Ok(head.and_then(|text| Hash::from_hex(text.trim()).ok()))
}
