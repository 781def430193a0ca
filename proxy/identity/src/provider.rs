//! A token becomes a person.
//!
//! Promises: the checks below, all of them, in this order; the payload is not read before the signature holds.
//! Never waits for the provider longer than [`crate::limits::PROVIDER_TIMEOUT`] times two, and not at all while
//! known keys are fresh.

mod cache;
mod claims;
mod config;
mod error;
mod jws;
mod keys;

use std::collections::BTreeSet;

use chancery_format::Hash;

use crate::outbound::{Outbound, OutboundConfig};
use crate::person::{Person, principal_name};
use crate::{Role, limits};
use cache::KeyCache;
use claims::{Claims, Rules};
use jws::Jws;
use keys::Found;

pub use config::{ConfigError, ProviderConfig, TokenAlgorithm};
pub use error::TokenError;

/// One OpenID provider and what we ask of its tokens. To be shared by all requests.
pub struct Provider {
    config: ProviderConfig,
    keys: KeyCache,
}

impl Provider {
    /// Checks the configuration; asks nobody yet, so that the daemon starts while the provider is away.
    pub fn new(config: ProviderConfig) -> Result<Self, ConfigError> {
        config.check()?;
        let outbound = Outbound::new(&OutboundConfig {
            ca_file: config.ca_file.clone(),
            connect_timeout: limits::CONNECT_TIMEOUT,
            total_timeout: limits::PROVIDER_TIMEOUT,
        })?;
        let keys = KeyCache::new(outbound, &config);
        Ok(Self { config, keys })
    }

    /// What was configured.
    pub const fn config(&self) -> &ProviderConfig {
        &self.config
    }

    /// Fetches the keys now, unless they are fresh or were asked for a moment ago: at start, so that the first
    /// person need not wait, and for a readiness probe. `now` as in [`Provider::verify`].
    pub async fn ready(&self, now: u64) -> Result<(), TokenError> {
        self.keys.current(now).await.map(drop)
    }

    /// The person a token speaks of. `now`: seconds since 1970 (UTC).
    ///
    /// May be called by many at once; of those who need new keys one asks the provider. Dropping the future is
    /// harmless. An `Err` has changed nothing but the cache of keys.
    pub async fn verify(&self, token: &str, now: u64) -> Result<Person, TokenError> {
        let jws = Jws::read(token)?;
        let algorithm = jws.algorithm(&self.config.algorithms)?;
        let key = self.signing_key(&jws, algorithm, now).await?;
        let payload = jws.verified_payload(&key, algorithm)?;
        let claims = Claims::read(&payload)?;
        claims.check(&Rules::of(&self.config), now)?;
        self.person(claims, Hash::of(&[token.as_bytes()]))
    }

    /// The key that the header names. One we do not know may be new: then, and only if nobody asked within the
    /// last moments, the provider is asked again.
    async fn signing_key(
        &self,
        jws: &Jws<'_>,
        algorithm: TokenAlgorithm,
        now: u64,
    ) -> Result<jsonwebtoken::DecodingKey, TokenError> {
        let held = self.keys.current(now).await?;
        let mut found = held.keys.find(jws.kid(), algorithm);
        if matches!(found, Found::Unknown) {
            found = self.keys.newer_than(&held, now).await?.keys.find(jws.kid(), algorithm);
        }
        match found {
            Found::Key(key) => Ok(key),
            Found::Unknown => Err(TokenError::UnknownSigningKey),
            Found::OtherAlgorithm => Err(TokenError::KeyMismatch),
        }
    }

    fn person(&self, claims: Claims, token_sha256: Hash) -> Result<Person, TokenError> {
        let values = claims.values_at(&self.config.roles_claims);
        let roles: BTreeSet<Role> =
            values.iter().filter_map(|value| Role::of_claim(value, &self.config.role_map)).collect();
        let name = principal_name(&self.config.issuer, &claims.subject)
            .ok_or(TokenError::Malformed("the subject cannot be a name"))?;
        Ok(Person {
            issuer: self.config.issuer.clone(),
            display: claims.display(),
            subject: claims.subject,
            name,
            roles,
            expires: claims.expires,
            token_sha256,
        })
    }
}
