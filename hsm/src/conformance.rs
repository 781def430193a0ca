//! One suite for every backend: what [`Backend`] and [`SignerHandle`] promise, tried on a real one.
//!
//! A backend's own tests make keys, describe them in a [`Subject`] and call [`check`]. Signatures are
//! verified by the format crate, which shares no code with any backend, and MACs by RFC 2104 written out
//! below. It says nothing about speed and cannot show that a key does not leave its device.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use chancery_format::entry::KeyUse;
use chancery_format::public_key::lower_s_secp256k1;
use chancery_format::{Digest, Hash, HashAlgorithm, KeyFamily, SignatureAlgorithm};

use crate::builder::{KeySpec, KeyringError, KeyringErrors, Registered};
use crate::fair_queue::Flow;
use crate::keyring::Keyring;
use crate::signer::{Backend, Cost, KeyShape, RsaBits, SealInput, SignerError, SignerHandle};
use crate::software::{DevelopmentOnly, SoftwareBackend};
use crate::workers::OwnedInput;

/// Time any single operation of the suite may take; generous, since test machines are busy.
const PATIENCE: Duration = Duration::from_secs(60);

/// How soon a key disabled on the device must be refused.
const OFF_WITHIN: Duration = Duration::from_secs(1);

/// Threads of the concurrency check.
const THREADS: usize = 16;

/// Requests thrown at a queue of one.
const CROWD: usize = 64;

/// Makes a device disappear and come back.
pub trait Outage {
    /// Takes the device away. Returns when it is away.
    fn lose(&self);
    /// Brings it back.
    fn restore(&self);
}

/// Takes single keys out of use on the device, underneath whoever has them open.
pub trait OffSwitch {
    /// The key must not be used from now on.
    fn off(&self, label: &str);
    /// It may again.
    fn on(&self, label: &str);
}

/// A MAC key whose secret the test knows.
#[derive(Debug, Clone)]
pub struct KnownMac {
    /// Its label.
    pub label: String,
    /// Its secret.
    pub secret: Vec<u8>,
}

/// A backend and what it holds.
pub struct Subject<'a> {
    /// The backend.
    pub backend: Arc<dyn Backend>,
    /// Labels and algorithms of existing keys; at least one.
    pub keys: Vec<(String, SignatureAlgorithm)>,
    /// A MAC key with a known secret, if one can be put there.
    pub known_mac: Option<KnownMac>,
    /// How to take the device away, if that is possible.
    pub outage: Option<&'a dyn Outage>,
    /// How to take a single key out of use, if that is possible.
    pub off_switch: Option<&'a dyn OffSwitch>,
}

/// A promise that was not kept.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{label}: {rule}: {detail}")]
pub struct Finding {
    /// The key concerned.
    pub label: String,
    /// The promise.
    pub rule: &'static str,
    /// What happened instead.
    pub detail: String,
}

/// What was checked, so that a test can assert that it was.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Report {
    /// Algorithms tried.
    pub algorithms: BTreeSet<SignatureAlgorithm>,
    /// Signatures and MACs made and verified one by one.
    pub verified: usize,
    /// Whether a MAC was compared with a known answer.
    pub known_mac: bool,
    /// Whether an outage was gone through.
    pub outage: bool,
    /// Whether keys were taken out of use underneath.
    pub off_switch: bool,
}

/// Runs the whole suite.
pub fn check(subject: &Subject<'_>) -> Result<Report, Finding> {
    let mut report = Report::default();
    for (label, algorithm) in &subject.keys {
        let key = Tried::open(subject, label, *algorithm)?;
        report.algorithms.insert(*algorithm);
        report.verified += key.signs_and_verifies()?;
        key.is_random_exactly_if_the_algorithm_is()?;
        key.takes_messages_exactly_if_the_algorithm_does()?;
        key.signs_what_was_made_outside_or_refuses_it()?;
        key.refuses_digests_of_another_length()?;
        key.honours_a_deadline_already_passed()?;
        report.verified += key.serves_many_threads()?;
        key.is_nobody_elses(subject)?;
        wrong_algorithms_are_refused(subject, label, *algorithm)?;
        another_registered_key_is_refused(subject, label, *algorithm)?;
        report.verified += full_queue_refuses(subject, label, *algorithm)?;
    }
    missing_keys_are_named(subject)?;
    if let Some(known) = &subject.known_mac {
        known_answer(subject, known)?;
        report.known_mac = true;
    }
    if let Some(off_switch) = subject.off_switch {
        for (label, algorithm) in &subject.keys {
            Tried::open(subject, label, *algorithm)?.can_be_switched_off(off_switch)?;
        }
        report.off_switch = true;
    }
    if let Some(outage) = subject.outage {
        for (label, algorithm) in &subject.keys {
            Tried::open(subject, label, *algorithm)?.survives(outage)?;
        }
        report.outage = true;
    }
    Ok(report)
}

/// A digest that differs for every number, of the kind the algorithm takes.
fn digest_for(algorithm: SignatureAlgorithm, number: usize) -> Digest {
    let part = |half: u8| Hash::of(&[b"conformance", &[half], &number.to_be_bytes()]).0;
    let mut bytes = [0; 64];
    bytes.iter_mut().zip(part(0).into_iter().chain(part(1))).for_each(|(byte, random)| *byte = random);
    match algorithm.digest() {
        None | Some(HashAlgorithm::Sha256) => Digest::Sha256(part(0)),
        Some(HashAlgorithm::Sha384) => {
            let mut shorter = [0; 48];
            shorter.iter_mut().zip(bytes).for_each(|(byte, random)| *byte = random);
            Digest::Sha384(shorter)
        }
        Some(HashAlgorithm::Sha512) => Digest::Sha512(bytes),
    }
}

fn soon() -> Instant {
    Instant::now() + PATIENCE
}

struct Tried<'a> {
    label: &'a str,
    algorithm: SignatureAlgorithm,
    handle: Arc<dyn SignerHandle>,
}

impl<'a> Tried<'a> {
    fn open(subject: &Subject<'_>, label: &'a str, algorithm: SignatureAlgorithm) -> Result<Self, Finding> {
        let opened = subject.backend.open_key(label, algorithm);
        let handle = opened.map_err(|error| finding(label, "an existing key opens", error))?;
        let tried = Self { label, algorithm, handle };
        tried.ensure(tried.handle.algorithm() == algorithm, "the handle knows its algorithm", "another")?;
        let public = tried.handle.public_key().is_some();
        tried.ensure(public != algorithm.is_mac(), "only a MAC key has no public key", public)?;
        Ok(tried)
    }

    fn ensure(&self, holds: bool, rule: &'static str, detail: impl ToString) -> Result<(), Finding> {
        if holds { Ok(()) } else { Err(finding(self.label, rule, detail)) }
    }

    fn digest(&self, number: usize) -> Digest {
        digest_for(self.algorithm, number)
    }

    fn sign(&self, input: SealInput<'_>) -> Result<Vec<u8>, Finding> {
        let signed = self.handle.sign(input, soon());
        signed.map_err(|error| finding(self.label, "a working key signs", error))
    }

    /// Whether the bytes are a signature of the digest by the handle's own public key.
    /// On secp256k1 a device may return either `s`; the keyring takes the lower one.
    fn verifies(&self, digest: &Digest, signature: &[u8]) -> bool {
        let lower = match self.algorithm {
            SignatureAlgorithm::EcdsaSecp256k1Sha256 => lower_s_secp256k1(signature),
            _ => None,
        };
        let signature = lower.as_deref().unwrap_or(signature);
        match self.handle.public_key() {
            Some(key) => key.verify(digest, signature),
            None => Some(signature.len()) == self.algorithm.signature_bytes(),
        }
    }

    fn signs_and_verifies(&self) -> Result<usize, Finding> {
        for number in 0..4 {
            let (asked, other) = (self.digest(number), self.digest(number + 1000));
            let signature = self.sign(SealInput::Digest(&asked))?;
            self.ensure(self.verifies(&asked, &signature), "signatures verify independently", number)?;
            if self.algorithm.is_mac() {
                let of_other = self.sign(SealInput::Digest(&other))?;
                self.ensure(of_other != signature, "a MAC depends on its message", number)?;
                continue;
            }
            self.ensure(!self.verifies(&other, &signature), "a signature is of its digest alone", number)?;
            if let Digest::Sha256(_) = asked {
                let rehashed = Digest::Sha256(Hash::of(&[asked.as_bytes()]).0);
                self.ensure(!self.verifies(&rehashed, &signature), "a digest is not hashed again", number)?;
            }
        }
        Ok(4)
    }

    fn is_random_exactly_if_the_algorithm_is(&self) -> Result<(), Finding> {
        let asked = self.digest(5);
        let (first, second) = (self.sign(SealInput::Digest(&asked))?, self.sign(SealInput::Digest(&asked))?);
        let both = self.verifies(&asked, &first) && self.verifies(&asked, &second);
        self.ensure(both, "repeated signatures verify", "one does not")?;
        // ECDSA (RFC 6979) and ML-DSA may be deterministic; PSS with its salt may not.
        if self.algorithm.is_pss() {
            self.ensure(first != second, "PSS draws a fresh salt", "twice the same")?;
        }
        let repeats = match self.algorithm.family() {
            KeyFamily::Ed25519 | KeyFamily::Secret => true,
            KeyFamily::Rsa => !self.algorithm.is_pss(),
            _ => return Ok(()),
        };
        if repeats {
            self.ensure(first == second, "a deterministic algorithm repeats itself", "two results")?;
        }
        Ok(())
    }

    fn takes_messages_exactly_if_the_algorithm_does(&self) -> Result<(), Finding> {
        let text = b"a message that is no digest\n";
        let result = self.handle.sign(SealInput::Message(text), soon());
        if self.algorithm.takes_messages() {
            let same = self.sign(SealInput::Message(self.digest(6).as_bytes()))?;
            let as_digest = self.sign(SealInput::Digest(&self.digest(6)))?;
            let random = matches!(self.algorithm.family(), KeyFamily::MlDsa44 | KeyFamily::MlDsa65);
            let alike = if random { self.verifies(&self.digest(6), &same) } else { same == as_digest };
            self.ensure(alike, "a digest is signed as the message of its bytes", "it is not")?;
            return self.ensure(result.is_ok(), "messages are signed", format!("{result:?}"));
        }
        let refused = result == Err(SignerError::WrongInput);
        self.ensure(refused, "messages are refused", "accepted, or refused with another error")
    }

    /// A device that has no way to be given µ may refuse it; what it may not do is to take it for a message.
    fn signs_what_was_made_outside_or_refuses_it(&self) -> Result<(), Finding> {
        let text = b"a message that the device never sees\n";
        let made = self.handle.public_key().and_then(|key| key.mu(text));
        let mu = made.unwrap_or(Digest::Mu([1; 64]));
        match self.handle.sign(SealInput::Digest(&mu), soon()) {
            Err(SignerError::WrongInput) => Ok(()),
            Ok(signature) => {
                let key = self.handle.public_key();
                let holds = key
                    .is_some_and(|key| key.verify_message(text, &signature) && key.verify(&mu, &signature));
                self.ensure(
                    made.is_some() && holds,
                    "a signature over \u{b5} is one over its message",
                    "it is not",
                )
            }
            Err(error) => self.ensure(false, "\u{b5} is signed, or refused as wrong input", error),
        }
    }

    fn refuses_digests_of_another_length(&self) -> Result<(), Finding> {
        let every = [Digest::Sha256([1; 32]), Digest::Sha384([1; 48]), Digest::Sha512([1; 64])];
        let Some(right) = self.algorithm.digest() else { return Ok(()) };
        for wrong in every.into_iter().filter(|digest| digest.as_bytes().len() != right.bytes()) {
            let result = self.handle.sign(SealInput::Digest(&wrong), soon());
            let refused = result == Err(SignerError::WrongInput);
            self.ensure(refused, "a digest of another length is refused", format!("{result:?}"))?;
        }
        Ok(())
    }

    /// A signature of this key verifies under no other of the subject's.
    fn is_nobody_elses(&self, subject: &Subject<'_>) -> Result<(), Finding> {
        let asked = self.digest(10);
        let signature = self.sign(SealInput::Digest(&asked))?;
        let Some(own) = self.handle.public_key() else { return Ok(()) };
        for (label, algorithm) in subject.keys.iter().filter(|(_, algorithm)| *algorithm == self.algorithm) {
            let other = Tried::open(subject, label, *algorithm)?;
            let same = other.handle.public_key() == Some(own);
            self.ensure(same == other.verifies(&asked, &signature), "a signature is of one key", label)?;
        }
        Ok(())
    }

    /// Disabled on the device, it is refused within a second, for a reason that waiting does not mend; enabled
    /// again, the same handle signs.
    fn can_be_switched_off(&self, switch: &dyn OffSwitch) -> Result<(), Finding> {
        self.sign(SealInput::Digest(&self.digest(11)))?;
        switch.off(self.label);
        let (limit, mut during) = (Instant::now() + OFF_WITHIN, Ok(Vec::new()));
        while during.is_ok() && Instant::now() < limit {
            during = self.handle.sign(SealInput::Digest(&self.digest(12)), soon());
        }
        switch.on(self.label);
        let told = matches!(
            &during,
            Err(SignerError::KeyDisabled { .. }
                | SignerError::Refused { .. }
                | SignerError::KeyMissing { .. })
        );
        self.ensure(told, "a disabled key is refused within a second", format!("{during:?}"))?;
        self.signs_again("an enabled key signs again")
    }

    /// Unaided, within the suite's patience.
    fn signs_again(&self, rule: &'static str) -> Result<(), Finding> {
        let (asked, limit) = (self.digest(9), soon());
        loop {
            match self.handle.sign(SealInput::Digest(&asked), soon()) {
                Ok(signature) => return self.ensure(self.verifies(&asked, &signature), rule, "bad"),
                Err(error) if Instant::now() > limit => return Err(finding(self.label, rule, error)),
                Err(_) => std::thread::sleep(Duration::from_millis(20)),
            }
        }
    }

    fn honours_a_deadline_already_passed(&self) -> Result<(), Finding> {
        let result = self.handle.sign(SealInput::Digest(&self.digest(7)), Instant::now());
        let refused = result == Err(SignerError::Deadline(KeyUse::None));
        self.ensure(refused, "a passed deadline is refused before the key is used", format!("{result:?}"))
    }

    fn serves_many_threads(&self) -> Result<usize, Finding> {
        let results: Vec<Result<(), Finding>> = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..THREADS)
                .map(|number| {
                    scope.spawn(move || {
                        let asked = self.digest(100 + number);
                        let signature = self.sign(SealInput::Digest(&asked))?;
                        self.ensure(self.verifies(&asked, &signature), "threads do not mix results", number)
                    })
                })
                .collect();
            let panicked = || Err(finding(self.label, "threads do not panic", "one did"));
            threads.into_iter().map(|thread| thread.join().unwrap_or_else(|_| panicked())).collect()
        });
        results.into_iter().collect::<Result<(), _>>()?;
        Ok(THREADS)
    }

    /// The same handle must fail while the device is away and work when it is back, unaided.
    fn survives(&self, outage: &dyn Outage) -> Result<(), Finding> {
        self.sign(SealInput::Digest(&self.digest(8)))?;
        outage.lose();
        let during = self.handle.sign(SealInput::Digest(&self.digest(9)), soon());
        outage.restore();
        let told = matches!(&during, Err(SignerError::Unavailable { .. }));
        self.ensure(told, "a lost device is reported as unavailable", format!("{during:?}"))?;
        self.signs_again("a device that returned is used again")
    }
}

fn finding(label: &str, rule: &'static str, detail: impl ToString) -> Finding {
    Finding { label: label.to_owned(), rule, detail: detail.to_string() }
}

fn wrong_algorithms_are_refused(
    subject: &Subject<'_>,
    label: &str,
    right: SignatureAlgorithm,
) -> Result<(), Finding> {
    for wrong in SignatureAlgorithm::ALL {
        if wrong.family() == right.family() {
            continue; // one key can serve several: an RSA key every padding and hash
        }
        match subject.backend.open_key(label, wrong) {
            Err(SignerError::KeyMissing { .. } | SignerError::Refused { .. }) => {}
            Err(error) => return Err(finding(label, "a wrong kind is the operator's error", error)),
            Ok(_) => return Err(finding(label, "a key opens as its own kind only", wrong)),
        }
    }
    Ok(())
}

/// A registry that knows another public key under this name keeps the key from being used at all.
fn another_registered_key_is_refused(
    subject: &Subject<'_>,
    label: &str,
    algorithm: SignatureAlgorithm,
) -> Result<(), Finding> {
    let rule = "another public key than the registered one is refused";
    let unexpected = |error: &dyn std::fmt::Display| finding(label, rule, error);
    let allowed = DevelopmentOnly::check(true, false).map_err(|error| unexpected(&error))?;
    let stranger = SoftwareBackend::ephemeral("stranger", allowed);
    stranger.generate_key("stranger", small(algorithm)).map_err(|error| unexpected(&error))?;
    let stranger = stranger.open_key("stranger", algorithm).map_err(|error| unexpected(&error))?;
    let Some(public) = stranger.public_key() else { return Ok(()) };
    let registered = Registered::Yes(Some(Box::new(public.clone())));
    match ring_of_one(subject, label, algorithm, registered)? {
        Err(KeyringErrors(errors))
            if matches!(errors.as_slice(), [KeyringError::PublicKeyMismatch { .. }]) =>
        {
            Ok(())
        }
        Err(errors) => Err(unexpected(&errors)),
        Ok(_) => Err(finding(label, rule, "the keyring was built")),
    }
}

/// The quickest shape of the algorithm's family.
fn small(algorithm: SignatureAlgorithm) -> KeyShape {
    match KeyShape::recommended(algorithm) {
        KeyShape::Rsa(_) => KeyShape::Rsa(RsaBits::B2048),
        shape => shape,
    }
}

fn missing_keys_are_named(subject: &Subject<'_>) -> Result<(), Finding> {
    let label = "no-such-key";
    for &algorithm in subject.backend.algorithms() {
        match subject.backend.open_key(label, algorithm) {
            Err(SignerError::KeyMissing { cause }) if cause.contains(label) => {}
            Err(error) => return Err(finding(label, "a missing key is reported by label", error)),
            Ok(_) => return Err(finding(label, "a missing key does not open", algorithm)),
        }
    }
    Ok(())
}

fn known_answer(subject: &Subject<'_>, known: &KnownMac) -> Result<(), Finding> {
    let key = Tried::open(subject, &known.label, SignatureAlgorithm::HmacSha256)?;
    for length in [0, 1, 31, 32, 63, 64, 65, 1000] {
        let message = vec![0xC3; length];
        // Some devices refuse an empty message; a wrong answer would be worse than none.
        match key.handle.sign(SealInput::Message(&message), soon()) {
            Err(_) if message.is_empty() => {}
            result => {
                let expected = hmac_sha256(&known.secret, &message);
                key.ensure(result == Ok(expected), "a MAC is RFC 2104's", format!("length {length}"))?;
            }
        }
    }
    Ok(())
}

/// RFC 2104 with SHA-256, written out so that nothing a backend uses is used here.
fn hmac_sha256(secret: &[u8], message: &[u8]) -> Vec<u8> {
    let mut block = [0u8; 64];
    let hashed;
    let key = if secret.len() > block.len() {
        hashed = Hash::of(&[secret]).0;
        hashed.as_slice()
    } else {
        secret
    };
    block.iter_mut().zip(key).for_each(|(byte, key)| *byte = *key);
    let inner = Hash::of(&[&block.map(|byte| byte ^ 0x36), message]);
    Hash::of(&[&block.map(|byte| byte ^ 0x5C), &inner.0]).0.to_vec()
}

/// Through a keyring whose queue holds one: every request ends in a signature or in "busy", and the
/// device serves at least one.
fn full_queue_refuses(
    subject: &Subject<'_>,
    label: &str,
    algorithm: SignatureAlgorithm,
) -> Result<usize, Finding> {
    let rule = "a crowd is served or refused at once";
    let ring = ring_of_one(subject, label, algorithm, Registered::No)?;
    let ring = Arc::new(ring.map_err(|errors| finding(label, rule, errors))?);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| finding(label, rule, error))?;
    let results = runtime.block_on(async {
        let mut crowd = tokio::task::JoinSet::new();
        for number in 0..CROWD {
            let ring = Arc::clone(&ring);
            crowd.spawn(async move {
                let key = ring.shelf.load().by_kid.values().next().map(Arc::clone)?;
                let input = OwnedInput::Digest(digest_for(algorithm, 200 + number));
                Some(key.sign_checked(input, soon(), Flow::Trial).await)
            });
        }
        crowd.join_all().await
    });
    let mut served = 0;
    for result in results {
        match result {
            Some(Ok(_)) => served += 1,
            Some(Err(SignerError::Busy)) if subject.backend.cost() == Cost::Blocking => {}
            // A MAC is computed twice; the second time may find the queue full.
            Some(Err(SignerError::Unavailable { cause, .. })) if cause.contains("self-check of a MAC") => {}
            other => return Err(finding(label, rule, format!("{:?}", other.map(|r| r.map(|_| ()))))),
        }
    }
    if served == 0 { Err(finding(label, rule, "nobody was served")) } else { Ok(served) }
}

fn ring_of_one(
    subject: &Subject<'_>,
    label: &str,
    algorithm: SignatureAlgorithm,
    registered: Registered,
) -> Result<Result<Keyring, KeyringErrors>, Finding> {
    let rule = "a keyring can be built on the backend";
    let name = |text: &str| text.parse().map_err(|error| finding(label, rule, error));
    let spec = KeySpec {
        kid: name("conformance")?,
        signer_kid: name("conformance-v1")?,
        backend: subject.backend.name().to_owned(),
        label: label.to_owned(),
        algorithm,
        purpose: "conformance".to_owned(),
        description: String::new(),
        registered,
    };
    let builder = Keyring::builder().backend_with_queue(Arc::clone(&subject.backend), 1).key(spec);
    Ok(builder.build())
}
