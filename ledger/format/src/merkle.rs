//! The RFC 6962 Merkle tree: frontier, batch proofs, inclusion and consistency.
//!
//! `leaf = SHA-256(0x00 ‖ entry)`, `node = SHA-256(0x01 ‖ left ‖ right)`, the empty tree is
//! `SHA-256("")`. Nodes are named by (level, index): the node at level `l` and index `i` covers leaves
//! `i·2^l` to `(i+1)·2^l`, and is *complete* once all of those exist. Complete nodes never change; that
//! is what tiles store and proofs are made of. A last node without a right neighbour moves up a level
//! unchanged, which is what RFC 6962's split at the largest power of two amounts to.
//!
//! Nothing here panics on hostile input; every loop is bounded by 64 levels or the caller's slice.

use crate::hash::{Hash, LeafIndex, TreeHead, TreeSize};

mod path;
mod proofs;
mod subtree;
#[cfg(test)]
pub(crate) mod tests;

pub use path::{Step, draw, path};
pub use proofs::{
    NodeSource, consistency_proof, consistency_root, inclusion_proof, inclusion_root, verify_consistency,
    verify_inclusion,
};
pub use subtree::{Subtree, subtree_proof, verify_subtree};

/// Largest tree: sizes fit a signed 64-bit integer, as other implementations of the format read them.
pub const TREE_SIZE_MAX: u64 = i64::MAX as u64;

/// RFC 6962 leaf hash.
pub fn leaf_hash(entry: &[u8]) -> Hash {
    Hash::of(&[&[0], entry])
}

/// RFC 6962 interior node.
pub fn node_hash(left: &Hash, right: &Hash) -> Hash {
    let mut block = [1u8; 65];
    let (_, children) = block.split_at_mut(1);
    let (first, second) = children.split_at_mut(32);
    first.copy_from_slice(&left.0);
    second.copy_from_slice(&right.0);
    Hash::of(&[&block])
}

/// Root of the tree without leaves.
pub fn empty_root() -> Hash {
    Hash::of(&[])
}

/// Why a proof was refused. Whoever supplied it is at fault; retrying the same proof cannot help.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ProofError {
    /// The index is not in the tree, or the old tree is larger than the new.
    #[error("position outside the tree")]
    OutOfRange,
    /// Too few or too many hashes for this position and size.
    #[error("proof has the wrong number of hashes")]
    WrongLength,
    /// The hashes do not lead to the root.
    #[error("proof does not lead to the root")]
    RootMismatch,
}

/// Stored frontier nodes do not fit the stored size: the store that held them is corrupt.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a tree of {size} leaves does not have {nodes} frontier nodes")]
pub struct FrontierError {
    /// Claimed number of leaves.
    pub size: u64,
    /// Number of nodes given.
    pub nodes: usize,
}

/// The roots of the complete subtrees a tree falls into: all that is needed to grow it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frontier {
    size: u64,
    /// One node per set bit of `size`, largest subtree first.
    nodes: Vec<Hash>,
}

impl Default for Frontier {
    fn default() -> Self {
        Self::new()
    }
}

impl Frontier {
    /// The empty tree.
    pub const fn new() -> Self {
        Self { size: 0, nodes: Vec::new() }
    }

    /// From its size and [`Frontier::nodes`]. The count is checked here, the hashes cannot be: compare
    /// [`Frontier::root`] with a root that is trusted.
    pub fn from_parts(size: TreeSize, nodes: Vec<Hash>) -> Result<Self, FrontierError> {
        if size.0 > TREE_SIZE_MAX || nodes.len() != size.0.count_ones() as usize {
            return Err(FrontierError { size: size.0, nodes: nodes.len() });
        }
        Ok(Self { size: size.0, nodes })
    }

    /// Number of leaves.
    pub const fn size(&self) -> TreeSize {
        TreeSize(self.size)
    }

    /// One complete node per set bit of the size, largest subtree first.
    pub fn nodes(&self) -> &[Hash] {
        &self.nodes
    }

    /// Adds one leaf.
    pub fn push(&mut self, leaf: Hash) {
        let mut node = leaf;
        for _ in 0..self.size.trailing_ones() {
            let Some(left) = self.nodes.pop() else { break };
            node = node_hash(&left, &node);
        }
        self.nodes.push(node);
        self.size += 1;
    }

    /// The root: subtrees joined from the smallest up.
    pub fn root(&self) -> Hash {
        let joined = self.nodes.iter().rev().copied().reduce(|right, left| node_hash(&left, &right));
        joined.unwrap_or_else(empty_root)
    }

    /// Size and root.
    pub fn head(&self) -> TreeHead {
        TreeHead { size: self.size(), root: self.root() }
    }

    /// Adds a batch of leaves, keeping what is needed to prove each of them in the new tree. Costs about
    /// one node hash per leaf and one allocation.
    pub fn extend(&self, leaves: &[Hash]) -> BatchTree {
        BatchTree::build(self.clone(), leaves)
    }

    /// The last complete node of a level, if it has no right neighbour (bit `level` of the size is set).
    fn node(&self, level: u32) -> Option<Hash> {
        let above = self.size.checked_shr(level).filter(|above| above & 1 == 1)?;
        let at = above.count_ones() as usize;
        self.nodes.get(at - 1).copied()
    }
}

/// A tree after a batch was added: its head, the batch's proofs, and its new complete nodes.
///
/// It holds every node the batch made, level by level. Where pairing needs a left neighbour older than
/// the batch, that neighbour is a node of the old frontier.
#[derive(Debug, Clone)]
pub struct BatchTree {
    old: Frontier,
    new_size: u64,
    /// Nodes made, from level 0 up; per level from node `old.size >> level` on. Only a level's last
    /// node may be incomplete.
    nodes: Vec<Hash>,
    /// Where in `nodes` each level starts.
    starts: Vec<usize>,
    root: Hash,
}

impl BatchTree {
    fn build(old: Frontier, leaves: &[Hash]) -> Self {
        let new_size = old.size + leaves.len() as u64;
        if leaves.is_empty() {
            let root = old.root();
            return Self { old, new_size, nodes: Vec::new(), starts: Vec::new(), root };
        }
        let levels = levels_of(new_size);
        let total = (0..levels).map(|level| made_at(level, old.size, new_size)).sum();
        let mut nodes = vec![Hash([0; 32]); total];
        let mut starts = Vec::with_capacity(levels as usize);
        let mut room = nodes.as_mut_slice();
        let mut below: &[Hash] = &[];
        for level in 0..levels {
            starts.push(total - room.len());
            let (made, rest) = room.split_at_mut(made_at(level, old.size, new_size));
            match level.checked_sub(1) {
                None => made.copy_from_slice(leaves),
                Some(level_below) => pair_up(old.node(level_below), below, made),
            }
            (below, room) = (made, rest);
        }
        let root = below.first().copied().unwrap_or_else(empty_root);
        Self { old, new_size, nodes, starts, root }
    }

    /// Size and root of the tree before the batch.
    pub fn old_head(&self) -> TreeHead {
        self.old.head()
    }

    /// Size and root of the new tree.
    pub const fn head(&self) -> TreeHead {
        TreeHead { size: TreeSize(self.new_size), root: self.root }
    }

    /// Inclusion proof, in the new tree, of a leaf of this batch; `None` for any other index.
    pub fn proof(&self, index: LeafIndex) -> Option<Vec<Hash>> {
        if index.0 < self.old.size || index.0 >= self.new_size {
            return None;
        }
        let mut proof = Vec::with_capacity(self.starts.len());
        proof.extend(
            (0..levels_of(self.new_size)).filter_map(|level| self.node(level, (index.0 >> level) ^ 1)),
        );
        Some(proof)
    }

    /// The complete nodes this batch made at `level`: index of the first, and the nodes.
    pub fn complete_nodes(&self, level: u8) -> (u64, &[Hash]) {
        let shifted = |size: u64| size.checked_shr(u32::from(level)).unwrap_or(0);
        let (from, to) = (shifted(self.old.size), shifted(self.new_size));
        let start = self.starts.get(usize::from(level)).copied().unwrap_or(self.nodes.len());
        let count = usize::try_from(to - from).unwrap_or(usize::MAX);
        let nodes = self.nodes.get(start..).and_then(|nodes| nodes.get(..count));
        (from, nodes.unwrap_or_default())
    }

    /// The new tree's frontier.
    pub fn into_frontier(self) -> Frontier {
        let levels = (0..u64::BITS).rev().filter(|level| self.new_size >> level & 1 == 1);
        let nodes = levels.filter_map(|level| self.node(level, (self.new_size >> level) - 1));
        Frontier { size: self.new_size, nodes: nodes.collect() }
    }

    /// A node the batch made, or the old frontier's left neighbour of the first of them.
    fn node(&self, level: u32, index: u64) -> Option<Hash> {
        let first = self.old.size >> level;
        if index < first {
            return if index + 1 == first { self.old.node(level) } else { None };
        }
        let at = usize::try_from(index - first).ok()?;
        if at >= made_at(level, self.old.size, self.new_size) {
            return None;
        }
        self.nodes.get(self.starts.get(level as usize)? + at).copied()
    }
}

/// Number of levels of a tree of `size` ≥ 1 leaves, root and leaves included.
const fn levels_of(size: u64) -> u32 {
    u64::BITS - (size - 1).leading_zeros() + 1
}

/// How many nodes of `level` growing from `old` to `new` > `old` leaves makes, the incomplete one included.
const fn made_at(level: u32, old: u64, new: u64) -> usize {
    (((new - 1) >> level) + 1 - (old >> level)) as usize
}

/// Fills `parents` with the nodes above `left` (if any) and `nodes`, left to right.
fn pair_up(left: Option<Hash>, nodes: &[Hash], parents: &mut [Hash]) {
    let mut slots = parents.iter_mut();
    let mut put = |node| {
        if let Some(slot) = slots.next() {
            *slot = node;
        }
    };
    let paired = match (left, nodes.split_first()) {
        (Some(left), Some((first, rest))) => {
            put(node_hash(&left, first));
            rest
        }
        _ => nodes,
    };
    let (pairs, alone) = paired.as_chunks::<2>();
    for [left, right] in pairs {
        put(node_hash(left, right));
    }
    if let [promoted] = alone {
        put(*promoted);
    }
}
