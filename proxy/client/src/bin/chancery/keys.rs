//! Keys in the hands of people: seen, replaced, ended, given up for lost.

use std::io::Write as _;
use std::time::Duration;

use chancery_client::limits;
use chancery_client::people::{Compromise, Emergency, People, Rotate};
use serde_json::Value;
use tokio::time::Instant;

use crate::args::keys as args;
use crate::output::{Failure, Report, plain};
use crate::people::{items, member, outcome, table, told, word, would};

pub(crate) async fn run(people: &People, asked: args::Keys) -> Result<Report, Failure> {
    match asked {
        args::Keys::List => list(people).await,
        args::Keys::Rotate(asked) => rotate(people, asked).await,
        args::Keys::Retire(asked) => retire(people, &asked).await,
        args::Keys::Compromise(asked) => compromise(people, asked).await,
        args::Keys::Signatures(asked) => signatures(people, &asked).await,
    }
}

/// Every key pair, whoever may use it.
pub(crate) async fn list(people: &People) -> Result<Report, Failure> {
    let answer = people.keys().await?;
    let rows = items(member(&answer.value, "signers")).iter().map(|it| {
        let (kid, pair) = (word(member(it, "kid")), word(member(it, "signer_kid")));
        let (algorithm, state) = (word(member(it, "algorithm")), word(member(it, "state")));
        let line = format!("{kid:16}  {pair:20}  {algorithm:18}{state:12}{}", word(member(it, "purpose")));
        line.trim_end().to_owned()
    });
    let text = rows.collect::<Vec<_>>().join("\n");
    Ok(told(if text.is_empty() { "no keys" } else { &text }, &answer))
}

async fn rotate(people: &People, asked: args::Rotate) -> Result<Report, Failure> {
    let args::Rotate { kid, to, backend, label, overlap_hours, reason, emergency, dry_run, .. } = asked;
    let body = Rotate { to, backend, label, overlap_hours, reason, emergency, dry_run };
    let answer = people.rotate(&kid, &body).await?;
    if !asked.wait {
        return Ok(told(&outcome(&answer.value), &answer));
    }
    tell(&outcome(&answer.value))?;
    let sought = Sought {
        request: member(&answer.value, "id").as_str().map(str::to_owned),
        kid: kid.as_str().to_owned(),
        to: body.to.as_str().to_owned(),
    };
    sought.wait(people, Duration::from_secs(asked.wait_seconds)).await
}

/// A rotation that was asked for.
struct Sought {
    /// The request for approval; `None` where nobody has to approve.
    request: Option<String>,
    kid: String,
    to: String,
}

impl Sought {
    /// Tells each step until the new key answers to the name. What was asked for goes on without us.
    async fn wait(&self, people: &People, at_most: Duration) -> Result<Report, Failure> {
        let deadline = Instant::now() + at_most;
        let poll = Duration::from_millis(limits::POLL_MS);
        let mut before = String::new();
        loop {
            let answer = people.status().await?;
            let rotation = items(member(&answer.value, "rotations")).iter().rfind(|it| self.is(it));
            let step = match rotation {
                Some(rotation) => word(member(rotation, "step")),
                None => self.asked_for(people).await?,
            };
            if step != before {
                tell(&step)?;
            }
            if let Some(rotation) = rotation.filter(|_| step == "applied") {
                let rows = [
                    ("rotated", self.kid.clone()),
                    ("to", self.to.clone()),
                    (
                        "old key",
                        format!(
                            "{}, retires {}",
                            word(member(rotation, "from")),
                            word(member(rotation, "retireAt"))
                        ),
                    ),
                ];
                return Ok(Report::done(plain(&table(&rows)), rotation.to_string()));
            }
            before = step;
            if Instant::now() + poll > deadline {
                let seconds = at_most.as_secs();
                let text = format!("still {before} after {seconds} s; it goes on: chancery admin status");
                return Err(Failure::unavailable(&text));
            }
            tokio::time::sleep(poll).await;
        }
    }

    fn is(&self, rotation: &Value) -> bool {
        match &self.request {
            Some(request) => {
                member(rotation, "id").as_str().and_then(|id| id.strip_prefix("rotation-")) == Some(request)
            }
            None => {
                member(rotation, "kid") == self.kid.as_str() && member(rotation, "to") == self.to.as_str()
            }
        }
    }

    /// How far approval is; an error once there can be none.
    async fn asked_for(&self, people: &People) -> Result<String, Failure> {
        let Some(id) = &self.request else { return Ok("asked for".to_owned()) };
        let it = people.approval(id).await?.value;
        match member(&it, "status").as_str() {
            Some(end @ ("refused" | "expired")) => Err(Failure::invalid(&format!("request {id} is {end}"))),
            Some("executed") => Ok("approved".to_owned()),
            _ => {
                let yes = member(&it, "approvedBy").as_object().map_or(0, serde_json::Map::len);
                Ok(format!("waiting for approval, {yes} of {}", word(member(&it, "required"))))
            }
        }
    }
}

/// While a command waits, on standard error.
fn tell(text: &str) -> Result<(), Failure> {
    writeln!(std::io::stderr(), "{}", plain(text)).map_err(|error| Failure::usage(&error))
}

async fn retire(people: &People, asked: &args::Retire) -> Result<Report, Failure> {
    let answer = people.retire(&asked.kid, &asked.signer_kid, &asked.reason, asked.dry_run).await?;
    if asked.dry_run {
        return Ok(told(&would(&answer.value), &answer));
    }
    Ok(told(&format!("retired  {}", asked.signer_kid), &answer))
}

async fn compromise(people: &People, asked: args::Compromise) -> Result<Report, Failure> {
    let (backend, label) = (asked.emergency_backend, asked.emergency_label);
    let body = Compromise {
        signer_kid: asked.signer_kid,
        since_index: asked.since_index,
        since: asked.since,
        reason: asked.reason,
        emergency: asked.emergency_to.map(|to| Emergency { to, backend, label }),
        dry_run: asked.dry_run,
    };
    let answer = people.compromise(&asked.kid, &body).await?;
    let it = &answer.value;
    if asked.dry_run {
        return Ok(told(&would(it), &answer));
    }
    let (pair, since) = (word(member(it, "signer_kid")), word(member(it, "compromisedSince")));
    let rows = [
        ("compromised", format!("{pair}, from entry {since} on")),
        ("suspect", format!("{} signatures", word(member(it, "suspectSignatures")))),
    ];
    let mut text = table(&rows);
    for line in listed(member(it, "signatures"), member(it, "suspectSignatures").as_u64()) {
        text = format!("{text}\n{line}");
    }
    text = format!(
        "{text}\nThe key is halted for ever and the whole ledger is verified again; see chancery audit.\n\
         Tell those who rely on these signatures. All of them: chancery keys signatures {} --signer-kid {pair} \
         --from {since}",
        asked.kid
    );
    Ok(told(&format!("{text}\n{}", next_key(&asked.kid, member(it, "emergency"))), &answer))
}

/// What becomes of the name whose key is lost.
fn next_key(kid: &chancery_format::Kid, emergency: &Value) -> String {
    match emergency {
        Value::Null => {
            format!(
                "{kid} signs nothing until it has another key: chancery keys rotate {kid} --to SIGNER_KID --emergency"
            )
        }
        refused if refused.get("error").is_some() => format!(
            "THE NEXT KEY WAS NOT ASKED FOR: {} ({}). Ask again: chancery keys rotate {kid} --emergency",
            word(member(refused, "error")),
            word(member(refused, "code"))
        ),
        asked => format!("The next key:\n{}", outcome(asked)),
    }
}

async fn signatures(people: &People, asked: &args::Signatures) -> Result<Report, Failure> {
    let answer = people.signatures(&asked.kid, asked.signer_kid.as_ref(), asked.from).await?;
    let it = &answer.value;
    let (count, pair, from) =
        (word(member(it, "count")), word(member(it, "signer_kid")), word(member(it, "from")));
    let mut text = format!("{count} signatures of {pair} from entry {from} on");
    for line in listed(member(it, "signatures"), member(it, "count").as_u64()) {
        text = format!("{text}\n{line}");
    }
    Ok(told(&text, &answer))
}

/// One line for each signature told; the service tells the first and counts all.
fn listed(signatures: &Value, count: Option<u64>) -> Vec<String> {
    let told = items(signatures);
    let mut lines: Vec<_> = told
        .iter()
        .map(|it| {
            let (index, ts, who) =
                (word(member(it, "index")), word(member(it, "ts")), word(member(it, "principal")));
            format!(
                "{index:>8}  {ts}  {who}  {} {}",
                word(member(it, "digestAlgorithm")),
                word(member(it, "digest"))
            )
        })
        .collect();
    let more = count.unwrap_or(0).saturating_sub(told.len() as u64);
    if let Some(last) = told.last().filter(|_| more > 0) {
        let from = member(last, "index").as_u64().map_or(0, |index| index + 1);
        lines.push(format!("and {more} more, with --from {from}"));
    }
    lines
}
