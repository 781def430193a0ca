//! One entry, readably: what it says, and step by step how its hash leads to the signed root.
//!
//! From an archive the path is derived from its tiles and bundles; from a receipt it is the one inside. Either way it
//! is verified like a receipt before it is drawn: nothing is explained that does not hold.

use std::fmt::Write as _;

use chancery_format::merkle::{self, Step};
use chancery_format::receipt::VerifiedReceipt;
use chancery_format::{Hash, LeafIndex, Receipt};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::evidence::Evidence;
use crate::findings::{Finding, Findings, Kind};
use crate::ledger::verify_head;
use crate::newest::{Newest, signer_names};
use crate::nodes::ArchiveNodes;
use crate::receipt::{check_ledger_key, finding, signature_text};
use crate::report::Report;
use crate::trust::Trust;

/// Explains the entry at this index of an archive, under its newest checkpoint that verifies.
pub fn entry(evidence: &dyn Evidence, index: u64, trust: &Trust) -> Report {
    let mut findings = Findings::default();
    let told = find(evidence, index, trust, &mut findings);
    let told = told.and_then(|(receipt, proof)| explain(&receipt, &proof, trust));
    report(told, findings)
}

/// Explains a receipt's entry.
pub fn receipt(json: &[u8], trust: &Trust) -> Report {
    let told = Receipt::parse(json).map_err(|error| finding(None, &error)).and_then(|receipt| {
        let proof = proof_in(json)?;
        explain(&receipt, &proof, trust)
    });
    report(told, Findings::default())
}

fn report(told: Result<(Value, String), Finding>, mut findings: Findings) -> Report {
    match told {
        Ok((checked, text)) => Report::of(findings, checked, text),
        Err(finding) => {
            findings.push(finding);
            Report::of(findings, json!({}), String::new())
        }
    }
}

/// The hashes of a receipt that parsed.
fn proof_in(json: &[u8]) -> Result<Vec<Hash>, Finding> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Proof {
        inclusion_proof: Vec<String>,
    }
    let invalid = |reason: String| Finding::new(Kind::ReceiptInvalid, reason);
    let proof: Proof = serde_json::from_slice(json).map_err(|error| invalid(error.to_string()))?;
    let hashes = proof.inclusion_proof.iter().map(|hash| Hash::from_hex(hash));
    hashes.collect::<Result<_, _>>().map_err(|error| invalid(error.to_string()))
}

/// Puts together the receipt that the archive holds in pieces.
fn find(
    evidence: &dyn Evidence,
    index: u64,
    trust: &Trust,
    findings: &mut Findings,
) -> Result<(Receipt, Vec<Hash>), Finding> {
    // Names that no archive has are the business of `ledger`; here they cannot mislead.
    let newest = Newest::open(evidence, trust, &mut Findings::default(), findings)?;
    let size = newest.head().size;
    if !size.covers(LeafIndex(index)) {
        let message = format!("the last checkpoint covers {size} entries, the first of which is 0");
        return Err(Finding::entry(Kind::MissingFile, index, message));
    }
    let nodes = ArchiveNodes::new(evidence, &newest.inventory);
    newest.receipt(&nodes, index)
}

fn explain(receipt: &Receipt, proof: &[Hash], trust: &Trust) -> Result<(Value, String), Finding> {
    let index = receipt.index().0;
    let verified = receipt.verify(trust.registry()).map_err(|error| finding(Some(index), &error))?;
    check_ledger_key(&verified.event, index, trust)?;
    let note = verified.checkpoint.note();
    verify_head(trust, note.as_bytes())?;
    let leaf = merkle::leaf_hash(receipt.leaf());
    let steps = merkle::path(receipt.index(), verified.checkpoint.head().size, leaf, proof);
    let signers = signer_names(note, trust);
    let text = text(&verified, leaf, &steps, &signers);
    Ok((to_json(&verified, receipt.leaf(), leaf, &steps, &signers), text))
}

fn to_json(
    verified: &VerifiedReceipt<'_>,
    entry: &[u8],
    leaf: Hash,
    steps: &[Step],
    signers: &[String],
) -> Value {
    let head = verified.checkpoint.head();
    let path = steps.iter().map(Step::to_json);
    json!({
        "index": verified.index.0,
        "event": serde_json::from_slice::<Value>(entry).unwrap_or_default(),
        "leafHash": leaf.to_hex(),
        "path": path.collect::<Vec<_>>(),
        "treeSize": head.size.0,
        "root": head.root.to_hex(),
        "checkpoint": verified.checkpoint.note(),
        "checkpointSigners": signers,
        "signatures": verified.verified_signers,
    })
}

fn text(verified: &VerifiedReceipt<'_>, leaf: Hash, steps: &[Step], signers: &[String]) -> String {
    let (event, head) = (&verified.event, verified.checkpoint.head());
    let mut out = String::new();
    let mut line = |name: &str, value: &dyn std::fmt::Display| {
        let _ = writeln!(out, "{name:<9}{value}"); // writing to a String cannot fail
    };
    line("entry", &verified.index);
    line("type", &event.event_type);
    line("id", &event.id);
    line("actor", &event.actor);
    line("time", &event.ts);
    line("stream", &format!("{}, number {}", event.stream, event.seq));
    line("hash", &event.hash);
    match event.prev_hash {
        Some(hash) => line("after", &hash),
        None => line("after", &"nothing: the first of its stream"),
    }
    if let Some(link) = &event.chain {
        line("chain", &format!("{} {}", link.dialect.as_str(), link.hash));
    }
    line("payload", &indented(event.payload));
    if let Some(metadata) = event.metadata {
        line("metadata", &indented(metadata));
    }
    out.push_str("\nfrom the entry to the signed root\n");
    out.push_str(&merkle::draw(verified.index, leaf, steps));
    let _ = writeln!(out, "\ncheckpoint of {} entries, root {}", head.size, head.root);
    for signer in signers {
        let _ = writeln!(out, "signed by {signer}");
    }
    out.push_str(&signature_text(verified));
    out
}

/// JSON over several lines, as it may be shown at a terminal: without control characters.
fn indented(json: &str) -> String {
    let pretty = serde_json::from_str::<Value>(json).ok();
    let pretty = pretty.and_then(|value| serde_json::to_string_pretty(&value).ok());
    let pretty = pretty.unwrap_or_else(|| json.to_owned());
    let mut text = String::with_capacity(pretty.len());
    for char in pretty.chars() {
        match char {
            '\n' => text.push_str("\n         "),
            char if char.is_control() => {
                let _ = write!(text, "\\u{:04x}", u32::from(char));
            }
            char => text.push(char),
        }
    }
    text
}
