//! AWS SDKs, straight over mutual TLS: Python, JavaScript, Go.

use chancery_tests::servers::{go_client, node_client, python_client};
use serde_json::json;

use super::*;

/// What every client is told, directly: any credentials will do.
fn directly<'c>(world: &World, command: &'c mut Command) -> &'c mut Command {
    command
        .env("KMS_URL", world.url())
        .env("KMS_CERT", &world.orders.certificate)
        .env("KMS_KEY", &world.orders.key)
        .env("KMS_CA", world.path("ca.crt"))
        .envs([("AWS_ACCESS_KEY_ID", "any"), ("AWS_SECRET_ACCESS_KEY", "any")])
}

/// A world with Ed25519ph beside the usual keys.
fn with_ph() -> (World, Daemon) {
    let more = "[[keys]]\nkid = \"ph\"\nsigner_kid = \"ph-v1\"\nbackend = \"software\"\nalgorithm = \"ed25519ph\"\n\
                purpose = \"test\"\n\n[[keys]]\nkid = \"pq44\"\nsigner_kid = \"pq44-v1\"\nbackend = \"software\"\n\
                algorithm = \"ml-dsa-44\"\npurpose = \"test\"\n";
    let options =
        WorldOptions { grants: ALL, kids: &["ph", "pq44"], more: more.to_owned(), ..WorldOptions::default() };
    let world = World::new(&options);
    let daemon = Daemon::start(&world);
    (world, daemon)
}

#[test]
fn boto3_signs_with_every_algorithm_and_reads_every_refusal() {
    let (world, daemon) = with_ph();
    let mut boto = python_client("boto").unwrap();
    boto.arg("all").args(SIGNING).args(["pq44", "ph"]);
    let told = lines(directly(&world, &mut boto));
    // Two kinds of message for the five that take digests and the two that take µ, one for `ed`, and the platform's word.
    let ph = told.iter().filter(|line| line["key"] == "ph").count();
    assert_eq!(ph, 1);
    let others: Vec<Value> = told.iter().filter(|line| line["key"] != "ph").cloned().collect();
    assert_eq!(verify_kms(&world, &others), 2 * 7 + 1 + 1);
    let ph = told.iter().find(|line| line["key"] == "ph").unwrap();
    let digest = Digest::Sha512(decode(&ph["message"]).try_into().unwrap());
    assert!(key(&world, "ph").verify(&digest, &decode(&ph["signature"])));

    // What was signed over µ verifies from the archive alone, to which the message never came.
    let over_mu = told.iter().filter(|line| line["kind"] == "EXTERNAL_MU").count() as u64;
    daemon.stop();
    let checked = world.verify(&["ledger", world.path("archive").to_str().unwrap(), "--json"]);
    let report: Value = serde_json::from_slice(&checked.stdout).unwrap();
    assert_eq!((checked.status.code(), over_mu), (Some(0), 2), "{report}");
    // Raw messages of `ed`, `pq` and `pq44`, and the platform's own word.
    assert_eq!(report["checked"]["signaturesOverMessages"], 4, "{report}");
}

#[test]
fn the_javascript_sdk_signs_and_reads_refusals() {
    let (world, _daemon) = started(ALL);
    let mut node = node_client().unwrap();
    let told = lines(directly(&world, node.args(SIGNING)));
    assert_eq!(verify_kms(&world, &told), 2 * 6 + 1);
    assert_eq!(told.last().unwrap()["done"], true);
}

#[test]
fn the_go_sdk_signs_and_reads_refusals() {
    let (world, _daemon) = started(ALL);
    let mut go = go_client().unwrap();
    let told = lines(directly(&world, go.args(SIGNING)));
    assert_eq!(verify_kms(&world, &told), 2 * 6 + 1);
    assert_eq!(told.last().unwrap()["done"], true);
}

/// What AWS clients do when they are refused: they try again what may pass, and nothing else.
#[test]
fn refusals_have_the_names_that_sdks_act_upon() {
    let (world, daemon) = started(ALL);
    let expect = |code: &str, kid: &str| {
        let mut boto = python_client("boto").unwrap();
        let told = lines(directly(&world, boto.args(["expect", code, kid])));
        told.last().unwrap()["attempts"].as_u64().unwrap()
    };
    std::fs::write(world.path("halt"), "drill").unwrap();
    chancery_tests::rig::wait_for("halted", || (daemon.ops("/readyz")?.0 == 503).then_some(()));
    assert_eq!(expect("DisabledException", "p256"), 1);
    for mut client in [node_client().unwrap(), go_client().unwrap()] {
        let told = lines(directly(&world, client.env("KMS_EXPECT", "DisabledException")));
        assert_eq!(told[0]["refused"], "DisabledException", "{told:?}");
    }
    let mut hvac = python_client("vault").unwrap();
    let told = lines(vault::directly(&world, &mut hvac).env("VAULT_EXPECT", "VaultDown"));
    assert_eq!(told[0]["refused"], "VaultDown", "{told:?}");
    std::fs::remove_file(world.path("halt")).unwrap();
    daemon.stop();
}

/// A key that takes one request a second, in a world that hardly waits.
pub(super) fn throttled() -> (World, Daemon) {
    let more = "[[key_limits]]\nkid = \"p256\"\nrate_per_second = 1\nburst = 1\n\n\
                [limits]\ndialect_patience_ms = 50\n";
    let world = World::new(&WorldOptions { grants: ALL, more: more.to_owned(), ..WorldOptions::default() });
    let daemon = Daemon::start(&world);
    (world, daemon)
}

/// SDKs know the throttle by its name: with one attempt they tell it, with more they wait and get through.
#[test]
fn every_sdk_sees_a_throttle_and_gets_through_it_by_its_own_retries() {
    let (world, _daemon) = throttled();
    let body = r#"{"KeyId":"alias/p256","Message":"bQ==","SigningAlgorithm":"ECDSA_SHA_256"}"#;
    let sign = Ask::post("/", body).header("x-amz-target", "TrentService.Sign");
    let replies: Vec<Reply> = (0..3).map(|_| ask(&world, &sign)).collect();
    let throttled = replies.iter().find(|reply| reply.status == 400).expect("one of three is above the rate");
    assert_eq!(throttled.json()["__type"], "ThrottlingException", "{}", throttled.body);
    assert!(throttled.header("x-amz-retry-after").is_some());
    for (attempts, expected) in [("1", json!("ThrottlingException")), ("12", Value::Null)] {
        let mut boto = python_client("boto").unwrap();
        let (mut node, mut go) = (node_client().unwrap(), go_client().unwrap());
        for client in [boto.args(["throttled", attempts]), &mut node, &mut go] {
            let told = lines(directly(&world, client.env("KMS_ATTEMPTS", attempts)));
            let told = told.last().unwrap();
            assert_eq!(told["told"], expected, "{client:?}: {told}");
            if let Some(made) = told["attempts"].as_u64().filter(|_| expected.is_null()) {
                assert!(made > 4, "four calls, and more attempts: {told}");
            }
        }
    }
}

#[test]
fn what_is_not_an_operation_is_refused_as_aws_does() {
    let (world, _daemon) = started(ALL);
    for (target, body, kind) in [
        (None, "{}", "UnknownOperationException"),
        (Some("Other.Sign"), "{}", "UnknownOperationException"),
        (Some("TrentService.Encrypt"), "{}", "UnsupportedOperationException"),
        (Some("TrentService.Sign"), "{", "SerializationException"),
        (Some("TrentService.Sign"), "{}", "ValidationException"),
        (Some("TrentService.DescribeKey"), r#"{"KeyId":"alias/ledger-x"}"#, "NotFoundException"),
        (Some("TrentService.GetPublicKey"), r#"{"KeyId":"mac"}"#, "InvalidKeyUsageException"),
    ] {
        let request = Ask::post("/", body);
        let request = match target {
            Some(target) => request.header("x-amz-target", target),
            None => request,
        };
        let reply = ask(&world, &request);
        assert_eq!(
            (reply.status, reply.json()["__type"].as_str()),
            (400, Some(kind)),
            "{target:?}: {}",
            reply.body
        );
        assert_eq!(reply.header("content-type"), Some("application/x-amz-json-1.1"));
    }
    assert_eq!(ask(&world, &Ask::get("/")).json()["name"], "chancery");
}
