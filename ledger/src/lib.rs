//! The ledger: one append-only roll of events on RocksDB, and the archive it is copied to.
//!
//! It promises that what [`Roll`] returns is on disk and proven under the head on disk; that a stream never
//! forks; that an idempotency key has one answer; that a crash at any point leaves either nothing or a
//! record. It refuses to open a directory it did not make, one in use, one of another origin, and one that
//! lost entries it had acknowledged. It knows nothing of keys, networks or people.
//!
//! | file | promises |
//! |---|---|
//! | `roll.rs` | the handle everyone else uses: enrol, record, read |
//! | `sequencer.rs` | the one writer; `commit_batch` is the only way to disk |
//! | `admit.rs` | what may enter a batch: space, open intents, idempotency keys, ids |
//! | `replay.rs` | idempotency: one key, one request, one answer |
//! | `intents.rs`, `streams.rs` | what the writer remembers between batches |
//! | `recovery.rs` | making and opening a ledger; closing what a crash left open |
//! | `high_water.rs` | notices if acknowledged entries are gone |
//! | `read.rs` | leaves, tiles, bundles, proofs and roots at any size |
//! | `store.rs`, `layout.rs` | RocksDB; the bytes of every row |
//! | `options.rs`, `disk.rs`, `shared.rs` | bounds, clock and disk from outside; what threads share |
//! | `archive.rs`, `directory_archive.rs` | write-once objects, and a directory of them |
//! | `second_opinion.rs` | reads back and computes anew what the ledger key is about to sign |
//! | `heads.rs` | how many entries each stream and each key has: kept, enrolled, proven |
//! | `check.rs`, `check/` | holds store, archive and signed checkpoints against each other; ships again what is missing |
//! | `shipper.rs`, `epochs.rs` | copies the roll to the archive, epoch by epoch; compares the two at start |
//!
//! Follow a signature: `Roll::enrol_intent` → `Sequencer::commit_batch` → the key, elsewhere →
//! `Roll::enrol_outcome` → `commit_batch` again → `Committed`, the only thing a signature is read from.

mod admit;
pub mod archive;
pub mod check;
mod directory_archive;
mod disk;
mod epochs;
mod heads;
mod high_water;
mod intents;
mod layout;
mod options;
mod read;
mod recovery;
mod replay;
mod roll;
mod second_opinion;
mod sequencer;
mod shared;
mod shipper;
mod store;
mod streams;
mod tile_trees;

pub use archive::{Archive, ArchiveError, Protection, Put};
pub use check::{CheckError, CheckOptions, CheckProgress, CheckReport, check_closed};
pub use directory_archive::DirectoryArchive;
pub use disk::{Disk, DiskError, RealDisk};
pub use heads::{EnrolledAt, Heads, HeadsOutcome, ProvenHead};
pub use layout::StreamHead;
pub use options::{Clock, OnFatal, RollLimits, RollOptions, SyncMode};
pub use recovery::{OpenError, Recovered};
pub use roll::{Enrolled, RegistrySnapshot, Roll, RollError, StoredCheckpoint, StoredLeaf};
pub use second_opinion::SecondOpinion;
pub use sequencer::Fatal;
pub use shipper::{Lag, ShipError, Shipper, ShipperOptions, ShipperStatus};
pub use store::StoreError;
