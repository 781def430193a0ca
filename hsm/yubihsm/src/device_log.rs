//! The device's own log, read so that nothing in it can be missing, changed or out of order unnoticed.
//!
//! The device numbers its entries and chains them: each carries the first half of a SHA-256 over its other
//! sixteen bytes and the previous entry's digest. The vendor documents this; entries already seen must also
//! come back unchanged, so that a whole new chain does not pass either. Answers travel in the encrypted
//! session, so between the device and us nobody can touch them.
//!
//! With forced auditing on, a full log stops the device. Two kinds of event happen all the same and are only
//! counted: starts, and authentications. New ones are an error once; then reading goes on, because a log
//! that cannot be read can never be emptied.
//!
//! As delivered the device also logs SET LOG INDEX: after everything was consumed there is one entry again.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use chancery_hsm::{DeviceLog, DeviceOperation, SignerError};

use crate::backend::Labels;
use crate::device::Device;
use crate::failure::Failure;
use crate::log_position::{ENTRY_BYTES, LogPosition};
use crate::wire::{ANSWER, Fields, command, object_type};

/// Object ids that are nobody's key: the device's own attestation key, and "none".
const NO_KEY: [u16; 2] = [0x0000, 0xFFFF];

/// The log of a device; see [`DeviceLog`].
pub(crate) struct YubiHsmLog {
    device: Arc<Device>,
    serial: String,
    labels: Labels,
    state: Mutex<State>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct State {
    /// The last entry on the ledger.
    consumed: Option<LogPosition>,
    /// Entries after it, as far as they were read.
    seen: Vec<LogPosition>,
    /// The number the device knows to be consumed.
    told: Option<u64>,
    /// Starts and authentications it could not log, when it was last asked.
    unlogged: (u16, u16),
}

impl YubiHsmLog {
    pub(crate) fn new(
        device: Arc<Device>,
        serial: String,
        labels: Labels,
        consumed: Option<LogPosition>,
    ) -> Self {
        let state = Mutex::new(State { consumed, ..State::default() });
        Self { device, serial, labels, state }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        // Each change of it is one assignment.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn operation(&self, number: u64, entry: &Entry) -> DeviceOperation {
        let Entry { command, target, second, result, .. } = *entry;
        let attests = command == command::SIGN_ATTESTATION_CERTIFICATE;
        // Only an attestation by another key than the device's own is a use of a key.
        let (key, uses_key) = match attests {
            true => (second, !NO_KEY.contains(&second)),
            false => (target, command::USING_KEYS.contains(&command)),
        };
        let kind = match command {
            command::SIGN_HMAC | command::PUT_HMAC_KEY | command::GENERATE_HMAC_KEY => object_type::HMAC_KEY,
            _ => object_type::ASYMMETRIC_KEY,
        };
        let labels = self.labels.lock().unwrap_or_else(PoisonError::into_inner);
        DeviceOperation {
            number,
            command: command::name(command),
            label: labels.get(&(key, kind)).cloned(),
            uses_key,
            succeeded: result == command | ANSWER,
            evidence: hex::encode(entry.bytes),
        }
    }
}

impl DeviceLog for YubiHsmLog {
    fn serial(&self) -> String {
        self.serial.clone()
    }

    fn read(&self, max: usize, deadline: Instant) -> Result<Vec<DeviceOperation>, SignerError> {
        let mut state = self.lock();
        let log = self.device.with_next_session(deadline, |session| {
            let answer = session.command(command::GET_LOG_ENTRIES, &[])?;
            let nonsense =
                || Failure::nonsense(command::GET_LOG_ENTRIES, "get-log-entries: an answer of odd length");
            Log::parse(&answer).ok_or_else(nonsense)
        })?;
        let unreliable = |cause: String| SignerError::refused(format!("log of {}: {cause}", self.serial));
        let numbered = state.follow(&log.entries).map_err(unreliable)?;
        if log.unlogged != state.unlogged {
            state.unlogged = log.unlogged;
            if log.unlogged != (0, 0) {
                let (starts, authentications) = log.unlogged;
                return Err(unreliable(format!(
                    "it was full and counts {starts} starts and {authentications} authentications it could \
                     not log; this is said once"
                )));
            }
        }
        state.seen = numbered
            .iter()
            .map(|(number, entry)| LogPosition { number: *number, digest: entry.digest })
            .collect();
        drop(state);
        Ok(numbered.iter().take(max).map(|(number, entry)| self.operation(*number, entry)).collect())
    }

    fn consume(&self, number: u64, deadline: Instant) -> Result<(), SignerError> {
        let mut state = self.lock();
        if state.told.is_some_and(|told| told >= number) {
            return Ok(());
        }
        let known = state.seen.iter().chain(&state.consumed).find(|position| position.number == number);
        let Some(position) = known.copied() else {
            return Err(SignerError::refused(format!("log of {}: entry {number} was not read", self.serial)));
        };
        // True whether or not the device hears of it: it is on the ledger. If the answer is lost, entries up
        // to here may come again, and are known.
        state.consumed = Some(position);
        state.seen.retain(|position| position.number > number);
        let [.., high, low] = number.to_be_bytes();
        self.device.with_next_session(deadline, |session| {
            session.command(command::SET_LOG_INDEX, &[high, low]).map(|_| ())
        })?;
        state.told = Some(number);
        Ok(())
    }
}

impl State {
    /// The entries after the last consumed one, numbered; or why they are not what must follow.
    fn follow(&self, entries: &[Entry]) -> Result<Vec<(u64, Entry)>, String> {
        for pair in entries.windows(2) {
            if let [previous, entry] = pair {
                entry.follows(previous.item, &previous.digest)?;
            }
        }
        let (first, new) = match (&self.consumed, entries) {
            (None, []) => (0, entries),
            (None, [first, ..]) => (u64::from(first.item), entries),
            (Some(consumed), _) => (consumed.number + 1, after(consumed, entries)?),
        };
        let numbered: Vec<_> = (first..).zip(new.iter().copied()).collect();
        for (place, seen) in self.seen.iter().enumerate() {
            match numbered.get(place) {
                Some((number, entry)) if *number == seen.number && entry.digest == seen.digest => {}
                _ => return Err(format!("entry {} is gone, or is not what it was", seen.number)),
            }
        }
        Ok(numbered)
    }
}

/// Those entries that come after the consumed one, which itself may or may not be among them.
fn after<'a>(consumed: &LogPosition, entries: &'a [Entry]) -> Result<&'a [Entry], String> {
    let item = consumed.number as u16; // the low half: the device counts in 16 bits
    match entries.iter().position(|entry| entry.item == item) {
        Some(place) if entries.get(place).is_some_and(|entry| entry.digest == consumed.digest) => {
            Ok(entries.get(place + 1..).unwrap_or_default())
        }
        Some(_) => Err(format!("entry {} is not what it was", consumed.number)),
        None => {
            if let Some(first) = entries.first() {
                first.follows(item, &consumed.digest)?;
            }
            Ok(entries)
        }
    }
}

/// One answer to GET LOG ENTRIES.
struct Log {
    unlogged: (u16, u16),
    entries: Vec<Entry>,
}

impl Log {
    fn parse(answer: &[u8]) -> Option<Self> {
        let mut fields = Fields(answer);
        let unlogged = (fields.u16()?, fields.u16()?);
        let count = usize::from(fields.u8()?);
        let (chunks, rest) = fields.0.as_chunks::<ENTRY_BYTES>();
        let entries: Option<Vec<Entry>> = chunks.iter().map(Entry::parse).collect();
        let entries = entries.filter(|entries| entries.len() == count && rest.is_empty())?;
        Some(Self { unlogged, entries })
    }
}

/// One entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Entry {
    bytes: [u8; ENTRY_BYTES],
    item: u16,
    command: u8,
    target: u16,
    second: u16,
    result: u8,
    digest: [u8; 16],
}

impl Entry {
    fn parse(bytes: &[u8; ENTRY_BYTES]) -> Option<Self> {
        let mut fields = Fields(bytes);
        let (item, command) = (fields.u16()?, fields.u8()?);
        let (_length, _session_key) = (fields.u16()?, fields.u16()?);
        let (target, second, result) = (fields.u16()?, fields.u16()?, fields.u8()?);
        let (_tick, digest) = (fields.u32()?, fields.take()?);
        Some(Self { bytes: *bytes, item, command, target, second, result, digest })
    }

    fn follows(&self, item: u16, digest: &[u8; 16]) -> Result<(), String> {
        if self.item != item.wrapping_add(1) {
            return Err(format!("entries between {item} and {} are missing", self.item));
        }
        let [content, _] = self.bytes.as_chunks::<16>().0 else { return Err("an entry is cut".to_owned()) };
        if chain(content, digest) == self.digest {
            Ok(())
        } else {
            Err(format!("entry {} was altered, or the one before it", self.item))
        }
    }
}

/// The digest that ties an entry to the one before it.
pub(crate) fn chain(content: &[u8; 16], previous: &[u8; 16]) -> [u8; 16] {
    let hash = chancery_format::Hash::of(&[content, previous]).0;
    hash.first_chunk().copied().unwrap_or_default()
}

#[cfg(test)]
mod tests;
