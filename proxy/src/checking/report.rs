//! A check's report as JSON, in the shape of every verdict: `valid`, `checked`, `findings`.

use chancery_ledger::check::{CheckReport, Finding, Kind, Verdict};
use serde_json::{Value, json};

/// One document. `page` names the page of `runbooks/` that applies.
pub fn to_json(report: &CheckReport) -> Value {
    let counts = report.counts;
    let verdict = match report.verdict() {
        Verdict::Clean => "clean",
        Verdict::Findings => "findings",
        Verdict::Undecided => "undecided",
    };
    json!({
        "valid": report.verdict() == Verdict::Clean,
        "verdict": verdict,
        "checked": {
            "size": report.head.size.0, "root": report.head.root.to_hex(), "provenSize": report.proven.0,
            "entries": counts.entries, "tiles": counts.tiles, "checkpoints": counts.checkpoints,
            "streams": counts.streams, "heads": counts.heads, "objects": counts.objects,
        },
        "wrong": report.wrong,
        "undecided": report.undecided,
        "repaired": report.repaired,
        "repairedObjects": report.repaired_names,
        "findings": report.findings.iter().map(finding).collect::<Vec<_>>(),
        "more": report.more,
    })
}

fn finding(it: &Finding) -> Value {
    let severity = if it.repaired { "warning" } else { "error" };
    // An entry or object by its number; nothing for what has neither.
    json!({
        "severity": severity, "kind": it.kind.as_str(), "side": it.side.as_str(), "proven": it.proven,
        "index": it.index, "object": it.object, "repaired": it.repaired, "message": it.message,
        "page": page(it),
    })
}

/// Findings that people are told one by one; the JSON has more.
const FINDINGS_SHOWN: usize = 20;

/// For people: one line a finding, then what was looked at.
pub fn to_text(report: &CheckReport) -> String {
    let mut lines: Vec<String> = report.findings.iter().take(FINDINGS_SHOWN).map(line).collect();
    let hidden = report.findings.len().saturating_sub(FINDINGS_SHOWN) as u64 + report.more;
    if hidden > 0 {
        lines.push(format!("… and {hidden} more"));
    }
    let counts = report.counts;
    let word = match report.verdict() {
        Verdict::Clean => "sound",
        Verdict::Findings => "WRONG",
        Verdict::Undecided => "undecided",
    };
    lines.push(format!("ledger    {word}"));
    lines.push(format!(
        "entries   {} of {}, {} under a signed root",
        counts.entries, report.head.size, report.proven
    ));
    lines.push(format!(
        "checked   {} tiles, {} checkpoints, {} streams, {} heads of streams and keys",
        counts.tiles, counts.checkpoints, counts.streams, counts.heads
    ));
    lines.push(format!("archive   {} objects compared, {} shipped again", counts.objects, report.repaired));
    lines.join("\n")
}

fn line(it: &Finding) -> String {
    let index = it.index.map(|index| format!("entry {index}"));
    let place: Vec<String> = index.into_iter().chain(it.object.clone()).collect();
    let page = page(it).map(|page| format!(" (runbooks/{page})")).unwrap_or_default();
    let sure = if it.proven { "proven" } else { "not proven" };
    let done = if it.repaired && it.kind.is_derived() { "; derived again" } else { "" };
    // Names of foreign objects are others' text.
    format!(
        "{} {}: {}, {sure}: {}{done}{page}",
        it.kind.as_str(),
        place.join(" "),
        it.side.as_str(),
        it.message
    )
    .chars()
    .map(|letter| if letter.is_control() { '?' } else { letter })
    .collect()
}

fn page(it: &Finding) -> Option<&'static str> {
    (!it.repaired).then(|| Kind::page(it.kind))
}
