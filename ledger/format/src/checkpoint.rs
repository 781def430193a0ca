//! C2SP tlog-checkpoint: a tree head under the ledger key's signature.
//!
//! The signed text is three lines: origin, decimal size, base64 root. Extension lines are refused:
//! some signature types do not cover them, and we write none. A log signs with Ed25519 over the text, and may
//! sign with ML-DSA-44 over what it says, in the form of a cosignature.

use crate::cosignature::{CosignerKey, cosignatures};
use crate::entry::{decode_base64, encode_base64};
use crate::hash::{Hash, TreeHead, TreeSize};
use crate::log_key::LogKey;
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
    /// The ledger had an ML-DSA-44 key by then, and no signature of it is there.
    #[error("checkpoint lacks the ledger's ML-DSA-44 signature")]
    NotHybrid,
    /// The Ed25519 keys that signed it were retired or compromised by its last entry: alone it proves nothing.
    #[error(
        "checkpoint is signed by no ledger key that was neither retired nor compromised at its last entry"
    )]
    NotStanding,
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

    /// Which ledger.
    pub const fn origin(&self) -> &Origin {
        &self.origin
    }

    /// Size and root.
    pub const fn head(&self) -> TreeHead {
        self.head
    }

    /// Reads the text of a note. Nothing is proven.
    pub fn parse(text: &str) -> Option<Self> {
        let mut lines = text.split('\n');
        let origin = lines.next()?.parse().ok()?;
        let size: u64 = lines.next()?.parse().ok()?;
        let root = decode_base64(lines.next()?)?.try_into().ok()?;
        let checkpoint = Self { origin, head: TreeHead { size: TreeSize(size), root: Hash(root) } };
        // One spelling: this also refuses leading zeros and extension lines.
        (checkpoint.text() == text).then_some(checkpoint)
    }

    /// Reads a note and checks that an Ed25519 key named `origin` among `keys` signed it.
    pub fn verify(
        note: &str,
        origin: &Origin,
        keys: &[NoteVerifier],
    ) -> Result<VerifiedCheckpoint, CheckpointError> {
        Self::verify_hybrid(note, origin, keys, &[])
    }

    /// The same, with the log's ML-DSA-44 keys: such a signature need not be there, see
    /// [`VerifiedCheckpoint::is_hybrid`], but one that does not verify refuses the checkpoint. Where a registry says
    /// from when on it must be there, use [`crate::ledger_keys::LedgerKeys::verify`].
    pub fn verify_hybrid(
        note: &str,
        origin: &Origin,
        keys: &[NoteVerifier],
        ml_dsa: &[CosignerKey],
    ) -> Result<VerifiedCheckpoint, CheckpointError> {
        let (verified, by_ed25519) = Self::read(note, origin, keys, ml_dsa)?;
        if by_ed25519 { Ok(verified) } else { Err(NoteError::NoKnownSignature.into()) }
    }

    /// Reads a note and checks that a key named `origin` among `keys` signed it, of whatever type: for logs
    /// of others, which may have keys of one type only.
    pub fn verify_by_any(
        note: &str,
        origin: &Origin,
        keys: &[LogKey],
    ) -> Result<VerifiedCheckpoint, CheckpointError> {
        let (notes, ml_dsa) = LogKey::split(keys.iter().cloned());
        let (verified, by_ed25519) = Self::read(note, origin, &notes, &ml_dsa)?;
        let signed = by_ed25519 || verified.is_hybrid();
        if signed { Ok(verified) } else { Err(NoteError::NoKnownSignature.into()) }
    }

    /// Checks every line by a given key; tells whether the log's own Ed25519 key is among them.
    fn read(
        note: &str,
        origin: &Origin,
        keys: &[NoteVerifier],
        ml_dsa: &[CosignerKey],
    ) -> Result<(VerifiedCheckpoint, bool), CheckpointError> {
        let parsed = Note::parse(note)?;
        let checkpoint = Self::parse(parsed.text).ok_or(CheckpointError::Malformed)?;
        if checkpoint.origin != *origin {
            return Err(CheckpointError::Origin);
        }
        let by_ed25519 = match parsed.verify(keys) {
            Ok(signed) => signed.iter().any(|key| key.name() == origin.as_str()),
            Err(NoteError::NoKnownSignature) => false,
            Err(error) => return Err(error.into()),
        };
        let by_ml_dsa = cosignatures(&parsed, &checkpoint, ml_dsa)?;
        let ml_dsa = by_ml_dsa.iter().any(|(key, _)| key.is_ml_dsa() && key.name() == origin.as_str());
        Ok((VerifiedCheckpoint { checkpoint, ml_dsa, note: note.to_owned() }, by_ed25519))
    }
}

/// A checkpoint whose signature was checked; [`Checkpoint::verify`] and its two relatives are the only way to
/// one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VerifiedCheckpoint {
    checkpoint: Checkpoint,
    ml_dsa: bool,
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

    /// What it says.
    pub const fn checkpoint(&self) -> &Checkpoint {
        &self.checkpoint
    }

    /// Whether a given ML-DSA-44 key of the log signed it as well.
    pub const fn is_hybrid(&self) -> bool {
        self.ml_dsa
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
    use crate::merkle::empty_root;
    use crate::note::assemble;
    use ed25519_dalek::{Signer, SigningKey};

    fn signed_by(name: &str, text: &str) -> (String, NoteVerifier) {
        let signer = SigningKey::from_bytes(&[0x42; 32]);
        let key = NoteVerifier::new(name, signer.verifying_key().as_bytes()).unwrap();
        (assemble(text, &key, &signer.sign(text.as_bytes()).to_bytes()).unwrap(), key)
    }

    fn origin(text: &str) -> Origin {
        text.parse().unwrap()
    }

    #[test]
    fn a_published_checkpoint_reads_back() {
        let text = "ledger.example/sign-log/1\n3\nsgbG5Jjy2NPw+6xDsP5UZIjKceiOnsIxHH2iJbNfFYo=\n";
        let (note, key) = signed_by("ledger.example/sign-log/1", text);
        let log = origin("ledger.example/sign-log/1");
        let verified = Checkpoint::verify(&note, &log, &[key]).unwrap();
        assert_eq!(verified.head().size, TreeSize(3));
        assert_eq!(
            verified.head().root.to_hex(),
            "b206c6e498f2d8d3f0fbac43b0fe546488ca71e88e9ec2311c7da225b35f158a"
        );
        assert_eq!((verified.origin(), verified.note()), (&log, note.as_str()));
        assert_eq!(Checkpoint::new(log, verified.head()).text(), text);
    }

    #[test]
    fn a_checkpoint_has_one_spelling() {
        let origin = origin("ledger.example/a");
        for size in [0, 1, 10, 70_000, u64::MAX] {
            let root = if size == 0 { empty_root() } else { Hash([9; 32]) };
            let head = TreeHead { size: TreeSize(size), root };
            let (note, key) = signed_by(origin.as_str(), &Checkpoint::new(origin.clone(), head).text());
            assert_eq!(Checkpoint::verify(&note, &origin, &[key]).unwrap().head(), head);
        }
        let root = "CQkJCQkJCQkJCQkJCQkJCQkJCQkJCQkJCQkJCQkJCQk=";
        for bad in [
            format!("ledger.example/a\n03\n{root}\n"),
            format!("ledger.example/a\n+3\n{root}\n"),
            format!("ledger.example/a\n-3\n{root}\n"),
            format!("ledger.example/a\n\n{root}\n"),
            format!("ledger.example/a\n3 \n{root}\n"),
            format!("ledger.example/a\n18446744073709551616\n{root}\n"),
            format!("ledger.example/a\n3\n{root}\nextension\n"),
            format!("ledger.example/a\n3\n{root}\n\n"),
            format!("\n3\n{root}\n"),
            format!("ledger example\n3\n{root}\n"),
            "ledger.example/a\n3\nCQkJCQ==\n".into(),
            "ledger.example/a\n3\n\n".into(),
            "ledger.example/a\n3\n".into(),
            "ledger.example/a\n".into(),
            "\n".into(),
        ] {
            let (note, key) = signed_by(origin.as_str(), &bad);
            let refused = Checkpoint::verify(&note, &origin, &[key]);
            assert_eq!(refused, Err(CheckpointError::Malformed), "{bad}");
        }
    }

    #[test]
    fn only_the_origin_s_own_key_counts() {
        let ours = origin("ledger.example/a");
        let head = TreeHead { size: TreeSize(3), root: Hash([9; 32]) };
        let text = Checkpoint::new(ours.clone(), head).text();
        let (note, key) = signed_by("ledger.example/a", &text);
        let (cosigned, witness) = signed_by("witness.example", &text);
        let no_signature = Err(CheckpointError::Note(NoteError::NoKnownSignature));
        assert!(Checkpoint::verify(&note, &ours, &[witness.clone(), key.clone()]).is_ok());
        assert_eq!(Checkpoint::verify(&note, &ours, std::slice::from_ref(&witness)), no_signature);
        assert_eq!(Checkpoint::verify(&cosigned, &ours, &[witness, key.clone()]), no_signature);
        let other = origin("ledger.example/b");
        assert_eq!(
            Checkpoint::verify(&note, &other, std::slice::from_ref(&key)),
            Err(CheckpointError::Origin)
        );
        let altered = note.replacen("\n3\n", "\n4\n", 1);
        let bad = Err(CheckpointError::Note(NoteError::BadSignature));
        assert_eq!(Checkpoint::verify(&altered, &ours, &[key]), bad);
    }
}
