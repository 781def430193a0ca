//! The keys by which a log signs its checkpoints: Ed25519 (type 0x01), and ML-DSA-44 (type 0x06) beside it.
//!
//! A log that is public signs with Ed25519 in any case, since that is what every reader knows; with ML-DSA-44
//! its checkpoints also stand when Ed25519 falls. Refused: the type of Ed25519 cosignatures (0x04), which is
//! for witnesses.

use crate::cosignature::CosignerKey;
use crate::note::{NoteError, NoteVerifier};

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

    /// The raw public key, which no second name should have.
    pub fn raw(&self) -> Vec<u8> {
        match self {
            Self::Ed25519(key) => key.public_key().to_vec(),
            Self::MlDsa44(key) => key.public_key().ml_dsa_44_raw().unwrap_or_default(),
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
