//! Subtrees of a growing tree, and proofs that one is part of a larger tree (draft-ietf-plants-merkle-tree-certs
//! §4.1, §4.4).
//!
//! The leaves from `start` up to, not including, `end` are a *subtree* if `start` is a multiple of the smallest power
//! of two not below `end - start`. Its root is that of these leaves alone. Every node of a tree is one, and so is the
//! beginning of every tree: with `start` 0 a proof is the RFC 6962 consistency proof.

use super::proofs::{largest_power_of_two_below, range_root};
use super::{NodeSource, ProofError, TREE_SIZE_MAX, node_hash};
use crate::hash::{Hash, TreeHead, TreeSize};

/// Leaves that can be proven to be part of a tree as a whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Subtree {
    start: u64,
    end: u64,
}

impl Subtree {
    /// `None` for a range that is empty, too large or not aligned.
    pub const fn new(start: u64, end: u64) -> Option<Self> {
        if start >= end || end > TREE_SIZE_MAX {
            return None;
        }
        // At most 2^63, since the range is not larger than TREE_SIZE_MAX.
        let width = (end - start).next_power_of_two();
        if start.is_multiple_of(width) { Some(Self { start, end }) } else { None }
    }

    /// First leaf.
    pub const fn start(self) -> u64 {
        self.start
    }

    /// Where it ends: the first leaf that is not in it.
    pub const fn end(self) -> u64 {
        self.end
    }
}

/// Proof that a subtree is part of the tree of `size` leaves; empty if it is that tree.
pub fn subtree_proof<S: NodeSource>(
    source: &S,
    subtree: Subtree,
    size: TreeSize,
) -> Result<Vec<Hash>, S::Error> {
    if subtree.end > size.0 {
        return Err(ProofError::OutOfRange.into());
    }
    let (mut from, mut to) = (0, size.0);
    let (mut start, mut whole) = (subtree.start, true);
    let mut proof = Vec::new();
    while (start, subtree.end) != (from, to) {
        let split = from + largest_power_of_two_below(to - from);
        if subtree.end <= split {
            proof.push(range_root(source, split, to)?);
            to = split;
            continue;
        }
        proof.push(range_root(source, from, split)?);
        if start < split {
            // It begins here: the left part is all its own, and what is left of it is no longer known by its root.
            (start, whole) = (split, false);
        }
        from = split;
    }
    if !whole {
        proof.push(range_root(source, from, to)?);
    }
    proof.reverse();
    Ok(proof)
}

/// Checks that the leaves of `subtree`, whose root is `root`, are part of the tree with this head.
pub fn verify_subtree(
    subtree: Subtree,
    root: &Hash,
    head: &TreeHead,
    proof: &[Hash],
) -> Result<(), ProofError> {
    if subtree.end > head.size.0 {
        return Err(ProofError::OutOfRange);
    }
    // Its first and its last leaf, and the tree's last; then the nodes above them, level by level.
    let (mut first, mut last, mut of_tree) = (subtree.start, subtree.end - 1, head.size.0 - 1);
    let to_root = u64::BITS - (first ^ last).leading_zeros();
    let levels = if last == of_tree { to_root } else { to_root.min(last.trailing_ones()) };
    let up = |nodes: [&mut u64; 3], levels: u32| nodes.into_iter().for_each(|node| *node >>= levels);
    up([&mut first, &mut last, &mut of_tree], levels);
    let mut hashes = proof.iter();
    // The largest complete part that ends the subtree; if it is all of it, the proof leaves it out.
    let ending = if first == last { *root } else { *hashes.next().ok_or(ProofError::WrongLength)? };
    let (mut of_subtree, mut node) = (ending, ending);
    for sibling in hashes {
        if of_tree == 0 {
            return Err(ProofError::WrongLength);
        }
        if last & 1 == 1 || last == of_tree {
            if first < last {
                of_subtree = node_hash(sibling, &of_subtree);
            }
            node = node_hash(sibling, &node);
            // A promoted node: skip the levels at which it stands alone. It is not 0, since `of_tree` is not.
            let alone = last.trailing_zeros();
            up([&mut first, &mut last, &mut of_tree], alone);
        } else {
            node = node_hash(&node, sibling);
        }
        up([&mut first, &mut last, &mut of_tree], 1);
    }
    if of_tree != 0 {
        return Err(ProofError::WrongLength);
    }
    if of_subtree == *root && node == head.root { Ok(()) } else { Err(ProofError::RootMismatch) }
}

#[cfg(test)]
mod tests {
    #![expect(
        clippy::unwrap_used,
        clippy::indexing_slicing,
        reason = "a failed unwrap is the test's failure"
    )]
    use super::*;
    use crate::merkle::{Frontier, consistency_proof, leaf_hash};

    /// Trees of up to this many leaves are tried in full.
    const SIZE_MAX: usize = 33;

    fn leaves(count: usize) -> Vec<Hash> {
        (0..count).map(|n| leaf_hash(&n.to_be_bytes())).collect()
    }

    /// The definition of RFC 6962 §2.1.
    fn root_of(leaves: &[Hash]) -> Hash {
        match leaves {
            [leaf] => *leaf,
            _ => {
                let (left, right) = leaves.split_at(leaves.len().next_power_of_two() / 2);
                node_hash(&root_of(left), &root_of(right))
            }
        }
    }

    /// SUBTREE_SUBPROOF of the draft, word by word.
    fn subproof(start: usize, end: usize, leaves: &[Hash], known: bool) -> Vec<Hash> {
        if (start, end) == (0, leaves.len()) {
            return if known { Vec::new() } else { vec![root_of(leaves)] };
        }
        let (left, right) = leaves.split_at(leaves.len().next_power_of_two() / 2);
        let split = left.len();
        let (mut proof, other) = if end <= split {
            (subproof(start, end, left, known), root_of(right))
        } else if split <= start {
            (subproof(start - split, end - split, right, known), root_of(left))
        } else {
            assert_eq!(start, 0);
            (subproof(0, end - split, right, false), root_of(left))
        };
        proof.push(other);
        proof
    }

    struct Leaves(Vec<Hash>);

    impl NodeSource for Leaves {
        type Error = ProofError;
        fn node(&self, level: u8, index: u64) -> Result<Hash, ProofError> {
            let at = |index: u64| usize::try_from(index << level).unwrap();
            Ok(root_of(self.0.get(at(index)..at(index + 1)).unwrap()))
        }
    }

    /// By the definition: some power of two is at least as wide and divides the start.
    fn is_subtree(start: usize, end: usize) -> bool {
        start < end
            && (0..7).map(|bit| 1 << bit).any(|width| {
                end - start <= width && start.is_multiple_of(width) && (width == 1 || width / 2 < end - start)
            })
    }

    #[test]
    fn every_subtree_of_every_small_tree_is_proven_and_nothing_else_is() {
        for size in 1..=SIZE_MAX {
            let leaves = leaves(size);
            let head = Frontier::new().extend(&leaves).head();
            for start in 0..size {
                for end in start..=size {
                    let range = Subtree::new(start as u64, end as u64);
                    assert_eq!(range.is_some(), is_subtree(start, end), "{start}..{end}");
                    let Some(range) = range else { continue };
                    let root = root_of(&leaves[start..end]);
                    let proof = subproof(start, end, &leaves, true);
                    let made = subtree_proof(&Leaves(leaves.clone()), range, head.size).unwrap();
                    assert_eq!(made, proof, "{start}..{end} of {size}");
                    verify_subtree(range, &root, &head, &proof).unwrap();
                    refuses_all_else(range, &root, &head, &proof);
                }
            }
        }
    }

    fn refuses_all_else(range: Subtree, root: &Hash, head: &TreeHead, proof: &[Hash]) {
        let wrong = Hash([9; 32]);
        let mismatch = Err(ProofError::RootMismatch);
        assert_eq!(verify_subtree(range, &wrong, head, proof), mismatch, "{range:?}");
        let other = TreeHead { root: wrong, ..*head };
        assert_eq!(verify_subtree(range, root, &other, proof), mismatch, "{range:?}");
        for at in 0..proof.len() {
            let mut bad = proof.to_vec();
            bad[at] = wrong;
            assert_eq!(verify_subtree(range, root, head, &bad), mismatch, "{range:?} {at}");
            bad.remove(at);
            verify_subtree(range, root, head, &bad).unwrap_err();
        }
        for at in 0..=proof.len() {
            let mut bad = proof.to_vec();
            bad.insert(at, wrong);
            verify_subtree(range, root, head, &bad).unwrap_err();
        }
        // The same hashes for another range or another size prove nothing.
        for (start, end) in
            [(range.start, range.end - 1), (range.start, range.end + 1), (range.end, range.end + 1)]
        {
            let Some(moved) = Subtree::new(start, end) else { continue };
            assert!(verify_subtree(moved, root, head, proof).is_err(), "{moved:?} by {range:?} of {head:?}");
        }
        for size in [head.size.0 - 1, head.size.0 + 1] {
            let resized = TreeHead { size: TreeSize(size), ..*head };
            if size < range.end {
                assert_eq!(verify_subtree(range, root, &resized, proof), Err(ProofError::OutOfRange));
            }
        }
    }

    #[test]
    fn from_the_first_leaf_on_it_is_the_consistency_proof() {
        let leaves = Leaves(leaves(SIZE_MAX));
        for end in 1..=SIZE_MAX as u64 {
            let size = TreeSize(SIZE_MAX as u64);
            let range = Subtree::new(0, end).unwrap();
            let consistency = consistency_proof(&leaves, TreeSize(end), size).unwrap();
            assert_eq!(subtree_proof(&leaves, range, size).unwrap(), consistency);
        }
    }

    #[test]
    fn ranges_at_the_edges_are_decided() {
        for (start, end, is) in [
            (0, 0, false),
            (5, 4, false),
            (0, TREE_SIZE_MAX, true),
            (1, TREE_SIZE_MAX, false),
            (0, TREE_SIZE_MAX + 1, false),
            (1 << 62, TREE_SIZE_MAX, true),
            (TREE_SIZE_MAX - 1, TREE_SIZE_MAX, true),
            (u64::MAX, u64::MAX, false),
        ] {
            assert_eq!(Subtree::new(start, end).is_some(), is, "{start} {end}");
        }
        let leaves = Leaves(leaves(4));
        let range = Subtree::new(4, 6).unwrap();
        assert_eq!(subtree_proof(&leaves, range, TreeSize(5)), Err(ProofError::OutOfRange));
    }
}
