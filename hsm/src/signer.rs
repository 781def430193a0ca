//! What a key and a device are to the keyring, and every way in which using one can fail.
//!
//! A backend implements [`Backend`] and [`SignerHandle`] and nothing else. The keyring does not trust it:
//! whatever `sign` returns is verified before anyone sees it (see `self_check.rs`).

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use chancery_format::entry::KeyUse;
use chancery_format::names::FailureCode;
use chancery_format::{Digest, HashAlgorithm, KeyFamily, PublicKey, SignatureAlgorithm};

use crate::birth::Birth;
use crate::device_log::DeviceLog;

/// Where a backend's work should run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cost {
    /// Microseconds of processor time: done where it is called, on an async thread.
    Inline,
    /// A device or a network: done on the backend's own threads, one per session.
    Blocking,
}

/// What a key is applied to.
#[derive(Debug, Clone, Copy)]
pub enum SealInput<'a> {
    /// Signed as [`SignatureAlgorithm`] says: Ed25519, ML-DSA and HMAC take the digest's bytes as their
    /// message, RSA and ECDSA take it as the already computed hash. [`Digest::Mu`] is what ML-DSA makes of a
    /// message and takes the place of making it; a backend that cannot be given it refuses it as `WrongInput`.
    Digest(&'a Digest),
    /// Text of any length: the message of a MAC, or the text of a signed note by the ledger key. Algorithms
    /// that take digests of one kind only refuse it ([`SignatureAlgorithm::takes_messages`]).
    Message(&'a [u8]),
}

impl<'a> SealInput<'a> {
    /// The bytes themselves, for algorithms that take either form as their message.
    pub const fn bytes(&self) -> &'a [u8] {
        match *self {
            Self::Digest(digest) => digest.as_bytes(),
            Self::Message(message) => message,
        }
    }

    /// What the algorithm signs, or the refusal it owes to input it does not take: a message in place of a
    /// digest, or a digest by another hash.
    pub fn for_algorithm(&self, algorithm: SignatureAlgorithm) -> Result<&'a [u8], SignerError> {
        match *self {
            Self::Digest(digest) if algorithm.takes(digest) => Ok(digest.as_bytes()),
            Self::Message(message) if algorithm.takes_messages() => Ok(message),
            _ => Err(SignerError::WrongInput),
        }
    }
}

/// One key in one backend.
///
/// *When `sign` returns `Ok`*, the key was used at least once and the bytes are what the device claims to
/// be its signature, in the encoding of [`SignatureAlgorithm`]. Nobody has checked them yet.
/// *When it returns `Err`*, [`SignerError::key_use`] says whether the key may have been used all the same.
/// *Who may call at once*: any number of threads. A backend serves at most [`Backend::sessions`] of them
/// together; the others wait until their deadline, never longer. A device call already under way is not
/// interrupted by the deadline.
/// *What its owner could do to us*: whoever owns the device can sign anything with the key and can refuse
/// to sign. They cannot make the keyring release a signature that does not verify, cannot have it sign
/// something else than what the ledger recorded, and cannot swap the key unnoticed, because the public
/// key is compared with the registered one when the keyring is built.
pub trait SignerHandle: Send + Sync {
    /// The algorithm this handle was opened for.
    fn algorithm(&self) -> SignatureAlgorithm;

    /// The public half, read from the device when the handle was opened; `None` for a MAC key.
    fn public_key(&self) -> Option<&PublicKey>;

    /// Uses the key. Checks `deadline` before the key is touched.
    fn sign(&self, input: SealInput<'_>, deadline: Instant) -> Result<Vec<u8>, SignerError>;
}

/// A place that holds keys: a token, a key service, this process.
///
/// *When `open_key` returns `Ok`*, the key exists, has the right type and its public half was read.
/// *An `Err`* has changed nothing on the device. *Who may call at once*: any number of threads.
/// *What its owner could do to us*: see [`SignerHandle`].
pub trait Backend: Send + Sync {
    /// The name the operator gave it; stands in health reports and metrics.
    fn name(&self) -> &str;

    /// Where its keys' `sign` should run.
    fn cost(&self) -> Cost;

    /// How many operations it can do at the same time, at least 1.
    fn sessions(&self) -> usize;

    /// Opens the key called `label` on the device.
    fn open_key(
        &self,
        label: &str,
        algorithm: SignatureAlgorithm,
    ) -> Result<Arc<dyn SignerHandle>, SignerError>;

    /// Finds out whether the device works, without using any key that was opened.
    ///
    /// A device whose connections merely open proves nothing, so this should compute something there.
    fn probe(&self, deadline: Instant) -> Result<(), SignerError>;

    /// Which algorithms keys of this backend may have, whatever device stands behind it. A key configured
    /// with another is refused before any device is asked.
    fn algorithms(&self) -> &'static [SignatureAlgorithm];

    /// What the device says of a key's birth; [`Origin::Unknown`](crate::birth::Origin) where it says
    /// nothing. Asked once, when a key is registered. Uses no key that was opened.
    fn birth(&self, label: &str, algorithm: SignatureAlgorithm) -> Result<Birth, SignerError> {
        let _ = (label, algorithm);
        Ok(Birth::default())
    }

    /// The device's own record of what it did, if it keeps one.
    fn device_log(&self) -> Option<Arc<dyn DeviceLog>> {
        None
    }

    /// Uses of each key that gave a result, by label, since this backend was opened, if it counts them. They
    /// only grow.
    fn operation_counts(&self) -> Option<BTreeMap<String, u64>> {
        None
    }
}

/// Kind and size of a key to be generated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeyShape {
    /// Ed25519, for pure and prehashed signatures.
    Ed25519,
    /// ECDSA on P-256.
    P256,
    /// ECDSA on P-384.
    P384,
    /// ECDSA on secp256k1.
    Secp256k1,
    /// RSA, for either padding and any hash.
    Rsa(RsaBits),
    /// ML-DSA-44.
    MlDsa44,
    /// ML-DSA-65.
    MlDsa65,
    /// As many random bytes as the hash has, for an HMAC with it.
    Hmac(HashAlgorithm),
}

/// Accepted RSA modulus lengths.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RsaBits {
    /// 2048 bits.
    B2048,
    /// 3072 bits; what a new key should have.
    B3072,
    /// 4096 bits.
    B4096,
}

impl RsaBits {
    /// The length in bits.
    pub const fn bits(self) -> u16 {
        match self {
            Self::B2048 => 2048,
            Self::B3072 => 3072,
            Self::B4096 => 4096,
        }
    }
}

impl KeyShape {
    /// The shape a new key of this algorithm should have.
    pub const fn recommended(algorithm: SignatureAlgorithm) -> Self {
        match algorithm.family() {
            KeyFamily::Ed25519 => Self::Ed25519,
            KeyFamily::P256 => Self::P256,
            KeyFamily::P384 => Self::P384,
            KeyFamily::Secp256k1 => Self::Secp256k1,
            KeyFamily::Rsa => Self::Rsa(RsaBits::B3072),
            KeyFamily::MlDsa44 => Self::MlDsa44,
            KeyFamily::MlDsa65 => Self::MlDsa65,
            KeyFamily::Secret => Self::Hmac(match algorithm.hash() {
                Some(hash) => hash,
                None => HashAlgorithm::Sha256,
            }),
        }
    }
}

/// Who has to act so that the same request can succeed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// The caller asked for something that cannot be.
    Caller,
    /// An operator halted signing, misconfigured something or must look at the device.
    Operator,
    /// The device, or the way to it; often heals by itself.
    Device,
    /// More was asked than there is capacity for; passes by itself.
    Load,
}

/// Why a key could not be used.
///
/// [`SignerError::code`] is stable and stands in the ledger. The cause texts are for logs: they name
/// labels, files and device codes, never a PIN or a digest.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SignerError {
    /// The kill switch is pulled. Operator's decision; retry after it is reset. The key was not used.
    #[error("signing is halted")]
    Halted,
    /// No key of that name, or the intent names another key pair than the keyring holds under it.
    /// Caller's fault; do not retry. The key was not used.
    #[error("no such key in the keyring")]
    UnknownKey,
    /// The key is the ledger's own and signs checkpoints only. Caller's fault; do not retry. Not used.
    #[error("the ledger key signs checkpoints only")]
    LedgerKey,
    /// Algorithm, operation and input do not fit each other, or the message is not the one whose digest
    /// was recorded. Caller's fault; do not retry. The key was not used.
    #[error("input does not fit the key's algorithm")]
    WrongInput,
    /// The backend's queue is full. Retry later. The key was not used.
    #[error("the backend's queue is full")]
    Busy,
    /// The deadline passed. Retry with a fresh one. [`KeyUse::None`] if the request was still waiting,
    /// [`KeyUse::Unknown`] if the device was at work and its answer will be thrown away.
    #[error("deadline passed, key use {}", .0.as_str())]
    Deadline(KeyUse),
    /// The device is gone or failing. Retry later; recovery was already tried within this call.
    #[error("backend unavailable: {cause}")]
    Unavailable {
        /// What the device said, for the log.
        cause: String,
        /// Whether the failing step was one that uses the key.
        key_use: KeyUse,
    },
    /// The device holds no (or more than one) key of that label and kind. Operator's fault; do not
    /// retry. The key was not used.
    #[error("key missing: {cause}")]
    KeyMissing {
        /// Label, kind and place, for the log.
        cause: String,
    },
    /// The device holds the key, but somebody switched it off there, scheduled its deletion or took its
    /// material away. Says nothing about the device's other keys. Operator's fault; retry, since it heals
    /// when someone enables the key. The key was not used.
    #[error("key disabled: {cause}")]
    KeyDisabled {
        /// Label and what the device said, for the log.
        cause: String,
    },
    /// The device will not do this, now or later: wrong PIN, mechanism absent, key not allowed to sign.
    /// Operator's fault; do not retry. The key was not used.
    #[error("backend refused: {cause}")]
    Refused {
        /// What to change, for the log.
        cause: String,
    },
    /// The device answered with bytes that are no signature by the registered key. They were thrown
    /// away. Device's fault and a reason to look at it; the key, or another one, was used.
    #[error("the backend returned a signature that does not verify")]
    BadSignature,
    /// The backend's code panicked. Our bug or the driver's; the key may have been used.
    #[error("the backend panicked")]
    Panicked,
}

impl SignerError {
    /// The stable kebab-case code that stands in leaves and metrics.
    pub const fn code(&self) -> &'static str {
        match self {
            Self::Halted => "halted",
            Self::UnknownKey => "unknown-kid",
            Self::LedgerKey => "ledger-key",
            Self::WrongInput => "algorithm-mismatch",
            Self::Busy => "backend-busy",
            Self::Deadline(_) => "deadline-exceeded",
            Self::Unavailable { .. } => "backend-unavailable",
            Self::KeyMissing { .. } => "key-missing",
            Self::KeyDisabled { .. } => "key-disabled",
            Self::Refused { .. } => "backend-refused",
            Self::BadSignature => "bad-signature",
            Self::Panicked => "backend-panicked",
        }
    }

    /// [`SignerError::code`] as the ledger records it.
    pub fn failure_code(&self) -> FailureCode {
        FailureCode::known(self.code())
    }

    /// Whether the key may have been used although no signature came out.
    pub const fn key_use(&self) -> KeyUse {
        match self {
            Self::Deadline(key_use) | Self::Unavailable { key_use, .. } => *key_use,
            Self::BadSignature | Self::Panicked => KeyUse::Unknown,
            _ => KeyUse::None,
        }
    }

    /// Whether the same request, unchanged, may succeed later.
    pub const fn retryable(&self) -> bool {
        matches!(self.fault(), Fault::Load | Fault::Device)
            || matches!(self, Self::Halted | Self::KeyDisabled { .. })
    }

    /// Who has to act.
    pub const fn fault(&self) -> Fault {
        match self {
            Self::UnknownKey | Self::LedgerKey | Self::WrongInput => Fault::Caller,
            Self::Halted | Self::KeyMissing { .. } | Self::KeyDisabled { .. } | Self::Refused { .. } => {
                Fault::Operator
            }
            Self::Busy | Self::Deadline(_) => Fault::Load,
            Self::Unavailable { .. } | Self::BadSignature | Self::Panicked => Fault::Device,
        }
    }

    /// A device that is gone before the key was reached.
    pub fn unavailable(cause: impl Into<String>) -> Self {
        Self::Unavailable { cause: cause.into(), key_use: KeyUse::None }
    }

    /// A permanent refusal.
    pub fn refused(cause: impl Into<String>) -> Self {
        Self::Refused { cause: cause.into() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_error_has_a_code_the_ledger_accepts() {
        let all = [
            SignerError::Halted,
            SignerError::UnknownKey,
            SignerError::LedgerKey,
            SignerError::WrongInput,
            SignerError::Busy,
            SignerError::Deadline(KeyUse::None),
            SignerError::unavailable("x"),
            SignerError::KeyMissing { cause: "x".into() },
            SignerError::KeyDisabled { cause: "x".into() },
            SignerError::refused("x"),
            SignerError::BadSignature,
            SignerError::Panicked,
        ];
        for error in &all {
            assert_eq!(error.failure_code().as_str().parse::<FailureCode>().ok(), Some(error.failure_code()));
            if error.fault() == Fault::Caller {
                assert!(!error.retryable() && error.key_use() == KeyUse::None, "{error}");
            }
        }
        let disabled = SignerError::KeyDisabled { cause: "x".into() };
        assert_eq!((disabled.fault(), disabled.key_use()), (Fault::Operator, KeyUse::None));
        assert!(disabled.retryable() && !SignerError::refused("x").retryable());
        let codes: std::collections::BTreeSet<_> = all.iter().map(SignerError::code).collect();
        assert_eq!(codes.len(), all.len());
    }

    #[test]
    fn an_algorithm_gets_what_it_takes_and_nothing_else() {
        use SignatureAlgorithm::{EcdsaP384Sha384, Ed25519, RsaSha256};
        let (short, long) = (Digest::Sha256([3; 32]), Digest::Sha384([4; 48]));
        let of = |input: SealInput<'_>, algorithm| input.for_algorithm(algorithm).map(<[u8]>::len);
        assert_eq!(of(SealInput::Message(b"m"), Ed25519), Ok(1));
        assert_eq!(of(SealInput::Digest(&long), Ed25519), Ok(48));
        assert_eq!(of(SealInput::Digest(&long), EcdsaP384Sha384), Ok(48));
        assert_eq!(of(SealInput::Digest(&short), RsaSha256), Ok(32));
        for (input, algorithm) in [
            (SealInput::Message(b"m"), RsaSha256),
            (SealInput::Digest(&long), RsaSha256),
            (SealInput::Digest(&short), EcdsaP384Sha384),
        ] {
            assert_eq!(of(input, algorithm), Err(SignerError::WrongInput));
        }
    }
}
