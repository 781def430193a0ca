//! What the operator wrote, checked once and believed afterwards.
//!
//! Promises: every mistake of a file is reported at once, with its line; every field has a unit, a
//! default and a limit; a `Config` exists only if nothing was wrong. Refuses: unknown fields, names that
//! point nowhere, files that are missing. Creates nothing.
//!
//! The file is TOML. Relative paths are taken from the folder of the file. Secrets are never in it, only
//! the paths of files that hold them. `deploy/chancery.toml` documents every field.

mod effective;
mod environment;
mod load;
mod people;
mod pkcs11;
mod reader;
#[cfg(test)]
pub(crate) mod sample;
mod sections;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use chancery_format::log_key::LogKey;
use chancery_format::names::Purpose;
use chancery_format::{Hash, Kid, Origin, PrincipalName, Rung, SignatureAlgorithm, StreamName, chain};
use chancery_identity::ProviderConfig;
use chancery_pkcs11::TokenSelector;
use chancery_yubihsm::{Connector, ForceAudit};

pub use environment::{Environment, Variables, truthy};
pub use load::{load, parse};
pub use people::{Governance as GovernanceConfig, PolicyConfig};
pub use reader::{Mistake, Mistakes};

use crate::admission::allowance::KeyLimit;
use crate::admission::policy::Grant;
use crate::dialects::Dialect;
use crate::limits::Limits;

/// A whole configuration without mistakes.
#[derive(Debug, Clone)]
pub struct Config {
    /// The file it was read from.
    pub file: PathBuf,
    /// `development` (default) or `production`, which turns every guard on. `CHANCERY_ENV` and
    /// `NODE_ENV` can raise it to production.
    pub environment: Environment,
    /// Where services connect.
    pub service: ServiceListener,
    /// Where probes and Prometheus connect: plain HTTP, so loopback unless the network is trusted.
    pub ops_address: SocketAddr,
    /// Where people connect, if they do; needs [`Config::identity`].
    pub admin_address: Option<SocketAddr>,
    /// Who says who people are.
    pub identity: Option<ProviderConfig>,
    /// Who approves.
    pub governance: Option<GovernanceConfig>,
    /// What policies say.
    pub policy: PolicyConfig,
    /// The ledger on this machine.
    pub ledger: LedgerConfig,
    /// Where epochs are archived; `None` only outside production.
    pub archive: Option<ArchiveConfig>,
    /// Where keys live.
    pub backends: Vec<BackendConfig>,
    /// The keys.
    pub keys: Vec<KeyConfig>,
    /// Who may do what.
    pub principals: Vec<PrincipalConfig>,
    /// `[[key_limits]]`: how much keys may be used.
    pub key_limits: Vec<KeyLimit>,
    /// `[[chains]]`: streams that are set to the dialect of an existing writer.
    pub chains: Vec<ChainConfig>,
    /// Cosigns other logs' checkpoints, if it does.
    pub witness: Option<WitnessConfig>,
    /// Who cosigns ours, if anybody does.
    pub witnessing: Option<WitnessingConfig>,
    /// Sentinel file: while it exists, nothing is signed.
    pub kill_switch_file: Option<PathBuf>,
    /// Where `chancery reconcile --halt` leaves what it found.
    pub surplus_directory: Option<PathBuf>,
    /// Log lines below this are not written.
    pub log_level: LogLevel,
    /// Every bound.
    pub limits: Limits,
}

/// `[listeners.service]`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServiceListener {
    /// Address and port; default `0.0.0.0:8443`.
    pub address: SocketAddr,
    /// The server's certificate chain, PEM, leaf first.
    pub certificate_file: PathBuf,
    /// Its private key, PEM; readable by the daemon alone.
    pub key_file: PathBuf,
    /// Authorities whose client certificates are accepted, PEM.
    pub client_ca_file: PathBuf,
    /// Revocation lists, PEM, one for each of those authorities; no file, no revocation.
    pub crl_file: Option<PathBuf>,
    /// Whether production may start with bearer tokens configured; default no.
    pub allow_bearer_tokens_in_production: bool,
}

/// `[ledger]`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LedgerConfig {
    /// Folder of the ledger, made by `chanceryd init`.
    pub directory: PathBuf,
    /// Name of the log in checkpoints; for ever.
    pub origin: Origin,
    /// `kid` of the Ed25519 key that signs checkpoints.
    pub signing_key: Kid,
    /// `kid` of the ML-DSA-44 key that signs them beside it; default none.
    pub second_signing_key: Option<Kid>,
    /// Time between checkpoints while there is something new; 100 ms to 60 s, default 1 s.
    pub checkpoint_interval: Duration,
    /// Time between enrolments of the heads of all streams and keys, at checkpoints; 100 ms to 1 h, default 1 min.
    pub heads_interval: Duration,
    /// Whether the ledger key signs each head a second time, for COSE receipts (RFC 9942); default no.
    pub cose_receipts: bool,
    /// Whether served checkpoints bear lines that nobody knows, so that clients go on ignoring them; default no.
    pub grease: bool,
    /// The ledger refuses new entries when the disk has less than this free; default 1 GiB.
    pub reserve_bytes: u64,
    /// Where `signers.json` is published, with `.sig` beside it; default in the ledger's folder.
    pub signers_file: PathBuf,
}

impl LedgerConfig {
    /// Whether this key signs the ledger's checkpoints, and therefore nothing else.
    pub fn signs_with(&self, kid: &Kid) -> bool {
        self.signing_key == *kid || self.second_signing_key.as_ref() == Some(kid)
    }
}

/// `[witness]`: being a witness of other logs (C2SP tlog-witness).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WitnessConfig {
    /// Where logs connect: TLS without client certificates, because a checkpoint says by its signature whose it is.
    pub address: SocketAddr,
    /// The cosigner's name, in every cosignature; for ever. Its key uses stand in the stream of that name.
    pub name: PrincipalName,
    /// The keys that cosign, one line each: `ed25519`, `ml-dsa-44`. They do nothing else.
    pub kids: Vec<Kid>,
    /// Where the newest checkpoint of each log is kept.
    pub directory: PathBuf,
    /// The keys of the logs that are cosigned; their names are the origins.
    pub logs: Vec<LogKey>,
    /// A list of further logs, as the public witness network keeps it (`logs/v0`); read again when it changes.
    pub logs_file: Option<PathBuf>,
}

/// `[witnessing]`: having our checkpoints cosigned.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WitnessingConfig {
    /// Who must have cosigned (C2SP tlog-policy), with the URLs of those that are asked.
    pub policy_file: PathBuf,
    /// Time between rounds while there is something new; default 10 s.
    pub interval: Duration,
    /// Patience with one witness in one round; default 5 s.
    pub timeout: Duration,
    /// Authorities that may vouch for witnesses, PEM; default the machine's own.
    pub ca_file: Option<PathBuf>,
}

/// `[[chains]]`: a stream whose events are also rows of an existing writer's chain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChainConfig {
    /// The stream; nobody's own, where key uses stand.
    pub stream: StreamName,
    /// Whose form its rows have.
    pub dialect: chain::Dialect,
    /// The key that signs them, and nothing else.
    pub kid: Kid,
    /// In whose name: the writer.
    pub principal: PrincipalName,
    /// The hash of the row after which the chain goes on; default none, it is a new one.
    pub previous_hash: Option<Hash>,
}

impl ChainConfig {
    /// Where the chain begins.
    pub const fn after(&self) -> chain::After {
        chain::After { dialect: self.dialect, previous: self.previous_hash }
    }
}

/// `[archive]`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ArchiveConfig {
    /// What it is.
    pub kind: ArchiveKind,
    /// Time between epochs while there is something new; 100 ms to 1 h, default 10 s.
    pub epoch_interval: Duration,
    /// Above this many entries not yet archived, new requests are refused; default 100,000.
    pub lag_entries_max: u64,
    /// If the oldest entry not yet archived is older than this, new requests are refused; default 15 min.
    pub lag_age_max: Duration,
    /// Whether others follow it by C2SP tlog-tiles, straight from the bucket; default no. Only with S3.
    pub static_log: bool,
}

/// Where an archive is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ArchiveKind {
    /// A folder; refused in production, for it has no lock.
    Directory {
        /// The folder.
        directory: PathBuf,
    },
    /// S3 with Object Lock in compliance mode.
    S3 {
        /// Bucket, with versioning and Object Lock on.
        bucket: String,
        /// Before every object's name; empty or ending in `/`.
        prefix: String,
        /// AWS region.
        region: String,
        /// For services that speak S3 but are not AWS; `https://`, or `http://` on this machine.
        endpoint_url: Option<String>,
        /// Bucket in the path instead of the host name; default yes if there is an `endpoint_url`.
        path_style: bool,
        /// How long each object is locked; 1 to 36,500 days, default 400.
        retention_days: u32,
    },
}

/// `[[backends]]`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BackendConfig {
    /// What keys call it.
    pub name: String,
    /// What it is.
    pub kind: BackendKind,
}

/// What a backend is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BackendKind {
    /// A device behind PKCS#11.
    Pkcs11 {
        /// The module; loaded by a worker process, never by the daemon.
        module_file: PathBuf,
        /// Which token.
        token: TokenSelector,
        /// The text of `uri`, if the configuration has one.
        uri: Option<String>,
        /// File with the user PIN; readable by the daemon alone.
        pin_file: PathBuf,
        /// Sessions used at once; 1 to 64, default 2.
        sessions: usize,
        /// What its worker may do.
        worker: WorkerConfig,
    },
    /// Keys in AWS KMS. A key's label is its id, ARN, `alias/…` or alias ARN.
    AwsKms {
        /// Region; default the SDK's chain.
        region: Option<String>,
        /// Another endpoint than AWS's own.
        endpoint_url: Option<String>,
        /// Calls at once; 1 to 256, default 16.
        sessions: usize,
        /// Patience with one connection; 100 to 60,000 ms, default 1,000.
        connect_timeout: Duration,
        /// Patience with one call; 100 to 60,000 ms, default 2,000.
        attempt_timeout: Duration,
    },
    /// A YubiHSM 2. A key's label is its object's label, or its id as `0x1234`.
    YubiHsm {
        /// `http://host:port` of a connector, or `usb`.
        connector: Connector,
        /// Serial number the device must have.
        serial: Option<String>,
        /// Id of the authentication key.
        auth_key_id: u16,
        /// File with its password; readable by the daemon alone.
        password_file: PathBuf,
        /// Sessions used at once; 1 to 16, default 4.
        sessions: usize,
        /// Patience with one command; 100 to 60,000 ms, default 5,000.
        timeout: Duration,
        /// What is asked of the device's forced auditing; default `require`.
        force_audit: ForceAudit,
        /// PEM file of the roots that attestations must lead to.
        attestation_roots: Option<PathBuf>,
    },
    /// Keys in this process, for development; refused in production.
    Software {
        /// Folder of the keys.
        directory: PathBuf,
        /// Whether intents are recorded: `always` (default), or `skip`.
        intents: Intents,
    },
}

/// What the worker process of a PKCS#11 module may do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WorkerConfig {
    /// Variables the module reads, as `NAME=value`.
    pub module_environment: Vec<ModuleVariable>,
    /// Names of the daemon's own variables that are passed on; `*` at the end stands for anything.
    pub env: Vec<String>,
    /// Whether the module may use the network; default no.
    pub network: bool,
    /// Folders and files the module may write; default none but a known module's own store.
    pub writable: Vec<PathBuf>,
    /// A worker at one request for longer is killed; 1,000 to 600,000 ms, default 30,000.
    pub stuck_after: Duration,
}

/// One environment variable of a PKCS#11 module, written `NAME=value`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ModuleVariable {
    /// `A-Z a-z 0-9 _`.
    pub name: String,
    /// Anything.
    pub value: String,
}

impl std::str::FromStr for ModuleVariable {
    type Err = &'static str;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (name, value) = text.split_once('=').ok_or("is not of the form NAME=value")?;
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
        if name.is_empty() || !name.bytes().all(plain) || value.contains('\0') {
            return Err("is not of the form NAME=value");
        }
        Ok(Self { name: name.to_owned(), value: value.to_owned() })
    }
}

impl std::fmt::Display for ModuleVariable {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}={}", self.name, self.value)
    }
}

/// Whether a backend's key uses are recorded before they happen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Intents {
    /// An intent is durable before each key use.
    Always,
    /// Only outcomes are recorded.
    Skip,
}

/// `[[keys]]`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyConfig {
    /// What callers ask for.
    pub kid: Kid,
    /// The key pair; changes whenever the key does, never used again.
    pub signer_kid: Kid,
    /// Name of a backend.
    pub backend: String,
    /// Name of the key in its backend; default the `signer_kid`.
    pub label: String,
    /// What the key does.
    pub algorithm: SignatureAlgorithm,
    /// What it is for, one word.
    pub purpose: Purpose,
    /// For people.
    pub description: String,
    /// What must hold before a signature is released; default `durable`.
    pub release: Rung,
    /// Another key that signs each digest beside this one: a post-quantum one beside a classical one.
    pub co_signer: Option<Kid>,
    /// Whether digests may also be anchored in its name, without its being used; default no.
    pub anchored: bool,
    /// Who asked for it to be registered; recorded when it is.
    pub requested_by: Option<String>,
    /// The dialects it may be used by; empty: all.
    pub dialects: Vec<Dialect>,
    /// What else clients of dialects call it: a signer id, an alias, an ARN.
    pub aliases: Vec<String>,
}

/// `[[principals]]`: fields `name`, `kids`, `operations`, `streams`, `read_payloads`, `rate_per_second`
/// (1 to 1,000,000, default 1,000), `burst` (default one second's worth), `daily_quota`, `dialects` (default
/// `native`), `default_kid`, `common_name` and `token_sha256`.
#[derive(Debug, Clone)]
pub struct PrincipalConfig {
    /// Whom it is for, which must be a SPIFFE id, another URI or a DNS name unless `common_name` is set,
    /// and what it may do.
    pub grant: Grant,
    /// Also accept certificates with exactly this common name and no URI name.
    pub common_name: Option<String>,
    /// SHA-256 of each bearer token that stands for it where there is no certificate; two while one is replaced.
    pub token_sha256: Vec<Hash>,
}

/// How much is logged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogLevel {
    /// Someone must act.
    Error,
    /// Something is wrong that heals.
    Warn,
    /// One line per request (default).
    Info,
    /// For a developer.
    Debug,
}

impl LogLevel {
    /// Every level.
    pub const ALL: [Self; 4] = [Self::Error, Self::Warn, Self::Info, Self::Debug];

    /// The word in configuration.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Warn => "warn",
            Self::Info => "info",
            Self::Debug => "debug",
        }
    }
}

impl Config {
    /// The key that signs checkpoints.
    pub fn ledger_key(&self) -> Option<&KeyConfig> {
        self.keys.iter().find(|key| key.kid == self.ledger.signing_key)
    }

    /// The backend a key names.
    pub fn backend_of(&self, key: &KeyConfig) -> Option<&BackendConfig> {
        self.backends.iter().find(|backend| backend.name == key.backend)
    }

    /// Files that hold secrets: they must be readable by the daemon alone.
    pub fn secret_files(&self) -> Vec<PathBuf> {
        load::secret_files(self)
    }

    /// The effective configuration as TOML. There is no secret in it: only the paths of files.
    pub fn effective(&self) -> String {
        effective::render(self) + &effective::render_grants(self)
    }

    /// The same without `[[principals]]`: what a reload cannot change.
    pub fn effective_without_grants(&self) -> String {
        effective::render(self)
    }
}
