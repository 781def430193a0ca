//! The options of Transit, and what is signed under them.

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use chancery_format::{Digest, HashAlgorithm, KeyFamily};
use serde_json::Value;

use super::replies::{self, from_jws};
use crate::chancery::{Chancery, KeyEntry};
use crate::dialects::body::{Body, invalid};
use crate::problem::{Code, Problem};
use crate::signing::Content;

/// Largest input, in bytes; to a key that signs messages AWS's own bound, so that it may live there.
const INPUT_BYTES_MAX: usize = 128 * 1024;
const MESSAGE_BYTES_MAX: usize = 4_096;

/// How an ECDSA signature is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Marshaling {
    /// DER, in standard base64.
    Asn1,
    /// `r` and `s`, in base64 for URLs without padding.
    Jws,
}

/// What a call says beside its input.
#[derive(Debug)]
pub(super) struct Options {
    hash: Option<String>,
    key_version: u64,
    prehashed: bool,
    pss: Option<bool>,
    salt: Salt,
    pub(super) marshaling: Marshaling,
}

/// Length of a PSS salt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Salt {
    Any,
    Bytes(u64),
}

impl Options {
    /// Reads them; the hash in the path wins.
    pub(super) fn read(body: &Body, path_hash: Option<&str>) -> Result<Self, Problem> {
        if body.has("context") {
            return Err(invalid("context", "is for derived keys, of which there are none"));
        }
        let hash = match path_hash {
            Some(hash) => Some(hash),
            None => body.text(&["hash_algorithm", "algorithm"])?,
        };
        Ok(Self {
            hash: hash.map(str::to_owned),
            key_version: number(body, "key_version")?.unwrap_or(0),
            prehashed: body.flag("prehashed")?,
            pss: match body.text(&["signature_algorithm"])? {
                None | Some("") => None,
                Some("pss") => Some(true),
                Some("pkcs1v15") => Some(false),
                Some(_) => return Err(invalid("signature_algorithm", "must be pss or pkcs1v15")),
            },
            salt: match body.get("salt_length") {
                None => Salt::Any,
                Some(Value::String(text)) if ["auto", "hash", "-1", "0"].contains(&text.as_str()) => {
                    Salt::Any
                }
                Some(_) => Salt::Bytes(number(body, "salt_length")?.unwrap_or(0)),
            },
            marshaling: match body.text(&["marshaling_algorithm"])? {
                None | Some("" | "asn1") => Marshaling::Asn1,
                Some("jws") => Marshaling::Jws,
                Some(_) => return Err(invalid("marshaling_algorithm", "must be asn1 or jws")),
            },
        })
    }

    /// The version a new signature has: the latest, whatever was asked otherwise.
    pub(super) fn latest_only(&self, chancery: &Chancery, key: &KeyEntry) -> Result<usize, Problem> {
        let published = chancery.registry.load();
        let latest = replies::versions(&published.registry, &key.kid).len().max(1);
        match self.key_version == 0 || usize::try_from(self.key_version) == Ok(latest) {
            true => Ok(latest),
            false => {
                Err(invalid("key_version", &format!("must be 0 or {latest}: older key pairs sign no more")))
            }
        }
    }

    /// What is signed of one item.
    pub(super) fn prepare(&self, key: &KeyEntry, item: &Body) -> Result<Content, Problem> {
        let input = input(item)?;
        let mismatch = |words: String| Err(Problem::new(Code::AlgorithmMismatch, words));
        let Some(wanted) = key.algorithm.digest() else {
            // Ed25519 and ML-DSA take the message, whatever `prehashed` says.
            if input.len() > MESSAGE_BYTES_MAX {
                return Err(invalid("input", &format!("must have at most {MESSAGE_BYTES_MAX} bytes")));
            }
            return Ok(Content::Message(input));
        };
        if let (KeyFamily::Rsa, Some(pss)) = (key.algorithm.family(), self.pss)
            && pss != key.algorithm.is_pss()
        {
            return mismatch(format!("key {} is for {}", key.kid, key.algorithm));
        }
        if let Salt::Bytes(bytes) = self.salt
            && key.algorithm.is_pss()
            && bytes != wanted.bytes() as u64
        {
            return Err(invalid("salt_length", &format!("must be hash, auto or {}", wanted.bytes())));
        }
        let named = self.hash.as_deref().unwrap_or("sha2-256");
        if named == "none" {
            return Err(invalid(
                "hash_algorithm",
                "none is not offered: name the hash, and send prehashed input",
            ));
        }
        if hash(named) != Some(wanted) {
            let named: String = named.chars().take(32).collect();
            return mismatch(format!("key {} is for {}, not for {named:?}", key.kid, key.algorithm));
        }
        if self.prehashed {
            let digest = Digest::from_bytes(wanted, &input).ok_or_else(|| {
                let words = format!("input must have {} bytes, this has {}", wanted.bytes(), input.len());
                Problem::new(Code::WrongDigestLength, words)
            })?;
            return Ok(Content::Digest(digest));
        }
        Ok(Content::Digest(Digest::of(wanted, &input)))
    }

    /// Whether the key makes MACs, by the hash that is named.
    pub(super) fn check_mac(&self, key: &KeyEntry) -> Result<(), Problem> {
        let named = self.hash.as_deref().unwrap_or("sha2-256");
        match key.algorithm.is_mac() && hash(named) == key.algorithm.hash() {
            true => Ok(()),
            false => {
                let named: String = named.chars().take(32).collect();
                let words = format!("key {} is for {}, not for an HMAC by {named:?}", key.kid, key.algorithm);
                Err(Problem::new(Code::AlgorithmMismatch, words))
            }
        }
    }

    /// A signature's own bytes; `None` if it is written in another way.
    pub(super) fn unmarshal(&self, key: &KeyEntry, text: &str) -> Option<Vec<u8>> {
        match self.marshaling {
            Marshaling::Asn1 => STANDARD.decode(text).ok(),
            Marshaling::Jws => from_jws(key.algorithm, &URL_SAFE_NO_PAD.decode(text).ok()?),
        }
    }
}

/// The bytes of an item.
pub(super) fn input(item: &Body) -> Result<Vec<u8>, Problem> {
    let input = item.required_base64(&["input"])?;
    match input.len() {
        length if length > INPUT_BYTES_MAX => {
            Err(invalid("input", &format!("must have at most {INPUT_BYTES_MAX} bytes")))
        }
        _ => Ok(input),
    }
}

/// `vault:v2:…`
pub(super) fn versioned(text: &str) -> Result<(u64, &str), Problem> {
    let parsed = text.strip_prefix("vault:v").and_then(|rest| {
        let (version, text) = rest.split_once(':')?;
        Some((version.parse().ok()?, text))
    });
    parsed.ok_or_else(|| invalid("signature", "must begin with vault:v and a version"))
}

fn hash(name: &str) -> Option<HashAlgorithm> {
    match name {
        "sha2-256" => Some(HashAlgorithm::Sha256),
        "sha2-384" => Some(HashAlgorithm::Sha384),
        "sha2-512" => Some(HashAlgorithm::Sha512),
        _ => None,
    }
}

/// A number, or the text of one: some clients send either.
fn number(body: &Body, name: &str) -> Result<Option<u64>, Problem> {
    let number = match body.get(name) {
        None => return Ok(None),
        Some(Value::String(text)) => text.parse().ok(),
        Some(value) => value.as_u64(),
    };
    number.map(Some).ok_or_else(|| invalid(name, "must be a whole number"))
}
