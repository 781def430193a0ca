//! Enrolled maps of heads, held against the entries: each must sum up exactly what is below its size.
//!
//! A map may lag the leaf that enrols it, so entries wait here until none that comes can speak of an earlier size:
//! at most [`HEADS_LAG_MAX`] of them. After evidence that cannot be read nothing more can be said of any map.

use std::collections::{HashSet, VecDeque};

use chancery_format::heads::{EnrolledHeads, HEADS_LAG_MAX, HeadName, HeadsMap};
use chancery_format::{Hash, LeafIndex};

use super::event::Link;
use crate::findings::{Finding, Kind};

/// An entry, the chains it is in, and its hash.
pub(crate) type Waiting = (LeafIndex, Box<[HeadName]>, Hash);

/// The map, and the entries that are not in it yet.
#[derive(Debug, Default)]
pub(crate) struct Heads {
    map: HeadsMap,
    waiting: VecDeque<Waiting>,
    /// Every name, so that entries that wait share them.
    names: HashSet<HeadName>,
    /// Size of the last map that was enrolled.
    last: Option<u64>,
    incomplete: bool,
    /// Maps that were right.
    pub(crate) checked: u64,
}

impl Heads {
    /// Some entries could not be read.
    pub(crate) fn gap(&mut self) {
        *self = Self { checked: self.checked, last: self.last, incomplete: true, ..Self::default() };
    }

    /// Where it stands: the heads of the map, the entries that wait, and the size of the last map.
    pub(crate) fn parts(&self) -> (&HeadsMap, &VecDeque<Waiting>, Option<u64>) {
        (&self.map, &self.waiting, self.last)
    }

    /// Goes on from there.
    pub(crate) fn resume(map: HeadsMap, waiting: VecDeque<Waiting>, last: Option<u64>, checked: u64) -> Self {
        Self { map, waiting, last, checked, ..Self::default() }
    }

    /// The next entry. Names are those of its stream and of the keys it tells of.
    pub(crate) fn follow(&mut self, index: u64, link: &Link) {
        if self.incomplete {
            return;
        }
        let stream = link.stream.parse().ok().map(|stream| HeadName::of_stream(&stream));
        let names = link.keys.iter().cloned().chain(stream).map(|name| self.shared(name)).collect();
        self.waiting.push_back((LeafIndex(index), names, link.hash));
        self.settle(index.saturating_sub(HEADS_LAG_MAX));
    }

    fn shared(&mut self, name: HeadName) -> HeadName {
        if let Some(known) = self.names.get(&name) {
            return known.clone();
        }
        self.names.insert(name.clone());
        name
    }

    fn settle(&mut self, size: u64) {
        while let Some((index, names, hash)) = self.waiting.pop_front_if(|(index, ..)| index.0 < size) {
            self.map.add(names, index, &hash);
        }
    }

    /// A map that is enrolled at this index, after [`follow`](Self::follow).
    pub(crate) fn enrolled(&mut self, index: u64, said: &EnrolledHeads) -> Result<(), Finding> {
        let size = said.size.0;
        let bad = |message: String| Err(Finding::entry(Kind::HeadsMismatch, index, message));
        if size > index || index - size > HEADS_LAG_MAX || self.last.is_some_and(|last| size <= last) {
            return bad(format!("enrols the heads of size {size}, which is not in its place"));
        }
        self.last = Some(size);
        if self.incomplete {
            let message = "entries before it are missing: its heads cannot be checked";
            return Err(Finding::entry(Kind::HeadsMismatch, index, message).missing_if(true));
        }
        self.settle(size);
        let (names, root) = self.map.root();
        if (names, root) == (said.names, said.root) {
            self.checked += 1;
            return Ok(());
        }
        bad(format!("the first {size} entries have {names} heads with root {root}, not these"))
    }
}
