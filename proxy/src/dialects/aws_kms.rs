//! AWS KMS as its SDKs speak it: JSON 1.1 at `POST /`, the operation named by `X-Amz-Target`.
//!
//! The client certificate (or the agent's) says who calls; the SigV4 header is not looked at, for its secret is nobody's.
//! All attempts of one SDK call bear one `amz-sdk-invocation-id`, which makes them one signature. Where the receipt is
//! stands in header fields, because SDKs drop members they do not know. Checks come in the order of AWS's own:
//! members, key, usage, state, algorithm, message; then the policy. Source: the KMS API model, 2014-11-01.
//!
//! Differences, all refusals: one key has one algorithm; keys are not managed here.

mod keys;
mod requests;

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use chancery_format::RequestId;
use hyper::StatusCode;
use hyper::header::HeaderMap;
use serde_json::{Value, json};

use self::requests::{KeyRequest, MacRequest, SignRequest};
use super::answering::Asked;
use super::body::Body;
use super::checking;
use crate::admission::policy::Operation;
use crate::admission::{Needs, check_dialect};
use crate::chancery::Chancery;
use crate::problem::{Code, Problem};
use crate::response::{Caching, Reply};
use crate::routes::Caller;
use crate::signing::{Made, Wanted, make};

/// Media type of this protocol.
const AMZ_JSON: &str = "application/x-amz-json-1.1";

/// An operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Target {
    Sign,
    Verify,
    GetPublicKey,
    DescribeKey,
    GenerateMac,
    VerifyMac,
    ListKeys,
    ListAliases,
    /// One that AWS has, or may have, and this appliance does not.
    Unsupported,
}

impl Target {
    /// The operation a request names; `None` for none of KMS.
    pub(super) fn of(headers: &HeaderMap) -> Option<Self> {
        let name = headers.get("x-amz-target")?.to_str().ok()?.strip_prefix("TrentService.")?;
        Some(match name {
            "Sign" => Self::Sign,
            "Verify" => Self::Verify,
            "GetPublicKey" => Self::GetPublicKey,
            "DescribeKey" => Self::DescribeKey,
            "GenerateMac" => Self::GenerateMac,
            "VerifyMac" => Self::VerifyMac,
            "ListKeys" => Self::ListKeys,
            "ListAliases" => Self::ListAliases,
            _ => Self::Unsupported,
        })
    }

    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Sign => "kms_sign",
            Self::Verify => "kms_verify",
            Self::GetPublicKey => "kms_get_public_key",
            Self::DescribeKey => "kms_describe_key",
            Self::GenerateMac => "kms_generate_mac",
            Self::VerifyMac => "kms_verify_mac",
            Self::ListKeys => "kms_list_keys",
            Self::ListAliases => "kms_list_aliases",
            Self::Unsupported => "kms_unsupported",
        }
    }

    pub(super) const fn needs(self) -> Needs {
        match self {
            Self::Sign => Needs::key_use(Operation::Sign),
            Self::Verify => Needs::read(Operation::Verify),
            Self::GenerateMac => Needs::key_use(Operation::Mac),
            Self::VerifyMac => Needs::key_read(Operation::Mac),
            Self::GetPublicKey
            | Self::DescribeKey
            | Self::ListKeys
            | Self::ListAliases
            | Self::Unsupported => Needs::read(Operation::Keys),
        }
    }
}

/// Answers one call.
pub(super) async fn answer(
    chancery: &Arc<Chancery>,
    caller: Caller<'_>,
    target: Option<Target>,
    asked: &Asked<'_>,
) -> Result<Reply, Problem> {
    check_dialect(&caller.grants, caller.dialect, None)?;
    let region = keys::region(&asked.parts.headers);
    let Some(target) = target else {
        return Ok(exception(StatusCode::BAD_REQUEST, "UnknownOperationException", ""));
    };
    if target == Target::Unsupported {
        let words = "this appliance signs, verifies and shows keys; it does not manage them by this protocol";
        return Ok(exception(StatusCode::BAD_REQUEST, "UnsupportedOperationException", words));
    }
    let body = Body::read(&asked.body)?;
    match target {
        Target::Sign => sign(chancery, &caller, &body, &region).await,
        Target::Verify => verify(chancery, &caller, &body, &region),
        Target::GenerateMac => generate_mac(chancery, &caller, &body, &region).await,
        Target::VerifyMac => verify_mac(chancery, &caller, &body, &region).await,
        Target::GetPublicKey => {
            let key = KeyRequest::read(&body)?.find(chancery, &caller)?;
            keys::public(&key, &region).map(|value| reply(&value))
        }
        Target::DescribeKey => {
            let key = KeyRequest::read(&body)?.find(chancery, &caller)?;
            Ok(reply(&keys::metadata(chancery, &caller, &key, &region)))
        }
        Target::ListKeys => keys::list(chancery, &caller, &body, &region).map(|value| reply(&value)),
        Target::ListAliases => keys::aliases(chancery, &caller, &body, &region).map(|value| reply(&value)),
        Target::Unsupported => Err(Problem::internal("an operation without answer was to be answered")),
    }
}

async fn sign(
    chancery: &Arc<Chancery>,
    caller: &Caller<'_>,
    body: &Body,
    region: &str,
) -> Result<Reply, Problem> {
    let request = SignRequest::read(body)?;
    let key = request.key.find(chancery, caller)?;
    keys::check_usage(chancery, caller, &key, region, "Sign")?;
    let content = request.content(&key)?;
    let arn = keys::arn(&key.kid, region);
    let wanted = Wanted { dry_run: body.flag("DryRun")?, ..Wanted::of(key, content) };
    let Some(made) = make(chancery, caller, &wanted).await? else { return Ok(would_succeed()) };
    let value = json!({
        "KeyId": arn, "Signature": made.signature, "SigningAlgorithm": request.algorithm,
    });
    Ok(with_receipt(reply(&value), &made))
}

fn verify(chancery: &Chancery, caller: &Caller<'_>, body: &Body, region: &str) -> Result<Reply, Problem> {
    let request = SignRequest::read(body)?;
    let signature = body.required_base64(&["Signature"])?;
    let key = request.key.find(chancery, caller)?;
    keys::check_usage(chancery, caller, &key, region, "Verify")?;
    let content = request.content(&key)?;
    checking::may_check(chancery, caller, &key)?;
    if body.flag("DryRun")? {
        return Ok(would_succeed());
    }
    if checking::signed_by(chancery, &key, &content, &signature).is_none() {
        return Ok(exception(StatusCode::BAD_REQUEST, "KMSInvalidSignatureException", ""));
    }
    Ok(reply(&json!({
        "KeyId": keys::arn(&key.kid, region), "SignatureValid": true, "SigningAlgorithm": request.algorithm,
    })))
}

async fn generate_mac(
    chancery: &Arc<Chancery>,
    caller: &Caller<'_>,
    body: &Body,
    region: &str,
) -> Result<Reply, Problem> {
    let request = MacRequest::read(body)?;
    let key = request.key.find(chancery, caller)?;
    keys::check_usage(chancery, caller, &key, region, "GenerateMac")?;
    let content = request.content(&key)?;
    let arn = keys::arn(&key.kid, region);
    let wanted = Wanted { dry_run: body.flag("DryRun")?, ..Wanted::of(key, content) };
    let Some(made) = make(chancery, caller, &wanted).await? else { return Ok(would_succeed()) };
    let value = json!({ "KeyId": arn, "Mac": made.signature, "MacAlgorithm": request.algorithm });
    Ok(with_receipt(reply(&value), &made))
}

async fn verify_mac(
    chancery: &Arc<Chancery>,
    caller: &Caller<'_>,
    body: &Body,
    region: &str,
) -> Result<Reply, Problem> {
    let request = MacRequest::read(body)?;
    let mac = body.required_base64(&["Mac"])?;
    let key = request.key.find(chancery, caller)?;
    keys::check_usage(chancery, caller, &key, region, "VerifyMac")?;
    request.content(&key)?;
    check_dialect(&caller.grants, caller.dialect, Some(&key))?;
    let arn = keys::arn(&key.kid, region);
    if body.flag("DryRun")? {
        return Ok(would_succeed());
    }
    if !crate::keys::mac_holds(chancery, caller, &key.kid, request.message, mac).await? {
        return Ok(exception(StatusCode::BAD_REQUEST, "KMSInvalidMacException", ""));
    }
    Ok(reply(&json!({ "KeyId": arn, "MacValid": true, "MacAlgorithm": request.algorithm })))
}

fn reply(value: &Value) -> Reply {
    Reply::other(AMZ_JSON, Caching::Never, value.to_string())
}

/// The entry of what was made: its id is the request's to SDKs, which print it in every log.
fn with_receipt(mut reply: Reply, made: &Made) -> Reply {
    reply.headers = vec![
        ("x-amzn-requestid", made.id.clone()),
        ("x-chancery-receipt-index", made.index.to_string()),
        ("x-chancery-receipt-url", format!("/v1/receipts/{}", made.index)),
        ("x-chancery-signer-kid", made.signer_kid.clone()),
    ];
    reply
}

/// What AWS answers to a dry run of what it would have done.
fn would_succeed() -> Reply {
    let words = "The request would have succeeded, but the DryRun option is set.";
    exception(StatusCode::BAD_REQUEST, "DryRunOperationException", words)
}

/// An error as SDKs read it. `AccessDeniedException` spells its message with a capital.
fn exception(status: StatusCode, kind: &str, message: &str) -> Reply {
    let mut body = json!({ "__type": kind, "message": message });
    if kind == "AccessDeniedException"
        && let Value::Object(members) = &mut body
    {
        members.insert("Message".to_owned(), json!(message));
    }
    let mut reply = Reply { status, ..reply(&body) };
    reply.headers.push(("x-amzn-errortype", kind.to_owned()));
    reply
}

/// A refusal under AWS's name. What may pass is one of those that SDKs try again.
pub(super) fn refusal(problem: &Problem, request_id: &RequestId) -> Reply {
    let (status, kind) = match problem.code() {
        Code::UnknownKid => (StatusCode::BAD_REQUEST, "NotFoundException"),
        Code::Halted | Code::KeyDisabled => (StatusCode::BAD_REQUEST, "DisabledException"),
        Code::RateLimited | Code::QuotaExceeded => (StatusCode::BAD_REQUEST, "ThrottlingException"),
        Code::KeyExhausted => (StatusCode::BAD_REQUEST, "KMSInvalidStateException"),
        Code::AlgorithmMismatch => (StatusCode::BAD_REQUEST, "InvalidKeyUsageException"),
        Code::InvalidJson | Code::DuplicateKey => (StatusCode::BAD_REQUEST, "SerializationException"),
        Code::BackendUnavailable => (StatusCode::INTERNAL_SERVER_ERROR, "DependencyTimeoutException"),
        code => match code.status() {
            401 | 403 => (StatusCode::BAD_REQUEST, "AccessDeniedException"),
            400..=499 => (StatusCode::BAD_REQUEST, "ValidationException"),
            _ => (StatusCode::INTERNAL_SERVER_ERROR, "KMSInternalException"),
        },
    };
    let mut reply = exception(status, kind, problem.detail());
    reply.headers.push(("x-amzn-requestid", request_id.as_str().to_owned()));
    let wait = problem.retry_after_s().map(|seconds| u64::from(seconds) * 1_000);
    reply.headers.extend(wait.map(|ms| ("x-amz-retry-after", ms.to_string())));
    reply
}

/// Base64 as this protocol writes blobs.
fn blob(bytes: &[u8]) -> String {
    STANDARD.encode(bytes)
}
