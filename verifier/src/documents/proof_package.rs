//! Finance's proof packages: ledger lines, a hash chain over chunks of them, a signature for each role.
//!
//! Each role signs, by RSA-PSS, the canonical `{manifestHash, payloadHash, role}`. Both hashes lead to the last chunk
//! only: a link's `prev` is not part of what is hashed, so lines of earlier chunks can be exchanged together with the
//! links over them, and every signature still holds. The package is checked as far as it can be, and that is said.

use std::collections::{BTreeMap, BTreeSet};

use chancery_format::Hash;

use super::read::{hash, list_of, member, number_of, others, text_of};
use super::signatures::{Claim, Keys, SIGNATURE, SIGNER, Signed};
use super::{Document, Refused};
use crate::findings::{Finding, Kind};
use chancery_format::chain::canonical::Mode;
use chancery_format::chain::json::Value;

/// Lines of one chunk, unless the package says otherwise; the last has fewer.
const CHUNK_LINES: u64 = 500;
const CHUNK_SIZE: &[&str] = &["chunkSize"];
const CHAIN: &[&str] = &["hashChain"];
const LINES: &[&str] = &["ledgerLines"];
const MANIFEST: &[&str] = &["manifest"];
const SIGNATURES: &[&str] = &["signatures"];
const ROLE: &[&str] = &["role"];

pub(super) fn check(
    root: &Value<'_>,
    roles: &[String],
    quorum: Option<u64>,
    keys: &Keys<'_>,
    document: &mut Document<'_>,
) -> Result<(), Refused> {
    let shape = |what: &str| Refused::shape(format!("is no proof package: it has no {what}"));
    let manifest = member(root, MANIFEST).ok_or_else(|| shape("manifest"))?;
    let lines = list_of(root, LINES).ok_or_else(|| shape("ledgerLines"))?;
    let chain = list_of(root, CHAIN).ok_or_else(|| shape("hashChain"))?;
    let signatures = list_of(root, SIGNATURES).ok_or_else(|| shape("signatures"))?;
    let canonical = Mode::JsRebuild.write(manifest).ok_or_else(|| shape("manifest that can be written"))?;
    let lines: Vec<&[u8]> =
        lines.iter().map(line).collect::<Option<_>>().ok_or_else(|| shape("lines of text"))?;
    let chunk =
        number_of(manifest, CHUNK_SIZE).or_else(|| number_of(root, CHUNK_SIZE)).unwrap_or(CHUNK_LINES);
    let chunk = usize::try_from(chunk.max(1)).unwrap_or(usize::MAX);
    let last = links(&lines, chain, chunk, document);
    describes(manifest, lines.len(), last, document);
    document.tell("kind", "proof-package");
    document.tell("lines", lines.len());
    document.tell("chunks", chain.len());
    document.says.push(format!("proof package of {} lines in {} chunks", lines.len(), chain.len()));
    let manifest_hash = Hash::of(&[&canonical]);
    let signed = roles_of(signatures, manifest_hash, last, keys, document);
    wanted(&signed, roles, quorum, document);
    weaknesses(root, (lines.len(), chunk), roles, document);
    Ok(())
}

fn line<'v>(value: &'v Value<'_>) -> Option<&'v [u8]> {
    match value {
        Value::Text(text) => Some(text),
        _ => None,
    }
}

/// Compares each link with the lines under it. The hash of the last chunk as it is, if there is one.
fn links(
    lines: &[&[u8]],
    chain: &[Value<'_>],
    chunk_lines: usize,
    document: &mut Document<'_>,
) -> Option<Hash> {
    let mut before = None;
    for (position, chunk) in lines.chunks(chunk_lines).enumerate() {
        let found = Hash::of(&[&chunk.join(&b'\n')]);
        let first = position * chunk_lines;
        match chain.get(position) {
            None => {
                let why = format!("no link of the hash chain is over the lines from {first} on");
                document.findings.push(at(position, Kind::Gap, why, &document.name));
            }
            Some(link) => {
                let wrong = disagrees(link, (position, first, chunk.len()), found, before);
                let wrong = wrong.map(|(kind, why)| at(position, kind, why, &document.name));
                document.findings.extend(wrong);
            }
        }
        before = Some(found);
    }
    let chunks = lines.len().div_ceil(chunk_lines);
    if chain.len() > chunks {
        let why = format!("the hash chain has {} links, and there are lines for {chunks}", chain.len());
        document.found(Kind::ChainBroken, why);
    }
    before
}

fn at(position: usize, kind: Kind, why: String, file: &str) -> Finding {
    Finding::entry(kind, position as u64, why).in_file(file)
}

/// What is wrong with one link, of this chunk of so many lines from `first` on.
fn disagrees(
    link: &Value<'_>,
    (position, first, count): (usize, usize, usize),
    found: Hash,
    before: Option<Hash>,
) -> Option<(Kind, String)> {
    let said = |name: &str| text_of(link, &[name]).and_then(hash);
    if said("hash") != Some(found) {
        return Some((Kind::HashMismatch, format!("the lines of chunk {position} have the hash {found}")));
    }
    if said("prev") != before {
        return Some((Kind::ChainBroken, format!("link {position} does not name the link before it")));
    }
    let range = member(link, &["range"]);
    let bound = |name: &str| range.and_then(|range| number_of(range, &[name]));
    let is = |said: Option<u64>, is: usize| said == Some(is as u64);
    let fits = is(number_of(link, &["chunk"]), position)
        && is(bound("start"), first)
        && is(bound("end"), first + count - 1);
    (!fits)
        .then(|| (Kind::MemberMismatch, format!("link {position} speaks of other lines than are under it")))
}

/// The manifest, which is signed, speaks of these lines.
fn describes(manifest: &Value<'_>, lines: usize, last: Option<Hash>, document: &mut Document<'_>) {
    if number_of(manifest, &["entries"]) != Some(lines as u64) {
        let why = format!("its manifest speaks of another number of lines than the {lines} there are");
        document.found(Kind::MemberMismatch, why);
    }
    if text_of(manifest, &["rootHash"]).and_then(hash) != last {
        document.found(Kind::RootMismatch, "the rootHash of its manifest is not the hash of its last chunk");
    }
}

/// Roles whose signatures hold, each with the keys that signed for it.
fn roles_of(
    signatures: &[Value<'_>],
    manifest_hash: Hash,
    last: Option<Hash>,
    keys: &Keys<'_>,
    document: &mut Document<'_>,
) -> BTreeMap<String, String> {
    let mut signed = BTreeMap::new();
    let payload_hash = last.map(|hash| hash.to_hex()).unwrap_or_default();
    for signature in signatures {
        let Some(role) = text_of(signature, ROLE) else {
            document.found(Kind::DocumentInvalid, "a signature names no role");
            continue;
        };
        let quoted = Mode::JsRebuild.write(&Value::Text(role.as_bytes().into())).unwrap_or_default();
        let text =
            format!("{{\"manifestHash\":\"{manifest_hash}\",\"payloadHash\":\"{payload_hash}\",\"role\":");
        let text = [text.as_bytes(), &quoted, b"}"].concat();
        let claim = Claim::read(signature, &["signedAt"]);
        let held = keys.check(&claim, document, |key, bytes| {
            let ways = [Signed::MessageByPss(&text), Signed::Message(&text)];
            ways.into_iter().find(|signed| signed.holds(key, bytes)).map(drop)
        });
        let Some((signer, ())) = held else { continue };
        document.says.push(format!("signed for {role} by {}", signer.name));
        if signed.insert(role.to_owned(), signer.name.clone()).is_some() {
            document.found(Kind::MemberMismatch, format!("{role} signed twice, which counts once"));
        }
    }
    document.tell("roles", signed.keys().cloned().collect::<Vec<_>>());
    signed
}

/// Whether those signed who must have.
fn wanted(
    signed: &BTreeMap<String, String>,
    roles: &[String],
    quorum: Option<u64>,
    document: &mut Document<'_>,
) {
    let missing: Vec<&str> =
        roles.iter().map(String::as_str).filter(|role| !signed.contains_key(*role)).collect();
    if !missing.is_empty() {
        document.found(Kind::QuorumInvalid, format!("no signature holds for {}", missing.join(", ")));
    }
    let wanted = quorum.unwrap_or(1);
    if (signed.len() as u64) < wanted {
        let why = format!("signatures of {} roles hold, and {wanted} must", signed.len());
        document.found(Kind::QuorumInvalid, why);
    }
    let keys: BTreeSet<&String> = signed.values().collect();
    if keys.len() < signed.len() {
        let why = format!(
            "{} roles signed with {} keys: one holder may have been several",
            signed.len(),
            keys.len()
        );
        document.found(Kind::RolesShareKey, why);
    }
}

/// What this form cannot protect.
fn weaknesses(
    root: &Value<'_>,
    (lines, chunk): (usize, usize),
    roles: &[String],
    document: &mut Document<'_>,
) {
    let first_bound = (lines.saturating_sub(1) / chunk) * chunk;
    if first_bound > 0 {
        let why = format!(
            "prev is not hashed: no signature binds the lines 0 to {}, which may be exchanged with their links",
            first_bound - 1
        );
        document.found(Kind::UnboundField, why);
    }
    let mut unbound = others(root, &[MANIFEST, LINES, CHAIN, SIGNATURES]);
    unbound.push("signatures[].signedAt".to_owned());
    let signatures = list_of(root, SIGNATURES).unwrap_or_default();
    let more = signatures.iter().flat_map(|it| others(it, &[ROLE, SIGNER, SIGNATURE, &["signedAt"]]));
    let more: BTreeSet<String> = more.map(|name| format!("signatures[].{name}")).collect();
    unbound.extend(more);
    document.unbound(&unbound);
    if roles.is_empty() {
        let why = "which roles had to sign is not recorded: a signature that was taken out is not missed; name them by --roles";
        document.found(Kind::UnboundField, why);
    }
}
