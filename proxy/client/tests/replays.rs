//! `chancery event replay` beside a service that is busy, too small, or answers nonsense.

#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "a failed step is a failed test")]

mod server;

use std::process::{Command, Output};

use serde_json::{Value, json};
use server::{Act, Server};

async fn replay(server: &Server, arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_chancery"));
    command
        .args(["event", "replay", "outbox", "--json"])
        .args(arguments)
        .current_dir(server.dir.path())
        .env_clear()
        .env("CHANCERY_URL", &server.url)
        .env("CHANCERY_CA", server.file("ca.crt"))
        .env("CHANCERY_CERT", server.file("client.crt"))
        .env("CHANCERY_KEY", server.file("client.key"));
    tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap()
}

fn write(server: &Server, count: u32) {
    let rows =
        (0..count).map(|n| format!("{{\"id\":\"row-{n}\",\"eventType\":\"t\",\"payload\":{{\"n\":{n}}}}}\n"));
    std::fs::write(server.file("outbox"), rows.collect::<String>()).unwrap();
}

/// An item of a reply: the event is on the ledger.
fn appended(n: u32) -> Value {
    json!({"id": format!("row-{n}"), "seq": n, "stream": "s", "ts": "2026-01-01T00:00:00.000Z", "hash": "00",
           "receipt": {"version": 1, "index": n, "rung": "durable"}})
}

fn refused(status: u16, code: &str) -> Value {
    json!({"type": "t", "title": "t", "status": status, "detail": "d", "code": code, "requestId": "r"})
}

fn items(items: &[Value]) -> Act {
    Act::json(201, &json!({ "items": items }).to_string())
}

fn counts(output: &Output) -> [u64; 4] {
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    ["rows", "appended", "alreadyThere", "refused"].map(|name| report[name].as_u64().unwrap())
}

fn keys(server: &Server) -> Vec<String> {
    server.seen().into_iter().filter_map(|seen| seen.key).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_rows_are_sent_under_the_same_key_until_each_is_answered() {
    let server = Server::start().await;
    write(&server, 2);
    server.script(
        &[
            Act::problem(503, "ledger-full", Some(1)),
            Act::problem(429, "rate-limited", Some(1)),
            Act::Vanish,
            // Half of it is done; nobody knows yet of the other half.
            items(&[appended(0), refused(503, "overloaded")]),
        ],
        items(&[appended(0), appended(1)]),
    );
    let output = replay(&server, &[]).await;
    assert_eq!((output.status.code(), counts(&output)), (Some(0), [2, 2, 0, 0]), "{output:?}");
    let keys = keys(&server);
    assert!(keys.len() == 5 && keys.iter().all(|key| *key == keys[0]), "{keys:?}");
    let bodies: Vec<String> = server.seen().into_iter().map(|seen| seen.body).collect();
    assert!(bodies.iter().all(|body| *body == bodies[0]));
}

#[tokio::test(flavor = "multi_thread")]
async fn calls_that_are_too_large_are_halved_and_one_row_that_is_refused() {
    let server = Server::start().await;
    write(&server, 3);
    let too_large = || Act::problem(413, "body-too-large", None);
    server.script(
        &[too_large(), items(&[appended(0)]), too_large(), items(&[appended(2)])],
        Act::problem(500, "internal", None),
    );
    let output = replay(&server, &[]).await;
    assert_eq!((output.status.code(), counts(&output)), (Some(1), [3, 2, 0, 1]), "{output:?}");
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    let refusal = &report["refusals"][0];
    assert_eq!((&refusal["line"], &refusal["code"]), (&json!(2), &json!("body-too-large")), "{report:#}");
    let keys = keys(&server);
    assert_eq!(keys.iter().collect::<std::collections::BTreeSet<_>>().len(), 4, "other rows, another key");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_id_that_is_taken_is_compared_with_the_ledgers_event() {
    let server = Server::start().await;
    write(&server, 3);
    let event = |n: u32, payload: &str| {
        let text =
            format!("{{\"id\":\"row-{n}\",\"eventType\":\"t\",\"payload\":{payload},\"actor\":\"a\"}}");
        Act::json(200, &text)
    };
    let taken = || refused(409, "id-conflict");
    server.script(
        &[
            items(&[taken(), taken(), taken()]),
            event(0, "{\"n\":0}"),
            event(1, "{\"n\":2}"),
            Act::problem(403, "payload-not-granted", None),
        ],
        Act::problem(500, "internal", None),
    );
    let output = replay(&server, &[]).await;
    assert_eq!((output.status.code(), counts(&output)), (Some(1), [3, 0, 1, 2]), "{output:?}");
    let asked: Vec<String> = server.seen().into_iter().map(|seen| seen.line).collect();
    assert_eq!(asked[1..], ["GET /v1/events/row-0", "GET /v1/events/row-1", "GET /v1/events/row-2"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reply_about_other_rows_stops_the_replay_and_nothing_is_counted() {
    let server = Server::start().await;
    write(&server, 2);
    for nonsense in [items(&[appended(0)]), items(&[appended(1), appended(0)]), Act::json(200, "{}")] {
        server.script(&[], nonsense);
        let output = replay(&server, &[]).await;
        assert_eq!(output.status.code(), Some(4), "{output:?}");
        assert!(!server.file("outbox.replay.json").exists(), "nothing is known to be done");
    }
    server.script(&[], Act::problem(503, "ledger-full", Some(30)));
    let output = replay(&server, &["--patience", "2"]).await;
    assert_eq!(output.status.code(), Some(4), "not before thirty seconds, and there are two: {output:?}");
    server.script(&[], items(&[appended(0), appended(1)]));
    let output = replay(&server, &["--state", "/nowhere/state"]).await;
    assert_eq!(output.status.code(), Some(2), "what cannot be kept is said: {output:?}");
    std::fs::write(server.file("outbox.replay.json"), "{}").unwrap();
    assert_eq!(replay(&server, &[]).await.status.code(), Some(2), "a state that is none");
}
