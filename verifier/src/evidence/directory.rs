//! A folder as evidence: plain files only, no link is followed.

use std::fs::{self, DirEntry, File};
use std::io::{ErrorKind, Read as _};
use std::path::{Path, PathBuf};

use super::{Evidence, EvidenceError, Listed, Oddity};

/// Deepest folder read; names of the archive are at most 9 deep.
const DEPTH_MAX: usize = 16;

/// An archive in a folder.
#[derive(Debug, Clone)]
pub struct Directory {
    root: PathBuf,
}

impl Directory {
    /// The archive at `root`, which must be a folder that can be read.
    pub fn open(root: &Path) -> Result<Self, EvidenceError> {
        fs::read_dir(root).map_err(unreadable)?;
        Ok(Self { root: root.to_owned() })
    }

    fn walk(
        &self,
        folder: &Path,
        name: &str,
        depth: usize,
        each: &mut dyn FnMut(Listed),
    ) -> Result<(), EvidenceError> {
        let mut entries = fs::read_dir(folder)
            .and_then(|entries| entries.collect::<Result<Vec<DirEntry>, _>>())
            .map_err(unreadable)?;
        entries.sort_by_key(DirEntry::file_name);
        for entry in entries {
            let file_name = entry.file_name();
            let child = format!("{name}{}", file_name.to_string_lossy());
            let kind = entry.file_type().map_err(unreadable)?;
            if kind.is_dir() && depth < DEPTH_MAX {
                self.walk(&entry.path(), &format!("{child}/"), depth + 1, each)?;
            } else if kind.is_file() && file_name.to_str().is_some() {
                // A size nobody can tell is told when the file is opened.
                each(Listed::Object(child, entry.metadata().map_or(0, |known| known.len())));
            } else {
                each(Listed::Odd(child, Oddity::NotAFile));
            }
        }
        Ok(())
    }
}

fn unreadable(error: std::io::Error) -> EvidenceError {
    if error.kind() == ErrorKind::NotFound {
        EvidenceError::NotFound
    } else {
        EvidenceError::Unreadable(error.to_string())
    }
}

impl Evidence for Directory {
    fn list(&self, prefix: &str, each: &mut dyn FnMut(Listed)) -> Result<(), EvidenceError> {
        match self.walk(&self.root.join(prefix), prefix, 0, each) {
            Err(EvidenceError::NotFound) if !prefix.is_empty() => Ok(()),
            result => result,
        }
    }

    fn open(&self, name: &str, bytes_max: usize) -> Result<Vec<u8>, EvidenceError> {
        let file = File::open(self.root.join(name)).map_err(unreadable)?;
        let length = file.metadata().map_err(unreadable)?.len();
        if length > bytes_max as u64 {
            return Err(EvidenceError::TooLarge(bytes_max));
        }
        let mut bytes = Vec::with_capacity(usize::try_from(length).unwrap_or(0));
        file.take(bytes_max as u64 + 1).read_to_end(&mut bytes).map_err(unreadable)?;
        if bytes.len() > bytes_max { Err(EvidenceError::TooLarge(bytes_max)) } else { Ok(bytes) }
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a failed unwrap is the test's failure")]
    use super::*;

    #[test]
    fn lists_plain_files_in_order_and_names_everything_else() {
        let dir = tempfile::tempdir().unwrap();
        for name in ["tile/0/000", "checkpoint/000000000000", "tile/0/x001/000"] {
            let path = dir.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, name).unwrap();
        }
        std::os::unix::fs::symlink("000", dir.path().join("tile/0/001")).unwrap();
        let mut seen = Vec::new();
        let archive = Directory::open(dir.path()).unwrap();
        archive.list("", &mut |listed| seen.push(listed)).unwrap();
        let object = |name: &str| Listed::Object(name.to_owned(), name.len() as u64);
        let link = Listed::Odd("tile/0/001".into(), Oddity::NotAFile);
        assert_eq!(
            seen,
            [object("checkpoint/000000000000"), object("tile/0/000"), link, object("tile/0/x001/000")]
        );
        assert_eq!(archive.open("tile/0/000", 10).unwrap(), b"tile/0/000");
        assert_eq!(archive.open("tile/0/000", 9), Err(EvidenceError::TooLarge(9)));
        assert_eq!(archive.open("tile/0/002", 9), Err(EvidenceError::NotFound));
        assert!(Directory::open(&dir.path().join("nowhere")).is_err());
    }
}
