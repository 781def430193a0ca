//! `chancery receipt get --format cose`, and the COSE receipt that a bundle takes along.
//!
//! A COSE receipt does not hold its entry. It is checked against the entry in the receipt of JSON, and by the keys of a
//! registry, with the code that auditors use.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use chancery_client::{CheckedReceipt, Client, ClientError, check_cose};
use chancery_format::cose::CoseReceipt;
use chancery_format::{LeafIndex, Receipt, SignersRegistry};
use serde_json::json;

use crate::commands::{describe_receipt, write_file};
use crate::output::{Failure, Report};
use crate::{args, input};

/// Fetches one, and checks it before it is written.
pub(crate) async fn get(client: &Client, asked: args::GetReceipt) -> Result<Report, Failure> {
    let index = LeafIndex(asked.index);
    let missing = |error: ClientError| Failure::from(error).missing_is_evidence();
    let bytes = client.receipt_cose(index).await.map_err(missing)?;
    let cose = CoseReceipt::parse(&bytes).map_err(|error| Failure::evidence(&error))?;
    let checked = match &asked.signers {
        Some(path) => {
            let registry = input::registry(path)?;
            let entry = client.receipt(index).await.map_err(missing)?;
            Some(check(&cose, &entry, index, &registry)?)
        }
        None => None,
    };
    let text = STANDARD.encode(&bytes);
    let as_json = json!({ "coseReceipt": text }).to_string();
    let Some(path) = &asked.output else { return Ok(Report::done(text, as_json)) };
    write_file(path, &bytes)?;
    let told = checked.map_or_else(|| "not checked; give --signers".to_owned(), |c| describe_receipt(&c));
    Ok(Report::done(format!("{told}\nkept in {}", path.display()), as_json))
}

fn check(
    cose: &CoseReceipt,
    entry: &[u8],
    index: LeafIndex,
    registry: &SignersRegistry,
) -> Result<CheckedReceipt, Failure> {
    let entry = Receipt::parse(entry).map_err(|error| Failure::invalid(&error))?;
    if entry.index() != index {
        return Err(Failure::invalid(&"the service answered with the receipt of another entry"));
    }
    check_cose(cose, &entry, registry).map_err(|error| Failure::invalid(&error))
}

/// The one that the service gives of an entry, if it holds; otherwise why there is none. A bundle is whole without.
pub(crate) async fn offered(
    client: &Client,
    entry: &Receipt,
    registry: &SignersRegistry,
) -> Result<CoseReceipt, String> {
    let bytes = client.receipt_cose(entry.index()).await.map_err(|error| match error {
        ClientError::Refused(problem) if problem.status == 404 => "the service gives none".to_owned(),
        error => error.to_string(),
    })?;
    // A service of before there were COSE receipts answers with JSON.
    let cose = CoseReceipt::parse(&bytes).map_err(|error| format!("left out: {error}"))?;
    // One by a key that came after this registry is good, but nobody with the bundle could tell.
    check_cose(&cose, entry, registry).map_err(|error| format!("left out: {error}"))?;
    Ok(cose)
}
