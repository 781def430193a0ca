//! `POST /v1/mac` and `/v1/mac/verify`: a message, or the bytes of a digest as the message.

use chancery_format::{Digest, Hash, Kid};

use super::{RequestError, read_base64, read_digest};
use crate::strict_json::{Fields, JsonError};

/// A message to authenticate, or whose authentication to check.
#[derive(Debug, Clone)]
pub struct MacRequest {
    /// The key.
    pub kid: Kid,
    /// The message: the caller's, or the bytes of the digest it sent.
    pub message: Vec<u8>,
    /// SHA-256 of the message: what is recorded.
    pub digest: Digest,
    /// The MAC to check, in `/v1/mac/verify`.
    pub mac: Option<Vec<u8>>,
    /// Whether to say what would happen and do nothing.
    pub dry_run: bool,
    /// Hash over what is asked.
    pub hash: Hash,
}

/// Fields of `POST /v1/mac`.
pub const MAC_FIELDS: [&str; 5] = ["kid", "message", "digest", "digestAlgorithm", "dryRun"];
/// Fields of `POST /v1/mac/verify`.
pub const MAC_VERIFY_FIELDS: [&str; 5] = ["kid", "message", "digest", "digestAlgorithm", "mac"];

impl MacRequest {
    /// Reads the body of `POST /v1/mac`.
    pub fn read(body: &[u8]) -> Result<Self, RequestError> {
        let fields = Fields::read_body(body, &MAC_FIELDS)?;
        let dry_run = fields.flag("dryRun")?;
        Ok(Self { dry_run, ..Self::from_fields(&fields, None)? })
    }

    /// Reads the body of `POST /v1/mac/verify`.
    pub fn read_verify(body: &[u8]) -> Result<Self, RequestError> {
        let fields = Fields::read_body(body, &MAC_VERIFY_FIELDS)?;
        let mac = read_base64(&fields, "mac")?;
        Self::from_fields(&fields, Some(mac))
    }

    fn from_fields<const N: usize>(
        fields: &Fields<'_, N>,
        mac: Option<Vec<u8>>,
    ) -> Result<Self, RequestError> {
        let kid: Kid = fields.parsed("kid")?;
        let message = match (fields.raw("message"), fields.raw("digest")) {
            (Some(_), None) if fields.raw("digestAlgorithm").is_none() => read_base64(fields, "message")?,
            (None, Some(_)) => {
                let algorithm = fields.optional_text("digestAlgorithm")?;
                read_digest(fields, &kid, algorithm.as_deref().unwrap_or("sha256"))?.as_bytes().to_vec()
            }
            (None, None) => return Err(JsonError::MissingField { field: fields.path("message") }.into()),
            (Some(_), _) => return Err(fields.invalid("message", "must stand alone, without digest").into()),
        };
        let recorded = Hash::of(&[&message]);
        let hash = Hash::of(&[b"chancery/mac\0", kid.as_str().as_bytes(), b"\0", &recorded.0]);
        Ok(Self { kid, message, digest: Digest::Sha256(recorded.0), mac, dry_run: false, hash })
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a failed unwrap is the test's failure")]
    use super::*;

    const DIGEST: &str = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08";

    #[test]
    fn a_mac_takes_a_message_or_a_digest_and_records_the_hash_of_either() {
        let message = MacRequest::read(br#"{"kid":"k","message":"YWJj"}"#).unwrap();
        assert_eq!(message.message, b"abc");
        assert_eq!(message.digest.as_bytes(), Hash::of(&[b"abc"]).0);
        let body = format!(r#"{{"kid":"k","digest":"{DIGEST}"}}"#);
        let digest = MacRequest::read(body.as_bytes()).unwrap();
        assert_eq!(Hash::of(&[&digest.message]).0, digest.digest.as_bytes());
        for bad in [
            r#"{"kid":"k"}"#.to_owned(),
            format!(r#"{{"kid":"k","message":"YWJj","digest":"{DIGEST}"}}"#),
            r#"{"kid":"k","message":"YWJj","digestAlgorithm":"sha256"}"#.to_owned(),
            r#"{"kid":"k","message":"YWJj","mac":"YWJj"}"#.to_owned(),
        ] {
            assert!(MacRequest::read(bad.as_bytes()).is_err(), "{bad}");
        }
        assert!(MacRequest::read_verify(br#"{"kid":"k","message":"YWJj"}"#).is_err());
    }
}
