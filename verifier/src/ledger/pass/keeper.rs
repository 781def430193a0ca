//! Where the state of a pass is written down, each time over the one before and in one step.

use std::fs::File;
use std::io::{ErrorKind, Read as _};
use std::path::{Path, PathBuf};

use super::state::State;
use crate::save::Destination;

/// Largest state: some million streams.
pub(crate) const STATE_BYTES_MAX: usize = 512 * 1024 * 1024;

/// The state's file.
#[derive(Debug)]
pub(crate) struct Keeper {
    path: PathBuf,
    destination: Destination,
    /// Why the state could not be written down; nothing is tried after that.
    failed: Option<String>,
}

impl Keeper {
    /// The file may be there or not; it can be written.
    pub(crate) fn new(path: &Path) -> std::io::Result<Self> {
        Ok(Self { path: path.to_owned(), destination: Destination::check(path)?, failed: None })
    }

    /// What was written down before, if anything was.
    pub(crate) fn read(&self, bytes_max: usize) -> std::io::Result<Option<Vec<u8>>> {
        let file = match File::open(&self.path) {
            Ok(file) => file,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        let mut bytes = Vec::new();
        file.take(bytes_max as u64 + 1).read_to_end(&mut bytes)?;
        if bytes.len() > bytes_max {
            return Err(std::io::Error::new(
                ErrorKind::InvalidData,
                format!("larger than {bytes_max} bytes"),
            ));
        }
        Ok(Some(bytes))
    }

    /// Writes it down.
    pub(crate) fn keep(&mut self, state: &State) {
        if self.failed.is_some() {
            return;
        }
        self.failed = match state.to_json() {
            text if text.len() > STATE_BYTES_MAX => Some(format!("larger than {STATE_BYTES_MAX} bytes")),
            text => self.destination.write(&text).map_err(|error| error.to_string()).err(),
        };
    }

    /// The run ended; if that is the end of it, nothing is to be resumed. Tells what could not be written or removed.
    pub(crate) fn done(self, is_over: bool) -> Result<(), String> {
        let removed = if is_over { std::fs::remove_file(&self.path) } else { Ok(()) };
        match removed {
            Err(error) if error.kind() != ErrorKind::NotFound => Err(error.to_string()),
            _ => self.failed.map_or(Ok(()), Err),
        }
    }
}
