//! The Merkle tree, rebuilt leaf by leaf, and the hash tiles above level 0 that it implies.
//!
//! Where an archived level-0 tile contradicts the entries under it, both are carried on until a signed
//! root says which is right, so that one flipped bit gives one finding and not a wrong root for ever.

use chancery_format::merkle::Frontier;
use chancery_format::tile::{FullTile, TileTail, tile_root};
use chancery_format::{Hash, TreeHead};

#[derive(Debug, Clone, Default)]
struct Branch {
    frontier: Frontier,
    /// Of the levels above the leaves.
    tiles: TileTail,
    /// Leaves since the last full bundle.
    leaves: Vec<Hash>,
}

impl Branch {
    fn push(&mut self, leaf: Hash) {
        self.frontier.push(leaf);
        self.leaves.push(leaf);
    }

    /// A bundle is full: its root goes up.
    fn complete(&mut self, root: Hash, full: &mut Vec<FullTile>) {
        self.leaves.clear();
        self.add_node(1, root, full);
    }

    /// The nodes of a level behind its last full tile.
    fn edge(&self, level: u8) -> &[Hash] {
        if level == 0 { &self.leaves } else { self.tiles.partial(level) }
    }

    /// Adds the root of a full tile to the level above; gives the tiles that became full.
    fn add_node(&mut self, level: u8, node: Hash, full: &mut Vec<FullTile>) {
        if let Some(tile) = self.tiles.push(level, node) {
            let root = tile_root(&tile.hashes);
            full.push(tile);
            if let Some(root) = root {
                self.add_node(level + 1, root, full);
            }
        }
    }
}

/// A tile, full or partial, that the entries imply, and the other one that contradicting tiles below imply.
#[derive(Debug)]
pub(crate) struct ImpliedTile {
    pub(crate) tile: FullTile,
    pub(crate) other: Option<Vec<Hash>>,
}

/// What a signed head says about the tree.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// The entries lead to it.
    Entries,
    /// The entries do not lead to it, the archived level-0 tiles do.
    TilesOnly,
    /// Neither does.
    Neither,
    /// Leaves are missing: cannot be said.
    Unknown,
}

/// The tree so far.
#[derive(Debug)]
pub(crate) struct Tree {
    entries: Option<Branch>,
    tiles: Option<Branch>,
}

impl Tree {
    pub(crate) fn new() -> Self {
        Self { entries: Some(Branch::default()), tiles: None }
    }

    /// Goes on from what [`Tree::parts`] gave.
    pub(crate) const fn resume(frontier: Frontier, tiles: TileTail) -> Self {
        Self { entries: Some(Branch { frontier, tiles, leaves: Vec::new() }), tiles: None }
    }

    /// All of it, unless leaves are missing or tiles contradict the entries and no signed root has settled it yet.
    pub(crate) const fn parts(&self) -> Option<(&Frontier, &TileTail)> {
        match (&self.entries, &self.tiles) {
            // Between two bundles there are no leaves.
            (Some(Branch { frontier, tiles, .. }), None) => Some((frontier, tiles)),
            _ => None,
        }
    }

    /// Leaves are missing: nothing more can be said.
    pub(crate) fn lose(&mut self) {
        (self.entries, self.tiles) = (None, None);
    }

    /// Adds a leaf; `in_tile` is what the level-0 tile has for it.
    pub(crate) fn push(&mut self, leaf: Hash, in_tile: Hash) {
        let Some(entries) = &mut self.entries else { return };
        if leaf != in_tile && self.tiles.is_none() {
            self.tiles = Some(entries.clone());
        }
        entries.push(leaf);
        if let Some(tiles) = &mut self.tiles {
            tiles.push(in_tile);
        }
    }

    /// Ends a full bundle: its root, and that of its level-0 tile, go up.
    pub(crate) fn complete_bundle(&mut self, root: Hash, tile_root: Hash) -> Vec<ImpliedTile> {
        let (mut implied, mut other) = (Vec::new(), Vec::new());
        if let Some(entries) = &mut self.entries {
            entries.complete(root, &mut implied);
        }
        if let Some(tiles) = &mut self.tiles {
            tiles.complete(tile_root, &mut other);
        }
        let mut other = other.into_iter().map(|tile| tile.hashes);
        implied.into_iter().map(|tile| ImpliedTile { tile, other: other.next() }).collect()
    }

    /// The partial tile that the tree has at the edge of a level, number `index`; `None` if it has none, or leaves are
    /// missing.
    pub(crate) fn partial(&self, level: u8, index: u64) -> Option<ImpliedTile> {
        let edge = |branch: &Branch| branch.edge(level).to_vec();
        let hashes = self.entries.as_ref().map(edge).filter(|hashes| !hashes.is_empty())?;
        let other = self.tiles.as_ref().map(edge);
        Some(ImpliedTile { tile: FullTile { level, index, hashes }, other })
    }

    /// Holds the tree against a signed head of the present size.
    pub(crate) fn check(&mut self, head: &TreeHead) -> Verdict {
        let Some(entries) = &self.entries else { return Verdict::Unknown };
        if entries.frontier.head() == *head {
            self.tiles = None;
            return Verdict::Entries;
        }
        match self.tiles.take() {
            Some(tiles) if tiles.frontier.head() == *head => {
                self.entries = Some(tiles);
                Verdict::TilesOnly
            }
            tiles => {
                self.tiles = tiles;
                Verdict::Neither
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a failed unwrap is the test's failure")]
    use super::*;

    fn head(leaves: &[Hash]) -> TreeHead {
        let mut frontier = Frontier::new();
        leaves.iter().for_each(|leaf| frontier.push(*leaf));
        frontier.head()
    }

    #[test]
    fn a_contradiction_is_settled_by_the_next_signed_root() {
        let (a, b, wrong) = (Hash([1; 32]), Hash([2; 32]), Hash([3; 32]));
        let mut bad_tile = Tree::new();
        bad_tile.push(a, wrong);
        assert_eq!(bad_tile.check(&head(&[a])), Verdict::Entries);
        bad_tile.push(b, b);
        assert_eq!(bad_tile.check(&head(&[a, b])), Verdict::Entries);

        let mut bad_entry = Tree::new();
        bad_entry.push(wrong, a);
        assert_eq!(bad_entry.check(&head(&[a])), Verdict::TilesOnly);
        bad_entry.push(b, b);
        assert_eq!(bad_entry.check(&head(&[a, b])), Verdict::Entries);
        assert_eq!(bad_entry.check(&head(&[b, a])), Verdict::Neither);
        bad_entry.lose();
        assert_eq!(bad_entry.check(&head(&[a, b])), Verdict::Unknown);
    }

    #[test]
    fn tiles_above_follow_from_256_bundles() {
        let mut tree = Tree::new();
        for number in 0..255 {
            assert!(tree.complete_bundle(Hash([number; 32]), Hash([number; 32])).is_empty());
        }
        let implied = tree.complete_bundle(Hash([255; 32]), Hash([255; 32]));
        let [only] = implied.as_slice() else { panic!("one tile became full") };
        assert_eq!((only.tile.level, only.tile.index, only.tile.hashes.len()), (1, 0, 256));
        assert_eq!(only.tile.hashes.last().unwrap(), &Hash([255; 32]));
        assert!(only.other.is_none());
    }
}
