//! Why a server is not there.

use std::path::PathBuf;

/// A server could not be installed or started. The text says what to do; the test that wanted it fails.
#[derive(Debug, thiserror::Error)]
pub enum ServerError {
    /// The file system refused.
    #[error("{what}: {source}")]
    Io {
        /// What was being done.
        what: String,
        /// Why it failed.
        source: std::io::Error,
    },
    /// A command of the installation failed each time it was tried.
    #[error("`{command}` failed:\n{output}")]
    Command {
        /// The command line.
        command: String,
        /// End of what it printed.
        output: String,
    },
    /// Something the machine must bring is missing.
    #[error("{0}")]
    Missing(String),
    /// It was started, but did not answer in time, or ended.
    #[error("{name} did not come up within {seconds} s; its log {log} ends:\n{tail}", log = .log.display())]
    NotReady {
        /// Which server.
        name: &'static str,
        /// How long it had.
        seconds: u64,
        /// Its log, gone with the server.
        log: PathBuf,
        /// The end of that log.
        tail: String,
    },
}

impl ServerError {
    /// For `map_err`.
    pub(crate) fn io(what: impl Into<String>) -> impl FnOnce(std::io::Error) -> Self {
        let what = what.into();
        move |source| Self::Io { what, source }
    }
}
