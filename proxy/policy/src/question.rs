//! Who wants to do what to what, and when: all a decision depends on beside the policies.

use std::collections::HashMap;
use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;
use std::sync::Arc;

use cedar_policy::{Entity, EntityUid, RestrictedExpression};
use chancery_format::{Kid, PrincipalName, SignatureAlgorithm, StreamName};

use crate::schema::{APPLIANCE, Kind};

macro_rules! acts {
    ($($(#[$doc:meta])* $act:ident = $word:literal;)*) => {
        /// What can be asked for: the actions of the schema.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum Act {
            $($(#[$doc])* $act,)*
        }

        impl Act {
            /// Every act.
            pub const ALL: &[Self] = &[$(Self::$act),*];

            /// The word in policies and cases.
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$act => $word,)* }
            }
        }
    };
}

acts! {
    /// A service signs with a key.
    Sign = "sign";
    /// A service anchors a digest in a key's name.
    Anchor = "anchor";
    /// A service makes or checks a message authentication code.
    Mac = "mac";
    /// A service verifies a signature.
    Verify = "verify";
    /// A service appends an event to a stream.
    Append = "append";
    /// A service reads a stream.
    Read = "read";
    /// A service lists keys.
    ListKeys = "list-keys";
    /// A person halts the appliance or a key.
    Halt = "halt";
    /// A person lets the appliance or a key go on.
    Resume = "resume";
    /// A person gives a key a new key pair.
    RotateKey = "rotate-key";
    /// A person ends a key's use.
    RetireKey = "retire-key";
    /// A person declares a key compromised.
    CompromiseKey = "compromise-key";
    /// A person says yes to what another asked for.
    Approve = "approve";
    /// A person says no to what another asked for.
    Reject = "reject";
    /// A person reads the audit ledger.
    ReadAudit = "read-audit";
    /// A person reads the appliance's state.
    ReadStatus = "read-status";
    /// A person puts new policies in force.
    ReloadPolicy = "reload-policy";
    /// A person has the archive given back what it lacks.
    RepairArchive = "repair-archive";
    /// A person puts a stream under a legal hold.
    PlaceHold = "place-hold";
    /// A person lifts a legal hold.
    ReleaseHold = "release-hold";
}

impl fmt::Display for Act {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The text names no act. Whoever wrote it is at fault.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("unknown act {0:?}")]
pub struct UnknownAct(String);

impl FromStr for Act {
    type Err = UnknownAct;
    fn from_str(text: &str) -> Result<Self, UnknownAct> {
        Self::ALL.iter().copied().find(|act| act.as_str() == text).ok_or_else(|| UnknownAct(text.to_owned()))
    }
}

/// Who asks. The caller has authenticated them; names are compared byte by byte.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Who {
    /// A workload.
    Service {
        /// Its name.
        name: PrincipalName,
        /// Groups it is in, by the configuration.
        groups: Vec<String>,
    },
    /// A human being.
    Person {
        /// Their name.
        name: PrincipalName,
        /// Roles they hold now.
        roles: Vec<String>,
    },
}

impl Who {
    pub(crate) fn kind(&self) -> Kind {
        match self {
            Self::Service { .. } => Kind::Service,
            Self::Person { .. } => Kind::Person,
        }
    }

    pub(crate) fn name(&self) -> &str {
        match self {
            Self::Service { name, .. } | Self::Person { name, .. } => name.as_str(),
        }
    }

    /// Kind and names of what it is a member of.
    pub(crate) fn parents(&self) -> (Kind, &[String]) {
        match self {
            Self::Service { groups, .. } => (Kind::Group, groups),
            Self::Person { roles, .. } => (Kind::Role, roles),
        }
    }

    /// Whether it is the named entity or a member of it.
    pub(crate) fn is_in(&self, kind: Kind, id: &str) -> bool {
        let (parent, names) = self.parents();
        (self.kind() == kind && self.name() == id) || (parent == kind && names.iter().any(|name| name == id))
    }
}

/// What policies may know of a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyFacts {
    /// What it signs with.
    pub algorithm: SignatureAlgorithm,
    /// What the operator says it is for.
    pub purpose: String,
    /// Where it lives.
    pub backend: String,
    /// Whether it signs checkpoints.
    pub is_ledger_key: bool,
}

/// A key, made ready for Cedar once so that no decision has to.
#[derive(Debug, Clone)]
pub struct Key {
    kid: Kid,
    facts: KeyFacts,
    entity: Entity,
}

impl Key {
    /// Makes a key ready.
    pub fn new(kid: Kid, facts: KeyFacts) -> Self {
        let text = |value: &str| RestrictedExpression::new_string(value.to_owned());
        let attributes = HashMap::from([
            ("algorithm".to_owned(), text(facts.algorithm.as_str())),
            ("purpose".to_owned(), text(&facts.purpose)),
            ("backend".to_owned(), text(&facts.backend)),
            ("isLedgerKey".to_owned(), RestrictedExpression::new_bool(facts.is_ledger_key)),
        ]);
        let entity = Entity::new(Kind::Key.uid(kid.as_str()), attributes, [].into())
            .expect("texts and truth values evaluate to themselves");
        Self { kid, facts, entity }
    }

    /// Its name.
    pub const fn kid(&self) -> &Kid {
        &self.kid
    }

    /// What policies may know of it.
    pub const fn facts(&self) -> &KeyFacts {
        &self.facts
    }

    pub(crate) const fn entity(&self) -> &Entity {
        &self.entity
    }
}

/// All keys there are, made ready. Replaced whole when a key is added or retired.
#[derive(Debug, Clone, Default)]
pub struct World {
    keys: HashMap<Kid, Arc<Key>>,
}

impl World {
    /// Makes every key ready. Of two with one name the later stands.
    pub fn new(keys: impl IntoIterator<Item = (Kid, KeyFacts)>) -> Self {
        let keys = keys.into_iter().map(|(kid, facts)| (kid.clone(), Arc::new(Key::new(kid, facts))));
        Self { keys: keys.collect() }
    }

    /// A key by its name; `None` when there is none, about which no policy can be asked.
    pub fn key(&self, kid: &Kid) -> Option<Arc<Key>> {
        self.keys.get(kid).map(Arc::clone)
    }
}

/// What it is done to.
#[derive(Debug, Clone)]
pub enum What {
    /// A key.
    Key(Arc<Key>),
    /// A stream.
    Stream(StreamName),
    /// The appliance as a whole.
    Appliance,
}

impl What {
    pub(crate) fn kind(&self) -> Kind {
        match self {
            Self::Key(_) => Kind::Key,
            Self::Stream(_) => Kind::Stream,
            Self::Appliance => Kind::Appliance,
        }
    }

    pub(crate) fn name(&self) -> &str {
        match self {
            Self::Key(key) => key.kid.as_str(),
            Self::Stream(stream) => stream.as_str(),
            Self::Appliance => APPLIANCE,
        }
    }

    pub(crate) fn uid(&self) -> EntityUid {
        match self {
            Self::Key(key) => key.entity.uid(),
            Self::Stream(_) | Self::Appliance => self.kind().uid(self.name()),
        }
    }
}

/// A time as policies see it, in UTC. The caller has the clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Moment {
    hour: u8,
    weekday: u8,
}

impl Moment {
    /// `hour` is 0 to 23, `weekday` 1 (Monday) to 7 (Sunday); `None` outside.
    pub fn new(hour: u8, weekday: u8) -> Option<Self> {
        (hour < 24 && (1..=7).contains(&weekday)).then_some(Self { hour, weekday })
    }

    /// The moment `seconds` after 1970-01-01T00:00:00Z, leap seconds not counted.
    ///
    /// ```
    /// use chancery_policy::Moment;
    /// assert_eq!(Moment::from_unix_seconds(0), Moment::new(0, 4).expect("a Thursday"));
    /// assert_eq!(Moment::from_unix_seconds(1_767_225_600 + 3_600), Moment::new(1, 4).expect("2026-01-01"));
    /// ```
    pub const fn from_unix_seconds(seconds: u64) -> Self {
        const THURSDAY: u64 = 3;
        let hour = (seconds / 3_600) % 24;
        let weekday = (seconds / 86_400 + THURSDAY) % 7 + 1;
        Self { hour: hour as u8, weekday: weekday as u8 }
    }

    /// Hour of the day, 0 to 23.
    pub const fn hour(self) -> u8 {
        self.hour
    }

    /// Day of the week, 1 is Monday and 7 is Sunday.
    pub const fn weekday(self) -> u8 {
        self.weekday
    }
}

/// What else policies may look at: the context of the schema.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Circumstances {
    /// When.
    pub moment: Moment,
    /// Name of the environment the daemon runs in.
    pub environment: String,
    /// Address the request came from, when known.
    pub source: Option<IpAddr>,
    /// What the caller says it is for.
    pub purpose: Option<String>,
    /// Which surface the request came through.
    pub dialect: Option<String>,
    /// Which algorithm the caller asked for.
    pub algorithm: Option<String>,
    /// Which stream the outcome is written to.
    pub stream: Option<String>,
}

/// One question to a policy set.
#[derive(Debug, Clone)]
pub struct Question {
    /// Who asks.
    pub who: Who,
    /// To do what.
    pub act: Act,
    /// To what.
    pub what: What,
    /// Under which circumstances.
    pub circumstances: Circumstances,
}

impl Question {
    /// Whether the schema has this act for this kind of principal on this kind of resource. A question
    /// that does not fit is denied whatever the policies say.
    pub fn fits(&self) -> bool {
        let kinds: &[Kind] = match self.act {
            Act::Sign | Act::Anchor | Act::Mac | Act::Verify => &[Kind::Service, Kind::Key],
            Act::Append | Act::Read => &[Kind::Service, Kind::Stream],
            Act::ListKeys => &[Kind::Service, Kind::Appliance],
            Act::Halt | Act::Resume => &[Kind::Person, Kind::Appliance, Kind::Key],
            Act::RotateKey | Act::RetireKey | Act::CompromiseKey => &[Kind::Person, Kind::Key],
            Act::Approve
            | Act::Reject
            | Act::ReadAudit
            | Act::ReadStatus
            | Act::ReloadPolicy
            | Act::RepairArchive => &[Kind::Person, Kind::Appliance],
            Act::PlaceHold | Act::ReleaseHold => &[Kind::Person, Kind::Stream],
        };
        kinds.contains(&self.who.kind()) && kinds.contains(&self.what.kind())
    }
}

impl fmt::Display for Question {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (parent, names) = self.who.parents();
        write!(f, "{} {}", self.who.kind().as_str(), self.who.name())?;
        if !names.is_empty() {
            write!(f, " ({} {})", parent.as_str(), names.join(", "))?;
        }
        write!(f, " to {} {} {}", self.act, self.what.kind().as_str(), self.what.name())
    }
}
