//! Signed documents that existing services left in files: manifests, ledger proofs, approvals, snapshots.
//!
//! | file | promises |
//! |---|---|
//! | `read.rs` | files, plain or packed, and the members of what is in them |
//! | `numbers.rs` | whether a number says more than was signed |
//! | `signatures.rs` | whose signature it is, over what, and whether the key was in use then |
//! | `manifest.rs` | Kernel manifests, in the form of each of its servers |
//! | `ledger_proof.rs` | finance's signed hash over exported rows |
//! | `proof_package.rs` | finance's packages: lines, hash chain, a signature for each role |
//! | `combined_proof.rs` | several signers over one digest |
//! | `snapshot.rs` | snapshots of the reasoning graph, in both forms |
//!
//! What was signed is computed again from the content, in every form its writers have used, and the form that holds
//! is said. What no signature binds is a warning that names it: it may be altered, and nothing tells.

mod combined_proof;
mod ledger_proof;
mod manifest;
mod numbers;
mod proof_package;
mod read;
mod signatures;
mod snapshot;

use std::path::{Path, PathBuf};

use serde_json::{Map, json};

pub use self::manifest::{Form, UnknownForm};
use self::read::ReadError;
use self::signatures::Keys;
use crate::events::signers::Signers;
use crate::findings::{Finding, Findings, Kind};
use crate::report::Report;
use chancery_format::chain::json::Value;

/// What kind of document the files are.
#[derive(Debug, Clone)]
pub enum Documents {
    /// Manifests; what they must be the signature of, if the files hold the signature alone.
    Manifests {
        /// The manifest itself, if it is in a file of its own.
        manifest: Option<PathBuf>,
        /// The only form that is accepted; `None`: any.
        form: Option<Form>,
    },
    /// Proofs of finance and of memory-layer.
    Proofs {
        /// Rows of a ledger proof, if they are not beside it.
        rows: Option<PathBuf>,
        /// Roles that must have signed.
        roles: Vec<String>,
        /// Signers, or roles, that must have signed at least.
        quorum: Option<u64>,
    },
    /// Snapshots of the reasoning graph.
    Snapshots,
}

/// Verifies files of one kind, each by itself, with these keys.
pub fn verify(files: &[PathBuf], documents: &Documents, signers: &Signers) -> Report {
    let mut findings = Findings::default();
    let mut told = Vec::with_capacity(files.len());
    let mut text = String::new();
    let mut signatures = 0;
    for file in files {
        let mut document = Document::new(file);
        if let Err(refused) = document.check(documents, signers) {
            document.findings.push(refused.finding(file));
        }
        signatures += document.signatures;
        text += &format!("{}: {}\n", document.name, document.says());
        told.push(document.json());
        findings.merge(document.findings);
    }
    let checked = json!({ "files": files.len(), "signatures": signatures, "documents": told });
    Report::of(findings, checked, text)
}

/// Why a document was not looked at, or not to its end.
#[derive(Debug)]
enum Refused {
    Read(ReadError),
    /// It is not the document it should be.
    Shape(String),
}

impl From<ReadError> for Refused {
    fn from(error: ReadError) -> Self {
        Self::Read(error)
    }
}

impl Refused {
    fn shape(reason: impl Into<String>) -> Self {
        Self::Shape(reason.into())
    }

    fn finding(self, file: &Path) -> Finding {
        match self {
            Self::Read(error) => error.finding(file),
            Self::Shape(reason) => Finding::file(Kind::DocumentInvalid, file.display().to_string(), reason),
        }
    }
}

/// One file, and what is found out about it.
struct Document<'f> {
    path: &'f Path,
    name: String,
    findings: Findings,
    /// Signatures that verify.
    signatures: u64,
    /// For people: what it is, and in which form.
    says: Vec<String>,
    /// For programs.
    members: Map<String, serde_json::Value>,
}

impl<'f> Document<'f> {
    fn new(path: &'f Path) -> Self {
        let name = path.display().to_string();
        Self {
            path,
            name,
            findings: Findings::default(),
            signatures: 0,
            says: Vec::new(),
            members: Map::new(),
        }
    }

    fn check(&mut self, documents: &Documents, signers: &Signers) -> Result<(), Refused> {
        let text = read::text(self.path)?;
        let root = Value::parse(text.trim()).map_err(|error| Refused::shape(format!("not JSON: {error}")))?;
        if let Some(twice) = root.repeated() {
            let message =
                format!("{twice:?} occurs twice in one object: readers may disagree about which counts");
            self.found(Kind::DuplicateJsonKey, message);
        }
        let keys = Keys { signers };
        match documents {
            Documents::Manifests { manifest, form } => {
                manifest::check(&root, manifest.as_deref(), *form, &keys, self)
            }
            Documents::Snapshots => snapshot::check(&root, &text, &keys, self),
            Documents::Proofs { rows, roles, quorum } => {
                if root.get("hashChain").is_some() {
                    proof_package::check(&root, roles, *quorum, &keys, self)
                } else if read::member(&root, combined_proof::DIGEST).is_some() {
                    combined_proof::check(&root, *quorum, &keys, self)
                } else {
                    ledger_proof::check(&root, rows.as_deref(), &keys, self)
                }
            }
        }
    }

    fn found(&mut self, kind: Kind, message: impl Into<String>) {
        self.findings.push(Finding::file(kind, self.name.clone(), message));
    }

    /// Members that may be altered without a signature telling.
    fn unbound(&mut self, members: &[String]) {
        if !members.is_empty() {
            let named = members.join(", ");
            self.found(
                Kind::UnboundField,
                format!("no signature binds {named}: altered, they look the same"),
            );
        }
    }

    /// Numbers of which only what a double holds was signed.
    fn unbound_digits(&mut self, content: &Value<'_>) {
        if let Some(number) = numbers::inexact(content) {
            let why =
                format!("no signature binds the last digits of {number}: its writer read it as a double");
            self.found(Kind::UnboundField, why);
        }
    }

    fn says(&self) -> String {
        if self.says.is_empty() { "not verified".to_owned() } else { self.says.join(", ") }
    }

    fn tell(&mut self, name: &str, value: impl Into<serde_json::Value>) {
        self.members.insert(name.to_owned(), value.into());
    }

    fn json(&self) -> serde_json::Value {
        let mut members = self.members.clone();
        members.insert("file".to_owned(), self.name.clone().into());
        members.insert("signatures".to_owned(), self.signatures.into());
        members.insert("valid".to_owned(), self.findings.is_valid().into());
        serde_json::Value::Object(members)
    }
}
