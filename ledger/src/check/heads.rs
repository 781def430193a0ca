//! What the store's checkpoints, the archive's epochs and the high-water marks say, in the order of their sizes.

use chancery_format::archive::checkpoint_name;
use chancery_format::tile::{TilePath, WIDTH};
use chancery_format::{TreeHead, TreeSize};

use super::findings::{Finding, Kind, Side};
use super::objects::Held;
use super::proof::{Source, Tile};
use super::walk::{Leaves, bundle_of, hashes_of_bundle, leaf_hash, not_one};
use super::{Check, CheckError};
use crate::archive::ArchiveError;

/// Failures after which a root is tried less and less often: with nothing proven each try reads all that waits.
const TRIES_BEFORE_PATIENCE: u64 = 64;

/// A size of the tree about which somebody says something.
pub(super) struct Stop {
    size: u64,
    /// The recorded checkpoint, as stored.
    note: Option<Vec<u8>>,
    /// The archive epoch that ends here and was shipped.
    epoch: Option<u64>,
    mark: Option<TreeHead>,
}

/// All stops, ascending.
pub(super) struct Stops {
    checkpoint: Option<(u64, Vec<u8>)>,
    epoch: Option<(u64, u64)>,
    marks: Vec<TreeHead>,
    unreadable: Option<String>,
}

impl Stops {
    pub(super) fn new(check: &mut Check<'_>) -> Self {
        let mut marks = check.marks.clone();
        marks.retain(|mark| mark.size.0 > 0 && mark.size <= check.head.size);
        marks.sort_by_key(|mark| std::cmp::Reverse(mark.size));
        let mut stops = Self { checkpoint: None, epoch: None, marks, unreadable: None };
        stops.read_checkpoint(check, 0);
        stops.read_epoch(check, 0, 0);
        stops
    }

    fn read_checkpoint(&mut self, check: &mut Check<'_>, from: u64) {
        match check.store.checkpoint_row_from(from) {
            Ok(row) => self.checkpoint = row.filter(|(size, _)| *size <= check.head.size.0),
            Err(error) => {
                self.checkpoint = None;
                self.unreadable = Some(error.to_string());
                let message = format!("recorded checkpoints from size {from} on cannot be read: {error}");
                check.found(Finding::new(Kind::CheckpointInvalid, Side::Store, message));
            }
        }
    }

    /// The shipped epoch `number` or the next one that makes sense, which must reach beyond `after`.
    fn read_epoch(&mut self, check: &mut Check<'_>, number: u64, after: u64) {
        self.epoch = None;
        for number in number..check.epochs {
            match check.store.epoch(number) {
                Ok(Some(TreeSize(size))) if size > after && size <= check.head.size.0 => {
                    self.epoch = Some((number, size));
                    return;
                }
                Ok(found) => {
                    let found = found.map_or_else(|| "nothing".to_owned(), |size| size.to_string());
                    let message = format!("epoch {number} is planned with {found} after {after}");
                    check.found(
                        Finding::new(Kind::EpochInvalid, Side::Store, message).of(checkpoint_name(number)),
                    );
                }
                Err(error) => {
                    check.found(Finding::new(Kind::EpochInvalid, Side::Store, error.to_string()));
                }
            }
        }
    }

    /// The next stop below this size.
    pub(super) fn next_below(
        &mut self,
        check: &mut Check<'_>,
        limit: u64,
    ) -> Result<Option<Stop>, CheckError> {
        let sizes = [
            self.checkpoint.as_ref().map(|(size, _)| *size),
            self.epoch.map(|(_, size)| size),
            self.marks.last().map(|mark| mark.size.0),
        ];
        let Some(size) = sizes.into_iter().flatten().min().filter(|size| *size < limit) else {
            return Ok(None);
        };
        let mut stop = Stop { size, note: None, epoch: None, mark: None };
        if let Some((_, note)) = self.checkpoint.take_if(|(at, _)| *at == size) {
            stop.note = Some(note);
            self.read_checkpoint(check, size + 1);
        }
        if let Some((number, _)) = self.epoch.take_if(|(_, at)| *at == size) {
            stop.epoch = Some(number);
            self.read_epoch(check, number + 1, size);
        }
        while let Some(mark) = self.marks.pop_if(|mark| mark.size.0 == size) {
            stop.mark = Some(mark);
        }
        Ok(Some(stop))
    }
}

/// A checkpoint's words, and whether they count.
struct Said {
    head: Option<TreeHead>,
    note: Vec<u8>,
}

impl Check<'_> {
    /// How many epochs the archive must have, and how far they reach.
    pub(super) fn find_shipped(&mut self, planned: Option<u64>) -> Result<(), CheckError> {
        let Some(archive) = self.options.archive else { return Ok(()) };
        match archive.check_at_start() {
            Ok(()) => {}
            Err(error @ ArchiveError::Unavailable(_)) => return Err(CheckError::Archive(error)),
            Err(error) => {
                let message = format!("it is no place that keeps what it is given: {error}");
                self.found(Finding::new(Kind::ObjectUnlocked, Side::Archive, message));
            }
        }
        let epochs = match (self.options.epochs, planned) {
            (Some(shipped), _) => shipped,
            (None, None) => 0,
            (None, Some(last)) => match archive.get(&checkpoint_name(last)) {
                Ok(_) => last + 1,
                // It is under way, or was interrupted, and is shipped at the next start.
                Err(ArchiveError::NotFound(_)) => last,
                Err(error) => return Err(CheckError::Archive(error)),
            },
        };
        let size = match epochs.checked_sub(1) {
            Some(last) => self.store.epoch(last)?.map_or(0, |size| size.0),
            None => 0,
        };
        (self.epochs, self.archived) = (epochs, size.min(self.head.size.0));
        Ok(())
    }

    /// Tries every root that is claimed for this size, and looks at what the archive has of an epoch that ends here.
    /// `last` is the tile the size ends in, unless it ends with a full one.
    pub(super) fn stop_at(
        &mut self,
        stop: Stop,
        mut last: Option<(&mut Tile, &Leaves)>,
    ) -> Result<(), CheckError> {
        let width = usize::try_from(stop.size % WIDTH).unwrap_or(0);
        let stored = stop.note.as_ref().map(|note| self.stored_checkpoint(stop.size, note));
        let archived = match stop.epoch {
            Some(epoch) => self.archived_checkpoint(epoch, stop.size, stored.as_ref())?,
            None => None,
        };
        if let (Some(epoch), None) = (stop.epoch, &stored) {
            let message = format!("no checkpoint of {} entries is recorded", stop.size);
            self.found(Finding::new(Kind::EpochInvalid, Side::Store, message).of(checkpoint_name(epoch)));
        }
        let mut tail_missing = false;
        if let (Some(_), Some((tile, leaves))) = (stop.epoch, last.as_mut()) {
            tail_missing = self.tail_copy(tile, leaves, width)?;
        }
        let heads = [&stored, &archived].map(|said| said.as_ref().and_then(|said| said.head));
        if let [Some(ours), Some(theirs)] = heads
            && ours != theirs
        {
            let message = format!("two signed checkpoints of {} entries have different roots", stop.size);
            let object = stop.epoch.map(checkpoint_name).unwrap_or_default();
            self.found(Finding::new(Kind::Fork, Side::Unknown, message).of(object).proven(true));
        }
        let mut matched = false;
        let claimed: Vec<TreeHead> = heads.into_iter().flatten().collect();
        for head in &claimed {
            matched = matched || self.matches(*head, last.as_mut().map(|(tile, _)| &mut **tile))?;
        }
        if !matched && !claimed.is_empty() {
            self.unmatched += 1;
            self.first_unmatched = self.first_unmatched.or(Some(stop.size));
        }
        if let Some(mark) = stop.mark {
            self.check_mark(mark, last.as_ref().map(|(tile, _)| &**tile));
        }
        if matched {
            self.check_published(stop.size)?;
        }
        let Some(epoch) = stop.epoch else { return Ok(()) };
        if let (true, Some((tile, leaves))) = (tail_missing, last.as_ref()) {
            let path = TilePath { level: None, index: tile.number, width: u8::try_from(width).ok() };
            let right = tile.versions.iter().any(|version| {
                version.hashes.len() >= width
                    && leaves.iter().take(width).map(|leaf| leaf_hash(leaf.as_deref())).eq(version
                        .hashes
                        .iter()
                        .take(width)
                        .copied())
            });
            let again = leaves.get(..width).filter(|_| right).and_then(bundle_of);
            self.missing(&path.to_string(), again.as_deref(), matched)?;
        }
        if archived.is_none() && self.options.archive.is_some() {
            // Written last: only where nothing that it covers is missing or wrong.
            let whole = matched && (self.archive_wrong == 0 || !self.options.repair);
            let note = stored.filter(|said| said.head.is_some()).map(|said| said.note);
            self.missing(&checkpoint_name(epoch), note.as_deref(), whole)?;
        }
        Ok(())
    }

    /// Whether the entries lead to a signed root; then everything up to it is settled.
    fn matches(&mut self, head: TreeHead, mut last: Option<&mut Tile>) -> Result<bool, CheckError> {
        let failed = self.unmatched;
        if failed > TRIES_BEFORE_PATIENCE && !failed.is_power_of_two() && head.size != self.head.size {
            return Ok(false);
        }
        let Some(proven) = self.proof.reach(head, last.as_deref()) else { return Ok(false) };
        self.unmatched = 0;
        self.raise_proven(head.size);
        let truth = proven.beginning.clone();
        self.settle(proven, true)?;
        if let Some(tile) = last.as_mut() {
            for version in tile.settle_beginning(&truth) {
                self.told_wrong(&version, tile.number, &truth, true);
            }
        }
        Ok(true)
    }

    fn check_mark(&mut self, mark: TreeHead, last: Option<&Tile>) {
        if !self.proof.leads(mark, last) {
            let message = format!("the stored entries do not lead to the mark at {} entries", mark.size);
            self.found(Finding::new(Kind::HighWater, Side::Store, message));
        }
    }

    /// What the store recorded: its signature, and that of the note with witnesses' cosignatures.
    fn stored_checkpoint(&mut self, size: u64, note: &[u8]) -> Said {
        self.report.counts.checkpoints += 1;
        let head = match self.verified(note, size) {
            Ok(head) => Some(head),
            Err(why) => {
                let message = format!("the recorded checkpoint of {size} entries: {why}");
                self.found(Finding::new(Kind::CheckpointInvalid, Side::Store, message).proven(true));
                None
            }
        };
        let witnessed = self.store.witnessed_from(size).ok().flatten().filter(|(of, _)| of.0 == size);
        if let Some((_, witnessed)) = witnessed {
            let same = self.verified(witnessed.as_bytes(), size).ok();
            if same.is_none() || (head.is_some() && same != head) {
                let message = format!("the witnessed checkpoint of {size} entries is not the recorded one");
                self.found(Finding::new(Kind::CheckpointInvalid, Side::Store, message));
            }
        }
        Said { head, note: note.to_vec() }
    }

    /// What the archive has for an epoch; `None` if it has nothing.
    fn archived_checkpoint(
        &mut self,
        epoch: u64,
        size: u64,
        stored: Option<&Said>,
    ) -> Result<Option<Said>, CheckError> {
        let name = checkpoint_name(epoch);
        let note = match self.held(&name, stored.map(|said| said.note.as_slice()))? {
            Held::Missing => return Ok(None),
            Held::Unknown => return Ok(Some(Said { head: None, note: Vec::new() })),
            Held::Same => match stored {
                Some(said) => return Ok(Some(Said { head: said.head, note: said.note.clone() })),
                None => Vec::new(),
            },
            Held::Other(note) => note,
        };
        let head = match self.verified(&note, size) {
            Ok(head) => Some(head),
            Err(why) => {
                let message = format!("the archived checkpoint: {why}");
                self.found(
                    Finding::new(Kind::CheckpointInvalid, Side::Archive, message).of(name).proven(true),
                );
                return Ok(Some(Said { head: None, note }));
            }
        };
        if stored.is_some_and(|said| said.head == head) {
            let message = "both checkpoints are signed and say the same, in different bytes";
            self.found(Finding::new(Kind::ObjectAltered, Side::Unknown, message).of(name));
        }
        Ok(Some(Said { head, note }))
    }

    pub(super) fn verified(&self, note: &[u8], size: u64) -> Result<TreeHead, String> {
        let text = std::str::from_utf8(note).map_err(|_| "it is no text".to_owned())?;
        let head = self.options.keys.verify(text).map_err(|error| error.to_string())?.head();
        if head.size.0 == size {
            Ok(head)
        } else {
            Err(format!("it is of {} entries, not {size}", head.size))
        }
    }

    /// The tail bundle of an epoch; `true` if the archive lacks it.
    fn tail_copy(&mut self, tile: &mut Tile, leaves: &Leaves, width: usize) -> Result<bool, CheckError> {
        let Some(short) = u8::try_from(width).ok().filter(|short| *short > 0) else { return Ok(false) };
        let path = TilePath { level: None, index: tile.number, width: Some(short) }.to_string();
        let expected = leaves.get(..width).and_then(bundle_of);
        match self.held(&path, expected.as_deref())? {
            Held::Missing => return Ok(true),
            Held::Same | Held::Unknown => {}
            Held::Other(bytes) => match hashes_of_bundle(&bytes, width) {
                Some(hashes) => tile.add(Source::Tail(short), hashes),
                None => self.found(not_one(path, "a bundle of its width")),
            },
        }
        Ok(false)
    }

    /// Signed roots that nothing led to.
    pub(super) fn told_unmatched(&mut self, stops: &Stops) {
        let Some(first) = self.first_unmatched else { return };
        // A later root that matched proves all entries: then the ledger key signed something else before.
        let side = if self.report.proven.0 >= first || self.epochs > 0 { Side::Unknown } else { Side::Store };
        let also =
            stops.unreadable.as_ref().map(|_| "; some checkpoints could not be read").unwrap_or_default();
        let message = format!("no copy of the entries leads to the signed root of {first} entries{also}");
        self.found(Finding::new(Kind::RootMismatch, side, message).proven(true));
    }
}
