//! What can be typed to write a stream's rows.

use std::path::PathBuf;

use chancery_format::StreamName;
use clap::Args;

pub(crate) const EXAMPLE: &str = "\
For streams that are set to a dialect ([[chains]] in the configuration of the service). One row a line, with the names of
the writer's columns; each is followed from the one before, and beside FILE stands FILE.head.json with the last hash. A
row that has no signature yet gets it now. The file must not be there.

Example:
  chancery event export --stream kernel/audit --output audit.ndjson
  chancery-verify events audit.ndjson --signers signers.json";

#[derive(Debug, Args)]
pub(crate) struct Export {
    /// The stream
    #[arg(long)]
    pub(crate) stream: StreamName,
    /// File to write, one row a line
    #[arg(long, value_name = "FILE")]
    pub(crate) output: PathBuf,
    /// Position in the stream to begin with
    #[arg(long, value_name = "SEQ", default_value_t = 0)]
    pub(crate) from: u64,
}
