//! `chancery receipt bundle` and `chancery receipt upgrade`: evidence that outlives its issuer.

use std::path::Path;
use std::sync::Arc;

use chancery_client::evidence::{self, BundleError, NewBundle, Upgraded};
use chancery_client::mirror::Source;
use chancery_format::cose::{COSE_RECEIPT_BYTES_MAX, CoseReceipt};
use chancery_format::evidence::{
    ArchivedObjects, BUNDLED_REGISTRY_BYTES_MAX, BundledPolicy, EVIDENCE_BYTES_MAX, Evidence, EvidenceError,
};
use chancery_format::note::NOTE_BYTES_MAX;
use chancery_format::policy::POLICY_BYTES_MAX;
use chancery_format::receipt::RECEIPT_BYTES_MAX;
use chancery_format::{LeafIndex, Receipt, SignersRegistry};
use serde_json::json;

use crate::args::Connection;
use crate::args::evidence::{Bundle, Common, Upgrade};
use crate::mirror::{Bar, source_options};
use crate::output::{Failure, Report, columns, one_line};
use crate::{commands, input};

pub(crate) async fn bundle(asked: Bundle, connection: &Connection) -> Result<Report, Failure> {
    let receipt = evidence_file(&asked.receipt, RECEIPT_BYTES_MAX)?;
    let receipt = Receipt::parse(&receipt).map_err(|error| Failure::invalid(&error))?;
    let cose = asked.cose.as_deref().map(cose).transpose()?;
    let archive = match (asked.common.archive, asked.common.object) {
        (Some(location), objects) => Some(ArchivedObjects::new(location, objects).map_err(usage)?),
        (None, objects) if objects.is_empty() => None,
        _ => return Err(Failure::usage(&"--object needs --archive, which says where the objects are")),
    };
    let policy = asked.common.policy.as_deref().map(policy).transpose()?;
    let log = log(asked.common.log.as_deref(), connection)?.ok_or(BundleError::NoLog)?;
    let signers = match &asked.signers {
        Some(path) => text(path, BUNDLED_REGISTRY_BYTES_MAX)?,
        None => String::from_utf8(commands::connect(connection)?.signers().await?.to_vec())
            .map_err(|error| Failure::evidence(&format!("the service's registry: {error}")))?,
    };
    let (cose, told) = match cose {
        Some(given) => (Some(given), "in it".to_owned()),
        // Whoever names another log may do so because the issuer is gone.
        None if asked.common.log.is_some() => (None, "none given".to_owned()),
        None => {
            let registry = SignersRegistry::parse(signers.as_bytes()).map_err(EvidenceError::from)?;
            match crate::cose::offered(&commands::connect(connection)?, &receipt, &registry).await {
                Ok(given) => (Some(given), "in it, from the service".to_owned()),
                Err(why) => (None, one_line(&why)),
            }
        }
    };
    let registry_index = asked.common.registry_index.map(LeafIndex);
    let made = NewBundle { receipt, signers, policy, cose, archive, registry_index };
    let mut bar = Bar::on_stderr();
    let made = evidence::bundle(&log, made, &mut bar).await;
    bar.clear();
    let made = made?;
    let json = made.to_json()?;
    input::replace_file(&asked.out, json.as_bytes())?;
    Ok(told_of(&made, &asked.out, json.len(), &told))
}

fn told_of(made: &Evidence, path: &Path, bytes: usize, cose: &str) -> Report {
    let registry = made.registry();
    let proven = registry.registry().ledger.origin.to_string();
    let index = made.receipt().index();
    let text = columns(&[
        ("evidence", &format!("{}, {bytes} bytes", path.display())),
        ("entry", &format!("{index} of {}", one_line(&proven))),
        ("registry", &format!("version {}, published by entry {}", registry.version(), registry.index())),
        ("COSE receipt", cose),
        ("policy", if made.policy().is_some() { "met by the entry's checkpoint" } else { "none given" }),
    ]);
    let json = json!({
        "event": "bundled", "file": path, "bytes": bytes, "origin": proven, "index": index.0,
        "registryVersion": registry.version(), "registryIndex": registry.index().0,
        "cose": made.cose().is_some(), "policy": made.policy().is_some(), "renewals": 0,
    });
    Report::done(text, json.to_string())
}

pub(crate) async fn upgrade(asked: Upgrade, connection: &Connection) -> Result<Report, Failure> {
    let held = evidence_file(&asked.file, EVIDENCE_BYTES_MAX)?;
    let mut held = Evidence::parse(&held)?;
    let Common { log: from, policy: witnesses, registry_index, archive, object } = asked.common;
    let more = !object.is_empty();
    if more || archive.is_some() {
        let merged = match (held.archive(), archive) {
            (Some(known), location) if location.as_deref().is_none_or(|it| it == known.location()) => {
                known.clone().with(object)
            }
            (None, Some(location)) => ArchivedObjects::new(location, object),
            (None, None) => return Err(Failure::usage(&"--object needs --archive, which says where")),
            (Some(known), _) => {
                return Err(Failure::usage(&format!("the file's objects are in {}", known.location())));
            }
        };
        held = held.with_archive(merged.map_err(usage)?);
    }
    let log = log(from.as_deref(), connection)?;
    let wanted = evidence::Upgrade {
        signers: asked.signers.as_deref().map(|path| text(path, BUNDLED_REGISTRY_BYTES_MAX)).transpose()?,
        policy: witnesses.as_deref().map(policy).transpose()?,
        checkpoint: asked.checkpoint.as_deref().map(|path| text(path, NOTE_BYTES_MAX)).transpose()?,
        registry_index: registry_index.map(LeafIndex),
        ask: asked.ask_witnesses.then(|| source_options("https://", connection)).transpose()?,
    };
    let mut bar = Bar::on_stderr();
    let done = evidence::upgrade(log.as_ref(), held, wanted, &mut bar).await;
    bar.clear();
    let done = done?;
    let path = asked.out.as_ref().unwrap_or(&asked.file);
    if done.renewed || more || asked.out.is_some() {
        input::replace_file(path, done.evidence.to_json()?.as_bytes())?;
    }
    Ok(told(&done, path))
}

fn told(done: &Upgraded, path: &Path) -> Report {
    let renewals = done.evidence.renewals().len();
    let (shown, before) = (done.shown.size, done.before);
    let what = match done.renewed {
        true => format!("renewed by the checkpoint of {shown} entries; before, {before}"),
        false => {
            format!("nothing newer: the checkpoint shown has {shown} entries, the file's newest {before}")
        }
    };
    let cosigners = match done.cosigners.as_slice() {
        [] => "none that a policy here knows".to_owned(),
        names => one_line(&names.join(", ")),
    };
    let mut rows = vec![
        ("evidence", path.display().to_string()),
        ("checkpoint", what),
        ("cosigned by", cosigners),
        ("renewals", renewals.to_string()),
    ];
    rows.extend(
        done.asked
            .iter()
            .map(|asked| ("asked", format!("{}: {}", one_line(&asked.url), one_line(&asked.answer)))),
    );
    if done.left_out > 0 {
        let why = "signature lines by keys that no policy here names; give --policy to keep them";
        rows.push(("left out", format!("{} {why}", done.left_out)));
    }
    let rows: Vec<_> = rows.iter().map(|(name, value)| (*name, value.as_str())).collect();
    let json = json!({
        "event": if done.renewed { "renewed" } else { "unchanged" }, "file": path, "size": shown.0,
        "root": done.shown.root.to_hex(), "before": before.0, "cosigners": done.cosigners,
        "asked": done.asked, "leftOut": done.left_out, "renewals": renewals,
        "registryVersion": done.evidence.newest_registry().version(),
    });
    Report::done(columns(&rows), json.to_string())
}

/// The log given, or the service's own, if there is one.
fn log(given: Option<&str>, connection: &Connection) -> Result<Option<Arc<Source>>, Failure> {
    let own = connection.url.as_ref().map(|url| format!("{}/log", url.trim_end_matches('/')));
    let Some(address) = given.map(str::to_owned).or(own) else { return Ok(None) };
    Ok(Some(Arc::new(Source::open(&source_options(&address, connection)?)?)))
}

/// A file that is evidence: without it nothing can be done.
fn evidence_file(path: &Path, bytes_max: usize) -> Result<Vec<u8>, Failure> {
    input::read_bounded(path, bytes_max).map_err(|error| Failure::evidence(&input::named(path, &error)))
}

/// A file that says how to judge, or what to add.
fn text(path: &Path, bytes_max: usize) -> Result<String, Failure> {
    let failed = |error: &dyn std::fmt::Display| Failure::usage(&input::named(path, error));
    let bytes = input::read_bounded(path, bytes_max).map_err(|error| failed(&error))?;
    String::from_utf8(bytes).map_err(|error| failed(&error))
}

fn policy(path: &Path) -> Result<BundledPolicy, Failure> {
    let policy = BundledPolicy::parse(text(path, POLICY_BYTES_MAX)?);
    policy.map_err(|error| Failure::usage(&input::named(path, &error)))
}

fn cose(path: &Path) -> Result<CoseReceipt, Failure> {
    let bytes = evidence_file(path, COSE_RECEIPT_BYTES_MAX)?;
    CoseReceipt::parse(&bytes).map_err(|error| Failure::invalid(&input::named(path, &error)))
}

fn usage(error: EvidenceError) -> Failure {
    Failure::usage(&error)
}

impl From<EvidenceError> for Failure {
    fn from(error: EvidenceError) -> Self {
        Self::invalid(&error)
    }
}

impl From<BundleError> for Failure {
    fn from(error: BundleError) -> Self {
        match error {
            BundleError::Evidence(error) => error.into(),
            BundleError::Log(error) => error.into(),
            BundleError::NoLog | BundleError::NoPolicy => Self::usage(&error),
            BundleError::Unpublished { .. } | BundleError::Behind { .. } => Self::evidence(&error),
            BundleError::NotWitnessed { .. } | BundleError::OtherTree(_) => Self::invalid(&error),
        }
    }
}
