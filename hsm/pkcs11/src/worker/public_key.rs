//! Reading a public key from the token, in whatever wrapping it has.
//!
//! Tokens keep it in an object of its own, beside the private key and under the same label; some also
//! answer for it on the private key. Whether the two belong together is not asked here: the keyring
//! verifies every signature against what this file read.

use chancery_format::{KeyFamily, PublicKey, SignatureAlgorithm};
use cryptoki::object::{Attribute, AttributeType, ObjectClass, ObjectHandle};
use cryptoki::session::Session;

use crate::selector::KeyAddress;
use crate::worker::failure::{Failure, Kind};
use crate::worker::key::find;

const OCTET_STRING: u8 = 0x04;
const BIT_STRING: u8 = 0x03;

/// The public half of a key pair.
pub(crate) fn read(session: &Session, address: &KeyAddress) -> Result<PublicKey, Failure> {
    let object = match find(session, address, ObjectClass::PUBLIC_KEY) {
        Err(failure) if matches!(failure.kind, Kind::Missing | Kind::Empty) => {
            find(session, address, ObjectClass::PRIVATE_KEY)?
        }
        result => result?,
    };
    let algorithm = address.algorithm;
    read_object(session, object, algorithm)?.ok_or_else(|| {
        Failure::refused(format!("\"{}\" shows no public key usable for {algorithm}", address.label))
    })
}

fn read_object(
    session: &Session,
    object: ObjectHandle,
    algorithm: SignatureAlgorithm,
) -> Result<Option<PublicKey>, Failure> {
    let wanted: &[_] = match algorithm.family() {
        KeyFamily::Rsa => &[AttributeType::Modulus, AttributeType::PublicExponent],
        _ => &[AttributeType::EcPoint],
    };
    Ok(match session.get_attributes(object, wanted)?.as_slice() {
        [Attribute::EcPoint(point)] => of_point(algorithm, point),
        [Attribute::Modulus(modulus), Attribute::PublicExponent(exponent)] => {
            PublicKey::from_rsa_parts(algorithm, modulus, exponent).ok()
        }
        _ => None,
    })
}

/// CKA_EC_POINT: raw, or in an OCTET STRING as the standard asks, or in a BIT STRING as some tokens do
/// for Ed25519.
fn of_point(algorithm: SignatureAlgorithm, attribute: &[u8]) -> Option<PublicKey> {
    let length = match algorithm.family() {
        KeyFamily::Ed25519 => 32,
        KeyFamily::P384 => 97,
        _ => 65,
    };
    let bits = unwrapped(BIT_STRING, attribute).and_then(|bits| bits.strip_prefix(&[0]));
    let candidates = [Some(attribute), unwrapped(OCTET_STRING, attribute), bits];
    let point = candidates.into_iter().flatten().find(|point| point.len() == length)?;
    PublicKey::from_point(algorithm, point).ok()
}

/// The content of a DER value that fills the whole input.
fn unwrapped(tag: u8, der: &[u8]) -> Option<&[u8]> {
    match der {
        [found, length, content @ ..] if *found == tag && usize::from(*length) == content.len() => {
            Some(content)
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a failed unwrap is the test's failure")]
    use super::*;
    use aws_lc_rs::rand::SystemRandom;
    use aws_lc_rs::signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair};

    #[test]
    fn points_are_found_in_every_wrapping_and_only_there() {
        use SignatureAlgorithm::{EcdsaP256Sha256, Ed25519};
        let ed = Ed25519KeyPair::generate().unwrap();
        let raw = ed.public_key().as_ref();
        let expected = PublicKey::from_ed25519_raw(raw.try_into().unwrap()).ok();
        assert!(expected.is_some());
        assert_eq!(of_point(Ed25519, raw), expected);
        assert_eq!(of_point(Ed25519, &[&[0x04, 0x20], raw].concat()), expected);
        assert_eq!(of_point(Ed25519, &[&[0x03, 0x21, 0x00], raw].concat()), expected);
        assert_eq!(of_point(Ed25519, &[&[0x04, 0x21], raw].concat()), None);
        assert_eq!(of_point(Ed25519, &[raw, &[0]].concat()), None);

        let document =
            EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, &SystemRandom::new()).unwrap();
        let ec = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, document.as_ref()).unwrap();
        let point = ec.public_key().as_ref();
        let expected = PublicKey::from_point(EcdsaP256Sha256, point).ok();
        assert!(expected.is_some());
        assert_eq!(of_point(EcdsaP256Sha256, point), expected);
        assert_eq!(of_point(EcdsaP256Sha256, &[&[0x04, 0x41], point].concat()), expected);
        assert_eq!(of_point(EcdsaP256Sha256, point.get(..33).unwrap()), None);
    }
}
