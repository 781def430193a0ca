//! The proxy: what a service talks to, and the daemon around it.
//!
//! Promises: nothing is signed without a verified client certificate, a grant and a durable record; no
//! queue, wait or buffer is without a bound; what was accepted is answered, also while shutting down.
//! Refuses: identities that could be read two ways, configuration that is half right, production with
//! anything soft in it.
//!
//! A request goes straight down this table; no callee calls back up.
//!
//! | file | does |
//! |---|---|
//! | `listener.rs`, `tls.rs` | a connection slot, TLS 1.3, client certificate requested, deadlines |
//! | `authenticate.rs` | the verified certificate becomes a [`authenticate::Principal`] |
//! | `routes.rs`, `request.rs`, `reading.rs`, `keys.rs` | bounded read, strict parse, dispatch |
//! | `admission.rs`, `admission/` | kill switch, rate limit, grants: a permit or a refusal |
//! | `dialects.rs`, `dialects/` | the languages services speak already |
//! | `signing.rs`, `events.rs`, `rows.rs` | the plot: enrol, seal, enrol, release |
//! | `response.rs`, `problem.rs`, `refusals.rs` | replies, and the one place that knows status codes |
//!
//! Around it:
//!
//! | file | does |
//! |---|---|
//! | `bin/chanceryd.rs` | `init`, `check`, `run`, `check-ledger`, `openapi` |
//! | `config.rs`, `config/`, `limits.rs`, `guards.rs` | what the operator wrote, every bound, what production refuses |
//! | `daemon.rs` | builds, wires, drains |
//! | `completeness.rs` | heads of all chains, enrolled and proven |
//! | `cose.rs` | heads signed for COSE receipts, and the receipts under them |
//! | `grease.rs` | lines that nobody knows, in test environments |
//! | `checkpointer.rs`, `registry_publisher.rs`, `archiving.rs`, `witnessing.rs` | what happens on a cadence |
//! | `checking.rs`, `checking/` | the check of store and archive, in the background or while it is stopped |
//! | `witness.rs`, `witness/` | cosigns other logs' checkpoints |
//! | `admin.rs` | the listener for people |
//! | `governance.rs`, `halts.rs` | acts of people, and what they stop |
//! | `ops.rs`, `telemetry.rs` | health, metrics, log lines |
//! | `init.rs` | makes a ledger, or a throw-away instance |

pub mod admin;
pub mod admission;
pub mod archiving;
pub mod authenticate;
pub mod chancery;
pub mod checking;
pub mod checkpointer;
pub mod completeness;
pub mod config;
pub mod cose;
pub mod daemon;
pub mod dialects;
pub mod events;
pub mod governance;
mod grease;
pub mod guards;
pub mod halts;
pub mod init;
pub mod keys;
pub mod leaves;
pub mod limits;
pub mod listener;
pub mod openapi;
pub mod ops;
pub mod problem;
pub mod reading;
pub mod reconciling;
pub mod refusals;
pub mod registry_publisher;
pub mod request;
pub mod response;
pub mod routes;
mod rows;
pub mod signing;
mod stop;
mod strict_json;
pub mod telemetry;
pub mod tls;
pub mod witness;
pub mod witnessing;
