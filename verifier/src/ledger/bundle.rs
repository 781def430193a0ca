//! One bundle, checked by itself on any thread: its bytes, its level-0 tile, its tail bundles, and each
//! event in it. What needs the bundles before it (chains, roots, key states) goes on as facts.

use chancery_format::merkle;
use chancery_format::tile::{self, TilePath, WIDTH};
use chancery_format::{AuditEvent, Hash};

use super::event::{EntryFacts, read_entry};
use crate::evidence::{Evidence, EvidenceError};
use crate::findings::{Finding, Kind};
use crate::inventory::tail_name;
use crate::trust::Trust;

/// 256 entries of 65,535 bytes, each with its length.
pub(crate) const BUNDLE_BYTES_MAX: usize = 256 * (65_535 + 2);

/// What to read for one bundle number.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct BundleTask {
    pub(crate) number: u64,
    /// Entries it must hold.
    pub(crate) width: u64,
    /// Whether the file with these entries is there.
    pub(crate) has_entries: bool,
    /// Whether its level-0 tile is there; only full bundles have one.
    pub(crate) has_tile: bool,
    /// Sizes of the tail bundles within it, without the one that holds its entries.
    pub(crate) tails: Vec<u64>,
    /// Whether bundles before it are missing.
    pub(crate) after_gap: bool,
}

impl BundleTask {
    fn file(&self) -> TilePath {
        let width = (self.width < WIDTH).then(|| u8::try_from(self.width).unwrap_or(0));
        TilePath { level: None, index: self.number, width }
    }

    /// Index of its first entry.
    pub(crate) const fn first(&self) -> u64 {
        self.number * WIDTH
    }
}

/// What one bundle says.
#[derive(Debug)]
pub(crate) struct BundleReport {
    pub(crate) task: BundleTask,
    pub(crate) bytes: u64,
    pub(crate) files: FileCounts,
    /// Leaf hashes; empty if neither entries nor tile tell them.
    pub(crate) leaves: Vec<Hash>,
    /// What the tile says, where that differs.
    pub(crate) tile_leaves: Option<Vec<Hash>>,
    /// Root over `leaves`, and over `tile_leaves`, of a full bundle.
    pub(crate) roots: Option<(Hash, Hash)>,
    /// One per entry that could be cut out.
    pub(crate) entries: Vec<EntryFacts>,
    pub(crate) findings: Vec<Finding>,
}

/// Files read for it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct FileCounts {
    pub(crate) bundles: u64,
    pub(crate) tails: u64,
    pub(crate) tiles: u64,
}

/// Turns a failed read into its finding.
pub(crate) fn unread(name: &str, error: &EvidenceError) -> Finding {
    let kind = match error {
        EvidenceError::NotFound => Kind::MissingFile,
        EvidenceError::Unreadable(_) => Kind::UnreadableFile,
        EvidenceError::TooLarge(_) => Kind::OversizedFile,
    };
    Finding::file(kind, name, error.to_string())
}

/// Reads and checks one bundle.
pub(crate) fn read_bundle(
    evidence: &dyn Evidence,
    trust: &Trust,
    task: BundleTask,
    is_seen: bool,
) -> BundleReport {
    let mut reader = Reader { evidence, task: &task, findings: Vec::new(), files: FileCounts::default() };
    let bytes = reader.entries_bytes();
    let cut = bytes.as_deref().map(|bytes| reader.cut(bytes)).unwrap_or_default();
    if let Some(bytes) = &bytes {
        reader.compare_tails(bytes, &cut);
    }
    let mut entries = Vec::with_capacity(cut.len());
    for (index, entry) in (task.first()..).zip(&cut) {
        entries.push(read_entry(trust, index, entry, is_seen, &mut reader.findings));
    }
    let own: Vec<Hash> = cut.iter().map(|entry| merkle::leaf_hash(entry)).collect();
    let whole = own.len() as u64 == task.width;
    let from_tile = reader.tile();
    if whole && let Some(tile) = &from_tile {
        reader.compare_tile(&own, tile);
    }
    let (leaves, tile_leaves) = match (whole, from_tile) {
        (true, tile) => (own, tile),
        (false, Some(tile)) => (tile, None),
        (false, None) => (Vec::new(), None),
    };
    let tile_leaves = tile_leaves.filter(|tile| *tile != leaves);
    let root = tile::tile_root(&leaves);
    let roots = root.zip(tile_leaves.as_deref().map_or(root, tile::tile_root));
    let (findings, files) = (reader.findings, reader.files);
    let bytes = bytes.map_or(0, |bytes| bytes.len() as u64);
    BundleReport { bytes, files, leaves, tile_leaves, roots, entries, findings, task }
}

struct Reader<'a> {
    evidence: &'a dyn Evidence,
    task: &'a BundleTask,
    findings: Vec<Finding>,
    files: FileCounts,
}

impl Reader<'_> {
    fn open(&mut self, name: &str, bytes_max: usize) -> Option<Vec<u8>> {
        let result = self.evidence.open(name, bytes_max);
        result.map_err(|error| self.findings.push(unread(name, &error))).ok()
    }

    fn entries_bytes(&mut self) -> Option<Vec<u8>> {
        if !self.task.has_entries {
            return None; // the inventory has told
        }
        let file = self.task.file();
        let bytes = self.open(&file.to_string(), BUNDLE_BYTES_MAX)?;
        *(if file.width.is_some() { &mut self.files.tails } else { &mut self.files.bundles }) += 1;
        Some(bytes)
    }

    /// The entries, as far as they can be cut out; at most as many as the bundle may hold.
    fn cut<'b>(&mut self, bytes: &'b [u8]) -> Vec<&'b [u8]> {
        let mut cut = Vec::with_capacity(256);
        let mut fault = None;
        for entry in tile::decode_bundle(bytes) {
            match entry {
                Ok(_) if cut.len() as u64 == self.task.width => {
                    fault = Some("holds more entries than its name says".to_owned());
                    break;
                }
                Ok(entry) => cut.push(entry),
                Err(error) => fault = Some(error.to_string()),
            }
        }
        if fault.is_none() && (cut.len() as u64) < self.task.width {
            fault = Some(format!("holds {} entries instead of {}", cut.len(), self.task.width));
        }
        if let Some(fault) = fault {
            let index = self.task.first() + cut.len() as u64;
            let finding = Finding::entry(Kind::BundleMalformed, index, fault);
            self.findings.push(finding.in_file(self.task.file().to_string()));
        }
        cut
    }

    /// Tail bundles hold the same bytes as what was archived later.
    fn compare_tails(&mut self, bytes: &[u8], cut: &[&[u8]]) {
        for size in &self.task.tails {
            let name = tail_name(*size);
            let Some(tail) = self.open(&name, BUNDLE_BYTES_MAX) else { continue };
            self.files.tails += 1;
            let width = usize::try_from(size % WIDTH).unwrap_or(usize::MAX);
            let expected: usize = cut.iter().take(width).map(|entry| entry.len() + 2).sum();
            if cut.len() >= width && bytes.get(..expected) == Some(tail.as_slice()) {
                continue;
            }
            let same = tile::decode_bundle(&tail).zip(cut).take_while(|(a, b)| a == &Ok(**b)).count();
            let index = self.task.first() + same.min(width.saturating_sub(1)) as u64;
            let message = "differs from the entries archived later";
            self.findings.push(Finding::entry(Kind::TailMismatch, index, message).in_file(name));
        }
    }

    /// The level-0 tile, if it is there and is one.
    fn tile(&mut self) -> Option<Vec<Hash>> {
        if !self.task.has_tile {
            return None;
        }
        let name = TilePath::tile(0, self.task.number).to_string();
        let bytes = self.open(&name, tile::TILE_BYTES)?;
        self.files.tiles += 1;
        let hashes = tile::decode_tile(&bytes).filter(|hashes| hashes.len() as u64 == WIDTH);
        if hashes.is_none() {
            let message = format!("has {} bytes; a full tile has 8192", bytes.len());
            self.findings.push(Finding::file(Kind::TileMismatch, name, message));
        }
        hashes
    }

    fn compare_tile(&mut self, own: &[Hash], tile: &[Hash]) {
        let differing: Vec<u64> = (self.task.first()..)
            .zip(own.iter().zip(tile))
            .filter(|(_, (a, b))| a != b)
            .map(|(i, _)| i)
            .collect();
        let Some(first) = differing.first() else { return };
        let message = match differing.len() {
            1 => "hash of this entry differs from the entry's".to_owned(),
            more => format!("hashes of this and {} more entries differ from the entries'", more - 1),
        };
        let name = TilePath::tile(0, self.task.number).to_string();
        self.findings.push(Finding::entry(Kind::TileMismatch, *first, message).in_file(name));
    }
}

/// The claimed link of an event whose `hash` is wrong, so that its stream can be followed on.
pub(crate) fn read_despite_hash(leaf: &[u8]) -> Option<AuditEvent<'_>> {
    AuditEvent::read(leaf).ok()
}
