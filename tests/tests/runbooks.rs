//! Every runbook, played: what a page tells people to type is typed, on an instance to which happens what the page is
//! about, and must give what the page says. Each drill leaves a record, signed and with its receipt.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a failed unwrap is the test's failure")]

#[path = "runbooks/office.rs"]
mod office;
#[path = "runbooks/page.rs"]
mod page;

use std::path::Path;

use office::Office;
use page::Step;

const FOLDER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../runbooks");

fn text_of(page: &str) -> String {
    std::fs::read_to_string(Path::new(FOLDER).join(format!("{page}.md"))).unwrap()
}

fn drill(page: &str) {
    let text = text_of(page);
    let steps = page::steps(&text);
    let mut office = Office::open(page);
    office.begin(page);
    let mut commands = 0;
    for step in &steps {
        match step {
            Step::Happens(what) => office.happens(what),
            Step::Typed(typed) => {
                commands += typed.script.lines().count();
                office.typed(typed);
            }
        }
    }
    office.record(page, &text, commands);
    println!("{page}: {commands} lines typed");
}

/// One test for each page, so that they run beside each other and fail by name.
macro_rules! drills {
    ($($page:ident)*) => {
        $(#[test] fn $page() { drill(stringify!($page)); })*
        const DRILLED: &[&str] = &[$(stringify!($page)),*];
    };
}

drills! {
    break_glass certificate_expiry incident_archive incident_hsm incident_kms incident_ledger incident_policy_hook
    key_compromise key_rotation kill_switch ledger_check ledger_signs_late restore revoke_a_client verifier_says_bad
}

#[test]
fn no_page_has_commands_that_nobody_tries_and_each_is_in_the_index() {
    assert_eq!(page::with_commands(Path::new(FOLDER)), DRILLED);
    let index = text_of("README");
    for entry in std::fs::read_dir(FOLDER).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        assert!(name == "README.md" || index.contains(&format!("]({name})")), "{name} is not in the index");
        let page = text_of(name.trim_end_matches(".md"));
        for part in ["**Symptom.**", "**Alert.**", "**Decide.**"] {
            assert!(name == "README.md" || page.contains(part), "{name} has no {part}");
        }
    }
}

/// What the appliance does by itself fails in front of nobody: each counter of it is somebody's alert.
#[test]
fn what_fails_in_front_of_nobody_has_an_alert() {
    let index = text_of("README");
    for what in ["checkpoint", "cose_head", "heads", "witnessing"] {
        let name = format!("chancery_{what}_failures_total");
        let page =
            index.lines().find(|line| line.contains(&name)).unwrap_or_else(|| panic!("{name}: no alert"));
        assert!(page.contains("](ledger_signs_late.md)"), "{page}");
        assert!(text_of("ledger_signs_late").contains(&format!("increase({name}[15m]) > 0")), "{name}");
    }
}

/// An alert over a metric that does not exist never fires.
#[test]
fn alerts_speak_of_metrics_that_exist() {
    let metrics =
        std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../proxy/src/telemetry/metrics.rs"));
    let metrics = metrics.unwrap();
    let mut seen = 0;
    for entry in std::fs::read_dir(FOLDER).unwrap() {
        let text = std::fs::read_to_string(entry.unwrap().path()).unwrap();
        let words = text.split(|letter: char| !letter.is_ascii_alphanumeric() && letter != '_');
        for name in words.filter(|word| word.starts_with("chancery_")) {
            assert!(metrics.contains(&format!("\"{name}\"")), "{name} is no metric");
            seen += 1;
        }
    }
    assert!(seen > 10, "{seen}");
}
