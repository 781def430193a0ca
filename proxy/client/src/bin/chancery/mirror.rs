//! `chancery mirror`: a log is followed, its copy served, and checked.

use std::io::{IsTerminal as _, Write as _};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use chancery_client::mirror::{
    self, Checked, Finding, LogKeys, MirrorError, MirrorServer, Progress, Replica, Round, Source,
    SourceOptions, Watcher,
};
use serde_json::{Value, json};
use tokio::signal::unix::{SignalKind, signal};

use crate::args::Connection;
use crate::args::mirror::{Check, Follow, Keys, Mirror, Serve};
use crate::input;
use crate::output::{Failure, Report, columns, one_line, plain};

/// Findings that people are told one by one; the JSON has more.
const FINDINGS_SHOWN: usize = 20;
/// Between two drawings of the bar.
const DRAWN_EVERY: Duration = Duration::from_millis(100);
const BAR_WIDTH: u64 = 30;

pub(crate) async fn run(asked: Mirror, connection: &Connection) -> Result<Report, Failure> {
    match asked {
        Mirror::Follow(asked) => follow(asked, connection).await,
        Mirror::Serve(asked) => serve(asked).await,
        Mirror::Check(asked) => check(&asked),
    }
}

async fn follow(asked: Follow, connection: &Connection) -> Result<Report, Failure> {
    let keys = keys(&asked.keys)?;
    let source = Arc::new(Source::open(&source_options(&asked.log, connection)?)?);
    let replica = Arc::new(Replica::follow(&asked.to)?);
    let mut bar = Bar::on_stderr();
    if asked.once {
        let done = mirror::round(&source, &replica, &keys, &mut bar).await;
        bar.clear();
        return match done {
            Ok(done) => Ok(Report::done(told(&done, &replica), as_json(&done, &replica).to_string())),
            Err(error) => Err(kept(error, &replica)),
        };
    }
    let mut terminate = signal(SignalKind::terminate()).map_err(|error| Failure::unavailable(&error))?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(|error| Failure::unavailable(&error))?;
    let rounds = rounds(&source, &replica, &keys, &mut bar, asked.interval, connection.json);
    let ended = tokio::select! {
        ended = rounds => ended,
        _ = terminate.recv() => Ok(()),
        _ = interrupt.recv() => Ok(()),
    };
    bar.clear();
    ended.map(|()| Report::silent())
}

/// Until something does not pass, or until whoever reads has seen enough.
async fn rounds(
    source: &Arc<Source>,
    replica: &Arc<Replica>,
    keys: &LogKeys,
    bar: &mut Bar,
    interval: u32,
    json: bool,
) -> Result<(), Failure> {
    let mut told_last = String::new();
    loop {
        let done = mirror::round(source, replica, keys, bar).await;
        bar.clear();
        // A log at rest, or one that is away, is told of once.
        let (news, text, document) = match done {
            Ok(done) => (done.head.head().root.to_hex(), told(&done, replica), as_json(&done, replica)),
            Err(error) if error.passes() => {
                let message = error.to_string();
                let document = json!({ "event": "refused", "message": message });
                (message.clone(), format!("goes on: {message}"), document)
            }
            Err(error) => return Err(kept(error, replica)),
        };
        if news != told_last {
            let line = if json { document.to_string() } else { plain(&text) };
            let mut stdout = std::io::stdout().lock();
            if writeln!(stdout, "{line}").and_then(|()| stdout.flush()).is_err() {
                return Ok(());
            }
            told_last = news;
        }
        tokio::time::sleep(Duration::from_secs(u64::from(interval))).await;
    }
}

fn keys(asked: &Keys) -> Result<LogKeys, Failure> {
    let Some(file) = &asked.policy else { return log_keys(&asked.vkey, asked.origin.clone()) };
    let policy = input::policy(file)?;
    LogKeys::of_policy(policy, asked.origin.clone()).map_err(|error| Failure::usage(&error))
}

/// Keys as they are typed: each itself, or a file with one a line.
pub(crate) fn log_keys(given: &[String], origin: Option<String>) -> Result<LogKeys, Failure> {
    let mut vkeys = Vec::new();
    for given in given {
        match given.strip_prefix('@') {
            Some(path) => {
                let path = Path::new(path);
                let text = std::fs::read_to_string(path);
                let text = text.map_err(|error| Failure::usage(&input::named(path, &error)))?;
                vkeys.extend(text.lines().map(str::trim).filter(|line| !line.is_empty()).map(str::to_owned));
            }
            None => vkeys.push(given.clone()),
        }
    }
    LogKeys::parse(&vkeys, origin).map_err(|error| Failure::usage(&error))
}

/// How a log at this address is read.
pub(crate) fn source_options(log: &str, connection: &Connection) -> Result<SourceOptions, Failure> {
    let identity = match (&connection.cert, &connection.key) {
        (Some(certificate), Some(key)) => Some((certificate.clone(), key.clone())),
        (None, None) => None,
        _ => return Err(Failure::usage(&"give both --cert and --key, or neither")),
    };
    // Certificates of the environment are for the service; a public log is not shown them in the clear.
    let secure = log.starts_with("https://");
    Ok(SourceOptions {
        address: log.to_owned(),
        ca: connection.ca.clone().filter(|_| secure),
        identity: identity.filter(|_| secure),
        timeout_ms: connection.timeout_ms,
    })
}

fn told(done: &Round, replica: &Replica) -> String {
    let head = done.head.head();
    let (entries, grown) = (head.size.to_string(), head.size.0.saturating_sub(done.before));
    let fetched = format!("{} tiles and bundles, {} bytes written", done.progress.done, done.progress.bytes);
    let mut rows = vec![
        ("copy", replica.folder().display().to_string()),
        ("entries", if grown > 0 { format!("{entries}, {grown} of them new") } else { entries }),
        ("root", head.root.to_hex()),
        ("fetched", fetched),
    ];
    if let Some(count) = forks(replica) {
        rows.push(("WARNING", format!("{count} in {}/evidence", replica.folder().display())));
    }
    let rows: Vec<_> = rows.iter().map(|(name, value)| (*name, value.as_str())).collect();
    columns(&rows)
}

fn forks(replica: &Replica) -> Option<String> {
    match replica.evidence().len() {
        0 => None,
        1 => Some("1 fork".to_owned()),
        count => Some(format!("{count} forks")),
    }
}

fn as_json(done: &Round, replica: &Replica) -> Value {
    let event = if done.head.size() > done.before { "grown" } else { "unchanged" };
    json!({
        "event": event, "size": done.head.size(), "root": done.head.head().root.to_hex(), "before": done.before,
        "fetched": done.progress.done, "bytes": done.progress.bytes, "checkpoint": done.head.note(),
        "evidence": replica.evidence(),
    })
}

/// A fork is on disk already; its reader is told where.
fn kept(error: MirrorError, replica: &Replica) -> Failure {
    match error {
        MirrorError::Fork(_) => {
            let folder = replica.folder().join("evidence");
            Failure::invalid(&format!("{error}\n\nkept in {}", folder.display()))
        }
        error => error.into(),
    }
}

impl From<MirrorError> for Failure {
    fn from(error: MirrorError) -> Self {
        match &error {
            MirrorError::Usage(_) | MirrorError::Replica { .. } | MirrorError::Stranger { .. } => {
                Self::usage(&error)
            }
            MirrorError::Unavailable(_) => Self::unavailable(&error),
            MirrorError::Missing(_) | MirrorError::Pruned { denied: false, .. } => Self::evidence(&error),
            MirrorError::Refused { .. }
            | MirrorError::Pruned { .. }
            | MirrorError::Bad { .. }
            | MirrorError::Rollback { .. }
            | MirrorError::Fork(_) => Self::invalid(&error),
        }
    }
}

async fn serve(asked: Serve) -> Result<Report, Failure> {
    let replica = Replica::open(&asked.folder)?;
    let opened = MirrorServer::open(replica, asked.listen).await;
    let server = opened.map_err(|error| Failure::unavailable(&error))?;
    if !server.address().ip().is_loopback() {
        eprintln!("chancery: others than this machine can read the copy, without TLS");
    }
    eprintln!("listening on http://{}", server.address());
    let mut terminate = signal(SignalKind::terminate()).map_err(|error| Failure::unavailable(&error))?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(|error| Failure::unavailable(&error))?;
    tokio::select! {
        () = server.serve() => {}
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    Ok(Report::silent())
}

fn check(asked: &Check) -> Result<Report, Failure> {
    let keys = keys(&asked.keys)?;
    let mut bar = Bar::on_stderr();
    let checked = Replica::open(&asked.folder).and_then(|replica| mirror::check(&replica, &keys, &mut bar));
    bar.clear();
    let checked = checked.map_err(|error| match error {
        MirrorError::Stranger { .. } => Failure::invalid(&error),
        // There is nothing that could be checked.
        MirrorError::Replica { .. } => Failure::evidence(&error),
        error => error.into(),
    });
    Ok(verdict(&checked?, keys.origin()))
}

fn verdict(checked: &Checked, origin: &str) -> Report {
    let mut lines: Vec<String> = checked.findings.iter().take(FINDINGS_SHOWN).map(finding).collect();
    if checked.findings.len() > FINDINGS_SHOWN {
        lines.push(format!("… and {} more", checked.findings.len() - FINDINGS_SHOWN));
    }
    let numbers = [checked.head.size(), checked.entries, checked.tiles, checked.wrong, checked.missing];
    let [size, entries, tiles, wrong, missing] = numbers.map(|number| number.to_string());
    lines.push(columns(&[
        ("log", &one_line(origin)),
        ("checkpoint", &format!("{size} entries")),
        ("verified", &format!("{entries} entries, {tiles} tiles")),
        ("wrong", &wrong),
        ("missing", &missing),
    ]));
    let counts = json!({
        "size": checked.head.size(), "entries": checked.entries, "tiles": checked.tiles, "bytes": checked.bytes,
    });
    let json = json!({
        "valid": checked.wrong == 0 && checked.missing == 0, "checked": counts,
        "wrong": checked.wrong, "missing": checked.missing,
        "findings": checked.findings.iter().map(Finding::to_json).collect::<Vec<_>>(),
    });
    let report = Report::done(lines.join("\n"), json.to_string());
    match (checked.wrong, checked.missing) {
        (0, 0) => report,
        (0, _) => report.undecided(),
        _ => report.invalid(),
    }
}

fn finding(finding: &Finding) -> String {
    one_line(&format!("{}: {}: {}", finding.path, finding.kind, finding.message))
}

/// A line for people at a terminal; nothing elsewhere.
pub(crate) struct Bar {
    terminal: Option<std::io::Stderr>,
    begun: Instant,
    drawn: Option<Instant>,
}

impl Bar {
    pub(crate) fn on_stderr() -> Self {
        let terminal = std::io::stderr();
        Self { terminal: terminal.is_terminal().then_some(terminal), begun: Instant::now(), drawn: None }
    }

    /// What cannot be drawn is no failure.
    fn draw(&mut self, text: &str) {
        if let Some(terminal) = &mut self.terminal {
            drop(write!(terminal, "\r\x1b[K{text}").and_then(|()| terminal.flush()));
        }
    }

    pub(crate) fn clear(&mut self) {
        self.drawn = None;
        self.draw("");
    }
}

impl Watcher for Bar {
    fn at(&mut self, progress: &Progress) {
        let Progress { done, total, bytes } = *progress;
        if done == 0 {
            self.begun = Instant::now();
        }
        if self.terminal.is_none() || self.drawn.is_some_and(|drawn| drawn.elapsed() < DRAWN_EVERY) {
            return;
        }
        self.drawn = Some(Instant::now());
        let filled = (done * BAR_WIDTH).checked_div(total).unwrap_or(BAR_WIDTH);
        let bar: String = (0..BAR_WIDTH).map(|at| if at < filled { '#' } else { '.' }).collect();
        let percent = (done * 100).checked_div(total).unwrap_or(100);
        let milliseconds = u64::try_from(self.begun.elapsed().as_millis()).unwrap_or(u64::MAX).max(1);
        let rate = bytes / milliseconds;
        self.draw(&format!("[{bar}] {percent} %  {done} of {total} tiles  {rate} kB/s"));
    }
}
