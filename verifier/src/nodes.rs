//! Complete nodes of an archive's tree, for proofs: nothing here is trusted, a wrong node makes a proof that fails.

use std::cell::RefCell;
use std::collections::HashMap;

use chancery_format::Hash;
use chancery_format::merkle::{self, NodeSource, ProofError};
use chancery_format::tile::{self, LEVELS, TilePath, WIDTH};

use crate::evidence::Evidence;
use crate::findings::{Finding, Kind};
use crate::inventory::Inventory;
use crate::ledger::{BUNDLE_BYTES_MAX, unread};

/// Complete nodes of the tree, from tiles where they are full and from entries where they are not.
pub(crate) struct ArchiveNodes<'a> {
    evidence: &'a dyn Evidence,
    inventory: &'a Inventory,
    /// Nodes of tile levels, so that no tile is read twice in one proof.
    known: RefCell<HashMap<(u8, u64), Hash>>,
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
        Self { evidence, inventory, known: RefCell::default() }
    }

    /// One entry's bytes, from the bundle that holds it.
    pub(crate) fn entry(&self, index: u64) -> Result<Vec<u8>, Finding> {
        let (name, bytes) = self.read_bundle(index)?;
        let within = usize::try_from(index % WIDTH).unwrap_or(usize::MAX);
        match tile::decode_bundle(&bytes).nth(within) {
            Some(Ok(entry)) => Ok(entry.to_vec()),
            Some(Err(error)) => Err(Finding::file(Kind::BundleMalformed, name, error.to_string())),
            None => {
                Err(Finding::entry(Kind::BundleMalformed, index, "its bundle ends before it").in_file(name))
            }
        }
    }

    /// The node at an exact tile level.
    fn tile_node(&self, tile_level: u8, index: u64) -> Result<Hash, NodeError> {
        if let Some(hash) = self.known.borrow().get(&(tile_level, index)) {
            return Ok(*hash);
        }
        let number = index / WIDTH;
        let nodes = if tile_level < LEVELS && self.inventory.tiles(tile_level).binary_search(&number).is_ok()
        {
            self.read_tile(tile_level, number)?
        } else if tile_level == 0 {
            self.read_entries(index)?
        } else {
            let first = index * WIDTH;
            let below = (first..first + WIDTH).map(|at| self.tile_node(tile_level - 1, at));
            let root =
                tile::tile_root(&below.collect::<Result<Vec<_>, _>>()?).ok_or(ProofError::OutOfRange)?;
            self.known.borrow_mut().insert((tile_level, index), root);
            return Ok(root);
        };
        let mut known = self.known.borrow_mut();
        known.extend((number * WIDTH..).zip(nodes).map(|(at, hash)| ((tile_level, at), hash)));
        known.get(&(tile_level, index)).copied().ok_or_else(|| {
            let message = format!("entry {index} is not in the archive");
            Finding::entry(Kind::MissingFile, index, message).into()
        })
    }

    fn read_tile(&self, level: u8, number: u64) -> Result<Vec<Hash>, Finding> {
        let name = TilePath::tile(level, number).to_string();
        let bytes = self.evidence.open(&name, tile::TILE_BYTES).map_err(|error| unread(&name, &error))?;
        let hashes = tile::decode_tile(&bytes).filter(|hashes| hashes.len() as u64 == WIDTH);
        hashes.ok_or_else(|| Finding::file(Kind::TileMismatch, name, "is not a full tile"))
    }

    /// The bundle, or the longest tail bundle, that holds this entry.
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
        let (name, bytes) = self.read_bundle(index)?;
        let leaves = tile::decode_bundle(&bytes).map(|entry| entry.map(merkle::leaf_hash));
        leaves
            .collect::<Result<_, _>>()
            .map_err(|error| Finding::file(Kind::BundleMalformed, name, error.to_string()))
    }
}
