//! Where requests wait for what happens on a cadence: checkpoints and archive epochs.
//!
//! Those who do the work say how far they are; those who wait for it say that they would like it sooner.
//! Sizes only grow, so a waiter cannot miss one.

use std::time::Duration;

use chancery_format::{LeafIndex, TreeSize};
use tokio::sync::{Notify, watch};

/// How much of the ledger is under a recorded checkpoint, and in the archive.
#[derive(Debug)]
pub struct Progress {
    checkpoint_wanted: Notify,
    checkpointed: watch::Sender<u64>,
    witnessing_wanted: Notify,
    witnessed: watch::Sender<u64>,
    archived: watch::Sender<u64>,
}

impl Progress {
    /// Progress as found at start.
    pub fn new(checkpointed: TreeSize, witnessed: TreeSize, archived: TreeSize) -> Self {
        Self {
            checkpoint_wanted: Notify::new(),
            checkpointed: watch::Sender::new(checkpointed.0),
            witnessing_wanted: Notify::new(),
            witnessed: watch::Sender::new(witnessed.0),
            archived: watch::Sender::new(archived.0),
        }
    }

    /// Returns when somebody waits for a checkpoint; the checkpointer's early bell.
    pub async fn checkpoint_wanted(&self) {
        self.checkpoint_wanted.notified().await;
    }

    /// A checkpoint of this size was recorded.
    pub fn checkpointed(&self, size: TreeSize) {
        raise(&self.checkpointed, size);
    }

    /// Returns when somebody waits for cosignatures; the early bell of those who ask for them.
    pub async fn witnessing_wanted(&self) {
        self.witnessing_wanted.notified().await;
    }

    /// Enough witnesses cosigned a checkpoint of this size.
    pub fn witnessed(&self, size: TreeSize) {
        raise(&self.witnessed, size);
    }

    /// Leaves under a witnessed checkpoint.
    pub fn witnessed_size(&self) -> TreeSize {
        TreeSize(*self.witnessed.borrow())
    }

    /// Asks for cosignatures over `index` and waits; `false` if there were not enough in time.
    pub async fn wait_witnessed(&self, index: LeafIndex, at_most: Duration) -> bool {
        let covered = async {
            // Witnesses sign checkpoints, so there must be one first.
            let checkpointed = self.wait_checkpointed(index, at_most).await;
            if checkpointed && !self.witnessed_size().covers(index) {
                self.witnessing_wanted.notify_one();
            }
            checkpointed && wait(&self.witnessed, index, at_most).await
        };
        tokio::time::timeout(at_most, covered).await.unwrap_or(false)
    }

    /// An epoch of this size was archived and read back.
    pub fn archived(&self, size: TreeSize) {
        raise(&self.archived, size);
    }

    /// Leaves in the archive.
    pub fn archived_size(&self) -> TreeSize {
        TreeSize(*self.archived.borrow())
    }

    /// Leaves under a recorded checkpoint.
    pub fn checkpointed_size(&self) -> TreeSize {
        TreeSize(*self.checkpointed.borrow())
    }

    /// Asks for a checkpoint over `index` and waits; `false` if there was none in time.
    pub async fn wait_checkpointed(&self, index: LeafIndex, at_most: Duration) -> bool {
        if !self.checkpointed_size().covers(index) {
            self.checkpoint_wanted.notify_one();
        }
        wait(&self.checkpointed, index, at_most).await
    }

    /// Waits until `index` is archived; `false` if it was not in time.
    pub async fn wait_archived(&self, index: LeafIndex, at_most: Duration) -> bool {
        wait(&self.archived, index, at_most).await
    }
}

fn raise(size: &watch::Sender<u64>, to: TreeSize) {
    size.send_if_modified(|known| {
        let grows = to.0 > *known;
        *known = to.0.max(*known);
        grows
    });
}

async fn wait(size: &watch::Sender<u64>, index: LeafIndex, at_most: Duration) -> bool {
    let mut size = size.subscribe();
    let covered = size.wait_for(|size| TreeSize(*size).covers(index));
    matches!(tokio::time::timeout(at_most, covered).await, Ok(Ok(_)))
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECONDS: Duration = Duration::from_secs(5);

    #[tokio::test]
    async fn a_waiter_rings_the_bell_and_is_told() {
        let progress = Progress::new(TreeSize(3), TreeSize(0), TreeSize(0));
        assert!(progress.wait_checkpointed(LeafIndex(2), Duration::ZERO).await);
        let waiter = progress.wait_checkpointed(LeafIndex(3), SECONDS);
        let worker = async {
            progress.checkpoint_wanted().await;
            progress.checkpointed(TreeSize(2)); // late news does not take anything back
            progress.checkpointed(TreeSize(4));
        };
        assert!(tokio::join!(waiter, worker).0);
        assert_eq!(progress.checkpointed_size(), TreeSize(4));
    }

    #[tokio::test]
    async fn who_waits_for_witnesses_waits_for_a_checkpoint_first() {
        let progress = Progress::new(TreeSize(0), TreeSize(0), TreeSize(0));
        let waiter = progress.wait_witnessed(LeafIndex(3), SECONDS);
        let workers = async {
            progress.checkpoint_wanted().await;
            progress.checkpointed(TreeSize(4));
            progress.witnessing_wanted().await;
            progress.witnessed(TreeSize(4));
        };
        assert!(tokio::join!(waiter, workers).0);
        assert!(!progress.wait_witnessed(LeafIndex(4), Duration::from_millis(1)).await);
    }

    #[tokio::test]
    async fn waiting_is_bounded() {
        let progress = Progress::new(TreeSize(0), TreeSize(0), TreeSize(0));
        assert!(!progress.wait_archived(LeafIndex(0), Duration::from_millis(1)).await);
        progress.archived(TreeSize(1));
        assert!(progress.wait_archived(LeafIndex(0), Duration::ZERO).await);
    }
}
