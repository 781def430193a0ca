//! The `chancery` binary: what it prints and its exit codes.

#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "a failed step is a failed test")]

mod server;

use std::process::{Command, Output};

use serde_json::Value;
use server::{Act, Server};

/// Runs the binary beside the server of the test.
async fn chancery(server: &Server, arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_chancery"));
    command
        .args(arguments)
        .env_clear()
        .env("CHANCERY_URL", &server.url)
        .env("CHANCERY_CA", server.file("ca.crt"))
        .env("CHANCERY_CERT", server.file("client.crt"))
        .env("CHANCERY_KEY", server.file("client.key"));
    tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap()
}

fn stdout(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

fn one_json(output: &Output) -> Value {
    assert!(output.stderr.is_empty(), "{:?}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

const DIGEST: &str = "abababababababababababababababababababababababababababababababab";

#[tokio::test(flavor = "multi_thread")]
async fn sign_prints_for_people_and_for_programs() {
    let server = Server::start().await;
    server.script(&[], Act::Sign);
    let output = chancery(&server, &["sign", "--kid", "orders", "--digest", DIGEST]).await;
    assert_eq!(output.status.code(), Some(0));
    let text = stdout(&output);
    assert!(text.starts_with("signature  Bwc=\n") && text.contains("--idempotency-key key-"), "{text}");

    let file = server.file("document");
    std::fs::write(&file, "abc").unwrap();
    let arguments =
        ["sign", "--kid", "orders", "--file", file.to_str().unwrap(), "--json", "--idempotency-key", "again"];
    let output = chancery(&server, &arguments).await;
    assert_eq!(one_json(&output)["signature"], "Bwc=");
    let last = server.seen().pop().unwrap();
    assert_eq!(last.key.as_deref(), Some("again"));
    assert!(last.body.contains("ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"));
}

#[tokio::test(flavor = "multi_thread")]
async fn refused_is_1_usage_is_2_missing_evidence_is_3_unavailable_is_4() {
    let server = Server::start().await;
    let sign = ["sign", "--kid", "orders", "--digest", DIGEST];

    server.script(&[], Act::problem(403, "kid-not-granted", None));
    let output = chancery(&server, &sign).await;
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8(output.stderr).unwrap().contains("403 kid-not-granted: d (request req-1)"));
    let output = chancery(&server, &[&sign[..], &["--json"]].concat()).await;
    assert_eq!(
        (output.status.code(), &one_json(&output)["error"]["code"]),
        (Some(1), &"kid-not-granted".into())
    );

    for wrong in [
        &["sign", "--kid", "orders"][..],
        &["sign", "--kid", "orders", "--digest", "abcd"],
        &["sign", "--kid", "Orders", "--digest", DIGEST],
        &["sign", "--kid", "orders", "--digest", DIGEST, "--file", "x"],
        &["sign", "--kid", "orders", "--file", "/nonexistent"],
        &["event", "append", "--type", "t", "--payload", "{"],
        &["nonsense"],
        &["keys", "list", "--url", "http://127.0.0.1:1"],
        &["keys", "list", "--ca", "/nonexistent"],
        &["status", "--ops", "https://127.0.0.1:1"],
    ] {
        let output = chancery(&server, wrong).await;
        assert_eq!(output.status.code(), Some(2), "{wrong:?}: {}", String::from_utf8_lossy(&output.stderr));
    }

    server.script(&[], Act::problem(404, "not-found", None));
    let output = chancery(&server, &["receipt", "get", "7"]).await;
    assert_eq!(output.status.code(), Some(3));

    server.script(&[], Act::problem(503, "halted", Some(30)));
    let output = chancery(&server, &sign).await;
    assert_eq!(output.status.code(), Some(4));
    let output = chancery(&server, &[&sign[..], &["--url", "https://127.0.0.1:1", "--json"]].concat()).await;
    assert_eq!(output.status.code(), Some(4));
    assert!(one_json(&output)["error"]["idempotencyKey"].as_str().unwrap().starts_with("key-"));
}

#[tokio::test(flavor = "multi_thread")]
async fn verify_says_no_with_1_and_a_foreign_certificate_is_refused() {
    let server = Server::start().await;
    let verify = ["verify", "--kid", "orders", "--digest", DIGEST, "--signature", "AA=="];
    server.script(&[], Act::json(200, r#"{"valid":true,"kid":"orders","keyState":"active"}"#));
    let output = chancery(&server, &verify).await;
    assert_eq!((output.status.code(), stdout(&output).as_str()), (Some(0), "valid: key orders is active\n"));
    server.script(&[], Act::json(200, r#"{"valid":false,"kid":"orders","keyState":"retired"}"#));
    let output = chancery(&server, &verify).await;
    assert_eq!(
        (output.status.code(), stdout(&output).as_str()),
        (Some(1), "INVALID: key orders is retired\n")
    );

    let (certificate, key) = (server.file("stranger.crt"), server.file("stranger.key"));
    let foreign = ["--cert", certificate.to_str().unwrap(), "--key", key.to_str().unwrap()];
    let output = chancery(&server, &[&verify[..], &foreign].concat()).await;
    assert_eq!(output.status.code(), Some(1), "{}", String::from_utf8_lossy(&output.stderr));
}

#[tokio::test(flavor = "multi_thread")]
async fn receipts_keys_and_status_come_back_as_asked() {
    let server = Server::start().await;
    server.script(
        &[],
        Act::Reply {
            status: 200,
            content_type: "application/tlog-proof",
            headers: vec![],
            body: "c2sp.org/tlog-proof@v1\n".into(),
        },
    );
    let kept = server.file("proof");
    let arguments = ["receipt", "get", "7", "--format", "tlog-proof", "-o", kept.to_str().unwrap()];
    let output = chancery(&server, &arguments).await;
    assert_eq!(output.status.code(), Some(0));
    assert_eq!(std::fs::read_to_string(kept).unwrap(), "c2sp.org/tlog-proof@v1\n");

    // A receipt that proves nothing is refused when a registry is given, and not written.
    server.script(&[], Act::json(200, "{}"));
    let (kept, signers) = (server.file("receipt"), server.file("signers.json"));
    let checked =
        ["receipt", "get", "7", "-o", kept.to_str().unwrap(), "--signers", signers.to_str().unwrap()];
    assert_eq!(chancery(&server, &checked).await.status.code(), Some(3));
    assert!(!kept.exists());

    // A service that knows no COSE receipts answers with JSON: that is no evidence, and not written.
    server.script(&[], Act::json(200, "{}"));
    let cose = ["receipt", "get", "7", "--format", "cose", "-o", kept.to_str().unwrap()];
    assert_eq!(chancery(&server, &cose).await.status.code(), Some(3));
    assert!(!kept.exists());

    let list = r#"{"keys":[{"kid":"orders","signer_kid":"orders-v1","algorithm":"ed25519","state":"active","purpose":"p"}]}"#;
    server.script(&[], Act::json(200, list));
    let output = chancery(&server, &["keys", "list"]).await;
    assert_eq!(stdout(&output), "orders  orders-v1  ed25519           active      p\n");

    server.script(&[], Act::json(200, r#"{"status":"ok"}"#));
    let output = chancery(&server, &["status", "--json"]).await;
    assert_eq!(one_json(&output)["service"]["health"]["status"], "ok");
}
