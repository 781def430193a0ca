//! The policies in force: swapped whole, by good ones only.
//!
//! Without a folder of policies there are still the rights of roles that are built in, so that people can act;
//! services then have their grants alone. With one, grants become policies like those of the folder: they allow what
//! they always did, and what the folder forbids they do not.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use crate::admission::policy::{Grant, Operation, StreamPattern};
use arc_swap::ArcSwap;
use chancery_format::{Hash, Kid};
use chancery_policy::{
    Condition, Decision, Explanation, Key, KeyFacts, Lift, PolicyProblem, PolicySet, Question, World,
    load_policies,
};

/// The policies and what they speak of.
pub struct Authority {
    folder: Option<PathBuf>,
    environment: String,
    set: ArcSwap<PolicySet>,
    world: ArcSwap<World>,
    keys: Mutex<BTreeMap<Kid, KeyFacts>>,
    /// The grants, as policies.
    grants: Mutex<String>,
}

impl Authority {
    /// Reads the folder, if there is one. Everything that is wrong is told at once.
    pub fn load(
        folder: Option<PathBuf>,
        environment: &str,
        grants: &[Grant],
    ) -> Result<Self, Vec<PolicyProblem>> {
        let grants = as_policies(grants);
        let set = read(folder.as_deref(), &grants)?;
        Ok(Self {
            folder,
            environment: environment.to_owned(),
            set: ArcSwap::from_pointee(set),
            world: ArcSwap::from_pointee(World::new([])),
            keys: Mutex::default(),
            grants: Mutex::new(grants),
        })
    }

    /// Takes note that grants changed. What does not load does not replace what did.
    pub fn set_grants(&self, grants: &[Grant]) -> Result<Option<Hash>, Vec<PolicyProblem>> {
        let text = as_policies(grants);
        read(self.folder.as_deref(), &text)?;
        *self.grants.lock().unwrap_or_else(PoisonError::into_inner) = text;
        self.reload()
    }

    /// Only the rights of roles that are built in.
    pub fn built_in(environment: &str) -> Result<Self, Vec<PolicyProblem>> {
        Self::load(None, environment, &[])
    }

    /// Takes note of keys, or that they changed.
    pub fn set_keys(&self, keys: impl IntoIterator<Item = (Kid, KeyFacts)>) {
        let mut known = self.keys.lock().unwrap_or_else(PoisonError::into_inner);
        known.extend(keys);
        self.world.store(Arc::new(World::new(known.clone())));
    }

    /// Whether the operator wrote policies of their own.
    pub const fn has_folder(&self) -> bool {
        self.folder.is_some()
    }

    /// Name of the environment, as policies see it.
    pub fn environment(&self) -> &str {
        &self.environment
    }

    /// A key as policies see it.
    pub fn key(&self, kid: &Kid) -> Option<Arc<Key>> {
        self.world.load().key(kid)
    }

    /// Decides one question; gives also the hash of the policies that decided, which may be others a moment later.
    pub fn decide(&self, question: &Question) -> (Decision, Hash) {
        let set = self.set.load();
        (set.decide(question), set.sha256())
    }

    /// Decides one question and says why.
    pub fn explain(&self, question: &Question) -> Explanation {
        self.set.load().explain(question)
    }

    /// Hash of the policies in force.
    pub fn sha256(&self) -> Hash {
        self.set.load().sha256()
    }

    /// Names of the policies in force.
    pub fn ids(&self) -> Vec<String> {
        self.set.load().ids().map(|id| id.as_str().to_owned()).collect()
    }

    /// Reads the folder again. `Some` hash if that changed anything; bad policies change nothing. Reads files:
    /// not for async threads.
    pub fn reload(&self) -> Result<Option<Hash>, Vec<PolicyProblem>> {
        let grants = self.grants.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let set = read(self.folder.as_deref(), &grants)?;
        let sha256 = set.sha256();
        let changed = sha256 != self.sha256();
        if changed {
            self.set.store(Arc::new(set));
        }
        Ok(changed.then_some(sha256))
    }
}

/// Name of the file that grants become.
const GRANTS_FILE: &str = "(grants of the configuration)";

fn read(folder: Option<&Path>, grants: &str) -> Result<PolicySet, Vec<PolicyProblem>> {
    let Some(folder) = folder else { return PolicySet::parse(&[], true) };
    let files = load_policies(folder)?;
    let mut texts: Vec<_> = files.iter().map(|(name, text)| (name.as_str(), text.as_str())).collect();
    texts.push((GRANTS_FILE, grants));
    PolicySet::parse(&texts, true)
}

/// Grants in the words of policies: one for each act and key or stream, so that few are ever looked at.
fn as_policies(grants: &[Grant]) -> String {
    let mut text = String::new();
    for (position, grant) in grants.iter().enumerate() {
        let mut number = 0;
        let mut permit = |act: &str, resource: &str, when: &str| {
            let name = quoted(grant.principal.as_str());
            text += &format!(
                "@id(\"grants/{position}/{number}\") permit (principal == Service::{name}, \
                 action == Action::\"{act}\", resource{resource}){when};\n"
            );
            number += 1;
        };
        for operation in &grant.operations {
            let acts: &[&str] = match operation {
                Operation::Sign => &["sign", "anchor"],
                Operation::Verify => &["verify"],
                Operation::Mac => &["mac"],
                Operation::Events => &["append"],
                Operation::Read => &["read"],
                Operation::Keys => &["list-keys"],
            };
            for act in acts {
                if *operation == Operation::Keys {
                    permit(act, " == Appliance::\"chancery\"", "");
                    continue;
                }
                if !matches!(operation, Operation::Events | Operation::Read) {
                    for kid in &grant.kids {
                        permit(act, &format!(" == Key::{}", quoted(kid.as_str())), "");
                    }
                    continue;
                }
                permit(act, &format!(" == Stream::{}", quoted(grant.principal.as_str())), "");
                for pattern in &grant.streams {
                    match pattern {
                        StreamPattern::Every => permit(act, "", ""),
                        StreamPattern::Exactly(name) => {
                            permit(act, &format!(" == Stream::{}", quoted(name.as_str())), "");
                        }
                        StreamPattern::Below(prefix) => {
                            let like = quoted(prefix).replace('*', "\\*");
                            let like = like.strip_suffix('"').unwrap_or_default();
                            permit(
                                act,
                                "",
                                &format!(" when {{ context has stream && context.stream like {like}*\" }}"),
                            );
                        }
                    }
                }
            }
        }
    }
    text
}

/// A text as Cedar writes it.
fn quoted(text: &str) -> String {
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""))
}

/// Most approvals that any of the conditions asks for. What the built-in rights ask for counts only where somebody
/// can approve; what the operator wrote always does.
pub fn approvals(conditions: &[Condition], has_roster: bool) -> u32 {
    let of = |condition: &Condition| match condition.lift {
        Lift::Quorum { approvals, .. } if has_roster || !condition.policy.as_str().starts_with("roles/") => {
            u32::from(approvals)
        }
        _ => 0,
    };
    conditions.iter().map(of).max().unwrap_or_default()
}

impl std::fmt::Debug for Authority {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Authority").field("sha256", &self.sha256().to_hex()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a failed unwrap is the test's failure")]
    use std::collections::HashSet;

    use chancery_format::{PrincipalName, SignatureAlgorithm, StreamName};
    use chancery_policy::{Act, Circumstances, Moment, What, Who};
    use proptest::prelude::*;
    use proptest::sample::{select, subsequence};

    use super::*;
    use crate::admission::rate_limit::Rate;

    const NAMES: [&str; 6] =
        ["spiffe://a.example/x", "spiffe://a.example/xy", "b.example", "b.example2", "a/x", "it\"s"];
    const KIDS: [&str; 4] = ["orders", "orders2", "order", "tags"];
    const STREAMS: [&str; 5] = ["*", "b.example/*", "a/x/y", "a/*", "b.example"];

    fn grants() -> impl Strategy<Value = Vec<Grant>> {
        let names = NAMES.iter().filter_map(|name| name.parse::<PrincipalName>().ok()).collect::<Vec<_>>();
        let grant = (
            select(names),
            subsequence(KIDS.to_vec(), 0..KIDS.len()),
            subsequence(Operation::ALL.to_vec(), 0..Operation::ALL.len()),
            subsequence(STREAMS.to_vec(), 0..STREAMS.len()),
        );
        let grant = grant.prop_map(|(principal, kids, operations, streams)| Grant {
            principal,
            kids: kids.iter().map(|kid| kid.parse().unwrap()).collect(),
            operations,
            streams: streams.iter().map(|stream| stream.parse().unwrap()).collect(),
            read_payloads: false,
            rate: Rate { per_second: 1, burst: 1 },
            groups: Vec::new(),
            daily_quota: None,
            dialects: crate::dialects::Dialect::ALL.to_vec(),
            default_kid: None,
        });
        // One for each name, as a configuration has it.
        proptest::collection::vec(grant, 0..6).prop_map(|mut grants| {
            let mut seen = HashSet::new();
            grants.retain(|grant| seen.insert(grant.principal.clone()));
            grants
        })
    }

    /// Everything a principal may do, as decided.
    fn rights(authority: &Authority, name: &PrincipalName) -> Vec<bool> {
        let facts = |kid: &str| {
            let (purpose, backend) = ("test".to_owned(), "hsm".to_owned());
            let algorithm = SignatureAlgorithm::Ed25519;
            (kid.parse().unwrap(), KeyFacts { algorithm, purpose, backend, is_ledger_key: false })
        };
        authority.set_keys(KIDS.map(facts));
        let ask = |act, what, stream: Option<&str>| {
            let circumstances = Circumstances {
                moment: Moment::from_unix_seconds(1_790_000_000),
                environment: "development".to_owned(),
                source: None,
                purpose: None,
                dialect: Some("native".to_owned()),
                algorithm: None,
                stream: stream.map(str::to_owned),
            };
            let who = Who::Service { name: name.clone(), groups: Vec::new() };
            let (decision, _) = authority.decide(&Question { who, act, what, circumstances });
            matches!(decision, Decision::Allow { .. })
        };
        let mut rights = Vec::new();
        for kid in KIDS {
            let key = authority.key(&kid.parse().unwrap()).unwrap();
            let acts = [Act::Sign, Act::Anchor, Act::Mac, Act::Verify];
            rights.extend(acts.map(|act| ask(act, What::Key(Arc::clone(&key)), None)));
        }
        for stream in ["a/x", "a/x/y", "b.example", "b.example/1", "b.example2"] {
            let name: StreamName = stream.parse().unwrap();
            let acts = [Act::Append, Act::Read];
            rights.extend(acts.map(|act| ask(act, What::Stream(name.clone()), Some(stream))));
        }
        rights.push(ask(Act::ListKeys, What::Appliance, None));
        rights
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(48))]

        /// Whoever else is written down, one's own rights stay what they are, and they are those of one's grant.
        #[test]
        fn other_principals_widen_nobodys_rights(before in grants(), more in grants()) {
            let folder = tempfile::tempdir().unwrap();
            let known: HashSet<_> = before.iter().map(|grant| grant.principal.clone()).collect();
            let others = more.into_iter().filter(|grant| !known.contains(&grant.principal));
            let all: Vec<_> = before.iter().cloned().chain(others).collect();
            let load = |grants: &[Grant]| {
                Authority::load(Some(folder.path().to_owned()), "development", grants).unwrap()
            };
            let (first, second) = (load(&before), load(&all));
            for grant in &before {
                let rights = rights(&first, &grant.principal);
                prop_assert_eq!(&rights, &super::tests::rights(&second, &grant.principal));
                for (kid, acts) in KIDS.iter().zip(rights.chunks(4)) {
                    let may = |operation| {
                        grant.operations.contains(&operation)
                            && grant.kids.iter().any(|granted| granted.as_str() == *kid)
                    };
                    let granted = [Operation::Sign, Operation::Sign, Operation::Mac, Operation::Verify].map(may);
                    prop_assert_eq!(acts, &granted[..], "{} and {}", grant.principal, kid);
                }
            }
            let stranger: PrincipalName = "nobody.example".parse().unwrap();
            prop_assert!(rights(&second, &stranger).iter().all(|right| !right));
        }
    }
}
