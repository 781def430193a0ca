//! A keyring on software keys, behind a device that fails on command.

#![expect(clippy::unwrap_used, reason = "a failed unwrap is the test's failure")]
#![allow(dead_code, reason = "every test file uses its own part")]

use std::sync::Arc;
use std::time::{Duration, Instant};

use chancery_format::committed::DurableIntent;
use chancery_format::entry::{Intent, IntentParts, KeyUse, Operation, PolicyRef};
use chancery_format::{Digest, Hash, HashAlgorithm, Outcome, OutcomeResult, Rung, SignatureAlgorithm};
use chancery_hsm::software::{DevelopmentOnly, SoftwareBackend};
use chancery_hsm::testing::{Faults, FaultyDevice};
use chancery_hsm::{Backend, Cost, KeyShape, KeySpec, Keyring, KeyringBuilder, Registered, RsaBits};

pub(crate) const NAME: &str = "device";

pub(crate) fn allowed() -> DevelopmentOnly {
    DevelopmentOnly::check(true, false).unwrap()
}

pub(crate) fn later() -> Instant {
    Instant::now() + Duration::from_secs(60)
}

/// A software backend with one key per algorithm, labelled by it.
pub(crate) fn software() -> Arc<SoftwareBackend> {
    let backend = SoftwareBackend::ephemeral(NAME, allowed());
    for algorithm in SignatureAlgorithm::ALL {
        let shape = match KeyShape::recommended(algorithm) {
            KeyShape::Rsa(_) => KeyShape::Rsa(RsaBits::B2048),
            shape => shape,
        };
        backend.generate_key(algorithm.as_str(), shape).unwrap();
    }
    backend.generate_key("ledger", KeyShape::Ed25519).unwrap();
    Arc::new(backend)
}

pub(crate) fn spec(kid: &str, label: &str, algorithm: SignatureAlgorithm) -> KeySpec {
    KeySpec {
        kid: kid.parse().unwrap(),
        signer_kid: format!("{kid}-v1").parse().unwrap(),
        backend: NAME.to_owned(),
        label: label.to_owned(),
        algorithm,
        purpose: "test".to_owned(),
        description: String::new(),
        registered: Registered::No,
    }
}

/// Every algorithm under its own name, and a ledger key.
pub(crate) fn with_all_keys(builder: KeyringBuilder) -> KeyringBuilder {
    let all = SignatureAlgorithm::ALL.into_iter();
    let builder = all.fold(builder, |builder, algorithm| {
        builder.key(spec(algorithm.as_str(), algorithm.as_str(), algorithm))
    });
    builder.key(spec("ledger", "ledger", SignatureAlgorithm::Ed25519)).ledger_key("ledger".parse().unwrap())
}

pub(crate) fn faulty_ring(cost: Cost, sessions: usize, queue_max: usize) -> (Arc<Keyring>, Arc<Faults>) {
    let device = FaultyDevice::new(software(), cost, sessions);
    let faults = device.faults();
    let builder = Keyring::builder().backend_with_queue(Arc::new(device) as Arc<dyn Backend>, queue_max);
    (Arc::new(with_all_keys(builder).build().unwrap()), faults)
}

pub(crate) fn digest(number: u8) -> Digest {
    Digest::Sha256(Hash::of(&[&[number]]).0)
}

/// A digest of the kind the algorithm takes.
pub(crate) fn digest_for(algorithm: SignatureAlgorithm, number: u8) -> Digest {
    match algorithm.digest() {
        None | Some(HashAlgorithm::Sha256) => digest(number),
        Some(HashAlgorithm::Sha384) => Digest::Sha384([number; 48]),
        Some(HashAlgorithm::Sha512) => Digest::Sha512([number; 64]),
    }
}

pub(crate) fn intent(algorithm: SignatureAlgorithm, digest: Digest) -> DurableIntent {
    intent_of(algorithm.as_str(), algorithm, digest)
}

pub(crate) fn intent_of(kid: &str, algorithm: SignatureAlgorithm, digest: Digest) -> DurableIntent {
    intent_by("tester", kid, algorithm, digest)
}

pub(crate) fn intent_by(
    principal: &str,
    kid: &str,
    algorithm: SignatureAlgorithm,
    digest: Digest,
) -> DurableIntent {
    let operation = if algorithm.is_mac() { Operation::Mac } else { Operation::Sign };
    DurableIntent::after_sync(Intent::new(IntentParts {
        co_signer: None,
        kid: kid.parse().unwrap(),
        signer_kid: format!("{kid}-v1").parse().unwrap(),
        algorithm,
        asked: None,
        operation,
        digest,
        principal: principal.parse().unwrap(),
        request_id: "r-1".parse().unwrap(),
        stream: principal.parse().unwrap(),
        purpose: None,
        metadata: None,
        policy: PolicyRef { rule: "test".to_owned(), sha256: Hash([0; 32]) },
        release: Rung::Durable,
        replay: None,
    }))
}

/// `Ok` with the base64 signature of the leaf to be, or the failure code and key use.
pub(crate) fn ending(outcome: &Outcome) -> Result<String, (String, KeyUse)> {
    match outcome.result() {
        OutcomeResult::Signed(..) => {
            let draft = outcome.draft();
            let (_, tail) = draft.payload.as_str().split_once("\"signature\":\"").unwrap();
            Ok(tail.split('"').next().unwrap().to_owned())
        }
        OutcomeResult::Failed(code, key_use) => Err((code.as_str().to_owned(), *key_use)),
        OutcomeResult::Abandoned => panic!("a keyring abandons nothing"),
    }
}

/// Standard base64, as the leaf has it.
pub(crate) fn base64(text: &str) -> Vec<u8> {
    const ALPHABET: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let (mut bits, mut count, mut bytes) = (0u32, 0, Vec::new());
    for symbol in text.bytes().filter(|symbol| *symbol != b'=') {
        let value = ALPHABET.iter().position(|letter| *letter == symbol).unwrap();
        bits = bits << 6 | u32::try_from(value).unwrap();
        count += 6;
        if count >= 8 {
            count -= 8;
            bytes.push((bits >> count & 0xFF) as u8);
        }
    }
    bytes
}

/// Polls until the condition holds; fails the test after a minute.
pub(crate) async fn until(what: &str, mut condition: impl FnMut() -> bool) {
    let limit = later();
    while !condition() {
        assert!(Instant::now() < limit, "waited too long until {what}");
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}
