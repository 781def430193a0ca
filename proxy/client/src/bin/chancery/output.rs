//! What is printed, and the exit code. The only file that knows exit codes.

use std::io::Write as _;
use std::process::ExitCode;

use chancery_client::login::LoginError;
use chancery_client::people::{ApproverKeyError, PeopleError, ProposalError, SpeakError};
use chancery_client::{ClientError, ConnectError, EntropyError, OptionsError, Problem};
use serde_json::{Value, json};

const INVALID: u8 = 1;
const USAGE: u8 = 2;
const EVIDENCE: u8 = 3;
const UNAVAILABLE: u8 = 4;

/// What a command has to say.
pub(crate) struct Report {
    /// For people. Ends without a newline.
    pub(crate) text: String,
    /// For programs: one JSON document.
    pub(crate) json: Vec<u8>,
    /// Printed as they are, instead of either.
    bytes: Option<Vec<u8>>,
    exit: u8,
}

impl Report {
    pub(crate) fn done(text: String, json: impl Into<Vec<u8>>) -> Self {
        Self { text, json: json.into(), bytes: None, exit: 0 }
    }

    /// Everything was said already.
    pub(crate) fn silent() -> Self {
        Self { text: String::new(), json: Vec::new(), bytes: None, exit: 0 }
    }

    /// What was asked for, byte for byte.
    pub(crate) fn bytes(bytes: Vec<u8>) -> Self {
        Self { bytes: Some(bytes), ..Self::silent() }
    }

    /// The command did its work and the answer is no.
    pub(crate) fn invalid(self) -> Self {
        Self { exit: INVALID, ..self }
    }

    /// The command did its work, and something is not there that the answer needs.
    pub(crate) fn undecided(self) -> Self {
        Self { exit: EVIDENCE, ..self }
    }

    pub(crate) fn not_ready(self) -> Self {
        Self { exit: UNAVAILABLE, ..self }
    }
}

/// Why a command did not do its work.
#[derive(Debug)]
pub(crate) struct Failure {
    exit: u8,
    message: String,
    problem: Option<Box<Problem>>,
    /// Key under which asking again is safe, if the request may have been carried out.
    retry_key: Option<String>,
}

impl Failure {
    fn new(exit: u8, message: &dyn std::fmt::Display) -> Self {
        Self { exit, message: message.to_string(), problem: None, retry_key: None }
    }

    pub(crate) fn usage(message: &dyn std::fmt::Display) -> Self {
        Self::new(USAGE, message)
    }

    pub(crate) fn evidence(message: &dyn std::fmt::Display) -> Self {
        Self::new(EVIDENCE, message)
    }

    pub(crate) fn invalid(message: &dyn std::fmt::Display) -> Self {
        Self::new(INVALID, message)
    }

    pub(crate) fn unavailable(message: &dyn std::fmt::Display) -> Self {
        Self::new(UNAVAILABLE, message)
    }

    /// For people.
    pub(crate) fn message(&self) -> &str {
        &self.message
    }

    /// Whether the same may work later.
    pub(crate) const fn is_unavailable(&self) -> bool {
        self.exit == UNAVAILABLE
    }

    /// Names the key to ask again with, where that tells what happened.
    pub(crate) fn with_retry_key(mut self, key: &dyn std::fmt::Display) -> Self {
        if self.exit == UNAVAILABLE {
            self.retry_key = Some(key.to_string());
        }
        self
    }

    /// A thing that is not there is missing evidence, where evidence was asked for.
    pub(crate) fn missing_is_evidence(mut self) -> Self {
        if self.problem.as_ref().is_some_and(|problem| problem.status == 404) {
            self.exit = EVIDENCE;
        }
        self
    }

    fn to_json(&self) -> Value {
        let mut error = match &self.problem {
            Some(problem) => json!(problem),
            None => json!({}),
        };
        if let Some(members) = error.as_object_mut() {
            members.insert("message".into(), json!(self.message));
            if let Some(key) = &self.retry_key {
                members.insert("idempotencyKey".into(), json!(key));
            }
        }
        json!({ "error": error })
    }
}

impl From<ClientError> for Failure {
    fn from(error: ClientError) -> Self {
        let exit = match &error {
            ClientError::Refused(problem) if !problem.unavailable() => INVALID,
            ClientError::Tls(_) => INVALID,
            ClientError::Request(_) => USAGE,
            ClientError::Refused(_)
            | ClientError::Unavailable(_)
            | ClientError::Interrupted(_)
            | ClientError::Deadline(_)
            | ClientError::Reply(_) => UNAVAILABLE,
        };
        let failure = Self::new(exit, &error);
        match error {
            ClientError::Refused(problem) => Self { problem: Some(Box::new(problem)), ..failure },
            _ => failure,
        }
    }
}

impl From<OptionsError> for Failure {
    fn from(error: OptionsError) -> Self {
        Self::usage(&error)
    }
}

impl From<ConnectError> for Failure {
    fn from(error: ConnectError) -> Self {
        match error {
            ConnectError::Options(error) => error.into(),
            ConnectError::Call(error) => error.into(),
        }
    }
}

impl From<EntropyError> for Failure {
    fn from(error: EntropyError) -> Self {
        Self::unavailable(&error)
    }
}

impl From<LoginError> for Failure {
    fn from(error: LoginError) -> Self {
        let exit = match &error {
            error if error.is_usage() => USAGE,
            error if error.passing() => UNAVAILABLE,
            _ => INVALID,
        };
        Self::new(exit, &error)
    }
}

impl From<PeopleError> for Failure {
    fn from(error: PeopleError) -> Self {
        match error {
            PeopleError::SignIn(_) => Self::invalid(&error),
            PeopleError::Login(error) => error.into(),
            PeopleError::Call(error) => error.into(),
        }
    }
}

impl From<ProposalError> for Failure {
    fn from(error: ProposalError) -> Self {
        match error {
            ProposalError::Unreadable(_) => Self::unavailable(&error),
            _ => Self::invalid(&error),
        }
    }
}

impl From<SpeakError> for Failure {
    fn from(error: SpeakError) -> Self {
        match error {
            SpeakError::Proposal(error) => error.into(),
            SpeakError::Call(error) => error.into(),
        }
    }
}

impl From<ApproverKeyError> for Failure {
    fn from(error: ApproverKeyError) -> Self {
        Self::usage(&error)
    }
}

/// Prints and gives the exit code. A reader that closed its end is not our failure.
pub(crate) fn print(result: Result<Report, Failure>, as_json: bool) -> ExitCode {
    let mut stdout = std::io::stdout().lock();
    let (written, exit) = match result {
        Ok(Report { bytes: Some(bytes), exit, .. }) => {
            (stdout.write_all(&bytes).and_then(|()| stdout.flush()), exit)
        }
        Ok(report) if report.text.is_empty() && report.json.is_empty() => (Ok(()), report.exit),
        Ok(report) if as_json => (
            stdout.write_all(report.json.trim_ascii_end()).and_then(|()| stdout.write_all(b"\n")),
            report.exit,
        ),
        Ok(report) => (writeln!(stdout, "{}", report.text), report.exit),
        Err(failure) if as_json => (writeln!(stdout, "{}", failure.to_json()), failure.exit),
        Err(failure) => {
            let mut stderr = std::io::stderr().lock();
            let written = writeln!(stderr, "chancery: {}", plain(&failure.message));
            let hint = match &failure.retry_key {
                Some(key) => writeln!(
                    stderr,
                    "          ask again with --idempotency-key {key}; nothing is done twice"
                ),
                None => Ok(()),
            };
            (written.and(hint), failure.exit)
        }
    };
    match written {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => ExitCode::from(USAGE),
        _ => ExitCode::from(exit),
    }
}

/// Text of others made fit for a terminal: characters that move the cursor or turn the reading order are spelt out.
/// Lines stay lines.
pub(crate) fn plain(text: &str) -> String {
    let turns =
        |c: char| matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    let mut fit = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '\n' => fit.push(c),
            c if c.is_control() || turns(c) => fit.extend(c.escape_unicode()),
            c => fit.push(c),
        }
    }
    fit
}

/// As [`plain`], and on one line: a value cannot pose as another row.
pub(crate) fn one_line(text: &str) -> String {
    plain(text).replace('\n', "\\n")
}

/// Lines of a label and a value, in columns.
pub(crate) fn columns(rows: &[(&str, &str)]) -> String {
    let width = rows.iter().map(|(label, _)| label.len()).max().unwrap_or(0);
    let lines: Vec<_> = rows.iter().map(|(label, value)| format!("{label:width$}  {value}")).collect();
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    #[test]
    fn text_of_others_cannot_rewrite_the_screen() {
        assert_eq!(super::plain("grün\nx"), "grün\nx");
        assert_eq!(super::plain("a\u{1b}[2Jb\rc\u{202e}d"), "a\\u{1b}[2Jb\\u{d}c\\u{202e}d");
        assert_eq!(super::one_line("fixed\nact  none"), "fixed\\nact  none");
    }
}
