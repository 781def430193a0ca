//! Every refusal that needs no TLS, with its exact status and code; and that it changes nothing on the
//! ledger but the coalesced record.

use hyper::Method;
use serde_json::{Value, json};

use super::rig::*;
use crate::config::Intents;
use crate::limits::Limits;
use chancery_hsm::Cost;
use chancery_hsm::testing::Fault;
use std::time::Duration;

const SIGN: &str = "/v1/sign";
const JSON: (&str, &str) = ("content-type", "application/json");

struct Case {
    name: &'static str,
    who: Option<&'static str>,
    method: Method,
    path: &'static str,
    body: String,
    headers: Vec<(&'static str, &'static str)>,
    status: u16,
    code: &'static str,
}

fn sign_case(name: &'static str, body: impl Into<String>, status: u16, code: &'static str) -> Case {
    let (who, method, headers) = (Some(ORDERS), Method::POST, vec![JSON]);
    Case { name, who, method, path: SIGN, body: body.into(), headers, status, code }
}

fn case(name: &'static str, path: &'static str, body: Value, status: u16, code: &'static str) -> Case {
    Case { path, ..sign_case(name, body.to_string(), status, code) }
}

fn get(name: &'static str, who: &'static str, path: &'static str, status: u16, code: &'static str) -> Case {
    let (method, headers) = (Method::GET, Vec::new());
    Case { name, who: Some(who), method, path, body: String::new(), headers, status, code }
}

fn good() -> Value {
    sign_body("orders", 1)
}

fn sign_with(name: &str, value: Value) -> Value {
    let mut body = good();
    body[name] = value;
    body
}

fn json_cases() -> Vec<Case> {
    let good = good().to_string();
    let twice = good.replacen('{', "{\"kid\":\"orders\",", 1);
    vec![
        sign_case("no JSON", "digest", 400, "invalid-json"),
        sign_case("nothing", "", 400, "invalid-json"),
        sign_case("cut short", good.get(..20).unwrap(), 400, "invalid-json"),
        sign_case("an array", "[]", 400, "invalid-json"),
        sign_case("unknown field", sign_with("hash", json!("x")).to_string(), 400, "unknown-field"),
        sign_case("duplicate key", twice, 400, "duplicate-key"),
        sign_case(
            "duplicate inside",
            format!("{{\"metadata\":{{\"a\":1,\"a\":2}},{}", &good[1..]),
            400,
            "duplicate-key",
        ),
        sign_case("missing field", "{\"kid\":\"orders\"}", 400, "missing-field"),
        sign_case("wrong type", sign_with("kid", json!(7)).to_string(), 400, "invalid-field"),
        sign_case("null", sign_with("purpose", Value::Null).to_string(), 400, "invalid-field"),
        sign_case("bad kid", sign_with("kid", json!("Orders!")).to_string(), 400, "invalid-field"),
        sign_case("metadata no object", sign_with("metadata", json!([1])).to_string(), 400, "invalid-field"),
        sign_case("bad mode", sign_with("mode", json!("fast")).to_string(), 400, "invalid-field"),
        sign_case("anchored", sign_with("mode", json!("anchored")).to_string(), 422, "unsupported-mode"),
        sign_case("short digest", sign_with("digest", json!("ab")).to_string(), 400, "wrong-digest-length"),
        sign_case(
            "long digest",
            sign_with("digest", json!("a".repeat(128))).to_string(),
            400,
            "wrong-digest-length",
        ),
        sign_case(
            "upper-case digest",
            sign_with("digest", json!("A".repeat(64))).to_string(),
            400,
            "invalid-digest",
        ),
        sign_case("bad hex", sign_with("digest", json!("g".repeat(64))).to_string(), 400, "invalid-digest"),
        sign_case("sha1", sign_with("digestAlgorithm", json!("sha1")).to_string(), 400, "invalid-digest"),
        sign_case(
            "a length of another kind",
            sign_with("digestAlgorithm", json!("sha512")).to_string(),
            400,
            "wrong-digest-length",
        ),
        sign_case("too large", " ".repeat(Limits::default().body_bytes_max + 1), 413, "body-too-large"),
        case("batch not array", "/v1/sign/batch", json!({ "items": {} }), 400, "invalid-field"),
        case("batch empty", "/v1/sign/batch", json!({ "items": [] }), 400, "invalid-field"),
        case("batch too large", "/v1/sign/batch", json!({ "items": vec![0; 1001] }), 413, "batch-too-large"),
        case(
            "bad base64",
            "/v1/verify",
            json!({ "kid": "orders", "digest": digest(1), "signature": "AQ" }),
            400,
            "invalid-base64",
        ),
    ]
}

fn header_cases() -> Vec<Case> {
    let with = |name, headers: &[(&'static str, &'static str)], status, code| Case {
        headers: headers.to_vec(),
        ..sign_case(name, good().to_string(), status, code)
    };
    vec![
        with("no media type", &[], 415, "unsupported-media-type"),
        with("text", &[("content-type", "text/plain")], 415, "unsupported-media-type"),
        with("coded", &[JSON, ("content-encoding", "gzip")], 415, "unsupported-media-type"),
        with("bad key", &[JSON, ("idempotency-key", "a b")], 400, "invalid-field"),
        with("two keys", &[JSON, ("idempotency-key", "a"), ("idempotency-key", "b")], 400, "invalid-field"),
    ]
}

fn grant_cases() -> Vec<Case> {
    let by = |who: Option<&'static str>, case: Case| Case { who, ..case };
    let mac = |kid: &str| json!({ "kid": kid, "message": "YWJj" });
    let event = |extra: Value| {
        let mut body = json!({ "eventType": "order.paid", "payload": {} });
        body.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
        body
    };
    let events = "/v1/events";
    vec![
        by(None, sign_case("no certificate", good().to_string(), 401, "client-certificate-required")),
        by(Some("stranger.example"), sign_case("stranger", good().to_string(), 403, "unknown-principal")),
        by(Some(AUDITOR), sign_case("no sign grant", good().to_string(), 403, "operation-not-granted")),
        by(Some(CLERK), case("no mac grant", "/v1/mac", mac("tags"), 403, "operation-not-granted")),
        case("kid not granted", SIGN, sign_body("private", 1), 403, "kid-not-granted"),
        case("the ledger's key", SIGN, sign_body("ledger", 1), 403, "kid-not-granted"),
        case("granted but not there", SIGN, sign_body("missing", 1), 404, "unknown-kid"),
        case("not there", SIGN, sign_body("nothing", 1), 404, "unknown-kid"),
        case("MAC key signs", SIGN, sign_body("tags", 1), 422, "algorithm-mismatch"),
        case("signing key MACs", "/v1/mac", mac("orders"), 422, "algorithm-mismatch"),
        case("stream not granted", events, event(json!({ "stream": "other" })), 403, "stream-not-granted"),
        case("a star is no stream", events, event(json!({ "stream": "*" })), 403, "stream-not-granted"),
        case("appliance stream", events, event(json!({ "stream": "chancery" })), 422, "reserved-name"),
        case("appliance actor", events, event(json!({ "actor": "chancery" })), 422, "reserved-name"),
        case("another's name", events, event(json!({ "actor": CLERK })), 422, "reserved-name"),
        case(
            "appliance type",
            events,
            json!({ "eventType": "signing.signature.issued", "payload": {} }),
            422,
            "reserved-name",
        ),
        case(
            "event too large",
            events,
            json!({ "eventType": "big", "payload": { "a": "x".repeat(66_000) } }),
            413,
            "event-too-large",
        ),
        get("foreign stream", CLERK, "/v1/streams/orders/us", 403, "stream-not-granted"),
        get("bundles hold payloads", CLERK, "/log/tile/entries/000.p/1", 403, "payload-not-granted"),
    ]
}

fn path_cases() -> Vec<Case> {
    let post = |name, path| Case { path, ..sign_case(name, "{}", 405, "method-not-allowed") };
    vec![
        get("no route", ORDERS, "/v1/nothing", 404, "not-found"),
        get("GET of a POST", ORDERS, SIGN, 405, "method-not-allowed"),
        post("POST of a GET", "/v1/keys"),
        get("no such key", ORDERS, "/v1/keys/nothing", 404, "unknown-kid"),
        get("no public half", ORDERS, "/v1/keys/tags/public", 404, "not-found"),
        get("no such event", ORDERS, "/v1/events/nothing", 404, "not-found"),
        get("no such receipt", ORDERS, "/v1/receipts/99999", 404, "not-found"),
        get("receipts have one spelling", ORDERS, "/v1/receipts/01", 404, "not-found"),
        get("no such tile", ORDERS, "/log/tile/0/999", 404, "not-found"),
        get("width 0", ORDERS, "/log/tile/0/000.p/0", 404, "not-found"),
        get("bad page", ORDERS, "/v1/streams/orders/eu?limit=0", 400, "invalid-field"),
        get("no formats", ORDERS, "/v1/signers.json?format=old", 400, "invalid-field"),
    ]
}

#[tokio::test]
async fn each_has_its_status_and_code_and_changes_nothing_but_the_refusal_record() {
    let rig = Rig::start().await;
    rig.post(CLERK, "/v1/events", &json!({ "eventType": "a", "payload": {}, "stream": "orders/eu" }))
        .await
        .expect(201);
    let before = rig.size();
    let mut refused = std::collections::BTreeMap::new();
    for case in [json_cases(), header_cases(), grant_cases(), path_cases()].into_iter().flatten() {
        let request = request(case.method.clone(), case.path, &case.body, &case.headers);
        let answer = rig.send(case.who, request).await;
        assert_eq!(
            (answer.status, answer.json()["code"].as_str()),
            (case.status, Some(case.code)),
            "{}",
            case.name
        );
        answer.expect_code(case.status, case.code);
        assert_eq!(rig.size(), before, "{}: the ledger changed", case.name);
        if !matches!(case.code, "not-found" | "method-not-allowed") {
            let principal = case.who.unwrap_or("nobody").to_owned();
            *refused.entry((case.code.to_owned(), principal)).or_insert(0_u64) += 1;
        }
    }
    crate::refusals::flush(&rig.chancery).await.unwrap();
    let mut recorded = std::collections::BTreeMap::new();
    for leaf in rig.leaves_from(before).await {
        assert_eq!(leaf["eventType"], "request.refused");
        let payload = &leaf["payload"];
        let principal = payload["principal"].as_str().unwrap_or("nobody").to_owned();
        recorded.insert(
            (payload["code"].as_str().unwrap().to_owned(), principal),
            payload["count"].as_u64().unwrap(),
        );
    }
    assert_eq!(recorded, refused);
}

#[tokio::test]
async fn the_length_error_names_key_algorithm_expected_and_got() {
    let rig = Rig::start().await;
    let answer = rig.post(ORDERS, SIGN, &sign_with("digest", json!("abc"))).await;
    let detail = answer.json()["detail"].as_str().unwrap().to_owned();
    for part in ["digest", "orders", "sha256", "64", "3"] {
        assert!(detail.contains(part), "{detail}");
    }
}

#[tokio::test]
async fn switches_close_what_they_should_and_reopen() {
    let rig = Rig::start().await;
    let event = json!({ "eventType": "a", "payload": {} });
    let admission = &rig.chancery.admission;
    let switch = rig.chancery.keyring.kill_switch();
    let _ = switch.halt("test", Duration::from_secs(1)).await;
    rig.post(ORDERS, SIGN, &good()).await.expect_code(503, "halted");
    rig.post(ORDERS, "/v1/mac", &json!({ "kid": "tags", "message": "YWJj" }))
        .await
        .expect_code(503, "halted");
    rig.post(ORDERS, "/v1/events", &event).await.expect(201);
    switch.resume();
    admission.set_archive_lag(true);
    rig.post(ORDERS, SIGN, &good()).await.expect_code(503, "archive-lag");
    rig.post(ORDERS, "/v1/events", &event).await.expect_code(503, "archive-lag");
    rig.get(ORDERS, "/v1/keys").await.expect(200);
    admission.set_archive_lag(false);
    admission.set_ledger_full(true);
    rig.post(ORDERS, SIGN, &good()).await.expect_code(503, "ledger-full");
    admission.set_ledger_full(false);
    rig.post(ORDERS, SIGN, &good()).await.expect(200);
    admission.start_draining();
    rig.post(ORDERS, SIGN, &good()).await.expect_code(503, "draining");
    rig.get(ORDERS, "/v1/keys").await.expect(200);
    assert!(rig.chancery.idle(Duration::from_secs(5)).await);
}

#[tokio::test]
async fn over_its_rate_a_principal_is_told_when_to_come_back() {
    let rig = Rig::start().await;
    rig.post(HASTY, SIGN, &good()).await.expect(200);
    rig.post(HASTY, SIGN, &good()).await.expect(200);
    let answer = rig.post(HASTY, SIGN, &good()).await.expect_code(429, "rate-limited");
    assert_eq!(answer.headers["retry-after"], "1");
    // Others are not held back, and what does not even parse counts too.
    rig.post(ORDERS, SIGN, &good()).await.expect(200);
    rig.send(Some(HASTY), request(Method::POST, SIGN, "", &[JSON])).await.expect_code(429, "rate-limited");
}

#[tokio::test]
async fn what_the_device_does_wrong_is_enrolled_and_told() {
    for (fault, status, code) in [
        (Fault::AwayAfter, 503, "backend-unavailable"),
        (Fault::FlippedBit, 500, "signing-failed"),
        (Fault::WrongMessage, 500, "signing-failed"),
    ] {
        let rig = Rig::start().await;
        let before = rig.size();
        break_device(&rig, fault);
        let answer = rig.post(ORDERS, SIGN, &good()).await.expect_code(status, code);
        assert!(!answer.text().contains("told to be away"), "the cause is for the log");
        let leaves = rig.leaves_from(before).await;
        assert_eq!(leaves.len(), 1);
        assert_eq!(leaves[0]["eventType"], "signing.signature.failed");
        assert_eq!(leaves[0]["payload"]["keyUse"], "unknown");
        assert!(leaves[0]["payload"].get("signature").is_none());
    }
}

#[tokio::test]
async fn more_requests_than_places_are_turned_away_and_places_come_back() {
    let mut choices = Choices { cost: Cost::Blocking, intents: Intents::Always, ..Choices::default() };
    choices.limits.requests_in_flight_max = 1;
    let rig = Rig::start_with(choices).await;
    break_device(&rig, Fault::Hang);
    let first = tokio::spawn(super::super::handle(
        std::sync::Arc::clone(&rig.chancery),
        peer(Some(ORDERS)),
        post(SIGN, &good(), &[]),
    ));
    wait_until(|| rig.faults.inside() == 1).await;
    rig.post(ORDERS, SIGN, &good()).await.expect_code(503, "overloaded");
    rig.send(None, request(Method::GET, "/health", "", &[])).await.expect(200);
    break_device(&rig, Fault::None);
    Answer::read(first.await.unwrap()).await.expect(200);
    rig.post(ORDERS, SIGN, &good()).await.expect(200);
}

#[tokio::test]
async fn a_release_that_does_not_come_is_pending_and_a_retry_gets_it() {
    let mut choices = Choices { checkpointer: false, ..Choices::default() };
    choices.limits.release_timeout = Duration::from_millis(5);
    let rig = Rig::start_with(choices).await;
    let body = sign_body("sealed", 1);
    let answer = rig.post_with_key(ORDERS, SIGN, &body, "k").await.expect_code(503, "release-pending");
    assert!(answer.json().get("signature").is_none());
}
