//! What others follow the archive by, and what witnesses said: partial hash tiles, the newest checkpoint under the one
//! name that is replaced, and cosigned checkpoints.
//!
//! Partial tiles are held against the store's leaves and tiles, which were held against the signed roots before. Those of
//! older epochs may be missing: an archive can become a static log at any time. The newest ones must be there, and so
//! must a newest checkpoint that is not older than the last epoch.

use chancery_format::archive::LATEST_CHECKPOINT;
use chancery_format::note::NOTE_BYTES_MAX;
use chancery_format::tile::{TilePath, WIDTH, encode_tile};
use chancery_format::{Hash, TreeHead, TreeSize};

use super::findings::{Finding, Kind, Side};
use super::objects::Held;
use super::{Check, CheckError};
use crate::archive::{Archive, ArchiveError};
use crate::second_opinion::{sha256, tree_hash};

/// The first nodes of one tile, computed from what is below it. At most 255.
#[derive(Debug, Default)]
pub(super) struct Edge {
    level: u8,
    index: u64,
    hashes: Vec<Hash>,
}

impl Check<'_> {
    /// A partial hash tile: of an epoch's size, and as the tree has it. `false` if it is beyond the ledger.
    pub(super) fn check_partial(
        &mut self,
        name: &str,
        (level, index, width): (u8, u64, u8),
        (epochs, size): (u64, u64),
    ) -> Result<bool, CheckError> {
        let Some((from, end)) = sizes_of(level, index, width) else { return Ok(false) };
        if from > size {
            return Ok(false);
        }
        if self.epoch_size_from(from, epochs)?.is_none_or(|first| first >= end) {
            let message = "no epoch ends with a partial tile of this width";
            self.found(Finding::new(Kind::ObjectForeign, Side::Archive, message).of(name));
            return Ok(true);
        }
        // Of entries that came after the check began, nothing is said.
        if from > self.head.size.0 {
            return Ok(true);
        }
        let expected = self.edge_tile(level, index, width)?;
        match (self.held(name, expected.as_deref())?, expected) {
            (Held::Other(_), Some(_)) => {
                let (side, proven) = match from <= self.report.proven.0 && !self.is_store_wrong() {
                    true => (Side::Archive, true),
                    false => (Side::Unknown, false),
                };
                let message = "the archived partial tile is not that of the entries below it";
                self.found(Finding::new(Kind::ObjectAltered, side, message).of(name).proven(proven));
            }
            (Held::Other(_) | Held::Same | Held::Missing | Held::Unknown, _) => {}
        }
        Ok(true)
    }

    /// A cosigned checkpoint: signed, of a size up to its epoch's, and of the same tree as the recorded one.
    pub(super) fn check_witnessed(&mut self, name: &str, epoch: u64) -> Result<(), CheckError> {
        let (Held::Other(note), Some(end)) = (self.held(name, None)?, self.store.epoch(epoch)?) else {
            return Ok(());
        };
        let wrong = match self.read_head(&note) {
            Ok(head) if head.size > end => {
                Some(format!("it is of {} entries, its epoch of {end}", head.size))
            }
            Ok(head) => {
                self.same_as_recorded(name, head)?;
                None
            }
            Err(why) => Some(why),
        };
        if let Some(why) = wrong {
            let message = format!("the archived cosigned checkpoint: {why}");
            let finding = Finding::new(Kind::CheckpointInvalid, Side::Archive, message);
            self.found(finding.of(name).proven(true));
        }
        Ok(())
    }

    /// The newest checkpoint, and the partial tiles of its size and of the last epoch's.
    pub(super) fn check_shown(&mut self) -> Result<(), CheckError> {
        let Some(archive) = self.options.archive else { return Ok(()) };
        let note = match archive.get(LATEST_CHECKPOINT) {
            Ok(note) => Some(note),
            Err(ArchiveError::NotFound(_)) => None,
            Err(error @ ArchiveError::Unavailable(_)) => return Err(CheckError::Archive(error)),
            Err(error) => {
                let finding = Finding::new(Kind::ObjectUnreadable, Side::Archive, error.to_string());
                self.found(finding.of(LATEST_CHECKPOINT));
                return Ok(());
            }
        };
        if self.epochs == 0 || (note.is_none() && !self.options.static_log) {
            return Ok(());
        }
        let archived = self.archived;
        let lacks_before = self.archive_wrong;
        self.need_partials(archived)?;
        let shown = match &note {
            None => None,
            Some(note) => {
                self.report.counts.objects += 1;
                self.check_latest(note)?
            }
        };
        if let Some(shown) = shown.filter(|shown| *shown != archived && *shown <= self.head.size.0) {
            self.need_partials(shown)?;
        }
        let is_old = note.is_none() || shown.is_some_and(|shown| shown < self.shown_at_least(archived));
        if is_old && self.options.static_log {
            let may = self.archive_wrong == lacks_before;
            self.show_again(archive, note.as_deref(), TreeSize(archived), may)?;
        }
        Ok(())
    }

    /// The size a newest checkpoint must have: a running shipper may not have shown its last epoch yet.
    fn shown_at_least(&self, archived: u64) -> u64 {
        let before = self.epochs.checked_sub(2).filter(|_| self.options.epochs.is_some());
        match before.map(|epoch| self.store.epoch(epoch)) {
            Some(Ok(Some(size))) => size.0,
            _ if self.options.epochs.is_some() => 0,
            _ => archived,
        }
    }

    /// Its size, if it is signed.
    fn check_latest(&mut self, note: &[u8]) -> Result<Option<u64>, CheckError> {
        let head = match self.read_head(note) {
            Ok(head) => head,
            Err(why) => {
                let message = format!("the checkpoint that is shown: {why}");
                let finding = Finding::new(Kind::CheckpointInvalid, Side::Archive, message);
                self.found(finding.of(LATEST_CHECKPOINT).proven(true));
                return Ok(None);
            }
        };
        let epochs = self.store.last_epoch()?.map_or(0, |last| last + 1);
        if head.size > self.store.head()?.map_or(TreeSize(0), |(head, _)| head.size) {
            let message = "a checkpoint beyond the ledger is shown: an older disk was restored, or another daemon writes \
                           this archive; nothing is repaired";
            let finding = Finding::new(Kind::ObjectBeyond, Side::Store, message);
            self.found(finding.of(LATEST_CHECKPOINT).proven(true));
        } else if !self.is_epoch_size(head.size.0, epochs)? {
            let message =
                format!("no epoch ends with {} entries, as the checkpoint that is shown", head.size);
            self.found(Finding::new(Kind::ObjectForeign, Side::Archive, message).of(LATEST_CHECKPOINT));
        } else {
            self.same_as_recorded(LATEST_CHECKPOINT, head)?;
        }
        Ok(Some(head.size.0))
    }

    /// Shows the last epoch's checkpoint, if that was asked for and nothing it covers is missing.
    fn show_again(
        &mut self,
        archive: &dyn Archive,
        before: Option<&[u8]>,
        size: TreeSize,
        may: bool,
    ) -> Result<(), CheckError> {
        let what = if before.is_some() { "is older than the last epoch's" } else { "is not there" };
        let proven = size <= self.report.proven;
        let finding = |message: String| {
            let kind = if before.is_some() { Kind::ObjectAltered } else { Kind::ObjectMissing };
            Finding::new(kind, Side::Archive, message).of(LATEST_CHECKPOINT).proven(proven)
        };
        let note = self.store.checkpoint_row_from(size.0)?.filter(|(at, _)| *at == size.0);
        let note = note.map(|(_, note)| note).filter(|note| self.verified(note, size.0).is_ok());
        let again = note.filter(|_| self.options.repair && proven && may && self.archive_wrong == 0);
        let Some(note) = again else {
            self.found(finding(format!("the checkpoint that is shown {what}")));
            return Ok(());
        };
        match archive.put_latest(before, &note) {
            Ok(()) => {
                let told =
                    finding(format!("the checkpoint that is shown {what}; the last epoch's was shown again"));
                self.found(Finding { repaired: true, ..told });
            }
            Err(error @ ArchiveError::Unavailable(_)) => return Err(CheckError::Archive(error)),
            Err(error) => {
                let message =
                    format!("the checkpoint that is shown {what}, and the archive does not take it: {error}");
                self.found(finding(message));
            }
        }
        Ok(())
    }

    /// Whoever is shown a checkpoint of this size needs the partial tiles of it. What they hold was compared before.
    fn need_partials(&mut self, size: u64) -> Result<(), CheckError> {
        let Some(archive) = self.options.archive else { return Ok(()) };
        for path in TilePath::partial_tiles(size) {
            let TilePath { level: Some(level), index, width: Some(width) } = path else { continue };
            let name = path.to_string();
            match archive.get(&name) {
                Err(ArchiveError::NotFound(_)) => {
                    let bytes = self.edge_tile(level, index, width)?;
                    let proven = size <= self.report.proven.0 && !self.is_store_wrong();
                    self.missing(&name, bytes.as_deref(), proven)?;
                }
                Err(error @ ArchiveError::Unavailable(_)) => return Err(CheckError::Archive(error)),
                // One that cannot be read has its finding.
                Ok(_) | Err(_) => {}
            }
        }
        Ok(())
    }

    /// The recorded checkpoint of this size has the same root.
    fn same_as_recorded(&mut self, name: &str, head: TreeHead) -> Result<(), CheckError> {
        let recorded = self.store.checkpoint_row_from(head.size.0)?.filter(|(at, _)| *at == head.size.0);
        let recorded = recorded.and_then(|(_, note)| self.verified(&note, head.size.0).ok());
        let (kind, message) = match recorded {
            Some(recorded) if recorded == head => return Ok(()),
            Some(_) => {
                (Kind::Fork, format!("two signed checkpoints of {} entries have different roots", head.size))
            }
            None => {
                let message = format!("it is signed, and no checkpoint of {} entries is recorded", head.size);
                (Kind::ObjectForeign, message)
            }
        };
        let proven = kind == Kind::Fork;
        self.found(Finding::new(kind, Side::Unknown, message).of(name).proven(proven));
        Ok(())
    }

    /// A signed head of any size.
    fn read_head(&self, note: &[u8]) -> Result<TreeHead, String> {
        let text = Some(note).filter(|note| note.len() <= NOTE_BYTES_MAX).map(std::str::from_utf8);
        let size = text.and_then(|text| text.ok()?.lines().nth(1)?.parse().ok());
        self.verified(note, size.ok_or("it is not a checkpoint")?)
    }

    /// The bytes of a partial tile by what is below it; `None` if the store cannot say.
    fn edge_tile(&mut self, level: u8, index: u64, width: u8) -> Result<Option<Vec<u8>>, CheckError> {
        if (self.edge.level, self.edge.index) != (level, index) {
            self.edge = Edge { level, index, hashes: Vec::new() };
        }
        let wanted = usize::from(width);
        while self.edge.hashes.len() < wanted {
            let at = self.edge.hashes.len();
            let number = index.saturating_mul(WIDTH).saturating_add(at as u64);
            match level.checked_sub(1) {
                None => {
                    let Ok(leaves) = self.store.leaves(number, wanted - at) else { return Ok(None) };
                    self.edge.hashes.extend(leaves.iter().map(|leaf| sha256(&[&[0], leaf])));
                    if self.edge.hashes.len() < wanted {
                        return Ok(None);
                    }
                }
                Some(below) => {
                    self.go_on()?;
                    let Ok(hashes) = self.store.tile(below, number) else { return Ok(None) };
                    self.edge.hashes.push(tree_hash(&hashes));
                }
            }
        }
        Ok(self.edge.hashes.get(..wanted).map(encode_tile))
    }

    /// Whether anything was found wrong with the store, so that it can accuse nobody.
    fn is_store_wrong(&self) -> bool {
        self.report.more > 0 || self.report.findings.iter().any(|finding| finding.side == Side::Store)
    }
}

/// Sizes of trees with this partial tile at their edge: from the first to before the second. `None` if no tree has it.
fn sizes_of(level: u8, index: u64, width: u8) -> Option<(u64, u64)> {
    let nodes = index.checked_mul(WIDTH)?.checked_add(width.into())?;
    let leaves = 1u64.checked_shl(u32::from(level) * 8)?;
    let from = nodes.checked_mul(leaves)?;
    Some((from, from.checked_add(leaves)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_partial_tile_is_of_the_sizes_that_end_with_it() {
        assert_eq!(sizes_of(0, 1, 44), Some((300, 301)));
        assert_eq!(sizes_of(1, 0, 1), Some((256, 512)));
        assert_eq!(sizes_of(2, 0, 1), Some((65_536, 131_072)));
        assert_eq!(sizes_of(0, u64::MAX, 1), None);
        assert_eq!(sizes_of(9, 0, 1), None);
    }
}
