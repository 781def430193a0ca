//! Entries that other parts of the report speak of, each with its facts and an anchor.

use super::text::{Links, esc, num, plural, put, when};
use super::{Audit, ENTRIES_BYTES_MAX};
use crate::ledger::{Noted, Survey};

/// The sections as far as they fit, which entries they are about, and how many are left out.
pub(super) fn sections(survey: &Survey) -> (String, Links, u64) {
    let (mut out, mut links) = (String::new(), Links::default());
    let mut left_out = survey.noted_dropped;
    for noted in survey.noted.values() {
        if out.len() > ENTRIES_BYTES_MAX {
            left_out += 1;
            continue;
        }
        section(&mut out, noted);
        links.0.insert(noted.index);
    }
    (out, links, left_out)
}

fn section(out: &mut String, noted: &Noted) {
    let index = noted.index;
    put!(
        out,
        "<article id=\"entry-{index}\"><h3>Entry {} <span class=m>{}</span></h3><p>{} UTC by <span class=m>{}\
         </span>",
        num(index),
        esc(&noted.event_type),
        when(noted.ts),
        esc(&noted.actor)
    );
    if let Some((stream, seq)) = &noted.place {
        put!(out, ", number {} in stream <span class=m>{}</span>", num(*seq), esc(stream));
    }
    if !noted.verified {
        out.push_str(" <b class=error>not verified</b>");
    }
    out.push_str("</p>");
    if let Some(quote) = &noted.quote {
        put!(out, "<pre>{}</pre>", esc(quote));
    }
    out.push_str("</article>");
}

pub(super) fn write(out: &mut String, audit: &Audit<'_>, sections: &str, left_out: u64) {
    put!(
        out,
        "<section aria-labelledby=entries><h2 id=entries>Entries</h2><p>Entries that this report speaks of, in \
         order{}. Any entry, with its proof up to the signed root:</p><pre>chancery-verify explain {} INDEX --signers \
         {}</pre>",
        match left_out {
            0 => String::new(),
            more => format!("; {} left out", plural(more, "more is", "more are")),
        },
        esc(&audit.setting.archive),
        esc(&audit.setting.signers)
    );
    out.push_str(sections);
    out.push_str("</section>");
}
