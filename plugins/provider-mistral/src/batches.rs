//! Batch jobs behind OpenAI's batches. Source: Mistral AI's API reference (batch, files) and its page on batch processing.
//!
//! **Lines go with the job** (`requests`), rather than in a file that Mistral keeps for the caller, though it has files in
//! OpenAI's form. What a line of such a file has beside `custom_id` and `body` isn't said, and its `body` must be a request as
//! Mistral takes it: of a chat's members it refuses each that it doesn't know (`seed`, `max_completion_tokens`), and its answers
//! have thinking as parts of the content. So each line is translated as a call's body is, and each result as an answer.
//! A job takes 10,000 lines so (a file a million).
//!
//! **One model** is a job's, and named with it.
//!
//! **Results** are files of Mistral's own: good ones in `output_file`, the others in `error_file`, both of lines of
//! `{"custom_id", "response": {"status_code", "body"}, "error"}`, where `error` may be a text. A job is asked with `inline=false`:
//! its answer would have all results otherwise.

use alloc::borrow::{Cow, ToOwned};
use alloc::format;
use alloc::vec::Vec;

use brokle_plugin::Problem;
use brokle_plugin::provider::{
    Body, BodyPlan, Call, Decoder, Edit, Ending, Frame, Output, ResponseHead, UpstreamRequest,
};
use serde::{Deserialize, Serialize};
use serde_json::json;
use serde_json::value::RawValue;
use shared_canonical::batches::{self, Batch, Counts, Errors, Line, Reason};
use shared_canonical::kept;

use crate::answer;
use crate::options::Options;
use crate::request;

/// The place of the first line that a job has no room for.
const TOO_MANY: &str = "/requests/10000";

/// What to ask for such an operation.
///
/// # Errors
/// A line can't be one of a job, there are too many, or the id can't stand in a path.
pub(crate) fn prepare(call: &Call, body: &Body) -> Result<UpstreamRequest, Problem> {
    let request = match call.operation.as_str() {
        "batches.line" => return line(call, &body.abridged()),
        "batches.create" if body.get(TOO_MANY).is_some() => {
            let problem = Problem::invalid("", "Mistral takes 10,000 lines in a batch.");
            return Err(problem.with_code(Some("too_many_lines".to_owned())));
        }
        "batches.create" => UpstreamRequest::post("/batch/jobs").edits([
            Edit::set("/endpoint", "/v1/chat/completions"),
            Edit::set("/model", &call.model),
            Edit::set("/timeout_hours", &24),
            Edit::set("/metadata", &json!({"brokle_batch_id": kept::object(call)})),
        ]),
        "batches.get" => UpstreamRequest::get(format!("/batch/jobs/{}?inline=false", kept::id(call)?)),
        "batches.cancel" => {
            let path = format!("/batch/jobs/{}/cancel", kept::id(call)?);
            UpstreamRequest { body: BodyPlan::None, ..UpstreamRequest::post(path) }
        }
        "files.content" => {
            UpstreamRequest::get(format!("/files/{}/content", kept::id(call)?)).decoded("ndjson")
        }
        "files.get" | "files.delete" => return kept::request(call),
        _ => return Err(Problem::unsupported_operation(call)),
    };
    Ok(request)
}

#[derive(Serialize)]
struct Asked<'a> {
    custom_id: &'a str,
    body: &'a RawValue,
}

fn line(call: &Call, body: &[u8]) -> Result<UpstreamRequest, Problem> {
    let made = request::chat(body, &call.model, false, &Options::parse(&call.options)?)?;
    let body = serde_json::from_slice(&made).map_err(Problem::bad_answer)?;
    Ok(UpstreamRequest::post("").json(&Asked { custom_id: kept::object(call), body }))
}

/// What the vendor says of a job, or a job's results.
pub(crate) struct BatchDecoder {
    results: bool,
    seen: bool,
}

impl Decoder for BatchDecoder {
    fn new(call: Call, _head: ResponseHead, _state: Vec<u8>) -> Self {
        Self { results: call.operation == "files.content", seen: false }
    }

    fn push(&mut self, frames: Vec<Frame>) -> Result<Vec<Output>, Problem> {
        self.seen = true;
        let read = |frame: Frame| match self.results {
            true => result(&frame.data),
            false => batch(&frame.data),
        };
        frames.into_iter().map(read).collect()
    }

    fn finish(&mut self) -> Result<Ending, Problem> {
        batches::ending(self.results || self.seen)
    }
}

#[derive(Deserialize)]
struct Job<'a> {
    #[serde(borrow)]
    id: Cow<'a, str>,
    #[serde(borrow)]
    status: Cow<'a, str>,
    #[serde(borrow, default)]
    output_file: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    error_file: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    errors: Vec<Told<'a>>,
    #[serde(default)]
    total_requests: u64,
    #[serde(default)]
    succeeded_requests: u64,
    #[serde(default)]
    failed_requests: u64,
}

#[derive(Deserialize)]
struct Told<'a> {
    #[serde(borrow)]
    message: Cow<'a, str>,
}

fn batch(data: &[u8]) -> Result<Output, Problem> {
    let job: Job<'_> = serde_json::from_slice(data).map_err(Problem::bad_answer)?;
    let status = match &*job.status {
        "QUEUED" => "validating",
        "SUCCESS" => "completed",
        "FAILED" => "failed",
        "TIMEOUT_EXCEEDED" => "expired",
        "CANCELLATION_REQUESTED" => "cancelling",
        "CANCELLED" => "cancelled",
        // RUNNING, and what may come.
        _ => "in_progress",
    };
    // Of a job that went well they are its lines', which the error file has.
    let told = job.errors.iter().filter(|_| status == "failed");
    let data: Vec<_> = told.map(|error| Reason::new("batch_failed", &error.message)).collect();
    Ok(Output::json(&Batch {
        id: &job.id,
        status,
        output_file_id: job.output_file.as_deref(),
        error_file_id: job.error_file.as_deref(),
        errors: (!data.is_empty()).then_some(Errors { data }),
        request_counts: Some(Counts {
            total: job.total_requests,
            completed: job.succeeded_requests,
            failed: job.failed_requests,
        }),
    }))
}

#[derive(Deserialize)]
struct Answered<'a> {
    #[serde(borrow, default)]
    custom_id: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    response: Option<Response<'a>>,
    #[serde(borrow, default)]
    error: Option<Failure<'a>>,
}

#[derive(Deserialize)]
struct Response<'a> {
    status_code: u16,
    #[serde(borrow)]
    body: &'a RawValue,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Failure<'a> {
    Told(#[serde(borrow)] Told<'a>),
    Text(#[serde(borrow)] Cow<'a, str>),
}

fn result(data: &[u8]) -> Result<Output, Problem> {
    let answered: Answered<'_> = serde_json::from_slice(data).map_err(Problem::bad_answer)?;
    let line = Line(answered.custom_id.as_deref());
    Ok(match (answered.response, &answered.error) {
        (Some(Response { status_code: 200, body }), _) => line.answered(answer::whole(body.get().as_bytes())),
        (Some(Response { status_code, body }), _) => {
            let head = ResponseHead { status: status_code, headers: Vec::new() };
            line.answered(Err(crate::problem(&head, body.get().as_bytes().to_vec())))
        }
        (None, Some(Failure::Told(Told { message }) | Failure::Text(message))) => {
            line.left("upstream_error", message)
        }
        (None, None) => line.left("upstream_error", "Mistral gave this line no answer."),
    })
}
