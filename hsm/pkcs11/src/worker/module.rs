//! The driver: loaded once per file and worker process, initialised once, and again when nothing else helps.
//!
//! PKCS#11 knows one C_Initialize per process, and C_Finalize invalidates every session of everyone. So
//! each call into the driver holds the read side of one lock, and initialising again holds the write
//! side and starts a new *generation*; a session of an older generation is never touched again, because
//! its number may by then be somebody else's.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, RwLock, RwLockReadGuard, TryLockError};
use std::time::{Duration, Instant};

use cryptoki::context::{CInitializeArgs, CInitializeFlags, Pkcs11};
use cryptoki::error::{Error, RvError};
use cryptoki::slot::{Slot, TokenInfo};

use crate::selector::TokenSelector;
use crate::worker::failure::{Failure, Remedy};

/// Least time between two initialisations: they cost every token of the module its sessions.
const REINITIALISE_INTERVAL: Duration = Duration::from_secs(1);

/// Longest wait for other calls to leave the driver before it can be initialised again.
const QUIET_WAIT: Duration = Duration::from_secs(2);

static LOADED: Mutex<Vec<Arc<Module>>> = Mutex::new(Vec::new());

/// A loaded driver. Stays loaded until the process ends: unloading one that has threads is not safe.
pub(crate) struct Module {
    file: PathBuf,
    driver: RwLock<Driver>,
}

/// The initialised driver; borrowed for the length of a call.
pub(crate) struct Driver {
    pub(crate) pkcs11: Pkcs11,
    pub(crate) generation: u64,
    initialised: Instant,
}

impl Module {
    /// The module of this file, loading it if this is the first time.
    pub(crate) fn load(file: &Path) -> Result<Arc<Self>, Failure> {
        let refuse = |cause: String| Failure::refused(format!("module {}: {cause}", file.display()));
        let path = file.canonicalize().map_err(|error| refuse(error.to_string()))?;
        let mut loaded = LOADED.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(module) = loaded.iter().find(|module| module.file == path) {
            return Ok(Arc::clone(module));
        }
        let pkcs11 = Pkcs11::new(&path).map_err(|error| refuse(error.to_string()))?;
        initialise(&pkcs11).map_err(|error| refuse(error.to_string()))?;
        let driver = RwLock::new(Driver { pkcs11, generation: 0, initialised: Instant::now() });
        let module = Arc::new(Self { file: path, driver });
        loaded.push(Arc::clone(&module));
        Ok(module)
    }

    /// Enters the driver. Held for each call, never across a wait for something else.
    pub(crate) fn enter(&self) -> RwLockReadGuard<'_, Driver> {
        self.driver.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// C_Finalize and C_Initialize, unless somebody did since generation `seen` or just now. Returns
    /// whether the driver is a different one than `seen`.
    pub(crate) fn reinitialise(&self, seen: u64, deadline: Instant) -> bool {
        let limit = deadline.min(Instant::now() + QUIET_WAIT);
        let mut driver = loop {
            match self.driver.try_write() {
                Ok(driver) => break driver,
                Err(TryLockError::Poisoned(poisoned)) => break poisoned.into_inner(),
                Err(TryLockError::WouldBlock) if Instant::now() < limit => {
                    std::thread::sleep(Duration::from_millis(1));
                }
                Err(TryLockError::WouldBlock) => return false, // somebody is stuck in a device call
            }
        };
        if driver.generation != seen {
            return true;
        }
        if driver.initialised.elapsed() < REINITIALISE_INTERVAL {
            return false;
        }
        // The result does not matter: if it was not initialised, all the better.
        let _ = driver.pkcs11.clone().finalize();
        let result = initialise(&driver.pkcs11);
        driver.generation += 1;
        driver.initialised = Instant::now();
        let done = if result.is_ok() { "initialised again" } else { "could not be initialised again" };
        crate::worker::say(&format!("module {} {done}", self.file.display()));
        result.is_ok()
    }
}

impl Driver {
    /// The slot of the one token that fits.
    pub(crate) fn slot_of(&self, wanted: &TokenSelector) -> Result<Slot, Failure> {
        let mut found = None;
        for slot in self.pkcs11.get_slots_with_token()? {
            // A slot whose token cannot be read now is somebody else's problem, or shows as missing.
            let Ok(token) = self.pkcs11.get_token_info(slot) else { continue };
            if token.token_initialized() && fits(wanted, slot, &token) && found.replace(slot).is_some() {
                return Err(Failure::refused(format!("two tokens are {wanted}")));
            }
        }
        found.ok_or_else(|| Failure {
            remedy: Remedy::Reinitialise,
            ..Failure::transient(format!("no token {wanted} in any slot"))
        })
    }
}

/// PKCS#11 pads these texts with blanks.
fn fits(wanted: &TokenSelector, slot: Slot, token: &TokenInfo) -> bool {
    let same = |wanted: &Option<String>, found: &str| {
        wanted.as_deref().is_none_or(|wanted| wanted.trim_end() == found.trim_end())
    };
    same(&wanted.label, token.label())
        && same(&wanted.serial, token.serial_number())
        && same(&wanted.manufacturer, token.manufacturer_id())
        && same(&wanted.model, token.model())
        && wanted.slot_id.is_none_or(|id| id == slot.id())
}

fn initialise(pkcs11: &Pkcs11) -> Result<(), Error> {
    match pkcs11.initialize(CInitializeArgs::new(CInitializeFlags::OS_LOCKING_OK)) {
        // Another part of the process did; the driver is usable all the same.
        Err(Error::Pkcs11(RvError::CryptokiAlreadyInitialized, _)) => Ok(()),
        result => result,
    }
}
