//! Rows as links: which follows which, where the chain divides, and where something is missing.
//!
//! Of each row its whole hash is kept, and three numbers: its parent, its chain and its place in an index, about fifty
//! bytes together. A row that follows one that was read is settled at once; of the others the hash they name is kept
//! until all rows are there.

mod places;

use std::collections::{BTreeMap, BTreeSet, HashMap};

use chancery_format::Hash;

use self::places::Places;
use super::rows::RowsError;
use crate::findings::{Finding, Findings, Kind};

/// Heads that are told one by one.
const HEADS_MAX: usize = 100;
/// Children of a fork that are named.
const CHILDREN_MAX: usize = 10;

/// In place of a parent: it begins its chain.
const BEGINS: u32 = u32::MAX;
/// In place of a parent: it was not there when the row was read.
const LATER: u32 = u32::MAX - 1;
/// In place of a parent: no row that could be read.
const NO_LINK: u32 = u32::MAX - 2;
/// Most rows that are numbered.
const ROWS_MAX: usize = NO_LINK as usize;

/// One row.
#[derive(Debug, Clone, Copy)]
pub(super) struct Link {
    /// Its hash.
    pub(super) hash: Hash,
    /// That of the row before it, as it says.
    pub(super) previous: Option<Hash>,
    /// Which chain it is in: a number that [`Links::chain`] gave.
    pub(super) chain: u32,
}

/// What is known about the rows as a whole.
#[derive(Debug, Clone, Copy)]
pub(super) struct Whole {
    /// Hash that must be the last.
    pub(super) pinned: Option<Hash>,
    /// Whether rows were read in an order that means something.
    pub(super) is_ordered: bool,
    /// Whether rows before the first of each chain were left out on purpose.
    pub(super) is_part: bool,
}

/// How the chains are, after all.
#[derive(Debug, Default)]
pub(super) struct Followed {
    /// Chains.
    pub(super) chains: u64,
    /// Last rows' hashes, the last row first; at most [`HEADS_MAX`].
    pub(super) heads: Vec<Hash>,
    /// Chains whose first row follows one that was left out on purpose.
    pub(super) cut: u64,
}

/// Rows of all files, in the order in which they were read.
#[derive(Debug, Default)]
pub(super) struct Links {
    hashes: Vec<Hash>,
    /// Of each row, the row before it.
    parents: Vec<u32>,
    chains: Vec<u32>,
    places: Places,
    /// Rows that are followed by another, a bit for each.
    followed: Vec<u64>,
    by_name: HashMap<Box<str>, u32>,
    /// Of each chain, the row that begins it.
    beginnings: Vec<Option<u32>>,
    /// Rows whose parent was not there yet, and the parent's hash.
    waiting: Vec<(u32, Hash)>,
    /// Rows with several children.
    forks: BTreeSet<u32>,
    /// Chains that begin several times.
    forked_beginnings: BTreeSet<u32>,
    /// Rows whose hash was there before, and where.
    repeated: Vec<(u32, u32)>,
    /// Where each file begins.
    files: Vec<(u32, String)>,
}

fn number(at: usize) -> u32 {
    u32::try_from(at).unwrap_or(NO_LINK)
}

impl Links {
    /// Rows from here on are of this file.
    pub(super) fn begin(&mut self, file: &str) {
        self.files.push((number(self.hashes.len()), file.to_owned()));
    }

    /// The number of the chain of that name.
    pub(super) fn chain(&mut self, name: &str) -> u32 {
        if let Some(chain) = self.by_name.get(name) {
            return *chain;
        }
        let chain = number(self.beginnings.len());
        self.beginnings.push(None);
        self.by_name.insert(name.into(), chain);
        chain
    }

    /// Adds the next row; one that could not be read has no link.
    pub(super) fn add(&mut self, link: Option<Link>) -> Result<(), RowsError> {
        if self.hashes.len() >= ROWS_MAX {
            return Err(RowsError::TooMany { max: ROWS_MAX });
        }
        let at = number(self.hashes.len());
        if at.is_multiple_of(64) {
            self.followed.push(0);
        }
        let Some(Link { hash, previous, chain }) = link else {
            self.hashes.push(Hash([0; 32]));
            self.parents.push(NO_LINK);
            self.chains.push(NO_LINK);
            return Ok(());
        };
        let parent = match previous {
            None => {
                self.begins(chain, at);
                BEGINS
            }
            Some(previous) => match self.find(chain, &previous) {
                Some(parent) => {
                    self.follows(parent);
                    parent
                }
                None => {
                    self.waiting.push((at, previous));
                    LATER
                }
            },
        };
        self.hashes.push(hash);
        self.parents.push(parent);
        self.chains.push(chain);
        let (hashes, chains) = (&self.hashes, &self.chains);
        let same = |other: u32| is_at(hashes, chains, other, chain, &hash);
        if let Some(first) = self.places.insert(&hash, at, same, |at| hashes.get(at as usize)) {
            self.repeated.push((at, first));
        }
        Ok(())
    }

    fn find(&self, chain: u32, hash: &Hash) -> Option<u32> {
        self.places.find(hash, |at| is_at(&self.hashes, &self.chains, at, chain, hash))
    }

    fn begins(&mut self, chain: u32, at: u32) {
        if let Some(beginning) = self.beginnings.get_mut(chain as usize)
            && beginning.replace(beginning.unwrap_or(at)).is_some()
        {
            self.forked_beginnings.insert(chain);
        }
    }

    fn follows(&mut self, parent: u32) {
        let Some(word) = self.followed.get_mut(parent as usize / 64) else { return };
        let bit = 1 << (parent % 64);
        if *word & bit != 0 {
            self.forks.insert(parent);
        }
        *word |= bit;
    }

    fn is_followed(&self, at: u32) -> bool {
        self.followed.get(at as usize / 64).is_some_and(|word| word >> (at % 64) & 1 == 1)
    }

    /// A row's number in its file, from 1, and the file.
    fn place(&self, at: u32) -> (u64, &str) {
        let files = self.files.iter().rev();
        let (first, name) =
            files.clone().find(|(first, _)| *first <= at).map_or((0, ""), |(first, name)| (*first, name));
        (u64::from(at - first) + 1, name)
    }

    fn finding(&self, kind: Kind, at: u32, message: String) -> Finding {
        let (row, file) = self.place(at);
        Finding::entry(kind, row, message).in_file(file)
    }

    fn row(&self, at: u32) -> u64 {
        self.place(at).0
    }

    /// Says what is wrong with the links, and how the chains are.
    pub(super) fn follow(mut self, whole: Whole, findings: &mut Findings) -> Followed {
        for (at, first) in &self.repeated {
            let message = format!("has the hash of row {}: it is there twice", self.row(*first));
            findings.push(self.finding(Kind::ChainBroken, *at, message));
        }
        let cut = self.settle(whole, findings);
        self.tell_forks(findings);
        // A repeated row stands where its first copy does.
        let copy_of: HashMap<u32, u32> = self.repeated.iter().copied().collect();
        let is_head = |at: &u32| {
            self.parents.get(*at as usize).is_some_and(|parent| *parent != NO_LINK)
                && !self.is_followed(copy_of.get(at).copied().unwrap_or(*at))
        };
        let heads = || (0..number(self.hashes.len())).rev().filter(is_head);
        let hashes = || heads().filter_map(|at| self.hashes.get(at as usize)).copied();
        if let Some(pinned) = whole.pinned.filter(|pinned| !hashes().any(|head| head == *pinned)) {
            let mut rows = self.hashes.iter().zip(&self.parents);
            let known = rows.any(|(hash, parent)| *hash == pinned && *parent != NO_LINK);
            let why = if known { "is followed by other rows" } else { "is not there: the end was cut off" };
            findings.push(Finding::new(Kind::Truncated, format!("the pinned head {pinned} {why}")));
        }
        Followed { chains: self.by_name.len() as u64, heads: hashes().take(HEADS_MAX).collect(), cut }
    }

    /// Looks again for parents that were not there when they were named. How many chains were cut on purpose.
    fn settle(&mut self, whole: Whole, findings: &mut Findings) -> u64 {
        let mut cut: BTreeMap<u32, Hash> = BTreeMap::new();
        let mut orphans: HashMap<(u32, Hash), Vec<u32>> = HashMap::new();
        let mut begun: BTreeSet<u32> = BTreeSet::new();
        if whole.is_part && !self.waiting.is_empty() {
            // The first row of each chain may follow one that was left out.
            let firsts = self.chains.iter().zip(0..).filter(|(chain, _)| **chain != NO_LINK);
            let mut seen = BTreeSet::new();
            begun = firsts.filter(|(chain, _)| seen.insert(**chain)).map(|(_, at)| at).collect();
        }
        for (at, previous) in std::mem::take(&mut self.waiting) {
            let chain = self.chains.get(at as usize).copied().unwrap_or(NO_LINK);
            if let Some(parent) = self.find(chain, &previous) {
                self.follows(parent);
                if let Some(place) = self.parents.get_mut(at as usize) {
                    *place = parent;
                }
                if whole.is_ordered {
                    let message = format!("stands before row {}, which it follows", self.row(parent));
                    findings.push(self.finding(Kind::ChainBroken, at, message));
                }
                continue;
            }
            orphans.entry((chain, previous)).or_default().push(at);
            if begun.contains(&at) {
                cut.insert(chain, previous);
            } else if cut.get(&chain) != Some(&previous) {
                let message = format!("follows {previous}, which is not there: rows are missing before it");
                findings.push(self.finding(Kind::Gap, at, message));
            }
        }
        for ((_, parent), rows) in orphans.iter().filter(|(_, rows)| rows.len() > 1) {
            if let Some(first) = rows.first() {
                findings.push(self.finding(Kind::Fork, *first, self.divided(&parent.to_string(), rows)));
            }
        }
        cut.len() as u64
    }

    fn divided(&self, what: &str, rows: &[u32]) -> String {
        let named: Vec<String> = rows.iter().take(CHILDREN_MAX).map(|at| self.row(*at).to_string()).collect();
        let more = match rows.len().saturating_sub(named.len()) {
            0 => String::new(),
            more => format!(" and {more} more"),
        };
        format!("{what} is followed by {} rows: {}{more}", rows.len(), named.join(", "))
    }

    fn tell_forks(&self, findings: &mut Findings) {
        if self.forks.is_empty() && self.forked_beginnings.is_empty() {
            return;
        }
        let mut children: BTreeMap<u32, Vec<u32>> = BTreeMap::new();
        let mut beginnings: BTreeMap<u32, Vec<u32>> = BTreeMap::new();
        for ((parent, chain), at) in self.parents.iter().zip(&self.chains).zip(0..) {
            if self.forks.contains(parent) {
                children.entry(*parent).or_default().push(at);
            } else if *parent == BEGINS && self.forked_beginnings.contains(chain) {
                beginnings.entry(*chain).or_default().push(at);
            }
        }
        for (parent, rows) in &children {
            let message = self.divided("it", rows);
            let message = message.strip_prefix("it ").unwrap_or(&message).to_owned();
            findings.push(self.finding(Kind::Fork, *parent, message));
        }
        for rows in beginnings.values() {
            if let Some(first) = rows.first() {
                findings.push(self.finding(Kind::Fork, *first, self.divided("the beginning", rows)));
            }
        }
    }
}

fn is_at(hashes: &[Hash], chains: &[u32], at: u32, chain: u32, hash: &Hash) -> bool {
    let at = at as usize;
    hashes.get(at).is_some_and(|found| found == hash) && chains.get(at).is_some_and(|found| *found == chain)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Hashes that agree in all but their last byte, and names of rows before them.
    fn hash(number: u8) -> Hash {
        let mut bytes = [7; 32];
        if let Some(last) = bytes.last_mut() {
            *last = number;
        }
        Hash(bytes)
    }

    fn follow(rows: &[(u8, Option<u8>)], whole: Whole) -> (Vec<(Kind, Option<u64>)>, Followed) {
        let mut links = Links::default();
        links.begin("rows");
        let chain = links.chain("");
        for (own, previous) in rows {
            let link = Link { hash: hash(*own), previous: previous.map(hash), chain };
            assert!(links.add((*own != 0).then_some(link)).is_ok());
        }
        let mut findings = Findings::default();
        let followed = links.follow(whole, &mut findings);
        (findings.sorted().listed().iter().map(|found| (found.kind, found.index)).collect(), followed)
    }

    const ALL: Whole = Whole { pinned: None, is_ordered: true, is_part: false };

    #[test]
    fn a_chain_has_one_head_and_nothing_to_tell() {
        let rows: Vec<(u8, Option<u8>)> = (1..200).map(|own| (own, (own > 1).then(|| own - 1))).collect();
        let (found, followed) = follow(&rows, ALL);
        assert_eq!((found, followed.chains, followed.heads), (vec![], 1, vec![hash(199)]));
        let backwards: Vec<_> = rows.iter().rev().copied().collect();
        assert_eq!(follow(&backwards, ALL).0.len(), 198, "each but the first stands before its parent");
        let (found, followed) = follow(&backwards, Whole { is_ordered: false, ..ALL });
        assert_eq!((found, followed.heads), (vec![], vec![hash(199)]));
        for (pinned, kinds) in [(199, vec![]), (198, vec![Kind::Truncated]), (250, vec![Kind::Truncated])] {
            let (found, _) = follow(&rows, Whole { pinned: Some(hash(pinned)), ..ALL });
            assert_eq!(found.into_iter().map(|(kind, _)| kind).collect::<Vec<_>>(), kinds, "{pinned}");
        }
    }

    #[test]
    fn what_is_wrong_is_told_at_its_row() {
        for (rows, told) in [
            (vec![(1, None), (3, Some(2))], vec![(Kind::Gap, Some(2))]),
            (vec![(1, None), (2, Some(1)), (3, Some(1))], vec![(Kind::Fork, Some(1))]),
            (vec![(1, None), (2, None)], vec![(Kind::Fork, Some(1))]),
            (vec![(1, None), (3, Some(2)), (2, Some(1))], vec![(Kind::ChainBroken, Some(2))]),
            (vec![(1, None), (0, None), (3, Some(2))], vec![(Kind::Gap, Some(3))]),
            (
                vec![(1, None), (4, Some(3)), (5, Some(3))],
                vec![(Kind::Fork, Some(2)), (Kind::Gap, Some(2)), (Kind::Gap, Some(3))],
            ),
            (
                vec![(1, None), (2, Some(1)), (3, Some(2)), (2, Some(1))],
                vec![(Kind::Fork, Some(1)), (Kind::ChainBroken, Some(4))],
            ),
            (
                vec![(3, Some(2)), (4, Some(2)), (2, None)],
                vec![(Kind::ChainBroken, Some(1)), (Kind::ChainBroken, Some(2)), (Kind::Fork, Some(3))],
            ),
        ] {
            let (mut found, _) = follow(&rows, ALL);
            found.sort_by_key(|(kind, at)| (*at, kind.as_str() != "fork"));
            let mut told = told;
            told.sort_by_key(|(kind, at)| (*at, kind.as_str() != "fork"));
            assert_eq!(found, told, "{rows:?}");
        }
    }

    #[test]
    fn a_part_begins_with_any_row_and_has_no_other_gap() {
        let part = Whole { is_part: true, ..ALL };
        let (found, followed) = follow(&[(5, Some(4)), (6, Some(5))], part);
        assert_eq!((found, followed.cut), (vec![], 1));
        let (found, _) = follow(&[(5, Some(4)), (7, Some(6))], part);
        assert_eq!(found, [(Kind::Gap, Some(2))]);
        let (found, _) = follow(&[(5, Some(4)), (6, Some(4))], part);
        assert_eq!(found, [(Kind::Fork, Some(1))]);
    }

    #[test]
    fn the_same_hash_in_another_chain_is_another_row() {
        let mut links = Links::default();
        links.begin("rows");
        let (one, other) = (links.chain("one"), links.chain("other"));
        assert_eq!((links.chain("one"), one == other), (one, false));
        for (own, chain, previous) in [(1, one, None), (1, other, None), (2, other, Some(hash(1)))] {
            let added = links.add(Some(Link { hash: hash(own), previous, chain }));
            assert!(added.is_ok());
        }
        for (own, chain) in [(3, one), (4, other)] {
            let added = links.add(Some(Link { hash: hash(own), previous: Some(hash(2)), chain }));
            assert!(added.is_ok());
        }
        let mut findings = Findings::default();
        assert_eq!(links.follow(ALL, &mut findings).chains, 2);
        let found: Vec<_> = findings.listed().iter().map(|found| (found.kind, found.index)).collect();
        assert_eq!(found, [(Kind::Gap, Some(4))], "row 2 is of the other chain");
    }
}
