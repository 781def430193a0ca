//! Events: the reply is the leaf, retries are safe, batches keep their order.

use chancery_format::AuditEvent;
use serde_json::{Value, json};

use super::rig::*;

const EVENTS: &str = "/v1/events";
const BATCH: &str = "/v1/events/batch";

fn event(number: u64) -> Value {
    json!({ "eventType": "order.paid", "payload": { "number": number } })
}

fn with(mut event: Value, name: &str, value: Value) -> Value {
    event[name] = value;
    event
}

#[tokio::test]
async fn the_reply_is_the_event_as_it_stands_on_the_ledger() {
    let rig = Rig::start().await;
    let mut body = with(event(1), "stream", json!("orders/eu"));
    body["actor"] = json!("user:alice");
    body["ts"] = json!("2026-11-21T03:46:35.120Z");
    body["metadata"] = json!({ "b": [], "a": "é" });
    body["manifestSignatureId"] = json!("m-1");
    body["id"] = json!("order-1");
    let reply = rig.post(ORDERS, EVENTS, &body).await.expect(201).json();
    let index = reply["receipt"]["index"].as_u64().unwrap();
    let mut expected = rig.leaves_from(index).await.remove(0);
    for (name, value) in body.as_object().unwrap() {
        assert_eq!(expected[name], *value, "{name}");
    }
    assert_eq!(expected["seq"], 0);
    expected["receipt"] = reply["receipt"].clone();
    assert_eq!(reply, expected);
    let second =
        rig.post(ORDERS, EVENTS, &with(event(2), "stream", json!("orders/eu"))).await.expect(201).json();
    assert_eq!((second["seq"].as_u64(), &second["prevHash"]), (Some(1), &reply["hash"]));
    assert_eq!(second["actor"], ORDERS);
    let own = rig.post(ORDERS, EVENTS, &event(3)).await.expect(201).json();
    assert_eq!(own["stream"], ORDERS);
}

#[tokio::test]
async fn retries_get_the_same_bytes_and_ids_are_used_once() {
    let rig = Rig::start().await;
    let first = rig.post_with_key(ORDERS, EVENTS, &event(1), "k").await.expect(201);
    let size = rig.size();
    assert_eq!(rig.post_with_key(ORDERS, EVENTS, &event(1), "k").await.expect(201).bytes, first.bytes);
    rig.post_with_key(ORDERS, EVENTS, &event(2), "k").await.expect_code(409, "idempotency-conflict");
    // A key that was used to append cannot be used to sign.
    let sign = rig.post_with_key(ORDERS, "/v1/sign", &sign_body("orders", 1), "k").await;
    sign.expect_code(409, "idempotency-conflict");
    assert_eq!(rig.size(), size);
    let named = with(event(3), "id", json!("order-3"));
    rig.post(ORDERS, EVENTS, &named).await.expect(201);
    rig.post(ORDERS, EVENTS, &named).await.expect_code(409, "id-conflict");
}

#[tokio::test]
async fn a_batch_keeps_its_order_and_bad_items_take_nothing_from_the_others() {
    let rig = Rig::start().await;
    let before = rig.size();
    let items = json!({ "items": [
        event(0), event(1), with(event(2), "stream", json!("other")), event(3), { "eventType": "x" },
        with(event(5), "id", json!("five")), with(event(6), "id", json!("five")),
        with(event(7), "payload", json!({ "a": "x".repeat(66_000) })), event(8),
    ] });
    let first = rig.post_with_key(ORDERS, BATCH, &items, "k").await.expect(201);
    let reply = first.json();
    let codes: Vec<_> = reply["items"].as_array().unwrap().iter().map(|item| item["code"].as_str()).collect();
    let (a, b, c, d) =
        (Some("stream-not-granted"), Some("missing-field"), Some("id-conflict"), Some("event-too-large"));
    assert_eq!(codes, [None, None, a, None, b, None, c, d, None]);
    assert_eq!(rig.size(), before + 5);
    let leaves = rig.leaves_from(before).await;
    let numbers: Vec<_> = leaves.iter().map(|leaf| leaf["payload"]["number"].as_u64().unwrap()).collect();
    assert_eq!(numbers, [0, 1, 3, 5, 8]);
    let again = rig.post_with_key(ORDERS, BATCH, &items, "k").await.expect(201).json();
    for (position, item) in
        reply["items"].as_array().unwrap().iter().enumerate().filter(|(_, item)| item.get("seq").is_some())
    {
        assert_eq!(*item, again["items"][position], "{position}");
    }
    assert_eq!(rig.size(), before + 5);
}

#[tokio::test]
async fn leaves_are_strict_whatever_the_caller_sent() {
    let rig = Rig::start().await;
    let before = rig.size();
    let body =
        r#" { "payload" : { "z":1.0, "a":"\u00e9\/", "n":{"y":-0.0,"x":1e3} } , "eventType":"a\u002eb" } "#;
    let request = request(hyper::Method::POST, EVENTS, body, &[("content-type", "application/json")]);
    rig.send(Some(ORDERS), request).await.expect(201);
    let leaf = rig.chancery.roll.leaf(chancery_format::LeafIndex(before)).await.unwrap().unwrap();
    let event = AuditEvent::parse(&leaf.bytes).unwrap();
    assert_eq!(event.event_type, "a.b");
    assert_eq!(event.payload, r#"{"a":"é/","n":{"x":1000,"y":0},"z":1}"#);
}
