//! Two checkpoints of one ledger: does the newer continue the older?
//!
//! The proof comes from a file, or is derived from an archive's tiles and entries. Both checkpoints must
//! be signed by the ledger the registry names. Equal sizes need no proof; the roots must be the same.

#![expect(
    clippy::indexing_slicing,
    reason = "serde_json's objects insert what is assigned to a missing member"
)]

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use chancery_format::merkle::{self, ProofError};
use chancery_format::{Hash, TreeHead};

use crate::evidence::{Evidence, EvidenceError};
use crate::findings::{Finding, Findings, Kind};
use crate::inventory::Inventory;
use crate::ledger::verify_head;
use crate::nodes::{ArchiveNodes, NodeError};
use crate::report::{Report, head_json};
use crate::trust::Trust;

/// Where the proof comes from.
pub enum ProofFrom<'a> {
    /// Nowhere: only equal sizes can be decided.
    Nothing,
    /// A text of hashes, one per line, hex or base64.
    Text(&'a [u8]),
    /// An archive that covers the newer checkpoint.
    Archive(&'a dyn Evidence),
}

impl std::fmt::Debug for ProofFrom<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Nothing => "Nothing",
            Self::Text(_) => "Text",
            Self::Archive(_) => "Archive",
        })
    }
}

/// Verifies that `newer` continues `older`; both are signed notes.
pub fn verify(older: &[u8], newer: &[u8], proof: &ProofFrom<'_>, trust: &Trust) -> Report {
    let mut findings = Findings::default();
    let older = head(older, "older", trust, &mut findings);
    let newer = head(newer, "newer", trust, &mut findings);
    let mut checked = serde_json::json!({ "checkpoints": older.iter().chain(&newer).count() });
    let mut text = String::new();
    if let (Some(older), Some(newer)) = (older, newer) {
        checked["older"] = head_json(older.size.0, &older.root);
        checked["newer"] = head_json(newer.size.0, &newer.root);
        match compare(&older, &newer, proof) {
            Ok(hashes) => {
                checked["proofHashes"] = hashes.into();
                text = format!("the tree of {} entries continues that of {}\n", newer.size, older.size);
            }
            Err(finding) => findings.push(finding),
        }
    }
    Report::of(findings, checked, text)
}

fn head(note: &[u8], which: &str, trust: &Trust, findings: &mut Findings) -> Option<TreeHead> {
    let told = verify_head(trust, note).map(|signed| signed.head);
    told.map_err(|finding| findings.push(finding.in_file(format!("{which} checkpoint")))).ok()
}

fn compare(older: &TreeHead, newer: &TreeHead, proof: &ProofFrom<'_>) -> Result<u64, Finding> {
    let fails = |error: ProofError| {
        let message = format!("{} entries do not continue {}: {error}", newer.size, older.size);
        Finding::new(Kind::ConsistencyInvalid, message)
    };
    if older.size > newer.size {
        return Err(fails(ProofError::OutOfRange));
    }
    let hashes = match proof {
        _ if older.size == newer.size => Vec::new(),
        ProofFrom::Nothing => {
            let message = "sizes differ, so a proof is needed: give --archive or --proof";
            return Err(Finding::new(Kind::ConsistencyInvalid, message).missing_if(true));
        }
        ProofFrom::Text(text) => read_proof(text)?,
        ProofFrom::Archive(evidence) => derive(*evidence, older, newer)?,
    };
    merkle::verify_consistency(older, newer, &hashes).map_err(fails)?;
    Ok(hashes.len() as u64)
}

/// Hashes, one per line.
fn read_proof(text: &[u8]) -> Result<Vec<Hash>, Finding> {
    let bad = |line: usize| {
        let message = format!("line {line} is not a hash in lower-case hex or base64");
        Finding::file(Kind::ConsistencyInvalid, "proof", message)
    };
    let text = std::str::from_utf8(text).map_err(|_| bad(1))?;
    let lines = text.lines().enumerate().filter(|(_, line)| !line.is_empty());
    lines.map(|(at, line)| hash(line).ok_or_else(|| bad(at + 1))).collect()
}

fn hash(line: &str) -> Option<Hash> {
    match line.len() {
        64 => Hash::from_hex(line).ok(),
        _ => STANDARD.decode(line).ok()?.try_into().ok().map(Hash),
    }
}

fn derive(evidence: &dyn Evidence, older: &TreeHead, newer: &TreeHead) -> Result<Vec<Hash>, Finding> {
    let unlisted = |error: EvidenceError| {
        Finding::new(Kind::UnreadableFile, format!("the archive cannot be listed: {error}"))
    };
    // Names that no archive has are the business of `ledger`; here they cannot mislead.
    let inventory = Inventory::take(evidence, &mut Findings::default()).map_err(unlisted)?;
    let nodes = ArchiveNodes::new(evidence, &inventory);
    merkle::consistency_proof(&nodes, older.size, newer.size)
        .map_err(|error: NodeError| error.into_finding(Kind::ConsistencyInvalid))
}
