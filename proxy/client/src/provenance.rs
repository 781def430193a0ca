//! Where an artifact came from: what the caller says, and what git says of the work tree it is in.
//!
//! Signed and recorded with the artifact, so that nobody can later say otherwise. It is the caller's word: the ledger
//! proves who said it and when, not that it is so.

use std::path::Path;
use std::process::{Command, Stdio};

use serde::{Deserialize, Serialize};

/// Longest text of one member, in bytes.
const TEXT_BYTES_MAX: usize = 512;

/// Where an artifact came from.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Provenance {
    /// Its file name, without folders.
    pub artifact: String,
    /// Its length.
    pub bytes: u64,
    /// The commit it was made from.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub commit: Option<String>,
    /// The branch.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub branch: Option<String>,
    /// Whether tracked files differed from the commit; absent if nobody looked.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub dirty: Option<bool>,
    /// The data set it was made from.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub dataset: Option<String>,
    /// The run of the pipeline that made it.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub run_id: Option<String>,
}

impl Provenance {
    /// Fills in what the caller did not say and git knows, if `folder` is in a work tree. Without git, or outside of a
    /// work tree, nothing changes.
    pub fn ask_git(&mut self, folder: &Path) {
        if git(folder, &["rev-parse", "--is-inside-work-tree"]).as_deref() != Some("true") {
            return;
        }
        let head = git(folder, &["rev-parse", "--verify", "--quiet", "HEAD"]);
        if self.commit.is_none() {
            // What a caller says is the commit need not be what is checked out: then git is not asked whether it is clean.
            let changed = git(folder, &["status", "--porcelain", "--untracked-files=no"]);
            self.dirty = changed.filter(|_| head.is_some()).map(|text| !text.is_empty());
            self.commit = head;
        }
        if self.branch.is_none() {
            self.branch =
                git(folder, &["symbolic-ref", "--short", "--quiet", "HEAD"]).filter(|it| !it.is_empty());
        }
    }

    /// What is wrong with the texts, if anything: they are recorded for ever, and shown on terminals.
    pub fn fault(&self) -> Option<String> {
        let named = [
            ("artifact", Some(&self.artifact)),
            ("commit", self.commit.as_ref()),
            ("branch", self.branch.as_ref()),
            ("dataset", self.dataset.as_ref()),
            ("run-id", self.run_id.as_ref()),
        ];
        let fits = |text: &str| {
            !text.is_empty() && text.len() <= TEXT_BYTES_MAX && !text.chars().any(char::is_control)
        };
        let (name, _) = named.into_iter().find(|(_, text)| text.is_some_and(|text| !fits(text)))?;
        Some(format!("{name} must have 1 to {TEXT_BYTES_MAX} bytes and no control characters"))
    }

    /// Members that somebody asked for and that are others here: name, asked, found.
    pub fn differs_from<'a>(&'a self, wanted: &'a Self) -> Option<(&'static str, &'a str, Option<&'a str>)> {
        let pairs = [
            ("commit", &wanted.commit, &self.commit),
            ("branch", &wanted.branch, &self.branch),
            ("dataset", &wanted.dataset, &self.dataset),
            ("run-id", &wanted.run_id, &self.run_id),
        ];
        pairs.into_iter().find_map(|(name, wanted, found)| {
            let wanted = wanted.as_deref()?;
            (found.as_deref() != Some(wanted)).then_some((name, wanted, found.as_deref()))
        })
    }
}

/// What git prints, without the end of the line; `None` if it fails or is not there.
fn git(folder: &Path, arguments: &[&str]) -> Option<String> {
    let mut git = Command::new("git");
    // The work tree may be somebody else's: none of its programs is run.
    git.args(["--no-optional-locks", "-c", "core.fsmonitor=false", "-C"]).arg(folder).args(arguments);
    let output = git.stdin(Stdio::null()).stderr(Stdio::null()).output().ok()?;
    output.status.success().then(|| String::from_utf8_lossy(&output.stdout).trim_end().to_owned())
}
