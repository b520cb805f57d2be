//! Guardrails: what reaches the provider, the caller and the trace, and what happens when one fails.

mod asking;
mod cached;
mod redaction;
mod scripted;
mod streams;

use brokle_gateway::Operation;
use brokle_gateway::guardrails::{Guardrail, Mode, NewGuardrail, OnFailure, Scope};
use brokle_test_upstream::Upstream;
use std::sync::Arc;

use brokle_plugins::{Active, Snapshot, View};
use brokle_runtime::GuardrailPlugin;
use serde_json::{Value, json};

use crate::harness::{To, World, component, content, openai, world};

/// A guardrail with this configuration.
pub(crate) fn guardrail(plugin: &str, config: Value) -> NewGuardrail {
    NewGuardrail {
        name: format!("my-{plugin}"),
        plugin: plugin.into(),
        mode: Mode::Enforce,
        on_failure: OnFailure::Closed,
        stages: Vec::new(),
        config: Some(config),
        scope: Scope::default(),
        hold_back: None,
    }
}

/// Puts these guardrails into a world.
pub(crate) async fn guard(world: &World, list: Vec<NewGuardrail>) {
    serve(world, &["regex", "secrets", "json-schema", "misruling", "pii-redaction"]).await;
    let snapshot = world.plugins.load();
    let mut made = Vec::new();
    for new in list {
        made.push(Guardrail::new(snapshot.instance(), new).await.unwrap());
    }
    world.guardrails.replace(made);
}

/// Has these guardrails' components serve beside the providers.
async fn serve(world: &World, names: &[&str]) {
    let snapshot = world.plugins.load();
    let mut view = View::new();
    snapshot.instance().providers().for_each(|provider| view.add_provider(provider.clone()));
    snapshot.instance().policies().for_each(|policy| view.add_policy(policy.clone()));
    for name in ["anthropic-messages", "openai-responses", "gemini-generate-content"] {
        if let Some(dialect) = snapshot.instance().dialect(name) {
            view.add_dialect(dialect.clone());
        }
    }
    for name in names {
        let file = match *name {
            "misruling" | "pii-redaction" => name.replace('-', "_"),
            name => format!("guardrail_{}", name.replace('-', "_")),
        };
        let plugin = GuardrailPlugin::load(&world.runtime, &component(&file)).await.unwrap();
        view.add_guardrail(Active::plain(Arc::new(plugin)));
    }
    world.plugins.store(Snapshot::new(view));
}

fn echo() -> To {
    To { name: "echo", plugin: "provider_echo", url: String::new(), priority: 0, models: Vec::new() }
}

fn chat(text: &str, more: &str) -> String {
    let message = json!({"role": "user", "content": text});
    format!(r#"{{"model":"echo/echo-1", "messages":[{message}]{more}}}"#)
}

/// The guardrails' steps of a trace.
fn rulings(trace: &Value) -> Vec<&Value> {
    trace["children"].as_array().unwrap().iter().filter(|step| step["type"] == "guardrail").collect()
}

fn noted<'a>(step: &'a Value, name: &str) -> &'a Value {
    &step["attributes"][format!("brokle.guardrail.{name}")]
}

#[tokio::test]
async fn a_denied_request_is_blocked_accounted_and_not_stored() {
    let upstream = Upstream::start().await.unwrap();
    let world = world(vec![openai("main", &upstream, 0)]).await;
    let config = json!({"deny": [{"pattern": "zephyr", "category": "confidential"}]});
    guard(&world, vec![guardrail("regex", config)]).await;
    let body = r#"{"model":"gpt-4o-mini","messages":[{"role":"user","content":"what of zephyr?"}]}"#;
    let answer = world.call(Operation::ChatCompletions, body).await;
    assert_eq!(answer.status(), 400);
    let error = answer.json().await["error"].take();
    assert_eq!(
        (&error["code"], &error["type"]),
        (&"content_policy_violation".into(), &"invalid_request_error".into())
    );
    assert_eq!((&error["category"], &error["guardrail"]), (&"confidential".into(), &"my-regex".into()));
    assert!(!error.to_string().contains("zephyr"), "{error}");
    assert!(upstream.requests().is_empty());
    let trace = world.only_trace().await;
    assert_eq!(
        (&trace["status_code"], &trace["error"]["class"]),
        (&400.into(), &"content_policy_violation".into())
    );
    assert!(trace["input"].is_null() && !trace.to_string().contains("zephyr"), "{trace}");
    let [step] = rulings(&trace)[..] else { panic!("{trace}") };
    assert_eq!((noted(step, "verdict"), noted(step, "category")), (&"block".into(), &"confidential".into()));
    let plugin = &step["children"][0];
    assert_eq!(
        (&plugin["type"], &plugin["name"]),
        (&"plugin".into(), &"brokle.guardrail-regex 0.1.0".into())
    );
    assert!(plugin["duration_ms"].as_f64() > Some(0.0), "{plugin}");
    // What is refused before it was ruled on leaves no text either.
    let broken = world
        .call(Operation::ChatCompletions, r#"{"model":"m","messages":[{"role":"zephyr"}], zephyr"#)
        .await;
    assert_eq!(broken.status(), 400);
    assert!(world.traces().await.iter().all(|trace| !trace.to_string().contains("zephyr")));
}

#[tokio::test]
async fn a_changed_request_keeps_every_other_byte_upstream_and_on_the_trace() {
    let upstream = Upstream::start().await.unwrap();
    let world = world(vec![openai("main", &upstream, 0)]).await;
    let config = json!({"replace": [{"pattern": "[a-z]+@acme\\.com", "with": "<MAIL \"x\">"}]});
    guard(&world, vec![guardrail("regex", config)]).await;
    let body = r#"{ "messages":[{"role":"user",  "content":"hé \u0061nn@acme.com", "name":"n"},
        {"role":"assistant","content":null,"tool_calls":[{"id":"c","type":"function","function":{"name":"f","arguments":"{\"to\":1}"}}]},
        {"role":"tool","tool_call_id":"c","content":"bob@acme.com"}], "user":"eve@acme.com",
        "model" : "openai/gpt-4o-mini", "unknown":{"x":1e0} }"#;
    assert_eq!(world.call(Operation::ChatCompletions, body).await.status(), 200);
    let expected = body
        .replace(r"\u0061nn@acme.com", r#"<MAIL \"x\">"#)
        .replace("bob@acme.com", r#"<MAIL \"x\">"#)
        .replace("eve@acme.com", r#"<MAIL \"x\">"#);
    let seen = upstream.requests().pop().unwrap();
    assert_eq!(String::from_utf8(seen.body.to_vec()).unwrap(), expected.replace("openai/gpt", "gpt"));
    let trace = world.only_trace().await;
    assert!(!trace.to_string().contains("acme.com"), "{trace}");
    assert_eq!(trace["user"], "<MAIL \"x\">");
    assert!(trace["input"].to_string().contains("MAIL"));
    assert_eq!(noted(rulings(&trace)[0], "verdict"), "change");
    assert_eq!(noted(rulings(&trace)[0], "edits"), 3);
}

#[tokio::test]
async fn an_answer_is_changed_or_blocked_before_it_is_seen_or_stored() {
    let world = world(vec![echo()]).await;
    let mut replace = guardrail("regex", json!({"replace": [{"pattern": "hunter[0-9]", "with": "***"}]}));
    replace.stages = vec!["response".into()];
    guard(&world, vec![replace]).await;
    let answer = world.call(Operation::ChatCompletions, &chat("it is hunter2, no?", "")).await.json().await;
    assert_eq!(answer["choices"][0]["message"]["content"], "it is ***, no?");
    let trace = world.only_trace().await;
    assert!(trace["output"].to_string().contains("***") && !trace["output"].to_string().contains("hunter2"));

    let mut deny = guardrail("regex", json!({"deny": [{"pattern": "hunter[0-9]"}]}));
    deny.stages = vec!["response".into()];
    guard(&world, vec![deny]).await;
    let answer = world.call(Operation::ChatCompletions, &chat("it is hunter2, no?", "")).await;
    assert_eq!(
        (answer.status(), answer.json().await["error"]["category"].take()),
        (400, "denied_pattern".into())
    );
    let trace = world.traces().await.remove(0);
    assert!(trace["output"].is_null(), "{trace}");
    // The tokens were used, and are accounted.
    assert_eq!((&trace["status"], trace["usage"]["output"].as_u64() > Some(0)), (&"error".into(), true));
}

#[tokio::test]
async fn a_shadow_notes_and_changes_nothing() {
    let world = world(vec![echo()]).await;
    let config = json!({"deny": [{"pattern": "zephyr", "category": "confidential"}]});
    let shadow = NewGuardrail { mode: Mode::Shadow, ..guardrail("regex", config) };
    guard(&world, vec![shadow]).await;
    let answer = world.call(Operation::ChatCompletions, &chat("of zephyr", "")).await;
    assert_eq!(answer.json().await["choices"][0]["message"]["content"], "of zephyr");
    let events =
        world.call(Operation::ChatCompletions, &chat("of zephyr", r#","stream":true"#)).await.events().await;
    assert_eq!(content(&events), "of zephyr");
    for listed in world.traces().await {
        let id = listed["trace_id"].as_str().unwrap().parse().unwrap();
        let trace = world.store.trace(world.tenant.project, id).await.unwrap().unwrap();
        let trace = serde_json::to_value(trace).unwrap()["observations"][0].take();
        let steps = rulings(&trace);
        assert_eq!(steps.len(), 2, "{trace}");
        for step in steps {
            assert_eq!((noted(step, "mode"), noted(step, "verdict")), (&"shadow".into(), &"block".into()));
        }
        assert!(trace["input"].to_string().contains("zephyr"));
    }
}

#[tokio::test]
async fn a_guardrail_that_fails_closes_or_opens_as_the_operator_says() {
    let world = world(vec![echo()]).await;
    for order in ["panic", "spin", "edit-outside", "fail", "retry"] {
        for stage in ["request", "response"] {
            if (order, stage) == ("retry", "response") {
                continue;
            }
            let text = format!("do {order} now");
            let mut closed = NewGuardrail { config: None, ..guardrail("misruling", json!({})) };
            closed.stages = vec![stage.into()];
            guard(&world, vec![closed.clone()]).await;
            let answer = world.call(Operation::ChatCompletions, &chat(&text, "")).await;
            assert_eq!(answer.status(), 502, "{order} on a {stage}");
            let error = answer.json().await["error"].take();
            assert_eq!(error["code"], "guardrail_failed", "{order} on a {stage}");
            assert!(error["message"].as_str().unwrap().contains("'my-misruling'"), "{error}");

            let open = NewGuardrail { on_failure: OnFailure::Open, ..closed };
            guard(&world, vec![open]).await;
            let answer = world.call(Operation::ChatCompletions, &chat(&text, "")).await;
            assert_eq!(answer.status(), 200, "{order} on a {stage}");
            assert_eq!(answer.json().await["choices"][0]["message"]["content"], text);
        }
    }
    assert_eq!(world.runtime.instances(), 0);
    let metrics = world.metrics.encode().unwrap();
    assert!(metrics.contains(r#"brokle_plugin_traps_total{plugin="test.misruling"} 8"#), "{metrics}");
}

#[tokio::test]
async fn what_serves_no_more_closes_too() {
    let world = world(vec![echo()]).await;
    guard(&world, vec![guardrail("regex", json!({}))]).await;
    serve(&world, &[]).await;
    let answer = world.call(Operation::ChatCompletions, &chat("hi", "")).await;
    assert_eq!(
        (answer.status(), answer.json().await["error"]["code"].take()),
        (502, "guardrail_failed".into())
    );
}

#[tokio::test]
async fn the_scope_says_whose_calls() {
    let world = world(vec![echo()]).await;
    let other = world.limited_key(100).await;
    let key = world.keys.authenticate(&world.key).await.unwrap().key_id;
    let config = json!({"deny": [{"pattern": "zephyr"}]});
    let scoped =
        NewGuardrail { scope: Scope { keys: vec![key], ..Scope::default() }, ..guardrail("regex", config) };
    guard(&world, vec![scoped]).await;
    let headers = http::HeaderMap::new();
    let mut statuses = Vec::new();
    for key in [&world.key, &other] {
        let answer =
            world.serve(Some(key), Operation::ChatCompletions, &headers, chat("zephyr", "").into()).await;
        statuses.push(answer.status());
    }
    assert_eq!(statuses, [400, 200]);
}

#[tokio::test]
async fn guardrails_rule_in_order_each_on_what_the_one_before_left() {
    let world = world(vec![echo()]).await;
    let first = guardrail("regex", json!({"replace": [{"pattern": "aaa", "with": "bbb"}]}));
    let second = NewGuardrail {
        name: "second".into(),
        ..guardrail("regex", json!({"replace": [{"pattern": "bbb", "with": "ccc"}]}))
    };
    guard(&world, vec![first.clone(), second.clone()]).await;
    let said = |answer: Value| answer["choices"][0]["message"]["content"].as_str().unwrap().to_owned();
    assert_eq!(said(world.call(Operation::ChatCompletions, &chat("x aaa", "")).await.json().await), "x ccc");
    guard(&world, vec![second, first]).await;
    let request_only = said(world.call(Operation::ChatCompletions, &chat("x aaa", "")).await.json().await);
    // The request leaves as `bbb`, which the answer's first guardrail makes `ccc`.
    assert_eq!(request_only, "x ccc");
}

#[tokio::test]
async fn what_was_seen_at_the_request_is_told_at_the_answer() {
    let world = world(vec![echo()]).await;
    guard(&world, vec![NewGuardrail { config: None, ..guardrail("misruling", json!({})) }]).await;
    assert_eq!(world.call(Operation::ChatCompletions, &chat("hi", r#","user":"me""#)).await.status(), 200);
    let trace = world.only_trace().await;
    let steps = rulings(&trace);
    assert_eq!((steps.len(), noted(steps[1], "request_texts")), (2, &"2".into()));
}

#[tokio::test]
async fn a_member_that_is_there_twice_cant_hide_a_text() {
    let upstream = Upstream::start().await.unwrap();
    let world = world(vec![openai("main", &upstream, 0)]).await;
    guard(&world, vec![guardrail("regex", json!({"deny": [{"pattern": "zephyr"}]}))]).await;
    let body = r#"{"model":"gpt-4o-mini","messages":[{"role":"user","content":"zephyr","content":"fine"}]}"#;
    let answer = world.call(Operation::ChatCompletions, body).await;
    assert_eq!((answer.status(), answer.json().await["error"]["code"].take()), (400, "invalid_json".into()));
    assert!(upstream.requests().is_empty());
}

#[tokio::test]
async fn a_configuration_that_cant_be_used_is_named_by_its_key() {
    let world = world(vec![echo()]).await;
    serve(&world, &["regex", "json-schema"]).await;
    let snapshot = world.plugins.load();
    let fault = |new: NewGuardrail| async {
        let fault = Guardrail::new(snapshot.instance(), new).await.unwrap_err();
        fault.problems.into_iter().map(|(pointer, _)| pointer).collect::<Vec<_>>()
    };
    assert_eq!(fault(guardrail("regex", json!({"denied": []}))).await, ["/config/denied"]);
    assert_eq!(
        fault(guardrail("regex", json!({"deny": [{"pattern": "("}]}))).await,
        ["/config/deny/0/pattern"]
    );
    assert_eq!(fault(guardrail("nobody", json!({}))).await, ["/plugin"]);
    let mut wrong = guardrail("json-schema", json!({}));
    wrong.stages = vec!["request".into()];
    assert_eq!(fault(wrong).await, ["/stages/0"]);
    let wide = NewGuardrail { hold_back: Some(1 << 20), ..guardrail("regex", json!({})) };
    assert_eq!(fault(wide).await, ["/hold_back_bytes"]);
}

#[tokio::test]
async fn secrets_reach_neither_provider_nor_trace() {
    let upstream = Upstream::start().await.unwrap();
    let world = world(vec![openai("main", &upstream, 0)]).await;
    guard(&world, vec![guardrail("secrets", json!({}))]).await;
    let key = format!("ghp_{}", "q7WzR2mKx9TbN4vLs8HdY3cFj6PgA5eUi1oX");
    let body =
        format!(r#"{{"model":"gpt-4o-mini","messages":[{{"role":"user","content":"my token is {key}."}}]}}"#);
    assert_eq!(world.call(Operation::ChatCompletions, &body).await.status(), 200);
    let seen = upstream.requests().pop().unwrap();
    assert_eq!(seen.json().unwrap()["messages"][0]["content"], "my token is <SECRET:github>.");
    let trace = world.only_trace().await;
    assert!(!trace.to_string().contains(&key));
    assert_eq!(noted(rulings(&trace)[0], "secrets.formats"), &json!(["github"]));
}
