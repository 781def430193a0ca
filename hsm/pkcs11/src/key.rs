//! One key of the token: which mechanism it takes, what it is fed, and how its answer is encoded.

use std::sync::Arc;
use std::time::Instant;

use chancery_format::entry::KeyUse;
use chancery_format::{HashAlgorithm, KeyFamily, PublicKey, SignatureAlgorithm};
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
        match self.algorithm.family() {
            KeyFamily::Ed25519 => &[KeyType::EC_EDWARDS],
            KeyFamily::P256 | KeyFamily::P384 | KeyFamily::Secp256k1 => &[KeyType::EC],
            KeyFamily::Rsa => &[KeyType::RSA],
            KeyFamily::Secret => match self.algorithm.hash() {
                Some(HashAlgorithm::Sha384) => &[KeyType::GENERIC_SECRET, KeyType::SHA384_HMAC],
                Some(HashAlgorithm::Sha512) => &[KeyType::GENERIC_SECRET, KeyType::SHA512_HMAC],
                _ => &[KeyType::GENERIC_SECRET, KeyType::SHA256_HMAC],
            },
            // No module here offers them; see `ALGORITHMS`.
            KeyFamily::MlDsa44 | KeyFamily::MlDsa65 => &[],
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
        let mechanism = mechanism(self.address.algorithm)?;
        let signed = self.token.with_session(deadline, |device| self.sign_in(device, &mechanism, &data))?;
        encode(self.address.algorithm, signed)
    }
}

impl Pkcs11Key {
    fn sign_in(
        &self,
        device: &mut DeviceSession,
        mechanism: &Mechanism<'_>,
        data: &[u8],
    ) -> Result<Vec<u8>, Failure> {
        let address = &self.address;
        let handle = match device.handles.get(&address.number) {
            Some(handle) => *handle,
            None => {
                let handle = address.find(&device.session, address.class())?;
                device.handles.insert(address.number, handle);
                handle
            }
        };
        Ok(device.session.sign(mechanism, handle, data)?)
    }
}

/// What a PKCS#11 token can be asked for. A token may offer less; opening the key tells.
pub(crate) const ALGORITHMS: &[SignatureAlgorithm] = &[
    SignatureAlgorithm::Ed25519,
    SignatureAlgorithm::EcdsaP256Sha256,
    SignatureAlgorithm::EcdsaP384Sha384,
    SignatureAlgorithm::EcdsaSecp256k1Sha256,
    SignatureAlgorithm::RsaSha256,
    SignatureAlgorithm::RsaSha384,
    SignatureAlgorithm::RsaSha512,
    SignatureAlgorithm::RsaPssSha256,
    SignatureAlgorithm::RsaPssSha384,
    SignatureAlgorithm::RsaPssSha512,
    SignatureAlgorithm::HmacSha256,
    SignatureAlgorithm::HmacSha384,
    SignatureAlgorithm::HmacSha512,
];

fn mechanism(algorithm: SignatureAlgorithm) -> Result<Mechanism<'static>, SignerError> {
    let pss = |hash_alg, mgf, s_len: u64| {
        Mechanism::RsaPkcsPss(PkcsPssParams { hash_alg, mgf, s_len: s_len.into() })
    };
    Ok(match algorithm {
        SignatureAlgorithm::Ed25519 => Mechanism::Eddsa(EddsaParams::new(EddsaSignatureScheme::Ed25519)),
        SignatureAlgorithm::EcdsaP256Sha256
        | SignatureAlgorithm::EcdsaP384Sha384
        | SignatureAlgorithm::EcdsaSecp256k1Sha256 => Mechanism::Ecdsa,
        SignatureAlgorithm::RsaSha256 | SignatureAlgorithm::RsaSha384 | SignatureAlgorithm::RsaSha512 => {
            Mechanism::RsaPkcs
        }
        SignatureAlgorithm::RsaPssSha256 => pss(MechanismType::SHA256, PkcsMgfType::MGF1_SHA256, 32),
        SignatureAlgorithm::RsaPssSha384 => pss(MechanismType::SHA384, PkcsMgfType::MGF1_SHA384, 48),
        SignatureAlgorithm::RsaPssSha512 => pss(MechanismType::SHA512, PkcsMgfType::MGF1_SHA512, 64),
        SignatureAlgorithm::HmacSha256 => Mechanism::Sha256Hmac,
        SignatureAlgorithm::HmacSha384 => Mechanism::Sha384Hmac,
        SignatureAlgorithm::HmacSha512 => Mechanism::Sha512Hmac,
        SignatureAlgorithm::Ed25519ph | SignatureAlgorithm::MlDsa44 | SignatureAlgorithm::MlDsa65 => {
            return Err(SignerError::WrongInput);
        }
    })
}

/// What the mechanism is fed. None of them hashes again.
fn data_to_sign(algorithm: SignatureAlgorithm, input: SealInput<'_>) -> Result<Vec<u8>, SignerError> {
    let bytes = input.for_algorithm(algorithm)?;
    Ok(match (algorithm.family(), algorithm.hash()) {
        (KeyFamily::Rsa, Some(hash)) if !algorithm.is_pss() => der::digest_info(hash, bytes),
        _ => bytes.to_vec(),
    })
}

/// The token's answer in the encoding of [`SignatureAlgorithm`].
fn encode(algorithm: SignatureAlgorithm, signed: Vec<u8>) -> Result<Vec<u8>, SignerError> {
    let bytes = match algorithm.family() {
        KeyFamily::P256 | KeyFamily::Secp256k1 => 32,
        KeyFamily::P384 => 48,
        _ => return Ok(signed),
    };
    der::ecdsa_signature(&signed, bytes).ok_or_else(|| SignerError::Unavailable {
        cause: format!("an ECDSA signature of {} bytes instead of {}", signed.len(), 2 * bytes),
        key_use: KeyUse::Unknown,
    })
}
