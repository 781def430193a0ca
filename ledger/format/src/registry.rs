//! `signers.json`: which key was valid at which index, and which keys sign checkpoints.
//!
//! This file is what a verifier trusts. Validity is by position, not by clock: a signature counts if
//! its key was active at the leaf's index. The times are published for tools that only know time.

use std::collections::HashSet;

use serde::{Deserialize, Serialize};

use crate::algorithm::SignatureAlgorithm;
use crate::hash::LeafIndex;
use crate::ledger_keys::LedgerKeys;
use crate::log_key::LogKey;
use crate::names::{Kid, Origin};
use crate::policy::{Policy, PolicyError};
use crate::public_key::PublicKey;
use crate::timestamp::Timestamp;

#[cfg(test)]
mod tests;

/// Purpose of a key that must never sign: a signature by it says that somebody uses keys who may not.
pub const CANARY: &str = "canary";

/// Largest registry read, in bytes: far above 10,000 keys, far below memory.
pub const REGISTRY_BYTES_MAX: usize = 64 * 1024 * 1024;

/// The published registry of signers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SignersRegistry {
    version: u64,
    /// Which ledger, and the keys of its checkpoints.
    pub ledger: LedgerSection,
    /// Every key that ever signed for this ledger.
    pub signers: Vec<SignerRecord>,
}

/// The ledger's identity.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LedgerSection {
    /// First line of every checkpoint.
    pub origin: Origin,
    /// C2SP verifier keys that may sign checkpoints: Ed25519 (type 0x01), at least one, and ML-DSA-44 (type
    /// 0x06), any number.
    pub vkeys: Vec<String>,
    /// The same for verifiers of C2SP tlog-policy: the text of a file with exactly these keys as its logs, and with
    /// the witnesses who must have cosigned. Absent in older registries; see [`SignersRegistry::policy`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub policy: Option<String>,
}

/// Where a key is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum KeyState {
    /// Published, not yet signing.
    Staged,
    /// May sign.
    Active,
    /// May sign where configured; being replaced.
    Deprecated,
    /// May no longer sign; its earlier signatures stand.
    Retired,
    /// Signatures from `compromisedSince` on are suspect.
    Compromised,
}

/// One key pair.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct SignerRecord {
    /// The key pair's name for ever.
    #[serde(rename = "signer_kid")]
    pub signer_kid: Kid,
    /// The logical name callers use.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kid: Option<Kid>,
    /// What it does.
    pub algorithm: SignatureAlgorithm,
    /// SPKI PEM; absent for MAC keys, which have no public half.
    #[serde(rename = "public_key_pem", skip_serializing_if = "Option::is_none")]
    pub public_key_pem: Option<String>,
    /// What it is for.
    pub purpose: String,
    /// Where it is in its life.
    pub state: KeyState,
    /// When it went into use.
    pub deployed_at: Timestamp,
    /// When it left use.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retired_at: Option<Timestamp>,
    /// First index at which it may sign.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub activated_index: Option<u64>,
    /// First index at which it may no longer sign.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retired_index: Option<u64>,
    /// First index from which its signatures are suspect.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub compromised_since: Option<u64>,
    /// For people.
    #[serde(default)]
    pub description: String,
}

impl SignerRecord {
    /// Whether a signature at `index` counts.
    pub fn valid_at(&self, index: LeafIndex) -> bool {
        self.activated_index.is_some_and(|from| from <= index.0)
            && self.ended_index().is_none_or(|until| index.0 < until)
    }

    /// From which index on the key is retired or compromised, whichever comes first; 0 if it is compromised and the
    /// registry does not say since when.
    pub fn ended_index(&self) -> Option<u64> {
        let since = self.compromised_since.or((self.state == KeyState::Compromised).then_some(0));
        [self.retired_index, since].into_iter().flatten().min()
    }

    /// The parsed public key; `None` for MAC keys.
    pub fn public_key(&self) -> Result<Option<PublicKey>, RegistryError> {
        let bad = |_| RegistryError::PublicKey(self.signer_kid.clone());
        self.public_key_pem
            .as_deref()
            .map(|pem| PublicKey::from_pem(self.algorithm, pem).map_err(bad))
            .transpose()
    }
}

/// Why a registry was refused. Whoever supplied the file is at fault; retrying cannot help.
#[derive(Debug, thiserror::Error)]
pub enum RegistryError {
    /// Larger than [`REGISTRY_BYTES_MAX`].
    #[error("signers registry is larger than 64 MiB")]
    TooLarge,
    /// Not JSON of this shape.
    #[error("signers registry is not valid: {0}")]
    Shape(#[from] serde_json::Error),
    /// A version this code does not know.
    #[error("signers registry has version {0}, only 1 is known")]
    Version(u64),
    /// Two entries with one name.
    #[error("signers registry lists {0} twice")]
    Duplicate(Kid),
    /// A key that does not parse, or is missing, or should not be there.
    #[error("signers registry: public key of {0} is missing or not valid for its algorithm")]
    PublicKey(Kid),
    /// No, or no valid, checkpoint key.
    #[error("signers registry: no valid ledger verifier key")]
    LedgerKey,
    /// Its ledger's policy is none.
    #[error("signers registry: the ledger's {0}")]
    Policy(#[from] PolicyError),
    /// Its ledger's policy names other logs than its ledger's verifier keys.
    #[error("signers registry: the logs of the ledger's policy are not its verifier keys")]
    PolicyLogs,
}

impl SignersRegistry {
    /// A registry of version 1, checked as [`SignersRegistry::parse`] does.
    pub fn new(ledger: LedgerSection, signers: Vec<SignerRecord>) -> Result<Self, RegistryError> {
        let registry = Self { version: 1, ledger, signers };
        registry.check()?;
        Ok(registry)
    }

    /// Reads the published file. Every key must parse: a registry half understood is not trusted.
    pub fn parse(json: &[u8]) -> Result<Self, RegistryError> {
        if json.len() > REGISTRY_BYTES_MAX {
            return Err(RegistryError::TooLarge);
        }
        let registry: Self = serde_json::from_slice(json)?;
        registry.check()?;
        Ok(registry)
    }

    fn check(&self) -> Result<(), RegistryError> {
        if self.version != 1 {
            return Err(RegistryError::Version(self.version));
        }
        self.ledger_keys()?;
        if self.ledger.policy.is_some() {
            self.policy()?;
        }
        let mut seen = HashSet::new();
        for signer in &self.signers {
            if !seen.insert(&signer.signer_kid) {
                return Err(RegistryError::Duplicate(signer.signer_kid.clone()));
            }
            if signer.public_key()?.is_some() == signer.algorithm.is_mac() {
                return Err(RegistryError::PublicKey(signer.signer_kid.clone()));
            }
        }
        Ok(())
    }

    /// The keys of the ledger's checkpoints, with when each is due.
    pub fn ledger_keys(&self) -> Result<LedgerKeys, RegistryError> {
        LedgerKeys::of_registry(self)
    }

    /// The keys that may sign checkpoints, in the file's order; the name of each is the origin.
    pub fn log_keys(&self) -> Result<Vec<LogKey>, RegistryError> {
        let parsed = self.ledger.vkeys.iter().map(|vkey| LogKey::parse(vkey)).collect::<Result<Vec<_>, _>>();
        let keys = parsed.map_err(|_| RegistryError::LedgerKey)?;
        let named = keys.iter().all(|key| key.name() == self.ledger.origin.as_str());
        if named { Ok(keys) } else { Err(RegistryError::LedgerKey) }
    }

    /// The ledger's own policy: its keys are the logs, and the witnesses are those that whoever runs it asks. A
    /// registry without one asks for no witness.
    pub fn policy(&self) -> Result<Policy, RegistryError> {
        let keys = self.log_keys()?;
        let Some(file) = &self.ledger.policy else { return Ok(Policy::default().with_logs(&keys)?) };
        let policy = Policy::parse(file.as_bytes())?;
        let logs: Vec<&LogKey> = policy.logs().iter().map(|log| &log.key).collect();
        let same = logs.iter().all(|log| keys.contains(log)) && keys.iter().all(|key| logs.contains(&key));
        if same { Ok(policy) } else { Err(RegistryError::PolicyLogs) }
    }

    /// The record of one key pair.
    pub fn signer(&self, signer_kid: &str) -> Option<&SignerRecord> {
        self.signers.iter().find(|signer| signer.signer_kid.as_str() == signer_kid)
    }

    /// The file's bytes: indented JSON with a final newline, the same for the same content.
    pub fn to_json(&self) -> Result<Vec<u8>, RegistryError> {
        let mut json = serde_json::to_vec_pretty(self)?;
        json.push(b'\n');
        Ok(json)
    }
}
