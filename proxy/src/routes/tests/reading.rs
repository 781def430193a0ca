//! Reading back: who sees payloads, how streams are paged, the log's public face, and health.

use std::collections::BTreeSet;

use chancery_format::note::Note;
use chancery_format::tile::decode_bundle;
use chancery_format::{Receipt, merkle};
use hyper::Method;
use serde_json::{Value, json};

use super::rig::*;

pub(super) async fn append(rig: &Rig, who: &str, stream: &str, secret: &str) -> Value {
    let body = json!({
        "eventType": "order.paid", "payload": { "secret": secret }, "metadata": { "note": secret }, "stream": stream,
    });
    rig.post(who, "/v1/events", &body).await.expect(201).json()
}

#[tokio::test]
async fn payloads_are_for_those_who_were_granted_them() {
    let rig = Rig::start().await;
    let written = append(&rig, ORDERS, "orders/eu", "hunter2").await;
    let index = written["receipt"]["index"].as_u64().unwrap();
    let by_id = format!("/v1/events/{}", written["id"].as_str().unwrap());
    let receipt = format!("/v1/receipts/{index}");

    let whole = rig.get(AUDITOR, &by_id).await.expect(200).json();
    assert_eq!(whole, written);
    let redacted = rig.get(CLERK, &by_id).await.expect(200);
    assert!(!redacted.text().contains("hunter2"));
    let mut expected = written.clone();
    expected.as_object_mut().unwrap().retain(|name, _| name != "payload" && name != "metadata");
    expected["redacted"] = json!(true);
    assert_eq!(redacted.json(), expected);

    for (who, sees) in [(AUDITOR, true), (CLERK, false), (ORDERS, false)] {
        let page = rig.get(who, "/v1/streams/orders/eu").await.expect(200);
        assert_eq!(page.text().contains("hunter2"), sees, "{who}");
    }
    // A receipt holds the event: for whoever may see it, and for its author, who is owed it.
    rig.get(CLERK, &receipt).await.expect_code(403, "payload-not-granted");
    for who in [ORDERS, AUDITOR] {
        assert!(rig.get(who, &receipt).await.expect(200).text().contains("hunter2"));
    }
    // The bare proof holds no payload.
    let proof = request(Method::GET, &receipt, "", &[("accept", "application/tlog-proof")]);
    let proof = rig.send(Some(CLERK), proof).await.expect(200);
    assert_eq!(proof.headers["content-type"], "application/tlog-proof");
    assert!(proof.text().starts_with(&format!("c2sp.org/tlog-proof@v1\nindex {index}\n")));
    rig.get(CLERK, "/log/tile/entries/000.p/1").await.expect_code(403, "payload-not-granted");
}

#[tokio::test]
async fn streams_are_paged_and_foreign_ones_closed() {
    let rig = Rig::start().await;
    for number in 0..7 {
        append(&rig, ORDERS, "orders/eu", &number.to_string()).await;
    }
    let mut seen = Vec::new();
    let mut from = Some(0);
    while let Some(start) = from {
        let path = format!("/v1/streams/orders%2Feu?from={start}&limit=3");
        let page = rig.get(AUDITOR, &path).await.expect(200).json();
        assert_eq!((&page["stream"], &page["from"]), (&json!("orders/eu"), &json!(start)));
        seen.extend(page["items"].as_array().unwrap().iter().map(|item| item["seq"].as_u64().unwrap()));
        from = page["next"].as_u64();
    }
    assert_eq!(seen, [0, 1, 2, 3, 4, 5, 6]);
    let beyond = rig.get(AUDITOR, "/v1/streams/orders/eu?from=7").await.expect(200).json();
    assert_eq!((&beyond["items"], &beyond["next"]), (&json!([]), &Value::Null));
    rig.get(CLERK, "/v1/streams/orders/us").await.expect_code(403, "stream-not-granted");
    rig.get(CLERK, &format!("/v1/streams/{ORDERS}")).await.expect_code(403, "stream-not-granted");
}

#[tokio::test]
async fn the_log_is_served_as_c2sp_says() {
    let rig = Rig::start().await;
    rig.get(AUDITOR, "/log/checkpoint").await.expect_code(404, "not-found");
    let mut last = 0;
    for number in 0..5 {
        last = append(&rig, ORDERS, "orders/eu", &number.to_string()).await["receipt"]["index"]
            .as_u64()
            .unwrap();
    }
    rig.get(AUDITOR, &format!("/v1/receipts/{last}")).await.expect(200);
    let checkpoint = rig.get(AUDITOR, "/log/checkpoint").await.expect(200);
    assert_eq!(checkpoint.headers["content-type"], "text/plain; charset=utf-8");
    let size: u64 = checkpoint.text().lines().nth(1).unwrap().parse().unwrap();
    assert_eq!(size, rig.size());

    let bundle = rig.get(AUDITOR, &format!("/log/tile/entries/000.p/{size}")).await.expect(200);
    assert_eq!(bundle.headers["content-type"], "application/octet-stream");
    assert!(bundle.headers["cache-control"].starts_with("private"));
    let leaves: Vec<_> = decode_bundle(&bundle.bytes).collect::<Result<Vec<_>, _>>().unwrap();
    assert_eq!(leaves.len() as u64, size);
    let tile = rig.get(CLERK, &format!("/log/tile/0/000.p/{size}")).await.expect(200);
    assert!(tile.headers["cache-control"].contains("immutable"));
    let hashes: Vec<u8> = leaves.iter().flat_map(|leaf| merkle::leaf_hash(leaf).0).collect();
    assert_eq!(tile.bytes, hashes);
    for nothing in ["0/000", "0/000.p/200", "entries/000", "1/000.p/1", "0/001.p/1", "64/000", "0/0"] {
        rig.get(AUDITOR, &format!("/log/tile/{nothing}")).await.expect_code(404, "not-found");
    }
}

#[tokio::test]
async fn grease_is_served_and_not_kept() {
    let rig = Rig::start_with(Choices { grease: true, ..Choices::default() }).await;
    let index = append(&rig, ORDERS, "orders/eu", "x").await["receipt"]["index"].as_u64().unwrap();
    let receipt = rig.get(AUDITOR, &format!("/v1/receipts/{index}")).await.expect(200);
    let served = rig.get(AUDITOR, "/log/checkpoint").await.expect(200).text().to_owned();
    let kept = rig.chancery.roll.latest_checkpoint().unwrap().note;
    let names = |note: &str| -> BTreeSet<String> {
        Note::parse(note).unwrap().signatures.iter().map(|line| line.name.to_owned()).collect()
    };
    let both = ["grease.invalid", "log.example/test"].map(str::to_owned).into();
    assert_eq!((names(&served), names(&kept)), (both, BTreeSet::from(["log.example/test".to_owned()])));
    let parsed = Receipt::parse(&receipt.bytes).unwrap();
    let verified = parsed.verify(&rig.chancery.registry.load().registry).unwrap();
    assert!(verified.checkpoint.note().contains("grease.invalid"));
    let again = rig.get(AUDITOR, &format!("/v1/receipts/{index}")).await.expect(200);
    assert_eq!(again.bytes, receipt.bytes);
}

#[tokio::test]
async fn keys_and_the_registry_are_shown_to_those_who_may_list_them() {
    let rig = Rig::start().await;
    let list = rig.get(AUDITOR, "/v1/keys").await.expect(200).json();
    let kids: Vec<_> =
        list["keys"].as_array().unwrap().iter().map(|key| key["kid"].as_str().unwrap().to_owned()).collect();
    assert_eq!(
        kids,
        ["dual", "dual-pq", "ledger", "orders", "orders-p256", "orders-pss", "private", "sealed", "tags"]
    );
    let key = rig.get(AUDITOR, "/v1/keys/orders-p256").await.expect(200).json();
    assert_eq!(key, list["keys"][4]);
    assert_eq!(
        (&key["state"], &key["release"], &key["operation"]),
        (&json!("active"), &json!("durable"), &json!("sign"))
    );
    let pem = rig.get(AUDITOR, "/v1/keys/orders-p256/public").await.expect(200);
    assert_eq!(pem.text(), key["public_key_pem"]);
    assert!(list["keys"][8].get("public_key_pem").is_none());
    let registry = rig.get(AUDITOR, "/v1/signers.json").await.expect(200);
    assert_eq!(registry.bytes, rig.chancery.registry.load().json);
    assert_eq!(rig.get(AUDITOR, "/v1/signers.json.sig").await.expect(200).text(), "a note\n");
    rig.get(CLERK, "/v1/keys").await.expect_code(403, "operation-not-granted");
}

#[tokio::test]
async fn health_is_open_and_everything_else_is_not() {
    let rig = Rig::start().await;
    for path in ["/", "/health", "/ping"] {
        let answer = rig.send(None, request(Method::GET, path, "", &[])).await.expect(200);
        assert_eq!(answer.headers["content-type"], "application/json");
    }
    for route in
        crate::routes::table::ROUTES.iter().filter(|route| route.access != crate::routes::table::Access::Open)
    {
        let path = route.path.replace(['{', '}'], "");
        let answer = rig.send(None, request(route.method(), &path, "", &[])).await;
        answer.expect_code(401, "client-certificate-required");
    }
    let document = rig.get(CLERK, "/openapi.json").await.expect(200).json();
    assert_eq!(document["openapi"], "3.1.0");
}

#[tokio::test]
async fn request_ids_are_taken_if_sane_and_made_otherwise() {
    let rig = Rig::start().await;
    let ask = |id: &'static str| rig.send(None, request(Method::GET, "/health", "", &[("x-request-id", id)]));
    assert_eq!(ask("r-1").await.headers["x-request-id"], "r-1");
    let made =
        [ask("a b").await, ask("").await, rig.send(None, request(Method::GET, "/ping", "", &[])).await];
    let mut ids: Vec<_> = made.iter().map(|answer| answer.headers["x-request-id"].clone()).collect();
    assert!(ids.iter().all(|id| id.len() == 36), "{ids:?}");
    ids.sort();
    ids.dedup();
    assert_eq!(ids.len(), 3);
    let before = rig.size();
    let signed = post("/v1/sign", &sign_body("orders", 1), &[("x-request-id", "trace-7")]);
    rig.send(Some(ORDERS), signed).await.expect(200);
    assert_eq!(rig.leaves_from(before).await[0]["payload"]["requestId"], "trace-7");
}

#[tokio::test]
async fn head_is_get_without_a_body() {
    let rig = Rig::start().await;
    let get = rig.send(Some(AUDITOR), request(Method::GET, "/v1/keys", "", &[])).await.expect(200);
    let head = rig.send(Some(AUDITOR), request(Method::HEAD, "/v1/keys", "", &[])).await.expect(200);
    assert!(head.bytes.is_empty());
    assert_eq!(head.headers["content-length"], get.bytes.len().to_string());
    assert_eq!(head.headers["content-type"], get.headers["content-type"]);
    let answer = rig.send(Some(ORDERS), request(Method::HEAD, "/v1/sign", "", &[])).await;
    assert_eq!((answer.status, answer.headers["allow"].as_str()), (405, "POST"));
}
