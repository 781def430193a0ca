//! How many entries each stream and each key has: maps on the ledger, right and forged, and proofs from which somebody
//! took an entry, or put one in.
#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "a failed unwrap is the test's failure")]
#![allow(dead_code, reason = "the support is shared with other tests")]

mod support;

use chancery_format::completeness::{Opening, entry_line};
use chancery_format::entry::heads_enrolled;
use chancery_format::heads::{EnrolledHeads, HEADS_LAG_MAX, HeadName, HeadsMap};
use chancery_format::{AuditEvent, Hash, LeafIndex, SignatureAlgorithm, TreeSize};
use chancery_verify::progress::Silent;
use chancery_verify::{Kind, Report, Trust, completeness};
use support::Writer;

/// The map of the first `size` leaves, and what is enrolled of it.
fn map_of(writer: &Writer, size: usize) -> (HeadsMap, EnrolledHeads) {
    let mut map = HeadsMap::default();
    for (index, leaf) in writer.leaves[..size].iter().enumerate() {
        let event = AuditEvent::parse(leaf).unwrap();
        map.add(HeadName::all_of(&event), LeafIndex(index as u64), &event.hash);
    }
    let (names, root) = map.root();
    (map, EnrolledHeads { names, root, size: TreeSize(size as u64) })
}

/// A ledger of two streams and two keys, one of them a co-signer; with a map, at the index given, and an entry after it.
fn ledger() -> (Writer, HeadsMap, u64) {
    let mut writer = Writer::open();
    writer.activate("orders", "orders-v1", SignatureAlgorithm::Ed25519);
    writer.activate("second", "second-v1", SignatureAlgorithm::EcdsaP256Sha256);
    writer.publish();
    for number in 0..6u8 {
        writer.sign("orders-v1", if number % 2 == 0 { "orders" } else { "orders/eu" }, &[number]);
        writer.event("orders/eu");
    }
    let signatures = ["orders-v1", "second-v1"].map(|kid| writer.key(kid).sign_message(b"both"));
    let [first, second] = signatures;
    writer.issue_two(("orders-v1", first), ("second-v1", second), b"both");
    writer.fail("orders-v1", "orders");
    let (map, heads) = map_of(&writer, writer.leaves.len());
    let index = writer.add(&heads_enrolled(&heads));
    writer.sign("orders-v1", "orders", b"later");
    writer.epoch();
    (writer, map, index)
}

fn kinds(report: &Report) -> Vec<Kind> {
    report.findings().listed().iter().map(|finding| finding.kind).collect()
}

/// The lines of a proof about `name`, under the map at `index`.
fn proof(writer: &Writer, map: &HeadsMap, index: u64, name: &HeadName) -> Vec<String> {
    let (head, proof) = (map.settled(name).copied(), map.proof(name));
    let opening = Opening { name: name.clone(), head, proof, heads: writer.receipt(index) };
    let mut lines = vec![opening.to_json().unwrap()];
    for (at, leaf) in writer.leaves[..usize::try_from(index).unwrap()].iter().enumerate() {
        if HeadName::all_of(&AuditEvent::parse(leaf).unwrap()).contains(name) {
            lines.push(entry_line(LeafIndex(at as u64), leaf));
        }
    }
    lines
}

fn check(writer: &Writer, name: &HeadName, lines: &[String]) -> Report {
    let trust = Trust::parse(&writer.registry_json()).unwrap();
    let text: String = lines.iter().map(|line| format!("{line}\n")).collect();
    completeness::verify(&mut text.as_bytes(), name, &trust, &mut Silent)
}

fn names() -> Vec<HeadName> {
    ["stream:orders", "stream:orders/eu", "stream:chancery", "key:orders-v1", "key:second-v1"]
        .map(|name| name.parse().unwrap())
        .to_vec()
}

#[test]
fn all_entries_of_a_stream_or_a_key_are_proven() {
    let (writer, map, index) = ledger();
    let report = writer.archive().verify();
    assert_eq!((report.exit_code(), report.to_json()["checked"]["headsMaps"].as_u64()), (0, Some(1)));
    for name in names() {
        let lines = proof(&writer, &map, index, &name);
        let report = check(&writer, &name, &lines);
        assert_eq!(report.exit_code(), 0, "{name}: {}", report.to_text());
        let told = report.to_json();
        assert_eq!(told["checked"]["entries"], lines.len() - 1, "{name}");
        assert_eq!(told["checked"]["below"], index, "{name}");
    }
    let nobody: HeadName = "stream:nobody".parse().unwrap();
    let none = proof(&writer, &map, index, &nobody);
    assert_eq!((none.len(), check(&writer, &nobody, &none).exit_code()), (1, 0));
    let other = check(&writer, &"stream:other".parse().unwrap(), &none);
    assert_eq!(kinds(&other), [Kind::CompletenessInvalid]);
}

#[test]
fn whoever_hides_an_entry_is_found_out() {
    let (writer, map, index) = ledger();
    for name in names() {
        let good = proof(&writer, &map, index, &name);
        for hidden in 1..good.len() {
            let mut lines = good.clone();
            lines.remove(hidden);
            let report = check(&writer, &name, &lines);
            assert_eq!((report.exit_code(), kinds(&report)), (1, vec![Kind::NotComplete]), "{name} {hidden}");
            // Another entry in its place, the same twice, or in another order.
            for other in 1..good.len() {
                let mut lines = good.clone();
                lines[hidden] = good[other].clone();
                assert_eq!(check(&writer, &name, &lines).exit_code(), i32::from(other != hidden) as u8);
                lines[other] = good[hidden].clone();
                assert_eq!(check(&writer, &name, &lines).exit_code(), i32::from(other != hidden) as u8);
            }
        }
        // An entry that is not of it, and one that came later.
        for foreign in 0..writer.leaves.len() {
            let mut lines = good.clone();
            lines.push(entry_line(LeafIndex(foreign as u64), &writer.leaves[foreign]));
            assert_eq!(check(&writer, &name, &lines).exit_code(), 1, "{name} and {foreign}");
        }
    }
    // Of a stream it is said which one: whoever has the next one sees it.
    let stream: HeadName = "stream:orders".parse().unwrap();
    let mut lines = proof(&writer, &map, index, &stream);
    lines.remove(2);
    assert!(check(&writer, &stream, &lines).to_text().contains("the event with seq 1 is missing"));
    let mut lines = proof(&writer, &map, index, &stream);
    let there = lines.len() - 1;
    lines.pop();
    let told =
        format!("has {there} entries of stream:orders below size {index}, and {} were given", there - 1);
    assert!(check(&writer, &stream, &lines).to_text().contains(&told));
}

/// A server that hides an entry, and says so consistently: its own map has no place on the ledger.
#[test]
fn a_map_of_a_servers_own_is_not_the_enrolled_one() {
    let (writer, _, index) = ledger();
    let name: HeadName = "key:orders-v1".parse().unwrap();
    let mut patched = HeadsMap::default();
    let mut lines = Vec::new();
    for (at, leaf) in writer.leaves[..usize::try_from(index).unwrap()].iter().enumerate() {
        let event = AuditEvent::parse(leaf).unwrap();
        let mut names = HeadName::all_of(&event);
        if at == 9 {
            names.retain(|known| *known != name);
        }
        if names.contains(&name) {
            lines.push(entry_line(LeafIndex(at as u64), leaf));
        }
        patched.add(names, LeafIndex(at as u64), &event.hash);
    }
    patched.root();
    let (head, proof) = (patched.settled(&name).copied(), patched.proof(&name));
    let opening = Opening { name: name.clone(), head, proof, heads: writer.receipt(index) };
    lines.insert(0, opening.to_json().unwrap());
    let report = check(&writer, &name, &lines);
    assert_eq!((report.exit_code(), kinds(&report)), (1, vec![Kind::CompletenessInvalid]));
    // Nor can it say that there is no such key.
    let (head, proof) = (None, patched.proof(&"key:orders-v0".parse().unwrap()));
    let opening = Opening { name: name.clone(), head, proof, heads: writer.receipt(index) };
    let denied = check(&writer, &name, &[opening.to_json().unwrap()]);
    assert_eq!((denied.exit_code(), kinds(&denied)), (1, vec![Kind::CompletenessInvalid]));
}

#[test]
fn a_proof_is_read_strictly() {
    let (writer, map, index) = ledger();
    let name: HeadName = "stream:orders".parse().unwrap();
    let good = proof(&writer, &map, index, &name);
    let first = |from: &str, to: &str| {
        let mut lines = good.clone();
        assert!(lines[0].contains(from), "{from}");
        lines[0] = lines[0].replacen(from, to, 1);
        check(&writer, &name, &lines).exit_code()
    };
    assert_eq!(first("\"version\":1", "\"version\":2"), 1);
    assert_eq!(first("\"proof\":", "\"more\":1,\"proof\":"), 1);
    assert_eq!(first("\"position\":", "\"position\":1"), 1);
    assert_eq!(first("\"count\":", "\"count\":1"), 1);
    assert_eq!(first("\"last\":", "\"last\":1"), 1);
    // The receipt of another entry than a map's.
    let other = Opening::parse(good[0].as_bytes()).unwrap();
    let mut lines = good.clone();
    lines[0] = Opening { heads: writer.receipt(index - 1), ..other }.to_json().unwrap();
    assert_eq!(kinds(&check(&writer, &name, &lines)), [Kind::CompletenessInvalid]);
    assert_eq!(kinds(&check(&writer, &name, &[])), [Kind::CompletenessInvalid]);
    let mut lines = good.clone();
    lines[1] = lines[1].replacen("\"r-1\"", "\"r-2\"", 1);
    assert_eq!(kinds(&check(&writer, &name, &lines)), [Kind::LeafInvalid]);
}

#[test]
fn a_ledger_with_a_wrong_map_is_bad() {
    let right = |size: usize| {
        let (mut writer, _, _) = ledger();
        let size = if size == 0 { writer.leaves.len() } else { size };
        let (_, heads) = map_of(&writer, size);
        writer.add(&heads_enrolled(&heads));
        (writer, heads)
    };
    let verdict = |heads: &EnrolledHeads| {
        let (mut writer, _, _) = ledger();
        writer.add(&heads_enrolled(heads));
        writer.epoch();
        kinds(&writer.archive().verify())
    };
    let (mut writer, heads) = right(0);
    writer.epoch();
    assert_eq!(kinds(&writer.archive().verify()), []);
    let wrong = [
        EnrolledHeads { names: heads.names + 1, ..heads },
        EnrolledHeads { names: heads.names - 1, ..heads },
        EnrolledHeads { root: Hash([3; 32]), ..heads },
        EnrolledHeads { size: TreeSize(heads.size.0 - 1), ..heads },
        EnrolledHeads { size: TreeSize(heads.size.0 + 1), ..heads },
        EnrolledHeads { size: TreeSize(1), ..heads },
    ];
    for heads in wrong {
        assert_eq!(verdict(&heads), [Kind::HeadsMismatch], "{heads:?}");
    }
    // Maps go forward: the size of the first one again.
    let (writer, _, index) = ledger();
    assert_eq!(verdict(&map_of(&writer, usize::try_from(index).unwrap()).1), [Kind::HeadsMismatch]);
}

/// The map may lag what enrols it, but not for ever; and after lost evidence nothing is said of it.
#[test]
fn a_map_may_lag_and_is_not_guessed() {
    let lag = usize::try_from(HEADS_LAG_MAX).unwrap();
    for (more, fine) in [(0, true), (1, false)] {
        let (mut writer, _, _) = ledger();
        let (_, heads) = map_of(&writer, writer.leaves.len());
        (0..lag + more).for_each(|_| _ = writer.event("busy"));
        writer.add(&heads_enrolled(&heads));
        writer.epoch();
        let expected = if fine { vec![] } else { vec![Kind::HeadsMismatch] };
        assert_eq!(kinds(&writer.archive().verify()), expected);
    }
    let (mut writer, _, _) = ledger();
    (0..600).for_each(|_| _ = writer.event("busy"));
    let (_, heads) = map_of(&writer, writer.leaves.len());
    writer.add(&heads_enrolled(&heads));
    writer.epoch();
    let mut archive = writer.archive();
    archive.files.remove("tile/entries/001").unwrap();
    let report = archive.verify();
    assert_eq!(report.exit_code(), 3, "{}", report.to_text());
}

/// Whoever has a canary's signature on the ledger had a key nobody may use.
#[test]
fn a_signature_by_a_canary_is_bad() {
    let mut writer = Writer::open();
    writer.activate("canary", "canary-v1", SignatureAlgorithm::Ed25519);
    writer.record("canary-v1").purpose = "canary".into();
    writer.publish();
    writer.epoch();
    assert_eq!(writer.archive().verify().exit_code(), 0);
    writer.sign("canary-v1", "orders", b"found it");
    writer.epoch();
    assert_eq!(kinds(&writer.archive().verify()), [Kind::CanarySigned]);
}
