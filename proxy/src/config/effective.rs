//! The configuration as it is in force, defaults and overrides included, as TOML. Holds no secret.

use std::path::Path;

use chancery_format::Kid;
use chancery_format::log_key::LogKey;
use toml::{Table, Value};

use super::{
    ArchiveConfig, ArchiveKind, BackendConfig, BackendKind, ChainConfig, Config, Intents, KeyConfig,
    PrincipalConfig, WitnessConfig, WitnessingConfig,
};
use crate::admission::allowance::KeyLimit;

pub(super) fn render(config: &Config) -> String {
    let tables = [
        Some(("listeners", listeners(config))),
        Some(("ledger", ledger(config))),
        config.archive.as_ref().map(|archive| ("archive", self::archive(archive))),
        kill_switch(config).map(|switch| ("kill_switch", switch)),
        Some(("logging", table([("level", text(config.log_level.as_str()))]))),
        Some(("limits", limits(config))),
        Some(("backends", list(&config.backends, backend))),
        Some(("keys", list(&config.keys, key))),
        (!config.chains.is_empty()).then(|| ("chains", list(&config.chains, chain))),
        config.witness.as_ref().map(|witness| ("witness", self::witness(witness))),
        config.witnessing.as_ref().map(|witnessing| ("witnessing", self::witnessing(witnessing))),
    ];
    let people = super::people::render(config);
    let rendered = format!("environment = {}\n", text(config.environment.as_str()));
    tables
        .into_iter()
        .flatten()
        .chain(people)
        .fold(rendered, |rendered, (name, value)| rendered + &one(name, value))
}

fn chain(chain: &ChainConfig) -> Value {
    let value = table([
        ("stream", text(chain.stream.as_str())),
        ("dialect", text(chain.dialect.as_str())),
        ("kid", text(chain.kid.as_str())),
        ("principal", text(chain.principal.as_str())),
    ]);
    with(value, "previous_hash", chain.previous_hash.map(|hash| text(&hash.to_hex())))
}

fn witness(witness: &WitnessConfig) -> Value {
    let kids: Vec<&str> = witness.kids.iter().map(Kid::as_str).collect();
    let logs: Vec<String> = witness.logs.iter().map(LogKey::vkey).collect();
    let value = table([
        ("address", text(&witness.address.to_string())),
        ("name", text(witness.name.as_str())),
        ("kids", texts(&kids)),
        ("directory", path(&witness.directory)),
        ("logs", texts(&logs)),
    ]);
    with(value, "logs_file", witness.logs_file.as_deref().map(path))
}

fn witnessing(witnessing: &WitnessingConfig) -> Value {
    let value = table([
        ("policy_file", path(&witnessing.policy_file)),
        ("interval_ms", number(witnessing.interval.as_millis())),
        ("timeout_ms", number(witnessing.timeout.as_millis())),
    ]);
    with(value, "ca_file", witnessing.ca_file.as_deref().map(path))
}

fn kill_switch(config: &Config) -> Option<Value> {
    let file = config.kill_switch_file.as_deref().map(path);
    let folder = config.surplus_directory.as_deref().map(path);
    let any = file.is_some() || folder.is_some();
    any.then(|| with(with(table([]), "file", file), "surplus_directory", folder))
}

pub(super) fn render_grants(config: &Config) -> String {
    let limits = (!config.key_limits.is_empty()).then(|| list(&config.key_limits, key_limit));
    let limits = limits.map_or_else(String::new, |limits| one("key_limits", limits));
    one("principals", list(&config.principals, principal)) + &limits
}

fn key_limit(limit: &KeyLimit) -> Value {
    let value = table([("kid", text(limit.kid.as_str()))]);
    let value = with(value, "principal", limit.principal.as_ref().map(|name| text(name.as_str())));
    let value = with(value, "rate_per_second", limit.rate.map(|rate| number(rate.per_second)));
    let value = with(value, "burst", limit.rate.map(|rate| number(rate.burst)));
    let value = with(value, "daily_quota", limit.daily_quota.map(number));
    with(value, "lifetime_uses", limit.lifetime_uses.map(number))
}

fn one(name: &str, value: Value) -> String {
    format!("\n{}", Table::from_iter([(name.to_owned(), value)]))
}

pub(super) fn table<const N: usize>(fields: [(&str, Value); N]) -> Value {
    Value::Table(fields.into_iter().map(|(name, value)| (name.to_owned(), value)).collect())
}

pub(super) fn with(value: Value, name: &str, field: Option<Value>) -> Value {
    match (value, field) {
        (Value::Table(mut table), Some(field)) => {
            table.insert(name.to_owned(), field);
            Value::Table(table)
        }
        (value, _) => value,
    }
}

fn list<T>(items: &[T], one: fn(&T) -> Value) -> Value {
    Value::Array(items.iter().map(one).collect())
}

pub(super) fn texts<T: ToString>(items: &[T]) -> Value {
    Value::Array(items.iter().map(|item| Value::String(item.to_string())).collect())
}

pub(super) fn text(text: &str) -> Value {
    Value::String(text.to_owned())
}

pub(super) fn path(path: &Path) -> Value {
    Value::String(path.display().to_string())
}

pub(super) fn number(number: impl TryInto<i64>) -> Value {
    Value::Integer(number.try_into().unwrap_or(i64::MAX))
}

fn listeners(config: &Config) -> Value {
    let service = &config.service;
    let service_table = table([
        ("address", text(&service.address.to_string())),
        ("certificate_file", path(&service.certificate_file)),
        ("key_file", path(&service.key_file)),
        ("client_ca_file", path(&service.client_ca_file)),
    ]);
    let service_table = with(service_table, "crl_file", service.crl_file.as_deref().map(path));
    let allowed = Value::Boolean(service.allow_bearer_tokens_in_production);
    let service_table = with(service_table, "allow_bearer_tokens_in_production", Some(allowed));
    let at = |address: std::net::SocketAddr| table([("address", text(&address.to_string()))]);
    let both = table([("service", service_table), ("ops", at(config.ops_address))]);
    with(both, "admin", config.admin_address.map(at))
}

fn ledger(config: &Config) -> Value {
    let ledger = &config.ledger;
    let section = table([
        ("directory", path(&ledger.directory)),
        ("origin", text(ledger.origin.as_str())),
        ("signing_key", text(ledger.signing_key.as_str())),
        ("checkpoint_interval_ms", number(ledger.checkpoint_interval.as_millis())),
        ("heads_interval_ms", number(ledger.heads_interval.as_millis())),
        ("cose_receipts", Value::Boolean(ledger.cose_receipts)),
        ("grease", Value::Boolean(ledger.grease)),
        ("reserve_bytes", number(ledger.reserve_bytes)),
        ("signers_file", path(&ledger.signers_file)),
    ]);
    with(section, "second_signing_key", ledger.second_signing_key.as_ref().map(|kid| text(kid.as_str())))
}

fn archive(archive: &ArchiveConfig) -> Value {
    let kind = match &archive.kind {
        ArchiveKind::Directory { directory } => {
            table([("kind", text("directory")), ("directory", path(directory))])
        }
        ArchiveKind::S3 { bucket, prefix, region, endpoint_url, path_style, retention_days } => {
            let s3 = table([
                ("kind", text("s3")),
                ("bucket", text(bucket)),
                ("prefix", text(prefix)),
                ("region", text(region)),
                ("path_style", Value::Boolean(*path_style)),
                ("retention_days", number(*retention_days)),
            ]);
            with(s3, "endpoint_url", endpoint_url.as_deref().map(text))
        }
    };
    let kind = with(kind, "epoch_interval_ms", Some(number(archive.epoch_interval.as_millis())));
    let kind = with(kind, "lag_entries_max", Some(number(archive.lag_entries_max)));
    let kind = with(kind, "lag_age_ms_max", Some(number(archive.lag_age_max.as_millis())));
    with(kind, "static_log", Some(Value::Boolean(archive.static_log)))
}

fn backend(backend: &BackendConfig) -> Value {
    let kind = match &backend.kind {
        BackendKind::Pkcs11 { .. } => super::pkcs11::render(&backend.kind).unwrap_or_else(|| table([])),
        BackendKind::AwsKms { region, endpoint_url, sessions, connect_timeout, attempt_timeout } => {
            let kms = table([
                ("kind", text("aws-kms")),
                ("sessions", number(*sessions)),
                ("connect_timeout_ms", number(connect_timeout.as_millis())),
                ("attempt_timeout_ms", number(attempt_timeout.as_millis())),
            ]);
            let kms = with(kms, "region", region.as_deref().map(text));
            with(kms, "endpoint_url", endpoint_url.as_deref().map(text))
        }
        BackendKind::YubiHsm {
            connector,
            serial,
            auth_key_id,
            password_file,
            sessions,
            timeout,
            force_audit,
            attestation_roots,
        } => {
            let device = table([
                ("kind", text("yubihsm")),
                ("connector", text(&connector.to_string())),
                ("auth_key_id", number(*auth_key_id)),
                ("password_file", path(password_file)),
                ("sessions", number(*sessions)),
                ("timeout_ms", number(timeout.as_millis())),
                ("force_audit", text(force_audit.as_str())),
            ]);
            let device = with(device, "serial", serial.as_deref().map(text));
            with(device, "attestation_roots", attestation_roots.as_deref().map(path))
        }
        BackendKind::Software { directory, intents } => {
            let intents = if *intents == Intents::Skip { "skip" } else { "always" };
            table([("kind", text("software")), ("directory", path(directory)), ("intents", text(intents))])
        }
    };
    with(kind, "name", Some(text(&backend.name)))
}

fn key(key: &KeyConfig) -> Value {
    let value = table([
        ("kid", text(key.kid.as_str())),
        ("signer_kid", text(key.signer_kid.as_str())),
        ("backend", text(&key.backend)),
        ("label", text(&key.label)),
        ("algorithm", text(key.algorithm.as_str())),
        ("purpose", text(key.purpose.as_str())),
        ("description", text(&key.description)),
        ("release", text(key.release.as_str())),
        ("anchored", Value::Boolean(key.anchored)),
    ]);
    let value = with(value, "co_signer", key.co_signer.as_ref().map(|kid| text(kid.as_str())));
    let value = with(value, "requested_by", key.requested_by.as_deref().map(text));
    let dialects: Vec<&str> = key.dialects.iter().map(|dialect| dialect.as_str()).collect();
    let value = with(value, "dialects", Some(texts(&dialects)));
    with(value, "aliases", Some(texts(&key.aliases)))
}

fn principal(principal: &PrincipalConfig) -> Value {
    let grant = &principal.grant;
    let operations: Vec<&str> = grant.operations.iter().map(|operation| operation.as_str()).collect();
    let streams: Vec<String> = grant.streams.iter().map(|stream| stream.to_string()).collect();
    let value = table([
        ("name", text(grant.principal.as_str())),
        ("kids", texts(&grant.kids)),
        ("operations", texts(&operations)),
        ("streams", texts(&streams)),
        ("read_payloads", Value::Boolean(grant.read_payloads)),
        ("rate_per_second", number(grant.rate.per_second)),
        ("burst", number(grant.rate.burst)),
        ("groups", texts(&grant.groups)),
    ]);
    let value = with(value, "daily_quota", grant.daily_quota.map(number));
    let dialects: Vec<&str> = grant.dialects.iter().map(|dialect| dialect.as_str()).collect();
    let value = with(value, "dialects", Some(texts(&dialects)));
    let value = with(value, "default_kid", grant.default_kid.as_ref().map(|kid| text(kid.as_str())));
    let value = with(value, "token_sha256", Some(texts(&principal.token_sha256)));
    with(value, "common_name", principal.common_name.as_deref().map(text))
}

fn limits(config: &Config) -> Value {
    let values = config.limits.values();
    Value::Table(values.into_iter().map(|(name, value)| (name.to_owned(), number(value))).collect())
}
