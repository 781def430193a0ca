//! Checkpoints of logs, ours and others'.
//!
//! [`chancery_format::Checkpoint`] reads what we write, in its one spelling. Other logs may put extension lines after
//! the root, and have origins with spaces; both are accepted here. An Ed25519 signature is checked over the whole text;
//! one by ML-DSA-44 covers no extension lines, and counts for checkpoints without.

use std::time::{SystemTime, UNIX_EPOCH};

use chancery_format::cosignature::{CosignedAt, CosignerKey, cosignatures};
use chancery_format::entry::decode_base64;
use chancery_format::log_key::LogKey;
use chancery_format::merkle::{TREE_SIZE_MAX, empty_root};
use chancery_format::note::{Note, NoteError, NoteVerifier};
use chancery_format::policy::{Policy, PolicyLog, PolicyRefusal};
use chancery_format::{Checkpoint, Hash, TreeHead, TreeSize};

/// Why a checkpoint or a key was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum HeadError {
    /// The note around it.
    #[error(transparent)]
    Note(#[from] NoteError),
    /// A key that was given. The caller is at fault.
    #[error("{0:?} is not a verifier key of Ed25519 or ML-DSA-44; write NAME+HASH+KEY")]
    Key(String),
    /// The keys have several names, so the log's cannot be told from them.
    #[error("the keys have different names; say with --origin which log it is")]
    Origin,
    /// Not origin, size and root.
    #[error("not a checkpoint")]
    Malformed,
    /// The policy's witnesses did not cosign it, or a policy cannot judge it: it has extension lines.
    #[error(transparent)]
    Policy(#[from] PolicyRefusal),
    /// It speaks of another log.
    #[error("checkpoint is of {found:?}, not of {wanted:?}")]
    OtherLog {
        /// Whose it is.
        found: String,
        /// Whose it should be.
        wanted: String,
    },
}

/// Which log, and the keys it may sign with.
#[derive(Debug, Clone)]
pub struct LogKeys {
    origin: String,
    ed25519: Vec<NoteVerifier>,
    ml_dsa: Vec<CosignerKey>,
    /// Which witnesses must have cosigned, besides.
    policy: Option<Policy>,
}

impl LogKeys {
    /// From verifier keys; the log is called as its keys are, unless `origin` says otherwise.
    pub fn parse(vkeys: &[String], origin: Option<String>) -> Result<Self, HeadError> {
        let read =
            |vkey: &String| LogKey::parse(vkey.trim()).map_err(|_| HeadError::Key(vkey.trim().to_owned()));
        let keys = vkeys.iter().map(read).collect::<Result<Vec<_>, _>>()?;
        let origin = match (origin, keys.split_first()) {
            (Some(origin), Some(_)) => origin,
            (None, Some((first, rest))) if rest.iter().all(|key| key.name() == first.name()) => {
                first.name().to_owned()
            }
            _ => return Err(HeadError::Origin),
        };
        let (ed25519, ml_dsa) = LogKey::split(keys);
        Ok(Self { origin, ed25519, ml_dsa, policy: None })
    }

    /// From a policy: the keys it lists for the log, and the witnesses it asks for. Says `origin` which log, if the policy
    /// lists several.
    pub fn of_policy(policy: Policy, origin: Option<String>) -> Result<Self, HeadError> {
        let listed = |log: &&PolicyLog| origin.as_deref().is_none_or(|origin| log.key.name() == origin);
        let vkeys: Vec<String> = policy.logs().iter().filter(listed).map(|log| log.key.vkey()).collect();
        Ok(Self { policy: Some(policy), ..Self::parse(&vkeys, None)? })
    }

    /// The log's name for itself.
    pub fn origin(&self) -> &str {
        &self.origin
    }

    /// Reads a checkpoint and checks its signature: one of the keys signed, none of them wrongly.
    pub fn verify(&self, note: &str) -> Result<SignedHead, HeadError> {
        let parsed = Note::parse(note)?;
        let (origin, head) = read(parsed.text).ok_or(HeadError::Malformed)?;
        if origin != self.origin {
            return Err(HeadError::OtherLog { found: origin.to_owned(), wanted: self.origin.clone() });
        }
        let by_ed25519 = match parsed.verify(&self.ed25519) {
            Err(NoteError::NoKnownSignature) => false,
            signed => !signed?.is_empty(),
        };
        if !self.signed_by_ml_dsa(&parsed)? && !by_ed25519 {
            return Err(NoteError::NoKnownSignature.into());
        }
        if let Some(policy) = &self.policy {
            policy.verify(note, now())?.into_accepted()?;
        }
        Ok(SignedHead { head, note: note.to_owned() })
    }

    fn signed_by_ml_dsa(&self, note: &Note<'_>) -> Result<bool, HeadError> {
        if !self.ml_dsa.iter().any(|key| note.signatures.iter().any(|line| key.is_named_by(line))) {
            return Ok(false);
        }
        let checkpoint = Checkpoint::parse(note.text).ok_or(HeadError::Malformed)?;
        Ok(!cosignatures(note, &checkpoint, &self.ml_dsa)?.is_empty())
    }
}

/// Cosignatures of later times do not count; a witness' clock may be ahead of ours by this much.
fn now() -> Option<CosignedAt> {
    const SKEW_S: u64 = 300;
    let seconds = SystemTime::now().duration_since(UNIX_EPOCH).ok()?.as_secs();
    CosignedAt::new(seconds.saturating_add(SKEW_S))
}

/// What a checkpoint says, whoever signed it. Whatever stands behind the root is an extension.
pub(super) fn read(text: &str) -> Option<(&str, TreeHead)> {
    let mut lines = text.split('\n');
    let origin = lines.next().filter(|origin| !origin.is_empty())?;
    let digits = lines.next()?;
    let size: u64 = digits.parse().ok()?;
    let root = Hash(decode_base64(lines.next()?)?.try_into().ok()?);
    let sane = size.to_string() == digits && size <= TREE_SIZE_MAX && (size != 0 || root == empty_root());
    sane.then_some((origin, TreeHead { size: TreeSize(size), root }))
}

/// A tree head that the log signed; [`LogKeys::verify`] is the only way to one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SignedHead {
    head: TreeHead,
    note: String,
}

impl SignedHead {
    /// Size and root.
    pub const fn head(&self) -> TreeHead {
        self.head
    }

    /// Number of entries.
    pub const fn size(&self) -> u64 {
        self.head.size.0
    }

    /// The note, byte for byte.
    pub fn note(&self) -> &str {
        &self.note
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a failed unwrap is the test's failure")]
    use super::*;
    use aws_lc_rs::signature::{KeyPair as _, ML_DSA_44_SIGNING, PqdsaKeyPair};
    use chancery_format::PublicKey;
    use chancery_format::note::assemble;
    use ed25519_dalek::{Signer as _, SigningKey};

    const ROOT: &str = "sgbG5Jjy2NPw+6xDsP5UZIjKceiOnsIxHH2iJbNfFYo=";

    fn signed(name: &str, text: &str) -> (String, String) {
        let signer = SigningKey::from_bytes(&[7; 32]);
        let key = NoteVerifier::new(name, signer.verifying_key().as_bytes()).unwrap();
        (assemble(text, &key, &signer.sign(text.as_bytes()).to_bytes()).unwrap(), key.vkey())
    }

    #[test]
    fn extension_lines_and_origins_of_others_are_read() {
        for (origin, text) in [
            ("log.example", format!("log.example\n3\n{ROOT}\n")),
            ("log.example", format!("log.example\n3\n{ROOT}\nTimestamp: 17\nmore\n")),
            ("go.sum database tree", format!("go.sum database tree\n3\n{ROOT}\n")),
        ] {
            let (note, vkey) = signed("log.example", &text);
            let keys = LogKeys::parse(&[vkey], Some(origin.to_owned())).unwrap();
            assert_eq!(keys.verify(&note).unwrap().size(), 3, "{text}");
            assert!(
                keys.verify(&note.replace("\n3\n", "\n4\n")).is_err(),
                "what is signed is the whole text"
            );
            if let Some(altered) = note.contains("17").then(|| note.replace("17", "18")) {
                assert_eq!(keys.verify(&altered), Err(HeadError::Note(NoteError::BadSignature)));
            }
        }
    }

    #[test]
    fn what_is_no_checkpoint_is_refused() {
        for text in [
            format!("log.example\n03\n{ROOT}\n"),
            format!("log.example\n+3\n{ROOT}\n"),
            format!("log.example\n9223372036854775808\n{ROOT}\n"),
            format!("log.example\n0\n{ROOT}\n"),
            "log.example\n3\nAAAA\n".to_owned(),
            "log.example\n3\n".to_owned(),
            format!("\n3\n{ROOT}\n"),
        ] {
            let (note, vkey) = signed("log.example", &text);
            let keys = LogKeys::parse(&[vkey], None).unwrap();
            assert_eq!(keys.verify(&note), Err(HeadError::Malformed), "{text}");
        }
        let (note, vkey) = signed("log.example", &format!("other.example\n3\n{ROOT}\n"));
        let other = LogKeys::parse(&[vkey], None).unwrap().verify(&note);
        assert!(matches!(other, Err(HeadError::OtherLog { .. })));
    }

    #[test]
    fn a_policy_asks_for_its_witnesses() {
        let (note, vkey) = signed("log.example", &format!("log.example\n3\n{ROOT}\n"));
        let witness = SigningKey::from_bytes(&[8; 32]);
        let public = PublicKey::from_ed25519_raw(&witness.verifying_key().to_bytes()).unwrap();
        let cosigner = CosignerKey::new("witness.example/w", public).unwrap();
        let of = |quorum: &str| {
            let file = format!("log {vkey}\nwitness w {}\nquorum {quorum}\n", cosigner.vkey());
            LogKeys::of_policy(Policy::parse(file.as_bytes()).unwrap(), None).unwrap()
        };
        let checkpoint = Checkpoint::parse(Note::parse(&note).unwrap().text).unwrap();
        let cosigned = |at: CosignedAt| {
            let signature = witness.sign(&cosigner.message(&checkpoint, at)).to_bytes();
            note.clone() + &cosigner.line(at, &signature).unwrap()
        };
        let good = cosigned(CosignedAt::new(1_700_000_000).unwrap());
        assert_eq!(of("w").verify(&good).unwrap().size(), 3);
        assert_eq!(of("none").verify(&note).unwrap().size(), 3);
        let quorum = Err(HeadError::Policy(PolicyRefusal::Quorum));
        assert_eq!(of("w").verify(&note), quorum);
        let of_the_future = now().unwrap().seconds() + 60;
        assert_eq!(of("w").verify(&cosigned(CosignedAt::new(of_the_future).unwrap())), quorum);
    }

    #[test]
    fn a_log_may_sign_with_ml_dsa_and_no_line_may_be_false() {
        let pair = PqdsaKeyPair::generate(&ML_DSA_44_SIGNING).unwrap();
        let public = PublicKey::from_ml_dsa_44_raw(pair.public_key().as_ref().try_into().unwrap()).unwrap();
        let key = CosignerKey::new("log.example", public).unwrap();
        let text = format!("log.example\n3\n{ROOT}\n");
        let (note, vkey) = signed("log.example", &text);
        let at = CosignedAt::new(1_700_000_000).unwrap();
        let mut signature = vec![0; ML_DSA_44_SIGNING.signature_len()];
        pair.sign(&key.message(&Checkpoint::parse(&text).unwrap(), at), &mut signature).unwrap();
        let line = key.line(at, &signature).unwrap();
        signature.reverse();
        let bad = key.line(at, &signature).unwrap();
        let both = LogKeys::parse(&[vkey, key.vkey()], None).unwrap();
        let second = LogKeys::parse(&[key.vkey()], None).unwrap();
        for (keys, note, holds) in [
            (&both, note.clone() + &line, true),
            (&both, note.clone(), true),
            (&second, format!("{text}\n{line}"), true),
            (&second, note.clone(), false),
            (&both, note.clone() + &bad, false),
        ] {
            assert_eq!(keys.verify(&note).is_ok(), holds);
        }
        // What such a signature says has no place for extension lines.
        let extended = format!("{text}more\n\n{line}");
        assert_eq!(second.verify(&extended), Err(HeadError::Malformed));
    }

    #[test]
    fn keys_name_the_log() {
        let (_, one) = signed("one.example", "x\n");
        let (_, two) = signed("two.example", "x\n");
        assert_eq!(LogKeys::parse(std::slice::from_ref(&one), None).unwrap().origin(), "one.example");
        assert_eq!(LogKeys::parse(&[one, two], None).err(), Some(HeadError::Origin));
        assert_eq!(LogKeys::parse(&[], None).err(), Some(HeadError::Origin));
        assert_eq!(LogKeys::parse(&["x".into()], None).err(), Some(HeadError::Key("x".into())));
    }
}
