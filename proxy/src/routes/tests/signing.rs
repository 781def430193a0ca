//! Signatures: what a reply holds, that it verifies, that retries get the same bytes, that a caller who
//! hangs up cannot cut a key use in half.

use std::sync::Arc;
use std::time::Duration;

use chancery_format::{Receipt, SignersRegistry};
use chancery_hsm::Cost;
use chancery_hsm::testing::Fault;
use serde_json::{Value, json};

use super::rig::*;
use crate::chancery::Lanes;
use crate::config::Intents;
use crate::routes::handle;

const SIGN: &str = "/v1/sign";
const BATCH: &str = "/v1/sign/batch";

fn registry(rig: &Rig) -> SignersRegistry {
    rig.chancery.registry.load().registry.clone()
}

/// Verifies a reply's signature by its key alone, as a relying party would.
fn verifies(rig: &Rig, reply: &Value) -> bool {
    use base64::Engine as _;
    let registry = registry(rig);
    let key = registry.signer(reply["signer_kid"].as_str().unwrap()).unwrap().public_key().unwrap().unwrap();
    let digest = reply["digest"].as_str().unwrap();
    let digest = chancery_format::Digest::parse("sha256", digest).unwrap();
    let signature =
        base64::engine::general_purpose::STANDARD.decode(reply["signature"].as_str().unwrap()).unwrap();
    key.verify(&digest, &signature)
}

#[tokio::test]
async fn a_reply_has_the_contracts_shape_and_its_signature_and_receipt_verify() {
    for intents in [Intents::Always, Intents::Skip] {
        let rig = Rig::start_with(Choices { intents, ..Choices::default() }).await;
        for (number, kid, algorithm) in [
            (1, "orders", "ed25519"),
            (2, "orders-p256", "ecdsa-p256-sha256"),
            (3, "orders-pss", "rsa-pss-sha256"),
        ] {
            let mut body = sign_body(kid, number);
            body["purpose"] = json!("invoice");
            body["metadata"] = json!({ "order": 7 });
            let answer = rig.post(ORDERS, SIGN, &body).await.expect(200);
            assert_eq!(answer.headers["content-type"], "application/json");
            assert_eq!(answer.headers["cache-control"], "no-store");
            let reply = answer.json();
            let index = reply["receipt"]["index"].as_u64().unwrap();
            assert_eq!(
                reply["receipt"],
                json!({ "version": 1, "index": index, "rung": "durable", "url": format!("/v1/receipts/{index}") })
            );
            assert_eq!(reply["kid"], kid);
            assert_eq!(reply["signer_kid"], format!("{kid}-v1"));
            assert_eq!(reply["algorithm"], algorithm);
            assert_eq!(reply["digest"], digest(number));
            assert_eq!(reply["digestAlgorithm"], "sha256");
            assert_eq!(reply["rung"], "durable");
            assert!(verifies(&rig, &reply));
            let receipt = rig.get(ORDERS, &format!("/v1/receipts/{index}")).await.expect(200);
            let receipt = Receipt::parse(&receipt.bytes).unwrap();
            let verified_by = registry(&rig);
            let verified = receipt.verify(&verified_by).unwrap();
            assert_eq!(verified.event.id, reply["id"].as_str().unwrap());
            assert_eq!(verified.verified_signers, [reply["signer_kid"].as_str().unwrap()]);
        }
    }
}

#[tokio::test]
async fn a_retry_gets_the_same_bytes_also_from_randomised_algorithms() {
    for intents in [Intents::Always, Intents::Skip] {
        let rig = Rig::start_with(Choices { intents, ..Choices::default() }).await;
        for (kid, key) in [("orders", "a"), ("orders-p256", "b"), ("orders-pss", "c")] {
            let body = sign_body(kid, 1);
            let first = rig.post_with_key(ORDERS, SIGN, &body, key).await.expect(200);
            let size = rig.size();
            let again = rig.post_with_key(ORDERS, SIGN, &body, key).await.expect(200);
            assert_eq!(first.bytes, again.bytes, "{kid}");
            assert_eq!(rig.size(), size, "a retry enrols nothing");
            let other = rig.post_with_key(ORDERS, SIGN, &sign_body(kid, 2), key).await;
            other.expect_code(409, "idempotency-conflict");
            assert_eq!(rig.size(), size);
            // The key is the principal's own: another's same key is another request.
            if kid == "orders" {
                let clerk = rig.post_with_key(CLERK, SIGN, &body, key).await.expect(200);
                assert_ne!(clerk.json()["id"], first.json()["id"]);
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn concurrent_attempts_under_one_key_are_one_signature() {
    for intents in [Intents::Always, Intents::Skip] {
        let rig = Arc::new(Rig::start_with(Choices { intents, ..Choices::default() }).await);
        let before = rig.size();
        let attempts = (0..12).map(|_| {
            let rig = Arc::clone(&rig);
            tokio::spawn(
                async move { rig.post_with_key(ORDERS, SIGN, &sign_body("orders-p256", 1), "k").await },
            )
        });
        let mut bytes = Vec::new();
        for attempt in attempts.collect::<Vec<_>>() {
            bytes.push(attempt.await.unwrap().expect(200).bytes);
        }
        bytes.dedup();
        assert_eq!(bytes.len(), 1, "{intents:?}");
        assert_eq!(rig.size(), before + 1, "{intents:?}");
    }
}

#[tokio::test]
async fn a_caller_who_hangs_up_cannot_cut_a_key_use_in_half() {
    let rig = Rig::start_with(Choices { cost: Cost::Blocking, ..Choices::default() }).await;
    let before = rig.size();
    break_device(&rig, Fault::Hang);
    let request = post(SIGN, &sign_body("orders", 1), &[("idempotency-key", "k")]);
    let call = tokio::spawn(handle(Arc::clone(&rig.chancery), peer(Some(ORDERS)), request));
    wait_until(|| rig.faults.inside() == 1).await;
    call.abort();
    assert!(call.await.unwrap_err().is_cancelled());
    break_device(&rig, Fault::None);
    rig.wait_for_size(before + 1).await;
    assert!(rig.chancery.idle(Duration::from_secs(10)).await, "the task gives its place back");
    assert_eq!(rig.leaves_from(before).await[0]["eventType"], "signing.signature.issued");
    let retry = rig.post_with_key(ORDERS, SIGN, &sign_body("orders", 1), "k").await.expect(200);
    assert!(verifies(&rig, &retry.json()));
    assert_eq!(rig.size(), before + 1);
}

#[tokio::test]
async fn a_drain_waits_for_key_uses_under_way() {
    let rig = Rig::start_with(Choices { cost: Cost::Blocking, ..Choices::default() }).await;
    break_device(&rig, Fault::Hang);
    let request = post(SIGN, &sign_body("orders", 1), &[]);
    let call = tokio::spawn(handle(Arc::clone(&rig.chancery), peer(Some(ORDERS)), request));
    wait_until(|| rig.faults.inside() == 1).await;
    rig.chancery.admission.start_draining();
    assert!(!rig.chancery.idle(Duration::from_millis(5)).await);
    break_device(&rig, Fault::None);
    assert!(rig.chancery.idle(Duration::from_secs(10)).await);
    Answer::read(call.await.unwrap()).await.expect(200);
}

#[tokio::test]
async fn a_key_that_asks_for_a_checkpoint_releases_the_whole_receipt_and_always_the_same() {
    let rig = Rig::start().await;
    let first = rig.post_with_key(ORDERS, SIGN, &sign_body("sealed", 1), "k").await.expect(200);
    let reply = first.json();
    assert_eq!(reply["rung"], "checkpointed");
    let receipt = Receipt::parse(reply["receipt"].to_string().as_bytes()).unwrap();
    receipt.verify(&registry(&rig)).unwrap();
    // More entries and more checkpoints change nothing: the first one that covers it is taken.
    rig.post_with_key(ORDERS, SIGN, &sign_body("sealed", 2), "k2").await.expect(200);
    let again = rig.post_with_key(ORDERS, SIGN, &sign_body("sealed", 1), "k").await.expect(200);
    assert_eq!(first.bytes, again.bytes);
}

fn batch_body() -> Value {
    json!({ "items": [
        sign_body("orders", 1), sign_body("orders-p256", 2), sign_body("private", 3), { "kid": "orders" },
        sign_body("orders", 5), { "kid": "orders", "digest": "xx", "digestAlgorithm": "sha256" }, sign_body("orders-pss", 7),
        [], sign_body("sealed", 9),
    ] })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_batch_answers_item_by_item_in_order_and_the_same_again() {
    for (intents, lanes, cost) in [
        (Intents::Always, Lanes::Cores, Cost::Inline),
        (Intents::Skip, Lanes::Cores, Cost::Inline),
        (Intents::Always, Lanes::Sessions(2), Cost::Blocking),
    ] {
        let rig = Rig::start_with(Choices { intents, lanes, cost, ..Choices::default() }).await;
        let before = rig.size();
        let first = rig.post_with_key(ORDERS, BATCH, &batch_body(), "k").await.expect(200);
        assert_eq!(rig.size(), before + 5, "refused items enrol nothing");
        let items = first.json()["items"].as_array().unwrap().clone();
        assert_eq!(items.len(), 9);
        for (position, item) in items.iter().enumerate() {
            match position {
                2 => assert_eq!(
                    (item["code"].as_str(), item["status"].as_u64()),
                    (Some("kid-not-granted"), Some(403))
                ),
                3 => assert_eq!(item["code"], "missing-field"),
                5 => assert_eq!(item["code"], "invalid-digest"),
                7 => assert_eq!(item["code"], "invalid-json"),
                _ => {
                    assert_eq!(item["digest"], digest(position as u64 + 1));
                    assert!(verifies(&rig, item), "{position}");
                }
            }
        }
        assert!(items[3]["detail"].as_str().unwrap().contains("items[3].digest"));
        let again = rig.post_with_key(ORDERS, BATCH, &batch_body(), "k").await.expect(200).json();
        for (position, item) in items.iter().enumerate().filter(|(_, item)| item.get("signature").is_some()) {
            assert_eq!(*item, again["items"][position]);
        }
        assert_eq!(rig.size(), before + 5);
        crate::refusals::flush(&rig.chancery).await.unwrap();
        let codes: Vec<_> =
            rig.leaves_from(before + 5).await.iter().map(|leaf| leaf["payload"]["code"].clone()).collect();
        assert_eq!(codes, ["invalid-json", "missing-field", "invalid-digest", "kid-not-granted"]);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_batch_is_signed_and_every_signature_verifies() {
    let rig = Rig::start_with(Choices { intents: Intents::Skip, ..Choices::default() }).await;
    let items: Vec<_> = (0..1000).map(|number| sign_body("orders", number)).collect();
    let reply = rig.post(ORDERS, BATCH, &json!({ "items": items })).await.expect(200).json();
    let items = reply["items"].as_array().unwrap();
    assert_eq!(items.len(), 1000);
    for (number, item) in items.iter().enumerate() {
        assert_eq!(item["digest"], digest(number as u64));
        assert!(verifies(&rig, item));
    }
}

#[tokio::test]
async fn macs_are_made_recorded_and_checked() {
    let rig = Rig::start().await;
    let body = json!({ "kid": "tags", "message": base64(b"hello") });
    let first = rig.post_with_key(ORDERS, "/v1/mac", &body, "k").await.expect(200);
    let reply = first.json();
    assert_eq!(reply["algorithm"], "hmac-sha256");
    assert_eq!(reply["digest"], chancery_format::Hash::of(&[b"hello"]).to_hex());
    assert!(reply.get("signature").is_none());
    assert_eq!(rig.post_with_key(ORDERS, "/v1/mac", &body, "k").await.bytes, first.bytes);
    let check =
        |message: &[u8], mac: &Value| json!({ "kid": "tags", "message": base64(message), "mac": mac });
    for (message, valid) in [(&b"hello"[..], true), (b"hellO", false)] {
        let answer = rig.post(ORDERS, "/v1/mac/verify", &check(message, &reply["mac"])).await.expect(200);
        assert_eq!(answer.json()["valid"], valid);
    }
    let short = json!(base64(&[0; 3]));
    let answer = rig.post(ORDERS, "/v1/mac/verify", &check(b"hello", &short)).await.expect(200);
    assert_eq!(answer.json()["valid"], false);
    // The bytes of a digest are a message too.
    let by_digest = json!({ "kid": "tags", "digest": digest(5) });
    let mac = rig.post(ORDERS, "/v1/mac", &by_digest).await.expect(200).json()["mac"].clone();
    let mut same = [0; 32];
    same[31] = 5;
    let answer = rig.post(ORDERS, "/v1/mac/verify", &check(&same, &mac)).await.expect(200);
    assert_eq!(answer.json()["valid"], true);
}

#[tokio::test]
async fn a_signature_that_does_not_verify_is_an_answer() {
    let rig = Rig::start().await;
    let reply = rig.post(ORDERS, SIGN, &sign_body("orders-p256", 1)).await.expect(200).json();
    let verify = |kid: &str, number: u64, signature: &Value| json!({ "kid": kid, "digest": digest(number), "signature": signature });
    for (kid, number, valid) in
        [("orders-p256", 1, true), ("orders-p256", 2, false), ("orders-p256-v1", 1, true)]
    {
        let body = verify(kid, number, &reply["signature"]);
        let answer = rig.post(ORDERS, "/v1/verify", &body).await.expect(200).json();
        assert_eq!(
            answer,
            json!({ "valid": valid, "kid": kid, "signer_kid": "orders-p256-v1", "keyState": "active" })
        );
    }
    for junk in [vec![], vec![0; 64], vec![0x30; 70]] {
        let body = verify("orders-p256", 1, &json!(base64(&junk)));
        assert_eq!(rig.post(ORDERS, "/v1/verify", &body).await.expect(200).json()["valid"], false);
    }
    let refused = verify("private", 1, &reply["signature"]);
    rig.post(ORDERS, "/v1/verify", &refused).await.expect_code(403, "kid-not-granted");
    let mac = verify("tags", 1, &reply["signature"]);
    rig.post(ORDERS, "/v1/verify", &mac).await.expect_code(422, "algorithm-mismatch");
}

#[tokio::test]
async fn a_key_with_a_co_signer_gives_both_signatures_in_one_entry() {
    let rig = Rig::start().await;
    let before = rig.size();
    let answer = rig.post_with_key(ORDERS, SIGN, &sign_body("dual", 1), "k").await.expect(200);
    assert_eq!(rig.size(), before + 1);
    let reply = answer.json();
    assert!(verifies(&rig, &reply));
    let mut second = reply["coSigner"].clone();
    assert_eq!(
        (&second["kid"], &second["signer_kid"], &second["algorithm"]),
        (&json!("dual-pq"), &json!("dual-pq-v1"), &json!("ml-dsa-65"))
    );
    second["digest"] = reply["digest"].clone();
    assert!(verifies(&rig, &second));
    let again = rig.post_with_key(ORDERS, SIGN, &sign_body("dual", 1), "k").await.expect(200);
    assert_eq!(answer.bytes, again.bytes);
    let index = reply["receipt"]["index"].as_u64().unwrap();
    let receipt = rig.get(ORDERS, &format!("/v1/receipts/{index}")).await.expect(200);
    let receipt = Receipt::parse(&receipt.bytes).unwrap();
    assert_eq!(receipt.verify(&registry(&rig)).unwrap().verified_signers, ["dual-v1", "dual-pq-v1"]);
}

fn anchored(kid: &str, number: u64) -> Value {
    let mut body = sign_body(kid, number);
    body["mode"] = json!("anchored");
    body
}

/// The receipt is the signature: it verifies with the registry alone and no key was used for the digest.
#[tokio::test]
async fn an_anchored_digest_has_its_receipt_for_a_signature() {
    let rig = Rig::start().await;
    rig.faults.set(Fault::AwayBefore); // the key's device; the ledger key lives elsewhere
    let answer = rig.post_with_key(ORDERS, SIGN, &anchored("sealed", 1), "k").await.expect(200);
    let reply = answer.json();
    assert_eq!(
        (&reply["mode"], &reply["signer_kid"], &reply["rung"]),
        (&json!("anchored"), &json!("ledger-v1"), &json!("checkpointed"))
    );
    assert!(reply.get("signature").is_none());
    let receipt = Receipt::parse(reply["receipt"].to_string().as_bytes()).unwrap();
    let trusted = registry(&rig);
    let verified = receipt.verify(&trusted).unwrap();
    let anchors = verified.anchors.unwrap();
    assert_eq!((anchors.digest, anchors.kid), (digest(1).as_str(), "sealed"));
    assert_eq!(rig.faults.asked(), 0);

    let size = rig.size();
    let again = rig.post_with_key(ORDERS, SIGN, &anchored("sealed", 1), "k").await.expect(200);
    assert_eq!(answer.bytes, again.bytes);
    rig.post_with_key(ORDERS, SIGN, &anchored("sealed", 2), "k")
        .await
        .expect_code(409, "idempotency-conflict");
    rig.post(ORDERS, SIGN, &sign_body("sealed", 1)).await.expect_code(503, "backend-unavailable");
    rig.post(ORDERS, SIGN, &anchored("orders", 1)).await.expect_code(422, "unsupported-mode");
    // The key that failed is on record; nothing else was enrolled.
    assert_eq!(rig.size(), size + 1);
}

#[tokio::test]
async fn a_batch_mixes_both_modes_and_keeps_its_order() {
    let rig = Rig::start().await;
    let items: Vec<Value> = (0..6)
        .map(|number| match number % 3 {
            0 => anchored("sealed", number),
            1 => sign_body("orders", number),
            _ => anchored("orders", number),
        })
        .collect();
    let body = json!({ "items": items });
    let first = rig.post_with_key(ORDERS, BATCH, &body, "b").await.expect(200);
    let reply = first.json();
    for (number, item) in reply["items"].as_array().unwrap().iter().enumerate() {
        match number % 3 {
            0 => assert_eq!(
                (&item["mode"], &item["digest"]),
                (&json!("anchored"), &json!(digest(number as u64)))
            ),
            1 => assert!(verifies(&rig, item) && item["digest"] == digest(number as u64)),
            _ => assert_eq!(item["code"], "unsupported-mode"),
        }
    }
    let again = rig.post_with_key(ORDERS, BATCH, &body, "b").await.expect(200);
    let (first, again) = (first.json(), again.json());
    for number in [0, 1, 3, 4] {
        assert_eq!(first["items"][number], again["items"][number]);
    }
}
