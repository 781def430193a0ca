//! The default roles, act by act.

use chancery_policy::{Act, Decision, PolicySet, What};

use crate::{key, person, question, service};

/// What a role may do, to anything.
fn rights(set: &PolicySet, role: &str) -> Vec<&'static str> {
    let whats = [What::Appliance, key("k", "orders"), What::Stream("s".parse().unwrap())];
    let may = |act: &&Act| {
        whats.iter().any(|what| {
            let decision = set.decide(&question(person("p", &[role]), **act, what.clone()));
            !matches!(decision, Decision::Deny { .. })
        })
    };
    Act::ALL.iter().filter(may).map(|act| act.as_str()).collect()
}

#[test]
fn each_role_may_what_it_is_for() {
    let set = PolicySet::parse(&[], true).unwrap();
    let all: Vec<&str> = Act::ALL.iter().map(|act| act.as_str()).skip(7).collect();
    assert_eq!(rights(&set, "superadmin"), all);
    assert_eq!(
        rights(&set, "security-engineer"),
        [
            "halt",
            "rotate-key",
            "retire-key",
            "compromise-key",
            "read-audit",
            "read-status",
            "reload-policy",
            "repair-archive",
            "place-hold",
            "release-hold"
        ]
    );
    assert_eq!(rights(&set, "operator"), ["halt", "read-audit", "read-status"]);
    assert_eq!(rights(&set, "approver"), ["approve", "reject", "read-status"]);
    assert_eq!(rights(&set, "auditor"), ["read-audit", "read-status"]);
    assert_eq!(rights(&set, "nobody"), Vec::<&str>::new());
}

#[test]
fn resuming_needs_a_quorum_and_roles_are_nothing_to_services() {
    let set = PolicySet::parse(&[], true).unwrap();
    for what in [What::Appliance, key("k", "orders")] {
        let decision = set.decide(&question(person("root", &["superadmin"]), Act::Resume, what));
        assert!(matches!(decision, Decision::AllowIf { .. }));
    }
    let decision = set.decide(&question(service("superadmin", &["superadmin"]), Act::Sign, key("k", "")));
    assert!(matches!(decision, Decision::Deny { .. }));
}
