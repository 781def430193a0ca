//! Key files of the development backend: created once, private to their owner, read back as secrets.

use std::fs::{self, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use zeroize::Zeroizing;

use crate::signer::SignerError;
use crate::software::{Secret, SoftwareError};

/// Longest accepted key file, in bytes; an RSA-4096 key takes about 2400.
const KEY_FILE_BYTES_MAX: u64 = 8192;

/// A label becomes part of a file name, so it must be nothing else.
pub(crate) fn check_label(label: &str) -> Result<(), SoftwareError> {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
    let good = !label.is_empty() && label.len() <= 64 && !label.starts_with('.') && label.bytes().all(plain);
    good.then_some(()).ok_or_else(|| SoftwareError::Label(label.to_owned()))
}

/// Where a key of this label lives.
pub(crate) fn key_path(directory: &Path, label: &str, mac: bool) -> PathBuf {
    directory.join(format!("{label}.{}", if mac { "mac" } else { "p8" }))
}

/// Writes a new file only its owner can read; never replaces one.
pub(crate) fn create_private(path: &Path, secret: &[u8], label: &str) -> Result<(), SoftwareError> {
    let failed = |source| SoftwareError::File { path: path.to_owned(), source };
    let mut file = match OpenOptions::new().write(true).create_new(true).mode(0o600).open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            return Err(SoftwareError::Exists(label.to_owned()));
        }
        Err(error) => return Err(failed(error)),
    };
    file.write_all(secret).and_then(|()| file.sync_all()).map_err(|error| {
        // Half a key is no key; leaving it would block the label. The first error is the one to report.
        let _ = fs::remove_file(path);
        failed(error)
    })
}

/// Reads a file only its owner can read.
pub(crate) fn read_private(path: &Path) -> Result<Secret, SignerError> {
    let shown = path.display();
    let file = match fs::File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return Err(SignerError::KeyMissing { cause: format!("{shown} does not exist") });
        }
        Err(error) => return Err(SignerError::refused(format!("{shown}: {error}"))),
    };
    let mode = file.metadata().map_err(|error| SignerError::refused(format!("{shown}: {error}")))?;
    if mode.permissions().mode() & 0o077 != 0 {
        return Err(SignerError::refused(format!("{shown} is readable by others; chmod 600 it")));
    }
    let mut secret = Zeroizing::new(Vec::with_capacity(4096));
    let read = file.take(KEY_FILE_BYTES_MAX).read_to_end(&mut secret);
    read.map_err(|error| SignerError::refused(format!("{shown}: {error}")))?;
    Ok(secret)
}
