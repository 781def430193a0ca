//! One of the two histories: its signed head, and hashes below it that are bound to that head.
//!
//! Tiles are read because they are short, and believed for nothing: a hash is used only once it was seen to lead to the
//! signed root. Where tiles do not, that is a finding, and the entries are read in their place.

use chancery_format::merkle::{self, Frontier, NodeSource as _, ProofError};
use chancery_format::{Hash, LeafIndex, TreeHead, TreeSize};

use crate::evidence::Evidence;
use crate::findings::{Finding, Kind};
use crate::newest::Newest;
use crate::nodes::{ArchiveNodes, NodeError};

/// A complete subtree: its level, its number at that level, and its root.
pub(super) type Subtree = (u8, u64, Hash);

/// What a tree was when it was smaller, proven under its signed head.
pub(super) struct Beginning {
    /// The complete subtrees it fell into, from the left.
    pub(super) subtrees: Vec<Subtree>,
    pub(super) root: Hash,
    /// The RFC 6962 consistency proof from then to the signed head.
    pub(super) proof: Vec<Hash>,
}

/// An entry, proven under the signed head.
pub(super) struct Entry {
    pub(super) leaf: Vec<u8>,
    pub(super) proof: Vec<Hash>,
}

/// One archive, and what was found wrong with it on the way.
pub(super) struct History<'a> {
    /// As the caller calls it.
    pub(super) name: &'a str,
    evidence: &'a dyn Evidence,
    pub(super) newest: &'a Newest,
    nodes: ArchiveNodes<'a>,
    pub(super) findings: Vec<Finding>,
}

impl<'a> History<'a> {
    pub(super) fn new(name: &'a str, evidence: &'a dyn Evidence, newest: &'a Newest) -> Self {
        let nodes = ArchiveNodes::new(evidence, &newest.inventory);
        Self { name, evidence, newest, nodes, findings: Vec::new() }
    }

    pub(super) const fn head(&self) -> TreeHead {
        self.newest.head()
    }

    /// What the tree was at `size`, which is neither 0 nor beyond its head.
    pub(super) fn beginning(&mut self, size: u64) -> Result<Beginning, Finding> {
        let head = self.head();
        self.bound(None, |nodes| {
            let mut subtrees = Vec::new();
            let mut from = 0u64;
            for level in (0..63u8).rev().filter(|level| size >> level & 1 == 1) {
                let number = from >> level;
                subtrees.push((level, number, nodes.node(level, number)?));
                from += 1 << level;
            }
            let roots = subtrees.iter().map(|(_, _, root)| *root).collect();
            let tree = Frontier::from_parts(TreeSize(size), roots).map_err(|_| ProofError::OutOfRange)?;
            let then = tree.head();
            let proof = merkle::consistency_proof(nodes, then.size, head.size)?;
            let holds = merkle::verify_consistency(&then, &head, &proof).is_ok();
            Ok(holds.then_some(Beginning { subtrees, root: then.root, proof }))
        })
    }

    /// The two halves of a complete subtree above level 0 whose root is known.
    pub(super) fn halves(&mut self, (level, number, root): Subtree) -> Result<[Hash; 2], Finding> {
        self.bound(Some(number << level), |nodes| {
            let below = level.checked_sub(1).ok_or(ProofError::OutOfRange)?;
            let halves = [nodes.node(below, number * 2)?, nodes.node(below, number * 2 + 1)?];
            let [left, right] = &halves;
            Ok((merkle::node_hash(left, right) == root).then_some(halves))
        })
    }

    /// The entry itself, read and hashed; `leaf` is what the tree has for it.
    pub(super) fn entry(&mut self, index: u64, leaf: Hash) -> Result<Entry, Finding> {
        let entry = self.nodes.entry(index).map_err(|finding| self.named(finding))?;
        if merkle::leaf_hash(&entry) != leaf {
            let message = "the archived entry is not the one under the signed root";
            return Err(self.named(Finding::entry(Kind::RootMismatch, index, message)));
        }
        let head = self.head();
        let proof = self.bound(Some(index), |nodes| {
            let proof = merkle::inclusion_proof(nodes, LeafIndex(index), head.size)?;
            let holds = merkle::verify_inclusion(&leaf, LeafIndex(index), &proof, &head).is_ok();
            Ok(holds.then_some(proof))
        })?;
        Ok(Entry { leaf: entry, proof })
    }

    /// Reads what must lead to the signed root: from tiles, and if those do not, from entries. `None` is what does not.
    fn bound<T>(
        &mut self,
        index: Option<u64>,
        read: impl Fn(&ArchiveNodes<'_>) -> Result<Option<T>, NodeError>,
    ) -> Result<T, Finding> {
        let astray = |kind, message: &str| Finding { index, ..Finding::new(kind, message) };
        if self.nodes.uses_tiles() {
            let finding = match read(&self.nodes) {
                Ok(Some(told)) => return Ok(told),
                Ok(None) => {
                    let message = "its hash tiles do not lead to the root that was signed: its entries were read instead";
                    astray(Kind::TileMismatch, message)
                }
                Err(error) => error.into_finding(Kind::TileMismatch),
            };
            if finding.kind != Kind::TileMismatch {
                return Err(self.named(finding));
            }
            let finding = self.named(finding);
            self.findings.push(finding);
            self.nodes = ArchiveNodes::of_entries(self.evidence, &self.newest.inventory);
        }
        let told = read(&self.nodes).map_err(|error| error.into_finding(Kind::RootMismatch));
        let lost = || astray(Kind::RootMismatch, "its entries do not lead to the root that was signed");
        told.and_then(|told| told.ok_or_else(lost)).map_err(|finding| self.named(finding))
    }

    /// A finding about this archive, and not about the other.
    pub(super) fn named(&self, finding: Finding) -> Finding {
        in_archive(self.name, finding)
    }
}

/// The same finding with the archive's name before that of the file.
pub(super) fn in_archive(archive: &str, finding: Finding) -> Finding {
    let file = match &finding.file {
        Some(file) => format!("{}/{file}", archive.trim_end_matches('/')),
        None => archive.to_owned(),
    };
    finding.in_file(file)
}
