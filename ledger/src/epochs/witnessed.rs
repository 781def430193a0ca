//! Cosigned checkpoints in the archive: at most one beside each epoch, create-only.
//!
//! Witnesses cosign a checkpoint after it was archived, most often. So an epoch's object waits until its own checkpoint
//! is cosigned, or until there is something to ship in the next epoch; then it gets the newest that is. Each is larger
//! than the one before. One that was not written, because the daemon ended or the archive failed, is made up for beside
//! the next epoch: what it would have said follows from a later one.

use chancery_format::TreeSize;
use chancery_format::archive::{ObjectName, WITNESSED_PREFIX, witnessed_name};

use super::{Epochs, PAGE, ShipError, size_of_note};

/// Epochs looked back for the newest object before all are listed.
const LOOKED_BACK: u64 = 900;

/// How far cosigned checkpoints are archived.
#[derive(Debug, Default)]
pub(super) struct Witnessing {
    /// Size of the newest object; `None` until it was looked up.
    until: Option<TreeSize>,
    /// The epoch that has its object.
    done: Option<u64>,
}

impl Epochs {
    /// Archives the newest cosigned checkpoint beside the last epoch. Unless it is the `last_chance`, it waits for the
    /// checkpoint of that epoch itself.
    pub(crate) fn ship_witnessed(&mut self, last_chance: bool) -> Result<(), ShipError> {
        let Some(epoch) = self.next.checked_sub(1) else { return Ok(()) };
        if self.witnessing.done == Some(epoch) {
            return Ok(());
        }
        let Some((size, note)) = self.cosigned_up_to(self.archived)? else { return Ok(()) };
        if size < self.archived && !last_chance {
            return Ok(());
        }
        let until = match self.witnessing.until {
            Some(until) => until,
            None => self.look_up_witnessed(epoch)?,
        };
        // Looking may have shown that this epoch has its object.
        if size <= until || self.witnessing.done == Some(epoch) {
            return Ok(());
        }
        if let Err(error) = self.put(&witnessed_name(epoch), note.as_bytes()) {
            // It may be there all the same: then looking finds it.
            self.witnessing.until = None;
            return Err(error);
        }
        (self.witnessing.until, self.witnessing.done) = (Some(size), Some(epoch));
        Ok(())
    }

    /// The newest checkpoint of at most this size that enough witnesses cosigned, and its note.
    pub(super) fn cosigned_up_to(&self, size: TreeSize) -> Result<Option<(TreeSize, String)>, ShipError> {
        self.read(|reader| reader.witnessed_up_to(size))
    }

    /// Finds the newest object there is.
    fn look_up_witnessed(&mut self, epoch: u64) -> Result<TreeSize, ShipError> {
        let recent = epoch.checked_sub(LOOKED_BACK).map(witnessed_name);
        let mut last = self.archive.list_after(WITNESSED_PREFIX, recent.as_deref(), PAGE)?.pop();
        if last.is_none() && recent.is_some() {
            loop {
                let mut page = self.archive.list_after(WITNESSED_PREFIX, last.as_deref(), PAGE)?;
                let Some(found) = page.pop() else { break };
                last = Some(found);
            }
        }
        let Some(name) = last else {
            self.witnessing.until = Some(TreeSize(0));
            return Ok(TreeSize(0));
        };
        let different = || ShipError::Gap { found: name.clone(), expected: witnessed_name(epoch) };
        let Some(ObjectName::Witnessed(found)) =
            ObjectName::parse(&name).filter(|_| name <= witnessed_name(epoch))
        else {
            return Err(different());
        };
        let note = self.archive.get(&name)?;
        let until = size_of_note(&note, self.roll.origin().as_str()).ok_or_else(different)?;
        self.witnessing.until = Some(until);
        if found == epoch {
            self.witnessing.done = Some(epoch);
        }
        Ok(until)
    }
}
