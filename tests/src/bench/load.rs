//! A closed-loop load generator: each caller has one connection and one request in flight.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::Request;
use hyper_util::rt::TokioIo;
use rustls::ClientConfig;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

/// What a run reached.
pub(crate) struct Load {
    pub(crate) requests: u64,
    pub(crate) elapsed: Duration,
    micros: Vec<u32>,
    /// Bodies of the answers, if they were to be kept.
    pub(crate) answers: Vec<Bytes>,
}

impl Load {
    fn of(mut seen: Seen, elapsed: Duration) -> Self {
        seen.micros.sort_unstable();
        Self { requests: seen.micros.len() as u64, elapsed, micros: seen.micros, answers: seen.answers }
    }

    pub(crate) fn rate(&self) -> f64 {
        self.requests as f64 / self.elapsed.as_secs_f64()
    }

    /// Latency at this share of requests, in milliseconds.
    pub(crate) fn percentile(&self, share: f64) -> f64 {
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a share of a length")]
        let at = (self.micros.len() as f64 * share) as usize;
        f64::from(self.micros.get(at.min(self.micros.len() - 1)).copied().unwrap()) / 1_000.0
    }
}

/// Makes the body of request `turn` of caller `caller`.
pub(crate) type Body = Arc<dyn Fn(u64, u64) -> String + Send + Sync>;

/// Callers get going before anything counts.
const WARM_UP: Duration = Duration::from_millis(300);

/// Runs `callers` for `seconds` after a short warm-up.
pub(crate) async fn drive(
    port: u16,
    tls: Arc<ClientConfig>,
    path: &'static str,
    callers: u64,
    seconds: Duration,
    body: Body,
) -> Load {
    Load::of(run(port, tls, path, callers, body, Span::of(seconds, false)).await, seconds)
}

/// The same; the answers are kept.
pub(crate) async fn drive_keeping(
    port: u16,
    tls: Arc<ClientConfig>,
    path: &'static str,
    callers: u64,
    seconds: Duration,
    body: Body,
) -> Load {
    Load::of(run(port, tls, path, callers, body, Span::of(seconds, true)).await, seconds)
}

/// Lets each of `callers` make so many requests, however long they take.
pub(crate) async fn drive_turns(
    port: u16,
    tls: Arc<ClientConfig>,
    path: &'static str,
    callers: u64,
    turns: u64,
    body: Body,
) {
    let warm = Instant::now();
    let end = warm + Duration::from_secs(3_600);
    let made = run(port, tls, path, callers, body, Span { warm, end, turns, keep: false }).await;
    assert_eq!(made.micros.len() as u64, callers * turns, "not done within an hour");
}

/// [`drive`], while as many others ask for something else, whatever they are told, at a pace of their own:
/// twenty times a second each.
pub(crate) async fn drive_beside(
    port: u16,
    tls: Arc<ClientConfig>,
    path: &'static str,
    callers: u64,
    seconds: Duration,
    body: Body,
    other: Body,
) -> Load {
    const PACE: Duration = Duration::from_millis(50);
    let others = Paced { port, tls: Arc::clone(&tls), path, callers, pace: PACE, body: other };
    let beside = tokio::spawn(others.run(seconds));
    let load = drive(port, tls, path, callers, seconds, body).await;
    beside.abort();
    load
}

/// Callers that ask at a pace of their own, whatever they are told.
pub(crate) struct Paced {
    pub(crate) port: u16,
    pub(crate) tls: Arc<ClientConfig>,
    pub(crate) path: &'static str,
    pub(crate) callers: u64,
    /// Between two requests of one caller.
    pub(crate) pace: Duration,
    pub(crate) body: Body,
}

impl Paced {
    /// What they saw of answers that were a success.
    pub(crate) async fn run(self, seconds: Duration) -> Load {
        let span = Span::of(seconds, false);
        let mut tasks = tokio::task::JoinSet::new();
        for caller in 0..self.callers {
            let (tls, body) = (Arc::clone(&self.tls), Arc::clone(&self.body));
            tasks.spawn(paced(self.port, tls, self.path, caller, self.pace, span, body));
        }
        let mut all = Seen::default();
        while let Some(seen) = tasks.join_next().await {
            all.micros.extend(seen.unwrap().micros);
        }
        Load::of(all, seconds)
    }
}

async fn paced(
    port: u16,
    tls: Arc<ClientConfig>,
    path: &'static str,
    caller: u64,
    pace: Duration,
    span: Span,
    body: Body,
) -> Seen {
    let (mut sender, connection) = connect(port, tls).await;
    let connection = tokio::spawn(connection);
    let mut tick = tokio::time::interval(pace);
    let mut seen = Seen::default();
    for turn in 0.. {
        tick.tick().await;
        let started = Instant::now();
        if started >= span.end {
            break;
        }
        let response = sender.send_request(request(path, body(caller, turn))).await.unwrap();
        let status = response.status();
        response.into_body().collect().await.unwrap();
        if status.is_success() && started >= span.warm {
            seen.micros.push(u32::try_from(started.elapsed().as_micros()).unwrap_or(u32::MAX));
        }
    }
    connection.abort();
    seen
}

/// When to start measuring and when to stop.
#[derive(Clone, Copy)]
struct Span {
    warm: Instant,
    end: Instant,
    turns: u64,
    keep: bool,
}

impl Span {
    fn of(seconds: Duration, keep: bool) -> Self {
        let warm = Instant::now() + WARM_UP;
        Self { warm, end: warm + seconds, turns: u64::MAX, keep }
    }
}

/// What callers saw.
#[derive(Default)]
struct Seen {
    micros: Vec<u32>,
    answers: Vec<Bytes>,
}

async fn run(
    port: u16,
    tls: Arc<ClientConfig>,
    path: &'static str,
    callers: u64,
    body: Body,
    span: Span,
) -> Seen {
    let call = |caller| tokio::spawn(call(port, Arc::clone(&tls), path, caller, span, Arc::clone(&body)));
    let tasks: Vec<_> = (0..callers).map(call).collect();
    let mut all = Seen::default();
    for task in tasks {
        let seen = task.await.unwrap();
        all.micros.extend(seen.micros);
        all.answers.extend(seen.answers);
    }
    all
}

type Sender = hyper::client::conn::http1::SendRequest<Full<Bytes>>;
type Connection = hyper::client::conn::http1::Connection<TokioIo<TlsStream<TcpStream>>, Full<Bytes>>;

async fn connect(port: u16, tls: Arc<ClientConfig>) -> (Sender, Connection) {
    let socket = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
    socket.set_nodelay(true).unwrap();
    let stream = TlsConnector::from(tls).connect("localhost".try_into().unwrap(), socket).await.unwrap();
    hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.unwrap()
}

fn request(path: &str, body: String) -> Request<Full<Bytes>> {
    let request = Request::post(path).header("host", "localhost").header("content-type", "application/json");
    request.body(Full::new(Bytes::from(body))).unwrap()
}

async fn call(
    port: u16,
    tls: Arc<ClientConfig>,
    path: &'static str,
    caller: u64,
    Span { warm, end, turns, keep }: Span,
    body: Body,
) -> Seen {
    let (mut sender, connection) = connect(port, tls).await;
    let connection = tokio::spawn(connection);
    let mut seen = Seen::default();
    for turn in 0..turns {
        let started = Instant::now();
        if started >= end {
            break;
        }
        let response = sender.send_request(request(path, body(caller, turn))).await.unwrap();
        let status = response.status();
        let answer = response.into_body().collect().await.unwrap().to_bytes();
        assert!(status.is_success(), "{status}: {}", String::from_utf8_lossy(&answer));
        if started >= warm {
            seen.micros.push(u32::try_from(started.elapsed().as_micros()).unwrap_or(u32::MAX));
            if keep {
                seen.answers.push(answer);
            }
        }
    }
    drop(sender);
    connection.abort();
    seen
}
