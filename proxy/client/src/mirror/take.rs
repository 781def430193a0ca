//! Fetches what a copy lacks, from the top of the tree down: each tile is held against the one above it, each bundle
//! against its level-0 tile, and only then written. What an earlier round wrote is held against it too, and kept.

use std::sync::Arc;

use chancery_format::Hash;
use chancery_format::tile::{LEVELS, TilePath, WIDTH, encode_tile, full_tiles, partial_width, tile_root};
use tokio::task::JoinSet;

use super::edge::{Remote, fetch_full, fetch_or_wider};
use super::error::MirrorError;
use super::replica::{Replica, bundle_path};
use super::source::Source;
use super::tree::{partial_levels, sound_bundle};
use super::{Progress, Watcher};
use crate::limits;

/// Everything that the tree of `remote` has and one of `before` entries has not.
pub(super) async fn take(
    remote: Remote,
    replica: &Arc<Replica>,
    before: u64,
    watcher: &mut dyn Watcher,
) -> Result<Progress, MirrorError> {
    let size = remote.head.size.0;
    let mut jobs = Jobs::new(before, size, watcher);
    for level in (0..LEVELS).rev() {
        let (from, to) = (full_tiles(level, before), full_tiles(level, size));
        let mut above: Option<(u64, Vec<Hash>)> = None;
        for index in from..to {
            // The roots stand in the tile above: at the edge, or taken just before.
            let parent = index / WIDTH;
            if above.as_ref().is_none_or(|(number, _)| *number != parent) {
                above = Some((parent, roots(&remote, replica, level + 1, parent)?));
            }
            let at = usize::try_from(index % WIDTH).unwrap_or(usize::MAX);
            let root = above.as_ref().and_then(|(_, roots)| roots.get(at)).copied();
            let root = root.ok_or_else(|| lost(level + 1, parent))?;
            jobs.start(take_full(Arc::clone(&remote.source), Arc::clone(replica), level, index, root))
                .await?;
        }
        // The tiles of a level are what the level below is held against.
        jobs.finish().await?;
    }
    for level in partial_levels(size) {
        let index = full_tiles(level, size);
        let hashes = remote.known.get(level, index).unwrap_or_default().to_vec();
        jobs.start(take_edge(Arc::clone(&remote.source), Arc::clone(replica), level, size, hashes)).await?;
    }
    jobs.finish().await?;
    Ok(jobs.progress)
}

/// The hashes of a tile that vouches for those below it.
fn roots(remote: &Remote, replica: &Replica, level: u8, index: u64) -> Result<Vec<Hash>, MirrorError> {
    if let Some(hashes) = remote.known.get(level, index) {
        return Ok(hashes.to_vec());
    }
    replica.tile(TilePath::tile(level, index))?.ok_or_else(|| lost(level, index))
}

fn lost(level: u8, index: u64) -> MirrorError {
    let path = TilePath::tile(level, index).to_string().into();
    MirrorError::Replica { path, cause: "was written just now and is not there".to_owned() }
}

/// One full tile, and at the lowest level its entries. Bytes written.
async fn take_full(
    source: Arc<Source>,
    replica: Arc<Replica>,
    level: u8,
    index: u64,
    root: Hash,
) -> Result<u64, MirrorError> {
    let path = TilePath::tile(level, index);
    let there = replica.tile(path)?.filter(|hashes| tile_root(hashes) == Some(root));
    let (hashes, mut written) = match there {
        Some(hashes) => (hashes, 0),
        None => {
            let hashes = fetch_full(&source, level, index, &root).await?;
            let written = put(&replica, path, encode_tile(&hashes)).await?;
            (hashes, written)
        }
    };
    if level == 0 {
        written += take_bundle(&source, &replica, TilePath::entries(index), hashes).await?;
    }
    Ok(written)
}

/// A partial tile of the right edge, which was verified already, and at the lowest level its entries.
async fn take_edge(
    source: Arc<Source>,
    replica: Arc<Replica>,
    level: u8,
    size: u64,
    hashes: Vec<Hash>,
) -> Result<u64, MirrorError> {
    let index = full_tiles(level, size);
    let path = TilePath { level: Some(level), index, width: partial_width(level, size) };
    let mut written = put(&replica, path, encode_tile(&hashes)).await?;
    if level == 0 {
        written += take_bundle(&source, &replica, bundle_path(index, size), hashes).await?;
    }
    Ok(written)
}

async fn take_bundle(
    source: &Source,
    replica: &Arc<Replica>,
    path: TilePath,
    leaves: Vec<Hash>,
) -> Result<u64, MirrorError> {
    let there = replica.bytes(&path.to_string(), limits::MIRROR_BUNDLE_BYTES_MAX)?;
    if there.is_some_and(|bytes| sound_bundle(&bytes, &leaves).is_some_and(|sound| sound == bytes)) {
        return Ok(0);
    }
    let bytes = fetch_or_wider(source, path, limits::MIRROR_BUNDLE_BYTES_MAX).await?;
    let sound = blocking(move || sound_bundle(&bytes, &leaves)).await?;
    let sound = sound.ok_or_else(|| MirrorError::bad(path, "its entries are not those of the tile"))?;
    put(replica, path, sound).await
}

async fn put(replica: &Arc<Replica>, path: TilePath, bytes: Vec<u8>) -> Result<u64, MirrorError> {
    let replica = Arc::clone(replica);
    let written = bytes.len() as u64;
    blocking(move || replica.put(path, &bytes)).await??;
    Ok(written)
}

/// Hashing and syncing wait elsewhere, so that other resources go on arriving.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, MirrorError> {
    let done = tokio::task::spawn_blocking(work).await;
    done.map_err(|error| MirrorError::Unavailable(format!("a worker ended early: {error}")))
}

/// Work under way, at most [`limits::MIRROR_FETCHES_MAX`] at once. Dropped, it is given up.
struct Jobs<'a> {
    running: JoinSet<Result<u64, MirrorError>>,
    progress: Progress,
    watcher: &'a mut dyn Watcher,
}

impl<'a> Jobs<'a> {
    fn new(before: u64, size: u64, watcher: &'a mut dyn Watcher) -> Self {
        let full = (0..LEVELS).map(|level| full_tiles(level, size) - full_tiles(level, before)).sum::<u64>();
        let edge = partial_levels(size).count() as u64;
        let progress = Progress { total: full + edge, ..Progress::default() };
        watcher.at(&progress);
        Self { running: JoinSet::new(), progress, watcher }
    }

    async fn start(
        &mut self,
        job: impl Future<Output = Result<u64, MirrorError>> + Send + 'static,
    ) -> Result<(), MirrorError> {
        while self.running.len() >= limits::MIRROR_FETCHES_MAX {
            self.next().await?;
        }
        self.running.spawn(job);
        Ok(())
    }

    async fn finish(&mut self) -> Result<(), MirrorError> {
        while !self.running.is_empty() {
            self.next().await?;
        }
        Ok(())
    }

    async fn next(&mut self) -> Result<(), MirrorError> {
        let Some(done) = self.running.join_next().await else { return Ok(()) };
        let written =
            done.map_err(|error| MirrorError::Unavailable(format!("a worker failed: {error}")))??;
        self.progress.done += 1;
        self.progress.bytes += written;
        self.watcher.at(&self.progress);
        Ok(())
    }
}
