//! A question in Cedar's terms: one request, and the few entities it can look at.
//!
//! The validator has made sure that no policy looks into an entity other than the principal, the resource
//! and the action, so these are all Cedar needs to know.

use std::collections::HashSet;

use cedar_policy::{
    AuthorizationError, Authorizer, Context, Entities, Entity, PolicySet, Request, RestrictedExpression,
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

impl Asked {
    /// Translates a question. The error's text is Cedar's; nothing a caller sends is known to cause one.
    pub(crate) fn of(question: &Question) -> Result<Self, String> {
        let principal = principal(&question.who);
        let context =
            Context::from_pairs(context(&question.circumstances)).map_err(|error| error.to_string())?;
        let request = Request::new(
            principal.uid(),
            Kind::Action.uid(question.act.as_str()),
            question.what.uid(),
            context,
            None,
        )
        .map_err(|error| error.to_string())?;
        let resource = match &question.what {
            What::Key(key) => key.entity().clone(),
            What::Stream(_) | What::Appliance => Entity::with_uid(question.what.uid()),
        };
        let entities =
            Entities::from_entities([principal, resource], None).map_err(|error| error.to_string())?;
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

fn context(circumstances: &Circumstances) -> Vec<(String, RestrictedExpression)> {
    let text = |value: &String| RestrictedExpression::new_string(value.clone());
    let long = |value: u8| RestrictedExpression::new_long(i64::from(value));
    let mut pairs = Vec::with_capacity(8);
    pairs.push(("hour".to_owned(), long(circumstances.moment.hour())));
    pairs.push(("weekday".to_owned(), long(circumstances.moment.weekday())));
    pairs.push(("environment".to_owned(), text(&circumstances.environment)));
    if let Some(source) = circumstances.source {
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
