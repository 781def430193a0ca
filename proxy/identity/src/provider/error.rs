//! Why a token is refused.

/// Why no person was recognised. No variant holds any part of the token.
///
/// The caller is at fault, and the same token will be refused again, except where a variant says otherwise.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    /// Longer than [`crate::limits::TOKEN_BYTES_MAX`].
    #[error("the token is too large")]
    TooLarge,
    /// Not a signed JWT (RFC 7515, RFC 7519), a member said twice, or a required claim missing or of the wrong
    /// type.
    #[error("the token is malformed: {0}")]
    Malformed(&'static str),
    /// `typ` is something else than `JWT` or `at+jwt` (RFC 9068): a logout token, say.
    #[error("the token is of another type")]
    WrongType,
    /// `crit` asks for an extension (RFC 7515, section 4.1.11); we know none.
    #[error("the token asks for an extension")]
    CriticalHeader,
    /// Signed with an algorithm that is not configured, or not at all.
    #[error("the token's algorithm is not allowed")]
    AlgorithmNotAllowed,
    /// The provider does not publish the key, or published it within the last moments: a new token may pass
    /// after [`crate::ProviderConfig::keys_refresh_min`].
    #[error("the token's signing key is not known")]
    UnknownSigningKey,
    /// The key is for another algorithm than the one the header names.
    #[error("the token's signing key is for another algorithm")]
    KeyMismatch,
    /// The signature does not hold.
    #[error("the token's signature is not valid")]
    BadSignature,
    /// `iss` is another provider.
    #[error("the token is another issuer's")]
    WrongIssuer,
    /// `aud` does not name us.
    #[error("the token is for another audience")]
    WrongAudience,
    /// `azp` or `client_id` is a client that may not speak for people here, or is missing in a token for several
    /// audiences.
    #[error("the token was given to another client")]
    WrongClient,
    /// `exp` has passed; a new token may pass.
    #[error("the token has expired")]
    Expired,
    /// `nbf` or `iat` is in the future, beyond the allowed clock skew. A clock is wrong; the token may pass later.
    #[error("the token is not valid yet")]
    NotYetValid,
    /// `exp` is further from `iat` than [`crate::ProviderConfig::token_life_max`]. The provider's configuration
    /// is at fault.
    #[error("the token is valid for too long")]
    TooLongLived,
    /// The provider cannot be asked, or answers nonsense, and no keys are known that are young enough. Not the
    /// caller's fault; the same token may pass later. The log says more.
    #[error("the identity provider cannot be reached")]
    ProviderUnreachable,
}

impl TokenError {
    /// A stable word for clients and metrics.
    pub const fn code(self) -> &'static str {
        match self {
            Self::TooLarge => "token-too-large",
            Self::Malformed(_) => "malformed-token",
            Self::WrongType => "wrong-token-type",
            Self::CriticalHeader => "critical-header",
            Self::AlgorithmNotAllowed => "algorithm-not-allowed",
            Self::UnknownSigningKey => "unknown-signing-key",
            Self::KeyMismatch => "key-algorithm-mismatch",
            Self::BadSignature => "bad-signature",
            Self::WrongIssuer => "wrong-issuer",
            Self::WrongAudience => "wrong-audience",
            Self::WrongClient => "wrong-client",
            Self::Expired => "expired",
            Self::NotYetValid => "not-yet-valid",
            Self::TooLongLived => "too-long-lived",
            Self::ProviderUnreachable => "provider-unreachable",
        }
    }

    /// Whether we are unable to tell (503, retry) and not the token wrong (401).
    pub const fn is_unavailable(self) -> bool {
        matches!(self, Self::ProviderUnreachable)
    }
}
