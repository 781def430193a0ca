//! The first page: the verdict, what it is about, what was found, and the figures.

use super::text::{esc, num, plural, put, span, when};
use super::{Audit, FINDINGS_BYTES_MAX};
use crate::findings::{Finding, Weight};

pub(super) fn verdict(out: &mut String, audit: &Audit<'_>) {
    put!(
        out,
        "<header><p class=soft>Report on a signing ledger</p><h1>{}</h1>",
        esc(audit.trust.origin().as_str())
    );
    let findings = audit.report.findings();
    let (class, word, text) = match audit.report.exit_code() {
        0 => (
            "good",
            "Valid",
            format!(
                "All {} were derived again from their bytes and lead to the signed root below.",
                plural(audit.checked("entries"), "entry", "entries")
            ),
        ),
        1 => (
            "bad",
            "Not valid",
            format!(
                "{} found in the evidence{}. They come first below.",
                plural(findings.bad(), "error was", "errors were"),
                match findings.missing() {
                    0 => String::new(),
                    missing =>
                        format!(", and in {} something is missing", plural(missing, "place", "places")),
                }
            ),
        ),
        _ => (
            "open",
            "Undecided",
            format!(
                "Evidence is missing or unreadable in {}: without it nothing can be said of the whole.",
                plural(findings.missing(), "place", "places")
            ),
        ),
    };
    put!(out, "<div class=\"verdict {class}\" role=status><strong>{word}</strong><p>{text}</p>");
    reached(out, audit);
    out.push_str("</div>");
    facts(out, audit);
    out.push_str("</header>");
}

/// How far verification reached, where that is not the end.
fn reached(out: &mut String, audit: &Audit<'_>) {
    if audit.report.exit_code() == 0 {
        return;
    }
    match (audit.until(), audit.beyond()) {
        (0, _) => out.push_str("<p>No entry is verified, so this report tells of none.</p>"),
        (until, 0) => put!(
            out,
            "<p>All {} lead to the signed root. Those with a finding of their own are not counted below.</p>",
            plural(until, "entry", "entries")
        ),
        (until, beyond) => put!(
            out,
            "<p>Verification reached entry {}. The {} after it may be anything: nothing below tells of them, except \
             findings.</p>",
            num(until - 1),
            plural(beyond, "entry", "entries")
        ),
    }
}

fn facts(out: &mut String, audit: &Audit<'_>) {
    let (setting, checked) = (audit.setting, audit.report.checked());
    let root = checked.get("root").and_then(serde_json::Value::as_str);
    out.push_str("<dl>");
    let mut fact = |name: &str, value: String| put!(out, "<dt>{name}</dt><dd>{value}</dd>");
    if let Some(root) = root {
        fact("Size", plural(audit.checked("treeSize"), "entry", "entries"));
        fact("Root", format!("<code>{}</code>", esc(root)));
    }
    if let Some(checkpoint) = &audit.told.survey.checkpoint {
        fact("Verified up to", format!("<code>{}</code>", esc(&checkpoint.name)));
    }
    let sha256 = audit.trust.sha256();
    fact("Registry", format!("<code>{}</code>, SHA-256 <code>{sha256}</code>", esc(&setting.signers)));
    fact("Archive", format!("<code>{}</code>", esc(&setting.archive)));
    let witnessed = &audit.told.witnessed;
    if witnessed.is_told() {
        let names = witnessed.by.iter().map(|name| format!("<code>{}</code>", esc(name)));
        let by = names.collect::<Vec<_>>().join(", ");
        let up_to = format!("{} of {}", num(witnessed.up_to), plural(witnessed.of, "entry", "entries"));
        fact(
            "Witnessed",
            match (witnessed.by_policy, witnessed.notes) {
                (true, 0) => "<b class=error>nothing, by the policy given</b>".to_owned(),
                (true, _) => format!("up to {up_to}, by {by}"),
                (false, _) => format!("cosigned up to {up_to}; no policy was given that says whose count"),
            },
        );
    }
    if let Some(since) = &setting.since {
        let verdict = match checked.get("continuesOlderCheckpoint").and_then(serde_json::Value::as_bool) {
            Some(true) => "continued unchanged",
            Some(false) => "<b class=error>not continued</b>",
            None => "<b class=missing>not compared</b>",
        };
        fact("Older checkpoint", format!("<code>{}</code>: {verdict}", esc(since)));
    }
    fact(
        "Verified",
        format!(
            "{} UTC, in {}, by chancery-verify {}, signatures {}",
            when(setting.began),
            span(i64::try_from(setting.took_ms).unwrap_or(i64::MAX)),
            env!("CARGO_PKG_VERSION"),
            if setting.strict { "one by one" } else { "Ed25519 in batches, others one by one" }
        ),
    );
    out.push_str("</dl>");
}

pub(super) fn findings(out: &mut String, audit: &Audit<'_>) {
    let findings = audit.report.findings();
    out.push_str("<section aria-labelledby=findings><h2 id=findings>Findings</h2>");
    if findings.listed().is_empty() {
        out.push_str("<p>None.</p></section>");
        return;
    }
    out.push_str(
        "<div class=wide><table class=cards><caption>Errors contradict the evidence or the registry; where something is missing \
         nothing can be said; warnings prove nothing wrong.</caption><thead><tr><th scope=col>Weight<th \
         scope=col>Kind<th scope=col>Place<th scope=col>Reason</thead><tbody>",
    );
    let (start, mut shown) = (out.len(), 0u64);
    for finding in findings.listed() {
        if out.len() - start > FINDINGS_BYTES_MAX {
            break;
        }
        row(out, audit, finding);
        shown += 1;
    }
    out.push_str("</tbody></table></div>");
    let all = findings.bad() + findings.missing() + findings.warnings();
    if all > shown {
        put!(out, "<p>And {} more, which are not listed.</p>", num(all - shown));
    }
    out.push_str("</section>");
}

fn row(out: &mut String, audit: &Audit<'_>, finding: &Finding) {
    let weight = match finding.weight {
        Weight::Bad => "error",
        Weight::Missing => "missing",
        Weight::Warning => "warning",
    };
    put!(out, "<tr><td><b class={weight}>{weight}</b><td class=t>{}<td>", finding.kind);
    if let Some(index) = finding.index {
        put!(out, "entry {} ", audit.links.entry(index));
    }
    if let Some(file) = &finding.file {
        put!(out, "<span class=m>{}</span>", esc(file));
    }
    put!(out, "<td>{}", esc(&finding.message));
}

pub(super) fn figures(out: &mut String, audit: &Audit<'_>) {
    let survey = &audit.told.survey;
    let (mut verified, mut recorded, mut failed) = (0, 0, 0);
    for key in survey.keys.values() {
        verified += key.tally.verified;
        recorded += key.tally.recorded;
        failed += key.tally.failed;
    }
    let halts = survey.halts.iter().filter(|mark| mark.halted).count() as u64;
    out.push_str("<section aria-labelledby=figures><h2 id=figures>What was verified</h2>");
    if let (Some(first), Some(last)) = (survey.first, survey.last) {
        put!(
            out,
            "<p>Entries {} to {}, from {} to {} UTC by the ledger’s own clock.</p>",
            audit.links.entry(0),
            num(audit.until().saturating_sub(1)),
            when(first.ts),
            when(last.ts)
        );
    }
    out.push_str("<dl class=figures>");
    let figures = [
        ("entries", survey.entries),
        ("signatures that verify", verified),
        ("recorded only: MACs, over messages", recorded),
        ("digests anchored", count_of(audit, "signing.signature.anchored")),
        ("key uses without signature", failed),
        ("requests refused", survey.refusals.total()),
        ("key pairs used", survey.keys.values().filter(|key| key.tally.first.is_some()).count() as u64),
        ("callers and other actors", survey.actors_told),
        ("streams", survey.streams.names),
        ("halts", halts),
        ("keys rotated", survey.rotations.len() as u64 + survey.rotations_dropped),
        ("checkpoints", survey.epochs),
    ];
    for (name, number) in figures {
        put!(out, "<div><dt>{name}</dt><dd>{}</dd></div>", num(number));
    }
    out.push_str("</dl>");
    if survey.flawed + survey.taken_back > 0 {
        put!(
            out,
            "<p>Not counted: {} with a finding of their own, {} not verify.</p>",
            plural(survey.flawed, "entry", "entries"),
            plural(survey.taken_back, "signature that does", "signatures that do")
        );
    }
    contents(out);
    out.push_str("</section>");
}

/// Entries of one type.
pub(super) fn count_of(audit: &Audit<'_>, event_type: &str) -> u64 {
    let rows = &audit.told.survey.types.rows;
    rows.iter().find(|(name, _)| name == event_type).map_or(0, |(_, it)| it.count)
}

fn contents(out: &mut String) {
    out.push_str("<nav aria-label=Contents><ul>");
    let sections = [
        ("time", "Over time"),
        ("keys", "Keys"),
        ("callers", "Callers"),
        ("purposes", "Purposes and kinds"),
        ("halts", "Halts"),
        ("approvals", "Approvals and acts"),
        ("refusals", "Refusals and failures"),
        ("shape", "Checkpoints, gaps, retention"),
        ("limits", "What this report states"),
        ("entries", "Entries"),
    ];
    for (id, name) in sections {
        put!(out, "<li><a href=\"#{id}\">{name}</a>");
    }
    out.push_str("</ul></nav>");
}
