//! Framings other than events and whole documents, through the whole gateway.

use std::sync::Arc;

use brokle_core::clock::SystemClock;
use bytes::Bytes;
use serde_json::json;

use crate::vendor::{Vendor, dictated};

/// A message of an AWS event stream with string headers.
fn message(headers: &[(&str, &str)], payload: &str) -> Vec<u8> {
    let mut packed = Vec::new();
    for (name, value) in headers {
        packed.push(u8::try_from(name.len()).unwrap());
        packed.extend_from_slice(name.as_bytes());
        packed.push(7);
        packed.extend_from_slice(&u16::try_from(value.len()).unwrap().to_be_bytes());
        packed.extend_from_slice(value.as_bytes());
    }
    let number = |size: usize| u32::try_from(size).unwrap().to_be_bytes();
    let mut message = [number(16 + packed.len() + payload.len()), number(packed.len())].concat();
    message.extend(crc32fast::hash(&message).to_be_bytes());
    message.extend([&packed, payload.as_bytes()].concat());
    message.extend(crc32fast::hash(&message).to_be_bytes());
    message
}

#[tokio::test]
async fn frames_reach_the_decoder_and_half_of_one_is_an_error() {
    let stream = [
        message(&[(":message-type", "event"), (":event-type", "messageStart")], "{}"),
        message(
            &[(":message-type", "exception"), (":exception-type", "throttlingException")],
            r#"{"message":"slow"}"#,
        ),
    ]
    .concat();
    let array = br#" [{"a":"],["}, 2]"#.to_vec();
    let bodies = [("aws-event-stream", stream), ("json-array", array)];
    let vendor = Vendor::start(move |seen| {
        let (framing, rest) = seen.path[1..].split_once('/').unwrap();
        let (_, body) = bodies.iter().find(|(name, _)| *name == framing).unwrap();
        let body = match rest {
            "whole" => body.clone(),
            "cut" => body[..body.len() - 1].to_vec(),
            _ => [body, &b"!!!!!!!!!!!!"[..]].concat(),
        };
        (200, "application/octet-stream", Bytes::from(body))
    })
    .await;
    let world = dictated(vendor.origin(), "key", json!({}), Arc::new(SystemClock)).await;
    let events = async |framing: &str, rest: &str| {
        let ask = json!({"path": format!("/{framing}/{rest}"), "framing": framing});
        world.ask(&ask, r#","stream":true"#).await.events().await
    };
    let started = json!({"event": "messageStart", "data": "{}"});
    let failed = json!({"event": "throttlingException", "data": r#"{"message":"slow"}"#});
    assert_eq!(events("aws-event-stream", "whole").await, [started, failed]);
    let elements = [json!({"event": "", "data": r#"{"a":"],["}"#}), json!({"event": "", "data": "2"})];
    assert_eq!(events("json-array", "whole").await, elements);
    for framing in ["aws-event-stream", "json-array"] {
        for (rest, code) in [("cut", "upstream_disconnected"), ("more", "upstream_error")] {
            let ask = json!({"path": format!("/{framing}/{rest}"), "framing": framing});
            let answer = world.ask(&ask, r#","stream":true"#).await;
            // A stream of which nothing can be read isn't begun.
            let error = match answer.status() {
                200 => answer.events().await.pop().unwrap(),
                _ => answer.json().await,
            };
            assert_eq!(error["error"]["code"], code, "{framing} {rest}");
        }
    }
    let answer = world.ask(&json!({"framing": "morse"}), "").await.text().await;
    assert!(answer.contains("plugin_request_refused") && answer.contains("'morse'"), "{answer}");
}
