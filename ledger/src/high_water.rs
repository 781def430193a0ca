//! The high-water mark: how far the roll ever got, kept beside the database.
//!
//! Replaying a write-ahead log stops quietly at a damaged record, which would take back entries that
//! were acknowledged. This file remembers the last acknowledged head, so that opening a roll which lost
//! some is refused instead. After the death of the process it is exact; after a power cut it may lag by
//! what was written since the last checkpoint, never lead.
//!
//! Two slots, each in its own disk sector, written in turn: `size:8 ‖ root:32 ‖ SHA-256 of those:32`,
//! big-endian. The valid slot with the larger size counts; without one the file is damaged.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;

use chancery_format::{Hash, TreeHead, TreeSize};

/// One sector per slot, so that a torn write damages one of them.
const SLOT_BYTES: u64 = 4096;
/// Size, root, checksum.
const RECORD_BYTES: usize = 72;

/// The open file.
#[derive(Debug)]
pub(crate) struct HighWater {
    file: File,
    next: u64,
}

impl HighWater {
    /// Makes the file; it must not exist.
    pub(crate) fn create(path: &Path, head: TreeHead) -> io::Result<Self> {
        let file = OpenOptions::new().read(true).write(true).create_new(true).open(path)?;
        file.set_len(2 * SLOT_BYTES)?;
        let mut mark = Self { file, next: 0 };
        mark.raise(head)?;
        mark.raise(head)?;
        mark.file.sync_all()?;
        Ok(mark)
    }

    /// Opens the file and reads the mark; `None` if both slots are damaged.
    pub(crate) fn open(path: &Path) -> io::Result<Option<(Self, TreeHead)>> {
        let file = OpenOptions::new().read(true).write(true).open(path)?;
        let slots = [read_slot(&file, 0)?, read_slot(&file, 1)?];
        let highest = slots.into_iter().flatten().max_by_key(|head| head.size);
        let Some(head) = highest else { return Ok(None) };
        let next = u64::from(slots.first().copied().flatten() == Some(head));
        Ok(Some((Self { file, next }, head)))
    }

    /// Both marks, each `None` if it is damaged; changes nothing.
    pub(crate) fn peek(path: &Path) -> io::Result<[Option<TreeHead>; 2]> {
        let file = File::open(path)?;
        Ok([read_slot(&file, 0)?, read_slot(&file, 1)?])
    }

    /// Records a head that is durable in the database.
    pub(crate) fn raise(&mut self, head: TreeHead) -> io::Result<()> {
        self.file.write_all_at(&encode(head), self.next * SLOT_BYTES)?;
        self.next ^= 1;
        Ok(())
    }

    /// Makes the mark survive a power cut.
    pub(crate) fn sync(&self) -> io::Result<()> {
        self.file.sync_data()
    }
}

fn encode(head: TreeHead) -> [u8; RECORD_BYTES] {
    let size = head.size.0.to_be_bytes();
    let sum = Hash::of(&[&size, &head.root.0]);
    let mut record = [0; RECORD_BYTES];
    let fields = size.iter().chain(&head.root.0).chain(&sum.0);
    record.iter_mut().zip(fields).for_each(|(to, from)| *to = *from);
    record
}

fn read_slot(file: &File, slot: u64) -> io::Result<Option<TreeHead>> {
    let mut record = [0; RECORD_BYTES];
    match file.read_exact_at(&mut record, slot * SLOT_BYTES) {
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
        other => other?,
    }
    let Some((size, rest)) = record.split_first_chunk::<8>() else { return Ok(None) };
    let Some((root, _)) = rest.split_first_chunk::<32>() else { return Ok(None) };
    let head = TreeHead { size: TreeSize(u64::from_be_bytes(*size)), root: Hash(*root) };
    Ok((encode(head) == record).then_some(head))
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a failed unwrap is the test's failure")]
    use super::*;

    fn head(size: u64) -> TreeHead {
        TreeHead { size: TreeSize(size), root: Hash([u8::try_from(size).unwrap(); 32]) }
    }

    #[test]
    fn the_last_mark_survives_and_a_torn_one_falls_back_to_the_one_before() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("high_water");
        let mut mark = HighWater::create(&path, head(0)).unwrap();
        for size in 1..=5 {
            mark.raise(head(size)).unwrap();
            assert_eq!(HighWater::open(&path).unwrap().unwrap().1, head(size));
        }
        let (mut reopened, _) = HighWater::open(&path).unwrap().unwrap();
        reopened.raise(head(6)).unwrap();
        assert_eq!(HighWater::open(&path).unwrap().unwrap().1, head(6));
        let file = OpenOptions::new().write(true).open(&path).unwrap();
        let torn = (0..2).find(|slot| read_slot(&reopened.file, *slot).unwrap() == Some(head(6))).unwrap();
        file.write_all_at(&[0xFF; 20], torn * SLOT_BYTES + 4).unwrap();
        assert_eq!(HighWater::open(&path).unwrap().unwrap().1, head(5));
        file.write_all_at(&[0xFF; 20], (torn ^ 1) * SLOT_BYTES + 40).unwrap();
        assert!(HighWater::open(&path).unwrap().is_none());
    }

    #[test]
    fn it_is_never_made_twice() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("high_water");
        HighWater::create(&path, head(1)).unwrap();
        assert_eq!(HighWater::create(&path, head(0)).unwrap_err().kind(), io::ErrorKind::AlreadyExists);
    }
}
