//! What devices do when nobody stands before them: their rates without the daemon.

use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use aws_sdk_kms::primitives::Blob;
use aws_sdk_kms::types::{MessageType, SigningAlgorithmSpec};
use chancery_format::{Digest, SignatureAlgorithm};
use chancery_hsm::{Backend as _, SealInput};
use chancery_tests::rig::{KmsAccount, World};
use chancery_yubihsm::testing::{AUTH_KEY_ID, YubiHsmDouble};
use chancery_yubihsm::{Connector, YubiHsmBackend, YubiHsmConfig};
use cryptoki::context::{CInitializeArgs, CInitializeFlags, Pkcs11};
use cryptoki::mechanism::Mechanism;
use cryptoki::mechanism::eddsa::{EddsaParams, EddsaSignatureScheme};
use cryptoki::object::{Attribute, ObjectClass};
use cryptoki::session::UserType;
use cryptoki::types::AuthPin;

/// Patience with one signature.
const PATIENCE: Duration = Duration::from_secs(10);

/// `work` on so many threads until the time is over; times per second.
fn rate(threads: usize, seconds: Duration, work: impl Fn() + Sync) -> f64 {
    let (done, started) = (AtomicU64::new(0), Instant::now());
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                while started.elapsed() < seconds {
                    work();
                    done.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
    });
    done.into_inner() as f64 / started.elapsed().as_secs_f64()
}

/// By the label's word for the algorithm.
fn mechanism(label: &str) -> Mechanism<'static> {
    match label {
        "hsm-ed-v1" => Mechanism::Eddsa(EddsaParams::new(EddsaSignatureScheme::Ed25519)),
        "hsm-rsa-v1" => Mechanism::RsaPkcs,
        _ => Mechanism::Ecdsa,
    }
}

/// The program's own second half: signs with a key of a token, loaded into this process, and prints the rate.
/// A process of its own, because the token's configuration is in the environment.
pub(crate) fn pkcs11(arguments: &[String]) {
    let [module, label, pin, sessions, millis] = arguments else { panic!("five arguments") };
    let driver = Pkcs11::new(module).unwrap();
    driver.initialize(CInitializeArgs::new(CInitializeFlags::OS_LOCKING_OK)).unwrap();
    let slot = driver.get_slots_with_initialized_token().unwrap()[0];
    let main = driver.open_ro_session(slot).unwrap();
    main.login(UserType::User, Some(&AuthPin::new(pin.clone().into()))).unwrap();
    // What PKCS#1 v1.5 pads is DigestInfo, 19 bytes longer; only the time matters here.
    let input = vec![7; if label == "hsm-rsa-v1" { 51 } else { 32 }];
    let (done, started) = (AtomicU64::new(0), Instant::now());
    let seconds = Duration::from_millis(millis.parse().unwrap());
    std::thread::scope(|scope| {
        for _ in 0..sessions.parse().unwrap() {
            let session = driver.open_ro_session(slot).unwrap();
            let template =
                [Attribute::Class(ObjectClass::PRIVATE_KEY), Attribute::Label(label.clone().into_bytes())];
            let key = session.find_objects(&template).unwrap()[0];
            let (input, done) = (&input, &done);
            scope.spawn(move || {
                let mechanism = &mechanism(label);
                while started.elapsed() < seconds {
                    session.sign(mechanism, key, input).unwrap();
                    done.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
    });
    println!("{}", done.into_inner() as f64 / started.elapsed().as_secs_f64());
}

/// The same, asked of that process.
pub(crate) fn softhsm(world: &World, label: &str, sessions: usize, seconds: Duration) -> f64 {
    let pin = std::fs::read_to_string(world.path("hsm.pin")).unwrap();
    let output = std::process::Command::new(std::env::current_exe().unwrap())
        .args(["bare-pkcs11", "/usr/lib/softhsm/libsofthsm2.so", label, pin.trim()])
        .args([sessions.to_string(), seconds.as_millis().to_string()])
        .env("SOFTHSM2_CONF", world.path("softhsm2.conf"))
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).trim().parse().unwrap()
}

/// The double, asked through the backend alone.
pub(crate) fn yubihsm(
    double: &YubiHsmDouble,
    password: &Path,
    label: &str,
    sessions: usize,
    seconds: Duration,
) -> f64 {
    let (host, port) = (double.address().ip().to_string(), double.address().port());
    let settings = YubiHsmConfig {
        sessions,
        ..YubiHsmConfig::new("bare", Connector::Http { host, port }, AUTH_KEY_ID, password.to_owned())
    };
    let backend = YubiHsmBackend::open(&settings).unwrap();
    let key = backend.open_key(label, SignatureAlgorithm::EcdsaP256Sha256).unwrap();
    let digest = Digest::Sha256([7; 32]);
    rate(sessions, seconds, || {
        key.sign(SealInput::Digest(&digest), Instant::now() + PATIENCE).unwrap();
    })
}

/// A KMS, asked by the SDK alone.
pub(crate) fn kms(account: &KmsAccount, arn: &str, calls: usize, seconds: Duration) -> f64 {
    account.wait(async {
        let (end, started) = (Instant::now() + seconds, Instant::now());
        let callers: Vec<_> = (0..calls)
            .map(|_| {
                let (raw, arn) = (account.raw.clone(), arn.to_owned());
                tokio::spawn(async move {
                    let mut signed = 0u64;
                    while Instant::now() < end {
                        let request = raw.sign().key_id(&arn).message(Blob::new([7; 32]));
                        let request = request.message_type(MessageType::Digest);
                        request.signing_algorithm(SigningAlgorithmSpec::EcdsaSha256).send().await.unwrap();
                        signed += 1;
                    }
                    signed
                })
            })
            .collect();
        let mut signed = 0;
        for caller in callers {
            signed += caller.await.unwrap();
        }
        signed as f64 / started.elapsed().as_secs_f64()
    })
}
