//! One installation: a folder with configuration, certificates, keys, ledger and archive.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use chancery_client::{Client, Options};
use chancery_format::SignersRegistry;

use super::authority::write_secret;
use super::{Authority, Identity, binary, free_port, random_word};

/// Principal that may do everything the tests do.
pub const ORDERS: &str = "spiffe://demo.example/service/orders";
/// Principal whose certificate is good but who has no grant.
pub const STRANGER: &str = "spiffe://demo.example/service/stranger";

/// What differs between installations.
#[derive(Debug, Clone)]
pub struct WorldOptions {
    /// The log's name.
    pub origin: &'static str,
    /// The key that signs checkpoints.
    pub signing_key: &'static str,
    /// The one that signs them beside it.
    pub second_signing_key: Option<&'static str>,
    /// Whether checkpoints are served with lines that nobody knows.
    pub grease: bool,
    /// Lines added to `[ledger]`.
    pub ledger: String,
    /// The `[archive]` table, with `{dir}` for the folder.
    pub archive: String,
    /// Software backend's `intents`: `always` or `skip`.
    pub intents: &'static str,
    /// Sessions with SoftHSM2, where there is one.
    pub softhsm_sessions: usize,
    /// `rate_per_second` and `burst` of [`ORDERS`].
    pub rate: u32,
    /// Keys the principal may use beside those the world makes itself; their tables are in `more`.
    pub kids: &'static [&'static str],
    /// Lines added to the principal.
    pub grants: &'static str,
    /// Lines added at the end.
    pub more: String,
    /// Folder of the ledger, if not below the world's.
    pub ledger_directory: Option<PathBuf>,
}

impl Default for WorldOptions {
    fn default() -> Self {
        Self {
            origin: "log.example/test",
            signing_key: "ledger",
            second_signing_key: Some("ledger-pq"),
            grease: true,
            ledger: "checkpoint_interval_ms = 200\nreserve_bytes = 1048576\n".into(),
            archive: "kind = \"directory\"\ndirectory = \"{dir}/archive\"\nepoch_interval_ms = 300\n".into(),
            intents: "always",
            softhsm_sessions: 2,
            rate: 1_000_000,
            kids: &[],
            grants: "",
            more: String::new(),
            ledger_directory: None,
        }
    }
}

/// A folder that vanishes with the test.
pub struct World {
    folder: tempfile::TempDir,
    /// Port of the service listener.
    pub service_port: u16,
    /// Port of the ops listener.
    pub ops_port: u16,
    /// The authority of its certificates.
    pub authority: Authority,
    /// [`ORDERS`].
    pub orders: Identity,
    environment: Vec<(String, String)>,
    hsm_kids: &'static [&'static str],
}

impl World {
    /// A folder with certificates and configuration, and an initialised ledger.
    pub fn new(options: &WorldOptions) -> Self {
        let world = Self::uninitialised(options);
        world.initialise();
        world
    }

    /// The same with a second backend: SoftHSM2 through PKCS#11, with the keys `hsm-ed`, `hsm-p256` and
    /// `hsm-rsa`.
    pub fn with_softhsm(options: &WorldOptions) -> Self {
        let world = Self::with_softhsm_uninitialised(options);
        world.initialise();
        world
    }

    /// The same before `chanceryd init`.
    pub fn with_softhsm_uninitialised(options: &WorldOptions) -> Self {
        let mut world = Self::uninitialised(options);
        let tokens = world.path("tokens");
        std::fs::create_dir(&tokens).unwrap();
        let configuration = world.path("softhsm2.conf");
        let text = format!(
            "directories.tokendir = {}\nobjectstore.backend = file\nlog.level = ERROR\n",
            tokens.display()
        );
        std::fs::write(&configuration, text).unwrap();
        let pin = random_word();
        write_secret(&world.path("hsm.pin"), &pin);
        let token = Command::new("softhsm2-util")
            .args(["--init-token", "--free", "--label", "chancery", "--so-pin", "12345678", "--pin", &pin])
            .env("SOFTHSM2_CONF", &configuration)
            .output()
            .unwrap();
        assert!(token.status.success(), "softhsm2-util: {}", String::from_utf8_lossy(&token.stderr));
        world.set_variable("SOFTHSM2_CONF", configuration.to_str().unwrap());
        let mut options = options.clone();
        options.more += &softhsm_tables(options.softhsm_sessions);
        world.hsm_kids = &["hsm-ed", "hsm-p256", "hsm-rsa"];
        world.write_config(&options);
        world
    }

    /// The same with a second backend that somebody else started, and its keys, given as tables.
    pub fn with_backend(options: &WorldOptions, kids: &'static [&'static str], tables: &str) -> Self {
        let mut world = Self::uninitialised(options);
        world.hsm_kids = kids;
        let mut options = options.clone();
        options.more += tables;
        world.write_config(&options);
        world
    }

    /// The same before `chanceryd init`.
    pub fn uninitialised(options: &WorldOptions) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let authority = Authority::new("Chancery test authority");
        authority.server(folder.path());
        let orders = authority.client(folder.path(), "orders", 2, ORDERS);
        std::fs::write(folder.path().join("ca.crt"), &authority.pem).unwrap();
        std::fs::write(folder.path().join("ca.crl"), authority.revocation_list(&[])).unwrap();
        let environment =
            vec![("DEV_ALLOW_EPHEMERAL".into(), "true".into()), ("CHANCERY_ENABLE".into(), "on".into())];
        let (service_port, ops_port) = (free_port(), free_port());
        let world = Self { folder, service_port, ops_port, authority, orders, environment, hsm_kids: &[] };
        world.write_config(options);
        world
    }

    /// `chanceryd init`.
    pub fn initialise(&self) {
        let output = self.chanceryd(&["init", "--generate-keys", "--config"]);
        assert!(output.status.success(), "init: {}", String::from_utf8_lossy(&output.stderr));
    }

    /// Writes the configuration anew.
    pub fn write_config(&self, options: &WorldOptions) {
        std::fs::write(self.config_file(), self.config(options)).unwrap();
    }

    fn config(&self, options: &WorldOptions) -> String {
        let dir = self.folder.path().display().to_string();
        let ledger = options
            .ledger_directory
            .as_ref()
            .map_or(format!("{dir}/ledger"), |path| path.display().to_string());
        let keys: String = KEYS.iter().map(|(kid, algorithm)| key_table(kid, algorithm)).collect();
        let second = options.second_signing_key.map(|kid| format!("second_signing_key = \"{kid}\"\n"));
        let kids: Vec<String> = KEYS
            .iter()
            .map(|(kid, _)| *kid)
            .filter(|kid| !["ledger", "ledger-pq"].contains(kid))
            .chain(self.hsm_kids.iter().chain(options.kids).copied())
            .map(|kid| format!("\"{kid}\""))
            .collect();
        let text = format!(
            "environment = \"development\"\n\n\
             [listeners.service]\naddress = \"127.0.0.1:{}\"\ncertificate_file = \"{{dir}}/server.crt\"\n\
             key_file = \"{{dir}}/server.key\"\nclient_ca_file = \"{{dir}}/ca.crt\"\ncrl_file = \"{{dir}}/ca.crl\"\n\n\
             [listeners.ops]\naddress = \"127.0.0.1:{}\"\n\n\
             [ledger]\ndirectory = \"{ledger}\"\norigin = \"{}\"\nsigning_key = \"{}\"\n\
             signers_file = \"{{dir}}/signers.json\"\ngrease = {}\n{}{}\n\
             [archive]\n{}\n\
             [[backends]]\nname = \"software\"\nkind = \"software\"\ndirectory = \"{{dir}}/keys\"\nintents = \"{}\"\n\n\
             {keys}\
             [[principals]]\nname = \"{ORDERS}\"\nkids = [{}]\n\
             operations = [\"sign\", \"verify\", \"mac\", \"events\", \"read\", \"keys\"]\n\
             streams = [\"{ORDERS}\", \"orders/*\"]\nread_payloads = true\nrate_per_second = {}\nburst = {}\n{}\n\
             [kill_switch]\nfile = \"{{dir}}/halt\"\n{}",
            self.service_port,
            self.ops_port,
            options.origin,
            options.signing_key,
            options.grease,
            second.unwrap_or_default(),
            options.ledger,
            options.archive,
            options.intents,
            kids.join(", "),
            options.rate,
            options.rate,
            options.grants,
            options.more,
        );
        text.replace("{dir}", &dir)
    }

    /// A path inside the folder.
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Its folder.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// `chancery.toml`.
    pub fn config_file(&self) -> PathBuf {
        self.path("chancery.toml")
    }

    /// Variables of the daemon.
    pub fn environment(&self) -> Vec<(String, String)> {
        self.environment.clone()
    }

    /// Sets a variable for daemons started later.
    pub fn set_variable(&mut self, name: &str, value: &str) {
        self.environment.retain(|(known, _)| known != name);
        self.environment.push((name.into(), value.into()));
    }

    /// Base URL of the service.
    pub fn url(&self) -> String {
        format!("https://localhost:{}", self.service_port)
    }

    /// Runs `chanceryd` with these arguments and the configuration's path.
    pub fn chanceryd(&self, arguments: &[&str]) -> Output {
        let mut command = Command::new(binary("chanceryd"));
        command.args(arguments).arg(self.config_file()).envs(self.environment()).output().unwrap()
    }

    /// Runs `chancery-verify` with these arguments and this world's registry.
    pub fn verify(&self, arguments: &[&str]) -> Output {
        let mut command = Command::new(binary("chancery-verify"));
        command.args(arguments).arg("--signers").arg(self.path("signers.json")).output().unwrap()
    }

    /// A client as [`ORDERS`].
    pub fn client_options(&self) -> Options {
        Options::new(self.url(), self.path("ca.crt")).identity(&self.orders.certificate, &self.orders.key)
    }

    /// A client as [`ORDERS`], connecting at its first call.
    pub fn client(&self) -> Client {
        Client::new(&self.client_options()).unwrap()
    }

    /// The registry as published.
    pub fn registry(&self) -> SignersRegistry {
        SignersRegistry::parse(&std::fs::read(self.path("signers.json")).unwrap()).unwrap()
    }
}

/// Keys of every world: kid and algorithm. The first signs checkpoints, the last signs them too; `dual` has `pq` for a co-signer, and
/// digests may be anchored in its name.
pub const KEYS: [(&str, &str); 11] = [
    ("ledger", "ed25519"),
    ("ed", "ed25519"),
    ("p256", "ecdsa-p256-sha256"),
    ("rsa", "rsa-sha256"),
    ("pss", "rsa-pss-sha256"),
    ("mac", "hmac-sha256"),
    ("p384", "ecdsa-p384-sha384"),
    ("k1", "ecdsa-secp256k1-sha256"),
    ("pq", "ml-dsa-65"),
    ("dual", "ed25519"),
    ("ledger-pq", "ml-dsa-44"),
];

fn key_table(kid: &str, algorithm: &str) -> String {
    let more = if kid == "dual" { "co_signer = \"pq\"\nanchored = true\n" } else { "" };
    format!(
        "[[keys]]\nkid = \"{kid}\"\nsigner_kid = \"{kid}-{algorithm}-v1\"\nbackend = \"software\"\n\
         algorithm = \"{algorithm}\"\npurpose = \"test\"\n{more}\n"
    )
}

fn softhsm_tables(sessions: usize) -> String {
    let backend = format!(
        "\n[[backends]]\nname = \"softhsm\"\nkind = \"pkcs11\"\nmodule_file = \"/usr/lib/softhsm/libsofthsm2.so\"\n\
                   token_label = \"chancery\"\npin_file = \"{{dir}}/hsm.pin\"\nsessions = {sessions}\n\n"
    );
    let key = |kid: &str, algorithm: &str| {
        format!(
            "[[keys]]\nkid = \"{kid}\"\nsigner_kid = \"{kid}-v1\"\nbackend = \"softhsm\"\nalgorithm = \"{algorithm}\"\npurpose = \"test\"\n\n"
        )
    };
    let keys = [("hsm-ed", "ed25519"), ("hsm-p256", "ecdsa-p256-sha256"), ("hsm-rsa", "rsa-sha256")];
    backend + &keys.map(|(kid, algorithm)| key(kid, algorithm)).concat()
}
