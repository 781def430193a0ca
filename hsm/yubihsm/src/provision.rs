//! Generating keys that never leave the device. For set-up and demonstrations: production keys are made in a
//! ceremony, often by another authentication key than the one that signs.

use chancery_format::HashAlgorithm;
use chancery_hsm::{KeyShape, RsaBits, SignerError};

use crate::backend::YubiHsmBackend;
use crate::failure::{Failure, Kind};
use crate::objects::{self, ObjectInfo};
use crate::session::Session;
use crate::wire::{Fields, capability, command, object_algorithm, object_type, padded_label};

/// Why nothing was generated.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ProvisionError {
    /// The label is empty, longer than 40 bytes, or written like an object id. Operator's fault.
    #[error("a label has 1 to 40 bytes and is not written like an object id")]
    Label,
    /// A key of that label exists; it was left alone. Operator's fault.
    #[error("a key labelled \"{0}\" exists and is not overwritten")]
    KeyExists(String),
    /// A YubiHSM 2 has no keys of this shape. Operator's fault.
    #[error("a YubiHSM does not hold keys of this shape")]
    Shape,
    /// The device refused or failed. After a time-out it may have made the key all the same.
    #[error(transparent)]
    Device(#[from] SignerError),
}

/// A key's algorithm on the device, the type of its object, and all it may do.
pub(crate) const fn kind_of(shape: KeyShape) -> Option<(u8, u8, u64)> {
    use object_algorithm as key;
    use object_type::{ASYMMETRIC_KEY, HMAC_KEY};
    const RSA: u64 = capability::SIGN_PKCS | capability::SIGN_PSS;
    Some(match shape {
        KeyShape::Ed25519 => (key::ED25519, ASYMMETRIC_KEY, capability::SIGN_EDDSA),
        KeyShape::P256 => (key::P256, ASYMMETRIC_KEY, capability::SIGN_ECDSA),
        KeyShape::P384 => (key::P384, ASYMMETRIC_KEY, capability::SIGN_ECDSA),
        KeyShape::Secp256k1 => (key::K256, ASYMMETRIC_KEY, capability::SIGN_ECDSA),
        KeyShape::Rsa(RsaBits::B2048) => (key::RSA_2048, ASYMMETRIC_KEY, RSA),
        KeyShape::Rsa(RsaBits::B3072) => (key::RSA_3072, ASYMMETRIC_KEY, RSA),
        KeyShape::Rsa(RsaBits::B4096) => (key::RSA_4096, ASYMMETRIC_KEY, RSA),
        KeyShape::Hmac(HashAlgorithm::Sha256) => (key::HMAC_SHA256, HMAC_KEY, capability::SIGN_HMAC),
        KeyShape::Hmac(HashAlgorithm::Sha384) => (key::HMAC_SHA384, HMAC_KEY, capability::SIGN_HMAC),
        KeyShape::Hmac(HashAlgorithm::Sha512) => (key::HMAC_SHA512, HMAC_KEY, capability::SIGN_HMAC),
        KeyShape::MlDsa44 | KeyShape::MlDsa65 => return None,
    })
}

impl YubiHsmBackend {
    /// Generates a key inside the device, in the domains of our authentication key: able to sign, not
    /// exportable. Returns its object id. RSA keys take the device up to minutes; the configured timeout has
    /// to allow for that.
    pub fn generate_key(&self, label: &str, shape: KeyShape) -> Result<u16, ProvisionError> {
        let padded = padded_label(label).filter(|_| objects::id_in(label).is_none());
        let padded = padded.ok_or(ProvisionError::Label)?;
        let (algorithm, object_type, capabilities) = kind_of(shape).ok_or(ProvisionError::Shape)?;
        let auth_key_id = self.device.auth_key_id();
        let made = self.device.with_session_at_start(|session| {
            match objects::find(session, label, object_type) {
                Ok(_) => return Ok(None),
                Err(failure) if failure.kind != Kind::Missing => return Err(failure),
                Err(_) => {}
            }
            let domains = ObjectInfo::read(session, auth_key_id, object_type::AUTHENTICATION_KEY)?.domains;
            let code = match object_type {
                object_type::HMAC_KEY => command::GENERATE_HMAC_KEY,
                _ => command::GENERATE_ASYMMETRIC_KEY,
            };
            // Id zero lets the device choose one.
            let id = [0, 0].as_slice();
            let content =
                [id, &padded, &domains.to_be_bytes(), &capabilities.to_be_bytes(), &[algorithm]].concat();
            generate(session, code, &content).map(Some)
        })?;
        made.ok_or_else(|| ProvisionError::KeyExists(label.to_owned()))
    }
}

fn generate(session: &mut Session, code: u8, content: &[u8]) -> Result<u16, Failure> {
    let answer = session.command(code, content)?;
    Fields(&answer).u16().ok_or_else(|| Failure::nonsense(code, "generate: an answer of odd length"))
}
