//! What can be typed to sign and verify: a digest, or an artifact with its provenance.

use std::path::PathBuf;

use chancery_client::provenance::Provenance;
use chancery_format::names::{IdempotencyKey, Kid, Purpose};
use chancery_format::{Digest, HashAlgorithm};
use clap::Args;

pub(crate) const SIGN_EXAMPLE: &str = "\
With --sidecar, or where it is said where the file came from, signature, provenance and receipt are kept in
<FILE>.chancery.json: with the file and the registry it is all that `chancery verify` needs. In a git work tree commit and
branch are taken from there. A list as sha256sum writes it (*.sha256, SHA256SUMS) is signed if its files agree with it.

Example:
  chancery sign --kid orders --file model.bin --sidecar --dataset sales-2026-01 --run-id 4711
  chancery sign --kid orders --file checksum.sha256 --sidecar
  chancery sign --kid orders --file invoice.pdf --purpose invoice --receipt invoice.receipt.json";

pub(crate) const VERIFY_EXAMPLE: &str = "\
Without --signature nobody is asked: the file is held against <FILE>.chancery.json, and that against the registry. Of a
list as sha256sum writes it (*.sha256, SHA256SUMS), each file it names is verified, too.

Example:
  chancery verify --file model.bin --signers signers.json
  chancery verify --file checksum.sha256 --signers signers.json --commit 1f0c2d4
  chancery verify --kid orders --file invoice.pdf --signature @invoice.sig";

/// What is signed.
#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
pub(crate) struct Subject {
    /// Digest in lower-case hexadecimal: SHA-256, SHA-384 or SHA-512 by its length
    #[arg(long, value_name = "HEX", value_parser = digest)]
    pub(crate) digest: Option<Digest>,
    /// File whose digest is taken; - is standard input
    #[arg(long, value_name = "FILE")]
    pub(crate) file: Option<PathBuf>,
}

/// How a file is hashed.
#[derive(Debug, Clone, Copy, Args)]
pub(crate) struct Hashing {
    /// Hash function for --file: what the key takes
    #[arg(long = "hash", value_name = "HASH", value_parser = hash, default_value = "sha256", conflicts_with = "digest")]
    pub(crate) algorithm: HashAlgorithm,
}

/// Where a file came from.
#[derive(Debug, Args)]
#[command(next_help_heading = "Provenance")]
pub(crate) struct Origin {
    /// Commit it was made from
    #[arg(long, value_name = "COMMIT", conflicts_with = "digest")]
    pub(crate) commit: Option<String>,
    /// Branch it was made from
    #[arg(long, value_name = "NAME", conflicts_with = "digest")]
    pub(crate) branch: Option<String>,
    /// Data set it was made from
    #[arg(long, value_name = "NAME", conflicts_with = "digest")]
    pub(crate) dataset: Option<String>,
    /// Run of the pipeline that made it
    #[arg(long, value_name = "ID", conflicts_with = "digest")]
    pub(crate) run_id: Option<String>,
}

impl Origin {
    /// Whether anything is said.
    pub(crate) const fn is_said(&self) -> bool {
        self.commit.is_some() || self.branch.is_some() || self.dataset.is_some() || self.run_id.is_some()
    }

    /// As it is recorded; the artifact's own name and length are not known here.
    pub(crate) fn into_provenance(self) -> Provenance {
        let Self { commit, branch, dataset, run_id } = self;
        Provenance { commit, branch, dataset, run_id, ..Provenance::default() }
    }
}

#[derive(Debug, Args)]
pub(crate) struct Sign {
    /// Name of the key
    #[arg(long)]
    pub(crate) kid: Kid,
    #[command(flatten)]
    pub(crate) subject: Subject,
    #[command(flatten)]
    pub(crate) hashing: Hashing,
    /// Use no key for this digest alone: the receipt, under a signed checkpoint, is the signature
    #[arg(long)]
    pub(crate) anchored: bool,
    /// What the signature is for; recorded
    #[arg(long)]
    pub(crate) purpose: Option<Purpose>,
    /// Context to record, a JSON object, or @FILE
    #[arg(long, value_name = "JSON|@FILE")]
    pub(crate) metadata: Option<String>,
    /// Repeat of an earlier request: the same key gives the same signature [default: a fresh one]
    #[arg(long, value_name = "KEY")]
    pub(crate) idempotency_key: Option<IdempotencyKey>,
    /// Fetch the receipt too, check it here, and keep it in this file
    #[arg(long, value_name = "FILE")]
    pub(crate) receipt: Option<PathBuf>,
    /// Signers registry to check the receipt with [default: the service's own]
    #[arg(long, value_name = "FILE")]
    pub(crate) signers: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) origin: Origin,
    /// Take nothing from git
    #[arg(long)]
    pub(crate) no_git: bool,
    /// Keep signature, provenance and receipt in this file, --sidecar=FILE [default: FILE.chancery.json]
    #[arg(long, value_name = "FILE", num_args = 0..=1, require_equals = true, conflicts_with = "digest")]
    pub(crate) sidecar: Option<Option<PathBuf>>,
}

#[derive(Debug, Args)]
pub(crate) struct Verify {
    /// Name of the key
    #[arg(long, required_unless_present = "file")]
    pub(crate) kid: Option<Kid>,
    #[command(flatten)]
    pub(crate) subject: Subject,
    #[command(flatten)]
    pub(crate) hashing: Hashing,
    /// The signature in base64, or @FILE that holds it: the service is asked
    #[arg(long, value_name = "BASE64|@FILE", required_unless_present = "file", requires = "kid")]
    pub(crate) signature: Option<String>,
    /// Signers registry to verify with; nobody is asked
    #[arg(long, value_name = "FILE", env = "CHANCERY_SIGNERS", required_unless_present = "signature")]
    pub(crate) signers: Option<PathBuf>,
    /// What was kept when the file was signed [default: FILE.chancery.json]
    #[arg(long, value_name = "FILE", conflicts_with_all = ["digest", "signature"])]
    pub(crate) sidecar: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) origin: Origin,
}

fn digest(text: &str) -> Result<Digest, String> {
    let algorithm = HashAlgorithm::ALL.into_iter().find(|hash| 2 * hash.bytes() == text.len());
    let algorithm = algorithm.ok_or("a digest has 64, 96 or 128 hexadecimal characters")?;
    Digest::parse(algorithm.as_str(), text).map_err(|error| error.to_string())
}

fn hash(text: &str) -> Result<HashAlgorithm, String> {
    HashAlgorithm::parse(text).ok_or_else(|| "one of sha256, sha384, sha512".to_owned())
}
