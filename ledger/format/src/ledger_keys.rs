//! The keys by which a ledger signs its checkpoints, and from where on it signs with both kinds.
//!
//! A ledger signs with Ed25519 from its first checkpoint on. If it has an ML-DSA-44 key as well, whoever reads a
//! checkpoint may not do without that signature from the entry on that activated the key: otherwise a forger of
//! Ed25519 signatures would leave the other one out. Refused: what no Ed25519 key of the ledger signed, what lacks the
//! second signature where it is due, and every line by a known key that does not verify.
//!
//! A checkpoint *stands* if one of the Ed25519 keys that signed it was neither retired nor compromised by its last entry.
//! In a history one that does not stand is good if a later one that does continues it; alone it proves nothing, since
//! whoever has a compromised key can sign any tree.

use crate::algorithm::SignatureAlgorithm;
use crate::checkpoint::{Checkpoint, CheckpointError, VerifiedCheckpoint};
use crate::cosignature::CosignerKey;
use crate::hash::{LeafIndex, TreeSize};
use crate::log_key::LogKey;
use crate::names::Origin;
use crate::note::{Note, NoteSignature, NoteVerifier};
use crate::registry::{RegistryError, SignersRegistry};

/// The indices at which a key is active.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Life {
    from: u64,
    until: Option<u64>,
}

impl Life {
    const ALWAYS: Self = Self { from: 0, until: None };

    fn holds(self, index: LeafIndex) -> bool {
        self.from <= index.0 && self.until.is_none_or(|until| index.0 < until)
    }
}

/// A ledger's checkpoint keys.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LedgerKeys {
    origin: Origin,
    ed25519: Vec<NoteVerifier>,
    /// Of those of `ed25519` that are retired or compromised: which, and from which entry on.
    ended: Vec<(usize, u64)>,
    ml_dsa: Vec<CosignerKey>,
    /// Of those of `ml_dsa` that are registered as signers: which, and when its signature is due.
    due: Vec<(usize, Life)>,
}

impl LedgerKeys {
    /// Of the ledger that signs with these now: each of its signatures is due on every checkpoint.
    pub fn of_signers(origin: Origin, ed25519: NoteVerifier, ml_dsa: Option<CosignerKey>) -> Self {
        let ml_dsa: Vec<_> = ml_dsa.into_iter().collect();
        let due = (0..ml_dsa.len()).map(|at| (at, Life::ALWAYS)).collect();
        Self { origin, ed25519: vec![ed25519], ended: Vec::new(), ml_dsa, due }
    }

    /// Of the ledger whose registry this is.
    pub(crate) fn of_registry(registry: &SignersRegistry) -> Result<Self, RegistryError> {
        let (ed25519, ml_dsa) = LogKey::split(registry.log_keys()?);
        if ed25519.is_empty() {
            return Err(RegistryError::LedgerKey);
        }
        let origin = registry.ledger.origin.clone();
        let (mut ended, mut due) = (Vec::new(), Vec::new());
        for record in &registry.signers {
            match record.algorithm {
                SignatureAlgorithm::Ed25519 => {
                    let raw = record.public_key()?.and_then(|key| key.ed25519_raw());
                    let key = raw.and_then(|raw| NoteVerifier::new(origin.as_str(), &raw).ok());
                    let at = ed25519.iter().position(|known| Some(known) == key.as_ref());
                    ended.extend(at.zip(record.ended_index()));
                }
                SignatureAlgorithm::MlDsa44 => {
                    let Some(key) = record.public_key()? else { continue };
                    let at = ml_dsa.iter().position(|known| *known.public_key() == key);
                    // In doubt since when it is compromised, it is asked for.
                    let until = [record.retired_index, record.compromised_since].into_iter().flatten().min();
                    due.extend(at.zip(record.activated_index).map(|(at, from)| (at, Life { from, until })));
                }
                _ => {}
            }
        }
        Ok(Self { origin, ed25519, ended, ml_dsa, due })
    }

    /// Which ledger.
    pub const fn origin(&self) -> &Origin {
        &self.origin
    }

    /// Those that sign notes: at least one.
    pub fn ed25519(&self) -> &[NoteVerifier] {
        &self.ed25519
    }

    /// Those that sign checkpoints beside them; often none.
    pub fn ml_dsa(&self) -> &[CosignerKey] {
        &self.ml_dsa
    }

    /// All of them, the Ed25519 keys first.
    pub fn log_keys(&self) -> Vec<LogKey> {
        let ed25519 = self.ed25519.iter().cloned().map(LogKey::Ed25519);
        ed25519.chain(self.ml_dsa.iter().cloned().map(LogKey::MlDsa44)).collect()
    }

    /// Whether a line names one of them. It is not verified.
    pub fn are_named_by(&self, line: &NoteSignature<'_>) -> bool {
        self.ed25519.iter().any(|key| key.is_named_by(line))
            || self.ml_dsa.iter().any(|key| key.is_named_by(line))
    }

    /// Verifies a checkpoint of this ledger. It may bear lines of others.
    pub fn verify(&self, note: &str) -> Result<VerifiedCheckpoint, CheckpointError> {
        let verified = Checkpoint::verify_hybrid(note, &self.origin, &self.ed25519, &self.ml_dsa)?;
        let mut due = self.due_at(verified.head().size).peekable();
        if due.peek().is_none() {
            return Ok(verified);
        }
        // Each line by one of these keys was verified above.
        let lines = Note::parse(note)?.signatures;
        match due.any(|key| lines.iter().any(|line| key.is_named_by(line))) {
            true => Ok(verified),
            false => Err(CheckpointError::NotHybrid),
        }
    }

    /// [`verify`](Self::verify), for whoever has this one checkpoint alone: it must stand.
    pub fn verify_standing(&self, note: &str) -> Result<VerifiedCheckpoint, CheckpointError> {
        let verified = self.verify(note)?;
        if self.stands(&verified) { Ok(verified) } else { Err(CheckpointError::NotStanding) }
    }

    /// Whether a checkpoint that these keys verified stands.
    pub fn stands(&self, checkpoint: &VerifiedCheckpoint) -> bool {
        let size = checkpoint.head().size;
        if self.ended_at(size).next().is_none() {
            return true;
        }
        let Ok(note) = Note::parse(checkpoint.note()) else { return false };
        let signed = |key: &NoteVerifier| note.signatures.iter().any(|line| key.is_named_by(line));
        self.ed25519_at(size).any(signed)
    }

    /// All of them but the Ed25519 keys that had ended by the last of so many leaves.
    pub fn log_keys_at(&self, size: TreeSize) -> Vec<LogKey> {
        let ed25519 = self.ed25519_at(size).cloned().map(LogKey::Ed25519);
        ed25519.chain(self.ml_dsa.iter().cloned().map(LogKey::MlDsa44)).collect()
    }

    fn ed25519_at(&self, size: TreeSize) -> impl Iterator<Item = &NoteVerifier> {
        let keys = self.ed25519.iter().enumerate();
        keys.filter(move |(at, _)| self.ended_at(size).all(|ended| ended != *at)).map(|(_, key)| key)
    }

    fn ended_at(&self, size: TreeSize) -> impl Iterator<Item = usize> {
        self.ended.iter().filter(move |(_, end)| *end < size.0).map(|(at, _)| *at)
    }

    /// The ML-DSA-44 keys of which one must have signed a checkpoint over so many leaves: those that are active at the
    /// last of them.
    fn due_at(&self, size: TreeSize) -> impl Iterator<Item = &CosignerKey> {
        let last = size.0.checked_sub(1).map(LeafIndex);
        let due = self.due.iter().filter(move |(_, life)| last.is_some_and(|last| life.holds(last)));
        due.filter_map(|(at, _)| self.ml_dsa.get(*at))
    }
}

#[cfg(test)]
mod tests {
    #![expect(
        clippy::unwrap_used,
        clippy::indexing_slicing,
        reason = "a failed unwrap is the test's failure"
    )]
    use ed25519_dalek::{Signer as _, SigningKey};

    use super::*;
    use crate::cosignature::tests::{AT, TestCosigner};
    use crate::hash::{Hash, TreeHead};
    use crate::note::{NoteError, assemble};
    use crate::public_key::PublicKey;
    use crate::registry::{KeyState, LedgerSection, SignerRecord};
    use crate::timestamp::Timestamp;

    const ORIGIN: &str = "ledger.example/a";

    struct Log {
        ed25519: SigningKey,
        seconds: [TestCosigner; 2],
    }

    impl Log {
        fn new() -> Self {
            let seconds = [1, 2].map(|seed| TestCosigner::ml_dsa(ORIGIN, seed));
            Self { ed25519: SigningKey::from_bytes(&[7; 32]), seconds }
        }

        fn verifier(&self) -> NoteVerifier {
            NoteVerifier::new(ORIGIN, self.ed25519.verifying_key().as_bytes()).unwrap()
        }

        /// A checkpoint over `size` leaves by Ed25519 and these of the others.
        fn note(&self, size: u64, by: &[usize]) -> String {
            let head = TreeHead { size: TreeSize(size), root: Hash([3; 32]) };
            let checkpoint = Checkpoint::new(ORIGIN.parse().unwrap(), head);
            let text = checkpoint.text();
            let signature = self.ed25519.sign(text.as_bytes()).to_bytes();
            let mut note = assemble(&text, &self.verifier(), &signature).unwrap();
            note.extend(by.iter().map(|which| self.seconds[*which].line(&checkpoint, AT)));
            note
        }

        /// A registry in which the second keys are active in these ranges.
        fn registry(&self, lives: &[(u64, Option<u64>)]) -> SignersRegistry {
            let record = |(which, (from, until)): (usize, &(u64, Option<u64>))| SignerRecord {
                signer_kid: format!("second-v{which}").parse().unwrap(),
                kid: None,
                algorithm: SignatureAlgorithm::MlDsa44,
                public_key_pem: Some(self.seconds[which].key.public_key().to_pem()),
                purpose: "checkpoints".into(),
                state: KeyState::Active,
                deployed_at: Timestamp::from_unix_ms(0).unwrap(),
                retired_at: None,
                activated_index: Some(*from),
                retired_index: *until,
                compromised_since: None,
                description: String::new(),
            };
            let seconds = (0..lives.len()).map(|which| self.seconds[which].key.vkey());
            let vkeys = [self.verifier().vkey()].into_iter().chain(seconds).collect();
            let ledger = LedgerSection { origin: ORIGIN.parse().unwrap(), vkeys, policy: None };
            SignersRegistry::new(ledger, lives.iter().enumerate().map(record).collect()).unwrap()
        }
    }

    #[test]
    fn the_second_signature_is_due_from_its_key_s_activation_on() {
        let log = Log::new();
        let keys = log.registry(&[(5, None)]).ledger_keys().unwrap();
        assert!(keys.verify(&log.note(5, &[])).is_ok());
        assert_eq!(keys.verify(&log.note(6, &[])), Err(CheckpointError::NotHybrid));
        assert!(keys.verify(&log.note(6, &[0])).unwrap().is_hybrid());
        // A key nobody published does not make up for it.
        assert_eq!(keys.verify(&log.note(6, &[1])), Err(CheckpointError::NotHybrid));
        // Nor does it make up for the first.
        let note = log.note(6, &[0]);
        let parsed = Note::parse(&note).unwrap();
        let alone = parsed.with_lines(|line| keys.ml_dsa()[0].is_named_by(line));
        assert_eq!(keys.verify(&alone), Err(CheckpointError::Note(NoteError::NoKnownSignature)));
    }

    #[test]
    fn a_key_follows_another_without_a_gap() {
        let log = Log::new();
        let keys = log.registry(&[(5, Some(12)), (9, Some(20))]).ledger_keys().unwrap();
        // Active: none up to 5, the first to 9, both to 12, the second to 20, none after.
        for (size, by, holds) in [
            (5, &[][..], true),
            (6, &[1], false),
            (9, &[0], true),
            (9, &[1], false),
            (10, &[0], true),
            (10, &[1], true),
            (12, &[0], true),
            (13, &[0], false),
            (13, &[1], true),
            (20, &[], false),
            (21, &[], true),
            (0, &[], true),
        ] {
            assert_eq!(keys.verify(&log.note(size, by)).is_ok(), holds, "{size} {by:?}");
        }
    }

    #[test]
    fn of_a_compromised_key_nothing_is_asked() {
        let log = Log::new();
        let mut registry = log.registry(&[(5, None)]);
        registry.signers[0].compromised_since = Some(8);
        let keys = registry.ledger_keys().unwrap();
        assert_eq!(keys.verify(&log.note(8, &[])), Err(CheckpointError::NotHybrid));
        assert!(keys.verify(&log.note(9, &[])).is_ok());
    }

    #[test]
    fn a_running_ledger_owes_each_of_its_signatures() {
        let log = Log::new();
        let origin: Origin = ORIGIN.parse().unwrap();
        let one = LedgerKeys::of_signers(origin.clone(), log.verifier(), None);
        assert!(one.verify(&log.note(1, &[])).is_ok());
        let both = LedgerKeys::of_signers(origin, log.verifier(), Some(log.seconds[0].key.clone()));
        assert_eq!(both.verify(&log.note(1, &[])), Err(CheckpointError::NotHybrid));
        assert!(both.verify(&log.note(1, &[0])).is_ok());
        let altered = log.note(1, &[0]).replace("AwMDAwMD", "BAQEBAQE");
        assert_eq!(both.verify(&altered), Err(CheckpointError::Note(NoteError::BadSignature)));
        assert_eq!(both.log_keys().len(), 2);
    }

    #[test]
    fn a_checkpoint_stands_if_a_key_that_signed_it_was_good_at_its_last_entry() {
        let (log, other) = (Log::new(), SigningKey::from_bytes(&[8; 32]));
        let mut registry = log.registry(&[(5, None)]);
        let named = NoteVerifier::new(ORIGIN, other.verifying_key().as_bytes()).unwrap();
        registry.ledger.vkeys.push(named.vkey());
        let mut record = registry.signers[0].clone();
        record.signer_kid = "first".parse().unwrap();
        record.algorithm = SignatureAlgorithm::Ed25519;
        let raw = log.ed25519.verifying_key().to_bytes();
        record.public_key_pem = Some(PublicKey::from_ed25519_raw(&raw).unwrap().to_pem());
        (record.activated_index, record.state) = (Some(1), KeyState::Retired);
        let mut stands = |change: &dyn Fn(&mut SignerRecord), size: u64, note: &dyn Fn(String) -> String| {
            registry.signers.truncate(1);
            registry.signers.push(record.clone());
            change(&mut registry.signers[1]);
            let keys = registry.ledger_keys().unwrap();
            let note = note(log.note(size, &[0]));
            assert!(keys.verify(&note).is_ok(), "in a history it may be good");
            let standing = keys.verify_standing(&note);
            assert!(standing.is_ok() || standing == Err(CheckpointError::NotStanding), "{standing:?}");
            assert_eq!(keys.log_keys_at(TreeSize(size)).len(), 3 - keys.ended_at(TreeSize(size)).count());
            standing.is_ok()
        };
        let alone = |note: String| note;
        for (size, holds) in [(0, true), (1, true), (8, true), (9, false), (1_000, false)] {
            assert_eq!(stands(&|it| it.retired_index = Some(8), size, &alone), holds, "retired at 8: {size}");
            let compromised = |it: &mut SignerRecord| {
                (it.compromised_since, it.state) = (Some(8), KeyState::Compromised);
            };
            assert_eq!(stands(&compromised, size, &alone), holds, "compromised since 8: {size}");
            // The other key's line makes up for it, as at a hand-over.
            let both = |note: String| {
                let (text, lines) = note.split_once("\n\n").unwrap();
                let text = format!("{text}\n");
                let line = assemble(&text, &named, &other.sign(text.as_bytes()).to_bytes()).unwrap();
                format!("{line}{lines}")
            };
            assert!(stands(&compromised, size, &both), "{size}");
        }
        assert!(stands(&|it| it.state = KeyState::Active, 1_000, &alone));
        assert!(!stands(&|it| it.state = KeyState::Compromised, 1, &alone), "nobody knows since when");
    }
}
