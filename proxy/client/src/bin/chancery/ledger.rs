//! `chancery ledger`: one entry is fetched, verified and shown.

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use chancery_client::mirror::{self, LogKeys, ProvenEntry, Source};
use chancery_format::merkle::{self, Step, leaf_hash};
use chancery_format::{AuditEvent, Hash, Receipt, Rung, SignersRegistry};
use serde_json::{Value, json};

use crate::args::Connection;
use crate::args::ledger::{Entry, Get, Ledger};
use crate::input;
use crate::mirror::{log_keys, source_options};
use crate::output::{Failure, Report, columns, one_line, plain};
use crate::{ledger_check, people};

pub(crate) async fn run(asked: Ledger, connection: &Connection) -> Result<Report, Failure> {
    match asked {
        Ledger::Get(Get { raw: true, .. }) if connection.json => {
            Err(Failure::usage(&"give --raw or --json, not both"))
        }
        Ledger::Get(Get { raw: true, entry }) => {
            let (entry, _) = fetch(&entry, connection).await?;
            Ok(Report::bytes(entry.leaf().to_vec()))
        }
        Ledger::Get(Get { entry, .. }) => {
            let (entry, signers) = fetch(&entry, connection).await?;
            Ok(Report::done(
                shown(&entry, signers.as_deref()),
                as_json(&entry, signers.as_deref()).to_string(),
            ))
        }
        Ledger::Explain(asked) => {
            let (entry, signers) = fetch(&asked, connection).await?;
            Ok(explained(&entry, signers.as_deref()))
        }
        Ledger::Check(asked) => ledger_check::check(&people::connect(connection)?, &asked).await,
    }
}

/// The entry, proven; with a registry, the names of those whose signatures in it verified.
async fn fetch(
    asked: &Entry,
    connection: &Connection,
) -> Result<(ProvenEntry, Option<Vec<String>>), Failure> {
    let registry = asked.signers.as_deref().map(input::registry).transpose()?;
    let keys = match &registry {
        Some(registry) => keys_of(registry)?,
        None => log_keys(&asked.vkey, asked.origin.clone())?,
    };
    let address = match (&asked.log, &connection.url) {
        (Some(log), _) => log.clone(),
        (None, Some(url)) => format!("{}/log", url.trim_end_matches('/')),
        (None, None) => return Err(Failure::usage(&"give --log, or --url of the service (CHANCERY_URL)")),
    };
    let source = Arc::new(Source::open(&source_options(&address, connection)?)?);
    let entry = mirror::entry(&source, &keys, asked.index).await?;
    let signers = registry.map(|registry| verified(&entry, &registry)).transpose()?;
    Ok((entry, signers))
}

fn keys_of(registry: &SignersRegistry) -> Result<LogKeys, Failure> {
    LogKeys::parse(&registry.ledger.vkeys, Some(registry.ledger.origin.as_str().to_owned()))
        .map_err(|error| Failure::usage(&error))
}

/// What a receipt of the entry would prove: its own hash, its place, and the signatures in it.
fn verified(entry: &ProvenEntry, registry: &SignersRegistry) -> Result<Vec<String>, Failure> {
    let keys = registry.ledger_keys().map_err(|error| Failure::evidence(&error))?;
    let checkpoint = keys.verify(entry.head().note()).map_err(|error| Failure::invalid(&error))?;
    let (leaf, proof) = (entry.leaf().to_vec(), entry.proof().to_vec());
    let receipt = Receipt::new(leaf, entry.index(), proof, &checkpoint, Rung::Checkpointed);
    let verified = receipt.verify(registry).map_err(|error| Failure::invalid(&error))?;
    Ok(verified.verified_signers.iter().map(|name| (*name).to_owned()).collect())
}

fn shown(entry: &ProvenEntry, signers: Option<&[String]>) -> String {
    let (head, index) = (entry.head().head(), entry.index().to_string());
    let mut rows = vec![("entry", index)];
    match AuditEvent::parse(entry.leaf()) {
        Ok(event) => {
            rows.extend([
                ("type", one_line(event.event_type)),
                ("id", one_line(event.id)),
                ("actor", one_line(event.actor)),
                ("time", event.ts.to_string()),
                ("stream", format!("{}, number {}", one_line(event.stream), event.seq)),
                ("hash", event.hash.to_hex()),
                ("payload", one_line(event.payload)),
            ]);
            rows.extend(event.metadata.map(|metadata| ("metadata", one_line(metadata))));
        }
        Err(_) => rows.push((
            "bytes",
            format!("{}, not an event of a Chancery ledger; --raw gives them", entry.leaf().len()),
        )),
    }
    rows.push(("leaf", leaf_hash(entry.leaf()).to_hex()));
    rows.push(("under", format!("the signed checkpoint of {} entries, root {}", head.size, head.root)));
    rows.push(("signature", said(signers)));
    let rows: Vec<_> = rows.iter().map(|(name, value)| (*name, value.as_str())).collect();
    columns(&rows)
}

fn said(signers: Option<&[String]>) -> String {
    match signers {
        None => "not looked at: give --signers to verify it".to_owned(),
        Some([]) => "none that outsiders can verify".to_owned(),
        Some(names) => format!("of {} verified", names.join(" and ")),
    }
}

fn as_json(entry: &ProvenEntry, signers: Option<&[String]>) -> Value {
    let head = entry.head().head();
    let event =
        AuditEvent::parse(entry.leaf()).ok().and_then(|_| serde_json::from_slice::<Value>(entry.leaf()).ok());
    json!({
        "index": entry.index().0,
        "event": event,
        "leaf": STANDARD.encode(entry.leaf()),
        "leafHash": leaf_hash(entry.leaf()).to_hex(),
        "inclusionProof": entry.proof().iter().map(Hash::to_hex).collect::<Vec<_>>(),
        "treeSize": head.size.0,
        "root": head.root.to_hex(),
        "checkpoint": entry.head().note(),
        "signatures": signers,
    })
}

fn explained(entry: &ProvenEntry, signers: Option<&[String]>) -> Report {
    let (head, leaf) = (entry.head().head(), leaf_hash(entry.leaf()));
    let steps = merkle::path(entry.index(), head.size, leaf, entry.proof());
    let mut json = as_json(entry, signers);
    if let Some(members) = json.as_object_mut() {
        members.insert("path".to_owned(), steps.iter().map(Step::to_json).collect());
    }
    let drawn = merkle::draw(entry.index(), leaf, &steps);
    let text = format!(
        "{}\n\nfrom the entry to the signed root\n{drawn}\n{}",
        shown(entry, signers),
        plain(entry.head().note().trim_end())
    );
    Report::done(text, json.to_string())
}
