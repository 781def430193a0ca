//! The device's own log: complete while everybody signs, and loud when it is not.

#![expect(clippy::unwrap_used, reason = "a failed unwrap is the test's failure")]

mod world;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use chancery_format::SignatureAlgorithm::{Ed25519, HmacSha256};
use chancery_format::entry::KeyUse;
use chancery_format::{Digest, Hash};
use chancery_hsm::conformance::Outage;
use chancery_hsm::{Backend, DeviceOperation, KeyShape, SealInput, SignerError};
use chancery_yubihsm::{ForceAudit, LogPosition, YubiHsmBackend, YubiHsmConfig};
use world::{World, drain, later, log_of, sign};

/// Signatures made while the log is drained.
const SIGNATURES: usize = 10_000;
const SIGNERS: usize = 3;

fn key_uses(operations: &[DeviceOperation]) -> usize {
    operations.iter().filter(|operation| operation.uses_key).count()
}

fn forced(world: &World) -> YubiHsmConfig {
    YubiHsmConfig { force_audit: ForceAudit::Set, ..world.config.clone() }
}

fn says(error: &SignerError, words: &str) -> bool {
    matches!(error, SignerError::Refused { cause } if cause.contains(words))
}

/// Signs until it works; a log that is full for the moment is the only excuse.
fn sign_patiently(key: &Arc<dyn chancery_hsm::SignerHandle>, number: usize) {
    let digest = Digest::Sha256(Hash::of(&[&number.to_be_bytes()]).0);
    loop {
        match key.sign(SealInput::Digest(&digest), later()) {
            Ok(_) => return,
            Err(SignerError::Unavailable { cause, key_use: KeyUse::None })
                if cause.contains("log is full") =>
            {
                std::thread::yield_now();
            }
            Err(error) => panic!("{error}"),
        }
    }
}

#[test]
fn ten_thousand_signatures_are_in_the_log_once_each() {
    let world = World::new();
    world.double.add_key("ed", KeyShape::Ed25519).unwrap();
    let backend = YubiHsmBackend::open(&YubiHsmConfig { sessions: 4, ..forced(&world) }).unwrap();
    let key = backend.open_key("ed", Ed25519).unwrap();
    let log = log_of(&backend);
    drain(&log);
    let signed = AtomicUsize::new(0);
    let mut operations = Vec::new();
    std::thread::scope(|scope| {
        for _ in 0..SIGNERS {
            scope.spawn(|| {
                loop {
                    let number = signed.fetch_add(1, Ordering::SeqCst);
                    if number >= SIGNATURES {
                        return;
                    }
                    sign_patiently(&key, number);
                }
            });
        }
        while key_uses(&operations) < SIGNATURES {
            operations.extend(drain(&log));
        }
    });
    operations.extend(drain(&log));
    assert_eq!(key_uses(&operations), SIGNATURES);
    let first = operations.first().unwrap().number;
    let expected: Vec<u64> = (first..).take(operations.len()).collect();
    assert_eq!(operations.iter().map(|operation| operation.number).collect::<Vec<_>>(), expected);
    let commands: BTreeSet<_> = operations.iter().map(|operation| operation.command.as_str()).collect();
    assert_eq!(commands, BTreeSet::from(["set-log-index", "sign-eddsa"]));
    for operation in operations.iter().filter(|operation| operation.uses_key) {
        assert!(operation.succeeded && operation.label.as_deref() == Some("ed"));
        assert_eq!(operation.evidence.len(), 64);
    }
}

#[test]
fn a_signature_past_us_is_one_operation_too_many() {
    let world = World::new();
    let id = world.double.add_key("ed", KeyShape::Ed25519).unwrap();
    world.double.add_key("mac", KeyShape::recommended(HmacSha256)).unwrap();
    let stranger = world.double.add_key("stranger", KeyShape::P256).unwrap();
    let backend = world.backend();
    let (key, mac) = (backend.open_key("ed", Ed25519).unwrap(), backend.open_key("mac", HmacSha256).unwrap());
    let log = log_of(&backend);
    drain(&log);
    for _ in 0..5 {
        sign(&key).unwrap();
        sign(&mac).unwrap();
    }
    let client = world.other_client();
    client.sign_ed25519(id, b"behind our back".as_slice()).unwrap();
    client.sign_ecdsa_prehash_raw(stranger, [1; 32].as_slice()).unwrap();
    assert!(client.sign_ecdsa_prehash_raw(id, [1; 32].as_slice()).is_err());
    let operations = drain(&log);
    let of = |label: Option<&str>, succeeded| {
        let wanted = |operation: &&DeviceOperation| {
            operation.uses_key && operation.label.as_deref() == label && operation.succeeded == succeeded
        };
        operations.iter().filter(wanted).count()
    };
    assert_eq!((of(Some("ed"), true), of(Some("mac"), true), of(None, true)), (6, 5, 1));
    assert_eq!(of(Some("ed"), false), 1);
    let sessions = operations.iter().filter(|operation| operation.command == "create-session");
    assert_eq!(sessions.count(), 1);
}

#[test]
fn altered_and_missing_entries_are_noticed() {
    for (what, words) in [("alter", "altered"), ("remove", "missing")] {
        let world = World::new();
        world.double.add_key("ed", KeyShape::Ed25519).unwrap();
        let backend = world.backend();
        let key = backend.open_key("ed", Ed25519).unwrap();
        for _ in 0..5 {
            sign(&key).unwrap();
        }
        let place = world.double.log_used() - 3;
        match what {
            "alter" => world.double.alter_log(place, 4),
            _ => world.double.remove_log_entry(place),
        }
        let error = log_of(&backend).read(100, later()).unwrap_err();
        assert!(says(&error, words), "{error}");
    }
}

#[test]
fn an_unforced_log_that_overwrote_itself_has_a_gap() {
    let world = World::new();
    world.double.add_key("ed", KeyShape::Ed25519).unwrap();
    let backend = world.backend();
    let (key, log) = (backend.open_key("ed", Ed25519).unwrap(), log_of(&backend));
    drain(&log);
    for _ in 0..70 {
        sign(&key).unwrap();
    }
    let error = log.read(100, later()).unwrap_err();
    assert!(says(&error, "missing"), "{error}");
}

#[test]
fn a_full_log_stops_signing_without_using_the_key_until_it_is_drained() {
    let world = World::new();
    world.double.add_key("ed", KeyShape::Ed25519).unwrap();
    let backend = YubiHsmBackend::open(&forced(&world)).unwrap();
    let (key, log) = (backend.open_key("ed", Ed25519).unwrap(), log_of(&backend));
    drain(&log);
    let signed = (0..100).take_while(|_| sign(&key).is_ok()).count();
    // One place holds the entry of SET LOG INDEX.
    assert_eq!(signed, 61);
    let error = sign(&key).unwrap_err();
    assert!(
        matches!(&error, SignerError::Unavailable { cause, key_use: KeyUse::None } if cause.contains("full"))
    );
    assert_eq!(backend.probe(later()), Ok(()));
    assert_eq!(key_uses(&drain(&log)), 61);
    assert!(sign(&key).is_ok());
}

#[test]
fn what_a_full_log_could_not_hold_is_an_error_once() {
    let world = World::new();
    world.double.add_key("ed", KeyShape::Ed25519).unwrap();
    let backend = YubiHsmBackend::open(&forced(&world)).unwrap();
    let (key, log) = (backend.open_key("ed", Ed25519).unwrap(), log_of(&backend));
    drain(&log);
    while sign(&key).is_ok() {}
    world.double.reboot();
    let error = log.read(100, later()).unwrap_err();
    assert!(says(&error, "1 starts and 1 authentications"), "{error}");
    assert_eq!(key_uses(&drain(&log)), 61);
    assert!(sign(&key).is_ok());
    assert_eq!(key_uses(&drain(&log)), 1);
}

#[test]
fn a_device_left_with_a_full_log_is_opened_and_its_keys_once_it_is_drained() {
    let world = World::new();
    world.double.add_key("ed", KeyShape::Ed25519).unwrap();
    let backend = YubiHsmBackend::open(&forced(&world)).unwrap();
    let key = backend.open_key("ed", Ed25519).unwrap();
    while sign(&key).is_ok() {}
    drop((key, backend));
    let required = YubiHsmConfig { force_audit: ForceAudit::Require, ..world.config.clone() };
    let backend = YubiHsmBackend::open(&required).unwrap();
    let full = backend.open_key("ed", Ed25519).err().unwrap();
    assert!(matches!(&full, SignerError::Unavailable { cause, .. } if cause.contains("full")));
    let log = log_of(&backend);
    assert!(log.read(100, later()).is_err(), "the sessions just opened were not logged");
    assert!(key_uses(&drain(&log)) > 0);
    assert!(sign(&backend.open_key("ed", Ed25519).unwrap()).is_ok());
}

#[test]
fn reading_goes_on_from_what_the_ledger_has_also_after_a_restart() {
    let world = World::new();
    world.double.add_key("ed", KeyShape::Ed25519).unwrap();
    let backend = world.backend();
    let (key, log) = (backend.open_key("ed", Ed25519).unwrap(), log_of(&backend));
    for _ in 0..3 {
        sign(&key).unwrap();
    }
    let all = log.read(100, later()).unwrap();
    let some = log.read(2, later()).unwrap();
    assert_eq!(some, all.iter().take(2).cloned().collect::<Vec<_>>());
    assert!(log.consume(all.last().unwrap().number + 1, later()).is_err());
    log.consume(some.last().unwrap().number, later()).unwrap();
    log.consume(some.last().unwrap().number, later()).unwrap();
    let rest = log.read(100, later()).unwrap();
    assert_eq!(rest.first(), all.get(2));
    // The daemon records all of it and dies before it tells the device.
    let last = rest.last().unwrap();
    drop((key, log, backend));
    let log_position = LogPosition::from_evidence(last.number, &last.evidence);
    assert!(log_position.is_some());
    let backend = YubiHsmBackend::open(&YubiHsmConfig { log_position, ..world.config.clone() }).unwrap();
    let again = log_of(&backend).read(100, later()).unwrap();
    assert_eq!(again.first().unwrap().number, last.number + 1);
    assert_eq!(key_uses(&again), 0);
    // Another device's log does not follow.
    let other = World::new();
    let backend = YubiHsmBackend::open(&YubiHsmConfig { log_position, ..other.config.clone() }).unwrap();
    assert!(matches!(log_of(&backend).read(100, later()), Err(SignerError::Refused { .. })));
}

#[test]
fn numbers_survive_the_devices_sixteen_bits_and_an_outage() {
    let world = World::new();
    world.double.add_key("ed", KeyShape::Ed25519).unwrap();
    let backend = world.backend();
    let (key, log) = (backend.open_key("ed", Ed25519).unwrap(), log_of(&backend));
    let used = world.double.log_used();
    (0..used).for_each(|_| world.double.remove_log_entry(0));
    world.double.set_next_log_number(65_530);
    sign(&key).unwrap();
    let mut operations = drain(&log);
    for _ in 0..5 {
        sign(&key).unwrap();
        sign(&key).unwrap();
        operations.extend(drain(&log));
    }
    world.double.lose();
    assert_eq!(log.read(1, later()).unwrap_err().code(), "backend-unavailable");
    world.double.restore();
    operations.extend(drain(&log));
    let expected: Vec<u64> = (65_530..).take(operations.len()).collect();
    assert_eq!(operations.iter().map(|operation| operation.number).collect::<Vec<_>>(), expected);
    assert_eq!((key_uses(&operations), log.serial()), (11, "0007654321".to_owned()));
}

#[test]
fn forced_auditing_is_checked_and_set_only_if_asked() {
    let world = World::new();
    let required = YubiHsmConfig { force_audit: ForceAudit::Require, ..world.config.clone() };
    let refused = YubiHsmBackend::open(&required).err().unwrap();
    assert!(says(&refused.source, "forced auditing is off"));
    YubiHsmBackend::open(&forced(&world)).unwrap();
    YubiHsmBackend::open(&required).unwrap();
    let client = world.other_client();
    client.set_command_audit_option(yubihsm::command::Code::SignEddsa, yubihsm::AuditOption::Off).unwrap();
    let refused = YubiHsmBackend::open(&required).err().unwrap();
    assert!(says(&refused.source, "does not log sign-eddsa"), "{refused}");
    YubiHsmBackend::open(&forced(&world)).unwrap();
    YubiHsmBackend::open(&required).unwrap();
}
