//! Idempotency as callers meet it: retries before, during and after, conflicts, and what a crash leaves.

#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "a failed unwrap is the test's failure")]

mod support;

use std::sync::Arc;

use chancery_format::{DurableIntent, Intent};
use chancery_ledger::{Enrolled, Roll, RollError};
use support::*;

async fn new(roll: &Roll, intent: Intent) -> DurableIntent {
    match roll.enrol_intent(intent).await.unwrap() {
        Enrolled::New(durable) => durable,
        Enrolled::Already(outcome) => panic!("already at {}", outcome.index()),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_retry_after_success_gets_the_same_leaf_even_after_reopening() {
    let place = Place::new();
    let roll = Roll::create(place.options()).unwrap();
    let durable = new(&roll, intent("r-1", Some(replay("k", 1)))).await;
    let first = roll.enrol_outcome(signed(durable.into_intent(), 1)).await.unwrap();
    let mut roll = roll;
    for attempt in 0..2 {
        // The retry has its own request id: that is no part of what was asked.
        let Enrolled::Already(again) = roll.enrol_intent(intent("r-2", Some(replay("k", 1)))).await.unwrap()
        else {
            panic!("attempt {attempt}");
        };
        assert_eq!((again.index(), again.leaf()), (first.index(), first.leaf()));
        assert!(again.issued().is_some());
        drop(roll);
        roll = Roll::open(place.options()).unwrap().0;
    }
    assert_eq!(audit(&roll).await.len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn another_request_under_the_key_conflicts_in_every_state() {
    let place = Place::new();
    let roll = Roll::create(place.options()).unwrap();
    let conflicts = async || {
        let other = roll.enrol_intent(intent("x", Some(replay("k", 2)))).await;
        assert!(matches!(other, Err(RollError::ReplayConflict)), "{other:?}");
        let event = roll.enrol_event(numbered("s", 0), keyed("k", 2)).await;
        assert!(matches!(event, Err(RollError::ReplayConflict)), "{event:?}");
    };
    let durable = new(&roll, intent("r", Some(replay("k", 1)))).await;
    conflicts().await; // in flight
    roll.enrol_outcome(failed(durable.into_intent())).await.unwrap();
    conflicts().await; // failed
    let durable = new(&roll, intent("r", Some(replay("k", 1)))).await;
    roll.enrol_outcome(signed(durable.into_intent(), 1)).await.unwrap();
    conflicts().await; // issued
    let event = roll.enrol_event(numbered("s", 0), keyed("k", 1)).await;
    assert!(matches!(event, Err(RollError::ReplayConflict)), "a signature is no answer to an event");
    let skipped = roll.enrol_outcome(signed(intent("r", Some(replay("k", 2))), 1)).await;
    assert!(matches!(skipped, Err(RollError::ReplayConflict)));
    assert_eq!(audit(&roll).await.len(), 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_belong_to_their_principal() {
    let place = Place::new();
    let roll = Roll::create(place.options()).unwrap();
    let as_principal = |name: &str| Some((principal(name), replay("k", 1)));
    let a = roll.enrol_event(numbered("s", 0), as_principal("a")).await.unwrap();
    let b = roll.enrol_event(numbered("s", 1), as_principal("b")).await.unwrap();
    assert_ne!(a.index(), b.index());
    let again = roll.enrol_event(numbered("s", 2), as_principal("a")).await.unwrap();
    assert_eq!((again.index(), again.leaf()), (a.index(), a.leaf()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failure_answers_who_waited_but_not_who_comes_later() {
    let place = Place::new();
    let roll = Roll::create(place.options()).unwrap();
    let durable = new(&roll, intent("r-1", Some(replay("k", 1)))).await;
    let waiter = begun(roll.enrol_intent(intent("r-2", Some(replay("k", 1))))).await;
    let outcome = roll.enrol_outcome(failed(durable.into_intent())).await.unwrap();
    let Enrolled::Already(heard) = waiter.await.unwrap() else { panic!("it must not sign") };
    assert_eq!(heard.index(), outcome.index());
    assert!(heard.issued().is_none() && heard.failed().is_some());

    let durable = new(&roll, intent("r-3", Some(replay("k", 1)))).await;
    let second = roll.enrol_outcome(signed(durable.into_intent(), 2)).await.unwrap();
    let Enrolled::Already(again) = roll.enrol_intent(intent("r-4", Some(replay("k", 1)))).await.unwrap()
    else {
        panic!()
    };
    assert_eq!(again.index(), second.index(), "the new attempt replaced the record");
}

#[tokio::test(flavor = "multi_thread")]
async fn only_a_few_wait_and_a_batch_never_does() {
    let place = Place::new();
    let mut options = place.options();
    options.limits.waiters_per_key_max = 3;
    let roll = Roll::create(options).unwrap();
    let durable = new(&roll, intent("r", Some(replay("k", 1)))).await;
    let batch = vec![
        intent("b-1", Some(replay("k", 1))),
        intent("b-2", Some(replay("new", 1))),
        intent("b-3", Some(replay("new", 1))),
    ];
    let results = roll.enrol_intents(batch).await;
    assert!(matches!(results[0], Err(RollError::InFlight)));
    assert!(matches!(results[1], Ok(Enrolled::New(_))));
    assert!(matches!(results[2], Err(RollError::InFlight)), "waiting for oneself would never end");

    let calls: Vec<_> = (0..8)
        .map(|number| {
            let roll = roll.clone();
            let intent = intent(&format!("w-{number}"), Some(replay("k", 1)));
            tokio::spawn(async move { roll.enrol_intent(intent).await })
        })
        .collect();
    tokio::task::block_in_place(|| {
        wait_until("all but three were refused", || {
            calls.iter().filter(|call| call.is_finished()).count() == 5
        });
    });
    roll.enrol_outcome(signed(durable.into_intent(), 1)).await.unwrap();
    let mut counts = (0, 0);
    for call in calls {
        match call.await.unwrap() {
            Ok(Enrolled::Already(outcome)) if outcome.issued().is_some() => counts.0 += 1,
            Err(RollError::InFlight) => counts.1 += 1,
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(counts, (3, 5));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_waiter_that_gave_up_makes_room() {
    let place = Place::new();
    let mut options = place.options();
    options.limits.waiters_per_key_max = 1;
    let roll = Roll::create(options).unwrap();
    let durable = new(&roll, intent("r", Some(replay("k", 1)))).await;
    let first = begun(roll.enrol_intent(intent("w-1", Some(replay("k", 1))))).await;
    let refused = roll.enrol_intent(intent("w-2", Some(replay("k", 1)))).await;
    assert!(matches!(refused, Err(RollError::InFlight)));
    drop(first);
    let second = begun(roll.enrol_intent(intent("w-3", Some(replay("k", 1))))).await;
    roll.enrol_outcome(signed(durable.into_intent(), 1)).await.unwrap();
    assert!(matches!(second.await, Ok(Enrolled::Already(_))));
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_durable_intent_the_first_signature_wins() {
    let place = Place::new();
    let roll = Roll::create(place.options()).unwrap();
    let skipped = |request: &str, byte| signed(intent(request, Some(replay("k", 1))), byte);
    let failure = roll.enrol_outcome(failed(intent("r-0", Some(replay("k", 1))))).await.unwrap();
    let first = roll.enrol_outcome(skipped("r-1", 1)).await.unwrap();
    let second = roll.enrol_outcome(skipped("r-2", 2)).await.unwrap();
    assert_ne!(failure.index(), first.index());
    assert_eq!((first.index(), first.leaf()), (second.index(), second.leaf()));

    let fresh = |request: &str, byte| signed(intent(request, Some(replay("k2", 1))), byte);
    let batch = roll.enrol_outcomes(vec![fresh("r-3", 3), fresh("r-4", 4)]).await;
    let [a, b] = [&batch[0], &batch[1]].map(|result| result.as_ref().unwrap().leaf().clone());
    assert_eq!(a, b, "also inside one batch");
    assert_eq!(audit(&roll).await.len(), 4);
}

#[tokio::test(flavor = "multi_thread")]
async fn events_with_a_key_are_enrolled_once() {
    let place = Place::new();
    let roll = Roll::create(place.options()).unwrap();
    let once = || (with_id("s", "order-1"), keyed("k", 1));
    let batch = roll.enrol_events(vec![once(), (numbered("s", 1), None), once()]).await;
    let [first, _, again] = [0, 1, 2].map(|at| batch[at].as_ref().unwrap().index());
    assert_eq!(first, again, "the retry is answered before its id is looked at");
    let later = roll.enrol_event(once().0, once().1).await.unwrap();
    assert_eq!(later.index(), first);
    assert_eq!(audit(&roll).await.len(), 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn intents_a_crash_left_open_become_abandoned_leaves_and_may_be_retried() {
    let place = Place::new();
    let roll = Roll::create(place.options()).unwrap();
    let closed = new(&roll, intent("closed", None)).await;
    let _open = new(&roll, intent("open", Some(replay("k", 1)))).await;
    let equal: Vec<_> =
        [new(&roll, intent("same", None)).await, new(&roll, intent("same", None)).await].into();
    roll.enrol_outcome(signed(closed.into_intent(), 1)).await.unwrap();
    roll.enrol_outcome(signed(equal.into_iter().next().unwrap().into_intent(), 2)).await.unwrap();
    assert_eq!(roll.open_intents(), 2);
    let crashed = tempfile::tempdir().unwrap();
    copy_dir(&place.ledger(), crashed.path());
    drop(roll);

    for dir in [crashed.path(), &place.ledger()] {
        let (roll, recovered) = Roll::open(options(dir)).unwrap();
        assert_eq!(recovered.abandoned.len(), 2);
        let seen = audit(&roll).await;
        let abandoned: Vec<_> =
            seen.iter().filter(|event| event.event_type == "signing.signature.abandoned").collect();
        assert_eq!(abandoned.len(), 2);
        assert!(abandoned.iter().all(|event| event.payload.contains("\"keyUse\":\"unknown\"")));
        assert!(abandoned[0].payload.contains("\"requestId\":\"open\""));

        let retry = new(&roll, intent("retry", Some(replay("k", 1)))).await;
        let other = roll.enrol_intent(intent("x", Some(replay("k", 9)))).await;
        assert!(matches!(other, Err(RollError::ReplayConflict)));
        let outcome = roll.enrol_outcome(signed(retry.into_intent(), 3)).await.unwrap();
        drop(roll);
        let (roll, recovered) = Roll::open(options(dir)).unwrap();
        assert!(recovered.abandoned.is_empty());
        let Enrolled::Already(again) = roll.enrol_intent(intent("y", Some(replay("k", 1)))).await.unwrap()
        else {
            panic!()
        };
        assert_eq!(again.index(), outcome.index());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn more_open_intents_than_a_batch_holds_are_all_closed() {
    let place = Place::new();
    let roll = Roll::create(place.options()).unwrap();
    for _ in 0..3 {
        let batch = (0..10).map(|number| intent(&format!("r-{number}"), None)).collect();
        assert!(roll.enrol_intents(batch).await.iter().all(Result::is_ok));
    }
    drop(roll);
    let mut options = place.options();
    options.limits.batch_entries_max = 7;
    let (roll, recovered) = Roll::open(options).unwrap();
    assert_eq!((recovered.abandoned.len(), roll.open_intents()), (30, 0));
    assert_eq!(audit(&roll).await.len(), 31);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_intent_whose_caller_went_away_is_closed_as_unused() {
    let place = Place::new();
    let disk = Arc::new(GatedDisk::default());
    let mut options = place.options();
    options.disk = disk.clone();
    let roll = Roll::create(options).unwrap();
    let arrivals = || disk.arrivals.load(std::sync::atomic::Ordering::SeqCst);
    let before = arrivals();
    disk.close();
    let call = tokio::spawn({
        let roll = roll.clone();
        async move { roll.enrol_intent(intent("r", Some(replay("k", 1)))).await }
    });
    tokio::task::block_in_place(|| wait_until("the intent is being written", || arrivals() > before));
    call.abort();
    drop(call.await);
    disk.open();
    // Ends once the orphan's outcome ended the attempt.
    let Ok(retry) = roll.enrol_intent(intent("r-2", Some(replay("k", 1)))).await else { panic!() };
    if let Enrolled::Already(outcome) = &retry {
        assert_eq!(outcome.failed().unwrap().code, "caller-gone");
    }
    let failures = audit(&roll).await;
    let gone = failures.iter().find(|event| event.event_type == "signing.signature.failed").unwrap();
    assert!(
        gone.payload.contains("\"code\":\"caller-gone\"") && gone.payload.contains("\"keyUse\":\"none\"")
    );
}
