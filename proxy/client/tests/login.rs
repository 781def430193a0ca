//! `chancery login` against a provider that is written here, step by step: what is asked, how often, what is kept.

#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "a failed step is a failed test")]

use std::collections::VecDeque;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bytes::Bytes;
use chancery_client::login::{self, LoginError, StoredLogin, wall_clock};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use sha2::Digest as _;

/// A provider whose token endpoint answers from a script.
struct Provider {
    url: String,
    dir: tempfile::TempDir,
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    /// What the device endpoint says beside its codes.
    interval: u64,
    expires_in: u64,
    answers: VecDeque<(u16, Value)>,
    /// Path and form of each request, and when it came.
    seen: Vec<(String, String, Instant)>,
}

impl Provider {
    async fn start(answers: &[(u16, Value)]) -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let state =
            State { interval: 1, expires_in: 60, answers: answers.iter().cloned().collect(), seen: vec![] };
        let state = Arc::new(Mutex::new(state));
        let (shared, issuer) = (Arc::clone(&state), url.clone());
        tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let (shared, issuer) = (Arc::clone(&shared), issuer.clone());
                let service = hyper::service::service_fn(move |request| {
                    answer(request, Arc::clone(&shared), issuer.clone())
                });
                let connection = hyper::server::conn::http1::Builder::new()
                    .serve_connection(TokioIo::new(stream), service);
                tokio::spawn(connection);
            }
        });
        Self { url, dir: tempfile::tempdir().unwrap(), state }
    }

    fn token_file(&self) -> PathBuf {
        self.dir.path().join("config/token.json")
    }

    fn forms(&self, path: &str) -> Vec<String> {
        let seen = &self.state.lock().unwrap().seen;
        seen.iter().filter(|(asked, ..)| asked == path).map(|(_, form, _)| form.clone()).collect()
    }

    fn pauses(&self) -> Vec<Duration> {
        let state = self.state.lock().unwrap();
        let times: Vec<_> =
            state.seen.iter().filter(|(path, ..)| path == "/token").map(|seen| seen.2).collect();
        times.windows(2).map(|pair| pair[1] - pair[0]).collect()
    }

    async fn chancery(&self, arguments: &[&str]) -> Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_chancery"));
        command.args(arguments).env_clear().env("CHANCERY_TOKEN_FILE", self.token_file());
        tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap()
    }

    async fn login(&self, more: &[&str]) -> Output {
        let arguments = ["login", "--issuer", &self.url, "--client-id", "cli"];
        self.chancery(&[&arguments[..], more].concat()).await
    }
}

async fn answer(
    request: Request<Incoming>,
    state: Arc<Mutex<State>>,
    url: String,
) -> Result<Response<Full<Bytes>>, std::convert::Infallible> {
    let path = request.uri().path().to_owned();
    let form = request.into_body().collect().await.unwrap().to_bytes();
    let mut state = state.lock().unwrap();
    state.seen.push((path.clone(), String::from_utf8(form.to_vec()).unwrap(), Instant::now()));
    let (status, body) = match path.as_str() {
        "/.well-known/openid-configuration" => (
            200,
            json!({
                "issuer": url, "jwks_uri": format!("{url}/jwks"), "token_endpoint": format!("{url}/token"),
                "device_authorization_endpoint": format!("{url}/device"),
                "revocation_endpoint": format!("{url}/revoke"),
            }),
        ),
        "/device" => (
            200,
            json!({
                "device_code": "device-secret", "user_code": "ABCD-EFGH", "verification_uri": format!("{url}/page"),
                "expires_in": state.expires_in, "interval": state.interval,
            }),
        ),
        "/revoke" => (200, json!({})),
        _ => state.answers.pop_front().unwrap_or((400, json!({"error": "script_has_ended"}))),
    };
    let response = Response::builder().status(status).header("content-type", "application/json");
    Ok(response.body(Full::new(body.to_string().into())).unwrap())
}

fn pending() -> (u16, Value) {
    (400, json!({"error": "authorization_pending"}))
}

fn granted(access: &str, refresh: Option<&str>, expires_in: u64) -> (u16, Value) {
    let mut grant = json!({"access_token": access, "token_type": "Bearer", "expires_in": expires_in});
    if let Some(refresh) = refresh {
        grant["refresh_token"] = refresh.into();
    }
    (200, grant)
}

fn field(form: &str, name: &str) -> Option<String> {
    form.split('&').find_map(|pair| pair.strip_prefix(&format!("{name}=")).map(str::to_owned))
}

fn document(output: &Output) -> Value {
    serde_json::from_slice(&output.stdout).unwrap()
}

fn assert_tells_no_secret(output: &Output) {
    let all = [output.stdout.clone(), output.stderr.clone()].concat();
    assert!(!String::from_utf8(all).unwrap().contains("secret"), "{output:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_person_confirms_and_the_token_is_kept_and_not_shown() {
    let provider = Provider::start(&[pending(), granted("secret-a", Some("secret-r"), 300)]).await;
    let output = provider.login(&["--json", "--resource", "https://sign.example", "--scope", "openid"]).await;
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    assert_tells_no_secret(&output);
    let prompt: Value = serde_json::from_slice(&output.stderr).unwrap();
    assert_eq!(prompt["prompt"]["userCode"], "ABCD-EFGH");
    assert_eq!(prompt["prompt"]["verificationUri"], format!("{}/page", provider.url));
    let told = &document(&output)["login"];
    assert_eq!((&told["valid"], &told["refreshable"]), (&json!(true), &json!(true)));

    // PKCE: what was promised first is the hash of what was shown last.
    let (asked, redeemed) = (&provider.forms("/device")[0], &provider.forms("/token")[1]);
    let verifier = field(redeemed, "code_verifier").unwrap();
    let challenge = URL_SAFE_NO_PAD.encode(sha2::Sha256::digest(verifier.as_bytes()));
    assert_eq!(field(asked, "code_challenge"), Some(challenge));
    assert_eq!(field(asked, "code_challenge_method").as_deref(), Some("S256"));
    for form in [asked, redeemed] {
        assert_eq!(field(form, "resource").as_deref(), Some("https%3A%2F%2Fsign.example"));
        assert_eq!(field(form, "client_id").as_deref(), Some("cli"));
    }

    let kept: Value = serde_json::from_slice(&std::fs::read(provider.token_file()).unwrap()).unwrap();
    assert_eq!((&kept["accessToken"], &kept["refreshToken"]), (&json!("secret-a"), &json!("secret-r")));
    assert_eq!((&kept["issuer"], &kept["clientId"]), (&json!(provider.url), &json!("cli")));
    let mode = std::fs::metadata(provider.token_file()).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);

    let status = provider.chancery(&["login", "--status"]).await;
    assert_eq!(status.status.code(), Some(0));
    assert!(String::from_utf8_lossy(&status.stdout).contains("valid, renewed when it ends"));
    assert_tells_no_secret(&status);

    let out = provider.chancery(&["logout", "--json"]).await;
    assert_eq!((out.status.code(), document(&out)), (Some(0), json!({"loggedOut": true})));
    assert_eq!(field(&provider.forms("/revoke")[0], "token").as_deref(), Some("secret-r"));
    assert!(!provider.token_file().exists());
    let again = provider.chancery(&["logout", "--json"]).await;
    assert_eq!((again.status.code(), document(&again)), (Some(0), json!({"loggedOut": false})));
    assert_eq!(provider.chancery(&["login", "--status"]).await.status.code(), Some(1));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_provider_sets_the_pace() {
    let slow_down = (400, json!({"error": "slow_down"}));
    let provider = Provider::start(&[pending(), slow_down, granted("secret-a", None, 300)]).await;
    let output = provider.login(&[]).await;
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    let pauses = provider.pauses();
    assert!(pauses[0] >= Duration::from_millis(950) && pauses[0] < Duration::from_secs(4), "{pauses:?}");
    assert!(pauses[1] >= Duration::from_millis(5_950), "{pauses:?}");
    // Without a refresh token it will end.
    let status = provider.chancery(&["login", "--status", "--json"]).await;
    assert_eq!(document(&status)["login"]["refreshable"], json!(false));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_login_that_does_not_come_about_leaves_nothing_and_says_why() {
    let bad_type = json!({"access_token": "secret-a", "token_type": "DPoP"});
    let with_space = json!({"access_token": "secret a\n", "token_type": "Bearer"});
    for (answer, exit, why) in [
        ((400, json!({"error": "access_denied"})), 1, "refused: access_denied"),
        ((400, json!({"error": "expired_token"})), 1, "nobody confirmed"),
        ((401, json!({"error": "invalid_client"})), 1, "refused: invalid_client"),
        ((200, bad_type), 1, "another type than Bearer"),
        ((200, with_space), 1, "cannot stand in a header"),
    ] {
        let provider = Provider::start(&[answer]).await;
        let output = provider.login(&[]).await;
        let told = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(exit), "{told}");
        assert!(told.contains(why), "{told}");
        assert_tells_no_secret(&output);
        assert!(!provider.token_file().exists());
    }
    // Time is over; the provider that never answers is asked until then.
    let provider = Provider::start(&[(503, json!({}))]).await;
    provider.state.lock().unwrap().expires_in = 2;
    let output = provider.login(&[]).await;
    assert!(String::from_utf8_lossy(&output.stderr).contains("nobody confirmed"), "{output:?}");

    for (arguments, exit) in [
        (&["login", "--issuer", "http://login.example", "--client-id", "c"][..], 2),
        (&["login", "--issuer", "http://127.0.0.1:1", "--client-id", "c"], 4),
        (&["login", "--client-id", "c"], 2),
        (&["login", "--issuer", "http://127.0.0.1:1", "--client-id", "c", "--issuer-ca", "/nonexistent"], 2),
    ] {
        assert_eq!(provider.chancery(arguments).await.status.code(), Some(exit), "{arguments:?}");
    }
}

/// Makes the token in the file end now.
fn end(file: &Path) {
    let mut kept: Value = serde_json::from_slice(&std::fs::read(file).unwrap()).unwrap();
    kept["expiresAt"] = "2020-01-01T00:00:00.000Z".into();
    std::fs::write(file, kept.to_string()).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_that_ended_is_renewed_once_for_all_who_want_it() {
    let answers = [granted("secret-1", Some("secret-r1"), 300), granted("secret-2", Some("secret-r2"), 300)];
    let provider = Provider::start(&answers).await;
    assert_eq!(provider.login(&[]).await.status.code(), Some(0));
    let file = provider.token_file();
    assert_eq!(login::access_token(&file, wall_clock).await.unwrap().as_str(), "secret-1");

    end(&file);
    let tokens = (0..4).map(|_| {
        let file = file.clone();
        tokio::spawn(async move { login::access_token(&file, wall_clock).await.unwrap() })
    });
    for token in tokens.collect::<Vec<_>>() {
        assert_eq!(token.await.unwrap().as_str(), "secret-2");
    }
    let asked = provider.forms("/token");
    assert_eq!(asked.len(), 2);
    assert_eq!(field(&asked[1], "refresh_token").as_deref(), Some("secret-r1"));

    // A provider that gives no new refresh token means the old one to stay.
    provider.state.lock().unwrap().answers.push_back(granted("secret-3", None, 300));
    end(&file);
    assert_eq!(login::access_token(&file, wall_clock).await.unwrap().as_str(), "secret-3");
    assert!(StoredLogin::read(&file).unwrap().is_refreshable());

    // Withdrawn: only the person can help; the file stays for `--status` to tell.
    provider.state.lock().unwrap().answers.push_back((400, json!({"error": "invalid_grant"})));
    end(&file);
    assert!(matches!(login::access_token(&file, wall_clock).await, Err(LoginError::LoginNeeded)));
    assert!(file.exists());
    // Away: the same may work later.
    provider.state.lock().unwrap().answers.push_back((503, json!({})));
    let away = login::access_token(&file, wall_clock).await.unwrap_err();
    assert!(away.passing(), "{away}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_others_can_read_is_not_used() {
    let provider = Provider::start(&[granted("secret-1", None, 300)]).await;
    assert_eq!(provider.login(&[]).await.status.code(), Some(0));
    let file = provider.token_file();
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o644)).unwrap();
    assert!(matches!(login::access_token(&file, wall_clock).await, Err(LoginError::Exposed { .. })));
    let status = provider.chancery(&["login", "--status"]).await;
    assert_eq!(status.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&status.stderr).contains("mode 644"), "{status:?}");
    // It can still be forgotten.
    assert_eq!(provider.chancery(&["logout"]).await.status.code(), Some(0));
    assert!(!file.exists());
}
