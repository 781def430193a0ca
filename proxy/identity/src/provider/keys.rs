//! The provider's keys (RFC 7517): which may verify what.
//!
//! Kept are keys for signatures of an algorithm we know, of sufficient size. Others are passed over: providers
//! publish keys for encryption and for newer algorithms in the same place. Two kept keys of one `kid` are
//! refused, with the whole set: nobody could say which one a token means.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::DecodingKey;
use serde::Deserialize;

use super::TokenAlgorithm;
use crate::limits;

/// Why a whole set is refused. The provider is at fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum KeySetError {
    #[error("two keys have one kid")]
    DuplicateKid,
    #[error("more than {} keys", limits::KEYS_MAX)]
    TooMany,
    #[error("no key that signs with an algorithm we know")]
    Empty,
}

/// A key set as it is published.
#[derive(Deserialize)]
pub(crate) struct PublishedKeys {
    keys: Vec<serde_json::Value>,
}

#[derive(Deserialize)]
struct PublishedKey {
    kty: String,
    #[serde(rename = "use")]
    usage: Option<String>,
    key_ops: Option<Vec<String>>,
    alg: Option<String>,
    kid: Option<String>,
    crv: Option<String>,
    n: Option<String>,
    e: Option<String>,
    x: Option<String>,
    y: Option<String>,
}

pub(crate) struct KeySet {
    keys: Vec<SigningKey>,
}

struct SigningKey {
    kid: Option<String>,
    /// What this kind of key can do, and the provider says it does.
    algorithms: Vec<TokenAlgorithm>,
    key: DecodingKey,
}

/// What a set has for a token.
pub(crate) enum Found {
    Key(DecodingKey),
    Unknown,
    /// The key is there, but for another algorithm.
    OtherAlgorithm,
}

impl KeySet {
    pub(crate) fn read(published: PublishedKeys) -> Result<Self, KeySetError> {
        if published.keys.len() > limits::KEYS_MAX {
            return Err(KeySetError::TooMany);
        }
        let read = |value| serde_json::from_value(value).ok().and_then(signing_key);
        let keys: Vec<SigningKey> = published.keys.into_iter().filter_map(read).collect();
        let mut kids: Vec<_> = keys.iter().filter_map(|key| key.kid.as_ref()).collect();
        kids.sort_unstable();
        if kids.windows(2).any(|pair| pair.first() == pair.last()) {
            return Err(KeySetError::DuplicateKid);
        }
        if keys.is_empty() { Err(KeySetError::Empty) } else { Ok(Self { keys }) }
    }

    /// The key a header names. Without a `kid` only if there is no choice (OpenID Connect Core 1.0, section
    /// 10.1).
    pub(crate) fn find(&self, kid: Option<&str>, algorithm: TokenAlgorithm) -> Found {
        let key = match kid {
            Some(kid) => self.keys.iter().find(|key| key.kid.as_deref() == Some(kid)),
            None => self.keys.first().filter(|_| self.keys.len() == 1),
        };
        match key {
            None => Found::Unknown,
            Some(key) if key.algorithms.contains(&algorithm) => Found::Key(key.key.clone()),
            Some(_) => Found::OtherAlgorithm,
        }
    }
}

/// `None` for a key that is not for us.
fn signing_key(published: PublishedKey) -> Option<SigningKey> {
    let for_signatures = published.usage.as_deref().is_none_or(|usage| usage == "sig")
        && published.key_ops.as_ref().is_none_or(|operations| operations.iter().any(|it| it == "verify"));
    if !for_signatures {
        return None;
    }
    let (mut algorithms, key) = match (published.kty.as_str(), published.crv.as_deref()) {
        ("RSA", _) => (vec![TokenAlgorithm::Rs256, TokenAlgorithm::Ps256], rsa(&published)?),
        ("EC", Some("P-256")) => (vec![TokenAlgorithm::Es256], p256(&published)?),
        ("OKP", Some("Ed25519")) => (vec![TokenAlgorithm::EdDsa], ed25519(&published)?),
        _ => return None,
    };
    if let Some(alg) = &published.alg {
        // RFC 9864 has a second name for EdDSA with this curve.
        let named = TokenAlgorithm::parse(if alg == "Ed25519" { "EdDSA" } else { alg });
        algorithms.retain(|algorithm| Some(*algorithm) == named);
    }
    (!algorithms.is_empty()).then_some(SigningKey { kid: published.kid, algorithms, key })
}

fn rsa(published: &PublishedKey) -> Option<DecodingKey> {
    let (n, e) = (published.n.as_ref()?, published.e.as_ref()?);
    let modulus = URL_SAFE_NO_PAD.decode(n).ok()?;
    let leading_zeros = modulus.iter().take_while(|byte| **byte == 0).count();
    if !limits::RSA_MODULUS_BYTES.contains(&(modulus.len() - leading_zeros)) {
        return None;
    }
    DecodingKey::from_rsa_components(n, e).ok()
}

fn p256(published: &PublishedKey) -> Option<DecodingKey> {
    let (x, y) = (published.x.as_ref()?, published.y.as_ref()?);
    let whole = |part: &String| URL_SAFE_NO_PAD.decode(part).is_ok_and(|bytes| bytes.len() == 32);
    if whole(x) && whole(y) { DecodingKey::from_ec_components(x, y).ok() } else { None }
}

fn ed25519(published: &PublishedKey) -> Option<DecodingKey> {
    let x = published.x.as_ref()?;
    let whole = URL_SAFE_NO_PAD.decode(x).is_ok_and(|bytes| bytes.len() == 32);
    if whole { DecodingKey::from_ed_components(x).ok() } else { None }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn coordinate() -> String {
        URL_SAFE_NO_PAD.encode([7u8; 32])
    }

    /// A P-256 key with some members replaced; whether its point exists does not matter here.
    fn ec(changes: &Value) -> Value {
        let mut key = json!({"kty": "EC", "crv": "P-256", "kid": "a", "x": coordinate(), "y": coordinate()});
        if let (Some(key), Some(changes)) = (key.as_object_mut(), changes.as_object()) {
            key.extend(changes.clone());
        }
        key
    }

    fn set(keys: &[Value]) -> Result<KeySet, KeySetError> {
        KeySet::read(PublishedKeys { keys: keys.to_vec() })
    }

    fn rsa(bytes: usize) -> Value {
        let modulus: Vec<u8> = std::iter::repeat_n(0xff, bytes).collect();
        json!({"kty": "RSA", "kid": "r", "n": URL_SAFE_NO_PAD.encode(modulus), "e": "AQAB"})
    }

    #[test]
    fn only_keys_for_signatures_we_know_are_kept() {
        for (key, kept) in [
            (ec(&json!({})), true),
            (ec(&json!({"use": "sig", "alg": "ES256", "key_ops": ["verify"]})), true),
            (ec(&json!({"use": "enc"})), false),
            (ec(&json!({"key_ops": ["deriveKey"]})), false),
            (ec(&json!({"alg": "ES384"})), false),
            (ec(&json!({"alg": "ECDH-ES"})), false),
            (ec(&json!({"crv": "P-384"})), false),
            (ec(&json!({"x": "AA"})), false),
            (ec(&json!({"kid": 7})), false),
            (rsa(256), true),
            (rsa(255), false),
            (rsa(1025), false),
            (json!({"kty": "oct", "kid": "h", "k": coordinate()}), false),
            (json!({"kty": "OKP", "crv": "Ed25519", "kid": "e", "x": coordinate()}), true),
            (json!({"kty": "OKP", "crv": "Ed25519", "alg": "Ed25519", "x": coordinate()}), true),
            (json!({"kty": "OKP", "crv": "X25519", "kid": "e", "x": coordinate()}), false),
            (json!("key"), false),
        ] {
            assert_eq!(set(std::slice::from_ref(&key)).is_ok(), kept, "{key}");
        }
        assert_eq!(set(&[]).err(), Some(KeySetError::Empty));
    }

    #[test]
    fn one_kid_is_one_key() {
        let twice = [ec(&json!({})), rsa(256), ec(&json!({}))];
        assert_eq!(set(&twice).err(), Some(KeySetError::DuplicateKid));
        // A key for encryption may share its name: it never verifies anything.
        assert!(set(&[ec(&json!({})), ec(&json!({"use": "enc"}))]).is_ok());
        let many: Vec<_> = (0..=limits::KEYS_MAX).map(|n| ec(&json!({"kid": n.to_string()}))).collect();
        assert_eq!(set(&many).err(), Some(KeySetError::TooMany));
    }

    #[test]
    fn a_key_serves_its_own_algorithm_and_an_unnamed_one_only_without_choice() -> Result<(), KeySetError> {
        let both = set(&[ec(&json!({})), rsa(256)])?;
        assert!(matches!(both.find(Some("a"), TokenAlgorithm::Es256), Found::Key(_)));
        assert!(matches!(both.find(Some("a"), TokenAlgorithm::Rs256), Found::OtherAlgorithm));
        assert!(matches!(both.find(Some("b"), TokenAlgorithm::Es256), Found::Unknown));
        assert!(matches!(both.find(None, TokenAlgorithm::Es256), Found::Unknown));
        let one = set(&[rsa(256)])?;
        assert!(matches!(one.find(None, TokenAlgorithm::Ps256), Found::Key(_)));
        assert!(matches!(one.find(None, TokenAlgorithm::Es256), Found::OtherAlgorithm));
        Ok(())
    }
}
