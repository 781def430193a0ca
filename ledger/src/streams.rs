//! Where each stream stands: a bounded cache over the store, and the links one batch adds.
//!
//! The one writer owns it, so a stream cannot fork: the head a leaf is linked to is the head the leaf
//! before it left behind. Heads touched by a batch stay in memory until that batch is on disk; only
//! between batches may the cache forget.

use std::collections::HashMap;

use chancery_format::{Hash, LeafIndex, StreamName};

use crate::layout::StreamHead;
use crate::store::{Store, StoreError, Writes};

/// What a batch added to one stream.
struct Touched {
    head: StreamHead,
    first_seq: u64,
    indices: Vec<LeafIndex>,
}

/// The place the next event of a stream takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct NextLink {
    pub(crate) seq: u64,
    pub(crate) prev_hash: Option<Hash>,
    number: u64,
}

/// Stream heads: those of the batch at hand, and two generations of recently used ones.
pub(crate) struct Streams {
    count: u64,
    touched: HashMap<StreamName, Touched>,
    young: HashMap<StreamName, StreamHead>,
    old: HashMap<StreamName, StreamHead>,
    cached_max: usize,
}

impl Streams {
    /// `count` streams exist on disk.
    pub(crate) fn new(count: u64, cached_max: usize) -> Self {
        let (touched, young, old) = Default::default();
        Self { count, touched, young, old, cached_max }
    }

    /// Streams so far.
    pub(crate) const fn count(&self) -> u64 {
        self.count
    }

    /// Where the next event of `stream` goes. Changes nothing a reader could see.
    pub(crate) fn next(&mut self, stream: &StreamName, store: &Store) -> Result<NextLink, StoreError> {
        let head = match self.touched.get(stream) {
            Some(touched) => Some(touched.head),
            None => self.untouched(stream, store)?,
        };
        Ok(match head {
            Some(head) => NextLink { seq: head.next_seq, prev_hash: Some(head.hash), number: head.number },
            None => NextLink { seq: 0, prev_hash: None, number: self.count },
        })
    }

    fn untouched(&self, stream: &StreamName, store: &Store) -> Result<Option<StreamHead>, StoreError> {
        match self.young.get(stream).or_else(|| self.old.get(stream)) {
            Some(head) => Ok(Some(*head)),
            None => store.stream(stream),
        }
    }

    /// An event took the place that [`Streams::next`] gave.
    pub(crate) fn link(&mut self, stream: &StreamName, link: NextLink, hash: Hash, index: LeafIndex) {
        let head = StreamHead { number: link.number, next_seq: link.seq + 1, hash, last_index: index };
        if link.seq == 0 {
            self.count += 1;
        }
        match self.touched.get_mut(stream) {
            Some(touched) => {
                touched.head = head;
                touched.indices.push(index);
            }
            None => {
                let touched = Touched { head, first_seq: link.seq, indices: vec![index] };
                self.touched.insert(stream.clone(), touched);
            }
        }
    }

    /// Adds what the batch touched to its writes.
    pub(crate) fn write(&self, writes: &mut Writes<'_>) -> Result<(), StoreError> {
        self.touched.iter().try_for_each(|(stream, touched)| {
            writes.stream(stream, &touched.head, touched.first_seq, &touched.indices)
        })
    }

    /// The batch is on disk: its heads may be cached, and old ones forgotten.
    pub(crate) fn settle(&mut self) {
        for (stream, touched) in self.touched.drain() {
            self.young.insert(stream, touched.head);
        }
        if self.young.len() > self.cached_max {
            self.old = std::mem::take(&mut self.young);
        }
    }
}
