//! The one HTTP client for calls out.
//!
//! Promises: one deadline over connecting, sending, head and body, so that no drip outlasts it; a reply within
//! [`limits::REPLY_BYTES_MAX`]; TLS 1.3 verified by the given CA file, or by the machine's authorities; a
//! kept connection is used again only while it is fresh, and a request is sent at most once.
//!
//! Refuses: `http` to anything but this machine; redirects (they are a status like any other); proxies from
//! the environment; to read replies as JSON that are not.

mod connection;
mod tls;
mod url;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full, LengthLimitError, Limited};
use hyper::header::{self, HeaderMap, HeaderName, HeaderValue};
use hyper::{Method, Request, Response};
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use crate::{limits, percent, strict_json};
use connection::{Connections, Link};

pub use url::{RemoteUrl, UrlError};

/// How to call out.
#[derive(Debug, Clone)]
pub struct OutboundConfig {
    /// PEM file of the authorities that may vouch for the other side; `None`: the machine's own.
    pub ca_file: Option<PathBuf>,
    /// Time for TCP and TLS.
    pub connect_timeout: Duration,
    /// Time for a whole call, connecting included.
    pub total_timeout: Duration,
}

/// Why no client could be made. The configuration is at fault; nothing was sent.
#[derive(Debug, thiserror::Error)]
pub enum OutboundConfigError {
    /// The CA file cannot be read, or holds no certificate.
    #[error("{path}: {cause}", path = path.display())]
    CaFile {
        /// Which file.
        path: PathBuf,
        /// What is wrong with it.
        cause: String,
    },
    /// No CA file was given and the machine has no authorities; install `ca-certificates`, or give a file.
    #[error("the machine trusts no authority: {0}")]
    NoAuthorities(String),
}

/// Why a call gave no result. Nothing is tried again here.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum OutboundError {
    /// No connection, or it was lost. The other side or the network is at fault, or the configuration if the
    /// text speaks of a certificate; the request may have been carried out; retry later.
    #[error("unreachable: {0}")]
    Unreachable(String),
    /// The deadline passed. As [`OutboundError::Unreachable`].
    #[error("no whole answer within {0:?}")]
    Timeout(Duration),
    /// An answer with another status than those that mean success.
    #[error("answered with status {0}")]
    Status(u16),
    /// The answer is larger than [`limits::REPLY_BYTES_MAX`]. The other side is at fault.
    #[error("answered with more than {} bytes", limits::REPLY_BYTES_MAX)]
    TooLarge,
    /// The answer is not JSON, or not of the expected shape. The text repeats nothing of it: it may be secret.
    #[error("answered with something unreadable: {0}")]
    NotJson(&'static str),
}

/// An answer, whatever its status.
#[derive(Clone)]
pub struct Reply {
    /// HTTP's.
    pub status: u16,
    json: bool,
    body: Bytes,
}

impl Reply {
    /// The body of an answer with status 200.
    pub fn ok<T: DeserializeOwned>(&self) -> Result<T, OutboundError> {
        self.success()?;
        self.read()
    }

    /// The body, whatever the status: OAuth answers 400 with JSON that says why.
    pub fn read<T: DeserializeOwned>(&self) -> Result<T, OutboundError> {
        let body = self.json_body()?;
        serde_json::from_slice(body).map_err(|_| OutboundError::NotJson("not the expected shape"))
    }

    /// The body, one object with every member said once, whatever the status.
    pub(crate) fn object(&self) -> Result<Map<String, Value>, OutboundError> {
        let not = |_| OutboundError::NotJson("not one JSON object, or a member twice");
        strict_json::object(self.json_body()?).map_err(not)
    }

    pub(crate) fn success(&self) -> Result<(), OutboundError> {
        if self.status == 200 { Ok(()) } else { Err(OutboundError::Status(self.status)) }
    }

    /// The body as it came, whatever the status and type.
    pub fn body(&self) -> &[u8] {
        &self.body
    }

    fn json_body(&self) -> Result<&[u8], OutboundError> {
        if self.json { Ok(&self.body) } else { Err(OutboundError::NotJson("its content type is not JSON")) }
    }
}

/// The client. Cheap to call at once from many tasks; needs a tokio runtime.
pub struct Outbound {
    connections: Connections,
    total_timeout: Duration,
}

impl std::fmt::Debug for Outbound {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Outbound").field("total_timeout", &self.total_timeout).finish_non_exhaustive()
    }
}

impl Outbound {
    /// Reads the CA file, or the machine's authorities, once.
    pub fn new(config: &OutboundConfig) -> Result<Self, OutboundConfigError> {
        let tls = Arc::new(tls::client_config(config.ca_file.as_deref())?);
        let connections = Connections::new(tls, config.connect_timeout);
        Ok(Self { connections, total_timeout: config.total_timeout })
    }

    /// Asks for a document.
    pub async fn get(&self, url: &RemoteUrl) -> Result<Reply, OutboundError> {
        self.call(Method::GET, url, HeaderMap::new(), Bytes::new()).await
    }

    /// Posts JSON, with headers of one's own.
    pub async fn post_json(
        &self,
        url: &RemoteUrl,
        headers: &[(HeaderName, HeaderValue)],
        body: Vec<u8>,
    ) -> Result<Reply, OutboundError> {
        let mut all: HeaderMap = headers.iter().cloned().collect();
        all.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        self.call(Method::POST, url, all, body.into()).await
    }

    /// Posts plain text, for protocols that have no JSON.
    pub async fn post_text(&self, url: &RemoteUrl, body: String) -> Result<Reply, OutboundError> {
        let text = HeaderValue::from_static("text/plain; charset=utf-8");
        let headers = HeaderMap::from_iter([(header::CONTENT_TYPE, text)]);
        self.call(Method::POST, url, headers, body.into()).await
    }

    /// Posts a form (`application/x-www-form-urlencoded`), as OAuth wants it.
    pub async fn post_form(&self, url: &RemoteUrl, fields: &[(&str, &str)]) -> Result<Reply, OutboundError> {
        let form = HeaderValue::from_static("application/x-www-form-urlencoded");
        let headers = HeaderMap::from_iter([(header::CONTENT_TYPE, form)]);
        let encode =
            |(name, value): &(&str, &str)| format!("{}={}", percent::encode(name), percent::encode(value));
        let body = fields.iter().map(encode).collect::<Vec<_>>().join("&");
        self.call(Method::POST, url, headers, body.into()).await
    }

    async fn call(
        &self,
        method: Method,
        url: &RemoteUrl,
        headers: HeaderMap,
        body: Bytes,
    ) -> Result<Reply, OutboundError> {
        let mut request = Request::new(Full::new(body));
        *request.method_mut() = method;
        *request.uri_mut() = url.path_and_query().clone();
        *request.headers_mut() = headers;
        request.headers_mut().insert(header::HOST, url.host_header().clone());
        request
            .headers_mut()
            .insert(header::ACCEPT, HeaderValue::from_static("application/json, text/*;q=0.9"));
        let late = |_| OutboundError::Timeout(self.total_timeout);
        tokio::time::timeout(self.total_timeout, self.exchange(url, request)).await.map_err(late)?
    }

    async fn exchange(&self, url: &RemoteUrl, request: Request<Full<Bytes>>) -> Result<Reply, OutboundError> {
        let (link, response) = self.connections.send(url, request).await?;
        let reply = read(response).await?;
        self.connections.keep(link);
        Ok(reply)
    }
}

async fn read(response: Response<hyper::body::Incoming>) -> Result<Reply, OutboundError> {
    let (parts, body) = response.into_parts();
    let body = Limited::new(body, limits::REPLY_BYTES_MAX).collect().await.map_err(|error| {
        if error.is::<LengthLimitError>() {
            OutboundError::TooLarge
        } else {
            OutboundError::Unreachable(error.to_string())
        }
    })?;
    let json = parts.headers.get(header::CONTENT_TYPE).is_some_and(is_json);
    Ok(Reply { status: parts.status.as_u16(), json, body: body.to_bytes() })
}

/// `application/json`, or a type built on it such as `application/jwk-set+json`.
fn is_json(content_type: &HeaderValue) -> bool {
    let text = content_type.to_str().unwrap_or_default();
    let essence = text.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    essence == "application/json" || (essence.starts_with("application/") && essence.ends_with("+json"))
}

/// A connection and the answer that comes over it.
type Answer = (Link, Response<hyper::body::Incoming>);
