//! Keys made for a test: Ed25519 from a seed by ed25519-dalek, the others by aws-lc-rs.

use std::sync::{Arc, OnceLock};

use aws_lc_rs::encoding::AsDer;
use aws_lc_rs::hmac;
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::{self, KeySize};
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair, KeyPair as _, ML_DSA_65_SIGNING, PqdsaKeyPair,
    RSA_PKCS1_SHA256, RSA_PSS_SHA256,
};
use chancery_format::note::NoteVerifier;
use chancery_format::{Hash, Kid, PublicKey, SignatureAlgorithm};
use ed25519_dalek::{Signer as _, SigningKey};

#[derive(Clone)]
pub struct TestKey {
    pub kid: Kid,
    pub signer_kid: Kid,
    pub algorithm: SignatureAlgorithm,
    secret: Secret,
}

#[derive(Clone)]
#[expect(clippy::large_enum_variant, reason = "a handful of keys in a test")]
enum Secret {
    Ed25519(SigningKey),
    P256(Arc<EcdsaKeyPair>),
    Rsa(Arc<rsa::KeyPair>),
    MlDsa65(Arc<PqdsaKeyPair>),
    Hmac(hmac::Key),
}

/// RSA keys take long to make; tests share one per process.
fn rsa_key() -> Arc<rsa::KeyPair> {
    static KEY: OnceLock<Arc<rsa::KeyPair>> = OnceLock::new();
    Arc::clone(KEY.get_or_init(|| Arc::new(rsa::KeyPair::generate(KeySize::Rsa2048).unwrap())))
}

impl TestKey {
    /// Algorithms these keys sign with.
    pub const SIGNING: [SignatureAlgorithm; 5] = [
        SignatureAlgorithm::Ed25519,
        SignatureAlgorithm::EcdsaP256Sha256,
        SignatureAlgorithm::RsaSha256,
        SignatureAlgorithm::RsaPssSha256,
        SignatureAlgorithm::MlDsa65,
    ];

    pub fn spki_der(&self) -> Vec<u8> {
        self.public_key().unwrap().spki_der().to_vec()
    }

    /// A key made from its names; RSA keys are the same whatever they are called.
    pub fn new(kid: &str, signer_kid: &str, algorithm: SignatureAlgorithm) -> Self {
        let seed = Hash::of(&[b"test key ", signer_kid.as_bytes()]).0;
        let secret = match algorithm {
            SignatureAlgorithm::Ed25519 => Secret::Ed25519(SigningKey::from_bytes(&seed)),
            SignatureAlgorithm::EcdsaP256Sha256 => {
                Secret::P256(Arc::new(EcdsaKeyPair::generate(&ECDSA_P256_SHA256_ASN1_SIGNING).unwrap()))
            }
            SignatureAlgorithm::RsaSha256 | SignatureAlgorithm::RsaPssSha256 => Secret::Rsa(rsa_key()),
            SignatureAlgorithm::MlDsa65 => {
                Secret::MlDsa65(Arc::new(PqdsaKeyPair::generate(&ML_DSA_65_SIGNING).unwrap()))
            }
            SignatureAlgorithm::HmacSha256 => Secret::Hmac(hmac::Key::new(hmac::HMAC_SHA256, &seed)),
            other => panic!("no test needs a key for {other}"),
        };
        Self { kid: kid.parse().unwrap(), signer_kid: signer_kid.parse().unwrap(), algorithm, secret }
    }

    fn public_key(&self) -> Option<PublicKey> {
        let from_der = |der: &[u8]| PublicKey::from_der(self.algorithm, der).unwrap();
        match &self.secret {
            Secret::Ed25519(key) => {
                Some(PublicKey::from_ed25519_raw(key.verifying_key().as_bytes()).unwrap())
            }
            Secret::P256(key) => Some(from_der(key.public_key().as_der().unwrap().as_ref())),
            Secret::Rsa(key) => Some(from_der(key.public_key().as_der().unwrap().as_ref())),
            Secret::MlDsa65(key) => Some(from_der(key.public_key().as_der().unwrap().as_ref())),
            Secret::Hmac(_) => None,
        }
    }

    pub fn public_key_pem(&self) -> Option<String> {
        self.public_key().map(|key| key.to_pem())
    }

    /// As a checkpoint key of the test's origin.
    pub fn vkey(&self) -> NoteVerifier {
        self.vkey_for(super::ORIGIN)
    }

    pub fn vkey_for(&self, origin: &str) -> NoteVerifier {
        NoteVerifier::new(origin, &self.public_key().unwrap().ed25519_raw().unwrap()).unwrap()
    }

    /// Signs as Chancery does: the SHA-256 digest of the message. (aws-lc-rs hashes for itself.)
    pub fn sign_message(&self, message: &[u8]) -> Vec<u8> {
        let random = SystemRandom::new();
        match &self.secret {
            Secret::Ed25519(_) => self.sign_message_raw(&Hash::of(&[message]).0),
            Secret::P256(key) => key.sign(&random, message).unwrap().as_ref().to_vec(),
            Secret::Rsa(key) => {
                let pss = self.algorithm == SignatureAlgorithm::RsaPssSha256;
                let mut signature = vec![0; key.public_modulus_len()];
                let padding: &'static dyn aws_lc_rs::signature::RsaEncoding =
                    if pss { &RSA_PSS_SHA256 } else { &RSA_PKCS1_SHA256 };
                key.sign(padding, &random, message, &mut signature).unwrap();
                signature
            }
            Secret::MlDsa65(key) => {
                let mut signature = vec![0; key.algorithm().signature_len()];
                key.sign(&Hash::of(&[message]).0, &mut signature).unwrap();
                signature
            }
            Secret::Hmac(key) => hmac::sign(key, message).as_ref().to_vec(),
        }
    }

    /// Ed25519 over these very bytes.
    pub fn sign_message_raw(&self, message: &[u8]) -> Vec<u8> {
        match &self.secret {
            Secret::Ed25519(key) => key.sign(message).to_bytes().to_vec(),
            _ => panic!("only Ed25519 signs bytes as they are"),
        }
    }
}
