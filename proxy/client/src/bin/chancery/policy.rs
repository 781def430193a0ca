//! Policies: checked, tested and explained on this machine, or asked about and reloaded at the daemon.

use std::path::Path;
use std::sync::Arc;

use chancery_client::login::wall_clock;
use chancery_client::people::{self, People};
use chancery_policy::{
    Circumstances, Key, KeyFacts, Moment, PolicyProblem, PolicySet, Question, What, Who, load_cases,
    run_cases,
};
use serde_json::{Value, json};

use crate::args::{Connection, policy as args};
use crate::output::{Failure, Report, plain};
use crate::people::{connect, items, member, table, told, word, would};

pub(crate) async fn run(asked: args::Policy, connection: &Connection) -> Result<Report, Failure> {
    match asked {
        args::Policy::Check(asked) => check(&asked),
        args::Policy::Test(asked) => test(&asked),
        args::Policy::Explain(asked) if asked.server => explain_there(&connect(connection)?, *asked).await,
        args::Policy::Explain(asked) => explain_here(*asked),
        args::Policy::Show => show(&connect(connection)?).await,
        args::Policy::Reload(asked) => reload(&connect(connection)?, asked.dry_run).await,
    }
}

/// The policies of a folder; `Err` is the report of what is wrong with them.
fn load(folder: &Path, without_default_roles: bool) -> Result<Result<PolicySet, Report>, Failure> {
    if !folder.is_dir() {
        return Err(Failure::usage(&format!("{}: not a folder", folder.display())));
    }
    Ok(PolicySet::load(folder, !without_default_roles).map_err(|problems| wrong(&problems)))
}

/// One line for each problem: file, line, column, what, and what to do.
fn wrong(problems: &[PolicyProblem]) -> Report {
    let lines: Vec<_> = problems.iter().map(ToString::to_string).collect();
    Report::done(plain(&lines.join("\n")), json!({ "problems": problems }).to_string()).invalid()
}

fn check(asked: &args::Folder) -> Result<Report, Failure> {
    let set = match load(&asked.folder, asked.without_default_roles)? {
        Ok(set) => set,
        Err(report) => return Ok(report),
    };
    let (count, sha256) = (set.len(), set.sha256().to_hex());
    let ids: Vec<_> = set.ids().collect();
    let json = json!({ "problems": [], "policies": ids, "sha256": sha256 });
    Ok(Report::done(format!("{count} policies are right\nsha256 {sha256}"), json.to_string()))
}

fn test(asked: &args::Folder) -> Result<Report, Failure> {
    let set = match load(&asked.folder, asked.without_default_roles)? {
        Ok(set) => set,
        Err(report) => return Ok(report),
    };
    let files = match load_cases(&asked.folder) {
        Ok(files) => files,
        Err(problems) => return Ok(wrong(&problems)),
    };
    let files: Vec<_> = files.iter().map(|(name, text)| (name.as_str(), text.as_str())).collect();
    let outcome = run_cases(&set, &files);
    let json = serde_json::to_string(&outcome).map_err(|error| Failure::usage(&error))?;
    let report = Report::done(plain(outcome.to_string().trim_end()), json);
    Ok(if outcome.passed() { report } else { report.invalid() })
}

fn explain_here(asked: args::Explain) -> Result<Report, Failure> {
    let folder = asked.policies.clone().ok_or_else(|| Failure::usage(&"give --policies DIR or --server"))?;
    let set = match load(&folder, asked.without_default_roles)? {
        Ok(set) => set,
        Err(report) => return Ok(report),
    };
    let question = question(asked)?;
    let explained = set.explain(&question);
    let json = serde_json::to_string(&explained).map_err(|error| Failure::usage(&error))?;
    Ok(Report::done(plain(explained.to_string().trim_end()), json))
}

fn question(asked: args::Explain) -> Result<Question, Failure> {
    let who = match (asked.service, asked.person) {
        (Some(name), None) => Who::Service { name, groups: asked.groups },
        (None, Some(name)) => Who::Person { name, roles: asked.roles },
        _ => return Err(Failure::usage(&"give --service or --person")),
    };
    let what = match (asked.kid, &asked.stream) {
        (Some(kid), _) => {
            let missing = |option: &str| Failure::usage(&format!("with --kid and --policies, give {option}"));
            let facts = KeyFacts {
                algorithm: asked.algorithm.ok_or_else(|| missing("--algorithm"))?,
                purpose: asked.key_purpose.or_else(|| asked.purpose.clone()).unwrap_or_default(),
                backend: asked.backend.ok_or_else(|| missing("--backend"))?,
                is_ledger_key: false,
            };
            What::Key(Arc::new(Key::new(kid, facts)))
        }
        (None, Some(stream)) => What::Stream(stream.clone()),
        (None, None) => What::Appliance,
    };
    let now = Moment::from_unix_seconds(u64::try_from(wall_clock().unix_ms() / 1_000).unwrap_or_default());
    let moment = Moment::new(asked.hour.unwrap_or(now.hour()), asked.weekday.unwrap_or(now.weekday()));
    let circumstances = Circumstances {
        moment: moment.unwrap_or(now),
        environment: asked.environment,
        source: asked.source,
        purpose: asked.purpose,
        dialect: asked.dialect,
        algorithm: None,
        stream: asked.stream.map(|stream| stream.as_str().to_owned()),
    };
    Ok(Question { who, act: asked.act, what, circumstances })
}

async fn explain_there(people: &People, asked: args::Explain) -> Result<Report, Failure> {
    let question = people::Explain {
        service: asked.service,
        person: asked.person,
        groups: asked.groups,
        roles: asked.roles,
        act: asked.act.as_str().to_owned(),
        kid: asked.kid,
        stream: asked.stream,
        purpose: asked.purpose,
        dialect: asked.dialect,
        source: asked.source,
        hour: asked.hour,
        weekday: asked.weekday,
    };
    let answer = people.explain_policy(&question).await?;
    Ok(told(&explained(&answer.value), &answer))
}

/// The daemon's explanation, in the words of one made here.
fn explained(it: &Value) -> String {
    let outcome = member(it, "outcome");
    let mut text = format!("{}: {}", word(member(it, "question")), word(member(outcome, "decision")));
    if !member(outcome, "reason").is_null() {
        text = format!("{text} ({})", word(member(outcome, "reason")));
    }
    for condition in items(member(outcome, "conditions")) {
        text = format!(
            "{text}\n  if {} is lifted: {}",
            word(member(condition, "policy")),
            member(condition, "lift")
        );
    }
    for (title, list) in [
        ("decided by", member(it, "decided")),
        ("in scope, but the condition is false", member(it, "nearly")),
    ] {
        for (position, policy) in items(list).iter().enumerate() {
            if position == 0 {
                text = format!("{text}\n{title}:");
            }
            let (effect, id) = (word(member(policy, "effect")), word(member(policy, "id")));
            text = format!(
                "{text}\n  {effect} {id} ({}:{})",
                word(member(policy, "file")),
                word(member(policy, "line"))
            );
            for line in member(policy, "text").as_str().unwrap_or_default().lines() {
                text = format!("{text}\n    | {line}");
            }
        }
    }
    text
}

async fn show(people: &People) -> Result<Report, Failure> {
    let answer = people.policy().await?;
    let it = &answer.value;
    let rows = [("sha256", word(member(it, "sha256"))), ("grants", word(member(it, "grantsSha256")))];
    let ids: Vec<_> = items(member(it, "policies")).iter().map(word).collect();
    Ok(told(&format!("{}\n{}", table(&rows), ids.join("\n")), &answer))
}

async fn reload(people: &People, dry_run: bool) -> Result<Report, Failure> {
    let answer = people.reload_policy(dry_run).await?;
    if dry_run {
        return Ok(told(&would(&answer.value), &answer));
    }
    let changed = if member(&answer.value, "changed") == true { "in force now" } else { "as before" };
    Ok(told(&format!("{changed}: {}", word(member(&answer.value, "sha256"))), &answer))
}
