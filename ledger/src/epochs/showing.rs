//! The archive as a static log of C2SP tlog-tiles: partial hash tiles, and the object `checkpoint` that is replaced.
//!
//! Promises: what a checkpoint covers is there before it is shown, in whatever order things fail; the size shown never
//! becomes smaller; an epoch that is archived stays so if showing it fails, and it is shown with the next attempt.

use chancery_format::archive::LATEST_CHECKPOINT;
use chancery_format::tile::TilePath;
use chancery_format::{Hash, TreeSize};

use super::{Epochs, ShipError, required, size_of_note};
use crate::archive::ArchiveError;

/// What is known of the static log, if the archive is to be one.
#[derive(Debug, Default)]
pub(super) struct Showing {
    pub(super) is_on: bool,
    /// The size whose partial tiles were put last.
    partials: Option<TreeSize>,
    /// The note that was shown last, by its hash.
    shown: Option<Hash>,
}

impl Showing {
    pub(super) fn new(is_on: bool) -> Self {
        Self { is_on, ..Self::default() }
    }
}

impl Epochs {
    /// The partial hash tiles of this size, at most one a level.
    pub(super) fn ship_partials(&mut self, size: TreeSize) -> Result<(), ShipError> {
        if !self.showing.is_on || self.showing.partials == Some(size) {
            return Ok(());
        }
        for path in TilePath::partial_tiles(size.0) {
            let TilePath { level: Some(level), index, width } = path else { continue };
            let bytes = self.read(|reader| required(reader.tile(level, index, width)?))?;
            self.put(&path.to_string(), &bytes)?;
        }
        self.showing.partials = Some(size);
        Ok(())
    }

    /// Makes the newest archived checkpoint the one that is shown, if it is not; with its witnesses' lines once it has
    /// enough of them.
    pub(crate) fn show_latest(&mut self) -> Result<(), ShipError> {
        let size = self.archived;
        if !self.showing.is_on || size == TreeSize(0) {
            return Ok(());
        }
        let note = match self.cosigned_up_to(size)? {
            Some((cosigned, note)) if cosigned == size => note,
            _ => self.note(size)?,
        };
        let hash = Hash::of(&[note.as_bytes()]);
        if self.showing.shown == Some(hash) {
            return Ok(());
        }
        let before = match self.archive.get(LATEST_CHECKPOINT) {
            Ok(before) => Some(before),
            Err(ArchiveError::NotFound(_)) => None,
            Err(error) => return Err(error.into()),
        };
        if before.as_deref() != Some(note.as_bytes()) {
            // An archive that became a static log only now lacks those of its last epoch.
            self.ship_partials(size)?;
            let origin = self.roll.origin().as_str();
            let shown = before.as_deref().and_then(|before| size_of_note(before, origin));
            if let Some(shown) = shown.filter(|shown| *shown > size) {
                return Err(ShipError::ShownAhead { shown, archived: size });
            }
            self.archive.put_latest(before.as_deref(), note.as_bytes())?;
            if self.archive.get(LATEST_CHECKPOINT)? != note.as_bytes() {
                return Err(ShipError::ReadBack(LATEST_CHECKPOINT.to_owned()));
            }
        }
        self.showing.shown = Some(hash);
        Ok(())
    }
}
