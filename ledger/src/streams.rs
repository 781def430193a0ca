//! Where each stream stands: a bounded cache over the store, and the links one batch adds.
//!
//! The one writer owns it, so a stream cannot fork: the head a leaf is linked to is the head the leaf
//! before it left behind. Heads touched by a batch stay in memory until that batch is on disk; only
//! between batches may the cache forget.
//!
//! A stream that is set to a dialect has a second chain, in that dialect's form. Once begun it goes on for ever,
//! whatever later configurations say.

use std::collections::HashMap;
use std::sync::Arc;

use chancery_format::chain::After;
use chancery_format::event::Leaf;
use chancery_format::{Hash, LeafIndex, StreamName, Timestamp};

use crate::layout::{ChainHead, StreamHead};
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
    /// Where it goes in its dialect's chain.
    pub(crate) chain: Option<After>,
    /// The time of the row before.
    last_ts: Option<Timestamp>,
    number: u64,
}

impl NextLink {
    /// The ledger's time of the event: now, and in a chain later than the row before, since rows are ordered by it.
    pub(crate) fn ts(&self, now: Timestamp) -> Timestamp {
        let later = self.last_ts.and_then(|last| Timestamp::from_unix_ms(last.unix_ms() + 1).ok());
        later.map_or(now, |later| later.max(now))
    }
}

/// Stream heads: those of the batch at hand, and two generations of recently used ones.
pub(crate) struct Streams {
    count: u64,
    touched: HashMap<StreamName, Touched>,
    young: HashMap<StreamName, StreamHead>,
    old: HashMap<StreamName, StreamHead>,
    cached_max: usize,
    chains: Arc<HashMap<StreamName, After>>,
}

impl Streams {
    /// `count` streams exist on disk. `chains` says where those begin that are set to a dialect.
    pub(crate) fn new(count: u64, cached_max: usize, chains: Arc<HashMap<StreamName, After>>) -> Self {
        let (touched, young, old) = Default::default();
        Self { count, touched, young, old, cached_max, chains }
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
        let begun = head.and_then(|head| head.chain);
        let after = begun.map(|chain| After { dialect: chain.dialect, previous: Some(chain.hash) });
        let (chain, last_ts) =
            (after.or_else(|| self.chains.get(stream).copied()), begun.map(|chain| chain.ts));
        Ok(match head {
            Some(StreamHead { next_seq: seq, hash, number, .. }) => {
                NextLink { seq, prev_hash: Some(hash), number, chain, last_ts }
            }
            None => NextLink { seq: 0, prev_hash: None, number: self.count, chain, last_ts },
        })
    }

    fn untouched(&self, stream: &StreamName, store: &Store) -> Result<Option<StreamHead>, StoreError> {
        match self.young.get(stream).or_else(|| self.old.get(stream)) {
            Some(head) => Ok(Some(*head)),
            None => store.stream(stream),
        }
    }

    /// An event took the place that [`Streams::next`] gave.
    pub(crate) fn link(&mut self, stream: &StreamName, link: NextLink, leaf: &Leaf, index: LeafIndex) {
        let chain = leaf.chain().map(|link| ChainHead::of(&link, leaf.ts()));
        let (next_seq, hash) = (link.seq + 1, leaf.event_hash());
        let head = StreamHead { number: link.number, next_seq, hash, last_index: index, chain };
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
