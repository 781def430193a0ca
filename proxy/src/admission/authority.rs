//! The policies in force: swapped whole, by good ones only.
//!
//! Without a folder of policies there are still the rights of roles that are built in, so that people can act;
//! services have their grants.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use arc_swap::ArcSwap;
use chancery_format::{Hash, Kid};
use chancery_policy::{
    Condition, Decision, Explanation, Key, KeyFacts, Lift, PolicyProblem, PolicySet, Question, World,
};

/// The policies and what they speak of.
pub struct Authority {
    folder: Option<PathBuf>,
    environment: String,
    set: ArcSwap<PolicySet>,
    world: ArcSwap<World>,
    keys: Mutex<BTreeMap<Kid, KeyFacts>>,
}

impl Authority {
    /// Reads the folder, if there is one. Everything that is wrong is told at once.
    pub fn load(folder: Option<PathBuf>, environment: &str) -> Result<Self, Vec<PolicyProblem>> {
        let set = read(folder.as_deref())?;
        Ok(Self {
            folder,
            environment: environment.to_owned(),
            set: ArcSwap::from_pointee(set),
            world: ArcSwap::from_pointee(World::new([])),
            keys: Mutex::default(),
        })
    }

    /// Only the rights of roles that are built in.
    pub fn built_in(environment: &str) -> Result<Self, Vec<PolicyProblem>> {
        Self::load(None, environment)
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

    /// Decides one question.
    pub fn decide(&self, question: &Question) -> Decision {
        self.set.load().decide(question)
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
        let set = read(self.folder.as_deref())?;
        let sha256 = set.sha256();
        let changed = sha256 != self.sha256();
        if changed {
            self.set.store(Arc::new(set));
        }
        Ok(changed.then_some(sha256))
    }
}

fn read(folder: Option<&std::path::Path>) -> Result<PolicySet, Vec<PolicyProblem>> {
    match folder {
        Some(folder) => PolicySet::load(folder, true),
        None => PolicySet::parse(&[], true),
    }
}

/// Most approvals that any of the conditions asks for.
pub fn approvals(conditions: &[Condition]) -> u32 {
    let of = |condition: &Condition| match condition.lift {
        Lift::Quorum { approvals, .. } => u32::from(approvals),
        Lift::Hook { .. } => 0,
    };
    conditions.iter().map(of).max().unwrap_or_default()
}

impl std::fmt::Debug for Authority {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Authority").field("sha256", &self.sha256().to_hex()).finish_non_exhaustive()
    }
}
