//! Where a key comes from, as far as the device that holds it can tell.

/// How the private key came into the device.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Origin {
    /// Generated inside; never was outside.
    Generated,
    /// Brought in from outside; whoever made it may have kept it.
    Imported,
    /// The device does not say.
    #[default]
    Unknown,
}

impl Origin {
    /// The word in leaves.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Generated => "generated",
            Self::Imported => "imported",
            Self::Unknown => "unknown",
        }
    }
}

/// What a device says of a key's birth. Everything here is the device's claim; only an attestation whose
/// chain was checked is more than that.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Birth {
    /// How the key came to be.
    pub origin: Origin,
    /// The device: `yubihsm2`, `aws-kms`, a token's model.
    pub device: Option<String>,
    /// The device's serial number, or the key's full name in a service.
    pub serial: Option<String>,
    /// Certificates over the public key, DER, the key's own first, the vendor's root not included.
    /// The backend checked that each signs the one before it.
    pub attestation: Vec<Vec<u8>>,
    /// Whether that chain ends in a root the operator configured.
    pub attestation_anchored: bool,
}
