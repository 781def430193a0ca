//! Ledgers that a dishonest operator wrote and signed: every checkpoint verifies, and something is wrong.
//! Each row says which finding must come, at which entry.
#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "a failed unwrap is the test's failure")]

mod support;

use chancery_format::entry;
use chancery_format::registry::LedgerSection;
use chancery_format::{Hash, SignatureAlgorithm, SignersRegistry, TreeHead};
use chancery_verify::ledger::Options;
use chancery_verify::{Kind, Weight};
use support::keys::TestKey;
use support::{Archive, Next, Writer, draft, id_of, small};

const USER: &str = "spiffe://demo.example/service/orders";

/// An opened ledger with one Ed25519 key.
fn opened() -> Writer {
    let mut writer = Writer::open();
    writer.activate("orders", "orders-v1", SignatureAlgorithm::Ed25519);
    writer.publish();
    writer
}

#[track_caller]
fn expect(archive: &Archive, kind: Kind, index: Option<u64>) {
    for strict in [false, true] {
        let report = archive.verify_with(&Options { strict, ..Options::default() });
        assert_eq!(report.exit_code(), 1, "{}", report.to_text());
        let found = report.findings().listed().iter().any(|finding| {
            finding.kind == kind
                && finding.weight == Weight::Bad
                && (index.is_none() || finding.index == index)
        });
        assert!(found, "no {kind} at {index:?} in\n{}", report.to_text());
    }
}

/// Writes something wrong into an opened ledger and expects it to be found where it was written.
#[track_caller]
fn forged(kind: Kind, write: impl FnOnce(&mut Writer) -> u64) {
    let mut writer = opened();
    writer.event("orders");
    let at = write(&mut writer);
    writer.event("orders/more");
    writer.epoch();
    expect(&writer.archive(), kind, Some(at));
}

fn next(writer: &Writer, stream: &str) -> Next {
    writer.streams.get(stream).copied().unwrap_or_default()
}

/// Adds an event at another place of its stream than its own.
fn add_at(writer: &mut Writer, stream: &str, change: impl FnOnce(&mut Next)) -> u64 {
    let mut place = next(writer, stream);
    change(&mut place);
    let (id, kid) = (id_of(writer.next_index()), writer.ledger_key.signer_kid.clone());
    writer.add_at(&draft("order.paid", USER, stream, "{}"), place, &id, &kid)
}

#[test]
fn broken_chains() {
    forged(Kind::ChainBroken, |w| add_at(w, "orders", |next| next.prev = Some(Hash([7; 32]))));
    forged(Kind::ChainBroken, |w| add_at(w, "orders", |next| next.seq += 1));
    forged(Kind::ChainBroken, |w| add_at(w, "orders", |next| *next = Next::default()));
    forged(Kind::ChainBroken, |w| {
        add_at(w, "orders/new", |next| *next = Next { seq: 5, prev: Some(Hash([7; 32])) })
    });
    // Two events with the same seq: the second is a fork.
    forged(Kind::ChainBroken, |w| {
        let fork = next(w, "orders");
        w.event("orders");
        add_at(w, "orders", |next| *next = fork)
    });
}

#[test]
fn leaves_that_are_no_events() {
    let altered = |from: &'static str, to: &'static str| {
        move |w: &mut Writer| {
            let at = usize::try_from(w.event("orders")).unwrap();
            let text = String::from_utf8(w.leaves[at].clone()).unwrap();
            assert!(text.contains(from), "{from} not in {text}");
            w.leaves[at] = text.replacen(from, to, 1).into_bytes();
            at as u64
        }
    };
    forged(Kind::EventHash, altered("order.paid", "order.sent"));
    forged(Kind::EventHash, altered("\"hash\":\"", "\"hash\":\"00").clone_cut());
    forged(Kind::LeafInvalid, altered("\"version\":1", "\"version\":2"));
    forged(Kind::LeafInvalid, altered("{\"actor\"", "{ \"actor\""));
    forged(Kind::LeafInvalid, altered("\"seq\":1", "\"seq\":01"));
    forged(Kind::LeafInvalid, altered("\"version\":1}", "\"version\":1,\"x\":1}"));
    forged(Kind::LeafInvalid, |w| w.add_raw(b"{}".to_vec()));
    forged(Kind::LeafInvalid, |w| w.add_raw(Vec::new()));
}

/// Keeps the length of a hash whose first digits were replaced.
trait CloneCut {
    fn clone_cut(self) -> Box<dyn FnOnce(&mut Writer) -> u64>;
}

impl<F: FnOnce(&mut Writer) -> u64 + 'static> CloneCut for F {
    fn clone_cut(self) -> Box<dyn FnOnce(&mut Writer) -> u64> {
        Box::new(move |writer| {
            let at = self(writer);
            let leaf = &mut writer.leaves[usize::try_from(at).unwrap()];
            let member = leaf.windows(8).position(|bytes| bytes == b"\"hash\":\"").unwrap();
            leaf.drain(member + 8 + 64..member + 8 + 66);
            at
        })
    }
}

#[test]
fn names_that_are_not_theirs() {
    let add = |event_type: &'static str, actor: &'static str, stream: &'static str, json: &'static str| {
        move |w: &mut Writer| w.add(&draft(event_type, actor, stream, json))
    };
    let retired = r#"{"signer_kid":"orders-v1"}"#;
    forged(Kind::ReservedEvent, add("signer.retired", USER, "orders", retired));
    forged(Kind::ReservedEvent, add("signer.retired", USER, "chancery", retired));
    forged(Kind::ReservedEvent, add("signer.retired", "chancery", "orders", retired));
    forged(Kind::ReservedEvent, add("order.paid", "chancery", "orders", "{}"));
    forged(Kind::ReservedEvent, add("order.paid", USER, "chancery", "{}"));
    forged(Kind::ReservedEvent, add("ledger.renamed", USER, "orders", "{}"));
    forged(Kind::PayloadInvalid, add("signer.retired", "chancery", "chancery", "{}"));
    forged(
        Kind::PayloadInvalid,
        add("registry.published", "chancery", "chancery", r#"{"sha256":"x","version":2}"#),
    );
    forged(Kind::PayloadInvalid, add("signing.signature.issued", USER, "orders", "{}"));
    forged(Kind::PayloadInvalid, add("signing.signature.failed", USER, "orders", "{}"));
    forged(
        Kind::LedgerOpened,
        add(
            "ledger.opened",
            "chancery",
            "chancery",
            r#"{"formatVersion":1,"origin":"log.example/chancery"}"#,
        ),
    );
    forged(Kind::SignerUnknown, add("signer.retired", "chancery", "chancery", r#"{"signer_kid":"nobody"}"#));
    let id = |id: u64| {
        move |w: &mut Writer| {
            let kid = w.ledger_key.signer_kid.clone();
            let place = next(w, "orders");
            w.add_at(&draft("order.paid", USER, "orders", "{}"), place, &id_of(id), &kid)
        }
    };
    forged(Kind::IdMismatch, id(0));
    forged(Kind::IdMismatch, id(1 << 50));
    forged(Kind::LedgerKey, |w| {
        let (place, id) = (next(w, "orders"), id_of(w.next_index()));
        w.add_at(&draft("order.paid", USER, "orders", "{}"), place, &id, &"orders-v1".parse().unwrap())
    });
}

#[test]
fn an_id_of_the_author_s_own_is_fine() {
    let mut writer = opened();
    let mut own = draft("order.paid", USER, "orders", "{}");
    own.id = Some("order-1".parse().unwrap());
    writer.add(&own);
    writer.epoch();
    assert_eq!(writer.archive().verify().exit_code(), 0);
}

#[test]
fn a_ledger_that_was_not_opened_or_opened_by_another_name() {
    let mut writer = Writer::unopened();
    let key = writer.ledger_key.clone();
    writer.activate_key(key);
    writer.epoch();
    expect(&writer.archive(), Kind::LedgerOpened, Some(0));

    let mut writer = Writer::unopened();
    let key = writer.ledger_key.clone();
    writer.add(&chancery_format::entry::ledger_opened(&"log.example/other".parse().unwrap()));
    writer.activate_key(key);
    writer.epoch();
    expect(&writer.archive(), Kind::LedgerOpened, Some(0));
}

#[test]
fn a_co_signer_s_signature_counts_as_much_as_the_first() {
    let two = |right: bool| {
        move |w: &mut Writer| {
            w.activate("any", "any-v1", SignatureAlgorithm::EcdsaP256Sha256);
            w.activate("pq", "pq-v1", SignatureAlgorithm::MlDsa65);
            let first = w.key("any-v1").sign_message(b"right");
            let second = w.key("pq-v1").sign_message(if right { b"right" } else { b"wrong" });
            w.issue_two(("any-v1", first), ("pq-v1", second), b"right")
        }
    };
    let mut good = opened();
    two(true)(&mut good);
    good.epoch();
    let report = good.archive().verify();
    assert_eq!(report.exit_code(), 0, "{}", report.to_text());
    forged(Kind::SignatureInvalid, two(false));
    forged(Kind::SignerNotActive, |w| {
        let at = two(true)(w);
        let retired = w.retire("pq-v1");
        let (first, second) = (w.key("any-v1").sign_message(b"x"), w.key("pq-v1").sign_message(b"x"));
        assert!(retired > at);
        w.issue_two(("any-v1", first), ("pq-v1", second), b"x")
    });
}

#[test]
fn digests_are_anchored_in_the_name_of_known_keys_only() {
    let mut good = opened();
    good.activate("any", "any-v1", SignatureAlgorithm::Ed25519);
    good.anchor("any");
    good.epoch();
    let report = good.archive().verify();
    assert_eq!(report.exit_code(), 0, "{}", report.to_text());
    forged(Kind::SignerUnknown, |w| w.anchor("nobody"));
}

/// Where a key was born is told; an attestation of another key is no attestation.
#[test]
fn births_are_told_and_foreign_attestations_found() {
    let mut good = opened();
    let key = TestKey::new("any", "any-v1", SignatureAlgorithm::EcdsaP256Sha256);
    let certificate = [b"before".to_vec(), key.spki_der(), b"after".to_vec()].concat();
    let birth = |attestation| entry::BirthRecord {
        origin: "generated",
        device: Some("yubihsm2".into()),
        serial: Some("0123456789".into()),
        attestation,
        attestation_anchored: true,
    };
    good.next_birth = Some(birth(vec![certificate]));
    good.activate_key(key);
    good.epoch();
    let report = good.archive().verify_with(&Options { keys: true, ..Options::default() });
    assert_eq!(report.exit_code(), 0, "{}", report.to_text());
    assert!(
        report.to_text().contains("born in yubihsm2 0123456789, which attests it"),
        "{}",
        report.to_text()
    );
    forged(Kind::SignerMismatch, |w| {
        w.next_birth = Some(birth(vec![b"a certificate of something else".to_vec()]));
        w.activate("any", "any-v1", SignatureAlgorithm::EcdsaP256Sha256)
    });
}

#[test]
fn signatures_that_should_not_be() {
    for algorithm in TestKey::SIGNING {
        forged(Kind::SignatureInvalid, |w| {
            w.activate("any", "any-v1", algorithm);
            let mut signature = w.key("any-v1").sign_message(b"right");
            let at = signature.len() - 1;
            signature[at] ^= 1;
            w.issue("any-v1", "orders", b"right", signature)
        });
        forged(Kind::SignatureInvalid, |w| {
            w.activate("any", "any-v1", algorithm);
            let signature = w.key("any-v1").sign_message(b"right");
            w.issue("any-v1", "orders", b"wrong", signature)
        });
        forged(Kind::SignatureInvalid, |w| {
            w.activate("any", "any-v1", algorithm);
            w.issue("any-v1", "orders", b"", Vec::new())
        });
    }
    forged(Kind::SignatureInvalid, |w| {
        let other = TestKey::new("orders", "orders-other", SignatureAlgorithm::Ed25519);
        w.issue("orders-v1", "orders", b"m", other.sign_message(b"m"))
    });
    forged(Kind::SignerNotActive, |w| {
        w.retire("orders-v1");
        w.sign("orders-v1", "orders", b"late")
    });
    forged(Kind::SignerNotActive, |w| {
        let key = TestKey::new("early", "early-v1", SignatureAlgorithm::Ed25519);
        w.activate_key(key.clone());
        let activation = w.leaves.pop().unwrap();
        let mut place = next(w, "chancery");
        place.seq -= 1;
        let text = String::from_utf8(activation.clone()).unwrap();
        let prev = text.split("\"prevHash\":\"").nth(1).unwrap();
        place.prev = Some(Hash::from_hex(&prev[..64]).unwrap());
        w.streams.insert("chancery".into(), place);
        let at = w.sign("early-v1", "orders", b"early");
        w.records.pop();
        w.activate_key(key);
        at
    });
    forged(Kind::SignerCompromised, |w| {
        let at = w.next_index();
        w.record("orders-v1").compromised_since = Some(at);
        w.sign("orders-v1", "orders", b"stolen")
    });
}

#[test]
fn one_bad_signature_among_thousands_is_named() {
    let mut writer = opened();
    for n in 0..5_000u32 {
        if n == 3_456 {
            let mut signature = writer.key("orders-v1").sign_message(b"m");
            signature[40] ^= 4;
            writer.issue("orders-v1", "orders", b"m", signature);
        }
        writer.sign("orders-v1", "orders", &n.to_be_bytes());
    }
    writer.epoch();
    let archive = writer.archive();
    expect(&archive, Kind::SignatureInvalid, Some(4 + 3_456));
    assert_eq!(archive.verify().findings().bad(), 1);
}

#[test]
fn lives_of_keys_that_ledger_and_registry_tell_differently() {
    let with = |change: &dyn Fn(&mut Writer)| {
        let mut writer = small();
        change(&mut writer);
        writer.archive()
    };
    let index = |at: u64| Some(at);
    expect(&with(&|w| w.record("orders-v1").activated_index = Some(3)), Kind::SignerState, index(2));
    expect(&with(&|w| w.record("orders-v1").activated_index = None), Kind::SignerState, index(2));
    expect(&with(&|w| w.record("orders-v1").retired_index = Some(9)), Kind::SignerState, None);
    expect(&with(&|w| w.record("orders-v2").retired_index = Some(14)), Kind::SignerState, index(14));
    expect(
        &with(&|w| w.records.retain(|record| record.signer_kid.as_str() != "orders-v1")),
        Kind::SignerUnknown,
        index(2),
    );
    let other = TestKey::new("orders", "other", SignatureAlgorithm::Ed25519);
    expect(
        &with(&|w| w.record("orders-v1").public_key_pem = other.public_key_pem()),
        Kind::SignerMismatch,
        index(2),
    );
    expect(
        &with(&|w| w.record("orders-v1").kid = Some("other".parse().unwrap())),
        Kind::SignerMismatch,
        index(2),
    );
    expect(
        &with(&|w| w.record("legacy-rsa-v1").algorithm = SignatureAlgorithm::RsaSha256),
        Kind::SignerMismatch,
        None,
    );

    let mut twice = opened();
    let again = TestKey::new("orders", "orders-v1", SignatureAlgorithm::Ed25519);
    let at = twice.activate_key(again);
    twice.records.pop();
    twice.epoch();
    expect(&twice.archive(), Kind::SignerState, Some(at));
}

#[test]
fn a_registry_older_than_a_retirement_is_a_warning() {
    let mut writer = small();
    let record = writer.record("orders-v1");
    (record.retired_at, record.retired_index) = (None, None);
    let report = writer.archive().verify();
    assert_eq!(report.exit_code(), 0, "{}", report.to_text());
    let kinds: Vec<Kind> = report.findings().listed().iter().map(|finding| finding.kind).collect();
    assert_eq!(kinds, [Kind::RegistryOutdated, Kind::RegistryNotPublished]);
}

#[test]
fn foreign_registries() {
    let good = small();
    let with = |origin: &str, key: &TestKey| {
        let ledger = LedgerSection {
            origin: origin.parse().unwrap(),
            vkeys: vec![key.vkey_for(origin).vkey()],
            policy: None,
        };
        let registry = SignersRegistry::new(ledger, good.records.clone()).unwrap();
        Archive { signers: registry.to_json().unwrap(), ..good.archive() }
    };
    let other = TestKey::new("ledger", "ledger-other", SignatureAlgorithm::Ed25519);
    expect(&with(support::ORIGIN, &other), Kind::CheckpointInvalid, None);
    expect(&with("log.example/other", &good.ledger_key), Kind::CheckpointInvalid, None);
    let mut foreign = Writer::open();
    foreign.epoch();
    let theirs = Archive { signers: foreign.registry_json(), ..good.archive() };
    assert_eq!(theirs.verify().exit_code(), 1);
}

#[test]
fn checkpoints_that_disagree() {
    let forked = |root: [u8; 32]| {
        let mut writer = opened();
        let head = writer.head();
        writer.epoch_under(TreeHead { root: Hash(root), ..head });
        writer.event("orders");
        writer.epoch();
        writer.archive()
    };
    expect(&forked([9; 32]), Kind::RootMismatch, None);

    let mut grown = opened();
    grown.epoch();
    grown.event("orders");
    grown.epoch();
    let mut archive = grown.archive();
    // The same checkpoint twice, then the right one: sizes do not grow.
    let first = archive.files["checkpoint/000000000000"].clone();
    let second = archive.files.insert("checkpoint/000000000001".into(), first).unwrap();
    archive.files.insert("checkpoint/000000000002".into(), second);
    expect(&archive, Kind::CheckpointOrder, None);

    let mut witnessed = opened();
    witnessed.epoch();
    let mut archive = witnessed.archive();
    let note = archive.files.get_mut("checkpoint/000000000000").unwrap();
    note.extend_from_slice("\u{2014} witness.example AAAAAAEC\n".as_bytes());
    expect(&archive, Kind::UnknownSignature, None);
}

#[test]
fn a_size_that_no_archive_can_have_ends_quickly() {
    let mut writer = opened();
    let head = writer.head();
    writer.epoch_under(TreeHead { size: chancery_format::TreeSize(1 << 60), ..head });
    let report = writer.archive().verify();
    assert_ne!(report.exit_code(), 0, "{}", report.to_text());
    assert!(report.findings().listed().len() < 50);
}

#[test]
fn registry_versions_that_were_not_published_so() {
    let mut skipped = opened();
    skipped.publish();
    let at = usize::try_from(skipped.publish()).unwrap();
    let mut archive = {
        // Version 2 was never put on the ledger: its entry is replaced by version 3's.
        let mut writer = opened();
        let draft = chancery_format::entry::registry_published(3, &Hash([1; 32]));
        writer.add(&draft);
        writer.epoch();
        writer.archive()
    };
    assert!(at > 3);
    expect(&archive, Kind::RegistryOrder, Some(4));

    archive = small().archive();
    let first = archive.files["registry/00000001.json"].clone();
    archive.files.insert("registry/00000002.json".into(), first);
    expect(&archive, Kind::RegistrySignature, None);

    let mut resigned = small();
    resigned.records.pop();
    let other = resigned.registry_json();
    let text = chancery_format::archive::registry_note_text(&support::origin(), 2, &Hash::of(&[&other]));
    let note = resigned.note(&text).into_bytes();
    let mut archive = small().archive();
    archive.files.insert("registry/00000002.json".into(), other);
    archive.files.insert("registry/00000002.json.sig".into(), note);
    expect(&archive, Kind::RegistryMismatch, None);
}

#[test]
fn an_older_checkpoint_must_be_continued() {
    let since = |archive: &Archive, note: &[u8]| {
        archive.verify_with(&Options { since: Some(note.to_vec()), ..Options::default() })
    };
    let archive = small().archive();
    for epoch in 0..3 {
        let report = since(&archive, archive.checkpoint(epoch));
        assert_eq!(report.exit_code(), 0, "{}", report.to_text());
        assert_eq!(report.checked()["continuesOlderCheckpoint"], true);
    }
    let only = |kind: Kind, note: &[u8]| {
        let report = since(&archive, note);
        assert_eq!(report.exit_code(), 1, "{}", report.to_text());
        let kinds: Vec<Kind> = report.findings().listed().iter().map(|finding| finding.kind).collect();
        assert_eq!(kinds, [kind]);
    };
    let mut rolled_back = small();
    rolled_back.event("orders");
    rolled_back.epoch();
    only(Kind::RolledBack, rolled_back.archive().checkpoint(3));
    let mut forked = opened();
    forked.event("elsewhere");
    forked.epoch();
    only(Kind::NotConsistent, forked.archive().checkpoint(0));
    only(Kind::CheckpointInvalid, b"not a note");
}
