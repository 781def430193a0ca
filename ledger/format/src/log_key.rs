//! The keys by which a log signs its checkpoints: Ed25519 (type 0x01), and ML-DSA-44 (type 0x06) beside it.
//!
//! A log that is public signs with Ed25519 in any case, since that is what every reader knows; with ML-DSA-44
//! its checkpoints also stand when Ed25519 falls. Refused: the type of Ed25519 cosignatures (0x04), which is
//! for witnesses.

use crate::cosignature::CosignerKey;
use crate::note::{NoteError, NoteVerifier};
use crate::public_key::PublicKey;

/// A key that may sign a log's checkpoints; its name is the log's origin.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LogKey {
    /// Signs the note.
    Ed25519(NoteVerifier),
    /// Signs what the checkpoint says, in the form of a cosignature.
    MlDsa44(CosignerKey),
}

impl LogKey {
    /// Reads a vkey of type 0x01 or 0x06.
    pub fn parse(vkey: &str) -> Result<Self, NoteError> {
        if let Ok(key) = NoteVerifier::parse(vkey) {
            return Ok(Self::Ed25519(key));
        }
        match CosignerKey::parse(vkey) {
            Ok(key) if key.is_ml_dsa() => Ok(Self::MlDsa44(key)),
            _ => Err(NoteError::VerifierKey),
        }
    }

    /// The text form.
    pub fn vkey(&self) -> String {
        match self {
            Self::Ed25519(key) => key.vkey(),
            Self::MlDsa44(key) => key.vkey(),
        }
    }

    /// Name of the key: the log's origin.
    pub fn name(&self) -> &str {
        match self {
            Self::Ed25519(key) => key.name(),
            Self::MlDsa44(key) => key.name(),
        }
    }

    /// The public key itself, which no second name should have. It is there: it was checked when it was read.
    pub fn public_key(&self) -> Option<PublicKey> {
        match self {
            Self::Ed25519(key) => PublicKey::from_ed25519_raw(&key.public_key()).ok(),
            Self::MlDsa44(key) => Some(key.public_key().clone()),
        }
    }

    /// Sorts keys by what they verify.
    pub fn split(keys: impl IntoIterator<Item = Self>) -> (Vec<NoteVerifier>, Vec<CosignerKey>) {
        let (mut notes, mut cosigners) = (Vec::new(), Vec::new());
        for key in keys {
            match key {
                Self::Ed25519(key) => notes.push(key),
                Self::MlDsa44(key) => cosigners.push(key),
            }
        }
        (notes, cosigners)
    }
}
