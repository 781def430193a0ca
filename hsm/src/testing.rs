//! Backends that misbehave on purpose, for tests and benchmarks. They hold no keys; they wrap a backend
//! that does, so whatever they let through is real.
//!
//! [`SlowDevice`] answers after a fixed time, like a device with a slow processor. [`FaultyDevice`] does
//! what its [`Faults`] say: is away, hangs, panics, signs something else.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

use chancery_format::entry::KeyUse;
use chancery_format::{Digest, PublicKey, SignatureAlgorithm};

use crate::birth::Birth;
use crate::device_log::DeviceLog;
use crate::signer::{Backend, Cost, SealInput, SignerError, SignerHandle};

/// A device of so many sessions, each taking so long per operation.
pub struct SlowDevice {
    inner: Arc<dyn Backend>,
    sessions: usize,
    latency: Duration,
}

impl SlowDevice {
    /// Wraps a backend, whose own time should be small against `latency`: it counts as part of it.
    pub fn new(inner: Arc<dyn Backend>, sessions: usize, latency: Duration) -> Self {
        Self { inner, sessions, latency }
    }
}

struct SlowHandle {
    inner: Arc<dyn SignerHandle>,
    latency: Duration,
}

impl Backend for SlowDevice {
    fn name(&self) -> &str {
        self.inner.name()
    }

    fn cost(&self) -> Cost {
        Cost::Blocking
    }

    fn sessions(&self) -> usize {
        self.sessions
    }

    fn open_key(
        &self,
        label: &str,
        algorithm: SignatureAlgorithm,
    ) -> Result<Arc<dyn SignerHandle>, SignerError> {
        let inner = self.inner.open_key(label, algorithm)?;
        Ok(Arc::new(SlowHandle { inner, latency: self.latency }))
    }

    fn probe(&self, deadline: Instant) -> Result<(), SignerError> {
        self.inner.probe(deadline)
    }

    fn algorithms(&self) -> &'static [SignatureAlgorithm] {
        self.inner.algorithms()
    }

    fn birth(&self, label: &str, algorithm: SignatureAlgorithm) -> Result<Birth, SignerError> {
        self.inner.birth(label, algorithm)
    }

    fn device_log(&self) -> Option<Arc<dyn DeviceLog>> {
        self.inner.device_log()
    }

    fn operation_counts(&self) -> Option<BTreeMap<String, u64>> {
        self.inner.operation_counts()
    }
}

impl SignerHandle for SlowHandle {
    fn algorithm(&self) -> SignatureAlgorithm {
        self.inner.algorithm()
    }

    fn public_key(&self) -> Option<&PublicKey> {
        self.inner.public_key()
    }

    fn sign(&self, input: SealInput<'_>, deadline: Instant) -> Result<Vec<u8>, SignerError> {
        let done = Instant::now() + self.latency;
        let result = self.inner.sign(input, deadline);
        std::thread::sleep(done.saturating_duration_since(Instant::now()));
        result
    }
}

/// What a [`FaultyDevice`] does with a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Fault {
    /// What it should.
    #[default]
    None,
    /// Answers that it is away, before using the key.
    AwayBefore,
    /// Uses the key, then answers that it is away.
    AwayAfter,
    /// Does not answer until the fault is changed; then does what it should.
    Hang,
    /// As [`Fault::AwayBefore`], and keys cannot be opened either.
    Absent,
    /// Panics.
    Panic,
    /// Signs another digest.
    WrongMessage,
    /// Returns the right signature with one bit flipped.
    FlippedBit,
    /// Returns nothing.
    Empty,
}

/// The controls of a [`FaultyDevice`], shared with the test.
#[derive(Debug, Default)]
pub struct Faults {
    fault: Mutex<Fault>,
    once: Mutex<Option<Fault>>,
    changed: Condvar,
    asked: AtomicU64,
    inside: AtomicUsize,
    uses: Mutex<BTreeMap<String, u64>>,
}

impl Faults {
    /// From now on, and for those hanging.
    pub fn set(&self, fault: Fault) {
        *self.lock() = fault;
        self.changed.notify_all();
    }

    /// The key of this label is used, by whomever.
    pub fn use_key(&self, label: &str) {
        let mut uses = self.uses.lock().unwrap_or_else(PoisonError::into_inner);
        *uses.entry(label.to_owned()).or_default() += 1;
    }

    /// For the next request alone.
    pub fn set_once(&self, fault: Fault) {
        *self.once.lock().unwrap_or_else(PoisonError::into_inner) = Some(fault);
    }

    /// Requests that reached the device so far.
    pub fn asked(&self) -> u64 {
        self.asked.load(Ordering::Acquire)
    }

    /// Requests inside the device now.
    pub fn inside(&self) -> usize {
        self.inside.load(Ordering::Acquire)
    }

    fn is_absent(&self) -> bool {
        *self.lock() == Fault::Absent
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Fault> {
        self.fault.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What the next request alone meets, or else what all meet.
    fn take(&self) -> Fault {
        let once = self.once.lock().unwrap_or_else(PoisonError::into_inner).take();
        once.unwrap_or_else(|| self.next())
    }

    /// The fault to act on, after any hanging is over.
    fn next(&self) -> Fault {
        let mut fault = self.lock();
        while *fault == Fault::Hang {
            fault = self.changed.wait(fault).unwrap_or_else(PoisonError::into_inner);
        }
        *fault
    }
}

/// A device under another name, so that a keyring can have two of a kind.
pub struct Renamed(pub &'static str, pub Arc<dyn Backend>);

impl Backend for Renamed {
    fn name(&self) -> &str {
        self.0
    }

    fn cost(&self) -> Cost {
        self.1.cost()
    }

    fn sessions(&self) -> usize {
        self.1.sessions()
    }

    fn open_key(
        &self,
        label: &str,
        algorithm: SignatureAlgorithm,
    ) -> Result<Arc<dyn SignerHandle>, SignerError> {
        self.1.open_key(label, algorithm)
    }

    fn probe(&self, deadline: Instant) -> Result<(), SignerError> {
        self.1.probe(deadline)
    }

    fn algorithms(&self) -> &'static [SignatureAlgorithm] {
        self.1.algorithms()
    }

    fn birth(&self, label: &str, algorithm: SignatureAlgorithm) -> Result<Birth, SignerError> {
        self.1.birth(label, algorithm)
    }

    fn device_log(&self) -> Option<Arc<dyn DeviceLog>> {
        self.1.device_log()
    }

    fn operation_counts(&self) -> Option<BTreeMap<String, u64>> {
        self.1.operation_counts()
    }
}

/// A device that fails on command.
pub struct FaultyDevice {
    inner: Arc<dyn Backend>,
    cost: Cost,
    sessions: usize,
    faults: Arc<Faults>,
}

impl FaultyDevice {
    /// Wraps a backend.
    pub fn new(inner: Arc<dyn Backend>, cost: Cost, sessions: usize) -> Self {
        Self { inner, cost, sessions, faults: Arc::default() }
    }

    /// Its controls.
    pub fn faults(&self) -> Arc<Faults> {
        Arc::clone(&self.faults)
    }
}

struct FaultyHandle {
    label: String,
    inner: Arc<dyn SignerHandle>,
    faults: Arc<Faults>,
}

impl FaultyHandle {
    /// The device does it, and counts it.
    fn really_sign(&self, input: SealInput<'_>, deadline: Instant) -> Result<Vec<u8>, SignerError> {
        let signed = self.inner.sign(input, deadline);
        if signed.is_ok() {
            self.faults.use_key(&self.label);
        }
        signed
    }
}

fn away(key_use: KeyUse) -> SignerError {
    SignerError::Unavailable { cause: "told to be away".to_owned(), key_use }
}

impl Backend for FaultyDevice {
    fn name(&self) -> &str {
        self.inner.name()
    }

    fn cost(&self) -> Cost {
        self.cost
    }

    fn sessions(&self) -> usize {
        self.sessions
    }

    fn open_key(
        &self,
        label: &str,
        algorithm: SignatureAlgorithm,
    ) -> Result<Arc<dyn SignerHandle>, SignerError> {
        if self.faults.is_absent() {
            return Err(away(KeyUse::None));
        }
        let inner = self.inner.open_key(label, algorithm)?;
        Ok(Arc::new(FaultyHandle { label: label.to_owned(), inner, faults: Arc::clone(&self.faults) }))
    }

    fn probe(&self, deadline: Instant) -> Result<(), SignerError> {
        match self.faults.next() {
            Fault::AwayBefore | Fault::AwayAfter | Fault::Absent => Err(away(KeyUse::None)),
            _ => self.inner.probe(deadline),
        }
    }

    fn algorithms(&self) -> &'static [SignatureAlgorithm] {
        self.inner.algorithms()
    }

    fn birth(&self, label: &str, algorithm: SignatureAlgorithm) -> Result<Birth, SignerError> {
        self.inner.birth(label, algorithm)
    }

    fn device_log(&self) -> Option<Arc<dyn DeviceLog>> {
        self.inner.device_log()
    }

    fn operation_counts(&self) -> Option<BTreeMap<String, u64>> {
        Some(self.faults.uses.lock().unwrap_or_else(PoisonError::into_inner).clone())
    }
}

impl SignerHandle for FaultyHandle {
    fn algorithm(&self) -> SignatureAlgorithm {
        self.inner.algorithm()
    }

    fn public_key(&self) -> Option<&PublicKey> {
        self.inner.public_key()
    }

    fn sign(&self, input: SealInput<'_>, deadline: Instant) -> Result<Vec<u8>, SignerError> {
        self.faults.asked.fetch_add(1, Ordering::AcqRel);
        self.faults.inside.fetch_add(1, Ordering::AcqRel);
        let _inside = Leave(&self.faults.inside);
        match self.faults.take() {
            Fault::None | Fault::Hang => self.really_sign(input, deadline),
            Fault::AwayBefore | Fault::Absent => Err(away(KeyUse::None)),
            Fault::AwayAfter => self.really_sign(input, deadline).and(Err(away(KeyUse::Unknown))),
            Fault::Panic => std::panic::resume_unwind(Box::new("told to panic")),
            Fault::WrongMessage => {
                let other = match input {
                    SealInput::Digest(Digest::Sha384(_)) => Digest::Sha384([0x5A; 48]),
                    SealInput::Digest(Digest::Sha512(_)) => Digest::Sha512([0x5A; 64]),
                    _ => Digest::Sha256([0x5A; 32]),
                };
                self.really_sign(SealInput::Digest(&other), deadline)
            }
            Fault::FlippedBit => self.really_sign(input, deadline).map(|mut signature| {
                if let Some(byte) = signature.last_mut() {
                    *byte ^= 1;
                }
                signature
            }),
            Fault::Empty => Ok(Vec::new()),
        }
    }
}

struct Leave<'a>(&'a AtomicUsize);

impl Drop for Leave<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}
