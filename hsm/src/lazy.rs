//! A key whose public half is known already: its device is asked only when the key is first used.
//!
//! So ten thousand keys cost nothing at start, and a daemon starts while a device is away. The promise of
//! the start is kept at the first use: a device that holds another key than the registered one is refused
//! before that key is used.

use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Instant;

use chancery_format::{PublicKey, SignatureAlgorithm};

use crate::signer::{Backend, SealInput, SignerError, SignerHandle};

/// A key that is opened when it is first used.
pub(crate) struct LazyHandle {
    backend: Arc<dyn Backend>,
    label: String,
    algorithm: SignatureAlgorithm,
    public_key: Option<PublicKey>,
    opened: OnceLock<Arc<dyn SignerHandle>>,
    /// Held by whoever opens it, so that a crowd does so once.
    opening: Mutex<()>,
}

impl LazyHandle {
    /// The key called `label`, registered with this public half.
    pub(crate) const fn new(
        backend: Arc<dyn Backend>,
        label: String,
        algorithm: SignatureAlgorithm,
        public_key: Option<PublicKey>,
    ) -> Self {
        Self { backend, label, algorithm, public_key, opened: OnceLock::new(), opening: Mutex::new(()) }
    }

    fn open(&self) -> Result<&Arc<dyn SignerHandle>, SignerError> {
        if let Some(handle) = self.opened.get() {
            return Ok(handle);
        }
        let _alone = self.opening.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(handle) = self.opened.get() {
            return Ok(handle);
        }
        let handle = self.backend.open_key(&self.label, self.algorithm)?;
        if handle.public_key() != self.public_key.as_ref() {
            let label = &self.label;
            let cause = format!("\"{label}\" is another key than the registered one; it was not used");
            return Err(SignerError::Refused { cause });
        }
        Ok(self.opened.get_or_init(|| handle))
    }
}

impl SignerHandle for LazyHandle {
    fn algorithm(&self) -> SignatureAlgorithm {
        self.algorithm
    }

    fn public_key(&self) -> Option<&PublicKey> {
        self.public_key.as_ref()
    }

    fn sign(&self, input: SealInput<'_>, deadline: Instant) -> Result<Vec<u8>, SignerError> {
        self.open()?.sign(input, deadline)
    }
}
