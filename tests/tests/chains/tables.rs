//! The writers' own tables in a real PostgreSQL, read through its client.

use std::process::Command;
use std::sync::LazyLock;

use chancery_tests::servers::Postgres;
use serde_json::{Value, json};

use crate::export::{Export, ROWS, kinds, report_of};

static DATABASE: LazyLock<Postgres> =
    LazyLock::new(|| Postgres::start().unwrap_or_else(|error| panic!("{error}")));

/// Columns of each writer's table, with their types.
const TABLES: [(&str, &str); 6] = [
    (
        "kernel",
        "id uuid, event_type varchar(255), payload jsonb, prev_hash text, hash text not null, signature text, \
         signer_id varchar(255), ts timestamptz, metadata jsonb, s3_object_key text, s3_archived_at timestamptz, \
         stream_status text default 'pending', stream_attempts integer, sampled boolean, retention_expires_at timestamptz",
    ),
    (
        "kernel-go",
        "id text, event_type text, payload jsonb, prev_hash text, hash text not null, signature text not null, \
         signer_id text not null, ts timestamptz, metadata jsonb",
    ),
    (
        "kernel-server",
        "id text, event_type text, payload jsonb, prev_hash text, hash text, signature text, signer_id text, ts timestamptz",
    ),
    (
        "agent-manager",
        "id uuid, actor_id text, event_type text, payload jsonb, signature text, signer_kid text, prev_hash text, \
         created_at timestamptz",
    ),
    (
        "memory-layer",
        "id uuid, event_type text, memory_node_id uuid, artifact_id uuid, payload json, hash text unique, prev_hash text, \
         signature text, manifest_signature_id uuid, created_at timestamptz",
    ),
    (
        "shared",
        "id uuid, actor_id text, event_type text, payload jsonb, prev_hash text, hash text unique, \
         signature text not null, signer_kid text not null, created_at timestamptz",
    ),
];

/// The export's rows in a table of their own.
fn load(export: &Export, table: &str, columns: &str) {
    let rows: String = export.read("rows.ndjson");
    let inserts = rows.lines().map(|row| {
        // The Go kernel's files have other names than its table.
        let row = row.replace('\'', "''").replace("\"eventType\"", "\"event_type\"");
        let row = row.replace("\"prevHash\"", "\"prev_hash\"").replace("\"signerId\"", "\"signer_id\"");
        format!("INSERT INTO {table} SELECT * FROM json_populate_record(null::{table}, '{row}');\n")
    });
    DATABASE.sql(&format!("DROP TABLE IF EXISTS {table}; CREATE TABLE {table} ({columns});\n"));
    DATABASE.sql(&inserts.collect::<String>());
}

fn verify(export: &Export, table: &str, more: &[&str]) -> (Value, i32) {
    let mut command = export.command();
    command.args(["-d", &DATABASE.url(), "--table", table]).args(more);
    report_of(command.env("PGPASSWORD", DATABASE.password()))
}

#[test]
fn every_writers_table_has_the_verdict_of_its_export() {
    for (dialect, columns) in TABLES {
        let export = Export::of(dialect);
        let table = format!("events_{}", dialect.replace('-', "_"));
        load(&export, &table, columns);
        let (from_file, code) = export.report("rows.ndjson", &[]);
        assert_eq!(code, 0);
        let (report, code) = verify(&export, &table, &[]);
        assert_eq!((code, &report["checked"]["dialect"]), (0, &json!(dialect)), "{report:#}");
        for what in ["rows", "signatures", "chains", "macsNotVerifiable"] {
            assert_eq!(report["checked"][what], from_file["checked"][what], "{dialect} {what}");
        }
        DATABASE.sql(&format!(
            "UPDATE {table} SET payload = jsonb_set(payload::jsonb, '{{order}}', '77') WHERE payload->>'order' = '5'"
        ));
        let (report, code) = verify(&export, &table, &[]);
        let wanted = if dialect == "agent-manager" { "signature-invalid" } else { "hash-mismatch" };
        assert!(code == 1 && kinds(&report, "error").contains(&wanted.to_owned()), "{dialect}: {report:#}");
        DATABASE.sql(&format!("DELETE FROM {table} WHERE payload->>'order' = '77'"));
        let (report, code) = verify(&export, &table, &[]);
        assert_eq!((kinds(&report, "error"), code), (vec!["gap".to_owned()], 1), "{dialect}");
    }
}

#[test]
fn part_of_a_table_is_what_part_of_its_export_is() {
    let (dialect, columns) = TABLES[0];
    let export = Export::of(dialect);
    load(&export, "part", columns);
    for (options, rows) in [
        (&["--limit", "5"][..], 5),
        (&["--since", "2026-01-15T12:00:04Z"], 8),
        (&["--from", "2026-01-15T12:00:04Z", "--to", "2026-01-15T12:00:08Z", "--limit", "3"], 3),
        (&["--from", "2026-01-15", "--to", "2026-01-15"], 12),
        (&["--since", "2026-01-16"], 0),
    ] {
        let (report, code) = verify(&export, "part", options);
        let (from_file, _) = export.report("rows.ndjson", options);
        assert_eq!((code, &report["checked"]["rows"]), (0, &json!(rows)), "{options:?} {report:#}");
        assert_eq!(report["checked"]["heads"], from_file["checked"]["heads"], "{options:?}");
    }
    DATABASE.sql("DROP TABLE IF EXISTS timeless; CREATE TABLE timeless (id text, payload jsonb)");
    assert_eq!(verify(&export, "timeless", &["--limit", "5"]).1, 3);
    assert_eq!(verify(&export, "timeless", &[]).1, 0, "no rows, nothing wrong");
}

#[test]
fn a_database_that_gives_no_rows_is_no_evidence() {
    let export = Export::of("shared");
    let refused = |command: &mut Command, word: &str| {
        let (report, code) = report_of(command);
        let said = report["findings"][0]["message"].as_str().unwrap();
        assert_eq!((code, &report["findings"][0]["kind"]), (3, &json!("unreadable-file")), "{report:#}");
        assert!(said.contains(word), "{word} in {said}");
    };
    let url = DATABASE.url();
    let asks = |url: &str| {
        let mut command = export.command();
        command.args(["--database-url", url]).env("PGPASSWORD", DATABASE.password());
        command
    };
    refused(&mut asks(&url), "there is no table audit_events");
    refused(asks(&url).args(["--table", "x'; DROP TABLE part; --"]), "invalid name");
    refused(asks(&url).env("PGPASSWORD", "wrong"), "password");
    refused(asks(&url).env_remove("PGPASSWORD").env("HOME", "/nowhere"), "password");
    refused(&mut asks("postgres://auditor@127.0.0.1:1/auditor"), "127.0.0.1");
    refused(asks(&url).env("PATH", "/nowhere"), "psql");
    let output = asks("mysql://host/db").output().unwrap();
    assert_eq!(output.status.code(), Some(2), "{}", String::from_utf8_lossy(&output.stderr));
}

/// While the rows are copied, the client's own command line is there for everybody to read.
#[test]
fn a_password_in_the_url_reaches_the_client_by_its_environment_alone() {
    let export = Export::of("shared");
    load(&export, "secretive", TABLES[5].1);
    let folder = tempfile::tempdir().unwrap();
    let client = folder.path().join("psql");
    let seen = folder.path().join("seen");
    let script = format!(
        "#!/bin/sh\nprintf '%s\\n' \"$@\" >>{}\nPATH=/usr/bin:/bin exec psql \"$@\"\n",
        seen.display()
    );
    std::fs::write(&client, script).unwrap();
    std::fs::set_permissions(&client, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let mut command = export.command();
    command.args(["-d", &DATABASE.url_with_password(), "--table", "secretive"]).env_remove("PGPASSWORD");
    let (report, code) = report_of(command.env("PATH", folder.path()));
    assert_eq!((code, &report["checked"]["rows"]), (0, &json!(ROWS)), "{report:#}");
    let arguments = std::fs::read_to_string(seen).unwrap();
    assert!(
        arguments.contains("auditor@127.0.0.1") && !arguments.contains(DATABASE.password()),
        "{arguments}"
    );
}
