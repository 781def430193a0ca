//! A ledger of a million signed entries, archived, then verified by the real verifier.

use std::io::Read as _;
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair as _};
use chancery_format::checkpoint::Checkpoint;
use chancery_format::entry::{Activation, BirthRecord, SignatureBytes, signer_activated};
use chancery_format::note::{NoteVerifier, assemble};
use chancery_format::registry::{KeyState, LedgerSection, SignerRecord};
use chancery_format::{Outcome, PublicKey, SignatureAlgorithm, SignersRegistry};
use chancery_ledger::{Clock as _, DirectoryArchive, Roll, Shipper, ShipperOptions};
use chancery_tests::rig::{WallClock, binary, cpu_of, roll_options, wait_for};
use tokio::runtime::Runtime;

use crate::ceilings::intent;
use crate::table::Table;

/// Builds, archives, verifies.
pub(crate) fn million(runtime: &Runtime, table: &mut Table, entries: u64) {
    let folder = tempfile::tempdir_in("target").unwrap();
    let registry = runtime.block_on(build(folder.path(), entries));
    let signers = folder.path().join("signers.json");
    std::fs::write(&signers, registry.to_json().unwrap()).unwrap();
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

async fn build(folder: &std::path::Path, entries: u64) -> SignersRegistry {
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
            let intent = intent("ed", number);
            let signature = key.sign(intent.parts().digest.as_bytes()).as_ref().to_vec();
            Outcome::signed(intent, SignatureBytes::new(signature), None)
        });
        for committed in roll.enrol_outcomes(signed.collect()).await {
            committed.unwrap();
        }
    }
    let verifier = NoteVerifier::new(origin.as_str(), &raw(&ledger)).unwrap();
    let text = Checkpoint::new(origin.clone(), roll.head().head()).text();
    let signature = ledger.sign(text.as_bytes()).as_ref().try_into().unwrap();
    let note = assemble(&text, &verifier, &signature).unwrap();
    let checkpoint = Checkpoint::verify(&note, &origin, std::slice::from_ref(&verifier)).unwrap();
    roll.record_checkpoint(checkpoint).await.unwrap();
    archive(&roll, folder, entries);
    roll.close().await;
    SignersRegistry::new(LedgerSection { origin, vkeys: vec![verifier.vkey()] }, records).unwrap()
}

fn archive(roll: &Roll, folder: &std::path::Path, entries: u64) {
    std::fs::create_dir(folder.join("archive")).unwrap();
    let archive = Arc::new(DirectoryArchive::new(folder.join("archive")));
    let shipper = Shipper::start(roll.clone(), archive, ShipperOptions::new(Arc::new(WallClock), 1)).unwrap();
    shipper.ship_now();
    wait_for("archive", || (shipper.status().archived.0 == entries).then_some(()));
    shipper.stop();
}
