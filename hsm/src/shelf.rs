//! Which keys a ring has: one immutable table, swapped whole when a key comes, goes or takes over a name.
//!
//! A `kid` is the name callers use and leads to one key pair at a time; a key pair's own name, its
//! `signer_kid`, leads to it for as long as it is on the shelf. So a use that was admitted under the old pair
//! of a name still finds that pair after the name went to the new one.

use std::collections::HashMap;
use std::sync::Arc;

use chancery_format::Kid;

use crate::keyring::Key;

/// The keys of a ring at one moment.
#[derive(Clone, Default)]
pub(crate) struct Shelf {
    pub(crate) by_kid: HashMap<Kid, Arc<Key>>,
    pub(crate) by_signer_kid: HashMap<Kid, Arc<Key>>,
    /// The key that signs checkpoints and the ledger's other notes.
    pub(crate) ledger: Option<Arc<Key>>,
    /// The key that signs checkpoints beside it.
    pub(crate) second: Option<Arc<Key>>,
}

impl Shelf {
    /// Puts a key there; `current` if callers who ask for its `kid` get it from now on.
    pub(crate) fn put(&mut self, key: Arc<Key>, current: bool) {
        if current {
            self.by_kid.insert(key.info.kid.clone(), Arc::clone(&key));
        }
        self.by_signer_kid.insert(key.info.signer_kid.clone(), key);
    }

    /// Gives a key's `kid` to it. `false` if there is no such key. The ledger's signing keys go over with their
    /// names.
    pub(crate) fn promote(&mut self, signer_kid: &Kid) -> bool {
        let Some(key) = self.by_signer_kid.get(signer_kid).map(Arc::clone) else { return false };
        for signing in [&mut self.ledger, &mut self.second] {
            if signing.as_ref().is_some_and(|signing| signing.info.kid == key.info.kid) {
                *signing = Some(Arc::clone(&key));
            }
        }
        self.by_kid.insert(key.info.kid.clone(), key);
        true
    }

    /// Whether this key is one of those that sign checkpoints and nothing else.
    pub(crate) fn is_ledgers(&self, kid: &Kid) -> bool {
        [&self.ledger, &self.second].into_iter().flatten().any(|signing| signing.info.kid == *kid)
    }

    /// Takes a key away unless callers can still ask for it; `false` then, or if there is none.
    pub(crate) fn remove(&mut self, signer_kid: &Kid) -> bool {
        let is_current = self.by_kid.values().any(|key| key.info.signer_kid == *signer_kid);
        !is_current && self.by_signer_kid.remove(signer_kid).is_some()
    }
}
