//! What can be seen from outside: metrics for Prometheus, JSON lines for people.
//!
//! Promises: every metric has a help text and a unit in its name; labels come from closed lists in this
//! source, never from callers; a slow reader of standard error cannot slow a request. Refuses: digests,
//! payloads, signatures and secrets in any line.

mod log;
mod metrics;

pub use log::{LogGuard, RequestLine, start as start_logging};
pub use metrics::Metrics;
