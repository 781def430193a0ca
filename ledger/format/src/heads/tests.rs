#![expect(clippy::unwrap_used, reason = "a failed unwrap is the test's failure")]

use proptest::prelude::*;

use super::*;
use crate::canonical::CanonicalJson;
use crate::chain::{After, Dialect};
use crate::event::{EventDraft, Placement};
use crate::merkle::Frontier;
use crate::timestamp::Timestamp;

fn name(number: u32) -> HeadName {
    if number.is_multiple_of(2) { format!("stream:s/{number}") } else { format!("key:k{number}") }
        .parse()
        .unwrap()
}

/// A map grown by `steps`: at step i another entry of the name of that number.
fn grown(steps: &[u32]) -> (HeadsMap, BTreeMap<HeadName, Head>) {
    let (mut map, mut heads) = (HeadsMap::default(), BTreeMap::new());
    for (index, number) in (0..).zip(steps) {
        let (name, event) = (name(*number), Hash::of(&[&number.to_be_bytes()]));
        let head = Head::after(heads.get(&name), LeafIndex(index), &event);
        assert_eq!(map.follow(&name, LeafIndex(index), &event), Some(head.count - 1));
        assert_eq!(map.follow(&name, LeafIndex(index), &event), None, "known already");
        heads.insert(name, head);
        if index % 3 == 0 {
            map.root();
        }
    }
    (map, heads)
}

/// The root as FORMAT.md says: leaves by name, in a tree of RFC 6962 that is grown elsewhere.
fn root_of(heads: &BTreeMap<HeadName, Head>) -> Hash {
    let mut tree = Frontier::new();
    for (name, head) in heads {
        let json = format!(
            "{{\"count\":{},\"hash\":\"{}\",\"last\":{},\"name\":\"{name}\"}}",
            head.count, head.hash, head.last
        );
        tree.push(leaf_hash(json.as_bytes()));
    }
    tree.root()
}

fn enrolled(map: &mut HeadsMap) -> EnrolledHeads {
    let (names, root) = map.root();
    EnrolledHeads { names, root, size: TreeSize(1000) }
}

proptest! {
    #[test]
    fn the_map_is_that_of_its_heads_and_proves_each_and_no_other(
        steps in prop::collection::vec(0u32..40, 0..120)
    ) {
        let (mut map, heads) = grown(&steps);
        prop_assert_eq!(map.len(), heads.len());
        let said = enrolled(&mut map);
        prop_assert_eq!(said.root, root_of(&heads));
        for number in 0..42 {
            let (name, other) = (name(number), name(number + 1));
            let head = heads.get(&name);
            let proof = map.proof(&name);
            prop_assert_eq!(proof.verify(&name, head, &said), Ok(()));
            let read = serde_json::to_string(&ProofJson::from(&proof)).unwrap();
            let read = serde_json::from_str::<ProofJson>(&read).unwrap().read().unwrap();
            prop_assert_eq!(&read, &proof);
            let more = Head::after(head, LeafIndex(999), &Hash([7; 32]));
            prop_assert!(proof.verify(&name, Some(&more), &said).is_err());
            prop_assert!(heads.contains_key(&other) == heads.contains_key(&name)
                || proof.verify(&other, heads.get(&other), &said).is_err());
            if head.is_some() {
                prop_assert!(proof.verify(&name, None, &said).is_err());
                prop_assert!(proof.verify(&other, head, &said).is_err());
            }
            let wrong = EnrolledHeads { root: Hash([1; 32]), ..said };
            prop_assert!(proof.verify(&name, head, &wrong).is_err());
        }
    }
}

/// Whoever hides a name must show two neighbours that are none.
#[test]
fn a_name_cannot_be_denied() {
    let (mut map, heads) = grown(&[0, 1, 2, 3, 4, 5, 6, 7, 8]);
    let said = enrolled(&mut map);
    let sorted: Vec<&HeadName> = heads.keys().collect();
    let neighbour = |at: usize| map.clone().neighbour(at);
    for (at, hidden) in sorted.iter().enumerate() {
        let last = sorted.len() - 1;
        for before in [None, at.checked_sub(1), at.checked_sub(2), Some(at), Some(last)] {
            for after in [None, Some(at + 1), Some(at + 2), Some(at), Some(0)] {
                let proof = HeadProof::Absent {
                    before: before.and_then(neighbour),
                    after: after.and_then(neighbour),
                };
                assert!(proof.verify(hidden, None, &said).is_err(), "{hidden}: {before:?}, {after:?}");
            }
        }
    }
    let nobody = HeadProof::Absent { before: None, after: None };
    let empty = EnrolledHeads { names: 0, root: merkle::empty_root(), size: TreeSize(0) };
    assert_eq!(nobody.verify(&name(1), None, &empty), Ok(()));
    assert!(nobody.verify(&name(1), None, &EnrolledHeads { names: 0, ..said }).is_err());
    let far = Neighbour { position: u64::MAX, ..neighbour(0).unwrap() };
    assert!(HeadProof::Absent { before: Some(far), after: None }.verify(&name(9), None, &said).is_err());
}

#[test]
fn names_are_a_kind_and_a_name() {
    for good in ["stream:orders", "stream:spiffe://a/b:c", "key:orders-2026"] {
        assert_eq!(good.parse::<HeadName>().unwrap().as_str(), good);
    }
    assert_eq!("stream:a".parse::<HeadName>().unwrap().stream(), Some("a"));
    assert_eq!("key:a".parse::<HeadName>().unwrap().key(), Some("a"));
    for bad in ["", "orders", "stream:", "stream:a b", "key:", "key:A", "Key:a", "stream"] {
        assert!(bad.parse::<HeadName>().is_err(), "{bad}");
    }
}

#[test]
fn an_event_is_in_its_streams_chain_and_in_those_of_its_keys() {
    let names = |event_type: &str, payload: &str| -> Vec<String> {
        let event = AuditEvent {
            actor: "a",
            chain: None,
            event_type,
            hash: Hash([0; 32]),
            id: "e",
            manifest_signature_id: None,
            metadata: None,
            payload,
            prev_hash: None,
            seq: 0,
            signer_kid: "ledger-v1",
            stream: "s",
            ts: crate::Timestamp::from_unix_ms(0).unwrap(),
        };
        HeadName::all_of(&event).iter().map(ToString::to_string).collect()
    };
    let both = r#"{"coSigner":{"kid":"b","signer_kid":"b-1"},"signer_kid":"a-1"}"#;
    for event_type in ["signing.signature.issued", "signing.signature.failed", "signer.retired"] {
        assert_eq!(names(event_type, both), ["key:a-1", "key:b-1", "stream:s"], "{event_type}");
    }
    assert_eq!(names("signer.retired", r#"{"signer_kid":"a-1"}"#), ["key:a-1", "stream:s"]);
    let same = r#"{"coSigner":{"signer_kid":"a-1"},"signer_kid":"a-1"}"#;
    assert_eq!(names("signing.signature.issued", same), ["key:a-1", "stream:s"]);
    assert_eq!(names("order.paid", both), ["stream:s"], "what services write tells of no key");
    assert_eq!(names("signing.signature.anchored", r#"{"kid":"a"}"#), ["stream:s"]);
}

fn canonical(value: &serde_json::Value) -> CanonicalJson {
    CanonicalJson::parse(value.to_string().as_bytes()).unwrap()
}

/// Any event, whose author may have written what looks like other members.
fn any_leaf() -> impl Strategy<Value = Vec<u8>> {
    let tricky =
        "(,?\"(payload|prevHash|stream|hash|eventType|signer_kid|coSigner)\":?[\"{]?|[a-z\\\\\"é]){0,8}";
    let kid = "([a-b]-1|A b|[\"é])";
    let payload = (prop::option::of(kid), prop::option::of(kid), tricky).prop_map(|(first, second, text)| {
        let told =
            serde_json::json!({"coSigner": {"signer_kid": second}, "signer_kid": first, "payload": text});
        canonical(&told)
    });
    let types = vec!["signing.signature.issued", "signer.retired", "order.paid", "ledger.heads"];
    let more = prop::option::of(tricky);
    (prop::sample::select(types), payload, more, any::<bool>(), 0..2u64).prop_map(
        |(event_type, payload, more, has_manifest, seq)| {
            let metadata = more.map(|text| serde_json::json!({"payload": {"signer_kid": "m-1"}, "z": text}));
            let draft = EventDraft {
                event_type: event_type.parse().unwrap(),
                actor: "a".parse().unwrap(),
                stream: "s/1".parse().unwrap(),
                payload,
                id: None,
                ts: None,
                manifest_signature_id: has_manifest.then(|| "m-1".parse().unwrap()),
                metadata: metadata.as_ref().map(canonical),
            };
            let (id, signer_kid) = ("e-1".parse().unwrap(), "ledger-v1".parse().unwrap());
            let (prev_hash, ts) = ((seq > 0).then_some(Hash([9; 32])), Timestamp::from_unix_ms(0).unwrap());
            let chain = (seq > 0).then_some(After { dialect: Dialect::Kernel, previous: None });
            let place = Placement { id: &id, seq, prev_hash, signer_kid: &signer_kid, ts, chain };
            draft.place(&place).unwrap().into_bytes()
        },
    )
}

proptest! {
    #[test]
    fn what_is_found_in_a_leaf_is_what_reading_all_of_it_finds(leaf in any_leaf()) {
        let event = AuditEvent::parse(&leaf).unwrap();
        let found = LeafChains::of_leaf(&leaf).unwrap();
        prop_assert_eq!(found, LeafChains::of(&event));
        prop_assert_eq!(found.names(), HeadName::all_of(&event));
        for end in 0..leaf.len() {
            // Whatever it finds in less, it ends.
            let _ = LeafChains::of_leaf(leaf.get(..end).unwrap());
        }
    }
}
