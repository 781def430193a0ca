//! A completeness proof, verified with the registry alone: these entries of a stream or a key, and no others.

#![expect(
    clippy::indexing_slicing,
    reason = "serde_json's objects insert what is assigned to a missing member"
)]

use std::io::BufRead;

use chancery_format::completeness::{Complete, CompletenessError, LINE_BYTES_MAX, Opening};
use chancery_format::heads::{HeadName, HeadsError};
use serde_json::{Value, json};

use crate::findings::{Finding, Findings, Kind};
use crate::ledger::verify_head;
use crate::progress::Progress;
use crate::receipt;
use crate::report::{Report, head_json};
use crate::trust::Trust;

/// Verifies a proof line by line; memory does not grow with it. It must be about `name`.
pub fn verify(
    input: &mut dyn BufRead,
    name: &HeadName,
    trust: &Trust,
    progress: &mut dyn Progress,
) -> Report {
    let mut findings = Findings::default();
    let (checked, text) = match check(input, name, trust, progress) {
        Ok(told) => told,
        Err(finding) => {
            findings.push(finding);
            (json!({ "name": name.as_str(), "complete": false }), String::new())
        }
    };
    Report::of(findings, checked, text)
}

fn check(
    input: &mut dyn BufRead,
    name: &HeadName,
    trust: &Trust,
    progress: &mut dyn Progress,
) -> Result<(Value, String), Finding> {
    let (mut line, mut bytes) = (Vec::new(), 0);
    if !next_line(input, &mut line, &mut bytes)? {
        return Err(Finding::new(Kind::CompletenessInvalid, "the proof is empty"));
    }
    let opening = Opening::parse(&line).map_err(|error| finding(&error))?;
    if opening.name != *name {
        let message = format!("the proof is about {}, not about {name}", opening.name);
        return Err(Finding::new(Kind::CompletenessInvalid, message));
    }
    let mut entries = opening.begin(trust.registry()).map_err(|error| finding(&error))?;
    progress.begin(entries.expected());
    let mut given = 0;
    while next_line(input, &mut line, &mut bytes)? {
        entries.entry(&line).map_err(|error| finding(&error))?;
        given += 1;
        progress.advance(given);
    }
    let complete = entries.finish().map_err(|error| finding(&error))?;
    progress.end();
    // Also what every other checkpoint is held to: its lines, and that its key was active.
    let signed = verify_head(trust, complete.checkpoint.note().as_bytes())?;
    let mut checked = head_json(signed.head.size.0, &signed.head.root);
    checked["name"] = name.as_str().into();
    checked["complete"] = true.into();
    checked["entries"] = complete.entries.into();
    checked["below"] = complete.size.0.into();
    checked["headsIndex"] = complete.index.0.into();
    checked["signatures"] = complete.signatures.into();
    checked["bytes"] = bytes.into();
    Ok((checked, text(&complete, trust)))
}

fn text(complete: &Complete, trust: &Trust) -> String {
    let Complete { name, entries, size, index, checkpoint, signatures } = complete;
    let head = checkpoint.head();
    let mut text = format!(
        "the ledger has {entries} entries of {name} below index {size}: those given, and no others\n\
         it says so at index {index}, under the checkpoint of {} entries, root {}\n\
         {signatures} signatures among them verify\n\
         not said: what came at {size} or later. That its maps are right is what `chancery-verify ledger` verifies.\n",
        head.size, head.root
    );
    for other in other_pairs(name, trust) {
        text += &format!("the same key had another pair, {other}: ask for key:{other} as well\n");
    }
    text
}

/// A kid has one pair for each rotation, and a chain is of one pair.
fn other_pairs<'t>(name: &HeadName, trust: &'t Trust) -> Vec<&'t str> {
    let Some(pair) = name.key() else { return Vec::new() };
    let kid = trust.registry().signer(pair).and_then(|signer| signer.kid.as_ref());
    let same = trust.registry().signers.iter().filter(|signer| kid.is_some() && signer.kid.as_ref() == kid);
    same.map(|signer| signer.signer_kid.as_str()).filter(|other| *other != pair).collect()
}

/// Whether there was another line.
fn next_line(input: &mut dyn BufRead, line: &mut Vec<u8>, bytes: &mut u64) -> Result<bool, Finding> {
    line.clear();
    let unread = |error: std::io::Error| Finding::new(Kind::UnreadableFile, error.to_string());
    let most = LINE_BYTES_MAX as u64 + 1;
    let read = std::io::Read::take(&mut *input, most).read_until(b'\n', line).map_err(unread)?;
    *bytes += read as u64;
    if line.len() > LINE_BYTES_MAX {
        return Err(Finding::new(Kind::OversizedFile, "a line of the proof is too long"));
    }
    Ok(read > 0)
}

fn finding(error: &CompletenessError) -> Finding {
    let message = error.to_string();
    let kind = match error {
        CompletenessError::Heads(of) | CompletenessError::Entry { source: of, .. } => {
            return Finding { message, ..receipt::finding(None, of) };
        }
        CompletenessError::Count { .. } | CompletenessError::Gap { .. } | CompletenessError::Other(_) => {
            Kind::NotComplete
        }
        CompletenessError::Map(HeadsError::Count) => Kind::NotComplete,
        CompletenessError::Event { .. } | CompletenessError::Canonical { .. } => Kind::LeafInvalid,
        _ => Kind::CompletenessInvalid,
    };
    Finding::new(kind, message)
}
