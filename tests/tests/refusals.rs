//! Every refusal of the running daemon, over real TLS: one line each, with its exact status and code.
//!
//! None of them may change the ledger beyond the refusal record, and none may kill the daemon.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a failed unwrap is the test's failure")]

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use chancery_tests::rig::wire::{Ask, Reply, call};
use chancery_tests::rig::world::{ORDERS, STRANGER};
use chancery_tests::rig::{Authority, Daemon, World, WorldOptions, evidence, wait_for};

const DIGEST: &str = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08";

fn sign(kid: &str, digest: &str) -> String {
    format!("{{\"kid\":\"{kid}\",\"digest\":\"{digest}\",\"digestAlgorithm\":\"sha256\"}}")
}

fn good() -> Ask<'static> {
    Ask::post("/v1/sign", sign("ed", DIGEST))
}

fn assert_refused(name: &str, reply: &Reply, status: u16, code: &str) {
    assert_eq!((reply.status, reply.code().as_str()), (status, code), "{name}: {}", reply.body);
    assert_eq!(reply.header("content-type"), Some("application/problem+json"), "{name}");
    let problem = reply.json();
    for member in ["type", "title", "detail", "requestId"] {
        assert!(problem[member].as_str().is_some_and(|text| !text.is_empty()), "{name}: no {member}");
    }
    assert_eq!(problem["requestId"].as_str(), reply.header("x-request-id"), "{name}");
    assert_eq!(reply.header("retry-after").is_some(), matches!(status, 429 | 503), "{name}");
}

/// Event counts on the archived ledger after a clean stop.
fn counts(world: &World, daemon: Daemon) -> BTreeMap<String, u64> {
    assert!(daemon.stop().success());
    evidence::count_chained(&evidence::leaves(&world.path("archive"), &world.registry()))
}

/// Name, request, status, code: refusals of an authenticated, granted principal.
fn table() -> Vec<(&'static str, Ask<'static>, u16, &'static str)> {
    let post = |body: String| Ask::post("/v1/sign", body);
    let long = format!("{{\"kid\":\"ed\",\"purpose\":\"{}\"}}", "x".repeat(200_000));
    let event = |body: &str| Ask::post("/v1/events", body.to_owned());
    vec![
        ("kid of another principal", post(sign("ledger", DIGEST)), 403, "kid-not-granted"),
        ("digest too short", post(sign("ed", "00")), 400, "wrong-digest-length"),
        ("digest too long", post(sign("ed", &"00".repeat(64))), 400, "wrong-digest-length"),
        ("digest in upper case", post(sign("ed", &DIGEST.to_uppercase())), 400, "invalid-digest"),
        ("digest not hexadecimal", post(sign("ed", &"zz".repeat(32))), 400, "invalid-digest"),
        (
            "unknown digest algorithm",
            post(sign("ed", DIGEST).replace("sha256", "md5")),
            400,
            "invalid-digest",
        ),
        ("kid with capitals", post(sign("ED", DIGEST)), 400, "invalid-field"),
        (
            "unknown field",
            post(sign("ed", DIGEST).replace("{\"kid\"", "{\"digset\":1,\"kid\"")),
            400,
            "unknown-field",
        ),
        (
            "duplicate key",
            post(sign("ed", DIGEST).replace("{\"kid\"", "{\"kid\":\"ed\",\"kid\"")),
            400,
            "duplicate-key",
        ),
        ("missing field", post("{\"kid\":\"ed\"}".into()), 400, "missing-field"),
        ("not JSON", post("kid=ed".into()), 400, "invalid-json"),
        ("empty body", post(String::new()), 400, "invalid-json"),
        ("oversize", post(long), 413, "body-too-large"),
        ("oversize, still on its way when refused", post("x".repeat(6 << 20)), 413, "body-too-large"),
        (
            "wrong content type",
            Ask { headers: vec![("content-type", "text/plain".into())], ..good() },
            415,
            "unsupported-media-type",
        ),
        ("MAC key asked to sign", post(sign("mac", DIGEST)), 422, "algorithm-mismatch"),
        (
            "bad base64",
            Ask::post(
                "/v1/verify",
                format!(
                    "{{\"kid\":\"ed\",\"digest\":\"{DIGEST}\",\"digestAlgorithm\":\"sha256\",\"signature\":\"!!\"}}"
                ),
            ),
            400,
            "invalid-base64",
        ),
        (
            "stream of another",
            event("{\"eventType\":\"a\",\"payload\":{},\"stream\":\"payroll\"}"),
            403,
            "stream-not-granted",
        ),
        (
            "stream prefix is no segment",
            event("{\"eventType\":\"a\",\"payload\":{},\"stream\":\"ordersx/1\"}"),
            403,
            "stream-not-granted",
        ),
        (
            "appliance's own stream",
            event("{\"eventType\":\"a\",\"payload\":{},\"stream\":\"chancery\"}"),
            422,
            "reserved-name",
        ),
        (
            "appliance's own event type",
            event("{\"eventType\":\"signing.signature.issued\",\"payload\":{}}"),
            422,
            "reserved-name",
        ),
        ("payload is no object", event("{\"eventType\":\"a\",\"payload\":[]}"), 400, "invalid-field"),
        (
            "event too large",
            event(&format!("{{\"eventType\":\"a\",\"payload\":{{\"a\":\"{}\"}}}}", "x".repeat(66_000))),
            413,
            "event-too-large",
        ),
        ("no such path", Ask::get("/v1/nothing"), 404, "not-found"),
        ("wrong method", Ask::get("/v1/sign"), 405, "method-not-allowed"),
    ]
}

#[test]
fn each_refusal_has_its_status_and_code_and_changes_nothing() {
    let world = World::new(&WorldOptions::default());
    let stranger = world.authority.client(world.folder(), "stranger", 3, STRANGER);
    let daemon = Daemon::start(&world);
    assert_refused(
        "no certificate",
        &call(&world, None, &good()).unwrap(),
        401,
        "client-certificate-required",
    );
    assert_refused("no grant", &call(&world, Some(&stranger), &good()).unwrap(), 403, "unknown-principal");
    for (name, ask, status, code) in table() {
        let reply = call(&world, Some(&world.orders), &ask).unwrap_or_else(|error| panic!("{name}: {error}"));
        assert_refused(name, &reply, status, code);
    }
    assert_eq!(call(&world, None, &Ask::get("/health")).unwrap().status, 200, "health needs no certificate");
    // The daemon lives, and what it refused left nothing but the record of refusing.
    assert_eq!(call(&world, Some(&world.orders), &good()).unwrap().status, 200);
    let counts = counts(&world, daemon);
    assert_eq!(counts["signing.signature.issued"], 1, "{counts:?}");
    assert!(counts["request.refused"] > 0, "{counts:?}");
    let own = [
        "ledger.opened",
        "signer.activated",
        "registry.published",
        "request.refused",
        "policy.loaded",
        "kill_switch.changed",
        "signing.signature.issued",
    ];
    assert!(counts.keys().all(|kind| own.contains(&kind.as_str())), "{counts:?}");
}

#[test]
fn certificates_that_are_expired_foreign_or_revoked_end_in_an_alert() {
    let world = World::new(&WorldOptions::default());
    let expired = world.authority.expired_client(world.folder(), "expired", 4, ORDERS);
    let revoked = world.authority.client(world.folder(), "revoked", 5, ORDERS);
    std::fs::create_dir(world.path("foreign")).unwrap();
    let foreign = Authority::new("Somebody else").client(&world.path("foreign"), "foreign", 6, ORDERS);
    std::fs::write(world.path("ca.crl"), world.authority.revocation_list(&[5])).unwrap();
    let daemon = Daemon::start(&world);
    for (name, identity, alert) in [
        ("expired", expired, "CertificateExpired"),
        ("foreign", foreign, "UnknownCA"),
        ("revoked", revoked, "CertificateRevoked"),
    ] {
        let error = call(&world, Some(&identity), &good()).unwrap_err();
        assert!(error.contains(alert), "{name}: {error}");
    }
    // A certificate revoked while the daemon runs is refused without a restart.
    assert_eq!(call(&world, Some(&world.orders), &good()).unwrap().status, 200);
    std::fs::write(world.path("ca.crl"), world.authority.revocation_list(&[2, 5])).unwrap();
    wait_for("revocation list reloaded", || call(&world, Some(&world.orders), &good()).err());
    assert!(counts(&world, daemon)["signing.signature.issued"] > 0);
}

#[test]
fn over_rate_is_429_and_halted_is_503_until_resumed() {
    let world = World::new(&WorldOptions { rate: 1, ..WorldOptions::default() });
    let daemon = Daemon::start(&world);
    assert_eq!(call(&world, Some(&world.orders), &good()).unwrap().status, 200);
    let replies: Vec<Reply> = (0..3).map(|_| call(&world, Some(&world.orders), &good()).unwrap()).collect();
    let limited =
        replies.iter().find(|reply| reply.status == 429).expect("one of three at once is over one a second");
    assert_refused("over rate", limited, 429, "rate-limited");
    drop(daemon);

    let world = World::new(&WorldOptions::default());
    let daemon = Daemon::start(&world);
    std::fs::write(world.path("halt"), "drill").unwrap();
    let reply = wait_for("halt", || {
        call(&world, Some(&world.orders), &good()).ok().filter(|reply| reply.status != 200)
    });
    assert_refused("halted", &reply, 503, "halted");
    std::fs::remove_file(world.path("halt")).unwrap();
    wait_for("resume", || {
        call(&world, Some(&world.orders), &good()).ok().filter(|reply| reply.status == 200)
    });
    assert!(counts(&world, daemon)["kill_switch.changed"] >= 2);
}

#[test]
fn a_token_that_went_away_is_503_and_heals_without_a_restart() {
    let world = World::with_softhsm(&WorldOptions::default());
    let daemon = Daemon::start(&world);
    let ask = Ask::post("/v1/sign", sign("hsm-p256", DIGEST));
    assert_eq!(call(&world, Some(&world.orders), &ask).unwrap().status, 200);
    std::fs::rename(world.path("tokens"), world.path("tokens-away")).unwrap();
    let reply = wait_for("token lost", || {
        call(&world, Some(&world.orders), &ask).ok().filter(|reply| reply.status != 200)
    });
    assert_refused("backend down", &reply, 503, "backend-unavailable");
    assert_eq!(call(&world, Some(&world.orders), &good()).unwrap().status, 200, "other backends go on");
    std::fs::rename(world.path("tokens-away"), world.path("tokens")).unwrap();
    wait_for("token back", || {
        call(&world, Some(&world.orders), &ask).ok().filter(|reply| reply.status == 200)
    });
    let counts = counts(&world, daemon);
    assert!(counts["signing.signature.issued"] >= 3, "{counts:?}");
}

#[test]
fn an_archive_out_of_reach_closes_admission_and_opens_it_again() {
    let place = tempfile::tempdir().unwrap();
    let disk = SmallDisk::mount(&place.path().join("disk"), 64);
    let archive = disk.0.join("archive");
    let table = format!(
        "kind = \"directory\"\ndirectory = \"{}\"\nepoch_interval_ms = 100\nlag_entries_max = 50\nlag_age_ms_max = 60000\n",
        archive.display()
    );
    std::fs::create_dir(&archive).unwrap();
    let world = World::new(&WorldOptions { archive: table, ..WorldOptions::default() });
    let daemon = Daemon::start(&world);
    wait_for("first epoch", || archive.join("checkpoint/000000000000").exists().then_some(()));
    disk.remount("ro");
    let reply = wait_for("lag", || {
        call(&world, Some(&world.orders), &good()).ok().filter(|reply| reply.status != 200)
    });
    assert_refused("archive lag", &reply, 503, "archive-lag");
    disk.remount("rw");
    wait_for("caught up", || {
        call(&world, Some(&world.orders), &good()).ok().filter(|reply| reply.status == 200)
    });
    assert!(daemon.stop().success());
    let verdict = world.verify(&["ledger", archive.to_str().unwrap()]);
    assert!(verdict.status.success(), "{}", String::from_utf8_lossy(&verdict.stdout));
}

#[test]
fn an_archive_that_is_wrong_closes_admission_until_somebody_acts() {
    let world = World::new(&WorldOptions::default());
    let daemon = Daemon::start(&world);
    wait_for("first epoch", || world.path("archive/checkpoint/000000000000").exists().then_some(()));
    // Somebody else's checkpoint under the name the next epoch will use.
    let epochs = || {
        (0u64..).take_while(|epoch| world.path(&format!("archive/checkpoint/{epoch:012}")).exists()).count()
    };
    for ahead in 0..20 {
        let name = format!("archive/checkpoint/{:012}", epochs() + ahead);
        let _taken = std::fs::write(world.path(&name), "not ours\n");
    }
    let reply = wait_for("alarm", || {
        call(&world, Some(&world.orders), &good()).ok().filter(|reply| reply.status != 200)
    });
    assert_refused("archive wrong", &reply, 503, "archive-lag");
    daemon.kill();
    // And the next start refuses, naming the archive.
    let output = world.chanceryd(&["run", "--config"]);
    assert!(!output.status.success());
    assert!(
        String::from_utf8_lossy(&output.stderr).contains("archive"),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
}

/// A file system of its own, unmounted with the test. Needs root, as the containers of CI have.
struct SmallDisk(std::path::PathBuf);

impl SmallDisk {
    fn mount(at: &Path, mib: u32) -> Self {
        std::fs::create_dir(at).unwrap();
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", &format!("size={mib}m"), "tmpfs"])
            .arg(at)
            .status();
        assert!(mounted.unwrap().success(), "mounting a small file system needs root");
        Self(at.to_owned())
    }

    fn remount(&self, how: &str) {
        let status = Command::new("mount").args(["-o", &format!("remount,{how}")]).arg(&self.0).status();
        assert!(status.unwrap().success());
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _unmounted = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

#[test]
fn a_full_ledger_disk_refuses_before_it_writes_and_opens_again() {
    let place = tempfile::tempdir().unwrap();
    let disk = SmallDisk::mount(&place.path().join("disk"), 256);
    let options = WorldOptions {
        ledger: "checkpoint_interval_ms = 200\nreserve_bytes = 67108864\n".into(),
        ledger_directory: Some(disk.0.join("ledger")),
        ..WorldOptions::default()
    };
    let world = World::new(&options);
    let daemon = Daemon::start(&world);
    assert_eq!(call(&world, Some(&world.orders), &good()).unwrap().status, 200);
    std::fs::write(disk.0.join("ballast"), vec![0u8; 170 << 20]).unwrap();
    let reply = wait_for("full", || {
        call(&world, Some(&world.orders), &good()).ok().filter(|reply| reply.status != 200)
    });
    assert_refused("ledger disk full", &reply, 503, "ledger-full");
    std::thread::sleep(Duration::from_millis(300));
    assert_eq!(daemon.ops("/livez").unwrap().0, 200, "a full disk kills nobody");
    std::fs::remove_file(disk.0.join("ballast")).unwrap();
    wait_for("room again", || {
        call(&world, Some(&world.orders), &good()).ok().filter(|reply| reply.status == 200)
    });
    assert!(daemon.stop().success());
    let verdict = world.verify(&["ledger", world.path("archive").to_str().unwrap()]);
    assert!(verdict.status.success(), "{}", String::from_utf8_lossy(&verdict.stdout));
    drop(world);
    drop(disk);
}
