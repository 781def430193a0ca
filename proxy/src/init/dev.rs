//! A whole throw-away instance in one folder: authority, certificates, token, keys, ledger, configuration.
//!
//! For demonstrations and a developer's machine. Private files are 0600, the folder 0700. Keys live in a
//! SoftHSM2 token if its library is found, else in files. Refuses a folder that holds an instance.

mod certificates;

use std::io::Write as _;
use std::net::SocketAddr;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use chancery_pkcs11::Launch;

use super::{Made, create};
use crate::config::{self, Variables};
use crate::daemon::{Failure, random};

/// Where distributions put SoftHSM2.
const SOFTHSM_MODULES: [&str; 6] = [
    "/usr/lib/softhsm/libsofthsm2.so",
    "/usr/lib/x86_64-linux-gnu/softhsm/libsofthsm2.so",
    "/usr/lib/aarch64-linux-gnu/softhsm/libsofthsm2.so",
    "/usr/lib64/softhsm/libsofthsm2.so",
    "/usr/lib64/pkcs11/libsofthsm2.so",
    "/usr/local/lib/softhsm/libsofthsm2.so",
];
/// Where keys are without a token.
const KEYS_IN_FILES: &str = "[[backends]]\nname = \"keys\"\nkind = \"software\"\ndirectory = \"keys\"\n";
/// Label of the token.
const TOKEN: &str = "chancery-dev";

/// What to make.
#[derive(Debug, Clone)]
pub struct DevOptions {
    /// The folder; made if it is not there.
    pub folder: PathBuf,
    /// Service address of the configuration.
    pub address: SocketAddr,
    /// Ops address of the configuration.
    pub ops_address: SocketAddr,
    /// Keys in files even if SoftHSM2 is there.
    pub software: bool,
}

/// Makes the instance.
pub fn make(options: &DevOptions, variables: &Variables) -> Result<Made, Failure> {
    refuse_to_overwrite(&options.folder)?;
    make_folder(&options.folder)?;
    certificates::make(&options.folder)?;
    let backend = match softhsm(options) {
        Some(module) => make_token(&absolute(&options.folder)?, &module)?,
        None => KEYS_IN_FILES.to_owned(),
    };
    // The file is what says "there is an instance here": it comes last, after what it names.
    let file = options.folder.join("chancery.toml");
    let unfinished = options.folder.join("chancery.toml.new");
    let software_allowed = variables.flag("DEV_ALLOW_EPHEMERAL") == Some(true);
    write(&unfinished, &configuration(options, &backend, software_allowed), false)?;
    let config = config::load(&unfinished, variables)?;
    let made = create(&config, variables, true)?;
    std::fs::rename(&unfinished, &file).map_err(failed(&file))?;
    Ok(made)
}

fn refuse_to_overwrite(folder: &Path) -> Result<(), Failure> {
    let file = folder.join("chancery.toml");
    if file.symlink_metadata().is_ok() {
        return Err(Failure::Exists(format!("{} exists: an instance is never overwritten", file.display())));
    }
    Ok(())
}

fn softhsm(options: &DevOptions) -> Option<PathBuf> {
    let named = std::env::var_os("SOFTHSM2_MODULE").map(PathBuf::from);
    let known = SOFTHSM_MODULES.iter().map(PathBuf::from);
    named.into_iter().chain(known).find(|module| module.is_file()).filter(|_| !options.software)
}

fn make_token(folder: &Path, module: &Path) -> Result<String, Failure> {
    make_folder(&folder.join("tokens"))?;
    let conf = folder.join("softhsm2.conf");
    let text = format!(
        "directories.tokendir = {}\nobjectstore.backend = file\nlog.level = ERROR\nslots.removable = false\nlibrary.reset_on_fork = false\n",
        folder.join("tokens").display()
    );
    write(&conf, &text, false)?;
    let environment = vec![("SOFTHSM2_CONF".to_owned(), conf.clone().into())];
    let launch = Launch { environment, ..Launch::default() };
    let pin = digits()?;
    write(&folder.join("token.pin"), &format!("{pin}\n"), true)?;
    // The security officer's PIN is not kept: a throw-away token is not administered.
    chancery_pkcs11::init_token(module, &launch, TOKEN, &digits()?, &pin)
        .map_err(|error| Failure::Init { what: format!("token {TOKEN:?}"), reason: error.to_string() })?;
    Ok(format!(
        "[[backends]]\nname = \"softhsm\"\nkind = \"pkcs11\"\nmodule_file = {:?}\nmodule_environment = [{:?}]\n\
         token_label = \"{TOKEN}\"\npin_file = \"token.pin\"\nsessions = 4\n",
        module.display().to_string(),
        format!("SOFTHSM2_CONF={}", conf.display()),
    ))
}

/// Sixteen random digits.
fn digits() -> Result<String, Failure> {
    let bytes: [u8; 16] = random().map_err(|error| Failure::System(error.to_string()))?;
    Ok(bytes.iter().map(|byte| char::from(b'0' + byte % 10)).collect())
}

/// SoftHSM2 has no ML-DSA yet: the ledger's second key is in a file, where files may hold keys.
fn configuration(options: &DevOptions, backend: &str, software_allowed: bool) -> String {
    let name = if backend.contains("softhsm") { "softhsm" } else { "keys" };
    let in_files = match name == "softhsm" && software_allowed {
        true => format!("\n{KEYS_IN_FILES}"),
        false => String::new(),
    };
    let keys = [
        ("ledger", "ledger-ed25519-v1", "ed25519", "ledger", "signs checkpoints", "durable"),
        ("orders", "orders-ed25519-v1", "ed25519", "orders", "order events", "durable"),
        ("invoices", "invoices-p256-v1", "ecdsa-p256-sha256", "invoices", "invoices", "checkpointed"),
        ("releases", "releases-rsa-v1", "rsa-pss-sha256", "manifest", "release manifests", "archived"),
        ("webhooks", "webhooks-hmac-v1", "hmac-sha256", "webhooks", "webhook bodies", "durable"),
    ];
    let second = ("ledger-pq", "ledger-ml-dsa-44-v1", "ml-dsa-44", "ledger", "signs them too", "durable");
    let second = software_allowed.then_some(("keys", second));
    let keys = keys.map(|key| (name, key)).into_iter().chain(second);
    let keys: String = keys
        .map(|(name, (kid, signer_kid, algorithm, purpose, description, release))| {
            format!(
                "\n[[keys]]\nkid = \"{kid}\"\nsigner_kid = \"{signer_kid}\"\nbackend = \"{name}\"\n\
                 algorithm = \"{algorithm}\"\npurpose = \"{purpose}\"\ndescription = \"{description}\"\nrelease = \"{release}\"\n"
            )
        })
        .collect();
    format!(
        include_str!("dev/chancery.toml.in"),
        address = options.address,
        ops_address = options.ops_address,
        second = if second.is_some() { "second_signing_key = \"ledger-pq\"\n" } else { "" },
        backend = format!("{backend}{in_files}"),
        keys = keys,
        client = certificates::CLIENT,
        auditor = certificates::AUDITOR,
    )
}

fn absolute(folder: &Path) -> Result<PathBuf, Failure> {
    std::fs::canonicalize(folder).map_err(failed(folder))
}

fn make_folder(folder: &Path) -> Result<(), Failure> {
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(folder).map_err(failed(folder))
}

fn failed(path: &Path) -> impl Fn(std::io::Error) -> Failure {
    |error| Failure::Init { what: path.display().to_string(), reason: error.to_string() }
}

/// Writes a new file; a private one for its owner alone from its first byte on.
fn write(file: &Path, text: &str, private: bool) -> Result<(), Failure> {
    let mode = if private { 0o600 } else { 0o644 };
    let opened = std::fs::OpenOptions::new().write(true).create(true).truncate(true).mode(mode).open(file);
    opened.and_then(|mut out| out.write_all(text.as_bytes())).map_err(failed(file))
}
