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
use serde::Deserialize;
use serde_json::value::RawValue;
use shared_anthropic::{Destination, Options};
use shared_canonical::batches::{self, Batch, Counts, Line, Reason};
use shared_canonical::kept;

use crate::options::Address;

/// What to ask for such an operation.
///
/// # Errors
/// A line can't be one of a batch, or the id can't stand in a path.
pub(crate) fn prepare(call: &Call, body: &Body) -> Result<Preparation, Problem> {
    let object = kept::object(call);
    if call.operation == "batches.line" {
        return line(call, object, &body.abridged()).map(Into::into);
    }
    let address = Address::parse(&call.options)?;
    let root = format!("{}/messages/batches", address.prefix(crate::base_path(call)));
    let at = |end: &str| match is_id(object) {
        true => Ok(format!("{root}/{object}{end}")),
        false => Err(Problem::invalid("id", "That is no batch's id.")),
    };
    let request = match call.operation.as_str() {
        "batches.create" => UpstreamRequest::post(root.as_str()).decoded("whole"),
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
            return Ok(Preparation::Answer(vec![batches::file(object)]));
        }
        _ => return Err(Problem::unsupported_operation(call)),
    };
    Ok(crate::identified(request, &address).into())
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
        batches::ending(self.results || self.seen)
    }
}

#[derive(Deserialize)]
struct Told<'a> {
    #[serde(borrow)]
    id: Cow<'a, str>,
    #[serde(borrow)]
    processing_status: Cow<'a, str>,
    #[serde(default)]
    request_counts: Requests,
    #[serde(default)]
    cancel_initiated_at: Option<String>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Requests {
    processing: u64,
    succeeded: u64,
    errored: u64,
    canceled: u64,
    expired: u64,
}

fn batch(data: &[u8]) -> Result<Output, Problem> {
    let batch: Told<'_> = serde_json::from_slice(data).map_err(Problem::bad_answer)?;
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
    Ok(Output::json(&Batch {
        id: &batch.id,
        status,
        output_file_id: ended.then_some(&*batch.id),
        error_file_id: None,
        errors: None,
        request_counts: Some(Counts {
            total: counts.processing + counts.succeeded + failed,
            completed: counts.succeeded,
            failed,
        }),
    }))
}

#[derive(Deserialize)]
struct Answered<'a> {
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

fn result(data: &[u8], created: u64) -> Result<Output, Problem> {
    let answered: Answered<'_> = serde_json::from_slice(data).map_err(Problem::bad_answer)?;
    let (line, result) = (Line(Some(&answered.custom_id)), answered.result);
    Ok(match (&*result.kind, result.message, &result.error) {
        ("succeeded", Some(message), _) => {
            line.answered(shared_anthropic::whole(message.get().as_bytes(), created))
        }
        ("errored", _, Some(Envelope { error })) => {
            let reason = Reason { kind: Some(&error.kind), ..Reason::new(&error.kind, &error.message) };
            line.refused(status(&error.kind), reason)
        }
        ("canceled", ..) => line.cancelled(),
        ("expired", ..) => line.expired(),
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
