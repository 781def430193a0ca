//! Who may do what: the operator's grants, compiled, immutable and hashed.
//!
//! Deny by default. Keys are granted by exact name. Streams are granted by exact name, by `prefix/*`
//! (everything below the prefix) or by `*` (everything); a star anywhere else is refused when the policy
//! is compiled, and the text a caller sends is only ever compared, never taken as a pattern. A policy is
//! swapped whole; its hash stands in every outcome it allowed.

use std::collections::HashMap;
use std::str::FromStr;
use std::sync::Arc;

use chancery_format::canonical::CanonicalJson;
use chancery_format::{Hash, Kid, PrincipalName, StreamName};

use crate::admission::rate_limit::{Bucket, Rate};
pub use crate::admission::stream_pattern::StreamPattern;
use crate::config::ChainConfig;
use crate::dialects::Dialect;

/// What a principal may be granted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Operation {
    /// Sign digests: `POST /v1/sign`, `/v1/sign/batch`.
    Sign,
    /// Verify signatures: `POST /v1/verify`.
    Verify,
    /// Make and check message authentication codes: `POST /v1/mac`, `/v1/mac/verify`.
    Mac,
    /// Append events: `POST /v1/events`, `/v1/events/batch`.
    Events,
    /// Read receipts, events, streams and the log's tiles.
    Read,
    /// Read the list of keys and `signers.json`.
    Keys,
}

impl Operation {
    /// Every operation.
    pub const ALL: [Self; 6] = [Self::Sign, Self::Verify, Self::Mac, Self::Events, Self::Read, Self::Keys];

    /// The word in configuration and problems.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Sign => "sign",
            Self::Verify => "verify",
            Self::Mac => "mac",
            Self::Events => "events",
            Self::Read => "read",
            Self::Keys => "keys",
        }
    }
}

/// The text names no operation. The operator is at fault.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("unknown operation {0:?}; one of sign, verify, mac, events, read, keys")]
pub struct UnknownOperation(String);

impl FromStr for Operation {
    type Err = UnknownOperation;
    fn from_str(text: &str) -> Result<Self, UnknownOperation> {
        Self::ALL.into_iter().find(|op| op.as_str() == text).ok_or_else(|| UnknownOperation(text.to_owned()))
    }
}

/// Why a policy does not compile. The operator is at fault; the policy in force stays.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PolicyError {
    /// A stream pattern is no name and no allowed pattern.
    #[error("stream {pattern:?}: {reason}")]
    StreamPattern {
        /// What was written.
        pattern: String,
        /// The rule it breaks.
        reason: String,
    },
    /// The appliance's own name cannot be granted to anybody.
    #[error("principal {0:?} is the appliance's own name")]
    ReservedPrincipal(PrincipalName),
    /// One principal is written down twice, so that two rules would compete.
    #[error("principal {0:?} occurs twice")]
    DuplicatePrincipal(PrincipalName),
}

/// One principal as the operator wrote it down, parsed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Grant {
    /// Whom it is for.
    pub principal: PrincipalName,
    /// Keys it may use, exactly.
    pub kids: Vec<Kid>,
    /// What it may do.
    pub operations: Vec<Operation>,
    /// Streams it may write and read, beside its own.
    pub streams: Vec<StreamPattern>,
    /// Whether it may read payloads written by others.
    pub read_payloads: bool,
    /// How often it may ask.
    pub rate: Rate,
    /// Groups it is in, for policies.
    pub groups: Vec<String>,
    /// Signatures and MACs it may ask for in one UTC day; `None`: as many as its rate allows.
    pub daily_quota: Option<u64>,
    /// The languages it may speak.
    pub dialects: Vec<Dialect>,
    /// The key it means where it names none; `None`: the only one it was granted, if there is only one.
    pub default_kid: Option<Kid>,
}

/// One principal's compiled grants.
#[derive(Debug)]
pub struct Grants {
    principal: PrincipalName,
    own_stream: StreamName,
    rule: String,
    policy: Hash,
    kids: Box<[Kid]>,
    operations: u8,
    streams: Box<[StreamPattern]>,
    read_payloads: bool,
    groups: Box<[String]>,
    bucket: Arc<Bucket>,
    dialects: Box<[Dialect]>,
    default_kid: Option<Kid>,
}

impl Grants {
    /// What one approved act allows one person: to use one key, once. Never part of a policy.
    pub fn of_one_act(
        principal: PrincipalName,
        kid: &Kid,
        rule: String,
        act: Hash,
    ) -> Result<Self, PolicyError> {
        let grant = Grant {
            principal,
            kids: vec![kid.clone()],
            operations: vec![Operation::Sign],
            streams: Vec::new(),
            read_payloads: false,
            rate: Rate { per_second: 1, burst: 1 },
            groups: Vec::new(),
            daily_quota: None,
            dialects: vec![Dialect::Native],
            default_kid: None,
        };
        compile_one(&grant, rule, act, None)
    }

    /// What a chain's configuration allows its writer: to have its rows signed. Never part of a policy.
    pub(crate) fn of_chain(chain: &ChainConfig, policy: Hash) -> Result<Self, PolicyError> {
        let rule = format!("chain {}", chain.stream);
        Self::of_one_act(chain.principal.clone(), &chain.kid, rule, policy)
    }

    /// Whom they are for.
    pub const fn principal(&self) -> &PrincipalName {
        &self.principal
    }

    /// The stream named like the principal: the default for what it writes.
    pub const fn own_stream(&self) -> &StreamName {
        &self.own_stream
    }

    /// Name of the rule, as recorded with what it allowed.
    pub fn rule(&self) -> &str {
        &self.rule
    }

    /// Hash of the policy the grants are from.
    pub const fn policy(&self) -> Hash {
        self.policy
    }

    /// Whether the operation is granted.
    pub const fn allows(&self, operation: Operation) -> bool {
        self.operations & bit(operation) != 0
    }

    /// Whether the key is granted.
    pub fn allows_kid(&self, kid: &Kid) -> bool {
        self.kids.contains(kid)
    }

    /// Whether the stream may be written and read. A principal's own always may.
    pub fn allows_stream(&self, stream: &str) -> bool {
        self.own_stream.as_str() == stream || self.streams.iter().any(|pattern| pattern.covers(stream))
    }

    /// Whether payloads written by others may be read.
    pub const fn reads_payloads(&self) -> bool {
        self.read_payloads
    }

    /// Groups the principal is in.
    pub fn groups(&self) -> &[String] {
        &self.groups
    }

    /// Keys it may use.
    pub fn kids(&self) -> &[Kid] {
        &self.kids
    }

    /// Whether it may speak this language.
    pub fn speaks(&self, dialect: Dialect) -> bool {
        self.dialects.contains(&dialect)
    }

    /// The key it means where it names none.
    pub fn default_kid(&self) -> Option<&Kid> {
        match (&self.default_kid, &*self.kids) {
            (Some(kid), _) => Some(kid),
            (None, [only]) => Some(only),
            (None, _) => None,
        }
    }

    /// The principal's rate.
    pub fn bucket(&self) -> &Bucket {
        &self.bucket
    }
}

/// All grants: immutable, swapped whole.
#[derive(Debug)]
pub struct Policy {
    canonical: CanonicalJson,
    sha256: Hash,
    grants: HashMap<PrincipalName, Arc<Grants>>,
}

impl Policy {
    /// Compiles grants; says everything that is wrong. Buckets of principals whose rate did not change
    /// are taken over from the policy before, so a reload gives nobody a fresh burst.
    pub fn compile(grants: &[Grant], before: Option<&Self>) -> Result<Self, Vec<PolicyError>> {
        let canonical = canonical(grants);
        let sha256 = Hash::of(&[canonical.as_bytes()]);
        let mut compiled = HashMap::with_capacity(grants.len());
        let mut errors = Vec::new();
        for (position, grant) in grants.iter().enumerate() {
            let name = &grant.principal;
            if *name == PrincipalName::appliance() {
                errors.push(PolicyError::ReservedPrincipal(name.clone()));
            }
            match compile_one(grant, format!("principals[{position}]"), sha256, before) {
                Ok(one) => {
                    if compiled.insert(name.clone(), Arc::new(one)).is_some() {
                        errors.push(PolicyError::DuplicatePrincipal(name.clone()));
                    }
                }
                Err(error) => errors.push(error),
            }
        }
        if errors.is_empty() { Ok(Self { canonical, sha256, grants: compiled }) } else { Err(errors) }
    }

    /// A principal's grants; `None` for a stranger.
    pub fn grants(&self, principal: &PrincipalName) -> Option<&Arc<Grants>> {
        self.grants.get(principal)
    }

    /// Hash of [`Policy::canonical`]: what `policy.loaded` and every outcome name.
    pub const fn sha256(&self) -> Hash {
        self.sha256
    }

    /// The grants as canonical JSON, for whoever must show what a hash meant.
    pub const fn canonical(&self) -> &CanonicalJson {
        &self.canonical
    }
}

const fn bit(operation: Operation) -> u8 {
    1 << operation as u8
}

fn compile_one(
    grant: &Grant,
    rule: String,
    policy: Hash,
    before: Option<&Policy>,
) -> Result<Grants, PolicyError> {
    let carried = before
        .and_then(|policy| policy.grants(&grant.principal))
        .filter(|grants| grants.bucket.rate() == grant.rate)
        .map(|grants| Arc::clone(&grants.bucket));
    Ok(Grants {
        principal: grant.principal.clone(),
        own_stream: StreamPattern::name(grant.principal.as_str())?,
        rule,
        policy,
        kids: grant.kids.clone().into(),
        operations: grant.operations.iter().fold(0, |bits, operation| bits | bit(*operation)),
        streams: grant.streams.clone().into(),
        read_payloads: grant.read_payloads,
        groups: grant.groups.clone().into(),
        bucket: carried.unwrap_or_else(|| Arc::new(Bucket::new(grant.rate))),
        dialects: grant.dialects.clone().into(),
        default_kid: grant.default_kid.clone(),
    })
}

/// The grants as canonical JSON: what the policy's hash is the hash of.
fn canonical(grants: &[Grant]) -> CanonicalJson {
    let principals: Vec<_> = grants
        .iter()
        .map(|grant| {
            serde_json::json!({
                "burst": grant.rate.burst,
                "dailyQuota": grant.daily_quota,
                "defaultKid": grant.default_kid,
                "dialects": grant.dialects.iter().map(|dialect| dialect.as_str()).collect::<Vec<_>>(),
                "groups": grant.groups,
                "kids": grant.kids,
                "name": grant.principal,
                "operations": grant.operations.iter().map(|operation| operation.as_str()).collect::<Vec<_>>(),
                "ratePerSecond": grant.rate.per_second,
                "readPayloads": grant.read_payloads,
                "streams": grant.streams.iter().map(ToString::to_string).collect::<Vec<_>>(),
            })
        })
        .collect();
    let text = serde_json::json!({ "principals": principals }).to_string();
    CanonicalJson::parse(text.as_bytes())
        .expect("JSON text made here from strings and small integers is valid")
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a failed unwrap is the test's failure")]
    use super::*;

    fn grant(name: &str) -> Grant {
        Grant {
            principal: name.parse().unwrap(),
            kids: vec!["orders".parse().unwrap()],
            operations: vec![Operation::Sign],
            streams: vec!["audit/eu".parse().unwrap(), "orders/*".parse().unwrap()],
            read_payloads: false,
            rate: Rate { per_second: 10, burst: 1 },
            groups: Vec::new(),
            daily_quota: None,
            dialects: crate::dialects::Dialect::ALL.to_vec(),
            default_kid: None,
        }
    }

    fn compiled(grant: &Grant) -> Arc<Grants> {
        let policy = Policy::compile(std::slice::from_ref(grant), None).unwrap();
        Arc::clone(policy.grants(&grant.principal).unwrap())
    }

    #[test]
    fn what_is_not_granted_is_denied() {
        let grants = compiled(&grant("svc"));
        for operation in Operation::ALL {
            assert_eq!(grants.allows(operation), operation == Operation::Sign);
        }
        assert!(grants.allows_kid(&"orders".parse().unwrap()));
        for kid in ["order", "orders2", "orders-v1"] {
            assert!(!grants.allows_kid(&kid.parse().unwrap()), "{kid}");
        }
    }

    #[test]
    fn a_star_covers_what_is_below_and_nothing_beside() {
        let grants = compiled(&grant("svc"));
        for covered in ["svc", "audit/eu", "orders/a", "orders/a/b"] {
            assert!(grants.allows_stream(covered), "{covered}");
        }
        for beside in [
            "audit",
            "audit/eu/x",
            "audit/*",
            "orders",
            "orders/",
            "orders*",
            "ordersx/a",
            "*",
            "svc/x",
            "chancery",
        ] {
            assert!(!grants.allows_stream(beside), "{beside}");
        }
    }

    #[test]
    fn the_hash_names_the_content_and_every_error_is_told() {
        let a = Policy::compile(&[grant("a")], None).unwrap();
        assert_eq!(a.sha256(), Policy::compile(&[grant("a")], None).unwrap().sha256());
        assert_ne!(a.sha256(), Policy::compile(&[grant("b")], None).unwrap().sha256());
        let errors = Policy::compile(&[grant("a"), grant("a"), grant("chancery")], None).unwrap_err();
        assert_eq!(errors.len(), 2);
    }

    #[test]
    fn a_reload_gives_nobody_a_fresh_burst() {
        let before = Policy::compile(&[grant("a")], None).unwrap();
        let name = "a".parse().unwrap();
        before.grants(&name).unwrap().bucket().take(1_000_000_000).unwrap();
        let after = Policy::compile(&[grant("a"), grant("b")], Some(&before)).unwrap();
        assert!(after.grants(&name).unwrap().bucket().take(1_000_000_000).is_err());
    }
}
