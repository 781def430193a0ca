//! Tiles in memory, the roots and proofs they lead to, and entries held against their tile.

use std::collections::HashMap;
use std::io::Read as _;

use chancery_format::merkle::{Frontier, NodeSource, ProofError, leaf_hash};
use chancery_format::tile::{LEVELS, NodePlace, WIDTH, decode_bundle, full_tiles, partial_width, push_entry};
use chancery_format::{Hash, TreeSize};

use crate::limits;

/// Levels at which a tree of `size` ends in a partial tile.
pub(super) fn partial_levels(size: u64) -> impl Iterator<Item = u8> {
    (0..LEVELS).filter(move |level| partial_width(*level, size).is_some())
}

/// Number of hashes that tile `index` of a level has in a tree of `size`; 0 if there is no such tile.
pub(super) fn width_of(level: u8, index: u64, size: u64) -> usize {
    match full_tiles(level, size) {
        full if index < full => WIDTH as usize,
        full if index == full => partial_width(level, size).map_or(0, usize::from),
        _ => 0,
    }
}

/// Where a tile is that is needed and not there yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Lack {
    /// This tile: level and index.
    Tile(u8, u64),
    /// No tile has it: the question was wrong.
    Never,
}

impl From<ProofError> for Lack {
    fn from(_: ProofError) -> Self {
        Self::Never
    }
}

/// Tiles by level and index. Whoever puts one in has checked it.
#[derive(Debug, Clone, Default)]
pub(super) struct Tiles(HashMap<(u8, u64), Vec<Hash>>);

impl Tiles {
    pub(super) fn put(&mut self, level: u8, index: u64, hashes: Vec<Hash>) {
        self.0.insert((level, index), hashes);
    }

    pub(super) fn get(&self, level: u8, index: u64) -> Option<&[Hash]> {
        self.0.get(&(level, index)).map(Vec::as_slice)
    }

    /// What the tile above says the root of this full tile is.
    pub(super) fn root_of(&self, level: u8, index: u64) -> Option<Hash> {
        let at = usize::try_from(index % WIDTH).ok()?;
        self.get(level + 1, index / WIDTH)?.get(at).copied()
    }
}

impl NodeSource for Tiles {
    type Error = Lack;

    fn node(&self, level: u8, index: u64) -> Result<Hash, Lack> {
        let place = NodePlace::of(level, index).ok_or(Lack::Never)?;
        let hashes = self.get(place.level, place.index).ok_or(Lack::Tile(place.level, place.index))?;
        place.root_in(hashes).ok_or(Lack::Never)
    }
}

/// The root that a tree has at `size`, from its complete nodes.
pub(super) fn root_at<S: NodeSource>(source: &S, size: u64) -> Result<Hash, S::Error> {
    let levels = (0..64u8).rev().filter(|level| size >> level & 1 == 1);
    let nodes = levels.map(|level| source.node(level, (size >> level) - 1)).collect::<Result<Vec<_>, _>>()?;
    let frontier = Frontier::from_parts(TreeSize(size), nodes);
    Ok(frontier.map_err(|_| ProofError::OutOfRange)?.root())
}

/// The first entries of a bundle as bytes, if they are what these leaf hashes are of. A bundle may hold more entries
/// than asked for, and may be compressed though nobody says so.
pub(super) fn sound_bundle(bytes: &[u8], leaves: &[Hash]) -> Option<Vec<u8>> {
    read_bundle(bytes, leaves).or_else(|| read_bundle(&gunzip(bytes)?, leaves))
}

fn read_bundle(bytes: &[u8], leaves: &[Hash]) -> Option<Vec<u8>> {
    let mut kept = Vec::with_capacity(bytes.len());
    let mut entries = decode_bundle(bytes);
    for leaf in leaves {
        let entry = entries.next()?.ok()?;
        if leaf_hash(entry) != *leaf {
            return None;
        }
        push_entry(&mut kept, entry).ok()?;
    }
    Some(kept)
}

/// `None` unless gzip, whole, and not larger than a bundle can be.
pub(super) fn gunzip(bytes: &[u8]) -> Option<Vec<u8>> {
    if !bytes.starts_with(&[0x1f, 0x8b]) {
        return None;
    }
    let mut plain = Vec::new();
    let bound = limits::MIRROR_BUNDLE_BYTES_MAX as u64 + 1;
    flate2::read::MultiGzDecoder::new(bytes).take(bound).read_to_end(&mut plain).ok()?;
    (plain.len() <= limits::MIRROR_BUNDLE_BYTES_MAX).then_some(plain)
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "a failed step is a failed test")]
    use super::*;
    use chancery_format::merkle::consistency_proof;
    use chancery_format::tile::{TileTail, encode_bundle};

    /// Every tile of a tree of `size`, and its leaves.
    fn tree(size: u64) -> (Tiles, Vec<Hash>) {
        let leaves: Vec<Hash> = (0..size).map(|n| leaf_hash(&n.to_be_bytes())).collect();
        let (mut tiles, mut tail) = (Tiles::default(), TileTail::new());
        for full in tail.extend(&Frontier::new().extend(&leaves)) {
            tiles.put(full.level, full.index, full.hashes);
        }
        for level in 0..8 {
            if !tail.partial(level).is_empty() {
                tiles.put(level, full_tiles(level, size), tail.partial(level).to_vec());
            }
        }
        (tiles, leaves)
    }

    #[test]
    fn tiles_of_a_large_tree_lead_to_the_root_of_each_smaller_one() {
        let (tiles, leaves) = tree(66_000);
        for size in [0, 1, 2, 255, 256, 257, 511, 512, 513, 65_535, 65_536, 65_537, 65_800, 66_000] {
            let frontier = Frontier::new().extend(&leaves[..size as usize]).into_frontier();
            assert_eq!(root_at(&tiles, size), Ok(frontier.root()), "{size}");
            assert!(consistency_proof(&tiles, TreeSize(size), TreeSize(66_000)).is_ok());
        }
        assert_eq!(root_at(&Tiles::default(), 300), Err(Lack::Tile(1, 0)));
    }

    #[test]
    fn widths_are_those_of_the_format() {
        let levels = |size| partial_levels(size).collect::<Vec<_>>();
        assert_eq!(
            [levels(0), levels(70_000), levels(256), levels(65_536)],
            [vec![], vec![0, 1, 2], vec![1], vec![2]]
        );
        assert_eq!([width_of(0, 0, 300), width_of(0, 1, 300), width_of(0, 2, 300)], [256, 44, 0]);
        assert_eq!(width_of(0, 1, 512), 256);
    }

    #[test]
    fn a_bundle_is_what_its_leaves_say_or_nothing() {
        let entries: Vec<Vec<u8>> = (0..5u8).map(|n| vec![n; usize::from(n)]).collect();
        let leaves: Vec<Hash> = entries.iter().map(|entry| leaf_hash(entry)).collect();
        let bundle = encode_bundle(entries.iter().map(Vec::as_slice)).unwrap();
        let first = encode_bundle(entries.iter().take(3).map(Vec::as_slice)).unwrap();
        assert_eq!(sound_bundle(&bundle, &leaves).as_ref(), Some(&bundle));
        assert_eq!(sound_bundle(&bundle, &leaves[..3]), Some(first));
        let mut packed = Vec::new();
        flate2::read::GzEncoder::new(bundle.as_slice(), flate2::Compression::fast())
            .read_to_end(&mut packed)
            .unwrap();
        assert_eq!(sound_bundle(&packed, &leaves).as_ref(), Some(&bundle));
        for bad in [&bundle[..bundle.len() - 1], &packed[..packed.len() - 9], &[], &bundle[1..]] {
            assert_eq!(sound_bundle(bad, &leaves), None);
        }
    }

    #[test]
    fn a_bomb_is_not_unpacked() {
        let zeros = std::io::repeat(0).take(limits::MIRROR_BUNDLE_BYTES_MAX as u64 + 2);
        let mut packed = Vec::new();
        flate2::read::GzEncoder::new(zeros, flate2::Compression::fast()).read_to_end(&mut packed).unwrap();
        assert!(packed.len() < 200_000);
        assert_eq!(gunzip(&packed), None);
    }
}
