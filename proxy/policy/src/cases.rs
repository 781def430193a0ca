//! Cases: questions with the answers their author expects, run against a set.
//!
//! A file of cases is a JSON array. Unknown fields, wrong names and questions that do not fit the schema are
//! problems, not failures: they are told with their place, and the run does not pass.

use std::fmt;

use serde::Serialize;

use crate::case_file::{CaseText, Expected};
use crate::decision::{Decision, Lift};
use crate::problem::{PolicyProblem, Position};
use crate::set::PolicySet;

/// How one case went.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct CaseOutcome {
    /// File of the case.
    pub file: String,
    /// Name of the case.
    pub name: String,
    /// Whether the answer is the expected one.
    pub passed: bool,
    /// What differs, in words; empty when nothing does.
    pub differences: Vec<String>,
}

/// How all cases went.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct CaseReport {
    /// By file, then in the file's order.
    pub cases: Vec<CaseOutcome>,
    /// What is wrong with the files themselves. Whoever wrote the cases is at fault.
    pub problems: Vec<PolicyProblem>,
}

impl CaseReport {
    /// Whether every file could be read as cases and every case got its answer.
    pub fn passed(&self) -> bool {
        self.problems.is_empty() && self.cases.iter().all(|case| case.passed)
    }
}

/// Runs every case of `(file, JSON text)` against the set.
pub fn run_cases(set: &PolicySet, files: &[(&str, &str)]) -> CaseReport {
    let mut report = CaseReport::default();
    for (file, text) in files {
        match serde_json::from_str::<Vec<CaseText>>(text) {
            Ok(cases) => report.cases.extend(cases.iter().map(|case| run(set, file, case))),
            Err(error) => {
                let at = Position { line: error.line(), column: error.column() };
                let mut problem = PolicyProblem::whole(file, error.to_string(), "");
                problem.at = Some(at);
                report.problems.push(problem);
            }
        }
    }
    report
}

fn run(set: &PolicySet, file: &str, case: &CaseText) -> CaseOutcome {
    let decision = set.decide(&case.question);
    let mut differences = Vec::new();
    if expected(&decision) != case.expect {
        differences.push(format!("expected {}, but it is {decision}", case.expect));
    }
    if let Some(by) = &case.by {
        let mut wanted: Vec<&str> = by.iter().map(String::as_str).collect();
        let mut found = deciding(&decision);
        wanted.sort_unstable();
        found.sort_unstable();
        if wanted != found {
            differences.push(format!("expected by {}, but it is by {}", list(&wanted), list(&found)));
        }
    }
    CaseOutcome {
        file: file.to_owned(),
        name: case.name.clone(),
        passed: differences.is_empty(),
        differences,
    }
}

/// The word a case would have for a decision.
fn expected(decision: &Decision) -> Expected {
    match decision {
        Decision::Deny { .. } => Expected::Deny,
        Decision::Allow { .. } => Expected::Allow,
        Decision::AllowIf { conditions, .. } => {
            let quorum = conditions.iter().any(|it| matches!(it.lift, Lift::Quorum { .. }));
            let hook = conditions.iter().any(|it| matches!(it.lift, Lift::Hook { .. }));
            match (quorum, hook) {
                (true, true) => Expected::QuorumAndHook,
                (true, false) => Expected::Quorum,
                (false, _) => Expected::Hook,
            }
        }
    }
}

/// The policies that made the answer what it is: permits of a yes, forbids of a no or of an "if".
fn deciding(decision: &Decision) -> Vec<&str> {
    match decision {
        Decision::Deny { policies, .. } | Decision::Allow { policies } => {
            policies.iter().map(|id| id.as_str()).collect()
        }
        Decision::AllowIf { conditions, .. } => conditions.iter().map(|it| it.policy.as_str()).collect(),
    }
}

fn list(ids: &[&str]) -> String {
    if ids.is_empty() { "nobody".to_owned() } else { ids.join(", ") }
}

impl fmt::Display for CaseReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for problem in &self.problems {
            writeln!(f, "{problem}")?;
        }
        for case in &self.cases {
            writeln!(f, "{} {}: {}", if case.passed { "pass" } else { "FAIL" }, case.file, case.name)?;
            for difference in &case.differences {
                writeln!(f, "     {difference}")?;
            }
        }
        let failed = self.cases.iter().filter(|case| !case.passed).count();
        writeln!(f, "{} cases, {failed} failed, {} problems", self.cases.len(), self.problems.len())
    }
}
