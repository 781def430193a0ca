//! Reads a folder of policies: `DIR/*.cedar`, and `DIR/cases/*.json`. The only file reading of this crate.
//!
//! Names starting with a dot are left alone, so that an editor's or a mount's own files do not count.
//! Links are followed. Everything unreadable is told at once.

use std::fs::{self, File};
use std::io::Read as _;
use std::path::Path;

use crate::limits::{FILE_BYTES_MAX, FILES_MAX};
use crate::problem::PolicyProblem;
use crate::set::PolicySet;

/// Files as `(name, text)`, sorted by name.
pub type Files = Vec<(String, String)>;

impl PolicySet {
    /// Reads and checks all `*.cedar` files directly in `folder`.
    ///
    /// # Errors
    /// Everything that cannot be read, or else everything wrong with what was read. The operator is at
    /// fault, or the disk; nothing has changed.
    pub fn load(folder: &Path, default_roles: bool) -> Result<Self, Vec<PolicyProblem>> {
        let files = load_policies(folder)?;
        let borrowed: Vec<_> = files.iter().map(|(name, text)| (name.as_str(), text.as_str())).collect();
        Self::parse(&borrowed, default_roles)
    }
}

/// Reads all `*.cedar` files directly in `folder`, for [`PolicySet::parse`] with others.
///
/// # Errors
/// Everything that cannot be read.
pub fn load_policies(folder: &Path) -> Result<Files, Vec<PolicyProblem>> {
    read(folder, "cedar")
}

/// Reads all `*.json` files directly in `folder/cases`, for [`crate::run_cases`].
///
/// # Errors
/// Everything that cannot be read.
pub fn load_cases(folder: &Path) -> Result<Files, Vec<PolicyProblem>> {
    read(&folder.join("cases"), "json")
}

fn read(folder: &Path, extension: &str) -> Result<Files, Vec<PolicyProblem>> {
    let told = folder.display().to_string();
    let unreadable = |error: std::io::Error| {
        vec![PolicyProblem::whole(&told, error.to_string(), "make the folder, or allow reading it")]
    };
    let mut names = Vec::new();
    for entry in fs::read_dir(folder).map_err(unreadable)? {
        let path = entry.map_err(unreadable)?.path();
        let hidden = path.file_name().is_none_or(|name| name.as_encoded_bytes().starts_with(b"."));
        if !hidden && path.extension().is_some_and(|found| found == extension) {
            names.push(path);
        }
        if names.len() > FILES_MAX {
            let message = format!("more than {FILES_MAX} files *.{extension}");
            return Err(vec![PolicyProblem::whole(&told, message, "is it the right folder?")]);
        }
    }
    names.sort_unstable();
    let (mut files, mut problems) = (Files::new(), Vec::new());
    for path in names {
        match read_one(&path) {
            Ok(file) => files.push(file),
            Err(problem) => problems.push(problem),
        }
    }
    if problems.is_empty() { Ok(files) } else { Err(problems) }
}

fn read_one(path: &Path) -> Result<(String, String), PolicyProblem> {
    let told = path.display().to_string();
    let Some(name) = path.file_name().and_then(|name| name.to_str()) else {
        return Err(PolicyProblem::whole(&told, "the name is not UTF-8", "rename it"));
    };
    let mut bytes = Vec::new();
    File::open(path)
        .and_then(|file| file.take(FILE_BYTES_MAX as u64 + 1).read_to_end(&mut bytes))
        .map_err(|error| PolicyProblem::whole(&told, error.to_string(), "allow reading it"))?;
    if bytes.len() > FILE_BYTES_MAX {
        let message = format!("longer than {FILE_BYTES_MAX} bytes");
        return Err(PolicyProblem::whole(&told, message, "split the file"));
    }
    let text = String::from_utf8(bytes)
        .map_err(|_| PolicyProblem::whole(&told, "the text is not UTF-8", "save it as UTF-8"))?;
    Ok((name.to_owned(), text))
}
