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
//! | an object of a bucket | as a file of its name |
//! | a database | its table, through `psql` |
//!
//! Beside an export of the kernel stands its head: `NAME.head.json` for `NAME.jsonl`.

use std::fs::File;
use std::io::{BufRead, BufReader, Cursor, Read};
use std::path::{Path, PathBuf};

use chancery_format::Hash;
use flate2::read::MultiGzDecoder;

use super::database::{Database, DatabaseError};
use chancery_format::chain::json::{JsonError, Value, elements, members};

/// Rows that are looked at together: as many signatures as are cheapest to verify at once.
const BATCH_ROWS: usize = 16_384;
/// Bytes after which a batch of large rows ends early.
const BATCH_BYTES: usize = 16 << 20;
/// Longest line; an event is small.
const LINE_BYTES_MAX: u64 = 16 << 20;
/// Largest file that is one JSON value, unpacked: it is read whole.
const FILE_BYTES_MAX: u64 = 4 << 30;
/// Members that hold rows.
const LISTS: [&str; 5] = ["events", "rows", "audit_events", "records", "entries"];

/// Where rows come from.
#[derive(Debug)]
pub enum Source {
    /// A file or a folder.
    Path(PathBuf),
    /// What was in a bucket.
    Object {
        /// The object's name; its end says what it is.
        name: String,
        /// All of it.
        bytes: Vec<u8>,
    },
    /// A database's table.
    Database(Database),
}

/// Why rows could not be read: the file, or what is in it.
#[derive(Debug, thiserror::Error)]
pub enum RowsError {
    /// The file system, or the compression.
    #[error("{name}: {source}")]
    Io {
        /// The file.
        name: String,
        /// What the system says.
        source: std::io::Error,
    },
    /// The file is not JSON as a whole.
    #[error("{name}: {source}")]
    Json {
        /// The file.
        name: String,
        /// What is wrong.
        source: JsonError,
    },
    /// A line or a file longer than anything that is read.
    #[error("{name}: longer than {max} bytes")]
    TooLong {
        /// The file.
        name: String,
        /// The bound.
        max: u64,
    },
    /// A file that should hold the head's hash holds something else.
    #[error("{name}: is no head")]
    Head {
        /// The file.
        name: String,
    },
    /// More rows than can be numbered.
    #[error("more than {max} rows: verify parts of the export, each with the head before it pinned")]
    TooMany {
        /// The bound.
        max: usize,
    },
    /// The database, or the program that asks it.
    #[error(transparent)]
    Database(#[from] DatabaseError),
}

/// Rows that were read together, in order.
#[derive(Debug, Default)]
pub struct Batch {
    text: Vec<u8>,
    /// Where each row ends.
    ends: Vec<usize>,
}

impl Batch {
    /// How many rows.
    pub const fn len(&self) -> usize {
        self.ends.len()
    }

    /// Whether there are none.
    pub const fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// Each row's bytes, with white space around it.
    pub fn rows(&self) -> impl Iterator<Item = &[u8]> {
        let starts = std::iter::once(0).chain(self.ends.iter().copied());
        starts.zip(&self.ends).map(|(start, end)| self.text.get(start..*end).unwrap_or_default())
    }

    fn push(&mut self, row: &[u8]) {
        self.text.extend_from_slice(row);
        self.ends.push(self.text.len());
    }

    /// What stands behind the last row becomes a row, unless it is blank.
    fn end_row(&mut self) {
        let start = self.ends.last().copied().unwrap_or_default();
        if self.text.get(start..).is_some_and(|row| row.trim_ascii().is_empty()) {
            self.text.truncate(start);
        } else {
            self.ends.push(self.text.len());
        }
    }

    const fn is_full(&self) -> bool {
        self.ends.len() >= BATCH_ROWS || self.text.len() >= BATCH_BYTES
    }

    /// The rows so far, with room for as many again behind.
    fn take(&mut self) -> Self {
        let next = Self {
            text: Vec::with_capacity(self.text.len() + self.text.len() / 8),
            ends: Vec::with_capacity(BATCH_ROWS),
        };
        std::mem::replace(self, next)
    }
}

/// What is known about rows besides themselves.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct About {
    /// The pinned head, if one stands beside them.
    pub head: Option<Hash>,
    /// Whether their order means something; files of a folder and rows of a table have none.
    pub is_ordered: bool,
}

impl Source {
    /// For people.
    pub fn name(&self) -> String {
        match self {
            Self::Path(path) => path.display().to_string(),
            Self::Object { name, .. } => name.clone(),
            Self::Database(database) => database.name().to_owned(),
        }
    }

    /// Gives the rows, in order and in batches, to `each`.
    pub fn read(&self, each: &mut dyn FnMut(Batch) -> Result<(), RowsError>) -> Result<About, RowsError> {
        match self {
            Self::Path(path) if path.is_dir() => folder(path, each),
            Self::Path(path) => {
                let name = self.name();
                let file = File::open(path).map_err(|source| RowsError::Io { name: name.clone(), source })?;
                stream(&name, file, each)?;
                Ok(About { head: head_beside(path)?, is_ordered: true })
            }
            Self::Object { name, bytes } => {
                stream(name, Cursor::new(bytes), each)?;
                Ok(About { head: None, is_ordered: true })
            }
            Self::Database(database) => {
                let mut batch = Batch::default();
                database.read(|input| {
                    while let Some(end) = next_line(database.name(), input, &mut batch.text)? {
                        let start = batch.ends.last().copied().unwrap_or_default();
                        super::database::unescape(&mut batch.text, start);
                        batch.end_row();
                        if batch.is_full() || (end && !batch.is_empty()) {
                            each(batch.take())?;
                        }
                    }
                    if batch.is_empty() { Ok(()) } else { each(batch.take()) }
                })?;
                Ok(About { head: None, is_ordered: false })
            }
        }
    }
}

/// Appends the next line; whether it was the last, `None` if there was none.
fn next_line(name: &str, input: &mut dyn BufRead, line: &mut Vec<u8>) -> Result<Option<bool>, RowsError> {
    let read = input.take(LINE_BYTES_MAX).read_until(b'\n', line);
    let read = read.map_err(|source| RowsError::Io { name: name.to_owned(), source })?;
    if read as u64 >= LINE_BYTES_MAX {
        return Err(RowsError::TooLong { name: name.to_owned(), max: LINE_BYTES_MAX });
    }
    Ok((read > 0).then_some(line.last() != Some(&b'\n')))
}

/// A file's or an object's rows, unpacked if its name says so.
fn stream(
    name: &str,
    input: impl Read,
    each: &mut dyn FnMut(Batch) -> Result<(), RowsError>,
) -> Result<(), RowsError> {
    let plain = name.strip_suffix(".gz");
    let mut input: Box<dyn BufRead + '_> = match plain {
        Some(_) => Box::new(BufReader::with_capacity(1 << 18, MultiGzDecoder::new(input))),
        None => Box::new(BufReader::with_capacity(1 << 18, input)),
    };
    let failed = |source| RowsError::Io { name: name.to_owned(), source };
    let mut start = Vec::new();
    while start.trim_ascii().is_empty() {
        let read = input.by_ref().take(LINE_BYTES_MAX).read_until(b'\n', &mut start).map_err(failed)?;
        if read == 0 {
            return Ok(());
        }
    }
    let said = [".ndjson", ".jsonl"].iter().any(|end| plain.unwrap_or(name).ends_with(end));
    if said || is_row(&start) {
        return lines(name, input.as_mut(), start, each);
    }
    let mut text = start;
    input.take(FILE_BYTES_MAX).read_to_end(&mut text).map_err(failed)?;
    if text.len() as u64 >= FILE_BYTES_MAX {
        return Err(RowsError::TooLong { name: name.to_owned(), max: FILE_BYTES_MAX });
    }
    let not_utf8 = |error: std::string::FromUtf8Error| {
        failed(std::io::Error::new(std::io::ErrorKind::InvalidData, error.utf8_error()))
    };
    let text = String::from_utf8(text).map_err(not_utf8)?;
    whole(&text, each).map_err(|error| match error {
        Whole::Json(source) => RowsError::Json { name: name.to_owned(), source },
        Whole::Other(error) => error,
    })
}

/// Whether a first line is a row by itself. A value that goes on in the next line is none, nor is one that holds rows.
fn is_row(line: &[u8]) -> bool {
    let Some(value) = std::str::from_utf8(line).ok().and_then(|line| Value::parse(line.trim()).ok()) else {
        return false;
    };
    let holds_rows = LISTS.iter().any(|list| matches!(value.get(list), Some(Value::Array(_))));
    matches!(value, Value::Object(_)) && (!holds_rows || value.get("payload").is_some())
}

fn lines(
    name: &str,
    input: &mut dyn BufRead,
    start: Vec<u8>,
    each: &mut dyn FnMut(Batch) -> Result<(), RowsError>,
) -> Result<(), RowsError> {
    let mut batch = Batch { text: start, ends: Vec::with_capacity(BATCH_ROWS) };
    batch.end_row();
    while next_line(name, input, &mut batch.text)?.is_some() {
        batch.end_row();
        if batch.is_full() {
            each(batch.take())?;
        }
    }
    if batch.is_empty() { Ok(()) } else { each(batch) }
}

/// Why a file that is one value gave no rows.
enum Whole {
    Json(JsonError),
    Other(RowsError),
}

fn whole(text: &str, each: &mut dyn FnMut(Batch) -> Result<(), RowsError>) -> Result<(), Whole> {
    let is_array = text.trim_start_matches('\u{feff}').trim_start().starts_with('[');
    let rows = if is_array {
        elements(text).map_err(Whole::Json)?
    } else {
        let found = members(text).map_err(Whole::Json)?;
        let list = found.iter().find(|(name, value)| {
            LISTS.iter().any(|list| list.as_bytes() == &**name) && value.starts_with('[')
        });
        match list {
            Some((_, list)) => elements(list).map_err(Whole::Json)?,
            None => vec![text.trim()],
        }
    };
    let mut batch = Batch::default();
    for row in rows {
        batch.push(row.as_bytes());
        if batch.is_full() {
            each(batch.take()).map_err(Whole::Other)?;
        }
    }
    if batch.is_empty() { Ok(()) } else { each(batch).map_err(Whole::Other) }
}

/// Files of the Go file store have no order of their own; the links have it.
fn folder(path: &Path, each: &mut dyn FnMut(Batch) -> Result<(), RowsError>) -> Result<About, RowsError> {
    let failed = |source| RowsError::Io { name: path.display().to_string(), source };
    let mut files = Vec::new();
    for entry in std::fs::read_dir(path).map_err(failed)? {
        let name = entry.map_err(failed)?.file_name().to_string_lossy().into_owned();
        if name.starts_with("audit_") && name.ends_with(".json") {
            files.push(name);
        }
    }
    files.sort();
    let mut batch = Batch::default();
    for name in files {
        let file = path.join(name);
        let io = |source| RowsError::Io { name: file.display().to_string(), source };
        batch.push(&std::fs::read(&file).map_err(io)?);
        if batch.is_full() {
            each(batch.take())?;
        }
    }
    if !batch.is_empty() {
        each(batch)?;
    }
    let head = path.join("head.hash");
    let text = if head.exists() { std::fs::read_to_string(&head).map_err(failed)? } else { String::new() };
    Ok(About { head: read_head(&head, text.trim())?, is_ordered: false })
}

/// The hash in the head file that the kernel writes beside its export.
fn head_beside(path: &Path) -> Result<Option<Hash>, RowsError> {
    let name = path.to_string_lossy();
    let plain = name.strip_suffix(".gz").unwrap_or(&name);
    let stem = plain.strip_suffix(".jsonl").or_else(|| plain.strip_suffix(".ndjson"));
    let beside = stem.into_iter().chain([plain]).map(|stem| PathBuf::from(format!("{stem}.head.json")));
    let Some(file) = beside.into_iter().find(|file| file.is_file()) else { return Ok(None) };
    let wrong = || RowsError::Head { name: file.display().to_string() };
    let text = std::fs::read_to_string(&file).map_err(|_| wrong())?;
    let value = Value::parse(text.trim()).map_err(|_| wrong())?;
    let hash = match value.get("headHash") {
        Some(Value::Null) => "",
        other => other.and_then(Value::as_str).ok_or_else(wrong)?,
    };
    read_head(&file, hash)
}

/// Nothing for a chain that has no rows yet.
fn read_head(file: &Path, text: &str) -> Result<Option<Hash>, RowsError> {
    if text.is_empty() {
        return Ok(None);
    }
    let wrong = |_| RowsError::Head { name: file.display().to_string() };
    Hash::from_hex(text).map(Some).map_err(wrong)
}
