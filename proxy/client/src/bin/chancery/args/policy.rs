//! What is typed about policies.

use std::net::IpAddr;
use std::path::PathBuf;

use chancery_format::SignatureAlgorithm;
use chancery_format::names::{Kid, PrincipalName, StreamName};
use chancery_policy::Act;
use clap::{ArgGroup, Args, Subcommand};

#[derive(Debug, Subcommand)]
pub(crate) enum Policy {
    /// Check a folder of policies; offline
    #[command(after_help = "Example:
  chancery policy check policies/")]
    Check(Folder),
    /// Check a folder of policies and run its cases; offline
    #[command(
        after_help = "Cases are in DIR/cases/*.json. Exit code 1 if a case fails or a file has a mistake.

Example:
  chancery policy test policies/"
    )]
    Test(Folder),
    /// Say which policies decide a question, and why; offline with --policies, else --server
    #[command(after_help = "Example:
  chancery policy explain --policies policies/ --service checkout --group payments --act sign \\
      --kid sepa --algorithm ecdsa-p256-sha256 --backend hsm --purpose payments --hour 23
  chancery policy explain --server --person alice --role operator --act halt")]
    Explain(Box<Explain>),
    /// See the policies in force
    #[command(after_help = "Example:
  chancery policy show")]
    Show,
    /// Have the daemon read its policies again; bad ones never replace good ones
    #[command(after_help = "Example:
  chancery policy reload --dry-run")]
    Reload(Reload),
}

#[derive(Debug, Args)]
pub(crate) struct Folder {
    /// Folder of *.cedar files
    #[arg(value_name = "DIR")]
    pub(crate) folder: PathBuf,
    /// Leave out the default rights of roles, as a daemon with default_roles = false
    #[arg(long)]
    pub(crate) without_default_roles: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Reload {
    /// Only say whether it is allowed
    #[arg(long)]
    pub(crate) dry_run: bool,
}

#[derive(Debug, Args)]
#[command(group(ArgGroup::new("where").required(true).args(["policies", "server"])))]
#[command(group(ArgGroup::new("who").required(true).args(["service", "person"])))]
pub(crate) struct Explain {
    /// Ask the policies in this folder
    #[arg(long, value_name = "DIR")]
    pub(crate) policies: Option<PathBuf>,
    /// Ask the policies in force, at the daemon
    #[arg(long)]
    pub(crate) server: bool,
    /// The service that asks
    #[arg(long, value_name = "NAME")]
    pub(crate) service: Option<PrincipalName>,
    /// A group it is in; may be repeated
    #[arg(long = "group", value_name = "G", conflicts_with = "person")]
    pub(crate) groups: Vec<String>,
    /// The person who asks
    #[arg(long, value_name = "NAME")]
    pub(crate) person: Option<PrincipalName>,
    /// A role they hold; may be repeated
    #[arg(long = "role", value_name = "R", conflicts_with = "service")]
    pub(crate) roles: Vec<String>,
    /// To do what: sign, append, halt, rotate-key …
    #[arg(long)]
    pub(crate) act: Act,
    /// With which key
    #[arg(long)]
    pub(crate) kid: Option<Kid>,
    /// Its algorithm; the daemon knows it
    #[arg(long, conflicts_with = "server", requires = "kid", value_parser = algorithm)]
    pub(crate) algorithm: Option<SignatureAlgorithm>,
    /// Its backend; the daemon knows it
    #[arg(long, value_name = "NAME", conflicts_with = "server", requires = "kid")]
    pub(crate) backend: Option<String>,
    /// What you say the key is for; the daemon knows it [default: as --purpose]
    #[arg(long, value_name = "PURPOSE", conflicts_with = "server", requires = "kid")]
    pub(crate) key_purpose: Option<String>,
    /// What the caller says it is for
    #[arg(long)]
    pub(crate) purpose: Option<String>,
    /// On which stream
    #[arg(long)]
    pub(crate) stream: Option<StreamName>,
    /// Through which surface
    #[arg(long)]
    pub(crate) dialect: Option<String>,
    /// In which environment; the daemon knows its own
    #[arg(long, value_name = "NAME", default_value = "test", conflicts_with = "server")]
    pub(crate) environment: String,
    /// From which address
    #[arg(long, value_name = "IP")]
    pub(crate) source: Option<IpAddr>,
    /// Hour of the day in UTC [default: now]
    #[arg(long, value_name = "0-23", value_parser = clap::value_parser!(u8).range(0..=23))]
    pub(crate) hour: Option<u8>,
    /// Day of the week, 1 is Monday [default: today]
    #[arg(long, value_name = "1-7", value_parser = clap::value_parser!(u8).range(1..=7))]
    pub(crate) weekday: Option<u8>,
    /// Leave out the default rights of roles
    #[arg(long, conflicts_with = "server")]
    pub(crate) without_default_roles: bool,
}

fn algorithm(text: &str) -> Result<SignatureAlgorithm, String> {
    serde_json::from_value(text.into()).map_err(|_| "no algorithm of the registry".to_owned())
}
