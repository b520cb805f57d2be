//! What the fixtures don't show: bytes that stay, rules that depend on the model, faults.

use alloc::string::{String, ToString};

use serde_json::{Value, json};

use super::translate;
use crate::options::Options;

const CLAUDE: &str = "anthropic.claude-sonnet-4-5-20250929-v1:0";

fn send_with(model: &str, extra: Value, options: &Options) -> Result<Value, brokle_plugin::Problem> {
    let mut body = json!({"model": "x", "messages": [{"role": "user", "content": "hi"}]});
    let Value::Object(extra) = extra else { panic!("members are an object") };
    for (name, value) in extra {
        body[name] = value;
    }
    let sent = translate(body.to_string().as_bytes(), model, false, options)?;
    Ok(serde_json::from_slice(&sent).unwrap())
}

fn send(model: &str, extra: Value) -> Value {
    send_with(model, extra, &Options::default()).unwrap()
}

fn refused(model: &str, extra: Value) -> String {
    send_with(model, extra, &Options::default()).unwrap_err().param.unwrap()
}

#[test]
fn bytes_that_a_signature_or_a_cache_sees_stay() {
    let body = br#"{"messages":[{"role":"assistant","thinking_blocks":[{"signature":"s\/=","type":"thinking", "thinking":"\u00e9"},{"type":"redacted_thinking","data":"cg=\u003d"}],"content":"a","tool_calls":[{"id":"c","type":"function","function":{"name":"f","arguments":"{\"b\": 1.50, \"a\":2}"}}]}],"tools":[{"type":"function","function":{"name":"f","parameters":{"type":"object","properties":{"z":{}, "a":{}}}}}]}"#;
    let sent = String::from_utf8(translate(body, CLAUDE, false, &Options::default()).unwrap()).unwrap();
    for part in [
        r#"{"reasoningText":{"text":"\u00e9","signature":"s\/="}}"#,
        r#"{"redactedContent":"cg=\u003d"}"#,
        r#""input":{"b": 1.50, "a":2}"#,
        r#""json":{"type":"object","properties":{"z":{}, "a":{}}}"#,
    ] {
        assert!(sent.contains(part), "{part} in {sent}");
    }
}

#[test]
fn makers_are_told_to_reason_their_own_way() {
    let fields =
        |model| send(model, json!({"reasoning_effort": "high"}))["additionalModelRequestFields"].clone();
    assert_eq!(fields(CLAUDE), json!({"thinking": {"type": "enabled", "budget_tokens": 16384}}));
    let adaptive = json!({"thinking": {"type": "adaptive"}, "output_config": {"effort": "high"}});
    assert_eq!(fields("us.anthropic.claude-opus-4-6-v1"), adaptive);
    let nova = json!({"reasoningConfig": {"type": "enabled", "maxReasoningEffort": "high"}});
    assert_eq!(fields("us.amazon.nova-2-lite-v1:0"), nova);
    assert_eq!(fields("openai.gpt-oss-120b-1:0"), json!({"reasoning_effort": "high"}));
    assert_eq!(fields("us.meta.llama4-maverick-17b-instruct-v1:0"), Value::Null);
    assert_eq!(refused("openai.gpt-oss-120b-1:0", json!({"reasoning_effort": "huge"})), "reasoning_effort");
}

#[test]
fn thinking_changes_the_limit_and_the_sampling() {
    let sent = send(CLAUDE, json!({"reasoning_effort": "low", "temperature": 0.5}));
    assert_eq!(sent["inferenceConfig"], json!({"maxTokens": 32000}));
    let sampled = send(CLAUDE, json!({"temperature": 0.5, "top_p": 0.9, "top_k": 3}));
    assert_eq!(sampled["inferenceConfig"], json!({"temperature": 0.5}));
    assert_eq!(sampled["additionalModelRequestFields"], json!({"top_k": 3}));
    let nova = send(
        "amazon.nova-2-lite-v1:0",
        json!({"reasoning_effort": "high", "max_tokens": 5, "temperature": 0}),
    );
    assert_eq!(nova["inferenceConfig"], Value::Null);
}

#[test]
fn an_operators_guardrail_is_not_replaced() {
    let options = Options::parse(br#"{"guardrail":{"id":"g","version":"1","stream_mode":"async"}}"#).unwrap();
    let sent = send_with(CLAUDE, json!({}), &options).unwrap();
    assert_eq!(sent["guardrailConfig"], json!({"guardrailIdentifier": "g", "guardrailVersion": "1"}));
    for name in ["guardrail_config", "guardrailConfig"] {
        let own = json!({name: {"guardrailIdentifier": "mine", "guardrailVersion": "2"}});
        let problem = send_with(CLAUDE, own.clone(), &options).unwrap_err();
        assert_eq!(problem.param.as_deref(), Some("guardrail_config"));
        assert_eq!(send(CLAUDE, own)["guardrailConfig"]["guardrailIdentifier"], "mine");
    }
}

#[test]
fn no_tool_is_to_be_called() {
    let tools = json!([{"type": "function", "function": {"name": "f"}}]);
    let sent = send(CLAUDE, json!({"tools": tools, "tool_choice": "none"}));
    assert_eq!(sent.get("toolConfig"), None);
    let messages = json!([
        {"role": "user", "content": "hi"},
        {"role": "assistant", "tool_calls": [{"id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}}]},
        {"role": "tool", "tool_call_id": "c", "content": "done"},
    ]);
    let again = json!({"tools": tools, "tool_choice": "none", "messages": messages});
    assert_eq!(refused(CLAUDE, again), "tool_choice");
}

#[test]
fn a_fault_is_named_where_it_is() {
    let in_messages = |message: Value| refused(CLAUDE, json!({"messages": [message]}));
    let part = |part: Value| json!({"role": "user", "content": [{"type": "text", "text": "a"}, part]});
    let image = |url: &str| in_messages(part(json!({"type": "image_url", "image_url": {"url": url}})));
    assert_eq!(image("https://a/b.png"), "messages[0].content[1].image_url");
    assert_eq!(image("data:image/tiff;base64,AA=="), "messages[0].content[1].image_url");
    assert_eq!(in_messages(part(json!({"type": "input_audio"}))), "messages[0].content[1].type");
    let file = json!({"type": "file", "file": {"file_id": "file-1"}});
    assert_eq!(in_messages(part(file)), "messages[0].content[1].file.file_id");
    let thought = json!({"role": "assistant", "content": "x", "thinking_blocks": [{"type": "thinking"}]});
    assert_eq!(in_messages(thought), "messages[0].thinking_blocks[0]");
    assert_eq!(in_messages(json!({"role": "tool", "content": "x"})), "messages[0].tool_call_id");
    let reserved = json!({"tools": [{"type": "function", "function": {"name": "brokle_structured_answer"}}]});
    assert_eq!(refused(CLAUDE, reserved), "tools[0].function.name");
}

#[test]
fn documents_have_names_of_their_own() {
    let file = |name: &str| json!({"type": "file", "file": {"filename": name, "file_data": "data:application/pdf;base64,AA=="}});
    let content = json!([file("a_b: (1).pdf"), file("a b (1).pdf"), file("")]);
    let sent = send(CLAUDE, json!({"messages": [{"role": "user", "content": content}]}));
    let name = |index: usize| sent["messages"][0]["content"][index]["document"]["name"].clone();
    assert_eq!((name(0), name(1), name(2)), (json!("a b (1)"), json!("a b (1)-2"), json!("document")));
}
