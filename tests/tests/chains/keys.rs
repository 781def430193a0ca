//! Signatures held against keys, in every shape the platform keeps keys in.

use serde_json::{Value, json};

use crate::export::{Export, kinds};

#[test]
fn signatures_are_held_against_the_given_keys_and_their_time() {
    for dialect in ["kernel", "shared", "agent-manager", "kernel-go"] {
        let export = Export::of(dialect);
        let (found, code) = export.after(|rows| rows[3]["signature"] = rows[4]["signature"].clone());
        assert_eq!((found, code), (vec!["signature-invalid".to_owned()], 1), "{dialect}");
        let (found, code) = export.after(|rows| rows[3]["signature"] = json!("not base64"));
        assert_eq!((found, code), (vec!["signature-invalid".to_owned()], 1), "{dialect}");
        let (found, code) = export.after(|rows| rows[3]["signature"] = Value::Null);
        assert_eq!((found, code), (vec!["unsigned".to_owned()], 1), "{dialect}");
        let (found, code) =
            export.after_with(&["--allow-unsigned"], |rows| rows[3]["signature"] = Value::Null);
        assert_eq!((found, code), (vec![], 0), "{dialect}");
        let signers = export.read("signers.json");
        export.write("signers.json", signers.replace("-v1\"", "-v9\""));
        let (report, code) = export.report("rows.ndjson", &[]);
        assert_eq!((kinds(&report, "error"), code), (vec!["unknown-signer".to_owned()], 3), "{dialect}");
        let retired = signers.replacen("-v1\"", "-v1\",\"retiredAt\":\"2026-01-10T00:00:00Z\"", 1);
        export.write("signers.json", retired);
        let (report, code) = export.report("rows.ndjson", &[]);
        assert_eq!((kinds(&report, "error"), code), (vec!["key-not-valid-then".to_owned()], 1), "{dialect}");
    }
}

/// One key in all the ways of writing it down.
struct Key {
    kid: String,
    algorithm: String,
    pem: String,
    /// Base64 of SPKI DER.
    spki: String,
    /// Base64 of the 32 bytes, of Ed25519.
    raw: Option<String>,
    certificate: String,
}

impl Key {
    fn of(export: &Export) -> Self {
        let signers: Value = serde_json::from_str(&export.read("signers.json")).unwrap();
        let signer = &signers["signers"][0];
        let pem = signer["public_key_pem"].as_str().unwrap().to_owned();
        let spki: String = pem.lines().filter(|line| !line.starts_with("-----")).collect();
        // The last 32 of 44 bytes: base64 of twelve is sixteen characters.
        let raw = (spki.len() == 60).then(|| spki[16..].to_owned());
        let pair = rcgen::KeyPair::from_pem(&export.read("key.pem")).unwrap();
        let certificate = rcgen::CertificateParams::new(vec!["kernel.example".to_owned()]).unwrap();
        Self {
            kid: signer["signer_kid"].as_str().unwrap().to_owned(),
            algorithm: signer["algorithm"].as_str().unwrap().to_owned(),
            certificate: certificate.self_signed(&pair).unwrap().pem(),
            pem,
            spki,
            raw,
        }
    }

    /// Every shape of registry, by name.
    fn shapes(&self) -> Vec<(&'static str, String)> {
        let Self { kid, algorithm, pem, spki, raw, certificate } = self;
        let at = "2026-01-01T00:00:00Z";
        let list = |entry: Value| json!({ "signers": [entry] }).to_string();
        let map = |value: Value| json!({ kid.as_str(): value }).to_string();
        let entry = json!({ "signer_kid": kid, "algorithm": algorithm, "public_key_pem": pem, "deployedAt": at, "description": "x" });
        let mut merged: Value = json!({ "signers": [{ "signer_kid": "another", "algorithm": algorithm, "public_key_pem": pem }] });
        merged[kid] = json!(pem);
        let mut shapes = vec![
            ("R1", list(entry.clone())),
            ("R1 as a bare list", json!([entry]).to_string()),
            (
                "R2, PEM",
                list(
                    json!({ "signerId": kid, "publicKey": pem, "algorithm": "rsa-sha256".replace("rsa-sha256", algorithm), "notes": "x" }),
                ),
            ),
            ("R2, SPKI", list(json!({ "signerId": kid, "publicKey": spki, "deployedAt": at }))),
            ("R3", map(json!(pem))),
            ("R3 merged into R1", merged.to_string()),
            ("R5", map(json!({ "publicKey": spki, "kid": kid }))),
            ("R5, another name", map(json!({ "PublicKey": spki }))),
            ("R6", map(json!({ "alg": algorithm, "key": pem }))),
            ("R8", pem.clone()),
            ("R8, a certificate", certificate.clone()),
            ("R8, both, with a word before", format!("# keys of the kernel\n{certificate}\n{pem}")),
        ];
        if let Some(raw) = raw {
            shapes.push(("R4", list(json!({ "signerId": kid, "publicKey": raw }))));
            let entry = json!({ "signerId": kid, "algorithm": "Ed25519", "publicKey": raw, "createdAt": at });
            shapes.push(("R7", list(entry)));
        }
        shapes
    }
}

#[test]
fn registries_of_every_shape_hold_the_key() {
    for dialect in ["shared", "kernel", "agent-manager", "memory-layer"] {
        let export = Export::of(dialect);
        let key = Key::of(&export);
        assert_eq!(key.raw.is_some(), dialect != "agent-manager");
        for (shape, text) in key.shapes() {
            export.write("signers.json", text);
            let (report, code) = export.report("rows.ndjson", &[]);
            assert_eq!(
                (code, &report["checked"]["signatures"]),
                (0, &json!(12)),
                "{dialect} {shape}: {report:#}"
            );
            // Keys without a name are looked up by trying, and that is said.
            let resolved = kinds(&report, "warning").contains(&"signer-resolved".to_owned());
            assert_eq!(resolved, shape.starts_with("R8") || dialect == "memory-layer", "{dialect} {shape}");
            let (found, _) = export.after(|rows| rows[3]["signature"] = rows[4]["signature"].clone());
            assert_eq!(found, ["signature-invalid"], "{dialect} {shape}");
        }
    }
}

#[test]
fn a_registry_is_read_as_a_whole_or_not_at_all() {
    let export = Export::of("shared");
    let good: Value = serde_json::from_str(&export.read("signers.json")).unwrap();
    let mut entry = good["signers"][0].clone();
    entry["public_key_pem"] = json!("-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----");
    let private = export.read("key.pem");
    for (why, text) in [
        ("a key that is none", json!({ "signers": [good["signers"][0], entry] }).to_string()),
        ("no key", json!({ "signers": [{ "signer_kid": "x" }] }).to_string()),
        ("a time that is none", good.to_string().replace("2026-01-01T00:00:00Z", "last year")),
        ("a private key", private),
        ("words", "keys".to_owned()),
        ("a number", "7".to_owned()),
    ] {
        export.write("signers.json", text);
        let output = export.verify("rows.ndjson", &[]);
        assert_eq!(output.status.code(), Some(2), "{why}: {}", String::from_utf8_lossy(&output.stderr));
    }
}

/// A name that had several keys, one after the other; and rows that name nobody, signed by either.
#[test]
fn each_of_several_keys_finds_its_rows() {
    for dialect in ["memory-layer", "shared"] {
        let (export, other) = (Export::of(dialect), Export::of(dialect));
        let (one, two) = (Key::of(&export), Key::of(&other));
        let both = [two, one].map(|key| json!({ "signer_kid": key.kid, "public_key_pem": key.pem }));
        export.write("signers.json", json!({ "signers": both }).to_string());
        let (report, code) = export.report("rows.ndjson", &[]);
        assert_eq!((code, &report["checked"]["signatures"]), (0, &json!(12)), "{dialect}: {report:#}");
        // Two exports as one, each signed by its own key.
        std::fs::copy(other.path("rows.ndjson"), export.path("other.ndjson")).unwrap();
        let other = export.path("other.ndjson");
        let (report, code) = export.report("rows.ndjson", &[other.to_str().unwrap()]);
        assert_eq!(report["checked"]["signatures"], 24, "{dialect}: {report:#}");
        // Both writers wrote the same payloads at the same times, so these are the same rows.
        let wanted = ["chain-broken", "fork"].map(str::to_owned).to_vec();
        assert_eq!((kinds(&report, "error"), code), (wanted, 1), "{dialect}");
    }
}
