//! Evidence that counts what is read of it.

use std::sync::atomic::{AtomicU64, Ordering};

use super::{Evidence, EvidenceError, Listed};

/// Another evidence, and how many bytes of its objects were read through here.
pub(crate) struct Counted<'a> {
    inner: &'a dyn Evidence,
    bytes: AtomicU64,
}

impl<'a> Counted<'a> {
    /// Nothing read yet.
    pub(crate) const fn new(inner: &'a dyn Evidence) -> Self {
        Self { inner, bytes: AtomicU64::new(0) }
    }

    /// Bytes of objects read so far; listings are not counted.
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }
}

impl Evidence for Counted<'_> {
    fn list(&self, prefix: &str, each: &mut dyn FnMut(Listed)) -> Result<(), EvidenceError> {
        self.inner.list(prefix, each)
    }

    fn open(&self, name: &str, bytes_max: usize) -> Result<Vec<u8>, EvidenceError> {
        let bytes = self.inner.open(name, bytes_max)?;
        self.bytes.fetch_add(bytes.len() as u64, Ordering::Relaxed);
        Ok(bytes)
    }

    fn is_remote(&self) -> bool {
        self.inner.is_remote()
    }
}
