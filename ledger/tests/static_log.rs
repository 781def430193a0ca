//! An archive that is a static log: what its newest checkpoint covers is there, whatever is lost on the way; it never
//! goes back; what stands beside an epoch never costs the epoch. And cosigned checkpoints beside epochs.

#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "a failed unwrap is the test's failure")]

mod support;

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use chancery_format::archive::ObjectName;
use chancery_format::registry::{LedgerSection, SignersRegistry};
use chancery_format::tile::{TilePath, decode_bundle, perfect_root};
use chancery_format::{Checkpoint, TreeHead, TreeSize, merkle};
use chancery_ledger::check::CheckReport;
use chancery_ledger::{Archive, CheckOptions, CheckProgress, Roll, Shipper, ShipperOptions, check_closed};
use support::*;

fn static_log() -> ShipperOptions {
    ShipperOptions { static_log: true, ..ship_options() }
}

/// Ships until everything under the newest checkpoint is there and shown, and ends.
fn ship(roll: &Roll, archive: &Arc<FaultyArchive>) {
    let shipper = Shipper::start(roll.clone(), archive.clone(), static_log()).unwrap();
    let newest = roll.latest_checkpoint().unwrap();
    let is_shown = || shown(archive).is_some_and(|head| head.size >= newest.size);
    tokio::task::block_in_place(|| wait_until("shipped and shown", is_shown));
    let status = shipper.stop();
    assert_eq!((status.archived, status.failure, status.stopped), (newest.size, None, false));
}

fn head_of(note: &[u8]) -> TreeHead {
    let note = std::str::from_utf8(note).unwrap();
    Checkpoint::verify(note, &origin(), &[checkpoint_verifier()]).unwrap().head()
}

fn shown(archive: &FaultyArchive) -> Option<TreeHead> {
    archive.get("checkpoint").ok().map(|note| head_of(&note))
}

/// What a tlog-tiles client needs of what is shown: each partial tile of its size, with the hashes that the bundles
/// give; and that it is an epoch's, byte for byte. The size.
fn check_log(archive: &FaultyArchive) -> u64 {
    let Some(head) = shown(archive) else { return 0 };
    let size = head.size.0;
    let note = archive.get("checkpoint").unwrap();
    let names = archive.names();
    let epochs = names.iter().filter(|name| name.starts_with("checkpoint/"));
    assert!(epochs.into_iter().any(|name| archive.get(name).unwrap() == note), "of an epoch");
    let mut level: Vec<_> = (0..size.div_ceil(256))
        .flat_map(|number| {
            let width = u8::try_from(size - number * 256).ok();
            let path = TilePath { level: None, index: number, width }.to_string();
            let bundle = archive.get(&path).unwrap();
            decode_bundle(&bundle).map(|leaf| merkle::leaf_hash(leaf.unwrap())).collect::<Vec<_>>()
        })
        .collect();
    for number in 0..8 {
        let edge = level.chunks(256).last().filter(|edge| edge.len() < 256);
        if let Some(edge) = edge {
            let path = TilePath::partial_tile(number, size).unwrap().to_string();
            let expected: Vec<u8> = edge.iter().flat_map(|hash| hash.0).collect();
            assert_eq!(archive.get(&path).unwrap(), expected, "{path}");
        }
        level = level.chunks_exact(256).map(|tile| perfect_root(tile).unwrap()).collect();
    }
    size
}

#[tokio::test(flavor = "multi_thread")]
async fn every_epoch_is_shown_with_its_edge() {
    let place = Place::new();
    let roll = Roll::create(place.options()).unwrap();
    let archive = Arc::new(FaultyArchive::default());
    let mut partials = 0;
    // A tail only, exactly full, over the edge, many tiles at once.
    for entries in [10, 245, 1, 44, 700] {
        let size = grow(&roll, entries).await;
        ship(&roll, &archive);
        assert_eq!(check_log(&archive), size.0);
        let names = archive.names();
        let now = names.iter().filter(|name| name.contains(".p/") && !name.contains("entries")).count();
        assert!(now > partials, "older ones stay");
        partials = now;
    }
    // A restart shows nothing anew.
    let puts = archive.puts.load(Ordering::SeqCst);
    ship(&roll, &archive);
    assert_eq!(archive.puts.load(Ordering::SeqCst), puts);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_archive_becomes_a_log_with_the_epoch_it_has() {
    let place = Place::new();
    let roll = Roll::create(place.options()).unwrap();
    let archive = Arc::new(FaultyArchive::default());
    let size = grow(&roll, 300).await;
    let shipper = Shipper::start(roll.clone(), archive.clone(), ship_options()).unwrap();
    tokio::task::block_in_place(|| wait_until("shipped", || shipper.status().archived >= size));
    drop(shipper);
    assert!(shown(&archive).is_none() && !archive.names().iter().any(|name| name.starts_with("tile/1")));
    ship(&roll, &archive);
    assert_eq!(check_log(&archive), size.0);
}

/// The crash table: each put lost before and after it was made, and the daemon ended there.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_shown_is_whole_after_every_interruption() {
    for side in [Lose::Before, Lose::After] {
        for nth in 0..16 {
            let place = Place::new();
            let roll = Roll::create(place.options()).unwrap();
            let archive = Arc::new(FaultyArchive::default());
            let first = grow(&roll, 20).await;
            ship(&roll, &archive);
            let second = grow(&roll, 300).await;
            archive.lose(nth, side);
            let patient = ShipperOptions {
                epoch_interval: Duration::from_secs(60),
                backoff_first: Duration::from_secs(60),
                backoff_max: Duration::from_secs(60),
                ..static_log()
            };
            let shipper = Shipper::start(roll.clone(), archive.clone(), patient).unwrap();
            let settled = || shipper.status().failures > 0 || shown(&archive).unwrap().size == second;
            tokio::task::block_in_place(|| wait_until("an end", settled));
            drop(shipper);
            let size = check_log(&archive);
            assert!(size == first.0 || size == second.0, "{nth} {side:?}: {size}");
            ship(&roll, &archive);
            assert_eq!(check_log(&archive), second.0, "{nth} {side:?}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn it_never_goes_back_and_costs_no_epoch() {
    let place = Place::new();
    let roll = Roll::create(place.options()).unwrap();
    let archive = Arc::new(FaultyArchive::default());
    grow(&roll, 20).await;
    ship(&roll, &archive);
    // Somebody shows more than there is.
    let more = TreeHead { size: TreeSize(1_000), root: merkle::leaf_hash(b"x") };
    let forged = checkpoint_of(more).note().to_owned().into_bytes();
    archive.objects.lock().unwrap().insert("checkpoint".into(), forged.clone());
    let size = grow(&roll, 20).await;
    let shipper = Shipper::start(roll.clone(), archive.clone(), static_log()).unwrap();
    tokio::task::block_in_place(|| wait_until("told", || shipper.status().failures > 1));
    let status = shipper.status();
    assert_eq!((status.archived, status.stopped), (size, false), "the epoch is there");
    assert!(status.failure.unwrap().contains("1000 entries"), "it says what is shown");
    assert_eq!(archive.get("checkpoint").unwrap(), forged, "and nothing was put over it");
    // That is gone, and now the archive refuses to replace it: epochs go on, and it is caught up with.
    archive.objects.lock().unwrap().remove("checkpoint");
    archive.refuses_latest.store(true, Ordering::SeqCst);
    let size = grow(&roll, 20).await;
    shipper.ship_now();
    let refused = || {
        let status = shipper.status();
        status.archived == size && status.failure.is_some_and(|failure| failure.contains("injected refusal"))
    };
    tokio::task::block_in_place(|| wait_until("archived and told", refused));
    assert_eq!(shipper.lag().entries, 0);
    archive.refuses_latest.store(false, Ordering::SeqCst);
    tokio::task::block_in_place(|| wait_until("shown", || shipper.status().failure.is_none()));
    assert_eq!(check_log(&archive), size.0);
}

fn check(place: &Place, archive: &FaultyArchive, repair: bool) -> CheckReport {
    let ledger = LedgerSection { origin: origin(), vkeys: vec![checkpoint_verifier().vkey()], policy: None };
    let keys = SignersRegistry::new(ledger, Vec::new()).unwrap().ledger_keys().unwrap();
    let progress = CheckProgress::default();
    let archive = Some(archive as &dyn Archive);
    let options =
        CheckOptions { keys: &keys, archive, epochs: None, static_log: true, repair, progress: &progress };
    check_closed(&place.ledger(), &origin(), &limits(), &options).unwrap()
}

/// What is found, each as `kind side object proven`.
fn told(report: &CheckReport) -> Vec<String> {
    let mut told: Vec<String> = report
        .findings
        .iter()
        .map(|it| {
            let object = it.object.as_deref().unwrap_or("-");
            let proven = if it.proven { " proven" } else { "" };
            format!("{} {} {object}{proven}", it.kind.as_str(), it.side.as_str())
        })
        .collect();
    told.sort();
    told
}

#[tokio::test(flavor = "multi_thread")]
async fn the_check_knows_what_is_shown_and_repairs_what_is_proven() {
    let place = Place::new();
    let roll = Roll::create(place.options()).unwrap();
    let archive = Arc::new(FaultyArchive::default());
    for entries in [100, 500] {
        grow(&roll, entries).await;
        ship(&roll, &archive);
    }
    let older = archive.get("checkpoint/000000000000").unwrap();
    roll.close().await;
    assert_eq!(told(&check(&place, &archive, false)), [""; 0]);
    let whole = archive.objects.lock().unwrap().clone();
    let last = whole.keys().rfind(|name| name.starts_with("tile/0/002.p/")).unwrap().clone();
    let change = |name: &str, bytes: Option<Vec<u8>>| {
        let mut objects = archive.objects.lock().unwrap();
        match bytes {
            Some(bytes) => drop(objects.insert(name.into(), bytes)),
            None => drop(objects.remove(name)),
        }
    };
    let mut flipped = whole["tile/1/000.p/2"].clone();
    flipped[40] ^= 1;
    let newest = whole["checkpoint"].clone();
    let other = checkpoint_of(TreeHead { root: merkle::leaf_hash(b"x"), ..head_of(&newest) });
    let beyond = checkpoint_of(TreeHead { size: TreeSize(9_999), root: merkle::leaf_hash(b"x") });
    let note =
        |verified: &chancery_format::checkpoint::VerifiedCheckpoint| verified.note().as_bytes().to_vec();
    for (name, bytes, expected, is_repaired) in [
        ("tile/1/000.p/2", None, "object-missing archive tile/1/000.p/2 proven", true),
        (&last, None, &*format!("object-missing archive {last} proven"), true),
        ("tile/1/000.p/2", Some(flipped), "object-altered archive tile/1/000.p/2 proven", false),
        ("tile/1/000.p/1", Some(vec![7; 32]), "object-foreign archive tile/1/000.p/1", false),
        ("checkpoint", None, "object-missing archive checkpoint proven", true),
        ("checkpoint", Some(older), "object-altered archive checkpoint proven", true),
        ("checkpoint", Some(b"noise".to_vec()), "checkpoint-invalid archive checkpoint proven", false),
        ("checkpoint", Some(note(&other)), "fork unknown checkpoint proven", false),
        ("checkpoint", Some(note(&beyond)), "object-beyond store checkpoint proven", false),
    ] {
        change(name, bytes);
        assert_eq!(told(&check(&place, &archive, false)), [expected], "{name}");
        let before = archive.objects.lock().unwrap().clone();
        let report = check(&place, &archive, true);
        assert_eq!(report.repaired, u64::from(is_repaired), "{name} {:?}", told(&report));
        let after = archive.objects.lock().unwrap().clone();
        assert_eq!(after, if is_repaired { whole.clone() } else { before }, "{name}");
        *archive.objects.lock().unwrap() = whole.clone();
    }
    // What is missing under it is shipped again before it is shown again, in one go.
    change("tile/1/000.p/2", None);
    change("checkpoint", None);
    let report = check(&place, &archive, true);
    assert_eq!((report.repaired, report.wrong), (2, 0), "{:?}", told(&report));
    assert_eq!(*archive.objects.lock().unwrap(), whole);
}

/// Records the newest checkpoint with a line by somebody else; the daemon's policy decided that it is enough.
async fn cosign(roll: &Roll) -> TreeSize {
    let newest = roll.latest_checkpoint().unwrap();
    let line = format!("\u{2014} witness.example/w1 {}\n", "A".repeat(100));
    let note = format!("{}{line}", newest.note);
    let cosigned = Checkpoint::verify(&note, &origin(), &[checkpoint_verifier()]).unwrap();
    roll.record_witnessed(cosigned).await.unwrap();
    newest.size
}

fn witnessed(archive: &FaultyArchive) -> Vec<(u64, u64)> {
    let names = archive.names();
    let epochs = names.iter().filter_map(|name| match ObjectName::parse(name) {
        Some(ObjectName::Witnessed(epoch)) => Some((epoch, name)),
        _ => None,
    });
    epochs.map(|(epoch, name)| (epoch, head_of(&archive.get(name).unwrap()).size.0)).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn cosigned_checkpoints_stand_beside_epochs_and_grow() {
    let place = Place::new();
    let roll = Roll::create(place.options()).unwrap();
    let archive = Arc::new(FaultyArchive::default());
    let start = || Shipper::start(roll.clone(), archive.clone(), static_log()).unwrap();
    grow(&roll, 20).await;
    ship(&roll, &archive);
    assert_eq!(witnessed(&archive), [], "nothing was cosigned");
    // The last epoch's own checkpoint is cosigned after it was archived: there need be no next epoch.
    let first = cosign(&roll).await;
    let shipper = start();
    let there = || witnessed(&archive) == [(0, first.0)];
    tokio::task::block_in_place(|| wait_until("the first", there));
    let lines = String::from_utf8(archive.get("witnessed/000000000000").unwrap()).unwrap();
    assert!(lines.contains("\n\u{2014} witness.example/w1 "), "{lines}");
    // It is shown with the lines as well.
    tokio::task::block_in_place(|| {
        wait_until("shown", || archive.get("checkpoint").unwrap() == lines.as_bytes());
    });
    // Between epochs one is cosigned, and then there is more: it comes beside the epoch that covers it.
    archive.set_down(true);
    grow(&roll, 20).await;
    let between = cosign(&roll).await;
    let second = grow(&roll, 20).await;
    archive.set_down(false);
    tokio::task::block_in_place(|| wait_until("shipped", || shipper.status().archived == second));
    let epochs = shipper.status().epochs;
    assert!(!shipper.stop().stopped);
    let told = witnessed(&archive);
    assert_eq!(told.last().map(|(_, size)| *size), Some(between.0), "with its end at the latest");
    // A new daemon looks up what is there, and writes none that is not larger.
    ship(&roll, &archive);
    let third = grow(&roll, 1).await;
    ship(&roll, &archive);
    assert_eq!(witnessed(&archive), told);
    assert_eq!(cosign(&roll).await, third);
    ship(&roll, &archive);
    let shipper = start();
    let there = || witnessed(&archive).last() == Some(&(epochs, third.0));
    tokio::task::block_in_place(|| wait_until("the third", there));
    drop(shipper);
    roll.close().await;
    assert_eq!(told_of(&place, &archive), [""; 0]);
    // The check reads them.
    let alien = checkpoint_of(TreeHead { size: third, root: merkle::leaf_hash(b"x") });
    let bytes = alien.note().as_bytes().to_vec();
    archive.objects.lock().unwrap().insert("witnessed/000000000000".into(), bytes);
    let expected = "checkpoint-invalid archive witnessed/000000000000 proven";
    assert_eq!(told_of(&place, &archive), [expected], "larger than its epoch");
    let name = format!("witnessed/{epochs:012}");
    let old = archive.objects.lock().unwrap().remove("witnessed/000000000000").unwrap();
    archive.objects.lock().unwrap().insert(name.clone(), old);
    assert_eq!(told_of(&place, &archive), [format!("fork unknown {name} proven")]);
}

fn told_of(place: &Place, archive: &FaultyArchive) -> Vec<String> {
    told(&check(place, archive, false))
}
