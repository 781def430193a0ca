//! Keys that are there and do not sign, keys by other names, keys of other kinds.

use std::time::{Duration, Instant};

use aws_sdk_kms::types::{KeySpec as TheirSpec, KeyUsageType, OriginType};
use chancery_format::SignatureAlgorithm::{EcdsaP256Sha256, HmacSha256, RsaPssSha256, RsaSha256};
use chancery_format::entry::KeyUse;
use chancery_hsm::{Backend as _, BackendState, Keyring, Origin, SealInput, SignerError};
use chancery_tests::rig::KmsAccount;
use chancery_tests::servers::{Fault, FaultProxy, ObjectStore};

use crate::rig::{backend_at, backend_of, digest_for, ending, intent, later, spec, told};

fn code<T>(result: Result<T, SignerError>) -> Option<&'static str> {
    result.err().map(|error| error.code())
}

#[test]
fn a_key_disabled_under_us_says_so_within_a_second_and_signs_again_when_enabled() {
    let rig = KmsAccount::new(ObjectStore::MiniStack);
    let (off, on) = (rig.make_key(EcdsaP256Sha256), rig.make_key(EcdsaP256Sha256));
    let ring = Keyring::builder()
        .backend(backend_of(&rig))
        .key(spec("off", &off, EcdsaP256Sha256))
        .key(spec("on", &on, EcdsaP256Sha256))
        .build()
        .unwrap();
    let seal = |kid: &str| {
        let digest = digest_for(EcdsaP256Sha256, 1);
        ending(&rig.wait(ring.seal(intent(kid, EcdsaP256Sha256, digest), None, later())))
    };
    assert_eq!((seal("off"), seal("on")), (Ok(()), Ok(())));
    rig.disable(&off);
    for _ in 0..3 {
        let before = Instant::now();
        assert_eq!(seal("off"), Err(("key-disabled".to_owned(), KeyUse::None)));
        assert!(before.elapsed() < Duration::from_secs(1), "{:?}", before.elapsed());
        assert_eq!(seal("on"), Ok(()), "the other key is none the worse");
        assert_eq!(ring.health()[0].state, BackendState::Up);
    }
    assert_eq!(ring.health()[0].last_error.map(|(code, _)| code), Some("key-disabled"));
    rig.enable(&off);
    assert_eq!(seal("off"), Ok(()));
}

#[test]
fn a_mac_key_switched_off_is_told_at_opening_and_at_use() {
    let rig = KmsAccount::new(ObjectStore::MiniStack);
    let key = rig.make_key(HmacSha256);
    let backend = backend_of(&rig);
    let opened = backend.open_key(&key, HmacSha256).unwrap();
    rig.disable(&key);
    assert_eq!(told(opened.sign(SealInput::Message(b"m"), later())), Err(("key-disabled", KeyUse::None)));
    assert_eq!(code(backend.open_key(&key, HmacSha256)), Some("key-disabled"));
    rig.enable(&key);
    assert_eq!(told(opened.sign(SealInput::Message(b"m"), later())), Ok(32));
}

/// A MAC is computed twice and compared. What the first time used, the second cannot take back.
#[test]
fn a_mac_key_switched_off_between_its_two_computations_leaves_its_use_in_doubt() {
    let rig = KmsAccount::new(ObjectStore::MiniStack);
    let label = rig.make_key(HmacSha256);
    let proxy = FaultProxy::start(rig.address).unwrap();
    let ring = Keyring::builder().backend(backend_at(proxy.address())).key(spec("mac", &label, HmacSha256));
    let ring = ring.build().unwrap();
    let mut macs = 0;
    proxy.rule(move |head| {
        macs += usize::from(head.header("x-amz-target") == Some("TrentService.GenerateMac"));
        if macs == 2 { Fault::ReplyJson(400, "DisabledException") } else { Fault::Pass }
    });
    let seal = || {
        let digest = digest_for(HmacSha256, 1);
        ending(&rig.wait(ring.seal(intent("mac", HmacSha256, digest), None, later())))
    };
    assert_eq!(seal(), Err(("backend-unavailable".to_owned(), KeyUse::Unknown)));
    assert_eq!(ring.health()[0].state, BackendState::Up);
    assert_eq!(seal(), Ok(()));
}

#[test]
fn a_key_about_to_be_deleted_is_disabled_until_that_is_called_off() {
    for server in [ObjectStore::MiniStack, ObjectStore::LocalStack] {
        let rig = KmsAccount::new(server);
        let key = rig.make_key(EcdsaP256Sha256);
        let opened = backend_of(&rig).open_key(&key, EcdsaP256Sha256).unwrap();
        let digest = digest_for(EcdsaP256Sha256, 1);
        let sign = || told(opened.sign(SealInput::Digest(&digest), later())).map(|_| ());
        rig.wait(rig.raw.schedule_key_deletion().key_id(&key).pending_window_in_days(7).send()).unwrap();
        assert_eq!(sign(), Err(("key-disabled", KeyUse::None)), "{server:?}");
        rig.wait(rig.raw.cancel_key_deletion().key_id(&key).send()).unwrap();
        rig.enable(&key);
        assert_eq!(sign(), Ok(()), "{server:?}");
    }
}

#[test]
fn a_key_opens_by_every_name_it_has() {
    let rig = KmsAccount::new(ObjectStore::MiniStack);
    let arn = rig.make_key(EcdsaP256Sha256);
    let alias = "alias/every-name";
    rig.wait(rig.raw.create_alias().alias_name(alias).target_key_id(&arn).send()).unwrap();
    let alias_arn = format!("{}:{alias}", arn.rsplit_once(':').unwrap().0);
    let id = arn.rsplit('/').next().unwrap();
    let backend = backend_of(&rig);
    let digest = digest_for(EcdsaP256Sha256, 1);
    for label in [arn.as_str(), id, alias, alias_arn.as_str()] {
        let key = backend.open_key(label, EcdsaP256Sha256).unwrap_or_else(|error| panic!("{label}: {error}"));
        let signature = key.sign(SealInput::Digest(&digest), later()).unwrap();
        assert!(key.public_key().unwrap().verify(&digest, &signature), "{label}");
    }
    for label in ["alias/nobody", "00000000-0000-4000-8000-000000000000"] {
        let missing = backend.open_key(label, EcdsaP256Sha256).err().unwrap();
        assert!(matches!(&missing, SignerError::KeyMissing { cause } if cause.contains(label)), "{missing}");
    }
    for label in [String::new(), "x".repeat(2049)] {
        assert_eq!(code(backend.open_key(&label, EcdsaP256Sha256)), Some("backend-refused"));
    }
}

#[test]
fn a_key_of_another_kind_or_use_does_not_open() {
    let rig = KmsAccount::new(ObjectStore::MiniStack);
    let encrypts = rig.make(TheirSpec::Rsa2048, KeyUsageType::EncryptDecrypt);
    let symmetric = rig.make(TheirSpec::SymmetricDefault, KeyUsageType::EncryptDecrypt);
    let backend = backend_of(&rig);
    for (label, algorithm) in [
        (&encrypts, RsaSha256),
        (&encrypts, RsaPssSha256),
        (&encrypts, HmacSha256),
        (&symmetric, HmacSha256),
        (&symmetric, RsaSha256),
    ] {
        assert_eq!(code(backend.open_key(label, algorithm)), Some("backend-refused"), "{algorithm}");
    }
}

#[test]
fn where_a_key_comes_from_is_told_if_kms_knows() {
    let rig = KmsAccount::new(ObjectStore::MiniStack);
    let backend = backend_of(&rig);
    let made = rig.make_key(EcdsaP256Sha256);
    let birth = backend.birth(&made, EcdsaP256Sha256).unwrap();
    assert_eq!((birth.origin, birth.serial), (Origin::Generated, Some(made)));
    assert_eq!((birth.device.as_deref(), birth.attestation.len()), (Some("aws-kms"), 0));
    let import = rig.raw.create_key().key_spec(TheirSpec::Hmac256).key_usage(KeyUsageType::GenerateVerifyMac);
    let import = rig.wait(import.origin(OriginType::External).send()).unwrap();
    let import = import.key_metadata.unwrap().arn.unwrap();
    assert_eq!(backend.birth(&import, HmacSha256).unwrap().origin, Origin::Imported);
    assert_eq!(
        code(backend.open_key(&import, HmacSha256)),
        Some("key-disabled"),
        "its material is not there yet"
    );
    assert_eq!(code(backend.birth("alias/nobody", HmacSha256)), Some("key-missing"));
}

#[test]
fn what_kms_would_not_take_is_refused_without_asking() {
    let rig = KmsAccount::new(ObjectStore::MiniStack);
    let label = rig.make_key(HmacSha256);
    let proxy = FaultProxy::start(rig.address).unwrap();
    let key = backend_at(proxy.address()).open_key(&label, HmacSha256).unwrap();
    assert_eq!(told(key.sign(SealInput::Message(&[7; 4096]), later())), Ok(32));
    let asked = proxy.requests();
    for message in [vec![7; 4097], Vec::new()] {
        let refused = key.sign(SealInput::Message(&message), later());
        assert_eq!(told(refused), Err(("algorithm-mismatch", KeyUse::None)));
    }
    assert_eq!(proxy.requests(), asked);
}

#[test]
fn the_probe_tells_a_service_that_answers_from_one_that_is_away() {
    let rig = KmsAccount::new(ObjectStore::MiniStack);
    let mut proxy = FaultProxy::start(rig.address).unwrap();
    let backend = backend_at(proxy.address());
    backend.probe(later()).unwrap(); // no key is open; that nobody's key is missing is an answer
    let key = rig.make_key(EcdsaP256Sha256);
    backend.open_key(&key, EcdsaP256Sha256).unwrap();
    backend.probe(later()).unwrap();
    rig.disable(&key);
    backend.probe(later()).unwrap();
    proxy.all(Fault::ReplyJson(400, "UnrecognizedClientException"));
    assert_eq!(code(backend.probe(later())), Some("backend-refused"));
    let soon = || Instant::now() + Duration::from_millis(500);
    proxy.all(Fault::Hang);
    assert_eq!(code(backend.probe(soon())), Some("backend-unavailable"));
    proxy.all(Fault::Pass);
    proxy.refuse_connections();
    assert_eq!(code(backend.probe(soon())), Some("backend-unavailable"));
    proxy.listen().unwrap();
    backend.probe(later()).unwrap();
}
