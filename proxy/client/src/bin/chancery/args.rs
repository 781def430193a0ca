//! What can be typed. Each command's help ends with an example.

pub(crate) mod artifacts;
pub(crate) mod completeness;
pub(crate) mod evidence;
pub(crate) mod export;
pub(crate) mod keys;
pub(crate) mod ledger;
pub(crate) mod mirror;
pub(crate) mod people;
pub(crate) mod policy;
pub(crate) mod registry;
pub(crate) mod replay;
pub(crate) mod witness;

use std::path::PathBuf;

use chancery_format::names::{EventId, EventType, IdempotencyKey, StreamName};
use clap::{Args, Parser, Subcommand, ValueEnum};

pub(crate) use keys::Keys;

const EXAMPLE: &str = "Example:
  export CHANCERY_URL=https://127.0.0.1:8443 CHANCERY_CA=ca.crt
  export CHANCERY_CERT=client.crt CHANCERY_KEY=client.key
  chancery sign --kid orders --file invoice.pdf

People sign in first, and are known by that login:
  export CHANCERY_ADMIN_URL=https://127.0.0.1:8444 CHANCERY_CA=ca.crt
  chancery login --issuer https://login.example --client-id chancery-cli
  chancery halt --scope key:orders --reason \"laptop stolen\"

Exit codes: 0 done or valid, 1 refused or invalid, 2 usage or configuration,
            3 evidence missing or unreadable, 4 service unavailable";

/// Signatures that are on the ledger before you see them.
#[derive(Debug, Parser)]
#[command(name = "chancery", version, after_help = EXAMPLE)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) connection: Connection,
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// Where the service is and who we are.
#[derive(Debug, Args)]
#[command(next_help_heading = "Connection")]
pub(crate) struct Connection {
    /// Address of the service, https://HOST:PORT
    #[arg(long, global = true, env = "CHANCERY_URL", value_name = "URL")]
    pub(crate) url: Option<String>,
    /// Address of the listener for people
    #[arg(
        long,
        global = true,
        env = "CHANCERY_ADMIN_URL",
        value_name = "URL",
        default_value = "https://127.0.0.1:8444"
    )]
    pub(crate) admin_url: String,
    /// File of the login [default: chancery/token.json in the user's configuration folder]
    #[arg(long, global = true, env = "CHANCERY_TOKEN_FILE", value_name = "FILE")]
    pub(crate) token_file: Option<PathBuf>,
    /// PEM file of the authorities that may vouch for the service
    #[arg(long, global = true, env = "CHANCERY_CA", value_name = "FILE")]
    pub(crate) ca: Option<PathBuf>,
    /// PEM file of our certificate
    #[arg(long, global = true, env = "CHANCERY_CERT", value_name = "FILE")]
    pub(crate) cert: Option<PathBuf>,
    /// PEM file of our certificate's key
    #[arg(long, global = true, env = "CHANCERY_KEY", value_name = "FILE")]
    pub(crate) key: Option<PathBuf>,
    /// Whether --key was typed, and is not the environment's.
    #[arg(skip)]
    pub(crate) key_typed: bool,
    /// Time for a command, retries included, in milliseconds
    #[arg(long, global = true, value_name = "MS", default_value_t = chancery_client::limits::CALL_TIMEOUT_MS)]
    pub(crate) timeout_ms: u64,
    /// Print one JSON document instead of text
    #[arg(long, global = true)]
    pub(crate) json: bool,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Sign a digest, or a file's SHA-256
    #[command(after_help = artifacts::SIGN_EXAMPLE)]
    Sign(Box<artifacts::Sign>),
    /// Verify a signed file offline, or ask the service whether a signature is valid
    #[command(after_help = artifacts::VERIFY_EXAMPLE)]
    Verify(Box<artifacts::Verify>),
    /// Append to the audit ledger
    #[command(subcommand)]
    Event(Event),
    /// The registry of public keys
    #[command(subcommand)]
    Signers(registry::Signers),
    /// Fetch proofs, and keep them for good
    #[command(subcommand)]
    Receipt(Receipt),
    /// See, rotate, retire and give up keys
    #[command(subcommand)]
    Keys(Keys),
    /// Stop signing: everything, a key, a principal or a stream
    #[command(after_help = "Example:
  chancery halt --scope key:orders --reason \"laptop stolen\"
  chancery halt --reason \"drill\" --dry-run")]
    Halt(people::Halt),
    /// Ask for signing to go on; approvers decide
    #[command(after_help = "Example:
  chancery resume --scope key:orders --reason \"laptop found, untouched\"")]
    Resume(people::Halt),
    /// See requests for approval, and decide
    #[command(subcommand)]
    Approvals(people::Approvals),
    /// See who you are to the daemon, and which roles you hold
    #[command(after_help = "Example:
  chancery whoami")]
    Whoami,
    /// See the daemon's state, as people may
    #[command(subcommand)]
    Admin(people::Admin),
    /// Read the acts of people, as they stand on the ledger
    #[command(after_help = "Example:
  chancery audit --from 40 --follow")]
    Audit(people::Audit),
    /// Check, test, explain and reload policies
    #[command(subcommand)]
    Policy(policy::Policy),
    /// Hold what devices say they did against the ledger; offline
    #[command(
        after_help = "Reads the archive without verifying it: run chancery-verify ledger first. A CloudTrail record is tied to a
key by the name the key was registered under (birth, serial); a count by its signer_kid.

Example:
  chancery reconcile --archive /srv/archive --cloudtrail trail/*.json.gz --report reconciliation.json
  chancery reconcile --archive /srv/archive --cloudtrail trail/* --halt /var/lib/chancery/surplus
  chancery reconcile --archive /srv/archive --counts counts.json

  counts.json: {\"operations\":{\"orders-p256-v1\":10412}}"
    )]
    Reconcile(Reconcile),
    /// Fetch all entries of a stream or a key, and prove that there are no others
    #[command(after_help = completeness::EXAMPLE)]
    Completeness(completeness::Completeness),
    /// Tell of every new entry of a key or a stream, and prove that none is kept back
    #[command(after_help = completeness::MONITOR_EXAMPLE)]
    Monitor(completeness::Monitor),
    /// Single entries of a ledger, ours or anybody's; and the check of a daemon's own
    #[command(subcommand)]
    Ledger(ledger::Ledger),
    /// Follow a transparency log, keep a verified copy, serve it again
    #[command(subcommand)]
    Mirror(mirror::Mirror),
    /// What witnesses want to know of our ledger
    #[command(subcommand)]
    Witness(witness::Witness),
    /// Log in as a person, at the company's identity provider
    #[command(
        after_help = "Prints a page and a code on standard error, and waits until the code is confirmed there. The token is kept in
the token file, for its owner alone, and never printed.

Example:
  chancery login --issuer https://login.example --client-id chancery-cli --resource https://sign.example
  chancery login --status"
    )]
    Login(Login),
    /// Forget the login, and have the provider withdraw it
    #[command(after_help = "Example:
  chancery logout")]
    Logout,
    /// Open a door on this machine for programs that cannot show a certificate
    #[command(
        after_help = "What comes in is handed on byte for byte over mutual TLS, with the certificate given here, and with the user id of
the local program. Certificates that change on disk are taken up. It listens on loopback or a Unix socket only.

Example:
  chancery agent --listen 127.0.0.1:8200 --url https://sign.example:8443 --ca ca.crt --cert client.crt --key client.key
  AWS_ENDPOINT_URL_KMS=http://127.0.0.1:8200 AWS_REGION=us-east-1 AWS_ACCESS_KEY_ID=x AWS_SECRET_ACCESS_KEY=x \\
    aws kms list-keys"
    )]
    Agent(AgentArgs),
    /// Make a bearer token, and the line that lets a principal use it
    #[command(
        after_help = "The token is printed once, on standard output; its SHA-256 goes into the configuration.

Example:
  chancery token > token.txt"
    )]
    Token,
    /// See whether the service is up, and ready
    #[command(after_help = "Example:
  chancery status --ops http://127.0.0.1:9464")]
    Status(Status),
}

#[derive(Debug, Args)]
pub(crate) struct Login {
    /// The provider's name for itself
    #[arg(long, env = "CHANCERY_ISSUER", value_name = "URL", required_unless_present = "status")]
    pub(crate) issuer: Option<String>,
    /// Our name there
    #[arg(long, env = "CHANCERY_CLIENT_ID", value_name = "ID", required_unless_present = "status")]
    pub(crate) client_id: Option<String>,
    /// What is asked for; offline_access asks for a login that renews itself
    #[arg(long, value_name = "WORDS", default_value = "openid offline_access")]
    pub(crate) scope: String,
    /// For whom the token is to be, at providers that call it audience
    #[arg(long, value_name = "NAME")]
    pub(crate) audience: Option<String>,
    /// For whom the token is to be, at providers that call it resource (RFC 8707)
    #[arg(long, value_name = "URI")]
    pub(crate) resource: Option<String>,
    /// PEM file of the authorities that may vouch for the provider [default: the machine's own]
    #[arg(long, env = "CHANCERY_ISSUER_CA", value_name = "FILE")]
    pub(crate) issuer_ca: Option<PathBuf>,
    /// See whether there is a login, instead; asks nobody
    #[arg(long)]
    pub(crate) status: bool,
}

#[derive(Debug, Args)]
#[group(id = "records", required = true, multiple = true, args = ["cloudtrail", "counts"])]
pub(crate) struct Reconcile {
    /// Folder of the archived ledger
    #[arg(long, value_name = "DIR")]
    pub(crate) archive: PathBuf,
    /// CloudTrail exports, JSON or gzip
    #[arg(long, value_name = "FILE", num_args = 1..)]
    pub(crate) cloudtrail: Vec<PathBuf>,
    /// File of operation counts, for devices that keep no log
    #[arg(long, value_name = "FILE")]
    pub(crate) counts: Option<PathBuf>,
    /// How far the ledger's clock and a device's may be apart, in seconds
    #[arg(long, value_name = "SECONDS", default_value_t = 60, value_parser = clap::value_parser!(u32).range(0..=86_400))]
    pub(crate) window: u32,
    /// Also write the report, as JSON, to this file
    #[arg(long, value_name = "FILE")]
    pub(crate) report: Option<PathBuf>,
    /// Leave a file here for each key that was used behind the ledger's back: the surplus_directory of a daemon,
    /// which then halts the key and enrols the finding
    #[arg(long, value_name = "DIR")]
    pub(crate) halt: Option<PathBuf>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Event {
    /// Append one event
    #[command(after_help = "Example:
  chancery event append --type order.paid --payload '{\"order\":7,\"total\":\"12.50\"}' --stream orders/7")]
    Append(Append),
    /// Append each row of an outbox once
    #[command(after_help = replay::EXAMPLE)]
    Replay(replay::Replay),
    /// Write a stream's rows, as the verifiers of an existing writer read them
    #[command(after_help = export::EXAMPLE)]
    Export(export::Export),
}

#[derive(Debug, Args)]
pub(crate) struct Append {
    /// Kind of event, such as order.paid
    #[arg(long = "type", value_name = "TYPE")]
    pub(crate) event_type: EventType,
    /// What happened: JSON, or @FILE
    #[arg(long, value_name = "JSON|@FILE")]
    pub(crate) payload: String,
    /// Chain it joins [default: your own]
    #[arg(long)]
    pub(crate) stream: Option<StreamName>,
    /// Name of the event; can be used once
    #[arg(long)]
    pub(crate) id: Option<EventId>,
    /// Context to record, a JSON object, or @FILE
    #[arg(long, value_name = "JSON|@FILE")]
    pub(crate) metadata: Option<String>,
    /// Repeat of an earlier request: the same key gives the same event [default: a fresh one]
    #[arg(long, value_name = "KEY")]
    pub(crate) idempotency_key: Option<IdempotencyKey>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Receipt {
    /// Fetch the receipt of one ledger entry
    #[command(
        after_help = "A COSE receipt does not hold its entry: with --signers the receipt of JSON is fetched too, and one is checked by the
other. It proves the same entry under a newer head each time.

Example:
  chancery receipt get 41 --signers signers.json -o receipt.json
  chancery receipt get 41 --format cose --signers signers.json -o receipt.cose"
    )]
    Get(GetReceipt),
    /// Put a receipt and all that proves it into one .evidence file
    #[command(after_help = evidence::BUNDLE_EXAMPLE)]
    Bundle(Box<evidence::Bundle>),
    /// Renew an .evidence file with a later checkpoint; its issuer is not needed
    #[command(after_help = evidence::UPGRADE_EXAMPLE)]
    Upgrade(Box<evidence::Upgrade>),
}

#[derive(Debug, Args)]
pub(crate) struct GetReceipt {
    /// Position on the ledger
    #[arg(value_name = "INDEX")]
    pub(crate) index: u64,
    /// Form of the receipt
    #[arg(long, value_enum, default_value_t = Form::Json)]
    pub(crate) format: Form,
    /// File to write it to [default: standard output]
    #[arg(short, long, value_name = "FILE")]
    pub(crate) output: Option<PathBuf>,
    /// Check it here with this signers registry before it is written
    #[arg(long, value_name = "FILE")]
    pub(crate) signers: Option<PathBuf>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Form {
    /// Chancery's receipt
    Json,
    /// C2SP tlog-proof
    TlogProof,
    /// COSE receipt (RFC 9942), where the service gives them; in base64 on standard output
    Cose,
}

#[derive(Debug, Args)]
#[group(required = true, multiple = false, args = ["listen", "socket"])]
pub(crate) struct AgentArgs {
    /// Loopback address to listen on
    #[arg(long, value_name = "HOST:PORT")]
    pub(crate) listen: Option<std::net::SocketAddr>,
    /// Unix socket to make and listen on
    #[arg(long, value_name = "PATH")]
    pub(crate) socket: Option<PathBuf>,
    /// How long one request is tried while the service is away, in milliseconds
    #[arg(long, value_name = "MS", default_value_t = chancery_client::limits::AGENT_PATIENCE_MS)]
    pub(crate) patience_ms: u64,
}

#[derive(Debug, Args)]
pub(crate) struct Status {
    /// Ops listener to ask for readiness, http://HOST:PORT
    #[arg(long, env = "CHANCERY_OPS", value_name = "URL")]
    pub(crate) ops: Option<String>,
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    /// Every command that does something ends its help with an example of itself.
    #[test]
    fn every_help_shows_an_example() {
        fn check(command: &clap::Command, path: &str) {
            if command.has_subcommands() {
                for child in command.get_subcommands() {
                    check(child, &format!("{path} {}", child.get_name()));
                }
                return;
            }
            let help = command.get_after_help().map(ToString::to_string).unwrap_or_default();
            assert!(help.contains("Example:") && help.contains(path), "{path}: {help:?}");
        }
        super::Cli::command().debug_assert();
        check(&super::Cli::command(), "chancery");
    }
}
