//! A file of operation counts: `{"operations":{"SIGNER_KID":NUMBER,…}}`.
//!
//! For devices that count and keep no log: a token's own counter, or the count of the process that loads its
//! module. A count must begin where the key's life on the ledger begins.

use std::collections::BTreeMap;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use serde::Deserialize;

/// Largest file read, in bytes: a hundred thousand keys fit.
const FILE_BYTES_MAX: u64 = 16 << 20;

/// Why a file of counts was not read. Whoever wrote it is at fault.
#[derive(Debug, thiserror::Error)]
pub enum CountsError {
    /// The file cannot be read.
    #[error("{path}: {source}", path = .path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The file holds something else.
    #[error("{path}: {reason}", path = .path.display())]
    Malformed {
        /// Which.
        path: PathBuf,
        /// Where and why.
        reason: String,
    },
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Counts {
    operations: BTreeMap<String, u64>,
}

/// Reads the file.
pub(super) fn read(path: &Path) -> Result<BTreeMap<String, u64>, CountsError> {
    let failed = |source| CountsError::File { path: path.to_owned(), source };
    let mut text = String::new();
    std::fs::File::open(path)
        .and_then(|file| file.take(FILE_BYTES_MAX).read_to_string(&mut text))
        .map_err(failed)?;
    let counts: Counts = serde_json::from_str(&text)
        .map_err(|error| CountsError::Malformed { path: path.to_owned(), reason: error.to_string() })?;
    Ok(counts.operations)
}
