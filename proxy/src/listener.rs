//! Hop 1: a connection slot, a handshake with a deadline, and requests until somebody has had enough.
//!
//! Promises: connections, handshakes and waits are bounded, in all and per address; on shutdown no new
//! connection is taken, every request under way is answered, and only then the connection is closed.
//! Refuses: to wait for a slow client longer than `limits.rs` says.
//!
//! The handler is a parameter: this file knows TLS and HTTP, and nothing of keys.

mod activity;
mod addresses;
mod connection;
mod lingering;

use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::{Request, Response};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::task::JoinSet;

use crate::authenticate::{Authenticator, Peer};
use crate::limits::Limits;
use crate::stop::stopped;
use crate::telemetry::Metrics;
use addresses::Addresses;

/// What answers requests.
pub trait Handler: Clone + Send + Sync + 'static {
    /// Answers one request. Runs on the connection's task: what must outlive the connection is spawned.
    fn handle(
        &self,
        peer: Peer,
        request: Request<Incoming>,
    ) -> impl Future<Output = Response<Full<Bytes>>> + Send;
}

impl<F, R> Handler for F
where
    F: Fn(Peer, Request<Incoming>) -> R + Clone + Send + Sync + 'static,
    R: Future<Output = Response<Full<Bytes>>> + Send,
{
    fn handle(
        &self,
        peer: Peer,
        request: Request<Incoming>,
    ) -> impl Future<Output = Response<Full<Bytes>>> + Send {
        self(peer, request)
    }
}

/// What all connections share.
struct Shared<H> {
    handler: H,
    authenticator: Arc<Authenticator>,
    limits: Limits,
    metrics: Arc<Metrics>,
    handshakes: Semaphore,
    addresses: Arc<Addresses>,
}

/// The service listener, bound and not yet serving.
pub struct Listener<H> {
    socket: TcpListener,
    slots: Arc<Semaphore>,
    shared: Arc<Shared<H>>,
}

impl<H> std::fmt::Debug for Listener<H> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Listener").field("socket", &self.socket).finish_non_exhaustive()
    }
}

/// How serving ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Drained {
    /// Connections that were still busy when the drain's time was over and were cut.
    pub cut: usize,
}

impl<H: Handler> Listener<H> {
    /// Binds `address`; an error is the system's (address in use, no permission).
    pub async fn bind(
        address: SocketAddr,
        authenticator: Arc<Authenticator>,
        handler: H,
        limits: Limits,
        metrics: Arc<Metrics>,
    ) -> std::io::Result<Self> {
        let socket = TcpListener::bind(address).await?;
        let shared = Shared {
            handler,
            authenticator,
            handshakes: Semaphore::new(limits.handshakes_max),
            addresses: Arc::new(Addresses::new(&limits)),
            metrics,
            limits,
        };
        let slots = Arc::new(Semaphore::new(shared.limits.connections_max));
        Ok(Self { socket, slots, shared: Arc::new(shared) })
    }

    /// Where it listens; tells the port if 0 was asked for.
    pub fn address(&self) -> std::io::Result<SocketAddr> {
        self.socket.local_addr()
    }

    /// Serves until `shutdown` turns true, then drains for at most `drain_timeout`.
    pub async fn serve(self, shutdown: watch::Receiver<bool>) -> Drained {
        let mut stop = shutdown.clone();
        let mut connections = JoinSet::new();
        loop {
            tokio::select! {
                biased;
                () = stopped(&mut stop) => break,
                Some(ended) = connections.join_next() => report_panic(ended),
                (stream, remote, slot) = self.accept() => self.admit(stream, remote, slot, &shutdown, &mut connections),
            }
        }
        let Self { socket, shared, .. } = self;
        drop(socket);
        drain(connections, shared.limits.drain_timeout).await
    }

    /// The next connection, once there is a slot for it.
    async fn accept(&self) -> (TcpStream, SocketAddr, OwnedSemaphorePermit) {
        loop {
            let Ok(slot) = Arc::clone(&self.slots).acquire_owned().await else {
                std::future::pending().await
            };
            match self.socket.accept().await {
                Ok((stream, remote)) => return (stream, remote, slot),
                Err(error) => self.accept_failed(&error).await,
            }
        }
    }

    /// Out of descriptors, most likely: waiting a little is all one can do.
    async fn accept_failed(&self, error: &std::io::Error) {
        self.shared.metrics.connection_refused("accept-error");
        tracing::error!(%error, "cannot accept connections; is the limit of open files too low?");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }

    fn admit(
        &self,
        stream: TcpStream,
        remote: SocketAddr,
        slot: OwnedSemaphorePermit,
        shutdown: &watch::Receiver<bool>,
        connections: &mut JoinSet<()>,
    ) {
        match self.shared.addresses.enter(remote.ip(), std::time::Instant::now()) {
            Err(reason) => self.shared.metrics.connection_refused(reason),
            Ok(entered) => {
                let (shared, shutdown) = (Arc::clone(&self.shared), shutdown.clone());
                connections.spawn(async move {
                    connection::run(&shared, stream, remote, shutdown).await;
                    drop((entered, slot));
                });
            }
        }
    }
}

/// Waits for every connection, and cuts those that take too long.
async fn drain(mut connections: JoinSet<()>, timeout: Duration) -> Drained {
    let all = async {
        while let Some(ended) = connections.join_next().await {
            report_panic(ended);
        }
    };
    let _ = tokio::time::timeout(timeout, all).await;
    let cut = connections.len();
    connections.shutdown().await;
    Drained { cut }
}

fn report_panic(ended: Result<(), tokio::task::JoinError>) {
    if let Err(error) = ended
        && error.is_panic()
    {
        tracing::error!("a connection's task failed; its requests were not answered");
    }
}
