//! People, end to end: `chancery login` at a real OpenID provider, and what the daemon's side makes of the token.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a failed unwrap is the test's failure")]

use std::io::{BufRead as _, BufReader};
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};
use std::time::{SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use chancery_client::login::{access_token, wall_clock};
use chancery_identity::{Provider, ProviderConfig, Role, TokenError};
use chancery_tests::rig::{binary, wait_for};
use chancery_tests::servers::OpenIdProvider;
use serde_json::{Value, json};

/// A provider, and a place for one person's token.
struct Login {
    openid: OpenIdProvider,
    dir: tempfile::TempDir,
}

impl Login {
    fn new() -> Self {
        Self { openid: OpenIdProvider::start().unwrap(), dir: tempfile::tempdir().unwrap() }
    }

    fn token_file(&self) -> PathBuf {
        self.dir.path().join("token.json")
    }

    fn chancery(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(binary("chancery"));
        command.args(arguments).arg("--json").env_clear().env("CHANCERY_TOKEN_FILE", self.token_file());
        command
    }

    /// Runs `chancery login`; `person` gets the code.
    fn login(&self, client: &str, resource: &str, person: impl FnOnce(&str)) -> Output {
        let issuer = self.openid.issuer();
        let arguments = ["login", "--issuer", &issuer, "--client-id", client, "--resource", resource];
        let mut command = self.chancery(&arguments);
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stderr.take().unwrap()).read_line(&mut line).unwrap();
        let told: Value = serde_json::from_str(&line).unwrap();
        assert!(told["prompt"]["verificationUri"].as_str().unwrap().starts_with(&issuer), "{told}");
        person(told["prompt"]["userCode"].as_str().unwrap());
        child.wait_with_output().unwrap()
    }

    /// The token of somebody with these roles.
    async fn token_of(&self, client: &str, resource: &str, roles: &[&str]) -> String {
        let output = self.login(client, resource, |code| self.openid.confirm(code, "alice", roles));
        assert!(output.status.success(), "{output:?}");
        let token = access_token(&self.token_file(), wall_clock).await.unwrap().to_string();
        assert!(!String::from_utf8(output.stdout).unwrap().contains(&token));
        token
    }

    /// What the daemon would make of tokens.
    fn provider(&self) -> Provider {
        let clients = vec!["chancery-cli".to_owned()];
        Provider::new(ProviderConfig::new(self.openid.issuer(), "chancery", clients)).unwrap()
    }
}

fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs()
}

/// The token with another header, its signature as it was.
fn reheaded(token: &str, header: &Value) -> String {
    let (_, rest) = token.split_once('.').unwrap();
    format!("{}.{rest}", URL_SAFE_NO_PAD.encode(header.to_string()))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_person_logs_in_and_is_known_with_roles_and_nothing_forged_is() {
    let login = Login::new();
    let token =
        login.token_of("chancery-cli", OpenIdProvider::RESOURCE, &["Operator", "approver", "x"]).await;
    let provider = login.provider();
    let person = provider.verify(&token, now()).await.unwrap();
    let host = login.openid.issuer().trim_start_matches("http://").to_owned();
    assert_eq!(person.name().as_str(), format!("oidc:{host}/alice"));
    assert_eq!(person.display(), Some("alice"));
    assert_eq!(person.roles().iter().copied().collect::<Vec<_>>(), [Role::Operator, Role::Approver]);

    assert_eq!(provider.verify(&token, person.expires() + 60).await, Err(TokenError::Expired));
    let none = reheaded(&token, &json!({"alg": "none", "typ": "at+jwt"}));
    assert_eq!(provider.verify(&none, now()).await, Err(TokenError::AlgorithmNotAllowed));
    let hmac = reheaded(&token, &json!({"alg": "HS256", "typ": "at+jwt", "kid": "key-1"}));
    assert_eq!(provider.verify(&hmac, now()).await, Err(TokenError::AlgorithmNotAllowed));
    let (head, signature) = token.rsplit_once('.').unwrap();
    let mut forged = URL_SAFE_NO_PAD.decode(signature).unwrap();
    forged.reverse();
    let forged = format!("{head}.{}", URL_SAFE_NO_PAD.encode(forged));
    let forged = provider.verify(&forged, now()).await;
    assert_eq!(forged, Err(TokenError::BadSignature));

    let status = login.chancery(&["login", "--status"]).output().unwrap();
    let status: Value = serde_json::from_slice(&status.stdout).unwrap();
    assert_eq!((&status["login"]["valid"], &status["login"]["refreshable"]), (&json!(true), &json!(true)));
    assert!(login.chancery(&["logout"]).output().unwrap().status.success());
    assert!(!login.token_file().exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn tokens_for_others_and_through_others_are_refused() {
    let login = Login::new();
    let provider = login.provider();
    let other = login.token_of("chancery-cli", OpenIdProvider::OTHER_RESOURCE, &["superadmin"]).await;
    assert_eq!(provider.verify(&other, now()).await, Err(TokenError::WrongAudience));
    let other = login.token_of("other-cli", OpenIdProvider::RESOURCE, &["superadmin"]).await;
    assert_eq!(provider.verify(&other, now()).await, Err(TokenError::WrongClient));

    std::fs::remove_file(login.token_file()).unwrap();
    let refused = login.login("chancery-cli", OpenIdProvider::RESOURCE, |code| login.openid.refuse(code));
    assert_eq!(refused.status.code(), Some(1));
    let told: Value = serde_json::from_slice(&refused.stdout).unwrap();
    assert!(told["error"]["message"].as_str().unwrap().contains("access_denied"), "{told}");
    assert!(!login.token_file().exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn rotation_short_lives_and_outages_of_the_provider_are_gone_through() {
    let login = Login::new();
    login.openid.token_lifetime(31);
    let first = login.token_of("chancery-cli", OpenIdProvider::RESOURCE, &["auditor"]).await;
    let (provider, start) = (login.provider(), now());
    assert!(provider.verify(&first, start).await.is_ok());

    // The token ends, the key changes, and the client gets a new token without the person.
    login.openid.rotate();
    login.openid.token_lifetime(300);
    let second = loop {
        let token = access_token(&login.token_file(), wall_clock).await.unwrap().to_string();
        if token != first {
            break token;
        }
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    };
    assert_eq!(provider.verify(&second, start + 9).await, Err(TokenError::UnknownSigningKey));
    let person = provider.verify(&second, start + 10).await.unwrap();
    assert_eq!(person.roles().iter().copied().collect::<Vec<_>>(), [Role::Auditor]);
    assert_eq!(provider.verify(&first, start + 11).await, Err(TokenError::UnknownSigningKey));

    // The provider goes away: known keys serve on, a fresh start does not.
    let (issuer, fresh) = (login.openid.issuer(), login.provider());
    drop(login);
    let address = issuer.trim_start_matches("http://").to_owned();
    wait_for("the provider to be gone", || std::net::TcpStream::connect(&address).err());
    assert!(provider.verify(&second, start + 12).await.is_ok());
    assert_eq!(fresh.verify(&second, start + 12).await, Err(TokenError::ProviderUnreachable));
}
