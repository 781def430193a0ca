//! Where modules differ from the standard or from each other, in one table.
//!
//! What a token says of itself is asked (its mechanisms, its objects); a row is for what it does not say.
//! Modules are told by their file's name, since a row may matter before the module is loaded.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use chancery_format::SignatureAlgorithm;

use SignatureAlgorithm::{EcdsaSecp256k1Sha256, Ed25519};

/// What is peculiar about one module.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Quirks {
    /// What people call it.
    pub name: &'static str,
    /// What its file's name begins with, after `lib`.
    pub file: &'static str,
    /// Where it keeps tokens that it writes even when it only signs: at every login.
    pub store: Store,
    /// Algorithms of ours that it cannot do, although keys for them may exist behind it.
    pub without: &'static [SignatureAlgorithm],
    /// Whether raw ECDSA takes a digest of any length, padding or cutting it silently. Ours have the right
    /// length by their type.
    pub ecdsa_takes_any_length: bool,
    /// Whether it sees objects that another process makes without being initialised again.
    pub sees_new_objects: bool,
    /// What it needs beside itself.
    pub needs: &'static str,
}

/// Where a module keeps tokens that it must be able to write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Store {
    /// In a device, or in another process.
    Elsewhere,
    /// In the folder that this variable names.
    Variable(&'static str),
    /// In the folder that the setting names in the file that the variable names.
    Setting(&'static str, &'static str),
}

/// Every module that was tried here.
pub const QUIRKS: [Quirks; 3] = [
    Quirks {
        name: "SoftHSM2",
        file: "softhsm2",
        store: Store::Setting("SOFTHSM2_CONF", "directories.tokendir"),
        without: &[],
        ecdsa_takes_any_length: true,
        sees_new_objects: true,
        needs: "nothing",
    },
    Quirks {
        name: "p11-kit 0.24",
        file: "p11-kit-client",
        store: Store::Elsewhere,
        without: &[Ed25519], // its protocol has no CKM_EDDSA
        ecdsa_takes_any_length: true,
        sees_new_objects: true,
        needs: "p11-kit server, by its socket in P11_KIT_SERVER_ADDRESS",
    },
    Quirks {
        name: "tpm2-pkcs11",
        file: "tpm2_pkcs11",
        store: Store::Variable("TPM2_PKCS11_STORE"),
        without: &[Ed25519, EcdsaSecp256k1Sha256], // no TPM has these curves
        ecdsa_takes_any_length: false,
        sees_new_objects: false,
        needs: "tpm2-abrmd --flush-all: a TPM has room for three objects, and a manager that was killed leaves its own",
    },
];

/// The row of a module, if it has one.
pub fn of_module(module_file: &Path) -> Option<&'static Quirks> {
    let name = module_file.file_name()?.to_str()?;
    let name = name.strip_prefix("lib").unwrap_or(name);
    QUIRKS.iter().find(|quirks| name.starts_with(quirks.file))
}

/// The folder a module must be able to write even to sign, if its row says so and it exists.
pub(crate) fn store(module_file: &Path, variable: impl Fn(&str) -> Option<OsString>) -> Option<PathBuf> {
    let folder: PathBuf = match of_module(module_file)?.store {
        Store::Elsewhere => return None,
        Store::Variable(name) => variable(name)?.into(),
        Store::Setting(name, setting) => {
            let text = std::fs::read_to_string(PathBuf::from(variable(name)?)).ok()?;
            let lines = text.lines().filter_map(|line| line.split_once('='));
            let value =
                lines.filter(|(key, _)| key.trim() == setting).map(|(_, value)| value.trim()).next_back();
            value?.into()
        }
    };
    (folder.is_absolute() && folder.is_dir()).then_some(folder)
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a failed unwrap is the test's failure")]
    use super::*;

    #[test]
    fn modules_are_told_by_their_file() {
        for (file, name) in [
            ("/usr/lib/softhsm/libsofthsm2.so", Some("SoftHSM2")),
            ("/usr/lib/x86_64-linux-gnu/pkcs11/p11-kit-client.so", Some("p11-kit 0.24")),
            ("/usr/lib/x86_64-linux-gnu/pkcs11/libtpm2_pkcs11.so.1", Some("tpm2-pkcs11")),
            ("/opt/vendor/libvendor.so", None),
            ("/", None),
        ] {
            assert_eq!(of_module(Path::new(file)).map(|quirks| quirks.name), name, "{file}");
        }
    }

    #[test]
    fn a_store_is_found_where_the_module_looks_for_it() {
        let folder = tempfile::tempdir().unwrap();
        let conf = folder.path().join("softhsm2.conf");
        let text =
            format!("# directories.tokendir = /x\ndirectories.tokendir = {}\n", folder.path().display());
        std::fs::write(&conf, text).unwrap();
        let variable = |name: &str| match name {
            "SOFTHSM2_CONF" => Some(conf.clone().into_os_string()),
            "TPM2_PKCS11_STORE" => Some(folder.path().as_os_str().to_owned()),
            _ => None,
        };
        for (file, found) in
            [("libsofthsm2.so", true), ("libtpm2_pkcs11.so", true), ("p11-kit-client.so", false)]
        {
            assert_eq!(store(Path::new(file), variable).is_some(), found, "{file}");
            assert_eq!(store(Path::new(file), |_| None), None, "{file}");
        }
    }
}
