//! A whole archive, verified from its first byte to its last.
//!
//! One thread keeps what must be in order: the tree, the chains, the lives of keys. Everything else
//! (reading, cutting, parsing, hashing, signatures) is done by workers, with a bounded number of jobs
//! under way, so memory does not grow with the ledger. [`verify`] is the plot, [`verify_resumable`] one that may be
//! interrupted.

mod acts;
mod bundle;
mod chains;
mod event;
mod heads;
mod latest;
mod lives;
mod notes;
mod pass;
mod plan;
mod pool;
mod registries;
mod sight;
mod signatures;
mod survey;
mod tree;
mod witnessed;

use std::path::Path;

use chancery_format::archive::{checkpoint_name, witnessed_name};
use chancery_format::note::NOTE_BYTES_MAX;
use chancery_format::policy::Policy;
use chancery_format::{Hash, TreeHead};

pub use self::acts::ActsTold;
pub(crate) use self::bundle::{BUNDLE_BYTES_MAX, unread};
pub(crate) use self::event::read_entry;
use self::latest::Latest;
pub use self::lives::KeyLife;
pub(crate) use self::notes::{SignedHead, verify_head};
pub use self::pass::ResumeError;
use self::pass::{Keeper, Pass, Resumed, STATE_BYTES_MAX};
use self::pool::Pool;
pub(crate) use self::signatures::find_bad;
pub use self::survey::Survey;
pub(crate) use self::survey::{ActorTally, HaltMark, KeyUse, Noted, Ranking, Series, Timeline, Top};
use self::survey::{Collector, LastCheckpoint};
pub use self::witnessed::WitnessedTold;
use crate::evidence::{Evidence, EvidenceError};
use crate::findings::{Finding, Findings, Kind};
use crate::inventory::{Inventory, last_epoch_now};
use crate::progress::Progress;
use crate::report::{Checked, Report};
use crate::trust::Trust;

/// How to verify.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// Ed25519 signatures one by one instead of in batches.
    pub strict: bool,
    /// Tell where every key comes from, one line each.
    pub keys: bool,
    /// Tell every act of people: who asked, who approved, who halted what.
    pub acts: bool,
    /// Tell which keys were valid at this index.
    pub at: Option<u64>,
    /// Worker threads; `None`: one per core, and eight times as many over a network.
    pub threads: Option<usize>,
    /// An older checkpoint of the same ledger, which this archive must continue.
    pub since: Option<Vec<u8>>,
    /// Whose cosignatures count: then the archived cosigned checkpoints must reach its quorum, and some must be there.
    pub policy: Option<Policy>,
}

/// Checkpoints read again to find the last one under which entries were counted.
const CHECKPOINTS_SOUGHT_MAX: usize = 64;

/// Most worker threads.
pub const THREADS_MAX: usize = 256;

/// What a verified ledger tells of itself, for the auditor's report.
#[derive(Debug, Clone, Default)]
pub struct Told {
    /// Who did what when.
    pub survey: Survey,
    /// The lives of its keys.
    pub keys: Vec<KeyLife>,
    /// The acts of people; `None` if nothing could be verified.
    pub acts: Option<ActsTold>,
    /// How far it is witnessed.
    pub witnessed: WitnessedTold,
}

/// Verifies everything in the archive.
pub fn verify(
    evidence: &dyn Evidence,
    trust: &Trust,
    options: &Options,
    progress: &mut dyn Progress,
) -> Report {
    pass_over(evidence, trust, options, None, progress).0
}

/// The same, written down to a file on the way and taken up from there if it is there. It is removed with the verdict,
/// unless evidence was missing: what a later run can read may be there by then.
/// `Ok` has the verdict, and why it could not be written down all the time, if it could not.
pub fn verify_resumable(
    evidence: &dyn Evidence,
    trust: &Trust,
    options: &Options,
    file: &Path,
    progress: &mut dyn Progress,
) -> Result<(Report, Option<String>), ResumeError> {
    let unusable = |error: std::io::Error| ResumeError::File(error.to_string());
    let mut keeper = Keeper::new(file).map_err(unusable)?;
    let state = keeper.read(STATE_BYTES_MAX).map_err(unusable)?;
    let keep = Keep { keeper: &mut keeper, state };
    let (report, _) = try_pass_over(evidence, trust, options, None, Some(keep), progress)?;
    let is_over = report.findings().missing() == 0;
    Ok((report, keeper.done(is_over).err()))
}

/// Verifies everything in the archive, and counts for a report on the way.
pub fn survey(
    evidence: &dyn Evidence,
    trust: &Trust,
    options: &Options,
    progress: &mut dyn Progress,
) -> (Report, Told) {
    pass_over(evidence, trust, options, Some(Collector::new()), progress)
}

fn pass_over(
    evidence: &dyn Evidence,
    trust: &Trust,
    options: &Options,
    survey: Option<Collector>,
    progress: &mut dyn Progress,
) -> (Report, Told) {
    try_pass_over(evidence, trust, options, survey, None, progress).unwrap_or_else(|error| {
        // Nothing is taken up, so nothing is refused; if it were, nothing would have been decided.
        let mut findings = Findings::default();
        findings.push(Finding::new(Kind::UnreadableFile, error.to_string()));
        (Report::new(findings, Checked::default(), &[]), Told::default())
    })
}

/// Where the pass is written down, and what was written down before.
struct Keep<'a> {
    keeper: &'a mut Keeper,
    state: Option<Vec<u8>>,
}

/// What decides a verdict beside archive and registry.
fn options_digest(options: &Options) -> Hash {
    let since = options.since.as_deref().map(|note| Hash::of(&[note]).to_hex()).unwrap_or_default();
    let policy = options.policy.as_ref().map(|policy| Hash::of(&[&policy.to_bytes()]).to_hex());
    Hash::of(&[
        b"strict ",
        if options.strict { b"1" } else { b"0" },
        b" since ",
        since.as_bytes(),
        b" policy ",
        policy.unwrap_or_default().as_bytes(),
    ])
}

fn try_pass_over(
    evidence: &dyn Evidence,
    trust: &Trust,
    options: &Options,
    survey: Option<Collector>,
    keep: Option<Keep<'_>>,
    progress: &mut dyn Progress,
) -> Result<(Report, Told), ResumeError> {
    let mut findings = Findings::default();
    let mut checked = Checked { strict: options.strict, ..Checked::default() };
    // Before the listing, so that all that it covers is in that.
    let latest = Latest::read(evidence);
    let inventory = match Inventory::take(evidence, &mut findings) {
        Ok(inventory) => inventory,
        Err(error) => return Ok((unlisted(&error, findings, checked), Told::default())),
    };
    checked.files = inventory.files;
    let last = last_good_checkpoint(evidence, trust, &inventory, &mut findings);
    let head = last.map(|(_, head)| head);
    let since = options.since.as_deref().and_then(|note| read_since(trust, note, head, &mut findings));
    let Some((last_epoch, last)) = last else {
        findings
            .push(Finding::new(Kind::NoCheckpoint, "no checkpoint that can be trusted: nothing to check"));
        return Ok((Report::new(findings, checked, &[]), Told::default()));
    };
    inventory.missing(last.size.0, &mut findings);
    tell_beyond(evidence, trust, &inventory, last.size.0, &mut findings);
    tell_cosigned_beyond(&inventory, &mut findings);
    checked.shown = latest.check(evidence, trust, &inventory, &mut findings);
    progress.begin(last.size.0);
    let registries = notes::read_registries(evidence, trust, &inventory, &mut findings);
    let (keys, acts, counted, witnessed) = std::thread::scope(|scope| {
        let for_workers = (survey.is_some(), options.policy.as_ref());
        let pool = Pool::start(scope, threads(evidence, options.threads), evidence, trust, for_workers);
        let mut pass = Pass::new(trust, &inventory, (last, since), registries, options, survey, pool);
        let mut keeper = None;
        if let Some(Keep { keeper: kept, state }) = keep {
            let digest = options_digest(options);
            pass.keep_for(digest, last_epoch);
            if let Some(state) = state {
                pass.resume(Resumed::read(&state, trust, &digest, evidence, &inventory, &last)?, evidence)?;
            }
            keeper = Some(kept);
        }
        pass.run(progress, keeper);
        Ok(pass.finish(&mut findings, &mut checked))
    })?;
    progress.end();
    let mut report = Report::new(findings, checked, &keys).with_acts(&acts).with_witnessed(&witnessed);
    if options.keys {
        report = report.showing(&keys);
    }
    if let Some(index) = options.at {
        report = report.showing_at(&keys, index);
    }
    if options.acts {
        report = report.showing_acts(&acts);
    }
    let mut survey = counted.unwrap_or_default();
    survey.checkpoint = last_checkpoint(evidence, trust, &inventory, survey.until);
    Ok((report, Told { survey, keys, acts: Some(acts), witnessed }))
}

/// The checkpoint of this size, read and verified once more for its text.
fn last_checkpoint(
    evidence: &dyn Evidence,
    trust: &Trust,
    inventory: &Inventory,
    size: u64,
) -> Option<LastCheckpoint> {
    // Verification ended at this size, so the checkpoint is the newest one or, where something is bad, near it.
    let newest = inventory.checkpoints.iter().rev().take(CHECKPOINTS_SOUGHT_MAX);
    newest.filter(|_| size > 0).find_map(|epoch| {
        let name = checkpoint_name(*epoch);
        let bytes = evidence.open(&name, NOTE_BYTES_MAX).ok()?;
        let head = verify_head(trust, &bytes).ok()?.head;
        let note = String::from_utf8(bytes).ok()?;
        (head.size.0 == size).then_some(LastCheckpoint { name, note })
    })
}

/// How many workers: as told, or as many as make sense.
pub(crate) fn threads(evidence: &dyn Evidence, told: Option<usize>) -> usize {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let usual = if evidence.is_remote() { cores * 8 } else { cores };
    told.unwrap_or(usual).clamp(1, THREADS_MAX)
}

fn unlisted(error: &EvidenceError, mut findings: Findings, checked: Checked) -> Report {
    findings.push(Finding::new(Kind::UnreadableFile, format!("the archive cannot be listed: {error}")));
    Report::new(findings, checked, &[])
}

/// The newest checkpoint that verifies. Those after it are told when the pass comes to them, if there is
/// a pass; here only if there is none.
fn last_good_checkpoint(
    evidence: &dyn Evidence,
    trust: &Trust,
    inventory: &Inventory,
    findings: &mut Findings,
) -> Option<(u64, TreeHead)> {
    let mut refused = Vec::new();
    for epoch in inventory.checkpoints.iter().rev() {
        match notes::read_checkpoint(evidence, trust, *epoch) {
            Ok(signed) => return Some((*epoch, signed.head)),
            Err(finding) if refused.len() < crate::findings::LISTED_MAX => refused.push(finding),
            Err(_) => {}
        }
    }
    findings.extend(refused);
    None
}

/// The head the archive must continue; told if it cannot.
pub(crate) fn read_since(
    trust: &Trust,
    note: &[u8],
    last: Option<TreeHead>,
    findings: &mut Findings,
) -> Option<TreeHead> {
    if note.len() > NOTE_BYTES_MAX {
        findings.push(Finding::new(Kind::CheckpointInvalid, "the older checkpoint is not one: too large"));
        return None;
    }
    let head = match verify_head(trust, note) {
        Ok(SignedHead { head, .. }) => head,
        Err(finding) => {
            let message = format!("the older checkpoint: {}", finding.message);
            findings.push(Finding { message, ..finding });
            return None;
        }
    };
    let last = last?;
    if head.size > last.size {
        let message =
            format!("the archive ends at {} entries, the older checkpoint had {}", last.size, head.size);
        findings.push(Finding::new(Kind::RolledBack, message));
        return None;
    }
    Some(head)
}

/// Names cosigned checkpoints beside epochs that are not there.
fn tell_cosigned_beyond(inventory: &Inventory, findings: &mut Findings) {
    let epochs = inventory.checkpoints.last().map_or(0, |last| last.saturating_add(1));
    let past = inventory.witnessed.partition_point(|epoch| *epoch < epochs);
    for epoch in inventory.witnessed.iter().skip(past) {
        let message = "its epoch is not there: it came since the listing, or its checkpoint was removed";
        findings.push(Finding::file(Kind::UncoveredFile, witnessed_name(*epoch), message));
    }
}

/// Names every file beyond the last checkpoint, unless a checkpoint written since the listing covers it.
fn tell_beyond(
    evidence: &dyn Evidence,
    trust: &Trust,
    inventory: &Inventory,
    size: u64,
    findings: &mut Findings,
) {
    if inventory.beyond(size).next().is_none() {
        return;
    }
    let now = last_epoch_now(evidence).ok().flatten().filter(|now| Some(now) > inventory.checkpoints.last());
    let newer = now.and_then(|epoch| notes::read_checkpoint(evidence, trust, epoch).ok());
    let covered = newer.map_or(0, |signed| signed.head.size.0);
    for (name, end) in inventory.beyond(size).filter(|(_, end)| *end > covered) {
        let message = format!(
            "no checkpoint covers it (it ends at entry {end}, the last checkpoint at {size}): its epoch is still \
             being written, or its checkpoint was removed"
        );
        findings.push(Finding::file(Kind::UncoveredFile, name, message));
    }
}
