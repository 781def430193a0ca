//! Public keys in whatever file the platform keeps them.
//!
//! Read: `{"signers":[…]}` with any of the names below, a map from name to key or to an object, a bare list, and
//! concatenated PEM. An entry that is not understood is an error with its position, never skipped: a key that is
//! silently missing turns every signature of it into "unknown".

use std::collections::HashMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use chancery_format::{PublicKey, SignatureAlgorithm, Timestamp};
use serde_json::{Map, Value};

const NAME: [&str; 5] = ["signer_kid", "signerId", "signer_id", "kid", "id"];
const KEY: [&str; 9] =
    ["public_key_pem", "publicKeyPem", "publicKey", "PublicKey", "public_key", "key", "pub", "pem", "value"];
const ALGORITHM: [&str; 2] = ["algorithm", "alg"];
const FROM: [&str; 2] = ["deployedAt", "createdAt"];
const UNTIL: [&str; 3] = ["retiredAt", "revokedAt", "notAfter"];

/// The file is not one of keys. Whoever made it is at fault.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SignersError {
    /// Neither JSON nor PEM.
    #[error("neither JSON nor PEM: {0}")]
    Format(String),
    /// An entry that cannot be read.
    #[error("signer {name:?}: {reason}")]
    Entry {
        /// The entry's name, or its position.
        name: String,
        /// What is wrong.
        reason: &'static str,
    },
}

/// One key.
#[derive(Debug, Clone)]
pub struct Signer {
    /// What signatures call it.
    pub name: String,
    /// `None` for a MAC's secret, which proves nothing to outsiders.
    pub key: Option<PublicKey>,
    /// Valid from here on, if the file says.
    pub from: Option<Timestamp>,
    /// Not valid any more from here on, if the file says.
    pub until: Option<Timestamp>,
}

/// All keys of a file.
#[derive(Debug, Clone, Default)]
pub struct Signers {
    all: Vec<Signer>,
    by_name: HashMap<String, usize>,
}

impl Signers {
    /// Reads a file's text.
    pub fn parse(text: &str) -> Result<Self, SignersError> {
        let all = match text.trim_start().as_bytes().first() {
            Some(b'-') => pem(text)?,
            _ => {
                let value =
                    serde_json::from_str(text).map_err(|error| SignersError::Format(error.to_string()))?;
                json(value)?
            }
        };
        let by_name = all.iter().enumerate().map(|(at, signer)| (signer.name.clone(), at)).collect();
        Ok(Self { all, by_name })
    }

    /// The key of that name.
    pub fn find(&self, name: &str) -> Option<&Signer> {
        self.all.get(*self.by_name.get(name)?)
    }

    /// Every key.
    pub fn all(&self) -> &[Signer] {
        &self.all
    }
}

fn json(value: Value) -> Result<Vec<Signer>, SignersError> {
    let list = match value {
        Value::Array(list) => list,
        Value::Object(mut object) => match object.remove("signers") {
            Some(Value::Array(list)) => list,
            // A map from name to key.
            _ => {
                let named = object.into_iter().map(|(name, value)| match value {
                    Value::Object(mut entry) => {
                        entry.entry("kid").or_insert(Value::String(name));
                        Value::Object(entry)
                    }
                    other => Value::Object(Map::from_iter([
                        ("kid".into(), Value::String(name)),
                        ("key".into(), other),
                    ])),
                });
                named.collect()
            }
        },
        _ => return Err(SignersError::Format("it is neither an object nor a list".to_owned())),
    };
    list.iter().enumerate().map(|(position, entry)| read(entry, position)).collect()
}

fn read(entry: &Value, position: usize) -> Result<Signer, SignersError> {
    let text = |names: &[&str]| names.iter().find_map(|name| entry.get(name)?.as_str());
    let name = text(&NAME).map_or_else(|| format!("#{position}"), str::to_owned);
    let wrong = |reason| SignersError::Entry { name: name.clone(), reason };
    let word = text(&ALGORITHM).map(str::to_ascii_lowercase);
    let key = match word.as_deref() {
        Some(word) if word.contains("hmac") => None,
        word => {
            let key = text(&KEY).ok_or_else(|| wrong("has no key"))?;
            Some(read_key(key, word).ok_or_else(|| wrong("its key is not one that is known here"))?)
        }
    };
    let moment = |names: &[&str]| match text(names) {
        None => Ok(None),
        Some(text) => {
            super::dialect::read_moment(text).map(Some).ok_or_else(|| wrong("a time of it is no time"))
        }
    };
    Ok(Signer { key, from: moment(&FROM)?, until: moment(&UNTIL)?, name })
}

/// PEM, base64 of SPKI DER, or base64 of 32 raw bytes; the algorithm by its word, or by the key.
fn read_key(text: &str, word: Option<&str>) -> Option<PublicKey> {
    let bytes = match text.contains("-----BEGIN") {
        true => block(text)?,
        false => STANDARD.decode(text.trim()).ok()?,
    };
    if let Ok(raw) = <&[u8; 32]>::try_from(bytes.as_slice()) {
        return PublicKey::from_ed25519_raw(raw).ok();
    }
    let rsa = match word {
        Some(word) if word.contains("pss") => SignatureAlgorithm::RsaPssSha256,
        _ => SignatureAlgorithm::RsaSha256,
    };
    let known = [SignatureAlgorithm::Ed25519, rsa, SignatureAlgorithm::EcdsaP256Sha256];
    known.into_iter().find_map(|algorithm| PublicKey::from_der(algorithm, &bytes).ok())
}

/// The bytes of a PEM block, whatever its lines look like.
fn block(text: &str) -> Option<Vec<u8>> {
    let (_, rest) = text.split_once("-----BEGIN PUBLIC KEY-----")?;
    let (body, _) = rest.split_once("-----END PUBLIC KEY-----")?;
    let body = body.replace("\\n", "");
    STANDARD.decode(body.split_whitespace().collect::<String>()).ok()
}

/// Keys one after the other; they have no names but their positions.
fn pem(text: &str) -> Result<Vec<Signer>, SignersError> {
    let blocks =
        text.split_inclusive("-----END PUBLIC KEY-----").filter(|block| block.contains("-----BEGIN"));
    let read = |(position, block): (usize, &str)| {
        let name = format!("#{position}");
        let reason = "is no public key in PEM (certificates are not read)";
        let key = read_key(block, None).ok_or(SignersError::Entry { name: name.clone(), reason })?;
        Ok(Signer { name, key: Some(key), from: None, until: None })
    };
    blocks.enumerate().map(read).collect()
}
