//! The parts of a bundle, each of which holds by construction what can be said of it without the others.

use crate::archive::ObjectName;
use crate::entry::event_type;
use crate::event::AuditEvent;
use crate::hash::{Hash, LeafIndex};
use crate::policy::Policy;
use crate::receipt::check_place;
use crate::registry::SignersRegistry;
use crate::witness::PROOF_HASHES_MAX;

use super::{BUNDLED_REGISTRY_BYTES_MAX, EvidenceError, OBJECTS_MAX};

/// Longest location and longest version of an object, in bytes: S3's are shorter.
const TEXT_BYTES_MAX: usize = 1024;

/// A registry of signers, and the entry that published it: the hash in the entry is the file's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RegistrySlice {
    file: String,
    registry: SignersRegistry,
    version: u64,
    leaf: Vec<u8>,
    index: LeafIndex,
    path: Vec<Hash>,
}

#[derive(serde::Deserialize)]
struct PublishedPayload<'a> {
    #[serde(borrow)]
    sha256: &'a str,
    version: u64,
}

/// Version and hash of the registry that a leaf publishes; `None` if it publishes none.
fn published(event: &AuditEvent<'_>) -> Option<(u64, Hash)> {
    let payload: PublishedPayload<'_> = serde_json::from_str(event.payload).ok()?;
    let hash = Hash::from_hex(payload.sha256).ok()?;
    (event.event_type == event_type::REGISTRY).then_some((payload.version, hash))
}

impl RegistrySlice {
    /// From the bytes of `signers.json`, the `registry.published` leaf that has their hash, its index, and the hashes
    /// from there to the root of a checkpoint, which are not followed here.
    pub fn new(
        file: String,
        leaf: Vec<u8>,
        index: LeafIndex,
        path: Vec<Hash>,
    ) -> Result<Self, EvidenceError> {
        if file.len() > BUNDLED_REGISTRY_BYTES_MAX {
            return Err(EvidenceError::TooLarge("registry"));
        }
        let registry = SignersRegistry::parse(file.as_bytes())?;
        let event = AuditEvent::parse(&leaf)?;
        check_place(&event, index, &registry.ledger.origin)?;
        match published(&event) {
            Some((version, hash)) if hash == Hash::of(&[file.as_bytes()]) => {
                bounded(&path)?;
                Ok(Self { file, registry, version, leaf, index, path })
            }
            _ => Err(EvidenceError::NotPublished),
        }
    }

    /// Whether a leaf publishes the registry file of this hash.
    pub fn is_published_by(sha256: &Hash, leaf: &[u8]) -> bool {
        AuditEvent::read(leaf).is_ok_and(|event| published(&event).is_some_and(|(_, hash)| hash == *sha256))
    }

    /// `signers.json`, byte for byte.
    pub fn file(&self) -> &str {
        &self.file
    }

    /// The same, read.
    pub const fn registry(&self) -> &SignersRegistry {
        &self.registry
    }

    /// Which version the ledger says it is.
    pub const fn version(&self) -> u64 {
        self.version
    }

    /// The entry that published it.
    pub fn leaf(&self) -> &[u8] {
        &self.leaf
    }

    /// Where that stands.
    pub const fn index(&self) -> LeafIndex {
        self.index
    }

    /// From that entry's sibling to the root's child.
    pub fn path(&self) -> &[Hash] {
        &self.path
    }
}

/// A policy in a file: its text, and what it says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BundledPolicy {
    text: String,
    policy: Policy,
}

impl BundledPolicy {
    /// Reads a C2SP tlog-policy. It must be UTF-8, because the file is JSON.
    pub fn parse(text: String) -> Result<Self, EvidenceError> {
        Ok(Self { policy: Policy::parse(text.as_bytes())?, text })
    }

    /// The policy, byte for byte.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// The same, read.
    pub const fn policy(&self) -> &Policy {
        &self.policy
    }
}

/// One version of an archived object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ArchivedObject {
    /// Its name below the location.
    pub name: ObjectName,
    /// The store's name for the version.
    pub version_id: String,
}

/// Where the archive is, and which versions of its objects hold the entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ArchivedObjects {
    location: String,
    objects: Vec<ArchivedObject>,
}

impl ArchivedObjects {
    /// A location, and at least one object; each name once, by name.
    pub fn new(location: String, mut objects: Vec<ArchivedObject>) -> Result<Self, EvidenceError> {
        let shape = |reason: String| Err(EvidenceError::Shape(reason));
        if objects.len() > OBJECTS_MAX {
            return Err(EvidenceError::TooLarge("the number of archived objects"));
        }
        objects.sort_by_key(|object| object.name.to_string());
        let texts = objects.iter().map(|object| &object.version_id).chain([&location]);
        for text in texts {
            let plain = text.bytes().all(|byte| byte.is_ascii_graphic());
            if text.is_empty() || text.len() > TEXT_BYTES_MAX || !plain {
                return shape(format!("{text:?} is not 1 to {TEXT_BYTES_MAX} printable characters"));
            }
        }
        for pair in objects.windows(2) {
            if let [one, two] = pair
                && one.name == two.name
            {
                return shape(format!("archived object {} is there twice", one.name));
            }
        }
        if objects.is_empty() { shape("no archived objects".into()) } else { Ok(Self { location, objects }) }
    }

    /// The same with more. An object that is there already must have the same version: none is ever written again.
    pub fn with(mut self, more: Vec<ArchivedObject>) -> Result<Self, EvidenceError> {
        self.objects.extend(more);
        self.objects.sort_by_key(|object| object.name.to_string());
        self.objects.dedup();
        Self::new(self.location, self.objects)
    }

    /// The archive, such as `s3://bucket/prefix`.
    pub fn location(&self) -> &str {
        &self.location
    }

    /// Its objects, by name.
    pub fn objects(&self) -> &[ArchivedObject] {
        &self.objects
    }
}

/// A later checkpoint over the same entry, with the proofs that it is one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Renewal {
    note: String,
    entry_path: Vec<Hash>,
    registry_path: Vec<Hash>,
    consistency: Vec<Hash>,
    registry: Option<RegistrySlice>,
    policy: Option<BundledPolicy>,
}

/// The proofs of a renewal.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct RenewalProofs {
    /// From the entry's sibling to the root's child.
    pub entry: Vec<Hash>,
    /// The same from the entry of the bundle's registry.
    pub registry: Vec<Hash>,
    /// That the tree begins with that of the checkpoint before (RFC 6962 §2.1.2).
    pub consistency: Vec<Hash>,
}

impl Renewal {
    /// By the checkpoint in `note`. Nothing is followed here.
    pub fn new(note: String, proofs: RenewalProofs) -> Result<Self, EvidenceError> {
        let RenewalProofs { entry, registry, consistency } = proofs;
        for path in [&entry, &registry, &consistency] {
            bounded(path)?;
        }
        Ok(Self {
            note,
            entry_path: entry,
            registry_path: registry,
            consistency,
            registry: None,
            policy: None,
        })
    }

    /// The same with a newer registry, proven under this checkpoint.
    #[must_use]
    pub fn with_registry(self, registry: RegistrySlice) -> Self {
        Self { registry: Some(registry), ..self }
    }

    /// The same with the policy that accepts this checkpoint.
    #[must_use]
    pub fn with_policy(self, policy: BundledPolicy) -> Self {
        Self { policy: Some(policy), ..self }
    }

    /// The checkpoint with its signatures.
    pub fn note(&self) -> &str {
        &self.note
    }

    /// From the entry's sibling to the root's child.
    pub fn entry_path(&self) -> &[Hash] {
        &self.entry_path
    }

    /// The same from the entry of the bundle's registry.
    pub fn registry_path(&self) -> &[Hash] {
        &self.registry_path
    }

    /// That the tree begins with that of the checkpoint before.
    pub fn consistency(&self) -> &[Hash] {
        &self.consistency
    }

    /// A newer registry, proven under this checkpoint.
    pub const fn registry(&self) -> Option<&RegistrySlice> {
        self.registry.as_ref()
    }

    /// The policy under which this checkpoint was good.
    pub const fn policy(&self) -> Option<&BundledPolicy> {
        self.policy.as_ref()
    }
}

/// No proof is longer than the highest tree.
fn bounded(path: &[Hash]) -> Result<(), EvidenceError> {
    if path.len() > PROOF_HASHES_MAX { Err(EvidenceError::TooLarge("proof")) } else { Ok(()) }
}
