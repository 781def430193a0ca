//! Heads of streams and keys: what is enrolled is what an independent count of the same leaves gives, through restarts
//! and crashes between any two steps, whichever step the store refuses, and each proof leads to it.

#![expect(clippy::unwrap_used, reason = "a failed unwrap is the test's failure")]

mod support;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use chancery_format::heads::{EnrolledHeads, Head, HeadName};
use chancery_format::merkle::{Frontier, leaf_hash};
use chancery_format::{AuditEvent, EventDraft, LeafIndex, TreeSize};
use chancery_ledger::{Enrolled, Heads, HeadsOutcome, Roll, RollError, RollOptions};
use rocksdb::{DB, Options};
use support::*;

/// Outcomes of one key, in the stream of their principal, and events of three streams.
async fn fill(roll: &Roll, number: u64) {
    for at in number..number + 5 {
        let enrolled = roll.enrol_intent(intent(&format!("r-{at}"), None)).await.unwrap();
        let Enrolled::New(durable) = enrolled else { panic!("enrolled before") };
        roll.enrol_outcome(signed(durable.into_intent(), 1)).await.unwrap();
        let stream = format!("s{}", at % 3);
        roll.enrol_event(numbered(&stream, at), None).await.unwrap();
    }
}

/// Everything counted anew from the leaves below a size.
async fn counted(roll: &Roll, size: u64) -> BTreeMap<HeadName, (Head, Vec<u64>)> {
    let mut all: BTreeMap<HeadName, (Head, Vec<u64>)> = BTreeMap::new();
    for index in 0..size {
        let leaf = roll.leaf(LeafIndex(index)).await.unwrap().unwrap();
        let event = AuditEvent::parse(&leaf.bytes).unwrap();
        for name in HeadName::all_of(&event) {
            let before = all.get(&name).cloned();
            let head = Head::after(before.as_ref().map(|(head, _)| head), LeafIndex(index), &event.hash);
            let mut indices = before.map(|(_, indices)| indices).unwrap_or_default();
            indices.push(index);
            all.insert(name, (head, indices));
        }
    }
    all
}

fn root_of(all: &BTreeMap<HeadName, (Head, Vec<u64>)>, size: u64) -> EnrolledHeads {
    let mut tree = Frontier::new();
    for (name, (head, _)) in all {
        let json = format!(
            "{{\"count\":{},\"hash\":\"{}\",\"last\":{},\"name\":\"{name}\"}}",
            head.count, head.hash, head.last
        );
        tree.push(leaf_hash(json.as_bytes()));
    }
    EnrolledHeads { names: all.len() as u64, root: tree.root(), size: TreeSize(size) }
}

/// Enrols, and holds what was enrolled, each proof and each list of entries against the count.
async fn enrolled_is_right(roll: &Roll, heads: &Heads) -> LeafIndex {
    let size = roll.head().head().size;
    heads.follow(size).await.unwrap();
    let outcome = heads.enrol().await.unwrap();
    let HeadsOutcome::Enrolled(index) = outcome else { panic!("{outcome:?}") };
    assert!(index.0 >= size.0);
    let all = counted(roll, size.0).await;
    let leaf = roll.leaf(index).await.unwrap().unwrap();
    let event = AuditEvent::parse(&leaf.bytes).unwrap();
    assert_eq!((event.event_type, event.is_in_place()), ("ledger.heads", true));
    assert_eq!(EnrolledHeads::parse(event.payload), Some(root_of(&all, size.0)));
    for (name, (head, indices)) in &all {
        let proven = heads.proven(name.clone()).await.unwrap().unwrap();
        assert_eq!((proven.head, proven.enrolled.index), (Some(*head), index), "{name}");
        assert_eq!(proven.proof.verify(name, Some(head), &proven.enrolled.heads), Ok(()), "{name}");
        let mut found = Vec::new();
        while found.len() < indices.len() {
            let page = heads.entries(name.clone(), found.len() as u64, 3).await.unwrap();
            let more: Vec<_> = page.iter().map(|leaf| leaf.index.0).filter(|index| *index < size.0).collect();
            assert!(!more.is_empty(), "{name}: {found:?} of {indices:?}");
            found.extend(more);
        }
        assert_eq!(&found, indices, "{name}");
    }
    let nobody: HeadName = "key:nobody".parse().unwrap();
    let proven = heads.proven(nobody.clone()).await.unwrap().unwrap();
    assert_eq!(proven.proof.verify(&nobody, None, &proven.enrolled.heads), Ok(()));
    assert!(heads.entries(nobody, 0, 9).await.unwrap().is_empty());
    index
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_enrolled_is_what_the_leaves_say() {
    let place = Place::new();
    let roll = Roll::create(place.options()).unwrap();
    let heads = Heads::new(roll.clone());
    let name: HeadName = "stream:s1".parse().unwrap();
    assert_eq!(heads.proven(name.clone()).await.unwrap(), None, "nothing is enrolled yet");
    assert_eq!(heads.enrol().await.unwrap(), HeadsOutcome::Nothing);
    let mut last = None;
    for round in 0..4 {
        fill(&roll, round * 5).await;
        let index = enrolled_is_right(&roll, &heads).await;
        // Of a ledger that holds nothing new but the map itself, no other map is enrolled.
        heads.follow(roll.head().head().size).await.unwrap();
        assert_eq!(heads.enrol().await.unwrap(), HeadsOutcome::Nothing);
        last = Some(index);
    }
    // What came since changes no proof before the next map.
    fill(&roll, 100).await;
    heads.follow(roll.head().head().size).await.unwrap();
    let before = heads.proven(name.clone()).await.unwrap().unwrap();
    assert_eq!(Some(before.enrolled.index), last);
    assert_eq!(before.proof.verify(&name, before.head.as_ref(), &before.enrolled.heads), Ok(()));
    drop((heads, roll));

    let (roll, _) = Roll::open(place.options()).unwrap();
    let heads = Heads::new(roll.clone());
    assert_eq!(heads.proven(name).await.unwrap(), Some(before), "the last map is known after a restart");
    enrolled_is_right(&roll, &heads).await;
}

/// After a crash between storing heads and enrolling them, or between two of their rows, some stored heads are newer than
/// what `meta` says.
#[tokio::test(flavor = "multi_thread")]
#[expect(clippy::disallowed_methods, reason = "damage need not be synced")]
async fn nothing_is_counted_twice_after_a_crash() {
    let place = Place::new();
    let roll = Roll::create(place.options()).unwrap();
    let heads = Heads::new(roll.clone());
    fill(&roll, 0).await;
    enrolled_is_right(&roll, &heads).await;
    let path = place.ledger().join("db");
    let meta = |change: &dyn Fn(&DB)| {
        let families = DB::list_cf(&Options::default(), &path).unwrap();
        change(&DB::open_cf(&Options::default(), &path, families).unwrap());
    };
    fill(&roll, 50).await;
    drop((heads, roll));
    let older = std::cell::RefCell::new(Vec::new());
    meta(&|db| *older.borrow_mut() = db.get_cf(&db.cf_handle("meta").unwrap(), b"heads").unwrap().unwrap());
    for cut in [16, 8] {
        let (roll, _) = Roll::open(place.options()).unwrap();
        let heads = Heads::new(roll.clone());
        fill(&roll, 100 * cut as u64).await;
        enrolled_is_right(&roll, &heads).await;
        fill(&roll, 1_000 * cut as u64).await;
        drop((heads, roll));
        meta(&|db| {
            let older = older.borrow();
            db.put_cf(&db.cf_handle("meta").unwrap(), b"heads", older.get(..cut).unwrap()).unwrap();
        });
        let (roll, _) = Roll::open(place.options()).unwrap();
        let heads = Heads::new(roll.clone());
        let name: HeadName = "stream:s1".parse().unwrap();
        assert_eq!(heads.proven(name).await.unwrap(), None, "the stored heads are not those enrolled there");
        enrolled_is_right(&roll, &heads).await;
    }
}

/// What was folded by a process that lives on, and what one that has just started reads, are the same map.
async fn as_after_a_restart(options: RollOptions, roll: Roll, heads: Heads) -> (Roll, Heads) {
    let size = roll.head().head().size;
    let names: Vec<HeadName> = counted(&roll, size.0).await.into_keys().collect();
    let mut known = Vec::new();
    for name in &names {
        known.push(heads.proven(name.clone()).await.unwrap().unwrap());
    }
    drop((heads, roll));
    let (roll, _) = Roll::open(options).unwrap();
    let heads = Heads::new(roll.clone());
    for (name, known) in names.iter().zip(known) {
        assert_eq!(heads.proven(name.clone()).await.unwrap(), Some(known), "{name}");
    }
    (roll, heads)
}

/// The writer holds one batch at the disk, and the queue is full: what this asks for meets a ledger that is too busy.
async fn while_too_busy<T>(disk: &GatedDisk, roll: &Roll, asked: impl Future<Output = T>) -> T {
    let arrivals = disk.arrivals.load(Ordering::SeqCst);
    disk.close();
    let at_the_disk = begun(roll.enrol_event(numbered("s1", 7), None)).await;
    wait_until("the writer is at the disk", || disk.arrivals.load(Ordering::SeqCst) > arrivals);
    let queued = begun(roll.enrol_event(numbered("s2", 8), None)).await;
    let answer = asked.await;
    disk.open();
    at_the_disk.await.unwrap();
    queued.await.unwrap();
    answer
}

/// The store refuses once, at each step where it can without the ledger stopping, and the same process goes on.
#[tokio::test(flavor = "multi_thread")]
async fn what_could_not_be_stored_is_folded_again() {
    let (place, disk) = (Place::new(), Arc::new(GatedDisk::default()));
    let mut options = place.options();
    options.disk = disk.clone();
    options.limits.queue = 1;
    let mut roll = Roll::create(options.clone()).unwrap();
    let mut heads = Heads::new(roll.clone());
    // So that there is a stored map to begin again with.
    fill(&roll, 0).await;
    enrolled_is_right(&roll, &heads).await;
    for (number, folded_before) in [(100, false), (200, true), (300, false), (400, true)] {
        fill(&roll, number).await;
        let size = roll.head().head().size;
        let refused = if folded_before {
            // Where keys were used is stored; the heads that changed are not.
            heads.follow(size).await.unwrap();
            while_too_busy(&disk, &roll, heads.enrol()).await.map(drop)
        } else {
            while_too_busy(&disk, &roll, heads.follow(size)).await
        };
        assert!(matches!(refused, Err(RollError::Overloaded)), "{refused:?}");
        assert!(roll.fatal().is_none());
        enrolled_is_right(&roll, &heads).await;
        (roll, heads) = as_after_a_restart(options.clone(), roll, heads).await;
    }
}

/// Rows of the map are stored, and the disk's reserve is reached before the leaf that enrols it.
#[tokio::test(flavor = "multi_thread")]
async fn a_map_that_was_stored_and_not_enrolled_is_enrolled_later() {
    let (place, disk) = (Place::new(), Arc::new(FaultyDisk::default()));
    let mut options = place.options();
    options.disk = disk.clone();
    options.limits.reserve_bytes = 1;
    let mut roll = Roll::create(options.clone()).unwrap();
    let mut heads = Heads::new(roll.clone());
    for number in [0, 100, 200] {
        fill(&roll, number).await;
        heads.follow(roll.head().head().size).await.unwrap();
        disk.set_free(Some(0));
        let refused = heads.enrol().await;
        assert!(matches!(refused, Err(RollError::Full)), "{refused:?}");
        disk.set_free(None);
        if number == 200 {
            fill(&roll, 300).await;
        }
        enrolled_is_right(&roll, &heads).await;
        (roll, heads) = as_after_a_restart(options.clone(), roll, heads).await;
    }
}

/// A write that fails stops the ledger, done or not. Whichever it was, the next process enrols the right map.
#[tokio::test(flavor = "multi_thread")]
async fn whichever_write_fails_the_next_process_enrols_the_right_map() {
    for side in [Lose::Before, Lose::After] {
        let mut survived = 0;
        for nth in 0.. {
            let (place, disk) = (Place::new(), Arc::new(FaultyDisk::default()));
            let mut options = place.options();
            options.disk = disk.clone();
            let roll = Roll::create(options.clone()).unwrap();
            let heads = Heads::new(roll.clone());
            fill(&roll, 0).await;
            enrolled_is_right(&roll, &heads).await;
            fill(&roll, 100).await;
            disk.lose(nth, side);
            let size = roll.head().head().size;
            let done = match heads.follow(size).await {
                Ok(()) => heads.enrol().await.map(drop),
                Err(error) => Err(error),
            };
            let Err(error) = done else { break };
            assert!(matches!(error, RollError::Fatal(_)), "{error}");
            drop((heads, roll));
            let (roll, _) = Roll::open(options.clone()).unwrap();
            let heads = Heads::new(roll.clone());
            fill(&roll, 200).await;
            enrolled_is_right(&roll, &heads).await;
            drop(as_after_a_restart(options, roll, heads).await);
            survived += 1;
        }
        // Where keys were used, heads that changed, their size, the leaf, its index.
        assert_eq!(survived, 5, "{side:?}");
    }
}

/// Each map is of a greater size than the one before, or the ledger would be refused for ever: what is derived again under
/// the checkpoint of the last map, or under one before it, is not enrolled a second time.
#[tokio::test(flavor = "multi_thread")]
async fn a_map_that_is_derived_again_is_enrolled_once() {
    let place = Place::new();
    let roll = Roll::create(place.options()).unwrap();
    let heads = Heads::new(roll.clone());
    let maps = async |roll: &Roll| {
        let mut sizes = Vec::new();
        for index in 0..roll.head().head().size.0 {
            let leaf = roll.leaf(LeafIndex(index)).await.unwrap().unwrap();
            let event = AuditEvent::parse(&leaf.bytes).unwrap();
            if event.event_type == "ledger.heads" {
                sizes.push(EnrolledHeads::parse(event.payload).unwrap().size);
            }
        }
        sizes
    };
    fill(&roll, 0).await;
    let first = roll.head().head().size;
    enrolled_is_right(&roll, &heads).await;
    fill(&roll, 100).await;
    let second = roll.head().head().size;
    let index = enrolled_is_right(&roll, &heads).await;
    let mut expected = vec![first, second];
    assert_eq!(heads.derive_again(second).await.unwrap(), HeadsOutcome::Enrolled(index));
    assert_eq!(maps(&roll).await, expected);
    assert_eq!(heads.derive_again(first).await.unwrap(), HeadsOutcome::Behind);
    assert_eq!(heads.derive_again(TreeSize(first.0 + 3)).await.unwrap(), HeadsOutcome::Behind);
    drop((heads, roll));

    // The same of a process that finds no map that is whole.
    let (roll, _) = Roll::open(place.options()).unwrap();
    let heads = Heads::new(roll.clone());
    heads.follow(second).await.unwrap();
    assert_eq!(heads.enrol().await.unwrap(), HeadsOutcome::Enrolled(index));
    let (roll, heads) = as_after_a_restart(place.options(), roll, heads).await;
    assert_eq!(maps(&roll).await, expected);
    fill(&roll, 200).await;
    expected.push(roll.head().head().size);
    enrolled_is_right(&roll, &heads).await;
    assert_eq!(maps(&roll).await, expected);
}

/// A key's rows begin, end and go on wherever folding stopped; without one of them, or with rows as they were once
/// stored, one a use, a start derives all again.
#[tokio::test(flavor = "multi_thread")]
#[expect(clippy::disallowed_methods, reason = "damage need not be synced")]
async fn uses_of_a_key_are_found_across_rows_and_missing_rows_are_derived_again() {
    let place = Place::new();
    let roll = Roll::create(place.options()).unwrap();
    let heads = Heads::new(roll.clone());
    let used = EventDraft {
        event_type: "signer.rotated".parse().unwrap(),
        ..draft("signers", r#"{"signer_kid":"k-1"}"#)
    };
    for more in [1, 254, 1, 1, 255, 1, 300] {
        let batch = std::iter::repeat_with(|| (used.clone(), None)).take(more).collect();
        roll.enrol_events(batch).await.into_iter().for_each(|result| drop(result.unwrap()));
        heads.follow(roll.head().head().size).await.unwrap();
    }
    enrolled_is_right(&roll, &heads).await;
    let name: HeadName = "key:k-1".parse().unwrap();
    let all = heads.entries(name.clone(), 0, 1_000).await.unwrap();
    assert_eq!(all.len(), 813);
    for (skip, limit) in [(0, 256), (255, 1), (255, 2), (256, 256), (300, 500), (812, 9)] {
        let page = heads.entries(name.clone(), skip, limit).await.unwrap();
        let expected: Vec<_> = all.iter().skip(skip as usize).take(limit).cloned().collect();
        assert_eq!(page, expected, "{limit} after {skip}");
    }
    assert!(heads.entries(name.clone(), 813, 9).await.unwrap().is_empty());
    drop((heads, roll));

    let row = |number: u64| [b"key:k-1\0".as_slice(), &number.to_be_bytes()].concat();
    for missing in [Some(0), Some(768), None] {
        let path = place.ledger().join("db");
        let families = DB::list_cf(&Options::default(), &path).unwrap();
        let db = DB::open_cf(&Options::default(), &path, families).unwrap();
        let uses = db.cf_handle("key_uses").unwrap();
        match missing {
            Some(number) => db.delete_cf(&uses, row(number)).unwrap(),
            None => (0..).zip(&all).for_each(|(number, leaf)| {
                db.put_cf(&uses, row(number), leaf.index.0.to_be_bytes()).unwrap();
            }),
        }
        drop(db);
        let (roll, _) = Roll::open(place.options()).unwrap();
        let heads = Heads::new(roll.clone());
        heads.follow(roll.head().head().size).await.unwrap();
        assert_eq!(heads.entries(name.clone(), 0, 1_000).await.unwrap(), all);
        fill(&roll, 0).await;
        enrolled_is_right(&roll, &heads).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn beyond_the_bound_nothing_is_enrolled() {
    let place = Place::new();
    let mut options = place.options();
    options.limits.heads_names_max = 3;
    let roll = Roll::create(options).unwrap();
    let heads = Heads::new(roll.clone());
    fill(&roll, 0).await;
    heads.follow(roll.head().head().size).await.unwrap();
    assert!(matches!(heads.enrol().await.unwrap(), HeadsOutcome::TooMany(names) if names > 3));
}
