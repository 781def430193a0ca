//! PINs, passwords, credentials and software keys are in no place where others could find them: not in the
//! daemon's environment, command line, log and metrics, not in what a crash leaves behind; and those that the
//! daemon has no use for, once it has used them, not in its memory either.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a failed unwrap is the test's failure")]

use std::collections::BTreeSet;
use std::fs;
use std::io::ErrorKind;
use std::os::unix::fs::FileExt as _;
use std::os::unix::process::ExitStatusExt as _;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use chancery_format::SignatureAlgorithm;
use chancery_tests::rig::wire::{Ask, call};
use chancery_tests::rig::{Daemon, KmsAccount, World, WorldOptions, random_word, write_secret};
use chancery_tests::servers::ObjectStore;
use chancery_yubihsm::testing::{AUTH_KEY_ID, YubiHsmDouble};
use memchr::memmem;
use rustix::process::{Resource, Rlimit, Signal, getrlimit, setrlimit};

/// Keys of every kind of backend.
const KIDS: &[&str] = &["ed", "p256", "rsa", "hsm-ed", "hsm-p256", "yubi", "kms"];

/// A secret, and whether the daemon needs it in memory while it runs.
struct Secret {
    name: &'static str,
    bytes: Vec<u8>,
    in_use: bool,
}

impl Secret {
    fn text(name: &'static str, text: &str, in_use: bool) -> Self {
        Self { name, bytes: text.as_bytes().to_vec(), in_use }
    }

    /// The part of a key file that is secret.
    fn of_key(name: &'static str, world: &World, file: &str, part: impl FnOnce(&[u8]) -> &[u8]) -> Self {
        let file = fs::read(world.path("keys").join(file)).unwrap();
        Self { name, bytes: part(&file).to_vec(), in_use: true }
    }

    /// Every way somebody would write it.
    fn spellings(&self) -> Vec<Vec<u8>> {
        let hex: String = self.bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        let upper = hex.to_uppercase().into_bytes();
        vec![self.bytes.clone(), hex.into_bytes(), upper, STANDARD.encode(&self.bytes).into_bytes()]
    }

    fn is_in(&self, text: &[u8]) -> bool {
        self.spellings().iter().any(|spelling| memmem::find(text, spelling).is_some())
    }
}

/// A world with a software backend, a PKCS#11 token, a YubiHSM and a cloud account, and what is secret in it.
struct Guarded {
    world: World,
    secrets: Vec<Secret>,
    _device: YubiHsmDouble,
}

impl Guarded {
    fn new() -> Self {
        let (password, credential) = (random_word(), random_word());
        let device = YubiHsmDouble::start(&password).unwrap();
        let account = KmsAccount::new(ObjectStore::MiniStack);
        let arn = account.make_key(SignatureAlgorithm::EcdsaP256Sha256);
        let more = format!(
            "\n[logging]\nlevel = \"debug\"\n\n[limits]\nhandshakes_per_address_per_second = 100000\n\n\
             [[backends]]\nname = \"yubi\"\nkind = \"yubihsm\"\n\
             connector = \"http://{}\"\nauth_key_id = {AUTH_KEY_ID}\npassword_file = \"{{dir}}/yubi.password\"\n\
             force_audit = \"set\"\n\n[[keys]]\nkid = \"yubi\"\nsigner_kid = \"yubi-v1\"\nbackend = \"yubi\"\n\
             algorithm = \"ecdsa-p256-sha256\"\npurpose = \"test\"\n{}",
            device.address(),
            account.tables(4, &[("kms", &arn, SignatureAlgorithm::EcdsaP256Sha256)])
        );
        let options = WorldOptions { kids: &["yubi", "kms"], more, ..WorldOptions::default() };
        let mut world = World::with_softhsm_uninitialised(&options);
        write_secret(&world.path("yubi.password"), &password);
        write_secret(
            &world.path("credentials"),
            &format!("[default]\naws_access_key_id = test\naws_secret_access_key = {credential}\n"),
        );
        world.set_variable("AWS_SHARED_CREDENTIALS_FILE", world.path("credentials").to_str().unwrap());
        world.set_variable("AWS_EC2_METADATA_DISABLED", "true");
        world.initialise();
        let pin = fs::read_to_string(world.path("hsm.pin")).unwrap();
        let secrets = vec![
            Secret::text("the token's PIN", pin.trim(), false),
            Secret::text("the YubiHSM's password", &password, false),
            Secret::text("the cloud's secret access key", &credential, true),
            // PKCS#8 of Ed25519 (RFC 8410 §7) ends with the seed, of P-256 (RFC 5915) has the scalar at 36, of
            // RSA (RFC 8017 A.1.2) ends with the coefficient.
            Secret::of_key("an Ed25519 key", &world, "ed-ed25519-v1.p8", |file| &file[file.len() - 32..]),
            Secret::of_key("a P-256 key", &world, "p256-ecdsa-p256-sha256-v1.p8", |file| &file[36..68]),
            Secret::of_key("an RSA key", &world, "rsa-rsa-sha256-v1.p8", |file| &file[file.len() - 64..]),
            Secret::of_key("a MAC key", &world, "mac-hmac-sha256-v1.mac", |file| file),
        ];
        Self { world, secrets, _device: device }
    }

    fn refuse(&self, place: &str, content: &[u8]) {
        for secret in &self.secrets {
            assert!(!secret.is_in(content), "{} stands in {place}", secret.name);
        }
    }
}

/// Signs with every key until told to stop; how many signatures came back.
fn load(world: &World, stop: &AtomicBool) -> usize {
    let signed = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for thread in 0..4 {
            let signed = &signed;
            scope.spawn(move || {
                for number in thread.. {
                    if stop.load(Ordering::Relaxed) {
                        return;
                    }
                    let kid = KIDS[number % KIDS.len()];
                    let body = format!(
                        "{{\"kid\":\"{kid}\",\"digest\":\"{number:064x}\",\"digestAlgorithm\":\"sha256\"}}"
                    );
                    let reply = call(world, Some(&world.orders), &Ask::post("/v1/sign", body)).unwrap();
                    assert_eq!(reply.status, 200, "{kid}: {}", reply.body);
                    let mac = Ask::post("/v1/mac", "{\"kid\":\"mac\",\"message\":\"YWJj\"}");
                    assert_eq!(call(world, Some(&world.orders), &mac).unwrap().status, 200);
                    signed.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
    });
    signed.into_inner()
}

/// Everything readable in a process's memory, region by region. Only root is let in.
fn memory(pid: u32, mut visit: impl FnMut(&[u8])) {
    let memory = fs::File::open(format!("/proc/{pid}/mem"));
    if !rustix::process::geteuid().is_root() {
        assert_eq!(memory.unwrap_err().kind(), ErrorKind::PermissionDenied, "the process is not dumpable");
        return;
    }
    let memory = memory.unwrap();
    for line in fs::read_to_string(format!("/proc/{pid}/maps")).unwrap().lines() {
        let mut fields = line.split_whitespace();
        let (range, rights) = (fields.next().unwrap(), fields.next().unwrap());
        // Not code, and not the kernel's own pages.
        if !rights.starts_with("rw") || line.contains("[v") {
            continue;
        }
        let (from, to) = range.split_once('-').unwrap();
        let [from, to] = [from, to].map(|text| u64::from_str_radix(text, 16).unwrap());
        let mut region = vec![0; usize::try_from(to - from).unwrap()];
        // Regions come and go while the process runs.
        if memory.read_exact_at(&mut region, from).is_ok() {
            visit(&region);
        }
    }
}

fn no_core_in(folder: &Path) {
    let names = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name());
    let cores: Vec<_> = names.filter(|name| name.to_string_lossy().starts_with("core")).collect();
    assert!(cores.is_empty(), "{cores:?} in {}", folder.display());
}

#[test]
fn no_secret_is_where_others_could_find_it() {
    // What a crash may leave is the daemon's decision, not that of who started it.
    let hard = getrlimit(Resource::Core).maximum;
    setrlimit(Resource::Core, Rlimit { current: hard, maximum: hard }).unwrap();
    let guarded = Guarded::new();
    let world = &guarded.world;
    let mut daemon = Daemon::start(world);
    let stop = AtomicBool::new(false);
    let (mut seen, mut scans) = (BTreeSet::new(), 0);
    let signed = std::thread::scope(|scope| {
        let load = scope.spawn(|| load(world, &stop));
        let until = Instant::now() + Duration::from_secs(4);
        while Instant::now() < until || scans == 0 {
            let children = daemon.children();
            assert_eq!(children.len(), 1, "the PKCS#11 worker");
            for pid in children.into_iter().chain([daemon.pid()]) {
                for file in ["environ", "cmdline"] {
                    let content = fs::read(format!("/proc/{pid}/{file}")).unwrap();
                    guarded.refuse(&format!("{file} of {pid}"), &content);
                }
                let filter = fs::read_to_string(format!("/proc/{pid}/coredump_filter")).unwrap();
                assert_eq!(filter.trim(), "00000000", "a core dump of {pid} would hold memory");
                let limits = fs::read_to_string(format!("/proc/{pid}/limits")).unwrap();
                let core = limits.lines().find(|line| line.starts_with("Max core file size")).unwrap();
                assert_eq!(core.split_whitespace().nth(4), Some("0"), "{core}");
            }
            guarded.refuse("the metrics", daemon.ops("/metrics").unwrap().1.as_bytes());
            memory(daemon.pid(), |region| {
                for secret in &guarded.secrets {
                    if secret.in_use {
                        if secret.is_in(region) {
                            seen.insert(secret.name);
                        }
                    } else {
                        assert!(!secret.is_in(region), "{} stands in the daemon's memory", secret.name);
                    }
                }
            });
            scans += 1;
        }
        stop.store(true, Ordering::Relaxed);
        load.join().unwrap()
    });
    assert!(signed > 20 * KIDS.len(), "{signed} signatures are no load");
    if rustix::process::geteuid().is_root() {
        // What is in use is found: whoever looked, looked well.
        assert!(
            seen.contains("an Ed25519 key") && seen.contains("the cloud's secret access key"),
            "{seen:?}"
        );
    }
    guarded.refuse("the log", &fs::read(world.path("daemon.log")).unwrap());
    for file in ["signers.json", "chancery.toml"] {
        guarded.refuse(file, &fs::read(world.path(file)).unwrap());
    }
    daemon.signal(Signal::ABORT);
    let status = daemon.wait();
    assert_eq!((status.signal(), status.core_dumped()), (Some(6), false), "{status}");
    no_core_in(&std::env::current_dir().unwrap());
    no_core_in(world.folder());
}
