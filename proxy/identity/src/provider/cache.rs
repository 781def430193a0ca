//! The provider's keys, kept.
//!
//! Promises: the provider is asked at most once per [`ProviderConfig::keys_refresh_min`], whatever callers
//! send and however it answers; by one caller, while the others go on with what is known. Keys serve until
//! their age is [`ProviderConfig::keys_ttl`]; if they cannot be fetched then, for
//! [`ProviderConfig::keys_stale_max`] more; after that nothing is verified. A clock that jumps, in either
//! direction, makes keys old, never young.

use std::sync::Arc;

use arc_swap::ArcSwapOption;
use tokio::sync::Mutex;

use super::keys::{KeySet, KeySetError, PublishedKeys};
use super::{ProviderConfig, TokenError};
use crate::discovery::{Discovery, DiscoveryError};
use crate::outbound::{Outbound, OutboundError};

/// Why the keys were not fetched; for the log.
#[derive(Debug, thiserror::Error)]
enum FetchError {
    #[error(transparent)]
    Discovery(#[from] DiscoveryError),
    #[error("{url}: {cause}")]
    Call { url: String, cause: OutboundError },
    #[error("key set: {0}")]
    Keys(#[from] KeySetError),
}

/// Keys and when they were asked for, in seconds since 1970 (UTC).
pub(crate) struct Held {
    pub(crate) keys: KeySet,
    fetched: u64,
}

pub(crate) struct KeyCache {
    outbound: Outbound,
    issuer: String,
    ttl: u64,
    refresh_min: u64,
    stale_max: u64,
    held: ArcSwapOption<Held>,
    /// When the provider was last asked. Locked while it is.
    asked: Mutex<Option<u64>>,
}

impl KeyCache {
    pub(crate) fn new(outbound: Outbound, config: &ProviderConfig) -> Self {
        Self {
            outbound,
            issuer: config.issuer.clone(),
            ttl: config.keys_ttl.as_secs(),
            refresh_min: config.keys_refresh_min.as_secs(),
            stale_max: config.keys_stale_max.as_secs(),
            held: ArcSwapOption::empty(),
            asked: Mutex::new(None),
        }
    }

    /// The keys to verify with. Waits for the provider if there are none, or if it is this caller's turn to ask.
    pub(crate) async fn current(&self, now: u64) -> Result<Arc<Held>, TokenError> {
        match self.held.load_full() {
            Some(held) if now.abs_diff(held.fetched) < self.ttl => return Ok(held),
            Some(_) => {
                if let Ok(mut asked) = self.asked.try_lock() {
                    self.refresh(&mut asked, now).await;
                }
            }
            None => {
                let mut asked = self.asked.lock().await;
                if self.held.load().is_none() {
                    self.refresh(&mut asked, now).await;
                }
            }
        }
        self.usable(now)
    }

    /// Keys fetched after `known`, if the provider may be asked by now; else the same again.
    pub(crate) async fn newer_than(&self, known: &Arc<Held>, now: u64) -> Result<Arc<Held>, TokenError> {
        let mut asked = self.asked.lock().await;
        let current = self.usable(now)?;
        if !Arc::ptr_eq(known, &current) {
            return Ok(current);
        }
        self.refresh(&mut asked, now).await;
        self.usable(now)
    }

    fn usable(&self, now: u64) -> Result<Arc<Held>, TokenError> {
        let young_enough =
            |held: &Arc<Held>| now.abs_diff(held.fetched) <= self.ttl.saturating_add(self.stale_max);
        self.held.load_full().filter(young_enough).ok_or(TokenError::ProviderUnreachable)
    }

    /// Asks, unless it was asked a moment ago. The time is noted before: a caller who goes away while waiting
    /// counts too.
    async fn refresh(&self, asked: &mut Option<u64>, now: u64) {
        if asked.is_some_and(|last| now.abs_diff(last) < self.refresh_min) {
            return;
        }
        *asked = Some(now);
        match self.fetch().await {
            Ok(keys) => self.held.store(Some(Arc::new(Held { keys, fetched: now }))),
            Err(error) => {
                tracing::warn!(issuer = %self.issuer, cause = %error, "cannot fetch the identity provider's keys");
            }
        }
    }

    async fn fetch(&self) -> Result<KeySet, FetchError> {
        let url = Discovery::fetch(&self.outbound, &self.issuer).await?.jwks_uri;
        let published: Result<PublishedKeys, _> = self.outbound.get(&url).await.and_then(|reply| reply.ok());
        let published =
            published.map_err(|cause| FetchError::Call { url: url.as_str().to_owned(), cause })?;
        Ok(KeySet::read(published)?)
    }
}
