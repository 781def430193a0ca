//! Proofs: made from complete nodes, checked against tree heads.

use super::{ProofError, empty_root, levels_of, node_hash};
use crate::hash::{Hash, LeafIndex, TreeHead, TreeSize};

/// Where complete nodes come from: tiles on disk, an archive, memory.
///
/// `Ok` must be the hash of exactly the named subtree; proofs built on a wrong one fail to verify, they
/// do not deceive. `Err` ends the proof and is passed on. Called from one thread at a time per proof, at
/// most 128 times.
pub trait NodeSource {
    /// What can go wrong fetching one.
    type Error: From<ProofError>;
    /// The complete node at (level, index). Asked only for nodes the tree has.
    fn node(&self, level: u8, index: u64) -> Result<Hash, Self::Error>;
}

/// Root of leaves `from..to`, where `from` is a multiple of the smallest power of two not below
/// `to - from` (so that every complete part is a node).
pub(super) fn range_root<S: NodeSource>(source: &S, from: u64, to: u64) -> Result<Hash, S::Error> {
    let size = to - from;
    if size.is_power_of_two() {
        let level = size.trailing_zeros();
        return source.node(u8::try_from(level).unwrap_or(u8::MAX), from >> level);
    }
    let split = from + largest_power_of_two_below(size);
    Ok(node_hash(&range_root(source, from, split)?, &range_root(source, split, to)?))
}

/// Largest power of two smaller than `size`, for `size` ≥ 2.
pub(super) const fn largest_power_of_two_below(size: u64) -> u64 {
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
    let mut proof = Vec::with_capacity(levels_of(size.0) as usize);
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

/// The walk both verifiers make: from a node up to the root, `position` and `last` being the node's and
/// the last node's index at the current level (RFC 9162 §2.1.3.2 and §2.1.4.2, `fn` and `sn`).
struct Climb {
    position: u64,
    last: u64,
}

/// On which side of the node its next sibling stands.
#[derive(PartialEq, Eq)]
enum Side {
    Left,
    Right,
}

impl Climb {
    /// Goes up to the level of the next sibling's parent.
    fn step(&mut self) -> Result<Side, ProofError> {
        if self.last == 0 {
            return Err(ProofError::WrongLength);
        }
        let side =
            if self.position & 1 == 1 || self.position == self.last { Side::Left } else { Side::Right };
        if side == Side::Left {
            // A promoted node: skip the levels at which it stands alone.
            let alone = if self.position == 0 { 0 } else { self.position.trailing_zeros() };
            self.up(alone);
        }
        self.up(1);
        Ok(side)
    }

    const fn up(&mut self, levels: u32) {
        self.position >>= levels;
        self.last >>= levels;
    }

    const fn end(&self) -> Result<(), ProofError> {
        if self.last == 0 { Ok(()) } else { Err(ProofError::WrongLength) }
    }
}

/// Checks that `leaf` is at `index` of the tree with this head (RFC 9162 §2.1.3.2).
pub fn verify_inclusion(
    leaf: &Hash,
    index: LeafIndex,
    proof: &[Hash],
    head: &TreeHead,
) -> Result<(), ProofError> {
    let root = inclusion_root(leaf, index, proof, head.size)?;
    if root == head.root { Ok(()) } else { Err(ProofError::RootMismatch) }
}

/// The root to which a proof leads from `leaf` at `index` of a tree of `size`: for envelopes that sign a root
/// and do not carry it. It proves nothing until that signature is checked.
pub fn inclusion_root(
    leaf: &Hash,
    index: LeafIndex,
    proof: &[Hash],
    size: TreeSize,
) -> Result<Hash, ProofError> {
    if !size.covers(index) {
        return Err(ProofError::OutOfRange);
    }
    let mut climb = Climb { position: index.0, last: size.0 - 1 };
    let mut node = *leaf;
    for sibling in proof {
        node = match climb.step()? {
            Side::Left => node_hash(sibling, &node),
            Side::Right => node_hash(&node, sibling),
        };
    }
    climb.end()?;
    Ok(node)
}

/// Checks that the tree of `new` begins with the tree of `old` (RFC 9162 §2.1.4.2).
///
/// Every tree begins with the empty one, by an empty proof.
pub fn verify_consistency(old: &TreeHead, new: &TreeHead, proof: &[Hash]) -> Result<(), ProofError> {
    if old.size > new.size {
        return Err(ProofError::OutOfRange);
    }
    if old.size.0 == 0 || old.size == new.size {
        return verify_trivial(old, new, proof);
    }
    let root = consistency_root(old, new.size, proof)?;
    if root == new.root { Ok(()) } else { Err(ProofError::RootMismatch) }
}

/// The root to which a proof leads from `old`, of at least one leaf, to a tree of `new_size`: see
/// [`inclusion_root`].
pub fn consistency_root(old: &TreeHead, new_size: TreeSize, proof: &[Hash]) -> Result<Hash, ProofError> {
    if old.size.0 == 0 || old.size > new_size {
        return Err(ProofError::OutOfRange);
    }
    if old.size == new_size {
        return if proof.is_empty() { Ok(old.root) } else { Err(ProofError::WrongLength) };
    }
    let mut climb = Climb { position: old.size.0 - 1, last: new_size.0 - 1 };
    climb.up(climb.position.trailing_ones());
    let mut hashes = proof.iter();
    // The largest complete subtree that ends the old tree; if it is all of it, the proof leaves it out.
    let first = if old.size.0.is_power_of_two() {
        old.root
    } else {
        *hashes.next().ok_or(ProofError::WrongLength)?
    };
    let (mut from_old, mut from_new) = (first, first);
    for sibling in hashes {
        match climb.step()? {
            Side::Left => {
                from_old = node_hash(sibling, &from_old);
                from_new = node_hash(sibling, &from_new);
            }
            Side::Right => from_new = node_hash(&from_new, sibling),
        }
    }
    climb.end()?;
    if from_old == old.root { Ok(from_new) } else { Err(ProofError::RootMismatch) }
}

fn verify_trivial(old: &TreeHead, new: &TreeHead, proof: &[Hash]) -> Result<(), ProofError> {
    if !proof.is_empty() {
        return Err(ProofError::WrongLength);
    }
    let empty_is_empty = |head: &TreeHead| head.size.0 != 0 || head.root == empty_root();
    let same = old.size != new.size || old.root == new.root;
    if same && empty_is_empty(old) && empty_is_empty(new) { Ok(()) } else { Err(ProofError::RootMismatch) }
}
