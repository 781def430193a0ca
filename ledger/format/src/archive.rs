//! Names of archived objects. Nothing but `checkpoint` is ever overwritten: any other name is used once.
//!
//! ```text
//! tile/<L>/<N>                 full hash tiles (C2SP paths)
//! tile/entries/<N>             full entry bundles
//! tile/entries/<N>.p/<W>       tail bundle of an epoch whose size has W = size mod 256 leaves over
//! tile/<L>/<N>.p/<W>           partial hash tiles of an epoch's size; only where the archive is a static log
//! registry/<version>.json      signers.json as published; 8 digits, from 00000001
//! registry/<version>.json.sig  signed note over it
//! checkpoint/<epoch>           signed checkpoint, written last in its epoch; 12 digits, from 0
//! witnessed/<epoch>            a checkpoint up to that epoch's with its witnesses' lines; optional
//! checkpoint                   the newest of them, replaced after each epoch; only where the archive is a static log
//! ```

use crate::hash::Hash;
use crate::names::Origin;
use crate::tile::TilePath;

/// The parsed name of an archived object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ObjectName {
    /// A hash tile or entry bundle.
    Tile(TilePath),
    /// The checkpoint that closes an epoch.
    Checkpoint(u64),
    /// A cosigned checkpoint, archived after that of an epoch.
    Witnessed(u64),
    /// The newest checkpoint: the one object that is replaced.
    Latest,
    /// A version of the signers registry.
    Registry(u64),
    /// The signed note over that version.
    RegistrySignature(u64),
}

/// Folder of checkpoints, with its slash.
pub const CHECKPOINT_PREFIX: &str = "checkpoint/";
/// Folder of cosigned checkpoints, with its slash.
pub const WITNESSED_PREFIX: &str = "witnessed/";
/// Object name of the newest checkpoint, as C2SP tlog-tiles has it. It alone is ever replaced.
pub const LATEST_CHECKPOINT: &str = "checkpoint";
/// Folder of registry versions, with its slash.
pub const REGISTRY_PREFIX: &str = "registry/";

/// Object name of the checkpoint that closes `epoch`.
pub fn checkpoint_name(epoch: u64) -> String {
    format!("{CHECKPOINT_PREFIX}{epoch:012}")
}

/// Object name of the cosigned checkpoint archived after that of `epoch`.
pub fn witnessed_name(epoch: u64) -> String {
    format!("{WITNESSED_PREFIX}{epoch:012}")
}

/// Object name of a registry version.
pub fn registry_name(version: u64) -> String {
    format!("{REGISTRY_PREFIX}{version:08}.json")
}

/// Object name of the signed note over a registry version.
pub fn registry_signature_name(version: u64) -> String {
    format!("{REGISTRY_PREFIX}{version:08}.json.sig")
}

impl ObjectName {
    /// Reads a name; `None` for anything that is not spelled exactly as this module would.
    pub fn parse(name: &str) -> Option<Self> {
        let parsed = if let Some(digits) = name.strip_prefix(CHECKPOINT_PREFIX) {
            Self::Checkpoint(digits.parse().ok()?)
        } else if let Some(digits) = name.strip_prefix(WITNESSED_PREFIX) {
            Self::Witnessed(digits.parse().ok()?)
        } else if name == LATEST_CHECKPOINT {
            Self::Latest
        } else if let Some(rest) = name.strip_prefix(REGISTRY_PREFIX) {
            match rest.strip_suffix(".json.sig") {
                Some(digits) => Self::RegistrySignature(digits.parse().ok()?),
                None => Self::Registry(rest.strip_suffix(".json")?.parse().ok()?),
            }
        } else {
            return TilePath::parse(name).map(Self::Tile);
        };
        (parsed.to_string() == name).then_some(parsed)
    }
}

impl std::fmt::Display for ObjectName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Tile(path) => write!(f, "{path}"),
            Self::Checkpoint(epoch) => f.write_str(&checkpoint_name(*epoch)),
            Self::Witnessed(epoch) => f.write_str(&witnessed_name(*epoch)),
            Self::Latest => f.write_str(LATEST_CHECKPOINT),
            Self::Registry(version) => f.write_str(&registry_name(*version)),
            Self::RegistrySignature(version) => f.write_str(&registry_signature_name(*version)),
        }
    }
}

/// Text of the note that signs a registry version: origin with `/signers`, version, hex SHA-256 of the
/// file, each on its line.
pub fn registry_note_text(origin: &Origin, version: u64, sha256: &Hash) -> String {
    format!("{origin}/signers\n{version}\n{sha256}\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_has_one_spelling() {
        for name in [
            "checkpoint/000000000000",
            "checkpoint",
            "witnessed/000000000007",
            "registry/00000001.json",
            "registry/00000001.json.sig",
            "tile/0/x001/234",
            "tile/entries/000",
            "tile/entries/000.p/17",
            "tile/1/000.p/17",
        ] {
            assert_eq!(ObjectName::parse(name).map(|n| n.to_string()).as_deref(), Some(name));
        }
        for name in [
            "checkpoint/0",
            "witnessed/7",
            "witnessed",
            "Checkpoint",
            "checkpoint/+00000000000",
            "checkpoint/",
            "registry/1.json",
            "registry/00000001.sig",
            "tile/entries/0",
            "x",
            "",
            "/checkpoint/000000000000",
            "checkpoint/000000000000/",
        ] {
            assert_eq!(ObjectName::parse(name), None, "{name}");
        }
    }
}
