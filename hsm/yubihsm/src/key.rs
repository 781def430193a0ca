//! One key of the device: which command it takes, what it is fed, and how its answer is encoded.

use std::sync::Arc;
use std::time::Instant;

use chancery_format::{HashAlgorithm, KeyFamily, PublicKey, SignatureAlgorithm};
use chancery_hsm::{SealInput, SignerError, SignerHandle};

use crate::device::Device;
use crate::failure::Failure;
use crate::objects::ObjectInfo;
use crate::wire::{PAYLOAD_BYTES_MAX, capability, command, object_algorithm};

/// What a YubiHSM 2 can be asked for. All commands but the MAC's and Ed25519's take the digest as it is.
pub const ALGORITHMS: &[SignatureAlgorithm] = &[
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

/// The device's side of an algorithm.
pub(crate) struct Recipe {
    pub(crate) command: u8,
    pub(crate) capability: u64,
    pub(crate) key_algorithms: &'static [u8],
}

/// How the device does an algorithm; `None` for those it has not.
pub(crate) const fn recipe(algorithm: SignatureAlgorithm) -> Option<Recipe> {
    use object_algorithm as key;
    const RSA: &[u8] = &[key::RSA_2048, key::RSA_3072, key::RSA_4096];
    let (command, capability, key_algorithms): (_, _, &[u8]) = match algorithm.family() {
        KeyFamily::Ed25519 if matches!(algorithm, SignatureAlgorithm::Ed25519) => {
            (command::SIGN_EDDSA, capability::SIGN_EDDSA, &[key::ED25519])
        }
        KeyFamily::P256 => (command::SIGN_ECDSA, capability::SIGN_ECDSA, &[key::P256]),
        KeyFamily::P384 => (command::SIGN_ECDSA, capability::SIGN_ECDSA, &[key::P384]),
        KeyFamily::Secp256k1 => (command::SIGN_ECDSA, capability::SIGN_ECDSA, &[key::K256]),
        KeyFamily::Rsa if algorithm.is_pss() => (command::SIGN_PSS, capability::SIGN_PSS, RSA),
        KeyFamily::Rsa => (command::SIGN_PKCS1, capability::SIGN_PKCS, RSA),
        KeyFamily::Secret => {
            let key: &[u8] = match algorithm.hash() {
                Some(HashAlgorithm::Sha384) => &[key::HMAC_SHA384],
                Some(HashAlgorithm::Sha512) => &[key::HMAC_SHA512],
                _ => &[key::HMAC_SHA256],
            };
            (command::SIGN_HMAC, capability::SIGN_HMAC, key)
        }
        _ => return None,
    };
    Some(Recipe { command, capability, key_algorithms })
}

/// Whether the object is of the right kind and may do what is configured.
pub(crate) fn check(info: &ObjectInfo, label: &str, algorithm: SignatureAlgorithm) -> Result<(), Failure> {
    let Some(recipe) = recipe(algorithm) else {
        return Err(Failure::refused(format!("a YubiHSM does not do {algorithm}")));
    };
    if !recipe.key_algorithms.contains(&info.algorithm) {
        let kind = info.algorithm;
        return Err(Failure::refused(format!(
            "the key \"{label}\" is not for {algorithm} (its kind is {kind})"
        )));
    }
    if info.capabilities & recipe.capability == 0 {
        let name = command::name(recipe.command);
        return Err(Failure::refused(format!("the key \"{label}\" lacks the capability {name}")));
    }
    Ok(())
}

/// A key as the keyring holds it.
pub(crate) struct YubiHsmKey {
    pub(crate) device: Arc<Device>,
    pub(crate) id: u16,
    pub(crate) algorithm: SignatureAlgorithm,
    pub(crate) public_key: Option<PublicKey>,
}

impl SignerHandle for YubiHsmKey {
    fn algorithm(&self) -> SignatureAlgorithm {
        self.algorithm
    }

    fn public_key(&self) -> Option<&PublicKey> {
        self.public_key.as_ref()
    }

    fn sign(&self, input: SealInput<'_>, deadline: Instant) -> Result<Vec<u8>, SignerError> {
        let recipe = recipe(self.algorithm).ok_or(SignerError::WrongInput)?;
        let content = content(self.id, self.algorithm, input)?;
        self.device.with_session(deadline, |session| session.command(recipe.command, &content))
    }
}

/// What the command carries. ECDSA answers in DER, and every other in the bytes we want.
fn content(id: u16, algorithm: SignatureAlgorithm, input: SealInput<'_>) -> Result<Vec<u8>, SignerError> {
    let bytes = input.for_algorithm(algorithm)?;
    let mut content = id.to_be_bytes().to_vec();
    if algorithm.is_pss() {
        let (mask, salt): (u8, u16) = match algorithm.hash() {
            Some(HashAlgorithm::Sha384) => (object_algorithm::MGF1_SHA384, 48),
            Some(HashAlgorithm::Sha512) => (object_algorithm::MGF1_SHA512, 64),
            _ => (object_algorithm::MGF1_SHA256, 32),
        };
        content.push(mask);
        content.extend(salt.to_be_bytes());
    }
    content.extend_from_slice(bytes);
    // A longer message does not fit into one command, and there is no other way to give it.
    if content.len() > PAYLOAD_BYTES_MAX { Err(SignerError::WrongInput) } else { Ok(content) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use chancery_format::Digest;

    #[test]
    fn every_algorithm_offered_has_a_recipe_and_no_other() {
        for algorithm in SignatureAlgorithm::ALL {
            assert_eq!(recipe(algorithm).is_some(), ALGORITHMS.contains(&algorithm), "{algorithm}");
        }
    }

    #[test]
    fn pss_names_its_hash_and_salt_and_long_messages_are_refused() {
        let digest = Digest::Sha384([7; 48]);
        let pss = content(0x1234, SignatureAlgorithm::RsaPssSha384, SealInput::Digest(&digest));
        assert_eq!(pss, Ok([&[0x12, 0x34, 34, 0, 48], [7; 48].as_slice()].concat()));
        let mac = |length| content(1, SignatureAlgorithm::HmacSha256, SealInput::Message(&vec![0; length]));
        assert_eq!(mac(2024).map(|content| content.len()), Ok(2026));
        assert_eq!(mac(2025), Err(SignerError::WrongInput));
    }
}
