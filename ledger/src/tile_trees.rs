//! Nodes inside recently used tiles, so that the many receipts of one checkpoint cost little.
//!
//! A proof needs nodes between a tile's lowest level and its top; computed from the tile's hashes they cost
//! up to 255 hashes a time. Every node here is complete, and a complete node never changes, so that what is
//! remembered under a smaller head is right under every later one.

use std::sync::{Mutex, PoisonError};

use chancery_format::Hash;
use chancery_format::merkle::node_hash;
use chancery_format::tile::NodePlace;

/// Levels inside a tile; the one above is the lowest of another tile.
const LEVELS: usize = 8;

/// The complete nodes of one tile, as far as it is known.
#[derive(Debug, Default)]
struct TileTree {
    levels: [Vec<Hash>; LEVELS],
}

impl TileTree {
    /// Learns the tile's hashes, of which it knows the first ones already.
    fn grow(&mut self, hashes: &[Hash]) {
        let [lowest, ..] = &mut self.levels;
        lowest.extend(hashes.get(lowest.len()..).unwrap_or_default());
        for level in 1..LEVELS {
            let (below, above) = self.levels.split_at_mut(level);
            let (Some(below), Some(above)) = (below.last(), above.first_mut()) else { return };
            let (pairs, _) = below.as_chunks::<2>();
            let new = pairs.get(above.len()..).unwrap_or_default();
            above.extend(new.iter().map(|[left, right]| node_hash(left, right)));
        }
    }

    fn node(&self, place: &NodePlace) -> Option<Hash> {
        let (level, index) = place.within();
        self.levels.get(level)?.get(index).copied()
    }
}

/// The trees of at most so many tiles, the least recently used forgotten first.
#[derive(Debug)]
pub(crate) struct TileTrees {
    /// By level and number of the tile; the last was used last.
    recent: Mutex<Vec<((u8, u64), TileTree)>>,
    tiles_max: usize,
}

impl TileTrees {
    pub(crate) fn new(tiles_max: usize) -> Self {
        Self { recent: Mutex::default(), tiles_max: tiles_max.max(1) }
    }

    /// The node, if its tile is known that far.
    pub(crate) fn node(&self, place: &NodePlace) -> Option<Hash> {
        self.with(place, |tree| tree.node(place)).flatten()
    }

    /// The node, after learning the tile's hashes; `None` if they do not reach that far.
    pub(crate) fn learn(&self, place: &NodePlace, hashes: &[Hash]) -> Option<Hash> {
        let known = self.with(place, |tree| {
            tree.grow(hashes);
            tree.node(place)
        });
        known.unwrap_or_else(|| {
            let mut tree = TileTree::default();
            tree.grow(hashes);
            let node = tree.node(place);
            let mut recent = self.recent.lock().unwrap_or_else(PoisonError::into_inner);
            // Somebody may have learnt it meanwhile; one of the two is enough.
            recent.retain(|(key, _)| *key != (place.level, place.index));
            if recent.len() >= self.tiles_max {
                recent.remove(0);
            }
            recent.push(((place.level, place.index), tree));
            node
        })
    }

    /// Works on a known tile, which thereby was used last.
    fn with<T>(&self, place: &NodePlace, work: impl FnOnce(&mut TileTree) -> T) -> Option<T> {
        let mut recent = self.recent.lock().unwrap_or_else(PoisonError::into_inner);
        let at = recent.iter().rposition(|(key, _)| *key == (place.level, place.index))?;
        recent.get_mut(at..)?.rotate_left(1);
        recent.last_mut().map(|(_, tree)| work(tree))
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a failed unwrap is the test's failure")]

    use super::*;

    fn hashes(count: u8) -> Vec<Hash> {
        (0..count).map(|number| Hash::of(&[&[number]])).collect()
    }

    /// Every node of the tile that `hashes` reach, by the other way of computing it.
    fn every_node(number: u64, hashes: &[Hash]) -> Vec<(NodePlace, Option<Hash>)> {
        let places = (0..8u8).flat_map(|level| {
            let nodes = 256 >> level;
            (0..nodes).filter_map(move |index| NodePlace::of(level, number * nodes + index))
        });
        places.map(|place| (place, place.root_in(hashes))).collect()
    }

    #[test]
    fn nodes_are_those_computed_from_the_hashes_however_they_were_learnt() {
        let trees = TileTrees::new(4);
        let all = hashes(255);
        let any = NodePlace::of(0, 256).unwrap();
        for width in [1, 2, 3, 100, 255] {
            trees.learn(&any, all.get(..width).unwrap());
            for (place, node) in every_node(1, all.get(..width).unwrap()) {
                assert_eq!(trees.node(&place), node, "{place:?} of {width}");
            }
        }
        // Under an older head nothing is forgotten.
        trees.learn(&any, all.get(..7).unwrap());
        assert_eq!(trees.node(&NodePlace::of(7, 2).unwrap()), NodePlace::of(7, 2).unwrap().root_in(&all));
    }

    #[test]
    fn the_least_recently_used_tile_is_forgotten() {
        let trees = TileTrees::new(2);
        let place = |number: u64| NodePlace::of(0, 256 * number).unwrap();
        for number in [0, 1] {
            assert!(trees.learn(&place(number), &hashes(1)).is_some());
        }
        assert!(trees.node(&place(0)).is_some());
        assert!(trees.learn(&place(2), &hashes(1)).is_some());
        let known: Vec<bool> = (0..3).map(|number| trees.node(&place(number)).is_some()).collect();
        assert_eq!(known, [true, false, true]);
        assert_eq!(trees.learn(&NodePlace::of(0, 255).unwrap(), &hashes(1)), None, "beyond the tile");
    }
}
