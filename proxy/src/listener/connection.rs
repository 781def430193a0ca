//! One connection, from its first byte to its last.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::{TokioExecutor, TokioTimer};
use hyper_util::server::graceful::GracefulConnection;
use rustls::server::Acceptor;
use rustls_pki_types::UnixTime;
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_rustls::LazyConfigAcceptor;
use tokio_rustls::server::TlsStream;

use super::activity::{Activity, Verdict, Watched};
use super::lingering::Lingering;
use super::{Handler, Shared};
use crate::authenticate::Session;
use crate::limits::Limits;
use crate::stop::stopped;
use crate::tls;

/// How long a connection that was asked to go away may take when nothing is under way.
const GO_AWAY_GRACE: Duration = Duration::from_secs(1);
/// Bytes of request bodies in flight on one HTTP/2 stream, and on one HTTP/2 connection.
const STREAM_WINDOW_BYTES: u32 = 256 << 10;
const CONNECTION_WINDOW_BYTES: u32 = 1 << 20;

/// Handshake, then requests. Ends when the client leaves, a limit is reached, or all is drained.
pub(super) async fn run<H: Handler>(
    shared: &Arc<Shared<H>>,
    stream: TcpStream,
    remote: SocketAddr,
    shutdown: watch::Receiver<bool>,
) {
    let _open = shared.metrics.connection_opened();
    let Some(stream) = handshake(shared, stream, shutdown.clone()).await else { return };
    let (_, tls) = stream.get_ref();
    let chain = tls.peer_certificates().unwrap_or_default().to_vec();
    let http2 = tls.alpn_protocol() == Some(b"h2");
    let session = Arc::new(Session::new(Arc::clone(&shared.authenticator), remote, chain));
    let activity = Activity::new(!http2);
    let closed = if http2 {
        serve_http2(shared, stream, session, activity, shutdown).await
    } else {
        serve_http1(shared, stream, session, activity, shutdown).await
    };
    if let Some(reason) = closed {
        shared.metrics.connection_closed(reason);
    }
}

/// The finished handshake, or `None` after counting why not.
async fn handshake<H: Handler>(
    shared: &Shared<H>,
    stream: TcpStream,
    mut shutdown: watch::Receiver<bool>,
) -> Option<TlsStream<TcpStream>> {
    let started = Instant::now();
    // Small replies must not wait for the next one.
    let _ = stream.set_nodelay(true);
    let finished = tokio::select! {
        finished = tokio::time::timeout(shared.limits.handshake_timeout, negotiate(shared, stream)) => finished,
        () = stopped(&mut shutdown) => return None,
    };
    match finished {
        Ok(Ok(stream)) => {
            shared.metrics.handshake(started.elapsed());
            Some(stream)
        }
        Ok(Err(error)) => {
            let reason = tls::failure_reason(&error);
            shared.metrics.handshake_failed(reason);
            tracing::debug!(reason, "handshake failed");
            None
        }
        Err(_) => {
            shared.metrics.handshake_failed("timeout");
            None
        }
    }
}

/// Waits for the client's first message without holding a handshake permit: only those who speak count
/// against the bound on costly work.
async fn negotiate<H: Handler>(
    shared: &Shared<H>,
    stream: TcpStream,
) -> std::io::Result<TlsStream<TcpStream>> {
    let hello = LazyConfigAcceptor::new(Acceptor::default(), stream).await?;
    let _permit = shared.handshakes.acquire().await;
    hello.into_stream(shared.authenticator.tls().server_config()).await
}

async fn serve_http1<H: Handler>(
    shared: &Arc<Shared<H>>,
    stream: TlsStream<TcpStream>,
    session: Arc<Session>,
    activity: Arc<Activity>,
    shutdown: watch::Receiver<bool>,
) -> Option<&'static str> {
    let service = service_fn(|request| answer(shared, &session, &activity, request));
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        // Our own deadlines tell a slow header from an idle connection; the library's does not.
        .header_read_timeout(None)
        .max_headers(shared.limits.headers_max)
        .max_header_size(shared.limits.header_bytes_max)
        .serve_connection(
            Watched::new(Lingering::new(stream, &shared.limits), Arc::clone(&activity)),
            service,
        );
    supervise(connection, &activity, &shared.limits, shutdown).await
}

async fn serve_http2<H: Handler>(
    shared: &Arc<Shared<H>>,
    stream: TlsStream<TcpStream>,
    session: Arc<Session>,
    activity: Arc<Activity>,
    shutdown: watch::Receiver<bool>,
) -> Option<&'static str> {
    let service = {
        let (shared, activity) = (Arc::clone(shared), Arc::clone(&activity));
        service_fn(move |request| {
            let (shared, session, activity) =
                (Arc::clone(&shared), Arc::clone(&session), Arc::clone(&activity));
            async move { answer(&shared, &session, &activity, request).await }
        })
    };
    let connection = http2::Builder::new(TokioExecutor::new())
        .timer(TokioTimer::new())
        .max_concurrent_streams(u32::try_from(shared.limits.http2_streams_max).unwrap_or(u32::MAX))
        .max_header_list_size(u32::try_from(shared.limits.header_bytes_max).unwrap_or(u32::MAX))
        .initial_stream_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
        .serve_connection(
            Watched::new(Lingering::new(stream, &shared.limits), Arc::clone(&activity)),
            service,
        );
    supervise(connection, &activity, &shared.limits, shutdown).await
}

async fn answer<H: Handler>(
    shared: &Arc<Shared<H>>,
    session: &Session,
    activity: &Arc<Activity>,
    request: Request<Incoming>,
) -> Result<Response<Full<Bytes>>, Infallible> {
    let busy = activity.begin();
    let peer = session.peer(UnixTime::now());
    if matches!(peer.principal(), Err(error) if error.ends_connection()) {
        activity.ask_to_go_away();
    }
    let response = shared.handler.handle(peer, request).await;
    drop(busy);
    Ok(response)
}

/// Drives a connection to its end; the answer says which limit ended it, if one did.
async fn supervise<C: GracefulConnection>(
    connection: C,
    activity: &Activity,
    limits: &Limits,
    mut shutdown: watch::Receiver<bool>,
) -> Option<&'static str> {
    let mut connection = pin!(connection);
    let mut draining = false;
    let mut closing: Option<(&'static str, Instant)> = None;
    loop {
        let now = Instant::now();
        let wake = match (activity.verdict(limits, now), closing) {
            (Verdict::Cut(reason), _) => return Some(reason),
            (_, Some((reason, until))) if now >= until && !activity.is_busy() => return Some(reason),
            (_, Some((_, until))) => until.max(now + GO_AWAY_GRACE / 4),
            (Verdict::GoAway(reason), None) => {
                connection.as_mut().graceful_shutdown();
                closing = Some((reason, now + GO_AWAY_GRACE));
                continue;
            }
            // A header's deadline may begin while we sleep; it is never shorter than this.
            (Verdict::Wait(until), None) => until.min(now + limits.header_timeout),
        };
        tokio::select! {
            _ = connection.as_mut() => return closing.map(|(reason, _)| reason),
            () = tokio::time::sleep_until(wake) => {}
            () = activity.changed() => {}
            () = stopped(&mut shutdown), if !draining => {
                draining = true;
                connection.as_mut().graceful_shutdown();
            }
        }
    }
}
