//! Anthropic's answers: `POST /v1/messages`, whose stream is `message_start`, `content_block_start`, `ping`,
//! `content_block_delta`…, `content_block_stop`, `message_delta`, `message_stop`, and whose errors may come inside it.

use crate::{
    Fault,
    answer::{Answer, Event, Events},
    text,
};
use serde_json::{Value, json};

/// `POST /v1/messages`
pub(crate) fn messages(body: &Value, model: &str, fault: &Fault) -> Answer {
    if body.get("max_tokens").and_then(Value::as_u64).is_none() {
        return fail(400, "invalid_request_error", "max_tokens: Field required");
    }
    let pieces = text::pieces(fault);
    let input =
        ["system", "messages"].into_iter().filter_map(|name| body.get(name)).map(text::words).sum::<usize>();
    let output = pieces.len();
    let model = Value::from(model);
    let message = |content: &str, stop: &str, output: usize| {
        format!(
            r#"{{"id":"msg_test","type":"message","role":"assistant","model":{model},"content":{content},"stop_reason":{stop},"stop_sequence":null,"usage":{{"input_tokens":{input},"cache_creation_input_tokens":0,"cache_read_input_tokens":0,"output_tokens":{output},"service_tier":"standard"}}}}"#
        )
    };
    if !body.get("stream").and_then(Value::as_bool).unwrap_or(false) {
        let content = format!(r#"[{{"type":"text","text":{}}}]"#, Value::from(pieces.concat()));
        return Answer::json(message(&content, r#""end_turn""#, output));
    }
    let mut events = vec![
        event("message_start", &format!(r#","message":{}"#, message("[]", "null", 1))),
        event("content_block_start", r#","index":0,"content_block":{"type":"text","text":""}"#),
        event("ping", ""),
    ];
    events.extend(pieces.iter().map(|piece| {
        let piece = Value::from(piece.as_str());
        event("content_block_delta", &format!(r#","index":0,"delta":{{"type":"text_delta","text":{piece}}}"#))
    }));
    let content = 3..events.len();
    events.push(event("content_block_stop", r#","index":0"#));
    let end = format!(
        r#","delta":{{"stop_reason":"end_turn","stop_sequence":null}},"usage":{{"output_tokens":{output}}}"#
    );
    events.push(event("message_delta", &end));
    events.push(event("message_stop", ""));
    let error = event("error", r#","error":{"type":"overloaded_error","message":"Overloaded"}"#);
    Answer::stream(Events { events, error, content })
}

/// The error that Anthropic gives with this status.
pub(crate) fn error(status: u16) -> Answer {
    let (kind, message) = match status {
        401 => ("authentication_error", "invalid x-api-key"),
        403 => ("permission_error", "Your API key does not have permission to use the specified resource"),
        404 => ("not_found_error", "model: not found"),
        413 => ("request_too_large", "Request exceeds the maximum size"),
        429 => ("rate_limit_error", "This request would exceed your organization's rate limit"),
        400..=499 => ("invalid_request_error", "The request is invalid"),
        529 => ("overloaded_error", "Overloaded"),
        _ => ("api_error", "Internal server error"),
    };
    fail(status, kind, message)
}

fn fail(status: u16, kind: &str, message: &str) -> Answer {
    let error = json!({"type": kind, "message": message});
    Answer::json(json!({"type": "error", "error": error}).to_string()).with_status(status)
}

/// An event whose data repeats its name as `type`, and goes on with these fields.
fn event(name: &'static str, fields: &str) -> Event {
    Event { name: Some(name), data: format!(r#"{{"type":"{name}"{fields}}}"#) }
}
