//! Keys in a YubiHSM 2, reached through the vendor's connector or USB.
//!
//! [`YubiHsmBackend`] logs in with a password read from a file and signs with one encrypted session per
//! operation under way. It recovers by itself: a session that died is opened again, a device or connector
//! that went away is tried anew by the next request. It reads the device's own log so that every key use,
//! also one past us, is seen.
//!
//! | file | promises |
//! |---|---|
//! | `config.rs` | every setting, its unit and its limits |
//! | `wire.rs` | the vendor's numbers and message fields |
//! | `scp03.rs` | the encrypted session |
//! | `transport.rs`, `transport/` | one message there, one answer back: by HTTP or USB |
//! | `password.rs` | the password: from a private file, wiped, never tried twice once refused |
//! | `failure.rs` | what each error means: refuse, retry, key used or not |
//! | `session.rs` | one session, and the pool of them |
//! | `device.rs` | sessions on demand; a command is repeated only if it certainly was not executed |
//! | `backend.rs` | [`YubiHsmBackend`]: opening the device and its keys, the probe |
//! | `objects.rs` | objects by label or id, and their public keys |
//! | `key.rs` | one key: commands and encodings per algorithm |
//! | `audit.rs` | whether the device logs all that matters, and stops when it cannot |
//! | `device_log.rs`, `log_position.rs` | the device's log, complete and unaltered, also across restarts |
//! | `attestation.rs` | the device's statement about a key's birth, checked up to the configured roots |
//! | `provision.rs` | generating keys that cannot leave |
//! | `testing.rs`, `testing/` | a device double behind the connector's protocol |
//!
//! It refuses: password files the world can read, labels that name two keys, keys that may not sign, digests
//! in place of messages and the reverse, devices whose log leaves key uses out (if asked to). It never prints
//! a password.
//!
//! The host's side of the protocol is written here, and not taken from the `yubihsm` crate, because that
//! crate's client (0.42) hashes for RSA itself, fails on logs and options that name commands of newer
//! firmware, has a fixed timeout, and takes an answer apart wrongly that arrives in two pieces. The crate
//! serves the USB connector, and the tests as an independent client and mock device.

mod attestation;
mod audit;
mod backend;
mod config;
mod device;
mod device_log;
mod failure;
mod key;
mod log_position;
mod objects;
mod password;
mod provision;
mod scp03;
mod session;
pub mod testing;
mod transport;
mod wire;

pub use backend::YubiHsmBackend;
pub use config::{
    Connector, ForceAudit, SESSION_IDLE, SESSIONS_MAX, UnknownConnector, UnknownForceAudit, YubiHsmConfig,
    YubiHsmError,
};
pub use key::ALGORITHMS;
pub use log_position::LogPosition;
pub use provision::ProvisionError;
