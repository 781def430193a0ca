//! The daemon beside a device that keeps a log: every use of a key has its entry, through kills too, and one use
//! behind the daemon's back halts that key and no other.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a failed unwrap is the test's failure")]

use std::process::Command;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use aws_sdk_kms::primitives::Blob;
use aws_sdk_kms::types::{MessageType, SigningAlgorithmSpec};
use chancery_format::{Digest, SignatureAlgorithm};
use chancery_hsm::{Backend as _, SealInput};
use chancery_tests::rig::wire::{Ask, Reply, call};
use chancery_tests::rig::{
    Daemon, KmsAccount, STEP_MAX, World, WorldOptions, binary, evidence, random_word, wait_for, write_secret,
};
use chancery_tests::servers::ObjectStore;
use chancery_yubihsm::testing::{AUTH_KEY_ID, YubiHsmDouble};
use chancery_yubihsm::{Connector, YubiHsmBackend, YubiHsmConfig};
use serde_json::{Value, json};

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
    // One address makes every connection here.
    let tables = tables + "\n[limits]\nhandshakes_per_address_per_second = 100000\n";
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

/// Operations of the long run, and how often the daemon dies in it.
const OPERATIONS: u64 = 10_000;
const KILLS: u64 = 8;

#[test]
fn ten_thousand_operations_reconcile_through_kills() {
    let (double, world) = device(&random_word());
    // As fast as may be without filling the log between two readings.
    double.set_delay(Duration::from_millis(14));
    // A killed daemon's sessions are the device's to end; it has sixteen.
    let idle = Duration::from_millis(500);
    double.set_session_idle(idle);
    let signed = AtomicU64::new(0);
    for round in 1..=KILLS {
        let daemon = Daemon::start(&world);
        let enough = OPERATIONS * round / KILLS;
        let limit = Instant::now() + STEP_MAX;
        std::thread::scope(|scope| {
            for worker in 0..12u64 {
                let (world, signed) = (&world, &signed);
                scope.spawn(move || {
                    for number in 0.. {
                        // The daemon dies under it.
                        match sign(world, "yubi", round << 40 | worker << 32 | number) {
                            Ok(reply) if reply.status == 200 => signed.fetch_add(1, Ordering::Relaxed),
                            // Its log is full for a moment.
                            Ok(reply) => {
                                assert_eq!(reply.status, 503, "{}", reply.body);
                                assert_ne!(reply.code(), "key-disabled", "{}", reply.body);
                                std::thread::sleep(Duration::from_millis(20));
                                continue;
                            }
                            Err(_) => return,
                        };
                    }
                });
            }
            while signed.load(Ordering::Relaxed) < enough && Instant::now() < limit {
                std::thread::sleep(Duration::from_millis(5));
            }
            daemon.kill();
        });
        assert!(signed.load(Ordering::Relaxed) >= enough, "round {round} takes too long");
        std::thread::sleep(2 * idle);
    }
    let daemon = Daemon::start(&world);
    // What the last one left in the log may have filled it; what halts a key says so.
    wait_for("the key, which was not halted", || {
        let reply = sign(&world, "yubi", 1).unwrap();
        assert_ne!(reply.code(), "key-disabled", "{}", reply.body);
        (reply.status == 200).then_some(())
    });
    std::thread::sleep(Duration::from_millis(2_500));
    assert_eq!(sign(&world, "yubi", 2).unwrap().status, 200, "nor later");
    assert!(daemon.stop().success());
    assert_eq!(surplus(&world), Vec::<Value>::new());
    let counts = evidence::count_chained(&evidence::leaves(&world.path("archive"), &world.registry()));
    println!("{counts:?}");
    assert!(counts["signing.signature.issued"] as u64 >= signed.into_inner(), "{counts:?}");
}

/// What CloudTrail would deliver of these uses of one key: its records, in the shape AWS documents.
fn trail(arn: &str, times: &[String]) -> String {
    let record = |(number, time): (usize, &String)| {
        json!({
            "eventVersion": "1.11",
            "userIdentity": { "type": "AssumedRole", "arn": "arn:aws:sts::000000000000:assumed-role/chancery/i-1" },
            "eventTime": format!("{}Z", &time[..19]),
            "eventSource": "kms.amazonaws.com",
            "eventName": "Sign",
            "awsRegion": "us-east-1",
            "requestParameters": { "keyId": arn, "messageType": "DIGEST", "signingAlgorithm": "ECDSA_SHA_256" },
            "responseElements": null,
            "requestID": format!("00000000-0000-4000-8000-{number:012x}"),
            "eventID": format!("10000000-0000-4000-8000-{number:012x}"),
            "readOnly": true,
            "resources": [{ "accountId": "000000000000", "type": "AWS::KMS::Key", "ARN": arn }],
            "eventType": "AwsApiCall",
        })
    };
    let records: Vec<Value> = times.iter().enumerate().map(record).collect();
    json!({ "Records": records }).to_string()
}

#[test]
fn a_use_of_a_kms_key_behind_the_ledger_s_back_is_found_in_cloudtrail_and_halts_it_for_good() {
    let account = KmsAccount::new(ObjectStore::MiniStack);
    let algorithm = SignatureAlgorithm::EcdsaP256Sha256;
    let arn = account.make_key(algorithm);
    let findings = "surplus_directory = \"{dir}/surplus\"\n";
    let tables = findings.to_owned() + &account.tables(4, &[("kms", &arn, algorithm)]);
    let mut world = World::with_backend(&WorldOptions::default(), &["kms"], &tables);
    account.lend(&mut world);
    std::fs::create_dir(world.path("surplus")).unwrap();
    world.initialise();
    let daemon = Daemon::start(&world);
    for number in 0..40 {
        let reply = sign(&world, "kms", number).unwrap();
        assert_eq!(reply.status, 200, "{number}: {}", reply.body);
    }
    let request =
        account.raw.sign().key_id(&arn).message(Blob::new([7; 32])).message_type(MessageType::Digest);
    account.wait(request.signing_algorithm(SigningAlgorithmSpec::EcdsaSha256).send()).unwrap();
    let issued = || -> Vec<Value> {
        let leaves = evidence::leaves(&world.path("archive"), &world.registry());
        let events = leaves.iter().map(|leaf| serde_json::from_slice::<Value>(leaf).unwrap());
        events.filter(|event| event["eventType"] == "signing.signature.issued").collect()
    };
    let issued = wait_for("the archive", || Some(issued()).filter(|issued| issued.len() == 40));
    let mut times: Vec<String> =
        issued.iter().map(|event| event["ts"].as_str().unwrap().to_owned()).collect();
    let file = world.path("trail.json");
    let reconcile = |times: &[String]| {
        std::fs::write(&file, trail(&arn, times)).unwrap();
        Command::new(binary("chancery"))
            .args(["reconcile", "--json", "--archive"])
            .arg(world.path("archive"))
            .arg("--cloudtrail")
            .arg(&file)
            .arg("--halt")
            .arg(world.path("surplus"))
            .output()
            .unwrap()
    };
    let even = reconcile(&times);
    assert!(even.status.success(), "{}", String::from_utf8_lossy(&even.stdout));
    assert_eq!(sign(&world, "kms", 1_000).unwrap().status, 200, "nothing was found");
    times.push(times[39].clone());
    for _ in 0..2 {
        let found = reconcile(&times);
        assert_eq!(found.status.code(), Some(1), "{}", String::from_utf8_lossy(&found.stdout));
        let found: Value = serde_json::from_slice(&found.stdout).unwrap();
        assert_eq!(found["keys"][0]["surplusCount"], 1, "{found}");
        let refused =
            wait_for("the halt", || sign(&world, "kms", 2_000).ok().filter(|reply| reply.status != 200));
        assert_eq!((refused.status, refused.code().as_str()), (503, "key-disabled"));
    }
    assert_eq!(sign(&world, "ed", 1).unwrap().status, 200, "other keys go on");
    let (_, metrics) = daemon.ops("/metrics").unwrap();
    assert!(metrics.contains("chancery_device_surplus_total{backend=\"cloud\"} 1"), "{metrics}");
    daemon.kill();
    let daemon = Daemon::start(&world);
    assert_eq!(sign(&world, "kms", 2_001).unwrap().code(), "key-disabled", "a restart forgives nothing");
    assert!(daemon.stop().success());
    let found = surplus(&world);
    assert_eq!(found.len(), 1, "{found:?}");
    let payload = &found[0]["payload"];
    assert_eq!((&payload["signer_kid"], &payload["count"]), (&"kms-v1".into(), &1.into()));
    assert_eq!(payload["serial"], arn.as_str());
    assert!(world.verify(&["ledger", world.path("archive").to_str().unwrap()]).status.success());
}
