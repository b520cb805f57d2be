//! Guardrails rule on an answer from the cache as on any other.

use std::sync::Arc;

use brokle_core::clock::SystemClock;
use brokle_gateway::cache::Settings;
use serde_json::{Value, json};

use super::scripted::{Scripted, completion, stream};
use super::streams::{FORMAT, STREAM, ask, to};
use super::{guard, guardrail};
use crate::harness::{Extra, World, content, world_extra};

async fn cached(answers: Vec<(&'static str, String)>) -> (World, Scripted) {
    let provider = Scripted::start(answers).await;
    let extra = Extra { cache: Some(Settings::default()), ..Extra::default() };
    (world_extra(vec![to(&provider)], Arc::new(SystemClock), extra).await, provider)
}

#[tokio::test]
async fn a_stored_answer_is_changed_anew() {
    let deltas = [json!({"content": "it is hun"}), json!({"content": "ter2"})];
    let whole = completion(&json!({"role": "assistant", "content": "it is hunter2"}));
    let (world, provider) = cached(vec![whole, stream(&deltas)]).await;
    assert_eq!(ask(&world, "").await.header("x-brokle-cache"), Some("miss"));
    ask(&world, STREAM).await.events().await;
    guard(&world, vec![guardrail("regex", json!({"replace": [{"pattern": "hunter2", "with": "*"}]}))]).await;
    let answer = ask(&world, "").await;
    assert_eq!(answer.header("x-brokle-cache"), Some("hit"));
    assert_eq!(answer.json().await["choices"][0]["message"]["content"], "it is *");
    let answer = ask(&world, STREAM).await;
    assert_eq!(answer.header("x-brokle-cache"), Some("hit"));
    assert_eq!(content(&answer.events().await), "it is *");
    assert_eq!(provider.asked().len(), 2);
}

#[tokio::test]
async fn a_stored_answer_that_is_sent_back_is_asked_for_again_and_paid_for() {
    let bad = completion(&json!({"role": "assistant", "content": "{\"age\":\"old\"}"}));
    let good = completion(&json!({"role": "assistant", "content": "{\"age\":7}"}));
    let (world, provider) = cached(vec![bad, good]).await;
    ask(&world, FORMAT).await;
    guard(&world, vec![guardrail("json-schema", json!({}))]).await;
    let answer = ask(&world, FORMAT).await;
    assert_eq!(
        (answer.header("x-brokle-cache"), answer.header("x-brokle-attempts")),
        (Some("bypass"), Some("1"))
    );
    assert_eq!(answer.json().await["choices"][0]["message"]["content"], "{\"age\":7}");
    assert_eq!(provider.asked().len(), 2);
    let traces = world.traces().await;
    let paid = |trace: &Value| trace["usage"]["input"] == 10;
    assert!(traces.len() == 2 && traces.iter().all(paid), "{traces:#?}");
}
