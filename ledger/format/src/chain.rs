//! Chains in the forms of existing writers: what their rows bind, and how a stream of ours makes such rows.
//!
//! A stream may be set to a dialect. Each of its events then has, besides the stream's own `prevHash` and `hash`, the
//! hash that this writer's row would have, linked to the row before: the member `chain` of its leaf. Today's verifiers
//! check the rows; the leaf binds what those rows leave unbound, and the chain itself. Rows are ordered by time in
//! those verifiers, so in such a stream each event's `ts` is later than the one before.
//!
//! | file | does |
//! |---|---|
//! | `json.rs`, `canonical.rs` | JSON as it was written, and the forms in which writers hash it |
//! | `dialect.rs` | what each writer's hash binds |

pub mod canonical;
pub mod dialect;
pub mod json;

use serde_json::json;

pub use self::dialect::{Dialect, RowError};
use self::json::Value;
use crate::algorithm::SignatureAlgorithm;
use crate::event::AuditEvent;
use crate::hash::Hash;
use crate::timestamp::Timestamp;

/// An event's place in its dialect's chain: the leaf's member `chain`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Link {
    /// Whose form it has.
    pub dialect: Dialect,
    /// The row's hash.
    pub hash: Hash,
    /// The hash of the row before; `None` for the first one of all.
    pub previous: Option<Hash>,
}

/// Where the next row goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct After {
    /// Whose form the chain has.
    pub dialect: Dialect,
    /// The hash of the last row; `None` if there is none.
    pub previous: Option<Hash>,
}

/// What a row's hash may bind of an event. Which of it, its dialect says.
#[derive(Debug, Clone, Copy)]
pub struct Bound<'a> {
    /// `event_type`
    pub event_type: &'a str,
    /// `actor_id`
    pub actor: &'a str,
    /// `payload`, canonical JSON text.
    pub payload: &'a str,
    /// `ts` or `created_at`
    pub ts: Timestamp,
}

impl Link {
    /// The link of an event. An error means that this writer's rows cannot hold it.
    pub fn new(after: After, bound: &Bound<'_>) -> Result<Self, RowError> {
        let After { dialect, previous } = after;
        let payload = Value::parse(bound.payload).map_err(|error| RowError(error.to_string()))?;
        let text = |text: &str| Value::Text(text.as_bytes().to_vec().into());
        let before = previous.map_or(Value::Null, |hash| text(&hash.to_hex()));
        let row = Value::Object(vec![
            (b"event_type"[..].into(), text(bound.event_type)),
            (b"actor_id"[..].into(), text(bound.actor)),
            (b"payload"[..].into(), payload),
            (b"prev_hash"[..].into(), before),
            (b"ts"[..].into(), text(&bound.ts.to_string())),
        ]);
        let mode = dialect.modes().first().copied().unwrap_or(canonical::Mode::Jcs);
        Ok(Self { dialect, hash: dialect.hash(&row, mode)?, previous })
    }

    /// Whether this is the link that such an event has after the row it names.
    pub fn holds(&self, bound: &Bound<'_>) -> bool {
        Self::new(After { dialect: self.dialect, previous: self.previous }, bound).as_ref() == Ok(self)
    }

    /// What the row's signature is over.
    pub fn signed(&self, ts: Timestamp) -> Signed {
        match self.dialect {
            // Its signer wraps what it is given, with a time that is stored nowhere: here it is the row's own.
            Dialect::Kernel => Signed::Message(format!("{{\"data\":\"{}\",\"ts\":\"{ts}\"}}", self.hash)),
            _ => Signed::Digest(self.hash),
        }
    }
}

/// What the signature of a row is over.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Signed {
    /// A SHA-256 digest, not hashed again; Ed25519 signs its 32 bytes.
    Digest(Hash),
    /// A text.
    Message(String),
}

/// A row's signature.
#[derive(Debug, Clone, Copy)]
pub struct RowSignature<'a> {
    /// The key pair, as the signers registry names it.
    pub signer_kid: &'a str,
    /// Standard base64.
    pub signature: &'a str,
}

impl Dialect {
    /// Whether streams can be set to it. SAFE-AI's cannot: its verifier refuses what its own writer makes, and its
    /// records are never signed.
    pub const fn can_be_made(self) -> bool {
        !self.is_never_signed()
    }

    /// Whether its verifiers know signatures of this algorithm.
    pub const fn verifies(self, algorithm: SignatureAlgorithm) -> bool {
        match algorithm {
            SignatureAlgorithm::Ed25519 => true,
            SignatureAlgorithm::RsaSha256 => !matches!(self, Self::KernelGo),
            _ => false,
        }
    }

    /// The event as a row of the writer's table, in JSON with the names of its columns.
    pub fn row(self, event: &AuditEvent<'_>, link: &Link, signature: RowSignature<'_>) -> String {
        let previous = json!(link.previous.map(|hash| hash.to_hex()));
        let (hash, ts) = (json!(link.hash.to_hex()), json!(event.ts.to_string()));
        let RowSignature { signer_kid, signature } = signature;
        let mut row: Vec<(&str, serde_json::Value)> =
            vec![("id", json!(event.id)), ("event_type", json!(event.event_type))];
        match self {
            Self::Kernel | Self::KernelGo | Self::KernelServer => row.extend([
                ("prev_hash", previous),
                ("hash", hash),
                ("signature", json!(signature)),
                ("signer_id", json!(signer_kid)),
                ("ts", ts),
            ]),
            Self::AgentManager => row.extend([
                ("actor_id", json!(event.actor)),
                ("signature", json!(signature)),
                ("signer_kid", json!(signer_kid)),
                ("prev_hash", previous),
                ("created_at", ts),
            ]),
            Self::MemoryLayer => row.extend([
                ("hash", hash),
                ("prev_hash", previous),
                ("signature", json!(signature)),
                ("manifest_signature_id", json!(event.manifest_signature_id)),
                ("created_at", ts),
            ]),
            Self::Shared | Self::SafeAi => row.extend([
                ("actor_id", json!(event.actor)),
                ("prev_hash", previous),
                ("hash", hash),
                ("signature", json!(signature)),
                ("signer_kid", json!(signer_kid)),
                ("created_at", ts),
            ]),
        }
        let mut out = String::with_capacity(512 + event.payload.len());
        out.push('{');
        for (name, value) in row {
            out.push_str(&format!("\"{name}\":{value},"));
        }
        if let (Self::Kernel | Self::KernelGo, Some(metadata)) = (self, event.metadata) {
            out.push_str(&format!("\"metadata\":{metadata},"));
        }
        out.push_str(&format!("\"payload\":{}}}", event.payload));
        out
    }
}

#[cfg(test)]
mod tests;
