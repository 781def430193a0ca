//! A device's own record of what it did, to be held against the ledger's.
//!
//! Whoever can reach a device without us can use its keys without a ledger entry. Devices that keep a log
//! give that away: each of their operations must have exactly one entry here, and one too many is an
//! alarm.

use std::time::Instant;

use crate::signer::SignerError;

/// One operation, as the device recorded it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeviceOperation {
    /// The device's own number of the entry, unwrapped to 64 bits: strictly increasing for one device.
    pub number: u64,
    /// What the device calls it: `sign-eddsa`, `Sign`, `GenerateMac`.
    pub command: String,
    /// The label of the key it was done with, as configured; `None` for an operation without a key or with
    /// one that is not ours.
    pub label: Option<String>,
    /// Whether it used a private or secret key to produce something.
    pub uses_key: bool,
    /// Whether the device reports success.
    pub succeeded: bool,
    /// The entry in the device's own encoding, hex or JSON, for auditors.
    pub evidence: String,
}

/// Reads a device's log.
///
/// *When `read` returns `Ok`*, the entries are complete and in order from the last consumed one on: an
/// entry that is missing, altered or out of order in a device that chains its log is an error, never a
/// shorter list. *`consume`* tells the device, if it has to be told, that everything up to `number` is
/// safely recorded and may be overwritten; a crash before it makes the same entries come again.
pub trait DeviceLog: Send + Sync {
    /// The device, as [`crate::birth::Birth::serial`] names it.
    fn serial(&self) -> String;

    /// Operations after the last consumed one, oldest first, at most `max`.
    fn read(&self, max: usize, deadline: Instant) -> Result<Vec<DeviceOperation>, SignerError>;

    /// Everything up to and including `number` is on the ledger.
    fn consume(&self, number: u64, deadline: Instant) -> Result<(), SignerError>;
}
