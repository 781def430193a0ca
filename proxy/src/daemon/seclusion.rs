//! Keeps what is in this process's memory in this process.
//!
//! Key material of the software backend, cloud credentials and TLS keys must be in memory while they are
//! used. A crash must not write them to a disk, and another process of the same user must not read them.

use rustix::process::{DumpableBehavior, Resource, Rlimit, set_dumpable_behavior, setrlimit};

/// proc(5): which mappings a core dump holds. None, should somebody lift the limit from outside.
const DUMPED: (&str, &str) = ("/proc/self/coredump_filter", "0\n");

/// What could not be arranged, each with its cause; empty on any ordinary Linux.
///
/// Call it before the first secret is read. Children begin without core dumps, too.
pub fn seclude() -> Vec<String> {
    let (file, nothing) = DUMPED;
    let none = Rlimit { current: Some(0), maximum: Some(0) };
    // The file is root's as soon as the process is not dumpable, so it comes first.
    let steps = [
        ("empty core dumps", std::fs::write(file, nothing).map_err(|error| error.to_string())),
        ("no core dumps", setrlimit(Resource::Core, none).map_err(|error| error.to_string())),
        (
            "no reading of memory by others",
            set_dumpable_behavior(DumpableBehavior::NotDumpable).map_err(|error| error.to_string()),
        ),
    ];
    let failed = steps.into_iter().filter_map(|(what, done)| Some(format!("{what}: {}", done.err()?)));
    failed.collect()
}
