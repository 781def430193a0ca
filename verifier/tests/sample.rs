//! Samples of a ledger: what is drawn is verified, what is bad among it is found, and what is said of the rest holds.
#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "a failed unwrap is the test's failure")]

#[path = "support/folder.rs"]
mod folder;
mod support;

use chancery_format::SignatureAlgorithm;
use chancery_verify::progress::Silent;
use chancery_verify::sample::{self, Options, draw};
use chancery_verify::{Kind, Report, Trust};
use folder::Folder;
use serde_json::{Value, json};
use support::{Archive, Writer, draft, long, small};

fn options(entries: u64, seed: &str) -> Options {
    Options { entries, confidence: 0.99, seed: seed.to_owned(), since: None, threads: Some(3) }
}

fn sampled(archive: &Archive, options: &Options) -> Report {
    let trust = Trust::parse(&archive.signers).unwrap();
    sample::verify(archive, &trust, options, &mut Silent)
}

fn kinds(report: &Report) -> Vec<Kind> {
    report.findings().listed().iter().map(|finding| finding.kind).collect()
}

#[test]
fn a_sample_of_a_good_ledger_says_how_good_it_is_and_reads_little() {
    let archive = long(6_000, &[300, 1_000]).archive();
    let report = sampled(&archive, &options(6, "little"));
    let checked = report.checked();
    assert_eq!(report.exit_code(), 0, "{}", report.to_text());
    assert_eq!((&checked["entries"], &checked["sample"]["of"]), (&json!(6), &json!(6_000)));
    assert_eq!((&checked["sample"]["seed"], &checked["sample"]["bad"]), (&json!("little"), &json!(0)));
    let (read, total) = (checked["bytesRead"].as_u64().unwrap(), checked["bytesTotal"].as_u64().unwrap());
    assert_eq!(total, archive.files.values().map(|file| file.len() as u64).sum::<u64>());
    assert!(read > 0 && read * 2 < total, "{read} of {total}");
    let text = report.to_text();
    for said in [
        "a sample: 6 of 6,000 entries",
        "with 99 % confidence fewer than 53.6 % of all entries are",
        "not checked:",
        "the chains and the order of streams",
    ] {
        assert!(text.contains(said), "{said}: {text}");
    }
    let report = sampled(&archive, &options(460, "more"));
    assert!(report.to_text().contains("fewer than 1 in 100 of all entries"), "{}", report.to_text());
    assert!(report.checked()["signatures"].as_u64().unwrap() > 20);
    // With more drawn than there are, all are verified, and that is what is said.
    let report = sampled(&small().archive(), &options(1_000, "all"));
    assert_eq!(report.exit_code(), 0, "{}", report.to_text());
    assert_eq!(
        (&report.checked()["signatures"], &report.checked()["sample"]["badShareBelow"]),
        (&json!(4), &json!(0.0))
    );
    assert!(report.to_text().contains("every entry was drawn, and none is bad"));
}

#[test]
fn every_entry_verifies_whatever_the_size_and_the_threads() {
    for size in [255, 256, 257, 511, 512, 700] {
        let archive = long(size, &[]).archive();
        for threads in [1, 2, 7] {
            let options = Options { threads: Some(threads), ..options(size, "all") };
            let report = sampled(&archive, &options);
            assert_eq!(
                (report.exit_code(), &report.checked()["entries"]),
                (0, &json!(size)),
                "{}",
                report.to_text()
            );
        }
    }
    let empty = Archive { signers: small().archive().signers, ..Archive::default() };
    let report = sampled(&empty, &options(5, "x"));
    assert_eq!((report.exit_code(), kinds(&report)), (3, vec![Kind::NoCheckpoint]));
}

/// Where an entry begins in its bundle.
fn place_in(bundle: &[u8], within: u64) -> usize {
    (0..within).fold(0, |at, _| at + 2 + usize::from(u16::from_be_bytes([bundle[at], bundle[at + 1]])))
}

#[test]
fn an_altered_entry_is_found_if_it_was_drawn_and_only_then() {
    let good = long(700, &[]).archive();
    let drawn = draw("hunt", 30, 700);
    let altered = |index: u64| {
        let mut archive = good.clone();
        let name = if index < 512 {
            format!("tile/entries/{:03}", index / 256)
        } else {
            "tile/entries/002.p/188".into()
        };
        let bundle = archive.files.get_mut(&name).unwrap();
        let at = place_in(bundle, index % 256);
        bundle[at + 2 + 12] ^= 1;
        sampled(&archive, &options(30, "hunt"))
    };
    for index in drawn.iter().filter(|index| **index < 512).take(5) {
        let report = altered(*index);
        assert_eq!(kinds(&report), [Kind::InclusionInvalid], "{}", report.to_text());
        let found = &report.findings().listed()[0];
        assert_eq!((found.index, report.exit_code()), (Some(*index), 1));
        assert_eq!(
            (&report.checked()["sample"]["bad"], &report.checked()["sample"]["badShareBelow"]),
            (&json!(1), &Value::Null)
        );
        assert!(!report.to_text().contains("confidence"), "{}", report.to_text());
    }
    for index in (0..512).filter(|index| !drawn.contains(index)).take(5) {
        assert_eq!(altered(index).exit_code(), 0, "{index}");
    }
}

/// Puts something where it should not be; its index.
type Enrol = &'static dyn Fn(&mut Writer) -> u64;

#[test]
fn what_a_holder_of_the_ledger_key_enrolled_wrongly_is_found() {
    let wrong: [(Enrol, Kind); 5] = [
        (&|w| w.issue("orders-v1", "orders", b"x", vec![7; 64]), Kind::SignatureInvalid),
        (&|w| w.add(&draft("signer.retired", "mallory", "orders", "{}")), Kind::ReservedEvent),
        (&|w| w.add_raw(b"{}".to_vec()), Kind::LeafInvalid),
        (
            &|w| {
                w.retire("orders-v1");
                w.sign("orders-v1", "orders", b"late")
            },
            Kind::SignerNotActive,
        ),
        (
            &|w| {
                w.activate("more", "more-v1", SignatureAlgorithm::Ed25519);
                w.record("more-v1").algorithm = SignatureAlgorithm::Ed25519ph;
                w.sign("more-v1", "orders", b"x")
            },
            Kind::SignerMismatch,
        ),
    ];
    for (enrol, kind) in wrong {
        let mut writer = long(300, &[]);
        let index = enrol(&mut writer);
        writer.epoch();
        let report = sampled(&writer.archive(), &options(1_000, "all"));
        let found: Vec<_> =
            report.findings().listed().iter().map(|found| (found.kind, found.index.unwrap())).collect();
        assert!(found.contains(&(kind, index)), "{kind}: {}", report.to_text());
        assert!(found.iter().all(|(_, index)| *index >= 300), "{kind}: {}", report.to_text());
    }
}

#[test]
fn a_bad_share_is_found_about_as_often_as_stated() {
    let mut writer = Writer::open();
    writer.activate("orders", "orders-v1", SignatureAlgorithm::Ed25519);
    writer.publish();
    while writer.next_index() < 600 {
        match writer.next_index() % 20 {
            7 => writer.issue("orders-v1", "orders", b"x", vec![9; 64]),
            _ => writer.event("orders"),
        };
    }
    writer.epoch();
    let archive = writer.archive();
    // 5 % are bad, and 20 of 600 are drawn: missed with 0.95^20 = 35.8 % at most, 35.2 % exactly; over 200 fixed seeds
    // that is 70 with a deviation of 6.8.
    let missed = (0..200)
        .filter(|seed| sampled(&archive, &options(20, &format!("seed {seed}"))).exit_code() == 0)
        .count();
    assert!((48..=92).contains(&missed), "{missed} of 200");
}

#[test]
fn what_is_missing_leaves_it_undecided() {
    let mut archive = long(700, &[]).archive();
    archive.files.remove("tile/entries/001");
    let report = sampled(&archive, &options(100, "x"));
    assert_eq!(report.exit_code(), 3, "{}", report.to_text());
    assert!(report.checked()["sample"]["undecided"].as_u64().unwrap() > 10);
    assert_eq!(report.checked()["sample"]["badShareBelow"], Value::Null);
    // Names cost nothing: whatever is missing is told, drawn from or not.
    let mut archive = long(700, &[]).archive();
    archive.files.remove("tile/0/001");
    archive.files.insert("extra".into(), vec![]);
    let mut told = kinds(&sampled(&archive, &options(1, "x")));
    told.sort();
    assert_eq!(told, [Kind::UnknownFile, Kind::MissingFile]);
}

#[test]
fn the_older_checkpoint_must_be_continued() {
    let archive = long(700, &[300]).archive();
    let with = |archive: &Archive, note: &[u8]| {
        sampled(archive, &Options { since: Some(note.to_vec()), ..options(5, "x") })
    };
    let report = with(&archive, archive.checkpoint(0));
    assert_eq!((report.exit_code(), &report.checked()["continuesOlderCheckpoint"]), (0, &json!(true)));
    let shorter = long(299, &[]).archive();
    assert_eq!(kinds(&with(&shorter, archive.checkpoint(0))), [Kind::RolledBack]);
    let mut other = Writer::open();
    while other.next_index() < 300 {
        other.event("elsewhere");
    }
    other.epoch();
    let report = with(&archive, other.archive().checkpoint(0));
    assert_eq!(
        (kinds(&report), &report.checked()["continuesOlderCheckpoint"]),
        (vec![Kind::NotConsistent], &json!(false))
    );
}

#[test]
fn the_program_draws_by_number_or_by_confidence_and_repeats_a_seed() {
    let folder = Folder::new(&long(5_000, &[]).archive());
    let expect = |code: i32, arguments: &[&str]| {
        folder.expect(code, &[&["ledger", "archive", "--signers", "signers.json"], arguments].concat())
    };
    let json = |arguments: &[&str]| -> Value {
        serde_json::from_str(&expect(0, &[arguments, &["--json"]].concat())).unwrap()
    };
    let told = json(&["--tolerate", "0.001", "--seed", "again"]);
    assert_eq!(
        (&told["checked"]["sample"]["drawn"], &told["checked"]["sample"]["confidence"]),
        (&json!(4_603), &json!(0.99))
    );
    assert!(
        expect(0, &["--tolerate", "0.001"])
            .contains("with 99 % confidence fewer than 1 in 1,000 of all entries are")
    );
    assert_eq!(json(&["--tolerate", "0.01", "--confidence", "0.95"])["checked"]["sample"]["drawn"], 299);
    assert_eq!(json(&["--sample", "7", "--seed", "again"]), json(&["--sample", "7", "--seed", "again"]));
    let seed = |told: Value| told["checked"]["sample"]["seed"].as_str().unwrap().to_owned();
    let (one, two) = (seed(json(&["--sample", "7"])), seed(json(&["--sample", "7"])));
    assert!(one.len() == 32 && one != two, "{one} {two}");
    for wrong in [
        &["--sample", "0"][..],
        &["--sample", "1000001"],
        &["--tolerate", "0.0000001"],
        &["--tolerate", "1"],
        &["--sample", "5", "--confidence", "0"],
        &["--sample", "5", "--tolerate", "0.1"],
        &["--sample", "5", "--report", "x.html"],
        &["--tolerate", "0.1", "--acts"],
        &["--seed", "x"],
    ] {
        expect(2, wrong);
    }
}
