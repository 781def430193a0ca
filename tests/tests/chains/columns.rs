//! Every column of every writer's table, altered: what its hash and signature bind is found, and only that.

use serde_json::{Value, json};

use crate::export::{DIALECTS, Export, kinds, message};

/// Another value that the column could have. Hashes stay hashes, signatures base64, times within the key's life.
fn altered(column: &str, before: &Value) -> Value {
    match before {
        Value::Object(members) => {
            let mut members = members.clone();
            members.insert("added".to_owned(), json!("later"));
            Value::Object(members)
        }
        Value::Bool(it) => json!(!it),
        Value::Number(it) => json!(it.as_i64().unwrap() + 1),
        Value::String(text) if text.starts_with("2026-01-15T12:") => {
            json!(text.replacen("T12:", "T13:", 1))
        }
        Value::String(text) if is_hash(column) || column == "signature" => {
            let (first, rest) = text.split_at(1);
            json!(format!("{}{rest}", if first == "a" { "b" } else { "a" }))
        }
        _ => json!("something else"),
    }
}

fn is_hash(column: &str) -> bool {
    ["hash", "prev_hash", "prevHash", "merkle_root", "prev_root"].contains(&column)
}

/// Kinds of errors that an altered column must lead to; none means that nobody can know.
fn wanted(dialect: &str, column: &str) -> Vec<&'static str> {
    let is_mac = dialect == "kernel-server";
    match (dialect, column) {
        // Its hash is stored nowhere: another content is another row, which the next one does not follow.
        ("agent-manager", "payload" | "prev_hash") => vec!["gap", "signature-invalid"],
        ("safe-ai", "merkle_root" | "prev_root") => vec!["gap", "hash-mismatch"],
        ("safe-ai", _) => vec!["hash-mismatch"],
        (_, "prev_hash" | "prevHash") => vec!["gap", "hash-mismatch"],
        (_, "hash") if is_mac => vec!["gap", "hash-mismatch"],
        (_, "hash") => vec!["gap", "hash-mismatch", "signature-invalid"],
        (_, "payload") => vec!["hash-mismatch"],
        (_, "signature") if !is_mac => vec!["signature-invalid"],
        (_, "signer_id" | "signer_kid" | "signerId") if !is_mac => vec!["unknown-signer"],
        // What was signed says when, and that is searched for near the row's own time.
        ("kernel", "ts") => vec!["hash-mismatch", "signature-invalid"],
        ("kernel", "event_type") | ("shared", "event_type" | "created_at") => vec!["hash-mismatch"],
        // In another actor's chain neither its parent nor its child is there.
        ("shared", "actor_id") => vec!["gap", "hash-mismatch"],
        _ => vec![],
    }
}

#[test]
fn each_column_that_is_bound_is_found_and_each_other_is_named() {
    for dialect in DIALECTS {
        let export = Export::of(dialect);
        let columns: Vec<String> = export.rows[5].as_object().unwrap().keys().cloned().collect();
        let (report, _) = export.report("rows.ndjson", &[]);
        let unbound = message(&report, "unbound-field");
        let mut free = 0;
        for column in &columns {
            let wanted = wanted(dialect, column);
            let (found, code) = export.after(|rows| rows[5][column] = altered(column, &rows[5][column]));
            // Whose signature it is cannot be decided without that key.
            let code_wanted = match wanted.as_slice() {
                [] => 0,
                ["unknown-signer"] => 3,
                _ => 1,
            };
            assert_eq!(
                (found, code),
                (wanted.iter().map(|it| (*it).to_owned()).collect(), code_wanted),
                "{dialect} {column}"
            );
            // Whoever cannot verify the signature, as that of a MAC, is told so elsewhere.
            if wanted.is_empty() && column != "signature" {
                free += 1;
                assert!(unbound.split([' ', ',', ':']).any(|word| word == column), "{column} in {unbound}");
            }
        }
        assert_eq!(free == 0, dialect == "safe-ai", "{dialect}");
    }
}

/// Columns whose alteration shows nowhere are those of the table and no others.
#[test]
fn unbound_columns_are_those_of_each_writer() {
    for (dialect, columns) in [
        ("kernel-go", "eventType, id, metadata, signerId, ts"),
        ("agent-manager", "actor_id, created_at, event_type, id, signer_kid"),
        ("memory-layer", "artifact_id, created_at, event_type, id, manifest_signature_id, memory_node_id"),
        ("kernel-server", "event_type, id, signer_id, ts"),
        ("shared", "id, signer_kid"),
    ] {
        let (report, _) = Export::of(dialect).report("rows.ndjson", &[]);
        let text = message(&report, "unbound-field");
        let (_, named) = text.split_once("does not bind ").unwrap();
        let mut named: Vec<&str> = named.split_once(':').unwrap().0.split(", ").collect();
        named.sort_unstable();
        assert_eq!(named.join(", "), columns, "{dialect}");
    }
}

#[test]
fn what_cannot_be_verified_at_all_is_said() {
    let (report, code) = Export::of("kernel-server").report("rows.ndjson", &[]);
    assert_eq!((code, &report["checked"]["macsNotVerifiable"]), (0, &json!(12)));
    assert!(kinds(&report, "warning").contains(&"mac-not-verifiable".to_owned()), "{report:#}");
    let safe_ai = Export::of("safe-ai");
    let (report, code) = safe_ai.report("rows.ndjson", &[]);
    assert_eq!(
        (kinds(&report, "warning"), code),
        (vec!["never-signed".to_owned(), "unbound-field".to_owned()], 0)
    );
    // The first record's hash is the same whatever it says.
    for column in ["ts", "version"] {
        let (found, code) = safe_ai.after(|rows| rows[0][column] = json!("something else"));
        assert_eq!((found, code), (vec![], 0), "{column}");
    }
    let (report, code) = Export::of("memory-layer").report("rows.ndjson", &[]);
    assert!(code == 0 && message(&report, "signer-resolved").contains("12 rows"), "{report:#}");
    let (report, code) = Export::of("kernel").report("rows.ndjson", &[]);
    assert!(code == 0 && message(&report, "signing-time-searched").contains("up to 3 ms"), "{report:#}");
}
