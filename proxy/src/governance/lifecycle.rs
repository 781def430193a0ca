//! A key's later life: replaced, retired, given up for lost. Each step is an entry before the next begins, so a
//! crash between two is taken up where it happened, and none is done twice.
//!
//! | step of a rotation | on the ledger | then |
//! |---|---|---|
//! | requested | `signer.rotation.requested` | the new key is published as staged, archived, and tried |
//! | tested | `signer.testing`, `signer.tested` | the old key signs the hand-over, if it can |
//! | applied | `signer.activated`, `signer.rotation.applied` | published, then the name goes over in one step |
//! | retired | `signer.retired` | when the overlap is over |
//!
//! Nobody is refused because of a rotation: what was admitted for the old key is signed by the old key, which
//! stays valid until it is retired.

mod compromise;
mod patience;
mod rotation;

use std::collections::HashSet;
use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use chancery_format::governance::{
    Act, Closed, Event, Executed, Fault, Proposal, ProposalStatus, RotationStep, State,
};
use chancery_format::log_key::LogKey;
use chancery_format::{Kid, Timestamp};
use chancery_hsm::{KeyringError, Registered, SignerError};
use tokio::sync::Mutex;

use self::patience::Patience;
use super::GovernanceError;
use crate::chancery::{Chancery, KeyEntry};
use crate::config::{Config, KeyConfig};
use crate::daemon::backends;
use crate::leaves::LeavesError;
use crate::problem::Problem;
use crate::registry_publisher::{self, PublishError};
use crate::signing::pending;

pub use compromise::{CompromiseAsk, Since, Suspects};
pub use rotation::RotateAsk;

/// Time between two looks at what is due: rotations a failure left half way, overlaps that are over.
const LOOK: Duration = Duration::from_secs(1);

/// Longest wait for the archive to hold a version of the registry before its key is tried.
const ARCHIVE_WAIT: Duration = Duration::from_secs(60);

/// Why a step was not done. What was enrolled stands; the step is tried again or asked for again.
#[derive(Debug, thiserror::Error)]
pub enum LifecycleError {
    /// A rule says no, or the ledger does.
    #[error(transparent)]
    Governance(#[from] GovernanceError),
    /// The registry could not be published.
    #[error("signers registry: {0}")]
    Publish(#[from] PublishError),
    /// The new key could not be opened. Whoever named it is at fault, or its device.
    #[error(transparent)]
    Open(#[from] KeyringError),
    /// The key could not be used.
    #[error("{0}")]
    Key(#[from] SignerError),
    /// There is no such name. The caller is at fault.
    #[error("there is no key {0}")]
    UnknownKey(Kid),
    /// The key pair is not one that can be retired or given up.
    #[error("{0}")]
    WrongState(String),
    /// The archive does not take the registry in time.
    #[error("the archive does not hold the registry's new version yet")]
    ArchiveBehind,
    /// The signature over the hand-over failed.
    #[error("{0}")]
    HandOver(String),
    /// A signature that was approved is not made: halted, denied, its device away.
    #[error("{}", .0.detail())]
    Refused(Box<Problem>),
    /// A task died. Ours.
    #[error("a task died")]
    Died,
}

impl From<Fault> for LifecycleError {
    fn from(fault: Fault) -> Self {
        Self::Governance(fault.into())
    }
}

/// Something that is due.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Step {
    /// A request nobody agreed to in time.
    Expire(String),
    /// A request whose last voice was heard, and no more.
    Complete(String),
    /// A request that was approved.
    CarryOut(String),
    /// A rotation that was begun.
    Advance(String),
    /// A key pair whose overlap is over.
    Retire(Kid),
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Expire(id) => write!(f, "expire request {id}"),
            Self::Complete(id) => write!(f, "execute request {id}"),
            Self::CarryOut(id) => write!(f, "carry out request {id}"),
            Self::Advance(id) => write!(f, "advance {id}"),
            Self::Retire(signer_kid) => write!(f, "retire {signer_kid}"),
        }
    }
}

/// Keeps keys through their lives; one per daemon.
pub struct Lifecycle {
    pub(super) chancery: Arc<Chancery>,
    config: Config,
    /// Held by whoever changes the registry or a key's state.
    changing: Mutex<()>,
}

impl Lifecycle {
    /// For the daemon that runs under `config`.
    pub fn new(chancery: Arc<Chancery>, config: &Config) -> Self {
        Self { chancery, config: config.clone(), changing: Mutex::new(()) }
    }

    /// Takes up what is due, until `stop`.
    pub async fn run(self: Arc<Self>, mut stop: tokio::sync::watch::Receiver<bool>) {
        let mut tick = tokio::time::interval(LOOK);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut patience = Patience::default();
        loop {
            tokio::select! {
                () = crate::stop::stopped(&mut stop) => return,
                _ = tick.tick() => self.look(&mut patience).await,
            }
        }
    }

    /// One look at everything that is due. What fails is tried again, and holds up nothing else.
    async fn look(&self, patience: &mut Patience) {
        let mut due = HashSet::new();
        for step in self.due() {
            let name = step.to_string();
            if patience.allows(&name, Instant::now()) {
                match self.take(&step).await {
                    Ok(()) => patience.done(&name),
                    Err(error) if patience.failed(&name, Instant::now()) => {
                        tracing::error!(%step, %error, "a step could not be done; trying again");
                    }
                    Err(error) => tracing::debug!(%step, %error, "a step is still due"),
                }
            }
            due.insert(name);
        }
        patience.keep(&due);
    }

    /// What is due now: what ends by itself first, then what was approved, then rotations under way, then key pairs
    /// whose overlap is over.
    fn due(&self) -> Vec<Step> {
        let (state, now) = (self.chancery.governance.state(), self.chancery.now());
        let of = |wanted: fn(&Proposal, Timestamp) -> bool| {
            let wanted = state.proposals.iter().filter(move |(_, it)| wanted(it, now));
            wanted.map(|(id, _)| id.clone())
        };
        let expired = of(|it, now| it.status == ProposalStatus::Open && it.requested.expires_ts <= now);
        let approved = of(|it, _| it.status == ProposalStatus::Executed && !it.used);
        let halfway = state.rotations.iter().filter(|(_, it)| it.step < RotationStep::Applied);
        let open = state.proposals.iter().filter(|(_, it)| it.status == ProposalStatus::Open);
        let complete = open.filter(|(_, it)| state.has_quorum(it) && it.requested.expires_ts > now);
        let complete = complete.map(|(id, _)| Step::Complete(id.clone()));
        let mut due: Vec<_> = expired.map(Step::Expire).chain(complete).collect();
        due.extend(approved.map(Step::CarryOut));
        due.extend(halfway.map(|(id, _)| Step::Advance(id.clone())));
        due.extend(self.overlaps_over(&state, now).map(Step::Retire));
        due
    }

    async fn take(&self, step: &Step) -> Result<(), LifecycleError> {
        match step {
            Step::Expire(id) => self.expire(id).await,
            Step::Complete(id) => self.complete(id).await,
            Step::CarryOut(id) => self.carry_out(id).await,
            Step::Advance(id) => self.advance_rotation(id).await,
            Step::Retire(signer_kid) => self.retire(signer_kid).await,
        }
    }

    /// Executes a request whose quorum is complete, and does what it allows. Whoever completes it calls this; two who
    /// come at once, or a crash before the second entry, find it done or do it.
    pub async fn complete(&self, id: &str) -> Result<(), LifecycleError> {
        let executed = |state: &State, _| {
            let open = state.proposals.get(id).filter(|it| it.status == ProposalStatus::Open);
            let proposal = open.ok_or_else(|| Fault::NotOpen(id.to_owned()))?;
            Ok(Event::Executed(Executed {
                id: id.to_owned(),
                act_sha256: proposal.requested.act_sha256.clone(),
                approvals: state.counting(proposal),
            }))
        };
        match self.chancery.governance.act(executed).await {
            Ok(_) => self.carry_out(id).await,
            Err(GovernanceError::Fault(Fault::NoQuorum { .. } | Fault::NotOpen(_))) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// Does what an executed request allows, once: whoever comes second finds it done.
    pub async fn carry_out(&self, id: &str) -> Result<(), LifecycleError> {
        let state = self.chancery.governance.state();
        let Some(proposal) = state.proposals.get(id).filter(|it| !it.used) else { return Ok(()) };
        let done = self.act(proposal).await;
        let state = self.chancery.governance.state();
        let used = state.proposals.get(id).is_some_and(|proposal| proposal.used);
        if used { Ok(()) } else { done }
    }

    async fn act(&self, proposal: &Proposal) -> Result<(), LifecycleError> {
        let requested = &proposal.requested;
        let (by, approval) = (requested.by.clone(), Some(requested.id.clone()));
        match &requested.act {
            Act::Resume { scope } => {
                self.chancery.governance.resume(scope.clone(), "admin", Some(by), approval).await?;
                self.chancery.metrics.halted(self.chancery.halts.is_global());
            }
            act @ Act::Rotate { .. } => {
                let rotation = format!("rotation-{}", requested.id);
                self.begin_rotation(rotation, act, by, requested.reason.clone(), approval).await?;
            }
            Act::Sign { .. } => {
                let carried = pending::carry_out(&self.chancery, proposal).await;
                carried.map_err(|problem| LifecycleError::Refused(Box::new(problem)))?;
            }
        }
        Ok(())
    }

    async fn expire(&self, id: &str) -> Result<(), LifecycleError> {
        match self.chancery.governance.record(Event::Expired(Closed { id: id.to_owned() })).await {
            // Somebody closed it meanwhile, or the ledger's clock is behind ours.
            Ok(_) | Err(GovernanceError::Fault(_)) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    fn configured(&self, kid: &Kid) -> Result<&KeyConfig, LifecycleError> {
        let found = self.config.keys.iter().find(|key| key.kid == *kid);
        found.ok_or_else(|| LifecycleError::UnknownKey(kid.clone()))
    }

    /// Opens a key pair unless it is open. Talks to a device.
    async fn open(&self, key: &KeyConfig) -> Result<(), LifecycleError> {
        let ring = Arc::clone(&self.chancery.keyring);
        if ring.lookup_signer(&key.signer_kid).is_some() {
            return Ok(());
        }
        let published = self.chancery.registry.load_full();
        let registered = match published.registry.signer(key.signer_kid.as_str()) {
            Some(record) => Registered::Yes(record.public_key().map_err(PublishError::from)?.map(Box::new)),
            None => Registered::No,
        };
        let spec = backends::spec(key, registered);
        let opened = tokio::task::spawn_blocking(move || ring.add(spec)).await;
        opened.map_err(|_| LifecycleError::Died)??;
        self.chancery.halts.halt_new_keys(&self.chancery.keyring);
        Ok(())
    }

    /// Publishes the records as `change` leaves them, and serves them.
    async fn republish(
        &self,
        change: impl FnOnce(&mut Vec<chancery_format::registry::SignerRecord>),
    ) -> Result<chancery_format::LeafIndex, LifecycleError> {
        self.republish_with(None, change).await
    }

    /// The same with another key that is to sign checkpoints.
    async fn republish_with(
        &self,
        to_come: Option<LogKey>,
        change: impl FnOnce(&mut Vec<chancery_format::registry::SignerRecord>),
    ) -> Result<chancery_format::LeafIndex, LifecycleError> {
        let chancery = &self.chancery;
        let file = &self.config.ledger.signers_file;
        let revised = registry_publisher::revise(&chancery.roll, &chancery.keyring, file, to_come, change);
        let (published, index) = revised.await?;
        chancery.metrics.registry_published(published.version);
        chancery.registry.store(Arc::new(published));
        Ok(index)
    }

    /// How requests see a key pair of a name.
    fn entry(&self, key: &KeyConfig) -> Option<KeyEntry> {
        let keyring = &self.chancery.keyring;
        let info = keyring.lookup_signer(&key.signer_kid)?;
        let backend = self.config.backend_of(key)?;
        let co_signer = key.co_signer.as_ref().and_then(|kid| keyring.lookup(kid));
        let is_ledger_key = self.config.ledger.signs_with(&key.kid);
        Some(KeyEntry::new(&info, co_signer.as_deref(), key, &backend.kind, is_ledger_key))
    }
}

impl From<LeavesError> for LifecycleError {
    fn from(error: LeavesError) -> Self {
        Self::Governance(error.into())
    }
}

impl From<LifecycleError> for Problem {
    fn from(error: LifecycleError) -> Self {
        use crate::problem::Code;
        match error {
            LifecycleError::Governance(error) => error.into(),
            LifecycleError::UnknownKey(_) => Self::new(Code::UnknownKid, error.to_string()),
            LifecycleError::Open(_) | LifecycleError::WrongState(_) => {
                Self::new(Code::WrongState, error.to_string())
            }
            LifecycleError::Key(error) => error.into(),
            LifecycleError::Refused(problem) => *problem,
            error => Self::internal(error),
        }
    }
}
