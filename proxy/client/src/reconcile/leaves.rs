//! The entries of an archive folder, in order.

use std::io::Read as _;
use std::path::{Path, PathBuf};

use chancery_format::AuditEvent;
use chancery_format::tile::{TilePath, WIDTH, decode_bundle};

/// Largest bundle read, in bytes: 256 entries of 65,535 bytes with their lengths fit.
const BUNDLE_BYTES_MAX: u64 = 256 * 65_537;

/// Why an archive cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum LeavesError {
    /// The file cannot be read.
    #[error("{path}: {source}", path = .path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The file is no bundle of entries: verify the ledger first.
    #[error("{path} is no bundle of entries; run chancery-verify", path = .0.display())]
    Damaged(PathBuf),
    /// There is not one entry.
    #[error("{path} holds no archived ledger", path = .0.display())]
    Empty(PathBuf),
}

/// Reads every entry once, in order; the number of entries. What `take` refuses ends it.
pub(super) fn each<E>(
    archive: &Path,
    mut take: impl FnMut(u64, &AuditEvent<'_>) -> Result<(), E>,
) -> Result<Result<u64, E>, LeavesError> {
    let mut count = 0;
    loop {
        let number = count / WIDTH;
        let full = archive.join(TilePath::entries(number).to_string());
        let (path, is_last) = if full.exists() { (full, false) } else { (tail(archive, number)?, true) };
        let Some(bundle) = read(&path)? else { break };
        for entry in decode_bundle(&bundle) {
            let damaged = || LeavesError::Damaged(path.clone());
            let event = AuditEvent::read(entry.map_err(|_| damaged())?).map_err(|_| damaged())?;
            if let Err(refused) = take(count, &event) {
                return Ok(Err(refused));
            }
            count += 1;
        }
        if is_last || count % WIDTH != 0 {
            break;
        }
    }
    if count == 0 { Err(LeavesError::Empty(archive.to_owned())) } else { Ok(Ok(count)) }
}

/// The longest tail bundle of this number: the one of the newest epoch.
fn tail(archive: &Path, number: u64) -> Result<PathBuf, LeavesError> {
    let full = TilePath::entries(number).to_string();
    let folder = archive.join(format!("{full}.p"));
    let widths = match std::fs::read_dir(&folder) {
        Ok(names) => names,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(folder),
        Err(source) => return Err(LeavesError::File { path: folder, source }),
    };
    let widths = widths.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<u8>().ok());
    Ok(widths.max().map_or_else(|| folder.clone(), |width| folder.join(width.to_string())))
}

/// The file's bytes; `None` if there is none.
fn read(path: &Path) -> Result<Option<Vec<u8>>, LeavesError> {
    let failed = |source| LeavesError::File { path: path.to_owned(), source };
    let file = match std::fs::File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(failed(error)),
    };
    let mut bytes = Vec::new();
    file.take(BUNDLE_BYTES_MAX + 1).read_to_end(&mut bytes).map_err(failed)?;
    if bytes.len() as u64 > BUNDLE_BYTES_MAX {
        return Err(LeavesError::Damaged(path.to_owned()));
    }
    Ok(Some(bytes))
}
