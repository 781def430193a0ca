//! What must be enrolled so that the registry says what the configuration says: a pure function.

use std::collections::{HashMap, HashSet};

use chancery_format::entry::BirthRecord;
use chancery_format::registry::{KeyState, SignerRecord};
use chancery_format::{Kid, SignatureAlgorithm, SignersRegistry, Timestamp};
use chancery_hsm::{KeyInfo, Keyring};

use crate::config::KeyConfig;
use crate::governance::Succession;

/// The configuration contradicts what was published before. The operator's to fix.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PlanError {
    /// A `signer_kid` that was retired or compromised may not come back.
    #[error(
        "signer_kid \"{signer_kid}\" is {state} in the registry and cannot be used again: a new key needs a new signer_kid"
    )]
    Ended {
        /// The key pair.
        signer_kid: Kid,
        /// Its state.
        state: &'static str,
    },
    /// A `signer_kid` names one key pair with one algorithm for ever.
    #[error("signer_kid \"{signer_kid}\" was published as {published}, the configuration says {configured}")]
    Changed {
        /// The key pair.
        signer_kid: Kid,
        /// Algorithm and logical name as published.
        published: String,
        /// The same as configured.
        configured: String,
    },
    /// A key that signs checkpoints would be anybody's from now on.
    #[error(
        "key \"{0}\" signs this ledger's checkpoints and nothing else: name it in [ledger], or take it out of the \
         configuration, which retires it"
    )]
    SignsCheckpoints(Kid),
    /// The keyring has no such key. A defect: it was built from the same configuration.
    #[error("key \"{0}\" is not in the keyring")]
    NotOpened(Kid),
}

/// A key to be activated.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewKey {
    /// What callers ask for.
    pub kid: Kid,
    /// The key pair.
    pub signer_kid: Kid,
    /// What it does.
    pub algorithm: SignatureAlgorithm,
    /// The public half; `None` for MAC keys.
    pub public_key_pem: Option<String>,
    /// What it is for.
    pub purpose: String,
    /// For people.
    pub description: String,
    /// What its device said of its birth.
    pub birth: BirthRecord,
    /// Who asked for it.
    pub requested_by: Option<String>,
}

/// One entry for the ledger.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// A key may sign from here on.
    Activate(Box<NewKey>),
    /// A key may no longer sign.
    Retire(Kid),
}

/// The registry's records as they will be, and what must be enrolled first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Changes {
    records: Vec<SignerRecord>,
    events: Vec<Event>,
}

impl Changes {
    /// What to enrol, in this order.
    pub fn events(&self) -> Vec<Event> {
        self.events.clone()
    }

    /// Takes note that an event stands at `index` since `ts`.
    pub fn apply(&mut self, event: &Event, ts: Timestamp, index: u64) {
        match event {
            Event::Activate(key) => self.records.push(SignerRecord {
                signer_kid: key.signer_kid.clone(),
                kid: Some(key.kid.clone()),
                algorithm: key.algorithm,
                public_key_pem: key.public_key_pem.clone(),
                purpose: key.purpose.clone(),
                state: KeyState::Active,
                deployed_at: ts,
                retired_at: None,
                activated_index: Some(index),
                retired_index: None,
                compromised_since: None,
                description: key.description.clone(),
            }),
            Event::Retire(signer_kid) => {
                for record in self.records.iter_mut().filter(|record| record.signer_kid == *signer_kid) {
                    record.state = KeyState::Retired;
                    record.retired_at = Some(ts);
                    record.retired_index = Some(index);
                }
            }
        }
    }

    /// The records, once every event was applied.
    pub fn into_records(self) -> Vec<SignerRecord> {
        self.records
    }
}

/// Compares what was published with what is configured and opened.
pub fn changes(
    known: Option<&SignersRegistry>,
    keys: &Succession,
    keyring: &Keyring,
) -> Result<Changes, PlanError> {
    let vkeys = known.map(|registry| registry.ledger.vkeys.as_slice()).unwrap_or_default();
    let origin = known.map(|registry| &registry.ledger.origin);
    for key in keys.current.iter().filter(|key| !keyring.signs_checkpoints(&key.kid)) {
        let log_key = origin.and_then(|origin| keyring.log_key_of(&key.signer_kid, origin));
        if log_key.is_some_and(|log_key| vkeys.contains(&log_key.vkey())) {
            return Err(PlanError::SignsCheckpoints(key.kid.clone()));
        }
    }
    let opened = keys.current.iter().map(|key| {
        let info = keyring.lookup(&key.kid).ok_or_else(|| PlanError::NotOpened(key.kid.clone()))?;
        Ok(new_key(key, &info))
    });
    compare(
        known.map(|registry| registry.signers.clone()).unwrap_or_default(),
        &opened.collect::<Result<Vec<_>, _>>()?,
        &keys.kept(),
    )
}

/// What is enrolled and published of a key pair, as its device showed it.
pub fn new_key(key: &KeyConfig, info: &KeyInfo) -> NewKey {
    NewKey {
        kid: key.kid.clone(),
        signer_kid: key.signer_kid.clone(),
        algorithm: key.algorithm,
        public_key_pem: info.public_key.as_ref().map(|public| public.to_pem()),
        purpose: key.purpose.as_str().to_owned(),
        description: key.description.clone(),
        birth: BirthRecord {
            origin: info.birth.origin.as_str(),
            device: info.birth.device.clone(),
            serial: info.birth.serial.clone(),
            attestation: info.birth.attestation.clone(),
            attestation_anchored: info.birth.attestation_anchored,
        },
        requested_by: key.requested_by.clone(),
    }
}

/// `kept` are key pairs that are neither in use nor to be retired.
fn compare(
    mut records: Vec<SignerRecord>,
    keys: &[NewKey],
    kept: &HashSet<&Kid>,
) -> Result<Changes, PlanError> {
    let mut events = Vec::new();
    let positions: HashMap<Kid, usize> =
        records.iter().enumerate().map(|(at, record)| (record.signer_kid.clone(), at)).collect();
    for key in keys {
        match positions.get(&key.signer_kid).and_then(|at| records.get_mut(*at)) {
            Some(record) => keep(record, key)?,
            None => events.push(Event::Activate(Box::new(key.clone()))),
        }
    }
    let configured: HashSet<&Kid> = keys.iter().map(|key| &key.signer_kid).collect();
    let is_gone = |record: &&SignerRecord| {
        let in_use = configured.contains(&record.signer_kid) || kept.contains(&record.signer_kid);
        !has_ended(record.state) && !in_use
    };
    let gone = records.iter().filter(is_gone);
    let retired: Vec<Event> = gone.map(|record| Event::Retire(record.signer_kid.clone())).collect();
    // A new key first, so that its kid is never without one.
    events.extend(retired);
    Ok(Changes { records, events })
}

const fn has_ended(state: KeyState) -> bool {
    matches!(state, KeyState::Retired | KeyState::Compromised)
}

/// A key that is published and configured: it must be the same one; words about it may change.
fn keep(record: &mut SignerRecord, key: &NewKey) -> Result<(), PlanError> {
    let ended = |state| Err(PlanError::Ended { signer_kid: key.signer_kid.clone(), state });
    match record.state {
        KeyState::Retired => return ended("retired"),
        // Halted for ever, and still behind its name until that is rotated.
        KeyState::Compromised if record.retired_index.is_none() => {}
        KeyState::Compromised => return ended("compromised"),
        KeyState::Staged | KeyState::Active | KeyState::Deprecated => {}
    }
    let describe = |algorithm: SignatureAlgorithm, kid: Option<&Kid>| {
        format!("{algorithm} key of kid {:?}", kid.map_or("", Kid::as_str))
    };
    let published = describe(record.algorithm, record.kid.as_ref());
    let configured = describe(key.algorithm, Some(&key.kid));
    if published != configured {
        return Err(PlanError::Changed { signer_kid: key.signer_kid.clone(), published, configured });
    }
    record.purpose.clone_from(&key.purpose);
    record.description.clone_from(&key.description);
    Ok(())
}

#[cfg(test)]
mod tests {
    #![expect(
        clippy::unwrap_used,
        clippy::indexing_slicing,
        reason = "a failed unwrap is the test's failure"
    )]
    use super::*;

    fn key(kid: &str, signer_kid: &str) -> NewKey {
        NewKey {
            kid: kid.parse().unwrap(),
            signer_kid: signer_kid.parse().unwrap(),
            algorithm: SignatureAlgorithm::HmacSha256,
            public_key_pem: None,
            purpose: "test".to_owned(),
            description: String::new(),
            birth: BirthRecord::default(),
            requested_by: None,
        }
    }

    fn run(
        records: Vec<SignerRecord>,
        keys: &[NewKey],
        mut index: u64,
    ) -> Result<Vec<SignerRecord>, PlanError> {
        let mut changes = compare(records, keys, &HashSet::new())?;
        for event in changes.events() {
            changes.apply(&event, Timestamp::from_unix_ms(index as i64).unwrap(), index);
            index += 1;
        }
        Ok(changes.into_records())
    }

    fn first_again() -> Vec<SignerRecord> {
        run(Vec::new(), &[key("a", "a-1"), key("b", "b-1")], 1).unwrap()
    }

    #[test]
    fn a_new_key_is_activated_and_a_missing_one_retired_in_this_order() {
        let first = run(Vec::new(), &[key("a", "a-1"), key("b", "b-1")], 1).unwrap();
        assert_eq!(first.iter().map(|it| it.activated_index).collect::<Vec<_>>(), [Some(1), Some(2)]);
        let rotated = compare(first.clone(), &[key("a", "a-2"), key("b", "b-1")], &HashSet::new()).unwrap();
        assert_eq!(
            rotated.events(),
            [Event::Activate(Box::new(key("a", "a-2"))), Event::Retire("a-1".parse().unwrap())]
        );
        let second = run(first, &[key("a", "a-2"), key("b", "b-1")], 10).unwrap();
        assert_eq!(second[0].state, KeyState::Retired);
        assert_eq!((second[0].retired_index, second[2].activated_index), (Some(11), Some(10)));
        let kept = "a-1".parse().unwrap();
        let overlap = compare(first_again(), &[key("a", "a-2"), key("b", "b-1")], &HashSet::from([&kept]));
        assert_eq!(overlap.unwrap().events(), [Event::Activate(Box::new(key("a", "a-2")))]);
        assert_eq!(run(second.clone(), &[key("a", "a-2"), key("b", "b-1")], 20).unwrap(), second);
    }

    #[test]
    fn what_ended_does_not_come_back_and_what_is_named_does_not_change() {
        let first = run(Vec::new(), &[key("a", "a-1")], 1).unwrap();
        let retired = run(first.clone(), &[key("a", "a-2")], 10).unwrap();
        let back = run(retired, &[key("a", "a-1")], 20);
        assert!(matches!(back, Err(PlanError::Ended { state: "retired", .. })));
        let mut compromised = first.clone();
        compromised[0].state = KeyState::Compromised;
        // It stays behind its name, halted, until that is rotated; then it cannot come back.
        assert_eq!(run(compromised.clone(), &[key("a", "a-1")], 20).unwrap(), compromised);
        assert!(
            compare(compromised.clone(), &[key("a", "a-2")], &HashSet::new()).unwrap().events().len() == 1
        );
        compromised[0].retired_index = Some(15);
        assert!(matches!(run(compromised, &[key("a", "a-1")], 20), Err(PlanError::Ended { .. })));
        let other = NewKey { algorithm: SignatureAlgorithm::Ed25519, ..key("a", "a-1") };
        assert!(matches!(run(first.clone(), &[other], 20), Err(PlanError::Changed { .. })));
        assert!(matches!(run(first, &[key("b", "a-1")], 20), Err(PlanError::Changed { .. })));
    }

    #[test]
    fn words_may_change_without_an_event() {
        let first = run(Vec::new(), &[key("a", "a-1")], 1).unwrap();
        let described = NewKey { description: "new words".to_owned(), ..key("a", "a-1") };
        let changes = compare(first, &[described], &HashSet::new()).unwrap();
        assert_eq!(changes.events(), []);
        assert_eq!(changes.into_records()[0].description, "new words");
    }
}
