//! The OpenAPI 3.1 document, built from the tables the service itself runs on: routes, problem codes,
//! grants. A route or code that is not described here fails a test.

use std::sync::LazyLock;

use chancery_format::{HashAlgorithm, RegistryShape};
use serde_json::{Map, Value, json};

use crate::problem::{Code, MEDIA_TYPE};
use crate::request::{BATCH_FIELDS, EVENT_FIELDS, MAC_FIELDS, MAC_VERIFY_FIELDS, SIGN_FIELDS, VERIFY_FIELDS};
use crate::response::{BYTES, COSE, HTML, JSON, JSONL, PEM, TEXT, TLOG_PROOF};
use crate::routes::table::{Access, Call, ROUTES, Route, Takes};

/// The document as indented JSON with a final newline; made once.
pub fn document_text() -> &'static str {
    static TEXT: LazyLock<String> = LazyLock::new(|| format!("{:#}\n", document()));
    &TEXT
}

/// The document.
pub fn document() -> Value {
    let mut paths: Map<String, Value> = Map::new();
    for route in ROUTES {
        let method = if route.takes == Takes::Nothing { "get" } else { "post" };
        paths.insert(route.path.to_owned(), json!({ method: operation(route) }));
    }
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "Chancery",
            "version": env!("CARGO_PKG_VERSION"),
            "summary": "Signatures that are on a Merkle ledger before anybody sees them.",
            "description": "Every signature is made after its intent is durable and released after its outcome is. \
                Binary is standard base64 with padding; hashes and digests are lower-case hex; times are RFC 3339 UTC \
                with milliseconds. Every reply carries x-request-id. Errors are RFC 9457 problems whose `code` never \
                changes its meaning or status. Retries under one Idempotency-Key get the same bytes.",
            "license": { "name": "Apache-2.0", "identifier": "Apache-2.0" },
        },
        "servers": [{ "url": "https://{host}:8443", "variables": { "host": { "default": "127.0.0.1" } } }],
        "security": [{ "clientCertificate": [] }],
        "paths": paths,
        "components": {
            "securitySchemes": { "clientCertificate": {
                "type": "mutualTLS",
                "description": "Identity from URI SAN, then DNS SAN, then an exactly configured common name.",
            } },
            "schemas": schemas(),
            "responses": { "Problem": problem_response() },
        },
    })
}

fn operation(route: &Route) -> Value {
    let mut operation = json!({
        "operationId": route.name,
        "summary": route.summary,
        "parameters": parameters(route),
        "responses": responses(route),
    });
    let Some(members) = operation.as_object_mut() else { return operation };
    if route.access == Access::Open {
        members.insert("security".to_owned(), json!([]));
    }
    if let Access::Granted(needs) = route.access {
        members.insert("x-chancery-grant".to_owned(), needs.operation.as_str().into());
    }
    if let Some(schema) = request_schema(route.call) {
        let content = json!({ JSON: { "schema": reference(schema) } });
        members.insert("requestBody".to_owned(), json!({ "required": true, "content": content }));
    }
    operation
}

fn parameters(route: &Route) -> Vec<Value> {
    let text = |place: &str, name: &str, required: bool, description: &str| {
        json!({ "in": place, "name": name, "required": required, "description": description,
                "schema": { "type": "string" } })
    };
    let mut parameters = vec![text("header", "x-request-id", false, "Returned, logged and recorded.")];
    if let (Some(from), Some(to)) = (route.path.find('{'), route.path.find('}')) {
        let name = route.path.get(from + 1..to).unwrap_or_default();
        parameters.push(text("path", name, true, "Percent-encoded; streams and ids may hold slashes."));
    }
    if matches!(route.call, Call::Sign | Call::SignBatch | Call::Mac | Call::Events | Call::EventsBatch) {
        let description = "Makes retries safe: the same key and request get the same reply, for ever.";
        parameters.push(text("header", "Idempotency-Key", false, description));
    }
    if route.call == Call::Registry {
        let format = json!({
            "in": "query", "name": "format", "required": false,
            "description": "Another shape, for verifiers that read no other; policy is the ledger's own policy.",
            "schema": { "type": "string", "enum": RegistryShape::ALL.map(RegistryShape::as_str) },
        });
        parameters.push(format);
    }
    if route.call == Call::Completeness {
        parameters.push(text(
            "query",
            "from",
            false,
            "Entries after so many, one JSON object a line; without a query, the proof.",
        ));
        parameters.push(text("query", "limit", false, "Most entries; bounded by the server."));
    }
    if route.call == Call::Stream {
        parameters.push(text("query", "from", false, "First seq of the page; default 0."));
        parameters.push(text("query", "limit", false, "Most events of the page; bounded by the server."));
    }
    parameters
}

fn responses(route: &Route) -> Value {
    let (status, media_type, schema) = good_response(route.call);
    let content = json!({ media_type: { "schema": schema } });
    let mut responses = Map::new();
    responses.insert(status.to_owned(), json!({ "description": route.summary, "content": content }));
    if route.call == Call::Receipt {
        let proof = json!({ "schema": { "type": "string" } });
        if let Some(content) = responses.get_mut(status).and_then(|response| response.get_mut("content")) {
            content[TLOG_PROOF] = proof;
            content[COSE] = json!({ "schema": { "type": "string", "format": "binary" } });
        }
    }
    if route.call == Call::Completeness {
        let lines = json!({ "schema": { "type": "string" } });
        if let Some(content) = responses.get_mut(status).and_then(|response| response.get_mut("content")) {
            content[JSONL] = lines;
        }
    }
    if route.call == Call::Registry {
        // One shape is the bare keys, one the policy.
        let text = json!({ "schema": { "type": "string" } });
        if let Some(content) = responses.get_mut(status).and_then(|response| response.get_mut("content")) {
            content[PEM] = text.clone();
            content[TEXT] = text;
        }
    }
    if matches!(route.call, Call::Sign | Call::Pending) {
        let schema = json!({ "schema": reference("PendingReply") });
        let pending = json!({ "description": "Waits for approval.", "content": { JSON: schema } });
        responses.insert("202".to_owned(), pending);
    }
    for status in problem_statuses(route) {
        responses.insert(status.to_string(), json!({ "$ref": "#/components/responses/Problem" }));
    }
    Value::Object(responses)
}

fn problem_statuses(route: &Route) -> Vec<u16> {
    let mut statuses = vec![405];
    if route.access != Access::Open {
        statuses.extend([400, 401, 403, 404, 429, 500, 503]);
    }
    if route.takes != Takes::Nothing {
        statuses.extend([408, 409, 413, 415, 422]);
    }
    statuses
}

fn good_response(call: Call) -> (&'static str, &'static str, Value) {
    let text = json!({ "type": "string" });
    match call {
        Call::Index | Call::Health | Call::Ping | Call::OpenApi => ("200", JSON, json!({ "type": "object" })),
        Call::Sign => ("200", JSON, reference("SignReply")),
        Call::SignBatch => ("200", JSON, reference("SignBatchReply")),
        Call::Verify => ("200", JSON, reference("VerifyReply")),
        Call::Mac => ("200", JSON, reference("MacReply")),
        Call::MacVerify => ("200", JSON, reference("MacVerifyReply")),
        Call::Events => ("201", JSON, reference("AuditEvent")),
        Call::Event => ("200", JSON, reference("AuditEvent")),
        Call::EventsBatch => ("201", JSON, reference("EventsBatchReply")),
        Call::Rows => ("200", JSON, reference("RowsReply")),
        Call::Stream => ("200", JSON, reference("StreamPage")),
        Call::Receipt => ("200", JSON, reference("Receipt")),
        Call::Completeness => ("200", JSON, json!({ "type": "object" })),
        Call::Pending => ("200", JSON, reference("PendingReply")),
        Call::Keys => ("200", JSON, reference("KeyList")),
        Call::Key => ("200", JSON, reference("Key")),
        Call::KeyPublic => ("200", PEM, text),
        Call::Registry => ("200", JSON, json!({ "type": ["object", "array"] })),
        Call::RegistryNote | Call::Checkpoint => ("200", TEXT, text),
        Call::VerifyPage => ("200", HTML, text),
        Call::Tile => ("200", BYTES, json!({})),
    }
}

const fn request_schema(call: Call) -> Option<&'static str> {
    match call {
        Call::Sign => Some("SignRequest"),
        Call::SignBatch => Some("SignBatchRequest"),
        Call::Verify => Some("VerifyRequest"),
        Call::Mac => Some("MacRequest"),
        Call::MacVerify => Some("MacVerifyRequest"),
        Call::Events => Some("EventRequest"),
        Call::EventsBatch => Some("EventsBatchRequest"),
        Call::Rows => Some("RowsRequest"),
        _ => None,
    }
}

fn reference(schema: &str) -> Value {
    json!({ "$ref": format!("#/components/schemas/{schema}") })
}

fn problem_response() -> Value {
    json!({
        "description": "Refused or failed; `code` says why.",
        "headers": { "Retry-After": {
            "description": "Seconds, with every 429 and 503.", "schema": { "type": "integer" },
        } },
        "content": { MEDIA_TYPE: { "schema": reference("Problem") } },
    })
}

/// An object that allows nothing else, as the service itself does. A name ending in `?` may be absent.
fn object(members: &[(&str, Value)]) -> Value {
    let name = |text: &str| text.trim_end_matches('?').to_owned();
    let required: Vec<_> =
        members.iter().filter(|(text, _)| !text.ends_with('?')).map(|(text, _)| name(text)).collect();
    let properties: Map<String, Value> =
        members.iter().map(|(text, value)| (name(text), value.clone())).collect();
    json!({ "type": "object", "required": required, "properties": properties, "additionalProperties": false })
}

fn list(member: &str, of: &[&str]) -> Value {
    let items = json!({ "oneOf": of.iter().map(|schema| reference(schema)).collect::<Vec<_>>() });
    object(&[(member, json!({ "type": "array", "items": items }))])
}

/// Schemas of the fields a request may have; the readers' own lists say which.
fn request(fields: &[&str], required: &[&str]) -> Value {
    let field = |name: &&str| match *name {
        "digest" => json!({ "type": "string", "pattern": "^(?:[0-9a-f]{64}|[0-9a-f]{96}|[0-9a-f]{128})$" }),
        "digestAlgorithm" => json!({ "enum": HashAlgorithm::ALL.map(HashAlgorithm::as_str) }),
        "mode" => json!({ "enum": ["individual", "anchored"], "default": "individual" }),
        "kid" => json!({ "type": "string", "pattern": "^[a-z0-9._-]{1,64}$" }),
        "signature" | "mac" | "message" => json!({ "type": "string", "contentEncoding": "base64" }),
        "dryRun" => json!({ "type": "boolean", "default": false }),
        "payload" | "metadata" => json!({ "type": "object" }),
        "ts" => json!({ "type": "string", "format": "date-time" }),
        _ => json!({ "type": "string", "minLength": 1, "maxLength": 256 }),
    };
    let properties: Map<String, Value> =
        fields.iter().map(|name| ((*name).to_owned(), field(name))).collect();
    json!({ "type": "object", "required": required, "properties": properties, "additionalProperties": false })
}

fn schemas() -> Value {
    let (text, number, flag) =
        (json!({ "type": "string" }), json!({ "type": "integer" }), json!({ "type": "boolean" }));
    let any = json!({ "type": "object" });
    let rung = json!({ "enum": ["durable", "checkpointed", "witnessed", "archived"] });
    let receipt = json!({ "oneOf": [reference("ReceiptPointer"), reference("Receipt")] });
    let use_of_key = [
        ("id", text.clone()),
        ("kid", text.clone()),
        ("signer_kid", text.clone()),
        ("algorithm", text.clone()),
        ("digest", text.clone()),
        ("digestAlgorithm", text.clone()),
        ("ts", text.clone()),
        ("rung", rung.clone()),
        ("receipt", receipt),
    ];
    let with = |name: &'static str| [&[(name, text.clone())], &use_of_key[..]].concat();
    // Of an anchored digest the receipt is the signature: then there is `mode`, and neither of the other two.
    let mut sign_reply: Vec<_> =
        use_of_key.iter().filter(|(name, _)| *name != "algorithm").cloned().collect();
    sign_reply.extend([
        ("algorithm?", text.clone()),
        ("signature?", text.clone()),
        ("mode?", json!({ "const": "anchored" })),
        (
            "coSigner?",
            object(&[
                ("kid", text.clone()),
                ("signer_kid", text.clone()),
                ("algorithm", text.clone()),
                ("signature", text.clone()),
            ]),
        ),
    ]);
    json!({
        "Problem": problem_schema(),
        "SignRequest": request(&SIGN_FIELDS, &["kid", "digest", "digestAlgorithm"]),
        "SignBatchRequest": list(BATCH_FIELDS[0], &["SignRequest"]),
        "SignReply": object(&sign_reply),
        "PendingReply": object(&[
            ("id", text.clone()), ("status", text.clone()), ("url", text.clone()), ("approvals", number.clone()),
            ("required", number.clone()), ("expiresAt", text.clone()), ("result?", reference("SignReply")),
        ]),
        "SignBatchReply": list("items", &["SignReply", "Problem"]),
        "VerifyRequest": request(&VERIFY_FIELDS, &["kid", "digest", "signature"]),
        "VerifyReply": object(&[
            ("valid", flag.clone()), ("kid", text.clone()), ("signer_kid", text.clone()), ("keyState", text.clone()),
        ]),
        "MacRequest": request(&MAC_FIELDS, &["kid"]),
        "MacReply": object(&with("mac")),
        "MacVerifyRequest": request(&MAC_VERIFY_FIELDS, &["kid", "mac"]),
        "MacVerifyReply": object(&[("valid", flag.clone()), ("kid", text.clone()), ("signer_kid", text.clone())]),
        "EventRequest": request(&EVENT_FIELDS, &["eventType", "payload"]),
        "EventsBatchRequest": list(BATCH_FIELDS[0], &["EventRequest"]),
        "EventsBatchReply": list("items", &["AuditEvent", "Problem"]),
        "AuditEvent": object(&[
            ("actor", text.clone()), ("eventType", text.clone()), ("hash", text.clone()), ("id", text.clone()),
            ("manifestSignatureId?", text.clone()), ("metadata?", any.clone()), ("payload?", any.clone()),
            ("prevHash", json!({ "type": ["string", "null"] })), ("seq", number.clone()), ("signer_kid", text.clone()),
            ("stream", text.clone()), ("ts", text.clone()), ("version", json!({ "const": 1 })),
            ("redacted?", json!({ "const": true })), ("receipt", reference("ReceiptPointer")),
            ("chain?", object(&[
                ("dialect", text.clone()), ("hash", text.clone()), ("prevHash", json!({ "type": ["string", "null"] })),
            ])),
            ("row?", any.clone()),
        ]),
        "RowsRequest": {
            "type": "object", "required": ["stream"], "additionalProperties": false,
            "properties": {
                "stream": { "type": "string", "minLength": 1, "maxLength": 256 },
                "from": { "type": "integer", "minimum": 0 }, "limit": { "type": "integer", "minimum": 1 },
            },
        },
        "RowsReply": object(&[
            ("stream", text.clone()), ("dialect", text.clone()), ("from", number.clone()),
            ("next", json!({ "type": ["integer", "null"] })), ("items", json!({ "type": "array", "items": any.clone() })),
        ]),
        "ReceiptPointer": object(&[
            ("version", json!({ "const": 1 })), ("index", number.clone()), ("rung", rung.clone()), ("url", text.clone()),
        ]),
        "Receipt": object(&[
            ("version", json!({ "const": 1 })), ("event", any), ("index", number.clone()), ("treeSize", number.clone()),
            ("inclusionProof", json!({ "type": "array", "items": text.clone() })), ("checkpoint", text.clone()),
            ("rung", rung),
        ]),
        "StreamPage": object(&[
            ("stream", text.clone()), ("from", number.clone()), ("next", json!({ "type": ["integer", "null"] })),
            ("items", json!({ "type": "array", "items": reference("AuditEvent") })),
        ]),
        "Key": object(&[
            ("kid", text.clone()), ("signer_kid", text.clone()), ("algorithm", text.clone()), ("operation", text.clone()),
            ("purpose", text.clone()), ("description", text.clone()), ("release", text.clone()), ("isLedgerKey", flag),
            ("public_key_pem?", text.clone()), ("state", text.clone()), ("deployedAt?", text.clone()),
            ("retiredAt?", text), ("activatedIndex?", number.clone()), ("retiredIndex?", number.clone()),
            ("compromisedSince?", number),
        ]),
        "KeyList": list("keys", &["Key"]),
    })
}

fn problem_schema() -> Value {
    let codes: Vec<_> = Code::ALL
        .iter()
        .map(|code| {
            json!({ "const": code.as_str(), "title": format!("{} {}", code.status(), code.title()),
                            "description": code.meaning() })
        })
        .collect();
    let text = json!({ "type": "string" });
    object(&[
        ("type", text.clone()),
        ("title", text.clone()),
        ("status", json!({ "type": "integer" })),
        ("detail", text.clone()),
        ("code", json!({ "type": "string", "oneOf": codes })),
        ("requestId", text),
    ])
}

#[cfg(test)]
mod tests {
    #![expect(
        clippy::unwrap_used,
        clippy::indexing_slicing,
        reason = "a failed unwrap is the test's failure"
    )]
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_route_and_every_code_is_described() {
        let document = document();
        for route in ROUTES {
            let operation = &document["paths"][route.path][route.method().as_str().to_lowercase()];
            assert_eq!(operation["operationId"], route.name, "{}", route.path);
            assert_eq!(
                operation.get("requestBody").is_some(),
                route.takes != Takes::Nothing,
                "{}",
                route.path
            );
        }
        assert_eq!(document["paths"].as_object().unwrap().len(), ROUTES.len());
        let codes =
            document["components"]["schemas"]["Problem"]["properties"]["code"]["oneOf"].as_array().unwrap();
        let described: BTreeSet<_> = codes.iter().map(|code| code["const"].as_str().unwrap()).collect();
        assert_eq!(described, Code::ALL.iter().map(|code| code.as_str()).collect());
        let statuses: BTreeSet<_> = ROUTES.iter().flat_map(problem_statuses).collect();
        for code in Code::ALL {
            assert!(statuses.contains(&code.status()), "no route lists status {}", code.status());
        }
    }

    #[test]
    fn every_reference_leads_somewhere() {
        fn walk(value: &Value, document: &Value) {
            match value {
                Value::Object(members) => {
                    if let Some(Value::String(path)) = members.get("$ref") {
                        let pointer = path.strip_prefix('#').unwrap();
                        assert!(document.pointer(pointer).is_some(), "{path}");
                    }
                    members.values().for_each(|value| walk(value, document));
                }
                Value::Array(items) => items.iter().for_each(|value| walk(value, document)),
                _ => {}
            }
        }
        let document = document();
        walk(&document, &document);
    }
}
