//! The table of problem codes: name, status, title, meaning. A row is a promise.

macro_rules! codes {
    ($($name:ident $text:literal $status:literal $title:literal $meaning:literal;)*) => {
        /// Every reason the service refuses for, in the order of the documentation.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum Code { $(#[doc = $meaning] $name,)* }

        impl Code {
            /// Every code.
            pub const ALL: &[Self] = &[$(Self::$name,)*];

            /// The stable name in `code` and in the type URI.
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$name => $text,)* }
            }

            /// The HTTP status, fixed for each code.
            pub const fn status(self) -> u16 {
                match self { $(Self::$name => $status,)* }
            }

            /// The short summary, fixed for each code.
            pub const fn title(self) -> &'static str {
                match self { $(Self::$name => $title,)* }
            }

            /// Whose fault it is and what to do, for the documentation.
            pub const fn meaning(self) -> &'static str {
                match self { $(Self::$name => $meaning,)* }
            }
        }
    };
}

codes! {
    InvalidJson "invalid-json" 400 "Body is not a JSON object" "The body is not JSON, not UTF-8 or not an object. Do not retry unchanged.";
    UnknownField "unknown-field" 400 "Unknown field" "A field is not part of this call; misspelt options never pass unnoticed. Do not retry unchanged.";
    DuplicateKey "duplicate-key" 400 "Duplicate key" "A JSON object has one name twice. Do not retry unchanged.";
    MissingField "missing-field" 400 "Missing field" "A required field is not there. Do not retry unchanged.";
    InvalidField "invalid-field" 400 "Invalid field" "A field, header or parameter has the wrong type or breaks its rule. Do not retry unchanged.";
    InvalidDigest "invalid-digest" 400 "Invalid digest" "The digest is not lower-case hexadecimal, or its algorithm is unknown. Do not retry unchanged.";
    WrongDigestLength "wrong-digest-length" 400 "Wrong digest length" "The digest's length is not its algorithm's. Hash the document first; documents are never signed. Do not retry unchanged.";
    InvalidBase64 "invalid-base64" 400 "Invalid base64" "Binary must be standard base64 with padding, in its one spelling. Do not retry unchanged.";
    IncompleteBody "incomplete-body" 400 "Incomplete body" "The connection failed before the body was complete. Retry.";
    ClientCertificateRequired "client-certificate-required" 401 "Client certificate required" "The connection has no client certificate; only health checks are open without. Connect with one.";
    TokenRequired "token-required" 401 "Sign-in required" "The call needs a bearer token of the company's identity provider. Sign in: `chancery login`.";
    TokenRefused "token-refused" 401 "Token refused" "The bearer token is not one this appliance accepts; the detail says why. Sign in again.";
    BearerTokenRefused "bearer-token-refused" 401 "Bearer token refused" "The connection has no client certificate, and its bearer token stands for nobody. Ask the operator for a token, or connect with a certificate.";
    RoleMissing "role-missing" 403 "Role missing" "No policy allows this person to do this; the detail names the roles that may. Ask who gives out roles.";
    ApprovalRefused "approval-refused" 403 "Approval refused" "This person's word does not count for this request; the detail says why.";
    PolicyDenied "policy-denied" 403 "Denied by policy" "A policy of the operator denies this; the detail names it. Ask the operator.";
    HookDenied "policy-hook-denied" 403 "Denied by the policy service" "The company's policy service denies this; the detail names its policy. Ask who looks after it.";
    UnknownPrincipal "unknown-principal" 403 "Unknown principal" "The certificate is valid but names nobody who was granted anything. Ask the operator.";
    OperationNotGranted "operation-not-granted" 403 "Operation not granted" "The principal may not do this. Ask the operator.";
    KidNotGranted "kid-not-granted" 403 "Key not granted" "The principal may not use this key. Ask the operator.";
    CanaryKey "canary-key" 403 "Key not in use" "Nobody may use this key; the attempt was recorded, and somebody was told. Do not retry.";
    DialectNotGranted "dialect-not-granted" 403 "Dialect not granted" "The principal, or the key, is not for this dialect. Ask the operator.";
    StreamNotGranted "stream-not-granted" 403 "Stream not granted" "The principal may not read or write this stream. Ask the operator.";
    PayloadNotGranted "payload-not-granted" 403 "Payload not granted" "The answer would hold payloads of others, which the principal may not read. Ask the operator.";
    NotFound "not-found" 404 "Not found" "There is nothing at this path.";
    UnknownKid "unknown-kid" 404 "Unknown key" "No key has this name. Do not retry unchanged.";
    MethodNotAllowed "method-not-allowed" 405 "Method not allowed" "The path exists, the method does not; see `Allow`.";
    BodyTimeout "body-timeout" 408 "Body took too long" "The body did not arrive in time. Nothing happened; retry.";
    IdempotencyConflict "idempotency-conflict" 409 "Idempotency key reused" "The Idempotency-Key was used for a different request. Use a new key, or repeat the first request exactly.";
    RequestInFlight "request-in-flight" 503 "Same request in flight" "The same request under the same Idempotency-Key is being worked on and cannot be waited for here. Retry to get its answer.";
    IdConflict "id-conflict" 409 "Event id exists" "An event with this id is on the ledger. Use another id, or an Idempotency-Key to make retries safe.";
    BodyTooLarge "body-too-large" 413 "Body too large" "The body is over the limit. Send less, or fewer items.";
    BatchTooLarge "batch-too-large" 413 "Too many items" "The batch is over the limit. Split it.";
    EventTooLarge "event-too-large" 413 "Event too large" "The event would exceed 65,535 bytes on the ledger. Send a digest of the data instead.";
    UnsupportedMediaType "unsupported-media-type" 415 "Unsupported media type" "The body must be `application/json` in UTF-8, without content coding.";
    AlgorithmMismatch "algorithm-mismatch" 422 "Key cannot do this" "The key's algorithm does not fit the call: a MAC key does not sign, a signing key makes no MACs, and some take digests of one kind only.";
    WrongState "wrong-state" 409 "Not in this state" "The request makes sense, but not now: the detail says what stands against it. Look, then ask again.";
    UnsupportedMode "unsupported-mode" 422 "Unsupported mode" "Nothing may be anchored in this key's name. Use `individual`, or ask the operator.";
    ReservedName "reserved-name" 422 "Reserved name" "The stream, actor or event type is the appliance's own, so that nobody else can write in its name.";
    RateLimited "rate-limited" 429 "Too many requests" "The principal is over its rate. Nothing happened; retry after `Retry-After`.";
    QuotaExceeded "quota-exceeded" 429 "Quota used up" "The principal's or the key's quota of the day (UTC) is used up. Nothing happened; retry after `Retry-After`, or ask the operator.";
    KeyExhausted "key-exhausted" 403 "Key is used up" "The key pair was used as often as it may be in its whole life. Nothing happened; the operator must rotate it.";
    SigningFailed "signing-failed" 500 "Signing failed" "The key's device refused or gave a wrong signature. The failure is on the ledger; the operator must act.";
    Internal "internal" 500 "Internal error" "Our fault. What happened is unknown to the caller; retry with the same Idempotency-Key.";
    Halted "halted" 503 "Halted" "The kill switch is pulled: no key is used. Retry when the operator has resumed.";
    BackendUnavailable "backend-unavailable" 503 "Key device unavailable" "The device that holds the key does not answer. No signature was released; retry.";
    KeyDisabled "key-disabled" 503 "Key is disabled" "The device or service that holds the key says it is switched off. No signature was released; retry when the operator has enabled it.";
    ProviderUnavailable "identity-provider-unavailable" 503 "Identity provider unavailable" "Tokens cannot be checked because the identity provider does not answer. Nobody is let in unchecked; retry.";
    HookUnavailable "policy-hook-unavailable" 503 "Policy service unavailable" "A policy wants the company's policy service asked, and it gave no answer in time. Nothing is signed unasked; retry.";
    Overloaded "overloaded" 503 "Overloaded" "Too many requests are under way. Nothing happened; retry after `Retry-After`.";
    LedgerFull "ledger-full" 503 "Ledger is full" "The ledger's disk has no room left above its reserve. Nothing is signed unrecorded. Retry when the operator has made room.";
    ArchiveLag "archive-lag" 503 "Archive is behind" "The archive is too far behind the ledger. Nothing happened; retry.";
    Draining "draining" 503 "Shutting down" "This instance is shutting down. Retry, on another connection.";
    ReleasePending "release-pending" 503 "Release pending" "It is done and on the ledger, but what must hold before release (a checkpoint, the archive) does not hold yet. Retry with the same Idempotency-Key.";
}

impl Code {
    /// Seconds after which a retry makes sense; sent as `Retry-After` with each 429 and 503.
    pub const fn retry_after_s(self) -> Option<u32> {
        match self {
            Self::Halted | Self::LedgerFull | Self::KeyDisabled => Some(30),
            Self::ArchiveLag => Some(10),
            Self::RateLimited
            | Self::QuotaExceeded
            | Self::RequestInFlight
            | Self::BackendUnavailable
            | Self::ProviderUnavailable
            | Self::HookUnavailable
            | Self::Overloaded
            | Self::Draining
            | Self::ReleasePending => Some(1),
            _ => None,
        }
    }

    /// Whether the answer is the decision of a rule, and so belongs on the ledger's refusal record.
    /// What is merely not there, too slow or our own fault does not.
    pub const fn is_refusal(self) -> bool {
        !matches!(
            self,
            Self::NotFound
                | Self::MethodNotAllowed
                | Self::BodyTimeout
                | Self::IncompleteBody
                | Self::SigningFailed
                | Self::Internal
                | Self::RequestInFlight
                | Self::BackendUnavailable
                | Self::KeyDisabled
                | Self::ProviderUnavailable
                | Self::WrongState
                | Self::Overloaded
                | Self::Draining
                | Self::ReleasePending
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_unique_kebab_case_and_have_error_statuses() {
        let mut seen = std::collections::BTreeSet::new();
        for code in Code::ALL {
            let text = code.as_str();
            assert!(seen.insert(text), "{text} twice");
            assert!(
                text.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-')
            );
            assert!((400..600).contains(&code.status()), "{text}");
            assert!(!code.title().contains(['"', '\\']) && !code.meaning().is_empty());
            assert_eq!(code.retry_after_s().is_some(), matches!(code.status(), 429 | 503), "{text}");
        }
    }
}
