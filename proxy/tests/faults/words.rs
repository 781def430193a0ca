//! The words of the table: what is asked, what fails, what is told, what is left.

use chancery_hsm::testing::Fault;
use serde_json::{Value, json};

/// What somebody wants from the service.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Asked {
    /// A signature, released when it is on disk.
    Sign,
    /// A MAC.
    Mac,
    /// An event of the caller's own.
    Append,
    /// A signature, released under a checkpoint.
    Sealed,
    /// A signature, released when it is in the archive.
    Kept,
    /// The daemon's next start, with a key that is new.
    Start,
    /// The daemon's next start, which finds an open intent.
    Recover,
}

/// The call that fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fails {
    /// A commit of the store.
    Store(Write, Side),
    /// The device of the callers' keys, until it is repaired.
    Key(Fault),
    /// The same, one use only.
    KeyOnce(Fault),
    /// The same has one session and one place to wait, and both are taken.
    KeyBusy,
    /// The device of the ledger's key, until it is repaired.
    LedgerKey(Fault),
    /// The first put of such an object.
    Put(Object, How),
    /// Reading back what was put: once, or for wrong bytes until it is repaired.
    Get(How),
    /// The first listing.
    List(How),
    /// The look at the archive before anything else.
    Check(How),
    /// Every call of the archive, until it is repaired.
    Archive,
}

/// Which commit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Write {
    Intent,
    Outcome,
    Event,
    Checkpoint,
    EpochPlan,
    Activation,
    Registry,
    Publication,
    Closing,
}

impl Write {
    /// How many commits come before it, from the moment somebody asks.
    pub(crate) const fn nth(self) -> u32 {
        match self {
            Self::Intent | Self::Event | Self::Activation | Self::Closing => 0,
            Self::Outcome | Self::Registry => 1,
            Self::Checkpoint | Self::Publication => 2,
            Self::EpochPlan => 3,
        }
    }
}

/// Which side of a write is lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Side {
    /// It never happened.
    Before,
    /// It happened, and its success was lost.
    After,
}

/// How an archive fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum How {
    /// Lost, on this side.
    Lost(Side),
    /// No answer until it is repaired.
    Hangs,
    /// It says no.
    Refuses,
    /// Other bytes come back.
    Lies,
}

/// Kinds of archived objects.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Object {
    Tile,
    Bundle,
    Tail,
    Registry,
    RegistryNote,
    Checkpoint,
}

/// What the caller hears.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Told {
    /// 200, or 201 for an event.
    Done,
    /// A problem.
    Problem(u16, &'static str),
    /// The daemon does not start.
    NoStart,
}

/// What becomes of the daemon.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Daemon {
    /// It serves the next request.
    GoesOn,
    /// It accepts nothing more until somebody acts.
    Closes,
    /// It ends, and the next start finds out what is true.
    Stops,
}

/// What the first attempt left on the ledger.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Left {
    Nothing,
    /// The key was used, and this is the signature or MAC.
    Issued,
    /// There is none: code, and whether the key may have been used (empty if either is right).
    Failed(&'static str, &'static str),
    /// The key may have been used, and nobody knows.
    Abandoned,
    Event,
    Activation,
}

/// What the same request under the same key gets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Retry {
    /// A leaf of its own.
    Anew,
    /// What is there; byte for byte what was told, if anything was.
    Same,
}

impl Asked {
    /// Whether it is the daemon's start, and not a request.
    pub(crate) const fn is_start(self) -> bool {
        matches!(self, Self::Start | Self::Recover)
    }

    /// The request: path and body. Each number is another.
    pub(crate) fn request(self, number: u64) -> (&'static str, Value) {
        let sign = |kid: &str| {
            let digest = format!("{number:064x}");
            ("/v1/sign", json!({ "kid": kid, "digest": digest, "digestAlgorithm": "sha256" }))
        };
        match self {
            Self::Sign | Self::Start | Self::Recover => sign("orders"),
            Self::Sealed => sign("sealed"),
            Self::Kept => sign("kept"),
            Self::Mac => ("/v1/mac", json!({ "kid": "tags", "digest": format!("{number:064x}") })),
            Self::Append => ("/v1/events", event(number)),
        }
    }

    /// Words that only the leaves of this request have.
    pub(crate) fn mark(self, number: u64) -> String {
        match self {
            Self::Start => r#""signer_kid":"late-v1""#.to_owned(),
            Self::Append => format!(r#""order":{number}}}"#),
            Self::Mac => {
                let mut message = [0; 32];
                message[24..].copy_from_slice(&number.to_be_bytes());
                chancery_format::Hash::of(&[&message]).to_hex()
            }
            _ => format!("{number:064x}"),
        }
    }

    const fn success(self) -> Left {
        match self {
            Self::Append => Left::Event,
            Self::Start => Left::Activation,
            _ => Left::Issued,
        }
    }
}

/// An event whose payload is its number.
pub(crate) fn event(number: u64) -> Value {
    json!({ "eventType": "order.paid", "payload": { "order": number } })
}

impl Left {
    fn event_type(self) -> Option<&'static str> {
        match self {
            Self::Nothing => None,
            Self::Issued => Some("signing.signature.issued"),
            Self::Failed(..) => Some("signing.signature.failed"),
            Self::Abandoned => Some("signing.signature.abandoned"),
            Self::Event => Some("order.paid"),
            Self::Activation => Some("signer.activated"),
        }
    }

    /// Types of the leaves there must be: what is left, and what the retry got beside it.
    pub(crate) fn leaves(self, retry: Option<Retry>, asked: Asked) -> Vec<&'static str> {
        let anew = (retry == Some(Retry::Anew)).then(|| asked.success());
        [Some(self), anew].into_iter().flatten().filter_map(Self::event_type).collect()
    }
}
