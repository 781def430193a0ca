//! What an operator configures of a PKCS#11 backend.

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use chancery_hsm::SignerError;

use crate::limits::STUCK_AFTER;
use crate::selector::TokenSelector;

/// Variables of the daemon's own environment that workers get unless the operator says otherwise; `*` at
/// the end stands for anything.
pub const ENVIRONMENT_PASSED: [&str; 7] =
    ["SOFTHSM2_CONF", "P11_KIT_*", "TPM2_PKCS11_*", "PKCS11_*", "DBUS_SESSION_BUS_ADDRESS", "PATH", "HOME"];

/// Which token, and how to use it.
#[derive(Debug, Clone)]
pub struct Pkcs11Config {
    /// The operator's name for it.
    pub name: String,
    /// The driver, a shared library. Loaded by a worker, never by this process.
    pub module_file: PathBuf,
    /// Which token; exactly one of the module's must fit.
    pub token: TokenSelector,
    /// File with the user PIN; must not be readable by the world. Read by the worker.
    pub pin_file: PathBuf,
    /// Sessions, and so operations under way at once; 1 to [`chancery_hsm::SESSIONS_MAX`].
    pub sessions: usize,
    /// How the worker is started and what it may do.
    pub launch: Launch,
}

/// Requests the worker has beside those it is at, so that no session is idle while an answer travels. Two:
/// while one answer is on its way out, the next may already be made.
pub(crate) const NEXT_IN_LINE: usize = 2;

/// How a worker is started and what it may do.
#[derive(Debug, Clone)]
pub struct Launch {
    /// The program; `None` is this process's own.
    pub program: Option<PathBuf>,
    /// Its arguments; they must lead it to [`crate::worker::run`].
    pub args: Vec<OsString>,
    /// Variables set for the module, beside those passed on.
    pub environment: Vec<(String, OsString)>,
    /// Names of this process's variables that are passed on; `*` at the end stands for anything. All
    /// others are kept from the worker.
    pub environment_passed: Vec<String>,
    /// Whether the module may open network sockets, as modules of network HSMs must.
    pub network: bool,
    /// Folders and files, which must exist, that the module may write. With none it writes nothing.
    pub writable: Vec<PathBuf>,
    /// A worker that is at one request for longer is killed and started again.
    pub stuck_after: Duration,
}

impl Default for Launch {
    fn default() -> Self {
        Self {
            program: None,
            args: vec!["pkcs11-worker".into()],
            environment: Vec::new(),
            environment_passed: ENVIRONMENT_PASSED.map(str::to_owned).to_vec(),
            network: false,
            writable: Vec::new(),
            stuck_after: STUCK_AFTER,
        }
    }
}

impl Launch {
    /// Whether a variable of this name is passed on.
    pub(crate) fn passes(&self, name: &str) -> bool {
        self.environment_passed.iter().any(|pattern| match pattern.strip_suffix('*') {
            Some(start) => name.starts_with(start),
            None => name == pattern,
        })
    }
}

/// Why a token was not opened. The message names the file or label to correct, never the PIN.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("token {token}: {source}")]
pub struct Pkcs11Error {
    pub(crate) token: String,
    /// What went wrong; [`SignerError::retryable`] says whether waiting may help.
    pub source: SignerError,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_named_variables_are_passed_on() {
        let launch = Launch::default();
        for name in ["SOFTHSM2_CONF", "P11_KIT_SERVER_ADDRESS", "TPM2_PKCS11_STORE", "HOME"] {
            assert!(launch.passes(name), "{name}");
        }
        for name in
            ["AWS_SECRET_ACCESS_KEY", "LD_PRELOAD", "SOFTHSM2_CONF2", "CREDENTIALS_DIRECTORY", "PATHX"]
        {
            assert!(!launch.passes(name), "{name}");
        }
    }
}
