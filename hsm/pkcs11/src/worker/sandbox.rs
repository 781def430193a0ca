//! The fence around the worker, put up before the vendor's module is loaded.
//!
//! Every wall is tried; what the kernel does not offer is left out and reported. Nothing here can be taken
//! down again by the process it holds, nor by what that process starts.
//!
//! Some modules keep their tokens in files and write them at every login; `quirks.rs` knows where.

use std::collections::BTreeMap;
use std::fs::OpenOptions;
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};

use landlock::{
    ABI, Access as _, AccessFs, AccessNet, CompatLevel, Compatible as _, PathBeneath, PathFd, Ruleset,
    RulesetAttr as _, RulesetCreatedAttr as _, RulesetStatus, Scope,
};
use rustix::process::{
    DumpableBehavior, Resource, Rlimit, Signal, getppid, set_dumpable_behavior,
    set_parent_process_death_signal, setrlimit,
};
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter, SeccompRule,
};

use crate::message::Setup;
use crate::sandbox_report::{SandboxReport, Wall};

/// Newest Landlock interface whose rights are asked for; older kernels give what they have.
const LANDLOCK: ABI = ABI::V5;

/// Written by anybody, kept by nobody.
const HARMLESS: [&str; 3] = ["/dev/null", "/dev/zero", "/dev/full"];

type Built = Result<(), String>;

/// Puts up every wall there is.
pub(crate) fn put_up(setup: &Setup) -> SandboxReport {
    let walls: [(&str, Built); 8] = [
        ("no-inheritance", nothing_inherited()),
        ("no-new-privileges", rustix::thread::set_no_new_privs(true).map_err(text)),
        ("no-core", setrlimit(Resource::Core, Rlimit { current: Some(0), maximum: Some(0) }).map_err(text)),
        ("not-dumpable", set_dumpable_behavior(DumpableBehavior::NotDumpable).map_err(text)),
        ("ends-with-parent", end_with_parent(setup.parent_pid)),
        ("files", fence_files(setup)),
        ("signals", fence_signals()),
        ("system-calls", filter_calls(setup.network)),
    ];
    let walls = walls.into_iter().map(|(name, built)| Wall { name: name.to_owned(), missing: built.err() });
    SandboxReport { walls: walls.collect() }
}

fn text(error: impl std::fmt::Display) -> String {
    error.to_string()
}

/// Besides standard input, output, error and our socket there should be no descriptor.
fn nothing_inherited() -> Built {
    let found = std::fs::read_dir("/proc/self/fd").map_err(text)?;
    let names = found.flatten().filter_map(|entry| {
        let number: u32 = entry.file_name().to_str()?.parse().ok()?;
        let target = std::fs::read_link(entry.path()).ok()?;
        (number > 2).then_some(target)
    });
    // Our socket twice (reading and writing side), and the directory being read.
    let (sockets, others): (Vec<_>, Vec<_>) =
        names.partition(|target| target.to_string_lossy().starts_with("socket:"));
    let others: Vec<_> = others.into_iter().filter(|target| !target.starts_with("/proc")).collect();
    if sockets.len() <= 2 && others.is_empty() {
        return Ok(());
    }
    Err(format!(
        "{} descriptors came from the daemon's own parent",
        sockets.len().saturating_sub(2) + others.len()
    ))
}

fn end_with_parent(parent_pid: u64) -> Built {
    set_parent_process_death_signal(Some(Signal::KILL)).map_err(text)?;
    let parent = getppid().map(|pid| pid.as_raw_nonzero().get());
    if parent.and_then(|pid| u64::try_from(pid).ok()) == Some(parent_pid) {
        return Ok(());
    }
    Err("another process is the parent".to_owned())
}

/// Landlock: files are written only where the operator said, and TCP is not used.
fn fence_files(setup: &Setup) -> Built {
    let writes = AccessFs::from_write(LANDLOCK);
    let mut ruleset = Ruleset::default().set_compatibility(CompatLevel::BestEffort);
    if !setup.provisioning {
        ruleset = ruleset.handle_access(writes).map_err(text)?;
    }
    if !setup.network {
        ruleset = ruleset.handle_access(AccessNet::from_all(LANDLOCK)).map_err(text)?;
    }
    if setup.provisioning && setup.network {
        return Err("a token is being provisioned".to_owned());
    }
    let mut created = ruleset.create().map_err(text)?;
    if !setup.provisioning {
        let harmless = HARMLESS.iter().map(PathBuf::from).filter(|path| path.exists());
        let store = crate::quirks::store(&setup.module_file, |name| std::env::var_os(name));
        for path in setup.writable.iter().cloned().chain(store).chain(harmless) {
            let opened = PathFd::new(&path).map_err(text)?;
            let rights = if path.is_dir() { writes } else { writes & AccessFs::from_file(LANDLOCK) };
            created = created.add_rule(PathBeneath::new(opened, rights)).map_err(text)?;
        }
    }
    let status = created.restrict_self().map_err(text)?;
    match status.ruleset {
        _ if setup.provisioning => Err("a token is being provisioned".to_owned()),
        RulesetStatus::FullyEnforced => Ok(()),
        RulesetStatus::PartiallyEnforced => Err("the kernel's Landlock is older; in part".to_owned()),
        RulesetStatus::NotEnforced => Err("the kernel has no Landlock".to_owned()),
    }
}

/// Landlock, newer: no signals to processes outside, the daemon first of all.
fn fence_signals() -> Built {
    let ruleset = Ruleset::default().set_compatibility(CompatLevel::BestEffort);
    let scoped = ruleset.scope(Scope::Signal).and_then(|ruleset| ruleset.create()).map_err(text)?;
    match scoped.restrict_self().map_err(text)?.ruleset {
        RulesetStatus::FullyEnforced => Ok(()),
        _ => Err("the kernel's Landlock does not know of signals".to_owned()),
    }
}

/// Calls no module has business with: other processes' memory, the kernel's own workings, ways around
/// this filter.
const REFUSED: [libc::c_long; 44] = [
    libc::SYS_ptrace,
    libc::SYS_process_vm_readv,
    libc::SYS_process_vm_writev,
    libc::SYS_process_madvise,
    libc::SYS_kcmp,
    libc::SYS_pidfd_getfd,
    libc::SYS_kexec_load,
    libc::SYS_kexec_file_load,
    libc::SYS_init_module,
    libc::SYS_finit_module,
    libc::SYS_delete_module,
    libc::SYS_mount,
    libc::SYS_umount2,
    libc::SYS_pivot_root,
    libc::SYS_chroot,
    libc::SYS_move_mount,
    libc::SYS_open_tree,
    libc::SYS_fsopen,
    libc::SYS_fsconfig,
    libc::SYS_fsmount,
    libc::SYS_fspick,
    libc::SYS_mount_setattr,
    libc::SYS_bpf,
    libc::SYS_perf_event_open,
    libc::SYS_userfaultfd,
    libc::SYS_io_uring_setup,
    libc::SYS_io_uring_enter,
    libc::SYS_io_uring_register,
    libc::SYS_setns,
    libc::SYS_unshare,
    libc::SYS_add_key,
    libc::SYS_request_key,
    libc::SYS_keyctl,
    libc::SYS_reboot,
    libc::SYS_swapon,
    libc::SYS_swapoff,
    libc::SYS_settimeofday,
    libc::SYS_clock_settime,
    libc::SYS_adjtimex,
    libc::SYS_acct,
    libc::SYS_sethostname,
    libc::SYS_setdomainname,
    libc::SYS_syslog,
    libc::SYS_open_by_handle_at,
];

/// The same calls again under the numbers of the x32 interface, which an x86-64 kernel may have.
const X32: i64 = 0x4000_0000;

fn filter_calls(network: bool) -> Built {
    let mut rules: BTreeMap<i64, Vec<SeccompRule>> = BTreeMap::new();
    let numbers = if cfg!(target_arch = "x86_64") { [0, X32].as_slice() } else { [0].as_slice() };
    for offset in numbers {
        rules.extend(REFUSED.iter().map(|call| (*call | offset, Vec::new())));
        if !network {
            for call in [libc::SYS_socket, libc::SYS_socketpair] {
                rules.insert(call | offset, vec![other_than_unix()?]);
            }
        }
    }
    let refuse = SeccompAction::Errno(libc::EPERM.cast_unsigned());
    let arch = std::env::consts::ARCH.try_into().map_err(text)?;
    let filter = SeccompFilter::new(rules, SeccompAction::Allow, refuse, arch).map_err(text)?;
    let program: BpfProgram = filter.try_into().map_err(text)?;
    seccompiler::apply_filter(&program).map_err(text)
}

/// Modules talk to their daemons through AF_UNIX; every other family is a network or the kernel.
fn other_than_unix() -> Result<SeccompRule, String> {
    let family = u64::from(libc::AF_UNIX.cast_unsigned());
    let condition =
        SeccompCondition::new(0, SeccompCmpArgLen::Dword, SeccompCmpOp::Ne, family).map_err(text)?;
    SeccompRule::new(vec![condition]).map_err(text)
}

/// Tries what the fence forbids, and what it must not; `true` is "could".
pub(crate) fn try_fence(file: &Path) -> Vec<(String, bool)> {
    let write = |path: &Path| OpenOptions::new().write(true).create(true).truncate(false).open(path).is_ok();
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let says = |line: &str| status.lines().any(|found| found.split_whitespace().collect::<String>() == line);
    let (soft_core, hard_core) = {
        let limit = rustix::process::getrlimit(Resource::Core);
        (limit.current, limit.maximum)
    };
    let found = [
        ("tcp-listen", TcpListener::bind("127.0.0.1:0").is_ok()),
        (
            "tcp-connect",
            TcpStream::connect("127.0.0.1:9")
                .is_err_and(|it| it.kind() == std::io::ErrorKind::ConnectionRefused),
        ),
        ("udp", UdpSocket::bind("127.0.0.1:0").is_ok()),
        ("udp6", UdpSocket::bind("[::1]:0").is_ok()),
        ("unix", UnixDatagram::unbound().is_ok()),
        ("write", write(file)),
        ("write-null", write(Path::new("/dev/null"))),
        ("remove", std::fs::remove_file(file).is_ok()),
        ("filtered", says("Seccomp:2")),
        ("no-new-privileges", says("NoNewPrivs:1")),
        ("signal", getppid().is_some_and(|parent| rustix::process::test_kill_process(parent).is_ok())),
        ("core", soft_core != Some(0) || hard_core != Some(0)),
    ];
    found.into_iter().map(|(name, could)| (name.to_owned(), could)).collect()
}
