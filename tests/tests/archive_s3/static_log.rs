//! The bucket itself as a static log of C2SP tlog-tiles: followed by plain GETs, by clients that are not ours (the Go
//! team's tlog code, Tessera's checker) and by our mirror, which here is told nothing of archives; verified and checked.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::process::Command;

use chancery_tests::rig::wire::{Ask, call};
use chancery_tests::rig::{Daemon, World, binary, wait_for};
use chancery_tests::servers::{FaultProxy, fsck, go_reference, python_with_cryptography};

use crate::appliance::{self, Auditor};
use crate::checking::{check, edit};
use crate::rig::Rig;

on_each!(the_bucket_is_followed_by_others, what_is_shown_is_verified_checked_and_shown_again);

/// Enrols so many events, and waits until the bucket shows a checkpoint that covers them.
fn grow(rig: &Rig, world: &World, daemon: &Daemon, events: u32) -> u64 {
    let item = |order: u32| format!("{{\"eventType\":\"order.paid\",\"payload\":{{\"order\":{order}}}}}");
    let items = (0..events).map(item).collect::<Vec<_>>().join(",");
    let ask = Ask::post("/v1/events/batch", format!("{{\"items\":[{items}]}}"));
    assert_eq!(call(world, Some(&world.orders), &ask).unwrap().status, 201);
    wait_for("an archive without lag", || (daemon.metric("chancery_archive_lag_entries") == 0).then_some(()));
    let archived = daemon.metric("chancery_archive_epochs") - 1;
    wait_for("the newest checkpoint", || {
        let epoch = plain(rig, &format!("checkpoint/{archived:012}"))?.1;
        let (head, note) = plain(rig, "checkpoint")?;
        assert!(head.contains("\r\ncontent-type: text/plain; charset=utf-8\r\n"), "{head}");
        let size = |note: &str| note.lines().nth(1)?.parse::<u64>().ok();
        size(&note).filter(|shown| Some(*shown) >= size(&epoch))
    })
}

/// An unsigned GET: the head, in lower case, and the body; `None` if it is not there.
fn plain(rig: &Rig, name: &str) -> Option<(String, String)> {
    let mut stream = TcpStream::connect(rig.address).unwrap();
    let (bucket, address) = (&rig.bucket, rig.address);
    write!(
        stream,
        "GET /{bucket}/ledger/one/{name} HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\n\r\n"
    )
    .unwrap();
    let mut reply = Vec::new();
    stream.read_to_end(&mut reply).unwrap();
    let end = reply.windows(4).position(|four| four == b"\r\n\r\n").unwrap();
    let head = String::from_utf8_lossy(&reply[..end + 2]).to_lowercase();
    let body = String::from_utf8_lossy(&reply[end + 4..]).into_owned();
    head.split(' ').nth(1).filter(|status| *status == "200")?;
    Some((head.clone(), body))
}

fn started(rig: &Rig) -> (World, Daemon, FaultProxy) {
    let proxy = rig.proxy();
    let world = appliance::world(rig, &proxy, "static_log = true\n");
    let daemon = Daemon::start(&world);
    (world, daemon, proxy)
}

fn the_bucket_is_followed_by_others(rig: &Rig) {
    let (world, daemon, _proxy) = started(rig);
    let (url, vkey) = (
        format!("http://{}/{}/ledger/one", rig.address, rig.bucket),
        world.registry().ledger.vkeys.first().unwrap().clone(),
    );
    let program = go_reference().unwrap();
    let (state, copy) = (world.path("go.state"), world.path("copy"));
    let go = || {
        let output = Command::new(&program)
            .args([&url, "--signers"])
            .arg(world.path("signers.json"))
            .arg("--since")
            .arg(&state)
            .output();
        let output = output.unwrap();
        (output.status.code().unwrap(), String::from_utf8_lossy(&output.stdout).into_owned())
    };
    let mirrored = || {
        let mut follow = Command::new(binary("chancery"));
        follow.args(["mirror", "follow", &url, "--vkey", &vkey, "--once", "--json", "--to"]).arg(&copy);
        let output = follow.output().unwrap();
        assert!(output.status.success(), "{output:?}");
        serde_json::from_slice::<serde_json::Value>(&output.stdout).unwrap()["size"].as_u64().unwrap()
    };
    let mut before = 0;
    for events in [10, 700] {
        let size = grow(rig, &world, &daemon, events);
        let (code, told) = go();
        assert_eq!(code, 0, "{told}");
        assert!(told.starts_with(&format!("followed from {before} to {size}")), "{told}");
        let told = fsck(&format!("{url}/"), &vkey).unwrap();
        assert!(told.contains("OK"), "{told}");
        assert_eq!(mirrored(), size);
        before = size;
    }
    // A store that is busy may refuse a plain GET now and then, which the clients above try again.
    let (head, _) = wait_for("a full tile", || plain(rig, "tile/0/000"));
    assert!(head.contains("\r\ncontent-type: application/octet-stream\r\n"), "{head}");
    // The clients are such as find something.
    std::fs::write(&state, format!("{} {}=\n", before - 1, "A".repeat(43))).unwrap();
    assert_eq!(go().0, 1, "another history");
    assert!(daemon.stop().success());
    let (code, report) = Auditor::of(rig, &world).verify();
    assert_eq!((code, &report["findings"]), (0, &serde_json::json!([])), "{report:#}");
    assert_eq!(report["checked"]["shown"], report["checked"]["treeSize"], "{report:#}");
    assert!(report["checked"]["partialTiles"].as_u64() >= Some(3), "{report:#}");
    a_copy_in_a_folder_is_valid_too(rig, &world);
}

/// A folder has no place for the newest checkpoint; all else can be copied, and the reference verifier reads it.
fn a_copy_in_a_folder_is_valid_too(rig: &Rig, world: &World) {
    let (archive, folder) = (rig.archive(), world.path("copied"));
    let mut edge = None;
    for name in archive.list_after("", None, 10_000).unwrap() {
        if name == "checkpoint" {
            continue;
        }
        let path = folder.join(&name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, archive.get(&name).unwrap().unwrap()).unwrap();
        edge = edge.or_else(|| name.starts_with("tile/1/000.p/").then_some(path));
    }
    let python = python_with_cryptography().unwrap();
    let program = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("reference/verify.py");
    let both = |code: i32| {
        for mut command in [Command::new(binary("chancery-verify")), Command::new(&python)] {
            match command.get_program() == python.as_os_str() {
                true => command.arg(&program),
                false => command.arg("ledger"),
            };
            let output =
                command.arg(&folder).arg("--signers").arg(world.path("signers.json")).output().unwrap();
            assert_eq!(output.status.code(), Some(code), "{output:?}");
        }
    };
    both(0);
    let (edge, mut bytes) = edge.map(|path| (path.clone(), std::fs::read(path).unwrap())).unwrap();
    bytes[7] ^= 1;
    std::fs::write(edge, bytes).unwrap();
    both(1);
}

fn what_is_shown_is_verified_checked_and_shown_again(rig: &Rig) {
    let (world, daemon, proxy) = started(rig);
    for events in [5, 300] {
        grow(rig, &world, &daemon, events);
    }
    assert!(daemon.stop().success());
    edit(&world, &proxy.endpoint_url(), &format!("http://{}", rig.address));
    let auditor = Auditor::of(rig, &world);
    assert_eq!(auditor.finds(0), [""; 0], "replacing it is no overwriting");
    assert!(rig.versions("checkpoint").len() > 1, "each that was replaced is still there");
    let archive = rig.archive();
    assert!(archive.list_after("", None, 10_000).unwrap().contains(&"checkpoint".to_owned()));
    assert_eq!(archive.alarm_count(chancery_archive_s3::AlarmKind::ExtraVersions), 0);
    let (code, report, found) = check(&world, &[]);
    assert_eq!((code, found), (0, Vec::new()), "{report:#}");

    // Somebody who may write shows an older one, then what is none.
    let first = archive.get("checkpoint/000000000000").unwrap().unwrap();
    let newest = archive.get("checkpoint").unwrap().unwrap();
    rig.overwrite("checkpoint", first);
    assert_eq!(check(&world, &[]).2, ["object-altered checkpoint"]);
    let (code, repaired, _) = check(&world, &["--repair"]);
    assert_eq!((code, &repaired["repaired"]), (0, &serde_json::json!(1)), "{repaired:#}");
    assert_eq!(archive.get("checkpoint").unwrap().unwrap(), newest);
    rig.overwrite("checkpoint", b"noise");
    assert_eq!(auditor.finds(1), ["checkpoint-invalid checkpoint"]);
    assert_eq!(check(&world, &["--repair"]).2, ["checkpoint-invalid checkpoint"], "a person looks at that");
    // The daemon replaces it at its next start, whatever was laid over it.
    rig.delete("checkpoint");
    let mut found = auditor.finds(1);
    found.sort();
    assert_eq!(found, ["checkpoint-invalid checkpoint", "deleted-object checkpoint"]);
    let daemon = Daemon::start(&world);
    wait_for("it is shown again", || {
        plain(rig, "checkpoint").filter(|(_, note)| note.starts_with("log.example"))
    });
    assert!(daemon.stop().success());
    assert_eq!(auditor.finds(1), ["deleted-object checkpoint"], "what was done stays visible");
    // One partial tile is laid over.
    let edge = archive.list_after("tile/0/001.p/", None, 10_000).unwrap().pop().unwrap();
    rig.overwrite(&edge, vec![7; 32]);
    assert!(auditor.finds(1).contains(&format!("overwritten-object {edge}")));
}
