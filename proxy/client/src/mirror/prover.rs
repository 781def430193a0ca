//! Proofs and entries from a log's tiles: of a log that runs, of a mirror, or of a folder.
//!
//! Promises: every hash and every entry was held against the tree head it was opened with, so a proof made here leads
//! there. Fetches no more than the tiles on the paths that are asked for. Nothing is written.

use std::sync::Arc;

use chancery_format::merkle::{consistency_proof, inclusion_proof};
use chancery_format::tile::{WIDTH, decode_bundle};
use chancery_format::{Hash, LeafIndex, TreeHead, TreeSize};

use super::edge::{Remote, fetch_or_wider};
use super::error::MirrorError;
use super::replica::bundle_path;
use super::source::Source;
use super::tree::{Lack, root_at, sound_bundle, width_of};
use crate::limits;

/// A log at one size, from which proofs are made.
pub struct Prover {
    remote: Remote,
}

impl Prover {
    /// Fetches the right edge of the tree with this head, whose signature the caller has checked.
    pub async fn open(source: &Arc<Source>, head: TreeHead) -> Result<Self, MirrorError> {
        Ok(Self { remote: Remote::open(source, head).await? })
    }

    /// Size and root of the log.
    pub const fn head(&self) -> TreeHead {
        self.remote.head
    }

    /// The root that the log had at a size up to its own.
    pub async fn root(&mut self, size: TreeSize) -> Result<Hash, MirrorError> {
        self.covers(size)?;
        self.remote.work_out(|tiles| root_at(tiles, size.0)).await
    }

    /// From the sibling of the leaf at `index` to the child of the root at `size`.
    pub async fn inclusion(&mut self, index: LeafIndex, size: TreeSize) -> Result<Vec<Hash>, MirrorError> {
        self.covers(size)?;
        self.remote.work_out(|tiles| inclusion_proof(tiles, index, size)).await
    }

    /// That the tree of `new` begins with that of `old`.
    pub async fn consistency(&mut self, old: TreeSize, new: TreeSize) -> Result<Vec<Hash>, MirrorError> {
        self.covers(new)?;
        self.remote.work_out(|tiles| consistency_proof(tiles, old, new)).await
    }

    /// The entries of one bundle: 256, or what the last one has.
    pub async fn entries(&mut self, bundle: u64) -> Result<Vec<Vec<u8>>, MirrorError> {
        let size = self.head().size.0;
        if width_of(0, bundle, size) == 0 {
            return Err(MirrorError::Missing(format!("entries from {} on", bundle.saturating_mul(WIDTH))));
        }
        let leaves = |tiles: &super::tree::Tiles| {
            tiles.get(0, bundle).map(<[Hash]>::to_vec).ok_or(Lack::Tile(0, bundle))
        };
        let leaves = self.remote.work_out(leaves).await?;
        let path = bundle_path(bundle, size);
        let bytes = fetch_or_wider(&self.remote.source, path, limits::MIRROR_BUNDLE_BYTES_MAX).await?;
        let bad = || MirrorError::bad(path, "its entries are not those of the tile");
        let sound = sound_bundle(&bytes, &leaves).ok_or_else(bad)?;
        decode_bundle(&sound).map(|entry| entry.map(<[u8]>::to_vec).map_err(|_| bad())).collect()
    }

    fn covers(&self, size: TreeSize) -> Result<(), MirrorError> {
        if size <= self.head().size {
            return Ok(());
        }
        let why = format!("checkpoint of {size} entries: it shows {}", self.head().size);
        Err(MirrorError::Missing(why))
    }
}
