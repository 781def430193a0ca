//! Key material of the double, and what it does with it.

use aws_lc_rs::digest::{Algorithm, Digest, SHA256, SHA384, SHA512};
use aws_lc_rs::encoding::AsDer;
use aws_lc_rs::hmac;
use aws_lc_rs::rand::{SecureRandom, SystemRandom};
use aws_lc_rs::rsa::{KeyPair as RsaKeyPair, KeySize};
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_ASN1_SIGNING, ECDSA_P256K1_SHA256_ASN1_SIGNING, ECDSA_P384_SHA384_ASN1_SIGNING,
    EcdsaKeyPair, Ed25519KeyPair, KeyPair as _, RSA_PKCS1_SHA256, RSA_PKCS1_SHA384, RSA_PKCS1_SHA512,
    RSA_PSS_SHA256, RSA_PSS_SHA384, RSA_PSS_SHA512, RsaEncoding,
};

use super::DoubleError;
use crate::scp03::StaticKeys;
use crate::wire::object_algorithm;

/// What an object holds.
pub(super) enum Material {
    Authentication(StaticKeys),
    Ed25519(Ed25519KeyPair),
    Ecdsa(EcdsaKeyPair),
    Rsa(Box<RsaKeyPair>),
    Hmac(Box<hmac::Key>),
    Opaque(Vec<u8>),
}

impl Material {
    /// A new key of the device's algorithm; `None` if the double has none such.
    pub(super) fn generate(algorithm: u8) -> Result<Option<Self>, DoubleError> {
        use object_algorithm as key;
        let failed = |_| DoubleError("a key could not be made".to_owned());
        let ecdsa = |kind| EcdsaKeyPair::generate(kind).map(Self::Ecdsa);
        let rsa = |size| RsaKeyPair::generate(size).map(|pair| Self::Rsa(Box::new(pair)));
        let made = match algorithm {
            key::ED25519 => Ed25519KeyPair::generate().map(Self::Ed25519),
            key::P256 => ecdsa(&ECDSA_P256_SHA256_ASN1_SIGNING),
            key::P384 => ecdsa(&ECDSA_P384_SHA384_ASN1_SIGNING),
            key::K256 => ecdsa(&ECDSA_P256K1_SHA256_ASN1_SIGNING),
            key::RSA_2048 => rsa(KeySize::Rsa2048),
            key::RSA_3072 => rsa(KeySize::Rsa3072),
            key::RSA_4096 => rsa(KeySize::Rsa4096),
            _ => match mac_algorithm(algorithm) {
                Some(mac) => {
                    let mut secret = vec![0; mac.digest_algorithm().output_len()];
                    SystemRandom::new()
                        .fill(&mut secret)
                        .map(|()| Self::Hmac(Box::new(hmac::Key::new(mac, &secret))))
                }
                None => return Ok(None),
            },
        };
        made.map(Some).map_err(failed)
    }

    /// A MAC key brought in; `None` if the algorithm is none.
    pub(super) fn mac(algorithm: u8, secret: &[u8]) -> Option<Self> {
        mac_algorithm(algorithm).map(|mac| Self::Hmac(Box::new(hmac::Key::new(mac, secret))))
    }

    /// The public half as the device shows it: no leading byte, no exponent.
    pub(super) fn public(&self) -> Option<Vec<u8>> {
        match self {
            Self::Ed25519(pair) => Some(pair.public_key().as_ref().to_vec()),
            Self::Ecdsa(pair) => pair.public_key().as_ref().get(1..).map(<[u8]>::to_vec),
            Self::Rsa(pair) => Some(pair.public_key().modulus().big_endian_without_leading_zero().to_vec()),
            _ => None,
        }
    }

    /// The public half as SubjectPublicKeyInfo.
    pub(super) fn spki(&self) -> Option<Vec<u8>> {
        match self {
            Self::Ed25519(pair) => pair.public_key().as_der().ok().map(|der| der.as_ref().to_vec()),
            Self::Ecdsa(pair) => pair.public_key().as_der().ok().map(|der| der.as_ref().to_vec()),
            Self::Rsa(pair) => pair.public_key().as_der().ok().map(|der| der.as_ref().to_vec()),
            _ => None,
        }
    }

    pub(super) fn sign_eddsa(&self, message: &[u8]) -> Option<Vec<u8>> {
        let Self::Ed25519(pair) = self else { return None };
        Some(pair.sign(message).as_ref().to_vec())
    }

    pub(super) fn sign_ecdsa(&self, digest: &[u8]) -> Option<Vec<u8>> {
        let Self::Ecdsa(pair) = self else { return None };
        let digest = Digest::import_less_safe(digest, hash_of(digest)?).ok()?;
        pair.sign_digest(&digest).ok().map(|signature| signature.as_ref().to_vec())
    }

    pub(super) fn sign_pkcs1(&self, digest: &[u8]) -> Option<Vec<u8>> {
        let encoding: &'static dyn RsaEncoding = match digest.len() {
            32 => &RSA_PKCS1_SHA256,
            48 => &RSA_PKCS1_SHA384,
            64 => &RSA_PKCS1_SHA512,
            _ => return None,
        };
        self.sign_rsa(encoding, digest)
    }

    /// With a salt as long as the digest, the only one used here.
    pub(super) fn sign_pss(&self, mask: u8, salt: u16, digest: &[u8]) -> Option<Vec<u8>> {
        let encoding: &'static dyn RsaEncoding = match (mask, digest.len()) {
            (object_algorithm::MGF1_SHA256, 32) => &RSA_PSS_SHA256,
            (object_algorithm::MGF1_SHA384, 48) => &RSA_PSS_SHA384,
            (object_algorithm::MGF1_SHA512, 64) => &RSA_PSS_SHA512,
            _ => return None,
        };
        if usize::from(salt) == digest.len() { self.sign_rsa(encoding, digest) } else { None }
    }

    fn sign_rsa(&self, encoding: &'static dyn RsaEncoding, digest: &[u8]) -> Option<Vec<u8>> {
        let Self::Rsa(pair) = self else { return None };
        let digest = Digest::import_less_safe(digest, hash_of(digest)?).ok()?;
        let mut signature = vec![0; pair.public_modulus_len()];
        pair.sign_digest(encoding, &digest, &mut signature).ok()?;
        Some(signature)
    }

    pub(super) fn sign_hmac(&self, message: &[u8]) -> Option<Vec<u8>> {
        let Self::Hmac(key) = self else { return None };
        Some(hmac::sign(key, message).as_ref().to_vec())
    }
}

fn hash_of(digest: &[u8]) -> Option<&'static Algorithm> {
    match digest.len() {
        32 => Some(&SHA256),
        48 => Some(&SHA384),
        64 => Some(&SHA512),
        _ => None,
    }
}

fn mac_algorithm(algorithm: u8) -> Option<hmac::Algorithm> {
    match algorithm {
        object_algorithm::HMAC_SHA256 => Some(hmac::HMAC_SHA256),
        object_algorithm::HMAC_SHA384 => Some(hmac::HMAC_SHA384),
        object_algorithm::HMAC_SHA512 => Some(hmac::HMAC_SHA512),
        _ => None,
    }
}
