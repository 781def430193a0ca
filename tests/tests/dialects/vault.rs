//! Vault's clients: hvac over mutual TLS and with a token alone, and what only raw requests show.

use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use chancery_tests::servers::python_client;
use serde_json::json;

use super::*;

/// What hvac is told, directly.
pub(super) fn directly<'c>(world: &World, command: &'c mut Command) -> &'c mut Command {
    command
        .env("VAULT_ADDR", world.url())
        .env("VAULT_CACERT", world.path("ca.crt"))
        .env("VAULT_CLIENT_CERT", &world.orders.certificate)
        .env("VAULT_CLIENT_KEY", &world.orders.key)
}

#[test]
fn hvac_signs_with_every_algorithm_and_reads_every_refusal() {
    let (world, _daemon) = started(ALL);
    let mut hvac = python_client("vault").unwrap();
    let told = lines(directly(&world, hvac.args(SIGNING)));
    let signed: Vec<&Value> = told.iter().filter(|line| line["signature"].is_string()).collect();
    // Plain and prehashed for five, plain for two, and in JWS form for the three curves.
    assert_eq!(signed.len(), 2 * 5 + 2 + 3);
    for line in signed {
        let known = key(&world, line["key"].as_str().unwrap());
        let public = line["public"].as_str().unwrap();
        match known.ed25519_raw() {
            Some(raw) => assert_eq!(decode(&line["public"]), raw),
            None => assert_eq!(public, known.to_pem()),
        }
        let text = line["signature"].as_str().unwrap().strip_prefix("vault:v1:").unwrap();
        let message = decode(&line["message"]);
        match line["jws"].as_bool().unwrap() {
            true => {
                let flat = URL_SAFE_NO_PAD.decode(text).unwrap();
                assert_eq!(flat.len(), if line["key"] == "p384" { 96 } else { 64 });
            }
            false => assert!(known.verify_message(&message, &STANDARD.decode(text).unwrap()), "{line}"),
        }
        let event = leaf(&world, line["index"].as_u64().unwrap());
        assert_eq!(event["payload"]["dialect"]["name"], "vault-transit", "{event}");
    }
    assert_eq!(told.last().unwrap()["done"], true);
}

#[test]
fn hvac_is_told_of_a_throttle() {
    let (world, _daemon) = super::kms::throttled();
    let mut hvac = python_client("vault").unwrap();
    let hvac = directly(&world, hvac.env("VAULT_THROTTLED", "1"));
    assert_eq!(lines(hvac).last().unwrap()["told"], "RateLimitExceeded");
}

/// Paths, methods and spellings that some client uses.
#[test]
fn paths_and_methods_are_those_of_existing_clients() {
    let (world, _daemon) = started(ALL);
    let body = json!({ "input": "bQ==", "prehashed": false, "key_version": "0" }).to_string();
    for (method, path) in [
        ("PUT", "/v1/transit/sign/p256"),
        ("POST", "/v1//transit/sign/p256/sha2-256"),
        ("PUT", "/v1/transit//sign/p256/sha2-256"),
    ] {
        let reply = ask(&world, &Ask { method, ..Ask::post(path, body.clone()) });
        assert_eq!(reply.status, 200, "{method} {path}: {}", reply.body);
        let said = reply.json();
        assert_eq!(said["data"]["key_version"], 1, "{said}");
        assert!(said["data"]["signature"].as_str().unwrap().starts_with("vault:v1:"), "{said}");
        assert!(said["warnings"].is_null() && said["request_id"].is_string(), "{said}");
    }
    let listed = ask(&world, &Ask { method: "LIST", ..Ask::get("/v1/transit/keys") });
    let same = ask(&world, &Ask::get("/v1/transit/keys?list=true"));
    assert_eq!(listed.json()["data"], same.json()["data"]);
    let kids = listed.json()["data"]["keys"].as_array().unwrap().clone();
    assert!(kids.contains(&json!("p256")) && !kids.contains(&json!("ledger")), "{kids:?}");
    for (request, status) in [
        (Ask::get("/v1/transit/keys/absent"), 400),
        (Ask::get("/v1/transit/keys/ledger"), 400),
        (Ask::get("/v1/sys/mounts"), 404),
        (Ask::get("/v1/transit/sign/p256"), 405),
        (Ask::post("/v1/transit/sign/p256", body.clone()).header("x-vault-wrap-ttl", "60s"), 400),
        (Ask::post("/v1/transit/sign/p256", r#"{"input":"bQ==","key_version":2}"#), 400),
        (Ask::post("/v1/transit/sign/p256", r#"{"input":"bQ==","context":"bQ=="}"#), 400),
        (
            Ask::post(
                "/v1/transit/sign/p256",
                r#"{"input":"bQ==","hash_algorithm":"none","prehashed":true}"#,
            ),
            400,
        ),
        (Ask::post("/v1/transit/sign/pss", r#"{"input":"bQ==","signature_algorithm":"pkcs1v15"}"#), 400),
        (Ask::post("/v1/transit/sign/p256", r#"{"batch_input":[]}"#), 400),
    ] {
        let reply = ask(&world, &request);
        assert_eq!(reply.status, status, "{request:?}: {}", reply.body);
        assert!(reply.json()["errors"].is_array(), "{}", reply.body);
    }
}
