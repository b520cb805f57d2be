//! One line: asked until it has an answer, and written as a line of the batch's output.

use std::time::Duration;

use brokle_core::ids::{BatchId, RequestId};
use brokle_identity::AuthError;
use brokle_storage::sql::batches::Batch;
use bytes::{Bytes, BytesMut};
use http::header::{HeaderMap, HeaderValue, RETRY_AFTER};
use http_body_util::BodyExt as _;
use serde_json::Value;
use tokio::sync::watch;

use super::input::Asked;
use super::run::called;
use super::{BatchService, LONGEST_WAIT, TRIES, write_id};
use crate::answer::{AnswerBody, BrokenOff};
use crate::dialects::{Asking, Dialect};
use crate::operation::Operation;
use crate::refusal::Refusal;

/// The largest answer that is kept: 16 MiB.
const LARGEST: usize = 16 << 20;

/// What lines may ask.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Endpoint {
    path: &'static str,
    operation: Operation,
    /// Asked in OpenAI's Responses.
    responses: bool,
}

const ENDPOINTS: [Endpoint; 5] = [
    Endpoint { path: "/v1/chat/completions", operation: Operation::ChatCompletions, responses: false },
    Endpoint { path: "/v1/completions", operation: Operation::Completions, responses: false },
    Endpoint { path: "/v1/embeddings", operation: Operation::Embeddings, responses: false },
    Endpoint { path: "/v1/moderations", operation: Operation::Moderations, responses: false },
    Endpoint { path: "/v1/responses", operation: Operation::ChatCompletions, responses: true },
];

impl Endpoint {
    pub(super) fn of(path: &str) -> Option<Self> {
        ENDPOINTS.into_iter().find(|endpoint| endpoint.path == path)
    }

    pub(super) fn operation(self) -> Operation {
        self.operation
    }

    /// All of them, for people.
    pub(super) fn names() -> String {
        ENDPOINTS.map(|endpoint| endpoint.path).join(", ")
    }
}

/// Why work on a batch goes on or stops.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Pace {
    /// Lines are asked.
    Go,
    /// No line is begun or tried again: somebody cancelled it, its time is over, or the server stops.
    Halt,
}

/// What a line came to.
pub(super) struct Answered {
    pub(super) succeeded: bool,
    /// JSON, on one line.
    pub(super) result: String,
}

/// Asks a line; none: it has no answer yet, and isn't tried any more.
pub(super) async fn ask(
    service: &BatchService,
    batch: &Batch,
    asked: Asked,
    pace: &mut watch::Receiver<Pace>,
) -> Option<Answered> {
    let endpoint = Endpoint::of(&batch.endpoint)?;
    let headers = tags(batch.id);
    let (mut failures, mut wait) = (0, Duration::from_secs(1));
    loop {
        let answer = match service.gateway.admit() {
            // No room, just now.
            None => None,
            Some(_place) => {
                let id = RequestId::generate(&*service.clock, &*service.random);
                // As the key is now. While the database is away the line waits, as other calls are told to.
                let caller = called(service, batch).await.unwrap_or(Err(AuthError::Unavailable));
                let asking = endpoint.responses.then(|| Asking {
                    dialect: Dialect::OpenAiResponses,
                    endpoint: "responses",
                    model: String::new(),
                    streaming: false,
                    query: Vec::new(),
                });
                let (operation, body) = (endpoint.operation, asked.body.clone());
                let gateway = &service.gateway;
                let serving = gateway.serve_in(asking.as_ref(), operation, caller, &headers, body, id);
                let (head, body) = serving.await.into_parts();
                let later = retry_after(&head.headers);
                Some(match whole(body).await {
                    Ok(body) => (head.status.as_u16(), later, body, id),
                    Err(BrokenOff) => {
                        let message = "The provider's answer broke off.";
                        let broken = Refusal::upstream(502, "upstream_disconnected", message);
                        (502, None, Some(broken.json()), id)
                    }
                })
            }
        };
        let later = match answer {
            None => None,
            Some((status, later, body, id)) => {
                let code = code(&body);
                failures += u32::from(status >= 500 && status != 503);
                let again = match status {
                    // A budget's period may end long after the batch.
                    429 => code.as_deref() != Some("budget_exceeded"),
                    503 => true,
                    500.. => failures < TRIES,
                    _ => false,
                };
                if !again {
                    return Some(write(&asked, batch, status, id, &body));
                }
                later
            }
        };
        let least = later.unwrap_or_default().max(wait).min(LONGEST_WAIT);
        wait = (wait * 2).min(LONGEST_WAIT);
        tokio::select! {
            () = tokio::time::sleep(least) => {}
            _ = pace.wait_for(|pace| *pace == Pace::Halt) => {}
        }
        if *pace.borrow() == Pace::Halt {
            return None;
        }
    }
}

/// What its calls are tagged with.
pub(super) fn tags(batch: BatchId) -> HeaderMap {
    HeaderMap::from_iter(HeaderValue::from_str(&write_id(batch)).ok().map(|id| (TAGS, id)))
}

const TAGS: http::HeaderName = http::HeaderName::from_static("x-brokle-tags");

fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let seconds = headers.get(RETRY_AFTER)?.to_str().ok()?.parse().ok()?;
    Some(Duration::from_secs(seconds))
}

/// The answer's body; none when it is too large.
async fn whole(mut body: AnswerBody) -> Result<Option<Bytes>, BrokenOff> {
    let mut read = BytesMut::new();
    while let Some(frame) = body.frame().await {
        let Ok(data) = frame?.into_data() else { continue };
        if read.len() + data.len() > LARGEST {
            return Ok(None);
        }
        read.extend_from_slice(&data);
    }
    Ok(Some(read.freeze()))
}

fn code(body: &Option<Bytes>) -> Option<String> {
    let body = body.as_ref()?;
    let at = brokle_core::json::find(body, "/error/code")?;
    serde_json::from_slice(body.get(at)?).ok()
}

fn write(asked: &Asked, batch: &Batch, status: u16, id: RequestId, body: &Option<Bytes>) -> Answered {
    let Some(body) = body else {
        let message = format!("The answer is larger than the {LARGEST} bytes that are kept.");
        return failed(asked, batch, "answer_too_large", &message);
    };
    let text = match std::str::from_utf8(body) {
        // Line ends in JSON stand between its parts only.
        Ok(text) if brokle_core::json::scan(body, |_, _| {}).is_ok() => text.replace(['\r', '\n'], " "),
        _ => Value::from(String::from_utf8_lossy(body)).to_string(),
    };
    let custom_id = Value::from(asked.custom_id.as_str());
    let result = format!(
        r#"{{"id":"batch_req_{id}","custom_id":{custom_id},"response":{{"status_code":{status},"request_id":"{id}","body":{text}}},"error":null}}"#
    );
    Answered { succeeded: (200..300).contains(&status), result }
}

/// A line that has no answer, and why.
pub(super) fn failed(asked: &Asked, batch: &Batch, code: &str, message: &str) -> Answered {
    let result = serde_json::json!({
        "id": format!("batch_req_{}", batch.id), "custom_id": asked.custom_id, "response": null,
        "error": {"code": code, "message": message},
    });
    Answered { succeeded: false, result: result.to_string() }
}
