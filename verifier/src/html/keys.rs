//! Signatures over time, the life of every key pair, and how one followed another.

use std::cmp::Reverse;
use std::collections::BTreeMap;

use chancery_format::Timestamp;

use super::Audit;
use super::chart::{Axis, KeyRow, key, signatures};
use super::text::{count_cell, day, esc, num, num_or_dash, plural, put, span, top};
use crate::ledger::{KeyLife, KeyUse, Series};
use crate::trust::SignerId;

/// Key pairs that are drawn, and key pairs with a line in the table; the rest is counted.
const DRAWN_MAX: usize = 60;
const TABLED_MAX: usize = 300;
/// Rotations and compromises with a line.
const CHANGES_MAX: usize = 300;

/// A key pair that was activated where verification reached.
struct Pair<'a> {
    id: SignerId,
    life: &'a KeyLife,
    used: KeyUse,
}

impl Pair<'_> {
    fn born_ms(&self, audit: &Audit<'_>) -> i64 {
        let start = audit.told.survey.first.map_or(0, |moment| moment.ts.unix_ms());
        self.life.born.ts.parse::<Timestamp>().map_or(start, Timestamp::unix_ms)
    }
}

/// By name, those used most first; pairs of one name as they followed each other.
fn pairs<'a>(audit: &Audit<'a>) -> Vec<Pair<'a>> {
    let lives = audit.told.keys.iter().filter(|life| life.activated < audit.until());
    let pair = |life: &'a KeyLife| {
        let id = audit.trust.find(&life.signer_kid)?;
        Some(Pair { id, life, used: audit.told.survey.keys.get(&id).cloned().unwrap_or_default() })
    };
    let mut pairs: Vec<_> = lives.filter_map(pair).collect();
    let mut by_name: BTreeMap<&str, u64> = BTreeMap::new();
    for pair in &pairs {
        *by_name.entry(name_of(pair.life)).or_default() +=
            pair.used.tally.verified + pair.used.tally.recorded;
    }
    pairs.sort_by_key(|pair| {
        let name = name_of(pair.life);
        (Reverse(by_name.get(name).copied()), name, pair.life.activated)
    });
    pairs
}

fn name_of(life: &KeyLife) -> &str {
    life.kid.as_deref().unwrap_or(&life.signer_kid)
}

pub(super) fn over_time(out: &mut String, audit: &Audit<'_>) {
    let survey = &audit.told.survey;
    out.push_str("<section aria-labelledby=time><h2 id=time>Signatures over time</h2>");
    let (Some(first), Some(last)) = (survey.first, survey.last) else {
        out.push_str("<p>There is nothing to draw.</p></section>");
        return;
    };
    let axis = Axis::over(first.ts, last.ts, &survey.timeline);
    let width = span(survey.timeline.width_s() * 1_000);
    let total: u64 = survey.timeline.signatures().iter().sum();
    put!(
        out,
        "<p>{} by all keys, in buckets of {width}. Times are those the ledger recorded by its own clock, UTC; what is \
         proven is the order.</p>",
        plural(total, "signature", "signatures")
    );
    signatures(out, &axis, &survey.timeline, &survey.halts);
    rows(out, audit, &axis);
    out.push_str("</section>");
}

fn rows(out: &mut String, audit: &Audit<'_>, axis: &Axis) {
    let pairs = pairs(audit);
    if pairs.is_empty() {
        return;
    }
    let (from, to) = axis.ends();
    let date = |ms: i64| Timestamp::from_unix_ms(ms).map(day).unwrap_or_default();
    put!(
        out,
        "<table class=rows><caption>Each key pair: use above, each row to its own scale; life below. <span \
         class=key><span><i class=kb></i>signatures</span> <span><i class=kl></i>from activation to retirement</span> \
         <span><i class=km></i>rotation</span> <span><i class=kx></i>compromise</span> <span><i \
         class=kh></i>halted</span></span></caption><thead>\
         <tr><th scope=col>Key pair<th scope=col class=chart><div class=ends><span>{}</span><span>{}</span></div>\
         <th scope=col class=n>Signatures</thead><tbody>",
        date(from),
        date(to)
    );
    for pair in pairs.iter().take(DRAWN_MAX) {
        let tally = &pair.used.tally;
        put!(out, "<tr><th scope=row class=m>{}<td class=chart>", esc(&pair.life.signer_kid));
        drawn(out, audit, axis, pair);
        put!(out, "<td class=n data-l=\"signatures\">{}", num_or_dash(tally.verified + tally.recorded));
    }
    out.push_str("</tbody></table>");
    if pairs.len() > DRAWN_MAX {
        let rest =
            pairs.iter().skip(DRAWN_MAX).map(|pair| pair.used.tally.verified + pair.used.tally.recorded);
        put!(
            out,
            "<p>{} are not drawn; they made {}.</p>",
            plural((pairs.len() - DRAWN_MAX) as u64, "more key pair", "more key pairs"),
            plural(rest.sum(), "signature", "signatures")
        );
    }
}

fn drawn(out: &mut String, audit: &Audit<'_>, axis: &Axis, pair: &Pair<'_>) {
    let survey = &audit.told.survey;
    let name = pair.life.signer_kid.as_str();
    let rotations = survey.rotations.iter().filter(|it| it.from == name || it.to == name);
    let compromise = survey.compromises.iter().find(|it| it.signer_kid == name);
    let row = KeyRow {
        signer_kid: name,
        kid: pair.life.kid.as_deref(),
        born_ms: pair.born_ms(audit),
        retired_ms: survey.retired.get(&pair.id).map(|moment| moment.ts.unix_ms()),
        rotated_ms: rotations.map(|it| it.at.ts.unix_ms()).collect(),
        compromised_ms: compromise.map(|it| it.at.ts.unix_ms()),
        series: pair.used.has_row.then_some(Series::Key(pair.id)),
    };
    key(out, axis, &survey.timeline, &survey.halts, &row);
}

pub(super) fn lives(out: &mut String, audit: &Audit<'_>) {
    let pairs = pairs(audit);
    out.push_str("<section aria-labelledby=keys><h2 id=keys>Keys</h2>");
    if pairs.is_empty() {
        out.push_str("<p>No key was activated where verification reached.</p></section>");
        return;
    }
    out.push_str(
        "<div class=wide><table class=cards><caption>Every key pair that was activated: its life by entries, where it comes from, \
         what it made and for whom.</caption><thead><tr><th scope=col>Key pair<th scope=col>Life<th scope=col>Origin\
         <th scope=col class=n>Verified<th scope=col class=n>Recorded only<th scope=col class=n>Failed<th \
         scope=col>First, last use<th scope=col>Most for</thead><tbody>",
    );
    for pair in pairs.iter().take(TABLED_MAX) {
        life(out, audit, pair);
    }
    out.push_str("</tbody></table></div>");
    if pairs.len() > TABLED_MAX {
        put!(out, "<p>And {} more.</p>", num((pairs.len() - TABLED_MAX) as u64));
    }
    out.push_str("</section>");
}

fn life(out: &mut String, audit: &Audit<'_>, pair: &Pair<'_>) {
    let (life, tally, survey) = (pair.life, &pair.used.tally, &audit.told.survey);
    let kid = life.kid.as_deref().unwrap_or("");
    let signer = audit.trust.signer(pair.id);
    let role = match signer.is_ledger_key || signer.is_second_ledger_key {
        true => ", signs checkpoints",
        false => "",
    };
    put!(
        out,
        "<tr><th scope=row><span class=m>{}</span><br><span class=soft>{} {}{role}</span><td data-l=life>since {} <span \
         class=d>{}</span>",
        esc(&life.signer_kid),
        esc(kid),
        esc(life.algorithm),
        audit.links.entry(life.activated),
        esc(life.born.ts.get(..10).unwrap_or_default())
    );
    match (survey.retired.get(&pair.id), life.retired.filter(|index| *index < audit.until())) {
        (Some(at), _) => put!(out, "<br>retired {}", audit.links.entry_on(at.index, at.ts)),
        (None, Some(index)) => put!(out, "<br>retired {}", audit.links.entry(index)),
        (None, None) => {}
    }
    if let Some(since) = life.compromised_since {
        put!(out, "<br><b class=error>compromised</b> since {}", audit.links.entry(since));
    }
    put!(out, "<td data-l=origin>{}", origin(life));
    let numbers = [("verified", tally.verified), ("recorded only", tally.recorded), ("failed", tally.failed)];
    numbers.iter().for_each(|(label, number)| count_cell(out, label, *number));
    out.push_str("<td data-l=\"first, last use\">");
    if let (Some(first), Some(last)) = (tally.first, tally.last) {
        put!(
            out,
            "{}<br>{}",
            audit.links.entry_on(first.index, first.ts),
            audit.links.entry_on(last.index, last.ts)
        );
    }
    put!(out, "<td class=who data-l=\"most for\">{}", top(&pair.used.callers));
}

/// Where a key was born, and whether its device says so.
fn origin(life: &KeyLife) -> String {
    let born = &life.born;
    let mut text = match born.origin.as_deref() {
        Some("generated") => "generated".to_owned(),
        Some("imported") => "imported".to_owned(),
        _ => "unknown".to_owned(),
    };
    if let Some(device) = &born.device {
        put!(&mut text, " in {}", esc(device));
    }
    if let Some(serial) = &born.serial {
        put!(&mut text, " <span class=m>{}</span>", esc(serial));
    }
    put!(&mut text, "<br><span class=soft>attestation: {}</span>", born.attestation.as_str());
    if let Some(person) = &born.requested_by {
        put!(&mut text, "<br><span class=soft>asked for by {}</span>", esc(person));
    }
    text
}

/// Rotations and compromises.
pub(super) fn changes(out: &mut String, audit: &Audit<'_>) {
    let survey = &audit.told.survey;
    out.push_str("<section aria-labelledby=rotations><h2 id=rotations>Rotations and compromises</h2>");
    if survey.rotations.is_empty() && survey.compromises.is_empty() {
        out.push_str("<p>None.</p></section>");
        return;
    }
    if !survey.rotations.is_empty() {
        out.push_str(
            "<div class=wide><table class=cards><caption>Key pairs that followed another under the same name.</caption><thead>\
             <tr><th scope=col>Entry<th scope=col>Name<th scope=col>From<th scope=col>To<th scope=col>Handed over\
             </thead><tbody>",
        );
        for it in survey.rotations.iter().take(CHANGES_MAX) {
            let hand_over =
                it.hand_over.map(|index| format!("by the old key, entry {}", audit.links.entry(index)));
            put!(
                out,
                "<tr><td class=t>{}<td class=m data-l=name>{}<td class=m data-l=from>{}<td class=m data-l=to>{}<td \
                 data-l=\"handed over\">{}",
                audit.links.entry_on(it.at.index, it.at.ts),
                esc(&it.kid),
                esc(&it.from),
                esc(&it.to),
                hand_over.as_deref().unwrap_or("without a word of the old key")
            );
        }
        out.push_str("</tbody></table></div>");
        let all = survey.rotations.len() as u64 + survey.rotations_dropped;
        if all > CHANGES_MAX as u64 {
            put!(out, "<p>The first {CHANGES_MAX} of {}.</p>", num(all));
        }
    }
    if !survey.compromises.is_empty() {
        out.push_str(
            "<div class=wide><table class=cards><caption>Key pairs said to be in somebody else’s hands.</caption><thead><tr><th \
             scope=col>Entry<th scope=col>Key pair<th scope=col>Suspect from entry<th scope=col \
             class=n>Signatures since<th scope=col>Who, and why</thead><tbody>",
        );
        for it in survey.compromises.iter().take(CHANGES_MAX) {
            put!(
                out,
                "<tr><td class=t>{}<td class=m>{}<td data-l=\"suspect from entry\">{}<td class=n \
                 data-l=\"signatures since\">{}<td>{}: {}",
                audit.links.entry_on(it.at.index, it.at.ts),
                esc(&it.signer_kid),
                audit.links.entry(it.since),
                num(it.suspect),
                esc(&it.by),
                esc(&it.reason)
            );
        }
        out.push_str("</tbody></table></div>");
    }
    out.push_str("</section>");
}
