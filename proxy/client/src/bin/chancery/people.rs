//! Acts of people that are about no key: stop, go on, look.

use std::io::Write as _;
use std::time::Duration;

use chancery_client::login::wall_clock;
use chancery_client::people::People;
use chancery_client::{Answer, Options, limits};
use chancery_format::governance::Act;
use serde_json::{Value, json};

use crate::args::{Connection, people as args};
use crate::login::token_file;
use crate::output::{Failure, Report, columns, one_line, plain};

/// The person at the listener for people. No certificate is shown: the login says who it is.
pub(crate) fn connect(connection: &Connection) -> Result<People, Failure> {
    let ca = connection.ca.as_ref().ok_or_else(|| Failure::usage(&"give --ca or set CHANCERY_CA"))?;
    let mut options = Options::new(&connection.admin_url, ca);
    options.call_timeout_ms = connection.timeout_ms;
    Ok(People::new(&options, token_file(connection)?, wall_clock)?)
}

/// `text` for people; for programs, what the service said.
pub(crate) fn told(text: &str, answer: &Answer<Value>) -> Report {
    Report::done(plain(text), answer.body.clone())
}

/// A member as text, on one line: texts without quotes, nothing as a dash.
pub(crate) fn word(value: &Value) -> String {
    match value {
        Value::Null => "-".to_owned(),
        Value::String(text) => one_line(text),
        other => other.to_string(),
    }
}

/// A member of an object; null if there is none.
pub(crate) fn member<'v>(value: &'v Value, name: &str) -> &'v Value {
    value.get(name).unwrap_or(&Value::Null)
}

/// Members of a list; none if it is no list.
pub(crate) fn items(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

pub(crate) async fn halt(people: &People, asked: args::Halt) -> Result<Report, Failure> {
    let answer = people.halt(&asked.scope, &asked.reason, asked.dry_run).await?;
    if asked.dry_run {
        return Ok(told(&would(&answer.value), &answer));
    }
    let scope = asked.scope.to_string();
    let (entry, resume) =
        (word(member(&answer.value, "index")), format!("chancery resume --scope {scope} --reason TEXT"));
    Ok(told(&columns(&[("halted", scope.as_str()), ("entry", &entry), ("resume", &resume)]), &answer))
}

pub(crate) async fn resume(people: &People, asked: args::Halt) -> Result<Report, Failure> {
    let answer = people.resume(&asked.scope, &asked.reason, asked.dry_run).await?;
    Ok(told(&outcome(&answer.value), &answer))
}

/// What a call that was only tried would have done.
pub(crate) fn would(reply: &Value) -> String {
    let act = serde_json::from_value::<Act>(member(reply, "would").clone());
    let act = act.map_or_else(|_| member(reply, "would").to_string(), |act| summary(&act));
    format!("allowed: {act}\nnothing was done")
}

/// What became of an act that may need approvals.
pub(crate) fn outcome(reply: &Value) -> String {
    if member(reply, "dryRun") == true {
        return would(reply);
    }
    let act = serde_json::from_value::<Act>(member(reply, "act").clone());
    let act = act.map_or_else(|_| member(reply, "act").to_string(), |act| summary(&act));
    let Some(id) = member(reply, "id").as_str() else { return format!("done  {act}") };
    let approved = member(reply, "approvedBy").as_object().map_or(0, serde_json::Map::len);
    let status = format!(
        "{}, {approved} of {} approvals",
        word(member(reply, "status")),
        word(member(reply, "required"))
    );
    let rows = [
        ("request", id.to_owned()),
        ("act", act),
        ("status", status),
        ("sha256", word(member(reply, "actSha256"))),
        ("expires", word(member(reply, "expiresAt"))),
    ];
    format!(
        "{}\nNothing is done yet. Each approver, other than who asked, looks at it and decides:\n  \
         chancery approvals show {id}\n  chancery approvals approve {id}",
        table(&rows)
    )
}

/// Columns of texts, each on its line whatever it holds.
pub(crate) fn table(rows: &[(&str, String)]) -> String {
    let rows: Vec<_> = rows.iter().map(|(label, value)| (*label, one_line(value))).collect();
    let rows: Vec<_> = rows.iter().map(|(label, value)| (*label, value.as_str())).collect();
    columns(&rows)
}

/// An act in one line.
pub(crate) fn summary(act: &Act) -> String {
    match act {
        Act::Resume { scope } => format!("resume {scope}"),
        Act::Rotate { kid, from, to, .. } => format!("rotate {kid} from {from} to {to}"),
        Act::Sign { kid, principal, digest, .. } => format!("sign {digest} with {kid} for {principal}"),
    }
}

pub(crate) async fn who_am_i(people: &People) -> Result<Report, Failure> {
    let answer = people.who_am_i().await?;
    let it = &answer.value;
    let roles: Vec<_> = items(member(it, "roles")).iter().map(word).collect();
    let roles = if roles.is_empty() { "none".to_owned() } else { roles.join(", ") };
    let rows = [
        ("name", word(member(it, "name"))),
        ("roles", roles),
        ("issuer", word(member(it, "issuer"))),
        ("subject", word(member(it, "subject"))),
        ("until", moment(member(it, "expires"))),
    ];
    Ok(told(&table(&rows), &answer))
}

/// Seconds since 1970 as a time.
fn moment(seconds: &Value) -> String {
    let ms = seconds.as_i64().and_then(|seconds| seconds.checked_mul(1_000));
    let time = ms.and_then(|ms| chancery_format::Timestamp::from_unix_ms(ms).ok());
    time.map_or_else(|| word(seconds), |time| time.to_string())
}

pub(crate) async fn status(people: &People) -> Result<Report, Failure> {
    let answer = people.status().await?;
    let it = &answer.value;
    let mut lines = Vec::new();
    for halt in items(member(it, "halted")) {
        let by = member(halt, "by").as_str().or(member(halt, "source").as_str()).unwrap_or("-");
        let (scope, since) = (word(member(halt, "scope")), word(member(halt, "since")));
        lines.push(format!("HALTED     {scope} since {since} by {by}: {}", word(member(halt, "reason"))));
    }
    if lines.is_empty() {
        lines.push("halted     nothing".to_owned());
    }
    for rotation in items(member(it, "rotations")) {
        let mut line = format!(
            "rotation   {} from {} to {}: {}",
            word(member(rotation, "kid")),
            word(member(rotation, "from")),
            word(member(rotation, "to")),
            word(member(rotation, "step"))
        );
        if let Some(at) = member(rotation, "retireAt").as_str() {
            line = format!("{line}, the old key retires {at}");
        }
        lines.push(line);
    }
    for (kid, since) in member(it, "compromised").as_object().into_iter().flatten() {
        lines.push(format!("COMPROMISED {kid} from entry {since} on"));
    }
    lines.push(format!("approvals  {} pending", word(member(it, "pendingApprovals"))));
    let roster = member(it, "roster");
    lines.push(match roster {
        Value::Null => "approvers  none: nobody has to agree".to_owned(),
        _ => {
            let names: Vec<_> = items(member(roster, "approvers")).iter().map(word).collect();
            format!("approvers  {} of {}", word(member(roster, "approvalsRequired")), names.join(", "))
        }
    });
    lines.push(format!("policy     {}", word(member(member(it, "policy"), "sha256"))));
    lines.push(format!("entries    {}", word(member(it, "entries"))));
    Ok(told(&lines.join("\n"), &answer))
}

pub(crate) async fn audit(people: &People, asked: args::Audit, as_json: bool) -> Result<Report, Failure> {
    if asked.follow {
        return follow(people, asked.from, as_json).await;
    }
    let (mut from, mut events) = (asked.from, Vec::new());
    for _ in 0..limits::AUDIT_PAGES_MAX {
        let page = people.audit(from).await?.value;
        let Some(next) = member(&page, "next").as_u64().filter(|next| *next > from) else { break };
        events.extend(items(member(&page, "events")).iter().cloned());
        from = next;
    }
    let lines: Vec<_> = events.iter().map(line).collect();
    let text = if lines.is_empty() { "no acts".to_owned() } else { lines.join("\n") };
    Ok(Report::done(plain(&text), json!({ "events": events, "next": from }).to_string()))
}

/// Until interrupted, or until whoever reads has seen enough.
async fn follow(people: &People, mut from: u64, as_json: bool) -> Result<Report, Failure> {
    loop {
        let page = people.audit(from).await?.value;
        for event in items(member(&page, "events")) {
            let text = if as_json { event.to_string() } else { plain(&line(event)) };
            let mut stdout = std::io::stdout().lock();
            if writeln!(stdout, "{text}").and_then(|()| stdout.flush()).is_err() {
                return Ok(Report::silent());
            }
        }
        match member(&page, "next").as_u64().filter(|next| *next > from) {
            Some(next) => from = next,
            None => tokio::time::sleep(Duration::from_millis(limits::POLL_MS)).await,
        }
    }
}

/// One act in one line: position, time, kind, and what was said. Keys and signatures are left out.
fn line(event: &Value) -> String {
    const LONG: [&str; 4] = ["public_key_pem", "publicKeyPem", "signature", "approvers"];
    let members = member(event, "payload").as_object().into_iter().flatten();
    let members = members.filter(|(name, _)| !LONG.contains(&name.as_str()));
    let told = members.map(|(name, value)| match serde_json::from_value::<Act>(value.clone()) {
        Ok(act) => format!("{name}={:?}", summary(&act)),
        Err(_) => format!("{name}={value}"),
    });
    let (seq, ts, kind) =
        (word(member(event, "seq")), word(member(event, "ts")), word(member(event, "eventType")));
    format!("{seq:>4}  {ts}  {kind}  {}", told.collect::<Vec<_>>().join(" "))
}
