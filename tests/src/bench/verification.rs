//! A ledger of a million signed entries, archived, then verified by the real verifier.

use std::io::Read as _;
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair as _};
use chancery_format::checkpoint::{Checkpoint, VerifiedCheckpoint};
use chancery_format::completeness::{Opening, entry_line};
use chancery_format::entry::{Activation, BirthRecord, SignatureBytes, signer_activated};
use chancery_format::heads::HeadName;
use chancery_format::note::{NoteVerifier, assemble};
use chancery_format::registry::{KeyState, LedgerSection, SignerRecord};
use chancery_format::{LeafIndex, Outcome, PublicKey, Receipt, Rung, SignatureAlgorithm, SignersRegistry};
use chancery_ledger::{Clock as _, DirectoryArchive, Heads, HeadsOutcome, Roll, Shipper, ShipperOptions};
use chancery_tests::rig::{WallClock, binary, cpu_of, roll_options, wait_for};
use tokio::runtime::Runtime;

use crate::ceilings::intent;
use crate::report;
use crate::table::Table;

/// A stream of a thousand entries.
const THOUSAND: &str = "bench/thousand";

/// Builds, archives, verifies.
pub(crate) fn million(runtime: &Runtime, table: &mut Table, entries: u64) {
    let folder = tempfile::tempdir_in("target").unwrap();
    let registry = runtime.block_on(build(table, folder.path(), entries));
    let signers = folder.path().join("signers.json");
    std::fs::write(&signers, registry.to_json().unwrap()).unwrap();
    completeness(folder.path(), &signers, table);
    let archive = folder.path().join("archive");
    for (name, strict) in [("verify, batches", false), ("verify, one by one", true)] {
        let started = Instant::now();
        let (peak_kib, output) = verify(&archive, &signers, strict);
        assert!(output.contains("\"valid\": true") || output.contains("\"valid\":true"), "{output}");
        let seconds = started.elapsed().as_secs_f64();
        table.add(name, seconds, "s");
        table.add(format!("{name}, rate"), entries as f64 / seconds, "entries/s");
        if !strict {
            table.add("verify, peak memory", peak_kib as f64 / 1024.0, "MiB");
        }
    }
    report::shown(&archive, &signers, folder.path(), table);
}

/// How little of the ledger proves that the thousand entries of one stream are all it has.
fn completeness(folder: &std::path::Path, signers: &std::path::Path, table: &mut Table) {
    let proof = folder.join("thousand.jsonl");
    let mut command = Command::new(binary("chancery-verify"));
    command.arg("completeness").arg(&proof).args(["--stream", THOUSAND, "--json", "--signers"]).arg(signers);
    let started = Instant::now();
    let output = used_by(&mut command).output;
    let told: serde_json::Value = serde_json::from_str(&output).unwrap();
    assert!(told["valid"] == true && told["checked"]["entries"] == 1_000, "{output}");
    table.add("completeness of a stream of 1000, verified", started.elapsed().as_secs_f64() * 1e3, "ms");
    let bundles = folder.join("archive/tile/entries");
    let whole: u64 = walk(&bundles).iter().map(|file| std::fs::metadata(file).unwrap().len()).sum();
    let read = std::fs::metadata(&proof).unwrap().len();
    table.ratio(
        "completeness of a stream of 1000: bytes read ÷ the ledger's",
        read as f64 / whole as f64,
        "≤ 0.01",
    );
}

fn walk(folder: &std::path::Path) -> Vec<std::path::PathBuf> {
    let entries = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    entries.flat_map(|path| if path.is_dir() { walk(&path) } else { vec![path] }).collect()
}

/// Peak resident memory and output of the verifier.
fn verify(archive: &std::path::Path, signers: &std::path::Path, strict: bool) -> (u64, String) {
    let mut command = Command::new(binary("chancery-verify"));
    command.arg("ledger").arg(archive).arg("--signers").arg(signers).arg("--json");
    if strict {
        command.arg("--strict");
    }
    let Used { peak_kib, output, .. } = used_by(&mut command);
    (peak_kib, output)
}

/// What a program used, and what it printed.
pub(crate) struct Used {
    pub(crate) peak_kib: u64,
    pub(crate) cpu: Duration,
    pub(crate) output: String,
}

/// Runs a program to its end.
pub(crate) fn used_by(command: &mut Command) -> Used {
    let mut child = command.stdout(std::process::Stdio::piped()).spawn().unwrap();
    let (pid, mut stdout) = (child.id(), child.stdout.take().unwrap());
    let status = format!("/proc/{pid}/status");
    let sampler = std::thread::spawn(move || {
        let mut peak = 0;
        while let Ok(text) = std::fs::read_to_string(&status) {
            let line = text.lines().find(|line| line.starts_with("VmHWM:"));
            let Some(kib) = line.and_then(|line| line.split_whitespace().nth(1)?.parse::<u64>().ok()) else {
                break;
            };
            peak = peak.max(kib);
            std::thread::sleep(Duration::from_millis(20));
        }
        peak
    });
    let mut output = String::new();
    stdout.read_to_string(&mut output).unwrap();
    // It is there until it is waited for, and has no more to do.
    let cpu = cpu_of(pid);
    child.wait().unwrap();
    Used { peak_kib: sampler.join().unwrap(), cpu, output }
}

async fn build(table: &mut Table, folder: &std::path::Path, entries: u64) -> SignersRegistry {
    let origin: chancery_format::Origin = "log.example/bench".parse().unwrap();
    let (ledger, key) = (Ed25519KeyPair::generate().unwrap(), Ed25519KeyPair::generate().unwrap());
    let raw = |pair: &Ed25519KeyPair| <[u8; 32]>::try_from(pair.public_key().as_ref()).unwrap();
    let roll = Roll::create(roll_options(folder.join("ledger"), origin.clone(), "ledger-v1")).unwrap();
    let record = |kid: &str, pair: &Ed25519KeyPair, index| SignerRecord {
        signer_kid: format!("{kid}-v1").parse().unwrap(),
        kid: Some(kid.parse().unwrap()),
        algorithm: SignatureAlgorithm::Ed25519,
        public_key_pem: Some(PublicKey::from_ed25519_raw(&raw(pair)).unwrap().to_pem()),
        purpose: "bench".into(),
        state: KeyState::Active,
        deployed_at: WallClock.now(),
        retired_at: None,
        activated_index: Some(index),
        retired_index: None,
        compromised_since: None,
        description: String::new(),
    };
    let records = vec![record("ledger", &ledger, 1), record("ed", &key, 2)];
    // Entry 0, `ledger.opened`, was made with the ledger.
    let activated = records.iter().map(|record| {
        let kid = record.kid.as_ref().unwrap();
        let pem = record.public_key_pem.as_deref();
        let activation = Activation {
            kid,
            signer_kid: &record.signer_kid,
            algorithm: record.algorithm,
            public_key_pem: pem,
            purpose: &record.purpose,
            birth: BirthRecord::default(),
            requested_by: None,
        };
        (signer_activated(&activation), None)
    });
    for committed in roll.enrol_events(activated.collect()).await {
        committed.unwrap();
    }
    for first in (0..entries.saturating_sub(3)).step_by(1_000) {
        let signed = (first..(first + 1_000).min(entries - 3)).map(|number| {
            let mut parts = intent("ed", number).parts().clone();
            // A thousand of them, all over the ledger.
            if number % (entries / 1_000) == 0 && number / (entries / 1_000) < 1_000 {
                parts.stream = THOUSAND.parse().unwrap();
            }
            let intent = chancery_format::Intent::new(parts);
            let signature = key.sign(intent.parts().digest.as_bytes()).as_ref().to_vec();
            Outcome::signed(intent, SignatureBytes::new(signature), None)
        });
        for committed in roll.enrol_outcomes(signed.collect()).await {
            committed.unwrap();
        }
    }
    let verifier = NoteVerifier::new(origin.as_str(), &raw(&ledger)).unwrap();
    let heads = Heads::new(roll.clone());
    let started = Instant::now();
    heads.follow(roll.head().head().size).await.unwrap();
    let rate = roll.head().head().size.0 as f64 / started.elapsed().as_secs_f64();
    table.add("heads of all streams and keys, folded", rate, "entries/s");
    let HeadsOutcome::Enrolled(index) = heads.enrol().await.unwrap() else { panic!("no map was enrolled") };
    let text = Checkpoint::new(origin.clone(), roll.head().head()).text();
    let signature = ledger.sign(text.as_bytes()).as_ref().try_into().unwrap();
    let note = assemble(&text, &verifier, &signature).unwrap();
    let checkpoint = Checkpoint::verify(&note, &origin, std::slice::from_ref(&verifier)).unwrap();
    write_proof(&roll, &heads, index, &checkpoint, folder).await;
    roll.record_checkpoint(checkpoint).await.unwrap();
    archive(&roll, folder, entries + 1);
    drop(heads);
    roll.close().await;
    SignersRegistry::new(LedgerSection { origin, vkeys: vec![verifier.vkey()], policy: None }, records)
        .unwrap()
}

/// The completeness proof of the thousand, as the service gives it.
async fn write_proof(
    roll: &Roll,
    heads: &Heads,
    index: LeafIndex,
    checkpoint: &VerifiedCheckpoint,
    folder: &std::path::Path,
) {
    let name: HeadName = format!("stream:{THOUSAND}").parse().unwrap();
    let leaf = roll.leaf(index).await.unwrap().unwrap().bytes.to_vec();
    let path = roll.inclusion_proof(index, checkpoint.head().size).await.unwrap();
    let receipt = Receipt::new(leaf, index, path, checkpoint, Rung::Checkpointed);
    let proven = heads.proven(name.clone()).await.unwrap().unwrap();
    let opening = Opening { name: name.clone(), head: proven.head, proof: proven.proof, heads: receipt };
    let mut lines = vec![opening.to_json().unwrap()];
    for leaf in heads.entries(name, 0, 1_000).await.unwrap() {
        lines.push(entry_line(leaf.index, &leaf.bytes));
    }
    std::fs::write(folder.join("thousand.jsonl"), lines.join("\n") + "\n").unwrap();
}

fn archive(roll: &Roll, folder: &std::path::Path, entries: u64) {
    std::fs::create_dir(folder.join("archive")).unwrap();
    let archive = Arc::new(DirectoryArchive::new(folder.join("archive")));
    let shipper = Shipper::start(roll.clone(), archive, ShipperOptions::new(Arc::new(WallClock), 1)).unwrap();
    shipper.ship_now();
    wait_for("archive", || (shipper.status().archived.0 == entries).then_some(()));
    shipper.stop();
}
