//! What must hold for every set and every question: an index and a guard that change nothing, and rights
//! that others' policies and further forbids never widen.

#![expect(clippy::unwrap_used, reason = "a failed unwrap is the test's failure")]

use std::collections::BTreeSet;
use std::sync::Arc;

use cedar_policy::{Authorizer, Effect, PolicySet as CedarSet};
use chancery_format::SignatureAlgorithm;
use proptest::prelude::*;
use proptest::sample::select;

use crate::ask::{Asked, Needs};
use crate::parse::Compiled;
use crate::schema::schema;
use crate::*;

const WHO: &[&str] = &[
    "principal",
    "principal",
    "principal",
    "principal is Service",
    "principal is Person",
    "principal == Service::\"s0\"",
    "principal == Service::\"s1\"",
    "principal in Service::\"s2\"",
    "principal in Group::\"g0\"",
    "principal is Service in Group::\"g1\"",
    "principal == Person::\"s0\"",
    "principal in Role::\"g0\"",
    "principal is Person in Role::\"g1\"",
];
const WHAT: &[&str] = &[
    "resource",
    "resource",
    "resource",
    "resource is Key",
    "resource is Stream",
    "resource == Key::\"k0\"",
    "resource in Key::\"k1\"",
    "resource == Stream::\"k0\"",
    "resource == Appliance::\"chancery\"",
    "resource is Key in Key::\"k0\"",
];
const ACTS: &[&str] = &[
    "action",
    "action",
    "action == Action::\"sign\"",
    "action in Action::\"mac\"",
    "action in [Action::\"sign\", Action::\"read\", Action::\"halt\"]",
    "action in [Action::\"halt\", Action::\"halt\", Action::\"retire-key\"]",
    "action in [Action::\"read-audit\", Action::\"list-keys\"]",
];
const CONDITIONS: &[&str] = &[
    "true",
    "context.hour >= 8 && context.hour < 18",
    "context.weekday != 6 && context.weekday <= 5",
    "context has purpose && context.purpose == \"payments\"",
    "context has dialect && (context.dialect == \"native\" || context.dialect == \"kms\")",
    "context has stream && context.stream like \"k*\"",
    "context has algorithm && !(context.algorithm == \"ed25519\")",
    "context has source && context.source.isInRange(ip(\"10.0.0.0/8\"))",
    "context has source && context[\"s\\u{6f}urce\"].isIpv4()",
    "context.environment == \"production\" || context.hour == 3",
    "principal in Group::\"g0\" || principal in Role::\"g1\"",
    "principal == Service::\"s1\"",
    "principal in [Group::\"g0\", Group::\"g1\"]",
    "resource is Key && resource.purpose == \"payments\"",
    "resource is Key && !resource.isLedgerKey",
    "resource is Key && resource.isLedgerKey == true && resource.backend == \"tpm\"",
    "resource is Key && resource.algorithm != \"ed25519\"",
    "resource == Key::\"k1\" || resource in Stream::\"k0\"",
    "if context.hour > 12 then context.weekday == 1 else context.weekday == 2",
];
/// Conditions that fail at some hours: a product beyond 64 bits.
const FAILING: &[&str] = &[
    "context.hour * 9223372036854775807 > 1",
    "context.hour < 2 && context.hour * 9223372036854775807 > 1",
    "context.hour * 9223372036854775807 > 1 && context.weekday == 9",
    "context.weekday == 1 || context.hour * 9223372036854775807 > 1",
];
const LIFTS: &[&str] = &[
    "",
    "@unless(\"quorum\") @approvals(\"2\") @approvers(\"approver\") ",
    "@unless(\"hook\") @hook(\"risk\") ",
];

/// A policy without its id, on one line.
fn policy(effect: &'static str) -> impl Strategy<Value = String> {
    let clause = (any::<bool>(), prop_oneof![60 => select(CONDITIONS), 1 => select(FAILING)])
        .prop_map(|(when, condition)| format!("{} {{ {condition} }}", if when { "when" } else { "unless" }));
    let clauses = prop::collection::vec(clause, 0..3);
    (select(LIFTS), select(WHO), select(ACTS), select(WHAT), clauses).prop_map(
        move |(lift, who, act, what, clauses)| {
            let lift = if effect == "forbid" { lift } else { "" };
            format!("{lift}{effect} ({who}, {act}, {what}) {};", clauses.join(" "))
        },
    )
}

fn policies() -> impl Strategy<Value = Vec<String>> {
    prop::collection::vec(prop_oneof![3 => policy("permit"), 1 => policy("forbid")], 0..40)
}

fn optional(words: &'static [&'static str]) -> impl Strategy<Value = Option<String>> {
    prop::option::of(select(words).prop_map(str::to_owned))
}

fn question() -> impl Strategy<Value = Question> {
    let who = (any::<bool>(), 0..3, prop::collection::vec(select(&["g0", "g1", "g2"][..]), 0..3)).prop_map(
        |(service, name, parents)| {
            let name = format!("s{name}").parse().unwrap();
            let parents = parents.into_iter().map(str::to_owned).collect();
            if service {
                Who::Service { name, groups: parents }
            } else {
                Who::Person { name, roles: parents }
            }
        },
    );
    let key = (0..2, select(&["payments", "orders"][..]), select(&["tpm", "software"][..]), any::<bool>())
        .prop_map(|(name, purpose, backend, is_ledger_key)| {
            let facts = KeyFacts {
                algorithm: SignatureAlgorithm::Ed25519,
                purpose: purpose.to_owned(),
                backend: backend.to_owned(),
                is_ledger_key,
            };
            What::Key(Arc::new(Key::new(format!("k{name}").parse().unwrap(), facts)))
        });
    let stream = (0..2).prop_map(|name| What::Stream(format!("k{name}").parse().unwrap()));
    let what = prop_oneof![2 => key, 1 => stream, 1 => Just(What::Appliance)];
    let circumstances = (
        (select(&[0, 1, 2, 3, 7, 8, 12, 13, 17, 18, 23][..]), 1u8..8),
        select(&["production", "test"][..]),
        prop::option::of(select(&["10.1.2.3", "192.0.2.1", "::1"][..])),
        optional(&["payments", "orders"]),
        optional(&["native", "kms"]),
        optional(&["ed25519", "rsa-sha256"]),
        optional(&["k0", "other"]),
    )
        .prop_map(|(time, environment, source, purpose, dialect, algorithm, stream)| Circumstances {
            moment: Moment::new(time.0, time.1).unwrap(),
            environment: environment.to_owned(),
            source: source.map(|text| text.parse().unwrap()),
            purpose,
            dialect,
            algorithm,
            stream,
        });
    (who, select(Act::ALL), what, circumstances)
        .prop_map(|(who, act, what, circumstances)| Question { who, act, what, circumstances })
        .prop_filter("only acts that exist", Question::fits)
}

/// A set of those policies that are right; policies that can never apply are refused, and left out here.
fn set(policies: &[String]) -> (PolicySet, Vec<String>) {
    let file = |policies: &[String]| -> String {
        policies.iter().enumerate().map(|(number, text)| format!("@id(\"p{number}\") {text}\n")).collect()
    };
    let Err(problems) = PolicySet::parse(&[("p.cedar", &file(policies))], false) else {
        return (PolicySet::parse(&[("p.cedar", &file(policies))], false).unwrap(), policies.to_vec());
    };
    let wrong: BTreeSet<usize> = problems.iter().map(|problem| problem.at.unwrap().line).collect();
    let kept: Vec<String> =
        (1..).zip(policies).filter(|(line, _)| !wrong.contains(line)).map(|(_, text)| text.clone()).collect();
    (PolicySet::parse(&[("p.cedar", &file(&kept))], false).unwrap(), kept)
}

/// Ids of the policies of one effect that apply, and of those that fail, by one plain Cedar evaluation.
fn plain(set: &PolicySet, effect: Effect, question: &Question) -> (Vec<PolicyId>, Vec<PolicyId>) {
    let all = set.policies().iter().filter(|it| it.policy.effect() == effect);
    let cedar = CedarSet::from_policies(all.map(|it| it.policy.clone())).unwrap();
    let asked = Asked::of(question, Needs::ALL).unwrap();
    let response = Authorizer::new().is_authorized(&asked.request, &cedar, &asked.entities);
    let ids = |names: Vec<String>| {
        let mut numbers: Vec<usize> = names.iter().map(|name| name.parse().unwrap()).collect();
        numbers.sort_unstable();
        numbers.into_iter().map(|number| set.policies().get(number).unwrap().id.clone()).collect()
    };
    let applying = response.diagnostics().reason().map(ToString::to_string).collect();
    let failing = response
        .diagnostics()
        .errors()
        .map(|cedar_policy::AuthorizationError::PolicyEvaluationError(error)| error.policy_id().to_string())
        .collect();
    (ids(applying), ids(failing))
}

fn lift<'s>(set: &'s PolicySet, id: &PolicyId) -> &'s Compiled {
    set.policies().iter().find(|policy| policy.id == *id).unwrap()
}

/// Checks a decision against plain Cedar.
fn agrees(set: &PolicySet, question: &Question) {
    let (permits, failing_permits) = plain(set, Effect::Permit, question);
    let (forbids, failing_forbids) = plain(set, Effect::Forbid, question);
    let failing: Vec<_> = failing_permits.into_iter().chain(failing_forbids).collect();
    match set.applying(question) {
        Ok(found) => {
            let found: BTreeSet<_> = found.into_iter().map(|policy| policy.id.clone()).collect();
            assert_eq!(found, permits.iter().chain(&forbids).cloned().collect());
            assert!(failing.is_empty());
        }
        Err((policy, _)) => assert!(failing.contains(policy.unwrap())),
    }
    let (liftable, last): (Vec<_>, Vec<_>) = forbids.into_iter().partition(|id| lift(set, id).lift.is_some());
    match set.decide(question) {
        Decision::Deny { policies, reason: DenyReason::Failed(_) } => {
            assert_eq!(policies.len(), 1);
            assert!(policies.iter().all(|id| failing.contains(id)));
        }
        Decision::Deny { policies, reason: DenyReason::NothingPermits } => {
            assert!(policies.is_empty() && permits.is_empty() && failing.is_empty());
        }
        Decision::Deny { policies, reason } => {
            assert_eq!((policies, reason), (last, DenyReason::Forbidden));
            assert!(!permits.is_empty() && failing.is_empty());
        }
        Decision::Allow { policies } => {
            assert_eq!(policies, permits);
            assert!(liftable.is_empty() && last.is_empty() && failing.is_empty());
        }
        Decision::AllowIf { policies, conditions } => {
            assert_eq!(policies, permits);
            assert!(last.is_empty() && failing.is_empty());
            assert_eq!(conditions.into_iter().map(|it| it.policy).collect::<Vec<_>>(), liftable);
        }
    }
}

/// How wide a decision is: 0 denied, 1 on conditions, 2 allowed; and the lifts asked for.
fn width(decision: &Decision) -> (u8, BTreeSet<Condition>) {
    match decision {
        Decision::Deny { .. } => (0, BTreeSet::new()),
        Decision::AllowIf { conditions, .. } => (1, conditions.iter().cloned().collect()),
        Decision::Allow { .. } => (2, BTreeSet::new()),
    }
}

proptest! {
    #[test]
    fn index_and_guard_change_no_answer(
        policies in policies(),
        questions in prop::collection::vec(question(), 40),
    ) {
        let (set, _) = set(&policies);
        for question in &questions {
            agrees(&set, question);
        }
    }

    #[test]
    fn a_permit_for_somebody_else_changes_nothing(
        policies in policies(),
        other in select(&["principal == Service::\"stranger\"", "principal == Person::\"stranger\"",
            "principal in Group::\"strangers\"", "principal in Role::\"strangers\""][..]),
        questions in prop::collection::vec(question(), 40),
    ) {
        let (before, mut kept) = set(&policies);
        kept.push(format!("permit ({other}, action, resource);"));
        let (after, kept_after) = set(&kept);
        prop_assert_eq!(kept.len(), kept_after.len());
        for question in &questions {
            prop_assert_eq!(before.decide(question), after.decide(question));
        }
    }

    #[test]
    fn a_forbid_never_widens(
        policies in policies(),
        forbid in policy("forbid"),
        questions in prop::collection::vec(question(), 40),
    ) {
        let (before, mut kept) = set(&policies);
        kept.push(forbid);
        let (after, _) = set(&kept);
        for question in &questions {
            let (wide, asked) = width(&before.decide(question));
            let (wide_after, asked_after) = width(&after.decide(question));
            prop_assert!(wide_after <= wide);
            prop_assert!(wide_after == 0 || asked_after.is_superset(&asked));
        }
    }

    #[test]
    fn no_policies_deny_everything(question in question()) {
        let none = PolicySet::parse(&[], false).unwrap();
        prop_assert_eq!(
            none.decide(&question),
            Decision::Deny { policies: vec![], reason: DenyReason::NothingPermits }
        );
    }

    #[test]
    fn no_text_panics(text in "[@a-z(){}\"\\\\/;,= \n\u{e9}]{0,200}") {
        drop(PolicySet::parse(&[("p.cedar", &text)], false));
    }
}

#[test]
fn the_acts_are_the_schema() {
    let ours: BTreeSet<String> = Act::ALL.iter().map(|act| act.to_string()).collect();
    let theirs: BTreeSet<String> =
        schema().actions().map(|action| action.id().unescaped().to_owned()).collect();
    assert_eq!(ours, theirs);
    let facts = KeyFacts {
        algorithm: SignatureAlgorithm::Ed25519,
        purpose: String::new(),
        backend: String::new(),
        is_ledger_key: false,
    };
    let whats = [
        What::Key(Arc::new(Key::new("k".parse().unwrap(), facts))),
        What::Stream("s".parse().unwrap()),
        What::Appliance,
    ];
    let whos = [
        Who::Service { name: "a".parse().unwrap(), groups: vec![] },
        Who::Person { name: "a".parse().unwrap(), roles: vec![] },
    ];
    for (act, who, what) in Act::ALL.iter().flat_map(|act| {
        whos.iter().flat_map({
            let whats = &whats;
            move |who| whats.iter().map(move |what| (*act, who, what))
        })
    }) {
        let circumstances = Circumstances {
            moment: Moment::from_unix_seconds(0),
            environment: "test".to_owned(),
            source: Some([127, 0, 0, 1].into()),
            purpose: Some("p".to_owned()),
            dialect: Some("d".to_owned()),
            algorithm: Some("a".to_owned()),
            stream: Some("s".to_owned()),
        };
        let question = Question { who: who.clone(), act, what: what.clone(), circumstances };
        let asked = Asked::of(&question, Needs::ALL).unwrap();
        let request = cedar_policy::Request::new(
            asked.request.principal().unwrap().clone(),
            asked.request.action().unwrap().clone(),
            asked.request.resource().unwrap().clone(),
            asked.request.context().unwrap().clone(),
            Some(schema()),
        );
        assert_eq!(question.fits(), request.is_ok(), "{question}");
        let entities = cedar_policy::Entities::from_entities(asked.entities.iter().cloned(), Some(schema()));
        assert!(entities.is_ok(), "{question}");
    }
}
