//! What a provider says of itself (OpenID Connect Discovery 1.0).
//!
//! Promises: the description is of exactly the issuer asked for, and an `https` issuer leads to `https` only.

use serde::Deserialize;

use crate::outbound::{Outbound, OutboundError, RemoteUrl, UrlError};

/// Why a provider's description cannot be used. The provider is at fault, or the configured issuer; nothing was
/// changed anywhere.
#[derive(Debug, thiserror::Error)]
pub enum DiscoveryError {
    /// It was not given. Retry later.
    #[error("{url}: {cause}")]
    Call {
        /// Where it should be.
        url: String,
        /// What happened.
        cause: OutboundError,
    },
    /// The provider calls itself by another name: retrying cannot help.
    #[error("the provider calls itself {0:?}, not as configured")]
    OtherIssuer(String),
    /// An address in it may not be called: retrying cannot help.
    #[error("the provider's description: {0}")]
    Url(#[from] UrlError),
}

/// Where to ask a provider for what.
#[derive(Debug, Clone)]
pub struct Discovery {
    /// Its keys.
    pub jwks_uri: RemoteUrl,
    /// Tokens (RFC 6749), if it gives any this way.
    pub token_endpoint: Option<RemoteUrl>,
    /// Codes for devices without a browser (RFC 8628), if it has that flow.
    pub device_authorization_endpoint: Option<RemoteUrl>,
    /// Taking tokens back (RFC 7009), if it can.
    pub revocation_endpoint: Option<RemoteUrl>,
}

#[derive(Deserialize)]
struct Published {
    issuer: String,
    jwks_uri: String,
    token_endpoint: Option<String>,
    device_authorization_endpoint: Option<String>,
    revocation_endpoint: Option<String>,
}

impl Discovery {
    /// Asks once. `issuer`: the provider's name for itself, exactly.
    pub async fn fetch(outbound: &Outbound, issuer: &str) -> Result<Self, DiscoveryError> {
        let url = discovery_url(issuer)?;
        let published: Result<Published, _> = outbound.get(&url).await.and_then(|reply| reply.ok());
        let published =
            published.map_err(|cause| DiscoveryError::Call { url: url.as_str().to_owned(), cause })?;
        if published.issuer != issuer {
            return Err(DiscoveryError::OtherIssuer(published.issuer.chars().take(256).collect()));
        }
        let below = |text: Option<String>| text.map(|text| no_worse(&url, &text)).transpose();
        Ok(Self {
            jwks_uri: no_worse(&url, &published.jwks_uri)?,
            token_endpoint: below(published.token_endpoint)?,
            device_authorization_endpoint: below(published.device_authorization_endpoint)?,
            revocation_endpoint: below(published.revocation_endpoint)?,
        })
    }
}

/// Where an issuer describes itself (section 4); the issuer has neither query nor fragment (section 3).
pub(crate) fn discovery_url(issuer: &str) -> Result<RemoteUrl, UrlError> {
    if issuer.contains('?') {
        return Err(UrlError::NotPlain(issuer.to_owned()));
    }
    let _: RemoteUrl = issuer.parse()?;
    format!("{}/.well-known/openid-configuration", issuer.strip_suffix('/').unwrap_or(issuer)).parse()
}

/// From `https` nobody leads us down to `http`.
fn no_worse(from: &RemoteUrl, text: &str) -> Result<RemoteUrl, UrlError> {
    let url: RemoteUrl = text.parse()?;
    if from.is_https() && !url.is_https() { Err(UrlError::NotSecure(text.to_owned())) } else { Ok(url) }
}

#[cfg(test)]
mod tests {
    use super::discovery_url;

    #[test]
    fn the_description_is_below_the_issuer() {
        let at = |issuer: &str| discovery_url(issuer).map(|url| url.as_str().to_owned());
        let end = ".well-known/openid-configuration";
        assert_eq!(at("https://login.example"), Ok(format!("https://login.example/{end}")));
        assert_eq!(at("https://login.example/"), Ok(format!("https://login.example/{end}")));
        assert_eq!(at("https://kc.example/realms/a"), Ok(format!("https://kc.example/realms/a/{end}")));
        assert!(at("https://login.example?x").is_err() && at("https://login.example#x").is_err());
    }
}
