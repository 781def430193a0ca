//! Installing once: a folder per recipe, a lock around it, a marker when it is whole.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use chancery_format::Hash;

use super::error::ServerError;

/// Times a command that downloads is tried.
const ATTEMPTS: u32 = 3;
/// Bytes of a failed command's output that are kept.
const OUTPUT_BYTES_MAX: usize = 4000;

/// Where downloads and builds of tests live: `CHANCERY_CACHE`, or `chancery` in the user's cache folder.
pub fn cache_dir() -> PathBuf {
    let from = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    from("CHANCERY_CACHE")
        .or_else(|| from("XDG_CACHE_HOME").map(|cache| cache.join("chancery")))
        .or_else(|| from("HOME").map(|home| home.join(".cache/chancery")))
        .unwrap_or_else(|| std::env::temp_dir().join("chancery-cache"))
}

/// The folder in which `install` ran to its end for exactly this `recipe`, now or earlier. Other threads and
/// processes that want the same wait.
pub fn install_once(
    name: &str,
    recipe: &str,
    install: impl FnOnce(&Path) -> Result<(), ServerError>,
) -> Result<PathBuf, ServerError> {
    let servers = cache_dir().join("servers");
    fs::create_dir_all(&servers).map_err(ServerError::io(format!("making {}", servers.display())))?;
    let version: String = Hash::of(&[recipe.as_bytes()]).to_hex().chars().take(12).collect();
    let dir = servers.join(format!("{name}-{version}"));
    let marker = dir.join("installed");
    let lock_path = servers.join(format!("{name}.lock"));
    let lock =
        File::create(&lock_path).map_err(ServerError::io(format!("opening {}", lock_path.display())))?;
    // Released when the file is closed, also by the death of the process.
    lock.lock().map_err(ServerError::io(format!("locking {}", lock_path.display())))?;
    if marker.exists() {
        return Ok(dir);
    }
    if dir.exists() {
        fs::remove_dir_all(&dir).map_err(ServerError::io("removing an unfinished installation"))?;
    }
    fs::create_dir_all(&dir).map_err(ServerError::io(format!("making {}", dir.display())))?;
    install(&dir)?;
    fs::write(&marker, recipe).map_err(ServerError::io("marking the installation"))?;
    Ok(dir)
}

/// Runs a command to its end, again if it fails; what it prints is shown only if it keeps failing.
pub(crate) fn run(command: &mut Command) -> Result<String, ServerError> {
    let mut failure = String::new();
    for attempt in 0..ATTEMPTS {
        if attempt > 0 {
            std::thread::sleep(Duration::from_secs(2));
        }
        match command.stdin(std::process::Stdio::null()).output() {
            Ok(output) if output.status.success() => {
                return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
            }
            Ok(output) => {
                let both = [output.stdout, output.stderr].concat();
                failure = tail(&String::from_utf8_lossy(&both));
            }
            Err(error) => failure = error.to_string(),
        }
    }
    Err(ServerError::Command { command: format!("{command:?}"), output: failure })
}

/// The end of a long text.
pub(crate) fn tail(text: &str) -> String {
    let from = text.len().saturating_sub(OUTPUT_BYTES_MAX);
    text.get(text.ceil_char_boundary(from)..).unwrap_or_default().to_owned()
}
