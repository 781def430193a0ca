//! What can be typed about bundles of evidence.

use std::path::PathBuf;

use chancery_format::archive::ObjectName;
use chancery_format::evidence::ArchivedObject;
use clap::Args;

pub(crate) const BUNDLE_EXAMPLE: &str = "\
The file holds the entry, its proof and checkpoint with all cosignatures, the registry of signers with the proof that the
ledger published it, and what else is given. It is verified as a whole before it is written. chancery-verify evidence
checks it offline. The log is read at <LOG>/checkpoint and <LOG>/tile/…, its entries too: whoever runs our own log lets a
principal with read_payloads do so, and a mirror of it serves as well.

Exit codes: 0 written; 1 something does not hold, or the log shows another tree than the receipt's; 2 usage; 3 the receipt
cannot be read, or the log does not have the registry (yet); 4 the service or the log does not answer.

Example:
  chancery receipt bundle receipt.json --out invoice-7.evidence
  chancery receipt bundle receipt.json --signers signers.json --log /srv/mirror --policy witnesses.policy \\
    --out invoice-7.evidence
  chancery receipt bundle receipt.json --archive s3://audit-archive/prod \\
    --object tile/entries/000=3sL4kqtJlcpXroDTDmJ+rmSpXd3dIbrHY --out invoice-7.evidence";

pub(crate) const UPGRADE_EXAMPLE: &str = "\
Adds the log's newest checkpoint with its cosignatures, and the proofs that it covers the same entry and continues what the
file had. Nothing is taken away, and the file is replaced in one step. No key of the issuer is needed: a mirror of the log,
or a folder with a copy of it, does. A newer algorithm comes with the witnesses: give the policy that names them (ML-DSA-44
beside Ed25519), and the checkpoint must have their cosignatures. With --ask-witnesses they are asked for them here, at the
addresses in the policy: also where the log will never grow again, they can cosign its last checkpoint. A note that came by
another way is given with --checkpoint. After a rotation of the ledger's key give the newer --signers.

Exit codes: 0 renewed, or there is nothing newer; 1 something does not hold, the policy is not met, or the log shows another
tree; 2 usage; 3 the file cannot be read, or the log lacks what is needed; 4 the log does not answer.

Example:
  chancery receipt upgrade invoice-7.evidence --log https://mirror.example/log
  chancery receipt upgrade invoice-7.evidence --log /srv/mirror --policy witnesses-2036.policy --json
  chancery receipt upgrade invoice-7.evidence --log /srv/mirror --policy witnesses-2036.policy --ask-witnesses
  chancery receipt upgrade invoice-7.evidence --checkpoint cosigned.txt --policy witnesses-2036.policy";

/// Where the log is, and what is judged by.
#[derive(Debug, Args)]
pub(crate) struct Common {
    /// The log: https://HOST/PREFIX, http://…, file:///FOLDER, or a folder [default: the service's own]
    #[arg(long, value_name = "LOG")]
    pub(crate) log: Option<String>,
    /// Witnesses that must have cosigned: a C2SP tlog-policy; it goes into the file
    #[arg(long, value_name = "FILE")]
    pub(crate) policy: Option<PathBuf>,
    /// Where the registry was published, if that is not found
    #[arg(long, value_name = "INDEX")]
    pub(crate) registry_index: Option<u64>,
    /// Where the archive is, such as s3://bucket/prefix; nothing checks it
    #[arg(long, value_name = "LOCATION")]
    pub(crate) archive: Option<String>,
    /// Version of an archived object that holds the same; may be repeated
    #[arg(long, value_name = "NAME=VERSION", value_parser = object)]
    pub(crate) object: Vec<ArchivedObject>,
}

#[derive(Debug, Args)]
pub(crate) struct Bundle {
    /// The receipt, JSON
    #[arg(value_name = "RECEIPT")]
    pub(crate) receipt: PathBuf,
    /// File to write
    #[arg(short, long, value_name = "FILE.evidence")]
    pub(crate) out: PathBuf,
    /// Registry of signers as the ledger published it [default: the service's own]
    #[arg(long, value_name = "FILE")]
    pub(crate) signers: Option<PathBuf>,
    /// A COSE receipt of the same entry [default: the service's own, if it gives one and the log is its own too]
    #[arg(long, value_name = "FILE")]
    pub(crate) cose: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) common: Common,
}

#[derive(Debug, Args)]
pub(crate) struct Upgrade {
    /// The file to renew
    #[arg(value_name = "FILE.evidence")]
    pub(crate) file: PathBuf,
    /// Write the renewed file here, and leave the other as it is
    #[arg(short, long, value_name = "FILE.evidence")]
    pub(crate) out: Option<PathBuf>,
    /// A newer registry of signers, as the ledger published it [default: the newest in the file]
    #[arg(long, value_name = "FILE")]
    pub(crate) signers: Option<PathBuf>,
    /// A checkpoint that came by another way than the log, such as from a witness
    #[arg(long, value_name = "FILE")]
    pub(crate) checkpoint: Option<PathBuf>,
    /// First ask the policy's witnesses, at their addresses in it, to cosign
    #[arg(long)]
    pub(crate) ask_witnesses: bool,
    #[command(flatten)]
    pub(crate) common: Common,
}

fn object(text: &str) -> Result<ArchivedObject, String> {
    let (name, version) = text.split_once('=').ok_or("write NAME=VERSION")?;
    let name = ObjectName::parse(name).ok_or("no object of an archive has this name")?;
    Ok(ArchivedObject { name, version_id: version.to_owned() })
}
