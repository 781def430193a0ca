//! What can go wrong with a mirror, and whose fault it is.

use std::path::PathBuf;

use super::fork::Fork;
use super::head::HeadError;
use crate::options::OptionsError;

/// Why a round ended. Nothing unverified was written, and the copy is the log it was before.
#[derive(Debug, thiserror::Error)]
pub enum MirrorError {
    /// The address, the keys or the files given. The caller is at fault.
    #[error("{0}")]
    Usage(String),
    /// The copy's folder cannot be read or written, or holds another log. Its owner is at fault.
    #[error("{path}: {cause}")]
    Replica {
        /// Which file.
        path: PathBuf,
        /// What is wrong with it.
        cause: String,
    },
    /// The copy's checkpoint is not by the keys given. The keys are another log's, or the copy was tampered with.
    #[error("{path}: not a checkpoint of this log: {cause}")]
    Stranger {
        /// Which file.
        path: PathBuf,
        /// What is wrong with it.
        cause: HeadError,
    },
    /// The log does not answer, or says that it is busy. Later it may.
    #[error("{0}")]
    Unavailable(String),
    /// The log does not have what its checkpoint covers. Its operator is at fault, or it withholds old entries.
    #[error("the log has no {0}")]
    Missing(String),
    /// The log does not show what its checkpoint covers from the beginning on. It prunes, which C2SP tlog-tiles allows for
    /// full tiles and bundles that end at or below its minimum index; or it withholds them. A copy is whole or none.
    #[error(
        "the log does not show {path}, so entries {first} to {last} cannot be copied: it has pruned up to there (then its \
         minimum index is {} or more) or withholds them; follow somebody who has them all",
        .last.saturating_add(1)
    )]
    Pruned {
        /// What was asked for: a full tile or bundle.
        path: String,
        /// The first entry under it.
        first: u64,
        /// The last one.
        last: u64,
        /// Whether it was denied, and not only not found.
        denied: bool,
    },
    /// The log does not let us read this.
    #[error("the log refuses {path} with status {status}")]
    Refused {
        /// What was asked for.
        path: String,
        /// HTTP status.
        status: u16,
    },
    /// The log, or what stands between, showed something it did not sign.
    #[error("{path}: {why}")]
    Bad {
        /// What was asked for.
        path: String,
        /// What is wrong with it.
        why: String,
    },
    /// The log shows a smaller checkpoint than one seen before. A stale cache does this, and a log restored from an
    /// old backup; asking again tells which.
    #[error("the log went back: it showed a checkpoint of {seen} entries, and now one of {shown}")]
    Rollback {
        /// Size seen before.
        seen: u64,
        /// Size shown now.
        shown: u64,
    },
    /// Two checkpoints are signed that cannot be of one log. The log's operator, or whoever has its key, is at fault.
    #[error("{0}")]
    Fork(Box<Fork>),
}

impl MirrorError {
    /// Whether the same round may end well later, without anybody here doing anything.
    pub const fn passes(&self) -> bool {
        match self {
            Self::Unavailable(_)
            | Self::Missing(_)
            | Self::Pruned { denied: false, .. }
            | Self::Bad { .. }
            | Self::Rollback { .. } => true,
            Self::Usage(_)
            | Self::Replica { .. }
            | Self::Stranger { .. }
            | Self::Refused { .. }
            | Self::Pruned { .. }
            | Self::Fork(_) => false,
        }
    }

    pub(super) fn bad(path: impl ToString, why: impl ToString) -> Self {
        Self::Bad { path: path.to_string(), why: why.to_string() }
    }
}

impl From<OptionsError> for MirrorError {
    fn from(error: OptionsError) -> Self {
        Self::Usage(error.to_string())
    }
}

impl From<HeadError> for MirrorError {
    fn from(error: HeadError) -> Self {
        Self::bad("checkpoint", error)
    }
}
