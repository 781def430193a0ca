//! Client of the Chancery service: ask for a signature, keep the proof, check it without trust.
//!
//! Promises: one TLS 1.3 connection with the caller's certificate, reused; a deadline on every call; a
//! lost connection is retried with the *same* `Idempotency-Key`, so a retry can never make a second
//! signature; a reply that cannot be read is an error, never a guess; a receipt is checked on the
//! caller's own machine with the code auditors use.
//!
//! Refuses: TLS below 1.3, a server its CA file does not vouch for, replies larger than
//! [`limits::REPLY_BYTES_MAX`], URLs that are not `https`.
//!
//! | file | promises |
//! |---|---|
//! | `options.rs` | where the service is and who we are; read once, all files checked |
//! | `limits.rs` | every bound, with its reason |
//! | `connection.rs` | dialling and reuse, HTTP/2 or HTTP/1.1 |
//! | `transport.rs` | one call: deadline, attempts, what a loss may have done |
//! | `api.rs` | the shapes of requests and replies |
//! | `client.rs` | [`Client`]: one method per route |
//! | `receipt.rs` | checks a receipt and that it belongs to the reply |
//! | `sidecar.rs`, `provenance.rs`, `checksums.rs` | signed artifacts: what is kept beside them, where they came from, lists of them |
//! | `replay.rs`, `replay/` | an outbox, each row appended once |
//! | `completeness.rs` | all entries of a stream or a key, and the proof that there are no others |
//! | `mirror.rs`, `mirror/` | a verified copy of a transparency log, ours or others', and the copy served again |
//! | `evidence.rs`, `evidence/` | `.evidence` bundles, made of a receipt and renewed from a log or a mirror |
//! | `ops.rs` | asks the ops listener whether the service is ready |
//! | `problem.rs`, `error.rs` | what can go wrong, whose fault it is, whether to retry |
//! | `login.rs`, `login/` | logs a person in, keeps the token, gives it to whoever calls the service |
//! | `people.rs`, `people/` | [`people::People`]: acts of people, with the token of their login; approvals that are checked and signed here |
//! | `agent.rs`, `agent/` | [`agent::Agent`]: a door on this machine for programs without a certificate |
//! | `entropy.rs` | idempotency keys, secrets of logins, jitter |
//!
//! ```no_run
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! use chancery_client::{Client, Options, SignRequest, random_idempotency_key};
//! use chancery_format::Digest;
//!
//! let options = Options::new("https://127.0.0.1:8443", "ca.crt").identity("client.crt", "client.key");
//! let client = Client::connect(options).await?;
//! let request = SignRequest::new("orders".parse()?, &Digest::Sha256([7; 32]));
//! let reply = client.sign(&request, &random_idempotency_key()?).await?;
//! println!("{}", reply.value.signature);
//! # Ok(())
//! # }
//! ```

pub mod agent;
mod api;
pub mod checksums;
mod client;
pub mod completeness;
mod connection;
mod entropy;
mod error;
pub mod evidence;
pub mod limits;
pub mod login;
pub mod mirror;
mod ops;
mod options;
pub mod people;
mod problem;
pub mod provenance;
mod receipt;
pub mod reconcile;
pub mod replay;
pub mod sidecar;
mod transport;

pub use api::{
    Answer, BatchItem, BatchReply, EventReply, KeyInfo, KeyList, NewEvent, ReceiptPointer, RowsPage,
    SignReply, SignRequest, VerifyReply,
};
pub use client::{Client, ConnectError};
pub use entropy::{EntropyError, random_idempotency_key, random_token};
pub use error::ClientError;
pub use ops::{Readiness, readiness};
pub use options::{HttpVersion, Options, OptionsError};
pub use problem::Problem;
pub use receipt::{CheckedReceipt, CoseMismatch, ReceiptMismatch, check_cose, check_issued, check_receipt};
