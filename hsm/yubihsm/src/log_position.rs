//! Where the recorded part of a device's log ends.

/// Length of an entry as the device sends it: sixteen bytes and their digest.
pub(crate) const ENTRY_BYTES: usize = 32;

/// The last entry of a device's log that is safely recorded: what comes next has to follow it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LogPosition {
    pub(crate) number: u64,
    pub(crate) digest: [u8; 16],
}

impl LogPosition {
    /// From `number` and `evidence` of the last recorded
    /// [`DeviceOperation`](chancery_hsm::DeviceOperation). `None` if they are not of one entry of a YubiHSM:
    /// the ledger's record of it is damaged, or of another device.
    pub fn from_evidence(number: u64, evidence: &str) -> Option<Self> {
        let mut bytes = [0; ENTRY_BYTES];
        hex::decode_to_slice(evidence, &mut bytes).ok()?;
        let item = u16::from_be_bytes(*bytes.first_chunk()?);
        let same = number & 0xFFFF == u64::from(item);
        same.then_some(Self { number, digest: *bytes.last_chunk()? })
    }
}
