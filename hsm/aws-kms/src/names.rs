//! Our algorithms in KMS's words.
//!
//! RSA and ECDSA sign the digest as it is (`DIGEST`). Ed25519 and ML-DSA take the digest's bytes as their
//! message (`RAW`). `ED25519_PH_SHA_512` takes a SHA-512 digest as `DIGEST` and hashes it once more, which is
//! exactly our `ed25519ph`. A digest's length is right by its type.

use aws_sdk_kms::types::{MacAlgorithmSpec, MessageType, SigningAlgorithmSpec};
use chancery_format::SignatureAlgorithm;

/// How KMS is asked for an algorithm.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Wording {
    /// `Sign`.
    Sign(SigningAlgorithmSpec, MessageType),
    /// `GenerateMac`.
    Mac(MacAlgorithmSpec),
}

pub(crate) fn wording(algorithm: SignatureAlgorithm) -> Wording {
    use SignatureAlgorithm as Ours;
    use SigningAlgorithmSpec as Theirs;
    let digest = |theirs| Wording::Sign(theirs, MessageType::Digest);
    let raw = |theirs| Wording::Sign(theirs, MessageType::Raw);
    match algorithm {
        Ours::Ed25519 => raw(Theirs::Ed25519Sha512),
        Ours::Ed25519ph => digest(Theirs::Ed25519PhSha512),
        Ours::EcdsaP256Sha256 | Ours::EcdsaSecp256k1Sha256 => digest(Theirs::EcdsaSha256),
        Ours::EcdsaP384Sha384 => digest(Theirs::EcdsaSha384),
        Ours::RsaSha256 => digest(Theirs::RsassaPkcs1V15Sha256),
        Ours::RsaSha384 => digest(Theirs::RsassaPkcs1V15Sha384),
        Ours::RsaSha512 => digest(Theirs::RsassaPkcs1V15Sha512),
        Ours::RsaPssSha256 => digest(Theirs::RsassaPssSha256),
        Ours::RsaPssSha384 => digest(Theirs::RsassaPssSha384),
        Ours::RsaPssSha512 => digest(Theirs::RsassaPssSha512),
        Ours::MlDsa44 | Ours::MlDsa65 => raw(Theirs::MlDsaShake256),
        Ours::HmacSha256 => Wording::Mac(MacAlgorithmSpec::HmacSha256),
        Ours::HmacSha384 => Wording::Mac(MacAlgorithmSpec::HmacSha384),
        Ours::HmacSha512 => Wording::Mac(MacAlgorithmSpec::HmacSha512),
    }
}

/// Whether two key ids of KMS's answers name one key: an ARN ends with the id.
pub(crate) fn same_key(a: &str, b: &str) -> bool {
    let id = |name: &str| name.rsplit('/').next().map(str::to_owned);
    a == b || ((is_key_arn(a) || is_key_arn(b)) && !is_alias(a) && !is_alias(b) && id(a) == id(b))
}

/// Whether the name is the ARN of a key, not of an alias.
pub(crate) fn is_key_arn(name: &str) -> bool {
    name.starts_with("arn:") && name.contains(":key/")
}

fn is_alias(name: &str) -> bool {
    name.starts_with("alias/") || name.contains(":alias/")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exactly_the_algorithms_over_messages_are_sent_raw() {
        for algorithm in SignatureAlgorithm::ALL {
            match wording(algorithm) {
                Wording::Mac(_) => assert!(algorithm.is_mac()),
                Wording::Sign(_, kind) => {
                    assert_eq!(kind == MessageType::Raw, algorithm.takes_messages(), "{algorithm}");
                    assert!(!algorithm.is_mac());
                }
            }
        }
    }

    #[test]
    fn a_key_is_known_by_its_id_or_its_arn() {
        let arn = "arn:aws:kms:eu-central-1:111122223333:key/mrk-1";
        assert!(same_key(arn, arn) && same_key(arn, "mrk-1") && same_key("mrk-1", "mrk-1"));
        assert!(!same_key(arn, "mrk-2"));
        assert!(!same_key(arn, "alias/mrk-1"));
        assert!(!same_key("a/1", "b/1"));
    }
}
