//! Which reason wins, and what a person is told about it.

use chancery_policy::{Act, Decision, DenyReason, Lift, PolicyId, Unreachable, What};

use crate::{key, question, service, set};

const PERMIT: &str = "@id(\"yes\") permit (principal, action, resource);";
const FINAL: &str = "@id(\"no\") forbid (principal, action, resource);";
const HOOK: &str = "@id(\"hook\") @unless(\"hook\") @hook(\"risk\") @unreachable(\"allow\") forbid (principal, action, resource);";
const QUORUM: &str = "@id(\"quorum\") @unless(\"quorum\") @approvals(\"2\") @approvers(\"approver\") \
                      forbid (principal, action, resource);";
const FAILS: &str = "@id(\"fails\") permit (principal, action, resource) \
                     when { context.hour * 9223372036854775807 > 1 };";

fn decide(policies: &[&str]) -> Decision {
    set(&policies.concat()).decide(&question(service("a", &[]), Act::Sign, key("k", "orders")))
}

fn ids(names: &[&str]) -> Vec<PolicyId> {
    names.iter().map(|name| name.parse().unwrap()).collect()
}

#[test]
fn the_first_reason_wins() {
    let denied = |names: &[&str], reason| Decision::Deny { policies: ids(names), reason };
    assert_eq!(decide(&[]), denied(&[], DenyReason::NothingPermits));
    assert_eq!(decide(&[FINAL]), denied(&[], DenyReason::NothingPermits));
    assert_eq!(decide(&[PERMIT, FINAL, HOOK]), denied(&["no"], DenyReason::Forbidden));
    assert_eq!(decide(&[PERMIT]), Decision::Allow { policies: ids(&["yes"]) });
    for policies in [&[FAILS][..], &[PERMIT, FAILS], &[PERMIT, FINAL, FAILS]] {
        let Decision::Deny { policies, reason: DenyReason::Failed(_) } = decide(policies) else {
            panic!("a failing policy did not deny");
        };
        assert_eq!(policies, ids(&["fails"]));
    }
}

#[test]
fn every_liftable_forbid_is_a_condition() {
    let Decision::AllowIf { policies, conditions } = decide(&[HOOK, PERMIT, QUORUM]) else {
        panic!("not conditional");
    };
    assert_eq!(policies, ids(&["yes"]));
    let hook = Lift::Hook { name: "risk".into(), when_unreachable: Unreachable::Allow };
    let quorum = Lift::Quorum { approvals: 2, approvers: "approver".into() };
    assert_eq!(conditions.iter().map(|it| it.lift.clone()).collect::<Vec<_>>(), [hook, quorum]);
}

#[test]
fn an_act_that_does_not_exist_is_denied_whatever_is_permitted() {
    for (act, what) in [(Act::Halt, What::Appliance), (Act::Read, key("k", "")), (Act::Sign, What::Appliance)]
    {
        let decision = set(PERMIT).decide(&question(service("a", &[]), act, what));
        assert_eq!(decision, Decision::Deny { policies: vec![], reason: DenyReason::NoSuchAct });
    }
}

#[test]
fn names_are_compared_never_interpreted() {
    let set = set("@id(\"a\") permit (principal == Service::\"a*\", action, resource);");
    let allowed = |name: &str| {
        matches!(set.decide(&question(service(name, &[]), Act::Sign, key("k", ""))), Decision::Allow { .. })
    };
    assert!(allowed("a*"));
    assert!(!allowed("ab"));
    assert!(!allowed("A*"));
}

#[test]
fn an_explanation_names_what_decided_and_what_nearly_did() {
    let set = set(
        "@id(\"payments\") @description(\"Payments by day.\")\npermit (principal in Group::\"payments\", action == Action::\"sign\", resource)\n\
         when { context.hour < 8 };\n@id(\"others\") permit (principal in Group::\"others\", action, resource);\n",
    );
    let mut asked = question(service("checkout", &["payments"]), Act::Sign, key("sepa", "payments"));
    let told = set.explain(&asked);
    assert_eq!(told.outcome, set.decide(&asked));
    assert!(told.decided.is_empty());
    assert_eq!(told.nearly.len(), 1);
    assert_eq!((told.nearly[0].id.as_str(), told.nearly[0].line), ("payments", 1));
    let text = told.to_string();
    for part in [
        "Service checkout (Group payments) to sign Key sepa: denied: no policy permits it",
        "permit payments (p.cedar:1)",
        "@description Payments by day.",
        "| when { context.hour < 8 };",
    ] {
        assert!(text.contains(part), "{part} not in {text}");
    }
    asked.circumstances.moment = chancery_policy::Moment::new(7, 1).unwrap();
    let told = set.explain(&asked);
    assert_eq!((told.decided.len(), told.nearly.len()), (1, 0));
    let json = serde_json::to_value(&told).unwrap();
    assert_eq!(json["outcome"], serde_json::json!({"decision": "allow", "policies": ["payments"]}));
}
