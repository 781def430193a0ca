//! One call: its deadline, its attempts, and what a loss may have done.
//!
//! A call is tried again only where that cannot do a thing twice: when the connection could not be made,
//! when it was lost (the request carries the same `Idempotency-Key`, or reads; one that could do a thing twice is
//! [`Call::once`] and is not sent again), and when the service refused before doing anything and said that it
//! passes ([`Problem::passing`]).

use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::header::{self, HeaderValue};
use hyper::{Method, Request};
use tokio::time::Instant;

use crate::connection::{Connections, DialError, Link};
use crate::entropy::jittered;
use crate::error::ClientError;
use crate::limits;
use crate::options::{Endpoint, Options, OptionsError};
use crate::problem::Problem;

/// A request, kept whole so that it can be sent again as it was.
pub(crate) struct Call {
    pub(crate) method: Method,
    pub(crate) path: String,
    /// JSON.
    pub(crate) body: Option<Bytes>,
    pub(crate) accept: &'static str,
    pub(crate) idempotency_key: Option<HeaderValue>,
    pub(crate) authorization: Option<HeaderValue>,
    /// Never sent again once it may have arrived.
    pub(crate) once: bool,
}

impl Call {
    pub(crate) fn get(path: impl Into<String>) -> Self {
        Self {
            method: Method::GET,
            path: path.into(),
            body: None,
            accept: "application/json",
            idempotency_key: None,
            authorization: None,
            once: false,
        }
    }

    pub(crate) fn post(path: &str, body: Bytes) -> Self {
        Self { method: Method::POST, body: Some(body), ..Self::get(path) }
    }
}

/// A reply with a status of success.
pub(crate) struct Reply {
    pub(crate) body: Bytes,
    pub(crate) request_id: Option<String>,
}

/// Sends calls to one service.
pub(crate) struct Transport {
    connections: Connections,
    call_timeout: Duration,
    attempts_max: u32,
}

/// How one attempt failed.
enum Failure {
    Dial(DialError),
    /// After the request may have gone out.
    Lost {
        cause: String,
        reused: bool,
    },
    Refused {
        problem: Problem,
        retry_after: Option<Duration>,
    },
    /// Trying again cannot help.
    Final(ClientError),
}

impl Transport {
    /// `default_port` is used where the URL names none.
    pub(crate) fn new(options: &Options, default_port: u16) -> Result<Self, OptionsError> {
        Ok(Self {
            connections: Connections::new(Endpoint::parse(options, default_port)?),
            call_timeout: Duration::from_millis(options.call_timeout_ms),
            attempts_max: options.attempts_max.max(1),
        })
    }

    /// Opens a connection for later calls, so that a wrong address or certificate shows at once.
    pub(crate) async fn warm_up(&self) -> Result<(), ClientError> {
        let link = self.connections.take().await.map_err(|error| dial_error(error, None))?;
        self.connections.give_back(link);
        Ok(())
    }

    /// Carries the call out, whatever that takes within its deadline.
    pub(crate) async fn call(&self, call: &Call) -> Result<Reply, ClientError> {
        let deadline = Instant::now() + self.call_timeout;
        let late = || ClientError::Deadline(u64::try_from(self.call_timeout.as_millis()).unwrap_or(u64::MAX));
        tokio::time::timeout_at(deadline, self.attempts(call, deadline)).await.unwrap_or_else(|_| Err(late()))
    }

    async fn attempts(&self, call: &Call, deadline: Instant) -> Result<Reply, ClientError> {
        let mut lost = None;
        let mut backoff = Duration::from_millis(limits::BACKOFF_FIRST_MS);
        for left in (0..self.attempts_max).rev() {
            let failure = match self.attempt(call).await {
                Ok(reply) => return Ok(reply),
                Err(failure) => failure,
            };
            let pause = match &failure {
                Failure::Refused { problem, retry_after } if problem.passing() => {
                    retry_after.unwrap_or(Duration::ZERO).max(jittered(backoff))
                }
                Failure::Lost { .. } if call.once => return Err(failure.into_error(lost)),
                // A kept connection that the service closed meanwhile is no sign of trouble.
                Failure::Lost { reused: true, .. } if lost.is_none() => Duration::ZERO,
                Failure::Lost { .. } | Failure::Dial(DialError::Unreachable(_)) => jittered(backoff),
                _ => return Err(failure.into_error(lost)),
            };
            if left == 0 || Instant::now() + pause >= deadline {
                return Err(failure.into_error(lost));
            }
            if let Failure::Lost { cause, .. } = failure {
                lost = Some(cause);
            }
            tokio::time::sleep(pause).await;
            backoff = (backoff * 2).min(Duration::from_millis(limits::BACKOFF_MAX_MS));
        }
        Err(ClientError::Unavailable("no attempt was allowed".into()))
    }

    async fn attempt(&self, call: &Call) -> Result<Reply, Failure> {
        let request = self.request(call).map_err(Failure::Final)?;
        let mut link = self.connections.take().await.map_err(Failure::Dial)?;
        let sent = link.send(request).await;
        let response = sent.map_err(|error| lost(&error, &link))?;
        let (parts, body) = response.into_parts();
        let body = match Limited::new(body, limits::REPLY_BYTES_MAX).collect().await {
            Ok(body) => body.to_bytes(),
            Err(error) if error.is::<http_body_util::LengthLimitError>() => {
                let text = format!("larger than {} bytes", limits::REPLY_BYTES_MAX);
                return Err(Failure::Final(ClientError::Reply(text)));
            }
            Err(error) => return Err(lost(&*error, &link)),
        };
        self.connections.give_back(link);
        let text = |name| parts.headers.get(name).and_then(|value| value.to_str().ok());
        let request_id = text(header::HeaderName::from_static("x-request-id")).map(str::to_owned);
        if parts.status.is_success() {
            return Ok(Reply { body, request_id });
        }
        let mut problem = Problem::read(parts.status.as_u16(), &body, request_id.as_deref());
        let seconds = text(header::RETRY_AFTER).and_then(|text| text.parse().ok());
        problem.retry_after_s = seconds;
        Err(Failure::Refused { problem, retry_after: seconds.map(Duration::from_secs) })
    }

    fn request(&self, call: &Call) -> Result<Request<Full<Bytes>>, ClientError> {
        let authority = self.connections.authority();
        let mut request = Request::builder()
            .method(call.method.clone())
            .uri(format!("https://{authority}{}", call.path))
            .header(header::HOST, authority)
            .header(header::ACCEPT, call.accept)
            .header(header::USER_AGENT, concat!("chancery/", env!("CARGO_PKG_VERSION")));
        if call.body.is_some() {
            request = request.header(header::CONTENT_TYPE, "application/json");
        }
        if let Some(key) = &call.idempotency_key {
            request = request.header("idempotency-key", key);
        }
        if let Some(credentials) = &call.authorization {
            request = request.header(header::AUTHORIZATION, credentials);
        }
        let body = Full::new(call.body.clone().unwrap_or_default());
        request.body(body).map_err(|error| ClientError::Request(error.to_string()))
    }
}

/// A broken exchange: the other side's TLS refusal if that is what broke it, else a loss.
fn lost(error: &dyn std::error::Error, link: &Link) -> Failure {
    match link.refusal() {
        Some(text) => Failure::Final(ClientError::Tls(text)),
        None => Failure::Lost { cause: with_sources(error), reused: link.reused },
    }
}

fn with_sources(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(source) = next {
        text = format!("{text}: {source}");
        next = source.source();
    }
    text
}

fn dial_error(error: DialError, lost: Option<String>) -> ClientError {
    match (error, lost) {
        (DialError::Tls(text), _) => ClientError::Tls(text),
        (DialError::Unreachable(_), Some(earlier)) => ClientError::Interrupted(earlier),
        (DialError::Unreachable(text), None) => ClientError::Unavailable(text),
    }
}

impl Failure {
    /// What the caller is told, given that an earlier attempt may have been `lost` on its way.
    fn into_error(self, lost: Option<String>) -> ClientError {
        match self {
            Self::Dial(error) => dial_error(error, lost),
            Self::Lost { cause, .. } => ClientError::Interrupted(cause),
            Self::Refused { problem, .. } => ClientError::Refused(problem),
            Self::Final(error) => error,
        }
    }
}
