//! Cosigned checkpoints: read ahead of the entries under them like the epochs' own, and held against the tree when it has
//! their size, which need not be an epoch's.

use std::collections::VecDeque;

use chancery_format::TreeHead;
use chancery_format::archive::witnessed_name;

use super::{HEADS_AHEAD_MAX, InOrder, Job, Pass};
use crate::findings::{Finding, Kind};
use crate::inventory::Inventory;
use crate::ledger::tree::Verdict;
use crate::ledger::witnessed::{Cosigned, WitnessedTold};

/// One that waits for the tree to reach it.
pub(super) struct Waiting {
    pub(super) epoch: u64,
    pub(super) head: TreeHead,
    /// Whether its quorum holds, and who cosigned; without a policy everything holds.
    pub(super) by: Option<Vec<String>>,
}

/// How far they were read and held.
pub(super) struct CosignedNotes<'a> {
    pub(super) left: std::slice::Iter<'a, u64>,
    pub(super) read: InOrder<(u64, Result<Cosigned, Finding>)>,
    pub(super) waiting: VecDeque<Waiting>,
    /// Size of the newest one accepted.
    pub(super) until: Option<u64>,
    /// The last epoch whose own checkpoint was held.
    pub(super) epoch_held: Option<u64>,
    pub(super) told: WitnessedTold,
}

impl<'a> CosignedNotes<'a> {
    pub(super) fn new(inventory: &'a Inventory, by_policy: bool) -> Self {
        Self {
            left: inventory.witnessed.iter(),
            read: InOrder::new(),
            waiting: VecDeque::new(),
            until: None,
            epoch_held: None,
            told: WitnessedTold { by_policy, ..WitnessedTold::default() },
        }
    }

    /// The next one to read, unless many are read already.
    pub(super) fn next_job(&mut self) -> Option<Job> {
        let ahead = self.waiting.len() as u64 + self.read.outstanding();
        if ahead >= HEADS_AHEAD_MAX as u64 {
            return None;
        }
        let epoch = self.left.next()?;
        Some(Job::Witnessed(self.read.give(), *epoch))
    }

    /// Whether all that can be of a size up to `end` are known.
    pub(super) fn is_known_up_to(&self, end: u64) -> bool {
        let all = self.left.len() == 0 && self.read.outstanding() == 0;
        all || self.until.is_some_and(|until| until > end)
    }
}

impl Pass<'_> {
    /// Takes those whose turn has come: sizes grow, and none is larger than its epoch's checkpoint.
    pub(super) fn accept_cosigned(&mut self) {
        while let Some((epoch, result)) = self.cosigned.read.next() {
            let Cosigned { head, by, refused } = match result {
                Ok(cosigned) => cosigned,
                Err(finding) => {
                    self.findings.push(finding);
                    continue;
                }
            };
            self.findings.extend(refused);
            let size = head.size.0;
            let wrong = match self.cosigned.until {
                Some(until) if size <= until => Some(format!("size {size} after size {until}")),
                _ if size > self.last.size.0 => {
                    Some(format!("size {size}, but the last checkpoint has {}", self.last.size))
                }
                _ if self.cosigned.epoch_held.is_some_and(|held| epoch <= held) => Some(beyond(size)),
                _ => None,
            };
            if let Some(message) = wrong {
                self.findings.push(Finding::file(Kind::WitnessedInvalid, witnessed_name(epoch), message));
                continue;
            }
            self.cosigned.until = Some(size);
            self.cosigned.waiting.push_back(Waiting { epoch, head, by });
        }
    }

    /// Those of the present size, or of one that was passed over.
    pub(super) fn meet_cosigned(&mut self) {
        while self.cosigned.waiting.front().is_some_and(|waiting| waiting.head.size.0 <= self.at) {
            if let Some(waiting) = self.cosigned.waiting.pop_front() {
                self.hold_cosigned(waiting);
            }
        }
    }

    /// An epoch's own checkpoint was held: one beside it that still waits is larger.
    pub(super) fn epoch_is_held(&mut self, epoch: u64) {
        self.cosigned.epoch_held = Some(epoch);
        while self.cosigned.waiting.front().is_some_and(|waiting| waiting.epoch <= epoch) {
            if let Some(waiting) = self.cosigned.waiting.pop_front() {
                let message = beyond(waiting.head.size.0);
                let name = witnessed_name(waiting.epoch);
                self.findings.push(Finding::file(Kind::WitnessedInvalid, name, message));
            }
        }
    }

    /// What can only be said at the end: those under which entries are missing, and whether anything is witnessed.
    pub(super) fn finish_cosigned(&mut self) {
        while let Some(waiting) = self.cosigned.waiting.pop_front() {
            self.hold_cosigned(waiting);
        }
        self.cosigned.told.of = self.last.size.0;
        if self.cosigned.told.by_policy && self.cosigned.told.notes == 0 {
            let message = "no cosigned checkpoint that the policy accepts is archived: nothing is witnessed";
            let finding = Finding::new(Kind::NotWitnessed, message);
            self.findings.push(finding.missing_if(self.gapped));
        }
    }

    fn hold_cosigned(&mut self, Waiting { epoch, head, by }: Waiting) {
        let verdict = if self.at == head.size.0 { self.tree.check(&head) } else { Verdict::Unknown };
        let message = match verdict {
            Verdict::Entries => {
                let told = &mut self.cosigned.told;
                if let Some(by) = by.or_else(|| (!told.by_policy).then(Vec::new)) {
                    told.notes += 1;
                    (told.up_to, told.by) = (head.size.0, by);
                }
                return;
            }
            Verdict::Unknown => "entries under it are missing: its root cannot be checked".to_owned(),
            Verdict::TilesOnly | Verdict::Neither => {
                format!("the first {} entries do not lead to its root", head.size)
            }
        };
        let finding = Finding::file(Kind::WitnessedInvalid, witnessed_name(epoch), message);
        self.findings.push(finding.missing_if(verdict == Verdict::Unknown));
    }
}

fn beyond(size: u64) -> String {
    format!("size {size}, more than its epoch has")
}
