//! What was used before this process began, counted again from the ledger.
//!
//! A use stands in an outcome: issued, or failed or abandoned with a key that may have been used. Only what limits
//! need is read: for quotas the leaves of the day, for key pairs' lives all of them.

use std::collections::HashMap;
use std::hash::Hash;
use std::time::{Duration, Instant};

use chancery_format::committed::{AnchoredPayload, FailedPayload, IssuedPayload};
use chancery_format::entry::{KeyUse, event_type};
use chancery_format::{AuditEvent, Kid, LeafIndex};
use chancery_ledger::Roll;

use super::allowance::Uses;
use super::quota::Day;
use crate::leaves::{self, LeavesError};

/// Time between two words about how far it is.
const TOLD_EVERY: Duration = Duration::from_secs(5);

/// What limits need to know.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Wanted {
    /// Uses of the day.
    pub days: bool,
    /// Uses of key pairs, ever.
    pub lives: bool,
}

/// Counts the uses in the first `until` leaves.
pub async fn recount(roll: &Roll, until: u64, today: Day, wanted: Wanted) -> Result<Uses, LeavesError> {
    let mut uses = Uses::default();
    let from = match wanted {
        Wanted { lives: true, .. } => 0,
        Wanted { days: true, lives: false } => first_of(roll, until, today).await?,
        Wanted { days: false, lives: false } => return Ok(uses),
    };
    let mut told = Instant::now();
    leaves::each(roll, from..until, |index, leaf| {
        if told.elapsed() > TOLD_EVERY {
            told = Instant::now();
            tracing::info!(index, until, "counting the uses of keys");
        }
        let event = AuditEvent::read(leaf).map_err(|error| error.to_string())?;
        let of_today = wanted.days && Day::of(event.ts) == today;
        uses.read(&event, of_today, wanted.lives)
    })
    .await?;
    Ok(uses)
}

/// The first leaf of a day among the first `until`: leaves stand in the order of their time.
async fn first_of(roll: &Roll, until: u64, day: Day) -> Result<u64, LeavesError> {
    let (mut low, mut high) = (0, until);
    while low < high {
        let middle = low + (high - low) / 2;
        let unreadable = |cause: String| LeavesError::Unreadable { index: middle, cause };
        let stored = roll.leaf(LeafIndex(middle)).await?;
        let stored = stored.ok_or_else(|| unreadable("it is not there".to_owned()))?;
        let event = AuditEvent::read(&stored.bytes).map_err(|error| unreadable(error.to_string()))?;
        if Day::of(event.ts) < day { low = middle + 1 } else { high = middle }
    }
    Ok(low)
}

impl Uses {
    fn read(&mut self, event: &AuditEvent<'_>, of_today: bool, lives: bool) -> Result<(), String> {
        let unreadable = || "its payload cannot be read".to_owned();
        let (kid, signers) = match event.event_type {
            event_type::ISSUED => {
                let payload = IssuedPayload::parse(event.payload).ok_or_else(unreadable)?;
                (payload.kid, [Some(payload.signer_kid), payload.co_signer.map(|second| second.signer_kid)])
            }
            event_type::FAILED | event_type::ABANDONED => {
                let payload = FailedPayload::parse(event.payload).ok_or_else(unreadable)?;
                if payload.key_use == KeyUse::None.as_str() {
                    return Ok(());
                }
                (payload.kid, [Some(payload.signer_kid), payload.co_signer.map(|second| second.signer_kid)])
            }
            event_type::ANCHORED => {
                let payload = AnchoredPayload::parse(event.payload).ok_or_else(unreadable)?;
                (payload.kid, [None, None])
            }
            _ => return Ok(()),
        };
        if of_today {
            one_more(&mut self.principals, event.actor.parse().map_err(|_| unreadable())?);
            one_more(&mut self.kids, kid.parse().map_err(|_| unreadable())?);
        }
        for signer_kid in signers.into_iter().flatten().filter(|_| lives) {
            let signer_kid: Kid = signer_kid.parse().map_err(|_| unreadable())?;
            one_more(&mut self.signers, signer_kid);
        }
        Ok(())
    }
}

fn one_more<N: Hash + Eq>(counts: &mut HashMap<N, u64>, name: N) {
    *counts.entry(name).or_default() += 1;
}
