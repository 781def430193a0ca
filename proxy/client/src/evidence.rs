//! Bundles of evidence: made of a receipt and a log, and renewed from whatever still has the log.
//!
//! Promises: nothing goes into a bundle that was not verified here first, and what comes out verifies as a whole; what a
//! bundle held it still holds. The issuer is needed for neither: the log is read by its tiles, from the service, from a
//! mirror of anybody's, or from a folder, and of the service's keys only the public ones are asked for.
//!
//! Refuses: a log that shows another tree than the receipt's or the bundle's, checkpoints that its keys did not sign,
//! cosignatures that do not verify. Signature lines by keys that neither the registry nor a policy knows are left out and
//! counted: nobody here can say what they are.
//!
//! | file | does |
//! |---|---|
//! | `publication.rs` | finds the entry that published a registry |
//! | `renewing.rs` | adds a later checkpoint |
//! | `asking.rs` | asks witnesses to cosign one |

mod asking;
mod publication;
mod renewing;

use std::sync::Arc;

use chancery_format::cose::CoseReceipt;
use chancery_format::evidence::{ArchivedObjects, BundledPolicy, Evidence, EvidenceError, known_lines};
use chancery_format::policy::PolicyRefusal;
use chancery_format::{LeafIndex, Receipt, SignersRegistry, TreeSize, VerifiedCheckpoint};

pub use self::asking::AskedWitness;
pub use self::renewing::{Upgrade, Upgraded, upgrade};
use crate::mirror::{MirrorError, Prover, Source, Watcher};

/// Why nothing was made or renewed. Nothing was written.
#[derive(Debug, thiserror::Error)]
pub enum BundleError {
    /// A part does not hold, or contradicts another. Whoever supplied it is at fault.
    #[error(transparent)]
    Evidence(#[from] EvidenceError),
    /// The log could not be read, or shows what it did not sign.
    #[error(transparent)]
    Log(#[from] MirrorError),
    /// The checkpoint has too few cosignatures for the policy given. Later it may have more.
    #[error("the checkpoint of {size} entries: {cause}")]
    NotWitnessed {
        /// Its size.
        size: TreeSize,
        /// Why the policy does not accept it.
        cause: PolicyRefusal,
    },
    /// The registry is not the ledger's, is newer than what the log shows, or stands further on than is searched.
    #[error(
        "no entry from {from} to before {to} publishes this registry: take the file that the ledger published, or say \
         where it stands with --registry-index"
    )]
    Unpublished {
        /// First entry looked at.
        from: u64,
        /// The one after the last.
        to: u64,
    },
    /// The log, or the mirror of it, is behind. Another one, or the same later, is not.
    #[error("the log shown has {shown} entries, and {needed} are needed: it is behind")]
    Behind {
        /// Size shown.
        shown: TreeSize,
        /// Size needed.
        needed: TreeSize,
    },
    /// Two histories: what is at hand and what the log shows are both signed, and exclude each other.
    #[error("the log shows another tree of {0} entries than the one at hand: one of them is a fork")]
    OtherTree(TreeSize),
    /// Proofs are needed, and nothing was named that has them. The caller is at fault.
    #[error("name a log, a mirror or a folder with --log")]
    NoLog,
    /// Witnesses are to be asked, and no policy says which. The caller is at fault.
    #[error("--ask-witnesses asks those of a policy: give --policy")]
    NoPolicy,
}

/// What a bundle is made of.
#[derive(Debug)]
pub struct NewBundle {
    /// The entry with its own checkpoint.
    pub receipt: Receipt,
    /// `signers.json`, byte for byte as the ledger published it; everything is verified by it.
    pub signers: String,
    /// Who must have cosigned the entry's own checkpoint.
    pub policy: Option<BundledPolicy>,
    /// A COSE receipt of the same entry. Nobody but the ledger can make one.
    pub cose: Option<CoseReceipt>,
    /// Where else the entry stands.
    pub archive: Option<ArchivedObjects>,
    /// Which entry published the registry, if the caller knows; it is searched otherwise.
    pub registry_index: Option<LeafIndex>,
}

/// Makes a bundle of a receipt: finds the entry that published the registry and proves it.
pub async fn bundle(
    source: &Arc<Source>,
    asked: NewBundle,
    watcher: &mut dyn Watcher,
) -> Result<Evidence, BundleError> {
    let registry = read_registry(&asked.signers)?;
    let needed = asked.receipt.verify(&registry).map_err(EvidenceError::from)?.checkpoint.head();
    let shown = Shown::read(&source.checkpoint().await?, &registry, asked.policy.as_ref())?;
    let size = shown.checkpoint.head().size;
    if size < needed.size {
        return Err(BundleError::Behind { shown: size, needed: needed.size });
    }
    let mut prover = Prover::open(source, shown.checkpoint.head()).await?;
    if prover.root(needed.size).await? != needed.root {
        return Err(BundleError::OtherTree(needed.size));
    }
    let slice = publication::find(&mut prover, asked.signers, size, asked.registry_index, watcher).await?;
    let mut evidence = Evidence::new(&asked.receipt, slice, &shown.checkpoint)?;
    if let Some(cose) = asked.cose {
        evidence = evidence.with_cose(cose);
    }
    if let Some(policy) = asked.policy {
        evidence = evidence.with_policy(policy);
    }
    if let Some(archive) = asked.archive {
        evidence = evidence.with_archive(archive);
    }
    evidence.verify(&registry, None)?;
    Ok(evidence)
}

fn read_registry(file: &str) -> Result<SignersRegistry, EvidenceError> {
    Ok(SignersRegistry::parse(file.as_bytes())?)
}

/// A checkpoint that was verified, with the lines that could be.
#[derive(Debug)]
struct Shown {
    checkpoint: VerifiedCheckpoint,
    /// Lines by keys that nobody here knows.
    left_out: usize,
}

impl Shown {
    /// Every line that is kept is verified: the ledger's here, the witnesses' by the policy.
    fn read(
        note: &str,
        registry: &SignersRegistry,
        policy: Option<&BundledPolicy>,
    ) -> Result<Self, EvidenceError> {
        let policy = policy.map(BundledPolicy::policy);
        let keys = registry.ledger_keys()?;
        // Of a stranger's note no line would be left, which says less than what is wrong with it.
        keys.verify(note)?;
        let (note, left_out) = known_lines(note, registry, policy)?;
        let checkpoint = keys.verify_standing(&note)?;
        if let Some(policy) = policy {
            policy.judge(checkpoint.clone(), None)?;
        }
        Ok(Self { checkpoint, left_out })
    }
}
