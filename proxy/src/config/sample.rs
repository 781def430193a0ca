//! A small complete configuration for tests, with the files it names.
#![expect(clippy::unwrap_used, reason = "a failed unwrap is the test's failure")]

use super::{Config, Mistakes, Variables, load};

pub(crate) const TEXT: &str = r#"environment = "development"

[listeners.service]
address = "127.0.0.1:0"
certificate_file = "server.crt"
key_file = "server.key"
client_ca_file = "ca.crt"

[listeners.ops]
address = "127.0.0.1:9464"

[ledger]
directory = "ledger"
origin = "log.example/test"
signing_key = "ledger"

[archive]
kind = "directory"
directory = "archive"

[[backends]]
name = "keys"
kind = "software"
directory = "keys"

[[keys]]
kid = "ledger"
signer_kid = "ledger-v1"
backend = "keys"
algorithm = "ed25519"
purpose = "ledger"

[[keys]]
kid = "orders"
signer_kid = "orders-v1"
backend = "keys"
algorithm = "ecdsa-p256-sha256"
purpose = "orders"
release = "checkpointed"

[[principals]]
name = "spiffe://demo.example/service/orders"
kids = ["orders"]
operations = ["sign", "verify"]
streams = ["orders/*"]
rate_per_second = 50
"#;

/// Loads `text` from a folder in which the named files exist.
pub(crate) fn try_config(
    text: &str,
    variables: &[(&str, &str)],
) -> (tempfile::TempDir, Result<Config, Mistakes>) {
    let folder = tempfile::tempdir().unwrap();
    for name in ["server.crt", "server.key", "ca.crt", "m.so", "pin"] {
        std::fs::write(folder.path().join(name), "").unwrap();
    }
    let file = folder.path().join("chancery.toml");
    std::fs::write(&file, text.replace("{dir}", &folder.path().display().to_string())).unwrap();
    let config = load(&file, &Variables::of(variables));
    (folder, config)
}

pub(crate) fn config(text: &str, variables: &[(&str, &str)]) -> (tempfile::TempDir, Config) {
    let (folder, config) = try_config(text, variables);
    (folder, config.unwrap())
}
