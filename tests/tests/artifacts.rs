//! `chancery sign --file --sidecar` and `chancery verify --file`, with the real daemon: what is kept beside an artifact
//! vouches for it offline, and nothing of it can be exchanged.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a failed unwrap is the test's failure")]

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use chancery_tests::rig::{Daemon, World, WorldOptions, binary};
use serde_json::{Value, json};

struct Desk {
    world: World,
    folder: tempfile::TempDir,
}

impl Desk {
    fn new() -> Self {
        Self { world: World::new(&WorldOptions::default()), folder: tempfile::tempdir().unwrap() }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn write(&self, name: &str, bytes: impl AsRef<[u8]>) {
        std::fs::write(self.path(name), bytes).unwrap();
    }

    /// Runs `chancery` in the folder of the artifacts.
    fn chancery(&self, arguments: &[&str]) -> Output {
        let mut chancery = Command::new(binary("chancery"));
        chancery
            .args(arguments)
            .current_dir(self.folder.path())
            .env("CHANCERY_URL", self.world.url())
            .env("CHANCERY_CA", self.world.path("ca.crt"))
            .env("CHANCERY_CERT", &self.world.orders.certificate)
            .env("CHANCERY_KEY", &self.world.orders.key)
            .env("CHANCERY_SIGNERS", self.path("signers.json"))
            .env("GIT_CEILING_DIRECTORIES", self.folder.path().parent().unwrap());
        chancery.output().unwrap()
    }

    fn sign(&self, arguments: &[&str]) -> Value {
        let output = self.chancery(&[&["sign", "--json", "--kid"], arguments].concat());
        assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stdout));
        std::fs::copy(self.world.path("signers.json"), self.path("signers.json")).unwrap();
        serde_json::from_slice(&output.stdout).unwrap()
    }

    /// Exit code and report.
    fn verify(&self, arguments: &[&str]) -> (i32, Value) {
        let output = self.chancery(&[&["verify", "--json", "--file"], arguments].concat());
        let report = serde_json::from_slice(&output.stdout).unwrap_or_default();
        (output.status.code().unwrap(), report)
    }

    /// Exit code and kind of the first finding.
    fn found(&self, arguments: &[&str]) -> (i32, String) {
        let (code, report) = self.verify(arguments);
        (code, report["findings"][0]["kind"].as_str().unwrap_or_default().to_owned())
    }

    fn sidecar(&self, name: &str) -> Value {
        serde_json::from_slice(&std::fs::read(self.path(name)).unwrap()).unwrap()
    }
}

fn git(folder: &Path, arguments: &[&str]) -> String {
    let mut git = Command::new("git");
    git.arg("-C").arg(folder).args(["-c", "user.name=t", "-c", "user.email=t@example.com"]).args(arguments);
    let output = git.output().unwrap();
    assert!(output.status.success(), "git {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

#[test]
fn an_artifact_is_verified_offline_and_nothing_of_it_can_be_exchanged() {
    let desk = Desk::new();
    let daemon = Daemon::start(&desk.world);
    desk.write("model.bin", b"weights".repeat(1 << 16));
    desk.write("other.bin", b"other weights");
    let told = ["--dataset", "sales-2026-01", "--run-id", "4711", "--commit", "1f0c2d4", "--branch", "main"];
    let reply = desk.sign(&[&["p256", "--file", "model.bin"], &told[..]].concat());
    assert_eq!(reply["sidecar"], "model.bin.chancery.json", "{reply:#}");
    desk.sign(&[&["ed", "--file", "other.bin", "--metadata", "{\"order\": 7}"], &told[..]].concat());
    desk.sign(&["dual", "--file", "other.bin", "--sidecar=anchored.json", "--anchored"]);
    drop(daemon); // from here on nobody can be asked

    let (code, report) = desk.verify(&["model.bin"]);
    assert_eq!((code, &report["valid"]), (0, &json!(true)), "{report:#}");
    let provenance = &report["artifact"]["provenance"];
    assert_eq!((&provenance["dataset"], &provenance["runId"]), (&json!("sales-2026-01"), &json!("4711")));
    assert_eq!(provenance["bytes"], 7 << 16);
    assert_eq!(desk.verify(&["other.bin", "--kid", "ed", "--commit", "1f0c2d4"]).0, 0);
    assert_eq!(desk.verify(&["other.bin", "--sidecar", "anchored.json"]).0, 0);
    let output = desk.chancery(&["verify", "--file", "model.bin"]);
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(text.starts_with("valid ") && text.contains("sales-2026-01"), "{text}");

    // What the caller knows otherwise.
    assert_eq!(desk.found(&["model.bin", "--kid", "ed"]), (1, "other-key".to_owned()));
    assert_eq!(desk.found(&["model.bin", "--commit", "2f0c2d4"]), (1, "other-provenance".to_owned()));
    assert_eq!(
        desk.found(&["other.bin", "--sidecar", "anchored.json", "--run-id", "1"]).1,
        "other-provenance"
    );

    // Another artifact in its place, or the same with one bit flipped.
    let other = ["other.bin", "--sidecar", "model.bin.chancery.json"];
    assert_eq!(desk.found(&other), (1, "artifact-altered".to_owned()));
    let mut flipped = std::fs::read(desk.path("model.bin")).unwrap();
    flipped[1_000] ^= 1;
    desk.write("flipped.bin", flipped);
    let flipped = ["flipped.bin", "--sidecar", "model.bin.chancery.json"];
    assert_eq!(desk.found(&flipped), (1, "artifact-altered".to_owned()));

    each_member_of_the_sidecar_is_bound(&desk);
    what_is_not_there_is_undecided(&desk);
}

fn each_member_of_the_sidecar_is_bound(desk: &Desk) {
    let good = desk.sidecar("model.bin.chancery.json");
    let others = desk.sidecar("other.bin.chancery.json");
    let refused = |changed: &Value, what: &str| {
        desk.write("changed.json", changed.to_string());
        let found = desk.found(&["model.bin", "--sidecar", "changed.json"]);
        assert!(found.0 == 1 && !found.1.is_empty(), "{what}: {found:?}");
        found.1
    };
    desk.write("changed.json", good.to_string());
    assert_eq!(desk.verify(&["model.bin", "--sidecar", "changed.json"]).0, 0, "written anew it is the same");
    for name in good.as_object().unwrap().keys() {
        let mut changed = good.clone();
        changed.as_object_mut().unwrap().remove(name);
        refused(&changed, name);
        changed = good.clone();
        changed[name] = if name == "version" { json!(2) } else { others[name].clone() };
        if changed != good {
            refused(&changed, name);
        }
    }
    for (name, value) in [
        ("dataset", json!("sales-2026-02")),
        ("commit", json!("2f0c2d4")),
        ("branch", Value::Null),
        ("runId", json!("4712")),
        ("artifact", json!("other.bin")),
        ("bytes", json!(1)),
        ("dirty", json!(false)),
    ] {
        let mut changed = good.clone();
        changed["provenance"][name] = value;
        assert_eq!(refused(&changed, name), "provenance-altered", "{name}");
    }
    let receipt = good["receipt"].as_object().unwrap();
    for name in receipt.keys().filter(|name| *name != "rung") {
        let mut changed = good.clone();
        changed["receipt"][name] = others["receipt"][name].clone();
        if changed != good {
            assert_eq!(refused(&changed, name), "receipt-invalid", "{name}");
        }
    }
    let mut changed = good.clone();
    changed["receipt"]["event"]["payload"]["metadata"]["provenance"]["commit"] = json!("2f0c2d4");
    changed["provenance"]["commit"] = json!("2f0c2d4");
    assert_eq!(refused(&changed, "both"), "receipt-invalid", "the leaf binds it");
    changed = good.clone();
    changed["added"] = json!(1);
    assert_eq!(refused(&changed, "added"), "sidecar-invalid");
}

fn what_is_not_there_is_undecided(desk: &Desk) {
    assert_eq!(desk.found(&["nowhere.bin"]), (3, "missing-file".to_owned()));
    desk.write("alone.bin", "signed by nobody");
    assert_eq!(desk.found(&["alone.bin"]), (3, "missing-file".to_owned()));
    std::fs::remove_file(desk.path("signers.json")).unwrap();
    assert_eq!(desk.verify(&["model.bin"]).0, 3, "nothing to trust");
}

#[test]
fn a_work_tree_tells_commit_and_branch() {
    let desk = Desk::new();
    let _daemon = Daemon::start(&desk.world);
    desk.write("model.bin", "weights");
    desk.sign(&["ed", "--file", "model.bin", "--sidecar"]);
    assert_eq!(
        desk.sidecar("model.bin.chancery.json")["provenance"],
        json!({"artifact": "model.bin", "bytes": 7})
    );

    let folder = desk.folder.path();
    git(folder, &["init", "--quiet", "--initial-branch", "release/7"]);
    desk.write("train.py", "print()");
    git(folder, &["add", "train.py"]);
    git(folder, &["commit", "--quiet", "-m", "first"]);
    let commit = git(folder, &["rev-parse", "HEAD"]);
    desk.sign(&["ed", "--file", "model.bin", "--sidecar"]);
    let told = |desk: &Desk| desk.sidecar("model.bin.chancery.json")["provenance"].clone();
    assert_eq!(
        told(&desk),
        json!({"artifact": "model.bin", "bytes": 7, "commit": commit, "branch": "release/7", "dirty": false})
    );
    assert_eq!(desk.verify(&["model.bin", "--commit", &commit]).0, 0);
    desk.sign(&["ed", "--file", "model.bin", "--dataset", "sales", "--run-id", "4711"]);
    let written = desk.sidecar("model.bin.chancery.json");
    let shown = shown_in_the_document();
    assert_eq!(names(&shown), names(&written), "SIDECAR.md shows what is written");
    for part in ["provenance", "receipt"] {
        assert_eq!(names(&shown[part]), names(&written[part]), "SIDECAR.md: {part}");
    }
    desk.write("train.py", "print(1)");
    desk.sign(&["ed", "--file", "model.bin", "--sidecar"]);
    assert_eq!(told(&desk)["dirty"], true);
    desk.sign(&["ed", "--file", "model.bin", "--commit", "abc", "--branch", "mine"]);
    assert_eq!(told(&desk), json!({"artifact": "model.bin", "bytes": 7, "commit": "abc", "branch": "mine"}));
    desk.sign(&["ed", "--file", "model.bin", "--sidecar", "--no-git"]);
    assert_eq!(told(&desk), json!({"artifact": "model.bin", "bytes": 7}));
    assert_eq!(desk.verify(&["model.bin"]).0, 0);
}

fn shown_in_the_document() -> Value {
    let document = include_str!("../../proxy/client/SIDECAR.md");
    let (_, rest) = document.split_once("```json").unwrap();
    serde_json::from_str(rest.split_once("```").unwrap().0).unwrap()
}

fn names(object: &Value) -> Vec<&String> {
    let mut names: Vec<&String> = object.as_object().unwrap().keys().collect();
    names.sort();
    names
}

#[test]
fn a_list_of_checksums_vouches_for_each_of_its_files() {
    let desk = Desk::new();
    let _daemon = Daemon::start(&desk.world);
    std::fs::create_dir(desk.path("out")).unwrap();
    let names = ["out/model.bin", "out/with space", "out/config.json"];
    for name in names {
        desk.write(name, name);
    }
    let mut sha256sum = Command::new("sha256sum");
    let listed = sha256sum.args(names.map(|name| &name[4..])).current_dir(desk.path("out")).output().unwrap();
    desk.write("out/checksum.sha256", &listed.stdout);
    desk.sign(&["ed", "--file", "out/checksum.sha256", "--sidecar"]);
    let (code, report) = desk.verify(&["out/checksum.sha256"]);
    assert_eq!((code, &report["checked"]["files"]), (0, &json!(4)), "{report:#}");

    desk.write("out/config.json", "{}");
    let (code, report) = desk.verify(&["out/checksum.sha256"]);
    assert_eq!(code, 1, "{report:#}");
    assert_eq!(report["findings"][0]["kind"], "checksum-mismatch");
    assert_eq!(report["findings"][0]["file"], "out/config.json");
    // A list that does not agree with its files is not signed in the first place.
    let refused = desk.chancery(&["sign", "--kid", "ed", "--file", "out/checksum.sha256", "--sidecar"]);
    assert_eq!(refused.status.code(), Some(1), "{}", String::from_utf8_lossy(&refused.stderr));
    std::fs::remove_file(desk.path("out/config.json")).unwrap();
    assert_eq!(desk.found(&["out/checksum.sha256"]), (3, "missing-file".to_owned()));
    // A list that is altered along with its file is not the one that was signed.
    desk.write("out/config.json", "{}");
    let altered = Command::new("sha256sum")
        .args(names.map(|name| &name[4..]))
        .current_dir(desk.path("out"))
        .output()
        .unwrap();
    desk.write("out/checksum.sha256", &altered.stdout);
    assert_eq!(desk.found(&["out/checksum.sha256"]), (1, "artifact-altered".to_owned()));
    desk.write("half.sha256", "no list\n");
    assert_eq!(
        desk.chancery(&["sign", "--kid", "ed", "--file", "half.sha256", "--sidecar"]).status.code(),
        Some(1)
    );
}

/// Without the new options everything is as it was.
#[test]
fn nothing_is_left_beside_a_file_that_is_only_signed() {
    let desk = Desk::new();
    let _daemon = Daemon::start(&desk.world);
    desk.write("invoice.pdf", "invoice");
    let reply = desk.sign(&["ed", "--file", "invoice.pdf"]);
    assert_eq!(reply.get("sidecar"), None);
    let mut kept: Vec<_> =
        std::fs::read_dir(desk.folder.path()).unwrap().map(|it| it.unwrap().file_name()).collect();
    kept.sort();
    assert_eq!(kept, ["invoice.pdf", "signers.json"]);
    let signature = reply["signature"].as_str().unwrap();
    let asked = desk.verify(&["invoice.pdf", "--kid", "ed", "--signature", signature]);
    assert_eq!((asked.0, &asked.1["valid"]), (0, &json!(true)), "{}", asked.1);
    for wrong in [
        &["verify", "--file", "invoice.pdf", "--signature", "AA=="][..],
        &["verify", "--kid", "ed", "--digest", &"ab".repeat(32)],
        &["sign", "--kid", "ed", "--digest", &"ab".repeat(32), "--sidecar"],
        &["sign", "--kid", "ed", "--file", "invoice.pdf", "--commit", "a\nb"],
        &["sign", "--kid", "ed", "--file", "invoice.pdf", "--sidecar", "--metadata", "{\"provenance\":1}"],
    ] {
        let output = desk.chancery(wrong);
        assert_eq!(output.status.code(), Some(2), "{wrong:?}: {}", String::from_utf8_lossy(&output.stderr));
    }
}
