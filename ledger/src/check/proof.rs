//! Which copy of the leaves is the signed one.
//!
//! Copies of 256 leaf hashes come from up to five sources: the stored leaves, the stored tile, and what the archive has.
//! Nearly always they agree. Where they do not, each [`Tile`] keeps its versions until a signed checkpoint covers it: the
//! choice of versions that leads to the signed root is the truth, and every other version is wrong, whoever keeps it.
//! Roots are computed by the second opinion's SHA-256, top down inside a tile.
//!
//! Holds at most 255 hashes a tile level, 32 bytes for each full tile since the last signed root that matched, and the
//! versions of tiles in dispute; all three are bounded.

use chancery_format::tile::{LEVELS, WIDTH};
use chancery_format::{Hash, TreeHead};

use crate::second_opinion::{sha256, tree_hash};

/// Full tiles between two signed roots that match: 2^28 entries. A daemon signs every few seconds; more means that
/// nothing was signed for weeks, or that nothing matches.
pub(super) const PENDING_MAX: usize = 1 << 20;
/// Tiles in dispute at one time, 8 KiB a version.
pub(super) const DISPUTED_MAX: usize = 256;
/// Choices tried for one root beside those that follow one source throughout.
const CHOICES_MAX: usize = 64;

/// Where a version comes from; also the order in which they are believed while nothing is proven.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Source {
    /// The leaves in the store.
    Leaves,
    /// The tile in the store.
    Tile,
    /// The bundle in the archive.
    Bundle,
    /// The tile in the archive.
    ArchivedTile,
    /// A tail bundle in the archive, of this width.
    Tail(u8),
    /// The proven beginning, and the stored leaves behind it.
    Healed,
}

/// One version of a tile's hashes and who says so. Fewer than 256 for a tail.
#[derive(Debug, Clone)]
pub(super) struct Version {
    pub(super) sources: Vec<Source>,
    pub(super) hashes: Vec<Hash>,
}

/// Everything known of one level-0 tile.
#[derive(Debug, Clone)]
pub(super) struct Tile {
    pub(super) number: u64,
    pub(super) versions: Vec<Version>,
    /// The archive lacks the bundle, although it was shipped.
    pub(super) bundle_missing: bool,
    /// The archive lacks the hash tile, although it was shipped.
    pub(super) tile_missing: bool,
}

impl Tile {
    pub(super) const fn new(number: u64) -> Self {
        Self { number, versions: Vec::new(), bundle_missing: false, tile_missing: false }
    }

    pub(super) fn add(&mut self, source: Source, hashes: Vec<Hash>) {
        match self.versions.iter_mut().find(|version| version.hashes == hashes) {
            Some(same) => same.sources.push(source),
            None => self.versions.push(Version { sources: vec![source], hashes }),
        }
    }

    pub(super) fn is_disputed(&self) -> bool {
        self.versions.len() > 1
    }

    /// Different beginnings of this many hashes, the most believed first.
    fn beginnings(&self, width: usize) -> Vec<(usize, &[Hash])> {
        let mut found: Vec<(usize, &[Hash])> = Vec::new();
        for (number, version) in self.versions.iter().enumerate() {
            let Some(beginning) = version.hashes.get(..width) else { continue };
            if !found.iter().any(|(_, other)| *other == beginning) {
                found.push((number, beginning));
            }
        }
        found
    }

    /// The version that follows a source, as far as there is one of this width.
    fn by(&self, source: Source, width: usize) -> Option<usize> {
        let fits = |version: &Version| version.hashes.len() >= width && version.sources.contains(&source);
        self.versions.iter().position(fits)
    }

    /// Beginnings are proven now: versions that contradict them are taken out, for whoever reports them, and if none is
    /// left that goes on, the leaves go on from there.
    pub(super) fn settle_beginning(&mut self, truth: &[Hash]) -> Vec<Version> {
        let agrees = |version: &Version| version.hashes.iter().zip(truth).all(|(one, other)| one == other);
        let all = std::mem::take(&mut self.versions);
        let (right, wrong): (Vec<_>, Vec<_>) = all.into_iter().partition(agrees);
        self.versions = right;
        if !self.versions.iter().any(|version| version.hashes.len() > truth.len()) {
            let leaves = wrong.iter().find(|version| version.sources.contains(&Source::Leaves));
            let rest = leaves.and_then(|version| version.hashes.get(truth.len()..)).unwrap_or_default();
            let healed = truth.iter().chain(rest).copied().collect();
            self.versions.insert(0, Version { sources: vec![Source::Healed], hashes: healed });
        }
        wrong
    }
}

/// A full tile that no signed root covers yet.
#[derive(Debug)]
struct Pending {
    /// Of the version believed most.
    root: Hash,
    /// Kept if there is something to be said about it later.
    tile: Option<Box<Tile>>,
}

/// A tile whose truth is known.
#[derive(Debug)]
pub(super) struct Settled {
    pub(super) tile: Tile,
    pub(super) truth: Vec<Hash>,
}

/// A full tile of a level above the leaves, as it must be.
#[derive(Debug)]
pub(super) struct Upper {
    pub(super) level: u8,
    pub(super) number: u64,
    pub(super) hashes: Vec<Hash>,
}

/// What follows from a root that matched.
#[derive(Debug, Default)]
pub(super) struct Proven {
    pub(super) settled: Vec<Settled>,
    pub(super) uppers: Vec<Upper>,
    /// Of the tile that is not full: its first hashes.
    pub(super) beginning: Vec<Hash>,
}

/// Nodes of the tiles that are not complete, from tile level 1 up.
#[derive(Debug, Clone, Default)]
struct Levels {
    levels: [Vec<Hash>; LEVELS as usize - 1],
    full: [u64; LEVELS as usize - 1],
}

impl Levels {
    fn push(&mut self, root: Hash, uppers: &mut Vec<Upper>) {
        let mut node = root;
        for ((level, nodes), number) in (1..).zip(&mut self.levels).zip(&mut self.full) {
            nodes.push(node);
            if (nodes.len() as u64) < WIDTH {
                return;
            }
            let hashes = std::mem::take(nodes);
            node = tree_hash(&hashes);
            uppers.push(Upper { level, number: *number, hashes });
            *number += 1;
        }
    }

    /// Root of the tree with these leaf hashes behind its full tiles.
    fn root(&self, rest: &[Hash]) -> Hash {
        let mut right = (!rest.is_empty()).then(|| tree_hash(rest));
        for nodes in &self.levels {
            let items: Vec<Hash> = nodes.iter().copied().chain(right).collect();
            right = (!items.is_empty()).then(|| tree_hash(&items));
        }
        right.unwrap_or_else(|| sha256(&[]))
    }
}

/// The tree as far as it is proven, and what waits behind.
#[derive(Debug, Default)]
pub(super) struct Proof {
    proven: Levels,
    pending: Vec<Pending>,
    disputed: usize,
}

impl Proof {
    /// Takes a full tile that nothing proves yet; `false` if too much waits already.
    pub(super) fn push(&mut self, tile: Tile) -> bool {
        let root = tile.versions.first().map_or_else(|| sha256(&[]), |version| tree_hash(&version.hashes));
        let disputed = tile.is_disputed();
        self.disputed += usize::from(disputed);
        let told_later = disputed || tile.bundle_missing || tile.tile_missing;
        self.pending.push(Pending { root, tile: told_later.then(|| Box::new(tile)) });
        self.pending.len() <= PENDING_MAX && self.disputed <= DISPUTED_MAX
    }

    /// Whether some choice of versions, of what waits and of the first `size` mod 256 hashes of `last`, leads to this
    /// root. If so everything is settled up to there.
    pub(super) fn reach(&mut self, head: TreeHead, last: Option<&Tile>) -> Option<Proven> {
        let width = usize::try_from(head.size.0 % WIDTH).ok()?;
        let last = last.filter(|_| width > 0);
        let choice =
            self.choices(last, width).into_iter().find(|choice| self.leads_to(choice, last, width, head))?;
        let mut proven = Proven::default();
        let mut picks = choice.tiles.iter();
        for Pending { root, tile } in std::mem::take(&mut self.pending) {
            let Some(tile) = tile else {
                self.proven.push(root, &mut proven.uppers);
                continue;
            };
            let pick = if tile.is_disputed() { picks.next().copied().unwrap_or(0) } else { 0 };
            let truth = tile.versions.get(pick).map(|version| version.hashes.clone()).unwrap_or_default();
            self.proven.push(tree_hash(&truth), &mut proven.uppers);
            proven.settled.push(Settled { tile: *tile, truth });
        }
        self.disputed = 0;
        let beginning = last.and_then(|tile| tile.versions.get(choice.last)?.hashes.get(..width));
        proven.beginning = beginning.unwrap_or_default().to_vec();
        Some(proven)
    }

    /// Whether some choice leads to this root; settles nothing.
    pub(super) fn leads(&self, head: TreeHead, last: Option<&Tile>) -> bool {
        let width = usize::try_from(head.size.0 % WIDTH).unwrap_or(0);
        let last = last.filter(|_| width > 0);
        self.choices(last, width).iter().any(|choice| self.leads_to(choice, last, width, head))
    }

    /// What waited to the end: tiles about which nothing is proven.
    pub(super) fn left(&mut self) -> Vec<Tile> {
        std::mem::take(&mut self.pending)
            .into_iter()
            .filter_map(|pending| pending.tile.map(|tile| *tile))
            .collect()
    }

    /// Ways to choose one version for each tile in dispute: first by source, then all, if they are few.
    fn choices(&self, last: Option<&Tile>, width: usize) -> Vec<Choice> {
        let disputed: Vec<&Tile> = self
            .pending
            .iter()
            .filter_map(|pending| pending.tile.as_deref())
            .filter(|tile| tile.is_disputed())
            .collect();
        let full = WIDTH as usize;
        let by = |source: Source| Choice {
            tiles: disputed.iter().map(|tile| tile.by(source, full).unwrap_or(0)).collect(),
            last: last.and_then(|tile| tile.by(source, width)).unwrap_or(0),
        };
        let sources = [Source::Leaves, Source::Tile, Source::Bundle, Source::ArchivedTile];
        let mut choices: Vec<Choice> = sources.into_iter().map(by).collect();
        let ends: Vec<usize> = last
            .map_or_else(|| vec![0], |tile| tile.beginnings(width).into_iter().map(|(at, _)| at).collect());
        let mut all = vec![Choice { tiles: Vec::new(), last: 0 }];
        for tile in &disputed {
            let options = tile.beginnings(full);
            if all.len() * options.len() * ends.len().max(1) > CHOICES_MAX {
                return choices;
            }
            let longer = |choice: &Choice| {
                let choice = choice.clone();
                options
                    .iter()
                    .map(move |(at, _)| Choice {
                        tiles: [&choice.tiles[..], &[*at]].concat(),
                        ..choice.clone()
                    })
                    .collect::<Vec<_>>()
            };
            all = all.iter().flat_map(longer).collect();
        }
        let with_end = |choice: &Choice| {
            ends.iter().map(|end| Choice { last: *end, ..choice.clone() }).collect::<Vec<_>>()
        };
        choices.extend(all.iter().flat_map(with_end));
        choices
    }

    fn leads_to(&self, choice: &Choice, last: Option<&Tile>, width: usize, head: TreeHead) -> bool {
        let (mut tree, mut unused) = (self.proven.clone(), Vec::new());
        let mut picks = choice.tiles.iter();
        for Pending { root, tile } in &self.pending {
            let picked = match tile.as_deref().filter(|tile| tile.is_disputed()) {
                None => Some(*root),
                Some(tile) => {
                    let version = picks.next().and_then(|pick| tile.versions.get(*pick));
                    version
                        .filter(|version| version.hashes.len() as u64 == WIDTH)
                        .map(|version| tree_hash(&version.hashes))
                }
            };
            let Some(node) = picked else { return false };
            tree.push(node, &mut unused);
        }
        let rest = match last {
            None => Some(&[][..]),
            Some(tile) => tile.versions.get(choice.last).and_then(|version| version.hashes.get(..width)),
        };
        rest.is_some_and(|rest| (rest.len() == width) && tree.root(rest) == head.root)
    }
}

/// One version for each tile in dispute, and one for the last tile.
#[derive(Debug, Clone)]
struct Choice {
    tiles: Vec<usize>,
    last: usize,
}
