//! FORMAT.md cannot drift: its `vector` blocks are executed here.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a failed unwrap is the test's failure")]

use chancery_format::cose::CoseReceipt;
use chancery_format::cosignature::{CosignedAt, CosignerKey, cosignatures};
use chancery_format::evidence::Evidence;
use chancery_format::heads::HeadsMap;
use chancery_format::log_key::LogKey;
use chancery_format::merkle::{Frontier, leaf_hash};
use chancery_format::note::{Note, NoteVerifier};
use chancery_format::policy::Policy;
use chancery_format::{AuditEvent, Checkpoint, EventId, Hash, LeafIndex, PublicKey};
use ml_dsa::{ExpandedSigningKey, MlDsa44};

const FORMAT: &str = include_str!("../FORMAT.md");

/// Every fenced `vector KIND` block.
fn vectors() -> Vec<(&'static str, &'static str)> {
    let blocks = FORMAT.split("```vector ").skip(1);
    blocks.map(|block| block.split_once("\n```").unwrap().0.split_once('\n').unwrap()).collect()
}

fn word<'a>(line: &'a str, name: &str) -> &'a str {
    line.strip_prefix(name).unwrap_or_else(|| panic!("{line} does not begin with {name}")).trim()
}

fn id(block: &str) {
    let lines: Vec<&str> = block.lines().collect();
    let [origin, index, expected] = lines.as_slice() else { panic!("{block}") };
    let [a, b, c, d, e, f, ..] = Hash::of(&[word(origin, "origin").as_bytes()]).0;
    let index = LeafIndex(word(index, "index").parse().unwrap());
    assert_eq!(EventId::from_index([a, b, c, d, e, f], index).as_str(), word(expected, "id"));
}

fn tree(block: &str) {
    let mut lines = block.lines();
    let leaves = word(lines.next().unwrap(), "leaves")
        .split(' ')
        .map(|leaf| hex::decode(leaf.trim_matches('"')).unwrap());
    let leaves: Vec<Vec<u8>> = leaves.collect();
    for line in lines {
        let (size, root) = word(line, "size").split_once(' ').unwrap();
        let mut frontier = Frontier::new();
        leaves.iter().take(size.parse().unwrap()).for_each(|leaf| frontier.push(leaf_hash(leaf)));
        assert_eq!(frontier.root().to_hex(), root, "size {size}");
    }
}

fn heads(block: &str) {
    let mut map = HeadsMap::default();
    let (entries, root) = block.rsplit_once('\n').unwrap();
    for line in entries.lines() {
        let words: Vec<&str> = word(line, "entry").split(' ').collect();
        let [index, name, hash] = words.as_slice() else { panic!("{line}") };
        let index = LeafIndex(index.parse().unwrap());
        map.add(vec![name.parse().unwrap()], index, &Hash::from_hex(hash).unwrap());
    }
    assert_eq!(map.root().1.to_hex(), word(root, "root"));
}

fn note(block: &str) {
    let (vkey, note) = block.split_once('\n').unwrap();
    let keys = [NoteVerifier::parse(word(vkey, "vkey")).unwrap()];
    let note = format!("{note}\n");
    assert_eq!(Note::parse(&note).unwrap().verify(&keys).unwrap().len(), 1);
}

fn cosignature(block: &str) {
    let (vkey, rest) = block.split_once('\n').unwrap();
    let (time, note) = rest.split_once('\n').unwrap();
    let keys = [CosignerKey::parse(word(vkey, "vkey")).unwrap()];
    let note = format!("{note}\n");
    let note = Note::parse(&note).unwrap();
    let found = cosignatures(&note, &Checkpoint::parse(note.text).unwrap(), &keys).unwrap();
    let times: Vec<u64> = found.iter().map(|(_, found)| found.timestamp.seconds()).collect();
    assert_eq!(times, [word(time, "time").parse::<u64>().unwrap()]);
}

/// The key of a seed, what it signs of a checkpoint, and the line with its deterministic signature.
fn ml_dsa(block: &str) {
    let mut lines = block.splitn(7, '\n');
    let mut next = |name: &str| word(lines.next().unwrap(), name).to_owned();
    let (seed, id, vkey) = (hex::decode(next("seed")).unwrap(), next("id"), next("vkey-sha256"));
    let (time, message, line) = (next("time").parse().unwrap(), next("message"), next("line-sha256"));
    let checkpoint = Checkpoint::parse(&format!("{}\n", lines.next().unwrap())).unwrap();
    let private = ExpandedSigningKey::<MlDsa44>::from_seed(&seed.as_slice().try_into().unwrap());
    let raw = private.verifying_key().encode().as_slice().try_into().unwrap();
    let public = PublicKey::from_ml_dsa_44_raw(&raw).unwrap();
    let key = CosignerKey::new(checkpoint.origin().as_str(), public).unwrap();
    assert_eq!(hex::encode(key.key_id()), id);
    assert_eq!(Hash::of(&[key.vkey().as_bytes()]).to_hex(), vkey);
    let at = CosignedAt::new(time).unwrap();
    assert_eq!(hex::encode(key.message(&checkpoint, at)), message);
    let signature = private.sign_deterministic(&key.message(&checkpoint, at), &[]).unwrap().encode();
    let made = key.line(at, &signature).unwrap();
    assert_eq!(Hash::of(&[made.as_bytes()]).to_hex(), line);
    let note = format!("{}\n{made}", checkpoint.text());
    assert_eq!(cosignatures(&Note::parse(&note).unwrap(), &checkpoint, &[key]).unwrap().len(), 1);
}

fn policy(block: &str) {
    let file = format!("{block}\n").into_bytes();
    assert_eq!(Policy::parse(&file).unwrap().to_bytes(), file);
}

fn cose(block: &str) {
    let lines: Vec<&str> = block.lines().collect();
    let [vkey, leaf, index, receipt] = lines.as_slice() else { panic!("{block}") };
    let keys = [LogKey::parse(word(vkey, "vkey")).unwrap()];
    let leaf = leaf_hash(&hex::decode(word(leaf, "leaf")).unwrap());
    let receipt = CoseReceipt::parse(&hex::decode(word(receipt, "receipt")).unwrap()).unwrap();
    let origin = keys.first().unwrap().name().parse().unwrap();
    let (found, _) = receipt.verify_inclusion(&leaf, &origin, &keys).unwrap();
    assert_eq!(found, LeafIndex(word(index, "index").parse().unwrap()));
}

fn evidence(block: &str) {
    let (policy, json) = block.split_once("\n{").unwrap();
    let (policy, json) = (Policy::parse(format!("{policy}\n").as_bytes()).unwrap(), format!("{{{json}"));
    let evidence = Evidence::parse(json.as_bytes()).unwrap();
    assert_eq!(evidence.to_json().unwrap(), json);
    let verified = evidence.verify(evidence.registry().registry(), None).unwrap();
    assert!(!verified.renewals.is_empty());
    for renewal in &verified.renewals {
        assert!(policy.verify(renewal.note(), None).unwrap().quorum_met());
    }
}

#[test]
fn every_example_of_the_format_is_true() {
    let mut kinds = Vec::new();
    for (kind, block) in vectors() {
        match kind {
            "id" => id(block),
            "leaf" => {
                AuditEvent::parse(block.as_bytes()).unwrap();
            }
            "tree" => tree(block),
            "note" => note(block),
            "cosignature" => cosignature(block),
            "ml-dsa" => ml_dsa(block),
            "policy" => policy(block),
            "cose" => cose(block),
            "heads" => heads(block),
            "evidence" => evidence(block),
            other => panic!("no check for vectors of kind {other}"),
        }
        kinds.push(kind);
    }
    let all = "id leaf leaf tree note cosignature ml-dsa heads policy cose evidence";
    assert_eq!(kinds.join(" "), all);
}

#[test]
fn every_event_type_of_the_code_is_described() {
    use chancery_format::entry::event_type::*;
    let own = [ISSUED, FAILED, ABANDONED, OPENED, ACTIVATED, RETIRED, REGISTRY, REFUSED, POLICY, VERDICT];
    for kind in own.iter().chain(chancery_format::governance::Event::TYPES) {
        assert!(FORMAT.contains(&format!("`{kind}`")), "{kind}");
    }
}
