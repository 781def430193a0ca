//! Holds the live store and the archive against each other, and both against what the ledger key signed.
//!
//! Everything is read again and computed anew by the second SHA-256: each leaf with its place in its stream, each tile of
//! every level, the root at each recorded and each archived checkpoint, what stands beside the tree, each archived object.
//! Where two copies differ, the signed checkpoint that covers them says which is right; where none does, nothing is
//! claimed.
//!
//! Promises: nothing is ever written to the store; heads that differ are for [`Heads::derive_again`](crate::Heads). With
//! [`CheckOptions::repair`] an object that the archive lacks is put there, create-only, if and only if its content follows
//! from a signed checkpoint; nothing is overwritten but a newest checkpoint that is older than it must be, and nothing that
//! is beyond the ledger is touched. Memory is bounded whatever the ledger's size (`proof.rs`, `chains.rs`).
//!
//! | file | promises |
//! |---|---|
//! | `findings.rs` | the vocabulary, bounded lists, the verdict |
//! | `proof.rs` | which copy of the leaves is the signed one |
//! | `walk.rs` | one pass over the leaves, tile by tile, up to each signed root |
//! | `heads.rs` | what each checkpoint and each archive epoch says, and whether it is signed |
//! | `chains.rs` | each leaf by itself and in its stream |
//! | `chain_heads.rs` | heads of streams and keys, and where keys were used: derived again |
//! | `beside.rs` | intents, stream heads, high-water marks, registry versions |
//! | `objects.rs` | archived objects: compared, missing, shipped again, beyond the ledger |
//! | `shown.rs` | what others follow the archive by: partial tiles, the newest checkpoint; and cosigned checkpoints |
//!
//! It reads beside the writer of a running daemon ([`Roll::check_blocking`]), or opens the database read-only, under the
//! ledger's own lock, while the daemon is stopped ([`check_closed`]).

mod beside;
mod chain_heads;
mod chains;
mod findings;
mod heads;
mod objects;
mod progress;
mod proof;
mod shown;
mod walk;

use std::path::Path;

use chancery_format::ledger_keys::LedgerKeys;
use chancery_format::{Hash, Origin, TreeHead};

use crate::archive::{Archive, ArchiveError};
use crate::options::RollLimits;
use crate::recovery::{self, OpenError};
use crate::roll::Roll;
use crate::store::{Store, StoreError};

pub use findings::{CheckReport, Counts, FINDINGS_MAX, Finding, Kind, REPAIRED_NAMES_MAX, Side, Verdict};
pub use progress::CheckProgress;

/// What is checked against what.
pub struct CheckOptions<'a> {
    /// Whose checkpoints count.
    pub keys: &'a LedgerKeys,
    /// The archive; `None`: the store alone.
    pub archive: Option<&'a dyn Archive>,
    /// Epochs that were shipped, if a shipper runs and says so. Otherwise the plan says it, but for the last epoch, of
    /// which the archive says whether it was finished.
    pub epochs: Option<u64>,
    /// Whether the archive is to be a static log: then it shows its newest checkpoint, and has the partial tiles of that.
    pub static_log: bool,
    /// Whether to put into the archive what it lacks and a signed checkpoint proves.
    pub repair: bool,
    /// How far it is.
    pub progress: &'a CheckProgress,
}

/// Why a check gave no report. What was repaired until then stays; a check can always be made again.
#[derive(Debug, thiserror::Error)]
pub enum CheckError {
    /// It was told to end.
    #[error("the check was ended before its end")]
    Cancelled,
    /// The archive cannot be reached. Retry later.
    #[error(transparent)]
    Archive(ArchiveError),
    /// The ledger could not be opened: it is in use, or is none.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// The database does not even tell its head.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// More entries than can be kept in mind follow no signed root, or too many are in dispute.
    #[error("no signed checkpoint decides about the {0} entries before this one: too many to go on")]
    Undecidable(u64),
}

impl Roll {
    /// Checks this ledger while it is in use. Blocks for as long as reading all of it takes; signing goes on.
    pub fn check_blocking(&self, options: &CheckOptions<'_>) -> Result<CheckReport, CheckError> {
        let shared = self.shared();
        Check::begin(&shared.store, &shared.origin, (shared.dir(), &shared.limits), options)?.run()
    }
}

/// Checks a ledger that no daemon has open. Takes the ledger's lock, and opens the database read-only.
pub fn check_closed(
    dir: &Path,
    origin: &Origin,
    limits: &RollLimits,
    options: &CheckOptions<'_>,
) -> Result<CheckReport, CheckError> {
    let (store, _lock) = recovery::open_read_only(dir, origin, limits)?;
    Check::begin(&store, origin, (dir, limits), options)?.run()
}

/// A check under way.
struct Check<'a> {
    store: &'a Store,
    origin: &'a Origin,
    origin_tag: [u8; 6],
    options: &'a CheckOptions<'a>,
    /// What is checked: what is enrolled later is not looked at.
    head: TreeHead,
    streams: u64,
    /// The high-water marks that can be read, read before the head.
    marks: Vec<TreeHead>,
    /// Epochs that the archive must have.
    epochs: u64,
    /// Entries under the last of them.
    archived: u64,
    report: CheckReport,
    proof: proof::Proof,
    chains: chains::Chains,
    derived: chain_heads::Derived,
    /// Registry versions that leaves published, until a signed root covers these.
    published: Vec<beside::Publication>,
    /// Findings about archived objects that are not repaired.
    archive_wrong: u64,
    /// Signed roots in a row that nothing led to, and the first of all.
    unmatched: u64,
    first_unmatched: Option<u64>,
    /// The nodes of one tile, as the store has them: partial tiles of one place are listed one after the other.
    edge: shown::Edge,
}

impl<'a> Check<'a> {
    fn begin(
        store: &'a Store,
        origin: &'a Origin,
        (dir, limits): (&Path, &RollLimits),
        options: &'a CheckOptions<'a>,
    ) -> Result<Self, CheckError> {
        // In this order: whatever is said first is covered by what is read later.
        let planned = store.last_epoch()?;
        let derived = chain_heads::Derived::begin(store, limits.heads_names_max);
        let marks = crate::high_water::HighWater::peek(&recovery::high_water_of(dir));
        let head = store.head()?;
        let (head, streams) = head.ok_or_else(|| StoreError::Corrupt("the tree head is missing".into()))?;
        let [a, b, c, d, e, f, ..] = Hash::of(&[origin.as_str().as_bytes()]).0;
        let mut check = Self {
            store,
            origin,
            origin_tag: [a, b, c, d, e, f],
            options,
            head,
            streams,
            marks: Vec::new(),
            epochs: 0,
            archived: 0,
            report: CheckReport::new(head),
            proof: proof::Proof::default(),
            chains: chains::Chains::default(),
            derived,
            published: Vec::new(),
            archive_wrong: 0,
            unmatched: 0,
            first_unmatched: None,
            edge: shown::Edge::default(),
        };
        check.take_marks(marks);
        check.find_shipped(planned)?;
        options.progress.begin(head.size.0);
        Ok(check)
    }

    fn run(mut self) -> Result<CheckReport, CheckError> {
        self.walk()?;
        self.end_heads()?;
        self.check_stream_heads()?;
        self.check_intents()?;
        self.look_beyond()?;
        self.check_shown()?;
        Ok(self.report)
    }

    fn found(&mut self, finding: Finding) {
        if finding.side == Side::Archive && !finding.repaired {
            self.archive_wrong += 1;
        }
        self.report.add(finding);
    }

    fn go_on(&self) -> Result<(), CheckError> {
        if self.options.progress.is_cancelled() { Err(CheckError::Cancelled) } else { Ok(()) }
    }
}
