//! Every bound of this crate, with its unit and reason.

use std::time::Duration;

/// Bytes of a message that KMS signs or authenticates itself; its own limit for `RAW` and for MACs.
pub const MESSAGE_BYTES_MAX: usize = 4096;
/// Bytes of a key's label: KMS's own limit for a key id.
pub const LABEL_BYTES_MAX: usize = 2048;
/// Attempts of one call. With half of all attempts throttled, one call in 65,000 fails.
pub const ATTEMPTS_MAX: u32 = 16;
/// Longest pause after the first attempt; the pause taken is random below it and the bound doubles. About
/// one signature's time, so that a single refusal costs little.
pub const BACKOFF: Duration = Duration::from_millis(25);
/// Bound of the longest pause. All pauses together stay near 2.5 s on average, within a usual deadline.
pub const BACKOFF_MAX: Duration = Duration::from_millis(400);
/// Longest time one attempt may be configured to take; beyond it a hanging service eats every deadline.
pub const ATTEMPT_TIMEOUT_MAX: Duration = Duration::from_secs(60);
/// Time that opening a key may take, all attempts together.
pub const OPEN_TIME: Duration = Duration::from_secs(30);
/// Bytes of a cause kept for the log.
pub const CAUSE_BYTES_MAX: usize = 400;
