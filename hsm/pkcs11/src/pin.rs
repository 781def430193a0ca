//! The PIN: read from a file each time it is needed, wiped afterwards, and never tried again once the
//! token refused it.
//!
//! Most tokens lock after a few wrong PINs, for good. So after a refusal the file is left alone until it
//! changes; a daemon that retries cannot lock a token.

use std::fs::{self, File};
use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use cryptoki::types::AuthPin;
use zeroize::Zeroizing;

use crate::failure::Failure;

/// Longest PIN file read, in bytes. PKCS#11 PINs are far shorter.
const PIN_FILE_BYTES_MAX: usize = 1024;

/// Identity of one version of the file: inode, size, modification time in nanoseconds.
type Version = (u64, u64, i64, i64);

/// Where the PIN is.
pub(crate) struct PinFile {
    path: PathBuf,
    refused: Mutex<Option<Version>>,
}

impl PinFile {
    pub(crate) fn new(path: &Path) -> Self {
        Self { path: path.to_owned(), refused: Mutex::new(None) }
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Reads the PIN: the file's text without its last newline.
    pub(crate) fn read(&self) -> Result<AuthPin, Failure> {
        let bytes = self.bytes()?;
        match pin_in(&bytes) {
            Some(pin) => Ok(AuthPin::new(pin.into())),
            None => Err(self.refuse("it holds no text")),
        }
    }

    fn bytes(&self) -> Result<Zeroizing<Vec<u8>>, Failure> {
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
        file.take(PIN_FILE_BYTES_MAX as u64).read_to_end(&mut bytes).map_err(failed)?;
        Ok(bytes)
    }

    fn refuse(&self, cause: &str) -> Failure {
        Failure::logged_out(format!("PIN file {}: {cause}", self.path.display()))
    }

    /// Remembers that the token refused the PIN in the file as it is now.
    pub(crate) fn mark_refused(&self) {
        *self.lock() = fs::metadata(&self.path).ok().map(|metadata| version(&metadata));
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Option<Version>> {
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

fn version(metadata: &fs::Metadata) -> Version {
    (metadata.ino(), metadata.len(), metadata.mtime(), metadata.mtime_nsec())
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
        let pin = PinFile::new(&path);
        (directory, pin)
    }

    #[test]
    fn one_newline_is_not_part_of_the_pin() {
        for (text, pin) in
            [("1234", "1234"), ("1234\n", "1234"), ("1234\r\n", "1234"), (" 12 \n\n", " 12 \n")]
        {
            assert_eq!(pin_in(&file(text, 0o600).1.bytes().unwrap()), Some(pin));
        }
        assert_eq!(pin_in(b"\n"), None);
        assert_eq!(pin_in(&[0xFF]), None);
    }

    #[test]
    fn a_pin_the_world_can_read_or_that_is_not_there_is_refused_without_showing_it() {
        let (directory, open) = file("1234", 0o604);
        let failure = open.read().unwrap_err();
        assert!(failure.cause.contains("chmod 600") && !failure.cause.contains("1234"));
        assert!(file("\n", 0o600).1.read().is_err());
        fs::remove_file(directory.path().join("pin")).unwrap();
        assert!(open.read().unwrap_err().cause.contains("pin"));
    }

    #[test]
    fn a_refused_pin_is_not_tried_again_until_the_file_changes() {
        let (_directory, pin) = file("1234", 0o600);
        pin.mark_refused();
        assert!(pin.read().unwrap_err().cause.contains("the token refused this PIN"));
        fs::write(pin.path(), "12345").unwrap();
        assert!(pin.read().is_ok());
    }
}
