//! Slow, silent, greedy and many clients; and what becomes of requests when the daemon is told to stop.
#![expect(clippy::unwrap_used, reason = "a failed unwrap is the test's failure")]

mod common;

use std::time::{Duration, Instant};

use chancery_proxy::limits::Limits;
use chancery_proxy::listener::Drained;
use common::{ORDERS, SOON, Served, get, get_h2, text};
use hyper::Request;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

const SHORT: Duration = Duration::from_millis(300);

/// Bytes until the other side closes, however it does.
async fn until_closed(stream: &mut (impl tokio::io::AsyncRead + Unpin)) -> Vec<u8> {
    let mut bytes = Vec::new();
    let _ = tokio::time::timeout(SOON, stream.read_to_end(&mut bytes)).await.unwrap();
    bytes
}

#[tokio::test]
async fn who_says_nothing_is_not_waited_for() {
    let served = Served::start(Limits { handshake_timeout: SHORT, ..Limits::default() }).await;
    let mut silent = TcpStream::connect(served.address).await.unwrap();
    let mut stuttering = TcpStream::connect(served.address).await.unwrap();
    // The start of a record, and nothing more.
    stuttering.write_all(&[0x16, 0x03, 0x01, 0x02, 0x00, 0x01]).await.unwrap();
    let started = Instant::now();
    until_closed(&mut silent).await;
    until_closed(&mut stuttering).await;
    assert!(started.elapsed() >= SHORT / 2, "closed after {:?}", started.elapsed());
    served.until_metric("chancery_tls_handshake_failures_total{reason=\"timeout\"} 2").await;
    let orders = served.orders();
    assert_eq!(served.client(Some(&orders)).once("/").await.unwrap(), ORDERS);
}

#[tokio::test]
async fn slow_headers_end_a_connection_but_idleness_within_its_limit_does_not() {
    let limits = Limits { header_timeout: SHORT, ..Limits::default() };
    let served = Served::start(limits).await;
    let orders = served.orders();
    let client = served.client(Some(&orders));
    let mut slow = client.tls().await.unwrap();
    let mut idle = client.http1().await.unwrap();
    assert_eq!(text(idle.send_request(get("/")).await.unwrap()).await, ORDERS);
    slow.write_all(b"GET / HTTP/1.1\r\nhost: ").await.unwrap();
    // Keeping on dripping does not help: the deadline is for the whole header.
    let dripping = async {
        while slow.write_all(b"x").await.is_ok() && slow.flush().await.is_ok() {
            tokio::time::sleep(SHORT / 10).await;
        }
    };
    tokio::time::timeout(SOON, dripping).await.unwrap();
    served.until_metric("chancery_connections_closed_total{reason=\"headers\"} 1").await;
    // Much longer idle than the header's deadline, and still there.
    assert_eq!(text(idle.send_request(get("/")).await.unwrap()).await, ORDERS);
}

#[tokio::test]
async fn idle_connections_are_given_back() {
    let served = Served::start(Limits { idle_timeout: SHORT, ..Limits::default() }).await;
    let orders = served.orders();
    let client = served.client(Some(&orders));
    let mut one = client.http1().await.unwrap();
    let mut two = client.h2().await;
    let mut never_spoke = client.tls().await.unwrap();
    assert_eq!(text(one.send_request(get("/")).await.unwrap()).await, ORDERS);
    assert_eq!(text(two.send_request(get_h2("/")).await.unwrap()).await, ORDERS);
    common::until(|| one.is_closed() && two.is_closed()).await;
    until_closed(&mut never_spoke).await;
    served.until_metric("chancery_connections_closed_total{reason=\"idle\"} 3").await;
    served.until_metric("chancery_connections 0").await;
}

#[tokio::test]
async fn a_request_under_way_is_not_idleness() {
    let served =
        Served::start(Limits { idle_timeout: SHORT, header_timeout: SHORT, ..Limits::default() }).await;
    let orders = served.orders();
    let mut open = served.client(Some(&orders)).http1().await.unwrap();
    let asking = tokio::spawn(async move { text(open.send_request(get("/wait")).await.unwrap()).await });
    served.until_waiting(1).await;
    tokio::time::sleep(SHORT * 3).await;
    served.release.notify_waiters();
    assert_eq!(tokio::time::timeout(SOON, asking).await.unwrap().unwrap(), ORDERS);
}

#[tokio::test]
async fn old_connections_are_asked_to_go_and_lose_nothing() {
    let served = Served::start(Limits { connection_age_max: SHORT, ..Limits::default() }).await;
    let orders = served.orders();
    let mut open = served.client(Some(&orders)).h2().await;
    let asking = tokio::spawn({
        let mut open = open.clone();
        async move { text(open.send_request(get_h2("/wait")).await.unwrap()).await }
    });
    served.until_waiting(1).await;
    // Asked to go away: no further request is taken on it, the one under way is answered.
    let deadline = Instant::now() + SOON;
    while open.send_request(get_h2("/")).await.is_ok() {
        assert!(Instant::now() < deadline, "requests are still taken");
        tokio::time::sleep(SHORT / 10).await;
    }
    assert!(!asking.is_finished());
    served.release.notify_waiters();
    assert_eq!(tokio::time::timeout(SOON, asking).await.unwrap().unwrap(), ORDERS);
    served.until_metric("chancery_connections_closed_total{reason=\"age\"} 1").await;
}

#[tokio::test]
async fn headers_have_bounds() {
    let limits = Limits { headers_max: 10, header_bytes_max: 8192, ..Limits::default() };
    let served = Served::start(limits).await;
    let orders = served.orders();
    let client = served.client(Some(&orders));
    let many = (0..20).map(|number| format!("x-{number}: 1\r\n")).collect::<String>();
    let long = format!("x: {}\r\n", "y".repeat(20_000));
    for headers in [many, long] {
        let mut stream = client.tls().await.unwrap();
        let request = format!("GET / HTTP/1.1\r\nhost: x\r\n{headers}\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let reply = until_closed(&mut stream).await;
        assert!(reply.starts_with(b"HTTP/1.1 431"), "{}", String::from_utf8_lossy(&reply));
    }
    let mut h2 = client.h2().await;
    let request = Request::get("https://localhost/").header("x", "y".repeat(20_000));
    let reply = h2.send_request(request.body(http_body_util::Full::default()).unwrap()).await;
    assert!(reply.is_err() || reply.unwrap().status() == 431);
    assert_eq!(client.once("/").await.unwrap(), ORDERS);
}

#[tokio::test]
async fn one_address_cannot_take_every_connection() {
    let served = Served::start(Limits { connections_per_address_max: 3, ..Limits::default() }).await;
    let orders = served.orders();
    let client = served.client(Some(&orders));
    let mut open = Vec::new();
    for _ in 0..3 {
        let mut connection = client.http1().await.unwrap();
        assert_eq!(text(connection.send_request(get("/")).await.unwrap()).await, ORDERS);
        open.push(connection);
    }
    assert!(client.once("/").await.is_err());
    served.until_metric("chancery_connections_refused_total{reason=\"address-connections\"} 1").await;
    open.pop();
    served.until_metric("chancery_connections 2").await;
    assert_eq!(client.once("/").await.unwrap(), ORDERS);
}

#[tokio::test]
async fn connections_above_the_bound_wait_for_a_slot() {
    let served = Served::start(Limits { connections_max: 1, ..Limits::default() }).await;
    let orders = served.orders();
    let client = served.client(Some(&orders));
    let mut first = client.http1().await.unwrap();
    assert_eq!(text(first.send_request(get("/")).await.unwrap()).await, ORDERS);
    let waiting = tokio::spawn(async move { client.once("/").await });
    tokio::time::sleep(SHORT).await;
    assert!(!waiting.is_finished());
    drop(first);
    assert_eq!(tokio::time::timeout(SOON, waiting).await.unwrap().unwrap().unwrap(), ORDERS);
}

#[tokio::test]
async fn the_silent_do_not_keep_others_from_their_handshake() {
    let served = Served::start(Limits { handshakes_max: 1, ..Limits::default() }).await;
    let mut silent = Vec::new();
    for _ in 0..20 {
        silent.push(TcpStream::connect(served.address).await.unwrap());
    }
    served.until_metric("chancery_connections 20").await;
    let orders = served.orders();
    assert_eq!(served.client(Some(&orders)).once("/").await.unwrap(), ORDERS);
    drop(silent);
}

#[tokio::test]
async fn stopping_answers_what_is_under_way_and_takes_nothing_new() {
    let served = Served::start(Limits::default()).await;
    let orders = served.orders();
    let client = served.client(Some(&orders));
    let mut h1 = client.http1().await.unwrap();
    let mut h2 = client.h2().await;
    let mut idle = client.http1().await.unwrap();
    assert_eq!(text(idle.send_request(get("/")).await.unwrap()).await, ORDERS);
    let first = tokio::spawn(async move { text(h1.send_request(get("/wait")).await.unwrap()).await });
    let second = tokio::spawn(async move { text(h2.send_request(get_h2("/wait")).await.unwrap()).await });
    served.until_waiting(2).await;

    served.begin_drain();
    common::until(|| idle.is_closed()).await;
    let address = served.address;
    let deadline = Instant::now() + SOON;
    while TcpStream::connect(address).await.is_ok() {
        assert!(Instant::now() < deadline, "the socket stays open");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert!(!first.is_finished() && !second.is_finished());

    served.release.notify_waiters();
    assert_eq!(tokio::time::timeout(SOON, first).await.unwrap().unwrap(), ORDERS);
    assert_eq!(tokio::time::timeout(SOON, second).await.unwrap().unwrap(), ORDERS);
    assert_eq!(served.drained().await, Drained { cut: 0 });
}

#[tokio::test]
async fn stopping_does_not_wait_for_ever() {
    let served = Served::start(Limits { drain_timeout: SHORT, ..Limits::default() }).await;
    let orders = served.orders();
    let mut h1 = served.client(Some(&orders)).http1().await.unwrap();
    let stuck = tokio::spawn(async move { h1.send_request(get("/wait")).await.is_err() });
    served.until_waiting(1).await;
    assert_eq!(served.drained().await, Drained { cut: 1 });
    assert!(tokio::time::timeout(SOON, stuck).await.unwrap().unwrap());
}
