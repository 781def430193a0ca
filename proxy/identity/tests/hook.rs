//! A policy service on loopback: its answers, and every way of not giving one.

#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "a failed step is a failed test")]

mod server;
mod tokens;

use std::sync::Arc;
use std::time::{Duration, Instant};

use chancery_identity::{HookConfig, HookDialect, HookFailure, HookQuestion, HookVerdict, PolicyHook};
use serde_json::{Value, json};
use server::{Act, Server};

fn question() -> HookQuestion {
    HookQuestion {
        action: "signing.sign".into(),
        actor: json!({"id": "orders", "roles": ["operator"]}),
        resource: json!({"kid": "orders"}),
        context: json!({"purpose": "invoice"}),
        request_id: "req-7".into(),
    }
}

fn hook(url: &str, dialect: HookDialect, change: impl FnOnce(&mut HookConfig)) -> PolicyHook {
    let mut config = HookConfig::new("policy", url, dialect);
    change(&mut config);
    PolicyHook::new(config).unwrap()
}

async fn served(dialect: HookDialect, answer: &Value) -> (Server, PolicyHook) {
    let server = Server::start().await;
    server.document("/check", answer);
    let hook = hook(&format!("{}/check", server.url()), dialect, |_| ());
    (server, hook)
}

#[tokio::test]
async fn sentinelnet_is_asked_in_its_own_words_and_believed() {
    let answer = json!({
        "decision": "allow", "allowed": true, "policyId": "p-1", "policyVersion": 3, "ruleId": "r-2",
        "rationale": "office hours", "evidence_refs": [], "ts": "2026-01-01T00:00:00Z",
    });
    let (server, hook) = served(HookDialect::Sentinelnet, &answer).await;
    let HookVerdict::Allow(details) = hook.ask(&question()).await.unwrap() else { unreachable!() };
    assert_eq!(details.policy_id.as_deref(), Some("p-1"));
    assert_eq!(details.policy_version.as_deref(), Some("3"));
    assert_eq!(details.rule_id.as_deref(), Some("r-2"));
    assert_eq!(details.rationale.as_deref(), Some("office hours"));
    let asked = server.last();
    assert!(
        asked.starts_with("POST /check HTTP/1.1\r\n")
            && asked.contains("x-sentinel-roles: kernel-service\r\n")
    );
    let body: Value = serde_json::from_str(asked.split_once("\r\n\r\n").unwrap().1).unwrap();
    let expected = json!({
        "action": "signing.sign", "actor": {"id": "orders", "roles": ["operator"]},
        "resource": {"kid": "orders"}, "context": {"purpose": "invoice"}, "requestId": "req-7",
    });
    assert_eq!(body, expected);

    for (decision, multisig) in [("deny", false), ("quarantine", false), ("requires_multisig", true)] {
        server.document("/check", &json!({"decision": decision, "allowed": false}));
        let verdict = hook.ask(&question()).await.unwrap();
        assert!(matches!(
            (verdict, multisig),
            (HookVerdict::Deny(_), false) | (HookVerdict::RequiresMultisig(_), true)
        ));
    }
    let denied = json!({"error": "policy.denied", "decision": {"decision": "allow", "policyId": "p-9"}});
    server.act(Act::Body(403, "application/json", denied.to_string()));
    let HookVerdict::Deny(details) = hook.ask(&question()).await.unwrap() else { unreachable!() };
    assert_eq!(details.policy_id.as_deref(), Some("p-9"));
    // All over one connection.
    assert_eq!(server.connections(), 1);
}

#[tokio::test]
async fn opa_is_asked_with_input_and_answers_with_result() {
    let (server, hook) =
        served(HookDialect::Opa, &json!({"result": {"allow": true, "policy_id": "p"}})).await;
    assert!(matches!(hook.ask(&question()).await, Ok(HookVerdict::Allow(_))));
    let asked = server.last();
    let body: Value = serde_json::from_str(asked.split_once("\r\n\r\n").unwrap().1).unwrap();
    assert_eq!((&body["input"]["requestId"], asked.contains("x-sentinel")), (&json!("req-7"), false));
    server.document("/check", &json!({}));
    assert!(matches!(hook.ask(&question()).await, Ok(HookVerdict::Deny(_))));
    server.document("/check", &json!({"result": {"allow": true, "requires_multisig": true}}));
    assert!(matches!(hook.ask(&question()).await, Ok(HookVerdict::RequiresMultisig(_))));
}

#[tokio::test]
async fn what_is_no_answer_is_a_failure() {
    let (server, hook) = served(HookDialect::Sentinelnet, &json!({"decision": "allow"})).await;
    let json = "application/json";
    for (act, failure) in [
        (Act::Status(500), HookFailure::Status(500)),
        (Act::Status(403), HookFailure::Status(403)),
        (Act::Status(204), HookFailure::Status(204)),
        (Act::Redirect("/elsewhere".into()), HookFailure::Status(302)),
        (Act::Text, HookFailure::Garbage),
        (Act::Body(200, json, "{".into()), HookFailure::Garbage),
        (Act::Body(200, json, r#"{"decision":"maybe"}"#.into()), HookFailure::Garbage),
        (Act::Body(200, json, r#"{"decision":"deny","decision":"allow"}"#.into()), HookFailure::Garbage),
        (
            Act::Body(200, json, format!(r#"{{"decision":"allow","x":"{}"}}"#, "x".repeat(1024 * 1024))),
            HookFailure::Garbage,
        ),
        (Act::Vanish, HookFailure::Unreachable),
    ] {
        let told = format!("{act:?}").chars().take(80).collect::<String>();
        server.act(act);
        assert_eq!(hook.ask(&question()).await, Err(failure), "{told}");
    }
    server.act(Act::Serve);
    assert!(matches!(hook.ask(&question()).await, Ok(HookVerdict::Allow(_))));

    let gone = self::hook(&format!("http://{}/", server::nobody()), HookDialect::Opa, |_| ());
    assert_eq!(gone.ask(&question()).await, Err(HookFailure::Unreachable));
}

#[tokio::test]
async fn neither_silence_nor_a_drip_outlasts_the_deadline() {
    let (server, hook) = served(HookDialect::Sentinelnet, &json!({"decision": "allow"})).await;
    for act in [Act::Hang, Act::Drip(Duration::from_millis(20))] {
        server.act(act.clone());
        let started = Instant::now();
        assert_eq!(hook.ask(&question()).await, Err(HookFailure::Timeout), "{act:?}");
        let took = started.elapsed();
        assert!(took >= Duration::from_millis(250) && took < Duration::from_secs(2), "{act:?}: {took:?}");
    }
}

#[tokio::test]
async fn one_question_too_many_is_refused_and_not_queued() {
    let (server, _) = served(HookDialect::Sentinelnet, &json!({"decision": "allow"})).await;
    let hook = Arc::new(hook(&format!("{}/check", server.url()), HookDialect::Sentinelnet, |config| {
        config.max_in_flight = 2;
        config.timeout = Duration::from_secs(2);
    }));
    server.act(Act::Hang);
    let waiting: Vec<_> = (0..2)
        .map(|_| {
            let hook = Arc::clone(&hook);
            tokio::spawn(async move { hook.ask(&question()).await })
        })
        .collect();
    while server.count("/check") < 2 {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    assert_eq!(hook.ask(&question()).await, Err(HookFailure::Busy));
    waiting.iter().for_each(tokio::task::JoinHandle::abort);
    for task in waiting {
        assert!(task.await.unwrap_err().is_cancelled());
    }
    // Those who went away left their places.
    server.act(Act::Serve);
    assert!(matches!(hook.ask(&question()).await, Ok(HookVerdict::Allow(_))));
}
