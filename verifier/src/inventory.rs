//! What the archive holds, by name alone: eight bytes an object, so that a long ledger fits in memory.
//!
//! Names that no archive of this format has become findings here. Whether a well-named file should be
//! there, and whether one is missing, is decided once the size of the ledger is known.

use chancery_format::Hash;
use chancery_format::archive::{self, CHECKPOINT_PREFIX, ObjectName};
use chancery_format::tile::{LEVELS, TilePath, WIDTH, full_tiles};

use crate::evidence::{Evidence, EvidenceError, Listed, Oddity};
use crate::findings::{Finding, Findings, Kind};

/// Sorted numbers of one kind of object.
type Numbers = Vec<u64>;

/// Everything well named in an archive.
#[derive(Debug, Default)]
pub(crate) struct Inventory {
    /// Epoch numbers.
    pub(crate) checkpoints: Numbers,
    /// Registry versions with a `.json`.
    pub(crate) registries: Numbers,
    /// Registry versions with a `.json.sig`.
    pub(crate) registry_notes: Numbers,
    /// Numbers of full bundles.
    pub(crate) bundles: Numbers,
    /// Tree sizes whose tail bundle is there: 256 · number + width.
    pub(crate) tails: Numbers,
    /// Numbers of full hash tiles, by level.
    pub(crate) tiles: Vec<Numbers>,
    /// Partial hash tiles, by level: at how many nodes of the level each ends, 256 · number + width.
    pub(crate) partials: Vec<Numbers>,
    /// Epochs with a cosigned checkpoint.
    pub(crate) witnessed: Numbers,
    /// Whether the newest checkpoint is shown under the name that is replaced.
    pub(crate) latest: bool,
    /// How many names were shown.
    pub(crate) files: u64,
    /// How many bytes they are said to have together.
    pub(crate) bytes: u64,
}

impl Inventory {
    /// Lists the archive.
    pub(crate) fn take(evidence: &dyn Evidence, findings: &mut Findings) -> Result<Self, EvidenceError> {
        let levels = || vec![Vec::new(); usize::from(LEVELS)];
        let mut inventory = Self { tiles: levels(), partials: levels(), ..Self::default() };
        evidence.list("", &mut |listed| match listed {
            Listed::Object(name, bytes) => {
                inventory.bytes = inventory.bytes.saturating_add(bytes);
                inventory.add(&name, findings);
            }
            Listed::Odd(name, oddity) => findings.push(oddity_finding(name, oddity)),
        })?;
        inventory.sort();
        Ok(inventory)
    }

    fn add(&mut self, name: &str, findings: &mut Findings) {
        self.files += 1;
        let list = match ObjectName::parse(name) {
            Some(ObjectName::Checkpoint(epoch)) => Some((&mut self.checkpoints, epoch)),
            Some(ObjectName::Witnessed(epoch)) => Some((&mut self.witnessed, epoch)),
            Some(ObjectName::Latest) => {
                self.latest = true;
                return;
            }
            Some(ObjectName::Registry(version)) => Some((&mut self.registries, version)),
            Some(ObjectName::RegistrySignature(version)) => Some((&mut self.registry_notes, version)),
            Some(ObjectName::Tile(path)) => self.tile_list(path),
            None => None,
        };
        match list {
            Some((list, number)) => list.push(number),
            None => findings.push(Finding::file(Kind::UnknownFile, name, "no archive has this name")),
        }
    }

    fn tile_list(&mut self, path: TilePath) -> Option<(&mut Numbers, u64)> {
        match (path.level, path.width) {
            (None, None) => Some((&mut self.bundles, path.index)),
            (None, Some(width)) => {
                let size = path.index.checked_mul(WIDTH)?.checked_add(u64::from(width))?;
                Some((&mut self.tails, size))
            }
            (Some(level), None) => Some((self.tiles.get_mut(usize::from(level))?, path.index)),
            (Some(level), Some(width)) => {
                let nodes = path.index.checked_mul(WIDTH)?.checked_add(u64::from(width))?;
                Some((self.partials.get_mut(usize::from(level))?, nodes))
            }
        }
    }

    fn sort(&mut self) {
        let lists = [
            &mut self.checkpoints,
            &mut self.registries,
            &mut self.registry_notes,
            &mut self.bundles,
            &mut self.tails,
            &mut self.witnessed,
        ];
        for list in lists.into_iter().chain(&mut self.tiles).chain(&mut self.partials) {
            list.sort_unstable();
            list.dedup();
        }
    }

    /// Full hash tiles of a level.
    pub(crate) fn tiles(&self, level: u8) -> &[u64] {
        self.tiles.get(usize::from(level)).map_or(&[], Vec::as_slice)
    }

    /// Partial hash tiles of a level.
    pub(crate) fn partials(&self, level: u8) -> &[u64] {
        self.partials.get(usize::from(level)).map_or(&[], Vec::as_slice)
    }

    /// Whether the partial tile of a level of a tree of `size` is there.
    pub(crate) fn has_partial(&self, level: u8, size: u64) -> bool {
        self.partials(level).binary_search(&nodes_of(level, size)).is_ok()
    }

    /// Tail bundles within one bundle: tree sizes above `256·number`, up to its end.
    pub(crate) fn tails_of(&self, number: u64) -> &[u64] {
        let from = self.tails.partition_point(|size| *size <= number * WIDTH);
        let to = self.tails.partition_point(|size| *size < (number + 1).saturating_mul(WIDTH));
        self.tails.get(from..to).unwrap_or_default()
    }

    /// Names every file that a ledger of `size` must have and that is not here. Gaps are named by their
    /// first file: a forged size must not make a list of 2^60 names.
    pub(crate) fn missing(&self, size: u64, findings: &mut Findings) {
        let tell = |first: String, count: u64| {
            let more = if count > 1 { format!(", and the {} after it", count - 1) } else { String::new() };
            Finding::file(Kind::MissingFile, first, format!("this file is missing{more}"))
        };
        gaps(&self.bundles, size / WIDTH, |first, count| {
            findings.push(tell(TilePath::entries(first).to_string(), count));
        });
        for level in 0..LEVELS {
            gaps(self.tiles(level), full_tiles(level, size), |first, count| {
                findings.push(tell(TilePath::tile(level, first).to_string(), count));
            });
        }
        let epochs = self.checkpoints.last().map_or(0, |last| last.saturating_add(1));
        gaps(&self.checkpoints, epochs, |first, count| {
            findings.push(tell(archive::checkpoint_name(first), count));
        });
    }

    /// A digest of the names below a size, and of the checkpoints up to an epoch: whether they are still the same.
    pub(crate) fn digest(&self, size: u64, epoch: Option<u64>) -> Hash {
        let below = |list: &[u64], limit: u64| {
            let numbers = list.iter().take_while(|number| **number < limit);
            let bytes: Vec<u8> = numbers.flat_map(|number| number.to_be_bytes()).collect();
            Hash::of(&[&bytes]).0
        };
        let mut lists = vec![
            below(&self.checkpoints, epoch.map_or(0, |epoch| epoch.saturating_add(1))),
            below(&self.bundles, size / WIDTH),
            below(&self.tails, size),
        ];
        lists.extend((0..LEVELS).map(|level| below(self.tiles(level), full_tiles(level, size))));
        // Where there are none, the digest is that of a program that knew none.
        if self.partials.iter().any(|list| !list.is_empty()) {
            lists.extend((0..LEVELS).map(|level| below(self.partials(level), nodes_of(level, size))));
        }
        if !self.witnessed.is_empty() {
            lists.push(below(&self.witnessed, epoch.map_or(0, |epoch| epoch.saturating_add(1))));
        }
        Hash::of(&[lists.as_flattened()])
    }

    /// Names of everything beyond `size`.
    pub(crate) fn beyond(&self, size: u64) -> impl Iterator<Item = (String, u64)> {
        let past = |list: &[u64], limit: u64| list.partition_point(|number| *number < limit);
        let bundles = self.bundles.iter().skip(past(&self.bundles, size / WIDTH));
        let bundles =
            bundles.map(|n| (TilePath::entries(*n).to_string(), n.saturating_add(1).saturating_mul(WIDTH)));
        let tails = self.tails.iter().skip(past(&self.tails, size.saturating_add(1)));
        let tails = tails.map(|tail| (tail_name(*tail), *tail));
        let tiles = (0..LEVELS).flat_map(move |level| {
            let list = self.tiles(level);
            let beyond = list.iter().skip(past(list, full_tiles(level, size)));
            beyond.map(move |n| (TilePath::tile(level, *n).to_string(), tile_end(level, *n)))
        });
        let partials = (0..LEVELS).flat_map(move |level| {
            let list = self.partials(level);
            let beyond = list.iter().skip(past(list, nodes_of(level, size).saturating_add(1)));
            beyond.map(move |nodes| (partial_name(level, *nodes), size_of(level, *nodes)))
        });
        bundles.chain(tails).chain(tiles).chain(partials)
    }
}

/// Tree size at which a full tile is complete.
fn tile_end(level: u8, number: u64) -> u64 {
    let leaves = WIDTH.checked_pow(u32::from(level) + 1).unwrap_or(u64::MAX);
    number.saturating_add(1).saturating_mul(leaves)
}

/// Complete nodes that a tree of `size` has on a tile level.
pub(crate) fn nodes_of(level: u8, size: u64) -> u64 {
    size.checked_shr(u32::from(level) * 8).unwrap_or(0)
}

/// The smallest tree with so many nodes on a tile level.
fn size_of(level: u8, nodes: u64) -> u64 {
    nodes.saturating_mul(WIDTH.saturating_pow(u32::from(level)))
}

/// Name of the partial tile that ends at so many nodes of a level.
pub(crate) fn partial_name(level: u8, nodes: u64) -> String {
    let width = u8::try_from(nodes % WIDTH).ok();
    TilePath { level: Some(level), index: nodes / WIDTH, width }.to_string()
}

/// Name of the tail bundle at a tree size.
pub(crate) fn tail_name(size: u64) -> String {
    TilePath::tail_entries(size).map_or_else(String::new, |path| path.to_string())
}

/// Epochs listed now, for telling a file of a newer epoch from a stray one.
pub(crate) fn last_epoch_now(evidence: &dyn Evidence) -> Result<Option<u64>, EvidenceError> {
    let mut last = None;
    evidence.list(CHECKPOINT_PREFIX, &mut |listed| {
        if let Listed::Object(name, _) = listed
            && let Some(ObjectName::Checkpoint(epoch)) = ObjectName::parse(&name)
        {
            last = last.max(Some(epoch));
        }
    })?;
    Ok(last)
}

/// Calls `tell` with the first number and the length of each run missing from `0..end`.
fn gaps(numbers: &[u64], end: u64, mut tell: impl FnMut(u64, u64)) {
    let mut expected = 0;
    for number in numbers.iter().copied().filter(|number| *number < end).chain([end]) {
        if number > expected {
            tell(expected, number - expected);
        }
        expected = number.saturating_add(1);
    }
}

fn oddity_finding(name: String, oddity: Oddity) -> Finding {
    match oddity {
        Oddity::NotAFile => Finding::file(Kind::NotAFile, name, "not a plain file"),
        Oddity::Overwritten => {
            let message = "has more than one version with different bytes; the first one written was read";
            Finding::file(Kind::OverwrittenObject, name, message)
        }
        Oddity::Repeated => {
            Finding::file(Kind::RepeatedObject, name, "was written twice with the same bytes")
        }
        Oddity::Deleted => Finding::file(Kind::DeletedObject, name, "carries a delete marker"),
        Oddity::Multipart => {
            Finding::file(Kind::MultipartObject, name, "has a version that came by multipart upload")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gaps_are_told_by_their_first_number_and_length() {
        let told = |numbers: &[u64], end| {
            let mut told = Vec::new();
            gaps(numbers, end, |first, count| told.push((first, count)));
            told
        };
        assert_eq!(told(&[0, 1, 2], 3), []);
        assert_eq!(told(&[], 3), [(0, 3)]);
        assert_eq!(told(&[1, 5], 4), [(0, 1), (2, 2)]);
        assert_eq!(told(&[0], 1 << 60), [(1, (1 << 60) - 1)]);
        assert_eq!(told(&[u64::MAX], 0), []);
    }

    #[test]
    fn tails_belong_to_the_bundle_they_are_in() {
        let inventory = Inventory { tails: vec![1, 255, 257, 511, 700], ..Inventory::default() };
        assert_eq!(inventory.tails_of(0), [1, 255]);
        assert_eq!(inventory.tails_of(1), [257, 511]);
        assert_eq!(inventory.tails_of(2), [700]);
        assert_eq!(inventory.tails_of(3), [0; 0]);
        assert_eq!(inventory.tails_of(u64::MAX / WIDTH), [0; 0]);
    }
}
