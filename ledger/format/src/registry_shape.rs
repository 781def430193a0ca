//! The registry in the shapes that existing verifiers read.
//!
//! | shape | for | form | keys |
//! |---|---|---|---|
//! | `signers` | kernel audit-verify | `{"signers":[{signer_kid, algorithm, public_key_pem, deployedAt, retiredAt?, description}]}` | Ed25519, RSA, P-256 |
//! | `signer-ids` | agent-manager's registry builder | `{"signers":[{signerId, publicKey (PEM), algorithm, deployedAt, retiredAt?, notes}]}` | Ed25519, RSA, P-256 |
//! | `pem-map` | the update script of the KMS registry | `{name: PEM}` | Ed25519, RSA (PKCS#1 v1.5), P-256 |
//! | `raw-ids` | kernel in production | `{"signers":[{signerId, publicKey (raw, base64)}]}` | Ed25519 |
//! | `spki-map` | reasoning-graph verify_snapshot | `{name: {kid, publicKey (SPKI, base64)}}` | Ed25519 |
//! | `kernel-keys` | agent-manager's kernel keys | `{name: {alg, key (PEM)}}` | Ed25519, RSA (PKCS#1 v1.5) |
//! | `security-status` | the Go kernel's status page | `{"signers":[{signerId, algorithm, publicKey (raw, base64), createdAt}]}` | Ed25519 |
//! | `pem` | reasoning-graph's kernel keys | PEM blocks, one after the other | Ed25519, RSA (PKCS#1 v1.5), P-256 |
//! | `policy` | verifiers of C2SP tlog-policy | `log`, `witness`, `group` and `quorum` lines | the ledger's own |
//!
//! The last is of the ledger and not of its signers; so is what follows not about it. None of these shapes can say that a key is compromised, so compromised keys are left out: whoever reads them would
//! believe everything such a key signed. So is what a shape's readers do not know. What is left out is told, with the
//! reason.

use std::fmt;
use std::str::FromStr;

use serde::Serialize;
use serde_json::{Map, Value, json};

use crate::algorithm::SignatureAlgorithm;
use crate::entry::encode_base64;
use crate::names::Kid;
use crate::public_key::PublicKey;
use crate::registry::{KeyState, RegistryError, SignerRecord, SignersRegistry};

/// A shape of an existing registry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum RegistryShape {
    /// A list by `signer_kid`.
    Signers,
    /// A list by `signerId`.
    SignerIds,
    /// A map to PEM.
    PemMap,
    /// A list of raw keys.
    RawIds,
    /// A map to SPKI.
    SpkiMap,
    /// A map to algorithm and PEM.
    KernelKeys,
    /// A list of raw keys with their algorithm and time.
    SecurityStatus,
    /// PEM alone.
    Pem,
    /// The ledger's C2SP tlog-policy, without any signer.
    Policy,
}

/// There is no such shape. Whoever named it is at fault.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("unknown registry shape; one of {}", RegistryShape::ALL.map(RegistryShape::as_str).join(", "))]
pub struct UnknownShape;

/// A registry in another shape.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Exported {
    /// The file: JSON with a final newline, PEM, or lines.
    pub bytes: Vec<u8>,
    /// Keys in it.
    pub signers: usize,
    /// Keys that are not in it, and why.
    pub left_out: Vec<LeftOut>,
}

/// A key that a shape does not have.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct LeftOut {
    /// The key pair.
    #[serde(rename = "signer_kid")]
    pub signer_kid: Kid,
    /// Why.
    pub reason: &'static str,
}

impl RegistryShape {
    /// Every shape.
    pub const ALL: [Self; 9] = [
        Self::Signers,
        Self::SignerIds,
        Self::PemMap,
        Self::RawIds,
        Self::SpkiMap,
        Self::KernelKeys,
        Self::SecurityStatus,
        Self::Pem,
        Self::Policy,
    ];

    /// The name in options and queries.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Signers => "signers",
            Self::SignerIds => "signer-ids",
            Self::PemMap => "pem-map",
            Self::RawIds => "raw-ids",
            Self::SpkiMap => "spki-map",
            Self::KernelKeys => "kernel-keys",
            Self::SecurityStatus => "security-status",
            Self::Pem => "pem",
            Self::Policy => "policy",
        }
    }

    /// Whether the file is PEM and not JSON.
    pub const fn is_pem(self) -> bool {
        matches!(self, Self::Pem)
    }

    /// Whether the file is the ledger's policy, and says nothing of signers.
    pub const fn is_policy(self) -> bool {
        matches!(self, Self::Policy)
    }

    /// Whether this shape's readers know what to do with such a key.
    const fn takes(self, algorithm: SignatureAlgorithm) -> bool {
        use SignatureAlgorithm::{EcdsaP256Sha256, Ed25519, RsaPssSha256, RsaSha256};
        match algorithm {
            Ed25519 => true,
            RsaSha256 => !matches!(self, Self::RawIds | Self::SpkiMap | Self::SecurityStatus),
            EcdsaP256Sha256 => matches!(self, Self::Signers | Self::SignerIds | Self::PemMap | Self::Pem),
            // Only where the algorithm is written down beside the key: an RSA key alone is taken for PKCS#1 v1.5.
            RsaPssSha256 => matches!(self, Self::Signers | Self::SignerIds),
            _ => false,
        }
    }
}

impl fmt::Display for RegistryShape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for RegistryShape {
    type Err = UnknownShape;
    fn from_str(text: &str) -> Result<Self, UnknownShape> {
        Self::ALL.into_iter().find(|shape| shape.as_str() == text).ok_or(UnknownShape)
    }
}

impl SignersRegistry {
    /// The registry in another shape. Fails only where a key does not parse, which a registry that was read does not
    /// have, and where the ledger has more keys than a policy may.
    pub fn export(&self, shape: RegistryShape) -> Result<Exported, RegistryError> {
        if shape.is_policy() {
            return Ok(Exported { bytes: self.policy()?.to_bytes(), signers: 0, left_out: Vec::new() });
        }
        let (mut kept, mut left_out) = (Vec::new(), Vec::new());
        for record in &self.signers {
            match (why_not(record, shape), record.public_key()?) {
                (None, Some(key)) => kept.push((record, key)),
                (reason, _) => left_out.push(LeftOut {
                    signer_kid: record.signer_kid.clone(),
                    reason: reason.unwrap_or("makes MACs and has no public half"),
                }),
            }
        }
        let bytes = match shape {
            RegistryShape::Pem => kept.iter().map(|(_, key)| key.to_pem()).collect::<String>().into_bytes(),
            _ => {
                let mut json = serde_json::to_vec_pretty(&document(shape, &kept))?;
                json.push(b'\n');
                json
            }
        };
        Ok(Exported { bytes, signers: kept.len(), left_out })
    }
}

fn why_not(record: &SignerRecord, shape: RegistryShape) -> Option<&'static str> {
    if record.algorithm.is_mac() {
        return Some("makes MACs and has no public half");
    }
    if record.state == KeyState::Compromised || record.compromised_since.is_some() {
        return Some("is compromised, which this shape cannot say");
    }
    (!shape.takes(record.algorithm)).then_some("is of an algorithm that readers of this shape do not know")
}

fn document(shape: RegistryShape, kept: &[(&SignerRecord, PublicKey)]) -> Value {
    let entries = kept.iter().map(|(record, key)| entry(shape, record, key));
    match shape {
        RegistryShape::PemMap | RegistryShape::SpkiMap | RegistryShape::KernelKeys => {
            let names = kept.iter().map(|(record, _)| record.signer_kid.as_str().to_owned());
            Value::Object(names.zip(entries).collect::<Map<_, _>>())
        }
        _ => json!({ "signers": entries.collect::<Vec<_>>() }),
    }
}

fn entry(shape: RegistryShape, record: &SignerRecord, key: &PublicKey) -> Value {
    let name = record.signer_kid.as_str();
    // The words those readers compare with.
    let word = match record.algorithm {
        SignatureAlgorithm::Ed25519 => "Ed25519",
        other => other.as_str(),
    };
    let deployed = record.deployed_at.to_string();
    let raw = key.ed25519_raw().map(|raw| encode_base64(&raw)).unwrap_or_default();
    let pem = key.to_pem();
    let mut entry = match shape {
        RegistryShape::Signers => json!({
            "signer_kid": name, "algorithm": record.algorithm.as_str(), "public_key_pem": pem, "deployedAt": deployed,
            "description": record.description,
        }),
        RegistryShape::SignerIds => json!({
            "signerId": name, "publicKey": pem, "algorithm": word, "deployedAt": deployed, "notes": record.description,
        }),
        RegistryShape::PemMap | RegistryShape::Pem | RegistryShape::Policy => json!(pem),
        RegistryShape::RawIds => json!({ "signerId": name, "publicKey": raw }),
        RegistryShape::SpkiMap => json!({ "kid": name, "publicKey": encode_base64(key.spki_der()) }),
        RegistryShape::KernelKeys => json!({ "alg": record.algorithm.as_str(), "key": pem }),
        RegistryShape::SecurityStatus => {
            json!({ "signerId": name, "algorithm": word, "publicKey": raw, "createdAt": deployed })
        }
    };
    if let (RegistryShape::Signers | RegistryShape::SignerIds, Some(at), Value::Object(members)) =
        (shape, record.retired_at, &mut entry)
    {
        members.insert("retiredAt".to_owned(), at.to_string().into());
    }
    entry
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a failed unwrap is the test's failure")]
    use super::*;

    #[test]
    fn shapes_have_one_name_each() {
        for shape in RegistryShape::ALL {
            assert_eq!(shape.as_str().parse::<RegistryShape>().unwrap(), shape);
        }
        assert!(
            "toml"
                .parse::<RegistryShape>()
                .unwrap_err()
                .to_string()
                .ends_with("security-status, pem, policy")
        );
    }
}
