//! An archive that is a directory: for development, for demos, and for mounts that are write-once
//! themselves.
//!
//! An object becomes visible whole, by a link to a synced file, and a link never replaces a name. Files are
//! read-only. The owner of the directory can still remove them: only an object lock stops that.

use std::collections::BTreeSet;
use std::fs::{self, File, Permissions};
use std::io::{self, Write};
use std::os::fd::AsRawFd;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use chancery_format::archive::ObjectName;
use rustix::fs::{AtFlags, CWD, Mode, OFlags};

use crate::archive::{Archive, ArchiveError, Put};

/// Everyone may read an object, nobody may write it.
const OBJECT_MODE: u32 = 0o444;

/// The archive in one directory.
#[derive(Debug, Clone)]
pub struct DirectoryArchive {
    root: PathBuf,
}

impl DirectoryArchive {
    /// An archive in `root`, which must exist by the time it is used.
    pub fn new(root: impl Into<PathBuf>) -> Self {
        Self { root: root.into() }
    }

    fn path(&self, name: &str) -> Result<PathBuf, ArchiveError> {
        match ObjectName::parse(name) {
            // Here this is the folder of checkpoints.
            Some(ObjectName::Latest) => Err(ArchiveError::NotFound(name.to_owned())),
            Some(_) => Ok(self.root.join(name)),
            None => Err(ArchiveError::Refused(format!("{name} is not the name of an object"))),
        }
    }

    /// Makes the folders of an object durable, from the root down.
    fn make_folders(&self, folder: &Path) -> io::Result<()> {
        if folder.is_dir() {
            return Ok(());
        }
        let Some(parent) = folder.parent().filter(|parent| parent.starts_with(&self.root)) else {
            return Err(io::Error::new(io::ErrorKind::NotFound, "the archive's directory is missing"));
        };
        self.make_folders(parent)?;
        match fs::create_dir(folder) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(error),
            _ => sync_folder(parent),
        }
    }

    fn store(&self, path: &Path, bytes: &[u8]) -> io::Result<()> {
        let folder = path.parent().unwrap_or(&self.root);
        self.make_folders(folder)?;
        match nameless_file(folder) {
            Ok(file) => {
                fill(&file, bytes)?;
                link_nameless(&file, path)?;
            }
            // Not every file system has nameless files.
            Err(error) if is_unsupported(&error) => store_by_name(path, bytes)?,
            Err(error) => return Err(error),
        }
        sync_folder(folder)
    }

    /// What is there already decides: the same bytes are no error.
    fn compare(&self, path: &Path, name: &str, bytes: &[u8]) -> Result<Put, ArchiveError> {
        match fs::read(path) {
            Ok(there) if there == bytes => Ok(Put::AlreadyThere),
            Ok(_) => Err(ArchiveError::Conflict(name.to_owned())),
            Err(error) => Err(self.said(name, &error)),
        }
    }

    /// What an error of the file system means. Objects of a folder that is not there, because its disk is away, are
    /// not lost.
    fn said(&self, name: &str, error: &io::Error) -> ArchiveError {
        match error.kind() {
            io::ErrorKind::NotFound if !self.root.is_dir() => {
                ArchiveError::Unavailable(format!("{} is not there", self.root.display()))
            }
            io::ErrorKind::NotFound => ArchiveError::NotFound(name.to_owned()),
            io::ErrorKind::PermissionDenied => ArchiveError::Refused(format!("{name}: {error}")),
            // Also a full disk: room may be made without telling us.
            _ => ArchiveError::Unavailable(format!("{name}: {error}")),
        }
    }
}

impl Archive for DirectoryArchive {
    fn check_at_start(&self) -> Result<(), ArchiveError> {
        let missing = || ArchiveError::Refused(format!("{} is not a directory", self.root.display()));
        if !self.root.is_dir() {
            return Err(missing());
        }
        let access = rustix::fs::Access::WRITE_OK | rustix::fs::Access::EXEC_OK;
        rustix::fs::access(&self.root, access).map_err(|error| self.said("its directory", &error.into()))
    }

    fn put_new(&self, name: &str, bytes: &[u8]) -> Result<Put, ArchiveError> {
        let path = self.path(name)?;
        if path.exists() {
            return self.compare(&path, name, bytes);
        }
        match self.store(&path, bytes) {
            Ok(()) => Ok(Put::Stored),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => self.compare(&path, name, bytes),
            Err(error) => Err(self.said(name, &error)),
        }
    }

    fn get(&self, name: &str) -> Result<Vec<u8>, ArchiveError> {
        fs::read(self.path(name)?).map_err(|error| self.said(name, &error))
    }

    fn list_after(&self, prefix: &str, after: Option<&str>, max: usize) -> Result<Vec<String>, ArchiveError> {
        let mut page = Page { root: &self.root, prefix, after, max, names: Vec::new(), folders_read: 0 };
        page.fill_from("").map_err(|error| self.said(prefix, &error))?;
        Ok(page.names)
    }
}

/// The next names after a given one, in order. Reads the folders that these are in and those above them, and no other;
/// of each folder it holds no more entries than the page has names.
struct Page<'a> {
    root: &'a Path,
    prefix: &'a str,
    after: Option<&'a str>,
    max: usize,
    names: Vec<String>,
    folders_read: u64,
}

impl Page<'_> {
    /// Takes names from under a folder until the page is full.
    fn fill_from(&mut self, folder: &str) -> io::Result<()> {
        let mut behind: Option<String> = None;
        while self.names.len() < self.max {
            let (entries, has_more) = self.read(folder, behind.as_deref())?;
            for entry in entries {
                if self.names.len() >= self.max {
                    return Ok(());
                }
                match entry.ends_with('/') {
                    true => self.fill_from(&entry)?,
                    false => self.names.push(entry.clone()),
                }
                behind = Some(entry);
            }
            if !has_more {
                return Ok(());
            }
        }
        Ok(())
    }

    /// The first entries of a folder behind one, and whether there are more. A folder has a slash at its end, which also
    /// puts it where the names under it stand in the order of all names.
    fn read(&mut self, folder: &str, behind: Option<&str>) -> io::Result<(BTreeSet<String>, bool)> {
        self.folders_read += 1;
        let (mut first, mut has_more) = (BTreeSet::new(), false);
        for entry in fs::read_dir(self.root.join(folder))? {
            let entry = entry?;
            // What is not text is not ours, and the verifier will say so.
            let Ok(name) = entry.file_name().into_string() else { continue };
            let is_folder = entry.file_type()?.is_dir();
            let name = format!("{folder}{name}{}", if is_folder { "/" } else { "" });
            let is_wanted = if is_folder { self.may_be_under(&name) } else { self.wants(&name) };
            if is_wanted && behind.is_none_or(|behind| name.as_str() > behind) {
                first.insert(name);
                if first.len() > self.max {
                    first.pop_last();
                    has_more = true;
                }
            }
        }
        Ok((first, has_more))
    }

    fn wants(&self, name: &str) -> bool {
        name.starts_with(self.prefix) && self.after.is_none_or(|after| name > after)
    }

    /// Whether names under this folder can be wanted: all of them stand where its own does, but for those around `after`.
    fn may_be_under(&self, folder: &str) -> bool {
        let has_prefix = self.prefix.starts_with(folder) || folder.starts_with(self.prefix);
        has_prefix && self.after.is_none_or(|after| folder > after || after.starts_with(folder))
    }
}

fn is_unsupported(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::Unsupported | io::ErrorKind::IsADirectory)
}

/// A file without a name: a crash leaves nothing behind.
fn nameless_file(folder: &Path) -> io::Result<File> {
    let flags = OFlags::TMPFILE | OFlags::WRONLY | OFlags::CLOEXEC;
    Ok(rustix::fs::open(folder, flags, Mode::from_raw_mode(0o600))?.into())
}

/// Gives the file its name, unless the name is taken.
fn link_nameless(file: &File, path: &Path) -> io::Result<()> {
    let open_file = format!("/proc/self/fd/{}", file.as_raw_fd());
    Ok(rustix::fs::linkat(CWD, open_file, CWD, path, AtFlags::SYMLINK_FOLLOW)?)
}

/// The same with a temporary name beside the object; one left by a crash is taken over.
fn store_by_name(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let file_name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let temporary = path.with_file_name(format!(".{file_name}.part"));
    match fs::remove_file(&temporary) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    fill(&File::create_new(&temporary)?, bytes)?;
    let linked = fs::hard_link(&temporary, path);
    fs::remove_file(&temporary)?;
    linked
}

fn fill(mut file: &File, bytes: &[u8]) -> io::Result<()> {
    file.write_all(bytes)?;
    file.set_permissions(Permissions::from_mode(OBJECT_MODE))?;
    file.sync_all()
}

fn sync_folder(folder: &Path) -> io::Result<()> {
    File::open(folder)?.sync_all()
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a failed unwrap is the test's failure")]
    use super::*;

    const NAME: &str = "tile/entries/000.p/7";

    #[test]
    fn an_object_is_stored_once_read_only_and_whole() {
        let dir = tempfile::tempdir().unwrap();
        let archive = DirectoryArchive::new(dir.path());
        archive.check_at_start().unwrap();
        assert_eq!(archive.put_new(NAME, b"abc"), Ok(Put::Stored));
        assert_eq!(archive.put_new(NAME, b"abc"), Ok(Put::AlreadyThere));
        assert_eq!(archive.put_new(NAME, b"abd"), Err(ArchiveError::Conflict(NAME.into())));
        assert_eq!(archive.get(NAME).unwrap(), b"abc");
        let mode = fs::metadata(dir.path().join(NAME)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, OBJECT_MODE);
        let left: Vec<_> = fs::read_dir(dir.path().join("tile/entries/000.p")).unwrap().collect();
        assert_eq!(left.len(), 1);
    }

    #[test]
    fn the_way_without_nameless_files_behaves_the_same_and_cleans_up() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("object");
        fs::write(dir.path().join(".object.part"), b"left by a crash").unwrap();
        store_by_name(&path, b"abc").unwrap();
        assert_eq!(store_by_name(&path, b"abd").unwrap_err().kind(), io::ErrorKind::AlreadyExists);
        assert_eq!(fs::read(&path).unwrap(), b"abc");
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    }

    #[test]
    fn names_outside_the_layout_and_missing_directories_are_refused() {
        let dir = tempfile::tempdir().unwrap();
        let archive = DirectoryArchive::new(dir.path());
        for name in ["../x", "/etc/passwd", "checkpoint/../../x", "notes.txt", ""] {
            assert!(matches!(archive.put_new(name, b""), Err(ArchiveError::Refused(_))), "{name}");
            assert!(matches!(archive.get(name), Err(ArchiveError::Refused(_))), "{name}");
        }
        assert_eq!(archive.get(NAME), Err(ArchiveError::NotFound(NAME.into())));
        // A folder has its checkpoints where a static log has its newest.
        assert_eq!(archive.get("checkpoint"), Err(ArchiveError::NotFound("checkpoint".into())));
        assert!(archive.put_new("checkpoint", b"").is_err());
        assert!(matches!(archive.put_latest(None, b""), Err(ArchiveError::Refused(_))));
        let missing = DirectoryArchive::new(dir.path().join("missing"));
        assert!(matches!(missing.check_at_start(), Err(ArchiveError::Refused(_))));
        // Its disk is away: nothing is lost, and it may come back.
        assert!(matches!(missing.put_new(NAME, b""), Err(ArchiveError::Unavailable(_))));
        assert!(matches!(missing.get(NAME), Err(ArchiveError::Unavailable(_))));
        assert!(!dir.path().join("missing").exists());
    }

    #[test]
    fn listing_is_sorted_bounded_and_goes_on_where_it_stopped() {
        let dir = tempfile::tempdir().unwrap();
        let archive = DirectoryArchive::new(dir.path());
        for name in ["checkpoint/000000000002", "checkpoint/000000000000", "checkpoint/000000000001", NAME] {
            archive.put_new(name, b"x").unwrap();
        }
        let page = archive.list_after("checkpoint/", None, 2).unwrap();
        assert_eq!(page, ["checkpoint/000000000000", "checkpoint/000000000001"]);
        let rest = archive.list_after("checkpoint/", page.last().map(String::as_str), 2).unwrap();
        assert_eq!(rest, ["checkpoint/000000000002"]);
        assert_eq!(archive.list_after("tile/", None, 9).unwrap(), [NAME]);
        assert_eq!(archive.list_after("registry/", None, 9).unwrap(), Vec::<String>::new());
    }

    /// A ledger of many tiles: a listing by pages gives each name once, in order, and reads each folder once or twice
    /// and not once a page.
    #[test]
    fn a_listing_reads_no_folder_that_it_needs_not() {
        let dir = tempfile::tempdir().unwrap();
        let mut all = Vec::new();
        let tiles = (0..4).flat_map(|high| (0..25).map(move |low| format!("x{high:03}/{low:03}")));
        for tile in tiles {
            all.extend([format!("tile/0/{tile}"), format!("tile/entries/{tile}")]);
        }
        all.extend((0..60).map(|epoch| format!("checkpoint/{epoch:012}")));
        // Folders that stand between files of almost the same name.
        all.extend(["tile/0/100", "tile/0/100.p/7", "tile/0/100.p/12", "tile/0/1000"].map(str::to_owned));
        for name in &all {
            let path = dir.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, "").unwrap();
        }
        all.sort();
        for (prefix, max) in [
            ("", 1),
            ("", 7),
            ("", 1_000),
            ("tile/", 10),
            ("tile/0/1", 2),
            ("tile/entries/x002/", 9),
            ("z", 3),
        ] {
            let expected: Vec<_> = all.iter().filter(|name| name.starts_with(prefix)).cloned().collect();
            let (mut found, mut reads, mut pages) = (Vec::<String>::new(), 0, 0);
            loop {
                let after = found.last().cloned();
                let (root, after, names) = (dir.path(), after.as_deref(), Vec::new());
                let mut page = Page { root, prefix, after, max, names, folders_read: 0 };
                page.fill_from("").unwrap();
                assert!(page.names.len() <= max);
                // From the top down to a tile there are four, and the page may go on in the next ones.
                let through = page.names.iter().map(|name| name.rsplit_once('/').unwrap().0);
                let through = through.collect::<std::collections::BTreeSet<_>>().len() as u64;
                assert!(page.folders_read <= 10 + 2 * through, "{prefix} {max}: {}", page.folders_read);
                reads += page.folders_read;
                pages += 1;
                if page.names.is_empty() {
                    break;
                }
                found.extend(page.names);
            }
            assert_eq!(found, expected, "{prefix} {max}");
            println!("{prefix:?} by {max}: {reads} folders read for {pages} pages");
        }
        assert_eq!(DirectoryArchive::new(dir.path()).list_after("", None, 0).unwrap(), Vec::<String>::new());
    }
}
