//! The verifying page in a real Chromium: from disk, and as the daemon serves it, with what the daemon gave out. Of each
//! evidence file the auditor's program must say what the page says.

#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "a failed unwrap is the test's failure")]

use std::path::{Path, PathBuf};
use std::process::Command;

use chancery_tests::rig::wire::{Ask, call};
use chancery_tests::rig::{Daemon, World, WorldOptions, binary, wait_for};
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
    let mut command = page_tests(folder.path()).unwrap();
    let format = page().with_file_name("../../ledger/format/FORMAT.md");
    command.arg("--page").arg(page()).arg("--format").arg(format);
    let checked = cases(command.arg("--verifier").arg(binary("chancery-verify")));
    assert!(checked > 6000, "{checked} pieces of evidence");
}

/// What `chancery receipt` makes of a kept receipt.
fn chancery(world: &World, arguments: &[&str]) {
    let mut command = Command::new(binary("chancery"));
    command.arg("receipt").args(arguments).args(["--json", "--url", &world.url()]);
    command.arg("--ca").arg(world.path("ca.crt"));
    command.arg("--cert").arg(&world.orders.certificate).arg("--key").arg(&world.orders.key);
    let output = command.output().unwrap();
    assert!(output.status.success(), "{output:?}");
}

/// A receipt as evidence, with a COSE receipt, and renewed from the running log once that has grown.
fn bundle(world: &World, daemon: &Daemon, receipt: &Path, evidence: &Path) {
    let (receipt, evidence) = (receipt.to_str().unwrap(), evidence.to_str().unwrap());
    let objects = ["--archive", "s3://audit/prod", "--object", "checkpoint/000000000000=v.1"];
    chancery(world, &[&["bundle", receipt, "--out", evidence], objects.as_slice()].concat());
    let before = daemon.metric("chancery_checkpoint_entries");
    let event = json!({ "eventType": "order.paid", "payload": { "order": 7 }, "stream": "orders/eu" });
    let reply = call(world, Some(&world.orders), &Ask::post("/v1/events", event.to_string())).unwrap();
    assert!(reply.status < 300, "{}", reply.body);
    wait_for("a larger checkpoint", || (daemon.metric("chancery_checkpoint_entries") > before).then_some(()));
    chancery(world, &["upgrade", evidence]);
    let made: Value = serde_json::from_slice(&std::fs::read(evidence).unwrap()).unwrap();
    assert!(made["cose"].is_string() && made["renewals"].as_array().unwrap().len() == 1, "{made}");
}

#[test]
fn from_the_daemon_with_the_daemons_own_receipts() {
    let usual = WorldOptions::default();
    let ledger = usual.ledger.clone() + "cose_receipts = true\n";
    let world = World::new(&WorldOptions { ledger, ..usual });
    let daemon = Daemon::start(&world);
    let folder = tempfile::tempdir().unwrap();
    for (number, kid) in ["ed", "p256", "p384", "k1", "rsa", "pss", "pq", "dual"].into_iter().enumerate() {
        let body = json!({ "kid": kid, "digest": "ab".repeat(if kid == "p384" { 48 } else { 32 }),
                           "digestAlgorithm": if kid == "p384" { "sha384" } else { "sha256" } });
        let reply = call(&world, Some(&world.orders), &Ask::post("/v1/sign", body.to_string())).unwrap();
        assert_eq!(reply.status, 200, "{}", reply.body);
        let index = reply.json()["receipt"]["index"].as_u64().unwrap();
        let receipt = call(&world, Some(&world.orders), &Ask::get(&format!("/v1/receipts/{index}"))).unwrap();
        assert_eq!(receipt.status, 200, "{}", receipt.body);
        let kept = folder.path().join(format!("receipt-{number}.json"));
        std::fs::write(&kept, receipt.body).unwrap();
        bundle(&world, &daemon, &kept, &folder.path().join(format!("{kid}.evidence")));
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
