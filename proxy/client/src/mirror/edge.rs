//! The tiles of a remote log, each believed only once the signed root vouches for it.

use std::sync::Arc;

use chancery_format::merkle::{consistency_proof, inclusion_proof};
use chancery_format::tile::{TilePath, WIDTH, decode_tile, full_tiles, tile_root};
use chancery_format::{Hash, LeafIndex, TreeHead, TreeSize};

use super::error::MirrorError;
use super::source::{Found, Source};
use super::tree::{Lack, Tiles, partial_levels, root_at, width_of};
use crate::limits;

/// A log at one size. Its tiles are verified: `known` holds none that does not lead to the root.
pub(super) struct Remote {
    pub(super) source: Arc<Source>,
    pub(super) head: TreeHead,
    pub(super) known: Tiles,
}

impl Remote {
    /// Fetches the partial tiles at the right edge, from which alone the root follows.
    pub(super) async fn open(source: &Arc<Source>, head: TreeHead) -> Result<Self, MirrorError> {
        let size = head.size.0;
        let mut known = Tiles::default();
        for level in partial_levels(size) {
            let index = full_tiles(level, size);
            let hashes = fetch_tile(source, level, index, width_of(level, index, size)).await?;
            known.put(level, index, hashes);
        }
        match root_at(&known, size) {
            Ok(root) if root == head.root => Ok(Self { source: Arc::clone(source), head, known }),
            _ => Err(MirrorError::bad(
                "tile",
                format!("the tiles of size {size} do not lead to the signed root"),
            )),
        }
    }

    /// The root the log had at a smaller size, by its own tiles, and the proof that it did.
    pub(super) async fn beginning(&mut self, smaller: u64) -> Result<(Hash, Vec<Hash>), MirrorError> {
        let (size, now) = (TreeSize(smaller), self.head.size);
        self.work_out(|tiles| Ok((root_at(tiles, smaller)?, consistency_proof(tiles, size, now)?))).await
    }

    /// What follows from the log's tiles. Those that are lacking are fetched, as many as the tree is high for each.
    pub(super) async fn work_out<T>(
        &mut self,
        what: impl Fn(&Tiles) -> Result<T, Lack>,
    ) -> Result<T, MirrorError> {
        loop {
            match what(&self.known) {
                Ok(found) => return Ok(found),
                Err(Lack::Tile(level, index)) => self.learn(level, index).await?,
                Err(Lack::Never) => {
                    let why = format!("a tree of {} entries does not have that", self.head.size);
                    return Err(MirrorError::bad("tile", why));
                }
            }
        }
    }

    /// The inclusion proof of an entry, and the leaf hashes of its whole bundle.
    pub(super) async fn proof(&mut self, index: u64) -> Result<(Vec<Hash>, Vec<Hash>), MirrorError> {
        loop {
            let proof = inclusion_proof(&self.known, LeafIndex(index), self.head.size);
            let leaves = self.known.get(0, index / WIDTH).ok_or(Lack::Tile(0, index / WIDTH));
            match proof.and_then(|proof| Ok((proof, leaves?.to_vec()))) {
                Ok(both) => return Ok(both),
                Err(Lack::Tile(level, index)) => self.learn(level, index).await?,
                Err(Lack::Never) => {
                    return Err(MirrorError::bad("tile", format!("entry {index} is not in these tiles")));
                }
            }
        }
    }

    /// Fetches a full tile, and those above it that vouch for it.
    async fn learn(&mut self, level: u8, index: u64) -> Result<(), MirrorError> {
        let mut chain = vec![(level, index)];
        while let Some((level, index)) = chain.last().copied() {
            if width_of(level, index, self.head.size.0) != WIDTH as usize {
                return Err(MirrorError::bad(TilePath::tile(level, index), "there is no such full tile"));
            }
            let Some(root) = self.known.root_of(level, index) else {
                chain.push((level + 1, index / WIDTH));
                continue;
            };
            let hashes = fetch_full(&self.source, level, index, &root).await?;
            self.known.put(level, index, hashes);
            chain.pop();
        }
        Ok(())
    }
}

/// A full tile whose root is this.
pub(super) async fn fetch_full(
    source: &Source,
    level: u8,
    index: u64,
    root: &Hash,
) -> Result<Vec<Hash>, MirrorError> {
    let hashes = fetch_tile(source, level, index, WIDTH as usize).await?;
    if tile_root(&hashes) == Some(*root) {
        Ok(hashes)
    } else {
        Err(MirrorError::bad(TilePath::tile(level, index), "its hashes do not lead to the signed root"))
    }
}

/// The first `width` hashes of a tile, unverified: from the partial tile, or from a wider one if the log keeps that no
/// more.
async fn fetch_tile(source: &Source, level: u8, index: u64, width: usize) -> Result<Vec<Hash>, MirrorError> {
    let path = TilePath { level: Some(level), index, width: u8::try_from(width).ok() };
    let bytes = fetch_or_wider(source, path, limits::MIRROR_TILE_BYTES_MAX).await?;
    let hashes = decode_tile(&bytes).filter(|hashes| hashes.len() >= width);
    let mut hashes = hashes.ok_or_else(|| MirrorError::bad(path, "it is not a tile of this width"))?;
    hashes.truncate(width);
    Ok(hashes)
}

/// A tile or bundle; where a partial one is gone, the full one.
pub(super) async fn fetch_or_wider(
    source: &Source,
    path: TilePath,
    bytes_max: usize,
) -> Result<Vec<u8>, MirrorError> {
    let found = source.get(&path.to_string(), bytes_max).await;
    if path.width.is_none() {
        return full(path, found);
    }
    if let Found::Bytes(bytes) = found? {
        return Ok(bytes);
    }
    if path.width.is_some() {
        let full = TilePath { width: None, ..path };
        if let Found::Bytes(bytes) = source.get(&full.to_string(), bytes_max).await? {
            return Ok(bytes);
        }
    }
    Err(MirrorError::Missing(path.to_string()))
}

/// A full tile or bundle that the checkpoint covers. One that is denied is below the log's minimum index, or so it says.
fn full(path: TilePath, found: Result<Found, MirrorError>) -> Result<Vec<u8>, MirrorError> {
    let denied = match found {
        Ok(Found::Bytes(bytes)) => return Ok(bytes),
        Ok(Found::Nothing) => false,
        Err(MirrorError::Refused { status: 403, .. }) => true,
        Err(error) => return Err(error),
    };
    let entries = WIDTH.saturating_pow(u32::from(path.level.unwrap_or(0)) + 1);
    let first = path.index.saturating_mul(entries);
    let last = first.saturating_add(entries - 1);
    Err(MirrorError::Pruned { path: path.to_string(), first, last, denied })
}
