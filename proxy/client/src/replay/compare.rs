//! Whether an event on the ledger is the row's: every member the row has, in canonical form.

use std::collections::BTreeMap;

use chancery_format::canonical::CanonicalJson;
use serde_json::value::RawValue;

use super::Row;

/// Members of a row that stand in the event. What a row does not say the service filled in.
const MEMBERS: [&str; 7] =
    ["actor", "eventType", "manifestSignatureId", "metadata", "payload", "stream", "ts"];
/// Of these, what is in the event only if the row said it.
const AUTHORS_OWN: [&str; 2] = ["manifestSignatureId", "metadata"];

/// Why it is another; `None` if it is the row's.
pub(super) fn differs(row: &Row, event: &[u8]) -> Option<String> {
    let (Some(ours), Some(theirs)) =
        (members(row.json.get()), std::str::from_utf8(event).ok().and_then(members))
    else {
        return Some("the event of this id cannot be compared: it is no JSON object".to_owned());
    };
    if theirs.contains_key("redacted") {
        return Some("the event of this id cannot be compared: its payload may not be read".to_owned());
    }
    let same = |name: &&str| match (ours.get(*name), theirs.get(*name)) {
        (None, None) => true,
        (None, Some(_)) => !AUTHORS_OWN.contains(name),
        (Some(ours), Some(theirs)) => match (canonical(ours), canonical(theirs)) {
            (Some(ours), Some(theirs)) => ours == theirs,
            _ => false,
        },
        (Some(_), None) => false,
    };
    let other = MEMBERS.iter().find(|name| !same(name))?;
    Some(format!("the ledger has another event of this id: its {other} differs"))
}

fn members(text: &str) -> Option<BTreeMap<String, &RawValue>> {
    serde_json::from_str(text).ok()
}

fn canonical(value: &RawValue) -> Option<CanonicalJson> {
    CanonicalJson::parse(value.get().as_bytes()).ok()
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a failed step is a failed test")]

    use super::*;

    #[test]
    fn each_member_the_row_has_must_be_the_events() {
        let row = |json: &str| Row {
            line: 1,
            id: "a".parse().unwrap(),
            json: RawValue::from_string(json.to_owned()).unwrap(),
        };
        let event = br#"{"actor":"svc","eventType":"paid","id":"a","payload":{"a":1,"b":"\u00e9"},"stream":"svc","ts":"2026-01-01T00:00:00.000Z"}"#;
        for same in [
            r#"{"id":"a","eventType":"paid","payload":{"b":"é","a":1.0}}"#,
            r#"{"id":"a","eventType":"paid","payload":{"b":"é","a":1},"stream":"svc","actor":"svc"}"#,
        ] {
            assert_eq!(differs(&row(same), event), None, "{same}");
        }
        for (other, member) in [
            (r#"{"id":"a","eventType":"paid","payload":{"b":"é","a":2}}"#, "payload"),
            (r#"{"id":"a","eventType":"sold","payload":{"b":"é","a":1}}"#, "eventType"),
            (r#"{"id":"a","eventType":"paid","payload":{"b":"é","a":1},"stream":"x"}"#, "stream"),
            (r#"{"id":"a","eventType":"paid","payload":{"b":"é","a":1},"metadata":{}}"#, "metadata"),
            (r#"{"id":"a","eventType":"paid"}"#, ""),
        ] {
            let why = differs(&row(other), event);
            assert_eq!(why.is_some_and(|why| why.contains(member)), !member.is_empty(), "{other}");
        }
        assert!(differs(&row("{}"), br#"{"redacted":true}"#).unwrap().contains("may not be read"));
    }
}
