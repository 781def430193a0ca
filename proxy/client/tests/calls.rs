//! What a call does when all is well, when connections break, and when the service says no.

#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "a failed step is a failed test")]

mod server;

use std::time::{Duration, Instant};

use chancery_client::{
    BatchItem, Client, ClientError, ConnectError, HttpVersion, NewEvent, Options, SignRequest,
    random_idempotency_key,
};
use chancery_format::{Digest, LeafIndex};
use server::{Act, Server};

fn options(server: &Server) -> Options {
    Options::new(&server.url, server.file("ca.crt"))
        .identity(server.file("client.crt"), server.file("client.key"))
}

async fn client(server: &Server) -> Client {
    Client::connect(options(server)).await.unwrap()
}

fn request() -> SignRequest {
    SignRequest::new("orders".parse().unwrap(), &Digest::Sha256([0xab; 32]))
}

async fn sign(client: &Client) -> Result<String, ClientError> {
    let answer = client.sign(&request(), &random_idempotency_key().unwrap()).await?;
    assert_eq!(answer.value.index(), Some(LeafIndex(5)));
    Ok(answer.value.signature)
}

#[tokio::test(flavor = "multi_thread")]
async fn many_calls_share_one_http2_connection() {
    let server = Server::start().await;
    server.script(&[], Act::Sign);
    let client = Client::new(&options(&server)).unwrap();
    let calls = (0..20).map(|_| sign(&client));
    for signature in futures_all(calls).await {
        assert_eq!(signature.unwrap(), "Bwc=");
    }
    assert_eq!(server.connections(), 1);
    assert!(server.seen().iter().all(|seen| seen.version == hyper::Version::HTTP_2));
}

/// Polls all futures together on this task.
async fn futures_all<F: Future>(futures: impl Iterator<Item = F>) -> Vec<F::Output> {
    let mut futures: Vec<_> = futures.map(Box::pin).collect();
    let mut outputs: Vec<Option<F::Output>> = futures.iter().map(|_| None).collect();
    std::future::poll_fn(|context| {
        for (future, output) in futures.iter_mut().zip(outputs.iter_mut()) {
            if output.is_none()
                && let std::task::Poll::Ready(value) = future.as_mut().poll(context)
            {
                *output = Some(value);
            }
        }
        if outputs.iter().all(Option::is_some) {
            std::task::Poll::Ready(())
        } else {
            std::task::Poll::Pending
        }
    })
    .await;
    outputs.into_iter().flatten().collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn http1_keeps_its_connection_between_calls() {
    let server = Server::start().await;
    server.script(&[], Act::Sign);
    let client = Client::connect(Options { http: HttpVersion::Http1, ..options(&server) }).await.unwrap();
    for _ in 0..5 {
        sign(&client).await.unwrap();
    }
    assert_eq!(server.connections(), 1);
    assert!(server.seen().iter().all(|seen| seen.version == hyper::Version::HTTP_11));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_connection_is_retried_with_the_same_key_and_body() {
    let server = Server::start().await;
    for http in [HttpVersion::Http1, HttpVersion::Negotiate] {
        server.script(&[Act::Vanish, Act::Vanish, Act::Vanish], Act::Sign);
        let client = Client::connect(Options { http, ..options(&server) }).await.unwrap();
        let before = server.seen().len();
        assert_eq!(sign(&client).await.unwrap(), "Bwc=");
        let seen = &server.seen()[before..];
        assert_eq!(seen.len(), 4);
        assert!(seen[0].key.is_some());
        assert!(seen.iter().all(|one| one.key == seen[0].key && one.body == seen[0].body));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn attempts_are_bounded_and_the_error_says_it_may_have_happened() {
    let server = Server::start().await;
    server.script(&[], Act::Vanish);
    let client = Client::connect(Options { attempts_max: 3, ..options(&server) }).await.unwrap();
    assert!(matches!(sign(&client).await, Err(ClientError::Interrupted(_))));
    assert_eq!(server.seen().len(), 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_listening_is_unavailable() {
    let server = Server::start().await;
    let free = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let client = Client::new(&Options { url: format!("https://{free}"), ..options(&server) }).unwrap();
    assert!(matches!(sign(&client).await, Err(ClientError::Unavailable(_))));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_deadline_ends_a_call_that_gets_no_answer() {
    let server = Server::start().await;
    server.script(&[], Act::Hang);
    let client = Client::connect(Options { call_timeout_ms: 300, ..options(&server) }).await.unwrap();
    let started = Instant::now();
    assert!(matches!(sign(&client).await, Err(ClientError::Deadline(300))));
    assert!(started.elapsed() < Duration::from_secs(5), "{:?}", started.elapsed());
    // The connection that hangs is not in the way of the next call.
    server.script(&[], Act::Sign);
    sign(&client).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn certificates_are_checked_on_both_sides_and_refusals_are_not_retried() {
    let server = Server::start().await;
    server.script(&[], Act::Sign);
    let stranger = Options { ca: server.file("stranger-ca.crt"), ..options(&server) };
    assert!(matches!(Client::connect(stranger).await, Err(ConnectError::Call(ClientError::Tls(_)))));
    let unknown = (server.file("stranger.crt"), server.file("stranger.key"));
    for identity in [None, Some(unknown)] {
        for http in [HttpVersion::Http1, HttpVersion::Negotiate] {
            let client =
                Client::new(&Options { identity: identity.clone(), http, ..options(&server) }).unwrap();
            let error = sign(&client).await.unwrap_err();
            assert!(matches!(error, ClientError::Tls(_)), "{http:?} {identity:?}: {error}");
        }
    }
    assert!(server.seen().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refusal_is_final_unless_it_passes() {
    let server = Server::start().await;
    let client = client(&server).await;
    for code in ["kid-not-granted", "halted", "backend-unavailable", "ledger-full"] {
        let before = server.seen().len();
        server.script(&[Act::problem(503, code, Some(0))], Act::Sign);
        let error = sign(&client).await.unwrap_err();
        assert!(matches!(&error, ClientError::Refused(problem) if problem.code == code), "{error}");
        assert_eq!(server.seen().len(), before + 1, "{code}");
    }
    let busy = [Act::problem(503, "overloaded", Some(0)), Act::problem(429, "rate-limited", None)];
    server.script(&busy, Act::Sign);
    sign(&client).await.unwrap();
    // A pause longer than the call has is not begun.
    server.script(&[], Act::problem(429, "rate-limited", Some(3600)));
    let started = Instant::now();
    assert!(matches!(sign(&client).await, Err(ClientError::Refused(_))));
    assert!(started.elapsed() < Duration::from_secs(5));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reply_to_another_request_is_not_taken() {
    let server = Server::start().await;
    let client = client(&server).await;
    server.script(&[], Act::json(200, "{}"));
    assert!(matches!(sign(&client).await, Err(ClientError::Reply(_))));
    let other = SignRequest::new("orders".parse().unwrap(), &Digest::Sha256([1; 32]));
    let item = |digest: &str| {
        format!(
            r#"{{"id":"e","kid":"orders","signer_kid":"k","algorithm":"ed25519","digest":"{digest}","signature":"AA==","ts":"t","rung":"durable","receipt":{{"version":1,"index":5}}}}"#
        )
    };
    server.script(&[], Act::json(200, &item(other.digest_hex())));
    assert!(matches!(sign(&client).await, Err(ClientError::Reply(_))));

    let key = random_idempotency_key().unwrap();
    let problem = r#"{"title":"t","status":403,"code":"kid-not-granted"}"#;
    let good = format!(r#"{{"items":[{},{problem}]}}"#, item(other.digest_hex()));
    server.script(&[], Act::json(200, &good));
    let requests = [other, request()];
    let reply = client.sign_batch(&requests, &key).await.unwrap().value;
    assert!(
        matches!(&reply.items[..], [BatchItem::Signed(_), BatchItem::Refused(p)] if p.code == "kid-not-granted")
    );
    let [first, second] = requests;
    assert!(matches!(client.sign_batch(&[second, first], &key).await, Err(ClientError::Reply(_))));
}

#[tokio::test(flavor = "multi_thread")]
async fn each_method_asks_for_its_route() {
    let server = Server::start().await;
    let client = client(&server).await;
    server.script(&[], Act::json(200, r#"{"valid":true,"kid":"orders","keyState":"active"}"#));
    let kid = "orders".parse().unwrap();
    assert!(client.verify(&kid, &Digest::Sha256([0; 32]), "AA==").await.unwrap().value.valid);
    server.script(&[], Act::json(201, r#"{"id":"e","seq":3,"stream":"s","eventType":"t","payload":{},"ts":"t","hash":"h","receipt":{"version":1,"index":9}}"#));
    let payload = serde_json::value::RawValue::from_string("{\"a\":1.50}".into()).unwrap();
    let event = NewEvent::new("order.paid".parse().unwrap(), payload).stream(Some("s".parse().unwrap()));
    let appended = client.append_event(&event, &random_idempotency_key().unwrap()).await.unwrap();
    assert_eq!((appended.value.seq, appended.value.index()), (3, Some(LeafIndex(9))));
    server.script(
        &[],
        Act::json(
            200,
            r#"{"keys":[{"kid":"orders","signer_kid":"o1","algorithm":"ed25519","state":"active"}]}"#,
        ),
    );
    assert_eq!(client.keys().await.unwrap().value.keys[0].signer_kid.as_str(), "o1");
    server.script(&[], Act::json(200, "{}"));
    client.receipt(LeafIndex(4)).await.unwrap();
    client.receipt_tlog_proof(LeafIndex(4)).await.unwrap();
    client.receipt_cose(LeafIndex(4)).await.unwrap();
    client.event(&"a/b".parse().unwrap()).await.unwrap();
    client.signers().await.unwrap();
    client.health().await.unwrap();
    let seen = server.seen();
    let lines: Vec<_> = seen.iter().map(|seen| seen.line.as_str()).collect();
    assert_eq!(
        lines,
        [
            "POST /v1/verify",
            "POST /v1/events",
            "GET /v1/keys",
            "GET /v1/receipts/4",
            "GET /v1/receipts/4",
            "GET /v1/receipts/4",
            "GET /v1/events/a%2Fb",
            "GET /v1/signers.json",
            "GET /health"
        ]
    );
    assert_eq!(seen[1].body, r#"{"eventType":"order.paid","payload":{"a":1.50},"stream":"s"}"#);
    assert_eq!(seen[4].accept.as_deref(), Some("application/tlog-proof"));
    assert_eq!(seen[5].accept.as_deref(), Some("application/cose; cose-type=\"cose-sign1\""));
    assert!(seen[0].key.is_none() && seen[1].key.is_some());
}
