//! `chancery witness entry`: our ledger, as lists of logs for witnesses have it.

use chancery_client::Client;
use chancery_format::SignersRegistry;
use chancery_format::log_key::LogKey;
use chancery_format::log_list::{ListedLog, LogList};
use chancery_format::note::NoteVerifier;
use chancery_format::registry::KeyState;
use serde_json::json;

use crate::args::witness::Entry;
use crate::input;
use crate::output::{Failure, Report};

/// Offline, if a registry is given. It is printed as a list of one log, which is what is sent in.
pub(crate) async fn entry(
    service: impl FnOnce() -> Result<Client, Failure>,
    asked: Entry,
) -> Result<Report, Failure> {
    let registry = match &asked.signers {
        Some(path) => input::registry(path)?,
        None => {
            SignersRegistry::parse(&service()?.signers().await?).map_err(|error| Failure::evidence(&error))?
        }
    };
    let key = key_in_use(&registry)?;
    let vkey = key.vkey();
    let log = ListedLog {
        key: LogKey::Ed25519(key),
        requests_per_day: Some(asked.requests_per_day),
        contact: Some(asked.contact),
    };
    let list = LogList { logs: vec![log.clone()], left_out: Vec::new() }.to_string();
    // Whoever adds it to a list reads it as we do.
    let read = LogList::parse(list.as_bytes()).map_err(|error| Failure::usage(&error))?;
    if read.logs != [log] {
        return Err(Failure::usage(&"--contact must be one line of text, without space around it"));
    }
    let told = json!({
        "contact": read.logs.first().and_then(|log| log.contact.clone()),
        "entry": list,
        "origin": registry.ledger.origin,
        "requestsPerDay": asked.requests_per_day,
        "vkey": vkey,
    });
    Ok(Report::done(list.trim_end().to_owned(), told.to_string()))
}

/// The Ed25519 key that signs checkpoints now: lists have one key for a log, and every witness reads that type.
fn key_in_use(registry: &SignersRegistry) -> Result<NoteVerifier, Failure> {
    let failed = |error: &dyn std::fmt::Display| Failure::evidence(error);
    let mut keys = registry.ledger_keys().map_err(|error| failed(&error))?.ed25519().to_vec();
    let signs = |key: &NoteVerifier| {
        let active = registry.signers.iter().filter(|it| it.state == KeyState::Active);
        let mut raw = active.filter_map(|it| it.public_key().ok().flatten()?.ed25519_raw());
        raw.any(|raw| raw == key.public_key())
    };
    match keys.iter().rposition(signs) {
        Some(at) => Ok(keys.swap_remove(at)),
        None => keys.pop().ok_or_else(|| failed(&"the registry has no Ed25519 key that signs checkpoints")),
    }
}
