//! The environment variables of the contract: which exist, how they are read.

use std::collections::BTreeMap;

/// Where the daemon runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Environment {
    /// Software keys and folders as archives are allowed.
    Development,
    /// Every guard is on.
    Production,
}

impl Environment {
    /// The word in configuration.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Development => "development",
            Self::Production => "production",
        }
    }
}

/// The variables of this process, or a test's.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Variables(BTreeMap<String, String>);

/// Every variable that is looked at.
const NAMES: [&str; 10] = [
    "NODE_ENV",
    "CHANCERY_ENV",
    "REQUIRE_MTLS",
    "DEV_SKIP_MTLS",
    "REQUIRE_KMS",
    "DEV_ALLOW_EPHEMERAL",
    "AUDIT_SIGNING_KMS_KEY_ID",
    "MANIFEST_SIGNING_KMS_KEY_ID",
    "AUDIT_SIGNER_KID",
    "CHANCERY_ENABLE",
];

impl Variables {
    /// Those of this process. One that is not Unicode counts as set to `?`.
    pub fn of_process() -> Self {
        let read = |name: &str| {
            std::env::var_os(name)
                .map(|value| (name.to_owned(), value.into_string().unwrap_or_else(|_| "?".into())))
        };
        Self(NAMES.iter().filter_map(|name| read(name)).collect())
    }

    /// Those given, for tests.
    pub fn of(pairs: &[(&str, &str)]) -> Self {
        Self(pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect())
    }

    /// The text of a variable; empty counts as not set.
    pub fn text(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(|value| value.trim()).filter(|value| !value.is_empty())
    }

    /// A yes-or-no variable; `None` if it is not set. Anything but a yes is a no.
    pub fn flag(&self, name: &str) -> Option<bool> {
        self.text(name).map(truthy)
    }

    /// Whether `CHANCERY_ENV` or `NODE_ENV` says production.
    pub fn says_production(&self) -> bool {
        ["CHANCERY_ENV", "NODE_ENV"]
            .into_iter()
            .any(|name| self.text(name).is_some_and(|value| value.eq_ignore_ascii_case("production")))
    }

    /// Whether `CHANCERY_ENABLE` halts: it is set, and not to a yes. A typing error halts.
    pub fn halts(&self) -> bool {
        self.flag("CHANCERY_ENABLE") == Some(false)
    }
}

/// `true`, `1`, `yes`, `y`, `on`, in any case.
pub fn truthy(text: &str) -> bool {
    ["true", "1", "yes", "y", "on"].iter().any(|yes| text.trim().eq_ignore_ascii_case(yes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn yes_has_five_spellings_in_any_case() {
        for yes in ["true", "TRUE", "1", "yes", "Yes", "y", "Y", "on", "ON", " on "] {
            assert!(truthy(yes), "{yes}");
        }
        for no in ["false", "0", "no", "off", "2", "", "tru", "enabled"] {
            assert!(!truthy(no), "{no}");
        }
    }

    #[test]
    fn the_kill_switch_reads_doubt_as_halt() {
        for (value, halts) in [
            ("off", true),
            ("OFF", true),
            ("0", true),
            ("onn", true),
            ("on", false),
            ("1", false),
            ("", false),
        ] {
            assert_eq!(Variables::of(&[("CHANCERY_ENABLE", value)]).halts(), halts, "{value:?}");
        }
        assert!(!Variables::default().halts());
    }

    #[test]
    fn either_variable_says_production() {
        assert!(Variables::of(&[("NODE_ENV", "Production")]).says_production());
        assert!(Variables::of(&[("CHANCERY_ENV", "production"), ("NODE_ENV", "test")]).says_production());
        assert!(!Variables::of(&[("CHANCERY_ENV", "prod")]).says_production());
    }
}
