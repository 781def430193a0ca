//! A set of policies in force, and how it decides.
//!
//! A decision depends on the set and the question and on nothing else. The order of reasons:
//!
//! 1. the act does not exist for this principal and resource: denied;
//! 2. a policy that applies cannot be evaluated: denied, by that policy;
//! 3. no permit applies: denied, by nobody;
//! 4. a final forbid applies: denied, by it;
//! 5. forbids that can be lifted apply: allowed, if all of them are;
//! 6. otherwise allowed.

use cedar_policy::{Authorizer, Effect};
use chancery_format::Hash;

use crate::ask::{Asked, Needs, Verdict};
use crate::decision::{Condition, Decision, DenyReason, PolicyId};
use crate::guard::Guard;
use crate::index::Index;
use crate::parse::{self, Compiled};
use crate::problem::PolicyProblem;
use crate::question::Question;

/// Name of the embedded file of default roles. No file of a folder can have it.
pub const DEFAULT_ROLES_FILE: &str = "built-in/roles.cedar";

/// The default rights of persons, as text.
pub const DEFAULT_ROLES: &str = include_str!("roles.cedar");

/// Policies, checked, indexed and hashed. Immutable; replaced whole on reload.
pub struct PolicySet {
    policies: Vec<Compiled>,
    /// By number, as the policies; apart from them so that many can be asked quickly.
    guards: Vec<Option<Guard>>,
    index: Index,
    authorizer: Authorizer,
    sha256: Hash,
}

impl std::fmt::Debug for PolicySet {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "PolicySet({} policies, {})", self.policies.len(), self.sha256)
    }
}

/// What applies to a question, by number; `Err` names the first policy that failed, and how.
pub(crate) type Applying<'s> = Result<Vec<&'s Compiled>, (Option<&'s PolicyId>, String)>;

impl PolicySet {
    /// Checks files of `(name, text)`, in any order, with the default roles beside them if asked for. No
    /// files make a set that denies everything.
    ///
    /// # Errors
    /// Everything wrong with any file, up to [`crate::limits::PROBLEMS_MAX`]. The operator is at fault; the
    /// same files fail again.
    pub fn parse(files: &[(&str, &str)], default_roles: bool) -> Result<Self, Vec<PolicyProblem>> {
        let mut files = files.to_vec();
        if default_roles {
            files.push((DEFAULT_ROLES_FILE, DEFAULT_ROLES));
        }
        files.sort_unstable_by_key(|(name, _)| *name);
        let policies = parse::check(&files)?;
        let mut index = Index::default();
        let guards: Vec<_> = policies.iter().map(|policy| Guard::of(&policy.policy)).collect();
        for ((number, policy), guard) in (0u32..).zip(&policies).zip(&guards) {
            index.add(number, &policy.scope, guard.as_ref());
        }
        Ok(Self { policies, guards, index, authorizer: Authorizer::new(), sha256: parse::hash(&files) })
    }

    /// SHA-256 over names and texts of the files: what a decision's record names.
    pub const fn sha256(&self) -> Hash {
        self.sha256
    }

    /// How many policies there are.
    pub fn len(&self) -> usize {
        self.policies.len()
    }

    /// Whether there are none, so that everything is denied.
    pub fn is_empty(&self) -> bool {
        self.policies.is_empty()
    }

    /// Ids of all policies, by file and line.
    pub fn ids(&self) -> impl Iterator<Item = &PolicyId> {
        self.policies.iter().map(|policy| &policy.id)
    }

    /// Decides one question. Never fails: what cannot be decided is denied.
    pub fn decide(&self, question: &Question) -> Decision {
        if !question.fits() {
            return Decision::Deny { policies: Vec::new(), reason: DenyReason::NoSuchAct };
        }
        conclude(self.applying(question))
    }

    /// All policies, for explanations.
    pub(crate) fn policies(&self) -> &[Compiled] {
        &self.policies
    }

    /// The policies that apply, permits and forbids, by file and line.
    pub(crate) fn applying(&self, question: &Question) -> Applying<'_> {
        let candidates = self.index.candidates(question);
        let possible: Vec<&Compiled> = candidates
            .iter()
            .map(|number| *number as usize)
            .filter(|number| {
                let guard = self.guards.get(*number).and_then(Option::as_ref);
                !guard.is_some_and(|guard| guard.is_false(question))
            })
            .filter_map(|number| self.policies.get(number))
            .collect();
        if possible.is_empty() {
            return Ok(possible);
        }
        let needs = possible.iter().fold(Needs::default(), |needs, policy| needs.or(policy.needs));
        let asked = Asked::of(question, needs).map_err(|cause| (None, cause))?;
        let mut applying = Vec::new();
        for policy in possible {
            match asked.verdict(&self.authorizer, &policy.alone) {
                Verdict::Applies => applying.push(policy),
                Verdict::DoesNotApply => {}
                Verdict::Failed(cause) => return Err((Some(&policy.id), cause)),
            }
        }
        Ok(applying)
    }
}

fn conclude(applying: Applying<'_>) -> Decision {
    let applying = match applying {
        Ok(applying) => applying,
        Err((policy, cause)) => {
            let policies = policy.cloned().into_iter().collect();
            return Decision::Deny { policies, reason: DenyReason::Failed(cause) };
        }
    };
    let (permits, forbids): (Vec<_>, Vec<_>) =
        applying.into_iter().partition(|policy| policy.policy.effect() == Effect::Permit);
    let ids = |policies: &[&Compiled]| policies.iter().map(|policy| policy.id.clone()).collect();
    if permits.is_empty() {
        return Decision::Deny { policies: Vec::new(), reason: DenyReason::NothingPermits };
    }
    let (liftable, last): (Vec<_>, Vec<_>) = forbids.into_iter().partition(|policy| policy.lift.is_some());
    if !last.is_empty() {
        return Decision::Deny { policies: ids(&last), reason: DenyReason::Forbidden };
    }
    let conditions: Vec<Condition> = liftable
        .into_iter()
        .filter_map(|policy| Some(Condition { policy: policy.id.clone(), lift: policy.lift.clone()? }))
        .collect();
    if conditions.is_empty() {
        Decision::Allow { policies: ids(&permits) }
    } else {
        Decision::AllowIf { policies: ids(&permits), conditions }
    }
}
