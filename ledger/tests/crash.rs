//! Every write, lost before and lost after it happened: what the caller hears, what is there afterwards,
//! and what a retry gets.
//!
//! | write | lost | caller | after reopening | a retry |
//! |---|---|---|---|---|
//! | event | before | fatal | not there | is enrolled |
//! | event | after | fatal | there, once | gets it |
//! | intent | before | fatal | nothing | may use the key |
//! | intent | after | fatal | abandoned leaf | may use the key again |
//! | outcome | before | fatal | abandoned leaf, no signature | may use the key again |
//! | outcome | after | fatal | issued leaf, once | gets it |
//! | outcome without intent | before | fatal | nothing | is enrolled |
//! | outcome without intent | after | fatal | issued leaf, once | gets it |
//! | checkpoint | before | fatal | not recorded | is recorded |
//! | checkpoint | after | fatal | recorded | is no error |
//! | head for COSE receipts | before | fatal | not recorded | is recorded |
//! | head for COSE receipts | after | fatal | recorded | is no error |
//! | registry version | before | fatal | not recorded | is recorded |
//! | registry version | after | fatal | recorded | is no error |
//! | closing open intents | before | does not open | still open, closed at the next start | - |
//! | closing open intents | after | does not open | closed, once | - |
//! | creation | before | is not created | says it is half created | - |
//! | creation | after | is not created | opens with its first entry | - |
//!
//! After every row the whole roll is audited, and the roll that failed answers nothing but `Fatal`.

#![expect(clippy::unwrap_used, reason = "a failed unwrap is the test's failure")]

mod support;

use std::sync::Arc;

use chancery_ledger::{Enrolled, OpenError, RegistrySnapshot, Roll, RollError, RollOptions};
use support::Lose::{After, Before};
use support::*;

/// What a row writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Write {
    Event,
    Intent,
    Outcome,
    OutcomeWithoutIntent,
    Checkpoint,
    CoseHead,
    Registry,
}

/// What is there after reopening.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Found {
    Nothing,
    Leaf(&'static str),
    Record,
}

/// What a retry gets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Retry {
    /// A leaf or record of its own.
    Anew,
    /// What is there.
    Same,
}

const ABANDONED: Found = Found::Leaf("signing.signature.abandoned");
const ISSUED: Found = Found::Leaf("signing.signature.issued");
const EVENT: Found = Found::Leaf("test.happened");

const TABLE: [(Write, Lose, Found, Retry); 14] = [
    (Write::Event, Before, Found::Nothing, Retry::Anew),
    (Write::Event, After, EVENT, Retry::Same),
    (Write::Intent, Before, Found::Nothing, Retry::Anew),
    (Write::Intent, After, ABANDONED, Retry::Anew),
    (Write::Outcome, Before, ABANDONED, Retry::Anew),
    (Write::Outcome, After, ISSUED, Retry::Same),
    (Write::OutcomeWithoutIntent, Before, Found::Nothing, Retry::Anew),
    (Write::OutcomeWithoutIntent, After, ISSUED, Retry::Same),
    (Write::Checkpoint, Before, Found::Nothing, Retry::Anew),
    (Write::Checkpoint, After, Found::Record, Retry::Same),
    (Write::CoseHead, Before, Found::Nothing, Retry::Anew),
    (Write::CoseHead, After, Found::Record, Retry::Same),
    (Write::Registry, Before, Found::Nothing, Retry::Anew),
    (Write::Registry, After, Found::Record, Retry::Same),
];

fn registry() -> RegistrySnapshot {
    RegistrySnapshot { version: 1, json: b"{}".to_vec(), note: "note\n".into() }
}

/// Performs the write; what it gives is the index or nothing.
async fn perform(
    roll: &Roll,
    write: Write,
    disk: Option<(&FaultyDisk, Lose)>,
) -> Result<Option<u64>, RollError> {
    let key = Some(replay("k", 1));
    let arm = || disk.into_iter().for_each(|(disk, side)| disk.lose(0, side));
    match write {
        Write::Event => {
            arm();
            let event = roll.enrol_event(with_id("s", "order-1"), keyed("k", 1)).await?;
            Ok(Some(event.index().0))
        }
        Write::Intent | Write::Outcome => {
            if write == Write::Intent {
                arm();
            }
            let durable = match roll.enrol_intent(intent("r", key)).await? {
                Enrolled::New(durable) => durable,
                Enrolled::Already(outcome) => return Ok(Some(outcome.index().0)),
            };
            if write == Write::Outcome {
                arm();
            }
            Ok(Some(roll.enrol_outcome(signed(durable.into_intent(), 1)).await?.index().0))
        }
        Write::OutcomeWithoutIntent => {
            arm();
            Ok(Some(roll.enrol_outcome(signed(intent("r", key), 1)).await?.index().0))
        }
        Write::Checkpoint => {
            arm();
            roll.record_checkpoint(checkpoint_of(roll.head().head())).await.map(|()| None)
        }
        Write::CoseHead => {
            let head = roll.head().head();
            roll.record_checkpoint(checkpoint_of(head)).await?;
            arm();
            roll.record_cose_head(cose_head_of(head)).await.map(|()| None)
        }
        Write::Registry => {
            arm();
            roll.record_registry(registry()).await.map(|()| None)
        }
    }
}

/// Whether the caller was told that the roll stopped, and the true reason.
fn is_the_disk<T>(heard: &Result<T, RollError>) -> bool {
    matches!(heard, Err(RollError::Fatal(reason)) if reason.to_string().contains("injected fault"))
}

async fn found(roll: &Roll, write: Write, size_before: usize) -> Found {
    match write {
        Write::Checkpoint if roll.latest_checkpoint().is_some() => Found::Record,
        Write::CoseHead if roll.cose_head().await.unwrap().is_some() => Found::Record,
        Write::Registry if roll.latest_registry().await.unwrap().is_some() => Found::Record,
        _ => match audit(roll).await.get(size_before..).unwrap() {
            [] => Found::Nothing,
            [one] => [ABANDONED, ISSUED, EVENT]
                .into_iter()
                .find(|found| *found == Found::Leaf(Box::leak(one.event_type.clone().into_boxed_str())))
                .unwrap(),
            more => panic!("{more:?}"),
        },
    }
}

fn with_disk(place: &Place) -> (RollOptions, Arc<FaultyDisk>) {
    let disk = Arc::new(FaultyDisk::default());
    let mut options = place.options();
    options.disk = disk.clone();
    (options, disk)
}

#[tokio::test(flavor = "multi_thread")]
async fn the_table_holds() {
    for (write, side, expected, retry) in TABLE {
        for entries_before in [0, 300] {
            let row = format!("{write:?} lost {side:?} after {entries_before} entries");
            let place = Place::new();
            let (options, disk) = with_disk(&place);
            let roll = Roll::create(options).unwrap();
            let before = (0..entries_before).map(|n| (numbered("before", n), None)).collect();
            assert!(roll.enrol_events(before).await.iter().all(Result::is_ok));
            let size = audit(&roll).await.len();

            let heard = perform(&roll, write, Some((&disk, side))).await;
            assert!(is_the_disk(&heard), "{row}: {heard:?}");
            let later = roll.enrol_event(numbered("s", 1), None).await;
            assert!(matches!(later, Err(RollError::Fatal(_))), "{row}: {later:?}");
            let read = roll.leaf(chancery_format::LeafIndex(0)).await;
            assert!(matches!(read, Err(RollError::Fatal(_))), "{row}: {read:?}");
            drop(roll);

            let (roll, recovered) = Roll::open(place.options()).unwrap();
            assert_eq!(found(&roll, write, size).await, expected, "{row}");
            assert_eq!(recovered.abandoned.len(), usize::from(expected == ABANDONED), "{row}");
            let size_then = audit(&roll).await.len();
            let index = perform(&roll, write, None).await.unwrap();
            let grown = audit(&roll).await.len() - size_then;
            let anew = retry == Retry::Anew && index.is_some();
            assert_eq!(grown, usize::from(anew), "{row}: retry");
            assert_eq!(index, index.map(|_| if anew { size_then } else { size } as u64), "{row}: retry");
            assert_eq!(perform(&roll, write, None).await.unwrap(), index, "{row}: second retry");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn closing_open_intents_survives_its_own_crash() {
    for side in [Before, After] {
        let place = Place::new();
        let roll = Roll::create(place.options()).unwrap();
        let batch = (0..3).map(|number| intent(&format!("r-{number}"), None)).collect();
        assert!(roll.enrol_intents(batch).await.iter().all(Result::is_ok));
        drop(roll);

        let (options, disk) = with_disk(&place);
        disk.lose(0, side);
        let refused = Roll::open(options);
        assert!(matches!(refused, Err(OpenError::Fatal(_))), "{refused:?}");
        let (roll, recovered) = Roll::open(place.options()).unwrap();
        assert_eq!(recovered.abandoned.len(), if side == Before { 3 } else { 0 });
        assert_eq!(audit(&roll).await.len(), 4, "each closed once, whichever start did it");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn creation_is_whole_or_says_so() {
    for side in [Before, After] {
        let place = Place::new();
        let (options, disk) = with_disk(&place);
        disk.lose(0, side);
        assert!(matches!(Roll::create(options), Err(OpenError::Fatal(_))));
        match (side, Roll::open(place.options())) {
            (Before, Err(OpenError::HalfCreated(_))) => {}
            (After, Ok((roll, _))) => assert_eq!(audit(&roll).await.len(), 1),
            (side, other) => panic!("{side:?}: {other:?}"),
        }
        assert!(matches!(Roll::create(place.options()), Err(OpenError::Exists(_))));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn everyone_in_a_lost_batch_hears_fatal_and_the_daemon_is_told_once() {
    let place = Place::new();
    let told = Arc::new(std::sync::atomic::AtomicU64::new(0));
    let (mut options, disk) = with_disk(&place);
    let heard = Arc::clone(&told);
    options.on_fatal = Arc::new(move |_| {
        heard.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
    });
    let roll = Roll::create(options).unwrap();
    let Enrolled::New(durable) = roll.enrol_intent(intent("r", Some(replay("k", 1)))).await.unwrap() else {
        panic!()
    };
    let waiter = begun(roll.enrol_intent(intent("w", Some(replay("k", 1))))).await;
    disk.lose(0, After);
    let batch = (0..50).map(|number| (numbered("s", number), None)).collect();
    for result in roll.enrol_events(batch).await {
        assert!(is_the_disk(&result));
    }
    assert!(is_the_disk(&waiter.await), "who waited for another is told too");
    let outcome = roll.enrol_outcome(signed(durable.into_intent(), 1)).await;
    assert!(is_the_disk(&outcome));
    assert_eq!(told.load(std::sync::atomic::Ordering::SeqCst), 1);
    drop(roll);
    let (roll, recovered) = Roll::open(place.options()).unwrap();
    assert_eq!((recovered.abandoned.len(), audit(&roll).await.len()), (1, 52));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_copy_taken_at_any_moment_opens_with_everything_acknowledged() {
    let place = Place::new();
    let roll = Roll::create(place.options()).unwrap();
    for round in 0..12u64 {
        let payload = format!("{{\"round\":{round},\"text\":\"{}\"}}", "x".repeat(3000));
        let batch = (0..150).map(|_| (draft("s", &payload), None)).collect();
        assert!(roll.enrol_events(batch).await.iter().all(Result::is_ok));
        let image = tempfile::tempdir().unwrap();
        copy_dir(&place.ledger(), image.path());
        let (copy, _) = Roll::open(options(image.path())).unwrap();
        assert_eq!(copy.head(), roll.head());
        assert_eq!(audit(&copy).await.len() as u64, 1 + (round + 1) * 150);
    }
}
