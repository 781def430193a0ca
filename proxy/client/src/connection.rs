//! Dialling and reuse. HTTP/2: one connection that all calls share. HTTP/1.1: one per call in flight,
//! kept while idle.

use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::client::conn::{http1, http2};
use hyper::{Request, Response};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::limits;
use crate::options::Endpoint;

/// Why no connection came about. Nothing was sent.
#[derive(Debug)]
pub(crate) enum DialError {
    /// The network or the service; retry later.
    Unreachable(String),
    /// One side refused the other's certificate; retrying cannot help.
    Tls(String),
}

/// An open connection, with whether it has carried a call before.
pub(crate) struct Link {
    sender: Sender,
    pub(crate) reused: bool,
}

enum Sender {
    Http1(Driven<http1::SendRequest<Full<Bytes>>>),
    Http2(Driven<http2::SendRequest<Full<Bytes>>>),
}

/// A sender, with the TLS refusal that ended its connection, if one did.
#[derive(Clone)]
struct Driven<S> {
    send: S,
    refusal: Arc<OnceLock<String>>,
}

/// The connections to one service.
pub(crate) struct Connections {
    endpoint: Endpoint,
    open: Mutex<Open>,
    /// One dial at a time, so that callers who start together share the HTTP/2 connection.
    dialling: tokio::sync::Mutex<()>,
}

#[derive(Default)]
struct Open {
    shared: Option<Driven<http2::SendRequest<Full<Bytes>>>>,
    idle: Vec<Driven<http1::SendRequest<Full<Bytes>>>>,
}

impl Connections {
    pub(crate) fn new(endpoint: Endpoint) -> Self {
        Self { endpoint, open: Mutex::default(), dialling: tokio::sync::Mutex::new(()) }
    }

    pub(crate) fn authority(&self) -> &str {
        &self.endpoint.authority
    }

    /// A connection that looks alive, dialled if there is none.
    pub(crate) async fn take(&self) -> Result<Link, DialError> {
        if let Some(link) = self.reuse() {
            return Ok(link);
        }
        let _one = self.dialling.lock().await;
        if let Some(link) = self.reuse() {
            return Ok(link);
        }
        let sender = dial(&self.endpoint).await?;
        if let Sender::Http2(shared) = &sender {
            self.open().shared = Some(shared.clone());
        }
        Ok(Link { sender, reused: false })
    }

    /// Gives back a connection whose reply was read to its end.
    pub(crate) fn give_back(&self, link: Link) {
        let Sender::Http1(sender) = link.sender else { return };
        let mut open = self.open();
        if !sender.send.is_closed() && open.idle.len() < limits::IDLE_CONNECTIONS_MAX {
            open.idle.push(sender);
        }
    }

    fn reuse(&self) -> Option<Link> {
        let mut open = self.open();
        open.shared.take_if(|shared| shared.send.is_closed());
        if let Some(shared) = &open.shared {
            return Some(Link { sender: Sender::Http2(shared.clone()), reused: true });
        }
        while let Some(sender) = open.idle.pop() {
            if !sender.send.is_closed() {
                return Some(Link { sender: Sender::Http1(sender), reused: true });
            }
        }
        None
    }

    fn open(&self) -> std::sync::MutexGuard<'_, Open> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Link {
    /// The TLS refusal that broke an exchange, if one did.
    pub(crate) fn refusal(&self) -> Option<String> {
        match &self.sender {
            Sender::Http1(sender) => sender.refusal.get().cloned(),
            Sender::Http2(sender) => sender.refusal.get().cloned(),
        }
    }

    /// Sends one request; the URI is written as the protocol wants it.
    pub(crate) async fn send(
        &mut self,
        mut request: Request<Full<Bytes>>,
    ) -> hyper::Result<Response<Incoming>> {
        match &mut self.sender {
            Sender::Http1(sender) => {
                if let Some(path) = request.uri().path_and_query().cloned() {
                    *request.uri_mut() = path.into();
                }
                sender.send.ready().await?;
                sender.send.send_request(request).await
            }
            Sender::Http2(sender) => {
                request.headers_mut().remove(hyper::header::HOST);
                sender.send.ready().await?;
                sender.send.send_request(request).await
            }
        }
    }
}

async fn dial(endpoint: &Endpoint) -> Result<Sender, DialError> {
    let timeout = endpoint.connect_timeout;
    let stream = match tokio::time::timeout(timeout, open_tls(endpoint)).await {
        Ok(stream) => stream?,
        Err(_) => {
            let text = format!("{}: no TLS connection within {} ms", endpoint.authority, timeout.as_millis());
            return Err(DialError::Unreachable(text));
        }
    };
    let http2 = stream.get_ref().1.alpn_protocol() == Some(b"h2");
    let refusal = Arc::default();
    let stream = Watched { stream, refusal: Arc::clone(&refusal) };
    let handshake = if http2 { start_http2(stream).await } else { start_http1(stream).await };
    handshake.map_err(|error| match refusal.get() {
        Some(text) => DialError::Tls(text.clone()),
        None => DialError::Unreachable(format!("{}: {error}", endpoint.authority)),
    })
}

async fn open_tls(endpoint: &Endpoint) -> Result<TlsStream<TcpStream>, DialError> {
    let unreachable = |error: io::Error| DialError::Unreachable(format!("{}: {error}", endpoint.authority));
    let tcp = TcpStream::connect((endpoint.host.as_str(), endpoint.port)).await.map_err(unreachable)?;
    tcp.set_nodelay(true).map_err(unreachable)?;
    let connector = TlsConnector::from(endpoint.tls.clone());
    connector.connect(endpoint.server_name.clone(), tcp).await.map_err(|error| match tls_refusal(&error) {
        Some(text) => DialError::Tls(text),
        None => unreachable(error),
    })
}

async fn start_http1(stream: Watched) -> hyper::Result<Sender> {
    let refusal = Arc::clone(&stream.refusal);
    let (send, connection) = http1::handshake(TokioIo::new(stream)).await?;
    // The driver ends with the connection; whoever waits for a reply gets its error.
    tokio::spawn(connection);
    Ok(Sender::Http1(Driven { send, refusal }))
}

async fn start_http2(stream: Watched) -> hyper::Result<Sender> {
    let refusal = Arc::clone(&stream.refusal);
    let (send, connection) = http2::Builder::new(TokioExecutor::new())
        .timer(TokioTimer::new())
        .keep_alive_interval(Duration::from_millis(limits::KEEP_ALIVE_INTERVAL_MS))
        .keep_alive_timeout(Duration::from_millis(limits::KEEP_ALIVE_TIMEOUT_MS))
        .handshake(TokioIo::new(stream))
        .await?;
    tokio::spawn(connection);
    Ok(Sender::Http2(Driven { send, refusal }))
}

/// Reads after a failed write; what a service says before it hangs up is short.
const LAST_READS_MAX: usize = 16;

/// A TLS stream that remembers why it was refused. In TLS 1.3 the service refuses our certificate after
/// the handshake: the first read hears of it, and HTTP does not hand that error on.
struct Watched {
    stream: TlsStream<TcpStream>,
    refusal: Arc<OnceLock<String>>,
}

impl Watched {
    /// Remembers a refusal among the errors of a read.
    fn note<T>(&self, read: &Poll<io::Result<T>>) {
        if let Poll::Ready(Err(error)) = read
            && let Some(text) = tls_refusal(error)
        {
            // Only the first is the cause.
            let _ = self.refusal.set(text);
        }
    }

    /// A write fails because the service hung up: what it said before that is read first, to its end.
    fn hear_why<T>(
        &mut self,
        context: &mut Context<'_>,
        written: Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
        if !matches!(written, Poll::Ready(Err(_))) {
            return written;
        }
        for _ in 0..LAST_READS_MAX {
            let mut bytes = [0u8; 4096];
            let mut buffer = ReadBuf::new(&mut bytes);
            let read = Pin::new(&mut self.stream).poll_read(context, &mut buffer);
            self.note(&read);
            match read {
                // The end is on its way, or the write would not have failed; reading wakes us.
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Ok(())) if !buffer.filled().is_empty() => (),
                Poll::Ready(_) => break,
            }
        }
        written
    }
}

impl AsyncRead for Watched {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let read = Pin::new(&mut self.stream).poll_read(context, into);
        self.note(&read);
        read
    }
}

impl AsyncWrite for Watched {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(context, bytes);
        self.hear_why(context, written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write_vectored(context, bytes);
        self.hear_why(context, written)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = Pin::new(&mut self.stream).poll_flush(context);
        self.hear_why(context, flushed)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

/// The TLS refusal inside an I/O error, if that is what it is: a certificate one side did not accept.
fn tls_refusal(error: &io::Error) -> Option<String> {
    match error.get_ref()?.downcast_ref::<rustls::Error>()? {
        rustls::Error::AlertReceived(alert) => {
            Some(format!("the service refused our certificate ({alert:?})"))
        }
        rustls::Error::InvalidCertificate(cause) => {
            Some(format!("the service's certificate is not valid: {cause:?}"))
        }
        other => Some(other.to_string()),
    }
}
