//! The file beside a signed artifact: what was signed, where it came from, the signature and its receipt.
//!
//! `<artifact>.chancery.json`, JSON:
//!
//! | member | is | bound by |
//! |---|---|---|
//! | `version` | 1 | |
//! | `digestAlgorithm`, `digest` | of the artifact's bytes | the signature |
//! | `kid`, `signer_kid`, `algorithm`, `signature`, `ts` | the signature, as the service gave it | the ledger |
//! | `provenance` | `artifact` (its name), `bytes`, `commit`?, `branch`?, `dirty`?, `dataset`?, `runId`? | the ledger: it went there in the request's `metadata`, under the same name |
//! | `receipt` | the receipt of the ledger's entry | itself, and the registry |
//!
//! Whoever has the artifact, this file and the signers registry verifies all of it and asks nobody. Each member is held
//! against the entry on the ledger, so that none can be exchanged. Where the digest was anchored, `algorithm` and
//! `signature` are empty and the receipt is the signature.

use std::path::{Path, PathBuf};

use chancery_format::canonical::CanonicalJson;
use chancery_format::committed::IssuedPayload;
use chancery_format::names::Kid;
use chancery_format::receipt::{RECEIPT_BYTES_MAX, ReceiptError};
use chancery_format::{Digest, Receipt, SignersRegistry};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::api::SignReply;
use crate::provenance::Provenance;

/// What the file's name ends with, behind the artifact's whole name.
pub const ENDING: &str = ".chancery.json";
/// Largest file read, in bytes: a receipt and some more.
pub const SIDECAR_BYTES_MAX: usize = 2 * RECEIPT_BYTES_MAX;
/// The member of a request's `metadata` that holds the provenance.
pub const PROVENANCE: &str = "provenance";

/// The file's content. Nothing is proven until [`Sidecar::check`].
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Sidecar {
    version: u64,
    digest_algorithm: String,
    digest: String,
    kid: Kid,
    #[serde(rename = "signer_kid")]
    signer_kid: Kid,
    algorithm: String,
    signature: String,
    ts: String,
    provenance: Provenance,
    receipt: Box<RawValue>,
}

/// What a verified file proves.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct CheckedArtifact {
    /// The key.
    pub kid: String,
    /// The key pair; for an anchored digest, the ledger's.
    #[serde(rename = "signer_kid")]
    pub signer_kid: String,
    /// Of the artifact's bytes, lower-case hex.
    pub digest: String,
    /// Where it came from, as recorded on the ledger.
    pub provenance: Provenance,
    /// Who asked for the signature.
    pub actor: String,
    /// When it was enrolled.
    pub ts: String,
    /// The ledger.
    pub origin: String,
    /// Position on it.
    pub index: u64,
    /// Leaves under the checkpoint of the receipt.
    pub tree_size: u64,
}

/// Why a file does not vouch for an artifact. Somebody altered one of them, or they do not belong together.
#[derive(Debug, thiserror::Error)]
pub enum SidecarError {
    /// Not JSON of this shape, or of another version.
    #[error("the sidecar is not valid: {0}")]
    Shape(String),
    /// The artifact is not the one that was signed.
    #[error("the artifact was altered: its {algorithm} is {found}, signed was {signed}")]
    Artifact {
        /// The hash function.
        algorithm: String,
        /// What the artifact has.
        found: String,
        /// What the signature is over.
        signed: String,
    },
    /// The receipt proves nothing.
    #[error("the receipt is not valid: {0}")]
    Receipt(#[from] ReceiptError),
    /// The receipt is good, and of something else than the file says.
    #[error("the sidecar was altered: its {0} is not the ledger's")]
    Altered(&'static str),
    /// The provenance is not the one on the ledger.
    #[error("the provenance was altered: the ledger says {0}")]
    Provenance(String),
    /// The ledger's entry is no signature that outsiders can verify.
    #[error("the ledger's entry is no signature that others can verify")]
    NoSignature,
}

impl SidecarError {
    /// A stable word for programs.
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::Shape(_) => "sidecar-invalid",
            Self::Artifact { .. } => "artifact-altered",
            Self::Receipt(_) => "receipt-invalid",
            Self::Altered(_) => "sidecar-altered",
            Self::Provenance(_) => "provenance-altered",
            Self::NoSignature => "no-signature",
        }
    }
}

/// Where the file of an artifact is kept unless told otherwise.
pub fn path_of(artifact: &Path) -> PathBuf {
    let mut name = artifact.as_os_str().to_owned();
    name.push(ENDING);
    name.into()
}

impl Sidecar {
    /// Puts the file together from what was asked and answered.
    pub fn new(
        digest: &Digest,
        reply: &SignReply,
        provenance: Provenance,
        receipt: &[u8],
    ) -> Result<Self, SidecarError> {
        let shape = |error: &dyn std::fmt::Display| SidecarError::Shape(error.to_string());
        let receipt = std::str::from_utf8(receipt).map_err(|error| shape(&error))?;
        let receipt = RawValue::from_string(receipt.trim().to_owned()).map_err(|error| shape(&error))?;
        Ok(Self {
            version: 1,
            digest_algorithm: digest.algorithm().to_owned(),
            digest: digest.to_hex(),
            kid: reply.kid.clone(),
            signer_kid: reply.signer_kid.clone(),
            algorithm: reply.algorithm.clone(),
            signature: reply.signature.clone(),
            ts: reply.ts.clone(),
            provenance,
            receipt,
        })
    }

    /// Reads the file.
    pub fn parse(json: &[u8]) -> Result<Self, SidecarError> {
        if json.len() > SIDECAR_BYTES_MAX {
            return Err(SidecarError::Shape(format!("larger than {SIDECAR_BYTES_MAX} bytes")));
        }
        let read: Self =
            serde_json::from_slice(json).map_err(|error| SidecarError::Shape(error.to_string()))?;
        match read.version {
            1 => Ok(read),
            other => Err(SidecarError::Shape(format!("version {other} is not known"))),
        }
    }

    /// The file's bytes: indented JSON with a final newline.
    pub fn to_json(&self) -> Result<Vec<u8>, SidecarError> {
        let mut json =
            serde_json::to_vec_pretty(self).map_err(|error| SidecarError::Shape(error.to_string()))?;
        json.push(b'\n');
        Ok(json)
    }

    /// The hash function that the artifact must be given to.
    pub fn digest_algorithm(&self) -> &str {
        &self.digest_algorithm
    }

    /// Checks everything: the artifact by its digest and length, the receipt with this registry, and each member
    /// against the entry that the receipt proves.
    pub fn check(
        &self,
        artifact: &Digest,
        bytes: u64,
        registry: &SignersRegistry,
    ) -> Result<CheckedArtifact, SidecarError> {
        let receipt = Receipt::parse(self.receipt.get().as_bytes())?;
        let verified = receipt.verify(registry)?;
        let event = &verified.event;
        let entry = match &verified.anchors {
            Some(anchored) => Entry {
                kid: anchored.kid,
                signer_kid: event.signer_kid,
                algorithm: "",
                signature: "",
                digest_algorithm: anchored.digest_algorithm,
                digest: anchored.digest,
                metadata: anchored.metadata,
            },
            None => {
                let payload = IssuedPayload::parse(event.payload).ok_or(SidecarError::NoSignature)?;
                if !verified.verified_signers.contains(&payload.signer_kid) {
                    return Err(SidecarError::NoSignature);
                }
                Entry {
                    kid: payload.kid,
                    signer_kid: payload.signer_kid,
                    algorithm: payload.algorithm,
                    signature: payload.signature,
                    digest_algorithm: payload.digest_algorithm,
                    digest: payload.digest,
                    metadata: payload.metadata,
                }
            }
        };
        self.compare(&entry, &event.ts.to_string())?;
        if artifact.algorithm() != entry.digest_algorithm || artifact.to_hex() != entry.digest {
            return Err(SidecarError::Artifact {
                algorithm: artifact.algorithm().to_owned(),
                found: artifact.to_hex(),
                signed: entry.digest.to_owned(),
            });
        }
        self.compare_provenance(entry.metadata, bytes)?;
        Ok(CheckedArtifact {
            kid: entry.kid.to_owned(),
            signer_kid: entry.signer_kid.to_owned(),
            digest: entry.digest.to_owned(),
            provenance: self.provenance.clone(),
            actor: event.actor.to_owned(),
            ts: event.ts.to_string(),
            origin: verified.checkpoint.origin().to_string(),
            index: verified.index.0,
            tree_size: verified.checkpoint.head().size.0,
        })
    }

    fn compare(&self, entry: &Entry<'_>, ts: &str) -> Result<(), SidecarError> {
        let pairs = [
            ("digestAlgorithm", self.digest_algorithm == entry.digest_algorithm),
            ("digest", self.digest == entry.digest),
            ("kid", self.kid.as_str() == entry.kid),
            ("signer_kid", self.signer_kid.as_str() == entry.signer_kid),
            ("algorithm", self.algorithm == entry.algorithm),
            ("signature", self.signature == entry.signature),
            ("ts", self.ts == ts),
        ];
        match pairs.into_iter().find(|(_, same)| !same) {
            Some((member, _)) => Err(SidecarError::Altered(member)),
            None => Ok(()),
        }
    }

    /// The provenance is the ledger's, member for member, and its length is the artifact's.
    fn compare_provenance(&self, metadata: Option<&RawValue>, bytes: u64) -> Result<(), SidecarError> {
        #[derive(Deserialize)]
        struct Metadata<'a> {
            #[serde(borrow)]
            provenance: Option<&'a RawValue>,
        }
        let read = metadata.and_then(|text| serde_json::from_str::<Metadata<'_>>(text.get()).ok());
        let recorded = read.and_then(|metadata| metadata.provenance);
        let recorded = recorded.ok_or_else(|| SidecarError::Provenance("nothing of it".to_owned()))?;
        let ours = serde_json::to_vec(&self.provenance).ok();
        let ours = ours.and_then(|json| CanonicalJson::parse(&json).ok());
        let theirs = CanonicalJson::parse(recorded.get().as_bytes()).ok();
        if ours.is_none() || ours != theirs || self.provenance.bytes != bytes {
            return Err(SidecarError::Provenance(recorded.get().to_owned()));
        }
        Ok(())
    }
}

/// The ledger's entry, issued or anchored.
struct Entry<'a> {
    kid: &'a str,
    signer_kid: &'a str,
    algorithm: &'a str,
    signature: &'a str,
    digest_algorithm: &'a str,
    digest: &'a str,
    metadata: Option<&'a RawValue>,
}
