//! The auditor's report: one HTML file that reads on a screen, on a phone and on paper, without script or network.
//!
//! The verdict comes first, findings before everything else; then what the verified entries tell: who signed what
//! when, the lives of keys, halts, approvals, refusals. Nothing is shown as a fact that the pass did not count under a
//! signed root. All text of a ledger is escaped ([`text::esc`]), a policy in the file forbids everything but its own
//! style, and the file is at most [`BYTES_MAX`] long whatever the ledger holds.

mod acts;
mod chart;
mod entries;
mod keys;
mod limits;
mod opening;
mod people;
mod text;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use chancery_format::{Hash, Timestamp};
use serde_json::Value;

use self::text::{Links, esc, put};
use crate::ledger::Told;
use crate::{Report, Trust};

/// Longest report: what a browser opens at once and a mail carries.
pub const BYTES_MAX: usize = 5_000_000;
/// Of these, for sections of entries and for findings; the tables have bounds of their own, below half of the rest.
const ENTRIES_BYTES_MAX: usize = 2_500_000;
const FINDINGS_BYTES_MAX: usize = 800_000;
const ACTS_BYTES_MAX: usize = 500_000;

const STYLE: &str = include_str!("html/style.css");

/// How, when and with what the verification ran: the rest of what a report must state.
#[derive(Debug, Clone)]
pub struct Setting {
    /// The archive, as it was given.
    pub archive: String,
    /// The registry's file, as it was given.
    pub signers: String,
    /// The older checkpoint's file, if one was given.
    pub since: Option<String>,
    /// Whether signatures were verified one by one.
    pub strict: bool,
    /// When it began.
    pub began: Timestamp,
    /// How long it took.
    pub took_ms: u64,
}

/// Everything a section is written from.
struct Audit<'a> {
    report: &'a Report,
    told: &'a Told,
    trust: &'a Trust,
    setting: &'a Setting,
    links: Links,
}

impl Audit<'_> {
    /// One of the counts of the verification.
    fn checked(&self, name: &str) -> u64 {
        self.report.checked().get(name).and_then(Value::as_u64).unwrap_or(0)
    }

    /// Entries below this are verified; the report tells of them alone.
    const fn until(&self) -> u64 {
        self.told.survey.until
    }

    /// Entries of the ledger that are not below it.
    fn beyond(&self) -> u64 {
        self.checked("treeSize").max(self.checked("entries")).saturating_sub(self.until())
    }
}

/// Writes the report.
pub fn render(report: &Report, told: &Told, trust: &Trust, setting: &Setting) -> String {
    let (sections, links, unwritten) = entries::sections(&told.survey);
    let audit = Audit { report, told, trust, setting, links };
    let mut out = String::with_capacity(256 * 1024);
    head(&mut out, &audit);
    opening::verdict(&mut out, &audit);
    out.push_str("<main id=main>");
    opening::findings(&mut out, &audit);
    opening::figures(&mut out, &audit);
    keys::over_time(&mut out, &audit);
    keys::lives(&mut out, &audit);
    keys::changes(&mut out, &audit);
    people::callers(&mut out, &audit);
    people::purposes(&mut out, &audit);
    acts::halts(&mut out, &audit);
    acts::approvals(&mut out, &audit);
    acts::refusals(&mut out, &audit);
    limits::shape(&mut out, &audit);
    limits::checked(&mut out, &audit);
    entries::write(&mut out, &audit, &sections, unwritten);
    out.push_str("</main>");
    put!(
        &mut out,
        "<footer><p>Written by chancery-verify {} on {} UTC.</p></footer></body></html>\n",
        env!("CARGO_PKG_VERSION"),
        text::when(setting.began)
    );
    out
}

fn head(out: &mut String, audit: &Audit<'_>) {
    let style = STANDARD.encode(Hash::of(&[STYLE.as_bytes()]).0);
    put!(
        out,
        "<!doctype html>\n<html lang=en><head><meta charset=utf-8>\
         <meta http-equiv=Content-Security-Policy content=\"default-src 'none'; style-src 'sha256-{style}'; \
         base-uri 'none'; form-action 'none'\"><meta name=viewport content=\"width=device-width, initial-scale=1\">\
         <meta name=referrer content=no-referrer><title>Ledger report: {}</title><style>{STYLE}</style></head>\
         <body><a class=skip href=\"#main\">To the report</a>",
        esc(audit.trust.origin().as_str())
    );
}
