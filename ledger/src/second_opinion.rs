//! A second opinion on every tree head, before the ledger key signs it.
//!
//! The writer grows the tree from what it holds in memory, bottom up. Here the leaves are read back from storage, and
//! their root is computed top down, as RFC 6962 §2.1 defines it, by another implementation of SHA-256; the stored tiles
//! must be those of these leaves. One wrong bit in memory or in storage, on either side, makes the two disagree: then
//! the ledger stops before anything is signed. A public log of 65 million entries was once ended by such a bit.
//!
//! Promises: a [`ConfirmedHead`] is one that both ways lead to; the first one after a start also continues the last
//! checkpoint that was recorded. Holds at most 255 hashes a tile level, whatever the tree's size.

use std::sync::{Arc, Mutex, PoisonError};

use aws_lc_rs::digest::{Context, SHA256};
use chancery_format::note::Note;
use chancery_format::tile::{LEVELS, WIDTH};
use chancery_format::{Checkpoint, ConfirmedHead, DurableHead, Hash, TreeHead, TreeSize};

use crate::roll::{Roll, RollError};
use crate::sequencer::Fatal;
use crate::shared::Shared;
use crate::store::{Store, StoreError};

/// The second opinion on one ledger. Cheap to clone; clones share what is known.
#[derive(Debug, Clone)]
pub struct SecondOpinion {
    roll: Roll,
    seen: Arc<Mutex<Option<Seen>>>,
}

impl SecondOpinion {
    /// Has seen nothing yet; the first [`confirm`](Self::confirm) starts from the last recorded checkpoint.
    pub fn new(roll: Roll) -> Self {
        Self { roll, seen: Arc::default() }
    }

    /// Reads what is new under this head back from storage and computes its root anew. A head smaller than one seen
    /// before starts from the last checkpoint again. Retry [`RollError::Unreadable`]; disagreement stops the ledger
    /// for ever ([`Fatal::Disagreement`]), and nothing may be signed.
    pub async fn confirm(&self, head: DurableHead) -> Result<ConfirmedHead, RollError> {
        let (seen, last) = (Arc::clone(&self.seen), self.roll.latest_checkpoint());
        let last = last.filter(|last| last.size <= head.head().size);
        self.roll
            .on_blocking_thread(move |shared| {
                let mut seen = seen.lock().unwrap_or_else(PoisonError::into_inner);
                // Taken out, so that an error on the way leaves nothing half seen behind.
                let known = seen.take().filter(|seen| seen.size() <= head.head().size.0);
                let mut opinion = match (known, last) {
                    (Some(seen), _) => seen,
                    (None, Some(last)) => Seen::under(&shared.store, &last.note)?,
                    (None, None) => Seen::default(),
                };
                let confirmed = opinion.confirm(shared, head)?;
                *seen = Some(opinion);
                Ok(confirmed)
            })
            .await
    }
}

/// The complete tiles seen so far, as the nodes of those tiles that are not complete yet.
#[derive(Debug, Default)]
struct Seen {
    /// Full level-0 tiles.
    tiles: u64,
    /// From tile level 1 up: the roots of full tiles below, fewer than 256 of them.
    levels: [Vec<Hash>; LEVELS as usize - 1],
}

impl Seen {
    /// Leaves in full tiles.
    const fn size(&self) -> u64 {
        self.tiles * WIDTH
    }

    /// As of a recorded checkpoint, from the stored tiles; they must lead to its root.
    fn under(store: &Store, note: &str) -> Result<Self, Fatal> {
        let text = Note::parse(note).ok().and_then(|note| Checkpoint::parse(note.text));
        let signed = text.ok_or_else(|| corrupt("a recorded checkpoint is none"))?.head();
        let mut seen = Self { tiles: signed.size.0 / WIDTH, ..Self::default() };
        for (below, nodes) in (0..).zip(&mut seen.levels) {
            let full = chancery_format::tile::full_tiles(below, signed.size.0);
            for number in full - full % WIDTH..full {
                nodes.push(tree_hash(&store.tile(below, number)?));
            }
        }
        let root = seen.root(store, signed.size)?;
        if root == signed.root { Ok(seen) } else { Err(Fatal::Disagreement { size: signed.size }) }
    }

    fn confirm(&mut self, shared: &Shared, head: DurableHead) -> Result<ConfirmedHead, Fatal> {
        let size = head.head().size;
        while self.size() + WIDTH <= size.0 {
            let leaves = leaf_hashes(&shared.store, self.size(), WIDTH as usize)?;
            self.push_tile(&shared.store, 0, self.tiles, &leaves)?;
            self.tiles += 1;
        }
        let root = self.root(&shared.store, size)?;
        head.confirmed_by(TreeHead { size, root }).ok_or(Fatal::Disagreement { size })
    }

    /// Takes a tile that became full: it must be the stored one.
    fn push_tile(&mut self, store: &Store, level: u8, number: u64, hashes: &[Hash]) -> Result<(), Fatal> {
        if store.tile(level, number)? != hashes {
            return Err(corrupt(&format!("tile {level}/{number} is not that of its leaves")));
        }
        let Some(above) = self.levels.get_mut(usize::from(level)) else { return Ok(()) };
        above.push(tree_hash(hashes));
        if above.len() as u64 == WIDTH {
            let full = std::mem::take(above);
            self.push_tile(store, level + 1, number / WIDTH, &full)?;
        }
        Ok(())
    }

    /// Root of the first `size` leaves, of which fewer than 256 are not in full tiles.
    ///
    /// What is to the right of a level's full nodes is one incomplete node more: splitting at the largest power of
    /// two is the same on every level.
    fn root(&self, store: &Store, size: TreeSize) -> Result<Hash, Fatal> {
        let rest = usize::try_from(size.0 - self.size()).map_err(|_| corrupt("more than a tile is left"))?;
        let leaves = leaf_hashes(store, self.size(), rest)?;
        let mut right = (!leaves.is_empty()).then(|| tree_hash(&leaves));
        for nodes in &self.levels {
            let items: Vec<Hash> = nodes.iter().copied().chain(right).collect();
            right = (!items.is_empty()).then(|| tree_hash(&items));
        }
        Ok(right.unwrap_or_else(|| sha256(&[])))
    }
}

fn leaf_hashes(store: &Store, first: u64, count: usize) -> Result<Vec<Hash>, Fatal> {
    let mut hashes = Vec::with_capacity(count);
    store.each_leaf(first, count, |_, leaf| {
        hashes.push(sha256(&[&[0], leaf]));
        Ok::<_, Fatal>(())
    })?;
    Ok(hashes)
}

/// MTH of RFC 6962 §2.1 over nodes.
pub(crate) fn tree_hash(nodes: &[Hash]) -> Hash {
    match nodes {
        [] => sha256(&[]),
        [node] => *node,
        _ => {
            let (left, right) = nodes.split_at(nodes.len().next_power_of_two() / 2);
            sha256(&[&[1], &tree_hash(left).0, &tree_hash(right).0])
        }
    }
}

/// By another implementation than the tree's.
pub(crate) fn sha256(parts: &[&[u8]]) -> Hash {
    let mut context = Context::new(&SHA256);
    parts.iter().for_each(|part| context.update(part));
    let mut hash = [0; 32];
    hash.iter_mut().zip(context.finish().as_ref()).for_each(|(to, from)| *to = *from);
    Hash(hash)
}

fn corrupt(what: &str) -> Fatal {
    StoreError::Corrupt(what.to_owned()).into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use chancery_format::merkle::Frontier;

    #[test]
    fn both_ways_lead_to_one_root() {
        let mut tree = Frontier::new();
        let mut leaves = Vec::new();
        for number in 0..600u32 {
            assert_eq!(tree_hash(&leaves), tree.root(), "{number} leaves");
            let leaf = Hash::of(&[&number.to_be_bytes()]);
            tree.push(leaf);
            leaves.push(leaf);
        }
        assert_eq!(sha256(&[b"a", b"bc"]), Hash::of(&[b"abc"]));
    }
}
