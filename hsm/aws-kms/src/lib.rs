//! Keys in AWS KMS.
//!
//! [`KmsBackend`] signs with keys that never leave the service. A key's label is anything KMS takes as a
//! key id: the id, its ARN, `alias/…` or an alias ARN; it is resolved once, when the key is opened, so an
//! alias that is moved later does not change the key. Each request gets as many attempts as fit before its
//! deadline, with a random pause between them, and the error of the last one says whether KMS may have
//! signed.
//!
//! | file | promises |
//! |---|---|
//! | `limits.rs` | every bound, with its unit and reason |
//! | `config.rs` | [`KmsConfig`]: which region or endpoint, how many calls at once, how long each may take |
//! | `client.rs` | the SDK's client; its retries are off, since each attempt is ours to count |
//! | `runtime.rs` | a thread for the SDK, so that callers need no runtime |
//! | `failure.rs` | what each error of KMS means: missing, disabled, refused, away; and whether the key was used |
//! | `attempt.rs` | one call: a seat, attempts within the deadline, pauses |
//! | `names.rs` | our algorithms in KMS's words |
//! | `backend.rs` | [`KmsBackend`]: opening keys, the probe, a key's birth |
//! | `key.rs` | one key: signs and computes MACs |
//!
//! It refuses: keys of another kind than configured, MAC messages KMS would not take, answers made with
//! another key than the one opened, plain HTTP to anything but this machine. It uses no key to find out
//! whether the service is there.
//!
//! The least a role needs is `kms:Sign` and `kms:GetPublicKey` on its signing keys and `kms:GenerateMac` on
//! its MAC keys. With `kms:DescribeKey` a MAC key's kind is checked before its first use and the birth of
//! every key is known; without, a MAC key of another kind fails at its first use.
//!
//! Owner of the account could do to us: sign anything, with or without us (CloudTrail shows it, and `chancery reconcile` holds that against the ledger), and refuse
//! to sign. He cannot make us release a signature that does not verify.

mod attempt;
mod backend;
mod client;
mod config;
mod failure;
mod key;
pub mod limits;
mod names;
mod runtime;

/// Where credentials come from when [`KmsConfig::credentials`] names a source of its own.
pub use aws_sdk_kms::config::{Credentials, SharedCredentialsProvider};
pub use backend::{ALGORITHMS, KmsBackend};
pub use config::{KmsConfig, KmsFault};
