//! Rows as links: which follows which, where the chain divides, and where something is missing.

use std::collections::HashMap;

use chancery_format::Hash;

use crate::findings::{Finding, Findings, Kind};

/// Heads that are told one by one.
const HEADS_MAX: usize = 100;
/// Children of a fork that are named.
const CHILDREN_MAX: usize = 10;

/// One row.
#[derive(Debug, Clone, Copy)]
pub(super) struct Link {
    /// Its hash.
    pub(super) hash: Hash,
    /// That of the row before it, as it says.
    pub(super) previous: Option<Hash>,
    /// Which chain it is in.
    pub(super) chain: Hash,
    /// Its position in its file, from 1.
    pub(super) row: u64,
}

/// Rows of all files, in the order in which they were read.
#[derive(Debug, Default)]
pub(super) struct Links {
    links: Vec<Link>,
    /// Where each file begins.
    files: Vec<(usize, String)>,
}

impl Links {
    pub(super) fn add(&mut self, link: Link, file: &str) {
        if self.files.last().is_none_or(|(_, name)| name != file) {
            self.files.push((self.links.len(), file.to_owned()));
        }
        self.links.push(link);
    }

    fn finding(&self, kind: Kind, at: usize, message: String) -> Finding {
        let file = self.files.iter().rev().find(|(first, _)| *first <= at).map(|(_, name)| name.as_str());
        let row = self.links.get(at).map_or(0, |link| link.row);
        Finding::entry(kind, row, message).in_file(file.unwrap_or_default())
    }

    /// Says what is wrong with the links. How many chains there are, and where they end.
    pub(super) fn follow(&self, pinned: Option<Hash>, findings: &mut Findings) -> (u64, Vec<Hash>) {
        let mut places: HashMap<(Hash, Hash), usize> = HashMap::with_capacity(self.links.len());
        for (at, link) in self.links.iter().enumerate() {
            if let Some(first) = places.insert((link.chain, link.hash), at) {
                let row = self.links.get(first).map_or(0, |first| first.row);
                findings.push(self.finding(
                    Kind::ChainBroken,
                    at,
                    format!("has the hash of row {row}: it is there twice"),
                ));
            }
        }
        let mut children: HashMap<(Hash, Option<Hash>), Vec<usize>> =
            HashMap::with_capacity(self.links.len());
        for (at, link) in self.links.iter().enumerate() {
            children.entry((link.chain, link.previous)).or_default().push(at);
            let Some(previous) = link.previous else { continue };
            match places.get(&(link.chain, previous)) {
                None => {
                    let message =
                        format!("follows {previous}, which is not there: rows are missing before it");
                    findings.push(self.finding(Kind::Gap, at, message));
                }
                Some(parent) if *parent >= at => {
                    let row = self.links.get(*parent).map_or(0, |parent| parent.row);
                    let message = format!("stands before row {row}, which it follows");
                    findings.push(self.finding(Kind::ChainBroken, at, message));
                }
                Some(_) => {}
            }
        }
        for ((chain, parent), rows) in children.iter().filter(|(_, rows)| rows.len() > 1) {
            self.fork(*chain, *parent, rows, &places, findings);
        }
        let has_child = |link: &Link| children.contains_key(&(link.chain, Some(link.hash)));
        let heads: Vec<&Link> = self.links.iter().filter(|link| !has_child(link)).collect();
        if let Some(pinned) = pinned.filter(|pinned| !heads.iter().any(|head| head.hash == *pinned)) {
            let known = self.links.iter().any(|link| link.hash == pinned);
            let why = if known { "is followed by other rows" } else { "is not there: the end was cut off" };
            findings.push(Finding::new(Kind::Truncated, format!("the pinned head {pinned} {why}")));
        }
        let chains = self.links.iter().map(|link| link.chain).collect::<std::collections::HashSet<_>>().len();
        (chains as u64, heads.into_iter().rev().take(HEADS_MAX).map(|head| head.hash).collect())
    }

    fn fork(
        &self,
        chain: Hash,
        parent: Option<Hash>,
        rows: &[usize],
        places: &HashMap<(Hash, Hash), usize>,
        findings: &mut Findings,
    ) {
        let number = |at: &usize| self.links.get(*at).map_or(0, |link| link.row).to_string();
        let named: Vec<String> = rows.iter().take(CHILDREN_MAX).map(number).collect();
        let more = rows.len().saturating_sub(named.len());
        let more = if more > 0 { format!(" and {more} more") } else { String::new() };
        let named = named.join(", ") + &more;
        let finding = match parent.and_then(|hash| places.get(&(chain, hash))) {
            Some(at) => self.finding(Kind::Fork, *at, format!("is followed by {} rows: {named}", rows.len())),
            None => {
                let at = rows.first().copied().unwrap_or_default();
                let first = parent.map_or("the beginning".to_owned(), |hash| hash.to_string());
                self.finding(Kind::Fork, at, format!("{first} is followed by {} rows: {named}", rows.len()))
            }
        };
        findings.push(finding);
    }
}
