//! COSE receipts (RFC 9942) from a real daemon: fetched by the client, verified by our code and by a reader written from
//! the RFCs, in an evidence bundle, after a crash, and off unless they are switched on.

#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "a failed unwrap is the test's failure")]

use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair as _};
use chancery_format::cose::{CoseAlgorithm, CoseReceipt, CoseStatement, VerifiedCoseHead};
use chancery_format::log_key::LogKey;
use chancery_format::merkle::leaf_hash;
use chancery_format::note::NoteVerifier;
use chancery_format::{LeafIndex, Receipt, TreeHead};
use chancery_tests::rig::wire::{Ask, Reply, call};
use chancery_tests::rig::{Daemon, World, WorldOptions, binary, roll_options, wait_for};
use serde_json::{Value, json};

const LEDGER_KEY: &str = "ledger-ed25519-v1";

fn options(cose: &str) -> WorldOptions {
    let usual = WorldOptions::default();
    WorldOptions { ledger: usual.ledger.clone() + cose, ..usual }
}

fn sign(world: &World, number: u64) -> u64 {
    let body = json!({ "kid": "ed", "digest": format!("{number:064x}"), "digestAlgorithm": "sha256" });
    let reply = call(world, Some(&world.orders), &Ask::post("/v1/sign", body.to_string())).unwrap();
    assert_eq!(reply.status, 200, "{}", reply.body);
    reply.json()["receipt"]["index"].as_u64().unwrap()
}

fn ask_for_cose(world: &World, index: u64) -> Reply {
    let path = format!("/v1/receipts/{index}");
    call(world, Some(&world.orders), &Ask::get(&path).header("accept", "application/cose")).unwrap()
}

fn chancery(world: &World, arguments: &[&str]) -> Output {
    let mut command = Command::new(binary("chancery"));
    command.args(arguments).args(["--json", "--url", &world.url()]).arg("--ca").arg(world.path("ca.crt"));
    command.arg("--cert").arg(&world.orders.certificate).arg("--key").arg(&world.orders.key);
    command.output().unwrap()
}

#[track_caller]
fn told(output: &Output, code: i32) -> Value {
    assert_eq!(output.status.code(), Some(code), "{output:?}");
    serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{output:?}"))
}

/// What the receipt proves, by our code.
fn ours(world: &World, receipt: &[u8], leaf: &[u8]) -> Option<(LeafIndex, TreeHead)> {
    let registry = world.registry();
    let receipt = CoseReceipt::parse(receipt).ok()?;
    let keys = registry.log_keys().unwrap();
    receipt.verify_inclusion(&leaf_hash(leaf), &registry.ledger.origin, &keys).ok()
}

/// What each of them proves, by the reader that shares nothing with our code.
fn theirs(world: &World, receipts: &[Vec<u8>], leaf: &[u8]) -> Vec<Value> {
    let program = Path::new(env!("CARGO_MANIFEST_DIR")).join("readers/cose.mjs");
    let file = world.path("entry.leaf");
    std::fs::write(&file, leaf).unwrap();
    let mut node = Command::new("node");
    node.arg(program).arg(&world.registry().ledger.vkeys[0]).arg(file);
    let mut node = node.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let hex = |bytes: &Vec<u8>| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    let lines: String = receipts.iter().map(|receipt| hex(receipt) + "\n").collect();
    node.stdin.take().unwrap().write_all(lines.as_bytes()).unwrap();
    let output = node.wait_with_output().unwrap();
    assert!(output.status.success(), "{output:?}");
    let said: Vec<Value> = String::from_utf8(output.stdout)
        .unwrap()
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert_eq!(said.len(), receipts.len());
    said
}

/// Fetched, checked and kept by the client; agreed on by both readers; gives the bytes and the tree.
fn fetched(world: &World, index: u64, leaf: &[u8]) -> (Vec<u8>, TreeHead) {
    let (kept, signers) = (world.path("receipt.cose"), world.path("signers.json"));
    let (kept, signers) = (kept.to_str().unwrap(), signers.to_str().unwrap());
    let number = index.to_string();
    let get = ["receipt", "get", &number, "--format", "cose", "--signers", signers, "-o", kept];
    told(&chancery(world, &get), 0);
    let receipt = std::fs::read(kept).unwrap();
    let (found, head) = ours(world, &receipt, leaf).expect("it verifies");
    assert_eq!(found, LeafIndex(index));
    let said = theirs(world, std::slice::from_ref(&receipt), leaf);
    assert_eq!(said, [json!({ "index": index, "size": head.size.0, "root": head.root.to_hex() })]);
    (receipt, head)
}

/// The entry, from its receipt of JSON, which is kept as `receipt.json`.
fn leaf(world: &World, index: u64) -> Vec<u8> {
    let kept = world.path("receipt.json");
    told(&chancery(world, &["receipt", "get", &index.to_string(), "-o", kept.to_str().unwrap()]), 0);
    Receipt::parse(&std::fs::read(kept).unwrap()).unwrap().leaf().to_vec()
}

#[test]
fn cose_receipts_hold_for_two_readers_and_through_a_crash() {
    let world = World::new(&options("cose_receipts = true\n"));
    let daemon = Daemon::start(&world);
    let (first, second) = (sign(&world, 1), sign(&world, 2));
    let (other, entry) = (leaf(&world, first), leaf(&world, second));
    let (receipt, head) = fetched(&world, second, &entry);

    // Every bit of it matters, and it is of this entry alone.
    let flip = |at: usize| {
        let mut changed = receipt.clone();
        changed[at / 8] ^= 1 << (at % 8);
        changed
    };
    let tampered: Vec<Vec<u8>> = (0..receipt.len() * 8).map(flip).chain([receipt[1..].to_vec()]).collect();
    for (bit, said) in theirs(&world, &tampered, &entry).iter().enumerate() {
        assert!(said["refused"].is_string(), "bit {bit}: {said}");
        assert_eq!(ours(&world, &tampered[bit], &entry), None, "bit {bit}");
    }
    assert!(theirs(&world, std::slice::from_ref(&receipt), &other)[0]["refused"].is_string());
    assert_eq!(ours(&world, &receipt, &other), None);

    // A bundle takes it along by itself, and the auditor's program counts it.
    let (json_receipt, bundle) = (world.path("receipt.json"), world.path("entry.evidence"));
    let bundled = ["receipt", "bundle", json_receipt.to_str().unwrap(), "--out", bundle.to_str().unwrap()];
    assert_eq!(told(&chancery(&world, &bundled), 0)["cose"], true);
    let judged = told(&world.verify(&["evidence", bundle.to_str().unwrap(), "--json"]), 0);
    assert_eq!(judged["checked"]["ways"]["cose"], "held", "{judged}");

    // What was signed last survives a crash, as it was signed.
    daemon.kill();
    let registry = world.registry();
    let (origin, keys) = (&registry.ledger.origin, registry.log_keys().unwrap());
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let open = || chancery_ledger::Roll::open(roll_options(world.path("ledger"), origin.clone(), LEDGER_KEY));
    runtime.block_on(async {
        let (roll, _) = open().unwrap();
        let (signed, at) = roll.cose_head().await.unwrap().unwrap();
        let kept = VerifiedCoseHead::verify(signed, &at, origin, &keys).unwrap();
        assert!(kept.head().size >= head.size);
        roll.close().await;
    });
    let daemon = Daemon::start(&world);
    let (_, later) = fetched(&world, second, &entry);
    assert!(later.size >= head.size);
    assert!(daemon.stop().success());
    let log = || std::fs::read_to_string(world.path("daemon.log")).unwrap();
    assert!(!log().contains("kept for COSE receipts is not used"), "{}", log());

    // Whoever writes to the disk without the ledger's key is found out at the next start, and nothing of it is given.
    let stranger = Ed25519KeyPair::generate().unwrap();
    runtime.block_on(async {
        let (roll, _) = open().unwrap();
        let size = roll.latest_checkpoint().unwrap().size;
        let head = TreeHead { size, root: roll.root_at(size).await.unwrap() };
        let statement = CoseStatement::of_head(CoseAlgorithm::EdDsa, origin.clone(), size);
        let signature = stranger.sign(&statement.to_be_signed(&head.root)).as_ref().to_vec();
        let public: [u8; 32] = stranger.public_key().as_ref().try_into().unwrap();
        let key = LogKey::Ed25519(NoteVerifier::new(origin.as_str(), &public).unwrap());
        let forged = VerifiedCoseHead::verify(statement.signed(signature), &head, origin, &[key]).unwrap();
        roll.record_cose_head(forged).await.unwrap();
        roll.close().await;
    });
    let daemon = Daemon::start(&world);
    fetched(&world, second, &entry);
    assert!(log().contains("kept for COSE receipts is not used"), "{}", log());
    assert_eq!(daemon.metric("chancery_cose_head_failures_total"), 0);
    assert!(daemon.stop().success());

    // Switched off again, none is given, whatever is kept.
    world.write_config(&options(""));
    let daemon = Daemon::start(&world);
    let refused = ask_for_cose(&world, second);
    assert_eq!((refused.status, refused.code().as_str()), (404, "not-found"), "{}", refused.body);
    assert!(daemon.stop().success());
}

#[test]
fn cose_receipts_are_off_by_default() {
    let world = World::new(&WorldOptions::default());
    let daemon = Daemon::start(&world);
    let index = sign(&world, 1);
    leaf(&world, index);
    let refused = ask_for_cose(&world, index);
    assert_eq!((refused.status, refused.code().as_str()), (404, "not-found"), "{}", refused.body);
    assert!(refused.body.contains("cose_receipts"), "{}", refused.body);
    let get = ["receipt", "get", &index.to_string(), "--format", "cose"];
    let message = told(&chancery(&world, &get), 3)["error"]["detail"].as_str().unwrap().to_owned();
    assert!(message.contains("cose_receipts"), "{message}");
    let (receipt, bundle) = (world.path("receipt.json"), world.path("entry.evidence"));
    let bundled = ["receipt", "bundle", receipt.to_str().unwrap(), "--out", bundle.to_str().unwrap()];
    assert_eq!(told(&chancery(&world, &bundled), 0)["cose"], false);

    assert!(daemon.stop().success());
    let origin = world.registry().ledger.origin;
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        let opened = chancery_ledger::Roll::open(roll_options(world.path("ledger"), origin, LEDGER_KEY));
        let (roll, _) = opened.unwrap();
        assert_eq!(roll.cose_head().await.unwrap(), None);
        roll.close().await;
    });
}

/// An entry that nobody waited for has its receipt when it is asked for, though the checkpoint is a minute away.
#[test]
fn a_receipt_is_waited_for() {
    let ledger = "checkpoint_interval_ms = 60000\nreserve_bytes = 1048576\ncose_receipts = true\n".to_owned();
    let world = World::new(&WorldOptions { ledger, ..WorldOptions::default() });
    let daemon = Daemon::start(&world);
    let index = wait_for("an entry without checkpoint", || {
        let index = sign(&world, 1);
        (daemon.metric("chancery_checkpoint_entries") <= index).then_some(index)
    });
    let asked = format!("/v1/receipts/{index}");
    let reply =
        call(&world, Some(&world.orders), &Ask::get(&asked).header("accept", "application/cose")).unwrap();
    assert_eq!(reply.status, 200, "{}", reply.body);
    assert_eq!(reply.header("content-type"), Some("application/cose; cose-type=\"cose-sign1\""));
    assert!(daemon.stop().success());
}
