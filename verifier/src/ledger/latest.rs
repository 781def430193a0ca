//! The newest checkpoint as a static log shows it, under the one name that is replaced: `checkpoint`.
//!
//! It is the checkpoint of an archived epoch, which the pass holds against the tree; it may bear witnesses' lines. It is
//! written last, so what it covers must be there: its epoch, and the partial tiles of its size. It may be older than the
//! last epoch, for a daemon shows an epoch after it is archived.

use chancery_format::TreeHead;
use chancery_format::archive::{LATEST_CHECKPOINT, checkpoint_name};
use chancery_format::note::NOTE_BYTES_MAX;
use chancery_format::tile::TilePath;

use super::bundle::unread;
use super::notes::{read_checkpoint, verify_head};
use crate::evidence::{Evidence, EvidenceError};
use crate::findings::{Finding, Findings, Kind};
use crate::inventory::Inventory;
use crate::trust::Trust;

/// What was shown before the archive was listed.
pub(super) struct Latest(Result<Vec<u8>, EvidenceError>);

impl Latest {
    pub(super) fn read(evidence: &dyn Evidence) -> Self {
        Self(evidence.open(LATEST_CHECKPOINT, NOTE_BYTES_MAX))
    }

    /// The size it shows, if it is as it must be.
    pub(super) fn check(
        self,
        evidence: &dyn Evidence,
        trust: &Trust,
        inventory: &Inventory,
        findings: &mut Findings,
    ) -> Option<u64> {
        if !inventory.latest {
            return None;
        }
        let (shown, is_early) = match self.0 {
            // It is there since, or a marker hides it from plain readers.
            Err(EvidenceError::NotFound) => (evidence.open(LATEST_CHECKPOINT, NOTE_BYTES_MAX), false),
            shown => (shown, true),
        };
        let checked = shown
            .map_err(|error| unread(LATEST_CHECKPOINT, &error))
            .and_then(|note| verify_head(trust, &note))
            .and_then(|signed| same_as_epoch(evidence, trust, inventory, signed.head).map(|()| signed.head));
        match checked {
            Ok(head) => {
                need_partials(inventory, head.size.0, findings);
                Some(head.size.0)
            }
            // An epoch came between the listing and the reading.
            Err(finding) if !is_early && finding.kind == Kind::MissingFile => None,
            Err(finding) => {
                findings.push(if finding.file.is_none() {
                    finding.in_file(LATEST_CHECKPOINT)
                } else {
                    finding
                });
                None
            }
        }
    }
}

/// The epoch of this size has the same root. Sizes of epochs grow, so few are read; what is wrong with these is told
/// when all are.
fn same_as_epoch(
    evidence: &dyn Evidence,
    trust: &Trust,
    inventory: &Inventory,
    head: TreeHead,
) -> Result<(), Finding> {
    let epochs = &inventory.checkpoints;
    let (mut low, mut high) = (0, epochs.len());
    while low < high {
        let middle = low + (high - low) / 2;
        let Some(epoch) = epochs.get(middle) else { break };
        // One that says nothing decides nothing: it is refused by itself.
        let Ok(found) = read_checkpoint(evidence, trust, *epoch).map(|signed| signed.head) else {
            return Ok(());
        };
        match found.size.cmp(&head.size) {
            std::cmp::Ordering::Less => low = middle + 1,
            std::cmp::Ordering::Greater => high = middle,
            std::cmp::Ordering::Equal if found.root == head.root => return Ok(()),
            std::cmp::Ordering::Equal => {
                let message =
                    format!("{} has another root for {} entries", checkpoint_name(*epoch), head.size);
                return Err(Finding::new(Kind::RootMismatch, message));
            }
        }
    }
    if low == epochs.len() {
        let next = epochs.last().map_or(0, |last| last.saturating_add(1));
        let message = format!("a checkpoint of {} entries is shown, and its epoch is not there", head.size);
        return Err(Finding::file(Kind::MissingFile, checkpoint_name(next), message));
    }
    let message = format!("no epoch ends with {} entries", head.size);
    Err(Finding::new(Kind::CheckpointOrder, message))
}

/// Whoever follows the log needs the edge of the tree that is shown.
fn need_partials(inventory: &Inventory, size: u64, findings: &mut Findings) {
    for path in TilePath::partial_tiles(size) {
        if path.level.is_some_and(|level| !inventory.has_partial(level, size)) {
            let message =
                format!("a checkpoint of {size} entries is shown, and this partial tile of it is missing");
            findings.push(Finding::file(Kind::MissingFile, path.to_string(), message));
        }
    }
}
