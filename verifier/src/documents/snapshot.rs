//! Snapshots of the reasoning graph, in both forms.
//!
//! | form | members | hash | signed |
//! |---|---|---|---|
//! | `sealed` | `id`, `root_ids`, `created_at`, `reasoning_graph_version`, `payload`, `manifest_signature_id`? | base64, of these as canonical JSON | the hash |
//! | `graph` | `snapshot` `{nodes, edges}` | hexadecimal, of `snapshot` as it was written | the hash, or the text itself |
//!
//! A graph is hashed as its service wrote it; where a database or a reply has written it anew, the forms its service
//! may have used are tried.

use chancery_format::{Hash, PublicKey};

use super::read::{list_of, member, others, text_of};
use super::signatures::{Claim, Keys, SIGNATURE, SIGNER, Signed};
use super::{Document, Refused, read};
use crate::findings::Kind;
use chancery_format::chain::canonical::Mode;
use chancery_format::chain::json::{Value, members};

const SEALED_HASH: &[&str] = &["snapshot_bytes_canonical_hash"];
const SEALED: [&str; 6] =
    ["created_at", "id", "manifest_signature_id", "payload", "reasoning_graph_version", "root_ids"];
const MAY_BE_EMPTY: &str = "manifest_signature_id";
const GRAPH: &[&str] = &["snapshot"];
const GRAPH_HASH: &[&str] = &["hash"];
const ROOTS: &[&str] = &["rootNodeIds", "root_node_ids"];

/// Bytes that may have been signed, and how they came about.
struct Written {
    bytes: Vec<u8>,
    how: &'static str,
}

pub(super) fn check(
    root: &Value<'_>,
    text: &str,
    keys: &Keys<'_>,
    document: &mut Document<'_>,
) -> Result<(), Refused> {
    if let Some(stored) = text_of(root, SEALED_HASH) {
        return sealed(root, stored, keys, document);
    }
    let Some(graph) = member(root, GRAPH) else {
        return Err(Refused::shape(
            "is no snapshot: it has neither snapshot nor snapshot_bytes_canonical_hash",
        ));
    };
    graph_of(root, graph, text, keys, document)
}

fn sealed(
    root: &Value<'_>,
    stored: &str,
    keys: &Keys<'_>,
    document: &mut Document<'_>,
) -> Result<(), Refused> {
    let stored = base64_hash(stored).ok_or_else(|| Refused::shape("its hash is no SHA-256 in base64"))?;
    let is_empty = |value: &Value<'_>| *value == Value::Null || value.as_str() == Some("");
    let is_there =
        |name: &&&str| root.get(name).is_some_and(|value| **name != MAY_BE_EMPTY || !is_empty(value));
    let members = SEALED.iter().filter(is_there);
    let members = members.filter_map(|name| Some((name.as_bytes().into(), root.get(name)?.clone())));
    let content = Value::Object(members.collect());
    let modes = [Mode::GoRaw, Mode::GoRawOld, Mode::JsRebuild];
    let written = modes.into_iter().filter_map(|mode| {
        let bytes = mode.write(&content)?;
        Some(Written { bytes, how: mode.as_str() })
    });
    let written: Vec<Written> = written.collect();
    let claim = Claim::read(root, &["created_at"]);
    verify(&claim, stored, &written, "sealed", keys, document);
    document.unbound_digits(&content);
    let known: Vec<&[&str]> = vec![&SEALED, SEALED_HASH, SIGNER, SIGNATURE];
    document.unbound(&others(root, &known));
    Ok(())
}

fn base64_hash(text: &str) -> Option<Hash> {
    use base64::Engine as _;
    let bytes = base64::engine::general_purpose::STANDARD.decode(text).ok()?;
    Some(Hash(bytes.try_into().ok()?))
}

fn graph_of(
    root: &Value<'_>,
    graph: &Value<'_>,
    text: &str,
    keys: &Keys<'_>,
    document: &mut Document<'_>,
) -> Result<(), Refused> {
    let stored = text_of(root, GRAPH_HASH).and_then(read::hash);
    let stored = stored.ok_or_else(|| Refused::shape("its hash is no SHA-256 in hexadecimal"))?;
    let slices = members(text.trim()).map_err(|error| Refused::shape(format!("not JSON: {error}")))?;
    let slice = slices.iter().rev().find(|(name, _)| GRAPH.iter().any(|it| it.as_bytes() == &**name));
    let mut written: Vec<Written> =
        slice.map(|(_, slice)| Written { bytes: compact(slice), how: "as it stands" }).into_iter().collect();
    for mode in [Mode::GoRaw, Mode::GoHtml, Mode::GoRawOld, Mode::GoHtmlOld] {
        written.extend(mode.write(graph).map(|bytes| Written { bytes, how: mode.as_str() }));
    }
    let claim = Claim::read(root, &["createdAt", "created_at"]);
    verify(&claim, stored, &written, "graph", keys, document);
    document.unbound_digits(graph);
    roots_are_in(root, graph, document);
    document.unbound(&others(root, &[GRAPH, GRAPH_HASH, SIGNER, SIGNATURE]));
    Ok(())
}

/// JSON text without the white space between its tokens.
fn compact(text: &str) -> Vec<u8> {
    let (mut out, mut in_text, mut escaped) = (Vec::with_capacity(text.len()), false, false);
    for byte in text.bytes() {
        if in_text || !byte.is_ascii_whitespace() {
            out.push(byte);
        }
        in_text ^= byte == b'"' && !escaped;
        escaped = in_text && byte == b'\\' && !escaped;
    }
    out
}

/// Content against the stored hash, and the hash or the content against the signature.
fn verify(
    claim: &Claim<'_>,
    stored: Hash,
    written: &[Written],
    form: &'static str,
    keys: &Keys<'_>,
    document: &mut Document<'_>,
) {
    document.tell("kind", "snapshot");
    document.tell("form", form);
    document.says.push(format!("snapshot in the form {form}"));
    let Some(content) = written.iter().find(|it| Hash::of(&[&it.bytes]) == stored) else {
        let found = written.first().map(|it| Hash::of(&[&it.bytes]).to_hex()).unwrap_or_default();
        document.found(Kind::HashMismatch, format!("its content has the hash {found}, not {stored}"));
        return;
    };
    document.tell("mode", content.how);
    let held = keys.check(claim, document, |key, signature| find(stored, &content.bytes, key, signature));
    let Some((signer, what)) = held else { return };
    document.tell("signer", signer.name.as_str());
    document.tell("signed", what);
    document.says.push(format!("its {what} signed by {} ({})", signer.name, content.how));
}

fn find(hash: Hash, content: &[u8], key: &PublicKey, signature: &[u8]) -> Option<&'static str> {
    let ways = [(Signed::Digest(hash), "hash"), (Signed::Message(content), "text")];
    ways.into_iter().find(|(signed, _)| signed.holds(key, signature)).map(|(_, what)| what)
}

/// Each root the snapshot speaks of is a node of it.
fn roots_are_in(root: &Value<'_>, graph: &Value<'_>, document: &mut Document<'_>) {
    let nodes = list_of(graph, &["nodes"]).unwrap_or_default();
    let ids: Vec<&str> = nodes.iter().filter_map(|node| text_of(node, &["id"])).collect();
    for id in list_of(root, ROOTS).unwrap_or_default().iter().filter_map(Value::as_str) {
        if !ids.contains(&id) {
            document.found(Kind::MemberMismatch, format!("its root {id} is none of its nodes"));
        }
    }
}
