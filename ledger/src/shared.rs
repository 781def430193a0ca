//! What the writer, its callers and readers share: the store, the last proven head, and whether it is over.

use std::fs::File;
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock, PoisonError, RwLock};

use chancery_format::tile::TileTail;
use chancery_format::{DurableHead, Hash, Kid, Origin};
use tokio::sync::watch;

use crate::disk::Disk;
use crate::options::{OnFatal, RollLimits, RollOptions};
use crate::read::Reader;
use crate::roll::{RollError, StoredCheckpoint};
use crate::sequencer::Fatal;
use crate::store::{Store, StoreError};
use crate::tile_trees::TileTrees;

/// A head together with the partial tiles of its tree: all a reader needs besides what is on disk.
#[derive(Debug, Clone)]
pub(crate) struct View {
    pub(crate) head: DurableHead,
    pub(crate) tail: TileTail,
}

/// See the module.
pub(crate) struct Shared {
    pub(crate) store: Store,
    pub(crate) origin: Origin,
    /// First bytes of the origin's hash: part of every id the ledger makes.
    pub(crate) origin_tag: [u8; 6],
    pub(crate) limits: RollLimits,
    /// Calls that wait for the writer.
    pub(crate) queued_calls: AtomicUsize,
    /// Bytes they hold.
    pub(crate) queued_bytes: AtomicUsize,
    /// Intents without outcome.
    pub(crate) open_intents: AtomicUsize,
    /// The ledger key that leaves name from here on.
    pub(crate) signer_kid: RwLock<Kid>,
    dir: PathBuf,
    disk: Arc<dyn Disk>,
    fatal: OnceLock<Arc<Fatal>>,
    on_fatal: OnFatal,
    head: watch::Sender<DurableHead>,
    checkpoint: watch::Sender<Option<StoredCheckpoint>>,
    view: RwLock<Arc<View>>,
    trees: TileTrees,
    /// Held as long as anybody can reach the store; dropped last.
    _lock: File,
}

impl Shared {
    pub(crate) fn new(
        options: &RollOptions,
        store: Store,
        lock: File,
        view: View,
        checkpoint: Option<StoredCheckpoint>,
    ) -> Self {
        let [a, b, c, d, e, f, ..] = Hash::of(&[options.origin.as_str().as_bytes()]).0;
        Self {
            store,
            origin: options.origin.clone(),
            origin_tag: [a, b, c, d, e, f],
            limits: options.limits.clone(),
            queued_calls: AtomicUsize::new(0),
            queued_bytes: AtomicUsize::new(0),
            open_intents: AtomicUsize::new(0),
            signer_kid: RwLock::new(options.signer_kid.clone()),
            dir: options.dir.clone(),
            disk: Arc::clone(&options.disk),
            fatal: OnceLock::new(),
            on_fatal: Arc::clone(&options.on_fatal),
            head: watch::Sender::new(view.head),
            checkpoint: watch::Sender::new(checkpoint),
            view: RwLock::new(Arc::new(view)),
            trees: TileTrees::new(options.limits.tile_trees_max),
            _lock: lock,
        }
    }

    pub(crate) fn dir(&self) -> &std::path::Path {
        &self.dir
    }

    pub(crate) fn signer_kid(&self) -> Kid {
        self.signer_kid.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(crate) fn set_signer_kid(&self, signer_kid: Kid) {
        *self.signer_kid.write().unwrap_or_else(PoisonError::into_inner) = signer_kid;
    }

    /// Stops the roll for ever. Only the first reason counts.
    pub(crate) fn die(&self, fatal: Fatal) {
        let first = Arc::new(fatal);
        if self.fatal.set(Arc::clone(&first)).is_ok() {
            tracing::error!(cause = %first, "the ledger stops: restart to find out what is on disk");
            (self.on_fatal)(&first);
        }
    }

    /// Stops the roll and hands the reason on. The writer calls it where it finds an error, so that the reason
    /// stands before anybody's answer is dropped on the way out.
    pub(crate) fn stop(&self, reason: impl Into<Fatal>) -> Fatal {
        let fatal = reason.into();
        self.die(fatal.clone());
        fatal
    }

    /// The error of every call from now on, if the roll has stopped.
    pub(crate) fn dead(&self) -> Option<RollError> {
        self.fatal.get().map(|fatal| RollError::Fatal(Arc::clone(fatal)))
    }

    /// What a call whose answer never came is told. As long as anybody holds the roll, its writer ends only
    /// by a fatal error, which is marked before answers are dropped, or by a panic.
    pub(crate) fn gone(&self) -> RollError {
        self.die(Fatal::Panicked);
        self.dead().unwrap_or(RollError::Closed)
    }

    /// What a failed read means: the engine may be asked again, corruption stops the roll.
    pub(crate) fn read_failed(&self, error: Fatal) -> RollError {
        match error {
            Fatal::Store(StoreError::Read(cause)) => RollError::Unreadable(cause),
            corrupt => {
                self.die(corrupt);
                self.gone()
            }
        }
    }

    /// Whether free space is below the reserve. A disk that cannot say counts as full.
    pub(crate) fn disk_is_low(&self) -> bool {
        match self.disk.free_bytes(&self.dir) {
            Ok(free) => free < self.limits.reserve_bytes,
            Err(cause) => {
                tracing::error!(%cause, "free space of the ledger's disk is unknown: treated as full");
                true
            }
        }
    }

    /// Shows readers a new head. The view goes first: who hears of a head can read all of it.
    pub(crate) fn publish(&self, head: DurableHead, tail: &TileTail) {
        let view = Arc::new(View { head, tail: tail.clone() });
        *self.view.write().unwrap_or_else(PoisonError::into_inner) = view;
        self.head.send_replace(head);
    }

    pub(crate) fn publish_checkpoint(&self, checkpoint: StoredCheckpoint) {
        self.checkpoint.send_replace(Some(checkpoint));
    }

    pub(crate) fn head(&self) -> DurableHead {
        *self.head.borrow()
    }

    pub(crate) fn heads(&self) -> watch::Receiver<DurableHead> {
        self.head.subscribe()
    }

    pub(crate) fn latest_checkpoint(&self) -> Option<StoredCheckpoint> {
        self.checkpoint.borrow().clone()
    }

    pub(crate) fn checkpoints(&self) -> watch::Receiver<Option<StoredCheckpoint>> {
        self.checkpoint.subscribe()
    }

    /// Reads the tree as it is now.
    pub(crate) fn reader(&self) -> Reader<'_> {
        let view = Arc::clone(&self.view.read().unwrap_or_else(PoisonError::into_inner));
        Reader::new(&self.store, &self.trees, view, self.origin_tag)
    }

    /// A call leaves the queue.
    pub(crate) fn dequeue(&self, bytes: usize) {
        self.queued_calls.fetch_sub(1, Ordering::Relaxed);
        self.queued_bytes.fetch_sub(bytes, Ordering::Relaxed);
    }

    /// A call enters the queue; `false` if there is no room, unless it `must` enter.
    pub(crate) fn enqueue(&self, bytes: usize, must: bool) -> bool {
        let calls = self.queued_calls.fetch_add(1, Ordering::Relaxed);
        let held = self.queued_bytes.fetch_add(bytes, Ordering::Relaxed);
        let room = calls < self.limits.queue && held + bytes <= self.limits.queue_bytes_max;
        if !room && !must {
            self.dequeue(bytes);
        }
        room || must
    }
}
