//! An approver's own key: a PEM file, PKCS#8, Ed25519 or ECDSA P-256, for its owner alone.

use std::fs::File;
use std::io::Read as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ed25519_dalek::pkcs8::DecodePrivateKey as _;
use p256::ecdsa::signature::hazmat::PrehashSigner as _;
use rustls_pki_types::PrivatePkcs8KeyDer;
use rustls_pki_types::pem::PemObject as _;
use sha2::{Digest as _, Sha256};
use zeroize::Zeroizing;

use crate::limits;

/// Permissions of group and others.
const OTHERS: u32 = 0o077;

/// A key that signs statements. Its private half is wiped when dropped.
pub struct ApproverKey(Key);

enum Key {
    Ed25519(Box<ed25519_dalek::SigningKey>),
    P256(Box<p256::ecdsa::SigningKey>),
}

/// Why a key file cannot be used. Its owner is at fault; nothing was sent. No variant holds any part of a key.
#[derive(Debug, thiserror::Error)]
pub enum ApproverKeyError {
    /// It cannot be read.
    #[error("{path}: {cause}", path = path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        cause: String,
    },
    /// Others can read it, so the key may be theirs too.
    #[error("{path}: others can read it (mode {mode:03o}); it must be for its owner alone (600)", path = path.display())]
    Exposed {
        /// The file.
        path: PathBuf,
        /// Its permissions.
        mode: u32,
    },
    /// Not a key of a kind approvers have, or one that is encrypted.
    #[error("{path}: holds no private key of Ed25519 or P-256 in PKCS#8 PEM, unencrypted", path = .0.display())]
    Unsupported(PathBuf),
}

impl ApproverKey {
    /// Reads a key file. Refuses one that others can read.
    pub fn read(path: &Path) -> Result<Self, ApproverKeyError> {
        let pem = read_private(path)?;
        let unsupported = || ApproverKeyError::Unsupported(path.to_owned());
        let der = PrivatePkcs8KeyDer::from_pem_slice(&pem).map_err(|_| unsupported())?;
        let der = Zeroizing::new(der.secret_pkcs8_der().to_vec());
        if let Ok(key) = ed25519_dalek::SigningKey::from_pkcs8_der(&der) {
            return Ok(Self(Key::Ed25519(Box::new(key))));
        }
        let key = p256::ecdsa::SigningKey::from_pkcs8_der(&der).map_err(|_| unsupported())?;
        Ok(Self(Key::P256(Box::new(key))))
    }

    /// Base64 of the signature over the SHA-256 of `statement`: the digest is Ed25519's message, and ECDSA's
    /// digest (DER).
    pub fn sign(&self, statement: &str) -> String {
        let digest = Sha256::digest(statement.as_bytes());
        let signature = match &self.0 {
            Key::Ed25519(key) => ed25519_dalek::Signer::sign(key.as_ref(), &digest).to_vec(),
            Key::P256(key) => {
                let signature: p256::ecdsa::DerSignature =
                    key.sign_prehash(&digest).expect("32 bytes are a digest of P-256");
                signature.as_bytes().to_vec()
            }
        };
        STANDARD.encode(signature)
    }
}

fn read_private(path: &Path) -> Result<Zeroizing<Vec<u8>>, ApproverKeyError> {
    let failed =
        |error: std::io::Error| ApproverKeyError::File { path: path.to_owned(), cause: error.to_string() };
    let file = File::open(path).map_err(failed)?;
    // Of the file that is open, not of what the name means by now.
    let mode = file.metadata().map_err(failed)?.permissions().mode() & 0o777;
    if mode & OTHERS != 0 {
        return Err(ApproverKeyError::Exposed { path: path.to_owned(), mode });
    }
    let mut bytes = Zeroizing::new(Vec::new());
    file.take(limits::PEM_BYTES_MAX).read_to_end(&mut bytes).map_err(failed)?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a failed step is a failed test")]

    use std::fs::{self, Permissions};

    use chancery_format::{Digest, PublicKey, SignatureAlgorithm};

    use super::*;

    fn file(pem: &str, mode: u32) -> (tempfile::TempDir, PathBuf) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("approver.pem");
        fs::write(&path, pem).unwrap();
        fs::set_permissions(&path, Permissions::from_mode(mode)).unwrap();
        (dir, path)
    }

    #[test]
    fn what_it_signs_the_ledgers_own_rules_accept() {
        for (algorithm, generator) in [
            (SignatureAlgorithm::Ed25519, &rcgen::PKCS_ED25519),
            (SignatureAlgorithm::EcdsaP256Sha256, &rcgen::PKCS_ECDSA_P256_SHA256),
        ] {
            let pair = rcgen::KeyPair::generate_for(generator).unwrap();
            let (_dir, path) = file(&pair.serialize_pem(), 0o600);
            let signature = STANDARD.decode(ApproverKey::read(&path).unwrap().sign("text")).unwrap();
            let public = PublicKey::from_pem(algorithm, &pair.public_key_pem()).unwrap();
            let digest = |text: &str| Digest::Sha256(Sha256::digest(text).into());
            assert!(public.verify(&digest("text"), &signature), "{algorithm:?}");
            assert!(!public.verify(&digest("texts"), &signature), "{algorithm:?}");
        }
    }

    #[test]
    fn files_of_others_and_other_keys_are_refused() {
        let pem = rcgen::KeyPair::generate().unwrap().serialize_pem();
        let (_dir, path) = file(&pem, 0o640);
        assert!(matches!(ApproverKey::read(&path), Err(ApproverKeyError::Exposed { mode: 0o640, .. })));
        let other = rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P384_SHA384).unwrap().serialize_pem();
        for wrong in [other.as_str(), "", "secret"] {
            let (_dir, path) = file(wrong, 0o400);
            let error = ApproverKey::read(&path).err().unwrap();
            assert!(matches!(error, ApproverKeyError::Unsupported(_)), "{error}");
            assert!(!error.to_string().contains("secret"));
        }
        let gone = ApproverKey::read(Path::new("/nonexistent")).err().unwrap();
        assert!(matches!(gone, ApproverKeyError::File { .. }));
    }
}
