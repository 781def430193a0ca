//! Hop 2: the certificate TLS verified becomes a name that grants can speak of.
//!
//! Promises: a [`Principal`] exists only if the TLS layer verified the certificate and exactly one
//! configured principal owns exactly one of its names. Refuses: two URI names, malformed SPIFFE ids,
//! wildcards, NUL bytes, two common names, DNS names that claim to be URIs, and anything not configured.
//!
//! The strongest kind of name present decides:
//!
//! 1. *URI SAN*: if there is any, there must be one, and it must be configured. `spiffe:` ids are held
//!    to the SPIFFE standard, with a path.
//! 2. *DNS SAN*: one of them must be configured; two that belong to different principals are refused.
//! 3. *Common name*: only against a principal whose `common_name` says so.
//!
//! All comparisons are of bytes: no case folding, no trailing dot, no wildcard on either side.
//!
//! Where there is no certificate at all, a bearer token that the operator wrote down (as its hash) stands for one
//! principal. A certificate that was shown always decides, whatever tokens come with it.

mod certificate;
mod directory;
mod session;

use std::net::SocketAddr;
use std::sync::Arc;

use chancery_format::{Hash, PrincipalName};
use hyper::header::{AUTHORIZATION, HeaderMap};

pub use certificate::ClientCertificate;
pub use directory::{Directory, NameShape, is_spiffe_id};
pub use session::{Authenticator, Session};

/// Characters of a bearer token: fewer can be guessed, more are none of ours.
const TOKEN_CHARS_MIN: usize = 32;
const TOKEN_CHARS_MAX: usize = 512;

/// Who is at the other end of a connection, as of this request.
#[derive(Debug, Clone)]
pub struct Peer {
    remote: SocketAddr,
    identity: Result<Arc<Principal>, IdentityError>,
}

impl Peer {
    /// Where the connection comes from; for logs and rates, never for decisions about keys.
    pub const fn remote(&self) -> SocketAddr {
        self.remote
    }

    /// The authenticated principal, or why there is none.
    pub fn principal(&self) -> Result<&Arc<Principal>, IdentityError> {
        self.identity.as_ref().map_err(|error| *error)
    }

    /// The same peer, or, if it showed no certificate, the principal its bearer token stands for.
    #[must_use]
    pub fn or_bearer(self, authenticator: &Authenticator, headers: &HeaderMap) -> Self {
        if !matches!(self.identity, Err(IdentityError::NoCertificate)) {
            return self;
        }
        let Some(token) = bearer_token(headers) else { return self };
        let identity = authenticator.resolve_token(token).map(Arc::new);
        Self { identity, ..self }
    }

    pub(crate) const fn new(remote: SocketAddr, identity: Result<Arc<Principal>, IdentityError>) -> Self {
        Self { remote, identity }
    }
}

/// The token of a request, wherever clients put theirs: `Authorization: Bearer`, `X-Vault-Token` or `x-illuvrse-token`.
/// `None` for none, for several, and for one that cannot be a token.
fn bearer_token(headers: &HeaderMap) -> Option<&str> {
    let authorization = headers.get_all(AUTHORIZATION).iter().filter_map(|value| {
        let (scheme, token) = value.to_str().ok()?.split_once(' ')?;
        scheme.eq_ignore_ascii_case("bearer").then_some(token.trim())
    });
    let named = ["x-vault-token", "x-illuvrse-token"].into_iter();
    let named = named.flat_map(|name| headers.get_all(name)).filter_map(|value| value.to_str().ok());
    let mut tokens = authorization.chain(named);
    match (tokens.next(), tokens.next()) {
        (Some(token), None) if (TOKEN_CHARS_MIN..=TOKEN_CHARS_MAX).contains(&token.len()) => Some(token),
        _ => None,
    }
}

/// A configured principal that showed a certificate, or a token. Made only by [`Directory::resolve`] and
/// [`Directory::resolve_token`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Principal {
    name: PrincipalName,
    certificate: Hash,
    source: IdentitySource,
}

impl Principal {
    /// The configured name, as recorded in leaves.
    pub const fn name(&self) -> &PrincipalName {
        &self.name
    }

    /// SHA-256 of the certificate's DER, or of the token.
    pub const fn certificate(&self) -> &Hash {
        &self.certificate
    }

    /// Which name of the certificate matched.
    pub const fn source(&self) -> IdentitySource {
        self.source
    }

    /// A principal without a certificate, for unit tests of later hops.
    #[cfg(test)]
    pub(crate) fn for_test(name: &str) -> Self {
        let name = name.parse().expect("tests name principals properly");
        Self { name, certificate: Hash([0; 32]), source: IdentitySource::UriSan }
    }
}

/// Which name of a certificate matched.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum IdentitySource {
    /// The one URI of the subject alternative names.
    UriSan,
    /// A DNS name of the subject alternative names.
    DnsSan,
    /// The subject's common name, for a principal configured with `common_name`.
    CommonName,
    /// No certificate: a bearer token.
    BearerToken,
}

impl IdentitySource {
    /// The word in logs.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::UriSan => "uri-san",
            Self::DnsSan => "dns-san",
            Self::CommonName => "common-name",
            Self::BearerToken => "bearer-token",
        }
    }
}

/// Why a connection has no principal. The caller is at fault in every case but the first three, which
/// a new certificate cures.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum IdentityError {
    /// TLS saw no client certificate.
    #[error("no client certificate")]
    NoCertificate,
    /// The certificate ran out while the connection was open.
    #[error("the client certificate has expired")]
    Expired,
    /// The certificate no longer verifies: revoked, or its authority was removed, since the handshake.
    #[error("the client certificate is no longer accepted")]
    Withdrawn,
    /// Not a certificate this parser can read strictly, or a name in it is not plain text.
    #[error("the client certificate's names cannot be read")]
    Malformed,
    /// More than one URI name: whose is it?
    #[error("the client certificate has more than one URI name")]
    ManyUris,
    /// `spiffe:` but not a SPIFFE workload id.
    #[error("the client certificate's SPIFFE id is not valid")]
    InvalidSpiffe,
    /// A wildcard is no identity.
    #[error("the client certificate has a wildcard name")]
    Wildcard,
    /// More than one common name.
    #[error("the client certificate has more than one common name")]
    ManyCommonNames,
    /// DNS names of two principals in one certificate.
    #[error("the client certificate names more than one principal")]
    ManyPrincipals,
    /// No certificate, and a bearer token that stands for nobody.
    #[error("there is no client certificate, and the bearer token stands for nobody")]
    UnknownToken,
    /// Names that can be read, but none of a configured principal.
    #[error("the client certificate names no configured principal")]
    Unknown,
}

impl IdentityError {
    /// The word in logs and metrics.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::NoCertificate => "no-certificate",
            Self::Expired => "expired",
            Self::Withdrawn => "withdrawn",
            Self::Malformed => "malformed",
            Self::ManyUris => "many-uris",
            Self::InvalidSpiffe => "invalid-spiffe",
            Self::Wildcard => "wildcard",
            Self::ManyCommonNames => "many-common-names",
            Self::ManyPrincipals => "many-principals",
            Self::UnknownToken => "unknown-token",
            Self::Unknown => "unknown",
        }
    }

    /// Whether another certificate is what is missing (401), rather than a grant (403).
    pub const fn wants_certificate(self) -> bool {
        matches!(self, Self::NoCertificate | Self::Expired | Self::Withdrawn)
    }

    /// Whether nothing on this connection can succeed any more.
    pub const fn ends_connection(self) -> bool {
        matches!(self, Self::Expired | Self::Withdrawn)
    }
}
