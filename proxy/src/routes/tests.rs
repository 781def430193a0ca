//! The service's stories, told through [`handle`](super::handle): every refusal with its exact status
//! and code, retries, hang-ups, batches, and who sees what.
#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "a failed unwrap is the test's failure")]

mod cose;
mod events;
mod reading;
mod reconciling;
mod refusals;
mod rig;
mod signing;
mod trying;
