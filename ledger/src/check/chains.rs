//! Each leaf by itself, and in its stream: form, hash, id, the link to the event before, the index of its stream.
//!
//! Heads of recently seen streams are kept in two generations; an older stream's last event is read again, so that memory
//! does not grow with the number of streams.

use std::collections::HashMap;

use chancery_format::{AuditEvent, EventId, Hash, LeafIndex, Timestamp, chain};

use super::findings::{Finding, Kind, Side};
use crate::store::{Store, StoreError};

/// Streams remembered in one generation, some 200 bytes each.
const STREAMS_MAX: usize = 65_536;

/// Where a stream stands.
#[derive(Debug, Clone)]
struct Place {
    number: Option<u64>,
    seq: u64,
    hash: Hash,
    row: Option<(chain::Link, Timestamp)>,
}

/// All streams, as far as they are remembered.
#[derive(Debug, Default)]
pub(super) struct Chains {
    young: HashMap<Box<str>, Place>,
    old: HashMap<Box<str>, Place>,
}

impl Chains {
    /// What is wrong with one leaf that could be read as an event.
    pub(super) fn follow(
        &mut self,
        store: &Store,
        origin_tag: [u8; 6],
        index: u64,
        event: &AuditEvent<'_>,
    ) -> Vec<Finding> {
        let mut found = check_id(store, origin_tag, index, event);
        let known = self.young.get(event.stream).or_else(|| self.old.get(event.stream)).cloned();
        let number = match known.as_ref().and_then(|place| place.number) {
            Some(number) => Some(number),
            None => number_of(store, event.stream),
        };
        let broken = |message: String| Finding::new(Kind::StreamBroken, Side::Store, message).at(index);
        let last = match known.filter(|place| event.seq > 0 && place.seq + 1 == event.seq) {
            Some(place) => Ok(Some(place)),
            None if event.seq == 0 => Ok(None),
            None => before(store, number, event),
        };
        match last {
            Ok(last) => {
                let hash = last.as_ref().map(|place| place.hash);
                if hash != event.prev_hash {
                    let message =
                        format!("prevHash of seq {} is not the hash of the event before", event.seq);
                    found.push(broken(format!("stream {}: {message}", event.stream)));
                } else if !goes_on(last.and_then(|place| place.row), event) {
                    found.push(broken(format!(
                        "stream {}: its row does not follow the one before",
                        event.stream
                    )));
                }
            }
            // The event before cannot be read: it has a finding of its own.
            Err(Before::Unreadable) => {}
            Err(Before::Missing) => {
                found.push(broken(format!("stream {} has seq {} after none", event.stream, event.seq)));
            }
        }
        if number.is_none_or(|number| !is_indexed(store, number, event.seq, index)) {
            let message =
                format!("seq {} of stream {} is not in the index of streams", event.seq, event.stream);
            found.push(Finding::new(Kind::StreamHead, Side::Store, message).at(index));
        }
        self.remember(event, number);
        found
    }

    fn remember(&mut self, event: &AuditEvent<'_>, number: Option<u64>) {
        let row = event.chain.map(|link| (link, event.ts));
        self.young.insert(event.stream.into(), Place { number, seq: event.seq, hash: event.hash, row });
        if self.young.len() > STREAMS_MAX {
            self.old = std::mem::take(&mut self.young);
        }
    }
}

/// Why the event before is not known.
enum Before {
    Missing,
    Unreadable,
}

fn number_of(store: &Store, stream: &str) -> Option<u64> {
    store.stream(&stream.parse().ok()?).ok().flatten().map(|head| head.number)
}

fn is_indexed(store: &Store, number: u64, seq: u64, index: u64) -> bool {
    store.stream_indices(number, seq, 1).is_ok_and(|found| found == [LeafIndex(index)])
}

/// The event before, read from the store.
fn before(store: &Store, number: Option<u64>, event: &AuditEvent<'_>) -> Result<Option<Place>, Before> {
    let find = || -> Result<Option<Vec<u8>>, StoreError> {
        let Some((number, seq)) = number.zip(event.seq.checked_sub(1)) else { return Ok(None) };
        match store.stream_indices(number, seq, 1)?.first() {
            Some(index) => store.leaf(*index),
            None => Ok(None),
        }
    };
    let leaf = find().map_err(|_| Before::Unreadable)?.ok_or(Before::Missing)?;
    let last = AuditEvent::parse(&leaf).map_err(|_| Before::Unreadable)?;
    if last.stream != event.stream || last.seq + 1 != event.seq {
        return Err(Before::Missing);
    }
    let row = last.chain.map(|link| (link, last.ts));
    Ok(Some(Place { number, seq: last.seq, hash: last.hash, row }))
}

/// Whether a row comes after the one before: in its dialect, by its hash, and later. A chain may begin at any event.
fn goes_on(last: Option<(chain::Link, Timestamp)>, event: &AuditEvent<'_>) -> bool {
    let Some((last, ts)) = last else { return true };
    event
        .chain
        .is_some_and(|next| next.dialect == last.dialect && next.previous == Some(last.hash) && event.ts > ts)
}

/// An id the ledger gave names its index; one an author gave is found by it.
fn check_id(store: &Store, origin_tag: [u8; 6], index: u64, event: &AuditEvent<'_>) -> Vec<Finding> {
    let named = match event.id.parse::<EventId>() {
        Ok(id) => match id.index(origin_tag) {
            Some(named) => Some(named),
            None => store.event_id(id.as_str()).ok().flatten(),
        },
        Err(_) => None,
    };
    if named == Some(LeafIndex(index)) {
        return Vec::new();
    }
    let message = format!("id {} does not lead to this entry", event.id);
    vec![Finding::new(Kind::LeafId, Side::Store, message).at(index)]
}
