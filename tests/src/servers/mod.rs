//! Real servers for tests: installed once, started on 127.0.0.1, stopped with the test process.
//!
//! | server | what for | from | first install | start |
//! |---|---|---|---|---|
//! | [`ObjectStore::MiniStack`] 1.5.33 | S3 Object Lock, KMS | PyPI | 15 s | 2 s |
//! | [`ObjectStore::LocalStack`] core 2026.3.0 | S3 Object Lock (strictest), KMS | PyPI | 30 s | 5 s |
//! | [`wrong_signer()`] moto 5.2.5 | a KMS that signs the wrong thing | PyPI | 30 s | 5 s |
//! | [`ObjectStore::CephGateway`] 16.2 | a real S3 server: request signatures, lenient create-only | Debian, by hand | 60 s | 15 s |
//! | [`Postgres`] 15 or newer | tables of existing writers | Debian | - | 2 s |
//! | [`OpenIdProvider`] oidc-provider 9.13.3 | people: device flow, JWT access tokens | npm | 5 s | 1 s |
//!
//! Promises: two servers that enforce Object Lock independently of each other start on a machine that has
//! nothing but what is below, unattended, with every version and hash pinned; none outlives the test process,
//! however it ends; none listens beyond loopback. A server that cannot be had is an error with a reason,
//! never a test silently passed over.
//!
//! A machine needs, besides cargo: `python3` with `venv` (Debian: `python3 python3-venv`), a CPython 3.12 or
//! 3.13 for LocalStack — looked for in `CHANCERY_PYTHON`, on the PATH, and below pyenv's `versions`, else downloaded — and
//! PyPI through pip; for [`go_reference`] `go`, 1.19 or newer, and Go's module proxy, from which the Go 1.25 that it is
//! built with comes if the machine's is older; for the provider Node.js, 20 or newer, and npm's registry. Everything
//! lands in `$CHANCERY_CACHE/servers` (default: `chancery` in the user's cache folder), in a folder named by the hash
//! of its recipe, under a lock so that parallel tests install once; Go's own caches in `$CHANCERY_CACHE/go`.
//! Deleting either is always safe.
//!
//! Clients of other people ([`python_client`], [`node_client`], [`go_client`]), [`schemathesis`] and a Node.js of which our
//! own client can ask more than of the machine's ([`node_with_ml_dsa`]) are installed the same way.
//!
//! [`PolicyServiceDouble`] is a double of other people's policy service. [`FaultProxy`] stands between a client and one of them and breaks what it is told to.

mod clients;
mod error;
mod fault_proxy;
mod go;
mod install;
mod openid;
mod policy_service;
mod postgres;
mod process;
mod python;
mod store;
mod transparency;
mod wrong_signer;

pub use clients::{go_client, node_client, node_with_ml_dsa, page_tests, python_client, schemathesis};
pub use error::ServerError;
pub use fault_proxy::{Fault, FaultProxy, RequestHead};
pub use go::go_reference;
pub use install::{cache_dir, install_once};
pub use openid::OpenIdProvider;
pub use policy_service::{Answer, PolicyServiceDouble};
pub use postgres::Postgres;
pub use process::{Server, free_port};
pub use store::{ObjectStore, python_with_cryptography};
pub use transparency::{NoteKey, Omniwitness, TesseraLog, fsck};
pub use wrong_signer::wrong_signer;
