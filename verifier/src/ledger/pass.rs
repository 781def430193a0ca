//! The one pass over the ledger, in order: gives out jobs, takes what is done, and applies it.
//!
//! It can stand still between two bundles, once nothing is under way, and be written down (`pass/resume.rs`).
//!
//! Bounded everywhere: jobs under way by the pool, bundles read ahead by [`Pass::ahead`], checkpoints read
//! ahead by [`HEADS_AHEAD_MAX`], signatures waiting by their gathering.

mod heads;
mod keeper;
mod partials;
mod resume;
mod state;
mod witnessed;

use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant};

use chancery_format::tile::WIDTH;
use chancery_format::{Hash, TreeHead};

use super::Options;
use super::acts::{Acts, ActsTold};
use super::bundle::BundleReport;
use super::chains::Chains;
use super::event::{Act, Asked, EntryFacts, Issued, Link};
use super::heads::Heads;
use super::lives::{KeyLife, Lives};
use super::notes::SignedHead;
use super::plan::Plan;
use super::pool::{Done, Job, Pool};
use super::registries::Registries;
use super::signatures::Gathering;
use super::survey::{Collector, Survey};
use super::tree::Tree;
use super::witnessed::WitnessedTold;
use crate::findings::{Finding, Findings, Kind};
use crate::inventory::Inventory;
use crate::progress::Progress;
use crate::report::Checked;
use crate::trust::Trust;

pub(crate) use self::keeper::{Keeper, STATE_BYTES_MAX};
use self::partials::Partials;
pub use self::resume::ResumeError;
pub(crate) use self::resume::Resumed;
use self::witnessed::CosignedNotes;

/// Checkpoints read before the entries under them: more than one bundle can have.
const HEADS_AHEAD_MAX: usize = 1_024;

/// Results that come in any order and are taken in the order their jobs were given out.
struct InOrder<T> {
    given: u64,
    taken: u64,
    waiting: BTreeMap<u64, T>,
}

impl<T> InOrder<T> {
    const fn new() -> Self {
        Self { given: 0, taken: 0, waiting: BTreeMap::new() }
    }

    fn give(&mut self) -> u64 {
        self.given += 1;
        self.given - 1
    }

    const fn outstanding(&self) -> u64 {
        self.given - self.taken
    }

    fn next(&mut self) -> Option<T> {
        let next = self.waiting.remove(&self.taken)?;
        self.taken += 1;
        Some(next)
    }
}

/// A signed head that waits for the tree to reach it.
struct Target {
    epoch: u64,
    signed: SignedHead,
}

/// The state of the pass.
pub(crate) struct Pass<'a> {
    trust: &'a Trust,
    inventory: &'a Inventory,
    pool: Pool,
    ahead: u64,
    plan: Plan<'a>,
    epochs: std::slice::Iter<'a, u64>,
    /// Jobs that come before any reading, so that they do not pile up.
    urgent: VecDeque<Job>,
    bundles: InOrder<Box<BundleReport>>,
    heads: InOrder<(u64, Result<SignedHead, Finding>)>,
    last: TreeHead,
    targets: VecDeque<Target>,
    /// Size of the newest head accepted; every head up to it was.
    heads_until: Option<u64>,
    /// Whether a checkpoint is missing or was refused, which explains tail bundles without one.
    heads_incomplete: bool,
    tails_seen: usize,
    partials: Partials,
    cosigned: CosignedNotes<'a>,
    since: Option<TreeHead>,
    /// Leaves so far.
    at: u64,
    tree: Tree,
    chains: Chains,
    enrolled_heads: Heads,
    lives: Lives,
    acts: Acts,
    registries: Registries,
    gathering: Gathering,
    /// Counts for a report, if there is to be one.
    survey: Option<Collector>,
    findings: Findings,
    /// What acts of the ledger itself led to: found again when they are read again.
    act_findings: Findings,
    /// Entries that say something about keys, people or registries, and their leaf hashes.
    acts_at: Vec<(u64, Hash)>,
    /// Whether entries were missing: from there on nothing is written down.
    gapped: bool,
    /// Whether a checkpoint was held since the state was written down.
    held: bool,
    /// Whether to stand still until nothing is under way.
    paused: bool,
    /// Whether the state is to be written down, and when it last was.
    keeps: bool,
    kept: Instant,
    keep_period: Duration,
    stood_still: Instant,
    /// A digest of the options, and the epoch of `last`.
    bound_to: Option<(Hash, u64)>,
    checked: Checked,
}

/// How often the state is written down at most.
const KEEP_PERIOD: Duration = Duration::from_millis(200);
/// Writing it down, and standing still for it, takes at most one part in so many of the time.
const KEEP_SHARE: u32 = 20;

/// Whether an entry must be read again when the pass is resumed: what it says is not in the state itself.
fn is_remembered(at: u64, act: Option<&Act>) -> bool {
    match act {
        Some(Act::Activated(..) | Act::Retired(_) | Act::Published { .. } | Act::Governed(..)) => true,
        Some(Act::Issued(_, asked)) => asked.approval.is_some(),
        Some(Act::Opened | Act::Anchored | Act::Heads(_)) | None => at == 0,
    }
}

impl<'a> Pass<'a> {
    pub(crate) fn new(
        trust: &'a Trust,
        inventory: &'a Inventory,
        (last, since): (TreeHead, Option<TreeHead>),
        registries: BTreeMap<u64, Hash>,
        options: &Options,
        survey: Option<Collector>,
        pool: Pool,
    ) -> Self {
        let contiguous = inventory.checkpoints.last() == Some(&(inventory.checkpoints.len() as u64 - 1));
        Self {
            trust,
            inventory,
            ahead: pool.capacity() * 2,
            pool,
            plan: Plan::new(inventory, last.size.0),
            epochs: inventory.checkpoints.iter(),
            urgent: VecDeque::new(),
            bundles: InOrder::new(),
            heads: InOrder::new(),
            last,
            targets: VecDeque::new(),
            heads_until: None,
            heads_incomplete: !contiguous,
            tails_seen: 0,
            partials: Partials::default(),
            cosigned: CosignedNotes::new(inventory, options.policy.is_some()),
            since,
            at: 0,
            tree: Tree::new(),
            chains: Chains::default(),
            enrolled_heads: Heads::default(),
            lives: Lives::new(trust),
            acts: Acts::new(trust),
            registries: Registries::new(registries),
            gathering: Gathering::new(trust, options.strict),
            survey,
            findings: Findings::default(),
            act_findings: Findings::default(),
            acts_at: Vec::new(),
            gapped: false,
            held: false,
            paused: false,
            keeps: false,
            kept: Instant::now(),
            keep_period: KEEP_PERIOD,
            stood_still: Instant::now(),
            bound_to: None,
            checked: Checked::default(),
        }
    }

    /// The plot: until nothing is left to give out and nothing is under way. `keeper` writes the state down on the way.
    pub(crate) fn run(&mut self, progress: &mut dyn Progress, mut keeper: Option<&mut Keeper>) {
        let mut gathered = false;
        self.keeps = keeper.is_some();
        loop {
            self.give_out();
            if !self.pool.is_idle() {
                let done = self.pool.wait();
                self.take(done);
                self.apply_ready();
                progress.advance(self.at);
            } else if self.paused {
                self.urgent.extend(self.gathering.finish().into_iter().map(Job::Signatures));
                if self.urgent.is_empty() {
                    if let (Some(keeper), Some(state)) = (keeper.as_deref_mut(), self.state()) {
                        keeper.keep(&state);
                    }
                    (self.paused, self.held) = (false, false);
                    self.kept = Instant::now();
                    self.keep_period = KEEP_PERIOD.max(self.stood_still.elapsed() * KEEP_SHARE);
                    self.apply_ready();
                }
            } else if !gathered {
                self.apply_ready();
                gathered = true;
                self.urgent.extend(self.gathering.finish().into_iter().map(Job::Signatures));
            } else if self.urgent.is_empty() {
                break;
            }
        }
    }

    /// Says what can only be said at the end; gives the lives of the keys, the acts of people, and what was counted.
    pub(crate) fn finish(
        mut self,
        findings: &mut Findings,
        checked: &mut Checked,
    ) -> (Vec<KeyLife>, ActsTold, Option<Survey>, WitnessedTold) {
        self.stray_tails_below(self.last.size.0 + 1);
        self.stray_partials_up_to(self.last.size.0);
        while let Some(target) = self.targets.pop_front() {
            self.hold(&target); // the entries under it are missing
        }
        self.finish_cosigned();
        self.check_since(u64::MAX);
        if self.at < self.last.size.0 {
            self.gap(); // what is missing at the end may have told more
        }
        self.lives.unfulfilled(self.trust, self.last.size.0, &mut self.findings);
        self.registries.finish(&mut self.findings);
        *checked = Checked {
            files: checked.files,
            strict: checked.strict,
            shown: checked.shown,
            streams: self.chains.count(),
            heads: self.enrolled_heads.checked,
            registry_versions: self.registries.count(),
            macs: self.gathering.macs,
            over_messages: self.gathering.over_messages,
            ..self.checked
        };
        findings.merge(self.findings);
        findings.merge(self.act_findings);
        let survey = self.survey.map(|survey| survey.finish(self.trust));
        (self.lives.told(self.trust), self.acts.finish(), survey, self.cosigned.told)
    }

    fn give_out(&mut self) {
        while self.pool.has_room() {
            let Some(job) = self.next_job() else { return };
            self.pool.give(job);
        }
    }

    fn next_job(&mut self) -> Option<Job> {
        if let Some(job) = self.urgent.pop_front() {
            return Some(job);
        }
        if self.paused {
            return None;
        }
        let heads_ahead = self.targets.len() as u64 + self.heads.outstanding();
        if heads_ahead < HEADS_AHEAD_MAX as u64
            && let Some(epoch) = self.epochs.next()
        {
            return Some(Job::Checkpoint(self.heads.give(), *epoch));
        }
        if let Some(job) = self.cosigned.next_job() {
            return Some(job);
        }
        if self.bundles.outstanding() < self.ahead
            && let Some(task) = self.plan.next()
        {
            return Some(Job::Bundle(self.bundles.give(), task));
        }
        None
    }

    fn take(&mut self, done: Done) {
        match done {
            Done::Checkpoint(order, epoch, result) => {
                self.heads.waiting.insert(order, (epoch, result));
            }
            Done::Witnessed(order, epoch, result) => {
                self.cosigned.read.waiting.insert(order, (epoch, result));
            }
            Done::Bundle(order, report) => {
                self.bundles.waiting.insert(order, report);
            }
            Done::Tile(is_partial, finding) => {
                *(if is_partial { &mut self.checked.partial_tiles } else { &mut self.checked.tiles }) += 1;
                self.findings.extend(finding);
            }
            Done::Signatures(report) => {
                self.checked.signatures += report.verified;
                self.findings.extend(report.findings);
                if let Some(survey) = &mut self.survey {
                    for (index, mark) in &report.counted {
                        survey.take_back(self.trust, report.signer, *index, mark);
                    }
                }
            }
            Done::Crashed => {}
        }
    }

    /// Applies everything whose turn has come.
    fn apply_ready(&mut self) {
        while let Some((epoch, result)) = self.heads.next() {
            match result {
                Ok(signed) => self.accept_head(epoch, signed),
                Err(finding) => {
                    self.heads_incomplete = true;
                    self.findings.push(finding);
                }
            }
        }
        self.accept_cosigned();
        let all_heads = self.epochs.len() == 0 && self.heads.outstanding() == 0;
        while let Some(report) = self.bundles.waiting.get(&self.bundles.taken) {
            let end = report.task.first() + WIDTH;
            let known = all_heads || self.heads_until.is_some_and(|until| until > end);
            if self.paused || !known || !self.cosigned.is_known_up_to(end) {
                return;
            }
            if let Some(report) = self.bundles.next() {
                self.apply(*report);
            }
        }
    }

    fn apply(&mut self, report: BundleReport) {
        let BundleReport { task, bytes, files, leaves, tile_leaves, roots, entries, findings } = report;
        self.findings.extend(findings);
        self.checked.bytes += bytes;
        self.checked.bundles += files.bundles;
        self.checked.tail_bundles += files.tails;
        self.checked.tiles += files.tiles;
        if self.at == 0 {
            self.meet_targets(); // a checkpoint of the empty tree
        }
        if task.after_gap || leaves.is_empty() {
            self.tree.lose();
        }
        if task.after_gap {
            self.gap();
        }
        self.at = task.first();
        let complete = entries.len() as u64 == task.width;
        let mut entries = entries.into_iter();
        for offset in 0..usize::try_from(task.width).unwrap_or(0) {
            match entries.next() {
                Some(facts) => self.apply_entry(facts, leaves.get(offset)),
                None if complete => {}
                None => self.gap(),
            }
            if let Some(leaf) = leaves.get(offset) {
                let in_tile = tile_leaves.as_ref().and_then(|tile| tile.get(offset));
                self.tree.push(*leaf, *in_tile.unwrap_or(leaf));
            }
            self.at += 1;
            self.meet_targets();
        }
        if let Some((root, tile_root)) = roots {
            let implied = self.tree.complete_bundle(root, tile_root);
            let is_there = |level, index| self.inventory.tiles(level).binary_search(&index).is_ok();
            let there = implied.into_iter().filter(|i| is_there(i.tile.level, i.tile.index));
            self.urgent.extend(there.map(Job::Tile));
            // A signed head of this very size was held before the bundle's root went up.
            self.compare_partials_due();
            let is_due = self.keeps && self.held && self.kept.elapsed() >= self.keep_period;
            self.paused = is_due && !self.gapped && self.tree.parts().is_some();
            self.stood_still = Instant::now();
        }
    }

    fn gap(&mut self) {
        self.gapped = true;
        if let Some(survey) = &mut self.survey {
            survey.stop(self.at);
        }
        self.chains.gap();
        self.enrolled_heads.gap();
        self.lives.incomplete = true;
        self.acts.incomplete = true;
        self.registries.incomplete = true;
    }

    fn apply_entry(&mut self, facts: EntryFacts, leaf: Option<&Hash>) {
        let EntryFacts::Read(link, act, seen) = facts else {
            self.gap();
            return;
        };
        self.checked.entries += 1;
        let before = self.flaws();
        let mut signed = Vec::new();
        if self.at == 0 {
            self.lives.open_under(link.ledger_key);
        }
        self.follow(&link, act.as_deref());
        if let Some(leaf) = leaf.filter(|_| self.keeps && is_remembered(self.at, act.as_deref())) {
            self.acts_at.push((self.at, *leaf));
        }
        match act.map(|act| *act) {
            Some(Act::Anchored) => self.checked.anchored += 1,
            Some(Act::Heads(said)) => {
                self.findings.extend(self.enrolled_heads.enrolled(self.at, &said).err());
            }
            Some(Act::Issued(uses, asked)) => {
                self.redeem(self.at, &asked);
                signed = self.allowed(uses, &asked, &link);
            }
            act => self.enact(self.at, act),
        }
        let flawed = self.flaws() > before;
        let mark = self.survey.as_mut().zip(seen).and_then(|(survey, seen)| {
            let flawed = flawed || !seen.sound;
            survey.see(self.at, &link, *seen, flawed)
        });
        for issued in signed {
            self.urgent.extend(self.gathering.add(self.at, issued, mark).map(Job::Signatures));
        }
    }

    const fn flaws(&self) -> u64 {
        let (one, two) = (&self.findings, &self.act_findings);
        one.bad() + one.missing() + two.bad() + two.missing()
    }

    /// What an entry says about keys, registries or acts of people.
    fn enact(&mut self, at: u64, act: Option<Act>) {
        let found = &mut self.act_findings;
        match act {
            None | Some(Act::Opened | Act::Anchored | Act::Heads(_) | Act::Issued(..)) => {}
            Some(Act::Activated(id, born)) => self.lives.activate(self.trust, (id, born), at, found),
            Some(Act::Retired(id)) => self.lives.retire(self.trust, id, at, found),
            Some(Act::Published { version, sha256 }) => {
                self.registries.publish(self.trust, at, version, sha256, found);
            }
            Some(Act::Governed(event, ts)) => self.acts.take(&event, (at, ts), self.trust, found),
        }
    }

    /// The approval that a signature names is used up.
    fn redeem(&mut self, at: u64, asked: &Asked) {
        if let Err(finding) = self.acts.redeem(at, asked) {
            self.act_findings.push(finding);
        }
    }

    /// Those signatures of an entry that may stand there, whatever their bytes.
    fn allowed(&mut self, uses: Vec<Issued>, asked: &Asked, link: &Link) -> Vec<Issued> {
        let mut allowed = Vec::with_capacity(uses.len());
        for issued in uses {
            let name = self.trust.signer(issued.signer).name();
            let told = self.acts.may_sign(self.at, name, &link.stream, asked);
            match told.and_then(|()| self.lives.may_sign(self.trust, issued.signer, self.at)) {
                Ok(()) => allowed.push(issued),
                Err(finding) => self.findings.push(finding),
            }
        }
        allowed
    }

    /// An event's place: its stream, the ledger key over it, and the opening at index 0.
    fn follow(&mut self, link: &Link, act: Option<&Act>) {
        self.enrolled_heads.follow(self.at, link);
        if let Err(message) = self.chains.follow(link) {
            self.findings.push(Finding::entry(Kind::ChainBroken, self.at, message));
        }
        if self.at == 0 && !matches!(act, Some(Act::Opened)) {
            let message = "the first entry does not open this ledger";
            self.findings.push(Finding::entry(Kind::LedgerOpened, 0, message));
        }
        if let Some(id) = link.ledger_key.filter(|id| !self.lives.ledger_key_stands(*id, self.at)) {
            let message = format!("stands under {}, which was not active", self.trust.signer(id).name());
            self.findings.push(Finding::entry(Kind::LedgerKey, self.at, message));
        }
    }
}
