//! `hsm/BACKENDS.md` is written from the tables the backends themselves obey.

#![allow(clippy::unwrap_used, reason = "a failed unwrap is the test's failure")]

use chancery_format::SignatureAlgorithm;

const FILE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../hsm/BACKENDS.md");

const HEAD: &str = "\
# Which backend has which algorithm

Written by `tests/tests/backends.rs` (with `CHANCERY_WRITE_DOCS=1`) from the constant `ALGORITHMS` of each
backend, which is what a configuration is checked against at start, and what the conformance suite goes through.
A token, device or region may offer less than its backend; that is told when the key is opened, which is at start
too. What three PKCS#11 modules really do is in [pkcs11/MODULES.md](pkcs11/MODULES.md).

";

fn table() -> String {
    let backends: [(&str, &[SignatureAlgorithm]); 4] = [
        ("software", chancery_hsm::software::ALGORITHMS),
        ("pkcs11", chancery_pkcs11::ALGORITHMS),
        ("aws-kms", chancery_aws_kms::ALGORITHMS),
        ("yubihsm", chancery_yubihsm::ALGORITHMS),
    ];
    let mut text = format!("{HEAD}| algorithm | digest |");
    text.extend(backends.map(|(name, _)| format!(" {name} |")));
    text += "\n|---|---|---|---|---|---|\n";
    for algorithm in SignatureAlgorithm::ALL {
        let digest = algorithm.digest().map_or("any", |digest| digest.as_str());
        text += &format!("| {} | {digest} |", algorithm.as_str());
        text.extend(backends.map(|(_, has)| if has.contains(&algorithm) { " yes |" } else { " no |" }));
        text.push('\n');
    }
    text
}

#[test]
fn the_table_of_backends_and_algorithms_is_the_one_they_obey() {
    let table = table();
    println!("{table}");
    if std::env::var_os("CHANCERY_WRITE_DOCS").is_some() {
        std::fs::write(FILE, &table).unwrap();
    }
    let kept = std::fs::read_to_string(FILE).unwrap_or_default();
    assert!(kept == table, "hsm/BACKENDS.md differs; write it anew with CHANCERY_WRITE_DOCS=1");
}
