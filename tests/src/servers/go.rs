//! The Go program below `reference/go`, built once per version of its sources.

use std::path::{Path, PathBuf};
use std::process::Command;

use super::error::ServerError;
use super::install::{cache_dir, install_once, run};

/// All that the program is made of: another byte is another build.
const SOURCES: [&str; 4] = [
    include_str!("../../reference/go/go.mod"),
    include_str!("../../reference/go/go.sum"),
    include_str!("../../reference/go/main.go"),
    include_str!("../../reference/go/folder.go"),
];

/// The built program. Go 1.19 will do; its caches stay inside ours, its module has the hash of `go.sum`.
pub fn go_reference() -> Result<PathBuf, ServerError> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("reference/go");
    built("go-reference", &SOURCES.concat(), &folder)
}

/// The program in this folder, built once for these sources.
pub(crate) fn built(name: &str, sources: &str, folder: &Path) -> Result<PathBuf, ServerError> {
    let dir = install_once(name, sources, |dir| {
        if !Command::new("go").arg("version").output().is_ok_and(|output| output.status.success()) {
            return Err(ServerError::Missing("no go on the PATH: run .ci/install, or install Go".into()));
        }
        let cache = cache_dir().join("go");
        let mut build = Command::new("go");
        build
            .args(["build", "-o"])
            .arg(dir.join(name))
            .arg(".")
            .current_dir(folder)
            .env("GOCACHE", cache.join("build"))
            .env("GOMODCACHE", cache.join("modules"))
            // Modules are written so that deleting the cache is possible for whoever owns it.
            .env("GOFLAGS", "-mod=readonly -modcacherw -buildvcs=false")
            .env("GOTOOLCHAIN", "local")
            .env("GOWORK", "off")
            .env("CGO_ENABLED", "0");
        run(&mut build).map(drop)
    })?;
    Ok(dir.join(name))
}
