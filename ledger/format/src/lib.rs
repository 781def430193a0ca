//! The bytes of the ledger, and the arithmetic that proves them.
//!
//! Everything a stranger needs to check Chancery without Chancery is here and in
//! [`FORMAT.md`](https://docs.rs/chancery-format) beside this crate, which describes the same bytes in
//! prose; its examples run as tests. The crate does no I/O, knows no clock and no runtime, and makes no
//! signatures: the offline verifier links it and little else.
//!
//! | file | promises |
//! |---|---|
//! | `names.rs` | `Kid`, `PrincipalName`, `StreamName`, …: text parsed once, believed afterwards |
//! | `algorithm.rs` | the closed list of signature algorithms and their registry names |
//! | `digest.rs` | `Digest`: a length that is right by construction |
//! | `hash.rs` | `Hash`, `LeafIndex`, `TreeSize`: numbers that cannot be mixed up |
//! | `timestamp.rs` | RFC 3339 UTC milliseconds, the only time text in a leaf |
//! | `canonical.rs` | RFC 8785 JSON: strict reading, canonical writing, canonical checking |
//! | `event.rs` | `AuditEvent`, the leaf: how it is built, placed in its stream and read back |
//! | `chain.rs`, `chain/` | chains in the forms of existing writers: what they bind, and how ours are made |
//! | `entry.rs` | what the appliance itself enrols: intents, outcomes, refusals, registry changes |
//! | `merkle.rs` | RFC 6962 tree: frontier, batch proofs, inclusion, consistency and subtrees |
//! | `tile.rs` | C2SP tlog-tiles: paths, tiles, entry bundles |
//! | `note.rs`, `checkpoint.rs` | C2SP signed notes and checkpoints |
//! | `log_key.rs`, `ledger_keys.rs` | the keys by which a log signs them, and from when on a ledger owes both |
//! | `log_list.rs` | the public witness network's list of logs |
//! | `cosignature.rs` | C2SP cosignatures: what witnesses sign, and what a log signs with ML-DSA-44 |
//! | `witness.rs` | C2SP tlog-witness: requests to cosign, a witness' decision, its answers |
//! | `policy.rs` | C2SP tlog-policy: which logs and which quorum of witnesses a verifier trusts |
//! | `public_key.rs` | verification of every algorithm, and the one-key Ed25519 batch equation |
//! | `committed.rs` | `Committed<T>`: the only way a signature can be read |
//! | `tlog_proof.rs` | C2SP tlog-proof: the proof of one entry in a file of its own |
//! | `cose.rs` | COSE receipts (RFC 9942): the same proofs in CBOR |
//! | `registry.rs` | `signers.json`: which key was valid at which index |
//! | `registry_shape.rs` | the registry in the shapes that existing verifiers read |
//! | `receipt.rs` | the proof a client keeps |
//! | `heads.rs` | how many entries each stream and each key has: a map whose root is enrolled |
//! | `completeness.rs` | the proof that these entries of a stream or a key are all there are |
//! | `evidence.rs`, `evidence/` | `.evidence`: all that proves one entry, and its renewals, in one file |
//! | `reconcile.rs` | what the ledger says was done with a key, held against what its device says |
//! | `archive.rs` | names of archived objects |
//!
//! It refuses: input that is not canonical, numbers JSON readers disagree on, unknown fields, unknown
//! event versions, keys and signatures in a second encoding.

pub mod algorithm;
pub mod archive;
pub mod canonical;
pub mod chain;
pub mod checkpoint;
pub mod committed;
pub mod completeness;
pub mod cose;
pub mod cosignature;
pub mod digest;
pub mod entry;
pub mod event;
pub mod evidence;
pub mod governance;
pub mod hash;
pub mod heads;
pub mod ledger_keys;
pub mod log_key;
pub mod log_list;
pub mod merkle;
pub mod names;
pub mod note;
pub mod policy;
pub mod public_key;
pub mod receipt;
pub mod reconcile;
pub mod registry;
pub mod registry_shape;
pub mod tile;
pub mod timestamp;
pub mod tlog_proof;
pub mod witness;

pub use algorithm::{KeyFamily, SignatureAlgorithm};
pub use checkpoint::{Checkpoint, VerifiedCheckpoint};
pub use committed::{Committed, ConfirmedHead, DurableHead, DurableIntent};
pub use digest::{Digest, HashAlgorithm};
pub use entry::{Intent, Outcome, OutcomeResult, Rung};
pub use event::{AuditEvent, EventDraft};
pub use hash::{Hash, LeafIndex, TreeHead, TreeSize};
pub use names::{EventId, EventType, Kid, Origin, PrincipalName, RequestId, StreamName};
pub use public_key::PublicKey;
pub use receipt::Receipt;
pub use registry::SignersRegistry;
pub use registry_shape::RegistryShape;
pub use timestamp::Timestamp;
