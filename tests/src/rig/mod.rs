//! One installation of Chancery, started and stopped by a test.

pub mod authority;
pub mod daemon;
pub mod evidence;
pub mod kms;
pub mod people;
pub mod wire;
pub mod world;

pub use authority::{Authority, Identity, write_secret};
pub use daemon::{Daemon, cpu_of};
pub use kms::{KmsAccount, kms_credentials};
pub use people::People;
pub use world::{World, WorldOptions};

use std::path::PathBuf;
use std::time::{Duration, Instant};

/// Longest any single step of a test may take before it is called a hang.
pub const STEP_MAX: Duration = Duration::from_secs(60);

/// A word nobody knows beforehand: a PIN or password of one test.
pub fn random_word() -> String {
    let mut bytes = [0u8; 12];
    aws_lc_rs::rand::fill(&mut bytes).unwrap();
    bytes.map(|byte| format!("{byte:02x}")).concat()
}

/// Path of one of our binaries, beside the test that runs.
///
/// `make test` builds them first; a plain `cargo test -p chancery-tests` may find none and says so.
pub fn binary(name: &str) -> PathBuf {
    if let Some(folder) = std::env::var_os("CHANCERY_BIN_DIR") {
        return PathBuf::from(folder).join(name);
    }
    let me = std::env::current_exe().unwrap();
    let found = me.ancestors().skip(1).take(2).map(|folder| folder.join(name)).find(|path| path.is_file());
    found.unwrap_or_else(|| {
        panic!("{name} is not built; run `make test`, or cargo build --workspace --bins first")
    })
}

/// Asks `probe` until it gives something, for at most [`STEP_MAX`].
pub fn wait_for<T>(what: &str, mut probe: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + STEP_MAX;
    loop {
        if let Some(found) = probe() {
            return found;
        }
        assert!(Instant::now() < deadline, "{what}: not within {STEP_MAX:?}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// A port nobody listens on.
pub fn free_port() -> u16 {
    crate::servers::free_port().unwrap()
}

/// The machine's clock.
pub struct WallClock;

impl chancery_ledger::Clock for WallClock {
    fn now(&self) -> chancery_format::Timestamp {
        let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
        chancery_format::Timestamp::from_unix_ms(i64::try_from(since.as_millis()).unwrap()).unwrap()
    }
}

/// Options of a ledger opened without a daemon; a fatal error ends the test.
pub fn roll_options(
    directory: PathBuf,
    origin: chancery_format::Origin,
    signer_kid: &str,
) -> chancery_ledger::RollOptions {
    let fatal = |fatal: &chancery_ledger::Fatal| panic!("the ledger stopped: {fatal:?}");
    let kid = signer_kid.parse().unwrap();
    chancery_ledger::RollOptions::new(
        directory,
        origin,
        kid,
        std::sync::Arc::new(WallClock),
        std::sync::Arc::new(fatal),
    )
}
