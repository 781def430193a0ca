//! The languages that services speak already: they get their signatures with at most a variable changed.
//!
//! Promises: whatever language asks, the same admission, the same plot and the same ledger entry, which names the
//! language; replies are what each client reads, a refusal is one in its language, never something that looks like a
//! signature. A principal speaks only the languages it was granted, a key is used only by those it is for.
//! Refuses: bodies that can be read two ways, and everything it does not know.
//!
//! | file | does |
//! |---|---|
//! | `table.rs` | which request is which call of which language |
//! | `answering.rs` | the way of one such request: admitted, read, answered in its own voice |
//! | `names.rs` | what clients call keys, and which key that is |
//! | `platform.rs`, `platform/` | the platform's own signing routes at the root |
//! | `aws_kms.rs`, `aws_kms/` | AWS KMS, JSON 1.1 |
//! | `vault.rs`, `vault/` | Vault Transit, version 1 |

mod answering;
mod aws_kms;
mod body;
mod checking;
mod names;
mod platform;
mod table;
mod vault;

pub(crate) use self::answering::answer;
pub(crate) use self::names::Names;
pub(crate) use self::table::find;

/// One of the languages the proxy speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Dialect {
    /// `/v1/…` as the OpenAPI document describes it.
    Native,
    /// Manifests and audit hashes as text or base64: `POST /sign {payload}`, `/signData`, `/publicKeys/{id}`.
    Kernel,
    /// Bytes in base64: `POST /sign {payload_b64}`.
    Payload,
    /// SHA-256 digests in hexadecimal: `POST /sign {digest_hex}` or `{hash}`, `/sign/hash`, `/sign/canonical`.
    Digest,
    /// A message in base64 and the name of an algorithm: `POST /sign {data, algorithm}`, `/public-key`.
    Marketplace,
    /// The text of a SHA-256 as the message: `POST /sign {sha256}`.
    Platform,
    /// Approvals of upgrades: `POST /sign {upgradeId, manifestHash, …}`.
    ControlPanel,
    /// AWS KMS, JSON 1.1, at `POST /`.
    AwsKms,
    /// Vault Transit at `/v1/transit/…`.
    VaultTransit,
}

impl Dialect {
    /// Every one, in the order of the documentation.
    pub const ALL: [Self; 9] = [
        Self::Native,
        Self::Kernel,
        Self::Payload,
        Self::Digest,
        Self::Marketplace,
        Self::Platform,
        Self::ControlPanel,
        Self::AwsKms,
        Self::VaultTransit,
    ];

    /// The word in configuration, policies and leaves.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Native => "native",
            Self::Kernel => "kernel",
            Self::Payload => "payload",
            Self::Digest => "digest",
            Self::Marketplace => "marketplace",
            Self::Platform => "platform",
            Self::ControlPanel => "control-panel",
            Self::AwsKms => "aws-kms",
            Self::VaultTransit => "vault-transit",
        }
    }
}

/// The text names no dialect. The operator is at fault.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("unknown dialect {0:?}; one of {list}", list = Dialect::ALL.map(Dialect::as_str).join(", "))]
pub struct UnknownDialect(String);

impl std::str::FromStr for Dialect {
    type Err = UnknownDialect;
    fn from_str(text: &str) -> Result<Self, UnknownDialect> {
        Self::ALL.into_iter().find(|it| it.as_str() == text).ok_or_else(|| UnknownDialect(text.to_owned()))
    }
}
