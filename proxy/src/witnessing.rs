//! Having our checkpoints cosigned: a client of C2SP tlog-witness, for every witness of a policy.
//!
//! Promises: a checkpoint counts as witnessed when the policy's quorum is reached over it, by cosignatures verified
//! here, and the note with them is on disk. Signing waits for no witness unless its key asks for that rung; a witness
//! that is away, slow or wrong costs its own patience and nobody else's. One round is under way at a time.
//!
//! What a witness knows is asked of itself: we may have lost our memory, and it may be ahead of it after a round that
//! ended half-way. A witness that cosigned more than this ledger has is told loudly: an older disk was restored, or
//! somebody else signs with the ledger key.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use chancery_format::checkpoint::{CheckpointError, VerifiedCheckpoint};
use chancery_format::cosignature::{CosignedAt, CosignerKey};
use chancery_format::policy::{POLICY_BYTES_MAX, Policy, PolicyError, PolicyRefusal};
use chancery_format::witness::{AddCheckpoint, AnswerError, RequestError, WitnessAnswer};
use chancery_format::{Checkpoint, TreeSize};
use chancery_identity::outbound::{
    Outbound, OutboundConfig, OutboundConfigError, OutboundError, RemoteUrl, UrlError,
};
use chancery_ledger::{RollError, StoredCheckpoint};
use futures_util::future::join_all;
use tokio::sync::watch;

use crate::chancery::Chancery;
use crate::config::{Config, WitnessingConfig};
use crate::stop::stopped;

/// Requests of one round to one witness: to learn what it knows, once more because that moved on, and to spare.
const ATTEMPTS_MAX: u32 = 4;

/// Why nobody can be asked. The operator's to fix.
#[derive(Debug, thiserror::Error)]
pub enum WitnessingError {
    /// The policy cannot be read.
    #[error("{path}: {source}")]
    File {
        /// The file.
        path: String,
        /// What the system said.
        source: std::io::Error,
    },
    /// The policy is none.
    #[error("{path}: {source}")]
    Policy {
        /// The file.
        path: String,
        /// What is wrong with it.
        source: PolicyError,
    },
    /// A witness' URL cannot be called.
    #[error("the witness policy: {url}: {source}")]
    Url {
        /// As the policy has it.
        url: String,
        /// Why not.
        source: UrlError,
    },
    /// The policy names no witness with a URL, so that no quorum can be reached.
    #[error("the witness policy names no witness that can be asked: give each its URL")]
    NoWitness,
    /// The authorities cannot be read.
    #[error(transparent)]
    Outbound(#[from] OutboundConfigError),
}

impl WitnessingError {
    /// Whether the policy is simply not there.
    pub fn is_missing_file(&self) -> bool {
        matches!(self, Self::File { source, .. } if source.kind() == std::io::ErrorKind::NotFound)
    }
}

/// What went wrong with one witness in one round.
#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error("{0}")]
    Call(#[from] OutboundError),
    #[error("{0}")]
    Answer(#[from] AnswerError),
    #[error("{0}")]
    Roll(#[from] RollError),
    #[error("{0}")]
    Request(#[from] RequestError),
    #[error("answered {0:?}")]
    Refused(WitnessAnswer),
    #[error("kept answering with other sizes")]
    Restless,
    #[error("cosigned {0} entries, which come with the next checkpoint")]
    Ahead(TreeSize),
    #[error(
        "says that it cosigned {witnessed} entries, this ledger has only {ours}: an older disk was restored, or somebody \
         else signs with the ledger key"
    )]
    Beyond { witnessed: TreeSize, ours: TreeSize },
    #[error("holds another tree under our name than this ledger: two histories were signed, or it is wrong")]
    Contradicts,
}

impl Failure {
    /// Whether somebody must look into it: not the network, but one of the two histories.
    const fn is_alarming(&self) -> bool {
        matches!(self, Self::Beyond { .. } | Self::Contradicts)
    }
}

/// Why a round did not end with a witnessed checkpoint.
#[derive(Debug, thiserror::Error)]
enum RoundError {
    #[error("{0}")]
    Roll(#[from] RollError),
    #[error("the recorded checkpoint: {0}")]
    Checkpoint(#[from] CheckpointError),
    #[error("{refusal} ({cosigned} of {asked} witnesses answered)")]
    Policy { refusal: PolicyRefusal, cosigned: usize, asked: usize },
}

/// One place to ask, with the keys it cosigns with.
#[derive(Debug)]
struct Remote {
    url: RemoteUrl,
    shown: String,
    keys: Vec<CosignerKey>,
    /// What it cosigned last, as far as we know.
    known: AtomicU64,
}

/// Asks witnesses; one per daemon.
#[derive(Debug)]
pub struct Witnessing {
    chancery: Arc<Chancery>,
    policy: Policy,
    remotes: Vec<Remote>,
    outbound: Outbound,
    interval: Duration,
    timeout: Duration,
    state: Arc<WitnessWatch>,
}

/// How witnessing goes, for those who report.
#[derive(Debug, Default)]
pub struct WitnessWatch {
    failures: AtomicU64,
    alarm: Mutex<Option<String>>,
    last: Mutex<Option<String>>,
}

impl WitnessWatch {
    /// Rounds in a row that reached no quorum.
    pub fn failures(&self) -> u64 {
        self.failures.load(Ordering::Relaxed)
    }

    /// What a witness said of another history than ours, since the daemon's start.
    pub fn alarm(&self) -> Option<String> {
        self.alarm.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Why the last round reached no quorum.
    pub fn failure(&self) -> Option<String> {
        self.last.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn note(&self, failure: Option<String>) {
        match failure {
            None => self.failures.store(0, Ordering::Relaxed),
            Some(_) => drop(self.failures.fetch_add(1, Ordering::Relaxed)),
        }
        *self.last.lock().unwrap_or_else(PoisonError::into_inner) = failure;
    }

    fn raise(&self, alarm: String) {
        let mut known = self.alarm.lock().unwrap_or_else(PoisonError::into_inner);
        if known.as_ref() != Some(&alarm) {
            tracing::error!(alarm, "a witness contradicts this ledger");
            *known = Some(alarm);
        }
    }
}

impl Witnessing {
    /// Reads the policy and the authorities. Nobody is asked yet.
    pub fn open(chancery: Arc<Chancery>, config: &WitnessingConfig) -> Result<Self, WitnessingError> {
        let policy = read_policy(config)?;
        let outbound = Outbound::new(&OutboundConfig {
            ca_file: config.ca_file.clone(),
            connect_timeout: config.timeout,
            total_timeout: config.timeout,
        })?;
        let remotes = remotes(&policy)?;
        if remotes.is_empty() {
            return Err(WitnessingError::NoWitness);
        }
        let (interval, timeout) = (config.interval, config.timeout);
        Ok(Self { chancery, policy, remotes, outbound, interval, timeout, state: Arc::default() })
    }

    /// What to report from.
    pub fn watch(&self) -> Arc<WitnessWatch> {
        Arc::clone(&self.state)
    }

    /// Runs until `stop`: on the cadence, and at once when somebody waits for the rung.
    pub async fn run(self, mut stop: watch::Receiver<bool>) {
        let mut tick = tokio::time::interval(self.interval);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                () = stopped(&mut stop) => return,
                _ = tick.tick() => {}
                // After a failure only the cadence asks again, so that waiters cannot hammer a witness.
                () = self.chancery.progress.witnessing_wanted(), if self.state.failures() == 0 => {}
            }
            tokio::select! {
                () = stopped(&mut stop) => return,
                () = self.attempt() => {}
            }
        }
    }

    async fn attempt(&self) {
        match self.round().await {
            Ok(size) => {
                if self.state.failures() > 0 {
                    tracing::warn!(%size, "checkpoints are cosigned again");
                }
                self.state.note(None);
            }
            Err(error) => {
                if self.state.failures() == 0 {
                    tracing::error!(%error, "the newest checkpoint is not witnessed; asking again on the cadence");
                }
                self.chancery.metrics.witnessing_failed();
                self.state.note(Some(error.to_string()));
            }
        }
    }

    /// Has the newest checkpoint cosigned, unless it is; the size that is witnessed then.
    async fn round(&self) -> Result<TreeSize, RoundError> {
        let chancery = &self.chancery;
        let witnessed = chancery.progress.witnessed_size();
        let Some(newest) = chancery.roll.latest_checkpoint().filter(|newest| newest.size > witnessed) else {
            return Ok(witnessed);
        };
        let keys = chancery.registry.load().ledger_keys.clone();
        let verified = keys.verify(&newest.note)?;
        let asked = self.remotes.iter().map(|remote| self.ask(remote, &newest, verified.checkpoint()));
        let lines: Vec<String> = join_all(asked).await.into_iter().flatten().collect();
        let note = format!("{}{}", newest.note, lines.concat());
        let cosigned = keys.verify(&note)?;
        let refused =
            |refusal| RoundError::Policy { refusal, cosigned: lines.len(), asked: self.remotes.len() };
        let judged = self.policy.judge(cosigned, self.now()).map_err(refused)?;
        let accepted: VerifiedCheckpoint = judged.into_accepted().map_err(refused)?;
        chancery.roll.record_witnessed(accepted).await?;
        chancery.progress.witnessed(newest.size);
        Ok(newest.size)
    }

    /// Cosignatures of later times do not count; a witness' clock may be ahead of ours by this much.
    fn now(&self) -> Option<CosignedAt> {
        const SKEW_S: u64 = 300;
        CosignedAt::new(CosignedAt::from(self.chancery.now()).seconds().saturating_add(SKEW_S))
    }

    /// The lines of one witness, if it gives any.
    async fn ask(
        &self,
        remote: &Remote,
        newest: &StoredCheckpoint,
        checkpoint: &Checkpoint,
    ) -> Option<String> {
        let conversation = self.converse(remote, newest, checkpoint);
        let answer = match tokio::time::timeout(self.timeout, conversation).await {
            Ok(answer) => answer,
            Err(_) => Err(OutboundError::Timeout(self.timeout).into()),
        };
        match answer {
            Ok(lines) => Some(lines),
            Err(failure) => {
                if failure.is_alarming() {
                    self.state.raise(format!("{} {failure}", remote.shown));
                }
                tracing::warn!(witness = remote.shown, %failure, "a witness did not cosign");
                None
            }
        }
    }

    async fn converse(
        &self,
        remote: &Remote,
        newest: &StoredCheckpoint,
        checkpoint: &Checkpoint,
    ) -> Result<String, Failure> {
        let roll = &self.chancery.roll;
        for _ in 0..ATTEMPTS_MAX {
            let old = TreeSize(remote.known.load(Ordering::Relaxed));
            if old > newest.size {
                let ours = roll.head().head().size;
                return Err(match old > ours {
                    true => Failure::Beyond { witnessed: old, ours },
                    false => Failure::Ahead(old),
                });
            }
            let proof = roll.consistency_proof(old, newest.size).await?;
            let request = AddCheckpoint::new(old, proof, &newest.note)?;
            let reply = self.outbound.post_text(&remote.url, request.to_body()).await?;
            match WitnessAnswer::read(reply.status, reply.body(), checkpoint, &remote.keys)? {
                WitnessAnswer::Cosigned(lines) => {
                    remote.known.store(newest.size.0, Ordering::Relaxed);
                    return Ok(lines.into_iter().map(|(_, line)| line).collect());
                }
                WitnessAnswer::Stale(size) if size == old => return Err(Failure::Contradicts),
                WitnessAnswer::Stale(size) => remote.known.store(size.0, Ordering::Relaxed),
                WitnessAnswer::Conflict | WitnessAnswer::Inconsistent => return Err(Failure::Contradicts),
                other => return Err(Failure::Refused(other)),
            }
        }
        Err(Failure::Restless)
    }
}

/// The configured policy; one without witnesses if none is configured.
pub fn configured_policy(config: &Config) -> Result<Policy, WitnessingError> {
    config.witnessing.as_ref().map_or_else(|| Ok(Policy::default()), read_policy)
}

/// The policy file, within its bound.
pub fn read_policy(config: &WitnessingConfig) -> Result<Policy, WitnessingError> {
    use std::io::Read as _;
    let path = config.policy_file.display().to_string();
    let mut bytes = Vec::new();
    let read = std::fs::File::open(&config.policy_file)
        .and_then(|file| file.take(POLICY_BYTES_MAX as u64 + 1).read_to_end(&mut bytes));
    read.map_err(|source| WitnessingError::File { path: path.clone(), source })?;
    Policy::parse(&bytes).map_err(|source| WitnessingError::Policy { path, source })
}

/// Witnesses by where they are asked: one place may cosign with several keys.
fn remotes(policy: &Policy) -> Result<Vec<Remote>, WitnessingError> {
    let mut remotes: Vec<Remote> = Vec::new();
    for witness in policy.witnesses() {
        let Some(url) = &witness.url else { continue };
        let shown = String::from_utf8_lossy(url).into_owned();
        if let Some(known) = remotes.iter_mut().find(|remote| remote.shown == shown) {
            known.keys.push(witness.key.clone());
            continue;
        }
        let call = format!("{}/add-checkpoint", shown.trim_end_matches('/'));
        let url = call.parse().map_err(|source| WitnessingError::Url { url: call, source })?;
        remotes.push(Remote { url, shown, keys: vec![witness.key.clone()], known: AtomicU64::new(0) });
    }
    Ok(remotes)
}
