//! Building a keyring: every mistake is found before the first request, and all are named at once.

use std::collections::HashSet;
use std::fmt;
use std::sync::{Arc, Mutex};

use arc_swap::ArcSwap;
use chancery_format::{Kid, PublicKey, SignatureAlgorithm};

use crate::birth::Birth;
use crate::keyring::{Key, KeyInfo, Keyring};
use crate::kill_switch::KillSwitch;
use crate::lazy::LazyHandle;
use crate::self_check::{SelfCheck, Together};
use crate::shelf::Shelf;
use crate::signer::{Backend, Cost, SignerError, SignerHandle};
use crate::switched::{KeySwitches, SwitchedHandle};
use crate::workers::Lane;

/// Default for how many requests may wait for one backend: with the slowest devices seen (12 signatures
/// per second) more than this could not be served before any sensible deadline.
pub const QUEUE_MAX: usize = 256;

/// One key as configured.
#[derive(Debug, Clone)]
pub struct KeySpec {
    /// The name callers use.
    pub kid: Kid,
    /// The key pair's own name; must change whenever the key does.
    pub signer_kid: Kid,
    /// Name of the backend that holds it.
    pub backend: String,
    /// What the backend calls it.
    pub label: String,
    /// What it does.
    pub algorithm: SignatureAlgorithm,
    /// What it is for; published.
    pub purpose: String,
    /// Free text; published.
    pub description: String,
    /// Whether a key was registered under `signer_kid` before. The device must hold this very key.
    pub registered: Registered,
}

/// What was published of a key pair before this start.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Registered {
    /// Nothing: its public key is read from the device, which is asked for its birth.
    No,
    /// This public key; `None` for a MAC key. The device may be opened later.
    Yes(Option<Box<PublicKey>>),
}

/// Most keys of a ring that are opened at start although they are registered. Above it, opening them would
/// take longer than a restart may; each is then opened, and compared, when it is first used.
pub const OPENED_AT_START_MAX: usize = 256;

/// Why a keyring was not built. The operator's to fix; no key was used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum KeyringError {
    /// Two keys answer to one `kid`.
    #[error("key \"{0}\" is configured twice")]
    DuplicateKid(Kid),
    /// Two keys claim one `signer_kid`.
    #[error("signer_kid \"{0}\" is configured twice; each key pair needs its own")]
    DuplicateSignerKid(Kid),
    /// Two backends have one name.
    #[error("backend \"{0}\" is configured twice")]
    DuplicateBackend(String),
    /// A key names a backend that is not there.
    #[error("key \"{kid}\" names backend \"{backend}\", which is not configured")]
    UnknownBackend {
        /// The key.
        kid: Kid,
        /// The name it gave.
        backend: String,
    },
    /// Keys of that backend cannot have that algorithm.
    #[error(
        "key \"{kid}\": backend \"{backend}\" has no {algorithm} keys; it has {}",
        .offered.iter().map(|it| it.as_str()).collect::<Vec<_>>().join(", ")
    )]
    AlgorithmNotOffered {
        /// The key.
        kid: Kid,
        /// Its backend.
        backend: String,
        /// As configured.
        algorithm: SignatureAlgorithm,
        /// What there is.
        offered: &'static [SignatureAlgorithm],
    },
    /// The backend could not open the key.
    #[error("key \"{kid}\": {source}")]
    Open {
        /// The key.
        kid: Kid,
        /// What the backend said.
        source: SignerError,
    },
    /// The device's key is not of the configured algorithm, or gave no usable public key.
    #[error("key \"{kid}\": the backend's key is not a usable {algorithm} key")]
    Algorithm {
        /// The key.
        kid: Kid,
        /// As configured.
        algorithm: SignatureAlgorithm,
    },
    /// The device holds another key than the registry knows under this `signer_kid`.
    #[error(
        "key \"{kid}\": the backend holds another public key than the one registered as \
         \"{signer_kid}\"; a new key needs a new signer_kid"
    )]
    PublicKeyMismatch {
        /// The key.
        kid: Kid,
        /// The registered name.
        signer_kid: Kid,
    },
    /// The ledger key is not among the keys, or is not Ed25519.
    #[error("the ledger's signing key \"{0}\" must be a configured ed25519 key")]
    LedgerKey(Kid),
    /// The ledger's second key is not among the keys, or is not ML-DSA-44.
    #[error("the ledger's second signing key \"{0}\" must be a configured ml-dsa-44 key")]
    SecondLedgerKey(Kid),
    /// The system gave no thread.
    #[error("cannot start worker threads for backend \"{0}\"")]
    Threads(String),
}

/// Every reason at once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyringErrors(pub Vec<KeyringError>);

impl fmt::Display for KeyringErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (position, error) in self.0.iter().enumerate() {
            let separator = if position == 0 { "" } else { "\n" };
            write!(f, "{separator}{error}")?;
        }
        Ok(())
    }
}

impl std::error::Error for KeyringErrors {}

/// Collects backends and keys; see [`Keyring::builder`].
#[must_use]
pub struct KeyringBuilder {
    backends: Vec<(Arc<dyn Backend>, usize)>,
    keys: Vec<KeySpec>,
    ledger_kid: Option<Kid>,
    second_kid: Option<Kid>,
    switch: Arc<KillSwitch>,
}

impl KeyringBuilder {
    pub(crate) fn new() -> Self {
        Self {
            backends: Vec::new(),
            keys: Vec::new(),
            ledger_kid: None,
            second_kid: None,
            switch: Arc::default(),
        }
    }

    /// Adds a backend whose queue holds [`QUEUE_MAX`] requests.
    pub fn backend(self, backend: Arc<dyn Backend>) -> Self {
        self.backend_with_queue(backend, QUEUE_MAX)
    }

    /// Adds a backend; `queue_max` requests may wait for it, beyond which they are refused.
    pub fn backend_with_queue(mut self, backend: Arc<dyn Backend>, queue_max: usize) -> Self {
        self.backends.push((backend, queue_max));
        self
    }

    /// Adds a key.
    pub fn key(mut self, spec: KeySpec) -> Self {
        self.keys.push(spec);
        self
    }

    /// Names the key that signs checkpoints, and nothing else from now on.
    pub fn ledger_key(mut self, kid: Kid) -> Self {
        self.ledger_kid = Some(kid);
        self
    }

    /// Names the key that signs checkpoints beside it, and nothing else from now on.
    pub fn second_ledger_key(mut self, kid: Option<Kid>) -> Self {
        self.second_kid = kid;
        self
    }

    /// Uses a switch that someone else holds too.
    pub fn kill_switch(mut self, switch: Arc<KillSwitch>) -> Self {
        self.switch = switch;
        self
    }

    /// Opens every key and starts the threads.
    pub fn build(self) -> Result<Keyring, KeyringErrors> {
        let mut errors = Vec::new();
        let lanes = start_lanes(self.backends, &self.switch, &mut errors);
        let mut shelf = Shelf::default();
        let at_once = self.keys.len() <= OPENED_AT_START_MAX;
        for spec in self.keys {
            match check_names(&shelf, &spec).and_then(|()| open_key(&lanes, spec, at_once)) {
                Ok(key) => shelf.put(Arc::new(key), true),
                Err(error) => errors.push(error),
            }
        }
        let find = |kid: &Kid, algorithm| {
            shelf.by_kid.get(kid).filter(|key| key.info.algorithm == algorithm).map(Arc::clone)
        };
        let ledger = self
            .ledger_kid
            .map(|kid| find(&kid, SignatureAlgorithm::Ed25519).ok_or(KeyringError::LedgerKey(kid)));
        let second = self
            .second_kid
            .map(|kid| find(&kid, SignatureAlgorithm::MlDsa44).ok_or(KeyringError::SecondLedgerKey(kid)));
        let mut found = |key: Option<Result<Arc<Key>, KeyringError>>| {
            key.and_then(|key| key.map_err(|error| errors.push(error)).ok())
        };
        (shelf.ledger, shelf.second) = (found(ledger), found(second));
        if !errors.is_empty() {
            return Err(KeyringErrors(errors));
        }
        let shelf = ArcSwap::from_pointee(shelf);
        Ok(Keyring { shelf, lanes, switch: self.switch, changing: Mutex::new(()) })
    }
}

fn start_lanes(
    backends: Vec<(Arc<dyn Backend>, usize)>,
    switch: &Arc<KillSwitch>,
    errors: &mut Vec<KeyringError>,
) -> Vec<Arc<Lane>> {
    let mut names = HashSet::new();
    let mut lanes = Vec::with_capacity(backends.len());
    for (backend, queue_max) in backends {
        let name = backend.name().to_owned();
        if !names.insert(name.clone()) {
            errors.push(KeyringError::DuplicateBackend(name));
            continue;
        }
        match Lane::start(backend, Arc::clone(switch), queue_max) {
            Ok(lane) => lanes.push(Arc::new(lane)),
            Err(_) => errors.push(KeyringError::Threads(name)),
        }
    }
    lanes
}

fn check_names(shelf: &Shelf, spec: &KeySpec) -> Result<(), KeyringError> {
    if shelf.by_kid.contains_key(&spec.kid) {
        return Err(KeyringError::DuplicateKid(spec.kid.clone()));
    }
    if shelf.by_signer_kid.contains_key(&spec.signer_kid) {
        return Err(KeyringError::DuplicateSignerKid(spec.signer_kid.clone()));
    }
    Ok(())
}

/// Opens one key on the lane of its backend, behind switches of its own.
pub(crate) fn open_key(lanes: &[Arc<Lane>], spec: KeySpec, at_once: bool) -> Result<Key, KeyringError> {
    let lane = lanes.iter().find(|lane| lane.backend.name() == spec.backend);
    let Some(lane) = lane.map(Arc::clone) else {
        return Err(KeyringError::UnknownBackend { kid: spec.kid, backend: spec.backend });
    };
    let offered = lane.backend.algorithms();
    if !offered.contains(&spec.algorithm) {
        return Err(KeyringError::AlgorithmNotOffered {
            kid: spec.kid,
            backend: spec.backend,
            algorithm: spec.algorithm,
            offered,
        });
    }
    let (handle, birth) = open(&lane, &spec, at_once)?;
    let check = check_key(&spec, handle.as_ref())?;
    let info = KeyInfo {
        kid: spec.kid,
        signer_kid: spec.signer_kid,
        algorithm: spec.algorithm,
        purpose: spec.purpose,
        description: spec.description,
        backend: spec.backend,
        public_key: handle.public_key().cloned(),
        label: spec.label,
        birth,
    };
    let switches = KeySwitches::default();
    let in_process = lane.backend.cost() == Cost::Inline;
    let raw = info.public_key.as_ref().filter(|_| in_process).and_then(PublicKey::ed25519_raw);
    Ok(Key {
        info: Arc::new(info),
        handle: Arc::new(SwitchedHandle::new(handle, switches.clone())),
        lane,
        check,
        together: raw.and_then(Together::new),
        switches,
    })
}

/// Opens a key now, or leaves that to its first use: if it is registered and either there are too many, or
/// its device is away at the moment.
fn open(lane: &Lane, spec: &KeySpec, at_once: bool) -> Result<(Arc<dyn SignerHandle>, Birth), KeyringError> {
    let failed = |source| KeyringError::Open { kid: spec.kid.clone(), source };
    let later = |public: &Option<Box<PublicKey>>| -> Arc<dyn SignerHandle> {
        let backend = Arc::clone(&lane.backend);
        Arc::new(LazyHandle::new(backend, spec.label.clone(), spec.algorithm, public.as_deref().cloned()))
    };
    match &spec.registered {
        Registered::No => {
            let handle = lane.backend.open_key(&spec.label, spec.algorithm).map_err(failed)?;
            let birth = lane.backend.birth(&spec.label, spec.algorithm).map_err(failed)?;
            Ok((handle, birth))
        }
        Registered::Yes(public) if !at_once => Ok((later(public), Birth::default())),
        Registered::Yes(public) => match lane.backend.open_key(&spec.label, spec.algorithm) {
            Ok(handle) => Ok((handle, Birth::default())),
            Err(error @ SignerError::Unavailable { .. }) => {
                tracing::warn!(kid = %spec.kid, %error, "the key's device is away; it is opened when it is back");
                Ok((later(public), Birth::default()))
            }
            Err(error) => Err(failed(error)),
        },
    }
}

/// The device's key must be of the configured kind and, if one was registered, the registered one.
fn check_key(spec: &KeySpec, handle: &dyn SignerHandle) -> Result<Option<SelfCheck>, KeyringError> {
    let wrong = || KeyringError::Algorithm { kid: spec.kid.clone(), algorithm: spec.algorithm };
    let found = handle.public_key();
    if handle.algorithm() != spec.algorithm || found.is_none() != spec.algorithm.is_mac() {
        return Err(wrong());
    }
    if matches!(&spec.registered, Registered::Yes(public) if public.as_deref() != found) {
        return Err(KeyringError::PublicKeyMismatch {
            kid: spec.kid.clone(),
            signer_kid: spec.signer_kid.clone(),
        });
    }
    found.map(|key| SelfCheck::new(spec.algorithm, key).map_err(|_| wrong())).transpose()
}
