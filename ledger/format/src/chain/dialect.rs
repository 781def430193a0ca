//! What each existing writer binds into a row's hash, and what it signs.
//!
//! | dialect | writer | hash | not bound by it |
//! |---|---|---|---|
//! | `kernel-go` | kernel's Go stores | SHA-256(payload ‖ previous hash) | id, event type, time, signer, metadata |
//! | `agent-manager` | agent-manager | the same, not stored | id, event type, time, actor, signer |
//! | `memory-layer` | memory-layer | the same, stored | id, event type, time, references; no signer is stored |
//! | `kernel-server` | kernel/server | the same, stored | id, event type, time, signer |
//! | `kernel` | kernel's TypeScript | SHA-256(`{eventType, payload, prevHash, ts}`) | id, signer, metadata |
//! | `shared` | shared/lib, IDEA | SHA-256(`{actor_id, created_at, event_type, payload, prev_hash}`) | id, signer |
//! | `safe-ai` | SAFE-AI | SHA-256(previous root ‖ the whole record) | of the first record: everything |
//!
//! The previous hash is 32 raw bytes where it is concatenated, nothing for the first row, and hexadecimal text where
//! it stands in JSON.

use std::fmt;
use std::str::FromStr;

use crate::{Hash, Timestamp};

use super::canonical::Mode;
use super::json::Value;

/// A writer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Dialect {
    /// D1.
    KernelGo,
    /// D2.
    AgentManager,
    /// D3.
    MemoryLayer,
    /// D4.
    KernelServer,
    /// D5.
    Kernel,
    /// D6.
    Shared,
    /// S1.
    SafeAi,
}

/// Names of one column, as writers and exports spell it.
const EVENT_TYPE: &[&str] = &["event_type", "eventType"];
const PREVIOUS: &[&str] = &["prev_hash", "prevHash", "prev_root"];
const STORED: &[&str] = &["hash", "merkle_root"];
const SIGNER: &[&str] = &["signer_kid", "signerKid", "signer_id", "signerId"];
const MOMENT: &[&str] = &["ts", "created_at", "createdAt"];
const ACTOR: &[&str] = &["actor_id", "actorId"];

/// Something in a row is not as its writer writes it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct RowError(pub String);

impl Dialect {
    /// Every dialect.
    pub const ALL: [Self; 7] = [
        Self::Kernel,
        Self::Shared,
        Self::KernelGo,
        Self::MemoryLayer,
        Self::KernelServer,
        Self::AgentManager,
        Self::SafeAi,
    ];

    /// The name in options and reports.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::KernelGo => "kernel-go",
            Self::AgentManager => "agent-manager",
            Self::MemoryLayer => "memory-layer",
            Self::KernelServer => "kernel-server",
            Self::Kernel => "kernel",
            Self::Shared => "shared",
            Self::SafeAi => "safe-ai",
        }
    }

    /// The canonical forms its writers have used, the likeliest first.
    pub const fn modes(self) -> &'static [Mode] {
        match self {
            // Numbers are hashed as written, and read back from JSONB as doubles.
            Self::KernelGo => &[Mode::GoHtmlText, Mode::GoHtml, Mode::GoHtmlTextOld, Mode::GoHtmlOld],
            Self::AgentManager | Self::MemoryLayer | Self::KernelServer => &[Mode::Jcs],
            Self::Kernel => &[Mode::JsRebuildNoProto, Mode::JsRebuild],
            Self::Shared => &[Mode::JsRebuild, Mode::JsRebuildNoProto],
            Self::SafeAi => &[Mode::PyDefault],
        }
    }

    /// Whether rows carry their hash.
    pub const fn stores_hash(self) -> bool {
        !matches!(self, Self::AgentManager)
    }

    /// Whether each actor has a chain of their own.
    pub const fn is_per_actor(self) -> bool {
        matches!(self, Self::Shared)
    }

    /// Whether a column can be altered without the hash or the signature telling. Of SAFE-AI's, all are in the hash;
    /// but its first record has the same one whatever it says.
    pub fn is_unbound(self, column: &str) -> bool {
        let own: &[&[&str]] = match self {
            Self::KernelGo | Self::AgentManager | Self::MemoryLayer | Self::KernelServer => &[],
            Self::Kernel => &[EVENT_TYPE, &["ts"]],
            Self::Shared => &[EVENT_TYPE, ACTOR, &["created_at", "createdAt"]],
            Self::SafeAi => return false,
        };
        let every: [&[&str]; 3] = [PREVIOUS, STORED, &["payload", "signature"]];
        !own.iter().chain(&every).any(|names| names.contains(&column))
    }

    /// Whether its rows never carry a signature.
    pub const fn is_never_signed(self) -> bool {
        matches!(self, Self::SafeAi)
    }

    /// Whether its rows do not say who signed them.
    pub const fn is_signer_lost(self) -> bool {
        matches!(self, Self::MemoryLayer)
    }

    /// Whether a row has the columns this writer fills, as far as the others do not.
    pub fn looks_like(self, row: &Value<'_>) -> bool {
        let has = |names: &[&str]| names.iter().any(|name| row.get(name).is_some());
        match self {
            Self::SafeAi => has(&["merkle_root"]),
            Self::Shared => has(ACTOR) && has(STORED),
            Self::AgentManager => has(ACTOR) && !has(STORED),
            Self::MemoryLayer => has(STORED) && !has(SIGNER) && has(&["created_at", "createdAt"]),
            Self::Kernel | Self::KernelGo => has(STORED) && has(&["ts"]),
            // Of two writers of the same hash, the one whose signatures can be verified comes first.
            Self::KernelServer => has(STORED) && has(&["ts"]) && !has(&["metadata", "eventType"]),
        }
    }

    /// The hash a row must have after the row it names as the one before it.
    pub fn hash(self, row: &Value<'_>, mode: Mode) -> Result<Hash, RowError> {
        self.hash_with(row, mode, &mut Vec::with_capacity(1_024))
    }

    /// The same. What is hashed is put together in `preimage`, whose memory serves for the next row.
    pub fn hash_with(self, row: &Value<'_>, mode: Mode, preimage: &mut Vec<u8>) -> Result<Hash, RowError> {
        preimage.clear();
        let named = hash_in(row, PREVIOUS)?;
        let write = |value: &Value<'_>, out: &mut Vec<u8>| {
            mode.append(value, out).ok_or_else(|| {
                RowError(format!("holds a value that no writer of form {mode} can have written"))
            })
        };
        let payload = || row.get("payload").ok_or_else(|| RowError("has no payload".to_owned()));
        match self {
            Self::KernelGo | Self::AgentManager | Self::MemoryLayer | Self::KernelServer => {
                write(payload()?, preimage)?;
                if let Some(before) = named.filter(is_a_row) {
                    preimage.extend_from_slice(&before.0);
                }
            }
            Self::Kernel => {
                preimage.extend_from_slice(b"{\"eventType\":");
                write(column_or_null(row, EVENT_TYPE), preimage)?;
                preimage.extend_from_slice(b",\"payload\":");
                write(payload()?, preimage)?;
                preimage.extend_from_slice(b",\"prevHash\":");
                quoted_or_null(named, preimage);
                preimage.extend_from_slice(b",\"ts\":\"");
                preimage.extend_from_slice(&moment(row)?.to_ascii());
                preimage.extend_from_slice(b"\"}");
            }
            Self::Shared => {
                preimage.extend_from_slice(b"{\"actor_id\":");
                write(column_or_null(row, ACTOR), preimage)?;
                preimage.extend_from_slice(b",\"created_at\":\"");
                preimage.extend_from_slice(&moment(row)?.to_ascii());
                preimage.extend_from_slice(b"\",\"event_type\":");
                write(column_or_null(row, EVENT_TYPE), preimage)?;
                preimage.extend_from_slice(b",\"payload\":");
                write(payload()?, preimage)?;
                preimage.extend_from_slice(b",\"prev_hash\":");
                quoted_or_null(named, preimage);
                preimage.push(b'}');
            }
            Self::SafeAi => safe_ai(row, preimage, write)?,
        }
        Ok(Hash::of(&[preimage]))
    }
}

fn column_or_null<'v, 't>(row: &'v Value<'t>, names: &[&str]) -> &'v Value<'t> {
    column(row, names).unwrap_or(&Value::Null)
}

fn quoted_or_null(hash: Option<Hash>, out: &mut Vec<u8>) {
    match hash {
        None => out.extend_from_slice(b"null"),
        Some(hash) => {
            out.push(b'"');
            out.extend_from_slice(hash.to_hex().as_bytes());
            out.push(b'"');
        }
    }
}

/// A specification writes the first row's previous hash as zeros.
fn is_a_row(hash: &Hash) -> bool {
    hash.0 != [0; 32]
}

/// The record is hashed with an empty `merkle_root`, after the previous root's text; the first line is its own.
fn safe_ai(
    row: &Value<'_>,
    preimage: &mut Vec<u8>,
    write: impl Fn(&Value<'_>, &mut Vec<u8>) -> Result<(), RowError>,
) -> Result<(), RowError> {
    const GENESIS: &[u8] = b"SAFEAI_GENESIS_2025";
    let Value::Object(members) = row else { return Err(RowError("is no object".to_owned())) };
    if row.get("event").and_then(Value::as_str) == Some("genesis") {
        preimage.extend_from_slice(GENESIS);
        return Ok(());
    }
    let emptied = members.iter().map(|(name, value)| match &**name {
        b"merkle_root" => (name.clone(), Value::Text((&b""[..]).into())),
        _ => (name.clone(), value.clone()),
    });
    let before = row.get("prev_root").and_then(Value::as_str).unwrap_or_default();
    preimage.extend_from_slice(before.as_bytes());
    write(&Value::Object(emptied.collect()), preimage)
}

/// A column under any of its names. `null` counts as absent.
fn column<'v, 't>(row: &'v Value<'t>, names: &[&str]) -> Option<&'v Value<'t>> {
    names.iter().find_map(|name| row.get(name)).filter(|value| !matches!(value, Value::Null))
}

fn text<'v>(row: &'v Value<'_>, names: &[&str]) -> Option<&'v str> {
    column(row, names)?.as_str().filter(|text| !text.is_empty())
}

fn hash_in(row: &Value<'_>, names: &[&str]) -> Result<Option<Hash>, RowError> {
    let Some(text) = text(row, names) else { return Ok(None) };
    let parsed = Hash::from_hex(text).or_else(|_| {
        // Exports of bytea columns begin so.
        let hex = text.strip_prefix("\\x").unwrap_or(text);
        Hash::from_hex(&hex.to_ascii_lowercase())
    });
    parsed.map(Some).map_err(|_| RowError(format!("{} is no SHA-256 in hexadecimal", names.join(" or "))))
}

/// The hash of the row before, as this row names it.
pub fn previous(row: &Value<'_>) -> Result<Option<Hash>, RowError> {
    Ok(hash_in(row, PREVIOUS)?.filter(is_a_row))
}

/// The row's hash as stored.
pub fn stored(row: &Value<'_>) -> Result<Option<Hash>, RowError> {
    hash_in(row, STORED)
}

/// Base64, or hexadecimal where a development key made it.
pub fn signature<'v>(row: &'v Value<'_>) -> Option<&'v str> {
    text(row, &["signature"])
}

/// Whose signature it is said to be.
pub fn signer<'v>(row: &'v Value<'_>) -> Option<&'v str> {
    text(row, SIGNER)
}

/// In whose chain it stands, where actors have their own.
pub fn actor<'v>(row: &'v Value<'_>) -> &'v str {
    text(row, ACTOR).unwrap_or_default()
}

/// When the row says it was written, in milliseconds and UTC, as preimages have it.
pub fn moment(row: &Value<'_>) -> Result<Timestamp, RowError> {
    let text = text(row, MOMENT).ok_or_else(|| RowError("has no time".to_owned()))?;
    read_moment(text).ok_or_else(|| RowError(format!("{text:?} is no time")))
}

/// RFC 3339 as databases export it: a space for the T, any fraction, any offset, `+00` among them.
pub fn read_moment(text: &str) -> Option<Timestamp> {
    let (day, rest) = (text.get(..10)?, text.get(11..)?);
    if !matches!(text.as_bytes().get(10), Some(b'T' | b't' | b' ')) {
        return None;
    }
    let (clock, rest) = (rest.get(..8)?, rest.get(8..)?);
    let (fraction, zone) = match rest.strip_prefix('.') {
        None => ("", rest),
        Some(rest) => rest.split_at(rest.find(|letter: char| !letter.is_ascii_digit()).unwrap_or(rest.len())),
    };
    // Longer fractions are cut off, as JavaScript does.
    let mut full = *b"0000-00-00T00:00:00.000Z";
    for (place, part) in [(0, day), (11, clock), (20, fraction.get(..3).unwrap_or(fraction))] {
        full.get_mut(place..place + part.len())?.copy_from_slice(part.as_bytes());
    }
    let base: Timestamp = std::str::from_utf8(&full).ok()?.parse().ok()?;
    let minutes: i64 = match zone {
        "Z" | "z" | "" => 0,
        _ => {
            let (sign, rest) = zone.split_at_checked(1)?;
            let (hours, minutes) = match rest.split_once(':') {
                Some(both) => both,
                None => rest.split_at_checked(2)?,
            };
            let minutes = if minutes.is_empty() { 0 } else { minutes.parse().ok()? };
            let offset = hours.parse::<i64>().ok()? * 60 + minutes;
            match sign {
                "+" => offset,
                "-" => -offset,
                _ => return None,
            }
        }
    };
    Timestamp::from_unix_ms(base.unix_ms() - minutes * 60_000).ok()
}

impl fmt::Display for Dialect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// There is no such dialect. Whoever named it is at fault.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no dialect")]
pub struct UnknownDialect(String);

impl FromStr for Dialect {
    type Err = UnknownDialect;
    fn from_str(text: &str) -> Result<Self, UnknownDialect> {
        Self::ALL.into_iter().find(|it| it.as_str() == text).ok_or_else(|| UnknownDialect(text.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a failed unwrap is the test's failure")]
    use super::*;

    #[test]
    fn times_are_read_as_databases_write_them() {
        for text in [
            "2025-01-15T12:00:00.123Z",
            "2025-01-15 12:00:00.123+00",
            "2025-01-15T12:00:00.123456+00:00",
            "2025-01-15T13:30:00.123999999+01:30",
            "2025-01-15T07:00:00.123-0500",
        ] {
            assert_eq!(read_moment(text).unwrap().to_string(), "2025-01-15T12:00:00.123Z", "{text}");
        }
        assert_eq!(read_moment("2025-01-15T12:00:00").unwrap().to_string(), "2025-01-15T12:00:00.000Z");
        for text in
            ["", "2025-01-15", "2025-13-15T12:00:00Z", "2025-01-15T12:00:00+x", "2025-01-15x12:00:00Z"]
        {
            assert_eq!(read_moment(text), None, "{text}");
        }
    }

    /// Roots that SAFE-AI's own writer made.
    #[test]
    fn safe_ais_own_records_have_their_roots() {
        let record = |second: u8, before: &str| {
            format!(
                "{{\"ts\":\"2025-01-15T12:00:0{second}\",\"actor\":\"cli\",\"manifest_sha256\":\"hash{second}\",\
                 \"policy_verdict\":\"approved\",\"sandbox_result\":null,\"merkle_root\":\"x\",\"prev_root\":\"{before}\",\
                 \"version\":\"1.0.0\",\"applied\":true,\"error\":null}}"
            )
        };
        let genesis = "21d21549220ee92cf1ae03c28c348bdb60a19772c8b022b9ef1c952ecd0e8395";
        let first = Value::parse("{\"event\":\"genesis\"}").unwrap();
        assert_eq!(Dialect::SafeAi.hash(&first, Mode::PyDefault).unwrap().to_hex(), genesis);
        let mut before = genesis.to_owned();
        for (second, root) in [
            (0, "7a9b86dc3a805fcbe38b1930635ca1f6c4d293c940a1ca0d8acabd72d36dae9b"),
            (1, "cecde065d215778971e37e09e7f8f395c9dc2b2a0ceb65209b1a489cc610fa70"),
            (2, "6177bf422e2058019ebdee9f06807b8cab86bab102f94ee70875d0e8cc4d0ba1"),
        ] {
            let text = record(second, &before);
            let row = Value::parse(&text).unwrap();
            assert_eq!(Dialect::SafeAi.hash(&row, Mode::PyDefault).unwrap().to_hex(), root, "{second}");
            before = root.to_owned();
        }
    }
}
