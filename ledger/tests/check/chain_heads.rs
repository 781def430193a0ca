//! Heads of streams and keys, and where keys were used: damage is found where it is, and derived again.

use chancery_ledger::{Enrolled, Heads, HeadsOutcome};

use super::*;

async fn sign(roll: &Roll, request_id: &str) {
    let Enrolled::New(durable) = roll.enrol_intent(intent(request_id, None)).await.unwrap() else { panic!() };
    roll.enrol_outcome(signed(durable.into_intent(), 1)).await.unwrap();
}

impl World {
    /// With uses of a key, heads that were enrolled twice, and entries after that.
    async fn with_heads() -> Self {
        let world = Self::new().await;
        let (roll, _) = Roll::open(world.place.options()).unwrap();
        let heads = Heads::new(roll.clone());
        for round in 0..2 {
            for number in 0..5 {
                sign(&roll, &format!("r-{round}-{number}")).await;
            }
            heads.follow(roll.head().head().size).await.unwrap();
            assert!(matches!(heads.enrol().await.unwrap(), HeadsOutcome::Enrolled(_)));
        }
        sign(&roll, "later").await;
        grow(&roll, 20).await;
        // As the daemon: uses are stored before their heads.
        heads.follow(roll.head().head().size).await.unwrap();
        drop(heads);
        roll.close().await;
        world
    }
}

fn use_key(name: &str, number: u64) -> Vec<u8> {
    [name.as_bytes(), &[0], &number.to_be_bytes()].concat()
}

/// Puts a row, or takes one away, behind everybody's back.
#[expect(clippy::disallowed_methods, reason = "damage need not be synced")]
fn put(place: &Place, family: &str, key: &[u8], value: Option<&[u8]>) {
    let db = open(place);
    let family = db.cf_handle(family).unwrap();
    match value {
        Some(value) => db.put_cf(&family, key, value).unwrap(),
        None => db.delete_cf(&family, key).unwrap(),
    }
}

const KEY: &str = "key:orders-v1";

#[tokio::test(flavor = "multi_thread")]
async fn heads_and_key_uses_are_derived_again_and_compared() {
    let world = World::with_heads().await;
    let report = world.check();
    assert_eq!((told(&report), report.verdict()), (vec![], Verdict::Clean));
    // Four streams, that of the orders, and their key.
    assert_eq!(report.counts.heads, 6);
    let head = [&1u64.to_be_bytes()[..], &[7; 32], &3u64.to_be_bytes()].concat();
    let far = 1_000_000u64.to_be_bytes();
    let beyond = [&9u64.to_be_bytes()[..], &[7; 32], &far].concat();
    // A head that somebody might have stored after the size that is marked: no chain ever had it.
    let newer = [&9u64.to_be_bytes()[..], &[7; 32], &655u64.to_be_bytes()].concat();
    let (first, other) = (use_key(KEY, 0), use_key(KEY, 99));
    type Row<'a> = (&'a str, &'a [u8], Option<&'a [u8]>, &'a str);
    let rows: [Row<'_>; 11] = [
        ("heads", b"stream:s/1", Some(&head), "heads-differ store stream:s/1 proven"),
        ("heads", b"stream:s/1", Some(&beyond), "heads-differ store stream:s/1 proven"),
        ("heads", b"stream:s/1", Some(&newer), "heads-differ store stream:s/1 proven"),
        ("heads", b"stream:s/1", Some(b"x"), "heads-differ store stream:s/1 proven"),
        ("heads", KEY.as_bytes(), None, "heads-differ store key:orders-v1 proven"),
        ("heads", b"stream:nobody", Some(&head), "heads-differ store stream:nobody proven"),
        ("heads", b"\xC3\xA9", Some(&head), "heads-differ store \u{e9} proven"),
        ("meta", b"heads", Some(&far), "heads-differ store  claimed"),
        ("key_uses", &first, None, "key-uses-differ store key:orders-v1 proven"),
        ("key_uses", &first, Some(&far), "key-uses-differ store key:orders-v1 proven"),
        ("key_uses", &other, Some(&[0; 8]), "key-uses-differ store  proven"),
    ];
    for (family, key, value, expected) in rows {
        let db = open(&world.place);
        let sound = db.get_cf(&db.cf_handle(family).unwrap(), key).unwrap();
        drop(db);
        put(&world.place, family, key, value);
        let found = world.finds();
        assert!(!found.is_empty() && found.iter().all(|found| found == expected), "{found:?}: {expected}");
        let report = world.check_with(true).unwrap();
        assert_eq!(
            (report.repaired, report.may_derive()),
            (0, family != "meta"),
            "a closed store is only read"
        );
        put(&world.place, family, key, sound.as_deref());
        assert_eq!(world.finds(), [""; 0]);
    }
    // What a crash leaves: some heads are newer than the size that is marked, or no size is.
    for mark in [Some(&300u64.to_be_bytes()[..]), None] {
        put(&world.place, "meta", b"heads", mark);
        assert_eq!(world.finds(), [""; 0]);
    }
}

/// Nothing follows from an entry that is not as it was signed: neither that heads differ, nor what they should be.
#[tokio::test(flavor = "multi_thread")]
async fn heads_are_not_judged_by_entries_that_are_wrong() {
    let world = World::with_heads().await;
    flip(&world.place, "entries", &300u64.to_be_bytes(), 40);
    assert_eq!(world.finds(), ["leaf-altered store 300 proven"]);
    let other = rows_of(&world.place, "entries", 301);
    put(&world.place, "entries", &300u64.to_be_bytes(), Some(&other));
    let report = world.check_with(false).unwrap();
    assert!(told(&report).iter().any(|found| found == "leaf-altered store 300 proven"), "{report:?}");
    assert!(!report.may_derive(), "{report:?}");
}

fn rows_of(place: &Place, family: &str, index: u64) -> Vec<u8> {
    let db = open(place);
    db.get_cf(&db.cf_handle(family).unwrap(), index.to_be_bytes()).unwrap().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_derived_again_is_what_it_was() {
    let world = World::with_heads().await;
    let stored = |world: &World| {
        let db = open(&world.place);
        ["heads", "key_uses"].map(|family| {
            let rows = db.iterator_cf(db.cf_handle(family).unwrap(), rocksdb::IteratorMode::Start);
            rows.map(Result::unwrap).collect::<Vec<_>>()
        })
    };
    // On somebody's word.
    let (roll, _) = Roll::open(world.place.options()).unwrap();
    let size = checkpoint(&roll).await;
    let heads = Heads::new(roll.clone());
    heads.follow(size).await.unwrap();
    assert!(matches!(heads.enrol().await.unwrap(), HeadsOutcome::Enrolled(_)));
    drop(heads);
    roll.close().await;
    let [sound, uses] = stored(&world);
    put(&world.place, "key_uses", &use_key(KEY, 0), None);
    put(&world.place, "key_uses", &use_key("key:nobody", 0), Some(&[0; 8]));
    let (roll, _) = Roll::open(world.place.options()).unwrap();
    let heads = Heads::new(roll.clone());
    let size = roll.latest_checkpoint().unwrap().size;
    assert!(matches!(heads.derive_again(size).await.unwrap(), HeadsOutcome::Enrolled(_)));
    drop(heads);
    roll.close().await;
    assert_eq!(stored(&world), [sound, uses], "of the same size it is enrolled already");
    assert_eq!(world.finds(), [""; 0]);

    // By a start that finds another root than the one enrolled, or no map: a damaged head is never enrolled.
    let other = [&7u64.to_be_bytes()[..], &[7; 32], &5u64.to_be_bytes()].concat();
    for damaged in [&other[..], &[1; 48], b"x"] {
        let sound = stored(&world);
        put(&world.place, "heads", b"stream:nobody", Some(damaged));
        flip(&world.place, "heads", b"stream:s/1", 20);
        let (roll, _) = Roll::open(world.place.options()).unwrap();
        let heads = Heads::new(roll.clone());
        assert_eq!(heads.proven(KEY.parse().unwrap()).await.unwrap(), None, "nothing is proven from it");
        heads.follow(roll.latest_checkpoint().unwrap().size).await.unwrap();
        assert!(matches!(heads.enrol().await.unwrap(), HeadsOutcome::Enrolled(_)));
        drop(heads);
        roll.close().await;
        assert_eq!(stored(&world), sound);
        assert_eq!(world.finds(), [""; 0]);
    }
}
