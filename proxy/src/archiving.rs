//! Wires the archive to the ledger: which archive, how far behind it is, and what follows from that.
//!
//! Promises: the daemon does not start if the archive knows more than the ledger, or something else; when
//! the archive is too far behind, admission closes until it has caught up; on shutdown one last epoch is
//! tried, for a bounded time. Nothing here is on the path of a request.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use chancery_archive_s3::{S3Archive, S3Options};
use chancery_format::TreeSize;
use chancery_ledger::{Archive, DirectoryArchive, Roll, ShipError, Shipper, ShipperOptions, ShipperStatus};
use tokio::sync::watch;

use crate::chancery::Chancery;
use crate::checking::Shipped;
use crate::config::{ArchiveConfig, ArchiveKind, Config};
use crate::daemon::{SystemClock, random};
use crate::stop::stopped;
use crate::telemetry::Metrics;

/// How often the lag is looked at.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Why the daemon must not start with this archive.
#[derive(Debug, thiserror::Error)]
pub enum ArchivingError {
    /// The archive's settings cannot work. The operator's to fix.
    #[error("{0}")]
    Settings(String),
    /// The folder of a directory archive is not there, or is none.
    #[error("{0} is no folder; it is made by chanceryd init")]
    NoFolder(PathBuf),
    /// The archive and the ledger do not belong together, or the archive cannot be reached.
    #[error("{0}")]
    Ship(#[from] ShipError),
    /// The system refused a thread or randomness.
    #[error("{0}")]
    System(String),
}

impl ArchivingError {
    /// 1 if archive and ledger contradict each other, 2 for settings, 4 if waiting may help.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Settings(_) => 2,
            Self::NoFolder(_) => 3,
            Self::Ship(error) if error.is_transient() => 4,
            Self::Ship(_) => 1,
            Self::System(_) => 4,
        }
    }
}

/// What is enrolled and not archived.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ArchiveLag {
    /// Entries.
    pub entries: u64,
    /// Age of the oldest.
    pub age: Duration,
}

/// What the archive looks like, for those who report; never waits.
#[derive(Debug)]
pub struct ArchiveWatch {
    status: watch::Receiver<ShipperStatus>,
    lag: Mutex<ArchiveLag>,
}

impl ArchiveWatch {
    /// The lag at the last look, at most about a second ago.
    pub fn lag(&self) -> ArchiveLag {
        *self.lag.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Epochs in the archive.
    pub fn epochs(&self) -> u64 {
        self.status.borrow().epochs
    }

    /// What is wrong with archiving now, if anything; `true` if somebody must act.
    pub fn failure(&self) -> Option<(String, bool)> {
        let status = self.status.borrow();
        status.failure.clone().map(|failure| (failure, status.stopped))
    }

    fn set_lag(&self, lag: ArchiveLag) {
        *self.lag.lock().unwrap_or_else(PoisonError::into_inner) = lag;
    }
}

/// A running shipper and the bounds its lag must keep.
#[derive(Debug)]
pub struct Archiving {
    shipper: Arc<Shipper>,
    watch: Arc<ArchiveWatch>,
    entries_max: u64,
    age_max: Duration,
    metrics: Arc<Metrics>,
}

/// A shipper, and the archive it ships to.
type Started = (Shipper, Arc<dyn Archive>);

impl Archiving {
    /// Opens the configured archive, compares it with the ledger and starts shipping; `None` if none is
    /// configured.
    pub async fn start(
        config: &Config,
        roll: &Roll,
        metrics: Arc<Metrics>,
    ) -> Result<Option<(Self, Shipped)>, ArchivingError> {
        let Some(settings) = config.archive.clone() else { return Ok(None) };
        let (roll, to_start) = (roll.clone(), settings.clone());
        let started = tokio::task::spawn_blocking(move || start_shipper(&to_start, roll));
        let (shipper, archive) =
            started.await.map_err(|error| ArchivingError::System(error.to_string()))??;
        let shipped = Shipped { archive, status: shipper.subscribe(), static_log: settings.static_log };
        let archiving = Self::over(shipper, settings.lag_entries_max, settings.lag_age_max, metrics);
        Ok(Some((archiving, shipped)))
    }

    /// Holds a running shipper to these bounds.
    pub fn over(shipper: Shipper, entries_max: u64, age_max: Duration, metrics: Arc<Metrics>) -> Self {
        let watch = ArchiveWatch { status: shipper.subscribe(), lag: Mutex::default() };
        Self { shipper: Arc::new(shipper), watch: Arc::new(watch), entries_max, age_max, metrics }
    }

    /// What to report from.
    pub fn watch(&self) -> Arc<ArchiveWatch> {
        Arc::clone(&self.watch)
    }

    /// Leaves in the archive.
    pub fn archived(&self) -> TreeSize {
        self.shipper.status().archived
    }

    /// Follows the shipper until `stop`: tells waiters what was archived, and admission when to close.
    pub fn watch_lag(
        &self,
        chancery: Arc<Chancery>,
        mut stop: watch::Receiver<bool>,
    ) -> impl Future<Output = ()> + Send + use<> {
        let follower = Follower {
            shipper: Arc::clone(&self.shipper),
            watch: Arc::clone(&self.watch),
            entries_max: self.entries_max,
            age_max: self.age_max,
            metrics: Arc::clone(&self.metrics),
            failures: 0,
            gave_up: false,
        };
        async move {
            tokio::select! {
                () = follower.follow(&chancery) => {}
                () = stopped(&mut stop) => {}
            }
        }
    }

    /// Ships what is under the newest checkpoint and ends; `false` if that took longer than `at_most` or
    /// failed. Call it after the last checkpoint.
    pub async fn flush(self, at_most: Duration) -> bool {
        let stopped = async {
            let shipper = sole_owner(self.shipper).await;
            tokio::task::spawn_blocking(move || shipper.stop()).await
        };
        match tokio::time::timeout(at_most, stopped).await {
            Ok(Ok(status)) => status.failure.is_none(),
            _ => false,
        }
    }
}

/// A last look at the lag may still be under way on another thread.
async fn sole_owner(mut shared: Arc<Shipper>) -> Shipper {
    loop {
        match Arc::try_unwrap(shared) {
            Ok(shipper) => return shipper,
            Err(still) => shared = still,
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

struct Follower {
    shipper: Arc<Shipper>,
    watch: Arc<ArchiveWatch>,
    entries_max: u64,
    age_max: Duration,
    metrics: Arc<Metrics>,
    failures: u32,
    /// The shipper's thread has ended.
    gave_up: bool,
}

impl Follower {
    async fn follow(mut self, chancery: &Chancery) {
        let mut status = self.shipper.subscribe();
        let mut tick = tokio::time::interval(LOOK_EVERY);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                _ = tick.tick() => self.look_at_lag(chancery).await,
                changed = status.changed(), if !self.gave_up => {
                    if changed.is_err() {
                        // The shipper ended. If it gave up, admission must close, and stay closed.
                        self.gave_up = true;
                        continue;
                    }
                    let seen = status.borrow_and_update().clone();
                    chancery.progress.archived(seen.archived);
                    self.count_failures(seen.failures);
                }
            }
        }
    }

    fn count_failures(&mut self, failures: u32) {
        if failures > self.failures {
            self.metrics.archive_failed();
        }
        self.failures = failures;
    }

    /// The lag may read a leaf from disk.
    async fn look_at_lag(&self, chancery: &Chancery) {
        let shipper = Arc::clone(&self.shipper);
        let Ok(lag) = tokio::task::spawn_blocking(move || shipper.lag()).await else { return };
        let lag = ArchiveLag { entries: lag.entries, age: Duration::from_millis(lag.age_ms) };
        self.watch.set_lag(lag);
        let wrong = self.shipper.status().stopped;
        let behind = wrong || lag.entries > self.entries_max || lag.age > self.age_max;
        if behind != chancery.admission.is_archive_behind() {
            chancery.admission.set_archive_lag(behind);
            let age_ms = u64::try_from(lag.age.as_millis()).unwrap_or(u64::MAX);
            if behind {
                tracing::error!(
                    entries = lag.entries,
                    age_ms,
                    wrong,
                    "the archive is wrong or too far behind: nothing is accepted"
                );
            } else {
                tracing::warn!(
                    entries = lag.entries,
                    age_ms,
                    "the archive has caught up: requests are accepted again"
                );
            }
        }
    }
}

/// Opens the configured archive. Asks it nothing yet.
pub(crate) fn open(settings: &ArchiveConfig) -> Result<Arc<dyn Archive>, ArchivingError> {
    Ok(match &settings.kind {
        ArchiveKind::Directory { directory } if !directory.is_dir() => {
            return Err(ArchivingError::NoFolder(directory.clone()));
        }
        ArchiveKind::Directory { directory } => Arc::new(DirectoryArchive::new(directory)),
        ArchiveKind::S3 { .. } => {
            let options =
                s3_options(&settings.kind).ok_or_else(|| ArchivingError::Settings("not S3".to_owned()))?;
            let opened = S3Archive::open(&options, Arc::new(SystemClock));
            Arc::new(opened.map_err(|error| ArchivingError::Settings(error.to_string()))?)
        }
    })
}

fn start_shipper(settings: &ArchiveConfig, roll: Roll) -> Result<Started, ArchivingError> {
    let archive = open(settings)?;
    let seed = random().map_err(|error| ArchivingError::System(error.to_string()))?;
    let mut options = ShipperOptions::new(Arc::new(SystemClock), u64::from_be_bytes(seed));
    options.epoch_interval = settings.epoch_interval;
    options.static_log = settings.static_log;
    Ok((Shipper::start(roll, Arc::clone(&archive), options)?, archive))
}

fn s3_options(kind: &ArchiveKind) -> Option<S3Options> {
    let ArchiveKind::S3 { bucket, prefix, region, endpoint_url, path_style, retention_days } = kind else {
        return None;
    };
    let mut options = S3Options::new(bucket, region);
    options.prefix.clone_from(prefix);
    options.endpoint_url.clone_from(endpoint_url);
    options.path_style = *path_style;
    options.retention_days = *retention_days;
    Some(options)
}

/// What is wrong with the settings of an archive, as far as they tell by themselves.
pub fn check_settings(kind: &ArchiveKind) -> Result<(), String> {
    s3_options(kind).map_or(Ok(()), |options| options.check().map_err(|fault| fault.to_string()))
}
