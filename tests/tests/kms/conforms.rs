//! The suite every backend passes, on each service with every algorithm it has.

use std::collections::BTreeSet;
use std::sync::Arc;

use chancery_format::SignatureAlgorithm::{self, Ed25519, Ed25519ph, MlDsa44, MlDsa65};
use chancery_hsm::conformance::{KnownMac, Report, Subject, check};
use chancery_tests::rig::KmsAccount;
use chancery_tests::servers::ObjectStore;

use crate::double::KmsDouble;
use crate::rig::{backend_at, backend_of};

/// All but these, one key each.
fn conforms(server: ObjectStore, lacking: &[SignatureAlgorithm]) {
    let rig = KmsAccount::new(server);
    let has = || SignatureAlgorithm::ALL.into_iter().filter(|algorithm| !lacking.contains(algorithm));
    let keys: Vec<_> = has().map(|algorithm| (rig.make_key(algorithm), algorithm)).collect();
    let subject =
        Subject { backend: backend_of(&rig), keys, known_mac: None, outage: None, off_switch: Some(&rig) };
    let report = check(&subject).unwrap_or_else(|finding| panic!("{finding}"));
    assert!(report.off_switch);
    passed(&report, has().collect());
}

fn passed(report: &Report, algorithms: BTreeSet<SignatureAlgorithm>) {
    assert!(report.verified >= algorithms.len() * 20, "{report:?}");
    assert_eq!(report.algorithms, algorithms);
}

#[test]
fn on_ministack() {
    conforms(ObjectStore::MiniStack, &[Ed25519ph, MlDsa44, MlDsa65]);
}

#[test]
fn on_localstack() {
    conforms(ObjectStore::LocalStack, &[Ed25519, Ed25519ph, MlDsa44, MlDsa65]);
}

#[test]
fn on_the_double_with_every_algorithm_and_a_known_mac() {
    let double = KmsDouble::start();
    let keys = SignatureAlgorithm::ALL.map(|algorithm| (double.make_key(algorithm), algorithm)).to_vec();
    let secret = vec![0xA5; 32];
    let known = KnownMac { label: double.put_mac_key(&secret), secret };
    let backend = backend_at(double.address());
    let subject = Subject {
        backend: Arc::clone(&backend) as _,
        keys,
        known_mac: Some(known),
        outage: None,
        off_switch: None,
    };
    let report = check(&subject).unwrap_or_else(|finding| panic!("{finding}"));
    passed(&report, SignatureAlgorithm::ALL.into());
    assert!(report.known_mac);
    // Whatever was asked with a digest carried one of the right length.
    for request in double.signed_digests() {
        assert_eq!(request.bytes, request.algorithm.digest().unwrap().bytes(), "{}", request.algorithm);
    }
}
