//! Findings of `chancery reconcile`, which holds records that come later against the ledger: CloudTrail's, and
//! counts of devices that keep no log.
//!
//! It leaves a file `SIGNER_KID.json` for each key that somebody used behind the ledger's back. That key is
//! halted within one poll, and for as long as the file is there, across restarts; the finding is enrolled once,
//! and the file then renamed to `SIGNER_KID.told`. The name alone halts: a file that says nothing else counts
//! as one operation.

use std::io;
use std::path::{Path, PathBuf};

use chancery_format::Kid;
use chancery_format::entry::operations_surplus;
use serde::Deserialize;

use super::{BEHIND_OUR_BACK, ReconcilingError, alarm};
use crate::chancery::Chancery;

/// Files looked at; there are as many as keys at most.
const FILES_MAX: usize = 65_536;
/// Bytes of one finding that are read.
const FINDING_BYTES_MAX: u64 = 1 << 20;

/// The folder they are left in.
#[derive(Debug)]
pub(super) struct Findings {
    folder: PathBuf,
    /// Whether the last look failed.
    failing: bool,
}

/// One file.
struct Finding {
    signer_kid: Kid,
    path: PathBuf,
    is_new: bool,
}

/// The part of a finding that is enrolled.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Said {
    surplus_count: u64,
}

impl Findings {
    /// Halts every key of which something was ever found. Call it before the first request.
    pub(super) fn start(folder: PathBuf, chancery: &Chancery) -> Result<Self, ReconcilingError> {
        let failed = |source| ReconcilingError::Findings { folder: folder.clone(), source };
        for finding in look(&folder).map_err(failed)? {
            chancery.keyring.halt_key(&finding.signer_kid, BEHIND_OUR_BACK);
            if !finding.is_new {
                tracing::error!(signer_kid = %finding.signer_kid, "the key stays halted: it was found used behind the ledger's back");
            }
        }
        Ok(Self { folder, failing: false })
    }

    /// Halts and enrols what is new. A folder that cannot be read is told once; keys halted stay halted.
    pub(super) async fn poll(&mut self, chancery: &Chancery) -> Result<(), ReconcilingError> {
        let folder = self.folder.clone();
        let looked = tokio::task::spawn_blocking(move || look(&folder)).await;
        let found = looked.map_err(|_| ReconcilingError::Died)?;
        if let Err(error) = &found
            && !self.failing
        {
            tracing::error!(folder = %self.folder.display(), %error, "findings cannot be looked for");
        }
        self.failing = found.is_err();
        for finding in found.into_iter().flatten().filter(|finding| finding.is_new) {
            take_up(chancery, &finding).await?;
        }
        Ok(())
    }
}

/// The key first, then words about it.
async fn take_up(chancery: &Chancery, finding: &Finding) -> Result<(), ReconcilingError> {
    let Finding { signer_kid, path, .. } = finding;
    chancery.keyring.halt_key(signer_kid, BEHIND_OUR_BACK);
    let count = read(path).map_or(1, |said| said.surplus_count.max(1));
    if let Some(key) = chancery.keyring.lookup_signer(signer_kid) {
        alarm(chancery, &key.backend, &[(signer_kid.clone(), &key.label, count)]).await?;
    } else {
        tracing::warn!(%signer_kid, "a finding names a key that is not configured");
        let draft = operations_surplus("", "", signer_kid.as_str(), count);
        chancery.roll.enrol_event(draft, None).await?;
    }
    let failed = |source| ReconcilingError::Findings { folder: path.clone(), source };
    std::fs::rename(path, path.with_extension("told")).map_err(failed)
}

fn look(folder: &Path) -> io::Result<Vec<Finding>> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder)?.take(FILES_MAX) {
        let path = entry?.path();
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        let new = name.strip_suffix(".json").map(|name| (name, true));
        let named = new.or_else(|| name.strip_suffix(".told").map(|name| (name, false)));
        // Anything else is not ours, such as a file that is still being written.
        let Some((name, is_new)) = named else { continue };
        if let Ok(signer_kid) = name.parse() {
            found.push(Finding { signer_kid, path, is_new });
        }
    }
    Ok(found)
}

fn read(path: &Path) -> Option<Said> {
    use std::io::Read as _;
    let mut json = Vec::new();
    std::fs::File::open(path).ok()?.take(FINDING_BYTES_MAX).read_to_end(&mut json).ok()?;
    serde_json::from_slice(&json).ok()
}
