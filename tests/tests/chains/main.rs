//! Chains made by small writers of each dialect, in other languages and sharing nothing with the verifier: good, and
//! damaged in every way there is. What a writer's hash does not bind is told, and no more can be.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a failed unwrap is the test's failure")]

mod columns;
mod export;
mod keys;
mod links;
mod sources;
mod tables;

use serde_json::json;

use export::{DIALECTS, Export, ROWS, kinds};

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
        let head = report["checked"]["heads"][0].as_str().unwrap();
        let output = export.verify("rows.ndjson", &[]);
        let text = String::from_utf8(output.stdout).unwrap();
        assert!(text.contains(&format!("\nAudit chain verified. Head hash: {head}\n")), "{text}");
        assert!(text.ends_with("VALID\n"), "{text}");
        // However many threads look at it, and whatever is named beforehand.
        for more in [&["--threads", "1"][..], &["--threads", "7"], &["--dialect", dialect]] {
            let (again, code) = export.report("rows.ndjson", more);
            assert_eq!((code, &again["findings"]), (0, &report["findings"]), "{dialect} {more:?}");
            assert_eq!(again["checked"]["heads"], report["checked"]["heads"], "{dialect} {more:?}");
        }
    }
}

#[test]
fn what_is_not_valid_has_no_phrase() {
    let export = Export::of("shared");
    let (_, code) = export.after(|rows| rows[5]["payload"]["order"] = json!(77));
    let text = String::from_utf8(export.verify("changed.ndjson", &[]).stdout).unwrap();
    assert!(
        code == 1 && !text.contains("verified.") && text.ends_with("NOT VALID: 1 errors, 0 missing\n"),
        "{text}"
    );
    assert!(text.contains("error: hash-mismatch at entry 6 in "), "{text}");
}

#[test]
fn what_cannot_be_read_is_said() {
    let export = Export::of("shared");
    let mut lines: Vec<Vec<u8>> =
        export.read("rows.ndjson").lines().map(|line| line.as_bytes().to_vec()).collect();
    let good = String::from_utf8(lines[5].clone()).unwrap();
    lines[5] = good.replacen("\"payload\":{", "\"payload\":{\"order\":0,", 1).into_bytes();
    export.write("twice.ndjson", lines.join(&b'\n'));
    let (report, code) = export.report("twice.ndjson", &[]);
    assert!(code == 0 && kinds(&report, "warning").contains(&"duplicate-json-key".to_owned()), "{report:#}");
    for half in [&b"{\"half\":"[..], b"{\"text\":\"\xff\"}", b"[1]", b"7"] {
        lines[5] = half.to_vec();
        export.write("half.ndjson", lines.join(&b'\n'));
        let (report, code) = export.report("half.ndjson", &[]);
        let found = report["findings"].as_array().unwrap().iter().find(|it| it["kind"] == "row-invalid");
        assert_eq!((code, &found.unwrap()["index"]), (1, &json!(6)), "{report:#}");
    }
    assert_eq!(export.report("nothing-here.ndjson", &[]).1, 3);
    let wrong = export.verify("rows.ndjson", &["--dialect", "klingon"]);
    assert_eq!(wrong.status.code(), Some(2), "{}", String::from_utf8_lossy(&wrong.stderr));
    // Said beforehand, another writer's form fits nothing.
    assert_eq!(export.report("rows.ndjson", &["--dialect", "kernel"]).1, 1);
}

#[test]
fn the_help_names_every_dialect_and_form() {
    let output = Export::of("safe-ai").command().arg("--help").output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    for dialect in DIALECTS {
        assert!(text.contains(dialect), "{dialect} in {text}");
    }
    for mode in chancery_format::chain::canonical::Mode::ALL {
        assert!(text.contains(mode.as_str()), "{mode} in {text}");
    }
}
