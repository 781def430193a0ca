//! The kill switch's outside: `CHANCERY_ENABLE` and the sentinel file.
//!
//! Promises: at most [`crate::limits::Limits::kill_switch_poll`] after the file appears no key use begins
//! any more; a file that cannot be looked at counts as there. The flag comes first, the ledger entry
//! after: halting never waits for anything.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use chancery_format::governance::Scope;
use tokio::sync::watch;

use crate::chancery::Chancery;
use crate::config::Variables;
use crate::stop::stopped;

/// How long a halt waits for key uses under way before it reports what is left.
const HALT_WAIT: Duration = Duration::from_secs(10);

/// Who pulled the switch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Source {
    /// `CHANCERY_ENABLE` at start; only a restart changes it.
    Environment,
    /// The sentinel file.
    File,
    /// The sentinel file could not be looked at.
    Unreadable,
}

impl Source {
    const ALL: [Self; 3] = [Self::Environment, Self::File, Self::Unreadable];

    /// The word in leaves and logs.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Environment => "environment",
            Self::File => "file",
            Self::Unreadable => "unreadable-file",
        }
    }
}

/// What is watched.
#[derive(Debug, Clone)]
pub struct Sentinels {
    environment: bool,
    file: Option<PathBuf>,
}

impl Sentinels {
    /// From the variables of this process and the configured file.
    pub fn new(variables: &Variables, file: Option<PathBuf>) -> Self {
        Self { environment: variables.halts(), file }
    }

    /// Why signing must be halted now; `None` if it need not.
    pub fn look(&self) -> Option<Source> {
        if self.environment { Some(Source::Environment) } else { self.file.as_deref().and_then(look_at) }
    }
}

fn look_at(file: &Path) -> Option<Source> {
    match std::fs::symlink_metadata(file) {
        Ok(_) => Some(Source::File),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => None,
        Err(_) => Some(Source::Unreadable),
    }
}

/// Does what the sentinels say, and records it: before the first request, and at every tick.
///
/// A halt comes at once, whatever the ledger says. Where a quorum is configured, a sentinel that is gone resumes
/// nothing: people do. Without one, whoever holds the machine decides.
pub async fn apply(chancery: &Arc<Chancery>, sentinels: &Sentinels) {
    let governance = &chancery.governance;
    let halted = chancery.halts.is_global();
    match sentinels.look() {
        Some(source) if !halted => {
            // The flag is set when this returns; the entry follows in a task of its own.
            chancery.halts.halt(&chancery.keyring, &Scope::Global, source.as_str());
            let still_in_use = wait_for_uses(chancery, source).await;
            tracing::error!(source = source.as_str(), still_in_use, "kill switch pulled: nothing is signed");
            let chancery = Arc::clone(chancery);
            tokio::spawn(async move {
                let recorded = chancery.governance.halt(Scope::Global, source.as_str(), None, None).await;
                if let Err(error) = recorded {
                    tracing::error!(%error, "the change of the kill switch could not be enrolled");
                }
            });
        }
        None if halted && !governance.has_roster() && pulled_by_a_sentinel(chancery) => {
            match governance.resume(Scope::Global, Source::File.as_str(), None, None).await {
                Ok(_) => tracing::warn!("kill switch reset: signing goes on"),
                Err(error) => tracing::error!(%error, "the kill switch stays pulled"),
            }
        }
        _ => {}
    }
    chancery.metrics.halted(chancery.halts.is_global());
}

async fn wait_for_uses(chancery: &Chancery, source: Source) -> usize {
    chancery.keyring.kill_switch().halt(source.as_str(), HALT_WAIT).await.still_in_use
}

/// What a person halted, a vanished file does not resume.
fn pulled_by_a_sentinel(chancery: &Chancery) -> bool {
    let state = chancery.governance.state();
    let by = state.halts.get(&Scope::Global).map(|halt| halt.source.as_str());
    by.is_some_and(|by| Source::ALL.iter().any(|source| source.as_str() == by))
}

/// Watches the sentinels until `stop`.
pub async fn watch(chancery: Arc<Chancery>, sentinels: Sentinels, mut stop: watch::Receiver<bool>) {
    let mut tick = tokio::time::interval(chancery.limits.kill_switch_poll);
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            () = stopped(&mut stop) => return,
            _ = tick.tick() => apply(&chancery, &sentinels).await,
        }
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a failed unwrap is the test's failure")]
    use super::*;

    #[test]
    fn the_file_pulls_and_so_does_doubt() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("halt");
        let sentinels = Sentinels::new(&Variables::default(), Some(file.clone()));
        assert_eq!(sentinels.look(), None);
        std::fs::write(&file, "").unwrap();
        assert_eq!(sentinels.look(), Some(Source::File));
        std::fs::remove_file(&file).unwrap();
        assert_eq!(sentinels.look(), None);
        // A path below a file cannot be looked at: halted.
        std::fs::write(&file, "").unwrap();
        let below = Sentinels::new(&Variables::default(), Some(file.join("x")));
        assert_eq!(below.look(), Some(Source::Unreadable));
        // A dangling link is there.
        let link = folder.path().join("link");
        std::os::unix::fs::symlink("nowhere", &link).unwrap();
        assert_eq!(Sentinels::new(&Variables::default(), Some(link)).look(), Some(Source::File));
    }

    #[test]
    fn the_variable_pulls_without_a_file() {
        let off = Sentinels::new(&Variables::of(&[("CHANCERY_ENABLE", "off")]), None);
        assert_eq!(off.look(), Some(Source::Environment));
        let on = Sentinels::new(&Variables::of(&[("CHANCERY_ENABLE", "on")]), None);
        assert_eq!(on.look(), None);
    }
}
