//! The tables about people: who they are, who approves, what policies say, whom to ask besides.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use chancery_format::PrincipalName;
use chancery_format::SignatureAlgorithm;
use chancery_format::governance::{APPROVERS_MAX, Approver, ApproverKey, Configured};
use chancery_format::public_key::PublicKey;
use chancery_identity::{HookConfig, HookDialect, PolicyHook, Provider, ProviderConfig, Role};

use toml::Value;

use super::Config;
use super::effective::{number, path, table, text, texts, with};
use super::reader::Section;
use super::sections::file;

/// Largest PEM file of an approver's key, in bytes.
const KEY_FILE_BYTES_MAX: u64 = 16 * 1024;

/// Hours of [`Governance::overlap_hours`] and of open requests: ten years.
const HOURS_MAX: u64 = 87_600;

/// `[governance]`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Governance {
    /// Who approves, and how many must.
    pub roster: Configured,
    /// Where approvers' keys were read, by the approvers' names.
    pub key_files: BTreeMap<String, PathBuf>,
    /// How long a replaced key stays valid unless a rotation says otherwise; default 168 (a week).
    pub overlap_hours: u32,
}

/// `[policy]`
#[derive(Debug, Clone, Default)]
pub struct PolicyConfig {
    /// Folder of `*.cedar` files; none: only the rights of roles that are built in.
    pub directory: Option<PathBuf>,
    /// External policy services, by the names policies use.
    pub hooks: Vec<HookConfig>,
}

/// `[identity]`
pub(super) fn identity(section: &Section<'_, '_>) -> Option<ProviderConfig> {
    let issuer = section.required("issuer", "\"https://login.example.org\"");
    let audience = section.required("audience", "\"chancery\"");
    let client_ids = section.list::<String>("client_ids");
    let ca_given = section.path("ca_file");
    let ca_file = ca_given.clone().and_then(|path| file(section, "ca_file", Some(path)));
    let skew = section.number("clock_skew_s", 60, 0, 300);
    let claims = section.list::<String>("roles_claims");
    let mut role_map = BTreeMap::new();
    for role in section.sections("roles") {
        let (claim, name) =
            (role.required("claim", "\"kernel-admin\""), role.required("role", "\"operator\""));
        role.finish();
        match (claim, name.as_deref().map(Role::parse)) {
            (Some(claim), Some(Some(role))) => drop(role_map.insert(claim, role)),
            (_, Some(None)) => {
                let words: Vec<_> = Role::ALL.iter().map(|role| role.as_str()).collect();
                let _: Option<()> = role.wrong("role", format!("is not one of {}", words.join(", ")));
            }
            _ => {}
        }
    }
    section.finish();
    if ca_given.is_some() && ca_file.is_none() {
        return None;
    }
    let mut config = ProviderConfig::new(issuer?, audience?, client_ids?);
    config.ca_file = ca_file;
    config.clock_skew = Duration::from_secs(skew?);
    config.role_map = role_map;
    if let Some(claims) = claims.filter(|claims| !claims.is_empty()) {
        config.roles_claims = claims;
    }
    match Provider::new(config.clone()) {
        Ok(_) => Some(config),
        Err(error) => {
            section.mistake(error.to_string());
            None
        }
    }
}

/// `[governance]`
pub(super) fn governance(section: &Section<'_, '_>) -> Option<Governance> {
    let required = section.number("approvals_required", 2, 1, APPROVERS_MAX as u64);
    let hours = section.number("approval_hours", 24 * 14, 1, HOURS_MAX);
    let emergency = section.number("emergency_hours", 48, 1, HOURS_MAX);
    let overlap = section.number("overlap_hours", 24 * 7, 0, HOURS_MAX);
    let read: Vec<Option<_>> = section.sections("approvers").iter().map(approver).collect();
    section.finish();
    let read: Vec<(Approver, Option<PathBuf>)> = read.into_iter().collect::<Option<_>>()?;
    let (approvers, files): (Vec<_>, Vec<_>) = read.into_iter().unzip();
    let names = approvers.iter().map(|approver| approver.name.clone());
    let key_files = names.zip(files).filter_map(|(name, file)| Some((name, file?))).collect();
    let (required, hours, emergency, overlap) = (required?, hours?, emergency?, overlap?);
    if approvers.len() > APPROVERS_MAX || (approvers.len() as u64) < required {
        let many = approvers.len();
        return section.wrong(
            "approvals_required",
            format!("{required} approvals cannot come from {many} approvers (at most {APPROVERS_MAX})"),
        );
    }
    let small = |number: u64| u32::try_from(number).unwrap_or(u32::MAX);
    let roster = Configured {
        approvals_required: small(required),
        approval_hours: small(hours),
        emergency_hours: small(emergency),
        approvers,
    };
    Some(Governance { roster, key_files, overlap_hours: small(overlap) })
}

fn approver(section: &Section<'_, '_>) -> Option<(Approver, Option<PathBuf>)> {
    let name: Option<PrincipalName> = section.required_parsed("name", "\"oidc:login.example.org/ann\"");
    let algorithms = SignatureAlgorithm::ALL
        .into_iter()
        .filter(|algorithm| !algorithm.is_mac())
        .map(|algorithm| (algorithm.as_str(), algorithm));
    let algorithms: Vec<_> = algorithms.collect();
    let algorithm = section.word("algorithm", &algorithms, SignatureAlgorithm::Ed25519);
    let given = section.path("public_key_file");
    section.finish();
    let public_key = match given.clone() {
        None => None,
        Some(path) => {
            let path = file(section, "public_key_file", Some(path))?;
            let too_long = std::fs::metadata(&path).is_ok_and(|found| found.len() > KEY_FILE_BYTES_MAX);
            let read = if too_long { None } else { std::fs::read_to_string(&path).ok() };
            let algorithm = algorithm?;
            let usable = read.and_then(|pem| PublicKey::from_pem(algorithm, &pem).ok());
            let wrong = || format!("{} holds no {algorithm} public key in PEM", path.display());
            match usable {
                Some(key) => Some(ApproverKey { algorithm, pem: key.to_pem() }),
                None => return section.wrong("public_key_file", wrong()),
            }
        }
    };
    Some((Approver { name: name?.as_str().to_owned(), public_key }, given))
}

/// `[policy]`
pub(super) fn policy(section: &Section<'_, '_>) -> Option<PolicyConfig> {
    let directory = section.path("directory");
    let directory = match directory {
        Some(path) if !path.is_dir() => {
            return section.wrong("directory", format!("{} is not a folder", path.display()));
        }
        other => other,
    };
    let hooks: Vec<Option<HookConfig>> = section.sections("hooks").iter().map(hook).collect();
    section.finish();
    Some(PolicyConfig { directory, hooks: hooks.into_iter().collect::<Option<_>>()? })
}

fn hook(section: &Section<'_, '_>) -> Option<HookConfig> {
    let name = section.required("name", "\"sentinelnet\"");
    let url = section.required("url", "\"https://sentinel.example.org/sentinelnet/check\"");
    let dialects = [("sentinelnet", HookDialect::Sentinelnet), ("opa", HookDialect::Opa)];
    let dialect = section.word("dialect", &dialects, HookDialect::Sentinelnet);
    let timeout = section.number("timeout_ms", 250, 1, 2_000);
    let roles = section.text("sentinel_roles");
    let ca_file = section.path("ca_file");
    section.finish();
    let mut config = HookConfig::new(name?, url?, dialect?);
    config.timeout = Duration::from_millis(timeout?);
    config.ca_file = ca_file;
    if let Some(roles) = roles {
        config.sentinel_roles = roles;
    }
    match PolicyHook::new(config.clone()) {
        Ok(_) => Some(config),
        Err(error) => {
            section.mistake(error.to_string());
            None
        }
    }
}

/// The tables about people as they are in force.
pub(super) fn render(config: &Config) -> Vec<(&'static str, Value)> {
    let mut tables = Vec::new();
    if let Some(identity) = &config.identity {
        let roles = identity
            .role_map
            .iter()
            .map(|(claim, role)| table([("claim", text(claim)), ("role", text(role.as_str()))]));
        let roles = Value::Array(roles.collect());
        let shown = table([
            ("issuer", text(&identity.issuer)),
            ("audience", text(&identity.audience)),
            ("client_ids", texts(&identity.client_ids)),
            ("clock_skew_s", number(identity.clock_skew.as_secs())),
            ("roles_claims", texts(&identity.roles_claims)),
            ("roles", roles),
        ]);
        tables.push(("identity", with(shown, "ca_file", identity.ca_file.as_deref().map(path))));
    }
    if let Some(Governance { roster, key_files, overlap_hours }) = &config.governance {
        let approvers = roster.approvers.iter().map(|approver| {
            let algorithm = approver.public_key.as_ref().map(|key| text(key.algorithm.as_str()));
            let shown = with(table([("name", text(&approver.name))]), "algorithm", algorithm);
            with(shown, "public_key_file", key_files.get(&approver.name).map(|file| path(file)))
        });
        let shown = table([
            ("approvals_required", number(roster.approvals_required)),
            ("approval_hours", number(roster.approval_hours)),
            ("emergency_hours", number(roster.emergency_hours)),
            ("overlap_hours", number(*overlap_hours)),
            ("approvers", Value::Array(approvers.collect())),
        ]);
        tables.push(("governance", shown));
    }
    if config.policy.directory.is_some() || !config.policy.hooks.is_empty() {
        let hooks = config.policy.hooks.iter().map(|hook| {
            let dialect = match hook.dialect {
                HookDialect::Sentinelnet => "sentinelnet",
                HookDialect::Opa => "opa",
            };
            let shown = table([
                ("name", text(&hook.name)),
                ("url", text(&hook.url)),
                ("dialect", text(dialect)),
                ("timeout_ms", number(hook.timeout.as_millis())),
                ("sentinel_roles", text(&hook.sentinel_roles)),
            ]);
            with(shown, "ca_file", hook.ca_file.as_deref().map(path))
        });
        let shown = table([("hooks", Value::Array(hooks.collect()))]);
        tables.push(("policy", with(shown, "directory", config.policy.directory.as_deref().map(path))));
    }
    tables
}
