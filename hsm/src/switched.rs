//! A key with a kill switch of its own, asked on the thread that uses it, right before the device.

use std::sync::Arc;
use std::time::Instant;

use chancery_format::{PublicKey, SignatureAlgorithm};

use crate::kill_switch::KillSwitch;
use crate::signer::{SealInput, SignerError, SignerHandle};

/// A key that one switch stops alone.
pub(crate) struct SwitchedHandle {
    inner: Arc<dyn SignerHandle>,
    switch: Arc<KillSwitch>,
}

impl SwitchedHandle {
    /// `inner`, as long as `switch` is not pulled.
    pub(crate) fn new(inner: Arc<dyn SignerHandle>, switch: Arc<KillSwitch>) -> Self {
        Self { inner, switch }
    }
}

/// The refusal of a key that was halted alone; `None` while it is not.
pub(crate) fn halted(switch: &KillSwitch) -> Option<SignerError> {
    switch.reason().map(|reason| SignerError::KeyDisabled { cause: format!("the key is halted: {reason}") })
}

impl SignerHandle for SwitchedHandle {
    fn algorithm(&self) -> SignatureAlgorithm {
        self.inner.algorithm()
    }

    fn public_key(&self) -> Option<&PublicKey> {
        self.inner.public_key()
    }

    fn sign(&self, input: SealInput<'_>, deadline: Instant) -> Result<Vec<u8>, SignerError> {
        let _armed = self.switch.armed().map_err(|_| halted(&self.switch).unwrap_or(SignerError::Halted))?;
        self.inner.sign(input, deadline)
    }
}
