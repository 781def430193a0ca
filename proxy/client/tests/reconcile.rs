//! `chancery reconcile` on a folder of entries and CloudTrail-shaped records: even, one too many, one too few.

#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "a failed step is a failed test")]

use std::path::Path;
use std::process::Command;

use chancery_format::entry::{
    Activation, BirthRecord, IntentParts, KeyUse, Operation, PolicyRef, SignatureBytes, signer_activated,
};
use chancery_format::event::Placement;
use chancery_format::names::FailureCode;
use chancery_format::tile::encode_bundle;
use chancery_format::{Digest, EventDraft, Hash, Intent, Outcome, Rung, SignatureAlgorithm, Timestamp};
use serde_json::{Value, json};

const KEY: &str = "arn:aws:kms:eu-central-1:111122223333:key/0f0e0d0c-0b0a-0908-0706-050403020100";
/// 2026-11-21T10:00:00Z.
const START_MS: i64 = 1_795_255_200_000;
/// Signatures; more than a bundle holds.
const SIGNED: i64 = 300;
/// Time between two.
const STEP_MS: i64 = 3_000;

fn intent() -> Intent {
    Intent::new(IntentParts {
        co_signer: None,
        kid: "orders".parse().unwrap(),
        signer_kid: "orders-v1".parse().unwrap(),
        algorithm: SignatureAlgorithm::EcdsaP256Sha256,
        asked: None,
        operation: Operation::Sign,
        digest: Digest::Sha256([1; 32]),
        principal: "spiffe://demo.example/orders".parse().unwrap(),
        request_id: "request-1".parse().unwrap(),
        stream: "orders".parse().unwrap(),
        purpose: None,
        metadata: None,
        policy: PolicyRef { rule: "grant".into(), sha256: Hash([3; 32]) },
        release: Rung::Durable,
        replay: None,
    })
}

/// An archive's entries: a registration, [`SIGNED`] signatures, and one attempt without result.
fn archive(folder: &Path) {
    let birth = BirthRecord { serial: Some(KEY.to_owned()), ..BirthRecord::default() };
    let mut drafts: Vec<(EventDraft, i64)> = vec![(
        signer_activated(&Activation {
            kid: &"orders".parse().unwrap(),
            signer_kid: &"orders-v1".parse().unwrap(),
            algorithm: SignatureAlgorithm::EcdsaP256Sha256,
            public_key_pem: None,
            purpose: "orders",
            birth,
            requested_by: None,
        }),
        START_MS,
    )];
    for second in 0..SIGNED {
        let outcome = Outcome::signed(intent(), SignatureBytes::new(vec![7; 70]), None);
        drafts.push((outcome.draft(), START_MS + second * STEP_MS));
    }
    let code: FailureCode = "backend-unavailable".parse().unwrap();
    drafts.push((Outcome::failed(intent(), code, KeyUse::Unknown).draft(), START_MS + SIGNED * STEP_MS));
    let leaves: Vec<Vec<u8>> = drafts
        .iter()
        .enumerate()
        .map(|(number, (draft, ts))| {
            let place = Placement {
                id: &format!("event-{number}").parse().unwrap(),
                seq: number as u64,
                prev_hash: (number > 0).then_some(Hash([9; 32])),
                signer_kid: &"ledger-v1".parse().unwrap(),
                ts: Timestamp::from_unix_ms(*ts).unwrap(),
                chain: None,
            };
            draft.place(&place).unwrap().into_bytes()
        })
        .collect();
    let write = |name: String, leaves: &[Vec<u8>]| {
        let path = folder.join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, encode_bundle(leaves.iter().map(Vec::as_slice)).unwrap()).unwrap();
    };
    write("tile/entries/000".to_owned(), &leaves[..256]);
    // An older epoch's tail beside the newest one's.
    write("tile/entries/001.p/3".to_owned(), &leaves[256..259]);
    write(format!("tile/entries/001.p/{}", leaves.len() - 256), &leaves[256..]);
}

fn record(event: &str, at_ms: i64) -> Value {
    let time = Timestamp::from_unix_ms(at_ms).unwrap().to_string();
    json!({
        "eventVersion": "1.08", "eventSource": "kms.amazonaws.com", "eventName": "Sign",
        "eventTime": time.replace(".000Z", "Z"), "eventID": event, "requestID": format!("request-{event}"),
        "userIdentity": { "arn": "arn:aws:sts::111122223333:assumed-role/chancery/i-0abc" },
        "requestParameters": { "keyId": KEY, "signingAlgorithm": "ECDSA_SHA_256" },
        "resources": [{ "type": "AWS::KMS::Key", "ARN": KEY }],
    })
}

fn trail() -> Vec<Value> {
    (0..SIGNED).map(|second| record(&format!("e{second}"), START_MS + second * STEP_MS)).collect()
}

/// Exit code and report.
fn reconcile(folder: &Path, records: &[Value]) -> (i32, Value) {
    let file = folder.join("trail.json");
    std::fs::write(&file, json!({ "Records": records }).to_string()).unwrap();
    let output = Command::new(env!("CARGO_BIN_EXE_chancery"))
        .args(["reconcile", "--json", "--window", "5", "--archive"])
        .args([folder, Path::new("--cloudtrail"), &file])
        .env_clear()
        .output()
        .unwrap();
    assert!(output.stderr.is_empty(), "{}", String::from_utf8_lossy(&output.stderr));
    (output.status.code().unwrap(), serde_json::from_slice(&output.stdout).unwrap())
}

#[test]
fn an_operation_behind_the_ledger_s_back_is_found_and_named() {
    let folder = tempfile::tempdir().unwrap();
    archive(folder.path());
    let (code, report) = reconcile(folder.path(), &trail());
    assert_eq!((code, &report["even"], &report["entries"]), (0, &json!(true), &json!(SIGNED + 2)));
    assert_eq!(report["keys"][0]["matched"], SIGNED);

    // The attempt without result explains one more operation at its time, and no second one.
    let explained = [trail(), vec![record("x1", START_MS + SIGNED * STEP_MS)]].concat();
    let (code, report) = reconcile(folder.path(), &explained);
    assert_eq!((code, &report["keys"][0]["explained"]), (0, &json!(1)));

    for at in [0, 450_000, 765_000, (SIGNED - 1) * STEP_MS] {
        let behind = [explained.clone(), vec![record("behind", START_MS + at)]].concat();
        let (code, report) = reconcile(folder.path(), &behind);
        assert_eq!((code, &report["keys"][0]["surplusCount"]), (1, &json!(1)), "{at}: {report}");
        let by = "arn:aws:sts::111122223333:assumed-role/chancery/i-0abc";
        assert_eq!(report["keys"][0]["surplus"][0]["by"], by);
    }
}

#[test]
fn a_record_that_lacks_an_operation_is_not_whole() {
    let folder = tempfile::tempdir().unwrap();
    archive(folder.path());
    let mut records = trail();
    records.drain(100..140);
    let (code, report) = reconcile(folder.path(), &records);
    assert_eq!((code, &report["keys"][0]["missingCount"]), (1, &json!(40)), "{report}");
    assert_eq!(report["keys"][0]["surplusCount"], 0);
}

#[test]
fn counts_and_bad_input_have_their_exit_codes() {
    let folder = tempfile::tempdir().unwrap();
    archive(folder.path());
    let counted = |text: &str, archive: &Path| {
        let file = folder.path().join("counts.json");
        std::fs::write(&file, text).unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_chancery"));
        command.args([Path::new("reconcile"), Path::new("--archive"), archive, Path::new("--counts"), &file]);
        let output = command.env_clear().output().unwrap();
        (output.status.code().unwrap(), String::from_utf8(output.stdout).unwrap())
    };
    let counts = |operations: i64| format!("{{\"operations\":{{\"orders-v1\":{operations}}}}}");
    for (operations, expected) in [(SIGNED - 1, 1), (SIGNED, 0), (SIGNED + 1, 0), (SIGNED + 2, 1)] {
        let (code, text) = counted(&counts(operations), folder.path());
        assert_eq!(code, expected, "{operations}: {text}");
    }
    assert!(counted(&counts(SIGNED + 2), folder.path()).1.contains("NOT OURS: 1 operations"));
    assert_eq!(counted("{}", folder.path()).0, 3);
    assert_eq!(counted(&counts(1), &folder.path().join("nowhere")).0, 3);
    std::fs::write(folder.path().join("tile/entries/000"), [0, 9, 1]).unwrap();
    assert_eq!(counted(&counts(1), folder.path()).0, 3);
}
