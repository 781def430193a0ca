//! A disk and an archive that lose one call when told, on either side of it, and are sound otherwise.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Condvar, Mutex};

use chancery_format::archive::ObjectName;
use chancery_ledger::{Archive, ArchiveError, DirectoryArchive, Disk, DiskError, Put, RealDisk};

use crate::words::{Fails, How, Object, Side, Write};

/// A disk that loses one commit.
#[derive(Debug, Default)]
pub(crate) struct BrokenDisk {
    armed: Mutex<Option<(u32, Side)>>,
}

impl BrokenDisk {
    pub(crate) fn lose(&self, write: Write, side: Side) {
        *self.armed.lock().unwrap() = Some((write.nth(), side));
    }

    /// Whether the commit it was told to lose is still to come.
    pub(crate) fn is_armed(&self) -> bool {
        self.armed.lock().unwrap().is_some()
    }

    fn now(&self) -> Option<Side> {
        let mut armed = self.armed.lock().unwrap();
        let (nth, side) = (*armed)?;
        *armed = nth.checked_sub(1).map(|left| (left, side));
        (nth == 0).then_some(side)
    }
}

impl Disk for BrokenDisk {
    fn commit(&self, write: &mut dyn FnMut() -> Result<(), DiskError>) -> Result<(), DiskError> {
        let Some(side) = self.now() else { return write() };
        if side == Side::After {
            write()?;
        }
        Err(DiskError("told to lose this commit".into()))
    }

    fn free_bytes(&self, dir: &Path) -> Result<u64, DiskError> {
        RealDisk.free_bytes(dir)
    }
}

/// An archive in a folder, with one fault.
#[derive(Debug)]
pub(crate) struct BrokenArchive {
    sound: DirectoryArchive,
    fault: Mutex<Option<Fails>>,
    repaired: Condvar,
    failed: AtomicU32,
}

impl BrokenArchive {
    pub(crate) fn new(folder: PathBuf) -> Self {
        let sound = DirectoryArchive::new(folder);
        Self { sound, fault: Mutex::default(), repaired: Condvar::new(), failed: AtomicU32::new(0) }
    }

    pub(crate) fn break_it(&self, fails: Fails) {
        *self.fault.lock().unwrap() = Some(fails);
    }

    pub(crate) fn repair(&self) {
        *self.fault.lock().unwrap() = None;
        self.repaired.notify_all();
    }

    /// Calls that failed so far.
    pub(crate) fn failed(&self) -> u32 {
        self.failed.load(Ordering::SeqCst)
    }

    /// Does `call`, or what the fault makes of it; what is lost is lost once, all else until repaired.
    fn meet<T>(
        &self,
        hit: impl Fn(Fails) -> Option<How>,
        call: impl Fn() -> Result<T, ArchiveError>,
        lie: impl Fn(T) -> T,
    ) -> Result<T, ArchiveError> {
        let mut fault = self.fault.lock().unwrap();
        if *fault == Some(Fails::Archive) {
            self.failed.fetch_add(1, Ordering::SeqCst);
            return Err(ArchiveError::Unavailable("told to be away".into()));
        }
        let Some(how) = (*fault).and_then(hit) else {
            drop(fault);
            return call();
        };
        self.failed.fetch_add(1, Ordering::SeqCst);
        match how {
            How::Lost(side) => {
                *fault = None;
                if side == Side::After {
                    call()?;
                }
                Err(ArchiveError::Unavailable("told to lose this call".into()))
            }
            How::Hangs => {
                drop(self.repaired.wait_while(fault, |fault| fault.is_some()).unwrap());
                call()
            }
            How::Refuses => Err(ArchiveError::Refused("told to refuse".into())),
            How::Lies => call().map(lie),
        }
    }
}

fn object(name: &str) -> Object {
    match ObjectName::parse(name).unwrap() {
        ObjectName::Checkpoint(_) | ObjectName::Witnessed(_) | ObjectName::Latest => Object::Checkpoint,
        ObjectName::Registry(_) => Object::Registry,
        ObjectName::RegistrySignature(_) => Object::RegistryNote,
        ObjectName::Tile(path) if path.width.is_some() => Object::Tail,
        ObjectName::Tile(path) if path.level.is_some() => Object::Tile,
        ObjectName::Tile(_) => Object::Bundle,
    }
}

impl Archive for BrokenArchive {
    fn check_at_start(&self) -> Result<(), ArchiveError> {
        let hit = |fails| if let Fails::Check(how) = fails { Some(how) } else { None };
        self.meet(hit, || self.sound.check_at_start(), |()| ())
    }

    fn put_new(&self, name: &str, bytes: &[u8]) -> Result<Put, ArchiveError> {
        let hit = |fails| match fails {
            Fails::Put(kind, how) if kind == object(name) => Some(how),
            _ => None,
        };
        self.meet(hit, || self.sound.put_new(name, bytes), |put| put)
    }

    fn get(&self, name: &str) -> Result<Vec<u8>, ArchiveError> {
        let hit = |fails| if let Fails::Get(how) = fails { Some(how) } else { None };
        let lie = |bytes: Vec<u8>| bytes.iter().map(|byte| byte ^ 1).collect();
        self.meet(hit, || self.sound.get(name), lie)
    }

    fn list_after(&self, prefix: &str, after: Option<&str>, max: usize) -> Result<Vec<String>, ArchiveError> {
        let hit = |fails| if let Fails::List(how) = fails { Some(how) } else { None };
        self.meet(hit, || self.sound.list_after(prefix, after, max), |names| names)
    }
}
