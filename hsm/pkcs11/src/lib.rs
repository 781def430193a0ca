//! Keys in a PKCS#11 token: a hardware security module, a smart card, SoftHSM2.
//!
//! [`Pkcs11Backend`] opens a token by its label, logs in with a PIN read from a file, and signs with one
//! session per operation under way. It recovers by itself: handles that went stale are looked up again,
//! sessions that died are opened again, a module that lost its device is initialised again; what cannot
//! be recovered within a request is reported as unavailable and tried anew by the next.
//!
//! | file | promises |
//! |---|---|
//! | `module.rs` | one C_Initialize per module and process, and its repetition when nothing else helps |
//! | `pin.rs` | the PIN: from a private file, wiped, never tried twice once refused |
//! | `failure.rs` | what each return code means: refuse, look up again, open again, initialise again |
//! | `session.rs` | the pool of sessions; one operation in each |
//! | `backend.rs` | [`Pkcs11Backend`]: the recovery ladder, opening keys, the probe |
//! | `key.rs` | one key: mechanisms and encodings per algorithm |
//! | `public_key.rs` | reading a public key from the token in whatever wrapping it has |
//! | `der.rs` | the little DER this needs |
//! | `provision.rs` | initialising a token and generating keys that cannot leave it |
//!
//! It refuses: PIN files the world can read, labels that name two keys, keys that may not sign, digests
//! in place of messages and the reverse. It never prints a PIN. Tokens silently pad or cut digests of the
//! wrong length; here a digest's length is right by its type.
//!
//! A driver runs inside our process: whoever can replace the module file owns the process.

mod backend;
mod der;
mod failure;
mod key;
mod module;
mod pin;
mod provision;
mod public_key;
mod session;

pub use backend::{Pkcs11Backend, Pkcs11Config, Pkcs11Error};
pub use provision::{ProvisionError, init_token};
