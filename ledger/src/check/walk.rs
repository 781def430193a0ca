//! One pass over the leaves, tile by tile, up to each signed root.
//!
//! Of each tile every copy is read; then each checkpoint that ends inside it is tried. What a matching root settles is
//! compared with every copy, and what the archive lacks of it can be shipped again.

use chancery_format::tile::{TilePath, WIDTH, decode_bundle, encode_bundle, encode_tile, full_tiles};
use chancery_format::{AuditEvent, Hash, LeafIndex, TreeHead, TreeSize};

use super::findings::{Finding, Kind, Side};
use super::heads::Stops;
use super::objects::Held;
use super::proof::{Proven, Settled, Source, Tile, Upper, Version};
use super::{Check, CheckError, beside};
use crate::second_opinion::sha256;

/// Stands for a leaf that cannot be read.
pub(super) const UNREAD: Hash = Hash([0; 32]);

/// The leaves of a tile as the store has them.
pub(super) type Leaves = Vec<Option<Box<[u8]>>>;

impl Check<'_> {
    pub(super) fn walk(&mut self) -> Result<(), CheckError> {
        let size = self.head.size.0;
        let mut stops = Stops::new(self);
        for number in 0..size.div_ceil(WIDTH) {
            self.go_on()?;
            let first = number * WIDTH;
            let count = (size - first).min(WIDTH);
            let leaves = self.read_leaves(first, count);
            for (index, leaf) in (first..).zip(&leaves) {
                self.check_leaf(index, leaf.as_deref())?;
            }
            let mut tile = self.copies(number, &leaves)?;
            while let Some(stop) = stops.next_below(self, first + WIDTH)? {
                self.stop_at(stop, Some((&mut tile, &leaves)))?;
            }
            if count == WIDTH {
                if !self.proof.push(tile) {
                    return Err(CheckError::Undecidable(first));
                }
                while let Some(stop) = stops.next_below(self, first + WIDTH + 1)? {
                    self.stop_at(stop, None)?;
                }
            } else {
                self.end(Some(&tile))?;
            }
            self.report.counts.entries = first + count;
            self.options.progress.at(first + count, self.report.counts.objects);
        }
        if size.is_multiple_of(WIDTH) {
            self.end(None)?;
        }
        self.told_unmatched(&stops);
        Ok(())
    }

    fn read_leaves(&mut self, first: u64, count: u64) -> Leaves {
        if let Ok(leaves) = self.store.leaves(first, count as usize) {
            return leaves.into_iter().map(Some).collect();
        }
        let one = |index| match self.store.leaf(LeafIndex(index)) {
            Ok(leaf) => leaf.map(Vec::into_boxed_slice).ok_or_else(|| "it is not there".to_owned()),
            Err(error) => Err(error.to_string()),
        };
        let read: Vec<_> = (first..first + count).map(one).collect();
        let mut leaves = Vec::with_capacity(read.len());
        for (index, leaf) in (first..).zip(read) {
            if let Err(why) = &leaf {
                self.found(Finding::new(Kind::LeafUnreadable, Side::Store, why.clone()).at(index));
            }
            leaves.push(leaf.ok());
        }
        leaves
    }

    /// By itself and in its stream.
    fn check_leaf(&mut self, index: u64, leaf: Option<&[u8]>) -> Result<(), CheckError> {
        let Some(leaf) = leaf else {
            self.derived.give_up();
            return Ok(());
        };
        let event = match AuditEvent::parse(leaf) {
            Ok(event) => event,
            Err(error) => {
                let message = format!("the stored entry is not one: {error}");
                self.found(Finding::new(Kind::LeafAltered, Side::Store, message).at(index));
                self.derived.give_up();
                return Ok(());
            }
        };
        self.follow_heads(index, &event)?;
        for finding in self.chains.follow(self.store, self.origin_tag, index, &event) {
            self.found(finding);
        }
        if let Some(publication) = beside::Publication::of(index, &event) {
            self.published.push(publication);
        }
        Ok(())
    }

    /// Every copy of a tile there is.
    fn copies(&mut self, number: u64, leaves: &Leaves) -> Result<Tile, CheckError> {
        let mut tile = Tile::new(number);
        let hashes: Vec<Hash> = leaves.iter().map(|leaf| leaf_hash(leaf.as_deref())).collect();
        tile.add(Source::Leaves, hashes.clone());
        if (hashes.len() as u64) < WIDTH {
            return Ok(tile);
        }
        self.report.counts.tiles += 1;
        match self.store.tile(0, number) {
            Ok(stored) => tile.add(Source::Tile, stored),
            Err(error) => {
                let finding = Finding::new(Kind::TileAltered, Side::Store, error.to_string());
                self.found(finding.of(TilePath::tile(0, number)));
            }
        }
        if number < self.archived / WIDTH {
            self.archived_copies(&mut tile, leaves, hashes)?;
        }
        Ok(tile)
    }

    fn archived_copies(
        &mut self,
        tile: &mut Tile,
        leaves: &Leaves,
        hashes: Vec<Hash>,
    ) -> Result<(), CheckError> {
        let path = TilePath::tile(0, tile.number).to_string();
        match self.held(&path, Some(&encode_tile(&hashes)))? {
            Held::Missing => tile.tile_missing = true,
            Held::Same => tile.add(Source::ArchivedTile, hashes.clone()),
            Held::Unknown => {}
            Held::Other(bytes) => match chancery_format::tile::decode_tile(&bytes) {
                Some(archived) if archived.len() as u64 == WIDTH => tile.add(Source::ArchivedTile, archived),
                _ => self.found(not_one(path, "a full tile")),
            },
        }
        let path = TilePath::entries(tile.number).to_string();
        match self.held(&path, bundle_of(leaves).as_deref())? {
            Held::Missing => tile.bundle_missing = true,
            Held::Same => tile.add(Source::Bundle, hashes),
            Held::Unknown => {}
            Held::Other(bytes) => match hashes_of_bundle(&bytes, WIDTH as usize) {
                Some(archived) => tile.add(Source::Bundle, archived),
                None => self.found(not_one(path, "a bundle of 256 entries")),
            },
        }
        Ok(())
    }

    /// A root matched: everything up to it is what it says.
    pub(super) fn settle(&mut self, proven: Proven, signed: bool) -> Result<(), CheckError> {
        for Settled { tile, truth } in proven.settled {
            for version in &tile.versions {
                self.told_wrong(version, tile.number, &truth, signed);
            }
            if tile.bundle_missing {
                let again = self.bundle_again(tile.number, &truth);
                self.missing(&TilePath::entries(tile.number).to_string(), again.as_deref(), signed)?;
            }
            if tile.tile_missing {
                let path = TilePath::tile(0, tile.number).to_string();
                self.missing(&path, Some(&encode_tile(&truth)), signed)?;
            }
        }
        for upper in proven.uppers {
            self.check_upper(&upper, signed)?;
        }
        Ok(())
    }

    /// The bundle whose leaves are exactly these, if the store has them.
    fn bundle_again(&self, number: u64, truth: &[Hash]) -> Option<Vec<u8>> {
        let leaves = self.store.leaves(number * WIDTH, truth.len()).ok()?;
        let same = leaves.iter().map(|leaf| sha256(&[&[0], leaf])).eq(truth.iter().copied());
        same.then(|| encode_bundle(leaves.iter().map(AsRef::as_ref)).ok()).flatten()
    }

    fn check_upper(&mut self, upper: &Upper, signed: bool) -> Result<(), CheckError> {
        let Upper { level, number, hashes } = upper;
        let path = TilePath::tile(*level, *number).to_string();
        self.report.counts.tiles += 1;
        let wrong = match self.store.tile(*level, *number) {
            Ok(stored) if stored == *hashes => None,
            Ok(_) => Some("the stored tile is not that of the tiles below it".to_owned()),
            Err(error) => Some(error.to_string()),
        };
        if let Some(message) = wrong {
            self.found(Finding::new(Kind::TileAltered, Side::Store, message).of(&path).proven(signed));
        }
        if *number < full_tiles(*level, self.archived) {
            let bytes = encode_tile(hashes);
            match self.held(&path, Some(&bytes))? {
                Held::Same | Held::Unknown => {}
                Held::Missing => self.missing(&path, Some(&bytes), signed)?,
                Held::Other(_) => {
                    let message = "the archived tile is not that of the tiles below it";
                    self.found(
                        Finding::new(Kind::ObjectAltered, Side::Archive, message).of(path).proven(signed),
                    );
                }
            }
        }
        Ok(())
    }

    /// One version against the truth.
    pub(super) fn told_wrong(&mut self, version: &Version, number: u64, truth: &[Hash], signed: bool) {
        let differs = |(_, (one, other)): &(u64, (&Hash, &Hash))| one != other;
        let first = number * WIDTH;
        let wrong: Vec<(u64, bool)> = (first..)
            .zip(version.hashes.iter().zip(truth))
            .filter(differs)
            .map(|(index, (hash, _))| (index, *hash == UNREAD))
            .collect();
        let Some((index, _)) = wrong.first().copied() else { return };
        let root = if signed { "the signed root" } else { "the stored head" };
        for source in &version.sources {
            match source {
                Source::Leaves => {
                    for (index, _) in wrong.iter().filter(|(_, unread)| !unread) {
                        self.told_leaf(*index, root, signed);
                    }
                }
                Source::Tile => {
                    let message = format!("the stored tile does not lead to {root}");
                    let finding = Finding::new(Kind::TileAltered, Side::Store, message);
                    self.found(finding.at(index).of(TilePath::tile(0, number)).proven(signed));
                }
                Source::Bundle => self.told_object(TilePath::entries(number), index, root, signed),
                Source::ArchivedTile => self.told_object(TilePath::tile(0, number), index, root, signed),
                Source::Tail(width) => {
                    let path = TilePath { level: None, index: number, width: Some(*width) };
                    self.told_object(path, index, root, signed);
                }
                Source::Healed => {}
            }
        }
    }

    fn told_leaf(&mut self, index: u64, root: &str, signed: bool) {
        let same = |finding: &&mut Finding| finding.kind == Kind::LeafAltered && finding.index == Some(index);
        match self.report.findings.iter_mut().find(same) {
            // It was seen by its own hash already.
            Some(seen) => seen.proven |= signed,
            None => {
                let message = format!("the stored entry does not lead to {root}, another copy does");
                self.found(Finding::new(Kind::LeafAltered, Side::Store, message).at(index).proven(signed));
            }
        }
    }

    fn told_object(&mut self, path: TilePath, index: u64, root: &str, signed: bool) {
        let message = format!("the archived object does not lead to {root}, the store's copy does");
        let finding = Finding::new(Kind::ObjectAltered, Side::Archive, message);
        self.found(finding.at(index).of(path).proven(signed));
    }

    /// What no signed root decided, against the head that the store itself claims.
    fn end(&mut self, last: Option<&Tile>) -> Result<(), CheckError> {
        let head = TreeHead { size: self.head.size, root: self.head.root };
        match self.proof.reach(head, last) {
            Some(proven) => {
                let truth = proven.beginning.clone();
                self.settle(proven, false)?;
                for version in last.map_or(&[][..], |tile| &tile.versions) {
                    self.told_wrong(version, self.head.size.0 / WIDTH, &truth, false);
                }
            }
            None => {
                let message = "the stored entries do not lead to the stored tree head";
                self.found(Finding::new(Kind::HeadDisagrees, Side::Store, message));
                for tile in self.proof.left() {
                    self.told_undecided(&tile)?;
                }
            }
        }
        Ok(())
    }

    fn told_undecided(&mut self, tile: &Tile) -> Result<(), CheckError> {
        if tile.is_disputed() {
            let [one, other, ..] = tile.versions.as_slice() else { return Ok(()) };
            let at = one.hashes.iter().zip(&other.hashes).position(|(one, other)| one != other).unwrap_or(0);
            let message = "copies of these entries differ, and no signed checkpoint covers them";
            let finding = Finding::new(Kind::CopiesDiffer, Side::Unknown, message);
            self.found(finding.at(tile.number * WIDTH + at as u64).of(TilePath::entries(tile.number)));
        }
        if tile.bundle_missing {
            self.missing(&TilePath::entries(tile.number).to_string(), None, false)?;
        }
        if tile.tile_missing {
            self.missing(&TilePath::tile(0, tile.number).to_string(), None, false)?;
        }
        Ok(())
    }

    /// A root matched: this much is proven.
    pub(super) const fn raise_proven(&mut self, size: TreeSize) {
        if size.0 > self.report.proven.0 {
            self.report.proven = size;
        }
    }
}

/// The second opinion's.
pub(super) fn leaf_hash(leaf: Option<&[u8]>) -> Hash {
    leaf.map_or(UNREAD, |leaf| sha256(&[&[0], leaf]))
}

/// The bundle of these leaves, if all could be read.
pub(super) fn bundle_of(leaves: &[Option<Box<[u8]>>]) -> Option<Vec<u8>> {
    let all: Option<Vec<&[u8]>> = leaves.iter().map(Option::as_deref).collect();
    encode_bundle(all?).ok()
}

/// Leaf hashes of a bundle of exactly so many entries.
pub(super) fn hashes_of_bundle(bytes: &[u8], count: usize) -> Option<Vec<Hash>> {
    let hashes: Result<Vec<Hash>, _> =
        decode_bundle(bytes).map(|leaf| leaf.map(|leaf| sha256(&[&[0], leaf]))).collect();
    hashes.ok().filter(|hashes| hashes.len() == count)
}

pub(super) fn not_one(object: String, what: &str) -> Finding {
    Finding::new(Kind::ObjectAltered, Side::Archive, format!("it is not {what}")).of(object).proven(true)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unread_leaf_is_no_leaf() {
        assert_eq!(leaf_hash(None), UNREAD);
        assert_eq!(leaf_hash(Some(b"a")), chancery_format::merkle::leaf_hash(b"a"));
        assert!(bundle_of(&[None]).is_none());
    }
}
