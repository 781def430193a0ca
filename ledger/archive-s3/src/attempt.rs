//! One request with its deadline, the meaning of its failure, and the bounded retry around it all.

use std::future::Future;
use std::hash::{BuildHasher as _, RandomState};
use std::time::Duration;

use aws_sdk_s3::config::http::HttpResponse;
use aws_sdk_s3::error::{DisplayErrorContext, ProvideErrorMetadata, SdkError};

use crate::error::{ErrorClass, Operation, S3Error};
use crate::options::Patience;

/// Bytes of a cause kept for the log.
const REASON_BYTES_MAX: usize = 400;

/// Codes that ask for another attempt although their status is 4xx.
const TRANSIENT_CODES: [&str; 12] = [
    "SlowDown",
    "Throttling",
    "ThrottlingException",
    "RequestLimitExceeded",
    "RequestTimeout",
    "RequestTimeTooSkewed",
    "ExpiredToken",
    "ConditionalRequestConflict",
    "OperationAborted",
    "IncompleteBody",
    "BadDigest",
    "XAmzContentSHA256Mismatch",
];

/// Runs one request under its deadline and classifies its failure.
pub(crate) async fn call<T, E>(
    operation: Operation,
    name: &str,
    patience: &Patience,
    request: impl Future<Output = Result<T, SdkError<E, HttpResponse>>>,
) -> Result<T, S3Error>
where
    E: ProvideErrorMetadata + std::error::Error + 'static,
{
    within(operation, name, patience, async {
        request.await.map_err(|error| classify(operation, name, &error))
    })
    .await
}

/// Runs `work` under one request's deadline.
pub(crate) async fn within<T>(
    operation: Operation,
    name: &str,
    patience: &Patience,
    work: impl Future<Output = Result<T, S3Error>>,
) -> Result<T, S3Error> {
    match tokio::time::timeout(patience.request_timeout, work).await {
        Ok(result) => result,
        Err(_) => {
            Err(unavailable(operation, name, format!("no answer within {:?}", patience.request_timeout)))
        }
    }
}

/// Repeats `attempt` while it fails with something that may pass; the last failure is returned.
pub(crate) async fn with_retries<T, F: Future<Output = Result<T, S3Error>>>(
    patience: &Patience,
    mut attempt: impl FnMut() -> F,
) -> Result<T, S3Error> {
    let mut pause_max = patience.backoff;
    let mut left = patience.attempts;
    loop {
        left = left.saturating_sub(1);
        match attempt().await {
            Err(error) if error.class() == ErrorClass::Transient && left > 0 => {
                tracing::warn!(%error, attempts_left = left, "archive request failed");
                tokio::time::sleep(jitter(pause_max)).await;
                pause_max = pause_max.saturating_mul(2).min(patience.backoff_max);
            }
            result => return result,
        }
    }
}

/// An outage of `operation`.
pub(crate) fn unavailable(operation: Operation, name: &str, reason: impl Into<String>) -> S3Error {
    S3Error::Unavailable { operation, name: name.to_owned(), reason: shortened(reason.into()) }
}

/// A random part of `pause_max`. Only spreads daemons in time, so the hasher's seed is random enough.
fn jitter(pause_max: Duration) -> Duration {
    let random = RandomState::new().hash_one(()) >> 32;
    pause_max.mul_f64(random as f64 / f64::from(u32::MAX))
}

fn classify<E>(operation: Operation, name: &str, error: &SdkError<E, HttpResponse>) -> S3Error
where
    E: ProvideErrorMetadata + std::error::Error + 'static,
{
    let refused = |code: &str, reason: String| S3Error::Refused {
        operation,
        name: name.to_owned(),
        code: code.to_owned(),
        reason: shortened(reason),
    };
    match error {
        SdkError::ServiceError(service) => {
            let status = service.raw().status().as_u16();
            let code = service.err().code().map_or_else(|| format!("HTTP {status}"), str::to_owned);
            let message = service.err().message().unwrap_or_default();
            if is_transient(status, &code) {
                unavailable(operation, name, format!("{code}: {message}"))
            } else {
                refused(&code, message.to_owned())
            }
        }
        SdkError::ConstructionFailure(_) => {
            refused("ConstructionFailure", format!("{}", DisplayErrorContext(error)))
        }
        SdkError::DispatchFailure(failure) if failure.is_user() => {
            refused("DispatchFailure", format!("{}", DisplayErrorContext(error)))
        }
        // Time-outs, lost connections, credentials that could not be fetched, replies cut short or garbled.
        _ => unavailable(operation, name, format!("{}", DisplayErrorContext(error))),
    }
}

fn is_transient(status: u16, code: &str) -> bool {
    let overloaded = status >= 500 || matches!(status, 408 | 429);
    (overloaded && code != "NotImplemented") || TRANSIENT_CODES.contains(&code)
}

fn shortened(mut reason: String) -> String {
    if reason.len() > REASON_BYTES_MAX {
        reason.truncate(reason.floor_char_boundary(REASON_BYTES_MAX));
        reason.push('…');
    }
    reason
}

#[cfg(test)]
mod tests {
    use super::*;

    fn patience(attempts: u32) -> Patience {
        Patience { attempts, backoff: Duration::from_millis(1), ..Patience::default() }
    }

    #[tokio::test]
    async fn only_what_may_pass_is_tried_again_and_not_for_ever() {
        let outage = || unavailable(Operation::PutObject, "a", "down");
        let conflict = S3Error::Conflict { name: "a".into(), version: "1".into() };
        for (failure, attempts, calls) in [(outage(), 4, 4), (outage(), 1, 1), (conflict, 4, 1)] {
            let mut count = 0;
            let result: Result<(), S3Error> = with_retries(&patience(attempts), || {
                count += 1;
                std::future::ready(Err(failure.clone()))
            })
            .await;
            assert_eq!((result, count), (Err(failure.clone()), calls));
        }
    }

    #[tokio::test]
    async fn a_request_without_answer_is_an_outage() {
        let patience = Patience { request_timeout: Duration::from_millis(5), ..patience(1) };
        let result: Result<(), S3Error> =
            within(Operation::GetObject, "a", &patience, std::future::pending()).await;
        assert_eq!(result.map_err(|error| error.class()), Err(ErrorClass::Transient));
    }

    #[test]
    fn codes_and_statuses_have_one_meaning() {
        for (status, code) in [
            (503, "SlowDown"),
            (500, "InternalError"),
            (429, "x"),
            (409, "ConditionalRequestConflict"),
            (400, "ExpiredToken"),
        ] {
            assert!(is_transient(status, code), "{status} {code}");
        }
        for (status, code) in [
            (403, "AccessDenied"),
            (404, "NoSuchBucket"),
            (412, "PreconditionFailed"),
            (501, "NotImplemented"),
            (301, "PermanentRedirect"),
        ] {
            assert!(!is_transient(status, code), "{status} {code}");
        }
    }

    #[test]
    fn jitter_stays_below_its_bound_and_reasons_below_theirs() {
        assert!((0..100).all(|_| jitter(Duration::from_millis(10)) <= Duration::from_millis(10)));
        assert_eq!(shortened("é".repeat(300)).chars().count(), 201);
    }
}
