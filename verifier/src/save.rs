//! Writing the report's file: whole or not at all, and over nothing but a file.

use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind, Write as _};
use std::path::{Path, PathBuf};

/// A place where the report can be written. Checked before hours of verification, not after.
#[derive(Debug, Clone)]
pub struct Destination {
    path: PathBuf,
    part: PathBuf,
}

impl Destination {
    /// The folder must be there; what stands at the path, if anything, must be a plain file.
    pub fn check(path: &Path) -> io::Result<Self> {
        let refuse = |reason: &str| Err(io::Error::new(ErrorKind::InvalidInput, reason));
        let Some(name) = path.file_name() else { return refuse("is not the name of a file") };
        match fs::symlink_metadata(path) {
            Ok(known) if !known.is_file() => return refuse("is there and is not a plain file"),
            Ok(_) => {}
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
        let folder = path.parent().filter(|it| !it.as_os_str().is_empty()).unwrap_or(Path::new("."));
        if !fs::metadata(folder)?.is_dir() {
            return refuse("is not in a folder");
        }
        let mut part = std::ffi::OsString::from(".");
        part.push(name);
        part.push(format!(".{}.part", std::process::id()));
        Ok(Self { path: path.to_owned(), part: folder.join(part) })
    }

    /// Writes all of it beside the path, and then puts it there in one step.
    pub fn write(&self, text: &str) -> io::Result<()> {
        let file = OpenOptions::new().write(true).create_new(true).open(&self.part)?;
        let written = self.fill(file, text);
        if written.is_err() {
            // What was written is of no use; that it may stay behind is told by the error.
            drop(fs::remove_file(&self.part));
        }
        written
    }

    fn fill(&self, mut file: File, text: &str) -> io::Result<()> {
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        Self::check(&self.path)?; // hours may have passed
        fs::rename(&self.part, &self.path)
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a failed unwrap is the test's failure")]
    use super::*;

    #[test]
    fn a_file_is_replaced_whole_and_nothing_else_is() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("report.html");
        for text in ["first", "second"] {
            Destination::check(&path).unwrap().write(text).unwrap();
            assert_eq!(fs::read_to_string(&path).unwrap(), text);
        }
        assert!(Destination::check(dir.path()).is_err());
        assert!(Destination::check(&dir.path().join("nowhere/report.html")).is_err());
        let link = dir.path().join("link.html");
        std::os::unix::fs::symlink("report.html", &link).unwrap();
        assert!(Destination::check(&link).is_err());
        // What becomes something else meanwhile is not replaced either, and nothing stays behind.
        let later = dir.path().join("later.html");
        let destination = Destination::check(&later).unwrap();
        fs::create_dir(&later).unwrap();
        assert!(destination.write("third").is_err());
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 3);
    }
}
