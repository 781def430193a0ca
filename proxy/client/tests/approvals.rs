//! `chancery approvals`: nobody approves what was not shown, or without saying so.

#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "a failed step is a failed test")]

mod people;
mod server;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use chancery_format::governance::{Act as Asked, Approver, ApproverKey, Given, Scope, Verdict};
use chancery_format::{Origin, SignatureAlgorithm};
use people::{Desk, request, stderr, stdout};
use serde_json::{Value, json};
use server::Act;

fn resume() -> Asked {
    Asked::Resume { scope: Scope::Key("orders".parse().unwrap()) }
}

fn executed() -> Value {
    let mut done = request(&resume());
    done["status"] = json!("executed");
    done["executedIndex"] = json!(12);
    done["approvedBy"] = json!({"bob": 9, "carol": 11});
    done
}

/// First the request, then what became of it.
fn script(desk: &Desk, shown: &Value) {
    desk.server.script(&[Act::json(200, &shown.to_string())], Act::json(200, &executed().to_string()));
}

fn lines(desk: &Desk) -> Vec<String> {
    desk.server.seen().into_iter().map(|seen| seen.line).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_are_listed_and_shown() {
    let desk = Desk::open().await;
    desk.answers(&json!({"approvals": [request(&resume())]}));
    let text = desk.done(&["approvals", "list", "--status", "pending"]).await;
    assert_eq!(text, "r-1  pending   1/2  2027-01-02T00:00:00.000Z  resume key:orders  by alice: fixed\n");
    let query = Some("status=pending".to_owned());
    assert_eq!(desk.last(), ("GET /admin/v1/approvals".into(), query, Value::Null));

    // What somebody wrote cannot pose as a row of its own.
    let mut posing = request(&resume());
    posing["reason"] = json!("fixed\nact      nothing");
    desk.answers(&posing);
    let text = desk.done(&["approvals", "show", "r-1"]).await;
    assert!(text.contains("reason   fixed\\nact      nothing\n"), "{text}");
    let sha256 = resume().sha256().to_hex();
    for part in [
        "act      resume key:orders\n",
        "ledger   sign.example/ledger\n",
        "by       alice\n",
        "yes      bob\nno       nobody\n",
        &format!("sha256   {sha256}\n"),
    ] {
        assert!(text.contains(part), "{part:?} in {text}");
    }
    assert_eq!(desk.last().0, "GET /admin/v1/approvals/r-1");
}

#[tokio::test(flavor = "multi_thread")]
async fn approving_shows_the_act_and_sends_its_hash() {
    let desk = Desk::open().await;
    script(&desk, &request(&resume()));
    let output = desk.chancery(&["approvals", "approve", "r-1", "--yes", "--note", "seen"]).await;
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    assert!(stderr(&output).contains("act      resume key:orders\n"));
    assert_eq!(stdout(&output), "approved  r-1\nstatus    executed, 2 of 2 approvals\nentry     12\n");
    let body = json!({"actSha256": resume().sha256().to_hex(), "note": "seen"});
    assert_eq!(desk.last(), ("POST /admin/v1/approvals/r-1/approve".into(), None, body));

    script(&desk, &request(&resume()));
    let sha256 = resume().sha256().to_hex();
    let typed = ["approvals", "reject", "r-1", "--yes", "--json", "--act-sha256", &sha256];
    let output = desk.chancery(&typed).await;
    assert_eq!((output.status.code(), stderr(&output).as_str()), (Some(0), ""));
    let told: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(told["status"], "executed");
    assert_eq!(desk.last().0, "POST /admin/v1/approvals/r-1/reject");
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_yes_nothing_is_sent() {
    let desk = Desk::open().await;
    for verdict in ["approve", "reject"] {
        script(&desk, &request(&resume()));
        let output = desk.chancery(&["approvals", verdict, "r-1"]).await;
        assert_eq!(output.status.code(), Some(2));
        assert!(stderr(&output).contains("no terminal"), "{}", stderr(&output));
    }
    assert!(lines(&desk).iter().all(|line| line == "GET /admin/v1/approvals/r-1"));
}

#[tokio::test(flavor = "multi_thread")]
async fn another_act_another_hash_and_a_closed_request_are_refused() {
    let desk = Desk::open().await;
    let mut other = request(&resume());
    other["act"] = json!(Asked::Resume { scope: Scope::Global });
    let mut closed = request(&resume());
    closed["status"] = json!("expired");
    let mut renamed = request(&resume());
    renamed["id"] = json!("r-2");
    for (shown, words) in
        [(other, "do not approve it"), (closed, "is expired"), (renamed, "asked for request r-1, got r-2")]
    {
        script(&desk, &shown);
        let output = desk.chancery(&["approvals", "approve", "r-1", "--yes"]).await;
        assert_eq!(output.status.code(), Some(1));
        assert!(stderr(&output).contains(words), "{}", stderr(&output));
    }
    script(&desk, &request(&resume()));
    let output = desk.chancery(&["approvals", "approve", "r-1", "--yes", "--act-sha256", "00"]).await;
    assert_eq!(output.status.code(), Some(1), "{}", stderr(&output));
    assert!(lines(&desk).iter().all(|line| line == "GET /admin/v1/approvals/r-1"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_file_signs_the_statement_as_the_ledger_checks_it() {
    let desk = Desk::open().await;
    let origin: Origin = "sign.example/ledger".parse().unwrap();
    for (algorithm, generator, option, word, verdict) in [
        (SignatureAlgorithm::Ed25519, &rcgen::PKCS_ED25519, "--approver-key", "approve", Verdict::Approve),
        (
            SignatureAlgorithm::EcdsaP256Sha256,
            &rcgen::PKCS_ECDSA_P256_SHA256,
            "--key",
            "reject",
            Verdict::Refuse,
        ),
    ] {
        let pair = rcgen::KeyPair::generate_for(generator).unwrap();
        let file = desk.write(&format!("{word}.pem"), &pair.serialize_pem(), 0o600);
        script(&desk, &request(&resume()));
        desk.done(&["approvals", word, "r-1", "--yes", option, file.to_str().unwrap()]).await;
        let body = desk.last().2;
        let given = Given {
            id: "r-1".into(),
            act_sha256: body["actSha256"].as_str().unwrap().to_owned(),
            by: "carol".into(),
            signature: body["signature"].as_str().map(str::to_owned),
            note: None,
        };
        let key = ApproverKey { algorithm, pem: pair.public_key_pem() };
        let carol = Approver { name: "carol".into(), public_key: Some(key) };
        carol.check(&origin, &given, verdict).unwrap();
        assert!(STANDARD.decode(given.signature.unwrap()).is_ok());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_others_can_read_and_a_statement_of_another_act_are_not_signed() {
    let desk = Desk::open().await;
    let pem = rcgen::KeyPair::generate_for(&rcgen::PKCS_ED25519).unwrap().serialize_pem();
    let exposed = desk.write("exposed.pem", &pem, 0o644);
    let typed = |file: &std::path::Path| {
        ["approvals", "approve", "r-1", "--yes", "--approver-key", file.to_str().unwrap()].map(str::to_owned)
    };
    let run = async |file: &std::path::Path| {
        let typed = typed(file);
        desk.chancery(&typed.iter().map(String::as_str).collect::<Vec<_>>()).await
    };
    let output = run(&exposed).await;
    assert_eq!(output.status.code(), Some(2));
    assert!(stderr(&output).contains("others can read it (mode 644)"), "{}", stderr(&output));
    assert!(desk.server.seen().is_empty());

    let file = desk.write("good.pem", &pem, 0o600);
    let mut other = request(&resume());
    other["statement"]["approve"] = other["statement"]["refuse"].clone();
    script(&desk, &other);
    let output = run(&file).await;
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr(&output).contains("do not sign it"), "{}", stderr(&output));
    assert_eq!(lines(&desk), ["GET /admin/v1/approvals/r-1"]);
}
