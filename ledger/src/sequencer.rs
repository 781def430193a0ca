//! The one writer: everything that becomes durable passes [`Sequencer::commit_batch`].
//!
//! A thread of its own takes all calls that wait, writes them as one batch and syncs once; the next sync
//! starts when this one returned, so batches grow with load and nobody waits for a timer. Serial work is
//! what makes promises cheap here: no two writers can fork a stream, hand out an index twice or answer one
//! idempotency key differently.
//!
//! It refuses what has no place (`admit.rs`); it stops for ever at the first error after that, because a
//! failed write leaves unknown what is on disk.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use chancery_format::committed::{CommitError, EventKind, OutcomeKind};
use chancery_format::cose::VerifiedCoseHead;
use chancery_format::event::Placement;
use chancery_format::heads::{Head, HeadName};
use chancery_format::merkle::{BatchTree, Frontier, ProofError};
use chancery_format::tile::TileTail;
use chancery_format::{
    Committed, DurableHead, DurableIntent, EventDraft, EventId, Hash, Intent, Kid, LeafIndex, Outcome,
    Timestamp, TreeSize, VerifiedCheckpoint,
};
use crossbeam_channel::Receiver;
use tokio::sync::oneshot;

use crate::high_water::HighWater;
use crate::intents::OpenIntents;
use crate::options::{Clock, SyncMode};
use crate::replay::{Answer, Flights, Replay, ReplayRecord};
use crate::roll::{RollError, StoredCheckpoint};
use crate::shared::Shared;
use crate::store::{StoreError, Writes};
use crate::streams::Streams;

/// Why the roll stopped. The process should end and start again: recovery then finds out what is true.
#[derive(Debug, Clone, thiserror::Error)]
pub enum Fatal {
    /// A read or write of the database failed. After a failed write, what it held may be on disk or not.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The high-water mark could not be written; the entries it speaks of are durable.
    #[error("writing the high-water mark: {0}")]
    HighWater(String),
    /// An entry just written does not prove under the head just written. A defect or bad memory.
    #[error("entry {index} does not prove under its own tree head: {cause}")]
    Proof {
        /// Position of the entry.
        index: LeafIndex,
        /// What the proof said.
        cause: CommitError,
    },
    /// Tree arithmetic over stored hashes failed: corruption.
    #[error("the stored tree does not hold together: {0}")]
    Tree(#[from] ProofError),
    /// A thread of the roll panicked. A defect; what its batch held may be on disk or not.
    #[error("a thread of the ledger panicked")]
    Panicked,
    /// What was read back from storage leads to another root than the one in memory, or than the last checkpoint: a bit
    /// is wrong in either. Nothing was signed.
    #[error(
        "the {size} entries in storage do not lead to the root that was about to be signed, or that was signed"
    )]
    Disagreement {
        /// Size of the tree.
        size: TreeSize,
    },
    /// The ledger key signed a head this ledger does not have: another ledger uses the key, or the disk was
    /// restored.
    #[error("the ledger key signed a tree of {size} leaves that is not ours")]
    ForeignCheckpoint {
        /// Size of the signed tree.
        size: TreeSize,
    },
}

/// An answer of the writer: proven now, or to be read back by whoever asked.
pub(crate) enum Reply<K> {
    Now(Committed<K>),
    Earlier(LeafIndex),
}

/// What became of an intent.
#[expect(clippy::large_enum_variant, reason = "the large variant is the common one, and moves once")]
pub(crate) enum IntentReply {
    New(DurableIntent),
    Already(Reply<OutcomeKind>),
}

/// An intent that wants to be durable.
pub(crate) struct IntentItem {
    pub(crate) intent: Intent,
    pub(crate) record: Vec<u8>,
    pub(crate) tag: Hash,
    pub(crate) replay: Option<Replay>,
    /// Whether it may wait for another attempt with its key.
    pub(crate) may_wait: bool,
    pub(crate) reply: oneshot::Sender<Result<IntentReply, RollError>>,
}

/// An outcome that wants to be a leaf.
pub(crate) struct OutcomeItem {
    pub(crate) draft: EventDraft,
    pub(crate) signed: bool,
    /// Hash of the intent's record; `None` if no intent can be open.
    pub(crate) tag: Option<Hash>,
    pub(crate) replay: Option<Replay>,
    pub(crate) reply: oneshot::Sender<Result<Reply<OutcomeKind>, RollError>>,
}

/// An event that wants to be a leaf.
pub(crate) struct EventItem {
    pub(crate) draft: EventDraft,
    pub(crate) replay: Option<Replay>,
    pub(crate) reply: oneshot::Sender<Result<Reply<EventKind>, RollError>>,
}

/// A record beside the tree.
pub(crate) enum Record {
    /// Format and origin of a new ledger.
    Genesis { origin: String },
    /// A signed head, found to be ours.
    Checkpoint(VerifiedCheckpoint),
    /// A recorded checkpoint, with cosignatures below it.
    Witnessed(VerifiedCheckpoint),
    /// A head under a recorded checkpoint, signed for COSE receipts; only the newest is kept.
    CoseHead(Box<VerifiedCoseHead>),
    /// A version of `signers.json`.
    Registry { version: u64, json: Vec<u8>, note: String },
    /// The size an archive epoch will close with.
    Epoch { epoch: u64, size: TreeSize },
    /// Where keys were used.
    KeyUses(Vec<KeyUses>),
    /// Where chains stand.
    Heads(HeadsRecord),
}

/// A row of entries that tell of one key.
pub(crate) struct KeyUses {
    pub(crate) name: HeadName,
    /// How many came before the first of them.
    pub(crate) first: u64,
    pub(crate) run: Vec<LeafIndex>,
}

/// A part of the map of heads.
pub(crate) enum HeadsRecord {
    /// Heads that changed.
    Changed(Vec<(HeadName, Head)>),
    /// Nothing of it is right any more, nor of where keys were used.
    Forgotten,
    /// All heads of this size are stored, and their root is enrolled there.
    Stored { size: TreeSize, index: Option<LeafIndex> },
}

/// A record that wants to be durable.
pub(crate) struct RecordItem {
    pub(crate) record: Record,
    pub(crate) reply: oneshot::Sender<Result<(), RollError>>,
}

/// One thing the writer is asked for.
pub(crate) enum Item {
    Intent(Box<IntentItem>),
    Outcome(Box<OutcomeItem>),
    Event(Box<EventItem>),
    Record(Box<RecordItem>),
}

/// One call: its items share a batch.
pub(crate) struct Call {
    pub(crate) items: Vec<Item>,
    pub(crate) bytes: usize,
}

/// A leaf on its way into the tree.
pub(crate) enum LeafItem {
    Outcome { item: Box<OutcomeItem>, closes: Option<u64> },
    Event(Box<EventItem>),
}

impl LeafItem {
    fn draft(&self) -> &EventDraft {
        match self {
            Self::Outcome { item, .. } => &item.draft,
            Self::Event(item) => &item.draft,
        }
    }

    const fn replay(&self) -> Option<Replay> {
        match self {
            Self::Outcome { item, .. } => item.replay,
            Self::Event(item) => item.replay,
        }
    }

    fn answer(&self) -> Answer {
        match self {
            Self::Outcome { item, .. } if item.signed => Answer::Signature,
            Self::Outcome { .. } => Answer::Nothing,
            Self::Event(_) => Answer::Event,
        }
    }

    fn refuse(self, error: RollError) {
        // A caller that went away needs no answer.
        match self {
            Self::Outcome { item, .. } => drop(item.reply.send(Err(error))),
            Self::Event(item) => drop(item.reply.send(Err(error))),
        }
    }
}

/// A leaf in its place.
struct Placed {
    item: LeafItem,
    index: LeafIndex,
    leaf: Arc<[u8]>,
}

/// A leaf proven to be in the tree on disk.
enum Proven {
    Outcome(Box<OutcomeItem>, Committed<OutcomeKind>),
    Event(Box<EventItem>, Committed<EventKind>),
}

/// What goes into one write.
#[derive(Default)]
pub(crate) struct Batch {
    pub(crate) leaves: Vec<LeafItem>,
    pub(crate) intents: Vec<(u64, Box<IntentItem>)>,
    pub(crate) records: Vec<RecordItem>,
}

impl Batch {
    fn is_empty(&self) -> bool {
        self.leaves.is_empty() && self.intents.is_empty() && self.records.is_empty()
    }
}

/// The writer and everything only it may change.
pub(crate) struct Sequencer {
    pub(crate) shared: Arc<Shared>,
    pub(crate) frontier: Frontier,
    pub(crate) tail: TileTail,
    pub(crate) streams: Streams,
    pub(crate) intents: OpenIntents,
    pub(crate) flights: Flights,
    pub(crate) high_water: HighWater,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) sync: SyncMode,
    /// Outcomes of intents whose caller went away before it was told.
    pub(crate) orphans: Vec<Item>,
}

impl Sequencer {
    /// Serves calls until every handle of the roll is gone, or until a fatal error.
    pub(crate) fn run(mut self, calls: &Receiver<Call>) {
        let mut carried = None;
        while let Some(items) = self.collect(calls, &mut carried) {
            if self.shared.dead().is_some() {
                return;
            }
            if let Err(fatal) = self.serve(items) {
                return self.shared.die(fatal);
            }
        }
    }

    /// All that waits, up to the limits of one batch; blocks only if nothing does.
    fn collect(&mut self, calls: &Receiver<Call>, carried: &mut Option<Call>) -> Option<Vec<Item>> {
        let mut items = std::mem::take(&mut self.orphans);
        let mut bytes = 0;
        if items.is_empty() && carried.is_none() {
            *carried = Some(calls.recv().ok()?);
        }
        while let Some(call) = carried.take().or_else(|| calls.try_recv().ok()) {
            let fits = items.len() + call.items.len() <= self.shared.limits.batch_entries_max
                && bytes + call.bytes <= self.shared.limits.batch_bytes_max;
            if !fits && !items.is_empty() {
                *carried = Some(call);
                break;
            }
            self.shared.dequeue(call.bytes);
            bytes += call.bytes;
            items.extend(call.items);
        }
        Some(items)
    }

    /// Admits what has a place and commits it.
    pub(crate) fn serve(&mut self, items: Vec<Item>) -> Result<(), Fatal> {
        let mut batch = self.admit(items)?;
        if batch.is_empty() { Ok(()) } else { self.commit_batch(&mut batch) }
    }

    /// Makes one batch durable, proves it, and tells everyone who waits.
    ///
    /// Recovery and creation pass here too. An error stops the roll where it is found, before the answers
    /// that were waited for are dropped: whoever finds his gone is told the true reason.
    pub(crate) fn commit_batch(&mut self, batch: &mut Batch) -> Result<(), Fatal> {
        // Index, seq, prevHash, id and ts of each leaf, in order of arrival.
        let now = self.clock.now();
        let mut placed = Vec::with_capacity(batch.leaves.len());
        let mut hashes = Vec::with_capacity(batch.leaves.len());
        let signer_kid = self.shared.signer_kid();
        for item in batch.leaves.drain(..) {
            let index = LeafIndex(self.frontier.size().0 + hashes.len() as u64);
            placed.extend(self.place(item, index, (now, &signer_kid), &mut hashes)?);
        }
        let tree = self.frontier.extend(&hashes);

        // One write over all column families.
        let shared = Arc::clone(&self.shared);
        let mut writes = shared.store.writes()?;
        for leaf in &placed {
            leaf.write(&mut writes)?;
        }
        for tile in self.tail.extend(&tree) {
            writes.tile(&tile)?;
        }
        self.streams.write(&mut writes)?;
        for (number, item) in &batch.intents {
            writes.open_intent(*number, &item.record)?;
        }
        for item in &batch.records {
            item.record.write(&mut writes)?;
        }
        writes.head(tree.head(), self.streams.count())?;
        shared.store.commit(writes, self.sync).map_err(|error| shared.stop(error))?;

        // Point of no return: the batch is on disk. Nothing below may refuse; an error stops the process.
        let head = DurableHead::after_sync(tree.head());
        let mut proven = Vec::with_capacity(placed.len());
        for leaf in placed {
            proven.push(leaf.prove(&tree, &head, &shared)?);
        }
        self.settle(&head, tree, batch)?;
        self.wake(proven, batch);
        Ok(())
    }

    /// Renders one leaf in its place; refuses it, and adds nothing, if it is too large.
    fn place(
        &mut self,
        item: LeafItem,
        index: LeafIndex,
        (now, signer_kid): (Timestamp, &Kid),
        hashes: &mut Vec<Hash>,
    ) -> Result<Option<Placed>, Fatal> {
        let draft = item.draft();
        let link = self.streams.next(&draft.stream, &self.shared.store);
        let link = link.map_err(|error| self.shared.stop(error))?;
        let id = EventId::from_index(self.shared.origin_tag, index);
        let (seq, prev_hash) = (link.seq, link.prev_hash);
        let place = Placement { id: &id, seq, prev_hash, signer_kid, ts: link.ts(now), chain: link.chain };
        match draft.place(&place) {
            Ok(leaf) => {
                self.streams.link(&draft.stream, link, &leaf, index);
                hashes.push(leaf.leaf_hash());
                Ok(Some(Placed { item, index, leaf: leaf.into_bytes().into() }))
            }
            Err(error) => {
                let error = RollError::from(error);
                if let Some(replay) = item.replay() {
                    self.flights.end_with_error(replay.id, &error);
                }
                item.refuse(error);
                Ok(None)
            }
        }
    }

    /// Brings memory up to the disk and shows readers the new head.
    fn settle(&mut self, head: &DurableHead, tree: BatchTree, batch: &Batch) -> Result<(), Fatal> {
        let shared = Arc::clone(&self.shared);
        let mark = |error: std::io::Error| shared.stop(Fatal::HighWater(error.to_string()));
        self.high_water.raise(head.head()).map_err(mark)?;
        self.frontier = tree.into_frontier();
        self.streams.settle();
        self.shared.open_intents.store(self.intents.len(), Ordering::Release);
        self.shared.publish(*head, &self.tail);
        for item in &batch.records {
            if let Record::Checkpoint(checkpoint) = &item.record {
                self.high_water.sync().map_err(mark)?;
                self.shared.publish_checkpoint(StoredCheckpoint::of(checkpoint));
            }
        }
        Ok(())
    }

    /// Tells every caller of the batch, and those who waited for one of them.
    fn wake(&mut self, proven: Vec<Proven>, batch: &mut Batch) {
        for leaf in proven {
            match leaf {
                Proven::Outcome(item, committed) => {
                    if let Some(replay) = item.replay {
                        self.flights.end_with_outcome(replay.id, &committed);
                    }
                    // A caller that went away finds the outcome by its key.
                    drop(item.reply.send(Ok(Reply::Now(committed))));
                }
                Proven::Event(item, committed) => {
                    if let Some(replay) = item.replay {
                        self.flights.end_with_event(replay.id, &committed);
                    }
                    drop(item.reply.send(Ok(Reply::Now(committed))));
                }
            }
        }
        for (_, item) in batch.intents.drain(..) {
            let durable = DurableIntent::after_sync(item.intent);
            if let Err(Ok(IntentReply::New(unheard))) = item.reply.send(Ok(IntentReply::New(durable))) {
                self.orphans.push(orphaned(unheard));
            }
        }
        for item in batch.records.drain(..) {
            drop(item.reply.send(Ok(())));
        }
    }
}

/// Closes an intent nobody heard about: its key was not used, and never will be.
fn orphaned(unheard: DurableIntent) -> Item {
    let code = chancery_format::names::FailureCode::known("caller-gone");
    let unused = chancery_format::entry::KeyUse::None;
    let outcome = Outcome::failed(unheard.into_intent(), code, unused);
    let (reply, _) = oneshot::channel();
    Item::Outcome(Box::new(OutcomeItem::new(&outcome, true, reply)))
}

impl OutcomeItem {
    /// `may_be_open`: whether an intent of this outcome can be on disk.
    pub(crate) fn new(
        outcome: &Outcome,
        may_be_open: bool,
        reply: oneshot::Sender<Result<Reply<OutcomeKind>, RollError>>,
    ) -> Self {
        let parts = outcome.intent().parts();
        Self {
            draft: outcome.draft(),
            signed: matches!(outcome.result(), chancery_format::OutcomeResult::Signed(..)),
            tag: may_be_open.then(|| Hash::of(&[&outcome.intent().encode()])),
            replay: parts.replay.as_ref().map(|replay| Replay::new(&parts.principal, replay)),
            reply,
        }
    }
}

impl Placed {
    fn write(&self, writes: &mut Writes<'_>) -> Result<(), StoreError> {
        writes.leaf(self.index, &self.leaf)?;
        if let LeafItem::Outcome { closes: Some(number), .. } = self.item {
            writes.close_intent(number)?;
        }
        if let Some(id) = &self.item.draft().id {
            writes.event_id(id.as_str(), self.index)?;
        }
        if let Some(Replay { id, request_hash }) = self.item.replay() {
            let record = ReplayRecord { answer: self.item.answer(), index: self.index, request_hash };
            writes.replay(id, &record)?;
        }
        Ok(())
    }

    /// The auditors' arithmetic, on every entry, before anyone is told.
    fn prove(self, tree: &BatchTree, head: &DurableHead, shared: &Shared) -> Result<Proven, Fatal> {
        let Self { item, index, leaf } = self;
        let proof = tree.proof(index).unwrap_or_default();
        let failed = |cause| shared.stop(Fatal::Proof { index, cause });
        Ok(match item {
            LeafItem::Outcome { item, .. } => {
                Proven::Outcome(item, Committed::verify(leaf, index, &proof, head).map_err(failed)?)
            }
            LeafItem::Event(item) => {
                Proven::Event(item, Committed::verify(leaf, index, &proof, head).map_err(failed)?)
            }
        })
    }
}

impl Record {
    fn write(&self, writes: &mut Writes<'_>) -> Result<(), StoreError> {
        match self {
            Self::Genesis { origin } => writes.genesis(origin),
            Self::Checkpoint(checkpoint) => writes.checkpoint(checkpoint.head().size, checkpoint.note()),
            Self::Witnessed(checkpoint) => writes.witnessed(checkpoint.head().size, checkpoint.note()),
            Self::CoseHead(head) => writes.cose_head(head),
            Self::Registry { version, json, note } => writes.registry(*version, json, note),
            Self::Epoch { epoch, size } => writes.epoch(*epoch, *size),
            Self::KeyUses(uses) => {
                uses.iter().try_for_each(|uses| writes.key_uses(&uses.name, uses.first, &uses.run))
            }
            Self::Heads(HeadsRecord::Changed(heads)) => {
                heads.iter().try_for_each(|(name, head)| writes.chain_head(name, head))
            }
            Self::Heads(HeadsRecord::Forgotten) => writes.forget_heads(),
            Self::Heads(HeadsRecord::Stored { size, index }) => writes.heads_at(*size, *index),
        }
    }
}
