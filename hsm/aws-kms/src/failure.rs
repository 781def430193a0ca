//! What an error of KMS means: whose fault it is, whether another attempt may help, and whether the key may
//! have been used.

use std::error::Error;

use aws_credential_types::provider::error::CredentialsError;
use aws_sdk_kms::config::http::HttpResponse;
use aws_sdk_kms::error::{DisplayErrorContext, ProvideErrorMetadata, SdkError};
use chancery_format::entry::KeyUse;
use chancery_hsm::SignerError;
use hyper_util::client::legacy::Error as HttpError;

use crate::limits::CAUSE_BYTES_MAX;

/// KMS did nothing because it was asked too often.
const THROTTLED: [&str; 6] = [
    "ThrottlingException",
    "Throttling",
    "RequestLimitExceeded",
    "TooManyRequestsException",
    "RequestThrottled",
    "RequestThrottledException",
];

/// KMS failed, whatever status it says so with; nobody knows how far it got.
const FAILED_INSIDE: [&str; 8] = [
    "KMSInternalException",
    "DependencyTimeoutException",
    "KeyUnavailableException",
    "InternalFailure",
    "InternalServerError",
    "ServiceUnavailable",
    "RequestTimeout",
    "RequestTimeoutException",
];

/// Whose decision it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// May work at the next attempt.
    Transient,
    /// There is no such key.
    Missing,
    /// The key is there and switched off.
    Disabled,
    /// The role may not do this.
    Denied,
    /// Will not work until an operator changes something: credentials, or a key of another kind.
    Refused,
    /// No time was left before the first attempt.
    Deadline,
    /// The SDK panicked.
    Panicked,
}

/// One failed call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Failure {
    pub(crate) kind: Kind,
    pub(crate) key_use: KeyUse,
    pub(crate) cause: String,
}

impl Failure {
    pub(crate) fn new(kind: Kind, cause: impl Into<String>) -> Self {
        Self { kind, key_use: KeyUse::None, cause: shortened(cause.into()) }
    }

    pub(crate) fn with_use(self, key_use: KeyUse) -> Self {
        Self { key_use, ..self }
    }

    /// For the trait. An earlier attempt that may have used the key outweighs what the last one said.
    pub(crate) fn into_signer_error(self) -> SignerError {
        let Self { kind, key_use, cause } = self;
        match kind {
            Kind::Deadline => SignerError::Deadline(key_use),
            Kind::Panicked => SignerError::Panicked,
            Kind::Transient => SignerError::Unavailable { cause, key_use },
            _ if key_use != KeyUse::None => SignerError::Unavailable { cause, key_use },
            Kind::Missing => SignerError::KeyMissing { cause },
            Kind::Disabled => SignerError::KeyDisabled { cause },
            Kind::Denied | Kind::Refused => SignerError::Refused { cause },
        }
    }
}

/// Judges a failed attempt of `operation` on `label`. `uses_key` says whether the operation is one that uses
/// the key when it succeeds.
pub(crate) fn classify<E>(
    operation: &str,
    label: &str,
    uses_key: bool,
    error: &SdkError<E, HttpResponse>,
) -> Failure
where
    E: ProvideErrorMetadata + Error + 'static,
{
    let in_doubt = if uses_key { KeyUse::Unknown } else { KeyUse::None };
    let failure = |kind, text: String| Failure::new(kind, format!("\"{label}\": {operation}: {text}"));
    let told = || format!("{}", DisplayErrorContext(error));
    match error {
        SdkError::ServiceError(service) => {
            let status = service.raw().status().as_u16();
            let code = service.err().code().map_or_else(|| format!("HTTP {status}"), str::to_owned);
            let (kind, reached) = judge(status, &code);
            let message = service.err().message().unwrap_or("no reason given");
            failure(kind, format!("{code}: {message}")).with_use(if reached {
                in_doubt
            } else {
                KeyUse::None
            })
        }
        SdkError::ConstructionFailure(_) => failure(Kind::Refused, told()),
        SdkError::DispatchFailure(sent) if sent.is_user() => failure(Kind::Refused, told()),
        SdkError::DispatchFailure(_) => match before_sending(error) {
            Some(kind) => failure(kind, told()),
            None => failure(Kind::Transient, told()).with_use(in_doubt),
        },
        // Time-outs, lost connections, replies cut short or garbled.
        _ => failure(Kind::Transient, told()).with_use(in_doubt),
    }
}

/// The kind of what KMS answered, and whether it may have got as far as the key.
fn judge(status: u16, code: &str) -> (Kind, bool) {
    match code {
        _ if status == 429 || THROTTLED.contains(&code) => (Kind::Transient, false),
        _ if FAILED_INSIDE.contains(&code) => (Kind::Transient, true),
        "NotFoundException" => (Kind::Missing, false),
        "DisabledException" | "KMSInvalidStateException" => (Kind::Disabled, false),
        "AccessDeniedException" | "AccessDenied" => (Kind::Denied, false),
        // Success it may be, but nobody can read it.
        _ if !(300..500).contains(&status) => (Kind::Transient, true),
        _ => (Kind::Refused, false),
    }
}

/// The kind of a failure that came before anything was sent.
fn before_sending(error: &(dyn Error + 'static)) -> Option<Kind> {
    if let Some(credentials) = source_of::<CredentialsError>(error) {
        return Some(match credentials {
            CredentialsError::CredentialsNotLoaded(_) | CredentialsError::InvalidConfiguration(_) => {
                Kind::Refused
            }
            _ => Kind::Transient,
        });
    }
    source_of::<HttpError>(error).is_some_and(HttpError::is_connect).then_some(Kind::Transient)
}

fn source_of<'a, T: Error + 'static>(error: &'a (dyn Error + 'static)) -> Option<&'a T> {
    std::iter::successors(Some(error), |error| (*error).source()).find_map(|error| error.downcast_ref())
}

fn shortened(mut text: String) -> String {
    if text.len() > CAUSE_BYTES_MAX {
        text.truncate(text.floor_char_boundary(CAUSE_BYTES_MAX));
        text.push('…');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_answer_has_its_meaning() {
        for (status, code, kind, reached) in [
            (400, "ThrottlingException", Kind::Transient, false),
            (400, "RequestLimitExceeded", Kind::Transient, false),
            (429, "HTTP 429", Kind::Transient, false),
            (500, "KMSInternalException", Kind::Transient, true),
            (400, "KMSInternalException", Kind::Transient, true),
            (500, "DependencyTimeoutException", Kind::Transient, true),
            (500, "KeyUnavailableException", Kind::Transient, true),
            (503, "HTTP 503", Kind::Transient, true),
            (200, "HTTP 200", Kind::Transient, true),
            (400, "NotFoundException", Kind::Missing, false),
            (400, "DisabledException", Kind::Disabled, false),
            (400, "KMSInvalidStateException", Kind::Disabled, false),
            (400, "AccessDeniedException", Kind::Denied, false),
            (400, "UnrecognizedClientException", Kind::Refused, false),
            (400, "ExpiredTokenException", Kind::Refused, false),
            (400, "InvalidKeyUsageException", Kind::Refused, false),
            (400, "ValidationException", Kind::Refused, false),
            (301, "HTTP 301", Kind::Refused, false),
        ] {
            assert_eq!(judge(status, code), (kind, reached), "{status} {code}");
        }
    }

    #[test]
    fn a_use_in_doubt_outweighs_a_refusal() {
        let disabled = Failure::new(Kind::Disabled, "\"k\": off");
        assert_eq!(disabled.clone().into_signer_error().code(), "key-disabled");
        let after_doubt = disabled.with_use(KeyUse::Unknown).into_signer_error();
        assert_eq!((after_doubt.code(), after_doubt.key_use()), ("backend-unavailable", KeyUse::Unknown));
        for (kind, code) in [
            (Kind::Transient, "backend-unavailable"),
            (Kind::Missing, "key-missing"),
            (Kind::Denied, "backend-refused"),
            (Kind::Refused, "backend-refused"),
            (Kind::Deadline, "deadline-exceeded"),
            (Kind::Panicked, "backend-panicked"),
        ] {
            assert_eq!(Failure::new(kind, "x").into_signer_error().code(), code);
        }
    }

    #[test]
    fn causes_stay_short() {
        assert_eq!(Failure::new(Kind::Refused, "é".repeat(300)).cause.chars().count(), 201);
    }
}
