//! A quick look at a policy's conditions that can say "surely false" without Cedar.
//!
//! A guard answers true, false, or "I do not know". It follows Cedar's order: the right side of `&&` and
//! `||` counts only when the left is known, because what is left unknown may fail, and a failure denies. It
//! is asked for nothing but a known false: such a policy neither applies nor fails, so it need not be put
//! to Cedar. Whatever the guard does not understand is unknown.

use cedar_policy::pst::{self, BinaryOp, Clause, Expr, Literal, UnaryOp, Var};

use crate::limits::GUARD_DEPTH_MAX;
use crate::question::{Question, What};
use crate::schema::Kind;

/// A condition as far as it is understood.
#[derive(Debug, Clone)]
pub(crate) enum Guard {
    Unknown,
    Not(Box<Self>),
    And(Box<Self>, Box<Self>),
    Or(Box<Self>, Box<Self>),
    Has(Field),
    Compare(Comparison, Term, Term),
    Member(Term, Kind, Box<str>),
    Is(Term, Kind),
}

/// Comparisons the guard can make.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Comparison {
    Equal,
    NotEqual,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
}

/// One side of a comparison.
#[derive(Debug, Clone)]
pub(crate) enum Term {
    Bool(bool),
    Long(i64),
    Text(Box<str>),
    Entity(Kind, Box<str>),
    Field(Field),
    Who,
    What,
}

/// An attribute of the context or of a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Field {
    Purpose,
    Dialect,
    Algorithm,
    Stream,
    Source,
    Hour,
    Weekday,
    Environment,
    KeyAlgorithm,
    KeyPurpose,
    KeyBackend,
    KeyIsLedgerKey,
}

#[derive(Debug, PartialEq)]
enum Value<'q> {
    Bool(bool),
    Long(i64),
    Text(&'q str),
    Entity(Kind, &'q str),
}

impl Guard {
    /// The guard of a policy's `when` and `unless` clauses, in their order; `None` when it would never say
    /// anything.
    pub(crate) fn of(policy: &cedar_policy::Policy) -> Option<Self> {
        let tree = policy.to_pst().ok()?;
        let clauses = tree.body().clauses().iter().map(|clause| match clause {
            Clause::When(expression) => compile(expression, 0),
            Clause::Unless(expression) => Self::Not(Box::new(compile(expression, 0))),
        });
        clauses
            .reduce(|left, right| Self::And(Box::new(left), Box::new(right)))
            .filter(|guard| !matches!(guard, Self::Unknown))
    }

    /// Whether the condition is surely false for this question, and surely does not fail.
    pub(crate) fn is_false(&self, question: &Question) -> bool {
        self.value(question) == Some(false)
    }

    /// A field and the text it must have, or else the condition is surely false: the first such
    /// comparison, when all in front of it is known for every question.
    pub(crate) fn key(&self) -> Option<(Field, &str)> {
        match self {
            Self::And(left, right) => match left.key() {
                Some(key) => Some(key),
                None if left.is_always_known() => right.key(),
                None => None,
            },
            Self::Compare(Comparison::Equal, Term::Field(field), Term::Text(text))
            | Self::Compare(Comparison::Equal, Term::Text(text), Term::Field(field)) => Some((*field, text)),
            _ => None,
        }
    }

    /// Whether it is true or false for every question, never unknown.
    fn is_always_known(&self) -> bool {
        match self {
            Self::Not(inner) => inner.is_always_known(),
            Self::And(left, right) | Self::Or(left, right) => {
                left.is_always_known() && right.is_always_known()
            }
            Self::Has(_) | Self::Is(Term::Who | Term::What, _) | Self::Member(Term::Who | Term::What, ..) => {
                true
            }
            Self::Unknown | Self::Compare(..) | Self::Is(..) | Self::Member(..) => false,
        }
    }

    fn value(&self, question: &Question) -> Option<bool> {
        match self {
            Self::Unknown => None,
            Self::Not(inner) => inner.value(question).map(|value| !value),
            Self::And(left, right) => match left.value(question)? {
                false => Some(false),
                true => right.value(question),
            },
            Self::Or(left, right) => match left.value(question)? {
                true => Some(true),
                false => right.value(question),
            },
            Self::Has(field) => field.is_set(question),
            Self::Compare(comparison, left, right) => {
                comparison.holds(&left.value(question)?, &right.value(question)?)
            }
            Self::Member(Term::Who, kind, id) => Some(question.who.is_in(*kind, id)),
            Self::Member(Term::What, kind, id) => {
                Some(question.what.kind() == *kind && question.what.name() == &**id)
            }
            Self::Is(Term::Who, kind) => Some(question.who.kind() == *kind),
            Self::Is(Term::What, kind) => Some(question.what.kind() == *kind),
            Self::Member(..) | Self::Is(..) => None,
        }
    }
}

impl Comparison {
    /// `None` for values of two types, about which Cedar shall speak.
    fn holds(self, left: &Value<'_>, right: &Value<'_>) -> Option<bool> {
        use Value::{Bool, Entity, Long, Text};
        match (self, left, right) {
            (Self::Equal, Bool(_), Bool(_))
            | (Self::Equal, Long(_), Long(_))
            | (Self::Equal, Text(_), Text(_))
            | (Self::Equal, Entity(..), Entity(..)) => Some(left == right),
            (Self::NotEqual, ..) => Self::Equal.holds(left, right).map(|equal| !equal),
            (Self::Less, Long(left), Long(right)) => Some(left < right),
            (Self::LessOrEqual, Long(left), Long(right)) => Some(left <= right),
            (Self::Greater, Long(left), Long(right)) => Some(left > right),
            (Self::GreaterOrEqual, Long(left), Long(right)) => Some(left >= right),
            _ => None,
        }
    }
}

impl Term {
    fn value<'q>(&'q self, question: &'q Question) -> Option<Value<'q>> {
        match self {
            Self::Bool(value) => Some(Value::Bool(*value)),
            Self::Long(value) => Some(Value::Long(*value)),
            Self::Text(value) => Some(Value::Text(value)),
            Self::Entity(kind, id) => Some(Value::Entity(*kind, id)),
            Self::Field(field) => field.value(question),
            Self::Who => Some(Value::Entity(question.who.kind(), question.who.name())),
            Self::What => Some(Value::Entity(question.what.kind(), question.what.name())),
        }
    }
}

impl Field {
    fn of(var: &Var, name: &str) -> Option<Self> {
        match (var, name) {
            (Var::Context, "purpose") => Some(Self::Purpose),
            (Var::Context, "dialect") => Some(Self::Dialect),
            (Var::Context, "algorithm") => Some(Self::Algorithm),
            (Var::Context, "stream") => Some(Self::Stream),
            (Var::Context, "source") => Some(Self::Source),
            (Var::Context, "hour") => Some(Self::Hour),
            (Var::Context, "weekday") => Some(Self::Weekday),
            (Var::Context, "environment") => Some(Self::Environment),
            (Var::Resource, "algorithm") => Some(Self::KeyAlgorithm),
            (Var::Resource, "purpose") => Some(Self::KeyPurpose),
            (Var::Resource, "backend") => Some(Self::KeyBackend),
            (Var::Resource, "isLedgerKey") => Some(Self::KeyIsLedgerKey),
            _ => None,
        }
    }

    fn is_set(self, question: &Question) -> Option<bool> {
        let set = match self {
            Self::Source => question.circumstances.source.is_some(),
            _ => self.value(question).is_some(),
        };
        Some(set)
    }

    /// Its text; `None` when it is not there or is no text.
    pub(crate) fn text(self, question: &Question) -> Option<&str> {
        match self.value(question) {
            Some(Value::Text(text)) => Some(text),
            _ => None,
        }
    }

    /// `None` when it is not there, or is no value the guard compares.
    fn value(self, question: &Question) -> Option<Value<'_>> {
        let context = &question.circumstances;
        let facts = match &question.what {
            What::Key(key) => Some(key.facts()),
            What::Stream(_) | What::Appliance => None,
        };
        match self {
            Self::Purpose => context.purpose.as_deref().map(Value::Text),
            Self::Dialect => context.dialect.as_deref().map(Value::Text),
            Self::Algorithm => context.algorithm.as_deref().map(Value::Text),
            Self::Stream => context.stream.as_deref().map(Value::Text),
            Self::Source => None,
            Self::Hour => Some(Value::Long(context.moment.hour().into())),
            Self::Weekday => Some(Value::Long(context.moment.weekday().into())),
            Self::Environment => Some(Value::Text(&context.environment)),
            Self::KeyAlgorithm => facts.map(|facts| Value::Text(facts.algorithm.as_str())),
            Self::KeyPurpose => facts.map(|facts| Value::Text(&facts.purpose)),
            Self::KeyBackend => facts.map(|facts| Value::Text(&facts.backend)),
            Self::KeyIsLedgerKey => facts.map(|facts| Value::Bool(facts.is_ledger_key)),
        }
    }
}

fn compile(expression: &Expr, depth: usize) -> Guard {
    if depth >= GUARD_DEPTH_MAX {
        return Guard::Unknown;
    }
    let inner = |expression: &Expr| Box::new(compile(expression, depth + 1));
    match expression {
        Expr::UnaryOp { op: UnaryOp::Not, expr } => Guard::Not(inner(expr)),
        Expr::BinaryOp { op: BinaryOp::And, left, right } => Guard::And(inner(left), inner(right)),
        Expr::BinaryOp { op: BinaryOp::Or, left, right } => Guard::Or(inner(left), inner(right)),
        Expr::BinaryOp { op, left, right } => compile_comparison(*op, left, right).unwrap_or(Guard::Unknown),
        Expr::HasAttr { expr, attrs } => match &**expr {
            Expr::Var(var) if attrs.len() == 1 => {
                Field::of(var, attrs.first()).map_or(Guard::Unknown, Guard::Has)
            }
            _ => Guard::Unknown,
        },
        Expr::Is { expr, entity_type, in_expr: None } => {
            match (term(expr), Kind::of(&entity_type.to_string())) {
                (Some(term), Some(kind)) => Guard::Is(term, kind),
                _ => Guard::Unknown,
            }
        }
        _ => Guard::Unknown,
    }
}

fn compile_comparison(op: BinaryOp, left: &Expr, right: &Expr) -> Option<Guard> {
    let comparison = match op {
        BinaryOp::Eq => Comparison::Equal,
        BinaryOp::NotEq => Comparison::NotEqual,
        BinaryOp::Less => Comparison::Less,
        BinaryOp::LessEq => Comparison::LessOrEqual,
        BinaryOp::Greater => Comparison::Greater,
        BinaryOp::GreaterEq => Comparison::GreaterOrEqual,
        BinaryOp::In => {
            let Term::Entity(kind, id) = term(right)? else { return None };
            return Some(Guard::Member(term(left)?, kind, id));
        }
        _ => return None,
    };
    Some(Guard::Compare(comparison, term(left)?, term(right)?))
}

fn term(expression: &Expr) -> Option<Term> {
    match expression {
        Expr::Literal(Literal::Bool(value)) => Some(Term::Bool(*value)),
        Expr::Literal(Literal::Long(value)) => Some(Term::Long(*value)),
        Expr::Literal(Literal::String(value)) => Some(Term::Text(value.as_str().into())),
        Expr::Literal(Literal::EntityUID(pst::EntityUID { ty, eid })) => {
            Some(Term::Entity(Kind::of(&ty.to_string())?, eid.as_str().into()))
        }
        Expr::Var(Var::Principal) => Some(Term::Who),
        Expr::Var(Var::Resource) => Some(Term::What),
        Expr::GetAttr { expr, attr } => match &**expr {
            Expr::Var(var) => Field::of(var, attr).map(Term::Field),
            _ => None,
        },
        _ => None,
    }
}
