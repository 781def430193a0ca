//! Uses that a backend counts, held against the ledger.

use std::sync::Arc;
use std::time::Duration;

use chancery_format::entry::event_type;
use chancery_format::{AuditEvent, LeafIndex};
use chancery_hsm::testing::Fault;

use super::rig::{ORDERS, Rig, sign_body};
use crate::reconciling::{LastRecords, Reconciler};

async fn surpluses(rig: &Rig) -> usize {
    let mut found = 0;
    for index in 0..rig.size() {
        let leaf = rig.chancery.roll.leaf(LeafIndex(index)).await.unwrap().unwrap();
        found += usize::from(AuditEvent::read(&leaf.bytes).unwrap().event_type == event_type::SURPLUS);
    }
    found
}

#[tokio::test(flavor = "multi_thread")]
async fn a_use_that_was_counted_and_has_no_entry_halts_its_key() {
    let rig = Rig::start().await;
    rig.faults.use_key("orders"); // before our time
    let chancery = Arc::clone(&rig.chancery);
    let mut reconciler = Reconciler::start(chancery, &LastRecords::default(), None).await.unwrap();
    for number in 0..20 {
        rig.post(ORDERS, "/v1/sign", &sign_body("orders", number)).await.expect(200);
        reconciler.poll().await;
    }
    // A use whose answer was lost has an entry, too.
    rig.faults.set_once(Fault::AwayAfter);
    rig.post(ORDERS, "/v1/sign", &sign_body("orders", 100)).await.expect(503);
    rig.chancery.keyring.probe(Duration::from_secs(10)).await; // the outage is over
    for _ in 0..3 {
        reconciler.poll().await;
    }
    rig.post(ORDERS, "/v1/sign", &sign_body("orders", 101)).await.expect(200);
    assert_eq!(surpluses(&rig).await, 0);

    rig.faults.use_key("orders");
    reconciler.poll().await;
    rig.post(ORDERS, "/v1/sign", &sign_body("orders", 102)).await.expect_code(503, "key-disabled");
    reconciler.poll().await;
    assert_eq!(surpluses(&rig).await, 1, "told once");
}
