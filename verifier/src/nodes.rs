//! Complete nodes of an archive's tree, for proofs: nothing here is trusted, a wrong node makes a proof that fails.
//!
//! Memory is bounded however many proofs are made: so many tiles are kept as were read last, and one bundle.

use std::cell::RefCell;
use std::collections::HashMap;

use chancery_format::Hash;
use chancery_format::merkle::{self, NodeSource, ProofError};
use chancery_format::tile::{self, LEVELS, TilePath, WIDTH};

use crate::evidence::Evidence;
use crate::findings::{Finding, Kind};
use crate::inventory::Inventory;
use crate::ledger::{BUNDLE_BYTES_MAX, unread};

/// Tiles kept: 8 KiB each. One proof needs those of its path, and those at the right edge of the tree again and again.
const TILES_KEPT_MAX: usize = 1_024;

/// Complete nodes of the tree, from tiles where they are full and from entries where they are not.
pub(crate) struct ArchiveNodes<'a> {
    evidence: &'a dyn Evidence,
    inventory: &'a Inventory,
    /// Whether hash tiles are read at all.
    use_tiles: bool,
    /// Nodes above level 0 that no tile holds, computed from what is below them.
    computed: RefCell<HashMap<(u8, u64), Hash>>,
    recent: RefCell<Recent>,
    /// The bundle read last: its number, its name and its bytes.
    bundle: RefCell<Option<(u64, String, Vec<u8>)>>,
}

/// The tiles read last, by level and number; at level 0 also what entries say a tile would hold.
#[derive(Clone, Default)]
struct Recent {
    uses: u64,
    tiles: HashMap<(u8, u64), (u64, Vec<Hash>)>,
}

impl Recent {
    /// A node, if its tile is at hand; within, if the tile ends before it.
    fn node(&mut self, level: u8, index: u64) -> Option<Option<Hash>> {
        self.uses += 1;
        let (used, hashes) = self.tiles.get_mut(&(level, index / WIDTH))?;
        *used = self.uses;
        Some(hashes.get(usize::try_from(index % WIDTH).unwrap_or(usize::MAX)).copied())
    }

    fn keep(&mut self, level: u8, number: u64, hashes: Vec<Hash>) {
        if self.tiles.len() >= TILES_KEPT_MAX {
            let oldest = self.tiles.iter().min_by_key(|(_, (used, _))| *used).map(|(place, _)| *place);
            oldest.map(|place| self.tiles.remove(&place));
        }
        self.uses += 1;
        self.tiles.insert((level, number), (self.uses, hashes));
    }
}

/// Why a node cannot be had.
pub(crate) enum NodeError {
    /// The archive does not have it as it should.
    Finding(Box<Finding>),
    /// There is no such node.
    Proof(ProofError),
}

impl From<ProofError> for NodeError {
    fn from(error: ProofError) -> Self {
        Self::Proof(error)
    }
}

impl From<Finding> for NodeError {
    fn from(finding: Finding) -> Self {
        Self::Finding(Box::new(finding))
    }
}

impl NodeSource for ArchiveNodes<'_> {
    type Error = NodeError;

    fn node(&self, level: u8, index: u64) -> Result<Hash, NodeError> {
        let (tile_level, above) = (level / 8, level % 8);
        let first = index << above;
        let nodes: Vec<Hash> = (first..first + (1 << above))
            .map(|at| self.tile_node(tile_level, at))
            .collect::<Result<_, _>>()?;
        tile::perfect_root(&nodes).ok_or_else(|| ProofError::OutOfRange.into())
    }
}

impl NodeError {
    /// As a finding, of this kind if the archive is not to blame.
    pub(crate) fn into_finding(self, kind: Kind) -> Finding {
        match self {
            Self::Finding(finding) => *finding,
            Self::Proof(error) => Finding::new(kind, error.to_string()),
        }
    }
}

impl<'a> ArchiveNodes<'a> {
    /// Nodes of the tree whose objects are listed there.
    pub(crate) fn new(evidence: &'a dyn Evidence, inventory: &'a Inventory) -> Self {
        Self {
            evidence,
            inventory,
            use_tiles: true,
            computed: RefCell::default(),
            recent: RefCell::default(),
            bundle: RefCell::default(),
        }
    }

    /// The same from entries alone: slow, and no tile can mislead.
    pub(crate) fn of_entries(evidence: &'a dyn Evidence, inventory: &'a Inventory) -> Self {
        Self { use_tiles: false, ..Self::new(evidence, inventory) }
    }

    /// The same for another thread, with everything that was read and computed so far.
    pub(crate) fn with_same_nodes(&self) -> Self {
        Self {
            use_tiles: self.use_tiles,
            computed: self.computed.clone(),
            recent: self.recent.clone(),
            ..Self::new(self.evidence, self.inventory)
        }
    }

    /// Whether hash tiles are read.
    pub(crate) const fn uses_tiles(&self) -> bool {
        self.use_tiles
    }

    /// One entry's bytes, from the bundle that holds it.
    pub(crate) fn entry(&self, index: u64) -> Result<Vec<u8>, Finding> {
        self.with_bundle(index, |name, bytes| {
            let within = usize::try_from(index % WIDTH).unwrap_or(usize::MAX);
            match tile::decode_bundle(bytes).nth(within) {
                Some(Ok(entry)) => Ok(entry.to_vec()),
                Some(Err(error)) => Err(Finding::file(Kind::BundleMalformed, name, error.to_string())),
                None => {
                    let message = "its bundle ends before it";
                    Err(Finding::entry(Kind::BundleMalformed, index, message).in_file(name))
                }
            }
        })
    }

    /// The node at an exact tile level.
    fn tile_node(&self, tile_level: u8, index: u64) -> Result<Hash, NodeError> {
        let number = index / WIDTH;
        if let Some(hash) = self.computed.borrow().get(&(tile_level, index)) {
            return Ok(*hash);
        }
        let missing = || {
            let message = format!("entry {index} is not in the archive");
            Finding::entry(Kind::MissingFile, index, message).into()
        };
        let at_hand = self.recent.borrow_mut().node(tile_level, index);
        if let Some(node) = at_hand {
            return node.ok_or_else(missing);
        }
        let is_archived = self.use_tiles
            && tile_level < LEVELS
            && self.inventory.tiles(tile_level).binary_search(&number).is_ok();
        let nodes = if is_archived {
            self.read_tile(tile_level, number)?
        } else if tile_level == 0 {
            self.read_entries(index)?
        } else {
            let first = index.checked_mul(WIDTH).ok_or(ProofError::OutOfRange)?;
            let below = (first..first + WIDTH).map(|at| self.tile_node(tile_level - 1, at));
            let root =
                tile::tile_root(&below.collect::<Result<Vec<_>, _>>()?).ok_or(ProofError::OutOfRange)?;
            self.computed.borrow_mut().insert((tile_level, index), root);
            return Ok(root);
        };
        let mut recent = self.recent.borrow_mut();
        recent.keep(tile_level, number, nodes);
        recent.node(tile_level, index).flatten().ok_or_else(missing)
    }

    fn read_tile(&self, level: u8, number: u64) -> Result<Vec<Hash>, Finding> {
        let name = TilePath::tile(level, number).to_string();
        let bytes = self.evidence.open(&name, tile::TILE_BYTES).map_err(|error| unread(&name, &error))?;
        let hashes = tile::decode_tile(&bytes).filter(|hashes| hashes.len() as u64 == WIDTH);
        hashes.ok_or_else(|| Finding::file(Kind::TileMismatch, name, "is not a full tile"))
    }

    /// Does something with the bundle, or the longest tail bundle, that holds this entry.
    fn with_bundle<T>(
        &self,
        index: u64,
        use_it: impl FnOnce(&str, &[u8]) -> Result<T, Finding>,
    ) -> Result<T, Finding> {
        let number = index / WIDTH;
        let mut last = self.bundle.borrow_mut();
        let (_, name, bytes) = match last.take() {
            Some(known) if known.0 == number => last.insert(known),
            _ => {
                let (name, bytes) = self.read_bundle(index)?;
                last.insert((number, name, bytes))
            }
        };
        use_it(name, bytes)
    }

    fn read_bundle(&self, index: u64) -> Result<(String, Vec<u8>), Finding> {
        let number = index / WIDTH;
        let path = match self.inventory.bundles.binary_search(&number) {
            Ok(_) => Some(TilePath::entries(number)),
            Err(_) => {
                let longest = self.inventory.tails_of(number).last().copied();
                longest.filter(|size| *size > index).and_then(TilePath::tail_entries)
            }
        };
        let missing = || Finding::entry(Kind::MissingFile, index, "no archived bundle holds this entry");
        let name = path.ok_or_else(missing)?.to_string();
        let bytes = self.evidence.open(&name, BUNDLE_BYTES_MAX).map_err(|error| unread(&name, &error))?;
        Ok((name, bytes))
    }

    /// Leaf hashes of that bundle.
    fn read_entries(&self, index: u64) -> Result<Vec<Hash>, Finding> {
        self.with_bundle(index, |name, bytes| {
            let leaves = tile::decode_bundle(bytes).map(|entry| entry.map(merkle::leaf_hash));
            leaves
                .collect::<Result<_, _>>()
                .map_err(|error| Finding::file(Kind::BundleMalformed, name, error.to_string()))
        })
    }
}
