//! What is typed about keys.

use chancery_client::limits;
use chancery_format::Timestamp;
use chancery_format::names::Kid;
use clap::{Args, Subcommand};

#[derive(Debug, Subcommand)]
pub(crate) enum Keys {
    /// List the keys you may see
    #[command(after_help = "Example:
  chancery keys list")]
    List,
    /// Replace a key by another; approvers decide, if there are any
    #[command(after_help = "Example:
  chancery keys rotate orders --to orders-v2 --label orders-2027 --reason \"yearly\" --wait")]
    Rotate(Rotate),
    /// End a replaced key before its time
    #[command(after_help = "Example:
  chancery keys retire orders --signer-kid orders-v1 --reason \"nobody verifies with it any more\"")]
    Retire(Retire),
    /// Give a key up for lost: it is halted for ever, and what it signed is listed
    #[command(after_help = "Without --since and --since-index nothing the key ever signed is believed.

Example:
  chancery keys compromise orders --since 2027-03-01T00:00:00Z --emergency-to orders-v2 --reason \"laptop stolen\"")]
    Compromise(Compromise),
    /// List what a key pair signed
    #[command(after_help = "Example:
  chancery keys signatures orders --signer-kid orders-v1 --from 1000")]
    Signatures(Signatures),
}

#[derive(Debug, Args)]
pub(crate) struct Rotate {
    /// The name whose key changes
    pub(crate) kid: Kid,
    /// The key pair to come
    #[arg(long, value_name = "SIGNER_KID")]
    pub(crate) to: Kid,
    /// The backend that holds it [default: that of the old one]
    #[arg(long, value_name = "NAME")]
    pub(crate) backend: Option<String>,
    /// What its backend calls it
    #[arg(long)]
    pub(crate) label: Option<String>,
    /// How long the old key stays valid after the switch [default: as configured]
    #[arg(long, value_name = "N")]
    pub(crate) overlap_hours: Option<u32>,
    /// Why, one line; recorded
    #[arg(long, value_name = "TEXT")]
    pub(crate) reason: String,
    /// Ask as an emergency: the request expires sooner
    #[arg(long)]
    pub(crate) emergency: bool,
    /// Only say what would be done
    #[arg(long, conflicts_with = "wait")]
    pub(crate) dry_run: bool,
    /// Wait until the new key answers to the name, and tell each step
    #[arg(long)]
    pub(crate) wait: bool,
    /// How long, in seconds
    #[arg(long, value_name = "SECONDS", default_value_t = limits::WAIT_SECONDS, requires = "wait")]
    pub(crate) wait_seconds: u64,
}

#[derive(Debug, Args)]
pub(crate) struct Retire {
    /// The name
    pub(crate) kid: Kid,
    /// The key pair to end
    #[arg(long)]
    pub(crate) signer_kid: Kid,
    /// Why, one line; recorded
    #[arg(long, value_name = "TEXT")]
    pub(crate) reason: String,
    /// Only say what would be done
    #[arg(long)]
    pub(crate) dry_run: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Compromise {
    /// The name
    pub(crate) kid: Kid,
    /// The key pair [default: the one in use]
    #[arg(long)]
    pub(crate) signer_kid: Option<Kid>,
    /// Signatures from this moment on are suspect
    #[arg(long, value_name = "RFC3339", conflicts_with = "since_index", value_parser = moment)]
    pub(crate) since: Option<Timestamp>,
    /// Signatures from this ledger index on are suspect
    #[arg(long, value_name = "N")]
    pub(crate) since_index: Option<u64>,
    /// The key pair that takes over, if approvers agree
    #[arg(long, value_name = "SIGNER_KID")]
    pub(crate) emergency_to: Option<Kid>,
    /// The backend that holds it
    #[arg(long, value_name = "NAME", requires = "emergency_to")]
    pub(crate) emergency_backend: Option<String>,
    /// What its backend calls it
    #[arg(long, value_name = "LABEL", requires = "emergency_to")]
    pub(crate) emergency_label: Option<String>,
    /// Why, one line; recorded
    #[arg(long, value_name = "TEXT")]
    pub(crate) reason: String,
    /// Only say whether it is allowed
    #[arg(long)]
    pub(crate) dry_run: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Signatures {
    /// The name
    pub(crate) kid: Kid,
    /// The key pair [default: the one in use]
    #[arg(long)]
    pub(crate) signer_kid: Option<Kid>,
    /// First ledger index
    #[arg(long, value_name = "INDEX", default_value_t = 0)]
    pub(crate) from: u64,
}

/// A time in UTC, with or without milliseconds.
fn moment(text: &str) -> Result<Timestamp, String> {
    let whole = || text.strip_suffix('Z').and_then(|start| format!("{start}.000Z").parse().ok());
    text.parse().ok().or_else(whole).ok_or_else(|| "write 2027-03-01T00:00:00Z, in UTC".to_owned())
}

#[cfg(test)]
mod tests {
    #[test]
    fn a_moment_may_leave_out_its_milliseconds() {
        let told = |text| super::moment(text).map(|moment| moment.to_string());
        assert_eq!(told("2027-03-01T00:00:00Z").as_deref(), Ok("2027-03-01T00:00:00.000Z"));
        assert_eq!(told("2027-03-01T00:00:00.250Z").as_deref(), Ok("2027-03-01T00:00:00.250Z"));
        assert!(told("2027-03-01").is_err() && told("2027-03-01T00:00:00+01:00").is_err());
    }
}
