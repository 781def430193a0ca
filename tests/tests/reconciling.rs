//! The daemon beside a device that keeps a log: every use of a key has its entry, through kills too, and one use
//! behind the daemon's back halts that key and no other.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a failed unwrap is the test's failure")]

use std::time::{Duration, Instant};

use chancery_format::{Digest, SignatureAlgorithm};
use chancery_hsm::{Backend as _, SealInput};
use chancery_tests::rig::wire::{Ask, Reply, call};
use chancery_tests::rig::{Daemon, World, WorldOptions, evidence, random_word, wait_for, write_secret};
use chancery_yubihsm::testing::{AUTH_KEY_ID, YubiHsmDouble};
use chancery_yubihsm::{Connector, YubiHsmBackend, YubiHsmConfig};
use serde_json::Value;

const KIDS: &[&str] = &["yubi", "yubi-mac"];

fn device(password: &str) -> (YubiHsmDouble, World) {
    let double = YubiHsmDouble::start(password).unwrap();
    // Still faster than the device.
    double.set_delay(Duration::from_millis(10));
    let tables = format!(
        "\n[[backends]]\nname = \"yubi\"\nkind = \"yubihsm\"\nconnector = \"http://{}\"\n\
         auth_key_id = {AUTH_KEY_ID}\npassword_file = \"{{dir}}/yubi.password\"\nforce_audit = \"set\"\n\n\
         [[keys]]\nkid = \"yubi\"\nsigner_kid = \"yubi-v1\"\nbackend = \"yubi\"\n\
         algorithm = \"ecdsa-p256-sha256\"\npurpose = \"test\"\n\n\
         [[keys]]\nkid = \"yubi-mac\"\nsigner_kid = \"yubi-mac-v1\"\nbackend = \"yubi\"\n\
         algorithm = \"hmac-sha256\"\npurpose = \"test\"\n",
        double.address()
    );
    let world = World::with_backend(&WorldOptions::default(), KIDS, &tables);
    write_secret(&world.path("yubi.password"), password);
    world.initialise();
    (double, world)
}

fn post(world: &World, path: &'static str, body: String) -> Result<Reply, String> {
    call(world, Some(&world.orders), &Ask::post(path, body))
}

fn sign(world: &World, kid: &str, number: u64) -> Result<Reply, String> {
    let digest = format!("{number:064x}");
    post(
        world,
        "/v1/sign",
        format!("{{\"kid\":\"{kid}\",\"digest\":\"{digest}\",\"digestAlgorithm\":\"sha256\"}}"),
    )
}

/// Uses the key past the daemon, as whoever has the device's password can.
fn behind_the_back(double: &YubiHsmDouble, world: &World) {
    let (host, port) = (double.address().ip().to_string(), double.address().port());
    let connector = Connector::Http { host, port };
    let settings = YubiHsmConfig::new("other", connector, AUTH_KEY_ID, world.path("yubi.password"));
    let other = YubiHsmBackend::open(&settings).unwrap();
    let key = other.open_key("yubi-v1", SignatureAlgorithm::EcdsaP256Sha256).unwrap();
    let digest = Digest::Sha256([0xEE; 32]);
    key.sign(SealInput::Digest(&digest), Instant::now() + Duration::from_secs(10)).unwrap();
}

fn surplus(world: &World) -> Vec<Value> {
    let leaves = evidence::leaves(&world.path("archive"), &world.registry());
    let events = leaves.iter().map(|leaf| serde_json::from_slice::<Value>(leaf).unwrap());
    events.filter(|event| event["eventType"] == "signer.operations.surplus").collect()
}

#[test]
fn a_use_behind_the_ledger_s_back_halts_the_key_for_good_and_no_other() {
    let (double, world) = device(&random_word());
    let daemon = Daemon::start(&world);
    for number in 0..80 {
        let reply = sign(&world, "yubi", number).unwrap();
        assert_eq!(reply.status, 200, "{number}: {}", reply.body);
    }
    let mac = post(&world, "/v1/mac", "{\"kid\":\"yubi-mac\",\"message\":\"YWJj\"}".to_owned()).unwrap();
    assert_eq!(mac.status, 200, "{}", mac.body);
    let mac: Value = serde_json::from_str(&mac.body).unwrap();
    let check = format!("{{\"kid\":\"yubi-mac\",\"message\":\"YWJj\",\"mac\":{}}}", mac["mac"]);
    assert!(post(&world, "/v1/mac/verify", check).unwrap().body.contains("\"valid\":true"));
    // Two readings later nothing is missed.
    std::thread::sleep(Duration::from_millis(2_500));
    assert_eq!(sign(&world, "yubi", 1_000).unwrap().status, 200);

    behind_the_back(&double, &world);
    let refused =
        wait_for("the halt", || sign(&world, "yubi", 2_000).ok().filter(|reply| reply.status != 200));
    assert_eq!((refused.status, refused.code().as_str()), (503, "key-disabled"));
    assert_eq!(sign(&world, "ed", 1).unwrap().status, 200, "other keys go on");
    daemon.kill();
    let daemon = Daemon::start(&world);
    assert_eq!(sign(&world, "yubi", 2_001).unwrap().code(), "key-disabled", "a restart forgives nothing");
    assert!(daemon.stop().success());
    let found = surplus(&world);
    assert_eq!(found.len(), 1, "{found:?}");
    assert_eq!(
        (&found[0]["payload"]["signer_kid"], &found[0]["payload"]["count"]),
        (&"yubi-v1".into(), &1.into())
    );
    assert!(world.verify(&["ledger", world.path("archive").to_str().unwrap()]).status.success());
}

#[test]
fn ordinary_use_reconciles_through_kills() {
    let (double, world) = device(&random_word());
    // A killed daemon's sessions are the device's to end; it has sixteen.
    let idle = Duration::from_millis(500);
    double.set_session_idle(idle);
    for round in 0..4u64 {
        let daemon = Daemon::start(&world);
        std::thread::scope(|scope| {
            for worker in 0..4u64 {
                let world = &world;
                scope.spawn(move || {
                    for number in 0..1_000 {
                        // The daemon dies under it.
                        if sign(world, "yubi", round * 10_000 + worker * 1_000 + number).is_err() {
                            return;
                        }
                    }
                });
            }
            std::thread::sleep(Duration::from_millis(1_700));
            daemon.kill();
        });
        std::thread::sleep(2 * idle);
    }
    let daemon = Daemon::start(&world);
    assert_eq!(sign(&world, "yubi", 99_999).unwrap().status, 200, "the key was not halted");
    std::thread::sleep(Duration::from_millis(3_500));
    assert_eq!(sign(&world, "yubi", 99_998).unwrap().status, 200, "nor later");
    assert!(daemon.stop().success());
    assert_eq!(surplus(&world), Vec::<Value>::new());
    let counts = evidence::count_chained(&evidence::leaves(&world.path("archive"), &world.registry()));
    assert!(counts["signing.signature.issued"] > 100, "{counts:?}");
}
