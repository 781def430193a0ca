//! C2SP tlog-tiles: paths, hash tiles, entry bundles.
//!
//! Tile `(L, N)` holds 256 nodes of tree level `8·L`, from node `256·N` on; an entry bundle holds the
//! 256 leaves under a level-0 tile, each as a 16-bit big-endian length and its bytes. A partial tile or
//! bundle of width `W` is the first `W` of them and is named `….p/W`. Width 0 does not exist.
//!
//! Refused: paths in a second spelling, tiles that are not whole hashes, bundles that end inside an entry
//! or hold more than 256.

use std::fmt;

use crate::event::LEAF_BYTES_MAX;
use crate::hash::Hash;
use crate::merkle::{BatchTree, node_hash};

#[cfg(test)]
mod tests;

/// Nodes in a full tile, entries in a full bundle.
pub const WIDTH: u64 = 256;
/// Bytes of a full tile.
pub const TILE_BYTES: usize = 256 * 32;
/// Highest tile level a 64-bit tree can have, plus one.
pub const LEVELS: u8 = 8;

/// Address of a tile or bundle.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TilePath {
    /// Tile level, or `None` for an entry bundle.
    pub level: Option<u8>,
    /// Which tile of the level.
    pub index: u64,
    /// Nodes or entries held: 1 to 255 for a partial one, `None` for all 256.
    pub width: Option<u8>,
}

impl TilePath {
    /// A full hash tile.
    pub const fn tile(level: u8, index: u64) -> Self {
        Self { level: Some(level), index, width: None }
    }

    /// A full entry bundle.
    pub const fn entries(index: u64) -> Self {
        Self { level: None, index, width: None }
    }

    /// The bundle holding the last leaf of a tree of `size`, if that bundle is partial.
    pub fn tail_entries(size: u64) -> Option<Self> {
        partial_width(0, size).map(|width| Self { level: None, index: size / WIDTH, width: Some(width) })
    }

    /// The partial tile at the edge of a level of a tree of `size`, if it has one.
    pub fn partial_tile(level: u8, size: u64) -> Option<Self> {
        let width = partial_width(level, size)?;
        Some(Self { level: Some(level), index: full_tiles(level, size), width: Some(width) })
    }

    /// All partial tiles of a tree of `size`, the lowest level first.
    pub fn partial_tiles(size: u64) -> impl Iterator<Item = Self> {
        (0..LEVELS).filter_map(move |level| Self::partial_tile(level, size))
    }

    /// Reads a path such as `tile/0/x001/234.p/17`; `None` unless spelled exactly as `Display` does.
    pub fn parse(path: &str) -> Option<Self> {
        let (level, rest) = path.strip_prefix("tile/")?.split_once('/')?;
        let level = if level == "entries" { None } else { Some(level.parse().ok()?) };
        let (digits, width) = match rest.split_once(".p/") {
            Some((digits, width)) => (digits, Some(width.parse().ok()?)),
            None => (rest, None),
        };
        let index = digits.split('/').try_fold(0u64, |index, group| {
            let group: u64 = group.strip_prefix('x').unwrap_or(group).parse().ok()?;
            index.checked_mul(1000)?.checked_add(group)
        })?;
        let parsed = Self { level, index, width };
        let sane = level.is_none_or(|level| level < 64) && width != Some(0);
        (sane && parsed.to_string() == path).then_some(parsed)
    }
}

impl fmt::Display for TilePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.level {
            Some(level) => write!(f, "tile/{level}/")?,
            None => f.write_str("tile/entries/")?,
        }
        let mut groups = vec![self.index % 1000];
        let mut rest = self.index / 1000;
        while rest > 0 {
            groups.push(rest % 1000);
            rest /= 1000;
        }
        for group in groups.iter().skip(1).rev() {
            write!(f, "x{group:03}/")?;
        }
        write!(f, "{:03}", self.index % 1000)?;
        match self.width {
            Some(width) => write!(f, ".p/{width}"),
            None => Ok(()),
        }
    }
}

/// Number of full tiles of a level in a tree of `size`.
pub const fn full_tiles(level: u8, size: u64) -> u64 {
    match (level as u32 + 1).checked_mul(8) {
        Some(shift) if shift < 64 => size >> shift,
        _ => 0,
    }
}

/// Width of the partial tile of a level in a tree of `size`; `None` if there is none.
pub fn partial_width(level: u8, size: u64) -> Option<u8> {
    let nodes = size.checked_shr(u32::from(level) * 8).unwrap_or(0);
    u8::try_from(nodes % WIDTH).ok().filter(|width| *width != 0)
}

/// Root of a full tile: the complete node 8 levels up. `None` unless there are 256 hashes.
pub fn tile_root(hashes: &[Hash]) -> Option<Hash> {
    (hashes.len() as u64 == WIDTH).then(|| perfect_root(hashes)).flatten()
}

/// Root of any perfect subtree; `None` unless the number of hashes is a power of two.
pub fn perfect_root(hashes: &[Hash]) -> Option<Hash> {
    if let [node] = hashes {
        return Some(*node);
    }
    if !hashes.len().is_power_of_two() {
        return None;
    }
    let (left, right) = hashes.split_at(hashes.len() / 2);
    Some(node_hash(&perfect_root(left)?, &perfect_root(right)?))
}

/// Where a complete tree node is found in the tiles: it is the root of a run of one tile's hashes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NodePlace {
    /// Tile level.
    pub level: u8,
    /// Which tile of the level.
    pub index: u64,
    first: usize,
    count: usize,
}

impl NodePlace {
    /// The place of the node at (level, index); `None` if no 64-bit tree has such a node.
    pub fn of(level: u8, index: u64) -> Option<Self> {
        let within = u32::from(level % 8);
        let first = index.checked_mul(1 << within)?;
        let sane = level < 64 && index.leading_zeros() >= u32::from(level);
        sane.then(|| Self {
            level: level / 8,
            index: first / WIDTH,
            first: (first % WIDTH) as usize,
            count: 1 << within,
        })
    }

    /// The node's level inside the tile, from its hashes up, and its number on it.
    pub const fn within(&self) -> (usize, usize) {
        (self.count.trailing_zeros() as usize, self.first / self.count)
    }

    /// The node, given the tile's hashes; `None` if a partial tile does not reach that far.
    pub fn root_in(&self, hashes: &[Hash]) -> Option<Hash> {
        perfect_root(hashes.get(self.first..self.first + self.count)?)
    }
}

/// The bytes of a tile.
pub fn encode_tile(hashes: &[Hash]) -> Vec<u8> {
    hashes.iter().flat_map(|hash| hash.0).collect()
}

/// The hashes of a tile; `None` unless the length is a positive multiple of 32 up to a full tile.
pub fn decode_tile(bytes: &[u8]) -> Option<Vec<Hash>> {
    let (hashes, rest) = bytes.as_chunks::<32>();
    let sane = rest.is_empty() && !hashes.is_empty() && bytes.len() <= TILE_BYTES;
    sane.then(|| hashes.iter().map(|hash| Hash(*hash)).collect())
}

/// Why a bundle could not be written or read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BundleError {
    /// An entry does not fit its 16-bit length. The writer is at fault; leaves of this format always fit.
    #[error("entry of {0} bytes does not fit a bundle")]
    EntryTooLong(usize),
    /// The bundle ends inside the entry that starts at this byte. The stored object is damaged.
    #[error("entry bundle is truncated at byte {0}")]
    Truncated(usize),
    /// More than 256 entries.
    #[error("entry bundle holds more than 256 entries")]
    TooManyEntries,
}

/// Appends one entry to a bundle.
pub fn push_entry(bundle: &mut Vec<u8>, entry: &[u8]) -> Result<(), BundleError> {
    let length = u16::try_from(entry.len()).map_err(|_| BundleError::EntryTooLong(entry.len()))?;
    bundle.extend_from_slice(&length.to_be_bytes());
    bundle.extend_from_slice(entry);
    Ok(())
}

/// The bytes of a bundle.
pub fn encode_bundle<'a>(entries: impl IntoIterator<Item = &'a [u8]>) -> Result<Vec<u8>, BundleError> {
    let mut bundle = Vec::new();
    for (count, entry) in (0..).zip(entries) {
        if count == WIDTH {
            return Err(BundleError::TooManyEntries);
        }
        push_entry(&mut bundle, entry)?;
    }
    Ok(bundle)
}

/// Reads a bundle entry by entry; after an error it ends.
#[derive(Debug, Clone)]
pub struct BundleEntries<'a> {
    bundle: &'a [u8],
    at: usize,
    read: u64,
}

/// The entries of a bundle, in order, borrowed. How many there should be, the caller knows from the path.
pub const fn decode_bundle(bundle: &[u8]) -> BundleEntries<'_> {
    BundleEntries { bundle, at: 0, read: 0 }
}

impl<'a> BundleEntries<'a> {
    fn read(&self, rest: &'a [u8]) -> Result<&'a [u8], BundleError> {
        if self.read == WIDTH {
            return Err(BundleError::TooManyEntries);
        }
        let entry = rest
            .split_first_chunk::<2>()
            .and_then(|(length, body)| body.get(..usize::from(u16::from_be_bytes(*length))));
        entry.ok_or(BundleError::Truncated(self.at))
    }
}

impl<'a> Iterator for BundleEntries<'a> {
    type Item = Result<&'a [u8], BundleError>;

    fn next(&mut self) -> Option<Self::Item> {
        let rest = self.bundle.get(self.at..).filter(|rest| !rest.is_empty())?;
        let entry = self.read(rest);
        self.at = entry.map_or(self.bundle.len(), |entry| self.at + 2 + entry.len());
        self.read += 1;
        Some(entry)
    }
}

const _: () = assert!(LEAF_BYTES_MAX == u16::MAX as usize);

/// A full tile that a batch completed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FullTile {
    /// Tile level.
    pub level: u8,
    /// Which tile of the level.
    pub index: u64,
    /// Its 256 hashes.
    pub hashes: Vec<Hash>,
}

/// The hashes of each level's partial tile: at most 255 per level, whatever the tree's size.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TileTail {
    levels: Vec<Tail>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Tail {
    /// Full tiles of the level so far.
    full: u64,
    hashes: Vec<Hash>,
}

impl TileTail {
    /// The empty tree.
    pub const fn new() -> Self {
        Self { levels: Vec::new() }
    }

    /// Takes what a batch completed at every tile level; gives the tiles that became full, lowest level
    /// first. The batch must continue the tree this tail is of.
    pub fn extend(&mut self, batch: &BatchTree) -> Vec<FullTile> {
        debug_assert!(self.is_at(batch.complete_nodes(0).0), "batch does not continue this tail");
        let mut full = Vec::new();
        for level in 0..LEVELS {
            let (_, nodes) = batch.complete_nodes(level * 8);
            if nodes.is_empty() {
                break;
            }
            self.push_nodes(level, nodes, &mut full);
        }
        full
    }

    /// Adds one complete node of a tile level: how a tail is rebuilt from tiles and leaves. The caller
    /// feeds each level itself; a tile that becomes full is returned.
    pub fn push(&mut self, level: u8, node: Hash) -> Option<FullTile> {
        let mut full = Vec::new();
        self.push_nodes(level, &[node], &mut full);
        full.pop()
    }

    /// Starts a level after `full` tiles that are stored already.
    pub fn resume(&mut self, level: u8, full: u64) {
        let tail = self.level(level);
        *tail = Tail { full, hashes: Vec::new() };
    }

    /// Whether every level holds exactly what a tree of `size` has: to be asked after a rebuild.
    pub fn is_at(&self, size: u64) -> bool {
        (0..LEVELS).all(|level| {
            let tail = self.levels.get(usize::from(level));
            let (full, partial) = tail.map_or((0, 0), |tail| (tail.full, tail.hashes.len()));
            full == full_tiles(level, size) && partial == partial_width(level, size).map_or(0, usize::from)
        })
    }

    /// Hashes of the level's partial tile so far.
    pub fn partial(&self, level: u8) -> &[Hash] {
        self.levels.get(usize::from(level)).map_or(&[], |tail| &tail.hashes)
    }

    fn level(&mut self, level: u8) -> &mut Tail {
        let at = usize::from(level);
        if self.levels.len() <= at {
            self.levels.resize_with(at + 1, Tail::default);
        }
        #[expect(clippy::indexing_slicing, reason = "resized just above")]
        &mut self.levels[at]
    }

    fn push_nodes(&mut self, level: u8, nodes: &[Hash], full: &mut Vec<FullTile>) {
        let tail = self.level(level);
        for node in nodes {
            if tail.hashes.capacity() == 0 {
                tail.hashes.reserve_exact(WIDTH as usize);
            }
            tail.hashes.push(*node);
            if tail.hashes.len() as u64 == WIDTH {
                let hashes = std::mem::take(&mut tail.hashes);
                full.push(FullTile { level, index: tail.full, hashes });
                tail.full += 1;
            }
        }
    }
}
