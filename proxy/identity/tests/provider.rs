//! A provider on loopback, keys made here: what passes, what is refused, and how often the provider is asked.

#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "a failed step is a failed test")]

mod server;
mod tokens;

use std::time::Duration;

use chancery_identity::{Provider, ProviderConfig, Role, TokenAlgorithm, TokenError};
use serde_json::{Value, json};
use server::{Act, Server};
use tokens::{Key, NOW, claims, hs256, signed, unsigned};

/// A provider that publishes `keys`, and its configuration.
async fn provider(keys: &[&Key]) -> (Server, Provider) {
    provider_with(keys, |_| ()).await
}

async fn provider_with(keys: &[&Key], change: impl FnOnce(&mut ProviderConfig)) -> (Server, Provider) {
    let server = Server::start().await;
    server.publish(keys);
    let mut config = ProviderConfig::new(server.url(), "chancery", vec!["cli".into()]);
    change(&mut config);
    (server, Provider::new(config).unwrap())
}

async fn code(provider: &Provider, token: &str, now: u64) -> &'static str {
    provider.verify(token, now).await.map_or_else(TokenError::code, |_| "ok")
}

#[tokio::test]
async fn each_algorithm_gives_the_person_of_the_token() {
    let (rsa, p256, ed) = (Key::rsa("r"), Key::p256("p"), Key::ed25519("e"));
    let (server, provider) = provider(&[&rsa, &p256, &ed]).await;
    for key in [&rsa, &p256, &ed] {
        let token =
            signed(key, &claims(&server.url(), json!({"roles": ["Operator", "kernel-approver", "x"]})));
        let person = provider.verify(&token, NOW).await.unwrap();
        assert_eq!(person.issuer(), server.url());
        assert_eq!(person.subject(), "alice@corp");
        let name = format!("oidc:{}/alice%40corp", server.url().trim_start_matches("http://"));
        assert_eq!(person.name().as_str(), name);
        assert_eq!(person.display(), Some("Alice"));
        assert_eq!(person.roles().iter().copied().collect::<Vec<_>>(), [Role::Operator, Role::Approver]);
        assert_eq!(person.expires(), NOW + 300);
        assert_eq!(*person.token_sha256(), chancery_format::Hash::of(&[token.as_bytes()]));
        assert!(!format!("{person:?}").contains(&token));
    }
    assert_eq!(server.count("/jwks"), 1);
}

#[tokio::test]
async fn the_operators_map_and_paths_decide_about_roles() {
    let key = Key::p256("p");
    let (server, provider) = provider_with(&[&key], |config| {
        config.role_map = [("Domain Admins".to_owned(), Role::Superadmin)].into();
        config.roles_claims = vec!["https://corp.example/groups".into()];
    })
    .await;
    let roles = json!({"https://corp.example/groups": ["Domain Admins", "developer"], "roles": ["auditor"]});
    let person = provider.verify(&signed(&key, &claims(&server.url(), roles)), NOW).await.unwrap();
    assert_eq!(person.roles().iter().copied().collect::<Vec<_>>(), [Role::Superadmin]);
}

#[tokio::test]
async fn nothing_passes_that_the_key_did_not_sign() {
    let (rsa, p256, ed) = (Key::rsa("r"), Key::p256("p"), Key::ed25519("e"));
    let (server, provider) = provider(&[&rsa, &p256, &ed]).await;
    let good = claims(&server.url(), json!({}));

    assert_eq!(code(&provider, &unsigned(&good), NOW).await, "algorithm-not-allowed");
    // The public key as HMAC secret, in the forms in which it is published.
    for secret in [rsa.public_der(), rsa.jwk()["n"].as_str().unwrap().as_bytes().to_vec()] {
        assert_eq!(code(&provider, &hs256("r", &secret, &good), NOW).await, "algorithm-not-allowed");
    }
    let ps256 = rsa.sign_as("PS256", "r", &good);
    assert_eq!(code(&provider, &ps256, NOW).await, "algorithm-not-allowed");
    // Another key under a known name; a known key under another's name; a known key, another algorithm.
    assert_eq!(code(&provider, &signed(&Key::p256("p"), &good), NOW).await, "bad-signature");
    assert_eq!(code(&provider, &p256.sign_as("ES256", "r", &good), NOW).await, "key-algorithm-mismatch");
    assert_eq!(code(&provider, &p256.sign_as("RS256", "p", &good), NOW).await, "key-algorithm-mismatch");
    assert_eq!(code(&provider, &ed.sign_as("EdDSA", "p", &good), NOW).await, "key-algorithm-mismatch");

    let token = signed(&ed, &good);
    let (head, signature) = token.rsplit_once('.').unwrap();
    assert_eq!(code(&provider, &format!("{head}."), NOW).await, "bad-signature");
    let flipped = if signature.starts_with('A') { "B" } else { "A" };
    assert_eq!(code(&provider, &format!("{head}.{flipped}{}", &signature[1..]), NOW).await, "bad-signature");
    let other = signed(&ed, &claims(&server.url(), json!({"sub": "mallory"})));
    let payload = other.split('.').nth(1).unwrap();
    let swapped = format!("{}.{payload}.{signature}", token.split('.').next().unwrap());
    assert_eq!(code(&provider, &swapped, NOW).await, "bad-signature");
    assert_eq!(code(&provider, &token, NOW).await, "ok");
}

#[tokio::test]
async fn claims_that_do_not_fit_are_refused_each_with_its_code() {
    let key = Key::ed25519("e");
    let (server, provider) = provider(&[&key]).await;
    for (change, expected) in [
        (json!({"iss": "https://evil.example"}), "wrong-issuer"),
        (json!({"aud": "other"}), "wrong-audience"),
        (json!({"azp": "other"}), "wrong-client"),
        (json!({"aud": ["chancery", "other"], "azp": null}), "wrong-client"),
        (json!({"exp": NOW - 60}), "expired"),
        (json!({"nbf": NOW + 61}), "not-yet-valid"),
        (json!({"iat": NOW + 61}), "not-yet-valid"),
        (json!({"exp": NOW + 13 * 3600}), "too-long-lived"),
        (json!({"sub": ""}), "malformed-token"),
    ] {
        let token = signed(&key, &claims(&server.url(), change.clone()));
        assert_eq!(code(&provider, &token, NOW).await, expected, "{change}");
    }
    let text = claims(&server.url(), json!({})).to_string();
    let twice = text.replacen('{', r#"{"sub":"mallory","#, 1);
    assert_eq!(code(&provider, &key.sign_text("EdDSA", "e", &twice), NOW).await, "malformed-token");
    let huge = signed(&key, &claims(&server.url(), json!({"padding": "x".repeat(9000)})));
    assert_eq!(code(&provider, &huge, NOW).await, "token-too-large");
}

#[tokio::test]
async fn a_rotated_key_is_picked_up_and_the_old_one_forgotten() {
    let (old, new) = (Key::p256("old"), Key::p256("new"));
    let (server, provider) = provider(&[&old]).await;
    let (by_old, by_new) =
        (signed(&old, &claims(&server.url(), json!({}))), signed(&new, &claims(&server.url(), json!({}))));
    assert_eq!(code(&provider, &by_old, NOW).await, "ok");
    server.publish(&[&new]);
    assert_eq!(code(&provider, &by_new, NOW + 9).await, "unknown-signing-key");
    assert_eq!(code(&provider, &by_new, NOW + 10).await, "ok");
    assert_eq!(code(&provider, &by_old, NOW + 11).await, "unknown-signing-key");
    assert_eq!(server.count("/jwks"), 2);
}

#[tokio::test]
async fn forged_kids_do_not_make_us_hammer_the_provider() {
    let key = Key::ed25519("e");
    let (server, provider) = provider(&[&key]).await;
    let provider = std::sync::Arc::new(provider);
    assert_eq!(code(&provider, &signed(&key, &claims(&server.url(), json!({}))), NOW).await, "ok");
    // 30 seconds of flood from many at once; windows are ten seconds.
    for second in 1..=30 {
        let forged = |n: u64| key.sign_as("EdDSA", &format!("forged-{second}-{n}"), &json!({}));
        let asked: Vec<_> = (0..20)
            .map(|n| {
                let (provider, token) = (std::sync::Arc::clone(&provider), forged(n));
                tokio::spawn(async move { code(&provider, &token, NOW + second).await })
            })
            .collect();
        for answer in asked {
            assert_eq!(answer.await.unwrap(), "unknown-signing-key");
        }
    }
    assert_eq!(server.count("/jwks"), 4);
}

#[tokio::test]
async fn without_the_provider_known_keys_serve_for_a_bounded_time() {
    let key = Key::ed25519("e");
    let (server, provider) = provider(&[&key]).await;
    let at = |now: u64| signed(&key, &claims(&server.url(), json!({"iat": now, "exp": now + 300})));
    assert_eq!(code(&provider, &at(NOW), NOW).await, "ok");
    server.act(Act::Status(500));
    for age in [299, 300, 301, 3_900] {
        assert_eq!(code(&provider, &at(NOW + age), NOW + age).await, "ok", "{age}");
    }
    assert_eq!(code(&provider, &at(NOW + 3_901), NOW + 3_901).await, "provider-unreachable");
    // A clock set back makes keys old too.
    assert_eq!(code(&provider, &at(NOW - 4_000), NOW - 4_000).await, "provider-unreachable");
    server.act(Act::Serve);
    assert_eq!(code(&provider, &at(NOW + 3_915), NOW + 3_915).await, "ok");
}

#[tokio::test]
async fn without_the_provider_from_the_start_nothing_passes_and_it_is_asked_rarely() {
    let key = Key::ed25519("e");
    let (server, provider) = provider(&[&key]).await;
    server.act(Act::Vanish);
    let token = signed(&key, &claims(&server.url(), json!({})));
    for second in 0..10 {
        assert_eq!(code(&provider, &token, NOW + second).await, "provider-unreachable");
    }
    assert_eq!(server.count("/.well-known/openid-configuration"), 1);
    assert!(TokenError::ProviderUnreachable.is_unavailable());
    server.act(Act::Serve);
    assert_eq!(provider.ready(NOW + 10).await, Ok(()));
    assert_eq!(code(&provider, &token, NOW + 10).await, "ok");

    // Nobody listens at all.
    let gone = ProviderConfig::new(format!("http://{}", server::nobody()), "chancery", vec!["cli".into()]);
    assert_eq!(Provider::new(gone).unwrap().ready(NOW).await, Err(TokenError::ProviderUnreachable));
}

#[tokio::test]
async fn a_provider_that_answers_nonsense_is_as_good_as_away() {
    let (key, twin) = (Key::ed25519("e"), Key::p256("e"));
    let keys = json!({"keys": [key.jwk()]});
    let with = |server: &Server, discovery: Value, keys: &Value| {
        server.document("/.well-known/openid-configuration", &discovery);
        server.document("/jwks", keys);
    };
    let server = Server::start().await;
    let url = server.url();
    let good = json!({"issuer": url, "jwks_uri": format!("{url}/jwks")});
    let cases = [
        (json!({"issuer": format!("{url}/"), "jwks_uri": format!("{url}/jwks")}), keys.clone()),
        (json!({"issuer": "https://evil.example", "jwks_uri": format!("{url}/jwks")}), keys.clone()),
        (json!({"issuer": url, "jwks_uri": "http://192.0.2.1/jwks"}), keys.clone()),
        (json!({"issuer": url}), keys.clone()),
        (good.clone(), json!({"keys": [key.jwk(), twin.jwk()]})),
        (good.clone(), json!({"keys": []})),
        (good.clone(), json!({"keys": [{"kty": "oct", "kid": "e", "k": "AAAA"}]})),
        (good.clone(), json!([])),
        (good.clone(), json!({"keys": [key.jwk()], "padding": "x".repeat(1024 * 1024)})),
    ];
    for (discovery, keys) in cases {
        with(&server, discovery.clone(), &keys);
        let provider = Provider::new(ProviderConfig::new(&url, "chancery", vec!["cli".into()])).unwrap();
        assert_eq!(provider.ready(NOW).await, Err(TokenError::ProviderUnreachable), "{discovery}");
    }
    // A redirect is not followed, an answer that is not JSON not read.
    for act in [Act::Redirect(format!("{url}/elsewhere")), Act::Text] {
        with(&server, good.clone(), &keys);
        server.document("/elsewhere", &good);
        server.act(act);
        let provider = Provider::new(ProviderConfig::new(&url, "chancery", vec!["cli".into()])).unwrap();
        assert_eq!(provider.ready(NOW).await, Err(TokenError::ProviderUnreachable));
        server.act(Act::Serve);
        assert_eq!(provider.ready(NOW + 10).await, Ok(()));
    }
    assert_eq!(server.count("/elsewhere"), 0);
}

#[test]
fn configurations_that_would_let_anybody_in_are_refused() {
    let refusal = |change: fn(&mut ProviderConfig)| {
        let mut config = ProviderConfig::new("https://login.example", "chancery", vec!["cli".into()]);
        config.ca_file = Some("/nonexistent".into());
        change(&mut config);
        Provider::new(config).err().unwrap().to_string()
    };
    assert!(refusal(|_| ()).starts_with("/nonexistent: "));
    assert!(refusal(|config| config.issuer = "http://login.example".into()).contains("not https"));
    assert!(
        refusal(|config| config.issuer = "https://login.example?a".into()).contains("not a plain https URL")
    );
    assert!(refusal(|config| config.issuer = format!("https://{}", "a".repeat(170))).contains("longer"));
    assert_eq!(refusal(|config| config.audience.clear()), "audience is empty");
    assert_eq!(refusal(|config| config.client_ids.clear()), "client_ids is empty");
    assert_eq!(refusal(|config| config.algorithms.clear()), "algorithms is empty");
    assert!(refusal(|config| config.clock_skew = Duration::from_secs(301)).contains("300 s"));
    assert!(refusal(|config| config.keys_refresh_min = Duration::ZERO).contains("at least 1 s"));
    for name in ["none", "HS256", "HS512"] {
        assert_eq!(TokenAlgorithm::parse(name), None);
    }
}

#[tokio::test]
async fn over_tls_the_provider_must_be_vouched_for() {
    let key = Key::ed25519("e");
    let (server, authority, stranger) = Server::start_tls().await;
    server.publish(&[&key]);
    let provider = |ca: &std::path::Path| {
        let mut config = ProviderConfig::new(server.url(), "chancery", vec!["cli".into()]);
        config.ca_file = Some(ca.to_owned());
        Provider::new(config).unwrap()
    };
    let token = signed(&key, &claims(&server.url(), json!({})));
    assert_eq!(code(&provider(&authority), &token, NOW).await, "ok");
    assert_eq!(code(&provider(&stranger), &token, NOW).await, "provider-unreachable");
    // From https we are not led down to http, not even on this machine.
    let keys = format!("http://127.0.0.1:{}/jwks", server.port());
    server.document("/.well-known/openid-configuration", &json!({"issuer": server.url(), "jwks_uri": keys}));
    assert_eq!(code(&provider(&authority), &token, NOW).await, "provider-unreachable");
}
