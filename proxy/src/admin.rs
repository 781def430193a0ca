//! The admin listener: people with a token of the company's identity provider.
//!
//! Promises: nobody is let in whose token was not verified, and nothing is done that no policy allows; each answer
//! carries the request's id; each refusal is on the ledger. A person's rights are those of their roles at this
//! moment: there are no sessions here, and nothing is remembered of a token.

mod acts;
mod approvals;
mod body;
mod keys;
mod ledger;
mod policies;
pub mod table;

use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use chancery_format::governance::Verdict;
use chancery_format::{Kid, RequestId};
use chancery_identity::{Person, Provider, Role};
use chancery_policy::{Act, Circumstances, Decision, Moment, Question, What, Who};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::header::{AUTHORIZATION, HeaderMap};
use hyper::{Request, Response};

use crate::admission::authority::Authority;
use crate::authenticate::Peer;
use crate::chancery::Chancery;
use crate::checking::Checking;
use crate::governance::lifecycle::Lifecycle;
use crate::listener;
use crate::problem::{Code, Problem};
use crate::request::{read_json, request_id};
use crate::response::Reply;
use crate::routes;
use table::{Call, Route};

/// Everything an act of a person needs.
pub struct Admin {
    pub(super) chancery: Arc<Chancery>,
    pub(super) lifecycle: Arc<Lifecycle>,
    pub(super) authority: Arc<Authority>,
    pub(super) checking: Arc<Checking>,
    provider: Provider,
    /// How long a replaced key stays valid unless a rotation says otherwise, in hours.
    pub(super) overlap_hours: u32,
}

/// A person whose token was verified and whom a policy allows this call.
pub(super) struct Caller {
    pub(super) person: Person,
    /// The policies that allowed it, for logs.
    pub(super) policies: String,
    /// Approvals that policies ask for beside the roster's.
    pub(super) approvals: u32,
    pub(super) request_id: RequestId,
}

impl Caller {
    pub(super) fn name(&self) -> String {
        self.person.name().as_str().to_owned()
    }
}

impl Admin {
    /// For the daemon's parts.
    pub fn new(
        chancery: Arc<Chancery>,
        lifecycle: Arc<Lifecycle>,
        checking: Arc<Checking>,
        provider: Provider,
        overlap_hours: u32,
    ) -> Self {
        let authority = Arc::clone(&chancery.authority);
        Self { chancery, lifecycle, authority, checking, provider, overlap_hours }
    }

    /// Answers one request.
    pub async fn answer(self: Arc<Self>, peer: Peer, request: Request<Incoming>) -> Response<Full<Bytes>> {
        let started = Instant::now();
        let (parts, body) = request.into_parts();
        let request_id = request_id(&parts.headers).unwrap_or_else(|| self.chancery.new_request_id());
        let found = table::find(parts.uri.path());
        let mut who = None;
        let answer = match found {
            None => Err(Problem::plain(Code::NotFound)),
            Some((route, _)) if parts.method != route.method => {
                Err(Problem::plain(Code::MethodNotAllowed).allowing(route.allow()))
            }
            Some((route, parameter)) => match self.person(&parts.headers).await {
                Err(problem) => Err(problem),
                Ok(person) => {
                    who = Some(person.name().clone());
                    let asked = Asked { route, parameter, parts: &parts, peer: &peer };
                    Arc::clone(&self).serve(person, asked, body, &request_id).await
                }
            },
        };
        if let Err(problem) = &answer {
            self.chancery.note_refusal(problem, who.as_ref());
        }
        let route = found.map_or("none", |(route, _)| route.name);
        let status = answer.as_ref().map_or_else(|problem| problem.status(), |reply| reply.status);
        self.chancery.metrics.request(route, status.as_u16(), started.elapsed());
        let code = answer.as_ref().err().map(|problem| problem.code().as_str());
        let cause = answer.as_ref().err().and_then(Problem::cause);
        tracing::info!(
            target: "chancery::admin",
            request_id = request_id.as_str(), route, status = status.as_u16(), code, cause,
            person = who.as_ref().map(|name| name.as_str()), "act of a person"
        );
        routes::write(&answer, &request_id, false)
    }

    /// Who the token says it is.
    async fn person(&self, headers: &HeaderMap) -> Result<Person, Problem> {
        let header = headers.get(AUTHORIZATION).ok_or_else(|| Problem::plain(Code::TokenRequired))?;
        let token = header.to_str().ok().and_then(|text| {
            let (scheme, token) = text.split_once(' ')?;
            scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
        });
        let token = token.ok_or_else(|| Problem::plain(Code::TokenRequired))?;
        let now = u64::try_from(self.chancery.now().unix_ms() / 1_000).unwrap_or_default();
        self.provider.verify(token, now).await.map_err(|error| {
            let code = if error.is_unavailable() { Code::ProviderUnavailable } else { Code::TokenRefused };
            Problem::new(code, format!("{error} ({})", error.code()))
        })
    }

    async fn serve(
        self: Arc<Self>,
        person: Person,
        asked: Asked<'_>,
        body: Incoming,
        request_id: &RequestId,
    ) -> Result<Reply, Problem> {
        let Asked { route, parameter, parts, peer } = asked;
        let what = self.what(route, parameter)?;
        let (policies, approvals) = self.allowed(&person, route.act, what, peer)?;
        let caller = Caller { person, policies, approvals, request_id: request_id.clone() };
        let limits = &self.chancery.limits;
        let body = match route.takes_body() {
            true => read_json(&parts.headers, body, limits.body_bytes_max, limits.body_timeout).await?,
            false => Bytes::new(),
        };
        let acts = route.takes_body() && route.call != Call::PolicyExplain;
        let body = match acts && routes::simulates(parts.uri.query())? {
            true => body::simulated(&body)?,
            false => body,
        };
        tracing::debug!(policies = caller.policies, request_id = caller.request_id.as_str(), "allowed");
        let query = parts.uri.query();
        match route.call {
            Call::WhoAmI => Ok(acts::who_am_i(&caller)),
            Call::Status => Ok(acts::status(&self)),
            Call::Halt => acts::halt(&self, &caller, &body).await,
            Call::Resume => acts::resume(&self, &caller, &body).await,
            Call::Audit => acts::audit(&self, query).await,
            Call::Approvals => approvals::list(&self, query),
            Call::Approval => approvals::one(&self, parameter),
            Call::Approve => approvals::speak(&self, &caller, parameter, &body, Verdict::Approve).await,
            Call::Reject => approvals::speak(&self, &caller, parameter, &body, Verdict::Refuse).await,
            Call::Keys => keys::list(&self),
            Call::Rotate => keys::rotate(&self, &caller, parameter, &body).await,
            Call::Retire => keys::retire(&self, &caller, parameter, &body).await,
            Call::Compromise => keys::compromise(&self, &caller, parameter, &body).await,
            Call::Signatures => keys::signatures(&self, parameter, query).await,
            Call::Policy => Ok(policies::shown(&self)),
            Call::PolicyReload => policies::reload(&self, &caller, &body).await,
            Call::LedgerState => Ok(ledger::state(&self)),
            Call::LedgerCheck => ledger::begin(&self, &caller, &body, false),
            Call::LedgerRepair => ledger::begin(&self, &caller, &body, true),
            Call::PolicyExplain => policies::explain(&self, &body),
        }
    }

    fn what(&self, route: &Route, parameter: &str) -> Result<What, Problem> {
        if !route.is_about_a_key() {
            return Ok(What::Appliance);
        }
        let kid: Kid = parameter.parse().map_err(|_| Problem::plain(Code::UnknownKid))?;
        self.authority.key(&kid).map(What::Key).ok_or_else(|| Problem::plain(Code::UnknownKid))
    }

    /// What policies say. The names of those that allow it, and the approvals they ask for.
    fn allowed(
        &self,
        person: &Person,
        act: Option<Act>,
        what: What,
        peer: &Peer,
    ) -> Result<(String, u32), Problem> {
        // What everybody may who has a token: to see who they are.
        let Some(act) = act else { return Ok((String::new(), 0)) };
        let ask = |roles: Vec<String>| {
            let who = Who::Person { name: person.name().clone(), roles };
            let circumstances = self.circumstances(peer);
            self.authority.decide(&Question { who, act, what: what.clone(), circumstances })
        };
        let held: Vec<String> = person.roles().iter().map(|role| role.as_str().to_owned()).collect();
        let (decision, sha256) = ask(held);
        match decision {
            Decision::Allow { policies } => Ok((joined(&policies), 0)),
            Decision::AllowIf { policies, conditions } => Ok((
                joined(&policies),
                crate::admission::authority::approvals(&conditions, self.chancery.governance.has_roster()),
            )),
            Decision::Deny { policies, reason } => {
                let may =
                    |role: &&Role| !matches!(ask(vec![role.as_str().to_owned()]), (Decision::Deny { .. }, _));
                let roles: Vec<_> = Role::ALL.iter().filter(may).map(|role| role.as_str()).collect();
                let by = match policies.is_empty() {
                    true => "no policy allows".to_owned(),
                    false => format!("{} denies", joined(&policies)),
                };
                let needs = match roles.is_empty() {
                    true => "no role alone may".to_owned(),
                    false => format!("it takes one of the roles {}", roles.join(", ")),
                };
                let detail = format!(
                    "{by} {} to {} ({reason}); {needs}; policy {sha256}",
                    act.as_str(),
                    person.name().as_str()
                );
                Err(Problem::new(Code::RoleMissing, detail))
            }
        }
    }

    fn circumstances(&self, peer: &Peer) -> Circumstances {
        let seconds = u64::try_from(self.chancery.now().unix_ms() / 1_000).unwrap_or_default();
        Circumstances {
            moment: Moment::from_unix_seconds(seconds),
            environment: self.authority.environment().to_owned(),
            source: Some(peer.remote().ip()),
            purpose: None,
            dialect: Some("admin".to_owned()),
            algorithm: None,
            stream: None,
        }
    }
}

/// One request that found its route.
struct Asked<'r> {
    route: &'static Route,
    parameter: &'r str,
    parts: &'r hyper::http::request::Parts,
    peer: &'r Peer,
}

fn joined(policies: &[chancery_policy::PolicyId]) -> String {
    policies.iter().map(|policy| policy.as_str()).collect::<Vec<_>>().join(", ")
}

/// Hands requests to the routes.
#[derive(Clone)]
pub struct AdminHandler(pub Arc<Admin>);

impl listener::Handler for AdminHandler {
    async fn handle(&self, peer: Peer, request: Request<Incoming>) -> Response<Full<Bytes>> {
        Arc::clone(&self.0).answer(peer, request).await
    }
}
