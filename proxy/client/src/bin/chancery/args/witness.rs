//! What can be typed about witnesses.

use std::path::PathBuf;

use chancery_format::log_list::REQUESTS_PER_DAY_MAX;
use clap::{Args, Subcommand};

#[derive(Debug, Subcommand)]
pub(crate) enum Witness {
    /// Print our ledger's entry for a list of logs, such as the public witness network's
    #[command(
        after_help = "The list that is printed has one log, ours: the header logs/v0, its verifier key, its origin, how often it may ask in
a day, and whom to reach. Its block is what a list's maintainers want. The key is the Ed25519 key that signs
checkpoints now; after a rotation of that key the entry must be sent again.

Example:
  chancery witness entry --contact ops@example.org --signers signers.json
  chancery witness entry --contact https://example.org/ledger --qpd 17280"
    )]
    Entry(Entry),
}

#[derive(Debug, Args)]
pub(crate) struct Entry {
    /// How whoever runs a witness reaches whoever runs this ledger
    #[arg(long, value_name = "TEXT")]
    pub(crate) contact: String,
    /// Requests a day: a checkpoint every ten seconds, unless `[witnessing] interval_ms` says otherwise
    #[arg(long = "qpd", value_name = "N", default_value_t = 8_640, value_parser = clap::value_parser!(u64).range(1..=REQUESTS_PER_DAY_MAX))]
    pub(crate) requests_per_day: u64,
    /// Registry to read [default: the service's own]
    #[arg(long, value_name = "FILE")]
    pub(crate) signers: Option<PathBuf>,
}
