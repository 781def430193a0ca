//! Registry versions: what the archive holds against what the entries say was published.

use std::collections::BTreeMap;

use chancery_format::Hash;
use chancery_format::archive::registry_name;

use crate::findings::{Finding, Findings, Kind};
use crate::trust::Trust;

/// Follows `registry.published` events.
#[derive(Debug)]
pub(crate) struct Registries {
    /// Versions whose file is there, until they are met in the ledger.
    archived: BTreeMap<u64, Hash>,
    last: u64,
    count: u64,
    /// Whether the given registry is one of those published.
    given_was_published: bool,
    /// Whether entries are missing, which may have told more.
    pub(crate) incomplete: bool,
}

impl Registries {
    pub(crate) const fn new(archived: BTreeMap<u64, Hash>) -> Self {
        Self { archived, last: 0, count: 0, given_was_published: false, incomplete: false }
    }

    /// How many versions were found published and archived alike.
    pub(crate) const fn count(&self) -> u64 {
        self.count
    }

    /// An event says that this version with this hash was published.
    pub(crate) fn publish(
        &mut self,
        trust: &Trust,
        index: u64,
        version: u64,
        sha256: Hash,
        findings: &mut Findings,
    ) {
        if version != self.last.saturating_add(1) {
            let message = format!("registry version {version} after {}", self.last);
            let explained = self.incomplete && version > self.last;
            findings.push(Finding::entry(Kind::RegistryOrder, index, message).missing_if(explained));
        }
        self.last = self.last.max(version);
        self.given_was_published |= sha256 == trust.sha256();
        match self.archived.remove(&version) {
            Some(archived) if archived == sha256 => self.count += 1,
            Some(_) => {
                let message = "the ledger published this version with another content";
                findings.push(
                    Finding::entry(Kind::RegistryMismatch, index, message).in_file(registry_name(version)),
                );
            }
            None => {
                let message = "the ledger published this version, its file is missing or unreadable";
                findings
                    .push(Finding::entry(Kind::MissingFile, index, message).in_file(registry_name(version)));
            }
        }
    }

    /// What was never published; whether the given registry was.
    pub(crate) fn finish(&self, findings: &mut Findings) {
        for version in self.archived.keys() {
            let message = "no entry under the last checkpoint publishes this version";
            findings.push(Finding::file(Kind::UncoveredFile, registry_name(*version), message));
        }
        if !self.given_was_published {
            let message = "the given registry is not one that this ledger published, byte for byte";
            findings.push(Finding::new(Kind::RegistryNotPublished, message));
        }
    }
}
