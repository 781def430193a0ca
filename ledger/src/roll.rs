//! The handle: what the rest of the appliance may ask of the ledger.
//!
//! A [`Roll`] is cheap to clone. Enrolling goes through a bounded queue to the one writer and returns when
//! the entry is on disk *and* proven; reading runs on blocking threads, a bounded number at a time. When
//! the last clone is dropped the writer finishes what it took, and the database closes.
//!
//! A caller that gave an intent must live to give its outcome: run the whole request as a task detached
//! from the connection. What is dropped half way stays an open intent until the next start.

use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use chancery_format::committed::{EventKind, Kind, OutcomeKind};
use chancery_format::cose::{COSE_RECEIPT_BYTES_MAX, CoseReceipt, VerifiedCoseHead};
use chancery_format::entry::ReplayKey;
use chancery_format::event::{EventError, LEAF_BYTES_MAX};
use chancery_format::{
    Committed, DurableHead, DurableIntent, EventDraft, EventId, Hash, Intent, Kid, LeafIndex, Origin,
    Outcome, PrincipalName, StreamName, TreeHead, TreeSize, VerifiedCheckpoint,
};
use crossbeam_channel::{Sender, TrySendError};
use tokio::sync::{Semaphore, oneshot, watch};

use crate::layout::StreamHead;
use crate::options::RollOptions;
use crate::read::Reader;
use crate::recovery::{self, OpenError, Recovered};
use crate::replay::Replay;
use crate::sequencer::{
    Call, EventItem, Fatal, HeadsRecord, IntentItem, IntentReply, Item, OutcomeItem, Record, RecordItem,
    Reply,
};
use crate::shared::Shared;

/// Bytes an outcome's leaf can need beyond its intent's record: the envelope with its longest names, and the
/// largest signature in base64.
const OUTCOME_BYTES_EXTRA: usize = 8 * 1024;
/// Bytes a leaf needs beyond payload and metadata, for bounding queues and batches.
const ENVELOPE_BYTES: usize = 512;
/// Bytes of a row beside the tree: a name and some numbers.
const ROW_BYTES: usize = 512;
/// Patience with the writer between its commit and the head it shows; microseconds are usual.
const SHOWN_WITHIN: Duration = Duration::from_secs(5);

/// Why the roll did not do what was asked.
#[derive(Debug, Clone, thiserror::Error)]
pub enum RollError {
    /// The roll has stopped: this call may have happened or not, and no later one will. The process must
    /// restart; the caller may then retry with the same idempotency key.
    #[error("the ledger has stopped: {0}")]
    Fatal(Arc<Fatal>),
    /// The runtime shut down while a read waited. Nothing happened.
    #[error("the ledger is closed")]
    Closed,
    /// Too many calls wait, or too many intents are open. Nothing was written; retry later.
    #[error("the ledger is overloaded")]
    Overloaded,
    /// The disk is down to its reserve. Nothing was written; the operator must make room.
    #[error("the ledger's disk is down to its reserve")]
    Full,
    /// The idempotency key was used for another request. The caller is at fault; nothing was written.
    #[error("the idempotency key belongs to another request")]
    ReplayConflict,
    /// The same request is being worked on, and this call may not wait for it: it came in a batch, or too
    /// many wait already. Nothing was written; retry later.
    #[error("the same request is in flight")]
    InFlight,
    /// An event with this id exists, or the id is of the form the ledger gives itself. The caller is at
    /// fault; nothing was written.
    #[error("the event id is taken")]
    IdConflict,
    /// The leaf would be too large. The caller is at fault; nothing was written.
    #[error("event has {0} bytes as a leaf, the limit is 65535")]
    TooLarge(usize),
    /// The draft does not make a leaf for another reason. A defect of the caller; nothing was written.
    #[error("event does not make a leaf: {0}")]
    Malformed(String),
    /// More entries or bytes in one call than one batch takes. The caller is at fault; nothing was written.
    #[error("too many entries or bytes in one call")]
    BatchTooLarge,
    /// A newer checkpoint is recorded. Recording this one would change which checkpoint is the first to
    /// cover an entry. Drop it; nothing was written.
    #[error("a newer checkpoint is recorded already")]
    CheckpointNotNewer,
    /// Cosignatures, or a head for COSE receipts, came for a checkpoint that is not recorded. A defect of the caller;
    /// nothing was written.
    #[error("cosignatures, or a head for COSE receipts, of a checkpoint that is not recorded")]
    NotRecorded,
    /// The checkpoint speaks of another ledger. A defect of the caller; nothing was written.
    #[error("the checkpoint is of another origin")]
    OtherOrigin,
    /// The registry version is not the next one, or exists with other content; nothing was written.
    #[error("the registry version is not the next, or exists with other content")]
    RegistryConflict,
    /// The archive epoch was planned with another size. A defect; nothing was written.
    #[error("the archive epoch is planned with another size")]
    EpochConflict,
    /// An index, size or range outside the tree. The caller is at fault.
    #[error("outside the tree")]
    OutOfRange,
    /// The database could not be read just now. Retry.
    #[error("the ledger could not be read: {0}")]
    Unreadable(String),
}

impl From<EventError> for RollError {
    fn from(error: EventError) -> Self {
        match error {
            EventError::TooLarge(bytes) => Self::TooLarge(bytes),
            other => Self::Malformed(other.to_string()),
        }
    }
}

/// What became of an intent.
#[expect(clippy::large_enum_variant, reason = "the large variant is the common one, and moves once")]
#[derive(Debug)]
pub enum Enrolled {
    /// It is on disk: the key may be used. Its outcome must follow.
    New(DurableIntent),
    /// An earlier attempt with the same key answers, or one that was in flight just ended. The outcome may
    /// be a failure only in the second case.
    Already(Committed<OutcomeKind>),
}

/// A leaf as stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredLeaf {
    /// Its position.
    pub index: LeafIndex,
    /// Its bytes.
    pub bytes: Arc<[u8]>,
}

/// A recorded checkpoint.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredCheckpoint {
    /// Leaves it covers.
    pub size: TreeSize,
    /// The signed note, byte for byte.
    pub note: Arc<str>,
}

impl StoredCheckpoint {
    pub(crate) fn of(checkpoint: &VerifiedCheckpoint) -> Self {
        Self { size: checkpoint.head().size, note: checkpoint.note().into() }
    }

    pub(crate) fn new((size, note): (TreeSize, String)) -> Self {
        Self { size, note: note.into() }
    }
}

/// A recorded version of `signers.json`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RegistrySnapshot {
    /// From 1, without gaps.
    pub version: u64,
    /// The file.
    pub json: Vec<u8>,
    /// The signed note over it.
    pub note: String,
}

/// The ledger's handle.
#[derive(Clone)]
pub struct Roll(Arc<Inner>);

struct Inner {
    shared: Arc<Shared>,
    calls: Option<Sender<Call>>,
    writer: Mutex<Option<JoinHandle<()>>>,
    reads: Arc<Semaphore>,
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.calls = None;
        let writer = self.writer.get_mut().unwrap_or_else(PoisonError::into_inner).take();
        let Some(writer) = writer else { return };
        if writer.thread().id() != std::thread::current().id() {
            // A panic of the writer has been reported by its own thread.
            drop(writer.join());
        }
    }
}

impl std::fmt::Debug for Roll {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Roll").field("origin", self.origin()).field("head", &self.head()).finish()
    }
}

/// An answer that is on its way.
type Pending<T> = oneshot::Receiver<Result<T, RollError>>;

/// An item, the bytes it holds, and its answer.
type Prepared<T> = (Item, usize, Pending<T>);

impl Roll {
    /// Makes a new ledger in a directory that does not exist or is empty, and enrols `ledger.opened` as its
    /// first entry. Blocks.
    pub fn create(options: RollOptions) -> Result<Self, OpenError> {
        recovery::create(&options)
    }

    /// Opens a ledger: checks that its tree holds together and lost nothing, and closes what a crash left
    /// open. Blocks.
    pub fn open(options: RollOptions) -> Result<(Self, Recovered), OpenError> {
        recovery::open(&options)
    }

    pub(crate) fn new(shared: Arc<Shared>, calls: Sender<Call>, writer: JoinHandle<()>) -> Self {
        let reads = Arc::new(Semaphore::new(shared.limits.reads_max));
        Self(Arc::new(Inner { shared, calls: Some(calls), writer: Mutex::new(Some(writer)), reads }))
    }

    pub(crate) fn shared(&self) -> &Shared {
        &self.0.shared
    }

    /// Gives this handle back; if it was the last, waits until the writer ended and the database closed.
    pub async fn close(self) {
        // The drop joins a thread, which must not happen on an async worker.
        drop(tokio::task::spawn_blocking(move || drop(self)).await);
    }

    // --- enrolling -------------------------------------------------------------------------------------

    /// Makes an intent durable before its key is used. With an idempotency key, an earlier or running
    /// attempt may answer instead.
    pub async fn enrol_intent(&self, intent: Intent) -> Result<Enrolled, RollError> {
        let (item, bytes, answer) = intent_item(intent, true)?;
        self.send(vec![item], bytes, false)?;
        self.enrolled(answer).await
    }

    /// Makes several intents durable in one batch. None waits for another attempt with its key: such an
    /// item is answered [`RollError::InFlight`], because two calls could wait for each other.
    pub async fn enrol_intents(&self, intents: Vec<Intent>) -> Vec<Result<Enrolled, RollError>> {
        let prepared = intents.into_iter().map(|intent| intent_item(intent, false)).collect();
        let answers = self.send_all(prepared, false);
        let mut enrolled = Vec::with_capacity(answers.len());
        for answer in answers {
            enrolled.push(match answer {
                Ok(answer) => self.enrolled(answer).await,
                Err(error) => Err(error),
            });
        }
        enrolled
    }

    async fn enrolled(&self, answer: Pending<IntentReply>) -> Result<Enrolled, RollError> {
        match self.answer(answer).await? {
            IntentReply::New(intent) => Ok(Enrolled::New(intent)),
            IntentReply::Already(reply) => self.proven(reply).await.map(Enrolled::Already),
        }
    }

    /// Makes an outcome a leaf and ends its intent in the same batch. If no intent was durable (the skip
    /// mode of the software backend), an earlier signature under the same idempotency key wins and is
    /// returned instead.
    ///
    /// Like the three below, it takes its place in the queue before it returns, and what it returns only
    /// waits: what is enrolled later stands at a higher index.
    pub fn enrol_outcome(
        &self,
        outcome: Outcome,
    ) -> impl Future<Output = Result<Committed<OutcomeKind>, RollError>> + Send + '_ {
        let must = self.any_intent_open();
        let (item, bytes, answer) = outcome_item(&outcome, must);
        let sent = self.send(vec![item], bytes, must).map(|()| answer);
        async move { self.proven(self.answer(sent?).await?).await }
    }

    /// Several outcomes in one batch.
    pub fn enrol_outcomes(
        &self,
        outcomes: Vec<Outcome>,
    ) -> impl Future<Output = Vec<Result<Committed<OutcomeKind>, RollError>>> + Send + '_ {
        let must = self.any_intent_open();
        let prepared = outcomes.iter().map(|outcome| Ok(outcome_item(outcome, must))).collect();
        let sent = self.send_all(prepared, must);
        async move { self.all_proven(sent).await }
    }

    /// Makes an event a leaf. With an idempotency key, the event enrolled earlier under it is returned.
    pub fn enrol_event(
        &self,
        draft: EventDraft,
        replay: Option<(PrincipalName, ReplayKey)>,
    ) -> impl Future<Output = Result<Committed<EventKind>, RollError>> + Send + '_ {
        let (item, bytes, answer) = event_item(draft, replay);
        let sent = self.send(vec![item], bytes, false).map(|()| answer);
        async move { self.proven(self.answer(sent?).await?).await }
    }

    /// Several events in one batch, in this order.
    pub fn enrol_events(
        &self,
        events: Vec<(EventDraft, Option<(PrincipalName, ReplayKey)>)>,
    ) -> impl Future<Output = Vec<Result<Committed<EventKind>, RollError>>> + Send + '_ {
        let prepared = events.into_iter().map(|(draft, replay)| Ok(event_item(draft, replay))).collect();
        let sent = self.send_all(prepared, false);
        async move { self.all_proven(sent).await }
    }

    /// Records a checkpoint of this ledger. It must be newer than every one before; recording the same size
    /// again keeps the first note. A root that is not ours at that size stops the roll: somebody else signs
    /// with the ledger key, or the disk was restored.
    pub async fn record_checkpoint(&self, checkpoint: VerifiedCheckpoint) -> Result<(), RollError> {
        if checkpoint.origin() != self.origin() {
            return Err(RollError::OtherOrigin);
        }
        self.must_be_ours(checkpoint.head()).await?;
        self.record(Record::Checkpoint(checkpoint)).await
    }

    /// Stops the roll if a signed head is not of this tree.
    async fn must_be_ours(&self, signed: TreeHead) -> Result<(), RollError> {
        let ours = self.read(move |reader| match signed.size <= reader.head().head().size {
            true => Ok(reader.root_at(signed.size)? == signed.root),
            false => Ok(false),
        });
        if ours.await? {
            return Ok(());
        }
        self.shared().die(Fatal::ForeignCheckpoint { size: signed.size });
        Err(self.shared().gone())
    }

    /// Keeps a head that was signed for COSE receipts in place of the one before. A checkpoint of its size must be
    /// recorded, and it must not be older than what is kept. A root that is not ours stops the roll, as with checkpoints.
    pub async fn record_cose_head(&self, head: VerifiedCoseHead) -> Result<(), RollError> {
        if head.origin() != self.origin() {
            return Err(RollError::OtherOrigin);
        }
        self.must_be_ours(head.head()).await?;
        self.record(Record::CoseHead(Box::new(head))).await
    }

    /// Records a checkpoint once more, with its witnesses' cosignatures below the recorded note. Recording the same
    /// size again keeps the first.
    pub async fn record_witnessed(&self, checkpoint: VerifiedCheckpoint) -> Result<(), RollError> {
        if checkpoint.origin() != self.origin() {
            return Err(RollError::OtherOrigin);
        }
        self.record(Record::Witnessed(checkpoint)).await
    }

    /// Records a version of `signers.json` and the signed note over it. Record first, then enrol
    /// `registry.published`: an archive epoch takes along the versions its leaves name.
    pub async fn record_registry(&self, snapshot: RegistrySnapshot) -> Result<(), RollError> {
        let RegistrySnapshot { version, json, note } = snapshot;
        self.record(Record::Registry { version, json, note }).await
    }

    pub(crate) async fn record(&self, record: Record) -> Result<(), RollError> {
        let answer = self.send_record(record)?;
        self.answer(answer).await
    }

    /// Plans an archive epoch; for the shipper's own thread.
    pub(crate) fn plan_epoch_blocking(&self, epoch: u64, size: TreeSize) -> Result<(), RollError> {
        let answer = self.send_record(Record::Epoch { epoch, size })?;
        answer.blocking_recv().unwrap_or_else(|_| Err(self.shared().gone()))
    }

    fn send_record(&self, record: Record) -> Result<Pending<()>, RollError> {
        let (reply, answer) = oneshot::channel();
        let bytes = match &record {
            Record::Registry { json, .. } => json.len(),
            Record::Witnessed(checkpoint) => checkpoint.note().len(),
            Record::CoseHead(_) => COSE_RECEIPT_BYTES_MAX,
            Record::KeyUses(uses) => uses.len() * ROW_BYTES,
            Record::Heads(HeadsRecord::Changed(heads)) => heads.len() * ROW_BYTES,
            _ => ENVELOPE_BYTES,
        };
        self.send(vec![Item::Record(Box::new(RecordItem { record, reply }))], bytes, false)?;
        Ok(answer)
    }

    // --- the queue -------------------------------------------------------------------------------------

    fn any_intent_open(&self) -> bool {
        self.shared().open_intents.load(std::sync::atomic::Ordering::Acquire) > 0
    }

    /// Queues one call. An outcome whose intent is on disk `must` pass however long the queue is: open
    /// intents are bounded themselves, and refusing it would lose the record of a key use.
    fn send(&self, items: Vec<Item>, bytes: usize, must: bool) -> Result<(), RollError> {
        let limits = &self.shared().limits;
        if let Some(dead) = self.shared().dead() {
            return Err(dead);
        }
        if items.len() > limits.batch_entries_max || bytes > limits.batch_bytes_max {
            return Err(RollError::BatchTooLarge);
        }
        if !self.shared().enqueue(bytes, must) {
            return Err(RollError::Overloaded);
        }
        match self.0.calls.as_ref().map(|calls| calls.try_send(Call { items, bytes })) {
            Some(Ok(())) => Ok(()),
            Some(Err(TrySendError::Full(_))) => {
                self.shared().dequeue(bytes);
                Err(RollError::Overloaded)
            }
            _ => Err(self.shared().gone()),
        }
    }

    /// Queues what could be prepared as one call; every item gets an answer or an error, in order.
    fn send_all<T>(
        &self,
        prepared: Vec<Result<Prepared<T>, RollError>>,
        must: bool,
    ) -> Vec<Result<Pending<T>, RollError>> {
        let (mut items, mut bytes) = (Vec::with_capacity(prepared.len()), 0);
        let mut answers = Vec::with_capacity(prepared.len());
        for one in prepared {
            answers.push(one.map(|(item, size, answer)| {
                items.push(item);
                bytes += size;
                answer
            }));
        }
        match if items.is_empty() { Ok(()) } else { self.send(items, bytes, must) } {
            Ok(()) => answers,
            Err(error) => answers.into_iter().map(|answer| answer.and(Err(error.clone()))).collect(),
        }
    }

    async fn answer<T>(&self, answer: Pending<T>) -> Result<T, RollError> {
        answer.await.unwrap_or_else(|_| Err(self.shared().gone()))
    }

    async fn proven<K: Kind + 'static>(&self, reply: Reply<K>) -> Result<Committed<K>, RollError> {
        match reply {
            Reply::Now(committed) => Ok(committed),
            Reply::Earlier(index) => self.read(move |reader| reader.committed(index)).await,
        }
    }

    async fn all_proven<K: Kind + 'static>(
        &self,
        answers: Vec<Result<Pending<Reply<K>>, RollError>>,
    ) -> Vec<Result<Committed<K>, RollError>> {
        let mut proven = Vec::with_capacity(answers.len());
        for answer in answers {
            proven.push(match answer {
                Ok(answer) => match self.answer(answer).await {
                    Ok(reply) => self.proven(reply).await,
                    Err(error) => Err(error),
                },
                Err(error) => Err(error),
            });
        }
        proven
    }

    // --- reading ---------------------------------------------------------------------------------------

    /// Whose ledger this is.
    pub fn origin(&self) -> &Origin {
        &self.shared().origin
    }

    /// The last durable head.
    pub fn head(&self) -> DurableHead {
        self.shared().head()
    }

    /// Another key signs checkpoints from here on: leaves name it.
    pub fn set_signer(&self, signer_kid: Kid) {
        self.shared().set_signer_kid(signer_kid);
    }

    /// Every later head, as it becomes durable.
    pub fn subscribe(&self) -> watch::Receiver<DurableHead> {
        self.shared().heads()
    }

    /// Every later checkpoint, as it is recorded.
    pub fn subscribe_checkpoints(&self) -> watch::Receiver<Option<StoredCheckpoint>> {
        self.shared().checkpoints()
    }

    /// The newest recorded checkpoint.
    pub fn latest_checkpoint(&self) -> Option<StoredCheckpoint> {
        self.shared().latest_checkpoint()
    }

    /// Why the roll has stopped, if it has.
    pub fn fatal(&self) -> Option<RollError> {
        self.shared().dead()
    }

    /// Whether free space is below the reserve. Asks the file system.
    pub fn disk_is_low(&self) -> bool {
        self.shared().disk_is_low()
    }

    /// Intents on disk without outcome.
    pub fn open_intents(&self) -> usize {
        self.shared().open_intents.load(std::sync::atomic::Ordering::Acquire)
    }

    /// Calls that wait for the writer.
    pub fn queued(&self) -> usize {
        self.shared().queued_calls.load(std::sync::atomic::Ordering::Relaxed)
    }

    /// The first recorded checkpoint that covers `index`: the same one for ever, once there is one.
    pub async fn first_checkpoint_covering(
        &self,
        index: LeafIndex,
    ) -> Result<Option<StoredCheckpoint>, RollError> {
        let from = index.0.saturating_add(1);
        let found = self.read_store(move |shared| shared.store.checkpoint_from(from)).await?;
        Ok(found.map(StoredCheckpoint::new))
    }

    /// The first witnessed checkpoint that covers `index`: the same one for ever, once there is one.
    pub async fn first_witnessed_covering(
        &self,
        index: LeafIndex,
    ) -> Result<Option<StoredCheckpoint>, RollError> {
        let from = index.0.saturating_add(1);
        let found = self.read_store(move |shared| shared.store.witnessed_from(from)).await?;
        Ok(found.map(StoredCheckpoint::new))
    }

    /// The newest witnessed checkpoint.
    pub async fn latest_witnessed(&self) -> Result<Option<StoredCheckpoint>, RollError> {
        Ok(self.read_store(|shared| shared.store.last_witnessed()).await?.map(StoredCheckpoint::new))
    }

    /// The head kept for COSE receipts, as it was signed, with the head this ledger has at its size. Whoever has the
    /// keys verifies it: [`VerifiedCoseHead::verify`].
    pub async fn cose_head(&self) -> Result<Option<(CoseReceipt, TreeHead)>, RollError> {
        let kept = self.read_store(|shared| shared.store.cose_head()).await?;
        let Some(kept) = kept else { return Ok(None) };
        let size = kept.statement().size;
        Ok(Some((kept, TreeHead { size, root: self.root_at(size).await? })))
    }

    /// The recorded checkpoint of exactly this size.
    pub async fn checkpoint(&self, size: TreeSize) -> Result<Option<StoredCheckpoint>, RollError> {
        let found = self.read_store(move |shared| shared.store.checkpoint_from(size.0)).await?;
        Ok(found.filter(|(found, _)| *found == size).map(StoredCheckpoint::new))
    }

    /// A recorded version of `signers.json`.
    pub async fn registry(&self, version: u64) -> Result<Option<RegistrySnapshot>, RollError> {
        let found = self.read_store(move |shared| shared.store.registry(version)).await?;
        Ok(found.map(|(json, note)| RegistrySnapshot { version, json, note }))
    }

    /// The newest recorded version of `signers.json`.
    pub async fn latest_registry(&self) -> Result<Option<RegistrySnapshot>, RollError> {
        match self.read_store(|shared| shared.store.last_registry()).await? {
            Some(version) => self.registry(version).await,
            None => Ok(None),
        }
    }

    /// Key uses that were announced and have not ended, oldest first, at most `limit`. When it returns, the head
    /// covers the outcome of every use that is not in the list: read the head after it, and what ends in between
    /// stands in both, and never in neither.
    pub async fn open_intent_list(&self, limit: usize) -> Result<Vec<Intent>, RollError> {
        let read = move |shared: &Shared| Ok((shared.store.intents(0, limit)?, shared.store.head()?));
        let (rows, on_disk) = self.read_store(read).await?;
        if let Some((head, _)) = on_disk {
            self.head_covers(head.size).await?;
        }
        // A record that cannot be read is recovery's to report; here it announces nothing.
        Ok(rows.iter().filter_map(|(_, record)| Intent::decode(record)).collect())
    }

    /// Waits until readers see what is on disk up to `size`: the writer shows it right after its commit.
    async fn head_covers(&self, size: TreeSize) -> Result<(), RollError> {
        let mut heads = self.subscribe();
        let shown = heads.wait_for(|shown| shown.head().size >= size);
        match tokio::time::timeout(SHOWN_WITHIN, shown).await {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(_)) => Err(RollError::Closed),
            Err(_) => {
                Err(self.fatal().unwrap_or_else(|| RollError::Unreadable("the head lags the disk".into())))
            }
        }
    }

    /// The leaf at `index`; `None` beyond the head.
    pub async fn leaf(&self, index: LeafIndex) -> Result<Option<StoredLeaf>, RollError> {
        self.read(move |reader| reader.leaf(index)).await
    }

    /// The event with this id.
    pub async fn find_event(&self, id: EventId) -> Result<Option<StoredLeaf>, RollError> {
        self.read(move |reader| reader.find_event(&id)).await
    }

    /// A leaf read back and proven under the current head; `None` beyond it.
    pub async fn committed(&self, index: LeafIndex) -> Result<Option<Committed<EventKind>>, RollError> {
        let covered = move |reader: &Reader<'_>| reader.head().head().size.covers(index);
        self.read(move |reader| covered(reader).then(|| reader.committed(index)).transpose()).await
    }

    /// Events of a stream from `from_seq` on, at most `limit` (and at most the limit of a page).
    pub async fn stream_page(
        &self,
        stream: StreamName,
        from_seq: u64,
        limit: usize,
    ) -> Result<Vec<StoredLeaf>, RollError> {
        let limit = limit.min(self.shared().limits.page_entries_max);
        self.read(move |reader| reader.stream_page(&stream, from_seq, limit)).await
    }

    /// Where a stream stands; `None` if it has no events.
    pub async fn stream_head(&self, stream: StreamName) -> Result<Option<StreamHead>, RollError> {
        self.read(move |reader| reader.stream_head(&stream)).await
    }

    /// A hash tile (C2SP bytes): full, or its first `width` hashes; `None` if the tree does not have them.
    pub async fn tile(
        &self,
        level: u8,
        number: u64,
        width: Option<u8>,
    ) -> Result<Option<Vec<u8>>, RollError> {
        self.read(move |reader| reader.tile(level, number, width)).await
    }

    /// An entry bundle (C2SP bytes): full, or its first `width` entries; `None` if the tree does not have
    /// them.
    pub async fn bundle(&self, number: u64, width: Option<u8>) -> Result<Option<Vec<u8>>, RollError> {
        self.read(move |reader| reader.bundle(number, width)).await
    }

    /// Proof that the leaf at `index` is in the tree of `size` leaves.
    pub async fn inclusion_proof(&self, index: LeafIndex, size: TreeSize) -> Result<Vec<Hash>, RollError> {
        if !size.covers(index) || size > self.head().head().size {
            return Err(RollError::OutOfRange);
        }
        if let Some(dead) = self.shared().dead() {
            return Err(dead);
        }
        // A receipt is mostly asked for while its tiles are fresh.
        if let Some(proof) = self.shared().reader().inclusion_proof_in_memory(index, size) {
            return Ok(proof);
        }
        self.read(move |reader| reader.inclusion_proof(index, size)).await
    }

    /// Proof that the tree of `new` leaves begins with that of `old`.
    pub async fn consistency_proof(&self, old: TreeSize, new: TreeSize) -> Result<Vec<Hash>, RollError> {
        if old > new || new > self.head().head().size {
            return Err(RollError::OutOfRange);
        }
        self.read(move |reader| reader.consistency_proof(old, new)).await
    }

    /// Root of the first `size` leaves.
    pub async fn root_at(&self, size: TreeSize) -> Result<Hash, RollError> {
        if size > self.head().head().size {
            return Err(RollError::OutOfRange);
        }
        self.read(move |reader| reader.root_at(size)).await
    }

    async fn read<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Reader<'_>) -> Result<T, Fatal> + Send + 'static,
    ) -> Result<T, RollError> {
        self.on_blocking_thread(move |shared| work(&shared.reader())).await
    }

    async fn read_store<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Shared) -> Result<T, crate::store::StoreError> + Send + 'static,
    ) -> Result<T, RollError> {
        self.on_blocking_thread(move |shared| work(shared).map_err(Fatal::Store)).await
    }

    /// Reads block on the disk, so they run beside the async workers, a bounded number at a time.
    pub(crate) async fn on_blocking_thread<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Shared) -> Result<T, Fatal> + Send + 'static,
    ) -> Result<T, RollError> {
        if let Some(dead) = self.shared().dead() {
            return Err(dead);
        }
        let turn = Arc::clone(&self.0.reads).acquire_owned().await.map_err(|_| RollError::Closed)?;
        let shared = Arc::clone(&self.0.shared);
        let done = tokio::task::spawn_blocking(move || {
            let _turn = turn;
            work(&shared).map_err(|error| shared.read_failed(error))
        });
        match done.await {
            Ok(done) => done,
            Err(error) if error.is_cancelled() => Err(RollError::Closed),
            Err(_) => Err(self.shared().gone()),
        }
    }
}

fn intent_item(intent: Intent, may_wait: bool) -> Result<Prepared<IntentReply>, RollError> {
    let record = intent.encode();
    let bytes = record.len();
    if bytes > LEAF_BYTES_MAX - OUTCOME_BYTES_EXTRA {
        // Its outcome might not fit a leaf, and an intent without outcome is what must not be.
        return Err(RollError::TooLarge(bytes + OUTCOME_BYTES_EXTRA));
    }
    let tag = Hash::of(&[&record]);
    let parts = intent.parts();
    let replay = parts.replay.as_ref().map(|replay| Replay::new(&parts.principal, replay));
    let (reply, answer) = oneshot::channel();
    let item = IntentItem { intent, record, tag, replay, may_wait, reply };
    Ok((Item::Intent(Box::new(item)), bytes, answer))
}

fn outcome_item(outcome: &Outcome, may_be_open: bool) -> Prepared<Reply<OutcomeKind>> {
    let (reply, answer) = oneshot::channel();
    let item = OutcomeItem::new(outcome, may_be_open, reply);
    let bytes = draft_bytes(&item.draft);
    (Item::Outcome(Box::new(item)), bytes, answer)
}

fn event_item(draft: EventDraft, replay: Option<(PrincipalName, ReplayKey)>) -> Prepared<Reply<EventKind>> {
    let (reply, answer) = oneshot::channel();
    let bytes = draft_bytes(&draft);
    let replay = replay.map(|(principal, replay)| Replay::new(&principal, &replay));
    (Item::Event(Box::new(EventItem { draft, replay, reply })), bytes, answer)
}

fn draft_bytes(draft: &EventDraft) -> usize {
    let metadata = draft.metadata.as_ref().map_or(0, |metadata| metadata.as_bytes().len());
    draft.payload.as_bytes().len() + metadata + ENVELOPE_BYTES
}
