//! A worker as a program of its own, for this crate's tests; the daemon is its own worker.

use std::process::ExitCode;

fn main() -> ExitCode {
    chancery_pkcs11::worker::run()
}
