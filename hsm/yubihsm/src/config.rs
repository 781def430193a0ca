//! Which device, and how to use it.

use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use chancery_hsm::SignerError;

use crate::log_position::LogPosition;

/// Most sessions a device keeps at once, other clients' included.
pub const SESSIONS_MAX: usize = 16;

/// Time after which a device ends a session nobody used.
pub const SESSION_IDLE: Duration = Duration::from_secs(30);

/// The way to the device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Connector {
    /// The vendor's `yubihsm-connector`. Everything that matters is encrypted and authenticated inside it,
    /// so plain HTTP is enough; who can reach it can still keep us from the device.
    Http {
        /// Name or address.
        host: String,
        /// Port; the vendor's default is 12345.
        port: u16,
    },
    /// This machine's USB. Only in builds with the feature `usb`.
    Usb,
}

/// The text names no connector.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("a connector is \"http://host:port\" or \"usb\"")]
pub struct UnknownConnector;

impl std::fmt::Display for Connector {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Http { host, port } => write!(f, "http://{host}:{port}"),
            Self::Usb => f.write_str("usb"),
        }
    }
}

impl FromStr for Connector {
    type Err = UnknownConnector;

    fn from_str(text: &str) -> Result<Self, UnknownConnector> {
        if text == "usb" {
            return Ok(Self::Usb);
        }
        let authority = text.strip_prefix("http://").map(|rest| rest.strip_suffix('/').unwrap_or(rest));
        let (host, port) = authority.and_then(|rest| rest.rsplit_once(':')).ok_or(UnknownConnector)?;
        let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
        let port = port.parse().map_err(|_| UnknownConnector)?;
        if host.is_empty() || host.contains(['/', '@', '?', '#']) || port == 0 {
            return Err(UnknownConnector);
        }
        Ok(Self::Http { host: host.to_owned(), port })
    }
}

/// What is asked of the device's own log when it is opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ForceAudit {
    /// Nothing: the log may overwrite itself, or be off.
    #[default]
    Ignore,
    /// Forced auditing must be on, and every command that uses or changes keys must be logged; otherwise
    /// the device is not opened.
    Require,
    /// What is missing of that is switched on. Needs the capability to set options. Switched on, not fixed:
    /// fixing it for ever is for the ceremony.
    Set,
}

impl ForceAudit {
    /// The word in configuration.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Ignore => "ignore",
            Self::Require => "require",
            Self::Set => "set",
        }
    }
}

/// The text names no such demand.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("force_audit is \"ignore\", \"require\" or \"set\"")]
pub struct UnknownForceAudit;

impl FromStr for ForceAudit {
    type Err = UnknownForceAudit;

    fn from_str(text: &str) -> Result<Self, UnknownForceAudit> {
        match text {
            "ignore" => Ok(Self::Ignore),
            "require" => Ok(Self::Require),
            "set" => Ok(Self::Set),
            _ => Err(UnknownForceAudit),
        }
    }
}

/// Which device, and how to use it.
#[derive(Debug, Clone)]
pub struct YubiHsmConfig {
    /// The operator's name for it.
    pub name: String,
    /// The way to it.
    pub connector: Connector,
    /// Its serial number in decimal; any device if `None`. With USB it also chooses among several.
    pub serial: Option<String>,
    /// Object id of the authentication key.
    pub auth_key_id: u16,
    /// File with the password the authentication key was made from; must not be readable by the world.
    pub password_file: PathBuf,
    /// Sessions, and so operations under way at once; 1 to [`SESSIONS_MAX`], which the device shares among
    /// all its clients.
    pub sessions: usize,
    /// Limit on connecting and on each read and write; a key generation of RSA may take over a minute.
    pub timeout: Duration,
    /// How long a session may be idle before it is refreshed; less than [`SESSION_IDLE`]. `None` lets idle
    /// sessions end and opens them again when they are needed, which costs two entries of the device's log
    /// each time.
    pub keep_alive: Option<Duration>,
    /// What is asked of the device's own log.
    pub force_audit: ForceAudit,
    /// PEM file with the certificates that attestations must lead to; without it a key's attestation is
    /// checked up to the device's own certificate and marked as not anchored.
    pub attestation_roots: Option<PathBuf>,
    /// The last entry of the device's log that is on the ledger. With it the log must go on from there,
    /// across restarts; without it the oldest entry the device still has is believed.
    pub log_position: Option<LogPosition>,
}

impl YubiHsmConfig {
    /// The usual settings: four sessions, five seconds, refreshed every fifteen, nothing asked of the log.
    pub fn new(name: &str, connector: Connector, auth_key_id: u16, password_file: PathBuf) -> Self {
        Self {
            name: name.to_owned(),
            connector,
            serial: None,
            auth_key_id,
            password_file,
            sessions: 4,
            timeout: Duration::from_secs(5),
            keep_alive: Some(SESSION_IDLE / 2),
            force_audit: ForceAudit::Ignore,
            attestation_roots: None,
            log_position: None,
        }
    }

    pub(crate) fn check(&self) -> Result<(), String> {
        if !(1..=SESSIONS_MAX).contains(&self.sessions) {
            return Err(format!("sessions must be 1 to {SESSIONS_MAX}"));
        }
        if self.timeout.is_zero() {
            return Err("timeout must be longer than nothing".to_owned());
        }
        if self.keep_alive.is_some_and(|every| every.is_zero() || every >= SESSION_IDLE) {
            return Err(format!("keep_alive must be under {} seconds", SESSION_IDLE.as_secs()));
        }
        Ok(())
    }
}

/// Why a device was not opened. The message names what to correct, never the password.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("YubiHSM \"{name}\": {source}")]
pub struct YubiHsmError {
    pub(crate) name: String,
    /// What went wrong; [`SignerError::retryable`] says whether waiting may help.
    pub source: SignerError,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connectors_have_one_spelling() {
        let http = |host: &str, port| Ok(Connector::Http { host: host.to_owned(), port });
        assert_eq!("http://127.0.0.1:12345".parse(), http("127.0.0.1", 12345));
        assert_eq!("http://[::1]:1/".parse(), http("::1", 1));
        assert_eq!("usb".parse(), Ok(Connector::Usb));
        for text in ["", "http://", "http://host", "https://host:1", "http://host:0", "http://a@b:1", "USB"] {
            assert_eq!(text.parse::<Connector>(), Err(UnknownConnector), "{text}");
        }
    }

    #[test]
    fn settings_out_of_range_are_named() {
        let config = YubiHsmConfig::new("hsm", Connector::Usb, 1, PathBuf::new());
        assert_eq!(config.check(), Ok(()));
        let sessions = YubiHsmConfig { sessions: 17, ..config.clone() };
        assert!(sessions.check().is_err_and(|cause| cause.contains("sessions")));
        let keep_alive = YubiHsmConfig { keep_alive: Some(SESSION_IDLE), ..config };
        assert!(keep_alive.check().is_err_and(|cause| cause.contains("keep_alive")));
    }
}
