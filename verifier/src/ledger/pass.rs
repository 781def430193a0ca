//! The one pass over the ledger, in order: gives out jobs, takes what is done, and applies it.
//!
//! Bounded everywhere: jobs under way by the pool, bundles read ahead by [`Pass::ahead`], checkpoints read
//! ahead by [`HEADS_AHEAD_MAX`], signatures waiting by their gathering.

use std::collections::{BTreeMap, VecDeque};

use chancery_format::archive::checkpoint_name;
use chancery_format::tile::WIDTH;
use chancery_format::{Hash, TreeHead};

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
use super::tree::{Tree, Verdict};
use crate::findings::{Finding, Findings, Kind};
use crate::inventory::{Inventory, tail_name};
use crate::progress::Progress;
use crate::report::Checked;
use crate::trust::{SignerId, Trust};

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
    checked: Checked,
}

impl<'a> Pass<'a> {
    pub(crate) fn new(
        trust: &'a Trust,
        inventory: &'a Inventory,
        (last, since): (TreeHead, Option<TreeHead>),
        registries: BTreeMap<u64, Hash>,
        strict: bool,
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
            since,
            at: 0,
            tree: Tree::new(),
            chains: Chains::default(),
            enrolled_heads: Heads::default(),
            lives: Lives::new(trust),
            acts: Acts::new(trust),
            registries: Registries::new(registries),
            gathering: Gathering::new(trust, strict),
            survey,
            findings: Findings::default(),
            checked: Checked::default(),
        }
    }

    /// The plot: until nothing is left to give out and nothing is under way.
    pub(crate) fn run(&mut self, progress: &mut dyn Progress) {
        let mut gathered = false;
        loop {
            self.give_out();
            if !self.pool.is_idle() {
                let done = self.pool.wait();
                self.take(done);
                self.apply_ready();
                progress.advance(self.at);
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
    ) -> (Vec<KeyLife>, ActsTold, Option<Survey>) {
        self.stray_tails_below(self.last.size.0 + 1);
        while let Some(target) = self.targets.pop_front() {
            self.hold(&target); // the entries under it are missing
        }
        self.check_since(u64::MAX);
        if self.at < self.last.size.0 {
            self.gap(); // what is missing at the end may have told more
        }
        self.lives.unfulfilled(self.trust, self.last.size.0, &mut self.findings);
        self.registries.finish(&mut self.findings);
        *checked = Checked {
            files: checked.files,
            strict: checked.strict,
            streams: self.chains.count(),
            heads: self.enrolled_heads.checked,
            registry_versions: self.registries.count(),
            macs: self.gathering.macs,
            over_messages: self.gathering.over_messages,
            ..self.checked
        };
        findings.merge(self.findings);
        let survey = self.survey.map(|survey| survey.finish(self.trust));
        (self.lives.told(self.trust), self.acts.finish(), survey)
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
        let heads_ahead = self.targets.len() as u64 + self.heads.outstanding();
        if heads_ahead < HEADS_AHEAD_MAX as u64
            && let Some(epoch) = self.epochs.next()
        {
            return Some(Job::Checkpoint(self.heads.give(), *epoch));
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
            Done::Bundle(order, report) => {
                self.bundles.waiting.insert(order, report);
            }
            Done::Tile(finding) => {
                self.checked.tiles += 1;
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
        let all_heads = self.epochs.len() == 0 && self.heads.outstanding() == 0;
        while let Some(report) = self.bundles.waiting.get(&self.bundles.taken) {
            let end = report.task.first() + WIDTH;
            if !all_heads && self.heads_until.is_none_or(|until| until <= end) {
                return;
            }
            if let Some(report) = self.bundles.next() {
                self.apply(*report);
            }
        }
    }

    /// Takes the next checkpoint: sizes must grow, and its tail bundle must be there.
    fn accept_head(&mut self, epoch: u64, signed: SignedHead) {
        let size = signed.head.size.0;
        if self.heads_until.is_some_and(|until| size <= until) || size > self.last.size.0 {
            let message = match self.heads_until {
                Some(until) if size <= until => format!("size {size} after size {until}"),
                _ => format!("size {size}, but the last checkpoint has {}", self.last.size),
            };
            self.findings.push(Finding::file(Kind::CheckpointOrder, checkpoint_name(epoch), message));
            self.heads_incomplete = true;
            return;
        }
        self.heads_until = Some(size);
        self.stray_tails_below(size);
        if !size.is_multiple_of(WIDTH) {
            if self.inventory.tails.get(self.tails_seen) == Some(&size) {
                self.tails_seen += 1;
            } else {
                let message = format!("tail bundle of {} is missing", checkpoint_name(epoch));
                self.findings.push(Finding::file(Kind::MissingFile, tail_name(size), message));
            }
        }
        self.targets.push_back(Target { epoch, signed });
    }

    /// Tail bundles without a checkpoint.
    fn stray_tails_below(&mut self, size: u64) {
        while let Some(tail) = self.inventory.tails.get(self.tails_seen).filter(|tail| **tail < size) {
            self.tails_seen += 1;
            let kind = if self.heads_incomplete { Kind::UncoveredFile } else { Kind::UnexpectedFile };
            let message = format!("no checkpoint has size {tail}");
            self.findings.push(Finding::file(kind, tail_name(*tail), message));
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
                Some(facts) => self.apply_entry(facts),
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
        }
    }

    fn gap(&mut self) {
        if let Some(survey) = &mut self.survey {
            survey.stop(self.at);
        }
        self.chains.gap();
        self.enrolled_heads.gap();
        self.lives.incomplete = true;
        self.acts.incomplete = true;
        self.registries.incomplete = true;
    }

    fn apply_entry(&mut self, facts: EntryFacts) {
        let EntryFacts::Read(link, act, seen) = facts else {
            self.gap();
            return;
        };
        self.checked.entries += 1;
        let before = self.findings.bad() + self.findings.missing();
        let mut signed = Vec::new();
        self.follow(&link, act.as_deref());
        match act.map(|act| *act) {
            None | Some(Act::Opened) => {}
            Some(Act::Anchored) => self.checked.anchored += 1,
            Some(Act::Activated(id, born)) => {
                self.lives.activate(self.trust, (id, born), self.at, &mut self.findings);
            }
            Some(Act::Retired(id)) => self.lives.retire(self.trust, id, self.at, &mut self.findings),
            Some(Act::Published { version, sha256 }) => {
                self.registries.publish(self.trust, self.at, version, sha256, &mut self.findings);
            }
            Some(Act::Heads(said)) => {
                self.findings.extend(self.enrolled_heads.enrolled(self.at, &said).err());
            }
            Some(Act::Governed(event, ts)) => {
                self.acts.take(&event, (self.at, ts), self.trust, &mut self.findings);
            }
            Some(Act::Issued(uses, asked)) => signed = self.allowed(uses, &asked, &link),
        }
        let flawed = self.findings.bad() + self.findings.missing() > before;
        let mark = self.survey.as_mut().zip(seen).and_then(|(survey, seen)| {
            let flawed = flawed || !seen.sound;
            survey.see(self.at, &link, *seen, flawed)
        });
        for issued in signed {
            self.urgent.extend(self.gathering.add(self.at, issued, mark).map(Job::Signatures));
        }
    }

    /// Those signatures of an entry that may stand there, whatever their bytes.
    fn allowed(&mut self, uses: Vec<Issued>, asked: &Asked, link: &Link) -> Vec<Issued> {
        if let Err(finding) = self.acts.redeem(self.at, asked) {
            self.findings.push(finding);
        }
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
        if self.at == 0 {
            self.lives.open_under(link.ledger_key);
            if !matches!(act, Some(Act::Opened)) {
                let message = "the first entry does not open this ledger";
                self.findings.push(Finding::entry(Kind::LedgerOpened, 0, message));
            }
        }
        if let Some(id) = link.ledger_key.filter(|id| !self.lives.ledger_key_stands(*id, self.at)) {
            let message = format!("stands under {}, which was not active", self.trust.signer(id).name());
            self.findings.push(Finding::entry(Kind::LedgerKey, self.at, message));
        }
    }

    /// Signed heads of the present size, or of one that was passed over.
    fn meet_targets(&mut self) {
        while self.targets.front().is_some_and(|target| target.signed.head.size.0 <= self.at) {
            if let Some(target) = self.targets.pop_front() {
                self.hold(&target);
            }
        }
        self.check_since(self.at);
    }

    fn hold(&mut self, target: &Target) {
        let head = &target.signed.head;
        let name = checkpoint_name(target.epoch);
        let known = self.at == head.size.0;
        let verdict = if known { self.tree.check(head) } else { Verdict::Unknown };
        if let Some(survey) = &mut self.survey {
            match verdict {
                Verdict::Entries => survey.covered(head.size.0),
                _ => survey.not_covered(),
            }
        }
        match verdict {
            Verdict::Entries => {
                self.checked.checkpoints += 1;
                self.checked.head = Some(*head);
            }
            Verdict::TilesOnly => {
                let message = "the entries do not lead to the signed root, the archived tiles do";
                self.findings.push(Finding::file(Kind::RootMismatch, name.clone(), message));
            }
            Verdict::Neither => {
                let message = format!("the first {} entries do not lead to the signed root", head.size);
                self.findings.push(Finding::file(Kind::RootMismatch, name.clone(), message));
            }
            Verdict::Unknown => {
                let message = "entries under it are missing: its root cannot be checked";
                let finding = Finding::file(Kind::RootMismatch, name.clone(), message);
                self.findings.push(finding.missing_if(true));
            }
        }
        let Some(last) = head.size.0.checked_sub(1) else { return };
        let stands =
            |signer: &Option<SignerId>| signer.is_none_or(|id| self.lives.ledger_key_stands(id, last));
        if known && !target.signed.signers.iter().any(stands) {
            let message = "none of the ledger keys that signed it was active";
            self.findings.push(Finding::file(Kind::CheckpointSigner, name, message));
        }
    }

    /// The older checkpoint given by the auditor, once the tree has its size.
    fn check_since(&mut self, at: u64) {
        let Some(since) = self.since.take_if(|since| since.size.0 <= at) else { return };
        let verdict = if since.size.0 == self.at { self.tree.check(&since) } else { Verdict::Unknown };
        self.checked.continues_older = Some(verdict == Verdict::Entries);
        if verdict != Verdict::Entries {
            let message = match verdict {
                Verdict::Unknown => {
                    format!("entries below {} are missing: it cannot be compared", since.size)
                }
                _ => format!("the first {} entries are not those of the older checkpoint", since.size),
            };
            let finding = Finding::new(Kind::NotConsistent, message);
            self.findings.push(finding.missing_if(verdict == Verdict::Unknown));
        }
    }
}
