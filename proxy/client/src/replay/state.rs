//! How far a replay got: kept beside the input, written whole or not at all, and through a crash.

use std::fs::File;
use std::io::Write as _;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::{ReplayError, Row};
use crate::limits::REPLAY_REFUSED_LISTED;
use crate::problem::Problem;

/// Largest state read, in bytes: every refused row that is listed, with its reason, each letter escaped.
const STATE_BYTES_MAX: usize = 16 << 20;
/// Longest reason kept of a refused row, in bytes.
const WHY_BYTES_MAX: usize = 1_024;

/// Where a replay stands, and what became of the rows before it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct State {
    version: u64,
    /// Bytes of the input that are done with.
    pub offset: u64,
    /// Lines that are done with.
    pub line: u64,
    /// SHA-256 of these bytes, so that another input is not taken for this one.
    pub prefix_sha256: String,
    /// Rows read.
    pub rows: u64,
    /// Rows appended by this replay, in all its runs.
    pub appended: u64,
    /// Rows that were on the ledger already, as they are here.
    pub already_there: u64,
    /// Rows that were refused.
    pub refused: u64,
    /// The first of them.
    pub refusals: Vec<Refused>,
}

/// A row that is not on the ledger.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Refused {
    /// Its line in the input, from 1.
    pub line: u64,
    /// Its id, if it has one.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub id: Option<String>,
    /// A stable word: the service's code, `id-conflict` for an id whose event is another, or why it is no row.
    pub code: String,
    /// Why, for people.
    pub why: String,
}

impl Refused {
    pub(super) fn here(line: u64, code: &str, why: String) -> Self {
        Self { line, id: None, code: code.to_owned(), why: shortened(why) }
    }

    pub(super) fn by_service(row: &Row, problem: &Problem) -> Self {
        let why = problem.detail.clone().unwrap_or_else(|| problem.title.clone());
        Self { id: Some(row.id.to_string()), ..Self::here(row.line, &problem.code, why) }
    }

    pub(super) fn conflict(row: &Row, why: String) -> Self {
        Self { id: Some(row.id.to_string()), ..Self::here(row.line, "id-conflict", why) }
    }
}

fn shortened(mut text: String) -> String {
    if text.len() > WHY_BYTES_MAX {
        let end = (0..=WHY_BYTES_MAX).rev().find(|at| text.is_char_boundary(*at)).unwrap_or_default();
        text.truncate(end);
        text.push('…');
    }
    text
}

impl Default for State {
    fn default() -> Self {
        Self {
            version: 1,
            offset: 0,
            line: 0,
            prefix_sha256: String::new(),
            rows: 0,
            appended: 0,
            already_there: 0,
            refused: 0,
            refusals: Vec::new(),
        }
    }
}

impl State {
    /// Whether each row has one fate, and only one.
    pub const fn is_even(&self) -> bool {
        self.rows == self.appended + self.already_there + self.refused
    }

    pub(super) fn refuse(&mut self, refused: Refused) {
        self.refused += 1;
        if self.refusals.len() < REPLAY_REFUSED_LISTED {
            self.refusals.push(refused);
        }
    }

    /// The beginning, if there is no such file.
    pub(super) fn read(path: &Path) -> Result<Self, ReplayError> {
        let failed =
            |error: &dyn std::fmt::Display| ReplayError::File(format!("{}: {error}", path.display()));
        let json = match std::fs::read(path) {
            Ok(json) if json.len() > STATE_BYTES_MAX => {
                return Err(failed(&format!("larger than {STATE_BYTES_MAX} bytes")));
            }
            Ok(json) => json,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Self::default()),
            Err(error) => return Err(failed(&error)),
        };
        let state: Self = serde_json::from_slice(&json).map_err(|error| failed(&error))?;
        match state.version {
            1 => Ok(state),
            other => Err(failed(&format!("version {other} is not known"))),
        }
    }

    pub(super) fn write(&self, path: &Path) -> Result<(), ReplayError> {
        let failed =
            |error: &dyn std::fmt::Display| ReplayError::File(format!("{}: {error}", path.display()));
        let mut json = serde_json::to_vec(self).map_err(|error| failed(&error))?;
        json.push(b'\n');
        write_whole(path, &json).map_err(|error| failed(&error))
    }
}

/// Writes a file under another name, syncs it, and puts it in its place: after a crash the old one is there, or the new.
pub fn write_whole(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(format!(".{}.new", std::process::id()));
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let new = folder.join(name);
    let written = || {
        let mut file = File::create(&new)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        std::fs::rename(&new, path)?;
        File::open(folder)?.sync_all()
    };
    written().inspect_err(|_| drop(std::fs::remove_file(&new)))
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a failed step is a failed test")]

    use super::*;

    #[test]
    fn a_state_comes_back_as_it_was_and_another_version_does_not() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("state");
        assert_eq!(State::read(&path).unwrap(), State::default());
        let mut state = State { rows: 2, appended: 1, ..State::default() };
        state.refuse(Refused::here(7, "invalid-json", "é".repeat(WHY_BYTES_MAX)));
        assert!(state.is_even() && state.refusals.first().unwrap().why.len() <= WHY_BYTES_MAX + 3);
        state.write(&path).unwrap();
        assert_eq!(State::read(&path).unwrap(), state);
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1, "nothing else is left");
        let text = std::fs::read_to_string(&path).unwrap();
        for other in
            [text.replace("\"version\":1", "\"version\":2"), text.replace("rows", "rowz"), String::new()]
        {
            std::fs::write(&path, other).unwrap();
            assert!(State::read(&path).is_err());
        }
    }
}
