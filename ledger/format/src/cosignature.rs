//! C2SP tlog-cosignature: what witnesses sign of a checkpoint, and how it stands below one.
//!
//! A cosignature is a line of the note whose signature is `timestamp ‖ signature`, under a key that is for
//! cosignatures only: Ed25519 (type 0x04) over a header, the time and the note's text, or ML-DSA-44 (type
//! 0x06) over a structure that names cosigner, origin, range and root. A log signs its own checkpoints with
//! ML-DSA-44 in the same form, under its origin as the name.
//!
//! This file tells what is to be signed and puts the signature into its line; it never holds a private key.
//! Refused: keys of other types, times beyond 2^63 − 1, signatures of another length. An Ed25519 cosignature
//! does not cover the cosigner's name, so one key must never serve two names.

use crate::algorithm::SignatureAlgorithm;
use crate::checkpoint::Checkpoint;
use crate::hash::Hash;
use crate::names::Origin;
use crate::note::{Note, NoteError, NoteSignature, is_name, key_id, read_vkey, write_line, write_vkey};
use crate::public_key::PublicKey;
use crate::timestamp::Timestamp;

#[cfg(test)]
pub(crate) mod tests;

/// Longest name of a cosigner, in bytes: it must fit an 8-bit length.
pub const NAME_BYTES_MAX: usize = u8::MAX as usize;

/// Signature type of an Ed25519 cosignature.
const ED25519: u8 = 0x04;
/// Signature type of an ML-DSA-44 cosignature, of a checkpoint or a subtree.
const ML_DSA_44: u8 = 0x06;
/// What an ML-DSA-44 cosigner signs begins with this.
const SUBTREE_LABEL: &[u8; 12] = b"subtree/v1\n\0";

const _: () = assert!(Origin::BYTES_MAX <= NAME_BYTES_MAX);

/// Why a cosigner key or a cosignature could not be made. The caller is at fault; retrying cannot help.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum CosignatureError {
    /// Not a verifier key of type 0x04 or 0x06, in its one spelling, with a name of at most 255 bytes.
    #[error("not a cosigner's verifier key of Ed25519 or ML-DSA-44")]
    Key,
    /// The signature does not have the length of its algorithm's.
    #[error("signature does not have the length of its algorithm's")]
    Length,
}

/// When a cosigner signed, in seconds since 1970; 0 if it says nothing about when.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct CosignedAt(u64);

impl CosignedAt {
    /// No statement about the time, nor that the tree is the largest seen. ML-DSA-44 only.
    pub const UNSTATED: Self = Self(0);

    /// From seconds; `None` beyond 2^63 − 1.
    pub const fn new(seconds: u64) -> Option<Self> {
        if seconds > i64::MAX as u64 { None } else { Some(Self(seconds)) }
    }

    /// The seconds.
    pub const fn seconds(self) -> u64 {
        self.0
    }
}

impl From<Timestamp> for CosignedAt {
    fn from(time: Timestamp) -> Self {
        Self(u64::try_from(time.unix_ms() / 1000).unwrap_or(0))
    }
}

/// A cosignature that verified.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cosignature {
    /// Name of the cosigner's key.
    pub name: String,
    /// When it says it signed.
    pub timestamp: CosignedAt,
}

/// A key that cosigns checkpoints: a name, and an Ed25519 or ML-DSA-44 public key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CosignerKey {
    name: String,
    key_id: [u8; 4],
    key: PublicKey,
}

impl CosignerKey {
    /// From a name and the public key, which is for `ed25519` or `ml-dsa-44`.
    pub fn new(name: &str, key: PublicKey) -> Result<Self, CosignatureError> {
        let (kind, raw) = material(&key).ok_or(CosignatureError::Key)?;
        if !is_name(name) || name.len() > NAME_BYTES_MAX {
            return Err(CosignatureError::Key);
        }
        Ok(Self { name: name.to_owned(), key_id: key_id(name, kind, &raw), key })
    }

    /// Reads `name+hex(key id)+base64(type ‖ key)`.
    ///
    /// ```
    /// use chancery_format::cosignature::CosignerKey;
    /// let vkey = "witness.example/w1+200fb1ab+BCL8KXeS8Lb/wL/P237bDAqhTgJaNl7A40Lobjgpy3S2";
    /// assert_eq!(CosignerKey::parse(vkey).unwrap().vkey(), vkey);
    /// ```
    pub fn parse(vkey: &str) -> Result<Self, CosignatureError> {
        let bad = || CosignatureError::Key;
        let (name, kind, raw) = read_vkey(vkey).ok_or_else(bad)?;
        let key = match kind {
            ED25519 => PublicKey::from_ed25519_raw(raw.as_slice().try_into().map_err(|_| bad())?),
            ML_DSA_44 => PublicKey::from_ml_dsa_44_raw(raw.as_slice().try_into().map_err(|_| bad())?),
            _ => return Err(bad()),
        };
        Self::new(name, key.map_err(|_| bad())?)
    }

    /// The text form.
    pub fn vkey(&self) -> String {
        material(&self.key).map_or_else(String::new, |(kind, raw)| write_vkey(&self.name, kind, &raw))
    }

    /// Name of the key; for a log's own, its origin.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The four bytes that stand before each signature.
    pub const fn key_id(&self) -> [u8; 4] {
        self.key_id
    }

    /// The key itself; it verifies [`CosignerKey::message`], and nothing else.
    pub const fn public_key(&self) -> &PublicKey {
        &self.key
    }

    /// Whether it is for ML-DSA-44; if not, for Ed25519.
    pub fn is_ml_dsa(&self) -> bool {
        self.key.algorithm() == SignatureAlgorithm::MlDsa44
    }

    /// What this cosigner signs for a checkpoint. ML-DSA-44 signs it pure, with an empty context.
    pub fn message(&self, checkpoint: &Checkpoint, at: CosignedAt) -> Vec<u8> {
        if self.is_ml_dsa() {
            let head = checkpoint.head();
            return subtree(&self.name, at, checkpoint.origin(), (0, head.size.0), &head.root);
        }
        format!("cosignature/v1\ntime {}\n{}", at.0, checkpoint.text()).into_bytes()
    }

    /// What this cosigner signs for the leaves from `start` up to, not including, `end`, whose tree has this
    /// root; without a time. `None` for Ed25519, which signs checkpoints only, and for an empty range that is
    /// not the empty tree.
    pub fn subtree_message(&self, origin: &Origin, start: u64, end: u64, root: &Hash) -> Option<Vec<u8>> {
        let sane = self.is_ml_dsa() && (start < end || end == 0);
        sane.then(|| subtree(&self.name, CosignedAt::UNSTATED, origin, (start, end), root))
    }

    /// The line to be added to the note, with its newline, from a signature over [`CosignerKey::message`] for
    /// the same time. The signature is not checked.
    pub fn line(&self, at: CosignedAt, signature: &[u8]) -> Result<String, CosignatureError> {
        if Some(signature.len()) != self.key.algorithm().signature_bytes() {
            return Err(CosignatureError::Length);
        }
        Ok(write_line(&self.name, self.key_id, &[&at.0.to_be_bytes(), signature].concat()))
    }

    /// Whether a line of a note bears this key's name and id.
    pub fn is_named_by(&self, line: &NoteSignature<'_>) -> bool {
        self.name == line.name && self.key_id == line.key_id
    }

    /// Checks one line under this checkpoint.
    pub fn verify(
        &self,
        checkpoint: &Checkpoint,
        line: &NoteSignature<'_>,
    ) -> Result<Cosignature, NoteError> {
        let parts = line.signature.split_first_chunk::<8>().filter(|_| self.is_named_by(line));
        let (time, signature) = parts.ok_or(NoteError::BadSignature)?;
        let timestamp = CosignedAt::new(u64::from_be_bytes(*time)).ok_or(NoteError::BadSignature)?;
        if !self.key.verify_message(&self.message(checkpoint, timestamp), signature) {
            return Err(NoteError::BadSignature);
        }
        Ok(Cosignature { name: self.name.clone(), timestamp })
    }
}

/// The cosignatures that a checkpoint's note bears by any of `keys`, in the note's order, each with its key.
///
/// There may be none. Lines by other keys are ignored; one by a given key that does not verify refuses the
/// note, and so do two by the same.
pub fn cosignatures<'k>(
    note: &Note<'_>,
    checkpoint: &Checkpoint,
    keys: &'k [CosignerKey],
) -> Result<Vec<(&'k CosignerKey, Cosignature)>, NoteError> {
    if note.text != checkpoint.text() {
        return Err(NoteError::Malformed);
    }
    let mut found: Vec<(&CosignerKey, Cosignature)> = Vec::new();
    for line in &note.signatures {
        let Some(key) = keys.iter().find(|key| key.is_named_by(line)) else { continue };
        let cosignature = key.verify(checkpoint, line)?;
        if found.iter().any(|(known, _)| *known == key) {
            return Err(NoteError::Malformed);
        }
        found.push((key, cosignature));
    }
    Ok(found)
}

/// Signature type and raw bytes of a key that can cosign.
fn material(key: &PublicKey) -> Option<(u8, Vec<u8>)> {
    let ed25519 = key.ed25519_raw().map(|raw| (ED25519, raw.to_vec()));
    ed25519.or_else(|| key.ml_dsa_44_raw().map(|raw| (ML_DSA_44, raw)))
}

/// `cosigned_message` of the format, a TLS structure: names with an 8-bit length, numbers of 64 bits.
fn subtree(cosigner: &str, at: CosignedAt, origin: &Origin, range: (u64, u64), root: &Hash) -> Vec<u8> {
    // Neither is longer than 255 bytes: see `CosignerKey::new` and the assertion above.
    let length = |text: &str| [u8::try_from(text.len()).unwrap_or(u8::MAX)];
    [
        SUBTREE_LABEL.as_slice(),
        &length(cosigner),
        cosigner.as_bytes(),
        &at.0.to_be_bytes(),
        &length(origin.as_str()),
        origin.as_str().as_bytes(),
        &range.0.to_be_bytes(),
        &range.1.to_be_bytes(),
        &root.0,
    ]
    .concat()
}
