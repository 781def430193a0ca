//! `chancery` for people: what each command asks the daemon, and what it prints.

#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "a failed step is a failed test")]

mod people;
mod server;

use chancery_format::governance::{Act as Asked, Scope};
use people::{Desk, request, stderr, stdout};
use serde_json::{Value, json};
use server::Act;

fn resume() -> Asked {
    Asked::Resume { scope: Scope::Global }
}

fn rotate() -> Asked {
    Asked::Rotate {
        kid: "orders".parse().unwrap(),
        from: "orders-v1".parse().unwrap(),
        to: "orders-v2".parse().unwrap(),
        backend: "hsm".into(),
        label: "orders-2027".into(),
        overlap_hours: 72,
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn halt_stops_a_scope_and_says_how_to_go_on() {
    let desk = Desk::open().await;
    desk.answers(&json!({"state": "halted", "scope": "key:orders", "index": 17}));
    let text = desk.done(&["halt", "--scope", "key:orders", "--reason", "laptop stolen"]).await;
    assert_eq!(
        text,
        "halted  key:orders\nentry   17\nresume  chancery resume --scope key:orders --reason TEXT\n"
    );
    let body = json!({"scope": "key:orders", "reason": "laptop stolen", "dryRun": false});
    assert_eq!(desk.last(), ("POST /admin/v1/halt".into(), None, body));

    desk.answers(&json!({"dryRun": true, "allowed": true, "would": {"halt": "global"}}));
    let text = desk.done(&["halt", "--reason", "drill", "--dry-run"]).await;
    assert_eq!(text, "allowed: {\"halt\":\"global\"}\nnothing was done\n");
    assert_eq!(desk.last().2, json!({"scope": "global", "reason": "drill", "dryRun": true}));
}

#[tokio::test(flavor = "multi_thread")]
async fn resume_names_the_request_and_what_approvers_must_do() {
    let desk = Desk::open().await;
    desk.server.script(&[], Act::json(202, &request(&resume()).to_string()));
    let text = desk.done(&["resume", "--reason", "found"]).await;
    for part in [
        "request  r-1\n",
        "act      resume global\n",
        "status   pending, 1 of 2 approvals\n",
        "chancery approvals approve r-1\n",
    ] {
        assert!(text.contains(part), "{part:?} in {text}");
    }
    assert_eq!(desk.last().0, "POST /admin/v1/resume");

    desk.answers(&json!({"status": "executed", "act": resume()}));
    assert_eq!(desk.done(&["resume", "--reason", "found"]).await, "done  resume global\n");
    desk.answers(&json!({"dryRun": true, "allowed": true, "would": resume()}));
    let text = desk.done(&["resume", "--reason", "found", "--dry-run"]).await;
    assert_eq!(text, "allowed: resume global\nnothing was done\n");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_could_be_done_twice_is_sent_once() {
    let desk = Desk::open().await;
    desk.server.script(&[], Act::Vanish);
    let output = desk.chancery(&["resume", "--reason", "found"]).await;
    assert_eq!((output.status.code(), desk.server.seen().len()), (Some(4), 1), "{}", stderr(&output));
    assert!(stderr(&output).contains("may have been carried out"));
    // Halting twice is halting once.
    desk.server.script(&[Act::Vanish], Act::json(200, r#"{"state":"halted","scope":"global","index":3}"#));
    desk.done(&["halt", "--reason", "drill"]).await;
    assert_eq!(desk.server.seen().len(), 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_login_nothing_is_sent() {
    let desk = Desk::without_login().await;
    for command in [&["whoami"][..], &["halt", "--reason", "r"], &["approvals", "list"]] {
        let output = desk.chancery(command).await;
        assert_eq!(output.status.code(), Some(1));
        assert!(stderr(&output).contains("sign in first: chancery login"), "{}", stderr(&output));
    }
    desk.write("token.json", "{}", 0o644);
    let output = desk.chancery(&["whoami"]).await;
    assert_eq!(output.status.code(), Some(2), "{}", stderr(&output));
    assert!(desk.server.seen().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refusal_says_which_role_is_missing() {
    let desk = Desk::open().await;
    let detail = "no policy allows reload-policy to alice; it takes one of the roles security-engineer";
    let problem =
        json!({"status": 403, "code": "role-missing", "title": "t", "detail": detail, "requestId": "r9"});
    desk.server.script(&[], Act::json(403, &problem.to_string()));
    let output = desk.chancery(&["policy", "reload"]).await;
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(stderr(&output), format!("chancery: 403 role-missing: {detail} (request r9)\n"));
    let output = desk.chancery(&["policy", "reload", "--json"]).await;
    let told: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((output.status.code(), &told["error"]["code"]), (Some(1), &json!("role-missing")));

    desk.server.script(&[], Act::problem(503, "provider-unavailable", None));
    assert_eq!(desk.chancery(&["whoami"]).await.status.code(), Some(4));
}

#[tokio::test(flavor = "multi_thread")]
async fn wrong_words_are_usage() {
    let desk = Desk::open().await;
    for wrong in [
        &["halt"][..],
        &["halt", "--scope", "everything", "--reason", "r"],
        &["approvals", "list", "--status", "open"],
        &["keys", "rotate", "orders", "--reason", "r"],
        &["keys", "rotate", "orders", "--to", "b", "--reason", "r", "--wait", "--dry-run"],
        &["keys", "compromise", "orders", "--since", "yesterday", "--reason", "r"],
        &[
            "keys",
            "compromise",
            "orders",
            "--since-index",
            "1",
            "--since",
            "2027-01-01T00:00:00Z",
            "--reason",
            "r",
        ],
        &["whoami", "--admin-url", "http://127.0.0.1:1"],
        &["policy", "check", "/nonexistent"],
        &["policy", "explain", "--service", "a", "--act", "sign"],
        &["policy", "explain", "--server", "--service", "a", "--person", "b", "--act", "sign"],
    ] {
        let output = desk.chancery(wrong).await;
        assert_eq!(output.status.code(), Some(2), "{wrong:?}: {}", stderr(&output));
    }
    assert!(desk.server.seen().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn whoami_status_and_keys_are_told_in_words() {
    let desk = Desk::open().await;
    desk.answers(&json!({"name": "alice", "issuer": "https://login.example", "subject": "7",
        "roles": ["operator", "approver"], "expires": 1_800_000_000}));
    let text = desk.done(&["whoami"]).await;
    assert!(text.starts_with("name     alice\nroles    operator, approver\n"), "{text}");
    assert!(text.ends_with("until    2027-01-15T08:00:00.000Z\n"), "{text}");
    assert_eq!(desk.last().0, "GET /admin/v1/whoami");

    desk.answers(&json!({
        "halted": [{"scope": "key:orders", "since": "t", "index": 3, "source": "admin", "by": "bob", "reason": "x\u{1b}[2J"}],
        "rotations": [{"id": "rotation-r-1", "kid": "orders", "from": "orders-v1", "to": "orders-v2", "step": "applied",
            "indices": [1], "retireAt": "2027-02-01T00:00:00.000Z"}],
        "pendingApprovals": 1, "roster": {"approvalsRequired": 2, "approvers": ["bob", "carol"]},
        "compromised": {"orders-v0": 5}, "policy": {"sha256": "abcd"}, "entries": 40,
    }));
    let text = desk.done(&["admin", "status"]).await;
    for part in [
        "HALTED     key:orders since t by bob: x\\u{1b}[2J\n",
        "rotation   orders from orders-v1 to orders-v2: applied, the old key retires 2027-02-01T00:00:00.000Z\n",
        "COMPROMISED orders-v0 from entry 5 on\n",
        "approvals  1 pending\napprovers  2 of bob, carol\npolicy     abcd\nentries    40\n",
    ] {
        assert!(text.contains(part), "{part:?} in {text}");
    }
    assert_eq!(desk.last().0, "GET /admin/v1/status");

    desk.answers(&json!({"version": 3, "signers": [{"kid": "orders", "signer_kid": "orders-v1",
        "algorithm": "ed25519", "state": "active", "purpose": "p"}]}));
    let text = desk.done(&["admin", "keys"]).await;
    assert_eq!(
        text.split_whitespace().collect::<Vec<_>>(),
        ["orders", "orders-v1", "ed25519", "active", "p"]
    );
    assert_eq!(desk.last().0, "GET /admin/v1/keys");
}

#[tokio::test(flavor = "multi_thread")]
async fn rotate_asks_and_waits_until_the_new_key_answers() {
    let desk = Desk::open().await;
    let mut waiting = request(&rotate());
    waiting["approvedBy"] = json!({});
    let status = |step: Option<&str>| {
        let it = json!({"id": "rotation-r-1", "kid": "orders", "from": "orders-v1", "to": "orders-v2", "step": step,
            "indices": [], "retireAt": "2027-02-01T00:00:00.000Z"});
        let found = if step.is_some() { vec![it] } else { vec![] };
        Act::json(200, &json!({"rotations": found}).to_string())
    };
    let asked = Act::json(202, &waiting.to_string());
    let seen = Act::json(200, &waiting.to_string());
    desk.server.script(&[asked, status(None), seen, status(Some("tested"))], status(Some("applied")));
    let typed =
        ["keys", "rotate", "orders", "--to", "orders-v2", "--label", "orders-2027", "--reason", "yearly"];
    let output = desk.chancery(&[&typed[..], &["--emergency", "--wait"]].concat()).await;
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    assert!(stdout(&output).starts_with("rotated  orders\nto       orders-v2\n"), "{}", stdout(&output));
    assert!(
        stderr(&output).ends_with("\nwaiting for approval, 0 of 2\ntested\napplied\n"),
        "{}",
        stderr(&output)
    );
    let lines: Vec<_> = desk.server.seen().into_iter().map(|seen| seen.line).collect();
    assert_eq!(
        lines,
        [
            "POST /admin/v1/keys/orders/rotate",
            "GET /admin/v1/status",
            "GET /admin/v1/approvals/r-1",
            "GET /admin/v1/status",
            "GET /admin/v1/status"
        ]
    );
    let body: Value = serde_json::from_str(&desk.server.seen()[0].body).unwrap();
    let wanted = json!({"to": "orders-v2", "label": "orders-2027", "reason": "yearly", "emergency": true, "dryRun": false});
    assert_eq!(body, wanted);

    // Refused is the end of waiting, and so is the time given.
    let mut refused = request(&rotate());
    refused["status"] = json!("refused");
    let asked = Act::json(202, &waiting.to_string());
    desk.server.script(&[asked.clone(), status(None)], Act::json(200, &refused.to_string()));
    let output = desk.chancery(&[&typed[..], &["--wait"]].concat()).await;
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr(&output).ends_with("chancery: request r-1 is refused\n"), "{}", stderr(&output));
    desk.server.script(&[asked], status(Some("requested")));
    let output = desk.chancery(&[&typed[..], &["--wait", "--wait-seconds", "0"]].concat()).await;
    assert_eq!(output.status.code(), Some(4));
    assert!(stderr(&output).contains("still requested after 0 s"), "{}", stderr(&output));
}

#[tokio::test(flavor = "multi_thread")]
async fn retire_compromise_and_signatures() {
    let desk = Desk::open().await;
    desk.answers(&json!({"retired": "orders-v1"}));
    let text = desk.done(&["keys", "retire", "orders", "--signer-kid", "orders-v1", "--reason", "old"]).await;
    assert_eq!(text, "retired  orders-v1\n");
    let body = json!({"signer_kid": "orders-v1", "reason": "old", "dryRun": false});
    assert_eq!(desk.last(), ("POST /admin/v1/keys/orders/retire".into(), None, body));

    let signed = json!([{"index": 12, "ts": "2027-01-01T00:00:00.000Z", "principal": "billing",
        "digest": "ab", "digestAlgorithm": "sha256"}]);
    let mut lost = json!({"signer_kid": "orders-v1", "state": "compromised", "compromisedSince": 10,
        "suspectSignatures": 3, "signatures": signed, "emergency": request(&rotate())});
    desk.answers(&lost);
    let typed = [
        "keys",
        "compromise",
        "orders",
        "--since",
        "2027-01-01T00:00:00Z",
        "--emergency-to",
        "orders-v2",
        "--emergency-backend",
        "hsm",
        "--reason",
        "stolen",
    ];
    let text = desk.done(&typed).await;
    for part in [
        "compromised  orders-v1, from entry 10 on\nsuspect      3 signatures\n",
        "      12  2027-01-01T00:00:00.000Z  billing  sha256 ab\nand 2 more, with --from 13\n",
        "--signer-kid orders-v1 --from 10\n",
        "The next key:\nrequest  r-1\nact      rotate orders from orders-v1 to orders-v2\n",
    ] {
        assert!(text.contains(part), "{part:?} in {text}");
    }
    let body = json!({"since": "2027-01-01T00:00:00.000Z", "reason": "stolen", "dryRun": false,
        "emergency": {"to": "orders-v2", "backend": "hsm"}});
    assert_eq!(desk.last(), ("POST /admin/v1/keys/orders/compromise".into(), None, body));
    lost["emergency"] = json!({"error": "no such backend", "code": "invalid-field"});
    desk.answers(&lost);
    let text = desk.done(&typed).await;
    assert!(text.contains("THE NEXT KEY WAS NOT ASKED FOR: no such backend (invalid-field)"), "{text}");

    desk.answers(&json!({"signer_kid": "orders-v1", "from": 5, "count": 1, "signatures": signed}));
    let text = desk.done(&["keys", "signatures", "orders", "--signer-kid", "orders-v1", "--from", "5"]).await;
    assert!(text.starts_with("1 signatures of orders-v1 from entry 5 on\n      12  2027"), "{text}");
    let query = Some("from=5&signer_kid=orders-v1".to_owned());
    assert_eq!(desk.last(), ("GET /admin/v1/keys/orders/signatures".into(), query, Value::Null));
}

#[tokio::test(flavor = "multi_thread")]
async fn audit_reads_to_the_end_and_can_go_on() {
    let desk = Desk::open().await;
    let event = |seq: u64| {
        json!({"index": seq + 30, "seq": seq, "ts": "2027-01-01T00:00:00.000Z", "eventType": "governance.requested",
            "payload": {"act": resume(), "by": "alice", "signature": "AAAA"}})
    };
    let page = |events: Vec<Value>, next: Value| {
        Act::json(200, &json!({"events": events, "next": next}).to_string())
    };
    let pages = [page(vec![event(4), event(5)], json!(6)), page(vec![event(6)], json!(7))];
    desk.server.script(&pages, page(vec![], Value::Null));
    let text = desk.done(&["audit", "--from", "4"]).await;
    let wanted = "   4  2027-01-01T00:00:00.000Z  governance.requested  act=\"resume global\" by=\"alice\"";
    assert_eq!(text.lines().next(), Some(wanted));
    assert_eq!((text.lines().count(), desk.last().1.as_deref()), (3, Some("from=7")));

    desk.server.script(&pages, page(vec![], Value::Null));
    let all: Value = serde_json::from_str(&desk.done(&["audit", "--from", "4", "--json"]).await).unwrap();
    assert_eq!((all["events"].as_array().unwrap().len(), &all["next"]), (3, &json!(7)));

    // Following, an empty page is no end.
    let script = [pages[0].clone(), page(vec![], Value::Null), pages[1].clone()];
    desk.server.script(&script, Act::problem(403, "role-missing", None));
    let output = desk.chancery(&["audit", "--from", "4", "--follow", "--json"]).await;
    let text = stdout(&output);
    let seqs: Vec<_> =
        text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap()["seq"].clone()).collect();
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(seqs, [json!(4), json!(5), json!(6), Value::Null]);
}
