//! The conformance suite on the software backend, in memory and on disk, inline and on threads; and on
//! devices that break a promise, which it must notice.

#![expect(clippy::unwrap_used, reason = "a failed unwrap is the test's failure")]

mod common;

use std::os::unix::fs::OpenOptionsExt;
use std::sync::Arc;
use std::time::Duration;

use chancery_format::SignatureAlgorithm;
use chancery_hsm::conformance::{KnownMac, Outage, Report, Subject, check};
use chancery_hsm::software::SoftwareBackend;
use chancery_hsm::testing::{Fault, Faults, FaultyDevice, SlowDevice};
use chancery_hsm::{Backend, Cost, KeyShape, RsaBits};

fn all_keys() -> Vec<(String, SignatureAlgorithm)> {
    SignatureAlgorithm::ALL.into_iter().map(|algorithm| (algorithm.as_str().to_owned(), algorithm)).collect()
}

struct Away(Arc<Faults>);

impl Outage for Away {
    fn lose(&self) {
        self.0.set(Fault::AwayBefore);
    }
    fn restore(&self) {
        self.0.set(Fault::None);
    }
}

fn is_complete(report: &Report) -> bool {
    report.algorithms.len() == SignatureAlgorithm::ALL.len() && report.verified > 100
}

#[test]
fn software_keys_in_memory_conform() {
    let subject = Subject {
        backend: common::software(),
        keys: all_keys(),
        known_mac: None,
        outage: None,
        off_switch: None,
    };
    assert!(is_complete(&check(&subject).unwrap()));
}

#[test]
fn software_keys_on_disk_conform_and_their_mac_is_the_known_one() {
    let directory = tempfile::tempdir().unwrap();
    let backend = SoftwareBackend::in_directory(common::NAME, directory.path(), common::allowed()).unwrap();
    for (label, bits) in [("rsa2", RsaBits::B2048), ("rsa3", RsaBits::B3072), ("rsa4", RsaBits::B4096)] {
        backend.generate_key(label, KeyShape::Rsa(bits)).unwrap();
    }
    let secret = vec![0x0B; 32];
    let path = directory.path().join("known.mac");
    let mut file = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path).unwrap();
    std::io::Write::write_all(&mut file, &secret).unwrap();
    let rsa = [("rsa2", SignatureAlgorithm::RsaSha256), ("rsa3", SignatureAlgorithm::RsaPssSha256)];
    let more = [("rsa4", SignatureAlgorithm::RsaSha256), ("known", SignatureAlgorithm::HmacSha256)];
    let keys = rsa.into_iter().chain(more).map(|(label, algorithm)| (label.to_owned(), algorithm)).collect();
    let known_mac = Some(KnownMac { label: "known".to_owned(), secret });
    let subject = Subject { backend: Arc::new(backend), keys, known_mac, outage: None, off_switch: None };
    assert!(check(&subject).unwrap().known_mac);
}

#[test]
fn a_blocking_device_that_goes_away_and_returns_conforms() {
    let device = FaultyDevice::new(common::software(), Cost::Blocking, 3);
    let away = Away(device.faults());
    let subject = Subject {
        backend: Arc::new(device),
        keys: all_keys(),
        known_mac: None,
        outage: Some(&away),
        off_switch: None,
    };
    let report = check(&subject).unwrap();
    assert!(is_complete(&report) && report.outage);
}

#[test]
fn a_slow_device_conforms() {
    let device = SlowDevice::new(common::software(), 4, Duration::from_millis(2));
    let subject = Subject {
        backend: Arc::new(device),
        keys: all_keys(),
        known_mac: None,
        outage: None,
        off_switch: None,
    };
    assert!(is_complete(&check(&subject).unwrap()));
}

#[test]
fn broken_promises_are_found() {
    let rule = |fault, algorithm: SignatureAlgorithm| {
        let device = FaultyDevice::new(common::software(), Cost::Inline, 1);
        device.faults().set(fault);
        let backend: Arc<dyn Backend> = Arc::new(device);
        let keys = vec![(algorithm.as_str().to_owned(), algorithm)];
        check(&Subject { backend, keys, known_mac: None, outage: None, off_switch: None }).unwrap_err().rule
    };
    for algorithm in SignatureAlgorithm::ALL {
        let expected = if algorithm.is_mac() {
            "a MAC depends on its message"
        } else {
            "signatures verify independently"
        };
        assert_eq!(rule(Fault::WrongMessage, algorithm), expected);
        assert_eq!(rule(Fault::AwayBefore, algorithm), "a working key signs");
        assert_eq!(rule(Fault::Empty, algorithm), "signatures verify independently");
    }
}

#[test]
fn a_mac_with_another_secret_is_found() {
    let known_mac = Some(KnownMac { label: "hmac-sha256".to_owned(), secret: vec![1; 32] });
    let subject =
        Subject { backend: common::software(), keys: all_keys(), known_mac, outage: None, off_switch: None };
    assert_eq!(check(&subject).unwrap_err().rule, "a MAC is RFC 2104's");
}
