//! Where each hash stands: an index that holds row numbers alone, and asks for the rest.

use std::hash::{BuildHasher as _, RandomState};

use chancery_format::Hash;

const EMPTY: u32 = u32::MAX;
/// Slots of the first table.
const FIRST_SLOTS: usize = 1 << 10;

/// Row numbers by hash, four bytes for each slot, at most three quarters of them taken. Hashes are what a file says,
/// so slots are chosen by a keyed hash of them, which nobody can crowd.
#[derive(Debug, Default)]
pub(super) struct Places {
    slots: Vec<u32>,
    taken: usize,
    state: RandomState,
}

impl Places {
    /// The row of that hash, if `is_it` says so of one.
    pub(super) fn find(&self, hash: &Hash, is_it: impl Fn(u32) -> bool) -> Option<u32> {
        self.probe(hash)
            .map_while(|slot| self.slots.get(slot).copied())
            .take_while(|at| *at != EMPTY)
            .find(|at| is_it(*at))
    }

    /// Takes in a row, unless one that `is_it` is there; that one is given back.
    pub(super) fn insert<'h>(
        &mut self,
        hash: &Hash,
        at: u32,
        is_it: impl Fn(u32) -> bool,
        hash_of: impl Fn(u32) -> Option<&'h Hash>,
    ) -> Option<u32> {
        if (self.taken + 1) * 4 > self.slots.len() * 3 {
            self.grow(hash_of);
        }
        let mut empty = None;
        for slot in self.probe(hash) {
            match self.slots.get(slot).copied() {
                Some(EMPTY) | None => {
                    empty = Some(slot);
                    break;
                }
                Some(other) if is_it(other) => return Some(other),
                Some(_) => {}
            }
        }
        self.put(empty, at);
        None
    }

    fn put(&mut self, slot: Option<usize>, at: u32) {
        if let Some(place) = slot.and_then(|slot| self.slots.get_mut(slot)) {
            *place = at;
            self.taken += 1;
        }
    }

    fn grow<'h>(&mut self, hash_of: impl Fn(u32) -> Option<&'h Hash>) {
        let slots = (self.slots.len() * 2).max(FIRST_SLOTS);
        let before = std::mem::replace(&mut self.slots, vec![EMPTY; slots]);
        self.taken = 0;
        for at in before.into_iter().filter(|at| *at != EMPTY) {
            let Some(hash) = hash_of(at) else { continue };
            let empty = self.probe(hash).find(|slot| self.slots.get(*slot) == Some(&EMPTY));
            self.put(empty, at);
        }
    }

    /// Slots in the order in which they are looked at. Their number is a power of two.
    fn probe(&self, hash: &Hash) -> impl Iterator<Item = usize> + use<> {
        let mask = self.slots.len().wrapping_sub(1);
        let slots = self.slots.len();
        let first = usize::try_from(self.state.hash_one(hash.0) >> 16).unwrap_or_default();
        (0..slots).map(move |step| first.wrapping_add(step) & mask)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_is_found_again_and_none_twice() {
        let hash = |number: u32| Hash::of(&[&number.to_be_bytes()]);
        let hashes: Vec<Hash> = (0..10_000).map(hash).collect();
        let is = |number: u32| move |at: u32| at == number;
        let mut places = Places::default();
        for number in 0..10_000 {
            let given = places.insert(&hash(number), number, is(number), |at| hashes.get(at as usize));
            assert_eq!(given, None);
        }
        for number in 0..10_000 {
            assert_eq!(places.find(&hash(number), is(number)), Some(number));
            let given = places.insert(&hash(number), 77_777, is(number), |at| hashes.get(at as usize));
            assert_eq!(given, Some(number));
        }
        assert_eq!(places.find(&hash(10_001), |at| hashes.get(at as usize) == Some(&hash(10_001))), None);
    }
}
