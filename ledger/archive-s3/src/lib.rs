//! The archive in an S3 bucket with Object Lock: write-once objects that nobody can delete or shorten.
//!
//! Promises: [`S3Archive::put_new`] says done only when every version of the name holds exactly the given
//! bytes and the version it speaks of was read back, byte for byte, under a COMPLIANCE lock of the full
//! retention. Of two writers of different bytes at most one is told so. Reading returns the first version
//! ever written, whatever was laid on top of it. The one name that is replaced, and read by its newest version, is
//! that of the newest checkpoint of a static log (`latest.rs`).
//!
//! Refuses: buckets without versioning or Object Lock; multipart uploads, its own and others'; plain HTTP to
//! anything but this machine; names or objects beyond [`limits`].
//!
//! Relies on the server for nothing it can look up itself: it neither trusts `If-None-Match` (not enforced on
//! versioned buckets by every store) nor that checksums are verified; it sends both and reads back. What it
//! must trust: that listings are consistent after writes, and that the store keeps the lock it reports.
//!
//! Owner of this archive could do to us: withhold or lose objects, show extra versions and delete markers
//! (seen, [`Alarm`]); he cannot make other bytes pass for ours, because auditors check hashes and signatures.
//!
//! Sits after hop 10: the ledger's shipper calls it, off the path of any request.

mod alarm;
mod archive;
mod attempt;
mod bucket;
mod client;
mod error;
mod latest;
pub mod limits;
mod lock;
mod options;
mod read;
mod runtime;
mod versions;
mod write;

pub use alarm::{Alarm, AlarmKind};
pub use archive::S3Archive;
/// Where credentials come from when [`S3Options::credentials`] names a source of its own.
pub use aws_sdk_s3::config::SharedCredentialsProvider;
pub use bucket::BucketFault;
pub use error::{ErrorClass, LockState, Operation, S3Error};
pub use options::{OptionsFault, Patience, S3Options};
