//! `chanceryd`: init, check, run, check-ledger, openapi. Parses the command line; the work is in the library.

use std::io::IsTerminal as _;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use chancery_format::Kid;
use chancery_ledger::CheckProgress;
use chancery_ledger::check::Verdict;
use chancery_proxy::checking;
use chancery_proxy::config::{self, Config, LogLevel, Variables};
use chancery_proxy::daemon::seclusion::seclude;
use chancery_proxy::daemon::{self, Failure, production_guards};
use chancery_proxy::init::dev::DevOptions;
use chancery_proxy::init::{self, Made, NewKey};
use chancery_proxy::tls::Tls;
use chancery_proxy::{openapi, telemetry};
use clap::{Args, Parser, Subcommand};

/// Signs digests for services and keeps a ledger of every signature.
#[derive(Debug, Parser)]
#[command(name = "chanceryd", version, max_term_width = 110, after_help = EXAMPLES)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

const EXAMPLES: &str = "\
Try it, without installing anything:
  chanceryd init --dev ./dev            an authority, certificates, a token with keys, a ledger
  chanceryd run --config ./dev/chancery.toml
  curl --cacert dev/ca.crt --cert dev/client.crt --key dev/client.key https://localhost:8443/v1/keys

In earnest:
  chanceryd check --config /etc/chancery/chancery.toml
  chanceryd init --config /etc/chancery/chancery.toml --generate-keys
  chanceryd run --config /etc/chancery/chancery.toml

Exit codes: 0 done, 1 refused or found bad, 2 usage or configuration, 3 evidence missing or unreadable,
4 unavailable.";

#[derive(Debug, Subcommand)]
enum Command {
    /// Make a ledger and its registry; never overwrites one
    #[command(
        after_help = "Example:\n  chanceryd init --config /etc/chancery/chancery.toml --generate-keys\n  chanceryd init --dev ./dev --address 127.0.0.1:9443"
    )]
    Init(InitArgs),
    /// Report every mistake of a configuration, then print it as it is in force (no secrets are in it)
    #[command(
        after_help = "Example:\n  chanceryd check --config /etc/chancery/chancery.toml && systemctl reload chanceryd"
    )]
    Check(ConfigArgs),
    /// Serve until SIGTERM; SIGHUP reloads certificates, revocation lists and grants
    #[command(after_help = "Example:\n  chanceryd run --config /etc/chancery/chancery.toml")]
    Run(RunArgs),
    /// Make a key in its device, for a rotation; the running daemon cannot, and gets to know it by the rotation
    #[command(
        after_help = "Example:\n  chanceryd generate-key --config /etc/chancery/chancery.toml --kid orders --label orders-2027\n  chancery keys rotate orders --to orders-2027 --reason \"yearly rotation\""
    )]
    GenerateKey(GenerateKeyArgs),
    /// Hold the store of a stopped daemon against its archive, and both against what the ledger key signed
    #[command(after_help = CHECK_LEDGER)]
    CheckLedger(CheckLedgerArgs),
    /// Print the OpenAPI 3.1 document of the service
    #[command(after_help = "Example:\n  chanceryd openapi > openapi.json")]
    Openapi,
    /// The process in which a PKCS#11 module runs; started by the daemon
    #[command(name = "pkcs11-worker", hide = true)]
    Pkcs11Worker,
}

const CHECK_LEDGER: &str = "\
Reads every entry, tile, checkpoint and archived object again; takes the ledger's lock, and never writes to the ledger.
A daemon that runs checks itself: chancery ledger check. With --repair, what the archive lacks and a signed checkpoint
proves is put there; nothing is overwritten. The repair is printed and not enrolled: a closed ledger takes no entries.

Exit codes: 0 sound, or all is repaired; 1 something is wrong; 2 configuration; 3 nothing can be said; 4 the archive does
not answer, or the ledger is in use.

Example:
  chanceryd check-ledger --config /etc/chancery/chancery.toml
  chanceryd check-ledger --config /etc/chancery/chancery.toml --signers /mnt/usb/signers.json --json";

#[derive(Debug, Args)]
struct CheckLedgerArgs {
    #[command(flatten)]
    config: ConfigArgs,
    /// The registry to trust [default: the configuration's signers_file]
    #[arg(long, value_name = "FILE")]
    signers: Option<PathBuf>,
    /// Ship again what the archive lacks and a signed checkpoint proves
    #[arg(long)]
    repair: bool,
    /// Print one JSON document
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Args)]
struct ConfigArgs {
    /// The configuration file
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
}

#[derive(Debug, Args)]
struct RunArgs {
    #[command(flatten)]
    config: ConfigArgs,
    /// Write the base URL here, in one line, once requests are answered
    #[arg(long, value_name = "FILE")]
    ready_file: Option<PathBuf>,
}

#[derive(Debug, Args)]
struct GenerateKeyArgs {
    #[command(flatten)]
    config: ConfigArgs,
    /// The name the key is for: it gets its algorithm
    #[arg(long, value_name = "KID")]
    kid: Kid,
    /// What the device is to call it; a label that was never used
    #[arg(long)]
    label: String,
    /// Another backend than the present key's
    #[arg(long, value_name = "NAME")]
    backend: Option<String>,
}

#[derive(Debug, Args)]
struct InitArgs {
    /// The configuration file of the instance to make
    #[arg(long, value_name = "FILE", required_unless_present = "dev", conflicts_with = "dev")]
    config: Option<PathBuf>,
    /// Generate every configured key its backend does not have
    #[arg(long, conflicts_with = "dev")]
    generate_keys: bool,
    /// Make a complete throw-away instance in this folder instead
    #[arg(long, value_name = "DIR")]
    dev: Option<PathBuf>,
    /// Service address of the throw-away instance
    #[arg(long, value_name = "ADDR", requires = "dev", default_value = "127.0.0.1:8443")]
    address: SocketAddr,
    /// Health and metrics address of the throw-away instance
    #[arg(long, value_name = "ADDR", requires = "dev", default_value = "127.0.0.1:9464")]
    ops_address: SocketAddr,
    /// Keep the throw-away keys in files even if SoftHSM2 is installed
    #[arg(long, requires = "dev")]
    software: bool,
}

fn main() -> ExitCode {
    let command = Cli::parse().command;
    if let Command::Pkcs11Worker = command {
        return chancery_pkcs11::worker::run(); // it builds walls of its own
    }
    for failed in seclude() {
        eprintln!("chanceryd: its memory is not its own alone: {failed}");
    }
    let variables = Variables::of_process();
    let done = match command {
        Command::CheckLedger(args) => match check_ledger(&args, &variables) {
            Ok(code) => return code,
            Err(failure) => Err(failure),
        },
        Command::Init(args) => init(args, &variables),
        Command::Check(args) => check(&args.config, &variables),
        Command::Run(args) => run(args, variables),
        Command::GenerateKey(args) => generate_key(args, &variables),
        Command::Pkcs11Worker => Ok(()),
        Command::Openapi => {
            println!("{}", openapi::document());
            Ok(())
        }
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("chanceryd: {failure}");
            ExitCode::from(failure.exit_code())
        }
    }
}

fn init(args: InitArgs, variables: &Variables) -> Result<(), Failure> {
    let _log = telemetry::start_logging(LogLevel::Warn, 1_024);
    match (args.dev, args.config) {
        (Some(folder), _) => {
            let (address, ops_address, software) = (args.address, args.ops_address, args.software);
            let options = DevOptions { folder, address, ops_address, software };
            let made = init::dev::make(&options, variables)?;
            report(&made);
            println!("run it:     chanceryd run --config {}", options.folder.join("chancery.toml").display());
        }
        (None, Some(file)) => {
            let config = config::load(&file, variables)?;
            report(&init::create(&config, variables, args.generate_keys)?);
        }
        (None, None) => {}
    }
    Ok(())
}

/// Most names in one line.
const NAMES_SHOWN_MAX: usize = 20;

/// Names, unless there are too many for a person to read.
fn listed(names: &[String]) -> String {
    match names.split_at_checked(NAMES_SHOWN_MAX) {
        Some((shown, more)) if !more.is_empty() => format!("{} and {} more", shown.join(", "), more.len()),
        _ => names.join(", "),
    }
}

fn report(made: &Made) {
    println!("ledger:     {} ({} entries, under a checkpoint)", made.ledger.display(), made.entries);
    println!("registry:   {}", made.signers_file.display());
    if !made.generated.is_empty() {
        println!("keys made:  {}", listed(&made.generated));
    }
}

fn generate_key(args: GenerateKeyArgs, variables: &Variables) -> Result<(), Failure> {
    let _log = telemetry::start_logging(LogLevel::Warn, 1_024);
    let config = config::load(&args.config.config, variables)?;
    let new = NewKey { kid: args.kid, label: args.label, backend: args.backend };
    let (backend, algorithm) = init::generate_key(&config, variables, &new)?;
    println!("made:       {} ({algorithm}) in {backend}", new.label);
    println!("use it:     chancery keys rotate {} --to {} --reason TEXT", new.kid, new.label);
    Ok(())
}

/// Between two lines of progress, for people at a terminal.
const TOLD_EVERY: Duration = Duration::from_secs(1);

fn check_ledger(args: &CheckLedgerArgs, variables: &Variables) -> Result<ExitCode, Failure> {
    let _log = telemetry::start_logging(LogLevel::Warn, 1_024);
    let config = config::load(&args.config.config, variables)?;
    let progress = CheckProgress::default();
    let report = std::thread::scope(|scope| {
        let (ended, waits) = std::sync::mpsc::sync_channel::<()>(1);
        let shown = &progress;
        if std::io::stderr().is_terminal() {
            scope.spawn(move || {
                while waits.recv_timeout(TOLD_EVERY) == Err(std::sync::mpsc::RecvTimeoutError::Timeout) {
                    let (done, entries) = shown.entries();
                    eprintln!("{done} of {entries} entries, {} archived objects", shown.objects());
                }
            });
        }
        let report = checking::check_stopped(&config, args.signers.as_deref(), args.repair, &progress);
        drop(ended);
        report
    })?;
    match args.json {
        true => println!("{}", checking::to_json(&report)),
        false => println!("{}", checking::to_text(&report)),
    }
    Ok(match report.verdict() {
        Verdict::Clean => ExitCode::SUCCESS,
        Verdict::Findings => ExitCode::from(1),
        Verdict::Undecided => ExitCode::from(3),
    })
}

/// Everything that can be known without starting, all at once.
fn check(file: &Path, variables: &Variables) -> Result<(), Failure> {
    let config = config::load(file, variables)?;
    let tls =
        Tls::load(&config.service, rustls_pki_types::UnixTime::now()).err().map(|error| error.to_string());
    let guards = match production_guards(&config, variables) {
        Err(Failure::Guards(reasons)) => reasons,
        _ => Vec::new(),
    };
    warn_of_what_has_no_effect(variables);
    let reasons: Vec<String> = tls.into_iter().chain(guards).collect();
    if !reasons.is_empty() {
        return Err(Failure::Guards(reasons));
    }
    print!("{}", config.effective());
    Ok(())
}

fn warn_of_what_has_no_effect(variables: &Variables) {
    if variables.flag("DEV_SKIP_MTLS") == Some(true) {
        eprintln!("chanceryd: DEV_SKIP_MTLS has no effect: client certificates cannot be skipped");
    }
}

fn run(args: RunArgs, variables: Variables) -> Result<(), Failure> {
    let config = config::load(&args.config.config, &variables)?;
    warn_of_what_has_no_effect(&variables);
    let log = telemetry::start_logging(config.log_level, config.limits.log_lines_max);
    serve(config, variables, log, args.ready_file)
}

fn serve(
    config: Config,
    variables: Variables,
    log: telemetry::LogGuard,
    ready_file: Option<PathBuf>,
) -> Result<(), Failure> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().thread_name("serve").build();
    let runtime = runtime.map_err(|error| Failure::System(error.to_string()))?;
    let done = runtime.block_on(daemon::run(config, variables, log, ready_file));
    // A device call that never returns must not keep the process.
    runtime.shutdown_timeout(Duration::from_secs(1));
    done
}
