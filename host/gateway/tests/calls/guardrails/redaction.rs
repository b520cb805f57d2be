//! Personal data: away before the provider, away from the answer, away from the trace; and back again where it is wanted.

use brokle_gateway::Operation;
use serde_json::json;

use super::scripted::{Scripted, completion, stream};
use super::{guard, guardrail, noted, rulings};
use crate::harness::{To, content, world};

fn to(provider: &Scripted) -> To {
    To { name: "main", plugin: "provider_openai", url: provider.base_url(), priority: 0, models: Vec::new() }
}

const ASKED: &str = "I am ann@example.com, card 4111 1111 1111 1111. Whom do I call?";
const ANSWERED: &str = "Call +44 20 7946 0958 or write to bob@example.org, Ann.";

fn body(more: &str) -> String {
    let message = json!({"role": "user", "content": ASKED});
    format!(r#"{{"model":"openai/m","messages":[{message}]{more}}}"#)
}

#[tokio::test]
async fn personal_data_is_masked_upstream_in_the_answer_and_on_the_trace() {
    let pieces: Vec<_> = ANSWERED
        .as_bytes()
        .chunks(3)
        .map(|piece| json!({"content": String::from_utf8_lossy(piece)}))
        .collect();
    let whole = completion(&json!({"role": "assistant", "content": ANSWERED}));
    let provider = Scripted::start(vec![whole, stream(&pieces)]).await;
    let world = world(vec![to(&provider)]).await;
    guard(&world, vec![guardrail("pii-redaction", json!({}))]).await;
    let masked = "Call <PHONE> or write to <EMAIL>, Ann.";
    let answer = world.call(Operation::ChatCompletions, &body("")).await.json().await;
    assert_eq!(answer["choices"][0]["message"]["content"], masked);
    let events = world.call(Operation::ChatCompletions, &body(r#","stream":true"#)).await.events().await;
    assert_eq!(content(&events), masked);
    for asked in provider.asked() {
        assert_eq!(asked["messages"][0]["content"], "I am <EMAIL>, card <CREDIT_CARD>. Whom do I call?");
    }
    for listed in world.traces().await {
        let id = listed["trace_id"].as_str().unwrap().parse().unwrap();
        let trace = world.store.trace(world.tenant.project, id).await.unwrap().unwrap();
        let trace = serde_json::to_value(trace).unwrap()["observations"][0].take();
        let text = trace.to_string();
        for secret in ["ann@example", "4111 1111", "20 7946", "bob@example"] {
            assert!(!text.contains(secret), "{secret} in {text}");
        }
        assert!(trace["input"].to_string().contains("<CREDIT_CARD>"), "{text}");
        let steps = rulings(&trace);
        assert_eq!(noted(steps[0], "redactions"), &json!({"CREDIT_CARD": 1, "EMAIL": 1}));
        assert_eq!(noted(steps[1], "redactions"), &json!({"EMAIL": 1, "PHONE": 1}));
    }
}

#[tokio::test]
async fn tokens_go_to_the_provider_and_come_back_as_what_they_stand_for() {
    let said = "Dear <EMAIL_1>, your card <CREDIT_CARD_1> is fine; <EMAIL_7> isn't yours.";
    let pieces: Vec<_> =
        said.as_bytes().chunks(2).map(|piece| json!({"content": String::from_utf8_lossy(piece)})).collect();
    let whole = completion(&json!({"role": "assistant", "content": said}));
    let provider = Scripted::start(vec![whole, stream(&pieces)]).await;
    let world = world(vec![to(&provider)]).await;
    guard(&world, vec![guardrail("pii-redaction", json!({"action": "tokenize"}))]).await;
    let restored = "Dear ann@example.com, your card 4111 1111 1111 1111 is fine; <EMAIL_7> isn't yours.";
    let answer = world.call(Operation::ChatCompletions, &body("")).await.json().await;
    assert_eq!(answer["choices"][0]["message"]["content"], restored);
    let events = world.call(Operation::ChatCompletions, &body(r#","stream":true"#)).await.events().await;
    assert_eq!(content(&events), restored);
    for asked in provider.asked() {
        assert_eq!(asked["messages"][0]["content"], "I am <EMAIL_1>, card <CREDIT_CARD_1>. Whom do I call?");
    }
}

#[tokio::test]
async fn a_block_says_neither_what_nor_where() {
    let provider = Scripted::start(vec![completion(&json!({"role": "assistant", "content": "hi"}))]).await;
    let world = world(vec![to(&provider)]).await;
    guard(&world, vec![guardrail("pii-redaction", json!({"entities": {"CREDIT_CARD": "block"}}))]).await;
    let answer = world.call(Operation::ChatCompletions, &body("")).await;
    assert_eq!(answer.status(), 400);
    let error = answer.json().await["error"].take();
    assert_eq!(error["category"], "pii");
    assert!(!error.to_string().contains("4111 1111") && provider.asked().is_empty());
    let trace = world.only_trace().await.to_string();
    assert!(!trace.contains("4111 1111") && !trace.contains("ann@"), "{trace}");
}
