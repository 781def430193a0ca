//! A runbook as steps: what is typed, by whom, and what must come of it.

use std::path::Path;

/// One step of a page.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Step {
    /// Something happens to the instance; the page says what in a comment nobody sees.
    Happens(String),
    /// Somebody types this.
    Typed(Typed),
}

/// A block of commands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Typed {
    /// By each approver, and not by whoever is on call.
    pub(crate) by_approvers: bool,
    /// The commands.
    pub(crate) script: String,
    /// Texts that what they print must contain.
    pub(crate) prints: Vec<String>,
    /// Exit code of the last.
    pub(crate) exit: i32,
}

/// The steps of a page. A fence may be indented, as in a list.
pub(crate) fn steps(text: &str) -> Vec<Step> {
    let mut steps = Vec::new();
    let mut lines = text.lines();
    while let Some(line) = lines.next() {
        let indent = line.len() - line.trim_start().len();
        let mut block = || {
            let inside = lines.by_ref().take_while(|line| line.trim() != "```");
            inside.map(|line| line.get(indent..).unwrap_or("").to_owned()).collect::<Vec<_>>()
        };
        match line.trim() {
            "```sh" | "```sh each approver" => steps.push(Step::Typed(Typed {
                by_approvers: line.contains("each approver"),
                script: block().join("\n"),
                prints: Vec::new(),
                exit: 0,
            })),
            "```text" => {
                let Some(Step::Typed(typed)) = steps.last_mut() else { panic!("a reply to nothing: {text}") };
                for line in block() {
                    match line.strip_prefix("exit ") {
                        Some(code) => typed.exit = code.parse().unwrap(),
                        None => typed.prints.push(line),
                    }
                }
            }
            other => {
                let comment = other.strip_prefix("<!-- drill: ").and_then(|rest| rest.strip_suffix(" -->"));
                steps.extend(comment.map(|what| Step::Happens(what.to_owned())));
            }
        }
    }
    steps
}

/// The pages of a folder that have commands, by name.
pub(crate) fn with_commands(folder: &Path) -> Vec<String> {
    let files = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let pages = files.filter(|file| file.extension().is_some_and(|it| it == "md"));
    let drilled = pages.filter(|file| !steps(&std::fs::read_to_string(file).unwrap()).is_empty());
    let mut names: Vec<_> =
        drilled.map(|file| file.file_stem().unwrap().to_str().unwrap().to_owned()).collect();
    names.sort();
    names
}
