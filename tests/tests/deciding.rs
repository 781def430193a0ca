//! Policies over a running daemon: what they allow and forbid services, the policy service they ask, the people they
//! ask. Each story ends with the offline verifier.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a failed unwrap is the test's failure")]

use std::time::{Duration, Instant};

use chancery_format::AuditEvent;
use chancery_tests::rig::wire::{Ask, Reply, call};
use chancery_tests::rig::{Daemon, People, World, WorldOptions, evidence, wait_for};
use chancery_tests::servers::{Answer, PolicyServiceDouble};
use serde_json::{Value, json};

const FOUR: [&str; 4] = ["ann", "bob", "cyd", "eve"];

const POLICIES: &str = r#"
@id("payments-at-work")
forbid (principal, action == Action::"sign", resource == Key::"k1") when {
    context has purpose && context.purpose == "night"
};
@id("p256-asks")
@unless("hook")
@hook("sentinelnet")
forbid (principal, action == Action::"sign", resource == Key::"p256");
@id("p384-asks-softly")
@unless("hook")
@hook("sentinelnet")
@unreachable("allow")
forbid (principal, action == Action::"sign", resource == Key::"p384");
@id("rsa-needs-people")
@unless("quorum")
@approvals("2")
@approvers("approver")
forbid (principal, action == Action::"sign", resource == Key::"rsa");
"#;

struct Office {
    people: People,
    service: PolicyServiceDouble,
    world: World,
}

impl Office {
    fn new() -> Self {
        let (people, service) = (People::new(), PolicyServiceDouble::start());
        let tables = people.tables(2, &FOUR);
        let policy = format!(
            "\n[policy]\ndirectory = \"{{dir}}/policies\"\n\n[[policy.hooks]]\nname = \"sentinelnet\"\nurl = \"{}\"\n",
            service.url()
        );
        let options = WorldOptions { more: tables + &policy, ..WorldOptions::default() };
        let world = World::uninitialised(&options);
        std::fs::create_dir(world.path("policies")).unwrap();
        std::fs::write(world.path("policies/own.cedar"), POLICIES).unwrap();
        world.initialise();
        Self { people, service, world }
    }

    fn sign(&self, kid: &str, more: &Value) -> Reply {
        let mut body = json!({ "kid": kid, "digest": "7".repeat(64), "digestAlgorithm": "sha256" });
        body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        call(&self.world, Some(&self.world.orders), &Ask::post("/v1/sign", body.to_string())).unwrap()
    }

    fn leaves(&self) -> Vec<(String, Value)> {
        let leaves = evidence::leaves(&self.world.path("archive"), &self.world.registry());
        let read = |leaf: &Vec<u8>| {
            let event = AuditEvent::parse(leaf).unwrap();
            (event.event_type.to_owned(), serde_json::from_str(event.payload).unwrap())
        };
        leaves.iter().map(read).collect()
    }

    fn end(&self, daemon: Daemon) {
        assert!(daemon.stop().success());
        let archive = self.world.path("archive").display().to_string();
        let output = self.world.verify(&["ledger", &archive]);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
    }
}

#[test]
fn grants_allow_policies_forbid_and_a_bad_policy_never_replaces_a_good_one() {
    let office = Office::new();
    let daemon = Daemon::start(&office.world);
    let none = json!({});
    let signed = office.sign("ed", &none);
    assert_eq!(signed.status, 200, "{}", signed.body);
    assert_eq!(office.sign("k1", &none).status, 200);
    let night = office.sign("k1", &json!({ "purpose": "night" }));
    assert_eq!((night.status, night.code().as_str()), (403, "policy-denied"), "{}", night.body);
    assert!(night.json()["detail"].as_str().unwrap().contains("payments-at-work"), "{}", night.body);
    // A dry run says the same and leaves no trace.
    let before = office.people.status(&office.world)["entries"].clone();
    let would = office.sign("ed", &json!({ "dryRun": true }));
    assert_eq!((would.status, &would.json()["outcome"]), (200, &json!("signed")), "{}", would.body);
    assert_eq!(office.sign("rsa", &json!({ "dryRun": true })).json()["outcome"], "pending_multisig");
    assert_eq!(office.people.status(&office.world)["entries"], before);
    // The operator makes a mistake, and then another policy.
    let file = office.world.path("policies/more.cedar");
    let reload = || {
        let ask = Ask::post("/admin/v1/policy/reload", "{}");
        office.people.call(&office.world, ("eve", &["security-engineer"]), ask)
    };
    std::fs::write(&file, "@id(\"oops\") forbid (principal, action == Action::\"fly\", resource);").unwrap();
    let refused = reload();
    assert_eq!((refused.status, refused.code().as_str()), (409, "wrong-state"), "{}", refused.body);
    assert!(refused.body.contains("more.cedar:1"), "{}", refused.body);
    assert_eq!(office.sign("ed", &none).status, 200);
    std::fs::write(
        &file,
        "@id(\"no-ed\") forbid (principal, action == Action::\"sign\", resource == Key::\"ed\");",
    )
    .unwrap();
    assert_eq!(reload().json()["changed"], true);
    let denied = office.sign("ed", &none);
    assert!(denied.code() == "policy-denied" && denied.body.contains("no-ed"), "{}", denied.body);
    let explain = json!({ "service": chancery_tests::rig::world::ORDERS, "act": "sign", "kid": "ed" });
    let ask = Ask::post("/admin/v1/policy/explain", explain.to_string());
    let told = office.people.call(&office.world, ("ann", &["auditor"]), ask);
    assert!(
        told.status == 200 && told.body.contains("no-ed") && told.body.contains("more.cedar"),
        "{}",
        told.body
    );
    // What uses no key is decided as well.
    let verify =
        json!({ "kid": "k1", "digest": "7".repeat(64), "digestAlgorithm": "sha256", "signature": "AA==" });
    let (verify, event) = (verify.to_string(), json!({ "eventType": "a.b", "payload": {} }).to_string());
    let own = format!("/v1/streams/{}", chancery_tests::rig::world::ORDERS);
    let asks = || {
        let asks = [
            Ask::post("/v1/verify", verify.as_str()),
            Ask::post("/v1/events", event.as_str()),
            Ask::get(&own),
            Ask::get("/v1/keys"),
        ];
        asks.map(|ask| call(&office.world, Some(&office.world.orders), &ask).unwrap())
    };
    assert_eq!(asks().map(|reply| reply.status), [200, 201, 200, 200]);
    std::fs::write(
        &file,
        "@id(\"no-looking\") forbid (principal, action in [Action::\"verify\", Action::\"append\", \
         Action::\"read\", Action::\"list-keys\"], resource);",
    )
    .unwrap();
    assert_eq!(reload().json()["changed"], true);
    for reply in asks() {
        assert_eq!((reply.status, reply.code().as_str()), (403, "policy-denied"), "{}", reply.body);
        assert!(reply.body.contains("no-looking"), "{}", reply.body);
    }
    office.end(daemon);
    let leaves = office.leaves();
    let rules: Vec<_> = leaves
        .iter()
        .filter(|(kind, _)| kind == "signing.signature.issued")
        .map(|(_, payload)| payload["policy"]["rule"].as_str().unwrap().to_owned())
        .collect();
    assert!(rules.iter().all(|rule| rule.starts_with("grants/0/")), "{rules:?}");
    assert!(leaves.iter().filter(|(kind, _)| kind == "policy.loaded").count() >= 3);
}

#[test]
fn the_policy_service_is_asked_and_no_answer_is_a_no() {
    let office = Office::new();
    let daemon = Daemon::start(&office.world);
    let none = json!({});
    let slow = Duration::from_secs(5);
    let rows = [
        (PolicyServiceDouble::decision("allow"), 200, "", "allow"),
        (PolicyServiceDouble::decision("deny"), 403, "policy-hook-denied", "deny"),
        (PolicyServiceDouble::decision("quarantine"), 403, "policy-hook-denied", "deny"),
        (PolicyServiceDouble::decision("requires_multisig"), 202, "", "requires-multisig"),
        (Answer::Silence(slow), 503, "policy-hook-unavailable", "timeout"),
        (Answer::Drip(Duration::from_millis(20)), 503, "policy-hook-unavailable", "timeout"),
        (Answer::Says("no json".to_owned()), 503, "policy-hook-unavailable", "garbage"),
        (Answer::Says("{}".to_owned()), 503, "policy-hook-unavailable", "garbage"),
        (Answer::Status(500), 503, "policy-hook-unavailable", "status-500"),
    ];
    let mut verdicts = Vec::new();
    for (answer, status, code, verdict) in rows {
        office.service.set(answer.clone());
        let since = Instant::now();
        let reply = office.sign("p256", &none);
        assert_eq!((reply.status, reply.code().as_str()), (status, code), "{answer:?}: {}", reply.body);
        assert!(since.elapsed() < Duration::from_secs(2), "{answer:?}: {:?}", since.elapsed());
        if code == "policy-hook-denied" {
            assert!(reply.body.contains("pol-7") && reply.body.contains("because"), "{}", reply.body);
        }
        verdicts.push(verdict);
        // The key whose policy says so goes on without an answer; a no is a no there, too.
        if status == 503 {
            assert_eq!(
                office.sign("p384", &json!({ "digest": "7".repeat(96), "digestAlgorithm": "sha384" })).status,
                200
            );
            verdicts.push(verdict);
        }
    }
    assert_eq!(office.sign("ed", &none).status, 200);
    let asked = office.service.questions();
    assert_eq!(asked[0]["action"], "signing.sign");
    assert_eq!(asked[0]["resource"]["kid"], "p256");
    assert!(!asked.iter().any(|question| question.to_string().contains(&"7".repeat(64))), "no digest leaves");
    // Another one, at another address: the daemon's is gone.
    let Office { people, service, world } = office;
    drop(service);
    let office = Office { people, service: PolicyServiceDouble::start(), world };
    let gone = office.sign("p256", &none);
    assert_eq!((gone.status, gone.code().as_str()), (503, "policy-hook-unavailable"), "{}", gone.body);
    verdicts.push("unreachable");
    office.end(daemon);
    let leaves = office.leaves();
    let told: Vec<_> = leaves
        .iter()
        .filter(|(kind, _)| kind == "policy.verdict")
        .map(|(_, payload)| payload["verdict"].as_str().unwrap().to_owned())
        .collect();
    assert_eq!(told, verdicts);
}

#[test]
fn a_signature_that_people_must_agree_to_waits_and_is_made_once() {
    let office = Office::new();
    let daemon = Daemon::start(&office.world);
    let (people, world) = (&office.people, &office.world);
    let look = |url: &str| call(world, Some(&world.orders), &Ask::get(url)).unwrap();
    let context = json!({ "purpose": "payout", "metadata": { "order": 7 } });
    let asked = office.sign("rsa", &context);
    assert_eq!((asked.status, &asked.json()["status"]), (202, &json!("pending_multisig")), "{}", asked.body);
    // Asked again, it is the same request.
    assert_eq!(office.sign("rsa", &context).json()["id"], asked.json()["id"]);
    let (id, url) = (asked.json()["id"].clone(), asked.json()["url"].as_str().unwrap().to_owned());
    assert_eq!(look(&url).status, 202);
    let path = format!("/admin/v1/approvals/{}", id.as_str().unwrap());
    let request = people.call(world, ("ann", &["approver"]), Ask::get(&path)).json();
    assert_eq!(request["act"]["digest"], "7".repeat(64), "{request}");
    assert_eq!(request["act"]["purpose"], "payout");
    people.approve(world, &request, &["ann"]);
    assert_eq!(look(&url).status, 202);
    people.approve(world, &request, &["bob"]);
    let done = wait_for("the signature", || Some(look(&url)).filter(|reply| reply.status == 200));
    let result = done.json()["result"].clone();
    assert_eq!((&result["kid"], &result["digest"]), (&json!("rsa"), &json!("7".repeat(64))), "{}", done.body);
    assert_eq!(look(&url).json()["result"], result, "the same signature for ever");
    // Nobody else sees it, and a refused one ends.
    assert_eq!(look("/v1/pending/none").status, 404);
    let other = office.sign("rsa", &json!({ "purpose": "other" })).json();
    let path = format!("/admin/v1/approvals/{}", other["id"].as_str().unwrap());
    let request = people.call(world, ("ann", &["approver"]), Ask::get(&path)).json();
    for user in ["ann", "bob", "cyd"] {
        let body = json!({ "actSha256": request["actSha256"] }).to_string();
        let reject = format!("{path}/reject");
        assert_eq!(people.call(world, (user, &["approver"]), Ask::post(&reject, body)).status, 200);
    }
    let refused = look(other["url"].as_str().unwrap());
    assert_eq!((refused.status, refused.code().as_str()), (403, "approval-refused"));
    office.end(daemon);
    let leaves = office.leaves();
    let made: Vec<_> = leaves
        .iter()
        .filter(|(kind, payload)| kind == "signing.signature.issued" && payload["kid"] == "rsa")
        .collect();
    assert_eq!(made.len(), 1);
    assert_eq!(made[0].1["policy"]["rule"], format!("approval/{}", id.as_str().unwrap()));
    assert_eq!(made[0].1["metadata"]["order"], 7);
}
