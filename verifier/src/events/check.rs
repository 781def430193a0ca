//! One batch of rows, checked on any thread: each hash computed again, each signature gathered for its key.
//!
//! Nothing here needs another row: links are handed on. Numbers of rows are those of their file, from 1.

use std::collections::{BTreeSet, HashMap};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use chancery_format::{Hash, Timestamp};

use super::Options;
use super::links::Link;
use super::rows::Batch;
use super::signatures::{Candidates, Signatures, Signed};
use super::signers::Signers;
use crate::findings::{Finding, Kind};
use chancery_format::chain::canonical::Mode;
use chancery_format::chain::dialect::{self, Dialect};
use chancery_format::chain::json::Value;

/// Rows to check.
#[derive(Debug, Default)]
pub(super) struct Task {
    pub(super) batch: Batch,
    /// The first one's number in its file.
    pub(super) first: u64,
    /// The first one's number over all files, from 0.
    pub(super) ordinal: u64,
    /// The file.
    pub(super) file: std::sync::Arc<str>,
}

/// What became of them.
#[derive(Debug, Default)]
pub(super) struct Checked {
    /// Rows that were looked at, readable or not.
    pub(super) rows: u64,
    /// A link for each row, `None` for those that could not be read or were left out. Chains are positions in `chains`.
    pub(super) links: Vec<Option<Link>>,
    pub(super) chains: Vec<Box<str>>,
    pub(super) counts: Counts,
    pub(super) findings: Vec<Finding>,
}

/// Signatures of rows, by what they are worth.
#[derive(Debug, Clone, Default)]
pub(super) struct Counts {
    /// Verify.
    pub(super) verified: u64,
    /// Are not there.
    pub(super) none: u64,
    /// Are MACs, which nobody else can verify.
    pub(super) macs: u64,
    /// Verify, of rows that do not say whose signature it is.
    pub(super) resolved: u64,
    /// By keys at these positions.
    pub(super) resolved_to: BTreeSet<usize>,
    /// Verify with a time that is stored nowhere.
    pub(super) searched: u64,
    /// Longest from a row's own time to the time it was signed, in milliseconds.
    pub(super) searched_ms: i64,
}

impl Counts {
    pub(super) fn add(&mut self, other: Self) {
        self.verified += other.verified;
        self.none += other.none;
        self.macs += other.macs;
        self.resolved += other.resolved;
        self.resolved_to.extend(other.resolved_to);
        self.searched += other.searched;
        self.searched_ms = self.searched_ms.max(other.searched_ms);
    }
}

/// What a thread checks with. Its memory serves for one batch after the other.
#[derive(Debug)]
pub(super) struct Checker<'a> {
    writer: (Dialect, Mode),
    options: &'a Options,
    /// Rows before this one, counted over all files from 0, are left out.
    skipped: u64,
    signers: &'a Signers,
    signatures: Signatures<'a>,
    preimage: Vec<u8>,
}

impl<'a> Checker<'a> {
    pub(super) fn new(
        writer: (Dialect, Mode),
        signers: &'a Signers,
        options: &'a Options,
        skipped: u64,
    ) -> Self {
        let signatures = Signatures::new(writer.0, signers, &options.recorded);
        Self { writer, options, skipped, signers, signatures, preimage: Vec::new() }
    }

    pub(super) fn check(&mut self, task: &Task) -> Checked {
        let mut checked = Checked { links: Vec::with_capacity(task.batch.len()), ..Checked::default() };
        let mut chains: HashMap<Box<str>, u32> = HashMap::new();
        for (offset, row) in (0..).zip(task.batch.rows()) {
            let number = task.first + offset;
            let link = if task.ordinal + offset < self.skipped {
                None
            } else {
                self.row(number, row, &mut chains, &mut checked)
            };
            checked.links.push(link);
        }
        self.signatures.finish(&mut checked.counts, &mut checked.findings);
        for finding in &mut checked.findings {
            finding.file = Some(task.file.to_string());
        }
        let mut named: Vec<(Box<str>, u32)> = chains.into_iter().collect();
        named.sort_unstable_by_key(|(_, number)| *number);
        checked.chains = named.into_iter().map(|(name, _)| name).collect();
        checked
    }

    fn row(
        &mut self,
        number: u64,
        text: &[u8],
        chains: &mut HashMap<Box<str>, u32>,
        checked: &mut Checked,
    ) -> Option<Link> {
        let tell = |checked: &mut Checked, kind, message: String| {
            checked.findings.push(Finding::entry(kind, number, message));
        };
        let row = match parse(text) {
            Ok(row) => row,
            Err(why) => {
                checked.rows += 1;
                tell(checked, Kind::RowInvalid, why);
                return None;
            }
        };
        if !self.options.window.is_all()
            && dialect::moment(&row).is_ok_and(|it| !self.options.window.holds(it))
        {
            return None;
        }
        checked.rows += 1;
        if let Some(name) = row.repeated() {
            let message =
                format!("{name:?} occurs twice in one object: readers may disagree about which one counts");
            tell(checked, Kind::DuplicateJsonKey, message);
        }
        let (dialect, mode) = self.writer;
        let facts = dialect
            .hash_with(&row, mode, &mut self.preimage)
            .and_then(|hash| Ok((hash, dialect::stored(&row)?, dialect::previous(&row)?)));
        let (hash, stored, previous) = match facts {
            Ok(facts) => facts,
            Err(error) => {
                tell(checked, Kind::RowInvalid, error.to_string());
                return None;
            }
        };
        // Another form of the same writer is another version of it, and no alteration.
        let is_ours = |stored: &Hash| {
            let has = |mode: &Mode| dialect.hash(&row, *mode).is_ok_and(|hash| hash == *stored);
            *stored == hash || dialect.modes().iter().any(has)
        };
        if let Some(stored) = stored.filter(|stored| !is_ours(stored)) {
            tell(checked, Kind::HashMismatch, format!("its content has the hash {hash}, not {stored}"));
        }
        // The links are those that were written, whatever the content is now.
        let hash = stored.unwrap_or(hash);
        self.signature(number, &row, hash, checked);
        let name = if dialect.is_per_actor() { dialect::actor(&row) } else { "" };
        let next = u32::try_from(chains.len()).unwrap_or(u32::MAX);
        let chain = match chains.get(name) {
            Some(chain) => *chain,
            None => *chains.entry(name.into()).or_insert(next),
        };
        Some(Link { hash, previous, chain })
    }

    /// Finds out what is to be done about a row's signature. Most wait for others of the same key.
    fn signature(&mut self, number: u64, row: &Value<'_>, hash: Hash, checked: &mut Checked) {
        let dialect = self.writer.0;
        let tell = |checked: &mut Checked, kind, message: String| {
            checked.findings.push(Finding::entry(kind, number, message));
        };
        let Some(text) = dialect::signature(row).filter(|_| !dialect.is_never_signed()) else {
            checked.counts.none += 1;
            if !self.options.unsigned_allowed && !dialect.is_never_signed() {
                tell(checked, Kind::Unsigned, "has no signature".to_owned());
            }
            return;
        };
        let name = dialect::signer(row);
        let candidates = self.signers.candidates(name);
        let of = match name {
            Some(_) => Candidates::of(candidates, self.signers),
            None => Candidates::Every,
        };
        let is_mac = |at: &usize| self.signers.get(*at).is_some_and(|signer| signer.key.is_none());
        let are_macs = !candidates.is_empty() && candidates.iter().all(is_mac);
        // With this writer, whoever is not known to have a public key has a secret.
        if are_macs || (dialect == Dialect::KernelServer && !matches!(of, Candidates::Named(_))) {
            checked.counts.macs += 1;
            return;
        }
        if candidates.is_empty() {
            let message = format!("{} is not among the given keys", name.unwrap_or("its signer"));
            return tell(checked, Kind::UnknownSigner, message);
        }
        let Ok(signature) = STANDARD.decode(text) else {
            return tell(checked, Kind::SignatureInvalid, "its signature is not base64".to_owned());
        };
        let written: Option<Timestamp> = dialect::moment(row).ok();
        self.signatures.add(
            Signed { number, hash, signature, written, of },
            &mut checked.counts,
            &mut checked.findings,
        );
    }
}

fn parse(text: &[u8]) -> Result<Value<'_>, String> {
    let text = std::str::from_utf8(text).map_err(|error| format!("not UTF-8: {error}"))?;
    Value::parse(text.trim()).map_err(|error| format!("not JSON: {error}"))
}
