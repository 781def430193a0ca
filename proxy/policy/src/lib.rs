//! Policy as code: who may do what, under which circumstances, written in Cedar by the operator.
//!
//! Deny by default. A set of policies is checked whole against a schema before it is in force, and its hash
//! names it in every record. A decision is a function of the set and the question: no clock, no network, no
//! state. What a policy cannot answer is denied. [`POLICY.md`](https://docs.rs/chancery-policy) beside this
//! crate tells operators how to write and test policies; its examples run as tests.
//!
//! ```
//! use std::sync::Arc;
//! use chancery_policy::{Act, Circumstances, Decision, Moment, PolicySet, Question, What, Who};
//!
//! let text = r#"@id("read-own") permit (principal == Service::"billing", action == Action::"read", resource);"#;
//! let set = PolicySet::parse(&[("services.cedar", text)], true).expect("the policies are right");
//! let question = Question {
//!     who: Who::Service { name: "billing".parse().expect("a name"), groups: vec![] },
//!     act: Act::Read,
//!     what: What::Stream("invoices".parse().expect("a name")),
//!     circumstances: Circumstances {
//!         moment: Moment::from_unix_seconds(1_767_225_600),
//!         environment: "production".to_owned(),
//!         source: None, purpose: None, dialect: None, algorithm: None, stream: None,
//!     },
//! };
//! assert!(matches!(set.decide(&question), Decision::Allow { .. }));
//! ```
//!
//! | file | promises |
//! |---|---|
//! | `question.rs` | `Question`: who, act, what, circumstances; `World`: keys made ready once |
//! | `decision.rs` | `Decision`: no, yes, or yes if a quorum or a hook agrees |
//! | `set.rs` | `PolicySet`: the order of reasons of a decision |
//! | `chancery.cedarschema`, `schema.rs` | what policies may speak of |
//! | `roles.cedar` | the default rights of persons |
//! | `parse.rs`, `split.rs`, `annotations.rs` | from files to checked policies, every problem at once |
//! | `scope.rs`, `index.rs`, `guard.rs` | few of many policies reach Cedar, and no answer changes by it |
//! | `ask.rs` | a question in Cedar's terms |
//! | `explain.rs` | why an answer is what it is |
//! | `cases.rs`, `case_file.rs` | expected answers, run against a set |
//! | `load.rs` | reading a folder |
//! | `limits.rs` | every bound |

mod annotations;
mod ask;
mod case_file;
mod cases;
mod decision;
mod explain;
mod guard;
mod index;
pub mod limits;
mod load;
mod parse;
mod problem;
#[cfg(test)]
mod properties;
mod question;
mod schema;
mod scope;
mod set;
mod split;

pub use cases::{CaseOutcome, CaseReport, run_cases};
pub use decision::{Condition, Decision, DenyReason, Lift, PolicyId, PolicyIdError, Unreachable};
pub use explain::{Explanation, Told};
pub use load::{Files, load_cases, load_policies};
pub use problem::{PolicyProblem, Position};
pub use question::{Act, Circumstances, Key, KeyFacts, Moment, Question, UnknownAct, What, Who, World};
pub use schema::SCHEMA;
pub use set::{DEFAULT_ROLES, DEFAULT_ROLES_FILE, PolicySet};
