//! A person with a login beside a listener for people, and the `chancery` they type.

#![allow(dead_code, reason = "each test file uses its part")]
#![allow(clippy::unwrap_used, reason = "a failed step is a failed test")]

use std::os::unix::fs::OpenOptionsExt as _;
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};

use chancery_format::Origin;
use chancery_format::governance::{Act as Asked, Verdict, statement};
use serde_json::{Value, json};

use crate::server::{Act, Seen, Server};

pub(crate) const TOKEN: &str = "token-of-alice";

pub(crate) struct Desk {
    pub(crate) server: Server,
}

impl Desk {
    /// Somebody who is signed in.
    pub(crate) async fn open() -> Self {
        let desk = Self::without_login().await;
        let login = json!({
            "issuer": "https://login.example", "clientId": "cli", "scope": "openid", "accessToken": TOKEN,
            "expiresAt": "2999-01-01T00:00:00.000Z",
        });
        desk.write("token.json", &login.to_string(), 0o600);
        desk
    }

    pub(crate) async fn without_login() -> Self {
        Self { server: Server::for_people().await }
    }

    pub(crate) fn write(&self, name: &str, text: &str, mode: u32) -> PathBuf {
        use std::io::Write as _;
        let path = self.server.file(name);
        let mut file = std::fs::OpenOptions::new()
            .create(true)
            .truncate(true)
            .write(true)
            .mode(mode)
            .open(&path)
            .unwrap();
        file.write_all(text.as_bytes()).unwrap();
        path
    }

    /// Answers every request with this JSON.
    pub(crate) fn answers(&self, body: &Value) {
        self.server.script(&[], Act::json(200, &body.to_string()));
    }

    pub(crate) async fn chancery(&self, arguments: &[&str]) -> Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_chancery"));
        command
            .args(arguments)
            .env_clear()
            .env("CHANCERY_ADMIN_URL", &self.server.url)
            .env("CHANCERY_CA", self.server.file("ca.crt"))
            .env("CHANCERY_TOKEN_FILE", self.server.file("token.json"))
            .env("CHANCERY_KEY", self.server.file("client.key"))
            .stdin(Stdio::null());
        tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap()
    }

    /// Runs a command that must succeed, and gives what it printed.
    pub(crate) async fn done(&self, arguments: &[&str]) -> String {
        let output = self.chancery(arguments).await;
        assert_eq!(output.status.code(), Some(0), "{arguments:?}: {}", stderr(&output));
        stdout(&output)
    }

    /// The last request: method and path, query, body.
    pub(crate) fn last(&self) -> (String, Option<String>, Value) {
        let seen: Seen = self.server.seen().pop().unwrap();
        assert_eq!(seen.authorization.as_deref(), Some(&*format!("Bearer {TOKEN}")));
        let body = if seen.body.is_empty() { Value::Null } else { serde_json::from_str(&seen.body).unwrap() };
        (seen.line, seen.query, body)
    }
}

pub(crate) fn stdout(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

pub(crate) fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

/// A request for approval as the daemon tells it.
pub(crate) fn request(act: &Asked) -> Value {
    let origin: Origin = "sign.example/ledger".parse().unwrap();
    let sha256 = act.sha256().to_hex();
    let text = |verdict| statement(&origin, "r-1", &sha256, verdict);
    json!({
        "id": "r-1", "act": act, "actSha256": sha256, "by": "alice", "reason": "fixed", "required": 2,
        "expiresAt": "2027-01-02T00:00:00.000Z", "emergency": false, "status": "pending", "index": 7,
        "requestedAt": "2027-01-01T00:00:00.000Z", "approvedBy": {"bob": 9}, "refusedBy": {},
        "executedIndex": null, "url": "/admin/v1/approvals/r-1",
        "statement": {"approve": text(Verdict::Approve), "refuse": text(Verdict::Refuse)},
    })
}
