//! Replies under every name that some client reads.

use chancery_format::{Kid, RequestId, SignatureAlgorithm, Timestamp};
use serde_json::{Map, Value, json};

use super::aliases;
use super::shapes::{Shape, Signed};
use crate::dialects::Dialect;
use crate::problem::Problem;
use crate::response::{Caching, JSON, Reply};
use crate::signing::Made;

/// The algorithm as these clients know it: they look for `ed25519` and `rsa` in it.
pub(super) const fn algorithm_word(algorithm: SignatureAlgorithm) -> &'static str {
    algorithm.as_str()
}

/// A signature. The kernel's client keeps the reply's `ts` in place of the signed one, `version` as its manifest's and
/// `prev_hash` as its row's, so there is none of these but the signed `ts`, back again.
pub(super) fn signed(shape: &Shape, made: &Made, request_id: &RequestId) -> Value {
    let mut members: Map<String, Value> = Map::new();
    members.insert("id".to_owned(), json!(made.id));
    members.extend(aliases(&["signature", "signature_b64"], &made.signature));
    let names = ["signer_kid", "signer_id", "signerId", "signer", "kid", "key_version"];
    members.extend(aliases(&names, &made.signer_kid));
    members.extend(aliases(&["alg", "algorithm"], algorithm_word(made.algorithm)));
    if let Some(id) = &shape.manifest_id {
        members.extend(aliases(&["manifest_id"], id));
    }
    let enrolled = made.ts.to_string();
    let ts = match &shape.what {
        Signed::Text { ts, .. } => ts.as_deref(),
        _ => Some(enrolled.as_str()),
    };
    members.extend(ts.map(|ts| ("ts".to_owned(), json!(ts))));
    if let Signed::HexText(sha256) = &shape.what {
        members.extend(aliases(&["sha256"], sha256));
        members.extend(aliases(&["timestamp"], &enrolled));
        members.extend(aliases(&["requestId"], request_id.as_str()));
    }
    let receipt = serde_json::from_str(&made.receipt).unwrap_or(Value::Null);
    members.insert("receipt".to_owned(), receipt);
    Value::Object(members)
}

/// Whether a signature is one: the same answer under both names.
pub(super) fn verified(
    shape: &Shape,
    found: Option<&(Kid, String)>,
    request_id: &RequestId,
    now: Timestamp,
) -> Value {
    let mut members = Map::new();
    for name in ["verified", "valid"] {
        members.insert(name.to_owned(), json!(found.is_some()));
    }
    if let Some((kid, signer_kid)) = found {
        members.extend(aliases(&["signer_kid", "signer_id", "signerId", "signer"], signer_kid));
        members.extend(aliases(&["kid"], kid.as_str()));
    }
    if let (Dialect::Platform, Signed::HexText(sha256)) = (shape.dialect, &shape.what) {
        members.extend(aliases(&["sha256"], sha256));
        members.extend(aliases(&["timestamp"], &now.to_string()));
        members.extend(aliases(&["requestId"], request_id.as_str()));
    }
    Value::Object(members)
}

/// A public key: `text` as this route gives it, and always as PEM.
pub(super) fn public_key(signer_kid: &str, algorithm: &str, text: &str, pem: &str) -> Value {
    let mut members = Map::new();
    members.extend(aliases(&["publicKey", "public_key"], text));
    members.extend(aliases(&["publicKeyPem"], pem));
    members.extend(aliases(&["signer_kid", "signer_id", "signerId", "kid", "keyId"], signer_kid));
    members.extend(aliases(&["algorithm"], algorithm));
    Value::Object(members)
}

/// A refusal: the members of a problem, and those that existing clients look for.
pub(in crate::dialects) fn refusal(problem: &Problem, request_id: &RequestId) -> Reply {
    let code = problem.code();
    let body = json!({
        "ok": false, "error": code.as_str(), "message": problem.detail(), "code": code.as_str(),
        "status": code.status(), "title": code.title(), "detail": problem.detail(),
        "requestId": request_id.as_str(),
    });
    Reply { status: problem.status(), ..Reply::other(JSON, Caching::Never, body.to_string()) }
        .with_retry(problem)
}
