//! The same promises on a real YubiHSM 2:
//!
//! ```text
//! CHANCERY_YUBIHSM=http://127.0.0.1:12345 CHANCERY_YUBIHSM_PASSWORD_FILE=/path/to/password \
//!     cargo test --workspace --test yubihsm_hardware -- --nocapture
//! ```
//!
//! For a device kept for tests: it gets a dozen keys whose labels begin with `chancery-test-`, which stay and
//! are used again by the next run, and its log is consumed. Its authentication key must be able to generate
//! keys, sign, read the log, attest and read opaque objects; the device must log signing (as delivered, or
//! `command-audit`), and forced auditing must be off. Optional: `CHANCERY_YUBIHSM_AUTH_KEY` (decimal object
//! id, 1 unless given), `CHANCERY_YUBIHSM_ROOTS` (PEM file of the vendor's certificates), and
//! `CHANCERY_YUBIHSM=usb` in a build with `--features chancery-yubihsm/usb`.
//!
//! Without the variable it says so and runs on the double: it can fail, and nothing is skipped.

#![expect(clippy::unwrap_used, reason = "a failed unwrap is the test's failure")]

mod world;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use chancery_format::SignatureAlgorithm::EcdsaP256Sha256;
use chancery_hsm::conformance::{Subject, check};
use chancery_hsm::{Backend, Origin};
use chancery_yubihsm::{ProvisionError, YubiHsmBackend, YubiHsmConfig};
use world::{KEYS, World, drain, log_of, sign};

/// Signatures that must be in the log; fewer than it has room for.
const SIGNATURES: usize = 20;

/// A device needs minutes for an RSA key.
const TIMEOUT: Duration = Duration::from_secs(600);

#[test]
fn a_device_keeps_the_promises() {
    match std::env::var("CHANCERY_YUBIHSM") {
        Ok(connector) => keeps_the_promises(&configured(&connector)),
        Err(_) => {
            println!("CHANCERY_YUBIHSM is not set: no device; running on the double instead");
            let world = World::new();
            keeps_the_promises(&world.config);
        }
    }
}

fn configured(connector: &str) -> YubiHsmConfig {
    let password_file = std::env::var("CHANCERY_YUBIHSM_PASSWORD_FILE").map(PathBuf::from);
    let password_file = password_file.expect("CHANCERY_YUBIHSM_PASSWORD_FILE names the password's file");
    let auth_key = std::env::var("CHANCERY_YUBIHSM_AUTH_KEY").map_or(1, |id| id.parse().unwrap());
    YubiHsmConfig {
        timeout: TIMEOUT,
        attestation_roots: std::env::var("CHANCERY_YUBIHSM_ROOTS").ok().map(PathBuf::from),
        ..YubiHsmConfig::new("hardware", connector.parse().unwrap(), auth_key, password_file)
    }
}

fn keeps_the_promises(config: &YubiHsmConfig) {
    let backend = YubiHsmBackend::open(config).unwrap();
    println!("YubiHSM 2 {}, firmware {}", backend.serial(), backend.firmware());
    let mut keys = Vec::new();
    for (name, shape, algorithms) in KEYS {
        let label = format!("chancery-test-{name}");
        match backend.generate_key(&label, shape) {
            Ok(_) | Err(ProvisionError::KeyExists(_)) => {}
            Err(error) => panic!("{label}: {error}"),
        }
        keys.extend(algorithms.iter().map(|algorithm| (label.clone(), *algorithm)));
    }
    let algorithms = backend.algorithms().len();
    let backend = Arc::new(backend);
    let subject =
        Subject { backend: Arc::clone(&backend) as _, keys, known_mac: None, outage: None, off_switch: None };
    assert_eq!(check(&subject).unwrap().algorithms.len(), algorithms);

    let birth = backend.birth("chancery-test-p256", EcdsaP256Sha256).unwrap();
    assert_eq!((birth.origin, birth.serial.as_deref()), (Origin::Generated, Some(backend.serial())));
    assert_eq!(birth.attestation_anchored, config.attestation_roots.is_some());
    assert!(birth.attestation.len() >= 2, "the device attests nothing to this authentication key");

    // Somebody may have to read the log first: the suite above has overwritten it more than once.
    let log = log_of(&backend);
    drain(&log);
    let key = backend.open_key("chancery-test-p256", EcdsaP256Sha256).unwrap();
    for _ in 0..SIGNATURES {
        sign(&key).unwrap();
    }
    let uses = drain(&log).into_iter().filter(|operation| operation.uses_key);
    let ours = uses.filter(|operation| operation.label.as_deref() == Some("chancery-test-p256"));
    assert_eq!(ours.filter(|operation| operation.succeeded).count(), SIGNATURES, "is signing logged?");
}
