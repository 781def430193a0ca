//! The RFC 6962 Merkle tree: frontier, batch proofs, inclusion and consistency.
//!
//! `leaf = SHA-256(0x00 ‖ entry)`, `node = SHA-256(0x01 ‖ left ‖ right)`, the empty tree is
//! `SHA-256("")`. Nodes are named by (level, index): the node at level `l` and index `i` covers leaves
//! `i·2^l` to `(i+1)·2^l`, and is *complete* once all of those exist. Complete nodes never change; that
//! is what tiles store and proofs are made of.
//!
//! Nothing here panics on hostile input; every loop is bounded by 64 levels or the caller's slice.

use crate::hash::{Hash, LeafIndex, TreeHead, TreeSize};

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

/// Why a proof was refused.
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

/// The complete nodes on the right edge of a tree: all that is needed to grow it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frontier {
    size: u64,
    /// `nodes[l]` counts if bit `l` of `size` is set: the last complete node of level `l`.
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

    /// Number of leaves.
    pub const fn size(&self) -> TreeSize {
        TreeSize(self.size)
    }

    /// Adds one leaf.
    pub fn push(&mut self, leaf: Hash) {
        let mut node = leaf;
        let mut level = 0;
        while self.size >> level & 1 == 1 {
            node = node_hash(&self.node(level), &node);
            level += 1;
        }
        self.set(level, node);
        self.size += 1;
    }

    /// The root: complete nodes joined from the smallest up.
    pub fn root(&self) -> Hash {
        let mut levels = (0..self.nodes.len()).filter(|level| self.size >> level & 1 == 1);
        let Some(first) = levels.next() else { return empty_root() };
        levels.fold(self.node(first), |right, level| node_hash(&self.node(level), &right))
    }

    /// Size and root.
    pub fn head(&self) -> TreeHead {
        TreeHead { size: self.size(), root: self.root() }
    }

    /// Adds a batch of leaves, keeping what is needed to prove each of them in the new tree.
    pub fn extend(&self, leaves: &[Hash]) -> BatchTree {
        BatchTree::build(self, leaves)
    }

    fn node(&self, level: usize) -> Hash {
        self.nodes.get(level).copied().unwrap_or(Hash([0; 32]))
    }

    fn set(&mut self, level: usize, node: Hash) {
        if self.nodes.len() <= level {
            self.nodes.resize(level + 1, Hash([0; 32]));
        }
        if let Some(slot) = self.nodes.get_mut(level) {
            *slot = node;
        }
    }
}

/// One level of a batch: the nodes from `first` on.
#[derive(Debug)]
struct Level {
    first: u64,
    nodes: Vec<Hash>,
}

impl Level {
    fn get(&self, index: u64) -> Option<Hash> {
        let at = usize::try_from(index.checked_sub(self.first)?).ok()?;
        self.nodes.get(at).copied()
    }
}

/// A tree after a batch was added: its head, the batch's proofs, and its new complete nodes.
///
/// Each level holds the nodes the batch made. Where pairing needs a left neighbour older than the
/// batch, it is a complete node of the old frontier. A last node without a right neighbour moves up
/// unchanged, which is what RFC 6962's split at the largest power of two amounts to.
#[derive(Debug)]
pub struct BatchTree {
    old_size: u64,
    new_size: u64,
    levels: Vec<Level>,
    frontier: Frontier,
    root: Hash,
}

impl BatchTree {
    fn build(old: &Frontier, leaves: &[Hash]) -> Self {
        let new_size = old.size + leaves.len() as u64;
        let mut levels = Vec::with_capacity(64);
        let mut first = old.size;
        let mut nodes = leaves.to_vec();
        for level in 0..64 {
            if first & 1 == 1 && !nodes.is_empty() {
                nodes.insert(0, old.node(level));
                first -= 1;
            }
            let done = first == 0 && nodes.len() <= 1;
            let above = if done { Vec::new() } else { pair_up(&nodes) };
            levels.push(Level { first, nodes });
            if done || above.is_empty() {
                break;
            }
            first >>= 1;
            nodes = above;
        }
        let frontier = Self::grow(old, new_size, &levels);
        let root = frontier.root();
        Self { old_size: old.size, new_size, levels, frontier, root }
    }

    fn grow(old: &Frontier, new_size: u64, levels: &[Level]) -> Frontier {
        let mut frontier = Frontier { size: new_size, nodes: old.nodes.clone() };
        for (level, made) in levels.iter().enumerate() {
            if new_size >> level & 1 == 1
                && let Some(node) = made.get((new_size >> level) - 1)
            {
                frontier.set(level, node);
            }
        }
        frontier
    }

    /// Size and root of the new tree.
    pub const fn head(&self) -> TreeHead {
        TreeHead { size: TreeSize(self.new_size), root: self.root }
    }

    /// Inclusion proof, in the new tree, of a leaf of this batch; `None` for any other index.
    pub fn proof(&self, index: LeafIndex) -> Option<Vec<Hash>> {
        if index.0 < self.old_size || index.0 >= self.new_size {
            return None;
        }
        let neighbours = self.levels.iter().enumerate().map(|(level, made)| made.get((index.0 >> level) ^ 1));
        Some(neighbours.flatten().collect())
    }

    /// The complete nodes this batch made at `level`: index of the first, and the nodes.
    pub fn complete_nodes(&self, level: u8) -> (u64, &[Hash]) {
        let level = usize::from(level);
        if level >= 64 {
            return (0, &[]);
        }
        let (from, to) = (self.old_size >> level, self.new_size >> level);
        let nodes = self.levels.get(level).and_then(|made| {
            let start = usize::try_from(from.checked_sub(made.first)?).ok()?;
            let end = usize::try_from(to.checked_sub(made.first)?).ok()?;
            made.nodes.get(start..end)
        });
        (from, nodes.unwrap_or_default())
    }

    /// The new tree's frontier.
    pub fn into_frontier(self) -> Frontier {
        self.frontier
    }
}

/// Joins neighbours; a last node without one moves up unchanged.
fn pair_up(nodes: &[Hash]) -> Vec<Hash> {
    let pairs = nodes.chunks(2).map(|pair| match pair {
        [left, right] => node_hash(left, right),
        [alone, ..] => *alone,
        [] => empty_root(),
    });
    pairs.collect()
}

/// Where complete nodes come from: tiles on disk, an archive, memory.
pub trait NodeSource {
    /// What can go wrong fetching one.
    type Error: From<ProofError>;
    /// The complete node at (level, index). Asked only for nodes the tree has.
    fn node(&self, level: u8, index: u64) -> Result<Hash, Self::Error>;
}

/// Root of leaves `from..to`, where `from` is a multiple of the largest power of two below `to - from`.
fn range_root<S: NodeSource>(source: &S, from: u64, to: u64) -> Result<Hash, S::Error> {
    let size = to - from;
    if size.is_power_of_two() {
        let level = size.trailing_zeros();
        return source.node(u8::try_from(level).unwrap_or(u8::MAX), from >> level);
    }
    let split = from + largest_power_of_two_below(size);
    Ok(node_hash(&range_root(source, from, split)?, &range_root(source, split, to)?))
}

/// Largest power of two smaller than `size`, for `size` ≥ 2.
const fn largest_power_of_two_below(size: u64) -> u64 {
    1 << (63 - (size - 1).leading_zeros())
}

/// Inclusion proof of the leaf at `index` in the tree of `size` leaves (RFC 6962 §2.1.1).
pub fn inclusion_proof<S: NodeSource>(
    source: &S,
    index: LeafIndex,
    size: TreeSize,
) -> Result<Vec<Hash>, S::Error> {
    if !size.covers(index) {
        return Err(ProofError::OutOfRange.into());
    }
    let (mut from, mut to) = (0, size.0);
    let mut proof = Vec::new();
    while to - from > 1 {
        let split = from + largest_power_of_two_below(to - from);
        if index.0 < split {
            proof.push(range_root(source, split, to)?);
            to = split;
        } else {
            proof.push(range_root(source, from, split)?);
            from = split;
        }
    }
    proof.reverse();
    Ok(proof)
}

/// Consistency proof from `old` to `new` leaves (RFC 6962 §2.1.2); empty if equal or if `old` is 0.
pub fn consistency_proof<S: NodeSource>(
    source: &S,
    old: TreeSize,
    new: TreeSize,
) -> Result<Vec<Hash>, S::Error> {
    if old > new {
        return Err(ProofError::OutOfRange.into());
    }
    let mut proof = Vec::new();
    if old.0 == 0 || old == new {
        return Ok(proof);
    }
    let (mut from, mut to) = (0, new.0);
    while to != old.0 {
        let split = from + largest_power_of_two_below(to - from);
        if old.0 <= split {
            proof.push(range_root(source, split, to)?);
            to = split;
        } else {
            proof.push(range_root(source, from, split)?);
            from = split;
        }
    }
    if from != 0 {
        proof.push(range_root(source, from, to)?);
    }
    proof.reverse();
    Ok(proof)
}

/// Checks that `leaf` is at `index` of the tree with this head (RFC 9162 §2.1.3.2).
pub fn verify_inclusion(
    leaf: &Hash,
    index: LeafIndex,
    proof: &[Hash],
    head: &TreeHead,
) -> Result<(), ProofError> {
    if !head.size.covers(index) {
        return Err(ProofError::OutOfRange);
    }
    let (mut position, mut last) = (index.0, head.size.0 - 1);
    let mut node = *leaf;
    for sibling in proof {
        if last == 0 {
            return Err(ProofError::WrongLength);
        }
        if position & 1 == 1 || position == last {
            node = node_hash(sibling, &node);
            while position & 1 == 0 && position != 0 {
                position >>= 1;
                last >>= 1;
            }
        } else {
            node = node_hash(&node, sibling);
        }
        position >>= 1;
        last >>= 1;
    }
    if last != 0 {
        return Err(ProofError::WrongLength);
    }
    if node == head.root { Ok(()) } else { Err(ProofError::RootMismatch) }
}

/// Checks that the tree of `new` begins with the tree of `old` (RFC 9162 §2.1.4.2).
pub fn verify_consistency(old: &TreeHead, new: &TreeHead, proof: &[Hash]) -> Result<(), ProofError> {
    if old.size > new.size {
        return Err(ProofError::OutOfRange);
    }
    if old.size.0 == 0 || old.size == new.size {
        let expected = if old.size.0 == 0 { empty_root() } else { new.root };
        return match (proof.is_empty(), old.root == expected) {
            (true, true) => Ok(()),
            (false, _) => Err(ProofError::WrongLength),
            _ => Err(ProofError::RootMismatch),
        };
    }
    let mut hashes = proof.iter();
    let mut missing = || hashes.next().ok_or(ProofError::WrongLength);
    let (mut position, mut last) = (old.size.0 - 1, new.size.0 - 1);
    while position & 1 == 1 {
        position >>= 1;
        last >>= 1;
    }
    let first = if old.size.0.is_power_of_two() { old.root } else { *missing()? };
    let (mut from_old, mut from_new) = (first, first);
    for sibling in hashes {
        if last == 0 {
            return Err(ProofError::WrongLength);
        }
        if position & 1 == 1 || position == last {
            from_old = node_hash(sibling, &from_old);
            from_new = node_hash(sibling, &from_new);
            while position & 1 == 0 && position != 0 {
                position >>= 1;
                last >>= 1;
            }
        } else {
            from_new = node_hash(&from_new, sibling);
        }
        position >>= 1;
        last >>= 1;
    }
    if last != 0 {
        return Err(ProofError::WrongLength);
    }
    if from_old == old.root && from_new == new.root { Ok(()) } else { Err(ProofError::RootMismatch) }
}
