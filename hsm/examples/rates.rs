//! How fast keys are used here: `cargo run --release -p chancery-hsm --example rates`.
//!
//! Prints, for the development backend, seals per second on one thread (signature and self-check), and
//! for a device of fixed latency the share of its own limit, sessions ÷ latency, that the keyring gets
//! out of it. Nothing is written to a ledger.

#![expect(clippy::unwrap_used, reason = "a measurement that cannot be set up has nothing to report")]

use std::sync::Arc;
use std::time::{Duration, Instant};

use chancery_format::committed::DurableIntent;
use chancery_format::entry::{Intent, IntentParts, Operation, PolicyRef};
use chancery_format::{Digest, Hash, OutcomeResult, Rung, SignatureAlgorithm};
use chancery_hsm::software::{DevelopmentOnly, SoftwareBackend};
use chancery_hsm::testing::SlowDevice;
use chancery_hsm::{Backend, KeyShape, KeySpec, Keyring};

const TIME: Duration = Duration::from_secs(2);

fn main() {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    for algorithm in SignatureAlgorithm::ALL {
        let ring = ring(algorithm, |backend| backend);
        let (count, time) = runtime.block_on(one_by_one(&ring, algorithm));
        let rate = f64::from(count) / time.as_secs_f64();
        println!("inline {algorithm:<18} {rate:>8.0} /s  {:>7.1} us each", 1e6 / rate);
    }
    for (sessions, latency_ms) in [(1, 80), (1, 5), (2, 5), (8, 5), (4, 1)] {
        let latency = Duration::from_millis(latency_ms);
        let slow = |backend| -> Arc<dyn Backend> { Arc::new(SlowDevice::new(backend, sessions, latency)) };
        let ring = ring(SignatureAlgorithm::Ed25519, slow);
        let (count, time) = runtime.block_on(crowd(&ring, sessions * 4));
        let rate = f64::from(count) / time.as_secs_f64();
        let limit = f64::from(u32::try_from(sessions).unwrap()) / latency.as_secs_f64();
        println!(
            "device {sessions} sessions of {latency_ms:>2} ms   {rate:>8.1} /s of {limit:>6.1}: {:.3}",
            rate / limit
        );
    }
}

fn ring(
    algorithm: SignatureAlgorithm,
    wrap: impl FnOnce(Arc<dyn Backend>) -> Arc<dyn Backend>,
) -> Arc<Keyring> {
    let backend = SoftwareBackend::ephemeral("device", DevelopmentOnly::check(true, false).unwrap());
    backend.generate_key("key", KeyShape::recommended(algorithm)).unwrap();
    let spec = KeySpec {
        kid: "key".parse().unwrap(),
        signer_kid: "key-v1".parse().unwrap(),
        backend: "device".to_owned(),
        label: "key".to_owned(),
        algorithm,
        purpose: "measurement".to_owned(),
        description: String::new(),
        registered: None,
    };
    Arc::new(Keyring::builder().backend(wrap(Arc::new(backend))).key(spec).build().unwrap())
}

fn intent(algorithm: SignatureAlgorithm, number: u32) -> DurableIntent {
    DurableIntent::skipped_for_software(Intent::new(IntentParts {
        kid: "key".parse().unwrap(),
        signer_kid: "key-v1".parse().unwrap(),
        algorithm,
        operation: if algorithm.is_mac() { Operation::Mac } else { Operation::Sign },
        digest: Digest::Sha256(Hash::of(&[&number.to_be_bytes()]).0),
        principal: "rates".parse().unwrap(),
        request_id: "r".parse().unwrap(),
        stream: "rates".parse().unwrap(),
        purpose: None,
        metadata: None,
        policy: PolicyRef { rule: "rates".to_owned(), sha256: Hash([0; 32]) },
        release: Rung::Durable,
        replay: None,
    }))
}

async fn one_by_one(ring: &Keyring, algorithm: SignatureAlgorithm) -> (u32, Duration) {
    let (start, mut count) = (Instant::now(), 0);
    while start.elapsed() < TIME {
        seal(ring, algorithm, count).await;
        count += 1;
    }
    (count, start.elapsed())
}

async fn crowd(ring: &Arc<Keyring>, callers: usize) -> (u32, Duration) {
    let start = Instant::now();
    let mut set = tokio::task::JoinSet::new();
    for _ in 0..callers {
        let ring = Arc::clone(ring);
        set.spawn(async move { one_by_one(&ring, SignatureAlgorithm::Ed25519).await.0 });
    }
    (set.join_all().await.into_iter().sum(), start.elapsed())
}

async fn seal(ring: &Keyring, algorithm: SignatureAlgorithm, number: u32) {
    let deadline = Instant::now() + Duration::from_secs(30);
    let outcome = ring.seal(intent(algorithm, number), None, deadline).await;
    assert!(matches!(outcome.result(), OutcomeResult::Signed(_)), "{outcome:?}");
}
