//! What a PKCS#11 return code means for us: whose fault it is, what may help, and whether the key was used.

use chancery_format::entry::KeyUse;
use chancery_hsm::SignerError;
use cryptoki::context::Function;
use cryptoki::error::{Error, RvError};

/// What may help. Ordered: each does what those before it do, and more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Remedy {
    /// Look the key's handle up again.
    FindAgain,
    /// Open and log in a new session.
    Reopen,
    /// Initialise the module again.
    Reinitialise,
    /// Nothing we could do within this request.
    Hopeless,
}

impl Remedy {
    /// What to try when this one did not help.
    pub(crate) const fn next(self) -> Self {
        match self {
            Self::FindAgain => Self::Reopen,
            Self::Reopen => Self::Reinitialise,
            Self::Reinitialise | Self::Hopeless => Self::Hopeless,
        }
    }
}

/// Whose decision it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// May work later.
    Transient,
    /// The token shows other objects, but not the one asked for.
    Missing,
    /// The token shows no object at all: empty, or not really there.
    Empty,
    /// We cannot log in: the PIN is wrong or its file unreadable.
    LoggedOut,
    /// Will not work until an operator changes something.
    Refused,
}

/// One failed step on the device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Failure {
    pub(crate) kind: Kind,
    pub(crate) remedy: Remedy,
    pub(crate) key_use: KeyUse,
    pub(crate) cause: String,
}

impl Failure {
    pub(crate) fn transient(cause: impl Into<String>) -> Self {
        let cause = cause.into();
        Self { kind: Kind::Transient, remedy: Remedy::Reopen, key_use: KeyUse::None, cause }
    }

    pub(crate) fn missing(cause: impl Into<String>) -> Self {
        Self { kind: Kind::Missing, ..Self::transient(cause) }
    }

    /// No way to log in. Trying again by itself could lock the token.
    pub(crate) fn logged_out(cause: impl Into<String>) -> Self {
        Self { kind: Kind::LoggedOut, ..Self::refused(cause) }
    }

    pub(crate) fn refused(cause: impl Into<String>) -> Self {
        Self { kind: Kind::Refused, remedy: Remedy::Hopeless, ..Self::transient(cause) }
    }

    /// For opening a key, where a missing one is the configuration's mistake.
    pub(crate) fn when_opening(self) -> SignerError {
        match self.kind {
            Kind::Missing | Kind::Empty => SignerError::KeyMissing { cause: self.cause },
            Kind::Refused | Kind::LoggedOut => SignerError::Refused { cause: self.cause },
            Kind::Transient => SignerError::Unavailable { cause: self.cause, key_use: self.key_use },
        }
    }

    /// For using a key that was there when it was opened. A token that shows nothing any more, or lets
    /// us in no longer, is an outage; one key that is gone while others are there is not.
    pub(crate) fn when_using(self) -> SignerError {
        match self.kind {
            Kind::Missing if self.key_use == KeyUse::None => SignerError::KeyMissing { cause: self.cause },
            Kind::Refused if self.key_use == KeyUse::None => SignerError::Refused { cause: self.cause },
            _ => SignerError::Unavailable { cause: self.cause, key_use: self.key_use },
        }
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        let cause = error.to_string();
        let Error::Pkcs11(code, function) = error else {
            return Self::refused(cause); // the driver lacks a function or broke the calling rules
        };
        let key_use = match function {
            Function::Sign | Function::SignUpdate | Function::SignFinal => KeyUse::Unknown,
            _ => KeyUse::None,
        };
        let (kind, remedy) = judge(code);
        Self { kind, remedy, key_use, cause }
    }
}

fn judge(code: RvError) -> (Kind, Remedy) {
    use RvError as Rv;
    match code {
        Rv::ObjectHandleInvalid | Rv::KeyHandleInvalid => (Kind::Transient, Remedy::FindAgain),
        Rv::SessionHandleInvalid
        | Rv::SessionClosed
        | Rv::OperationActive
        | Rv::OperationNotInitialized
        | Rv::UserNotLoggedIn => (Kind::Transient, Remedy::Reopen),
        Rv::DeviceError
        | Rv::DeviceRemoved
        | Rv::DeviceMemory
        | Rv::TokenNotPresent
        | Rv::TokenNotRecognized
        | Rv::SlotIdInvalid
        | Rv::CryptokiNotInitialized
        | Rv::GeneralError
        | Rv::FunctionFailed => (Kind::Transient, Remedy::Reinitialise),
        Rv::MechanismInvalid
        | Rv::MechanismParamInvalid
        | Rv::KeyTypeInconsistent
        | Rv::KeyFunctionNotPermitted
        | Rv::KeySizeRange
        | Rv::DataInvalid
        | Rv::DataLenRange
        | Rv::FunctionNotSupported
        | Rv::PinIncorrect
        | Rv::PinInvalid
        | Rv::PinLenRange
        | Rv::PinExpired
        | Rv::PinLocked
        | Rv::UserPinNotInitialized
        | Rv::UserAnotherAlreadyLoggedIn
        | Rv::TokenWriteProtected
        | Rv::AttributeSensitive => (Kind::Refused, Remedy::Hopeless),
        _ => (Kind::Transient, Remedy::Hopeless),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn failure(code: RvError, function: Function) -> Failure {
        Failure::from(Error::Pkcs11(code, function))
    }

    #[test]
    fn only_failures_of_signing_itself_leave_the_key_use_in_doubt() {
        assert_eq!(failure(RvError::ObjectHandleInvalid, Function::SignInit).key_use, KeyUse::None);
        assert_eq!(failure(RvError::DeviceError, Function::Sign).key_use, KeyUse::Unknown);
        let refused_late = failure(RvError::DataLenRange, Function::Sign).when_using();
        assert_eq!((refused_late.code(), refused_late.key_use()), ("backend-unavailable", KeyUse::Unknown));
    }

    #[test]
    fn remedies_only_get_stronger() {
        let mut remedy = Remedy::FindAgain;
        while remedy != Remedy::Hopeless {
            assert!(remedy.next() > remedy);
            remedy = remedy.next();
        }
        assert_eq!(failure(RvError::PinIncorrect, Function::Login).remedy, Remedy::Hopeless);
        assert_eq!(failure(RvError::DeviceError, Function::OpenSession).remedy, Remedy::Reinitialise);
    }

    #[test]
    fn what_is_a_mistake_at_opening_may_be_an_outage_later() {
        assert_eq!(Failure::missing("m").when_opening().code(), "key-missing");
        assert_eq!(Failure::missing("m").when_using().code(), "key-missing");
        let empty = Failure { kind: Kind::Empty, ..Failure::missing("m") };
        assert_eq!(empty.clone().when_opening().code(), "key-missing");
        assert_eq!(empty.when_using().code(), "backend-unavailable");
        assert_eq!(Failure::logged_out("p").when_opening().code(), "backend-refused");
        assert_eq!(Failure::logged_out("p").when_using().code(), "backend-unavailable");
        assert_eq!(Failure::refused("r").when_using().code(), "backend-refused");
    }
}
