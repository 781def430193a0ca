//! The scripts for users' pipelines: what each fails on, what it says, and what passes.

#![expect(clippy::unwrap_used, reason = "a failed unwrap is the test's failure")]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use tempfile::TempDir;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_path_buf()
}

/// Exit code, and what was printed on both.
struct Ran {
    code: i32,
    stdout: String,
    stderr: String,
}

impl Ran {
    fn from(output: Output) -> Self {
        let text = |bytes| String::from_utf8(bytes).unwrap();
        let (stdout, stderr) = (text(output.stdout), text(output.stderr));
        Self { code: output.status.code().unwrap(), stdout, stderr }
    }

    /// Failed, for exactly these reasons, each with these words.
    #[track_caller]
    fn failed_for(&self, reasons: &[&str]) {
        assert_eq!(self.code, 1, "{}{}", self.stdout, self.stderr);
        let mut lines: Vec<&str> = self.stderr.lines().collect();
        assert_eq!(
            lines.pop(),
            Some(format!("require-kms-check: failed, reasons: {}", reasons.len()).as_str())
        );
        assert_eq!(lines.len(), reasons.len(), "{lines:#?}");
        for (line, reason) in lines.iter().zip(reasons) {
            assert!(line.contains(reason), "{line:?} does not say {reason:?}");
        }
    }

    #[track_caller]
    fn passed(&self, saying: &str) {
        assert_eq!((self.code, self.stderr.as_str()), (0, ""), "{}", self.stdout);
        assert!(self.stdout.contains(saying), "{:?} does not say {saying:?}", self.stdout);
    }

    #[track_caller]
    fn misused(&self, saying: &str) {
        assert_eq!((self.code, self.stdout.as_str()), (2, ""), "{}", self.stderr);
        assert!(self.stderr.contains(saying), "{:?} does not say {saying:?}", self.stderr);
    }
}

/// A command with nothing of this machine's environment but the path to its tools, and no repository above it.
fn command(program: &str, folder: &Path) -> Command {
    let mut command = Command::new(program);
    command.env_clear().env("PATH", std::env::var_os("PATH").unwrap());
    command.env("HOME", folder).env("GIT_CEILING_DIRECTORIES", std::env::temp_dir());
    command.current_dir(folder);
    command
}

/// The guard, by the shell that `sh` is and by bash: both must say the same.
fn guard(variables: &[(&str, &str)], arguments: &[&str]) -> Ran {
    let folder = tempfile::tempdir().unwrap();
    guard_in(folder.path(), variables, arguments)
}

fn guard_in(folder: &Path, variables: &[(&str, &str)], arguments: &[&str]) -> Ran {
    let script = root().join("deploy/ci/require-kms-check");
    let [by_sh, by_bash] = ["sh", "bash"].map(|shell| {
        let mut command = command(shell, folder);
        Ran::from(command.arg(&script).args(arguments).envs(variables.iter().copied()).output().unwrap())
    });
    assert_eq!((by_sh.code, &by_sh.stdout, &by_sh.stderr), (by_bash.code, &by_bash.stdout, &by_bash.stderr));
    by_sh
}

const MAIN: &[&str] = &["--protected", "main,release/*", "--branch", "main"];
const KEY: (&str, &str) = ("AUDIT_SIGNING_KMS_KEY_ID", "arn:aws:kms:eu-central-1:1:key/a");
const REGION: (&str, &str) = ("AWS_REGION", "eu-central-1");

#[test]
fn what_requires_nothing_and_is_not_protected_passes() {
    guard(&[], &[]).passed("no branch is protected");
    guard(&[], &["--protected", "main,release/*", "--branch", "topic/x"]).passed("not protected");
    guard(&[("REQUIRE_KMS", "false"), ("DEV_SKIP_MTLS", "true")], &[]).passed("no branch is protected");
}

#[test]
fn a_protected_branch_needs_kms_and_mutual_tls_in_every_spelling_of_yes() {
    for yes in ["true", "TRUE", "True", "1", "yes", "Yes", "y", "Y", "on", "ON", " on "] {
        guard(&[("REQUIRE_KMS", yes), ("REQUIRE_MTLS", yes), KEY, REGION], MAIN).passed("is protected");
    }
    guard(&[], MAIN).failed_for(&["REQUIRE_KMS is not set", "REQUIRE_MTLS is not set"]);
    for no in ["false", "0", "no", "off", "ture", "yes please", "2"] {
        let said = [format!("REQUIRE_KMS is \"{no}\""), format!("REQUIRE_MTLS is \"{no}\"")];
        let said = said.each_ref().map(String::as_str);
        guard(&[("REQUIRE_KMS", no), ("REQUIRE_MTLS", no), KEY, REGION], MAIN).failed_for(&said);
    }
    guard(&[("REQUIRE_KMS", "1"), KEY, REGION], MAIN).failed_for(&["REQUIRE_MTLS is not set"]);
    guard(&[("REQUIRE_MTLS", " ")], MAIN).failed_for(&["REQUIRE_KMS is not set", "REQUIRE_MTLS is not set"]);
}

#[test]
fn development_switches_have_no_place_on_a_protected_branch() {
    let good = [("REQUIRE_KMS", "true"), ("REQUIRE_MTLS", "true"), KEY, REGION];
    let with = |more: &[(&'static str, &'static str)]| [&good[..], more].concat();
    let both = with(&[("DEV_SKIP_MTLS", "true"), ("DEV_ALLOW_EPHEMERAL", "On")]);
    guard(&both, MAIN).failed_for(&["DEV_SKIP_MTLS", "DEV_ALLOW_EPHEMERAL"]);
    guard(&both, &["--protected", "main", "--branch", "topic"]).passed("not protected");
    guard(&with(&[("DEV_SKIP_MTLS", "false"), ("DEV_ALLOW_EPHEMERAL", "")]), MAIN).passed("is protected");
}

#[test]
fn what_is_required_must_be_configured_on_any_branch() {
    let (no_key, no_place) = ("no *_KMS_KEY or *_KMS_KEY_ID", "neither *KMS_ENDPOINT nor AWS_REGION");
    let kms = ("REQUIRE_KMS", "yes");
    guard(&[kms], &[]).failed_for(&[no_key, no_place]);
    guard(&[kms, KEY], &[]).failed_for(&[no_place]);
    guard(&[kms, REGION], &[]).failed_for(&[no_key]);
    guard(&[kms, (KEY.0, " "), ("AWS_REGION", "")], &[]).failed_for(&[no_key, no_place]);
    // Another variable's second line is no variable.
    let lines = ("NOTES", "first\nX_KMS_KEY=a\nKMS_ENDPOINT=b");
    guard(&[kms, lines], &[]).failed_for(&[no_key, no_place]);
    for key in ["MANIFEST_SIGNING_KMS_KEY_ID", "FINANCE_KMS_KEY", "KMS_KEY_ID"] {
        for place in ["KMS_ENDPOINT", "FINANCE_KMS_ENDPOINT", "AWS_REGION", "AWS_DEFAULT_REGION"] {
            guard(&[kms, (key, "k"), (place, "p")], &[]).passed("passed");
        }
    }
    guard(&[("REQUIRE_SIGNING_PROXY", "1")], &[]).failed_for(&["SIGNING_PROXY_URL is not set"]);
    guard(&[("REQUIRE_SIGNING_PROXY", "1"), ("SIGNING_PROXY_URL", "https://proxy:8443")], &[])
        .passed("passed");
    let all = guard(&[kms, ("DEV_SKIP_MTLS", "1"), ("REQUIRE_SIGNING_PROXY", "y")], MAIN);
    all.failed_for(&["REQUIRE_MTLS", "DEV_SKIP_MTLS", no_key, no_place, "SIGNING_PROXY_URL"]);
}

#[test]
fn the_branch_and_its_protection_come_from_where_they_are_known() {
    let wants = |ran: Ran, guarded: bool| assert_eq!(ran.code, i32::from(guarded), "{}", ran.stdout);
    for (branch, guarded) in [
        ("main", true),
        ("refs/heads/main", true),
        ("release/1", true),
        ("release/1/2", true),
        ("mains", false),
        ("release", false),
        ("topic/main", false),
    ] {
        wants(guard(&[], &["--protected=main, release/*", &format!("--branch={branch}")]), guarded);
        wants(
            guard(&[("PROTECTED_BRANCHES", "main,release/*"), ("CI_COMMIT_REF_NAME", branch)], &[]),
            guarded,
        );
        wants(guard(&[("BUILD_SOURCEBRANCH", branch)], &["--protected", "main,release/*"]), guarded);
    }
    for server in ["GITHUB_REF_NAME", "BRANCH_NAME", "BUILDKITE_BRANCH", "CIRCLE_BRANCH", "BITBUCKET_BRANCH"]
    {
        wants(guard(&[(server, "main")], &["--protected", "main"]), true);
        wants(guard(&[(server, "main")], &["--protected", "main", "--branch", "topic"]), false);
    }
    wants(guard(&[("GITHUB_REF_PROTECTED", "true")], &[]), true);
    wants(guard(&[("CI_COMMIT_REF_PROTECTED", "true"), ("CI_COMMIT_REF_NAME", "x")], &[]), true);
    wants(guard(&[("GITHUB_REF_PROTECTED", "false")], &[]), false);

    let repository = tempfile::tempdir().unwrap();
    git(repository.path(), &["init", "--quiet", "--initial-branch", "main"]);
    wants(guard_in(repository.path(), &[], &["--protected", "main"]), true);
    wants(guard_in(repository.path(), &[], &["--protected", "release/*"]), false);
}

#[test]
fn a_guard_that_cannot_tell_does_not_pass() {
    guard(&[], &["--protected", "main"]).misused("cannot tell which branch");
    guard(&[], &["--protected"]).misused("--protected needs a value");
    guard(&[], &["--branch="]).misused("--branch needs a value");
    guard(&[], &["main"]).misused("unknown argument \"main\"");
    for help in ["--help", "-h"] {
        let ran = guard(&[], &[help]);
        assert_eq!((ran.code, ran.stderr.as_str()), (0, ""));
        assert!(ran.stdout.contains("Examples:") && ran.stdout.contains("Exit codes:"));
    }
}

fn git(folder: &Path, arguments: &[&str]) {
    let output = command("git", folder).args(arguments).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

fn scan(folder: &Path, arguments: &[&str]) -> Ran {
    let script = root().join("deploy/ci/check-no-private-keys");
    Ran::from(command("python3", folder).arg(script).args(arguments).output().unwrap())
}

/// A PEM as a test may hold one: put together at run time.
fn pem(kind: &str) -> String {
    let (begin, body) = ("-----BEGIN ", "MC4CAQAwBQYDK2VwBCIEIAaaaaaaaaaaaaaaaaaaaaaa");
    format!("{begin}{kind}PRIVATE KEY-----\n{body}\n-----END {kind}PRIVATE KEY-----\n")
}

/// A repository with a tracked key, an ignored one, a new one and a keystore.
fn repository() -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    let put = |name: &str, bytes: &[u8]| {
        fs::create_dir_all(folder.path().join(name).parent().unwrap()).unwrap();
        fs::write(folder.path().join(name), bytes).unwrap();
    };
    put("src/main.rs", b"fn main() {}\n");
    put("keys/old.pem", format!("# a key\n\n{}", pem("ENCRYPTED ")).as_bytes());
    put("build/out.pem", pem("").as_bytes());
    put(".gitignore", b"build/\n");
    git(folder.path(), &["init", "--quiet"]);
    git(folder.path(), &["add", "--all"]);
    put("new/id", pem("OPENSSH ").as_bytes());
    put("new/store", b"\xfe\xed\xfe\xed\0\0\0\x02\0\0\0\x01");
    folder
}

#[test]
fn keys_are_found_in_what_git_has_or_would_take_and_below_paths() {
    let repository = repository();
    let here = scan(repository.path(), &[]);
    assert_eq!(here.code, 1, "{}", here.stderr);
    assert_eq!(
        here.stdout.lines().collect::<Vec<_>>(),
        [
            "keys/old.pem:3: private-key",
            "new/id:1: private-key",
            "new/store: java-keystore",
            "check-no-private-keys: 5 files, 3 findings"
        ]
    );
    assert!(!here.stdout.contains("MC4C"), "a finding never shows what it found");
    // From a folder of the repository, the whole of it all the same.
    assert_eq!(scan(&repository.path().join("src"), &[]).stdout, here.stdout);
    let below = scan(repository.path(), &["build", "src/main.rs"]);
    assert_eq!(below.stdout, "build/out.pem:1: private-key\ncheck-no-private-keys: 2 files, 1 findings\n");
    assert_eq!(scan(repository.path(), &["src"]).code, 0);
}

#[test]
fn a_finding_passes_with_a_reason_and_only_with_one() {
    let repository = repository();
    let allow = |text: &str| fs::write(repository.path().join(".no-private-keys-allow"), text).unwrap();
    allow("# of the tests\nkeys/*.pem private-key opens nothing\nnew/* * made up\ngone.pem * was here\n");
    let allowed = scan(repository.path(), &[]);
    assert_eq!(allowed.code, 0, "{}", allowed.stdout);
    assert!(allowed.stderr.contains("an entry for nothing: gone.pem * was here"), "{}", allowed.stderr);
    allow("keys/*.pem java-keystore another rule\n");
    assert_eq!(scan(repository.path(), &[]).code, 1);
    for bad in ["keys/old.pem private-key\n", "keys/old.pem no-such-rule a reason\n"] {
        allow(bad);
        scan(repository.path(), &[]).misused(".no-private-keys-allow:1: not");
    }
    allow("");
    let key = format!("AKIA{}", "Q".repeat(16));
    let line = repository.path().join("line");
    fs::write(&line, format!("{key} no-private-keys: made up\n")).unwrap();
    assert_eq!(scan(repository.path(), &["line"]).code, 0);
    fs::write(&line, format!("no-private-keys: of another line\n{key} no-private-keys:\n")).unwrap();
    assert!(scan(repository.path(), &["line"]).stdout.starts_with("line:2: aws-access-key\n"));
}

#[test]
fn a_scan_that_cannot_look_does_not_pass() {
    let empty = tempfile::tempdir().unwrap();
    scan(empty.path(), &[]).misused("no git repository");
    scan(empty.path(), &["nowhere"]).misused("there is no nowhere");
    scan(empty.path(), &["."]).misused("no files to look at");
    scan(empty.path(), &["--no-such-option"]).misused("--no-such-option");
    fs::write(empty.path().join("file"), "text").unwrap();
    scan(empty.path(), &["--allow", "nowhere", "file"]).misused("nowhere");
    let help = scan(empty.path(), &["--help"]);
    assert_eq!(help.code, 0);
    assert!(help.stdout.contains("examples:") && help.stdout.contains("exit codes:"));
}

#[test]
fn every_rule_finds_what_is_planted_and_the_house_uses_the_same_rules() {
    let anywhere = tempfile::tempdir().unwrap();
    let tested = scan(anywhere.path(), &["--self-test"]);
    assert_eq!(tested.code, 0, "{}{}", tested.stdout, tested.stderr);
    for rule in
        ["private-key", "putty-private-key", "der-private-key", "pkcs12", "java-keystore", "aws-access-key"]
    {
        assert!(tested.stdout.contains(rule), "{rule}");
    }
    let house = fs::read_to_string(root().join(".ci/no-secrets")).unwrap();
    assert!(house.contains("\"check-no-private-keys\"") && !house.contains("PRIVATE KEY"));
}
