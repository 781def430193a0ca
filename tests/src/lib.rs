//! The rig behind the tests and the benchmark: the real daemon on loopback, real clients, real tokens,
//! real object stores; each started at a free port and stopped by process id.
//!
//! | file | promises |
//! |---|---|
//! | `rig/authority.rs` | a certificate authority that lives as long as one test |
//! | `rig/world.rs` | one installation: folder, configuration, certificates, token |
//! | `rig/daemon.rs` | `chanceryd` as a child process: start, wait until ready, stop, kill |
//! | `rig/wire.rs` | raw HTTPS calls that show TLS alerts, statuses and bodies as they are |
//! | `rig/evidence.rs` | reads an archive folder with the format crate alone |
//! | `servers/` | real S3 servers with Object Lock, a real OpenID provider |
//! | `bench/` | the benchmark binary |
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test rig reports by panicking"
)]

pub mod rig;
pub mod servers;
