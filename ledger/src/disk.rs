//! The narrow place where a disk can betray the roll.
//!
//! Every durable write of the roll passes [`Disk::commit`], and every look at free space passes
//! [`Disk::free_bytes`]. Tests put a disk here that loses the n-th write before or after it happened.

use std::path::Path;

/// A write failed, and nobody knows whether it happened. The disk is at fault; the roll stops.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct DiskError(pub String);

/// The disk under a roll.
///
/// *What `Ok` means:* the write is durable, as far as the disk tells the truth. *What `Err` may have
/// done:* anything between nothing and all of it; a batch is never half visible after reopening. *Who may
/// call:* the roll's one writer thread. *What its owner could do to us:* lose, keep or forge everything on
/// this machine, which is why checkpoints leave it.
pub trait Disk: Send + Sync {
    /// Performs `write`, at most once.
    fn commit(&self, write: &mut dyn FnMut() -> Result<(), DiskError>) -> Result<(), DiskError>;

    /// Bytes an unprivileged process may still write to the file system of `dir`.
    fn free_bytes(&self, dir: &Path) -> Result<u64, DiskError>;
}

/// The disk as it is.
#[derive(Debug, Clone, Copy)]
pub struct RealDisk;

impl Disk for RealDisk {
    fn commit(&self, write: &mut dyn FnMut() -> Result<(), DiskError>) -> Result<(), DiskError> {
        write()
    }

    fn free_bytes(&self, dir: &Path) -> Result<u64, DiskError> {
        let stat = rustix::fs::statvfs(dir).map_err(|error| DiskError(error.to_string()))?;
        Ok(stat.f_bavail.saturating_mul(stat.f_frsize))
    }
}
