//! Telling a person at a terminal how far it is; scripts see nothing.

use std::io::{IsTerminal as _, Write as _};
use std::time::{Duration, Instant};

/// Told while a verification runs.
pub trait Progress {
    /// So many entries are to be read.
    fn begin(&mut self, entries: u64);
    /// So many were.
    fn advance(&mut self, entries: u64);
    /// No more.
    fn end(&mut self);
}

/// Says nothing.
#[derive(Debug, Clone, Copy, Default)]
pub struct Silent;

impl Progress for Silent {
    fn begin(&mut self, _: u64) {}
    fn advance(&mut self, _: u64) {}
    fn end(&mut self) {}
}

/// One line on stderr, rewritten five times a second.
#[derive(Debug)]
pub struct Terminal {
    total: u64,
    started: Instant,
    shown: Instant,
    dirty: bool,
}

/// How often the line is rewritten.
const PERIOD: Duration = Duration::from_millis(200);

impl Terminal {
    /// For stderr, if somebody reads it there.
    pub fn on_stderr() -> Option<Self> {
        let now = Instant::now();
        std::io::stderr().is_terminal().then_some(Self { total: 0, started: now, shown: now, dirty: false })
    }

    fn show(&mut self, line: &str) {
        // A terminal that went away is no reason to stop verifying.
        drop(write!(std::io::stderr(), "\r\x1b[K{line}"));
        self.dirty = !line.is_empty();
    }
}

impl Progress for Terminal {
    fn begin(&mut self, entries: u64) {
        self.total = entries;
        self.started = Instant::now();
    }

    fn advance(&mut self, entries: u64) {
        if self.shown.elapsed() < PERIOD {
            return;
        }
        self.shown = Instant::now();
        let seconds = self.started.elapsed().as_secs().max(1);
        let percent = u128::from(entries) * 100 / u128::from(self.total.max(1));
        self.show(&format!("{entries} of {} entries ({percent} %), {}/s", self.total, entries / seconds));
    }

    fn end(&mut self) {
        if self.dirty {
            self.show("");
        }
    }
}
