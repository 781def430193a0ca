//! Which bundles to read, in order: those that are there, by entries or by tile.

use chancery_format::tile::WIDTH;

use super::bundle::BundleTask;
use crate::inventory::Inventory;

/// Makes one task per bundle number of which anything is there. Its length is bounded by the files that
/// exist, whatever size a checkpoint claims.
#[derive(Debug)]
pub(crate) struct Plan<'a> {
    inventory: &'a Inventory,
    size: u64,
    expected: u64,
    /// Positions in the lists of bundles and level-0 tiles.
    bundle: usize,
    tile: usize,
    done: bool,
}

impl<'a> Plan<'a> {
    pub(crate) const fn new(inventory: &'a Inventory, size: u64) -> Self {
        Self { inventory, size, expected: 0, bundle: 0, tile: 0, done: false }
    }

    /// The same from this bundle on; all before it were there.
    pub(crate) fn after(inventory: &'a Inventory, size: u64, number: u64) -> Self {
        let past = |list: &[u64]| list.partition_point(|known| *known < number);
        let (bundle, tile) = (past(&inventory.bundles), past(inventory.tiles(0)));
        Self { expected: number, bundle, tile, ..Self::new(inventory, size) }
    }

    fn full(&mut self) -> Option<BundleTask> {
        let below = |number: &&u64| **number < self.size / WIDTH;
        let bundle = self.inventory.bundles.get(self.bundle).filter(below).copied();
        let tile = self.inventory.tiles(0).get(self.tile).filter(below).copied();
        let number = bundle.into_iter().chain(tile).min()?;
        let (has_entries, has_tile) = (bundle == Some(number), tile == Some(number));
        self.bundle += usize::from(has_entries);
        self.tile += usize::from(has_tile);
        let after_gap = number != self.expected;
        self.expected = number + 1;
        let tails = self.inventory.tails_of(number).to_vec();
        Some(BundleTask { number, width: WIDTH, has_entries, has_tile, tails, after_gap })
    }

    /// The bundle that is not full, if the size has one.
    fn last(&mut self) -> Option<BundleTask> {
        if std::mem::replace(&mut self.done, true) || self.size.is_multiple_of(WIDTH) {
            return None;
        }
        let number = self.size / WIDTH;
        let (before, from) = self
            .inventory
            .tails_of(number)
            .split_at(self.inventory.tails_of(number).partition_point(|tail| *tail < self.size));
        Some(BundleTask {
            number,
            width: self.size % WIDTH,
            has_entries: from.first() == Some(&self.size),
            has_tile: false,
            tails: before.to_vec(),
            after_gap: number != self.expected,
        })
    }
}

impl Iterator for Plan<'_> {
    type Item = BundleTask;

    fn next(&mut self) -> Option<BundleTask> {
        self.full().or_else(|| self.last())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_there_is_read_in_order_and_gaps_are_marked() {
        let inventory = Inventory {
            bundles: vec![0, 2, 9],
            tails: vec![7, 1028, 1029, 1030],
            tiles: vec![vec![1, 2]],
            ..Inventory::default()
        };
        let told: Vec<_> = Plan::new(&inventory, 1029)
            .map(|task| {
                (task.number, task.width, task.has_entries, task.has_tile, task.after_gap, task.tails)
            })
            .collect();
        assert_eq!(
            told,
            [
                (0, 256, true, false, false, vec![7]),
                (1, 256, false, true, false, vec![]),
                (2, 256, true, true, false, vec![]),
                (4, 5, true, false, true, vec![1028]),
            ]
        );
        assert_eq!(Plan::new(&inventory, 1 << 60).count(), 4);
    }
}
