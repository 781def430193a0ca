//! `chancery-verify events`: its options, those of the tools it stands in for among them.

use std::path::{Path, PathBuf};

use chancery_format::Hash;
use chancery_format::chain::canonical::Mode;
use chancery_format::chain::dialect::Dialect;
use chancery_verify::Report;
use chancery_verify::events::database::{Database, DatabaseError};
use chancery_verify::events::rows::Source;
use chancery_verify::events::window::Window;
use chancery_verify::events::{self, Options, RecordedTimes};
use chancery_verify::evidence::{Evidence as _, EvidenceError, S3, S3Config};
use chancery_verify::findings::{Finding, Kind};
use chancery_verify::ledger::THREADS_MAX;
use clap::Args;

use crate::{Stop, keys, named, unreadable};

/// Largest object of a bucket that is read.
const OBJECT_BYTES_MAX: usize = 1 << 30;

const ABOUT: &str = "\
Rows are computed again and compared, signatures checked, links followed. Which writer made them is found out and
said; --dialect and --mode name it. What a writer's hash does not bind is a warning: nobody can vouch for it.";

const EXAMPLES: &str = "\
Examples:
  chancery-verify events audit.ndjson --signers signers.json
  chancery-verify events 2025.json.gz 2026.json.gz --signers signers.json --head 8f5d21bb…
  chancery-verify events ./archive --signers kernel-keys.json --dialect kernel-go
  chancery-verify events kernel.jsonl --signers signers.json --ledger ./ledger-archive
  The table itself, through psql; the password is best left to PGPASSWORD or ~/.pgpass:
    chancery-verify events -d postgres://auditor@db.example/kernel -s signers.json --since 2026-01-01
  An archived export (credentials as for ledger s3://…):
    chancery-verify events -a s3://audit-archive/audit_export_1.jsonl.gz -s signers.json";

/// Everything the command takes.
#[derive(Args)]
#[command(after_help = help())]
pub(crate) struct EventsArgs {
    /// NDJSON, JSON arrays or objects, any of them .gz, or a folder of the Go file store; one export in order
    #[arg(value_name = "FILE", required_unless_present_any = ["database_url", "archive"])]
    files: Vec<PathBuf>,
    /// Read a table of this PostgreSQL database instead, through psql
    #[arg(short, long, value_name = "URL", conflicts_with_all = ["files", "archive"])]
    database_url: Option<String>,
    /// The table
    #[arg(long, value_name = "NAME", default_value = "audit_events", requires = "database_url")]
    table: String,
    /// An archived export: a file, or an object as s3://bucket/key; read before the files
    #[arg(short, long, value_name = "FILE")]
    archive: Vec<String>,
    /// Public keys, in any shape the platform keeps them
    #[arg(short, long, value_name = "FILE")]
    signers: PathBuf,
    /// Print one JSON object instead of text
    #[arg(long)]
    pub(crate) json: bool,
    /// Who wrote them, or auto
    #[arg(long, default_value = "auto", value_name = "NAME")]
    dialect: String,
    /// In which canonical form, or auto
    #[arg(long, default_value = "auto", value_name = "NAME")]
    mode: String,
    /// Hash of the row that must be the last
    #[arg(long, value_name = "HEX")]
    head: Option<String>,
    /// Archive of the ledger that signed the kernel's rows, a folder or s3://bucket/prefix: it recorded the times inside
    /// their signatures, which otherwise are searched for
    #[arg(long, value_name = "ARCHIVE")]
    ledger: Option<String>,
    /// Only the last so many rows
    #[arg(long, value_name = "N")]
    limit: Option<u64>,
    /// Only rows written at this time or later: a day, or RFC 3339
    #[arg(long, visible_alias = "since", value_name = "TIME")]
    from: Option<String>,
    /// Only rows written at this time or earlier, a day as a whole
    #[arg(long, value_name = "TIME")]
    to: Option<String>,
    /// Rows without signature are no error
    #[arg(long)]
    allow_unsigned: bool,
    /// Worker threads [default: one per core]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=THREADS_MAX as i64))]
    threads: Option<u16>,
}

fn help() -> String {
    let dialects = Dialect::ALL.map(Dialect::as_str).join(", ");
    let modes = Mode::ALL.map(Mode::as_str).join(", ");
    format!("{ABOUT}\n\nDialects: {dialects}\nModes: {modes}\n\n{EXAMPLES}")
}

/// Verifies, if everything that was named can be read.
pub(crate) fn run(args: &EventsArgs) -> Result<Report, Stop> {
    let usage = |error: &dyn std::fmt::Display| Stop::Usage(error.to_string());
    let keys = keys(&args.signers)?;
    let bound = |text: &Option<String>, read: fn(&str) -> Result<_, _>| text.as_deref().map(read).transpose();
    let window = Window {
        from: bound(&args.from, Window::read_from).map_err(|error| usage(&error))?,
        to: bound(&args.to, Window::read_to).map_err(|error| usage(&error))?,
        limit: args.limit,
    };
    let options = Options {
        dialect: named(&args.dialect).map_err(|error| usage(&error))?,
        mode: named(&args.mode).map_err(|error| usage(&error))?,
        head: args.head.as_deref().map(Hash::from_hex).transpose().map_err(|error| usage(&error))?,
        unsigned_allowed: args.allow_unsigned,
        window,
        recorded: args.ledger.as_deref().map_or_else(|| Ok(RecordedTimes::default()), recorded)?,
        threads: args.threads.map_or(0, usize::from),
    };
    let sources = sources(args, window)?;
    match events::verify(&sources, &keys, &options) {
        Ok(told) => Ok(told.into_report()),
        Err(error) => Err(Stop::Unreadable(Finding::new(Kind::UnreadableFile, error.to_string()))),
    }
}

fn recorded(archive: &str) -> Result<RecordedTimes, Stop> {
    let unread = |error: EvidenceError| unreadable(Path::new(archive), &error);
    RecordedTimes::read(&*crate::evidence(archive)?).map_err(unread)
}

fn sources(args: &EventsArgs, window: Window) -> Result<Vec<Source>, Stop> {
    if let Some(url) = &args.database_url {
        let database = Database::new(url, &args.table, window);
        let database = database.map_err(|error: DatabaseError| Stop::Usage(error.to_string()))?;
        return Ok(vec![Source::Database(database)]);
    }
    let archived = args.archive.iter().map(|name| source(Path::new(name)));
    archived.chain(args.files.iter().map(|path| source(path))).collect()
}

/// A file, a folder, or an object of a bucket.
fn source(path: &Path) -> Result<Source, Stop> {
    let Some(location) = path.to_str().filter(|name| name.starts_with("s3://")) else {
        return Ok(Source::Path(path.to_owned()));
    };
    let usage = |error: &dyn std::fmt::Display| Stop::Usage(error.to_string());
    let (folder, name) = location.rsplit_once('/').unwrap_or_default();
    let config = S3Config::from_environment(folder, |name| std::env::var(name).ok());
    let bucket = config.and_then(S3::new).map_err(|error| usage(&error))?;
    let bytes = bucket.open(name, OBJECT_BYTES_MAX).map_err(|error| unreadable(path, &error))?;
    Ok(Source::Object { name: location.to_owned(), bytes })
}
