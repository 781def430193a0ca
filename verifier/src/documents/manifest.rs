//! Kernel manifests, in the form of each of its servers, and as their strict consumer takes them.
//!
//! | form | writer | key | signed |
//! |---|---|---|---|
//! | `go` | the Go kernel | Ed25519; RSA, ECDSA | SHA-256 of the canonical manifest; not hashed again |
//! | `kernel` | the TypeScript kernel | Ed25519; RSA | the text `{"manifest":…,"ts":"…"}` |
//! | `consumer` | who writes for agent-manager | Ed25519 | SHA-256 of the canonical manifest |
//! | | | RSA | the same, taken for a message and hashed again |
//!
//! Replies and rows hold the signature without the manifest: then the manifest is a file of its own. kernel/server
//! makes MACs, which nobody else can verify.

use std::fmt;
use std::path::Path;
use std::str::FromStr;

use chancery_format::{Hash, KeyFamily, PublicKey, Timestamp};

use super::read::{self, member, moment, others, text_of};
use super::signatures::{Claim, Keys, SIGNATURE, SIGNER, Signed};
use super::{Document, Refused};
use crate::findings::Kind;
use chancery_format::chain::canonical::Mode;
use chancery_format::chain::json::Value;

const RECORD: &[&str] = &["signature_record", "signatureRecord"];
const MANIFEST: &[&str] = &["manifest", "payload"];
const MANIFEST_ID: &[&str] = &["manifest_id", "manifestId"];
const MOMENT: &[&str] = &["ts", "signed_at", "signedAt"];
/// How long before the stored time the kernel may have signed, in milliseconds: its proxy's time is stored instead of
/// its own, where the proxy tells one.
const SIGNED_WITHIN_MS: i64 = 5_000;

/// What was signed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// The manifest's hash.
    Go,
    /// Manifest and time, as text.
    Kernel,
    /// What agent-manager accepts, and nothing else.
    Consumer,
}

impl Form {
    /// Every form.
    pub const ALL: [Self; 3] = [Self::Go, Self::Kernel, Self::Consumer];

    /// The name in options and reports.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Go => "go",
            Self::Kernel => "kernel",
            Self::Consumer => "consumer",
        }
    }
}

impl fmt::Display for Form {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// There is no such form. Whoever named it is at fault.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no form of a manifest; one of go, kernel, consumer")]
pub struct UnknownForm(String);

impl FromStr for Form {
    type Err = UnknownForm;
    fn from_str(text: &str) -> Result<Self, UnknownForm> {
        Self::ALL.into_iter().find(|form| form.as_str() == text).ok_or_else(|| UnknownForm(text.to_owned()))
    }
}

/// What a signature turned out to be over.
struct Found {
    form: Form,
    mode: Mode,
    /// Whether agent-manager takes it.
    accepted: bool,
    /// The time inside, where it is not the one that is stored.
    searched: Option<Timestamp>,
}

impl Found {
    const fn new(form: Form, mode: Mode) -> Self {
        Self { form, mode, accepted: false, searched: None }
    }
}

pub(super) fn check(
    root: &Value<'_>,
    elsewhere: Option<&Path>,
    form: Option<Form>,
    keys: &Keys<'_>,
    document: &mut Document<'_>,
) -> Result<(), Refused> {
    let record = member(root, RECORD).unwrap_or(root);
    let text = elsewhere.map(read::text).transpose()?;
    let given = text.as_ref().map(|text| Value::parse(text.trim()));
    let given =
        given.transpose().map_err(|error| Refused::shape(format!("the manifest is not JSON: {error}")))?;
    let manifest = given.as_ref().or_else(|| member(root, MANIFEST));
    let manifest =
        manifest.ok_or_else(|| Refused::shape("holds no manifest; name its file by --manifest"))?;
    if !matches!(manifest, Value::Object(_)) {
        return Err(Refused::shape("its manifest is no object"));
    }
    let claim = Claim::read(record, MOMENT);
    let stored = text_of(record, MOMENT);
    let held = keys.check(&claim, document, |key, signature| find(manifest, stored, form, key, signature));
    let Some((signer, found)) = held else { return Ok(()) };
    says(&found, &signer.name, manifest, document);
    contradicts(record, manifest, document);
    let time_is_bound = found.form == Form::Kernel && found.searched.is_none();
    document.unbound(&unbound(root, record, time_is_bound));
    Ok(())
}

/// What this signature is over, if it is over this manifest.
fn find(
    manifest: &Value<'_>,
    stored: Option<&str>,
    form: Option<Form>,
    key: &PublicKey,
    signature: &[u8],
) -> Option<Found> {
    let wanted = |it: Form| form.is_none_or(|form| form == it);
    let hash = |mode: Mode| mode.write(manifest).map(|text| Hash::of(&[&text]));
    let consumers = hash(Mode::Jcs)?;
    let is_rsa = key.algorithm().family() == KeyFamily::Rsa;
    if wanted(Form::Go) {
        let modes = [Mode::GoHtmlText, Mode::GoHtml, Mode::GoHtmlTextOld, Mode::GoHtmlOld];
        let holds = |mode: &Mode| hash(*mode).is_some_and(|hash| Signed::Digest(hash).holds(key, signature));
        if let Some(mode) = modes.into_iter().find(holds) {
            let accepted = !is_rsa && hash(mode) == Some(consumers);
            return Some(Found { accepted, ..Found::new(Form::Go, mode) });
        }
    }
    if wanted(Form::Consumer) {
        let signed = if is_rsa { Signed::DigestAsMessage(consumers) } else { Signed::Digest(consumers) };
        if signed.holds(key, signature) {
            return Some(Found { accepted: true, ..Found::new(Form::Consumer, Mode::Jcs) });
        }
    }
    let stored = stored.filter(|_| wanted(Form::Kernel))?;
    find_text(manifest, stored, key, signature)
}

/// The kernel's text: with the time as stored, in its canonical spelling, and up to some seconds before it.
fn find_text(manifest: &Value<'_>, stored: &str, key: &PublicKey, signature: &[u8]) -> Option<Found> {
    let mut modes = vec![Mode::JsRebuildNoProto, Mode::JsRebuild];
    modes.retain(|mode| *mode == Mode::JsRebuildNoProto || has_proto(manifest));
    for mode in modes {
        let head = [b"{\"manifest\":", &*mode.write(manifest)?, b",\"ts\":"].concat();
        let holds = |ts: &[u8]| Signed::Message(&[&*head, ts, b"}"].concat()).holds(key, signature);
        if holds(&mode.write(&Value::Text(stored.as_bytes().into()))?) {
            return Some(Found::new(Form::Kernel, mode));
        }
        let Some(written) = moment(stored) else { continue };
        for before in 0..=SIGNED_WITHIN_MS {
            let Ok(ts) = Timestamp::from_unix_ms(written.unix_ms() - before) else { break };
            if holds(format!("\"{ts}\"").as_bytes()) {
                let searched = (before > 0).then_some(ts);
                return Some(Found { searched, ..Found::new(Form::Kernel, mode) });
            }
        }
    }
    None
}

fn says(found: &Found, signer: &str, manifest: &Value<'_>, document: &mut Document<'_>) {
    let Found { form, mode, accepted, searched } = *found;
    let taken = if accepted { "agent-manager takes it" } else { "agent-manager does not take it" };
    document.says.push(format!("manifest in the form {form}, signed by {signer} ({mode}); {taken}"));
    document.tell("kind", "manifest");
    document.tell("form", form.as_str());
    document.tell("mode", mode.as_str());
    document.tell("signer", signer);
    document.tell("acceptedByConsumer", accepted);
    if let Some(ts) = searched {
        let why = format!("the time that is stored was not signed; signed was {ts}, found by trying");
        document.found(Kind::TimeSearched, why);
        document.tell("signedTs", ts.to_string());
    }
    if !matches!(mode, Mode::GoHtmlText | Mode::GoHtmlTextOld) {
        document.unbound_digits(manifest);
    }
    if mode == Mode::JsRebuildNoProto && has_proto(manifest) {
        document.unbound(&["manifest.…__proto__".to_owned()]);
    }
}

/// Whether any of its objects has the name that this writer's objects cannot have.
fn has_proto(value: &Value<'_>) -> bool {
    match value {
        Value::Array(items) => items.iter().any(has_proto),
        Value::Object(members) => {
            members.iter().any(|(name, value)| **name == *b"__proto__" || has_proto(value))
        }
        _ => false,
    }
}

/// The id beside the signature is the manifest's own, or begins with its hash.
fn contradicts(record: &Value<'_>, manifest: &Value<'_>, document: &mut Document<'_>) {
    let Some(named) = text_of(record, MANIFEST_ID) else { return };
    if let Some(own) = text_of(manifest, &["id"]) {
        if own != named {
            let why =
                format!("the signature is said to be of {named:?}, and the manifest calls itself {own:?}");
            document.found(Kind::MemberMismatch, why);
        }
        return;
    }
    let Some((head, unix)) = named.split_once('-') else { return };
    let is_derived = head.len() == 16
        && head.bytes().all(|byte| byte.is_ascii_hexdigit())
        && unix.bytes().all(|byte| byte.is_ascii_digit());
    let hashes = Mode::ALL.into_iter().filter_map(|mode| mode.write(manifest).map(|text| Hash::of(&[&text])));
    if is_derived && !hashes.into_iter().any(|hash| hash.to_hex().starts_with(head)) {
        document.found(Kind::MemberMismatch, format!("{named:?} is derived from another manifest's hash"));
    }
}

/// Members that nothing binds: all but the manifest, the signature, its signer, and what contradiction would show.
fn unbound(root: &Value<'_>, record: &Value<'_>, time_is_bound: bool) -> Vec<String> {
    let known: &[&[&str]] = match time_is_bound {
        true => &[RECORD, MANIFEST, SIGNER, SIGNATURE, MOMENT],
        false => &[RECORD, MANIFEST, SIGNER, SIGNATURE],
    };
    let mut named = others(record, known);
    if !std::ptr::eq(root, record) {
        named.extend(others(root, known));
    }
    named.sort();
    named.dedup();
    named
}
