//! A person whose token was verified.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use chancery_format::{Hash, PrincipalName};

use crate::percent;
use crate::role::Role;

/// A person, as of one token. Made only by [`crate::Provider::verify`]; whoever holds one need not check again,
/// except that time passes: see [`Person::expires`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Person {
    pub(crate) issuer: String,
    pub(crate) subject: String,
    pub(crate) name: PrincipalName,
    pub(crate) display: Option<String>,
    pub(crate) roles: BTreeSet<Role>,
    pub(crate) expires: u64,
    pub(crate) token_sha256: Hash,
}

impl Person {
    /// The provider that vouches, as configured.
    pub fn issuer(&self) -> &str {
        &self.issuer
    }

    /// The provider's name for the person: never given to another person, and the only one to be relied on.
    pub fn subject(&self) -> &str {
        &self.subject
    }

    /// What is recorded: `oidc:login.example/alice`. The issuer without its scheme, then the subject; in it
    /// everything but letters, digits and `-._~` is percent-encoded, so that two people never share a name. A
    /// subject too long for a principal's name is recorded as `sha256:` and the hash of it, in hexadecimal.
    pub fn name(&self) -> &PrincipalName {
        &self.name
    }

    /// `preferred_username` or `email`, for people who read logs. People choose it themselves and it changes
    /// hands: nothing may be decided by it.
    pub fn display(&self) -> Option<&str> {
        self.display.as_deref()
    }

    /// What the person may be; empty if the token names no role.
    pub const fn roles(&self) -> &BTreeSet<Role> {
        &self.roles
    }

    /// Second since 1970 (UTC) from which the token is no longer valid, the allowed clock skew not counted.
    pub const fn expires(&self) -> u64 {
        self.expires
    }

    /// SHA-256 of the token: it ties a record to the token without being one.
    pub const fn token_sha256(&self) -> &Hash {
        &self.token_sha256
    }
}

/// See [`Person::name`]. `None` only if the issuer is longer than a configured one can be.
pub(crate) fn principal_name(issuer: &str, subject: &str) -> Option<PrincipalName> {
    let issuer = issuer_part(issuer);
    let spelt = format!("oidc:{issuer}/{}", percent::encode(subject));
    let hashed = || format!("oidc:{issuer}/sha256:{}", Hash::of(&[subject.as_bytes()]).to_hex());
    spelt.parse().ok().or_else(|| hashed().parse().ok())
}

/// The issuer without its scheme and its last slash; what cannot stand in a name is percent-encoded.
fn issuer_part(issuer: &str) -> String {
    let rest = issuer.split_once("://").map_or(issuer, |(_, rest)| rest);
    let mut part = String::with_capacity(rest.len());
    for byte in rest.trim_end_matches('/').bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~:/[]%".contains(&byte) {
            part.push(char::from(byte));
        } else {
            // Writing to a String cannot fail.
            let _ = write!(part, "%{byte:02X}");
        }
    }
    part
}

#[cfg(test)]
mod tests {
    use super::principal_name;
    use crate::limits;

    fn name(issuer: &str, subject: &str) -> String {
        principal_name(issuer, subject).map(|name| name.as_str().to_owned()).unwrap_or_default()
    }

    #[test]
    fn a_name_is_the_issuer_and_the_subject_and_no_other_pair_has_it() {
        for (issuer, subject, expected) in [
            ("https://login.example", "alice", "oidc:login.example/alice"),
            ("https://login.example/", "alice", "oidc:login.example/alice"),
            ("https://kc.example:8443/realms/a", "f3-9", "oidc:kc.example:8443/realms/a/f3-9"),
            ("https://login.example", "a/alice", "oidc:login.example/a%2Falice"),
            ("https://login.example", "auth0|7 \"ü\n", "oidc:login.example/auth0%7C7%20%22%C3%BC%0A"),
        ] {
            assert_eq!(name(issuer, subject), expected);
        }
        assert_ne!(name("https://x.example/a", "b"), name("https://x.example", "a/b"));
    }

    #[test]
    fn the_longest_subject_of_the_longest_issuer_has_a_name() {
        let issuer = format!("https://{}", "i".repeat(limits::ISSUER_CHARS_MAX - 8));
        let long = name(&issuer, &"ü".repeat(127));
        assert!(long.starts_with("oidc:iii") && long.contains("/sha256:"), "{long}");
        assert_ne!(long, name(&issuer, &"ä".repeat(127)));
        // No subject can spell such a name: its colon would be encoded.
        let hash = long.rsplit('/').next().unwrap_or_default();
        assert_ne!(name(&issuer, hash), long);
    }
}
