//! What can be typed about mirrors.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{Args, Subcommand};

pub(crate) const FOLLOW_EXAMPLE: &str = "\
The log is read at <LOG>/checkpoint and <LOG>/tile/… (C2SP tlog-tiles). Nothing is written before it was verified: the
checkpoint by --vkey, tiles by the signed root, entries by their tiles. The copy's checkpoint is replaced last, so DIR
is a whole log at each moment, and a mirror that was stopped, or killed, goes on where it stood. Whoever runs our own log
lets a principal with read_payloads mirror it, by --ca, --cert and --key; without --ca the machine's authorities vouch.

An archive of ours, a folder or a bucket, is followed as it is: its newest checkpoint is found by its number, its partial
tiles are computed. For s3://… credentials come from AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_SESSION_TOKEN (an open
bucket needs none), the place from AWS_REGION and AWS_ENDPOINT_URL_S3.

Exit codes: 0 the copy is the log; 1 the log shows what it did not sign, went back, or forked: then both checkpoints are
told, and kept in DIR/evidence; 2 usage, or DIR cannot be written; 3 the log lacks what it signed; 4 it does not answer.
Each resource has --timeout-ms. Without --once it goes on until it is stopped, over everything that may pass, and ends
at a fork; with --json it prints a line for each round that brought or told something new.

Example:
  chancery mirror follow https://log.example/26 --vkey log.example/26+530d903a+AekyeRrm5… --to /srv/mirror --once
  chancery mirror follow https://sign.example:8443/log --vkey \"$VKEY\" --to /srv/mirror --interval 10 --json \\
    --ca ca.crt --cert mirror.crt --key mirror.key
  chancery mirror follow file:///mnt/bucket --vkey @log.vkey --to /srv/mirror --once
  chancery mirror follow s3://audit-archive/prod --policy witnesses.policy --to /srv/mirror --once";

pub(crate) const SERVE_EXAMPLE: &str = "\
GET /checkpoint and /tile/… as the log itself would answer, with the media types and cache headers of tlog-tiles; every
other path is 404. Nothing is ever written. The copy may be followed into at the same time. Other addresses than
loopback are listened on if you say so; there is no TLS, so stand a proxy before it. DIR may also be an archive of ours:
any tlog-tiles client can read it then.

Example:
  chancery mirror serve /srv/mirror --listen 127.0.0.1:8080
  chancery mirror serve /var/lib/chancery/archive --listen 127.0.0.1:8080
  curl http://127.0.0.1:8080/checkpoint";

pub(crate) const CHECK_EXAMPLE: &str = "\
Needs no network. Exit codes: 0 every tile and entry is what the log signed; 1 something is not; 3 something is missing.

Example:
  chancery mirror check /srv/mirror --vkey log.example/2026+530d903a+AekyeRrm56hA…
  chancery mirror check /srv/mirror --vkey @log.vkey --json";

#[derive(Debug, Subcommand)]
pub(crate) enum Mirror {
    /// Keep a verified copy of a log, ours or anybody's
    #[command(after_help = FOLLOW_EXAMPLE)]
    Follow(Follow),
    /// Serve a copy again
    #[command(after_help = SERVE_EXAMPLE)]
    Serve(Serve),
    /// Verify a whole copy, offline
    #[command(after_help = CHECK_EXAMPLE)]
    Check(Check),
}

/// Whose signature counts.
#[derive(Debug, Args)]
pub(crate) struct Keys {
    /// Verifier key of the log, NAME+HASH+KEY, or @FILE with one a line; several may be given, each of them counts
    #[arg(long, value_name = "VKEY|@FILE", required_unless_present = "policy", conflicts_with = "policy")]
    pub(crate) vkey: Vec<String>,
    /// C2SP tlog-policy file instead: its keys of the log count, and its witnesses must have cosigned each checkpoint
    #[arg(long, value_name = "FILE")]
    pub(crate) policy: Option<PathBuf>,
    /// First line of the log's checkpoints [default: the name of its key]
    #[arg(long, value_name = "ORIGIN")]
    pub(crate) origin: Option<String>,
}

#[derive(Debug, Args)]
pub(crate) struct Follow {
    /// Address of the log: https://HOST/PREFIX, http://…, s3://BUCKET/PREFIX, file:///FOLDER, or a folder
    #[arg(value_name = "LOG")]
    pub(crate) log: String,
    #[command(flatten)]
    pub(crate) keys: Keys,
    /// Folder of the copy; made if it is not there
    #[arg(long, value_name = "DIR")]
    pub(crate) to: PathBuf,
    /// End when the copy is what the log shows now
    #[arg(long)]
    pub(crate) once: bool,
    /// Pause between two looks at the log, in seconds
    #[arg(long, value_name = "SECONDS", default_value_t = 60, conflicts_with = "once")]
    #[arg(value_parser = clap::value_parser!(u32).range(1..=86_400))]
    pub(crate) interval: u32,
}

#[derive(Debug, Args)]
pub(crate) struct Serve {
    /// Folder of the copy
    #[arg(value_name = "DIR")]
    pub(crate) folder: PathBuf,
    /// Address to listen on; port 0 takes any
    #[arg(long, value_name = "HOST:PORT", default_value = "127.0.0.1:8080")]
    pub(crate) listen: SocketAddr,
}

#[derive(Debug, Args)]
pub(crate) struct Check {
    /// Folder of the copy
    #[arg(value_name = "DIR")]
    pub(crate) folder: PathBuf,
    #[command(flatten)]
    pub(crate) keys: Keys,
}
