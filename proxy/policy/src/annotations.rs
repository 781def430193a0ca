//! Annotations of one policy: its id, and what lifts it.
//!
//! | annotation | on | means |
//! |---|---|---|
//! | `@id("…")` | every policy | its name in decisions, unique over all files |
//! | `@description("…")` | any | text for people |
//! | `@unless("quorum")` with `@approvals("2")`, `@approvers("role")` | forbid | persons can lift it |
//! | `@unless("hook")` with `@hook("name")`, optional `@unreachable("refuse")` or `("allow")` | forbid | a hook can lift it |
//!
//! Everything else is refused: a misspelt annotation must not turn into no annotation.

use cedar_policy::{Effect, Policy};

use crate::decision::{Lift, PolicyId, Unreachable};
use crate::limits::{ANNOTATION_NAME_BYTES_MAX, APPROVALS_MAX};

const KNOWN: [&str; 7] = ["id", "description", "unless", "approvals", "approvers", "hook", "unreachable"];

/// Message and advice of one problem.
pub(crate) type Fault = (String, String);

/// What the annotations say, believed afterwards.
pub(crate) struct Annotations {
    pub(crate) id: PolicyId,
    pub(crate) lift: Option<Lift>,
}

/// Reads a policy's annotations; tells everything wrong with them.
pub(crate) fn read(policy: &Policy) -> Result<Annotations, Vec<Fault>> {
    let mut faults: Vec<Fault> = policy
        .annotations()
        .filter(|(name, _)| !KNOWN.contains(name))
        .map(|(name, _)| (format!("unknown annotation @{name}"), format!("known are @{}", KNOWN.join(", @"))))
        .collect();
    let id = match policy.annotation("id") {
        None => Err(("the policy has no @id".to_owned(), "write @id(\"a-name\") above it".to_owned())),
        Some(text) => {
            text.parse::<PolicyId>().map_err(|error| (format!("@id({text:?}) is no id"), error.to_string()))
        }
    };
    let lift = lift(policy, &mut faults);
    match id {
        Ok(id) if faults.is_empty() => Ok(Annotations { id, lift }),
        Ok(_) => Err(faults),
        Err(fault) => {
            faults.push(fault);
            Err(faults)
        }
    }
}

fn lift(policy: &Policy, faults: &mut Vec<Fault>) -> Option<Lift> {
    let unless = policy.annotation("unless");
    let needs = |names: &[&str], kind: &str, faults: &mut Vec<Fault>| {
        for name in names.iter().filter(|name| policy.annotation(name).is_some()) {
            faults.push((
                format!("@{name} without @unless({kind:?})"),
                format!("add @unless({kind:?}) or remove @{name}"),
            ));
        }
    };
    if unless.is_some() && policy.effect() == Effect::Permit {
        faults.push((
            "@unless on a permit".to_owned(),
            "put it on a forbid: approvals and hooks only lift what is forbidden".to_owned(),
        ));
    }
    if unless != Some("quorum") {
        needs(&["approvals", "approvers"], "quorum", faults);
    }
    if unless != Some("hook") {
        needs(&["hook", "unreachable"], "hook", faults);
    }
    match unless? {
        "quorum" => quorum(policy, faults),
        "hook" => hook(policy, faults),
        other => {
            faults
                .push((format!("@unless({other:?}) is unknown"), "write \"quorum\" or \"hook\"".to_owned()));
            None
        }
    }
}

fn quorum(policy: &Policy, faults: &mut Vec<Fault>) -> Option<Lift> {
    let text = policy.annotation("approvals").unwrap_or_default();
    // One spelling per number: no sign, no leading zero.
    let approvals = text
        .parse::<u8>()
        .ok()
        .filter(|number| (1..=APPROVALS_MAX).contains(number) && number.to_string() == text);
    if approvals.is_none() {
        faults.push((
            format!("@approvals({text:?}) is no number of approvals"),
            format!("write @approvals(\"2\"), 1 to {APPROVALS_MAX}"),
        ));
    }
    let approvers = name(policy, "approvers", "the role of those who approve", faults);
    Some(Lift::Quorum { approvals: approvals?, approvers: approvers? })
}

fn hook(policy: &Policy, faults: &mut Vec<Fault>) -> Option<Lift> {
    let name = name(policy, "hook", "the hook's name in the configuration", faults);
    let when_unreachable = match policy.annotation("unreachable") {
        None | Some("refuse") => Some(Unreachable::Refuse),
        Some("allow") => Some(Unreachable::Allow),
        Some(other) => {
            faults.push((
                format!("@unreachable({other:?}) is unknown"),
                "write \"refuse\" or \"allow\"".to_owned(),
            ));
            None
        }
    };
    Some(Lift::Hook { name: name?, when_unreachable: when_unreachable? })
}

fn name(policy: &Policy, annotation: &str, what: &str, faults: &mut Vec<Fault>) -> Option<Box<str>> {
    let text = policy.annotation(annotation).unwrap_or_default();
    let slug =
        |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || matches!(byte, b'.' | b'_' | b'-');
    if !text.is_empty() && text.len() <= ANNOTATION_NAME_BYTES_MAX && text.bytes().all(slug) {
        return Some(text.into());
    }
    faults.push((
        format!("@{annotation}({text:?}) is no name"),
        format!("write {what}, 1 to {ANNOTATION_NAME_BYTES_MAX} characters of a-z 0-9 . _ -"),
    ));
    None
}
