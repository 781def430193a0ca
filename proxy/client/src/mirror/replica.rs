//! The copy: a folder that is a whole static log at each moment.
//!
//! ```text
//! DIR/checkpoint          the log's note, byte for byte; replaced last
//! DIR/tile/…              hash tiles and entry bundles, under the names of C2SP tlog-tiles
//! DIR/evidence/*.json     forks
//! DIR/.mirror/lock        held by whoever follows
//! DIR/.mirror/pending     the newest checkpoint seen, while what it covers is being fetched
//! DIR/.mirror/new-…       files on their way; swept at the next start
//! ```
//!
//! Every file is written under another name, synced and put in its place; so is each folder it stands in. Tiles of the
//! stored checkpoint are never written again.

use std::fs::{self, File};
use std::io::{ErrorKind, Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use chancery_format::note::NOTE_BYTES_MAX;
use chancery_format::tile::{TilePath, WIDTH, decode_tile, full_tiles, partial_width};
use chancery_format::{Hash, TreeSize};

use super::error::MirrorError;
use super::fork::Fork;
use super::head::{LogKeys, SignedHead, read as read_head};
use super::tree::width_of;
use crate::limits;

const CHECKPOINT: &str = "checkpoint";
const PENDING: &str = ".mirror/pending";
const EVIDENCE: &str = "evidence";

/// A copy on disk.
#[derive(Debug)]
pub struct Replica {
    folder: PathBuf,
    /// Held as long as this one may write.
    lock: Option<File>,
    names: AtomicU64,
}

impl Replica {
    /// To follow a log into: makes the folder, and keeps every other follower out.
    pub fn follow(folder: &Path) -> Result<Self, MirrorError> {
        let failed = failed(folder);
        make_folders(&folder.join(".mirror")).map_err(&failed)?;
        let lock = File::create(folder.join(".mirror/lock")).map_err(&failed)?;
        lock.try_lock().map_err(|error| match error {
            fs::TryLockError::WouldBlock => failed(std::io::Error::other("another mirror follows into it")),
            fs::TryLockError::Error(error) => failed(error),
        })?;
        for entry in fs::read_dir(folder.join(".mirror")).map_err(&failed)?.flatten() {
            if entry.file_name().to_string_lossy().starts_with("new-") {
                fs::remove_file(entry.path()).map_err(&failed)?;
            }
        }
        Ok(Self { folder: folder.to_owned(), lock: Some(lock), names: AtomicU64::new(0) })
    }

    /// To read only. The folder must be there.
    pub fn open(folder: &Path) -> Result<Self, MirrorError> {
        match fs::metadata(folder) {
            Ok(found) if found.is_dir() => {
                Ok(Self { folder: folder.to_owned(), lock: None, names: AtomicU64::new(0) })
            }
            Ok(_) => Err(failed(folder)(std::io::Error::other("is no folder"))),
            Err(error) => Err(failed(folder)(error)),
        }
    }

    /// Where it is.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// The checkpoint that the copy is whole for; `None` if there is none yet.
    pub fn held(&self, keys: &LogKeys) -> Result<Option<SignedHead>, MirrorError> {
        self.signed(CHECKPOINT, keys)
    }

    /// The checkpoint that was being fetched when a round ended early.
    pub fn pending(&self, keys: &LogKeys) -> Result<Option<SignedHead>, MirrorError> {
        self.signed(PENDING, keys)
    }

    fn signed(&self, name: &str, keys: &LogKeys) -> Result<Option<SignedHead>, MirrorError> {
        let Some(note) = self.note(name)? else { return Ok(None) };
        let head = keys.verify(&note);
        head.map(Some).map_err(|cause| MirrorError::Stranger { path: self.folder.join(name), cause })
    }

    fn note(&self, name: &str) -> Result<Option<String>, MirrorError> {
        let Some(bytes) = self.bytes(name, NOTE_BYTES_MAX)? else { return Ok(None) };
        let note = String::from_utf8(bytes);
        note.map(Some).map_err(|_| failed(&self.folder.join(name))(std::io::Error::other("is not text")))
    }

    /// The stored checkpoint as it is, and the size it speaks of: for serving, which trusts the folder.
    pub(super) fn checkpoint(&self) -> Result<Option<(String, u64)>, MirrorError> {
        let Some(note) = self.note(CHECKPOINT)? else { return Ok(None) };
        Ok(size_of_note(&note).map(|size| (note, size)))
    }

    /// Whether the folder is an archive of ours, which numbers its checkpoints, and no copy.
    pub(super) fn is_archive(&self) -> bool {
        self.folder.join(CHECKPOINT).is_dir()
    }

    /// A file of the copy; `None` if it is not there.
    pub(super) fn bytes(&self, name: &str, bytes_max: usize) -> Result<Option<Vec<u8>>, MirrorError> {
        let path = self.folder.join(name);
        let read = || {
            let mut bytes = Vec::new();
            File::open(&path)?.take(bytes_max as u64 + 1).read_to_end(&mut bytes)?;
            std::io::Result::Ok(bytes)
        };
        match read() {
            Ok(bytes) if bytes.len() > bytes_max => {
                Err(failed(&path)(std::io::Error::other("is larger than the format allows")))
            }
            Ok(bytes) => Ok(Some(bytes)),
            Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => Ok(None),
            Err(error) => Err(failed(&path)(error)),
        }
    }

    /// The hashes of a tile as it is on disk, unverified.
    pub(super) fn tile(&self, path: TilePath) -> Result<Option<Vec<Hash>>, MirrorError> {
        let bytes = self.bytes(&path.to_string(), limits::MIRROR_TILE_BYTES_MAX)?;
        Ok(bytes.and_then(|bytes| decode_tile(&bytes)))
    }

    /// The tile that a tree of `size` has at this place, partial if that tree's is.
    pub(super) fn tile_in(&self, size: u64, level: u8, index: u64) -> Result<Option<Vec<Hash>>, MirrorError> {
        let wanted = width_of(level, index, size);
        let width = u8::try_from(wanted).ok();
        let found = self.tile(TilePath { level: Some(level), index, width })?;
        Ok(found.filter(|hashes| hashes.len() == wanted))
    }

    /// Writes a tile or bundle that was verified.
    pub(super) fn put(&self, path: TilePath, bytes: &[u8]) -> Result<(), MirrorError> {
        self.write(&path.to_string(), bytes)
    }

    /// Remembers a checkpoint before anything it covers is fetched.
    pub(super) fn begin(&self, head: &SignedHead) -> Result<(), MirrorError> {
        self.write(PENDING, head.note().as_bytes())
    }

    /// All that the checkpoint covers is on disk: the copy becomes that log.
    pub(super) fn commit(&self, head: &SignedHead, before: TreeSize) -> Result<(), MirrorError> {
        self.write(CHECKPOINT, head.note().as_bytes())?;
        let pending = self.folder.join(PENDING);
        match fs::remove_file(&pending) {
            Err(error) if error.kind() != ErrorKind::NotFound => return Err(failed(&pending)(error)),
            _ => {}
        }
        self.prune(before.0, head.size())
    }

    /// Removes partial tiles and bundles whose full ones are there now, as the format allows.
    fn prune(&self, before: u64, now: u64) -> Result<(), MirrorError> {
        let full = |level: u8| full_tiles(level, before) < full_tiles(level, now);
        let tiles = (0..8).filter(|level| full(*level) && partial_width(*level, before).is_some());
        let paths = tiles.flat_map(|level| {
            let index = full_tiles(level, before);
            let bundle = (level == 0).then(|| TilePath::entries(index));
            std::iter::once(TilePath::tile(level, index)).chain(bundle)
        });
        for path in paths {
            let partials = self.folder.join(format!("{path}.p"));
            match fs::remove_dir_all(&partials) {
                Err(error) if error.kind() != ErrorKind::NotFound => return Err(failed(&partials)(error)),
                _ => {}
            }
        }
        Ok(())
    }

    /// Keeps a fork; the same one is kept once. Where it is kept.
    pub(super) fn keep(&self, fork: &Fork) -> Result<PathBuf, MirrorError> {
        let json = fork.to_json();
        let digest: String = Hash::of(&[json.as_bytes()]).to_hex().chars().take(16).collect();
        let name = format!("{EVIDENCE}/fork-{}-{}-{digest}.json", fork.held.size(), fork.shown.size());
        self.write(&name, json.as_bytes())?;
        Ok(self.folder.join(name))
    }

    /// Files of evidence there are.
    pub fn evidence(&self) -> Vec<PathBuf> {
        let found = fs::read_dir(self.folder.join(EVIDENCE)).into_iter().flatten().flatten();
        let mut paths: Vec<_> = found.map(|entry| entry.path()).collect();
        paths.sort();
        paths
    }

    fn write(&self, name: &str, bytes: &[u8]) -> Result<(), MirrorError> {
        let path = self.folder.join(name);
        let failed = failed(&path);
        if self.lock.is_none() {
            return Err(failed(std::io::Error::other("was opened to read")));
        }
        let nth = self.names.fetch_add(1, Ordering::Relaxed);
        let new = self.folder.join(format!(".mirror/new-{nth}"));
        let folder = path.parent().unwrap_or(&self.folder);
        let written = || {
            make_folders(folder)?;
            let mut file = File::create(&new)?;
            file.write_all(bytes)?;
            file.sync_all()?;
            fs::rename(&new, &path)?;
            File::open(folder)?.sync_all()
        };
        written().map_err(failed)
    }
}

/// The size that a note speaks of.
pub(super) fn size_of_note(note: &str) -> Option<u64> {
    note.rsplit_once("\n\n").and_then(|(text, _)| Some(read_head(text)?.1.size.0))
}

/// How many entries the bundle at `index` has in a tree of `size`.
pub(super) fn bundle_path(index: u64, size: u64) -> TilePath {
    let width = if (index + 1).saturating_mul(WIDTH) <= size { None } else { partial_width(0, size) };
    TilePath { level: None, index, width }
}

/// Makes a folder and those above it, each name synced where it stands.
fn make_folders(folder: &Path) -> std::io::Result<()> {
    if folder.is_dir() {
        return Ok(());
    }
    let above = folder.parent().filter(|above| !above.as_os_str().is_empty()).unwrap_or(Path::new("."));
    make_folders(above)?;
    match fs::create_dir(folder) {
        Err(error) if error.kind() != ErrorKind::AlreadyExists => return Err(error),
        _ => {}
    }
    File::open(above)?.sync_all()
}

fn failed(path: &Path) -> impl Fn(std::io::Error) -> MirrorError {
    let path = path.to_owned();
    move |error| MirrorError::Replica { path: path.clone(), cause: error.to_string() }
}
