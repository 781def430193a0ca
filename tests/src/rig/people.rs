//! People of an installation: a real OpenID provider, the tables that name it, and calls with their tokens.

use std::time::Duration;

use serde_json::{Value, json};

use super::wire::{Ask, Reply, call_at};
use super::{World, free_port, write_secret};
use crate::servers::OpenIdProvider;

/// A provider and the port of the admin listener.
pub struct People {
    /// The provider.
    pub openid: OpenIdProvider,
    /// Port of the admin listener.
    pub port: u16,
}

impl People {
    /// Starts the provider.
    pub fn new() -> Self {
        Self { openid: OpenIdProvider::start().unwrap(), port: free_port() }
    }

    /// What `user` is called on the ledger.
    pub fn name(&self, user: &str) -> String {
        let host = self.openid.issuer();
        format!("oidc:{}/{user}", host.trim_start_matches("http://"))
    }

    /// Tables for the admin listener, with a quorum of `required` of these users; none of them: no quorum.
    pub fn tables(&self, required: usize, approvers: &[&str]) -> String {
        let mut tables = format!(
            "\n[listeners.admin]\naddress = \"127.0.0.1:{}\"\n\n\
             [identity]\nissuer = \"{}\"\naudience = \"chancery\"\nclient_ids = [\"chancery-cli\"]\n",
            self.port,
            self.openid.issuer()
        );
        if required > 0 {
            tables += &format!("\n[governance]\napprovals_required = {required}\noverlap_hours = 1\n");
            for user in approvers {
                tables += &format!("\n[[governance.approvers]]\nname = \"{}\"\n", self.name(user));
            }
        }
        tables
    }

    /// One call with a token of `user`, who holds these roles.
    pub fn call(&self, world: &World, (user, roles): (&str, &[&str]), ask: Ask<'_>) -> Reply {
        let token = self.openid.token(user, roles);
        self.call_with(world, &token, ask)
    }

    /// One call with this token.
    pub fn call_with(&self, world: &World, token: &str, ask: Ask<'_>) -> Reply {
        let ask = ask.header("authorization", &format!("Bearer {token}"));
        call_at(world, self.port, None, &ask).unwrap()
    }

    /// The variables under which `chancery` acts for `user`, who logged in with these roles.
    pub fn shell(&self, world: &World, user: &str, roles: &[&str]) -> Vec<(&'static str, String)> {
        let token = world.path(&format!("{user}.token"));
        let login = json!({
            "issuer": self.openid.issuer(), "clientId": "chancery-cli", "scope": "openid",
            "accessToken": self.openid.token(user, roles), "expiresAt": "2999-01-01T00:00:00.000Z",
        });
        let _before = std::fs::remove_file(&token);
        write_secret(&token, &login.to_string());
        let text = |path: &std::path::Path| path.display().to_string();
        vec![
            ("CHANCERY_URL", world.url()),
            ("CHANCERY_CA", text(&world.path("ca.crt"))),
            ("CHANCERY_CERT", text(&world.orders.certificate)),
            ("CHANCERY_KEY", text(&world.orders.key)),
            ("CHANCERY_ADMIN_URL", format!("https://localhost:{}", self.port)),
            ("CHANCERY_TOKEN_FILE", text(&token)),
        ]
    }

    /// A POST of a superadmin called `user`, which must succeed.
    pub fn act(&self, world: &World, user: &str, path: &str, body: &Value) -> Value {
        let reply = self.call(world, (user, &["superadmin"]), Ask::post(path, body.to_string()));
        assert!([200, 202].contains(&reply.status), "{path}: {} {}", reply.status, reply.body);
        reply.json()
    }

    /// What `GET /admin/v1/status` says.
    pub fn status(&self, world: &World) -> Value {
        let reply = self.call(world, ("watcher", &["auditor"]), Ask::get("/admin/v1/status"));
        assert_eq!(reply.status, 200, "{}", reply.body);
        reply.json()
    }

    /// These approvers say yes to a request as it stands; the last reply.
    pub fn approve(&self, world: &World, request: &Value, users: &[&str]) -> Value {
        let id = request["id"].as_str().unwrap();
        let path = format!("/admin/v1/approvals/{id}/approve");
        let body = json!({ "actSha256": request["actSha256"] }).to_string();
        let mut last = Value::Null;
        for user in users {
            let reply = self.call(world, (user, &["approver"]), Ask::post(&path, body.as_str()));
            assert_eq!(reply.status, 200, "{user}: {}", reply.body);
            last = reply.json();
        }
        last
    }

    /// Waits until the rotation of a name is applied.
    pub fn wait_rotated(&self, world: &World, kid: &str, to: &str) {
        super::wait_for("the rotation", || {
            let status = self.status(world);
            let done = status["rotations"]
                .as_array()?
                .iter()
                .any(|it| it["kid"] == kid && it["to"] == to && it["step"] == "applied");
            if !done {
                std::thread::sleep(Duration::from_millis(100));
            }
            done.then_some(())
        });
    }
}

impl Default for People {
    fn default() -> Self {
        Self::new()
    }
}
