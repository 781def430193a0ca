//! What the auditor trusts: the registry given on the command line, prepared for a million look-ups.
//!
//! Everything else is evidence. A registry that does not parse as a whole is refused: half understood is
//! not trusted.

use std::collections::{HashMap, HashSet};

use chancery_format::ledger_keys::LedgerKeys;
use chancery_format::note::NoteVerifier;
use chancery_format::registry::{RegistryError, SignerRecord};
use chancery_format::{EventId, Hash, LeafIndex, Origin, PublicKey, SignersRegistry};

/// Position of a signer in the given registry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct SignerId(pub(crate) usize);

/// One key pair of the registry, parsed.
#[derive(Debug)]
pub(crate) struct Signer {
    pub(crate) record: SignerRecord,
    /// `None` for MAC keys.
    pub(crate) key: Option<PublicKey>,
    /// Whether this key signs checkpoints of this ledger by Ed25519, so that leaves may stand under it.
    pub(crate) is_ledger_key: bool,
    /// Whether it signs them by ML-DSA-44.
    pub(crate) is_second_ledger_key: bool,
}

impl Signer {
    /// The name, for messages.
    pub(crate) fn name(&self) -> &str {
        self.record.signer_kid.as_str()
    }
}

/// The given registry.
#[derive(Debug)]
pub struct Trust {
    registry: SignersRegistry,
    sha256: Hash,
    keys: LedgerKeys,
    /// For each Ed25519 key of `keys`: which signer it is, if the registry lists it as one.
    key_signers: Vec<Option<SignerId>>,
    signers: Vec<Signer>,
    by_name: HashMap<String, SignerId>,
    kids: HashSet<String>,
    origin_tag: [u8; 6],
    origin_text: String,
}

impl Trust {
    /// Reads `signers.json`.
    pub fn parse(json: &[u8]) -> Result<Self, RegistryError> {
        let registry = SignersRegistry::parse(json)?;
        let keys = registry.ledger_keys()?;
        let mut signers = Vec::with_capacity(registry.signers.len());
        for record in &registry.signers {
            let key = record.public_key()?;
            let vkey = note_key(&registry.ledger.origin, key.as_ref());
            let is_ledger_key = vkey.is_some_and(|vkey| keys.ed25519().contains(&vkey));
            let is_second_ledger_key =
                keys.ml_dsa().iter().any(|second| Some(second.public_key()) == key.as_ref());
            signers.push(Signer { record: record.clone(), key, is_ledger_key, is_second_ledger_key });
        }
        let by_name: HashMap<_, _> =
            signers.iter().enumerate().map(|(at, signer)| (signer.name().to_owned(), SignerId(at))).collect();
        let kids = registry.signers.iter().filter_map(|record| record.kid.as_ref());
        let kids = kids.map(|kid| kid.as_str().to_owned()).collect();
        let signer_of = |key| signer_of(&signers, &registry.ledger.origin, key);
        let key_signers = keys.ed25519().iter().map(signer_of).collect();
        let [a, b, c, d, e, f, ..] = Hash::of(&[registry.ledger.origin.as_str().as_bytes()]).0;
        let origin_tag = [a, b, c, d, e, f];
        let origin_text = format!("{a:02x}{b:02x}{c:02x}{d:02x}-{e:02x}{f:02x}-8000-");
        let sha256 = Hash::of(&[json]);
        Ok(Self { registry, sha256, keys, key_signers, signers, by_name, kids, origin_tag, origin_text })
    }

    /// The parsed file.
    pub const fn registry(&self) -> &SignersRegistry {
        &self.registry
    }

    /// Which ledger it speaks of.
    pub const fn origin(&self) -> &Origin {
        &self.registry.ledger.origin
    }

    /// SHA-256 of the file.
    pub(crate) const fn sha256(&self) -> Hash {
        self.sha256
    }

    /// Keys that may sign checkpoints.
    pub(crate) const fn ledger_keys(&self) -> &LedgerKeys {
        &self.keys
    }

    /// The signer behind an Ed25519 checkpoint key, if the registry lists one.
    pub(crate) fn signer_of_key(&self, key: &NoteVerifier) -> Option<SignerId> {
        let at = self.keys.ed25519().iter().position(|known| known == key)?;
        self.key_signers.get(at).copied().flatten()
    }

    /// Whether the registry has this key for checkpoints.
    pub(crate) fn has_vkey(&self, vkey: &str) -> bool {
        self.registry.ledger.vkeys.iter().any(|known| known == vkey)
    }

    /// Finds a signer by name.
    pub(crate) fn find(&self, signer_kid: &str) -> Option<SignerId> {
        self.by_name.get(signer_kid).copied()
    }

    /// Whether any key pair of the registry goes by this logical name.
    pub(crate) fn knows_kid(&self, kid: &str) -> bool {
        self.kids.contains(kid)
    }

    /// A signer found before.
    pub(crate) fn signer(&self, id: SignerId) -> &Signer {
        #[expect(clippy::indexing_slicing, reason = "ids are made only from positions of this list")]
        &self.signers[id.0]
    }

    /// All signers.
    pub(crate) fn signers(&self) -> impl Iterator<Item = (SignerId, &Signer)> {
        self.signers.iter().enumerate().map(|(at, signer)| (SignerId(at), signer))
    }

    /// How many signers there are.
    pub(crate) fn signer_count(&self) -> usize {
        self.signers.len()
    }

    /// The index an event id names, if it is one this ledger makes from indices.
    pub(crate) fn index_in(&self, id: &str) -> Option<LeafIndex> {
        if !id.starts_with(&self.origin_text) {
            return None;
        }
        id.parse::<EventId>().ok()?.index(self.origin_tag)
    }
}

fn note_key(origin: &Origin, key: Option<&PublicKey>) -> Option<NoteVerifier> {
    NoteVerifier::new(origin.as_str(), &key?.ed25519_raw()?).ok()
}

fn signer_of(signers: &[Signer], origin: &Origin, key: &NoteVerifier) -> Option<SignerId> {
    let is_it = |signer: &Signer| note_key(origin, signer.key.as_ref()).as_ref() == Some(key);
    signers.iter().position(is_it).map(SignerId)
}
