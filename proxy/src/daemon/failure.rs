//! Why a command ended badly, and the exit code that says so.

use chancery_hsm::KeyringErrors;
use chancery_ledger::{CheckError, OpenError, RollError};

use crate::admission::policy::PolicyError;
use crate::admission::rate_limit::DuplicateRate;
use crate::archiving::ArchivingError;
use crate::config::Mistakes;
use crate::governance::{GovernanceError, SuccessionError};
use crate::leaves::LeavesError;
use crate::reconciling::ReconcilingError;
use crate::registry_publisher::PublishError;
use crate::tls::TlsError;
use crate::witness::{LogsError, WitnessError};
use crate::witnessing::WitnessingError;

/// Why `init`, `check` or `run` did not succeed. Display is what the operator reads.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// The configuration file. Nothing was started.
    #[error("{0}")]
    Configuration(#[from] Mistakes),
    /// Production (or what was required) refuses this configuration. Nothing was started.
    #[error("refusing to start:{}", lines(.0))]
    Guards(Vec<String>),
    /// Certificates, keys or revocation lists. Nothing was started.
    #[error("{0}")]
    Tls(#[from] TlsError),
    /// Grants that do not compile.
    #[error("grants:{}", lines(.0))]
    Policy(Vec<PolicyError>),
    /// Policies that do not load.
    #[error("policies:{}", lines(.0))]
    Policies(Vec<chancery_policy::PolicyProblem>),
    /// Limits that compete.
    #[error("limits:{}", lines(.0))]
    Limits(Vec<DuplicateRate>),
    /// Uses of keys could not be counted on the ledger.
    #[error("counting uses of keys: {0}")]
    Recount(#[from] LeavesError),
    /// The provider of people's identities.
    #[error("identity: {0}")]
    Identity(#[from] chancery_identity::ConfigError),
    /// The ledger on disk.
    #[error("{}", ledger(.0))]
    Ledger(#[from] OpenError),
    /// Keys or the devices that hold them.
    #[error("keys:{}", lines(&.0.0))]
    Keys(KeyringErrors),
    /// A backend could not be opened; `retryable` if waiting may help.
    #[error("backend {name:?}: {reason}")]
    Backend {
        /// The operator's name for it.
        name: String,
        /// What to correct.
        reason: String,
        /// Whether waiting may help.
        retryable: bool,
    },
    /// The registry of signers contradicts the configuration, or could not be published.
    #[error("signers registry: {0}")]
    Registry(#[from] PublishError),
    /// A device's own record, which must be held against the ledger.
    #[error("device log: {0}")]
    DeviceLog(#[from] ReconcilingError),
    /// The archive.
    #[error("archive: {0}")]
    Archive(#[from] ArchivingError),
    /// A check of the ledger gave no report.
    #[error("checking the ledger: {0}")]
    Check(#[from] CheckError),
    /// A file that a check needs cannot be read.
    #[error("{0}")]
    Evidence(String),
    /// What it takes to be a witness.
    #[error("{0}")]
    Witness(#[from] WitnessError),
    /// What it takes to ask witnesses.
    #[error("witnessing: {0}")]
    Witnessing(#[from] WitnessingError),
    /// What people decided cannot be read, or the configuration would undo it.
    #[error("governance: {0}")]
    Governance(#[from] GovernanceError),
    /// The configuration contradicts a rotation.
    #[error("keys: {0}")]
    Succession(#[from] SuccessionError),
    /// An address could not be bound.
    #[error("cannot listen on {address}: {cause}")]
    Bind {
        /// The address.
        address: std::net::SocketAddr,
        /// What the system said.
        cause: std::io::Error,
    },
    /// The system refused something small: a signal handler, a thread, randomness.
    #[error("the system refused: {0}")]
    System(String),
    /// The ledger stopped while serving. What waited was promised that its fate is unknown.
    #[error("the ledger stopped: {0}; start again, recovery closes what was open")]
    LedgerStopped(String),
    /// Something is there already and is not overwritten.
    #[error("{0}")]
    Exists(String),
    /// Files of a new instance could not be made.
    #[error("{what}: {reason}")]
    Init {
        /// Which file or step.
        what: String,
        /// Why.
        reason: String,
    },
}

fn lines<T: std::fmt::Display>(items: &[T]) -> String {
    items.iter().map(|item| format!("\n  - {item}")).collect()
}

fn ledger(error: &OpenError) -> String {
    match error {
        OpenError::NotALedger(_) => format!("{error}: chanceryd init --config FILE"),
        _ => error.to_string(),
    }
}

impl From<KeyringErrors> for Failure {
    fn from(errors: KeyringErrors) -> Self {
        Self::Keys(errors)
    }
}

impl From<RollError> for Failure {
    fn from(error: RollError) -> Self {
        Self::LedgerStopped(error.to_string())
    }
}

impl Failure {
    /// The exit code of the contract: 1 refused or found bad, 2 configuration, 3 evidence missing or
    /// unreadable, 4 unavailable.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Exists(_) => 1,
            Self::Archive(error) => error.exit_code(),
            Self::Check(error) => crate::checking::exit_code(error),
            Self::Evidence(_) => 3,
            Self::Configuration(_)
            | Self::Guards(_)
            | Self::Tls(_)
            | Self::Policy(_)
            | Self::Policies(_)
            | Self::Limits(_)
            | Self::Identity(_)
            | Self::Succession(_)
            | Self::Witnessing(_)
            | Self::Witness(WitnessError::Key { .. } | WitnessError::Name(_))
            | Self::Witness(WitnessError::Logs(LogsError::File { .. } | LogsError::List { .. }))
            | Self::Backend { retryable: false, .. }
            | Self::Init { .. }
            | Self::Registry(PublishError::Plan(_) | PublishError::File { .. } | PublishError::Registry(_)) => {
                2
            }
            Self::Witness(WitnessError::Logs(LogsError::Memory(_))) => 3,
            Self::Keys(errors) => keys(errors),
            Self::Ledger(error) => self::opening(error),
            Self::DeviceLog(ReconcilingError::Replaced { .. } | ReconcilingError::Findings { .. }) => 2,
            Self::DeviceLog(
                ReconcilingError::Entry(_) | ReconcilingError::Leaves(LeavesError::Unreadable { .. }),
            )
            | Self::Recount(LeavesError::Unreadable { .. })
            | Self::Governance(GovernanceError::Unreadable { .. }) => 1,
            Self::Governance(GovernanceError::Fault(_) | GovernanceError::RosterGone) => 2,
            Self::Backend { retryable: true, .. }
            | Self::DeviceLog(_)
            | Self::Recount(LeavesError::Roll(_))
            | Self::Governance(GovernanceError::Roll(_))
            | Self::Registry(_)
            | Self::Bind { .. }
            | Self::System(_)
            | Self::LedgerStopped(_) => 4,
        }
    }
}

pub(crate) fn opening(error: &OpenError) -> u8 {
    match error {
        OpenError::Exists(_) | OpenError::LostEntries { .. } | OpenError::Corrupt(_) => 1,
        OpenError::OtherOrigin { .. } | OpenError::OtherDialect { .. } | OpenError::UnknownFormat(_) => 2,
        OpenError::NotALedger(_) | OpenError::HalfCreated(_) | OpenError::Io(..) => 3,
        OpenError::Locked(_) | OpenError::Store(_) | OpenError::Fatal(_) => 4,
    }
}

fn keys(errors: &KeyringErrors) -> u8 {
    let heals = |error: &chancery_hsm::KeyringError| matches!(error, chancery_hsm::KeyringError::Open { source, .. } if source.retryable());
    if errors.0.iter().all(heals) { 4 } else { 2 }
}
