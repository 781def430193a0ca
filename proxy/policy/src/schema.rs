//! The embedded schema, parsed once, and the Cedar names of its entity types.

use std::str::FromStr;
use std::sync::LazyLock;

use cedar_policy::{EntityId, EntityTypeName, EntityUid, Schema};

/// The schema's text, for whoever wants to show it or hand it to Cedar's own tools.
pub const SCHEMA: &str = include_str!("chancery.cedarschema");

/// Name of the one entity of type `Appliance`.
pub(crate) const APPLIANCE: &str = "chancery";

/// The schema, parsed.
pub(crate) fn schema() -> &'static Schema {
    static PARSED: LazyLock<Schema> = LazyLock::new(|| {
        let (schema, _warnings) =
            Schema::from_cedarschema_str(SCHEMA).expect("the embedded schema is tested to parse");
        schema
    });
    &PARSED
}

/// Entity types of the schema, and `Action`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Kind {
    Service,
    Person,
    Group,
    Role,
    Key,
    Stream,
    Appliance,
    Action,
}

impl Kind {
    const ALL: [Self; 8] = [
        Self::Service,
        Self::Person,
        Self::Group,
        Self::Role,
        Self::Key,
        Self::Stream,
        Self::Appliance,
        Self::Action,
    ];

    /// The word in policies.
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Service => "Service",
            Self::Person => "Person",
            Self::Group => "Group",
            Self::Role => "Role",
            Self::Key => "Key",
            Self::Stream => "Stream",
            Self::Appliance => "Appliance",
            Self::Action => "Action",
        }
    }

    /// The kind a word names; `None` for a type that is not in the schema.
    pub(crate) fn of(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.as_str() == word)
    }

    /// Cedar's name of the entity `id` of this type.
    pub(crate) fn uid(self, id: &str) -> EntityUid {
        EntityUid::from_type_name_and_id(self.type_name(), EntityId::new(id))
    }

    fn type_name(self) -> EntityTypeName {
        static NAMES: LazyLock<[EntityTypeName; 8]> = LazyLock::new(|| {
            Kind::ALL.map(|kind| {
                EntityTypeName::from_str(kind.as_str()).expect("every kind is a plain identifier")
            })
        });
        let [service, person, group, role, key, stream, appliance, action] = &*NAMES;
        match self {
            Self::Service => service,
            Self::Person => person,
            Self::Group => group,
            Self::Role => role,
            Self::Key => key,
            Self::Stream => stream,
            Self::Appliance => appliance,
            Self::Action => action,
        }
        .clone()
    }
}
