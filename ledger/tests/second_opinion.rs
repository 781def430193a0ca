//! The drill of one wrong bit: between commit and checkpoint, in storage or in memory. It is caught, and the ledger stops.

#![expect(clippy::unwrap_used, reason = "a failed unwrap is the test's failure")]

mod support;

use chancery_format::{DurableHead, TreeHead};
use chancery_ledger::{Fatal, Roll, RollError, SecondOpinion, SyncMode};
use rocksdb::{DB, Options};
use support::*;

async fn fill(roll: &Roll, events: u64) {
    for start in (0..events).step_by(1000) {
        let batch = (start..events.min(start + 1000)).map(|number| (numbered("s", number), None)).collect();
        assert!(roll.enrol_events(batch).await.iter().all(Result::is_ok));
    }
}

/// Changes one bit of a stored value, behind everybody's back. The ledger is closed meanwhile.
#[expect(clippy::disallowed_methods, reason = "damage need not be synced")]
fn flip(place: &Place, family: &str, key: &[u8], byte: usize) {
    let path = place.ledger().join("db");
    let families = DB::list_cf(&Options::default(), &path).unwrap();
    let db = DB::open_cf(&Options::default(), &path, families).unwrap();
    let family = db.cf_handle(family).unwrap();
    let mut value = db.get_cf(&family, key).unwrap().unwrap();
    *value.get_mut(byte).unwrap() ^= 4;
    db.put_cf(&family, key, value).unwrap();
}

fn disagreed(result: Result<chancery_format::ConfirmedHead, RollError>) -> Option<u64> {
    match result.unwrap_err() {
        RollError::Fatal(fatal) => match *fatal {
            Fatal::Disagreement { size } => Some(size.0),
            ref other => panic!("{other}"),
        },
        other => panic!("{other}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_head_is_confirmed_from_the_first_leaf_and_after_a_restart() {
    let place = Place::new();
    let mut options = place.options();
    options.sync = SyncMode::OffForBenchmark;
    let roll = Roll::create(options.clone()).unwrap();
    let opinion = SecondOpinion::new(roll.clone());
    for events in [1, 2, 250, 2, 1, 300, 1000] {
        fill(&roll, events).await;
        let confirmed = opinion.confirm(roll.head()).await.unwrap();
        assert_eq!(confirmed.head(), roll.head().head());
        checkpoint(&roll).await;
    }
    let older = roll.head();
    fill(&roll, 66_000).await; // a second tile level
    assert!(opinion.confirm(roll.head()).await.is_ok());
    assert!(opinion.confirm(older).await.is_ok(), "an older head is looked at from the checkpoint again");
    drop((opinion, roll));

    let (roll, _) = Roll::open(options).unwrap();
    let opinion = SecondOpinion::new(roll.clone());
    fill(&roll, 10).await;
    assert!(opinion.confirm(roll.head()).await.is_ok());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_bit_in_memory_is_caught() {
    let place = Place::new();
    let roll = Roll::create(place.options()).unwrap();
    fill(&roll, 600).await;
    let TreeHead { size, mut root } = roll.head().head();
    let [first, ..] = &mut root.0;
    *first ^= 1;
    let wrong = DurableHead::after_sync(TreeHead { size, root });
    assert_eq!(disagreed(SecondOpinion::new(roll.clone()).confirm(wrong).await), Some(601));
    let next = roll.enrol_event(numbered("s", 0), None).await;
    assert!(matches!(next, Err(RollError::Fatal(_))), "the ledger has stopped");
}

/// A leaf below the tail that recovery reads, not yet under a checkpoint.
#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_bit_of_a_stored_leaf_is_caught_before_the_checkpoint() {
    let place = Place::new();
    let roll = Roll::create(place.options()).unwrap();
    fill(&roll, 100).await;
    checkpoint(&roll).await;
    fill(&roll, 600).await;
    drop(roll);
    flip(&place, "entries", &300u64.to_be_bytes(), 40);
    let (roll, _) = Roll::open(place.options()).unwrap();
    let refused = SecondOpinion::new(roll.clone()).confirm(roll.head()).await.unwrap_err();
    assert!(refused.to_string().contains("tile 0/1 is not that of its leaves"), "{refused}");
}

/// A tile that recovery has no need to read: another full tile stands above it.
#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_bit_of_a_stored_tile_is_caught_before_the_checkpoint() {
    let place = Place::new();
    let mut options = place.options();
    options.sync = SyncMode::OffForBenchmark;
    let roll = Roll::create(options.clone()).unwrap();
    fill(&roll, 66_000).await;
    drop(roll);
    flip(&place, "tiles", &[&[0u8][..], &5u64.to_be_bytes()].concat(), 40);
    let (roll, _) = Roll::open(options).unwrap();
    let refused = SecondOpinion::new(roll.clone()).confirm(roll.head()).await.unwrap_err();
    assert!(refused.to_string().contains("tile 0/5 is not that of its leaves"), "{refused}");
}
