//! Keys in this process, for development and tests only.
//!
//! A [`SoftwareBackend`] cannot be made without a [`DevelopmentOnly`] token, and that exists only where
//! the operator allowed it and the environment is not production. Keys live in memory and vanish, or in
//! a directory as PKCS#8 files (`LABEL.p8`; a MAC key as raw bytes, as many as its hash
//! has, `LABEL.mac`) that only their owner
//! may read. It refuses: files others can read, labels that are not plain file names, and overwriting.
//!
//! Whoever reads this process's memory or that directory has the keys. That is why it is not production.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::fs;
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Instant;

use aws_lc_rs::encoding::{AsBigEndian, AsDer, Curve25519SeedBin, Pkcs8V1Der, PublicKeyX509Der};
use aws_lc_rs::error::Unspecified;
use aws_lc_rs::hmac;
use aws_lc_rs::rand::{self, SystemRandom};
use aws_lc_rs::rsa::{self, KeySize};
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_ASN1_SIGNING, ECDSA_P256K1_SHA256_ASN1_SIGNING, ECDSA_P384_SHA384_ASN1_SIGNING,
    EcdsaKeyPair, EcdsaSigningAlgorithm, Ed25519KeyPair, KeyPair, ML_DSA_44_SIGNING, ML_DSA_65_SIGNING,
    PqdsaKeyPair, PqdsaSigningAlgorithm, RSA_PKCS1_SHA256, RSA_PKCS1_SHA384, RSA_PKCS1_SHA512,
    RSA_PSS_SHA256, RSA_PSS_SHA384, RSA_PSS_SHA512, RsaEncoding,
};
use chancery_format::entry::KeyUse;
use chancery_format::{Digest, HashAlgorithm, KeyFamily, PublicKey, SignatureAlgorithm};
use ed25519_dalek::{Sha512, SigningKey};
use ml_dsa::pkcs8::DecodePrivateKey;
use ml_dsa::{ExpandedSigningKey, MlDsa44, MlDsa65, MlDsaParams, SigningKey as SigningKeyOf};
use sha2::Digest as _;
use zeroize::Zeroizing;

use crate::birth::{Birth, Origin};
use crate::key_files::{check_label, create_private, key_path, read_private};
use crate::self_check::imported;
use crate::signer::{Backend, Cost, KeyShape, RsaBits, SealInput, SignerError, SignerHandle};

/// Proof that software keys were allowed. Made only by [`DevelopmentOnly::check`].
#[derive(Debug, Clone, Copy)]
pub struct DevelopmentOnly(());

/// Software keys are not allowed here. The operator's decision; nothing was created.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NotDevelopment {
    /// The environment is production, where no software key may exist.
    #[error("software keys are refused in production")]
    Production,
    /// Nobody allowed them.
    #[error("software keys need DEV_ALLOW_EPHEMERAL=true")]
    NotAllowed,
}

impl DevelopmentOnly {
    /// Decides from two facts: whether `DEV_ALLOW_EPHEMERAL` is true, and whether the environment is
    /// production. Reading them is the daemon's task.
    pub const fn check(dev_allow_ephemeral: bool, production: bool) -> Result<Self, NotDevelopment> {
        if production {
            return Err(NotDevelopment::Production);
        }
        if dev_allow_ephemeral { Ok(Self(())) } else { Err(NotDevelopment::NotAllowed) }
    }
}

/// What there is in software: everything.
pub const ALGORITHMS: &[SignatureAlgorithm] = &SignatureAlgorithm::ALL;

/// Why a key was not generated or a directory not opened.
#[derive(Debug, thiserror::Error)]
pub enum SoftwareError {
    /// The label is no plain file name. Operator's fault.
    #[error("label \"{0}\" must be 1 to 64 characters of A-Z a-z 0-9 . _ - and not begin with a dot")]
    Label(String),
    /// A key of that label exists; it was left alone. Operator's fault.
    #[error("a key labelled \"{0}\" exists and is not overwritten")]
    Exists(String),
    /// The file system refused. A partly written file is removed.
    #[error("{path}: {source}", path = .path.display())]
    File {
        /// The file or directory.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The system's randomness or the library failed.
    #[error("key generation failed")]
    Generate,
}

/// A backend whose keys are in this process.
pub struct SoftwareBackend {
    name: String,
    directory: Option<PathBuf>,
    /// By label and whether it is a MAC key.
    ephemeral: RwLock<HashMap<(String, bool), Arc<Secret>>>,
}

/// A private key as stored: PKCS#8, or the bytes of a MAC key.
pub(crate) type Secret = Zeroizing<Vec<u8>>;

impl SoftwareBackend {
    /// Keys that vanish with the process.
    pub fn ephemeral(name: &str, _allowed: DevelopmentOnly) -> Self {
        Self { name: name.to_owned(), directory: None, ephemeral: RwLock::default() }
    }

    /// Keys in a directory, which is created if need be, for its owner only.
    pub fn in_directory(
        name: &str,
        directory: &Path,
        _allowed: DevelopmentOnly,
    ) -> Result<Self, SoftwareError> {
        let created = fs::DirBuilder::new().recursive(true).mode(0o700).create(directory);
        created.map_err(|source| SoftwareError::File { path: directory.to_owned(), source })?;
        Ok(Self {
            name: name.to_owned(),
            directory: Some(directory.to_owned()),
            ephemeral: RwLock::default(),
        })
    }

    /// Makes a new key. Never replaces one.
    pub fn generate_key(&self, label: &str, shape: KeyShape) -> Result<(), SoftwareError> {
        check_label(label)?;
        self.store(
            label,
            matches!(shape, KeyShape::Hmac(_)),
            generate(shape).map_err(|_| SoftwareError::Generate)?,
        )
    }

    fn store(&self, label: &str, mac: bool, secret: Secret) -> Result<(), SoftwareError> {
        match &self.directory {
            Some(directory) => create_private(&key_path(directory, label, mac), &secret, label),
            None => {
                let mut keys = self.ephemeral.write().unwrap_or_else(PoisonError::into_inner);
                match keys.entry((label.to_owned(), mac)) {
                    Entry::Occupied(_) => Err(SoftwareError::Exists(label.to_owned())),
                    Entry::Vacant(free) => {
                        free.insert(Arc::new(secret));
                        Ok(())
                    }
                }
            }
        }
    }

    fn load(&self, label: &str, mac: bool) -> Result<Arc<Secret>, SignerError> {
        check_label(label).map_err(|error| SignerError::refused(error.to_string()))?;
        match &self.directory {
            Some(directory) => read_private(&key_path(directory, label, mac)).map(Arc::new),
            None => {
                let keys = self.ephemeral.read().unwrap_or_else(PoisonError::into_inner);
                let missing = || SignerError::KeyMissing { cause: format!("no key labelled \"{label}\"") };
                keys.get(&(label.to_owned(), mac)).map(Arc::clone).ok_or_else(missing)
            }
        }
    }
}

impl Backend for SoftwareBackend {
    fn name(&self) -> &str {
        &self.name
    }

    fn cost(&self) -> Cost {
        Cost::Inline
    }

    fn sessions(&self) -> usize {
        std::thread::available_parallelism().map_or(1, usize::from)
    }

    fn open_key(
        &self,
        label: &str,
        algorithm: SignatureAlgorithm,
    ) -> Result<Arc<dyn SignerHandle>, SignerError> {
        let secret = self.load(label, algorithm.is_mac())?;
        let key = SoftKey::parse(&secret, algorithm);
        let key = key.map_err(|_| SignerError::refused(format!("\"{label}\" holds no {algorithm} key")))?;
        let public_key = match key.public_der().map_err(|_| SignerError::refused("public key unreadable"))? {
            Some(der) => Some(
                PublicKey::from_der(algorithm, &der)
                    .map_err(|error| SignerError::refused(format!("\"{label}\": {error}")))?,
            ),
            None => None,
        };
        Ok(Arc::new(SoftwareHandle { algorithm, key, public_key }))
    }

    fn probe(&self, _deadline: Instant) -> Result<(), SignerError> {
        Ok(()) // there is no device that could be away
    }

    fn algorithms(&self) -> &'static [SignatureAlgorithm] {
        ALGORITHMS
    }

    /// Whoever can write the directory could have put the key there.
    fn birth(&self, _label: &str, _algorithm: SignatureAlgorithm) -> Result<Birth, SignerError> {
        let origin = if self.directory.is_none() { Origin::Generated } else { Origin::Unknown };
        Ok(Birth { origin, device: Some("software".to_owned()), ..Birth::default() })
    }
}

struct SoftwareHandle {
    algorithm: SignatureAlgorithm,
    key: SoftKey,
    public_key: Option<PublicKey>,
}

enum SoftKey {
    Ed25519(Ed25519KeyPair),
    Ed25519ph(Box<SigningKey>),
    Ecdsa(EcdsaKeyPair),
    Rsa(rsa::KeyPair, &'static dyn RsaEncoding),
    /// Over messages, and over µ made outside.
    MlDsa(PqdsaKeyPair, OverMu),
    Hmac(Box<hmac::Key>),
}

/// An ML-DSA key as the library has it that signs µ made outside (FIPS 204 algorithm 7 from line 7), by the
/// deterministic variant.
enum OverMu {
    MlDsa44(Box<ExpandedSigningKey<MlDsa44>>),
    MlDsa65(Box<ExpandedSigningKey<MlDsa65>>),
}

impl OverMu {
    fn sign(&self, mu: &[u8]) -> Result<Vec<u8>, Unspecified> {
        let mu = mu.try_into().map_err(|_| Unspecified)?;
        Ok(match self {
            Self::MlDsa44(key) => key.sign_mu_deterministic(&mu).encode().to_vec(),
            Self::MlDsa65(key) => key.sign_mu_deterministic(&mu).encode().to_vec(),
        })
    }
}

fn expanded<P>(pkcs8: &[u8]) -> Result<Box<ExpandedSigningKey<P>>, Unspecified>
where
    P: MlDsaParams,
    SigningKeyOf<P>: DecodePrivateKey,
{
    let key = SigningKeyOf::<P>::from_pkcs8_der(pkcs8).map_err(|_| Unspecified)?;
    Ok(Box::new(ExpandedSigningKey::from_seed(key.as_seed())))
}

impl SignerHandle for SoftwareHandle {
    fn algorithm(&self) -> SignatureAlgorithm {
        self.algorithm
    }

    fn public_key(&self) -> Option<&PublicKey> {
        self.public_key.as_ref()
    }

    fn sign(&self, input: SealInput<'_>, deadline: Instant) -> Result<Vec<u8>, SignerError> {
        if Instant::now() >= deadline {
            return Err(SignerError::Deadline(KeyUse::None));
        }
        let failed = |_| SignerError::Unavailable {
            cause: "the software key failed".to_owned(),
            key_use: KeyUse::Unknown,
        };
        let bytes = input.for_algorithm(self.algorithm)?;
        let digest = || match input {
            SealInput::Digest(digest) => imported(digest),
            SealInput::Message(_) => Err(Unspecified),
        };
        let signature = match &self.key {
            SoftKey::Ed25519(key) => key.try_sign(bytes).map(|signature| signature.as_ref().to_vec()),
            SoftKey::Ed25519ph(key) => key
                .sign_prehashed(Sha512::new_with_prefix(bytes), None)
                .map(|signature| signature.to_bytes().to_vec())
                .map_err(|_| Unspecified),
            SoftKey::Hmac(key) => Ok(hmac::sign(key, bytes).as_ref().to_vec()),
            SoftKey::Ecdsa(key) => digest()
                .and_then(|digest| key.sign_digest(&digest))
                .map(|signature| signature.as_ref().to_vec()),
            SoftKey::Rsa(key, padding) => {
                let mut signature = vec![0; key.public_modulus_len()];
                let signed = digest().and_then(|digest| key.sign_digest(*padding, &digest, &mut signature));
                signed.map(|()| signature)
            }
            SoftKey::MlDsa(_, over_mu) if matches!(input, SealInput::Digest(Digest::Mu(_))) => {
                over_mu.sign(bytes)
            }
            SoftKey::MlDsa(key, _) => {
                let mut signature = vec![0; key.algorithm().signature_len()];
                key.sign(bytes, &mut signature).map(|_| signature)
            }
        };
        signature.map_err(failed)
    }
}

impl SoftKey {
    fn parse(secret: &[u8], algorithm: SignatureAlgorithm) -> Result<Self, Unspecified> {
        Ok(match algorithm.family() {
            KeyFamily::Ed25519 => {
                let pair = Ed25519KeyPair::from_pkcs8(secret)?;
                if algorithm == SignatureAlgorithm::Ed25519 {
                    return Ok(Self::Ed25519(pair));
                }
                let seed: Curve25519SeedBin<'_> = pair.seed()?.as_be_bytes()?;
                Self::Ed25519ph(Box::new(SigningKey::try_from(seed.as_ref()).map_err(|_| Unspecified)?))
            }
            KeyFamily::P256 => Self::ecdsa(&ECDSA_P256_SHA256_ASN1_SIGNING, secret)?,
            KeyFamily::P384 => Self::ecdsa(&ECDSA_P384_SHA384_ASN1_SIGNING, secret)?,
            KeyFamily::Secp256k1 => Self::ecdsa(&ECDSA_P256K1_SHA256_ASN1_SIGNING, secret)?,
            KeyFamily::Rsa => Self::Rsa(rsa::KeyPair::from_pkcs8(secret)?, rsa_encoding(algorithm)),
            KeyFamily::MlDsa44 => Self::MlDsa(
                PqdsaKeyPair::from_pkcs8(&ML_DSA_44_SIGNING, secret)?,
                OverMu::MlDsa44(expanded(secret)?),
            ),
            KeyFamily::MlDsa65 => Self::MlDsa(
                PqdsaKeyPair::from_pkcs8(&ML_DSA_65_SIGNING, secret)?,
                OverMu::MlDsa65(expanded(secret)?),
            ),
            KeyFamily::Secret => {
                let (hash, bytes) = mac_hash(algorithm);
                if secret.len() != bytes {
                    return Err(Unspecified);
                }
                Self::Hmac(Box::new(hmac::Key::new(hash, secret)))
            }
        })
    }

    fn ecdsa(curve: &'static EcdsaSigningAlgorithm, secret: &[u8]) -> Result<Self, Unspecified> {
        Ok(Self::Ecdsa(EcdsaKeyPair::from_pkcs8(curve, secret)?))
    }

    fn public_der(&self) -> Result<Option<Vec<u8>>, Unspecified> {
        let der: PublicKeyX509Der<'_> = match self {
            Self::Ed25519(key) => key.public_key().as_der()?,
            Self::Ed25519ph(key) => {
                let key = PublicKey::from_ed25519_raw(key.verifying_key().as_bytes());
                return key.map(|key| Some(key.spki_der().to_vec())).map_err(|_| Unspecified);
            }
            Self::Ecdsa(key) => key.public_key().as_der()?,
            Self::Rsa(key, _) => key.public_key().as_der()?,
            Self::MlDsa(key, _) => key.public_key().as_der()?,
            Self::Hmac(_) => return Ok(None),
        };
        Ok(Some(der.as_ref().to_vec()))
    }
}

fn rsa_encoding(algorithm: SignatureAlgorithm) -> &'static dyn RsaEncoding {
    match (algorithm.is_pss(), algorithm.hash()) {
        (true, Some(HashAlgorithm::Sha384)) => &RSA_PSS_SHA384,
        (true, Some(HashAlgorithm::Sha512)) => &RSA_PSS_SHA512,
        (true, _) => &RSA_PSS_SHA256,
        (false, Some(HashAlgorithm::Sha384)) => &RSA_PKCS1_SHA384,
        (false, Some(HashAlgorithm::Sha512)) => &RSA_PKCS1_SHA512,
        (false, _) => &RSA_PKCS1_SHA256,
    }
}

/// The library's hash for a MAC, and the length of its key: the hash's output (RFC 2104 §3).
fn mac_hash(algorithm: SignatureAlgorithm) -> (hmac::Algorithm, usize) {
    match algorithm.hash() {
        Some(HashAlgorithm::Sha384) => (hmac::HMAC_SHA384, 48),
        Some(HashAlgorithm::Sha512) => (hmac::HMAC_SHA512, 64),
        _ => (hmac::HMAC_SHA256, 32),
    }
}

fn generate(shape: KeyShape) -> Result<Secret, Unspecified> {
    let random = SystemRandom::new();
    let ecdsa =
        |curve| EcdsaKeyPair::generate_pkcs8(curve, &random).map(|document| document.as_ref().to_vec());
    let ml_dsa = |parameters: &'static PqdsaSigningAlgorithm| {
        let document = PqdsaKeyPair::generate(parameters)?.to_pkcs8v1()?;
        Ok::<_, Unspecified>(document.as_ref().to_vec())
    };
    let bytes = match shape {
        KeyShape::Ed25519 => Ed25519KeyPair::generate_pkcs8v1(&random)?.as_ref().to_vec(),
        KeyShape::P256 => ecdsa(&ECDSA_P256_SHA256_ASN1_SIGNING)?,
        KeyShape::P384 => ecdsa(&ECDSA_P384_SHA384_ASN1_SIGNING)?,
        KeyShape::Secp256k1 => ecdsa(&ECDSA_P256K1_SHA256_ASN1_SIGNING)?,
        KeyShape::MlDsa44 => ml_dsa(&ML_DSA_44_SIGNING)?,
        KeyShape::MlDsa65 => ml_dsa(&ML_DSA_65_SIGNING)?,
        KeyShape::Rsa(bits) => {
            let size = match bits {
                RsaBits::B2048 => KeySize::Rsa2048,
                RsaBits::B3072 => KeySize::Rsa3072,
                RsaBits::B4096 => KeySize::Rsa4096,
            };
            let der: Pkcs8V1Der<'_> = rsa::KeyPair::generate(size)?.as_der()?;
            der.as_ref().to_vec()
        }
        KeyShape::Hmac(hash) => {
            let mut secret = vec![0; hash.bytes()];
            rand::fill(&mut secret)?;
            secret
        }
    };
    Ok(Zeroizing::new(bytes))
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a failed unwrap is the test's failure")]
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn only_an_allowed_development_gets_software_keys() {
        assert!(DevelopmentOnly::check(true, false).is_ok());
        assert_eq!(DevelopmentOnly::check(true, true).unwrap_err(), NotDevelopment::Production);
        assert_eq!(DevelopmentOnly::check(false, true).unwrap_err(), NotDevelopment::Production);
        assert_eq!(DevelopmentOnly::check(false, false).unwrap_err(), NotDevelopment::NotAllowed);
    }

    fn on_disk() -> (tempfile::TempDir, SoftwareBackend) {
        let directory = tempfile::tempdir().unwrap();
        let allowed = DevelopmentOnly::check(true, false).unwrap();
        let backend = SoftwareBackend::in_directory("dev", &directory.path().join("keys"), allowed).unwrap();
        (directory, backend)
    }

    #[test]
    fn a_key_file_is_private_is_found_again_and_is_never_replaced() {
        let (directory, backend) = on_disk();
        backend.generate_key("orders", KeyShape::Ed25519).unwrap();
        let path = directory.path().join("keys/orders.p8");
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        let first = backend.open_key("orders", SignatureAlgorithm::Ed25519).unwrap();
        assert!(matches!(
            backend.generate_key("orders", KeyShape::Ed25519),
            Err(SoftwareError::Exists(label)) if label == "orders"
        ));
        let again = backend.open_key("orders", SignatureAlgorithm::Ed25519).unwrap();
        assert!(first.public_key() == again.public_key());
    }

    #[test]
    fn a_key_file_others_can_read_is_refused_by_name() {
        let (directory, backend) = on_disk();
        backend.generate_key("orders", KeyShape::Hmac(HashAlgorithm::Sha256)).unwrap();
        let path = directory.path().join("keys/orders.mac");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
        let error = backend.open_key("orders", SignatureAlgorithm::HmacSha256).err().unwrap();
        assert!(matches!(&error, SignerError::Refused { cause } if cause.contains("orders.mac")), "{error}");
    }

    #[test]
    fn labels_cannot_leave_the_directory_and_kinds_are_not_mixed_up() {
        let (_directory, backend) = on_disk();
        for label in ["", "../orders", "a/b", ".hidden", "a b"] {
            assert!(matches!(
                backend.generate_key(label, KeyShape::Hmac(HashAlgorithm::Sha256)),
                Err(SoftwareError::Label(_))
            ));
        }
        backend.generate_key("ec", KeyShape::P256).unwrap();
        let wrong = backend.open_key("ec", SignatureAlgorithm::Ed25519).err().unwrap();
        assert_eq!(wrong.code(), "backend-refused");
        let missing = backend.open_key("ec2", SignatureAlgorithm::Ed25519).err().unwrap();
        assert_eq!(missing.code(), "key-missing");
    }
}
