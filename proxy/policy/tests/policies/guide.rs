//! The guide's examples are policies and cases that hold, and cases tell what is wrong with them.

use chancery_policy::{PolicySet, run_cases};

use crate::set;

const GUIDE: &str = include_str!("../../POLICY.md");

/// The guide's blocks in one language.
fn blocks(language: &str) -> Vec<&'static str> {
    let open = format!("```{language}\n");
    GUIDE.split(open.as_str()).skip(1).map(|rest| rest.split("```").next().unwrap()).collect()
}

#[test]
fn the_guide_holds() {
    let set = PolicySet::parse(&[("guide.cedar", &blocks("cedar").concat())], true).unwrap();
    let cases = blocks("json");
    assert_eq!((blocks("cedar").len(), cases.len()), (6, 1));
    let report = run_cases(&set, &[("guide.json", cases[0])]);
    assert!(report.passed(), "{report}");
    assert_eq!(report.cases.len(), 6);
    assert!(report.to_string().ends_with("6 cases, 0 failed, 0 problems\n"));
}

#[test]
fn the_guide_names_every_act() {
    for act in chancery_policy::Act::ALL {
        assert!(GUIDE.contains(&format!("`{act}`")), "{act}");
    }
}

fn case(fields: &str) -> String {
    format!(r#"[{{"name": "n", "who": {{"service": "a"}}, "act": "read", "stream": "s", {fields}}}]"#)
}

#[test]
fn a_case_that_fails_says_how() {
    let set = set("@id(\"yes\") permit (principal, action, resource);");
    let report = run_cases(&set, &[("c.json", &case(r#""expect": "deny", "by": ["no"]"#))]);
    assert!(!report.passed());
    assert_eq!(
        report.cases[0].differences,
        ["expected deny, but it is allowed", "expected by no, but it is by yes"]
    );
    assert!(report.to_string().contains("FAIL c.json: n"));
    let json = serde_json::to_value(&report).unwrap();
    assert_eq!(json["cases"][0]["passed"], false);
    assert!(run_cases(&set, &[("c.json", &case(r#""expect": "allow", "by": ["yes"]"#))]).passed());
}

#[test]
fn a_wrong_case_is_a_problem_with_its_place() {
    let set = set("");
    for fields in [
        r#""expect": "deny", "extra": 1"#,
        r#""expect": "maybe""#,
        r#""expect": "deny", "context": {"hour": 24}"#,
        r#""expect": "deny", "context": {"minute": 1}"#,
        r#""expect": "deny", "key": {"name": "k"}"#,
    ] {
        let report = run_cases(&set, &[("c.json", &case(fields))]);
        assert!(!report.passed() && report.problems.len() == 1, "{fields}: {report}");
        assert!(report.problems[0].at.is_some());
    }
    let wrong_act =
        r#"[{"name": "n", "who": {"person": "a"}, "act": "sign", "stream": "s", "expect": "deny"}]"#;
    let report = run_cases(&set, &[("c.json", wrong_act)]);
    assert!(report.to_string().contains("there is no such act"), "{report}");
}
