//! Whatever happens to an archived file, the verifier does not say *valid*, and it names the place.
//!
//! Every bit of every byte of a tiny ledger; one bit of every byte of one with all algorithms; the same of a
//! ledger with full tiles (every 31st byte of its tiles and bundles, all if `CHANCERY_FULL_FLIPS` is set); every file removed, truncated, extended, emptied,
//! duplicated under another name, and swapped with every other.
#![expect(clippy::unwrap_used, reason = "a failed unwrap is the test's failure")]

mod support;

use std::sync::atomic::{AtomicUsize, Ordering};

use chancery_format::archive::ObjectName;
use chancery_format::tile::{TilePath, WIDTH};
use chancery_verify::ledger::Options;
use chancery_verify::progress::Silent;
use chancery_verify::{Finding, Report, Trust, Weight, ledger};
use support::{Archive, long, small, tiny};

/// Runs `check` for every item, on all cores.
fn in_parallel<T: Sync>(items: &[T], check: impl Fn(&T) + Sync) {
    let next = AtomicUsize::new(0);
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                while let Some(item) = items.get(next.fetch_add(1, Ordering::Relaxed)) {
                    check(item);
                }
            });
        }
    });
}

/// Whether a finding is about this file: by its name, or by the index of an entry it holds.
fn names(finding: &Finding, file: &str) -> bool {
    let by_name = finding.file.as_deref().is_some_and(|named| {
        named == file || named.strip_suffix(".sig") == Some(file) || file.strip_suffix(".sig") == Some(named)
    });
    let by_index = match ObjectName::parse(file) {
        Some(ObjectName::Tile(TilePath { level: None | Some(0), index, .. })) => {
            finding.index.is_some_and(|at| at / WIDTH == index)
        }
        _ => false,
    };
    by_name || by_index
}

fn assert_found(report: &Report, files: &[&str], what: &dyn std::fmt::Display) {
    assert_ne!(report.exit_code(), 0, "{what}: not found");
    for file in files {
        let named = report
            .findings()
            .listed()
            .iter()
            .any(|finding| finding.weight != Weight::Warning && names(finding, file));
        assert!(named, "{what}: {file} not named in\n{}", report.to_text());
    }
}

struct Flip {
    file: String,
    at: usize,
    bit: u8,
}

fn check_flips(archive: &Archive, flips: &[Flip]) {
    let trust = Trust::parse(&archive.signers).unwrap();
    let options = Options { threads: Some(1), ..Options::default() };
    in_parallel(flips, |flip| {
        let mut archive = archive.clone();
        *archive.files.get_mut(&flip.file).unwrap().get_mut(flip.at).unwrap() ^= 1 << flip.bit;
        let report = ledger::verify(&archive, &trust, &options, &mut Silent);
        assert_found(
            &report,
            &[&flip.file],
            &format_args!("{} byte {} bit {}", flip.file, flip.at, flip.bit),
        );
    });
}

#[test]
fn good_ledgers_are_valid() {
    for archive in [tiny().archive(), small().archive(), long(700, &[9, 256, 300, 511, 513]).archive()] {
        for strict in [false, true] {
            let report = archive.verify_with(&Options { strict, ..Options::default() });
            assert_eq!(report.exit_code(), 0, "{}", report.to_text());
            assert_eq!(report.findings().warnings(), 0, "{}", report.to_text());
        }
    }
}

/// Flips in every file: of every byte, or every `step`th of those under `tile/`, the bits that `bits` gives.
fn flips(archive: &Archive, step: usize, bits: impl Fn(usize) -> Vec<u8>) -> Vec<Flip> {
    let mut flips = Vec::new();
    for (file, bytes) in &archive.files {
        let step = if file.starts_with("tile/") { step } else { 1 };
        for at in (bytes.len() % step..bytes.len()).step_by(step) {
            flips.extend(bits(at + bytes.len()).into_iter().map(|bit| Flip { file: file.clone(), at, bit }));
        }
    }
    flips
}

/// One of the eight bits, scattered.
fn one_bit(seed: usize) -> Vec<u8> {
    vec![u8::try_from(seed.wrapping_mul(0x9E37_79B9) >> 7 & 7).unwrap()]
}

#[test]
fn every_flipped_bit_of_a_tiny_ledger_is_found() {
    let archive = tiny().archive();
    let flips = flips(&archive, 1, |_| (0..8).collect());
    assert!(flips.len() > 50_000, "{} flips", flips.len());
    check_flips(&archive, &flips);
}

#[test]
fn a_flipped_bit_of_every_byte_of_a_small_ledger_is_found() {
    let archive = small().archive();
    check_flips(&archive, &flips(&archive, 1, one_bit));
}

#[test]
fn flipped_bytes_of_a_ledger_with_full_tiles_are_found() {
    let archive = long(259, &[9, 256]).archive();
    let step = if std::env::var_os("CHANCERY_FULL_FLIPS").is_some() { 1 } else { 31 };
    check_flips(&archive, &flips(&archive, step, one_bit));
}

#[test]
fn every_file_that_is_missing_shorter_or_longer_is_found() {
    let archive = long(600, &[9, 256, 300]).archive();
    let files: Vec<&String> = archive.files.keys().collect();
    in_parallel(&files, |file| {
        let without = |change: &dyn Fn(&mut Archive)| {
            let mut archive = archive.clone();
            change(&mut archive);
            archive.verify()
        };
        let removed = without(&|archive| drop(archive.files.remove(*file)));
        assert_ne!(removed.exit_code(), 0, "{file} removed");
        if !is_last_checkpoint(&archive, file) {
            assert_found(&removed, &[file.as_str()], &format_args!("{file} removed"));
        }
        let length = archive.files.get(*file).unwrap().len();
        for keep in [0, 1, length / 2, length - 1] {
            let cut = without(&|archive| archive.files.get_mut(*file).unwrap().truncate(keep));
            assert_found(&cut, &[file.as_str()], &format_args!("{file} cut to {keep}"));
        }
        for more in [&b"\n"[..], b"\0", b"\0\0", &[0; 40]] {
            let grown = without(&|archive| archive.files.get_mut(*file).unwrap().extend_from_slice(more));
            assert_found(&grown, &[file.as_str()], &format_args!("{file} with {} more", more.len()));
        }
    });
}

fn is_last_checkpoint(archive: &Archive, file: &str) -> bool {
    archive.files.keys().rfind(|name| name.starts_with("checkpoint/")).is_some_and(|last| last == file)
}

#[test]
fn evidence_that_is_missing_is_undecided_and_not_bad() {
    let archive = long(600, &[9, 256, 300]).archive();
    for file in archive.files.keys() {
        let mut without = archive.clone();
        without.files.remove(file);
        let report = without.verify();
        assert_eq!(report.exit_code(), 3, "{file} removed:\n{}", report.to_text());
    }
    let empty = Archive { files: Default::default(), signers: archive.signers.clone() };
    assert_eq!(empty.verify().exit_code(), 3);
}

#[test]
fn every_file_under_another_name_is_found() {
    let archive = long(600, &[9, 256, 300]).archive();
    let files: Vec<&String> = archive.files.keys().collect();
    in_parallel(&files, |file| {
        for name in [
            format!("{file}.bak"),
            format!("./{file}"),
            format!("copy/{file}"),
            "tile/0/002".into(),
            "tile/1/000".into(),
            "tile/7/000".into(),
            "tile/8/000".into(),
            "tile/0/000.p/9".into(),
            "tile/entries/001.p/9".into(),
            "tile/entries/002.p/100".into(),
            "tile/entries/004".into(),
            "tile/entries/x001/000".into(),
            "checkpoint/000000000004".into(),
            "checkpoint/000000000040".into(),
            "checkpoint/999999999999".into(),
            "registry/00000002.json".into(),
            "registry/00000002.json.sig".into(),
            "registry/00000000.json".into(),
            "README".into(),
        ] {
            let mut more = archive.clone();
            let bytes = more.files.get(*file).unwrap().clone();
            if more.files.insert(name.clone(), bytes).is_none() {
                assert_found(&more.verify(), &[&name], &format_args!("{file} also as {name}"));
            }
        }
    });
}

#[test]
fn every_two_files_swapped_are_found() {
    let archive = long(600, &[9, 256, 300]).archive();
    let files: Vec<&String> = archive.files.keys().collect();
    let pairs: Vec<(&String, &String)> =
        files.iter().enumerate().flat_map(|(at, a)| files.iter().skip(at + 1).map(|b| (*a, *b))).collect();
    in_parallel(&pairs, |(a, b)| {
        let mut swapped = archive.clone();
        let (of_a, of_b) = (swapped.files.remove(*a).unwrap(), swapped.files.remove(*b).unwrap());
        assert_ne!(of_a, of_b);
        swapped.files.insert((*a).clone(), of_b);
        swapped.files.insert((*b).clone(), of_a);
        let report = swapped.verify();
        assert_eq!(report.exit_code(), 1, "{a} and {b} swapped:\n{}", report.to_text());
        let named = report.findings().listed().iter().any(|finding| names(finding, a) || names(finding, b));
        assert!(named, "{a} and {b} swapped:\n{}", report.to_text());
    });
}
