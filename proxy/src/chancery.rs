//! The assembled service: everything a request needs, in one place, shared by all.
//!
//! Built once by `daemon.rs`. What changes while it runs is swapped whole (policy, registry) or grows
//! (progress); the rest is immutable. It also counts the work under way: key uses and appends run as
//! tasks of their own, so that a caller who hangs up cannot cut them in half, and [`Chancery::idle`] waits
//! for them when the daemon drains.

mod checkpoints;
mod progress;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use bytes::Bytes;
use chancery_format::entry::CoSigner;
use chancery_format::ledger_keys::LedgerKeys;
use chancery_format::names::Purpose;
use chancery_format::registry::RegistryError;
use chancery_format::{
    Kid, PrincipalName, RequestId, Rung, SignatureAlgorithm, SignersRegistry, Timestamp, TreeSize,
};
use chancery_hsm::{KeyInfo, Keyring};
use chancery_identity::PolicyHook;
use chancery_ledger::{Clock, Heads, Roll};
use chancery_policy::KeyFacts;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

pub use self::checkpoints::RecentCheckpoints;
pub use self::progress::Progress;
use crate::admission::Admission;
use crate::admission::allowance::Allowances;
use crate::admission::authority::Authority;
use crate::admission::policy::Policy;
use crate::config::{BackendKind, ChainConfig, Intents, KeyConfig};
use crate::cose::CoseHeads;
use crate::dialects::{Dialect, Names};
use crate::governance::Governance;
use crate::halts::Halts;
use crate::limits::Limits;
use crate::problem::Problem;
use crate::refusals::Refusals;
use crate::telemetry::Metrics;

/// A key as requests see it: what the keyring opened, and what the operator decided about it.
#[derive(Debug, Clone)]
pub struct KeyEntry {
    /// What callers ask for.
    pub kid: Kid,
    /// The key pair.
    pub signer_kid: Kid,
    /// What the key does.
    pub algorithm: SignatureAlgorithm,
    /// What it is for.
    pub purpose: Purpose,
    /// For people.
    pub description: String,
    /// What must hold before a signature is released.
    pub release: Rung,
    /// Whether key uses are recorded before they happen.
    pub intents: Intents,
    /// How key uses of one batch are spread.
    pub lanes: Lanes,
    /// Whether it signs checkpoints, and so nothing else.
    pub is_ledger_key: bool,
    /// The public half as PEM; `None` for a MAC key.
    pub public_key_pem: Option<String>,
    /// The key that signs each digest beside it.
    pub co_signer: Option<CoSigner>,
    /// Whether digests may be anchored in its name.
    pub anchored: bool,
    /// The languages it may be used by; empty: all.
    pub dialects: Vec<Dialect>,
    /// What else dialects call it.
    pub aliases: Vec<String>,
}

/// How many key uses of one batch run at once, and where.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Lanes {
    /// Pure computing: one chunk per core, off the threads that serve connections.
    Cores,
    /// A device with this many sessions: two requests waiting for each.
    Sessions(usize),
}

impl Lanes {
    /// Key uses at once.
    pub fn width(self) -> usize {
        match self {
            Self::Cores => std::thread::available_parallelism().map_or(1, usize::from),
            Self::Sessions(sessions) => sessions.saturating_mul(2),
        }
    }
}

impl KeyEntry {
    /// Puts together what the keyring and the configuration say of one key.
    pub fn new(
        info: &KeyInfo,
        co_signer: Option<&KeyInfo>,
        config: &KeyConfig,
        backend: &BackendKind,
        is_ledger_key: bool,
    ) -> Self {
        let (intents, lanes) = match backend {
            BackendKind::Software { intents, .. } => (*intents, Lanes::Cores),
            BackendKind::Pkcs11 { sessions, .. }
            | BackendKind::AwsKms { sessions, .. }
            | BackendKind::YubiHsm { sessions, .. } => (Intents::Always, Lanes::Sessions(*sessions)),
        };
        Self {
            kid: info.kid.clone(),
            signer_kid: info.signer_kid.clone(),
            algorithm: info.algorithm,
            purpose: config.purpose.clone(),
            description: config.description.clone(),
            release: config.release,
            intents,
            lanes,
            is_ledger_key,
            public_key_pem: info.public_key.as_ref().map(|key| key.to_pem()),
            co_signer: co_signer.map(|second| CoSigner {
                kid: second.kid.clone(),
                signer_kid: second.signer_kid.clone(),
                algorithm: second.algorithm,
            }),
            anchored: config.anchored,
            dialects: config.dialects.clone(),
            aliases: config.aliases.clone(),
        }
    }
}

/// A version of `signers.json` as published, with its note.
#[derive(Debug)]
pub struct PublishedRegistry {
    /// Counted from 1.
    pub version: u64,
    /// The file's bytes.
    pub json: Bytes,
    /// The signed note over them.
    pub note: Bytes,
    /// What the bytes say.
    pub registry: SignersRegistry,
    /// The keys of the ledger's checkpoints, which it names.
    pub ledger_keys: LedgerKeys,
}

impl PublishedRegistry {
    /// Reads a version that was written or is about to be.
    pub fn read(version: u64, json: Vec<u8>, note: String) -> Result<Self, RegistryError> {
        let registry = SignersRegistry::parse(&json)?;
        let ledger_keys = registry.ledger_keys()?;
        Ok(Self { version, json: json.into(), note: note.into(), registry, ledger_keys })
    }
}

/// What `daemon.rs` brings together.
pub struct Parts {
    /// The ledger.
    pub roll: Roll,
    /// The keys.
    pub keyring: Arc<Keyring>,
    /// What is known of each key.
    pub keys: Vec<KeyEntry>,
    /// Who may do what.
    pub policy: Policy,
    /// How much of it.
    pub allowances: Allowances,
    /// What people decided so far.
    pub governance: Governance,
    /// What policies say.
    pub authority: Authority,
    /// Policy services, by the names policies use.
    pub hooks: BTreeMap<String, PolicyHook>,
    /// `signers.json` as it stands.
    pub registry: PublishedRegistry,
    /// Leaves under the latest recorded checkpoint.
    pub checkpointed: TreeSize,
    /// Leaves under a witnessed checkpoint.
    pub witnessed: TreeSize,
    /// Leaves in the archive.
    pub archived: TreeSize,
    /// The heads signed for COSE receipts, where those are switched on.
    pub cose: Option<CoseHeads>,
    /// Whether served checkpoints bear lines that nobody knows.
    pub grease: bool,
    /// Streams that are set to a dialect.
    pub chains: Vec<ChainConfig>,
    /// Keys that cosign as a witness, and do nothing else.
    pub witness_kids: Vec<Kid>,
    /// Every bound.
    pub limits: Limits,
    /// Where things are counted.
    pub metrics: Arc<Metrics>,
    /// Wall-clock time.
    pub clock: Arc<dyn Clock>,
    /// A random number of this process: the first half of request ids made here.
    pub request_id_prefix: u64,
}

/// The service.
pub struct Chancery {
    /// The ledger.
    pub roll: Roll,
    /// The keys.
    pub keyring: Arc<Keyring>,
    /// Who may do what, now.
    pub admission: Admission,
    /// How much of it.
    pub allowances: Allowances,
    /// What is halted.
    pub halts: Arc<Halts>,
    /// How many entries each stream and each key has.
    pub heads: Heads,
    /// What people decided.
    pub governance: Governance,
    /// What policies say.
    pub authority: Arc<Authority>,
    /// Policy services, by the names policies use.
    pub hooks: BTreeMap<String, PolicyHook>,
    /// Refusals on their way to the ledger.
    pub refusals: Refusals,
    /// Checkpoints and archive epochs.
    pub progress: Progress,
    /// The last of them, verified.
    pub checkpoints: RecentCheckpoints,
    /// The heads signed for COSE receipts, where those are switched on.
    pub cose: Option<CoseHeads>,
    /// Whether served checkpoints bear lines that nobody knows.
    pub grease: bool,
    /// `signers.json` as it stands.
    pub registry: ArcSwap<PublishedRegistry>,
    /// Every bound.
    pub limits: Limits,
    /// Where things are counted.
    pub metrics: Arc<Metrics>,
    /// Wall-clock time.
    pub clock: Arc<dyn Clock>,
    /// What dialects call the keys.
    pub(crate) names: Names,
    chains: Vec<ChainConfig>,
    witness_kids: Vec<Kid>,
    keys: ArcSwap<BTreeMap<Kid, Arc<KeyEntry>>>,
    slots: Arc<Semaphore>,
    started: Instant,
    request_id_prefix: u64,
    request_ids: AtomicU64,
}

/// A place among the requests under way; given back when its last copy is dropped.
#[derive(Debug, Clone)]
pub struct Slot(#[expect(dead_code, reason = "held for its Drop")] Arc<OwnedSemaphorePermit>);

impl Chancery {
    /// The service, open for requests.
    pub fn new(parts: Parts) -> Self {
        parts.authority.set_keys(parts.keys.iter().map(|key| facts(key, &parts.keyring)));
        let slots = parts.limits.requests_in_flight_max.min(Semaphore::MAX_PERMITS);
        Self {
            heads: Heads::new(parts.roll.clone()),
            roll: parts.roll,
            keyring: parts.keyring,
            admission: Admission::new(parts.policy),
            allowances: parts.allowances,
            halts: Arc::clone(parts.governance.halts()),
            governance: parts.governance,
            authority: Arc::new(parts.authority),
            hooks: parts.hooks,
            refusals: Refusals::new(parts.limits.refusals_queue_max),
            progress: Progress::new(parts.checkpointed, parts.witnessed, parts.archived),
            checkpoints: RecentCheckpoints::default(),
            cose: parts.cose,
            grease: parts.grease,
            registry: ArcSwap::from_pointee(parts.registry),
            metrics: parts.metrics,
            clock: parts.clock,
            names: Names::of(parts.keys.iter()),
            chains: parts.chains,
            witness_kids: parts.witness_kids,
            keys: ArcSwap::from_pointee(
                parts.keys.into_iter().map(|key| (key.kid.clone(), Arc::new(key))).collect(),
            ),
            slots: Arc::new(Semaphore::new(slots)),
            started: Instant::now(),
            request_id_prefix: parts.request_id_prefix,
            request_ids: AtomicU64::new(0),
            limits: parts.limits,
        }
    }

    /// What a stream is set to.
    pub(crate) fn chain(&self, stream: &str) -> Option<&ChainConfig> {
        self.chains.iter().find(|chain| chain.stream.as_str() == stream)
    }

    /// Whether any stream is set to a dialect; where none is, no appended leaf has to be read again.
    pub(crate) const fn has_chains(&self) -> bool {
        !self.chains.is_empty()
    }

    /// Whether a key is used by the appliance alone, in its own right: for the rows of a chain, or as a witness.
    pub(crate) fn is_nobodys(&self, kid: &Kid) -> bool {
        self.chains.iter().any(|chain| chain.kid == *kid) || self.witness_kids.contains(kid)
    }

    /// What is known of a key.
    pub fn key(&self, kid: &Kid) -> Option<Arc<KeyEntry>> {
        self.keys.load().get(kid).map(Arc::clone)
    }

    /// Every key, by name.
    pub fn keys(&self) -> Vec<Arc<KeyEntry>> {
        self.keys.load().values().map(Arc::clone).collect()
    }

    /// Puts another key pair behind a name. Requests under way keep the one they were admitted for.
    pub fn replace_key(&self, entry: KeyEntry) {
        let entry = Arc::new(entry);
        self.authority.set_keys([facts(&entry, &self.keyring)]);
        self.keys.rcu(|keys| {
            let mut keys = BTreeMap::clone(keys);
            keys.insert(entry.kid.clone(), Arc::clone(&entry));
            keys
        });
    }

    /// A place among the requests under way; `None` if all are taken.
    pub fn slot(&self) -> Option<Slot> {
        Arc::clone(&self.slots).try_acquire_owned().ok().map(|permit| Slot(Arc::new(permit)))
    }

    /// Waits until no request is under way; `false` if some still is after `at_most`. For the drain,
    /// after admission was closed.
    pub async fn idle(&self, at_most: Duration) -> bool {
        let all = u32::try_from(self.limits.requests_in_flight_max).unwrap_or(u32::MAX);
        matches!(tokio::time::timeout(at_most, self.slots.acquire_many(all)).await, Ok(Ok(_)))
    }

    /// Counts a problem, and puts it on the ledger's refusal record if it is a refusal.
    pub fn note_refusal(&self, problem: &Problem, principal: Option<&PrincipalName>) {
        self.metrics.refusal(problem.code().as_str());
        if problem.code().is_refusal() {
            self.refusals.note(problem.code(), principal, self.now());
        }
    }

    /// A request id no other request of any instance has: UUID version 8 (RFC 9562 §5.8).
    pub fn new_request_id(&self) -> RequestId {
        let (prefix, count) = (self.request_id_prefix, self.request_ids.fetch_add(1, Ordering::Relaxed));
        let text = format!(
            "{:08x}-{:04x}-8{:03x}-{:04x}-{:012x}",
            prefix >> 32,
            (prefix >> 16) & 0xffff,
            (prefix >> 4) & 0xfff,
            0x8000 | (prefix & 0xf) << 8 | (count >> 48) & 0xff,
            count & 0xffff_ffff_ffff,
        );
        text.parse().expect("hexadecimal digits and hyphens are a valid request id")
    }

    /// Nanoseconds since the service was assembled.
    pub fn monotonic_ns(&self) -> u64 {
        u64::try_from(self.started.elapsed().as_nanos()).unwrap_or(u64::MAX)
    }

    /// Wall-clock time.
    pub fn now(&self) -> Timestamp {
        self.clock.now()
    }
}

/// A key as policies see it.
fn facts(key: &KeyEntry, keyring: &Keyring) -> (Kid, KeyFacts) {
    let backend = keyring.lookup_signer(&key.signer_kid).map(|info| info.backend.clone());
    let facts = KeyFacts {
        algorithm: key.algorithm,
        purpose: key.purpose.as_str().to_owned(),
        backend: backend.unwrap_or_default(),
        is_ledger_key: key.is_ledger_key,
    };
    (key.kid.clone(), facts)
}

impl std::fmt::Debug for Chancery {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Chancery").field("keys", &self.keys.load().len()).finish_non_exhaustive()
    }
}
