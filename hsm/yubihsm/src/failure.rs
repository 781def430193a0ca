//! What an error of the device or of the way to it means for us: whose fault it is, whether a new session
//! may help at once, and whether the key was used.

use chancery_format::entry::KeyUse;
use chancery_hsm::SignerError;

use crate::transport::Broken;
use crate::wire::{command, device_error};

/// Whose decision it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// May work later.
    Transient,
    /// The device's log is full and auditing is forced: may work once it has been emptied.
    LogFull,
    /// The object asked for is not there.
    Missing,
    /// We cannot log in: the password is wrong or its file unreadable.
    LoggedOut,
    /// Will not work until an operator changes something.
    Refused,
}

/// What has become of the session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Remains {
    /// It goes on.
    Usable,
    /// It is gone, or nobody knows; the next request opens another.
    Gone,
    /// It was gone before the command came, so the command can be given again in a new one.
    GoneBefore,
}

/// One failed step.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Failure {
    pub(crate) kind: Kind,
    pub(crate) session: Remains,
    pub(crate) key_use: KeyUse,
    pub(crate) cause: String,
}

impl Failure {
    pub(crate) fn transient(cause: impl Into<String>) -> Self {
        let cause = cause.into();
        Self { kind: Kind::Transient, session: Remains::Usable, key_use: KeyUse::None, cause }
    }

    pub(crate) fn missing(cause: impl Into<String>) -> Self {
        Self { kind: Kind::Missing, ..Self::transient(cause) }
    }

    /// No way to log in.
    pub(crate) fn logged_out(cause: impl Into<String>) -> Self {
        Self { kind: Kind::LoggedOut, ..Self::transient(cause) }
    }

    pub(crate) fn refused(cause: impl Into<String>) -> Self {
        Self { kind: Kind::Refused, ..Self::transient(cause) }
    }

    /// An answer that makes no sense: to a command that uses keys, after their use.
    pub(crate) fn nonsense(code: u8, cause: impl Into<String>) -> Self {
        Self { session: Remains::Gone, key_use: key_use_of(code), ..Self::transient(cause) }
    }

    /// The way to the device broke while `code` was on it.
    pub(crate) fn broken(code: u8, broken: Broken) -> Self {
        let key_use = if broken.sent { key_use_of(code) } else { KeyUse::None };
        Self { session: Remains::Gone, key_use, ..Self::transient(broken.cause) }
    }

    /// The device's own refusal of `code`. It refuses before it uses a key, as far as its reasons are known.
    pub(crate) fn by_device(code: u8, error: u8) -> Self {
        let cause = format!("{}: {}", command::name(code), device_error::name(error));
        match error {
            device_error::INVALID_SESSION | device_error::SESSION_FAILED => {
                Self { session: Remains::GoneBefore, ..Self::transient(cause) }
            }
            device_error::OBJECT_NOT_FOUND => Self::missing(cause),
            device_error::INVALID_COMMAND
            | device_error::INVALID_DATA
            | device_error::WRONG_LENGTH
            | device_error::INSUFFICIENT_PERMISSIONS
            | device_error::INVALID_ID
            | device_error::OBJECT_EXISTS => Self::refused(cause),
            device_error::LOG_FULL => Self { kind: Kind::LogFull, ..Self::transient(cause) },
            device_error::SESSIONS_FULL
            | device_error::AUTHENTICATION_FAILED
            | device_error::COMMAND_UNEXECUTED => Self::transient(cause),
            _ => Self { key_use: key_use_of(code), ..Self::transient(cause) },
        }
    }

    /// For opening a device or a key, where a missing one is the configuration's mistake.
    pub(crate) fn when_opening(self) -> SignerError {
        match self.kind {
            Kind::Missing => SignerError::KeyMissing { cause: self.cause },
            Kind::Refused | Kind::LoggedOut => SignerError::Refused { cause: self.cause },
            Kind::Transient | Kind::LogFull => {
                SignerError::Unavailable { cause: self.cause, key_use: self.key_use }
            }
        }
    }

    /// For using a key that was there when it was opened. That we are let in no longer is an outage.
    pub(crate) fn when_using(self) -> SignerError {
        match self.kind {
            Kind::Missing => SignerError::KeyMissing { cause: self.cause },
            Kind::Refused => SignerError::Refused { cause: self.cause },
            _ => SignerError::Unavailable { cause: self.cause, key_use: self.key_use },
        }
    }
}

fn key_use_of(code: u8) -> KeyUse {
    if command::USING_KEYS.contains(&code) { KeyUse::Unknown } else { KeyUse::None }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_signing_command_that_may_have_arrived_leaves_the_key_use_in_doubt() {
        let broken = |sent| Broken { sent, cause: String::new() };
        assert_eq!(Failure::broken(command::SIGN_EDDSA, broken(true)).key_use, KeyUse::Unknown);
        assert_eq!(Failure::broken(command::SIGN_EDDSA, broken(false)).key_use, KeyUse::None);
        assert_eq!(Failure::broken(command::ECHO, broken(true)).key_use, KeyUse::None);
        assert_eq!(Failure::by_device(command::SIGN_ECDSA, 0x10).key_use, KeyUse::Unknown);
    }

    #[test]
    fn each_refusal_of_the_device_has_its_meaning() {
        let when_using = |error| Failure::by_device(command::SIGN_HMAC, error).when_using();
        assert_eq!(when_using(device_error::INSUFFICIENT_PERMISSIONS).code(), "backend-refused");
        assert_eq!(when_using(device_error::OBJECT_NOT_FOUND).code(), "key-missing");
        let full = when_using(device_error::LOG_FULL);
        assert_eq!((full.code(), full.key_use()), ("backend-unavailable", KeyUse::None));
        assert!(full.to_string().contains("log is full"));
        assert_eq!(Failure::logged_out("p").when_opening().code(), "backend-refused");
        assert_eq!(Failure::logged_out("p").when_using().code(), "backend-unavailable");
    }
}
