//! Heads of streams and keys: what is enrolled is what an independent count of the same leaves gives, through restarts
//! and crashes between any two steps, and each proof leads to it.

#![expect(clippy::unwrap_used, reason = "a failed unwrap is the test's failure")]

mod support;

use std::collections::BTreeMap;

use chancery_format::heads::{EnrolledHeads, Head, HeadName};
use chancery_format::merkle::{Frontier, leaf_hash};
use chancery_format::{AuditEvent, LeafIndex, TreeSize};
use chancery_ledger::{Enrolled, Heads, HeadsOutcome, Roll};
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
            found.extend(page.iter().map(|leaf| leaf.index.0).filter(|index| *index < size.0));
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
