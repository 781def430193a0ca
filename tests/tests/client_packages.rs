//! The clients for TypeScript and Python: what each says of itself, its own tests, and all it can do against a
//! running daemon, replies lost on their way included.

#![expect(clippy::unwrap_used, reason = "a failed unwrap is the test's failure")]

use std::path::{Path, PathBuf};
use std::process::Command;

use chancery_tests::rig::world::ORDERS;
use chancery_tests::rig::{Daemon, World, WorldOptions};
use chancery_tests::servers::node_with_ml_dsa;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_path_buf()
}

fn typescript() -> PathBuf {
    root().join("proxy/client/typescript")
}

fn python() -> PathBuf {
    root().join("proxy/client/python")
}

/// Where compiler and packages are, installed if need be.
fn tools() -> PathBuf {
    PathBuf::from(run(&mut Command::new(root().join(".ci/client-tools"))).trim_end())
}

/// What a command printed; it must end well.
#[track_caller]
fn run(command: &mut Command) -> String {
    let output = command.output().unwrap();
    let printed = String::from_utf8(output.stdout).unwrap();
    let complained = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {printed}{complained}");
    printed
}

/// The TypeScript package and its tests, compiled into a folder of their own.
fn compiled() -> tempfile::TempDir {
    let (folder, tools) = (tempfile::tempdir().unwrap(), tools());
    let mut compiler = Command::new(tools.join("node_modules/.bin/tsc"));
    compiler.arg("-p").arg(typescript().join("tsconfig.json"));
    compiler.arg("--typeRoots").arg(tools.join("node_modules/@types"));
    run(compiler.arg("--outDir").arg(folder.path()));
    // As the package's own manifest says of its files.
    std::fs::write(folder.path().join("package.json"), "{\"type\":\"module\"}").unwrap();
    folder
}

/// A Python with what the package depends on, that finds the package and leaves nothing beside it.
fn interpreter() -> Command {
    let mut interpreter = Command::new(tools().join("venv/bin/python"));
    interpreter.env("PYTHONPATH", python().join("src")).env("PYTHONDONTWRITEBYTECODE", "1");
    interpreter.current_dir(python());
    interpreter
}

/// With a stream whose events are rows of an existing writer, too.
fn chained() -> WorldOptions {
    let more = format!(
        "\n[[keys]]\nkid = \"rows\"\nsigner_kid = \"rows-v1\"\nbackend = \"software\"\nalgorithm = \"ed25519\"\n\
         purpose = \"audit\"\n\n[[chains]]\nstream = \"orders/rows\"\ndialect = \"kernel\"\nkid = \"rows\"\n\
         principal = \"{ORDERS}\"\n"
    );
    WorldOptions { more, ..WorldOptions::default() }
}

/// Runs an integration program against `world`, as a principal that may do what it tries.
fn integrate(world: &World, program: &mut Command) {
    let files = [
        ("CHANCERY_CA", world.path("ca.crt")),
        ("CHANCERY_CERT", world.orders.certificate.clone()),
        ("CHANCERY_KEY", world.orders.key.clone()),
        ("CHANCERY_SIGNERS", world.path("signers.json")),
    ];
    program.env("CHANCERY_URL", world.url()).envs(files);
    program.env("CHANCERY_KID", "ed").env("CHANCERY_MORE_KIDS", "p256,p384,k1,rsa,pss");
    program.env("CHANCERY_ANCHOR_KID", "dual").env("CHANCERY_CO_SIGNED_KID", "dual");
    let printed = run(program.env("CHANCERY_MAC_KID", "mac").env("CHANCERY_CHAIN", "orders/rows"));
    assert_eq!(printed.lines().next_back(), Some("20 passed, 0 failed"), "{printed}");
}

#[test]
fn the_packages_have_the_version_of_the_service() {
    let version = env!("CARGO_PKG_VERSION");
    for (file, saying) in [
        (typescript().join("package.json"), format!("\"version\": \"{version}\"")),
        (typescript().join("package-lock.json"), format!("\"version\": \"{version}\"")),
        (typescript().join("src/transport.ts"), format!("chancery-typescript/{version}\"")),
        (python().join("pyproject.toml"), format!("version = \"{version}\"")),
        (python().join("src/chancery_client/transport.py"), format!("chancery-python/{version}\"")),
    ] {
        let text = std::fs::read_to_string(&file).unwrap();
        assert!(text.contains(&saying), "{} does not say {saying}", file.display());
    }
}

#[test]
fn the_typescript_package_passes_its_own_tests() {
    let folder = compiled();
    let tested = |node: &Path| {
        let mut node = Command::new(node);
        node.args(["--test", "--test-reporter=tap"]);
        for name in ["formats", "hybrid", "receipt", "transport"] {
            node.arg(folder.path().join(format!("test/{name}.test.js")));
        }
        let printed = run(&mut node);
        assert!(printed.contains("\n# pass 35\n") && printed.contains("\n# fail 0\n"), "{printed}");
        printed
    };
    tested(Path::new("node"));
    // The machine's own may have no ML-DSA; with one that has, false signatures by it are refused.
    let printed = tested(&node_with_ml_dsa().unwrap());
    assert!(printed.contains("\n# ML-DSA-44 is verified by v24."), "{printed}");
}

#[test]
fn the_python_package_passes_its_own_tests() {
    let output = interpreter().args(["-m", "unittest", "discover", "-s", "tests"]).output().unwrap();
    // It reports on standard error.
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && said.contains("Ran 35 tests"), "{said}");
    // As locked, its package has ML-DSA, so that false signatures by it are refused.
    let known = "import ledger; print(ledger.MlDsaKey.IS_KNOWN)";
    let mut ask = interpreter();
    ask.env("PYTHONPATH", std::env::join_paths([python().join("src"), python().join("tests")]).unwrap());
    assert_eq!(run(ask.args(["-c", known])), "True\n");
}

#[test]
fn the_typescript_package_works_with_a_running_daemon() {
    let (world, folder) = (World::new(&chained()), compiled());
    let daemon = Daemon::start(&world);
    integrate(&world, Command::new("node").arg(folder.path().join("test/integration.js")));
    assert!(daemon.stop().success());
    assert!(world.verify(&["ledger", world.path("archive").to_str().unwrap()]).status.success());
}

#[test]
fn the_python_package_works_with_a_running_daemon() {
    let world = World::new(&chained());
    let daemon = Daemon::start(&world);
    integrate(&world, interpreter().arg("tests/integration.py"));
    assert!(daemon.stop().success());
    assert!(world.verify(&["ledger", world.path("archive").to_str().unwrap()]).status.success());
}
