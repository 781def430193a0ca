//! When the kernel signed a row: its signature covers a time that is stored nowhere and must be searched for.

use std::collections::HashMap;

use chancery_format::public_key::Ed25519Search;
use chancery_format::{Hash, PublicKey, Timestamp};

/// How long after the row's own time it may have been, in milliseconds, at most.
const SIGNED_WITHIN_MS: i64 = 5_000;
/// Keys whose multiples are kept at a time: a megabyte each.
const KEYS_MAX: usize = 8;

/// Searches one row after the other.
#[derive(Debug, Default)]
pub(super) struct SigningTimes {
    message: Vec<u8>,
    /// Ed25519 keys by their bytes.
    searches: HashMap<[u8; 32], Ed25519Search>,
}

impl SigningTimes {
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
    let before = format!("{{\"data\":\"{hash}\",\"ts\":\"");
    (0..=SIGNED_WITHIN_MS).find(|later| {
        let Ok(ts) = Timestamp::from_unix_ms(written.unix_ms() + later) else { return false };
        message.clear();
        message.extend_from_slice(before.as_bytes());
        message.extend_from_slice(&ts.to_ascii());
        message.extend_from_slice(b"\"}");
        is_signed(message)
    })
}
