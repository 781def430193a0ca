//! Who asked, for which keys, what for, and which kinds of entries there are.

use super::Audit;
use super::text::{count_cell, esc, num, plural, put, top};
use crate::ledger::{ActorTally, Ranking};

pub(super) fn callers(out: &mut String, audit: &Audit<'_>) {
    let survey = &audit.told.survey;
    out.push_str("<section aria-labelledby=callers><h2 id=callers>Callers</h2>");
    if survey.actors.is_empty() {
        out.push_str("<p>None.</p></section>");
        return;
    }
    out.push_str(
        "<div class=wide><table class=cards><caption>Who acted, most signatures first. Names are as the appliance authenticated \
         them; refusals count requests.</caption><thead><tr><th scope=col>Name<th scope=col class=n>Verified<th \
         scope=col class=n>Recorded only<th scope=col class=n>Failed<th scope=col class=n>Refused<th scope=col \
         class=n>Entries<th scope=col>First, last entry<th scope=col>Keys</thead><tbody>",
    );
    for actor in &survey.actors {
        put!(out, "<tr><th scope=row class=m>{}", esc(&actor.name));
        numbers(out, &actor.tally);
        out.push_str("<td data-l=\"first, last entry\">");
        if let (Some(first), Some(last)) = (actor.tally.first, actor.tally.last) {
            put!(
                out,
                "{}<br>{}",
                audit.links.entry_on(first.index, first.ts),
                audit.links.entry_on(last.index, last.ts)
            );
        }
        put!(out, "<td data-l=keys>{}", top(&actor.keys));
    }
    let more = survey.actors_told - survey.actors.len() as u64;
    if more > 0 {
        put!(out, "<tr><th scope=row>{} together", plural(more, "more", "more"));
        numbers(out, &survey.other_actors);
        out.push_str("<td><td>");
    }
    out.push_str("</tbody></table></div></section>");
}

fn numbers(out: &mut String, tally: &ActorTally) {
    for (label, number) in [
        ("verified", tally.verified),
        ("recorded only", tally.recorded),
        ("failed", tally.failed),
        ("refused", tally.refused),
        ("entries", tally.entries),
    ] {
        count_cell(out, label, number);
    }
}

pub(super) fn purposes(out: &mut String, audit: &Audit<'_>) {
    let survey = &audit.told.survey;
    out.push_str("<section aria-labelledby=purposes><h2 id=purposes>Purposes and kinds</h2><div class=two>");
    ranking(out, audit, "Signatures by purpose, where the caller gave one", "Purpose", &survey.purposes);
    ranking(out, audit, "Signatures by the way they were asked for", "Dialect", &survey.dialects);
    ranking(out, audit, "Entries by type", "Type", &survey.types);
    ranking(out, audit, "Entries by stream", "Stream", &survey.streams);
    out.push_str("</div></section>");
}

/// A short table of names, if there are any.
pub(super) fn ranking(out: &mut String, audit: &Audit<'_>, caption: &str, name: &str, ranking: &Ranking) {
    if ranking.rows.is_empty() && ranking.others == 0 {
        return;
    }
    put!(
        out,
        "<div class=wide><table><caption>{caption}</caption><thead><tr><th scope=col>{name}<th scope=col \
         class=n>Count<th scope=col>First, last entry</thead><tbody>"
    );
    for (name, it) in &ranking.rows {
        put!(
            out,
            "<tr><th scope=row class=m>{}<td class=n>{}<td>{}",
            esc(name),
            num(it.count),
            audit.links.entry(it.first)
        );
        if it.last != it.first {
            put!(out, ", {}", audit.links.entry(it.last));
        }
    }
    let more = ranking.names - ranking.rows.len() as u64;
    if ranking.others > 0 {
        let names = if ranking.is_cut { format!("more than {}", num(more)) } else { num(more) };
        put!(out, "<tr><th scope=row>{names} more together<td class=n>{}<td>", num(ranking.others));
    }
    out.push_str("</tbody></table></div>");
}
