//! What a roll is opened with: where, whose, how much of everything, and the outside world.
//!
//! Every bound of this crate stands here with its unit and reason. Clock and disk come from outside, so
//! that tests can hold the one and break the other.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;

use chancery_format::chain::After;
use chancery_format::{Kid, Origin, StreamName, Timestamp};

use crate::disk::{Disk, RealDisk};
use crate::sequencer::Fatal;

/// Where the ledger's own times come from.
pub trait Clock: Send + Sync {
    /// Now, in UTC.
    fn now(&self) -> Timestamp;
}

/// Told once that the roll can write no more; the daemon ends the process here.
///
/// It is called on whatever thread found out, usually the writer's, when every call is bound to be answered
/// with [`RollError::Fatal`](crate::RollError::Fatal). It must not call the roll and wait.
pub type OnFatal = Arc<dyn Fn(&Fatal) + Send + Sync>;

/// Whether a commit waits for the disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SyncMode {
    /// Every batch is synced before anyone is told: the only mode a service may use.
    On,
    /// Batches stay in the page cache. Measures what a sync costs; keeps no promise.
    OffForBenchmark,
}

/// The bounds of a roll. Defaults suit a machine of two cores and one ordinary disk.
#[derive(Debug, Clone)]
pub struct RollLimits {
    /// Calls that may wait for the writer; one more is refused as overloaded. 4096.
    pub queue: usize,
    /// Bytes those calls may hold together, so that full-size leaves cannot fill memory. 64 MiB.
    pub queue_bytes_max: usize,
    /// Entries of one batch, and so of one call: bounds how long a commit takes. 1024.
    pub batch_entries_max: usize,
    /// Bytes of one batch, and so of one call. 16 MiB.
    pub batch_bytes_max: usize,
    /// Free disk space below which new events and intents are refused while outcomes of open intents
    /// still pass. It must hold what those outcomes, a flush of all write buffers and a compaction may
    /// write. 1 GiB.
    pub reserve_bytes: u64,
    /// Stream heads kept in memory: twice this many at most; others are read from disk. 16384.
    pub streams_cached: usize,
    /// Intents without outcome at one time; one more is refused as overloaded. 16384.
    pub open_intents_max: usize,
    /// Calls that may wait for another call with the same idempotency key. 16.
    pub waiters_per_key_max: usize,
    /// Reads that run at one time, each on a blocking thread; others wait. 32.
    pub reads_max: usize,
    /// Leaves of one page of a stream. 1000.
    pub page_entries_max: usize,
    /// Tiles whose inner nodes are kept in memory for proofs, 16 KiB each: those of the last few thousand
    /// entries, and of the edge above them. 64.
    pub tile_trees_max: usize,
    /// Streams and keys whose heads are kept in memory, about 250 bytes each. Beyond it none are enrolled. 500,000.
    pub heads_names_max: usize,
    /// Bytes of all write buffers together. Small enough to be reached within the first hundred thousand
    /// entries, so that memory does not grow afterwards. 32 MiB.
    pub write_buffer_bytes: usize,
    /// Bytes of the cache of blocks, indexes and filters. Small, so that it is full early and memory does
    /// not grow afterwards; behind it stands the system's page cache. 4 MiB.
    pub block_cache_bytes: usize,
    /// Table files held open. 256.
    pub open_files_max: i32,
}

impl Default for RollLimits {
    fn default() -> Self {
        Self {
            queue: 4096,
            queue_bytes_max: 64 << 20,
            batch_entries_max: 1024,
            batch_bytes_max: 16 << 20,
            reserve_bytes: 1 << 30,
            streams_cached: 16_384,
            open_intents_max: 16_384,
            waiters_per_key_max: 16,
            reads_max: 32,
            page_entries_max: 1000,
            tile_trees_max: 64,
            heads_names_max: 500_000,
            write_buffer_bytes: 32 << 20,
            block_cache_bytes: 4 << 20,
            open_files_max: 256,
        }
    }
}

/// Everything a roll is opened with.
#[derive(Clone)]
pub struct RollOptions {
    /// The ledger's directory; made by [`Roll::create`](crate::Roll::create), never by opening.
    pub dir: PathBuf,
    /// Whose ledger this is. Opening a directory of another origin is refused.
    pub origin: Origin,
    /// The key under whose checkpoints new leaves stand.
    pub signer_kid: Kid,
    /// Bounds.
    pub limits: RollLimits,
    /// Whether commits wait for the disk.
    pub sync: SyncMode,
    /// Where `ts` comes from when an author gives none.
    pub clock: Arc<dyn Clock>,
    /// Streams that are set to a dialect, and where their chains go on from. A chain that has begun goes on where it
    /// stands; another dialect for it is refused at opening.
    pub chains: Arc<HashMap<StreamName, After>>,
    /// Called when the roll can go on no longer.
    pub on_fatal: OnFatal,
    /// The disk; something else only in tests.
    pub disk: Arc<dyn Disk>,
}

impl RollOptions {
    /// Synced, default bounds, the real disk.
    pub fn new(
        dir: impl Into<PathBuf>,
        origin: Origin,
        signer_kid: Kid,
        clock: Arc<dyn Clock>,
        on_fatal: OnFatal,
    ) -> Self {
        Self {
            dir: dir.into(),
            origin,
            signer_kid,
            limits: RollLimits::default(),
            sync: SyncMode::On,
            clock,
            chains: Arc::default(),
            on_fatal,
            disk: Arc::new(RealDisk),
        }
    }
}

impl std::fmt::Debug for RollOptions {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RollOptions")
            .field("dir", &self.dir)
            .field("origin", &self.origin)
            .field("signer_kid", &self.signer_kid)
            .field("limits", &self.limits)
            .field("sync", &self.sync)
            .finish_non_exhaustive()
    }
}
