//! The archive of a real daemon under attack: each file flipped somewhere, truncated, removed, copied to
//! another name, swapped with its neighbour; a foreign registry. `chancery-verify` never says valid, and the
//! reference verifier, which shares no code with it, agrees. So does, about the tree alone, the Go team's
//! own code of transparency logs. (Every byte of a ledger: `verifier/tests`.)

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a failed unwrap is the test's failure")]

use std::path::{Path, PathBuf};
use std::process::Command;

use chancery_format::registry::{KeyState, SignerRecord};
use chancery_tests::rig::wire::{Ask, call};
use chancery_tests::rig::{Daemon, World, WorldOptions, binary, wait_for};
use chancery_tests::servers::{go_reference, python_with_cryptography};

const DIGEST: &str = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08";

/// A small ledger: every algorithm, several streams and epochs, and enough leaves for full tiles if asked.
fn ledger(events: u32) -> World {
    let usual = WorldOptions::default();
    let ledger = usual.ledger.clone() + "heads_interval_ms = 100\n";
    let world = World::new(&WorldOptions { ledger, ..usual });
    let daemon = Daemon::start(&world);
    let post = |path: &'static str, body: String| {
        let reply = call(&world, Some(&world.orders), &Ask::post(path, body)).unwrap();
        assert!(reply.status < 300, "{}", reply.body);
    };
    wait_for("first epoch", || world.path("archive/checkpoint/000000000000").exists().then_some(()));
    let longer = format!("{DIGEST}{}", &DIGEST[..32]);
    for (kid, digest, hash, mode) in [
        ("ed", DIGEST, "sha256", "individual"),
        ("ed", &longer, "sha384", "individual"),
        ("p256", DIGEST, "sha256", "individual"),
        ("p384", &longer, "sha384", "individual"),
        ("k1", DIGEST, "sha256", "individual"),
        ("rsa", DIGEST, "sha256", "individual"),
        ("pss", DIGEST, "sha256", "individual"),
        ("pq", DIGEST, "sha256", "individual"),
        ("dual", DIGEST, "sha256", "individual"),
        ("dual", DIGEST, "sha256", "anchored"),
    ] {
        post(
            "/v1/sign",
            format!(
                "{{\"kid\":\"{kid}\",\"digest\":\"{digest}\",\"digestAlgorithm\":\"{hash}\",\"mode\":\"{mode}\"}}"
            ),
        );
    }
    let item = |order: u32| {
        format!(
            "{{\"eventType\":\"order.paid\",\"payload\":{{\"order\":{order}}},\"stream\":\"orders/{}\"}}",
            order % 3
        )
    };
    if events > 0 {
        post(
            "/v1/events/batch",
            format!("{{\"items\":[{}]}}", (0..events).map(item).collect::<Vec<_>>().join(",")),
        );
    }
    wait_for("second epoch", || world.path("archive/checkpoint/000000000001").exists().then_some(()));
    assert!(daemon.stop().success());
    world
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(files(&path));
        } else {
            found.push(path);
        }
    }
    found.sort();
    found
}

/// Writes over a file although it is read-only, as an attacker with the disk would.
fn put(path: &Path, bytes: &[u8]) {
    std::fs::remove_file(path).unwrap_or_default();
    std::fs::write(path, bytes).unwrap();
}

/// Exit code and output of our verifier.
fn ours(archive: &Path, signers: &Path) -> (i32, String) {
    let mut command = Command::new(binary("chancery-verify"));
    let output =
        command.arg("ledger").arg(archive).arg("--signers").arg(signers).arg("--json").output().unwrap();
    (output.status.code().unwrap(), String::from_utf8(output.stdout).unwrap())
}

/// Exit code and output of the reference verifier.
fn theirs(python: &Path, archive: &Path, signers: &Path) -> (i32, String) {
    let program = Path::new(env!("CARGO_MANIFEST_DIR")).join("reference/verify.py");
    told_by(Command::new(python).arg(program), archive, signers)
}

/// Exit code and output of a program that takes our verifier's arguments.
fn told_by(command: &mut Command, archive: &Path, signers: &Path) -> (i32, String) {
    let output = command.arg(archive).arg("--signers").arg(signers).output().unwrap();
    (
        output.status.code().unwrap(),
        String::from_utf8(output.stdout).unwrap() + &String::from_utf8_lossy(&output.stderr),
    )
}

#[test]
fn both_verifiers_accept_the_good_and_refuse_each_kind_of_damage() {
    let world = ledger(300);
    let (archive, signers) = (world.path("archive"), world.path("signers.json"));
    let python = python_with_cryptography().unwrap();
    let both = |what: &str, good: bool| {
        let (code, output) = ours(&archive, &signers);
        assert_eq!(code == 0, good, "{what}: {output}");
        let (code, output) = theirs(&python, &archive, &signers);
        assert_eq!(code == 0, good, "{what}, reference: {output}");
    };
    both("untouched", true);
    assert!(!ours(&archive, &signers).1.contains("\"headsMaps\":0"), "both derive enrolled maps of heads");
    let files = files(&archive);
    for (number, path) in files.iter().enumerate() {
        let name = path.display();
        let good = std::fs::read(path).unwrap();
        let mut flipped = good.clone();
        let at = flipped.len() * (number + 1) / (files.len() + 2);
        flipped[at] ^= 1;
        put(path, &flipped);
        both(&format!("{name} flipped at {at}"), false);
        put(path, &good[..good.len() - 1]);
        both(&format!("{name} truncated"), false);
        std::fs::remove_file(path).unwrap();
        both(&format!("{name} removed"), false);
        put(path, &good);
        let copy = path.with_extension("copy");
        put(&copy, &good);
        both(&format!("{name} copied"), false);
        std::fs::remove_file(copy).unwrap();
        let other = &files[(number + 1) % files.len()];
        let theirs = std::fs::read(other).unwrap();
        if theirs != good {
            put(path, &theirs);
            put(other, &good);
            both(&format!("{name} swapped with {}", other.display()), false);
            put(path, &good);
            put(other, &theirs);
        }
    }
    both("restored", true);
    // Whoever has the ledger's key can make such an archive: the last checkpoint must be by a key that is believed.
    for (since, good) in [(1_000_000, true), (1, false)] {
        let mut registry = world.registry();
        let is_own = |signer: &&mut SignerRecord| signer.signer_kid.as_str() == "ledger-ed25519-v1";
        let own = registry.signers.iter_mut().find(is_own).unwrap();
        (own.state, own.compromised_since) = (KeyState::Compromised, Some(since));
        std::fs::write(&signers, serde_json::to_vec(&registry).unwrap()).unwrap();
        both(&format!("the ledger's key is compromised since {since}"), good);
    }
    let foreign = ledger(0);
    let (code, output) = ours(&archive, &foreign.path("signers.json"));
    assert_eq!(code, 1, "foreign registry: {output}");
    assert_ne!(theirs(&python, &archive, &foreign.path("signers.json")).0, 0);
}

/// What the tree is made of, relative to the archive: checkpoints, hash tiles, full bundles and the last tail.
fn tree(archive: &Path) -> Vec<PathBuf> {
    let all = files(archive).into_iter().map(|path| path.strip_prefix(archive).unwrap().to_path_buf());
    let is_tail = |path: &PathBuf| path.to_string_lossy().contains(".p/");
    let (tails, mut tree): (Vec<_>, Vec<_>) =
        all.filter(|path| path.starts_with("checkpoint") || path.starts_with("tile")).partition(is_tail);
    let size = |path: &PathBuf| path.file_name().unwrap().to_string_lossy().parse::<u64>().unwrap();
    // Tails of one bundle grow; an older bundle's are superseded by the full one.
    tree.extend(tails.into_iter().max_by_key(|path| (path.parent().unwrap().to_path_buf(), size(path))));
    tree
}

#[test]
fn the_go_teams_code_accepts_the_good_tree_and_refuses_each_kind_of_damage() {
    let world = ledger(600);
    let (archive, signers) = (world.path("archive"), world.path("signers.json"));
    let program = go_reference().unwrap();
    let go = |signers: &Path| told_by(&mut Command::new(&program), &archive, signers);
    let expect = |code: i32, what: &str| {
        let (told, output) = go(&signers);
        assert_eq!(told, code, "{what}: {output}");
        output
    };
    let report = expect(0, "untouched");
    let records: u64 = report.split_whitespace().next().unwrap().parse().unwrap();
    assert!(records > 600, "{report}");
    let tree = tree(&archive);
    for part in
        ["checkpoint/000000000000", "tile/0/000", "tile/0/001", "tile/entries/000", "tile/entries/001"]
    {
        assert!(tree.iter().any(|path| path == Path::new(part)), "no {part} in {tree:?}");
    }
    for relative in &tree {
        let (path, name) = (archive.join(relative), relative.display());
        let good = std::fs::read(&path).unwrap();
        for at in [0, good.len() / 2, good.len() - 1] {
            let mut flipped = good.clone();
            flipped[at] ^= 1;
            put(&path, &flipped);
            expect(1, &format!("{name} flipped at {at}"));
        }
        put(&path, &good[..good.len() - 1]);
        expect(1, &format!("{name} truncated"));
        if !relative.starts_with("checkpoint") {
            std::fs::remove_file(&path).unwrap();
            expect(3, &format!("{name} removed"));
        }
        put(&path, &good);
    }
    assert_eq!(expect(0, "restored"), report);
    let (code, output) = go(&ledger(0).path("signers.json"));
    assert_eq!(code, 1, "foreign registry: {output}");
}

/// A single entry, from the running log and from a mirror of it: what it says, its signature, and its path to the root.
#[test]
fn single_entries_are_read_from_the_running_log_and_drawn_as_the_auditor_draws_them() {
    let world = World::new(&WorldOptions::default());
    let daemon = Daemon::start(&world);
    let body = format!("{{\"kid\":\"ed\",\"digest\":\"{DIGEST}\",\"digestAlgorithm\":\"sha256\"}}");
    let reply = call(&world, Some(&world.orders), &Ask::post("/v1/sign", body)).unwrap();
    assert_eq!(reply.status, 200, "{}", reply.body);
    let index = reply.json()["receipt"]["index"].as_u64().unwrap();
    let receipt = wait_for("its receipt", || {
        let path = format!("/v1/receipts/{index}");
        let reply = call(&world, Some(&world.orders), &Ask::get(&path)).ok()?;
        (reply.status == 200).then(|| reply.json())
    });
    let url = world.url();
    let chancery = |arguments: &[&str]| {
        let mut command = Command::new(binary("chancery"));
        command.args(arguments).args(["--url", &url]).arg("--ca").arg(world.path("ca.crt"));
        command.arg("--cert").arg(&world.orders.certificate).arg("--key").arg(&world.orders.key);
        command.output().unwrap()
    };
    let (number, signers) = (index.to_string(), world.path("signers.json"));
    let signers = signers.to_str().unwrap();
    let json = |output: &std::process::Output| -> serde_json::Value {
        serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{output:?}"))
    };
    let got = wait_for("a checkpoint over it", || {
        let output = chancery(&["ledger", "explain", &number, "--signers", signers, "--json"]);
        output.status.success().then(|| json(&output))
    });
    assert_eq!(got["event"], receipt["event"]);
    assert_eq!(got["signatures"][0], receipt["event"]["payload"]["signer_kid"], "{got}");
    let raw = chancery(&["ledger", "get", &number, "--signers", signers, "--raw"]);
    assert_eq!(serde_json::from_slice::<serde_json::Value>(&raw.stdout).unwrap(), receipt["event"]);
    let beyond = chancery(&["ledger", "get", "999999", "--signers", signers]);
    assert_eq!(beyond.status.code(), Some(3), "{beyond:?}");
    let vkey = &world.registry().ledger.vkeys[0];
    let copy = world.path("mirrored");
    let (log, copy) = (format!("{url}/log"), copy.to_str().unwrap());
    let followed = chancery(&["mirror", "follow", &log, "--vkey", vkey, "--to", copy, "--once"]);
    assert!(followed.status.success(), "{followed:?}");
    assert!(daemon.stop().success());

    // The mirror is as good, and the auditor draws the same path from the archive.
    let mirrored = chancery(&["ledger", "explain", &number, "--log", copy, "--signers", signers, "--json"]);
    assert_eq!(json(&mirrored)["event"], receipt["event"]);
    let archive = world.path("archive");
    let explained = json(&world.verify(&["explain", archive.to_str().unwrap(), &number, "--json"]));
    assert_eq!(explained["checked"]["leafHash"], got["leafHash"]);
    // The archive may be longer than the mirror: the first steps are the same, until a sibling has grown.
    let (ours, theirs) = (&explained["checked"]["path"], &got["path"]);
    assert!(!ours.as_array().unwrap().is_empty());
    let complete = |step: &&serde_json::Value| step["side"] == "left";
    for step in theirs.as_array().unwrap().iter().filter(complete) {
        let same = |other: &serde_json::Value| other["sibling"] == step["sibling"] && other["side"] == "left";
        assert!(ours.as_array().unwrap().iter().any(same), "{step} is not in {ours}");
    }
}
