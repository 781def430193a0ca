//! Follows a transparency log, keeps a verified copy of it, and serves the copy again (C2SP tlog-tiles).
//!
//! Promises: nothing is written that was not verified first, hash tiles against the signed root and entries against
//! their tiles; the copy's checkpoint is replaced last, when all that it covers is on disk, so the folder is at each
//! moment a whole log that any tlog-tiles client can read; a mirror that was killed goes on where it stood, and
//! remembers also the checkpoint it had not finished. Two signed checkpoints that cannot both be of one growing log are
//! a [`Fork`]: it is proven, told, and kept in `evidence/`.
//!
//! Refuses: a smaller checkpoint than one seen before, whatever its signature; checkpoints without a signature by the
//! given keys; bodies above their format's bound; redirects; two followers of one folder; logs whose entries are not
//! hashed as RFC 6962 leaves or whose tiles stand at other paths (Go's checksum database, certificate logs before
//! tiles), and logs that withhold old entries. Signatures are by Ed25519 or ML-DSA-44; with a
//! policy, its witnesses must have cosigned each checkpoint as well.
//!
//! A round of following, in order:
//!
//! | step | file |
//! |---|---|
//! | fetch `checkpoint`, by HTTP, from a bucket or from a folder | `source.rs`, `http.rs`, `bucket.rs` |
//! | where it is an archive of ours: find its newest checkpoint, make its partial tiles | `archived.rs` |
//! | check its signature; extension lines are allowed | `head.rs` |
//! | fetch the tiles at the tree's right edge: they must lead to the root | `tree.rs`, `edge.rs` |
//! | compute, from the log's own tiles, the roots it had before: they must be those we hold | `round.rs`, `fork.rs` |
//! | fetch what is missing, from the top of the tree down, each tile checked by the one above it | `take.rs` |
//! | replace the copy's checkpoint | `replica.rs` |
//!
//! `check.rs` verifies a copy without a network, `serve.rs` serves it, `prover.rs` makes proofs from a log's tiles. `entry.rs`
//! reads a single entry with its proof, and keeps nothing.

mod archived;
mod bucket;
mod check;
mod edge;
mod entry;
mod error;
mod fork;
mod head;
mod http;
mod prover;
mod replica;
mod round;
mod serve;
mod source;
mod take;
mod tree;

pub use self::check::{Checked, Finding, check};
pub use self::entry::{ProvenEntry, entry};
pub use self::error::MirrorError;
pub use self::fork::Fork;
pub use self::head::{HeadError, LogKeys, SignedHead};
pub use self::prover::Prover;
pub use self::replica::Replica;
pub use self::round::{Round, round};
pub use self::serve::{MirrorServer, ServeError};
pub use self::source::{Source, SourceOptions};

/// What is told while a mirror works.
pub trait Watcher: Send {
    /// After each tile or bundle: how far it is.
    fn at(&mut self, progress: &Progress);
}

/// How far a round is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Progress {
    /// Tiles and bundles dealt with.
    pub done: u64,
    /// Tiles and bundles there are to deal with.
    pub total: u64,
    /// Bytes written.
    pub bytes: u64,
}
