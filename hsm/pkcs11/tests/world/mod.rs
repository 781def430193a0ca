//! A private SoftHSM2 for one test, in a process of its own.
//!
//! SoftHSM2 reads SOFTHSM2_CONF when it is initialised, once per process, and a process cannot safely
//! change its own environment. So a test starts its own binary again for this one test, with the
//! variable set, and the body runs there. A test that cannot find SoftHSM2 fails; it is not skipped.

#![expect(clippy::unwrap_used, reason = "a failed unwrap is the test's failure")]
#![allow(dead_code, reason = "every test file uses its own part")]

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use chancery_hsm::conformance::{OffSwitch, Outage};
use chancery_pkcs11::{Launch, Pkcs11Backend, Pkcs11Config, TokenSelector, init_token};
use cryptoki::context::{CInitializeArgs, CInitializeFlags, Pkcs11};
use cryptoki::object::Attribute;
use cryptoki::session::{Session, UserType};
use cryptoki::types::AuthPin;

const CHILD: &str = "CHANCERY_TEST_WORLD";
const MODULES: [&str; 3] = [
    "/usr/lib/softhsm/libsofthsm2.so",
    "/usr/lib/x86_64-linux-gnu/softhsm/libsofthsm2.so",
    "/usr/lib64/pkcs11/libsofthsm2.so",
];

pub(crate) const TOKEN: &str = "chancery-test";
pub(crate) const PIN: &str = "73519462";

/// Longest a child may run.
const PATIENCE: Duration = Duration::from_secs(300);

/// A directory with a token in it.
pub(crate) struct World {
    directory: PathBuf,
}

/// Runs `body` in a child process with a fresh, initialised token. `name` is the test's own path.
pub(crate) fn in_world(name: &str, body: impl FnOnce(&World)) {
    if let Some(directory) = std::env::var_os(CHILD) {
        let world = World { directory: directory.into() };
        init_token(&module_file(), &launch(), TOKEN, "so-pin-8246", PIN).unwrap();
        return body(&world);
    }
    let directory = tempfile::tempdir().unwrap();
    let config = directory.path().join("softhsm2.conf");
    fs::create_dir(directory.path().join("tokens")).unwrap();
    let tokens = directory.path().join("tokens");
    fs::write(&config, format!("directories.tokendir = {}\nlog.level = ERROR\n", tokens.display())).unwrap();
    write_pin(&directory.path().join("pin"), PIN);
    let child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", name, "--nocapture", "--test-threads=1"])
        .env(CHILD, directory.path())
        .env("SOFTHSM2_CONF", &config)
        .stdin(Stdio::null())
        .spawn();
    let mut child = child.unwrap();
    let limit = Instant::now() + PATIENCE;
    let status = loop {
        match child.try_wait().unwrap() {
            Some(status) => break status,
            None if Instant::now() < limit => std::thread::sleep(Duration::from_millis(5)),
            None => {
                child.kill().unwrap();
                panic!("{name} did not finish");
            }
        }
    };
    assert!(status.success(), "{name} failed in its child: {status}");
}

/// The worker as a program of its own: a test's executable has no subcommand.
pub(crate) fn launch() -> Launch {
    Launch {
        program: Some(env!("CARGO_BIN_EXE_chancery-pkcs11-worker").into()),
        args: Vec::new(),
        ..Launch::default()
    }
}

/// Sends SIGKILL to one process.
pub(crate) fn kill(pid: u32) {
    let pid = rustix::process::Pid::from_raw(i32::try_from(pid).unwrap()).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
}

pub(crate) fn module_file() -> PathBuf {
    let found = MODULES.iter().map(PathBuf::from).find(|path| path.exists());
    found.expect("SoftHSM2 is installed (Debian package libsofthsm2)")
}

pub(crate) fn write_pin(path: &Path, pin: &str) {
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path).unwrap();
    writeln!(file, "{pin}").unwrap();
}

impl World {
    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.directory.join(name)
    }

    pub(crate) fn pin_file(&self) -> PathBuf {
        self.directory.join("pin")
    }

    pub(crate) fn config(&self, sessions: usize) -> Pkcs11Config {
        Pkcs11Config {
            name: "softhsm".to_owned(),
            module_file: module_file(),
            token: TokenSelector::labelled(TOKEN),
            pin_file: self.pin_file(),
            sessions,
            launch: launch(),
        }
    }

    pub(crate) fn backend(&self, sessions: usize) -> Pkcs11Backend {
        Pkcs11Backend::open(&self.config(sessions)).unwrap()
    }
}

/// Unplugging a file token: its directory goes elsewhere and comes back.
impl Outage for World {
    fn lose(&self) {
        fs::rename(self.directory.join("tokens"), self.directory.join("unplugged")).unwrap();
    }

    fn restore(&self) {
        fs::rename(self.directory.join("unplugged"), self.directory.join("tokens")).unwrap();
    }
}

/// A session beside the backend's, as another tool would have it.
pub(crate) fn with_raw_session<T>(world: &World, work: impl FnOnce(&Session) -> T) -> T {
    let pkcs11 = Pkcs11::new(world.config(1).module_file).unwrap();
    // The backend has initialised the module in this process already, or not.
    let _ = pkcs11.initialize(CInitializeArgs::new(CInitializeFlags::OS_LOCKING_OK));
    let labelled =
        |slot: &_| pkcs11.get_token_info(*slot).is_ok_and(|token| token.label().trim_end() == TOKEN);
    let slot = pkcs11.get_slots_with_token().unwrap().into_iter().find(labelled).unwrap();
    let session = pkcs11.open_rw_session(slot).unwrap();
    let _ = session.login(UserType::User, Some(&AuthPin::new(PIN.into())));
    work(&session)
}

/// Whether the token lets a key sign.
pub(crate) struct Signing<'a>(pub(crate) &'a World);

impl Signing<'_> {
    fn set(&self, label: &str, may: bool) {
        with_raw_session(self.0, |session| {
            let key = [Attribute::Label(label.as_bytes().to_vec()), Attribute::Sign(!may)];
            for key in session.find_objects(&key).unwrap() {
                session.update_attributes(key, &[Attribute::Sign(may)]).unwrap();
            }
        });
    }
}

impl OffSwitch for Signing<'_> {
    fn off(&self, label: &str) {
        self.set(label, false);
    }

    fn on(&self, label: &str) {
        self.set(label, true);
    }
}
