//! What can be typed to replay an outbox.

use std::path::PathBuf;

use clap::Args;

pub(crate) const EXAMPLE: &str = "\
The file has one event a line, as POST /v1/events takes it, each with an id. An id is appended once, however often the
file is replayed: a row that is on the ledger already is compared with it, and one that differs is refused. Where the
replay stands is kept in <FILE>.replay.json, so that it goes on there after a crash; a file that grows can be replayed
again. Refused rows are told with their lines, and the exit code is 1.

Example:
  chancery event replay outbox.ndjson
  chancery event replay outbox.ndjson --batch 100 --patience 60 --json

  outbox.ndjson: {\"id\":\"order-7-paid\",\"eventType\":\"order.paid\",\"payload\":{\"order\":7},\"stream\":\"orders/7\"}";

#[derive(Debug, Args)]
pub(crate) struct Replay {
    /// Events, one a line
    #[arg(value_name = "FILE")]
    pub(crate) file: PathBuf,
    /// Where to keep how far it got [default: FILE.replay.json]
    #[arg(long, value_name = "FILE")]
    pub(crate) state: Option<PathBuf>,
    /// Rows of one call, at most
    #[arg(long, value_name = "N", default_value_t = 500, value_parser = clap::value_parser!(u16).range(1..=1000))]
    pub(crate) batch: u16,
    /// How long to go on trying while the service takes nothing, in seconds
    #[arg(long, value_name = "SECONDS", default_value_t = 300)]
    pub(crate) patience: u64,
}
