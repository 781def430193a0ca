//! The device on this machine's USB, by the `yubihsm` crate's connector. One device takes one message at a
//! time; all sessions share it.

use crate::config::YubiHsmConfig;
use crate::failure::Failure;
use crate::transport::{Broken, Transport};

/// A device, found when the first message is sent and again after it was unplugged.
pub(crate) struct Device(yubihsm::Connector);

impl Device {
    pub(crate) fn new(config: &YubiHsmConfig) -> Result<Self, Failure> {
        let serial = match &config.serial {
            None => None,
            Some(serial) => {
                let padded = format!("{serial:0>10}");
                Some(padded.parse().map_err(|_| Failure::refused(format!("serial \"{serial}\" is none")))?)
            }
        };
        let timeout_ms = u64::try_from(config.timeout.as_millis()).unwrap_or(u64::MAX);
        Ok(Self(yubihsm::Connector::usb(&yubihsm::UsbConfig { serial, timeout_ms })))
    }

    pub(crate) fn line(&self) -> Line {
        Line(self.0.clone())
    }
}

/// The shared device.
pub(crate) struct Line(yubihsm::Connector);

impl Transport for Line {
    fn exchange(&mut self, message: &[u8]) -> Result<Vec<u8>, Broken> {
        // The identifier is for logs of other connectors; USB has no use for it.
        let answer = self.0.send_message(yubihsm::Uuid::nil(), message.to_vec().into());
        // Whether the bytes left is not told, so they may have.
        answer.map(Into::into).map_err(|error| Broken { sent: true, cause: format!("USB: {error}") })
    }
}
