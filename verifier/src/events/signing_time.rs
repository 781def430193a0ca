//! When the kernel signed a row: its signature covers a time that no column holds. A ledger of ours that made the
//! signature recorded it; otherwise it must be searched for.
//!
//! A recorded time is a hint, whoever gives it: the signature either is over it or is not.

use std::collections::HashMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use chancery_format::committed::IssuedPayload;
use chancery_format::entry::event_type;
use chancery_format::public_key::Ed25519Search;
use chancery_format::tile::decode_bundle;
use chancery_format::{AuditEvent, Hash, PublicKey, Timestamp};

use crate::evidence::{Evidence, EvidenceError, Listed};
use crate::ledger::BUNDLE_BYTES_MAX;

/// How long after the row's own time it may have been, in milliseconds, at most.
const SIGNED_WITHIN_MS: i64 = 5_000;
/// Keys whose multiples are kept at a time: a megabyte each.
const KEYS_MAX: usize = 8;

/// The times inside signatures, as a ledger's entries have them, by the SHA-256 of the signature.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RecordedTimes(HashMap<Hash, Timestamp>);

impl RecordedTimes {
    /// Out of a ledger's archive. It is not verified here, nor need it be: entries that cannot be read hint at nothing.
    pub fn read(archive: &dyn Evidence) -> Result<Self, EvidenceError> {
        let mut names = Vec::new();
        archive.list("tile/entries/", &mut |listed| {
            if let Listed::Object(name, _) = listed {
                names.push(name);
            }
        })?;
        let mut times = HashMap::new();
        for name in names {
            let bundle = archive.open(&name, BUNDLE_BYTES_MAX)?;
            times.extend(decode_bundle(&bundle).map_while(Result::ok).filter_map(recorded));
        }
        Ok(Self(times))
    }
}

#[derive(serde::Deserialize)]
struct Spoken {
    ts: Option<String>,
}

/// The signature that an entry holds, and the time inside it.
fn recorded(leaf: &[u8]) -> Option<(Hash, Timestamp)> {
    let event = AuditEvent::read(leaf).ok().filter(|event| event.event_type == event_type::ISSUED)?;
    let payload: IssuedPayload<'_> = serde_json::from_str(event.payload).ok()?;
    let spoken: Spoken = serde_json::from_str(payload.dialect?.get()).ok()?;
    let signature = STANDARD.decode(payload.signature).ok()?;
    Some((Hash::of(&[&signature]), spoken.ts?.parse().ok()?))
}

/// Finds the time of one row after the other.
#[derive(Debug)]
pub(super) struct SigningTimes<'a> {
    recorded: &'a RecordedTimes,
    message: Vec<u8>,
    /// Ed25519 keys by their bytes.
    searches: HashMap<[u8; 32], Ed25519Search>,
}

impl<'a> SigningTimes<'a> {
    pub(super) fn new(recorded: &'a RecordedTimes) -> Self {
        Self { recorded, message: Vec::new(), searches: HashMap::new() }
    }

    /// Whether the key signed the row of that hash at the time that was recorded of the signature.
    pub(super) fn is_recorded(&mut self, key: &PublicKey, hash: Hash, signature: &[u8]) -> bool {
        let Some(ts) = self.recorded.0.get(&Hash::of(&[signature])) else { return false };
        write_message(&mut self.message, hash, *ts);
        key.verify_message(&self.message, signature)
    }

    /// How many milliseconds after `written` the key signed the row of that hash; `None` if it did not.
    pub(super) fn search(
        &mut self,
        key: &PublicKey,
        hash: Hash,
        written: Timestamp,
        signature: &[u8],
    ) -> Option<i64> {
        let Some(raw) = key.ed25519_raw() else {
            return first(&mut self.message, hash, written, |message| key.verify_message(message, signature));
        };
        if !self.searches.contains_key(&raw) {
            if self.searches.len() >= KEYS_MAX {
                self.searches.clear();
            }
            self.searches.insert(raw, Ed25519Search::new(&raw)?);
        }
        let tried = self.searches.get(&raw)?.signature(signature)?;
        first(&mut self.message, hash, written, |message| tried.is_over(message))
    }
}

/// The first delay whose message `is_signed`.
fn first(
    message: &mut Vec<u8>,
    hash: Hash,
    written: Timestamp,
    mut is_signed: impl FnMut(&[u8]) -> bool,
) -> Option<i64> {
    (0..=SIGNED_WITHIN_MS).find(|later| {
        let Ok(ts) = Timestamp::from_unix_ms(written.unix_ms() + later) else { return false };
        write_message(message, hash, ts);
        is_signed(message)
    })
}

/// What the kernel's signer signs.
fn write_message(message: &mut Vec<u8>, hash: Hash, ts: Timestamp) {
    message.clear();
    message.extend_from_slice(b"{\"data\":\"");
    message.extend_from_slice(hash.to_hex().as_bytes());
    message.extend_from_slice(b"\",\"ts\":\"");
    message.extend_from_slice(&ts.to_ascii());
    message.extend_from_slice(b"\"}");
}
