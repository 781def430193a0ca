//! The two emulators of AWS.

use std::process::Command;
use std::sync::OnceLock;

use super::error::ServerError;
use super::process::{Server, data_dir, free_port};
use super::python::{Pythons, environment};

/// An emulator of S3 and KMS. What each enforces is in the documentation of the tests that use it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Emulator {
    /// Fast; KMS with Ed25519. Does not lock what was uploaded in parts.
    MiniStack,
    /// Closest to AWS in Object Lock.
    LocalStack,
}

impl Emulator {
    /// Both, for tests that must hold on either.
    pub const ALL: [Self; 2] = [Self::MiniStack, Self::LocalStack];

    /// Installs it if need be and starts one of one's own.
    pub fn start(self) -> Result<Server, ServerError> {
        match self {
            Self::MiniStack => ministack(),
            Self::LocalStack => localstack(),
        }
    }

    /// One server for all tests of this process. It ends with the process.
    pub fn shared(self) -> Result<&'static Server, &'static ServerError> {
        static SERVERS: [OnceLock<Result<Server, ServerError>>; 2] = [OnceLock::new(), OnceLock::new()];
        let [ministack, localstack] = &SERVERS;
        let server = match self {
            Self::MiniStack => ministack,
            Self::LocalStack => localstack,
        };
        server.get_or_init(|| self.start()).as_ref()
    }
}

fn ministack() -> Result<Server, ServerError> {
    let pythons = Pythons { min: 11, max: 13 };
    let venv = environment("ministack", pythons, include_str!("requirements/ministack.txt"))?;
    let (dir, port) = (data_dir("ministack")?, free_port()?);
    let mut command = Command::new(venv.join("bin/ministack"));
    command
        // Without these it listens on every address.
        .env("BIND_HOST", "127.0.0.1")
        .env("MINISTACK_HOST", "127.0.0.1")
        .env("GATEWAY_PORT", port.to_string())
        .env("IOT_MTLS_ENABLED", "0")
        .env("SFTP_ENABLED", "0");
    Server::start("ministack", &dir, port, "/_ministack/health", &command)
}

fn localstack() -> Result<Server, ServerError> {
    let pythons = Pythons { min: 12, max: 13 };
    let venv = environment("localstack", pythons, include_str!("requirements/localstack.txt"))?;
    let (dir, port) = (data_dir("localstack")?, free_port()?);
    let mut command = Command::new(venv.join("bin/python"));
    command
        .args(["-m", "localstack.runtime.main"])
        // Only this server honours the host of GATEWAY_LISTEN; the default one listens on every address.
        .env("GATEWAY_SERVER", "hypercorn")
        .env("GATEWAY_LISTEN", format!("127.0.0.1:{port}"))
        .env("SERVICES", "s3,kms")
        .env("SKIP_SSL_CERT_DOWNLOAD", "1")
        .env("DISABLE_EVENTS", "1")
        .env("DNS_ADDRESS", "0")
        .env("LOCALSTACK_VOLUME_DIR", dir.join("volume"))
        .env("FILESYSTEM_ROOT", dir.join("volume"));
    Server::start("localstack", &dir, port, "/_localstack/health", &command)
}
