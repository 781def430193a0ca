//! What can be typed about completeness, and about watching a key.

use std::path::PathBuf;

use chancery_format::heads::HeadName;
use clap::Args;

pub(crate) const EXAMPLE: &str = "\
The service enrols how many entries each stream and each key has (heads_interval_ms in its configuration). From that, k
entries and two short proofs are all it takes. The service is not believed: every line is checked here, and an entry that
is hidden, moved or altered makes it exit 1. What is written verifies offline.

Example:
  chancery completeness key:orders-2026 --signers signers.json --output orders.jsonl
  chancery-verify completeness orders.jsonl --key orders-2026 --signers signers.json";

pub(crate) const MONITOR_EXAMPLE: &str = "\
Prints a line for every new entry that tells of a key or stands in a stream; with --exec, a program is run for each, and
gets the entry as one JSON line on its standard input. What was told is kept in --state, so nothing is told twice and
nothing is missed, whatever happens in between; a program that fails is run again the next time. Each round proves that
what was there before is still there. It ends with exit 1 when the service shows something else than it showed before,
or, with --canary, when the key is used at all: a canary key is one that nobody ever uses.

Example:
  chancery monitor key:orders-2026 --signers signers.json --state orders.state --exec ./tell-the-owner
  chancery monitor key:canary-1 --canary --signers signers.json --state canary.state --interval 10";

/// Whose entries.
#[derive(Debug, Args)]
pub(crate) struct Whose {
    /// stream:NAME, all events of a stream; or key:SIGNER_KID, all entries that tell of a key pair
    #[arg(value_name = "NAME")]
    pub(crate) name: HeadName,
    /// The signers registry to trust
    #[arg(long, value_name = "FILE")]
    pub(crate) signers: PathBuf,
}

#[derive(Debug, Args)]
pub(crate) struct Completeness {
    #[command(flatten)]
    pub(crate) whose: Whose,
    /// File to write; it must not be there
    #[arg(long, value_name = "FILE")]
    pub(crate) output: PathBuf,
}

#[derive(Debug, Args)]
pub(crate) struct Monitor {
    #[command(flatten)]
    pub(crate) whose: Whose,
    /// File that keeps what was told; made if it is not there
    #[arg(long, value_name = "FILE")]
    pub(crate) state: PathBuf,
    /// The key must never sign: end with exit 1 when it does
    #[arg(long)]
    pub(crate) canary: bool,
    /// Program to run for each new entry
    #[arg(long, value_name = "PROGRAM")]
    pub(crate) exec: Option<PathBuf>,
    /// One round, then end
    #[arg(long)]
    pub(crate) once: bool,
    /// Pause between two rounds, in seconds
    #[arg(long, value_name = "SECONDS", default_value_t = 60, conflicts_with = "once")]
    #[arg(value_parser = clap::value_parser!(u32).range(1..=86_400))]
    pub(crate) interval: u32,
}
