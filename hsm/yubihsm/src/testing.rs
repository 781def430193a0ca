//! A YubiHSM 2 for tests: a double in software behind the vendor's connector protocol.
//!
//! [`YubiHsmDouble`] listens on a free loopback port and answers `GET /connector/status` and
//! `POST /connector/api` as the vendor's connector with one device does: encrypted sessions (sixteen, which
//! end when idle), objects with capabilities and domains, signing, the 62-entry log with its chain, command
//! and forced auditing, attestation. Any client works with it; the `yubihsm` crate's does, in the tests.
//!
//! *Written from the vendor's documentation and never compared with hardware*: everything. What the
//! documentation leaves open, and how it is done here:
//!
//! - the result byte of a failed command in the log is the error's number;
//! - one unlogged authentication is counted per session opened while the log is full and forced, and the
//!   counters go back to zero with SET LOG INDEX;
//! - the second key of an attestation's log entry is the attesting key;
//! - the commands logged as delivered are those the vendor's examples show.
//!
//! Keys are made when they are asked for, by aws-lc-rs, and live in memory. Nothing here protects them.
//!
//! | file | is |
//! |---|---|
//! | `testing/server.rs` | the connector: HTTP on a port that can be taken away and given back |
//! | `testing/device.rs` | sessions and the order of checks: permission, room in the log, the command |
//! | `testing/commands.rs` | the commands |
//! | `testing/keys.rs` | key material and signing |
//! | `testing/log.rs` | the log and its options |
//! | `testing/certificates.rs` | the attestation certificates, in DER by hand |

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use chancery_hsm::KeyShape;
use chancery_hsm::conformance::{OffSwitch, Outage};

pub(crate) mod certificates;
mod commands;
mod device;
mod keys;
mod log;
mod server;

use device::Device;
use server::Server;

use crate::wire::capability;

/// Object id of the one authentication key a double starts with, as devices do. It may do everything.
pub const AUTH_KEY_ID: u16 = 1;

/// Why a double did not do as told.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the double: {0}")]
pub struct DoubleError(pub(crate) String);

/// A device and its connector; both end when it is dropped.
pub struct YubiHsmDouble {
    device: Arc<Mutex<Device>>,
    server: Server,
}

impl YubiHsmDouble {
    /// Starts one on a free loopback port, with the serial number 7654321 and an authentication key made
    /// from `password`.
    pub fn start(password: &str) -> Result<Self, DoubleError> {
        Self::start_with_serial(password, 7_654_321)
    }

    /// The same with another serial number.
    pub fn start_with_serial(password: &str, serial: u32) -> Result<Self, DoubleError> {
        let device = Arc::new(Mutex::new(Device::new(password, serial)?));
        let server = Server::start(Arc::clone(&device)).map_err(|error| DoubleError(error.to_string()))?;
        Ok(Self { device, server })
    }

    /// Where the connector listens; the same after every outage.
    pub const fn address(&self) -> SocketAddr {
        self.server.address()
    }

    /// Makes a key as if it had been generated on the device: able to sign in every way of its kind.
    /// Several may have one label. Returns its object id.
    pub fn add_key(&self, label: &str, shape: KeyShape) -> Result<u16, DoubleError> {
        self.lock().add_key(label, shape, None)
    }

    /// The same with these capability bits, as the vendor numbers them.
    pub fn add_key_that_may(
        &self,
        label: &str,
        shape: KeyShape,
        capabilities: u64,
    ) -> Result<u16, DoubleError> {
        self.lock().add_key(label, shape, Some(capabilities))
    }

    /// Puts the authentication key's own capabilities at these bits.
    pub fn restrict_authentication_key(&self, capabilities: u64) {
        self.lock().restrict(AUTH_KEY_ID, capabilities);
    }

    /// How long a session may be idle; 30 seconds unless set.
    pub fn set_session_idle(&self, time: Duration) {
        self.lock().session_idle = time;
    }

    /// How long the connector keeps each answer back, after the device has done what it was told.
    pub fn set_delay(&self, time: Duration) {
        self.lock().delay = time;
    }

    /// How long the use of a key takes, beside that.
    pub fn set_key_use_delay(&self, time: Duration) {
        self.lock().key_use_delay = time;
    }

    /// Switches the device off and on: sessions are gone, the log says so.
    pub fn reboot(&self) {
        self.lock().reboot();
    }

    /// Sessions open now.
    pub fn open_sessions(&self) -> usize {
        self.lock().open_sessions()
    }

    /// Sessions whose opening was tried, ever.
    pub fn sessions_tried(&self) -> usize {
        self.lock().sessions_tried
    }

    /// Entries in the log now.
    pub fn log_used(&self) -> usize {
        self.lock().log.used()
    }

    /// Changes one byte of the log's entry at `place`, oldest first, behind its digest's back.
    pub fn alter_log(&self, place: usize, byte: usize) {
        self.lock().log.alter(place, byte);
    }

    /// Takes the log's entry at `place` away.
    pub fn remove_log_entry(&self, place: usize) {
        self.lock().log.remove(place);
    }

    /// Sets the number the next log entry will have.
    pub fn set_next_log_number(&self, number: u16) {
        self.lock().log.set_next_number(number);
    }

    /// The vendor's root and authority above this device's attestation certificate, PEM.
    pub fn attestation_roots_pem(&self) -> String {
        self.lock().attestation.roots_pem()
    }

    /// From now on attests with a key its own certificate does not have.
    pub fn break_attestation(&self) -> Result<(), DoubleError> {
        self.lock().attestation.replace_key()
    }

    fn lock(&self) -> MutexGuard<'_, Device> {
        self.device.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The device has no switch for one key; what its holder may do with keys is taken away instead.
impl OffSwitch for YubiHsmDouble {
    fn off(&self, _label: &str) {
        self.restrict_authentication_key(!capability::ANY_SIGN);
    }

    fn on(&self, _label: &str) {
        self.restrict_authentication_key(u64::MAX);
    }
}

impl Outage for YubiHsmDouble {
    /// The connector goes away with all its connections, and the device loses its sessions.
    fn lose(&self) {
        self.server.stop();
        self.reboot();
    }

    fn restore(&self) {
        self.server.resume();
    }
}
