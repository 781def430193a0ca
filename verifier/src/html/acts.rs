//! Acts of people: what was halted, what was asked for and approved, and everything else they did; and what the
//! appliance refused or could not do.

use chancery_format::governance::ProposalStatus;

use super::people::ranking;
use super::text::{esc, num, plural, put, span, when};
use super::{ACTS_BYTES_MAX, Audit};
use crate::ledger::HaltMark;

/// Lines of halts and of requests.
const LINES_MAX: usize = 400;

pub(super) fn halts(out: &mut String, audit: &Audit<'_>) {
    let survey = &audit.told.survey;
    out.push_str("<section aria-labelledby=halts><h2 id=halts>Halts</h2>");
    if survey.halts.is_empty() {
        out.push_str("<p>Signing was never halted.</p></section>");
        return;
    }
    out.push_str(
        "<div class=wide><table class=cards><caption>What was halted, from which entry to which. Between the two no signature of \
         that scope stands; one that did would be a finding.</caption><thead><tr><th scope=col>Scope<th \
         scope=col>Halted<th scope=col>Until<th scope=col class=n>For<th scope=col>Who, and why</thead><tbody>",
    );
    let mut lines = 0;
    for (at, mark) in survey.halts.iter().enumerate().filter(|(_, mark)| mark.halted).take(LINES_MAX) {
        let later = survey.halts.iter().skip(at + 1);
        let end = later.into_iter().find(|it| it.scope == mark.scope && !it.halted);
        halt(out, audit, mark, end);
        lines += 1;
    }
    out.push_str("</tbody></table></div>");
    let all = survey.halts.iter().filter(|mark| mark.halted).count() as u64;
    if all > lines || survey.halts_dropped > 0 {
        put!(out, "<p>The first {}; there are more.</p>", num(lines));
    }
    out.push_str("</section>");
}

fn halt(out: &mut String, audit: &Audit<'_>, mark: &HaltMark, end: Option<&HaltMark>) {
    put!(
        out,
        "<tr><th scope=row class=m>{}<td class=t data-l=halted>{} <span class=d>{}</span>",
        esc(&mark.scope),
        audit.links.entry(mark.at.index),
        when(mark.at.ts)
    );
    match end {
        Some(end) => put!(
            out,
            "<td class=t data-l=until>{} <span class=d>{}</span><td class=n data-l=for>{}",
            audit.links.entry(end.at.index),
            when(end.at.ts),
            span(end.at.ts.unix_ms() - mark.at.ts.unix_ms())
        ),
        None => out.push_str("<td><b class=warning>still halted</b><td>"),
    }
    put!(out, "<td>{}", esc(&mark.by));
    if let Some(reason) = &mark.reason {
        put!(out, ": {}", esc(reason));
    }
    if let Some(end) = end {
        put!(out, "<br><span class=soft>went on by {}", esc(&end.by));
        if let Some(approval) = &end.approval {
            put!(out, ", approved as {}", esc(approval));
        }
        out.push_str("</span>");
    }
}

pub(super) fn approvals(out: &mut String, audit: &Audit<'_>) {
    out.push_str("<section aria-labelledby=approvals><h2 id=approvals>Approvals and acts</h2>");
    let count = audit.told.acts.as_ref().map_or(0, |acts| acts.told_below(audit.until()).count());
    if count == 0 {
        out.push_str("<p>There are no acts of people on the verified ledger.</p></section>");
        return;
    }
    requests(out, audit);
    acts(out, audit, count);
    out.push_str("</section>");
}

fn requests(out: &mut String, audit: &Audit<'_>) {
    let Some(acts) = &audit.told.acts else { return };
    let until = audit.until();
    let mut requests: Vec<_> = acts.requests().filter(|(_, it)| it.index < until).collect();
    if requests.is_empty() {
        return;
    }
    requests.sort_by_key(|(_, it)| it.index);
    out.push_str(
        "<div class=wide><table class=cards><caption>Requests for an act that needs approvals, and what became of them.</caption>\
         <thead><tr><th scope=col>Request<th scope=col>Asked<th scope=col>Act<th scope=col>Approved<th \
         scope=col>Refused<th scope=col>Came to</thead><tbody>",
    );
    let voices = |given: &std::collections::BTreeMap<String, u64>| {
        let given = given.iter().filter(|(_, index)| **index < until);
        let given: Vec<_> =
            given.map(|(name, index)| format!("{} {}", esc(name), audit.links.entry(*index))).collect();
        if given.is_empty() { "–".to_owned() } else { given.join("<br>") }
    };
    let all = requests.len();
    for (id, it) in requests.into_iter().take(LINES_MAX) {
        let executed = it.executed_index.filter(|index| *index < until);
        let status = match (it.status, executed) {
            (_, Some(index)) => format!("done {}", audit.links.entry(index)),
            (ProposalStatus::Executed, None) => "open where verification ended".to_owned(),
            (status, None) => status.as_str().to_owned(),
        };
        put!(
            out,
            "<tr><th scope=row class=m>{}<td data-l=asked>{}<br><span class=soft>{}</span><td data-l=act>{}: {}<br><span \
             class=soft>{}</span><td data-l=approved>{}<td data-l=refused>{}<td data-l=\"came to\">{status}",
            esc(id),
            audit.links.entry_on(it.index, it.ts),
            esc(&it.requested.by),
            it.requested.act.kind(),
            esc(&subject(&it.requested.act)),
            esc(&it.requested.reason),
            voices(&it.approvals),
            voices(&it.refusals)
        );
    }
    out.push_str("</tbody></table></div>");
    if all > LINES_MAX {
        put!(out, "<p>The first {LINES_MAX} of {}.</p>", num(all as u64));
    }
}

/// What a request is about, in few words.
fn subject(act: &chancery_format::governance::Act) -> String {
    use chancery_format::governance::Act;
    match act {
        Act::Resume { scope } => scope.to_string(),
        Act::Rotate { kid, from, to, .. } => format!("{kid} from {from} to {to}"),
        Act::Sign { kid, principal, digest, .. } => format!("{digest} with {kid} for {principal}"),
    }
}

/// Every act in its order, as far as there is room.
fn acts(out: &mut String, audit: &Audit<'_>, count: usize) {
    let Some(acts) = &audit.told.acts else { return };
    out.push_str(
        "<div class=wide><table class=cards><caption>Every act, in order.</caption><thead><tr><th scope=col>Entry<th \
         scope=col>Time<th scope=col>Type<th scope=col>What</thead><tbody>",
    );
    let (start, mut told) = (out.len(), 0);
    for (index, ts, kind, text) in acts.told_below(audit.until()) {
        if out.len() - start > ACTS_BYTES_MAX {
            break;
        }
        put!(
            out,
            "<tr><td class=n>{}<td class=t>{}<td class=t>{kind}<td>{}",
            audit.links.entry(index),
            when(ts),
            esc(text)
        );
        told += 1;
    }
    out.push_str("</tbody></table></div>");
    if told < count || acts.is_cut() {
        put!(out, "<p>The first {}; <code>--acts --json</code> tells more.</p>", num(told as u64));
    }
}

pub(super) fn refusals(out: &mut String, audit: &Audit<'_>) {
    let survey = &audit.told.survey;
    out.push_str("<section aria-labelledby=refusals><h2 id=refusals>Refusals and failures</h2>");
    let none = survey.refusals.total() + survey.failures.total() + survey.verdicts.total() == 0;
    if none {
        out.push_str("<p>No request was refused and no key use failed.</p></section>");
        return;
    }
    put!(
        out,
        "<p>{} refused before a key was used; {} no signature.</p><div class=two>",
        plural(survey.refusals.total(), "request was", "requests were"),
        plural(survey.failures.total(), "key use gave", "key uses gave")
    );
    ranking(
        out,
        audit,
        "Requests refused, by reason; the appliance records them together",
        "Reason",
        &survey.refusals,
    );
    ranking(out, audit, "Key uses without signature", "Reason", &survey.failures);
    ranking(out, audit, "Answers of policy services", "Answer", &survey.verdicts);
    out.push_str("</div></section>");
}
