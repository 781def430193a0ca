//! Devices that fail underneath the whole daemon: a key disabled in its cloud, a module's process that dies.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a failed unwrap is the test's failure")]

use std::collections::BTreeMap;
use std::fs;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use chancery_format::{Digest, PublicKey, SignatureAlgorithm};
use chancery_tests::rig::wire::{Ask, Reply, call};
use chancery_tests::rig::{Daemon, KmsAccount, World, WorldOptions, evidence, wait_for};
use chancery_tests::servers::ObjectStore;
use rustix::process::{Pid, Signal, kill_process};

/// One address makes every connection here.
const LIMITS: &str =
    "\n[limits]\nhandshakes_per_address_per_second = 100000\nconnections_per_address_max = 1024\n";

fn sign(world: &World, kid: &str, digest: &str) -> Reply {
    let body = format!("{{\"kid\":\"{kid}\",\"digest\":\"{digest}\",\"digestAlgorithm\":\"sha256\"}}");
    call(world, Some(&world.orders), &Ask::post("/v1/sign", body)).unwrap()
}

/// A digest nobody else asks for.
fn digest(worker: usize, turn: u64) -> String {
    format!("{worker:032x}{turn:032x}")
}

fn counts(world: &World) -> BTreeMap<String, u64> {
    evidence::count_chained(&evidence::leaves(&world.path("archive"), &world.registry()))
}

#[test]
fn a_kms_key_disabled_underneath_is_refused_within_a_second_and_signs_again_when_enabled() {
    let account = KmsAccount::new(ObjectStore::MiniStack);
    let algorithm = SignatureAlgorithm::EcdsaP256Sha256;
    let (arn, other) = (account.make_key(algorithm), account.make_key(algorithm));
    let tables =
        LIMITS.to_owned() + &account.tables(4, &[("kms", &arn, algorithm), ("kms-2", &other, algorithm)]);
    let mut world = World::with_backend(&WorldOptions::default(), &["kms", "kms-2"], &tables);
    account.lend(&mut world);
    world.initialise();
    let daemon = Daemon::start(&world);
    for turn in 0..10 {
        assert_eq!(sign(&world, "kms", &digest(0, turn)).status, 200);
    }
    account.disable(&arn);
    let since = Instant::now();
    let refused =
        wait_for("the refusal", || Some(sign(&world, "kms", &digest(1, 0))).filter(|it| it.status != 200));
    let after = since.elapsed();
    assert!(after < Duration::from_secs(1), "{after:?}");
    assert_eq!((refused.status, refused.code().as_str()), (503, "key-disabled"), "{}", refused.body);
    // It is this key, not its service.
    assert_eq!(sign(&world, "kms-2", &digest(2, 0)).status, 200);
    assert_eq!(sign(&world, "ed", &digest(2, 1)).status, 200);
    account.enable(&arn);
    wait_for("the key", || (sign(&world, "kms", &digest(3, 0)).status == 200).then_some(()));
    assert!(daemon.stop().success());
    let counts = counts(&world);
    assert!(counts["signing.signature.failed"] >= 1, "the refusal by the device is recorded: {counts:?}");
    assert!(world.verify(&["ledger", world.path("archive").to_str().unwrap()]).status.success());
}

/// The process in which the token's module runs.
fn worker(daemon: &Daemon) -> Option<u32> {
    let is_worker = |child: &u32| {
        let command = fs::read(format!("/proc/{child}/cmdline")).unwrap_or_default();
        String::from_utf8_lossy(&command).contains("pkcs11-worker")
    };
    daemon.children().into_iter().find(is_worker)
}

#[test]
fn a_module_s_process_killed_under_64_requests_loses_and_falsifies_nothing() {
    const CALLERS: usize = 64;
    const KILLS: usize = 4;
    let options = WorldOptions { more: LIMITS.to_owned(), ..WorldOptions::default() };
    let world = World::with_softhsm(&options);
    let daemon = Daemon::start(&world);
    let registry = world.registry();
    let key = registry.signer("hsm-p256-v1").unwrap().public_key_pem.clone().unwrap();
    let key = PublicKey::from_pem(SignatureAlgorithm::EcdsaP256Sha256, &key).unwrap();
    let (stop, outages) = (AtomicBool::new(false), Mutex::new(Vec::new()));
    let answers: Vec<(usize, usize)> = std::thread::scope(|scope| {
        let callers: Vec<_> = (0..CALLERS)
            .map(|caller| {
                let (world, key, stop) = (&world, &key, &stop);
                scope.spawn(move || {
                    let (mut signed, mut refused) = (0, 0);
                    for turn in 0.. {
                        if stop.load(Ordering::Relaxed) {
                            break;
                        }
                        let asked = digest(caller, turn);
                        let reply = sign(world, "hsm-p256", &asked);
                        if reply.status == 200 {
                            let signature =
                                STANDARD.decode(reply.json()["signature"].as_str().unwrap()).unwrap();
                            let asked = Digest::parse("sha256", &asked).unwrap();
                            assert!(key.verify(&asked, &signature), "a wrong signature: {}", reply.body);
                            signed += 1;
                        } else {
                            assert_eq!(reply.status, 503, "{}", reply.body);
                            refused += 1;
                            std::thread::sleep(Duration::from_millis(20));
                        }
                    }
                    (signed, refused)
                })
            })
            .collect();
        // Another backend's keys notice nothing.
        let bystander = scope.spawn(|| {
            let mut turn = 0;
            while !stop.load(Ordering::Relaxed) {
                let reply = sign(&world, "ed", &digest(CALLERS, turn));
                assert_eq!(reply.status, 200, "{}", reply.body);
                turn += 1;
            }
            turn
        });
        for _ in 0..KILLS {
            std::thread::sleep(Duration::from_millis(700));
            let victim = wait_for("the worker", || worker(&daemon));
            kill_process(Pid::from_raw(i32::try_from(victim).unwrap()).unwrap(), Signal::KILL).unwrap();
            let since = Instant::now();
            wait_for("another worker", || worker(&daemon).filter(|pid| *pid != victim));
            wait_for("a signature", || {
                (sign(&world, "hsm-p256", &digest(CALLERS + 1, u64::from(victim))).status == 200)
                    .then_some(())
            });
            outages.lock().unwrap().push(since.elapsed());
        }
        stop.store(true, Ordering::Relaxed);
        assert!(bystander.join().unwrap() > 0);
        callers.into_iter().map(|caller| caller.join().unwrap()).collect()
    });
    let outages = outages.into_inner().unwrap();
    let signed: usize = answers.iter().map(|(signed, _)| signed).sum();
    let refused: usize = answers.iter().map(|(_, refused)| refused).sum();
    println!("{signed} signed, {refused} refused, back after {outages:?}");
    assert!(outages.iter().all(|outage| *outage < Duration::from_secs(2)), "{outages:?}");
    assert!(daemon.stop().success());
    let counts = counts(&world);
    assert!(counts["signing.signature.issued"] >= signed as u64, "{signed} acknowledged, {counts:?}");
    assert!(world.verify(&["ledger", world.path("archive").to_str().unwrap()]).status.success());
}
