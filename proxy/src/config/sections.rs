//! One function per table of the file.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use chancery_format::log_key::LogKey;
use chancery_format::names::Purpose;
use chancery_format::note::NoteError;
use chancery_format::{Hash, Kid, PrincipalName, Rung, SignatureAlgorithm, chain};
use chancery_hsm::SESSIONS_MAX;
use chancery_yubihsm::ForceAudit;

use super::pkcs11;
use super::reader::Section;
use super::{
    ArchiveConfig, ArchiveKind, BackendConfig, BackendKind, ChainConfig, Intents, KeyConfig, LedgerConfig,
    LogLevel, PrincipalConfig, ServiceListener, WitnessConfig, WitnessingConfig,
};
use crate::admission::allowance::KeyLimit;
use crate::admission::policy::{Grant, Operation, StreamPattern};
use crate::admission::rate_limit::Rate;
use crate::authenticate::NameShape;
use crate::dialects::Dialect;
use crate::limits::Limits;

const GIB: u64 = 1 << 30;
const MS_PER_HOUR: u64 = 3_600_000;
/// Largest quota or lifetime of uses: more than any device does, and exact in every JSON reader.
const USES_MAX: u64 = 1_000_000_000_000;

/// A field that names a file which must be there.
pub(super) fn file(section: &Section<'_, '_>, name: &'static str, path: Option<PathBuf>) -> Option<PathBuf> {
    let path = path?;
    match std::fs::metadata(&path) {
        Ok(found) if found.is_file() => Some(path),
        Ok(_) => section.wrong(name, format!("{} is not a file", path.display())),
        Err(error) => section.wrong(name, format!("{}: {error}", path.display())),
    }
}

fn required_file(section: &Section<'_, '_>, name: &'static str, example: &str) -> Option<PathBuf> {
    let path = section.required_path(name, example);
    file(section, name, path)
}

pub(super) fn service(section: &Section<'_, '_>) -> Option<ServiceListener> {
    let default = SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), 8443);
    let address = section.address("address", default);
    let certificate_file = required_file(section, "certificate_file", "\"server.crt\"");
    let key_file = required_file(section, "key_file", "\"server.key\"");
    let client_ca_file = required_file(section, "client_ca_file", "\"ca.crt\"");
    let crl_given = section.path("crl_file");
    let crl_file = crl_given.clone().and_then(|path| file(section, "crl_file", Some(path)));
    let tokens_allowed = section.flag("allow_bearer_tokens_in_production", false);
    section.finish();
    if crl_given.is_some() != crl_file.is_some() {
        return None;
    }
    Some(ServiceListener {
        address: address?,
        certificate_file: certificate_file?,
        key_file: key_file?,
        client_ca_file: client_ca_file?,
        crl_file,
        allow_bearer_tokens_in_production: tokens_allowed?,
    })
}

pub(super) fn ops(section: &Section<'_, '_>) -> Option<SocketAddr> {
    let address = section.address("address", SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 9464));
    section.finish();
    address
}

pub(super) fn admin(section: &Section<'_, '_>) -> Option<SocketAddr> {
    let address = section.address("address", SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 8444));
    section.finish();
    address
}

pub(super) fn ledger(section: &Section<'_, '_>) -> Option<LedgerConfig> {
    let directory = section.required_path("directory", "\"ledger\"");
    let origin = section.required_parsed("origin", "\"log.example/chancery\"");
    let signing_key = section.required_parsed("signing_key", "\"ledger\"");
    let second_signing_key = section.parsed("second_signing_key");
    let interval_ms = section.number("checkpoint_interval_ms", 1_000, 100, 60_000);
    let heads_ms = section.number("heads_interval_ms", 60_000, 100, MS_PER_HOUR);
    let cose_receipts = section.flag("cose_receipts", false);
    let grease = section.flag("grease", false);
    let reserve_bytes = section.number("reserve_bytes", GIB, 1 << 20, 1 << 50);
    let signers_file = section.path("signers_file");
    section.finish();
    let directory = directory?;
    Some(LedgerConfig {
        signers_file: signers_file.unwrap_or_else(|| directory.join("signers.json")),
        directory,
        origin: origin?,
        signing_key: signing_key?,
        second_signing_key,
        checkpoint_interval: Duration::from_millis(interval_ms?),
        heads_interval: Duration::from_millis(heads_ms?),
        cose_receipts: cose_receipts?,
        grease: grease?,
        reserve_bytes: reserve_bytes?,
    })
}

#[derive(Clone, Copy)]
enum ArchiveWord {
    Directory,
    S3,
}

pub(super) fn archive(section: &Section<'_, '_>) -> Option<ArchiveConfig> {
    let words = [("directory", ArchiveWord::Directory), ("s3", ArchiveWord::S3)];
    let word = section.required_word("kind", &words);
    let epoch_ms = section.number("epoch_interval_ms", 10_000, 100, MS_PER_HOUR);
    let lag_entries_max = section.number("lag_entries_max", 100_000, 1, 1_000_000_000);
    let lag_age_ms = section.number("lag_age_ms_max", 900_000, 1_000, 24 * MS_PER_HOUR);
    let static_log = section.flag("static_log", false);
    let static_log = match (word, static_log) {
        (Some(ArchiveWord::Directory), Some(true)) => {
            let message = "needs kind = \"s3\": a folder cannot hold both a file checkpoint and a folder checkpoint/; \
                           show this archive with chancery mirror serve ARCHIVE instead";
            section.wrong("static_log", message)
        }
        (_, told) => told,
    };
    let kind = match word {
        Some(ArchiveWord::Directory) => archive_directory(section),
        Some(ArchiveWord::S3) => archive_s3(section),
        None => return None,
    };
    section.finish();
    let lag_age_max = Duration::from_millis(lag_age_ms?);
    let epoch_interval = Duration::from_millis(epoch_ms?);
    if lag_age_max <= epoch_interval {
        return section.wrong(
            "lag_age_ms_max",
            "must be longer than epoch_interval_ms, or every epoch closes admission",
        );
    }
    let (kind, lag_entries_max, static_log) = (kind?, lag_entries_max?, static_log?);
    Some(ArchiveConfig { kind, epoch_interval, lag_entries_max, lag_age_max, static_log })
}

fn archive_directory(section: &Section<'_, '_>) -> Option<ArchiveKind> {
    let directory = section.required_path("directory", "\"archive\"")?;
    Some(ArchiveKind::Directory { directory })
}

fn archive_s3(section: &Section<'_, '_>) -> Option<ArchiveKind> {
    let bucket = section.required("bucket", "\"chancery-archive\"");
    let prefix = section.free_text("prefix")?;
    let region = section.required("region", "\"eu-central-1\"");
    let endpoint_url = section.text("endpoint_url");
    let path_style = section.flag("path_style", endpoint_url.is_some());
    let retention_days = section.number("retention_days", 400, 1, 36_500);
    let retention_days = u32::try_from(retention_days?).ok()?;
    let (bucket, region, path_style) = (bucket?, region?, path_style?);
    let kind = ArchiveKind::S3 { bucket, prefix, region, endpoint_url, path_style, retention_days };
    match crate::archiving::check_settings(&kind) {
        Ok(()) => Some(kind),
        Err(reason) => section.wrong("kind", reason),
    }
}

#[derive(Clone, Copy)]
enum BackendWord {
    AwsKms,
    Pkcs11,
    Software,
    YubiHsm,
}

pub(super) fn backend(section: &Section<'_, '_>) -> Option<BackendConfig> {
    let name = section.required("name", "\"hsm\"");
    let words = [
        ("pkcs11", BackendWord::Pkcs11),
        ("aws-kms", BackendWord::AwsKms),
        ("yubihsm", BackendWord::YubiHsm),
        ("software", BackendWord::Software),
    ];
    let kind = match section.required_word("kind", &words) {
        Some(BackendWord::AwsKms) => aws_kms(section),
        Some(BackendWord::YubiHsm) => yubihsm(section),
        Some(BackendWord::Pkcs11) => pkcs11::read(section),
        Some(BackendWord::Software) => software(section),
        None => return None,
    };
    section.finish();
    Some(BackendConfig { name: name?, kind: kind? })
}

fn aws_kms(section: &Section<'_, '_>) -> Option<BackendKind> {
    let region = section.text("region");
    let endpoint_url = section.text("endpoint_url");
    let sessions = section.number("sessions", 16, 1, SESSIONS_MAX as u64);
    let connect_timeout = section.number("connect_timeout_ms", 1_000, 100, 60_000);
    let attempt_timeout = section.number("attempt_timeout_ms", 2_000, 100, 60_000);
    Some(BackendKind::AwsKms {
        region,
        endpoint_url,
        sessions: usize::try_from(sessions?).ok()?,
        connect_timeout: Duration::from_millis(connect_timeout?),
        attempt_timeout: Duration::from_millis(attempt_timeout?),
    })
}

fn yubihsm(section: &Section<'_, '_>) -> Option<BackendKind> {
    let connector = section.required_parsed("connector", "\"http://127.0.0.1:12345\"");
    let serial = section.text("serial");
    let auth_key_id = section.number("auth_key_id", 1, 1, u64::from(u16::MAX));
    let password_file = required_file(section, "password_file", "\"yubihsm.password\"");
    let sessions = section.number("sessions", 4, 1, 16);
    let timeout = section.number("timeout_ms", 5_000, 100, 60_000);
    let audits = [("require", ForceAudit::Require), ("set", ForceAudit::Set), ("ignore", ForceAudit::Ignore)];
    let force_audit = section.word("force_audit", &audits, ForceAudit::Require);
    let attestation_roots = file(section, "attestation_roots", section.path("attestation_roots"));
    Some(BackendKind::YubiHsm {
        connector: connector?,
        serial,
        auth_key_id: u16::try_from(auth_key_id?).ok()?,
        password_file: password_file?,
        sessions: usize::try_from(sessions?).ok()?,
        timeout: Duration::from_millis(timeout?),
        force_audit: force_audit?,
        attestation_roots,
    })
}

fn software(section: &Section<'_, '_>) -> Option<BackendKind> {
    let directory = section.required_path("directory", "\"keys\"");
    let intents =
        section.word("intents", &[("always", Intents::Always), ("skip", Intents::Skip)], Intents::Always);
    Some(BackendKind::Software { directory: directory?, intents: intents? })
}

pub(super) fn key(section: &Section<'_, '_>) -> Option<KeyConfig> {
    let kid = section.required_parsed("kid", "\"orders\"");
    let signer_kid: Option<Kid> = section.required_parsed("signer_kid", "\"orders-ed25519-v1\"");
    let backend = section.required("backend", "\"hsm\"");
    let label = section.text("label");
    let algorithm = section.required_word("algorithm", &SignatureAlgorithm::ALL.map(|it| (it.as_str(), it)));
    let purpose: Option<Purpose> = section.required_parsed("purpose", "\"orders\"");
    let description = section.free_text("description");
    let rungs = [Rung::Durable, Rung::Checkpointed, Rung::Witnessed, Rung::Archived];
    let rungs = rungs.map(|rung| (rung.as_str(), rung));
    let release = section.word("release", &rungs, Rung::Durable);
    let co_signer = section.parsed("co_signer");
    let anchored = section.flag("anchored", false);
    let requested_by = section.text("requested_by");
    let dialects = section.list::<Dialect>("dialects");
    let aliases = section.list::<String>("aliases");
    section.finish();
    let signer_kid = signer_kid?;
    Some(KeyConfig {
        kid: kid?,
        label: label.unwrap_or_else(|| signer_kid.as_str().to_owned()),
        signer_kid,
        backend: backend?,
        algorithm: algorithm?,
        purpose: purpose?,
        description: description?,
        release: release?,
        co_signer,
        anchored: anchored?,
        requested_by,
        dialects: dialects?,
        aliases: aliases?,
    })
}

pub(super) fn principal(section: &Section<'_, '_>) -> Option<PrincipalConfig> {
    let principal: Option<PrincipalName> =
        section.required_parsed("name", "\"spiffe://example.org/service/orders\"");
    let common_name = section.text("common_name");
    let kids = section.list::<Kid>("kids");
    let operations = section.list::<Operation>("operations");
    let streams = section.list::<StreamPattern>("streams");
    let read_payloads = section.flag("read_payloads", false);
    let rate = section.number("rate_per_second", 1_000, 1, 1_000_000);
    let burst = section.number("burst", rate.unwrap_or(1), 1, 1_000_000);
    let groups = section.list::<String>("groups");
    let daily_quota = section.optional_number("daily_quota", 1, USES_MAX);
    let dialects = section.list::<Dialect>("dialects");
    let default_kid = section.parsed("default_kid");
    let tokens = section.list::<TokenHash>("token_sha256");
    section.finish();
    let token_sha256: Vec<Hash> = tokens?.into_iter().map(|TokenHash(hash)| hash).collect();
    let principal = named(section, principal?, common_name.is_some() || !token_sha256.is_empty())?;
    let rate = Rate { per_second: u32::try_from(rate?).ok()?, burst: u32::try_from(burst?).ok()? };
    let (kids, operations, streams, read_payloads) = (kids?, operations?, streams?, read_payloads?);
    Some(PrincipalConfig {
        grant: Grant {
            principal,
            kids,
            operations,
            streams,
            read_payloads,
            rate,
            groups: groups?,
            daily_quota: daily_quota?,
            dialects: dialects
                .map(|dialects| if dialects.is_empty() { vec![Dialect::Native] } else { dialects })?,
            default_kid,
        },
        common_name,
        token_sha256,
    })
}

/// `[[key_limits]]`
pub(super) fn key_limit(section: &Section<'_, '_>) -> Option<KeyLimit> {
    let kid = section.required_parsed("kid", "\"orders\"");
    let principal = section.parsed("principal");
    let rate = section.optional_number("rate_per_second", 1, 1_000_000);
    let burst = section.optional_number("burst", 1, 1_000_000);
    let daily_quota = section.optional_number("daily_quota", 1, USES_MAX);
    let lifetime_uses = section.optional_number("lifetime_uses", 1, USES_MAX);
    section.finish();
    let (rate, burst, daily_quota, lifetime_uses) = (rate?, burst?, daily_quota?, lifetime_uses?);
    if burst.is_some() && rate.is_none() {
        return section.wrong("burst", "needs rate_per_second");
    }
    if principal.is_some() && (daily_quota.is_some() || lifetime_uses.is_some()) {
        return section
            .wrong("principal", "may have a rate of its own for a key; quotas of keys are everybody's");
    }
    if rate.or(daily_quota).or(lifetime_uses).is_none() {
        section.mistake("limits nothing: set rate_per_second, daily_quota or lifetime_uses".to_owned());
        return None;
    }
    let rate = match rate {
        None => None,
        Some(rate) => Some(Rate {
            per_second: u32::try_from(rate).ok()?,
            burst: u32::try_from(burst.unwrap_or(rate)).ok()?,
        }),
    };
    Some(KeyLimit { kid: kid?, principal, rate, daily_quota, lifetime_uses })
}

/// `[[chains]]`
pub(super) fn chain(section: &Section<'_, '_>) -> Option<ChainConfig> {
    let stream = section.required_parsed("stream", "\"kernel/audit\"");
    let dialect: Option<chain::Dialect> = section.required_parsed("dialect", "\"kernel\"");
    let kid = section.required_parsed("kid", "\"kernel-audit\"");
    let principal = section.required_parsed("principal", "\"spiffe://example.org/ns/shop/sa/kernel\"");
    let previous = section.parsed("previous_hash");
    section.finish();
    let dialect = dialect?;
    if !dialect.can_be_made() {
        return section.wrong("dialect", "is never signed, and its verifier refuses what its writer makes");
    }
    let previous_hash = previous.map(|RowHash(hash)| hash);
    Some(ChainConfig { stream: stream?, dialect, kid: kid?, principal: principal?, previous_hash })
}

/// `[witness]`
pub(super) fn witness(section: &Section<'_, '_>) -> Option<WitnessConfig> {
    let address = section.address("address", SocketAddr::from(([0, 0, 0, 0], 8_445)));
    let name = section.required_parsed("name", "\"witness.example.org/w1\"");
    let kids = section.list("kids");
    let directory = section.required_path("directory", "\"witness\"");
    let logs = section.list::<Log>("logs");
    let logs_file = section.path("logs_file");
    section.finish();
    let (name, kids, logs) = (name?, kids?, logs?);
    if kids.is_empty() {
        return section.wrong("kids", "must name at least one key that cosigns");
    }
    if logs.is_empty() && logs_file.is_none() {
        return section.wrong(
            "logs",
            "must hold at least one log's verifier key, name+key id+key, or there is a logs_file",
        );
    }
    let logs = logs.into_iter().map(|Log(key)| key).collect();
    Some(WitnessConfig { address: address?, name, kids, directory: directory?, logs, logs_file })
}

/// A log's verifier key.
struct Log(LogKey);

impl std::str::FromStr for Log {
    type Err = NoteError;
    fn from_str(text: &str) -> Result<Self, NoteError> {
        LogKey::parse(text).map(Self)
    }
}

/// `[witnessing]`
pub(super) fn witnessing(section: &Section<'_, '_>) -> Option<WitnessingConfig> {
    let policy_file = section.required_path("policy_file", "\"witnesses.policy\"");
    let interval = section.number("interval_ms", 10_000, 100, MS_PER_HOUR);
    let timeout = section.number("timeout_ms", 5_000, 100, 60_000);
    let ca_file = section.path("ca_file");
    section.finish();
    let [interval, timeout] = [interval?, timeout?].map(Duration::from_millis);
    Some(WitnessingConfig { policy_file: policy_file?, interval, timeout, ca_file })
}

/// The hash of a row. Zeros stand for none.
struct RowHash(Hash);

impl std::str::FromStr for RowHash {
    type Err = &'static str;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let hash = Hash::from_hex(text).ok().filter(|hash| hash.0 != [0; 32]);
        hash.map(Self).ok_or("must be the hash of a row: 64 lower-case hexadecimal characters, not all zeros")
    }
}

/// SHA-256 of a bearer token, as the configuration has it.
struct TokenHash(Hash);

impl std::str::FromStr for TokenHash {
    type Err = &'static str;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Hash::from_hex(text)
            .map(Self)
            .map_err(|_| "is not the SHA-256 of a token in 64 lower-case hexadecimal characters")
    }
}

/// A name that no certificate can carry is a grant to nobody, which is surely not what was meant.
fn named(section: &Section<'_, '_>, name: PrincipalName, has_common_name: bool) -> Option<PrincipalName> {
    if has_common_name || NameShape::of(name.as_str()).is_some() {
        return Some(name);
    }
    section.wrong(
        "name",
        format!("{:?} is no SPIFFE id with a path, no URI and no DNS name (wildcards are none); set common_name if certificates carry it there, or token_sha256", name.as_str()),
    )
}

/// The sentinel file, and the folder of findings.
pub(super) fn kill_switch(section: &Section<'_, '_>) -> (Option<PathBuf>, Option<PathBuf>) {
    let both = (section.path("file"), section.path("surplus_directory"));
    section.finish();
    both
}

pub(super) fn logging(section: &Section<'_, '_>) -> Option<LogLevel> {
    let level = section.word("level", &LogLevel::ALL.map(|level| (level.as_str(), level)), LogLevel::Info);
    section.finish();
    level
}

pub(super) fn limits(section: &Section<'_, '_>) -> Limits {
    let read = |bound: &crate::limits::Bound| {
        section.number(bound.name, bound.default, bound.min, bound.max).unwrap_or(bound.default)
    };
    let limits = Limits::from_values(read);
    section.finish();
    limits
}
