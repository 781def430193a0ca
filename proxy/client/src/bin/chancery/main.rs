//! `chancery`: signs, verifies, appends and fetches proofs from a shell.
//!
//! Promises: exit codes a script can decide by (0 done or valid · 1 refused or invalid · 2 usage or
//! configuration · 3 evidence missing or unreadable · 4 service unavailable); with `--json`, exactly one
//! JSON document on standard output, failures included. What a person must do while a command waits is told on
//! standard error.
//!
//! Refuses: secrets in arguments. Keys are read from files.
//!
//! | file | does |
//! |---|---|
//! | `args.rs` | what can be typed, with an example for each command |
//! | `commands.rs` | one function per command |
//! | `login.rs` | `login` and `logout`, which need no service |
//! | `input.rs` | files, digests and JSON given on the command line |
//! | `output.rs` | what is printed, and the exit code |

mod args;
mod commands;
mod input;
mod login;
mod output;

use std::process::ExitCode;

use clap::Parser as _;

fn main() -> ExitCode {
    let cli = args::Cli::parse();
    let json = cli.connection.json;
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return output::print(Err(output::Failure::unavailable(&error)), json),
    };
    output::print(runtime.block_on(commands::run(cli)), json)
}
