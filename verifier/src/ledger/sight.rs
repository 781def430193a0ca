//! What a worker notes of one entry for the auditor's report: names, a time, and what kind of thing happened. Nothing
//! here is trusted before the pass has counted it, and the pass counts only what a signed root covers.

use chancery_format::entry::{event_type, is_appliances_type};
use chancery_format::governance;
use chancery_format::{AuditEvent, Timestamp};
use serde::Deserialize;

use super::event::{Act, Signature};
use crate::trust::SignerId;

/// Bytes of a payload that the report quotes: a screenful.
const QUOTE_BYTES_MAX: usize = 1_200;

/// One entry, as the report needs it.
#[derive(Debug)]
pub(crate) struct Seen {
    pub(crate) ts: Timestamp,
    pub(crate) actor: Box<str>,
    pub(crate) event_type: Box<str>,
    /// Whether nothing is wrong with it alone.
    pub(crate) sound: bool,
    /// Whether its time is by the ledger's own clock; services may bring theirs.
    pub(crate) by_our_clock: bool,
    pub(crate) what: What,
    /// The beginning of its payload, and why it is kept.
    pub(crate) quote: Option<(Class, Box<str>)>,
}

/// What happened.
#[derive(Debug)]
pub(crate) enum What {
    /// Anything that is only counted by its type.
    Other,
    Issued {
        /// The key pairs, and whether outsiders can verify what they made.
        uses: Vec<(SignerId, bool)>,
        purpose: Option<Box<str>>,
        dialect: Option<Box<str>>,
    },
    /// A key use that gave no signature.
    Failed {
        signer: Option<SignerId>,
        code: Box<str>,
    },
    Refused {
        code: Box<str>,
        principal: Option<Box<str>>,
        count: u64,
    },
    Retired(SignerId),
    Verdict(Box<str>),
    Governed(Box<governance::Event>),
}

/// Why an entry has a section of its own. Each class has a bound of its own, so that none crowds out another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Class {
    Finding,
    Key,
    Governance,
    Refusal,
    Failure,
    Other,
}

impl Class {
    pub(crate) const ALL: [Self; 6] =
        [Self::Finding, Self::Key, Self::Governance, Self::Refusal, Self::Failure, Self::Other];

    /// Entries of this class that have a section: 1.5 KB each, and on paper four to a page.
    pub(crate) const fn noted_max(self) -> usize {
        match self {
            Self::Finding | Self::Key | Self::Governance => 250,
            Self::Refusal | Self::Failure | Self::Other => 50,
        }
    }

    fn of(event_type: &str) -> Option<Self> {
        match event_type {
            event_type::ACTIVATED | event_type::RETIRED | event_type::SURPLUS => Some(Self::Key),
            event_type::REFUSED => Some(Self::Refusal),
            event_type::FAILED | event_type::ABANDONED => Some(Self::Failure),
            event_type::OPENED | event_type::REGISTRY | event_type::POLICY | event_type::OPERATIONS => {
                Some(Self::Other)
            }
            name => governance::Event::TYPES.contains(&name).then_some(Self::Governance),
        }
    }
}

/// What the reader of an event learned of a key use beside its [`Act`].
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Said<'a> {
    pub(crate) purpose: Option<&'a str>,
    pub(crate) dialect: Option<&'a str>,
    pub(crate) code: Option<&'a str>,
    pub(crate) signer: Option<SignerId>,
}

impl Seen {
    pub(crate) fn of(event: &AuditEvent<'_>, act: Option<&Act>, said: &Said<'_>, sound: bool) -> Self {
        let quoted = Class::of(event.event_type);
        Self {
            ts: event.ts,
            actor: event.actor.into(),
            event_type: event.event_type.into(),
            sound,
            by_our_clock: is_appliances_type(event.event_type),
            what: what(event, act, said),
            quote: quoted.map(|class| (class, quote(event.payload))),
        }
    }
}

#[derive(Deserialize)]
struct Refused<'a> {
    code: &'a str,
    count: u64,
    #[serde(default)]
    principal: Option<&'a str>,
}

#[derive(Deserialize)]
struct Verdict<'a> {
    verdict: &'a str,
}

fn what(event: &AuditEvent<'_>, act: Option<&Act>, said: &Said<'_>) -> What {
    match act {
        Some(Act::Issued(uses, _)) => {
            let verifiable =
                |signature: &Signature| !matches!(signature, Signature::Mac | Signature::OverMessage);
            return What::Issued {
                uses: uses.iter().map(|one| (one.signer, verifiable(&one.signature))).collect(),
                purpose: said.purpose.map(Into::into),
                dialect: said.dialect.map(Into::into),
            };
        }
        Some(Act::Retired(id)) => return What::Retired(*id),
        Some(Act::Governed(event, _)) => return What::Governed(event.clone()),
        _ => {}
    }
    match event.event_type {
        event_type::FAILED | event_type::ABANDONED => {
            What::Failed { signer: said.signer, code: said.code.unwrap_or("unknown").into() }
        }
        event_type::REFUSED => serde_json::from_str::<Refused<'_>>(event.payload).map_or(What::Other, |it| {
            What::Refused { code: it.code.into(), principal: it.principal.map(Into::into), count: it.count }
        }),
        event_type::VERDICT => serde_json::from_str::<Verdict<'_>>(event.payload)
            .map_or(What::Other, |it| What::Verdict(it.verdict.into())),
        _ => What::Other,
    }
}

/// The beginning of a text, cut between characters.
fn quote(text: &str) -> Box<str> {
    if text.len() <= QUOTE_BYTES_MAX {
        return text.into();
    }
    let cut = text.floor_char_boundary(QUOTE_BYTES_MAX);
    format!("{}…", text.get(..cut).unwrap_or_default()).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quote_is_cut_between_characters() {
        assert_eq!(&*quote("short"), "short");
        let long = quote(&"é".repeat(1_000));
        assert!(long.len() <= QUOTE_BYTES_MAX + 3 && long.ends_with("é…"));
    }
}
