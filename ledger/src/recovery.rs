//! Making a ledger, and opening one: what is checked before anything is believed.
//!
//! Opening rebuilds the partial tiles from full tiles and the last leaves, recomputes the root and compares
//! it with the stored head; compares that head with the high-water mark; and closes every intent without
//! outcome through the writer's own commit function. A roll that fails one of these is not opened: the
//! operator restores a copy, or asks why the disk changed under us.
//!
//! ```text
//! DIR/lock         held by the process that has the ledger open
//! DIR/high_water   the last acknowledged head, see high_water.rs
//! DIR/db/          RocksDB
//! ```

use std::fs::{File, TryLockError};
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use chancery_format::chain::Dialect;
use chancery_format::merkle::{Frontier, NodeSource, empty_root, leaf_hash};
use chancery_format::tile::{self, TileTail, WIDTH};
use chancery_format::{
    AuditEvent, DurableHead, Hash, Intent, LeafIndex, Origin, Outcome, StreamName, TreeHead, TreeSize,
};
use tokio::sync::oneshot;

use crate::high_water::HighWater;
use crate::intents::OpenIntents;
use crate::layout::{self, ChainHead};
use crate::options::{RollLimits, RollOptions};
use crate::read::Reader;
use crate::replay::Flights;
use crate::roll::{Roll, StoredCheckpoint};
use crate::sequencer::{Batch, EventItem, Fatal, LeafItem, OutcomeItem, Record, RecordItem, Sequencer};
use crate::shared::{Shared, View};
use crate::store::{Store, StoreError};
use crate::streams::Streams;
use crate::tile_trees::TileTrees;

/// Why a ledger was not made or not opened. Nothing was changed, unless the variant says so.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The directory was not made by [`Roll::create`]. The operator names another, or creates one.
    #[error("{0} is not a ledger; create one explicitly")]
    NotALedger(PathBuf),
    /// Creation ended half way. Nothing was ever enrolled: the operator removes the directory.
    #[error("{0} was not created completely; remove it and create it again")]
    HalfCreated(PathBuf),
    /// There is something in the directory. Creating never overwrites.
    #[error("{0} exists and is not empty; a ledger is never overwritten")]
    Exists(PathBuf),
    /// Another process has the ledger open.
    #[error("{0} is in use by another process")]
    Locked(PathBuf),
    /// The ledger belongs to another origin. The configuration is wrong, or the disk is.
    #[error("the ledger is of origin {found}, not {configured}")]
    OtherOrigin {
        /// What the ledger says.
        found: String,
        /// What was asked for.
        configured: String,
    },
    /// Written by another version of this program.
    #[error("the ledger has format {0}, which this version does not know")]
    UnknownFormat(u64),
    /// Acknowledged entries are gone: the log was damaged, or part of the directory was restored. The
    /// archive has them up to its last epoch.
    #[error("the ledger ends at {found} entries, but {acknowledged} were acknowledged")]
    LostEntries {
        /// Entries found.
        found: TreeSize,
        /// Entries acknowledged.
        acknowledged: TreeSize,
    },
    /// A stream's chain has begun in another dialect. The configuration is at fault.
    #[error("stream {stream} has a chain of dialect {begun}, not of {configured}; a chain keeps its dialect")]
    OtherDialect {
        /// Whose chain it is.
        stream: StreamName,
        /// What it is.
        begun: Dialect,
        /// What was asked for.
        configured: Dialect,
    },
    /// What is stored does not hold together. Restore a copy.
    #[error("the ledger is corrupt: {0}")]
    Corrupt(String),
    /// The database could not be opened or read.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A file beside the database could not be read or written.
    #[error("{0}: {1}")]
    Io(PathBuf, io::Error),
    /// Recovery could not write. Some open intents may have been closed, which is harmless.
    #[error("recovery: {0}")]
    Fatal(Fatal),
}

impl From<Fatal> for OpenError {
    fn from(fatal: Fatal) -> Self {
        match fatal {
            Fatal::Store(error @ (StoreError::Read(_) | StoreError::Corrupt(_))) => Self::Store(error),
            Fatal::Tree(error) => Self::Corrupt(error.to_string()),
            other => Self::Fatal(other),
        }
    }
}

/// What opening found and did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Recovered {
    /// The head as found, before open intents were closed.
    pub head: TreeHead,
    /// Leaves that close intents a crash left open: keys that may have been used without a record.
    pub abandoned: Vec<LeafIndex>,
    /// The newest recorded checkpoint.
    pub checkpoint: Option<StoredCheckpoint>,
}

struct Paths {
    lock: PathBuf,
    high_water: PathBuf,
    database: PathBuf,
}

impl Paths {
    fn of(dir: &Path) -> Self {
        Self { lock: dir.join("lock"), high_water: dir.join("high_water"), database: dir.join("db") }
    }
}

fn at(path: &Path) -> impl Fn(io::Error) -> OpenError {
    |error| OpenError::Io(path.to_owned(), error)
}

/// The file of the high-water mark.
pub(crate) fn high_water_of(dir: &Path) -> PathBuf {
    Paths::of(dir).high_water
}

/// Opens the database of a ledger that nobody else has open, to read it. The file is the lock.
pub(crate) fn open_read_only(
    dir: &Path,
    origin: &Origin,
    limits: &RollLimits,
) -> Result<(Store, File), OpenError> {
    let paths = Paths::of(dir);
    if !paths.lock.is_file() || !paths.database.join("CURRENT").is_file() {
        return Err(OpenError::NotALedger(dir.to_owned()));
    }
    let file = File::options().write(true).open(&paths.lock).map_err(at(&paths.lock))?;
    let lock = locked(file, dir, &paths.lock)?;
    let store = Store::open_read_only(&paths.database, limits)?;
    check_identity(&store, dir, origin)?;
    Ok((store, lock))
}

/// See [`Roll::create`].
pub(crate) fn create(options: &RollOptions) -> Result<Roll, OpenError> {
    let dir = options.dir.as_path();
    make_empty_dir(dir)?;
    let paths = Paths::of(dir);
    let file = File::create_new(&paths.lock).map_err(at(&paths.lock))?;
    let lock = locked(file, dir, &paths.lock)?;
    let head = TreeHead { size: TreeSize(0), root: empty_root() };
    let high_water = HighWater::create(&paths.high_water, head).map_err(at(&paths.high_water))?;
    let store = Store::open(&paths.database, true, &options.limits, Arc::clone(&options.disk))?;

    let view = View { head: DurableHead::after_sync(head), tail: TileTail::new() };
    let shared = Arc::new(Shared::new(options, store, lock, view, None));
    let streams = Streams::new(0, options.limits.streams_cached, Arc::clone(&options.chains));
    let mut sequencer = writer(options, shared, Frontier::new(), TileTail::new(), streams, high_water);
    sequencer.commit_batch(&mut genesis(options))?;
    sync_dir(dir)?;
    if let Some(parent) = dir.parent().filter(|parent| !parent.as_os_str().is_empty()) {
        sync_dir(parent)?;
    }
    start(sequencer)
}

/// See [`Roll::open`].
pub(crate) fn open(options: &RollOptions) -> Result<(Roll, Recovered), OpenError> {
    let dir = options.dir.as_path();
    let paths = Paths::of(dir);
    let known = [&paths.lock, &paths.high_water].iter().all(|path| path.is_file());
    if !known || !paths.database.join("CURRENT").is_file() {
        return Err(OpenError::NotALedger(dir.to_owned()));
    }
    let file = File::options().write(true).open(&paths.lock).map_err(at(&paths.lock))?;
    let lock = locked(file, dir, &paths.lock)?;
    let mark = HighWater::open(&paths.high_water).map_err(at(&paths.high_water))?;
    let (high_water, acknowledged) =
        mark.ok_or_else(|| OpenError::Corrupt("both high-water marks are damaged".into()))?;
    let store = Store::open(&paths.database, false, &options.limits, Arc::clone(&options.disk))?;
    check_identity(&store, dir, &options.origin)?;

    let (head, stream_count) =
        store.head()?.ok_or_else(|| OpenError::Corrupt("the tree head is missing".into()))?;
    check_nothing_lost(&store, head, acknowledged)?;
    let view = rebuild(&store, head, acknowledged)?;
    check_streams(&store, head)?;
    check_chains(&store, options)?;
    let checkpoint = store.last_checkpoint()?.map(StoredCheckpoint::new);
    if checkpoint.as_ref().is_some_and(|checkpoint| checkpoint.size > head.size) {
        return Err(OpenError::Corrupt("a checkpoint is ahead of the tree".into()));
    }
    if store.cose_head()?.is_some_and(|signed| signed.statement().size > head.size) {
        return Err(OpenError::Corrupt("a head for COSE receipts is ahead of the tree".into()));
    }

    let (frontier, tail) = (frontier(&store, &view)?, view.tail.clone());
    let shared = Arc::new(Shared::new(options, store, lock, view, checkpoint.clone()));
    let streams = Streams::new(stream_count, options.limits.streams_cached, Arc::clone(&options.chains));
    let mut sequencer = writer(options, shared, frontier, tail, streams, high_water);
    let abandoned = close_open_intents(&mut sequencer)?;
    Ok((start(sequencer)?, Recovered { head, abandoned, checkpoint }))
}

fn make_empty_dir(dir: &Path) -> Result<(), OpenError> {
    match std::fs::create_dir(dir) {
        Ok(()) => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            let mut entries = std::fs::read_dir(dir).map_err(at(dir))?;
            if entries.next().is_none() { Ok(()) } else { Err(OpenError::Exists(dir.to_owned())) }
        }
        Err(error) => Err(at(dir)(error)),
    }
}

fn locked(file: File, dir: &Path, path: &Path) -> Result<File, OpenError> {
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(OpenError::Locked(dir.to_owned())),
        Err(TryLockError::Error(error)) => Err(at(path)(error)),
    }
}

fn sync_dir(dir: &Path) -> Result<(), OpenError> {
    File::open(dir).and_then(|dir| dir.sync_all()).map_err(at(dir))
}

fn check_identity(store: &Store, dir: &Path, configured: &Origin) -> Result<(), OpenError> {
    let (Some(format), Some(origin)) = (store.format()?, store.origin()?) else {
        return Err(OpenError::HalfCreated(dir.to_owned()));
    };
    if format != layout::FORMAT {
        return Err(OpenError::UnknownFormat(format));
    }
    if origin != configured.as_str() {
        return Err(OpenError::OtherOrigin { found: origin, configured: configured.to_string() });
    }
    Ok(())
}

/// The log must reach as far as anybody was told, and no entry may stand beyond the head.
fn check_nothing_lost(store: &Store, head: TreeHead, acknowledged: TreeHead) -> Result<(), OpenError> {
    if head.size < acknowledged.size {
        return Err(OpenError::LostEntries { found: head.size, acknowledged: acknowledged.size });
    }
    if store.last_index()?.map_or(0, |last| last + 1) != head.size.0 {
        return Err(OpenError::Corrupt("the entries do not end at the tree head".into()));
    }
    Ok(())
}

/// Rebuilds the partial tiles and checks that they lead to the stored root, and to the acknowledged one.
fn rebuild(store: &Store, head: TreeHead, acknowledged: TreeHead) -> Result<View, OpenError> {
    let size = head.size.0;
    let mut tail = TileTail::new();
    for level in 0..tile::LEVELS {
        let full = tile::full_tiles(level, size);
        let width = tile::partial_width(level, size).map_or(0, u64::from);
        tail.resume(level, full);
        for node in tail_nodes(store, level, full * WIDTH, width)? {
            tail.push(level, node);
        }
    }
    if !tail.is_at(size) {
        return Err(OpenError::Corrupt("the partial tiles do not fit the tree's size".into()));
    }
    let view = View { head: DurableHead::after_sync(head), tail };
    let trees = TileTrees::new(usize::from(tile::LEVELS));
    let reader = Reader::new(store, &trees, Arc::new(view.clone()), [0; 6]);
    let root = reader.root_at(head.size)?;
    if root != head.root {
        return Err(OpenError::Corrupt(format!(
            "the entries lead to root {root}, the head of {size} entries says {}",
            head.root
        )));
    }
    if reader.root_at(acknowledged.size)? != acknowledged.root {
        return Err(OpenError::Corrupt("the tree does not begin with the one acknowledged".into()));
    }
    Ok(view)
}

/// The nodes of a tile level from `first` on: leaf hashes, or roots of the full tiles below.
fn tail_nodes(store: &Store, level: u8, first: u64, width: u64) -> Result<Vec<Hash>, StoreError> {
    if level == 0 {
        let leaves = store.leaves(first, width as usize)?;
        return Ok(leaves.iter().map(|leaf| leaf_hash(leaf)).collect());
    }
    (first..first + width)
        .map(|number| {
            let hashes = store.tile(level - 1, number)?;
            let damaged = || StoreError::Corrupt(format!("tile {}/{number} is damaged", level - 1));
            tile::tile_root(&hashes).ok_or_else(damaged)
        })
        .collect()
}

/// The complete nodes on the right edge, from which the tree grows on.
fn frontier(store: &Store, view: &View) -> Result<Frontier, OpenError> {
    let size = view.head.head().size;
    let trees = TileTrees::new(usize::from(tile::LEVELS));
    let reader = Reader::new(store, &trees, Arc::new(view.clone()), [0; 6]);
    let levels = (0..64u8).rev().filter(|level| size.0 >> level & 1 == 1);
    let nodes =
        levels.map(|level| reader.node(level, (size.0 >> level) - 1)).collect::<Result<Vec<_>, _>>()?;
    Frontier::from_parts(size, nodes).map_err(|error| OpenError::Corrupt(error.to_string()))
}

/// The last leaves must be where their streams say they are.
fn check_streams(store: &Store, head: TreeHead) -> Result<(), OpenError> {
    let width = tile::partial_width(0, head.size.0).map_or(0, u64::from);
    let first = head.size.0 - width;
    let mut last = std::collections::HashMap::new();
    let leaves = store.leaves(first, width as usize)?;
    for (index, leaf) in (first..).zip(&leaves) {
        let event =
            AuditEvent::parse(leaf).map_err(|error| OpenError::Corrupt(format!("{index}: {error}")))?;
        let chain = event.chain.map(|link| ChainHead::of(&link, event.ts));
        last.insert(event.stream, (event.seq, event.hash, LeafIndex(index), chain));
    }
    for (name, (seq, hash, index, chain)) in last {
        let bad = || OpenError::Corrupt(format!("stream {name} does not end at its last entry"));
        let stream: StreamName = name.parse().map_err(|_| bad())?;
        let head = store.stream(&stream)?.ok_or_else(bad)?;
        if (head.next_seq, head.hash, head.last_index, head.chain) != (seq + 1, hash, index, chain) {
            return Err(bad());
        }
    }
    Ok(())
}

/// A chain that has begun keeps its dialect.
fn check_chains(store: &Store, options: &RollOptions) -> Result<(), OpenError> {
    for (stream, after) in &*options.chains {
        let begun = store.stream(stream)?.and_then(|head| head.chain).map(|chain| chain.dialect);
        if let Some(begun) = begun.filter(|begun| *begun != after.dialect) {
            return Err(OpenError::OtherDialect { stream: stream.clone(), begun, configured: after.dialect });
        }
    }
    Ok(())
}

fn writer(
    options: &RollOptions,
    shared: Arc<Shared>,
    frontier: Frontier,
    tail: TileTail,
    streams: Streams,
    high_water: HighWater,
) -> Sequencer {
    Sequencer {
        shared,
        frontier,
        tail,
        streams,
        intents: OpenIntents::default(),
        flights: Flights::default(),
        high_water,
        clock: Arc::clone(&options.clock),
        sync: options.sync,
        orphans: Vec::new(),
    }
}

/// The first batch of a ledger: its identity and its first entry.
fn genesis(options: &RollOptions) -> Batch {
    let draft = chancery_format::entry::ledger_opened(&options.origin);
    let event = EventItem { draft, replay: None, reply: oneshot::channel().0 };
    let record = Record::Genesis { origin: options.origin.to_string() };
    Batch {
        leaves: vec![LeafItem::Event(Box::new(event))],
        intents: Vec::new(),
        records: vec![RecordItem { record, reply: oneshot::channel().0 }],
    }
}

/// Every intent without outcome becomes an abandoned leaf, a batch at a time, as a running writer would
/// write it. A crash in the middle leaves fewer open intents for the next start.
fn close_open_intents(sequencer: &mut Sequencer) -> Result<Vec<LeafIndex>, OpenError> {
    let mut abandoned = Vec::new();
    let limit = sequencer.shared.limits.batch_entries_max;
    loop {
        // Each round removes what it read, so the next one starts at the front again.
        let open = sequencer.shared.store.intents(0, limit)?;
        if open.is_empty() {
            return Ok(abandoned);
        }
        let mut batch = Batch::default();
        for (number, record) in open {
            let bad = || OpenError::Corrupt(format!("open intent {number} cannot be read"));
            let outcome = Outcome::abandoned(Intent::decode(&record).ok_or_else(bad)?);
            let tag = Hash::of(&[&record]);
            sequencer.intents.reopen(number, tag);
            let item = OutcomeItem::new(&outcome, false, oneshot::channel().0);
            let closes = sequencer.intents.close(tag);
            batch.leaves.push(LeafItem::Outcome { item: Box::new(item), closes });
        }
        let first = sequencer.frontier.size().0;
        sequencer.commit_batch(&mut batch)?;
        let closed = sequencer.frontier.size().0;
        if closed == first {
            return Err(OpenError::Corrupt("open intents cannot be closed".into()));
        }
        abandoned.extend((first..closed).map(LeafIndex));
    }
}

/// Gives the writer its thread.
fn start(sequencer: Sequencer) -> Result<Roll, OpenError> {
    let shared = Arc::clone(&sequencer.shared);
    // `Shared::enqueue` bounds calls to the first part; outcomes of open intents may fill the second.
    let limits = &shared.limits;
    let (calls, waiting) = crossbeam_channel::bounded(limits.queue + limits.open_intents_max);
    let watched = Arc::clone(&shared);
    let run = move || {
        // Nothing the panic left half done is looked at again: the roll is dead.
        let ended = catch_unwind(AssertUnwindSafe(|| sequencer.run(&waiting)));
        if ended.is_err() {
            watched.die(Fatal::Panicked);
        }
    };
    let spawned = std::thread::Builder::new().name("ledger-writer".into()).spawn(run);
    let thread = spawned.map_err(|error| OpenError::Io(PathBuf::from("thread ledger-writer"), error))?;
    Ok(Roll::new(shared, calls, thread))
}
