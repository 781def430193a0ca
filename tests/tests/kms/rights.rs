//! What a role with few rights can do, and which calls are made at all.

use chancery_format::SignatureAlgorithm::{EcdsaP256Sha256, HmacSha256, HmacSha512};
use chancery_format::entry::KeyUse;
use chancery_hsm::{Backend as _, Birth, Origin, SealInput, SignerError};

use crate::double::KmsDouble;
use crate::rig::{backend_at, digest_for, later, told};

#[test]
fn the_least_role_signs_and_computes_macs() {
    let double = KmsDouble::start();
    let (signs, macs) = (double.make_key(EcdsaP256Sha256), double.make_key(HmacSha256));
    double.deny("DescribeKey");
    let backend = backend_at(double.address());
    backend.probe(later()).unwrap();
    let (key, mac) =
        (backend.open_key(&signs, EcdsaP256Sha256).unwrap(), backend.open_key(&macs, HmacSha256).unwrap());
    assert_eq!(double.signed_digests().len(), 0, "opening and probing use no key");
    assert!(!double.operations().contains(&"GenerateMac".to_owned()));
    let digest = digest_for(EcdsaP256Sha256, 1);
    assert!(
        key.public_key().unwrap().verify(&digest, &key.sign(SealInput::Digest(&digest), later()).unwrap())
    );
    assert_eq!(told(mac.sign(SealInput::Message(b"m"), later())), Ok(32));
    backend.probe(later()).unwrap();

    let known = Birth { device: Some("aws-kms".to_owned()), serial: Some(signs.clone()), ..Birth::default() };
    assert_eq!(backend.birth(&signs, EcdsaP256Sha256), Ok(known));
    // The kinds it can still tell apart, and the one that shows at its first use.
    assert_eq!(backend.open_key(&signs, HmacSha256).err().map(|error| error.code()), Some("backend-refused"));
    assert_eq!(
        backend.open_key(&macs, EcdsaP256Sha256).err().map(|error| error.code()),
        Some("backend-refused")
    );
    assert_eq!(backend.open_key("nobody", HmacSha256).err().map(|error| error.code()), Some("key-missing"));
    let wrong = backend.open_key(&macs, HmacSha512).unwrap();
    assert_eq!(told(wrong.sign(SealInput::Message(b"m"), later())), Err(("backend-refused", KeyUse::None)));
    let used: std::collections::BTreeSet<_> = double.operations().into_iter().collect();
    assert_eq!(used.into_iter().collect::<Vec<_>>(), ["DescribeKey", "GenerateMac", "GetPublicKey", "Sign"]);
}

#[test]
fn a_role_that_may_describe_keys_learns_their_kind_and_birth() {
    let double = KmsDouble::start();
    let macs = double.make_key(HmacSha256);
    let backend = backend_at(double.address());
    assert_eq!(backend.open_key(&macs, HmacSha512).err().map(|error| error.code()), Some("backend-refused"));
    let birth = backend.birth(&macs, HmacSha256).unwrap();
    assert_eq!((birth.origin, birth.serial), (Origin::Generated, Some(macs)));
}

#[test]
fn a_role_that_may_not_sign_is_refused_by_name() {
    let double = KmsDouble::start();
    let signs = double.make_key(EcdsaP256Sha256);
    let key = backend_at(double.address()).open_key(&signs, EcdsaP256Sha256).unwrap();
    double.deny("Sign");
    let digest = digest_for(EcdsaP256Sha256, 1);
    let refused = key.sign(SealInput::Digest(&digest), later());
    assert!(
        matches!(&refused, Err(SignerError::Refused { cause }) if cause.contains(&signs) && cause.contains("kms:Sign")),
        "{refused:?}"
    );
}

#[test]
fn an_alias_moved_under_us_does_not_change_the_key() {
    let double = KmsDouble::start();
    let (first, second) = (double.make_key(EcdsaP256Sha256), double.make_key(EcdsaP256Sha256));
    double.set_alias("alias/orders", &first);
    let backend = backend_at(double.address());
    let key = backend.open_key("alias/orders", EcdsaP256Sha256).unwrap();
    double.set_alias("alias/orders", &second);
    let digest = digest_for(EcdsaP256Sha256, 1);
    assert!(
        key.public_key().unwrap().verify(&digest, &key.sign(SealInput::Digest(&digest), later()).unwrap())
    );
}

#[test]
fn a_mac_key_is_the_one_of_its_first_use_even_where_nothing_may_be_described() {
    let double = KmsDouble::start();
    let (first, second) = (double.make_key(HmacSha256), double.make_key(HmacSha256));
    double.deny("DescribeKey");
    double.set_alias("alias/mac", &first);
    let backend = backend_at(double.address());
    let mac = backend.open_key("alias/mac", HmacSha256).unwrap();
    let before = mac.sign(SealInput::Message(b"m"), later()).unwrap();
    double.set_alias("alias/mac", &second);
    assert_eq!(mac.sign(SealInput::Message(b"m"), later()).unwrap(), before);
}
