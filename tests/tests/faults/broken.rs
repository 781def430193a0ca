//! A disk and an archive that lose a call on command, before or after it happened.

use std::path::Path;
use std::sync::{Arc, Mutex};

use chancery_ledger::{Archive, ArchiveError, Disk, DiskError, Put, RealDisk};

/// On which side of its effect a call is lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Lost {
    /// Nothing happened.
    Before,
    /// All of it happened, and nobody was told.
    After,
}

/// Which call is lost next.
#[derive(Debug, Default)]
struct Armed(Mutex<Option<(u32, Lost)>>);

impl Armed {
    /// The `nth` call from now on, 0 is the next.
    fn arm(&self, nth: u32, lost: Lost) {
        *self.0.lock().unwrap() = Some((nth, lost));
    }

    fn now(&self) -> Option<Lost> {
        let mut armed = self.0.lock().unwrap();
        let (nth, lost) = (*armed)?;
        *armed = nth.checked_sub(1).map(|nth| (nth, lost));
        (nth == 0).then_some(lost)
    }

    /// Whether the call that was to be lost has come.
    fn is_spent(&self) -> bool {
        self.0.lock().unwrap().is_none()
    }
}

/// The real disk, but for one commit.
#[derive(Debug, Default)]
pub(crate) struct BrokenDisk(Armed);

impl BrokenDisk {
    pub(crate) fn lose(&self, nth: u32, lost: Lost) {
        self.0.arm(nth, lost);
    }

    pub(crate) fn lost_it(&self) -> bool {
        self.0.is_spent()
    }
}

impl Disk for BrokenDisk {
    fn commit(&self, write: &mut dyn FnMut() -> Result<(), DiskError>) -> Result<(), DiskError> {
        let lost = || Err(DiskError("told to lose it".into()));
        match self.0.now() {
            None => write(),
            Some(Lost::Before) => lost(),
            Some(Lost::After) => write().and_then(|()| lost()),
        }
    }

    fn free_bytes(&self, dir: &Path) -> Result<u64, DiskError> {
        RealDisk.free_bytes(dir)
    }
}

/// A call of the archive that can be lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Call {
    /// The first put of an object below this prefix.
    Put(&'static str),
    /// The next read.
    Get,
    /// The next listing.
    List,
    /// The look at the start.
    Check,
}

/// A real archive, but for one call.
pub(crate) struct BrokenArchive {
    real: Arc<dyn Archive>,
    armed: Mutex<Option<(Call, Lost)>>,
}

impl BrokenArchive {
    pub(crate) fn new(real: Arc<dyn Archive>) -> Self {
        Self { real, armed: Mutex::default() }
    }

    pub(crate) fn lose(&self, call: Call, lost: Lost) {
        *self.armed.lock().unwrap() = Some((call, lost));
    }

    pub(crate) fn lost_it(&self) -> bool {
        self.armed.lock().unwrap().is_none()
    }

    fn pass<T>(
        &self,
        is_it: impl Fn(Call) -> bool,
        real: impl FnOnce(&dyn Archive) -> Result<T, ArchiveError>,
    ) -> Result<T, ArchiveError> {
        let lost = {
            let mut armed = self.armed.lock().unwrap();
            armed.take_if(|(call, _)| is_it(*call)).map(|(_, lost)| lost)
        };
        let told = || ArchiveError::Unavailable("told to lose it".into());
        match lost {
            None => real(&*self.real),
            Some(Lost::Before) => Err(told()),
            Some(Lost::After) => real(&*self.real).and_then(|_| Err(told())),
        }
    }
}

impl Archive for BrokenArchive {
    fn check_at_start(&self) -> Result<(), ArchiveError> {
        self.pass(|call| call == Call::Check, |real| real.check_at_start())
    }

    fn put_new(&self, name: &str, bytes: &[u8]) -> Result<Put, ArchiveError> {
        let is_it = |call| matches!(call, Call::Put(prefix) if name.starts_with(prefix));
        self.pass(is_it, |real| real.put_new(name, bytes))
    }

    fn get(&self, name: &str) -> Result<Vec<u8>, ArchiveError> {
        self.pass(|call| call == Call::Get, |real| real.get(name))
    }

    fn list_after(&self, prefix: &str, after: Option<&str>, max: usize) -> Result<Vec<String>, ArchiveError> {
        self.pass(|call| call == Call::List, |real| real.list_after(prefix, after, max))
    }
}
