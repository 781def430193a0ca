//! How far a check is, for those who wait, and the way to end it early.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// Shared by a check and whoever watches it.
#[derive(Debug, Default)]
pub struct CheckProgress {
    done: AtomicU64,
    entries: AtomicU64,
    objects: AtomicU64,
    cancelled: AtomicBool,
}

impl CheckProgress {
    /// Entries looked at, and entries there are; nought and nought before it has begun.
    pub fn entries(&self) -> (u64, u64) {
        (self.done.load(Ordering::Relaxed), self.entries.load(Ordering::Relaxed))
    }

    /// Archived objects compared so far.
    pub fn objects(&self) -> u64 {
        self.objects.load(Ordering::Relaxed)
    }

    /// Ends the check at its next step; it gives [`CheckError::Cancelled`](crate::CheckError::Cancelled).
    pub fn cancel(&self) {
        self.cancelled.store(true, Ordering::Relaxed);
    }

    pub(super) fn is_cancelled(&self) -> bool {
        self.cancelled.load(Ordering::Relaxed)
    }

    pub(super) fn begin(&self, entries: u64) {
        self.entries.store(entries, Ordering::Relaxed);
    }

    pub(super) fn at(&self, entries: u64, objects: u64) {
        self.done.store(entries, Ordering::Relaxed);
        self.objects.store(objects, Ordering::Relaxed);
    }
}
