//! Signed heads: read ahead of the entries under them, and held against the tree when it has their size.

use chancery_format::archive::checkpoint_name;
use chancery_format::tile::WIDTH;

use super::{Pass, SignedHead, Target};
use crate::findings::{Finding, Kind};
use crate::inventory::tail_name;
use crate::ledger::tree::Verdict;
use crate::trust::SignerId;

impl Pass<'_> {
    /// Takes the next checkpoint: sizes must grow, and its tail bundle must be there.
    pub(super) fn accept_head(&mut self, epoch: u64, signed: SignedHead) {
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
        self.accept_partials(size);
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
    pub(super) fn stray_tails_below(&mut self, size: u64) {
        while let Some(tail) = self.inventory.tails.get(self.tails_seen).filter(|tail| **tail < size) {
            self.tails_seen += 1;
            let kind = if self.heads_incomplete { Kind::UncoveredFile } else { Kind::UnexpectedFile };
            let message = format!("no checkpoint has size {tail}");
            self.findings.push(Finding::file(kind, tail_name(*tail), message));
        }
    }

    /// Signed heads of the present size, or of one that was passed over.
    pub(super) fn meet_targets(&mut self) {
        self.meet_cosigned();
        while self.targets.front().is_some_and(|target| target.signed.head.size.0 <= self.at) {
            if let Some(target) = self.targets.pop_front() {
                self.hold(&target);
            }
        }
        self.check_since(self.at);
    }

    pub(super) fn hold(&mut self, target: &Target) {
        self.held = true;
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
                self.compare_partials(head.size.0);
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
        self.epoch_is_held(target.epoch);
        let Some(last) = head.size.0.checked_sub(1) else { return };
        // What a compromised key signed before is good if a later checkpoint continues it; the last one has none.
        let is_last = head.size == self.last.size;
        let compromised =
            |id| self.trust.signer(id).record.compromised_since.is_some_and(|since| since <= last);
        let stands = |signer: &Option<SignerId>| {
            signer.is_none_or(|id| self.lives.ledger_key_stands(id, last) && !(is_last && compromised(id)))
        };
        if known && !target.signed.signers.iter().any(stands) {
            let message = "none of the ledger keys that signed it was active, or is believed";
            self.findings.push(Finding::file(Kind::CheckpointSigner, name, message));
        }
    }

    /// The older checkpoint given by the auditor, once the tree has its size.
    pub(super) fn check_since(&mut self, at: u64) {
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
