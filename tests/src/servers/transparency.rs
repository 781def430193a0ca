//! Other people's transparency logs, witnesses and monitors, built from the Go module proxy and run on 127.0.0.1.
//!
//! | program | of | what for | build, once | start |
//! |---|---|---|---|---|
//! | [`TesseraLog`] | Tessera 1.0.4, `cmd/conformance/posix` | a tlog-tiles log that our mirror follows | 30 s | 1 s |
//! | [`Omniwitness`] | transparency-dev/witness of 2026-06-17 | a witness that cosigns checkpoints | 120 s | 1 s |
//! | [`fsck()`] | Tessera 1.0.4, `cmd/fsck` | a monitor that reads a whole log of ours and checks it | 30 s | - |
//!
//! Versions and hashes are those of `servers/transparency/go.mod` and `go.sum`; 155 MB are downloaded. The modules ask
//! for Go 1.25. Where the machine has an older one (Debian 12 has 1.19), the toolchain is had as a module too, from
//! the same proxy, 64 MB, and must have the hash below.
//!
//! Could not be had: `filippo.io/torchwood` (litewitness) and `filippo.io/sunlight`, which the module proxy refuses;
//! newer witnesses, whose dependencies it refuses. Tessera's own mirror builds, but does not end when a log has no full
//! tile.

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair as _};
use chancery_format::note::NoteVerifier;

use super::error::ServerError;
use super::install::{cache_dir, install_once, run, tail};
use super::process::{Server, data_dir, free_port};

/// Another byte is another build.
const MODULE: [&str; 2] =
    [include_str!("../../servers/transparency/go.mod"), include_str!("../../servers/transparency/go.sum")];

/// Go itself as a module, for machines whose own is older than [`GO_MINOR_MIN`], and its hash.
const TOOLCHAIN: &str = "golang.org/toolchain@v0.0.1-go1.25.14.linux-amd64";
const TOOLCHAIN_SUM: &str = "h1:XriDgll2yv4W2YeUo2X/WuUuy+iGJkXGH0CQloMBEXo=";
/// What the modules ask for: Go 1.25.
const GO_MINOR_MIN: u32 = 25;

/// A note key: the signer's text, as Go programs read it from a file, and the verifier key.
#[derive(Debug, Clone)]
pub struct NoteKey {
    /// `PRIVATE+KEY+NAME+HASH+SEED`.
    pub secret: String,
    /// `NAME+HASH+KEY`.
    pub vkey: String,
}

impl NoteKey {
    /// The same for the same name and seed. Of a test, so it need not be secret.
    pub fn new(name: &str, seed: [u8; 32]) -> Self {
        use base64::Engine as _;
        let pair = Ed25519KeyPair::from_seed_unchecked(&seed).expect("every seed is a key");
        let public = pair.public_key().as_ref().try_into().expect("an Ed25519 key has 32 bytes");
        let verifier = NoteVerifier::new(name, public).expect("a name and a key of a test");
        let key_id: String = verifier.key_id().iter().map(|byte| format!("{byte:02x}")).collect();
        let material = base64::engine::general_purpose::STANDARD.encode([&[1], seed.as_slice()].concat());
        Self { secret: format!("PRIVATE+KEY+{name}+{key_id}+{material}"), vkey: verifier.vkey() }
    }
}

/// A Tessera log in a folder, which takes entries and shows itself over HTTP. It publishes once a second.
#[derive(Debug)]
pub struct TesseraLog {
    server: Server,
    folder: PathBuf,
}

impl TesseraLog {
    /// Builds it if need be, and starts an empty one.
    pub fn start(key: &NoteKey) -> Result<Self, ServerError> {
        let program = built("tessera-log", "github.com/transparency-dev/tessera/cmd/conformance/posix")?;
        let (dir, port) = (data_dir("tessera")?, free_port()?);
        let folder = dir.join("log");
        std::fs::create_dir(&folder).map_err(ServerError::io("making the log's folder"))?;
        write(&dir.join("key"), &key.secret)?;
        let mut command = Command::new(program);
        command.arg(format!("--listen=127.0.0.1:{port}"));
        command.arg("--storage_dir").arg(&folder).arg("--private_key").arg(dir.join("key"));
        Ok(Self { server: Server::start("tessera-log", &dir, port, "/checkpoint", &command)?, folder })
    }

    /// `http://127.0.0.1:PORT`; entries are added by `POST /add`, which answers with the index.
    pub fn url(&self) -> String {
        self.server.endpoint_url()
    }

    /// Where it keeps its files, as a bucket would.
    pub fn folder(&self) -> &Path {
        &self.folder
    }
}

/// A witness of the OmniWitness kind, which cosigns what `POST /add-checkpoint` shows it (C2SP tlog-witness).
///
/// Its ways, as seen: an unknown log and a signature that fails are 500, where the specification has 404 and 403; a
/// missing or wrong proof is 422; a checkpoint it has seen is cosigned again; one that it cannot start from is 409 with
/// the size it has. By its source: another root at a size it knows is 409 without a body, bodies over 16 KiB are 400.
#[derive(Debug)]
pub struct Omniwitness {
    server: Server,
}

impl Omniwitness {
    /// Builds it if need be, and starts one with this key that knows these logs: origin and verifier key.
    pub fn start(key: &NoteKey, logs: &[(&str, &str)]) -> Result<Self, ServerError> {
        let program = built("omniwitness", "github.com/transparency-dev/witness/cmd/omniwitness")?;
        let (dir, port) = (data_dir("omniwitness")?, free_port()?);
        let known = logs.iter().map(|(origin, vkey)| {
            format!("  - Origin: {origin}\n    PublicKey: {vkey}\n    URL: http://127.0.0.1:1/\n")
        });
        write(&dir.join("logs.yaml"), &format!("Logs:\n{}", known.collect::<String>()))?;
        write(&dir.join("key"), &key.secret)?;
        let mut command = Command::new(program);
        command.arg(format!("--listen=127.0.0.1:{port}")).arg("--metrics_listen=").arg("--logtostderr");
        command.arg("--private_key_path").arg(dir.join("key"));
        command.arg("--additional_logs").arg(dir.join("logs.yaml"));
        command.arg("--db_file").arg(dir.join("witness.db"));
        let is_up = |address| std::net::TcpStream::connect(address).is_ok();
        Ok(Self { server: Server::start_until("omniwitness", &dir, port, &command, is_up)? })
    }

    /// `http://127.0.0.1:PORT`; the submission prefix.
    pub fn url(&self) -> String {
        self.server.endpoint_url()
    }
}

/// Reads the whole log at `url` (`http://…/` or `file:///…/`) with Tessera's checker. What it found wrong is the error.
pub fn fsck(url: &str, vkey: &str) -> Result<String, ServerError> {
    let program = built("tessera-fsck", "github.com/transparency-dev/tessera/cmd/fsck")?;
    let dir = data_dir("fsck")?;
    write(&dir.join("log.vkey"), vkey)?;
    let mut command = Command::new(program);
    command.args(["--ui=false", "--logtostderr", "-v=1", "--N=2", "--storage_url", url, "--public_key"]);
    let output = command.arg(dir.join("log.vkey")).output();
    let output = output.map_err(ServerError::io("running fsck"))?;
    drop(std::fs::remove_dir_all(&dir));
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    // Its exit code is 0 whatever it finds.
    if output.status.success() && text.contains("Completed ranges") && !text.contains("fsck failed") {
        return Ok(text);
    }
    Err(ServerError::Command { command: format!("fsck {url}"), output: tail(&text) })
}

fn write(path: &Path, text: &str) -> Result<(), ServerError> {
    std::fs::write(path, text).map_err(ServerError::io(format!("writing {}", path.display())))
}

/// One program of the module below `servers/transparency`, built once for its sources.
fn built(name: &str, package: &str) -> Result<PathBuf, ServerError> {
    let recipe = format!("{}{package}", MODULE.concat());
    let dir = install_once(name, &recipe, |dir| {
        let mut build = go(&go_program()?);
        build.args(["build", "-o"]).arg(dir.join(name)).arg(package);
        build.current_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("servers/transparency"));
        run(&mut build).map(drop)
    })?;
    Ok(dir.join(name))
}

/// The machine's Go if it is new enough, else one from the module proxy.
pub(super) fn go_program() -> Result<PathBuf, ServerError> {
    let own = PathBuf::from("go");
    let version = run(go(&own).args(["env", "GOVERSION"]))
        .map_err(|_| ServerError::Missing("no go on the PATH: run .ci/install, or install Go".into()))?;
    let minor = version.trim().strip_prefix("go1.").and_then(|rest| rest.split('.').next()?.parse().ok());
    if minor.is_some_and(|minor: u32| minor >= GO_MINOR_MIN) {
        return Ok(own);
    }
    let dir = install_once("go-toolchain", &format!("{TOOLCHAIN} {TOOLCHAIN_SUM}"), |dir| {
        let mut download = go(&own);
        download.args(["mod", "download", "-json", TOOLCHAIN]).current_dir(dir);
        let told = run(download.env("GOMODCACHE", dir.join("modules")))?;
        let told: serde_json::Value = serde_json::from_str(&told).unwrap_or_default();
        if told.get("Sum").and_then(|sum| sum.as_str()) != Some(TOOLCHAIN_SUM) {
            return Err(ServerError::Missing(format!("{TOOLCHAIN} does not have the hash {TOOLCHAIN_SUM}")));
        }
        // A module's files are no programs.
        for folder in ["bin", "pkg/tool/linux_amd64"] {
            make_executable(&toolchain(dir).join(folder))?;
        }
        std::fs::remove_dir_all(dir.join("modules/cache")).map_err(ServerError::io("removing the download"))
    })?;
    Ok(toolchain(&dir).join("bin/go"))
}

fn toolchain(dir: &Path) -> PathBuf {
    dir.join("modules").join(TOOLCHAIN)
}

fn make_executable(folder: &Path) -> Result<(), ServerError> {
    let failed = || ServerError::io(format!("making programs of {}", folder.display()));
    for entry in std::fs::read_dir(folder).map_err(failed())?.flatten() {
        let mode = std::fs::Permissions::from_mode(0o755);
        std::fs::set_permissions(entry.path(), mode).map_err(failed())?;
    }
    Ok(())
}

/// Go with caches of ours, and hashes that must be those of `go.sum`.
pub(super) fn go(program: &Path) -> Command {
    let cache = cache_dir().join("go");
    let mut go = Command::new(program);
    go.env("GOCACHE", cache.join("build"))
        .env("GOMODCACHE", cache.join("modules"))
        // Modules are written so that deleting the cache is possible for whoever owns it.
        .env("GOFLAGS", "-mod=readonly -modcacherw -buildvcs=false")
        .env("GOTOOLCHAIN", "local")
        .env("GOWORK", "off")
        .env("CGO_ENABLED", "0")
        .env_remove("GOROOT");
    go
}
