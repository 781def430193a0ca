//! How long an object must be locked, and whether it is.

use chancery_format::Timestamp;
use chancery_ledger::Protection;

use crate::archive::Store;
use crate::attempt::{call, unavailable, with_retries};
use crate::error::{LockState, Operation, S3Error};
use crate::limits::CLOCK_SLACK;
use crate::versions::Version;

const SECONDS_PER_DAY: i64 = 86_400;

/// Codes with which stores say that a version has no retention.
const NO_RETENTION_CODES: [&str; 2] =
    ["NoSuchObjectLockConfiguration", "ObjectLockConfigurationNotFoundError"];

/// The whole second until which an object written at `now` must be locked.
pub(crate) fn retain_until(now: Timestamp, retention_days: u32) -> i64 {
    now.unix_ms().div_euclid(1000) + 1 + i64::from(retention_days) * SECONDS_PER_DAY
}

/// The second a lock must reach at least, by the server's own time of writing. Finds locks made under a clock
/// that was slow, and objects that someone else locked for a shorter time.
pub(crate) fn least_until(version: &Version, retention_days: u32) -> i64 {
    let slack = i64::try_from(CLOCK_SLACK.as_secs()).unwrap_or(i64::MAX);
    version.written_at + i64::from(retention_days) * SECONDS_PER_DAY - slack
}

impl LockState {
    /// Whether nobody can delete or shorten before `wanted_until`.
    fn holds(&self, wanted_until: i64) -> bool {
        matches!(self, Self::Retained { mode, until: Some(until) } if mode == "COMPLIANCE" && *until >= wanted_until)
    }

    /// The typed alarm if it does not hold.
    pub(crate) fn require(&self, name: &str, version_id: &str, wanted_until: i64) -> Result<(), S3Error> {
        if self.holds(wanted_until) {
            return Ok(());
        }
        Err(S3Error::WrongLock {
            name: name.to_owned(),
            version: version_id.to_owned(),
            found: self.clone(),
            wanted_until,
        })
    }
}

impl Store {
    /// The lock of the original, by the rule that a put is held to, and what lies over it.
    pub(crate) async fn protection(&self, name: &str, bytes: &[u8]) -> Result<Protection, S3Error> {
        with_retries(&self.patience, || self.protection_once(name, bytes)).await
    }

    async fn protection_once(&self, name: &str, bytes: &[u8]) -> Result<Protection, S3Error> {
        let (found, deleted) = self.versions_and_marker_of(name).await?;
        let Some(original) = found.original() else {
            return Err(unavailable(Operation::ListObjectVersions, name, "it exists, but is not listed"));
        };
        let lock = self.lock_of(name, &original.id).await?;
        match lock.require(name, &original.id, least_until(original, self.retention_days)) {
            Err(error @ S3Error::WrongLock { .. }) => return Ok(Protection::Unlocked(error.to_string())),
            other => other?,
        }
        if deleted {
            return Ok(Protection::Overlaid("a delete marker hides it from plain readers".to_owned()));
        }
        match self.require_same(name, bytes, &found).await {
            Ok(()) => Ok(Protection::Kept),
            Err(error @ (S3Error::Conflict { .. } | S3Error::TooManyVersions { .. })) => {
                Ok(Protection::Overlaid(error.to_string()))
            }
            Err(error) => Err(error),
        }
    }

    /// The lock the server reports for a version.
    pub(crate) async fn lock_of(&self, name: &str, version_id: &str) -> Result<LockState, S3Error> {
        let key = self.key(name)?;
        let request =
            self.client.get_object_retention().bucket(&self.bucket).key(key).version_id(version_id).send();
        match call(Operation::GetObjectRetention, name, &self.patience, request).await {
            Ok(reply) => {
                Ok(match reply.retention().and_then(|retention| Some((retention, retention.mode()?))) {
                    None => LockState::None,
                    Some((retention, mode)) => LockState::Retained {
                        mode: mode.as_str().to_owned(),
                        until: retention.retain_until_date().map(|date| date.secs()),
                    },
                })
            }
            Err(S3Error::Refused { code, .. }) if NO_RETENTION_CODES.contains(&code.as_str()) => {
                Ok(LockState::None)
            }
            Err(error) => Err(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_compliance_of_full_length_holds() {
        let retained = |mode: &str, until| LockState::Retained { mode: mode.to_owned(), until };
        assert!(retained("COMPLIANCE", Some(100)).holds(100));
        for wrong in [
            retained("COMPLIANCE", Some(99)),
            retained("COMPLIANCE", None),
            retained("GOVERNANCE", Some(100)),
            LockState::None,
        ] {
            assert!(!wrong.holds(100), "{wrong:?}");
            assert!(
                matches!(wrong.require("a", "1", 100), Err(S3Error::WrongLock { found, .. }) if found == wrong)
            );
        }
    }

    #[test]
    fn the_date_is_whole_seconds_and_never_short() {
        assert_eq!(Timestamp::from_unix_ms(1_500).map(|now| retain_until(now, 1)), Ok(86_402));
        let version =
            Version { id: "1".into(), tag: String::new(), size: 0, written_at: 10_000, multipart: false };
        assert_eq!(least_until(&version, 2), 10_000 + 172_800 - 3_600);
    }
}
