//! How often each key was used.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

/// Uses of one key. Both only grow.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Operations {
    /// C_Sign calls begun.
    pub started: u64,
    /// Those that answered with a signature. The others failed, or their worker died under them.
    pub succeeded: u64,
}

/// Sums over all workers of a backend.
#[derive(Debug, Default)]
pub(crate) struct Counters(Mutex<BTreeMap<String, Operations>>);

impl Counters {
    pub(crate) fn started(&self, label: &str) {
        self.change(label, |operations| operations.started += 1);
    }

    pub(crate) fn succeeded(&self, label: &str) {
        self.change(label, |operations| operations.succeeded += 1);
    }

    fn change(&self, label: &str, change: impl FnOnce(&mut Operations)) {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match all.get_mut(label) {
            Some(operations) => change(operations),
            None => change(all.entry(label.to_owned()).or_default()),
        }
    }

    pub(crate) fn all(&self) -> BTreeMap<String, Operations> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}
