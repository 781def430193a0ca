//! Every bound of this crate, with unit and reason.

use std::time::Duration;

/// Largest token, in bytes: HTTP servers take headers of 8 KiB, so providers stay below.
pub const TOKEN_BYTES_MAX: usize = 8 * 1024;

/// Longest subject, in bytes (OpenID Connect Core 1.0, section 2).
pub const SUBJECT_BYTES_MAX: usize = 255;

/// Longest issuer, in characters: with a subject it still fits a principal's name.
pub const ISSUER_CHARS_MAX: usize = 170;

/// Longest display name kept, in characters.
pub const DISPLAY_CHARS_MAX: usize = 128;

/// Default difference allowed between the provider's clock and ours.
pub const CLOCK_SKEW: Duration = Duration::from_secs(60);
/// Largest difference that can be configured.
pub const CLOCK_SKEW_MAX: Duration = Duration::from_secs(300);

/// Default longest life of a token, from its issue to its end: a working day.
pub const TOKEN_LIFE_MAX: Duration = Duration::from_secs(12 * 3600);

/// Default age at which the provider's keys are fetched again.
pub const KEYS_TTL: Duration = Duration::from_secs(300);
/// Default shortest time between two fetches, whatever callers send.
pub const KEYS_REFRESH_MIN: Duration = Duration::from_secs(10);
/// Default time beyond their age for which keys serve while the provider cannot be reached.
pub const KEYS_STALE_MAX: Duration = Duration::from_secs(3600);

/// Most keys of one provider: some publish a key per tenant, none hundreds.
pub const KEYS_MAX: usize = 64;

/// Smallest RSA modulus, in bytes (2048 bits, RFC 7518 section 3.3), and largest that is verified.
pub const RSA_MODULUS_BYTES: std::ops::RangeInclusive<usize> = 256..=1024;

/// Time for a whole call to the provider: it is on the path of a request when keys are old.
pub const PROVIDER_TIMEOUT: Duration = Duration::from_secs(5);

/// Time for TCP and TLS of a call out.
pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);

/// Largest reply read from anyone, in bytes.
pub const REPLY_BYTES_MAX: usize = 1024 * 1024;

/// Largest head of a reply, in bytes.
pub const REPLY_HEAD_BYTES_MAX: usize = 64 * 1024;

/// Longest URL called, in bytes.
pub const URL_BYTES_MAX: usize = 2048;

/// Connections kept open while idle, per client.
pub const IDLE_CONNECTIONS_MAX: usize = 16;

/// How long a connection is kept idle. Shorter than the five seconds after which common servers close it.
pub const IDLE_MAX: Duration = Duration::from_secs(4);

/// Largest file accepted as a bundle of authorities, in bytes.
pub const CA_BYTES_MAX: u64 = 1024 * 1024;

/// Default time for a policy service's answer: it is on the path of a signature.
pub const HOOK_TIMEOUT: Duration = Duration::from_millis(250);
/// Longest time that can be configured.
pub const HOOK_TIMEOUT_MAX: Duration = Duration::from_secs(2);

/// Default questions under way at once; the next one is refused, not queued.
pub const HOOK_IN_FLIGHT: usize = 64;
/// Most that can be configured.
pub const HOOK_IN_FLIGHT_MAX: usize = 4096;

/// Longest rationale kept of a policy's answer, in characters.
pub const RATIONALE_CHARS_MAX: usize = 512;
/// Longest name of a policy, version or rule kept, in characters.
pub const POLICY_NAME_CHARS_MAX: usize = 128;
