//! When the kernel signed a row: its signature covers a time that is stored nowhere and must be searched for.

use chancery_format::{Hash, PublicKey, Timestamp};

/// How long after the row's own time it may have been, in milliseconds, at most.
const SIGNED_WITHIN_MS: i64 = 5_000;

/// Searches one row after the other.
#[derive(Debug, Default)]
pub(super) struct SigningTimes {
    message: Vec<u8>,
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
        let before = format!("{{\"data\":\"{hash}\",\"ts\":\"");
        (0..=SIGNED_WITHIN_MS).find(|later| {
            let Ok(ts) = Timestamp::from_unix_ms(written.unix_ms() + later) else { return false };
            self.message.clear();
            self.message.extend_from_slice(before.as_bytes());
            self.message.extend_from_slice(&ts.to_ascii());
            self.message.extend_from_slice(b"\"}");
            key.verify_message(&self.message, signature)
        })
    }
}
