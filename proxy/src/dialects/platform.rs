//! The platform's own routes, at the root, as its services call them.
//!
//! `/sign` is one path and many languages: the member that carries what is signed tells which. Exactly one must be
//! there. What each signs:
//!
//! | member | signed |
//! |---|---|
//! | `payload` | its UTF-8 text; the reply's `ts` is the text's own |
//! | `payload_b64` | the bytes; an RSA or ECDSA key takes as many bytes as a digest has for a digest |
//! | `digest_hex`, `hash` | the 32 bytes, not hashed again |
//! | `canonical_payload`, `canonical` | SHA-256 of the text, not hashed again |
//! | `data` with `algorithm` | the bytes, hashed once where the algorithm does |
//! | `sha256` | the text of 64 characters, as a message |
//! | `upgradeId` and `manifestHash` | the whole body as canonical JSON (RFC 8785), as a message |
//!
//! `/signData` takes text that begins with `{` as it stands, and everything else as base64.

mod replies;
mod shapes;

use std::borrow::Cow;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use chancery_format::registry::SignerRecord;
use chancery_format::{Kid, SignatureAlgorithm};
use chancery_policy::{Act, What};
use serde_json::json;

pub(super) use self::replies::refusal;
use self::replies::{algorithm_word, public_key, signed, verified};
use self::shapes::{SIGNATURE, SIGNER, Shape};
use super::answering::Asked;
use super::body::Body;
use super::{Dialect, checking, names};
use crate::admission::policy::Operation;
use crate::admission::{Needs, Refusal, check_dialect};
use crate::chancery::{Chancery, KeyEntry};
use crate::problem::{Code, Problem};
use crate::response::Reply;
use crate::routes::Caller;
use crate::signing::{Wanted, make, may};

/// One of its calls.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Call {
    /// `POST /sign`
    Sign,
    /// `POST /signData`, `/sign/data`
    SignData,
    /// `POST /sign/hash`
    SignHash,
    /// `POST /sign/canonical`
    SignCanonical,
    /// `POST /verify`
    Verify,
    /// `GET /publicKeys/{id}`
    PublicKeys,
    /// `POST /publicKey`
    PublicKey,
    /// `GET /public-key[?kid=]`
    PublicKeyPem,
    /// `POST /keys/rotate`
    Rotate,
    /// `GET /ready`, `/healthz`, `/v1/status`
    Alive,
}

impl Call {
    /// The call at this path, and its parameter.
    pub(super) fn find(path: &str) -> Option<(Self, Cow<'_, str>)> {
        let call = match path {
            "/sign" => Self::Sign,
            "/signData" | "/sign/data" => Self::SignData,
            "/sign/hash" => Self::SignHash,
            "/sign/canonical" => Self::SignCanonical,
            "/verify" => Self::Verify,
            "/publicKey" => Self::PublicKey,
            "/public-key" => Self::PublicKeyPem,
            "/keys/rotate" => Self::Rotate,
            "/ready" | "/healthz" | "/v1/status" => Self::Alive,
            _ => {
                let id = path.strip_prefix("/publicKeys/").filter(|id| !id.is_empty())?;
                return Some((Self::PublicKeys, crate::routes::table::percent_decode(id)?));
            }
        };
        Some((call, Cow::Borrowed("")))
    }

    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Sign => "platform_sign",
            Self::SignData => "platform_sign_data",
            Self::SignHash => "platform_sign_hash",
            Self::SignCanonical => "platform_sign_canonical",
            Self::Verify => "platform_verify",
            Self::PublicKeys | Self::PublicKey | Self::PublicKeyPem => "platform_public_key",
            Self::Rotate => "platform_rotate",
            Self::Alive => "health",
        }
    }

    pub(super) const fn needs(self) -> Option<Needs> {
        match self {
            Self::Sign | Self::SignData | Self::SignHash | Self::SignCanonical => {
                Some(Needs::key_use(Operation::Sign))
            }
            Self::Verify => Some(Needs::read(Operation::Verify)),
            Self::PublicKeys | Self::PublicKey | Self::PublicKeyPem | Self::Rotate => {
                Some(Needs::read(Operation::Keys))
            }
            Self::Alive => None,
        }
    }

    pub(super) const fn takes_body(self) -> bool {
        !matches!(self, Self::PublicKeys | Self::PublicKeyPem | Self::Alive)
    }

    /// Its language, unless the body tells.
    pub(super) const fn dialect(self) -> Dialect {
        match self {
            Self::SignHash | Self::SignCanonical => Dialect::Digest,
            Self::PublicKeyPem => Dialect::Marketplace,
            Self::SignData | Self::PublicKeys | Self::PublicKey | Self::Rotate => Dialect::Kernel,
            Self::Sign | Self::Verify | Self::Alive => Dialect::Payload,
        }
    }
}

/// Answers one call.
pub(super) async fn answer(
    chancery: &Arc<Chancery>,
    caller: Caller<'_>,
    call: Call,
    asked: &Asked<'_>,
) -> Result<Reply, Problem> {
    match call {
        Call::Sign => sign(chancery, caller, Shape::of_sign(&Body::read(&asked.body)?)?).await,
        Call::SignData => sign(chancery, caller, Shape::of_data(&Body::read(&asked.body)?)?).await,
        Call::SignHash => sign(chancery, caller, Shape::of_hash(&Body::read(&asked.body)?)?).await,
        Call::SignCanonical => sign(chancery, caller, Shape::of_canonical(&Body::read(&asked.body)?)?).await,
        Call::Verify => verify(chancery, caller, &Body::read(&asked.body)?),
        Call::PublicKeys => public(chancery, &caller, Some(asked.parameter), true),
        Call::PublicKey => public(chancery, &caller, Body::read(&asked.body)?.text(SIGNER)?, false),
        Call::PublicKeyPem => {
            let kid = asked.parts.uri.query().and_then(|query| query.strip_prefix("kid="));
            let kid = kid.map(|kid| {
                crate::routes::table::percent_decode(kid).ok_or_else(|| Problem::plain(Code::UnknownKid))
            });
            public(chancery, &caller, kid.transpose()?.as_deref(), true)
        }
        Call::Rotate => Err(Problem::new(
            Code::PolicyDenied,
            "keys are rotated by people, with a quorum: `chancery keys rotate`; the new signer id is published first",
        )),
        Call::Alive => Err(Problem::internal("an open call was taken for one with a caller")),
    }
}

async fn sign(chancery: &Arc<Chancery>, caller: Caller<'_>, shape: Shape) -> Result<Reply, Problem> {
    let caller = Caller { dialect: shape.dialect, ..caller };
    let key = names::resolve(chancery, &caller, shape.signer.as_deref())?;
    shape.check_algorithm(&key)?;
    let content = shape.content(key.algorithm);
    let wanted = Wanted { signed_ts: shape.signed_ts(), ..Wanted::of(key, content) };
    let made = make(chancery, &caller, &wanted).await?;
    let made = made.ok_or_else(|| Problem::internal("a signature was only tried"))?;
    Ok(Reply::json(signed(&shape, &made, &caller.request_id).to_string()))
}

/// Always 200: a signature that does not verify is an answer. Clients that get an error instead take it for a yes.
fn verify(chancery: &Chancery, caller: Caller<'_>, body: &Body) -> Result<Reply, Problem> {
    let shape = Shape::of_verify(body)?;
    let signature = body.required(SIGNATURE)?;
    let caller = Caller { dialect: shape.dialect, ..caller };
    check_dialect(&caller.grants, caller.dialect, None)?;
    let keys: Vec<Arc<KeyEntry>> = match shape.signer.as_deref() {
        Some(name) => by_any_name(chancery, name).into_iter().collect(),
        None => caller.grants.kids().iter().filter_map(|kid| chancery.key(kid)).collect(),
    };
    let signature = STANDARD.decode(signature).unwrap_or_default();
    let mut found = None;
    for key in keys {
        match checking::may_check(chancery, &caller, &key) {
            Ok(()) => {}
            // Of keys it did not name, those it may not check are passed over.
            Err(_) if shape.signer.is_none() => continue,
            Err(problem) => return Err(problem),
        }
        let content = shape.content(key.algorithm);
        if let Some(signer_kid) = checking::signed_by(chancery, &key, &content, &signature) {
            found = Some((key.kid.clone(), signer_kid));
            break;
        }
    }
    Ok(Reply::json(verified(&shape, found.as_ref(), &caller.request_id, chancery.now()).to_string()))
}

/// The key of a name, also by a key pair that left use: what it signed is still checked.
fn by_any_name(chancery: &Chancery, name: &str) -> Option<Arc<KeyEntry>> {
    names::named(chancery, name).or_else(|| {
        let published = chancery.registry.load();
        let kid: Kid = published.registry.signer(name)?.kid.clone()?;
        chancery.key(&kid)
    })
}

/// A public key: as PEM, or as the raw bytes of an Ed25519 key (another algorithm's as SPKI).
fn public(
    chancery: &Chancery,
    caller: &Caller<'_>,
    name: Option<&str>,
    as_pem: bool,
) -> Result<Reply, Problem> {
    check_dialect(&caller.grants, caller.dialect, None)?;
    may(chancery, caller, Act::ListKeys, What::Appliance, None)?;
    let published = chancery.registry.load();
    let record = match name.and_then(|name| published.registry.signer(name)) {
        Some(record) => record,
        None => {
            let key = names::resolve(chancery, caller, name)?;
            let record = published.registry.signer(key.signer_kid.as_str());
            record.ok_or_else(|| Problem::from(Refusal::UnknownKid { kid: key.kid.clone() }))?
        }
    };
    Ok(Reply::json(described(record, as_pem)?.to_string()))
}

fn described(record: &SignerRecord, as_pem: bool) -> Result<serde_json::Value, Problem> {
    let key = record.public_key().map_err(Problem::internal)?;
    let key = key.ok_or_else(|| Problem::new(Code::NotFound, "a MAC key has no public half"))?;
    let pem = key.to_pem();
    let text = match (as_pem, key.ed25519_raw()) {
        (true, _) => pem.clone(),
        (false, Some(raw)) => STANDARD.encode(raw),
        (false, None) => STANDARD.encode(key.spki_der()),
    };
    Ok(public_key(record.signer_kid.as_str(), algorithm_word(record.algorithm), &text, &pem))
}

/// What the kernel's own check of signatures can read: other words make its client throw away a good signature.
fn kernel_reads(algorithm: SignatureAlgorithm) -> bool {
    let word = algorithm_word(algorithm);
    word.contains("ed25519") || word.contains("rsa")
}

/// One member of a reply under all of its names.
fn aliases(names: &[&str], value: &str) -> impl Iterator<Item = (String, serde_json::Value)> {
    names.iter().map(|name| ((*name).to_owned(), json!(value))).collect::<Vec<_>>().into_iter()
}
