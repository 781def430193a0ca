#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "a failed unwrap is the test's failure")]

use super::*;
use crate::canonical::CanonicalJson;
use crate::event::{EventDraft, EventError, Placement};

const PAYLOAD: &str = r#"{"10":"ten","9":"nine","tag":"<b>"}"#;

fn leaf(dialect: Dialect, previous: Option<Hash>) -> Vec<u8> {
    let draft = EventDraft {
        event_type: "order.paid".parse().unwrap(),
        actor: "alice".parse().unwrap(),
        stream: "audit".parse().unwrap(),
        payload: CanonicalJson::parse(PAYLOAD.as_bytes()).unwrap(),
        id: None,
        ts: None,
        manifest_signature_id: None,
        metadata: Some(CanonicalJson::parse(b"{\"m\":1}").unwrap()),
    };
    let place = Placement {
        id: &"e-1".parse().unwrap(),
        seq: 0,
        prev_hash: None,
        signer_kid: &"ledger-v1".parse().unwrap(),
        ts: "2026-11-21T03:46:35.120Z".parse().unwrap(),
        chain: Some(After { dialect, previous }),
    };
    draft.place(&place).unwrap().into_bytes()
}

fn made() -> impl Iterator<Item = Dialect> {
    Dialect::ALL.into_iter().filter(|dialect| dialect.can_be_made())
}

/// What is hashed, written out by hand from the table of writers.
#[test]
fn each_dialects_hash_is_over_what_its_writer_hashes() {
    let before = Hash([0xAB; 32]);
    let hex = before.to_hex();
    let rebuilt = r#"{"9":"nine","10":"ten","tag":"<b>"}"#;
    let kernel = format!(
        "{{\"eventType\":\"order.paid\",\"payload\":{rebuilt},\"prevHash\":\"{hex}\",\"ts\":\"2026-11-21T03:46:35.120Z\"}}"
    );
    let shared = format!(
        "{{\"actor_id\":\"alice\",\"created_at\":\"2026-11-21T03:46:35.120Z\",\"event_type\":\"order.paid\",\
         \"payload\":{rebuilt},\"prev_hash\":\"{hex}\"}}"
    );
    let go = r#"{"10":"ten","9":"nine","tag":"\u003cb\u003e"}"#;
    for (dialect, expected) in [
        (Dialect::Kernel, Hash::of(&[kernel.as_bytes()])),
        (Dialect::Shared, Hash::of(&[shared.as_bytes()])),
        (Dialect::KernelGo, Hash::of(&[go.as_bytes(), &before.0])),
        (Dialect::AgentManager, Hash::of(&[PAYLOAD.as_bytes(), &before.0])),
        (Dialect::MemoryLayer, Hash::of(&[PAYLOAD.as_bytes(), &before.0])),
        (Dialect::KernelServer, Hash::of(&[PAYLOAD.as_bytes(), &before.0])),
    ] {
        let leaf = leaf(dialect, Some(before));
        let link = AuditEvent::parse(&leaf).unwrap().chain.unwrap();
        assert_eq!(link, Link { dialect, hash: expected, previous: Some(before) }, "{dialect}");
    }
    let first = leaf(Dialect::AgentManager, None);
    let first = AuditEvent::parse(&first).unwrap().chain.unwrap();
    assert_eq!(first.hash, Hash::of(&[PAYLOAD.as_bytes()]));
}

#[test]
fn a_chained_leaf_is_canonical_and_no_bit_of_it_can_be_flipped() {
    for dialect in made() {
        for previous in [None, Some(Hash([7; 32]))] {
            let leaf = leaf(dialect, previous);
            let value: serde_json::Value = serde_json::from_slice(&leaf).unwrap();
            assert_eq!(serde_jcs::to_vec(&value).unwrap(), leaf);
            for at in 0..leaf.len() {
                let mut bytes = leaf.clone();
                bytes[at] ^= 1;
                assert!(AuditEvent::parse(&bytes).is_err(), "{dialect}, byte {at}");
            }
        }
    }
}

/// Whoever has the stream's hash redone still meets the chain's.
#[test]
fn a_leaf_whose_own_hash_was_made_anew_still_has_the_wrong_link() {
    let leaf = String::from_utf8(leaf(Dialect::AgentManager, None)).unwrap();
    let changed = leaf.replace("\"nine\"", "\"five\"");
    let hash = AuditEvent::read(changed.as_bytes()).unwrap().hash.to_hex();
    let cut = changed.replace(&format!("\"hash\":\"{hash}\",\"id\""), "\"id\"");
    let anew = changed.replace(&hash, &Hash::of(&[cut.as_bytes()]).to_hex());
    assert!(matches!(AuditEvent::parse(anew.as_bytes()), Err(EventError::LinkMismatch)));
}

#[test]
fn a_row_is_recognised_and_has_the_hash_it_says() {
    for dialect in made() {
        let leaf = leaf(dialect, Some(Hash([7; 32])));
        let event = AuditEvent::parse(&leaf).unwrap();
        let link = event.chain.unwrap();
        let text = dialect.row(&event, &link, RowSignature { signer_kid: "k", signature: "c2ln" });
        let row = Value::parse(&text).unwrap();
        assert!(dialect.looks_like(&row), "{text}");
        assert_eq!(dialect.hash(&row, dialect.modes()[0]).unwrap(), link.hash, "{dialect}");
        assert_eq!(dialect::stored(&row).unwrap().is_some(), dialect.stores_hash());
        assert_eq!(
            (dialect::signature(&row), dialect::signer(&row).is_some()),
            (Some("c2ln"), !dialect.is_signer_lost())
        );
    }
}
