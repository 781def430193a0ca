//! `chancery policy`: offline on a folder, and at the daemon.

#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "a failed step is a failed test")]

mod people;
mod server;

use std::path::PathBuf;

use people::{Desk, stderr, stdout};
use serde_json::{Value, json};

const POLICY: &str = "@id(\"billing/sign\")\npermit (principal == Service::\"billing\", action == Action::\"sign\", resource is Key)\nwhen { context.hour >= 8 };\n";

fn folder(desk: &Desk, policy: &str, expect: &str) -> PathBuf {
    let folder = desk.server.file("policies");
    std::fs::create_dir_all(folder.join("cases")).unwrap();
    std::fs::write(folder.join("services.cedar"), policy).unwrap();
    let case = json!([{"name": "billing signs", "who": {"service": "billing"}, "act": "sign", "expect": expect,
        "key": {"name": "invoices", "algorithm": "ed25519", "purpose": "p", "backend": "hsm"}}]);
    std::fs::write(folder.join("cases/services.json"), case.to_string()).unwrap();
    folder
}

#[tokio::test(flavor = "multi_thread")]
async fn check_and_test_tell_what_is_wrong_and_where() {
    let desk = Desk::open().await;
    let dir = folder(&desk, POLICY, "allow").display().to_string();
    let text = desk.done(&["policy", "check", &dir]).await;
    assert!(text.contains(" policies are right\nsha256 "), "{text}");
    let text = desk.done(&["policy", "check", &dir, "--without-default-roles"]).await;
    assert!(text.starts_with("1 policies are right\n"), "{text}");
    let text = desk.done(&["policy", "test", &dir]).await;
    assert_eq!(text, "pass services.json: billing signs\n1 cases, 0 failed, 0 problems\n");

    folder(&desk, POLICY, "deny");
    let output = desk.chancery(&["policy", "test", &dir]).await;
    assert_eq!(output.status.code(), Some(1));
    assert!(
        stdout(&output).contains("FAIL services.json: billing signs\n     expected deny"),
        "{}",
        stdout(&output)
    );
    let output = desk.chancery(&["policy", "test", &dir, "--json"]).await;
    let told: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((output.status.code(), told.pointer("/cases/0/passed")), (Some(1), Some(&json!(false))));

    folder(&desk, &POLICY.replace("context.hour", "context.hours"), "allow");
    for command in ["check", "test"] {
        let output = desk.chancery(&["policy", command, &dir]).await;
        assert_eq!(output.status.code(), Some(1), "{}", stderr(&output));
        let (file, place) = ("services.cedar:", stdout(&output));
        assert!(
            place.starts_with(file) && place.split(':').nth(2).is_some_and(|it| it.parse::<u32>().is_ok()),
            "{place}"
        );
    }
    std::fs::write(desk.server.file("policies/services.cedar"), POLICY).unwrap();
    std::fs::write(desk.server.file("policies/cases/services.json"), "[\n{]").unwrap();
    let output = desk.chancery(&["policy", "test", &dir]).await;
    assert_eq!(output.status.code(), Some(1));
    assert!(stdout(&output).starts_with("services.json:2:2: "), "{}", stdout(&output));
    assert!(desk.server.seen().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn explain_answers_from_a_folder_and_from_the_daemon() {
    let desk = Desk::open().await;
    let dir = folder(&desk, POLICY, "allow").display().to_string();
    let who = ["--service", "billing", "--act", "sign", "--kid", "invoices", "--purpose", "invoices"];
    let here =
        ["policy", "explain", "--policies", &dir, "--algorithm", "ed25519", "--backend", "hsm", "--hour"];
    let text = desk.done(&[&here[..], &["9"], &who].concat()).await;
    assert!(text.starts_with("Service billing to sign Key invoices: allowed\ndecided by:\n"), "{text}");
    let text = desk.done(&[&here[..], &["7"], &who].concat()).await;
    assert!(text.contains("denied: no policy permits it\nin scope, but the condition is false:\n"), "{text}");
    let without = desk.chancery(&[&["policy", "explain", "--policies", &dir][..], &who].concat()).await;
    assert_eq!(without.status.code(), Some(2));
    assert!(stderr(&without).contains("give --algorithm"), "{}", stderr(&without));
    assert!(desk.server.seen().is_empty());

    desk.answers(&json!({
        "question": "Person alice (Role operator) to resume Appliance chancery",
        "outcome": {"decision": "allow-if", "policies": ["p"],
            "conditions": [{"policy": "roles/resume-needs-two", "lift": {"quorum": {"approvals": 2, "approvers": "approver"}}}]},
        "decided": [{"id": "p", "effect": "permit", "file": "a.cedar", "line": 3, "annotations": {}, "text": "permit (…);"}],
        "nearly": [], "nearlyLeftOff": 0,
    }));
    let typed = [
        "policy",
        "explain",
        "--server",
        "--person",
        "alice",
        "--role",
        "operator",
        "--role",
        "approver",
        "--act",
        "resume",
        "--source",
        "10.0.0.7",
        "--weekday",
        "7",
    ];
    let text = desk.done(&typed).await;
    assert!(text.contains("allow-if\n  if roles/resume-needs-two is lifted: "), "{text}");
    assert!(text.ends_with("decided by:\n  permit p (a.cedar:3)\n    | permit (…);\n"), "{text}");
    let body = json!({"person": "alice", "groups": [], "roles": ["operator", "approver"], "act": "resume",
        "source": "10.0.0.7", "weekday": 7});
    assert_eq!(desk.last(), ("POST /admin/v1/policy/explain".into(), None, body));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_policies_in_force_are_shown_and_reloaded() {
    let desk = Desk::open().await;
    desk.answers(&json!({"sha256": "ab", "policies": ["a/b", "c"], "grantsSha256": "cd"}));
    assert_eq!(desk.done(&["policy", "show"]).await, "sha256  ab\ngrants  cd\na/b\nc\n");
    assert_eq!(desk.last().0, "GET /admin/v1/policy");
    desk.answers(&json!({"sha256": "ab", "changed": true}));
    assert_eq!(desk.done(&["policy", "reload"]).await, "in force now: ab\n");
    assert_eq!(desk.last(), ("POST /admin/v1/policy/reload".into(), None, json!({"dryRun": false})));
}
