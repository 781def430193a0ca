//! A PostgreSQL of one's own, on loopback, with a password.

use std::path::{Path, PathBuf};
use std::process::Command;

use super::error::ServerError;
use super::install::run;
use super::process::{Server, data_dir, free_port};
use crate::rig::random_word;

/// Whom the server does not refuse to run as, where a test runs as root: Debian makes this user with the package.
const USER: &str = "postgres";

/// A cluster with one user and one database, both called `auditor`.
#[derive(Debug)]
pub struct Postgres {
    server: Server,
    password: String,
}

impl Postgres {
    /// Makes a cluster and starts it. It ends with the process and leaves nothing.
    pub fn start() -> Result<Self, ServerError> {
        let programs = programs()?;
        let (dir, port) = (data_dir("postgres")?, free_port()?);
        let password = random_word();
        let secret = dir.join("password");
        std::fs::write(&secret, &password).map_err(ServerError::io("writing a password"))?;
        if rustix::process::geteuid().is_root() {
            run(Command::new("chown").arg(USER).arg(&dir).arg(&secret))?;
        }
        let data = dir.join("data");
        let mut make = as_user(&programs.join("initdb"));
        make.arg("-D").arg(&data).args(["-U", "auditor", "-A", "scram-sha-256", "-E", "UTF8", "--locale=C"]);
        run(make.arg("--no-sync").arg("--pwfile").arg(&secret))?;
        let mut serve = as_user(&programs.join("postgres"));
        serve.arg("-D").arg(&data).args(["-p", &port.to_string(), "-c", "listen_addresses=127.0.0.1"]);
        serve.args(["-c", "unix_socket_directories=", "-c", "fsync=off"]);
        let asked = password.clone();
        let server = Server::start_until("postgres", &dir, port, &serve, move |address| {
            let url = format!("postgres://auditor@{address}/postgres");
            sql_command(&url, &asked).args(["-c", "SELECT 1"]).output().is_ok_and(|it| it.status.success())
        })?;
        let made = Self { server, password };
        made.ask("postgres", "CREATE DATABASE auditor");
        Ok(made)
    }

    /// Where its database is, without the password.
    pub fn url(&self) -> String {
        format!("postgres://auditor@{}/auditor", self.server.address())
    }

    /// The same with the password.
    pub fn url_with_password(&self) -> String {
        format!("postgres://auditor:{}@{}/auditor", self.password, self.server.address())
    }

    /// The password of its one user.
    pub fn password(&self) -> &str {
        &self.password
    }

    /// What the database answers to these statements.
    pub fn sql(&self, statements: &str) -> String {
        self.ask("auditor", statements)
    }

    fn ask(&self, database: &str, statements: &str) -> String {
        let url = format!("postgres://auditor@{}/{database}", self.server.address());
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("statements.sql");
        std::fs::write(&file, statements).unwrap();
        let output = sql_command(&url, &self.password).arg("-f").arg(file).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    }
}

fn sql_command(url: &str, password: &str) -> Command {
    let mut command = Command::new("psql");
    command.args(["-X", "-q", "-A", "-t", "-w", "-v", "ON_ERROR_STOP=1", "-d", url]);
    command.env("PGPASSWORD", password);
    command
}

/// Where the server's programs are: Debian keeps them off the PATH.
fn programs() -> Result<PathBuf, ServerError> {
    let below = |root: &str| std::fs::read_dir(root).into_iter().flatten().flatten();
    let versions = below("/usr/lib/postgresql").map(|entry| entry.path().join("bin"));
    let on_path = std::env::var_os("PATH").unwrap_or_default();
    let candidates = std::env::split_paths(&on_path).chain(versions);
    let found = candidates.filter(|folder| ["initdb", "postgres"].iter().all(|it| folder.join(it).exists()));
    found.last().ok_or_else(|| ServerError::Missing("no PostgreSQL server here: run .ci/install".into()))
}

fn as_user(program: &Path) -> Command {
    if !rustix::process::geteuid().is_root() {
        return Command::new(program);
    }
    let mut command = Command::new("setpriv");
    command.args(["--reuid", USER, "--regid", USER, "--clear-groups"]).arg(program);
    command
}
