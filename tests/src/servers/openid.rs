//! A real OpenID provider: `oidc-provider` from npm, with the server below `tests/servers/oidc`.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use serde_json::{Value, json};

use super::error::ServerError;
use super::install::{install_once, run};
use super::process::{Server, data_dir, free_port};

/// All that the server is made of: another byte is another installation. Packages have the hashes of the lock file.
const FILES: [(&str, &str); 4] = [
    ("package.json", include_str!("../../servers/oidc/package.json")),
    ("package-lock.json", include_str!("../../servers/oidc/package-lock.json")),
    ("server.mjs", include_str!("../../servers/oidc/server.mjs")),
    ("person.mjs", include_str!("../../servers/oidc/person.mjs")),
];

/// Time a scripted person needs to click through the pages, at most.
const PERSON_MAX: Duration = Duration::from_secs(30);

/// The provider, with clients `chancery-cli` and `other-cli`, and people who do as a test says.
#[derive(Debug)]
pub struct OpenIdProvider {
    server: Server,
}

impl OpenIdProvider {
    /// The resource to ask tokens for whose audience is `chancery`.
    pub const RESOURCE: &'static str = "https://sign.test";
    /// A resource whose tokens are for the audience `other`.
    pub const OTHER_RESOURCE: &'static str = "https://other.test";

    /// Installs it if need be and starts one of one's own.
    pub fn start() -> Result<Self, ServerError> {
        let installed = install_once("oidc-provider", &FILES.map(|(_, text)| text).concat(), install)?;
        let (dir, port) = (data_dir("oidc")?, free_port()?);
        let mut command = Command::new("node");
        command.arg(installed.join("server.mjs")).arg(port.to_string());
        let health = "/.well-known/openid-configuration";
        Ok(Self { server: Server::start("oidc-provider", &dir, port, health, &command)? })
    }

    /// Its name for itself.
    pub fn issuer(&self) -> String {
        self.server.endpoint_url()
    }

    /// `user`, who has these roles from now on, opens the page, types the code, logs in and agrees.
    pub fn confirm(&self, user_code: &str, user: &str, roles: &[&str]) {
        self.rig("/rig/confirm", &json!({"userCode": user_code, "user": user, "roles": roles}));
    }

    /// Somebody opens the page, types the code, and says no.
    pub fn refuse(&self, user_code: &str) {
        self.rig("/rig/refuse", &json!({"userCode": user_code}));
    }

    /// An access token of `user` with these roles, as it would issue one, without the pages: for tests that are
    /// not about logging in.
    pub fn token(&self, user: &str, roles: &[&str]) -> String {
        let reply = self.rig("/rig/token", &json!({"user": user, "roles": roles}));
        let (_, body) = reply.split_once("\r\n\r\n").expect("a reply has a body");
        let token = body.lines().find(|line| line.matches('.').count() == 2);
        token.expect("a token is three parts").trim().to_owned()
    }

    /// A new signing key in the place of the old one, which is no longer published.
    pub fn rotate(&self) {
        self.rig("/rig/rotate", &json!({}));
    }

    /// Life of access tokens from now on, in seconds; 300 at the start.
    pub fn token_lifetime(&self, seconds: u64) {
        self.rig("/rig/lifetime", &json!({"seconds": seconds}));
    }

    fn rig(&self, path: &str, body: &Value) -> String {
        let reply = post(self.server.address(), path, &body.to_string());
        let reply = reply.unwrap_or_else(|error| format!("no answer: {error}"));
        assert!(reply.starts_with("HTTP/1.1 200 "), "{path}: {reply}");
        reply
    }
}

fn install(dir: &Path) -> Result<(), ServerError> {
    // The packages are modern; an older Node would fail in the middle of a test.
    let version = Command::new("node").arg("--version").output();
    let version = version.map(|output| String::from_utf8_lossy(&output.stdout).into_owned());
    let major = version.ok().and_then(|text| text.strip_prefix('v')?.split('.').next()?.parse::<u32>().ok());
    if major.is_none_or(|major| major < 20) {
        return Err(ServerError::Missing(
            "no Node.js 20 or newer on the PATH: run .ci/install, or install it".into(),
        ));
    }
    for (name, text) in FILES {
        std::fs::write(dir.join(name), text).map_err(ServerError::io(format!("writing {name}")))?;
    }
    let mut npm = Command::new("npm");
    npm.args(["ci", "--ignore-scripts", "--no-audit", "--no-fund"]).current_dir(dir);
    run(&mut npm).map(drop)
}

/// A plain HTTP POST; the whole reply.
fn post(address: std::net::SocketAddr, path: &str, body: &str) -> std::io::Result<String> {
    let mut stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(PERSON_MAX))?;
    write!(
        stream,
        "POST {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    )?;
    let mut reply = String::new();
    stream.read_to_string(&mut reply)?;
    Ok(reply)
}
