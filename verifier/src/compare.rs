//! Two archives that claim to be one ledger: does one continue the other, and if not, where do they part?
//!
//! Both newest checkpoints must be signed by the ledger the registry names. The place where two histories part is found
//! through their trees, from the root down: some tiles and two entries are read, not the ledgers. Every hash is bound to
//! the root that was signed before it is used, and both entries are hashed at the end, so no tile is believed. What
//! single entries say, and whether everything else is there, is the business of `ledger`.
//!
//! It promises that a fork is told only where it is proven, and that the proof can be kept: two checkpoints that one
//! key signed and that exclude each other are proof against that key. A tile or an entry that was altered in an archive
//! proves nothing of the kind; it makes that archive bad.

mod history;
mod proof;

use std::fmt::Write as _;

use chancery_format::checkpoint::CheckpointError;
use chancery_format::{AuditEvent, VerifiedCheckpoint};
use serde_json::{Value, json};

use self::history::{Beginning, History, in_archive};
use self::proof::{Differing, Fork, Relation};
use crate::evidence::{Counted, Evidence};
use crate::findings::{Finding, Findings, Kind};
use crate::newest::{Newest, signer_names};
use crate::report::{Report, head_json};
use crate::trust::Trust;

pub use self::proof::PROOF_BYTES_MAX;

/// What became of a comparison.
#[derive(Debug)]
pub struct Compared {
    /// For people and for machines.
    pub report: Report,
    /// The proof, if the histories exclude each other: JSON, FORMAT.md §9.4.
    pub proof: Option<String>,
}

/// What is said of the two, in words that machines match on.
const SAME: &str = "same";
const FIRST_CONTINUES: &str = "first-continues-second";
const SECOND_CONTINUES: &str = "second-continues-first";
const DIFFER: &str = "differ";
const UNDECIDED: &str = "undecided";

/// Compares two archives; `names` is what they are called in findings.
pub fn archives(names: [&str; 2], archives: [&dyn Evidence; 2], trust: &Trust) -> Compared {
    let counted = archives.map(Counted::new);
    let [one, two] = &counted;
    let mut findings = Findings::default();
    let [first_name, second_name] = names;
    let first = open(first_name, one, trust, &mut findings);
    let second = open(second_name, two, trust, &mut findings);
    let mut checked = json!({ "origin": trust.origin().as_str(), "relation": UNDECIDED });
    let mut text = String::new();
    let mut proof = None;
    if let (Some(first), Some(second)) = (&first, &second) {
        let mut first = History::new(first_name, one, first);
        let mut second = History::new(second_name, two, second);
        let told = relate(&mut first, &mut second);
        findings.extend(first.findings.drain(..).chain(second.findings.drain(..)));
        text = heads_text(&first, &second, trust);
        match told {
            Ok(Told::Relation(relation)) => {
                insert(&mut checked, "relation", relation.into());
                let _ = writeln!(text, "{}", in_words(relation)); // writing to a String cannot fail
            }
            Ok(Told::Fork { fork, first_differing, explained }) => {
                insert(&mut checked, "relation", DIFFER.into());
                if let Some(index) = first_differing {
                    insert(&mut checked, "firstDifferingIndex", index.into());
                }
                findings.push(fork_finding(first_differing));
                findings.extend(explained);
                tell_fork(&fork, first_differing, &mut checked, &mut text);
                proof = Some(fork.to_json());
            }
            Err(finding) => findings.push(finding),
        }
        for (which, history, read) in [("first", &first, one), ("second", &second, two)] {
            insert(&mut checked, which, history_json(history, read.bytes(), trust));
        }
    }
    Compared { report: Report::of(findings, checked, text), proof }
}

/// Checks a proof that was kept, from here or from a mirror.
pub fn kept_proof(json: &[u8], trust: &Trust) -> Report {
    let mut findings = Findings::default();
    let mut checked = json!({ "origin": trust.origin().as_str(), "relation": UNDECIDED });
    let mut text = String::new();
    match Fork::parse(json, trust) {
        Err(finding) => findings.push(finding),
        Ok(fork) => {
            for (which, checkpoint) in [("first", &fork.held), ("second", &fork.shown)] {
                insert(&mut checked, which, checkpoint_json(checkpoint, trust));
                text += &head_text(which, None, checkpoint, trust);
            }
            let relation = match fork.relation() {
                Relation::Exclude => {
                    let index = fork.differing.as_ref().map(|differing| differing.index);
                    findings.push(fork_finding(None));
                    tell_fork(&fork, index, &mut checked, &mut text);
                    DIFFER
                }
                Relation::Continue => {
                    text.push_str("the larger checkpoint continues the smaller: this proves no fork\n");
                    let (held, shown) = (fork.held.head(), fork.shown.head());
                    match held.size.cmp(&shown.size) {
                        std::cmp::Ordering::Less => SECOND_CONTINUES,
                        std::cmp::Ordering::Equal => SAME,
                        std::cmp::Ordering::Greater => FIRST_CONTINUES,
                    }
                }
                Relation::Unproven => {
                    let message = "both checkpoints are signed, but what is kept does not show that they exclude each other";
                    findings.push(Finding::new(Kind::ConsistencyInvalid, message).missing_if(true));
                    UNDECIDED
                }
            };
            insert(&mut checked, "relation", relation.into());
        }
    }
    Report::of(findings, checked, text)
}

/// What two histories are to each other.
enum Told {
    Relation(&'static str),
    Fork {
        fork: Box<Fork>,
        first_differing: Option<u64>,
        /// Why the index, or what stands there, cannot be told.
        explained: Vec<Finding>,
    },
}

/// The archive at its newest checkpoint; what hinders is told.
fn open(name: &str, evidence: &dyn Evidence, trust: &Trust, findings: &mut Findings) -> Option<Newest> {
    // Names that no archive has are the business of `ledger`; here they cannot mislead.
    let mut refused = Findings::default();
    let opened = Newest::open(evidence, trust, &mut Findings::default(), &mut refused);
    let of_another = CheckpointError::Origin.to_string();
    let is_another =
        refused.bad() > 0 && refused.listed().iter().all(|finding| finding.message == of_another);
    match opened {
        Err(_) if is_another => {
            let message = format!("is not of {}: two ledgers have no history in common", trust.origin());
            findings.push(Finding::file(Kind::CheckpointInvalid, name, message));
            None
        }
        opened => {
            findings.extend(refused.listed().iter().cloned().map(|finding| in_archive(name, finding)));
            opened.map_err(|finding| findings.push(in_archive(name, finding))).ok()
        }
    }
}

/// The plot: heads, then the larger tree at the smaller size, then from the root down.
fn relate<'a>(first: &mut History<'a>, second: &mut History<'a>) -> Result<Told, Finding> {
    let (a, b) = (first.head(), second.head());
    if a == b {
        return Ok(Told::Relation(SAME));
    }
    let first_is_larger = a.size > b.size;
    let (smaller, larger) =
        if first_is_larger { (&mut *second, &mut *first) } else { (&mut *first, &mut *second) };
    let continues = if first_is_larger { FIRST_CONTINUES } else { SECOND_CONTINUES };
    let size = smaller.head().size.0;
    if size == 0 {
        return Ok(Told::Relation(continues)); // every ledger continues the empty one
    }
    let then = if a.size == b.size { None } else { Some(larger.beginning(size)?) };
    if then.as_ref().is_some_and(|then| then.root == smaller.head().root) {
        return Ok(Told::Relation(continues));
    }
    // From here on it is a fork, whatever else is missing.
    let mut fork = Fork {
        held: first.newest.checkpoint.clone(),
        shown: second.newest.checkpoint.clone(),
        beginning: then.as_ref().map(|then| (then.root, then.proof.clone())),
        differing: None,
    };
    let mut explained = Vec::new();
    let mut first_differing = None;
    match part(first, second, size) {
        Ok((index, leaves)) => {
            first_differing = Some(index);
            let [one, two] = leaves;
            match (first.entry(index, one), second.entry(index, two)) {
                (Ok(held), Ok(shown)) => fork.differing = Some(Differing { index, held, shown }),
                (one, two) => explained.extend(one.err().into_iter().chain(two.err())),
            }
        }
        Err(finding) => explained.push(finding),
    }
    Ok(Told::Fork { fork: Box::new(fork), first_differing, explained })
}

/// The first index below `size` at which two trees differ, and the leaf hash that each has there.
fn part(
    first: &mut History<'_>,
    second: &mut History<'_>,
    size: u64,
) -> Result<(u64, [chancery_format::Hash; 2]), Finding> {
    let Beginning { subtrees: ones, .. } = first.beginning(size)?;
    let Beginning { subtrees: twos, .. } = second.beginning(size)?;
    let differing = ones.into_iter().zip(twos).find(|(one, two)| one != two);
    let alike = || Finding::new(Kind::RootMismatch, "roots of the same hashes differ");
    let (mut one, mut two) = differing.ok_or_else(alike)?;
    while one.0 > 0 {
        let ([left, right], [other_left, other_right]) = (first.halves(one)?, second.halves(two)?);
        let (level, number) = (one.0 - 1, one.1 * 2);
        (one, two) = if left == other_left {
            ((level, number + 1, right), (level, number + 1, other_right))
        } else {
            ((level, number, left), (level, number, other_left))
        };
    }
    Ok((one.1, [one.2, two.2]))
}

fn fork_finding(index: Option<u64>) -> Finding {
    let message = match index {
        Some(0) => "two histories: both checkpoints are signed, and the very first entry differs".to_owned(),
        Some(index) => {
            format!(
                "two histories: both checkpoints are signed, {index} entries are the same and this is not"
            )
        }
        None => "two histories: both checkpoints are signed, and they exclude each other".to_owned(),
    };
    Finding { index, ..Finding::new(Kind::Fork, message) }
}

/// What stands at the index on either side, and what the two checkpoints prove.
fn tell_fork(fork: &Fork, index: Option<u64>, checked: &mut Value, text: &mut String) {
    if let (Some(index), Some(differing)) = (index, &fork.differing) {
        let _ = writeln!(text, "\nat entry {index}");
        let entries = [("first", &differing.held), ("second", &differing.shown)].map(|(which, entry)| {
            let _ = writeln!(text, "  {which:<7} {}", summary_text(&entry.leaf));
            (which.to_owned(), summary_json(&entry.leaf))
        });
        insert(checked, "entries", Value::Object(entries.into_iter().collect()));
    }
    text.push_str("\nTwo signed checkpoints that cannot both be of one ledger:\n");
    for (which, checkpoint) in [("first", &fork.held), ("second", &fork.shown)] {
        let _ = write!(text, "\n--- {which}\n{}", checkpoint.note());
    }
    text.push_str(
        "\nTheir signatures hold. This is proof that the ledger's key signed two histories: its holder did, or whoever\n\
         has a copy of the key or of the disk. No fault of storage makes it. Keep both archives and this proof.\n",
    );
}

fn summary_json(leaf: &[u8]) -> Value {
    match AuditEvent::read(leaf) {
        Ok(event) => json!({
            "id": event.id,
            "eventType": event.event_type,
            "stream": event.stream,
            "seq": event.seq,
            "ts": event.ts.to_string(),
            "actor": event.actor,
            "hash": event.hash.to_hex(),
        }),
        Err(error) => json!({ "unreadable": error.to_string() }),
    }
}

fn summary_text(leaf: &[u8]) -> String {
    match AuditEvent::read(leaf) {
        Ok(event) => format!(
            "{} in stream {} (number {}), by {} at {}, id {}",
            event.event_type, event.stream, event.seq, event.actor, event.ts, event.id
        ),
        Err(error) => format!("is signed and not an event: {error}"),
    }
}

fn heads_text(first: &History<'_>, second: &History<'_>, trust: &Trust) -> String {
    let text = |which, history: &History<'_>| {
        head_text(which, Some(history.name), &history.newest.checkpoint, trust)
    };
    text("first", first) + &text("second", second)
}

fn head_text(which: &str, name: Option<&str>, checkpoint: &VerifiedCheckpoint, trust: &Trust) -> String {
    let head = checkpoint.head();
    let name = name.map(|name| format!("{name}, ")).unwrap_or_default();
    let signers = signer_names(checkpoint.note(), trust).join(", ");
    format!("{which:<7} {name}{} entries, root {}, signed by {signers}\n", head.size, head.root)
}

fn checkpoint_json(checkpoint: &VerifiedCheckpoint, trust: &Trust) -> Value {
    let head = checkpoint.head();
    let mut value = head_json(head.size.0, &head.root);
    insert(&mut value, "checkpoint", checkpoint.note().into());
    insert(&mut value, "checkpointSigners", signer_names(checkpoint.note(), trust).into());
    value
}

fn history_json(history: &History<'_>, read: u64, trust: &Trust) -> Value {
    let mut value = checkpoint_json(&history.newest.checkpoint, trust);
    insert(&mut value, "archive", history.name.into());
    insert(&mut value, "file", history.newest.name.as_str().into());
    insert(&mut value, "bytesRead", read.into());
    insert(&mut value, "bytesTotal", history.newest.inventory.bytes.into());
    value
}

fn in_words(relation: &str) -> &'static str {
    match relation {
        SAME => "both end at the same signed head: one history\nwhat is below it was not read: see `ledger`",
        FIRST_CONTINUES => {
            "the first continues the second: one history\nsingle entries were not read: see `ledger`"
        }
        _ => "the second continues the first: one history\nsingle entries were not read: see `ledger`",
    }
}

fn insert(value: &mut Value, member: &str, what: Value) {
    if let Value::Object(members) = value {
        members.insert(member.to_owned(), what);
    }
}
