//! `.evidence` files, through the library and through the program with its exit codes: what holds by which way, who is
//! believed, and that nothing altered passes.
#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "a failed unwrap is the test's failure")]

mod support;

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use chancery_format::cose::{CoseAlgorithm, CoseProof, CoseReceipt, CoseStatement};
use chancery_format::cosignature::{CosignedAt, CosignerKey};
use chancery_format::evidence::{BundledPolicy, Evidence, RegistrySlice, Renewal, RenewalProofs};
use chancery_format::merkle::{self, NodeSource, ProofError, leaf_hash};
use chancery_format::policy::Policy;
use chancery_format::tile::perfect_root;
use chancery_format::{
    Checkpoint, Hash, LeafIndex, PublicKey, Receipt, Rung, SignatureAlgorithm, TreeSize, VerifiedCheckpoint,
};
use chancery_verify::{Kind, Report, Trust, evidence_file};
use ed25519_dalek::{Signer as _, SigningKey};
use serde_json::{Value, json};
use support::keys::TestKey;
use support::{ORIGIN, Writer, origin, small};

/// A witness that signs with Ed25519.
struct Witness(&'static str, [u8; 32]);

const WITNESS: Witness = Witness("witness.example/one", [0x71; 32]);
const LATER: Witness = Witness("witness.example/later", [0x72; 32]);

impl Witness {
    fn key(&self) -> CosignerKey {
        let raw = SigningKey::from_bytes(&self.1).verifying_key().to_bytes();
        CosignerKey::new(self.0, PublicKey::from_ed25519_raw(&raw).unwrap()).unwrap()
    }

    fn line(&self, checkpoint: &Checkpoint) -> String {
        let (key, at) = (self.key(), CosignedAt::new(1_795_000_000).unwrap());
        let signature = SigningKey::from_bytes(&self.1).sign(&key.message(checkpoint, at));
        key.line(at, &signature.to_bytes()).unwrap()
    }
}

struct Leaves(Vec<Hash>);

impl NodeSource for Leaves {
    type Error = ProofError;
    fn node(&self, level: u8, index: u64) -> Result<Hash, ProofError> {
        let (width, from) = (1usize << level, usize::try_from(index << level).unwrap());
        perfect_root(&self.0[from..from + width]).ok_or(ProofError::OutOfRange)
    }
}

fn tree(writer: &Writer) -> Leaves {
    Leaves(writer.leaves.iter().map(|leaf| leaf_hash(leaf)).collect())
}

fn checkpoint(writer: &Writer, witnesses: &[Witness]) -> VerifiedCheckpoint {
    let checkpoint = Checkpoint::new(origin(), writer.head());
    let lines: String = witnesses.iter().map(|witness| witness.line(&checkpoint)).collect();
    let note = writer.note(&checkpoint.text()) + &lines;
    Checkpoint::verify(&note, &origin(), &[writer.ledger_key.vkey()]).unwrap()
}

fn path(writer: &Writer, index: u64) -> Vec<Hash> {
    merkle::inclusion_proof(&tree(writer), LeafIndex(index), TreeSize(writer.next_index())).unwrap()
}

/// `small`, with the index of the entry that publishes what its registry is then.
fn published() -> (Writer, u64) {
    let mut writer = small();
    let index = writer.publish();
    (writer, index)
}

fn slice(writer: &Writer, file: &[u8], index: u64) -> RegistrySlice {
    let leaf = writer.leaves[usize::try_from(index).unwrap()].clone();
    let file = String::from_utf8(file.to_vec()).unwrap();
    RegistrySlice::new(file, leaf, LeafIndex(index), path(writer, index)).unwrap()
}

/// Of the signature at 5, under a checkpoint with this witness.
fn bundle(writer: &Writer, registry_index: u64, witnesses: &[Witness]) -> Evidence {
    let checkpoint = checkpoint(writer, witnesses);
    let receipt =
        Receipt::new(writer.leaves[5].clone(), LeafIndex(5), path(writer, 5), &checkpoint, Rung::Witnessed);
    Evidence::new(&receipt, slice(writer, &writer.registry_json(), registry_index), &checkpoint).unwrap()
}

fn renewal(writer: &Writer, old: u64, registry_index: u64, witnesses: &[Witness]) -> Renewal {
    let size = TreeSize(writer.next_index());
    let proofs = RenewalProofs {
        entry: path(writer, 5),
        registry: path(writer, registry_index),
        consistency: merkle::consistency_proof(&tree(writer), TreeSize(old), size).unwrap(),
    };
    Renewal::new(checkpoint(writer, witnesses).note().to_owned(), proofs).unwrap()
}

fn policy(writer: &Writer, witness: &Witness) -> String {
    let (log, key) = (writer.ledger_key.vkey().vkey(), witness.key().vkey());
    format!("log {log}\nwitness w {key}\nquorum w\n")
}

fn cose(writer: &Writer, index: u64) -> CoseReceipt {
    let statement = CoseStatement {
        algorithm: CoseAlgorithm::EdDsa,
        origin: origin(),
        size: TreeSize(writer.next_index()),
        proof: CoseProof::Inclusion { index: LeafIndex(index), path: path(writer, index) },
    };
    let signature = writer.ledger_key.sign_message_raw(&statement.to_be_signed(&writer.head().root));
    statement.signed(signature)
}

/// With everything: cosigned, a COSE receipt, and a renewal by a witness who came later.
fn full() -> (Writer, Evidence) {
    let (mut writer, index) = published();
    let mut evidence = bundle(&writer, index, &[WITNESS]).with_cose(cose(&writer, 5));
    evidence = evidence.with_policy(BundledPolicy::parse(policy(&writer, &WITNESS)).unwrap());
    let old = writer.next_index();
    for _ in 0..10 {
        writer.event("orders/eu");
    }
    let later = BundledPolicy::parse(policy(&writer, &LATER)).unwrap();
    let renewal = renewal(&writer, old, index, &[LATER]).with_policy(later);
    (writer, evidence.with_renewal(renewal).unwrap())
}

/// A ledger of the same name, by somebody else.
fn forger() -> (Writer, u64) {
    let mut writer = Writer::unopened();
    writer.ledger_key = TestKey::new("ledger", "forged-v1", SignatureAlgorithm::Ed25519);
    writer.add(&chancery_format::entry::ledger_opened(&origin()));
    writer.activate_key(writer.ledger_key.clone());
    writer.activate("orders", "orders-v1", SignatureAlgorithm::Ed25519);
    writer.event("orders/eu");
    let index = writer.publish();
    writer.sign("orders-v1", "orders", b"forged");
    (writer, index)
}

fn check(evidence: &Evidence, policy: Option<&str>, trust: Option<&Trust>) -> Report {
    let policy = policy.map(|text| Policy::parse(text.as_bytes()).unwrap());
    evidence_file::verify(evidence.to_json().unwrap().as_bytes(), None, policy.as_ref(), trust)
}

fn trust(writer: &Writer) -> Trust {
    Trust::parse(&writer.registry_json()).unwrap()
}

fn kinds(report: &Report) -> Vec<Kind> {
    report.findings().listed().iter().map(|finding| finding.kind).collect()
}

fn ways(report: &Report) -> [String; 5] {
    ["log", "cose", "signature", "witnesses", "renewals"]
        .map(|way| report.checked()["ways"][way].as_str().unwrap().to_owned())
}

#[test]
fn five_ways_and_each_is_told_of() {
    let (writer, evidence) = full();
    let trust = trust(&writer);
    for witness in [WITNESS, LATER] {
        let report = check(&evidence, Some(&policy(&writer, &witness)), Some(&trust));
        assert_eq!(report.exit_code(), 0, "{}", report.to_text());
        assert_eq!(ways(&report), ["held"; 5], "{}", report.to_text());
        assert_eq!(report.checked()["cosignatures"], 1);
    }
    let report = check(&evidence, None, Some(&trust));
    assert_eq!((report.exit_code(), report.checked()["trustedBy"].as_str()), (0, Some("signers")));
    assert_eq!(ways(&report), ["held", "held", "held", "not-checked", "held"]);
    assert_eq!((&report.checked()["index"], &report.checked()["signatures"]), (&json!(5), &json!(1)));
    let text = report.to_text();
    assert!(text.contains("way 3, the entry's own signature: held"), "{text}");
    let (writer, index) = published();
    let report = check(&bundle(&writer, index, &[]), None, Some(&trust));
    assert_eq!(ways(&report), ["held", "absent", "held", "absent", "absent"], "{}", report.to_text());
}

/// Nothing in a file vouches for the file.
#[test]
fn without_a_word_from_outside_nothing_is_decided() {
    let (writer, evidence) = full();
    let report = check(&evidence, None, None);
    assert_eq!((report.exit_code(), kinds(&report)), (3, vec![Kind::NoTrustAnchor]), "{}", report.to_text());
    assert!(report.checked()["trustedBy"].is_null());
    // The witnesses of either time vouch for the registry too, which both checkpoints cover.
    for witness in [WITNESS, LATER] {
        let report = check(&evidence, Some(&policy(&writer, &witness)), None);
        assert_eq!(report.exit_code(), 0, "{}", report.to_text());
        assert_eq!(report.checked()["trustedBy"], "policy");
    }
    // They do not where the registry was published after what they saw.
    let mut writer = small();
    let first = checkpoint(&writer, &[WITNESS]);
    let receipt =
        Receipt::new(writer.leaves[5].clone(), LeafIndex(5), path(&writer, 5), &first, Rung::Durable);
    let index = writer.publish();
    let unseen = slice(&writer, &writer.registry_json(), index);
    let evidence = Evidence::new(&receipt, unseen, &checkpoint(&writer, &[])).unwrap();
    let report = check(&evidence, Some(&policy(&writer, &WITNESS)), None);
    assert_eq!((report.exit_code(), kinds(&report)), (3, vec![Kind::NoTrustAnchor]), "{}", report.to_text());
    let report = check(&evidence, Some(&policy(&writer, &WITNESS)), Some(&trust(&writer)));
    assert_eq!(report.exit_code(), 0, "{}", report.to_text());
    // A forger's whole ledger of the same name holds together, and is nobody's.
    let (forger, index) = forger();
    let forged = bundle(&forger, index, &[]);
    assert_eq!(check(&forged, None, None).exit_code(), 3);
    let report = check(&forged, Some(&policy(&writer, &WITNESS)), None);
    assert_eq!(report.exit_code(), 1, "{}", report.to_text());
    assert_eq!(check(&forged, None, Some(&trust(&writer))).exit_code(), 1);
}

#[test]
fn what_does_not_hold_is_named_and_the_rest_is_checked_all_the_same() {
    let (writer, evidence) = full();
    let trust = trust(&writer);
    let report = check(&evidence.clone().with_cose(cose(&writer, 6)), None, Some(&trust));
    assert_eq!(
        (report.exit_code(), kinds(&report)),
        (1, vec![Kind::EvidenceInvalid]),
        "{}",
        report.to_text()
    );
    assert_eq!(ways(&report), ["held", "failed", "held", "not-checked", "held"]);

    let stranger = Witness("witness.example/stranger", [0x73; 32]);
    let report = check(&evidence, Some(&policy(&writer, &stranger)), Some(&trust));
    assert_eq!((report.exit_code(), kinds(&report)), (1, vec![Kind::NotWitnessed]), "{}", report.to_text());
    assert_eq!(ways(&report)[3], "failed");
    let of_it = BundledPolicy::parse(policy(&writer, &stranger)).unwrap();
    let report = check(&evidence.clone().with_policy(of_it), None, Some(&trust));
    assert_eq!((report.exit_code(), kinds(&report)), (1, vec![Kind::NotWitnessed]), "{}", report.to_text());

    // What is known of a key later decides: it was compromised before it signed.
    let mut later = writer.records.clone();
    later.iter_mut().find(|record| record.signer_kid.as_str() == "orders-v1").unwrap().compromised_since =
        Some(4);
    let mut knowing = small();
    knowing.records = later;
    let knowing = Trust::parse(&knowing.registry_json()).unwrap();
    let report = check(&evidence, None, Some(&knowing));
    assert_eq!(
        (report.exit_code(), kinds(&report)),
        (1, vec![Kind::SignerNotActive]),
        "{}",
        report.to_text()
    );
    assert_eq!(ways(&report), ["held", "held", "failed", "not-checked", "held"]);

    // A renewal by another log of the same name.
    let mut other = small();
    other.ledger_key = TestKey::new("ledger", "other-v1", SignatureAlgorithm::Ed25519);
    for _ in 0..30 {
        other.event("orders/eu");
    }
    let foreign = evidence.clone().with_renewal(renewal(&other, writer.next_index(), 20, &[])).unwrap();
    let report = check(&foreign, None, Some(&trust));
    assert_eq!(
        (report.exit_code(), kinds(&report)),
        (1, vec![Kind::CheckpointInvalid]),
        "{}",
        report.to_text()
    );
    assert_eq!(ways(&report), ["held", "held", "held", "not-checked", "failed"]);
}

/// Through the program: every member, altered.
#[test]
fn the_program_refuses_what_was_altered() {
    let (writer, evidence) = full();
    let dir = tempfile::tempdir().unwrap();
    let put = |name: &str, bytes: &[u8]| -> PathBuf {
        let path = dir.path().join(name);
        std::fs::write(&path, bytes).unwrap();
        path
    };
    let signers = put("signers.json", &writer.registry_json());
    let witnesses = put("witnesses.policy", policy(&writer, &WITNESS).as_bytes());
    let json = evidence.to_json().unwrap();
    let good = put("good.evidence", json.as_bytes());
    let run = |file: &Path, more: &[&Path]| -> Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_chancery-verify"));
        command.arg("evidence").arg(file).args(more).output().unwrap()
    };
    let by = [Path::new("--signers"), signers.as_path(), Path::new("--policy"), witnesses.as_path()];
    let output = run(&good, &by);
    let text = String::from_utf8(output.stdout).unwrap();
    assert_eq!(output.status.code(), Some(0), "{text}");
    assert!(text.starts_with(&format!("entry 5 of {ORIGIN}, ")) && text.ends_with("VALID\n"), "{text}");
    assert_eq!(run(&good, &[]).status.code(), Some(3));
    assert_eq!(run(Path::new("/nonexistent"), &by).status.code(), Some(3));
    assert_eq!(run(&good, &[Path::new("--policy"), signers.as_path()]).status.code(), Some(2));
    let json_report = run(&good, &[&by[..], &[Path::new("--json")]].concat());
    let report: Value = serde_json::from_slice(&json_report.stdout).unwrap();
    assert_eq!((&report["valid"], &report["checked"]["ways"]["renewals"]), (&json!(true), &json!("held")));

    let file: Value = serde_json::from_str(&json).unwrap();
    for pointer in [
        "/version",
        "/event/payload/digest",
        "/proof",
        "/cose",
        "/registry/file",
        "/registry/event/payload/version",
        "/registry/proof",
        "/policy",
        "/renewals/0/checkpoint",
        "/renewals/0/inclusionProof/0",
        "/renewals/0/registryProof/0",
        "/renewals/0/consistencyProof/0",
        "/renewals/0/policy",
    ] {
        let mut altered = file.clone();
        let member = altered.pointer_mut(pointer).unwrap();
        *member = match member {
            Value::String(text) => {
                let at = text.len() - 12;
                let new = if text.as_bytes()[at] == b'0' { '1' } else { '0' };
                json!(format!("{}{new}{}", &text[..at], &text[at + 1..]))
            }
            ref number => json!(number.as_u64().unwrap() + 1),
        };
        let output = run(&put("altered.evidence", altered.to_string().as_bytes()), &by);
        assert_eq!(output.status.code(), Some(1), "{pointer}: {}", String::from_utf8_lossy(&output.stdout));
    }
}
