//! The keys by which a ledger signs its checkpoints, and from where on it signs with both kinds.
//!
//! A ledger signs with Ed25519 from its first checkpoint on. If it has an ML-DSA-44 key as well, whoever reads a
//! checkpoint may not do without that signature from the entry on that activated the key: otherwise a forger of
//! Ed25519 signatures would leave the other one out. Refused: what no Ed25519 key of the ledger signed, what lacks the
//! second signature where it is due, and every line by a known key that does not verify.

use crate::algorithm::SignatureAlgorithm;
use crate::checkpoint::{Checkpoint, CheckpointError, VerifiedCheckpoint};
use crate::cosignature::CosignerKey;
use crate::hash::{LeafIndex, TreeSize};
use crate::log_key::LogKey;
use crate::names::Origin;
use crate::note::{Note, NoteVerifier};
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
    ml_dsa: Vec<CosignerKey>,
    /// Of those of `ml_dsa` that are registered as signers: which, and when its signature is due.
    due: Vec<(usize, Life)>,
}

impl LedgerKeys {
    /// Of the ledger that signs with these now: each of its signatures is due on every checkpoint.
    pub fn of_signers(origin: Origin, ed25519: NoteVerifier, ml_dsa: Option<CosignerKey>) -> Self {
        let ml_dsa: Vec<_> = ml_dsa.into_iter().collect();
        let due = (0..ml_dsa.len()).map(|at| (at, Life::ALWAYS)).collect();
        Self { origin, ed25519: vec![ed25519], ml_dsa, due }
    }

    /// Of the ledger whose registry this is.
    pub(crate) fn of_registry(registry: &SignersRegistry) -> Result<Self, RegistryError> {
        let (ed25519, ml_dsa) = LogKey::split(registry.log_keys()?);
        if ed25519.is_empty() {
            return Err(RegistryError::LedgerKey);
        }
        let mut due = Vec::new();
        for record in &registry.signers {
            if record.algorithm != SignatureAlgorithm::MlDsa44 {
                continue;
            }
            let Some(key) = record.public_key()? else { continue };
            let at = ml_dsa.iter().position(|known| *known.public_key() == key);
            let until = [record.retired_index, record.compromised_since].into_iter().flatten().min();
            if let Some((at, from)) = at.zip(record.activated_index) {
                due.push((at, Life { from, until }));
            }
        }
        Ok(Self { origin: registry.ledger.origin.clone(), ed25519, ml_dsa, due })
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
}
