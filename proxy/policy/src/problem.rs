//! What is wrong with a policy file or a file of cases, where, and what to do about it.

use std::fmt;

use serde::Serialize;

/// A place in a file, both counted from 1; columns count characters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Position {
    /// Line.
    pub line: usize,
    /// Column, in characters.
    pub column: usize,
}

impl Position {
    /// The place of the byte at `offset` of `text`. An offset past the end is the end.
    pub(crate) fn of(text: &str, offset: usize) -> Self {
        let before = text.get(..offset).unwrap_or(text);
        let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
        let line = before.bytes().filter(|byte| *byte == b'\n').count() + 1;
        Self { line, column: before.get(line_start..).unwrap_or("").chars().count() + 1 }
    }
}

/// One thing wrong with one file. The operator is at fault; the policy in force stays.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, thiserror::Error)]
pub struct PolicyProblem {
    /// The file, or the folder when it is about all of them.
    pub file: String,
    /// Where in the file; `None` when it is about the file as a whole.
    pub at: Option<Position>,
    /// What is wrong.
    pub message: String,
    /// What to do; empty when the message says it.
    pub advice: String,
}

impl PolicyProblem {
    /// A problem of a whole file or folder.
    pub(crate) fn whole(file: &str, message: impl Into<String>, advice: impl Into<String>) -> Self {
        Self { file: file.to_owned(), at: None, message: message.into(), advice: advice.into() }
    }
}

impl fmt::Display for PolicyProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.file)?;
        if let Some(at) = self.at {
            write!(f, ":{}:{}", at.line, at.column)?;
        }
        write!(f, ": {}", self.message)?;
        if !self.advice.is_empty() {
            write!(f, "; {}", self.advice)?;
        }
        Ok(())
    }
}
