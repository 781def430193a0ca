//! C2SP tlog-checkpoint: a tree head under the ledger key's signature.
//!
//! The signed text is three lines: origin, decimal size, base64 root. Extension lines are refused:
//! some signature types do not cover them, and we write none.

use crate::entry::{decode_base64, encode_base64};
use crate::hash::{Hash, TreeHead, TreeSize};
use crate::names::Origin;
use crate::note::{Note, NoteError, NoteVerifier};

/// Why a checkpoint was refused. Whoever supplied it is at fault; retrying cannot help.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum CheckpointError {
    /// The note around it.
    #[error(transparent)]
    Note(#[from] NoteError),
    /// The text is not exactly origin, size and root, in their one spelling.
    #[error("not a checkpoint")]
    Malformed,
    /// It speaks of another ledger.
    #[error("checkpoint is of another origin")]
    Origin,
}

/// What a checkpoint says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Checkpoint {
    origin: Origin,
    head: TreeHead,
}

impl Checkpoint {
    /// What is to be signed.
    pub const fn new(origin: Origin, head: TreeHead) -> Self {
        Self { origin, head }
    }

    /// The text to sign: three lines, each with its newline.
    pub fn text(&self) -> String {
        format!("{}\n{}\n{}\n", self.origin, self.head.size, encode_base64(&self.head.root.0))
    }

    fn parse(text: &str) -> Option<Self> {
        let mut lines = text.split('\n');
        let origin = lines.next()?.parse().ok()?;
        let size: u64 = lines.next()?.parse().ok()?;
        let root = decode_base64(lines.next()?)?.try_into().ok()?;
        let checkpoint = Self { origin, head: TreeHead { size: TreeSize(size), root: Hash(root) } };
        // One spelling: this also refuses leading zeros and extension lines.
        (checkpoint.text() == text).then_some(checkpoint)
    }

    /// Reads a note and checks that a key named `origin` among `keys` signed it.
    pub fn verify(
        note: &str,
        origin: &Origin,
        keys: &[NoteVerifier],
    ) -> Result<VerifiedCheckpoint, CheckpointError> {
        let parsed = Note::parse(note)?;
        let checkpoint = Self::parse(parsed.text).ok_or(CheckpointError::Malformed)?;
        if checkpoint.origin != *origin {
            return Err(CheckpointError::Origin);
        }
        let signed = parsed.verify(keys)?;
        if signed.iter().any(|key| key.name() == origin.as_str()) {
            Ok(VerifiedCheckpoint { checkpoint, note: note.to_owned() })
        } else {
            Err(NoteError::NoKnownSignature.into())
        }
    }
}

/// A checkpoint whose signature was checked; [`Checkpoint::verify`] is the only way to one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VerifiedCheckpoint {
    checkpoint: Checkpoint,
    note: String,
}

impl VerifiedCheckpoint {
    /// Size and root.
    pub const fn head(&self) -> TreeHead {
        self.checkpoint.head
    }

    /// Which ledger.
    pub const fn origin(&self) -> &Origin {
        &self.checkpoint.origin
    }

    /// The signed note, byte for byte.
    pub fn note(&self) -> &str {
        &self.note
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a failed unwrap is the test's failure")]
    use super::*;
    use crate::note::assemble;
    use ed25519_dalek::{Signer, SigningKey};

    fn signed(text: &str) -> (String, NoteVerifier) {
        let signer = SigningKey::from_bytes(&[0x42; 32]);
        let key = NoteVerifier::new("ledger.example/a", signer.verifying_key().as_bytes()).unwrap();
        (assemble(text, &key, &signer.sign(text.as_bytes()).to_bytes()).unwrap(), key)
    }

    #[test]
    fn a_checkpoint_has_one_spelling_and_one_origin() {
        let origin: Origin = "ledger.example/a".parse().unwrap();
        let head = TreeHead { size: TreeSize(3), root: Hash([9; 32]) };
        let text = Checkpoint::new(origin.clone(), head).text();
        let (note, key) = signed(&text);
        let keys = [key];
        assert_eq!(Checkpoint::verify(&note, &origin, &keys).unwrap().head(), head);
        let other: Origin = "ledger.example/b".parse().unwrap();
        assert_eq!(Checkpoint::verify(&note, &other, &keys), Err(CheckpointError::Origin));
        for bad in [
            text.replacen("\n3\n", "\n03\n", 1),
            format!("{text}extension\n"),
            text.replacen("\n3\n", "\n-3\n", 1),
        ] {
            let (note, _) = signed(&bad);
            assert_eq!(Checkpoint::verify(&note, &origin, &keys), Err(CheckpointError::Malformed), "{bad}");
        }
    }
}
