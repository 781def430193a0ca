//! Devices in other processes: `p11-kit server` in front of a token, and a TPM in software with its
//! resource manager on a bus of its own. Stopped by their process ids; nothing listens but on loopback.

#![expect(clippy::unwrap_used, reason = "a failed unwrap is the test's failure")]

use std::fs;
use std::net::TcpListener;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use chancery_hsm::conformance::Outage;
use chancery_pkcs11::{Launch, Pkcs11Config, TokenSelector};
use rustix::process::{Pid, Signal, kill_process_group};

use crate::world::{PIN, TOKEN, World, launch, module_file, write_pin};

/// Longest wait for a service to be there.
const PATIENCE: Duration = Duration::from_secs(30);

/// A process and what it started, ended together.
struct Group(Child);

impl Group {
    fn start(command: &mut Command) -> Self {
        let command = command.process_group(0).stdin(Stdio::null()).stdout(Stdio::null());
        Self(command.spawn().unwrap_or_else(|error| panic!("{command:?}: {error}; see .ci/install")))
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        let group = Pid::from_raw(i32::try_from(self.0.id()).unwrap()).unwrap();
        let _ = kill_process_group(group, Signal::KILL);
        let _ = self.0.wait();
    }
}

fn wait_for(what: &str, there: impl Fn() -> bool) {
    let limit = Instant::now() + PATIENCE;
    while !there() {
        assert!(Instant::now() < limit, "{what} is not to be seen");
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn module(names: &[&str]) -> PathBuf {
    let folders = ["/usr/lib/x86_64-linux-gnu", "/usr/lib/aarch64-linux-gnu", "/usr/lib64", "/usr/lib"];
    let candidates =
        folders.iter().flat_map(|folder| names.iter().map(move |name| Path::new(folder).join(name)));
    candidates.into_iter().find(|path| path.exists()).expect("the module is installed; see .ci/install")
}

/// The world's token, served by another process.
pub(crate) struct P11Kit {
    config: Pkcs11Config,
    socket: PathBuf,
    server: Mutex<Option<Group>>,
}

impl P11Kit {
    pub(crate) fn start(world: &World) -> Self {
        let socket = world.file("p11.sock");
        let address = format!("unix:path={}", socket.display());
        let environment = vec![("P11_KIT_SERVER_ADDRESS".to_owned(), address.into())];
        let config = Pkcs11Config {
            name: "p11-kit".to_owned(),
            module_file: module(&["pkcs11/p11-kit-client.so"]),
            launch: Launch { environment, ..launch() },
            ..world.config(1)
        };
        let kit = Self { config, socket, server: Mutex::new(None) };
        kit.restore();
        kit
    }

    pub(crate) fn config(&self, sessions: usize) -> Pkcs11Config {
        Pkcs11Config { sessions, ..self.config.clone() }
    }
}

impl Outage for P11Kit {
    fn lose(&self) {
        self.server.lock().unwrap().take();
        let _ = fs::remove_file(&self.socket);
    }

    fn restore(&self) {
        let mut command = Command::new("p11-kit");
        command.args(["server", "-f", "--provider"]).arg(module_file()).arg("--name").arg(&self.socket);
        command.arg(format!("pkcs11:token={TOKEN}"));
        *self.server.lock().unwrap() = Some(Group::start(&mut command));
        wait_for("p11-kit server", || self.socket.exists());
    }
}

/// A TPM with an empty token.
pub(crate) struct Tpm {
    folder: tempfile::TempDir,
    environment: Vec<(String, String)>,
    port: u16,
    /// The only way to the TPM: without it the TPM is away.
    manager: Mutex<Option<Group>>,
    _bus_and_tpm: [Group; 2],
}

impl Tpm {
    pub(crate) fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        for name in ["state", "store"] {
            fs::create_dir(at(name)).unwrap();
        }
        write_pin(&at("pin"), PIN);
        let bus_address = format!("unix:path={}", at("bus").display());
        let mut bus = Command::new("dbus-daemon");
        bus.args(["--session", "--nofork", "--nopidfile", "--address"]).arg(&bus_address);
        let bus = Group::start(bus.stderr(Stdio::null()));
        let port = two_free_ports();
        let mut swtpm = Command::new("swtpm");
        swtpm.args(["socket", "--tpm2", "--flags", "startup-clear", "--tpmstate"]);
        swtpm.arg(format!("dir={}", at("state").display()));
        swtpm.arg("--server").arg(format!("type=tcp,port={port},bindaddr=127.0.0.1"));
        swtpm.arg("--ctrl").arg(format!("type=tcp,port={},bindaddr=127.0.0.1", port + 1));
        let swtpm = Group::start(swtpm.stderr(Stdio::null()));
        wait_for("the bus", || at("bus").exists());
        wait_for("swtpm", || TcpListener::bind(("127.0.0.1", port + 1)).is_err());
        let tcti = "tabrmd:bus_type=session".to_owned();
        let environment = vec![
            ("DBUS_SESSION_BUS_ADDRESS".to_owned(), bus_address),
            ("TPM2TOOLS_TCTI".to_owned(), tcti.clone()),
            ("TPM2_PKCS11_TCTI".to_owned(), tcti),
            ("TPM2_PKCS11_STORE".to_owned(), at("store").display().to_string()),
            ("TPM2_PKCS11_LOG_LEVEL".to_owned(), "0".to_owned()),
            ("TSS2_LOG".to_owned(), "all+none".to_owned()),
        ];
        let tpm = Self { folder, environment, port, manager: Mutex::default(), _bus_and_tpm: [bus, swtpm] };
        tpm.restore();
        tpm.ptool(&["init"]).unwrap();
        tpm.ptool(&[
            "addtoken",
            "--pid=1",
            &format!("--label={TOKEN}"),
            "--sopin=so-pin",
            &format!("--userpin={PIN}"),
        ])
        .unwrap();
        tpm
    }

    pub(crate) fn config(&self, sessions: usize) -> Pkcs11Config {
        let environment = self.environment.iter().map(|(name, value)| (name.clone(), value.into()));
        Pkcs11Config {
            name: "tpm".to_owned(),
            module_file: module(&["pkcs11/libtpm2_pkcs11.so", "libtpm2_pkcs11.so.1"]),
            token: TokenSelector::labelled(TOKEN),
            pin_file: self.folder.path().join("pin"),
            sessions,
            launch: Launch { environment: environment.collect(), ..launch() },
        }
    }

    /// A key of a kind that PKCS#11 cannot be asked for there.
    pub(crate) fn add_key(&self, label: &str, algorithm: &str) -> Result<(), String> {
        self.ptool(&[
            "addkey",
            &format!("--label={TOKEN}"),
            &format!("--userpin={PIN}"),
            &format!("--algorithm={algorithm}"),
            &format!("--key-label={label}"),
        ])
    }

    fn answers(&self) -> bool {
        self.run("tpm2_getrandom", &["--hex", "4"]).is_ok()
    }

    fn ptool(&self, args: &[&str]) -> Result<(), String> {
        let (first, rest) = args.split_first().unwrap();
        let store = format!("--path={}", self.folder.path().join("store").display());
        self.run("tpm2_ptool", &[&[*first, &store], rest].concat())
    }

    fn run(&self, program: &str, args: &[&str]) -> Result<(), String> {
        let variables = self.environment.iter().map(|(name, value)| (name, value));
        let output = Command::new(program).args(args).envs(variables).output();
        let output = output.unwrap_or_else(|error| panic!("{program}: {error}; see .ci/install"));
        if output.status.success() {
            Ok(())
        } else {
            Err(String::from_utf8_lossy(&output.stderr).into_owned())
        }
    }
}

impl Outage for Tpm {
    fn lose(&self) {
        self.manager.lock().unwrap().take();
        wait_for("the TPM's absence", || !self.answers());
    }

    fn restore(&self) {
        let mut command = Command::new("tpm2-abrmd");
        // What the last one had loaded is still in the TPM, which has room for three objects.
        command.args(["--session", "--allow-root", "--flush-all"]);
        command.arg(format!("--tcti=swtpm:host=127.0.0.1,port={}", self.port));
        command.envs(self.environment.iter().map(|(name, value)| (name, value)));
        *self.manager.lock().unwrap() = Some(Group::start(command.stderr(Stdio::null())));
        wait_for("tpm2-abrmd", || self.answers());
    }
}

/// A port and the one after it, both free a moment ago: the simulator's clients take them as a pair.
fn two_free_ports() -> u16 {
    let limit = Instant::now() + PATIENCE;
    loop {
        let first = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = first.local_addr().unwrap().port();
        if port < u16::MAX && TcpListener::bind(("127.0.0.1", port + 1)).is_ok() {
            return port;
        }
        assert!(Instant::now() < limit, "no two free ports");
    }
}
