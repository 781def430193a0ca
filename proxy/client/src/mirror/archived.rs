//! An archive of ours, read as a tlog-tiles log.
//!
//! Archives hold full tiles and bundles under their names in tlog-tiles, but number their checkpoints and have no partial
//! hash tiles (FORMAT.md §8). Both follow from what is there: the newest checkpoint is found by its number, for epochs run
//! 0, 1, 2, …; a partial tile of the lowest level are the hashes of the tail bundle, one above are the roots of the full
//! tiles below it. So nothing has to be put into an archive that could be replaced there.
//!
//! Nothing here is believed: whoever asks holds what is made up here against the signed root, as with every log.

use chancery_format::Hash;
use chancery_format::archive::checkpoint_name;
use chancery_format::merkle::leaf_hash;
use chancery_format::note::NOTE_BYTES_MAX;
use chancery_format::tile::{TilePath, WIDTH, decode_bundle, decode_tile, encode_tile, tile_root};

use super::error::MirrorError;
use super::source::{Found, Source};
use crate::limits;

/// Doublings of an epoch's number: more than a century of epochs a tenth of a second long.
const EPOCH_DOUBLINGS_MAX: u32 = 36;

/// The newest checkpoint of an archive at `source`; nothing if it has none.
pub(super) async fn newest_checkpoint(source: &Source) -> Result<Found, MirrorError> {
    let Some(mut note) = epoch(source, 0).await? else { return Ok(Found::Nothing) };
    let (mut there, mut step) = (0u64, 1u64);
    // Up in doubling steps to one that is not there, then the gap is halved.
    for _ in 0..EPOCH_DOUBLINGS_MAX {
        let Some(found) = epoch(source, there + step).await? else { break };
        (note, there, step) = (found, there + step, step * 2);
    }
    let mut absent = there + step;
    while absent - there > 1 {
        let middle = there + (absent - there) / 2;
        match epoch(source, middle).await? {
            Some(found) => (note, there) = (found, middle),
            None => absent = middle,
        }
    }
    Ok(Found::Bytes(note))
}

async fn epoch(source: &Source, number: u64) -> Result<Option<Vec<u8>>, MirrorError> {
    match source.stored(&checkpoint_name(number), NOTE_BYTES_MAX).await {
        Ok(Found::Bytes(note)) => Ok(Some(note)),
        Ok(Found::Nothing) => Ok(None),
        // A bucket that may not be listed says this of what it does not have; the first one must be there.
        Err(MirrorError::Refused { status: 403, .. }) if number > 0 => Ok(None),
        Err(error) => Err(error),
    }
}

/// A partial hash tile, made of what an archive has; nothing if it lacks something of that.
pub(super) async fn partial_tile(source: &Source, path: TilePath) -> Result<Found, MirrorError> {
    let (Some(level), Some(width)) = (path.level, path.width) else { return Ok(Found::Nothing) };
    let hashes = match level.checked_sub(1) {
        None => leaves(source, path.index, width).await?,
        Some(below) => roots(source, below, path.index, width).await?,
    };
    Ok(hashes.map_or(Found::Nothing, |hashes| Found::Bytes(encode_tile(&hashes))))
}

async fn leaves(source: &Source, index: u64, width: u8) -> Result<Option<Vec<Hash>>, MirrorError> {
    let tail = TilePath { level: None, index, width: Some(width) };
    let found = source.stored(&tail.to_string(), limits::MIRROR_BUNDLE_BYTES_MAX).await?;
    let Found::Bytes(bundle) = found else { return Ok(None) };
    let hashes: Result<Vec<Hash>, _> = decode_bundle(&bundle).map(|leaf| leaf.map(leaf_hash)).collect();
    let hashes = hashes.ok().filter(|hashes| hashes.len() == usize::from(width));
    hashes.map(Some).ok_or_else(|| MirrorError::bad(tail, "it is not a bundle of this width"))
}

async fn roots(source: &Source, below: u8, index: u64, width: u8) -> Result<Option<Vec<Hash>>, MirrorError> {
    let mut roots = Vec::with_capacity(usize::from(width));
    for at in 0..u64::from(width) {
        let Some(index) = index.checked_mul(WIDTH).and_then(|first| first.checked_add(at)) else {
            return Ok(None);
        };
        let path = TilePath::tile(below, index);
        let found = source.stored(&path.to_string(), limits::MIRROR_TILE_BYTES_MAX).await?;
        let Found::Bytes(tile) = found else { return Ok(None) };
        let root = decode_tile(&tile).and_then(|hashes| tile_root(&hashes));
        roots.push(root.ok_or_else(|| MirrorError::bad(path, "it is not a full tile"))?);
    }
    Ok(Some(roots))
}
