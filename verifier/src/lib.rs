//! `chancery-verify`: what an auditor runs, offline, against a folder or a bucket and a `signers.json`.
//!
//! It promises that whatever is wrong with an archive is found and named: every leaf, event hash, chain,
//! tile, root, checkpoint, registry version and individual signature is derived again from the entries.
//! It links `chancery-format` and nothing else of ours, opens no network unless told `s3://` or a database (which
//! it asks through `psql`), and writes nothing but the report it is asked for. Memory does not grow with the ledger;
//! of other writers' chains it holds fifty bytes for each row.
//!
//! | file | promises |
//! |---|---|
//! | `main.rs`, `…_command.rs` | the command line and the exit codes |
//! | `evidence.rs`, `evidence/` | reading an archive from a folder or a bucket |
//! | `inventory.rs` | what is there by name, what is missing, what should not be there |
//! | `trust.rs` | the given registry, ready for look-ups |
//! | `ledger.rs`, `ledger/` | a whole archive: one pass in order, everything else in parallel |
//! | `sample.rs`, `sample/` | a sample of an archive's entries, and what it says about the others |
//! | `receipt.rs` | one receipt |
//! | `evidence_file.rs`, `evidence_file/` | one `.evidence` file, part by part |
//! | `consistency.rs` | two checkpoints |
//! | `compare.rs`, `compare/` | two archives of one ledger: where they part, and the proof |
//! | `newest.rs`, `nodes.rs` | an archive at its newest signed head, and hashes of its tree |
//! | `events.rs`, `events/` | chains that other writers made, from their exports or their tables |
//! | `documents.rs`, `documents/` | manifests, proofs and snapshots that existing services signed |
//! | `explain.rs` | one entry, readably, and its path up to the signed root |
//! | `findings.rs`, `report.rs` | what was found, as text and as JSON |
//! | `html.rs`, `html/`, `save.rs` | the auditor's report, and how it becomes a file |
//! | `progress.rs` | a line for people at a terminal |
//!
//! It refuses to guess: a registry that does not parse as a whole, an archive it cannot list, a file it
//! cannot read are said, never skipped.

pub mod compare;
pub mod completeness;
pub mod consistency;
pub mod documents;
pub mod events;
pub mod evidence;
pub mod evidence_file;
pub mod explain;
pub mod findings;
pub mod html;
mod inventory;
pub mod ledger;
mod newest;
mod nodes;
pub mod progress;
pub mod receipt;
pub mod report;
pub mod sample;
pub mod save;
pub mod trust;

pub use findings::{Finding, Findings, Kind, Weight};
pub use report::Report;
pub use trust::Trust;
