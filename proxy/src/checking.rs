//! The check of store and archive, asked for by people while the daemon runs, or made while it is stopped.
//!
//! Promises: one check at a time, on a thread of its own, beside signing; whoever asks sees how far it is and what it
//! found; what was shipped again is enrolled, with who asked for it; heads of streams and keys that differ are derived again
//! if their entries are proven. It ends with the daemon. The work itself, and what may be repaired, is
//! `chancery_ledger::check`.

mod report;

use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use chancery_format::canonical::CanonicalJson;
use chancery_format::entry::archive_reshipped;
use chancery_format::{RequestId, SignersRegistry, Timestamp};
use chancery_ledger::{
    Archive, ArchiveError, CheckError, CheckOptions, CheckProgress, CheckReport, RollLimits, ShipperStatus,
    check_closed,
};
use serde_json::{Value, json};
use tokio::sync::watch;

use crate::archiving;
use crate::chancery::Chancery;
use crate::config::Config;
use crate::daemon::Failure;
use crate::stop::stopped;

pub use report::{to_json, to_text};

/// An open archive, and what its shipper says.
#[derive(Clone)]
pub struct Shipped {
    /// Where objects are.
    pub archive: Arc<dyn Archive>,
    /// How far it is said to be.
    pub status: watch::Receiver<ShipperStatus>,
    /// Whether it is to be a static log.
    pub static_log: bool,
}

/// Who asked for a check, and for what.
#[derive(Debug, Clone)]
pub struct Asked {
    /// The person.
    pub by: String,
    /// To ship again what is missing and proven.
    pub repair: bool,
    /// Correlation with logs.
    pub request_id: RequestId,
    /// When.
    pub ts: Timestamp,
}

enum Stage {
    Idle,
    Running(Asked, Arc<CheckProgress>),
    Ended(Value),
}

/// The last check, and the way to the next.
pub struct Checking {
    chancery: Arc<Chancery>,
    shipped: Option<Shipped>,
    stage: Mutex<Stage>,
}

impl Checking {
    /// Of this daemon's ledger and archive.
    pub fn new(chancery: Arc<Chancery>, shipped: Option<Shipped>) -> Self {
        Self { chancery, shipped, stage: Mutex::new(Stage::Idle) }
    }

    /// Begins a check; `false` if one is under way.
    pub fn begin(self: &Arc<Self>, asked: Asked) -> bool {
        let progress = Arc::new(CheckProgress::default());
        {
            let mut stage = self.stage.lock().unwrap_or_else(PoisonError::into_inner);
            if matches!(*stage, Stage::Running(..)) {
                return false;
            }
            *stage = Stage::Running(asked.clone(), Arc::clone(&progress));
        }
        tracing::warn!(by = asked.by, repair = asked.repair, "a check of the ledger begins");
        let this = Arc::clone(self);
        tokio::spawn(async move {
            let ended = this.check(&asked, progress).await;
            *this.stage.lock().unwrap_or_else(PoisonError::into_inner) = Stage::Ended(ended);
        });
        true
    }

    /// What is going on, or was found last.
    pub fn state(&self) -> Value {
        match &*self.stage.lock().unwrap_or_else(PoisonError::into_inner) {
            Stage::Idle => json!({ "state": "idle" }),
            Stage::Running(asked, progress) => {
                let (done, entries) = progress.entries();
                let mut state = about(asked, "running");
                let progress = json!({ "done": done, "entries": entries, "objects": progress.objects() });
                add(&mut state, "progress", progress);
                state
            }
            Stage::Ended(ended) => ended.clone(),
        }
    }

    /// Ends a check under way when the daemon ends.
    pub async fn end_with(self: Arc<Self>, mut stop: watch::Receiver<bool>) {
        stopped(&mut stop).await;
        if let Stage::Running(_, progress) = &*self.stage.lock().unwrap_or_else(PoisonError::into_inner) {
            progress.cancel();
        }
    }

    async fn check(&self, asked: &Asked, progress: Arc<CheckProgress>) -> Value {
        match self.run(asked, progress).await {
            Ok(mut report) => {
                if asked.repair && report.may_derive() {
                    self.derive(asked, &mut report).await;
                }
                let mut ended = about(asked, "done");
                add(&mut ended, "report", to_json(&report));
                if report.repaired > 0 {
                    match self.enrol(asked, &report).await {
                        Ok(index) => add(&mut ended, "index", json!(index)),
                        Err(cause) => add(&mut ended, "notEnrolled", json!(cause)),
                    }
                }
                let (wrong, repaired) = (report.wrong, report.repaired);
                match report.verdict() {
                    chancery_ledger::check::Verdict::Findings => {
                        tracing::error!(
                            wrong,
                            repaired,
                            "the check of the ledger found what is wrong: somebody must act"
                        );
                    }
                    _ => tracing::info!(
                        repaired,
                        undecided = report.undecided,
                        "the check of the ledger ended"
                    ),
                }
                ended
            }
            Err((cause, exit)) => {
                tracing::warn!(cause, "the check of the ledger ended early");
                let mut ended = about(asked, "failed");
                add(&mut ended, "detail", json!(cause));
                add(&mut ended, "unavailable", json!(exit == 4));
                ended
            }
        }
    }

    async fn run(&self, asked: &Asked, progress: Arc<CheckProgress>) -> Result<CheckReport, (String, u8)> {
        let keys = self.chancery.registry.load().ledger_keys.clone();
        let (roll, shipped, repair) = (self.chancery.roll.clone(), self.shipped.clone(), asked.repair);
        let work = move || {
            // Before anything is looked at: what is shipped meanwhile is more, not less.
            let epochs = shipped.as_ref().map(|shipped| shipped.status.borrow().epochs);
            let archive = shipped.as_ref().map(|shipped| &*shipped.archive);
            let static_log = shipped.as_ref().is_some_and(|shipped| shipped.static_log);
            let progress = &progress;
            roll.check_blocking(&CheckOptions { keys: &keys, archive, epochs, static_log, repair, progress })
        };
        let done = tokio::task::spawn_blocking(work).await.map_err(|error| (error.to_string(), 4))?;
        done.map_err(|error| (error.to_string(), exit_code(&error)))
    }

    /// Heads of streams and keys, anew from the entries under the newest checkpoint.
    async fn derive(&self, asked: &Asked, report: &mut CheckReport) {
        let size = self.chancery.roll.latest_checkpoint().map_or(report.proven, |newest| newest.size);
        match self.chancery.heads.derive_again(size).await {
            Ok(outcome) => {
                tracing::warn!(by = asked.by, ?outcome, "heads of streams and keys were derived again");
                report.derived_again();
            }
            Err(error) => tracing::error!(%error, "heads of streams and keys could not be derived again"),
        }
    }

    /// What left the store, and on whose word.
    async fn enrol(&self, asked: &Asked, report: &CheckReport) -> Result<u64, String> {
        let payload = json!({
            "by": asked.by, "count": report.repaired, "objects": report.repaired_names,
            "requestId": asked.request_id.as_str(),
        });
        let payload =
            CanonicalJson::parse(payload.to_string().as_bytes()).map_err(|error| error.to_string())?;
        let enrolled = self.chancery.roll.enrol_event(archive_reshipped(payload), None).await;
        enrolled.map(|committed| committed.index().0).map_err(|error| error.to_string())
    }
}

fn about(asked: &Asked, state: &str) -> Value {
    json!({ "state": state, "repair": asked.repair, "by": asked.by, "since": asked.ts.to_string() })
}

fn add(object: &mut Value, name: &str, value: Value) {
    if let Value::Object(members) = object {
        members.insert(name.to_owned(), value);
    }
}

/// 3 if nothing can be said, 4 if waiting may help.
pub(crate) fn exit_code(error: &CheckError) -> u8 {
    match error {
        CheckError::Cancelled | CheckError::Archive(ArchiveError::Unavailable(_)) => 4,
        CheckError::Archive(_) | CheckError::Store(_) | CheckError::Undecidable(_) => 3,
        CheckError::Open(error) => crate::daemon::opening(error),
    }
}

/// The same check of the ledger of a daemon that is stopped. `signers` is the registry to trust, by default the one the
/// daemon published. What is shipped again is told and not enrolled: nobody writes to a closed ledger. Blocks.
pub fn check_stopped(
    config: &Config,
    signers: Option<&Path>,
    repair: bool,
    progress: &CheckProgress,
) -> Result<CheckReport, Failure> {
    let file = signers.unwrap_or(&config.ledger.signers_file);
    let unreadable = |reason: String| Failure::Evidence(format!("{}: {reason}", file.display()));
    let registry = std::fs::read(file).map_err(|error| unreadable(error.to_string()))?;
    let registry = SignersRegistry::parse(&registry).map_err(|error| unreadable(error.to_string()))?;
    let keys = registry.ledger_keys().map_err(|error| unreadable(error.to_string()))?;
    let archive = config.archive.as_ref().map(|settings| archiving::open(settings)).transpose()?;
    let static_log = config.archive.as_ref().is_some_and(|settings| settings.static_log);
    let archive = archive.as_deref();
    let options = CheckOptions { keys: &keys, archive, epochs: None, static_log, repair, progress };
    let limits = RollLimits::default();
    Ok(check_closed(&config.ledger.directory, &config.ledger.origin, &limits, &options)?)
}
