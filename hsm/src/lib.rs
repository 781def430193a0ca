//! Keys, and the one place where they are used.
//!
//! The keyring turns a durable intent into an outcome: it asks the kill switch, hands the digest to the
//! backend that holds the key, verifies what comes back, and seals it into an outcome nobody can read
//! before the ledger has committed it. Backends for devices are crates of their own; a development
//! backend is here.
//!
//! | file | promises |
//! |---|---|
//! | `signer.rs` | `Backend`, `SignerHandle`, `SignerError`: what a backend owes and how it may fail |
//! | `birth.rs` | where a key comes from, as its device tells |
//! | `device_log.rs` | a device's own record of its operations |
//! | `keyring.rs` | `Keyring`: lookup, `seal`, checkpoints, verification |
//! | `builder.rs` | `KeyringBuilder`: every configuration mistake found at start, all at once |
//! | `kill_switch.rs` | no key use begins after a halt; a halt can wait for those under way |
//! | `lazy.rs` | a registered key is opened when it is first used |
//! | `workers.rs` | bounded threads per device; a passed deadline touches no key |
//! | `fair_queue.rs` | the bounded queue in front of them: callers take turns, so none can starve another |
//! | `health.rs` | an outage is known, refused at once, and ends by itself |
//! | `self_check.rs`, `self_check/together.rs` | every signature verified before it is believed; this process's own in groups |
//! | `software.rs` | development keys in this process, behind a token production cannot have |
//! | `key_files.rs` | their files: private, never replaced |
//! | `conformance.rs` | one suite every backend's tests run |
//! | `testing.rs` | devices that are slow or fail on command |
//!
//! It refuses to use a key without a durable intent, to release bytes that do not verify, to queue
//! without bound, and to run on a key other than the registered one. It knows nothing of HTTP, of who
//! may use which key, or of the ledger.

pub mod birth;
pub mod builder;
pub mod conformance;
pub mod device_log;
mod fair_queue;
pub mod health;
mod key_files;
pub mod keyring;
pub mod kill_switch;
mod lazy;
pub mod self_check;
mod shelf;
pub mod signer;
pub mod software;
mod switched;
pub mod testing;
mod workers;

pub use birth::{Birth, Origin};
pub use builder::{
    KeySpec, KeyringBuilder, KeyringError, KeyringErrors, OPENED_AT_START_MAX, QUEUE_MAX, Registered,
};
pub use device_log::{DeviceLog, DeviceOperation};
pub use health::{BackendHealth, BackendState};
pub use keyring::{KeyInfo, Keyring, MacMessage};
pub use kill_switch::{Armed, HaltReport, Halted, KillSwitch};
pub use signer::{Backend, Cost, KeyShape, RsaBits, SealInput, SignerError, SignerHandle};
pub use workers::SESSIONS_MAX;
