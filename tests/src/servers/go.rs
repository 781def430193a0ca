//! The Go program below `reference/go`, built once per version of its sources.

use std::path::{Path, PathBuf};

use super::error::ServerError;
use super::install::{install_once, run};
use super::transparency::{go, go_program};

/// All that the program is made of: another byte is another build.
const SOURCES: [&str; 6] = [
    include_str!("../../reference/go/go.mod"),
    include_str!("../../reference/go/go.sum"),
    include_str!("../../reference/go/main.go"),
    include_str!("../../reference/go/folder.go"),
    include_str!("../../reference/go/mldsa.go"),
    include_str!("../../reference/go/log.go"),
];

/// The built program. Its modules have the hashes of `go.sum`; they ask for Go 1.25, which is had from the module proxy
/// where the machine's is older.
pub fn go_reference() -> Result<PathBuf, ServerError> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("reference/go");
    built("go-reference", &SOURCES.concat(), &folder)
}

/// The program in this folder, built once for these sources.
pub(crate) fn built(name: &str, sources: &str, folder: &Path) -> Result<PathBuf, ServerError> {
    let dir = install_once(name, sources, |dir| {
        let mut build = go(&go_program()?);
        build.args(["build", "-o"]).arg(dir.join(name)).arg(".").current_dir(folder);
        run(&mut build).map(drop)
    })?;
    Ok(dir.join(name))
}
