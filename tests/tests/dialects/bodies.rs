//! The platform's own clients: each body as it was seen on the wire, each reply as that client reads it.

use chancery_format::canonical::CanonicalJson;
use serde_json::{Value, json};

use super::*;

const HEX: &str = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08";
const TS: &str = "2026-03-01T12:00:00.123Z";

/// What a client sent, and what must have been signed.
struct Seen {
    path: &'static str,
    body: Value,
    kid: &'static str,
    signed: What,
    dialect: &'static str,
    /// The reply's members that this client cannot do without.
    reads: &'static [&'static str],
}

enum What {
    Message(Vec<u8>),
    Digest(Digest),
}

fn hex_digest() -> Digest {
    Digest::parse("sha256", HEX).unwrap()
}

fn seen() -> Vec<Seen> {
    let text = format!(r#"{{"manifest":{{"id":"m-1","steps":[1,2]}},"ts":"{TS}"}}"#);
    let data = format!(r#"{{"data":"{HEX}","ts":"{TS}"}}"#);
    let b64 = |bytes: &[u8]| STANDARD.encode(bytes);
    let of = |path, body, kid, signed, dialect, reads| Seen { path, body, kid, signed, dialect, reads };
    let message = |bytes: &[u8]| What::Message(bytes.to_vec());
    let digest = hex_digest();
    let upgrade = json!({ "upgradeId": "upg-1", "manifestHash": HEX, "approverId": "ryan",
                          "approverRole": "SuperAdmin", "notes": "ok" });
    let upgrade_text = CanonicalJson::parse(upgrade.to_string().as_bytes()).unwrap();
    let upgrade_text = upgrade_text.as_str();
    vec![
        // kernel, TypeScript: manifests, then audit events.
        of(
            "/sign",
            json!({ "signerId": "ed", "payload": text, "manifestId": "m-1" }),
            "ed",
            message(text.as_bytes()),
            "kernel",
            &["id", "signature", "signer_id", "manifest_id", "algorithm", "ts", "key_version"],
        ),
        of(
            "/sign",
            json!({ "signerId": "rsa", "payload": text }),
            "rsa",
            message(text.as_bytes()),
            "kernel",
            &["alg"],
        ),
        of(
            "/signData",
            json!({ "signerId": "ed", "data": data }),
            "ed",
            message(data.as_bytes()),
            "kernel",
            &["signature", "signerId"],
        ),
        // kernel, Go: a hash, and the probe it starts with.
        of(
            "/signData",
            json!({ "data": b64(digest.as_bytes()), "signerId": "ed" }),
            "ed",
            message(digest.as_bytes()),
            "kernel",
            &["signature", "signer_id"],
        ),
        of(
            "/signData",
            json!({ "data": b64(b"kernel-registry-probe"), "signerId": "ed" }),
            "ed",
            message(b"kernel-registry-probe"),
            "kernel",
            &["signature"],
        ),
        of(
            "/sign",
            json!({ "key_id": "ed", "payload_b64": "aGVsbG8ta21z" }),
            "ed",
            message(b"hello-kms"),
            "payload",
            &["signature_b64", "signer_id"],
        ),
        // marketplace.
        of(
            "/sign",
            json!({ "data": "bGljZW5zZS1ieXRlcw==", "algorithm": "RSASSA_PKCS1_V1_5_SHA_256", "kid": "rsa" }),
            "rsa",
            message(b"license-bytes"),
            "marketplace",
            &["signature", "signer_kid", "ts"],
        ),
        of(
            "/sign",
            json!({ "digest_hex": HEX, "algorithm": "RSA_PKCS1_SHA_256", "kid": "rsa" }),
            "rsa",
            What::Digest(digest),
            "digest",
            &["signature", "signer_kid", "algorithm"],
        ),
        of(
            "/sign",
            json!({ "digest_hex": HEX, "algorithm": "RSA_PSS_SHA_256", "kid": "pss" }),
            "pss",
            What::Digest(digest),
            "digest",
            &["signatureB64"],
        ),
        // shared library, memory layer.
        of(
            "/sign",
            json!({ "hash": HEX }),
            "ed",
            What::Digest(digest),
            "digest",
            &["signature", "signer_kid", "ts"],
        ),
        of(
            "/sign/hash",
            json!({ "digest_hex": HEX }),
            "ed",
            What::Digest(digest),
            "digest",
            &["kid", "alg", "signature"],
        ),
        of(
            "/sign/canonical",
            json!({ "canonical": "{\"a\":1}" }),
            "ed",
            What::Digest(sha256(b"{\"a\":1}")),
            "digest",
            &["kid", "alg", "signature"],
        ),
        // RepoWriter, SentinelNet, AI infrastructure, finance.
        of(
            "/sign",
            json!({ "payload_b64": "eyJ6IjoxLCJhIjoiw6kifQ==" }),
            "ed",
            message("{\"z\":1,\"a\":\"é\"}".as_bytes()),
            "payload",
            &["signature_b64", "signature", "signer_id", "signer_kid", "signer"],
        ),
        of(
            "/sign",
            json!({ "payload_b64": b64(digest.as_bytes()), "signer_id": "rsa" }),
            "rsa",
            What::Digest(digest),
            "payload",
            &["signature_b64", "signer_kid", "signerId"],
        ),
        // control panel, platform.
        of("/sign", upgrade, "ed", message(upgrade_text.as_bytes()), "control-panel", &["signature"]),
        of(
            "/sign",
            json!({ "sha256": HEX, "metadata": { "any": 1 }, "signer": "pss" }),
            "pss",
            message(HEX.as_bytes()),
            "platform",
            &["sha256", "signature", "signer", "timestamp", "requestId"],
        ),
    ]
}

/// UUIDs, as a database column of that type takes them.
fn is_uuid(text: &str) -> bool {
    let parts: Vec<&str> = text.split('-').collect();
    parts.iter().map(|part| part.len()).eq([8, 4, 4, 4, 12])
        && parts.concat().bytes().all(|byte| byte.is_ascii_hexdigit())
}

#[test]
fn every_body_seen_on_the_wire_gets_its_signature() {
    let (world, daemon) = started(ALL);
    for Seen { path, body, kid, signed, dialect, reads } in seen() {
        // Some clients end their body with a newline.
        let reply = post(&world, path, &format!("{body}\n"));
        assert_eq!(reply.status, 200, "{body}: {}", reply.body);
        assert_eq!(reply.header("content-type"), Some("application/json"), "{body}");
        let said = reply.json();
        let public = key(&world, kid);
        let signature = decode(&said["signature"]);
        let (holds, digest) = match &signed {
            What::Message(message) => (public.verify_message(message, &signature), sha256(message)),
            What::Digest(digest) => (public.verify(digest, &signature), *digest),
        };
        assert!(holds, "{body} {said}");
        for member in reads {
            let alias = if *member == "signatureB64" { "signature_b64" } else { member };
            assert!(said[alias].as_str().is_some_and(|text| !text.is_empty()), "{member} of {said}");
        }
        for forbidden in ["version", "manifest_version", "prev_hash", "prevHash"] {
            assert!(said.get(forbidden).is_none(), "{said}");
        }
        assert!(is_uuid(said["id"].as_str().unwrap()), "{said}");
        let word = said["algorithm"].as_str().unwrap();
        assert!(word.contains("ed25519") || word.contains("rsa"), "{said}");
        let event = leaf(&world, said["receipt"]["index"].as_u64().unwrap());
        let payload = &event["payload"];
        assert_eq!(payload["dialect"]["name"], dialect, "{event}");
        assert_eq!(payload["kid"], kid, "{event}");
        let whole = hashes_nothing(public.algorithm()) && matches!(signed, What::Message(_));
        assert_eq!(payload["operation"], if whole { "sign-message" } else { "sign" }, "{event}");
        assert_eq!(payload["digest"], digest.to_hex(), "{event}");
        if body.get("payload").is_some() || body["data"].as_str().is_some_and(|data| data.starts_with('{')) {
            assert_eq!(said["ts"], TS, "the signed time comes back: {said}");
            assert_eq!(payload["dialect"]["ts"], TS, "{event}");
        }
    }
    daemon.stop();
    let archive = world.path("archive");
    let checked = world.verify(&["ledger", archive.to_str().unwrap(), "--json"]);
    let report: Value = serde_json::from_slice(&checked.stdout).unwrap();
    assert_eq!(checked.status.code(), Some(0), "{report}");
    assert!(report["checked"]["signaturesOverMessages"].as_u64().unwrap() >= 6, "{report}");
}

/// Clients that get an error for a bad signature go on as if it were good, so there is none.
#[test]
fn a_signature_that_does_not_verify_is_an_answer() {
    let (world, _daemon) = started(ALL);
    let made =
        post(&world, "/sign", &json!({ "payload_b64": "aGVsbG8=", "key_id": "ed" }).to_string()).json();
    let (signature, signer) = (made["signature_b64"].clone(), made["signer_id"].clone());
    let hash =
        post(&world, "/sign", &json!({ "hash": HEX, "kid": "rsa" }).to_string()).json()["signature"].clone();
    let text =
        post(&world, "/sign", &json!({ "sha256": HEX, "signer": "pss" }).to_string()).json()["signature"]
            .clone();
    for (body, valid) in [
        (json!({ "payload_b64": "aGVsbG8=", "signature_b64": signature, "signer_id": signer }), true),
        (json!({ "payload_b64": "aGVsbG9v", "signature_b64": signature, "signer_id": signer }), false),
        (json!({ "payload_b64": "aGVsbG8=", "signature_b64": signature, "signer_id": "nobody" }), false),
        (json!({ "payload_b64": "aGVsbG8=", "signature_b64": "!!", "signer_id": signer }), false),
        // No key is named: the one that made it is found.
        (json!({ "digest_hex": HEX, "signature_b64": hash }), true),
        (json!({ "digest_hex": HEX, "signature": hash }), true),
        (json!({ "digest_hex": HEX.replace('9', "8"), "signature": hash }), false),
        (json!({ "sha256": HEX, "signature": text }), true),
        (json!({ "sha256": HEX, "signature": hash }), false),
    ] {
        let reply = post(&world, "/verify", &body.to_string());
        assert_eq!(reply.status, 200, "{body}: {}", reply.body);
        let said = reply.json();
        assert_eq!(
            (said["verified"].as_bool(), said["valid"].as_bool()),
            (Some(valid), Some(valid)),
            "{body} {said}"
        );
        assert_ne!(said["ok"], true);
        assert_eq!(said["signer_kid"].is_string(), valid, "{said}");
    }
}

#[test]
fn public_keys_come_as_each_client_reads_them() {
    let (world, _daemon) = started(ALL);
    let raw = |kid: &str| key(&world, kid).ed25519_raw().unwrap();
    let posted = post(&world, "/publicKey", r#"{"signerId":"ed"}"#).json();
    assert_eq!(decode(&posted["publicKey"]), raw("ed"), "{posted}");
    for path in ["/publicKeys/ed", "/publicKeys/ed-ed25519-v1", "/publicKeys/ed%2Ded25519-v1"] {
        let reply = ask(&world, &Ask::get(path)).json();
        assert_eq!(reply["publicKey"], key(&world, "ed").to_pem(), "{path}");
    }
    let pem = ask(&world, &Ask::get("/public-key?kid=rsa")).json();
    assert_eq!(pem["publicKeyPem"], key(&world, "rsa").to_pem());
    assert_eq!(ask(&world, &Ask::get("/public-key")).json()["signer_kid"], "ed-ed25519-v1");
    for (path, status) in
        [("/publicKeys/absent", 404), ("/public-key?kid=absent", 404), ("/publicKeys/mac", 404)]
    {
        assert_eq!(ask(&world, &Ask::get(path)).status, status, "{path}");
    }
    let rotated = post(&world, "/keys/rotate", r#"{"signerId":"ed"}"#);
    assert_eq!((rotated.status, rotated.json()["error"].as_str()), (403, Some("policy-denied")));
}

#[test]
fn health_needs_no_certificate() {
    let (world, _daemon) = started(ALL);
    for path in ["/", "/health", "/ping", "/ready", "/healthz", "/v1/status", "/v1/sys/health"] {
        let reply = call(&world, None, &Ask::get(path)).unwrap();
        assert_eq!(reply.status, 200, "{path}: {}", reply.body);
    }
    let refused = call(&world, None, &Ask::post("/sign", format!(r#"{{"hash":"{HEX}"}}"#))).unwrap();
    assert_eq!(
        (refused.status, refused.json()["error"].as_str()),
        (401, Some("client-certificate-required"))
    );
}

/// A body that could mean two things, or means nothing, changes nothing.
#[test]
fn what_can_be_read_two_ways_is_refused_and_leaves_nothing() {
    let (world, daemon) = started(ALL);
    let before = daemon.metric("chancery_ledger_entries");
    for (path, body, code) in [
        ("/sign", "{}".to_owned(), "invalid-field"),
        ("/sign", format!(r#"{{"hash":"{HEX}","payload_b64":"aGVsbG8="}}"#), "invalid-field"),
        ("/sign", format!(r#"{{"hash":"{HEX}","hash":"{HEX}"}}"#), "duplicate-key"),
        ("/sign", r#"{"payload_b64":"aGVsbG8"}"#.to_owned(), "invalid-base64"),
        ("/sign", format!(r#"{{"hash":"{}"}}"#, HEX.to_uppercase()), "invalid-digest"),
        (
            "/sign",
            format!(r#"{{"digest_hex":"{HEX}","algorithm":"RSA_PKCS1_SHA_256"}}"#),
            "algorithm-mismatch",
        ),
        ("/sign", format!(r#"{{"hash":"{HEX}","kid":"absent"}}"#), "unknown-kid"),
        ("/sign", format!(r#"{{"hash":"{HEX}","kid":"ledger"}}"#), "kid-not-granted"),
        ("/sign", format!(r#"{{"hash":"{HEX}","kid":"mac"}}"#), "algorithm-mismatch"),
        ("/sign", r#"{"payload":"{}","signerId":"p256"}"#.to_owned(), "algorithm-mismatch"),
        ("/sign", r#"{"payload":"text"}"#.to_owned(), "invalid-field"),
        ("/sign", "[]".to_owned(), "invalid-json"),
        ("/sign/hash", r#"{"digest_hex":7}"#.to_owned(), "invalid-field"),
        ("/signData", r#"{"signerId":"ed"}"#.to_owned(), "missing-field"),
    ] {
        let reply = post(&world, path, &body);
        let said = reply.json();
        assert_eq!(said["error"], code, "{body}: {said}");
        assert!((400..500).contains(&reply.status) && said["ok"] == false, "{body}: {said}");
        assert!(said["requestId"].is_string() && said["message"].is_string(), "{said}");
    }
    // Refusals are enrolled coalesced, and later; signatures there are none.
    let issued = daemon.metric("chancery_ledger_entries") - before;
    assert!(issued <= 8, "{issued} entries");
    assert_eq!(ask(&world, &Ask::get("/sign")).status, 405);
}

#[test]
fn a_retry_gets_the_same_signature_and_one_entry() {
    let (world, daemon) = started(ALL);
    let again =
        Ask::post("/sign", r#"{"payload_b64":"aGVsbG8=","key_id":"p256"}"#).header("idempotency-key", "k-1");
    let first = ask(&world, &again).json();
    let before = daemon.metric("chancery_ledger_entries");
    assert_eq!(ask(&world, &again).json(), first);
    assert_eq!(daemon.metric("chancery_ledger_entries"), before);
    let other =
        Ask::post("/sign", r#"{"payload_b64":"aGVsbG9v","key_id":"p256"}"#).header("idempotency-key", "k-1");
    assert_eq!(ask(&world, &other).status, 409);
}

/// Key separation: what one language may sign with a key, another may not.
#[test]
fn dialects_are_granted_to_principals_and_to_keys() {
    let more = "[[keys]]\nkid = \"closed\"\nsigner_kid = \"closed-v1\"\nbackend = \"software\"\nalgorithm = \"ed25519\"\n\
                purpose = \"test\"\ndialects = [\"kernel\"]\naliases = [\"Kernel Signer/1\"]\n";
    let world = World::new(&WorldOptions {
        grants: "dialects = [\"native\", \"kernel\", \"digest\"]\n",
        kids: &["closed"],
        more: more.to_owned(),
        ..WorldOptions::default()
    });
    let _daemon = Daemon::start(&world);
    let told = |path: &str, body: String| {
        let reply = post(&world, path, &body);
        (reply.status, reply.json()["error"].as_str().unwrap_or_default().to_owned())
    };
    let refused = (403, "dialect-not-granted".to_owned());
    let signed = (200, String::new());
    assert_eq!(told("/sign", r#"{"payload_b64":"aGVsbG8=","key_id":"ed"}"#.to_owned()), refused);
    assert_eq!(told("/sign", format!(r#"{{"hash":"{HEX}","kid":"ed"}}"#)), signed);
    assert_eq!(told("/sign", format!(r#"{{"hash":"{HEX}","kid":"closed"}}"#)), refused);
    assert_eq!(told("/sign", r#"{"payload":"{}","signerId":"Kernel Signer/1"}"#.to_owned()), signed);
    let native = json!({ "kid": "closed", "digest": HEX, "digestAlgorithm": "sha256" });
    let native = post(&world, "/v1/sign", &native.to_string());
    assert_eq!((native.status, native.code()), (403, "dialect-not-granted".to_owned()));
    assert_eq!(
        told("/sign", format!(r#"{{"hash":"{HEX}"}}"#)).1,
        "missing-field",
        "no default_kid, many keys"
    );
    let kms = Ask::post("/", r#"{"KeyId":"alias/ed"}"#).header("x-amz-target", "TrentService.DescribeKey");
    let kms = ask(&world, &kms);
    assert_eq!((kms.status, kms.json()["__type"].as_str()), (400, Some("AccessDeniedException")));
    let vault = ask(&world, &Ask::get("/v1/transit/keys/ed"));
    assert_eq!(vault.status, 403, "{}", vault.body);
}
