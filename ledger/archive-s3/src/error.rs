//! What can go wrong between the shipper and the bucket, and what to do about each.

use std::fmt;

use chancery_ledger::ArchiveError;

use crate::bucket::BucketFault;
use crate::options::OptionsFault;

/// What the shipper should do about an [`S3Error`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ErrorClass {
    /// Try again later: an outage, a throttle, a lost connection. The object may or may not be there; the
    /// next attempt finds out.
    Transient,
    /// Trying again changes nothing until a person acts.
    Permanent,
    /// Someone wrote other bytes under the name: a fork, a restored disk or an attack. Stop.
    Conflict,
}

/// The S3 call an error came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names are S3's")]
pub enum Operation {
    GetBucketVersioning,
    GetObjectLockConfiguration,
    ListObjectVersions,
    PutObject,
    GetObject,
    GetObjectRetention,
}

impl fmt::Display for Operation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

/// The lock found on a version.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LockState {
    /// No retention at all: the version can be deleted.
    None,
    /// A retention, right or wrong.
    Retained {
        /// `COMPLIANCE`, `GOVERNANCE`, or whatever the server said.
        mode: String,
        /// Unix seconds; `None` if the server gave no date.
        until: Option<i64>,
    },
}

/// Why an archive call did not succeed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum S3Error {
    /// The configuration is wrong. The operator's fault; nothing was sent.
    #[error("S3 archive configuration: {0}")]
    Options(OptionsFault),
    /// The bucket is not fit to be an archive, for each of these reasons. The operator's fault; nothing was
    /// written.
    #[error("bucket {bucket} cannot be the archive: {}", list(.faults))]
    Bucket {
        /// The bucket looked at.
        bucket: String,
        /// Everything found, in the order of the checks.
        faults: Vec<BucketFault>,
    },
    /// The call did not get through, or the server said to come back: network, time-out, 5xx, throttling,
    /// expired credentials. Nobody's fault; retry. A put may have been carried out.
    #[error("{operation} of {name}: {reason}")]
    Unavailable {
        /// The call.
        operation: Operation,
        /// Object name, or bucket.
        name: String,
        /// Cause, for the log.
        reason: String,
    },
    /// The server understood and refused: permissions, missing bucket, wrong region. The operator's fault;
    /// a retry gives the same. A put was not carried out.
    #[error("{operation} of {name} refused: {code}: {reason}")]
    Refused {
        /// The call.
        operation: Operation,
        /// Object name, or bucket.
        name: String,
        /// S3's error code.
        code: String,
        /// S3's message, for the log.
        reason: String,
    },
    /// A version of this name holds other bytes, or was made by a multipart upload. Never retried: two
    /// writers hold different ledgers, or someone wrote into the archive. Bytes of ours may be there too.
    #[error("{name} is already archived with other bytes, version {version}")]
    Conflict {
        /// Object name.
        name: String,
        /// The version that differs.
        version: String,
    },
    /// The object is there, but not locked as asked. An alarm: the store, a proxy or the clock is wrong. A
    /// retry finds the same version and fails again until a person locks it.
    #[error(
        "{name} version {version} is not locked as asked: found {found:?}, wanted COMPLIANCE until {wanted_until}"
    )]
    WrongLock {
        /// Object name.
        name: String,
        /// The version looked at.
        version: String,
        /// What the server reports.
        found: LockState,
        /// Unix seconds the lock must reach.
        wanted_until: i64,
    },
    /// What was read back is not what was sent. An alarm: the store damaged it. It is locked and stays.
    #[error("{name} version {version} reads back differently from what was sent")]
    Damaged {
        /// Object name.
        name: String,
        /// The version read.
        version: String,
    },
    /// The server took the object without giving it a version. An alarm: versioning is off.
    #[error("{name} was stored without a version: the bucket's versioning is off")]
    Unversioned {
        /// Object name.
        name: String,
    },
    /// More versions of one name than anyone honest writes. A person must look.
    #[error("{name} has more versions than can be read")]
    TooManyVersions {
        /// Object name, or the prefix listed.
        name: String,
    },
    /// The object or its name exceeds [`crate::limits`]. The caller's fault on a put; on a get, someone put
    /// a large object there.
    #[error("{name} exceeds the limits of an archived object")]
    TooLarge {
        /// Object name.
        name: String,
    },
}

impl S3Error {
    /// What to do about it.
    pub const fn class(&self) -> ErrorClass {
        match self {
            Self::Unavailable { .. } => ErrorClass::Transient,
            Self::Conflict { .. } => ErrorClass::Conflict,
            _ => ErrorClass::Permanent,
        }
    }
}

impl From<S3Error> for ArchiveError {
    fn from(error: S3Error) -> Self {
        match error {
            S3Error::Conflict { name, .. } => Self::Conflict(name),
            other => match other.class() {
                ErrorClass::Transient => Self::Unavailable(other.to_string()),
                ErrorClass::Permanent | ErrorClass::Conflict => Self::Refused(other.to_string()),
            },
        }
    }
}

fn list(faults: &[BucketFault]) -> String {
    faults.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
}
