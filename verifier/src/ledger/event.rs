//! One event by itself: its form, its names, and what it says about keys.

use chancery_format::committed::{AnchoredPayload, CheckingPayload, FailedPayload, IssuedPayload};
use chancery_format::entry::{Operation, decode_base64, event_type, is_appliances_type};
use chancery_format::event::EventError;
use chancery_format::governance;
use chancery_format::heads::{EnrolledHeads, HeadName};
use chancery_format::{AuditEvent, Digest, Hash, PublicKey, SignatureAlgorithm, Timestamp, chain};
use serde::Deserialize;

use super::bundle::read_despite_hash;
use super::sight::{Said, Seen};
use crate::findings::{Finding, Kind};
use crate::trust::{SignerId, Trust};

/// What the serial stage needs to know of one entry.
#[derive(Debug)]
#[expect(clippy::large_enum_variant, reason = "nearly every entry is an event: boxing it saves nothing")]
pub(crate) enum EntryFacts {
    /// Not an event; its stream is not known.
    Unreadable,
    /// An event; what the report needs of it, if there is to be one.
    Read(Link, Option<Box<Act>>, Option<Box<Seen>>),
}

/// An event's place in its stream, and the ledger key it stands under.
#[derive(Debug)]
pub(crate) struct Link {
    pub(crate) stream: Box<str>,
    pub(crate) seq: u64,
    pub(crate) prev_hash: Option<Hash>,
    pub(crate) hash: Hash,
    pub(crate) chain: Option<(chain::Link, Timestamp)>,
    /// The keys it tells of.
    pub(crate) keys: Vec<HeadName>,
    /// `None`: not a ledger key of the registry (told already).
    pub(crate) ledger_key: Option<SignerId>,
}

/// What an event means for keys.
#[derive(Debug)]
pub(crate) enum Act {
    Opened,
    Activated(SignerId, Born),
    Retired(SignerId),
    Published { version: u64, sha256: Hash },
    Heads(EnrolledHeads),
    Issued(Vec<Issued>, Asked),
    Anchored,
    Governed(Box<governance::Event>, Timestamp),
}

/// Who used which keys.
#[derive(Debug)]
pub(crate) struct Asked {
    pub(crate) actor: Box<str>,
    pub(crate) kid: Box<str>,
    /// The request for approval that the entry names, and the digest that was signed.
    pub(crate) approval: Option<(Box<str>, Box<str>)>,
}

/// What the ledger tells of a key's birth.
#[derive(Debug, Clone, Default)]
pub(crate) struct Born {
    /// Time of the entry.
    pub(crate) ts: String,
    pub(crate) origin: Option<String>,
    pub(crate) device: Option<String>,
    pub(crate) serial: Option<String>,
    pub(crate) attestation: Attested,
    pub(crate) requested_by: Option<String>,
}

/// Whether a device vouches for the key.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) enum Attested {
    /// There is no attestation.
    #[default]
    No,
    /// There is one, of this key; its chain ended in no root the operator had configured.
    Unanchored,
    /// There is one, of this key, and the daemon checked its chain up to a configured root.
    Anchored,
}

impl Attested {
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::No => "none",
            Self::Unanchored => "unanchored",
            Self::Anchored => "anchored",
        }
    }
}

/// A signature to verify.
#[derive(Debug)]
pub(crate) struct Issued {
    pub(crate) signer: SignerId,
    pub(crate) digest: Digest,
    pub(crate) signature: Signature,
}

/// Its bytes.
#[derive(Debug)]
pub(crate) enum Signature {
    Ed25519([u8; 64]),
    Other(Box<[u8]>),
    /// Over a message of which the ledger keeps the SHA-256: only whoever has the message can verify it.
    OverMessage,
    /// Outsiders cannot verify it.
    Mac,
}

/// Reads one entry and tells what is wrong with it alone.
pub(crate) fn read_entry(
    trust: &Trust,
    index: u64,
    leaf: &[u8],
    is_seen: bool,
    findings: &mut Vec<Finding>,
) -> EntryFacts {
    let before = findings.len();
    let event = match AuditEvent::parse(leaf) {
        Ok(event) => event,
        Err(error @ (EventError::HashMismatch | EventError::LinkMismatch)) => {
            findings.push(Finding::entry(Kind::EventHash, index, error.to_string()));
            match read_despite_hash(leaf) {
                Some(event) => event,
                None => return EntryFacts::Unreadable,
            }
        }
        Err(error) => {
            findings.push(Finding::entry(Kind::LeafInvalid, index, error.to_string()));
            return EntryFacts::Unreadable;
        }
    };
    let mut reader = EventReader { trust, index, event: &event, said: Said::default(), findings };
    let ledger_key = reader.ledger_key();
    reader.check_id();
    let act = if reader.is_in_place() { reader.act() } else { None };
    let (said, sound) = (reader.said, reader.findings.len() == before);
    let seen = is_seen.then(|| Box::new(Seen::of(&event, act.as_ref(), &said, sound)));
    let link = Link {
        stream: event.stream.into(),
        seq: event.seq,
        prev_hash: event.prev_hash,
        hash: event.hash,
        chain: event.chain.map(|link| (link, event.ts)),
        keys: HeadName::keys_of(&event),
        ledger_key,
    };
    EntryFacts::Read(link, act.map(Box::new), seen)
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Opened<'a> {
    format_version: u64,
    origin: &'a str,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Activated<'a> {
    algorithm: &'a str,
    #[serde(default, borrow)]
    birth: Option<Birth<'a>>,
    kid: &'a str,
    #[serde(rename = "public_key_pem")]
    public_key_pem: Option<String>,
    #[serde(default)]
    requested_by: Option<String>,
    #[serde(rename = "signer_kid")]
    signer_kid: &'a str,
}

/// What the device that holds a key said of its birth.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Birth<'a> {
    #[serde(default)]
    attestation: Vec<&'a str>,
    #[serde(default)]
    attestation_anchored: bool,
    #[serde(default)]
    device: Option<String>,
    origin: &'a str,
    #[serde(default)]
    serial: Option<String>,
}

#[derive(Deserialize)]
struct Retired<'a> {
    signer_kid: &'a str,
}

#[derive(Deserialize)]
struct Published<'a> {
    sha256: &'a str,
    version: u64,
}

struct EventReader<'a> {
    trust: &'a Trust,
    index: u64,
    event: &'a AuditEvent<'a>,
    said: Said<'a>,
    findings: &'a mut Vec<Finding>,
}

impl<'a> EventReader<'a> {
    fn tell(&mut self, kind: Kind, message: impl Into<String>) {
        self.findings.push(Finding::entry(kind, self.index, message));
    }

    fn ledger_key(&mut self) -> Option<SignerId> {
        let name = self.event.signer_kid;
        let found = self.trust.find(name).filter(|id| self.trust.signer(*id).is_ledger_key);
        if found.is_none() {
            self.tell(Kind::LedgerKey, format!("{name} is not a ledger key of the registry"));
        }
        found
    }

    /// Ids made from an index name their own; the appliance gives no others to its own events.
    fn check_id(&mut self) {
        let named = self.trust.index_in(self.event.id).map(|index| index.0);
        let must = is_appliances_type(self.event.event_type);
        if named.map_or(must, |named| named != self.index) {
            let message = format!("id {} is not that of index {}", self.event.id, self.index);
            self.tell(Kind::IdMismatch, message);
        }
    }

    /// The appliance's own kinds of event have their own streams and actor; outcomes of key use are in
    /// the caller's.
    fn is_in_place(&mut self) -> bool {
        let fine = self.event.is_in_place();
        if !fine {
            let (kind, stream, actor) = (self.event.event_type, self.event.stream, self.event.actor);
            self.tell(Kind::ReservedEvent, format!("{kind} by {actor} in stream {stream}"));
        }
        fine
    }

    fn act(&mut self) -> Option<Act> {
        match self.event.event_type {
            event_type::ISSUED => {
                let Some(payload) = IssuedPayload::parse(self.event.payload) else {
                    return self.bad_payload();
                };
                let dialect = payload.dialect.and_then(|dialect| dialect_name(dialect.get()));
                self.said = Said { purpose: payload.purpose, dialect, ..Said::default() };
                let rule = payload.policy.get().strip_prefix("{\"rule\":\"approval/");
                let id = rule.and_then(|rest| rest.split_once('"')).map(|(id, _)| id);
                let asked = Asked {
                    actor: self.event.actor.into(),
                    kid: payload.kid.into(),
                    approval: id.map(|id| (id.into(), payload.digest.into())),
                };
                self.issued(&payload).map(|uses| Act::Issued(uses, asked))
            }
            event_type::FAILED | event_type::ABANDONED => {
                let Some(payload) = FailedPayload::parse(self.event.payload) else {
                    return self.bad_payload();
                };
                let signer = self.trust.find(payload.signer_kid);
                self.said = Said { code: Some(payload.code), signer, ..Said::default() };
                None
            }
            event_type::ANCHORED => self.anchored(),
            event_type::CHECKING => {
                let payload: CheckingPayload<'_> = self.payload()?;
                let digest = Digest::parse(payload.digest_algorithm, payload.digest);
                let known = self.signer(payload.signer_kid).is_some();
                if known && digest.is_err() { self.bad_payload() } else { None }
            }
            event_type::OPENED => self.opened(),
            event_type::ACTIVATED => self.activated(),
            event_type::RETIRED => {
                let payload: Retired<'_> = self.payload()?;
                self.signer(payload.signer_kid).map(Act::Retired)
            }
            event_type::HEADS => match EnrolledHeads::parse(self.event.payload) {
                Some(heads) => Some(Act::Heads(heads)),
                None => self.bad_payload(),
            },
            event_type::REGISTRY => {
                let payload: Published<'_> = self.payload()?;
                match Hash::from_hex(payload.sha256) {
                    Ok(sha256) => Some(Act::Published { version: payload.version, sha256 }),
                    Err(_) => self.bad_payload(),
                }
            }
            name => match governance::Event::read(name, self.event.payload)? {
                Ok(event) => Some(Act::Governed(Box::new(event), self.event.ts)),
                Err(_) => self.bad_payload(),
            },
        }
    }

    fn bad_payload<T>(&mut self) -> Option<T> {
        self.tell(Kind::PayloadInvalid, format!("payload is not that of {}", self.event.event_type));
        None
    }

    fn payload<T: Deserialize<'a>>(&mut self) -> Option<T> {
        match serde_json::from_str(self.event.payload) {
            Ok(payload) => Some(payload),
            Err(_) => self.bad_payload(),
        }
    }

    fn signer(&mut self, name: &str) -> Option<SignerId> {
        let found = self.trust.find(name);
        if found.is_none() {
            self.tell(Kind::SignerUnknown, format!("signer {name} is not in the given registry"));
        }
        found
    }

    fn opened(&mut self) -> Option<Act> {
        let payload: Opened<'_> = self.payload()?;
        let fault = if self.index != 0 {
            format!("a second opening, at index {}", self.index)
        } else if payload.origin != self.trust.origin().as_str() {
            format!("opens {}, not {}", payload.origin, self.trust.origin())
        } else if payload.format_version != 1 {
            format!("format version {} is not known", payload.format_version)
        } else {
            return Some(Act::Opened);
        };
        self.tell(Kind::LedgerOpened, fault);
        None
    }

    fn activated(&mut self) -> Option<Act> {
        let payload: Activated<'_> = self.payload()?;
        let id = self.signer(payload.signer_kid)?;
        let signer = self.trust.signer(id);
        let record = &signer.record;
        let name = payload.signer_kid;
        if payload.algorithm != record.algorithm.as_str() {
            self.tell(Kind::SignerMismatch, format!("algorithm of {name} differs from the registry's"));
        }
        if payload.public_key_pem != record.public_key_pem {
            self.tell(Kind::SignerMismatch, format!("public key of {name} differs from the registry's"));
        }
        if record.kid.as_ref().is_some_and(|kid| kid.as_str() != payload.kid) {
            self.tell(Kind::SignerMismatch, format!("kid of {name} differs from the registry's"));
        }
        let born = self.born(payload.birth, payload.requested_by, id);
        Some(Act::Activated(id, born))
    }

    /// An attestation must speak of this very key: its first certificate holds the key's encoding.
    fn born(&mut self, birth: Option<Birth<'_>>, requested_by: Option<String>, id: SignerId) -> Born {
        let ts = self.event.ts.to_string();
        let Some(birth) = birth else { return Born { ts, requested_by, ..Born::default() } };
        let signer = self.trust.signer(id);
        let attestation = birth.attestation.first().map(|certificate| {
            let der = decode_base64(certificate).unwrap_or_default();
            let spki = signer.key.as_ref().map(PublicKey::spki_der).unwrap_or_default();
            !spki.is_empty() && der.windows(spki.len()).any(|window| window == spki)
        });
        if attestation == Some(false) {
            let message = format!("the attestation of {} is not of its key", signer.name());
            self.tell(Kind::SignerMismatch, message);
        }
        let attestation = match (attestation, birth.attestation_anchored) {
            (Some(true), true) => Attested::Anchored,
            (Some(true), false) => Attested::Unanchored,
            _ => Attested::No,
        };
        let origin = birth.origin.to_owned();
        Born {
            ts,
            origin: Some(origin),
            device: birth.device,
            serial: birth.serial,
            attestation,
            requested_by,
        }
    }

    /// A digest whose signature is its place in the tree: the key it names must be one of the registry.
    fn anchored(&mut self) -> Option<Act> {
        let payload: AnchoredPayload<'_> = self.payload()?;
        if Digest::parse(payload.digest_algorithm, payload.digest).is_err() {
            return self.bad_payload();
        }
        if !self.trust.knows_kid(payload.kid) {
            self.tell(Kind::SignerUnknown, format!("key {} is not in the given registry", payload.kid));
        }
        Some(Act::Anchored)
    }

    /// One signature, or two if the key has a co-signer.
    fn issued(&mut self, payload: &IssuedPayload<'_>) -> Option<Vec<Issued>> {
        let (Some(digest), Some(_)) =
            (Digest::recorded(payload.digest_algorithm, payload.digest), payload.rung())
        else {
            return self.bad_payload();
        };
        let Some(signature) = payload.signature_bytes() else { return self.bad_payload() };
        let mut uses = vec![Use {
            kid: payload.kid,
            signer_kid: payload.signer_kid,
            algorithm: payload.algorithm,
            signature,
        }];
        if let Some(second) = &payload.co_signer {
            let Some(signature) = second.signature_bytes() else { return self.bad_payload() };
            let (kid, signer_kid, algorithm) = (second.kid, second.signer_kid, second.algorithm);
            uses.push(Use { kid, signer_kid, algorithm, signature });
        }
        uses.into_iter().map(|one| self.one_issued(payload.operation, digest, one)).collect()
    }

    fn one_issued(&mut self, operation: &str, digest: Digest, one: Use<'_>) -> Option<Issued> {
        let Use { kid, signer_kid, algorithm, signature } = one;
        let id = self.signer(signer_kid)?;
        let record = &self.trust.signer(id).record;
        let does = Operation::parse(operation);
        let does = does.filter(|does| does.is_recorded_of(record.algorithm, &digest));
        let Some(does) = does.filter(|_| algorithm == record.algorithm.as_str()) else {
            self.tell(
                Kind::SignerMismatch,
                format!("{signer_kid} does not do {operation} {algorithm} of {}", digest.algorithm()),
            );
            return None;
        };
        if record.kid.as_ref().is_some_and(|known| known.as_str() != kid) {
            self.tell(Kind::SignerMismatch, format!("{signer_kid} is not a key of {kid}"));
        }
        let signature = match record.algorithm {
            _ if does == Operation::SignMessage => Signature::OverMessage,
            SignatureAlgorithm::Ed25519 => match signature.try_into() {
                Ok(bytes) => Signature::Ed25519(bytes),
                Err(_) => {
                    let message = format!("signature of {signer_kid} does not verify: not 64 bytes");
                    self.tell(Kind::SignatureInvalid, message);
                    return None;
                }
            },
            algorithm if algorithm.is_mac() && algorithm.signature_bytes() != Some(signature.len()) => {
                return self.bad_payload();
            }
            algorithm if algorithm.is_mac() => Signature::Mac,
            _ => Signature::Other(signature.into()),
        };
        Some(Issued { signer: id, digest, signature })
    }
}

/// The name in a payload's `dialect`.
fn dialect_name(json: &str) -> Option<&str> {
    #[derive(Deserialize)]
    struct Dialect<'a> {
        name: &'a str,
    }
    serde_json::from_str::<Dialect<'_>>(json).ok().map(|dialect| dialect.name)
}

/// One key use of a leaf.
struct Use<'a> {
    kid: &'a str,
    signer_kid: &'a str,
    algorithm: &'a str,
    signature: Vec<u8>,
}
