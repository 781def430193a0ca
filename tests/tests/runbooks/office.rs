//! Where a drill is played: an instance with a token in SoftHSM2, people at a real provider, a shell on its host.
//!
//! `systemctl` and `aws` in that shell are doubles: the first starts and stops the one daemon, the second asks the
//! test's key service for the two things the pages ask it.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use chancery_format::SignatureAlgorithm;
use chancery_tests::rig::wire::{Ask, call};
use chancery_tests::rig::{Daemon, Identity, KmsAccount, People, World, WorldOptions, binary};
use chancery_tests::servers::{Answer, Fault, FaultProxy, ObjectStore, PolicyServiceDouble};
use serde_json::json;

/// Who keeps the record of the drill.
const KEEPER: &str = "spiffe://test.example/service/drill";
/// Bytes between what is free and the reserve, in the drill of a full disk.
const ROOM: u64 = 1 << 29;
/// Patience with what comes about by itself.
const PATIENCE: Duration = Duration::from_secs(30);

const POLICIES: &str = "
@id(\"orders-ask\")
@unless(\"hook\")
@hook(\"sentinelnet\")
forbid (principal, action == Action::\"sign\", resource == Key::\"orders\");
";

/// The one unit of the host.
#[derive(Default)]
struct Unit(Mutex<Option<Daemon>>);

pub(crate) struct Office {
    people: People,
    service: Option<PolicyServiceDouble>,
    cloud: Option<Cloud>,
    world: World,
    keeper: Identity,
    unit: Unit,
    approvers: Vec<&'static str>,
    /// The request that was printed last.
    request: String,
}

/// A key service, and the way to it.
struct Cloud {
    account: KmsAccount,
    network: FaultProxy,
    key: String,
}

impl Office {
    pub(crate) fn open(page: &str) -> Self {
        let people = People::new();
        let mut more = people.tables(2, &["ann", "bob", "eve"]);
        more += &format!(
            "\n[[principals]]\nname = \"{KEEPER}\"\nkids = [\"k1\"]\noperations = [\"sign\", \"events\", \"read\"]\n\n\
             [[keys]]\nkid = \"orders\"\nsigner_kid = \"orders-2026\"\nbackend = \"softhsm\"\n\
             algorithm = \"ecdsa-p256-sha256\"\npurpose = \"orders\"\n"
        );
        let service = (page == "incident_policy_hook").then(PolicyServiceDouble::start);
        if let Some(service) = &service {
            more += &format!(
                "\n[policy]\ndirectory = \"{{dir}}/policies\"\n\n\
                 [[policy.hooks]]\nname = \"sentinelnet\"\nurl = \"{}\"\n",
                service.url()
            );
        }
        let cloud = (page == "incident_kms").then(|| {
            let account = KmsAccount::new(ObjectStore::MiniStack);
            let key = account.make_key(SignatureAlgorithm::EcdsaP256Sha256);
            let network = FaultProxy::start(account.address).unwrap();
            let through = KmsAccount::at(network.address());
            more += &through.tables(2, &[("cloud", &key, SignatureAlgorithm::EcdsaP256Sha256)]);
            Cloud { account, network, key }
        });
        let mut ledger = WorldOptions::default().ledger;
        ledger += match page {
            // Enrolled before anybody looks.
            "ledger_check" => "heads_interval_ms = 100\n",
            // Due when the disk has filled up, and not before.
            "ledger_signs_late" => "heads_interval_ms = 10000\n",
            _ => "",
        };
        if ["incident_ledger", "ledger_signs_late"].contains(&page) {
            // What is free now, less a little, is the reserve: a file of twice that fills the disk.
            let disk = rustix::fs::statvfs(std::env::temp_dir()).unwrap();
            let reserve = disk.f_bavail * disk.f_frsize - ROOM;
            ledger = ledger.replace("reserve_bytes = 1048576", &format!("reserve_bytes = {reserve}"));
        }
        let kids: &[&str] = if cloud.is_some() { &["orders", "cloud"] } else { &["orders"] };
        let archive = WorldOptions::default().archive + "lag_age_ms_max = 1500\n";
        let options = WorldOptions { more, kids, archive, ledger, ..WorldOptions::default() };
        let mut world = World::with_softhsm_uninitialised(&options);
        if let Some(cloud) = &cloud {
            cloud.account.lend(&mut world);
        }
        let policies = world.path("policies");
        std::fs::create_dir_all(policies.join("cases")).unwrap();
        std::fs::write(policies.join("orders.cedar"), POLICIES).unwrap();
        world.initialise();
        let keeper = world.authority.client(world.folder(), "keeper", 9, KEEPER);
        std::fs::write(world.path("document"), "a document\n").unwrap();
        let office = Self {
            people,
            service,
            cloud,
            world,
            keeper,
            unit: Unit::default(),
            approvers: vec!["ann", "bob"],
            request: String::new(),
        };
        office.furnish();
        office
    }

    /// The programs of the host.
    fn furnish(&self) {
        let programs = self.world.path("bin");
        std::fs::create_dir(&programs).unwrap();
        for name in ["chancery", "chanceryd", "chancery-verify"] {
            std::os::unix::fs::symlink(binary(name), programs.join(name)).unwrap();
        }
        // Asks the test for what only it can do, and ends as it says.
        let asks = |name: &str| {
            let text = format!(
                "#!/bin/sh\nset -eu\ncd '{}'\nrm -f reply\necho \"{name} $*\" > asked.new\nmv asked.new asked\n\
                 while [ ! -e reply ]; do sleep 0.05; done\ntail -n +2 reply\nexit \"$(head -n 1 reply)\"\n",
                self.world.folder().display()
            );
            executable(&programs.join(name), &text);
        };
        asks("systemctl");
        asks("aws");
    }

    /// What must have been before a page begins.
    pub(crate) fn begin(&mut self, page: &str) {
        if let Some(service) = &self.service {
            service.set(PolicyServiceDouble::decision("allow"));
        }
        self.unit.start(&self.world).unwrap();
        if page == "restore" {
            self.unit.stop();
            copy(&self.world.path("ledger"), &self.world.path("ledger.copy"));
            self.unit.start(&self.world).unwrap();
        }
        self.sign();
    }

    /// Somebody goes about their business.
    fn sign(&self) {
        let body = json!({ "kid": "ed", "digest": "7".repeat(64), "digestAlgorithm": "sha256" }).to_string();
        let reply = call(&self.world, Some(&self.world.orders), &Ask::post("/v1/sign", body)).unwrap();
        assert_eq!(reply.status, 200, "{}", reply.body);
    }

    /// Something happens to the instance.
    pub(crate) fn happens(&mut self, what: &str) {
        let world = &self.world;
        let rename = |from: &str, to: &str| std::fs::rename(world.path(from), world.path(to)).unwrap();
        match what {
            "the policy service falls silent" => self.service().set(Answer::Silence(Duration::from_secs(5))),
            "the policy service answers again" => {
                self.service().set(PolicyServiceDouble::decision("allow"));
            }
            "the token is unplugged" => {
                rename("tokens", "tokens.away");
                self.unit.kill_workers();
            }
            "the token is back" => rename("tokens.away", "tokens"),
            "somebody disables the key" => self.cloud().account.disable(&self.cloud().key),
            "the region is away" => self.cloud().network.rule(|_| Fault::Close),
            "the region is back" => self.cloud().network.rule(|_| Fault::Pass),
            "the disk fills up" => {
                let file = std::fs::File::create(world.path("foreign-file")).unwrap();
                rustix::fs::fallocate(&file, rustix::fs::FallocateFlags::empty(), 0, 2 * ROOM).unwrap();
            }
            "somebody made room" => std::fs::remove_file(world.path("foreign-file")).unwrap(),
            "the daemon dies" => self.unit.kill(),
            "the archive is away" => {
                rename("archive", "archive.away");
                std::fs::write(world.path("archive"), "not a folder").unwrap();
                self.sign();
            }
            "the archive is back" => {
                std::fs::remove_file(world.path("archive")).unwrap();
                rename("archive.away", "archive");
            }
            "the archive loses an object" => {
                let first = world.path("archive/checkpoint/000000000000");
                chancery_tests::rig::wait_for("an epoch after it", || {
                    world.path("archive/checkpoint/000000000001").exists().then_some(())
                });
                std::fs::remove_file(first).unwrap();
            }
            "a key use is misplaced in the list" => {
                self.unit.stop();
                misplace_a_key_use(&world.path("ledger/db"));
                self.unit.start(world).unwrap();
            }
            "an older copy of the disk is mounted" => {
                self.unit.stop();
                rename("ledger", "ledger.newest");
                rename("ledger.copy", "ledger");
            }
            "the authority issues server.new.crt and server.new.key" => {
                world.authority.server_as(world.folder(), "server.new", 42);
            }
            "the authority revokes the client" => {
                let list = world.authority.revocation_list(&[world.orders.serial]);
                std::fs::write(world.path("ca.new.crl"), list).unwrap();
            }
            "a copy of the archive loses a bit" => {
                copy(&world.path("archive"), &world.path("archive.copy"));
                flip_a_bit(&world.path("archive.copy/tile"));
            }
            "new approvers are written into the configuration" => {
                for (old, new) in [("ann", "dan"), ("bob", "fay")] {
                    let (old, new) = (self.people.name(old), self.people.name(new));
                    let text = std::fs::read_to_string(world.config_file()).unwrap();
                    std::fs::write(world.config_file(), text.replace(&old, &new)).unwrap();
                }
                self.approvers = vec!["dan", "fay"];
            }
            other => panic!("no drill knows how {other:?}"),
        }
    }

    fn service(&self) -> &PolicyServiceDouble {
        self.service.as_ref().unwrap()
    }

    fn cloud(&self) -> &Cloud {
        self.cloud.as_ref().unwrap()
    }

    /// What is typed, once for whoever is on call, or by each approver, until it gives what it must.
    pub(crate) fn typed(&mut self, typed: &super::page::Typed) {
        let approvers = self.approvers.clone();
        let people: &[&str] = if typed.by_approvers { &approvers } else { &["eve"] };
        for person in people {
            let roles: &[&str] = if typed.by_approvers { &["approver"] } else { &["superadmin"] };
            let began = Instant::now();
            loop {
                let output = self.run(person, roles, &self.in_this_office(&typed.script));
                let text = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
                let ended = output.status.code() == Some(typed.exit);
                if ended && typed.prints.iter().all(|wanted| text.contains(&self.in_this_office(wanted))) {
                    let request = text.lines().find_map(|line| line.strip_prefix("request "));
                    if let Some(request) = request {
                        self.request = request.trim().to_owned();
                    }
                    break;
                }
                assert!(
                    began.elapsed() < PATIENCE && only_looks(&typed.script),
                    "{}\nended with {:?}, printed\n{text}\nwanted {} and {:?}\n{}",
                    typed.script,
                    output.status.code(),
                    typed.exit,
                    typed.prints,
                    self.unit.log(),
                );
                std::thread::sleep(Duration::from_millis(200));
            }
        }
    }

    /// The page's paths and names in this office.
    fn in_this_office(&self, text: &str) -> String {
        let dir = self.world.folder().display().to_string();
        let key = self.cloud.as_ref().map_or("", |cloud| &cloud.key);
        let ops = format!("127.0.0.1:{}", self.world.ops_port);
        let service = format!("localhost:{}", self.world.service_port);
        let pairs = [
            ("/etc/hostname", format!("{dir}/document")),
            ("/etc/chancery", dir.clone()),
            ("/var/lib/chancery", dir),
            ("localhost:9464", ops),
            ("localhost:8443", service),
            ("backend:hsm", "backend:softhsm".to_owned()),
            ("backend=\"hsm\"", "backend=\"softhsm\"".to_owned()),
            ("KMS-KEY-ID", key.to_owned()),
        ];
        let text = pairs.iter().fold(text.to_owned(), |text, (from, to)| text.replace(from, to));
        let words = text.split_inclusive(char::is_whitespace);
        let filled = words.map(|word| {
            if word.trim_end() == "ID" { word.replace("ID", &self.request) } else { word.to_owned() }
        });
        filled.collect()
    }

    /// One shell of one person on the host.
    fn run(&self, person: &str, roles: &[&str], script: &str) -> Output {
        let world = &self.world;
        let path = format!("{}:{}", world.path("bin").display(), std::env::var("PATH").unwrap());
        let mut shell = Command::new("bash");
        shell.args(["-euo", "pipefail", "-c", script]).envs(world.environment()).env("PATH", path);
        shell.envs(self.people.shell(world, person, roles));
        std::thread::scope(|scope| {
            let typed = scope.spawn(move || shell.output().unwrap());
            while !typed.is_finished() {
                self.answer();
                std::thread::sleep(Duration::from_millis(20));
            }
            typed.join().unwrap()
        })
    }

    /// Does what `systemctl` or `aws` asked for.
    fn answer(&self) {
        let Ok(asked) = std::fs::read_to_string(self.world.path("asked")) else { return };
        std::fs::remove_file(self.world.path("asked")).unwrap();
        let words: Vec<&str> = asked.split_whitespace().collect();
        let done = match words.as_slice() {
            ["systemctl", "stop", "chanceryd"] => {
                self.unit.stop();
                Ok(String::new())
            }
            ["systemctl", "start", "chanceryd"] => self.unit.start(&self.world),
            ["systemctl", "restart", "chanceryd"] => {
                self.unit.stop();
                self.unit.start(&self.world)
            }
            ["systemctl", "reload", "chanceryd"] => {
                self.unit.reload();
                Ok(String::new())
            }
            ["aws", "kms", "enable-key", "--key-id", key] => {
                self.cloud().account.enable(key);
                Ok(String::new())
            }
            ["aws", "kms", "describe-key", "--key-id", key] => Ok(self.cloud().state_of(key)),
            other => panic!("nobody here can {other:?}"),
        };
        let (code, text) = done.map_or_else(|(code, text)| (code, text), |text| (0, text));
        let reply = self.world.path("reply");
        std::fs::write(reply.with_extension("new"), format!("{code}\n{text}\n")).unwrap();
        std::fs::rename(reply.with_extension("new"), reply).unwrap();
    }

    /// The record of a drill: enrolled, signed, proven, and left where the test's other output is.
    pub(crate) fn record(&self, page: &str, text: &str, commands: usize) {
        let sha256 = chancery_format::Hash::of(&[text.as_bytes()]).to_hex();
        let record = json!({
            "commands": commands, "page": page, "pageSha256": sha256, "result": "as the page says",
            "version": env!("CARGO_PKG_VERSION"),
        });
        let event = json!({ "eventType": "runbook.drilled", "payload": record }).to_string();
        let enrolled = call(&self.world, Some(&self.keeper), &Ask::post("/v1/events", event)).unwrap();
        assert!([200, 201].contains(&enrolled.status), "{}", enrolled.body);
        let digest = chancery_format::Hash::of(&[record.to_string().as_bytes()]).to_hex();
        let body = json!({ "kid": "k1", "digest": digest, "digestAlgorithm": "sha256" }).to_string();
        let signed = call(&self.world, Some(&self.keeper), &Ask::post("/v1/sign", body)).unwrap();
        assert_eq!(signed.status, 200, "{}", signed.body);
        let index = signed.json()["receipt"]["index"].as_u64().unwrap();
        let path = format!("/v1/receipts/{index}");
        let receipt = chancery_tests::rig::wait_for("the receipt", || {
            Some(call(&self.world, Some(&self.keeper), &Ask::get(&path)).unwrap())
                .filter(|reply| reply.status == 200)
        });
        let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("drills");
        std::fs::create_dir_all(&folder).unwrap();
        let file = |kind: &str| folder.join(format!("{page}.{kind}.json"));
        std::fs::write(file("record"), record.to_string()).unwrap();
        std::fs::write(file("receipt"), &receipt.body).unwrap();
        std::fs::copy(self.world.path("signers.json"), file("signers")).unwrap();
        let verified = self.world.verify(&["receipt", &file("receipt").display().to_string()]);
        assert!(verified.status.success(), "{}", String::from_utf8_lossy(&verified.stdout));
        assert!(receipt.body.contains(&digest), "{}", receipt.body);
        self.unit.stop();
    }
}

impl Cloud {
    fn state_of(&self, key: &str) -> String {
        let asked = self.account.raw.describe_key().key_id(key).send();
        let found = self.account.wait(asked).unwrap().key_metadata.unwrap();
        format!("{:?}", found.key_state.unwrap())
    }
}

impl Unit {
    /// `Err` is exit code and last words.
    fn start(&self, world: &World) -> Result<String, (i32, String)> {
        let mut daemon = Daemon::spawn(world);
        let began = Instant::now();
        loop {
            if let Some(status) = daemon.ended() {
                return Err((status.code().unwrap_or(-1), daemon.log_tail()));
            }
            if daemon.ops("/readyz").is_some() {
                break;
            }
            assert!(began.elapsed() < PATIENCE, "{}", daemon.log_tail());
            std::thread::sleep(Duration::from_millis(20));
        }
        *self.0.lock().unwrap() = Some(daemon);
        Ok(String::new())
    }

    fn stop(&self) {
        if let Some(daemon) = self.0.lock().unwrap().take() {
            daemon.stop();
        }
    }

    fn kill(&self) {
        if let Some(daemon) = self.0.lock().unwrap().take() {
            daemon.kill();
        }
    }

    fn reload(&self) {
        if let Some(daemon) = self.0.lock().unwrap().as_ref() {
            daemon.signal(rustix::process::Signal::HUP);
        }
    }

    /// The processes that hold the device.
    fn kill_workers(&self) {
        let unit = self.0.lock().unwrap();
        for pid in unit.as_ref().unwrap().children() {
            let pid = rustix::process::Pid::from_raw(i32::try_from(pid).unwrap()).unwrap();
            // It may have ended by itself.
            let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
        }
    }

    fn log(&self) -> String {
        self.0.lock().unwrap().as_ref().map(Daemon::log_tail).unwrap_or_default()
    }
}

/// Whether it can be typed again until it says what it should: one command, that changes nothing that matters.
fn only_looks(script: &str) -> bool {
    const LOOKS: [&str; 10] = [
        "chancery completeness ",
        "chancery sign ",
        "chancery admin status",
        "chancery audit",
        "chancery keys signatures",
        "chancery-verify",
        "curl -s",
        "cat ",
        "openssl ",
        "aws kms describe-key",
    ];
    script.lines().all(|line| LOOKS.iter().any(|look| line.trim_start().starts_with(look)))
}

fn executable(file: &Path, text: &str) {
    use std::os::unix::fs::PermissionsExt as _;
    std::fs::write(file, text).unwrap();
    std::fs::set_permissions(file, std::fs::Permissions::from_mode(0o755)).unwrap();
}

fn copy(from: &Path, to: &Path) {
    let done = Command::new("cp").arg("-a").args([from, to]).status().unwrap();
    assert!(done.success());
}

/// The first use in the family that says where keys were used, and with it those that are stored by their distance to it.
#[expect(clippy::disallowed_methods, reason = "damage need not be synced")]
fn misplace_a_key_use(database: &Path) {
    let families = rocksdb::DB::list_cf(&rocksdb::Options::default(), database).unwrap();
    let db = rocksdb::DB::open_cf(&rocksdb::Options::default(), database, families).unwrap();
    let uses = db.cf_handle("key_uses").unwrap();
    let first = db.iterator_cf(uses, rocksdb::IteratorMode::Start).next();
    let (key, mut row) = first.expect("a key was used").unwrap();
    *row.get_mut(7).unwrap() ^= 1;
    db.put_cf(uses, key, row).unwrap();
}

/// In the first file of a folder, however deep.
fn flip_a_bit(folder: &Path) {
    use std::os::unix::fs::PermissionsExt as _;
    let mut entries: Vec<_> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    entries.sort();
    let first = entries.first().unwrap();
    if first.is_dir() {
        return flip_a_bit(first);
    }
    let mut bytes = std::fs::read(first).unwrap();
    bytes[0] ^= 1;
    std::fs::set_permissions(first, std::fs::Permissions::from_mode(0o600)).unwrap();
    std::fs::write(first, bytes).unwrap();
}
