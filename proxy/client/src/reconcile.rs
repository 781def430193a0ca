//! `chancery reconcile`: what devices say they did with our keys, held against the ledger. Offline.
//!
//! Reads an archived ledger's entries (without verifying them: `chancery-verify ledger` does that first),
//! and the records of devices: CloudTrail exports of AWS KMS, and files of plain counts. Every operation of
//! a device must have exactly one entry; one too many is a use of the key behind the ledger's back.
//!
//! | file | promises |
//! |---|---|
//! | `reconcile/leaves.rs` | the entries of an archive folder, in order, each read once |
//! | `reconcile/cloudtrail.rs` | key uses out of AWS's own record |
//! | `reconcile/counts.rs` | a file of operation counts |

mod cloudtrail;
mod counts;
mod leaves;

use std::collections::BTreeMap;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use chancery_format::entry::event_type;
use chancery_format::reconcile::{Balance, Claims, Count, Unreadable, match_by_count, match_by_time};
use serde::Deserialize;
use serde_json::{Value, json};

pub use self::cloudtrail::TrailError;
pub use self::counts::CountsError;
pub use self::leaves::LeavesError;

/// How far a ledger's clock and a device's may be apart for one operation, in milliseconds, unless told
/// otherwise: CloudTrail's times are whole seconds, and an outcome is enrolled after the operation.
pub const WINDOW_MS: i64 = 60_000;

/// What to hold against what.
#[derive(Debug, Clone)]
pub struct Options {
    /// Folder of the archived ledger.
    pub archive: PathBuf,
    /// CloudTrail exports, JSON or gzip.
    pub cloudtrail: Vec<PathBuf>,
    /// A file of counts.
    pub counts: Option<PathBuf>,
    /// How far clocks may be apart, in milliseconds.
    pub window_ms: i64,
}

/// Why nothing could be said.
#[derive(Debug, thiserror::Error)]
pub enum ReconcileError {
    /// The archive cannot be read.
    #[error(transparent)]
    Leaves(#[from] LeavesError),
    /// An entry cannot be read: verify the ledger first.
    #[error(transparent)]
    Entry(#[from] Unreadable),
    /// A CloudTrail export cannot be read.
    #[error(transparent)]
    Trail(#[from] TrailError),
    /// The file of counts cannot be read.
    #[error(transparent)]
    Counts(#[from] CountsError),
}

/// One operation without an entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Surplus {
    /// When, by the device's clock, RFC 3339.
    pub time: String,
    /// The device's own name for it.
    pub event: String,
    /// Who asked the device, if it says.
    pub by: Option<String>,
}

/// How one key stands.
#[derive(Debug, Clone)]
pub struct KeyReport {
    /// The key pair.
    pub signer_kid: String,
    /// Which record it was held against.
    pub record: &'static str,
    /// Operations of the device.
    pub operations: u64,
    /// Operations with an entry that says they happened.
    pub matched: u64,
    /// Operations explained by an entry that says they may have happened.
    pub explained: u64,
    /// Operations without an entry, as far as the record names them.
    pub surplus: Vec<Surplus>,
    /// How many there are.
    pub surplus_count: u64,
    /// Entries whose operation the record does not have, as far as it can name them.
    pub missing: Vec<u64>,
    /// How many there are.
    pub missing_count: u64,
}

/// How all keys stand.
#[derive(Debug, Clone)]
pub struct Reconciliation {
    /// Entries read.
    pub entries: u64,
    /// One for each key that a record speaks of.
    pub keys: Vec<KeyReport>,
    /// Key pairs with entries that no record speaks of.
    pub unrecorded: Vec<String>,
    /// Operations of keys that are not on this ledger.
    pub foreign: u64,
}

/// Reads everything and compares.
pub fn reconcile(options: &Options) -> Result<Reconciliation, ReconcileError> {
    let (mut claims, mut births) = (Claims::default(), BTreeMap::new());
    let entries = leaves::each(&options.archive, |index, event| {
        if event.event_type == event_type::ACTIVATED
            && let Ok(activated) = serde_json::from_str::<Activated>(event.payload)
            && let Some(serial) = activated.birth.and_then(|birth| birth.serial)
        {
            births.insert(serial, activated.signer_kid);
        }
        claims.read(index, event)
    })??;
    let mut keys = Vec::new();
    let mut foreign = 0;
    if !options.cloudtrail.is_empty() {
        foreign = by_trail(options, &claims, &births, &mut keys)?;
    }
    if let Some(path) = &options.counts {
        for (signer_kid, operations) in counts::read(path)? {
            let count = match_by_count(claims.of(&signer_kid), operations);
            keys.push(KeyReport::counted(signer_kid, count));
        }
    }
    let is_told = |name: &&str| keys.iter().any(|key: &KeyReport| key.signer_kid == **name);
    let unrecorded = claims.signers().filter(|name| !is_told(name)).map(str::to_owned).collect();
    Ok(Reconciliation { entries, keys, unrecorded, foreign })
}

/// The parts of `signer.activated` that tie a key pair to its name in a service.
#[derive(Deserialize)]
struct Activated {
    signer_kid: String,
    #[serde(default)]
    birth: Option<Birth>,
}

#[derive(Deserialize)]
struct Birth {
    #[serde(default)]
    serial: Option<String>,
}

fn by_trail(
    options: &Options,
    claims: &Claims,
    births: &BTreeMap<String, String>,
    keys: &mut Vec<KeyReport>,
) -> Result<u64, ReconcileError> {
    let mut reader = cloudtrail::TrailReader::default();
    for path in &options.cloudtrail {
        reader.read_file(path)?;
    }
    let records = reader.finish();
    let covers = match (records.first(), records.last()) {
        (Some(first), Some(last)) => (first.time.unix_ms(), last.time.unix_ms()),
        _ => return Ok(0),
    };
    let used: Vec<_> = records.into_iter().filter(|record| record.error_code.is_none()).collect();
    let is_ours = |record: &&cloudtrail::KeyUseRecord| {
        record.key_arn.as_ref().is_some_and(|arn| births.contains_key(arn))
    };
    let foreign = used.iter().filter(|record| !is_ours(record)).count() as u64;
    for (arn, signer_kid) in births {
        let own: Vec<_> = used.iter().filter(|record| record.key_arn.as_deref() == Some(arn)).collect();
        if own.is_empty() && claims.of(signer_kid).is_empty() {
            continue;
        }
        let times: Vec<i64> = own.iter().map(|record| record.time.unix_ms()).collect();
        let balance = match_by_time(claims.of(signer_kid), &times, covers, options.window_ms);
        let surplus = balance.surplus.iter().filter_map(|at| own.get(*at)).map(|record| Surplus {
            time: record.time.to_string(),
            event: record.event_id.clone(),
            by: record.principal_arn.clone(),
        });
        let surplus = surplus.collect();
        keys.push(KeyReport::matched(signer_kid.clone(), &balance, surplus));
    }
    Ok(foreign)
}

impl KeyReport {
    fn matched(signer_kid: String, balance: &Balance, surplus: Vec<Surplus>) -> Self {
        Self {
            signer_kid,
            record: "cloudtrail",
            operations: balance.operations,
            matched: balance.matched,
            explained: balance.explained,
            surplus_count: surplus.len() as u64,
            surplus,
            missing: balance.missing.clone(),
            missing_count: balance.missing.len() as u64,
        }
    }

    fn counted(signer_kid: String, count: Count) -> Self {
        let matched = count.operations.min(count.certain);
        Self {
            signer_kid,
            record: "counts",
            operations: count.operations,
            matched,
            explained: (count.operations - matched).min(count.possible),
            surplus: Vec::new(),
            surplus_count: count.surplus,
            missing: Vec::new(),
            missing_count: count.missing,
        }
    }

    /// Whether every operation has an entry and every issued signature an operation.
    pub const fn is_even(&self) -> bool {
        self.surplus_count == 0 && self.missing_count == 0
    }

    fn to_json(&self) -> Value {
        let surplus = self.surplus.iter();
        let surplus = surplus.map(|it| json!({ "time": it.time, "event": it.event, "by": it.by }));
        json!({
            "signer_kid": self.signer_kid,
            "record": self.record,
            "operations": self.operations,
            "matched": self.matched,
            "explained": self.explained,
            "surplusCount": self.surplus_count,
            "surplus": surplus.collect::<Vec<_>>(),
            "missingCount": self.missing_count,
            "missing": self.missing,
            "even": self.is_even(),
        })
    }

    fn to_text(&self) -> String {
        let mut text = format!(
            "{}: {} operations by {}, {} with an entry, {} explained by an attempt without result",
            self.signer_kid, self.operations, self.record, self.matched, self.explained
        );
        for surplus in &self.surplus {
            let by = surplus.by.as_deref().unwrap_or("somebody it does not name");
            text += &format!("\n  NOT OURS: {} at {}, asked by {by}", surplus.event, surplus.time);
        }
        if self.surplus.is_empty() && self.surplus_count > 0 {
            text += &format!("\n  NOT OURS: {} operations", self.surplus_count);
        }
        for index in &self.missing {
            text += &format!("\n  MISSING: the record has no operation for entry {index}");
        }
        if self.missing.is_empty() && self.missing_count > 0 {
            text += &format!("\n  MISSING: {} operations", self.missing_count);
        }
        text
    }
}

impl Reconciliation {
    /// Whether nothing is without explanation.
    pub fn is_even(&self) -> bool {
        self.keys.iter().all(KeyReport::is_even)
    }

    /// Leaves `SIGNER_KID.json`, whole or not at all, for each key with operations that are not ours, unless the
    /// daemon was told of that key before: it halts the key, and enrols the finding once.
    pub fn leave_findings(&self, folder: &Path) -> std::io::Result<()> {
        for key in self.keys.iter().filter(|key| key.surplus_count > 0) {
            let file = |ending: &str| folder.join(format!("{}.{ending}", key.signer_kid));
            if file("told").try_exists()? || file("json").try_exists()? {
                continue;
            }
            let unfinished = file("part");
            let mut out = std::fs::File::create(&unfinished)?;
            out.write_all(key.to_json().to_string().as_bytes())?;
            out.sync_all()?;
            std::fs::rename(unfinished, file("json"))?;
        }
        Ok(())
    }

    /// For programs.
    pub fn to_json(&self) -> Value {
        json!({
            "even": self.is_even(),
            "entries": self.entries,
            "keys": self.keys.iter().map(KeyReport::to_json).collect::<Vec<_>>(),
            "unrecorded": self.unrecorded,
            "foreignOperations": self.foreign,
        })
    }

    /// For people.
    pub fn to_text(&self) -> String {
        let verdict = if self.is_even() { "EVEN" } else { "NOT EVEN" };
        let mut lines: Vec<String> = self.keys.iter().map(KeyReport::to_text).collect();
        if !self.unrecorded.is_empty() {
            lines.push(format!("no record speaks of {}", self.unrecorded.join(", ")));
        }
        if self.foreign > 0 {
            lines.push(format!("{} operations of keys that are not on this ledger", self.foreign));
        }
        lines.push(format!("{verdict}: {} entries read", self.entries));
        lines.join("\n")
    }
}
