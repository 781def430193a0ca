//! Heads of streams and keys, and where keys were used: derived again from the entries, and held against what is stored.
//!
//! The stored map is of one size, which stands beside it; while it is being replaced, and after a crash meanwhile, some of
//! its heads are newer, and each of these is held against its chain when that is as long. Where keys were used is stored up
//! to that size at least. What follows from an entry that cannot be read is not judged: that entry has a finding of its
//! own. Memory: some 250 bytes a name, at most [`RollLimits::heads_names_max`](crate::RollLimits) of them; beyond that the
//! ledger enrols no heads, and none are compared.

use std::collections::BTreeMap;

use chancery_format::heads::{Head, HeadName, HeadsMap};
use chancery_format::{AuditEvent, LeafIndex};

use super::findings::{FINDINGS_MAX, Finding, Kind, Side};
use super::{Check, CheckError};
use crate::layout;
use crate::store::Store;

/// Rows read at a time.
const PAGE: usize = 1000;

/// What the entries so far say of their chains.
#[derive(Debug, Default)]
pub(super) struct Derived {
    map: HeadsMap,
    /// Most names kept; beyond, nothing is compared.
    names_max: usize,
    /// The size that the stored map has.
    size: u64,
    is_compared: bool,
    /// Stored heads that go beyond that size, until their chains are as long.
    newer: BTreeMap<HeadName, Head>,
    /// Key uses by entries below that size.
    uses: u64,
    /// Of heads, until it is known how much is signed.
    findings: Vec<Finding>,
    /// Why nothing can be derived.
    given_up: bool,
}

impl Derived {
    /// For the map that is stored now. What is read later is as new or newer.
    pub(super) fn begin(store: &Store, names_max: usize) -> Self {
        let mut derived = Self { names_max, ..Self::default() };
        match store.heads_at() {
            Ok(at) => derived.size = at.map_or(0, |(size, _)| size),
            Err(error) => derived.wrong(Kind::HeadsDiffer, "", format!("their size: {error}")),
        }
        derived
    }

    fn wrong(&mut self, kind: Kind, name: &str, message: String) {
        // Beyond the first thousand they are the same news.
        if self.findings.len() < FINDINGS_MAX {
            let finding = Finding::new(kind, Side::Store, message);
            self.findings.push(if name.is_empty() { finding } else { finding.of(name) });
        }
    }

    /// An entry cannot be read: of its chains, whichever they are, nothing can be said.
    pub(super) fn give_up(&mut self) {
        let Self { size, findings, .. } = std::mem::take(self);
        *self = Self { size, findings, given_up: true, ..Self::default() };
    }

    /// Takes one entry in.
    fn follow(&mut self, store: &Store, index: u64, event: &AuditEvent<'_>) {
        for name in HeadName::all_of(event) {
            let before = self.map.get(&name).map_or(0, |head| head.count);
            if name.key().is_some() {
                self.check_use(store, &name, before, index);
            }
            self.map.add(vec![name.clone()], LeafIndex(index), &event.hash);
            if self.newer.get(&name).is_some_and(|stored| self.map.get(&name) == Some(stored)) {
                self.newer.remove(&name);
            }
        }
        if self.map.len() > self.names_max {
            self.give_up();
        }
    }

    /// Below the stored size it must be there; beyond, it may.
    fn check_use(&mut self, store: &Store, name: &HeadName, number: u64, index: u64) {
        let is_due = index < self.size;
        self.uses += u64::from(is_due);
        let why = match store.key_uses(name, number, 1) {
            Ok(found) if found == [LeafIndex(index)] => return,
            Ok(found) if found.is_empty() && !is_due => return,
            Ok(found) => found.first().map_or("nowhere".to_owned(), |index| format!("at {index}")),
            Err(error) => error.to_string(),
        };
        let message = format!("its use number {number} is at {index} and stored {why}");
        self.wrong(Kind::KeyUsesDiffer, name.as_str(), message);
    }

    /// One stored row, when the entries below the stored size are followed. `end` is where the ledger ends by now.
    fn check_row(&mut self, name: &[u8], row: &[u8], head_size: u64, end: u64) -> bool {
        let text = String::from_utf8_lossy(name).into_owned();
        let read = layout::decode_chain_head(row).ok().zip(text.parse::<HeadName>().ok());
        let Some((head, name)) = read else {
            self.wrong(Kind::HeadsDiffer, &text, "its head has not the shape of one".to_owned());
            return false;
        };
        let known = self.map.settled(&name).copied();
        if known == Some(head) {
            return true;
        }
        let last = head.last.0;
        if last < self.size || last >= end {
            let message = format!("its stored head, with {} entries up to {last}, is not theirs", head.count);
            self.wrong(Kind::HeadsDiffer, &text, message);
        } else if last < head_size {
            self.newer.insert(name, head);
        }
        // What was enrolled since this check began is not looked at.
        known.is_some()
    }
}

impl Check<'_> {
    /// An entry, in order.
    pub(super) fn follow_heads(&mut self, index: u64, event: &AuditEvent<'_>) -> Result<(), CheckError> {
        if index == self.derived.size {
            self.compare_heads()?;
        }
        if !self.derived.given_up {
            self.derived.follow(self.store, index, event);
        }
        Ok(())
    }

    /// The entries below the stored size were followed: each stored head against them.
    fn compare_heads(&mut self) -> Result<(), CheckError> {
        if std::mem::replace(&mut self.derived.is_compared, true) || self.derived.given_up {
            return Ok(());
        }
        let (names, _) = self.derived.map.root();
        let (mut after, mut there) = (None::<Vec<u8>>, 0);
        loop {
            self.go_on()?;
            let page = self.store.head_rows(after.as_deref(), PAGE)?;
            // Read after the rows: what they speak of is there.
            let end = self.store.head()?.map_or(0, |(head, _)| head.size.0);
            let Some((last, _)) = page.last() else { break };
            after = Some(last.to_vec());
            for (name, row) in &page {
                self.report.counts.heads += 1;
                there += u64::from(self.derived.check_row(name, row, self.head.size.0, end));
            }
        }
        if there < names {
            let missing: Vec<HeadName> = self.missing_heads()?;
            for name in missing {
                self.derived.wrong(Kind::HeadsDiffer, name.as_str(), "its head is not stored".to_owned());
            }
        }
        Ok(())
    }

    fn missing_heads(&self) -> Result<Vec<HeadName>, CheckError> {
        let mut missing = Vec::new();
        for (name, _) in self.derived.map.all() {
            if missing.len() < FINDINGS_MAX && self.store.chain_head(name)?.is_none() {
                missing.push(name.clone());
            }
        }
        Ok(missing)
    }

    /// After the last entry: what is left, and whether it is proven.
    pub(super) fn end_heads(&mut self) -> Result<(), CheckError> {
        if self.derived.size == self.head.size.0 {
            self.compare_heads()?;
        }
        let derived = std::mem::take(&mut self.derived);
        let mut found = derived.findings;
        if !derived.given_up {
            if derived.size > self.head.size.0 {
                let message = format!("they are stored of {} entries, which are not there", derived.size);
                found.push(Finding::new(Kind::HeadsDiffer, Side::Store, message));
            }
            for (name, head) in derived.newer.into_iter().take(FINDINGS_MAX) {
                let message = format!("its chain never had the stored head, with {} entries", head.count);
                found.push(Finding::new(Kind::HeadsDiffer, Side::Store, message).of(name));
            }
            let stored = self.count_uses(derived.size)?;
            if stored > derived.uses {
                let message = format!("{} stored key uses are of no entry", stored - derived.uses);
                found.push(Finding::new(Kind::KeyUsesDiffer, Side::Store, message));
            }
        }
        // The entries are what was signed, and the store's own are they.
        let signed = self.report.proven.0 >= derived.size && !self.report.has_altered_leaves();
        for finding in found {
            self.found(finding.proven(signed));
        }
        Ok(())
    }

    /// Stored key uses by entries below this size, and rows that cannot be read.
    fn count_uses(&self, size: u64) -> Result<u64, CheckError> {
        let (mut after, mut count) = (None::<Vec<u8>>, 0);
        loop {
            self.go_on()?;
            let page = self.store.key_use_rows(after.as_deref(), PAGE)?;
            let Some((last, _)) = page.last() else { return Ok(count) };
            after = Some(last.to_vec());
            for (_, row) in &page {
                let run = layout::decode_run(row, layout::Family::KeyUses);
                count += run.map_or(1, |run| run.iter().filter(|index| index.0 < size).count() as u64);
            }
        }
    }
}
