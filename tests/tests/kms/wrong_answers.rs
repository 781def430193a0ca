//! Signers that sign the wrong thing, or with the wrong key.

use std::collections::BTreeSet;

use chancery_format::SignatureAlgorithm::{
    self, EcdsaP256Sha256, EcdsaP384Sha384, HmacSha256, RsaPssSha256, RsaSha256,
};
use chancery_format::entry::KeyUse;
use chancery_hsm::{Backend as _, BackendState, KeySpec, Keyring, KeyringError, Registered, SealInput};
use chancery_tests::rig::KmsAccount;
use chancery_tests::servers::wrong_signer;

use crate::double::KmsDouble;
use crate::rig::{backend_at, backend_of, digest_for, ending, intent, later, spec};

/// moto hashes a digest again before it signs. Its bytes are signatures by the right key, of the wrong thing.
#[test]
fn moto_is_never_believed() {
    let server = wrong_signer().unwrap_or_else(|error| panic!("{error}"));
    let rig = KmsAccount::at(server.address());
    let algorithms = [EcdsaP256Sha256, EcdsaP384Sha384, RsaSha256, RsaPssSha256];
    let mut builder = Keyring::builder().backend(backend_of(&rig));
    for algorithm in algorithms {
        builder = builder.key(spec(algorithm.as_str(), &rig.make_key(algorithm), algorithm));
    }
    let ring = builder.build().unwrap();
    for algorithm in algorithms {
        for number in 0..8 {
            let digest = digest_for(algorithm, number);
            let outcome = rig.wait(ring.seal(intent(algorithm.as_str(), algorithm, digest), None, later()));
            let bad = Err(("bad-signature".to_owned(), KeyUse::Unknown));
            assert_eq!(ending(&outcome), bad, "{algorithm}");
            assert!(!outcome.draft().payload.as_str().contains("\"signature\""), "nothing was handed out");
        }
    }
    let health = &ring.health()[0];
    assert_eq!(
        (health.state, health.last_error.map(|(code, _)| code)),
        (BackendState::Up, Some("bad-signature"))
    );
    assert_eq!(health.failed, 32);
}

#[test]
fn a_key_other_than_the_registered_one_ends_the_start() {
    let double = KmsDouble::start();
    let (registered, held) = (double.make_key(EcdsaP256Sha256), double.make_key(EcdsaP256Sha256));
    let backend = backend_at(double.address());
    let public = |label: &str| {
        let handle = backend.open_key(label, EcdsaP256Sha256).unwrap();
        Registered::Yes(handle.public_key().cloned().map(Box::new))
    };
    let with = |label: &str| {
        let spec = KeySpec { registered: public(&registered), ..spec("orders", label, EcdsaP256Sha256) };
        Keyring::builder().backend(backend_at(double.address())).key(spec).build()
    };
    assert!(with(&registered).is_ok());
    let refused = with(&held).err().unwrap();
    assert!(matches!(refused.0[..], [KeyringError::PublicKeyMismatch { .. }]), "{refused}");
    assert!(double.signed_digests().is_empty(), "no key was used to find out");
}

#[test]
fn an_answer_made_with_another_key_is_no_mac() {
    let double = KmsDouble::start();
    let (first, second) = (double.make_key(HmacSha256), double.make_key(HmacSha256));
    let mac = backend_at(double.address()).open_key(&first, HmacSha256).unwrap();
    // The service mixes its keys up.
    double.set_alias(&first, &second);
    let result = mac.sign(SealInput::Message(b"m"), later());
    assert_eq!(result.map_err(|error| error.code()), Err("bad-signature"));
}

/// What imitations got wrong before: each asked for as AWS documents it, with the digest's own length.
#[test]
fn each_algorithm_is_asked_for_in_its_one_way() {
    let double = KmsDouble::start();
    let backend = backend_at(double.address());
    for algorithm in SignatureAlgorithm::ALL {
        let key = backend.open_key(&double.make_key(algorithm), algorithm).unwrap();
        let digest = digest_for(algorithm, 9);
        // The double refuses RAW where AWS wants DIGEST, the reverse, and digests of another length.
        let signature = key.sign(SealInput::Digest(&digest), later()).unwrap();
        if let Some(public) = key.public_key() {
            // Which for PSS holds only with a salt as long as the digest.
            let signature = chancery_format::public_key::lower_s_secp256k1(&signature)
                .filter(|_| algorithm == SignatureAlgorithm::EcdsaSecp256k1Sha256)
                .unwrap_or(signature);
            assert!(public.verify(&digest, &signature), "{algorithm}");
        }
    }
    let asked: BTreeSet<_> =
        double.signed_digests().into_iter().map(|request| (request.algorithm, request.bytes)).collect();
    let prehashed = SignatureAlgorithm::ALL.into_iter().filter_map(|one| Some((one, one.digest()?.bytes())));
    assert_eq!(asked, prehashed.collect());
}
