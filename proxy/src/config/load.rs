//! From a file to a [`Config`], or to everything that is wrong with it.

use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};

use chancery_format::{Rung, SignatureAlgorithm};
use toml::de::DeTable;

use super::environment::{Environment, Variables};
use super::reader::{Document, Mistake, Mistakes, Section};
use super::{
    BackendConfig, ChainConfig, Config, KeyConfig, LedgerConfig, PrincipalConfig, WitnessConfig, people,
    sections,
};
use crate::admission::allowance::KeyLimit;
use crate::admission::policy::{Grant, Operation};
use crate::limits::Limits;

/// Longest file read; a configuration is written by a person.
const FILE_BYTES_MAX: u64 = 4 << 20;

/// Reads `file` under the environment `variables`.
pub fn load(file: &Path, variables: &Variables) -> Result<Config, Mistakes> {
    let one = |message: String| Mistakes {
        file: file.to_owned(),
        list: vec![Mistake { line: None, field: String::new(), message }],
    };
    let length = std::fs::metadata(file).map_err(|error| one(error.to_string()))?.len();
    if length > FILE_BYTES_MAX {
        return Err(one(format!("is longer than {FILE_BYTES_MAX} bytes")));
    }
    let text = std::fs::read_to_string(file).map_err(|error| one(error.to_string()))?;
    let file = std::path::absolute(file).map_err(|error| one(error.to_string()))?;
    parse(&file, &text, variables)
}

/// Reads `text` as if it were the content of `file`.
pub fn parse(file: &Path, text: &str, variables: &Variables) -> Result<Config, Mistakes> {
    let folder = file.parent().unwrap_or_else(|| Path::new("."));
    let document = Document::new(text, folder);
    let (table, errors) = DeTable::parse_recoverable(text);
    for error in errors {
        let line = error.span().map(|span| document.line_at(span.start));
        document.mistake(line, "", format!("not TOML: {}", error.message()));
    }
    let config = read(&Section::root(&document, table.get_ref()), file, variables);
    let list = document.into_mistakes();
    match config {
        Some(config) if list.is_empty() => Ok(config),
        _ => Err(Mistakes { file: file.to_owned(), list }),
    }
}

fn read(root: &Section<'_, '_>, file: &Path, variables: &Variables) -> Option<Config> {
    let words = [Environment::Development, Environment::Production].map(|it| (it.as_str(), it));
    let environment = root.word("environment", &words, Environment::Development);
    let listeners = root.required_section("listeners");
    let service = sections::service(&listeners.required_section("service"));
    let ops = sections::ops(&listeners.section("ops"));
    let admin_section = listeners.section("admin");
    let admin_address = admin_section.is_present().then(|| sections::admin(&admin_section));
    listeners.finish();
    let identity_section = root.section("identity");
    let identity = identity_section.is_present().then(|| people::identity(&identity_section));
    let governance_section = root.section("governance");
    let governance = governance_section.is_present().then(|| people::governance(&governance_section));
    let policy = people::policy(&root.section("policy"));
    if admin_section.is_present() && !identity_section.is_present() {
        admin_section.mistake("needs [identity]: people are known by their provider's tokens".to_owned());
    }
    let ledger_section = root.required_section("ledger");
    let ledger = sections::ledger(&ledger_section);
    let archive_section = root.section("archive");
    let archive = archive_section.is_present().then(|| sections::archive(&archive_section));
    let backends = read_all(root, "backends", "name", sections::backend);
    let mut keys = read_all(root, "keys", "kid", sections::key);
    let principals = read_all(root, "principals", "name", sections::principal);
    let key_limits = read_all(root, "key_limits", "kid", sections::key_limit);
    let chains = read_all(root, "chains", "stream", sections::chain);
    let witness_section = root.section("witness");
    let witness = witness_section.is_present().then(|| sections::witness(&witness_section));
    let witnessing_section = root.section("witnessing");
    let witnessing = witnessing_section.is_present().then(|| sections::witnessing(&witnessing_section));
    let (kill_switch_file, surplus_directory) = sections::kill_switch(&root.section("kill_switch"));
    let log_level = sections::logging(&root.section("logging"));
    let limits_section = root.section("limits");
    let limits = sections::limits(&limits_section);
    check_limits(&limits_section, &limits);
    root.finish();

    let ledger = ledger.map(|ledger| override_signing_key(ledger, variables));
    check_backends(&backends);
    check_keys(&keys, &backends);
    check_release(&keys, archive_section.is_present(), witnessing_section.is_present());
    check_aliases(&keys);
    check_principals(&principals, &keys, ledger.as_ref());
    check_tokens(&principals);
    check_key_limits(&key_limits, &keys, &principals);
    check_chains(&chains, &keys, &principals, ledger.as_ref());
    if let Some(Some(witness)) = &witness {
        check_witness(&witness_section, witness, &keys, &principals, &chains);
        for kid in
            witness.kids.iter().filter(|kid| ledger.as_ref().is_some_and(|ledger| ledger.signs_with(kid)))
        {
            let message = format!("{kid} signs the ledger's own checkpoints and nothing else");
            witness_section.wrong::<()>("kids", message);
        }
    }
    if let Some(ledger) = &ledger {
        check_ledger_key(&ledger_section, ledger, &keys);
        check_co_signers(&keys, ledger);
        override_labels(root, &mut keys, ledger, variables);
    }
    Some(Config {
        file: file.to_owned(),
        environment: if variables.says_production() { Environment::Production } else { environment? },
        service: service?,
        ops_address: ops?,
        admin_address: optional(admin_address)?,
        identity: optional(identity)?,
        governance: optional(governance)?,
        policy: policy?,
        ledger: ledger?,
        archive: optional(archive)?,
        backends: values(backends)?,
        keys: values(keys)?,
        principals: values(principals)?,
        key_limits: values(key_limits)?,
        chains: values(chains)?,
        witness: optional(witness)?,
        witnessing: optional(witnessing)?,
        kill_switch_file,
        surplus_directory,
        log_level: log_level?,
        limits,
    })
}

/// `Some(None)` if absent, `None` if it was there and wrong.
#[expect(clippy::option_option, reason = "absent and wrong are different")]
fn optional<T>(section: Option<Option<T>>) -> Option<Option<T>> {
    match section {
        None => Some(None),
        Some(None) => None,
        Some(Some(value)) => Some(Some(value)),
    }
}

/// One element of a list of tables: where it stands, the name it declares, and what it holds if right.
struct Element<'d, 't, T> {
    section: Section<'d, 't>,
    name: Option<String>,
    value: Option<T>,
}

fn read_all<'d, 't, T>(
    root: &Section<'d, 't>,
    list: &'static str,
    name: &'static str,
    read: fn(&Section<'_, '_>) -> Option<T>,
) -> Vec<Element<'d, 't, T>> {
    let elements = root.sections(list).into_iter().map(|section| {
        let value = read(&section);
        Element { name: section.peek(name), value, section }
    });
    elements.collect()
}

fn values<T>(elements: Vec<Element<'_, '_, T>>) -> Option<Vec<T>> {
    elements.into_iter().map(|element| element.value).collect()
}

/// Reports every element whose `text` another one had before.
fn check_unique<'e, T: 'e>(
    elements: &'e [Element<'_, '_, T>],
    field: &'static str,
    text: impl Fn(&'e Element<'_, '_, T>) -> Option<&'e str>,
) {
    let mut seen: HashMap<&str, Option<usize>> = HashMap::new();
    for element in elements {
        let Some(value) = text(element) else { continue };
        if let Some(first) = seen.get(value) {
            let at = first.map(|line| format!(" on line {line}")).unwrap_or_default();
            let _: Option<()> = element.section.wrong(field, format!("{value:?} was used before{at}"));
        } else {
            seen.insert(value, element.section.line_of(field));
        }
    }
}

/// A batch is one call to the ledger, and one call is at most one group commit.
fn check_limits(section: &Section<'_, '_>, limits: &Limits) {
    if limits.batch_items_max > limits.ledger_batch_entries_max {
        section.wrong::<()>("batch_items_max", "must not be above ledger_batch_entries_max");
    }
    if limits.batch_body_bytes_max > limits.ledger_batch_bytes_max {
        section.wrong::<()>("batch_body_bytes_max", "must not be above ledger_batch_bytes_max");
    }
    if limits.body_bytes_max > limits.batch_body_bytes_max {
        section.wrong::<()>("body_bytes_max", "must not be above batch_body_bytes_max");
    }
}

fn check_backends(backends: &[Element<'_, '_, BackendConfig>]) {
    check_unique(backends, "name", |element| element.name.as_deref());
}

fn check_keys(keys: &[Element<'_, '_, KeyConfig>], backends: &[Element<'_, '_, BackendConfig>]) {
    check_unique(keys, "kid", |element| element.name.as_deref());
    check_unique(keys, "signer_kid", |element| element.value.as_ref().map(|key| key.signer_kid.as_str()));
    let known: Vec<&str> = backends.iter().filter_map(|backend| backend.name.as_deref()).collect();
    for element in keys {
        let Some(key) = &element.value else { continue };
        if !known.contains(&key.backend.as_str()) {
            let message = format!("there is no backend {:?}; there are: {}", key.backend, known.join(", "));
            let _: Option<()> = element.section.wrong("backend", message);
        }
    }
}

/// A key whose signatures wait for the archive or for witnesses needs them.
fn check_release(keys: &[Element<'_, '_, KeyConfig>], archived: bool, witnessed: bool) {
    for element in keys {
        let missing = match element.value.as_ref().map(|key| key.release) {
            Some(Rung::Archived) if !archived => "\"archived\" needs an [archive]",
            Some(Rung::Witnessed) if !witnessed => "\"witnessed\" needs [witnessing]: who is to cosign",
            _ => continue,
        };
        let _: Option<()> = element.section.wrong("release", missing);
    }
}

fn check_principals(
    principals: &[Element<'_, '_, PrincipalConfig>],
    keys: &[Element<'_, '_, KeyConfig>],
    ledger: Option<&LedgerConfig>,
) {
    check_unique(principals, "name", |element| element.name.as_deref());
    let common_name = |config: &'_ PrincipalConfig| config.common_name.is_some();
    check_unique(principals, "common_name", |element| {
        element
            .value
            .as_ref()
            .filter(|config| common_name(config))
            .and_then(|config| config.common_name.as_deref())
    });
    let known: Vec<&str> = keys.iter().filter_map(|key| key.name.as_deref()).collect();
    for element in principals {
        let Some(config) = &element.value else { continue };
        let wrong = |field, message: String| element.section.wrong::<()>(field, message);
        if config.grant.principal == chancery_format::PrincipalName::appliance() {
            wrong("name", "\"chancery\" is the appliance's own name".to_owned());
        }
        if let Some(kid) = config.grant.default_kid.as_ref().filter(|kid| !config.grant.kids.contains(kid)) {
            wrong("default_kid", format!("{kid:?} is not one of its kids"));
        }
        for kid in &config.grant.kids {
            if !known.contains(&kid.as_str()) {
                wrong("kids", format!("there is no key {kid:?}; there are: {}", known.join(", ")));
            } else if ledger.is_some_and(|ledger| ledger.signs_with(kid)) {
                wrong("kids", format!("{kid:?} signs the ledger's checkpoints and nothing else"));
            }
        }
        let uses_keys =
            config.grant.operations.iter().any(|it| matches!(it, Operation::Sign | Operation::Mac));
        if uses_keys && config.grant.kids.is_empty() {
            wrong("kids", "is empty, but sign or mac is granted".to_owned());
        }
    }
}

/// A name means one key, whoever says it.
fn check_aliases(keys: &[Element<'_, '_, KeyConfig>]) {
    let names = keys.iter().filter_map(|element| element.value.as_ref());
    let mut seen: HashSet<&str> = names.flat_map(|key| [key.kid.as_str(), key.signer_kid.as_str()]).collect();
    for element in keys {
        for alias in element.value.iter().flat_map(|key| &key.aliases) {
            if !seen.insert(alias) {
                element
                    .section
                    .wrong::<()>("aliases", format!("{alias:?} names another key, or this one, already"));
            }
        }
    }
}

/// A token stands for one principal.
fn check_tokens(principals: &[Element<'_, '_, PrincipalConfig>]) {
    let mut seen = HashSet::new();
    for element in principals {
        for hash in element.value.iter().flat_map(|config| &config.token_sha256) {
            if !seen.insert(*hash) {
                element.section.wrong::<()>("token_sha256", format!("{hash} stands for somebody already"));
            }
        }
    }
}

/// Limits are for keys and principals that exist, and each is written down once.
fn check_key_limits(
    limits: &[Element<'_, '_, KeyLimit>],
    keys: &[Element<'_, '_, KeyConfig>],
    principals: &[Element<'_, '_, PrincipalConfig>],
) {
    let mut seen = HashSet::new();
    for element in limits {
        let Some(limit) = &element.value else { continue };
        let wrong = |field, message: String| element.section.wrong::<()>(field, message);
        if !keys.iter().any(|key| key.name.as_deref() == Some(limit.kid.as_str())) {
            wrong("kid", format!("there is no key {:?}", limit.kid));
        }
        let named = |name: &str| principals.iter().any(|it| it.name.as_deref() == Some(name));
        if let Some(principal) = limit.principal.as_ref().filter(|name| !named(name.as_str())) {
            wrong("principal", format!("there is no principal {principal:?}"));
        }
        if !seen.insert((&limit.kid, &limit.principal)) {
            wrong("kid", format!("{:?} has limits already", limit.kid));
        }
    }
}

/// A chain's key is its own, its verifiers know the algorithm, and key uses, which stand in streams named like
/// principals, are no rows.
fn check_chains(
    chains: &[Element<'_, '_, ChainConfig>],
    keys: &[Element<'_, '_, KeyConfig>],
    principals: &[Element<'_, '_, PrincipalConfig>],
    ledger: Option<&LedgerConfig>,
) {
    check_unique(chains, "stream", |element| element.name.as_deref());
    let keys: Vec<&KeyConfig> = keys.iter().filter_map(|key| key.value.as_ref()).collect();
    let principals: Vec<&Grant> =
        principals.iter().filter_map(|it| it.value.as_ref().map(|it| &it.grant)).collect();
    for element in chains {
        let Some(chain) = &element.value else { continue };
        let wrong = |field, message: String| element.section.wrong::<()>(field, message);
        match keys.iter().find(|key| key.kid == chain.kid) {
            None => drop(wrong("kid", format!("there is no key {:?}", chain.kid))),
            Some(key) if !chain.dialect.verifies(key.algorithm) => {
                let message =
                    format!("is for {}, which verifiers of {} do not know", key.algorithm, chain.dialect);
                wrong("kid", message);
            }
            Some(key) if key.co_signer.is_some() || !key.dialects.is_empty() => {
                wrong("kid", "must have neither co_signer nor dialects: it signs rows alone".to_owned());
            }
            Some(_) => {}
        }
        if ledger.is_some_and(|ledger| ledger.signs_with(&chain.kid)) {
            wrong("kid", "signs the ledger's checkpoints and nothing else".to_owned());
        }
        if let Some(other) = principals.iter().find(|it| it.kids.contains(&chain.kid)) {
            wrong(
                "kid",
                format!("is granted to {}; a chain's key signs its rows and nothing else", other.principal),
            );
        }
        if !principals.iter().any(|it| it.principal == chain.principal) {
            wrong("principal", format!("there is no principal {:?}", chain.principal));
        }
        if principals.iter().any(|it| it.principal.as_str() == chain.stream.as_str()) {
            wrong("stream", "is a principal's own, where its key uses stand; name another".to_owned());
        }
        if chain.stream.is_appliances() {
            wrong("stream", "is the appliance's own".to_owned());
        }
    }
}

/// A witness' keys cosign and nothing else, and one key never bears two names.
fn check_witness(
    section: &Section<'_, '_>,
    witness: &WitnessConfig,
    keys: &[Element<'_, '_, KeyConfig>],
    principals: &[Element<'_, '_, PrincipalConfig>],
    chains: &[Element<'_, '_, ChainConfig>],
) {
    let wrong = |message: String| section.wrong::<()>("kids", message);
    for kid in &witness.kids {
        match keys.iter().filter_map(|key| key.value.as_ref()).find(|key| key.kid == *kid) {
            None => drop(wrong(format!("there is no key {kid:?}"))),
            Some(key)
                if !matches!(key.algorithm, SignatureAlgorithm::Ed25519 | SignatureAlgorithm::MlDsa44) =>
            {
                wrong(format!("{kid} is for {}; witnesses sign by ed25519 or ml-dsa-44", key.algorithm));
            }
            Some(key) if key.co_signer.is_some() || !key.dialects.is_empty() => {
                wrong(format!("{kid} must have neither co_signer nor dialects: it cosigns alone"));
            }
            Some(_) => {}
        }
        let grants = principals.iter().filter_map(|it| it.value.as_ref());
        if grants.into_iter().any(|it| it.grant.kids.contains(kid)) {
            wrong(format!("{kid} is granted to a principal; a witness' key cosigns and nothing else"));
        }
        if chains.iter().filter_map(|it| it.value.as_ref()).any(|chain| chain.kid == *kid) {
            wrong(format!("{kid} signs the rows of a chain and nothing else"));
        }
    }
}

/// A co-signer signs the same digest, so it must be able to, and must not bring a third.
fn check_co_signers(keys: &[Element<'_, '_, KeyConfig>], ledger: &LedgerConfig) {
    let by_kid: HashMap<&str, &KeyConfig> =
        keys.iter().filter_map(|key| Some((key.name.as_deref()?, key.value.as_ref()?))).collect();
    for element in keys {
        let Some(config) = &element.value else { continue };
        let Some(name) = &config.co_signer else { continue };
        let wrong = |message: String| element.section.wrong::<()>("co_signer", message);
        let Some(second) = by_kid.get(name.as_str()) else {
            wrong(format!("there is no key {name:?}"));
            continue;
        };
        let (digest, other) = (config.algorithm.digest(), second.algorithm.digest());
        if config.kid == *name {
            wrong("is the key itself".to_owned());
        } else if ledger.signs_with(name) || ledger.signs_with(&config.kid) {
            wrong("is not for the key that signs the ledger's checkpoints and nothing else".to_owned());
        } else if config.algorithm.is_mac() || second.algorithm.is_mac() {
            wrong("is for signatures; a MAC has none beside it".to_owned());
        } else if second.co_signer.is_some() {
            wrong(format!("{name:?} has a co-signer itself"));
        } else if digest.is_some() && other.is_some() && digest != other {
            wrong(format!("{} and {} take digests of different kinds", config.algorithm, second.algorithm));
        }
    }
}

fn check_ledger_key(section: &Section<'_, '_>, ledger: &LedgerConfig, keys: &[Element<'_, '_, KeyConfig>]) {
    let wrong = |message: String| section.wrong::<()>("signing_key", message);
    match keys.iter().find(|key| key.name.as_deref() == Some(ledger.signing_key.as_str())) {
        None => {
            wrong(format!("there is no key {:?}", ledger.signing_key));
        }
        Some(Element { value: Some(key), .. }) if key.algorithm != SignatureAlgorithm::Ed25519 => {
            wrong(format!("key {:?} is {}; checkpoints are signed with ed25519", key.kid, key.algorithm));
        }
        Some(_) => {}
    }
    let Some(second) = &ledger.second_signing_key else { return };
    let wrong = |message: String| section.wrong::<()>("second_signing_key", message);
    match keys.iter().find(|key| key.name.as_deref() == Some(second.as_str())) {
        None => {
            wrong(format!("there is no key {second:?}"));
        }
        Some(Element { value: Some(key), .. }) if key.algorithm != SignatureAlgorithm::MlDsa44 => {
            wrong(format!(
                "key {second:?} is {}; beside ed25519, checkpoints are signed with ml-dsa-44",
                key.algorithm
            ));
        }
        Some(_) => {}
    }
}

/// `AUDIT_SIGNER_KID` names the key that signs the ledger.
fn override_signing_key(mut ledger: LedgerConfig, variables: &Variables) -> LedgerConfig {
    if let Some(kid) = variables.text("AUDIT_SIGNER_KID").and_then(|text| text.parse().ok()) {
        ledger.signing_key = kid;
    }
    ledger
}

/// `AUDIT_SIGNING_KMS_KEY_ID` and `MANIFEST_SIGNING_KMS_KEY_ID` name keys inside their backend: that of
/// the ledger, and that whose purpose is `manifest`.
fn override_labels(
    root: &Section<'_, '_>,
    keys: &mut [Element<'_, '_, KeyConfig>],
    ledger: &LedgerConfig,
    variables: &Variables,
) {
    let values = keys.iter_mut().filter_map(|element| element.value.as_mut());
    let (mut audit, mut manifest): (Vec<_>, Vec<_>) = values.partition(|key| key.kid == ledger.signing_key);
    manifest.retain(|key| key.purpose.as_str() == "manifest");
    for (variable, owners) in
        [("AUDIT_SIGNING_KMS_KEY_ID", &mut audit), ("MANIFEST_SIGNING_KMS_KEY_ID", &mut manifest)]
    {
        let Some(label) = variables.text(variable) else { continue };
        match owners.as_mut_slice() {
            [only] => label.clone_into(&mut only.label),
            found => {
                root.mistake(format!(
                    "{variable} is set, but {} keys have that purpose instead of one",
                    found.len()
                ));
            }
        }
    }
}

/// The paths a configuration names that hold secrets: they must be readable by the daemon alone.
pub(super) fn secret_files(config: &Config) -> Vec<PathBuf> {
    let mut files = vec![config.service.key_file.clone()];
    for backend in &config.backends {
        match &backend.kind {
            super::BackendKind::Pkcs11 { pin_file, .. } => files.push(pin_file.clone()),
            super::BackendKind::YubiHsm { password_file, .. } => files.push(password_file.clone()),
            super::BackendKind::AwsKms { .. } => {}
            super::BackendKind::Software { directory, .. } => {
                let entries = std::fs::read_dir(directory).into_iter().flatten().flatten();
                files.extend(entries.map(|entry| entry.path()).filter(|path| path.is_file()));
            }
        }
    }
    files
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a failed unwrap is the test's failure")]
    use super::super::sample::{TEXT, config, try_config};
    use super::*;

    fn mistakes(text: &str) -> Vec<String> {
        let (_folder, result) = try_config(text, &[]);
        let Err(mistakes) = result else { panic!("sound: {text}") };
        mistakes.list.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn a_sound_file_is_read_and_its_effective_form_reads_back() {
        let (folder, first) = config(TEXT, &[]);
        assert_eq!(first.ledger.directory, folder.path().join("ledger"));
        assert_eq!(first.ledger.signers_file, folder.path().join("ledger/signers.json"));
        assert_eq!(
            first.keys.iter().map(|key| key.label.as_str()).collect::<Vec<_>>(),
            ["ledger-v1", "orders-v1"]
        );
        let effective = first.effective();
        let second = parse(&first.file, &effective, &Variables::default()).unwrap();
        assert_eq!(second.effective(), effective);
        assert!(effective.contains("handshake_timeout_ms = 5000"), "{effective}");
    }

    #[test]
    fn every_mistake_is_reported_at_once_with_its_line() {
        let text = TEXT
            .replace("127.0.0.1:0", "localhost")
            .replace("server.key", "absent.key")
            .replace("log.example/test", "log example")
            .replace("signing_key = \"ledger\"", "signing_key = \"orders\"\ncheckpoint_interval_ms = 5")
            .replace(
                "backend = \"keys\"\nalgorithm = \"ecdsa-p256-sha256\"",
                "backend = \"kes\"\nalgorithm = \"ecdsa\"",
            )
            .replace("kids = [\"orders\"]", "kids = [\"order\", \"UPPER\"]")
            .replace("\"verify\"]", "\"fly\"]")
            .replace("rate_per_second", "rate_per_secnd");
        let found = mistakes(&text);
        let expected = [
            (4, "listeners.service.address", "no address and port"),
            (6, "listeners.service.key_file", "No such file"),
            (14, "ledger.origin", "must be 1 to 200"),
            (16, "ledger.checkpoint_interval_ms", "from 100 to 60000"),
            (38, "keys[1].algorithm", "not one of ed25519, ed25519ph, ecdsa-p256-sha256"),
            (44, "principals[0].kids", "must be 1 to 64"),
            (45, "principals[0].operations", "unknown operation"),
            (47, "principals[0].rate_per_secnd", "did you mean rate_per_second?"),
        ];
        for (line, field, message) in expected {
            let start = format!("line {line}: {field}: ");
            assert!(
                found.iter().any(|it| it.starts_with(&start) && it.contains(message)),
                "{start}{message}\n{found:#?}"
            );
        }
        assert_eq!(found.len(), expected.len(), "{found:#?}");
    }

    #[test]
    fn names_must_point_somewhere_and_be_used_once() {
        let duplicate_kid = TEXT.replace("kid = \"orders\"\n", "kid = \"ledger\"\n");
        assert!(
            mistakes(&duplicate_kid).iter().any(|it| it.contains("\"ledger\" was used before on line 27"))
        );
        for (from, to, expected) in [
            (
                "signer_kid = \"orders-v1\"",
                "signer_kid = \"ledger-v1\"",
                "keys[1].signer_kid: \"ledger-v1\" was used before",
            ),
            (
                "backend = \"keys\"\nalgorithm = \"ecdsa",
                "backend = \"kes\"\nalgorithm = \"ecdsa",
                "there is no backend \"kes\"; there are: keys",
            ),
            ("signing_key = \"ledger\"", "signing_key = \"absent\"", "there is no key \"absent\""),
            ("signing_key = \"ledger\"", "signing_key = \"orders\"", "checkpoints are signed with ed25519"),
            ("kids = [\"orders\"]", "kids = [\"ledger\"]", "signs the ledger's checkpoints and nothing else"),
            (
                "signing_key = \"ledger\"",
                "signing_key = \"ledger\"\nsecond_signing_key = \"absent\"",
                "there is no key \"absent\"",
            ),
            (
                "signing_key = \"ledger\"",
                "signing_key = \"ledger\"\nsecond_signing_key = \"orders\"",
                "beside ed25519, checkpoints are signed with ml-dsa-44",
            ),
            ("kids = [\"orders\"]", "kids = [\"absent\"]", "there is no key \"absent\""),
            ("kids = [\"orders\"]", "kids = []", "is empty, but sign or mac is granted"),
            ("spiffe://demo.example/service/orders", "spiffe://demo.example", "no SPIFFE id with a path"),
            ("spiffe://demo.example/service/orders", "*.demo.example", "wildcards"),
            ("spiffe://demo.example/service/orders", "chancery", "the appliance's own name"),
            ("streams = [\"orders/*\"]", "streams = [\"or*ers\"]", "may only stand alone"),
            (
                "release = \"checkpointed\"",
                "release = \"soon\"",
                "not one of durable, checkpointed, witnessed, archived",
            ),
        ] {
            let text = TEXT.replace(from, to);
            assert_ne!(text, TEXT, "{from}");
            let found = mistakes(&text);
            assert!(found.iter().any(|it| it.contains(expected)), "{expected}: {found:#?}");
        }
    }

    #[test]
    fn a_chain_has_a_key_of_its_own_and_a_stream_that_is_nobodys() {
        let keys = "\n[[keys]]\nkid = \"rows\"\nsigner_kid = \"rows-v1\"\nbackend = \"keys\"\n\
                    algorithm = \"ed25519\"\npurpose = \"audit\"\n";
        let chain = "\n[[chains]]\nstream = \"orders/rows\"\ndialect = \"kernel\"\nkid = \"rows\"\n\
                     principal = \"spiffe://demo.example/service/orders\"\n";
        let sound = format!("{TEXT}{keys}{chain}previous_hash = \"{}\"\n", "ab".repeat(32));
        let (_folder, read) = config(&sound, &[]);
        assert_eq!(read.chains.len(), 1);
        let again = parse(&read.file, &read.effective(), &Variables::default()).unwrap();
        assert_eq!(again.chains, read.chains);
        for (from, to, expected) in [
            ("dialect = \"kernel\"", "dialect = \"klingon\"", "is no dialect"),
            ("dialect = \"kernel\"", "dialect = \"safe-ai\"", "never signed"),
            ("kid = \"rows\"\nprincipal", "kid = \"none\"\nprincipal", "there is no key \"none\""),
            ("kid = \"rows\"\nprincipal", "kid = \"ledger\"\nprincipal", "signs the ledger's checkpoints"),
            ("kid = \"rows\"\nprincipal", "kid = \"orders\"\nprincipal", "verifiers of kernel do not know"),
            ("kids = [\"orders\"]", "kids = [\"orders\", \"rows\"]", "signs its rows and nothing else"),
            (
                "algorithm = \"ed25519\"\npurpose = \"audit\"",
                "algorithm = \"ed25519\"\npurpose = \"audit\"\ndialects = [\"kernel\"]",
                "neither co_signer nor dialects",
            ),
            (
                "principal = \"spiffe://demo.example/service/orders\"",
                "principal = \"other\"",
                "there is no principal",
            ),
            (
                "stream = \"orders/rows\"",
                "stream = \"spiffe://demo.example/service/orders\"",
                "a principal's own",
            ),
            ("stream = \"orders/rows\"", "stream = \"chancery/x\"", "the appliance's own"),
            ("\"abab", "\"ABab", "the hash of a row"),
        ] {
            let text = sound.replace(from, to);
            assert_ne!(text, sound, "{from}");
            let found = mistakes(&text);
            assert!(found.iter().any(|it| it.contains(expected)), "{expected}: {found:#?}");
        }
        let twice = mistakes(&format!("{sound}{chain}"));
        assert!(twice.iter().any(|it| it.contains("was used before")), "{twice:#?}");
    }

    #[test]
    fn broken_toml_does_not_hide_other_mistakes() {
        let text = TEXT.replace("address = \"127.0.0.1:9464\"", "address = = 3\nadress = 1");
        let found = mistakes(&text);
        assert!(found.iter().any(|it| it.contains("line 10: not TOML")), "{found:#?}");
        assert!(found.iter().any(|it| it.contains("listeners.ops.adress")), "{found:#?}");
        let whole = mistakes("");
        assert!(whole.iter().any(|it| it.contains("[listeners] is missing")), "{whole:#?}");
        assert!(whole.iter().any(|it| it.contains("[ledger] is missing")), "{whole:#?}");
    }

    #[test]
    fn types_are_checked() {
        for (from, to, expected) in [
            ("rate_per_second = 50", "rate_per_second = \"50\"", "must be a whole number, not a text"),
            ("rate_per_second = 50", "rate_per_second = 0", "must be from 1 to 1000000"),
            ("rate_per_second = 50", "rate_per_second = -1", "must be from 1 to 1000000"),
            ("rate_per_second = 50", "read_payloads = 1", "must be true or false, not a whole number"),
            ("kids = [\"orders\"]", "kids = \"orders\"", "must be a list in brackets, not a text"),
            ("kids = [\"orders\"]", "kids = [1]", "holds a whole number"),
            ("origin = \"log.example/test\"", "origin = 7", "must be a text in quotes, not a whole number"),
            ("origin = \"log.example/test\"", "", "ledger.origin: is missing; for example origin = "),
            ("[[principals]]", "[principals]", "must be tables [[principals]], not a table"),
        ] {
            let found = mistakes(&TEXT.replace(from, to));
            assert!(found.iter().any(|it| it.contains(expected)), "{expected}: {found:#?}");
        }
    }

    #[test]
    fn variables_override_what_the_contract_says_they_do() {
        let (_folder, raised) = config(TEXT, &[("NODE_ENV", "production")]);
        assert_eq!(raised.environment, Environment::Production);
        let (_folder, kept) = config(TEXT, &[("NODE_ENV", "test")]);
        assert_eq!(kept.environment, Environment::Development);
        let (_folder, labelled) = config(TEXT, &[("AUDIT_SIGNING_KMS_KEY_ID", "arn:key/1")]);
        assert_eq!(labelled.ledger_key().unwrap().label, "arn:key/1");
        let (_folder, result) = try_config(TEXT, &[("AUDIT_SIGNER_KID", "absent")]);
        assert!(result.unwrap_err().to_string().contains("there is no key \"absent\""));
        let (_folder, result) = try_config(TEXT, &[("MANIFEST_SIGNING_KMS_KEY_ID", "x")]);
        assert!(result.unwrap_err().to_string().contains("0 keys have that purpose"));
    }

    #[test]
    fn waiting_for_an_archive_needs_one() {
        let text = TEXT.replace("release = \"checkpointed\"", "release = \"archived\"");
        assert!(try_config(&text, &[]).1.is_ok());
        let text = text.replace("[archive]\nkind = \"directory\"\ndirectory = \"archive\"\n", "");
        assert!(mistakes(&text).iter().any(|it| it.contains("needs an [archive]")));
    }

    #[test]
    fn the_example_documents_every_field_and_has_no_mistake_but_missing_files() {
        let example = include_str!("../../../deploy/chancery.toml");
        let document = Document::new(example, Path::new("/etc/chancery"));
        let (table, errors) = DeTable::parse_recoverable(example);
        assert!(errors.is_empty(), "{errors:?}");
        let _ = read(&Section::root(&document, table.get_ref()), Path::new("x"), &Variables::default());
        for field in document.fields.borrow().iter() {
            let written = [
                format!("\n{field} = "),
                format!("\n# {field} = "),
                format!("[{field}]"),
                format!("[{field}."),
            ];
            let documented =
                written.iter().any(|form| example.contains(form)) || example.contains(&format!(".{field}]"));
            assert!(documented, "deploy/chancery.toml does not mention {field}");
        }
        let alternatives =
            ["software", "directory"].map(|kind| example.contains(&format!("# kind = \"{kind}\"")));
        assert_eq!(alternatives, [true, true]);
        let mistakes = document.into_mistakes();
        let other: Vec<_> = mistakes.iter().filter(|it| !it.message.contains("No such file")).collect();
        assert!(other.is_empty(), "{other:#?}");
        assert!(!mistakes.is_empty());
    }

    #[test]
    fn the_example_shows_the_defaults_of_every_bound() {
        let example = include_str!("../../../deploy/chancery.toml");
        for bound in Limits::BOUNDS {
            let line = format!("\n{} = {}\n", bound.name, bound.default);
            assert!(example.contains(&line), "deploy/chancery.toml does not say{line}");
        }
    }
}
