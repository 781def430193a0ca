//! What a verification comes to: counts, findings, exit code; as JSON and as text.

#![expect(
    clippy::indexing_slicing,
    reason = "serde_json's objects insert what is assigned to a missing member"
)]

use std::fmt::Write as _;

use chancery_format::{Hash, TreeHead};
use serde_json::{Value, json};

use crate::findings::{Finding, Findings, Weight};
use crate::ledger::{ActsTold, KeyLife, WitnessedTold};

/// How much was checked.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Checked {
    /// Names in the archive.
    pub files: u64,
    /// Entries read and checked.
    pub entries: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Streams whose chains were followed.
    pub streams: u64,
    /// Enrolled maps of heads that were right.
    pub heads: u64,
    /// Full bundles read.
    pub bundles: u64,
    /// Tail bundles read.
    pub tail_bundles: u64,
    /// Full hash tiles compared.
    pub tiles: u64,
    /// Partial hash tiles compared, of an archive that is a static log.
    pub partial_tiles: u64,
    /// Checkpoints whose signature and root hold.
    pub checkpoints: u64,
    /// Registry versions archived as published.
    pub registry_versions: u64,
    /// Individual signatures that verified.
    pub signatures: u64,
    /// MACs: recorded, but only who holds the key can verify them.
    pub macs: u64,
    /// Signatures over messages of which the ledger keeps the hash alone.
    pub over_messages: u64,
    /// Digests whose signature is their receipt.
    pub anchored: u64,
    /// Whether signatures were verified one by one.
    pub strict: bool,
    /// The newest head that the entries led to.
    pub head: Option<TreeHead>,
    /// Whether an older checkpoint was given and is continued.
    pub continues_older: Option<bool>,
    /// Entries of the newest checkpoint that a static log shows, if it does.
    pub shown: Option<u64>,
}

impl Checked {
    fn to_json(self) -> Value {
        let mut value = json!({
            "files": self.files,
            "entries": self.entries,
            "bytes": self.bytes,
            "streams": self.streams,
            "headsMaps": self.heads,
            "bundles": self.bundles,
            "tailBundles": self.tail_bundles,
            "tiles": self.tiles,
            "partialTiles": self.partial_tiles,
            "checkpoints": self.checkpoints,
            "registryVersions": self.registry_versions,
            "signatures": self.signatures,
            "macsNotVerifiable": self.macs,
            "signaturesOverMessages": self.over_messages,
            "anchored": self.anchored,
            "signatureMode": self.mode(),
        });
        if let Some(head) = self.head {
            value["treeSize"] = head.size.0.into();
            value["root"] = head.root.to_hex().into();
        }
        if let Some(shown) = self.shown {
            value["shown"] = shown.into();
        }
        if let Some(continues) = self.continues_older {
            value["continuesOlderCheckpoint"] = continues.into();
        }
        value
    }

    const fn mode(self) -> &'static str {
        if self.strict { "strict" } else { "batch" }
    }

    fn to_text(self) -> String {
        let mut text = format!(
            "{} entries ({} bytes) in {} streams, {} full and {} tail bundles, {} tiles\n\
             {} checkpoints, {} registry versions\n\
             {} signatures verified ({}), {} MACs that only their key holder can verify\n",
            self.entries,
            self.bytes,
            self.streams,
            self.bundles,
            self.tail_bundles,
            self.tiles,
            self.checkpoints,
            self.registry_versions,
            self.signatures,
            if self.strict { "one by one" } else { "Ed25519 in batches; --strict: one by one" },
            self.macs,
        );
        if self.heads > 0 {
            let _ =
                writeln!(text, "{} enrolled maps of how many entries each stream and key has", self.heads);
        }
        if self.over_messages > 0 {
            let _ = writeln!(
                text,
                "{} signatures over messages themselves: whoever has one verifies it by its receipt, with --message",
                self.over_messages
            );
        }
        if self.anchored > 0 {
            let _ = writeln!(text, "{} digests anchored: their receipts are their signatures", self.anchored);
        }
        if let Some(TreeHead { size, root }) = self.head {
            // Writing to a String cannot fail.
            let _ = writeln!(text, "tree of {size} entries, root {root}");
        }
        if let Some(shown) = self.shown {
            let _ = writeln!(
                text,
                "a static log: shows its checkpoint of {shown} entries, {} partial tiles",
                self.partial_tiles
            );
        }
        if self.continues_older == Some(true) {
            text.push_str("continues the older checkpoint\n");
        }
        text
    }
}

/// The result of one command.
#[derive(Debug, Clone)]
pub struct Report {
    findings: Findings,
    checked: Value,
    text: String,
}

impl Report {
    /// Of a whole ledger, with the lives of its keys.
    pub fn new(findings: Findings, checked: Checked, keys: &[KeyLife]) -> Self {
        let mut told = checked.to_json();
        if let Value::Object(members) = &mut told {
            members.insert("keys".to_owned(), keys.iter().map(KeyLife::to_json).collect());
        }
        Self { findings: findings.sorted(), checked: told, text: checked.to_text() }
    }

    /// The same with one line for each key in the text; the JSON form has them always.
    #[must_use]
    pub fn showing(mut self, keys: &[KeyLife]) -> Self {
        for key in keys {
            self.text += &format!("{}\n", key.to_text());
        }
        self
    }

    /// The same with the acts of people, in the JSON form.
    #[must_use]
    pub fn with_acts(mut self, acts: &ActsTold) -> Self {
        if let Value::Object(members) = &mut self.checked {
            members.insert("governance".to_owned(), acts.to_json());
        }
        self
    }

    /// The same with how far the ledger is witnessed, in both forms, if anything can be said of that.
    #[must_use]
    pub fn with_witnessed(mut self, witnessed: &WitnessedTold) -> Self {
        if witnessed.is_told() {
            self.text += &format!("{}\n", witnessed.to_text());
            if let Value::Object(members) = &mut self.checked {
                members.insert("witnessed".to_owned(), witnessed.to_json());
            }
        }
        self
    }

    /// The same with the counts of the auditor's report, in the JSON form.
    #[must_use]
    pub fn with_survey(mut self, survey: Value) -> Self {
        if let Value::Object(members) = &mut self.checked {
            members.insert("survey".to_owned(), survey);
        }
        self
    }

    /// The same with one line for each act in the text.
    #[must_use]
    pub fn showing_acts(mut self, acts: &ActsTold) -> Self {
        self.text += &acts.to_text();
        self
    }

    /// The same with the keys that were valid at one index, in both forms.
    #[must_use]
    pub fn showing_at(mut self, keys: &[KeyLife], index: u64) -> Self {
        let valid: Vec<_> = keys.iter().filter(|key| key.valid_at(index)).collect();
        for key in &valid {
            self.text += &format!("valid at entry {index}: {}\n", key.to_text());
        }
        if let Value::Object(members) = &mut self.checked {
            let names: Vec<_> = valid.iter().map(|key| key.signer_kid()).collect();
            members.insert("validAt".to_owned(), json!({ "index": index, "signer_kids": names }));
        }
        self
    }

    /// Of something smaller, with its own counts.
    pub fn of(findings: Findings, checked: Value, text: String) -> Self {
        Self { findings: findings.sorted(), checked, text }
    }

    /// Everything found.
    pub const fn findings(&self) -> &Findings {
        &self.findings
    }

    /// What was checked, as JSON.
    pub const fn checked(&self) -> &Value {
        &self.checked
    }

    /// 0 valid, 1 bad, 3 evidence missing.
    pub const fn exit_code(&self) -> u8 {
        if self.findings.bad() > 0 {
            1
        } else if self.findings.missing() > 0 {
            3
        } else {
            0
        }
    }

    /// One JSON object.
    pub fn to_json(&self) -> Value {
        json!({
            "valid": self.findings.is_valid(),
            "checked": self.checked,
            "findings": self.findings.listed().iter().map(finding_json).collect::<Vec<_>>(),
            "findingsTotal": {
                "errors": self.findings.bad(),
                "missing": self.findings.missing(),
                "warnings": self.findings.warnings(),
            },
        })
    }

    /// For people.
    pub fn to_text(&self) -> String {
        let mut text = String::new();
        for finding in self.findings.listed() {
            let _ = writeln!(text, "{finding}");
        }
        let found = self.findings.bad() + self.findings.missing() + self.findings.warnings();
        let unlisted = found - self.findings.listed().len() as u64;
        if unlisted > 0 {
            let _ = writeln!(text, "… and {unlisted} more findings");
        }
        text.push_str(&self.text);
        let verdict = match self.exit_code() {
            0 => "VALID".to_owned(),
            1 => format!("NOT VALID: {} errors, {} missing", self.findings.bad(), self.findings.missing()),
            _ => {
                format!("UNDECIDED: evidence is missing or unreadable in {} places", self.findings.missing())
            }
        };
        let _ = writeln!(text, "{verdict}");
        text
    }
}

/// `severity` is `error` or `warning`; `missing` tells an error that is only missing evidence.
fn finding_json(finding: &Finding) -> Value {
    let severity = if finding.weight == Weight::Warning { "warning" } else { "error" };
    let mut value = json!({
        "severity": severity,
        "kind": finding.kind.as_str(),
        "message": finding.message,
    });
    if finding.weight == Weight::Missing {
        value["missing"] = true.into();
    }
    if let Some(index) = finding.index {
        value["index"] = index.into();
    }
    if let Some(file) = &finding.file {
        value["file"] = file.as_str().into();
    }
    value
}

/// Hex of a root, for the smaller reports.
pub(crate) fn head_json(size: u64, root: &Hash) -> Value {
    json!({ "treeSize": size, "root": root.to_hex() })
}
