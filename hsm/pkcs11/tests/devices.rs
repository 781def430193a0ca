//! The backend on devices that are not files: a token in another process that can be killed, and a TPM.
//! SoftHSM2 itself is in `softhsm.rs`; here it is what stands behind p11-kit.

#![expect(clippy::unwrap_used, reason = "a failed unwrap is the test's failure")]

mod rig;
mod world;

use std::sync::Arc;
use std::time::{Duration, Instant};

use chancery_format::public_key::lower_s_secp256k1;
use chancery_format::{Digest, HashAlgorithm, SignatureAlgorithm};
use chancery_hsm::conformance::{OffSwitch, Subject, check};
use chancery_hsm::{Backend, KeyShape, RsaBits, SealInput};
use chancery_pkcs11::{Pkcs11Backend, quirks};
use rig::{P11Kit, Tpm};
use world::{Signing, in_world, module_file};

use SignatureAlgorithm::{EcdsaP256Sha256, EcdsaP384Sha384, HmacSha256, RsaPssSha256, RsaSha256};

fn digest(algorithm: SignatureAlgorithm) -> Digest {
    match algorithm.digest() {
        Some(HashAlgorithm::Sha384) => Digest::Sha384([3; 48]),
        Some(HashAlgorithm::Sha512) => Digest::Sha512([3; 64]),
        _ => Digest::Sha256([3; 32]),
    }
}

/// Whether a key of this label makes a signature that verifies.
fn signs(backend: &Pkcs11Backend, label: &str, algorithm: SignatureAlgorithm) -> Result<(), String> {
    let key = backend.open_key(label, algorithm).map_err(|error| error.to_string())?;
    let asked = digest(algorithm);
    let deadline = Instant::now() + Duration::from_secs(60);
    let signature = key.sign(SealInput::Digest(&asked), deadline).map_err(|error| error.to_string())?;
    let low = lower_s_secp256k1(&signature).filter(|_| algorithm == SignatureAlgorithm::EcdsaSecp256k1Sha256);
    match key.public_key() {
        Some(public) => {
            public.verify(&asked, &low.unwrap_or(signature)).then_some(()).ok_or("bad".to_owned())
        }
        None => Ok(()),
    }
}

/// Tries every algorithm, prints what the module can do, and compares it with its column of MODULES.md; or
/// writes the column, if `CHANCERY_WRITE_DOCS` is set (then with `--test-threads=1`).
fn compare(column: usize, can: impl Fn(SignatureAlgorithm) -> Result<(), String>) {
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/MODULES.md");
    let kept = std::fs::read_to_string(file).unwrap();
    let mut written = kept.clone();
    for algorithm in SignatureAlgorithm::ALL {
        let start = format!("| {} |", algorithm.as_str());
        let row = kept.lines().find(|line| line.starts_with(&start)).unwrap();
        let result = can(algorithm);
        println!("{start} {result:?}");
        let mut cells: Vec<&str> = row.split('|').collect();
        *cells.get_mut(2 + column).unwrap() = if result.is_ok() { " yes " } else { " no " };
        written = written.replace(row, &cells.join("|"));
    }
    if std::env::var_os("CHANCERY_WRITE_DOCS").is_some() {
        std::fs::write(file, &written).unwrap();
    }
    assert!(
        std::fs::read_to_string(file).unwrap() == written,
        "column {column} of MODULES.md is:\n{written}"
    );
}

/// A key of the shape an algorithm takes, small where there is a choice.
fn shape(algorithm: SignatureAlgorithm) -> KeyShape {
    match KeyShape::recommended(algorithm) {
        KeyShape::Rsa(_) => KeyShape::Rsa(RsaBits::B2048),
        shape => shape,
    }
}

#[test]
fn softhsm_can_do_what_the_table_says() {
    in_world("softhsm_can_do_what_the_table_says", |world| {
        let backend = world.backend(1);
        compare(0, |algorithm| {
            let label = algorithm.as_str();
            backend.generate_key(label, shape(algorithm)).map_err(|error| error.to_string())?;
            signs(&backend, label, algorithm)
        });
        let quirks = quirks::of_module(&module_file()).unwrap();
        assert_eq!((quirks.name, quirks.without), ("SoftHSM2", &[][..]));
    });
}

#[test]
fn a_token_behind_p11_kit_conforms_and_outlives_its_server() {
    in_world("a_token_behind_p11_kit_conforms_and_outlives_its_server", |world| {
        let direct = world.backend(1);
        for algorithm in SignatureAlgorithm::ALL {
            let _ = direct.generate_key(algorithm.as_str(), shape(algorithm));
        }
        drop(direct);
        let server = P11Kit::start(world);
        let backend = Arc::new(Pkcs11Backend::open(&server.config(2)).unwrap());
        compare(1, |algorithm| signs(&backend, algorithm.as_str(), algorithm));
        let quirks = quirks::of_module(&server.config(1).module_file).unwrap();
        for algorithm in quirks.without {
            assert!(signs(&backend, algorithm.as_str(), *algorithm).is_err(), "{algorithm}");
        }
        let keys = [EcdsaP256Sha256, EcdsaP384Sha384, RsaPssSha256, RsaSha256, HmacSha256];
        let keys = keys.map(|algorithm| (algorithm.as_str().to_owned(), algorithm)).to_vec();
        let off_switch: Option<&dyn OffSwitch> = Some(&Signing(world));
        let subject = Subject { backend, keys, known_mac: None, outage: Some(&server), off_switch };
        let report = check(&subject).unwrap();
        assert!(report.outage && report.off_switch && report.algorithms.len() == 5);
    });
}

#[test]
fn a_tpm_conforms_and_outlives_its_resource_manager() {
    let tpm = Tpm::start();
    // PKCS#11 cannot make these there, and the module looks at its store once.
    let macs = SignatureAlgorithm::ALL.into_iter().filter(|algorithm| algorithm.is_mac());
    let macs: Vec<_> =
        macs.map(|it| (it, tpm.add_key(it.as_str(), &format!("hmac:{}", hash_name(it))))).collect();
    let backend = Arc::new(Pkcs11Backend::open(&tpm.config(2)).unwrap());
    compare(2, |algorithm| {
        match macs.iter().find(|(mac, _)| *mac == algorithm) {
            Some((_, made)) => made.clone()?,
            None => backend
                .generate_key(algorithm.as_str(), shape(algorithm))
                .map_err(|error| error.to_string())?,
        }
        signs(&backend, algorithm.as_str(), algorithm)
    });
    let quirks = quirks::of_module(&tpm.config(1).module_file).unwrap();
    for algorithm in quirks.without {
        assert!(signs(&backend, algorithm.as_str(), *algorithm).is_err(), "{algorithm}");
    }
    let keys = [EcdsaP256Sha256, RsaPssSha256, RsaSha256];
    let keys = keys.map(|algorithm| (algorithm.as_str().to_owned(), algorithm)).to_vec();
    let subject = Subject { backend, keys, known_mac: None, outage: Some(&tpm), off_switch: None };
    let report = check(&subject).unwrap();
    assert!(report.outage && report.algorithms.len() == 3);
}

fn hash_name(algorithm: SignatureAlgorithm) -> &'static str {
    match algorithm.hash().unwrap() {
        HashAlgorithm::Sha256 => "sha256",
        HashAlgorithm::Sha384 => "sha384",
        HashAlgorithm::Sha512 => "sha512",
    }
}
