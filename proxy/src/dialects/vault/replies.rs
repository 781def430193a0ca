//! Replies and refusals as Vault's clients read them.

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use chancery_format::registry::{KeyState, SignerRecord};
use chancery_format::{KeyFamily, Kid, SignatureAlgorithm, SignersRegistry};
use hyper::StatusCode;
use serde_json::{Map, Value, json};

use super::options::Marshaling;
use crate::chancery::{Chancery, KeyEntry};
use crate::problem::{Code, Problem};
use crate::response::{Caching, JSON, Reply};
use crate::signing::Made;

/// How long a token is said to live, in seconds: as long as nobody asks again, an hour.
pub(super) const LEASE_S: u64 = 3_600;

/// What every good answer is wrapped in.
pub(super) fn envelope(request_id: &str, data: &Value, auth: &Value) -> Reply {
    let value = json!({
        "request_id": request_id, "lease_id": "", "renewable": false, "lease_duration": 0, "data": data,
        "wrap_info": null, "warnings": null, "auth": auth, "mount_type": "transit",
    });
    Reply::json(value.to_string())
}

/// `GET /v1/sys/health`: 503 while the kill switch is pulled, which is what Vault calls sealed.
pub(in crate::dialects) fn health(chancery: &Chancery) -> Reply {
    let sealed = chancery.keyring.kill_switch().is_halted();
    let body = json!({
        "initialized": true, "sealed": sealed, "standby": false, "performance_standby": false,
        "version": env!("CARGO_PKG_VERSION"), "cluster_name": "chancery",
        "server_time_utc": chancery.now().unix_ms() / 1_000,
    });
    let status = if sealed { StatusCode::SERVICE_UNAVAILABLE } else { StatusCode::OK };
    Reply { status, ..Reply::json(body.to_string()) }
}

/// A refusal. What Vault hides, this hides: 404 has no words, 403 always the same.
pub(in crate::dialects) fn refusal(problem: &Problem) -> Reply {
    let (status, words) = match problem.code().status() {
        401 | 403 => (StatusCode::FORBIDDEN, vec![format!("permission denied: {}", problem.detail())]),
        404 if problem.code() == Code::NotFound => (StatusCode::NOT_FOUND, Vec::new()),
        404 | 422 => (StatusCode::BAD_REQUEST, vec![problem.detail().to_owned()]),
        _ => (problem.status(), vec![problem.detail().to_owned()]),
    };
    let body = json!({ "errors": words }).to_string();
    Reply { status, ..Reply::other(JSON, Caching::Never, body) }.with_retry(problem)
}

/// The key pairs of a name in the order they were activated: versions 1, 2, and so on.
pub(super) fn versions<'r>(registry: &'r SignersRegistry, kid: &Kid) -> Vec<&'r SignerRecord> {
    let of_key = |record: &&SignerRecord| {
        record.kid.as_ref() == Some(kid) && !matches!(record.state, KeyState::Staged)
    };
    let mut pairs: Vec<_> = registry.signers.iter().filter(of_key).collect();
    pairs.sort_by_key(|record| record.activated_index);
    pairs
}

/// `GET /v1/transit/keys/:name`
pub(super) fn described(chancery: &Chancery, key: &KeyEntry) -> Result<Value, Problem> {
    let published = chancery.registry.load();
    let pairs = versions(&published.registry, &key.kid);
    let latest = pairs.len().max(1);
    let mut keys = Map::new();
    for (position, record) in pairs.iter().enumerate() {
        let public = record.public_key().map_err(Problem::internal)?;
        let text = public.map(|key| match key.ed25519_raw() {
            Some(raw) => STANDARD.encode(raw),
            None => key.to_pem(),
        });
        let value = json!({
            "name": curve(key.algorithm), "public_key": text.unwrap_or_default(),
            "creation_time": record.deployed_at.to_string(), "certificate_chain": "",
        });
        keys.insert((position + 1).to_string(), value);
    }
    Ok(json!({
        "name": key.kid, "type": kind(key), "latest_version": latest, "min_available_version": 0,
        "min_decryption_version": 1, "min_encryption_version": 0, "derived": false, "exportable": false,
        "allow_plaintext_backup": false, "deletion_allowed": false, "auto_rotate_period": 0,
        "imported_key": false, "soft_deleted": false, "supports_signing": !key.algorithm.is_mac(),
        "supports_encryption": false, "supports_decryption": false, "supports_derivation": false, "keys": keys,
    }))
}

/// Vault's word for a type of key; RSA's size is in the key.
fn kind(key: &KeyEntry) -> String {
    match key.algorithm.family() {
        KeyFamily::Ed25519 => "ed25519".to_owned(),
        KeyFamily::P256 => "ecdsa-p256".to_owned(),
        KeyFamily::P384 => "ecdsa-p384".to_owned(),
        KeyFamily::Secp256k1 => "ecdsa-secp256k1".to_owned(),
        KeyFamily::MlDsa44 | KeyFamily::MlDsa65 => "ml-dsa".to_owned(),
        KeyFamily::Secret => "hmac".to_owned(),
        KeyFamily::Rsa => {
            let spki = key.public_key_pem.as_ref().and_then(|pem| {
                chancery_format::PublicKey::from_pem(key.algorithm, pem).ok().map(|key| key.spki_der().len())
            });
            match spki.unwrap_or_default() {
                0..=340 => "rsa-2048".to_owned(),
                341..=470 => "rsa-3072".to_owned(),
                _ => "rsa-4096".to_owned(),
            }
        }
    }
}

const fn curve(algorithm: SignatureAlgorithm) -> &'static str {
    match algorithm.family() {
        KeyFamily::P256 => "P-256",
        KeyFamily::P384 => "P-384",
        KeyFamily::Secp256k1 => "secp256k1",
        KeyFamily::Ed25519 => "ed25519",
        KeyFamily::Rsa => "rsa",
        KeyFamily::MlDsa44 | KeyFamily::MlDsa65 => "ml-dsa",
        KeyFamily::Secret => "hmac",
    }
}

/// `vault:v1:…`
pub(super) fn marshalled(made: &Made, marshaling: Marshaling, version: usize) -> Result<String, Problem> {
    let text = match marshaling {
        Marshaling::Asn1 => made.signature.clone(),
        Marshaling::Jws => {
            let der = STANDARD.decode(&made.signature).map_err(Problem::internal)?;
            let flat =
                to_jws(made.algorithm, &der).ok_or_else(|| Problem::internal("a signature is not DER"))?;
            URL_SAFE_NO_PAD.encode(flat)
        }
    };
    Ok(format!("vault:v{version}:{text}"))
}

/// Bytes of `r`, and of `s`, for ECDSA; `None` for the rest, which JWS writes as they are.
const fn half(algorithm: SignatureAlgorithm) -> Option<usize> {
    match algorithm.family() {
        KeyFamily::P256 | KeyFamily::Secp256k1 => Some(32),
        KeyFamily::P384 => Some(48),
        _ => None,
    }
}

/// `SEQUENCE{r,s}` to `r ‖ s` (RFC 7518 §3.4).
fn to_jws(algorithm: SignatureAlgorithm, der: &[u8]) -> Option<Vec<u8>> {
    let Some(half) = half(algorithm) else { return Some(der.to_vec()) };
    // Below 128 bytes, so every length is one byte.
    let [0x30, length, body @ ..] = der else { return None };
    (usize::from(*length) == body.len()).then_some(())?;
    let (r, rest) = integer(body)?;
    let (s, rest) = integer(rest)?;
    rest.is_empty().then_some(())?;
    let mut out = Vec::with_capacity(2 * half);
    for number in [r, s] {
        out.resize(out.len() + half.checked_sub(number.len())?, 0);
        out.extend_from_slice(number);
    }
    Some(out)
}

/// One INTEGER without its sign byte, and what follows.
fn integer(der: &[u8]) -> Option<(&[u8], &[u8])> {
    let [0x02, length, rest @ ..] = der else { return None };
    let (number, rest) = rest.split_at_checked(usize::from(*length))?;
    Some((number.strip_prefix(&[0]).unwrap_or(number), rest))
}

/// The way back.
pub(super) fn from_jws(algorithm: SignatureAlgorithm, flat: &[u8]) -> Option<Vec<u8>> {
    let Some(half) = half(algorithm) else { return Some(flat.to_vec()) };
    let (r, s) = flat.split_at_checked(half).filter(|_| flat.len() == 2 * half)?;
    let mut body = Vec::with_capacity(2 * half + 6);
    for number in [r, s] {
        let zeros = number.iter().take_while(|byte| **byte == 0).count().min(number.len() - 1);
        let number = number.get(zeros..)?;
        let signed = number.first().is_some_and(|byte| *byte >= 0x80);
        body.extend([0x02, u8::try_from(number.len() + usize::from(signed)).ok()?]);
        body.extend(signed.then_some(0));
        body.extend_from_slice(number);
    }
    let mut out = vec![0x30, u8::try_from(body.len()).ok()?];
    out.extend(body);
    Some(out)
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a failed unwrap is the test's failure")]
    use super::*;

    #[test]
    fn jws_and_der_are_the_same_numbers() {
        let p256 = SignatureAlgorithm::EcdsaP256Sha256;
        for (r, s) in [([1; 32], [2; 32]), ([0x80; 32], [0xff; 32]), ([0; 32], [0; 32])] {
            let flat = [r, s].concat();
            let der = from_jws(p256, &flat).unwrap();
            assert_eq!(to_jws(p256, &der).unwrap(), flat);
        }
        let mut small = [0; 32];
        small[31] = 0x7f;
        let flat = [small, small].concat();
        assert_eq!(from_jws(p256, &flat).unwrap(), [0x30, 6, 2, 1, 0x7f, 2, 1, 0x7f]);
        assert!(from_jws(p256, &[1; 63]).is_none() && to_jws(p256, &[0x30, 1]).is_none());
        assert!(to_jws(p256, &[0x30, 6, 2, 1, 1, 2, 1, 1, 9]).is_none());
    }
}
