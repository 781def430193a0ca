//! Rows of a file, one a line: read once, held a batch at a time, each with its line.
//!
//! A last line without an end is taken if it is a whole row, else left for later: whoever writes the file may not have
//! finished it.

use std::fs::File;
use std::io::{BufRead as _, BufReader, Read as _};
use std::path::Path;

use chancery_format::Hash;
use chancery_format::names::EventId;
use serde::Deserialize;
use serde_json::value::RawValue;
use sha2::{Digest as _, Sha256};

use super::ReplayError;
use super::state::{Refused, State};
use crate::limits::{REPLAY_BATCH_BYTES_MAX, REPLAY_ROW_BYTES_MAX};

/// One event to append.
#[derive(Debug)]
pub struct Row {
    /// Its line in the file, from 1.
    pub line: u64,
    /// Its name; it is appended once.
    pub id: EventId,
    /// As it was written.
    pub json: Box<RawValue>,
}

/// Rows for one call, and where the file stands behind them.
pub(super) struct Batch {
    pub(super) rows: Vec<Row>,
    /// Lines among them that are no rows.
    pub(super) refused: Vec<Refused>,
    pub(super) line: u64,
    pub(super) offset: u64,
    pub(super) prefix_sha256: Hash,
}

/// The rows from where a replay stands.
pub(super) struct Rows {
    input: BufReader<File>,
    name: String,
    hasher: Sha256,
    line: u64,
    offset: u64,
    /// The last line that was taken had no end yet.
    is_open: bool,
}

/// What a line was read as.
enum Line {
    Row(Row),
    Refused(Refused),
    Blank,
    /// The file ends here, for now.
    End,
}

#[derive(Deserialize)]
struct Named {
    id: EventId,
}

impl Rows {
    /// Opens the file where `state` stands, if what is before that is what it was. Its length, too.
    pub(super) fn open(path: &Path, state: &State) -> Result<(Self, u64), ReplayError> {
        let name = path.display().to_string();
        let failed = |error: std::io::Error| ReplayError::File(format!("{name}: {error}"));
        let file = File::open(path).map_err(failed)?;
        let bytes_total = file.metadata().map_err(failed)?.len();
        let mut input = BufReader::with_capacity(1 << 20, file);
        let mut hasher = Sha256::new();
        let mut before = Hashing { hasher: &mut hasher, last: b'\n' };
        let copied = std::io::copy(&mut input.by_ref().take(state.offset), &mut before);
        let is_open = before.last != b'\n';
        let is_same = copied.map_err(failed)? == state.offset
            && (state.offset == 0 || Hash(hasher.clone().finalize().into()).to_hex() == state.prefix_sha256);
        if !is_same {
            return Err(ReplayError::Changed(state.line + 1));
        }
        let (line, offset) = (state.line, state.offset);
        Ok((Self { input, name, hasher, line, offset, is_open }, bytes_total))
    }

    /// The next rows, at most so many and so many bytes; `None` at the end.
    pub(super) fn next(&mut self, rows_max: usize) -> Result<Option<Batch>, ReplayError> {
        let (mut rows, mut refused, from) = (Vec::new(), Vec::new(), self.offset);
        let mut ended = false;
        while rows.len() + refused.len() < rows_max && self.offset - from < REPLAY_BATCH_BYTES_MAX {
            match self.line()? {
                Line::Row(row) => rows.push(row),
                Line::Refused(line) => refused.push(line),
                Line::Blank => {}
                Line::End => {
                    ended = true;
                    break;
                }
            }
        }
        if ended && self.offset == from {
            return Ok(None);
        }
        let prefix_sha256 = Hash(self.hasher.clone().finalize().into());
        Ok(Some(Batch { rows, refused, line: self.line, offset: self.offset, prefix_sha256 }))
    }

    fn line(&mut self) -> Result<Line, ReplayError> {
        let failed = |name: &str, error: std::io::Error| ReplayError::File(format!("{name}: {error}"));
        if std::mem::take(&mut self.is_open) {
            self.close().map_err(|error| failed(&self.name, error))?;
        }
        let mut text = Vec::new();
        let read = self.input.by_ref().take(REPLAY_ROW_BYTES_MAX).read_until(b'\n', &mut text);
        let read = read.map_err(|error| failed(&self.name, error))? as u64;
        let has_end = text.ends_with(b"\n");
        if read == 0 {
            return Ok(Line::End);
        }
        let number = self.line + 1;
        let parsed = row(&text, number);
        if !has_end && read < REPLAY_ROW_BYTES_MAX && !matches!(parsed, Line::Row(_)) {
            return Ok(Line::End);
        }
        self.line = number;
        self.take(&text);
        if has_end || read < REPLAY_ROW_BYTES_MAX {
            return Ok(parsed);
        }
        self.skip().map_err(|error| failed(&self.name, error))?;
        let why = format!("longer than {REPLAY_ROW_BYTES_MAX} bytes");
        Ok(Line::Refused(Refused::here(number, "row-too-large", why)))
    }

    fn take(&mut self, bytes: &[u8]) {
        self.hasher.update(bytes);
        self.offset += bytes.len() as u64;
    }

    /// The end of a line that was taken without one, if it is there now.
    fn close(&mut self) -> std::io::Result<()> {
        if self.input.fill_buf()?.first() == Some(&b'\n') {
            self.input.consume(1);
            self.take(b"\n");
        }
        Ok(())
    }

    /// The rest of a line that is too long, without holding it.
    fn skip(&mut self) -> std::io::Result<()> {
        loop {
            let mut part = Vec::new();
            self.input.by_ref().take(1 << 16).read_until(b'\n', &mut part)?;
            self.take(&part);
            if part.is_empty() || part.ends_with(b"\n") {
                return Ok(());
            }
        }
    }
}

fn row(text: &[u8], line: u64) -> Line {
    let refused = |code, why: String| Line::Refused(Refused::here(line, code, why));
    let Ok(text) = std::str::from_utf8(text) else {
        return refused("invalid-json", "not UTF-8".to_owned());
    };
    let text = text.trim();
    if text.is_empty() {
        return Line::Blank;
    }
    let json: Box<RawValue> = match serde_json::from_str(text) {
        Ok(json) => json,
        Err(error) => return refused("invalid-json", error.to_string()),
    };
    match serde_json::from_str::<Named>(text) {
        Ok(Named { id }) => Line::Row(Row { line, id, json }),
        Err(error) => refused("missing-field", format!("a row needs an id: {error}")),
    }
}

/// A hasher as a place to copy to; it keeps the last byte.
struct Hashing<'h> {
    hasher: &'h mut Sha256,
    last: u8,
}

impl std::io::Write for Hashing<'_> {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.hasher.update(bytes);
        self.last = bytes.last().copied().unwrap_or(self.last);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a failed step is a failed test")]

    use super::*;

    /// Of a batch: `line:id` of its rows, and line and code of what is none.
    type Told = (Vec<String>, Vec<(u64, String)>);

    fn read(path: &Path, state: &mut State, rows_max: usize) -> Vec<Told> {
        let (mut rows, _) = Rows::open(path, state).unwrap();
        let mut batches = Vec::new();
        while let Some(batch) = rows.next(rows_max).unwrap() {
            let ids = batch.rows.iter().map(|row| format!("{}:{}", row.line, row.id)).collect();
            let refused = batch.refused.iter().map(|it| (it.line, it.code.clone())).collect();
            batches.push((ids, refused));
            state.advance(&batch);
        }
        batches
    }

    #[test]
    fn rows_have_their_lines_and_what_is_none_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("rows");
        let long =
            format!("{{\"id\":\"x\",\"payload\":\"{}\"}}", "y".repeat(REPLAY_ROW_BYTES_MAX as usize * 2));
        let text = format!(
            "{{\"id\":\"a\"}}\n\n{{\"id\":\"b\"}}\r\nnot json\n{{\"x\":1}}\n{long}\n{{\"id\":\"c\"}}\n{{\"id\":\"d\"}}\n{{\"id\":"
        );
        std::fs::write(&path, &text).unwrap();
        let mut state = State::default();
        let wrong = |line: u64, code: &str| (line, code.to_owned());
        let batches = read(&path, &mut state, 2);
        assert_eq!(batches.len(), 4, "{batches:?}");
        let ids: Vec<&String> = batches.iter().flat_map(|(ids, _)| ids).collect();
        assert_eq!(ids, ["1:a", "3:b", "7:c", "8:d"]);
        let refused: Vec<_> = batches.iter().flat_map(|(_, refused)| refused.clone()).collect();
        let named = [wrong(4, "invalid-json"), wrong(5, "missing-field"), wrong(6, "row-too-large")];
        assert_eq!((refused.as_slice(), state.rows, state.line), (&named[..], 7, 8));
        // The last line was not finished; later it is.
        let text = text + "\"e\"}";
        std::fs::write(&path, &text).unwrap();
        assert_eq!(read(&path, &mut state, 2), [(vec!["9:e".to_owned()], vec![])]);
        std::fs::write(&path, text + "\n{\"id\":\"f\"}\n").unwrap();
        assert_eq!(read(&path, &mut state, 2), [(vec!["10:f".to_owned()], vec![])]);
        assert!(read(&path, &mut state, 2).is_empty());
    }

    #[test]
    fn a_file_that_was_changed_before_where_the_replay_stands_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("rows");
        std::fs::write(&path, "{\"id\":\"a\"}\n{\"id\":\"b\"}\n").unwrap();
        let mut state = State::default();
        read(&path, &mut state, 1);
        for text in ["{\"id\":\"a\"}\n{\"id\":\"c\"}\n", "{\"id\":\"a\"}\n", ""] {
            std::fs::write(&path, text).unwrap();
            assert!(matches!(Rows::open(&path, &state), Err(ReplayError::Changed(3))), "{text:?}");
        }
    }
}
