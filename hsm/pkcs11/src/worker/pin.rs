//! The PIN: read from a file each time it is needed, wiped afterwards, and never tried again once the
//! token refused it.
//!
//! Most tokens lock after a few wrong PINs, for good. So after a refusal the file is left alone until it
//! changes; a daemon that retries cannot lock a token.

use std::fs::{self, File};
use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, Once, PoisonError};

use cryptoki::types::AuthPin;
use zeroize::Zeroizing;

use crate::message::PinVersion;
use crate::worker::failure::Failure;

/// Longest PIN file read, in bytes. PKCS#11 PINs are far shorter.
const PIN_FILE_BYTES_MAX: usize = 1024;

/// One login at a time: pages are locked and unlocked whole, and two PINs may share one.
static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

/// Said once, not at every login.
static SAID: Once = Once::new();

/// A PIN in memory that is not swapped out; wiped, then unlocked, when dropped.
pub(crate) struct LockedPin {
    pin: AuthPin,
    _pages: [Option<region::LockGuard>; 2],
    _turn: MutexGuard<'static, ()>,
}

impl LockedPin {
    pub(crate) const fn pin(&self) -> &AuthPin {
        &self.pin
    }
}

/// Where the PIN is.
pub(crate) struct PinFile {
    path: PathBuf,
    refused: Mutex<Option<PinVersion>>,
}

impl PinFile {
    /// `refused` is the version of the file that an earlier worker saw refused.
    pub(crate) fn new(path: &Path, refused: Option<PinVersion>) -> Self {
        Self { path: path.to_owned(), refused: Mutex::new(refused) }
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Reads the PIN: the file's text without its last newline.
    pub(crate) fn read(&self) -> Result<LockedPin, Failure> {
        let turn = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
        let (bytes, file_pages) = self.bytes()?;
        let Some(pin) = pin_in(&bytes) else { return Err(self.refuse("it holds no text")) };
        // Locked before the PIN is in it; a box is moved, not copied, into the AuthPin.
        let mut room = String::with_capacity(pin.len());
        let pages = locked(room.as_ptr(), room.capacity());
        room.push_str(pin);
        Ok(LockedPin { pin: AuthPin::new(room.into_boxed_str()), _pages: [pages, file_pages], _turn: turn })
    }

    fn bytes(&self) -> Result<(Zeroizing<Vec<u8>>, Option<region::LockGuard>), Failure> {
        let failed = |error: std::io::Error| self.refuse(&error.to_string());
        let file = File::open(&self.path).map_err(failed)?;
        let metadata = file.metadata().map_err(failed)?;
        if metadata.mode() & 0o007 != 0 {
            return Err(self.refuse("the world can read it; chmod 600 it"));
        }
        if *self.lock() == Some(version(&metadata)) {
            return Err(self.refuse("the token refused this PIN; it is tried again once the file changes"));
        }
        // Allocated once, so that no copy stays behind.
        let mut bytes = Zeroizing::new(Vec::with_capacity(2 * PIN_FILE_BYTES_MAX));
        let pages = locked(bytes.as_ptr(), bytes.capacity());
        file.take(PIN_FILE_BYTES_MAX as u64).read_to_end(&mut bytes).map_err(failed)?;
        Ok((bytes, pages))
    }

    fn refuse(&self, cause: &str) -> Failure {
        Failure::logged_out(format!("PIN file {}: {cause}", self.path.display()))
    }

    /// Remembers that the token refused the PIN in the file as it is now.
    pub(crate) fn mark_refused(&self) {
        let seen = fs::metadata(&self.path).ok().map(|metadata| version(&metadata));
        *self.lock() = seen;
    }

    /// The version the token refused, for the next worker.
    pub(crate) fn refused(&self) -> Option<PinVersion> {
        *self.lock()
    }

    fn lock(&self) -> MutexGuard<'_, Option<PinVersion>> {
        self.refused.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The PIN in the file's bytes; `None` if there is none.
fn pin_in(bytes: &[u8]) -> Option<&str> {
    let text = std::str::from_utf8(bytes).ok()?;
    let line = text.strip_suffix('\n').unwrap_or(text);
    let pin = line.strip_suffix('\r').unwrap_or(line);
    (!pin.is_empty()).then_some(pin)
}

fn version(metadata: &fs::Metadata) -> PinVersion {
    [metadata.ino(), metadata.len(), metadata.mtime().cast_unsigned(), metadata.mtime_nsec().cast_unsigned()]
}

/// Keeps pages out of swap, as far as RLIMIT_MEMLOCK allows.
fn locked(start: *const u8, bytes: usize) -> Option<region::LockGuard> {
    match region::lock(start, bytes.max(1)) {
        Ok(guard) => Some(guard),
        Err(error) => {
            SAID.call_once(|| {
                crate::worker::say(&format!(
                    "the PIN cannot be locked in memory ({error}); raise RLIMIT_MEMLOCK"
                ));
            });
            None
        }
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a failed unwrap is the test's failure")]
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    fn file(text: &str, mode: u32) -> (tempfile::TempDir, PinFile) {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("pin");
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        let pin = PinFile::new(&path, None);
        (directory, pin)
    }

    #[test]
    fn one_newline_is_not_part_of_the_pin() {
        for (text, pin) in
            [("1234", "1234"), ("1234\n", "1234"), ("1234\r\n", "1234"), (" 12 \n\n", " 12 \n")]
        {
            assert_eq!(pin_in(&file(text, 0o600).1.bytes().unwrap().0), Some(pin));
        }
        assert_eq!(pin_in(b"\n"), None);
        assert_eq!(pin_in(&[0xFF]), None);
    }

    #[test]
    fn a_pin_the_world_can_read_or_that_is_not_there_is_refused_without_showing_it() {
        let (directory, open) = file("1234", 0o604);
        let failure = open.read().err().unwrap();
        assert!(failure.cause.contains("chmod 600") && !failure.cause.contains("1234"));
        assert!(file("\n", 0o600).1.read().is_err());
        fs::remove_file(directory.path().join("pin")).unwrap();
        assert!(open.read().err().unwrap().cause.contains("pin"));
    }

    #[test]
    fn a_refused_pin_is_not_tried_again_until_the_file_changes() {
        let (_directory, pin) = file("1234", 0o600);
        pin.mark_refused();
        assert!(pin.read().err().unwrap().cause.contains("the token refused this PIN"));
        fs::write(pin.path(), "12345").unwrap();
        assert!(pin.read().is_ok());
    }
}
