//! What one archive epoch is, and how the archive is compared with the ledger at start.
//!
//! Epoch `E` holds everything up to its checkpoint's size: the hash tiles and bundles that became full, the
//! signers' registry versions its leaves publish, the tail bundle, the partial hash tiles if the archive is to be a
//! static log (`showing.rs`), and the checkpoint, written last. What comes after it may fail without harm to the epoch:
//! the newest checkpoint for everybody (`showing.rs`), and a cosigned one (`witnessed.rs`). Its size is planned durably
//! before the first object is put, so an epoch that was interrupted is finished with the same objects, and one the archive
//! lost is shipped again byte for byte.

mod showing;
mod witnessed;

use std::sync::Arc;

use chancery_format::archive::{
    CHECKPOINT_PREFIX, ObjectName, checkpoint_name, registry_name, registry_signature_name,
};
use chancery_format::entry::event_type;
use chancery_format::tile::{self, LEVELS, TilePath, WIDTH, decode_bundle};
use chancery_format::{AuditEvent, Hash, TreeSize};
use serde::Deserialize;

use self::showing::Showing;
use self::witnessed::Witnessing;
use crate::archive::{Archive, ArchiveError};
use crate::read::Reader;
use crate::roll::{Roll, RollError};
use crate::sequencer::Fatal;
use crate::store::StoreError;

/// Names listed at a time.
const PAGE: usize = 1000;

/// Why shipping stopped, or did not start.
#[derive(Debug, Clone, thiserror::Error)]
pub enum ShipError {
    /// The archive failed. See [`ArchiveError`] for whether to retry.
    #[error(transparent)]
    Archive(#[from] ArchiveError),
    /// The ledger failed. Shipping goes on after a restart.
    #[error(transparent)]
    Roll(#[from] RollError),
    /// The archive knows more than the ledger: an older disk was restored, or another daemon writes this
    /// archive. Do not sign with this disk; the operator must find out which.
    #[error(
        "the archive reaches {archived} entries, the ledger only {ours}: an older disk was restored, or another daemon writes this archive"
    )]
    Ahead {
        /// Entries the archive's last checkpoint covers.
        archived: TreeSize,
        /// Entries of the ledger.
        ours: TreeSize,
    },
    /// The archive's checkpoint of this epoch is not one of ours: another ledger or another daemon writes
    /// this archive, or an older disk was restored and grew. Do not sign with this disk.
    #[error(
        "epoch {epoch} of the archive is not ours: another daemon writes this archive, or an older disk was restored"
    )]
    Different {
        /// The epoch.
        epoch: u64,
    },
    /// The archive's epochs are not contiguous, or hold a name that is none. Evidence was removed or added.
    #[error("the archive has {found} where {expected} should be")]
    Gap {
        /// What is there.
        found: String,
        /// What should be.
        expected: String,
    },
    /// The archive shows a newer checkpoint than it has epochs: somebody else replaced it, and it is not made older.
    /// Epochs go on; the operator must find out who writes there.
    #[error(
        "the archive shows a checkpoint of {shown} entries and holds epochs up to {archived}: it is not made older"
    )]
    ShownAhead {
        /// Entries the object `checkpoint` speaks of.
        shown: TreeSize,
        /// Entries under the last epoch.
        archived: TreeSize,
    },
    /// An object read back is not what was put. The archive is at fault; shipping stops.
    #[error("the archive returned other bytes than were put under {0}")]
    ReadBack(String),
}

impl ShipError {
    /// Whether the same attempt may succeed later without anybody acting.
    pub const fn is_transient(&self) -> bool {
        matches!(
            self,
            Self::Archive(ArchiveError::Unavailable(_))
                | Self::Roll(RollError::Overloaded | RollError::Unreadable(_))
        )
    }
}

/// How far the archive is, and how it gets further.
pub(crate) struct Epochs {
    roll: Roll,
    archive: Arc<dyn Archive>,
    next: u64,
    archived: TreeSize,
    showing: Showing,
    witnessing: Witnessing,
}

impl Epochs {
    /// Compares the archive with the ledger: behind, we ship again; equal, we go on; ahead or different, we
    /// refuse. `static_log`: others are to follow the archive by C2SP tlog-tiles.
    pub(crate) fn compare(
        roll: Roll,
        archive: Arc<dyn Archive>,
        static_log: bool,
    ) -> Result<Self, ShipError> {
        archive.check_at_start()?;
        let (showing, witnessing) = (Showing::new(static_log), Witnessing::default());
        let mut epochs = Self { roll, archive, next: 0, archived: TreeSize(0), showing, witnessing };
        if let Some(last) = epochs.last_archived()? {
            epochs.archived = epochs.check_last(last)?;
            epochs.next = last + 1;
        }
        Ok(epochs)
    }

    /// Number of the next epoch.
    pub(crate) const fn next(&self) -> u64 {
        self.next
    }

    /// Entries under the archive's last checkpoint.
    pub(crate) const fn archived(&self) -> TreeSize {
        self.archived
    }

    /// Whether there is something for the next epoch.
    pub(crate) fn has_more(&self) -> bool {
        self.roll.latest_checkpoint().is_some_and(|newest| newest.size > self.archived)
    }

    /// Whether the next epoch is planned already: it was interrupted, or the archive lost it.
    pub(crate) fn is_behind_plan(&self) -> Result<bool, ShipError> {
        Ok(self.planned(self.next)?.is_some())
    }

    /// Ships one epoch, if there is anything new under a checkpoint.
    pub(crate) fn ship_next(&mut self) -> Result<bool, ShipError> {
        let Some(size) = self.plan()? else { return Ok(false) };
        self.ship_tiles(size)?;
        self.ship_full_bundles(size)?;
        self.ship_tail(size)?;
        self.ship_partials(size)?;
        let note = self.note(size)?;
        self.put(&checkpoint_name(self.next), note.as_bytes())?;
        self.archived = size;
        self.next += 1;
        Ok(true)
    }

    /// The size the next epoch closes with, durable before anything is put.
    fn plan(&self) -> Result<Option<TreeSize>, ShipError> {
        if let Some(size) = self.planned(self.next)? {
            return Ok(Some(size));
        }
        let newest = self.roll.latest_checkpoint().filter(|newest| newest.size > self.archived);
        let Some(newest) = newest else { return Ok(None) };
        self.roll.plan_epoch_blocking(self.next, newest.size)?;
        Ok(Some(newest.size))
    }

    fn ship_tiles(&self, size: TreeSize) -> Result<(), ShipError> {
        for level in 0..LEVELS {
            let (from, to) = (tile::full_tiles(level, self.archived.0), tile::full_tiles(level, size.0));
            for number in from..to {
                let bytes = self.read(|reader| required(reader.tile(level, number, None)?))?;
                self.put(&TilePath::tile(level, number).to_string(), &bytes)?;
            }
        }
        Ok(())
    }

    fn ship_full_bundles(&self, size: TreeSize) -> Result<(), ShipError> {
        for number in self.archived.0 / WIDTH..size.0 / WIDTH {
            let bundle = self.read(|reader| required(reader.bundle(number, None)?))?;
            self.ship_published(number, &bundle)?;
            self.put(&TilePath::entries(number).to_string(), &bundle)?;
        }
        Ok(())
    }

    fn ship_tail(&self, size: TreeSize) -> Result<(), ShipError> {
        let Some(path) = TilePath::tail_entries(size.0) else { return Ok(()) };
        let bundle = self.read(|reader| required(reader.bundle(path.index, path.width)?))?;
        self.ship_published(path.index, &bundle)?;
        self.put(&path.to_string(), &bundle)
    }

    /// Ships the registry versions that new leaves of this bundle publish.
    fn ship_published(&self, bundle_number: u64, bundle: &[u8]) -> Result<(), ShipError> {
        for (index, leaf) in (bundle_number * WIDTH..).zip(decode_bundle(bundle)) {
            let published = leaf.ok().filter(|_| index >= self.archived.0).and_then(Published::of_leaf);
            let Some(published) = published else { continue };
            let stored = self.read(|reader| reader.registry(published.version))?;
            match stored.filter(|(json, _)| Hash::of(&[json]).to_hex() == published.sha256) {
                Some((json, note)) => {
                    self.put(&registry_name(published.version), &json)?;
                    self.put(&registry_signature_name(published.version), note.as_bytes())?;
                }
                None => tracing::error!(
                    version = published.version,
                    "a registry version was published that was not recorded: the archive will lack it"
                ),
            }
        }
        Ok(())
    }

    /// Puts an object and reads it back.
    fn put(&self, name: &str, bytes: &[u8]) -> Result<(), ShipError> {
        self.archive.put_new(name, bytes)?;
        let returned = self.archive.get(name)?;
        if Hash::of(&[&returned]) == Hash::of(&[bytes]) {
            Ok(())
        } else {
            Err(ShipError::ReadBack(name.to_owned()))
        }
    }

    /// The archive's last epoch; its epochs must be contiguous from 0 as far as they are looked at.
    fn last_archived(&self) -> Result<Option<u64>, ShipError> {
        let planned = self.read(|reader| reader.last_epoch())?;
        // Usually the last planned epoch is there, or the one before: then nothing older is listed.
        let recent = planned.into_iter().chain(planned.and_then(|last| last.checked_sub(1)));
        let mut last = None;
        for epoch in recent {
            match self.archive.get(&checkpoint_name(epoch)) {
                Ok(_) => {
                    last = Some(epoch);
                    break;
                }
                Err(ArchiveError::NotFound(_)) => {}
                Err(error) => return Err(error.into()),
            }
        }
        loop {
            let after = last.map(checkpoint_name);
            let page = self.archive.list_after(CHECKPOINT_PREFIX, after.as_deref(), PAGE)?;
            if page.is_empty() {
                return Ok(last);
            }
            for found in page {
                let next = last.map_or(0, |last| last + 1);
                if ObjectName::parse(&found) != Some(ObjectName::Checkpoint(next)) {
                    return Err(ShipError::Gap { found, expected: checkpoint_name(next) });
                }
                last = Some(next);
            }
        }
    }

    /// The archive's last checkpoint must be one we recorded, for an epoch we planned with its size.
    fn check_last(&self, epoch: u64) -> Result<TreeSize, ShipError> {
        let note = self.archive.get(&checkpoint_name(epoch))?;
        let different = ShipError::Different { epoch };
        let Some(size) = size_of_note(&note, self.roll.origin().as_str()) else { return Err(different) };
        let ours = self.roll.head().head().size;
        if size > ours {
            return Err(ShipError::Ahead { archived: size, ours });
        }
        let planned = self.planned(epoch)? == Some(size);
        if planned && self.note(size)?.as_bytes() == note { Ok(size) } else { Err(different) }
    }

    fn planned(&self, epoch: u64) -> Result<Option<TreeSize>, ShipError> {
        self.read(|reader| reader.epoch(epoch))
    }

    fn note(&self, size: TreeSize) -> Result<String, ShipError> {
        self.read(|reader| required(reader.checkpoint(size)?))
    }

    fn read<T>(&self, work: impl FnOnce(&Reader<'_>) -> Result<T, Fatal>) -> Result<T, ShipError> {
        let shared = self.roll.shared();
        if let Some(dead) = shared.dead() {
            return Err(dead.into());
        }
        Ok(work(&shared.reader()).map_err(|error| shared.read_failed(error))?)
    }
}

/// What a recorded checkpoint covers must be readable.
fn required<T>(found: Option<T>) -> Result<T, Fatal> {
    let missing = || StoreError::Corrupt("a recorded checkpoint covers what is not there".into());
    found.ok_or_else(|| missing().into())
}

/// The size a note of this origin speaks of. Enough to order it; its truth is decided by comparing bytes.
fn size_of_note(note: &[u8], origin: &str) -> Option<TreeSize> {
    let mut lines = std::str::from_utf8(note).ok()?.lines();
    let same = lines.next()? == origin;
    same.then(|| lines.next()?.parse().ok().map(TreeSize)).flatten()
}

/// Payload of `registry.published`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Published {
    pub(crate) sha256: String,
    pub(crate) version: u64,
}

impl Published {
    pub(crate) fn of_payload(payload: &str) -> Option<Self> {
        serde_json::from_str(payload).ok()
    }

    fn of_leaf(leaf: &[u8]) -> Option<Self> {
        const START: &[u8] = b"{\"actor\":\"chancery\",\"eventType\":\"registry.published\",";
        if !leaf.starts_with(START) {
            return None;
        }
        let event = AuditEvent::read(leaf).ok()?;
        debug_assert_eq!(event.event_type, event_type::REGISTRY);
        Self::of_payload(event.payload)
    }
}
