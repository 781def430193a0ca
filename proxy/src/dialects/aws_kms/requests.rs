//! What the operations are given, checked in AWS's order.

use std::sync::Arc;

use chancery_format::{Digest, SignatureAlgorithm};

use super::keys::algorithm_names;
use crate::chancery::{Chancery, KeyEntry};
use crate::dialects::body::{Body, invalid};
use crate::dialects::names;
use crate::problem::{Code, Problem};
use crate::routes::Caller;
use crate::signing::Content;

/// Largest message, in bytes. AWS has the same bound.
const MESSAGE_BYTES_MAX: usize = 4_096;

/// Every signing algorithm of AWS, and the word some of the platform's clients send for the first.
const SIGNING: [&str; 14] = [
    "ED25519_SHA_512",
    "ED25519",
    "ED25519_PH_SHA_512",
    "ECDSA_SHA_256",
    "ECDSA_SHA_384",
    "ECDSA_SHA_512",
    "RSASSA_PKCS1_V1_5_SHA_256",
    "RSASSA_PKCS1_V1_5_SHA_384",
    "RSASSA_PKCS1_V1_5_SHA_512",
    "RSASSA_PSS_SHA_256",
    "RSASSA_PSS_SHA_384",
    "RSASSA_PSS_SHA_512",
    "ML_DSA_SHAKE_256",
    "SM2DSA",
];
const MACS: [&str; 4] = ["HMAC_SHA_224", "HMAC_SHA_256", "HMAC_SHA_384", "HMAC_SHA_512"];
const MESSAGE_TYPES: [&str; 3] = ["RAW", "DIGEST", "EXTERNAL_MU"];

/// A request that names a key.
#[derive(Debug)]
pub(super) struct KeyRequest {
    name: String,
}

impl KeyRequest {
    pub(super) fn read(body: &Body) -> Result<Self, Problem> {
        Ok(Self { name: body.required(&["KeyId"])?.to_owned() })
    }

    /// The key, if there is one; nothing is decided about the caller.
    pub(super) fn find(&self, chancery: &Chancery, caller: &Caller<'_>) -> Result<Arc<KeyEntry>, Problem> {
        let found = names::resolve(chancery, caller, Some(&self.name));
        found.map_err(|_| {
            let name: String = self.name.chars().take(128).collect();
            Problem::new(Code::UnknownKid, format!("Key '{name}' does not exist"))
        })
    }
}

/// `Sign`, and what `Verify` has of it.
#[derive(Debug)]
pub(super) struct SignRequest {
    pub(super) key: KeyRequest,
    message: Vec<u8>,
    pub(super) algorithm: &'static str,
    message_type: &'static str,
}

impl SignRequest {
    pub(super) fn read(body: &Body) -> Result<Self, Problem> {
        let key = KeyRequest::read(body)?;
        let message = message(body)?;
        let algorithm = word(body.required(&["SigningAlgorithm"])?, "SigningAlgorithm", &SIGNING)?;
        let message_type = body.text(&["MessageType"])?.unwrap_or("RAW");
        let message_type = word(message_type, "MessageType", &MESSAGE_TYPES)?;
        Ok(Self { key, message, algorithm, message_type })
    }

    /// What the key is applied to.
    pub(super) fn content(&self, key: &KeyEntry) -> Result<Content, Problem> {
        let Self { message, algorithm, message_type, .. } = self;
        fits(key, algorithm)?;
        let incompatible =
            || invalid("MessageType", &format!("{message_type} is incompatible with {algorithm}"));
        let bytes = || message.clone();
        match (key.algorithm, *message_type) {
            (SignatureAlgorithm::Ed25519, "RAW") => Ok(Content::Message(bytes())),
            // The platform's own word comes with digests, which it signs as they are.
            (SignatureAlgorithm::Ed25519, "DIGEST") if *algorithm == "ED25519" => {
                Ok(Content::Message(bytes()))
            }
            (SignatureAlgorithm::MlDsa44 | SignatureAlgorithm::MlDsa65, "RAW") => {
                Ok(Content::Message(bytes()))
            }
            (SignatureAlgorithm::MlDsa44 | SignatureAlgorithm::MlDsa65, "EXTERNAL_MU") => {
                let wrong = || invalid("Message", "must have the 64 bytes of µ (FIPS 204) for EXTERNAL_MU");
                let mu = message.as_slice().try_into().map_err(|_| wrong())?;
                Ok(Content::Digest(Digest::Mu(mu)))
            }
            (SignatureAlgorithm::Ed25519ph, "RAW") => Err(incompatible()),
            (does, "RAW") if does.digest().is_some() => Ok(Content::Message(bytes())),
            (does, "DIGEST") => {
                let hash = does.digest().ok_or_else(incompatible)?;
                let wrong = || {
                    let words = format!("Digest is invalid length for algorithm {algorithm}.");
                    Problem::new(Code::WrongDigestLength, words)
                };
                Digest::from_bytes(hash, message).map(Content::Digest).ok_or_else(wrong)
            }
            _ => Err(incompatible()),
        }
    }
}

/// `GenerateMac`, and what `VerifyMac` has of it.
#[derive(Debug)]
pub(super) struct MacRequest {
    pub(super) key: KeyRequest,
    pub(super) message: Vec<u8>,
    pub(super) algorithm: &'static str,
}

impl MacRequest {
    pub(super) fn read(body: &Body) -> Result<Self, Problem> {
        let key = KeyRequest::read(body)?;
        let message = message(body)?;
        Ok(Self { key, message, algorithm: word(body.required(&["MacAlgorithm"])?, "MacAlgorithm", &MACS)? })
    }

    pub(super) fn content(&self, key: &KeyEntry) -> Result<Content, Problem> {
        fits(key, self.algorithm)?;
        Ok(Content::Message(self.message.clone()))
    }
}

/// Whether the key does what the request names.
fn fits(key: &KeyEntry, algorithm: &str) -> Result<(), Problem> {
    let does = algorithm_names(key.algorithm);
    if does.contains(&algorithm) {
        return Ok(());
    }
    let words = format!(
        "Algorithm {algorithm} is incompatible with key {}, which is for {}.",
        key.kid,
        does.join(", ")
    );
    Err(Problem::new(Code::AlgorithmMismatch, words))
}

fn message(body: &Body) -> Result<Vec<u8>, Problem> {
    let message = body.required_base64(&["Message"])?;
    if (1..=MESSAGE_BYTES_MAX).contains(&message.len()) {
        return Ok(message);
    }
    Err(invalid("Message", &format!("must have 1 to {MESSAGE_BYTES_MAX} bytes, this has {}", message.len())))
}

/// The word as AWS spells it.
fn word<const N: usize>(given: &str, name: &str, known: &[&'static str; N]) -> Result<&'static str, Problem> {
    let found = known.iter().find(|word| **word == given).copied();
    found.ok_or_else(|| invalid(name, &format!("must satisfy enum value set: [{}]", known.join(", "))))
}
