//! `chancery`: signs, verifies, appends and fetches proofs from a shell.
//!
//! Promises: exit codes a script can decide by (0 done or valid · 1 refused or invalid · 2 usage or
//! configuration · 3 evidence missing or unreadable · 4 service unavailable); with `--json`, exactly one
//! JSON document on standard output, failures included. What a person must do while a command waits is told on
//! standard error.
//!
//! Refuses: secrets in arguments, keys and tokens are read from files; a person's yes that nobody typed, unless
//! `--yes` says so.
//!
//! | file | does |
//! |---|---|
//! | `args.rs`, `args/` | what can be typed, with an example for each command |
//! | `commands.rs` | which function a command is, and those of services |
//! | `agent.rs` | `agent`, which serves until it is stopped |
//! | `artifacts.rs` | digests and files are signed, and verified |
//! | `completeness.rs` | all entries of a stream or a key are fetched, and watched |
//! | `cose.rs` | COSE receipts are fetched |
//! | `replay.rs`, `export.rs` | an outbox is appended; a stream's rows are written |
//! | `registry.rs` | the registry in other shapes |
//! | `evidence.rs` | bundles of evidence are made and renewed |
//! | `people.rs`, `approvals.rs`, `keys.rs` | acts of people |
//! | `policy.rs` | policies, offline and in force |
//! | `ledger.rs` | single entries of a log, verified |
//! | `ledger_check.rs` | the daemon is asked to check its store and archive |
//! | `mirror.rs` | a log is followed, its copy served and checked |
//! | `witness.rs` | our entry for lists of logs |
//! | `login.rs` | `login` and `logout`, which need no service |
//! | `input.rs` | files, digests and JSON given on the command line |
//! | `output.rs` | what is printed, and the exit code |

mod agent;
mod approvals;
mod args;
mod artifacts;
mod commands;
mod completeness;
mod cose;
mod evidence;
mod export;
mod input;
mod keys;
mod ledger;
mod ledger_check;
mod login;
mod mirror;
mod output;
mod people;
mod policy;
mod registry;
mod replay;
mod witness;

use std::process::ExitCode;

use clap::parser::ValueSource;
use clap::{ArgMatches, CommandFactory as _, FromArgMatches as _};

fn main() -> ExitCode {
    let matches = args::Cli::command().get_matches();
    let mut cli = args::Cli::from_arg_matches(&matches).unwrap_or_else(|error| error.exit());
    cli.connection.key_typed = leaf(&matches).value_source("key") == Some(ValueSource::CommandLine);
    let json = cli.connection.json;
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return output::print(Err(output::Failure::unavailable(&error)), json),
    };
    output::print(runtime.block_on(commands::run(cli)), json)
}

/// What was typed for the innermost command; global options are among it.
fn leaf(matches: &ArgMatches) -> &ArgMatches {
    matches.subcommand().map_or(matches, |(_, inner)| leaf(inner))
}
