//! One key of the token: which mechanism it takes, what it is fed, and how its answer is encoded.

use std::time::Instant;

use chancery_format::entry::KeyUse;
use chancery_format::{HashAlgorithm, KeyFamily, SignatureAlgorithm};
use chancery_hsm::{SealInput, SignerError};
use cryptoki::mechanism::eddsa::{EddsaParams, EddsaSignatureScheme};
use cryptoki::mechanism::rsa::{PkcsMgfType, PkcsPssParams};
use cryptoki::mechanism::{Mechanism, MechanismType};
use cryptoki::object::{Attribute, KeyType, ObjectClass, ObjectHandle};
use cryptoki::session::Session;

use crate::selector::KeyAddress;
use crate::worker::der;
use crate::worker::failure::{Failure, Kind};
use crate::worker::session::DeviceSession;
use crate::worker::token::Token;

/// Class of the object that signs for the algorithm.
pub(crate) const fn class(algorithm: SignatureAlgorithm) -> ObjectClass {
    if algorithm.is_mac() { ObjectClass::SECRET_KEY } else { ObjectClass::PRIVATE_KEY }
}

/// Key types that serve the algorithm; tokens differ in what they call a MAC key.
const fn key_types(algorithm: SignatureAlgorithm) -> &'static [KeyType] {
    match algorithm.family() {
        KeyFamily::Ed25519 => &[KeyType::EC_EDWARDS],
        KeyFamily::P256 | KeyFamily::P384 | KeyFamily::Secp256k1 => &[KeyType::EC],
        KeyFamily::Rsa => &[KeyType::RSA],
        KeyFamily::Secret => match algorithm.hash() {
            Some(HashAlgorithm::Sha384) => &[KeyType::GENERIC_SECRET, KeyType::SHA384_HMAC],
            Some(HashAlgorithm::Sha512) => &[KeyType::GENERIC_SECRET, KeyType::SHA512_HMAC],
            _ => &[KeyType::GENERIC_SECRET, KeyType::SHA256_HMAC],
        },
        // No module here offers them; see `ALGORITHMS`.
        KeyFamily::MlDsa44 | KeyFamily::MlDsa65 => &[],
    }
}

/// The one object of this class, name and kind.
pub(crate) fn find(
    session: &Session,
    address: &KeyAddress,
    class: ObjectClass,
) -> Result<ObjectHandle, Failure> {
    let mut found = Vec::new();
    for key_type in key_types(address.algorithm) {
        let mut template =
            vec![Attribute::Token(true), Attribute::Class(class), Attribute::KeyType(*key_type)];
        template.extend(address.object.as_ref().map(|object| Attribute::Label(object.as_bytes().to_vec())));
        template.extend(address.id.as_ref().map(|id| Attribute::Id(id.clone())));
        found.extend(session.find_objects(&template)?);
    }
    let what = format!("{} key object labelled \"{}\"", address.algorithm, address.label);
    match found.as_slice() {
        [handle] => Ok(*handle),
        [] => {
            Err(Failure { kind: emptiness(session)?, ..Failure::missing(format!("no {what} on the token")) })
        }
        _ => Err(Failure::refused(format!("more than one {what} on the token"))),
    }
}

/// Whether a token that lacks one object has any: a file token whose directory is gone has none.
fn emptiness(session: &Session) -> Result<Kind, Failure> {
    let any = session.iter_objects(&[Attribute::Token(true)])?.next().transpose()?;
    Ok(if any.is_some() { Kind::Missing } else { Kind::Empty })
}

/// Told right before C_Sign and, with `true`, when it succeeded with what is no signature.
pub(crate) type Witness<'a> = &'a dyn Fn(bool);

/// Uses the key once, in the encoding of its algorithm.
pub(crate) fn sign(
    token: &Token,
    address: &KeyAddress,
    input: SealInput<'_>,
    deadline: Instant,
    witness: Witness<'_>,
) -> Result<Vec<u8>, SignerError> {
    let data = data_to_sign(address.algorithm, input)?;
    let mechanism = mechanism(address.algorithm)?;
    let signed =
        token.with_session(deadline, |device| sign_in(device, address, &mechanism, &data, witness))?;
    encode(address.algorithm, signed).inspect_err(|_| witness(true))
}

fn sign_in(
    device: &mut DeviceSession,
    address: &KeyAddress,
    mechanism: &Mechanism<'_>,
    data: &[u8],
    witness: Witness<'_>,
) -> Result<Vec<u8>, Failure> {
    let handle = match device.handles.get(&address.number) {
        Some(handle) => *handle,
        None => {
            let handle = find(&device.session, address, class(address.algorithm))?;
            device.handles.insert(address.number, handle);
            handle
        }
    };
    witness(false);
    Ok(device.session.sign(mechanism, handle, data)?)
}

/// The mechanism that makes signatures of this algorithm.
pub(crate) fn mechanism(algorithm: SignatureAlgorithm) -> Result<Mechanism<'static>, SignerError> {
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
