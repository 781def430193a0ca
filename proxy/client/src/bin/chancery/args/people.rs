//! What people type: stop, go on, decide, look.

use std::path::PathBuf;

use chancery_format::governance::Scope;
use clap::{Args, Subcommand, ValueEnum};

#[derive(Debug, Args)]
pub(crate) struct Halt {
    /// What: global, key:KID, principal:NAME or stream:NAME
    #[arg(long, default_value = "global")]
    pub(crate) scope: Scope,
    /// Why, one line; recorded
    #[arg(long, value_name = "TEXT")]
    pub(crate) reason: String,
    /// Only say whether it is allowed
    #[arg(long)]
    pub(crate) dry_run: bool,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Approvals {
    /// List requests for approval
    #[command(after_help = "Example:
  chancery approvals list --status pending")]
    List(ListApprovals),
    /// Show one request: the act, who asked, who has spoken
    #[command(after_help = "Example:
  chancery approvals show req-7f3a")]
    Show(ShowApproval),
    /// Say yes to exactly the act that is shown
    #[command(
        after_help = "The act is fetched, hashed here, shown, and approved by its hash once you type yes. With a key file, the statement
is checked line by line and signed here: Ed25519 or ECDSA P-256, PKCS#8 PEM, readable by its owner alone. Typed
here, --key means --approver-key; CHANCERY_KEY is never used to approve.

Example:
  chancery approvals approve req-7f3a --approver-key me.pem --note \"checked with operations\"
  chancery approvals approve req-7f3a --act-sha256 5be1… --yes"
    )]
    Approve(Speak),
    /// Say no
    #[command(after_help = "As approve.

Example:
  chancery approvals reject req-7f3a --note \"not before the audit\"")]
    Reject(Speak),
}

#[derive(Debug, Args)]
pub(crate) struct ListApprovals {
    /// Only these [default: all]
    #[arg(long, value_enum)]
    pub(crate) status: Option<Status>,
}

/// Where a request is.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub(crate) enum Status {
    Pending,
    Refused,
    Expired,
    Executed,
}

impl Status {
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Refused => "refused",
            Self::Expired => "expired",
            Self::Executed => "executed",
        }
    }
}

#[derive(Debug, Args)]
pub(crate) struct ShowApproval {
    /// The request
    #[arg(value_name = "ID")]
    pub(crate) id: String,
}

#[derive(Debug, Args)]
pub(crate) struct Speak {
    /// The request
    #[arg(value_name = "ID")]
    pub(crate) id: String,
    /// PEM file of your own key, if the roster names one for you
    #[arg(long, env = "CHANCERY_APPROVER_KEY", value_name = "FILE")]
    pub(crate) approver_key: Option<PathBuf>,
    /// A line for the others; recorded
    #[arg(long, value_name = "TEXT")]
    pub(crate) note: Option<String>,
    /// Only if the act has this hash: the one you saw
    #[arg(long, value_name = "HEX")]
    pub(crate) act_sha256: Option<String>,
    /// Do not ask; needed where there is no terminal
    #[arg(long)]
    pub(crate) yes: bool,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Admin {
    /// See what is halted, asked for and being rotated
    #[command(after_help = "Example:
  chancery admin status")]
    Status,
    /// List every key pair with its state
    #[command(after_help = "Example:
  chancery admin keys")]
    Keys,
}

#[derive(Debug, Args)]
pub(crate) struct Audit {
    /// First position on the stream of people's acts
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub(crate) from: u64,
    /// Go on as acts come, until interrupted; with --json, one document a line
    #[arg(long)]
    pub(crate) follow: bool,
}
