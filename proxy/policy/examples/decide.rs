//! Prints how long a decision takes, for sets of 1 to 10,000 policies of three kinds.
//!
//! `cargo run --release -p chancery-policy --example decide`

#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "a measuring program for one person")]

use std::time::Instant;

use chancery_format::SignatureAlgorithm;
use chancery_policy::{Act, Circumstances, KeyFacts, Moment, PolicySet, Question, What, Who, World};

const ROUNDS: usize = 20_000;

fn main() {
    let by_name: fn(usize) -> String = |number| {
        format!(
            "@id(\"p{number}\") permit (principal == Service::\"s{number}\", action == Action::\"sign\", resource == Key::\"k\");\n"
        )
    };
    let by_condition: fn(usize) -> String = |number| {
        format!(
            "@id(\"p{number}\") permit (principal, action == Action::\"sign\", resource) when {{ context has purpose && context.purpose == \"p{number}\" }};\n"
        )
    };
    let by_hour: fn(usize) -> String = |number| {
        let hour = if number == 0 { "context.hour >= 0" } else { "context.hour > 20 || context.hour < 2" };
        format!("@id(\"p{number}\") permit (principal, action, resource) when {{ {hour} }};\n")
    };
    // Conditions that only Cedar understands.
    let by_pattern: fn(usize) -> String = |number| {
        format!(
            "@id(\"p{number}\") permit (principal, action == Action::\"sign\", resource) when {{ context has purpose && context.purpose like \"p{number}\" }};\n"
        )
    };
    for (kind, policy) in [
        ("principal ==", by_name),
        ("unscoped, when ==", by_condition),
        ("unscoped, when <", by_hour),
        ("unscoped, when like", by_pattern),
    ] {
        for count in [1, 100, 1_000, 10_000] {
            measure(kind, policy, count);
        }
    }
}

fn measure(kind: &str, policy: fn(usize) -> String, count: usize) {
    let mut files = vec![(String::new(), String::new()); 4];
    for number in 0..count {
        let (name, text) = &mut files[number % 4];
        *name = format!("{}.cedar", number % 4);
        text.push_str(&policy(number));
    }
    let files: Vec<(&str, &str)> = files
        .iter()
        .filter(|(name, _)| !name.is_empty())
        .map(|(name, text)| (name.as_str(), text.as_str()))
        .collect();
    let start = Instant::now();
    let set = PolicySet::parse(&files, false).unwrap();
    let load = start.elapsed();
    let rounds = if kind.ends_with("like") { ROUNDS.min(2_000_000 / count) } else { ROUNDS };
    let questions: Vec<Question> = (0..100).map(|number| question(number * count / 100)).collect();
    let mut times: Vec<u64> = questions
        .iter()
        .cycle()
        .take(rounds)
        .map(|question| {
            let start = Instant::now();
            let decision = set.decide(question);
            let nanoseconds = start.elapsed().as_nanos() as u64;
            assert!(matches!(decision, chancery_policy::Decision::Allow { .. }));
            nanoseconds
        })
        .collect();
    times.sort_unstable();
    let at = |per_mille: usize| *times.get(times.len() * per_mille / 1_000).unwrap() as f64 / 1_000.0;
    println!(
        "{kind:20} {count:6} policies: p50 {:9.1} \u{b5}s, p99 {:9.1} \u{b5}s, load {} ms",
        at(500),
        at(990),
        load.as_millis()
    );
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
