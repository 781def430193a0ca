//! [`Client`]: one method per route of the service.

use bytes::Bytes;
use chancery_format::cose::COSE_MEDIA_TYPE;
use chancery_format::heads::HeadName;
use chancery_format::names::{EventId, IdempotencyKey, Kid};
use chancery_format::{Digest, LeafIndex, StreamName};
use hyper::header::HeaderValue;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::api::{
    Answer, BatchItem, BatchReply, EventReply, KeyList, NewEvent, RowsPage, RowsRequest, SignReply,
    SignRequest, VerifyReply,
};
use crate::error::ClientError;
use crate::limits;
use crate::options::{Options, OptionsError};
use crate::transport::{Call, Reply, Transport};

/// A client of one service. Calls may run at once; they share connections. Dropping a call's future
/// abandons waiting, not the request: the service finishes what it accepted.
pub struct Client {
    transport: Transport,
}

/// What a method asked for that it already checked.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct VerifyRequest<'a> {
    kid: &'a Kid,
    digest: String,
    digest_algorithm: &'static str,
    signature: &'a str,
}

#[derive(Deserialize)]
struct AppendedBatch {
    items: Vec<crate::replay::Reply>,
}

#[derive(Serialize)]
struct Items<'a, T> {
    items: &'a [T],
}

impl Client {
    /// Reads certificates and key; connects when the first call is made.
    pub fn new(options: &Options) -> Result<Self, OptionsError> {
        Ok(Self { transport: Transport::new(options, limits::SERVICE_PORT)? })
    }

    /// Reads certificates and key and opens the first connection, so that a wrong address or an
    /// untrusted service shows at once. A service that refuses *our* certificate says so at the first
    /// call: in TLS 1.3 its answer comes after the handshake.
    pub async fn connect(options: Options) -> Result<Self, ConnectError> {
        let client = Self::new(&options)?;
        client.transport.warm_up().await?;
        Ok(client)
    }

    /// `POST /v1/sign`. With the same key and request, every call returns the same signature.
    pub async fn sign(
        &self,
        request: &SignRequest,
        key: &IdempotencyKey,
    ) -> Result<Answer<SignReply>, ClientError> {
        let answer: Answer<SignReply> = self.post("/v1/sign", request, Some(key)).await?;
        if answer.value.answers(request) {
            Ok(answer)
        } else {
            Err(ClientError::Reply("it answers another request".into()))
        }
    }

    /// `POST /v1/sign/batch`: up to 1,000 requests, one reply for each, in order.
    pub async fn sign_batch(
        &self,
        requests: &[SignRequest],
        key: &IdempotencyKey,
    ) -> Result<Answer<BatchReply>, ClientError> {
        let answer: Answer<BatchReply> =
            self.post("/v1/sign/batch", &Items { items: requests }, Some(key)).await?;
        let items = &answer.value.items;
        let fits = |(item, request): (&BatchItem, &SignRequest)| match item {
            BatchItem::Signed(signed) => signed.answers(request),
            BatchItem::Refused(_) => true,
        };
        if items.len() == requests.len() && items.iter().zip(requests).all(fits) {
            Ok(answer)
        } else {
            Err(ClientError::Reply("its items answer other requests".into()))
        }
    }

    /// `POST /v1/verify`: the service's opinion, by the key registered under `kid`. Auditors use
    /// [`crate::check_receipt`] or `chancery-verify` instead, which ask nobody.
    pub async fn verify(
        &self,
        kid: &Kid,
        digest: &Digest,
        signature: &str,
    ) -> Result<Answer<VerifyReply>, ClientError> {
        let digest_algorithm = digest.algorithm();
        let request = VerifyRequest { kid, digest: digest.to_hex(), digest_algorithm, signature };
        self.post("/v1/verify", &request, None).await
    }

    /// `POST /v1/events`. With the same key and event, every call returns the same event.
    pub async fn append_event(
        &self,
        event: &NewEvent,
        key: &IdempotencyKey,
    ) -> Result<Answer<EventReply>, ClientError> {
        self.post("/v1/events", event, Some(key)).await
    }

    /// `POST /v1/events/batch` of events as they are written, one answer for each, in order.
    pub(crate) async fn append_batch(
        &self,
        events: &[&RawValue],
        key: &IdempotencyKey,
    ) -> Result<Vec<crate::replay::Reply>, ClientError> {
        let answer: Answer<AppendedBatch> =
            self.post("/v1/events/batch", &Items { items: events }, Some(key)).await?;
        Ok(answer.value.items)
    }

    /// `POST /v1/rows`: rows of a stream that is set to an existing writer's dialect, from `from` on. Those that have no
    /// signature yet get one; asking again is safe.
    pub async fn rows(&self, stream: &StreamName, from: u64) -> Result<Answer<RowsPage>, ClientError> {
        self.post("/v1/rows", &RowsRequest { stream, from }, None).await
    }

    /// `GET /v1/receipts/{index}`: the receipt as JSON. [`crate::check_receipt`] tells what it is worth.
    pub async fn receipt(&self, index: LeafIndex) -> Result<Bytes, ClientError> {
        self.get(&format!("/v1/receipts/{index}"), "application/json").await
    }

    /// The same as a C2SP `.tlog-proof` text.
    pub async fn receipt_tlog_proof(&self, index: LeafIndex) -> Result<Bytes, ClientError> {
        self.get(&format!("/v1/receipts/{index}"), "application/tlog-proof").await
    }

    /// The same as a COSE receipt (RFC 9942), where the service gives them. [`crate::check_cose`] tells what it is worth.
    pub async fn receipt_cose(&self, index: LeafIndex) -> Result<Bytes, ClientError> {
        self.get(&format!("/v1/receipts/{index}"), COSE_MEDIA_TYPE).await
    }

    /// `GET /v1/completeness/{name}`: the first line of a proof. [`crate::completeness`] reads and checks it.
    pub async fn completeness_opening(&self, name: &HeadName) -> Result<Bytes, ClientError> {
        self.get(&format!("/v1/completeness/{}", path_segment(name.as_str())), "application/json").await
    }

    /// The lines of its entries after the first `from`, as many as the service gives at once.
    pub async fn completeness_entries(&self, name: &HeadName, from: u64) -> Result<Bytes, ClientError> {
        let path = format!("/v1/completeness/{}?from={from}", path_segment(name.as_str()));
        self.get(&path, "application/jsonl").await
    }

    /// `GET /v1/events/{id}`: the event as JSON, if we may read it.
    pub async fn event(&self, id: &EventId) -> Result<Bytes, ClientError> {
        self.get(&format!("/v1/events/{}", path_segment(id.as_str())), "application/json").await
    }

    /// `GET /v1/keys`.
    pub async fn keys(&self) -> Result<Answer<KeyList>, ClientError> {
        read(self.transport.call(&Call::get("/v1/keys")).await?)
    }

    /// `GET /v1/signers.json`: the signers registry as published. Over this connection it is the
    /// service's word; pin a copy that reached you another way.
    pub async fn signers(&self) -> Result<Bytes, ClientError> {
        self.get("/v1/signers.json", "application/json").await
    }

    /// `GET /health`: needs no certificate.
    pub async fn health(&self) -> Result<Bytes, ClientError> {
        self.get("/health", "application/json").await
    }

    async fn get(&self, path: &str, accept: &'static str) -> Result<Bytes, ClientError> {
        Ok(self.transport.call(&Call { accept, ..Call::get(path) }).await?.body)
    }

    async fn post<T: DeserializeOwned>(
        &self,
        path: &str,
        body: &impl Serialize,
        key: Option<&IdempotencyKey>,
    ) -> Result<Answer<T>, ClientError> {
        let invalid = |error: &dyn std::fmt::Display| ClientError::Request(error.to_string());
        let body = serde_json::to_vec(body).map_err(|error| invalid(&error))?;
        let mut call = Call::post(path, body.into());
        if let Some(key) = key {
            call.idempotency_key =
                Some(HeaderValue::from_str(key.as_str()).map_err(|error| invalid(&error))?);
        }
        read(self.transport.call(&call).await?)
    }
}

/// Why [`Client::connect`] gave no client.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// The options cannot be used.
    #[error(transparent)]
    Options(#[from] OptionsError),
    /// The service cannot be reached or is not trusted.
    #[error(transparent)]
    Call(#[from] ClientError),
}

pub(crate) fn read<T: DeserializeOwned>(reply: Reply) -> Result<Answer<T>, ClientError> {
    let Reply { body, request_id } = reply;
    match serde_json::from_slice(&body) {
        Ok(value) => Ok(Answer { value, body, request_id }),
        Err(error) => Err(ClientError::Reply(error.to_string())),
    }
}

/// Percent-encodes all but RFC 3986's unreserved characters.
pub(crate) fn path_segment(text: &str) -> String {
    let mut segment = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            segment.push(char::from(byte));
        } else {
            segment.push_str(&format!("%{byte:02X}"));
        }
    }
    segment
}

#[cfg(test)]
mod tests {
    #[test]
    fn a_path_segment_cannot_leave_its_place() {
        assert_eq!(super::path_segment("order-7.a_~"), "order-7.a_~");
        assert_eq!(super::path_segment("a/../b?c#d%"), "a%2F..%2Fb%3Fc%23d%25");
    }
}
