//! `chancery event export`: a stream's rows in the form of an existing writer, for the verifiers that read those.
//!
//! The service is not believed: each row's hash is computed again, and must follow from the row before.

use std::fs::File;
use std::io::{BufWriter, IsTerminal as _, Write as _};
use std::path::{Path, PathBuf};

use chancery_client::Client;
use chancery_format::Hash;
use chancery_format::chain::dialect::{self, Dialect};
use chancery_format::chain::json::Value;
use serde_json::json;

use crate::args::export::Export;
use crate::output::{Failure, Report, columns};

/// The last row so far.
struct Last {
    hash: Hash,
    row: String,
}

pub(crate) async fn export(client: &Client, asked: Export) -> Result<Report, Failure> {
    let file = File::create_new(&asked.output);
    let mut file = BufWriter::new(file.map_err(|error| unwritten(&asked.output, &error))?);
    let (mut from, mut rows, mut last) = (Some(asked.from), 0u64, None);
    let progress = std::io::stderr().is_terminal();
    while let Some(start) = from {
        let page = client.rows(&asked.stream, start).await?.value;
        let dialect: Dialect = page.dialect.parse().map_err(|error| Failure::evidence(&error))?;
        for row in &page.items {
            last = Some(follow(dialect, last.as_ref(), row.get()).map_err(|why| broken(rows, &why))?);
            writeln!(file, "{}", row.get()).map_err(|error| unwritten(&asked.output, &error))?;
            rows += 1;
        }
        if progress {
            eprint!("\r{rows} rows");
        }
        from = page.next.filter(|next| *next > start);
    }
    if progress {
        eprintln!();
    }
    let file = file.into_inner().map_err(|error| unwritten(&asked.output, error.error()))?;
    file.sync_all().map_err(|error| unwritten(&asked.output, &error))?;
    let head_file = match &last {
        Some(last) => Some(write_head(&asked.output, last)?),
        None => None,
    };
    let head = last.map_or_else(|| "none".to_owned(), |last| last.hash.to_hex());
    let (name, count) = (asked.output.display().to_string(), rows.to_string());
    let text = columns(&[("rows", &count), ("head", &head), ("file", &name)]);
    let head_file = head_file.map(|path| path.display().to_string());
    let json = json!({ "rows": rows, "head": head, "file": name, "headFile": head_file });
    Ok(Report::done(text, json.to_string()))
}

/// The row after another; why it is none.
fn follow(dialect: Dialect, last: Option<&Last>, row: &str) -> Result<Last, String> {
    let value = Value::parse(row).map_err(|error| error.to_string())?;
    let mode = dialect.modes().first().copied().ok_or("its dialect has no form")?;
    let hash = dialect.hash(&value, mode).map_err(|error| error.to_string())?;
    let stored = dialect::stored(&value).map_err(|error| error.to_string())?;
    if stored.is_some_and(|stored| stored != hash) {
        return Err("its hash is not that of its content".to_owned());
    }
    let previous = dialect::previous(&value).map_err(|error| error.to_string())?;
    match last {
        Some(last) if previous != Some(last.hash) => Err("it does not follow from the row before".to_owned()),
        _ => Ok(Last { hash, row: row.to_owned() }),
    }
}

/// As the kernel's own export leaves it beside its rows.
fn write_head(output: &Path, last: &Last) -> Result<PathBuf, Failure> {
    let row: serde_json::Value = serde_json::from_str(&last.row).unwrap_or_default();
    let of = |names: [&str; 2]| names.iter().find_map(|name| row.get(*name)).cloned().unwrap_or_default();
    let head = json!({
        "headHash": last.hash.to_hex(), "headSignature": of(["signature", "signature"]),
        "signerId": of(["signer_id", "signer_kid"]), "ts": of(["ts", "created_at"]),
        "eventType": of(["event_type", "eventType"]),
    });
    let stem = output.with_extension("");
    let path = PathBuf::from(format!("{}.head.json", stem.display()));
    std::fs::write(&path, format!("{head}\n")).map_err(|error| unwritten(&path, &error))?;
    Ok(path)
}

fn unwritten(path: &Path, error: &std::io::Error) -> Failure {
    Failure::usage(&format!("{}: {error}", path.display()))
}

fn broken(number: u64, why: &str) -> Failure {
    Failure::evidence(&format!("row {} of the service is refused: {why}", number + 1))
}
