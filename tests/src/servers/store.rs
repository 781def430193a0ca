//! Object stores that enforce Object Lock, each written by others than the rest.

use std::path::PathBuf;
use std::process::Command;
use std::sync::OnceLock;

use super::error::ServerError;
use super::process::{Server, data_dir, free_port};
use super::python::{Pythons, environment};

/// A server that speaks S3 and locks objects.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ObjectStore {
    /// Emulator of AWS; fast; KMS with Ed25519. Does not lock what was uploaded in parts.
    MiniStack,
    /// Emulator of AWS, closest to it in Object Lock; KMS.
    LocalStack,
    /// Ceph's RADOS Gateway: a real store, which checks request signatures, ignores create-only in versioned
    /// buckets and ignores SHA-256 checksums. Access key and secret are `test`. Needs the Debian packages
    /// `ceph-mon ceph-osd radosgw ceph-common`, so no test that runs by default may want it.
    CephGateway,
}

impl ObjectStore {
    /// Installs it if need be and starts one of one's own.
    pub fn start(self) -> Result<Server, ServerError> {
        match self {
            Self::MiniStack => ministack(),
            Self::LocalStack => localstack(),
            Self::CephGateway => ceph_gateway(),
        }
    }

    /// One server for all tests of this process. It ends with the process.
    pub fn shared(self) -> Result<&'static Server, &'static ServerError> {
        type Shared = OnceLock<Result<Server, ServerError>>;
        static MINISTACK: Shared = OnceLock::new();
        static LOCALSTACK: Shared = OnceLock::new();
        static CEPH_GATEWAY: Shared = OnceLock::new();
        let server = match self {
            Self::MiniStack => &MINISTACK,
            Self::LocalStack => &LOCALSTACK,
            Self::CephGateway => &CEPH_GATEWAY,
        };
        server.get_or_init(|| self.start()).as_ref()
    }
}

fn ministack_environment() -> Result<PathBuf, ServerError> {
    environment("ministack", Pythons { min: 11, max: 13 }, include_str!("requirements/ministack.txt"))
}

/// A Python with the package `cryptography`: what the reference verifier runs on.
pub fn python_with_cryptography() -> Result<PathBuf, ServerError> {
    Ok(ministack_environment()?.join("bin/python"))
}

fn ministack() -> Result<Server, ServerError> {
    let venv = ministack_environment()?;
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

fn ceph_gateway() -> Result<Server, ServerError> {
    for program in ["ceph", "ceph-mon", "ceph-osd", "radosgw", "radosgw-admin"] {
        let found = Command::new(program).arg("--version").output();
        if !found.is_ok_and(|output| output.status.success()) {
            return Err(ServerError::Missing(format!(
                "no {program}: apt-get install --no-install-recommends ceph-mon ceph-osd radosgw ceph-common"
            )));
        }
    }
    let (dir, port) = (data_dir("ceph")?, free_port()?);
    let mut command = Command::new("sh");
    command.args(["-c", include_str!("ceph.sh"), "ceph"]).arg(&dir);
    command.args([free_port()?.to_string(), port.to_string()]);
    Server::start("ceph", &dir, port, "/", &command)
}
