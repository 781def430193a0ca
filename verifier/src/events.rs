//! Chains that existing writers made, verified from their exports alone.
//!
//! Each row's hash is computed again and compared, each signature is checked against the given keys, and the links
//! are followed: a parent with several children is a fork, a parent that is not there is a gap. Which writer it was,
//! and in which canonical form, is found out from the first rows and said. What a writer's hash does not bind cannot
//! be vouched for by anybody, and that is said, too.
//!
//! Rows are read in batches and checked by all cores; of each row only its hash and its place are kept.
//!
//! | file | does |
//! |---|---|
//! | `rows.rs`, `database.rs` | rows of files, folders, buckets' objects and tables |
//! | `window.rs` | part of them |
//! | `detect.rs`, `dialect.rs` | who wrote them, and what each writer's hash binds |
//! | `json.rs`, `canonical.rs` | JSON as it was written, and the forms in which it was hashed |
//! | `pass.rs`, `check.rs` | the one pass; a batch of rows on one thread |
//! | `signatures.rs`, `signing_time.rs` | signatures together, and one by one |
//! | `signers.rs`, `certificate.rs` | keys |
//! | `links.rs` | what follows what |

mod certificate;
mod check;
pub mod database;
mod detect;
mod links;
mod pass;
pub mod rows;
mod signatures;
pub mod signers;
mod signing_time;
pub mod window;

use chancery_format::Hash;
use serde_json::json;

use self::check::Counts;
use self::links::{Followed, Whole};
use self::rows::{RowsError, Source};
use self::signers::Signers;
pub use self::signing_time::RecordedTimes;
use self::window::Window;
use crate::findings::{Finding, Findings, Kind};
use crate::report::Report;
use chancery_format::chain::canonical::Mode;
use chancery_format::chain::dialect::Dialect;

/// Keys that are named as those of rows that name none.
const RESOLVED_MAX: usize = 10;

/// What is known beforehand.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// The writer, if it is not to be found out.
    pub dialect: Option<Dialect>,
    /// The canonical form, likewise.
    pub mode: Option<Mode>,
    /// Hash of the row that must be the last.
    pub head: Option<Hash>,
    /// Rows without signature are warnings.
    pub unsigned_allowed: bool,
    /// Which rows are looked at.
    pub window: Window,
    /// The times inside the kernel's signatures, where a ledger recorded them.
    pub recorded: RecordedTimes,
    /// Worker threads; 0: one for each core.
    pub threads: usize,
}

/// What a verification came to.
#[derive(Debug, Clone, Default)]
pub struct Told {
    /// The writer and its form; `None` if there were no rows.
    pub dialect: Option<(Dialect, Mode)>,
    /// Whether they were found out, and how many of the first rows agree.
    pub detected: Option<(usize, usize)>,
    /// Rows looked at.
    pub rows: u64,
    /// Signatures that verify.
    pub signatures: u64,
    /// Rows without signature.
    pub unsigned: u64,
    /// MACs, which nobody else can verify.
    pub macs: u64,
    /// Last rows' hashes, the last row's first; at most a hundred.
    pub heads: Vec<Hash>,
    /// Chains.
    pub chains: u64,
    /// What is wrong.
    pub findings: Findings,
}

/// Verifies the rows of these sources, in this order, as one export.
pub fn verify(sources: &[Source], signers: &Signers, options: &Options) -> Result<Told, RowsError> {
    let passed = pass::pass(sources, signers, options)?;
    let mut told = Told {
        dialect: passed.detected.as_ref().map(|detected| detected.writer),
        rows: passed.rows,
        signatures: passed.counts.verified,
        unsigned: passed.counts.none,
        macs: passed.counts.macs,
        findings: passed.findings,
        ..Told::default()
    };
    let given = options.dialect.is_some() && options.mode.is_some();
    told.detected = passed.detected.as_ref().filter(|_| !given).map(|found| (found.agree, found.of));
    let whole = Whole {
        // Of several exports in order, the last one's head is the head.
        pinned: options.head.or(passed.about.iter().rev().find_map(|about| about.head)),
        is_ordered: passed.about.iter().all(|about| about.is_ordered),
        is_part: !options.window.is_all(),
    };
    let Followed { chains, heads, cut } = passed.links.follow(whole, &mut told.findings);
    (told.chains, told.heads) = (chains, heads);
    if let Some(detected) = &passed.detected {
        warn_of_writer(detected.writer.0, &detected.unbound, &mut told.findings);
    }
    warn_of_signatures(&passed.counts, signers, &mut told.findings);
    if cut > 0 {
        let message = format!("of {cut} of the chains, the row before the first one was not asked for");
        told.findings.push(Finding::new(Kind::Partial, message));
    }
    told.findings = told.findings.sorted();
    Ok(told)
}

/// Says what nobody can vouch for, whatever the rows are.
fn warn_of_writer(dialect: Dialect, unbound: &[String], findings: &mut Findings) {
    if !unbound.is_empty() {
        let columns = unbound.join(", ");
        let message =
            format!("the hash of {dialect} does not bind {columns}: they may be altered and nothing tells");
        findings.push(Finding::new(Kind::UnboundField, message));
    }
    if dialect.is_never_signed() {
        let message = format!("{dialect} signs nothing: whoever may write the chain may make all of it anew");
        findings.push(Finding::new(Kind::NeverSigned, message));
    }
}

/// Says what was not simply verified.
fn warn_of_signatures(counts: &Counts, signers: &Signers, findings: &mut Findings) {
    if counts.macs > 0 {
        let message = format!("{} MACs: only who holds the key can verify them", counts.macs);
        findings.push(Finding::new(Kind::MacNotVerifiable, message));
    }
    if counts.resolved > 0 {
        let named = counts.resolved_to.iter().filter_map(|at| signers.get(*at));
        let named: Vec<&str> = named.take(RESOLVED_MAX).map(|signer| signer.name.as_str()).collect();
        let message = format!(
            "{} rows do not name the key of their signature; the given keys do: {}",
            counts.resolved,
            named.join(", ")
        );
        findings.push(Finding::new(Kind::SignerResolved, message));
    }
    if counts.searched > 0 {
        let message = format!(
            "{} signatures cover a time that is stored nowhere; it was found up to {} ms after the row's own",
            counts.searched, counts.searched_ms
        );
        findings.push(Finding::new(Kind::TimeSearched, message));
    }
}

impl Told {
    /// For people and programs.
    pub fn into_report(self) -> Report {
        let heads: Vec<String> = self.heads.iter().map(Hash::to_hex).collect();
        let (dialect, mode) = match self.dialect {
            Some((dialect, mode)) => (dialect.as_str(), mode.as_str()),
            None => ("none", "none"),
        };
        let found_out = match self.detected {
            Some((agree, of)) => format!("found out: {agree} of the first {of} rows agree"),
            None => "as given".to_owned(),
        };
        let mut text = format!(
            "dialect {dialect}, form {mode} ({found_out})\n{} rows in {} chains\n\
             {} signatures verified, {} rows without, {} MACs that only their key holder can verify\n",
            self.rows, self.chains, self.signatures, self.unsigned, self.macs
        );
        if self.findings.is_valid() {
            for head in &heads {
                text += &format!("Audit chain verified. Head hash: {head}\n");
            }
        }
        let checked = json!({
            "dialect": dialect, "mode": mode, "detected": self.detected.map(|(agree, of)| json!({ "agree": agree, "of": of })),
            "rows": self.rows, "chains": self.chains, "heads": heads, "signatures": self.signatures,
            "unsigned": self.unsigned, "macsNotVerifiable": self.macs,
        });
        Report::of(self.findings, checked, text)
    }
}
