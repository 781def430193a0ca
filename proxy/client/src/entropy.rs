//! Randomness, in one place: idempotency keys, secrets of logins, and the jitter of retries.

use chancery_format::names::IdempotencyKey;

/// The operating system gave no random bytes. Nothing was sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the system has no random bytes to give")]
pub struct EntropyError;

pub(crate) fn random_bytes<const N: usize>() -> Result<[u8; N], EntropyError> {
    let mut bytes = [0u8; N];
    let random = rustls::crypto::aws_lc_rs::default_provider().secure_random;
    random.fill(&mut bytes).map_err(|_| EntropyError)?;
    Ok(bytes)
}

/// A fresh `Idempotency-Key` of 128 random bits, for one request and all its retries.
///
/// ```
/// let key = chancery_client::random_idempotency_key()?;
/// assert_eq!(key.as_str().len(), 36);
/// assert_ne!(key, chancery_client::random_idempotency_key()?);
/// # Ok::<(), chancery_client::EntropyError>(())
/// ```
pub fn random_idempotency_key() -> Result<IdempotencyKey, EntropyError> {
    let bits = u128::from_be_bytes(random_bytes::<16>()?);
    format!("key-{bits:032x}").parse().map_err(|_| EntropyError)
}

/// A bearer token of 256 random bits, as `chancery_` and 64 hexadecimal digits.
pub fn random_token() -> Result<String, EntropyError> {
    let digits: String = random_bytes::<32>()?.iter().map(|byte| format!("{byte:02x}")).collect();
    Ok(format!("chancery_{digits}"))
}

/// A share of `whole` between a half and all of it. Without randomness: all of it.
pub(crate) fn jittered(whole: std::time::Duration) -> std::time::Duration {
    let share = random_bytes::<1>().map_or(255, |[byte]| byte);
    whole / 2 + (whole / 2) * u32::from(share) / 255
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::jittered;

    #[test]
    fn jitter_stays_between_half_and_whole() {
        let whole = Duration::from_millis(100);
        let drawn: Vec<_> = (0..64).map(|_| jittered(whole)).collect();
        assert!(drawn.iter().all(|pause| (whole / 2..=whole).contains(pause)), "{drawn:?}");
        assert!(drawn.iter().any(|pause| Some(pause) != drawn.first()), "64 equal draws");
    }
}
