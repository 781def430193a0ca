//! Adds a later checkpoint to a bundle: one that the log, a mirror or a witness shows now.

use std::sync::Arc;

use chancery_format::evidence::{BundledPolicy, Evidence, EvidenceError, Renewal, RenewalProofs};
use chancery_format::note::Note;
use chancery_format::{LeafIndex, TreeHead, TreeSize};

use super::asking::{self, AskedWitness};
use super::{BundleError, Shown, publication, read_registry};
use crate::mirror::{Prover, Source, SourceOptions, Watcher};

/// What a bundle is to be renewed with. Whatever is not given is the bundle's own.
#[derive(Debug, Clone, Default)]
pub struct Upgrade {
    /// A newer `signers.json`, for when the ledger's key was rotated; its publication is proven too.
    pub signers: Option<String>,
    /// Who must have cosigned the new checkpoint.
    pub policy: Option<BundledPolicy>,
    /// The new checkpoint, if it is not the one that the log shows: such as one to which a witness added its line.
    pub checkpoint: Option<String>,
    /// Which entry published the newer registry, if the caller knows.
    pub registry_index: Option<LeafIndex>,
    /// How to reach the policy's witnesses, to ask them for cosignatures first; whatever its address.
    pub ask: Option<SourceOptions>,
}

/// What came of it.
#[derive(Debug)]
pub struct Upgraded {
    /// The bundle, with all it held before.
    pub evidence: Evidence,
    /// Whether a renewal was added.
    pub renewed: bool,
    /// Size of its newest checkpoint before.
    pub before: TreeSize,
    /// The checkpoint that was looked at.
    pub shown: TreeHead,
    /// Whose cosignatures of it count, by their names in the newest policy.
    pub cosigners: Vec<String>,
    /// Its signature lines by keys that neither the registry nor a policy knows; they are not in the bundle.
    pub left_out: usize,
    /// What witnesses said that were asked.
    pub asked: Vec<AskedWitness>,
}

/// Renews a bundle if there is something newer. Without a source it can be renewed only by more signatures on the
/// checkpoint it has.
pub async fn upgrade(
    source: Option<&Arc<Source>>,
    evidence: Evidence,
    asked: Upgrade,
    watcher: &mut dyn Watcher,
) -> Result<Upgraded, BundleError> {
    let newest = evidence.newest_registry().file().to_owned();
    let registry = read_registry(asked.signers.as_ref().unwrap_or(&newest))?;
    let held = evidence.verify(&registry, None)?;
    let before = held.renewals.last().unwrap_or(&held.entry.checkpoint).head();
    let note = match (&asked.checkpoint, source) {
        (Some(note), _) => note.clone(),
        (None, Some(source)) => source.checkpoint().await?,
        (None, None) => return Err(BundleError::NoLog),
    };
    let policy = asked.policy.as_ref().or(evidence.newest_policy());
    let mut shown = Shown::read(&note, &registry, policy)?;
    let head = shown.checkpoint.head();
    let (mut opened, mut answers) = (None, Vec::new());
    if let Some(dial) = &asked.ask {
        let policy = policy.ok_or(BundleError::NoPolicy)?;
        let source = source.ok_or(BundleError::NoLog)?;
        let mut prover = prover(source, &shown, &asked, &registry, Some(policy)).await?;
        let (note, said) = asking::ask(&mut prover, &shown.checkpoint, policy.policy(), dial).await?;
        let left_out = shown.left_out;
        shown = Shown { left_out, ..Shown::read(&note, &registry, Some(policy))? };
        (opened, answers) = (Some(prover), said);
    }
    let cosigners = cosigners(&shown, policy, asked.policy.is_some())?;
    let done = |evidence, renewed| Upgraded {
        evidence,
        renewed,
        before: before.size,
        shown: head,
        cosigners,
        left_out: shown.left_out,
        asked: answers,
    };
    if !is_news(&before, &evidence, &shown)? {
        return Ok(done(evidence, false));
    }
    let newer = asked.signers.clone().filter(|signers| *signers != newest);
    let mut renewal = match evidence.proofs_at(head.size).filter(|_| newer.is_none()) {
        Some(proofs) => Renewal::new(shown.checkpoint.note().to_owned(), proofs)?,
        None => {
            let mut prover = match opened {
                Some(opened) => opened,
                None => {
                    let source = source.ok_or(BundleError::NoLog)?;
                    prover(source, &shown, &asked, &registry, policy).await?
                }
            };
            let proofs = prove(&mut prover, &evidence, &before, &head).await?;
            let renewal = Renewal::new(shown.checkpoint.note().to_owned(), proofs)?;
            match newer {
                Some(file) => {
                    let at = asked.registry_index;
                    let found = publication::find(&mut prover, file, head.size, at, watcher).await?;
                    renewal.with_registry(found)
                }
                None => renewal,
            }
        }
    };
    let same = |policy: &BundledPolicy| evidence.newest_policy().is_some_and(|known| known == policy);
    if let Some(policy) = asked.policy.filter(|policy| !same(policy)) {
        renewal = renewal.with_policy(policy);
    }
    let evidence = evidence.with_renewal(renewal)?;
    evidence.verify(&registry, None)?;
    Ok(done(evidence, true))
}

/// Whose cosignatures count. A policy that was asked for must be met; the bundle's own is only told of.
fn cosigners(shown: &Shown, policy: Option<&BundledPolicy>, must: bool) -> Result<Vec<String>, BundleError> {
    let Some(policy) = policy else { return Ok(Vec::new()) };
    let size = shown.checkpoint.head().size;
    let refused = |cause| BundleError::NotWitnessed { size, cause };
    let judged = policy.policy().judge(shown.checkpoint.clone(), None).map_err(refused)?;
    let names = judged.counted().iter().map(|(name, _)| name.to_string()).collect();
    if must {
        judged.into_accepted().map_err(refused)?;
    }
    Ok(names)
}

/// Whether a checkpoint says more than the bundle's newest: more entries, or a signature by one more key.
fn is_news(before: &TreeHead, evidence: &Evidence, shown: &Shown) -> Result<bool, BundleError> {
    let head = shown.checkpoint.head();
    if head.size != before.size {
        return Ok(head.size > before.size);
    }
    if head.root != before.root {
        return Err(BundleError::OtherTree(head.size));
    }
    let known = signers(evidence.newest_note())?;
    Ok(signers(shown.checkpoint.note())?.iter().any(|signer| !known.contains(signer)))
}

/// Name and key id of each line.
fn signers(note: &str) -> Result<Vec<(String, [u8; 4])>, EvidenceError> {
    let note = Note::parse(note).map_err(chancery_format::checkpoint::CheckpointError::from)?;
    Ok(note.signatures.iter().map(|line| (line.name.to_owned(), line.key_id)).collect())
}

/// The log whose tiles lead to the new checkpoint: at its size, or, if the checkpoint came by another way, further on.
async fn prover(
    source: &Arc<Source>,
    shown: &Shown,
    asked: &Upgrade,
    registry: &chancery_format::SignersRegistry,
    policy: Option<&BundledPolicy>,
) -> Result<Prover, BundleError> {
    let head = shown.checkpoint.head();
    if asked.checkpoint.is_none() {
        return Ok(Prover::open(source, head).await?);
    }
    let latest = Shown::read(&source.checkpoint().await?, registry, policy)?.checkpoint.head();
    if latest.size < head.size {
        return Err(BundleError::Behind { shown: latest.size, needed: head.size });
    }
    let mut prover = Prover::open(source, latest).await?;
    match prover.root(head.size).await? == head.root {
        true => Ok(prover),
        false => Err(BundleError::OtherTree(head.size)),
    }
}

async fn prove(
    prover: &mut Prover,
    evidence: &Evidence,
    before: &TreeHead,
    head: &TreeHead,
) -> Result<RenewalProofs, BundleError> {
    let published = evidence.registry().index();
    if !head.size.covers(published) {
        return Err(BundleError::Behind {
            shown: head.size,
            needed: TreeSize(published.0.saturating_add(1)),
        });
    }
    if prover.root(before.size).await? != before.root {
        return Err(BundleError::OtherTree(before.size));
    }
    Ok(RenewalProofs {
        entry: prover.inclusion(evidence.receipt().index(), head.size).await?,
        registry: prover.inclusion(published, head.size).await?,
        consistency: prover.consistency(before.size, head.size).await?,
    })
}
