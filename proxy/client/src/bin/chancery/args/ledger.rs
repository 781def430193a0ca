//! What can be typed about the daemon's ledger.

use clap::{Args, Subcommand};

pub(crate) const CHECK_EXAMPLE: &str = "\
The daemon reads every entry, tile, checkpoint and archived object again and computes the tree anew; it goes on signing.
Where two copies differ, the signed checkpoint that covers them says which is wrong. With --repair, what the archive lacks
and a signed checkpoint proves is put there, and that is enrolled with your name; nothing is overwritten, and the store is
never written to. It needs the act read-audit, with --repair the act repair-archive. A daemon that is stopped:
chanceryd check-ledger --config FILE.

Exit codes: 0 sound, or all is repaired; 1 something is wrong, or you may not; 3 nothing can be said; 4 the service or its
archive does not answer. Each finding names a page of runbooks/.

Example:
  chancery ledger check
  chancery ledger check --repair --json";

#[derive(Debug, Subcommand)]
pub(crate) enum Ledger {
    /// Check store and archive against each other, while the daemon runs
    #[command(after_help = CHECK_EXAMPLE)]
    Check(Check),
}

#[derive(Debug, Args)]
pub(crate) struct Check {
    /// Ship again what the archive lacks and a signed checkpoint proves
    #[arg(long)]
    pub(crate) repair: bool,
}
