//! What can be asked for, and what can be halted.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::canonical::CanonicalJson;
use crate::hash::Hash;
use crate::names::{Kid, PrincipalName, Purpose, StreamName};

/// An act that needs a quorum.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case", rename_all_fields = "camelCase", deny_unknown_fields)]
pub enum Act {
    /// Signing goes on.
    Resume {
        /// For what.
        scope: Scope,
    },
    /// A key is replaced.
    Rotate {
        /// The name whose key changes.
        kid: Kid,
        /// The key pair in use when it was asked for.
        from: Kid,
        /// The key pair to come.
        to: Kid,
        /// The backend that holds it.
        backend: String,
        /// What its backend calls it.
        label: String,
        /// How long the old key stays valid after the switch, in hours.
        overlap_hours: u32,
    },
    /// One digest is signed.
    Sign {
        /// With which key.
        kid: Kid,
        /// The service that asked.
        principal: PrincipalName,
        /// `sha256` …
        digest_algorithm: String,
        /// Lower-case hex.
        digest: String,
        /// SHA-256 of everything the service asked, lower-case hex.
        request_sha256: String,
        /// What the service says it is for.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        purpose: Option<Purpose>,
        /// The service's context.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        metadata: Option<serde_json::Value>,
        /// The policies that want the quorum.
        policy: String,
    },
}

impl Act {
    /// Canonical JSON: what the act's hash is the hash of.
    pub fn canonical(&self) -> CanonicalJson {
        let json = serde_json::to_vec(self).expect("an act holds text and numbers");
        CanonicalJson::parse(&json).expect("JSON written here is JSON")
    }

    /// SHA-256 of [`Act::canonical`]: what approvers approve.
    pub fn sha256(&self) -> Hash {
        Hash::of(&[self.canonical().as_bytes()])
    }

    /// One word for lists and logs.
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::Resume { .. } => "resume",
            Self::Rotate { .. } => "rotate",
            Self::Sign { .. } => "sign",
        }
    }
}

/// What the kill switch stops. Written `global`, `key:KID`, `principal:NAME` or `stream:NAME`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Scope {
    /// Every key.
    Global,
    /// Every key pair of one name, or one key pair by its own name.
    Key(Kid),
    /// Whatever one service asks for.
    Principal(PrincipalName),
    /// Whatever would join one stream.
    Stream(StreamName),
}

/// The text names no scope. The caller is at fault.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("a scope is written global, key:KID, principal:NAME or stream:NAME")]
pub struct ScopeError;

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Global => f.write_str("global"),
            Self::Key(kid) => write!(f, "key:{}", kid.as_str()),
            Self::Principal(name) => write!(f, "principal:{}", name.as_str()),
            Self::Stream(name) => write!(f, "stream:{}", name.as_str()),
        }
    }
}

impl FromStr for Scope {
    type Err = ScopeError;
    fn from_str(text: &str) -> Result<Self, ScopeError> {
        if text == "global" {
            return Ok(Self::Global);
        }
        let (kind, name) = text.split_once(':').ok_or(ScopeError)?;
        match kind {
            "key" => name.parse().map(Self::Key).map_err(|_| ScopeError),
            "principal" => name.parse().map(Self::Principal).map_err(|_| ScopeError),
            "stream" => name.parse().map(Self::Stream).map_err(|_| ScopeError),
            _ => Err(ScopeError),
        }
    }
}

impl Serialize for Scope {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Scope {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}
