//! Making, opening and filling a ledger, and reading all of it back.

#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "a failed unwrap is the test's failure")]

mod support;

use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use chancery_format::{AuditEvent, EventId, Hash, LeafIndex, TreeHead, TreeSize, merkle};
use chancery_ledger::{Enrolled, Fatal, OpenError, RegistrySnapshot, Roll, RollError};
use support::*;

#[tokio::test(flavor = "multi_thread")]
async fn a_ledger_begins_with_its_own_opening_and_reads_back_after_reopening() {
    let place = Place::new();
    let roll = Roll::create(place.options()).unwrap();
    for number in 0..700 {
        let stream = format!("stream/{}", number % 11);
        let committed = roll.enrol_event(numbered(&stream, number), None).await.unwrap();
        assert_eq!(committed.index(), LeafIndex(number + 1));
        assert_eq!(committed.event().unwrap().seq, number / 11);
    }
    let seen = audit(&roll).await;
    assert_eq!((seen[0].event_type.as_str(), seen[0].stream.as_str()), ("ledger.opened", "chancery"));
    let head = roll.head();
    drop(roll);

    let (roll, recovered) = Roll::open(place.options()).unwrap();
    assert_eq!((recovered.head, recovered.abandoned.len()), (head.head(), 0));
    assert_eq!(audit(&roll).await, seen);
    let next = roll.enrol_event(numbered("stream/3", 0), None).await.unwrap();
    let event = next.event().unwrap();
    assert_eq!((next.index(), event.seq), (LeafIndex(701), 64));
    audit(&roll).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn trees_of_every_small_size_and_around_tile_edges_reopen() {
    let place = Place::new();
    let mut roll = Roll::create(place.options()).unwrap();
    let mut size = 1;
    for target in (2..20).chain([254, 255, 256, 257, 258, 511, 512, 513, 1100]) {
        let batch = (size..target).map(|number| (numbered("s", number), None)).collect();
        for result in roll.enrol_events(batch).await {
            result.unwrap();
        }
        size = target;
        drop(roll);
        roll = Roll::open(place.options()).unwrap().0;
        assert_eq!(roll.head().head().size, TreeSize(size));
        audit(&roll).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tree_with_a_second_tile_level_reopens() {
    let place = Place::new();
    let mut options = place.options();
    options.sync = chancery_ledger::SyncMode::OffForBenchmark;
    let roll = Roll::create(options.clone()).unwrap();
    for start in (1..65_900).step_by(1000) {
        let batch = (start..start + 1000).map(|number| (numbered("s", number), None)).collect();
        assert!(roll.enrol_events(batch).await.iter().all(Result::is_ok));
    }
    let head = roll.head();
    assert_eq!(head.head().size, TreeSize(66_001));
    assert_eq!(roll.tile(1, 0, None).await.unwrap().unwrap().len(), 8192);
    assert_eq!(roll.tile(2, 0, Some(1)).await.unwrap().unwrap().len(), 32);
    drop(roll);
    let (roll, _) = Roll::open(options).unwrap();
    assert_eq!(roll.head(), head);
    for index in [0, 1, 255, 256, 65_535, 65_536, 66_000].map(LeafIndex) {
        let leaf = roll.leaf(index).await.unwrap().unwrap();
        let proof = roll.inclusion_proof(index, head.head().size).await.unwrap();
        merkle::verify_inclusion(&merkle::leaf_hash(&leaf.bytes), index, &proof, &head.head()).unwrap();
        let size = TreeSize(index.0 + 1);
        let old = TreeHead { size, root: roll.root_at(size).await.unwrap() };
        let proof = roll.consistency_proof(size, head.head().size).await.unwrap();
        merkle::verify_consistency(&old, &head.head(), &proof).unwrap();
    }
    let page = roll.stream_page("s".parse().unwrap(), 65_995, 10).await.unwrap();
    let seqs: Vec<_> = page.iter().map(|leaf| AuditEvent::parse(&leaf.bytes).unwrap().seq).collect();
    assert_eq!(seqs, [65_995, 65_996, 65_997, 65_998, 65_999]);
    roll.enrol_event(numbered("s", 0), None).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn opening_says_what_is_wrong() {
    let place = Place::new();
    let missing = Roll::open(place.options());
    assert!(matches!(missing, Err(OpenError::NotALedger(_))), "{missing:?}");
    std::fs::create_dir(place.ledger()).unwrap();
    assert!(matches!(Roll::open(place.options()), Err(OpenError::NotALedger(_))));

    let roll = Roll::create(place.options()).unwrap();
    let held = Roll::open(place.options());
    assert!(matches!(held, Err(OpenError::Locked(_))), "{held:?}");
    assert!(matches!(Roll::create(place.options()), Err(OpenError::Exists(_))));
    drop(roll);
    assert!(matches!(Roll::create(place.options()), Err(OpenError::Exists(_))));

    let mut other = place.options();
    other.origin = "ledger.example/other".parse().unwrap();
    assert!(matches!(Roll::open(other), Err(OpenError::OtherOrigin { .. })));
    Roll::open(place.options()).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_that_lost_acknowledged_entries_is_refused() {
    let place = Place::new();
    let mut options = place.options();
    options.limits.write_buffer_bytes = 32 << 20;
    let roll = Roll::create(options.clone()).unwrap();
    for number in 0..20 {
        roll.enrol_event(numbered("s", number), None).await.unwrap();
    }
    drop(roll);
    let log = std::fs::read_dir(place.ledger().join("db")).unwrap().map(|entry| entry.unwrap().path());
    let log = log.filter(|path| path.extension().is_some_and(|e| e == "log")).max().unwrap();
    let bytes = std::fs::read(&log).unwrap();
    let written = bytes.iter().rposition(|byte| *byte != 0).unwrap() + 1;

    // A damaged record in the middle ends the replay there; a torn last one takes one entry away.
    for (damage, at_most) in [(written / 2, 20), (written - 3, 20)] {
        let copy = tempfile::tempdir().unwrap();
        copy_dir(&place.ledger(), copy.path());
        let mut damaged = bytes.clone();
        damaged[damage] ^= 0x40;
        std::fs::write(copy.path().join("db").join(log.file_name().unwrap()), damaged).unwrap();
        let refused = Roll::open(support::options(copy.path())).map(|(_, recovered)| recovered);
        match refused {
            Err(OpenError::LostEntries { found, acknowledged }) => {
                assert_eq!(acknowledged, TreeSize(21));
                assert!(found.0 <= at_most, "{found}");
            }
            Err(OpenError::Store(_) | OpenError::HalfCreated(_)) => {}
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(Roll::open(options).unwrap().1.head.size, TreeSize(21));
}

#[tokio::test(flavor = "multi_thread")]
async fn ids_are_unique_and_the_ledgers_own_cannot_be_taken() {
    let place = Place::new();
    let roll = Roll::create(place.options()).unwrap();
    let first = roll.enrol_event(with_id("s", "order-1"), None).await.unwrap();
    assert!(matches!(roll.enrol_event(with_id("t", "order-1"), None).await, Err(RollError::IdConflict)));
    let batch = vec![(with_id("s", "order-2"), None), (with_id("s", "order-2"), None)];
    let results = roll.enrol_events(batch).await;
    assert!(results[0].is_ok() && matches!(results[1], Err(RollError::IdConflict)));

    let opened = roll.leaf(LeafIndex(0)).await.unwrap().unwrap();
    let own: EventId = AuditEvent::parse(&opened.bytes).unwrap().id.parse().unwrap();
    assert_eq!(roll.find_event(own.clone()).await.unwrap().unwrap().index, LeafIndex(0));
    let taken = with_id("s", &own.as_str().replace("0000000000", "0000000099"));
    assert!(matches!(roll.enrol_event(taken, None).await, Err(RollError::IdConflict)));
    let unused = own.as_str().replace("000000000000", "000000000001");
    assert_eq!(roll.find_event(unused.parse().unwrap()).await.unwrap(), None, "event 1 has its author's id");
    assert_eq!(roll.find_event("order-1".parse().unwrap()).await.unwrap().unwrap().index, first.index());
    assert_eq!(roll.find_event("order-9".parse().unwrap()).await.unwrap(), None);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_leaf_too_large_is_refused_and_leaves_no_trace() {
    let place = Place::new();
    let roll = Roll::create(place.options()).unwrap();
    let large = draft("s", &format!("{{\"a\":\"{}\"}}", "x".repeat(65_500)));
    let batch = vec![
        (numbered("s", 0), None),
        (large.clone(), keyed("k", 1)),
        (numbered("s", 1), None),
        (large, keyed("k", 1)),
    ];
    let results = roll.enrol_events(batch).await;
    assert!(matches!(results[1], Err(RollError::TooLarge(_))));
    assert!(matches!(results[3], Err(RollError::TooLarge(_))));
    assert_eq!(results[2].as_ref().unwrap().event().unwrap().seq, 1);
    roll.enrol_event(numbered("s", 2), keyed("k", 2)).await.unwrap();
    assert_eq!(audit(&roll).await.len(), 4);

    let mut parts = intent("r", None).parts().clone();
    let metadata = format!("{{\"a\":\"{}\"}}", "x".repeat(60_000));
    parts.metadata = Some(chancery_format::canonical::CanonicalJson::parse(metadata.as_bytes()).unwrap());
    let refused = roll.enrol_intent(chancery_format::Intent::new(parts)).await;
    assert!(matches!(refused, Err(RollError::TooLarge(_))), "its outcome could not be enrolled");
}

#[tokio::test(flavor = "multi_thread")]
async fn streams_are_read_by_page() {
    let place = Place::new();
    let roll = Roll::create(place.options()).unwrap();
    for round in 0..40 {
        let batch = (0..10).map(|n| (numbered(if n % 3 == 0 { "a" } else { "b" }, round * 10 + n), None));
        roll.enrol_events(batch.collect()).await.into_iter().for_each(|result| drop(result.unwrap()));
    }
    for (stream, count) in [("a", 160), ("b", 240)] {
        let name: chancery_format::StreamName = stream.parse().unwrap();
        let all: Vec<_> = audit(&roll).await.into_iter().filter(|event| event.stream == stream).collect();
        let head = roll.stream_head(name.clone()).await.unwrap().unwrap();
        assert_eq!((head.next_seq, all.len()), (count, count as usize));
        for (from, limit) in [(0, 1000), (0, 1), (3, 4), (5, 7), (count - 1, 9), (count, 9)] {
            let page = roll.stream_page(name.clone(), from, limit).await.unwrap();
            let wanted = all.iter().skip(from as usize).take(limit).map(|event| event.index);
            assert_eq!(page.iter().map(|leaf| leaf.index.0).collect::<Vec<_>>(), wanted.collect::<Vec<_>>());
        }
    }
    assert!(roll.stream_page("zzz".parse().unwrap(), 0, 9).await.unwrap().is_empty());
    assert_eq!(roll.stream_head("zzz".parse().unwrap()).await.unwrap(), None);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_first_checkpoint_over_an_entry_never_changes() {
    let place = Place::new();
    let roll = Roll::create(place.options()).unwrap();
    roll.enrol_event(numbered("s", 0), None).await.unwrap();
    let early = roll.head().head();
    for number in 1..10 {
        roll.enrol_event(numbered("s", number), None).await.unwrap();
    }
    assert_eq!(roll.first_checkpoint_covering(LeafIndex(0)).await.unwrap(), None);
    let late = checkpoint(&roll).await;
    checkpoint(&roll).await;
    let refused = roll.record_checkpoint(checkpoint_of(early)).await;
    assert!(matches!(refused, Err(RollError::CheckpointNotNewer)));
    let first = roll.first_checkpoint_covering(LeafIndex(0)).await.unwrap().unwrap();
    assert_eq!((first.size, roll.latest_checkpoint()), (late, Some(first.clone())));
    assert_eq!(roll.first_checkpoint_covering(LeafIndex(late.0)).await.unwrap(), None);

    roll.enrol_event(numbered("s", 10), None).await.unwrap();
    let newer = checkpoint(&roll).await;
    drop(roll);
    let (roll, recovered) = Roll::open(place.options()).unwrap();
    assert_eq!(recovered.checkpoint.unwrap().size, newer);
    assert_eq!(roll.first_checkpoint_covering(LeafIndex(0)).await.unwrap(), Some(first));
    assert_eq!(roll.first_checkpoint_covering(LeafIndex(late.0)).await.unwrap().unwrap().size, newer);
    assert_eq!(roll.checkpoint(TreeSize(3)).await.unwrap(), None);
}

/// Only the newest head for COSE receipts is kept, beside a recorded checkpoint, and it survives a restart.
#[tokio::test(flavor = "multi_thread")]
async fn the_newest_head_for_cose_receipts_is_kept() {
    let place = Place::new();
    let roll = Roll::create(place.options()).unwrap();
    assert_eq!(roll.cose_head().await.unwrap(), None);
    let early = roll.head().head();
    let unrecorded = roll.record_cose_head(cose_head_of(early)).await;
    assert!(matches!(unrecorded, Err(RollError::NotRecorded)), "{unrecorded:?}");
    checkpoint(&roll).await;
    roll.enrol_event(numbered("s", 0), None).await.unwrap();
    checkpoint(&roll).await;
    let late = roll.head().head();
    for head in [early, late, late] {
        roll.record_cose_head(cose_head_of(head)).await.unwrap();
    }
    let older = roll.record_cose_head(cose_head_of(early)).await;
    assert!(matches!(older, Err(RollError::CheckpointNotNewer)), "{older:?}");
    roll.enrol_event(numbered("s", 1), None).await.unwrap();
    checkpoint(&roll).await;
    drop(roll);

    let (roll, _) = Roll::open(place.options()).unwrap();
    let (signed, head) = roll.cose_head().await.unwrap().unwrap();
    assert_eq!((head, &signed), (late, &cose_head_of(late).to_receipt()));
    let foreign = cose_head_of(TreeHead { root: Hash([9; 32]), ..late });
    let stopped = roll.record_cose_head(foreign).await;
    assert!(matches!(stopped, Err(RollError::Fatal(_))), "{stopped:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_signed_head_that_is_not_ours_stops_the_roll() {
    for (size, byte) in [(1, 9), (5, 9)] {
        let place = Place::new();
        let told = Arc::new(Mutex::new(Vec::new()));
        let mut options = place.options();
        let heard = Arc::clone(&told);
        options.on_fatal = Arc::new(move |fatal: &Fatal| heard.lock().unwrap().push(fatal.to_string()));
        let roll = Roll::create(options).unwrap();
        let foreign = checkpoint_of(TreeHead { size: TreeSize(size), root: Hash([byte; 32]) });
        let stopped = roll.record_checkpoint(foreign).await;
        assert!(matches!(stopped, Err(RollError::Fatal(_))), "{stopped:?}");
        assert!(matches!(roll.enrol_event(numbered("s", 0), None).await, Err(RollError::Fatal(_))));
        assert!(matches!(roll.leaf(LeafIndex(0)).await, Err(RollError::Fatal(_))));
        assert_eq!(told.lock().unwrap().len(), 1);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn registry_versions_count_up_and_have_one_content() {
    let place = Place::new();
    let roll = Roll::create(place.options()).unwrap();
    let version =
        |version, json: &str| RegistrySnapshot { version, json: json.into(), note: "note\n".into() };
    let conflict = |result| matches!(result, Err(RollError::RegistryConflict));
    assert!(conflict(roll.record_registry(version(2, "{}")).await));
    roll.record_registry(version(1, "{}")).await.unwrap();
    roll.record_registry(version(1, "{}")).await.unwrap();
    assert!(conflict(roll.record_registry(version(1, "{\"a\":1}")).await));
    assert!(conflict(roll.record_registry(version(3, "{}")).await));
    roll.record_registry(version(2, "{\"a\":1}")).await.unwrap();
    drop(roll);
    let (roll, _) = Roll::open(place.options()).unwrap();
    assert_eq!(roll.latest_registry().await.unwrap(), Some(version(2, "{\"a\":1}")));
    assert_eq!(roll.registry(1).await.unwrap(), Some(version(1, "{}")));
    assert_eq!(roll.registry(3).await.unwrap(), None);
}

#[tokio::test(flavor = "multi_thread")]
async fn calls_that_wait_together_share_a_sync() {
    let place = Place::new();
    let disk = Arc::new(GatedDisk::default());
    let mut options = place.options();
    options.disk = disk.clone();
    let roll = Roll::create(options).unwrap();
    let commits = || disk.commits.load(Ordering::SeqCst);
    let (before, arrived) = (commits(), disk.arrivals.load(Ordering::SeqCst));
    disk.close();
    let call = |number| {
        let roll = roll.clone();
        tokio::spawn(async move { roll.enrol_event(numbered("s", number), None).await })
    };
    let first = call(0);
    let at_gate = || disk.arrivals.load(Ordering::SeqCst) > arrived;
    tokio::task::block_in_place(|| wait_until("the first call is being written", at_gate));
    let calls: Vec<_> = (1..=200).map(call).collect();
    tokio::task::block_in_place(|| wait_until("all others wait", || roll.queued() == 200));
    disk.open();
    first.await.unwrap().unwrap();
    for call in calls {
        call.await.unwrap().unwrap();
    }
    assert_eq!(commits() - before, 2, "one for the first, one for all who waited meanwhile");
    assert_eq!(audit(&roll).await.len(), 202);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_longer_open_is_under_the_head() {
    let place = Place::new();
    let disk = Arc::new(GatedDisk::default());
    let mut options = place.options();
    options.disk = disk.clone();
    let roll = Roll::create(options).unwrap();
    let Enrolled::New(durable) = roll.enrol_intent(intent("a", None)).await.unwrap() else { panic!() };
    let size = || roll.head().head().size.0;
    let (before, commits) = (size(), disk.commits.load(Ordering::SeqCst));
    disk.close_behind();
    let ending = tokio::spawn({
        let (roll, failed) = (roll.clone(), failed(durable.into_intent()));
        async move { roll.enrol_outcome(failed).await }
    });
    let on_disk = || disk.commits.load(Ordering::SeqCst) > commits;
    tokio::task::block_in_place(|| wait_until("the outcome is on disk", on_disk));
    assert_eq!(size(), before, "and not shown yet");
    let opener = tokio::spawn({
        let disk = disk.clone();
        async move {
            tokio::time::sleep(Duration::from_millis(100)).await;
            disk.open();
        }
    });
    assert!(roll.open_intent_list(9).await.unwrap().is_empty());
    assert_eq!(size(), before + 1, "a reader who sees neither would think the key was used behind our back");
    opener.await.unwrap();
    ending.await.unwrap().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn queues_and_batches_are_bounded_but_outcomes_of_open_intents_pass() {
    let place = Place::new();
    let disk = Arc::new(GatedDisk::default());
    let mut options = place.options();
    options.limits.queue = 4;
    options.limits.batch_entries_max = 8;
    options.limits.open_intents_max = 2;
    options.disk = disk.clone();
    let roll = Roll::create(options).unwrap();
    let large = (0..9).map(|number| (numbered("s", number), None)).collect();
    assert!(roll.enrol_events(large).await.iter().all(|r| matches!(r, Err(RollError::BatchTooLarge))));

    let Enrolled::New(a) = roll.enrol_intent(intent("a", None)).await.unwrap() else { panic!() };
    let Enrolled::New(_b) = roll.enrol_intent(intent("b", None)).await.unwrap() else { panic!() };
    assert!(matches!(roll.enrol_intent(intent("c", None)).await, Err(RollError::Overloaded)));

    disk.close();
    let call = |number| {
        let roll = roll.clone();
        tokio::spawn(async move { roll.enrol_event(numbered("s", number), None).await })
    };
    let before = disk.arrivals.load(Ordering::SeqCst);
    let first = call(0);
    let at_gate = || disk.arrivals.load(Ordering::SeqCst) > before;
    tokio::task::block_in_place(|| wait_until("the writer is at the gate", at_gate));
    let waiting: Vec<_> = (1..=4).map(call).collect();
    tokio::task::block_in_place(|| wait_until("the queue is full", || roll.queued() == 4));
    assert!(matches!(roll.enrol_event(numbered("s", 9), None).await, Err(RollError::Overloaded)));
    let outcome = tokio::spawn({
        let roll = roll.clone();
        async move { roll.enrol_outcome(signed(a.into_intent(), 1)).await }
    });
    tokio::task::block_in_place(|| wait_until("the outcome is in the queue", || roll.queued() == 5));
    disk.open();
    first.await.unwrap().unwrap();
    for call in waiting {
        call.await.unwrap().unwrap();
    }
    assert!(outcome.await.unwrap().unwrap().issued().is_some());
    assert_eq!(audit(&roll).await.len(), 7);
}
