//! Calls in a dialect that were answered before: the vendor's bytes, or the same words written anew.

use std::sync::Arc;

use brokle_core::clock::SystemClock;
use brokle_gateway::cache::Settings;
use brokle_gateway::{Asking, Dialect};
use brokle_test_upstream::Upstream;
use http::{HeaderMap, HeaderValue};
use serde_json::{Value, json};

use super::{anthropic, events, gemini, named, responses, to};
use crate::guardrails::{guard, guardrail};
use crate::harness::{Answer, Extra, To, World, asking, openai, world_extra};
use crate::vendor::Vendor;

async fn world(connections: Vec<To>) -> World {
    let extra = Extra { cache: Some(Settings::default()), ..Extra::default() };
    world_extra(connections, Arc::new(SystemClock), extra).await
}

fn outcome(answer: &Answer) -> String {
    assert_eq!(answer.status(), 200, "{answer:?}");
    answer.header("x-brokle-cache").unwrap().to_owned()
}

/// Asked twice, it is answered by the same bytes; by the vendor, once.
async fn twice(world: &World, vendor: &Vendor, asked: &Asking, body: &str, back: &str) {
    let before = vendor.seen("/").len();
    let mut kinds = Vec::new();
    for expected in ["miss", "hit", "hit"] {
        let answer = world.call_in(asked, body, HeaderMap::new()).await;
        assert_eq!(outcome(&answer), expected, "{asked:?}");
        kinds.push(answer.header("content-type").unwrap().to_owned());
        if asked.dialect == Dialect::AnthropicMessages {
            assert!(answer.header("request-id").is_some());
        }
        assert_eq!(answer.text().await, back);
    }
    assert!(kinds.iter().all(|kind| *kind == kinds[0]), "{kinds:?}");
    assert_eq!(vendor.seen("/").len() - before, 1);
}

#[tokio::test]
async fn a_vendors_own_bytes_come_again_as_they_came() {
    let message = r#"{ "id":"msg_1", "type":"message","model":"claude-x","content":[{"type":"thinking","thinking":"t","signature":"Eq\u002b=="},{"type":"text","text":"h\u00e9"}],"stop_reason":"end_turn","usage":{"input_tokens":7,"output_tokens":9}, "x":1e0 }"#;
    let response = r#"{ "id":"resp_2","object":"response","model":"gpt-x","status":"completed","output":[ ],"usage":{"input_tokens":4,"output_tokens":6},"x":1e0}"#;
    let generated = r#"{ "candidates": [ {"content":{"parts":[{"text":"hé"}]},"finishReason":"STOP"} ],"usageMetadata":{"promptTokenCount":8,"candidatesTokenCount":5}, "x":1e0 }"#;
    let vendor =
        Vendor::start(move |seen| match (seen.path.as_str(), seen.text().contains("\"stream\":true")) {
            ("/v1/messages", true) => events(anthropic::STREAM),
            ("/v1/messages", false) => (200, "application/json", message.into()),
            ("/v1/responses", true) => events(responses::STREAM),
            ("/v1/responses", false) => (200, "application/json", response.into()),
            (path, _) if path.ends_with("alt=sse") => events(gemini::EVENTS),
            (path, _) if path.ends_with(":streamGenerateContent") => {
                (200, "application/json", gemini::ARRAY.into())
            }
            _ => (200, "application/json", generated.into()),
        })
        .await;
    let world = world(vec![
        to("claude", "provider_anthropic", &vendor, ""),
        to("gpt", "provider_openai", &vendor, "/v1"),
        to("gem", "provider_gemini", &vendor, ""),
    ])
    .await;
    let claude = |more: &str| {
        format!(
            r#"{{"max_tokens":50,"model":"anthropic/claude-x","system":[{{"type":"text","text":"S","cache_control":{{"type":"ephemeral"}}}}],"messages":[{{"role":"user","content":"h"}}]{more}}}"#
        )
    };
    let messages = asking(Dialect::AnthropicMessages, "messages");
    twice(&world, &vendor, &messages, &claude(r#","stream":true"#), anthropic::STREAM).await;
    twice(&world, &vendor, &messages, &claude(""), message).await;
    let sent = vendor.seen("/v1/messages");
    assert!(sent.iter().all(|seen| seen.text().contains("cache_control")), "the request is as it was, too");
    let gpt = |more: &str| format!(r#"{{"input":"h","model":"openai/gpt-x"{more}}}"#);
    let create = asking(Dialect::OpenAiResponses, "responses");
    twice(&world, &vendor, &create, &gpt(r#","stream":true"#), responses::STREAM).await;
    twice(&world, &vendor, &create, &gpt(""), response).await;
    let gem = r#"{"contents":[{"parts":[{"text":"h","thoughtSignature":"a+b=="}]}]}"#;
    for (streaming, sse, back) in
        [(true, true, gemini::EVENTS), (true, false, gemini::ARRAY), (false, false, generated)]
    {
        twice(&world, &vendor, &gemini::generate("gemini/gemini-x", streaming, sse), gem, back).await;
    }
    // What changes an answer: a member that only this vendor knows, a header of its own, another model in the URL.
    let odd = claude(r#","top_k":5"#);
    assert_eq!(outcome(&world.messages(&odd).await), "miss");
    let mut beta = HeaderMap::new();
    beta.insert("anthropic-beta", HeaderValue::from_static("one"));
    assert_eq!(outcome(&world.call_in(&messages, &claude(""), beta).await), "miss");
    let other = gemini::generate("gemini/gemini-y", false, false);
    assert_eq!(outcome(&world.call_in(&other, gem, HeaderMap::new()).await), "miss");
    // Who goes on from an earlier response asks the vendor.
    let on = world.call_in(&create, &gpt(r#","previous_response_id":"resp_2""#), HeaderMap::new()).await;
    assert_eq!(outcome(&on), "bypass");
    let count = asking(Dialect::AnthropicMessages, "messages.count-tokens");
    assert_eq!(
        world.call_in(&count, &claude(""), HeaderMap::new()).await.header("x-brokle-cache"),
        Some("bypass")
    );

    let hits: Vec<Value> = world.traces().await.into_iter().filter(|trace| trace["cost"] == "0").collect();
    assert!(hits.len() >= 14, "{}", hits.len());
    assert!(hits.iter().all(|hit| hit["status"] == "ok"), "{hits:#?}");
}

#[tokio::test]
async fn a_translated_answer_is_written_anew_in_whole_events() {
    let upstream = Upstream::start().await.unwrap();
    let world = world(vec![openai("main", &upstream, 0)]).await;
    let body = |more: &str| {
        format!(
            r#"{{"model":"openai/gpt-4o-mini","max_tokens":50,"system":"be","messages":[{{"role":"user","content":"one two"}}]{more}}}"#
        )
    };
    let first = world.messages(&body("")).await;
    assert_eq!(outcome(&first), "miss");
    let first = first.json().await;
    let again = world.messages(&body("")).await;
    assert_eq!((outcome(&again).as_str(), again.header("x-brokle-cost")), ("hit", Some("0")));
    let again = again.json().await;
    assert_eq!((&again["content"], &again["stop_reason"]), (&first["content"], &first["stop_reason"]));

    let stream = body(r#","stream":true"#);
    let first = named(&world.messages(&stream).await.text().await);
    let again = world.messages(&stream).await;
    assert_eq!(outcome(&again), "hit");
    assert!(again.header("content-type").unwrap().starts_with("text/event-stream"));
    let again = named(&again.text().await);
    let shape = |events: &[(String, Value)]| {
        events
            .iter()
            .map(|(name, data)| (name.clone(), data["delta"].clone(), data["usage"].clone()))
            .collect::<Vec<_>>()
    };
    assert_eq!(shape(&again), shape(&first));
    assert_eq!(again.last().unwrap().0, "message_stop");
    assert_eq!(upstream.requests().len(), 2);
    // The same words in the canonical form are another call.
    assert_eq!(outcome(&world.chat("openai/gpt-4o-mini", "").await), "miss");
}

#[tokio::test]
async fn what_broke_off_or_isnt_finished_isnt_kept() {
    let upstream = Upstream::start().await.unwrap();
    let queued =
        json!({"id": "resp_1", "object": "response", "status": "queued", "model": "m", "output": []});
    let vendor = Vendor::start(move |_| (200, "application/json", queued.to_string().into())).await;
    let claude = To {
        name: "claude",
        plugin: "provider_anthropic",
        url: upstream.origin(),
        priority: 0,
        models: Vec::new(),
    };
    let world = world(vec![claude, to("gpt", "provider_openai", &vendor, "/v1")]).await;
    for fault in ["close-at=900", "error-in-stream=1"] {
        let body = format!(
            r#"{{"model":"anthropic/claude-sonnet-4-5!{fault}","max_tokens":9,"stream":true,"messages":[{{"role":"user","content":"hi"}}]}}"#
        );
        for _ in 0..2 {
            let answer = world.messages(&body).await;
            assert_eq!(outcome(&answer), "miss", "{fault}");
            answer.text().await;
        }
    }
    let create = asking(Dialect::OpenAiResponses, "responses");
    for _ in 0..2 {
        let body = r#"{"input":"h","model":"openai/gpt-x","background":true}"#;
        assert_eq!(outcome(&world.call_in(&create, body, HeaderMap::new()).await), "miss");
    }
}

/// A guardrail that comes later rules on what was kept before, and meets no bytes that it can't read.
#[tokio::test]
async fn guardrails_meet_no_bytes_of_the_vendors() {
    let message = r#"{"id":"msg_1","type":"message","model":"claude-x","role":"assistant","content":[{"type":"text","text":"the word is swordfish"}],"stop_reason":"end_turn","usage":{"input_tokens":7,"output_tokens":9}}"#;
    let vendor = Vendor::start(move |_| (200, "application/json", message.into())).await;
    let world = world(vec![to("claude", "provider_anthropic", &vendor, "")]).await;
    let body =
        r#"{"model":"anthropic/claude-x","max_tokens":9,"messages":[{"role":"user","content":"say"}]}"#;
    assert_eq!(world.messages(body).await.text().await, message);
    guard(&world, vec![guardrail("regex", json!({"replace": [{"pattern": "swordfish", "with": "[word]"}]}))])
        .await;
    for expected in ["miss", "hit"] {
        let answer = world.messages(body).await;
        assert_eq!(outcome(&answer), expected);
        assert_eq!(answer.json().await["content"][0]["text"], "the word is [word]");
    }
    assert_eq!(vendor.seen("/").len(), 2);
}
