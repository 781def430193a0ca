//! Keys in AWS KMS, against three services that imitate it, each by others, and one double of our own.
//!
//! MiniStack and LocalStack sign as AWS does, as far as each goes; moto signs the wrong thing and must never
//! be believed; what neither has (Ed25519ph, ML-DSA, roles without rights) the double has, with keys made
//! when the test starts. Throttling, failures, silence and cut answers come from a proxy in between.

#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "a failed unwrap is the test's failure")]

mod conforms;
mod double;
mod outages;
mod rig;
mod rights;
mod states;
mod wrong_answers;
