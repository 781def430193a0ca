//! Verifications that are interrupted and taken up again: the verdict is that of one that was not.
#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "a failed unwrap is the test's failure")]

#[path = "support/folder.rs"]
mod folder;
mod support;

use std::path::PathBuf;
use std::process::{Child, Output, Stdio};
use std::time::{Duration, Instant};

use chancery_format::SignatureAlgorithm;
use chancery_format::archive::{LATEST_CHECKPOINT, checkpoint_name, witnessed_name};
use folder::Folder;
use serde_json::{Value, json};
use support::{Archive, Writer, draft};

/// Long enough that a verification by one thread can be interrupted after its state was written down; an epoch every
/// 1,000 entries, with the partial tiles of a static log, and a cosigned checkpoint beside every second. Keys are activated
/// and retired, registries published, on either side of any interruption.
fn ledger(entries: u64) -> Writer {
    let mut writer = Writer::unopened();
    writer.static_log = true;
    let mut writer = writer.opened();
    writer.activate("orders", "orders-v1", SignatureAlgorithm::Ed25519);
    writer.activate("hooks", "hooks-v1", SignatureAlgorithm::HmacSha256);
    writer.publish();
    let mut pair = 1;
    while writer.next_index() < entries {
        let index = writer.next_index();
        if index % 1_000 == 999 {
            writer.epoch();
            let epoch = index / 1_000;
            if epoch % 2 == 1 {
                let note = writer.files[&checkpoint_name(epoch)].clone();
                writer.files.insert(witnessed_name(epoch), note);
            }
        }
        match index % 20 {
            3 if index % 1_000 == 503 => writer.enrol_heads(),
            0 if index.is_multiple_of(5_000) => {
                writer.retire(&format!("orders-v{pair}"));
                pair += 1;
                writer.activate("orders", &format!("orders-v{pair}"), SignatureAlgorithm::Ed25519);
                writer.publish()
            }
            1 => writer.sign("hooks-v1", "hooks", &index.to_be_bytes()),
            n if n % 2 == 0 => writer.sign(&format!("orders-v{pair}"), "orders", &index.to_be_bytes()),
            n => writer.event(&format!("orders/{n}")),
        };
    }
    writer.epoch();
    writer
}

/// One ledger, verified again and again.
struct Runs(Folder);

/// By one thread, so that it takes its time.
const VERIFY: [&str; 7] = ["ledger", "archive", "--signers", "signers.json", "--json", "--threads", "1"];

impl Runs {
    fn new(archive: &Archive) -> Self {
        Self(Folder::new(archive))
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path(name)
    }

    #[track_caller]
    fn run(&self, code: i32, more: &[&str]) -> Output {
        self.0.run(code, &[&VERIFY, more].concat())
    }

    /// Runs until the state was written down and says that so many entries were verified, and kills the process.
    fn interrupt(&self, more: &[&str], entries: u64) -> u64 {
        let arguments = [&VERIFY, &["--resume", "run.state"][..], more].concat();
        let mut child: Child = self.0.command(&arguments).stdout(Stdio::null()).spawn().unwrap();
        let deadline = Instant::now() + Duration::from_secs(300);
        let size = loop {
            let size = self.state().map_or(0, |state| state["size"].as_u64().unwrap());
            if size > entries {
                break size;
            }
            assert!(child.try_wait().unwrap().is_none(), "it ended before it could be interrupted");
            assert!(Instant::now() < deadline, "no state");
            std::thread::sleep(Duration::from_millis(2));
        };
        child.kill().unwrap();
        child.wait().unwrap();
        size
    }

    fn state(&self) -> Option<Value> {
        serde_json::from_slice(&std::fs::read(self.path("run.state")).ok()?).ok()
    }

    #[track_caller]
    fn verdict(&self, code: i32, more: &[&str]) -> Value {
        serde_json::from_slice(&self.run(code, more).stdout).unwrap()
    }

    #[track_caller]
    fn refused(&self, more: &[&str]) -> String {
        let before = std::fs::read(self.path("run.state")).unwrap();
        let output = self.run(2, &[&["--resume", "run.state"], more].concat());
        assert_eq!(std::fs::read(self.path("run.state")).unwrap(), before, "what is refused is kept");
        String::from_utf8(output.stderr).unwrap()
    }

    fn write(&self, archive: &Archive, name: &str) {
        if name == LATEST_CHECKPOINT {
            return;
        }
        let path = self.path("archive").join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, &archive.files[name]).unwrap();
    }
}

fn bundle(number: u64) -> String {
    format!("tile/entries/{number:03}")
}

#[test]
fn a_killed_run_goes_on_and_ends_with_the_same_words() {
    let mut writer = ledger(100_000);
    let archive = writer.archive();
    let folder = Runs::new(&archive);
    let whole = folder.verdict(0, &[]);
    let size = folder.interrupt(&[], 0);
    assert!(size.is_multiple_of(256) && size < 100_000, "{size}");
    assert_eq!(folder.verdict(0, &["--resume", "run.state"]), whole);
    assert!(!folder.path("run.state").exists(), "it is removed with the verdict");

    // Interrupted twice, with another number of threads, in strict mode, and continuing an older checkpoint.
    std::fs::write(folder.path("old"), archive.checkpoint(1)).unwrap();
    let more = ["--strict", "--since", "old"];
    let strict = folder.verdict(0, &more);
    let first = folder.interrupt(&more, 0);
    let second = folder.interrupt(&more, first);
    assert!(second > first);
    let again = folder.verdict(0, &[&more[..], &["--resume", "run.state", "--keys", "--acts"]].concat());
    assert_eq!(again, strict);

    // The archive has grown meanwhile: what is new is verified as well.
    folder.interrupt(&[], 0);
    while writer.next_index() < 100_700 {
        writer.event("later");
    }
    writer.epoch();
    let grown = writer.archive();
    grown
        .files
        .keys()
        .filter(|name| !archive.files.contains_key(*name))
        .for_each(|name| folder.write(&grown, name));
    let fresh = folder.verdict(0, &[]);
    assert_ne!(fresh, whole);
    assert_eq!(folder.verdict(0, &["--resume", "run.state"]), fresh);
}

#[test]
fn what_is_bad_before_or_after_the_interruption_is_told_once_and_the_same() {
    let mut writer = ledger(50_000);
    writer.issue("orders-v10", "orders", b"x", vec![7; 64]);
    writer.add(&draft("signer.retired", "mallory", "orders", r#"{"signer_kid":"orders-v1"}"#));
    while writer.next_index() < 100_000 {
        if writer.next_index() % 1_000 == 999 {
            writer.epoch();
        }
        writer.event("orders");
    }
    writer.epoch();
    let mut archive = writer.archive();
    // Entries whose hash is wrong, near the beginning and near the end; tiles that contradict theirs; a registry's note.
    for number in [1, 340] {
        let bundle = archive.files.get_mut(&bundle(number)).unwrap();
        let at = bundle.windows(10).position(|window| window == b"order.paid").unwrap();
        bundle[at] ^= 1;
    }
    for name in ["tile/0/009", "tile/0/350", "registry/00000002.json.sig"] {
        archive.files.get_mut(name).unwrap()[20] ^= 1;
    }
    // Checkpoints read ahead are told once too.
    let ahead = chancery_format::archive::checkpoint_name(50);
    archive.files.get_mut(&ahead).unwrap()[3] ^= 1;
    let folder = Runs::new(&archive);
    let whole = folder.verdict(1, &[]);
    let kinds: Vec<_> =
        whole["findings"].as_array().unwrap().iter().map(|found| found["kind"].as_str().unwrap()).collect();
    for kind in [
        "tile-mismatch",
        "signature-invalid",
        "reserved-event",
        "checkpoint-invalid",
        "registry-signature-invalid",
    ] {
        assert!(kinds.contains(&kind), "{kind}: {kinds:?}");
    }
    folder.interrupt(&[], 0); // behind the first epoch, which ends at 999
    assert_eq!(folder.verdict(1, &["--resume", "run.state"]), whole);

    // What is altered after the interruption, and was not verified yet, is found.
    let good = ledger(100_000).archive();
    let folder = Runs::new(&good);
    let size = folder.interrupt(&[], 0);
    assert!(size < 90_000, "{size}");
    let mut bad = good.clone();
    let name = bundle(380);
    bad.files.get_mut(&name).unwrap()[400] ^= 1;
    folder.write(&bad, &name);
    let fresh = folder.verdict(1, &[]);
    assert_eq!(folder.verdict(1, &["--resume", "run.state"]), fresh);
}

#[test]
fn a_state_of_something_else_is_refused_and_says_why() {
    let writer = ledger(100_000);
    let archive = writer.archive();
    let folder = Runs::new(&archive);
    folder.interrupt(&[], 0);
    assert!(folder.refused(&["--strict"]).contains("another kind of run"));
    std::fs::write(folder.path("old"), archive.checkpoint(0)).unwrap();
    assert!(folder.refused(&["--since", "old"]).contains("another kind of run"));

    let signers = std::fs::read_to_string(folder.path("signers.json")).unwrap();
    std::fs::write(folder.path("signers.json"), format!("{signers}\n")).unwrap();
    assert!(folder.refused(&[]).contains("another registry"));
    std::fs::write(folder.path("signers.json"), &signers).unwrap();

    // An entry that was verified, and must be read again, is another now; a file that was verified is gone.
    let mut altered = archive.clone();
    altered.files.get_mut(&bundle(0)).unwrap()[100] ^= 1;
    folder.write(&altered, &bundle(0));
    assert!(folder.refused(&[]).contains("entry 0 is another"));
    folder.write(&archive, &bundle(0));
    std::fs::remove_file(folder.path("archive").join("tile/0/000")).unwrap();
    assert!(folder.refused(&[]).contains("files were added or removed"));
    folder.write(&archive, "tile/0/000");
    // The end was cut off: the checkpoint that was its last is gone.
    let last = archive.files.keys().rfind(|name| name.starts_with("checkpoint/")).unwrap();
    std::fs::remove_file(folder.path("archive").join(last)).unwrap();
    assert!(folder.refused(&[]).contains("is not the one that was its last"));
    folder.write(&archive, last);

    let state = folder.state().unwrap();
    for (member, value) in [
        ("program", json!("0.0.0")),
        ("version", json!(2)),
        ("size", json!(state["size"].as_u64().unwrap() + 1)),
        ("frontier", json!([])),
        ("extra", json!(1)),
    ] {
        let mut changed = state.clone();
        changed[member] = value;
        std::fs::write(folder.path("run.state"), changed.to_string()).unwrap();
        let told = folder.refused(&[]);
        assert!(told.contains("is not a state") || told.contains("added or removed"), "{member}: {told}");
    }
    std::fs::write(folder.path("run.state"), state.to_string()).unwrap();
    for (more, why) in [("--report", "x.html"), ("--sample", "5")] {
        folder.refused(&[more, why]);
    }
    folder.verdict(0, &["--resume", "run.state"]);
}

#[test]
fn what_could_not_be_read_is_read_by_the_run_after() {
    let archive = ledger(100_000).archive();
    let folder = Runs::new(&archive);
    let whole = folder.verdict(0, &[]);
    let name = bundle(385);
    std::fs::remove_file(folder.path("archive").join(&name)).unwrap();
    let undecided = folder.verdict(3, &["--resume", "run.state"]);
    assert_eq!(undecided, folder.verdict(3, &[]));
    let size = folder.state().unwrap()["size"].as_u64().unwrap();
    assert!(size <= 385 * 256, "nothing is written down once entries are missing: {size}");
    folder.write(&archive, &name);
    assert_eq!(folder.verdict(0, &["--resume", "run.state"]), whole);
    assert!(!folder.path("run.state").exists());
}
