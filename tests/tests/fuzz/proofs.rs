//! Readers of what proves something of a ledger, of what logs and witnesses say to each other, and of the parts of a
//! leaf. What they let through has one spelling; what verifies says what it said before it was touched.

use chancery_format::committed::{AnchoredPayload, FailedPayload, IssuedPayload};
use chancery_format::completeness::Opening;
use chancery_format::cose::CoseReceipt;
use chancery_format::cosignature::CosignerKey;
use chancery_format::evidence::Evidence;
use chancery_format::heads::{EnrolledHeads, HeadName, LeafChains};
use chancery_format::log_key::LogKey;
use chancery_format::merkle::leaf_hash;
use chancery_format::note::Note;
use chancery_format::policy::Policy;
use chancery_format::reconcile::Claims;
use chancery_format::tile::{decode_tile, encode_tile};
use chancery_format::tlog_proof::TlogProof;
use chancery_format::witness::{AddCheckpoint, WitnessAnswer};
use chancery_format::{AuditEvent, Checkpoint, Hash, Intent, LeafIndex, Timestamp, chain, governance};
use chancery_verify::Trust;
use chancery_verify::compare::kept_proof;
use serde_json::Value;

use crate::samples::{self, CHAIN, Samples};
use crate::{Reader, text};

/// What proves something of a ledger, offline.
pub(crate) fn proofs() -> Vec<Reader> {
    let samples = Samples::new();
    let receipts = [("COSE receipt", samples.cose()), ("COSE head", samples.cose_head())];
    let openings = [("completeness", CHAIN), ("completeness of nothing", "stream:nobody")];
    let mut readers = vec![evidence(&samples), entry_of_a_chain(&samples), fork(&samples)];
    readers.extend(receipts.map(|(name, receipt)| cose(&samples, name, &receipt)));
    readers.extend(openings.map(|(name, of)| opening(&samples, name, of)));
    readers
}

fn evidence(samples: &Samples) -> Reader {
    let (registry, entry) = (samples.registry(), samples.entry().to_vec());
    let check = move |bytes: &[u8]| {
        let Ok(evidence) = Evidence::parse(bytes) else { return };
        let json = evidence.to_json().unwrap();
        assert_eq!(Evidence::parse(json.as_bytes()).unwrap(), evidence);
        if evidence.verify(&registry, None).is_ok() {
            assert_eq!(evidence.receipt().leaf(), entry);
            drop(evidence.verify_cose(&registry));
        }
    };
    ("evidence", samples.evidence().to_json().unwrap().into(), Box::new(check))
}

fn cose(samples: &Samples, name: &'static str, good: &CoseReceipt) -> Reader {
    let registry = samples.registry();
    let keys = [LogKey::parse(&registry.ledger.vkeys[0]).unwrap()];
    let (origin, leaf, head) =
        (registry.ledger.origin, leaf_hash(samples.entry()), samples.checkpoint().head());
    let check = move |bytes: &[u8]| {
        let Ok(receipt) = CoseReceipt::parse(bytes) else { return };
        assert_eq!(receipt.to_bytes(), bytes);
        if let Ok(place) = receipt.verify_inclusion(&leaf, &origin, &keys) {
            assert_eq!(place, (LeafIndex(3), head));
        }
        if let Ok(proven) = receipt.verify_consistency(&head, &origin, &keys) {
            assert_eq!(proven, head);
        }
    };
    (name, good.to_bytes(), Box::new(check))
}

fn opening(samples: &Samples, name: &'static str, of: &str) -> Reader {
    let (registry, opening) = (samples.registry(), samples.opening(of));
    let good = opening.to_json().unwrap();
    let check = move |bytes: &[u8]| {
        let Ok(read) = Opening::parse(bytes) else { return };
        assert_eq!(Opening::parse(read.to_json().unwrap().as_bytes()).unwrap(), read);
        // Of another name the same map can prove something else: that there is none.
        if read.clone().begin(&registry).is_ok() && read.name == opening.name {
            assert_eq!(read.head, opening.head);
        }
    };
    (name, good.into(), Box::new(check))
}

fn entry_of_a_chain(samples: &Samples) -> Reader {
    let (registry, opening, first) = (samples.registry(), samples.opening(CHAIN), samples.leaves[2].clone());
    let check = move |bytes: &[u8]| {
        // What is no JSON is not worth the signatures of an opening.
        if serde_json::from_slice::<Value>(bytes).is_err() {
            return;
        }
        let mut check = opening.clone().begin(&registry).unwrap();
        if let Ok(entry) = check.entry(bytes) {
            // The event has its own hash in it and so can be no other; whether its index is right shows at the end.
            assert_eq!(entry.leaf, first);
            assert!(check.finish().is_err(), "one entry of three");
        }
    };
    ("entry of a completeness proof", samples.first_entry().into(), Box::new(check))
}

/// Nothing made of two histories shows one.
fn fork(samples: &Samples) -> Reader {
    let trust = Trust::parse(samples.registry_file().as_bytes()).unwrap();
    let check = move |bytes: &[u8]| assert_ne!(kept_proof(bytes, &trust).exit_code(), 0, "{}", text(bytes));
    ("proof of a fork", samples.fork().into(), Box::new(check))
}

/// What logs and witnesses say to each other.
pub(crate) fn witnessing() -> Vec<Reader> {
    let samples = Samples::new();
    let (checkpoint, keys, line) = (samples.checkpoint(), [samples.witness()], samples.cosignature());
    let said = Checkpoint::parse(Note::parse(checkpoint.note()).unwrap().text).unwrap();
    vec![
        (
            "witness request",
            samples.witness_request().into(),
            Box::new(|bytes| {
                if let Ok(request) = AddCheckpoint::parse(bytes) {
                    assert_eq!(request.to_body().as_bytes(), bytes);
                }
            }),
        ),
        (
            "checkpoint",
            said.text().into(),
            Box::new(|bytes| {
                if let Some(checkpoint) = Checkpoint::parse(&text(bytes)) {
                    assert_eq!(checkpoint.text(), text(bytes));
                }
            }),
        ),
        (
            "witness answer",
            line.clone().into(),
            Box::new(move |bytes| {
                if let Ok(WitnessAnswer::Cosigned(lines)) = WitnessAnswer::read(200, bytes, &said, &keys) {
                    assert!(lines.iter().all(|(_, told)| *told == line), "{lines:?}");
                }
                drop(WitnessAnswer::read(409, bytes, &said, &keys));
            }),
        ),
        (
            "tlog-proof",
            samples.tlog_proof().into(),
            Box::new(|bytes| {
                if let Ok(proof) = TlogProof::parse(&text(bytes)) {
                    assert_eq!(proof.to_string(), text(bytes));
                }
            }),
        ),
        (
            "policy",
            samples.policy().into(),
            Box::new(|bytes| {
                if let Ok(policy) = Policy::parse(bytes) {
                    let written = policy.to_bytes();
                    assert_eq!(Policy::parse(&written).unwrap().to_bytes(), written);
                }
            }),
        ),
        (
            "cosigner key",
            samples.witness().vkey().into(),
            Box::new(|bytes| {
                if let Ok(key) = CosignerKey::parse(&text(bytes)) {
                    assert_eq!(key.vkey(), text(bytes));
                }
                drop(LogKey::parse(&text(bytes)));
            }),
        ),
    ]
}

/// `governance.requested`
const ACT: &[u8] = br#"{"act":{"kind":"resume","scope":"global"},"actSha256":"ab","by":"a","emergency":false,
"expiresTs":"2026-11-21T03:46:35.120Z","id":"q-1","reason":"r","required":2}"#;

/// Of good input each reader says what it must: otherwise nothing is tried but refusals.
#[test]
fn good_input_is_good() {
    let samples = Samples::new();
    let registry = samples.registry();
    let evidence = samples.evidence();
    assert_eq!(evidence.verify(&registry, None).unwrap().renewals.len(), 1);
    assert_eq!(evidence.verify_cose(&registry).unwrap(), Some(samples.checkpoint().head()));
    let keys = registry.log_keys().unwrap();
    let head = samples.checkpoint().head();
    assert_eq!(samples.cose_head().verify_consistency(&head, &registry.ledger.origin, &keys).unwrap(), head);
    assert!(samples.opening("stream:nobody").begin(&registry).unwrap().expected() == 0);
    let mut chain = samples.opening(CHAIN).begin(&registry).unwrap();
    assert_eq!(chain.expected(), 3);
    assert_eq!(chain.entry(samples.first_entry().as_bytes()).unwrap().leaf, samples.leaves[2]);
    let trust = Trust::parse(samples.registry_file().as_bytes()).unwrap();
    let fork = kept_proof(samples.fork().as_bytes(), &trust);
    assert_eq!(fork.findings().listed()[0].kind, chancery_verify::Kind::Fork);
    let checkpoint = samples.checkpoint();
    let said = Checkpoint::parse(Note::parse(checkpoint.note()).unwrap().text).unwrap();
    let answer = WitnessAnswer::read(200, samples.cosignature().as_bytes(), &said, &[samples.witness()]);
    assert!(matches!(answer, Ok(WitnessAnswer::Cosigned(lines)) if lines.len() == 1));
    assert!(AddCheckpoint::parse(samples.witness_request().as_bytes()).is_ok());
    assert!(TlogProof::parse(&samples.tlog_proof()).is_ok());
    assert!(Policy::parse(samples.policy().as_bytes()).is_ok());
    assert!(Intent::decode(&samples::intent().encode()).is_some());
    let payload = |index: usize| AuditEvent::read(&samples.leaves[index]).unwrap().payload.to_owned();
    assert!(IssuedPayload::parse(&payload(2)).is_some() && EnrolledHeads::parse(&payload(5)).is_some());
    let act = governance::Event::read("governance.requested", &text(ACT));
    assert!(matches!(act, Some(Ok(governance::Event::Requested(_)))), "{act:?}");
}

/// What is inside a leaf, and the small things everything is made of.
pub(crate) fn parts() -> Vec<Reader> {
    const ROW: &[u8] = br#"{"id":1,"n":-1.50e+3,"t":"\u00e9\ud83d\ude00\ud800","a":[null,true,{}],"a":1}"#;
    let samples = Samples::new();
    let payload_of = |index: usize| AuditEvent::read(&samples.leaves[index]).unwrap().payload.to_owned();
    let tile: Vec<Hash> = (0..=255).map(|byte| Hash([byte; 32])).collect();
    let governance = |bytes: &[u8]| {
        for event_type in governance::Event::TYPES {
            drop(governance::Event::read(event_type, &text(bytes)));
        }
    };
    vec![
        (
            "intent",
            samples::intent().encode(),
            Box::new(|bytes| {
                if let Some(intent) = Intent::decode(bytes) {
                    let written = intent.encode();
                    assert_eq!(Intent::decode(&written).unwrap().encode(), written);
                }
            }),
        ),
        (
            "payload",
            payload_of(2).into(),
            Box::new(move |bytes| {
                let payload = text(bytes);
                drop(IssuedPayload::parse(&payload).map(|it| (it.signature_bytes(), it.rung())));
                let _ = FailedPayload::parse(&payload);
                let _ = AnchoredPayload::parse(&payload);
                governance(bytes);
            }),
        ),
        ("act", ACT.to_vec(), Box::new(governance)),
        ("enrolled heads", payload_of(5).into(), Box::new(|bytes| _ = EnrolledHeads::parse(&text(bytes)))),
        (
            "key uses of a leaf",
            samples.leaves[2].clone(),
            Box::new(|bytes| {
                // As by whoever trusts their storage: the hash inside is not looked at.
                if let Ok(event) = AuditEvent::read(bytes) {
                    _ = Claims::default().read(2, &event);
                    let names = HeadName::all_of(&event);
                    assert!(names.len() <= 3);
                    assert_eq!(LeafChains::of_leaf(bytes).map(|found| found.names()), Some(names));
                }
            }),
        ),
        (
            "name of a chain",
            CHAIN.into(),
            Box::new(|bytes| {
                if let Ok(name) = text(bytes).parse::<HeadName>() {
                    assert_eq!(name.to_string(), text(bytes));
                }
            }),
        ),
        (
            "time",
            b"2026-11-21T03:46:35.120Z".to_vec(),
            Box::new(|bytes| {
                if let Ok(time) = text(bytes).parse::<Timestamp>() {
                    assert_eq!(time.to_string(), text(bytes));
                }
                _ = chain::dialect::read_moment(&text(bytes));
            }),
        ),
        (
            "row of another writer",
            ROW.to_vec(),
            Box::new(|bytes| {
                if let Ok(value) = chain::json::Value::parse(&text(bytes)) {
                    drop(chain::dialect::moment(&value));
                    _ = (chain::dialect::signer(&value), chain::dialect::actor(&value));
                }
            }),
        ),
        (
            "tile",
            encode_tile(&tile),
            Box::new(|bytes| {
                if let Some(hashes) = decode_tile(bytes) {
                    assert_eq!(encode_tile(&hashes), bytes);
                }
            }),
        ),
    ]
}
