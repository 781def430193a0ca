//! Devices' own records, held against the ledger while it runs.
//!
//! Where a backend keeps a log, it is read on a cadence. What it says is enrolled first and then consumed on
//! the device, so that a device that stops when its log is full goes on, and nothing it said is lost. Each use
//! of a key must have its entry; one too many halts that key at once, raises an alarm, and is enrolled itself.
//!
//! The balance of each key is carried from record to record on the ledger, so a restart goes on where the last
//! record stands. Open intents explain what is under way; they are read before the head, so that what ends
//! meanwhile is counted twice for one poll, and never not at all.
//!
//! Backends that count their uses themselves are held to it, see `reconciling/counted.rs`. Records that come
//! later, such as CloudTrail's, are held against the archived ledger by `chancery reconcile`; what it finds is
//! taken up here, see `reconciling/findings.rs`.
//!
//! Not compared: the ledger key, whose uses are the checkpoints, and keys that are not configured. Refuses: to
//! go on with a log that has a gap; that is an alarm until somebody looks.

mod counted;
mod findings;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use chancery_format::canonical::CanonicalJson;
use chancery_format::entry::{event_type, operations_recorded, operations_surplus};
use chancery_format::reconcile::{Claim, Claims};
use chancery_format::{AuditEvent, Kid, StreamName};
use chancery_hsm::{DeviceLog, DeviceOperation, SignerError};
use chancery_ledger::{Roll, RollError};
use serde::{Deserialize, Serialize};
use tokio::sync::watch;

use self::counted::Counted;
use self::findings::Findings;
use crate::chancery::Chancery;
use crate::leaves::{self, LeavesError};
use crate::stop::stopped;

/// Why a key was halted here.
const BEHIND_OUR_BACK: &str = "its device was used behind the ledger's back";

/// Time between two readings: a key that somebody else uses is halted within it. A YubiHSM 2 does some thirty
/// operations a second and stops at 62 entries that nobody consumed.
const EVERY: Duration = Duration::from_millis(200);
/// After a reading with so many entries the next one follows at once.
const BUSY_ENTRIES: usize = 16;
/// Patience with one reading.
const READ_TIMEOUT: Duration = Duration::from_secs(5);
/// Entries of one reading; a YubiHSM 2 holds 62.
const ENTRIES_MAX: usize = 62;
/// Entries without key use are left in the device until there are so many: consuming them makes new ones.
const IDLE_ENTRIES_MAX: usize = 32;
/// Open intents looked at; as many as the ledger allows.
const INTENTS_MAX: usize = 16_384;
/// Events of the appliance's own stream searched for the last record at start.
const SEARCHED_MAX: u64 = 65_536;
/// Events of one page of that search.
const PAGE: u64 = 256;

/// Why a reading came to nothing. The next one tries again.
#[derive(Debug, thiserror::Error)]
pub enum ReconcilingError {
    /// The device. The operator's, or it heals.
    #[error("the device's log: {0}")]
    Device(#[from] SignerError),
    /// The ledger.
    #[error("the ledger: {0}")]
    Roll(#[from] RollError),
    /// An entry or a record that cannot be read. Corruption.
    #[error("entry {0} cannot be read")]
    Entry(u64),
    /// The same.
    #[error(transparent)]
    Leaves(#[from] LeavesError),
    /// Another device answers under a backend's name. Give it a name of its own.
    #[error(
        "backend {backend:?} was device {known} and is device {found}: a new device needs a new backend name"
    )]
    Replaced {
        /// The backend.
        backend: String,
        /// Serial number on the ledger.
        known: String,
        /// Serial number now.
        found: String,
    },
    /// The folder of findings, or a file in it. The operator's.
    #[error("findings in {folder}: {source}", folder = .folder.display())]
    Findings {
        /// Which.
        folder: PathBuf,
        /// What the file system says.
        source: std::io::Error,
    },
    /// The reading died. Our bug.
    #[error("the reading died")]
    Died,
}

/// Uses of one key pair since its backend's first record.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Tally {
    /// Says the ledger: must have happened.
    certain: u64,
    /// The key was halted because of its balance.
    halted: bool,
    /// Says the device.
    operations: u64,
    /// Says the ledger: may have happened.
    possible: u64,
}

impl Tally {
    /// Uses that nothing explains, with so many intents open.
    const fn surplus(&self, open: u64) -> u64 {
        self.operations.saturating_sub(self.certain + self.possible + open)
    }

    /// Takes note of what was enrolled.
    fn claim(&mut self, claims: &[Claim]) {
        for claim in claims {
            let side = if claim.certain { &mut self.certain } else { &mut self.possible };
            *side += claim.operations;
        }
    }

    /// The surplus beside what is under way, told once: from now on it is part of the balance. `still` if
    /// nothing has moved for a while.
    fn weigh(&mut self, open: &[Claim], still: bool) -> Option<u64> {
        let under_way = open.iter().map(|claim| claim.operations).sum();
        if still && under_way == 0 {
            self.settle();
        }
        let surplus = self.surplus(under_way);
        if surplus == 0 {
            return None;
        }
        self.halted = true;
        self.possible += surplus;
        Some(surplus)
    }

    /// Forgets attempts that turned out not to have used the key, so that they cannot hide a later use.
    fn settle(&mut self) {
        self.possible = self.possible.min(self.operations.saturating_sub(self.certain));
    }
}

/// What is carried from record to record.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Book {
    /// By signer_kid.
    keys: BTreeMap<String, Tally>,
    /// Number of the last entry on the ledger.
    last: u64,
    /// Its evidence: with the number, where the device's numbering goes on.
    last_evidence: String,
    /// Leaves before this were read.
    until: u64,
}

/// The payload of a record.
#[derive(Serialize)]
struct Record<'a> {
    backend: &'a str,
    entries: Vec<Entry<'a>>,
    serial: &'a str,
    #[serde(flatten)]
    book: &'a Book,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Entry<'a> {
    command: &'a str,
    evidence: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    label: Option<&'a str>,
    number: u64,
    succeeded: bool,
    uses_key: bool,
}

/// The parts of a record that a restart needs.
#[derive(Debug, Clone, Deserialize)]
struct Recorded {
    backend: String,
    serial: String,
    #[serde(flatten)]
    book: Book,
}

/// One backend's log.
struct Watched {
    backend: String,
    serial: String,
    log: Arc<dyn DeviceLog>,
    /// Label to signer_kid.
    labels: BTreeMap<String, Kid>,
    book: Book,
    /// Whether the last reading failed.
    failing: bool,
    /// Whether nothing moved in the last reading.
    quiet: bool,
}

/// Reads the records of all backends that keep one.
pub struct Reconciler {
    chancery: Arc<Chancery>,
    watched: Vec<Watched>,
    counted: Vec<Counted>,
    findings: Option<Findings>,
}

impl Reconciler {
    /// Takes up every log where its last record stands, or begins with what it holds now. Call it before the
    /// first request: what is there already is recorded, and not compared.
    pub async fn start(
        chancery: Arc<Chancery>,
        last: &LastRecords,
        findings: Option<PathBuf>,
    ) -> Result<Self, ReconcilingError> {
        let findings = findings.map(|folder| Findings::start(folder, &chancery)).transpose()?;
        let mut watched = Vec::new();
        for (backend, log) in chancery.keyring.device_logs() {
            let ledger = chancery.keyring.ledger_key().map(|key| key.signer_kid.clone());
            let own = chancery.keyring.keys().into_iter().filter(|key| key.backend == backend);
            let own = own.filter(|key| Some(&key.signer_kid) != ledger.as_ref());
            let labels = own.map(|key| (key.label.clone(), key.signer_kid.clone())).collect();
            let serial = log.serial();
            let found = last.0.get(&backend).cloned();
            if let Some(other) = found.as_ref().filter(|found| found.serial != serial) {
                let (backend, known) = (backend.clone(), other.serial.clone());
                return Err(ReconcilingError::Replaced { backend, known, found: serial });
            }
            let found = found.map(|found| found.book);
            let is_new = found.is_none();
            let fresh = Book { until: chancery.roll.head().head().size.0, ..Book::default() };
            let book = found.unwrap_or(fresh);
            let mut one = Watched { backend, serial, log, labels, book, failing: false, quiet: false };
            one.halt_again(&chancery);
            if is_new {
                one.begin(&chancery).await?;
            }
            watched.push(one);
        }
        let counted = Counted::all(&chancery);
        Ok(Self { chancery, watched, counted, findings })
    }

    /// Runs until `stop`.
    pub async fn run(mut self, mut stop: watch::Receiver<bool>) {
        if self.watched.is_empty() && self.counted.is_empty() && self.findings.is_none() {
            return;
        }
        let mut tick = tokio::time::interval(EVERY);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                () = stopped(&mut stop) => return,
                _ = tick.tick() => self.poll().await,
            }
        }
    }

    /// Reads each log and each count once, and looks for findings.
    pub async fn poll(&mut self) {
        if let Some(findings) = &mut self.findings
            && let Err(error) = findings.poll(&self.chancery).await
        {
            tracing::error!(%error, "a finding could not be taken up; its key is halted");
        }
        for counted in &mut self.counted {
            if let Err(error) = counted.poll(&self.chancery).await {
                tracing::error!(%error, "counted uses cannot be held against the ledger");
            }
        }
        for watched in &mut self.watched {
            let result = watched.poll(&self.chancery).await;
            if let Err(error) = &result {
                self.chancery.metrics.device_log_failed(&watched.backend);
                if !watched.failing {
                    tracing::error!(backend = %watched.backend, %error, "a device's own record cannot be read");
                }
            }
            watched.failing = result.is_err();
        }
    }
}

impl Watched {
    /// The first record: nothing before it is compared.
    async fn begin(&mut self, chancery: &Chancery) -> Result<(), ReconcilingError> {
        let operations = self.read().await?;
        self.record(chancery, &operations).await
    }

    async fn poll(&mut self, chancery: &Chancery) -> Result<(), ReconcilingError> {
        loop {
            let operations = self.read().await?;
            let busy = operations.len() >= BUSY_ENTRIES;
            // What was not consumed would only come again.
            let consumed = self.compare(chancery, &operations).await?;
            if !busy || !consumed {
                return Ok(());
            }
        }
    }

    /// New entries of the log, oldest first.
    async fn read(&self) -> Result<Vec<DeviceOperation>, ReconcilingError> {
        let log = Arc::clone(&self.log);
        let read = move || log.read(ENTRIES_MAX, Instant::now() + READ_TIMEOUT);
        let mut operations =
            tokio::task::spawn_blocking(read).await.map_err(|_| ReconcilingError::Died)??;
        // A crash between record and consumption makes them come again.
        operations.retain(|operation| operation.number > self.book.last);
        Ok(operations)
    }

    /// `true` if it was recorded, and so consumed.
    async fn compare(
        &mut self,
        chancery: &Chancery,
        operations: &[DeviceOperation],
    ) -> Result<bool, ReconcilingError> {
        let uses = operations.iter().filter(|operation| operation.uses_key && operation.succeeded);
        let uses: Vec<&Kid> =
            uses.filter_map(|operation| self.labels.get(operation.label.as_ref()?)).collect();
        let used = uses.len() as u64;
        let open = open_claims(chancery).await?;
        let mut book = self.book.clone();
        let (claims, until) = claims_since(chancery, book.until).await?;
        let moved = !uses.is_empty() || self.labels.values().any(|kid| !claims.of(kid.as_str()).is_empty());
        book.until = until;
        for signer_kid in uses {
            book.keys.entry(signer_kid.to_string()).or_default().operations += 1;
        }
        let mut alarms = Vec::new();
        for signer_kid in self.labels.values() {
            let tally = book.keys.entry(signer_kid.to_string()).or_default();
            tally.claim(claims.of(signer_kid.as_str()));
            if let Some(surplus) = tally.weigh(open.of(signer_kid.as_str()), !moved && self.quiet) {
                alarms.push((signer_kid.clone(), self.serial.as_str(), surplus));
            }
        }
        chancery.metrics.device_log(&self.backend, used, 0);
        alarm(chancery, &self.backend, &alarms).await?;
        let is_alarm = !alarms.is_empty();
        self.quiet = !moved;
        self.book = book;
        let record = moved || is_alarm || operations.len() >= IDLE_ENTRIES_MAX;
        if record {
            self.record(chancery, operations).await?;
        }
        Ok(record)
    }

    /// Enrols what was read, then lets the device forget it.
    async fn record(
        &mut self,
        chancery: &Chancery,
        operations: &[DeviceOperation],
    ) -> Result<(), ReconcilingError> {
        let mut book = self.book.clone();
        if let Some(operation) = operations.last() {
            book.last = operation.number;
            book.last_evidence.clone_from(&operation.evidence);
        }
        let entries = operations.iter().map(|operation| Entry {
            command: &operation.command,
            evidence: &operation.evidence,
            label: operation.label.as_deref(),
            number: operation.number,
            succeeded: operation.succeeded,
            uses_key: operation.uses_key,
        });
        let record =
            Record { backend: &self.backend, entries: entries.collect(), serial: &self.serial, book: &book };
        let json = serde_json::to_vec(&record).map_err(|_| ReconcilingError::Died)?;
        let payload = CanonicalJson::parse(&json).map_err(|_| ReconcilingError::Died)?;
        chancery.roll.enrol_event(operations_recorded(payload), None).await?;
        let last = book.last;
        self.book = book;
        if !operations.is_empty() {
            let log = Arc::clone(&self.log);
            let consume = move || log.consume(last, Instant::now() + READ_TIMEOUT);
            tokio::task::spawn_blocking(consume).await.map_err(|_| ReconcilingError::Died)??;
        }
        Ok(())
    }

    /// A key halted before a restart stays halted.
    fn halt_again(&self, chancery: &Chancery) {
        for signer_kid in self.labels.values() {
            if self.book.keys.get(signer_kid.as_str()).is_some_and(|tally| tally.halted) {
                tracing::error!(backend = %self.backend, %signer_kid, "the key stays halted: its device was used behind the ledger's back");
                chancery.keyring.halt_key(signer_kid, BEHIND_OUR_BACK);
            }
        }
    }
}

/// Halts keys that were used too often, each with its device's name and how often: the key first, then words
/// about it.
async fn alarm(
    chancery: &Chancery,
    backend: &str,
    alarms: &[(Kid, &str, u64)],
) -> Result<(), ReconcilingError> {
    for (signer_kid, ..) in alarms {
        chancery.keyring.halt_key(signer_kid, BEHIND_OUR_BACK);
    }
    for (signer_kid, serial, count) in alarms {
        chancery.metrics.device_log(backend, 0, *count);
        tracing::error!(%backend, %signer_kid, count, "a device used a key behind the ledger's back; the key is halted");
        let draft = operations_surplus(backend, serial, signer_kid.as_str(), *count);
        chancery.roll.enrol_event(draft, None).await?;
    }
    Ok(())
}

/// What is announced and has not ended. Read it before the head.
async fn open_claims(chancery: &Chancery) -> Result<Claims, ReconcilingError> {
    let mut open = Claims::default();
    for intent in chancery.roll.open_intent_list(INTENTS_MAX).await? {
        open.open(&intent);
    }
    Ok(open)
}

/// What the leaves from `from` on claim, and where they end.
async fn claims_since(chancery: &Chancery, from: u64) -> Result<(Claims, u64), ReconcilingError> {
    let size = chancery.roll.head().head().size.0;
    let mut claims = Claims::default();
    leaves::each(&chancery.roll, from..size, |at, leaf| {
        let event = AuditEvent::read(leaf).map_err(|error| error.to_string())?;
        claims.read(at, &event).map_err(|error| error.to_string())
    })
    .await?;
    Ok((claims, size))
}

/// The last record of each backend, by name.
#[derive(Debug, Clone, Default)]
pub struct LastRecords(BTreeMap<String, Recorded>);

impl LastRecords {
    /// Searches the ledger from its end.
    pub async fn find(roll: &Roll) -> Result<Self, ReconcilingError> {
        let mut found = BTreeMap::new();
        let stream = StreamName::appliance();
        let Some(head) = roll.stream_head(stream.clone()).await? else { return Ok(Self::default()) };
        let mut end = head.next_seq;
        let first = end.saturating_sub(SEARCHED_MAX);
        while end > first {
            let start = end.saturating_sub(PAGE).max(first);
            let limit = usize::try_from(end - start).unwrap_or(usize::MAX);
            for leaf in roll.stream_page(stream.clone(), start, limit).await?.iter().rev() {
                let bad = || ReconcilingError::Entry(leaf.index.0);
                let event = AuditEvent::read(&leaf.bytes).map_err(|_| bad())?;
                if event.event_type == event_type::OPERATIONS {
                    let recorded: Recorded = serde_json::from_str(event.payload).map_err(|_| bad())?;
                    found.entry(recorded.backend.clone()).or_insert(recorded);
                }
            }
            end = start;
        }
        Ok(Self(found))
    }

    /// Number and evidence of the last entry recorded of a backend's device.
    pub fn position(&self, backend: &str) -> Option<(u64, &str)> {
        let book = &self.0.get(backend)?.book;
        Some((book.last, book.last_evidence.as_str()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_did_not_happen_cannot_hide_what_did() {
        let mut tally = Tally { certain: 5, possible: 2, operations: 6, halted: false };
        assert_eq!(tally.surplus(0), 0);
        tally.settle();
        assert_eq!(tally.possible, 1, "one of the two attempts used the key");
        tally.operations += 1;
        assert_eq!(tally.surplus(0), 1);
        assert_eq!(tally.surplus(1), 0, "it may belong to what is under way");
    }
}
