//! A streamed answer and a whole one are the same message: each dialect in front of each kind of provider, however the
//! vendor cuts its bytes.

use brokle_gateway::{Asking, Dialect};
use brokle_test_upstream::Upstream;
use http::HeaderMap;
use serde_json::{Value, json};

use super::{echo, named};
use crate::harness::{To, World, asking, world};

/// What a message says, and how it ends.
#[derive(Debug, PartialEq)]
struct Said {
    text: String,
    calls: Vec<(String, Value)>,
    end: Value,
    output_tokens: Value,
}

const TEXT: &str = "one two";
const CALLS: &str = "call add {\"a\":1}\ncall sub {\"b\":2}";

pub(super) fn request(dialect: Dialect, model: &str, streaming: bool, text: &str) -> (Asking, String) {
    let schema = json!({"type": "object", "properties": {}});
    match dialect {
        Dialect::AnthropicMessages => {
            let tools = ["add", "sub"].map(|name| json!({"name": name, "input_schema": schema}));
            let body = json!({"model": model, "max_tokens": 99, "stream": streaming, "tools": tools,
                "messages": [{"role": "user", "content": text}]});
            (asking(dialect, "messages"), body.to_string())
        }
        Dialect::OpenAiResponses => {
            let tools =
                ["add", "sub"].map(|name| json!({"type": "function", "name": name, "parameters": schema}));
            let body = json!({"model": model, "stream": streaming, "tools": tools, "input": text});
            (asking(dialect, "responses"), body.to_string())
        }
        Dialect::GeminiGenerateContent => {
            let tools = ["add", "sub"].map(|name| json!({"name": name, "parametersJsonSchema": schema}));
            let body = json!({"contents": [{"parts": [{"text": text}]}], "tools": [{"functionDeclarations": tools}]});
            let known = asking(dialect, "generate-content");
            (Asking { model: model.to_owned(), streaming, ..known }, body.to_string())
        }
    }
}

fn parsed(text: &Value) -> Value {
    serde_json::from_str(text.as_str().unwrap()).unwrap()
}

fn of_message(message: &Value) -> Said {
    let blocks = message["content"].as_array().unwrap();
    let calls = blocks.iter().filter(|block| block["type"] == "tool_use");
    Said {
        text: blocks.iter().filter_map(|block| block["text"].as_str()).collect(),
        calls: calls.map(|call| (call["name"].as_str().unwrap().into(), call["input"].clone())).collect(),
        end: message["stop_reason"].clone(),
        output_tokens: message["usage"]["output_tokens"].clone(),
    }
}

/// Anthropic's events put together, as its clients do.
fn of_events(events: &[(String, Value)]) -> Said {
    let mut message = json!({});
    let mut inputs = std::collections::BTreeMap::<u64, String>::new();
    for (_, event) in events {
        let index = event["index"].as_u64().unwrap_or(0);
        match event["type"].as_str().unwrap() {
            "message_start" => message = event["message"].clone(),
            "content_block_start" => {
                let blocks = message["content"].as_array_mut().unwrap();
                assert_eq!(blocks.len() as u64, index, "blocks come in order");
                blocks.push(event["content_block"].clone());
            }
            "content_block_delta" => {
                let block = &mut message["content"][usize::try_from(index).unwrap()];
                if let Some(text) = event["delta"]["text"].as_str() {
                    block["text"] = format!("{}{text}", block["text"].as_str().unwrap()).into();
                }
                if let Some(json) = event["delta"]["partial_json"].as_str() {
                    inputs.entry(index).or_default().push_str(json);
                }
            }
            "message_delta" => {
                message["stop_reason"] = event["delta"]["stop_reason"].clone();
                message["usage"] = event["usage"].clone();
            }
            _ => {}
        }
    }
    for (index, json) in inputs {
        message["content"][usize::try_from(index).unwrap()]["input"] = serde_json::from_str(&json).unwrap();
    }
    of_message(&message)
}

fn of_response(response: &Value) -> Said {
    let output = response["output"].as_array().unwrap();
    let texts = output.iter().filter_map(|item| item["content"].as_array()).flatten();
    let calls = output.iter().filter(|item| item["type"] == "function_call");
    Said {
        text: texts.filter_map(|part| part["text"].as_str()).collect(),
        calls: calls
            .map(|call| (call["name"].as_str().unwrap().into(), parsed(&call["arguments"])))
            .collect(),
        end: response["status"].clone(),
        output_tokens: response["usage"]["output_tokens"].clone(),
    }
}

fn of_candidates(answers: &[Value]) -> Said {
    let parts = answers.iter().filter_map(|answer| answer["candidates"][0]["content"]["parts"].as_array());
    let parts: Vec<&Value> = parts.flatten().collect();
    let called = parts.iter().map(|part| &part["functionCall"]).filter(|call| call.is_object());
    let last = answers.last().unwrap();
    Said {
        text: parts.iter().filter_map(|part| part["text"].as_str()).collect(),
        calls: called.map(|call| (call["name"].as_str().unwrap().into(), call["args"].clone())).collect(),
        end: last["candidates"][0]["finishReason"].clone(),
        output_tokens: last["usageMetadata"]["candidatesTokenCount"].clone(),
    }
}

async fn said(world: &World, dialect: Dialect, model: &str, streaming: bool, text: &str) -> Said {
    let (asking, body) = request(dialect, model, streaming, text);
    let answer = world.call_in(&asking, &body, HeaderMap::new()).await;
    assert_eq!(answer.status(), 200, "{dialect:?} {model}");
    let text = answer.text().await;
    let json = || serde_json::from_str::<Value>(&text).unwrap();
    match (dialect, streaming) {
        (Dialect::AnthropicMessages, false) => of_message(&json()),
        (Dialect::AnthropicMessages, true) => of_events(&named(&text)),
        (Dialect::OpenAiResponses, false) => of_response(&json()),
        (Dialect::OpenAiResponses, true) => of_response(&named(&text).last().unwrap().1["response"]),
        (Dialect::GeminiGenerateContent, false) => of_candidates(&[json()]),
        (Dialect::GeminiGenerateContent, true) => of_candidates(json().as_array().unwrap()),
    }
}

#[tokio::test]
async fn a_stream_and_a_whole_answer_are_the_same_message() {
    let upstream = Upstream::start().await.unwrap();
    let to = |name, plugin, url| To { name, plugin, url, priority: 0, models: Vec::new() };
    let world = world(vec![
        to("claude", "provider_anthropic", upstream.origin()),
        to("fast", "provider_openai_compatible:groq", upstream.base_url()),
        echo(),
    ])
    .await;
    let dialects = [Dialect::AnthropicMessages, Dialect::OpenAiResponses, Dialect::GeminiGenerateContent];
    for dialect in dialects {
        for (model, text) in [
            ("echo/echo-1", TEXT),
            ("echo/echo-1", CALLS),
            ("anthropic/claude-sonnet-4-5", TEXT),
            ("groq/gpt-4o-mini", TEXT),
        ] {
            let whole = said(&world, dialect, model, false, text).await;
            assert!(!whole.text.is_empty() || whole.calls.len() == 2, "{dialect:?} {model}: {whole:?}");
            let cuts: &[&str] = match model.starts_with("echo") {
                true => &[""],
                false => &[
                    "",
                    "!chunk=1",
                    "!chunk=7",
                    "!chunk=64",
                    "!malformed-sse=crlf",
                    "!malformed-sse=cr",
                    "!malformed-sse=no-space",
                    "!malformed-sse=bom",
                    "!malformed-sse=comment-flood",
                    "!malformed-sse=split-utf8",
                    "!malformed-sse=after-done",
                ],
            };
            for cut in cuts {
                let native = (dialect, model) == (Dialect::AnthropicMessages, "anthropic/claude-sonnet-4-5");
                if native && cut.ends_with("after-done") {
                    continue; // Relayed as it is, whatever follows its end.
                }
                let streamed = said(&world, dialect, &format!("{model}{cut}"), true, text).await;
                assert_eq!(streamed, whole, "{dialect:?} {model}{cut}");
            }
        }
    }
}
