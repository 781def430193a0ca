//! Keys that change while everybody signs: a rotation, crashes in the middle of it, and a compromise.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a failed unwrap is the test's failure")]

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use chancery_format::AuditEvent;
use chancery_hsm::KeyShape;
use chancery_hsm::software::{DevelopmentOnly, SoftwareBackend};
use chancery_tests::rig::wire::{Ask, Reply, call};
use chancery_tests::rig::{Daemon, People, World, WorldOptions, evidence, wait_for};
use serde_json::{Value, json};

const THREE: [&str; 3] = ["ann", "bob", "eve"];
const LIMITS: &str =
    "\n[limits]\nhandshakes_per_address_per_second = 100000\nconnections_per_address_max = 1024\n";

fn world(people: &People, required: usize) -> World {
    let more = LIMITS.to_owned() + &people.tables(required, &THREE);
    World::new(&WorldOptions { more, ..WorldOptions::default() })
}

/// A key made with the backend's own tool, which the daemon has never seen.
fn make_key(world: &World, label: &str) {
    let allowed = DevelopmentOnly::check(true, false).unwrap();
    let backend = SoftwareBackend::in_directory("software", &world.path("keys"), allowed).unwrap();
    backend.generate_key(label, KeyShape::Ed25519).unwrap();
}

fn sign(world: &World, kid: &str, caller: usize, turn: u64) -> Result<Reply, String> {
    let body = format!(
        "{{\"kid\":\"{kid}\",\"digest\":\"{caller:032x}{turn:032x}\",\"digestAlgorithm\":\"sha256\"}}"
    );
    call(world, Some(&world.orders), &Ask::post("/v1/sign", body))
}

/// Signs with `ed` until told to stop; every answer must be a signature.
fn keep_signing(world: &World, caller: usize, stop: &AtomicBool, check: impl Fn(&Reply)) {
    for turn in 0.. {
        if stop.load(Ordering::Relaxed) {
            break;
        }
        let reply = sign(world, "ed", caller, turn).unwrap();
        assert_eq!(reply.status, 200, "{}", reply.body);
        check(&reply);
    }
}

fn archive(world: &World) -> String {
    world.path("archive").display().to_string()
}

/// Every leaf as type, payload and index.
fn leaves(world: &World) -> Vec<(String, Value)> {
    let leaves = evidence::leaves(&world.path("archive"), &world.registry());
    let read = |leaf: &Vec<u8>| {
        let event = AuditEvent::parse(leaf).unwrap();
        (event.event_type.to_owned(), serde_json::from_str(event.payload).unwrap())
    };
    leaves.iter().map(read).collect()
}

fn index_of(leaves: &[(String, Value)], found: impl Fn(&str, &Value) -> bool) -> usize {
    leaves.iter().position(|(kind, payload)| found(kind, payload)).unwrap()
}

fn rotate(people: &People, world: &World, to: &str, overlap_hours: u32) -> Value {
    rotate_key(people, world, ("ed", to), overlap_hours)
}

fn rotate_key(people: &People, world: &World, (kid, to): (&str, &str), overlap_hours: u32) -> Value {
    let body = json!({ "to": to, "reason": "yearly", "overlapHours": overlap_hours });
    let asked = people.act(world, "eve", &format!("/admin/v1/keys/{kid}/rotate"), &body);
    assert_eq!(asked["status"], "pending", "{asked}");
    people.approve(world, &asked, &["ann", "bob"])
}

#[test]
fn sixty_four_callers_sign_through_a_rotation_and_none_notices() {
    const CALLERS: usize = 64;
    let people = People::new();
    let world = world(&people, 2);
    make_key(&world, "ed-v2");
    let daemon = Daemon::start(&world);
    let (stop, signed) = (AtomicBool::new(false), AtomicU64::new(0));
    let registries = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for caller in 0..CALLERS {
            let (world, stop, signed) = (&world, &stop, &signed);
            scope.spawn(move || {
                keep_signing(world, caller, stop, |reply| {
                    // Whatever key it was, the registry published by now knows it as one that may sign.
                    if caller == 0 {
                        let signer_kid = reply.json()["signer_kid"].as_str().unwrap().to_owned();
                        let record = world.registry().signer(&signer_kid).cloned().unwrap();
                        assert!(record.activated_index.is_some(), "{signer_kid}: {record:?}");
                    }
                    signed.fetch_add(1, Ordering::Relaxed);
                });
            });
        }
        std::thread::sleep(Duration::from_millis(500));
        rotate(&people, &world, "ed-v2", 0);
        people.wait_rotated(&world, "ed", "ed-v2");
        registries.lock().unwrap().push(world.registry());
        // An overlap of nothing: the old key is retired while everybody goes on.
        wait_for("the retirement", || {
            let record = world.registry().signer("ed-ed25519-v1").cloned()?;
            record.retired_index
        });
        std::thread::sleep(Duration::from_millis(500));
        stop.store(true, Ordering::Relaxed);
    });
    println!("{} signed", signed.load(Ordering::Relaxed));
    assert!(daemon.stop().success());
    assert!(world.verify(&["ledger", &archive(&world), "--acts"]).status.success());

    let leaves = leaves(&world);
    let by = |kid: &'static str| {
        move |kind: &str, payload: &Value| kind == "signing.signature.issued" && payload["signer_kid"] == kid
    };
    let first_new = index_of(&leaves, by("ed-v2"));
    let last_old = leaves.iter().rposition(|(kind, payload)| by("ed-ed25519-v1")(kind, payload)).unwrap();
    let requested = index_of(&leaves, |kind, _| kind == "signer.rotation.requested");
    let staged =
        requested + leaves[requested..].iter().position(|(kind, _)| kind == "registry.published").unwrap();
    let tested = index_of(&leaves, |kind, _| kind == "signer.tested");
    let activated =
        index_of(&leaves, |kind, payload| kind == "signer.activated" && payload["signer_kid"] == "ed-v2");
    let published =
        activated + leaves[activated..].iter().position(|(kind, _)| kind == "registry.published").unwrap();
    let applied = index_of(&leaves, |kind, _| kind == "signer.rotation.applied");
    let retired = index_of(&leaves, |kind, _| kind == "signer.retired");
    assert!(staged < tested && tested < activated && published < applied, "{staged} {tested} {activated}");
    assert!(published < first_new && applied < first_new, "published before first use");
    assert!(last_old < retired && first_new < retired);
    // The old key handed over, and its word is an entry like any other.
    let hand_over = usize::try_from(leaves[applied].1["handOver"].as_u64().unwrap()).unwrap();
    assert_eq!(leaves[hand_over].1["purpose"], "key-hand-over");
    assert_eq!(leaves[hand_over].1["signer_kid"], "ed-ed25519-v1");
}

#[test]
fn a_daemon_killed_at_any_moment_of_a_rotation_comes_to_the_same_end() {
    // From the approval on, ever later: some before the first step, some between, some after the last.
    for (round, wait_ms) in [0u64, 60, 150, 300, 500, 800, 1_200].into_iter().enumerate() {
        let people = People::new();
        let world = world(&people, 2);
        make_key(&world, "ed-v2");
        let daemon = Daemon::start(&world);
        assert_eq!(sign(&world, "ed", round, 0).unwrap().status, 200);
        let body = json!({ "to": "ed-v2", "reason": "yearly" });
        let asked = people.act(&world, "eve", "/admin/v1/keys/ed/rotate", &body);
        people.approve(&world, &asked, &["ann"]);
        std::thread::scope(|scope| {
            let last = scope.spawn(|| {
                let path = format!("/admin/v1/approvals/{}/approve", asked["id"].as_str().unwrap());
                let body = json!({ "actSha256": asked["actSha256"] }).to_string();
                let token = people.openid.token("bob", &["approver"]);
                let ask = Ask::post(&path, body).header("authorization", &format!("Bearer {token}"));
                // The daemon may die under it.
                drop(chancery_tests::rig::wire::call_at(&world, people.port, None, &ask));
            });
            std::thread::sleep(Duration::from_millis(20 + wait_ms));
            daemon.kill();
            last.join().unwrap();
        });
        let daemon = Daemon::start(&world);
        let path = format!("/admin/v1/approvals/{}", asked["id"].as_str().unwrap());
        let request = people.call(&world, ("ann", &["auditor"]), Ask::get(&path)).json();
        if request["approvedBy"].get(people.name("bob")).is_none() {
            // The last voice was not heard. If it was, and no more, the daemon goes on by itself.
            people.approve(&world, &asked, &["bob"]);
        }
        people.wait_rotated(&world, "ed", "ed-v2");
        let reply = sign(&world, "ed", round, 1).unwrap();
        assert_eq!((reply.status, reply.json()["signer_kid"].as_str().unwrap()), (200, "ed-v2"), "{round}");
        // And once more: a restart after the end changes nothing.
        daemon.kill();
        let daemon = Daemon::start(&world);
        assert_eq!(sign(&world, "ed", round, 2).unwrap().json()["signer_kid"], "ed-v2");
        let record = world.registry().signer("ed-ed25519-v1").cloned().unwrap();
        assert_eq!(format!("{:?}", record.state), "Deprecated", "{round}");
        assert!(daemon.stop().success());
        let verified = world.verify(&["ledger", &archive(&world)]);
        assert!(verified.status.success(), "{round}: {}", String::from_utf8_lossy(&verified.stdout));
        let count = |kind: &str| leaves(&world).iter().filter(|(found, _)| found == kind).count();
        assert_eq!((count("signer.rotation.applied"), count("signer.rotation.requested")), (1, 1), "{round}");
    }
}

#[test]
fn steps_out_of_order_and_keys_that_are_not_there_are_refused() {
    let people = People::new();
    let world = world(&people, 2);
    make_key(&world, "ed-v2");
    let _daemon = Daemon::start(&world);
    let refused = |path: &str, body: Value| {
        let reply = people.call(&world, ("eve", &["security-engineer"]), Ask::post(path, body.to_string()));
        (reply.status, reply.code())
    };
    let rotate = "/admin/v1/keys/ed/rotate";
    let missing = refused(rotate, json!({ "to": "ed-v9", "reason": "x" }));
    assert_eq!(missing, (409, "wrong-state".to_owned()));
    let known = refused(rotate, json!({ "to": "p256-ecdsa-p256-sha256-v1", "reason": "x" }));
    assert_eq!(known, (409, "wrong-state".to_owned()));
    let no_reason = refused(rotate, json!({ "to": "ed-v2", "reason": " " }));
    assert_eq!(no_reason, (400, "invalid-field".to_owned()));
    let unknown_field = refused(rotate, json!({ "to": "ed-v2", "reason": "x", "force": true }));
    assert_eq!(unknown_field, (400, "invalid-field".to_owned()));
    let in_use = refused("/admin/v1/keys/ed/retire", json!({ "signer_kid": "ed-ed25519-v1", "reason": "x" }));
    assert_eq!(in_use, (409, "wrong-state".to_owned()));
    assert_eq!(refused("/admin/v1/keys/nokey/rotate", json!({ "to": "a", "reason": "x" })).0, 404);
    assert_eq!(sign(&world, "ed", 1, 1).unwrap().json()["signer_kid"], "ed-ed25519-v1");
}

#[test]
fn a_compromised_key_stops_within_a_second_and_the_verdicts_before_and_after_are_right() {
    const CALLERS: usize = 32;
    let people = People::new();
    let world = world(&people, 2);
    make_key(&world, "ed-v2");
    let daemon = Daemon::start(&world);
    let stop = AtomicBool::new(false);
    let (told, last) = std::thread::scope(|scope| {
        let callers: Vec<_> = (0..CALLERS)
            .map(|caller| {
                let (world, stop) = (&world, &stop);
                scope.spawn(move || {
                    let mut last = Instant::now();
                    for turn in 0.. {
                        if stop.load(Ordering::Relaxed) {
                            break;
                        }
                        let reply = sign(world, "ed", caller, turn).unwrap();
                        match reply.status {
                            200 => last = Instant::now(),
                            _ => assert_eq!(reply.code(), "halted", "{}", reply.body),
                        }
                    }
                    last
                })
            })
            .collect();
        std::thread::sleep(Duration::from_millis(700));
        let suspect = people.status(&world)["entries"].as_u64().unwrap();
        std::thread::sleep(Duration::from_millis(300));
        let at = Instant::now();
        let body = json!({
            "sinceIndex": suspect, "reason": "a copy was found", "emergency": { "to": "ed-v2" },
        });
        let told = people.act(&world, "eve", "/admin/v1/keys/ed/compromise", &body);
        std::thread::sleep(Duration::from_millis(1_200));
        stop.store(true, Ordering::Relaxed);
        let last = callers.into_iter().map(|caller| caller.join().unwrap()).max().unwrap();
        ((told, suspect), last.saturating_duration_since(at))
    });
    let (told, suspect) = told;
    assert!(last < Duration::from_secs(1), "{last:?}");
    println!("last signature {last:?} after the command; {} suspect", told["suspectSignatures"]);
    assert_eq!(told["compromisedSince"], suspect);
    assert!(told["suspectSignatures"].as_u64().unwrap() > 0, "{told}");
    // The whole ledger was read again.
    let audit = wait_for("the second look", || {
        let audit = people.call(&world, ("ann", &["auditor"]), Ask::get("/admin/v1/audit")).json();
        audit["events"].as_array()?.iter().find(|it| it["eventType"] == "ledger.reverified").cloned()
    });
    assert_eq!(audit["payload"]["valid"], true);
    // The key that takes over needs its quorum; the compromised pair cannot be resumed.
    assert_eq!(sign(&world, "ed", 99, 1).unwrap().code(), "halted");
    let emergency = told["emergency"].clone();
    assert_eq!((&emergency["status"], &emergency["emergency"]), (&json!("pending"), &json!(true)), "{told}");
    people.approve(&world, &emergency, &["ann", "bob"]);
    people.wait_rotated(&world, "ed", "ed-v2");
    let reply = sign(&world, "ed", 99, 2).unwrap();
    assert_eq!((reply.status, reply.json()["signer_kid"].as_str()), (200, Some("ed-v2")), "{}", reply.body);
    let again = people.act(
        &world,
        "eve",
        "/admin/v1/resume",
        &json!({ "scope": "key:ed-ed25519-v1", "reason": "please" }),
    );
    let id = again["id"].as_str().unwrap().to_owned();
    people.approve(&world, &again, &["ann"]);
    let path = format!("/admin/v1/approvals/{id}/approve");
    let body = json!({ "actSha256": again["actSha256"] }).to_string();
    let refused = people.call(&world, ("bob", &["approver"]), Ask::post(&path, body));
    assert_eq!((refused.status, refused.code().as_str()), (409, "wrong-state"), "{}", refused.body);
    assert!(daemon.stop().success());

    let record = world.registry().signer("ed-ed25519-v1").cloned().unwrap();
    assert_eq!(record.compromised_since, Some(suspect));
    let output = world.verify(&["ledger", &archive(&world), "--json"]);
    assert_eq!(output.status.code(), Some(1), "a ledger with suspect signatures is not valid as a whole");
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    let findings = report["findings"].as_array().unwrap();
    assert!(!findings.is_empty());
    for finding in findings {
        assert_eq!(finding["kind"], "signer-compromised", "{finding}");
        assert!(finding["index"].as_u64().unwrap() >= suspect, "{finding}");
    }
}

#[test]
fn the_ledgers_own_key_changes_while_everybody_signs_and_both_keys_say_so() {
    let people = People::new();
    let world = world(&people, 2);
    make_key(&world, "ledger-2");
    let daemon = Daemon::start(&world);
    let index = sign(&world, "ed", 9, 8).unwrap().json()["receipt"]["index"].as_u64().unwrap();
    let receipt = |file: &str| {
        let reply = call(&world, Some(&world.orders), &Ask::get(&format!("/v1/receipts/{index}"))).unwrap();
        assert_eq!(reply.status, 200, "{}", reply.body);
        std::fs::write(world.path(file), reply.body).unwrap();
    };
    receipt("early.json");
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for caller in 0..8 {
            let (world, stop) = (&world, &stop);
            scope.spawn(move || keep_signing(world, caller, stop, |_| ()));
        }
        rotate_key(&people, &world, ("ledger", "ledger-2"), 0);
        people.wait_rotated(&world, "ledger", "ledger-2");
        wait_for("the retirement", || world.registry().signer("ledger-ed25519-v1").cloned()?.retired_index);
        std::thread::sleep(Duration::from_millis(500));
        stop.store(true, Ordering::Relaxed);
    });
    // The configuration still names the first one; the ledger's word counts.
    daemon.kill();
    let daemon = Daemon::start(&world);
    assert_eq!(sign(&world, "ed", 9, 9).unwrap().status, 200);
    // Whoever has a copy of the first one cannot make receipts, and those there are can be had again.
    let body =
        json!({ "signer_kid": "ledger-ed25519-v1", "sinceIndex": index, "reason": "a copy was found" });
    people.act(&world, "eve", "/admin/v1/keys/ledger/compromise", &body);
    receipt("again.json");
    assert!(daemon.stop().success());
    for (file, code, words) in
        [("early.json", 1, "neither retired nor compromised"), ("again.json", 0, "VALID")]
    {
        let told = world.verify(&["receipt", &world.path(file).display().to_string()]);
        let text = String::from_utf8(told.stdout).unwrap();
        assert_eq!((told.status.code(), text.contains(words)), (Some(code), true), "{file}: {text}");
    }
    // All that the first one signed is under checkpoints of the second.
    let told = world.verify(&["ledger", &archive(&world), "--acts"]);
    let text = String::from_utf8(told.stdout).unwrap();
    assert!(told.status.success(), "{text}");
    assert!(text.contains("the old and the new ledger key say so together"), "{text}");
    assert_eq!(world.registry().ledger_keys().unwrap().ed25519().len(), 2);

    let leaves = leaves(&world);
    let at = |kind: &str| index_of(&leaves, |found, _| found == kind);
    let published = |kind: &str| leaves.iter().take(at(kind)).any(|(found, _)| found == "registry.published");
    assert!(published("signer.tested") && at("signer.tested") < at("ledger.key.continued"));
    assert!(at("ledger.key.continued") < at("signer.rotation.applied"));
    // Leaves name the key that signs them.
    let raw = evidence::leaves(&world.path("archive"), &world.registry());
    let named: Vec<_> =
        raw.iter().map(|leaf| AuditEvent::parse(leaf).unwrap().signer_kid.to_owned()).collect();
    let first_new = named.iter().position(|name| name == "ledger-2").unwrap();
    assert!(first_new > at("signer.rotation.applied"));
    assert_eq!(named.last().unwrap(), "ledger-2");
}
