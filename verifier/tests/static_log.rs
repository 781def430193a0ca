//! An archive that is a static log of C2SP tlog-tiles: its partial hash tiles and its newest checkpoint are verified too.
#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "a failed unwrap is the test's failure")]

mod support;

use chancery_format::{Checkpoint, Hash, TreeHead, TreeSize};
use chancery_verify::Report;
use support::{Archive, Writer, origin, static_log};

fn log() -> Writer {
    static_log(700, &[9, 256, 300, 511, 513])
}

/// `weight kind file` of each finding.
fn told(report: &Report) -> Vec<String> {
    let findings = report.findings().listed().iter();
    let told =
        findings.map(|it| format!("{:?} {} {}", it.weight, it.kind, it.file.as_deref().unwrap_or("-")));
    told.collect()
}

fn changed(archive: &Archive, name: &str, change: impl FnOnce(&mut Vec<u8>)) -> Archive {
    let mut archive = archive.clone();
    change(archive.files.entry(name.to_owned()).or_default());
    archive
}

#[test]
fn a_static_log_is_valid_and_counted() {
    let archive = log().archive();
    let report = archive.verify();
    assert_eq!((report.exit_code(), told(&report)), (0, Vec::new()), "{}", report.to_text());
    // 9; 256: one above the leaves; 300: both; 511, 513 and 700: the one above anew at 513.
    let partials = archive.files.keys().filter(|name| name.contains(".p/") && !name.contains("entries"));
    assert_eq!(report.checked()["partialTiles"], partials.count());
    assert_eq!(report.checked()["shown"], report.checked()["treeSize"]);
    assert!(report.to_text().contains("a static log: shows its checkpoint of 700"), "{}", report.to_text());
}

#[test]
fn bytes_all_over_it_count() {
    let archive = log().archive();
    let named = |name: &&String| *name == "checkpoint" || name.contains(".p/") && !name.contains("entries");
    for name in archive.files.keys().filter(named) {
        for at in (0..archive.files[name].len()).step_by(archive.files[name].len() / 12 + 1) {
            let report = changed(&archive, name, |bytes| bytes[at] ^= 1 << (at % 8)).verify();
            assert_eq!(report.exit_code(), 1, "{name} byte {at}");
            assert!(told(&report)[0].ends_with(name), "{name} byte {at}: {:?}", told(&report));
        }
        for cut in [0, 1, 31] {
            let report = changed(&archive, name, |bytes| bytes.truncate(cut)).verify();
            assert_eq!(report.exit_code(), 1, "{name} of {cut} bytes: {:?}", told(&report));
        }
        let report = changed(&archive, name, |bytes| bytes.extend_from_within(..32)).verify();
        assert_eq!(report.exit_code(), 1, "{name} longer");
    }
}

#[test]
fn what_is_shown_must_be_an_epoch_and_what_it_needs_must_be_there() {
    let mut writer = log();
    let archive = writer.archive();
    let shown = |note: String| changed(&archive, "checkpoint", |bytes| *bytes = note.into_bytes()).verify();
    let note = |size: u64, root: Hash| {
        writer.note(&Checkpoint::new(origin(), TreeHead { size: TreeSize(size), root }).text())
    };

    // Older than the last epoch: it is shown after that is archived.
    let older = String::from_utf8(archive.checkpoint(2).to_vec()).unwrap();
    let report = shown(older);
    assert_eq!((report.exit_code(), &report.checked()["shown"]), (0, &300.into()), "{:?}", told(&report));
    // With lines of witnesses.
    let last = String::from_utf8(archive.files["checkpoint"].clone()).unwrap();
    let witnessed = format!("{last}\u{2014} witness.example/w {}\n", "A".repeat(100));
    assert_eq!(shown(witnessed).exit_code(), 0);

    let root = writer.head().root;
    for (report, code, expected) in [
        (shown(note(700, Hash([7; 32]))), 1, "Bad root-mismatch checkpoint"),
        (shown(note(301, root)), 1, "Bad checkpoint-order checkpoint"),
        (shown(note(9_000, root)), 3, "Missing missing-file checkpoint/000000000006"),
        (shown("noise".into()), 1, "Bad checkpoint-invalid checkpoint"),
    ] {
        assert_eq!((report.exit_code(), told(&report)), (code, vec![expected.to_owned()]));
    }

    let without = |name: &str| {
        let mut archive = archive.clone();
        archive.files.remove(name).unwrap();
        archive.verify()
    };
    assert_eq!(told(&without("tile/0/002.p/188")), ["Missing missing-file tile/0/002.p/188"]);
    assert_eq!(told(&without("tile/1/000.p/2")), ["Missing missing-file tile/1/000.p/2"]);
    // Those of older epochs need not be there: an archive becomes a static log at any time; nor must it show anything.
    assert_eq!(without("tile/0/001.p/44").exit_code(), 0);
    let mut silent = archive.clone();
    silent.files.remove("checkpoint");
    silent.files.remove("tile/1/000.p/2");
    let report = silent.verify();
    assert_eq!((report.exit_code(), &report.checked()["shown"]), (0, &serde_json::Value::Null));

    // Partial tiles that no checkpoint explains, and such beyond all.
    let stray = |name: &str| changed(&archive, name, |bytes| *bytes = vec![7; 32]).verify();
    assert_eq!(told(&stray("tile/0/001.p/1")), ["Bad unexpected-file tile/0/001.p/1"]);
    assert_eq!(told(&stray("tile/2/000.p/1")), ["Missing uncovered-file tile/2/000.p/1"]);
    assert_eq!(told(&stray("tile/0/002.p/189")), ["Missing uncovered-file tile/0/002.p/189"]);
    assert_eq!(told(&stray("tile/8/000.p/1")), ["Bad unknown-file tile/8/000.p/1"]);
    writer.event("orders/1");
    writer.epoch();
    assert_eq!(writer.archive().verify().exit_code(), 0);
}

#[test]
fn a_size_that_ends_with_a_full_bundle_has_its_edge_above() {
    let archive = static_log(512, &[256]).archive();
    let report = archive.verify();
    assert_eq!(told(&report), [""; 0]);
    for name in ["tile/1/000.p/1", "tile/1/000.p/2"] {
        let report = changed(&archive, name, |bytes| bytes[3] ^= 1).verify();
        assert_eq!(told(&report), [format!("Bad tile-mismatch {name}")]);
    }
}
