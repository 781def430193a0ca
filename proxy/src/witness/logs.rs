//! Which logs are cosigned: those the configuration names, and those of a list (`logs/v0`) that is read again while the
//! daemon runs.
//!
//! Promises: what the operator configured of a log stands, whatever a list says of it. What was cosigned of a log is
//! never forgotten while the daemon runs, also if a list drops the log and takes it up again. Refuses: to start with a
//! list that is none; one that comes later and is none changes nothing. A listed log whose last checkpoint is not by the
//! keys that the list has now is left out and told, so that it does not hold up the others.

use std::collections::{BTreeMap, HashMap};
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::SystemTime;

use chancery_format::log_key::LogKey;
use chancery_format::log_list::{LIST_BYTES_MAX, LogList, LogListError};

use super::memory::{self, Log, MemoryError};
use super::rate::Source;
use crate::config::WitnessConfig;
use crate::tls;

/// Why logs cannot be cosigned. The operator's to fix, or whoever's who made the list.
#[derive(Debug, thiserror::Error)]
pub enum LogsError {
    /// What was cosigned before cannot be read. Nothing may be cosigned without knowing it.
    #[error(transparent)]
    Memory(#[from] MemoryError),
    /// The list cannot be read.
    #[error("{path}: {source}", path = .path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The list is none.
    #[error("{path}: {source}", path = .path.display())]
    List {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        source: LogListError,
    },
}

/// One log, held by who works for it: what is known, the decision and what is stored are one step.
pub(super) type Held = Arc<tokio::sync::Mutex<Log>>;
type Stamp = Option<(SystemTime, u64, u64)>;

/// A log that is to be cosigned.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Wanted {
    keys: Vec<LogKey>,
    source: Source,
}

/// Every log.
#[derive(Debug)]
pub(super) struct Logs {
    directory: PathBuf,
    configured: Vec<LogKey>,
    list: Option<PathBuf>,
    /// The list as it was read last.
    seen: Mutex<Stamp>,
    /// By the names under which monitors find them. None is ever removed: whoever holds one must hold the only one.
    known: RwLock<HashMap<String, Held>>,
}

impl Logs {
    /// Reads the list and what was cosigned before; makes the folder if there is none.
    pub(super) fn open(config: &WitnessConfig) -> Result<Self, LogsError> {
        memory::make_folder(&config.directory)?;
        let (configured, list) = (config.logs.clone(), config.logs_file.clone());
        let seen = Mutex::new(list.as_deref().and_then(tls::stamp));
        let wanted = plan(&configured, list.as_deref().map(read).transpose()?.unwrap_or_default());
        let mut known = HashMap::with_capacity(wanted.len());
        for (origin, wanted) in wanted {
            if let Some(log) = opened(&config.directory, &origin, wanted)? {
                known.insert(memory::name_of(&origin), Arc::new(tokio::sync::Mutex::new(log)));
            }
        }
        Ok(Self { directory: config.directory.clone(), configured, list, seen, known: RwLock::new(known) })
    }

    /// How many there are, also those that a list had once.
    pub(super) fn count(&self) -> usize {
        self.known.read().unwrap_or_else(PoisonError::into_inner).len()
    }

    /// The log of this origin.
    pub(super) fn of_origin(&self, origin: &str) -> Option<Held> {
        self.named(&memory::name_of(origin))
    }

    /// The log that monitors find under this name.
    pub(super) fn named(&self, name: &str) -> Option<Held> {
        self.known.read().unwrap_or_else(PoisonError::into_inner).get(name).map(Arc::clone)
    }

    /// Reads the list again if it changed, or in any case; how many logs it leaves, or `None` if there was nothing to do.
    pub(super) async fn reload(&self, forced: bool) -> Option<Result<usize, LogsError>> {
        let list = self.list.as_deref()?;
        let stamp = tls::stamp(list);
        let before = std::mem::replace(&mut *self.seen.lock().unwrap_or_else(PoisonError::into_inner), stamp);
        if !forced && before == stamp {
            return None;
        }
        match tokio::task::block_in_place(|| read(list)) {
            Ok(list) => Some(self.adopt(plan(&self.configured, list)).await),
            Err(error) => Some(Err(error)),
        }
    }

    async fn adopt(&self, mut wanted: BTreeMap<String, Wanted>) -> Result<usize, LogsError> {
        let count = wanted.len();
        let held: Vec<Held> = {
            let known = self.known.read().unwrap_or_else(PoisonError::into_inner);
            known.values().map(Arc::clone).collect()
        };
        for log in held {
            let mut log = log.lock().await;
            match wanted.remove(log.origin()) {
                Some(Wanted { keys, source }) => {
                    if !log.adopt(keys, source) {
                        tracing::error!(origin = log.origin(), "{CHANGED}");
                    }
                }
                None => log.leave(),
            }
        }
        for (origin, wanted) in wanted {
            let opened = tokio::task::block_in_place(|| opened(&self.directory, &origin, wanted))?;
            if let Some(log) = opened {
                let log = Arc::new(tokio::sync::Mutex::new(log));
                let mut known = self.known.write().unwrap_or_else(PoisonError::into_inner);
                known.insert(memory::name_of(&origin), log);
            }
        }
        Ok(count)
    }
}

const CHANGED: &str =
    "a log of the list is not cosigned: its last checkpoint is not by the keys the list has now";

/// What is known of a log. Of a listed one it may be nothing that fits; a configured one must fit.
fn opened(directory: &Path, origin: &str, wanted: Wanted) -> Result<Option<Log>, MemoryError> {
    match Log::open(directory, origin, wanted.keys, wanted.source) {
        Ok(log) => Ok(Some(log)),
        Err(MemoryError::Unreadable { .. }) if wanted.source != Source::Configured => {
            tracing::error!(origin, "{CHANGED}");
            Ok(None)
        }
        Err(error) => Err(error),
    }
}

/// The list, within its bound.
fn read(path: &Path) -> Result<LogList, LogsError> {
    let mut bytes = Vec::new();
    let opened = std::fs::File::open(path);
    let read = opened.and_then(|file| file.take(LIST_BYTES_MAX as u64 + 1).read_to_end(&mut bytes));
    read.map_err(|source| LogsError::File { path: path.to_owned(), source })?;
    let list = LogList::parse(&bytes).map_err(|source| LogsError::List { path: path.to_owned(), source })?;
    for (line, unfit) in &list.left_out {
        tracing::warn!(line, reason = %unfit, "a log of the list is not cosigned");
    }
    Ok(list)
}

/// Keys of one name are of one log. Of a configured log a list says nothing; of two entries of one log the higher number
/// of requests counts.
fn plan(configured: &[LogKey], list: LogList) -> BTreeMap<String, Wanted> {
    let mut wanted: BTreeMap<String, Wanted> = BTreeMap::new();
    let new = |source| Wanted { keys: Vec::new(), source };
    for key in configured {
        let log = wanted.entry(key.name().to_owned()).or_insert_with(|| new(Source::Configured));
        log.keys.push(key.clone());
    }
    for listed in list.logs {
        let log = wanted.entry(listed.key.name().to_owned());
        let log = log.or_insert_with(|| new(Source::Listed(listed.requests_per_day)));
        match &mut log.source {
            Source::Configured if !log.keys.contains(&listed.key) => {
                tracing::warn!(origin = listed.key.name(), "the list has another key of a configured log");
            }
            Source::Configured => {}
            Source::Listed(requests) => {
                *requests = (*requests).max(listed.requests_per_day);
                if !log.keys.contains(&listed.key) {
                    log.keys.push(listed.key);
                }
            }
        }
    }
    wanted
}

#[cfg(test)]
mod tests {
    #![expect(
        clippy::unwrap_used,
        clippy::indexing_slicing,
        reason = "a failed unwrap is the test's failure"
    )]
    use super::*;
    use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair as _};
    use chancery_format::note::NoteVerifier;

    fn key(name: &str, seed: u8) -> LogKey {
        let pair = Ed25519KeyPair::from_seed_unchecked(&[seed; 32]).unwrap();
        let raw = pair.public_key().as_ref().try_into().unwrap();
        LogKey::Ed25519(NoteVerifier::new(name, &raw).unwrap())
    }

    fn list(entries: &[(&LogKey, &str)]) -> String {
        let entries = entries.iter().map(|(key, more)| format!("vkey {}\n{more}\n", key.vkey()));
        format!("logs/v0\n{}", entries.collect::<String>())
    }

    #[test]
    fn what_is_configured_of_a_log_stands_against_a_list() {
        let (ours, theirs, other) =
            (key("a.example/log", 1), key("a.example/log", 2), key("b.example/log", 3));
        let next = key("b.example/log", 4);
        let text = list(&[(&theirs, "qpd 1"), (&other, "qpd 24"), (&next, "qpd 48"), (&other, "")]);
        let wanted = plan(std::slice::from_ref(&ours), LogList::parse(text.as_bytes()).unwrap());
        assert_eq!(wanted.len(), 2);
        assert_eq!(wanted["a.example/log"], Wanted { keys: vec![ours], source: Source::Configured });
        let both = Wanted { keys: vec![other, next], source: Source::Listed(Some(48)) };
        assert_eq!(wanted["b.example/log"], both);
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_list_is_read_again_and_a_bad_one_changes_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("logs.txt");
        let (a, b) = (key("a.example/log", 1), key("b.example/log", 2));
        std::fs::write(&file, list(&[(&a, "qpd 24")])).unwrap();
        let config = WitnessConfig {
            address: "127.0.0.1:0".parse().unwrap(),
            name: "witness.example/w1".parse().unwrap(),
            kids: Vec::new(),
            directory: folder.path().join("witness"),
            logs: Vec::new(),
            logs_file: Some(file.clone()),
        };
        let logs = Logs::open(&config).unwrap();
        let knows = async |name: &str| match logs.of_origin(name) {
            Some(log) => log.lock().await.is_cosigned(),
            None => false,
        };
        assert!(knows("a.example/log").await && !knows("b.example/log").await);
        assert!(logs.reload(false).await.is_none(), "nothing changed");
        let held = logs.of_origin("a.example/log").unwrap();

        std::fs::write(&file, list(&[(&b, "")])).unwrap();
        assert_eq!(logs.reload(false).await.unwrap().unwrap(), 1);
        assert!(!knows("a.example/log").await && knows("b.example/log").await);
        std::fs::write(&file, "logs/v9\n").unwrap();
        assert!(matches!(logs.reload(false).await, Some(Err(LogsError::List { .. }))));
        assert!(knows("b.example/log").await);
        assert!(logs.reload(false).await.is_none(), "told once");
        std::fs::write(&file, list(&[(&b, ""), (&a, "")])).unwrap();
        assert_eq!(logs.reload(true).await.unwrap().unwrap(), 2);
        assert!(knows("a.example/log").await && knows("b.example/log").await);
        assert!(Arc::ptr_eq(&held, &logs.of_origin("a.example/log").unwrap()), "one log, one lock");

        std::fs::remove_file(&file).unwrap();
        assert!(matches!(logs.reload(false).await, Some(Err(LogsError::File { .. }))));
        assert!(matches!(Logs::open(&config), Err(LogsError::File { .. })));
    }
}
