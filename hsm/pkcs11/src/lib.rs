//! Keys in a PKCS#11 token: a hardware security module, a smart card, SoftHSM2.
//!
//! [`Pkcs11Backend`] never loads a vendor's module: a worker process does, fenced in, and the two talk
//! over a socket. The worker finds the token, logs in with a PIN it reads from a file, and signs with one
//! session per operation under way. It recovers by itself: handles that went stale are looked up again,
//! sessions that died are opened again, a module that lost its device is initialised again. A worker that
//! crashes or hangs is replaced; what it had begun is reported as unavailable with the key use unknown,
//! what it had not is handed to its successor.
//!
//! | file | promises |
//! |---|---|
//! | `backend.rs` | [`Pkcs11Backend`], the daemon's half: opening keys, signing, the probe |
//! | `config.rs`, `selector.rs`, `uri.rs` | what an operator configures: [`Pkcs11Config`], [`Launch`], PKCS#11 URIs |
//! | `limits.rs` | every bound |
//! | `wire.rs`, `message.rs`, `message_error.rs` | what the two halves say to each other |
//! | `provision.rs` | initialising a token and generating keys that cannot leave it |
//! | `quirks.rs` | where modules differ, in one table |
//! | `parent/link.rs` | a request gets an answer, or a typed failure, from whatever worker there is |
//! | `parent/supervisor.rs`, `parent/child.rs` | workers started, watched, killed when stuck, replaced |
//! | `parent/counters.rs`, `parent/log.rs` | key uses counted; a worker's lines in our log |
//! | `worker.rs` | the worker's half: one thread per session |
//! | `worker/sandbox.rs`, `sandbox_report.rs` | no network, no writing, no debugging: what keeps the worker in |
//! | `worker/module.rs` | one C_Initialize per module and worker, and its repetition when nothing else helps |
//! | `worker/pin.rs` | the PIN: from a private file, locked, wiped, never tried twice once refused |
//! | `worker/failure.rs` | what each return code means: refuse, look up again, open again, initialise again |
//! | `worker/session.rs`, `worker/token.rs` | the pool of sessions; the recovery ladder |
//! | `worker/key.rs`, `worker/public_key.rs`, `worker/der.rs` | mechanisms and encodings per algorithm |
//! | `worker/provision.rs` | what `provision.rs` asks for |
//!
//! It refuses: PIN files the world can read, labels that name two keys, keys that may not sign, digests
//! in place of messages and the reverse. It never prints a PIN. Tokens silently pad or cut digests of the
//! wrong length; here a digest's length is right by its type.
//!
//! Whoever can replace the module file owns the worker: the PIN and the sessions. Not the daemon: it
//! believes the worker nothing but bytes that verify.

mod backend;
mod config;
mod limits;
mod message;
mod message_error;
mod parent;
mod provision;
pub mod quirks;
mod sandbox_report;
mod selector;
pub mod uri;
mod wire;
pub mod worker;

pub use backend::{ALGORITHMS, Pkcs11Backend};
pub use config::{ENVIRONMENT_PASSED, Launch, Pkcs11Config, Pkcs11Error};
pub use parent::counters::Operations;
pub use provision::{ProvisionError, init_token};
pub use sandbox_report::{SandboxReport, Wall};
pub use selector::TokenSelector;
