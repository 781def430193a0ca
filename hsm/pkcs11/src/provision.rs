//! Preparing a token from outside: the daemon's half.
//!
//! For set-up and demonstrations. A production token is initialised in a ceremony, often by another user
//! than the one who signs. Each step is done by a worker of its own that may write files, which the
//! workers that sign may not.

use std::path::Path;

use chancery_hsm::SignerError;
use zeroize::Zeroizing;

use crate::config::{Launch, Pkcs11Config};
use crate::limits::GENERATE_TIME;
use crate::message::{Reply, Request};
use crate::parent::link::Link;
use crate::selector::TokenSelector;

/// Longest token label PKCS#11 has room for, in bytes.
pub(crate) const LABEL_BYTES_MAX: usize = 32;

/// Why nothing was provisioned.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ProvisionError {
    /// A token of that label exists; it was left alone. Operator's fault.
    #[error("a token labelled \"{0}\" exists and is not initialised again")]
    TokenExists(String),
    /// The token label does not fit. Operator's fault.
    #[error("a token label has 1 to 32 bytes")]
    TokenLabel,
    /// Every slot's token is in use already. Operator's fault.
    #[error("the module has no uninitialised token")]
    NoFreeToken,
    /// A key of that label exists; it was left alone. Operator's fault.
    #[error("a key labelled \"{0}\" exists and is not overwritten")]
    KeyExists(String),
    /// The device refused or failed; a half-made token may be left, a half-made key is not.
    #[error(transparent)]
    Device(#[from] SignerError),
}

/// Initialises the first uninitialised token of a module and gives it a user PIN.
pub fn init_token(
    module_file: &Path,
    launch: &Launch,
    token_label: &str,
    so_pin: &str,
    user_pin: &str,
) -> Result<(), ProvisionError> {
    if token_label.is_empty() || token_label.len() > LABEL_BYTES_MAX {
        return Err(ProvisionError::TokenLabel);
    }
    let config = Pkcs11Config {
        name: "init".to_owned(),
        module_file: module_file.to_owned(),
        token: TokenSelector::labelled(token_label),
        pin_file: "/dev/null".into(),
        sessions: 1,
        launch: launch.clone(),
    };
    let pins = [so_pin, user_pin].map(|pin| Zeroizing::new(pin.to_owned()));
    let [so_pin, user_pin] = pins;
    let request = Request::InitToken { label: token_label.to_owned(), so_pin, user_pin };
    provision(&config, request)
}

/// Does one step in a worker of its own.
pub(crate) fn provision(config: &Pkcs11Config, request: Request) -> Result<(), ProvisionError> {
    let link = Link::start(config, true)?;
    let mut request = Some(request);
    // Asked once: a second worker must not make a second key.
    let once = |_| request.take().unwrap_or(Request::WarmUp(std::time::Duration::ZERO));
    match link.call(once, None, None, GENERATE_TIME)? {
        Reply::Done => Ok(()),
        Reply::NotProvisioned(error) => Err(error),
        Reply::Failed(error) => Err(error.into()),
        _ => Err(SignerError::unavailable("the worker gave another answer than was asked for").into()),
    }
}
