//! `chancery-verify compare`: its options, and where the proof goes.

use std::path::{Path, PathBuf};

use chancery_verify::compare::{self, Compared, PROOF_BYTES_MAX};
use chancery_verify::save::Destination;
use clap::Args;

use crate::{Common, Stop, Verdict, evidence, read, trust};

const HELP: &str = "\
Two archives of one ledger: one continues the other, or there are two histories. Where they part is found through their
trees, from the signed roots down, with few reads; both entries are read and hashed at the end. If both checkpoints are
signed and exclude each other, that is proof against the ledger's key, and it can be kept and shown to anybody.

Exit codes: 0 one continues the other · 1 they differ, or an archive is bad · 3 evidence is missing.

Examples:
  chancery-verify compare ./archive s3://audit-archive/prod --signers signers.json
  Keep the proof, if there is one to keep:
    chancery-verify compare ./archive ./from-backup --signers signers.json --save fork.json
  Check a proof that was kept, here or by `chancery mirror`:
    chancery-verify compare fork.json --signers signers.json";

/// Everything the command takes.
#[derive(Args)]
#[command(after_help = HELP)]
pub(crate) struct CompareArgs {
    /// An archive: a folder, or s3://bucket/prefix; alone, a proof that was kept
    first: String,
    /// The other archive
    second: Option<String>,
    #[command(flatten)]
    pub(crate) common: Common,
    /// Where to keep the proof, if there are two histories
    #[arg(long, value_name = "FILE", requires = "second")]
    save: Option<PathBuf>,
}

/// Compares, if both can be opened.
pub(crate) fn run(args: &CompareArgs) -> Result<Verdict, Stop> {
    let trust = trust(&args.common)?;
    let Some(second) = &args.second else {
        if args.first.starts_with("s3://") || Path::new(&args.first).is_dir() {
            return Err(Stop::Usage("with what? Give a second archive".into()));
        }
        return Ok(compare::kept_proof(&read(Path::new(&args.first), PROOF_BYTES_MAX)?, &trust).into());
    };
    let unusable = |path: &Path, error: std::io::Error| format!("proof {}: {error}", path.display());
    let destination = args.save.as_deref().map(|path| {
        Destination::check(path).map(|destination| (destination, path)).map_err(|error| unusable(path, error))
    });
    let destination = destination.transpose().map_err(Stop::Usage)?;
    let (one, two) = (evidence(&args.first)?, evidence(second)?);
    let names = [args.first.as_str(), second.as_str()];
    let Compared { report, proof } = compare::archives(names, [one.as_ref(), two.as_ref()], &trust);
    let unwritten = destination.zip(proof).and_then(|((destination, path), proof)| {
        destination.write(&proof).map_err(|error| unusable(path, error)).err()
    });
    Ok(Verdict { report, unwritten })
}
