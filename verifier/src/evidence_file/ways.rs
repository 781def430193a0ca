//! The five ways, and what came of each.

use serde_json::{Value, json};

/// What came of one way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum State {
    /// It was checked and holds.
    Held,
    /// It was checked and does not hold.
    Failed,
    /// The file does not have it.
    Absent,
    /// It is there, and what is needed to check it was not given, or something before it failed.
    Unchecked,
}

impl State {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Held => "held",
            Self::Failed => "failed",
            Self::Absent => "absent",
            Self::Unchecked => "not-checked",
        }
    }
}

/// One way, and why.
#[derive(Debug, Clone)]
pub(super) struct Way {
    pub(super) state: State,
    word: String,
}

impl Way {
    pub(super) fn new(state: State, word: impl Into<String>) -> Self {
        Self { state, word: word.into() }
    }
}

/// All five, in the order of `evidence_file.rs`.
#[derive(Debug, Clone)]
pub(super) struct Ways {
    pub(super) log: Way,
    pub(super) cose: Way,
    pub(super) signature: Way,
    pub(super) witnesses: Way,
    pub(super) renewals: Way,
}

impl Default for Ways {
    fn default() -> Self {
        let absent = |word: &str| Way::new(State::Absent, word);
        Self {
            log: Way::new(State::Unchecked, "not reached"),
            cose: absent("none in the file"),
            signature: Way::new(State::Unchecked, "not reached"),
            witnesses: absent("no policy was given"),
            renewals: absent("none in the file"),
        }
    }
}

impl Ways {
    fn each(&self) -> [(&'static str, &'static str, &Way); 5] {
        [
            ("log", "the log's signature", &self.log),
            ("cose", "the COSE receipt", &self.cose),
            ("signature", "the entry's own signature", &self.signature),
            ("witnesses", "witnesses", &self.witnesses),
            ("renewals", "renewals", &self.renewals),
        ]
    }

    pub(super) fn to_json(&self) -> Value {
        self.each().into_iter().map(|(name, _, way)| (name.to_owned(), json!(way.state.as_str()))).collect()
    }

    pub(super) fn to_text(&self) -> String {
        let line = |(n, (_, title, way)): (usize, (&str, &str, &Way))| {
            format!("way {}, {title}: {}: {}\n", n + 1, way.state.as_str().replace('-', " "), way.word)
        };
        self.each().into_iter().enumerate().map(line).collect()
    }
}
