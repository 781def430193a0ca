//! What can be typed about a ledger: single entries, and the check of a daemon's own.

use std::path::PathBuf;

use clap::{Args, Subcommand};

pub(crate) const GET_EXAMPLE: &str = "\
Reads the checkpoint, a few tiles and one bundle, and prints nothing that the signed root does not vouch for. With
--signers also the event's own hash, its place and its individual signature are verified, as in its receipt; with --vkey
any C2SP tlog-tiles log can be read. Whoever runs the log lets principals with read_payloads read it.

Exit codes: 0 verified; 1 the log shows what it did not sign, or the entry is bad; 2 usage; 3 there is no such entry yet,
or the log lacks what it signed; 4 it does not answer.

Example:
  chancery ledger get 1234 --signers signers.json
  chancery ledger get 1234 --signers signers.json --raw | sha256sum
  chancery ledger get 7 --log /srv/mirror --vkey @log.vkey --json";

pub(crate) const EXPLAIN_EXAMPLE: &str = "\
The same as get, and step by step how the entry's hash leads to the signed root: each sibling, its side, what comes out.

Example:
  chancery ledger explain 1234 --signers signers.json
  chancery ledger explain 7 --log https://log.example/26 --vkey log.example/26+530d903a+AekyeRrm5…";

pub(crate) const CHECK_EXAMPLE: &str = "\
The daemon reads every entry, tile, checkpoint and archived object again and computes the tree anew; it goes on signing.
Where two copies differ, the signed checkpoint that covers them says which is wrong. With --repair, what the archive lacks
and a signed checkpoint proves is put there, and that is enrolled with your name; nothing is overwritten. In the store only
heads of streams and keys are written anew, from proven entries; entries never are. It needs the act read-audit, with --repair the act repair-archive. A daemon that is stopped:
chanceryd check-ledger --config FILE.

Exit codes: 0 sound, or all is repaired; 1 something is wrong, or you may not; 3 nothing can be said; 4 the service or its
archive does not answer. Each finding names a page of runbooks/.

Example:
  chancery ledger check
  chancery ledger check --repair --json";

#[derive(Debug, Subcommand)]
pub(crate) enum Ledger {
    /// Fetch one entry, verified
    #[command(after_help = GET_EXAMPLE)]
    Get(Get),
    /// Fetch one entry, and see how it leads to the signed root
    #[command(after_help = EXPLAIN_EXAMPLE)]
    Explain(Entry),
    /// Check store and archive against each other, while the daemon runs
    #[command(after_help = CHECK_EXAMPLE)]
    Check(Check),
}

#[derive(Debug, Args)]
pub(crate) struct Get {
    #[command(flatten)]
    pub(crate) entry: Entry,
    /// Print the entry's bytes alone, as they were hashed
    #[arg(long)]
    pub(crate) raw: bool,
}

/// Which entry, of which log, by whose word.
#[derive(Debug, Args)]
pub(crate) struct Entry {
    /// Position in the ledger, from 0
    #[arg(value_name = "INDEX")]
    pub(crate) index: u64,
    /// Address of the log: https://HOST/PREFIX, http://…, file:///FOLDER, or a mirror's folder [default: the service's]
    #[arg(long, value_name = "LOG")]
    pub(crate) log: Option<String>,
    /// The signers registry to verify with
    #[arg(long, value_name = "FILE", required_unless_present = "vkey", conflicts_with_all = ["vkey", "origin"])]
    pub(crate) signers: Option<PathBuf>,
    /// Verifier key of the log, NAME+HASH+KEY, or @FILE with one a line, instead
    #[arg(long, value_name = "VKEY|@FILE")]
    pub(crate) vkey: Vec<String>,
    /// First line of the log's checkpoints [default: the name of its key]
    #[arg(long, value_name = "ORIGIN")]
    pub(crate) origin: Option<String>,
}

#[derive(Debug, Args)]
pub(crate) struct Check {
    /// Ship again what the archive lacks and a signed checkpoint proves; derive again heads that differ
    #[arg(long)]
    pub(crate) repair: bool,
}
