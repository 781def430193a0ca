//! `chancery ledger check` over a running daemon: who may look, who may repair, what is repaired and enrolled, and what
//! never is. The offline verifier has the last word.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a failed unwrap is the test's failure")]

use std::process::Command;

use chancery_format::AuditEvent;
use chancery_tests::rig::wire::{Ask, call};
use chancery_tests::rig::{Daemon, People, World, WorldOptions, binary, evidence, wait_for};
use serde_json::{Value, json};

struct Office {
    people: People,
    world: World,
}

impl Office {
    fn new() -> (Self, Daemon) {
        let people = People::new();
        let more = people.tables(0, &[]);
        let world = World::new(&WorldOptions { more, ..WorldOptions::default() });
        let daemon = Daemon::start(&world);
        let office = Self { people, world };
        office.fill();
        office.archived(&daemon);
        (office, daemon)
    }

    fn fill(&self) {
        let items: Vec<Value> =
            (0..300).map(|number| json!({ "eventType": "a.b", "payload": { "number": number } })).collect();
        let ask = Ask::post("/v1/events/batch", json!({ "items": items }).to_string());
        assert_eq!(call(&self.world, Some(&self.world.orders), &ask).unwrap().status, 201);
    }

    fn archived(&self, daemon: &Daemon) {
        wait_for("an archive without lag", || {
            (daemon.metric("chancery_archive_lag_entries") == 0).then_some(())
        });
    }

    /// `chancery ledger check` by somebody: exit code and document.
    fn check(&self, role: &str, more: &[&str]) -> (i32, Value) {
        let mut command = Command::new(binary("chancery"));
        command.args(["ledger", "check", "--json"]).args(more);
        command.envs(self.people.shell(&self.world, "eve", &[role]));
        let output = command.output().unwrap();
        let document = serde_json::from_slice(&output.stdout);
        let document =
            document.unwrap_or_else(|error| panic!("{error}: {}", String::from_utf8_lossy(&output.stderr)));
        (output.status.code().unwrap(), document)
    }
}

#[test]
fn what_is_gone_is_shipped_again_on_somebodys_word() {
    let (office, daemon) = Office::new();
    let archive = office.world.path("archive");
    let (code, sound) = office.check("auditor", &[]);
    assert_eq!((code, &sound["valid"], &sound["findings"]), (0, &json!(true), &json!([])), "{sound:#}");
    assert_eq!(sound["checked"]["entries"], sound["checked"]["size"]);

    let gone = archive.join("tile/entries/000");
    let bytes = std::fs::read(&gone).unwrap();
    std::fs::remove_file(&gone).unwrap();
    let (code, found) = office.check("auditor", &[]);
    let finding = &found["findings"][0];
    assert_eq!(
        (code, &finding["kind"], &finding["object"]),
        (1, &json!("object-missing"), &json!("tile/entries/000"))
    );
    assert_eq!((&finding["side"], &finding["proven"]), (&json!("archive"), &json!(true)));
    assert!(!gone.exists(), "looking repairs nothing");

    let (code, refused) = office.check("auditor", &["--repair"]);
    assert_eq!((code, &refused["error"]["code"]), (1, &json!("role-missing")), "{refused:#}");
    assert!(!gone.exists());

    let (code, repaired) = office.check("security-engineer", &["--repair"]);
    assert_eq!((code, &repaired["repaired"]), (0, &json!(1)), "{repaired:#}");
    assert_eq!(std::fs::read(&gone).unwrap(), bytes);
    assert_eq!(office.check("auditor", &[]).0, 0);

    // Another is in the archive and altered: told, and left as evidence.
    let tile = archive.join("tile/0/000");
    let mut altered = std::fs::read(&tile).unwrap();
    altered[7] ^= 1;
    std::fs::remove_file(&tile).unwrap();
    std::fs::write(&tile, &altered).unwrap();
    let (code, found) = office.check("security-engineer", &["--repair"]);
    assert_eq!((code, &found["findings"][0]["kind"]), (1, &json!("object-altered")), "{found:#}");
    assert_eq!(std::fs::read(&tile).unwrap(), altered);
    altered[7] ^= 1;
    std::fs::remove_file(&tile).unwrap();
    std::fs::write(&tile, &altered).unwrap();

    let index = repaired["index"].as_u64().unwrap();
    office.fill();
    office.archived(&daemon);
    assert!(daemon.stop().success());
    let leaves = evidence::leaves(&archive, &office.world.registry());
    let event = AuditEvent::parse(&leaves[index as usize]).unwrap();
    assert_eq!((event.event_type, event.stream, event.actor), ("archive.reshipped", "chancery", "chancery"));
    let payload: Value = serde_json::from_str(event.payload).unwrap();
    assert_eq!(payload["objects"], json!(["tile/entries/000"]));
    assert_eq!(payload["by"], json!(office.people.name("eve")));
    let output = office.world.verify(&["ledger", &archive.display().to_string()]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
}

#[test]
fn a_stopped_daemon_s_ledger_is_checked_under_its_lock() {
    let (office, daemon) = Office::new();
    let offline = |more: &[&str]| office.world.chanceryd(&[&["check-ledger"], more, &["--config"]].concat());
    assert_eq!(offline(&[]).status.code(), Some(4), "it is in use");
    assert!(daemon.stop().success());
    let sound = offline(&[]);
    assert_eq!(sound.status.code(), Some(0), "{sound:?}");
    assert!(String::from_utf8_lossy(&sound.stdout).contains("ledger    sound"));

    // Another registry: nothing that this ledger signed counts.
    let other = World::new(&WorldOptions::default());
    let signers = other.path("signers.json").display().to_string();
    let strange = offline(&["--signers", &signers, "--json"]);
    let report: Value = serde_json::from_slice(&strange.stdout).unwrap();
    assert_eq!(strange.status.code(), Some(1));
    assert_eq!(report["checked"]["provenSize"], json!(0));
    assert_eq!(offline(&["--signers", "/nowhere"]).status.code(), Some(3));

    std::fs::remove_file(office.world.path("archive/tile/0/000")).unwrap();
    assert_eq!(offline(&["--signers", &signers, "--repair"]).status.code(), Some(1));
    assert!(!office.world.path("archive/tile/0/000").exists(), "what nobody trusted signed is not shipped");
    assert_eq!(offline(&["--repair"]).status.code(), Some(0));
    assert!(office.world.path("archive/tile/0/000").exists());
    std::fs::rename(office.world.path("archive"), office.world.path("away")).unwrap();
    assert_eq!(offline(&[]).status.code(), Some(3), "there is no folder to ask");
    let daemon = Daemon::start(&{
        std::fs::rename(office.world.path("away"), office.world.path("archive")).unwrap();
        office.world
    });
    assert!(daemon.stop().success());
}
