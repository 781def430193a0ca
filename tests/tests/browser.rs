//! The verifying page in a real Chromium: from disk, and as the daemon serves it, with what the daemon gave out.

#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "a failed unwrap is the test's failure")]

use std::path::{Path, PathBuf};
use std::process::Command;

use chancery_tests::rig::wire::{Ask, call};
use chancery_tests::rig::{Daemon, World, WorldOptions};
use chancery_tests::servers::page_tests;
use serde_json::{Value, json};

fn page() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().join("verifier/web/index.html")
}

/// Every case must hold; how many pieces of evidence there were.
fn cases(command: &mut Command) -> u64 {
    let output = command.output().unwrap();
    let told = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{told}\n{}", String::from_utf8_lossy(&output.stderr));
    let cases: Vec<Value> = told.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
    assert!(cases.len() > 10, "{told}");
    cases.iter().filter_map(|case| case.get("evidence")?.as_u64()).sum()
}

/// Good evidence, every field of it altered, forged by whoever has the ledger's key; keyboard, screen reader, telephone.
#[test]
fn from_disk() {
    let folder = tempfile::tempdir().unwrap();
    let checked = cases(page_tests(folder.path()).unwrap().arg("--page").arg(page()));
    assert!(checked > 300, "{checked} pieces of evidence");
}

#[test]
fn from_the_daemon_with_the_daemons_own_receipts() {
    let world = World::new(&WorldOptions::default());
    let daemon = Daemon::start(&world);
    let folder = tempfile::tempdir().unwrap();
    for (number, kid) in ["ed", "p256", "p384", "k1", "rsa", "pss", "dual"].into_iter().enumerate() {
        let body = json!({ "kid": kid, "digest": "ab".repeat(if kid == "p384" { 48 } else { 32 }),
                           "digestAlgorithm": if kid == "p384" { "sha384" } else { "sha256" } });
        let reply = call(&world, Some(&world.orders), &Ask::post("/v1/sign", body.to_string())).unwrap();
        assert_eq!(reply.status, 200, "{}", reply.body);
        let index = reply.json()["receipt"]["index"].as_u64().unwrap();
        let receipt = call(&world, Some(&world.orders), &Ask::get(&format!("/v1/receipts/{index}"))).unwrap();
        assert_eq!(receipt.status, 200, "{}", receipt.body);
        std::fs::write(folder.path().join(format!("receipt-{number}.json")), receipt.body).unwrap();
    }
    for name in ["signers.json", "signers.json.sig"] {
        std::fs::copy(world.path(name), folder.path().join(name)).unwrap();
    }
    let served = call(&world, None, &Ask::get("/verify")).unwrap();
    assert!(
        served.body == std::fs::read_to_string(page()).unwrap(),
        "another page is served: {}",
        served.status
    );
    let policy = served.header("content-security-policy").unwrap();
    assert!(policy.starts_with("default-src 'none'; script-src 'sha256-"), "{policy}");
    assert!(policy.ends_with("frame-ancestors 'none'") && !policy.contains("unsafe"), "{policy}");

    let tests = tempfile::tempdir().unwrap();
    let url = format!("{}/verify", world.url());
    let mut command = page_tests(tests.path()).unwrap();
    cases(command.args(["--page", &url, "--evidence"]).arg(folder.path()));
    assert!(daemon.stop().success());
}
