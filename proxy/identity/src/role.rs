//! What a person may be, and which claim values say so.
//!
//! Promises: a value means a role only if it is a role's name, an alias whose meaning nobody doubts, or what
//! the operator mapped, as a whole; never by a part of it ("developer" holds "op" and is no operator). Anything
//! else means nothing.

use std::collections::BTreeMap;
use std::fmt;

/// What a person may be. What each may do is admission's to say.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Role {
    /// Everything, alone where others need a second.
    Superadmin,
    /// Keys and policies.
    SecurityEngineer,
    /// The running service.
    Operator,
    /// The second person.
    Approver,
    /// Reads, changes nothing.
    Auditor,
}

/// Names used by existing systems, as [`plain`] writes them. Not among them, for they mean different things in
/// different places: `admin` (of what?), `division-lead`, `finance-lead`, `*-admin` of other services. Whoever
/// means one of ours by them says so in the configuration.
const ALIASES: [(&str, Role); 4] = [
    ("kerneladmin", Role::SecurityEngineer),
    ("kernelapprover", Role::Approver),
    ("policyapprover", Role::Approver),
    ("readonlyauditor", Role::Auditor),
];

impl Role {
    /// All of them.
    pub const ALL: [Self; 5] =
        [Self::Superadmin, Self::SecurityEngineer, Self::Operator, Self::Approver, Self::Auditor];

    /// Its name in configuration, leaves and logs.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Superadmin => "superadmin",
            Self::SecurityEngineer => "security-engineer",
            Self::Operator => "operator",
            Self::Approver => "approver",
            Self::Auditor => "auditor",
        }
    }

    /// The role that `text` names: its own name or a built-in alias, whatever the case, with or without `_`,
    /// `-` and spaces.
    pub fn parse(text: &str) -> Option<Self> {
        let text = plain(text);
        let named = Self::ALL.into_iter().find(|role| plain(role.as_str()) == text);
        named.or_else(|| ALIASES.iter().find(|(alias, _)| *alias == text).map(|(_, role)| *role))
    }

    /// The role a claim's value gives: by the operator's map, exactly as written there; else by
    /// [`Role::parse`].
    pub(crate) fn of_claim(value: &str, map: &BTreeMap<String, Self>) -> Option<Self> {
        map.get(value).copied().or_else(|| Self::parse(value))
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// In lower case, without separators.
fn plain(text: &str) -> String {
    let kept = text.chars().filter(|letter| !matches!(letter, '_' | '-' | ' '));
    kept.map(|letter| letter.to_ascii_lowercase()).collect()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::Role;

    #[test]
    fn names_are_read_in_any_spelling_and_only_whole() {
        for (text, role) in [
            ("SuperAdmin", Role::Superadmin),
            ("super_admin", Role::Superadmin),
            ("SecurityEngineer", Role::SecurityEngineer),
            ("security engineer", Role::SecurityEngineer),
            ("OPERATOR", Role::Operator),
            ("approver", Role::Approver),
            ("Auditor", Role::Auditor),
            ("kernel-admin", Role::SecurityEngineer),
            ("kernel-approver", Role::Approver),
            ("policy_approver", Role::Approver),
            ("ReadOnlyAuditor", Role::Auditor),
        ] {
            assert_eq!(Role::parse(text), Some(role), "{text}");
        }
        for text in [
            "",
            "admin",
            "developer",
            "DivisionLead",
            "eval-admin",
            "operators",
            "co-operator",
            "auditor ,superadmin",
            "ſuperadmin",
            "opеrator",
        ] {
            assert_eq!(Role::parse(text), None, "{text}");
        }
    }

    #[test]
    fn the_operators_map_decides_first_and_exactly() {
        let map =
            BTreeMap::from([("admin".to_owned(), Role::Superadmin), ("operator".to_owned(), Role::Auditor)]);
        assert_eq!(Role::of_claim("admin", &map), Some(Role::Superadmin));
        assert_eq!(Role::of_claim("Admin", &map), None);
        assert_eq!(Role::of_claim("operator", &map), Some(Role::Auditor));
        assert_eq!(Role::of_claim("Operator", &map), Some(Role::Operator));
    }

    #[test]
    fn every_name_reads_back() {
        for role in Role::ALL {
            assert_eq!(Role::parse(&role.to_string()), Some(role));
        }
    }
}
