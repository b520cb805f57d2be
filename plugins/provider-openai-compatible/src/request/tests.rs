//! Every row of `presets.json`, as the request that goes out through it; and each option by itself.

use std::collections::BTreeSet;

use brokle_plugin::provider::{Auth, BodyPlan, ResponsePlan};
use serde_json::{Map, Value, json};

use super::*;

const MANIFEST: &str = include_str!(concat!(env!("OUT_DIR"), "/plugin.json"));

fn presets() -> Map<String, Value> {
    let manifest: Value = serde_json::from_str(MANIFEST).unwrap();
    manifest["provider"]["presets"].as_object().unwrap().clone()
}

fn call(operation: &str, options: &Value) -> Call {
    Call {
        operation: operation.into(),
        model: "a-model".into(),
        streaming: false,
        format: "canonical".into(),
        content_type: "application/json".into(),
        request_id: "id".into(),
        created: 0,
        options: options.to_string().into_bytes(),
        attributes: vec![("base_path".into(), "/v1".into())],
    }
}

/// The request, and the body after its edits.
fn send(call: &Call, body: &Value) -> Result<(UpstreamRequest, Value), Problem> {
    let get = |pointer: &str| body.pointer(pointer).map(|value| value.to_string().into_bytes());
    let request = upstream(call, &get, None)?;
    let mut sent = body.clone();
    let BodyPlan::Edits(edits) = &request.body else { return Ok((request, Value::Null)) };
    for edit in edits {
        let (pointer, value) = match edit {
            Edit::Set(set) => (set.pointer.as_str(), Some(serde_json::from_slice(&set.value).unwrap())),
            Edit::Remove(pointer) => (pointer.as_str(), None),
        };
        let (parent, name) = pointer.rsplit_once('/').unwrap();
        if parent == "/stream_options" && sent.get("stream_options").is_none() {
            sent["stream_options"] = json!({});
        }
        let parent = sent.pointer_mut(parent).unwrap().as_object_mut().unwrap();
        match value {
            Some(value) => drop(parent.insert(name.into(), value)),
            None => drop(parent.remove(name)),
        }
    }
    Ok((request, sent))
}

fn refused(options: &Value, body: &Value) -> String {
    send(&call("chat.completions", options), body).err().and_then(|problem| problem.param).unwrap()
}

/// What every row must be.
fn check_row(name: &str, row: &Value) {
    let plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
    assert!(name.bytes().all(plain), "{name}");
    assert!(row["docs"].as_str().is_some_and(|docs| docs.starts_with("https://")), "{name}: docs");
    assert!(row["title"].as_str().is_some_and(|title| !title.is_empty()), "{name}: title");
    let keyless = row["keyless"] == true;
    match row["base_url"].as_str() {
        Some(url) if keyless => assert!(url.starts_with("http://localhost:"), "{name}: {url}"),
        Some(url) => assert!(url.starts_with("https://"), "{name}: {url}"),
        None => assert!(["azure-foundry", "databricks"].contains(&name), "{name}: no base URL"),
    }
    assert!(!row["base_url"].as_str().unwrap_or_default().ends_with('/'), "{name}: a slash at the end");
    for variable in [&row["api_key_env"], &row["base_url_env"]].into_iter().filter_map(Value::as_str) {
        let plain = |b: u8| b.is_ascii_uppercase() || b.is_ascii_digit() || b == b'_';
        assert!(variable.bytes().all(plain), "{variable}");
    }
}

#[test]
fn there_are_many_rows_and_each_is_where_it_should_be() {
    let presets = presets();
    assert!(presets.len() >= 60, "{} rows", presets.len());
    let mut variables = BTreeSet::new();
    for (name, row) in &presets {
        check_row(name, row);
        for variable in [&row["api_key_env"], &row["base_url_env"]].into_iter().filter_map(Value::as_str) {
            assert!(variables.insert(variable.to_owned()), "{variable} makes two connections");
        }
    }
}

/// The row of `docs/plugins/adding-a-provider.md` is one, and says what the page says.
#[test]
fn the_pages_row_is_one() {
    let page = include_str!("../../../../docs/plugins/adding-a-provider.md");
    let (_, rest) = page.split_once("## A preset").unwrap();
    let (_, block) = rest.split_once("```json\n").unwrap();
    let row: Value = serde_json::from_str(block.split("```").next().unwrap()).unwrap();
    let name = row["name"].as_str().unwrap();
    assert!(!presets().contains_key(name), "it is no example any more");
    check_row(name, &row);
    let body = json!({"model": "x", "messages": [], "max_tokens": 7, "store": true});
    let (_, sent) = send(&call("chat.completions", &row["options"]), &body).unwrap();
    assert_eq!(sent, json!({"model": "a-model", "messages": [], "max_completion_tokens": 7}));
}

#[test]
fn every_rows_request_is_what_its_options_say() {
    let body = json!({
        "model": "x", "messages": [{"role": "developer", "content": "a"}, {"role": "user", "content": "b"}],
        "max_completion_tokens": 7, "stream": true, "user": "u", "store": true,
    });
    for (name, row) in &presets() {
        let mut options = row.get("options").cloned().unwrap_or_else(|| json!({}));
        options["preset"] = name.as_str().into();
        options["account_id"] = "acct".into();
        let wanted = |key: &str, usual: &str| options[key].as_str().unwrap_or(usual).to_owned();
        let call = Call { streaming: true, ..call("chat.completions", &options) };
        let (request, sent) =
            send(&call, &body).unwrap_or_else(|problem| panic!("{name}: {}", problem.message));

        let path = match name.as_str() {
            "cloudflare" => "/accounts/acct/ai/v1/chat/completions",
            "writer" => "/chat",
            _ => "/chat/completions",
        };
        assert_eq!((request.method.as_str(), request.path.as_str()), ("POST", path), "{name}");
        let auth = match &request.auth {
            Auth::Bearer => "bearer".to_owned(),
            Auth::Header(header) => format!("header:{}", header.name),
            other => format!("{other:?}"),
        };
        assert_eq!(auth, wanted("auth", "bearer").replace("optional", "bearer"), "{name}");
        assert_eq!(sent["model"], "a-model", "{name}");
        let role = if wanted("developer_role", "system") == "keep" { "developer" } else { "system" };
        assert_eq!(sent["messages"][0]["role"], role, "{name}");
        let limit = wanted("max_tokens", "max_tokens").replace("keep", "max_completion_tokens");
        assert_eq!(sent[&limit], 7, "{name}");
        let limits =
            ["max_tokens", "max_completion_tokens"].iter().filter(|key| sent.get(key).is_some()).count();
        assert_eq!(limits, 1, "{name}");
        let usage = options["stream_usage"] != false;
        assert_eq!(sent["stream_options"]["include_usage"] == true, usage, "{name}");
        for dropped in options["drop"].as_array().into_iter().flatten().filter_map(Value::as_str) {
            assert!(sent.get(dropped).is_none(), "{name}: {dropped}");
        }
        let decoded = matches!(&request.response, ResponsePlan::Decoded(framing) if framing == "sse");
        assert_eq!(decoded, wanted("reasoning", "reasoning_content") != "reasoning_content", "{name}");
    }
}

#[test]
fn a_keyless_server_is_asked_without_a_key() {
    let mut call = call("chat.completions", &json!({"auth": "optional"}));
    assert!(matches!(send(&call, &json!({"messages": []})).unwrap().0.auth, Auth::Bearer));
    call.attributes.push(("credential".into(), "none".into()));
    assert!(matches!(send(&call, &json!({"messages": []})).unwrap().0.auth, Auth::None));
    call.options = b"{}".to_vec();
    assert!(matches!(send(&call, &json!({"messages": []})).unwrap().0.auth, Auth::Bearer));
}

#[test]
fn the_newer_limit_counts_where_both_are_set() {
    let body = json!({"messages": [], "max_tokens": 5, "max_completion_tokens": 7});
    let sent = |options: Value| send(&call("chat.completions", &options), &body).unwrap().1;
    let older = sent(json!({}));
    assert_eq!((&older["max_tokens"], older.get("max_completion_tokens")), (&json!(7), None));
    let newer = sent(json!({"max_tokens": "max_completion_tokens"}));
    assert_eq!((&newer["max_completion_tokens"], newer.get("max_tokens")), (&json!(7), None));
    assert_eq!(sent(json!({"max_tokens": "keep"}))["max_tokens"], 5);
}

#[test]
fn what_would_change_the_answer_is_refused_or_dropped() {
    let options = json!({"unsupported": ["n", "logit_bias", "logprobs"], "preset": "acme"});
    assert_eq!(refused(&options, &json!({"messages": [], "n": 2})), "n");
    assert_eq!(refused(&options, &json!({"messages": [], "logit_bias": {"1": 5}})), "logit_bias");
    let harmless = json!({"messages": [], "n": 1, "logit_bias": {}, "logprobs": false});
    let (_, sent) = send(&call("chat.completions", &options), &harmless).unwrap();
    assert_eq!(sent, json!({"messages": [], "model": "a-model"}));
    let mut dropping = options;
    dropping["unsupported_parameters"] = "drop".into();
    let (_, sent) = send(&call("chat.completions", &dropping), &json!({"messages": [], "n": 2})).unwrap();
    assert_eq!(sent.get("n"), None);
}

#[test]
fn earlier_thinking_gets_the_servers_name() {
    let body = json!({"messages": [
        {"role": "user", "content": "a"},
        {"role": "assistant", "content": "b", "reasoning_content": "hm"},
        {"role": "assistant", "content": "c", "reasoning_content": "hm", "reasoning": "kept"},
    ]});
    let (_, sent) = send(&call("chat.completions", &json!({"reasoning": "reasoning"})), &body).unwrap();
    assert_eq!(sent["messages"][1], json!({"role": "assistant", "content": "b", "reasoning": "hm"}));
    assert_eq!(sent["messages"][2], json!({"role": "assistant", "content": "c", "reasoning": "kept"}));
    let (_, same) = send(&call("chat.completions", &json!({})), &body).unwrap();
    assert_eq!(same["messages"], body["messages"]);
}

#[test]
fn an_operation_that_the_server_lacks_is_refused() {
    let options = json!({"operations": ["chat.completions"]});
    let problem = send(&call("embeddings", &options), &json!({})).err().unwrap();
    assert_eq!(problem.message, "This provider doesn't offer 'embeddings'.");
    assert!(send(&call("images.generations", &json!({})), &json!({})).is_err());
    let (models, _) = send(&call("models", &json!({})), &json!({})).unwrap();
    assert_eq!((models.method.as_str(), models.path.as_str()), ("GET", "/models"));
    let lost = json!({"path_prefix": "/accounts/{account_id}"});
    assert!(send(&call("chat.completions", &lost), &json!({})).err().unwrap().message.contains("account_id"));
}
