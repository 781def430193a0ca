//! A `[[backends]]` table of kind `pkcs11`, read and written back.

use std::path::{Path, PathBuf};
use std::time::Duration;

use chancery_pkcs11::uri::Uri;
use chancery_pkcs11::{ENVIRONMENT_PASSED, TokenSelector};
use toml::Value;

use super::effective::{number, path, table, text, texts, with};
use super::reader::Section;
use super::sections::file;
use super::{BackendKind, WorkerConfig};

/// What stands for the folder of systemd's credentials at the beginning of `pin_file`.
const CREDENTIALS: &str = "$CREDENTIALS_DIRECTORY/";

pub(super) fn read(section: &Section<'_, '_>) -> Option<BackendKind> {
    let given = section.text("uri");
    let uri: Option<Uri> = section.parsed("uri");
    let in_uri = uri.clone().unwrap_or_default();
    let module_file = either(section, "module_file", section.path("module_file"), in_uri.module_path.clone());
    let pin_file = either(section, "pin_file", pin_file(section), in_uri.pin_source.clone());
    let token = token(section, uri.as_ref());
    let sessions = section.number("sessions", 2, 1, 64);
    let worker = worker(section);
    if given.is_some() != uri.is_some() {
        return None; // said already
    }
    Some(BackendKind::Pkcs11 {
        module_file: module_file?,
        token: token?,
        uri: given,
        pin_file: pin_file?,
        sessions: usize::try_from(sessions?).ok()?,
        worker: worker?,
    })
}

/// A file that is named by its field or inside the URI, not by both.
fn either(
    section: &Section<'_, '_>,
    name: &'static str,
    field: Option<PathBuf>,
    in_uri: Option<PathBuf>,
) -> Option<PathBuf> {
    match (field, in_uri) {
        (Some(_), Some(_)) => section.wrong(name, "is in the uri, too; name it once"),
        (None, Some(path)) => file(section, "uri", Some(path)),
        (Some(path), None) => file(section, name, Some(path)),
        (None, None) if section.has(name) => None, // said already
        (None, None) => section.wrong(name, "is missing, and the uri does not name it"),
    }
}

fn pin_file(section: &Section<'_, '_>) -> Option<PathBuf> {
    let Some(name) =
        section.peek("pin_file").and_then(|text| text.strip_prefix(CREDENTIALS).map(str::to_owned))
    else {
        return section.path("pin_file");
    };
    section.text("pin_file")?; // read, though not as a path
    match std::env::var_os("CREDENTIALS_DIRECTORY") {
        Some(folder) if !name.contains('/') && Path::new(&folder).is_absolute() => {
            Some(Path::new(&folder).join(name))
        }
        Some(_) => section.wrong("pin_file", "a credential is one name in an absolute folder"),
        None => section.wrong("pin_file", "CREDENTIALS_DIRECTORY is not set; see LoadCredential= of systemd"),
    }
}

fn token(section: &Section<'_, '_>, uri: Option<&Uri>) -> Option<TokenSelector> {
    match (section.text("token_label"), uri) {
        (Some(_), Some(_)) => section.wrong("token_label", "the uri names the token; name it once"),
        (Some(label), None) => Some(TokenSelector::labelled(&label)),
        (None, Some(uri)) => {
            TokenSelector::of_uri(uri).map_or_else(|error| section.wrong("uri", error.to_string()), Some)
        }
        (None, None) if section.has("uri") || section.has("token_label") => None, // said already
        (None, None) => section.wrong("token_label", "is missing, and there is no uri"),
    }
}

fn worker(section: &Section<'_, '_>) -> Option<WorkerConfig> {
    let module_environment = section.list("module_environment");
    let env = if section.has("env") {
        section.list("env")
    } else {
        Some(ENVIRONMENT_PASSED.map(str::to_owned).to_vec())
    };
    let network = section.flag("network", false);
    let writable = section.list::<String>("writable").and_then(|paths| {
        let found = paths.iter().map(|path| {
            let there = Path::new(path).is_absolute() && Path::new(path).exists();
            if there {
                Some(path.into())
            } else {
                section.wrong("writable", format!("{path:?} is no absolute path to something that exists"))
            }
        });
        found.collect()
    });
    let stuck_after_ms = section.number("stuck_after_ms", 30_000, 1_000, 600_000);
    Some(WorkerConfig {
        module_environment: module_environment?,
        env: env?,
        network: network?,
        writable: writable?,
        stuck_after: Duration::from_millis(stuck_after_ms?),
    })
}

pub(super) fn render(kind: &BackendKind) -> Option<Value> {
    let BackendKind::Pkcs11 { module_file, token, uri, pin_file, sessions, worker } = kind else {
        return None;
    };
    let parsed: Uri = uri.as_deref().and_then(|uri| uri.parse().ok()).unwrap_or_default();
    let value = table([
        ("kind", text("pkcs11")),
        ("module_environment", texts(&worker.module_environment)),
        ("env", texts(&worker.env)),
        ("network", Value::Boolean(worker.network)),
        ("writable", Value::Array(worker.writable.iter().map(|it| path(it)).collect())),
        ("stuck_after_ms", number(worker.stuck_after.as_millis())),
        ("sessions", number(*sessions)),
    ]);
    let value = with(value, "uri", uri.as_deref().map(text));
    let value = with(value, "token_label", token.label.as_deref().filter(|_| uri.is_none()).map(text));
    let value = with(value, "module_file", parsed.module_path.is_none().then(|| path(module_file)));
    Some(with(value, "pin_file", parsed.pin_source.is_none().then(|| path(pin_file))))
}

#[cfg(test)]
mod tests {
    #![expect(
        clippy::unwrap_used,
        clippy::indexing_slicing,
        reason = "a failed unwrap is the test's failure"
    )]
    use super::*;
    use crate::config::sample;

    fn with_backend(fields: &str) -> String {
        let table = format!("\n[[backends]]\nname = \"hsm\"\nkind = \"pkcs11\"\n{fields}\n\n[[keys]]");
        sample::TEXT.replacen("\n[[keys]]", &table, 1)
    }

    #[test]
    fn a_token_is_named_by_fields_or_by_a_uri() {
        let fields = "module_file = \"{dir}/m.so\"\ntoken_label = \"t\"\npin_file = \"{dir}/pin\"";
        let by_uri = "uri = \"pkcs11:serial=7?module-path={dir}/m.so&pin-source=file:{dir}/pin\"";
        let mixed = "uri = \"pkcs11:token=t\"\nmodule_file = \"{dir}/m.so\"\npin_file = \"{dir}/pin\"";
        for text in [fields, by_uri, mixed] {
            let (_folder, config) = sample::config(&with_backend(text), &[]);
            let BackendKind::Pkcs11 { token, module_file, pin_file, worker, .. } = &config.backends[1].kind
            else {
                panic!("another kind");
            };
            assert!(token.label.as_deref() == Some("t") || token.serial.as_deref() == Some("7"));
            assert!(module_file.ends_with("m.so") && pin_file.ends_with("pin"));
            assert!(!worker.network && worker.writable.is_empty() && worker.env.contains(&"PATH".to_owned()));
            // What is printed is read again as the same.
            let (_again, again) = sample::config(&config.effective(), &[]);
            assert_eq!(again.backends, config.backends);
        }
    }

    #[test]
    fn what_is_named_twice_or_not_at_all_is_a_mistake() {
        for (fields, said) in [
            ("uri = \"pkcs11:token=t?pin-value=1\"", "pin-value"),
            (
                "uri = \"pkcs11:token=t;serial=1\"\nmodule_file = \"{dir}/m.so\"\npin_file = \"{dir}/pin\"",
                "exactly one",
            ),
            (
                "uri = \"pkcs11:token=t?module-path={dir}/m.so\"\nmodule_file = \"{dir}/m.so\"\npin_file = \"{dir}/pin\"",
                "name it once",
            ),
            ("module_file = \"{dir}/m.so\"\npin_file = \"{dir}/pin\"", "token_label"),
            ("token_label = \"t\"\nmodule_file = \"{dir}/m.so\"", "pin_file"),
            (
                "token_label = \"t\"\nmodule_file = \"{dir}/m.so\"\npin_file = \"$CREDENTIALS_DIRECTORY/a/b\"",
                "pin_file",
            ),
            (
                "token_label = \"t\"\nmodule_file = \"{dir}/m.so\"\npin_file = \"{dir}/pin\"\nwritable = [\"x\"]",
                "writable",
            ),
        ] {
            let (_folder, result) = sample::try_config(&with_backend(fields), &[]);
            let mistakes = result.unwrap_err().to_string();
            assert!(mistakes.contains(said), "{fields}: {mistakes}");
        }
    }
}
