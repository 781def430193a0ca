//! A sample of a ledger's entries, drawn at random: little is read, and what that says is stated with a confidence.
//!
//! Promises: each drawn entry is verified as its receipt would be (form, hash, place, inclusion under the newest signed
//! root, individual signature, and that its key was valid there by the registry); every entry is as likely to be drawn as
//! any other; the seed is told, so that anybody can draw the same entries again. What a sample cannot cover is said in
//! the report: entries that were never enrolled, the chains and the order of streams, the lives of keys as the ledger
//! tells them, acts of people. Whoever can write the archive must not know the seed before it is used.

mod draw;

use std::collections::BTreeSet;
use std::fmt::Write as _;

use chancery_format::LeafIndex;
use chancery_format::merkle::{self, leaf_hash};
use serde_json::{Value, json};

use crate::evidence::{Counted, Evidence};
use crate::findings::{Finding, Findings, Kind, Weight};
use crate::ledger::{read_entry, read_since, threads};
use crate::newest::Newest;
use crate::nodes::{ArchiveNodes, NodeError};
use crate::progress::Progress;
use crate::receipt::{check_ledger_key, finding};
use crate::report::{Report, head_json};
use crate::trust::Trust;

pub use self::draw::{SAMPLE_MAX, SEED_BYTES_MAX, draw, entries_for, tolerated_by};

/// What to draw.
#[derive(Debug, Clone)]
pub struct Options {
    /// How many entries, at most [`SAMPLE_MAX`].
    pub entries: u64,
    /// With which confidence something is to be said: above 0, below 1.
    pub confidence: f64,
    /// What the drawing follows from: at most [`SEED_BYTES_MAX`] bytes.
    pub seed: String,
    /// An older checkpoint of the same ledger, which this archive must continue.
    pub since: Option<Vec<u8>>,
    /// Worker threads; `None`: one per core, and eight times as many over a network.
    pub threads: Option<usize>,
}

/// What is verified of each drawn entry, and of the archive.
const CHECKED: [&str; 6] = [
    "each drawn entry: its form, its hash, its place and its path to the signed root",
    "its individual signature, and that its key was valid at its index by the given registry",
    "the signature of the newest checkpoint",
    "that every file which a ledger of this size has is there, by name",
    "that no file has another name than those of an archive",
    "that the ledger continues the older checkpoint, if one was given",
];

/// What no sample says anything about.
const NOT_CHECKED: [&str; 5] = [
    "entries that were not drawn",
    "the chains and the order of streams: whether an event was left out, or never enrolled",
    "the lives of keys as the ledger tells them, halts, approvals and other acts of people",
    "older checkpoints, registry versions, and tiles that no drawn entry needs",
    "whether the end of the ledger was cut off, unless an older checkpoint was given",
];

/// What became of the drawn entries.
#[derive(Debug, Default)]
struct Tally {
    checked: u64,
    bad: u64,
    undecided: u64,
    signatures: u64,
}

/// Draws and verifies.
pub fn verify(
    evidence: &dyn Evidence,
    trust: &Trust,
    options: &Options,
    progress: &mut dyn Progress,
) -> Report {
    let counted = Counted::new(evidence);
    let (mut findings, mut names) = (Findings::default(), Findings::default());
    let opened = Newest::open(&counted, trust, &mut names, &mut findings);
    findings.merge(names);
    let newest = match opened {
        Ok(newest) => newest,
        Err(finding) => {
            findings.push(finding);
            return Report::of(findings, json!({ "mode": "sample", "entries": 0 }), String::new());
        }
    };
    let size = newest.head().size.0;
    newest.inventory.missing(size, &mut findings);
    let nodes = ArchiveNodes::new(&counted, &newest.inventory);
    let continues = options.since.as_deref().map(|note| {
        let is_continued = continues(note, &newest, &nodes, trust, &mut findings);
        is_continued.map_err(|finding| findings.push(finding)).unwrap_or(false)
    });
    let drawn = draw(&options.seed, options.entries, size);
    progress.begin(drawn.len() as u64);
    let mut tally = Tally::default();
    let workers = threads(evidence, options.threads);
    check_all(&newest, &nodes, trust, &drawn, workers, |told| {
        tally.take(told, &mut findings);
        progress.advance(tally.checked);
    });
    progress.end();
    let mut checked = head_json(size, &newest.head().root);
    if let (Value::Object(members), Value::Object(more)) =
        (&mut checked, to_json(&tally, options, drawn.len() as u64, size))
    {
        members.extend(more);
        members.insert("checkpoint".to_owned(), newest.name.as_str().into());
        members.insert("bytesRead".to_owned(), counted.bytes().into());
        members.insert("bytesTotal".to_owned(), newest.inventory.bytes.into());
        if let Some(continues) = continues {
            members.insert("continuesOlderCheckpoint".to_owned(), continues.into());
        }
    }
    let text = to_text(&tally, options, drawn.len() as u64, &newest, counted.bytes());
    Report::of(findings, checked, text)
}

/// Whether the older checkpoint is continued; told if it is not.
fn continues(
    note: &[u8],
    newest: &Newest,
    nodes: &ArchiveNodes<'_>,
    trust: &Trust,
    findings: &mut Findings,
) -> Result<bool, Finding> {
    let head = newest.head();
    let Some(older) = read_since(trust, note, Some(head), findings) else { return Ok(false) };
    let proof = merkle::consistency_proof(nodes, older.size, head.size)
        .map_err(|error: NodeError| error.into_finding(Kind::NotConsistent))?;
    merkle::verify_consistency(&older, &head, &proof).map(|()| true).map_err(|_| {
        let message = format!("the first {} entries are not those of the older checkpoint", older.size);
        Finding::new(Kind::NotConsistent, message)
    })
}

/// Verifies every drawn entry, each thread a stretch of them, and tells of each as it comes.
fn check_all(
    newest: &Newest,
    nodes: &ArchiveNodes<'_>,
    trust: &Trust,
    drawn: &BTreeSet<u64>,
    workers: usize,
    mut tell: impl FnMut(Result<usize, Vec<Finding>>),
) {
    // What every proof needs of the tree's right edge is read once, and given to all.
    if let Some(last) = newest.head().size.0.checked_sub(1).filter(|_| !drawn.is_empty()) {
        drop(merkle::inclusion_proof(nodes, LeafIndex(last), newest.head().size));
    }
    let indices: Vec<u64> = drawn.iter().copied().collect();
    let stretch = indices.len().div_ceil(workers).max(1);
    let (done, results) = crossbeam_channel::bounded(workers * 2);
    std::thread::scope(|scope| {
        for stretch in indices.chunks(stretch) {
            let (done, nodes) = (done.clone(), nodes.with_same_nodes());
            scope.spawn(move || {
                for index in stretch {
                    if done.send(check(newest, &nodes, trust, *index)).is_err() {
                        return;
                    }
                }
            });
        }
        drop(done);
        results.iter().for_each(&mut tell);
    });
}

/// One entry, verified as its receipt would be: how many signatures in it verified.
fn check(
    newest: &Newest,
    nodes: &ArchiveNodes<'_>,
    trust: &Trust,
    index: u64,
) -> Result<usize, Vec<Finding>> {
    let (receipt, proof) = newest.receipt(nodes, index).map_err(|found| vec![at(index, found)])?;
    let leaf = leaf_hash(receipt.leaf());
    if merkle::verify_inclusion(&leaf, LeafIndex(index), &proof, &newest.head()).is_err() {
        let message = "the entry, or a hash tile above it, is not what was signed";
        return Err(vec![Finding::entry(Kind::InclusionInvalid, index, message)]);
    }
    let mut findings = Vec::new();
    read_entry(trust, index, receipt.leaf(), false, &mut findings);
    if !findings.is_empty() {
        return Err(findings);
    }
    let verified = receipt.verify(trust.registry()).map_err(|error| vec![finding(Some(index), &error)])?;
    check_ledger_key(&verified.event, index, trust).map_err(|found| vec![found])?;
    Ok(verified.verified_signers.len())
}

fn at(index: u64, finding: Finding) -> Finding {
    Finding { index: finding.index.or(Some(index)), ..finding }
}

impl Tally {
    fn take(&mut self, told: Result<usize, Vec<Finding>>, findings: &mut Findings) {
        self.checked += 1;
        match told {
            Ok(signatures) => self.signatures += signatures as u64,
            Err(found) => {
                let is_bad = found.iter().any(|finding| finding.weight == Weight::Bad);
                *(if is_bad { &mut self.bad } else { &mut self.undecided }) += 1;
                findings.extend(found);
            }
        }
    }

    const fn is_clean(&self) -> bool {
        self.bad == 0 && self.undecided == 0
    }
}

fn to_json(tally: &Tally, options: &Options, drawn: u64, size: u64) -> Value {
    let share = (tally.is_clean() && drawn > 0).then(|| share(drawn, size, options.confidence));
    json!({
        "mode": "sample",
        "entries": tally.checked,
        "signatures": tally.signatures,
        "sample": {
            "seed": options.seed,
            "drawn": drawn,
            "of": size,
            "bad": tally.bad,
            "undecided": tally.undecided,
            "confidence": options.confidence,
            "badShareBelow": share,
        },
        "covers": CHECKED,
        "doesNotCover": NOT_CHECKED,
    })
}

/// The share of bad entries that is ruled out, and all above it; 0 if every entry was drawn.
fn share(drawn: u64, size: u64, confidence: f64) -> f64 {
    if drawn == size { 0.0 } else { tolerated_by(drawn, confidence) }
}

fn to_text(tally: &Tally, options: &Options, drawn: u64, newest: &Newest, read: u64) -> String {
    let (head, total) = (newest.head(), newest.inventory.bytes);
    let (size, root) = (head.size.0, head.root);
    let mut text = format!(
        "a sample: {} of {} entries, drawn with the seed {:?}\n{} signatures verified\n{} of {} bytes read\n\
         tree of {size} entries, root {root}\n",
        grouped(drawn),
        grouped(size),
        options.seed,
        tally.signatures,
        grouped(read),
        grouped(total),
    );
    let percent = format!("{:.4}", options.confidence * 100.0);
    let percent = percent.trim_end_matches('0').trim_end_matches('.');
    let said = match share(drawn.max(1), size, options.confidence) {
        _ if drawn == 0 => "nothing was drawn: nothing is said".to_owned(),
        _ if !tally.is_clean() => {
            format!("{} drawn entries are bad, of {} nothing can be said", tally.bad, tally.undecided)
        }
        0.0 => "every entry was drawn, and none is bad".to_owned(),
        share => {
            format!("none of them is bad: with {percent} % confidence {} of all entries are", fewer(share))
        }
    };
    let _ = writeln!(text, "{said}"); // writing to a String cannot fail
    for (title, lines) in [("checked", CHECKED.as_slice()), ("not checked", NOT_CHECKED.as_slice())] {
        let _ = writeln!(text, "{title}:");
        for line in lines {
            let _ = writeln!(text, "  {line}");
        }
    }
    text
}

/// A share in words, rounded so that less is claimed and never more.
fn fewer(share: f64) -> String {
    if share > 0.1 {
        return format!("fewer than {:.1} %", (share * 1_000.0).ceil() / 10.0);
    }
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "10 to 217 million, by SAMPLE_MAX"
    )]
    let one_in = (1.0 / share + 1e-6).floor() as u64;
    format!("fewer than 1 in {}", grouped(one_in))
}

/// Digits in groups of three.
fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() * 4 / 3);
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_are_told_in_words_that_claim_no_more_than_they_may() {
        assert_eq!(fewer(0.001), "fewer than 1 in 1,000");
        assert_eq!(fewer(tolerated_by(4_603, 0.99)), "fewer than 1 in 1,000");
        assert_eq!(fewer(0.0011), "fewer than 1 in 909");
        assert_eq!(fewer(0.369), "fewer than 36.9 %");
        assert_eq!(fewer(0.3691), "fewer than 37.0 %");
        assert_eq!(grouped(1_234_567), "1,234,567");
        assert_eq!(grouped(12), "12");
    }
}
