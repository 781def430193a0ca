//! Chains that existing writers made, verified from their exports alone.
//!
//! Each row's hash is computed again and compared, each signature is checked against the given keys, and the links
//! are followed: a parent with several children is a fork, a parent that is not there is a gap. Which writer it was,
//! and in which canonical form, is found out from the first rows and said. What a writer's hash does not bind cannot
//! be vouched for by anybody, and that is said, too.
//!
//! Rows are read in batches and checked by all cores; of each row only its hashes are kept.

pub mod canonical;
pub mod dialect;
pub mod json;
mod links;
pub mod rows;
pub mod signers;

use std::path::PathBuf;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use chancery_format::{Digest, Hash, Timestamp};
use serde_json::json;

use self::canonical::Mode;
use self::dialect::Dialect;
use self::json::Value;
use self::links::{Link, Links};
use self::rows::RowsError;
use self::signers::{Signer, Signers};
use crate::findings::{Finding, Findings, Kind};
use crate::report::Report;

/// Rows from which the writer is found out.
const DETECTED_FROM: usize = 64;
/// How long after the row's own time the kernel signed it, in milliseconds, at most: the time it signed is stored
/// nowhere and must be searched for.
const SIGNED_WITHIN_MS: i64 = 5_000;

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
    /// Rows read.
    pub rows: u64,
    /// Signatures that verify.
    pub signatures: u64,
    /// Rows without signature.
    pub unsigned: u64,
    /// MACs, which nobody else can verify.
    pub macs: u64,
    /// Chains, each with its last row's hash. Of chains by actor, at most as many as are listed.
    pub heads: Vec<Hash>,
    /// Chains.
    pub chains: u64,
    /// What is wrong.
    pub findings: Findings,
}

/// Verifies the rows of these files, in this order, as one export.
pub fn verify(files: &[PathBuf], signers: &Signers, options: &Options) -> Result<Told, RowsError> {
    let mut pass = Pass { signers, options, writer: None, told: Told::default(), links: Links::default() };
    let mut pinned = options.head;
    for file in files {
        let name = file.display().to_string();
        let mut row = 0;
        let head = rows::read(file, |batch| {
            let first = row + 1;
            row += batch.len() as u64;
            pass.take(&name, first, &batch);
        })?;
        pinned = pinned.or(head);
    }
    Ok(pass.finish(pinned))
}

struct Pass<'a> {
    signers: &'a Signers,
    options: &'a Options,
    writer: Option<(Dialect, Mode)>,
    told: Told,
    links: Links,
}

/// What became of one row.
struct Checked {
    link: Option<Link>,
    signature: Signature,
    findings: Vec<Finding>,
}

/// What a row's signature is worth.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Signature {
    Verified,
    None,
    Mac,
    Bad,
}

impl Pass<'_> {
    fn take(&mut self, file: &str, first: u64, batch: &[String]) {
        let writer = *self.writer.get_or_insert_with(|| {
            let (writer, agree) = detect(batch, self.options);
            let looked_at = batch.len().min(DETECTED_FROM);
            let given = self.options.dialect.is_some() && self.options.mode.is_some();
            self.told.detected = (!given).then_some((agree, looked_at));
            writer
        });
        let threads = match self.options.threads {
            0 => std::thread::available_parallelism().map_or(1, usize::from),
            threads => threads,
        };
        let share = batch.len().div_ceil(threads).max(1);
        let checked: Vec<Vec<Checked>> = std::thread::scope(|scope| {
            let chunks = (0u64..).step_by(share).zip(batch.chunks(share));
            let work = chunks.map(|(offset, rows)| {
                let (signers, options) = (self.signers, self.options);
                scope.spawn(move || {
                    let numbered = (first + offset..).zip(rows);
                    numbered
                        .map(|(number, row)| check(writer, row, (file, number), signers, options))
                        .collect()
                })
            });
            let work: Vec<_> = work.collect();
            work.into_iter().map(|one| one.join().unwrap_or_default()).collect()
        });
        for one in checked.into_iter().flatten() {
            self.told.rows += 1;
            match one.signature {
                Signature::Verified => self.told.signatures += 1,
                Signature::None => self.told.unsigned += 1,
                Signature::Mac => self.told.macs += 1,
                Signature::Bad => {}
            }
            self.told.findings.extend(one.findings);
            if let Some(link) = one.link {
                self.links.add(link, file);
            }
        }
    }

    fn finish(self, pinned: Option<Hash>) -> Told {
        let Self { writer, mut told, links, .. } = self;
        told.dialect = writer;
        (told.chains, told.heads) = links.follow(pinned, &mut told.findings);
        if let Some((dialect, _)) = writer
            && !dialect.unbound().is_empty()
        {
            let columns = dialect.unbound().join(", ");
            let message = format!(
                "the hash of {dialect} does not bind {columns}: they may be altered and nothing tells"
            );
            told.findings.push(Finding::new(Kind::UnboundField, message));
        }
        if told.macs > 0 {
            let message = format!("{} MACs: only who holds the key can verify them", told.macs);
            told.findings.push(Finding::new(Kind::MacNotVerifiable, message));
        }
        told.findings = told.findings.sorted();
        told
    }
}

/// Which writer and form the first rows agree with, and how many of them do.
fn detect(batch: &[String], options: &Options) -> ((Dialect, Mode), usize) {
    let rows: Vec<_> =
        batch.iter().take(DETECTED_FROM).filter_map(|row| Value::parse(row.trim()).ok()).collect();
    let candidates =
        Dialect::ALL.into_iter().filter(|dialect| options.dialect.is_none_or(|given| given == *dialect));
    let mut best: Option<((Dialect, Mode), (usize, usize))> = None;
    for dialect in candidates {
        let given = options.mode.as_ref().map(std::slice::from_ref);
        for mode in given.unwrap_or(dialect.modes()) {
            let agrees = |row: &&Value<'_>| match dialect::stored(row) {
                Ok(Some(stored)) => dialect.hash(row, *mode).is_ok_and(|hash| hash == stored),
                // Without a stored hash the columns are all there is.
                _ => !dialect.stores_hash() && dialect.looks_like(row),
            };
            let agree = rows.iter().filter(agrees).count();
            let alike = rows.iter().filter(|row| dialect.looks_like(row)).count();
            if best.as_ref().is_none_or(|(_, found)| (agree, alike) > *found) {
                best = Some(((dialect, *mode), (agree, alike)));
            }
        }
    }
    match best {
        Some((writer, (agree, _))) => (writer, agree),
        None => ((Dialect::Kernel, Mode::JsRebuild), 0),
    }
}

fn check(
    (dialect, mode): (Dialect, Mode),
    text: &str,
    (file, number): (&str, u64),
    signers: &Signers,
    options: &Options,
) -> Checked {
    let mut checked = Checked { link: None, signature: Signature::Bad, findings: Vec::new() };
    let finding = |kind, message: String| Finding::entry(kind, number, message).in_file(file);
    let row = match Value::parse(text.trim()) {
        Ok(row) => row,
        Err(error) => {
            checked.findings.push(finding(Kind::RowInvalid, format!("not JSON: {error}")));
            return checked;
        }
    };
    if let Some(name) = row.repeated() {
        let message =
            format!("{name:?} occurs twice in one object: readers may disagree about which one counts");
        checked.findings.push(finding(Kind::DuplicateJsonKey, message));
    }
    let facts = dialect
        .hash(&row, mode)
        .and_then(|hash| Ok((hash, dialect::stored(&row)?, dialect::previous(&row)?)));
    let (hash, stored, previous) = match facts {
        Ok(facts) => facts,
        Err(error) => {
            checked.findings.push(finding(Kind::RowInvalid, error.to_string()));
            return checked;
        }
    };
    // Another form of the same writer is another version of it, and no alteration.
    let is_ours = |stored: &Hash| {
        let has = |mode: &Mode| dialect.hash(&row, *mode).is_ok_and(|hash| hash == *stored);
        *stored == hash || dialect.modes().iter().any(has)
    };
    if let Some(stored) = stored.filter(|stored| !is_ours(stored)) {
        let message = format!("its content has the hash {hash}, not {stored}");
        checked.findings.push(finding(Kind::HashMismatch, message));
    }
    // The links are those that were written, whatever the content is now.
    let of =
        if dialect.is_per_actor() { Hash::of(&[dialect::actor(&row).as_bytes()]) } else { Hash([0; 32]) };
    checked.link = Some(Link { hash: stored.unwrap_or(hash), previous, chain: of, row: number });
    let (signature, found) = signed(dialect, &row, stored.unwrap_or(hash), signers, options);
    checked.signature = signature;
    checked.findings.extend(found.map(|(kind, message)| finding(kind, message)));
    checked
}

/// What a row's signature is worth, and what is wrong with it.
fn signed(
    dialect: Dialect,
    row: &Value<'_>,
    hash: Hash,
    signers: &Signers,
    options: &Options,
) -> (Signature, Option<(Kind, String)>) {
    if dialect == Dialect::SafeAi {
        return (Signature::None, None); // its rows never have one
    }
    let Some(text) = dialect::signature(row) else {
        let found = (!options.unsigned_allowed).then(|| (Kind::Unsigned, "has no signature".to_owned()));
        return (Signature::None, found);
    };
    if dialect == Dialect::KernelServer {
        return (Signature::Mac, None);
    }
    let bad = |kind, message: String| (Signature::Bad, Some((kind, message)));
    let Ok(signature) = STANDARD.decode(text) else {
        return bad(Kind::SignatureInvalid, "its signature is not base64".to_owned());
    };
    let name = dialect::signer(row);
    let keys: Vec<&Signer> = match name {
        Some(name) => signers.find(name).into_iter().collect(),
        // Nobody stored whose it is: any of the given keys may be.
        None => signers.all().iter().collect(),
    };
    if keys.is_empty() {
        return bad(
            Kind::UnknownSigner,
            format!("{} is not among the given keys", name.unwrap_or("its signer")),
        );
    }
    if keys.iter().all(|signer| signer.key.is_none()) {
        return (Signature::Mac, None);
    }
    let moment = dialect::moment(row).ok();
    match keys.into_iter().find(|signer| holds(dialect, signer, hash, &signature, moment)) {
        None => bad(
            Kind::SignatureInvalid,
            match name {
                Some(name) => format!("its signature is not {name}'s over it"),
                None => "its signature is of none of the given keys".to_owned(),
            },
        ),
        Some(signer) => match moment.and_then(|moment| out_of_time(signer, moment)) {
            Some(message) => bad(Kind::KeyNotValidThen, message),
            None => (Signature::Verified, None),
        },
    }
}

fn out_of_time(signer: &Signer, moment: Timestamp) -> Option<String> {
    let Signer { name, from, until, .. } = signer;
    if let Some(from) = from.filter(|from| moment < *from) {
        return Some(format!("{name} was not deployed before {from}, and the row says {moment}"));
    }
    until
        .filter(|until| moment >= *until)
        .map(|until| format!("{name} was retired {until}, and the row says {moment}"))
}

fn holds(dialect: Dialect, signer: &Signer, hash: Hash, signature: &[u8], moment: Option<Timestamp>) -> bool {
    let Some(key) = &signer.key else { return false };
    if dialect != Dialect::Kernel {
        return key.verify(&Digest::Sha256(hash.0), signature);
    }
    let Some(written) = moment else { return false };
    let hex = hash.to_hex();
    (0..=SIGNED_WITHIN_MS).any(|later| {
        let Ok(ts) = Timestamp::from_unix_ms(written.unix_ms() + later) else { return false };
        key.verify_message(format!("{{\"data\":\"{hex}\",\"ts\":\"{ts}\"}}").as_bytes(), signature)
    })
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
