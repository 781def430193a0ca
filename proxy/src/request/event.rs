//! `POST /v1/events`: what a caller may say, and in whose name it may not say it.

use chancery_format::canonical::CanonicalJson;
use chancery_format::entry::is_appliances_type;
use chancery_format::{EventDraft, EventId, EventType, Hash, PrincipalName, StreamName, Timestamp};
use serde_json::value::RawValue;

use super::{RequestError, optional_object};
use crate::strict_json::{Fields, JsonError, Place};

/// One event to append.
#[derive(Debug, Clone)]
pub struct EventRequest {
    /// The event.
    pub draft: EventDraft,
    /// Whether to say what would happen and do nothing.
    pub dry_run: bool,
    /// Hash over what is asked.
    pub hash: Hash,
}

/// Fields of `POST /v1/events`, and of an item of `/v1/events/batch`.
pub const EVENT_FIELDS: [&str; 9] =
    ["eventType", "payload", "stream", "id", "actor", "ts", "manifestSignatureId", "metadata", "dryRun"];

impl EventRequest {
    /// Reads the body of `POST /v1/events`; `author` and `own_stream` are used where it is silent.
    pub fn read(body: &[u8], author: &PrincipalName, own_stream: &StreamName) -> Result<Self, RequestError> {
        Self::from_fields(&Fields::read_body(body, &EVENT_FIELDS)?, author, own_stream)
    }

    /// Reads one item of `POST /v1/events/batch`.
    pub fn read_item(
        item: &RawValue,
        position: usize,
        author: &PrincipalName,
        own_stream: &StreamName,
    ) -> Result<Self, RequestError> {
        Self::from_fields(
            &Fields::read(item.get(), &EVENT_FIELDS, Place::Item(position))?,
            author,
            own_stream,
        )
    }

    fn from_fields(
        fields: &Fields<'_, 9>,
        author: &PrincipalName,
        own_stream: &StreamName,
    ) -> Result<Self, RequestError> {
        let event_type: EventType = fields.parsed("eventType")?;
        if is_appliances_type(event_type.as_str()) {
            return Err(reserved(fields.path("eventType"), event_type.as_str()));
        }
        let payload = optional_object(fields, "payload")?
            .ok_or_else(|| JsonError::MissingField { field: fields.path("payload") })?;
        let stream: Option<StreamName> = fields.optional_parsed("stream")?;
        let stream = stream.unwrap_or_else(|| own_stream.clone());
        if stream.is_appliances() {
            return Err(reserved(fields.path("stream"), stream.as_str()));
        }
        let actor: Option<PrincipalName> = fields.optional_parsed("actor")?;
        let actor = actor.unwrap_or_else(|| author.clone());
        if actor == PrincipalName::appliance() {
            return Err(reserved(fields.path("actor"), actor.as_str()));
        }
        let draft = EventDraft {
            event_type,
            actor,
            stream,
            payload,
            id: fields.optional_parsed::<EventId>("id")?,
            ts: fields.optional_parsed::<Timestamp>("ts")?,
            manifest_signature_id: fields.optional_parsed::<EventId>("manifestSignatureId")?,
            metadata: optional_object(fields, "metadata")?,
        };
        let (dry_run, hash) = (fields.flag("dryRun")?, hash_of_event(&draft));
        Ok(Self { draft, dry_run, hash })
    }
}

fn reserved(field: String, name: &str) -> RequestError {
    RequestError::Reserved { field, name: name.to_owned() }
}

fn hash_of_event(draft: &EventDraft) -> Hash {
    let ts = draft.ts.map(|ts| ts.to_string()).unwrap_or_default();
    Hash::of(&[
        b"chancery/event\0",
        draft.event_type.as_str().as_bytes(),
        b"\0",
        draft.actor.as_str().as_bytes(),
        b"\0",
        draft.stream.as_str().as_bytes(),
        b"\0",
        draft.id.as_ref().map_or(b"", |id| id.as_str().as_bytes()),
        b"\0",
        ts.as_bytes(),
        b"\0",
        draft.manifest_signature_id.as_ref().map_or(b"", |id| id.as_str().as_bytes()),
        b"\0",
        // JSON text holds no NUL byte, so the two objects cannot run into each other.
        draft.metadata.as_ref().map_or(b"", CanonicalJson::as_bytes),
        b"\0",
        draft.payload.as_bytes(),
    ])
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a failed unwrap is the test's failure")]
    use super::*;

    fn event(extra: &str) -> Result<EventRequest, RequestError> {
        let body = format!(r#"{{"eventType":"order.paid","payload":{{"b":1,"a":2}}{extra}}}"#);
        EventRequest::read(body.as_bytes(), &"svc".parse().unwrap(), &"svc".parse().unwrap())
    }

    #[test]
    fn an_event_takes_defaults_from_its_author_and_may_not_speak_for_the_appliance() {
        let plain = event("").unwrap();
        assert_eq!(plain.draft.actor.as_str(), "svc");
        assert_eq!(plain.draft.stream.as_str(), "svc");
        assert_eq!(plain.draft.payload.as_str(), r#"{"a":2,"b":1}"#);
        assert_eq!(event(r#","stream":"svc""#).unwrap().hash, plain.hash);
        assert_ne!(event(r#","stream":"other""#).unwrap().hash, plain.hash);
        for extra in
            [r#","stream":"chancery""#, r#","stream":"chancery/governance""#, r#","actor":"chancery""#]
        {
            assert!(matches!(event(extra).unwrap_err(), RequestError::Reserved { .. }), "{extra}");
        }
        for reserved in ["signing.signature.issued", "signer.activated", "ledger.x", "request.refused"] {
            let body = format!(r#"{{"eventType":"{reserved}","payload":{{}}}}"#);
            let author = "svc".parse().unwrap();
            let error = EventRequest::read(body.as_bytes(), &author, &"svc".parse().unwrap()).unwrap_err();
            assert!(matches!(error, RequestError::Reserved { .. }), "{reserved}");
        }
    }
}
