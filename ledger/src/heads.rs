//! Heads of all chains: kept beside the roll, enrolled in it, and proven from it.
//!
//! A chain is a stream, or what tells of one key ([`chancery_format::heads`]). Leaves are folded in as they come under
//! a checkpoint, read back from storage; now and then the root over all heads is enrolled. Between two enrolments
//! proofs speak of the last enrolled map.
//!
//! Promises: what is enrolled is the map of exactly the leaves below its size, each of a greater size than the one before;
//! after a write that was refused the fold goes on from the last map that was stored, and an entry is never counted twice. A
//! process begins with the stored map only if its root is the enrolled one and uses of keys are stored with it: otherwise,
//! after a crash meanwhile or if a row is damaged, all is derived again from the entries, so that no damaged row is ever
//! enrolled. Memory: about 250 bytes a name, at most [`RollLimits::heads_names_max`](crate::RollLimits) of them; beyond that
//! nothing is enrolled.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use chancery_format::entry::{event_type, heads_enrolled};
use chancery_format::heads::{EnrolledHeads, HEADS_LAG_MAX, Head, HeadName, HeadProof, HeadsMap, LeafChains};
use chancery_format::{AuditEvent, LeafIndex, StreamName, TreeSize};

use crate::layout::KEY_USES_RUN;
use crate::roll::{Roll, RollError, StoredLeaf};
use crate::sequencer::{Fatal, HeadsRecord, KeyUses, Record};
use crate::shared::Shared;
use crate::store::{Store, StoreError};

/// Leaves folded in at a time: the rows they make are one record.
const FOLDED_MAX: u64 = 4_096;
/// Heads written at a time.
const CHUNK: usize = 1_024;

/// The heads of one roll. Cheap to clone; clones share what is known.
#[derive(Debug, Clone)]
pub struct Heads {
    roll: Roll,
    state: Arc<Mutex<Option<State>>>,
    /// Held by whoever writes rows of the map; `true` once the stored map was found whole, or replaced.
    writing: Arc<tokio::sync::Mutex<bool>>,
}

/// What became of an attempt to enrol.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HeadsOutcome {
    /// The map was enrolled, at this index.
    Enrolled(LeafIndex),
    /// Nothing but maps was enrolled since the last one.
    Nothing,
    /// The ledger ran too far ahead meanwhile, or has a map of a greater size; the next attempt will do.
    Behind,
    /// More streams and keys than are kept in memory: completeness can no longer be proven.
    TooMany(usize),
}

/// A map that was enrolled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EnrolledAt {
    /// Its root, and what it covers.
    pub heads: EnrolledHeads,
    /// The leaf.
    pub index: LeafIndex,
}

/// What the last enrolled map says of one chain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProvenHead {
    /// Where the chain stands; none if it has no entries.
    pub head: Option<Head>,
    /// Of the head, or of its absence.
    pub proof: HeadProof,
    /// The map.
    pub enrolled: EnrolledAt,
}

/// Everything folded in so far.
#[derive(Debug)]
struct State {
    map: HeadsMap,
    /// Leaves folded in.
    size: u64,
    /// Whether any of them since the last enrolment is something else than a map.
    has_news: bool,
    /// The map's settled part is this one.
    enrolled: Option<EnrolledAt>,
    /// What is stored is not a map.
    is_damaged: bool,
}

/// A map that is to be enrolled.
struct Prepared {
    /// Rows to store first.
    changed: Vec<(HeadName, Head)>,
    heads: EnrolledHeads,
    /// Where it is enrolled already.
    at: Option<LeafIndex>,
}

impl Heads {
    /// Knows nothing yet; the first call reads the stored map.
    pub fn new(roll: Roll) -> Self {
        Self { roll, state: Arc::default(), writing: Arc::default() }
    }

    /// Folds in every leaf below `size`, of a size that is on disk. After an error the next call starts from the last
    /// stored map; retry [`RollError::Unreadable`] and [`RollError::Overloaded`].
    pub async fn follow(&self, size: TreeSize) -> Result<(), RollError> {
        let mut is_sound = self.writing.lock().await;
        if !*is_sound {
            let is_whole =
                self.with_state(|state, shared| Ok(state.is_sound() && state.has_uses(&shared.store)?));
            if !is_whole.await? {
                tracing::warn!(
                    "the stored heads of streams and keys are not those last enrolled, or uses of keys are missing: \
                     deriving them again"
                );
                self.unlearn().await?;
            }
            *is_sound = true;
        }
        let followed = self.fold_until(size).await;
        if followed.is_err() {
            self.forget();
        }
        followed
    }

    /// Forgets every stored head and where keys were used, derives both again from the entries below `size`, and enrols
    /// the map. Until then nothing can be proven of a chain. Errors as of [`follow`](Self::follow); the next one goes on.
    pub async fn derive_again(&self, size: TreeSize) -> Result<HeadsOutcome, RollError> {
        {
            let _writing = self.writing.lock().await;
            self.unlearn().await?;
        }
        self.follow(size).await?;
        self.enrol().await
    }

    /// In the store first: what is forgotten there and remembered here would be half a map.
    async fn unlearn(&self) -> Result<(), RollError> {
        let forgotten = self.roll.record(Record::Heads(HeadsRecord::Forgotten)).await;
        self.forget();
        forgotten
    }

    /// What memory holds beyond the store may be written nowhere: the next call reads the stored map again.
    fn forget(&self) {
        *self.state.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    async fn fold_until(&self, size: TreeSize) -> Result<(), RollError> {
        loop {
            let (uses, done) = self
                .with_state(move |state, shared| {
                    let uses = state.fold(&shared.store, size.0)?;
                    Ok((uses, state.size >= size.0))
                })
                .await?;
            if !uses.is_empty() {
                self.roll.record(Record::KeyUses(uses)).await?;
            }
            if done {
                return Ok(());
            }
        }
    }

    /// Enrols the map of everything folded in, unless there is nothing new, or it is enrolled. Errors as of
    /// [`follow`](Self::follow).
    pub async fn enrol(&self) -> Result<HeadsOutcome, RollError> {
        let _writing = self.writing.lock().await;
        let (names_max, head) = (self.roll.shared().limits.heads_names_max, self.roll.head().head().size);
        let prepared = self.with_state(move |state, shared| state.prepare(&shared.store, names_max, head));
        let prepared = match prepared.await? {
            Ok(prepared) => prepared,
            Err(outcome) => return Ok(outcome),
        };
        let enrolled = match self.store_and_enrol(prepared).await {
            Ok(enrolled) => enrolled,
            Err(error) => {
                self.forget();
                return Err(error);
            }
        };
        self.with_state(move |state, _| {
            state.enrolled = Some(enrolled);
            Ok(HeadsOutcome::Enrolled(enrolled.index))
        })
        .await
    }

    /// The heads first, so that what is enrolled can always be proven; then the leaf; then where it is.
    async fn store_and_enrol(&self, prepared: Prepared) -> Result<EnrolledAt, RollError> {
        let Prepared { changed, heads, at } = prepared;
        for chunk in changed.chunks(CHUNK) {
            self.roll.record(Record::Heads(HeadsRecord::Changed(chunk.to_vec()))).await?;
        }
        self.roll.record(Record::Heads(HeadsRecord::Stored { size: heads.size, index: None })).await?;
        let index = match at {
            Some(index) => index,
            None => self.roll.enrol_event(heads_enrolled(&heads), None).await?.index(),
        };
        self.roll.record(Record::Heads(HeadsRecord::Stored { size: heads.size, index: Some(index) })).await?;
        Ok(EnrolledAt { heads, index })
    }

    /// What the last enrolled map says of a chain; `None` while no map is enrolled.
    pub async fn proven(&self, name: HeadName) -> Result<Option<ProvenHead>, RollError> {
        self.with_state(move |state, _| {
            Ok(state.enrolled.map(|enrolled| ProvenHead {
                head: state.map.settled(&name).copied(),
                proof: state.map.proof(&name),
                enrolled,
            }))
        })
        .await
    }

    /// Entries of a chain in order, after the first `skip`, at most `limit` (and at most the limit of a page). May
    /// go beyond the last enrolled map.
    pub async fn entries(
        &self,
        name: HeadName,
        skip: u64,
        limit: usize,
    ) -> Result<Vec<StoredLeaf>, RollError> {
        if let Some(stream) = name.stream().and_then(|stream| stream.parse::<StreamName>().ok()) {
            return self.roll.stream_page(stream, skip, limit).await;
        }
        let limit = limit.min(self.roll.shared().limits.page_entries_max);
        self.roll
            .on_blocking_thread(move |shared| {
                let indices = shared.store.key_uses(&name, skip, limit)?;
                let leaves = indices.into_iter().map(|index| shared.reader().leaf(index));
                Ok(leaves.collect::<Result<Vec<_>, _>>()?.into_iter().flatten().collect())
            })
            .await
    }

    async fn with_state<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut State, &Shared) -> Result<T, Fatal> + Send + 'static,
    ) -> Result<T, RollError> {
        let state = Arc::clone(&self.state);
        self.roll
            .on_blocking_thread(move |shared| {
                let mut state = state.lock().unwrap_or_else(PoisonError::into_inner);
                let known = match state.take() {
                    Some(known) => known,
                    None => State::load(&shared.store)?,
                };
                work(state.insert(known), shared)
            })
            .await
    }
}

/// The last map that entries from this index on enrol.
fn enrolled_from(store: &Store, from: u64, head: TreeSize) -> Result<Option<EnrolledAt>, Fatal> {
    let (mut last, count) = (None, head.0.saturating_sub(from));
    store.each_leaf(from, count as usize, |index, leaf| {
        if LeafChains::of_leaf(leaf).is_some_and(|leaf| leaf.event_type == event_type::HEADS) {
            let said = AuditEvent::read(leaf).ok().and_then(|event| EnrolledHeads::parse(event.payload));
            let heads =
                said.ok_or_else(|| StoreError::Corrupt(format!("entry {index} is no map of heads")))?;
            last = Some(EnrolledAt { heads, index });
        }
        Ok::<_, Fatal>(())
    })?;
    Ok(last)
}

impl State {
    /// As it was last stored. What cannot be read was nothing that the entries do not have.
    fn load(store: &Store) -> Result<Self, Fatal> {
        match Self::read(store) {
            Err(Fatal::Store(StoreError::Corrupt(cause))) => {
                tracing::error!(cause, "the stored heads of streams and keys cannot be read");
                let (map, size, has_news, enrolled) = (HeadsMap::default(), 0, false, None);
                Ok(Self { map, size, has_news, enrolled, is_damaged: true })
            }
            read => read,
        }
    }

    /// Whether it is the map that was enrolled last, or none was yet.
    fn is_sound(&self) -> bool {
        !self.is_damaged && (self.enrolled.is_some() || self.map.is_empty())
    }

    /// The map is the enrolled one if it has that root.
    fn read(store: &Store) -> Result<Self, Fatal> {
        let (size, index) = store.heads_at()?.unwrap_or_default();
        let mut map = HeadsMap::of(store.heads()?);
        let (names, root) = map.root();
        let heads = EnrolledHeads { names, root, size: TreeSize(size) };
        let said = match index {
            Some(index) => store.leaf(index)?,
            None => None,
        };
        let said =
            said.as_deref().and_then(|leaf| EnrolledHeads::parse(AuditEvent::read(leaf).ok()?.payload));
        let enrolled = index.filter(|_| said == Some(heads)).map(|index| EnrolledAt { heads, index });
        Ok(Self { map, size, has_news: enrolled.is_none() && size > 0, enrolled, is_damaged: false })
    }

    /// The map of everything folded in, if it may be enrolled.
    fn prepare(
        &mut self,
        store: &Store,
        names_max: usize,
        head: TreeSize,
    ) -> Result<Result<Prepared, HeadsOutcome>, Fatal> {
        let names = self.map.len();
        if !self.has_news {
            return Ok(Err(HeadsOutcome::Nothing));
        }
        if names > names_max {
            return Ok(Err(HeadsOutcome::TooMany(names)));
        }
        if head.0.saturating_sub(self.size) > HEADS_LAG_MAX / 2 {
            return Ok(Err(HeadsOutcome::Behind));
        }
        // Of what was derived again the last map is not known: an older one stands before this size, this one or a greater
        // one behind it. Each must be of a greater size than the one before.
        let last = match self.enrolled {
            Some(_) => None,
            None => enrolled_from(store, self.size, head)?.filter(|last| last.heads.size.0 >= self.size),
        };
        if last.is_some_and(|last| last.heads.size.0 > self.size) {
            return Ok(Err(HeadsOutcome::Behind));
        }
        let changed: Vec<_> = self.map.pending().map(|(name, head)| (name.clone(), *head)).collect();
        let (names, root) = self.map.root();
        let heads = EnrolledHeads { names, root, size: TreeSize(self.size) };
        if last.is_some_and(|last| last.heads != heads) {
            tracing::error!(size = self.size, "the map of heads enrolled for so many entries is not theirs");
            // All of it is to be stored with the next one.
            self.map = HeadsMap::of(self.map.all().map(|(name, head)| (name.clone(), *head)));
            return Ok(Err(HeadsOutcome::Behind));
        }
        self.enrolled = None;
        self.has_news = false;
        Ok(Ok(Prepared { changed, heads, at: last.map(|last| last.index) }))
    }

    /// Whether where keys were used is stored as the map counts it, as far as a row or two can tell.
    fn has_uses(&self, store: &Store) -> Result<bool, Fatal> {
        for (name, head) in self.map.all().filter(|(name, _)| name.key().is_some()) {
            for row in [0, (head.count - 1) / KEY_USES_RUN] {
                let (first, end) = (row * KEY_USES_RUN, head.count.min((row + 1) * KEY_USES_RUN));
                let run = match store.key_uses_run(name, first) {
                    Err(StoreError::Corrupt(_)) => return Ok(false),
                    run => run?,
                };
                if (run.len() as u64) < end - first {
                    return Ok(false);
                }
            }
        }
        Ok(true)
    }

    /// Takes in the next leaves below `size`, so many at most; gives the rows that what they say of keys changes.
    fn fold(&mut self, store: &Store, size: u64) -> Result<Vec<KeyUses>, Fatal> {
        let count = size.saturating_sub(self.size).min(FOLDED_MAX);
        let mut used: HashMap<HeadName, (u64, Vec<LeafIndex>)> = HashMap::new();
        store.each_leaf(self.size, count as usize, |index, leaf| {
            let leaf = LeafChains::of_leaf(leaf)
                .ok_or_else(|| StoreError::Corrupt(format!("entry {index} is no leaf")))?;
            for name in leaf.names() {
                // After a write that was refused, a part of the stored heads can be newer than the rest.
                let Some(number) = self.map.follow(&name, index, &leaf.hash) else { continue };
                if name.key().is_some() {
                    used.entry(name).or_insert((number, Vec::new())).1.push(index);
                }
            }
            self.has_news |= leaf.event_type != event_type::HEADS;
            Ok::<_, Fatal>(())
        })?;
        self.size += count;
        let mut rows = Vec::with_capacity(used.len());
        for (name, (number, indices)) in used {
            let before = (number % KEY_USES_RUN) as usize;
            let mut run = if before == 0 { Vec::new() } else { store.key_uses_run(&name, number)? };
            if run.len() < before {
                return Err(StoreError::Corrupt(format!("uses of {name} are not stored")).into());
            }
            // What is stored beyond is of a process that ended, and comes again.
            run.truncate(before);
            run.extend(indices);
            let firsts = (number - before as u64..).step_by(KEY_USES_RUN as usize);
            rows.extend(firsts.zip(run.chunks(KEY_USES_RUN as usize)).map(|(first, run)| KeyUses {
                name: name.clone(),
                first,
                run: run.to_vec(),
            }));
        }
        Ok(rows)
    }
}
