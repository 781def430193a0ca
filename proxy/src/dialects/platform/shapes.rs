//! What a body of `/sign` or `/verify` means.

use chancery_format::canonical::CanonicalJson;
use chancery_format::{Digest, HashAlgorithm, SignatureAlgorithm, Timestamp};

use super::kernel_reads;
use crate::chancery::KeyEntry;
use crate::dialects::Dialect;
use crate::dialects::body::{Body, invalid, missing};
use crate::problem::{Code, Problem};
use crate::signing::Content;

/// What clients call the key.
pub(super) const SIGNER: &[&str] =
    &["signerId", "signer_id", "kid", "key_id", "keyId", "signer_kid", "signer"];
/// What they call a signature.
pub(super) const SIGNATURE: &[&str] = &["signature", "signature_b64", "signatureB64"];
/// Largest text or data signed, in bytes: AWS KMS takes no more, so a key may live there.
const MESSAGE_BYTES_MAX: usize = 4_096;
/// Largest text that is hashed, and whose hash is signed.
const TEXT_BYTES_MAX: usize = 128 * 1024;

/// The members of which exactly one says what is signed.
const KINDS: [&str; 9] = [
    "payload",
    "payload_b64",
    "digest_hex",
    "digestHex",
    "hash",
    "sha256",
    "data",
    "upgradeId",
    "canonical_payload",
];

/// One body, understood.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Shape {
    /// The language it is in.
    pub(super) dialect: Dialect,
    /// The key it names.
    pub(super) signer: Option<String>,
    /// What is signed.
    pub(super) what: Signed,
    /// The algorithm it names.
    pub(super) algorithm: Option<String>,
    /// The manifest it belongs to; echoed.
    pub(super) manifest_id: Option<String>,
}

/// What is signed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Signed {
    /// A text, with the time inside it.
    Text { text: String, ts: Option<String> },
    /// Bytes: a message, or to an RSA or ECDSA key a digest if they are as long as one.
    Bytes(Vec<u8>),
    /// Bytes: a message.
    Message(Vec<u8>),
    /// A digest.
    Digest([u8; 32]),
    /// The text of a digest, as a message.
    HexText(String),
}

impl Shape {
    /// `POST /sign`
    pub(super) fn of_sign(body: &Body) -> Result<Self, Problem> {
        let there: Vec<&str> = KINDS.into_iter().filter(|name| body.has(name)).collect();
        let [kind] = there.as_slice() else {
            let found = if there.is_empty() { "none".to_owned() } else { there.join(" and ") };
            let detail = format!("the body must have exactly one of {}; it has {found}", KINDS.join(", "));
            return Err(Problem::new(Code::InvalidField, detail));
        };
        let (dialect, what) = match *kind {
            "payload" => (Dialect::Kernel, text_with_ts(body.required(&["payload"])?, "payload")?),
            "payload_b64" => (Dialect::Payload, Signed::Bytes(bytes(body, "payload_b64")?)),
            "data" => (Dialect::Marketplace, Signed::Message(bytes(body, "data")?)),
            "sha256" => {
                let text = body.required(&["sha256"])?;
                digest(text, "sha256")?;
                (Dialect::Platform, Signed::HexText(text.to_owned()))
            }
            "upgradeId" => {
                body.required(&["upgradeId"])?;
                digest(body.required(&["manifestHash"])?, "manifestHash")?;
                let message = body.canonical()?.as_bytes().to_vec();
                (Dialect::ControlPanel, Signed::Message(bounded(message, "upgradeId", MESSAGE_BYTES_MAX)?))
            }
            "canonical_payload" => (Dialect::Digest, hashed_text(body, "canonical_payload")?),
            name => (Dialect::Digest, Signed::Digest(digest(body.required(&[name])?, name)?)),
        };
        let shape = Self::new(body, dialect, what)?;
        // Of the languages that name an algorithm this one must, because its clients send nothing else to tell.
        match dialect == Dialect::Marketplace && shape.algorithm.is_none() {
            true => Err(missing("algorithm")),
            false => Ok(shape),
        }
    }

    /// `POST /signData`: text that begins with `{` is not base64.
    pub(super) fn of_data(body: &Body) -> Result<Self, Problem> {
        let names = ["data", "payload"];
        let text = body.required(&names)?;
        let what = match text.starts_with('{') {
            true => text_with_ts(text, "data")?,
            false => {
                let decoded = body.required_base64(&names)?;
                Signed::Message(bounded(decoded, "data", MESSAGE_BYTES_MAX)?)
            }
        };
        Self::new(body, Dialect::Kernel, what)
    }

    /// `POST /sign/hash`
    pub(super) fn of_hash(body: &Body) -> Result<Self, Problem> {
        let text = body.required(&["digest_hex", "digestHex"])?;
        Self::new(body, Dialect::Digest, Signed::Digest(digest(text, "digest_hex")?))
    }

    /// `POST /sign/canonical`
    pub(super) fn of_canonical(body: &Body) -> Result<Self, Problem> {
        let what = hashed_text(body, "canonical")?;
        Self::new(body, Dialect::Digest, what)
    }

    /// `POST /verify`: the same, as far as it can be verified.
    pub(super) fn of_verify(body: &Body) -> Result<Self, Problem> {
        Self::of_sign(body)
    }

    fn new(body: &Body, dialect: Dialect, what: Signed) -> Result<Self, Problem> {
        let owned = |names: &[&str]| body.text(names).map(|text| text.map(str::to_owned));
        Ok(Self {
            dialect,
            signer: owned(SIGNER)?,
            what,
            algorithm: owned(&["algorithm", "alg"])?,
            manifest_id: owned(&["manifestId", "manifest_id"])?,
        })
    }

    /// What a key of this algorithm is applied to.
    pub(super) fn content(&self, algorithm: SignatureAlgorithm) -> Content {
        match &self.what {
            Signed::Text { text, .. } | Signed::HexText(text) => Content::Message(text.as_bytes().to_vec()),
            Signed::Message(bytes) => Content::Message(bytes.clone()),
            Signed::Bytes(bytes) => match algorithm.digest().and_then(|hash| Digest::from_bytes(hash, bytes))
            {
                Some(digest) => Content::Digest(digest),
                None => Content::Message(bytes.clone()),
            },
            Signed::Digest(bytes) => Content::Digest(Digest::Sha256(*bytes)),
        }
    }

    /// The time inside the signed bytes, if it is one that an entry can hold.
    pub(super) fn signed_ts(&self) -> Option<Timestamp> {
        match &self.what {
            Signed::Text { ts: Some(ts), .. } => ts.parse().ok(),
            _ => None,
        }
    }

    /// Whether the key does what the body names, and what the client can read.
    pub(super) fn check_algorithm(&self, key: &KeyEntry) -> Result<(), Problem> {
        let does = key.algorithm;
        let mismatch = |detail: String| Err(Problem::new(Code::AlgorithmMismatch, detail));
        if does.is_mac() {
            return mismatch(format!("key {} is for {does}, which does not sign", key.kid));
        }
        if let Some(word) = self.algorithm.as_deref().filter(|word| !means(word, does)) {
            let word: String = word.chars().take(64).collect();
            return mismatch(format!("key {} is for {does}, not for {word:?}", key.kid));
        }
        if self.dialect == Dialect::Kernel && !kernel_reads(does) {
            return mismatch(format!("key {} is for {does}; this language knows Ed25519 and RSA", key.kid));
        }
        Ok(())
    }
}

/// Whether a word that some client uses means this algorithm.
pub(super) fn means(word: &str, algorithm: SignatureAlgorithm) -> bool {
    let plain: String = word.to_ascii_lowercase().replace(['_', '.'], "-");
    match algorithm {
        SignatureAlgorithm::Ed25519 => {
            ["ed25519", "ed25519-sha", "ed25519-sha-512", "eddsa"].contains(&plain.as_str())
        }
        SignatureAlgorithm::RsaSha256 => {
            ["rsassa-pkcs1-v1-5-sha-256", "rsa-pkcs1-sha-256", "rsa-pkcs1-sha256", "rsa-sha256", "rsa"]
                .contains(&plain.as_str())
        }
        SignatureAlgorithm::RsaPssSha256 => {
            ["rsassa-pss-sha-256", "rsa-pss-sha-256", "rsa-pss-sha256"].contains(&plain.as_str())
        }
        SignatureAlgorithm::EcdsaP256Sha256 => {
            ["ecdsa-sha-256", "ecdsa-p256-sha256", "es256"].contains(&plain.as_str())
        }
        other => plain == other.as_str(),
    }
}

fn bytes(body: &Body, name: &str) -> Result<Vec<u8>, Problem> {
    bounded(body.required_base64(&[name])?, name, MESSAGE_BYTES_MAX)
}

fn bounded(bytes: Vec<u8>, name: &str, bytes_max: usize) -> Result<Vec<u8>, Problem> {
    match bytes.len() {
        0 => Err(invalid(name, "must not be empty")),
        length if length > bytes_max => Err(Problem::new(
            Code::BodyTooLarge,
            format!("field {name} has {length} bytes, the limit is {bytes_max}"),
        )),
        _ => Ok(bytes),
    }
}

fn digest(text: &str, name: &str) -> Result<[u8; 32], Problem> {
    match Digest::parse("sha256", text) {
        Ok(Digest::Sha256(bytes)) => Ok(bytes),
        _ => {
            let detail = format!("field {name} must be a SHA-256 in 64 lower-case hexadecimal characters");
            Err(Problem::new(Code::InvalidDigest, detail))
        }
    }
}

/// A text that is hashed here.
fn hashed_text(body: &Body, name: &str) -> Result<Signed, Problem> {
    let text = bounded(body.required(&[name])?.as_bytes().to_vec(), name, TEXT_BYTES_MAX)?;
    match Digest::of(HashAlgorithm::Sha256, &text) {
        Digest::Sha256(bytes) => Ok(Signed::Digest(bytes)),
        other => Err(Problem::internal(format!("{} is no SHA-256", other.algorithm()))),
    }
}

/// A JSON object as text, with its own `ts`.
fn text_with_ts(text: &str, name: &str) -> Result<Signed, Problem> {
    let text = String::from_utf8(bounded(text.as_bytes().to_vec(), name, MESSAGE_BYTES_MAX)?);
    let text = text.map_err(Problem::internal)?;
    let object = CanonicalJson::parse(text.as_bytes()).ok().filter(CanonicalJson::is_object);
    let object = object.ok_or_else(|| invalid(name, "must be the text of a JSON object"))?;
    let body = Body::read(object.as_bytes())?;
    let ts = body.text(&["ts"])?.map(str::to_owned);
    Ok(Signed::Text { text, ts })
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a failed unwrap is the test's failure")]
    use super::*;

    const HEX: &str = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08";

    fn read(json: &str) -> Result<Shape, Problem> {
        Shape::of_sign(&Body::read(json.as_bytes()).unwrap())
    }

    #[test]
    fn the_member_tells_the_language_and_what_is_signed() {
        let hex = |member: &str| format!(r#"{{"{member}":"{HEX}"}}"#);
        for (json, dialect) in [
            (r#"{"payload":"{\"ts\":\"x\"}","signerId":"s"}"#.to_owned(), Dialect::Kernel),
            (r#"{"payload_b64":"aGVsbG8=","key_id":"s"}"#.to_owned(), Dialect::Payload),
            (hex("digest_hex"), Dialect::Digest),
            (hex("digestHex"), Dialect::Digest),
            (hex("hash"), Dialect::Digest),
            (hex("sha256"), Dialect::Platform),
            (
                r#"{"data":"aGVsbG8=","algorithm":"RSASSA_PKCS1_V1_5_SHA_256"}"#.to_owned(),
                Dialect::Marketplace,
            ),
            (format!(r#"{{"upgradeId":"u","manifestHash":"{HEX}"}}"#), Dialect::ControlPanel),
            (r#"{"canonical_payload":"{}"}"#.to_owned(), Dialect::Digest),
        ] {
            assert_eq!(read(&json).unwrap().dialect, dialect, "{json}");
        }
        let named = read(r#"{"payload_b64":"aGVsbG8=","key_id":"s"}"#).unwrap();
        assert_eq!(named.signer.as_deref(), Some("s"));
    }

    #[test]
    fn a_body_that_can_be_read_two_ways_is_refused() {
        for json in [
            "{}".to_owned(),
            r#"{"payload_b64":null}"#.to_owned(),
            format!(r#"{{"hash":"{HEX}","digest_hex":"{HEX}"}}"#),
            format!(r#"{{"payload_b64":"aGVsbG8=","sha256":"{HEX}"}}"#),
            r#"{"data":"aGVsbG8="}"#.to_owned(),
            r#"{"payload":"no object"}"#.to_owned(),
            r#"{"payload_b64":""}"#.to_owned(),
            format!(r#"{{"hash":"{}"}}"#, HEX.to_uppercase()),
            r#"{"hash":"abcd"}"#.to_owned(),
            r#"{"upgradeId":"u"}"#.to_owned(),
        ] {
            assert!(read(&json).is_err(), "{json}");
        }
    }

    #[test]
    fn bytes_as_long_as_a_digest_are_one_to_a_key_that_takes_digests() {
        let shape = read(&format!(r#"{{"payload_b64":"{}="}}"#, "A".repeat(43))).unwrap();
        assert!(matches!(shape.content(SignatureAlgorithm::RsaSha256), Content::Digest(_)));
        assert!(matches!(shape.content(SignatureAlgorithm::Ed25519), Content::Message(_)));
        let longer = read(r#"{"payload_b64":"aGVsbG8="}"#).unwrap();
        assert!(matches!(longer.content(SignatureAlgorithm::RsaSha256), Content::Message(_)));
    }

    #[test]
    fn data_is_text_or_base64_by_its_first_character() {
        let data = |json: &str| Shape::of_data(&Body::read(json.as_bytes()).unwrap());
        let text = data(r#"{"data":"{\"data\":\"ab\",\"ts\":\"2026-01-01T00:00:00.000Z\"}"}"#).unwrap();
        assert_eq!(text.signed_ts().unwrap().to_string(), "2026-01-01T00:00:00.000Z");
        assert_eq!(data(r#"{"data":"AQI="}"#).unwrap().what, Signed::Message(vec![1, 2]));
        assert!(data(r#"{"data":"AQI"}"#).is_err() && data(r#"{"data":"{"}"#).is_err());
    }

    #[test]
    fn words_for_algorithms_are_those_clients_use() {
        for (word, algorithm) in [
            ("RSASSA_PKCS1_V1_5_SHA_256", SignatureAlgorithm::RsaSha256),
            ("RSA_PKCS1_SHA_256", SignatureAlgorithm::RsaSha256),
            ("rsa-sha256", SignatureAlgorithm::RsaSha256),
            ("RSA", SignatureAlgorithm::RsaSha256),
            ("RSASSA_PSS_SHA_256", SignatureAlgorithm::RsaPssSha256),
            ("RSA_PSS_SHA_256", SignatureAlgorithm::RsaPssSha256),
            ("Ed25519", SignatureAlgorithm::Ed25519),
            ("ED25519", SignatureAlgorithm::Ed25519),
            ("ed25519-sha", SignatureAlgorithm::Ed25519),
        ] {
            assert!(means(word, algorithm), "{word}");
        }
        assert!(!means("rsa", SignatureAlgorithm::Ed25519) && !means("", SignatureAlgorithm::Ed25519));
        assert!(!means("RSASSA_PSS_SHA_256", SignatureAlgorithm::RsaSha256));
    }
}
