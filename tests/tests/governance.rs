//! People over a running daemon: who may do what, the quorum, the switch. Each story ends with the offline verifier.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a failed unwrap is the test's failure")]

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use chancery_proxy::admin::table::ROUTES;
use chancery_tests::rig::wire::{Ask, Reply, call, call_at};
use chancery_tests::rig::{Daemon, People, World, WorldOptions, binary, evidence, wait_for};
use serde_json::{Value, json};

const FIVE: [&str; 5] = ["ann", "bob", "cyd", "dan", "eve"];
const ROLES: [&str; 5] = ["superadmin", "security-engineer", "operator", "approver", "auditor"];
const LIMITS: &str =
    "\n[limits]\nhandshakes_per_address_per_second = 100000\nconnections_per_address_max = 1024\n";

fn world(people: &People, required: usize, approvers: &[&str]) -> World {
    let more = LIMITS.to_owned() + &people.tables(required, approvers);
    World::new(&WorldOptions { more, ..WorldOptions::default() })
}

fn sign(world: &World, kid: &str, number: usize) -> Reply {
    try_to_sign(world, kid, number).unwrap()
}

fn try_to_sign(world: &World, kid: &str, number: usize) -> Result<Reply, String> {
    let body = format!("{{\"kid\":\"{kid}\",\"digest\":\"{number:064x}\",\"digestAlgorithm\":\"sha256\"}}");
    call(world, Some(&world.orders), &Ask::post("/v1/sign", body))
}

fn archive(world: &World) -> String {
    world.path("archive").display().to_string()
}

/// Verifies offline; the report.
fn verified(world: &World) -> Value {
    let output = world.verify(&["ledger", &archive(world), "--json"]);
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert!(output.status.success(), "{report:#}");
    report
}

fn halt(people: &People, world: &World, scope: &str) -> Value {
    people.act(world, "eve", "/admin/v1/halt", &json!({ "scope": scope, "reason": "drill" }))
}

/// A body that gets past the reading of each call, so that only rights decide.
fn body_of(path: &str) -> String {
    let body = if path.ends_with("/rotate") {
        json!({ "to": "ed-v2", "reason": "drill", "dryRun": true })
    } else if path.ends_with("/retire") {
        json!({ "signer_kid": "ed-ed25519-v1", "reason": "drill", "dryRun": true })
    } else if path.ends_with("/approve") || path.ends_with("/reject") {
        json!({ "actSha256": "00", "dryRun": true })
    } else if path.ends_with("/explain") {
        json!({ "person": "ann", "act": "halt" })
    } else if path.ends_with("/reload") || path.contains("/ledger/") {
        json!({ "dryRun": true })
    } else {
        json!({ "reason": "drill", "dryRun": true })
    };
    body.to_string()
}

#[test]
fn every_route_for_every_role_is_allowed_or_403_and_without_a_person_401() {
    let people = People::new();
    let world = world(&people, 2, &FIVE);
    let _daemon = Daemon::start(&world);
    let mut table = String::new();
    for route in ROUTES {
        let path = route.path.replace("{id}", "none").replace("{kid}", "ed");
        let ask = || match route.method.as_str() {
            "GET" => Ask::get(&path),
            _ => Ask::post(&path, body_of(&path)),
        };
        let nobody = call_at(&world, people.port, None, &ask()).unwrap();
        assert_eq!((nobody.status, nobody.code().as_str()), (401, "token-required"), "{path}");
        let forged = people.call_with(&world, "a.b.c", ask());
        assert_eq!((forged.status, forged.code().as_str()), (401, "token-refused"), "{path}");
        let none = people.call(&world, ("guest", &["developer"]), ask());
        let open = route.act.is_none();
        assert_eq!(none.status, if open { 200 } else { 403 }, "{path}: {}", none.body);
        let mut row = format!("| {} {} |", route.method, route.path);
        for role in ROLES {
            let reply = people.call(&world, ("ann", &[role]), ask());
            match reply.status {
                403 => {
                    assert_eq!(reply.code(), "role-missing", "{path} {role}: {}", reply.body);
                    let detail = reply.json()["detail"].as_str().unwrap().to_owned();
                    assert!(detail.contains("roles") && detail.contains("superadmin"), "{detail}");
                    row += " no |";
                }
                // Allowed; what it then says of a request that is not there is another matter.
                200 | 404 | 409 => row += " yes |",
                other => panic!("{path} {role}: {other} {}", reply.body),
            }
        }
        table += &format!("{row}\n");
    }
    println!("{table}");
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/../deploy/ROLES.md");
    let text = format!(
        "# Who may do what\n\nWritten by `tests/tests/governance.rs` (with `CHANCERY_WRITE_DOCS=1`) from what a \
         running daemon\nanswers, and compared with it in every test run: the rights of the built-in roles, without \
         policies of one's own.\n\n| call | {} |\n|---{}|\n{table}",
        ROLES.join(" | "),
        "|---".repeat(ROLES.len())
    );
    if std::env::var_os("CHANCERY_WRITE_DOCS").is_some() {
        std::fs::write(file, &text).unwrap();
    }
    assert_eq!(
        std::fs::read_to_string(file).unwrap_or_default(),
        text,
        "deploy/ROLES.md is not what the daemon does"
    );
}

#[test]
fn three_of_five_resume_and_every_cheat_is_refused() {
    let people = People::new();
    let world = world(&people, 3, &FIVE);
    let daemon = Daemon::start(&world);
    assert_eq!(sign(&world, "ed", 1).status, 200);
    halt(&people, &world, "global");
    assert_eq!((sign(&world, "ed", 2).status, sign(&world, "ed", 2).code().as_str()), (503, "halted"));
    let asked = people.act(&world, "eve", "/admin/v1/resume", &json!({ "reason": "drill over" }));
    assert_eq!(asked["status"], "pending");
    let path = format!("/admin/v1/approvals/{}/approve", asked["id"].as_str().unwrap());
    let word = |user: &str, roles: &[&str], sha256: &Value| {
        let body = json!({ "actSha256": sha256 }).to_string();
        people.call(&world, (user, roles), Ask::post(&path, body))
    };
    let right = &asked["actSha256"];
    // Who asked, who is no approver, who has no role, and another act.
    let itself = word("eve", &["superadmin", "approver"], right);
    assert_eq!((itself.status, itself.code().as_str()), (403, "approval-refused"), "{}", itself.body);
    assert_eq!(word("mallory", &["approver"], right).code(), "approval-refused");
    assert_eq!(word("ann", &["auditor"], right).code(), "role-missing");
    assert_eq!(word("ann", &["approver"], &json!("00")).code(), "wrong-state");
    people.approve(&world, &asked, &["ann", "bob"]);
    assert_eq!(word("ann", &["approver"], right).code(), "approval-refused");
    assert_eq!(sign(&world, "ed", 3).status, 503);
    // A restart changes nothing: neither the halt nor the voices.
    assert!(daemon.stop().success());
    let daemon = Daemon::spawn(&world);
    wait_for("the service", || {
        call(&world, Some(&world.orders), &Ask::get("/v1/keys")).ok().filter(|reply| reply.status == 200)
    });
    assert_eq!(sign(&world, "ed", 4).code(), "halted");
    let done = people.approve(&world, &asked, &["cyd"]);
    assert_eq!(done["status"], "executed", "{done}");
    assert_eq!(sign(&world, "ed", 5).status, 200);
    assert_eq!(word("dan", &["approver"], right).code(), "wrong-state");
    // Used up: the next halt needs its own quorum.
    halt(&people, &world, "global");
    assert_eq!(sign(&world, "ed", 6).code(), "halted");
    assert!(daemon.stop().success());
    let report = verified(&world);
    let governance = &report["checked"]["governance"];
    assert_eq!(governance["halted"][0]["scope"], "global");
    let approvers = governance["requests"][0]["approvedBy"].as_object().unwrap();
    assert_eq!(approvers.len(), 3, "{governance:#}");
    let told = world.verify(&["ledger", &archive(&world), "--acts"]);
    let told = String::from_utf8(told.stdout).unwrap();
    assert!(told.contains("global halted") && told.contains("approved by"), "{told}");
}

#[test]
fn enough_noes_end_a_request_and_a_dry_run_does_nothing() {
    let people = People::new();
    let world = world(&people, 3, &FIVE);
    let daemon = Daemon::start(&world);
    let before = people.status(&world)["entries"].clone();
    let would = people.act(&world, "eve", "/admin/v1/halt", &json!({ "reason": "drill", "dryRun": true }));
    assert_eq!((&would["dryRun"], &would["would"]["halt"]), (&json!(true), &json!("global")));
    assert_eq!(people.status(&world)["entries"], before);
    assert_eq!(sign(&world, "ed", 1).status, 200);
    halt(&people, &world, "key:ed");
    let asked =
        people.act(&world, "eve", "/admin/v1/resume", &json!({ "scope": "key:ed", "reason": "again" }));
    let path = format!("/admin/v1/approvals/{}/reject", asked["id"].as_str().unwrap());
    for user in ["ann", "bob"] {
        let body = json!({ "actSha256": asked["actSha256"], "note": "not yet" }).to_string();
        assert_eq!(people.call(&world, (user, &["approver"]), Ask::post(&path, body)).status, 200);
    }
    let list = people.call(&world, ("ann", &["auditor"]), Ask::get("/admin/v1/approvals?status=refused"));
    assert_eq!(list.json()["approvals"].as_array().unwrap().len(), 1);
    assert_eq!(sign(&world, "ed", 2).code(), "halted");
    assert_eq!(sign(&world, "p256", 2).status, 200);
    assert!(daemon.stop().success());
    verified(&world);
}

/// Waits for a daemon that is not ready because it is halted.
fn serves(world: &World) {
    wait_for("the service", || {
        call(world, Some(&world.orders), &Ask::get("/v1/keys")).ok().filter(|reply| reply.status == 200)
    });
}

/// 64 callers while `pull` halts `kid`'s scope: how long until the last signature that came out, and that none
/// stands behind the entry.
fn no_signature_after(world: &World, goes_away: bool, pull: impl FnOnce()) -> Duration {
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let callers: Vec<_> = (0..64usize)
            .map(|caller| {
                let (world, stop) = (&world, &stop);
                scope.spawn(move || {
                    let mut last = None;
                    for turn in 0usize.. {
                        if stop.load(Ordering::Relaxed) {
                            break;
                        }
                        let reply = match try_to_sign(world, "hsm-p256", caller << 32 | turn) {
                            Ok(reply) => reply,
                            // The daemon is being started again.
                            Err(_) if goes_away => {
                                std::thread::sleep(Duration::from_millis(20));
                                continue;
                            }
                            Err(error) => panic!("{error}"),
                        };
                        if goes_away && reply.code() == "draining" {
                            continue;
                        }
                        if reply.status == 200 {
                            last = Some(Instant::now());
                        } else {
                            assert_eq!(reply.code(), "halted", "{}", reply.body);
                            break;
                        }
                    }
                    last
                })
            })
            .collect();
        std::thread::sleep(Duration::from_millis(700));
        let pulled = Instant::now();
        pull();
        std::thread::sleep(Duration::from_millis(1_500));
        stop.store(true, Ordering::Relaxed);
        let last = callers.into_iter().filter_map(|caller| caller.join().unwrap()).max();
        last.expect("somebody was served before").saturating_duration_since(pulled)
    })
}

#[test]
fn each_means_halts_64_callers_within_a_second_and_nothing_is_signed_behind_the_entry() {
    for means in ["environment", "file", "admin", "cli", "key", "principal"] {
        let people = People::new();
        let options =
            WorldOptions { more: LIMITS.to_owned() + &people.tables(2, &FIVE), ..WorldOptions::default() };
        let world = World::with_softhsm(&options);
        let mut daemon = Daemon::start(&world);
        let after = no_signature_after(&world, means == "environment", || match means {
            // A process cannot be given another environment: it ends, and the next one has it.
            "environment" => {
                daemon.signal(rustix::process::Signal::TERM);
                assert!(daemon.wait().success());
                daemon = Daemon::spawn_with(&world, &[("CHANCERY_ENABLE", "off")]);
                serves(&world);
            }
            "cli" => {
                let mut halt = std::process::Command::new(binary("chancery"));
                halt.args(["halt", "--reason", "drill"]).envs(people.shell(&world, "eve", &["operator"]));
                assert!(halt.status().unwrap().success());
            }
            "file" => std::fs::write(world.path("halt"), "drill").unwrap(),
            "admin" => drop(halt(&people, &world, "global")),
            "key" => drop(halt(&people, &world, "key:hsm-p256")),
            _ => drop(halt(&people, &world, &format!("principal:{}", chancery_tests::rig::world::ORDERS))),
        });
        assert!(after < Duration::from_secs(1), "{means}: {after:?}");
        println!("{means}: last signature {after:?} after the pull");
        assert_eq!(sign(&world, "hsm-p256", 7).code(), "halted");
        // Other scopes go on, and so does everything that uses no key.
        assert_eq!(sign(&world, "ed", 8).status == 200, means == "key", "{means}");
        assert_eq!(call(&world, Some(&world.orders), &Ask::get("/v1/keys")).unwrap().status, 200);
        // The file's vanishing resumes nothing where people decide.
        if means == "file" {
            std::fs::remove_file(world.path("halt")).unwrap();
            std::thread::sleep(Duration::from_millis(500));
            assert_eq!(sign(&world, "hsm-p256", 9).code(), "halted");
        }
        daemon.kill();
        let daemon = Daemon::spawn(&world);
        serves(&world);
        assert_eq!(sign(&world, "hsm-p256", 10).code(), "halted", "{means}: restarted");
        assert!(daemon.stop().success());
        // The verifier knows of any signature between the halt and the end.
        verified(&world);
        let counts = evidence::count_chained(&evidence::leaves(&world.path("archive"), &world.registry()));
        assert_eq!(counts["kill_switch.changed"], 1, "{counts:?}");
    }
}

#[test]
fn a_sentinel_that_cannot_be_looked_at_halts_and_the_variable_does_too() {
    let people = People::new();
    let mut world = world(&people, 2, &FIVE);
    let config = std::fs::read_to_string(world.config_file()).unwrap();
    // Below a file there is nothing that could be looked at.
    let broken = config.replace("/halt\"", "/server.crt/halt\"");
    assert_ne!(broken, config);
    std::fs::write(world.config_file(), &broken).unwrap();
    let daemon = Daemon::spawn(&world);
    let refused = wait_for("the service", || call(&world, Some(&world.orders), &Ask::get("/v1/keys")).ok());
    assert_eq!(refused.status, 200);
    assert_eq!(sign(&world, "ed", 1).code(), "halted");
    assert_eq!(people.status(&world)["halted"][0]["source"], "unreadable-file");
    assert!(daemon.stop().success());
    std::fs::write(world.config_file(), &config).unwrap();
    world.set_variable("CHANCERY_ENABLE", "off");
    let daemon = Daemon::spawn(&world);
    serves(&world);
    assert_eq!(sign(&world, "ed", 2).code(), "halted");
    assert!(daemon.stop().success());
    verified(&world);
}

#[test]
fn without_approvers_whoever_holds_the_machine_decides_and_they_cannot_be_done_away_with() {
    let people = People::new();
    let first = world(&people, 0, &[]);
    let daemon = Daemon::start(&first);
    halt(&people, &first, "global");
    assert_eq!(sign(&first, "ed", 1).code(), "halted");
    let done = people.act(&first, "eve", "/admin/v1/resume", &json!({ "reason": "over" }));
    assert_eq!(done["status"], "executed");
    assert_eq!(sign(&first, "ed", 1).status, 200);
    assert!(daemon.stop().success());
    verified(&first);

    let second = world(&people, 2, &FIVE);
    assert!(Daemon::start(&second).stop().success());
    let config = std::fs::read_to_string(second.config_file()).unwrap();
    let without = config.split("[governance]").next().unwrap();
    std::fs::write(second.config_file(), without).unwrap();
    let mut refused = Daemon::spawn(&second);
    let status = refused.wait();
    assert_eq!(status.code(), Some(2), "{}", refused.log_tail());
    assert!(refused.log_tail().contains("the ledger names approvers"), "{}", refused.log_tail());
}
