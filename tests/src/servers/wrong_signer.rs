//! A KMS that lies without meaning to.

use std::process::Command;

use super::error::ServerError;
use super::process::{Server, data_dir, free_port};
use super::python::{Pythons, environment};

/// moto's KMS hashes a digest once more before it signs, and signs with keys that are switched off. Its
/// answers look right and verify for nobody who asked for them: what it is here for.
pub fn wrong_signer() -> Result<Server, ServerError> {
    let venv = environment("moto", Pythons { min: 11, max: 13 }, include_str!("requirements/moto.txt"))?;
    let (dir, port) = (data_dir("moto")?, free_port()?);
    let mut command = Command::new(venv.join("bin/moto_server"));
    command.args(["-H", "127.0.0.1", "-p", &port.to_string()]);
    Server::start("moto", &dir, port, "/moto-api/data.json", &command)
}
