//! Python environments from locked requirements.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::error::ServerError;
use super::install::{cache_dir, install_once, run};

/// Resolves and installs in seconds what pip takes minutes for.
const UV: &str = "uv==0.13.8";

/// Lowest and highest minor version of CPython 3 that will do.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Pythons {
    pub(crate) min: u32,
    pub(crate) max: u32,
}

/// A folder with an environment in `venv`, holding exactly `requirements` (pinned, with hashes).
pub(crate) fn environment(name: &str, pythons: Pythons, requirements: &str) -> Result<PathBuf, ServerError> {
    let recipe = format!("{UV}\n{pythons:?}\n{requirements}");
    let dir = install_once(name, &recipe, |dir| {
        let uv = uv()?;
        let python = find(pythons).map_or_else(|| download(&uv, pythons), Ok)?;
        let locked = dir.join("requirements.txt");
        std::fs::write(&locked, requirements).map_err(ServerError::io("writing requirements"))?;
        let venv = dir.join("venv");
        run(quiet(Command::new(&uv))
            .args(["venv", "--clear", "--no-python-downloads", "-p"])
            .arg(&python)
            .arg(&venv))?;
        let mut install = quiet(Command::new(&uv));
        install.args(["pip", "install", "--no-cache", "--require-hashes", "--python"]);
        run(install.arg(venv.join("bin/python")).arg("-r").arg(&locked))?;
        Ok(())
    })?;
    Ok(dir.join("venv"))
}

fn quiet(mut command: Command) -> Command {
    command.env("UV_NO_PROGRESS", "1").env("UV_NO_CONFIG", "1");
    command
}

/// uv itself, through pip.
fn uv() -> Result<PathBuf, ServerError> {
    let dir = install_once("uv", UV, |dir| {
        let venv = dir.join("venv");
        run(Command::new("python3").args(["-m", "venv", "--clear"]).arg(&venv))?;
        run(Command::new(venv.join("bin/pip")).args(["install", "--quiet", "--no-cache-dir", UV])).map(drop)
    })?;
    Ok(dir.join("venv/bin/uv"))
}

/// Where the machine has no interpreter that will do (Debian 12 has 3.11 alone): one of uv's own builds, which
/// come from GitHub.
fn download(uv: &Path, Pythons { min, max }: Pythons) -> Result<PathBuf, ServerError> {
    let wanted = format!("3.{max}");
    let all = cache_dir().join("servers/pythons");
    let uv = |arguments: &[&str]| {
        let mut command = quiet(Command::new(uv));
        command.args(arguments).arg(&wanted).env("UV_PYTHON_INSTALL_DIR", &all);
        run(&mut command).map_err(|error| {
            ServerError::Missing(format!(
                "no CPython 3.{min} to 3.{max}: not in CHANCERY_PYTHON, on the PATH or below pyenv's versions, \
                 and downloading one failed: {error}"
            ))
        })
    };
    uv(&["python", "install", "--no-bin"])?;
    let found = uv(&["python", "find", "--managed-python"])?;
    Ok(PathBuf::from(found.trim()))
}

/// The newest interpreter that will do.
fn find(pythons: Pythons) -> Option<PathBuf> {
    let minors = || (pythons.min..=pythons.max).rev();
    let mut candidates: Vec<PathBuf> =
        std::env::var_os("CHANCERY_PYTHON").map(PathBuf::from).into_iter().collect();
    candidates.extend(minors().map(|minor| PathBuf::from(format!("python3.{minor}"))));
    candidates.push(PathBuf::from("python3"));
    candidates.extend(below_pyenv());
    let usable = |candidate: &PathBuf| {
        let minor = minor_version(candidate)?;
        (pythons.min..=pythons.max).contains(&minor).then_some(minor)
    };
    let found = candidates.iter().filter_map(|candidate| Some((usable(candidate)?, candidate.clone())));
    found.max_by_key(|(minor, _)| *minor).map(|(_, path)| path)
}

/// Interpreters that pyenv keeps off the PATH.
fn below_pyenv() -> Vec<PathBuf> {
    let root = std::env::var_os("PYENV_ROOT").map(PathBuf::from).or_else(|| {
        let home: OsString = std::env::var_os("HOME")?;
        Some(Path::new(&home).join(".pyenv"))
    });
    let Some(versions) = root.and_then(|root| std::fs::read_dir(root.join("versions")).ok()) else {
        return Vec::new();
    };
    versions
        .filter_map(|entry| Some(entry.ok()?.path().join("bin/python3")))
        .filter(|path| path.exists())
        .collect()
}

/// `None` unless `python` runs and is CPython 3.
fn minor_version(python: &Path) -> Option<u32> {
    let program = "import sys, venv; assert sys.version_info[0] == 3; print(sys.version_info[1])";
    let output = Command::new(python).args(["-c", program]).stdin(Stdio::null()).output().ok()?;
    String::from_utf8(output.stdout).ok()?.trim().parse().ok()
}
