//! Dialling, and keeping connections for the next call. HTTP/1.1: one call at a time on each.

use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use hyper::Request;
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use rustls::ClientConfig;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::time::Instant;
use tokio_rustls::TlsConnector;

use super::url::Target;
use super::{Answer, OutboundError, RemoteUrl};
use crate::limits;

/// An open connection and whom it leads to.
pub(crate) struct Link {
    target: Target,
    sender: SendRequest<Full<Bytes>>,
}

pub(crate) struct Connections {
    tls: Arc<ClientConfig>,
    connect_timeout: Duration,
    idle: Mutex<Vec<(Instant, Link)>>,
}

impl Connections {
    pub(crate) fn new(tls: Arc<ClientConfig>, connect_timeout: Duration) -> Self {
        Self { tls, connect_timeout, idle: Mutex::default() }
    }

    /// Sends the request, once: over a new connection only if a kept one did not take it.
    pub(crate) async fn send(
        &self,
        url: &RemoteUrl,
        mut request: Request<Full<Bytes>>,
    ) -> Result<Answer, OutboundError> {
        if let Some(mut link) = self.kept(url.target()) {
            match link.sender.try_send_request(request).await {
                Ok(response) => return Ok((link, response)),
                Err(mut error) => match error.take_message() {
                    Some(unsent) => request = unsent,
                    None => return Err(lost(error.error())),
                },
            }
        }
        let dialled = tokio::time::timeout(self.connect_timeout, self.dial(url.target())).await;
        let mut link = dialled.map_err(|_| OutboundError::Timeout(self.connect_timeout))??;
        let response = link.sender.send_request(request).await.map_err(|error| lost(&error))?;
        Ok((link, response))
    }

    /// Keeps a connection whose reply was read to its end.
    pub(crate) fn keep(&self, link: Link) {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        if !link.sender.is_closed() && idle.len() < limits::IDLE_CONNECTIONS_MAX {
            idle.push((Instant::now(), link));
        }
    }

    /// The freshest kept connection to `target`; old ones are dropped.
    fn kept(&self, target: &Target) -> Option<Link> {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        idle.retain(|(since, link)| since.elapsed() < limits::IDLE_MAX && !link.sender.is_closed());
        let last = idle.iter().rposition(|(_, link)| link.target == *target && link.sender.is_ready())?;
        Some(idle.swap_remove(last).1)
    }

    async fn dial(&self, target: &Target) -> Result<Link, OutboundError> {
        let sender = match target {
            Target::Tls { name, host, port } => {
                let stream = TcpStream::connect((host.as_str(), *port)).await.map_err(unreachable)?;
                stream.set_nodelay(true).map_err(unreachable)?;
                let connector = TlsConnector::from(Arc::clone(&self.tls));
                start(connector.connect(name.clone(), stream).await.map_err(unreachable)?).await?
            }
            Target::ThisMachine(addresses) => {
                let stream = TcpStream::connect(addresses.as_slice()).await.map_err(unreachable)?;
                stream.set_nodelay(true).map_err(unreachable)?;
                start(stream).await?
            }
        };
        Ok(Link { target: target.clone(), sender })
    }
}

async fn start(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
) -> Result<SendRequest<Full<Bytes>>, OutboundError> {
    let mut builder = http1::Builder::new();
    builder.max_buf_size(limits::REPLY_HEAD_BYTES_MAX);
    let (sender, connection) = builder.handshake(TokioIo::new(stream)).await.map_err(|error| lost(&error))?;
    // The driver ends with the connection; whoever waits for a reply gets its error.
    tokio::spawn(connection);
    Ok(sender)
}

fn unreachable(error: io::Error) -> OutboundError {
    OutboundError::Unreachable(error.to_string())
}

fn lost(error: &hyper::Error) -> OutboundError {
    OutboundError::Unreachable(error.to_string())
}
