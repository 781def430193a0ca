//! Keys and values of every column family, byte for byte; all numbers are big-endian.
//!
//! | family | key | value |
//! |---|---|---|
//! | `entries` | index:8 | the leaf |
//! | `tiles` | level:1 ‖ number:8 | a full tile, 8192 bytes |
//! | `streams` | name | number:8 ‖ next seq:8 ‖ last hash:32 ‖ last index:8, and in a chain dialect:1 ‖ row's hash:32 ‖ ms:8 |
//! | `stream_index` | stream number:8 ‖ seq:8 | index of that seq:8, then the gap to each next one as LEB128 |
//! | `replay` | SHA-256 of principal, NUL, idempotency key:32 | answer:1 ‖ index:8 ‖ request hash:32 |
//! | `event_ids` | the author's id | index:8 |
//! | `intents` | number:8 | the encoded intent |
//! | `checkpoints` | tree size:8 | the signed note |
//! | `registry` | version:8 | length of the file:4 ‖ the file ‖ the signed note over it |
//! | `archive` | epoch:8 | tree size the epoch closes with:8 |
//! | `heads` | a chain's name | count:8 ‖ hash:32 ‖ last index:8 |
//! | `key_uses` | a key's name, NUL, how many came before:8, a multiple of 256 | index of that use:8, then the gap to each next one as LEB128 |
//! | `meta` | `format`, `origin`, `head` | 1:8 · text · size:8 ‖ root:32 ‖ streams so far:8 |
//! | | `heads` | size:8, and the index of the leaf that enrols its heads:8, once it is there |
//! | | `cose_head` | the newest head signed for COSE receipts: the consistency receipt of the tree with itself |
//!
//! `stream_index` holds one row per stream and batch, not per entry: a run of consecutive seqs. So does `key_uses`, of 256
//! uses at most: which row has which is the same however often, and in whatever steps, they were derived.

use chancery_format::chain::{Dialect, Link};
use chancery_format::heads::{Head, HeadName};
use chancery_format::{Hash, LeafIndex, Timestamp, TreeHead, TreeSize};

use crate::replay::{Answer, ReplayRecord};

/// Version of this layout, in `meta`.
pub(crate) const FORMAT: u64 = 1;

/// A column family.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Family {
    Entries,
    Tiles,
    Streams,
    StreamIndex,
    Replay,
    EventIds,
    Intents,
    Checkpoints,
    Witnessed,
    Registry,
    Archive,
    Heads,
    KeyUses,
    Meta,
}

impl Family {
    pub(crate) const ALL: [Self; 14] = [
        Self::Entries,
        Self::Tiles,
        Self::Streams,
        Self::StreamIndex,
        Self::Replay,
        Self::EventIds,
        Self::Intents,
        Self::Checkpoints,
        Self::Witnessed,
        Self::Registry,
        Self::Archive,
        Self::Heads,
        Self::KeyUses,
        Self::Meta,
    ];

    /// Those that ledgers of earlier versions lack; they are made when such a ledger is opened.
    pub(crate) const ADDED: [Self; 3] = [Self::Witnessed, Self::Heads, Self::KeyUses];

    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Entries => "entries",
            Self::Tiles => "tiles",
            Self::Streams => "streams",
            Self::StreamIndex => "stream_index",
            Self::Replay => "replay",
            Self::EventIds => "event_ids",
            Self::Intents => "intents",
            Self::Checkpoints => "checkpoints",
            Self::Witnessed => "witnessed",
            Self::Registry => "registry",
            Self::Archive => "archive",
            Self::Heads => "heads",
            Self::KeyUses => "key_uses",
            Self::Meta => "meta",
        }
    }
}

/// A stored value does not have its shape; names the family. Corruption.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct BadShape(pub(crate) Family);

pub(crate) const META_FORMAT: &[u8] = b"format";
pub(crate) const META_ORIGIN: &[u8] = b"origin";
pub(crate) const META_HEAD: &[u8] = b"head";
pub(crate) const META_HEADS: &[u8] = b"heads";
pub(crate) const META_COSE_HEAD: &[u8] = b"cose_head";

/// Where a stream stands after its last event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StreamHead {
    /// Number of the stream in this ledger, in order of first appearance.
    pub number: u64,
    /// `seq` of the next event; the number of events so far.
    pub next_seq: u64,
    /// `hash` of the last event.
    pub hash: Hash,
    /// Index of the last event.
    pub last_index: LeafIndex,
    /// Where its dialect's chain stands, if it is set to one.
    pub chain: Option<ChainHead>,
}

/// Where a dialect's chain stands after its last row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ChainHead {
    /// Whose form it has. It never changes.
    pub dialect: Dialect,
    /// The hash of the last row.
    pub hash: Hash,
    /// The time of the last row; later ones come after it.
    pub ts: Timestamp,
}

/// On disk for ever: codes are added, never changed.
const fn dialect_code(dialect: Dialect) -> u8 {
    match dialect {
        Dialect::KernelGo => 1,
        Dialect::AgentManager => 2,
        Dialect::MemoryLayer => 3,
        Dialect::KernelServer => 4,
        Dialect::Kernel => 5,
        Dialect::Shared => 6,
        Dialect::SafeAi => 7,
    }
}

/// Reads fields off the front of a value.
struct Fields<'a>(&'a [u8]);

impl<'a> Fields<'a> {
    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (field, rest) = self.0.split_first_chunk::<N>()?;
        self.0 = rest;
        Some(*field)
    }

    fn u64(&mut self) -> Option<u64> {
        self.array().map(u64::from_be_bytes)
    }

    fn hash(&mut self) -> Option<Hash> {
        self.array().map(Hash)
    }

    fn leb128(&mut self) -> Option<u64> {
        let mut value = 0u64;
        for shift in (0..64).step_by(7) {
            let [byte] = self.array::<1>()?;
            value |= u64::from(byte & 0x7F) << shift;
            if byte & 0x80 == 0 {
                return Some(value);
            }
        }
        None
    }

    fn take(&mut self, bytes: usize) -> Option<&'a [u8]> {
        let (field, rest) = self.0.split_at_checked(bytes)?;
        self.0 = rest;
        Some(field)
    }

    /// `value`, if nothing is left.
    fn end<T>(self, value: T) -> Option<T> {
        self.0.is_empty().then_some(value)
    }
}

/// Two numbers as one key, ordered by the first.
pub(crate) fn pair_key(first: u64, second: u64) -> [u8; 16] {
    (u128::from(first) << 64 | u128::from(second)).to_be_bytes()
}

pub(crate) fn pair_of_key(key: &[u8]) -> Result<(u64, u64), BadShape> {
    let mut fields = Fields(key);
    let pair = fields.u64().zip(fields.u64());
    pair.and_then(|pair| fields.end(pair)).ok_or(BadShape(Family::StreamIndex))
}

pub(crate) fn tile_key(level: u8, number: u64) -> [u8; 9] {
    let [a, b, c, d, e, f, g, h] = number.to_be_bytes();
    [level, a, b, c, d, e, f, g, h]
}

pub(crate) fn u64_of(value: &[u8], family: Family) -> Result<u64, BadShape> {
    value.try_into().map(u64::from_be_bytes).map_err(|_| BadShape(family))
}

/// Uses of a key in one row.
pub(crate) const KEY_USES_RUN: u64 = 256;

/// The row that has this use.
pub(crate) fn key_uses_key(name: &HeadName, number: u64) -> Vec<u8> {
    let first = number - number % KEY_USES_RUN;
    [name.as_str().as_bytes(), &[0], &first.to_be_bytes()].concat()
}

pub(crate) fn encode_chain_head(head: &Head) -> Vec<u8> {
    [&head.count.to_be_bytes(), head.hash.0.as_slice(), &head.last.0.to_be_bytes()].concat()
}

pub(crate) fn decode_chain_head(value: &[u8]) -> Result<Head, BadShape> {
    let read = |mut fields: Fields<'_>| {
        let (count, hash, last) = (fields.u64()?, fields.hash()?, fields.u64()?);
        fields.end(Head::checked(count, hash, last)?)
    };
    read(Fields(value)).ok_or(BadShape(Family::Heads))
}

pub(crate) fn encode_heads_at(size: TreeSize, index: Option<LeafIndex>) -> Vec<u8> {
    let index = index.map(|index| index.0.to_be_bytes());
    [size.0.to_be_bytes().as_slice(), index.as_ref().map_or(&[], <[u8; 8]>::as_slice)].concat()
}

pub(crate) fn decode_heads_at(value: &[u8]) -> Result<(u64, Option<LeafIndex>), BadShape> {
    let read = |mut fields: Fields<'_>| {
        let size = fields.u64()?;
        let index = if fields.0.is_empty() { None } else { Some(LeafIndex(fields.u64()?)) };
        fields.end((size, index))
    };
    read(Fields(value)).ok_or(BadShape(Family::Meta))
}

pub(crate) fn encode_head(head: TreeHead, streams: u64) -> Vec<u8> {
    [head.size.0.to_be_bytes().as_slice(), &head.root.0, &streams.to_be_bytes()].concat()
}

pub(crate) fn decode_head(value: &[u8]) -> Result<(TreeHead, u64), BadShape> {
    let read = |mut fields: Fields<'_>| {
        let head = TreeHead { size: TreeSize(fields.u64()?), root: fields.hash()? };
        let streams = fields.u64()?;
        fields.end((head, streams))
    };
    read(Fields(value)).ok_or(BadShape(Family::Meta))
}

impl StreamHead {
    pub(crate) fn encode(&self) -> Vec<u8> {
        let (number, next_seq) = (self.number.to_be_bytes(), self.next_seq.to_be_bytes());
        let mut value =
            [&number, &next_seq, self.hash.0.as_slice(), &self.last_index.0.to_be_bytes()].concat();
        if let Some(ChainHead { dialect, hash, ts }) = &self.chain {
            value.push(dialect_code(*dialect));
            value.extend_from_slice(&hash.0);
            value.extend_from_slice(&ts.unix_ms().to_be_bytes());
        }
        value
    }

    pub(crate) fn decode(value: &[u8]) -> Result<Self, BadShape> {
        Self::read(Fields(value)).ok_or(BadShape(Family::Streams))
    }

    fn read(mut fields: Fields<'_>) -> Option<Self> {
        let (number, next_seq) = (fields.u64()?, fields.u64()?);
        let (hash, last_index) = (fields.hash()?, LeafIndex(fields.u64()?));
        let chain = if fields.0.is_empty() { None } else { Some(ChainHead::read(&mut fields)?) };
        fields.end(Self { number, next_seq, hash, last_index, chain })
    }
}

impl ChainHead {
    /// Of a chain whose newest row is this one.
    pub const fn of(link: &Link, ts: Timestamp) -> Self {
        Self { dialect: link.dialect, hash: link.hash, ts }
    }

    fn read(fields: &mut Fields<'_>) -> Option<Self> {
        let [code] = fields.array()?;
        let dialect = Dialect::ALL.into_iter().find(|dialect| dialect_code(*dialect) == code)?;
        let hash = fields.hash()?;
        let ms = i64::from_be_bytes(fields.array()?);
        Some(Self { dialect, hash, ts: Timestamp::from_unix_ms(ms).ok()? })
    }
}

/// The indices of consecutive seqs, ascending.
pub(crate) fn encode_run(indices: &[LeafIndex]) -> Vec<u8> {
    let mut value = Vec::with_capacity(8 + indices.len());
    let Some((first, rest)) = indices.split_first() else { return value };
    value.extend_from_slice(&first.0.to_be_bytes());
    let mut last = first.0;
    for index in rest {
        push_leb128(&mut value, index.0.saturating_sub(last));
        last = index.0;
    }
    value
}

fn push_leb128(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(0x80 | (value & 0x7F) as u8);
        value >>= 7;
    }
    out.push(value as u8);
}

pub(crate) fn decode_run(value: &[u8], family: Family) -> Result<Vec<LeafIndex>, BadShape> {
    let mut fields = Fields(value);
    let mut last = fields.u64().ok_or(BadShape(family))?;
    let mut indices = vec![LeafIndex(last)];
    while !fields.0.is_empty() {
        let gap = fields.leb128().ok_or(BadShape(family))?;
        last = last.checked_add(gap).ok_or(BadShape(family))?;
        indices.push(LeafIndex(last));
    }
    Ok(indices)
}

impl ReplayRecord {
    pub(crate) fn encode(&self) -> Vec<u8> {
        [&[self.answer.code()], self.index.0.to_be_bytes().as_slice(), &self.request_hash.0].concat()
    }

    pub(crate) fn decode(value: &[u8]) -> Result<Self, BadShape> {
        Self::read(Fields(value)).ok_or(BadShape(Family::Replay))
    }

    fn read(mut fields: Fields<'_>) -> Option<Self> {
        let [code] = fields.array()?;
        let index = LeafIndex(fields.u64()?);
        let record = Self { answer: Answer::from_code(code)?, index, request_hash: fields.hash()? };
        fields.end(record)
    }
}

pub(crate) fn encode_registry(json: &[u8], note: &str) -> Vec<u8> {
    let length = u32::try_from(json.len()).unwrap_or(u32::MAX);
    [&length.to_be_bytes(), json, note.as_bytes()].concat()
}

pub(crate) fn decode_registry(value: &[u8]) -> Result<(Vec<u8>, String), BadShape> {
    let read = |mut fields: Fields<'_>| {
        let length = usize::try_from(u32::from_be_bytes(fields.array()?)).ok()?;
        let json = fields.take(length)?.to_vec();
        Some((json, String::from_utf8(fields.0.to_vec()).ok()?))
    };
    read(Fields(value)).ok_or(BadShape(Family::Registry))
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a failed unwrap is the test's failure")]
    use super::*;

    #[test]
    fn runs_of_any_gaps_read_back() {
        for gaps in [vec![], vec![1; 200], vec![127, 128, 129, 16_383, 16_384, 1 << 40, 1]] {
            let mut indices = vec![LeafIndex(1 << 50)];
            for gap in gaps {
                indices.push(LeafIndex(indices.last().unwrap().0 + gap));
            }
            assert_eq!(decode_run(&encode_run(&indices), Family::StreamIndex).unwrap(), indices);
        }
        let run = encode_run(&[LeafIndex(1), LeafIndex(300)]);
        assert!(decode_run(run.get(..run.len() - 1).unwrap(), Family::KeyUses).is_err());
        assert!(decode_run(&[0; 7], Family::KeyUses).is_err());
    }

    #[test]
    fn values_read_back_and_other_lengths_are_refused() {
        let head = TreeHead { size: TreeSize(5), root: Hash([1; 32]) };
        let plain =
            StreamHead { number: 3, next_seq: 9, hash: Hash([2; 32]), last_index: LeafIndex(4), chain: None };
        let ts = Timestamp::from_unix_ms(1_763_000_000_123).unwrap();
        let chains = Dialect::ALL.map(|dialect| Some(ChainHead { dialect, hash: Hash([5; 32]), ts }));
        let replay =
            ReplayRecord { answer: Answer::Signature, index: LeafIndex(8), request_hash: Hash([3; 32]) };
        assert_eq!(decode_head(&encode_head(head, 7)).unwrap(), (head, 7));
        for chain in chains.into_iter().chain([None]) {
            let stream = StreamHead { chain, ..plain };
            assert_eq!(StreamHead::decode(&stream.encode()).unwrap(), stream);
            let long = [stream.encode(), vec![0]].concat();
            assert!(StreamHead::decode(&long).is_err());
        }
        assert_eq!(ReplayRecord::decode(&replay.encode()).unwrap(), replay);
        assert_eq!(
            decode_registry(&encode_registry(b"{}", "note")).unwrap(),
            (b"{}".to_vec(), "note".into())
        );
        let chain = Head { count: 3, hash: Hash([4; 32]), last: LeafIndex(9) };
        assert_eq!(decode_chain_head(&encode_chain_head(&chain)).unwrap(), chain);
        // Numbers that no entry leads to, and that no map can hold.
        assert!(decode_chain_head(&[0; 49]).is_err() && decode_chain_head(&[1; 48]).is_err());
        for index in [None, Some(LeafIndex(8))] {
            assert_eq!(decode_heads_at(&encode_heads_at(TreeSize(7), index)).unwrap(), (7, index));
        }
        assert!(decode_heads_at(&[0; 12]).is_err());
        assert!(decode_head(&[0; 47]).is_err() && ReplayRecord::decode(&[9; 41]).is_err());
        assert_eq!(pair_of_key(&pair_key(1, u64::MAX)).unwrap(), (1, u64::MAX));
    }
}
