//! The crate as its users see it: files in, decisions, explanations and problems out.

#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "a failed unwrap is the test's failure")]

mod decisions;
mod guide;
mod problems;
mod roles;

use std::sync::Arc;

use chancery_format::SignatureAlgorithm;
use chancery_policy::{
    Act, Circumstances, Key, KeyFacts, Moment, PolicyProblem, PolicySet, Question, What, Who,
};

fn set(text: &str) -> PolicySet {
    PolicySet::parse(&[("p.cedar", text)], false).unwrap()
}

fn problems(text: &str) -> Vec<PolicyProblem> {
    PolicySet::parse(&[("p.cedar", text)], false).unwrap_err()
}

fn service(name: &str, groups: &[&str]) -> Who {
    Who::Service { name: name.parse().unwrap(), groups: groups.iter().map(ToString::to_string).collect() }
}

fn person(name: &str, roles: &[&str]) -> Who {
    Who::Person { name: name.parse().unwrap(), roles: roles.iter().map(ToString::to_string).collect() }
}

fn key(name: &str, purpose: &str) -> What {
    let facts = KeyFacts {
        algorithm: SignatureAlgorithm::Ed25519,
        purpose: purpose.to_owned(),
        backend: "software".to_owned(),
        is_ledger_key: false,
    };
    What::Key(Arc::new(Key::new(name.parse().unwrap(), facts)))
}

/// A question asked at noon on a Wednesday.
fn question(who: Who, act: Act, what: What) -> Question {
    let circumstances = Circumstances {
        moment: Moment::new(12, 3).unwrap(),
        environment: "test".to_owned(),
        source: None,
        purpose: None,
        dialect: None,
        algorithm: None,
        stream: None,
    };
    Question { who, act, what, circumstances }
}
