//! `chancery receipt bundle` and `upgrade` beside logs of several tiles: grown, behind, damaged, forked, and with a newer
//! registry. (With a daemon and witnesses: `tests/tests/witnesses/evidence.rs`.)

#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "a failed step is a failed test")]

#[path = "mirror/log.rs"]
#[allow(dead_code, reason = "the tests of the mirror use the rest of it")]
mod log;

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use chancery_format::entry::{ledger_opened, registry_published};
use chancery_format::event::Placement;
use chancery_format::evidence::Evidence;
use chancery_format::merkle::{Frontier, leaf_hash};
use chancery_format::note::NoteVerifier;
use chancery_format::registry::{KeyState, LedgerSection, SignerRecord};
use chancery_format::{
    Checkpoint, EventId, Hash, LeafIndex, Origin, PublicKey, Receipt, Rung, SignatureAlgorithm,
    SignersRegistry, Timestamp,
};
use log::{LogServer, ORIGIN, damaged, log, sign, vkey, write};
use serde_json::Value;

/// Where the newer registry is published.
const NEWER_AT: u64 = 600;

fn origin() -> Origin {
    ORIGIN.parse().unwrap()
}

/// `signers.json`. A later version has one key more, active from the entry before the version is published.
fn registry(version: u64) -> String {
    let ledger_key = NoteVerifier::parse(&vkey()).unwrap();
    let public = PublicKey::from_ed25519_raw(&ledger_key.public_key()).unwrap();
    let record = |name: &str, algorithm, pem: Option<String>, index| SignerRecord {
        signer_kid: name.parse().unwrap(),
        kid: None,
        algorithm,
        public_key_pem: pem,
        purpose: "test".into(),
        state: KeyState::Active,
        deployed_at: Timestamp::from_unix_ms(1_795_000_000_000).unwrap(),
        retired_at: None,
        activated_index: Some(index),
        retired_index: None,
        compromised_since: None,
        description: String::new(),
    };
    let mut signers = vec![record("ledger-v1", SignatureAlgorithm::Ed25519, Some(public.to_pem()), 0)];
    if version > 1 {
        signers.push(record("hooks-v1", SignatureAlgorithm::HmacSha256, None, NEWER_AT - 1));
    }
    let ledger = LedgerSection { origin: origin(), vkeys: vec![vkey()], policy: None };
    String::from_utf8(SignersRegistry::new(ledger, signers).unwrap().to_json().unwrap()).unwrap()
}

/// Leaves of a ledger: it is opened, publishes its registry, later a newer one, and says the rest of the time something
/// that depends on `kind` from entry 10 on.
fn leaves(kind: &str, count: u64) -> Vec<Vec<u8>> {
    let sha256 = |version| Hash::of(&[registry(version).as_bytes()]);
    let mut previous = None;
    let mut leaf = |index: u64| {
        let draft = match index {
            0 => ledger_opened(&origin()),
            1 => registry_published(1, &sha256(1)),
            NEWER_AT => registry_published(2, &sha256(2)),
            2..10 => registry_published(index + 10, &Hash([0; 32])),
            _ => registry_published(index + 10, &Hash::of(&[kind.as_bytes()])),
        };
        let [a, b, c, d, e, f, ..] = Hash::of(&[ORIGIN.as_bytes()]).0;
        let place = Placement {
            id: &EventId::from_index([a, b, c, d, e, f], LeafIndex(index)),
            seq: index,
            prev_hash: previous,
            signer_kid: &"ledger-v1".parse().unwrap(),
            ts: Timestamp::from_unix_ms(1_795_000_000_000).unwrap(),
            chain: None,
        };
        let placed = draft.place(&place).unwrap();
        previous = Some(placed.event_hash());
        placed.into_bytes()
    };
    (0..count).map(&mut leaf).collect()
}

fn note(leaves: &[Vec<u8>]) -> String {
    let hashes: Vec<Hash> = leaves.iter().map(|leaf| leaf_hash(leaf)).collect();
    sign(&Checkpoint::new(origin(), Frontier::new().extend(&hashes).head()).text())
}

fn receipt(leaves: &[Vec<u8>], index: u64) -> String {
    let hashes: Vec<Hash> = leaves.iter().map(|leaf| leaf_hash(leaf)).collect();
    let proof = Frontier::new().extend(&hashes).proof(LeafIndex(index)).unwrap();
    let key = NoteVerifier::parse(&vkey()).unwrap();
    let checkpoint = Checkpoint::verify(&note(leaves), &origin(), &[key]).unwrap();
    let leaf = leaves[usize::try_from(index).unwrap()].clone();
    Receipt::new(leaf, LeafIndex(index), proof, &checkpoint, Rung::Checkpointed).to_json().unwrap()
}

struct Desk(tempfile::TempDir);

impl Desk {
    /// The receipt of entry 300 of 400, both registries, and logs of several sizes in folders of that name.
    fn new() -> Self {
        let desk = Self(tempfile::tempdir().unwrap());
        let all = leaves("honest", 700);
        desk.put("receipt.json", receipt(&all[..400], 300));
        desk.put("signers.json", registry(1));
        desk.put("newer.json", registry(2));
        desk.put("checkpoint-650", note(&all[..650]));
        for size in [300, 400, 500, 700] {
            write(&desk.path(&size.to_string()), &log(&all[..size]));
        }
        write(&desk.path("fork"), &log(&leaves("forked", 700)));
        desk
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn put(&self, name: &str, text: impl AsRef<[u8]>) {
        std::fs::write(self.path(name), text).unwrap();
    }

    fn evidence(&self, name: &str) -> Evidence {
        Evidence::parse(&std::fs::read(self.path(name)).unwrap()).unwrap()
    }

    /// What was printed by `chancery receipt …`, run in the folder, which must end so.
    fn expect(&self, arguments: &[&str], code: i32) -> Value {
        let mut command = Command::new(env!("CARGO_BIN_EXE_chancery"));
        command.arg("receipt").args(arguments).arg("--json").env_clear().stdin(Stdio::null());
        let output = command.current_dir(self.0.path()).output().unwrap();
        assert_eq!(output.status.code(), Some(code), "{arguments:?}: {output:?}");
        serde_json::from_slice(&output.stdout).unwrap()
    }

    fn bundle(&self, log: &str, more: &[&str], code: i32) -> Value {
        let asked =
            ["bundle", "receipt.json", "--signers", "signers.json", "--out", "x.evidence", "--log", log];
        self.expect(&[&asked[..], more].concat(), code)
    }

    fn message(&self, arguments: &[&str], code: i32) -> String {
        self.expect(arguments, code)["error"]["message"].as_str().unwrap().to_owned()
    }
}

#[test]
fn a_bundle_is_made_and_renewed_over_many_tiles() {
    let desk = Desk::new();
    let made = desk.bundle("500", &[], 0);
    assert_eq!((made["index"].as_u64(), made["registryIndex"].as_u64()), (Some(300), Some(1)), "{made}");
    let trusted = SignersRegistry::parse(registry(2).as_bytes()).unwrap();
    assert_eq!(desk.evidence("x.evidence").verify(&trusted, None).unwrap().registry.head().size.0, 500);

    // By a checkpoint that came another way, proven from a log that is further on; then by the log itself, over HTTP.
    let by = ["upgrade", "x.evidence", "--log", "700", "--checkpoint", "checkpoint-650"];
    let renewed = desk.expect(&by, 0);
    assert_eq!((renewed["size"].as_u64(), renewed["before"].as_u64()), (Some(650), Some(400)), "{renewed}");
    let server = LogServer::start(log(&leaves("honest", 700)));
    let (url, newer) = (server.url(), ["--signers", "newer.json"]);
    let renewed = desk.expect(&[&["upgrade", "x.evidence", "--log", &url], &newer[..]].concat(), 0);
    assert_eq!((renewed["size"].as_u64(), renewed["renewals"].as_u64()), (Some(700), Some(2)), "{renewed}");
    assert_eq!(renewed["registryVersion"], 2);
    let evidence = desk.evidence("x.evidence");
    let verified = evidence.verify(&trusted, None).unwrap();
    let sizes: Vec<u64> = verified.renewals.iter().map(|renewal| renewal.head().size.0).collect();
    assert_eq!((sizes, evidence.newest_registry().index()), (vec![650, 700], LeafIndex(NEWER_AT)));
    // A log that stopped at what the file knows, or before, has nothing for it.
    for log in ["700", "500"] {
        assert_eq!(desk.expect(&["upgrade", "x.evidence", "--log", log], 0)["event"], "unchanged");
    }
    assert_eq!(desk.evidence("x.evidence"), evidence);
    // Objects are added, and none is replaced.
    let object = |version: &str, code: i32| {
        let named = format!("tile/entries/001={version}");
        let asked = ["upgrade", "x.evidence", "--log", "700", "--archive", "s3://b/p", "--object", &named];
        desk.expect(&asked, code)
    };
    assert_eq!(object("one", 0)["event"], "unchanged");
    assert_eq!(desk.evidence("x.evidence").archive().unwrap().objects().len(), 1);
    object("two", 2);
}

#[test]
fn where_the_registry_stands_is_found_or_told() {
    let desk = Desk::new();
    let newer = ["bundle", "receipt.json", "--signers", "newer.json", "--out", "y.evidence", "--log"];
    let asked = |log: &'static str, more: &'static [&'static str]| [&newer[..], &[log], more].concat();
    assert_eq!(desk.expect(&asked("700", &[]), 0)["registryIndex"], NEWER_AT);
    assert_eq!(desk.expect(&asked("700", &["--registry-index", "600"]), 0)["registryIndex"], NEWER_AT);
    let wrong = desk.message(&asked("700", &["--registry-index", "3"]), 3);
    assert!(wrong.contains("no entry from 0 to before 256 publishes"), "{wrong}");
    let early = desk.message(&asked("500", &[]), 3);
    assert!(early.contains("publishes this registry"), "{early}");
    desk.put("signers.json", registry(1).replace("\"test\"", "\"other\""));
    let unpublished = desk.bundle("700", &[], 3);
    assert!(unpublished.to_string().contains("no entry from 0 to before 700 publishes"), "{unpublished}");
    assert!(!desk.path("x.evidence").exists());
}

#[test]
fn what_contradicts_is_refused_and_changes_nothing() {
    let desk = Desk::new();
    let told = |value: Value| value["error"]["message"].as_str().unwrap().to_owned();
    let behind = told(desk.bundle("300", &[], 3));
    assert!(behind.contains("300 entries, and 400 are needed"), "{behind}");
    let fork = told(desk.bundle("fork", &[], 1));
    assert!(fork.contains("another tree of 400 entries"), "{fork}");
    told(desk.bundle("nowhere", &[], 2));
    assert!(!desk.path("x.evidence").exists());

    desk.bundle("400", &[], 0);
    let before = std::fs::read(desk.path("x.evidence")).unwrap();
    let upgrade = |log: &str, code: i32| desk.message(&["upgrade", "x.evidence", "--log", log], code);
    let fork = upgrade("fork", 1);
    assert!(fork.contains("another tree of 400 entries"), "{fork}");
    let mut files = log(&leaves("honest", 700));
    let full = "tile/0/001";
    let bad = damaged(&files, full);
    files.insert(full.into(), bad);
    write(&desk.path("damaged"), &files);
    let damaged = upgrade("damaged", 1);
    assert!(damaged.contains("do not lead to the signed root"), "{damaged}");
    std::fs::remove_file(desk.path("700/tile/0/001")).unwrap();
    let missing = upgrade("700", 3);
    assert!(missing.contains("the log does not show tile/0/001"), "{missing}");
    let altered = String::from_utf8(before.clone()).unwrap().replacen("index 300", "index 301", 1);
    desk.put("altered.evidence", altered);
    let refused = desk.message(&["upgrade", "altered.evidence", "--log", "500"], 1);
    assert!(refused.contains("proof"), "{refused}");
    assert_eq!(std::fs::read(desk.path("x.evidence")).unwrap(), before);
    let objects = ["upgrade", "x.evidence", "--log", "400", "--object", "tile/entries/001=v"];
    assert!(desk.message(&objects, 2).contains("--archive"));
    assert!(Path::new(&desk.path("x.evidence")).is_file());
}
