//! One round of following: what the log shows now, held against what it showed before.

use std::sync::Arc;

use chancery_format::merkle::{NodeSource, ProofError, consistency_proof};
use chancery_format::tile::NodePlace;
use chancery_format::{Hash, TreeSize};

use super::edge::Remote;
use super::error::MirrorError;
use super::fork::Fork;
use super::head::{LogKeys, SignedHead};
use super::replica::Replica;
use super::source::Source;
use super::take::take;
use super::tree::root_at;
use super::{Progress, Watcher};

/// What came of a round.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Round {
    /// The checkpoint the copy is whole for now.
    pub head: SignedHead,
    /// Entries it had before.
    pub before: u64,
    /// What was fetched.
    pub progress: Progress,
}

/// Brings the copy up to what the log shows now.
pub async fn round(
    source: &Arc<Source>,
    replica: &Arc<Replica>,
    keys: &LogKeys,
    watcher: &mut dyn Watcher,
) -> Result<Round, MirrorError> {
    let shown = ask(source, keys).await?;
    let (held, pending) = (replica.held(keys)?, replica.pending(keys)?);
    for seen in [&held, &pending].into_iter().flatten() {
        if let Err(error) = agrees_so_far(replica, held.as_ref(), seen, &shown) {
            return Err(kept(replica, error));
        }
    }
    let before = held.as_ref().map_or(0, SignedHead::size);
    if held.as_ref().is_some_and(|held| held.size() == shown.size()) {
        if held.as_ref() != Some(&shown) {
            replica.commit(&shown, TreeSize(before))?;
        }
        return Ok(Round { head: shown, before, progress: Progress::default() });
    }
    let mut remote = Remote::open(source, shown.head()).await?;
    for seen in [held, pending].into_iter().flatten() {
        if let Err(error) = begins_with(&mut remote, &seen, &shown).await {
            return Err(kept(replica, error));
        }
    }
    replica.begin(&shown)?;
    let progress = take(remote, replica, before, watcher).await?;
    replica.commit(&shown, TreeSize(before))?;
    Ok(Round { head: shown, before, progress })
}

/// The log's checkpoint, with its signature checked.
pub(super) async fn ask(source: &Source, keys: &LogKeys) -> Result<SignedHead, MirrorError> {
    Ok(keys.verify(&source.checkpoint().await?)?)
}

/// What can be said without asking the log for more: equal sizes have equal roots, and it does not go back. The copy
/// we hold tells whether a smaller checkpoint is of its past, or of another log.
fn agrees_so_far(
    replica: &Replica,
    held: Option<&SignedHead>,
    seen: &SignedHead,
    shown: &SignedHead,
) -> Result<(), MirrorError> {
    if seen.size() == shown.size() && seen.head().root != shown.head().root {
        return Err(fork(seen, shown, None));
    }
    if shown.size() >= seen.size() {
        return Ok(());
    }
    if held == Some(seen) {
        let tiles = OnDisk { replica, size: seen.size() };
        let root = root_at(&tiles, shown.size())?;
        if root != shown.head().root {
            let proof = consistency_proof(&tiles, shown.head().size, seen.head().size)?;
            return Err(fork(seen, shown, Some((root, proof))));
        }
    }
    Err(MirrorError::Rollback { seen: seen.size(), shown: shown.size() })
}

/// That a smaller checkpoint is the beginning of what the log shows now.
async fn begins_with(remote: &mut Remote, seen: &SignedHead, shown: &SignedHead) -> Result<(), MirrorError> {
    if seen.size() == shown.size() {
        return Ok(());
    }
    let (root, proof) = remote.beginning(seen.size()).await?;
    if root == seen.head().root { Ok(()) } else { Err(fork(seen, shown, Some((root, proof)))) }
}

/// A proof that does not hold is no accusation: then it is our copy that is damaged.
fn fork(seen: &SignedHead, shown: &SignedHead, beginning: Option<(Hash, Vec<Hash>)>) -> MirrorError {
    let fork = Fork { held: seen.clone(), shown: shown.clone(), beginning };
    if fork.is_proven() {
        return MirrorError::Fork(Box::new(fork));
    }
    let why = "the copy does not lead to its own checkpoint; run chancery mirror check".to_owned();
    MirrorError::Replica { path: "tile".into(), cause: why }
}

/// A fork goes on disk before anybody is told of it.
fn kept(replica: &Replica, error: MirrorError) -> MirrorError {
    let MirrorError::Fork(fork) = &error else { return error };
    match replica.keep(fork) {
        Ok(_) => error,
        Err(failed) => failed,
    }
}

/// The tiles of the copy at its size.
struct OnDisk<'a> {
    replica: &'a Replica,
    size: u64,
}

impl From<ProofError> for MirrorError {
    fn from(error: ProofError) -> Self {
        Self::bad("tile", error)
    }
}

impl NodeSource for OnDisk<'_> {
    type Error = MirrorError;

    fn node(&self, level: u8, index: u64) -> Result<Hash, MirrorError> {
        let place = NodePlace::of(level, index).ok_or(ProofError::OutOfRange)?;
        let hashes = self.replica.tile_in(self.size, place.level, place.index)?;
        let node = hashes.and_then(|hashes| place.root_in(&hashes));
        let path = || self.replica.folder().join(format!("tile/{}/{}", place.level, place.index));
        node.ok_or_else(|| MirrorError::Replica {
            path: path(),
            cause: "is missing or damaged; run chancery mirror check".to_owned(),
        })
    }
}
