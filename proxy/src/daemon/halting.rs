//! The kill switch's outside: `CHANCERY_ENABLE` and the sentinel file.
//!
//! Promises: at most [`crate::limits::Limits::kill_switch_poll`] after the file appears no key use begins
//! any more; a file that cannot be looked at counts as there. The flag comes first, the ledger entry
//! after: halting never waits for anything.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use chancery_format::entry::kill_switch_changed;
use chancery_hsm::KillSwitch;
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

/// Pulls or resets `switch` as the sentinels say; `Some` if that changed it.
pub fn apply(sentinels: &Sentinels, switch: &KillSwitch) -> Option<(bool, Source)> {
    match (sentinels.look(), switch.is_halted()) {
        (Some(source), false) => {
            // The switch is pulled when this returns; `watch` waits for uses under way and reports.
            drop(switch.halt(source.as_str(), Duration::ZERO));
            Some((true, source))
        }
        (None, true) => {
            switch.resume();
            Some((false, Source::File))
        }
        _ => None,
    }
}

/// Watches the sentinels until `stop`. Runs on a thread of its own pace, not of the requests.
pub async fn watch(chancery: Arc<Chancery>, sentinels: Sentinels, mut stop: watch::Receiver<bool>) {
    let switch = Arc::clone(chancery.keyring.kill_switch());
    let mut tick = tokio::time::interval(chancery.limits.kill_switch_poll);
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            () = stopped(&mut stop) => return,
            _ = tick.tick() => {}
        }
        if let Some((halted, source)) = apply(&sentinels, &switch) {
            report(&chancery, halted, source).await;
        }
    }
}

/// Says it in the log, in the metrics and on the ledger. The ledger's answer is not waited for.
pub async fn report(chancery: &Arc<Chancery>, halted: bool, source: Source) {
    chancery.metrics.halted(halted);
    if halted {
        let left = chancery.keyring.kill_switch().halt(source.as_str(), HALT_WAIT).await.still_in_use;
        tracing::error!(
            source = source.as_str(),
            still_in_use = left,
            "kill switch pulled: nothing is signed"
        );
    } else {
        tracing::warn!("kill switch reset: signing goes on");
    }
    let chancery = Arc::clone(chancery);
    tokio::spawn(async move {
        let draft = kill_switch_changed(halted, source.as_str());
        if let Err(error) = chancery.roll.enrol_event(draft, None).await {
            tracing::error!(%error, "the change of the kill switch could not be enrolled");
        }
    });
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a failed unwrap is the test's failure")]
    use super::*;

    #[test]
    fn the_file_pulls_and_resets_and_doubt_pulls() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("halt");
        let sentinels = Sentinels::new(&Variables::default(), Some(file.clone()));
        let switch = KillSwitch::new();
        assert_eq!(apply(&sentinels, &switch), None);
        std::fs::write(&file, "").unwrap();
        assert_eq!(apply(&sentinels, &switch), Some((true, Source::File)));
        assert!(switch.is_halted());
        assert_eq!(apply(&sentinels, &switch), None);
        std::fs::remove_file(&file).unwrap();
        assert_eq!(apply(&sentinels, &switch), Some((false, Source::File)));
        assert!(!switch.is_halted());
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
