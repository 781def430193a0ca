//! Receipts and consistency, through the library and through the program with its exit codes.
#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "a failed unwrap is the test's failure")]

#[path = "support/folder.rs"]
mod folder;
mod support;

use chancery_format::SignatureAlgorithm;
use chancery_verify::consistency::{self, ProofFrom};
use chancery_verify::{Kind, Report, Trust, receipt};
use folder::Folder;
use support::keys::TestKey;
use support::{Writer, long, small};

fn only_kind(report: &Report) -> Kind {
    assert_eq!(report.findings().listed().len(), 1, "{}", report.to_text());
    report.findings().listed()[0].kind
}

#[test]
fn every_receipt_of_a_small_ledger_verifies_and_no_flipped_bit_of_one() {
    let writer = small();
    let trust = Trust::parse(&writer.registry_json()).unwrap();
    for index in 0..writer.next_index() {
        let json = writer.receipt(index).to_json().unwrap();
        let report = receipt::verify(json.as_bytes(), None, None, &trust);
        assert_eq!(report.exit_code(), 0, "{index}: {}", report.to_text());
        assert_eq!(report.checked()["index"], index);
    }
    let json = writer.receipt(5).to_json().unwrap().into_bytes();
    for at in 0..json.len() {
        for bit in 0..8 {
            let mut bytes = json.clone();
            bytes[at] ^= 1 << bit;
            let report = receipt::verify(&bytes, None, None, &trust);
            assert_eq!(report.exit_code(), 1, "byte {at} bit {bit}: {}", report.to_text());
        }
    }
}

#[test]
fn receipts_are_refused_by_name() {
    let writer = small();
    let trust = Trust::parse(&writer.registry_json()).unwrap();
    let check = |json: &str| receipt::verify(json.as_bytes(), None, None, &trust);
    let good = writer.receipt(5).to_json().unwrap();
    let other = writer.receipt(6).to_json().unwrap();
    assert_eq!(only_kind(&check("{}")), Kind::ReceiptInvalid);
    assert_eq!(only_kind(&check(&good.replace("\"index\":5", "\"index\":6"))), Kind::InclusionInvalid);
    let event = |json: &str| json.split("\"index\"").next().unwrap().to_owned();
    assert_eq!(only_kind(&check(&good.replace(&event(&good), &event(&other)))), Kind::InclusionInvalid);

    let without = |change: &dyn Fn(&mut Writer)| {
        let mut writer = small();
        change(&mut writer);
        let trust = Trust::parse(&writer.registry_json()).unwrap();
        receipt::verify(good.as_bytes(), None, None, &trust)
    };
    let removed = without(&|w| w.records.retain(|record| record.signer_kid.as_str() != "orders-v1"));
    assert_eq!(only_kind(&removed), Kind::SignerUnknown);
    assert_eq!(
        only_kind(&without(&|w| w.record("orders-v1").retired_index = Some(3))),
        Kind::SignerNotActive
    );
    let other = TestKey::new("orders", "orders-v9", SignatureAlgorithm::Ed25519);
    let replaced = without(&|w| w.record("orders-v1").public_key_pem = other.public_key_pem());
    assert_eq!(only_kind(&replaced), Kind::SignatureInvalid);
    let foreign = without(&|w| w.ledger_key = other.clone());
    assert_eq!(only_kind(&foreign), Kind::CheckpointInvalid);
}

#[test]
fn consistency_is_derived_from_tiles_and_entries() {
    let sizes = [5, 6, 255, 256, 257, 300, 511, 512, 513, 700];
    let archive = long(700, &sizes).archive();
    let trust = Trust::parse(&archive.signers).unwrap();
    for older in 0..sizes.len() as u64 {
        for newer in older..sizes.len() as u64 {
            let (old, new) = (archive.checkpoint(older), archive.checkpoint(newer));
            let report = consistency::verify(old, new, &ProofFrom::Archive(&archive), &trust);
            assert_eq!(report.exit_code(), 0, "{older} {newer}: {}", report.to_text());
            if older != newer {
                let backwards = consistency::verify(new, old, &ProofFrom::Archive(&archive), &trust);
                assert_eq!(only_kind(&backwards), Kind::ConsistencyInvalid);
                let without = consistency::verify(old, new, &ProofFrom::Nothing, &trust);
                assert_eq!(without.exit_code(), 3);
            }
        }
    }
    let mut damaged = archive.clone();
    damaged.files.get_mut("tile/0/000").unwrap()[0] ^= 1;
    let (old, new) = (archive.checkpoint(0), archive.checkpoint(9));
    let report = consistency::verify(old, new, &ProofFrom::Archive(&damaged), &trust);
    assert_eq!(report.exit_code(), 1);
    damaged.files.remove("tile/0/000");
    let report = consistency::verify(old, new, &ProofFrom::Archive(&damaged), &trust);
    assert_eq!(report.exit_code(), 0, "the entries are as good: {}", report.to_text());
    damaged.files.remove("tile/entries/000");
    let report = consistency::verify(archive.checkpoint(4), new, &ProofFrom::Archive(&damaged), &trust);
    assert_eq!(report.exit_code(), 3, "{}", report.to_text());
}

#[test]
fn a_proof_from_a_file_may_be_hex_or_base64() {
    use base64::Engine as _;
    let writer = small();
    let archive = writer.archive();
    let trust = Trust::parse(&archive.signers).unwrap();
    let leaf = |at: usize| chancery_format::merkle::leaf_hash(&writer.leaves[at]);
    // From 7 to 12 leaves: the nodes of RFC 6962 §2.1.2, by hand.
    let node = |a: chancery_format::Hash, b| chancery_format::merkle::node_hash(&a, &b);
    let proof = [
        leaf(6),
        leaf(7),
        node(leaf(4), leaf(5)),
        node(node(leaf(0), leaf(1)), node(leaf(2), leaf(3))),
        node(node(leaf(8), leaf(9)), node(leaf(10), leaf(11))),
    ];
    let hex: String = proof.iter().map(|hash| format!("{hash}\n")).collect();
    let standard = base64::engine::general_purpose::STANDARD;
    let base64: String = proof.iter().map(|hash| standard.encode(hash.0) + "\n").collect();
    let (old, new) = (archive.checkpoint(0), archive.checkpoint(1));
    for text in [&hex, &base64] {
        let report = consistency::verify(old, new, &ProofFrom::Text(text.as_bytes()), &trust);
        assert_eq!(report.exit_code(), 0, "{}", report.to_text());
    }
    for bad in [hex.replacen('\n', "0\n", 1), hex.lines().skip(1).collect(), "zz\n".into()] {
        let report = consistency::verify(old, new, &ProofFrom::Text(bad.as_bytes()), &trust);
        assert_eq!(only_kind(&report), Kind::ConsistencyInvalid);
    }
}

#[test]
fn the_program_s_exit_codes_and_json() {
    let writer = small();
    let archive = writer.archive();
    let folder = Folder::new(&archive);
    std::fs::write(folder.path("receipt.json"), writer.receipt(5).to_json().unwrap()).unwrap();
    std::fs::write(folder.path("old"), archive.checkpoint(0)).unwrap();
    std::fs::write(folder.path("new"), archive.checkpoint(2)).unwrap();
    std::fs::write(folder.path("junk.json"), "{}").unwrap();
    let signers = ["--signers", "signers.json"];
    let with = |arguments: &[&'static str]| [arguments, &signers].concat();

    assert!(folder.expect(0, &with(&["ledger", "archive"])).ends_with("VALID\n"));
    folder.expect(0, &with(&["ledger", "archive", "--strict", "--threads", "3", "--since", "old"]));
    folder.expect(0, &with(&["receipt", "receipt.json"]));
    folder.expect(0, &with(&["consistency", "old", "new", "--archive", "archive"]));
    folder.expect(1, &with(&["receipt", "junk.json"]));
    folder.expect(1, &with(&["consistency", "new", "old", "--archive", "archive"]));
    folder.expect(2, &["ledger", "archive"]);
    folder.expect(2, &["ledger", "archive", "--signers", "nowhere.json"]);
    folder.expect(2, &["ledger", "archive", "--signers", "junk.json"]);
    folder.expect(2, &with(&["ledger", "archive", "--threads", "0"]));
    folder.expect(2, &with(&["ledger", "s3://"]));
    folder.expect(3, &with(&["ledger", "nowhere"]));
    folder.expect(3, &with(&["ledger", "archive", "--since", "nowhere"]));
    folder.expect(3, &with(&["receipt", "nowhere.json"]));
    folder.expect(3, &with(&["consistency", "old", "new"]));
    for command in ["ledger", "receipt", "consistency"] {
        assert!(folder.expect(0, &[command, "--help"]).contains("Example"));
    }

    let json = |code: i32| -> serde_json::Value {
        serde_json::from_str(&folder.expect(code, &with(&["ledger", "archive", "--json"]))).unwrap()
    };
    let good = json(0);
    assert_eq!((&good["valid"], &good["findings"]), (&true.into(), &serde_json::json!([])));
    assert_eq!(good["checked"]["entries"], writer.next_index());
    assert_eq!(
        (&good["checked"]["signatures"], &good["checked"]["macsNotVerifiable"]),
        (&4.into(), &1.into())
    );
    assert_eq!(good["checked"]["signatureMode"], "batch");
    assert_eq!(good["checked"]["root"], writer.head().root.to_hex());

    let tail = folder.path("archive/tile/entries/000.p/7");
    let bytes = std::fs::read(&tail).unwrap();
    std::fs::write(&tail, &bytes[..bytes.len() - 1]).unwrap();
    let bad = json(1);
    assert_eq!(bad["valid"], false);
    let finding = &bad["findings"][0];
    assert_eq!((&finding["severity"], &finding["kind"]), (&"error".into(), &"tail-bundle-mismatch".into()));
    assert_eq!((&finding["index"], &finding["file"]), (&6.into(), &"tile/entries/000.p/7".into()));
    std::fs::remove_file(&tail).unwrap();
    let undecided = json(3);
    let finding = &undecided["findings"][0];
    assert_eq!((&finding["kind"], &finding["missing"]), (&"missing-file".into(), &true.into()));
}

#[test]
fn a_large_ledger_needs_little_memory_and_all_workers() {
    let mut writer = Writer::open();
    writer.activate("orders", "orders-v1", SignatureAlgorithm::Ed25519);
    writer.publish();
    for n in 0..66_000u32 {
        if n % 8 == 0 {
            writer.sign("orders-v1", "orders", &n.to_be_bytes())
        } else {
            writer.event("orders/many")
        };
        if n % 10_000 == 0 {
            writer.epoch();
        }
    }
    writer.epoch();
    let archive = writer.archive();
    assert!(archive.files.contains_key("tile/1/000"));
    let folder = Folder::new(&archive);
    let told =
        folder.expect(0, &["ledger", "archive", "--signers", "signers.json", "--threads", "4", "--json"]);
    let told: serde_json::Value = serde_json::from_str(&told).unwrap();
    assert_eq!(told["checked"]["signatures"], 8_250);
    assert_eq!(told["checked"]["tiles"], 66_003 / 256 + 1);

    let mut damaged = archive.clone();
    damaged.files.get_mut("tile/1/000").unwrap()[100] ^= 1;
    let report = damaged.verify();
    assert_eq!((only_kind(&report), report.exit_code()), (Kind::TileMismatch, 1));
    assert_eq!(report.findings().listed()[0].file.as_deref(), Some("tile/1/000"));

    // One byte of one level-0 tile: the tile is named, and nothing above it is.
    let mut damaged = archive.clone();
    damaged.files.get_mut("tile/0/007").unwrap()[64] ^= 1;
    let report = damaged.verify();
    assert_eq!(only_kind(&report), Kind::TileMismatch);
    assert_eq!(report.findings().listed()[0].index, Some(7 * 256 + 2));
}
