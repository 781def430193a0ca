//! The check of store and archive against each other: clean ledgers, one flipped bit in each place where bytes are
//! kept, objects that are gone, and what is never repaired.

#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "a failed unwrap is the test's failure")]

#[path = "check/chain_heads.rs"]
mod chain_heads;
mod support;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use chancery_format::archive::registry_note_text;
use chancery_format::ledger_keys::LedgerKeys;
use chancery_format::note::assemble;
use chancery_format::registry::{LedgerSection, SignersRegistry};
use chancery_format::{Hash, TreeHead, TreeSize, entry};
use chancery_ledger::check::{CheckReport, Kind, Side, Verdict};
use chancery_ledger::{
    CheckError, CheckOptions, CheckProgress, DirectoryArchive, RegistrySnapshot, Roll, Shipper,
    ShipperOptions, SyncMode, check_closed,
};
use ed25519_dalek::{Signer as _, SigningKey};
use rocksdb::{DB, Options};
use support::*;

/// A ledger with 600 and some entries in several streams, archived in three epochs, then closed.
struct World {
    place: Place,
    archive: DirectoryArchive,
}

const PUBLISHED: &[u8] = b"{\"version\":1}";

async fn publish(roll: &Roll) {
    let sha256 = Hash::of(&[PUBLISHED]);
    let text = registry_note_text(&origin(), 1, &sha256);
    let signer = SigningKey::from_bytes(&[0x24; 32]);
    let note = assemble(&text, &checkpoint_verifier(), &signer.sign(text.as_bytes()).to_bytes()).unwrap();
    let snapshot = RegistrySnapshot { version: 1, json: PUBLISHED.to_vec(), note };
    roll.record_registry(snapshot).await.unwrap();
    roll.enrol_event(entry::registry_published(1, &sha256), None).await.unwrap();
}

fn ship(roll: &Roll, archive: &DirectoryArchive) {
    let options = ShipperOptions {
        epoch_interval: Duration::from_millis(5),
        ..ShipperOptions::new(Arc::new(TestClock::default()), 7)
    };
    let shipper = Shipper::start(roll.clone(), Arc::new(archive.clone()), options).unwrap();
    let newest = roll.latest_checkpoint().unwrap().size;
    tokio::task::block_in_place(|| wait_until("shipped", || shipper.status().archived >= newest));
    assert!(!shipper.stop().stopped);
}

impl World {
    async fn new() -> Self {
        Self::with(600).await
    }

    async fn with(entries: u64) -> Self {
        let place = Place::new();
        let archive = DirectoryArchive::new(place.archive());
        let mut options = place.options();
        options.sync = SyncMode::OffForBenchmark;
        let roll = Roll::create(options).unwrap();
        publish(&roll).await;
        roll.enrol_event(with_id("s/0", "named-by-its-author"), None).await.unwrap();
        for part in [10, entries, 20] {
            grow(&roll, part).await;
            ship(&roll, &archive);
        }
        grow(&roll, 5).await;
        roll.close().await;
        Self { place, archive }
    }

    fn keys() -> LedgerKeys {
        let ledger =
            LedgerSection { origin: origin(), vkeys: vec![checkpoint_verifier().vkey()], policy: None };
        SignersRegistry::new(ledger, Vec::new()).unwrap().ledger_keys().unwrap()
    }

    fn check_with(&self, repair: bool) -> Result<CheckReport, CheckError> {
        let (keys, progress) = (Self::keys(), CheckProgress::default());
        let archive = Some(&self.archive as &dyn chancery_ledger::Archive);
        let options = CheckOptions {
            keys: &keys,
            archive,
            epochs: None,
            static_log: false,
            repair,
            progress: &progress,
        };
        check_closed(&self.place.ledger(), &origin(), &limits(), &options)
    }

    fn check(&self) -> CheckReport {
        let before = (self.objects(), rows(&self.place));
        let report = self.check_with(false).unwrap();
        assert_eq!((self.objects(), rows(&self.place)), before, "a check writes nothing");
        report
    }

    /// What is found, each as `kind side place proven`.
    fn finds(&self) -> Vec<String> {
        told(&self.check())
    }

    fn objects(&self) -> BTreeMap<String, Vec<u8>> {
        let mut objects = BTreeMap::new();
        let mut folders = vec![self.place.archive()];
        while let Some(folder) = folders.pop() {
            for entry in std::fs::read_dir(folder).unwrap() {
                let path = entry.unwrap().path();
                match path.is_dir() {
                    true => folders.push(path),
                    false => {
                        let name =
                            path.strip_prefix(self.place.archive()).unwrap().to_str().unwrap().to_owned();
                        drop(objects.insert(name, std::fs::read(&path).unwrap()));
                    }
                }
            }
        }
        objects
    }

    fn object(&self, name: &str) -> std::path::PathBuf {
        self.place.archive().join(name)
    }

    fn replace(&self, name: &str, bytes: &[u8]) {
        drop(std::fs::remove_file(self.object(name)));
        std::fs::create_dir_all(self.object(name).parent().unwrap()).unwrap();
        std::fs::write(self.object(name), bytes).unwrap();
    }

    fn flip_object(&self, name: &str, byte: usize) {
        let mut bytes = std::fs::read(self.object(name)).unwrap();
        bytes[byte] ^= 1;
        self.replace(name, &bytes);
    }

    fn remove(&self, name: &str) {
        std::fs::remove_file(self.object(name)).unwrap();
    }
}

fn told(report: &CheckReport) -> Vec<String> {
    let text = |finding: &chancery_ledger::check::Finding| {
        let place =
            finding.object.clone().or(finding.index.map(|index| index.to_string())).unwrap_or_default();
        let proven = if finding.proven { "proven" } else { "claimed" };
        format!("{} {} {place} {proven}", finding.kind.as_str(), finding.side.as_str())
    };
    report.findings.iter().map(text).collect()
}

fn open(place: &Place) -> DB {
    let path = place.ledger().join("db");
    let families = DB::list_cf(&Options::default(), &path).unwrap();
    DB::open_cf(&Options::default(), &path, families).unwrap()
}

/// Every row of the database, so that nothing can change unseen.
fn rows(place: &Place) -> Hash {
    let path = place.ledger().join("db");
    let families = DB::list_cf(&Options::default(), &path).unwrap();
    let mut options = Options::default();
    // As the ledger has it: without, RocksDB 11 falls over when it opens such a database read-only.
    options.set_track_and_verify_wals_in_manifest(true);
    let db = DB::open_cf_for_read_only(&options, &path, &families, false).unwrap();
    let mut all = Vec::new();
    for name in &families {
        for row in db.iterator_cf(db.cf_handle(name).unwrap(), rocksdb::IteratorMode::Start) {
            let (key, value) = row.unwrap();
            all.extend_from_slice(&Hash::of(&[name.as_bytes(), &key, &value]).0);
        }
    }
    Hash::of(&[&all])
}

/// Changes a stored value behind everybody's back. The ledger is closed meanwhile.
#[expect(clippy::disallowed_methods, reason = "damage need not be synced")]
fn change(place: &Place, family: &str, key: &[u8], how: impl FnOnce(&mut Vec<u8>)) {
    let db = open(place);
    let family = db.cf_handle(family).unwrap();
    let mut value = db.get_cf(&family, key).unwrap().unwrap();
    how(&mut value);
    db.put_cf(&family, key, value).unwrap();
}

fn flip(place: &Place, family: &str, key: &[u8], byte: usize) {
    change(place, family, key, |value| value[byte] ^= 4);
}

fn tile_key(level: u8, number: u64) -> Vec<u8> {
    [&[level][..], &number.to_be_bytes()].concat()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sound_ledger_is_clean_closed_and_in_use() {
    let world = World::new().await;
    let report = world.check();
    assert_eq!(told(&report), [""; 0]);
    assert_eq!(report.verdict(), Verdict::Clean);
    assert_eq!((report.proven, report.head.size), (report.head.size, TreeSize(638)));
    let counts = report.counts;
    assert_eq!((counts.entries, counts.tiles, counts.checkpoints, counts.streams), (638, 2, 4, 4));
    // Two tiles, two bundles, three tails, three checkpoints, a registry version and its note.
    assert_eq!(counts.objects, 12);

    let (roll, _) = Roll::open(world.place.options()).unwrap();
    assert!(matches!(world.check_with(false), Err(CheckError::Open(_))), "it is in use");
    let (keys, progress) = (World::keys(), CheckProgress::default());
    let archive = Some(&world.archive as &dyn chancery_ledger::Archive);
    let options = CheckOptions {
        keys: &keys,
        archive,
        epochs: Some(3),
        static_log: false,
        repair: false,
        progress: &progress,
    };
    let writer = roll.clone();
    let writing = tokio::spawn(async move {
        for _ in 0..20 {
            grow(&writer, 50).await;
        }
    });
    for _ in 0..5 {
        let report = tokio::task::block_in_place(|| roll.check_blocking(&options)).unwrap();
        assert_eq!(told(&report), [""; 0], "the writer writes meanwhile");
    }
    writing.await.unwrap();
    progress.cancel();
    let ended = tokio::task::block_in_place(|| roll.check_blocking(&options));
    assert!(matches!(ended, Err(CheckError::Cancelled)));
}

#[tokio::test(flavor = "multi_thread")]
async fn tiles_above_the_lowest_are_recomputed_too() {
    let world = World::with(66_000).await;
    assert_eq!(world.finds(), [""; 0]);
    flip(&world.place, "tiles", &tile_key(1, 0), 77);
    assert_eq!(world.finds(), ["tile-altered store tile/1/000 proven"]);
    world.flip_object("tile/1/000", 77);
    let both = ["tile-altered store tile/1/000 proven", "object-altered archive tile/1/000 proven"];
    assert_eq!(world.finds(), both);
    world.remove("tile/1/000");
    let report = world.check_with(true).unwrap();
    assert_eq!(report.repaired_names, ["tile/1/000"], "its content follows from the leaves");
    assert_eq!(world.finds(), ["tile-altered store tile/1/000 proven"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flipped_bit_in_the_store_is_found_where_it_is() {
    for (family, key, byte, expected) in [
        ("entries", 300u64.to_be_bytes().to_vec(), 40, vec!["leaf-altered store 300 proven"]),
        // In the tile that is not full: the archived tail is the other copy.
        ("entries", 520u64.to_be_bytes().to_vec(), 40, vec!["leaf-altered store 520 proven"]),
        ("tiles", tile_key(0, 1), 40, vec!["tile-altered store tile/0/001 proven"]),
        // Text of the note, and so no longer what was signed.
        ("checkpoints", 633u64.to_be_bytes().to_vec(), 25, vec!["checkpoint-invalid store  proven"]),
        ("streams", b"s/1".to_vec(), 20, vec!["stream-head store  claimed"]),
        ("registry", 1u64.to_be_bytes().to_vec(), 6, vec!["registry-invalid store 1 proven"]),
    ] {
        let world = World::new().await;
        flip(&world.place, family, &key, byte);
        assert_eq!(world.finds(), expected, "{family}");
        let report = world.check_with(true).unwrap();
        assert_eq!(
            (report.verdict(), report.repaired),
            (Verdict::Findings, 0),
            "the store is never repaired"
        );
        assert_eq!(world.finds(), expected, "{family}");
    }
}

/// Nothing else has the last leaves: the signed root says that something is wrong, the leaf's own hash which.
#[tokio::test(flavor = "multi_thread")]
async fn a_leaf_with_no_other_copy_contradicts_what_was_signed() {
    let world = World::new().await;
    flip(&world.place, "entries", &636u64.to_be_bytes(), 40);
    let found = world.finds();
    assert_eq!(
        found,
        [
            "leaf-altered store 636 claimed",
            "high-water store  claimed",
            "head-disagrees store  claimed",
            "root-mismatch unknown  proven",
        ]
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flipped_bit_in_the_archive_is_found_and_never_overwritten() {
    for (name, byte, expected) in [
        ("tile/entries/001", 40, "object-altered archive tile/entries/001 proven"),
        ("tile/0/000", 40, "object-altered archive tile/0/000 proven"),
        ("tile/entries/002.p/101", 40, "object-altered archive tile/entries/002.p/101 proven"),
        ("checkpoint/000000000001", 25, "checkpoint-invalid archive checkpoint/000000000001 proven"),
        ("registry/00000001.json", 3, "object-altered archive registry/00000001.json proven"),
        ("registry/00000001.json.sig", 3, "object-altered archive registry/00000001.json.sig proven"),
    ] {
        let world = World::new().await;
        world.flip_object(name, byte);
        assert_eq!(world.finds(), [expected]);
        let before = world.objects();
        let report = world.check_with(true).unwrap();
        assert_eq!((report.verdict(), report.repaired), (Verdict::Findings, 0));
        assert_eq!(world.objects(), before, "what is there is never written over");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_gone_is_shipped_again_byte_for_byte_and_only_when_told() {
    let world = World::new().await;
    let whole = world.objects();
    for name in whole.keys() {
        world.remove(name);
        // The checkpoint of the last epoch: nobody can tell a closed daemon's unfinished epoch from it.
        if name == "checkpoint/000000000002" {
            assert_eq!(world.finds(), [""; 0]);
            world.replace(name, &whole[name]);
            continue;
        }
        assert_eq!(world.finds(), [format!("object-missing archive {name} proven")]);
        let report = world.check_with(true).unwrap();
        assert_eq!((report.verdict(), &report.repaired_names), (Verdict::Clean, &vec![name.clone()]));
        assert_eq!(world.objects(), whole);
        assert_eq!(world.finds(), [""; 0]);
    }
    for name in whole.keys().filter(|name| *name != "checkpoint/000000000002") {
        world.remove(name);
    }
    assert_eq!(world.check().wrong, whole.len() as u64 - 1);
    assert_eq!(world.check_with(true).unwrap().repaired, whole.len() as u64 - 1);
    assert_eq!(world.objects(), whole);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_proven_is_not_shipped_again() {
    // The leaf is altered, its bundle gone: the tile still proves what it was, and nobody has the bytes.
    let world = World::new().await;
    flip(&world.place, "entries", &300u64.to_be_bytes(), 40);
    world.remove("tile/entries/001");
    world.remove("checkpoint/000000000001");
    let before = world.objects();
    let report = world.check_with(true).unwrap();
    assert_eq!((report.repaired, report.verdict()), (0, Verdict::Findings));
    assert_eq!(world.objects(), before, "a checkpoint is not put over a bundle that is missing");
    let found = told(&report);
    assert!(found.contains(&"leaf-altered store 300 proven".to_owned()), "{found:?}");
    assert!(found.contains(&"object-missing archive tile/entries/001 proven".to_owned()), "{found:?}");
}

/// Somebody rewrites an entry, every tile, the head and the mark, and signs a checkpoint with a key of his own.
#[tokio::test(flavor = "multi_thread")]
async fn a_forged_root_is_never_shipped_again() {
    let world = World::new().await;
    let signer = SigningKey::from_bytes(&[0x66; 32]);
    let verifier =
        chancery_format::note::NoteVerifier::new(ORIGIN, signer.verifying_key().as_bytes()).unwrap();
    let head = TreeHead { size: TreeSize(633), root: Hash([9; 32]) };
    let text = chancery_format::Checkpoint::new(origin(), head).text();
    let forged = assemble(&text, &verifier, &signer.sign(text.as_bytes()).to_bytes()).unwrap();
    change(&world.place, "checkpoints", &633u64.to_be_bytes(), |note| *note = forged.into_bytes());
    world.remove("tile/entries/002.p/121");
    world.replace("checkpoint/000000000002", b"x");
    world.remove("checkpoint/000000000002");
    // A live shipper says that it was shipped.
    let (keys, progress) = (World::keys(), CheckProgress::default());
    let archive = Some(&world.archive as &dyn chancery_ledger::Archive);
    let options = CheckOptions {
        keys: &keys,
        archive,
        epochs: Some(3),
        static_log: false,
        repair: true,
        progress: &progress,
    };
    let before = world.objects();
    let report = check_closed(&world.place.ledger(), &origin(), &limits(), &options).unwrap();
    assert_eq!(world.objects(), before, "nothing the ledger key did not sign leaves the store");
    assert_eq!(
        told(&report),
        [
            "checkpoint-invalid store  proven",
            "object-missing archive tile/entries/002.p/121 claimed",
            "object-missing archive checkpoint/000000000002 claimed",
        ]
    );
}

/// An entry is rewritten together with everything in the store that follows from it.
#[tokio::test(flavor = "multi_thread")]
async fn a_store_rewritten_as_a_whole_is_told_from_a_sound_archive() {
    let world = World::new().await;
    let (db, mut leaves) = (open(&world.place), Vec::new());
    for row in db.iterator_cf(db.cf_handle("entries").unwrap(), rocksdb::IteratorMode::Start) {
        leaves.push(row.unwrap().1.to_vec());
    }
    drop(db);
    leaves[10] = leaves[11].clone();
    let hashes: Vec<u8> =
        leaves[..256].iter().flat_map(|leaf| chancery_format::merkle::leaf_hash(leaf).0).collect();
    change(&world.place, "entries", &10u64.to_be_bytes(), |leaf| *leaf = leaves[11].clone());
    change(&world.place, "tiles", &tile_key(0, 0), |tile| *tile = hashes);
    let root = tree_hash(&leaves);
    change(&world.place, "meta", b"head", |head| head[8..40].copy_from_slice(&root.0));
    let found = world.finds();
    for expected in ["leaf-altered store 10 proven", "tile-altered store tile/0/000 proven"] {
        assert!(found.contains(&expected.to_owned()), "{found:?}");
    }
    assert!(!found.iter().any(|found| found.contains(" archive ")), "the archive is right: {found:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_archive_beyond_the_ledger_is_an_alarm_and_never_repaired() {
    let world = World::new().await;
    // The older disk, to be put back.
    let old = world.place.dir.path().join("old");
    copy(&world.place.ledger(), &old);
    let (roll, _) = Roll::open(world.place.options()).unwrap();
    grow(&roll, 300).await;
    ship(&roll, &world.archive);
    roll.close().await;
    assert_eq!(world.finds(), [""; 0]);
    std::fs::remove_dir_all(world.place.ledger()).unwrap();
    std::fs::rename(&old, world.place.ledger()).unwrap();
    let expected = [
        "object-beyond store checkpoint/000000000003 proven",
        "object-beyond unknown tile/0/002 claimed",
        "object-beyond unknown tile/0/003 claimed",
        "object-beyond unknown tile/entries/002 claimed",
        "object-beyond unknown tile/entries/003 claimed",
    ];
    let found = world.finds();
    assert!(found.contains(&expected[0].to_owned()) && found.contains(&expected[1].to_owned()), "{found:?}");
    let before = world.objects();
    assert_eq!(world.check_with(true).unwrap().repaired, 0);
    assert_eq!(world.objects(), before);
    world.replace("notes.txt", b"x");
    assert!(world.finds().contains(&"object-foreign archive notes.txt proven".to_owned()));
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        match entry.file_type().unwrap().is_dir() {
            true => copy(&entry.path(), &to.join(entry.file_name())),
            false => drop(std::fs::copy(entry.path(), to.join(entry.file_name())).unwrap()),
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn marks_and_lost_entries_are_told() {
    let world = World::new().await;
    let mark = world.place.ledger().join("high_water");
    let sound = std::fs::read(&mark).unwrap();
    std::fs::write(&mark, vec![0; sound.len()]).unwrap();
    assert_eq!(world.finds(), ["high-water store  claimed"]);
    std::fs::write(&mark, &sound).unwrap();
    assert_eq!(world.finds(), [""; 0]);
    assert_eq!(Kind::HighWater.page(), "restore.md");
    assert_eq!(Side::Unknown.as_str(), "unknown");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_archive_that_is_away_is_no_finding() {
    let world = World::new().await;
    std::fs::rename(world.place.archive(), world.place.dir.path().join("away")).unwrap();
    assert!(matches!(world.check_with(false), Err(CheckError::Archive(_))));
}

/// The words of the vocabulary are distinct, and each names a page.
#[test]
fn each_kind_has_a_word_and_a_page() {
    let words: std::collections::BTreeSet<_> = Kind::ALL.iter().map(|kind| kind.as_str()).collect();
    assert_eq!(words.len(), Kind::ALL.len());
    let runbooks = Path::new(env!("CARGO_MANIFEST_DIR")).join("../runbooks");
    for kind in Kind::ALL {
        assert!(runbooks.join(kind.page()).is_file(), "{}", kind.page());
    }
}
