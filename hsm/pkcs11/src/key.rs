//! One key of the token: which mechanism it takes, what it is fed, and how its answer is encoded.

use std::sync::Arc;
use std::time::Instant;

use chancery_format::entry::KeyUse;
use chancery_format::{PublicKey, SignatureAlgorithm};
use chancery_hsm::{SealInput, SignerError, SignerHandle};
use cryptoki::mechanism::eddsa::{EddsaParams, EddsaSignatureScheme};
use cryptoki::mechanism::rsa::{PkcsMgfType, PkcsPssParams};
use cryptoki::mechanism::{Mechanism, MechanismType};
use cryptoki::object::{Attribute, KeyType, ObjectClass, ObjectHandle};
use cryptoki::session::Session;

use crate::backend::Token;
use crate::der;
use crate::failure::{Failure, Kind};
use crate::session::DeviceSession;

/// How a key is found again, by whatever session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct KeyAddress {
    /// The key's place in every session's cache.
    pub(crate) number: usize,
    pub(crate) label: String,
    pub(crate) algorithm: SignatureAlgorithm,
}

impl KeyAddress {
    pub(crate) const fn class(&self) -> ObjectClass {
        if self.algorithm.is_mac() { ObjectClass::SECRET_KEY } else { ObjectClass::PRIVATE_KEY }
    }

    /// Key types that serve the algorithm; tokens differ in what they call a MAC key.
    pub(crate) const fn key_types(&self) -> &'static [KeyType] {
        match self.algorithm {
            SignatureAlgorithm::Ed25519 => &[KeyType::EC_EDWARDS],
            SignatureAlgorithm::EcdsaP256Sha256 => &[KeyType::EC],
            SignatureAlgorithm::RsaSha256 | SignatureAlgorithm::RsaPssSha256 => &[KeyType::RSA],
            SignatureAlgorithm::HmacSha256 => &[KeyType::GENERIC_SECRET, KeyType::SHA256_HMAC],
        }
    }

    /// The one object of this class, label and kind.
    pub(crate) fn find(&self, session: &Session, class: ObjectClass) -> Result<ObjectHandle, Failure> {
        let mut found = Vec::new();
        for key_type in self.key_types() {
            found.extend(session.find_objects(&[
                Attribute::Token(true),
                Attribute::Class(class),
                Attribute::KeyType(*key_type),
                Attribute::Label(self.label.as_bytes().to_vec()),
            ])?);
        }
        let what = format!("{} key object labelled \"{}\"", self.algorithm, self.label);
        match found.as_slice() {
            [handle] => Ok(*handle),
            [] => Err(Failure {
                kind: emptiness(session)?,
                ..Failure::missing(format!("no {what} on the token"))
            }),
            _ => Err(Failure::refused(format!("more than one {what} on the token"))),
        }
    }
}

/// Whether a token that lacks one object has any: a file token whose directory is gone has none.
fn emptiness(session: &Session) -> Result<Kind, Failure> {
    let any = session.iter_objects(&[Attribute::Token(true)])?.next().transpose()?;
    Ok(if any.is_some() { Kind::Missing } else { Kind::Empty })
}

/// A key as the keyring holds it.
pub(crate) struct Pkcs11Key {
    pub(crate) token: Arc<Token>,
    pub(crate) address: KeyAddress,
    pub(crate) public_key: Option<PublicKey>,
}

impl SignerHandle for Pkcs11Key {
    fn algorithm(&self) -> SignatureAlgorithm {
        self.address.algorithm
    }

    fn public_key(&self) -> Option<&PublicKey> {
        self.public_key.as_ref()
    }

    fn sign(&self, input: SealInput<'_>, deadline: Instant) -> Result<Vec<u8>, SignerError> {
        let data = data_to_sign(self.address.algorithm, input)?;
        let signed = self.token.with_session(deadline, |device| self.sign_in(device, &data))?;
        encode(self.address.algorithm, signed)
    }
}

impl Pkcs11Key {
    fn sign_in(&self, device: &mut DeviceSession, data: &[u8]) -> Result<Vec<u8>, Failure> {
        let address = &self.address;
        let handle = match device.handles.get(&address.number) {
            Some(handle) => *handle,
            None => {
                let handle = address.find(&device.session, address.class())?;
                device.handles.insert(address.number, handle);
                handle
            }
        };
        Ok(device.session.sign(&mechanism(address.algorithm), handle, data)?)
    }
}

fn mechanism(algorithm: SignatureAlgorithm) -> Mechanism<'static> {
    match algorithm {
        SignatureAlgorithm::Ed25519 => Mechanism::Eddsa(EddsaParams::new(EddsaSignatureScheme::Ed25519)),
        SignatureAlgorithm::EcdsaP256Sha256 => Mechanism::Ecdsa,
        SignatureAlgorithm::RsaSha256 => Mechanism::RsaPkcs,
        SignatureAlgorithm::RsaPssSha256 => Mechanism::RsaPkcsPss(PkcsPssParams {
            hash_alg: MechanismType::SHA256,
            mgf: PkcsMgfType::MGF1_SHA256,
            s_len: 32.into(),
        }),
        SignatureAlgorithm::HmacSha256 => Mechanism::Sha256Hmac,
    }
}

/// What the mechanism is fed. None of them hashes again.
fn data_to_sign(algorithm: SignatureAlgorithm, input: SealInput<'_>) -> Result<Vec<u8>, SignerError> {
    Ok(match algorithm {
        SignatureAlgorithm::Ed25519 | SignatureAlgorithm::HmacSha256 => input.bytes().to_vec(),
        SignatureAlgorithm::EcdsaP256Sha256 | SignatureAlgorithm::RsaPssSha256 => {
            input.digest()?.as_bytes().to_vec()
        }
        SignatureAlgorithm::RsaSha256 => der::digest_info(input.digest()?.as_bytes()),
    })
}

/// The token's answer in the encoding of [`SignatureAlgorithm`].
fn encode(algorithm: SignatureAlgorithm, signed: Vec<u8>) -> Result<Vec<u8>, SignerError> {
    if algorithm != SignatureAlgorithm::EcdsaP256Sha256 {
        return Ok(signed);
    }
    der::ecdsa_signature(&signed).ok_or_else(|| SignerError::Unavailable {
        cause: format!("an ECDSA signature of {} bytes instead of 64", signed.len()),
        key_use: KeyUse::Unknown,
    })
}
