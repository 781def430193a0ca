//! What production refuses: a pure function from what is configured to every reason not to start.
//!
//! Promises: the same answer for the same input, all reasons at once, each with what to change. It reads
//! nothing itself: [`Facts`] are gathered beforehand.

use std::path::PathBuf;

use chancery_format::SignatureAlgorithm;

use crate::config::{ArchiveKind, BackendKind, Config, Environment, Variables};

/// What the file system says about the files a configuration names.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Facts {
    /// Files with secrets that others than their owner and group may read, or that the group may write.
    pub exposed_secrets: Vec<PathBuf>,
}

impl Facts {
    /// Looks at the files `config` names.
    pub fn gather(config: &Config) -> Self {
        let exposed = |path: &PathBuf| {
            use std::os::unix::fs::PermissionsExt as _;
            std::fs::metadata(path).is_ok_and(|found| found.permissions().mode() & 0o027 != 0)
        };
        Self { exposed_secrets: config.secret_files().into_iter().filter(exposed).collect() }
    }
}

/// Every reason not to start, in words for the operator; empty if there is none.
///
/// In development only what was explicitly required (`REQUIRE_KMS`, `REQUIRE_MTLS`) can be a reason.
pub fn reasons(config: &Config, variables: &Variables, facts: &Facts) -> Vec<String> {
    let production = config.environment == Environment::Production;
    let mut reasons = Vec::new();
    if production || variables.flag("REQUIRE_MTLS") == Some(true) {
        reasons.extend(mtls(variables));
    }
    if production || variables.flag("REQUIRE_KMS") == Some(true) {
        reasons.extend(keys(config));
    }
    if production {
        reasons.extend(contradictions(variables));
        reasons.extend(archive(config));
        reasons.extend(secrets(facts));
        reasons.extend(exposure(config));
        reasons.extend(people(config));
        reasons.extend(tokens(config));
        reasons.extend(grease(config));
    }
    reasons
}

/// Receipts are kept for years and should hold nothing that means nothing.
fn grease(config: &Config) -> Option<String> {
    config.ledger.grease.then(|| "ledger.grease is for tests of clients: remove it".to_owned())
}

/// Whoever reads a bearer token has it, so production wants to be told that this is meant.
fn tokens(config: &Config) -> Option<String> {
    let some = config.principals.iter().find(|principal| !principal.token_sha256.is_empty())?;
    (!config.service.allow_bearer_tokens_in_production).then(|| {
        format!(
            "principal {:?} may come with a bearer token: give it a certificate (`chancery agent` adds one), or set \
             listeners.service.allow_bearer_tokens_in_production",
            some.grant.principal
        )
    })
}

fn mtls(variables: &Variables) -> Vec<String> {
    let mut reasons = Vec::new();
    if variables.flag("DEV_SKIP_MTLS") == Some(true) {
        reasons.push("DEV_SKIP_MTLS is set: unset it; client certificates cannot be skipped".to_owned());
    }
    if variables.flag("REQUIRE_MTLS") == Some(false) {
        reasons
            .push("REQUIRE_MTLS says no: mutual TLS must be required; unset it or set it to true".to_owned());
    }
    reasons
}

/// No software key, and every key in an HSM or KMS, of which there is at least one.
fn keys(config: &Config) -> Vec<String> {
    let mut reasons = Vec::new();
    let mut in_hardware = 0usize;
    for key in &config.keys {
        match config.backend_of(key).map(|backend| &backend.kind) {
            Some(BackendKind::Software { .. }) => reasons.push(format!(
                "key {:?} is a software key (backend {:?}): keep it in an HSM or KMS",
                key.kid, key.backend
            )),
            Some(BackendKind::Pkcs11 { .. } | BackendKind::AwsKms { .. } | BackendKind::YubiHsm { .. }) => {
                in_hardware += 1;
            }
            None => {}
        }
    }
    let unused =
        config.backends.iter().filter(|backend| matches!(backend.kind, BackendKind::Software { .. }));
    reasons.extend(
        unused.map(|backend| format!("backend {:?} keeps keys in software: remove it", backend.name)),
    );
    if in_hardware == 0 {
        reasons.push(
            "no key is in an HSM or KMS: configure a backend of kind \"pkcs11\", \"aws-kms\" or \"yubihsm\""
                .to_owned(),
        );
    }
    if !config.keys.iter().any(|key| key.algorithm == SignatureAlgorithm::Ed25519) {
        reasons.push("no ed25519 key can sign the ledger's checkpoints".to_owned());
    }
    reasons
}

/// Variables that ask production to be something else.
fn contradictions(variables: &Variables) -> Vec<String> {
    let mut reasons = Vec::new();
    if variables.flag("DEV_ALLOW_EPHEMERAL") == Some(true) {
        reasons.push("DEV_ALLOW_EPHEMERAL is set: unset it; keys and ledger are not throw-away".to_owned());
    }
    if variables.flag("REQUIRE_KMS") == Some(false) {
        reasons.push(
            "REQUIRE_KMS says no: keys must be in an HSM or KMS; unset it or set it to true".to_owned(),
        );
    }
    reasons
}

fn archive(config: &Config) -> Option<String> {
    match config.archive.as_ref().map(|archive| &archive.kind) {
        Some(ArchiveKind::S3 { .. }) => None,
        Some(ArchiveKind::Directory { .. }) => Some(
            "the archive is a folder without Object Lock: use kind = \"s3\" with a locked bucket".to_owned(),
        ),
        None => {
            Some("there is no archive: configure [archive] with kind = \"s3\" and Object Lock".to_owned())
        }
    }
}

fn secrets(facts: &Facts) -> Vec<String> {
    let reason = |path: &PathBuf| {
        format!("secret {} can be read by others or written by its group: chmod 600 it", path.display())
    };
    facts.exposed_secrets.iter().map(reason).collect()
}

/// The ops listener is plain HTTP without identity.
fn exposure(config: &Config) -> Option<String> {
    let address = config.ops_address;
    (!address.ip().is_loopback())
        .then(|| format!("the ops listener {address} is plain HTTP and not on loopback: use 127.0.0.1"))
}

/// Nobody's word counts that came in clear text, and nobody acts alone.
fn people(config: &Config) -> Vec<String> {
    let mut reasons = Vec::new();
    if let Some(identity) = config.identity.as_ref().filter(|it| !it.issuer.starts_with("https://")) {
        reasons.push(format!("the identity provider {} is not reached by https", identity.issuer));
    }
    if config.admin_address.is_some() && config.governance.is_none() {
        reasons.push(
            "people may act and nobody has to agree: configure [governance] with approvers, or no [listeners.admin]"
                .to_owned(),
        );
    }
    reasons
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a failed unwrap is the test's failure")]
    use super::*;
    use crate::config::sample;

    const HARD: &str =
        "kind = \"pkcs11\"\nmodule_file = \"{dir}/m.so\"\ntoken_label = \"t\"\npin_file = \"{dir}/pin\"";
    const S3: &str = "[archive]\nkind = \"s3\"\nbucket = \"b\"\nregion = \"r\"";

    fn reasons_of(text: &str, variables: &[(&str, &str)], facts: &Facts) -> Vec<String> {
        let (_folder, config) = sample::config(text, variables);
        reasons(&config, &Variables::of(variables), facts)
    }

    fn development() -> String {
        sample::TEXT.to_owned()
    }

    fn sound() -> String {
        let text = sample::TEXT.replace("kind = \"software\"\ndirectory = \"keys\"", HARD);
        let start = text.find("[archive]").unwrap();
        let end = text[start..].find("\n\n").unwrap() + start;
        format!("{}{S3}{}", &text[..start], &text[end..])
    }

    #[test]
    fn development_starts_and_a_sound_production_starts() {
        assert_eq!(reasons_of(&development(), &[], &Facts::default()), Vec::<String>::new());
        let production = [("CHANCERY_ENV", "production")];
        assert_eq!(reasons_of(&sound(), &production, &Facts::default()), Vec::<String>::new());
    }

    #[test]
    fn each_reason_is_named_and_all_are_named_at_once() {
        let production = ("NODE_ENV", "production");
        for (name, value) in [
            ("DEV_SKIP_MTLS", "YES"),
            ("REQUIRE_MTLS", "false"),
            ("REQUIRE_KMS", "0"),
            ("DEV_ALLOW_EPHEMERAL", "on"),
        ] {
            let reasons = reasons_of(&sound(), &[production, (name, value)], &Facts::default());
            assert_eq!(reasons.len(), 1, "{name}: {reasons:?}");
            assert!(reasons.iter().all(|reason| reason.starts_with(name)), "{name}: {reasons:?}");
        }
        let facts = Facts { exposed_secrets: vec!["/run/pin".into()] };
        let all = [production, ("DEV_SKIP_MTLS", "1"), ("REQUIRE_MTLS", "no"), ("DEV_ALLOW_EPHEMERAL", "y")];
        let reasons = reasons_of(&development(), &all, &facts).join("\n");
        for part in [
            "DEV_SKIP_MTLS",
            "REQUIRE_MTLS",
            "DEV_ALLOW_EPHEMERAL",
            "\"ledger\" is a software key",
            "\"orders\" is a software key",
            "no key is in an HSM",
            "without Object Lock",
            "/run/pin",
        ] {
            assert!(reasons.contains(part), "{part} in {reasons}");
        }
    }

    #[test]
    fn a_missing_archive_and_an_open_ops_listener_are_reasons() {
        let production = [("CHANCERY_ENV", "PRODUCTION")];
        let none = sound().replace(S3, "");
        assert!(
            reasons_of(&none, &production, &Facts::default())[..]
                == ["there is no archive: configure [archive] with kind = \"s3\" and Object Lock"]
        );
        let open = sound().replace("127.0.0.1:9464", "0.0.0.0:9464");
        assert_eq!(reasons_of(&open, &production, &Facts::default()).len(), 1);
    }

    #[test]
    fn grease_is_for_tests() {
        let greased = sound().replace("signing_key = \"ledger\"", "signing_key = \"ledger\"\ngrease = true");
        let reasons = reasons_of(&greased, &[("CHANCERY_ENV", "production")], &Facts::default());
        assert_eq!(reasons, ["ledger.grease is for tests of clients: remove it"]);
        assert_eq!(reasons_of(&greased, &[], &Facts::default()), Vec::<String>::new());
    }

    #[test]
    fn people_come_by_https_and_nobody_acts_alone() {
        let production = [("CHANCERY_ENV", "production")];
        let people = |issuer: &str| {
            format!(
                "{}\n[listeners.admin]\naddress = \"127.0.0.1:8444\"\n\n[identity]\nissuer = \"{issuer}\"\n\
                 audience = \"a\"\nclient_ids = [\"c\"]\n",
                sound()
            )
        };
        let alone = reasons_of(&people("http://127.0.0.1:9"), &production, &Facts::default());
        let words = alone.join("\n");
        assert!(alone.len() == 2 && words.contains("https") && words.contains("[governance]"), "{words}");
        let roster = "\n[governance]\napprovals_required = 1\n\n[[governance.approvers]]\nname = \"ann\"\n\n\
                      [[governance.approvers]]\nname = \"bob\"\n";
        let sound = people("https://login.example") + roster;
        assert_eq!(reasons_of(&sound, &production, &Facts::default()), Vec::<String>::new());
    }

    #[test]
    fn what_is_required_in_development_is_held_there_too() {
        let kms = reasons_of(&development(), &[("REQUIRE_KMS", "true")], &Facts::default());
        assert!(kms.iter().any(|reason| reason.contains("software key")), "{kms:?}");
        let mtls = [("REQUIRE_MTLS", "true"), ("DEV_SKIP_MTLS", "true")];
        assert_eq!(reasons_of(&development(), &mtls, &Facts::default()).len(), 1);
        assert!(reasons_of(&development(), &[("DEV_SKIP_MTLS", "true")], &Facts::default()).is_empty());
    }

    #[test]
    fn exposed_means_readable_by_others_or_writable_by_the_group() {
        use std::os::unix::fs::PermissionsExt as _;
        let (folder, config) = sample::config(&development(), &[]);
        let key = folder.path().join("server.key");
        for (mode, exposed) in
            [(0o600, false), (0o640, false), (0o400, false), (0o644, true), (0o660, true), (0o604, true)]
        {
            std::fs::set_permissions(&key, std::fs::Permissions::from_mode(mode)).unwrap();
            assert_eq!(Facts::gather(&config).exposed_secrets.contains(&key), exposed, "{mode:o}");
        }
    }
}
