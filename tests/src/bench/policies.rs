//! How long one decision takes under a thousand policies of several kinds.

use std::time::Instant;

use chancery_format::SignatureAlgorithm;
use chancery_policy::{
    Act, Circumstances, Decision, KeyFacts, Moment, PolicySet, Question, What, Who, World,
};

use crate::table::Table;

const POLICIES: usize = 1_000;
const ROUNDS: usize = 20_000;
/// Fewer where each takes milliseconds.
const ROUNDS_SLOW: usize = 2_000;

/// Policies of one kind, by their number.
type Kind = fn(usize) -> String;

pub(crate) fn policies(table: &mut Table) {
    let by_name: Kind = |number| {
        format!(
            "@id(\"p{number}\") permit (principal == Service::\"s{number}\", action == Action::\"sign\", resource == Key::\"k\");\n"
        )
    };
    let by_condition: Kind = |number| {
        format!(
            "@id(\"p{number}\") permit (principal, action == Action::\"sign\", resource) when {{ context has purpose && context.purpose == \"p{number}\" }};\n"
        )
    };
    let by_hour: Kind = |number| {
        let hour = if number == 0 { "context.hour >= 0" } else { "context.hour > 20 || context.hour < 2" };
        format!("@id(\"p{number}\") permit (principal, action, resource) when {{ {hour} }};\n")
    };
    // Conditions that only Cedar understands.
    let by_pattern: Kind = |number| {
        format!(
            "@id(\"p{number}\") permit (principal, action == Action::\"sign\", resource) when {{ context has purpose && context.purpose like \"p{number}\" }};\n"
        )
    };
    for (kind, policy) in [
        ("each for one principal and key", by_name),
        ("unscoped, by an equal purpose", by_condition),
        ("unscoped, by the hour", by_hour),
        ("unscoped, by a pattern", by_pattern),
    ] {
        let p99 = measure(policy, if kind.ends_with("pattern") { ROUNDS_SLOW } else { ROUNDS });
        table.add(format!("decision under {POLICIES} policies, {kind}, p99"), p99, "µs");
        let aim = if kind.starts_with("each") { "≤ 1" } else { "- (every policy is looked at)" };
        table.ratio(&format!("decision, {kind}: p99 ÷ 50 µs"), p99 / 50.0, aim);
    }
}

/// p99 of a decision, in µs.
fn measure(policy: Kind, rounds: usize) -> f64 {
    let text: String = (0..POLICIES).map(policy).collect();
    let set = PolicySet::parse(&[("bench.cedar", &text)], false).unwrap();
    let questions: Vec<Question> = (0..100).map(|number| question(number * POLICIES / 100)).collect();
    let time = |question| {
        let started = Instant::now();
        assert!(matches!(set.decide(question), Decision::Allow { .. }));
        started.elapsed().as_secs_f64() * 1e6
    };
    let mut times: Vec<f64> = questions.iter().cycle().take(rounds).map(time).collect();
    times.sort_by(f64::total_cmp);
    times[times.len() * 99 / 100]
}

/// A service in three groups signs with all circumstances set.
fn question(number: usize) -> Question {
    let facts = KeyFacts {
        algorithm: SignatureAlgorithm::Ed25519,
        purpose: "payments".to_owned(),
        backend: "software".to_owned(),
        is_ledger_key: false,
    };
    let world = World::new([("k".parse().unwrap(), facts)]);
    Question {
        who: Who::Service {
            name: format!("s{number}").parse().unwrap(),
            groups: vec!["a".to_owned(), "b".to_owned(), "c".to_owned()],
        },
        act: Act::Sign,
        what: What::Key(world.key(&"k".parse().unwrap()).unwrap()),
        circumstances: Circumstances {
            moment: Moment::new(12, 3).unwrap(),
            environment: "production".to_owned(),
            source: Some([10, 0, 0, 1].into()),
            purpose: Some(format!("p{number}")),
            dialect: Some("native".to_owned()),
            algorithm: Some("ed25519".to_owned()),
            stream: Some("payments".to_owned()),
        },
    }
}
