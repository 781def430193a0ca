//! `chancery-verify ledger`: its options; a whole archive, or a sample of it.

use std::path::PathBuf;
use std::time::Instant;

use chancery_verify::html::{self, Setting};
use chancery_verify::ledger::{self, Options, THREADS_MAX};
use chancery_verify::progress::{Progress, Silent, Terminal};
use chancery_verify::sample::{self, SAMPLE_MAX, SEED_BYTES_MAX};
use chancery_verify::save::Destination;
use clap::Args;

use crate::{Common, NOTE_BYTES_MAX, Stop, Verdict, evidence, now, read, trust, witnesses};

const HELP: &str = "\
Derives every leaf, event hash, stream chain, tile and root again from the archived entries; checks every
checkpoint, registry version and individual signature, and whether each key was active at its index.

Examples:
  A folder, findings as JSON:
    chancery-verify ledger ./archive --signers signers.json --json
  A bucket (AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_SESSION_TOKEN, AWS_REGION, AWS_ENDPOINT_URL,
  AWS_CA_BUNDLE; without keys, unsigned requests):
    AWS_REGION=eu-central-1 chancery-verify ledger s3://audit-archive/prod --signers signers.json
  Must continue the checkpoint kept from last year:
    chancery-verify ledger ./archive --signers signers.json --since checkpoint-2025
  How far it is witnessed, by a C2SP tlog-policy; not valid if nothing is, or a cosigned checkpoint is false:
    chancery-verify ledger ./archive --signers signers.json --policy witnesses.policy
  A report for people, one file to read, mail or print; the exit code stays that of the verification:
    chancery-verify ledger ./archive --signers signers.json --report report.html
  Hours of it, interrupted and started again with the same words; the file is removed with the verdict, and stays if
  evidence was missing or could not be read, for the run after that:
    chancery-verify ledger s3://audit-archive/prod --signers signers.json --resume run.state
  A sample, large enough to say with 99 % confidence that fewer than 1 in 1,000 entries are bad:
    chancery-verify ledger ./archive --signers signers.json --confidence 0.99 --tolerate 0.001

A state of --resume is trusted as your own word: keep it where you keep the registry. It is refused for another ledger,
registry, --strict, --since, --policy or version, and if what was verified is no longer there. What was verified is not read again.
It cannot be had together with --report, which counts from the first entry on, nor with samples.

Samples: if a share f of the entries is bad, n entries drawn uniformly, none twice, miss all of them with a probability
of at most (1-f)^n; --tolerate f takes the smallest n for which that is at most 1 - confidence, --sample n tells the f.
Each drawn entry is verified as its receipt would be. A sample says nothing about events that were left out, nor about
the chains and the order of streams, nor about acts of people. Nobody who can write the archive may choose the seed.";

/// Everything the command takes.
#[derive(Args)]
#[command(after_help = HELP)]
pub(crate) struct LedgerArgs {
    /// A folder, or s3://bucket/prefix
    archive: String,
    #[command(flatten)]
    pub(crate) common: Common,
    /// An older checkpoint that the archive must continue
    #[arg(long, value_name = "FILE")]
    since: Option<PathBuf>,
    /// Who must have cosigned its archived cosigned checkpoints: a C2SP tlog-policy
    #[arg(long, value_name = "FILE", conflicts_with_all = ["sample", "tolerate"])]
    policy: Option<PathBuf>,
    /// Verify Ed25519 signatures one by one instead of in batches
    #[arg(long)]
    strict: bool,
    /// Also tell of every key: born where, attested by what, since when
    #[arg(long)]
    keys: bool,
    /// Also tell every act of people: who asked, who approved, who halted what and when
    #[arg(long)]
    acts: bool,
    /// Also tell which keys were valid at this index
    #[arg(long, value_name = "INDEX")]
    at: Option<u64>,
    /// Also write a report for people: one HTML file, from what was verified alone
    #[arg(long, value_name = "FILE.html")]
    report: Option<PathBuf>,
    /// Write down on the way how far it is, and go on from there if the file is there: for runs that are interrupted
    #[arg(long, value_name = "FILE", conflicts_with_all = ["report", "sample", "tolerate"])]
    resume: Option<PathBuf>,
    /// Verify only so many entries, drawn at random
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=SAMPLE_MAX))]
    #[arg(conflicts_with_all = ["tolerate", "strict", "keys", "acts", "at", "report"])]
    sample: Option<u64>,
    /// Verify as many entries, drawn at random, as it takes to find it if a share as large as this is bad
    #[arg(long, value_name = "SHARE", value_parser = share)]
    #[arg(conflicts_with_all = ["strict", "keys", "acts", "at", "report"])]
    tolerate: Option<f64>,
    /// With which confidence a sample is to speak
    #[arg(long, value_name = "SHARE", value_parser = share, default_value = "0.99")]
    confidence: f64,
    /// Draw the same sample again: the seed that the other report states [default: random]
    #[arg(long, value_name = "TEXT", value_parser = seed)]
    seed: Option<String>,
    /// Worker threads [default: one per core, eight for s3://]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=THREADS_MAX as i64))]
    threads: Option<u16>,
}

/// Something between nothing and all.
fn share(text: &str) -> Result<f64, String> {
    let share = text.parse::<f64>().ok().filter(|share| *share > 0.0 && *share < 1.0);
    share.ok_or_else(|| "a number above 0 and below 1".to_owned())
}

fn seed(text: &str) -> Result<String, String> {
    if text.is_empty() || text.len() > SEED_BYTES_MAX || text.chars().any(char::is_control) {
        return Err(format!("1 to {SEED_BYTES_MAX} bytes without control characters"));
    }
    Ok(text.to_owned())
}

/// Verifies, and writes the report if one is asked for.
pub(crate) fn run(args: &LedgerArgs) -> Result<Verdict, Stop> {
    let since = args.since.as_deref().map(|path| read(path, NOTE_BYTES_MAX)).transpose()?;
    let mut terminal = Terminal::on_stderr();
    let mut silent = Silent;
    let progress: &mut dyn Progress = match &mut terminal {
        Some(terminal) => terminal,
        None => &mut silent,
    };
    match sample_size(args)? {
        Some(entries) => run_sample(args, entries, since, progress),
        None => run_whole(args, since, progress),
    }
}

/// How many entries to draw; `None`: all are to be verified, in order.
fn sample_size(args: &LedgerArgs) -> Result<Option<u64>, Stop> {
    let Some(tolerated) = args.tolerate else {
        if args.sample.is_none() && args.seed.is_some() {
            return Err(Stop::Usage("a seed is of a sample: give --sample or --tolerate".into()));
        }
        return Ok(args.sample);
    };
    let entries = sample::entries_for(tolerated, args.confidence);
    #[expect(clippy::cast_precision_loss, reason = "a million")]
    let most = SAMPLE_MAX as f64;
    if entries > most {
        let message = format!(
            "that takes a sample of {entries} entries, and {SAMPLE_MAX} is the most: verify the whole"
        );
        return Err(Stop::Usage(message));
    }
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "1 to a million")]
    let entries = entries as u64;
    Ok(Some(entries))
}

fn run_sample(
    args: &LedgerArgs,
    entries: u64,
    since: Option<Vec<u8>>,
    progress: &mut dyn Progress,
) -> Result<Verdict, Stop> {
    let trust = trust(&args.common)?;
    let evidence = evidence(&args.archive)?;
    let seed = args.seed.clone().map_or_else(random_seed, Ok)?;
    let threads = args.threads.map(usize::from);
    let options = sample::Options { entries, confidence: args.confidence, seed, since, threads };
    Ok(sample::verify(evidence.as_ref(), &trust, &options, progress).into())
}

/// 128 random bits, in hex.
fn random_seed() -> Result<String, Stop> {
    let mut bytes = [0u8; 16];
    let random = rustls::crypto::aws_lc_rs::default_provider().secure_random;
    let none = |_| Stop::Usage("the system has no random bytes to give: choose a --seed".into());
    random.fill(&mut bytes).map_err(none)?;
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}

fn run_whole(args: &LedgerArgs, note: Option<Vec<u8>>, progress: &mut dyn Progress) -> Result<Verdict, Stop> {
    let LedgerArgs { strict, keys, acts, at, .. } = *args;
    let threads = args.threads.map(usize::from);
    let trust = trust(&args.common)?;
    let policy = args.policy.as_deref().map(|path| witnesses(path, Some(&trust))).transpose()?;
    let options = Options { strict, keys, acts, at, threads, since: note, policy };
    let unusable =
        |path: &std::path::Path, error: std::io::Error| format!("report {}: {error}", path.display());
    let report = args.report.as_deref();
    let destination = report.map(|path| Destination::check(path).map_err(|error| unusable(path, error)));
    let destination = destination.transpose().map_err(Stop::Usage)?;
    let evidence = evidence(&args.archive)?;
    if let Some(file) = &args.resume {
        let refused = |error| Stop::Usage(format!("{}: {error}", file.display()));
        let (report, unwritten) =
            ledger::verify_resumable(evidence.as_ref(), &trust, &options, file, progress).map_err(refused)?;
        let unwritten = unwritten.map(|reason| format!("{}: {reason}", file.display()));
        return Ok(Verdict { report, unwritten });
    }
    let Some((destination, path)) = destination.zip(report) else {
        return Ok(ledger::verify(evidence.as_ref(), &trust, &options, progress).into());
    };
    let (began, clock) = (now(), Instant::now());
    let (report, told) = ledger::survey(evidence.as_ref(), &trust, &options, progress);
    let setting = Setting {
        archive: args.archive.clone(),
        signers: args.common.signers.display().to_string(),
        since: args.since.as_deref().map(|path| path.display().to_string()),
        strict,
        began,
        took_ms: u64::try_from(clock.elapsed().as_millis()).unwrap_or(u64::MAX),
    };
    let written = destination.write(&html::render(&report, &told, &trust, &setting));
    let unwritten = written.map_err(|error| unusable(path, error)).err();
    let report = report.with_survey(told.survey.to_json(&trust));
    Ok(Verdict { report, unwritten })
}
