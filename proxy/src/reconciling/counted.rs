//! Keys of backends that count their uses themselves, such as the PKCS#11 worker around `C_Sign`.
//!
//! A count says nothing of what somebody else does with the device. It holds us to our own promise: each use
//! that our code made has its entry, and one that has none stops its key. Counts begin with the process, and so
//! does the comparison; nothing of it is recorded until something is wrong.

use std::collections::BTreeMap;

use chancery_format::Kid;

use super::{ReconcilingError, Tally, alarm, claims_since, open_claims};
use crate::chancery::Chancery;

/// One backend's keys.
pub(super) struct Counted {
    backend: String,
    /// Label, key pair, uses counted before the comparison began.
    keys: Vec<(String, Kid, u64)>,
    tallies: BTreeMap<Kid, Tally>,
    /// Leaves before this were read.
    until: u64,
    /// Whether nothing moved in the last reading.
    quiet: bool,
}

impl Counted {
    /// Every backend that counts. Call it before the first request.
    pub(super) fn all(chancery: &Chancery) -> Vec<Self> {
        let ledger = chancery.keyring.ledger_key().map(|key| key.signer_kid.clone());
        let until = chancery.roll.head().head().size.0;
        let one = |(backend, counts): (String, BTreeMap<String, u64>)| {
            let own = chancery.keyring.keys().into_iter().filter(|key| key.backend == backend);
            let own = own.filter(|key| Some(&key.signer_kid) != ledger.as_ref());
            let count = |label: &str| counts.get(label).copied().unwrap_or_default();
            let keys =
                own.map(|key| (key.label.clone(), key.signer_kid.clone(), count(&key.label))).collect();
            Self { backend, keys, tallies: BTreeMap::new(), until, quiet: false }
        };
        chancery.keyring.operation_counts().into_iter().map(one).collect()
    }

    /// The count first, then what is announced, then what is enrolled: a use under way is in one of the two.
    pub(super) async fn poll(&mut self, chancery: &Chancery) -> Result<(), ReconcilingError> {
        let Some(counts) = chancery.keyring.operation_counts().remove(&self.backend) else { return Ok(()) };
        let open = open_claims(chancery).await?;
        let (claims, until) = claims_since(chancery, self.until).await?;
        self.until = until;
        let (mut moved, mut alarms) = (false, Vec::new());
        for (label, signer_kid, before) in &self.keys {
            let tally = self.tallies.entry(signer_kid.clone()).or_default();
            let operations = counts.get(label).map_or(0, |count| count.saturating_sub(*before));
            let claimed = claims.of(signer_kid.as_str());
            moved |= operations != tally.operations || !claimed.is_empty();
            tally.operations = operations;
            tally.claim(claimed);
        }
        for (label, signer_kid, _) in &self.keys {
            let Some(tally) = self.tallies.get_mut(signer_kid) else { continue };
            if let Some(surplus) = tally.weigh(open.of(signer_kid.as_str()), !moved && self.quiet) {
                alarms.push((signer_kid.clone(), label.as_str(), surplus));
            }
        }
        self.quiet = !moved;
        alarm(chancery, &self.backend, &alarms).await
    }
}
