//! Bearer tokens: for clients that have no certificate, one principal each.

use chancery_format::Hash;
use chancery_tests::rig::binary;
use chancery_tests::servers::python_client;
use serde_json::json;

use super::*;

/// A token, made as an operator makes one, and the line for the configuration.
fn made() -> (String, String) {
    let output = Command::new(binary("chancery")).args(["token", "--json"]).output().unwrap();
    let told: Value = serde_json::from_slice(&output.stdout).unwrap();
    let (token, sha256) = (told["token"].as_str().unwrap(), told["sha256"].as_str().unwrap());
    assert_eq!(Hash::of(&[token.as_bytes()]).to_hex(), sha256);
    assert!(String::from_utf8_lossy(&output.stderr).contains(sha256));
    (token.to_owned(), sha256.to_owned())
}

fn grant(hashes: &[&str], dialects: &str) -> String {
    let hashes: Vec<String> = hashes.iter().map(|hash| format!("\"{hash}\"")).collect();
    format!(
        "\n[[principals]]\nname = \"marketplace\"\nkids = [\"rsa\"]\noperations = [\"sign\", \"verify\", \"keys\", \"read\"]\n\
         dialects = [{dialects}]\ntoken_sha256 = [{}]\n",
        hashes.join(", ")
    )
}

fn sign(world: &World, headers: &[(&'static str, String)]) -> Reply {
    let body = json!({ "data": "bQ==", "algorithm": "RSASSA_PKCS1_V1_5_SHA_256" });
    let mut request = Ask::post("/sign", body.to_string());
    request.headers.extend(headers.iter().cloned());
    call(world, None, &request).unwrap()
}

#[test]
fn a_token_stands_for_its_principal_and_for_no_more() {
    let ((token, hash), (next, next_hash)) = (made(), made());
    let more = |hashes: &[&str]| grant(hashes, "\"marketplace\", \"vault-transit\"");
    let options = |hashes: &[&str]| WorldOptions { more: more(hashes), ..WorldOptions::default() };
    let world = World::new(&options(&[&hash]));
    let daemon = Daemon::start(&world);
    let bearer = |token: &str| [("authorization", format!("Bearer {token}"))];
    let signed = sign(&world, &bearer(&token));
    assert_eq!(signed.status, 200, "{}", signed.body);
    let said = signed.json();
    assert!(key(&world, "rsa").verify_message(b"m", &decode(&said["signature"])));
    let path = format!("/v1/receipts/{}", said["receipt"]["index"]);
    let receipt = Ask::get(&path).header("authorization", &format!("Bearer {token}"));
    let event = call(&world, None, &receipt).unwrap().json()["event"].clone();
    assert_eq!(
        (event["actor"].as_str(), event["payload"]["kid"].as_str()),
        (Some("marketplace"), Some("rsa"))
    );
    // Its own header, for the platform's client; and none, a wrong one, two.
    assert_eq!(sign(&world, &[("x-illuvrse-token", token.clone())]).status, 200);
    let refused = |headers: &[(&'static str, String)]| {
        let reply = sign(&world, headers);
        (reply.status, reply.json()["error"].as_str().unwrap_or_default().to_owned())
    };
    assert_eq!(refused(&[]), (401, "client-certificate-required".to_owned()));
    assert_eq!(refused(&bearer(&next)), (401, "bearer-token-refused".to_owned()));
    assert_eq!(refused(&bearer(&hash)), (401, "bearer-token-refused".to_owned()), "the hash is no token");
    let two = [("authorization", format!("Bearer {token}")), ("x-vault-token", token.clone())];
    assert_eq!(refused(&two).0, 401);
    // Scoped: to its keys, its operations, its dialects.
    let other = |path: &str, body: Value| {
        let request = Ask::post(path, body.to_string()).header("authorization", &format!("Bearer {token}"));
        let reply = call(&world, None, &request).unwrap();
        (reply.status, reply.json()["error"].as_str().unwrap_or_default().to_owned())
    };
    let data = json!({ "data": "bQ==", "algorithm": "ED25519", "kid": "ed" });
    assert_eq!(other("/sign", data), (403, "kid-not-granted".to_owned()));
    let payload = json!({ "payload_b64": "bQ==", "key_id": "rsa" });
    assert_eq!(other("/sign", payload), (403, "dialect-not-granted".to_owned()));
    // Replaced by overlap, without a restart: both, then the new one alone.
    let reload = |hashes: &[&str]| {
        world.write_config(&options(hashes));
        daemon.signal(rustix::process::Signal::HUP);
    };
    reload(&[&hash, &next_hash]);
    let both = || [sign(&world, &bearer(&token)).status, sign(&world, &bearer(&next)).status];
    chancery_tests::rig::wait_for("both tokens", || (both() == [200, 200]).then_some(()));
    reload(&[&next_hash]);
    chancery_tests::rig::wait_for("the new token alone", || (both() == [401, 200]).then_some(()));
    // Neither stands anywhere but where it was sent.
    let log = std::fs::read_to_string(world.path("daemon.log")).unwrap();
    assert!(!log.contains(&token) && !log.contains(&next));
}

#[test]
fn hvac_needs_nothing_but_a_token() {
    let (token, hash) = made();
    let more = grant(&[&hash], "\"vault-transit\"");
    let world = World::new(&WorldOptions { more, ..WorldOptions::default() });
    let _daemon = Daemon::start(&world);
    let mut hvac = python_client("vault").unwrap();
    hvac.arg("rsa")
        .env("VAULT_ADDR", world.url())
        .env("VAULT_CACERT", world.path("ca.crt"))
        .env("VAULT_TOKEN", token);
    let told = lines(&mut hvac);
    assert_eq!(told.iter().filter(|line| line["signature"].is_string()).count(), 2);
}

#[test]
fn production_wants_to_be_told_that_tokens_are_meant() {
    let (_, hash) = made();
    let world = World::new(&WorldOptions { more: grant(&[&hash], "\"native\""), ..WorldOptions::default() });
    let text = std::fs::read_to_string(world.config_file()).unwrap();
    let check = |text: &str| {
        std::fs::write(world.config_file(), text.replace("\"development\"", "\"production\"")).unwrap();
        let output = world.chanceryd(&["check", "--config"]);
        String::from_utf8_lossy(&output.stderr).into_owned() + &String::from_utf8_lossy(&output.stdout)
    };
    let words = "may come with a bearer token";
    assert!(check(&text).contains(words));
    let allowed =
        text.replace("[listeners.ops]", "allow_bearer_tokens_in_production = true\n\n[listeners.ops]");
    assert!(!check(&allowed).contains(words));
    let twice = format!("{text}{}", grant(&[&hash], "\"native\"").replace("marketplace", "other"));
    assert!(check(&twice).contains("stands for somebody already"));
}
