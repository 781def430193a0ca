//! What may enter a batch: disk space, open intents, idempotency keys, event ids.
//!
//! Runs on the writer's thread just before a commit, so "not there yet" means not there. What is refused
//! here was never written; what an earlier attempt answers is answered here without writing.

use std::collections::HashSet;

use chancery_format::{EventId, LeafIndex, TreeSize, VerifiedCheckpoint};

use crate::replay::{Answer, Earlier, Replay, ReplayRecord, Waiter};
use crate::roll::RollError;
use crate::sequencer::{
    Batch, EventItem, Fatal, IntentItem, IntentReply, Item, LeafItem, OutcomeItem, Record, RecordItem, Reply,
    Sequencer,
};
use crate::store::{Store, StoreError};

/// What admission remembers about the batch it fills.
struct Admission {
    batch: Batch,
    /// Free space is below the reserve.
    disk_low: bool,
    ids: HashSet<EventId>,
}

impl Sequencer {
    /// Sorts a batch's items into what is written, what waits and what is answered at once.
    pub(crate) fn admit(&mut self, items: Vec<Item>) -> Result<Batch, Fatal> {
        let disk_low = self.shared.disk_is_low();
        let mut admission = Admission { batch: Batch::default(), disk_low, ids: HashSet::new() };
        for item in items {
            match item {
                Item::Intent(item) => self.admit_intent(item, &mut admission)?,
                Item::Outcome(item) => self.admit_outcome(item, &mut admission)?,
                Item::Event(item) => self.admit_event(item, &mut admission)?,
                Item::Record(item) => self.admit_record(*item, &mut admission)?,
            }
        }
        Ok(admission.batch)
    }

    fn admit_intent(&mut self, item: Box<IntentItem>, admission: &mut Admission) -> Result<(), Fatal> {
        // A caller that went away needs no answer: here and below, what a send returns is dropped.
        match self.gate(item.replay, Answer::Signature)? {
            Gate::Running(replay) => {
                let waiters_max = if item.may_wait { self.shared.limits.waiters_per_key_max } else { 0 };
                self.flights.wait(replay, Waiter::Intent(item.reply), waiters_max);
            }
            Gate::Answers(index) => drop(item.reply.send(Ok(IntentReply::Already(Reply::Earlier(index))))),
            Gate::Conflict => drop(item.reply.send(Err(RollError::ReplayConflict))),
            Gate::Open if admission.disk_low => drop(item.reply.send(Err(RollError::Full))),
            Gate::Open if self.intents.len() >= self.shared.limits.open_intents_max => {
                drop(item.reply.send(Err(RollError::Overloaded)));
            }
            Gate::Open => {
                self.flights.begin(item.replay);
                admission.batch.intents.push((self.intents.open(item.tag), item));
            }
        }
        Ok(())
    }

    fn admit_outcome(&mut self, item: Box<OutcomeItem>, admission: &mut Admission) -> Result<(), Fatal> {
        let closes = item.tag.and_then(|tag| self.intents.close(tag));
        if closes.is_some() {
            // The attempt owns its key since its intent was admitted, and passes whatever the disk says.
            admission.batch.leaves.push(LeafItem::Outcome { item, closes });
            return Ok(());
        }
        match self.gate(item.replay, Answer::Signature)? {
            Gate::Running(replay) => {
                let waiters_max = self.shared.limits.waiters_per_key_max;
                self.flights.wait(replay, Waiter::Outcome(item.reply), waiters_max);
            }
            Gate::Answers(index) => drop(item.reply.send(Ok(Reply::Earlier(index)))),
            Gate::Conflict => drop(item.reply.send(Err(RollError::ReplayConflict))),
            Gate::Open if admission.disk_low => drop(item.reply.send(Err(RollError::Full))),
            Gate::Open => {
                self.flights.begin(item.replay);
                admission.batch.leaves.push(LeafItem::Outcome { item, closes });
            }
        }
        Ok(())
    }

    fn admit_event(&mut self, item: Box<EventItem>, admission: &mut Admission) -> Result<(), Fatal> {
        match self.gate(item.replay, Answer::Event)? {
            Gate::Running(replay) => {
                let waiters_max = self.shared.limits.waiters_per_key_max;
                self.flights.wait(replay, Waiter::Event(item.reply), waiters_max);
            }
            Gate::Answers(index) => drop(item.reply.send(Ok(Reply::Earlier(index)))),
            Gate::Conflict => drop(item.reply.send(Err(RollError::ReplayConflict))),
            Gate::Open if admission.disk_low => drop(item.reply.send(Err(RollError::Full))),
            Gate::Open if self.id_is_taken(item.draft.id.as_ref(), admission)? => {
                drop(item.reply.send(Err(RollError::IdConflict)));
            }
            Gate::Open => {
                admission.ids.extend(item.draft.id.clone());
                self.flights.begin(item.replay);
                admission.batch.leaves.push(LeafItem::Event(item));
            }
        }
        Ok(())
    }

    /// Asks the store; a writer that cannot know what is there stops.
    fn read<T>(&self, ask: impl FnOnce(&Store) -> Result<T, StoreError>) -> Result<T, Fatal> {
        ask(&self.shared.store).map_err(|error| self.shared.stop(error))
    }

    /// What a call with this key meets, if it can be answered by `wanted`.
    fn gate(&self, replay: Option<Replay>, wanted: Answer) -> Result<Gate, Fatal> {
        let Some(replay) = replay else { return Ok(Gate::Open) };
        if self.flights.is_running(replay.id) {
            return Ok(Gate::Running(replay));
        }
        let record = self.read(|store| store.replay(replay.id))?;
        Ok(match ReplayRecord::answers(record.as_ref(), replay.request_hash, wanted) {
            Earlier::None => Gate::Open,
            Earlier::Answers(index) => Gate::Answers(index),
            Earlier::Conflict => Gate::Conflict,
        })
    }

    /// An id is taken by an earlier event, by this batch, or by the ids the ledger makes itself.
    fn id_is_taken(&self, id: Option<&EventId>, admission: &Admission) -> Result<bool, Fatal> {
        let Some(id) = id else { return Ok(false) };
        let ours = id.index(self.shared.origin_tag).is_some();
        Ok(ours || admission.ids.contains(id) || self.read(|store| store.event_id(id.as_str()))?.is_some())
    }

    fn admit_record(&self, item: RecordItem, admission: &mut Admission) -> Result<(), Fatal> {
        let pending = &admission.batch.records;
        let verdict = match &item.record {
            Record::Genesis { .. } => Verdict::Write,
            Record::Checkpoint(checkpoint) => {
                let pending = pending.iter().filter_map(|other| other.record.checkpoint_size());
                let last = self.shared.latest_checkpoint().map(|last| last.size);
                let last = pending.chain(last).max();
                match last.map_or(std::cmp::Ordering::Greater, |last| checkpoint.head().size.cmp(&last)) {
                    std::cmp::Ordering::Greater => Verdict::Write,
                    std::cmp::Ordering::Equal => Verdict::Done,
                    std::cmp::Ordering::Less => Verdict::Refuse(RollError::CheckpointNotNewer),
                }
            }
            Record::Witnessed(checkpoint) => self.judge_witnessed(checkpoint)?,
            Record::CoseHead(head) => self.judge_cose_head(head.head().size, pending)?,
            Record::Registry { version, json, note } => self.judge_registry(*version, json, note, pending)?,
            Record::Epoch { epoch, size } => match self.read(|store| store.epoch(*epoch))? {
                None => Verdict::Write,
                Some(planned) if planned == *size => Verdict::Done,
                Some(_) => Verdict::Refuse(RollError::EpochConflict),
            },
            Record::KeyUses(_) | Record::Heads(_) => Verdict::Write,
        };
        match verdict {
            Verdict::Write => admission.batch.records.push(item),
            Verdict::Done => drop(item.reply.send(Ok(()))),
            Verdict::Refuse(error) => drop(item.reply.send(Err(error))),
        }
        Ok(())
    }

    /// Cosignatures stand below a checkpoint that is recorded, and what was recorded with some stays.
    fn judge_witnessed(&self, cosigned: &VerifiedCheckpoint) -> Result<Verdict, Fatal> {
        let size = cosigned.head().size;
        let of_size = |found: Option<(TreeSize, String)>| found.filter(|(found, _)| *found == size);
        let recorded = of_size(self.read(|store| store.checkpoint_from(size.0))?);
        let first = self.read(|store| store.witnessed_from(size.0))?;
        if first.is_some() {
            let same = of_size(first).is_some();
            return Ok(if same { Verdict::Done } else { Verdict::Refuse(RollError::CheckpointNotNewer) });
        }
        Ok(match recorded.filter(|(_, note)| cosigned.note().starts_with(note.as_str())) {
            Some(_) => Verdict::Write,
            None => Verdict::Refuse(RollError::NotRecorded),
        })
    }

    /// A head for COSE receipts has a recorded checkpoint, and what is kept never becomes older.
    fn judge_cose_head(&self, size: TreeSize, pending: &[RecordItem]) -> Result<Verdict, Fatal> {
        let recorded = self.read(|store| store.checkpoint_from(size.0))?;
        if recorded.is_none_or(|(found, _)| found != size) {
            return Ok(Verdict::Refuse(RollError::NotRecorded));
        }
        let stored = self.read(Store::cose_head)?.map(|kept| kept.statement().size);
        let pending = pending.iter().filter_map(|other| match &other.record {
            Record::CoseHead(head) => Some(head.head().size),
            _ => None,
        });
        let older = pending.chain(stored).any(|kept| size < kept);
        Ok(if older { Verdict::Refuse(RollError::CheckpointNotNewer) } else { Verdict::Write })
    }

    /// Registry versions count from 1 without gaps, and a version has one content.
    fn judge_registry(
        &self,
        version: u64,
        json: &[u8],
        note: &str,
        pending: &[RecordItem],
    ) -> Result<Verdict, Fatal> {
        let busy = pending.iter().any(|other| matches!(other.record, Record::Registry { .. }));
        let stored = self.read(|store| store.registry(version))?;
        Ok(match stored {
            Some((same, signed)) if same == json && signed == note => Verdict::Done,
            Some(_) => Verdict::Refuse(RollError::RegistryConflict),
            None if busy => Verdict::Refuse(RollError::RegistryConflict),
            None if version == self.read(Store::last_registry)?.unwrap_or(0) + 1 => Verdict::Write,
            None => Verdict::Refuse(RollError::RegistryConflict),
        })
    }
}

/// What stands between a call and a new attempt.
enum Gate {
    /// Nothing.
    Open,
    /// Another attempt with its key, not ended yet.
    Running(Replay),
    /// An earlier attempt that answers it.
    Answers(LeafIndex),
    /// An earlier attempt of another request.
    Conflict,
}

/// What to do with a record.
enum Verdict {
    Write,
    /// It is there already.
    Done,
    Refuse(RollError),
}

impl Record {
    fn checkpoint_size(&self) -> Option<chancery_format::TreeSize> {
        match self {
            Self::Checkpoint(checkpoint) => Some(checkpoint.head().size),
            _ => None,
        }
    }
}
