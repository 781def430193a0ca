//! Lists of checksums as `sha256sum` writes them: one signature over the list vouches for every file in it.
//!
//! Read: `<hex>  <name>` and `<hex> *<name>`, the escaped form of names with newlines or backslashes (a backslash before
//! the line), and the form of `--tag`. Names are relative to the list's own folder. A line that is none of these makes
//! the list invalid: half a list vouches for nothing.

use std::path::{Path, PathBuf};

use chancery_format::{Digest, HashAlgorithm};

/// Largest list read, in bytes.
pub const LIST_BYTES_MAX: u64 = 16 * 1024 * 1024;

/// One file of a list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listed {
    /// Its name as it stands in the list.
    pub name: String,
    /// What its bytes must have.
    pub digest: Digest,
}

/// A list that is none. Its author is at fault.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ListError {
    /// A line that nobody's `sha256sum` writes.
    #[error("line {0} is no line of sha256sum")]
    Line(usize),
    /// A list without files vouches for nothing.
    #[error("it names no file")]
    Empty,
}

/// Whether a file is such a list by its name: `checksum.sha256`, `SHA256SUMS` and the like.
pub fn is_list(path: &Path) -> bool {
    let name = path.file_name().map(|name| name.to_string_lossy().to_ascii_lowercase()).unwrap_or_default();
    name.ends_with(".sha256") || name == "sha256sums" || name == "sha256sums.txt"
}

/// Reads a list.
pub fn parse(text: &str) -> Result<Vec<Listed>, ListError> {
    let lines = text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty());
    let read = lines.map(|(at, text)| line(text).ok_or(ListError::Line(at + 1)));
    let listed: Vec<Listed> = read.collect::<Result<_, _>>()?;
    if listed.is_empty() { Err(ListError::Empty) } else { Ok(listed) }
}

/// Where a listed file is, given where its list is.
pub fn path_of(list: &Path, name: &str) -> PathBuf {
    list.parent().unwrap_or(Path::new("")).join(name)
}

fn line(text: &str) -> Option<Listed> {
    let (is_escaped, text) = match text.strip_prefix('\\') {
        Some(rest) => (true, rest),
        None => (false, text),
    };
    let (hex, name) = match text.strip_prefix("SHA256 (") {
        Some(rest) => {
            let (name, hex) = rest.rsplit_once(") = ")?;
            (hex, name)
        }
        None => {
            let (hex, rest) = text.split_once(' ')?;
            (hex, rest.strip_prefix([' ', '*'])?)
        }
    };
    let name = if is_escaped { unescaped(name)? } else { name.to_owned() };
    let digest = Digest::parse(HashAlgorithm::Sha256.as_str(), &hex.to_ascii_lowercase()).ok()?;
    (!name.is_empty()).then_some(Listed { name, digest })
}

fn unescaped(text: &str) -> Option<String> {
    let mut out = String::with_capacity(text.len());
    let mut letters = text.chars();
    while let Some(letter) = letters.next() {
        out.push(match letter {
            '\\' => match letters.next()? {
                'n' => '\n',
                'r' => '\r',
                '\\' => '\\',
                _ => return None,
            },
            other => other,
        });
    }
    Some(out)
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a failed step is a failed test")]

    use super::*;

    /// What the program itself writes is read; it is the reference.
    #[test]
    fn what_sha256sum_writes_is_read() {
        let folder = tempfile::tempdir().unwrap();
        let names = ["plain", "with space", "new\nline", "back\\slash", "*star", "é"];
        for name in names {
            std::fs::write(folder.path().join(name), name).unwrap();
        }
        for options in [&[][..], &["--binary"], &["--tag"]] {
            let mut sha256sum = std::process::Command::new("sha256sum");
            let output =
                sha256sum.args(options).arg("--").args(names).current_dir(folder.path()).output().unwrap();
            assert!(output.status.success());
            let listed = parse(std::str::from_utf8(&output.stdout).unwrap()).unwrap();
            let wanted = names.map(|name| Listed {
                name: name.to_owned(),
                digest: Digest::of(HashAlgorithm::Sha256, name.as_bytes()),
            });
            assert_eq!(listed, wanted, "{options:?}");
        }
    }

    #[test]
    fn half_a_list_is_none() {
        let hex = "ab".repeat(32);
        for (text, error) in [
            (String::new(), ListError::Empty),
            (format!("{hex}  a\n\n{hex} b\n"), ListError::Line(3)),
            (format!("{hex}  \n"), ListError::Line(1)),
            (format!("{}  a\n", "ab".repeat(31)), ListError::Line(1)),
            (format!("\\{hex}  a\\x\n"), ListError::Line(1)),
            ("# a comment\n".to_owned(), ListError::Line(1)),
        ] {
            assert_eq!(parse(&text), Err(error), "{text:?}");
        }
        assert!(is_list(Path::new("out/checksum.sha256")) && is_list(Path::new("SHA256SUMS")));
        assert!(!is_list(Path::new("model.bin")));
        assert_eq!(path_of(Path::new("out/checksum.sha256"), "a/b"), Path::new("out/a/b"));
    }
}
