//! One call: a seat among those under way, and attempts until one succeeds or no time is left.
//!
//! Each attempt ends with the caller's deadline or its own time-out, whichever is first. Between attempts
//! lies a random pause below a bound that doubles. Another attempt may sign twice; only one signature leaves
//! this file, and the ledger knew before the first that the key may be used. Every answer's request id is
//! logged at debug, beside the key, so that CloudTrail's records can be matched one by one.

use std::future::Future;
use std::hash::{BuildHasher as _, RandomState};
use std::sync::Arc;
use std::time::{Duration, Instant};

use aws_sdk_kms::Client;
use aws_sdk_kms::config::http::HttpResponse;
use aws_sdk_kms::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_kms::operation::RequestId;
use chancery_format::entry::KeyUse;
use tokio::sync::Semaphore;

use crate::client::connect;
use crate::config::{KmsConfig, KmsFault};
use crate::failure::{Failure, Kind, classify};
use crate::limits::{ATTEMPTS_MAX, BACKOFF, BACKOFF_MAX};
use crate::runtime::OwnRuntime;

/// The service, as everything here calls it.
#[derive(Debug)]
pub(crate) struct Service {
    runtime: OwnRuntime,
    client: Client,
    seats: Semaphore,
    attempt_timeout: Duration,
}

/// What is asked for.
#[derive(Debug, Clone)]
pub(crate) struct Call {
    /// KMS's name of the operation.
    pub(crate) operation: &'static str,
    /// The key's label, for the log.
    pub(crate) label: String,
    /// Whether success means that the key was used.
    pub(crate) uses_key: bool,
}

impl Service {
    pub(crate) fn start(config: &KmsConfig) -> Result<Self, KmsFault> {
        config.check()?;
        let runtime = OwnRuntime::start().map_err(|error| KmsFault::Runtime(error.to_string()))?;
        let wanted = config.clone();
        let client = runtime.wait(async move { connect(&wanted).await });
        let client = client.unwrap_or_else(|| Err(KmsFault::Runtime("it panicked".to_owned())))?;
        let seats = Semaphore::new(config.sessions);
        Ok(Self { runtime, client, seats, attempt_timeout: config.attempt_timeout })
    }

    /// Blocks until the call succeeded or failed for good.
    pub(crate) fn call<T, E, F>(
        self: &Arc<Self>,
        call: Call,
        deadline: Instant,
        request: impl Fn(&Client) -> F + Send + Sync + 'static,
    ) -> Result<T, Failure>
    where
        T: RequestId + Send + 'static,
        E: ProvideErrorMetadata + RequestId + std::error::Error + Send + 'static,
        F: Future<Output = Result<T, SdkError<E, HttpResponse>>> + Send,
    {
        let (service, uses_key) = (Arc::clone(self), call.uses_key);
        let panicked = || {
            let key_use = if uses_key { KeyUse::Unknown } else { KeyUse::None };
            Err(Failure::new(Kind::Panicked, "the SDK panicked").with_use(key_use))
        };
        let work = async move {
            let Ok(Ok(_seat)) = tokio::time::timeout_at(deadline.into(), service.seats.acquire()).await
            else {
                return Err(Failure::new(Kind::Deadline, "no call ended in time to make room"));
            };
            service.attempts(&call, deadline, request).await
        };
        self.runtime.wait(work).unwrap_or_else(panicked)
    }

    async fn attempts<T, E, F>(
        &self,
        call: &Call,
        deadline: Instant,
        request: impl Fn(&Client) -> F,
    ) -> Result<T, Failure>
    where
        T: RequestId,
        E: ProvideErrorMetadata + RequestId + std::error::Error + 'static,
        F: Future<Output = Result<T, SdkError<E, HttpResponse>>>,
    {
        let mut key_use = KeyUse::None;
        let mut pause_max = BACKOFF;
        let mut last = Failure::new(Kind::Deadline, "no time was left");
        for attempt in 1..=ATTEMPTS_MAX {
            if Instant::now() >= deadline {
                break;
            }
            last = match self.attempt(call, attempt, deadline, request(&self.client)).await {
                Ok(answer) => return Ok(answer),
                Err(failure) => failure,
            };
            if last.key_use != KeyUse::None {
                key_use = last.key_use;
            }
            let pause = jitter(pause_max);
            if last.kind != Kind::Transient || attempt == ATTEMPTS_MAX || Instant::now() + pause >= deadline {
                break;
            }
            tokio::time::sleep(pause).await;
            pause_max = pause_max.saturating_mul(2).min(BACKOFF_MAX);
        }
        Err(last.with_use(key_use))
    }

    async fn attempt<T, E>(
        &self,
        call: &Call,
        attempt: u32,
        deadline: Instant,
        request: impl Future<Output = Result<T, SdkError<E, HttpResponse>>>,
    ) -> Result<T, Failure>
    where
        T: RequestId,
        E: ProvideErrorMetadata + RequestId + std::error::Error + 'static,
    {
        let Call { operation, label, uses_key } = call;
        let limit = deadline.min(Instant::now() + self.attempt_timeout);
        match tokio::time::timeout_at(limit.into(), request).await {
            Ok(Ok(answer)) => {
                let request_id = answer.request_id().unwrap_or("none");
                tracing::debug!(operation, label, attempt, request_id, "KMS answered");
                Ok(answer)
            }
            Ok(Err(error)) => {
                let failure = classify(operation, label, *uses_key, &error);
                let request_id = error.request_id().unwrap_or("none");
                tracing::debug!(operation, label, attempt, request_id, cause = %failure.cause, "KMS failed");
                Err(failure)
            }
            Err(_) => {
                tracing::debug!(operation, label, attempt, "KMS did not answer in time");
                let cause = format!("\"{label}\": {operation}: no answer in time");
                let key_use = if *uses_key { KeyUse::Unknown } else { KeyUse::None };
                Err(Failure::new(Kind::Transient, cause).with_use(key_use))
            }
        }
    }
}

/// A random part of `pause_max`. Only spreads callers in time, so the hasher's seed is random enough.
fn jitter(pause_max: Duration) -> Duration {
    let random = RandomState::new().hash_one(()) >> 32;
    pause_max.mul_f64(random as f64 / f64::from(u32::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_stay_below_their_bound_and_differ() {
        let pauses: std::collections::BTreeSet<_> = (0..100).map(|_| jitter(BACKOFF)).collect();
        assert!(pauses.len() > 50 && pauses.iter().all(|pause| *pause <= BACKOFF));
    }

    #[test]
    fn all_pauses_fit_in_a_usual_deadline() {
        let bounds = std::iter::successors(Some(BACKOFF), |pause| Some((*pause * 2).min(BACKOFF_MAX)));
        let longest: Duration = bounds.take(ATTEMPTS_MAX as usize - 1).sum();
        assert!(longest / 2 < Duration::from_millis(2600), "{longest:?}");
    }
}
