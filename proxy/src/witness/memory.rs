//! What a witness has cosigned last, of each log: one file each, replaced whole and synced.
//!
//! A file holds the newest accepted checkpoint as its log gave it and, once they are made, our lines below it: what
//! monitors are shown. A file that cannot be read stops the daemon, or keeps out the log that a list brought, because
//! whoever forgets what he cosigned can be made to cosign a second history. For the same reason the folder must never be restored from a backup.

use std::fs;
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::time::Instant;

use chancery_format::checkpoint::VerifiedCheckpoint;
use chancery_format::log_key::LogKey;
use chancery_format::note::NOTE_BYTES_MAX;
use chancery_format::witness::WitnessedLog;
use chancery_format::{Checkpoint, Hash, TreeHead};

use super::rate::{Allowance, Source};

/// What was cosigned cannot be read, or not kept.
#[derive(Debug, thiserror::Error)]
pub enum MemoryError {
    /// The system refused.
    #[error("{path}: {source}", path = .path.display())]
    File {
        /// The file or folder.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The file is not what was written there: it was damaged, or the log's keys in the configuration changed.
    #[error("{path} holds no checkpoint by the configured keys of {origin}; nothing may be cosigned without it", path = .path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// The log.
        origin: String,
    },
    /// A log's name is none.
    #[error("{0:?} is no origin")]
    Origin(String),
}

/// One log: what is known of it, and where that is kept.
#[derive(Debug)]
pub(super) struct Log {
    path: PathBuf,
    known: WitnessedLog,
    note: Option<String>,
    /// Our lines of the newest checkpoint, and when they were made; none after a restart.
    lines: Option<(Instant, String)>,
    conflicts: u32,
    allowance: Allowance,
}

/// The name under which monitors find a log: hex SHA-256 of its origin.
pub(super) fn name_of(origin: &str) -> String {
    Hash::of(&[origin.as_bytes()]).to_hex()
}

/// Makes the folder, if there is none, for the daemon's eyes only.
pub(super) fn make_folder(directory: &Path) -> Result<(), MemoryError> {
    let made = fs::DirBuilder::new().recursive(true).mode(0o700).create(directory);
    made.map_err(|source| MemoryError::File { path: directory.to_owned(), source })
}

impl Log {
    /// What is known of a log of this name.
    pub(super) fn open(
        directory: &Path,
        name: &str,
        keys: Vec<LogKey>,
        source: Source,
    ) -> Result<Self, MemoryError> {
        let path = directory.join(name_of(name));
        let origin = name.parse().map_err(|_| MemoryError::Origin(name.to_owned()))?;
        let mut known = WitnessedLog { origin, keys, latest: None };
        let note = match fs::read_to_string(&path) {
            Ok(note) => Some(note),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(source) => return Err(MemoryError::File { path, source }),
        };
        if let Some(note) = &note {
            let unreadable = || MemoryError::Unreadable { path: path.clone(), origin: name.to_owned() };
            known.latest = Some(head_of(note, &known).ok_or_else(unreadable)?);
        }
        let allowance = Allowance::new(source);
        Ok(Self { path, known, note, lines: None, conflicts: 0, allowance })
    }

    /// Goes by these keys from now on. If what was cosigned last is by none of them, by none at all: `false`.
    pub(super) fn adopt(&mut self, keys: Vec<LogKey>, source: Source) -> bool {
        self.allowance.adopt(source);
        self.known.keys = keys;
        let fits = self.note.as_ref().is_none_or(|note| head_of(note, &self.known) == self.known.latest);
        if !fits {
            self.leave();
        }
        fits
    }

    /// Cosigns nothing more of it, and forgets nothing.
    pub(super) fn leave(&mut self) {
        self.known.keys.clear();
    }

    /// Whether it is a log that we cosign now.
    pub(super) const fn is_cosigned(&self) -> bool {
        !self.known.keys.is_empty()
    }

    /// How much of it may be cosigned.
    pub(super) const fn allowance(&mut self) -> &mut Allowance {
        &mut self.allowance
    }

    pub(super) fn origin(&self) -> &str {
        self.known.origin.as_str()
    }

    pub(super) const fn known(&self) -> &WitnessedLog {
        &self.known
    }

    /// The newest checkpoint, with our lines if they were made.
    pub(super) fn note(&self) -> Option<&str> {
        self.note.as_deref()
    }

    /// Our lines of this very head, unless they are too old.
    pub(super) fn lines_of(&self, head: TreeHead) -> Option<String> {
        let (made, lines) = self.lines.as_ref().filter(|_| self.known.latest == Some(head))?;
        (made.elapsed() <= self.allowance.same_lines_for()).then(|| lines.clone())
    }

    /// Keeps an accepted checkpoint; when this returns, it is on disk.
    pub(super) fn accept(&mut self, checkpoint: &VerifiedCheckpoint) -> Result<(), MemoryError> {
        self.keep(checkpoint.note())?;
        self.known.latest = Some(checkpoint.head());
        self.lines = None;
        Ok(())
    }

    /// Keeps our lines below it.
    pub(super) fn cosigned(
        &mut self,
        checkpoint: &VerifiedCheckpoint,
        lines: &str,
        at: Instant,
    ) -> Result<(), MemoryError> {
        self.lines = Some((at, lines.to_owned()));
        self.keep(&format!("{}{lines}", checkpoint.note()))
    }

    /// Whether one more conflict is worth an entry.
    pub(super) const fn counts_conflict(&mut self, most: u32) -> bool {
        self.conflicts = self.conflicts.saturating_add(1);
        self.conflicts <= most
    }

    fn keep(&mut self, note: &str) -> Result<(), MemoryError> {
        replace(&self.path, note.as_bytes())
            .map_err(|source| MemoryError::File { path: self.path.clone(), source })?;
        self.note = Some(note.to_owned());
        Ok(())
    }
}

/// The head of a note that these keys signed.
fn head_of(note: &str, known: &WitnessedLog) -> Option<TreeHead> {
    let sane = Some(note).filter(|note| note.len() <= NOTE_BYTES_MAX)?;
    Checkpoint::verify_by_any(sane, &known.origin, &known.keys).ok().map(|read| read.head())
}

/// Replaces a file whole; after a crash there is the old or the new one.
fn replace(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let part = path.with_extension("part");
    let mut options = fs::OpenOptions::new();
    let mut file = options.write(true).create(true).truncate(true).mode(0o600).open(&part)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    fs::rename(&part, path)?;
    let folder = path.parent().ok_or(io::ErrorKind::NotFound)?;
    fs::File::open(folder)?.sync_all()
}
