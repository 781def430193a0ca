//! Requests for approval: seen, checked here, and decided by somebody who typed it.

use std::io::{BufRead as _, IsTerminal as _, Write as _};

use chancery_client::people::{ApproverKey, People, Proposal};
use chancery_format::governance::{Act, Verdict};

use crate::args::Connection;
use crate::args::people as args;
use crate::output::{Failure, Report, plain};
use crate::people::{items, member, summary, table, told, word};

pub(crate) async fn run(
    people: &People,
    asked: args::Approvals,
    connection: &Connection,
) -> Result<Report, Failure> {
    match asked {
        args::Approvals::List(asked) => list(people, &asked).await,
        args::Approvals::Show(asked) => show(people, &asked.id).await,
        args::Approvals::Approve(asked) => speak(people, &asked, Verdict::Approve, connection).await,
        args::Approvals::Reject(asked) => speak(people, &asked, Verdict::Refuse, connection).await,
    }
}

async fn list(people: &People, asked: &args::ListApprovals) -> Result<Report, Failure> {
    let answer = people.approvals(asked.status.map(args::Status::as_str)).await?;
    let rows = items(member(&answer.value, "approvals")).iter().map(|it| {
        let act = serde_json::from_value::<Act>(member(it, "act").clone());
        let act = act.map_or_else(|_| member(it, "act").to_string(), |act| summary(&act));
        let yes = member(it, "approvedBy").as_object().map_or(0, serde_json::Map::len);
        let (id, status, by) = (word(member(it, "id")), word(member(it, "status")), word(member(it, "by")));
        let (required, expires) = (word(member(it, "required")), word(member(it, "expiresAt")));
        format!(
            "{id}  {status:8}  {yes}/{required}  {expires}  {act}  by {by}: {}",
            word(member(it, "reason"))
        )
    });
    let text = rows.collect::<Vec<_>>().join("\n");
    Ok(told(if text.is_empty() { "no requests" } else { &text }, &answer))
}

async fn show(people: &People, id: &str) -> Result<Report, Failure> {
    let answer = people.approval(id).await?;
    let proposal = Proposal::read(id, &answer.body)?;
    Ok(told(&describe(&proposal), &answer))
}

/// Everything a decision depends on. The hash is the one computed here.
fn describe(it: &Proposal) -> String {
    let mut rows = vec![("request", it.id().to_owned()), ("act", summary(it.act()))];
    match it.act() {
        Act::Resume { scope } => rows.push(("scope", scope.to_string())),
        Act::Rotate { kid, from, to, backend, label, overlap_hours } => rows.extend([
            ("key", kid.to_string()),
            ("from", from.to_string()),
            ("to", to.to_string()),
            ("backend", backend.clone()),
            ("label", label.clone()),
            ("overlap", format!("{overlap_hours} hours")),
        ]),
        Act::Sign { kid, principal, digest_algorithm, digest, request_sha256, purpose, metadata, policy } => {
            rows.extend([
                ("key", kid.to_string()),
                ("service", principal.to_string()),
                ("digest", format!("{digest_algorithm} {digest}")),
                ("asked", format!("sha256 {request_sha256}")),
                ("purpose", purpose.as_ref().map_or("-", |purpose| purpose.as_str()).to_owned()),
                ("metadata", metadata.as_ref().map_or_else(|| "-".to_owned(), ToString::to_string)),
                ("policy", policy.clone()),
            ])
        }
    }
    let names = |names: Vec<&str>| if names.is_empty() { "nobody".to_owned() } else { names.join(", ") };
    let urgency = if it.is_emergency() { "EMERGENCY, " } else { "" };
    rows.extend([
        ("sha256", it.act_sha256().to_owned()),
        ("ledger", it.origin().map_or_else(|| "-".to_owned(), |origin| origin.as_str().to_owned())),
        ("by", it.by().to_owned()),
        ("reason", it.reason().to_owned()),
        ("status", format!("{urgency}{}, {} approvals needed", it.status(), it.required())),
        ("expires", it.expires_at().to_owned()),
        ("yes", names(it.approved_by().collect())),
        ("no", names(it.refused_by().collect())),
    ]);
    table(&rows)
}

async fn speak(
    people: &People,
    asked: &args::Speak,
    verdict: Verdict,
    connection: &Connection,
) -> Result<Report, Failure> {
    let typed = connection.key.as_deref().filter(|_| connection.key_typed);
    let key = typed.or(asked.approver_key.as_deref()).map(ApproverKey::read).transpose()?;
    let answer = people.approval(&asked.id).await?;
    let proposal = Proposal::read(&asked.id, &answer.body)?;
    if asked.act_sha256.as_deref().is_some_and(|seen| seen != proposal.act_sha256()) {
        let text = format!("the act's SHA-256 is {}, not the one given", proposal.act_sha256());
        return Err(Failure::invalid(&text));
    }
    if proposal.status() != "pending" {
        let text = format!("request {} is {}; there is nothing to decide", proposal.id(), proposal.status());
        return Err(Failure::invalid(&text));
    }
    if !(asked.yes && connection.json) {
        say(&format!("{}\n", describe(&proposal)))?;
    }
    if !asked.yes {
        confirm(verdict).await?;
    }
    let answer = people.speak(&proposal, verdict, key.as_ref(), asked.note.as_deref()).await?;
    let it = &answer.value;
    let yes = member(it, "approvedBy").as_object().map_or(0, serde_json::Map::len);
    let said = match verdict {
        Verdict::Approve => "approved",
        Verdict::Refuse => "rejected",
    };
    let status =
        format!("{}, {yes} of {} approvals", word(member(it, "status")), word(member(it, "required")));
    let mut rows = vec![(said, proposal.id().to_owned()), ("status", status)];
    if !member(it, "executedIndex").is_null() {
        rows.push(("entry", word(member(it, "executedIndex"))));
    }
    Ok(told(&table(&rows), &answer))
}

/// For the person, on standard error: standard output is for the result.
fn say(text: &str) -> Result<(), Failure> {
    let mut stderr = std::io::stderr().lock();
    write!(stderr, "{}", plain(text)).and_then(|()| stderr.flush()).map_err(|error| Failure::usage(&error))
}

/// Asks the person at the terminal; anything but `yes` is a no.
async fn confirm(verdict: Verdict) -> Result<(), Failure> {
    if !std::io::stdin().is_terminal() {
        let text =
            "standard input is no terminal, so nobody can say yes to this act; look at it, then give --yes";
        return Err(Failure::usage(&text));
    }
    let verb = match verdict {
        Verdict::Approve => "Approve",
        Verdict::Refuse => "Reject",
    };
    say(&format!("{verb} exactly this act? Type yes: "))?;
    // Beside the runtime, so that the connection stays alive meanwhile.
    let read = tokio::task::spawn_blocking(|| {
        let mut line = String::new();
        std::io::stdin().lock().read_line(&mut line).map(|_| line)
    });
    let line = read.await.map_err(|error| Failure::usage(&error))?;
    match line {
        Ok(line) if line.trim() == "yes" => Ok(()),
        Ok(_) => Err(Failure::invalid(&"not confirmed; nothing was sent")),
        Err(error) => Err(Failure::usage(&error)),
    }
}
