//! The file: one JSON object, whose members are those of the structures here and no others.

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::archive::ObjectName;
use crate::canonical::CanonicalJson;
use crate::cose::CoseReceipt;
use crate::entry::{decode_base64, encode_base64};
use crate::hash::{Hash, LeafIndex};
use crate::receipt::Receipt;
use crate::tlog_proof::TlogProof;

use super::parts::{ArchivedObject, ArchivedObjects, BundledPolicy, RegistrySlice, Renewal, RenewalProofs};
use super::{EVIDENCE_BYTES_MAX, Evidence, EvidenceError, RENEWALS_MAX};

/// The one version there is.
const VERSION: u64 = 1;

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct EvidenceJson {
    version: u64,
    event: Box<RawValue>,
    proof: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    cose: Option<String>,
    registry: RegistryJson,
    #[serde(skip_serializing_if = "Option::is_none")]
    policy: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    archive: Option<ArchiveJson>,
    renewals: Vec<RenewalJson>,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct RegistryJson {
    file: String,
    event: Box<RawValue>,
    proof: String,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct ArchiveJson {
    location: String,
    objects: Vec<ObjectJson>,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct ObjectJson {
    name: String,
    version_id: String,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct RenewalJson {
    checkpoint: String,
    inclusion_proof: Vec<String>,
    registry_proof: Vec<String>,
    consistency_proof: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    registry: Option<NewerJson>,
    #[serde(skip_serializing_if = "Option::is_none")]
    policy: Option<String>,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct NewerJson {
    file: String,
    event: Box<RawValue>,
    index: u64,
    inclusion_proof: Vec<String>,
}

fn shape(reason: impl ToString) -> EvidenceError {
    EvidenceError::Shape(reason.to_string())
}

impl Evidence {
    /// Reads the file. It may be indented and its members reordered; nothing else of it has a second spelling.
    pub fn parse(json: &[u8]) -> Result<Self, EvidenceError> {
        if json.len() > EVIDENCE_BYTES_MAX {
            return Err(EvidenceError::TooLarge("evidence"));
        }
        let read: EvidenceJson = serde_json::from_slice(json).map_err(shape)?;
        if read.version != VERSION {
            return Err(shape(format_args!("version {} is not known", read.version)));
        }
        let evidence = from_json(read)?;
        // What the structures let pass, such as `null` for nothing or a member named twice, is not what we write.
        let written = CanonicalJson::parse_around_leaf(evidence.to_json()?.as_bytes())?;
        match CanonicalJson::parse_around_leaf(json)? == written {
            true => Ok(evidence),
            false => Err(shape("a member has a second spelling")),
        }
    }

    /// The file on one line, without a newline. Refuses to write what could not be read.
    pub fn to_json(&self) -> Result<String, EvidenceError> {
        let archive = self.archive.as_ref().map(|archive| ArchiveJson {
            location: archive.location().to_owned(),
            objects: archive.objects().iter().map(ObjectJson::of).collect(),
        });
        let written = EvidenceJson {
            version: VERSION,
            event: raw(self.receipt.leaf())?,
            proof: self.receipt.to_tlog_proof(),
            cose: self.cose.as_ref().map(|cose| encode_base64(&cose.to_bytes())),
            registry: RegistryJson {
                file: self.registry.file().to_owned(),
                event: raw(self.registry.leaf())?,
                proof: self.registry_proof().to_string(),
            },
            policy: self.policy.as_ref().map(|policy| policy.text().to_owned()),
            archive,
            renewals: self.renewals.iter().map(RenewalJson::of).collect::<Result<_, _>>()?,
        };
        let json = serde_json::to_string(&written).map_err(shape)?;
        if json.len() > EVIDENCE_BYTES_MAX { Err(EvidenceError::TooLarge("evidence")) } else { Ok(json) }
    }

    /// The C2SP `tlog-proof` of the entry that published the registry.
    pub fn registry_proof(&self) -> TlogProof {
        let (index, path) = (self.registry.index(), self.registry.path().to_vec());
        TlogProof::unchecked(index, path, self.registry_note.clone())
    }
}

fn from_json(read: EvidenceJson) -> Result<Evidence, EvidenceError> {
    if read.renewals.len() > RENEWALS_MAX {
        return Err(EvidenceError::TooLarge("the number of renewals"));
    }
    let proof = tlog_proof(&read.proof)?;
    let cose = read.cose.map(|text| decode_base64(&text).ok_or_else(|| shape("cose: not base64")));
    let cose = cose.transpose()?.map(|bytes| CoseReceipt::parse(&bytes)).transpose()?;
    let registry_proof = tlog_proof(&read.registry.proof)?;
    let (index, path) = (registry_proof.index(), registry_proof.proof().to_vec());
    Ok(Evidence {
        receipt: Receipt::from_tlog_proof(leaf(&read.event)?, &proof)?,
        cose,
        registry: RegistrySlice::new(read.registry.file, leaf(&read.registry.event)?, index, path)?,
        registry_note: registry_proof.note().to_owned(),
        policy: read.policy.map(BundledPolicy::parse).transpose()?,
        archive: read.archive.map(ArchiveJson::read).transpose()?,
        renewals: read.renewals.into_iter().map(RenewalJson::read).collect::<Result<_, _>>()?,
    })
}

/// Without bytes of the bearer's, which nothing authenticates.
fn tlog_proof(text: &str) -> Result<TlogProof, EvidenceError> {
    let proof = TlogProof::parse(text)?;
    if proof.extra().is_some() { Err(shape("a proof has extra bytes")) } else { Ok(proof) }
}

/// The event may be indented or reordered: its canonical form is the leaf.
fn leaf(event: &RawValue) -> Result<Vec<u8>, EvidenceError> {
    Ok(CanonicalJson::parse_around(event.get().as_bytes())?.as_bytes().to_vec())
}

fn raw(leaf: &[u8]) -> Result<Box<RawValue>, EvidenceError> {
    RawValue::from_string(String::from_utf8_lossy(leaf).into_owned()).map_err(shape)
}

fn hex(hashes: &[Hash]) -> Vec<String> {
    hashes.iter().map(Hash::to_hex).collect()
}

fn hashes(hex: &[String]) -> Result<Vec<Hash>, EvidenceError> {
    hex.iter().map(|hash| Hash::from_hex(hash)).collect::<Result<_, _>>().map_err(shape)
}

impl ObjectJson {
    fn of(object: &ArchivedObject) -> Self {
        Self { name: object.name.to_string(), version_id: object.version_id.clone() }
    }
}

impl ArchiveJson {
    fn read(self) -> Result<ArchivedObjects, EvidenceError> {
        let object = |read: ObjectJson| {
            let name = ObjectName::parse(&read.name)
                .ok_or_else(|| shape(format_args!("{:?} is no object of an archive", read.name)))?;
            Ok(ArchivedObject { name, version_id: read.version_id })
        };
        let objects = self.objects.into_iter().map(object).collect::<Result<_, EvidenceError>>()?;
        ArchivedObjects::new(self.location, objects)
    }
}

impl RenewalJson {
    fn of(renewal: &Renewal) -> Result<Self, EvidenceError> {
        let newer = |slice: &RegistrySlice| {
            Ok::<_, EvidenceError>(NewerJson {
                file: slice.file().to_owned(),
                event: raw(slice.leaf())?,
                index: slice.index().0,
                inclusion_proof: hex(slice.path()),
            })
        };
        Ok(Self {
            checkpoint: renewal.note().to_owned(),
            inclusion_proof: hex(renewal.entry_path()),
            registry_proof: hex(renewal.registry_path()),
            consistency_proof: hex(renewal.consistency()),
            registry: renewal.registry().map(newer).transpose()?,
            policy: renewal.policy().map(|policy| policy.text().to_owned()),
        })
    }

    fn read(self) -> Result<Renewal, EvidenceError> {
        let proofs = RenewalProofs {
            entry: hashes(&self.inclusion_proof)?,
            registry: hashes(&self.registry_proof)?,
            consistency: hashes(&self.consistency_proof)?,
        };
        let mut renewal = Renewal::new(self.checkpoint, proofs)?;
        if let Some(newer) = self.registry {
            let (index, path) = (LeafIndex(newer.index), hashes(&newer.inclusion_proof)?);
            renewal =
                renewal.with_registry(RegistrySlice::new(newer.file, leaf(&newer.event)?, index, path)?);
        }
        match self.policy {
            Some(policy) => Ok(renewal.with_policy(BundledPolicy::parse(policy)?)),
            None => Ok(renewal),
        }
    }
}
