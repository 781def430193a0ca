//! A door on this machine for programs that cannot show a certificate: it adds the workload's own.
//!
//! Promises: what comes in is handed on as it is, header for header and byte for byte, and so is the answer; the service
//! learns which local user asked; a request without an `Idempotency-Key` gets one, and keeps it over every attempt, so
//! that a service that restarts under it loses nothing and does nothing twice; certificates that change on disk are
//! used for the next request. Refuses: to listen anywhere but on loopback or a Unix socket.
//!
//! | file | does |
//! |---|---|
//! | `agent/upstream.rs` | the connections to the service, under the certificates that are on disk now |
//! | `agent/peer.rs` | which user holds the other end of a connection |

mod peer;
mod upstream;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::Incoming;
use hyper::header::{self, HeaderMap, HeaderName, HeaderValue};
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, UnixListener};
use tokio::sync::{Semaphore, watch};
use tokio::time::Instant;

use self::upstream::{Broken, Upstream};
use crate::connection::DialError;
use crate::entropy::{jittered, random_idempotency_key};
use crate::limits;
use crate::options::{Options, OptionsError};

/// Where it listens.
#[derive(Debug, Clone)]
pub enum Door {
    /// A loopback address; port 0 takes any.
    Loopback(SocketAddr),
    /// A Unix socket, made anew; only who may open the file may ask.
    Socket(PathBuf),
}

/// Why the agent did not start. The configuration is at fault, or something else has the door.
#[derive(Debug, thiserror::Error)]
pub enum AgentError {
    /// Whoever could reach another address would act in the workload's name.
    #[error("{0} is not a loopback address: the agent is for this machine alone")]
    NotLoopback(SocketAddr),
    /// The door cannot be opened.
    #[error("{door}: {cause}")]
    Door {
        /// Which.
        door: String,
        /// What the system said.
        cause: std::io::Error,
    },
    /// URL or files.
    #[error(transparent)]
    Options(#[from] OptionsError),
}

/// An agent that listens and does not serve yet.
pub struct Agent {
    listener: Listener,
    upstream: Arc<Upstream>,
    patience: Duration,
}

enum Listener {
    Tcp(TcpListener),
    Unix(UnixListener, PathBuf),
}

/// One request, kept whole so that it can be sent again as it was.
struct Whole {
    method: Method,
    path: String,
    headers: HeaderMap,
    body: Bytes,
}

impl Agent {
    /// Opens the door. Nothing is asked of the service yet, but the files are read.
    ///
    /// `patience`: how long one request is tried while the service cannot be reached or says that it will pass.
    pub async fn open(door: &Door, options: Options, patience: Duration) -> Result<Self, AgentError> {
        if let Door::Loopback(address) = door
            && !address.ip().is_loopback()
        {
            return Err(AgentError::NotLoopback(*address));
        }
        let upstream = Arc::new(Upstream::new(options)?);
        let failed = |door: String| move |cause| AgentError::Door { door, cause };
        let listener = match door {
            Door::Loopback(address) => {
                Listener::Tcp(TcpListener::bind(address).await.map_err(failed(address.to_string()))?)
            }
            Door::Socket(path) => {
                // A socket nobody listens on any more is in the way of the next one.
                if std::os::unix::net::UnixStream::connect(path).is_err() {
                    let _ = std::fs::remove_file(path);
                }
                let bound = UnixListener::bind(path).map_err(failed(path.display().to_string()))?;
                Listener::Unix(bound, path.clone())
            }
        };
        Ok(Self { listener, upstream, patience })
    }

    /// Where it listens, for people.
    pub fn door(&self) -> String {
        match &self.listener {
            Listener::Tcp(tcp) => {
                tcp.local_addr().map_or_else(|_| "?".to_owned(), |address| format!("http://{address}"))
            }
            Listener::Unix(_, path) => path.display().to_string(),
        }
    }

    /// Serves until `stop`; then answers what is under way, for at most [`limits::AGENT_DRAIN_MS`].
    pub async fn serve(self, mut stop: watch::Receiver<bool>) {
        let Self { listener, upstream, patience } = self;
        let slots = Arc::new(Semaphore::new(limits::AGENT_CONNECTIONS_MAX));
        loop {
            let Ok(slot) = Arc::clone(&slots).acquire_owned().await else { return };
            let accepted = tokio::select! {
                _ = stop.wait_for(|stop| *stop) => break,
                accepted = accept(&listener) => accepted,
            };
            // No descriptors left, most often: the next connection may have more luck.
            let Ok((stream, uid)) = accepted else {
                tokio::time::sleep(Duration::from_millis(limits::BACKOFF_FIRST_MS)).await;
                continue;
            };
            let (upstream, stop) = (Arc::clone(&upstream), stop.clone());
            tokio::spawn(async move {
                connection(stream, uid, upstream, patience, stop).await;
                drop(slot);
            });
        }
        let all = u32::try_from(limits::AGENT_CONNECTIONS_MAX).unwrap_or(u32::MAX);
        let drained = slots.acquire_many(all);
        let _ = tokio::time::timeout(Duration::from_millis(limits::AGENT_DRAIN_MS), drained).await;
        if let Listener::Unix(_, path) = &listener {
            let _ = std::fs::remove_file(path);
        }
    }
}

/// A stream of either kind.
trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<S: AsyncRead + AsyncWrite + Send + Unpin> Stream for S {}

async fn accept(listener: &Listener) -> std::io::Result<(Box<dyn Stream>, Option<u32>)> {
    match listener {
        Listener::Tcp(tcp) => {
            let (stream, remote) = tcp.accept().await?;
            stream.set_nodelay(true)?;
            let uid = peer::of_tcp(remote, stream.local_addr()?);
            Ok((Box::new(stream), uid))
        }
        Listener::Unix(unix, _) => {
            let (stream, _) = unix.accept().await?;
            let uid = stream.peer_cred().ok().map(|credentials| credentials.uid());
            Ok((Box::new(stream), uid))
        }
    }
}

/// Serves one local connection, HTTP/1.1.
async fn connection(
    stream: Box<dyn Stream>,
    uid: Option<u32>,
    upstream: Arc<Upstream>,
    patience: Duration,
    mut stop: watch::Receiver<bool>,
) {
    let service = service_fn(|request| {
        let upstream = Arc::clone(&upstream);
        async move { Ok::<_, std::convert::Infallible>(answer(&upstream, uid, patience, request).await) }
    });
    let served = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(Duration::from_millis(limits::AGENT_IDLE_MS))
        .serve_connection(TokioIo::new(stream), service);
    let mut served = std::pin::pin!(served);
    let mut asked = false;
    loop {
        tokio::select! {
            // A broken local connection is its program's affair.
            _ = served.as_mut() => return,
            _ = stop.wait_for(|stop| *stop), if !asked => {
                asked = true;
                served.as_mut().graceful_shutdown();
            }
        }
    }
}

/// One request, to its answer or to the end of patience.
async fn answer(
    upstream: &Upstream,
    uid: Option<u32>,
    patience: Duration,
    request: Request<Incoming>,
) -> Response<Full<Bytes>> {
    let until = Instant::now() + patience;
    let whole = match read(request, uid).await {
        Ok(whole) => whole,
        Err((status, detail)) => return refusal(status, detail),
    };
    let mut pause = Duration::from_millis(limits::BACKOFF_FIRST_MS);
    loop {
        let failed = match upstream.exchange(&whole).await {
            Ok(response) if !passes(&response) || Instant::now() + pause >= until => return response,
            Ok(_) => None,
            Err(broken) => Some(broken),
        };
        if let Some(Broken::Dial(DialError::Tls(text))) = failed {
            return refusal(StatusCode::BAD_GATEWAY, &text);
        }
        if Instant::now() + pause >= until {
            return match failed {
                Some(broken) => refusal(StatusCode::BAD_GATEWAY, &broken.to_string()),
                None => refusal(StatusCode::BAD_GATEWAY, "the service does not serve yet"),
            };
        }
        tokio::time::sleep(jittered(pause)).await;
        pause = (pause * 2).min(Duration::from_millis(limits::AGENT_BACKOFF_MAX_MS));
    }
}

/// Whether the service refused because of this moment alone: it is going down, or has too much to do.
fn passes(response: &Response<Full<Bytes>>) -> bool {
    let wait = response
        .headers()
        .get(header::RETRY_AFTER)
        .and_then(|value| value.to_str().ok()?.parse::<u32>().ok());
    response.status() == StatusCode::SERVICE_UNAVAILABLE && wait.is_some_and(|seconds| seconds <= 1)
}

async fn read(request: Request<Incoming>, uid: Option<u32>) -> Result<Whole, (StatusCode, &'static str)> {
    let (mut parts, body) = request.into_parts();
    let body = Limited::new(body, limits::AGENT_BODY_BYTES_MAX).collect();
    let body = tokio::time::timeout(Duration::from_millis(limits::AGENT_IDLE_MS), body).await;
    let body = match body {
        Ok(Ok(body)) => body.to_bytes(),
        Ok(Err(error)) if error.is::<http_body_util::LengthLimitError>() => {
            return Err((StatusCode::PAYLOAD_TOO_LARGE, "the body is over the agent's limit"));
        }
        _ => return Err((StatusCode::REQUEST_TIMEOUT, "the body did not arrive")),
    };
    strip_hop_by_hop(&mut parts.headers);
    // The length is written anew; a body that came in pieces is sent in one.
    parts.headers.remove(header::CONTENT_LENGTH);
    parts.headers.remove(PEER_UID);
    if let Some(uid) = uid {
        parts.headers.insert(PEER_UID, HeaderValue::from(uid));
    }
    if !parts.headers.contains_key(IDEMPOTENCY_KEY) && !parts.headers.contains_key("amz-sdk-invocation-id") {
        let key = random_idempotency_key().ok().and_then(|key| HeaderValue::from_str(key.as_str()).ok());
        let key = key.ok_or((StatusCode::BAD_GATEWAY, "the system has no random bytes to give"))?;
        parts.headers.insert(IDEMPOTENCY_KEY, key);
    }
    let path = parts.uri.path_and_query().map_or("/", |path| path.as_str()).to_owned();
    Ok(Whole { method: parts.method, path, headers: parts.headers, body })
}

/// Tells the service which local user asked.
const PEER_UID: HeaderName = HeaderName::from_static("chancery-peer-uid");
const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");

/// Fields that speak of one connection only (RFC 9110 §7.6.1).
fn strip_hop_by_hop(headers: &mut HeaderMap) {
    let named: Vec<HeaderName> = headers
        .get_all(header::CONNECTION)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|text| text.split(','))
        .filter_map(|name| name.trim().parse().ok())
        .collect();
    let fixed = [header::CONNECTION, header::TRANSFER_ENCODING, header::UPGRADE, header::TE, header::TRAILER];
    let own =
        ["keep-alive", "proxy-connection", "proxy-authorization", "expect"].map(HeaderName::from_static);
    for name in named.into_iter().chain(fixed).chain(own) {
        headers.remove(name);
    }
}

/// What the agent itself has to say, in the service's form.
fn refusal(status: StatusCode, detail: &str) -> Response<Full<Bytes>> {
    let code = match status {
        StatusCode::BAD_GATEWAY => "service-unreachable",
        StatusCode::PAYLOAD_TOO_LARGE => "body-too-large",
        _ => "body-timeout",
    };
    let body = serde_json::json!({
        "type": format!("urn:chancery:problem:{code}"), "title": "Refused by the agent",
        "status": status.as_u16(), "detail": detail, "code": code,
    });
    let mut response = Response::new(Full::new(Bytes::from(body.to_string())));
    *response.status_mut() = status;
    let json = HeaderValue::from_static("application/problem+json");
    response.headers_mut().insert(header::CONTENT_TYPE, json);
    response
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a failed unwrap is the test's failure")]
    use super::*;

    #[tokio::test]
    async fn only_this_machine_is_listened_to() {
        let options = Options::new("https://127.0.0.1:1", "/dev/null");
        for address in ["0.0.0.0:0", "192.0.2.1:80", "[::]:0"] {
            let door = Door::Loopback(address.parse().unwrap());
            let opened = Agent::open(&door, options.clone(), Duration::ZERO).await;
            assert!(matches!(opened, Err(AgentError::NotLoopback(_))), "{address}");
        }
    }

    #[test]
    fn what_speaks_of_one_connection_stays_there() {
        let mut headers = HeaderMap::new();
        for (name, value) in
            [("connection", "keep-alive, x-mine"), ("x-mine", "1"), ("te", "trailers"), ("x-amz-target", "T")]
        {
            headers.insert(HeaderName::from_static(name), HeaderValue::from_static(value));
        }
        strip_hop_by_hop(&mut headers);
        assert_eq!(headers.keys().map(HeaderName::as_str).collect::<Vec<_>>(), ["x-amz-target"]);
    }
}
