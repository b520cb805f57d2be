//! What the fixtures don't show: the rules that depend on the model, the limits and the options.

use serde_json::{Value, json};

use super::{Destination, translate};
use crate::options::{Options, ThinkingMode, Unsupported};

fn send_with(model: &str, extra: Value, options: &Options) -> Result<Value, brokle_plugin::Problem> {
    let mut body = json!({"model": "x", "messages": [{"role": "user", "content": "hi"}]});
    let Value::Object(extra) = extra else { panic!("members are an object") };
    for (name, value) in extra {
        body[name] = value;
    }
    let outgoing = translate(body.to_string().as_bytes(), model, false, options, Destination::Anthropic)?;
    Ok(serde_json::from_slice(&outgoing.body).unwrap())
}

fn send(model: &str, extra: Value) -> Value {
    send_with(model, extra, &Options::default()).unwrap()
}

fn refused(model: &str, extra: Value) -> String {
    send_with(model, extra, &Options::default()).unwrap_err().param.unwrap()
}

#[test]
fn a_limit_is_found_in_order() {
    let model = "claude-sonnet-4-5";
    assert_eq!(send(model, json!({}))["max_tokens"], 32_000);
    assert_eq!(send("claude-3-haiku-20240307", json!({}))["max_tokens"], 4096);
    assert_eq!(send(model, json!({"max_tokens": 5}))["max_tokens"], 5);
    assert_eq!(send(model, json!({"max_tokens": 5, "max_completion_tokens": 6}))["max_tokens"], 6);
    let options = Options { max_tokens: Some(99), ..Options::default() };
    assert_eq!(send_with(model, json!({}), &options).unwrap()["max_tokens"], 99);
    assert_eq!(send_with(model, json!({"max_tokens": 5}), &options).unwrap()["max_tokens"], 5);
}

#[test]
fn effort_becomes_what_the_model_understands() {
    let budget = send("claude-haiku-4-5", json!({"reasoning_effort": "medium", "temperature": 0.2}));
    assert_eq!(budget["thinking"], json!({"type": "enabled", "budget_tokens": 8192}));
    assert_eq!(budget["temperature"], Value::Null, "thinking excludes sampling");

    let adaptive = send("claude-opus-4-7", json!({"reasoning_effort": "xhigh"}));
    assert_eq!(adaptive["thinking"], json!({"type": "adaptive"}));
    assert_eq!(adaptive["output_config"], json!({"effort": "xhigh"}));

    assert_eq!(send("claude-haiku-4-5", json!({"reasoning_effort": "none"}))["thinking"], Value::Null);
    assert_eq!(
        send("claude-opus-5", json!({"reasoning_effort": "none"}))["thinking"],
        json!({"type": "disabled"})
    );
    assert_eq!(refused("claude-opus-5", json!({"reasoning_effort": "huge"})), "reasoning_effort");

    let options = Options { thinking: ThinkingMode::Budget, ..Options::default() };
    let told = send_with("our-deployment", json!({"reasoning_effort": "low"}), &options).unwrap();
    assert_eq!(told["thinking"]["budget_tokens"], 2048);
}

#[test]
fn a_budget_gives_way_to_what_the_vendor_would_refuse() {
    let model = "claude-sonnet-4-5";
    let small = send(model, json!({"reasoning_effort": "high", "max_tokens": 2000}));
    assert_eq!(small["thinking"]["budget_tokens"], 1600);
    let tiny = send(model, json!({"reasoning_effort": "high", "max_tokens": 1200}));
    assert_eq!(tiny["thinking"], Value::Null);

    let tools = json!([{"type": "function", "function": {"name": "f"}}]);
    let forced = send(model, json!({"reasoning_effort": "high", "tools": tools, "tool_choice": "required"}));
    assert_eq!((&forced["thinking"], &forced["tool_choice"]["type"]), (&Value::Null, &json!("any")));

    let call = json!({"id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}});
    let turn = |blocks: Value| {
        let messages = json!([
            {"role": "user", "content": "hi"},
            {"role": "assistant", "tool_calls": [call], "thinking_blocks": blocks},
            {"role": "tool", "tool_call_id": "c", "content": "done"},
        ]);
        send(model, json!({"messages": messages, "reasoning_effort": "high"}))
    };
    assert_eq!(turn(json!([]))["thinking"], Value::Null);
    let thought = json!([{"type": "thinking", "thinking": "t", "signature": "s"}]);
    assert_eq!(turn(thought)["thinking"]["type"], "enabled");
}

#[test]
fn sampling_follows_the_generation() {
    let both = json!({"temperature": 0.5, "top_p": 0.9, "top_k": 3});
    let old = send("claude-3-5-sonnet-20241022", both.clone());
    assert_eq!((&old["temperature"], &old["top_p"], &old["top_k"]), (&json!(0.5), &json!(0.9), &json!(3)));
    let one = send("claude-sonnet-4-5", both.clone());
    assert_eq!((&one["temperature"], &one["top_p"]), (&json!(0.5), &Value::Null));
    let none = send("claude-sonnet-5", both);
    assert_eq!(
        (&none["temperature"], &none["top_p"], &none["top_k"]),
        (&Value::Null, &Value::Null, &Value::Null)
    );

    assert_eq!(refused("claude-sonnet-4-5", json!({"temperature": 1.5})), "temperature");
    let drop = Options { unsupported_parameters: Unsupported::Drop, ..Options::default() };
    let dropped = send_with("claude-sonnet-4-5", json!({"temperature": 1.5, "n": 3}), &drop).unwrap();
    assert_eq!(dropped["temperature"], Value::Null);
}

#[test]
fn what_changes_the_answer_is_refused_by_name() {
    for (param, value) in [
        ("n", json!(2)),
        ("logprobs", json!(true)),
        ("logit_bias", json!({"50256": -100})),
        ("modalities", json!(["text", "audio"])),
        ("functions", json!([])),
        ("web_search_options", json!({})),
    ] {
        assert_eq!(refused("claude-opus-5", json!({param: value})), param);
    }
    let harmless = json!({"n": 1, "logprobs": false, "logit_bias": {}, "seed": 1, "store": true, "frequency_penalty": 0.5});
    let sent = send("claude-opus-5", harmless);
    let members: Vec<_> = sent.as_object().unwrap().keys().map(String::as_str).collect();
    assert_eq!(members, ["max_tokens", "messages", "model", "stream"]);
}

#[test]
fn the_vendors_own_members_go_through() {
    let sent = send(
        "claude-opus-5",
        json!({"thinking": {"type": "adaptive", "display": "summarized"}, "anthropic_service_tier": "standard_only",
               "cache_control": {"type": "ephemeral"}, "unknown": 1}),
    );
    assert_eq!(sent["thinking"]["display"], "summarized");
    assert_eq!(sent["service_tier"], "standard_only");
    assert_eq!(sent["cache_control"], json!({"type": "ephemeral"}));
    assert_eq!(sent.get("unknown"), None);
    assert_eq!(refused("claude-opus-5", json!({"anthropic_messages": []})), "anthropic_messages");
    assert_eq!(refused("claude-opus-5", json!({"anthropic_beta": ["a\r\nb"]})), "anthropic_beta");
}

#[test]
fn bytes_that_a_signature_or_a_cache_sees_stay() {
    let body = br#"{"model":"x","messages":[{"role":"assistant","thinking_blocks":[{"signature":"s\/=","type":"thinking", "thinking":"\u00e9"}],"content":"a"},{"role":"user","content":[{"type":"text","text":"b","cache_control":{"ttl":"1h", "type":"ephemeral"}}]}],"tools":[{"type":"function","function":{"name":"f","parameters":{"type":"object","properties":{"z":{},"a":{}}}}}]}"#;
    let outgoing =
        translate(body, "claude-opus-5", false, &Options::default(), Destination::Anthropic).unwrap();
    let sent = String::from_utf8(outgoing.body).unwrap();
    for part in [
        r#"{"signature":"s\/=","type":"thinking", "thinking":"\u00e9"}"#,
        r#""cache_control":{"ttl":"1h", "type":"ephemeral"}"#,
        r#""input_schema":{"type":"object","properties":{"z":{},"a":{}}}"#,
    ] {
        assert!(sent.contains(part), "{part} in {sent}");
    }
}

#[test]
fn a_fault_is_named_where_it_is() {
    let in_messages = |message: Value| refused("claude-opus-5", json!({"messages": [message]}));
    let call = |arguments: &str| json!({"id": "c", "type": "function", "function": {"name": "f", "arguments": arguments}});
    assert_eq!(
        in_messages(json!({"role": "assistant", "tool_calls": [call("{}"), call("{oops")]})),
        "messages[0].tool_calls[1].function.arguments"
    );
    assert_eq!(in_messages(json!({"role": "tool", "content": "x"})), "messages[0].tool_call_id");
    assert_eq!(in_messages(json!({"role": "narrator", "content": "x"})), "messages[0].role");
    let part = |part: Value| json!({"role": "user", "content": [{"type": "text", "text": "a"}, part]});
    assert_eq!(in_messages(part(json!({"type": "input_audio"}))), "messages[0].content[1].type");
    assert_eq!(
        in_messages(part(json!({"type": "image_url", "image_url": {"url": "http://a/b"}}))),
        "messages[0].content[1].image_url"
    );
    assert_eq!(
        in_messages(part(json!({"type": "file", "file": {"file_data": "data:video/mp4;base64,AA=="}}))),
        "messages[0].content[1].file.file_data"
    );
}
