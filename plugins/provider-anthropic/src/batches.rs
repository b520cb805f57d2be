//! Message Batches behind OpenAI's batches. Lines go with the batch, and are made one by one (`batches.line`); its output has
//! the batch's own id, at which its results are read. Source: Anthropic's API reference, message batches.

use alloc::borrow::{Cow, ToOwned};
use alloc::format;
use alloc::string::String;
use alloc::vec;
use alloc::vec::Vec;

use brokle_plugin::Problem;
use brokle_plugin::provider::{
    Body, BodyPlan, Call, Decoder, Ending, Frame, Output, Payload, Preparation, ResponseHead, UpstreamRequest,
};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use shared_anthropic::{Destination, Options};

use crate::options::Address;

/// Whether an operation is about batches.
pub(crate) fn is_one(operation: &str) -> bool {
    operation.starts_with("batches.") || operation.starts_with("files.")
}

/// What to ask for such an operation.
///
/// # Errors
/// A line can't be one of a batch, or the id can't stand in a path.
pub(crate) fn prepare(call: &Call, body: &Body) -> Result<Preparation, Problem> {
    let object = call.attributes.iter().find(|(name, _)| name == "object").map(|(_, id)| id.as_str());
    let object = object.unwrap_or_default();
    if call.operation == "batches.line" {
        return line(call, object, &body.abridged()).map(Into::into);
    }
    let address = Address::parse(&call.options)?;
    let batches = format!("{}/messages/batches", address.prefix(crate::base_path(call)));
    let at = |end: &str| match is_id(object) {
        true => Ok(format!("{batches}/{object}{end}")),
        false => Err(Problem::invalid("id", "That is no batch's id.")),
    };
    let request = match call.operation.as_str() {
        "batches.create" => UpstreamRequest::post(batches.as_str()).decoded("whole"),
        "batches.get" => UpstreamRequest::get(at("")?).decoded("whole"),
        "batches.cancel" => {
            UpstreamRequest { body: BodyPlan::None, ..UpstreamRequest::post(at("/cancel")?) }.decoded("whole")
        }
        "files.content" => UpstreamRequest::get(at("/results")?).decoded("ndjson"),
        "files.delete" => {
            UpstreamRequest { method: "DELETE".to_owned(), ..UpstreamRequest::get(at("")?) }.native()
        }
        // The vendor has results, and no files.
        "files.get" if is_id(object) => {
            let file = File { id: object, object: "file", purpose: "batch_output", status: "processed" };
            return Ok(Preparation::Answer(vec![Output::json(&file)]));
        }
        _ => return Err(Problem::unsupported_operation(call)),
    };
    Ok(crate::identified(request, &address).into())
}

#[derive(Serialize)]
struct File<'a> {
    id: &'a str,
    object: &'static str,
    purpose: &'static str,
    status: &'static str,
}

/// As the vendor makes them.
fn is_id(text: &str) -> bool {
    (1..=128).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
}

/// A line: its `custom_id`, and the request.
fn line(call: &Call, custom_id: &str, body: &[u8]) -> Result<UpstreamRequest, Problem> {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-';
    if !(1..=64).contains(&custom_id.len()) || !custom_id.bytes().all(plain) {
        let message = "Anthropic takes a 'custom_id' of 1 to 64 letters, digits, _ and - only.";
        return Err(Problem::unsupported("custom_id", message));
    }
    let options = Options::parse(&call.options)?;
    let made = shared_anthropic::translate(body, &call.model, false, &options, Destination::Anthropic)?;
    if let Some(beta) = made.beta {
        let message = format!("The lines of a batch can't ask for betas ({beta}).");
        return Err(Problem::unsupported("body", message));
    }
    let mut data = format!(r#"{{"custom_id":"{custom_id}","params":"#).into_bytes();
    data.extend_from_slice(&made.body);
    data.push(b'}');
    let mut request = UpstreamRequest::post("");
    request.body = BodyPlan::Replaced(Payload { content_type: "application/json".into(), data });
    Ok(request)
}

/// What the vendor says of a batch, or a batch's results.
#[derive(Debug)]
pub(crate) struct BatchDecoder {
    results: bool,
    created: u64,
    seen: bool,
}

impl Decoder for BatchDecoder {
    fn new(call: Call, _head: ResponseHead, _state: Vec<u8>) -> Self {
        Self { results: call.operation == "files.content", created: call.created, seen: false }
    }

    fn push(&mut self, frames: Vec<Frame>) -> Result<Vec<Output>, Problem> {
        self.seen = true;
        let read = |frame: Frame| match self.results {
            true => result(&frame.data, self.created),
            false => batch(&frame.data),
        };
        frames.into_iter().map(read).collect()
    }

    fn finish(&mut self) -> Result<Ending, Problem> {
        match self.results || self.seen {
            true => Ok(Ending { outputs: Vec::new(), next: None }),
            false => Err(Problem::bad_answer("it ended before it began")),
        }
    }
}

#[derive(Deserialize)]
struct Batch<'a> {
    #[serde(borrow)]
    id: Cow<'a, str>,
    #[serde(borrow)]
    processing_status: Cow<'a, str>,
    #[serde(default)]
    request_counts: Counts,
    #[serde(default)]
    cancel_initiated_at: Option<String>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Counts {
    processing: u64,
    succeeded: u64,
    errored: u64,
    canceled: u64,
    expired: u64,
}

/// A batch in OpenAI's form.
#[derive(Serialize)]
struct Canonical<'a> {
    id: &'a str,
    object: &'static str,
    status: &'static str,
    output_file_id: Option<&'a str>,
    request_counts: CanonicalCounts,
}

#[derive(Serialize)]
struct CanonicalCounts {
    total: u64,
    completed: u64,
    failed: u64,
}

fn batch(data: &[u8]) -> Result<Output, Problem> {
    let batch: Batch<'_> = serde_json::from_slice(data).map_err(Problem::bad_answer)?;
    let counts = batch.request_counts;
    let failed = counts.errored + counts.canceled + counts.expired;
    let ended = batch.processing_status == "ended";
    let status = match &*batch.processing_status {
        "canceling" => "cancelling",
        "ended" if batch.cancel_initiated_at.is_some() => "cancelled",
        "ended" if counts.expired > 0 => "expired",
        "ended" => "completed",
        _ => "in_progress",
    };
    Ok(Output::json(&Canonical {
        id: &batch.id,
        object: "batch",
        status,
        output_file_id: ended.then_some(&*batch.id),
        request_counts: CanonicalCounts {
            total: counts.processing + counts.succeeded + failed,
            completed: counts.succeeded,
            failed,
        },
    }))
}

#[derive(Deserialize)]
struct Line<'a> {
    #[serde(borrow)]
    custom_id: Cow<'a, str>,
    #[serde(borrow)]
    result: Outcome<'a>,
}

#[derive(Deserialize)]
struct Outcome<'a> {
    #[serde(rename = "type", borrow)]
    kind: Cow<'a, str>,
    #[serde(borrow, default)]
    message: Option<&'a RawValue>,
    #[serde(borrow, default)]
    error: Option<Envelope<'a>>,
}

#[derive(Deserialize)]
struct Envelope<'a> {
    #[serde(borrow)]
    error: Error<'a>,
}

#[derive(Deserialize)]
struct Error<'a> {
    #[serde(rename = "type", borrow)]
    kind: Cow<'a, str>,
    #[serde(borrow, default)]
    message: Cow<'a, str>,
}

/// A line of a batch's output, in OpenAI's form.
#[derive(Serialize)]
struct Answered<'a> {
    id: String,
    custom_id: &'a str,
    response: Option<Response<'a>>,
    error: Option<Reason<'a>>,
}

#[derive(Serialize)]
struct Response<'a> {
    status_code: u16,
    body: Content<'a>,
}

#[derive(Serialize)]
#[serde(untagged)]
enum Content<'a> {
    Message(&'a RawValue),
    Error { error: Reason<'a> },
}

#[derive(Serialize)]
struct Reason<'a> {
    code: &'a str,
    message: &'a str,
    #[serde(rename = "type", skip_serializing_if = "Option::is_none")]
    kind: Option<&'a str>,
}

fn result(data: &[u8], created: u64) -> Result<Output, Problem> {
    let line: Line<'_> = serde_json::from_slice(data).map_err(Problem::bad_answer)?;
    let answered = |response, error| {
        let id = format!("batch_req_{}", line.custom_id);
        Output::json(&Answered { id, custom_id: &line.custom_id, response, error })
    };
    let left = |code, message| answered(None, Some(Reason { code, message, kind: None }));
    Ok(match (&*line.result.kind, line.result.message, &line.result.error) {
        ("succeeded", Some(message), _) => {
            let outputs = shared_anthropic::whole(message.get().as_bytes(), created)?;
            let chunk = outputs.iter().find_map(|output| match output {
                Output::Chunk(chunk) => Some(chunk.as_slice()),
                _ => None,
            });
            let body: &RawValue =
                serde_json::from_slice(chunk.unwrap_or_default()).map_err(Problem::bad_answer)?;
            answered(Some(Response { status_code: 200, body: Content::Message(body) }), None)
        }
        ("errored", _, Some(Envelope { error })) => {
            let reason = Reason { code: &error.kind, message: &error.message, kind: Some(&error.kind) };
            let body = Content::Error { error: reason };
            answered(Some(Response { status_code: status(&error.kind), body }), None)
        }
        ("canceled", ..) => left("batch_cancelled", "The batch was cancelled before this line's turn."),
        ("expired", ..) => left("batch_expired", "The batch's time was over before this line's turn."),
        (other, ..) => return Err(Problem::bad_answer(format!("a result of the type '{other}'"))),
    })
}

/// The status that an error of this type has where it is an answer of its own.
fn status(kind: &str) -> u16 {
    match kind {
        "invalid_request_error" => 400,
        "authentication_error" => 401,
        "billing_error" => 402,
        "permission_error" => 403,
        "not_found_error" => 404,
        "request_too_large" => 413,
        "rate_limit_error" => 429,
        "timeout_error" => 504,
        "overloaded_error" => 529,
        _ => 500,
    }
}
