//! What is only tried: the answer says what would happen, and nothing does.

use serde_json::{Value, json};

use super::rig::{ORDERS, Rig, base64, sign_body};

/// A body with one more member, in it or in each of its items.
fn dry(body: &Value) -> Value {
    let mut body = body.clone();
    match body.get_mut("items") {
        Some(Value::Array(items)) => items.iter_mut().for_each(|item| *item = dry(item)),
        _ => drop(body.as_object_mut().unwrap().insert("dryRun".to_owned(), json!(true))),
    }
    body
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_that_is_only_tried_says_what_would_happen_and_leaves_no_trace() {
    let rig = Rig::start().await;
    let (sign, event) = (sign_body("orders", 1), json!({ "eventType": "order.paid", "payload": {} }));
    let calls = [
        ("/v1/sign", sign.clone(), "signed"),
        ("/v1/sign/batch", json!({ "items": [sign, sign_body("orders-p256", 2)] }), "signed"),
        ("/v1/mac", json!({ "kid": "tags", "message": base64(b"a message") }), "authenticated"),
        ("/v1/events", event.clone(), "appended"),
        ("/v1/events/batch", json!({ "items": [event.clone(), event] }), "appended"),
    ];
    for (path, body, outcome) in &calls {
        let before = rig.size();
        let asked = [(path.to_string(), dry(body)), (format!("{path}?simulate=true"), body.clone())];
        for (path, body) in asked {
            let answer = rig.post(ORDERS, &path, &body).await.expect(200).json();
            let items = answer["items"].as_array().cloned().unwrap_or_else(|| vec![answer]);
            for item in items {
                assert_eq!((&item["dryRun"], &item["outcome"]), (&json!(true), &json!(outcome)), "{path}");
            }
        }
        // Nobody is to believe that something was only tried.
        for query in ["simulate=yes", "simulat=true", "simulate=true&simulate=true", "x"] {
            let refused = rig.post(ORDERS, &format!("{path}?{query}"), body).await;
            refused.expect_code(400, "invalid-field");
        }
        assert_eq!(rig.size(), before, "{path}");
        assert!([200, 201].contains(&rig.post(ORDERS, &format!("{path}?simulate=false"), body).await.status));
        assert!(rig.size() > before, "{path}");
    } // What would be refused is refused.
    let nobody = dry(&sign_body("nobody", 1));
    rig.post(ORDERS, "/v1/sign", &nobody).await.expect_code(404, "unknown-kid");
}
