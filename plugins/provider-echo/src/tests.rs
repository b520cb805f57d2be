//! Properties that hold for any request; the fixtures show single ones.

use brokle_plugin::provider::{Call, Output};
use serde_json::{Value, json};

fn call(operation: &str, streaming: bool) -> Call {
    Call {
        operation: operation.into(),
        model: "echo-1".into(),
        streaming,
        format: "canonical".into(),
        content_type: "application/json".into(),
        request_id: "r1".into(),
        created: 7,
        options: b"{}".to_vec(),
        attributes: Vec::new(),
    }
}

fn ask(operation: &str, streaming: bool, body: &Value) -> Vec<Value> {
    let outputs = crate::answer(&call(operation, streaming), body.to_string().as_bytes()).unwrap();
    assert!(matches!(outputs.first(), Some(Output::Usage(_))), "usage is always told");
    let chunk = |output: &Output| match output {
        Output::Chunk(json) => Some(serde_json::from_slice(json).unwrap()),
        _ => None,
    };
    outputs.iter().filter_map(chunk).collect()
}

/// A choice's text, its calls' names and arguments, its finish reason.
type Joined = (String, Vec<(String, String)>, String);

#[test]
fn a_stream_joins_to_the_whole_answer() {
    let tools = json!([{"type": "function", "function": {"name": "add", "parameters": {"type": "object", "properties": {"a": {"type": "integer"}}}}}]);
    for body in [
        json!({"model": "m", "messages": [{"role": "user", "content": "  One,  two\n three "}], "n": 2}),
        json!({"model": "m", "messages": [{"role": "user", "content": "call add {\"a\": 1}\ncall add"}], "tools": tools}),
        json!({"model": "m", "messages": [{"role": "user", "content": "x"}], "response_format": {"type": "json_object"}}),
    ] {
        let whole = &ask("chat.completions", false, &body)[0];
        let mut joined: Vec<Joined> = Vec::new();
        for chunk in ask("chat.completions", true, &body) {
            let choice = &chunk["choices"][0];
            let index = choice["index"].as_u64().unwrap() as usize;
            joined.resize(joined.len().max(index + 1), Default::default());
            let (content, calls, reason) = &mut joined[index];
            content.push_str(choice["delta"]["content"].as_str().unwrap_or_default());
            for call in choice["delta"]["tool_calls"].as_array().into_iter().flatten() {
                let nth = call["index"].as_u64().unwrap() as usize;
                calls.resize(calls.len().max(nth + 1), Default::default());
                calls[nth].0.push_str(call["function"]["name"].as_str().unwrap_or_default());
                calls[nth].1.push_str(call["function"]["arguments"].as_str().unwrap_or_default());
            }
            reason.push_str(choice["finish_reason"].as_str().unwrap_or_default());
        }
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let expected: Vec<_> = whole["choices"]
            .as_array()
            .unwrap()
            .iter()
            .map(|choice| {
                let calls = choice["message"]["tool_calls"].as_array().into_iter().flatten();
                let calls =
                    calls.map(|call| (text(&call["function"]["name"]), text(&call["function"]["arguments"])));
                (text(&choice["message"]["content"]), calls.collect(), text(&choice["finish_reason"]))
            })
            .collect();
        assert_eq!(joined, expected);
    }
}

#[test]
fn completions_answer_every_prompt() {
    let whole = &ask(
        "completions",
        false,
        &json!({"prompt": ["one two", "three STOP four"], "stop": "STOP", "n": 2}),
    )[0];
    let texts: Vec<_> =
        whole["choices"].as_array().unwrap().iter().map(|choice| choice["text"].as_str().unwrap()).collect();
    assert_eq!(texts, ["one two", "one two", "three ", "three "]);
    assert_eq!(whole["usage"], json!({"prompt_tokens": 5, "completion_tokens": 6, "total_tokens": 11}));
    let streamed =
        ask("completions", true, &json!({"prompt": "one two", "stream_options": {"include_usage": true}}));
    let text: String = streamed.iter().filter_map(|chunk| chunk["choices"][0]["text"].as_str()).collect();
    assert_eq!((text.as_str(), &streamed.last().unwrap()["usage"]["total_tokens"]), ("one two", &json!(4)));
}

#[test]
fn what_does_not_fit_is_refused_by_name() {
    let param = |operation: &str, body: Value| {
        crate::answer(&call(operation, false), body.to_string().as_bytes()).unwrap_err().param.unwrap()
    };
    let chat = |extra: Value| {
        let mut body = json!({"model": "m", "messages": [{"role": "user", "content": "x"}]});
        body.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
        param("chat.completions", body)
    };
    assert_eq!(chat(json!({"n": 0})), "n");
    assert_eq!(chat(json!({"messages": []})), "messages");
    assert_eq!(chat(json!({"stop": 5})), "stop");
    assert_eq!(chat(json!({"response_format": {"type": "yaml"}})), "response_format.type");
    let tools = json!([{"type": "function", "function": {"name": "f"}}]);
    assert_eq!(
        chat(json!({"tools": tools, "tool_choice": {"type": "function", "function": {"name": "g"}}})),
        "tool_choice"
    );
    assert_eq!(param("embeddings", json!({"input": "x", "dimensions": 0})), "dimensions");
    assert_eq!(param("embeddings", json!({"input": "x", "encoding_format": "hex"})), "encoding_format");
}

#[test]
fn embeddings_in_base64_are_the_same_numbers() {
    use base64::Engine;
    let embedding = |format: &str| {
        ask("embeddings", false, &json!({"input": [1, 2, 3], "encoding_format": format}))[0]["data"][0]["embedding"].clone()
    };
    let bytes =
        base64::engine::general_purpose::STANDARD.decode(embedding("base64").as_str().unwrap()).unwrap();
    let decoded: Vec<f32> =
        bytes.chunks(4).map(|four| f32::from_le_bytes(four.try_into().unwrap())).collect();
    let floats: Vec<f32> = serde_json::from_value(embedding("float")).unwrap();
    assert_eq!((decoded.len(), &decoded), (8, &floats));
}

#[test]
fn what_the_system_says_last_is_neither_prompt_nor_result() {
    let tools = json!([{"type": "function", "function": {"name": "add"}}]);
    let mut messages =
        vec![json!({"role": "user", "content": "call add {}"}), json!({"role": "system", "content": "x"})];
    let ask = |messages: &[Value]| {
        let body = json!({"model": "m", "messages": messages, "tools": tools});
        ask("chat.completions", false, &body)[0]["choices"][0]["message"].clone()
    };
    let called = ask(&messages);
    assert_eq!(called["tool_calls"][0]["function"]["name"], "add");
    messages.extend([
        called,
        json!({"role": "tool", "tool_call_id": "call_1", "content": "3"}),
        json!({"role": "system", "content": "y"}),
    ]);
    assert_eq!(ask(&messages)["content"], "3");
}
