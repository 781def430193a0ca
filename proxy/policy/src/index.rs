//! Finds the few policies whose scope can cover a question, among thousands.
//!
//! Every policy lies in the bucket of what its scope asks of principal, act and resource, once for each act
//! it lists. A question opens the buckets it could lie in: itself and each group or role, or the type, or
//! anything. In a bucket, policies whose condition asks for one text of one field lie together by that text,
//! and a question that has another text there passes them by. What it finds is a superset of the policies that apply; Cedar then judges each, scope
//! conditions included, so the index can only save work and never change an answer.

use std::collections::HashMap;

use crate::guard::{Field, Guard};
use crate::question::{Act, Question};
use crate::schema::Kind;
use crate::scope::{Scope, Side};

/// What a bucket's policies ask of one side.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
enum Slot {
    Any,
    Is(Kind),
    One(u32),
}

/// Policies by the text they ask for.
type ByText = HashMap<Box<str>, Vec<u32>>;

/// Policies of one scope.
#[derive(Debug, Default)]
struct Bucket {
    /// Those that ask for no text.
    any: Vec<u32>,
    /// Those that do, by field.
    fields: Vec<(Field, ByText)>,
}

impl Bucket {
    fn add(&mut self, number: u32, key: Option<(Field, &str)>) {
        let Some((field, text)) = key else {
            self.any.push(number);
            return;
        };
        match self.fields.iter_mut().find(|(found, _)| *found == field) {
            Some((_, texts)) => texts.entry(text.into()).or_default().push(number),
            None => self.fields.push((field, HashMap::from([(text.into(), vec![number])]))),
        }
    }

    fn find(&self, question: &Question, found: &mut Vec<u32>) {
        found.extend_from_slice(&self.any);
        for (field, texts) in &self.fields {
            match field.text(question) {
                Some(text) => found.extend(texts.get(text).into_iter().flatten()),
                // Whether they are false or fail is not for the index to say.
                None => found.extend(texts.values().flatten()),
            }
        }
    }
}

/// Policies by scope.
#[derive(Debug, Default)]
pub(crate) struct Index {
    names: HashMap<Kind, HashMap<Box<str>, u32>>,
    names_count: u32,
    buckets: HashMap<(Slot, Option<Act>, Slot), Bucket>,
}

impl Index {
    /// Files the policy with this number.
    pub(crate) fn add(&mut self, number: u32, scope: &Scope, guard: Option<&Guard>) {
        let (Some(who), Some(what)) = (self.slot(&scope.who), self.slot(&scope.what)) else {
            return;
        };
        let key = guard.and_then(Guard::key);
        match &scope.acts {
            None => self.buckets.entry((who, None, what)).or_default().add(number, key),
            Some(acts) => {
                for act in acts {
                    self.buckets.entry((who, Some(*act), what)).or_default().add(number, key);
                }
            }
        }
    }

    /// Every policy that could apply, ascending, each once.
    pub(crate) fn candidates(&self, question: &Question) -> Vec<u32> {
        let mut found = Vec::new();
        let whats = self.whats(question);
        for who in self.whos(question) {
            for act in [None, Some(question.act)] {
                for what in &whats {
                    if let Some(bucket) = self.buckets.get(&(who, act, *what)) {
                        bucket.find(question, &mut found);
                    }
                }
            }
        }
        found.sort_unstable();
        found
    }

    fn slot(&mut self, side: &Side) -> Option<Slot> {
        match side {
            Side::Any => Some(Slot::Any),
            Side::Never => None,
            Side::Is(kind) => Some(Slot::Is(*kind)),
            Side::One(kind, id, _) => {
                let next = self.names_count;
                let number = *self.names.entry(*kind).or_default().entry(id.clone()).or_insert(next);
                self.names_count = next.max(number + 1);
                Some(Slot::One(number))
            }
        }
    }

    fn name(&self, kind: Kind, id: &str) -> Option<Slot> {
        self.names.get(&kind)?.get(id).copied().map(Slot::One)
    }

    fn whos(&self, question: &Question) -> Vec<Slot> {
        let who = &question.who;
        let (parent, names) = who.parents();
        let mut slots = vec![Slot::Any, Slot::Is(who.kind())];
        slots.extend(self.name(who.kind(), who.name()));
        slots.extend(names.iter().filter_map(|name| self.name(parent, name)));
        // A group told twice is one group.
        slots.sort_unstable();
        slots.dedup();
        slots
    }

    fn whats(&self, question: &Question) -> Vec<Slot> {
        let what = &question.what;
        let mut slots = vec![Slot::Any, Slot::Is(what.kind())];
        slots.extend(self.name(what.kind(), what.name()));
        slots
    }
}
