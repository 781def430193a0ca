//! Public keys in whatever file the platform keeps them.
//!
//! Read: `{"signers":[…]}` with any of the names below, a map from name to key or to an object, both in one file, a
//! bare list, and concatenated PEM of keys or certificates. An entry that is not understood is an error with its
//! position, never skipped: a key that is silently missing turns every signature of it into "unknown".
//!
//! Concatenated PEM names no key: such keys may be anybody's who is not named otherwise.

use std::collections::HashMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use chancery_format::{PublicKey, SignatureAlgorithm, Timestamp};
use serde_json::{Map, Value};

use super::certificate::subject_public_key;

const BEGIN: &str = "-----BEGIN ";
const END: &str = "-----END ";
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
    /// What signatures call it; its position where the file has no names.
    pub name: String,
    /// Whether the file names it.
    pub is_named: bool,
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
    /// Positions of each name's keys; a name may have had several.
    by_name: HashMap<String, Vec<usize>>,
    unnamed: Vec<usize>,
    every: Vec<usize>,
}

impl Signers {
    /// Reads a file's text.
    pub fn parse(text: &str) -> Result<Self, SignersError> {
        let text = text.trim_start_matches('\u{feff}').trim_start();
        let all = match text.as_bytes().first() {
            Some(b'{' | b'[') => {
                let value =
                    serde_json::from_str(text).map_err(|error| SignersError::Format(error.to_string()))?;
                json(value)?
            }
            _ if text.contains(BEGIN) => pem(text)?,
            _ => return Err(SignersError::Format("it begins with none of {, [ and -----BEGIN".to_owned())),
        };
        let mut signers = Self { every: (0..all.len()).collect(), ..Self::default() };
        for (at, signer) in all.iter().enumerate() {
            match signer.is_named {
                true => signers.by_name.entry(signer.name.clone()).or_default().push(at),
                false => signers.unnamed.push(at),
            }
        }
        Ok(Self { all, ..signers })
    }

    /// Positions of the keys that may have made a signature of that name, or of a row that names none.
    pub fn candidates(&self, name: Option<&str>) -> &[usize] {
        match name {
            Some(name) => self.by_name.get(name).unwrap_or(&self.unnamed),
            None => &self.every,
        }
    }

    /// Positions of the keys without a name.
    pub fn unnamed(&self) -> &[usize] {
        &self.unnamed
    }

    /// The key at a position.
    pub fn get(&self, at: usize) -> Option<&Signer> {
        self.all.get(at)
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
            // What stands beside the list counts if it is a key: a map may have been merged into the file.
            Some(Value::Array(list)) => {
                let is_key = |value: &Value| value.as_str().is_some_and(|text| text.contains(BEGIN));
                let beside = object.into_iter().filter(|(_, value)| is_key(value)).map(named);
                list.into_iter().chain(beside).collect()
            }
            // A map from name to key.
            other => {
                let signers = other.map(|value| ("signers".to_owned(), value));
                object.into_iter().chain(signers).map(named).collect()
            }
        },
        _ => return Err(SignersError::Format("it is neither an object nor a list".to_owned())),
    };
    list.iter().enumerate().map(|(position, entry)| read(entry, position)).collect()
}

/// An entry of a map from name to key, as one of a list.
fn named((name, value): (String, Value)) -> Value {
    match value {
        Value::Object(mut entry) => {
            entry.entry("kid").or_insert(Value::String(name));
            Value::Object(entry)
        }
        other => Value::Object(Map::from_iter([("kid".into(), Value::String(name)), ("key".into(), other)])),
    }
}

fn read(entry: &Value, position: usize) -> Result<Signer, SignersError> {
    let text = |names: &[&str]| names.iter().find_map(|name| entry.get(name)?.as_str());
    let named = text(&NAME).filter(|name| !name.is_empty());
    let name = named.map_or_else(|| format!("#{position}"), str::to_owned);
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
        Some(text) => chancery_format::chain::dialect::read_moment(text)
            .map(Some)
            .ok_or_else(|| wrong("a time of it is no time")),
    };
    Ok(Signer { key, from: moment(&FROM)?, until: moment(&UNTIL)?, is_named: named.is_some(), name })
}

/// PEM, base64 of SPKI DER, or base64 of 32 raw bytes; the algorithm by its word, or by the key.
fn read_key(text: &str, word: Option<&str>) -> Option<PublicKey> {
    let bytes = if text.contains(BEGIN) {
        block(text)?
    } else {
        STANDARD.decode(text.split_whitespace().collect::<String>()).ok()?
    };
    if let Ok(raw) = <&[u8; 32]>::try_from(bytes.as_slice()) {
        return PublicKey::from_ed25519_raw(raw).ok();
    }
    let rsa = match word {
        Some(word) if word.contains("pss") => SignatureAlgorithm::RsaPssSha256,
        _ => SignatureAlgorithm::RsaSha256,
    };
    // Our own registries name algorithms exactly, of which those writers know only some.
    let said = word.and_then(|word| word.parse::<SignatureAlgorithm>().ok()).filter(|it| !it.is_mac());
    let known = [SignatureAlgorithm::Ed25519, rsa, SignatureAlgorithm::EcdsaP256Sha256];
    said.into_iter().chain(known).find_map(|algorithm| PublicKey::from_der(algorithm, &bytes).ok())
}

/// The public key in a PEM block, whatever its lines look like; of a certificate, the one it is about.
fn block(text: &str) -> Option<Vec<u8>> {
    let body = |label: &str| {
        let (_, rest) = text.split_once(&format!("{BEGIN}{label}-----"))?;
        let (body, _) = rest.split_once(&format!("{END}{label}-----"))?;
        STANDARD.decode(body.replace("\\n", "").split_whitespace().collect::<String>()).ok()
    };
    match body("PUBLIC KEY") {
        Some(key) => Some(key),
        None => subject_public_key(&body("CERTIFICATE")?).map(<[u8]>::to_vec),
    }
}

/// Keys and certificates one after the other; they have no names but their positions.
fn pem(text: &str) -> Result<Vec<Signer>, SignersError> {
    let read = |(position, block): (usize, &str)| {
        let name = format!("#{position}");
        let reason = "is neither a public key nor a certificate in PEM";
        let key = read_key(&format!("{BEGIN}{block}"), None);
        let key = key.ok_or(SignersError::Entry { name: name.clone(), reason })?;
        Ok(Signer { name, is_named: false, key: Some(key), from: None, until: None })
    };
    text.split(BEGIN).skip(1).enumerate().map(read).collect()
}
