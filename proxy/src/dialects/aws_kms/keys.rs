//! Keys as AWS describes them.

use chancery_format::{KeyFamily, Kid, SignatureAlgorithm};
use chancery_policy::{Act, What};
use hyper::header::{AUTHORIZATION, HeaderMap};
use serde_json::{Value, json};

use super::blob;
use crate::chancery::{Chancery, KeyEntry};
use crate::dialects::body::{Body, invalid};
use crate::dialects::names;
use crate::problem::{Code, Problem};
use crate::routes::Caller;
use crate::signing::{may, not_halted};

/// The account of every key here: no account of AWS's.
const ACCOUNT: &str = "000000000000";
/// Keys or aliases of one page.
const PAGE_DEFAULT: u64 = 100;
const PAGE_MAX: u64 = 1_000;

/// The region a request was signed for, so that ARNs look as its client expects.
pub(super) fn region(headers: &HeaderMap) -> String {
    let scope = headers.get(AUTHORIZATION).and_then(|value| value.to_str().ok()).and_then(|text| {
        let credential = text.split_once("Credential=")?.1;
        credential.split('/').nth(2)
    });
    let sane = |region: &&str| {
        (1..=32).contains(&region.len())
            && region.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-')
    };
    scope.filter(sane).unwrap_or("us-east-1").to_owned()
}

/// The ARN of a key.
pub(super) fn arn(kid: &Kid, region: &str) -> String {
    format!("arn:aws:kms:{region}:{ACCOUNT}:key/{}", names::uuid(kid))
}

/// What AWS calls an algorithm, preferred first.
pub(super) const fn algorithm_names(algorithm: SignatureAlgorithm) -> &'static [&'static str] {
    match algorithm {
        SignatureAlgorithm::Ed25519 => &["ED25519_SHA_512", "ED25519"],
        SignatureAlgorithm::Ed25519ph => &["ED25519_PH_SHA_512"],
        SignatureAlgorithm::EcdsaP256Sha256 | SignatureAlgorithm::EcdsaSecp256k1Sha256 => &["ECDSA_SHA_256"],
        SignatureAlgorithm::EcdsaP384Sha384 => &["ECDSA_SHA_384"],
        SignatureAlgorithm::RsaSha256 => &["RSASSA_PKCS1_V1_5_SHA_256"],
        SignatureAlgorithm::RsaSha384 => &["RSASSA_PKCS1_V1_5_SHA_384"],
        SignatureAlgorithm::RsaSha512 => &["RSASSA_PKCS1_V1_5_SHA_512"],
        SignatureAlgorithm::RsaPssSha256 => &["RSASSA_PSS_SHA_256"],
        SignatureAlgorithm::RsaPssSha384 => &["RSASSA_PSS_SHA_384"],
        SignatureAlgorithm::RsaPssSha512 => &["RSASSA_PSS_SHA_512"],
        SignatureAlgorithm::MlDsa44 | SignatureAlgorithm::MlDsa65 => &["ML_DSA_SHAKE_256"],
        SignatureAlgorithm::HmacSha256 => &["HMAC_SHA_256"],
        SignatureAlgorithm::HmacSha384 => &["HMAC_SHA_384"],
        SignatureAlgorithm::HmacSha512 => &["HMAC_SHA_512"],
    }
}

/// The names that AWS itself has, for descriptions.
fn described_names(algorithm: SignatureAlgorithm) -> Vec<&'static str> {
    algorithm_names(algorithm).iter().filter(|name| **name != "ED25519").copied().collect()
}

/// Kind and size of the key.
fn spec(key: &KeyEntry, spki: Option<&[u8]>) -> &'static str {
    match key.algorithm.family() {
        KeyFamily::Ed25519 => "ECC_NIST_EDWARDS25519",
        KeyFamily::P256 => "ECC_NIST_P256",
        KeyFamily::P384 => "ECC_NIST_P384",
        KeyFamily::Secp256k1 => "ECC_SECG_P256K1",
        // A SubjectPublicKeyInfo is its modulus and some 40 bytes.
        KeyFamily::Rsa => match spki.map_or(0, <[u8]>::len) {
            0..=340 => "RSA_2048",
            341..=470 => "RSA_3072",
            _ => "RSA_4096",
        },
        KeyFamily::MlDsa44 => "ML_DSA_44",
        KeyFamily::MlDsa65 => "ML_DSA_65",
        KeyFamily::Secret => match key.algorithm {
            SignatureAlgorithm::HmacSha384 => "HMAC_384",
            SignatureAlgorithm::HmacSha512 => "HMAC_512",
            _ => "HMAC_256",
        },
    }
}

const fn usage(key: &KeyEntry) -> &'static str {
    if key.algorithm.is_mac() { "GENERATE_VERIFY_MAC" } else { "SIGN_VERIFY" }
}

/// Usage first, then state: in this order AWS complains.
pub(super) fn check_usage(
    chancery: &Chancery,
    caller: &Caller<'_>,
    key: &KeyEntry,
    region: &str,
    operation: &str,
) -> Result<(), Problem> {
    if key.algorithm.is_mac() != operation.ends_with("Mac") {
        let (arn, usage) = (arn(&key.kid, region), usage(key));
        let words = format!("{arn} key usage is {usage} which is not valid for {operation}.");
        return Err(Problem::new(Code::AlgorithmMismatch, words));
    }
    match operation {
        "Verify" => Ok(()),
        _ => not_halted(chancery, caller, key)
            .map_err(|_| Problem::new(Code::Halted, format!("{} is disabled.", arn(&key.kid, region)))),
    }
}

fn spki(key: &KeyEntry) -> Result<Option<Vec<u8>>, Problem> {
    let Some(pem) = &key.public_key_pem else { return Ok(None) };
    let read = chancery_format::PublicKey::from_pem(key.algorithm, pem).map_err(Problem::internal)?;
    Ok(Some(read.spki_der().to_vec()))
}

/// `GetPublicKey`
pub(super) fn public(key: &KeyEntry, region: &str) -> Result<Value, Problem> {
    let spki = spki(key)?.ok_or_else(|| {
        let words = format!("{} has no public half", arn(&key.kid, region));
        Problem::new(Code::AlgorithmMismatch, words)
    })?;
    let spec = spec(key, Some(&spki));
    Ok(json!({
        "KeyId": arn(&key.kid, region), "PublicKey": blob(&spki), "KeySpec": spec,
        "CustomerMasterKeySpec": spec, "KeyUsage": usage(key),
        "SigningAlgorithms": described_names(key.algorithm),
    }))
}

/// `DescribeKey`
pub(super) fn metadata(chancery: &Chancery, caller: &Caller<'_>, key: &KeyEntry, region: &str) -> Value {
    let published = chancery.registry.load();
    let since = published.registry.signer(key.signer_kid.as_str()).map(|record| record.deployed_at.unix_ms());
    let enabled = not_halted(chancery, caller, key).is_ok() && !chancery.keyring.kill_switch().is_halted();
    let spec = spec(key, spki(key).ok().flatten().as_deref());
    let algorithms = if key.algorithm.is_mac() { "MacAlgorithms" } else { "SigningAlgorithms" };
    json!({ "KeyMetadata": {
        "AWSAccountId": ACCOUNT, "KeyId": names::uuid(&key.kid), "Arn": arn(&key.kid, region),
        "CreationDate": since.unwrap_or_default() as f64 / 1_000.0, "Enabled": enabled,
        "Description": key.description, "KeyUsage": usage(key),
        "KeyState": if enabled { "Enabled" } else { "Disabled" }, "Origin": "EXTERNAL_KEY_STORE",
        "KeyManager": "CUSTOMER", "KeySpec": spec, "CustomerMasterKeySpec": spec,
        algorithms: described_names(key.algorithm), "MultiRegion": false,
    }})
}

/// `ListKeys`
pub(super) fn list(
    chancery: &Chancery,
    caller: &Caller<'_>,
    body: &Body,
    region: &str,
) -> Result<Value, Problem> {
    let all = visible(chancery, caller)?;
    let entry = |kid: &Kid| json!({ "KeyId": names::uuid(kid), "KeyArn": arn(kid, region) });
    page("Keys", all.iter().map(|key| (key.kid.as_str().to_owned(), entry(&key.kid))).collect(), body)
}

/// `ListAliases`
pub(super) fn aliases(
    chancery: &Chancery,
    caller: &Caller<'_>,
    body: &Body,
    region: &str,
) -> Result<Value, Problem> {
    let only = body.text(&["KeyId"])?.and_then(|name| names::named(chancery, name));
    let mut found = Vec::new();
    for key in visible(chancery, caller)? {
        if only.as_ref().is_some_and(|only| only.kid != key.kid) {
            continue;
        }
        let own = format!("alias/{}", key.kid);
        for alias in std::iter::once(&own).chain(key.aliases.iter().filter(|it| it.starts_with("alias/"))) {
            let entry = json!({
                "AliasName": alias, "AliasArn": format!("arn:aws:kms:{region}:{ACCOUNT}:{alias}"),
                "TargetKeyId": names::uuid(&key.kid),
            });
            found.push((alias.clone(), entry));
        }
    }
    found.sort_by(|a, b| a.0.cmp(&b.0));
    page("Aliases", found, body)
}

/// The keys a caller may know of, by name; the ledger's own is nobody's.
fn visible(chancery: &Chancery, caller: &Caller<'_>) -> Result<Vec<std::sync::Arc<KeyEntry>>, Problem> {
    may(chancery, caller, Act::ListKeys, What::Appliance, None)?;
    Ok(chancery.keys().into_iter().filter(|key| !key.is_ledger_key).collect())
}

/// One page of a sorted list; the marker is the last name of the page before.
fn page(name: &str, all: Vec<(String, Value)>, body: &Body) -> Result<Value, Problem> {
    let limit = match body.get("Limit") {
        None => PAGE_DEFAULT,
        Some(value) => value
            .as_u64()
            .filter(|limit| (1..=PAGE_MAX).contains(limit))
            .ok_or_else(|| invalid("Limit", "must be from 1 to 1000"))?,
    };
    let limit = usize::try_from(limit).unwrap_or(usize::MAX);
    let marker = body.text(&["Marker"])?.unwrap_or_default();
    let mut rest = all.into_iter().filter(|(name, _)| name.as_str() > marker);
    let page: Vec<(String, Value)> = rest.by_ref().take(limit).collect();
    let next = rest.next().and(page.last()).map(|(name, _)| name.clone());
    let values: Vec<Value> = page.into_iter().map(|(_, value)| value).collect();
    let mut out = json!({ name: values, "Truncated": next.is_some() });
    if let (Some(next), Value::Object(members)) = (next, &mut out) {
        members.insert("NextMarker".to_owned(), json!(next));
    }
    Ok(out)
}
