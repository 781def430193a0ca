//! Counts over some entries. Two of them are kept: one of what a signed root covers, one of what waits for the next.

use std::collections::{BTreeMap, HashMap};
use std::hash::Hash;

use chancery_format::Timestamp;

use super::names::NameId;
use super::timeline::Timeline;
use crate::trust::SignerId;

/// Longest pauses that are told.
const PAUSES_MAX: usize = 5;
/// Pairs of caller and key that are counted; the rest are in the counts of both.
pub(crate) const PAIRS_MAX: usize = 50_000;

/// An entry's place and time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Moment {
    pub(crate) index: u64,
    pub(crate) ts: Timestamp,
}

/// How many, and the first and last of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Count {
    pub(crate) count: u64,
    pub(crate) first: u64,
    pub(crate) last: u64,
}

impl Count {
    const fn absorb(&mut self, other: Self) {
        self.count += other.count;
        self.last = other.last;
    }
}

/// Counts by name.
pub(crate) type Counts = HashMap<NameId, Count>;

/// What one key pair did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct KeyTally {
    /// Signatures that verify.
    pub(crate) verified: u64,
    /// MACs, and signatures over messages: recorded, and nothing an outsider can verify.
    pub(crate) recorded: u64,
    /// Uses without signature.
    pub(crate) failed: u64,
    pub(crate) first: Option<Moment>,
    pub(crate) last: Option<Moment>,
}

impl KeyTally {
    pub(crate) fn used_at(&mut self, moment: Moment) {
        self.first = self.first.or(Some(moment));
        self.last = Some(moment);
    }

    fn absorb(&mut self, other: Self) {
        self.verified += other.verified;
        self.recorded += other.recorded;
        self.failed += other.failed;
        self.first = self.first.or(other.first);
        self.last = other.last.or(self.last);
    }
}

/// What one actor did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct ActorTally {
    pub(crate) entries: u64,
    pub(crate) verified: u64,
    pub(crate) recorded: u64,
    pub(crate) failed: u64,
    /// Requests, not entries: refusals are recorded together.
    pub(crate) refused: u64,
    pub(crate) first: Option<Moment>,
    pub(crate) last: Option<Moment>,
}

impl ActorTally {
    pub(crate) fn seen_at(&mut self, moment: Moment) {
        self.entries += 1;
        self.first = self.first.or(Some(moment));
        self.last = Some(moment);
    }

    fn absorb(&mut self, other: Self) {
        self.entries += other.entries;
        self.verified += other.verified;
        self.recorded += other.recorded;
        self.failed += other.failed;
        self.refused += other.refused;
        self.first = self.first.or(other.first);
        self.last = other.last.or(self.last);
    }
}

/// A long time between two entries that bear the ledger's own time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Pause {
    pub(crate) ms: i64,
    pub(crate) from: Moment,
    pub(crate) to: Moment,
}

/// Counts over some entries.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    pub(crate) entries: u64,
    /// Entries with the ledger's own time.
    pub(crate) first: Option<Moment>,
    pub(crate) last: Option<Moment>,
    pub(crate) types: Counts,
    pub(crate) streams: Counts,
    pub(crate) purposes: Counts,
    pub(crate) dialects: Counts,
    pub(crate) failures: Counts,
    /// Requests, by the reason of their refusal.
    pub(crate) refusals: Counts,
    pub(crate) verdicts: Counts,
    pub(crate) keys: BTreeMap<SignerId, KeyTally>,
    pub(crate) actors: HashMap<NameId, ActorTally>,
    pub(crate) pairs: HashMap<(NameId, SignerId), u64>,
    pub(crate) timeline: Timeline,
    pub(crate) pauses: Vec<Pause>,
    /// Entries whose time is before that of the entry before.
    pub(crate) backwards: u64,
}

/// Counts `count` more at an index.
pub(crate) fn count(counts: &mut Counts, id: NameId, index: u64, count: u64) {
    let more = Count { count, first: index, last: index };
    counts.entry(id).and_modify(|known| known.absorb(more)).or_insert(more);
}

/// Takes back one.
pub(crate) fn take_back(counts: &mut Counts, id: NameId) {
    if let Some(known) = counts.get_mut(&id) {
        known.count = known.count.saturating_sub(1);
    }
}

impl Tally {
    /// Remembers a pause if it is among the longest.
    pub(crate) fn pause(&mut self, pause: Pause) {
        if self.pauses.len() == PAUSES_MAX && self.pauses.last().is_some_and(|it| it.ms >= pause.ms) {
            return;
        }
        let at = self.pauses.partition_point(|it| it.ms >= pause.ms);
        self.pauses.insert(at, pause);
        self.pauses.truncate(PAUSES_MAX);
    }

    /// Counts a caller's use of a key.
    pub(crate) fn pair(&mut self, actor: NameId, signer: SignerId, more: u64) {
        if self.pairs.len() < PAIRS_MAX || self.pairs.contains_key(&(actor, signer)) {
            *self.pairs.entry((actor, signer)).or_default() += more;
        }
    }

    /// Adds everything that entries after these have counted.
    pub(crate) fn absorb(&mut self, other: Self) {
        self.entries += other.entries;
        self.first = self.first.or(other.first);
        self.last = other.last.or(self.last);
        let counts = [
            (&mut self.types, other.types),
            (&mut self.streams, other.streams),
            (&mut self.purposes, other.purposes),
            (&mut self.dialects, other.dialects),
            (&mut self.failures, other.failures),
            (&mut self.refusals, other.refusals),
            (&mut self.verdicts, other.verdicts),
        ];
        for (mine, theirs) in counts {
            merge(mine, theirs, Count::absorb);
        }
        for (id, theirs) in other.keys {
            self.keys.entry(id).or_default().absorb(theirs);
        }
        merge(&mut self.actors, other.actors, ActorTally::absorb);
        for ((actor, signer), more) in other.pairs {
            self.pair(actor, signer, more);
        }
        self.timeline.absorb(other.timeline);
        for pause in other.pauses {
            self.pause(pause);
        }
        self.backwards += other.backwards;
    }
}

fn merge<K: Eq + Hash, V: Copy>(mine: &mut HashMap<K, V>, theirs: HashMap<K, V>, absorb: impl Fn(&mut V, V)) {
    for (id, more) in theirs {
        mine.entry(id).and_modify(|known| absorb(known, more)).or_insert(more);
    }
}
