//! The registry of signers says whom the ledger asks to cosign: an auditor who has it needs no other file.

use std::process::Output;

use chancery_format::SignersRegistry;
use chancery_tests::rig::binary;

use super::*;

/// The version that `signers.json.sig` speaks of, and how many the ledger has published.
fn versions(party: &Party) -> (u64, usize) {
    let note = std::fs::read_to_string(party.world.path("signers.json.sig")).unwrap();
    let leaves = leaves(&party.world.path("archive"), &party.world.registry());
    let leaves = leaves.iter().map(|leaf| serde_json::from_slice::<Value>(leaf).unwrap());
    let published = leaves.filter(|leaf| leaf["eventType"] == "registry.published").count();
    (note.lines().nth(1).unwrap().parse().unwrap(), published)
}

fn registry_policy(party: &Party) -> Policy {
    party.world.registry().policy().unwrap()
}

/// As configured, for all keys that the ledger has.
fn configured(party: &Party) -> Policy {
    party.policy().with_logs(&party.world.registry().log_keys().unwrap()).unwrap()
}

fn judge(arguments: &[&str]) -> (Option<i32>, String) {
    let output: Output = Command::new(binary("chancery-verify")).args(arguments).output().unwrap();
    let text = [output.stdout, output.stderr].concat();
    (output.status.code(), String::from_utf8(text).unwrap())
}

#[test]
fn the_registry_has_the_policy_and_changes_only_with_it() {
    let (a, b) = two();
    let policy_file = a.world.path("witnesses.policy");
    // Made before the policy, which names the key that was made with it.
    let made = std::fs::read(a.world.path("signers.json")).unwrap();
    let unwitnessed = SignersRegistry::parse(&made).unwrap();
    let logs: String = unwitnessed.ledger.vkeys.iter().map(|vkey| format!("log {vkey}\n")).collect();
    assert_eq!(unwitnessed.ledger.policy, Some(logs + "quorum none\n"));
    let path = |name: &str| a.world.path(name).to_str().unwrap().to_owned();
    let first = path("first.json");
    std::fs::write(&first, made).unwrap();

    let (one, witness) = (Daemon::start(&a.world), Daemon::start(&b.world));
    let reply = a.sign("seen", 7);
    assert_eq!(reply.status, 200, "{}", reply.body);
    let receipt = path("receipt.json");
    std::fs::write(&receipt, reply.json()["receipt"].to_string()).unwrap();
    let published = registry_policy(&a);
    assert_eq!(published, configured(&a), "the witnesses, groups and quorum are those of the configuration");
    let served = a.ask(&Ask::get("/v1/signers.json?format=policy"));
    assert_eq!((served.status, served.body.as_bytes()), (200, published.to_bytes().as_slice()));
    assert!(one.stop().success());
    assert_eq!(versions(&a), (2, 2));

    // The registry alone tells whom to expect below the checkpoint.
    let signers = path("signers.json");
    let ask = |signers: &str| judge(&["receipt", &receipt, "--policy", "registry", "--signers", signers]);
    let (code, told) = ask(&signers);
    assert_eq!((code, told.matches("cosigned by ").count()), (Some(0), 2), "{told}");
    let (code, told) = ask(&first);
    assert!(code == Some(0) && told.contains("asks for no witness"), "{told}");
    let signed_by_none = path("unwitnessed.json");
    let mut stripped = reply.json()["receipt"].clone();
    let note = stripped["checkpoint"].as_str().unwrap();
    let (text, lines) = note.split_once("\n\n").unwrap();
    // Of both of the ledger's keys, and nobody else's.
    let own: Vec<&str> = lines.lines().take(2).collect();
    stripped["checkpoint"] = format!("{text}\n\n{}\n", own.join("\n")).into();
    std::fs::write(&signed_by_none, stripped.to_string()).unwrap();
    let (code, told) = judge(&["receipt", &signed_by_none, "--policy", "registry", "--signers", &signers]);
    assert!(code == Some(1) && told.contains("too few witnesses"), "{told}");
    assert_eq!(judge(&["receipt", &signed_by_none, "--signers", &signers]).0, Some(0));
    let (code, told) = judge(&["evidence", &receipt, "--policy", "registry"]);
    assert!(code == Some(2) && told.contains("--signers"), "{told}");

    // A start without a change publishes nothing, a changed policy does, once.
    for _ in 0..2 {
        assert!(Daemon::start(&a.world).stop().success());
        assert_eq!(versions(&a), (2, 2));
    }
    let changed = std::fs::read_to_string(&policy_file).unwrap().replace("group both all", "group both any");
    std::fs::write(&policy_file, changed).unwrap();
    for _ in 0..2 {
        assert!(Daemon::start(&a.world).stop().success());
        assert_eq!((versions(&a), registry_policy(&a)), ((3, 3), configured(&a)));
    }
    assert!(witness.stop().success());
    let archive = path("archive");
    let (code, told) = judge(&["ledger", &archive, "--signers", &signers]);
    assert_eq!(code, Some(0), "{told}");
}
