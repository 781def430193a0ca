//! An export in a folder of its own, and the verifier's word on it.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use chancery_tests::rig::binary;
use chancery_tests::servers::python_with_cryptography;
use serde_json::Value;

pub(crate) const ROWS: usize = 12;
pub(crate) const DIALECTS: [&str; 7] =
    ["kernel", "shared", "kernel-go", "memory-layer", "kernel-server", "agent-manager", "safe-ai"];
const WRITERS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/writers");

pub(crate) struct Export {
    folder: tempfile::TempDir,
    pub(crate) rows: Vec<Value>,
}

impl Export {
    pub(crate) fn of(dialect: &str) -> Self {
        Self::made(dialect, &[])
    }

    pub(crate) fn made(dialect: &str, more: &[&str]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut writer = match dialect {
            "kernel-go" | "safe-ai" => {
                let mut python = Command::new(python_with_cryptography().unwrap());
                python.arg(Path::new(WRITERS).join("rows.py"));
                python
            }
            _ => {
                let mut node = Command::new("node");
                node.arg(Path::new(WRITERS).join("rows.mjs"));
                node
            }
        };
        let done = writer.args([dialect, &ROWS.to_string()]).arg(folder.path()).args(more).output().unwrap();
        assert!(done.status.success(), "{dialect}: {}", String::from_utf8_lossy(&done.stderr));
        let text = std::fs::read_to_string(folder.path().join("rows.ndjson")).unwrap();
        let rows = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        Self { folder, rows }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub(crate) fn read(&self, name: &str) -> String {
        std::fs::read_to_string(self.path(name)).unwrap()
    }

    pub(crate) fn write(&self, name: &str, text: impl AsRef<[u8]>) {
        std::fs::write(self.path(name), text).unwrap();
    }

    /// Packed beside it, as NAME.gz.
    pub(crate) fn pack(&self, name: &str) {
        assert!(Command::new("gzip").arg("-kf").arg(self.path(name)).status().unwrap().success());
    }

    /// `chancery-verify events` with the export's keys, before any other argument.
    pub(crate) fn command(&self) -> Command {
        let mut verify = Command::new(binary("chancery-verify"));
        verify.arg("events").arg("-s").arg(self.path("signers.json"));
        verify
    }

    pub(crate) fn verify(&self, file: &str, more: &[&str]) -> Output {
        self.command().arg(self.path(file)).args(more).output().unwrap()
    }

    /// The report as JSON, and the exit code.
    pub(crate) fn report(&self, file: &str, more: &[&str]) -> (Value, i32) {
        report_of(self.command().arg(self.path(file)).args(more))
    }

    /// Kinds of errors after the rows were changed, and the exit code.
    pub(crate) fn after(&self, change: impl FnOnce(&mut Vec<Value>)) -> (Vec<String>, i32) {
        self.after_with(&[], change)
    }

    pub(crate) fn after_with(
        &self,
        more: &[&str],
        change: impl FnOnce(&mut Vec<Value>),
    ) -> (Vec<String>, i32) {
        let mut rows = self.rows.clone();
        change(&mut rows);
        self.write("changed.ndjson", rows.iter().map(|row| format!("{row}\n")).collect::<String>());
        let (report, code) = self.report("changed.ndjson", more);
        (kinds(&report, "error"), code)
    }
}

/// What a call of the verifier reports as JSON, and its exit code.
pub(crate) fn report_of(command: &mut Command) -> (Value, i32) {
    let output = command.arg("--json").output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let report = serde_json::from_str(&text);
    let report = report.unwrap_or_else(|_| panic!("{text}{}", String::from_utf8_lossy(&output.stderr)));
    (report, output.status.code().unwrap())
}

/// Kinds of findings of that severity, each once.
pub(crate) fn kinds(report: &Value, severity: &str) -> Vec<String> {
    let findings = report["findings"].as_array().unwrap().iter();
    let of = findings.filter(|finding| finding["severity"] == severity);
    let mut kinds: Vec<String> = of.map(|finding| finding["kind"].as_str().unwrap().to_owned()).collect();
    kinds.sort();
    kinds.dedup();
    kinds
}

/// The message of the first finding of that kind.
pub(crate) fn message(report: &Value, kind: &str) -> String {
    let found = report["findings"].as_array().unwrap().iter().find(|finding| finding["kind"] == kind);
    found.unwrap_or_else(|| panic!("no {kind} in {report:#}"))["message"].as_str().unwrap().to_owned()
}
