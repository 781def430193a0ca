//! Vault Transit, version 1, and the few other paths its clients touch.
//!
//! The client certificate says who calls; `X-Vault-Token` may be anything then, and without a certificate it is the bearer
//! token of a principal. Key versions count the key pairs of a name in the order they were activated, retired ones
//! included, so that old signatures still name theirs.
//!
//! Differences, all refusals: one key has one algorithm and one hash; a prehashed input must be as long as its hash; PSS
//! salts are as long as the hash (Vault's default is the longest that fits, which verifies the same); no wrapping, no
//! derivation, no key management. Source: the Transit API documentation of Vault and OpenBao.

mod options;
mod replies;

use std::borrow::Cow;
use std::sync::Arc;

use chancery_format::{Hash, Kid};
use futures_util::StreamExt as _;
use hyper::header::HeaderMap;
use serde_json::{Value, json};

use self::options::Options;
use self::replies::{described, envelope, marshalled};
pub(super) use self::replies::{health, refusal};
use super::answering::Asked;
use super::body::Body;
use super::{checking, names};
use crate::admission::policy::Operation;
use crate::admission::{Needs, check_dialect};
use crate::authenticate::Peer;
use crate::chancery::{Chancery, KeyEntry};
use crate::problem::{Code, Problem};
use crate::request::item_key;
use crate::response::Reply;
use crate::routes::Caller;
use crate::signing::{Content, Made, Wanted, make};

/// Items of one batch.
const BATCH_ITEMS_MAX: usize = 250;
/// Items of one batch under way at once.
const AT_ONCE: usize = 16;

/// One of its calls.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Call {
    /// `POST|PUT /v1/transit/sign/:name[/:hash_algorithm]`
    Sign,
    /// `POST|PUT /v1/transit/verify/:name[/:hash_algorithm]`
    Verify,
    /// `POST|PUT /v1/transit/hmac/:name[/:algorithm]`
    Hmac,
    /// `GET /v1/transit/keys/:name`
    Key,
    /// `LIST /v1/transit/keys`
    Keys,
    /// `GET /v1/sys/health`
    Health,
    /// `POST|PUT /v1/auth/cert/login`
    Login,
    /// `GET /v1/auth/token/lookup-self`
    LookUp,
    /// `POST|PUT /v1/auth/token/renew-self`
    Renew,
    /// Anything else below the mount.
    Other,
}

impl Call {
    /// The call at this path, and what follows it. Doubled slashes count once.
    pub(super) fn find(path: &str) -> Option<(Self, Cow<'_, str>)> {
        let rest = path.strip_prefix("/v1/")?;
        let segments: Vec<&str> = rest.split('/').filter(|segment| !segment.is_empty()).collect();
        let (call, parameter) = match segments.as_slice() {
            ["sys", "health"] => (Self::Health, [].as_slice()),
            ["auth", "cert", "login"] => (Self::Login, [].as_slice()),
            ["auth", "token", "lookup-self"] => (Self::LookUp, [].as_slice()),
            ["auth", "token", "renew-self"] => (Self::Renew, [].as_slice()),
            ["transit", "sign", rest @ ..] if (1..=2).contains(&rest.len()) => (Self::Sign, rest),
            ["transit", "verify", rest @ ..] if (1..=2).contains(&rest.len()) => (Self::Verify, rest),
            ["transit", "hmac", rest @ ..] if (1..=2).contains(&rest.len()) => (Self::Hmac, rest),
            ["transit", "keys"] => (Self::Keys, [].as_slice()),
            ["transit", "keys", rest @ ..] if rest.len() == 1 => (Self::Key, rest),
            ["transit" | "sys" | "auth", ..] => (Self::Other, [].as_slice()),
            _ => return None,
        };
        let text = parameter.join("/");
        Some((call, Cow::Owned(crate::routes::table::percent_decode(&text)?.into_owned())))
    }

    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Sign => "vault_sign",
            Self::Verify => "vault_verify",
            Self::Hmac => "vault_hmac",
            Self::Key => "vault_key",
            Self::Keys => "vault_keys",
            Self::Health => "vault_health",
            Self::Login | Self::LookUp | Self::Renew => "vault_token",
            Self::Other => "vault_other",
        }
    }

    pub(super) const fn needs(self) -> Option<Needs> {
        match self {
            Self::Health => None,
            Self::Sign => Some(Needs::key_use(Operation::Sign)),
            Self::Verify => Some(Needs::read(Operation::Verify)),
            Self::Hmac => Some(Needs::key_use(Operation::Mac)),
            Self::Key | Self::Keys | Self::Login | Self::LookUp | Self::Renew | Self::Other => {
                Some(Needs::read(Operation::Keys))
            }
        }
    }

    pub(super) const fn takes_body(self) -> bool {
        matches!(self, Self::Sign | Self::Verify | Self::Hmac | Self::Login | Self::Renew)
    }
}

/// Answers one call.
pub(super) async fn answer(
    chancery: &Arc<Chancery>,
    peer: &Peer,
    caller: Caller<'_>,
    call: Call,
    asked: &Asked<'_>,
) -> Result<Reply, Problem> {
    check_dialect(&caller.grants, caller.dialect, None)?;
    refuse_wrapping(&asked.parts.headers)?;
    let body = match asked.body.is_empty() {
        true => Body::default(),
        false => Body::read(&asked.body)?,
    };
    let request_id = caller.request_id.as_str();
    let (name, hash) = asked.parameter.split_once('/').map_or((asked.parameter, None), |(a, b)| (a, Some(b)));
    match call {
        Call::Sign | Call::Verify | Call::Hmac => {
            Work::new(chancery, &caller, call, (name, hash), &body)?.answer(&body).await
        }
        Call::Key => {
            let key = named(chancery, &caller, name)?;
            described(chancery, &key).map(|data| envelope(request_id, &data, &Value::Null))
        }
        Call::Keys => {
            let keys: Vec<String> = chancery
                .keys()
                .into_iter()
                .filter(|key| !key.is_ledger_key)
                .map(|key| key.kid.as_str().to_owned())
                .collect();
            Ok(envelope(request_id, &json!({ "keys": keys }), &Value::Null))
        }
        Call::Login | Call::Renew | Call::LookUp => Ok(token(peer, &caller, call)?),
        Call::Health | Call::Other => Err(Problem::plain(Code::NotFound)),
    }
}

/// A wrapped reply would be one that is not enrolled as given.
fn refuse_wrapping(headers: &HeaderMap) -> Result<(), Problem> {
    match headers.contains_key("x-vault-wrap-ttl") {
        true => Err(Problem::new(Code::InvalidField, "responses are not wrapped here")),
        false => Ok(()),
    }
}

fn named(chancery: &Chancery, caller: &Caller<'_>, name: &str) -> Result<Arc<KeyEntry>, Problem> {
    let key = names::resolve(chancery, caller, Some(name))?;
    match key.is_ledger_key {
        true => Err(Problem::new(Code::UnknownKid, "no key has this name")),
        false => Ok(key),
    }
}

/// The items of a batch; `None` if the body is one item itself.
fn items(body: &Body) -> Result<Option<Vec<Body>>, Problem> {
    let Some(batch) = body.get("batch_input") else { return Ok(None) };
    let batch = batch.as_array().filter(|batch| !batch.is_empty());
    let batch = batch
        .ok_or_else(|| Problem::new(Code::InvalidField, "batch_input must be a list that is not empty"))?;
    if batch.len() > BATCH_ITEMS_MAX {
        let words = format!("the batch has {} items, the limit is {BATCH_ITEMS_MAX}", batch.len());
        return Err(Problem::new(Code::BatchTooLarge, words));
    }
    batch.iter().map(Body::of).collect::<Result<_, _>>().map(Some)
}

/// One call on one key: what is done for its body, or for each item of its batch.
struct Work<'c> {
    chancery: &'c Arc<Chancery>,
    caller: &'c Caller<'c>,
    key: Arc<KeyEntry>,
    options: Options,
    call: Call,
    /// The version of what is made.
    version: usize,
}

impl<'c> Work<'c> {
    fn new(
        chancery: &'c Arc<Chancery>,
        caller: &'c Caller<'c>,
        call: Call,
        (name, hash): (&str, Option<&str>),
        body: &Body,
    ) -> Result<Self, Problem> {
        let options = Options::read(body, hash)?;
        let key = named(chancery, caller, name)?;
        let makes_macs = key.algorithm.is_mac();
        if makes_macs && call == Call::Sign {
            let words = format!("key {} makes MACs: use hmac", key.kid);
            return Err(Problem::new(Code::AlgorithmMismatch, words));
        }
        if makes_macs || call == Call::Hmac {
            options.check_mac(&key)?;
        }
        if call == Call::Verify && makes_macs && !caller.grants.allows(Operation::Mac) {
            return Err(Problem::new(Code::OperationNotGranted, "checking a MAC takes the grant for MACs"));
        }
        if call == Call::Verify && !makes_macs {
            checking::may_check(chancery, caller, &key)?;
        }
        let version = if call == Call::Verify { 0 } else { options.latest_only(chancery, &key)? };
        Ok(Self { chancery, caller, key, options, call, version })
    }

    /// The body's answer; of a batch each item has its own, and its own fault.
    async fn answer(&self, body: &Body) -> Result<Reply, Problem> {
        let request_id = self.caller.request_id.as_str();
        let Some(batch) = items(body)? else {
            return Ok(envelope(request_id, &self.one(body, None).await?, &Value::Null));
        };
        let results = futures_util::stream::iter(batch.into_iter().enumerate())
            .map(|(position, item)| self.settled(position, item))
            .buffered(AT_ONCE)
            .collect::<Vec<Value>>();
        Ok(envelope(request_id, &json!({ "batch_results": results.await }), &Value::Null))
    }

    async fn settled(&self, position: usize, item: Body) -> Value {
        let mut result = match self.one(&item, Some(position)).await {
            Ok(value) => value,
            Err(problem) => json!({ "error": problem.detail() }),
        };
        if let (Value::Object(members), Some(reference)) = (&mut result, item.get("reference")) {
            members.insert("reference".to_owned(), reference.clone());
        }
        result
    }

    async fn one(&self, item: &Body, position: Option<usize>) -> Result<Value, Problem> {
        let Self { options, version, .. } = self;
        match self.call {
            Call::Sign => {
                let made = self.enrolled(options.prepare(&self.key, item)?, position).await?;
                let signature = marshalled(&made, options.marshaling, *version)?;
                Ok(json!({ "signature": signature, "key_version": version, "receipt": receipt(&made) }))
            }
            Call::Hmac => {
                let made = self.enrolled(Content::Message(options::input(item)?), position).await?;
                Ok(
                    json!({ "hmac": format!("vault:v{version}:{}", made.signature), "receipt": receipt(&made) }),
                )
            }
            _ => Ok(json!({ "valid": self.holds(item).await? })),
        }
    }

    /// Whether the signature or MAC of an item is the key's.
    async fn holds(&self, item: &Body) -> Result<bool, Problem> {
        let Self { chancery, caller, key, options, .. } = self;
        if key.algorithm.is_mac() {
            let (_, mac) = options::versioned(item.required(&["hmac"])?)?;
            let mac = super::body::decode("hmac", mac)?;
            return crate::keys::mac_holds(chancery, caller, &key.kid, options::input(item)?, mac).await;
        }
        let content = options.prepare(key, item)?;
        let (version, text) = options::versioned(item.required(&["signature"])?)?;
        let Some(signature) = options.unmarshal(key, text) else { return Ok(false) };
        let published = chancery.registry.load();
        let pairs = replies::versions(&published.registry, &key.kid);
        let record = usize::try_from(version).ok().and_then(|version| pairs.get(version.checked_sub(1)?));
        Ok(record.is_some_and(|record| checking::holds(record, &content, &signature)))
    }

    /// One key use; the items of a batch are retried each by itself.
    async fn enrolled(&self, content: Content, position: Option<usize>) -> Result<Made, Problem> {
        let wanted = Wanted::of(Arc::clone(&self.key), content);
        let mut caller = self.caller.clone();
        if let (Some(position), Some(batch)) = (position, &self.caller.idempotency_key) {
            caller.idempotency_key = item_key(batch, position);
        }
        let made = make(self.chancery, &caller, &wanted).await?;
        made.ok_or_else(|| Problem::internal("a key use was only tried"))
    }
}

fn receipt(made: &Made) -> Value {
    serde_json::from_str(&made.receipt).unwrap_or(Value::Null)
}

/// A token that names its certificate and opens nothing without it.
fn token(peer: &Peer, caller: &Caller<'_>, call: Call) -> Result<Reply, Problem> {
    let principal = peer.principal()?;
    let id = Hash::of(&[b"chancery/vault-token\0", &principal.certificate().0]).to_hex();
    let name = principal.name().as_str();
    let (token, accessor) = (format!("hvs.{id}"), id.get(..24).unwrap_or_default());
    let kids: Vec<&str> = caller.grants.kids().iter().map(Kid::as_str).collect();
    let request_id = caller.request_id.as_str();
    if call == Call::LookUp {
        let data = json!({
            "id": token, "accessor": accessor, "display_name": name, "policies": kids, "renewable": true,
            "ttl": replies::LEASE_S, "creation_ttl": replies::LEASE_S, "type": "service", "orphan": true,
            "path": "auth/cert/login", "meta": { "cert_name": name },
        });
        return Ok(envelope(request_id, &data, &Value::Null));
    }
    let auth = json!({
        "client_token": token, "accessor": accessor, "policies": kids, "token_policies": kids,
        "metadata": { "cert_name": name }, "lease_duration": replies::LEASE_S, "renewable": true,
        "entity_id": "", "token_type": "service", "orphan": true,
    });
    Ok(envelope(request_id, &Value::Null, &auth))
}
