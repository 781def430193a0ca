//! A key in somebody else's hands: halted first, then everything else.

use chancery_format::entry::event_type;
use chancery_format::governance::{Compromised, Event, Reverified, Scope};
use chancery_format::registry::KeyState;
use chancery_format::{AuditEvent, Kid, Timestamp};
use serde_json::{Value, json};

use super::{Lifecycle, LifecycleError};
use crate::chancery::Chancery;
use crate::leaves;

/// Signatures listed in a reply; the rest are counted, and every one can be read from the ledger.
const LISTED_MAX: usize = 1_000;

/// From when on the key's signatures are suspect.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Since {
    /// From this entry on.
    Index(u64),
    /// From this time on, by the ledger's clock.
    Time(Timestamp),
}

/// What is known of a compromise.
#[derive(Debug, Clone)]
pub struct CompromiseAsk {
    /// The name.
    pub kid: Kid,
    /// The key pair; `None`: the one in use.
    pub signer_kid: Option<Kid>,
    /// From when on.
    pub since: Since,
    /// Why, in their words.
    pub reason: String,
}

/// Every signature that must not be believed any more.
#[derive(Debug, Clone, Default)]
pub struct Suspects {
    /// First index that is suspect.
    pub since_index: u64,
    /// How many there are.
    pub count: u64,
    /// The first [`LISTED_MAX`]: index, time, who asked, digest.
    pub listed: Vec<Value>,
}

impl Lifecycle {
    /// Halts a key pair for ever, says so on the ledger and in the registry, and lists what it signed since.
    pub async fn compromise(&self, ask: &CompromiseAsk, by: &str) -> Result<(Kid, Suspects), LifecycleError> {
        let chancery = &self.chancery;
        let unknown = || LifecycleError::UnknownKey(ask.kid.clone());
        let signer_kid = match &ask.signer_kid {
            Some(signer_kid) => signer_kid.clone(),
            None => chancery.key(&ask.kid).ok_or_else(unknown)?.signer_kid.clone(),
        };
        // Before anything else, and before anybody looks whether the rest of the request makes sense.
        let scope = Scope::Key(signer_kid.clone());
        let halted =
            chancery.governance.halt(scope, "compromise", Some(by.to_owned()), Some(ask.reason.clone()));
        halted.await?;
        let published = chancery.registry.load_full();
        let known = published.registry.signer(signer_kid.as_str());
        if known.is_none_or(|record| record.kid.as_ref() != Some(&ask.kid)) {
            return Err(unknown());
        }
        let suspects = suspects(chancery, &signer_kid, ask.since).await?;
        let event = Compromised {
            kid: ask.kid.clone(),
            signer_kid: signer_kid.clone(),
            since_index: suspects.since_index,
            since_ts: match ask.since {
                Since::Time(ts) => Some(ts),
                Since::Index(_) => None,
            },
            suspect_signatures: suspects.count,
            by: by.to_owned(),
            reason: ask.reason.clone(),
        };
        chancery.governance.record(Event::Compromised(event)).await?;
        let _alone = self.changing.lock().await;
        self.republish(|records| {
            for record in records.iter_mut().filter(|record| record.signer_kid == signer_kid) {
                record.state = KeyState::Compromised;
                let since = record.compromised_since.get_or_insert(suspects.since_index);
                *since = (*since).min(suspects.since_index);
            }
        })
        .await?;
        tracing::error!(kid = %ask.kid, %signer_kid, suspect = suspects.count, "a key is compromised");
        Ok((signer_kid, suspects))
    }

    /// Signatures of a key pair from an index on, for people who ask.
    pub async fn signatures(&self, signer_kid: &Kid, from: u64) -> Result<Suspects, LifecycleError> {
        suspects(&self.chancery, signer_kid, Since::Index(from)).await
    }

    /// Reads every leaf again, recomputes the root, and records whether it is the one the ledger had.
    pub async fn reverify(&self, cause: String) -> Result<bool, LifecycleError> {
        let chancery = &self.chancery;
        let head = chancery.roll.head().head();
        let mut tree = chancery_format::merkle::Frontier::default();
        let size = head.size.0;
        leaves::each(&chancery.roll, 0..size, |_, leaf| {
            tree.push(chancery_format::merkle::leaf_hash(leaf));
            Ok(())
        })
        .await?;
        let root = tree.root();
        let valid = root == head.root;
        if !valid {
            tracing::error!(%root, expected = %head.root, "the ledger on disk does not lead to its own root");
        }
        let event = Reverified { size, root: root.to_hex(), valid, cause };
        chancery.governance.record(Event::Reverified(event)).await?;
        Ok(valid)
    }
}

/// Signatures of one key pair at or after a moment.
async fn suspects(chancery: &Chancery, signer_kid: &Kid, since: Since) -> Result<Suspects, LifecycleError> {
    let size = chancery.roll.head().head().size.0;
    let from = match since {
        Since::Index(index) => index.min(size),
        Since::Time(_) => 0,
    };
    let mut found = Suspects { since_index: size, ..Suspects::default() };
    if let Since::Index(_) = since {
        found.since_index = from;
    }
    leaves::each(&chancery.roll, from..size, |index, leaf| {
        let event = AuditEvent::read(leaf).map_err(|error| error.to_string())?;
        if matches!(since, Since::Time(ts) if event.ts < ts) {
            return Ok(());
        }
        found.since_index = found.since_index.min(index);
        if event.event_type != event_type::ISSUED {
            return Ok(());
        }
        let payload = chancery_format::committed::IssuedPayload::parse(event.payload)
            .ok_or("an issued signature cannot be read")?;
        let second = payload.co_signer.as_ref().map(|second| second.signer_kid);
        if payload.signer_kid != signer_kid.as_str() && second != Some(signer_kid.as_str()) {
            return Ok(());
        }
        found.count += 1;
        if found.listed.len() < LISTED_MAX {
            found.listed.push(json!({
                "index": index,
                "ts": event.ts.to_string(),
                "principal": event.actor,
                "digest": payload.digest,
                "digestAlgorithm": payload.digest_algorithm,
            }));
        }
        Ok(())
    })
    .await?;
    Ok(found)
}
