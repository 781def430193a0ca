//! COSE receipts (RFC 9942): which tree heads the ledger key signs for them, and the receipts made under those.
//!
//! The checkpointer offers each head that it had confirmed twice over and recorded as a checkpoint; the same key signs
//! it a second time, in COSE's form. One signature serves every entry below it, so only the newest head is kept, in the
//! ledger. What is signed here is never waited for by checkpoints: this is a task of its own, and a slow device makes it
//! skip heads, not queue them.
//!
//! Promises: at most one signature is under way; what is given out was verified by the ledger's key and by arithmetic
//! from its leaf; what fails is counted, told once and tried again on the cadence. Refuses: a head of before the key was
//! rotated, and to give a receipt where the operator did not switch them on.

use std::sync::Arc;
use std::time::{Duration, Instant};

use chancery_format::cose::{CoseReceiptError, VerifiedCoseHead};
use chancery_format::ledger_keys::LedgerKeys;
use chancery_format::merkle::leaf_hash;
use chancery_format::{ConfirmedHead, LeafIndex, SignersRegistry, TreeSize};
use chancery_hsm::SignerError;
use chancery_ledger::{Roll, RollError};
use tokio::sync::watch;

use crate::chancery::{Chancery, Progress};
use crate::checkpointer::SIGN_TIMEOUT;
use crate::problem::{Code, Problem};
use crate::response::{COSE, Caching, Reply};
use crate::stop::stopped;

/// Why a head was not signed. Nothing was recorded; the cadence tries again.
#[derive(Debug, thiserror::Error)]
pub enum CoseHeadError {
    /// The ledger key could not be used. The operator's, or it heals.
    #[error("the ledger key: {0}")]
    Key(#[from] SignerError),
    /// What the key gave does not verify. The device's fault.
    #[error("the signed head does not verify: {0}")]
    Signature(#[from] CoseReceiptError),
    /// The ledger did not take it.
    #[error("the ledger: {0}")]
    Roll(#[from] RollError),
}

/// A head whose checkpoint is recorded, and the keys that signed that.
#[derive(Debug, Clone)]
struct Offered {
    head: ConfirmedHead,
    keys: LedgerKeys,
}

/// The newest head that is to be signed, and the newest that is.
#[derive(Debug)]
pub struct CoseHeads {
    offered: watch::Sender<Option<Offered>>,
    signed: watch::Sender<Option<Arc<VerifiedCoseHead>>>,
}

impl CoseHeads {
    /// Goes on from a head that was kept.
    pub fn new(kept: Option<VerifiedCoseHead>) -> Self {
        Self { offered: watch::Sender::new(None), signed: watch::Sender::new(kept.map(Arc::new)) }
    }

    /// Reads back what was kept. What no key of the registry signed over this ledger's own root is not used; the next
    /// checkpoint replaces it.
    pub async fn restore(roll: &Roll, registry: &SignersRegistry) -> Result<Self, RollError> {
        // Keys that cannot be read vouch for nothing.
        let keys = registry.log_keys().unwrap_or_default();
        let kept = roll.cose_head().await?.and_then(|(signed, head)| {
            VerifiedCoseHead::verify(signed, &head, roll.origin(), &keys)
                .inspect_err(|error| {
                    tracing::error!(%error, size = %head.size, "the head kept for COSE receipts is not used");
                })
                .ok()
        });
        Ok(Self::new(kept))
    }

    /// The checkpoint of this head was recorded, signed by these keys.
    pub(crate) fn offer(&self, head: ConfirmedHead, keys: LedgerKeys) {
        self.offered.send_replace(Some(Offered { head, keys }));
    }

    /// Whether a head of `size` leaves was neither signed nor offered.
    pub(crate) fn lacks(&self, size: TreeSize) -> bool {
        let offered = self.offered.borrow().as_ref().map(|offered| offered.head.head().size);
        self.size().max(offered) < Some(size)
    }

    /// Leaves under the newest signed head.
    pub fn size(&self) -> Option<TreeSize> {
        self.signed.borrow().as_ref().map(|signed| signed.head().size)
    }

    /// The newest signed head as soon as it covers `index`; `None` if it does not in time.
    async fn covering(
        &self,
        progress: &Progress,
        index: LeafIndex,
        at_most: Duration,
    ) -> Option<Arc<VerifiedCoseHead>> {
        let covered = async {
            if !progress.wait_checkpointed(index, at_most).await {
                return None;
            }
            let mut signed = self.signed.subscribe();
            let covers = |signed: &Option<Arc<VerifiedCoseHead>>| {
                signed.as_ref().is_some_and(|signed| signed.head().size.covers(index))
            };
            signed.wait_for(covers).await.ok()?.clone()
        };
        tokio::time::timeout(at_most, covered).await.ok().flatten()
    }

    /// Signs and keeps one head. One of before a rotation of the key is let go: its successor follows.
    async fn sign(&self, chancery: &Chancery, offered: &Offered) -> Result<(), CoseHeadError> {
        let origin = chancery.roll.origin();
        let is_of_this_key =
            || chancery.keyring.note_verifier(origin).as_ref() == offered.keys.ed25519().first();
        if !is_of_this_key() {
            return Ok(());
        }
        let deadline = Instant::now() + SIGN_TIMEOUT;
        let signed = chancery.keyring.sign_cose_head(&offered.head, origin, deadline).await?;
        if !is_of_this_key() {
            return Ok(());
        }
        let keys = offered.keys.log_keys();
        let verified = VerifiedCoseHead::verify(signed, &offered.head.head(), origin, &keys)?;
        chancery.roll.record_cose_head(verified.clone()).await?;
        self.signed.send_replace(Some(Arc::new(verified)));
        Ok(())
    }
}

/// Signs the newest head that was offered, one after the other, until `stop`. After a failure only `retry` tries again.
pub async fn run(chancery: Arc<Chancery>, retry: Duration, mut stop: watch::Receiver<bool>) {
    let Some(heads) = &chancery.cose else { return };
    let mut offers = heads.offered.subscribe();
    let mut failing = false;
    loop {
        let newest = offers.borrow_and_update().clone();
        if let Some(offered) = newest.filter(|offered| heads.size() < Some(offered.head.head().size)) {
            match heads.sign(&chancery, &offered).await {
                Ok(()) if failing => {
                    failing = false;
                    tracing::warn!("heads are signed for COSE receipts again");
                }
                Ok(()) => {}
                Err(error) => {
                    chancery.metrics.cose_head_failed();
                    if !std::mem::replace(&mut failing, true) {
                        tracing::error!(%error, "no head could be signed for COSE receipts; trying again");
                    }
                }
            }
        }
        tokio::select! {
            () = stopped(&mut stop) => return,
            changed = offers.changed(), if !failing => if changed.is_err() { return },
            () = tokio::time::sleep(retry), if failing => {}
        }
    }
}

/// `GET /v1/receipts/{index}` in COSE: under the newest signed head, which may be a later one each time.
pub(crate) async fn receipt(chancery: &Chancery, index: LeafIndex, leaf: &[u8]) -> Result<Reply, Problem> {
    const OFF: &str = "there are no COSE receipts here: the operator did not switch cose_receipts on";
    let heads = chancery.cose.as_ref().ok_or_else(|| Problem::new(Code::NotFound, OFF))?;
    let head = heads.covering(&chancery.progress, index, chancery.limits.release_timeout).await;
    let head = head.ok_or_else(|| Problem::plain(Code::ReleasePending))?;
    let path = chancery.roll.inclusion_proof(index, head.head().size).await?;
    let receipt = head.inclusion(&leaf_hash(leaf), index, path).map_err(Problem::internal)?;
    Ok(Reply::other(COSE, Caching::Briefly, receipt.to_bytes()))
}
