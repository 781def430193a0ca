//! HTTP/1.1 to one log or witness, over TCP or TLS 1.3, on connections that are kept.

use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full, LengthLimitError, Limited};
use hyper::client::conn::http1::{self, SendRequest};
use hyper::header::{self, HeaderMap};
use hyper::http::uri::InvalidUri;
use hyper::{Method, Request, Response, Uri, body::Incoming};
use hyper_util::rt::TokioIo;
use rustls_pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use super::bucket::SignedBucket;
use super::error::MirrorError;
use super::source::{SourceOptions, too_large};
use super::tree::gunzip;
use crate::limits;
use crate::options::{HttpVersion, Options, tls_of};

/// Bytes read of the page that comes with an error, so that the connection can be kept.
const PAGE_BYTES_MAX: usize = 64 * 1024;

/// A log's address, and the connections to it that are idle.
pub(super) struct Http {
    host: String,
    port: u16,
    authority: String,
    scheme: &'static str,
    prefix: String,
    /// Where the address is a bucket's.
    bucket: Option<SignedBucket>,
    tls: Option<(TlsConnector, ServerName<'static>)>,
    idle: Mutex<Vec<SendRequest<Full<Bytes>>>>,
}

/// An answer, whatever its status.
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) body: Vec<u8>,
    pub(super) retry_after: Option<Duration>,
}

/// Why there is none.
pub(super) enum HttpError {
    /// Another try may get one.
    Passing(String),
    /// Another try would get the same.
    Certain(String),
}

impl Http {
    /// A bucket, by the address of its server.
    pub(super) fn bucket(options: &SourceOptions) -> Result<Self, MirrorError> {
        let variable = |name: &str| std::env::var(name).ok();
        let bucket = SignedBucket::new(&options.address, variable)?;
        let ca = options.ca.clone().or_else(|| variable("AWS_CA_BUNDLE").map(PathBuf::from));
        let server = SourceOptions { address: bucket.endpoint(), ca, ..options.clone() };
        Ok(Self { bucket: Some(bucket), ..Self::new(&server)? })
    }

    pub(super) fn new(options: &SourceOptions) -> Result<Self, MirrorError> {
        let refuse = || MirrorError::Usage(format!("{:?} is not the address of a log", options.address));
        let uri: Uri = options.address.parse().map_err(|_| refuse())?;
        let authority = uri.authority().filter(|authority| !authority.as_str().contains('@'));
        let authority = authority.ok_or_else(refuse)?;
        let host = authority.host().trim_start_matches('[').trim_end_matches(']').to_owned();
        if host.is_empty() || uri.query().is_some() {
            return Err(refuse());
        }
        let secure = uri.scheme_str() == Some("https");
        let tls = match secure {
            true => Some((tls(options)?, ServerName::try_from(host.clone()).map_err(|_| refuse())?)),
            false if options.identity.is_some() => {
                let why = "a certificate is shown over https only";
                return Err(MirrorError::Usage(format!("{}: {why}", options.address)));
            }
            false => None,
        };
        Ok(Self {
            port: authority.port_u16().unwrap_or(if secure { 443 } else { 80 }),
            authority: authority.to_string(),
            scheme: if secure { "https" } else { "http" },
            prefix: uri.path().trim_end_matches('/').to_owned(),
            host,
            bucket: None,
            tls,
            idle: Mutex::default(),
        })
    }

    /// The whole address of a resource, for people.
    pub(super) fn url(&self, path: &str) -> String {
        format!("{}://{}{}/{path}", self.scheme, self.authority, self.prefix)
    }

    /// Asks once and reads the answer to its end.
    pub(super) async fn get(&self, path: &str, bytes_max: usize) -> Result<Answer, HttpError> {
        self.ask(Method::GET, path, Bytes::new(), bytes_max).await
    }

    /// Says something once and reads the answer to its end.
    pub(super) async fn post(&self, path: &str, body: Bytes, bytes_max: usize) -> Result<Answer, HttpError> {
        self.ask(Method::POST, path, body, bytes_max).await
    }

    async fn ask(
        &self,
        method: Method,
        path: &str,
        body: Bytes,
        bytes_max: usize,
    ) -> Result<Answer, HttpError> {
        let target = match &self.bucket {
            Some(bucket) => bucket.target(path).map_err(HttpError::Certain)?,
            None => format!("{}/{path}", self.prefix)
                .parse()
                .map_err(|error: InvalidUri| HttpError::Certain(error.to_string()))?,
        };
        let request = Request::builder()
            .method(method)
            .uri(target)
            .header(header::HOST, &self.authority)
            .header(header::USER_AGENT, concat!("chancery-mirror/", env!("CARGO_PKG_VERSION")))
            .header(header::ACCEPT_ENCODING, "gzip")
            .body(Full::new(body))
            .map_err(|error| HttpError::Certain(error.to_string()))?;
        let (mut sender, response) = self.exchange(request).await?;
        let (parts, body) = response.into_parts();
        let good = parts.status == 200;
        let body = match Limited::new(body, if good { bytes_max } else { PAGE_BYTES_MAX }).collect().await {
            Ok(body) => body.to_bytes().to_vec(),
            // The page around an error is not read to its end; its status is what counts.
            Err(_) if !good => Vec::new(),
            Err(error) if error.is::<LengthLimitError>() => {
                return Err(HttpError::Certain(too_large(bytes_max)));
            }
            Err(error) => return Err(HttpError::Passing(error.to_string())),
        };
        // One whose answer was not read to its end is never ready again, and is closed here.
        if tokio::time::timeout(Duration::ZERO, sender.ready()).await.is_ok_and(|ready| ready.is_ok()) {
            self.idle().push(sender);
        }
        let body = if good { decoded(&parts.headers, body, bytes_max)? } else { body };
        let seconds =
            parts.headers.get(header::RETRY_AFTER).and_then(|value| value.to_str().ok()?.parse().ok());
        Ok(Answer { status: parts.status.as_u16(), body, retry_after: seconds.map(Duration::from_secs) })
    }

    /// On a kept connection if one still carries it, else on a new one.
    async fn exchange(
        &self,
        request: Request<Full<Bytes>>,
    ) -> Result<(SendRequest<Full<Bytes>>, Response<Incoming>), HttpError> {
        loop {
            let kept = self.idle().pop();
            let Some(mut sender) = kept else { break };
            if sender.ready().await.is_ok()
                && let Ok(response) = sender.send_request(request.clone()).await
            {
                return Ok((sender, response));
            }
        }
        let dialled = self.dial();
        let limit = Duration::from_millis(limits::CONNECT_TIMEOUT_MS);
        let late = || HttpError::Passing(format!("no connection within {} ms", limit.as_millis()));
        let mut sender = tokio::time::timeout(limit, dialled).await.map_err(|_| late())??;
        let sent = sender.send_request(request).await;
        let response = sent.map_err(|error| HttpError::Passing(error.to_string()))?;
        Ok((sender, response))
    }

    async fn dial(&self) -> Result<SendRequest<Full<Bytes>>, HttpError> {
        let passing = |error: std::io::Error| HttpError::Passing(error.to_string());
        let tcp = TcpStream::connect((self.host.as_str(), self.port)).await.map_err(passing)?;
        tcp.set_nodelay(true).map_err(passing)?;
        match &self.tls {
            None => start(tcp).await,
            Some((connector, name)) => {
                let stream = connector.connect(name.clone(), tcp).await.map_err(|error| {
                    match error.get_ref().is_some_and(|cause| cause.is::<rustls::Error>()) {
                        true => HttpError::Certain(format!("TLS: {error}")),
                        false => HttpError::Passing(error.to_string()),
                    }
                })?;
                start(stream).await
            }
        }
    }

    fn idle(&self) -> std::sync::MutexGuard<'_, Vec<SendRequest<Full<Bytes>>>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn start<S>(stream: S) -> Result<SendRequest<Full<Bytes>>, HttpError>
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let handshake = http1::handshake(TokioIo::new(stream)).await;
    let (sender, connection) = handshake.map_err(|error| HttpError::Passing(error.to_string()))?;
    // The driver ends with the connection; whoever waits for an answer gets its error.
    tokio::spawn(connection);
    Ok(sender)
}

/// The body without its compression. Another encoding than gzip was not asked for.
fn decoded(headers: &HeaderMap, body: Vec<u8>, bytes_max: usize) -> Result<Vec<u8>, HttpError> {
    match headers.get(header::CONTENT_ENCODING).map(|value| value.as_bytes()) {
        None | Some(b"identity") => Ok(body),
        Some(b"gzip" | b"x-gzip") => match gunzip(&body) {
            Some(plain) if plain.len() <= bytes_max => Ok(plain),
            Some(_) => Err(HttpError::Certain(too_large(bytes_max))),
            None => Err(HttpError::Certain("not gzip, though it says so".to_owned())),
        },
        Some(_) => Err(HttpError::Certain("in an encoding that was not asked for".to_owned())),
    }
}

/// TLS 1.3 as for the service; without a file of authorities, the machine's own may vouch.
fn tls(options: &SourceOptions) -> Result<TlsConnector, MirrorError> {
    let mut service = Options::new(String::new(), options.ca.clone().unwrap_or_default());
    service.identity = options.identity.clone();
    service.http = HttpVersion::Http1;
    Ok(TlsConnector::from(std::sync::Arc::new(tls_of(&service, options.ca.is_none())?)))
}
