//! `chancery signers export`: the registry in the shapes of existing verifiers.

use std::io::Write as _;

use chancery_client::Client;
use chancery_format::SignersRegistry;
use serde_json::json;

use crate::args::registry::Export;
use crate::commands::write_file;
use crate::input;
use crate::output::{Failure, Report};

/// Offline, if a registry is given.
pub(crate) async fn export(
    service: impl FnOnce() -> Result<Client, Failure>,
    asked: Export,
    as_json: bool,
) -> Result<Report, Failure> {
    let registry = match &asked.signers {
        Some(path) => input::registry(path)?,
        None => {
            SignersRegistry::parse(&service()?.signers().await?).map_err(|error| Failure::evidence(&error))?
        }
    };
    let exported = registry.export(asked.format).map_err(|error| Failure::evidence(&error))?;
    for key in exported.left_out.iter().filter(|_| !as_json) {
        // Beside the file, which may be standard output. Nobody listening is no failure.
        drop(writeln!(std::io::stderr(), "left out: {} {}", key.signer_kid, key.reason));
    }
    let text = String::from_utf8_lossy(&exported.bytes).trim_end().to_owned();
    let told = json!({
        "format": asked.format.as_str(), "signers": exported.signers, "leftOut": exported.left_out,
    });
    match &asked.output {
        Some(path) => {
            write_file(path, &exported.bytes)?;
            let said = match asked.format.is_policy() {
                true => format!("the ledger's policy, kept in {}", path.display()),
                false => format!("{} keys, kept in {}", exported.signers, path.display()),
            };
            Ok(Report::done(said, told.to_string()))
        }
        None => {
            let mut told = told;
            if let Some(members) = told.as_object_mut() {
                members.insert("registry".to_owned(), text.clone().into());
            }
            Ok(Report::done(text, told.to_string()))
        }
    }
}
