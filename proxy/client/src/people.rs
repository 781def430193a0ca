//! Acts of people over the admin listener: stop, go on, approve, rotate, give up, look.
//!
//! Promises: each call carries the token of the person's login, a new one where that needs nobody; a call that
//! could do a thing twice is never sent again by itself; nobody approves an act other than the one that was
//! shown: [`People::speak`] takes a [`Proposal`], and that exists only if the act's hash was computed here.
//!
//! Refuses: to call without a login; replies that are no JSON.
//!
//! | file | promises |
//! |---|---|
//! | `bodies.rs` | what is sent |
//! | `proposal.rs` | a request for approval, checked; the text an approver signs, checked |
//! | `approver_key.rs` | an approver's own key, from a file only its owner can read |

mod approver_key;
mod bodies;
mod proposal;

use std::path::PathBuf;

use chancery_format::governance::{Scope, Verdict};
use chancery_format::names::Kid;
use hyper::header::HeaderValue;
use serde::Serialize;
use serde_json::{Value, json};

use crate::api::Answer;
use crate::client::{path_segment, read};
use crate::error::ClientError;
use crate::limits;
use crate::login::{Clock, LoginError, access_token};
use crate::options::{Options, OptionsError};
use crate::transport::{Call, Transport};

pub use approver_key::{ApproverKey, ApproverKeyError};
pub use bodies::{Compromise, Emergency, Explain, Rotate};
pub use proposal::{Proposal, ProposalError};

/// Calls of one person to one admin listener. Calls may run at once.
pub struct People {
    transport: Transport,
    token_file: PathBuf,
    clock: Clock,
}

/// Why a call gave no result.
#[derive(Debug, thiserror::Error)]
pub enum PeopleError {
    /// There is no login, or it has ended. Nothing was sent; sign in.
    #[error("sign in first: chancery login --issuer URL --client-id ID ({0})")]
    SignIn(LoginError),
    /// The login cannot be used or renewed. Nothing was sent.
    #[error(transparent)]
    Login(LoginError),
    /// As for every call. A refusal's detail names the role that is missing.
    #[error(transparent)]
    Call(#[from] ClientError),
}

impl From<LoginError> for PeopleError {
    fn from(error: LoginError) -> Self {
        match error {
            LoginError::NoLogin(_) | LoginError::LoginNeeded => Self::SignIn(error),
            error => Self::Login(error),
        }
    }
}

/// What a call asked for, as JSON.
pub type Told = Result<Answer<Value>, PeopleError>;

impl People {
    /// `options` without a client certificate: people are known by the token of the login in `token_file`.
    pub fn new(options: &Options, token_file: PathBuf, clock: Clock) -> Result<Self, OptionsError> {
        Ok(Self { transport: Transport::new(options, limits::ADMIN_PORT)?, token_file, clock })
    }

    /// Who the token says we are, and which roles we hold.
    pub async fn who_am_i(&self) -> Told {
        self.get("/admin/v1/whoami".to_owned()).await
    }

    /// What is halted, asked for and being rotated.
    pub async fn status(&self) -> Told {
        self.get("/admin/v1/status".to_owned()).await
    }

    /// Stops signing. Halting twice is halting once, so a lost call is sent again.
    pub async fn halt(&self, scope: &Scope, reason: &str, dry_run: bool) -> Told {
        let body = json!({ "scope": scope, "reason": reason, "dryRun": dry_run });
        self.post("/admin/v1/halt", &body, false).await
    }

    /// Asks for signing to go on: done at once where nobody has to approve, else a request for approval.
    pub async fn resume(&self, scope: &Scope, reason: &str, dry_run: bool) -> Told {
        let body = json!({ "scope": scope, "reason": reason, "dryRun": dry_run });
        self.post("/admin/v1/resume", &body, true).await
    }

    /// Requests for approval, all or those of one status.
    pub async fn approvals(&self, status: Option<&str>) -> Told {
        let query = status.map(|status| format!("?status={}", path_segment(status)));
        self.get(format!("/admin/v1/approvals{}", query.unwrap_or_default())).await
    }

    /// One request for approval; [`Proposal::read`] checks it.
    pub async fn approval(&self, id: &str) -> Told {
        self.get(format!("/admin/v1/approvals/{}", path_segment(id))).await
    }

    /// Says yes or no to exactly the act in `proposal`. Where the approver has a registered key, `key` is that key.
    pub async fn speak(
        &self,
        proposal: &Proposal,
        verdict: Verdict,
        key: Option<&ApproverKey>,
        note: Option<&str>,
    ) -> Result<Answer<Value>, SpeakError> {
        let signature = match key {
            Some(key) => Some(key.sign(&proposal.statement(verdict)?)),
            None => None,
        };
        let word = match verdict {
            Verdict::Approve => "approve",
            Verdict::Refuse => "reject",
        };
        let body = bodies::Word { act_sha256: proposal.act_sha256(), signature, note };
        let path = format!("/admin/v1/approvals/{}/{word}", path_segment(proposal.id()));
        Ok(self.post(&path, &body, true).await?)
    }

    /// Every key pair with its state.
    pub async fn keys(&self) -> Told {
        self.get("/admin/v1/keys".to_owned()).await
    }

    /// Asks for a key to be replaced by another.
    pub async fn rotate(&self, kid: &Kid, rotate: &Rotate) -> Told {
        self.post(&of_key(kid, "rotate"), rotate, true).await
    }

    /// Ends a replaced key before its time.
    pub async fn retire(&self, kid: &Kid, signer_kid: &Kid, reason: &str, dry_run: bool) -> Told {
        let body = json!({ "signer_kid": signer_kid, "reason": reason, "dryRun": dry_run });
        self.post(&of_key(kid, "retire"), &body, true).await
    }

    /// Halts a key for ever and lists what it signed.
    pub async fn compromise(&self, kid: &Kid, compromise: &Compromise) -> Told {
        self.post(&of_key(kid, "compromise"), compromise, true).await
    }

    /// What a key pair signed at or after an index.
    pub async fn signatures(&self, kid: &Kid, signer_kid: Option<&Kid>, from: u64) -> Told {
        let pair = signer_kid.map(|kid| format!("&signer_kid={}", path_segment(kid.as_str())));
        self.get(format!("{}?from={from}{}", of_key(kid, "signatures"), pair.unwrap_or_default())).await
    }

    /// Acts of people from a position on, one page.
    pub async fn audit(&self, from: u64) -> Told {
        self.get(format!("/admin/v1/audit?from={from}")).await
    }

    /// The policies in force.
    pub async fn policy(&self) -> Told {
        self.get("/admin/v1/policy".to_owned()).await
    }

    /// Has the policies read again. Twice is once.
    pub async fn reload_policy(&self, dry_run: bool) -> Told {
        self.post("/admin/v1/policy/reload", &json!({ "dryRun": dry_run }), false).await
    }

    /// Which policy in force would decide a question, and why.
    pub async fn explain_policy(&self, question: &Explain) -> Told {
        self.post("/admin/v1/policy/explain", question, false).await
    }

    /// How far the check of the ledger is, or what the last one found.
    pub async fn ledger_check(&self) -> Told {
        self.get("/admin/v1/ledger".to_owned()).await
    }

    /// Has store, archive and signed checkpoints held against each other; with `repair`, what the archive lacks and a
    /// checkpoint proves is shipped again. It begins; [`Self::ledger_check`] tells how it goes.
    pub async fn check_ledger(&self, repair: bool) -> Told {
        let path = if repair { "/admin/v1/ledger/repair" } else { "/admin/v1/ledger/check" };
        self.post(path, &json!({}), true).await
    }

    async fn get(&self, path: String) -> Told {
        self.call(Call::get(path)).await
    }

    async fn post(&self, path: &str, body: &impl Serialize, once: bool) -> Told {
        let body = serde_json::to_vec(body).map_err(|error| ClientError::Request(error.to_string()))?;
        self.call(Call { once, ..Call::post(path, body.into()) }).await
    }

    async fn call(&self, call: Call) -> Told {
        let token = access_token(&self.token_file, self.clock).await?;
        let mut credentials = HeaderValue::try_from(format!("Bearer {}", token.as_str()))
            .map_err(|_| ClientError::Request("the token does not fit a header".into()))?;
        credentials.set_sensitive(true);
        let call = Call { authorization: Some(credentials), ..call };
        Ok(read(self.transport.call(&call).await?)?)
    }
}

/// Why an approver's word was not taken.
#[derive(Debug, thiserror::Error)]
pub enum SpeakError {
    /// What the service asks to be signed is not the statement of the act that was shown. Nothing was sent.
    #[error(transparent)]
    Proposal(#[from] ProposalError),
    /// The call.
    #[error(transparent)]
    Call(#[from] PeopleError),
}

fn of_key(kid: &Kid, act: &str) -> String {
    format!("/admin/v1/keys/{}/{act}", path_segment(kid.as_str()))
}
