//! All entries of a stream or a key, fetched and checked: these, and no others.
//!
//! The service is not believed: each line is checked as it comes, by the code auditors use, and a proof that does not
//! hold is an error. A proof can begin behind what an earlier one ended with ([`Place`]); then only what is new is
//! fetched, and the chain must still have what was there before.

use chancery_format::completeness::{CheckedEntry, Complete, CompletenessError, Opening, Place};
use chancery_format::heads::HeadName;
use chancery_format::registry::SignersRegistry;

use crate::client::Client;
use crate::error::ClientError;

/// Why there is no proof.
#[derive(Debug, thiserror::Error)]
pub enum ProofError {
    /// The service did not answer, or refused.
    #[error(transparent)]
    Call(#[from] ClientError),
    /// What it gave is no proof. The service, or somebody on the way, is at fault: keep what it gave.
    #[error("{name}: {error}")]
    Refused {
        /// Whose proof.
        name: HeadName,
        /// What is wrong.
        error: CompletenessError,
    },
}

/// A proof that was fetched: what it proves, and where a later one goes on.
#[derive(Debug)]
pub struct Fetched {
    /// What is proven.
    pub complete: Complete,
    /// Behind the last entry; none if there is none.
    pub place: Option<Place>,
}

/// Fetches a proof, from `place` on. `each` gets its lines as they come, checked but for what only the last one tells:
/// the opening as `None`, then every entry.
pub async fn fetch<E: From<ProofError>>(
    client: &Client,
    name: &HeadName,
    registry: &SignersRegistry,
    place: Option<Place>,
    mut each: impl FnMut(&str, Option<CheckedEntry>) -> Result<(), E>,
) -> Result<Fetched, E> {
    let refused = |error| ProofError::Refused { name: name.clone(), error };
    let shape = |what: &str| refused(CompletenessError::Shape(what.to_owned()));
    let line = client.completeness_opening(name).await.map_err(ProofError::from)?;
    let opening = Opening::parse(&line).map_err(refused)?;
    if opening.name != *name {
        return Err(shape("it is about another stream or key").into());
    }
    let mut check = opening.begin(registry).map_err(refused)?;
    if let Some(place) = place {
        check = check.after(place);
    }
    each(std::str::from_utf8(&line).map_err(|_| shape("not UTF-8"))?, None)?;
    let mut at = place.map_or(0, |place| place.head.count);
    while at < check.expected() {
        let page = client.completeness_entries(name, at).await.map_err(ProofError::from)?;
        let page = std::str::from_utf8(&page).map_err(|_| shape("not UTF-8"))?;
        let begun = at;
        let wanted = usize::try_from(check.expected() - at).unwrap_or(usize::MAX);
        for line in page.lines().take(wanted) {
            let entry = check.entry(line.as_bytes()).map_err(refused)?;
            each(line, Some(entry))?;
            at += 1;
        }
        if at == begun {
            break; // fewer than there must be: the check says so
        }
    }
    let place = check.place();
    let complete = check.finish().map_err(refused)?;
    Ok(Fetched { complete, place })
}
