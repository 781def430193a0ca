//! Two archives of one ledger: which continues which, where they part, and what proves it.
#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "a failed unwrap is the test's failure")]

mod support;

use std::path::Path;
use std::process::{Command, Output};

use chancery_format::note::assemble;
use chancery_format::{Checkpoint, SignatureAlgorithm, entry};
use chancery_verify::compare::{self, Compared};
use chancery_verify::{Kind, Report, Trust};
use serde_json::{Value, json};
use support::{Archive, Writer, origin};

/// A ledger of that many entries; from `parts_at` on every entry has another time than without it.
fn history(entries: u64, parts_at: Option<u64>) -> Archive {
    let mut writer = Writer::unopened();
    let next = |writer: &mut Writer| {
        if parts_at == Some(writer.next_index()) {
            writer.clock_ms += 1;
        }
        match writer.next_index() {
            0 => writer.add(&entry::ledger_opened(&origin())),
            1 => writer.activate_key(writer.ledger_key.clone()),
            2 => writer.activate("orders", "orders-v1", SignatureAlgorithm::Ed25519),
            3 => writer.publish(),
            index if index.is_multiple_of(16) => writer.sign("orders-v1", "orders", &index.to_be_bytes()),
            index => writer.event(&format!("orders/{}", index % 3)),
        };
    };
    while writer.next_index() < entries {
        next(&mut writer);
        if writer.next_index() == 5 {
            writer.epoch();
        }
    }
    writer.epoch();
    writer.archive()
}

fn trust(archive: &Archive) -> Trust {
    Trust::parse(&archive.signers).unwrap()
}

fn compared(one: &Archive, two: &Archive) -> Compared {
    compare::archives(["one", "two"], [one, two], &trust(one))
}

fn kinds(report: &Report) -> Vec<Kind> {
    report.findings().listed().iter().map(|finding| finding.kind).collect()
}

#[track_caller]
fn names_the_index(one: &Archive, two: &Archive, index: u64) -> Compared {
    let told = compared(one, two);
    assert_eq!(told.report.exit_code(), 1, "{}", told.report.to_text());
    let (checked, findings) = (told.report.checked(), told.report.findings());
    assert_eq!(checked["relation"], "differ");
    assert_eq!(checked["firstDifferingIndex"], index, "{}", told.report.to_text());
    let fork = findings.listed().iter().find(|finding| finding.kind == Kind::Fork).unwrap();
    assert_eq!(fork.index, Some(index));
    told
}

#[test]
fn the_first_differing_entry_is_named_wherever_it_stands() {
    for (index, sizes) in [
        (0, (300, 300)),
        (0, (1, 700)),
        (1, (2, 2)),
        (4, (5, 300)),
        (254, (255, 700)),
        (255, (256, 300)),
        (255, (256, 256)),
        (256, (300, 257)),
        (257, (700, 300)),
        (511, (512, 513)),
        (512, (513, 700)),
        (699, (700, 700)),
    ] {
        let (one, two) = (history(sizes.0, None), history(sizes.1, Some(index)));
        for (one, two) in [(&one, &two), (&two, &one)] {
            let told = compare::archives(["one", "two"], [one, two], &trust(&history(5, None)));
            let text = told.report.to_text();
            assert_eq!(kinds(&told.report), [Kind::Fork], "{index} {sizes:?}: {text}");
            assert_eq!(told.report.checked()["firstDifferingIndex"], index, "{sizes:?}: {text}");
            let entries = &told.report.checked()["entries"];
            for which in ["first", "second"] {
                for member in ["id", "eventType", "stream", "ts", "actor", "seq", "hash"] {
                    assert!(!entries[which][member].is_null(), "{which} {member}: {entries}");
                }
                assert!(
                    told.report.checked()[which]["checkpointSigners"][0]
                        .as_str()
                        .unwrap()
                        .starts_with("ledger-v1")
                );
            }
            assert_eq!(entries["first"]["id"], entries["second"]["id"], "ids name their index");
            assert_ne!(entries["first"]["ts"], entries["second"]["ts"]);
            assert!(text.contains("This is proof that the ledger's key signed two histories"), "{text}");
        }
    }
}

#[test]
fn a_prefix_is_no_fork() {
    let sizes = [1, 2, 5, 255, 256, 257, 300, 512, 700];
    let archives = sizes.map(|size| history(size, None));
    for (a, one) in archives.iter().enumerate() {
        for (b, two) in archives.iter().enumerate() {
            let told = compare::archives(["one", "two"], [one, two], &trust(&archives[4]));
            let expected = match a.cmp(&b) {
                std::cmp::Ordering::Less => "second-continues-first",
                std::cmp::Ordering::Equal => "same",
                std::cmp::Ordering::Greater => "first-continues-second",
            };
            assert_eq!(told.report.exit_code(), 0, "{a} {b}: {}", told.report.to_text());
            assert_eq!(told.report.checked()["relation"], expected, "{} {}", sizes[a], sizes[b]);
            assert!(told.proof.is_none());
        }
    }
}

#[test]
fn few_bytes_are_read_of_long_histories() {
    let (one, two) = (history(6_000, None), history(5_900, Some(3_333)));
    let told = names_the_index(&one, &two, 3_333);
    for which in ["first", "second"] {
        let (read, total) =
            (&told.report.checked()[which]["bytesRead"], &told.report.checked()[which]["bytesTotal"]);
        let (read, total) = (read.as_u64().unwrap(), total.as_u64().unwrap());
        assert_eq!(
            total,
            [&one, &two][usize::from(which == "second")].files.values().map(|f| f.len() as u64).sum::<u64>()
        );
        assert!(read > 0 && read * 8 < total, "{which}: {read} of {total}");
    }
}

#[test]
fn an_altered_tile_makes_a_bad_archive_and_no_fork() {
    let (short, mut long) = (history(300, None), history(700, None));
    long.files.get_mut("tile/0/000").unwrap()[7] ^= 1;
    let told = compared(&short, &long);
    assert_eq!(kinds(&told.report), [Kind::TileMismatch], "{}", told.report.to_text());
    assert_eq!((told.report.exit_code(), told.proof.is_none()), (1, true));
    assert_eq!(told.report.checked()["relation"], "second-continues-first", "the entries still say so");
    long.files.get_mut("tile/0/000").unwrap().pop();
    assert_eq!(kinds(&compared(&short, &long).report), [Kind::TileMismatch]);

    // Whoever forks cannot hide where by breaking tiles: entries speak too.
    for index in [10, 255, 256, 290] {
        let mut forked = history(700, Some(index));
        forked.files.get_mut("tile/0/000").unwrap()[8_000] ^= 1;
        forked.files.get_mut("tile/0/001").unwrap()[0] ^= 1;
        let told = names_the_index(&short, &forked, index);
        assert_eq!(kinds(&told.report), [Kind::Fork, Kind::TileMismatch]);
        forked.files.retain(|name, _| !name.starts_with("tile/0/"));
        let told = names_the_index(&short, &forked, index);
        assert_eq!(kinds(&told.report), [Kind::Fork], "tiles that are missing are made from entries");
    }
}

#[test]
fn an_altered_entry_is_not_shown_as_the_one_that_was_signed() {
    let (one, mut two) = (history(300, None), history(300, Some(20)));
    let bundle = two.files.get_mut("tile/entries/000").unwrap();
    let at = bundle.windows(12).enumerate().filter(|(_, window)| *window == b"\"order.paid\"");
    // Entries 4 to 15 and 17 to 19 are plain events before it.
    let at = at.map(|(at, _)| at).nth(12 + 3).unwrap();
    bundle[at + 1] ^= 1;
    let told = names_the_index(&one, &two, 20);
    assert_eq!(kinds(&told.report), [Kind::Fork, Kind::RootMismatch]);
    assert!(told.report.checked()["entries"].is_null());
    // Without the bundle the tree still says where.
    two.files.remove("tile/entries/000");
    let told = names_the_index(&one, &two, 20);
    assert_eq!(kinds(&told.report), [Kind::Fork, Kind::MissingFile]);
    // The checkpoints alone prove it: what is kept holds without the entries.
    assert_eq!(compare::kept_proof(told.proof.unwrap().as_bytes(), &trust(&one)).exit_code(), 1);
}

#[test]
fn what_is_missing_is_not_decided() {
    let (short, mut long) = (history(300, None), history(700, Some(20)));
    long.files.remove("tile/0/000");
    long.files.remove("tile/entries/000");
    let told = compared(&short, &long);
    assert_eq!((told.report.exit_code(), told.proof), (3, None));
    assert_eq!(told.report.checked()["relation"], "undecided");
    long.files.retain(|name, _| !name.starts_with("checkpoint/"));
    let told = compared(&short, &long);
    assert_eq!(kinds(&told.report), [Kind::NoCheckpoint]);
    assert_eq!(
        (told.report.exit_code(), told.report.findings().listed()[0].file.as_deref()),
        (3, Some("two"))
    );
}

#[test]
fn ledgers_of_two_origins_have_no_history_in_common() {
    let (one, mut two) = (history(300, None), history(300, None));
    let other = "other.example/log";
    let key = Writer::unopened().ledger_key;
    let head = Checkpoint::verify(std::str::from_utf8(two.checkpoint(1)).unwrap(), &origin(), &[key.vkey()]);
    let text = Checkpoint::new(other.parse().unwrap(), head.unwrap().head()).text();
    let signature: [u8; 64] = key.sign_message_raw(text.as_bytes()).try_into().unwrap();
    let note = assemble(&text, &key.vkey_for(other), &signature).unwrap();
    for epoch in [0, 1] {
        let name = chancery_format::archive::checkpoint_name(epoch);
        two.files.insert(name, note.clone().into_bytes());
    }
    let told = compared(&one, &two);
    assert_eq!(kinds(&told.report), [Kind::CheckpointInvalid]);
    assert_eq!((told.report.exit_code(), told.proof.is_none()), (1, true));
    let text = told.report.to_text();
    assert!(text.contains("two ledgers have no history in common") && text.contains("\"two\""), "{text}");
}

#[test]
fn a_forged_checkpoint_proves_nothing() {
    let (one, mut two) = (history(300, None), history(300, Some(20)));
    let name = chancery_format::archive::checkpoint_name(1);
    let forger = support::keys::TestKey::new("x", "x-v1", SignatureAlgorithm::Ed25519);
    let note = String::from_utf8(two.files[&name].clone()).unwrap();
    let text = note.split_once("\n\n").unwrap().0.to_owned() + "\n";
    let signature: [u8; 64] = forger.sign_message_raw(text.as_bytes()).try_into().unwrap();
    two.files.insert(name, assemble(&text, &forger.vkey(), &signature).unwrap().into_bytes());
    let told = compared(&one, &two);
    // What remains is the checkpoint of the beginning they share, and a file that is bad.
    assert_eq!(kinds(&told.report), [Kind::CheckpointInvalid], "{}", told.report.to_text());
    assert_eq!(told.report.checked()["relation"], "first-continues-second");
    assert!(told.proof.is_none());
}

#[test]
fn a_kept_proof_is_checked_by_itself_and_altered_it_proves_nothing() {
    for sizes in [(300, 700), (300, 300), (700, 513)] {
        let (one, two) = (history(sizes.0, None), history(sizes.1, Some(257)));
        let trust = trust(&one);
        let proof = compared(&one, &two).proof.unwrap();
        let check = |proof: &Value| compare::kept_proof(proof.to_string().as_bytes(), &trust);
        let good: Value = serde_json::from_str(&proof).unwrap();
        let report = check(&good);
        assert_eq!((report.exit_code(), kinds(&report)), (1, vec![Kind::Fork]), "{}", report.to_text());
        assert_eq!(report.checked()["entries"]["first"]["id"], report.checked()["entries"]["second"]["id"]);

        // Either part is enough: the entries under both checkpoints, or the beginning of the larger.
        let mut bare = good.clone();
        bare.as_object_mut().unwrap().remove("differing");
        assert_eq!(kinds(&check(&bare)), [Kind::Fork]);
        let mut entries = good.clone();
        entries.as_object_mut().unwrap().remove("beginningOfLarger");
        assert_eq!(kinds(&check(&entries)), [Kind::Fork]);
        if sizes.0 != sizes.1 {
            bare.as_object_mut().unwrap().remove("beginningOfLarger");
            assert_eq!(check(&bare).exit_code(), 3, "different sizes alone say nothing");
            entries["differing"]["held"]["leaf"] = entries["differing"]["shown"]["leaf"].clone();
            assert_eq!(check(&entries).exit_code(), 3);
        }
        let mut foreign = good.clone();
        let note =
            foreign["held"]["note"].as_str().unwrap().replacen("300", "301", 1).replacen("700", "701", 1);
        foreign["held"]["note"] = note.into();
        assert_eq!(kinds(&check(&foreign)), [Kind::CheckpointInvalid]);
        let mut same = good.clone();
        same["shown"] = same["held"].clone();
        same.as_object_mut().unwrap().remove("differing");
        same.as_object_mut().unwrap().remove("beginningOfLarger");
        let report = check(&same);
        assert_eq!((report.exit_code(), &report.checked()["relation"]), (0, &json!("same")));
    }
    let trust = trust(&history(5, None));
    for junk in ["", "{}", "[]", r#"{"version":2,"kind":"fork","held":{"note":""},"shown":{"note":""}}"#] {
        assert_eq!(kinds(&compare::kept_proof(junk.as_bytes(), &trust)), [Kind::DocumentInvalid], "{junk}");
    }
}

fn run(folder: &Path, arguments: &[&str]) -> Output {
    let program = Path::new(env!("CARGO_BIN_EXE_chancery-verify"));
    Command::new(program).args(arguments).current_dir(folder).output().unwrap()
}

#[test]
fn the_program_says_it_by_its_exit_code_and_keeps_the_proof() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path();
    for (name, archive) in
        [("one", history(300, None)), ("longer", history(400, None)), ("forked", history(350, Some(33)))]
    {
        archive.write_to(&folder.join(name));
        std::fs::write(folder.join("signers.json"), &archive.signers).unwrap();
    }
    let expect = |code: i32, arguments: &[&str]| {
        let arguments = [&["compare"], arguments, &["--signers", "signers.json"]].concat();
        let output = run(folder, &arguments);
        let told = String::from_utf8(output.stdout).unwrap();
        let wrong = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(code), "{arguments:?}\n{told}{wrong}");
        told + &wrong
    };
    expect(0, &["one", "longer"]);
    assert!(expect(0, &["longer", "one", "--save", "none.json"]).contains("VALID"));
    assert!(!folder.join("none.json").exists());
    let told = expect(1, &["one", "forked", "--save", "fork.json"]);
    assert!(told.contains("at entry 33") && told.contains("NOT VALID"), "{told}");
    let told: Value = serde_json::from_str(&expect(1, &["forked", "longer", "--json"])).unwrap();
    assert_eq!((&told["checked"]["firstDifferingIndex"], &told["valid"]), (&json!(33), &json!(false)));
    assert!(expect(1, &["fork.json"]).contains("at entry 33"));
    expect(2, &["one"]);
    expect(2, &["one", "forked", "--save", "nowhere/fork.json"]);
    expect(3, &["one", "nowhere"]);
    expect(3, &["nowhere.json"]);
    let help = run(folder, &["compare", "--help"]);
    assert!(String::from_utf8(help.stdout).unwrap().contains("Example"));
}
