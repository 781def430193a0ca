//! What can go wrong with a login.

use std::path::PathBuf;

use chancery_identity::discovery::DiscoveryError;
use chancery_identity::outbound::{OutboundConfigError, OutboundError};

use crate::entropy::EntropyError;

/// Why there is no login. No variant holds any part of a token.
#[derive(Debug, thiserror::Error)]
pub enum LoginError {
    /// The options cannot be used. The caller is at fault; nothing was sent.
    #[error(transparent)]
    Options(#[from] OutboundConfigError),
    /// The provider is not the one that was named, or its description cannot be used; or it cannot be reached,
    /// and then retrying helps.
    #[error(transparent)]
    Discovery(#[from] DiscoveryError),
    /// The provider has no device flow. Its configuration is at fault.
    #[error("{0} has no device flow")]
    NoDeviceFlow(String),
    /// The provider cannot be reached, or answers nonsense. Retry later.
    #[error("identity provider: {0}")]
    Provider(OutboundError),
    /// The provider refused, with one of OAuth's words (RFC 6749, section 5.2): `access_denied` if the person
    /// did. Retrying helps only if that was a mistake.
    #[error("the identity provider refused: {0}")]
    Refused(String),
    /// The provider's answer breaks a rule. The provider is at fault.
    #[error("the identity provider's answer {0}")]
    BadAnswer(&'static str),
    /// The person did not agree in time. Start again.
    #[error("nobody confirmed the code in time")]
    TooLate,
    /// The login has ended and cannot be renewed without the person: `chancery login`.
    #[error("the login has ended; log in again")]
    LoginNeeded,
    /// No login is kept there: `chancery login`.
    #[error("{path}: not logged in", path = .0.display())]
    NoLogin(PathBuf),
    /// Others can read the token file, so the token may be theirs too. Log out, and log in again.
    #[error("{path}: others can read it (mode {mode:03o}); it must be for its owner alone (600)", path = path.display())]
    Exposed {
        /// The file.
        path: PathBuf,
        /// Its permissions.
        mode: u32,
    },
    /// The token file cannot be read or written.
    #[error("{path}: {cause}", path = path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        cause: String,
    },
    /// Neither `XDG_CONFIG_HOME` nor `HOME` says where files of this user are. Name a file.
    #[error("no home folder is known; give --token-file")]
    NoHome,
    /// Logged out here, but the provider was not told: the refresh token is good until it ends there.
    #[error("logged out here, but the provider was not told: {0}")]
    NotWithdrawn(String),
    /// No randomness; nothing was sent.
    #[error(transparent)]
    Entropy(#[from] EntropyError),
}

impl LoginError {
    /// Whether the same may work later without anybody doing something.
    pub const fn passing(&self) -> bool {
        matches!(
            self,
            Self::Provider(_)
                | Self::Discovery(DiscoveryError::Call { .. })
                | Self::NotWithdrawn(_)
                | Self::Entropy(_)
        )
    }

    /// Whether what was configured or typed is at fault.
    pub const fn is_usage(&self) -> bool {
        matches!(
            self,
            Self::Options(_)
                | Self::Discovery(DiscoveryError::OtherIssuer(_) | DiscoveryError::Url(_))
                | Self::NoDeviceFlow(_)
                | Self::Exposed { .. }
                | Self::File { .. }
                | Self::NoHome
        )
    }
}
