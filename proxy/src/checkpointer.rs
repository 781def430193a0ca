//! Signs the tree head: on a cadence while there is something new, and at once when somebody waits.
//!
//! Promises: at most one checkpoint is under way; a bell rung meanwhile leads to one more; a ledger key
//! that fails is tried again at the next tick and reported once. Refuses: to record a note that does not
//! verify. The cadence is the upper bound of how long an entry stays without checkpoint. Where COSE receipts are switched
//! on, each head that was recorded is offered to those who sign it for them (`cose.rs`), and not waited for.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use chancery_format::checkpoint::CheckpointError;
use chancery_format::{LeafIndex, TreeSize};
use chancery_hsm::SignerError;
use chancery_ledger::{RollError, SecondOpinion};
use tokio::sync::watch;

use crate::chancery::Chancery;
use crate::stop::stopped;

/// Patience with the ledger key's device. Longer than any honest signature.
pub(crate) const SIGN_TIMEOUT: Duration = Duration::from_secs(10);

/// Why there is no new checkpoint. Nothing was recorded; the next tick tries again.
#[derive(Debug, thiserror::Error)]
pub enum CheckpointerError {
    /// The ledger key could not be used. The operator's, or it heals.
    #[error("the ledger key: {0}")]
    Key(#[from] SignerError),
    /// The key's note does not verify. The device's fault.
    #[error("the signed note does not verify: {0}")]
    Note(#[from] CheckpointError),
    /// There is no Ed25519 ledger key. A defect: start-up checks it.
    #[error("no ledger key")]
    NoKey,
    /// The ledger did not take it.
    #[error("the ledger: {0}")]
    Roll(#[from] RollError),
}

/// Makes checkpoints; one per daemon.
#[derive(Debug)]
pub struct Checkpointer {
    chancery: Arc<Chancery>,
    interval: Duration,
    second_opinion: SecondOpinion,
    lag: Arc<CheckpointLag>,
}

/// How long the oldest entry has been without checkpoint; shared with those who report.
#[derive(Debug, Default)]
pub struct CheckpointLag {
    since: Mutex<Option<Instant>>,
    failures: AtomicU64,
}

impl CheckpointLag {
    /// Time since an entry without checkpoint was first seen; zero if there is none.
    pub fn age(&self) -> Duration {
        self.since
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .map_or(Duration::ZERO, |since| since.elapsed())
    }

    /// Attempts that failed in a row.
    pub fn failures(&self) -> u64 {
        self.failures.load(Ordering::Relaxed)
    }

    fn note(&self, behind: bool) {
        let mut since = self.since.lock().unwrap_or_else(PoisonError::into_inner);
        *since = behind.then(|| since.unwrap_or_else(Instant::now));
    }
}

impl Checkpointer {
    /// For a daemon whose configuration asks for one checkpoint per `interval`.
    pub fn new(chancery: Arc<Chancery>, interval: Duration) -> Self {
        let second_opinion = SecondOpinion::new(chancery.roll.clone());
        Self { chancery, interval, second_opinion, lag: Arc::default() }
    }

    /// What to report from.
    pub fn lag(&self) -> Arc<CheckpointLag> {
        Arc::clone(&self.lag)
    }

    /// Runs until `stop`; the last checkpoint is then [`Checkpointer::once`]'s, called by the drain.
    pub async fn run(&self, mut stop: watch::Receiver<bool>) {
        let mut tick = tokio::time::interval(self.interval);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                () = stopped(&mut stop) => return,
                _ = tick.tick() => {}
                // After a failure only the cadence tries again, so that waiters cannot hammer a sick device.
                () = self.chancery.progress.checkpoint_wanted(), if self.lag.failures() == 0 => {}
            }
            self.attempt().await;
        }
    }

    /// One attempt, counted and logged.
    pub async fn attempt(&self) {
        match self.once().await {
            Ok(_) => {
                if self.lag.failures.swap(0, Ordering::Relaxed) > 0 {
                    tracing::warn!("checkpoints are signed again");
                }
            }
            Err(error) => {
                self.chancery.metrics.checkpoint_failed();
                if self.lag.failures.fetch_add(1, Ordering::Relaxed) == 0 {
                    tracing::error!(%error, "no checkpoint could be made; trying again on the cadence");
                }
            }
        }
    }

    /// Signs and records the head as it is now, unless a checkpoint covers it already.
    pub async fn once(&self) -> Result<TreeSize, CheckpointerError> {
        let chancery = &self.chancery;
        let origin = chancery.roll.origin();
        let (keys, note, confirmed) = loop {
            // The keys before the head: one that came meanwhile signs nothing from before it was activated.
            let keys = chancery.keyring.ledger_keys(origin).ok_or(CheckpointerError::NoKey)?;
            let head = chancery.roll.head();
            let size = head.head().size;
            let known = chancery.roll.latest_checkpoint().map_or(TreeSize(0), |latest| latest.size);
            self.lag.note(size > known);
            if size <= known {
                chancery.progress.checkpointed(known);
                // Recorded before this start, or before COSE receipts were switched on.
                if let Some(cose) = chancery.cose.as_ref().filter(|cose| size == known && cose.lacks(size)) {
                    cose.offer(self.second_opinion.confirm(head).await?, keys);
                }
                return Ok(known);
            }
            let deadline = Instant::now() + SIGN_TIMEOUT;
            let confirmed = self.second_opinion.confirm(head).await?;
            let at = chancery.now().into();
            let note = chancery.keyring.sign_checkpoint(&confirmed, origin, at, deadline).await?;
            if chancery.keyring.ledger_keys(origin).as_ref() == Some(&keys) {
                break (keys, note, confirmed);
            }
        };
        let size = confirmed.head().size;
        let verified = keys.verify(&note)?;
        match chancery.roll.record_checkpoint(verified.clone()).await {
            Ok(()) => {
                chancery.checkpoints.recorded(verified);
                if let Some(cose) = &chancery.cose {
                    cose.offer(confirmed, keys);
                }
            }
            // Another attempt recorded one of the same or a larger size meanwhile: as good.
            Err(RollError::CheckpointNotNewer) => chancery.checkpoints.forget(),
            Err(error) => return Err(error.into()),
        }
        chancery.progress.checkpointed(size);
        self.lag.note(chancery.roll.head().head().size > size);
        Ok(size)
    }

    /// Waits, at most `at_most`, until a recorded checkpoint covers `index`; asks for one if need be.
    pub async fn checkpoint_covering(&self, index: LeafIndex, at_most: Duration) -> bool {
        self.chancery.progress.wait_checkpointed(index, at_most).await
    }
}
