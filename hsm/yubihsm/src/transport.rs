//! The way to the device: one message there, one answer back.
//!
//! What matters to the callers is whether a message may have reached the device when something failed:
//! until then nothing was done with any key.

use crate::config::{Connector, YubiHsmConfig};
use crate::failure::Failure;

mod http;
#[cfg(feature = "usb")]
mod usb;

/// An exchange that failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Broken {
    /// Whether any byte of the message may have arrived.
    pub(crate) sent: bool,
    /// What happened, for the log.
    pub(crate) cause: String,
}

/// One line to the device, used by one session.
pub(crate) trait Transport: Send {
    /// Sends a whole message and returns the whole answer.
    fn exchange(&mut self, message: &[u8]) -> Result<Vec<u8>, Broken>;
}

/// Makes lines.
pub(crate) enum Way {
    Http(http::Address),
    #[cfg(feature = "usb")]
    Usb(usb::Device),
}

impl Way {
    pub(crate) fn new(config: &YubiHsmConfig) -> Result<Self, Failure> {
        match &config.connector {
            Connector::Http { host, port } => {
                Ok(Self::Http(http::Address { host: host.clone(), port: *port, timeout: config.timeout }))
            }
            #[cfg(feature = "usb")]
            Connector::Usb => Ok(Self::Usb(usb::Device::new(config)?)),
            #[cfg(not(feature = "usb"))]
            Connector::Usb => {
                Err(Failure::refused("this build has no USB connector; build with --features usb"))
            }
        }
    }

    /// A new line; connecting waits until the first message.
    pub(crate) fn line(&self) -> Box<dyn Transport> {
        match self {
            Self::Http(address) => Box::new(http::Line::new(address.clone())),
            #[cfg(feature = "usb")]
            Self::Usb(device) => Box::new(device.line()),
        }
    }
}
