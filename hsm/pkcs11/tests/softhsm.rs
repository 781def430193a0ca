//! The PKCS#11 backend on a real SoftHSM2.

#![expect(clippy::unwrap_used, reason = "a failed unwrap is the test's failure")]

mod world;

use std::sync::Arc;
use std::time::{Duration, Instant};

use chancery_format::entry::KeyUse;
use chancery_format::{Digest, HashAlgorithm, SignatureAlgorithm};
use chancery_hsm::conformance::{KnownMac, Subject, check};
use chancery_hsm::{Backend, KeyShape, RsaBits, SealInput, SignerError};
use chancery_pkcs11::{Pkcs11Backend, Pkcs11Config, ProvisionError, TokenSelector, init_token};
use cryptoki::object::{Attribute, AttributeType, KeyType, ObjectClass};
use world::{PIN, Signing, TOKEN, in_world, kill, launch, module_file, with_raw_session, write_pin};

use SignatureAlgorithm::{
    EcdsaP256Sha256, EcdsaP384Sha384, EcdsaSecp256k1Sha256, Ed25519, HmacSha256, HmacSha384, HmacSha512,
    RsaPssSha256, RsaPssSha384, RsaPssSha512, RsaSha256, RsaSha384, RsaSha512,
};

const KEYS: [(&str, KeyShape, SignatureAlgorithm); 15] = [
    ("ed", KeyShape::Ed25519, Ed25519),
    ("ec", KeyShape::P256, EcdsaP256Sha256),
    ("mac", KeyShape::Hmac(HashAlgorithm::Sha256), HmacSha256),
    ("ec-384", KeyShape::P384, EcdsaP384Sha384),
    ("ec-k1", KeyShape::Secp256k1, EcdsaSecp256k1Sha256),
    ("rsa-2048", KeyShape::Rsa(RsaBits::B2048), RsaPssSha256),
    ("rsa-2048-384", KeyShape::Rsa(RsaBits::B2048), RsaPssSha384),
    ("rsa-2048-512", KeyShape::Rsa(RsaBits::B2048), RsaPssSha512),
    ("rsa-3072", KeyShape::Rsa(RsaBits::B3072), RsaSha256),
    ("rsa-3072-384", KeyShape::Rsa(RsaBits::B3072), RsaSha384),
    ("rsa-3072-512", KeyShape::Rsa(RsaBits::B3072), RsaSha512),
    ("rsa-4096", KeyShape::Rsa(RsaBits::B4096), RsaPssSha256),
    ("rsa-4096-v15", KeyShape::Rsa(RsaBits::B4096), RsaSha256),
    ("mac-384", KeyShape::Hmac(HashAlgorithm::Sha384), HmacSha384),
    ("mac-512", KeyShape::Hmac(HashAlgorithm::Sha512), HmacSha512),
];

fn later() -> Instant {
    Instant::now() + Duration::from_secs(60)
}

type Answer = Result<Vec<u8>, SignerError>;

const DIGEST: Digest = Digest::Sha256([7; 32]);

#[test]
fn every_algorithm_conforms_and_outlives_an_outage() {
    in_world("every_algorithm_conforms_and_outlives_an_outage", |world| {
        let backend = world.backend(2);
        for (label, shape, _) in KEYS {
            backend.generate_key(label, shape).unwrap();
        }
        let secret: Vec<u8> = (1..=32).collect();
        with_raw_session(world, |session| {
            session
                .create_object(&[
                    Attribute::Class(ObjectClass::SECRET_KEY),
                    Attribute::KeyType(KeyType::GENERIC_SECRET),
                    Attribute::Token(true),
                    Attribute::Private(true),
                    Attribute::Sign(true),
                    Attribute::Label(b"known".to_vec()),
                    Attribute::Value(secret.clone()),
                ])
                .unwrap();
        });
        let keys = KEYS.into_iter().map(|(label, _, algorithm)| (label.to_owned(), algorithm)).collect();
        let known_mac = Some(KnownMac { label: "known".to_owned(), secret });
        let subject = Subject {
            backend: Arc::new(backend),
            keys,
            known_mac,
            outage: Some(world),
            off_switch: Some(&Signing(world)),
        };
        let report = check(&subject).unwrap();
        assert_eq!(report.algorithms.len(), 13);
        assert!(report.known_mac && report.outage && report.off_switch && report.verified > 100);
    });
}

#[test]
fn generated_keys_cannot_leave_and_are_not_overwritten() {
    in_world("generated_keys_cannot_leave_and_are_not_overwritten", |world| {
        let backend = world.backend(1);
        for (label, shape, _) in
            KEYS.into_iter().take(2).chain([("mac", KeyShape::Hmac(HashAlgorithm::Sha256), HmacSha256)])
        {
            backend.generate_key(label, shape).unwrap();
            let again = backend.generate_key(label, shape);
            assert_eq!(again, Err(ProvisionError::KeyExists(label.to_owned())));
        }
        with_raw_session(world, |session| {
            for class in [ObjectClass::PRIVATE_KEY, ObjectClass::SECRET_KEY] {
                for key in session.find_objects(&[Attribute::Class(class)]).unwrap() {
                    let wanted = [
                        AttributeType::Extractable,
                        AttributeType::NeverExtractable,
                        AttributeType::Sensitive,
                        AttributeType::AlwaysSensitive,
                        AttributeType::Private,
                    ];
                    let found = session.get_attributes(key, &wanted).unwrap();
                    assert_eq!(
                        found,
                        [
                            Attribute::Extractable(false),
                            Attribute::NeverExtractable(true),
                            Attribute::Sensitive(true),
                            Attribute::AlwaysSensitive(true),
                            Attribute::Private(true),
                        ]
                    );
                    assert!(session.get_attributes(key, &[AttributeType::Value]).unwrap().is_empty());
                }
            }
        });
        let taken = init_token(&module_file(), &launch(), TOKEN, "so-pin-8246", PIN);
        assert_eq!(taken, Err(ProvisionError::TokenExists(TOKEN.to_owned())));
    });
}

#[test]
fn a_wrong_pin_names_the_file_never_the_pin_and_is_tried_once() {
    in_world("a_wrong_pin_names_the_file_never_the_pin_and_is_tried_once", |world| {
        let wrong = "99887766";
        write_pin(&world.pin_file(), wrong);
        let error = Pkcs11Backend::open(&world.config(1)).err().unwrap();
        assert_eq!(error.source.code(), "backend-refused");
        let text = format!("{error} {error:?}");
        assert!(text.contains(&world.pin_file().display().to_string()), "{text}");
        assert!(!text.contains(wrong), "{text}");

        std::fs::remove_file(world.pin_file()).unwrap();
        let missing = Pkcs11Backend::open(&world.config(1)).err().unwrap().to_string();
        assert!(missing.contains(&world.pin_file().display().to_string()), "{missing}");
        write_pin(&world.pin_file(), PIN);
        assert!(Pkcs11Backend::open(&world.config(1)).is_ok());
    });
}

#[test]
fn a_pin_changed_under_us_is_an_outage_until_its_file_is_right() {
    in_world("a_pin_changed_under_us_is_an_outage_until_its_file_is_right", |world| {
        let backend = world.backend(1);
        backend.generate_key("ec", KeyShape::P256).unwrap();
        let key = backend.open_key("ec", EcdsaP256Sha256).unwrap();
        let sign = || key.sign(SealInput::Digest(&DIGEST), later());
        let until = |what: &str, done: &dyn Fn(&Answer) -> bool| {
            let limit = later();
            loop {
                let result = sign();
                if done(&result) {
                    return;
                }
                assert!(Instant::now() < limit, "{what}: {result:?}");
                std::thread::sleep(Duration::from_millis(20));
            }
        };
        write_pin(&world.pin_file(), "99887766");
        assert!(sign().is_ok(), "a session that is logged in needs no PIN");
        kill(backend.worker_pid().unwrap()); // everybody is logged out
        let file = world.pin_file().display().to_string();
        let said = |result: &Answer, words: &str| {
            matches!(result, Err(SignerError::Unavailable { cause, .. })
                if cause.contains(words) && cause.contains(&file) && !cause.contains("99887766"))
        };
        until("the token refuses the PIN", &|result| said(result, "correct that file"));
        for _ in 0..5 {
            assert!(said(&sign(), "tried again once the file changes"), "a refused PIN is not tried twice");
        }
        write_pin(&world.pin_file(), PIN);
        until("the right PIN is used", &|result| result.is_ok());
    });
}

#[test]
fn what_is_not_there_is_named() {
    in_world("what_is_not_there_is_named", |world| {
        let config = Pkcs11Config { token: TokenSelector::labelled("elsewhere"), ..world.config(1) };
        let token = Pkcs11Backend::open(&config).err().unwrap().to_string();
        assert!(token.contains("elsewhere"), "{token}");
        let config = Pkcs11Config { module_file: "/nonexistent/driver.so".into(), ..world.config(1) };
        let module = Pkcs11Backend::open(&config).err().unwrap().to_string();
        assert!(module.contains("/nonexistent/driver.so"), "{module}");
        let config = world.config(0);
        assert!(Pkcs11Backend::open(&config).err().unwrap().to_string().contains("sessions"));

        let backend = world.backend(1);
        with_raw_session(world, |session| {
            for _ in 0..2 {
                let template = [
                    Attribute::Class(ObjectClass::SECRET_KEY),
                    Attribute::KeyType(KeyType::GENERIC_SECRET),
                    Attribute::Token(true),
                    Attribute::Sign(true),
                    Attribute::Label(b"twins".to_vec()),
                    Attribute::Value(vec![1; 32]),
                ];
                session.create_object(&template).unwrap();
            }
            let template = [
                Attribute::Class(ObjectClass::SECRET_KEY),
                Attribute::KeyType(KeyType::GENERIC_SECRET),
                Attribute::Token(true),
                Attribute::Sign(false),
                Attribute::Label(b"mute".to_vec()),
                Attribute::Value(vec![1; 32]),
            ];
            session.create_object(&template).unwrap();
        });
        let refused = |label| backend.open_key(label, HmacSha256).err().unwrap();
        assert!(
            matches!(refused("twins"), SignerError::Refused { cause } if cause.contains("more than one"))
        );
        assert!(matches!(refused("mute"), SignerError::Refused { cause } if cause.contains("may not sign")));
        assert!(matches!(refused("absent"), SignerError::KeyMissing { cause } if cause.contains("absent")));
    });
}

#[test]
fn the_probe_tells_a_working_token_from_a_lost_one() {
    in_world("the_probe_tells_a_working_token_from_a_lost_one", |world| {
        use chancery_hsm::conformance::Outage;
        let backend = world.backend(2);
        backend.generate_key("ec", KeyShape::P256).unwrap();
        let key = backend.open_key("ec", EcdsaP256Sha256).unwrap();
        backend.probe(later()).unwrap();
        for round in 0..3 {
            world.lose();
            let lost = backend.probe(later()).unwrap_err();
            assert_eq!(lost.code(), "backend-unavailable", "round {round}: {lost}");
            world.restore();
            let limit = later();
            while let Err(error) = backend.probe(later()) {
                assert!(Instant::now() < limit, "round {round}: {error}");
                std::thread::sleep(Duration::from_millis(20));
            }
            let signature = key.sign(SealInput::Digest(&DIGEST), later()).unwrap();
            assert!(key.public_key().unwrap().verify(&DIGEST, &signature));
        }
    });
}

#[test]
fn a_key_deleted_under_us_is_missing_and_the_others_stay() {
    in_world("a_key_deleted_under_us_is_missing_and_the_others_stay", |world| {
        let backend = world.backend(1);
        backend.generate_key("gone", KeyShape::P256).unwrap();
        backend.generate_key("stays", KeyShape::P256).unwrap();
        let gone = backend.open_key("gone", EcdsaP256Sha256).unwrap();
        let stays = backend.open_key("stays", EcdsaP256Sha256).unwrap();
        gone.sign(SealInput::Digest(&DIGEST), later()).unwrap();
        with_raw_session(world, |session| {
            for object in session.find_objects(&[Attribute::Label(b"gone".to_vec())]).unwrap() {
                session.destroy_object(object).unwrap();
            }
        });
        let error = gone.sign(SealInput::Digest(&DIGEST), later()).unwrap_err();
        assert_eq!((error.code(), error.key_use()), ("key-missing", KeyUse::None), "{error}");
        assert_eq!(backend.probe(later()).unwrap_err().code(), "key-missing");
        let signature = stays.sign(SealInput::Digest(&DIGEST), later()).unwrap();
        assert!(stays.public_key().unwrap().verify(&DIGEST, &signature));
    });
}

#[test]
fn two_tokens_of_one_module_have_two_workers_and_survive_the_end_of_both() {
    in_world("two_tokens_of_one_module_have_two_workers_and_survive_the_end_of_both", |world| {
        init_token(&module_file(), &launch(), "second", "so-pin-8246", PIN).unwrap();
        let first = world.backend(2);
        let second = Pkcs11Backend::open(&Pkcs11Config {
            token: TokenSelector::labelled("second"),
            ..world.config(2)
        });
        let second = second.unwrap();
        let keys = [&first, &second].map(|backend| {
            backend.generate_key("ec", KeyShape::P256).unwrap();
            backend.open_key("ec", EcdsaP256Sha256).unwrap()
        });
        for backend in [&first, &second] {
            kill(backend.worker_pid().unwrap());
        }
        for key in &keys {
            let limit = later();
            let signature = loop {
                match key.sign(SealInput::Digest(&DIGEST), later()) {
                    Ok(signature) => break signature,
                    Err(error) => assert!(Instant::now() < limit, "{error}"),
                }
                std::thread::sleep(Duration::from_millis(20));
            };
            assert!(key.public_key().unwrap().verify(&DIGEST, &signature));
        }
        assert_ne!(keys[0].public_key(), keys[1].public_key());
    });
}
