//! The command line of `chancery-verify`, and its exit codes: 0 valid, 1 bad, 2 usage or configuration,
//! 3 evidence missing or unreadable. Everything else is in the library.

mod compare_command;
mod events_command;
mod ledger_command;

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{SystemTime, UNIX_EPOCH};

use chancery_format::evidence::EVIDENCE_BYTES_MAX;
use chancery_format::heads::HeadName;
use chancery_format::policy::{POLICY_BYTES_MAX, Policy};
use chancery_format::receipt::RECEIPT_BYTES_MAX;
use chancery_format::registry::REGISTRY_BYTES_MAX;
use chancery_format::{Kid, StreamName, Timestamp};
use chancery_verify::consistency::{self, ProofFrom};
use chancery_verify::documents::{self, Documents, Form};
use chancery_verify::events::signers::Signers;
use chancery_verify::evidence::{Directory, Evidence, EvidenceError, S3, S3Config};
use chancery_verify::findings::{Finding, Findings, Kind};
use chancery_verify::progress::{Progress, Silent, Terminal};
use chancery_verify::{Report, Trust, completeness, evidence_file, explain, receipt};
use clap::{Args, Parser, Subcommand};

use self::compare_command::CompareArgs;
use self::events_command::EventsArgs;
use self::ledger_command::LedgerArgs;

/// Stands for the policy in the registry, where a policy's file is asked for.
const REGISTRY_POLICY: &str = "registry";
/// Largest checkpoint or proof read from the command line.
const NOTE_BYTES_MAX: usize = 1024 * 1024;
/// Largest message read: what dialects take is smaller.
const MESSAGE_BYTES_MAX: usize = 1024 * 1024;

const AFTER_HELP: &str = "\
Exit codes: 0 valid · 1 checked and found bad · 2 usage or configuration · 3 evidence missing or unreadable.

Examples:
  chancery-verify ledger ./archive --signers signers.json
  chancery-verify receipt receipt.json --signers signers.json
  chancery-verify evidence invoice-7.evidence --signers signers.json
  chancery-verify compare ./archive ./other-archive --signers signers.json";

const EXPLAIN_HELP: &str = "\
Shows one entry and, step by step, how its hash leads to the signed root: each sibling, its side, what comes out, and
who signed. The entry, its place, its signature and the path are verified; the rest of the archive is not.

Examples:
  chancery-verify explain ./archive 1234 --signers signers.json
  A receipt explains its own entry:
    chancery-verify explain receipt.json --signers signers.json";

const RECEIPT_HELP: &str = "\
Checks one receipt offline: checkpoint signature, inclusion proof, event hash, and the signature inside.

Examples:
  chancery-verify receipt receipt.json --signers signers.json
  A signature over a message itself (AWS KMS RAW, Vault, kernel manifests, with Ed25519 or ML-DSA):
    chancery-verify receipt receipt.json --message manifest.txt --signers signers.json
  Only if enough witnesses cosigned its checkpoint, by a C2SP tlog-policy:
    chancery-verify receipt receipt.json --policy witnesses.policy --signers signers.json
  By the policy that the registry has of its own ledger (a file of that name is ./registry):
    chancery-verify receipt receipt.json --policy registry --signers signers.json";

const COMPLETENESS_HELP: &str = "\
Checks that the entries given are all that the ledger has of a stream, or of a key pair, below a size: k entries and
two short proofs, however large the ledger is. `chancery completeness` fetches such a file.

Examples:
  chancery-verify completeness orders.jsonl --stream orders --signers signers.json
  chancery-verify completeness key.jsonl --key orders-2026 --signers signers.json --json";
const EVIDENCE_HELP: &str = "\
Checks an .evidence file offline: the entry under its checkpoint, the COSE receipt, the signature inside, the registry with
the proof that the ledger published it, each renewal, and that all are of one history. Says of five ways which held.

A file cannot vouch for its own keys. Give --signers (whom you trust), or --policy (which log and witnesses you trust; it
must accept a checkpoint over the registry in the file), or both. With neither nothing is decided: exit code 3.
`--policy registry` is the policy in the registry you give by --signers, never the file's own.

Examples:
  chancery-verify evidence invoice-7.evidence --signers signers.json
  With nothing but the witnesses of today, who may sign by other algorithms than those of then:
    chancery-verify evidence invoice-7.evidence --policy witnesses-2036.policy
  chancery-verify evidence invoice-7.evidence --signers signers.json --policy witnesses.policy --json";

const CONSISTENCY_HELP: &str = "\
Checks that NEW continues OLD: same ledger, nothing below OLD's size changed. The proof is derived from an
archive, or read from a file of hashes (hex or base64, one per line).

Examples:
  chancery-verify consistency old.txt new.txt --archive ./archive --signers signers.json
  chancery-verify consistency old.txt new.txt --proof proof.txt --signers signers.json";

const MANIFEST_HELP: &str = "\
Forms: go (hash of the canonical manifest), kernel (manifest and time, as text), consumer (what agent-manager takes:
for RSA the hash is hashed again). Which one it is, is found out and said; --form accepts one only.

Examples:
  chancery-verify manifest signed.json --signers kernel-keys.json
  chancery-verify manifest manifest_signature.json --manifest manifest.json --signers kernel-keys.json
  chancery-verify manifest signed.json --signers kernel-keys.json --form consumer";

const PROOF_HELP: &str = "\
Ledger proofs (their rows are looked for beside them, as <proof>.ledger_rows.jsonl.gz), proof packages (every line,
link and role's signature), combined proofs (each signer counts once). What a form does not bind is a warning.

Examples:
  chancery-verify proof proof.json --rows rows.jsonl.gz --signers finance-keys.json
  chancery-verify proof proof_package.json --roles FinanceLead,SecurityEngineer --signers finance-keys.json
  chancery-verify proof combined.json --quorum 3 --signers keys.json";

const SNAPSHOT_HELP: &str = "\
Snapshots of the reasoning graph, those with a sealed payload and those of nodes and edges.

Example:
  chancery-verify snapshot snapshot.json --signers signers.json --json";

/// Verifies Chancery ledgers, receipts and checkpoints offline, with the signers registry alone.
#[derive(Parser)]
#[command(version, after_help = AFTER_HELP)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Args)]
struct Common {
    /// The signers registry to trust
    #[arg(long, value_name = "FILE")]
    signers: PathBuf,
    /// Print one JSON object instead of text
    #[arg(long)]
    json: bool,
}

/// Files of one kind that existing services signed.
#[derive(Args)]
struct Signed {
    /// The documents, JSON; any of them may be .gz
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
    /// Public keys, in any shape the platform keeps them
    #[arg(short, long, value_name = "FILE")]
    signers: PathBuf,
    /// Print one JSON object instead of text
    #[arg(long)]
    json: bool,
}

#[derive(Subcommand)]
enum Command {
    /// Verify a whole archive, or a sample of it
    Ledger(Box<LedgerArgs>),
    /// Compare two archives of one ledger: does one continue the other, and if not, where do they part?
    Compare(CompareArgs),
    /// Verify audit chains that other writers made, from their exports or their tables
    Events(Box<EventsArgs>),
    /// Verify manifests that a kernel signed
    #[command(after_help = MANIFEST_HELP)]
    Manifest {
        #[command(flatten)]
        signed: Signed,
        /// The manifest, where the files hold its signature alone
        #[arg(long, value_name = "FILE")]
        manifest: Option<PathBuf>,
        /// The only form that is accepted: go, kernel, consumer; or auto
        #[arg(long, default_value = "auto", value_name = "NAME")]
        form: String,
    },
    /// Verify proofs over ledger rows, and those of several signers
    #[command(after_help = PROOF_HELP)]
    Proof {
        #[command(flatten)]
        signed: Signed,
        /// Rows of a ledger proof, .jsonl or .jsonl.gz
        #[arg(long, value_name = "FILE")]
        rows: Option<PathBuf>,
        /// Roles that must have signed
        #[arg(long, value_name = "ROLE", value_delimiter = ',')]
        roles: Vec<String>,
        /// How many roles, or signers, must have signed
        #[arg(long, value_name = "N")]
        quorum: Option<u64>,
    },
    /// Verify snapshots of the reasoning graph
    #[command(after_help = SNAPSHOT_HELP)]
    Snapshot {
        #[command(flatten)]
        signed: Signed,
    },
    /// Verify one receipt
    #[command(after_help = RECEIPT_HELP)]
    Receipt {
        /// The receipt, JSON
        file: PathBuf,
        /// What was signed: it must be the message whose digest the receipt holds
        #[arg(long, value_name = "FILE")]
        message: Option<PathBuf>,
        /// Who must have cosigned its checkpoint: a C2SP tlog-policy, or the word `registry` for the registry's own
        #[arg(long, value_name = "FILE|registry")]
        policy: Option<PathBuf>,
        #[command(flatten)]
        common: Common,
    },
    /// Verify that these are all entries of a stream or a key
    #[command(after_help = COMPLETENESS_HELP, group(clap::ArgGroup::new("whose").required(true)))]
    Completeness {
        /// The proof, JSON Lines
        file: PathBuf,
        /// The stream it must be about
        #[arg(long, value_name = "NAME", group = "whose")]
        stream: Option<StreamName>,
        /// The key pair it must be about: a signer_kid of the registry
        #[arg(long, value_name = "SIGNER_KID", group = "whose")]
        key: Option<Kid>,
        #[command(flatten)]
        common: Common,
    },
    /// Verify an .evidence file: a receipt with all that proves it, and its renewals
    #[command(after_help = EVIDENCE_HELP)]
    Evidence {
        /// The file
        file: PathBuf,
        /// The signers registry to trust [default: the one in the file, as far as --policy vouches for it]
        #[arg(long, value_name = "FILE")]
        signers: Option<PathBuf>,
        /// Who must have cosigned its checkpoint, or that of a renewal: a C2SP tlog-policy, or `registry` for the one in
        /// --signers
        #[arg(long, value_name = "FILE|registry")]
        policy: Option<PathBuf>,
        /// What was signed: it must be the message whose digest the entry holds
        #[arg(long, value_name = "FILE")]
        message: Option<PathBuf>,
        /// Print one JSON object instead of text
        #[arg(long)]
        json: bool,
    },
    /// Show one entry, and its path up to the signed root
    #[command(after_help = EXPLAIN_HELP)]
    Explain {
        /// A folder, s3://bucket/prefix, or a receipt
        source: String,
        /// Which entry; a receipt has its own
        index: Option<u64>,
        #[command(flatten)]
        common: Common,
    },
    /// Verify that one checkpoint continues another
    #[command(after_help = CONSISTENCY_HELP)]
    Consistency {
        /// The older checkpoint
        old: PathBuf,
        /// The newer checkpoint
        new: PathBuf,
        #[command(flatten)]
        common: Common,
        /// Derive the proof from this archive: a folder, or s3://bucket/prefix
        #[arg(long, value_name = "ARCHIVE", conflicts_with = "proof")]
        archive: Option<String>,
        /// Read the proof from this file
        #[arg(long, value_name = "FILE")]
        proof: Option<PathBuf>,
    },
}

/// Why no report can be given.
enum Stop {
    /// Exit 2.
    Usage(String),
    /// Exit 3, as a report.
    Unreadable(Finding),
}

/// The verdict, and whether the report that was asked for could not be written.
struct Verdict {
    report: Report,
    unwritten: Option<String>,
}

impl From<Report> for Verdict {
    fn from(report: Report) -> Self {
        Self { report, unwritten: None }
    }
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    let json = match &cli.command {
        Command::Ledger(args) => args.common.json,
        Command::Compare(args) => args.common.json,
        Command::Receipt { common, .. }
        | Command::Completeness { common, .. }
        | Command::Explain { common, .. }
        | Command::Consistency { common, .. } => common.json,
        Command::Events(args) => args.json,
        Command::Evidence { json, .. } => *json,
        Command::Manifest { signed, .. } | Command::Proof { signed, .. } | Command::Snapshot { signed } => {
            signed.json
        }
    };
    let Verdict { report, unwritten } = match run(cli.command) {
        Ok(verdict) => verdict,
        Err(Stop::Usage(message)) => {
            drop(writeln!(std::io::stderr(), "chancery-verify: {message}"));
            return ExitCode::from(2);
        }
        Err(Stop::Unreadable(finding)) => {
            let mut findings = Findings::default();
            findings.push(finding);
            Report::of(findings, serde_json::json!({}), String::new()).into()
        }
    };
    let text = if json { format!("{}\n", report.to_json()) } else { report.to_text() };
    let told = std::io::stdout().write_all(text.as_bytes()).and_then(|()| std::io::stdout().flush());
    if let Some(message) = &unwritten {
        drop(writeln!(std::io::stderr(), "chancery-verify: {message}"));
    }
    // A verdict nobody received is no success, and neither is a report nobody has; a bad verdict stays one.
    match (told, unwritten) {
        (Err(_), _) => ExitCode::from(3),
        (Ok(()), Some(_)) if report.exit_code() == 0 => ExitCode::from(2),
        (Ok(()), _) => ExitCode::from(report.exit_code()),
    }
}

fn run(command: Command) -> Result<Verdict, Stop> {
    let report = match command {
        Command::Ledger(args) => return ledger_command::run(&args),
        Command::Compare(args) => return compare_command::run(&args),
        Command::Explain { source, index, common } => explain_one(&source, index, &trust(&common)?),
        Command::Events(args) => events_command::run(&args),
        Command::Manifest { signed, manifest, form } => {
            let form = named::<Form>(&form).map_err(|error| Stop::Usage(error.to_string()))?;
            let documents = Documents::Manifests { manifest, form };
            Ok(documents::verify(&signed.files, &documents, &keys(&signed.signers)?))
        }
        Command::Proof { signed, rows, roles, quorum } => {
            let documents = Documents::Proofs { rows, roles, quorum };
            Ok(documents::verify(&signed.files, &documents, &keys(&signed.signers)?))
        }
        Command::Snapshot { signed } => {
            Ok(documents::verify(&signed.files, &Documents::Snapshots, &keys(&signed.signers)?))
        }
        Command::Receipt { file, message, policy, common } => {
            let trust = trust(&common)?;
            let message = message.map(|path| read(&path, MESSAGE_BYTES_MAX)).transpose()?;
            let policy = policy.map(|path| witnesses(&path, Some(&trust))).transpose()?;
            let receipt = read(&file, RECEIPT_BYTES_MAX)?;
            Ok(receipt::verify(&receipt, message.as_deref(), policy.as_ref(), &trust))
        }
        Command::Completeness { file, stream, key, common } => {
            let of_key = key.as_ref().map(HeadName::of_key);
            let name = of_key.or_else(|| stream.as_ref().map(HeadName::of_stream));
            let name = name.ok_or_else(|| Stop::Usage("whose? Give --stream or --key".into()))?;
            let trust = trust(&common)?;
            let opened = std::fs::File::open(&file)
                .map_err(|error| unreadable(&file, &EvidenceError::Unreadable(error.to_string())))?;
            let mut input = std::io::BufReader::new(opened);
            Ok(with_progress(|progress| completeness::verify(&mut input, &name, &trust, progress)))
        }
        Command::Evidence { file, signers, policy, message, .. } => {
            let trust = signers.map(|path| registry(&path)).transpose()?;
            let message = message.map(|path| read(&path, MESSAGE_BYTES_MAX)).transpose()?;
            let policy = policy.map(|path| witnesses(&path, trust.as_ref())).transpose()?;
            let file = read(&file, EVIDENCE_BYTES_MAX)?;
            Ok(evidence_file::verify(&file, message.as_deref(), policy.as_ref(), trust.as_ref()))
        }
        Command::Consistency { old, new, common, archive, proof } => {
            let trust = trust(&common)?;
            let (old, new) = (read(&old, NOTE_BYTES_MAX)?, read(&new, NOTE_BYTES_MAX)?);
            let text = proof.map(|path| read(&path, NOTE_BYTES_MAX)).transpose()?;
            let archive = archive.map(|archive| evidence(&archive)).transpose()?;
            let proof = match (&text, &archive) {
                (Some(text), _) => ProofFrom::Text(text),
                (None, Some(archive)) => ProofFrom::Archive(archive.as_ref()),
                (None, None) => ProofFrom::Nothing,
            };
            Ok(consistency::verify(&old, &new, &proof, &trust))
        }
    }?;
    Ok(report.into())
}

/// What an option names; `auto` is nothing in particular.
fn named<T: std::str::FromStr>(word: &str) -> Result<Option<T>, T::Err> {
    if word == "auto" { Ok(None) } else { word.parse().map(Some) }
}

/// Keys in any of the platform's shapes; configuration, like the registry.
fn keys(path: &Path) -> Result<Signers, Stop> {
    let usage = |reason: &dyn std::fmt::Display| Stop::Usage(format!("{}: {reason}", path.display()));
    let text = read_bounded(path, REGISTRY_BYTES_MAX).map_err(|error| usage(&error))?;
    let text = String::from_utf8(text).map_err(|error| usage(&error))?;
    Signers::parse(&text).map_err(|error| usage(&error))
}

/// The time of this machine; a report states when it was made.
fn now() -> Timestamp {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let ms = i64::try_from(since.as_millis()).unwrap_or(i64::MAX);
    Timestamp::from_unix_ms(ms).unwrap_or_else(|_| Timestamp::from_unix_ms(0).expect("0 is a time"))
}

/// With progress where somebody watches.
fn with_progress<T>(work: impl FnOnce(&mut dyn Progress) -> T) -> T {
    match Terminal::on_stderr() {
        Some(mut terminal) => work(&mut terminal),
        None => work(&mut Silent),
    }
}

fn explain_one(source: &str, index: Option<u64>, trust: &Trust) -> Result<Report, Stop> {
    let is_file = !source.starts_with("s3://") && Path::new(source).is_file();
    match (is_file, index) {
        (true, None) => Ok(explain::receipt(&read(Path::new(source), RECEIPT_BYTES_MAX)?, trust)),
        (true, Some(_)) => Err(Stop::Usage("a receipt explains its own entry: give no index".into())),
        (false, Some(index)) => Ok(explain::entry(evidence(source)?.as_ref(), index, trust)),
        (false, None) => Err(Stop::Usage("which entry? Give its index after the archive".into())),
    }
}

/// The registry is configuration: without one that parses there is nothing to verify against.
fn trust(common: &Common) -> Result<Trust, Stop> {
    registry(&common.signers)
}

fn registry(path: &Path) -> Result<Trust, Stop> {
    let usage = |reason: &dyn std::fmt::Display| Stop::Usage(format!("{}: {reason}", path.display()));
    let json = read_bounded(path, REGISTRY_BYTES_MAX).map_err(|error| usage(&error))?;
    Trust::parse(&json).map_err(|error| usage(&error))
}

fn evidence(archive: &str) -> Result<Box<dyn Evidence>, Stop> {
    if archive.starts_with("s3://") {
        let config = S3Config::from_environment(archive, |name| std::env::var(name).ok());
        let bucket = config.and_then(S3::new).map_err(|error| Stop::Usage(error.to_string()))?;
        return Ok(Box::new(bucket));
    }
    match Directory::open(Path::new(archive)) {
        Ok(folder) => Ok(Box::new(folder)),
        Err(error) => Err(unreadable(Path::new(archive), &error)),
    }
}

/// Who must have cosigned: by a file, or by the registry that was given.
fn witnesses(path: &Path, trust: Option<&Trust>) -> Result<Policy, Stop> {
    if path == Path::new(REGISTRY_POLICY) {
        let missing = || Stop::Usage("--policy registry is the policy in --signers: give that".into());
        let policy = trust.ok_or_else(missing)?.registry().policy();
        return policy.map_err(|error| Stop::Usage(error.to_string()));
    }
    let policy = Policy::parse(&read(path, POLICY_BYTES_MAX)?);
    policy.map_err(|error| Stop::Usage(format!("{}: {error}", path.display())))
}

fn read(path: &Path, bytes_max: usize) -> Result<Vec<u8>, Stop> {
    read_bounded(path, bytes_max).map_err(|error| unreadable(path, &error))
}

fn unreadable(path: &Path, error: &EvidenceError) -> Stop {
    let kind = match error {
        EvidenceError::NotFound => Kind::MissingFile,
        EvidenceError::Unreadable(_) => Kind::UnreadableFile,
        EvidenceError::TooLarge(_) => Kind::OversizedFile,
    };
    Stop::Unreadable(Finding::file(kind, path.display().to_string(), error.to_string()))
}

fn read_bounded(path: &Path, bytes_max: usize) -> Result<Vec<u8>, EvidenceError> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    Directory::open(folder)?.open(&name, bytes_max)
}
