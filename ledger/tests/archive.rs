//! The shipper and its archive: complete epochs, outages, interruptions on either side of every put, and an
//! archive that is behind, equal, ahead, different or corrupt.

#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "a failed unwrap is the test's failure")]

mod support;

use std::sync::Arc;
use std::time::Duration;

use chancery_format::archive::ObjectName;
use chancery_format::tile::{TilePath, decode_bundle};
use chancery_format::{Hash, TreeHead, TreeSize, entry, merkle};
use chancery_ledger::{
    Archive, ArchiveError, DirectoryArchive, Lag, RegistrySnapshot, Roll, ShipError, Shipper, ShipperOptions,
};
use support::*;

async fn publish(roll: &Roll, version: u64) {
    let json = format!("{{\"version\":{version}}}").into_bytes();
    let sha256 = Hash::of(&[&json]);
    roll.record_registry(RegistrySnapshot { version, json, note: format!("note {version}\n") })
        .await
        .unwrap();
    roll.enrol_event(entry::registry_published(version, &sha256), None).await.unwrap();
}

fn start(roll: &Roll, archive: &Arc<FaultyArchive>) -> Result<Shipper, ShipError> {
    Shipper::start(roll.clone(), archive.clone(), ship_options())
}

/// Ships until everything under the newest checkpoint is there, and ends.
fn ship(roll: &Roll, archive: &Arc<FaultyArchive>) {
    let shipper = start(roll, archive).unwrap();
    let newest = roll.latest_checkpoint().unwrap().size;
    tokio::task::block_in_place(|| wait_until("shipped", || shipper.status().archived >= newest));
    assert!(!shipper.stop().stopped);
}

/// What an auditor does: every name is known, epochs are contiguous, every checkpoint's tree can be
/// recomputed from the bundles, every tile is what the leaves make, nothing is missing and nothing is extra.
fn check_archive(archive: &dyn Archive) -> TreeSize {
    let names: Vec<ObjectName> = archive
        .list_after("", None, usize::MAX)
        .unwrap()
        .iter()
        .map(|name| ObjectName::parse(name).unwrap_or_else(|| panic!("unknown name {name}")))
        .collect();
    let get = |name: &ObjectName| archive.get(&name.to_string()).unwrap();
    let epochs = names.iter().filter(|name| matches!(name, ObjectName::Checkpoint(_))).count() as u64;
    let heads: Vec<TreeHead> = (0..epochs)
        .map(|epoch| head_of_note(&String::from_utf8(get(&ObjectName::Checkpoint(epoch))).unwrap()))
        .collect();
    assert!(heads.windows(2).all(|pair| pair[0].size < pair[1].size), "sizes increase");
    let Some(last) = heads.last() else {
        assert!(names.is_empty(), "{names:?}");
        return TreeSize(0);
    };

    let mut leaves = Vec::new();
    for number in 0..last.size.0.div_ceil(256) {
        let width = u8::try_from(last.size.0 - number * 256).ok();
        let path = ObjectName::Tile(TilePath { level: None, index: number, width });
        leaves.extend(decode_bundle(&get(&path)).map(|leaf| leaf.unwrap().to_vec()));
    }
    let mut expected: Vec<ObjectName> = (0..epochs).map(ObjectName::Checkpoint).collect();
    for head in &heads {
        assert_eq!(tree_hash(&leaves[..head.size.0 as usize]), head.root);
        if let Some(tail) = TilePath::tail_entries(head.size.0) {
            expected.push(ObjectName::Tile(tail));
            let first = (tail.index * 256) as usize;
            let tail_leaves: Vec<_> = decode_bundle(&get(&ObjectName::Tile(tail)))
                .map(Result::unwrap)
                .map(<[u8]>::to_vec)
                .collect();
            assert_eq!(tail_leaves, leaves[first..head.size.0 as usize]);
        }
    }
    for number in 0..last.size.0 / 256 {
        expected.push(ObjectName::Tile(TilePath::entries(number)));
        expected.push(ObjectName::Tile(TilePath::tile(0, number)));
        let hashes: Vec<u8> = leaves[number as usize * 256..][..256]
            .iter()
            .flat_map(|leaf| merkle::leaf_hash(leaf).0)
            .collect();
        assert_eq!(get(&ObjectName::Tile(TilePath::tile(0, number))), hashes);
    }
    for leaf in &leaves {
        let event = chancery_format::AuditEvent::parse(leaf).unwrap();
        if event.event_type == "registry.published" {
            let version: serde_json::Value = serde_json::from_str(event.payload).unwrap();
            let (number, sha256) =
                (version["version"].as_u64().unwrap(), version["sha256"].as_str().unwrap());
            expected.extend([ObjectName::Registry(number), ObjectName::RegistrySignature(number)]);
            assert_eq!(Hash::of(&[&get(&ObjectName::Registry(number))]).to_hex(), sha256);
        }
    }
    let (mut names, mut expected) = (as_text(&names), as_text(&expected));
    names.sort();
    expected.sort();
    expected.dedup();
    assert_eq!(names, expected, "nothing missing, nothing extra");
    last.size
}

fn as_text(names: &[ObjectName]) -> Vec<String> {
    names.iter().map(ToString::to_string).collect()
}

fn head_of_note(note: &str) -> TreeHead {
    let verified = chancery_format::Checkpoint::verify(note, &origin(), &[checkpoint_verifier()]).unwrap();
    verified.head()
}

#[tokio::test(flavor = "multi_thread")]
async fn epochs_are_complete_at_every_kind_of_size() {
    let place = Place::new();
    let roll = Roll::create(place.options()).unwrap();
    let archive = Arc::new(DirectoryArchive::new(place.archive()));
    let shipper = Shipper::start(roll.clone(), archive.clone(), ship_options()).unwrap();
    let mut progress = shipper.subscribe();
    // Nothing under a checkpoint, a tail only, exactly full, over the edge, many tiles at once.
    assert_eq!(check_archive(&*archive), TreeSize(0));
    for (epochs, entries) in (1..).zip([0, 1, 253, 1, 254, 700, 0, 2]) {
        if entries == 254 || entries == 700 {
            publish(&roll, if entries == 254 { 1 } else { 2 }).await;
        }
        let size = grow(&roll, entries).await;
        shipper.ship_now();
        progress.wait_for(|status| status.archived >= size).await.unwrap();
        assert_eq!(check_archive(&*archive), size);
        assert!(progress.borrow().epochs <= epochs);
    }
    assert_eq!(shipper.lag(), Lag { entries: 0, age_ms: 0 });
    grow(&roll, 1).await;
    let last = shipper.stop();
    assert_eq!(last.archived, roll.head().head().size, "stopping ships what is left");
    assert_eq!(check_archive(&*archive), last.archived);

    // Equal: goes on.
    let shipper = Shipper::start(roll.clone(), archive.clone(), ship_options()).unwrap();
    assert_eq!((shipper.status().archived, shipper.status().epochs), (last.archived, last.epochs));
    grow(&roll, 5).await;
    let last = shipper.stop();
    assert_eq!(last.archived, roll.head().head().size);
    assert_eq!(check_archive(&*archive), last.archived);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_epoch_interrupted_on_either_side_of_any_put_is_finished_as_it_was_begun() {
    let whole = {
        let place = Place::new();
        let roll = Roll::create(place.options()).unwrap();
        publish(&roll, 1).await;
        grow(&roll, 600).await;
        let archive = Arc::new(FaultyArchive::default());
        ship(&roll, &archive);
        archive.puts.load(std::sync::atomic::Ordering::SeqCst) as u32
    };
    assert!(whole >= 8, "tiles, bundles, registry, tail, checkpoint: {whole}");
    for nth in 0..whole {
        for side in [Lose::Before, Lose::After] {
            let place = Place::new();
            let roll = Roll::create(place.options()).unwrap();
            publish(&roll, 1).await;
            let planned = grow(&roll, 600).await;
            let archive = Arc::new(FaultyArchive::default());
            archive.lose(nth, side);
            let shipper = Shipper::start(
                roll.clone(),
                archive.clone(),
                ShipperOptions {
                    backoff_first: Duration::from_secs(3600),
                    backoff_max: Duration::from_secs(3600),
                    ..ship_options()
                },
            )
            .unwrap();
            tokio::task::block_in_place(|| wait_until("the fault", || shipper.status().failures == 1));
            drop(shipper);
            // The process dies; more is enrolled before the archive is looked at again.
            drop(roll);
            let (roll, _) = Roll::open(place.options()).unwrap();
            let size = grow(&roll, 40).await;
            ship(&roll, &archive);
            assert_eq!(check_archive(&*archive), size, "put {nth} lost {side:?}");
            let first = String::from_utf8(archive.get("checkpoint/000000000000").unwrap()).unwrap();
            assert_eq!(head_of_note(&first).size, planned);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_outage_is_survived_and_caught_up_in_one_epoch() {
    let place = Place::new();
    let roll = Roll::create(place.options()).unwrap();
    grow(&roll, 10).await;
    let archive = Arc::new(FaultyArchive::default());
    let clock = Arc::new(TestClock::default());
    let options = ShipperOptions { clock: clock.clone(), ..ship_options() };
    let shipper = Shipper::start(roll.clone(), archive.clone(), options).unwrap();
    let mut progress = shipper.subscribe();
    progress.wait_for(|status| status.epochs == 1).await.unwrap();
    archive.set_down(true);
    grow(&roll, 300).await;
    progress.wait_for(|status| status.failures >= 3).await.unwrap();
    assert!(!shipper.status().stopped && shipper.status().failure.is_some());
    clock.advance(5_000);
    assert_eq!(shipper.lag(), Lag { entries: 300, age_ms: 5_000 });
    clock.advance(1_000);
    let size = grow(&roll, 20).await;
    assert_eq!(shipper.lag(), Lag { entries: 320, age_ms: 6_000 });
    archive.set_down(false);
    progress.wait_for(|status| status.archived == size).await.unwrap();
    assert_eq!((shipper.lag().entries, shipper.status().failures), (0, 0));
    assert!(shipper.status().epochs <= 3, "the interrupted epoch and one for all the rest");
    assert_eq!(check_archive(&*archive), size);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_archive_that_is_behind_is_shipped_again_byte_for_byte() {
    let place = Place::new();
    let roll = Roll::create(place.options()).unwrap();
    let archive = Arc::new(FaultyArchive::default());
    for entries in [100, 300, 7, 500] {
        grow(&roll, entries).await;
        ship(&roll, &archive);
    }
    let whole = archive.objects.lock().unwrap().clone();
    for keep in [0, 1, 3] {
        let behind = Arc::new(FaultyArchive::default());
        let lost =
            |name: &str| matches!(ObjectName::parse(name), Some(ObjectName::Checkpoint(e)) if e >= keep);
        let kept = whole.iter().filter(|(name, _)| keep > 0 && !lost(name));
        behind.objects.lock().unwrap().extend(kept.map(|(name, bytes)| (name.clone(), bytes.clone())));
        ship(&roll, &behind);
        assert_eq!(*behind.objects.lock().unwrap(), whole);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_archive_ahead_of_a_restored_disk_is_refused() {
    let place = Place::new();
    let roll = Roll::create(place.options()).unwrap();
    let archive = Arc::new(FaultyArchive::default());
    grow(&roll, 50).await;
    ship(&roll, &archive);
    let backup = tempfile::tempdir().unwrap();
    copy_dir(&place.ledger(), backup.path());
    let archived = grow(&roll, 50).await;
    ship(&roll, &archive);
    drop(roll);

    let (restored, _) = Roll::open(options(backup.path())).unwrap();
    let refused = start(&restored, &archive);
    assert!(
        matches!(refused, Err(ShipError::Ahead { archived: size, ours: TreeSize(51) }) if size == archived),
        "{refused:?}"
    );
    // It grows past the archive: now the same size has another root.
    grow(&restored, 50).await;
    let refused = start(&restored, &archive);
    assert!(matches!(refused, Err(ShipError::Different { epoch: 1 })), "{refused:?}");
    grow(&restored, 50).await;
    let refused = start(&restored, &archive).unwrap_err();
    assert!(matches!(refused, ShipError::Different { epoch: 1 }) && !refused.is_transient());
    assert_eq!(check_archive(&*archive), archived, "nothing was written");
}

#[tokio::test(flavor = "multi_thread")]
async fn two_daemons_on_cloned_disks_collide_instead_of_forking() {
    let place = Place::new();
    let roll = Roll::create(place.options()).unwrap();
    let archive = Arc::new(FaultyArchive::default());
    grow(&roll, 50).await;
    ship(&roll, &archive);
    let clone = tempfile::tempdir().unwrap();
    copy_dir(&place.ledger(), clone.path());
    let (clone, _) = Roll::open(options(clone.path())).unwrap();
    let theirs = start(&clone, &archive).unwrap();
    grow(&roll, 50).await;
    ship(&roll, &archive);
    clone.enrol_event(draft("s/0", "{\"of\":\"clone\"}"), None).await.unwrap();
    grow(&clone, 49).await;
    theirs.ship_now();
    tokio::task::block_in_place(|| wait_until("the second notices", || theirs.status().stopped));
    let failure = theirs.status().failure.unwrap();
    assert!(failure.contains("other content"), "{failure}");
    check_archive(&*archive);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_archive_of_ours_is_refused() {
    let place = Place::new();
    let roll = Roll::create(place.options()).unwrap();
    grow(&roll, 20).await;
    let put = |name: &str, bytes: &[u8]| {
        let archive = Arc::new(FaultyArchive::default());
        archive.put_new(name, bytes).unwrap();
        start(&roll, &archive).unwrap_err()
    };
    let ours = roll.latest_checkpoint().unwrap().note;
    let other = ours.replace(ORIGIN, "ledger.example/else");
    assert!(matches!(put("checkpoint/000000000000", b"noise"), ShipError::Different { epoch: 0 }));
    assert!(matches!(put("checkpoint/000000000000", other.as_bytes()), ShipError::Different { epoch: 0 }));
    // Our own checkpoint, but an epoch this disk never planned: somebody else ships.
    assert!(matches!(put("checkpoint/000000000000", ours.as_bytes()), ShipError::Different { epoch: 0 }));
    assert!(matches!(put("checkpoint/000000000001", ours.as_bytes()), ShipError::Gap { .. }));
    let down = Arc::new(FaultyArchive::default());
    down.set_down(true);
    assert!(start(&roll, &down).unwrap_err().is_transient());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_object_read_back_wrong_stops_the_shipper() {
    for name in ["tile/0/000", "tile/entries/000", "tile/entries/001.p/46", "checkpoint/000000000000"] {
        let place = Place::new();
        let roll = Roll::create(place.options()).unwrap();
        assert_eq!(grow(&roll, 301).await, TreeSize(302));
        let archive = Arc::new(FaultyArchive::default());
        *archive.corrupt_reads_of.lock().unwrap() = Some(name.into());
        let shipper = start(&roll, &archive).unwrap();
        tokio::task::block_in_place(|| wait_until("it stops", || shipper.status().stopped));
        let status = shipper.status();
        assert!(status.failure.unwrap().contains(name), "{name}");
        assert_eq!((status.archived, shipper.lag().entries), (TreeSize(0), 302));
        roll.enrol_event(numbered("s", 0), None).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_archive_conflicts_instead_of_being_repaired() {
    let place = Place::new();
    let roll = Roll::create(place.options()).unwrap();
    grow(&roll, 300).await;
    let dir = place.archive();
    let damaged = dir.join("tile/entries");
    std::fs::create_dir_all(&damaged).unwrap();
    std::fs::write(damaged.join("000"), b"something else").unwrap();
    let archive = Arc::new(DirectoryArchive::new(&dir));
    let shipper = Shipper::start(roll.clone(), archive.clone(), ship_options()).unwrap();
    tokio::task::block_in_place(|| wait_until("it stops", || shipper.status().stopped));
    let conflict = ArchiveError::Conflict("tile/entries/000".into());
    assert_eq!(shipper.status().failure, Some(conflict.to_string()));
    assert!(archive.get("checkpoint/000000000000").is_err());
}
