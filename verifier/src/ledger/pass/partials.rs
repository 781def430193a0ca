//! Partial hash tiles, of archives that are static logs: each is the edge of the tree at an archived checkpoint's size,
//! and holds the tree's own hashes. None must be there but those of the checkpoint that is shown (`ledger/latest.rs`).

use chancery_format::tile::{LEVELS, TilePath, WIDTH};

use super::{Job, Pass};
use crate::findings::{Finding, Kind};
use crate::inventory::{nodes_of, partial_name};

/// How far partial tiles were looked at, by level.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Partials {
    /// How many of those listed have a checkpoint, or were told to have none.
    pub(super) seen: [usize; LEVELS as usize],
    /// The one compared last, by the nodes where it ends. Above the leaves one is of many sizes.
    pub(super) compared: [u64; LEVELS as usize],
    /// A size that ends with a full bundle, whose root is about to go up.
    due: Option<u64>,
}

impl Partials {
    /// As it was between two bundles.
    pub(super) const fn resumed(seen: [usize; LEVELS as usize], compared: [u64; LEVELS as usize]) -> Self {
        Self { seen, compared, due: None }
    }
}

impl Pass<'_> {
    /// A checkpoint of this size explains one partial tile of each level; others before it are strays.
    pub(super) fn accept_partials(&mut self, size: u64) {
        for level in 0..LEVELS {
            let nodes = nodes_of(level, size);
            self.stray_partials_below(level, nodes);
            if let Some(seen) = self.partials.seen.get_mut(usize::from(level))
                && self.inventory.partials(level).get(*seen) == Some(&nodes)
            {
                *seen += 1;
            }
        }
    }

    /// Those that no checkpoint of at most this size explains.
    pub(super) fn stray_partials_up_to(&mut self, size: u64) {
        for level in 0..LEVELS {
            self.stray_partials_below(level, nodes_of(level, size).saturating_add(1));
        }
    }

    fn stray_partials_below(&mut self, level: u8, nodes: u64) {
        let Some(seen) = self.partials.seen.get_mut(usize::from(level)) else { return };
        while let Some(stray) = self.inventory.partials(level).get(*seen).filter(|stray| **stray < nodes) {
            *seen += 1;
            let kind = if self.heads_incomplete { Kind::UncoveredFile } else { Kind::UnexpectedFile };
            let message = "no checkpoint has a size that ends with it";
            self.findings.push(Finding::file(kind, partial_name(level, *stray), message));
        }
    }

    /// The tree has this size, and it is a signed one: its partial tiles that are there hold the tree's hashes.
    pub(super) fn compare_partials(&mut self, size: u64) {
        if size.is_multiple_of(WIDTH) {
            self.partials.due = Some(size);
        } else {
            self.compare_edge(size);
        }
    }

    /// Those of a size that ended with the bundle just completed.
    pub(super) fn compare_partials_due(&mut self) {
        if let Some(size) = self.partials.due.take().filter(|size| *size == self.at) {
            self.compare_edge(size);
        }
    }

    fn compare_edge(&mut self, size: u64) {
        for path in TilePath::partial_tiles(size) {
            let Some(level) = path.level else { continue };
            let nodes = nodes_of(level, size);
            let Some(compared) = self.partials.compared.get_mut(usize::from(level)) else { continue };
            if *compared == nodes || !self.inventory.has_partial(level, size) {
                continue;
            }
            if let Some(implied) = self.tree.partial(level, path.index) {
                *compared = nodes;
                self.urgent.push_back(Job::Tile(implied));
            }
        }
    }
}
