//! What probes and Prometheus see: `/metrics`, `/livez`, `/readyz` over plain HTTP on loopback.
//!
//! Promises: never waits for a device, the disk or the archive; what is reported was observed elsewhere.
//! Refuses: everything but `GET` of these three paths. `/readyz` is 200 only if every check passes, so
//! that a load balancer sends work elsewhere; `/livez` is 200 as long as this task runs.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::header::{CACHE_CONTROL, CONTENT_TYPE, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use serde::Serialize;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};

use crate::stop::stopped;

/// Connections at once; a scraper and a probe need two.
const CONNECTIONS_MAX: usize = 32;
/// From connection to reply. Nobody here has a reason to be slow.
const CONNECTION_TIMEOUT: Duration = Duration::from_secs(10);

/// One thing that must be well for the daemon to serve.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Check {
    /// What: `ledger`, `backend:softhsm`, …
    pub name: String,
    /// Whether it is well.
    pub ok: bool,
    /// Why not, or a figure.
    pub detail: String,
}

impl Check {
    /// A check and what there is to say about it.
    pub fn new(name: impl Into<String>, ok: bool, detail: impl Into<String>) -> Self {
        Self { name: name.into(), ok, detail: detail.into() }
    }
}

/// What the listener reports on. Both are asked for each request and must answer at once.
pub trait Status: Send + Sync + 'static {
    /// Every readiness check, well or not.
    fn checks(&self) -> Vec<Check>;
    /// The metrics as Prometheus text.
    fn metrics(&self) -> String;
}

/// The bound listener.
#[derive(Debug)]
pub struct Ops(TcpListener);

impl Ops {
    /// Binds `address`; an error is the system's.
    pub async fn bind(address: SocketAddr) -> std::io::Result<Self> {
        Ok(Self(TcpListener::bind(address).await?))
    }

    /// Where it listens.
    pub fn address(&self) -> std::io::Result<SocketAddr> {
        self.0.local_addr()
    }

    /// Answers until `stop` turns true.
    pub async fn serve(self, status: Arc<dyn Status>, mut stop: watch::Receiver<bool>) {
        let slots = Arc::new(Semaphore::new(CONNECTIONS_MAX));
        loop {
            let accepted = tokio::select! {
                () = stopped(&mut stop) => return,
                accepted = self.0.accept() => accepted,
            };
            let Ok((stream, _)) = accepted else {
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            };
            // Without a slot the connection is dropped: probes come again.
            if let Ok(slot) = Arc::clone(&slots).try_acquire_owned() {
                let status = Arc::clone(&status);
                tokio::spawn(async move {
                    let _ = tokio::time::timeout(CONNECTION_TIMEOUT, answer_connection(stream, status)).await;
                    drop(slot);
                });
            }
        }
    }
}

async fn answer_connection(stream: TcpStream, status: Arc<dyn Status>) {
    let service = service_fn(|request: Request<Incoming>| {
        let response = answer(request.method(), request.uri().path(), status.as_ref());
        async move { Ok::<_, Infallible>(response) }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(CONNECTION_TIMEOUT)
        .keep_alive(false)
        .max_headers(64)
        .max_header_size(16 << 10)
        .serve_connection(TokioIo::new(stream), service);
    // The peer's going away is no event.
    let _ = connection.await;
}

fn answer(method: &Method, path: &str, status: &dyn Status) -> Response<Full<Bytes>> {
    if !matches!(*method, Method::GET | Method::HEAD) {
        return reply(StatusCode::METHOD_NOT_ALLOWED, "text/plain", "only GET\n");
    }
    match path {
        "/metrics" => reply(StatusCode::OK, "text/plain; version=0.0.4", status.metrics()),
        "/livez" => reply(StatusCode::OK, "application/json", "{\"status\":\"alive\"}\n"),
        "/readyz" => ready(status.checks()),
        _ => reply(StatusCode::NOT_FOUND, "text/plain", "there are /metrics, /livez and /readyz\n"),
    }
}

#[derive(Serialize)]
struct Readiness {
    status: &'static str,
    checks: Vec<Check>,
}

fn ready(checks: Vec<Check>) -> Response<Full<Bytes>> {
    let well = checks.iter().all(|check| check.ok);
    let (code, status) =
        if well { (StatusCode::OK, "ready") } else { (StatusCode::SERVICE_UNAVAILABLE, "not-ready") };
    let json = serde_json::to_string_pretty(&Readiness { status, checks }).unwrap_or_default();
    reply(code, "application/json", json + "\n")
}

fn reply(status: StatusCode, media_type: &'static str, body: impl Into<Bytes>) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(body.into()));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(media_type));
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

#[cfg(test)]
mod tests {
    #![expect(
        clippy::unwrap_used,
        clippy::indexing_slicing,
        reason = "a failed unwrap is the test's failure"
    )]
    use http_body_util::BodyExt as _;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;

    struct Fixed(Vec<Check>);

    impl Status for Fixed {
        fn checks(&self) -> Vec<Check> {
            self.0.clone()
        }
        fn metrics(&self) -> String {
            "# HELP a b\n".to_owned()
        }
    }

    async fn ask(method: &Method, path: &str, checks: Vec<Check>) -> (u16, String) {
        let response = answer(method, path, &Fixed(checks));
        let status = response.status().as_u16();
        let body = response.into_body().collect().await.unwrap().to_bytes();
        (status, String::from_utf8(body.to_vec()).unwrap())
    }

    #[tokio::test]
    async fn one_bad_check_makes_the_whole_not_ready_and_is_named() {
        let good = Check::new("ledger", true, "3 entries");
        let bad = Check::new("backend:hsm", false, "backend-unavailable");
        assert_eq!(ask(&Method::GET, "/readyz", vec![good.clone()]).await.0, 200);
        let (status, body) = ask(&Method::GET, "/readyz", vec![good, bad]).await;
        let body: serde_json::Value = serde_json::from_str(&body).unwrap();
        assert_eq!((status, &body["status"]), (503, &"not-ready".into()));
        assert_eq!(body["checks"][1]["name"], "backend:hsm");
        assert_eq!(body["checks"][1]["ok"], false);
    }

    #[tokio::test]
    async fn alive_is_not_ready_and_nothing_else_is_answered() {
        let bad = vec![Check::new("ledger", false, "full")];
        assert_eq!(ask(&Method::GET, "/livez", bad.clone()).await.0, 200);
        assert_eq!(ask(&Method::GET, "/metrics", bad.clone()).await, (200, "# HELP a b\n".to_owned()));
        assert_eq!(ask(&Method::POST, "/readyz", bad.clone()).await.0, 405);
        assert_eq!(ask(&Method::GET, "/v1/keys", bad).await.0, 404);
    }

    #[tokio::test]
    async fn it_answers_over_a_socket_and_stops_when_told() {
        let ops = Ops::bind("127.0.0.1:0".parse().unwrap()).await.unwrap();
        let address = ops.address().unwrap();
        let (stop, stopped) = watch::channel(false);
        let serving = tokio::spawn(ops.serve(Arc::new(Fixed(Vec::new())), stopped));
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(b"GET /livez HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).await.unwrap();
        assert!(text.starts_with("HTTP/1.1 200") && text.contains("alive"), "{text}");
        stop.send(true).unwrap();
        tokio::time::timeout(Duration::from_secs(10), serving).await.unwrap().unwrap();
    }
}
