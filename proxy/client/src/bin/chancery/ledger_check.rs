//! `chancery ledger check`: asks the daemon to check itself, waits, and says what it found.

use std::io::{IsTerminal as _, Write as _};
use std::time::Duration;

use chancery_client::Answer;
use chancery_client::people::People;
use serde_json::{Value, json};

use crate::args::ledger::Check;
use crate::output::{Failure, Report, columns, one_line};
use crate::people::{items, member, word};

/// Between two questions how far it is: at first, and at most.
const ASK_FIRST: Duration = Duration::from_millis(100);
const ASK_MAX: Duration = Duration::from_secs(2);
/// Findings that people are told one by one; the JSON has more.
const FINDINGS_SHOWN: usize = 20;

pub(crate) async fn check(people: &People, asked: &Check) -> Result<Report, Failure> {
    let begun = people.check_ledger(asked.repair).await?;
    // Whose check it is: a daemon that restarts meanwhile has forgotten it.
    let since = member(&begun.value, "since").clone();
    let mut wait = ASK_FIRST;
    let mut terminal = Some(std::io::stderr()).filter(std::io::Stderr::is_terminal);
    let ended = loop {
        let state = people.ledger_check().await?;
        if *member(&state.value, "since") != since {
            return Err(Failure::unavailable(
                &"the daemon forgot the check: it was started again; ask once more",
            ));
        }
        if *member(&state.value, "state") != "running" {
            break state;
        }
        if let Some(terminal) = &mut terminal {
            // What cannot be drawn is no failure.
            drop(write!(terminal, "\r\x1b[K{}", how_far(member(&state.value, "progress"))));
        }
        tokio::time::sleep(wait).await;
        wait = (wait * 2).min(ASK_MAX);
    };
    if let Some(terminal) = &mut terminal {
        drop(write!(terminal, "\r\x1b[K"));
    }
    told(&ended)
}

fn how_far(progress: &Value) -> String {
    let of = |name| word(member(progress, name));
    format!("{} of {} entries, {} archived objects", of("done"), of("entries"), of("objects"))
}

fn told(ended: &Answer<Value>) -> Result<Report, Failure> {
    let it = &ended.value;
    if *member(it, "state") != "done" {
        let detail = word(member(it, "detail"));
        return Err(match *member(it, "unavailable") == true {
            true => Failure::unavailable(&detail),
            false => Failure::evidence(&detail),
        });
    }
    let report = member(it, "report");
    let mut document = report.clone();
    if let Value::Object(members) = &mut document {
        for name in ["index", "notEnrolled", "by", "since"] {
            members.insert(name.to_owned(), member(it, name).clone());
        }
    }
    let verdict = member(report, "verdict");
    let said = Report::done(text(it, report), document.to_string());
    Ok(match verdict.as_str() {
        Some("clean") => said,
        Some("undecided") => said.undecided(),
        _ => said.invalid(),
    })
}

fn text(it: &Value, report: &Value) -> String {
    let findings = items(member(report, "findings"));
    let mut lines: Vec<String> = findings.iter().take(FINDINGS_SHOWN).map(finding).collect();
    let hidden =
        findings.len().saturating_sub(FINDINGS_SHOWN) as u64 + member(report, "more").as_u64().unwrap_or(0);
    if hidden > 0 {
        lines.push(format!("… and {hidden} more"));
    }
    let checked = |name| word(member(member(report, "checked"), name));
    let verdict = match member(report, "verdict").as_str() {
        Some("clean") => "sound",
        Some("undecided") => "undecided",
        _ => "WRONG",
    };
    let entries = format!(
        "{} of {}, {} under a signed root",
        checked("entries"),
        checked("size"),
        checked("provenSize")
    );
    let looked = format!(
        "{} tiles, {} checkpoints, {} streams, {} heads of streams and keys",
        checked("tiles"),
        checked("checkpoints"),
        checked("streams"),
        checked("heads")
    );
    let archive = format!(
        "{} objects compared, {} shipped again",
        checked("objects"),
        word(member(report, "repaired"))
    );
    let mut rows =
        vec![("ledger", verdict), ("entries", &entries), ("checked", &looked), ("archive", &archive)];
    let enrolled = match (member(it, "index"), member(it, "notEnrolled")) {
        (Value::Null, Value::Null) => None,
        (Value::Null, why) => Some(format!("NOT: {}", word(why))),
        (index, _) => Some(format!("entry {}", word(index))),
    };
    if let Some(enrolled) = &enrolled {
        rows.push(("enrolled", enrolled));
    }
    lines.push(columns(&rows));
    lines.join("\n")
}

fn finding(it: &Value) -> String {
    let of = |name| word(member(it, name));
    let mut place = Vec::new();
    if let Some(index) = member(it, "index").as_u64() {
        place.push(format!("entry {index}"));
    }
    if let Some(object) = member(it, "object").as_str() {
        place.push(object.to_owned());
    }
    let sure = if *member(it, "proven") == json!(true) { "proven" } else { "not proven" };
    let page = member(it, "page").as_str().map(|page| format!(" (runbooks/{page})")).unwrap_or_default();
    // What is repaired in the store is derived from its entries; what is shipped again is the archive's.
    let is_derived = *member(it, "repaired") == json!(true) && member(it, "side").as_str() == Some("store");
    let done = if is_derived { "; derived again" } else { "" };
    let (kind, side, message) = (of("kind"), of("side"), of("message"));
    one_line(&format!("{kind} {}: {side}, {sure}: {message}{done}{page}", place.join(" ")))
}
