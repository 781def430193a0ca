//! `chancery event replay`: an outbox is appended, row by row exactly once, and counted at the end.

use std::io::{IsTerminal as _, Write as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use chancery_client::Client;
use chancery_client::replay::{self, Options, ReplayError, State, Watcher};
use serde_json::json;

use crate::args::replay::Replay;
use crate::output::{Failure, Report, columns, one_line};

/// Refused rows that people are told one by one; the JSON has more.
const REFUSED_SHOWN: usize = 20;
/// Between two drawings of the bar.
const DRAWN_EVERY: Duration = Duration::from_millis(100);
const BAR_WIDTH: u64 = 30;

pub(crate) async fn replay(client: &Client, asked: Replay) -> Result<Report, Failure> {
    let state_file = asked.state.unwrap_or_else(|| beside(&asked.file));
    let options = Options { batch: usize::from(asked.batch), patience: Duration::from_secs(asked.patience) };
    let mut bar = Bar::on_stderr();
    let done = replay::replay(client, &asked.file, &state_file, &options, &mut bar).await;
    bar.clear();
    match done {
        Ok(state) => Ok(report(&state, &state_file)),
        Err(ReplayError::Call(error)) => Err(error.into()),
        Err(error @ (ReplayError::File(_) | ReplayError::Changed(_))) => Err(Failure::usage(&error)),
    }
}

fn beside(file: &Path) -> PathBuf {
    let mut name = file.as_os_str().to_owned();
    name.push(".replay.json");
    name.into()
}

/// The count: every row has one fate.
fn report(state: &State, state_file: &Path) -> Report {
    let State { rows, appended, already_there, refused, .. } = state;
    let mut lines: Vec<String> = state.refusals.iter().take(REFUSED_SHOWN).map(refusal).collect();
    if *refused > REFUSED_SHOWN as u64 {
        lines.push(format!("… and {} more refused", refused - REFUSED_SHOWN as u64));
    }
    let numbers = [rows, appended, already_there, refused].map(u64::to_string);
    let [rows_text, appended_text, there_text, refused_text] = &numbers;
    lines.push(columns(&[
        ("rows", rows_text),
        ("appended", appended_text),
        ("already there", there_text),
        ("refused", refused_text),
    ]));
    let json = json!({
        "rows": rows, "appended": appended, "alreadyThere": already_there, "refused": refused,
        "refusals": state.refusals, "state": state_file.display().to_string(),
    });
    let report = Report::done(lines.join("\n"), json.to_string());
    if *refused == 0 && state.is_even() { report } else { report.invalid() }
}

fn refusal(refused: &replay::Refused) -> String {
    let id = refused.id.as_ref().map(|id| format!(" ({id})")).unwrap_or_default();
    one_line(&format!("line {}{id}: {}: {}", refused.line, refused.code, refused.why))
}

/// A line for people at a terminal; nothing elsewhere.
struct Bar {
    terminal: Option<std::io::Stderr>,
    begun: Instant,
    drawn: Option<Instant>,
    rows_before: Option<u64>,
}

impl Bar {
    fn on_stderr() -> Self {
        let terminal = std::io::stderr();
        let terminal = terminal.is_terminal().then_some(terminal);
        Self { terminal, begun: Instant::now(), drawn: None, rows_before: None }
    }

    /// What cannot be drawn is no failure.
    fn draw(&mut self, text: &str) {
        if let Some(terminal) = &mut self.terminal {
            drop(write!(terminal, "\r\x1b[K{text}").and_then(|()| terminal.flush()));
        }
    }

    fn clear(&mut self) {
        self.draw("");
    }
}

impl Watcher for Bar {
    fn at(&mut self, state: &State, bytes_total: u64) {
        let before = *self.rows_before.get_or_insert(state.rows);
        if self.terminal.is_none() || self.drawn.is_some_and(|drawn| drawn.elapsed() < DRAWN_EVERY) {
            return;
        }
        self.drawn = Some(Instant::now());
        let done = state.offset.min(bytes_total);
        let filled = (done * BAR_WIDTH).checked_div(bytes_total).unwrap_or(BAR_WIDTH);
        let bar: String = (0..BAR_WIDTH).map(|at| if at < filled { '#' } else { '.' }).collect();
        let percent = (done * 100).checked_div(bytes_total).unwrap_or(100);
        let milliseconds = u64::try_from(self.begun.elapsed().as_millis()).unwrap_or(u64::MAX).max(1);
        let rate = (state.rows - before) * 1_000 / milliseconds;
        let refused = if state.refused > 0 { format!(", {} refused", state.refused) } else { String::new() };
        self.draw(&format!("[{bar}] {percent} %  {} rows{refused}  {rate}/s", state.rows));
    }

    fn waits(&mut self, why: &dyn std::fmt::Display, pause: Duration) {
        self.drawn = None;
        self.draw(&one_line(&format!("waiting {:.1} s: {why}", pause.as_secs_f64())));
    }
}
