//! The way from a leaf to the root, step by step, for showing a verified inclusion proof to people and to machines.
//!
//! Nothing is checked here: a path of a proof that was not verified leads anywhere.

use std::fmt::Write as _;

use serde_json::{Value, json};

use super::node_hash;
use crate::hash::{Hash, LeafIndex, TreeSize};

/// One step up: the node so far is joined with its sibling.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Step {
    /// Whether the sibling stands left of the node.
    pub is_left: bool,
    /// The sibling's hash, which is one of the proof's.
    pub sibling: Hash,
    /// Entries under the sibling: from, and until (which is not among them).
    pub beside: (u64, u64),
    /// Entries under both together.
    pub under: (u64, u64),
    /// The hash of both together.
    pub result: Hash,
}

/// A place where the tree parts: whether the sibling is left, what is under it, and what under both.
type Split = (bool, (u64, u64), (u64, u64));

/// Every step from the leaf at `index` to the root of a tree of `size`: as many as the shorter of the path and the proof
/// has, which are the same in a proof that was verified.
pub fn path(index: LeafIndex, size: TreeSize, leaf: Hash, proof: &[Hash]) -> Vec<Step> {
    let (mut from, mut to) = (0, size.0);
    let mut splits: Vec<Split> = Vec::with_capacity(proof.len());
    while to - from > 1 {
        let half = (to - from).next_power_of_two() / 2;
        let split = from + half;
        let under = (from, to);
        if index.0 < split {
            splits.push((false, (split, to), under));
            to = split;
        } else {
            splits.push((true, (from, split), under));
            from = split;
        }
    }
    let mut node = leaf;
    let step = |(split, sibling): (Split, &Hash)| {
        let (is_left, beside, under) = split;
        let (left, right) = if is_left { (sibling, &node) } else { (&node, sibling) };
        node = node_hash(left, right);
        Step { is_left, sibling: *sibling, beside, under, result: node }
    };
    splits.into_iter().rev().zip(proof).map(step).collect()
}

impl Step {
    /// `side`, `sibling`, `siblingEntries` {`from`, `until`}, `result`, `resultEntries`.
    pub fn to_json(&self) -> Value {
        json!({
            "side": if self.is_left { "left" } else { "right" },
            "sibling": self.sibling.to_hex(),
            "siblingEntries": { "from": self.beside.0, "until": self.beside.1 },
            "result": self.result.to_hex(),
            "resultEntries": { "from": self.under.0, "until": self.under.1 },
        })
    }
}

/// The path as text, a line for each hash: what is added on which side, and what comes out. Ends with a newline.
pub fn draw(index: LeafIndex, leaf: Hash, steps: &[Step]) -> String {
    let entries = |(from, until): (u64, u64)| match until.saturating_sub(from) {
        1 => format!("{from}"),
        _ => format!("{from}…{}", until.saturating_sub(1)),
    };
    let spans = steps.iter().flat_map(|step| [step.beside, step.under]);
    let width = spans.map(|span| entries(span).chars().count()).max().unwrap_or(0).max(8);
    let mut out = format!("  leaf    {:<width$}  {leaf}\n", index.0);
    for step in steps {
        let side = if step.is_left { "left " } else { "right" };
        // Writing to a String cannot fail.
        let _ = writeln!(out, "  + {side} {:<width$}  {}", entries(step.beside), step.sibling);
        let _ = writeln!(out, "  =       {:<width$}  {}", entries(step.under), step.result);
    }
    out.push_str("  root\n");
    out
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a failed unwrap is the test's failure")]
    use super::*;
    use crate::merkle::{Frontier, leaf_hash};

    #[test]
    fn every_path_ends_at_the_root_and_covers_the_whole_tree() {
        for size in 1..40u64 {
            let leaves: Vec<Hash> = (0..size).map(|n| leaf_hash(&n.to_be_bytes())).collect();
            let batch = Frontier::new().extend(&leaves);
            for (index, leaf) in (0..).zip(&leaves) {
                let proof = batch.proof(LeafIndex(index)).unwrap();
                let steps = path(LeafIndex(index), TreeSize(size), *leaf, &proof);
                assert_eq!(steps.len(), proof.len());
                assert_eq!(
                    steps.last().map_or(*leaf, |step| step.result),
                    batch.head().root,
                    "{index} of {size}"
                );
                assert_eq!(steps.last().map_or((0, 1), |step| step.under), (0, size));
                let drawn = draw(LeafIndex(index), *leaf, &steps);
                assert_eq!(drawn.lines().count(), 2 + 2 * steps.len());
                assert!(drawn.contains(&batch.head().root.to_hex()), "{drawn}");
            }
        }
    }
}
