//! Checkpoints under two signatures: a ledger that gets its ML-DSA-44 key later, changes it, and gives it up; and what
//! verifiers say where the second signature is missing or false.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a failed unwrap is the test's failure")]

use std::path::{Path, PathBuf};
use std::process::Command;

use chancery_format::archive::checkpoint_name;
use chancery_format::checkpoint::VerifiedCheckpoint;
use chancery_format::note::Note;
use chancery_format::{SignersRegistry, TreeSize};
use chancery_hsm::KeyShape;
use chancery_hsm::software::{DevelopmentOnly, SoftwareBackend};
use chancery_tests::rig::wire::{Ask, call};
use chancery_tests::rig::{Daemon, People, World, WorldOptions, binary, evidence, wait_for};
use serde_json::json;

fn sign(world: &World, turn: u64) {
    let body = format!("{{\"kid\":\"ed\",\"digest\":\"{turn:064x}\",\"digestAlgorithm\":\"sha256\"}}");
    let reply = call(world, Some(&world.orders), &Ask::post("/v1/sign", body)).unwrap();
    assert_eq!(reply.status, 200, "{}", reply.body);
}

fn verify(world: &World, archive: &Path) -> (bool, String) {
    let told = world.verify(&["ledger", archive.to_str().unwrap()]);
    (told.status.success(), String::from_utf8(told.stdout).unwrap())
}

/// Signs a few times under a daemon that runs only for that; then the archive must verify.
fn run_once(world: &World, turn: u64) -> Vec<VerifiedCheckpoint> {
    let daemon = Daemon::start(world);
    (0..3).for_each(|more| sign(world, turn + more));
    assert!(daemon.stop().success());
    let (valid, text) = verify(world, &world.path("archive"));
    assert!(valid, "{text}");
    evidence::checkpoints(&world.path("archive"), &world.registry())
}

fn activated(world: &World, signer_kid: &str) -> u64 {
    world.registry().signer(signer_kid).unwrap().activated_index.unwrap()
}

/// Writes an archived checkpoint anew.
fn alter(archive: &Path, epoch: u64, alter: impl Fn(&Note<'_>) -> String) -> PathBuf {
    let file = archive.join(checkpoint_name(epoch));
    let note = std::fs::read_to_string(&file).unwrap();
    std::fs::remove_file(&file).unwrap();
    std::fs::write(&file, alter(&Note::parse(&note).unwrap())).unwrap();
    file
}

#[test]
fn a_ledger_gets_a_second_key_and_gives_it_up() {
    let without = WorldOptions { second_signing_key: None, ..WorldOptions::default() };
    let text = |world: &World| std::fs::read_to_string(world.config_file()).unwrap();
    let key = "[[keys]]\nkid = \"ledger-pq\"\nsigner_kid = \"ledger-pq-ml-dsa-44-v1\"\nbackend = \"software\"\n\
               algorithm = \"ml-dsa-44\"\npurpose = \"test\"\n\n";
    let world = World::uninitialised(&without);
    let bare = text(&world).replace(key, "");
    assert_ne!(bare, text(&world));
    std::fs::write(world.config_file(), &bare).unwrap();
    world.initialise();
    assert!(run_once(&world, 1).iter().all(|checkpoint| !checkpoint.is_hybrid()));

    world.write_config(&WorldOptions::default());
    let allowed = DevelopmentOnly::check(true, false).unwrap();
    let backend = SoftwareBackend::in_directory("software", &world.path("keys"), allowed).unwrap();
    backend.generate_key("ledger-pq-ml-dsa-44-v1", KeyShape::MlDsa44).unwrap();
    let checkpoints = run_once(&world, 10);
    let since = activated(&world, "ledger-pq-ml-dsa-44-v1");
    let by_second = |checkpoint: &VerifiedCheckpoint| checkpoint.is_hybrid();
    let (before, after): (Vec<_>, Vec<_>) =
        checkpoints.into_iter().partition(|checkpoint| checkpoint.head().size <= TreeSize(since));
    assert!(!before.is_empty() && !before.iter().any(by_second));
    assert!(!after.is_empty() && after.iter().all(by_second));

    // It was the ledger's: it does not become anybody's.
    world.write_config(&without);
    let refused = world.chanceryd(&["run", "--config"]);
    assert!(!refused.status.success());
    let words = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(words.contains("\"ledger-pq\" signs this ledger's checkpoints and nothing else"), "{words}");

    std::fs::write(world.config_file(), &bare).unwrap();
    let checkpoints = run_once(&world, 20);
    let retired = world.registry().signer("ledger-pq-ml-dsa-44-v1").unwrap().retired_index.unwrap();
    let last = checkpoints.last().unwrap();
    assert!(last.head().size > TreeSize(retired) && !last.is_hybrid());
}

#[test]
fn a_second_key_follows_another_and_no_checkpoint_lacks_one() {
    let people = People::new();
    let three = ["ann", "bob", "eve"];
    let world = World::new(&WorldOptions { more: people.tables(2, &three), ..WorldOptions::default() });
    let allowed = DevelopmentOnly::check(true, false).unwrap();
    let backend = SoftwareBackend::in_directory("software", &world.path("keys"), allowed).unwrap();
    backend.generate_key("ledger-pq-2", KeyShape::MlDsa44).unwrap();
    let daemon = Daemon::start(&world);
    sign(&world, 1);
    let body = json!({ "to": "ledger-pq-2", "reason": "yearly", "overlapHours": 0 });
    let asked = people.act(&world, "eve", "/admin/v1/keys/ledger-pq/rotate", &body);
    people.approve(&world, &asked, &["ann", "bob"]);
    people.wait_rotated(&world, "ledger-pq", "ledger-pq-2");
    let retired = wait_for("the retirement", || {
        world.registry().signer("ledger-pq-ml-dsa-44-v1").cloned()?.retired_index
    });
    sign(&world, 2);
    daemon.kill();
    // The configuration still names the first one; the ledger's word counts.
    let checkpoints = run_once(&world, 3);
    assert!(checkpoints.iter().all(VerifiedCheckpoint::is_hybrid));
    let keys = world.registry().ledger_keys().unwrap();
    let [old, new] = keys.ml_dsa() else { panic!("two keys") };
    let signs = |key: &chancery_format::cosignature::CosignerKey, checkpoint: &VerifiedCheckpoint| {
        Note::parse(checkpoint.note()).unwrap().signatures.iter().any(|line| key.is_named_by(line))
    };
    assert!(signs(old, &checkpoints[0]));
    let last = checkpoints.last().unwrap();
    assert!(last.head().size > TreeSize(retired) && signs(new, last) && !signs(old, last));
}

#[test]
fn a_missing_or_false_second_signature_is_found() {
    let world = World::new(&WorldOptions::default());
    let epochs = run_once(&world, 1).len() as u64;
    let keys = world.registry().ledger_keys().unwrap();
    let [second] = keys.ml_dsa() else { panic!("one key") };
    let archive = world.path("archive");
    let whole = std::fs::read(archive.join(checkpoint_name(epochs - 1))).unwrap();

    alter(&archive, epochs - 1, |note| note.with_lines(|line| !second.is_named_by(line)));
    let (valid, text) = verify(&world, &archive);
    assert!(!valid && text.contains("lacks the ledger's ML-DSA-44 signature"), "{text}");

    let file = alter(&archive, epochs - 1, |_| String::from_utf8(whole.clone()).unwrap());
    assert!(verify(&world, &archive).0);

    // One bit of the second signature, the first left as it is.
    let text = String::from_utf8(whole).unwrap();
    let at = text.trim_end().len() - 40;
    let other = if text.as_bytes()[at] == b'A' { "B" } else { "A" };
    std::fs::remove_file(&file).unwrap();
    std::fs::write(&file, format!("{}{other}{}", &text[..at], &text[at + 1..])).unwrap();
    let (valid, text) = verify(&world, &archive);
    assert!(!valid && text.contains("signature"), "{text}");
}

/// Its keys are in a SoftHSM2 token, which has no ML-DSA; a second key in a file comes where files may hold keys, and
/// nobody has to allow that.
#[test]
fn a_throw_away_instance_has_the_second_key_where_it_may() {
    let folder = tempfile::tempdir().unwrap();
    for (name, allowed) in [("token", false), ("both", true)] {
        let to = folder.path().join(name);
        let chanceryd = |arguments: &[&str], last: &Path| {
            let mut command = Command::new(binary("chanceryd"));
            command.args(arguments).arg(last).env_remove("DEV_ALLOW_EPHEMERAL");
            let output = command.envs(allowed.then_some(("DEV_ALLOW_EPHEMERAL", "true"))).output().unwrap();
            assert!(output.status.success(), "{name}: {output:?}");
        };
        chanceryd(&["init", "--dev"], &to);
        let config = to.join("chancery.toml");
        chanceryd(&["check", "--config"], &config);
        let text = std::fs::read_to_string(config).unwrap();
        assert!(text.contains("kind = \"pkcs11\""), "{text}");
        assert_eq!(text.contains("second_signing_key = \"ledger-pq\""), allowed, "{text}");
        let registry = SignersRegistry::parse(&std::fs::read(to.join("signers.json")).unwrap()).unwrap();
        assert_eq!(registry.ledger_keys().unwrap().ml_dsa().len(), usize::from(allowed));
    }
}
