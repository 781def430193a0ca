//! Chains made by small writers of each dialect, in other languages and sharing nothing with the verifier: good, and
//! damaged in every way there is. What a writer's hash does not bind is told, and no more can be.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a failed unwrap is the test's failure")]

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use chancery_tests::rig::binary;
use chancery_tests::servers::python_with_cryptography;
use serde_json::{Value, json};

const ROWS: usize = 12;
const DIALECTS: [&str; 7] =
    ["kernel", "shared", "kernel-go", "memory-layer", "kernel-server", "agent-manager", "safe-ai"];
const WRITERS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/writers");

/// An export in a folder of its own.
struct Export {
    folder: tempfile::TempDir,
    rows: Vec<Value>,
}

impl Export {
    fn of(dialect: &str) -> Self {
        Self::made(dialect, &[])
    }

    fn made(dialect: &str, more: &[&str]) -> Self {
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

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn verify(&self, file: &str, more: &[&str]) -> Output {
        let mut verify = Command::new(binary("chancery-verify"));
        verify.arg("events").arg(self.path(file)).arg("--signers").arg(self.path("signers.json"));
        verify.args(more).output().unwrap()
    }

    /// The report as JSON, and the exit code.
    fn report(&self, file: &str, more: &[&str]) -> (Value, i32) {
        let output = self.verify(file, &[more, &["--json"]].concat());
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let report = serde_json::from_str(&text);
        let report = report.unwrap_or_else(|_| panic!("{text}{}", String::from_utf8_lossy(&output.stderr)));
        (report, output.status.code().unwrap())
    }

    /// Kinds of findings after the rows were changed, warnings apart, and the exit code.
    fn after(&self, change: impl FnOnce(&mut Vec<Value>)) -> (Vec<String>, i32) {
        self.after_with(&[], change)
    }

    fn after_with(&self, more: &[&str], change: impl FnOnce(&mut Vec<Value>)) -> (Vec<String>, i32) {
        let mut rows = self.rows.clone();
        change(&mut rows);
        let text: String = rows.iter().map(|row| format!("{row}\n")).collect();
        std::fs::write(self.path("changed.ndjson"), text).unwrap();
        let (report, code) = self.report("changed.ndjson", more);
        (kinds(&report, "error"), code)
    }
}

fn kinds(report: &Value, severity: &str) -> Vec<String> {
    let findings = report["findings"].as_array().unwrap().iter();
    let of = findings.filter(|finding| finding["severity"] == severity);
    let mut kinds: Vec<String> = of.map(|finding| finding["kind"].as_str().unwrap().to_owned()).collect();
    kinds.sort();
    kinds.dedup();
    kinds
}

/// Numbers keep their text when a row is changed and written again.
fn alter(row: &mut Value, name: &str) {
    let (camel, snake) = (name.replace("_t", "T"), name.to_owned());
    let name = if row.get(&snake).is_some() { snake } else { camel };
    let before = row[&name].clone();
    row[&name] = match before {
        Value::Object(mut members) => {
            members.insert("added".to_owned(), json!("later"));
            Value::Object(members)
        }
        Value::String(text) if text.starts_with("2026") => json!(text.replace("2026", "2025")),
        _ => json!("something else"),
    };
}

#[test]
fn every_writers_good_chain_is_recognised_and_valid() {
    for dialect in DIALECTS {
        let export = Export::of(dialect);
        let (report, code) = export.report("rows.ndjson", &[]);
        assert_eq!((code, &report["checked"]["dialect"]), (0, &json!(dialect)), "{report:#}");
        assert_eq!(report["checked"]["rows"], ROWS, "{dialect}");
        let signed = report["checked"]["signatures"].as_u64().unwrap();
        let expected = if ["kernel-server", "safe-ai"].contains(&dialect) { 0 } else { ROWS as u64 };
        assert_eq!(signed, expected, "{report:#}");
        let unbound = kinds(&report, "warning").contains(&"unbound-field".to_owned());
        assert_eq!(unbound, dialect != "safe-ai", "{report:#}");
        let text = String::from_utf8(export.verify("rows.ndjson", &[]).stdout).unwrap();
        assert!(text.contains("Audit chain verified. Head hash: ") && text.ends_with("VALID\n"), "{text}");
        // The same rows as an array, as an archive's object, and packed.
        let lines = std::fs::read_to_string(export.path("rows.ndjson")).unwrap();
        let array = format!("[{}]", lines.trim().replace('\n', ",\n"));
        std::fs::write(export.path("rows.json"), &array).unwrap();
        std::fs::write(export.path("object.json"), format!("{{\"version\":1,\n\"events\":{array}}}"))
            .unwrap();
        let packed = Command::new("gzip").arg("-k").arg(export.path("rows.json")).status().unwrap();
        assert!(packed.success());
        for file in ["rows.json", "object.json", "rows.json.gz"] {
            let (again, code) = export.report(file, &[]);
            assert_eq!((code, &again["checked"]), (0, &report["checked"]), "{dialect} {file}");
        }
    }
}

#[test]
fn what_is_altered_is_found_and_what_is_not_bound_is_said() {
    for dialect in DIALECTS {
        let export = Export::of(dialect);
        let bound: &[&str] = match dialect {
            "kernel" => &["payload", "event_type", "ts"],
            "shared" => &["payload", "event_type", "created_at", "actor_id"],
            "safe-ai" => &["actor", "ts", "manifest_sha256", "error", "version"],
            _ => &["payload"],
        };
        for column in bound {
            let (found, code) = export.after(|rows| alter(&mut rows[5], column));
            // Without a stored hash the row is another one: its signature and the next row's link say so.
            let expected = if dialect == "agent-manager" { "signature-invalid" } else { "hash-mismatch" };
            assert!(code == 1 && found.contains(&expected.to_owned()), "{dialect} {column}: {found:?}");
        }
        if dialect == "safe-ai" {
            continue;
        }
        let free: &[&str] = match dialect {
            "kernel" | "shared" => &["id"],
            _ => &["id", "event_type"],
        };
        for column in free {
            let (found, code) = export.after(|rows| alter(&mut rows[5], column));
            assert_eq!((found, code), (vec![], 0), "{dialect} {column} is not bound");
        }
    }
}

#[test]
fn rows_that_are_gone_doubled_or_out_of_order_are_found() {
    for dialect in DIALECTS {
        let export = Export::of(dialect);
        let has = |(found, code): (Vec<String>, i32), kind: &str| {
            assert!(code == 1 && found.contains(&kind.to_owned()), "{dialect}: {found:?} has no {kind}");
        };
        has(export.after(|rows| drop(rows.remove(4))), "gap");
        // Of a chain for each actor, the next row of the same one.
        let step = if dialect == "shared" { 3 } else { 1 };
        has(export.after(|rows| rows.swap(4, 4 + step)), "chain-broken");
        has(export.after(|rows| rows.push(rows[ROWS - 1].clone())), "chain-broken");
        let (report, _) = export.report("rows.ndjson", &[]);
        let head = report["checked"]["heads"][0].as_str().unwrap().to_owned();
        let pinned = ["--head", head.as_str()];
        assert_eq!(export.report("rows.ndjson", &pinned).1, 0, "{dialect}");
        has(export.after_with(&pinned, |rows| rows.truncate(ROWS - 1)), "truncated");
        if ["kernel-go", "safe-ai"].contains(&dialect) {
            continue;
        }
        let forked = Export::made(dialect, &["7"]);
        let (report, code) = forked.report("rows.ndjson", &[]);
        assert_eq!((kinds(&report, "error"), code), (vec!["fork".to_owned()], 1), "{dialect}: {report:#}");
        let fork = report["findings"].as_array().unwrap().iter().find(|it| it["kind"] == "fork").unwrap();
        assert_eq!(fork["index"], 8 - 2 * step, "the parent, counted from 1: {fork}");
        assert!(fork["message"].as_str().unwrap().contains("2 rows"), "{fork}");
    }
}

#[test]
fn signatures_are_held_against_the_given_keys_and_their_time() {
    for dialect in ["kernel", "shared", "agent-manager", "kernel-go"] {
        let export = Export::of(dialect);
        let (found, code) = export.after(|rows| rows[3]["signature"] = rows[4]["signature"].clone());
        assert_eq!((found, code), (vec!["signature-invalid".to_owned()], 1), "{dialect}");
        let (found, code) = export.after(|rows| rows[3]["signature"] = Value::Null);
        assert_eq!((found, code), (vec!["unsigned".to_owned()], 1), "{dialect}");
        let (found, code) =
            export.after_with(&["--allow-unsigned"], |rows| rows[3]["signature"] = Value::Null);
        assert_eq!((found, code), (vec![], 0), "{dialect}");
        let signers = std::fs::read_to_string(export.path("signers.json")).unwrap();
        std::fs::write(export.path("signers.json"), signers.replace("-v1\"", "-v9\"")).unwrap();
        let (report, code) = export.report("rows.ndjson", &[]);
        assert_eq!((kinds(&report, "error"), code), (vec!["unknown-signer".to_owned()], 3), "{dialect}");
        let retired = signers.replacen("-v1\"", "-v1\",\"retiredAt\":\"2026-01-10T00:00:00Z\"", 1);
        std::fs::write(export.path("signers.json"), retired).unwrap();
        let (report, code) = export.report("rows.ndjson", &[]);
        assert_eq!((kinds(&report, "error"), code), (vec!["key-not-valid-then".to_owned()], 1), "{dialect}");
    }
}

#[test]
fn what_cannot_be_read_is_said() {
    let export = Export::of("shared");
    let mut lines: Vec<String> =
        std::fs::read_to_string(export.path("rows.ndjson")).unwrap().lines().map(str::to_owned).collect();
    lines[5] = lines[5].replacen("\"payload\":{", "\"payload\":{\"order\":0,", 1);
    std::fs::write(export.path("twice.ndjson"), lines.join("\n")).unwrap();
    let (report, code) = export.report("twice.ndjson", &[]);
    assert!(code == 0 && kinds(&report, "warning").contains(&"duplicate-json-key".to_owned()), "{report:#}");
    lines[5] = "{\"half\":".to_owned();
    std::fs::write(export.path("half.ndjson"), lines.join("\n")).unwrap();
    let (report, code) = export.report("half.ndjson", &[]);
    assert!(code == 1 && kinds(&report, "error").contains(&"row-invalid".to_owned()), "{report:#}");
    assert_eq!(export.report("nothing-here.ndjson", &[]).1, 3);
    let wrong = export.verify("rows.ndjson", &["--dialect", "klingon"]);
    assert_eq!(wrong.status.code(), Some(2), "{}", String::from_utf8_lossy(&wrong.stderr));
    // Said beforehand, another writer's form fits nothing.
    assert_eq!(export.report("rows.ndjson", &["--dialect", "kernel"]).1, 1);
}
