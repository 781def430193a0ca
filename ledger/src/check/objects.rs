//! Archived objects: compared byte for byte, missing, shipped again, beyond the ledger.

use chancery_format::TreeSize;
use chancery_format::archive::ObjectName;
use chancery_format::tile::{TilePath, WIDTH, full_tiles};

use super::findings::{Finding, Kind, Side};
use super::{Check, CheckError};
use crate::archive::{ArchiveError, Protection};

/// Names listed at a time.
const PAGE: usize = 1000;

/// What the archive has under a name.
pub(super) enum Held {
    /// The expected bytes.
    Same,
    /// Others.
    Other(Vec<u8>),
    Missing,
    /// It refuses to say; there is a finding.
    Unknown,
}

impl Check<'_> {
    /// Reads an object and its protection. Nothing expected means that the store cannot say what it should be.
    pub(super) fn held(&mut self, name: &str, expected: Option<&[u8]>) -> Result<Held, CheckError> {
        self.go_on()?;
        let Some(archive) = self.options.archive else { return Ok(Held::Unknown) };
        let bytes = match archive.get(name) {
            Ok(bytes) => bytes,
            Err(ArchiveError::NotFound(_)) => return Ok(Held::Missing),
            Err(error @ ArchiveError::Unavailable(_)) => return Err(CheckError::Archive(error)),
            Err(error) => {
                self.found(Finding::new(Kind::ObjectUnreadable, Side::Archive, error.to_string()).of(name));
                return Ok(Held::Unknown);
            }
        };
        self.report.counts.objects += 1;
        match archive.protection(name, &bytes) {
            Ok(Protection::Unknown | Protection::Kept) => {}
            Ok(Protection::Unlocked(why)) => {
                self.found(Finding::new(Kind::ObjectUnlocked, Side::Archive, why).of(name));
            }
            Ok(Protection::Overlaid(why)) => {
                self.found(Finding::new(Kind::ObjectOverlaid, Side::Archive, why).of(name));
            }
            Err(error @ ArchiveError::Unavailable(_)) => return Err(CheckError::Archive(error)),
            Err(error) => {
                self.found(Finding::new(Kind::ObjectUnreadable, Side::Archive, error.to_string()).of(name));
            }
        }
        Ok(if expected == Some(bytes.as_slice()) { Held::Same } else { Held::Other(bytes) })
    }

    /// An object that must be there and is not. It is shipped again if that was asked for, if the store has its bytes,
    /// and if a signed checkpoint proves them.
    pub(super) fn missing(
        &mut self,
        name: &str,
        bytes: Option<&[u8]>,
        proven: bool,
    ) -> Result<(), CheckError> {
        let finding =
            |message: &str| Finding::new(Kind::ObjectMissing, Side::Archive, message).of(name).proven(proven);
        let (true, Some(archive)) = (self.options.repair, self.options.archive) else {
            self.found(finding("the archive lacks an object that was shipped"));
            return Ok(());
        };
        let Some(bytes) = bytes.filter(|_| proven) else {
            self.found(finding(
                "the archive lacks it, and nothing signed proves what it was: it is not shipped again",
            ));
            return Ok(());
        };
        match archive.put_new(name, bytes).and_then(|_| archive.get(name)) {
            Ok(returned) if returned == bytes => {
                let told = finding("the archive lacked it; it was shipped again");
                self.found(Finding { repaired: true, ..told });
            }
            Err(error @ ArchiveError::Unavailable(_)) => return Err(CheckError::Archive(error)),
            Ok(_) => self.found(finding("it was shipped again, and the archive returns other bytes")),
            Err(error) => {
                self.found(finding(&format!("the archive lacks it, and does not take it: {error}")))
            }
        }
        Ok(())
    }

    /// Looks for objects that are not of this ledger, or beyond it. They are never touched.
    pub(super) fn look_beyond(&mut self) -> Result<(), CheckError> {
        let Some(archive) = self.options.archive else { return Ok(()) };
        let mut after: Option<String> = None;
        loop {
            self.go_on()?;
            let page = archive.list_after("", after.as_deref(), PAGE).map_err(CheckError::Archive)?;
            // Read after the list: what is being shipped meanwhile was planned before it was put.
            let planned = self.store.last_epoch()?;
            let size = match planned {
                Some(last) => self.store.epoch(last)?.map_or(0, |size| size.0),
                None => 0,
            };
            let registry = self.store.last_registry()?.unwrap_or(0);
            for name in &page {
                self.check_name(name, planned.map_or(0, |last| last + 1), size, registry)?;
            }
            let Some(last) = page.last() else { return Ok(()) };
            after = Some(last.clone());
        }
    }

    fn check_name(&mut self, name: &str, epochs: u64, size: u64, registry: u64) -> Result<(), CheckError> {
        let Some(object) = ObjectName::parse(name) else {
            let message = "no object of an archive has this name";
            self.found(Finding::new(Kind::ObjectForeign, Side::Archive, message).of(name).proven(true));
            return Ok(());
        };
        let ours = match object {
            ObjectName::Tile(TilePath { level: None, index, width: None }) => index < size / WIDTH,
            ObjectName::Tile(TilePath { level: None, index, width: Some(width) }) => {
                let end = index.saturating_mul(WIDTH).saturating_add(width.into());
                if end <= size && !self.is_epoch_size(end, epochs)? {
                    let message = "no epoch ends with this many entries";
                    self.found(Finding::new(Kind::ObjectForeign, Side::Archive, message).of(name));
                }
                end <= size
            }
            ObjectName::Tile(TilePath { level: Some(level), index, width: None }) => {
                index < full_tiles(level, size)
            }
            ObjectName::Tile(TilePath { level: Some(level), index, width: Some(width) }) => {
                self.check_partial(name, (level, index, width), (epochs, size))?
            }
            ObjectName::Checkpoint(epoch) => epoch < epochs,
            ObjectName::Witnessed(epoch) => {
                if epoch < epochs {
                    self.check_witnessed(name, epoch)?;
                }
                epoch < epochs
            }
            // Looked at when all else is known.
            ObjectName::Latest => true,
            ObjectName::Registry(version) | ObjectName::RegistrySignature(version) => version <= registry,
        };
        if !ours {
            self.told_beyond(name, &object)?;
        }
        Ok(())
    }

    /// The archive knows more than the ledger. If a signed checkpoint says so, it is the ledger that was set back.
    fn told_beyond(&mut self, name: &str, object: &ObjectName) -> Result<(), CheckError> {
        let signed = match (object, self.options.archive) {
            (ObjectName::Checkpoint(_), Some(archive)) => match archive.get(name) {
                Ok(note) => self.signed_size(&note).is_some_and(|size| size > self.head.size),
                Err(error @ ArchiveError::Unavailable(_)) => return Err(CheckError::Archive(error)),
                Err(_) => false,
            },
            _ => false,
        };
        let side = if signed { Side::Store } else { Side::Unknown };
        let message = "the archive has it and the ledger does not reach it: an older disk was restored, or another \
                       daemon writes this archive; nothing is repaired";
        self.found(Finding::new(Kind::ObjectBeyond, side, message).of(name).proven(signed));
        Ok(())
    }

    fn signed_size(&self, note: &[u8]) -> Option<TreeSize> {
        let size = std::str::from_utf8(note).ok()?.lines().nth(1)?.parse().ok()?;
        self.verified(note, size).ok().map(|head| head.size)
    }

    /// Sizes of epochs ascend: looked up without reading all of them.
    pub(super) fn is_epoch_size(&self, size: u64, epochs: u64) -> Result<bool, CheckError> {
        Ok(self.epoch_size_from(size, epochs)? == Some(size))
    }

    /// The first size of an epoch that is not below this one.
    pub(super) fn epoch_size_from(&self, size: u64, epochs: u64) -> Result<Option<u64>, CheckError> {
        let (mut low, mut high, mut first) = (0, epochs, None);
        while low < high {
            let middle = low + (high - low) / 2;
            match self.store.epoch(middle)? {
                Some(found) if found.0 < size => low = middle + 1,
                found => {
                    first = found.map(|found| found.0).or(first);
                    high = middle;
                }
            }
        }
        Ok(first)
    }
}
