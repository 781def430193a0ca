//! `signers.json`: what the configuration says about keys becomes what verifiers trust.
//!
//! Promises: a key's activation and retirement are on the ledger before the registry says so, once each,
//! also if the daemon dies half way; every published version is signed, recorded and enrolled, in this
//! order; the file is replaced whole. The ledger's policy names its own keys and the witnesses that the configuration
//! asks, so that whoever trusts the registry knows whom to expect below a checkpoint. Refuses: a `signer_kid` that was retired, or whose key changed.

mod plan;

use std::collections::HashMap;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use chancery_format::archive::registry_note_text;
use chancery_format::committed::{Committed, EventKind};
use chancery_format::entry::{Activation, ReplayKey, registry_published, signer_activated, signer_retired};
use chancery_format::log_key::LogKey;
use chancery_format::policy::Policy;
use chancery_format::registry::{LedgerSection, RegistryError, SignerRecord};
use chancery_format::{EventDraft, Hash, Kid, LeafIndex, PrincipalName, SignersRegistry, Timestamp};
use chancery_hsm::{Keyring, Registered, SignerError};
use chancery_ledger::{RegistrySnapshot, Roll, RollError};

use crate::chancery::PublishedRegistry;
use crate::governance::Succession;
use plan::Event;
pub use plan::{NewKey, PlanError, changes, new_key};

/// Patience with the ledger key's device.
const SIGN_TIMEOUT: Duration = Duration::from_secs(10);

/// Why nothing was published. What was enrolled stands; the next start continues from there.
#[derive(Debug, thiserror::Error)]
pub enum PublishError {
    /// The configuration contradicts what was published before. The operator's to fix.
    #[error(transparent)]
    Plan(#[from] PlanError),
    /// The ledger did not take an entry or a version.
    #[error("the ledger: {0}")]
    Roll(#[from] RollError),
    /// The recorded registry cannot be read, or the new one would not be one.
    #[error(transparent)]
    Registry(#[from] RegistryError),
    /// The policy of `[witnessing]` is not UTF-8 and cannot stand in the registry. The operator's to fix.
    #[error("the witness policy is not UTF-8")]
    PolicyText,
    /// The ledger key could not sign the version.
    #[error("the ledger key: {0}")]
    Key(#[from] SignerError),
    /// There is no Ed25519 ledger key.
    #[error("no ledger key")]
    NoKey,
    /// An event just committed cannot be read. A defect.
    #[error("a committed event cannot be read")]
    Event,
    /// The file could not be written. The operator's to fix.
    #[error("{file}: {cause}")]
    File {
        /// The file.
        file: String,
        /// What the system said.
        cause: std::io::Error,
    },
}

/// The last published version, or `None` on a new ledger.
pub async fn last(roll: &Roll) -> Result<Option<(RegistrySnapshot, SignersRegistry)>, PublishError> {
    let Some(snapshot) = roll.latest_registry().await? else { return Ok(None) };
    let registry = SignersRegistry::parse(&snapshot.json)?;
    Ok(Some((snapshot, registry)))
}

/// Brings ledger, registry and file in line with the configured keys and witnesses. Called at start, after the keyring
/// checked that the devices hold the registered keys.
pub async fn publish(
    roll: &Roll,
    keyring: &Arc<Keyring>,
    keys: &Succession,
    witnesses: &Policy,
    file: &Path,
) -> Result<PublishedRegistry, PublishError> {
    let before = last(roll).await?;
    let mut changes = changes(before.as_ref().map(|(_, registry)| registry), keys, keyring)?;
    for event in changes.events() {
        let (ts, index) = enrol(roll, &event).await?;
        changes.apply(&event, ts, index);
    }
    let content = (changes.into_records(), None, witnesses.clone());
    write(roll, keyring, file, before, content).await.map(|(published, _)| published)
}

/// Publishes the records as `change` leaves them, and the key that is to sign checkpoints, if one is to come;
/// nothing if that changes nothing. The witnesses stay. Also says where the version stands on the ledger.
pub async fn revise(
    roll: &Roll,
    keyring: &Arc<Keyring>,
    file: &Path,
    to_come: Option<LogKey>,
    change: impl FnOnce(&mut Vec<SignerRecord>),
) -> Result<(PublishedRegistry, LeafIndex), PublishError> {
    let before = last(roll).await?;
    let mut records = before.as_ref().map(|(_, registry)| registry.signers.clone()).unwrap_or_default();
    change(&mut records);
    let witnesses = before.as_ref().map(|(_, registry)| registry.policy()).transpose()?.unwrap_or_default();
    write(roll, keyring, file, before, (records, to_come, witnesses)).await
}

/// Enrols that a key may sign from here on, once, and says when and where.
pub async fn activate(roll: &Roll, key: NewKey) -> Result<(Timestamp, u64), PublishError> {
    enrol(roll, &Event::Activate(Box::new(key))).await
}

/// Enrols that a key may no longer sign, once, and says when and where.
pub async fn retire(roll: &Roll, signer_kid: &Kid) -> Result<(Timestamp, u64), PublishError> {
    enrol(roll, &Event::Retire(signer_kid.clone())).await
}

async fn write(
    roll: &Roll,
    keyring: &Arc<Keyring>,
    file: &Path,
    before: Option<(RegistrySnapshot, SignersRegistry)>,
    (records, to_come, witnesses): (Vec<SignerRecord>, Option<LogKey>, Policy),
) -> Result<(PublishedRegistry, LeafIndex), PublishError> {
    let known = before.as_ref().map(|(_, registry)| registry);
    let ledger = with_policy(ledger_section(roll, keyring, known, to_come)?, &witnesses)?;
    let registry = SignersRegistry::new(ledger, records)?;
    let json = registry.to_json()?;
    let snapshot = match before {
        Some((snapshot, _)) if snapshot.json == json => snapshot,
        before => record(roll, keyring, before.map_or(1, |(it, _)| it.version + 1), json).await?,
    };
    let sha256 = Hash::of(&[&snapshot.json]);
    let key = format!("registry.published/{}", snapshot.version);
    let enrolled = enrol_once(roll, registry_published(snapshot.version, &sha256), &key, sha256).await?;
    write_pair(file, &snapshot)?;
    let published = PublishedRegistry::read(snapshot.version, snapshot.json, snapshot.note)?;
    Ok((published, enrolled.index()))
}

/// The checkpoint keys: every earlier one, whose checkpoints must still verify, today's, and the one to come. Of each kind.
fn ledger_section(
    roll: &Roll,
    keyring: &Keyring,
    known: Option<&SignersRegistry>,
    to_come: Option<LogKey>,
) -> Result<LedgerSection, PublishError> {
    let today = keyring.ledger_keys(roll.origin()).ok_or(PublishError::NoKey)?.log_keys();
    let mut vkeys = known.map(|registry| registry.ledger.vkeys.clone()).unwrap_or_default();
    for vkey in today.into_iter().chain(to_come).map(|key| key.vkey()) {
        if !vkeys.contains(&vkey) {
            vkeys.push(vkey);
        }
    }
    Ok(LedgerSection { origin: roll.origin().clone(), vkeys, policy: None })
}

/// The section with its policy: its own keys, and these witnesses.
fn with_policy(section: LedgerSection, witnesses: &Policy) -> Result<LedgerSection, PublishError> {
    let keys = section.vkeys.iter().map(|vkey| LogKey::parse(vkey)).collect::<Result<Vec<_>, _>>();
    let keys = keys.map_err(|_| RegistryError::LedgerKey)?;
    let file = witnesses.with_logs(&keys).map_err(RegistryError::from)?.to_bytes();
    let policy = String::from_utf8(file).map_err(|_| PublishError::PolicyText)?;
    Ok(LedgerSection { policy: Some(policy), ..section })
}

async fn record(
    roll: &Roll,
    keyring: &Keyring,
    version: u64,
    json: Vec<u8>,
) -> Result<RegistrySnapshot, PublishError> {
    let text = registry_note_text(roll.origin(), version, &Hash::of(&[&json]));
    let note = keyring.sign_note_text(&text, roll.origin(), Instant::now() + SIGN_TIMEOUT).await?;
    let snapshot = RegistrySnapshot { version, json, note };
    roll.record_registry(snapshot.clone()).await?;
    Ok(snapshot)
}

/// Enrols an activation or retirement and says when and where.
async fn enrol(roll: &Roll, event: &Event) -> Result<(Timestamp, u64), PublishError> {
    let (draft, key, identity) = match event {
        Event::Activate(key) => (
            signer_activated(&Activation {
                kid: &key.kid,
                signer_kid: &key.signer_kid,
                algorithm: key.algorithm,
                public_key_pem: key.public_key_pem.as_deref(),
                purpose: &key.purpose,
                birth: key.birth.clone(),
                requested_by: key.requested_by.as_deref(),
            }),
            format!("signer.activated/{}", key.signer_kid),
            Hash::of(&[
                key.signer_kid.as_str().as_bytes(),
                key.public_key_pem.as_deref().unwrap_or("").as_bytes(),
            ]),
        ),
        Event::Retire(signer_kid) => (
            signer_retired(signer_kid),
            format!("signer.retired/{signer_kid}"),
            Hash::of(&[signer_kid.as_str().as_bytes()]),
        ),
    };
    let committed = enrol_once(roll, draft, &key, identity).await?;
    let event = committed.event().map_err(|_| PublishError::Event)?;
    Ok((event.ts, committed.index().0))
}

/// Enrols an event of the appliance under a key of its own, so that doing it again finds the first.
async fn enrol_once(
    roll: &Roll,
    draft: EventDraft,
    key: &str,
    request_hash: Hash,
) -> Result<Committed<EventKind>, PublishError> {
    let key = key.parse().map_err(|_| PublishError::Event)?;
    let replay = (PrincipalName::appliance(), ReplayKey { key, request_hash });
    Ok(roll.enrol_event(draft, Some(replay)).await?)
}

/// Where the signature of a registry file stands.
pub fn signature_file(file: &Path) -> PathBuf {
    let mut name = file.as_os_str().to_owned();
    name.push(".sig");
    PathBuf::from(name)
}

/// The signature goes first: whoever reads between the two renames sees an old file with a new
/// signature, which fails closed and heals at once.
fn write_pair(file: &Path, snapshot: &RegistrySnapshot) -> Result<(), PublishError> {
    replace(&signature_file(file), snapshot.note.as_bytes())?;
    replace(file, &snapshot.json)
}

/// Replaces a file whole, on disk when this returns. Content that is there already is left alone.
fn replace(file: &Path, content: &[u8]) -> Result<(), PublishError> {
    if std::fs::read(file).is_ok_and(|found| found == content) {
        return Ok(());
    }
    let failed = |cause| PublishError::File { file: file.display().to_string(), cause };
    let mut name = file.as_os_str().to_owned();
    name.push(".new");
    let new = PathBuf::from(name);
    let written = std::fs::File::create(&new).and_then(|mut out| {
        out.write_all(content)?;
        out.sync_all()?;
        std::fs::rename(&new, file)
    });
    written.map_err(failed)?;
    let folder = file.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    std::fs::File::open(folder).and_then(|folder| folder.sync_all()).map_err(failed)
}

/// The public keys registered so far, for the keyring to compare with its devices.
#[derive(Debug, Default)]
pub struct Known(HashMap<Kid, Registered>);

impl Known {
    /// Reads every record once.
    pub fn of(registry: Option<&SignersRegistry>) -> Result<Self, RegistryError> {
        let records = registry.map(|registry| registry.signers.as_slice()).unwrap_or_default();
        let read = |record: &SignerRecord| {
            Ok((record.signer_kid.clone(), Registered::Yes(record.public_key()?.map(Box::new))))
        };
        records.iter().map(read).collect::<Result<_, _>>().map(Self)
    }

    /// What was registered under this name.
    pub fn key(&self, signer_kid: &Kid) -> Registered {
        self.0.get(signer_kid).cloned().unwrap_or(Registered::No)
    }
}
