//! What must hold after every row, whatever failed.

use std::sync::Arc;

use chancery_format::LeafIndex;
use chancery_verify::Trust;
use chancery_verify::evidence::Directory;
use chancery_verify::ledger::{Options, verify};
use chancery_verify::progress::Silent;
use serde_json::Value;

use crate::service::Service;
use crate::world::{World, roots};

/// Every leaf, in order.
pub(crate) async fn leaves(service: &Service) -> Vec<Vec<u8>> {
    let roll = &service.chancery.roll;
    let mut leaves = Vec::new();
    for index in 0..roll.head().head().size.0 {
        leaves.push(roll.leaf(LeafIndex(index)).await.unwrap().unwrap().bytes.to_vec());
    }
    leaves
}

/// Everything acknowledged is there, the tree continues every head that was seen, no key use is open, and
/// the archive says the same to an auditor.
pub(crate) async fn audit(world: &Arc<World>, service: &Service, row: &str) {
    let leaves = leaves(service).await;
    let acknowledged = world.acknowledged.lock().unwrap().clone();
    for body in &acknowledged {
        let reply: Value = serde_json::from_slice(body).unwrap();
        match reply["items"].as_array() {
            Some(items) => items.iter().for_each(|item| stands(item, &leaves, row)),
            None => stands(&reply, &leaves, row),
        }
    }

    let roots = roots(&leaves);
    for head in world.heads.lock().unwrap().iter() {
        assert_eq!(roots.get(head.size.0 as usize), Some(&head.root), "{row}: the tree at {}", head.size);
    }
    assert_eq!(service.chancery.roll.open_intents(), 0, "{row}: open intents");

    service.settle().await;
    let trust = Trust::parse(&std::fs::read(world.path("signers.json")).unwrap()).unwrap();
    let evidence = Directory::open(&world.path("archive")).unwrap();
    let report = verify(&evidence, &trust, &Options::default(), &mut Silent);
    assert_eq!((report.exit_code(), report.findings().warnings()), (0, 0), "{row}: {}", report.to_text());
    assert_eq!(report.checked()["entries"], service.chancery.roll.head().head().size.0, "{row}");
}

/// What was told is on the ledger, where it was told to be, with the same bytes.
fn stands(reply: &Value, leaves: &[Vec<u8>], row: &str) {
    let index = reply["receipt"]["index"].as_u64().unwrap();
    let leaf: Value = serde_json::from_slice(&leaves[index as usize]).unwrap();
    let made = [&reply["signature"], &reply["mac"]].into_iter().find(|made| made.is_string());
    match made {
        Some(made) => assert_eq!(&leaf["payload"]["signature"], made, "{row}: at {index}"),
        None => {
            let mut event = reply.clone();
            event.as_object_mut().unwrap().remove("receipt");
            assert_eq!(leaf, event, "{row}: at {index}");
        }
    }
}
