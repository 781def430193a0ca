//! A pass written down between two bundles, and taken up again.
//!
//! What is small is written as it is: the tree's frontier and unfinished tiles, the head of each stream and key, what was
//! found and counted, the checkpoints read ahead. What folds many entries into a state (lives of keys, acts of people,
//! registries) is not: the entries themselves are named with their leaf hashes, read again, and folded again by the same
//! code. Nothing is written down once entries are missing, or while tiles contradict entries.
//!
//! Whoever resumes trusts the state as their own word. It is of one origin, one registry, one set of options and one
//! version of this program, and of one archive: the checkpoint that was its last is still there, and so is every name
//! below what was verified. What does not fit is refused, never repaired.

use std::collections::VecDeque;

use chancery_format::archive::checkpoint_name;
use chancery_format::merkle::{Frontier, leaf_hash};
use chancery_format::tile::{LEVELS, TileTail, WIDTH, full_tiles};
use chancery_format::{Hash, TreeHead, TreeSize};

use super::state::{Counts, Epochs, KeptCosigned, KeptFinding, KeptHead, KeptHeads, KeptStream, State};
use super::{Act, EntryFacts, Partials, Pass, Plan, SignedHead, Tree};
use crate::evidence::Evidence;
use crate::findings::Findings;
use crate::inventory::Inventory;
use crate::ledger::chains::Last;
use crate::ledger::event::read_entry;
use crate::ledger::notes::read_checkpoint;
use crate::nodes::ArchiveNodes;
use crate::trust::Trust;

/// Why a state cannot be taken up. Start without it, or give what it is of.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ResumeError {
    /// It is not a state of this version, or was altered.
    #[error("is not a state that this version of the program wrote")]
    Malformed,
    /// It is of something else.
    #[error("is of another {0}")]
    Other(&'static str),
    /// It cannot be read or written.
    #[error("{0}")]
    File(String),
    /// The archive is not what it was.
    #[error("the archive has changed below what was verified: {0}")]
    Changed(String),
}

/// What was read of a state, and fits.
pub(crate) struct Resumed(State);

impl Resumed {
    /// Reads a state and holds it against what it must be of. `options` is a digest of what decides a verdict.
    pub(crate) fn read(
        json: &[u8],
        trust: &Trust,
        options: &Hash,
        evidence: &dyn Evidence,
        inventory: &Inventory,
        last: &TreeHead,
    ) -> Result<Self, ResumeError> {
        let state: State = serde_json::from_slice(json).map_err(|_| ResumeError::Malformed)?;
        if (state.version, state.program.as_str()) != (1, env!("CARGO_PKG_VERSION")) {
            return Err(ResumeError::Malformed);
        }
        for (known, given, what) in [
            (&state.origin, trust.origin().as_str(), "ledger"),
            (
                &state.registry,
                &*trust.sha256().to_hex(),
                "registry: the file given is not the one it was begun with",
            ),
            (
                &state.options,
                &*options.to_hex(),
                "kind of run: --strict, --since and --policy must be what they were",
            ),
        ] {
            if known != given {
                return Err(ResumeError::Other(what));
            }
        }
        let changed = |what: String| Err(ResumeError::Changed(what));
        let KeptHead { epoch, size, root, .. } = &state.last;
        let now = read_checkpoint(evidence, trust, *epoch).map(|signed| signed.head);
        if !now.is_ok_and(|head| head.size.0 == *size && head.root.to_hex() == *root) || last.size.0 < *size {
            return changed(format!("{} is not the one that was its last", checkpoint_name(*epoch)));
        }
        if inventory.digest(state.size, state.epochs.read).to_hex() != state.names {
            return changed("files were added or removed".to_owned());
        }
        if state.size > *size || !state.size.is_multiple_of(WIDTH) {
            return Err(ResumeError::Malformed);
        }
        Ok(Self(state))
    }
}

impl Pass<'_> {
    /// What is to be bound to the state, beyond what the pass itself knows.
    pub(crate) fn keep_for(&mut self, options: Hash, last_epoch: u64) {
        self.bound_to = Some((options, last_epoch));
    }

    /// The pass as it stands, nothing being under way; `None` where it cannot be written down.
    pub(super) fn state(&self) -> Option<State> {
        let (options, last_epoch) = self.bound_to?;
        let (frontier, tiles) = self.tree.parts()?;
        let hexes = |hashes: &[Hash]| hashes.iter().map(Hash::to_hex).collect::<Vec<_>>();
        let read = self.inventory.checkpoints.len().checked_sub(self.epochs.len() + 1);
        let read = read.and_then(|at| self.inventory.checkpoints.get(at).copied());
        let listed = &self.inventory.witnessed;
        let read_cosigned = listed.len().checked_sub(self.cosigned.left.len() + 1);
        let read_cosigned = read_cosigned.and_then(|at| listed.get(at).copied());
        let kept = |epoch, signed: &SignedHead| KeptHead {
            epoch,
            size: signed.head.size.0,
            root: signed.head.root.to_hex(),
            signers: signed
                .signers
                .iter()
                .map(|id| id.map(|id| self.trust.signer(id).name().to_owned()))
                .collect(),
        };
        let last = SignedHead { head: self.last, signers: Vec::new() };
        let streams = self.chains.heads().map(|(stream, Last { seq, hash, chain })| {
            let chain = chain.map(|(link, ts)| {
                let previous = link.previous.map(|hash| hash.to_hex());
                (link.dialect.as_str().to_owned(), link.hash.to_hex(), previous, ts.to_string())
            });
            (stream.to_owned(), KeptStream { seq, hash: hash.to_hex(), chain })
        });
        let findings = self.findings.listed().iter().map(|finding| KeptFinding {
            kind: finding.kind.as_str().to_owned(),
            weight: finding.weight as u8,
            index: finding.index,
            file: finding.file.clone(),
            message: finding.message.clone(),
        });
        Some(State {
            version: 1,
            program: env!("CARGO_PKG_VERSION").to_owned(),
            origin: self.trust.origin().as_str().to_owned(),
            registry: self.trust.sha256().to_hex(),
            options: options.to_hex(),
            last: kept(last_epoch, &last),
            names: self.inventory.digest(self.at, read).to_hex(),
            size: self.at,
            frontier: hexes(frontier.nodes()),
            tiles: (1..LEVELS).map(|level| hexes(tiles.partial(level))).collect(),
            streams: streams.collect(),
            heads: KeptHeads::of(&self.enrolled_heads),
            acts: self.acts_at.iter().map(|(index, leaf)| (*index, leaf.to_hex())).collect(),
            epochs: Epochs {
                read,
                until: self.heads_until,
                incomplete: self.heads_incomplete,
                tails_seen: self.tails_seen as u64,
                partials_seen: self.partials.seen.map(|seen| seen as u64),
                partials_compared: self.partials.compared,
                ahead: self.targets.iter().map(|target| kept(target.epoch, &target.signed)).collect(),
            },
            cosigned: KeptCosigned::of(&self.cosigned, read_cosigned),
            counts: self.counts(),
            findings: findings.collect(),
            findings_total: [self.findings.bad(), self.findings.missing(), self.findings.warnings()],
        })
    }

    fn counts(&self) -> Counts {
        let it = &self.checked;
        Counts {
            entries: it.entries,
            bytes: it.bytes,
            bundles: it.bundles,
            tail_bundles: it.tail_bundles,
            tiles: it.tiles,
            partial_tiles: it.partial_tiles,
            checkpoints: it.checkpoints,
            signatures: it.signatures,
            macs: self.gathering.macs,
            over_messages: self.gathering.over_messages,
            anchored: it.anchored,
            head: it.head.map(|head| (head.size.0, head.root.to_hex())),
            continues_older: it.continues_older,
        }
    }

    /// Takes up a state. Entries that say something about keys, people and registries are read again.
    pub(crate) fn resume(&mut self, resumed: Resumed, evidence: &dyn Evidence) -> Result<(), ResumeError> {
        let Resumed(state) = resumed;
        let malformed = || ResumeError::Malformed;
        self.at = state.size;
        self.tree = tree(&state).ok_or_else(malformed)?;
        for (name, stream) in &state.streams {
            self.chains.resume(name, stream.read().ok_or_else(malformed)?);
        }
        self.enrolled_heads = state.heads.read().ok_or_else(malformed)?;
        self.replay(&state.acts, evidence)?;
        let number = self.at / WIDTH;
        self.plan = Plan::after(self.inventory, self.last.size.0, number);
        let epochs = &state.epochs;
        let past = |read: u64| self.inventory.checkpoints.partition_point(|epoch| *epoch <= read);
        let left = self.inventory.checkpoints.get(epochs.read.map_or(0, past)..).unwrap_or_default();
        self.epochs = left.iter();
        (self.heads_until, self.heads_incomplete) =
            (epochs.until, self.heads_incomplete || epochs.incomplete);
        self.tails_seen = usize::try_from(epochs.tails_seen).map_err(|_| malformed())?;
        let seen = epochs.partials_seen.map(|seen| usize::try_from(seen).unwrap_or(usize::MAX));
        self.partials = Partials::resumed(seen, epochs.partials_compared);
        let ahead = epochs.ahead.iter().map(|kept| kept.read(self.trust));
        self.targets = ahead.collect::<Option<VecDeque<_>>>().ok_or_else(malformed)?;
        let listed = &self.inventory.witnessed;
        state.cosigned.restore(&mut self.cosigned, listed).ok_or_else(malformed)?;
        let findings = state.findings.iter().map(KeptFinding::read).collect::<Option<_>>();
        self.findings = Findings::resumed(findings.ok_or_else(malformed)?, state.findings_total);
        self.count_on(&state.counts).ok_or_else(malformed)?;
        if state.counts.continues_older.is_some() {
            self.since = None;
        }
        Ok(())
    }

    /// The same entries, by their leaf hashes, enact the same again.
    fn replay(&mut self, acts: &[(u64, String)], evidence: &dyn Evidence) -> Result<(), ResumeError> {
        let nodes = ArchiveNodes::new(evidence, self.inventory);
        for (index, leaf) in acts {
            let changed = |why: String| ResumeError::Changed(format!("entry {index} {why}"));
            let leaf = Hash::from_hex(leaf).map_err(|_| ResumeError::Malformed)?;
            let entry = nodes.entry(*index).map_err(|finding| changed(finding.message))?;
            if leaf_hash(&entry) != leaf {
                return Err(changed("is another".to_owned()));
            }
            // What is wrong with the entry by itself was found before, and is in the state.
            let facts = read_entry(self.trust, *index, &entry, false, &mut Vec::new());
            let EntryFacts::Read(link, act, _) = facts else { return Err(ResumeError::Malformed) };
            if *index == 0 {
                self.lives.open_under(link.ledger_key);
            }
            match act.map(|act| *act) {
                Some(Act::Issued(_, asked)) => self.redeem(*index, &asked),
                act => self.enact(*index, act),
            }
            self.acts_at.push((*index, leaf));
        }
        Ok(())
    }

    fn count_on(&mut self, counts: &Counts) -> Option<()> {
        let head = counts
            .head
            .as_ref()
            .map(|(size, root)| Some(TreeHead { size: TreeSize(*size), root: Hash::from_hex(root).ok()? }));
        let it = &mut self.checked;
        it.entries = counts.entries;
        it.bytes = counts.bytes;
        it.bundles = counts.bundles;
        it.tail_bundles = counts.tail_bundles;
        it.tiles = counts.tiles;
        it.partial_tiles = counts.partial_tiles;
        it.checkpoints = counts.checkpoints;
        it.signatures = counts.signatures;
        it.anchored = counts.anchored;
        it.continues_older = counts.continues_older;
        it.head = match head {
            Some(read) => Some(read?),
            None => None,
        };
        (self.gathering.macs, self.gathering.over_messages) = (counts.macs, counts.over_messages);
        Some(())
    }
}

/// The tree, if its hashes are as many as one of this size has.
fn tree(state: &State) -> Option<Tree> {
    let read =
        |hexes: &[String]| hexes.iter().map(|hex| Hash::from_hex(hex).ok()).collect::<Option<Vec<_>>>();
    let frontier = Frontier::from_parts(TreeSize(state.size), read(&state.frontier)?).ok()?;
    let mut tiles = TileTail::new();
    for (level, partial) in (1..LEVELS).zip(&state.tiles) {
        tiles.resume(level, full_tiles(level, state.size));
        let partial = read(partial)?;
        if partial.len() as u64 >= WIDTH {
            return None;
        }
        partial.into_iter().for_each(|node| drop(tiles.push(level, node)));
    }
    // Level 0 is not kept: a bundle's own leaves are its tile.
    tiles.resume(0, full_tiles(0, state.size));
    tiles.is_at(state.size).then(|| Tree::resume(frontier, tiles))
}
