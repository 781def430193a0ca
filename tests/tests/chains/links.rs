//! Rows that are gone, doubled, out of order, or followed twice.

use serde_json::Value;

use crate::export::{DIALECTS, Export, ROWS, kinds};

#[test]
fn rows_that_are_gone_doubled_or_out_of_order_are_found() {
    for dialect in DIALECTS {
        let export = Export::of(dialect);
        let only = |(found, code): (Vec<String>, i32), kinds: &[&str]| {
            assert_eq!((found, code), (kinds.iter().map(|it| (*it).to_owned()).collect(), 1), "{dialect}");
        };
        only(export.after(|rows| drop(rows.remove(4))), &["gap"]);
        only(export.after(|rows| drop(rows.remove(0))), &["gap"]);
        // Of a chain for each actor, the next row of the same one.
        let step = if dialect == "shared" { 3 } else { 1 };
        only(export.after(|rows| rows.swap(4, 4 + step)), &["chain-broken"]);
        only(export.after(|rows| rows.reverse()), &["chain-broken"]);
        only(export.after(|rows| rows.push(rows[ROWS - 1].clone())), &["chain-broken", "fork"]);
        only(export.after(|rows| rows.insert(3, rows[8].clone())), &["chain-broken", "fork"]);
    }
}

#[test]
fn an_end_that_was_cut_off_shows_only_against_a_pinned_head() {
    for dialect in DIALECTS {
        let export = Export::of(dialect);
        let (report, _) = export.report("rows.ndjson", &[]);
        let head = report["checked"]["heads"][0].as_str().unwrap().to_owned();
        let pinned = ["--head", head.as_str()];
        assert_eq!(export.report("rows.ndjson", &pinned).1, 0, "{dialect}");
        let cut = |rows: &mut Vec<Value>| rows.truncate(ROWS - 1);
        assert_eq!(export.after_with(&pinned, cut), (vec!["truncated".to_owned()], 1), "{dialect}");
        assert_eq!(export.after(cut), (vec![], 0), "{dialect}: nobody can know");
        // A row that others follow is no head.
        let before = report["checked"]["heads"].as_array().unwrap().len();
        assert_eq!(before, if dialect == "shared" { 3 } else { 1 });
        let inner = ["--head", inner(&export.rows[2])];
        if dialect != "agent-manager" {
            assert_eq!(export.after_with(&inner, |_| ()), (vec!["truncated".to_owned()], 1), "{dialect}");
        }
    }
}

/// A row's hash as it is stored.
fn inner(row: &Value) -> &str {
    row.get("hash").or_else(|| row.get("merkle_root")).and_then(Value::as_str).unwrap_or_default()
}

#[test]
fn forks_name_the_parent_and_its_children() {
    for dialect in DIALECTS {
        let forked = Export::made(dialect, &["7"]);
        let (report, code) = forked.report("rows.ndjson", &[]);
        assert_eq!((kinds(&report, "error"), code), (vec!["fork".to_owned()], 1), "{dialect}: {report:#}");
        let fork = report["findings"].as_array().unwrap().iter().find(|it| it["kind"] == "fork").unwrap();
        let step = if dialect == "shared" { 3 } else { 1 };
        assert_eq!(fork["index"], 8 - 2 * step, "the parent, counted from 1: {fork}");
        let children = format!("2 rows: {}, 8", 8 - step);
        assert!(fork["message"].as_str().unwrap().contains(&children), "{fork}");
    }
}
