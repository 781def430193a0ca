//! The worker process: what keeps it in, and what its end costs.

#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "a failed unwrap is the test's failure")]

mod world;

use std::sync::Arc;
use std::time::{Duration, Instant};

use chancery_format::committed::DurableIntent;
use chancery_format::entry::{Intent, IntentParts, KeyUse, Operation, PolicyRef};
use chancery_format::{Digest, Hash, Outcome, OutcomeResult, Rung, SignatureAlgorithm};
use chancery_hsm::software::{DevelopmentOnly, SoftwareBackend};
use chancery_hsm::{Backend, KeyShape, KeySpec, Keyring, Registered, RsaBits, SealInput, SignerError};
use chancery_pkcs11::{Launch, Pkcs11Backend, Pkcs11Config, TokenSelector, uri::Uri};
use world::{PIN, World, in_world, kill, launch, write_pin};

use SignatureAlgorithm::{EcdsaP256Sha256, Ed25519, RsaPssSha256};

const DIGEST: Digest = Digest::Sha256([7; 32]);

fn later() -> Instant {
    Instant::now() + Duration::from_secs(60)
}

#[test]
fn the_fence_holds() {
    in_world("the_fence_holds", |world| {
        let backend = world.backend(1);
        let report = backend.sandbox();
        for wall in ["no-new-privileges", "no-core", "not-dumpable", "ends-with-parent", "system-calls"] {
            assert!(report.stands(wall), "{report}");
        }
        assert_eq!(report.stands("no-inheritance"), !handed_down(), "{report}");
        let could = backend.try_fence(&world.file("outside")).unwrap();
        for forbidden in ["tcp-listen", "tcp-connect", "udp", "udp6", "core"] {
            assert!(!could[forbidden], "{forbidden}: {could:?}");
        }
        for allowed in ["unix", "write-null", "filtered", "no-new-privileges"] {
            assert!(could[allowed], "{allowed}: {could:?}");
        }
        // A kernel without Landlock lets it write, and the report says so.
        assert!(!(could["write"] && report.stands("files")), "{report}");
        assert_eq!(could["signal"], !report.stands("signals"), "{report}");
        assert_eq!(world.file("outside").exists(), could["write"] && !could["remove"]);
    });
}

/// Whether whoever started this test left descriptors open for its children: a build's job server does.
fn handed_down() -> bool {
    let stays_open = |name: &str| {
        let info = std::fs::read_to_string(format!("/proc/self/fdinfo/{name}")).unwrap_or_default();
        let flags = info.lines().find_map(|line| line.strip_prefix("flags:"));
        let flags = flags.and_then(|flags| u32::from_str_radix(flags.trim(), 8).ok());
        flags.is_some_and(|flags| flags & 0o2_000_000 == 0)
    };
    let open = std::fs::read_dir("/proc/self/fd").unwrap().flatten();
    let mut names = open.filter_map(|entry| entry.file_name().into_string().ok());
    names.any(|name| name.parse::<u32>().is_ok_and(|number| number > 2) && stays_open(&name))
}

#[test]
fn what_is_configured_is_let_through_the_fence() {
    in_world("what_is_configured_is_let_through_the_fence", |world| {
        std::fs::create_dir(world.file("mine")).unwrap();
        let open = Launch { network: true, writable: vec![world.file("mine")], ..launch() };
        let backend = Pkcs11Backend::open(&Pkcs11Config { launch: open, ..world.config(1) }).unwrap();
        let could = backend.try_fence(&world.file("mine/inside")).unwrap();
        for allowed in ["tcp-listen", "udp", "unix", "write", "remove"] {
            assert!(could[allowed], "{allowed}: {could:?}");
        }
        let could = backend.try_fence(&world.file("outside")).unwrap();
        assert_eq!(could["write"], !backend.sandbox().stands("files"));
    });
}

#[test]
fn the_module_is_in_the_worker_and_the_daemon_s_secrets_are_not() {
    in_world("the_module_is_in_the_worker_and_the_daemon_s_secrets_are_not", |world| {
        let backend = world.backend(1);
        let worker = backend.worker_pid().unwrap();
        let read = |pid: &str, what: &str| std::fs::read_to_string(format!("/proc/{pid}/{what}"));
        assert!(!read("self", "maps").unwrap().contains("softhsm"));
        // Only root may look into a process that is not dumpable.
        if let Ok(maps) = read(&worker.to_string(), "maps") {
            assert!(maps.contains("softhsm"));
            let environment = read(&worker.to_string(), "environ").unwrap();
            assert!(environment.contains("SOFTHSM2_CONF="));
            assert!(!environment.contains("CHANCERY") && !environment.contains("CARGO"), "{environment}");
        } else {
            assert_ne!(rustix::process::getuid().as_raw(), 0);
        }
    });
}

#[test]
fn keys_and_tokens_are_named_by_uri() {
    in_world("keys_and_tokens_are_named_by_uri", |world| {
        let text = format!(
            "pkcs11:token={}?module-path={}&pin-source=file:{}",
            world::TOKEN,
            world.config(1).module_file.display(),
            world.pin_file().display()
        );
        let uri: Uri = text.parse().unwrap();
        let config = Pkcs11Config {
            module_file: uri.module_path.clone().unwrap(),
            pin_file: uri.pin_source.clone().unwrap(),
            token: TokenSelector::of_uri(&uri).unwrap(),
            ..world.config(1)
        };
        let backend = Pkcs11Backend::open(&config).unwrap();
        backend.generate_key("orders", KeyShape::P256).unwrap();
        let id: String = Hash::of(&[b"orders"]).0.iter().take(8).map(|byte| format!("%{byte:02x}")).collect();
        let by_label = backend.open_key("orders", EcdsaP256Sha256).unwrap();
        for label in ["pkcs11:object=orders;type=private".to_owned(), format!("pkcs11:id={id}")] {
            let key = backend.open_key(&label, EcdsaP256Sha256).unwrap();
            assert_eq!(key.public_key(), by_label.public_key());
            key.sign(SealInput::Digest(&DIGEST), later()).unwrap();
            let counted = backend.operation_counters();
            assert_eq!((counted[&label].started, counted[&label].succeeded), (1, 1));
        }
        for (label, code) in [
            ("pkcs11:object=orders;type=public", "backend-refused"),
            ("pkcs11:object=orders;token=other", "backend-refused"),
            ("pkcs11:object=other", "key-missing"),
        ] {
            assert_eq!(backend.open_key(label, EcdsaP256Sha256).err().unwrap().code(), code, "{label}");
        }
    });
}

#[test]
fn a_worker_killed_is_replaced_and_its_pin_rule_with_it() {
    in_world("a_worker_killed_is_replaced_and_its_pin_rule_with_it", |world| {
        let backend = world.backend(1);
        backend.generate_key("ec", KeyShape::P256).unwrap();
        let key = backend.open_key("ec", EcdsaP256Sha256).unwrap();
        let sign = || key.sign(SealInput::Digest(&DIGEST), later());
        for _ in 0..4 {
            let before = backend.worker_pid().unwrap();
            kill(before);
            let begun = Instant::now();
            assert!(key.public_key().unwrap().verify(&DIGEST, &sign().unwrap()));
            assert!(begun.elapsed() < Duration::from_secs(2), "{:?}", begun.elapsed());
            assert_ne!(backend.worker_pid(), Some(before));
        }
        let counted = backend.operation_counters()["ec"];
        assert_eq!((counted.started, counted.succeeded), (4, 4));

        write_pin(&world.pin_file(), "99887766");
        kill(backend.worker_pid().unwrap());
        let said = |words: &str| match sign().unwrap_err() {
            SignerError::Unavailable { cause, .. } => assert!(cause.contains(words), "{cause}"),
            other => panic!("{other}"),
        };
        said("correct that file");
        kill(backend.worker_pid().unwrap());
        said("tried again once the file changes"); // the next worker knows
        write_pin(&world.pin_file(), PIN);
        sign().unwrap();
    });
}

#[test]
fn a_worker_that_hangs_is_killed_and_replaced() {
    in_world("a_worker_that_hangs_is_killed_and_replaced", |world| {
        let quick = Launch { stuck_after: Duration::from_millis(500), ..launch() };
        let backend = Pkcs11Backend::open(&Pkcs11Config { launch: quick, ..world.config(1) }).unwrap();
        backend.generate_key("ec", KeyShape::P256).unwrap();
        let key = backend.open_key("ec", EcdsaP256Sha256).unwrap();
        key.sign(SealInput::Digest(&DIGEST), later()).unwrap();
        let hung = backend.worker_pid().unwrap();
        let pid = rustix::process::Pid::from_raw(i32::try_from(hung).unwrap()).unwrap();
        rustix::process::kill_process(pid, rustix::process::Signal::STOP).unwrap();
        let begun = Instant::now();
        // It was stopped before it began, so the next worker may do it.
        let signature = key.sign(SealInput::Digest(&DIGEST), later()).unwrap();
        assert!(key.public_key().unwrap().verify(&DIGEST, &signature));
        let took = begun.elapsed();
        assert!(took >= Duration::from_millis(500) && took < Duration::from_millis(2_500), "{took:?}");
        assert_ne!(backend.worker_pid(), Some(hung));
    });
}

#[test]
fn a_worker_ends_with_its_backend() {
    in_world("a_worker_ends_with_its_backend", |world| {
        let backend = world.backend(2);
        let folder = format!("/proc/{}", backend.worker_pid().unwrap());
        assert!(std::path::Path::new(&folder).exists());
        drop(backend);
        let limit = later();
        while std::path::Path::new(&folder).exists() {
            assert!(Instant::now() < limit);
            std::thread::sleep(Duration::from_millis(10));
        }
    });
}

#[test]
fn a_program_that_is_no_worker_is_an_error_and_not_a_wait() {
    in_world("a_program_that_is_no_worker_is_an_error_and_not_a_wait", |world| {
        for program in ["/bin/true", "/nonexistent/worker"] {
            let other = Launch { program: Some(program.into()), ..launch() };
            let result = Pkcs11Backend::open(&Pkcs11Config { launch: other, ..world.config(1) });
            let error = result.err().unwrap();
            assert!(error.to_string().contains("does not start"), "{program}: {error}");
        }
    });
}

fn spec(kid: &str, backend: &str, label: &str, algorithm: SignatureAlgorithm) -> KeySpec {
    KeySpec {
        kid: kid.parse().unwrap(),
        signer_kid: format!("{kid}-v1").parse().unwrap(),
        backend: backend.to_owned(),
        label: label.to_owned(),
        algorithm,
        purpose: "test".to_owned(),
        description: String::new(),
        registered: Registered::No,
    }
}

fn intent(kid: &str, algorithm: SignatureAlgorithm, digest: Digest) -> DurableIntent {
    DurableIntent::after_sync(Intent::new(IntentParts {
        co_signer: None,
        kid: kid.parse().unwrap(),
        signer_kid: format!("{kid}-v1").parse().unwrap(),
        algorithm,
        asked: None,
        operation: Operation::Sign,
        digest,
        principal: "tester".parse().unwrap(),
        request_id: "r-1".parse().unwrap(),
        stream: "tester".parse().unwrap(),
        purpose: None,
        metadata: None,
        policy: PolicyRef { rule: "test".to_owned(), sha256: Hash([0; 32]) },
        release: Rung::Durable,
        replay: None,
    }))
}

/// `true` if signed; the keyring has verified it then. A failure must be one that a worker's end explains.
fn signed(outcome: &Outcome) -> bool {
    match outcome.result() {
        OutcomeResult::Signed(..) => true,
        OutcomeResult::Failed(code, key_use) => {
            assert_eq!(code.as_str(), "backend-unavailable");
            assert!(matches!(key_use, KeyUse::Unknown | KeyUse::None));
            false
        }
        OutcomeResult::Abandoned => panic!("a keyring abandons nothing"),
    }
}

fn ring(world: &World) -> (Arc<Pkcs11Backend>, Arc<Keyring>) {
    let device = Arc::new(world.backend(4));
    device.generate_key("rsa", KeyShape::Rsa(RsaBits::B3072)).unwrap();
    let allowed = DevelopmentOnly::check(true, false).unwrap();
    let other = SoftwareBackend::ephemeral("other", allowed);
    other.generate_key("ed", KeyShape::Ed25519).unwrap();
    let ring = Keyring::builder()
        .backend(Arc::clone(&device) as Arc<dyn Backend>)
        .backend(Arc::new(other))
        .key(spec("hsm", "softhsm", "rsa", RsaPssSha256))
        .key(spec("soft", "other", "ed", Ed25519))
        .build()
        .unwrap();
    (device, Arc::new(ring))
}

#[test]
fn killed_under_load_it_loses_and_falsifies_nothing() {
    in_world("killed_under_load_it_loses_and_falsifies_nothing", |world| {
        let (device, ring) = ring(world);
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
        runtime.unwrap().block_on(async {
            let (mut good, mut bad) = (0, 0);
            for round in 0..6_u8 {
                let mut crowd = tokio::task::JoinSet::new();
                for number in 0..64_u8 {
                    let ring = Arc::clone(&ring);
                    crowd.spawn(async move {
                        let digest = Digest::Sha256(Hash::of(&[&[round, number]]).0);
                        ring.seal(intent("hsm", RsaPssSha256, digest), None, later()).await
                    });
                }
                tokio::time::sleep(Duration::from_millis(20 * u64::from(round))).await;
                device.worker_pid().into_iter().for_each(kill);
                let killed = Instant::now();
                let beside = ring.seal(intent("soft", Ed25519, DIGEST), None, later()).await;
                assert!(signed(&beside), "another backend is not concerned");
                let outcomes = crowd.join_all().await;
                assert_eq!(outcomes.len(), 64);
                let signed_now = outcomes.iter().filter(|outcome| signed(outcome)).count();
                (good, bad) = (good + signed_now, bad + 64 - signed_now);
                loop {
                    let outcome = ring.seal(intent("hsm", RsaPssSha256, DIGEST), None, later()).await;
                    if signed(&outcome) {
                        break;
                    }
                    assert!(killed.elapsed() < Duration::from_secs(2), "service is not back after 2 s");
                    tokio::time::sleep(Duration::from_millis(10)).await;
                }
                good += 1;
            }
            assert!(bad > 0, "some were under way");
            let counted = device.operation_counters()["rsa"];
            assert!(usize::try_from(counted.succeeded).unwrap() >= good, "{counted:?}");
            assert!(counted.started >= counted.succeeded);
            println!("{good} signed, {bad} refused, {counted:?}");
        });
    });
}
