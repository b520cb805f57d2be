//! OpenAI's answers, in the field order that its API has (`openai-openapi.yaml`, `CreateChatCompletionResponse` and
//! neighbours): a reader that only works for one order would pass with any other.

use crate::{
    Fault,
    answer::{Answer, Event, Events},
    text,
};
use base64::{Engine, engine::general_purpose::STANDARD};
use serde_json::{Value, json};

const CREATED: u64 = 1_700_000_000;
const DIMENSIONS: u64 = 64;
/// The largest `dimensions` that is served: OpenAI's largest model has 3,072.
const MAX_DIMENSIONS: u64 = 4096;

const MODELS: [&str; 4] = ["gpt-4o", "gpt-4o-mini", "gpt-3.5-turbo-instruct", "text-embedding-3-small"];

/// `POST /v1/chat/completions`
pub(crate) fn chat(body: &Value, model: &str, fault: &Fault) -> Answer {
    let pieces = text::pieces(fault);
    let usage = usage(text::words(body.get("messages").unwrap_or(&Value::Null)), pieces.len());
    let model = Value::from(model);
    let head = |object: &str| {
        format!(r#"{{"id":"chatcmpl-test","object":"{object}","created":{CREATED},"model":{model}"#)
    };
    if !streamed(body) {
        let content = Value::from(pieces.concat());
        return Answer::json(format!(
            r#"{},"choices":[{{"index":0,"message":{{"role":"assistant","content":{content},"refusal":null,"annotations":[]}},"logprobs":null,"finish_reason":"stop"}}],"usage":{usage},"service_tier":"default","system_fingerprint":"fp_test"}}"#,
            head("chat.completion"),
        ));
    }
    let include_usage = include_usage(body);
    let nothing = if include_usage { r#","usage":null"# } else { "" };
    let head = format!(
        r#"{},"service_tier":"default","system_fingerprint":"fp_test""#,
        head("chat.completion.chunk")
    );
    let chunk = |delta: &str, finish: &str| {
        data(format!(
            r#"{head},"choices":[{{"index":0,"delta":{delta},"logprobs":null,"finish_reason":{finish}}}]{nothing}}}"#
        ))
    };
    let mut events = vec![chunk(r#"{"role":"assistant","content":"","refusal":null}"#, "null")];
    let contents = pieces
        .iter()
        .map(|piece| chunk(&format!(r#"{{"content":{}}}"#, Value::from(piece.as_str())), "null"));
    events.extend(contents);
    let content = 1..events.len();
    events.push(chunk("{}", r#""stop""#));
    if include_usage {
        events.push(data(format!(r#"{head},"choices":[],"usage":{usage}}}"#)));
    }
    finish(events, content)
}

/// `POST /v1/completions`
pub(crate) fn completion(body: &Value, model: &str, fault: &Fault) -> Answer {
    let pieces = text::pieces(fault);
    let usage = usage(text::words(body.get("prompt").unwrap_or(&Value::Null)), pieces.len());
    let model = Value::from(model);
    let head =
        format!(r#"{{"id":"cmpl-test","object":"text_completion","created":{CREATED},"model":{model}"#);
    let choice = |text: &str, finish: &str| {
        format!(r#"{{"text":{},"index":0,"logprobs":null,"finish_reason":{finish}}}"#, Value::from(text))
    };
    if !streamed(body) {
        let choice = choice(&pieces.concat(), r#""stop""#);
        return Answer::json(format!(r#"{head},"choices":[{choice}],"usage":{usage}}}"#));
    }
    let include_usage = include_usage(body);
    let nothing = if include_usage { r#","usage":null"# } else { "" };
    let chunk = |choice: String| data(format!(r#"{head},"choices":[{choice}]{nothing}}}"#));
    let mut events: Vec<Event> = pieces.iter().map(|piece| chunk(choice(piece, "null"))).collect();
    let content = 0..events.len();
    events.push(chunk(choice("", r#""stop""#)));
    if include_usage {
        events.push(data(format!(r#"{head},"choices":[],"usage":{usage}}}"#)));
    }
    finish(events, content)
}

/// `POST /v1/embeddings`: the input is a text, a list of texts, a list of tokens, or a list of those lists.
pub(crate) fn embeddings(body: &Value, model: &str) -> Answer {
    let inputs = match body.get("input") {
        Some(Value::Array(items)) if items.iter().any(|item| item.is_string() || item.is_array()) => {
            items.clone()
        }
        Some(input @ (Value::String(_) | Value::Array(_))) => vec![input.clone()],
        _ => return invalid("'$.input' is invalid.", Some("input")),
    };
    let dimensions = body.get("dimensions").map_or(Some(DIMENSIONS), Value::as_u64);
    let Some(dimensions) = dimensions.filter(|wanted| (1..=MAX_DIMENSIONS).contains(wanted)) else {
        return invalid("Invalid value for 'dimensions'.", Some("dimensions"));
    };
    let dimensions = usize::try_from(dimensions).unwrap_or(0);
    let base64 = body.get("encoding_format").and_then(Value::as_str) == Some("base64");
    let data = inputs.iter().enumerate().map(|(index, input)| {
        let vector = text::embedding(input, dimensions);
        let embedding = if base64 {
            let bytes: Vec<u8> = vector.into_iter().flat_map(f32::to_le_bytes).collect();
            Value::from(STANDARD.encode(bytes))
        } else {
            Value::from(vector)
        };
        format!(r#"{{"object":"embedding","index":{index},"embedding":{embedding}}}"#)
    });
    let data = data.collect::<Vec<_>>().join(",");
    let tokens: usize = inputs.iter().map(text::words).sum();
    Answer::json(format!(
        r#"{{"object":"list","data":[{data}],"model":{},"usage":{{"prompt_tokens":{tokens},"total_tokens":{tokens}}}}}"#,
        Value::from(model),
    ))
}

/// `GET /v1/models`
pub(crate) fn models() -> String {
    let model =
        |id: &str| format!(r#"{{"id":"{id}","object":"model","created":{CREATED},"owned_by":"system"}}"#);
    format!(r#"{{"object":"list","data":[{}]}}"#, MODELS.map(model).join(","))
}

/// The error that OpenAI gives with this status.
pub(crate) fn error(status: u16) -> Answer {
    let (message, kind, code) = match status {
        401 => ("Incorrect API key provided: sk-test.", "invalid_request_error", Some("invalid_api_key")),
        403 => ("You are not allowed to do this.", "invalid_request_error", Some("permission_denied")),
        404 => ("The model does not exist.", "invalid_request_error", Some("model_not_found")),
        429 => ("Rate limit reached for requests.", "requests", Some("rate_limit_exceeded")),
        400..=499 => ("The request is invalid.", "invalid_request_error", None),
        503 => ("The engine is currently overloaded.", "server_error", Some("overloaded")),
        _ => ("The server had an error while processing your request.", "server_error", None),
    };
    fail(status, message, kind, None, code)
}

/// 400 with a message, and the parameter that is wrong.
pub(crate) fn invalid(message: &str, param: Option<&str>) -> Answer {
    fail(400, message, "invalid_request_error", param, None)
}

/// 404 for a path that isn't served.
pub(crate) fn unknown_url(method: &str, path: &str) -> Answer {
    fail(404, &format!("Invalid URL ({method} {path})"), "invalid_request_error", None, None)
}

fn fail(status: u16, message: &str, kind: &str, param: Option<&str>, code: Option<&str>) -> Answer {
    let error = json!({"message": message, "type": kind, "param": param, "code": code});
    Answer::json(json!({ "error": error }).to_string()).with_status(status)
}

fn streamed(body: &Value) -> bool {
    body.get("stream").and_then(Value::as_bool).unwrap_or(false)
}

fn include_usage(body: &Value) -> bool {
    body.pointer("/stream_options/include_usage").and_then(Value::as_bool).unwrap_or(false)
}

fn usage(prompt: usize, completion: usize) -> String {
    let total = prompt + completion;
    format!(
        r#"{{"prompt_tokens":{prompt},"completion_tokens":{completion},"total_tokens":{total},"prompt_tokens_details":{{"cached_tokens":0,"audio_tokens":0}},"completion_tokens_details":{{"reasoning_tokens":0,"audio_tokens":0,"accepted_prediction_tokens":0,"rejected_prediction_tokens":0}}}}"#
    )
}

fn data(data: String) -> Event {
    Event { name: None, data }
}

fn finish(mut events: Vec<Event>, content: std::ops::Range<usize>) -> Answer {
    events.push(data("[DONE]".into()));
    let error = json!({"message": "The server had an error while processing your request.", "type": "server_error", "param": null, "code": null});
    Answer::stream(Events { events, error: data(json!({ "error": error }).to_string()), content })
}
