//! When has a client been silent, or slow, for too long?

use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};

use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::Notify;
use tokio::time::Instant;

use crate::limits::Limits;

/// What one connection is doing.
#[derive(Debug)]
pub(super) struct Activity {
    state: Mutex<State>,
    /// HTTP/1.1 only: bytes outside a request start a header, which has its own deadline. In HTTP/2
    /// they may as well be housekeeping.
    watches_headers: bool,
    asked_to_go: Notify,
}

#[derive(Debug)]
struct State {
    requests: usize,
    opened: Instant,
    idle_since: Instant,
    header_since: Option<Instant>,
    go_away: bool,
}

/// What to do about a connection now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Nothing before this moment.
    Wait(Instant),
    /// Finish what is under way and close.
    GoAway(&'static str),
    /// Close now.
    Cut(&'static str),
}

impl Activity {
    pub(super) fn new(watches_headers: bool) -> Arc<Self> {
        let now = Instant::now();
        let state = State { requests: 0, opened: now, idle_since: now, header_since: None, go_away: false };
        Arc::new(Self { state: Mutex::new(state), watches_headers, asked_to_go: Notify::new() })
    }

    /// A request's headers are complete; it is under way until the guard is dropped.
    pub(super) fn begin(self: &Arc<Self>) -> Busy {
        self.with(|state| {
            state.requests += 1;
            state.header_since = None;
        });
        Busy(Arc::clone(self))
    }

    /// The connection should close after the requests under way: its identity was withdrawn.
    pub(super) fn ask_to_go_away(&self) {
        self.with(|state| state.go_away = true);
        self.asked_to_go.notify_one();
    }

    /// Returns when the verdict should be asked for again before its time.
    pub(super) async fn changed(&self) {
        self.asked_to_go.notified().await;
    }

    /// Whether a request is under way.
    pub(super) fn is_busy(&self) -> bool {
        self.with(|state| state.requests > 0)
    }

    /// What the limits say at `now`.
    pub(super) fn verdict(&self, limits: &Limits, now: Instant) -> Verdict {
        let (requests, opened, idle_since, header_since, go_away) = self.with(|state| {
            (state.requests, state.opened, state.idle_since, state.header_since, state.go_away)
        });
        let too_old = opened + limits.connection_age_max;
        if go_away {
            return Verdict::GoAway("withdrawn");
        }
        if now >= too_old {
            return Verdict::GoAway("age");
        }
        if requests > 0 {
            return Verdict::Wait(too_old);
        }
        if let Some(since) = header_since {
            let deadline = since + limits.header_timeout;
            return if now >= deadline { Verdict::Cut("headers") } else { Verdict::Wait(deadline) };
        }
        let deadline = idle_since + limits.idle_timeout;
        if now >= deadline { Verdict::GoAway("idle") } else { Verdict::Wait(deadline.min(too_old)) }
    }

    fn read_something(&self) {
        if self.watches_headers {
            self.with(|state| {
                if state.requests == 0 && state.header_since.is_none() {
                    state.header_since = Some(Instant::now());
                }
            });
        }
    }

    fn with<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        change(&mut self.state.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// A request under way.
#[derive(Debug)]
pub(super) struct Busy(Arc<Activity>);

impl Drop for Busy {
    fn drop(&mut self) {
        self.0.with(|state| {
            state.requests = state.requests.saturating_sub(1);
            state.idle_since = Instant::now();
        });
    }
}

/// A stream that tells an [`Activity`] when bytes arrive.
pub(super) struct Watched<S> {
    stream: S,
    activity: Arc<Activity>,
}

impl<S> Watched<S> {
    pub(super) fn new(stream: S, activity: Arc<Activity>) -> TokioIo<Self> {
        TokioIo::new(Self { stream, activity })
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Watched<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<std::io::Result<()>> {
        let before = buffer.filled().len();
        let polled = Pin::new(&mut self.stream).poll_read(cx, buffer);
        if buffer.filled().len() > before {
            self.activity.read_something();
        }
        polled
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Watched<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<std::io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }
    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }
    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[std::io::IoSlice<'_>],
    ) -> Poll<std::io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, slices)
    }
    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}
