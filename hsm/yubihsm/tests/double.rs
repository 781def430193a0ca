//! The backend on the device double: every algorithm, outages, passwords, idle sessions, labels,
//! capabilities, attestation.

#![expect(clippy::unwrap_used, reason = "a failed unwrap is the test's failure")]

mod world;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use chancery_format::SignatureAlgorithm;
use chancery_format::entry::KeyUse;
use chancery_hsm::conformance::{KnownMac, Outage, Subject, check};
use chancery_hsm::{Backend, KeyShape, Origin, SealInput, SignerError};
use chancery_yubihsm::testing::{AUTH_KEY_ID, YubiHsmDouble};
use chancery_yubihsm::{ProvisionError, YubiHsmBackend, YubiHsmConfig};
use world::{DIGEST, KEYS, World, drain, later, log_of, sign, write_password};

use SignatureAlgorithm::{EcdsaP256Sha256, Ed25519, HmacSha256};

#[test]
fn every_algorithm_conforms_and_outlives_an_outage() {
    let world = World::new();
    let backend = world.backend();
    let mut keys = Vec::new();
    for (label, shape, algorithms) in KEYS {
        backend.generate_key(label, shape).unwrap();
        keys.extend(algorithms.iter().map(|algorithm| (label.to_owned(), *algorithm)));
    }
    let secret: Vec<u8> = (1..=32).collect();
    put_known_mac(&world, &secret);
    let known_mac = Some(KnownMac { label: "known".to_owned(), secret });
    let offered: BTreeSet<_> = backend.algorithms().iter().copied().collect();
    let subject = Subject {
        backend: Arc::new(backend),
        keys,
        known_mac,
        outage: Some(&world.double),
        off_switch: Some(&world.double),
    };
    let report = check(&subject).unwrap();
    assert_eq!(report.algorithms, offered);
    assert!(report.known_mac && report.outage && report.off_switch && report.verified > 200);
}

fn put_known_mac(world: &World, secret: &[u8]) {
    let capabilities = yubihsm::Capability::SIGN_HMAC;
    let domains = yubihsm::Domain::DOM1;
    let algorithm = yubihsm::hmac::Algorithm::Sha256;
    let client = world.other_client();
    client.put_hmac_key(0x0777, "known".into(), domains, capabilities, algorithm, secret).unwrap();
}

#[test]
fn an_outage_costs_the_requests_during_it_and_no_key_use() {
    let world = World::new();
    world.double.add_key("ed", KeyShape::Ed25519).unwrap();
    let backend = world.backend();
    let key = backend.open_key("ed", Ed25519).unwrap();
    assert!(sign(&key).is_ok());
    for _ in 0..3 {
        world.double.lose();
        for _ in 0..3 {
            let error = sign(&key).unwrap_err();
            assert!(matches!(&error, SignerError::Unavailable { key_use: KeyUse::None, .. }), "{error:?}");
            assert_eq!(backend.probe(later()).unwrap_err().code(), "backend-unavailable");
        }
        world.double.restore();
        assert!(sign(&key).is_ok());
        assert_eq!(backend.probe(later()), Ok(()));
    }
    // A device that only lost its sessions is not even noticed.
    world.double.reboot();
    assert!(sign(&key).is_ok());
}

#[test]
fn a_wrong_password_is_tried_once_until_its_file_changes() {
    let world = World::new();
    write_password(&world.directory, "not this one");
    let refused = YubiHsmBackend::open(&world.config).err().unwrap();
    assert!(matches!(&refused.source, SignerError::Refused { cause } if cause.contains("another password")));
    assert!(!refused.to_string().contains("not this one"));
    assert_eq!(world.double.sessions_tried(), 1);

    write_password(&world.directory, &world.password);
    world.double.add_key("ed", KeyShape::Ed25519).unwrap();
    let backend = YubiHsmBackend::open(&YubiHsmConfig { keep_alive: None, ..world.config.clone() }).unwrap();
    let key = backend.open_key("ed", Ed25519).unwrap();
    write_password(&world.directory, "not this one either");
    world.double.reboot();
    let before = world.double.sessions_tried();
    for _ in 0..5 {
        assert_eq!(sign(&key).unwrap_err().code(), "backend-unavailable");
    }
    assert_eq!(world.double.sessions_tried(), before + 1);
    write_password(&world.directory, &world.password);
    assert!(sign(&key).is_ok());
}

#[test]
fn a_missing_authentication_key_or_another_device_is_refused() {
    let world = World::new();
    let nobody = YubiHsmConfig { auth_key_id: 77, ..world.config.clone() };
    assert!(YubiHsmBackend::open(&nobody).err().unwrap().to_string().contains("0x004d"));
    let serial = |serial: &str| YubiHsmConfig { serial: Some(serial.to_owned()), ..world.config.clone() };
    let other = YubiHsmBackend::open(&serial("1234567")).err().unwrap();
    assert!(other.to_string().contains("0007654321"));
    let this = YubiHsmBackend::open(&serial("7654321")).unwrap();
    assert_eq!((this.serial(), this.firmware()), ("0007654321", "2.3.2"));
}

#[test]
fn idle_sessions_end_and_are_opened_again_unseen() {
    let world = World::new();
    world.double.set_session_idle(Duration::from_millis(100));
    world.double.add_key("ed", KeyShape::Ed25519).unwrap();
    let backend = YubiHsmBackend::open(&YubiHsmConfig { keep_alive: None, ..world.config.clone() }).unwrap();
    let key = backend.open_key("ed", Ed25519).unwrap();
    while world.double.open_sessions() > 0 {
        std::thread::sleep(Duration::from_millis(10));
    }
    let before = world.double.sessions_tried();
    assert!(sign(&key).is_ok());
    assert!(world.double.sessions_tried() > before);
}

#[test]
fn an_answer_that_comes_too_late_leaves_the_key_use_in_doubt_and_is_not_asked_for_again() {
    let world = World::new();
    world.double.add_key("ed", KeyShape::Ed25519).unwrap();
    let timeout = Duration::from_millis(500);
    let backend = YubiHsmBackend::open(&YubiHsmConfig { timeout, ..world.config.clone() }).unwrap();
    let key = backend.open_key("ed", Ed25519).unwrap();
    let log = log_of(&backend);
    drain(&log);
    world.double.set_delay(Duration::from_secs(2));
    let error = sign(&key).unwrap_err();
    assert!(matches!(&error, SignerError::Unavailable { key_use: KeyUse::Unknown, .. }), "{error:?}");
    world.double.set_delay(Duration::ZERO);
    assert!(sign(&key).is_ok());
    let uses = drain(&log).into_iter().filter(|operation| operation.uses_key).count();
    assert_eq!(uses, 2);
}

#[test]
fn kept_sessions_outlive_idleness_and_are_closed_at_the_end() {
    let world = World::new();
    world.double.set_session_idle(Duration::from_secs(4));
    let keep_alive = Some(Duration::from_millis(100));
    let backend = YubiHsmBackend::open(&YubiHsmConfig { keep_alive, ..world.config.clone() }).unwrap();
    let before = world.double.sessions_tried();
    std::thread::sleep(Duration::from_secs(5));
    assert_eq!((world.double.open_sessions(), world.double.sessions_tried()), (2, before));
    drop(backend);
    assert_eq!(world.double.open_sessions(), 0);
}

#[test]
fn a_device_with_too_few_sessions_left_is_found_out_at_start() {
    let world = World::new();
    let many = YubiHsmConfig { sessions: 15, ..world.config.clone() };
    let first = YubiHsmBackend::open(&many).unwrap();
    let refused = YubiHsmBackend::open(&world.config).err().unwrap();
    assert_eq!(refused.source.code(), "backend-unavailable");
    assert!(refused.to_string().contains("sessions are in use"));
    drop(first);
}

#[test]
fn labels_that_name_two_keys_are_refused_and_ids_name_one() {
    let world = World::new();
    let first = world.double.add_key("twice", KeyShape::Ed25519).unwrap();
    world.double.add_key("twice", KeyShape::Ed25519).unwrap();
    let backend = world.backend();
    let refused = backend.open_key("twice", Ed25519).err().unwrap();
    assert!(matches!(&refused, SignerError::Refused { cause } if cause.contains("more than one")));
    let key = backend.open_key(&format!("0x{first:04x}"), Ed25519).unwrap();
    assert!(sign(&key).is_ok());
    let missing = backend.open_key("0x7fff", Ed25519).err().unwrap();
    assert!(matches!(&missing, SignerError::KeyMissing { cause } if cause.contains("0x7fff")));
    // The label of a MAC key is not in its way.
    world.double.add_key("twice", KeyShape::recommended(HmacSha256)).unwrap();
    assert!(backend.open_key("twice", HmacSha256).is_ok());
}

#[test]
fn keys_that_may_not_sign_are_refused_by_us_and_by_the_device() {
    let world = World::new();
    world.double.add_key_that_may("useless", KeyShape::Ed25519, 0).unwrap();
    world.double.add_key("ed", KeyShape::Ed25519).unwrap();
    let backend = world.backend();
    let refused = backend.open_key("useless", Ed25519).err().unwrap();
    assert!(matches!(&refused, SignerError::Refused { cause } if cause.contains("sign-eddsa")));
    let key = backend.open_key("ed", Ed25519).unwrap();
    world.double.restrict_authentication_key(0);
    let refused = sign(&key).unwrap_err();
    assert!(matches!(&refused, SignerError::Refused { cause } if cause.contains("permissions")));
    let useless = world.other_client().sign_ed25519(0x0100, b"text".as_slice());
    assert!(useless.is_err());
}

#[test]
fn generated_keys_are_not_overwritten() {
    let world = World::new();
    let backend = world.backend();
    let id = backend.generate_key("key", KeyShape::P256).unwrap();
    assert_eq!(backend.generate_key("key", KeyShape::P384), Err(ProvisionError::KeyExists("key".to_owned())));
    assert_eq!(backend.generate_key("0x1234", KeyShape::P256), Err(ProvisionError::Label));
    assert_eq!(backend.generate_key("pq", KeyShape::MlDsa44), Err(ProvisionError::Shape));
    let info = world.other_client().get_object_info(id, yubihsm::object::Type::AsymmetricKey).unwrap();
    assert_eq!(info.capabilities, yubihsm::Capability::SIGN_ECDSA);
    assert_eq!(info.origin, yubihsm::object::Origin::Generated);
}

#[test]
fn a_key_has_a_birth_certificate_that_leads_to_the_configured_root() {
    let world = World::new();
    world.double.add_key("ec", KeyShape::P256).unwrap();
    let unanchored = world.backend().birth("ec", EcdsaP256Sha256).unwrap();
    assert_eq!((unanchored.origin, unanchored.attestation.len()), (Origin::Generated, 2));
    assert_eq!(unanchored.serial.as_deref(), Some("0007654321"));
    assert!(!unanchored.attestation_anchored);

    let roots = |pem: &str| {
        let file = world.directory.path().join("roots.pem");
        std::fs::write(&file, pem).unwrap();
        YubiHsmConfig { attestation_roots: Some(file), ..world.config.clone() }
    };
    let anchored = YubiHsmBackend::open(&roots(&world.double.attestation_roots_pem())).unwrap();
    for (label, shape, algorithm) in [("ec", None, EcdsaP256Sha256), ("ed", Some(KeyShape::Ed25519), Ed25519)]
    {
        if let Some(shape) = shape {
            world.double.add_key(label, shape).unwrap();
        }
        let birth = anchored.birth(label, algorithm).unwrap();
        assert!(birth.attestation_anchored && birth.attestation.len() == 3);
    }
    let other = YubiHsmDouble::start("another device").unwrap();
    let strange = YubiHsmBackend::open(&roots(&other.attestation_roots_pem())).unwrap();
    let refused = strange.birth("ec", EcdsaP256Sha256).unwrap_err();
    assert!(matches!(&refused, SignerError::Refused { cause } if cause.contains("configured root")));
    let empty = YubiHsmBackend::open(&roots("nothing")).err().unwrap();
    assert!(empty.to_string().contains("roots.pem"));
}

#[test]
fn an_attestation_by_another_key_than_the_devices_is_refused() {
    let world = World::new();
    world.double.add_key("ec", KeyShape::P256).unwrap();
    world.double.break_attestation().unwrap();
    let refused = world.backend().birth("ec", EcdsaP256Sha256).unwrap_err();
    assert!(matches!(&refused, SignerError::Refused { cause } if cause.contains("vouch")));
}

#[test]
fn mac_keys_and_keys_we_may_not_ask_about_have_no_attestation() {
    let world = World::new();
    world.double.add_key("mac", KeyShape::recommended(HmacSha256)).unwrap();
    world.double.add_key("ec", KeyShape::P256).unwrap();
    let mac = world.backend().birth("mac", HmacSha256).unwrap();
    assert_eq!((mac.origin, mac.attestation.len()), (Origin::Generated, 0));
    let secret = [9; 32];
    put_known_mac(&world, &secret);
    assert_eq!(world.backend().birth("known", HmacSha256).unwrap().origin, Origin::Imported);
    let backend = world.backend();
    world.double.restrict_authentication_key(0);
    let birth = backend.birth("ec", EcdsaP256Sha256).unwrap();
    assert!(birth.attestation.is_empty() && !birth.attestation_anchored);
}

#[test]
fn messages_longer_than_a_command_holds_are_refused_before_the_device_is_asked() {
    let world = World::new();
    world.double.add_key("ed", KeyShape::Ed25519).unwrap();
    let key = world.backend().open_key("ed", Ed25519).unwrap();
    let longest = vec![1; 2024];
    assert!(key.sign(SealInput::Message(&longest), later()).is_ok());
    let longer = vec![1; 2025];
    assert_eq!(key.sign(SealInput::Message(&longer), later()), Err(SignerError::WrongInput));
}

#[cfg(not(feature = "usb"))]
#[test]
fn a_build_without_usb_says_which_build_has_it() {
    let world = World::new();
    let usb = YubiHsmConfig { connector: chancery_yubihsm::Connector::Usb, ..world.config.clone() };
    let refused = YubiHsmBackend::open(&usb).err().unwrap();
    assert!(matches!(&refused.source, SignerError::Refused { cause } if cause.contains("--features")));
}

#[cfg(feature = "usb")]
#[test]
fn a_device_that_is_not_plugged_in_is_unavailable() {
    let world = World::new();
    let connector = chancery_yubihsm::Connector::Usb;
    let config = YubiHsmConfig { connector, serial: Some("1".to_owned()), ..world.config.clone() };
    let refused = YubiHsmBackend::open(&config).err().unwrap();
    assert_eq!(refused.source.code(), "backend-unavailable");
}

/// The double is as good as the protocol it speaks: here is somebody else's client.
#[test]
fn the_yubihsm_crates_client_works_with_the_double() {
    let world = World::new();
    let id = world.double.add_key("ed", KeyShape::Ed25519).unwrap();
    let client = world.other_client();
    assert_eq!(client.echo(b"text".as_slice()).unwrap(), b"text");
    let info = client.device_info().unwrap();
    assert_eq!((info.serial_number.to_string(), info.log_store_capacity), ("0007654321".to_owned(), 62));
    let signature = client.sign_ed25519(id, DIGEST.as_bytes()).unwrap();
    let public = client.get_public_key(id).unwrap();
    let key = chancery_format::PublicKey::from_point(Ed25519, public.as_slice()).unwrap();
    assert!(key.verify(&DIGEST, &signature.to_bytes()));
    let listed = client.list_objects(&[yubihsm::object::Filter::Label("ed".into())]).unwrap();
    assert_eq!(listed.iter().map(|entry| entry.object_id).collect::<Vec<_>>(), [id]);
    client.set_force_audit_option(yubihsm::AuditOption::On).unwrap();
    assert_eq!(client.get_force_audit_option().unwrap(), yubihsm::AuditOption::On);
    let log = client.get_log_entries().unwrap();
    assert_eq!(usize::from(log.num_entries), log.entries.len());
    client.set_log_index(log.entries.last().unwrap().item).unwrap();
    assert!(client.get_storage_info().is_ok());
    assert!(client.sign_attestation_certificate(id, None).unwrap().len() > 100);
    client.reset_device().unwrap();
    assert!(client.get_object_info(id, yubihsm::object::Type::AsymmetricKey).is_err());
    assert!(client.get_object_info(AUTH_KEY_ID, yubihsm::object::Type::AuthenticationKey).is_ok());
}
