//! What can be typed about the registry of public keys.

use std::path::PathBuf;

use chancery_format::RegistryShape;
use clap::{Args, Subcommand};

#[derive(Debug, Subcommand)]
pub(crate) enum Signers {
    /// Write the registry in a shape that an existing verifier reads
    #[command(after_help = "Shapes:
  signers          {\"signers\":[{signer_kid, algorithm, public_key_pem, deployedAt, …}]}
  signer-ids       {\"signers\":[{signerId, publicKey, algorithm, deployedAt, …}]}
  pem-map          {name: PEM}
  raw-ids          {\"signers\":[{signerId, publicKey}]}, Ed25519, raw
  spki-map         {name: {kid, publicKey}}, Ed25519, SPKI
  kernel-keys      {name: {alg, key}}
  security-status  {\"signers\":[{signerId, algorithm, publicKey, createdAt}]}, Ed25519, raw
  pem              PEM blocks, one after the other
  policy           the ledger's C2SP tlog-policy: its own keys, and the witnesses it asks; no signers
Keys that a shape's readers do not know are left out, and so are compromised ones, which no shape can mark. Standard
error says which.

Example:
  chancery signers export --format pem-map --signers signers.json -o kernel-signers.json
  chancery signers export --format policy --signers signers.json -o ledger.policy")]
    Export(Export),
}

#[derive(Debug, Args)]
pub(crate) struct Export {
    /// Shape to write
    #[arg(long, value_name = "NAME", value_parser = shape)]
    pub(crate) format: RegistryShape,
    /// Registry to read [default: the service's own]
    #[arg(long, value_name = "FILE")]
    pub(crate) signers: Option<PathBuf>,
    /// File to write it to [default: standard output]
    #[arg(short, long, value_name = "FILE")]
    pub(crate) output: Option<PathBuf>,
}

fn shape(text: &str) -> Result<RegistryShape, String> {
    text.parse().map_err(|error: chancery_format::registry_shape::UnknownShape| error.to_string())
}
