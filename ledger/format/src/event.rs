//! `AuditEvent`, the leaf: how it is built, placed in its stream, and read back.
//!
//! A leaf is canonical JSON of one event, in this fixed member order (RFC 8785 order):
//! `actor chain? eventType hash id manifestSignatureId? metadata? payload prevHash seq signer_kid stream ts
//! version`. `hash` is the SHA-256 of the leaf's own bytes with the member `"hash":"…",` cut out, so
//! nobody has to re-encode anything to check it. `prevHash` is the `hash` of the previous event of the
//! same stream (`null` for its first, whose `seq` is 0). `chain` stands in streams that are set to a dialect; see
//! [`chain`](crate::chain).

use crate::canonical::{CanonicalError, CanonicalJson, Reader, Reason};
use crate::chain::{After, Bound, Dialect, Link};
use crate::hash::{Hash, HexError};
use crate::merkle;
use crate::names::{EventId, EventType, Kid, NameError, PrincipalName, StreamName};
use crate::timestamp::{Timestamp, TimestampError};

/// Longest leaf, in bytes: what a C2SP entry bundle's 16-bit length can hold.
pub const LEAF_BYTES_MAX: usize = 65_535;

/// Version of this leaf format.
pub const VERSION: u64 = 1;

/// What an event's author decides. The ledger adds its place.
#[derive(Debug, Clone)]
pub struct EventDraft {
    /// Kind of event.
    pub event_type: EventType,
    /// Who did it: for services, the authenticated principal.
    pub actor: PrincipalName,
    /// The chain it joins.
    pub stream: StreamName,
    /// What happened; an object.
    pub payload: CanonicalJson,
    /// The author's own id; otherwise made from the index.
    pub id: Option<EventId>,
    /// The author's own time; otherwise the ledger's clock.
    pub ts: Option<Timestamp>,
    /// Id of the manifest signature this event belongs to, if any.
    pub manifest_signature_id: Option<EventId>,
    /// Anything the author wants beside the payload; an object.
    pub metadata: Option<CanonicalJson>,
}

/// An event's place, decided by the one writer.
#[derive(Debug, Clone, Copy)]
pub struct Placement<'a> {
    /// Used if the draft has none.
    pub id: &'a EventId,
    /// Position in the stream, from 0.
    pub seq: u64,
    /// `hash` of the stream's previous event; `None` exactly at `seq` 0.
    pub prev_hash: Option<Hash>,
    /// The ledger key under whose checkpoints the event stands.
    pub signer_kid: &'a Kid,
    /// Used if the draft has none.
    pub ts: Timestamp,
    /// Where the event goes in its dialect's chain, if its stream is set to one.
    pub chain: Option<After>,
}

/// A finished leaf: its bytes, the stream link they make, and the tree's leaf hash.
#[derive(Debug, Clone)]
pub struct Leaf {
    bytes: Vec<u8>,
    event_hash: Hash,
    leaf_hash: Hash,
    chain: Option<Link>,
    ts: Timestamp,
}

impl Leaf {
    /// The bytes that are stored, hashed and served.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// The event's `hash`: the next event's `prevHash`.
    pub const fn event_hash(&self) -> Hash {
        self.event_hash
    }

    /// RFC 6962 leaf hash of the bytes.
    pub const fn leaf_hash(&self) -> Hash {
        self.leaf_hash
    }

    /// The event's link in its dialect's chain.
    pub const fn chain(&self) -> Option<Link> {
        self.chain
    }

    /// The event's time.
    pub const fn ts(&self) -> Timestamp {
        self.ts
    }

    /// Gives the bytes away.
    pub fn into_bytes(self) -> Vec<u8> {
        self.bytes
    }
}

/// Why a leaf could not be made or read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EventError {
    /// The leaf would exceed [`LEAF_BYTES_MAX`]. The author is at fault: send less, or a digest.
    #[error("event has {0} bytes as a leaf, the limit is 65535")]
    TooLarge(usize),
    /// Not a canonical leaf. In a ledger: corruption.
    #[error("leaf is not a canonical event: {0}")]
    NotCanonical(#[from] CanonicalError),
    /// A member is not a valid name. In a ledger: corruption.
    #[error("leaf has a bad name: {0}")]
    Name(#[from] NameError),
    /// `ts` is not our time text. In a ledger: corruption.
    #[error("leaf has a bad ts: {0}")]
    Time(#[from] TimestampError),
    /// `hash` or `prevHash` is not lower-case hex of 32 bytes. In a ledger: corruption.
    #[error("leaf has a bad hash: {0}")]
    Hex(#[from] HexError),
    /// `hash` is not the hash of the other members. In a ledger: tampering or corruption.
    #[error("event hash does not match its content")]
    HashMismatch,
    /// `prevHash` is null exactly when `seq` is 0; here it is not.
    #[error("prevHash must be null at seq 0 and only there")]
    Chain,
    /// The row of the stream's dialect cannot be made. The author is at fault.
    #[error("event does not fit the dialect of its stream: {0}")]
    Dialect(String),
    /// `chain.hash` is not the hash of what the dialect binds. In a ledger: tampering.
    #[error("chain hash does not match its content")]
    LinkMismatch,
    /// A format this version does not know.
    #[error("unknown event version")]
    Version,
}

impl EventDraft {
    /// Puts the draft in its place and renders the leaf.
    ///
    /// The first error a caller can meet is [`EventError::TooLarge`]; nothing has happened then.
    pub fn place(&self, place: &Placement<'_>) -> Result<Leaf, EventError> {
        let chain = place.chain.map(|after| Link::new(after, &self.bound(place))).transpose();
        let chain = chain.map_err(|error| EventError::Dialect(error.to_string()))?;
        let mut out = String::with_capacity(384 + self.payload.as_bytes().len());
        self.write_head(&mut out, chain.as_ref());
        let cut = out.len();
        out.push_str(HASH_MEMBER);
        self.write_rest(&mut out, place);
        if out.len() > LEAF_BYTES_MAX {
            return Err(EventError::TooLarge(out.len()));
        }
        let mut bytes = out.into_bytes();
        let (head, member_and_rest) = bytes.split_at_mut(cut);
        let (member, rest) = member_and_rest.split_at_mut(HASH_MEMBER.len());
        let event_hash = Hash::of(&[head, rest]);
        if let Some(digits) = member.get_mut(HASH_DIGITS) {
            digits.copy_from_slice(event_hash.to_hex().as_bytes());
        }
        let leaf_hash = merkle::leaf_hash(&bytes);
        let ts = self.ts.unwrap_or(place.ts);
        Ok(Leaf { bytes, event_hash, leaf_hash, chain, ts })
    }

    fn bound(&self, place: &Placement<'_>) -> Bound<'_> {
        Bound {
            event_type: self.event_type.as_str(),
            actor: self.actor.as_str(),
            payload: self.payload.as_str(),
            ts: self.ts.unwrap_or(place.ts),
        }
    }

    fn write_head(&self, out: &mut String, chain: Option<&Link>) {
        push_all(out, &["{\"actor\":\"", self.actor.as_str(), "\""]);
        if let Some(Link { dialect, hash, previous }) = chain {
            let previous = previous.map_or_else(|| "null".to_owned(), |hash| format!("\"{hash}\""));
            let (dialect, hash) = (dialect.as_str(), hash.to_hex());
            push_all(out, &[",\"chain\":{\"dialect\":\"", dialect, "\",\"hash\":\"", &hash]);
            push_all(out, &["\",\"prevHash\":", &previous, "}"]);
        }
        push_all(out, &[",\"eventType\":\"", self.event_type.as_str(), "\","]);
    }

    fn write_rest(&self, out: &mut String, place: &Placement<'_>) {
        push_all(out, &["\"id\":\"", self.id.as_ref().unwrap_or(place.id).as_str(), "\""]);
        if let Some(id) = &self.manifest_signature_id {
            push_all(out, &[",\"manifestSignatureId\":\"", id.as_str(), "\""]);
        }
        if let Some(metadata) = &self.metadata {
            push_all(out, &[",\"metadata\":", metadata.as_str()]);
        }
        push_all(out, &[",\"payload\":", self.payload.as_str(), ",\"prevHash\":"]);
        match place.prev_hash {
            Some(hash) => push_all(out, &["\"", &hash.to_hex(), "\""]),
            None => out.push_str("null"),
        }
        let ts = self.ts.unwrap_or(place.ts).to_string();
        push_all(
            out,
            &[",\"seq\":", &place.seq.to_string(), ",\"signer_kid\":\"", place.signer_kid.as_str()],
        );
        push_all(out, &["\",\"stream\":\"", self.stream.as_str(), "\",\"ts\":\"", &ts, "\",\"version\":1}"]);
    }
}

/// Room for the `hash` member while the rest is hashed.
const HASH_MEMBER: &str = "\"hash\":\"0000000000000000000000000000000000000000000000000000000000000000\",";
/// Where in [`HASH_MEMBER`] the digits stand.
const HASH_DIGITS: std::ops::Range<usize> = 8..72;

fn push_all(out: &mut String, parts: &[&str]) {
    for part in parts {
        out.push_str(part);
    }
}

/// One event read back from its leaf. Names are checked; payload and metadata stay JSON text.
#[derive(Debug, Clone)]
pub struct AuditEvent<'a> {
    /// Who did it.
    pub actor: &'a str,
    /// Its link in its dialect's chain, if its stream has one.
    pub chain: Option<Link>,
    /// Kind of event.
    pub event_type: &'a str,
    /// The stream link of this event.
    pub hash: Hash,
    /// Its id.
    pub id: &'a str,
    /// Id of the manifest signature it belongs to.
    pub manifest_signature_id: Option<&'a str>,
    /// Canonical JSON text.
    pub metadata: Option<&'a str>,
    /// Canonical JSON text.
    pub payload: &'a str,
    /// The link before it; `None` at `seq` 0.
    pub prev_hash: Option<Hash>,
    /// Position in the stream.
    pub seq: u64,
    /// The ledger key it stands under.
    pub signer_kid: &'a str,
    /// Its chain.
    pub stream: &'a str,
    /// When, by its author or the ledger.
    pub ts: Timestamp,
}

impl<'a> AuditEvent<'a> {
    /// Reads a leaf strictly: canonical form, known members only, `hash` and `chain.hash` recomputed.
    pub fn parse(leaf: &'a [u8]) -> Result<Self, EventError> {
        let (event, member) = Self::read_with_hash_at(leaf)?;
        let head = leaf.get(..member).unwrap_or_default();
        let rest = leaf.get(member + HASH_MEMBER.len()..).unwrap_or_default();
        if Hash::of(&[head, rest]) != event.hash {
            return Err(EventError::HashMismatch);
        }
        if event.chain.is_some_and(|link| !link.holds(&event.bound())) {
            return Err(EventError::LinkMismatch);
        }
        Ok(event)
    }

    fn bound(&self) -> Bound<'_> {
        Bound { event_type: self.event_type, actor: self.actor, payload: self.payload, ts: self.ts }
    }

    /// Reads a leaf strictly but believes its hashes: for leaves this process made or already proved.
    pub fn read(leaf: &'a [u8]) -> Result<Self, EventError> {
        Self::read_with_hash_at(leaf).map(|(event, _)| event)
    }

    /// The event and the offset of its `hash` member.
    fn read_with_hash_at(leaf: &'a [u8]) -> Result<(Self, usize), EventError> {
        if leaf.len() > LEAF_BYTES_MAX {
            return Err(EventError::TooLarge(leaf.len()));
        }
        let mut scratch = String::with_capacity(leaf.len());
        let mut reader = Reader::new(leaf)?;
        let actor = name(&mut reader, "{\"actor\":\"", PrincipalName::check)?;
        let chain = match reader.take(",\"chain\":{\"dialect\":\"") {
            true => Some(link(&mut reader)?),
            false => None,
        };
        let event_type = name(&mut reader, ",\"eventType\":\"", EventType::check)?;
        reader.expect(",")?;
        let member = reader.at();
        reader.expect("\"hash\":\"")?;
        let hash = quoted_hash(&mut reader)?;
        let id = name(&mut reader, ",\"id\":\"", EventId::check)?;
        let manifest_signature_id = match reader.take(",\"manifestSignatureId\":\"") {
            true => Some(name(&mut reader, "", EventId::check)?),
            false => None,
        };
        let metadata = match reader.take(",\"metadata\":") {
            true => Some(object(&mut reader, &mut scratch)?),
            false => None,
        };
        reader.expect(",\"payload\":")?;
        let payload = object(&mut reader, &mut scratch)?;
        reader.expect(",\"prevHash\":")?;
        let prev_hash = hash_or_null(&mut reader)?;
        reader.expect(",\"seq\":")?;
        let seq = reader.natural()?;
        let signer_kid = name(&mut reader, ",\"signer_kid\":\"", Kid::check)?;
        let stream = name(&mut reader, ",\"stream\":\"", StreamName::check)?;
        reader.expect(",\"ts\":\"")?;
        let ts = reader.plain_until_quote()?.parse()?;
        reader.expect("\",\"version\":")?;
        if reader.natural()? != VERSION {
            return Err(EventError::Version);
        }
        reader.expect("}")?;
        reader.expect_end()?;
        if prev_hash.is_none() != (seq == 0) {
            return Err(EventError::Chain);
        }
        let event = Self {
            actor,
            chain,
            event_type,
            hash,
            id,
            manifest_signature_id,
            metadata,
            payload,
            prev_hash,
            seq,
            signer_kid,
            stream,
            ts,
        };
        Ok((event, member))
    }
}

/// Takes `before`, a name that passes `check`, and its closing quote.
fn name<'a>(
    reader: &mut Reader<'a>,
    before: &str,
    check: fn(&str) -> Result<(), NameError>,
) -> Result<&'a str, EventError> {
    reader.expect(before)?;
    let text = reader.plain_until_quote()?;
    reader.expect("\"")?;
    check(text)?;
    Ok(text)
}

fn quoted_hash(reader: &mut Reader<'_>) -> Result<Hash, EventError> {
    let hash = Hash::from_hex(reader.plain_until_quote()?)?;
    reader.expect("\"")?;
    Ok(hash)
}

fn hash_or_null(reader: &mut Reader<'_>) -> Result<Option<Hash>, EventError> {
    if reader.take("null") {
        return Ok(None);
    }
    reader.expect("\"")?;
    quoted_hash(reader).map(Some)
}

/// Takes the rest of `chain`, from the dialect's name on.
fn link(reader: &mut Reader<'_>) -> Result<Link, EventError> {
    let unknown = |_| EventError::Dialect("nobody knows it".to_owned());
    let dialect: Dialect = reader.plain_until_quote()?.parse().map_err(unknown)?;
    reader.expect("\",\"hash\":\"")?;
    let hash = quoted_hash(reader)?;
    reader.expect(",\"prevHash\":")?;
    let previous = hash_or_null(reader)?;
    reader.expect("}")?;
    Ok(Link { dialect, hash, previous })
}

fn object<'a>(reader: &mut Reader<'a>, scratch: &mut String) -> Result<&'a str, EventError> {
    let at = reader.at();
    let text = reader.canonical_value(scratch)?;
    if text.starts_with('{') { Ok(text) } else { Err(CanonicalError { reason: Reason::Syntax, at }.into()) }
}

#[cfg(test)]
mod tests {
    #![expect(
        clippy::unwrap_used,
        clippy::indexing_slicing,
        reason = "a failed unwrap is the test's failure"
    )]
    use super::*;

    fn draft() -> EventDraft {
        EventDraft {
            event_type: "order.paid".parse().unwrap(),
            actor: "spiffe://demo.example/service/orders".parse().unwrap(),
            stream: "orders/eu".parse().unwrap(),
            payload: CanonicalJson::parse(br#"{"total":12.5,"name":"\u00e9\"\n"}"#).unwrap(),
            id: None,
            ts: None,
            manifest_signature_id: Some("m-1".parse().unwrap()),
            metadata: Some(CanonicalJson::parse(br#"{"a":[]}"#).unwrap()),
        }
    }

    fn leaf(seq: u64, prev_hash: Option<Hash>) -> Leaf {
        let id = "e-1".parse().unwrap();
        let kid = "ledger-v1".parse().unwrap();
        let ts = "2026-11-21T03:46:35.120Z".parse().unwrap();
        draft().place(&Placement { id: &id, seq, prev_hash, signer_kid: &kid, ts, chain: None }).unwrap()
    }

    #[test]
    fn a_leaf_is_the_canonical_text_of_its_members_and_reads_back() {
        for (seq, prev) in [(0, None), (7, Some(Hash([9; 32])))] {
            let leaf = leaf(seq, prev);
            let value: serde_json::Value = serde_json::from_slice(leaf.bytes()).unwrap();
            assert_eq!(serde_jcs::to_vec(&value).unwrap(), leaf.bytes());
            let event = AuditEvent::parse(leaf.bytes()).unwrap();
            assert_eq!((event.seq, event.prev_hash, event.hash), (seq, prev, leaf.event_hash()));
            assert_eq!(event.payload, "{\"name\":\"é\\\"\\n\",\"total\":12.5}");
            let mut without = value.clone();
            without.as_object_mut().unwrap().remove("hash");
            assert_eq!(Hash::of(&[&serde_jcs::to_vec(&without).unwrap()]), leaf.event_hash());
        }
    }

    #[test]
    fn every_flipped_bit_of_a_leaf_is_refused() {
        let leaf = leaf(1, Some(Hash([9; 32])));
        for at in 0..leaf.bytes().len() {
            for bit in 0..8 {
                let mut bytes = leaf.bytes().to_vec();
                bytes[at] ^= 1 << bit;
                assert!(AuditEvent::parse(&bytes).is_err(), "byte {at} bit {bit}");
            }
        }
    }

    #[test]
    fn other_spellings_of_the_same_event_are_refused() {
        let leaf = leaf(0, None);
        let text = std::str::from_utf8(leaf.bytes()).unwrap();
        for (from, to) in [
            (",\"id\"", ", \"id\""),
            ("\"seq\":0", "\"seq\":00"),
            ("12.5", "12.50"),
            ("\"version\":1", "\"version\":2"),
            ("{\"a\":[]}", "[]"),
            ("}", "} "),
            ("\"prevHash\":null,", "\"prevHash\":null,\"extra\":1,"),
        ] {
            let other = text.replacen(from, to, 1);
            assert_ne!(other, text);
            assert!(AuditEvent::read(other.as_bytes()).is_err(), "{to}");
        }
    }

    #[test]
    fn too_large_is_refused_before_anything_happens() {
        let mut draft = draft();
        draft.payload =
            CanonicalJson::parse(format!("{{\"a\":\"{}\"}}", "x".repeat(65_500)).as_bytes()).unwrap();
        let id = "e".parse().unwrap();
        let kid = "k".parse().unwrap();
        let ts = Timestamp::from_unix_ms(0).unwrap();
        let place = Placement { id: &id, seq: 0, prev_hash: None, signer_kid: &kid, ts, chain: None };
        assert!(matches!(draft.place(&place), Err(EventError::TooLarge(_))));
    }
}
