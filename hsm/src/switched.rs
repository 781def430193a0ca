//! A key with kill switches of its own, asked on the thread that uses it, right before the device.

use std::sync::Arc;
use std::time::Instant;

use chancery_format::{PublicKey, SignatureAlgorithm};

use crate::kill_switch::KillSwitch;
use crate::signer::{SealInput, SignerError, SignerHandle};

/// What stops one key alone. Both must be at rest; neither resets the other.
#[derive(Debug, Clone, Default)]
pub(crate) struct KeySwitches {
    /// Pulled by people, who also reset it.
    pub(crate) order: Arc<KillSwitch>,
    /// Pulled because somebody else seems to use the key; stays.
    pub(crate) alarm: Arc<KillSwitch>,
}

impl KeySwitches {
    /// Why the key may not be used, or nothing.
    pub(crate) fn check(&self) -> Result<(), SignerError> {
        if self.order.is_halted() {
            return Err(SignerError::Halted);
        }
        match self.alarm.reason() {
            None => Ok(()),
            Some(reason) => Err(SignerError::KeyDisabled { cause: format!("the key is halted: {reason}") }),
        }
    }
}

/// A key that its switches stop.
pub(crate) struct SwitchedHandle {
    inner: Arc<dyn SignerHandle>,
    switches: KeySwitches,
}

impl SwitchedHandle {
    /// `inner`, as long as neither switch is pulled.
    pub(crate) fn new(inner: Arc<dyn SignerHandle>, switches: KeySwitches) -> Self {
        Self { inner, switches }
    }
}

impl SignerHandle for SwitchedHandle {
    fn algorithm(&self) -> SignatureAlgorithm {
        self.inner.algorithm()
    }

    fn public_key(&self) -> Option<&PublicKey> {
        self.inner.public_key()
    }

    fn sign(&self, input: SealInput<'_>, deadline: Instant) -> Result<Vec<u8>, SignerError> {
        let refused = |_| self.switches.check().err().unwrap_or(SignerError::Halted);
        let _armed = self.switches.order.armed().map_err(refused)?;
        let _armed_too = self.switches.alarm.armed().map_err(refused)?;
        self.inner.sign(input, deadline)
    }
}
