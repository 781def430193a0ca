//! An archive in a folder of its own, and the program run there, as an auditor does it.
#![allow(dead_code, reason = "every test file compiles this and uses another part")]
#![allow(missing_docs, unreachable_pub, reason = "test support")]

use std::path::PathBuf;
use std::process::{Command, Output};

use crate::support::Archive;

/// `archive/` and `signers.json`, gone with the test.
pub struct Folder {
    dir: tempfile::TempDir,
}

impl Folder {
    pub fn new(archive: &Archive) -> Self {
        let dir = tempfile::tempdir().unwrap();
        archive.write_to(&dir.path().join("archive"));
        std::fs::write(dir.path().join("signers.json"), &archive.signers).unwrap();
        Self { dir }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// The program, with these arguments, in the folder.
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_chancery-verify"));
        command.args(arguments).current_dir(self.dir.path());
        command
    }

    /// Runs it to its end, which must be this; what it wrote.
    #[track_caller]
    pub fn run(&self, code: i32, arguments: &[&str]) -> Output {
        let output = self.command(arguments).output().unwrap();
        let (told, wrong) =
            (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert_eq!(output.status.code(), Some(code), "{arguments:?}\n{told}{wrong}");
        output
    }

    /// The same; what it told.
    #[track_caller]
    pub fn expect(&self, code: i32, arguments: &[&str]) -> String {
        String::from_utf8(self.run(code, arguments).stdout).unwrap()
    }
}
