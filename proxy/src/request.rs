//! Bytes from the connection become typed requests, once; behind this file nothing is raw.
//!
//! Bodies are read up to a bound and a deadline. JSON is read strictly (see `strict_json.rs`): every
//! fault has its own error naming the field. Digests are lower-case hex, other binary is padded
//! standard base64, each in its one spelling. Every request also becomes a hash over what it asks, so
//! that a retry is told from a different request under the same `Idempotency-Key`.

mod body;
mod event;
mod mac;

use std::time::Duration;

use chancery_format::canonical::{CanonicalJson, Reason};
use chancery_format::digest::DigestError;
use chancery_format::names::Purpose;
use chancery_format::{Digest, Hash, Kid};
use serde_json::value::RawValue;

pub use self::body::{idempotency_key, item_key, peer_uid, read_any, read_json, request_id};
pub use self::event::{EVENT_FIELDS, EventRequest};
pub use self::mac::{MAC_FIELDS, MAC_VERIFY_FIELDS, MacRequest};
use crate::strict_json::{Fields, JsonError, Place};

/// Longest context of a signature, in bytes: with everything else its leaf stays below 65,535 bytes, so
/// that what a key did can always be recorded.
pub const METADATA_BYTES_MAX: usize = 32 * 1024;

/// Why a request was refused before anybody looked at what it asks. Nothing has happened.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RequestError {
    /// Not the JSON the call takes. The caller is at fault.
    #[error(transparent)]
    Json(#[from] JsonError),
    /// The body is over its bound. The caller is at fault.
    #[error("the body is larger than {bytes_max} bytes")]
    BodyTooLarge {
        /// The bound.
        bytes_max: usize,
    },
    /// The body did not arrive in time. Retry.
    #[error("the body did not arrive within {} ms", after.as_millis())]
    BodyTimeout {
        /// The deadline.
        after: Duration,
    },
    /// The connection failed under the body. Retry.
    #[error("the body ended early")]
    BodyIncomplete,
    /// Not `application/json`. The caller is at fault.
    #[error("the body must be application/json in UTF-8, without content coding")]
    MediaType,
    /// More items than a batch may have. Split it.
    #[error("the batch has {items} items, the limit is {items_max}")]
    TooManyItems {
        /// What was sent.
        items: usize,
        /// The bound.
        items_max: usize,
    },
    /// A digest of the wrong length: most often a document or another algorithm's digest.
    #[error(
        "field {field}: a {algorithm} digest for key {kid} has {expected} hexadecimal characters, this has {got}"
    )]
    DigestLength {
        /// The member's path.
        field: String,
        /// The key it was meant for.
        kid: Kid,
        /// The digest algorithm.
        algorithm: &'static str,
        /// Characters expected.
        expected: usize,
        /// Characters sent.
        got: usize,
    },
    /// A digest that is no digest.
    #[error("field {field} for key {kid}: {reason}")]
    Digest {
        /// The member's path.
        field: String,
        /// The key it was meant for.
        kid: Kid,
        /// What is wrong.
        reason: DigestError,
    },
    /// Binary that is not padded standard base64 in its one spelling.
    #[error("field {field} must be standard base64 with padding")]
    Base64 {
        /// The member's path.
        field: String,
    },
    /// The caller's context would not fit its leaf. Send a digest of it instead.
    #[error("field {field} has {bytes} bytes as canonical JSON, the limit is {METADATA_BYTES_MAX}")]
    MetadataTooLarge {
        /// The member's path.
        field: String,
        /// What was sent.
        bytes: usize,
    },
    /// A name that is the appliance's, or another principal's, own.
    #[error("{field} {name:?} is reserved")]
    Reserved {
        /// The member's path.
        field: String,
        /// The name.
        name: String,
    },
    /// A header or query parameter breaks its rule.
    #[error("{name} {rule}")]
    Parameter {
        /// Its name.
        name: &'static str,
        /// What it must be.
        rule: String,
    },
}

/// What becomes the digest's signature.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// One made by the key for this digest.
    Individual,
    /// The receipt: the digest's place on the ledger under a checkpoint that the ledger key signed.
    Anchored,
}

/// One digest to sign.
#[derive(Debug, Clone)]
pub struct SignRequest {
    /// The key.
    pub kid: Kid,
    /// What to sign.
    pub digest: Digest,
    /// How.
    pub mode: Mode,
    /// What it is for.
    pub purpose: Option<Purpose>,
    /// The caller's context.
    pub metadata: Option<CanonicalJson>,
    /// Whether to say what would happen and do nothing.
    pub dry_run: bool,
    /// Hash over all of the above.
    pub hash: Hash,
}

/// Fields of `POST /v1/sign`, and of an item of `/v1/sign/batch`.
pub const SIGN_FIELDS: [&str; 7] =
    ["kid", "digest", "digestAlgorithm", "mode", "purpose", "metadata", "dryRun"];

impl SignRequest {
    /// Reads the body of `POST /v1/sign`.
    pub fn read(body: &[u8]) -> Result<Self, RequestError> {
        Self::from_fields(&Fields::read_body(body, &SIGN_FIELDS)?)
    }

    /// Reads one item of `POST /v1/sign/batch`.
    pub fn read_item(item: &RawValue, position: usize) -> Result<Self, RequestError> {
        Self::from_fields(&Fields::read(item.get(), &SIGN_FIELDS, Place::Item(position))?)
    }

    fn from_fields(fields: &Fields<'_, 7>) -> Result<Self, RequestError> {
        let dry_run = fields.flag("dryRun")?;
        let kid: Kid = fields.parsed("kid")?;
        let algorithm = fields.text("digestAlgorithm")?;
        let digest = read_digest(fields, &kid, &algorithm)?;
        let mode = match fields.optional_text("mode")?.as_deref() {
            None | Some("individual") => Mode::Individual,
            Some("anchored") => Mode::Anchored,
            Some(_) => return Err(fields.invalid("mode", "must be \"individual\" or \"anchored\"").into()),
        };
        let purpose: Option<Purpose> = fields.optional_parsed("purpose")?;
        let metadata = optional_object(fields, "metadata")?;
        let bytes = metadata.as_ref().map_or(0, |metadata| metadata.as_bytes().len());
        if bytes > METADATA_BYTES_MAX {
            return Err(RequestError::MetadataTooLarge { field: fields.path("metadata"), bytes });
        }
        let hash = Hash::of(&[
            match mode {
                Mode::Individual => b"chancery/sign\0".as_slice(),
                Mode::Anchored => b"chancery/anchor\0",
            },
            kid.as_str().as_bytes(),
            b"\0",
            digest.algorithm().as_bytes(),
            b"\0",
            digest.as_bytes(),
            purpose.as_ref().map_or(b"", |purpose| purpose.as_str().as_bytes()),
            b"\0",
            metadata.as_ref().map_or(b"", CanonicalJson::as_bytes),
        ]);
        Ok(Self { kid, digest, mode, purpose, metadata, dry_run, hash })
    }
}

/// A digest and a signature to check.
#[derive(Debug, Clone)]
pub struct VerifyRequest {
    /// The key.
    pub kid: Kid,
    /// What was signed.
    pub digest: Digest,
    /// The signature's bytes.
    pub signature: Vec<u8>,
}

/// Fields of `POST /v1/verify`.
pub const VERIFY_FIELDS: [&str; 4] = ["kid", "digest", "digestAlgorithm", "signature"];

impl VerifyRequest {
    /// Reads the body of `POST /v1/verify`.
    pub fn read(body: &[u8]) -> Result<Self, RequestError> {
        let fields = Fields::read_body(body, &VERIFY_FIELDS)?;
        let kid: Kid = fields.parsed("kid")?;
        let algorithm = fields.optional_text("digestAlgorithm")?;
        let digest = read_digest(&fields, &kid, algorithm.as_deref().unwrap_or("sha256"))?;
        let signature = read_base64(&fields, "signature")?;
        Ok(Self { kid, digest, signature })
    }
}

/// Fields of a batch.
pub const BATCH_FIELDS: [&str; 1] = ["items"];

/// The elements of a batch's `items`.
pub fn read_items(body: &[u8], items_max: usize) -> Result<Vec<&RawValue>, RequestError> {
    let fields = Fields::read_body(body, &BATCH_FIELDS)?;
    let items = fields.array("items")?;
    match items.len() {
        0 => Err(fields.invalid("items", "must not be empty").into()),
        count if count > items_max => Err(RequestError::TooManyItems { items: count, items_max }),
        _ => Ok(items),
    }
}

fn read_digest<const N: usize>(
    fields: &Fields<'_, N>,
    kid: &Kid,
    algorithm: &str,
) -> Result<Digest, RequestError> {
    let text = fields.text("digest")?;
    Digest::parse(algorithm, &text).map_err(|reason| match reason {
        DigestError::WrongLength { algorithm, got } => RequestError::DigestLength {
            field: fields.path("digest"),
            kid: kid.clone(),
            algorithm: algorithm.as_str(),
            expected: 2 * algorithm.bytes(),
            got,
        },
        DigestError::UnknownAlgorithm => {
            let field = fields.path("digestAlgorithm");
            RequestError::Digest { field, kid: kid.clone(), reason }
        }
        DigestError::NotHex => {
            RequestError::Digest { field: fields.path("digest"), kid: kid.clone(), reason }
        }
    })
}

fn read_base64<const N: usize>(fields: &Fields<'_, N>, name: &'static str) -> Result<Vec<u8>, RequestError> {
    use base64::Engine as _;
    let text = fields.text(name)?;
    base64::engine::general_purpose::STANDARD
        .decode(text.as_bytes())
        .map_err(|_| RequestError::Base64 { field: fields.path(name) })
}

fn optional_object<const N: usize>(
    fields: &Fields<'_, N>,
    name: &'static str,
) -> Result<Option<CanonicalJson>, RequestError> {
    let Some(raw) = fields.raw(name) else { return Ok(None) };
    match CanonicalJson::parse(raw.get().as_bytes()) {
        Ok(value) if value.is_object() => Ok(Some(value)),
        Ok(_) => Err(fields.invalid(name, "must be an object").into()),
        Err(error) if error.reason == Reason::DuplicateName => {
            Err(JsonError::DuplicateKey { field: format!("in {}", fields.path(name)) }.into())
        }
        Err(error) => Err(fields.invalid(name, format!("is refused: {error}")).into()),
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a failed unwrap is the test's failure")]
    use super::*;

    const DIGEST: &str = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08";

    fn sign(extra: &str) -> Result<SignRequest, RequestError> {
        SignRequest::read(
            format!(r#"{{"kid":"orders","digest":"{DIGEST}","digestAlgorithm":"sha256"{extra}}}"#).as_bytes(),
        )
    }

    #[test]
    fn a_sign_request_is_read_and_its_hash_covers_what_it_asks() {
        let plain = sign("").unwrap();
        assert_eq!(plain.kid.as_str(), "orders");
        assert_eq!(plain.digest.to_hex(), DIGEST);
        // The same request spelled differently is the same request.
        let spelled = format!(
            r#" {{ "digestAlgorithm" : "sha256", "mode":"individual", "digest":"{DIGEST}", "kid":"orders" }} "#
        );
        assert_eq!(SignRequest::read(spelled.as_bytes()).unwrap().hash, plain.hash);
        let others = [
            sign(r#","purpose":"a""#),
            sign(r#","purpose":"b""#),
            sign(r#","metadata":{}"#),
            sign(r#","metadata":{"a":1}"#),
        ];
        let mut hashes: Vec<_> = others.into_iter().map(|other| other.unwrap().hash).collect();
        hashes.push(plain.hash);
        hashes.sort_unstable();
        hashes.dedup();
        assert_eq!(hashes.len(), 5);
    }

    #[test]
    fn digest_errors_name_key_algorithm_expected_and_got() {
        let read = |digest: &str, algorithm: &str| {
            let body = format!(r#"{{"kid":"orders","digest":"{digest}","digestAlgorithm":"{algorithm}"}}"#);
            SignRequest::read(body.as_bytes()).unwrap_err()
        };
        let short = read("abcd", "sha256");
        assert!(matches!(short, RequestError::DigestLength { expected: 64, got: 4, .. }));
        assert_eq!(
            short.to_string(),
            "field digest: a sha256 digest for key orders has 64 hexadecimal characters, this has 4"
        );
        let upper = DIGEST.to_uppercase();
        assert!(matches!(read(&upper, "sha256"), RequestError::Digest { reason: DigestError::NotHex, .. }));
        let other = read(DIGEST, "sha1");
        assert!(matches!(other, RequestError::Digest { reason: DigestError::UnknownAlgorithm, .. }));
    }

    #[test]
    fn modes_and_objects_are_strict() {
        assert_eq!(sign(r#","mode":"anchored""#).unwrap().mode, Mode::Anchored);
        assert!(sign(r#","mode":"both""#).is_err());
        assert!(sign(r#","mode":"other""#).is_err());
        assert!(sign(r#","metadata":[]"#).is_err());
        let twice = sign(r#","metadata":{"a":{"b":1,"b":2}}"#).unwrap_err();
        assert!(matches!(twice, RequestError::Json(JsonError::DuplicateKey { .. })));
        assert!(sign(r#","metadata":{"a":9007199254740993}"#).is_err());
    }

    #[test]
    fn base64_has_one_spelling() {
        for (text, good) in
            [("AQI=", true), ("AQI", false), ("AQJ=", false), ("AQ I=", false), ("AQ-_", false)]
        {
            let body = format!(r#"{{"kid":"k","digest":"{DIGEST}","signature":"{text}"}}"#);
            assert_eq!(VerifyRequest::read(body.as_bytes()).is_ok(), good, "{text}");
        }
    }

    #[test]
    fn batches_are_bounded_and_not_empty() {
        assert_eq!(read_items(br#"{"items":[{},1]}"#, 2).unwrap().len(), 2);
        let many = read_items(br#"{"items":[1,2,3]}"#, 2).unwrap_err();
        assert_eq!(many, RequestError::TooManyItems { items: 3, items_max: 2 });
        for bad in [r#"{"items":[]}"#, r#"{"items":{}}"#, "{}", r#"{"items":[1],"x":1}"#] {
            assert!(read_items(bad.as_bytes(), 2).is_err(), "{bad}");
        }
    }
}
