//! The password: read from a file each time it is needed, wiped afterwards, and never tried again once it
//! was found wrong.
//!
//! The device does not lock after wrong passwords, but each attempt is an entry of its log, and somebody
//! reads that log for attacks. So after a refusal the file is left alone until it changes.

use std::fs::{self, File};
use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use zeroize::Zeroizing;

use crate::failure::Failure;
use crate::scp03::StaticKeys;

/// Longest password file read, in bytes.
const FILE_BYTES_MAX: usize = 1024;

/// Identity of one version of the file: inode, size, modification time in nanoseconds.
type Version = (u64, u64, i64, i64);

/// Where the password is.
pub(crate) struct PasswordFile {
    path: PathBuf,
    refused: Mutex<Option<Version>>,
}

impl PasswordFile {
    pub(crate) fn new(path: &Path) -> Self {
        Self { path: path.to_owned(), refused: Mutex::new(None) }
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// The keys made from the password: the file's text without its last newline.
    pub(crate) fn keys(&self) -> Result<StaticKeys, Failure> {
        let bytes = self.bytes()?;
        match password_in(&bytes) {
            Some(password) => Ok(StaticKeys::from_password(password)),
            None => Err(self.refuse("it is empty")),
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
            return Err(self.refuse("this password was wrong; it is tried again once the file changes"));
        }
        // Allocated once, so that no copy stays behind.
        let mut bytes = Zeroizing::new(Vec::with_capacity(2 * FILE_BYTES_MAX));
        file.take(FILE_BYTES_MAX as u64).read_to_end(&mut bytes).map_err(failed)?;
        Ok(bytes)
    }

    fn refuse(&self, cause: &str) -> Failure {
        Failure::logged_out(format!("password file {}: {cause}", self.path.display()))
    }

    /// Remembers that the password in the file as it is now is wrong.
    pub(crate) fn mark_refused(&self) {
        *self.lock() = fs::metadata(&self.path).ok().map(|metadata| version(&metadata));
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Option<Version>> {
        self.refused.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The password in the file's bytes; `None` if there is none.
fn password_in(bytes: &[u8]) -> Option<&[u8]> {
    let line = bytes.strip_suffix(b"\n").unwrap_or(bytes);
    let password = line.strip_suffix(b"\r").unwrap_or(line);
    (!password.is_empty()).then_some(password)
}

fn version(metadata: &fs::Metadata) -> Version {
    (metadata.ino(), metadata.len(), metadata.mtime(), metadata.mtime_nsec())
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a failed unwrap is the test's failure")]
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    fn file(text: &str, mode: u32) -> (tempfile::TempDir, PasswordFile) {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("secret");
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        let password = PasswordFile::new(&path);
        (directory, password)
    }

    #[test]
    fn one_newline_is_not_part_of_the_password() {
        for (text, password) in
            [("1234", "1234"), ("1234\n", "1234"), ("1234\r\n", "1234"), (" 1 \n\n", " 1 \n")]
        {
            assert_eq!(password_in(&file(text, 0o600).1.bytes().unwrap()), Some(password.as_bytes()));
        }
        assert_eq!(password_in(b"\n"), None);
    }

    #[test]
    fn a_file_the_world_can_read_or_that_is_not_there_is_refused_without_showing_it() {
        let (directory, open) = file("1234", 0o604);
        let cause = open.keys().err().unwrap().cause;
        assert!(cause.contains("chmod 600") && !cause.contains("1234"));
        assert!(file("\n", 0o600).1.keys().is_err());
        fs::remove_file(directory.path().join("secret")).unwrap();
        assert!(open.keys().err().unwrap().cause.contains("secret"));
    }

    #[test]
    fn a_wrong_password_is_not_tried_again_until_the_file_changes() {
        let (_directory, password) = file("1234", 0o600);
        password.mark_refused();
        assert!(password.keys().err().unwrap().cause.contains("was wrong"));
        fs::write(password.path(), "12345").unwrap();
        assert!(password.keys().is_ok());
    }
}
