//! The double's log: 62 entries, chained, and the options that say what goes into it.

use std::collections::BTreeMap;

use aws_lc_rs::rand;

use super::DoubleError;
use crate::device_log::chain;
use crate::wire::{Fields, command, option};

/// Entries a device has room for.
const CAPACITY: usize = 62;

/// Commands not logged as delivered, of those a device knows: what happens all the time, and reading the log.
const QUIET: [u8; 6] =
    [command::ECHO, command::SESSION_MESSAGE, command::DEVICE_INFO, 0x07, 0x09, command::GET_LOG_ENTRIES];

/// Commands possible whatever the log's state, so that it can be emptied.
const ALWAYS: [u8; 5] = [
    command::CREATE_SESSION,
    command::AUTHENTICATE_SESSION,
    command::CLOSE_SESSION,
    command::GET_LOG_ENTRIES,
    command::SET_LOG_INDEX,
];

/// What an entry tells besides its number, time and digest.
#[derive(Debug, Clone, Copy)]
pub(super) struct Event {
    pub(super) command: u8,
    pub(super) length: u16,
    pub(super) session_key: u16,
    pub(super) target: u16,
    pub(super) second: u16,
    pub(super) result: u8,
}

pub(super) struct Log {
    entries: Vec<[u8; 32]>,
    next: u16,
    last_digest: [u8; 16],
    ticks: u32,
    unlogged_starts: u16,
    unlogged_authentications: u16,
    force: u8,
    /// Per command: 0 not logged, 1 logged, 2 logged for ever.
    switches: BTreeMap<u8, u8>,
}

impl Log {
    pub(super) fn new() -> Result<Self, DoubleError> {
        let known = [0x01, 0x03, 0x04, 0x05, 0x06, 0x07, 0x08, 0x09].into_iter().chain(0x40..=0x77);
        let mut log = Self {
            entries: Vec::new(),
            next: 2,
            last_digest: [0; 16],
            ticks: 0,
            unlogged_starts: 0,
            unlogged_authentications: 0,
            force: 0,
            switches: known.map(|code| (code, u8::from(!QUIET.contains(&code)))).collect(),
        };
        // The first entry after a reset: all ones, with a random digest.
        let digest: [u8; 16] = rand::generate(&rand::SystemRandom::new())
            .map_err(|_| DoubleError("no random numbers".to_owned()))?
            .expose();
        let mut first = [0xFF; 32];
        first.iter_mut().zip([0, 1]).for_each(|(to, from)| *to = from);
        first.iter_mut().skip(16).zip(digest).for_each(|(to, from)| *to = from);
        log.last_digest = digest;
        log.entries.push(first);
        log.start();
        Ok(log)
    }

    /// The device was switched on.
    pub(super) fn start(&mut self) {
        self.ticks = 0;
        if self.is_stopped() {
            self.unlogged_starts = self.unlogged_starts.saturating_add(1);
        } else {
            self.append(Event {
                command: 0,
                length: 0,
                session_key: 0xFFFF,
                target: 0,
                second: 0,
                result: 0,
            });
        }
    }

    fn is_stopped(&self) -> bool {
        self.force != 0 && self.entries.len() >= CAPACITY
    }

    /// Whether there is no room for a command that would have to be logged.
    pub(super) fn stops(&self, code: u8) -> bool {
        self.is_stopped()
            && !ALWAYS.contains(&code)
            && self.switches.get(&code).is_some_and(|state| *state != 0)
    }

    /// Notes what was done, if it is to be noted.
    pub(super) fn record(&mut self, event: Event) {
        self.ticks = self.ticks.wrapping_add(1);
        if self.switches.get(&event.command).is_none_or(|state| *state == 0) {
            return;
        }
        if !self.is_stopped() {
            self.append(event);
        } else if event.command == command::AUTHENTICATE_SESSION {
            self.unlogged_authentications = self.unlogged_authentications.saturating_add(1);
        }
    }

    fn append(&mut self, event: Event) {
        let Event { command, length, session_key, target, second, result } = event;
        let head = [self.next.to_be_bytes().as_slice(), &[command], &length.to_be_bytes()].concat();
        let keys = [session_key, target, second].map(u16::to_be_bytes).concat();
        let tail = [&[result], self.ticks.to_be_bytes().as_slice()].concat();
        let mut content = [0; 16];
        content.iter_mut().zip([head, keys, tail].concat()).for_each(|(to, from)| *to = from);
        self.last_digest = chain(&content, &self.last_digest);
        let mut entry = [0; 32];
        entry.iter_mut().zip(content.into_iter().chain(self.last_digest)).for_each(|(to, from)| *to = from);
        if self.entries.len() >= CAPACITY {
            self.entries.remove(0);
        }
        self.entries.push(entry);
        self.next = self.next.wrapping_add(1);
    }

    pub(super) fn answer(&self) -> Vec<u8> {
        let mut answer = self.unlogged_starts.to_be_bytes().to_vec();
        answer.extend(self.unlogged_authentications.to_be_bytes());
        answer.push(u8::try_from(self.entries.len()).unwrap_or(u8::MAX));
        answer.extend(self.entries.concat());
        answer
    }

    /// SET LOG INDEX; false if there is no such entry.
    pub(super) fn consume(&mut self, index: u16) -> bool {
        let number = |entry: &[u8; 32]| Fields(entry).u16();
        let Some(place) = self.entries.iter().position(|entry| number(entry) == Some(index)) else {
            return false;
        };
        self.entries.drain(..=place);
        (self.unlogged_starts, self.unlogged_authentications) = (0, 0);
        true
    }

    pub(super) fn option(&self, tag: u8) -> Option<Vec<u8>> {
        match tag {
            option::FORCE_AUDIT => Some(vec![self.force]),
            option::COMMAND_AUDIT => {
                Some(self.switches.iter().flat_map(|(code, state)| [*code, *state]).collect())
            }
            _ => None,
        }
    }

    /// SET OPTION; false for what does not exist or is fixed.
    pub(super) fn set_option(&mut self, tag: u8, value: &[u8]) -> bool {
        match (tag, value) {
            (option::FORCE_AUDIT, [state]) if self.force != 2 && *state <= 2 => {
                self.force = *state;
                true
            }
            (option::COMMAND_AUDIT, pairs) => {
                let (pairs, rest) = pairs.as_chunks::<2>();
                let possible = |[code, state]: &[u8; 2]| {
                    *state <= 2 && self.switches.get(code).is_some_and(|old| *old != 2)
                };
                if !rest.is_empty() || !pairs.iter().all(possible) {
                    return false;
                }
                self.switches.extend(pairs.iter().map(|[code, state]| (*code, *state)));
                true
            }
            _ => false,
        }
    }

    pub(super) fn used(&self) -> usize {
        self.entries.len()
    }

    pub(super) const fn capacity() -> usize {
        CAPACITY
    }

    pub(super) fn alter(&mut self, place: usize, byte: usize) {
        if let Some(byte) = self.entries.get_mut(place).and_then(|entry| entry.get_mut(byte)) {
            *byte ^= 1;
        }
    }

    pub(super) fn remove(&mut self, place: usize) {
        if place < self.entries.len() {
            self.entries.remove(place);
        }
    }

    pub(super) const fn set_next_number(&mut self, number: u16) {
        self.next = number;
    }
}
