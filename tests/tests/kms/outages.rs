//! Services that are busy, failing, silent, cut off or gone.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use chancery_aws_kms::{KmsBackend, KmsConfig};
use chancery_format::Digest;
use chancery_format::SignatureAlgorithm::{self, EcdsaP256Sha256, HmacSha256};
use chancery_format::entry::KeyUse;
use chancery_hsm::conformance::{Outage, Subject, check};
use chancery_hsm::{Backend as _, SealInput, SignerHandle};
use chancery_tests::rig::KmsAccount;
use chancery_tests::servers::{Fault, FaultProxy, ObjectStore};

use crate::double::KmsDouble;
use crate::rig::{backend_at, config, later, told};

const DIGEST: Digest = Digest::Sha256([7; 32]);
const SIGNATURES: usize = 2_000;
const THREADS: usize = 16;
const IN_DOUBT: (&str, KeyUse) = ("backend-unavailable", KeyUse::Unknown);
const NOT_USED: (&str, KeyUse) = ("backend-unavailable", KeyUse::None);

/// A key behind a proxy.
struct Behind {
    proxy: FaultProxy,
    key: Arc<dyn SignerHandle>,
}

impl Behind {
    fn new() -> Self {
        Self::with(|_| {})
    }

    fn with(change: impl FnOnce(&mut KmsConfig)) -> Self {
        let rig = KmsAccount::new(ObjectStore::MiniStack);
        let proxy = FaultProxy::start(rig.address).unwrap();
        let mut config = config(proxy.address());
        change(&mut config);
        let backend = KmsBackend::open(&config).unwrap();
        let key = backend.open_key(&rig.make_key(EcdsaP256Sha256), EcdsaP256Sha256).unwrap();
        Self { proxy, key }
    }

    fn sign(&self, patience: Duration) -> Result<(), (&'static str, KeyUse)> {
        told(self.key.sign(SealInput::Digest(&DIGEST), Instant::now() + patience)).map(|_| ())
    }

    /// This for the next so many requests, then none.
    fn first(&self, count: usize, fault: Fault) {
        let mut seen = 0;
        self.proxy.rule(move |_| {
            seen += 1;
            if seen <= count { fault.clone() } else { Fault::Pass }
        });
    }
}

const LONG: Duration = Duration::from_secs(60);

#[test]
fn half_of_all_calls_throttled_costs_patience_and_no_signature() {
    let behind = Behind::new();
    // The same sequence each time: a multiplicative generator's upper bits.
    let mut state = 0x2545_F491_4F6C_DD1D_u64;
    behind.proxy.rule(move |_| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        if state >> 63 == 0 { Fault::ReplyJson(400, "ThrottlingException") } else { Fault::Pass }
    });
    let (next, signed) = (AtomicUsize::new(0), AtomicUsize::new(0));
    let before = behind.proxy.requests();
    std::thread::scope(|scope| {
        for _ in 0..THREADS {
            scope.spawn(|| {
                while next.fetch_add(1, Ordering::Relaxed) < SIGNATURES {
                    let deadline = Instant::now() + Duration::from_secs(3);
                    match behind.key.sign(SealInput::Digest(&DIGEST), deadline) {
                        Ok(signature) => {
                            assert!(behind.key.public_key().unwrap().verify(&DIGEST, &signature));
                            signed.fetch_add(1, Ordering::Relaxed);
                        }
                        Err(error) => assert_eq!(error.code(), "backend-unavailable"),
                    }
                }
            });
        }
    });
    let (signed, asked) = (signed.into_inner(), behind.proxy.requests() - before);
    assert!(signed * 1000 >= SIGNATURES * 999, "{signed} of {SIGNATURES}");
    assert!(asked as usize > SIGNATURES * 3 / 2, "half was throttled: {asked} requests");
}

#[test]
fn throttled_for_good_is_an_outage_that_used_no_key() {
    let behind = Behind::new();
    for (status, code) in [(400, "ThrottlingException"), (400, "RequestLimitExceeded"), (429, "x")] {
        behind.proxy.all(Fault::ReplyJson(status, code));
        let (before, asked) = (Instant::now(), behind.proxy.requests());
        assert_eq!(behind.sign(Duration::from_millis(700)), Err(NOT_USED), "{code}");
        assert!(before.elapsed() < Duration::from_millis(1500), "{:?}", before.elapsed());
        assert!((2..=16).contains(&(behind.proxy.requests() - asked)));
    }
    behind.proxy.all(Fault::Pass);
    assert_eq!(behind.sign(LONG), Ok(()));
}

#[test]
fn attempts_are_bounded_however_long_the_deadline() {
    let behind = Behind::new();
    behind.proxy.all(Fault::ReplyJson(400, "ThrottlingException"));
    let asked = behind.proxy.requests();
    assert_eq!(behind.sign(LONG), Err(NOT_USED));
    assert_eq!(behind.proxy.requests() - asked, 16);
}

#[test]
fn a_failure_inside_leaves_the_key_use_in_doubt_and_may_pass() {
    let behind = Behind::new();
    for (status, code) in [
        (500, "KMSInternalException"),
        (500, "DependencyTimeoutException"),
        (503, "ServiceUnavailable"),
        (502, "x"),
    ] {
        behind.proxy.all(Fault::ReplyJson(status, code));
        assert_eq!(behind.sign(Duration::from_millis(300)), Err(IN_DOUBT), "{code}");
        behind.first(3, Fault::ReplyJson(status, code));
        assert_eq!(behind.sign(LONG), Ok(()), "{code}");
    }
}

#[test]
fn a_doubt_is_not_forgotten_by_a_clearer_answer() {
    let behind = Behind::new();
    for answer in ["DisabledException", "AccessDeniedException", "NotFoundException"] {
        let mut seen = 0;
        behind.proxy.rule(move |_| {
            seen += 1;
            if seen == 1 { Fault::LoseReply } else { Fault::ReplyJson(400, answer) }
        });
        assert_eq!(behind.sign(LONG), Err(IN_DOUBT), "{answer}");
    }
}

#[test]
fn silence_ends_with_the_deadline_or_the_attempt() {
    let behind = Behind::with(|config| config.attempt_timeout = Duration::from_secs(1));
    behind.first(1, Fault::Hang);
    assert_eq!(behind.sign(LONG), Ok(()), "the second attempt is answered");
    behind.proxy.all(Fault::Hang);
    let before = Instant::now();
    assert_eq!(behind.sign(Duration::from_millis(400)), Err(IN_DOUBT));
    assert!(before.elapsed() < Duration::from_millis(900), "{:?}", before.elapsed());
    behind.proxy.all(Fault::Pass);
    assert_eq!(behind.sign(LONG), Ok(()));
}

#[test]
fn answers_lost_or_cut_anywhere_are_asked_for_again() {
    let behind = Behind::new();
    for fault in [
        Fault::Close,
        Fault::LoseReply,
        Fault::CutReply(1),
        Fault::CutReply(20),
        Fault::CutReply(200),
        Fault::CutReply(300),
    ] {
        behind.first(2, fault.clone());
        assert_eq!(behind.sign(LONG), Ok(()), "{fault:?}");
        behind.proxy.all(fault.clone());
        assert_eq!(behind.sign(Duration::from_millis(300)), Err(IN_DOUBT), "{fault:?}");
    }
}

#[test]
fn an_answer_that_is_none_is_never_taken_for_a_signature() {
    let behind = Behind::new();
    for body in ["", "{", "{}", "[]", "{\"Signature\":7}", "{\"Signature\":\"!\"}", "<html/>"] {
        behind.proxy.all(Fault::ReplyXml(body.to_owned()));
        assert_eq!(behind.sign(Duration::from_millis(300)), Err(IN_DOUBT), "{body}");
    }
}

#[test]
fn credentials_that_are_refused_are_not_tried_again() {
    let behind = Behind::new();
    for code in [
        "AccessDeniedException",
        "UnrecognizedClientException",
        "ExpiredTokenException",
        "InvalidSignatureException",
        "ValidationException",
    ] {
        behind.proxy.all(Fault::ReplyJson(400, code));
        let asked = behind.proxy.requests();
        assert_eq!(behind.sign(LONG), Err(("backend-refused", KeyUse::None)), "{code}");
        assert_eq!(behind.proxy.requests() - asked, 1, "{code}");
    }
}

#[test]
fn who_waits_for_a_seat_waits_until_the_deadline_and_no_longer() {
    let behind = Behind::with(|config| config.sessions = 1);
    behind.proxy.all(Fault::Hang);
    std::thread::scope(|scope| {
        let first = scope.spawn(|| behind.sign(Duration::from_secs(2)));
        while behind.proxy.requests() < 2 {
            std::thread::sleep(Duration::from_millis(5));
        }
        let before = Instant::now();
        assert_eq!(behind.sign(Duration::from_millis(200)), Err(("deadline-exceeded", KeyUse::None)));
        assert!(before.elapsed() < Duration::from_secs(1));
        behind.proxy.all(Fault::Pass);
        // The one that hung is asked again, or its deadline has passed on a busy machine.
        assert!(matches!(first.join().unwrap(), Ok(()) | Err(IN_DOUBT)));
    });
}

/// Nobody listens.
struct Gone(Mutex<FaultProxy>);

impl Outage for Gone {
    fn lose(&self) {
        self.0.lock().unwrap().refuse_connections();
    }

    fn restore(&self) {
        self.0.lock().unwrap().listen().unwrap();
    }
}

#[test]
fn a_service_that_is_gone_used_no_key_and_is_used_again_when_it_is_back() {
    let double = KmsDouble::start();
    let keys: Vec<(String, SignatureAlgorithm)> =
        [EcdsaP256Sha256, HmacSha256].map(|algorithm| (double.make_key(algorithm), algorithm)).to_vec();
    let proxy = FaultProxy::start(double.address()).unwrap();
    let backend = backend_at(proxy.address());
    let gone = Gone(Mutex::new(proxy));
    let subject = Subject {
        backend: Arc::clone(&backend) as _,
        keys: keys.clone(),
        known_mac: None,
        outage: Some(&gone),
        off_switch: None,
    };
    assert!(check(&subject).unwrap_or_else(|finding| panic!("{finding}")).outage);

    let key = backend.open_key(&keys[0].0, EcdsaP256Sha256).unwrap();
    gone.lose();
    assert_eq!(told(key.sign(SealInput::Digest(&DIGEST), later())).map(|_| ()), Err(NOT_USED));
    gone.restore();
    assert!(key.sign(SealInput::Digest(&DIGEST), later()).is_ok());
}
