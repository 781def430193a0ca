//! What can be configured of a provider.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use crate::discovery::discovery_url;
use crate::limits;
use crate::outbound::{OutboundConfigError, UrlError};
use crate::role::Role;

/// Algorithms a token may be signed with. HMAC and `none` are not among them: with the first, whoever can check
/// a token can make one; with the second, everybody can.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TokenAlgorithm {
    /// RSA PKCS#1 v1.5 with SHA-256.
    Rs256,
    /// RSA-PSS with SHA-256.
    Ps256,
    /// ECDSA on P-256 with SHA-256.
    Es256,
    /// Ed25519 (RFC 8037).
    EdDsa,
}

impl TokenAlgorithm {
    /// Its name in headers (RFC 7518, section 3.1).
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Rs256 => "RS256",
            Self::Ps256 => "PS256",
            Self::Es256 => "ES256",
            Self::EdDsa => "EdDSA",
        }
    }

    /// The algorithm of that name, exactly as it is written in headers.
    pub fn parse(name: &str) -> Option<Self> {
        [Self::Rs256, Self::Ps256, Self::Es256, Self::EdDsa].into_iter().find(|it| it.as_str() == name)
    }

    pub(crate) const fn in_library(self) -> jsonwebtoken::Algorithm {
        match self {
            Self::Rs256 => jsonwebtoken::Algorithm::RS256,
            Self::Ps256 => jsonwebtoken::Algorithm::PS256,
            Self::Es256 => jsonwebtoken::Algorithm::ES256,
            Self::EdDsa => jsonwebtoken::Algorithm::EdDSA,
        }
    }
}

/// One provider and what we ask of its tokens.
#[derive(Debug, Clone)]
pub struct ProviderConfig {
    /// The provider's name for itself, a URL, exactly as in its tokens: `https`, or `http` on this machine; at
    /// most [`limits::ISSUER_CHARS_MAX`] characters.
    pub issuer: String,
    /// Our name: what `aud` must hold.
    pub audience: String,
    /// Clients that may speak for people here: what `azp` and `client_id` may be. At least one.
    pub client_ids: Vec<String>,
    /// Algorithms allowed; default RS256, ES256 and EdDSA.
    pub algorithms: Vec<TokenAlgorithm>,
    /// Difference allowed between the provider's clock and ours, whole seconds; default 60 s, at most 300 s.
    pub clock_skew: Duration,
    /// Longest time from a token's issue to its end, whole seconds; default 12 h.
    pub token_life_max: Duration,
    /// Age at which keys are fetched again, whole seconds; default 300 s.
    pub keys_ttl: Duration,
    /// Shortest time between two fetches, whole seconds, at least 1 s; default 10 s.
    pub keys_refresh_min: Duration,
    /// Time beyond [`ProviderConfig::keys_ttl`] for which keys serve while the provider cannot be reached, whole
    /// seconds; default 1 h. Longer means: a key that the provider withdrew serves longer.
    pub keys_stale_max: Duration,
    /// PEM file of the authorities that may vouch for the provider; `None`: the machine's own.
    pub ca_file: Option<PathBuf>,
    /// Where tokens name roles: members joined by dots, `*` for any one; a path that starts with `https://` is
    /// one member. Default `roles`, `groups`, `realm_access.roles`, and of `resource_access` what is under our own
    /// audience and clients: a role that somebody has in another team's client gives nothing here.
    pub roles_claims: Vec<String>,
    /// Claim values that give a role, exactly as written; before any built-in name (see [`Role::parse`]). A value
    /// such as `admin` gives superadmin only here: in most companies it is the administrator of something else.
    pub role_map: BTreeMap<String, Role>,
}

impl ProviderConfig {
    /// The defaults.
    pub fn new(issuer: impl Into<String>, audience: impl Into<String>, client_ids: Vec<String>) -> Self {
        let audience = audience.into();
        // A dot would lead elsewhere.
        let ours = client_ids.iter().chain([&audience]).filter(|name| !name.contains(['.', '*']));
        let ours = ours.map(|name| format!("resource_access.{name}.roles"));
        let everywhere = ["roles", "groups", "realm_access.roles"].map(str::to_owned);
        let roles_claims = everywhere.into_iter().chain(ours).collect();
        Self {
            issuer: issuer.into(),
            audience,
            client_ids,
            algorithms: vec![TokenAlgorithm::Rs256, TokenAlgorithm::Es256, TokenAlgorithm::EdDsa],
            clock_skew: limits::CLOCK_SKEW,
            token_life_max: limits::TOKEN_LIFE_MAX,
            keys_ttl: limits::KEYS_TTL,
            keys_refresh_min: limits::KEYS_REFRESH_MIN,
            keys_stale_max: limits::KEYS_STALE_MAX,
            ca_file: None,
            roles_claims,
            role_map: BTreeMap::new(),
        }
    }

    pub(crate) fn check(&self) -> Result<(), ConfigError> {
        if self.issuer.chars().count() > limits::ISSUER_CHARS_MAX {
            return Err(ConfigError::IssuerTooLong);
        }
        discovery_url(&self.issuer)?;
        for (empty, what) in [
            (self.audience.is_empty(), "audience"),
            (self.client_ids.is_empty() || self.client_ids.iter().any(String::is_empty), "client_ids"),
            (self.algorithms.is_empty(), "algorithms"),
            (self.roles_claims.iter().any(String::is_empty), "roles_claims"),
        ] {
            if empty {
                return Err(ConfigError::Empty(what));
            }
        }
        if self.clock_skew > limits::CLOCK_SKEW_MAX {
            return Err(ConfigError::OutOfRange("clock_skew must be at most 300 s"));
        }
        if self.keys_refresh_min < Duration::from_secs(1) {
            return Err(ConfigError::OutOfRange("keys_refresh_min must be at least 1 s"));
        }
        Ok(())
    }
}

/// Why a provider cannot be configured so. The operator is at fault; nothing was sent.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The issuer is not a URL that may be asked.
    #[error("issuer: {0}")]
    Issuer(#[from] UrlError),
    /// The issuer is too long to stand in a recorded name.
    #[error("issuer: longer than {} characters", limits::ISSUER_CHARS_MAX)]
    IssuerTooLong,
    /// A field that must say something is empty.
    #[error("{0} is empty")]
    Empty(&'static str),
    /// A number is outside its limits.
    #[error("{0}")]
    OutOfRange(&'static str),
    /// The authorities cannot be read.
    #[error(transparent)]
    Outbound(#[from] OutboundConfigError),
}
