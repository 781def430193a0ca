//! Whatever is sent: no failure of ours, no hang, no signature that nobody asked for.
//!
//! Good requests of every language, mutated, seeded and bounded: `CHANCERY_FUZZ_ROUNDS` and `CHANCERY_FUZZ_SEED`. And
//! schemathesis, which reads the served OpenAPI document and sends what it allows, and what it does not.

use chancery_tests::servers::schemathesis;
use serde_json::json;

use super::*;

fn number(variable: &str, default: u64) -> u64 {
    std::env::var(variable).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

/// SplitMix64.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, below: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        usize::try_from((z ^ (z >> 31)) % below.max(1) as u64).unwrap()
    }

    fn of<'t, T>(&mut self, from: &'t [T]) -> &'t T {
        &from[self.roll(from.len())]
    }

    /// A body like a good one: members taken away, doubled, of other types, and now and then broken bytes.
    fn body(&mut self, good: &Value) -> Vec<u8> {
        let odd = [
            json!(null),
            json!(true),
            json!(-1),
            json!(1e300),
            json!([]),
            json!({}),
            json!(""),
            json!("\u{0}"),
            json!("é\u{1f600}"),
            json!("A".repeat(5_000)),
            json!("!"),
            json!("AA=="),
            json!(["a"]),
            json!("{}"),
            json!("vault:v1:"),
            json!("vault:v99999999999999999999:AA=="),
            json!("arn:aws:kms:::::"),
            json!("alias/"),
        ];
        let mut value = good.clone();
        let members = value.as_object_mut().unwrap();
        for _ in 0..self.roll(3) {
            let names: Vec<String> = members.keys().cloned().collect();
            let Some(name) = (!names.is_empty()).then(|| self.of(&names).clone()) else { break };
            match self.roll(3) {
                0 => drop(members.remove(&name)),
                1 => drop(members.insert(name, self.of(&odd).clone())),
                _ => drop(members.insert(format!("{name}2"), json!(1))),
            }
        }
        let mut text = value.to_string().into_bytes();
        if self.roll(8) == 0 {
            let at = self.roll(text.len());
            match self.roll(3) {
                0 => text.truncate(at),
                1 => text[at] ^= 1 << self.roll(8),
                _ => drop(text.splice(at..at, b"\xff\"{[".iter().copied())),
            }
        }
        text
    }
}

#[test]
fn mutated_requests_of_every_language_are_answered_and_cause_nothing() {
    let hex = "00".repeat(32);
    let good: Vec<(&str, Option<&str>, Value)> = vec![
        ("/sign", None, json!({ "payload": "{\"ts\":\"x\"}", "signerId": "ed", "manifestId": "m" })),
        ("/sign", None, json!({ "payload_b64": "aGVsbG8=", "key_id": "ed" })),
        ("/sign", None, json!({ "digest_hex": hex, "algorithm": "RSA_PKCS1_SHA_256", "kid": "rsa" })),
        ("/sign", None, json!({ "hash": hex })),
        ("/sign", None, json!({ "sha256": hex })),
        ("/sign", None, json!({ "data": "bQ==", "algorithm": "ed25519" })),
        (
            "/sign",
            None,
            json!({ "upgradeId": "u", "manifestHash": hex, "approverId": "a", "approverRole": "r" }),
        ),
        ("/signData", None, json!({ "data": "bQ==", "signerId": "ed" })),
        ("/sign/hash", None, json!({ "digest_hex": hex })),
        ("/sign/canonical", None, json!({ "canonical": "{}" })),
        ("/verify", None, json!({ "digest_hex": hex, "signature": "AA==" })),
        ("/publicKey", None, json!({ "signerId": "ed" })),
        ("/keys/rotate", None, json!({ "signerId": "ed" })),
        (
            "/",
            Some("Sign"),
            json!({ "KeyId": "alias/p256", "Message": "bQ==", "SigningAlgorithm": "ECDSA_SHA_256",
                                    "MessageType": "RAW", "DryRun": false }),
        ),
        (
            "/",
            Some("Verify"),
            json!({ "KeyId": "p256", "Message": "bQ==", "SigningAlgorithm": "ECDSA_SHA_256",
                                      "Signature": "AA==" }),
        ),
        (
            "/",
            Some("GenerateMac"),
            json!({ "KeyId": "mac", "Message": "bQ==", "MacAlgorithm": "HMAC_SHA_256" }),
        ),
        (
            "/",
            Some("VerifyMac"),
            json!({ "KeyId": "mac", "Message": "bQ==", "MacAlgorithm": "HMAC_SHA_256", "Mac": "AA==" }),
        ),
        ("/", Some("DescribeKey"), json!({ "KeyId": "p256" })),
        ("/", Some("GetPublicKey"), json!({ "KeyId": "p256" })),
        ("/", Some("ListKeys"), json!({ "Limit": 2, "Marker": "a" })),
        ("/", Some("ListAliases"), json!({ "KeyId": "p256", "Limit": 2 })),
        (
            "/v1/transit/sign/p256",
            None,
            json!({ "input": "bQ==", "hash_algorithm": "sha2-256", "key_version": "0",
                                                "marshaling_algorithm": "jws", "prehashed": false }),
        ),
        (
            "/v1/transit/sign/ed",
            None,
            json!({ "batch_input": [{ "input": "bQ==", "reference": 1 }, { "input": 1 }] }),
        ),
        ("/v1/transit/verify/p256", None, json!({ "input": "bQ==", "signature": "vault:v1:AA==" })),
        ("/v1/transit/verify/mac", None, json!({ "input": "bQ==", "hmac": "vault:v1:AA==" })),
        ("/v1/transit/hmac/mac/sha2-256", None, json!({ "input": "bQ==" })),
        ("/v1/auth/cert/login", None, json!({ "name": "x" })),
    ];
    let more = "\n[limits]\nhandshakes_per_address_per_second = 100000\n".to_owned();
    let world = World::new(&WorldOptions { grants: ALL, more, ..WorldOptions::default() });
    let daemon = Daemon::start(&world);
    let (rounds, seed) = (number("CHANCERY_FUZZ_ROUNDS", 3_000), number("CHANCERY_FUZZ_SEED", 7));
    let mut dice = Dice(seed);
    let mut signed = 0u64;
    for round in 0..rounds {
        let (path, target, good) = dice.of(&good).clone();
        let mut request = Ask::post(path, String::new());
        request.body = dice.body(&good);
        if let Some(target) = target {
            request = request.header("x-amz-target", &format!("TrentService.{target}"));
        }
        let reply = ask(&world, &request);
        let text = String::from_utf8_lossy(&request.body).into_owned();
        assert!(
            reply.status < 500,
            "seed {seed}, round {round}, {path} {target:?} {text}: {} {}",
            reply.status,
            reply.body
        );
        let said = reply.json();
        let batch = said["data"]["batch_results"]
            .as_array()
            .map(|items| items.iter().filter(|item| item["signature"].is_string()).count() as u64);
        let one = ["signature", "Signature", "Mac"].iter().any(|name| said[name].is_string())
            || ["signature", "hmac"].iter().any(|name| said["data"][name].is_string());
        signed += batch.unwrap_or(u64::from(one));
        assert!(reply.status == 200 || !(one || batch.is_some()), "{text}: {}", reply.body);
    }
    assert!(signed > 0, "mutations spared nothing");
    daemon.stop();
    let leaves = chancery_tests::rig::evidence::leaves(&world.path("archive"), &world.registry());
    let issued = leaves.iter().filter(|leaf| {
        serde_json::from_slice::<Value>(leaf).unwrap()["eventType"] == "signing.signature.issued"
    });
    assert_eq!(issued.count() as u64, signed, "one entry for each signature that left");
}

#[test]
fn what_the_openapi_document_allows_and_forbids_never_fails() {
    let more = "\n[limits]\nhandshakes_per_address_per_second = 100000\n".to_owned();
    let world = World::new(&WorldOptions { grants: ALL, more, ..WorldOptions::default() });
    let daemon = Daemon::start(&world);
    let document = ask(&world, &Ask::get("/openapi.json"));
    std::fs::write(world.path("openapi.json"), &document.body).unwrap();
    let output = Command::new(schemathesis().unwrap())
        .arg("run")
        .arg(world.path("openapi.json"))
        .args([
            "--url",
            &world.url(),
            "--checks",
            "not_a_server_error,content_type_conformance,response_schema_conformance",
        ])
        .args([
            "--max-examples",
            "30",
            "--seed",
            "1",
            "--request-timeout",
            "20",
            "--generation-database",
            "none",
        ])
        .arg("--tls-verify")
        .arg(world.path("ca.crt"))
        .arg("--request-cert")
        .arg(&world.orders.certificate)
        .arg("--request-cert-key")
        .arg(&world.orders.key)
        .current_dir(world.folder())
        .output()
        .unwrap();
    let told = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{told}\n{}", String::from_utf8_lossy(&output.stderr));
    drop(daemon);
}
