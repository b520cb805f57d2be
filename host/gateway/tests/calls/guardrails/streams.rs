//! Streams: held back as far as it must be, the same for every cut, ended cleanly; and answers that are asked for again.

use brokle_gateway::Operation;
use brokle_gateway::guardrails::NewGuardrail;
use serde_json::{Value, json};

use super::scripted::{Scripted, completion, stream};
use super::{guard, guardrail, noted, rulings};
use crate::harness::{To, World, content, world};

pub(crate) fn to(provider: &Scripted) -> To {
    To { name: "main", plugin: "provider_openai", url: provider.base_url(), priority: 0, models: Vec::new() }
}

pub(crate) async fn ask(world: &World, more: &str) -> crate::harness::Answer {
    let body = format!(r#"{{"model":"openai/m","messages":[{{"role":"user","content":"go"}}]{more}}}"#);
    world.call(Operation::ChatCompletions, &body).await
}

pub(crate) const STREAM: &str = r#","stream":true"#;

fn pieces(text: &str, cuts: &[usize]) -> Vec<Value> {
    let mut deltas = vec![json!({"role": "assistant", "content": ""})];
    let mut from = 0;
    for &cut in cuts.iter().chain([&text.len()]) {
        deltas.push(json!({"content": &text[from..cut]}));
        from = cut;
    }
    deltas
}

#[tokio::test]
async fn a_match_is_replaced_wherever_the_stream_is_cut() {
    let text = "so the word is hunter42, héh, and no other";
    let config = json!({"replace": [{"pattern": "hunter[0-9]+", "with": "***"}], "max_match_bytes": 16});
    let places: Vec<usize> = (1..text.len()).filter(|&at| text.is_char_boundary(at)).collect();
    let mut cuts: Vec<Vec<usize>> = places.iter().map(|&at| vec![at]).collect();
    cuts.push(places.clone());
    for start in 14..20 {
        cuts.push(vec![start, start + 3]);
    }
    let answers: Vec<_> = cuts.iter().map(|cuts| stream(&pieces(text, cuts))).collect();
    let provider = Scripted::start(answers).await;
    let world = world(vec![to(&provider)]).await;
    guard(&world, vec![guardrail("regex", config)]).await;
    for cuts in &cuts {
        let events = ask(&world, STREAM).await.events().await;
        assert_eq!(content(&events), "so the word is ***, héh, and no other", "cut at {cuts:?}");
        // All of the text comes before its choice's end.
        let last = events.iter().rposition(|event| {
            event["choices"][0]["delta"]["content"].as_str().is_some_and(|text| !text.is_empty())
        });
        let end = events.iter().position(|event| event["choices"][0]["finish_reason"] == "stop");
        assert!(last < end, "{events:#?}");
    }
    for trace in world.traces().await {
        let id = trace["trace_id"].as_str().unwrap().parse().unwrap();
        let trace = world.store.trace(world.tenant.project, id).await.unwrap().unwrap();
        let trace = serde_json::to_string(&trace).unwrap();
        assert!(!trace.contains("hunter42"), "{trace}");
    }
}

#[tokio::test]
async fn a_denied_stream_ends_with_an_error_and_leaves_no_match() {
    let text = "so the word is hunter42 and this goes on";
    let provider = Scripted::start((15..24).map(|cut| stream(&pieces(text, &[cut]))).collect()).await;
    let world = world(vec![to(&provider)]).await;
    let config = json!({"deny": [{"pattern": "hunter[0-9]+", "category": "word"}], "max_match_bytes": 16});
    guard(&world, vec![guardrail("regex", config)]).await;
    for _ in 15..24 {
        let answer = ask(&world, STREAM).await;
        assert_eq!(answer.status(), 200);
        let events = answer.events().await;
        let error = &events.last().unwrap()["error"];
        assert_eq!(
            (&error["code"], &error["category"]),
            (&"content_policy_violation".into(), &"word".into())
        );
        assert!("so the word is ".starts_with(&content(&events)), "{events:?}");
    }
    let trace = world.traces().await.remove(0);
    assert_eq!(
        (&trace["status"], &trace["error"]["class"]),
        (&"error".into(), &"content_policy_violation".into())
    );
    assert_eq!(world.runtime.instances(), 0);
}

#[tokio::test]
async fn what_is_held_of_a_text_comes_before_the_tool_call_that_follows_it() {
    let deltas = [
        json!({"role": "assistant", "content": "let me look "}),
        json!({"content": "it up"}),
        json!({"tool_calls": [{"index": 0, "id": "c0", "type": "function", "function": {"name": "f", "arguments": ""}}]}),
        json!({"tool_calls": [{"index": 0, "function": {"arguments": "{\"q\":\"hunt"}}]}),
        json!({"tool_calls": [{"index": 0, "function": {"arguments": "er7\"}"}}]}),
        json!({"tool_calls": [{"index": 1, "id": "c1", "type": "function", "function": {"name": "g", "arguments": "{}"}}]}),
    ];
    let provider = Scripted::start(vec![stream(&deltas)]).await;
    let world = world(vec![to(&provider)]).await;
    let config = json!({"replace": [{"pattern": "hunter[0-9]", "with": "***"}], "max_match_bytes": 64});
    guard(&world, vec![guardrail("regex", config)]).await;
    let events = ask(&world, STREAM).await.events().await;
    let (mut text, mut calls) = (String::new(), [String::new(), String::new()]);
    let mut order = Vec::new();
    for event in &events {
        let delta = &event["choices"][0]["delta"];
        if let Some(piece) = delta["content"].as_str().filter(|piece| !piece.is_empty()) {
            text.push_str(piece);
            order.push("text");
        }
        for call in delta["tool_calls"].as_array().into_iter().flatten() {
            let index = call["index"].as_u64().unwrap() as usize;
            calls[index].push_str(call["function"]["arguments"].as_str().unwrap());
            order.push(["first", "second"][index]);
        }
    }
    assert_eq!(
        (text.as_str(), calls[0].as_str(), calls[1].as_str()),
        ("let me look it up", r#"{"q":"***"}"#, "{}")
    );
    order.dedup();
    assert_eq!(order, ["text", "first", "second"], "{events:#?}");
}

#[tokio::test]
async fn a_guardrail_that_fails_in_a_stream_ends_or_releases_it() {
    let deltas = pieces("well do hold now and do panic then", &[15, 20]);
    let provider = Scripted::start(vec![stream(&deltas)]).await;
    let world = world(vec![to(&provider)]).await;
    let mut failing = NewGuardrail { config: None, ..guardrail("misruling", json!({})) };
    failing.stages = vec!["response".into()];
    guard(&world, vec![failing.clone()]).await;
    let events = ask(&world, STREAM).await.events().await;
    assert_eq!(events.last().unwrap()["error"]["code"], "guardrail_failed");
    guard(&world, vec![NewGuardrail { on_failure: brokle_gateway::guardrails::OnFailure::Open, ..failing }])
        .await;
    let events = ask(&world, STREAM).await.events().await;
    assert_eq!(content(&events), "well do hold now and do panic then");
    assert_eq!(world.runtime.instances(), 0);
}

#[tokio::test]
async fn secrets_are_masked_however_long_and_however_cut() {
    let key = format!("sk-proj-{}", "q7WzR2mKx9TbN4vLs8HdY3cFj6PgA5eUi1oX".repeat(12));
    let text = format!("use {key} for it");
    let cuts: Vec<Vec<usize>> = vec![
        vec![],
        vec![8],
        vec![200],
        vec![300],
        (1..text.len()).collect(),
        (1..text.len()).step_by(5).collect(),
    ];
    let provider = Scripted::start(cuts.iter().map(|cuts| stream(&pieces(&text, cuts))).collect()).await;
    let world = world(vec![to(&provider)]).await;
    guard(&world, vec![guardrail("secrets", json!({}))]).await;
    for cuts in cuts {
        let events = ask(&world, STREAM).await.events().await;
        assert_eq!(content(&events), "use <SECRET:openai> for it", "{} cuts", cuts.len());
    }
}

pub(crate) const FORMAT: &str = r#","response_format":{"type":"json_schema","json_schema":{"name":"n","schema":{
    "type":"object","required":["age"],"properties":{"age":{"type":"integer"}}}}}"#;

#[tokio::test]
async fn an_answer_that_doesnt_fit_is_repaired_once_and_both_are_paid_for() {
    let bad = completion(&json!({"role": "assistant", "content": "{\"age\":\"old\"}"}));
    let good = completion(&json!({"role": "assistant", "content": "{\"age\":7}"}));
    let provider = Scripted::start(vec![bad.clone(), good, bad]).await;
    let world = world(vec![to(&provider)]).await;
    guard(&world, vec![guardrail("json-schema", json!({}))]).await;
    let answer = ask(&world, FORMAT).await.json().await;
    assert_eq!(answer["choices"][0]["message"]["content"], "{\"age\":7}");
    let asked = provider.asked();
    let messages = asked[1]["messages"].as_array().unwrap();
    assert_eq!((asked.len(), messages.len()), (2, 3));
    assert_eq!(messages[1], json!({"role": "assistant", "content": "{\"age\":\"old\"}"}));
    let instruction = messages[2]["content"].as_str().unwrap();
    assert!(instruction.contains("/age") && !instruction.contains("old"), "{instruction}");
    let trace = world.only_trace().await;
    assert_eq!((&trace["usage"]["input"], &trace["usage"]["output"]), (&20.into(), &10.into()));
    let verdicts: Vec<_> = rulings(&trace).into_iter().map(|step| noted(step, "verdict")).collect();
    assert_eq!(verdicts, ["retry", "allow"]);

    // Both answers of the next call are bad.
    let answer = ask(&world, FORMAT).await;
    assert_eq!(
        (answer.status(), answer.json().await["error"]["category"].take()),
        (400, "invalid_structure".into())
    );
    assert_eq!(provider.asked().len(), 4);
}

#[tokio::test]
async fn a_stream_that_doesnt_fit_ends_with_the_block_instead_of_its_finish() {
    let deltas = [json!({"content": "{\"age\":"}), json!({"content": "\"old\"}"})];
    let provider = Scripted::start(vec![stream(&deltas)]).await;
    let world = world(vec![to(&provider)]).await;
    guard(&world, vec![guardrail("json-schema", json!({}))]).await;
    let events = ask(&world, &format!("{STREAM}{FORMAT}")).await.events().await;
    assert_eq!(events.last().unwrap()["error"]["category"], "invalid_structure");
    assert!(events.iter().all(|event| event["choices"][0]["finish_reason"].is_null()));
}

#[tokio::test]
async fn token_probabilities_of_a_changed_text_are_gone() {
    let provider =
        Scripted::start(vec![completion(&json!({"role": "assistant", "content": "hunter2"}))]).await;
    let world = world(vec![to(&provider)]).await;
    guard(&world, vec![guardrail("regex", json!({"replace": [{"pattern": "hunter2", "with": "*"}]}))]).await;
    let answer = ask(&world, "").await.json().await;
    assert_eq!(answer["choices"][0]["message"]["content"], "*");
    assert_eq!(answer["choices"][0]["logprobs"], Value::Null);
}
