//! From files to checked policies: everything wrong with all of them at once.
//!
//! Each policy is parsed alone, so that one cannot hide another's problems; then all that parsed are held
//! against the schema together, strictly: what cannot go wrong at load does not go wrong at a decision.
//! A policy may look into the principal, the resource and the context, not into other entities. Cedar's
//! warnings (a policy that can never apply, letters that look alike) are problems too.

use std::collections::HashMap;
use std::sync::Arc;

use cedar_policy::ffi::DetailedError;
use cedar_policy::{Policy, PolicyId as CedarId, PolicySet as CedarSet, ValidationMode, Validator};
use chancery_format::Hash;

use crate::annotations::{self, Annotations};
use crate::ask::Needs;
use crate::decision::{Lift, PolicyId};
use crate::limits::{
    FILE_BYTES_MAX, FILES_MAX, NESTING_MAX, OPERATORS_MAX, POLICIES_MAX, POLICY_BYTES_MAX, PROBLEMS_MAX,
};
use crate::problem::{PolicyProblem, Position};
use crate::schema::schema;
use crate::scope::Scope;
use crate::split::{self, Piece};

/// How far policies may look: from principal, resource and context to their attributes, no further.
const DEREFERENCES_MAX: u32 = 1;

/// One policy, checked.
#[derive(Debug, Clone)]
pub(crate) struct Compiled {
    pub(crate) id: PolicyId,
    pub(crate) lift: Option<Lift>,
    pub(crate) scope: Scope,
    pub(crate) needs: Needs,
    pub(crate) policy: Policy,
    /// The policy in a set of its own, as Cedar wants it.
    pub(crate) alone: CedarSet,
    pub(crate) file: Arc<str>,
    pub(crate) at: Position,
    pub(crate) text: Box<str>,
}

struct Source<'t> {
    file: Arc<str>,
    whole: &'t str,
    piece: Piece<'t>,
}

impl Source<'_> {
    fn problem(&self, offset: usize, message: String, advice: String) -> PolicyProblem {
        let at = Some(Position::of(self.whole, self.piece.offset + offset));
        PolicyProblem { file: self.file.to_string(), at, message, advice }
    }

    /// Cedar's own words, at the place it names.
    fn cedar(&self, number: usize, error: DetailedError) -> PolicyProblem {
        let offset = error.source_locations.first().map_or(0, |label| label.loc.start);
        let label = error.source_locations.first().and_then(|label| label.label.clone());
        let advice = error.help.or(label).unwrap_or_default();
        let own_name = format!("for policy `{number}`, ");
        self.problem(offset, error.message.replace(&own_name, ""), advice)
    }
}

/// Checks all files, sorted by name. The problems come in the order of files and places.
pub(crate) fn check(files: &[(&str, &str)]) -> Result<Vec<Compiled>, Vec<PolicyProblem>> {
    let mut problems = bounds(files);
    let sources: Vec<Source<'_>> = files
        .iter()
        .filter(|(_, text)| text.len() <= FILE_BYTES_MAX)
        .flat_map(|(name, text)| {
            let file: Arc<str> = Arc::from(*name);
            let source = move |piece| Source { file: Arc::clone(&file), whole: text, piece };
            split::pieces(text).into_iter().map(source)
        })
        .take(POLICIES_MAX + 1)
        .collect();
    if sources.len() > POLICIES_MAX {
        let message = format!("more than {POLICIES_MAX} policies in all files");
        problems.push(PolicyProblem::whole("policies", message, "write fewer, with groups and conditions"));
        return Err(problems);
    }
    let parsed: Vec<Option<Policy>> = sources
        .iter()
        .enumerate()
        .map(|(number, source)| parse(number, source).map_err(|found| problems.extend(found)).ok())
        .collect();
    let annotated = annotate(&sources, &parsed, &mut problems);
    validate(&sources, &parsed, &mut problems);
    if !problems.is_empty() {
        problems.sort_by(|a, b| (&a.file, a.at).cmp(&(&b.file, b.at)));
        problems.truncate(PROBLEMS_MAX);
        return Err(problems);
    }
    let compiled = sources.into_iter().zip(parsed).zip(annotated);
    Ok(compiled
        .filter_map(|((source, policy), annotations)| Some(compile(&source, policy?, annotations?)))
        .collect())
}

/// SHA-256 over the number of files and each file's name and text, sorted by name, every length in front
/// as 8 bytes, big end first.
pub(crate) fn hash(files: &[(&str, &str)]) -> Hash {
    let length = |number: usize| (number as u64).to_be_bytes();
    let mut parts: Vec<Vec<u8>> = vec![b"chancery policy 1\n".to_vec(), length(files.len()).to_vec()];
    for text in files.iter().flat_map(|(name, text)| [name, text]) {
        parts.push(length(text.len()).to_vec());
        parts.push(text.as_bytes().to_vec());
    }
    Hash::of(&parts.iter().map(Vec::as_slice).collect::<Vec<_>>())
}

fn bounds(files: &[(&str, &str)]) -> Vec<PolicyProblem> {
    let mut problems = Vec::new();
    if files.len() > FILES_MAX {
        let message = format!("{} files, at most {FILES_MAX} are read", files.len());
        problems.push(PolicyProblem::whole("policies", message, "put policies together"));
    }
    for (name, text) in files {
        if text.len() > FILE_BYTES_MAX {
            let message = format!("{} bytes long, at most {FILE_BYTES_MAX} are read", text.len());
            problems.push(PolicyProblem::whole(name, message, "split the file"));
        }
    }
    for pair in files.windows(2) {
        if let [(first, _), (second, _)] = pair
            && first == second
        {
            problems.push(PolicyProblem::whole(first, "two files have this name", "rename one"));
        }
    }
    problems
}

fn parse(number: usize, source: &Source<'_>) -> Result<Policy, Vec<PolicyProblem>> {
    let Piece { text, nesting, operators, .. } = source.piece;
    if text.len() > POLICY_BYTES_MAX {
        let message = format!("the policy is {} bytes long, at most {POLICY_BYTES_MAX}", text.len());
        return Err(vec![source.problem(0, message, "split it, or look for a missing `;`".to_owned())]);
    }
    if nesting > NESTING_MAX {
        let message = format!("brackets are nested {nesting} deep, at most {NESTING_MAX}");
        return Err(vec![source.problem(0, message, "simplify the condition".to_owned())]);
    }
    if operators > OPERATORS_MAX {
        let message = format!("the policy has {operators} operators and clauses, at most {OPERATORS_MAX}");
        return Err(vec![source.problem(0, message, "use sets, or split it".to_owned())]);
    }
    Policy::parse(Some(CedarId::new(number.to_string())), text).map_err(|errors| {
        errors.iter().map(|error| source.cedar(number, DetailedError::from(error))).collect()
    })
}

fn annotate(
    sources: &[Source<'_>],
    parsed: &[Option<Policy>],
    problems: &mut Vec<PolicyProblem>,
) -> Vec<Option<Annotations>> {
    let mut places: HashMap<PolicyId, String> = HashMap::new();
    let mut annotated = Vec::with_capacity(parsed.len());
    for (source, policy) in sources.iter().zip(parsed) {
        let read = policy.as_ref().map(annotations::read);
        let faults = match &read {
            Some(Err(faults)) => faults.clone(),
            Some(Ok(Annotations { id, .. })) => {
                let at = Position::of(source.whole, source.piece.offset);
                let here = format!("{}:{}:{}", source.file, at.line, at.column);
                places
                    .insert(id.clone(), here)
                    .map(|first| (format!("@id(\"{id}\") is taken, by {first}"), "rename one".to_owned()))
                    .into_iter()
                    .collect()
            }
            None => Vec::new(),
        };
        problems.extend(faults.into_iter().map(|(message, advice)| source.problem(0, message, advice)));
        annotated.push(read.and_then(Result::ok));
    }
    annotated
}

fn validate(sources: &[Source<'_>], parsed: &[Option<Policy>], problems: &mut Vec<PolicyProblem>) {
    let policies = parsed.iter().flatten().cloned();
    let set = CedarSet::from_policies(policies).expect("each policy has a number of its own");
    let result =
        Validator::new(schema().clone()).validate_with_level(&set, ValidationMode::Strict, DEREFERENCES_MAX);
    let errors = result.validation_errors().map(|error| (error.policy_id(), DetailedError::from(error)));
    let warnings =
        result.validation_warnings().map(|warning| (warning.policy_id(), DetailedError::from(warning)));
    for (id, error) in errors.chain(warnings) {
        let text: &str = id.as_ref();
        if let Some((number, source)) = text.parse().ok().and_then(|n: usize| Some((n, sources.get(n)?))) {
            problems.push(source.cedar(number, error));
        }
    }
}

fn compile(source: &Source<'_>, policy: Policy, annotations: Annotations) -> Compiled {
    Compiled {
        id: annotations.id,
        lift: annotations.lift,
        scope: Scope::of(&policy),
        needs: Needs::of(&policy, source.piece.text),
        alone: CedarSet::from_policies([policy.clone()]).expect("one policy has no namesake"),
        policy,
        file: Arc::clone(&source.file),
        at: Position::of(source.whole, source.piece.offset),
        text: source.piece.text.into(),
    }
}
