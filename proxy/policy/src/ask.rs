//! A question in Cedar's terms: one request, and the few entities it can look at.
//!
//! The validator has made sure that no policy looks into an entity other than the principal, the resource
//! and the action, so these are all Cedar needs to know. What the policies at hand do not look at is left
//! out: making it costs more than judging them.

use std::collections::HashSet;
use std::iter;

use cedar_policy::{
    AuthorizationError, Authorizer, Context, Entities, Entity, Policy, PolicySet, Request,
    RestrictedExpression,
};

use crate::question::{Circumstances, Question, What, Who};
use crate::schema::Kind;

/// A question ready to be put to Cedar.
pub(crate) struct Asked {
    pub(crate) request: Request,
    pub(crate) entities: Entities,
}

/// What Cedar says of one policy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Verdict {
    Applies,
    DoesNotApply,
    Failed(String),
}

/// What a policy can look at beyond names and memberships.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Needs {
    /// Attributes of context and resource.
    attributes: bool,
    /// The source address among them, which is the dearest.
    source: bool,
}

impl Needs {
    /// Everything.
    pub(crate) const ALL: Self = Self { attributes: true, source: true };

    /// What this policy, whose text it is, may look at; rather too much than too little.
    pub(crate) fn of(policy: &Policy, text: &str) -> Self {
        let attributes = policy.has_non_scope_constraint();
        Self { attributes, source: attributes && may_read_source(text) }
    }

    /// What either looks at.
    pub(crate) const fn or(self, other: Self) -> Self {
        Self { attributes: self.attributes || other.attributes, source: self.source || other.source }
    }
}

/// Whether a text has the word `source`, or could mean it without: by an escape in a string, or by the
/// context as a whole.
fn may_read_source(text: &str) -> bool {
    let said = text
        .match_indices("source")
        .any(|(offset, _)| !text.get(..offset).is_some_and(|before| before.ends_with("re")));
    let whole = text.match_indices("context").any(|(offset, word)| {
        let after = text.get(offset + word.len()..).unwrap_or_default();
        !after.starts_with('.') && !after.starts_with(" has ")
    });
    said || whole || text.contains('\\')
}

impl Asked {
    /// Translates a question, as far as needed. The error's text is Cedar's; nothing a caller sends is
    /// known to cause one.
    pub(crate) fn of(question: &Question, needs: Needs) -> Result<Self, String> {
        let principal = principal(&question.who);
        let pairs = if needs.attributes { context(&question.circumstances, needs) } else { Vec::new() };
        let context = Context::from_pairs(pairs).map_err(|error| error.to_string())?;
        let request = Request::new(
            principal.uid(),
            Kind::Action.uid(question.act.as_str()),
            question.what.uid(),
            context,
            None,
        )
        .map_err(|error| error.to_string())?;
        let resource = match &question.what {
            What::Key(key) if needs.attributes => Some(key.entity().clone()),
            // An entity without attributes and members is known by its name.
            What::Key(_) | What::Stream(_) | What::Appliance => None,
        };
        let entities = Entities::from_entities(iter::once(principal).chain(resource), None)
            .map_err(|error| error.to_string())?;
        Ok(Self { request, entities })
    }

    /// Puts the question to a set that holds one policy.
    pub(crate) fn verdict(&self, authorizer: &Authorizer, alone: &PolicySet) -> Verdict {
        let response = authorizer.is_authorized(&self.request, alone, &self.entities);
        let diagnostics = response.diagnostics();
        if let Some(AuthorizationError::PolicyEvaluationError(error)) = diagnostics.errors().next() {
            return Verdict::Failed(error.inner().to_string());
        }
        if diagnostics.reason().next().is_some() { Verdict::Applies } else { Verdict::DoesNotApply }
    }
}

fn principal(who: &Who) -> Entity {
    let (parent, names) = who.parents();
    let parents: HashSet<_> = names.iter().map(|name| parent.uid(name)).collect();
    Entity::new_no_attrs(who.kind().uid(who.name()), parents)
}

fn context(circumstances: &Circumstances, needs: Needs) -> Vec<(String, RestrictedExpression)> {
    let text = |value: &String| RestrictedExpression::new_string(value.clone());
    let long = |value: u8| RestrictedExpression::new_long(i64::from(value));
    let mut pairs = Vec::with_capacity(8);
    pairs.push(("hour".to_owned(), long(circumstances.moment.hour())));
    pairs.push(("weekday".to_owned(), long(circumstances.moment.weekday())));
    pairs.push(("environment".to_owned(), text(&circumstances.environment)));
    if let Some(source) = circumstances.source
        && needs.source
    {
        pairs.push(("source".to_owned(), RestrictedExpression::new_ip(source.to_string())));
    }
    let optional = [
        ("purpose", &circumstances.purpose),
        ("dialect", &circumstances.dialect),
        ("algorithm", &circumstances.algorithm),
        ("stream", &circumstances.stream),
    ];
    for (name, value) in optional {
        if let Some(value) = value {
            pairs.push((name.to_owned(), text(value)));
        }
    }
    pairs
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whatever_could_mean_the_source_counts() {
        for reads in [
            "context.source.isLoopback()",
            "context has source",
            "context[\"source\"]",
            "context[\"s\\u{6f}urce\"]",
            "context == {}",
            "{} != context",
            "context\n.source",
        ] {
            assert!(may_read_source(reads), "{reads}");
        }
        for reads_not in ["resource.purpose == \"x\"", "context has purpose && context.purpose == \"x\""] {
            assert!(!may_read_source(reads_not), "{reads_not}");
        }
    }
}
