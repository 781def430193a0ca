//! One function per command: read what was given, ask, say what came back.

use std::path::Path;

use chancery_client::{
    CheckedReceipt, Client, ClientError, KeyInfo, NewEvent, Options, check_receipt, random_idempotency_key,
    readiness, reconcile,
};
use chancery_format::names::IdempotencyKey;
use chancery_format::{Hash, LeafIndex};
use serde_json::{Value, json};

use crate::args::{self, Cli, Command, Connection, Form};
use crate::output::{Failure, Report, columns};
use crate::{
    agent, approvals, artifacts, completeness, cose, evidence, export, input, keys, ledger, login, mirror,
    people, policy, registry, replay, witness,
};

/// Runs the command typed.
pub(crate) async fn run(cli: Cli) -> Result<Report, Failure> {
    let connection = &cli.connection;
    let service = || connect(connection);
    let admin = || people::connect(connection);
    match cli.command {
        Command::Reconcile(asked) => hold_against(asked),
        Command::Agent(asked) => agent::run(asked, connection).await,
        Command::Token => token(),
        Command::Login(asked) => login::login(asked, connection).await,
        Command::Logout => login::logout(connection).await,
        Command::Sign(asked) => artifacts::sign(&service()?, *asked).await,
        Command::Verify(asked) if asked.signature.is_some() => artifacts::ask(&service()?, &asked).await,
        Command::Verify(asked) => artifacts::verify(*asked),
        Command::Event(args::Event::Append(asked)) => append(&service()?, asked).await,
        Command::Event(args::Event::Replay(asked)) => replay::replay(&service()?, asked).await,
        Command::Event(args::Event::Export(asked)) => export::export(&service()?, asked).await,
        Command::Signers(args::registry::Signers::Export(asked)) => {
            registry::export(service, asked, connection.json).await
        }
        Command::Receipt(args::Receipt::Get(asked)) => receipt(&service()?, asked).await,
        Command::Receipt(args::Receipt::Bundle(asked)) => evidence::bundle(*asked, connection).await,
        Command::Receipt(args::Receipt::Upgrade(asked)) => evidence::upgrade(*asked, connection).await,
        Command::Keys(args::Keys::List) => list_keys(&service()?).await,
        Command::Keys(asked) => keys::run(&admin()?, asked).await,
        Command::Status(asked) => status(&service()?, asked, connection.timeout_ms).await,
        Command::Halt(asked) => people::halt(&admin()?, asked).await,
        Command::Resume(asked) => people::resume(&admin()?, asked).await,
        Command::Approvals(asked) => approvals::run(&admin()?, asked, connection).await,
        Command::Whoami => people::who_am_i(&admin()?).await,
        Command::Admin(args::people::Admin::Status) => people::status(&admin()?).await,
        Command::Admin(args::people::Admin::Keys) => keys::list(&admin()?).await,
        Command::Audit(asked) => people::audit(&admin()?, asked, connection.json).await,
        Command::Completeness(asked) => completeness::completeness(&service()?, asked).await,
        Command::Monitor(asked) => completeness::monitor(&service()?, asked, connection.json).await,
        Command::Ledger(asked) => ledger::run(asked, connection).await,
        Command::Mirror(asked) => mirror::run(asked, connection).await,
        Command::Witness(args::witness::Witness::Entry(asked)) => witness::entry(service, asked).await,
        Command::Policy(asked) => policy::run(asked, connection).await,
    }
}

/// Needs no service: everything is read from files.
fn hold_against(asked: args::Reconcile) -> Result<Report, Failure> {
    let options = reconcile::Options {
        archive: asked.archive,
        cloudtrail: asked.cloudtrail,
        counts: asked.counts,
        window_ms: i64::from(asked.window) * 1_000,
    };
    let found = reconcile::reconcile(&options).map_err(|error| Failure::evidence(&error))?;
    let json = found.to_json().to_string();
    if let Some(path) = &asked.report {
        write_file(path, json.as_bytes())?;
    }
    if let Some(folder) = &asked.halt {
        found.leave_findings(folder).map_err(|error| Failure::usage(&input::named(folder, &error)))?;
    }
    let report = Report::done(found.to_text(), json);
    Ok(if found.is_even() { report } else { report.invalid() })
}

/// 256 random bits; who reads them acts as the principal.
fn token() -> Result<Report, Failure> {
    let token = chancery_client::random_token()?;
    let sha256 = Hash::of(&[token.as_bytes()]).to_hex();
    eprintln!("token_sha256 = [\"{sha256}\"]");
    let json = json!({ "token": token, "sha256": sha256 }).to_string();
    Ok(Report::done(token, json))
}

pub(crate) fn connect(connection: &Connection) -> Result<Client, Failure> {
    Ok(Client::new(&service_options(connection)?)?)
}

/// Where the service is, and who we are to it.
pub(crate) fn service_options(connection: &Connection) -> Result<Options, Failure> {
    let missing = |option: &str, variable: &str| Failure::usage(&format!("give {option} or set {variable}"));
    let url = connection.url.as_ref().ok_or_else(|| missing("--url", "CHANCERY_URL"))?;
    let ca = connection.ca.as_ref().ok_or_else(|| missing("--ca", "CHANCERY_CA"))?;
    let mut options = Options::new(url, ca);
    options.identity = match (&connection.cert, &connection.key) {
        (Some(certificate), Some(key)) => Some((certificate.clone(), key.clone())),
        (None, None) => None,
        (Some(_), None) => return Err(missing("--key", "CHANCERY_KEY")),
        (None, Some(_)) => return Err(missing("--cert", "CHANCERY_CERT")),
    };
    options.call_timeout_ms = connection.timeout_ms;
    Ok(options)
}

pub(crate) fn key_or_fresh(given: Option<IdempotencyKey>) -> Result<IdempotencyKey, Failure> {
    match given {
        Some(key) => Ok(key),
        None => Ok(random_idempotency_key()?),
    }
}

pub(crate) fn describe_receipt(checked: &CheckedReceipt) -> String {
    let signer = match checked.signers.as_slice() {
        [] if checked.is_signature => ", itself the signature".to_owned(),
        [] => String::new(),
        names => format!(", signature of {} verified", names.join(" and ")),
    };
    columns(&[(
        "receipt",
        &format!("entry {} of {} on {}{}", checked.index, checked.tree_size, checked.origin, signer),
    )])
}

async fn append(client: &Client, asked: args::Append) -> Result<Report, Failure> {
    let payload = input::json(&asked.payload, "--payload")?;
    let metadata = asked.metadata.as_deref().map(|given| input::json(given, "--metadata")).transpose()?;
    let event = NewEvent::new(asked.event_type, payload).stream(asked.stream).id(asked.id).metadata(metadata);
    let key = key_or_fresh(asked.idempotency_key)?;
    let answer =
        client.append_event(&event, &key).await.map_err(|error| Failure::from(error).with_retry_key(&key))?;
    let reply = &answer.value;
    let index = reply.index().map_or_else(|| "?".to_owned(), |index| index.to_string());
    let text = columns(&[
        ("event", reply.id.as_str()),
        ("entry", &format!("{index}, {}", reply.ts)),
        ("stream", &format!("{} at {}", reply.stream, reply.seq)),
        ("hash", &reply.hash),
        ("retry", &format!("--idempotency-key {key}")),
    ]);
    Ok(Report::done(text, answer.body))
}

async fn receipt(client: &Client, asked: args::GetReceipt) -> Result<Report, Failure> {
    let index = LeafIndex(asked.index);
    let missing = |error: ClientError| Failure::from(error).missing_is_evidence();
    if asked.format == Form::TlogProof && asked.signers.is_some() {
        return Err(Failure::usage(&"--signers checks the JSON form; leave out --format tlog-proof"));
    }
    let (receipt, as_json) = match asked.format {
        Form::Json => {
            let receipt = client.receipt(index).await.map_err(missing)?;
            (receipt.clone(), receipt.to_vec())
        }
        Form::TlogProof => {
            let proof = client.receipt_tlog_proof(index).await.map_err(missing)?;
            let as_json = json!({ "tlogProof": String::from_utf8_lossy(&proof) }).to_string();
            (proof, as_json.into_bytes())
        }
        Form::Cose => return cose::get(client, asked).await,
    };
    let checked = match &asked.signers {
        Some(path) => {
            let checked = check_receipt(&receipt, &input::registry(path)?);
            Some(checked.map_err(|error| Failure::invalid(&error))?)
        }
        None => None,
    };
    let Some(path) = &asked.output else {
        let text = String::from_utf8_lossy(&receipt).trim_end().to_owned();
        return Ok(Report::done(text, as_json));
    };
    write_file(path, &receipt)?;
    let told = checked.map_or_else(|| "not checked; give --signers".to_owned(), |c| describe_receipt(&c));
    Ok(Report::done(format!("{told}\nkept in {}", path.display()), as_json))
}

pub(crate) fn write_file(path: &Path, bytes: &[u8]) -> Result<(), Failure> {
    std::fs::write(path, bytes).map_err(|error| Failure::usage(&input::named(path, &error)))
}

async fn list_keys(client: &Client) -> Result<Report, Failure> {
    let answer = client.keys().await?;
    let width = |of: fn(&KeyInfo) -> usize| answer.value.keys.iter().map(of).max().unwrap_or(0);
    let (kid, signer) = (width(|key| key.kid.as_str().len()), width(|key| key.signer_kid.as_str().len()));
    let rows = answer.value.keys.iter().map(|key| {
        let purpose = key.purpose.as_deref().unwrap_or_default();
        let line = format!(
            "{:kid$}  {:signer$}  {:18}{:10}  {purpose}",
            key.kid.as_str(),
            key.signer_kid.as_str(),
            key.algorithm,
            key.state
        );
        line.trim_end().to_owned()
    });
    let text = rows.collect::<Vec<_>>().join("\n");
    Ok(Report::done(if text.is_empty() { "no keys".to_owned() } else { text }, answer.body))
}

async fn status(client: &Client, asked: args::Status, timeout_ms: u64) -> Result<Report, Failure> {
    let readiness = match &asked.ops {
        Some(ops) => Some(readiness(ops, timeout_ms).await?),
        None => None,
    };
    let health = client.health().await?;
    let mut text = "service  up".to_owned();
    let mut document = json!({ "service": { "up": true, "health": body(&health) } });
    let Some(readiness) = readiness else { return Ok(Report::done(text, document.to_string())) };
    let word = if readiness.ready { "yes" } else { "NO" };
    text = format!("{text}\nready    {word}  {}", String::from_utf8_lossy(&readiness.body).trim_end());
    if let Some(members) = document.as_object_mut() {
        members.insert("ops".into(), json!({ "ready": readiness.ready, "checks": body(&readiness.body) }));
    }
    let report = Report::done(text, document.to_string());
    Ok(if readiness.ready { report } else { report.not_ready() })
}

/// A body as JSON if it is, else as text.
fn body(bytes: &[u8]) -> Value {
    serde_json::from_slice(bytes).unwrap_or_else(|_| Value::from(String::from_utf8_lossy(bytes).trim_end()))
}
