//! `chancery completeness` and `chancery monitor`: all entries of a stream or a key, once, or as they come.

use std::fs::File;
use std::io::{BufWriter, IsTerminal as _, Write as _};
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use chancery_client::Client;
use chancery_client::completeness::{Fetched, ProofError, fetch};
use chancery_client::limits;
use chancery_client::replay::write_whole;
use chancery_format::completeness::{CheckedEntry, Complete, Place};
use chancery_format::heads::{Head, HeadName};
use chancery_format::{AuditEvent, Hash, SignersRegistry};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokio::io::AsyncWriteExt as _;
use tokio::signal::unix::{SignalKind, signal};

use crate::args::completeness::{Completeness, Monitor};
use crate::input;
use crate::output::{Failure, Report, columns, plain};

pub(crate) async fn completeness(client: &Client, given: Completeness) -> Result<Report, Failure> {
    let (name, registry) = (&given.whose.name, input::registry(&given.whose.signers)?);
    let unwritten = |error: &std::io::Error| Failure::usage(&input::named(&given.output, error));
    let file = File::create_new(&given.output).map_err(|error| unwritten(&error))?;
    let mut file = BufWriter::new(file);
    let (mut bytes, mut lines) = (0, 0u64);
    let progress = std::io::stderr().is_terminal();
    let fetched = fetch(client, name, &registry, None, |line, _| {
        bytes += line.len() + 1;
        lines += 1;
        if progress && lines.is_multiple_of(1_000) {
            eprint!("\r{lines} entries");
        }
        writeln!(file, "{line}").map_err(|error| unwritten(&error))
    })
    .await;
    if progress && lines >= 1_000 {
        eprintln!();
    }
    let Fetched { complete, .. } = match fetched {
        Ok(fetched) => fetched,
        Err(failure) => {
            // Half a proof looks like a whole one to whoever finds it.
            drop(std::fs::remove_file(&given.output));
            return Err(failure);
        }
    };
    let file = file.into_inner().map_err(|error| unwritten(error.error()))?;
    file.sync_all().map_err(|error| unwritten(&error))?;
    let Complete { name, entries, size, index, checkpoint, signatures } = complete;
    let (count, below, at) = (entries.to_string(), size.to_string(), index.to_string());
    let path = given.output.display().to_string();
    let text = columns(&[
        ("of", name.as_str()),
        ("entries", &format!("{count}, and no others below index {below}")),
        ("said at", &at),
        ("signatures", &signatures.to_string()),
        ("file", &path),
    ]);
    let document = json!({
        "name": name.as_str(), "entries": entries, "below": size.0, "headsIndex": index.0,
        "treeSize": checkpoint.head().size.0, "signatures": signatures, "bytes": bytes, "file": path,
    });
    Ok(Report::done(text, document.to_string()))
}

/// What a monitor keeps.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct State {
    version: u64,
    name: String,
    origin: String,
    count: u64,
    hash: String,
    last: u64,
    last_hash: String,
    /// The checkpoint under which it was proven.
    checkpoint: String,
}

impl State {
    fn read(path: &Path, name: &HeadName, registry: &SignersRegistry) -> Result<Option<Place>, Failure> {
        let wrong = |why: &dyn std::fmt::Display| Failure::usage(&input::named(path, why));
        let bytes = match std::fs::read(path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(wrong(&error)),
        };
        let state: Self = serde_json::from_slice(&bytes).map_err(|error| wrong(&error))?;
        if state.version != 1
            || state.name != name.as_str()
            || state.origin != registry.ledger.origin.as_str()
        {
            return Err(wrong(&format!("is the state of {} in {}", state.name, state.origin)));
        }
        let hash = |text: &str| Hash::from_hex(text).map_err(|error| wrong(&error));
        let head = Head::checked(state.count, hash(&state.hash)?, state.last);
        let head = head.ok_or_else(|| wrong(&"has numbers that no state has"))?;
        Ok(Some(Place { head, last_hash: hash(&state.last_hash)? }))
    }

    fn keep(path: &Path, registry: &SignersRegistry, fetched: &Fetched) -> Result<(), Failure> {
        let Some(place) = fetched.place else { return Ok(()) };
        let state = Self {
            version: 1,
            name: fetched.complete.name.to_string(),
            origin: registry.ledger.origin.to_string(),
            count: place.head.count,
            hash: place.head.hash.to_hex(),
            last: place.head.last.0,
            last_hash: place.last_hash.to_hex(),
            checkpoint: fetched.complete.checkpoint.note().to_owned(),
        };
        let text = serde_json::to_vec_pretty(&state).map_err(|error| Failure::usage(&error))?;
        write_whole(path, &text).map_err(|error| Failure::usage(&input::named(path, &error)))
    }
}

pub(crate) async fn monitor(client: &Client, given: Monitor, json: bool) -> Result<Report, Failure> {
    let mut terminate = signal(SignalKind::terminate()).map_err(|error| Failure::unavailable(&error))?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(|error| Failure::unavailable(&error))?;
    tokio::select! {
        ended = rounds(client, &given, json) => ended,
        _ = terminate.recv() => Ok(Report::silent()),
        _ = interrupt.recv() => Ok(Report::silent()),
    }
}

/// Until something is wrong. A service that is away is asked again.
async fn rounds(client: &Client, given: &Monitor, json: bool) -> Result<Report, Failure> {
    let (name, registry) = (&given.whose.name, input::registry(&given.whose.signers)?);
    let mut is_away = false;
    loop {
        match round(client, given, name, &registry, json).await {
            Ok(()) if given.once => return Ok(Report::silent()),
            Ok(()) => is_away = false,
            Err(failure) if given.once || !failure.is_unavailable() => return Err(failure),
            Err(failure) => {
                if !std::mem::replace(&mut is_away, true) {
                    eprintln!("goes on: {}", plain(failure.message()));
                }
            }
        }
        tokio::time::sleep(Duration::from_secs(u64::from(given.interval))).await;
    }
}

/// What is new is proven first, then told, then kept: an entry is told twice rather than never.
async fn round(
    client: &Client,
    given: &Monitor,
    name: &HeadName,
    registry: &SignersRegistry,
    json: bool,
) -> Result<(), Failure> {
    let place = State::read(&given.state, name, registry)?;
    let mut new = Vec::new();
    let fetched = fetch(client, name, registry, place, |_, entry| {
        if new.len() >= limits::MONITOR_ENTRIES_MAX {
            return Err(Failure::usage(
                &"more new entries than are held at once: fetch them with chancery completeness",
            ));
        }
        new.extend(entry);
        Ok::<(), Failure>(())
    })
    .await?;
    let mut used = false;
    for entry in &new {
        let event = AuditEvent::read(&entry.leaf).map_err(|error| Failure::evidence(&error))?;
        used |= event.event_type.starts_with("signing.");
        tell(given, name, entry, &event, json).await?;
    }
    State::keep(&given.state, registry, &fetched)?;
    if used && given.canary {
        return Err(Failure::invalid(&format!("{name} was used, and is one that nobody may use")));
    }
    Ok(())
}

async fn tell(
    given: &Monitor,
    name: &HeadName,
    entry: &CheckedEntry,
    event: &AuditEvent<'_>,
    json: bool,
) -> Result<(), Failure> {
    let leaf: Value = serde_json::from_slice(&entry.leaf).map_err(|error| Failure::evidence(&error))?;
    let document = json!({ "of": name.as_str(), "index": entry.index.0, "event": leaf }).to_string();
    if let Some(program) = &given.exec {
        run(program, &document).await?;
    }
    let text = format!("{}  {}  {}  {}", entry.index, event.ts, event.event_type, event.actor);
    let line = if json { document } else { plain(&text) };
    let mut stdout = std::io::stdout().lock();
    let told = writeln!(stdout, "{line}").and_then(|()| stdout.flush());
    told.map_err(|error| Failure::unavailable(&error))
}

async fn run(program: &Path, document: &str) -> Result<(), Failure> {
    let failed = |why: &dyn std::fmt::Display| Failure::unavailable(&input::named(program, why));
    let mut command = tokio::process::Command::new(program);
    let mut child =
        command.stdin(Stdio::piped()).kill_on_drop(true).spawn().map_err(|error| failed(&error))?;
    let work = async {
        if let Some(mut stdin) = child.stdin.take() {
            // A program that reads nothing may still do its work.
            drop(stdin.write_all(format!("{document}\n").as_bytes()).await);
        }
        child.wait().await
    };
    let at_most = Duration::from_millis(limits::MONITOR_EXEC_MS);
    match tokio::time::timeout(at_most, work).await {
        Ok(Ok(status)) if status.success() => Ok(()),
        Ok(Ok(status)) => Err(failed(&status)),
        Ok(Err(error)) => Err(failed(&error)),
        Err(_) => Err(failed(&"took too long")),
    }
}

impl From<ProofError> for Failure {
    fn from(error: ProofError) -> Self {
        match error {
            ProofError::Call(error) => error.into(),
            ProofError::Refused { .. } => Self::invalid(&error),
        }
    }
}
