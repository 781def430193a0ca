//! The connections to the service, under the certificates that are on disk now.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::header;
use hyper::{Request, Response};

use super::{Whole, strip_hop_by_hop};
use crate::connection::{Connections, DialError};
use crate::limits;
use crate::options::{Endpoint, Options, OptionsError};

/// Where requests go.
pub(super) struct Upstream {
    options: Options,
    current: Mutex<Current>,
}

struct Current {
    connections: Arc<Connections>,
    seen: Vec<Option<Stamp>>,
}

/// Time and length of a file.
type Stamp = (SystemTime, u64);

/// An exchange that gave no answer.
#[derive(Debug)]
pub(super) enum Broken {
    /// Nothing was sent.
    Dial(DialError),
    /// The request may have arrived.
    Lost(String),
    /// The request cannot be written.
    Request(String),
}

impl std::fmt::Display for Broken {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Dial(DialError::Unreachable(text) | DialError::Tls(text)) => f.write_str(text),
            Self::Lost(cause) => write!(f, "the connection was lost: {cause}"),
            Self::Request(cause) => write!(f, "the request cannot be handed on: {cause}"),
        }
    }
}

impl Upstream {
    /// Reads every file once.
    pub(super) fn new(options: Options) -> Result<Self, OptionsError> {
        let seen = stamps(&options);
        let endpoint = Endpoint::parse(&options, limits::SERVICE_PORT)?;
        let current = Current { connections: Arc::new(Connections::new(endpoint)), seen };
        Ok(Self { options, current: Mutex::new(current) })
    }

    /// The connections under the files as they are. Files that changed and cannot be used, half written perhaps, are
    /// looked at again with the next request; until then the old ones serve.
    fn connections(&self) -> Arc<Connections> {
        let seen = stamps(&self.options);
        let mut current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        if seen != current.seen
            && let Ok(endpoint) = Endpoint::parse(&self.options, limits::SERVICE_PORT)
        {
            *current = Current { connections: Arc::new(Connections::new(endpoint)), seen };
        }
        Arc::clone(&current.connections)
    }

    /// Sends the request once, and reads the whole answer.
    pub(super) async fn exchange(&self, whole: &Whole) -> Result<Response<Full<Bytes>>, Broken> {
        let connections = self.connections();
        let mut request = Request::builder()
            .method(whole.method.clone())
            .uri(format!("https://{}{}", connections.authority(), whole.path))
            .body(Full::new(whole.body.clone()))
            .map_err(|error| Broken::Request(error.to_string()))?;
        *request.headers_mut() = whole.headers.clone();
        if !request.headers().contains_key(header::HOST) {
            let host = connections.authority().parse();
            let host = host.map_err(|_| Broken::Request("the service's name is no host".to_owned()))?;
            request.headers_mut().insert(header::HOST, host);
        }
        let mut link = connections.take().await.map_err(Broken::Dial)?;
        let response = match link.send(request).await {
            Ok(response) => response,
            Err(error) => {
                return Err(match link.refusal() {
                    Some(text) => Broken::Dial(DialError::Tls(text)),
                    None => Broken::Lost(error.to_string()),
                });
            }
        };
        let (mut parts, body) = response.into_parts();
        let body = Limited::new(body, limits::REPLY_BYTES_MAX).collect().await;
        let body = body.map_err(|error| Broken::Lost(error.to_string()))?.to_bytes();
        connections.give_back(link);
        strip_hop_by_hop(&mut parts.headers);
        // A HEAD keeps the length of what it does not have.
        if !body.is_empty() {
            parts.headers.remove(header::CONTENT_LENGTH);
        }
        parts.version = hyper::Version::HTTP_11;
        Ok(Response::from_parts(parts, Full::new(body)))
    }
}

fn stamps(options: &Options) -> Vec<Option<Stamp>> {
    let identity = options.identity.iter().flat_map(|(certificate, key)| [certificate, key]);
    std::iter::once(&options.ca).chain(identity).map(|path: &PathBuf| stamp(path)).collect()
}

fn stamp(path: &Path) -> Option<Stamp> {
    let found = std::fs::metadata(path).ok()?;
    Some((found.modified().ok()?, found.len()))
}
