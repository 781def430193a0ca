//! `chancery sign` and `chancery verify`: digests, and artifacts with what is kept beside them.

use std::path::{Path, PathBuf};

use bytes::Bytes;
use chancery_client::provenance::Provenance;
use chancery_client::sidecar::{self, CheckedArtifact, SIDECAR_BYTES_MAX, Sidecar};
use chancery_client::{
    CheckedReceipt, Client, ReceiptMismatch, SignReply, SignRequest, check_issued, checksums,
};
use chancery_format::names::{IdempotencyKey, Kid};
use chancery_format::{Digest, HashAlgorithm, SignersRegistry};
use serde_json::value::RawValue;
use serde_json::{Value, json};

use crate::args::artifacts::{Sign, Verify};
use crate::commands::{describe_receipt, key_or_fresh, write_file};
use crate::input::{self, Measured};
use crate::output::{Failure, Report, columns, one_line};

pub(crate) async fn sign(client: &Client, asked: Sign) -> Result<Report, Failure> {
    let kept = kept_at(&asked)?;
    let file = asked.subject.file.clone();
    let subject = input::subject(&asked.subject, asked.hashing)?;
    if let (Some(file), Some(_)) = (&file, &kept) {
        agrees(file)?;
    }
    let mut request = SignRequest::new(asked.kid, &subject.digest);
    if let Some(purpose) = asked.purpose {
        request = request.purpose(purpose);
    }
    let metadata = asked.metadata.as_deref().map(|given| input::json(given, "--metadata")).transpose()?;
    let provenance = match (&file, &kept) {
        (Some(file), Some(_)) => {
            Some(came_from(file, subject.bytes, asked.origin.into_provenance(), asked.no_git)?)
        }
        _ => None,
    };
    let metadata = match &provenance {
        Some(provenance) => Some(with_provenance(metadata.as_deref(), provenance)?),
        None => metadata,
    };
    if let Some(metadata) = metadata {
        request = request.metadata(metadata);
    }
    if asked.anchored {
        request = request.anchored();
    }
    let key = key_or_fresh(asked.idempotency_key)?;
    let answer =
        client.sign(&request, &key).await.map_err(|error| Failure::from(error).with_retry_key(&key))?;
    let mut text = describe_signature(&answer.value, &key);
    let mut body = answer.body;
    if kept.is_some() || asked.receipt.is_some() {
        let fetched = fetch_receipt(client, &answer.value, asked.signers.as_deref()).await;
        let (receipt, checked) = fetched.map_err(|failure| failure.with_retry_key(&key))?;
        text = format!("{text}\n{}", describe_receipt(&checked));
        if let Some(path) = &asked.receipt {
            write_file(path, &receipt)?;
            text = format!("{text}\nkept in {}", path.display());
        }
        if let (Some(path), Some(provenance)) = (kept, provenance) {
            let sidecar = Sidecar::new(&subject.digest, &answer.value, provenance, &receipt);
            let json = sidecar.and_then(|sidecar| sidecar.to_json());
            input::replace_file(&path, &json.map_err(|error| Failure::invalid(&error))?)?;
            text = format!("{text}\nkept in {}", path.display());
            body = with_member(&body, "sidecar", &path);
        }
    }
    Ok(Report::done(text, body))
}

/// Where the sidecar goes, if there is to be one.
fn kept_at(asked: &Sign) -> Result<Option<PathBuf>, Failure> {
    match (&asked.subject.file, &asked.sidecar) {
        (Some(_), Some(Some(path))) => Ok(Some(path.clone())),
        (Some(_), None) if !asked.origin.is_said() => Ok(None),
        (Some(file), _) if file == Path::new("-") => {
            Err(Failure::usage(&"standard input has no place of its own: give --sidecar=FILE"))
        }
        (Some(file), _) => Ok(Some(sidecar::path_of(file))),
        (None, _) => Ok(None),
    }
}

fn came_from(file: &Path, bytes: u64, asked: Provenance, no_git: bool) -> Result<Provenance, Failure> {
    let name = file.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let mut provenance = Provenance { artifact: name, bytes, ..asked };
    if !no_git {
        provenance.ask_git(Path::new("."));
    }
    match provenance.fault() {
        Some(fault) => Err(Failure::usage(&fault)),
        None => Ok(provenance),
    }
}

/// The caller's context with the provenance beside it, as text: what the caller wrote stays as it was written.
fn with_provenance(given: Option<&RawValue>, provenance: &Provenance) -> Result<Box<RawValue>, Failure> {
    let given = given.map_or("{}", RawValue::get).trim();
    let members: Result<std::collections::BTreeMap<String, &RawValue>, _> = serde_json::from_str(given);
    let members = members.map_err(|error| Failure::usage(&format!("--metadata is no object: {error}")))?;
    if members.contains_key(sidecar::PROVENANCE) {
        return Err(Failure::usage(&"--metadata has a provenance already, which would be two"));
    }
    let provenance = serde_json::to_string(provenance).map_err(|error| Failure::usage(&error))?;
    let inner = given.strip_prefix('{').unwrap_or(given);
    let comma = if members.is_empty() { "" } else { "," };
    let text = format!("{{\"{}\":{provenance}{comma}{inner}", sidecar::PROVENANCE);
    RawValue::from_string(text).map_err(|error| Failure::usage(&error))
}

/// A JSON object with one member more.
fn with_member(object: &Bytes, name: &str, path: &Path) -> Bytes {
    let text = String::from_utf8_lossy(object);
    let members = text.trim_end().strip_suffix('}').unwrap_or(&text).to_owned();
    format!("{members},\"{name}\":{}}}", Value::from(path.display().to_string())).into()
}

pub(crate) fn describe_signature(reply: &SignReply, again: &IdempotencyKey) -> String {
    let index = reply.index().map_or_else(|| "?".to_owned(), |index| index.to_string());
    let second = reply.co_signer.as_ref();
    let beside = second.map(|it| format!("{} ({}, {})", it.kid, it.signer_kid, it.algorithm));
    let mut rows = match reply.signature.is_empty() {
        true => vec![("signature", "the receipt, under the ledger's checkpoint")],
        false => vec![("signature", reply.signature.as_str())],
    };
    let key = match reply.algorithm.is_empty() {
        true => format!("{} ({})", reply.kid, reply.signer_kid),
        false => format!("{} ({}, {})", reply.kid, reply.signer_kid, reply.algorithm),
    };
    rows.push(("key", &key));
    if let (Some(second), Some(beside)) = (second, &beside) {
        rows.extend([("and", second.signature.as_str()), ("key", beside)]);
    }
    let entry = format!("{index}, event {}, {}", reply.id, reply.ts);
    let again = format!("--idempotency-key {again}");
    rows.extend([
        ("digest", reply.digest.as_str()),
        ("entry", &entry),
        ("rung", &reply.rung),
        ("retry", &again),
    ]);
    columns(&rows)
}

/// Fetches the receipt of a signature, and checks that it proves that signature.
async fn fetch_receipt(
    client: &Client,
    reply: &SignReply,
    signers: Option<&Path>,
) -> Result<(Bytes, CheckedReceipt), Failure> {
    let index = reply.index().ok_or_else(|| Failure::evidence(&"the reply names no ledger index"))?;
    let receipt = client.receipt(index).await.map_err(|error| Failure::from(error).missing_is_evidence())?;
    let registry = match signers {
        Some(path) => input::registry(path)?,
        None => {
            SignersRegistry::parse(&client.signers().await?).map_err(|error| Failure::evidence(&error))?
        }
    };
    let checked = check_issued(reply, &receipt, &registry)
        .map_err(|error: ReceiptMismatch| Failure::invalid(&error))?;
    Ok((receipt, checked))
}

/// Asks the service; only with a signature on the command line.
pub(crate) async fn ask(client: &Client, asked: &Verify) -> Result<Report, Failure> {
    let (Some(kid), Some(signature)) = (&asked.kid, &asked.signature) else {
        return Err(Failure::usage(&"give --kid and --signature"));
    };
    let digest = input::subject(&asked.subject, asked.hashing)?.digest;
    let answer = client.verify(kid, &digest, &input::text(signature)?).await?;
    let verdict = if answer.value.valid { "valid" } else { "INVALID" };
    let text = format!("{verdict}: key {} is {}", answer.value.kid, answer.value.key_state);
    let report = Report::done(text, answer.body);
    Ok(if answer.value.valid { report } else { report.invalid() })
}

/// What is wrong with an artifact or a file of a list.
struct Finding {
    kind: &'static str,
    file: String,
    message: String,
    /// Nothing can be said, as something is not there.
    missing: bool,
}

impl Finding {
    fn bad(kind: &'static str, file: &Path, message: impl ToString) -> Self {
        Self { kind, file: file.display().to_string(), message: message.to_string(), missing: false }
    }

    fn unreadable(file: &Path, error: &std::io::Error) -> Self {
        let kind = match error.kind() {
            std::io::ErrorKind::NotFound => "missing-file",
            _ => "unreadable-file",
        };
        Self { missing: true, ..Self::bad(kind, file, error) }
    }

    fn json(&self) -> Value {
        let mut json = json!({
            "severity": "error", "kind": self.kind, "file": self.file, "message": self.message,
        });
        if let (true, Some(members)) = (self.missing, json.as_object_mut()) {
            members.insert("missing".to_owned(), true.into());
        }
        json
    }
}

/// Verifies an artifact with what is kept beside it. Asks nobody.
pub(crate) fn verify(asked: Verify) -> Result<Report, Failure> {
    let (Some(file), Some(signers)) = (&asked.subject.file, &asked.signers) else {
        return Err(Failure::usage(&"give --file and --signers, or --signature"));
    };
    let registry = input::registry(signers)?;
    let beside = asked.sidecar.clone().unwrap_or_else(|| sidecar::path_of(file));
    let wanted = asked.origin.into_provenance();
    let list = checksums::is_list(file);
    let mut findings = Vec::new();
    let checked = match check(file, &beside, &registry) {
        Ok(checked) => Some(checked),
        Err(finding) => {
            findings.push(finding);
            None
        }
    };
    if let Some(checked) = &checked {
        findings.extend(is_wanted(&beside, checked, asked.kid.as_ref(), &wanted));
    }
    let mut files = 1;
    if let (true, true, Some(checked)) = (list, findings.is_empty(), &checked) {
        let (listed, wrong) = check_list(file, Some(&checked.digest));
        files += listed;
        findings.extend(wrong);
    }
    Ok(report(file, checked.as_ref(), files, &findings))
}

fn check(file: &Path, beside: &Path, registry: &SignersRegistry) -> Result<CheckedArtifact, Finding> {
    let json = input::read_bounded(beside, SIDECAR_BYTES_MAX)
        .map_err(|error| Finding::unreadable(beside, &error))?;
    let sidecar = Sidecar::parse(&json).map_err(|error| Finding::bad(error.kind(), beside, error))?;
    let algorithm = HashAlgorithm::parse(sidecar.digest_algorithm());
    let algorithm = algorithm.ok_or_else(|| {
        Finding::bad("sidecar-invalid", beside, "its digestAlgorithm is none that is known")
    })?;
    let Measured { digest, bytes } =
        input::measure(file, algorithm).map_err(|error| Finding::unreadable(file, &error))?;
    let place = |error: &sidecar::SidecarError| match error {
        sidecar::SidecarError::Artifact { .. } => file.to_owned(),
        _ => beside.to_owned(),
    };
    sidecar
        .check(&digest, bytes, registry)
        .map_err(|error| Finding::bad(error.kind(), &place(&error), &error))
}

/// What the caller knows of the artifact, against what is proven.
fn is_wanted(
    beside: &Path,
    checked: &CheckedArtifact,
    kid: Option<&Kid>,
    wanted: &Provenance,
) -> Option<Finding> {
    if let Some(kid) = kid.filter(|kid| kid.as_str() != checked.kid) {
        let why = format!("it is signed with {}, not with {kid}", checked.kid);
        return Some(Finding::bad("other-key", beside, why));
    }
    let (name, wanted, found) = checked.provenance.differs_from(wanted)?;
    let found = found.map_or_else(|| "none".to_owned(), |found| format!("{found:?}"));
    Some(Finding::bad("other-provenance", beside, format!("its {name} is {found}, not {wanted:?}")))
}

/// Each file a list names; how many there are, and what is wrong. The list itself must have the digest that is given.
fn check_list(list: &Path, signed: Option<&str>) -> (usize, Vec<Finding>) {
    let bytes = usize::try_from(checksums::LIST_BYTES_MAX).unwrap_or(usize::MAX);
    let text = match input::read_bounded(list, bytes) {
        Ok(text) => text,
        Err(error) => return (0, vec![Finding::unreadable(list, &error)]),
    };
    let has =
        |digest: &str| HashAlgorithm::ALL.into_iter().any(|it| Digest::of(it, &text).to_hex() == digest);
    if signed.is_some_and(|digest| !has(digest)) {
        return (0, vec![Finding::bad("artifact-altered", list, "it was altered while it was verified")]);
    }
    match checksums::parse(&String::from_utf8_lossy(&text)) {
        Ok(listed) => (listed.len(), listed.iter().filter_map(|file| check_listed(list, file)).collect()),
        Err(error) => (0, vec![Finding::bad("checksums-invalid", list, error)]),
    }
}

fn check_listed(list: &Path, listed: &checksums::Listed) -> Option<Finding> {
    let path = checksums::path_of(list, &listed.name);
    match input::measure(&path, HashAlgorithm::Sha256) {
        Ok(Measured { digest, .. }) if digest == listed.digest => None,
        Ok(Measured { digest, .. }) => {
            let why = format!("its SHA-256 is {}, listed is {}", digest.to_hex(), listed.digest.to_hex());
            Some(Finding::bad("checksum-mismatch", &path, why))
        }
        Err(error) => Some(Finding::unreadable(&path, &error)),
    }
}

/// A list that does not agree with its files is not signed.
fn agrees(file: &Path) -> Result<(), Failure> {
    if !checksums::is_list(file) {
        return Ok(());
    }
    let (_, wrong) = check_list(file, None);
    let Some(first) = wrong.first() else { return Ok(()) };
    Err(Failure::invalid(&format!("not signed: {}: {}", first.file, first.message)))
}

fn report(file: &Path, checked: Option<&CheckedArtifact>, files: usize, findings: &[Finding]) -> Report {
    let valid = findings.is_empty();
    let json = json!({
        "valid": valid, "file": file.display().to_string(), "checked": { "files": files },
        "artifact": checked, "findings": findings.iter().map(Finding::json).collect::<Vec<_>>(),
    });
    let mut lines: Vec<String> =
        findings.iter().map(|it| one_line(&format!("{}: {}: {}", it.kind, it.file, it.message))).collect();
    if let (true, Some(checked)) = (valid, checked) {
        lines.push(describe(file, checked, files));
    } else {
        lines.push(format!("NOT VERIFIED: {}", file.display()));
    }
    let report = Report::done(lines.join("\n"), json.to_string());
    match (valid, findings.iter().all(|finding| finding.missing)) {
        (true, _) => report,
        (false, true) => report.undecided(),
        (false, false) => report.invalid(),
    }
}

fn describe(file: &Path, checked: &CheckedArtifact, files: usize) -> String {
    let Provenance { commit, branch, dirty, dataset, run_id, .. } = &checked.provenance;
    let mut rows = vec![("valid", file.display().to_string())];
    if files > 1 {
        rows.push(("files", format!("{} listed, all as listed", files - 1)));
    }
    rows.extend([
        ("key", format!("{} ({})", checked.kid, checked.signer_kid)),
        ("digest", checked.digest.clone()),
        (
            "entry",
            format!("{} of {} on {}, {}", checked.index, checked.tree_size, checked.origin, checked.ts),
        ),
        ("by", checked.actor.clone()),
    ]);
    let changed = if *dirty == Some(true) { ", with changes" } else { "" };
    let told = [
        ("commit", commit.as_ref().map(|it| format!("{it}{changed}"))),
        ("branch", branch.clone()),
        ("dataset", dataset.clone()),
        ("run", run_id.clone()),
    ];
    rows.extend(told.into_iter().filter_map(|(name, text)| Some((name, one_line(&text?)))));
    let rows: Vec<(&str, &str)> = rows.iter().map(|(name, text)| (*name, text.as_str())).collect();
    columns(&rows)
}
