//! What a client is told when the answer is no: RFC 9457 problems with stable codes.
//!
//! The only file that knows error status codes. A [`Problem`] has two readers: the client gets `code`,
//! `detail` and the request id; the log line gets the code and, where there is one, the cause. Codes are
//! promises: one is never renamed and never changes its status.

mod code;

use std::borrow::Cow;
use std::fmt::Write as _;

use chancery_format::governance::Fault;
use chancery_hsm::SignerError;
use chancery_ledger::RollError;
use hyper::StatusCode;

pub use self::code::Code;
use crate::admission::Refusal;
use crate::authenticate::IdentityError;
use crate::governance::GovernanceError;
use crate::request::RequestError;
use crate::signing::SigningError;
use crate::strict_json::JsonError;

/// Media type of every error body.
pub const MEDIA_TYPE: &str = "application/problem+json";

/// One refusal on its way to the client.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    code: Code,
    detail: Cow<'static, str>,
    cause: Option<String>,
    retry_after_s: Option<u32>,
    allow: Option<&'static str>,
}

impl Problem {
    /// A problem whose detail says what is wrong with this request.
    pub fn new(code: Code, detail: impl Into<Cow<'static, str>>) -> Self {
        Self { code, detail: detail.into(), cause: None, retry_after_s: code.retry_after_s(), allow: None }
    }

    /// A problem that needs no more words than its code has.
    pub fn plain(code: Code) -> Self {
        Self::new(code, code.meaning())
    }

    /// Our own fault: the client learns nothing but the request id, the log gets the cause.
    pub fn internal(cause: impl std::fmt::Display) -> Self {
        Self::plain(Code::Internal).caused_by(cause)
    }

    /// Says it in other words.
    #[must_use]
    pub fn with_detail(mut self, detail: String) -> Self {
        self.detail = detail.into();
        self
    }

    /// Adds what only the log may see.
    #[must_use]
    pub fn caused_by(mut self, cause: impl std::fmt::Display) -> Self {
        self.cause = Some(cause.to_string());
        self
    }

    /// Replaces the code's usual waiting time.
    #[must_use]
    pub fn retry_after(mut self, seconds: u32) -> Self {
        self.retry_after_s = Some(seconds.max(1));
        self
    }

    /// Adds the `Allow` header of a 405.
    #[must_use]
    pub fn allowing(mut self, methods: &'static str) -> Self {
        self.allow = Some(methods);
        self
    }

    /// The stable code.
    pub const fn code(&self) -> Code {
        self.code
    }

    /// What the client reads.
    pub fn detail(&self) -> &str {
        &self.detail
    }

    /// What only the log reads.
    pub fn cause(&self) -> Option<&str> {
        self.cause.as_deref()
    }

    /// The HTTP status.
    pub fn status(&self) -> StatusCode {
        StatusCode::from_u16(self.code.status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
    }

    /// Value of `Retry-After`, if one is sent.
    pub const fn retry_after_s(&self) -> Option<u32> {
        self.retry_after_s
    }

    /// Value of `Allow`, if one is sent.
    pub const fn allow(&self) -> Option<&'static str> {
        self.allow
    }

    /// The RFC 9457 object, also used for the items of a batch.
    pub fn body(&self, request_id: &str) -> String {
        let (code, status, title) = (self.code.as_str(), self.code.status(), self.code.title());
        let detail = serde_json::Value::from(self.detail.as_ref());
        let mut out = String::with_capacity(256);
        let _ = write!(
            out,
            r#"{{"type":"urn:chancery:problem:{code}","title":"{title}","status":{status},"detail":{detail},"code":"{code}","requestId":"{request_id}"}}"#
        );
        out
    }
}

impl Problem {
    /// What the failure code of a committed outcome means to the caller. The failure is on the ledger.
    pub fn key_use_failed(failure: &str) -> Self {
        let code = match failure {
            "halted" => Code::Halted,
            "backend-busy" => Code::Overloaded,
            "deadline-exceeded" | "backend-unavailable" => Code::BackendUnavailable,
            "key-disabled" => Code::KeyDisabled,
            _ => Code::SigningFailed,
        };
        Self::new(code, format!("no signature was released: {failure}"))
    }
}

impl From<GovernanceError> for Problem {
    fn from(error: GovernanceError) -> Self {
        match error {
            GovernanceError::Fault(
                fault @ (Fault::NotAnApprover(_)
                | Fault::SelfApproval(_)
                | Fault::SpokenAlready(_)
                | Fault::Approval(_)),
            ) => Self::new(Code::ApprovalRefused, fault.to_string()),
            GovernanceError::Fault(fault) => Self::new(Code::WrongState, fault.to_string()),
            GovernanceError::Roll(error) => error.into(),
            error => Self::internal(error),
        }
    }
}

impl From<JsonError> for Problem {
    fn from(error: JsonError) -> Self {
        let code = match error {
            JsonError::Syntax { .. } | JsonError::NotAnObject { .. } => Code::InvalidJson,
            JsonError::UnknownField { .. } => Code::UnknownField,
            JsonError::DuplicateKey { .. } => Code::DuplicateKey,
            JsonError::MissingField { .. } => Code::MissingField,
            JsonError::InvalidField { .. } => Code::InvalidField,
        };
        Self::new(code, error.to_string())
    }
}

impl From<RequestError> for Problem {
    fn from(error: RequestError) -> Self {
        let code = match error {
            RequestError::Json(error) => return error.into(),
            RequestError::BodyTooLarge { .. } => Code::BodyTooLarge,
            RequestError::BodyTimeout { .. } => Code::BodyTimeout,
            RequestError::BodyIncomplete => Code::IncompleteBody,
            RequestError::MediaType => Code::UnsupportedMediaType,
            RequestError::TooManyItems { .. } => Code::BatchTooLarge,
            RequestError::DigestLength { .. } => Code::WrongDigestLength,
            RequestError::Digest { .. } => Code::InvalidDigest,
            RequestError::Base64 { .. } => Code::InvalidBase64,
            RequestError::MetadataTooLarge { .. } => Code::EventTooLarge,
            RequestError::Reserved { .. } => Code::ReservedName,
            RequestError::Parameter { .. } => Code::InvalidField,
        };
        Self::new(code, error.to_string())
    }
}

impl From<IdentityError> for Problem {
    fn from(error: IdentityError) -> Self {
        let code = match error {
            IdentityError::UnknownToken => Code::BearerTokenRefused,
            error if error.wants_certificate() => Code::ClientCertificateRequired,
            _ => Code::UnknownPrincipal,
        };
        Self::new(code, error.to_string())
    }
}

impl From<Refusal> for Problem {
    fn from(refusal: Refusal) -> Self {
        let code = match &refusal {
            Refusal::UnknownPrincipal => Code::UnknownPrincipal,
            Refusal::Halted(_) => Code::Halted,
            Refusal::Draining => Code::Draining,
            Refusal::ArchiveLag => Code::ArchiveLag,
            Refusal::LedgerFull => Code::LedgerFull,
            Refusal::RateLimited(limited) => {
                let seconds = u32::try_from(limited.retry_after.as_secs()).unwrap_or(u32::MAX);
                return Self::new(Code::RateLimited, limited.to_string())
                    .retry_after(seconds.saturating_add(1));
            }
            Refusal::QuotaExceeded { exceeded, .. } => {
                let seconds = u32::try_from(exceeded.resets_in_s).unwrap_or(u32::MAX);
                return Self::new(Code::QuotaExceeded, refusal.to_string()).retry_after(seconds);
            }
            Refusal::KeyExhausted { .. } => Code::KeyExhausted,
            Refusal::OperationNotGranted { .. } => Code::OperationNotGranted,
            Refusal::UnknownKid { .. } => Code::UnknownKid,
            Refusal::KidNotGranted { .. } => Code::KidNotGranted,
            Refusal::Canary { .. } => Code::CanaryKey,
            Refusal::DialectNotGranted { .. } => Code::DialectNotGranted,
            Refusal::StreamNotGranted { .. } => Code::StreamNotGranted,
            Refusal::PayloadNotGranted { .. } => Code::PayloadNotGranted,
            Refusal::NotAnchored { .. } => Code::UnsupportedMode,
            Refusal::AlgorithmMismatch { .. } | Refusal::DigestMismatch { .. } => Code::AlgorithmMismatch,
        };
        Self::new(code, refusal.to_string())
    }
}

impl From<SignerError> for Problem {
    fn from(error: SignerError) -> Self {
        let code = match &error {
            SignerError::Halted => Code::Halted,
            SignerError::UnknownKey => Code::UnknownKid,
            SignerError::LedgerKey => Code::KidNotGranted,
            SignerError::WrongInput => Code::AlgorithmMismatch,
            SignerError::Busy => Code::Overloaded,
            SignerError::Deadline(_) | SignerError::Unavailable { .. } => Code::BackendUnavailable,
            SignerError::KeyDisabled { .. } => Code::KeyDisabled,
            SignerError::KeyMissing { .. }
            | SignerError::Refused { .. }
            | SignerError::BadSignature
            | SignerError::Panicked => Code::SigningFailed,
        };
        // The text may name devices and files: it is for the log.
        Self::plain(code).caused_by(error)
    }
}

impl From<RollError> for Problem {
    fn from(error: RollError) -> Self {
        let code = match &error {
            RollError::Closed => Code::Draining,
            RollError::Overloaded => Code::Overloaded,
            RollError::Full => Code::LedgerFull,
            RollError::ReplayConflict => Code::IdempotencyConflict,
            RollError::InFlight => Code::RequestInFlight,
            RollError::IdConflict => Code::IdConflict,
            RollError::TooLarge(_) => Code::EventTooLarge,
            RollError::BatchTooLarge => Code::BatchTooLarge,
            RollError::OutOfRange => Code::NotFound,
            RollError::Fatal(_)
            | RollError::Malformed(_)
            | RollError::CheckpointNotNewer
            | RollError::NotRecorded
            | RollError::OtherOrigin
            | RollError::RegistryConflict
            | RollError::EpochConflict
            | RollError::Unreadable(_) => return Self::internal(error),
        };
        Self::plain(code)
    }
}

impl From<SigningError> for Problem {
    fn from(error: SigningError) -> Self {
        match error {
            SigningError::Roll(error) => error.into(),
            SigningError::TaskDied => Self::internal(error),
        }
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a failed unwrap is the test's failure")]
    use super::*;

    #[test]
    fn the_body_is_a_problem_and_escapes_what_the_caller_sent() {
        let body = Problem::new(Code::UnknownField, "unknown field a\"\n").caused_by("secret").body("r-1");
        let value: serde_json::Value = serde_json::from_str(&body).unwrap();
        let expected = serde_json::json!({
            "type": "urn:chancery:problem:unknown-field", "title": "Unknown field", "status": 400,
            "detail": "unknown field a\"\n", "code": "unknown-field", "requestId": "r-1",
        });
        assert_eq!(value, expected);
    }
}
