//! Which answer a request gets, before any fault touches its bytes.

use crate::{Fault, FaultError, Seen, anthropic, openai};
use serde_json::{Value, json};

/// A response before it is framed.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: Vec<(&'static str, String)>,
    pub(crate) body: Body,
}

#[derive(Debug)]
pub(crate) enum Body {
    /// JSON, with a length.
    Whole(Vec<u8>),
    /// Server-sent events, in HTTP chunks.
    Events(Events),
}

/// A stream, and what `error-in-stream` would send in it.
#[derive(Debug)]
pub(crate) struct Events {
    pub(crate) events: Vec<Event>,
    pub(crate) error: Event,
    /// The places of the events that carry content.
    pub(crate) content: std::ops::Range<usize>,
}

/// One server-sent event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Event {
    pub(crate) name: Option<&'static str>,
    pub(crate) data: String,
}

impl Answer {
    /// 200 with this JSON.
    pub(crate) fn json(body: impl Into<Vec<u8>>) -> Self {
        Self { status: 200, headers: Vec::new(), body: Body::Whole(body.into()) }
    }

    pub(crate) fn stream(events: Events) -> Self {
        Self { status: 200, headers: Vec::new(), body: Body::Events(events) }
    }

    pub(crate) fn with_status(self, status: u16) -> Self {
        Self { status, ..self }
    }

    /// What a request gets whose fault can't be: loud enough that a test notices.
    pub(crate) fn fault_error(error: &FaultError) -> Self {
        let error =
            json!({"message": error.to_string(), "type": "test_fault_error", "param": null, "code": null});
        Self::json(json!({ "error": error }).to_string()).with_status(400)
    }
}

/// The fault that the model's name carries after `!`, and the name without it.
pub(crate) fn split_model(model: &str) -> (&str, Option<&str>) {
    match model.split_once('!') {
        Some((name, fault)) => (name, Some(fault)),
        None => (model, None),
    }
}

/// The answer to `seen` under `fault`: the status, and everything that decides what the body says.
///
/// The error is a fault that can't act on this answer.
pub(crate) fn answer(seen: &Seen, fault: &Fault) -> Result<Answer, FaultError> {
    let anthropic = seen.route() == "/v1/messages";
    let mut answer = match fault.status {
        Some(status) if status >= 400 && anthropic => anthropic::error(status),
        Some(status) if status >= 400 => openai::error(status),
        status => {
            let answer = route(seen, fault);
            if answer.status == 200 { answer.with_status(status.unwrap_or(200)) } else { answer }
        }
    };
    // Of one length, so that a sweep over `reset-at` meets the same bytes every time.
    let id = format!("req_test_{:06}", seen.id);
    answer.headers.push((if anthropic { "request-id" } else { "x-request-id" }, id));
    if let Some(after) = &fault.retry_after {
        answer.headers.push(("retry-after", after.clone()));
    }
    if let Some(left) = fault.tokens_left {
        let name =
            if anthropic { "anthropic-ratelimit-tokens-remaining" } else { "x-ratelimit-remaining-tokens" };
        answer.headers.push((name, left.to_string()));
    }
    match (fault.needs_stream(), &answer.body) {
        (Some(step), Body::Whole(_)) => Err(FaultError::NotStreamed(step)),
        _ => Ok(answer),
    }
}

fn route(seen: &Seen, fault: &Fault) -> Answer {
    let body = match (seen.method.as_str(), seen.route()) {
        ("GET", "/v1/models") => return Answer::json(openai::models()),
        ("POST", "/v1/chat/completions" | "/v1/completions" | "/v1/embeddings" | "/v1/messages") => {
            seen.json()
        }
        _ => return openai::unknown_url(&seen.method, seen.route()),
    };
    let Some(body @ Value::Object(_)) = body else {
        return openai::invalid("We could not parse the JSON body of your request.", None);
    };
    let Some((model, _)) = body.get("model").and_then(Value::as_str).map(split_model) else {
        return openai::invalid("you must provide a model parameter", Some("model"));
    };
    match seen.route() {
        "/v1/chat/completions" => openai::chat(&body, model, fault),
        "/v1/completions" => openai::completion(&body, model, fault),
        "/v1/embeddings" => openai::embeddings(&body, model),
        _ => anthropic::messages(&body, model, fault),
    }
}
