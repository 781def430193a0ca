//! The list of logs of the public witness network (`logs/v0`): which logs ask witnesses to cosign, and how often.
//!
//! A file of lines: the header `logs/v0`, then for each log `vkey <vkey>`, and after it at most one each of `origin
//! <origin>` (`none` and nothing: the key's name), `qpd <requests a day>`, `contact <text>` and `bastion <url>`, which is
//! not used. Empty lines and lines that begin with `#` are nothing.
//!
//! Refused, with the line: anything before the header, a second one, unknown words, words without what belongs to them or
//! twice for one log, control characters, more than the limits below. A log that cannot be witnessed here – its key is of
//! another type than a log's, or named otherwise than its origin – is left out and told, so that one log of another kind
//! does not keep out a whole list.

use std::fmt;

use crate::log_key::LogKey;
use crate::names::Origin;
use crate::witness::decimal;

/// Largest list read, in bytes: [`LOGS_MAX`] logs with Ed25519 keys and their contacts fit.
pub const LIST_BYTES_MAX: usize = 8 * 1024 * 1024;
/// Most logs of a list.
pub const LOGS_MAX: usize = 16_384;
/// Most requests a day that a list can allow: a thousand a second.
pub const REQUESTS_PER_DAY_MAX: u64 = 86_400_000;

/// First line of a list that is no comment.
const HEADER: &str = "logs/v0";
/// What stands for nothing.
const NONE: &str = "none";

/// Why a list was refused. Whoever wrote the file is at fault; retrying cannot help.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("log list line {line}: {flaw}")]
pub struct LogListError {
    /// Counted from 1; the line after the last for what the whole file lacks.
    pub line: usize,
    /// What is wrong with it.
    pub flaw: LogListFlaw,
}

/// What can be wrong with a line of a list.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum LogListFlaw {
    /// The file is larger than [`LIST_BYTES_MAX`] or has more logs than [`LOGS_MAX`].
    #[error("too large")]
    TooLarge,
    /// A control character other than tab, or bytes that are no UTF-8.
    #[error("control character or not UTF-8")]
    Text,
    /// No `logs/v0` before everything else, or a second one.
    #[error("not exactly one header logs/v0, and first")]
    Header,
    /// Not one of the words, or nothing after it, or before the first `vkey`.
    #[error("not vkey, origin, qpd, contact or bastion with what belongs to it")]
    Word,
    /// The same word again for one log.
    #[error("word is there already for this log")]
    Twice,
    /// Not a number above 0, in decimal, of at most [`REQUESTS_PER_DAY_MAX`].
    #[error("not a number of requests a day")]
    Number,
}

/// One log of a list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListedLog {
    /// Its key, named by its origin.
    pub key: LogKey,
    /// Requests to cosign that it may make in a day, rounded up; `None` if the list says nothing.
    pub requests_per_day: Option<u64>,
    /// How to reach whoever runs it.
    pub contact: Option<String>,
}

impl fmt::Display for ListedLog {
    /// Its lines, without the header.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "vkey {}\norigin {}\n", self.key.vkey(), self.key.name())?;
        if let Some(requests) = self.requests_per_day {
            writeln!(f, "qpd {requests}")?;
        }
        match &self.contact {
            Some(contact) => writeln!(f, "contact {contact}"),
            None => Ok(()),
        }
    }
}

/// Why a log is not taken from a list.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Unfit {
    /// Not a vkey of type 0x01 or 0x06, in its one spelling.
    #[error("its key is not a log's Ed25519 or ML-DSA-44 verifier key")]
    Key,
    /// The key's name is not an origin, or the log has another origin.
    #[error("its key is not named by its origin")]
    Origin,
}

/// A list as read.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LogList {
    /// The logs that can be witnessed, in the file's order; more than one may have the same origin.
    pub logs: Vec<ListedLog>,
    /// The lines of those that cannot, with the reason.
    pub left_out: Vec<(usize, Unfit)>,
}

impl fmt::Display for LogList {
    /// The file: the header, and what [`LogList::logs`] has.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{HEADER}")?;
        self.logs.iter().try_for_each(|log| write!(f, "\n{log}"))
    }
}

/// One log, as far as it was read.
struct Block<'a> {
    line: usize,
    vkey: &'a str,
    origin: Option<&'a str>,
    requests: Option<u64>,
    contact: Option<&'a str>,
    bastion: Option<&'a str>,
}

impl LogList {
    /// Reads a list.
    pub fn parse(file: &[u8]) -> Result<Self, LogListError> {
        let at = |line, flaw| LogListError { line, flaw };
        if file.len() > LIST_BYTES_MAX {
            return Err(at(1, LogListFlaw::TooLarge));
        }
        let (mut blocks, mut headed, mut count): (Vec<Block<'_>>, bool, usize) = (Vec::new(), false, 0);
        for (line, number) in file.split(|byte| *byte == b'\n').zip(1..) {
            count = number;
            match read(line, number, headed, blocks.last_mut()).map_err(|flaw| at(number, flaw))? {
                Line::Nothing => {}
                Line::Header => headed = true,
                Line::Log(_) if blocks.len() == LOGS_MAX => return Err(at(number, LogListFlaw::TooLarge)),
                Line::Log(block) => blocks.push(block),
            }
        }
        if !headed {
            return Err(at(count + 1, LogListFlaw::Header));
        }
        let mut list = Self::default();
        for block in blocks {
            match fit(&block) {
                Ok(log) => list.logs.push(log),
                Err(unfit) => list.left_out.push((block.line, unfit)),
            }
        }
        Ok(list)
    }
}

/// What a line brings, beside what it adds to the log before it.
enum Line<'a> {
    Nothing,
    Header,
    Log(Block<'a>),
}

fn read<'a>(
    line: &'a [u8],
    number: usize,
    headed: bool,
    log: Option<&mut Block<'a>>,
) -> Result<Line<'a>, LogListFlaw> {
    let line = std::str::from_utf8(line).map_err(|_| LogListFlaw::Text)?;
    let line = line.strip_suffix('\r').unwrap_or(line);
    if line.chars().any(|c| c.is_control() && c != '\t') {
        return Err(LogListFlaw::Text);
    }
    let line = line.trim_matches([' ', '\t']);
    if line.is_empty() || line.starts_with('#') {
        return Ok(Line::Nothing);
    }
    if (line == HEADER) == headed {
        return Err(LogListFlaw::Header);
    }
    if !headed {
        return Ok(Line::Header);
    }
    let (word, rest) = line.split_once([' ', '\t']).ok_or(LogListFlaw::Word)?;
    let rest = rest.trim_start_matches([' ', '\t']);
    if word == "vkey" {
        let (origin, requests, contact, bastion) = (None, None, None, None);
        return Ok(Line::Log(Block { line: number, vkey: rest, origin, requests, contact, bastion }));
    }
    let log = log.ok_or(LogListFlaw::Word)?;
    let known = match word {
        "qpd" => log.requests.replace(requests(rest).ok_or(LogListFlaw::Number)?).is_some(),
        "origin" => log.origin.replace(rest).is_some(),
        "contact" => log.contact.replace(rest).is_some(),
        "bastion" => log.bastion.replace(rest).is_some(),
        _ => return Err(LogListFlaw::Word),
    };
    if known { Err(LogListFlaw::Twice) } else { Ok(Line::Nothing) }
}

/// A number of requests, which may have a fraction; rounded up.
fn requests(text: &str) -> Option<u64> {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, "0"));
    let digits = !fraction.is_empty() && fraction.bytes().all(|byte| byte.is_ascii_digit());
    let part = u64::from(fraction.bytes().any(|byte| byte != b'0'));
    let number = decimal(whole).filter(|_| digits)?.checked_add(part)?;
    (1..=REQUESTS_PER_DAY_MAX).contains(&number).then_some(number)
}

fn fit(block: &Block<'_>) -> Result<ListedLog, Unfit> {
    let key = LogKey::parse(block.vkey).map_err(|_| Unfit::Key)?;
    let origin = block.origin.filter(|origin| *origin != NONE).unwrap_or(key.name());
    if origin != key.name() || Origin::check(origin).is_err() {
        return Err(Unfit::Origin);
    }
    let contact = block.contact.map(str::to_owned);
    Ok(ListedLog { key, requests_per_day: block.requests, contact })
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a failed unwrap is the test's failure")]
    use super::*;
    use crate::cosignature::tests::{LOG_VKEY, ORIGIN, TestCosigner, WITNESS_VKEY};

    fn flaw(file: &str) -> (usize, LogListFlaw) {
        let error = LogList::parse(file.as_bytes()).unwrap_err();
        (error.line, error.flaw)
    }

    #[test]
    fn a_list_is_read_as_its_description_says() {
        let other = TestCosigner::ml_dsa("ledger.example/other", 0x44).key.vkey();
        let file = format!(
            "#\n# List: 10qps-100klogs\n\n logs/v0\r\n\n# first\nvkey {LOG_VKEY}\norigin none\nqpd 86400\n\
             bastion none\ncontact sysadmin (at) ledger.example\n\nvkey\t{other}\norigin ledger.example/other\nqpd 0.25\n"
        );
        let list = LogList::parse(file.as_bytes()).unwrap();
        let key = |vkey: &str| LogKey::parse(vkey).unwrap();
        let contact = Some("sysadmin (at) ledger.example".to_owned());
        let first = ListedLog { key: key(LOG_VKEY), requests_per_day: Some(86_400), contact };
        let second = ListedLog { key: key(&other), requests_per_day: Some(1), contact: None };
        assert_eq!(list, LogList { logs: vec![first.clone(), second], left_out: Vec::new() });
        assert_eq!(LogList::parse(list.to_string().as_bytes()).unwrap(), list);
        let one = LogList { logs: vec![first], left_out: Vec::new() };
        assert_eq!(
            one.to_string(),
            format!(
                "logs/v0\n\nvkey {LOG_VKEY}\norigin {ORIGIN}\nqpd 86400\ncontact sysadmin (at) ledger.example\n"
            )
        );
        assert_eq!(LogList::parse(b"logs/v0").unwrap(), LogList::default());
    }

    #[test]
    fn a_log_of_another_kind_is_left_out_and_the_others_stay() {
        let file = format!(
            "logs/v0\nvkey {WITNESS_VKEY}\nvkey nonsense\nvkey {LOG_VKEY}\norigin ledger.example/renamed\nvkey {LOG_VKEY}\n"
        );
        let list = LogList::parse(file.as_bytes()).unwrap();
        assert_eq!(list.left_out, [(2, Unfit::Key), (3, Unfit::Key), (4, Unfit::Origin)]);
        assert_eq!(list.logs.len(), 1);
    }

    #[test]
    fn what_is_no_list_is_refused_at_its_line() {
        use LogListFlaw::{Header, Number, Text, Twice, Word};
        let log = format!("logs/v0\nvkey {LOG_VKEY}\n");
        for (file, line, what) in [
            (String::new(), 2, Header),
            ("# only a comment\n".into(), 3, Header),
            (format!("vkey {LOG_VKEY}\nlogs/v0\n"), 1, Header),
            ("logs/v1\n".into(), 1, Header),
            ("logs/v0\nlogs/v0\n".into(), 2, Header),
            ("logs/v0\nqpd 5\n".into(), 2, Word),
            ("logs/v0\nvkey\n".into(), 2, Word),
            (format!("{log}colour blue\n"), 3, Word),
            (format!("{log}QPD 5\n"), 3, Word),
            (format!("{log}qpd 5\nqpd 5\n"), 4, Twice),
            (format!("{log}origin none\norigin none\n"), 4, Twice),
            (format!("{log}contact a\u{7}b\n"), 3, Text),
            (format!("{log}qpd 0\n"), 3, Number),
            (format!("{log}qpd 0.0\n"), 3, Number),
            (format!("{log}qpd -1\n"), 3, Number),
            (format!("{log}qpd 1e3\n"), 3, Number),
            (format!("{log}qpd 1.\n"), 3, Number),
            (format!("{log}qpd 86400000.5\n"), 3, Number),
            (format!("{log}qpd 99999999999999999999\n"), 3, Number),
        ] {
            assert_eq!(flaw(&file), (line, what), "{file}");
        }
        let binary = [log.as_bytes(), b"contact \xff\n"].concat();
        assert_eq!(LogList::parse(&binary).unwrap_err().flaw, Text);
    }

    #[test]
    fn lists_are_bounded() {
        let line = format!("vkey {LOG_VKEY}\n");
        let full = format!("logs/v0\n{}", line.repeat(LOGS_MAX));
        assert_eq!(LogList::parse(full.as_bytes()).unwrap().logs.len(), LOGS_MAX);
        assert_eq!(flaw(&format!("{full}{line}")), (LOGS_MAX + 2, LogListFlaw::TooLarge));
        let long = vec![b'#'; LIST_BYTES_MAX + 1];
        assert_eq!(LogList::parse(&long).unwrap_err().flaw, LogListFlaw::TooLarge);
    }
}
