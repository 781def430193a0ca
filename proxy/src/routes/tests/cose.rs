//! COSE receipts: who gets them in which words, and what becomes of heads that cannot be signed.

use std::time::Duration;

use chancery_format::cose::CoseReceipt;
use chancery_format::ledger_keys::LedgerKeys;
use chancery_format::{LeafIndex, merkle};
use chancery_ledger::SecondOpinion;
use hyper::Method;

use super::reading::append;
use super::rig::*;
use crate::cose::CoseHeads;

/// In any spelling of the media type, to whoever may have the bare proof; by nobody's wish where it is off.
#[tokio::test]
async fn cose_receipts_are_given_where_they_are_switched_on() {
    let rig = Rig::start_with(Choices { cose: true, ..Choices::default() }).await;
    let keys = rig.chancery.registry.load().registry.log_keys().unwrap();
    let mut last = 0;
    for (number, accept) in [
        "application/cose",
        "application/cose; cose-type=\"cose-sign1\"",
        "text/html, Application/COSE;q=0.9;cose-type=cose-sign1",
    ]
    .into_iter()
    .enumerate()
    {
        let secret = format!("hunter{number}");
        let index = append(&rig, ORDERS, "orders/eu", &secret).await["receipt"]["index"].as_u64().unwrap();
        let ask = request(Method::GET, &format!("/v1/receipts/{index}"), "", &[("accept", accept)]);
        let answer = rig.send(Some(CLERK), ask).await.expect(200);
        assert_eq!(answer.headers["content-type"], "application/cose; cose-type=\"cose-sign1\"");
        let receipt = CoseReceipt::parse(&answer.bytes).unwrap();
        let leaf = rig.chancery.roll.leaf(LeafIndex(index)).await.unwrap().unwrap().bytes;
        let verified = receipt.verify_inclusion(&merkle::leaf_hash(&leaf), rig.chancery.roll.origin(), &keys);
        let (found, head) = verified.unwrap();
        assert_eq!(found, LeafIndex(index));
        assert_eq!(rig.chancery.roll.root_at(head.size).await.unwrap(), head.root);
        last = index;
    }
    let ask = |accept| request(Method::GET, &format!("/v1/receipts/{last}"), "", &[("accept", accept)]);
    for other in ["application/cose-key", "application/cose; cose-type=\"cose-mac0\"", "application/json"] {
        let answer = rig.send(Some(AUDITOR), ask(other)).await.expect(200);
        assert_eq!(answer.headers["content-type"], "application/json", "{other}");
    }
    let kept = rig.chancery.roll.cose_head().await.unwrap().unwrap();
    assert_eq!(rig.chancery.cose.as_ref().unwrap().size(), Some(kept.1.size));
    // A restart goes on with what was kept, if a key of the registry signed it.
    let registry = rig.chancery.registry.load().registry.clone();
    let restored = CoseHeads::restore(&rig.chancery.roll, &registry).await.unwrap();
    assert_eq!(restored.size(), Some(kept.1.size));
    let strangers = Rig::start().await.chancery.registry.load().registry.clone();
    assert_eq!(CoseHeads::restore(&rig.chancery.roll, &strangers).await.unwrap().size(), None);
    let ask = request(Method::GET, "/v1/receipts/99999", "", &[("accept", "application/cose")]);
    rig.send(Some(CLERK), ask).await.expect_code(404, "not-found");

    let off = Rig::start().await;
    let index = append(&off, ORDERS, "orders/eu", "x").await["receipt"]["index"].as_u64().unwrap();
    let path = format!("/v1/receipts/{index}");
    let ask = request(Method::GET, &path, "", &[("accept", "application/cose")]);
    let refused = off.send(Some(CLERK), ask).await.expect_code(404, "not-found");
    assert!(refused.text().contains("cose_receipts"), "{}", refused.text());
    assert_eq!(off.chancery.roll.cose_head().await.unwrap(), None);
}

/// A head is signed only beside its recorded checkpoint and by the key of that; what fails is counted and tried again, and
/// meanwhile a receipt is pending.
#[tokio::test]
async fn heads_that_cannot_be_signed_are_counted_and_tried_again() {
    let mut choices = Choices { cose: true, checkpointer: false, ..Choices::default() };
    choices.limits.release_timeout = Duration::from_millis(50);
    let rig = Rig::start_with(choices).await;
    let (roll, keyring) = (&rig.chancery.roll, &rig.chancery.keyring);
    let index = append(&rig, ORDERS, "orders/eu", "x").await["receipt"]["index"].as_u64().unwrap();
    let path = format!("/v1/receipts/{index}");
    let ask = || request(Method::GET, &path, "", &[("accept", "application/cose")]);
    rig.send(Some(CLERK), ask()).await.expect_code(503, "release-pending");

    let (cose, origin) = (rig.chancery.cose.as_ref().unwrap(), roll.origin());
    let head = SecondOpinion::new(roll.clone()).confirm(roll.head()).await.unwrap();
    let size = head.head().size;
    assert!(cose.lacks(size));
    let other = keyring.note_verifier_of(&"orders-v1".parse().unwrap(), origin).unwrap();
    cose.offer(head, LedgerKeys::of_signers(origin.clone(), other, None));
    tokio::time::sleep(Duration::from_millis(20)).await;
    assert_eq!((cose.size(), roll.cose_head().await.unwrap()), (None, None), "the key was rotated meanwhile");

    // Not recorded yet.
    let keys = keyring.ledger_keys(origin).unwrap();
    cose.offer(head, keys.clone());
    let failures = || {
        let text = rig.chancery.metrics.render();
        let line = text.lines().find_map(|line| line.strip_prefix("chancery_cose_head_failures_total "));
        line.unwrap().parse::<u64>().unwrap()
    };
    wait_until(|| failures() >= 2).await;
    assert!(cose.size().is_none() && !cose.lacks(size));
    let deadline = std::time::Instant::now() + Duration::from_secs(20);
    let at = rig.chancery.now().into();
    let note = keyring.sign_checkpoint(&head, origin, at, deadline).await.unwrap();
    roll.record_checkpoint(keys.verify(&note).unwrap()).await.unwrap();
    rig.chancery.progress.checkpointed(size);
    wait_until(|| cose.size() == Some(size)).await;
    let receipt = rig.send(Some(CLERK), ask()).await.expect(200);
    assert_eq!(CoseReceipt::parse(&receipt.bytes).unwrap().statement().size, size);
}
