//! The scope of a policy: the part in parentheses. It says where the index keeps a policy, and whether a
//! policy nearly applied.

use cedar_policy::{ActionConstraint, EntityUid, Policy, PrincipalConstraint, ResourceConstraint};

use crate::question::{Act, Question};
use crate::schema::Kind;

/// What a scope asks of the principal or of the resource.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) enum Side {
    /// Nothing.
    Any,
    /// To be of this type.
    Is(Kind),
    /// To be this entity; or, when the last is set, a member of it.
    One(Kind, Box<str>, Membership),
    /// To be of a type no question has.
    Never,
}

/// Whether members count.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Membership {
    /// `==`: the entity itself.
    Itself,
    /// `in`: the entity or a member.
    OrMember,
}

/// A policy's scope.
#[derive(Debug, Clone)]
pub(crate) struct Scope {
    pub(crate) who: Side,
    /// `None` for every act.
    pub(crate) acts: Option<Vec<Act>>,
    pub(crate) what: Side,
}

impl Scope {
    pub(crate) fn of(policy: &Policy) -> Self {
        let who = match policy.principal_constraint() {
            PrincipalConstraint::Any => Side::Any,
            PrincipalConstraint::Is(name) => is(name.basename()),
            PrincipalConstraint::Eq(uid) => one(&uid, Membership::Itself),
            // The type of `is … in` is left to Cedar: a scope here may be wider, never narrower.
            PrincipalConstraint::In(uid) | PrincipalConstraint::IsIn(_, uid) => {
                one(&uid, Membership::OrMember)
            }
        };
        let what = match policy.resource_constraint() {
            ResourceConstraint::Any => Side::Any,
            ResourceConstraint::Is(name) => is(name.basename()),
            ResourceConstraint::Eq(uid) => one(&uid, Membership::Itself),
            ResourceConstraint::In(uid) | ResourceConstraint::IsIn(_, uid) => one(&uid, Membership::OrMember),
        };
        let acts = match policy.action_constraint() {
            ActionConstraint::Any => None,
            ActionConstraint::Eq(uid) => Some(acts(&[uid])),
            ActionConstraint::In(uids) => Some(acts(&uids)),
        };
        Self { who, acts, what }
    }

    /// Whether the question lies in the scope, conditions aside.
    pub(crate) fn covers(&self, question: &Question) -> bool {
        let who = match &self.who {
            Side::Any => true,
            Side::Never => false,
            Side::Is(kind) => question.who.kind() == *kind,
            Side::One(kind, id, Membership::Itself) => {
                question.who.kind() == *kind && question.who.name() == &**id
            }
            Side::One(kind, id, Membership::OrMember) => question.who.is_in(*kind, id),
        };
        let what = match &self.what {
            Side::Any => true,
            Side::Never => false,
            Side::Is(kind) => question.what.kind() == *kind,
            // No resource is a member of anything.
            Side::One(kind, id, _) => question.what.kind() == *kind && question.what.name() == &**id,
        };
        who && what && self.acts.as_ref().is_none_or(|acts| acts.contains(&question.act))
    }
}

fn is(word: &str) -> Side {
    Kind::of(word).map_or(Side::Never, Side::Is)
}

fn one(uid: &EntityUid, membership: Membership) -> Side {
    Kind::of(uid.type_name().basename())
        .map_or(Side::Never, |kind| Side::One(kind, uid.id().unescaped().into(), membership))
}

/// The acts named. Cedar has refused a policy that names one the schema does not have.
fn acts(uids: &[EntityUid]) -> Vec<Act> {
    let mut acts: Vec<Act> = uids.iter().filter_map(|uid| uid.id().unescaped().parse().ok()).collect();
    acts.sort_unstable();
    acts.dedup();
    acts
}
