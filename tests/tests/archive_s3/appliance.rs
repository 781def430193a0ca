//! The real daemon on a rig's bucket, callers that keep it busy, and the verifier as an auditor runs it.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;

use chancery_tests::rig::wire::{Ask, Reply, call};
use chancery_tests::rig::{Daemon, World, WorldOptions, binary, wait_for};
use chancery_tests::servers::FaultProxy;

use crate::rig::{KEY, Rig};

/// Time between epochs, in milliseconds.
pub(crate) const EPOCH_MS: u64 = 300;

const CALLERS: u64 = 4;

/// An installation that archives to the rig's bucket through `proxy`; `bounds` are lines of `[archive]`.
pub(crate) fn world(rig: &Rig, proxy: &FaultProxy, bounds: &str) -> World {
    let archive = format!(
        "kind = \"s3\"\nbucket = \"{}\"\nprefix = \"ledger/one/\"\nregion = \"us-east-1\"\n\
         endpoint_url = \"{}\"\nepoch_interval_ms = {EPOCH_MS}\n{bounds}",
        rig.bucket,
        proxy.endpoint_url()
    );
    // One address makes every connection here.
    let more = "\n[limits]\nhandshakes_per_address_per_second = 100000\n".into();
    let mut world = World::uninitialised(&WorldOptions { archive, more, ..WorldOptions::default() });
    world.set_variable("AWS_ACCESS_KEY_ID", KEY);
    world.set_variable("AWS_SECRET_ACCESS_KEY", KEY);
    world.initialise();
    world
}

/// Waits until the archive has so many epochs.
pub(crate) fn wait_for_epochs(daemon: &Daemon, epochs: u64) {
    wait_for("archive epochs", || (daemon.metric("chancery_archive_epochs") >= epochs).then_some(()));
}

/// Waits until nothing is left to archive, and stops the daemon.
pub(crate) fn stop_archived(daemon: Daemon) {
    wait_for("an archive without lag", || (daemon.metric("chancery_archive_lag_entries") == 0).then_some(()));
    assert!(daemon.stop().success());
}

/// Asks for a signature over a digest made from `number`.
pub(crate) fn sign(world: &World, number: u64) -> Reply {
    let body = format!("{{\"kid\":\"ed\",\"digest\":\"{number:064x}\",\"digestAlgorithm\":\"sha256\"}}");
    call(world, Some(&world.orders), &Ask::post("/v1/sign", body)).unwrap()
}

/// What a caller was told about one signature.
#[derive(Debug)]
pub(crate) struct Told {
    pub(crate) index: usize,
    pub(crate) id: String,
    pub(crate) signature: String,
}

impl Told {
    /// From an answer that must hold a signature.
    pub(crate) fn by(reply: &Reply) -> Self {
        assert_eq!(reply.status, 200, "{}", reply.body);
        let json = reply.json();
        let text = |name: &str| json[name].as_str().unwrap().to_owned();
        let index = json["receipt"]["index"].as_u64().unwrap();
        Self { index: index.try_into().unwrap(), id: text("id"), signature: text("signature") }
    }
}

/// Callers that sign one after the other until they are stopped, each answer a signature. Dropping ends them.
pub(crate) struct Callers {
    threads: Vec<JoinHandle<Vec<Told>>>,
    stop: Arc<AtomicBool>,
    told: Arc<AtomicU64>,
}

impl Callers {
    pub(crate) fn start(world: &Arc<World>) -> Self {
        let (stop, told) = (Arc::<AtomicBool>::default(), Arc::<AtomicU64>::default());
        let caller = |caller: u64| {
            let (world, stop, told) = (Arc::clone(world), Arc::clone(&stop), Arc::clone(&told));
            let turns = move |turn: &u64| *turn == 0 || !stop.load(Ordering::Relaxed);
            std::thread::spawn(move || {
                let numbers = (0..).take_while(turns).map(|turn| caller << 32 | turn);
                let answers = numbers.map(|number| Told::by(&sign(&world, number)));
                answers.inspect(|_| _ = told.fetch_add(1, Ordering::Relaxed)).collect()
            })
        };
        let threads = (0..CALLERS).map(caller).collect();
        Self { threads, stop, told }
    }

    /// Signatures so far.
    pub(crate) fn told(&self) -> u64 {
        self.told.load(Ordering::Relaxed)
    }

    /// Waits for so many more signatures, from callers that are all still at it.
    pub(crate) fn go_on_for(&self, signatures: u64) {
        let enough = self.told() + signatures;
        wait_for("signing goes on", || {
            assert!(!self.threads.iter().any(JoinHandle::is_finished), "a caller got no signature");
            (self.told() >= enough).then_some(())
        });
    }

    /// Ends them; gives all they were told.
    pub(crate) fn stop(mut self) -> Vec<Told> {
        self.stop.store(true, Ordering::Relaxed);
        self.threads.drain(..).flat_map(|thread| thread.join().unwrap()).collect()
    }
}

impl Drop for Callers {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

/// An auditor: where the store is, and which registry to trust.
pub(crate) struct Auditor {
    pub(crate) endpoint_url: String,
    pub(crate) location: String,
    pub(crate) signers: PathBuf,
}

impl Auditor {
    /// One who reads the store itself.
    pub(crate) fn of(rig: &Rig, world: &World) -> Self {
        Self {
            endpoint_url: format!("http://{}", rig.address),
            location: format!("s3://{}/ledger/one", rig.bucket),
            signers: world.path("signers.json"),
        }
    }

    /// By which programs find the store and may read it.
    pub(crate) fn environment(&self) -> [(&'static str, &str); 4] {
        [
            ("AWS_ACCESS_KEY_ID", KEY),
            ("AWS_SECRET_ACCESS_KEY", KEY),
            ("AWS_REGION", "us-east-1"),
            ("AWS_ENDPOINT_URL_S3", &self.endpoint_url),
        ]
    }

    /// Runs `chancery-verify ledger`: its exit code and its report.
    pub(crate) fn verify(&self) -> (i32, serde_json::Value) {
        let output = Command::new(binary("chancery-verify"))
            .args(["ledger", &self.location, "--json", "--signers"])
            .arg(&self.signers)
            .envs(self.environment())
            .output()
            .unwrap();
        let report = serde_json::from_slice(&output.stdout);
        let complaint = String::from_utf8_lossy(&output.stderr);
        (output.status.code().unwrap(), report.unwrap_or_else(|error| panic!("{error}: {complaint}")))
    }

    /// The same for an archive that must be found `code`; gives `kind file` of each finding.
    pub(crate) fn finds(&self, code: i32) -> Vec<String> {
        let (told, report) = self.verify();
        assert_eq!(told, code, "{report:#}");
        let text = |finding: &serde_json::Value, name: &str| finding[name].as_str().unwrap_or("-").to_owned();
        let findings = report["findings"].as_array().unwrap().iter();
        findings.map(|finding| format!("{} {}", text(finding, "kind"), text(finding, "file"))).collect()
    }
}

/// Copies the bucket's archive, as the archive itself returns it, into a folder.
pub(crate) fn mirror(rig: &Rig, folder: &Path) {
    let archive = rig.archive();
    for name in archive.list_after("", None, 10_000).unwrap() {
        let path = folder.join(&name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, archive.get(&name).unwrap().unwrap()).unwrap();
    }
}
