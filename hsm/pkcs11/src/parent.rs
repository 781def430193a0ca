//! The daemon's half of a worker: starting it, talking to it, burying it.

pub(crate) mod child;
pub(crate) mod counters;
pub(crate) mod link;
mod log;
mod supervisor;
