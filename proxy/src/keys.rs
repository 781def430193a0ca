//! Keys as callers see them: lists, public halves, the published registry, and checking signatures.
//!
//! A principal sees all keys: their names and public halves are what verifiers need anyway. It checks
//! signatures only of keys it was granted. A signature that does not verify is an answer
//! (`valid: false`), not an error. A key that left use still verifies: it is found by its `signer_kid`.

use std::sync::Arc;
use std::time::Instant;

use chancery_format::entry::{CheckingParts, Operation, PolicyRef, mac_checking};
use chancery_format::registry::{KeyState, SignerRecord};
use chancery_format::{Digest, HashAlgorithm, Kid, RegistryShape};
use chancery_hsm::MacMessage;
use chancery_policy::{Act, What};
use serde_json::{Map, Value};

use crate::admission::{Refusal, check_key, check_no_canary};
use crate::chancery::{Chancery, KeyEntry, Lanes};
use crate::config::Intents;
use crate::problem::{Code, Problem};
use crate::request::{MacRequest, RequestError, VerifyRequest};
use crate::response::{Caching, JSON, PEM, Reply, TEXT};
use crate::routes::Caller;
use crate::signing::{may, may_with_key};

/// `GET /v1/keys`.
pub fn list(chancery: &Chancery, caller: &Caller<'_>) -> Result<Reply, Problem> {
    may(chancery, caller, Act::ListKeys, What::Appliance, None)?;
    let published = chancery.registry.load();
    let describe = |key: Arc<KeyEntry>| describe(&key, published.registry.signer(signer_of(&key)));
    let keys: Vec<_> = chancery.keys().into_iter().map(describe).collect();
    Ok(Reply::json(serde_json::json!({ "keys": keys }).to_string()))
}

/// `GET /v1/keys/{kid}`.
pub fn detail(chancery: &Chancery, caller: &Caller<'_>, kid: &str) -> Result<Reply, Problem> {
    may(chancery, caller, Act::ListKeys, What::Appliance, None)?;
    let key = find(chancery, kid)?;
    let published = chancery.registry.load();
    Ok(Reply::json(describe(&key, published.registry.signer(signer_of(&key))).to_string()))
}

/// `GET /v1/keys/{kid}/public`.
pub fn public(chancery: &Chancery, caller: &Caller<'_>, kid: &str) -> Result<Reply, Problem> {
    may(chancery, caller, Act::ListKeys, What::Appliance, None)?;
    let key = find(chancery, kid)?;
    let pem = key.public_key_pem.clone().ok_or_else(|| {
        Problem::new(Code::NotFound, format!("key {} makes MACs and has no public half", key.kid))
    })?;
    Ok(Reply::other(PEM, Caching::Never, pem))
}

/// `GET /v1/signers.json`, and with `?format=NAME` in an older shape.
pub fn registry(chancery: &Chancery, query: Option<&str>) -> Result<Reply, Problem> {
    let published = chancery.registry.load();
    let Some(query) = query.filter(|query| !query.is_empty()) else {
        return Ok(Reply::other(JSON, Caching::Briefly, published.json.clone()));
    };
    let parameter = |name, rule: String| Problem::from(RequestError::Parameter { name, rule });
    let named = query.strip_prefix("format=");
    let named = named.ok_or_else(|| parameter("query", "has one parameter: format".to_owned()))?;
    let shape: RegistryShape =
        named.parse().map_err(|error: chancery_format::registry_shape::UnknownShape| {
            parameter("format", format!("has an {error}"))
        })?;
    let exported = published.registry.export(shape).map_err(Problem::internal)?;
    let kind = match shape {
        RegistryShape::Pem => PEM,
        RegistryShape::Policy => TEXT,
        _ => JSON,
    };
    Ok(Reply::other(kind, Caching::Briefly, exported.bytes))
}

/// `GET /v1/signers.json.sig`.
pub fn registry_note(chancery: &Chancery) -> Reply {
    Reply::other(TEXT, Caching::Briefly, chancery.registry.load().note.clone())
}

/// `POST /v1/verify`.
pub fn verify(chancery: &Chancery, caller: &Caller<'_>, body: &[u8]) -> Result<Reply, Problem> {
    let request = VerifyRequest::read(body)?;
    let published = chancery.registry.load();
    if let Some(key) = chancery.key(&request.kid) {
        let key = check_key(&caller.grants, &request.kid, Some(key))?;
        if key.algorithm.is_mac() {
            let (kid, algorithm) = (request.kid.clone(), key.algorithm);
            return Err(Refusal::AlgorithmMismatch { kid, algorithm, operation: Operation::Sign }.into());
        }
        may_with_key(chancery, caller, Act::Verify, &key.kid, key.algorithm)?;
        let _ = caller.kid.set(key.kid.clone());
        let valid = chancery.keyring.verify(&key.kid, &request.digest, &request.signature)?;
        return Ok(verified(valid, &request.kid, published.registry.signer(signer_of(&key))));
    }
    // Not in use under this name: perhaps the name of one key pair, in use or not.
    let record = published.registry.signer(request.kid.as_str());
    let logical = record.and_then(|record| record.kid.as_ref()).filter(|kid| caller.grants.allows_kid(kid));
    let (Some(record), Some(logical)) = (record, logical) else {
        return Err(Refusal::UnknownKid { kid: request.kid }.into());
    };
    may_with_key(chancery, caller, Act::Verify, logical, record.algorithm)?;
    let key = record.public_key().map_err(Problem::internal)?;
    let Some(key) = key else {
        let (kid, algorithm) = (request.kid, record.algorithm);
        return Err(Refusal::AlgorithmMismatch { kid, algorithm, operation: Operation::Sign }.into());
    };
    let valid = key.verify(&request.digest, &request.signature);
    Ok(verified(valid, &request.kid, Some(record)))
}

fn verified(valid: bool, kid: &Kid, record: Option<&SignerRecord>) -> Reply {
    let state = record.map_or("active", |record| state_text(record.state));
    let signer_kid = record.map_or(kid.as_str(), |record| record.signer_kid.as_str());
    Reply::json(format!(
        r#"{{"valid":{valid},"kid":"{kid}","signer_kid":"{signer_kid}","keyState":"{state}"}}"#
    ))
}

/// `POST /v1/mac/verify`: the backend recomputes, and compares in constant time.
pub async fn mac_verify(
    chancery: &Arc<Chancery>,
    caller: &Caller<'_>,
    body: &[u8],
) -> Result<Reply, Problem> {
    let request = MacRequest::read_verify(body)?;
    let (kid, mac) = (request.kid, request.mac.unwrap_or_default());
    let valid = mac_holds(chancery, caller, &kid, request.message, mac).await?;
    let signer_kid = chancery.key(&kid).map_or_else(|| kid.clone(), |key| key.signer_kid.clone());
    Ok(Reply::json(format!(r#"{{"valid":{valid},"kid":"{kid}","signer_kid":"{signer_kid}"}}"#)))
}

/// Whether a MAC is the key's over the message, for this caller.
pub(crate) async fn mac_holds(
    chancery: &Arc<Chancery>,
    caller: &Caller<'_>,
    kid: &Kid,
    message: Vec<u8>,
    mac: Vec<u8>,
) -> Result<bool, Problem> {
    let key = check_key(&caller.grants, kid, chancery.key(kid))?;
    if !key.algorithm.is_mac() {
        let (kid, algorithm) = (kid.clone(), key.algorithm);
        return Err(Refusal::AlgorithmMismatch { kid, algorithm, operation: Operation::Mac }.into());
    }
    check_no_canary(&key)?;
    may_with_key(chancery, caller, Act::Mac, &key.kid, key.algorithm)?;
    let _ = caller.kid.set(key.kid.clone());
    let principal = caller.grants.principal();
    chancery.keyring.available_to(principal, &key.kid)?;
    let digest = Digest::of(HashAlgorithm::Sha256, &message);
    if key.intents == Intents::Always && matches!(key.lanes, Lanes::Sessions(_)) {
        // Its device records every use, so the ledger does first.
        let checking = mac_checking(CheckingParts {
            kid: key.kid.clone(),
            signer_kid: key.signer_kid.clone(),
            algorithm: key.algorithm,
            digest,
            principal: principal.clone(),
            request_id: caller.request_id.clone(),
            stream: caller.grants.own_stream().clone(),
            policy: PolicyRef { rule: caller.grants.rule().to_owned(), sha256: caller.grants.policy() },
        });
        chancery.roll.enrol_event(checking, None).await?;
    }
    let deadline = Instant::now() + chancery.limits.sign_timeout;
    let message = MacMessage::Message(message);
    Ok(chancery.keyring.mac_verify_for(principal, &key.kid, message, &mac, deadline).await?)
}

fn find(chancery: &Chancery, kid: &str) -> Result<Arc<KeyEntry>, Problem> {
    let parsed: Kid = kid.parse().map_err(|_| Problem::new(Code::UnknownKid, "there is no such key"))?;
    chancery.key(&parsed).ok_or_else(|| Refusal::UnknownKid { kid: parsed }.into())
}

fn signer_of(key: &KeyEntry) -> &str {
    key.signer_kid.as_str()
}

const fn state_text(state: KeyState) -> &'static str {
    match state {
        KeyState::Staged => "staged",
        KeyState::Active => "active",
        KeyState::Deprecated => "deprecated",
        KeyState::Retired => "retired",
        KeyState::Compromised => "compromised",
    }
}

/// One key: what the operator decided, and what the registry says of its life.
fn describe(key: &KeyEntry, record: Option<&SignerRecord>) -> Value {
    let mut out = Map::new();
    let mut put = |name: &str, value: Value| out.insert(name.to_owned(), value);
    put("kid", key.kid.as_str().into());
    put("signer_kid", key.signer_kid.as_str().into());
    put("algorithm", key.algorithm.as_str().into());
    put("operation", if key.algorithm.is_mac() { "mac" } else { "sign" }.into());
    put("purpose", key.purpose.as_str().into());
    put("description", key.description.as_str().into());
    put("release", key.release.as_str().into());
    put("isLedgerKey", key.is_ledger_key.into());
    if let Some(pem) = &key.public_key_pem {
        put("public_key_pem", pem.as_str().into());
    }
    put("state", record.map_or("active", |record| state_text(record.state)).into());
    let Some(record) = record else { return Value::Object(out) };
    put("deployedAt", record.deployed_at.to_string().into());
    if let Some(at) = record.retired_at {
        put("retiredAt", at.to_string().into());
    }
    let positions = [
        ("activatedIndex", record.activated_index),
        ("retiredIndex", record.retired_index),
        ("compromisedSince", record.compromised_since),
    ];
    for (name, index) in positions {
        if let Some(index) = index {
            put(name, index.into());
        }
    }
    Value::Object(out)
}
