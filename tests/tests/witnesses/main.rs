//! Two installations that witness each other, with nothing else between them; and what happens to the one that shows
//! two histories.

#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "a failed unwrap is the test's failure")]

mod evidence;
mod listed;
mod policy;

use std::path::Path;
use std::process::Command;

use chancery_format::cosignature::CosignerKey;
use chancery_format::policy::Policy;
use chancery_format::registry::SignerRecord;
use chancery_tests::rig::evidence::leaves;
use chancery_tests::rig::wire::{Ask, Reply, call};
use chancery_tests::rig::{Daemon, World, WorldOptions, free_port, wait_for};
use serde_json::{Value, json};

/// One party: an installation that is also a witness.
struct Party {
    world: World,
    options: WorldOptions,
    name: &'static str,
    port: u16,
}

/// A party whose ledger is made and whose daemon was not started yet.
fn party(origin: &'static str, name: &'static str) -> Party {
    let key = |kid: &str, algorithm: &str, more: &str| {
        format!(
            "[[keys]]\nkid = \"{kid}\"\nsigner_kid = \"{kid}-v1\"\nbackend = \"software\"\nalgorithm = \"{algorithm}\"\n\
             purpose = \"test\"\n{more}\n"
        )
    };
    let more = key("seen", "ed25519", "release = \"witnessed\"\n")
        + &key("cosign", "ed25519", "")
        + &key("cosign-pq", "ml-dsa-44", "")
        + "[witnessing]\npolicy_file = \"{dir}/witnesses.policy\"\nca_file = \"{dir}/witnesses.crt\"\n\
           interval_ms = 200\ntimeout_ms = 5000\n\n[limits]\nrelease_timeout_ms = 3000\n\n";
    // The altered letter must not be one of a line by nobody.
    let options = WorldOptions { origin, kids: &["seen"], more, grease: false, ..WorldOptions::default() };
    Party { world: World::new(&options), options, name, port: free_port() }
}

impl Party {
    /// The vkeys of its witness.
    fn cosigners(&self) -> Vec<String> {
        let registry = self.world.registry();
        let of = |kid: &str| {
            let named =
                |record: &&SignerRecord| record.kid.as_ref().is_some_and(|known| known.as_str() == kid);
            let public = registry.signers.iter().find(named).unwrap().public_key().unwrap().unwrap();
            CosignerKey::new(self.name, public).unwrap().vkey()
        };
        vec![of("cosign"), of("cosign-pq")]
    }

    fn vkey(&self) -> String {
        self.world.registry().ledger.vkeys[0].clone()
    }

    /// Lets the two witness each other: both keys of the other are needed.
    fn meet(&mut self, other: &Self) {
        let url = format!("https://localhost:{}", other.port);
        let keys = other.cosigners();
        let policy = format!(
            "log {}\nwitness classical {} {url}\nwitness quantum {} {url}\ngroup both all classical quantum\nquorum both\n",
            self.vkey(),
            keys[0],
            keys[1],
        );
        std::fs::write(self.world.path("witnesses.policy"), policy).unwrap();
        std::fs::copy(other.world.path("ca.crt"), self.world.path("witnesses.crt")).unwrap();
        let witness = format!(
            "[witness]\naddress = \"127.0.0.1:{}\"\nname = \"{}\"\nkids = [\"cosign\", \"cosign-pq\"]\n\
             directory = \"{{dir}}/witness\"\nlogs = [\"{}\"]\n",
            self.port,
            self.name,
            other.vkey(),
        );
        self.options.more += &witness;
        self.world.write_config(&self.options);
    }

    fn policy(&self) -> Policy {
        Policy::parse(&std::fs::read(self.world.path("witnesses.policy")).unwrap()).unwrap()
    }

    fn ask(&self, ask: &Ask<'_>) -> Reply {
        call(&self.world, Some(&self.world.orders), ask).unwrap()
    }

    fn sign(&self, kid: &str, digest: u8) -> Reply {
        let body =
            json!({ "kid": kid, "digest": format!("{digest:02x}").repeat(32), "digestAlgorithm": "sha256" });
        self.ask(&Ask::post("/v1/sign", body.to_string()))
    }
}

fn two() -> (Party, Party) {
    let (mut a, mut b) =
        (party("a.example/log", "witness.a.example"), party("b.example/log", "witness.b.example"));
    a.meet(&b);
    b.meet(&a);
    (a, b)
}

fn copy_folder(from: &Path, to: &Path) {
    let done = Command::new("cp").arg("-a").arg(from).arg(to).status().unwrap();
    assert!(done.success());
}

fn ready(daemon: &Daemon) -> Option<Value> {
    serde_json::from_str(&daemon.ops("/readyz")?.1).ok()
}

/// What `/readyz` says of witnesses.
fn witnesses(daemon: &Daemon) -> Option<Value> {
    let report = ready(daemon)?;
    let checks = report["checks"].as_array()?.clone();
    checks.into_iter().find(|check| check["name"] == "witnesses")
}

#[test]
fn two_parties_witness_each_other_with_nothing_else() {
    let (a, b) = two();
    let (one, two) = (Daemon::start(&a.world), Daemon::start(&b.world));
    for (party, daemon) in [(&a, &one), (&b, &two)] {
        let reply = party.sign("seen", 7);
        assert_eq!(reply.status, 200, "{}", reply.body);
        let reply = reply.json();
        assert_eq!((&reply["rung"], &reply["receipt"]["rung"]), (&json!("witnessed"), &json!("witnessed")));
        // Whoever has the policy needs neither of the two.
        let note = reply["receipt"]["checkpoint"].as_str().unwrap();
        let judged = party.policy().verify(note, None).unwrap();
        assert!(judged.quorum_met() && judged.counted().len() == 2, "{note}");
        // What is served, and what is read back later, bears the cosignatures too.
        let served = party.ask(&Ask::get("/log/checkpoint"));
        assert!(party.policy().verify(&served.body, None).unwrap().quorum_met(), "{}", served.body);
        let index = reply["receipt"]["index"].as_u64().unwrap();
        let again = party.ask(&Ask::get(&format!("/v1/receipts/{index}"))).json();
        assert_eq!(again["checkpoint"], reply["receipt"]["checkpoint"]);
        let file = party.world.path("receipt.json");
        std::fs::write(&file, reply["receipt"].to_string()).unwrap();
        let other = if party.name == a.name { &b } else { &a };
        for (whose, code) in [(party, 0), (other, 1)] {
            let policy = whose.world.path("witnesses.policy");
            let arguments = ["receipt", file.to_str().unwrap(), "--policy", policy.to_str().unwrap()];
            let checked = party.world.verify(&arguments);
            assert_eq!(checked.status.code(), Some(code), "{}", String::from_utf8_lossy(&checked.stdout));
        }
        assert!(daemon.metric("chancery_witnessed_entries") > index);
        assert!(party.sign("ed", 9).status == 200, "others wait for nobody");
    }
    // No caller may use the keys, whatever the grants say.
    let refused = a.sign("cosign", 1);
    assert_eq!(
        (refused.status, refused.json()["code"].as_str()),
        (403, Some("kid-not-granted")),
        "{}",
        refused.body
    );
    for (party, daemon) in [(&a, one), (&b, two)] {
        assert!(daemon.stop().success());
        // Every cosignature is an entry of the witness' own ledger.
        let archive = party.world.path("archive");
        let checked = party.world.verify(&["ledger", archive.to_str().unwrap(), "--json"]);
        let report: Value = serde_json::from_slice(&checked.stdout).unwrap();
        assert_eq!(checked.status.code(), Some(0), "{report}");
        assert!(report["checked"]["signaturesOverMessages"].as_u64().unwrap() >= 4, "{report}");
        the_archive_says_how_far_it_is_witnessed(party, if party.name == a.name { &b } else { &a });
    }
}

/// The cosigned checkpoints are in the archive, and whoever has the policy needs nothing else.
fn the_archive_says_how_far_it_is_witnessed(party: &Party, other: &Party) {
    let archive = party.world.path("archive");
    let archive = archive.to_str().unwrap();
    for (whose, code) in [(party, 0), (other, 1)] {
        let policy = whose.world.path("witnesses.policy");
        let checked =
            party.world.verify(&["ledger", archive, "--json", "--policy", policy.to_str().unwrap()]);
        let report: Value = serde_json::from_slice(&checked.stdout).unwrap();
        assert_eq!(checked.status.code(), Some(code), "{report}");
        let witnessed = &report["checked"]["witnessed"];
        if code == 0 {
            assert_eq!(witnessed["by"], json!(["classical", "quantum"]), "{report}");
            assert!(
                witnessed["upTo"].as_u64() > Some(2)
                    && witnessed["upTo"].as_u64() <= witnessed["of"].as_u64()
            );
        } else {
            let kinds =
                report["findings"].as_array().unwrap().iter().map(|found| found["kind"].as_str().unwrap());
            assert!(kinds.clone().all(|kind| kind == "not-witnessed"), "by the other's witnesses: {report}");
            assert_eq!(witnessed["notes"], 0, "{report}");
        }
    }
}

#[test]
fn a_witness_that_is_away_holds_up_only_who_asked_for_it() {
    let (a, b) = two();
    let daemon = Daemon::start(&a.world);
    assert_eq!(a.sign("ed", 1).status, 200);
    let waiting = a.sign("seen", 2);
    assert_eq!(
        (waiting.status, waiting.json()["code"].as_str()),
        (503, Some("release-pending")),
        "{}",
        waiting.body
    );
    let told = wait_for("a round without quorum", || {
        witnesses(&daemon).filter(|told| told["detail"] != "0 entries witnessed")
    });
    assert_eq!(told["ok"], true, "{told}");
    assert!(told["detail"].as_str().unwrap().contains("0 of 1 witnesses answered"), "{told}");

    let witness = Daemon::start(&b.world);
    wait_for("witnessed", || (daemon.metric("chancery_witnessed_entries") > 0).then_some(()));
    assert_eq!(a.sign("seen", 3).status, 200);
    // The witness forgets nothing over a restart, and we ask it what it knows after ours.
    drop(witness);
    assert!(daemon.stop().success());
    let (daemon, _witness) = (Daemon::start(&a.world), Daemon::start(&b.world));
    assert_eq!(a.sign("seen", 4).status, 200);
    assert!(daemon.stop().success());
}

/// The fork drill: a copy of the disk signs on beside the original.
#[test]
fn a_second_history_is_refused_by_the_witness_and_by_the_archive() {
    let (mut a, b) = two();
    let (daemon, witness) = (Daemon::start(&a.world), Daemon::start(&b.world));
    assert_eq!(a.sign("seen", 1).status, 200);
    assert!(daemon.stop().success());
    copy_folder(&a.world.path("ledger"), &a.world.path("cloned-ledger"));
    copy_folder(&a.world.path("archive"), &a.world.path("cloned-archive"));

    let daemon = Daemon::start(&a.world);
    for digest in 2..5 {
        assert_eq!(a.sign("seen", digest).status, 200);
    }
    assert!(daemon.stop().success());

    // With the archive of the original, the copy does not even start.
    a.options.ledger_directory = Some(a.world.path("cloned-ledger"));
    a.world.write_config(&a.options);
    let mut refused = Daemon::spawn(&a.world);
    assert_eq!(refused.wait().code(), Some(1), "{}", refused.log_tail());
    assert!(refused.log_tail().contains("older disk was restored"), "{}", refused.log_tail());

    // With a copy of that as well it signs, and is found out by the witness.
    a.options.archive = a.options.archive.replace("{dir}/archive", "{dir}/cloned-archive");
    a.world.write_config(&a.options);
    let daemon = Daemon::start(&a.world);
    let pending = a.sign("seen", 9);
    assert_eq!(
        (pending.status, pending.json()["code"].as_str()),
        (503, Some("release-pending")),
        "{}",
        pending.body
    );
    let told = wait_for("the alarm", || {
        assert_eq!(a.sign("ed", 9).status, 200);
        witnesses(&daemon).filter(|told| told["ok"] == false)
    });
    let detail = told["detail"].as_str().unwrap();
    assert!(detail.contains("older disk was restored") || detail.contains("another tree"), "{told}");
    // Once the copy has outgrown what was cosigned, the proof itself fails, and the witness keeps it.
    wait_for("a proof to fail", || {
        assert_eq!(a.sign("ed", 9).status, 200);
        let (_, metrics) = witness.ops("/metrics")?;
        metrics.contains("chancery_witness_answers_total{status=\"422\"}").then_some(())
    });
    assert!(daemon.stop().success());
    assert!(witness.stop().success());
    let leaves = leaves(&b.world.path("archive"), &b.world.registry());
    let leaves = leaves.iter().map(|leaf| serde_json::from_slice::<Value>(leaf).unwrap());
    let conflicts: Vec<Value> = leaves.filter(|leaf| leaf["eventType"] == "witness.conflict").collect();
    assert!(!conflicts.is_empty());
    assert_eq!(conflicts[0]["payload"]["origin"], "a.example/log");
    assert!(conflicts.len() <= 16, "{}", conflicts.len());
    the_auditor_names_where_the_two_part(&a, &b);
}

/// The auditor has both archives and the registry, and needs neither daemon nor witness.
fn the_auditor_names_where_the_two_part(a: &Party, b: &Party) {
    let folders = ["archive", "cloned-archive"].map(|name| a.world.path(name));
    let [ours, copy] = folders.clone().map(|folder| folder.to_str().unwrap().to_owned());
    let [one, two] = folders.map(|folder| leaves(&folder, &a.world.registry()));
    let index = one.iter().zip(&two).position(|(one, two)| one != two).unwrap();
    assert!(index > 3);
    let proof = a.world.path("fork.json");
    let proof = proof.to_str().unwrap();
    let told = |arguments: &[&str], code: i32| -> Value {
        let output = a.world.verify(arguments);
        let report: Value = serde_json::from_slice(&output.stdout).unwrap();
        assert_eq!(output.status.code(), Some(code), "{report}");
        report
    };
    let report = told(&["compare", &ours, &copy, "--json", "--save", proof], 1);
    assert_eq!(report["checked"]["relation"], "differ", "{report}");
    assert_eq!(report["checked"]["firstDifferingIndex"], index, "{report}");
    let kinds = report["findings"].as_array().unwrap().iter().map(|found| found["kind"].as_str().unwrap());
    assert_eq!(kinds.collect::<Vec<_>>(), ["fork"], "both archives are whole: {report}");
    for (which, leaf) in [("first", &one[index]), ("second", &two[index])] {
        let leaf: Value = serde_json::from_slice(leaf).unwrap();
        let told = &report["checked"]["entries"][which];
        for member in ["id", "eventType", "stream", "ts", "actor", "hash"] {
            assert_eq!(told[member], leaf[member], "{which} {member}");
        }
    }
    // The proof stands by itself; who has another registry learns nothing from it.
    assert_eq!(told(&["compare", proof, "--json"], 1)["checked"]["relation"], "differ");
    let stranger = b.world.verify(&["compare", proof, "--json"]);
    assert!(String::from_utf8_lossy(&stranger.stdout).contains("checkpoint-invalid"));
    let others = b.world.path("archive");
    let report = told(&["compare", &ours, others.to_str().unwrap(), "--json"], 1);
    assert!(report["findings"][0]["message"].as_str().unwrap().contains("no history in common"), "{report}");
}
