//! Verifies a whole copy without a network: signature, root, every tile by the one above it, every entry by its tile.
//!
//! What is missing is told apart from what is wrong: the first leaves the question open, the second answers it. Below a
//! tile that is missing or wrong nothing can be decided, and nothing is said.

use std::collections::HashSet;

use chancery_format::Hash;
use chancery_format::tile::{LEVELS, TilePath, WIDTH, decode_bundle, full_tiles, partial_width, tile_root};
use serde_json::{Value, json};

use super::error::MirrorError;
use super::head::{LogKeys, SignedHead};
use super::replica::{Replica, bundle_path};
use super::tree::{Tiles, partial_levels, root_at, sound_bundle};
use super::{Progress, Watcher};
use crate::limits;

/// One thing that is not as it must be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// A stable word: `missing`, `tile-mismatch`, `entries-mismatch`, or `fork`, which is a warning.
    pub kind: &'static str,
    /// Which file.
    pub path: String,
    /// For people.
    pub message: String,
}

impl Finding {
    fn is_warning(&self) -> bool {
        self.kind == "fork"
    }

    /// As the verifier writes findings.
    pub fn to_json(&self) -> Value {
        let severity = if self.is_warning() { "warning" } else { "error" };
        json!({ "severity": severity, "kind": self.kind, "id": self.path, "message": self.message })
    }
}

/// What a check came to.
#[derive(Debug)]
pub struct Checked {
    /// The checkpoint everything was held against.
    pub head: SignedHead,
    /// Tiles that were verified.
    pub tiles: u64,
    /// Entries that were verified.
    pub entries: u64,
    /// Bytes of those tiles and entries.
    pub bytes: u64,
    /// The first findings, [`limits::MIRROR_FINDINGS_LISTED`] at most.
    pub findings: Vec<Finding>,
    /// Things that are wrong.
    pub wrong: u64,
    /// Things that are not there.
    pub missing: u64,
}

/// Verifies the copy. An error says that it cannot be read at all, or has no checkpoint.
pub fn check(replica: &Replica, keys: &LogKeys, watcher: &mut dyn Watcher) -> Result<Checked, MirrorError> {
    let head = replica.held(keys)?.ok_or_else(|| MirrorError::Missing("checkpoint".to_owned()))?;
    let size = head.size();
    let total = (0..LEVELS).map(|level| full_tiles(level, size)).sum::<u64>();
    let found = Checked { head, tiles: 0, entries: 0, bytes: 0, findings: vec![], wrong: 0, missing: 0 };
    let progress = Progress { total, ..Progress::default() };
    let mut round = Round { replica, size, wrong: HashSet::new(), found, progress, watcher };
    if let Some(edge) = round.edge()? {
        for level in (0..LEVELS).rev() {
            round.level(level, &edge)?;
        }
    }
    for path in replica.evidence() {
        let path = path.strip_prefix(replica.folder()).unwrap_or(&path).display().to_string();
        round.find("fork", path, "the log signed two checkpoints that exclude each other".to_owned());
    }
    Ok(round.found)
}

struct Round<'a> {
    replica: &'a Replica,
    size: u64,
    /// Tiles that are there and wrong: nothing is held against them.
    wrong: HashSet<(u8, u64)>,
    found: Checked,
    progress: Progress,
    watcher: &'a mut dyn Watcher,
}

impl Round<'_> {
    fn find(&mut self, kind: &'static str, path: String, message: String) {
        match kind {
            "missing" => self.found.missing += 1,
            "fork" => {}
            _ => self.found.wrong += 1,
        }
        if self.found.findings.len() < limits::MIRROR_FINDINGS_LISTED {
            self.found.findings.push(Finding { kind, path, message });
        }
    }

    /// The partial tiles, if they lead to the signed root, with the entries of the lowest.
    fn edge(&mut self) -> Result<Option<Tiles>, MirrorError> {
        let mut edge = Tiles::default();
        let mut whole = true;
        for level in partial_levels(self.size) {
            let index = full_tiles(level, self.size);
            match self.replica.tile_in(self.size, level, index)? {
                Some(hashes) => edge.put(level, index, hashes),
                None => {
                    let path = TilePath { level: Some(level), index, width: partial_width(level, self.size) };
                    self.find("missing", path.to_string(), "is missing or has another length".to_owned());
                    whole = false;
                }
            }
        }
        if !whole {
            return Ok(None);
        }
        if root_at(&edge, self.size) != Ok(self.found.head.head().root) {
            let why = "the tiles at the right edge do not lead to the signed root";
            self.find("tile-mismatch", "tile".to_owned(), why.to_owned());
            return Ok(None);
        }
        for level in partial_levels(self.size) {
            let hashes = edge.get(level, full_tiles(level, self.size)).unwrap_or_default().to_vec();
            self.sound(&hashes);
            if level == 0 {
                self.bundle(full_tiles(0, self.size), &hashes)?;
            }
        }
        Ok(Some(edge))
    }

    /// The full tiles of a level, each by the hash above it.
    fn level(&mut self, level: u8, edge: &Tiles) -> Result<(), MirrorError> {
        let mut above: Option<(u64, Option<Vec<Hash>>)> = None;
        for index in 0..full_tiles(level, self.size) {
            let parent = index / WIDTH;
            if above.as_ref().is_none_or(|(number, _)| *number != parent) {
                let hashes = match edge.get(level + 1, parent) {
                    Some(hashes) => Some(hashes.to_vec()),
                    None if self.wrong.contains(&(level + 1, parent)) => None,
                    None => self.replica.tile(TilePath::tile(level + 1, parent))?,
                };
                above = Some((parent, hashes));
            }
            let at = usize::try_from(index % WIDTH).unwrap_or(usize::MAX);
            let roots = above.as_ref().and_then(|(_, hashes)| hashes.as_ref());
            if let Some(root) = roots.and_then(|roots| roots.get(at).copied()) {
                self.full(level, index, &root)?;
            }
            self.progress.done += 1;
            self.progress.bytes = self.found.bytes;
            self.watcher.at(&self.progress);
        }
        Ok(())
    }

    fn full(&mut self, level: u8, index: u64, root: &Hash) -> Result<(), MirrorError> {
        let path = TilePath::tile(level, index);
        match self.replica.tile(path)? {
            None => self.find("missing", path.to_string(), "is missing, or no tile".to_owned()),
            Some(hashes) if tile_root(&hashes) != Some(*root) => {
                let why = "its hashes do not lead to the signed root";
                self.wrong.insert((level, index));
                self.find("tile-mismatch", path.to_string(), why.to_owned());
            }
            Some(hashes) => {
                self.sound(&hashes);
                if level == 0 {
                    self.bundle(index, &hashes)?;
                }
            }
        }
        Ok(())
    }

    fn sound(&mut self, hashes: &[Hash]) {
        self.found.tiles += 1;
        self.found.bytes += hashes.len() as u64 * 32;
    }

    fn bundle(&mut self, index: u64, leaves: &[Hash]) -> Result<(), MirrorError> {
        let path = bundle_path(index, self.size);
        let Some(bytes) = self.replica.bytes(&path.to_string(), limits::MIRROR_BUNDLE_BYTES_MAX)? else {
            self.find("missing", path.to_string(), "is missing".to_owned());
            return Ok(());
        };
        let sound = sound_bundle(&bytes, leaves).is_some();
        if sound && decode_bundle(&bytes).count() == leaves.len() {
            self.found.entries += leaves.len() as u64;
            self.found.bytes += bytes.len() as u64;
        } else {
            let why = "its entries are not those of the tile";
            self.find("entries-mismatch", path.to_string(), why.to_owned());
        }
        Ok(())
    }
}
