//! What the ops listener reports, put together from what the parts know about themselves.

use std::sync::Arc;
use std::time::{Duration, Instant};

use chancery_hsm::BackendState;

use crate::archiving::ArchiveWatch;
use crate::chancery::Chancery;
use crate::checkpointer::CheckpointLag;
use crate::ops::{Check, Status};
use crate::telemetry::LogGuard;
use crate::witnessing::WitnessWatch;

/// Looks at every part when asked; keeps nothing.
pub struct DaemonStatus {
    chancery: Arc<Chancery>,
    checkpoints: Arc<CheckpointLag>,
    checkpoint_age_max: Duration,
    archive: Option<Arc<ArchiveWatch>>,
    witnesses: Option<Arc<WitnessWatch>>,
    log: Arc<LogGuard>,
    started: Instant,
}

impl DaemonStatus {
    /// For a daemon that signs a checkpoint every `checkpoint_interval`.
    pub fn new(
        chancery: Arc<Chancery>,
        checkpoints: Arc<CheckpointLag>,
        checkpoint_interval: Duration,
        archive: Option<Arc<ArchiveWatch>>,
        witnesses: Option<Arc<WitnessWatch>>,
        log: Arc<LogGuard>,
    ) -> Self {
        // Ten missed checkpoints are no coincidence; a very short cadence gets some patience.
        let checkpoint_age_max = (checkpoint_interval * 10).max(Duration::from_secs(10));
        Self { chancery, checkpoints, checkpoint_age_max, archive, witnesses, log, started: Instant::now() }
    }

    fn ledger(&self) -> Check {
        let roll = &self.chancery.roll;
        let entries = roll.head().head().size;
        match roll.fatal() {
            Some(error) => Check::new("ledger", false, error.to_string()),
            None if roll.disk_is_low() => {
                Check::new("ledger", false, "free disk space is below reserve_bytes")
            }
            None => Check::new("ledger", true, format!("{entries} entries")),
        }
    }

    fn checkpoint(&self) -> Check {
        let age = self.checkpoints.age();
        let failures = self.checkpoints.failures();
        let ok = age <= self.checkpoint_age_max;
        let detail = match failures {
            0 => format!("oldest entry without checkpoint: {} ms", age.as_millis()),
            _ => format!(
                "{failures} failures in a row; oldest entry without checkpoint: {} ms",
                age.as_millis()
            ),
        };
        Check::new("checkpoint", ok, detail)
    }

    fn archive(&self) -> Check {
        match &self.archive {
            None => Check::new("archive", true, "not configured"),
            Some(watch) => {
                let lag = watch.lag();
                let behind = self.chancery.admission.is_archive_behind();
                let detail =
                    format!("{} entries behind, the oldest {} ms old", lag.entries, lag.age.as_millis());
                match watch.failure() {
                    Some((failure, stopped)) => {
                        Check::new("archive", !behind && !stopped, format!("{detail}; {failure}"))
                    }
                    None => Check::new("archive", !behind, detail),
                }
            }
        }
    }

    /// Witnesses that are away are no reason to stop serving; one that contradicts this ledger is.
    fn witnesses(&self) -> Option<Check> {
        let watch = self.witnesses.as_ref()?;
        let size = self.chancery.progress.witnessed_size();
        Some(match (watch.alarm(), watch.failure()) {
            (Some(alarm), _) => Check::new("witnesses", false, alarm),
            (None, Some(failure)) => {
                let detail = format!("{} rounds in a row without quorum: {failure}", watch.failures());
                Check::new("witnesses", true, detail)
            }
            (None, None) => Check::new("witnesses", true, format!("{size} entries witnessed")),
        })
    }

    fn backends(&self) -> Vec<Check> {
        let health = self.chancery.keyring.health().into_iter();
        let check = health.map(|backend| {
            let detail = match (backend.state, backend.last_error) {
                (BackendState::Up, _) => format!("up, {} waiting", backend.queue_depth),
                (state, Some((code, ago))) => {
                    format!("{}: {code} {} ms ago", state.as_str(), ago.as_millis())
                }
                (state, None) => state.as_str().to_owned(),
            };
            Check::new(format!("backend:{}", backend.name), backend.state == BackendState::Up, detail)
        });
        check.collect()
    }

    fn kill_switch(&self) -> Check {
        match self.chancery.keyring.kill_switch().reason() {
            Some(reason) => Check::new("kill-switch", false, format!("pulled by {reason}")),
            None => Check::new("kill-switch", true, "not pulled"),
        }
    }

    fn draining(&self) -> Check {
        let draining = self.chancery.admission.is_draining();
        Check::new("serving", !draining, if draining { "shutting down" } else { "open" })
    }
}

impl Status for DaemonStatus {
    fn checks(&self) -> Vec<Check> {
        let mut checks =
            vec![self.draining(), self.ledger(), self.checkpoint(), self.archive(), self.kill_switch()];
        checks.extend(self.witnesses());
        checks.extend(self.backends());
        checks
    }

    fn metrics(&self) -> String {
        let (metrics, roll) = (&self.chancery.metrics, &self.chancery.roll);
        metrics.ledger(roll.head().head().size.0, roll.queued(), roll.open_intents());
        metrics.checkpoint(self.chancery.progress.checkpointed_size().0, self.checkpoints.age());
        metrics.witnessed(self.chancery.progress.witnessed_size().0);
        if let Some(watch) = &self.archive {
            let lag = watch.lag();
            metrics.archive(watch.epochs(), lag.entries, lag.age);
        }
        metrics.halted(self.chancery.keyring.kill_switch().is_halted());
        metrics.log_lines_dropped(self.log.dropped_lines());
        metrics.uptime(self.started.elapsed());
        for backend in self.chancery.keyring.health() {
            metrics.backend(
                &backend.name,
                backend.state == BackendState::Up,
                backend.queue_depth,
                backend.in_flight,
            );
        }
        for (kid, limit) in self.chancery.allowances.rules().lifetimes() {
            if let Some(key) = self.chancery.key(kid) {
                let used = self.chancery.allowances.used(&key.signer_kid);
                metrics.key_uses_left(kid.as_str(), limit.saturating_sub(used));
            }
        }
        let checks = self.checks();
        metrics.ready(checks.iter().all(|check| check.ok));
        metrics.render()
    }
}
