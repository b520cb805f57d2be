//! The Batch API behind OpenAI's batches. Source: the Gemini API reference (`v1beta`, Batch API) and its guide.
//!
//! **Lines go with the batch**, each with its `custom_id` as its metadata's `key`: answers don't always come in the order of the
//! lines. All are one model's, which the path names. A batch takes 20 MB so; what of them isn't pictures or documents passes
//! through a sandbox, and is 16 MiB at most.
//!
//! **How it goes** is asked without the rest (`fields`): a batch that has ended has its answers twice, as `response` and in
//! `metadata`, of which nothing can be picked. So neither counts nor the state come, only whether it is done and what went
//! wrong. The host counts, and knows whether somebody has cancelled it: one that is cancelled before it has begun fails with
//! `INTERNAL`, one that has begun succeeds, and the lines that are left have the error `CANCELLED`.
//!
//! **Results** are `response` alone, each answer a frame: together they may be far larger than a sandbox.

use alloc::borrow::{Cow, ToOwned};
use alloc::format;
use alloc::vec;
use alloc::vec::Vec;

use brokle_plugin::Problem;
use brokle_plugin::provider::{
    Body, BodyPlan, Call, Decoder, Ending, Frame, Output, Payload, Preparation, ResponseHead, UpstreamRequest,
};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use shared_canonical::batches::{self, Batch, Errors, Line, Reason};
use shared_canonical::kept;
use shared_gemini::Options;

/// What the vendor takes with a batch.
const LARGEST: u64 = 20_000_000;
/// What of it a sandbox can hand on, and room for what stands around it.
const LARGEST_READ: usize = (16 << 20) - 4096;
/// `google.rpc.Code` of what was cancelled.
const CANCELLED: u16 = 1;

/// What to ask for such an operation.
///
/// # Errors
/// A line can't be one of a batch, they are too large together, or the id can't stand in a path.
pub(crate) fn prepare(call: &Call, body: &Body) -> Result<Preparation, Problem> {
    let at = |end: &str| Ok(format!("{}/batches/{}{end}", crate::version(call), kept::id(call)?));
    let request = match call.operation.as_str() {
        "batches.line" => return line(call, &body.abridged()).map(Into::into),
        "batches.create" => create(call, body)?,
        "batches.get" => UpstreamRequest::get(at("?fields=name,done,error")?),
        "batches.cancel" => UpstreamRequest { body: BodyPlan::None, ..UpstreamRequest::post(at(":cancel")?) },
        "files.content" => UpstreamRequest::get(at("?fields=response")?)
            .decoded("json-array:/response/inlinedResponses/inlinedResponses"),
        "files.delete" => {
            UpstreamRequest { method: "DELETE".to_owned(), ..UpstreamRequest::get(at("")?) }.native()
        }
        // The vendor has results, and no files.
        "files.get" => return Ok(Preparation::Answer(vec![batches::file(kept::id(call)?)])),
        _ => return Err(Problem::unsupported_operation(call)),
    };
    Ok(request.auth(crate::auth()).into())
}

fn create(call: &Call, body: &Body) -> Result<UpstreamRequest, Problem> {
    let too_large = |what: &str| {
        let problem = Problem::invalid("", format!("Gemini takes no more than {what} in a batch."));
        Err(problem.with_code(Some("batch_too_large".to_owned())))
    };
    if body.size() > LARGEST {
        return too_large("20 MB of lines");
    }
    let lines = body.abridged();
    if lines.len() > LARGEST_READ {
        return too_large("16 MiB of lines beside their pictures and documents");
    }
    let mut data = br#"{"batch":{"displayName":"#.to_vec();
    data.extend(serde_json::to_vec(kept::object(call)).map_err(Problem::bad_answer)?);
    data.reserve_exact(lines.len() + 64);
    // `{"requests": [...]}` as it came: it has the form of the vendor's own.
    data.extend_from_slice(br#","inputConfig":{"requests":"#);
    data.extend_from_slice(&lines);
    data.extend_from_slice(b"}}}");
    let mut request = crate::post(call, "batchGenerateContent?fields=name,done,error");
    request.body = BodyPlan::Replaced(Payload { content_type: "application/json".into(), data });
    Ok(request)
}

#[derive(Serialize)]
struct Asked<'a> {
    request: &'a RawValue,
    metadata: Metadata<'a>,
}

#[derive(Default, Serialize, Deserialize)]
#[serde(default)]
struct Metadata<'a> {
    #[serde(borrow)]
    key: Option<Cow<'a, str>>,
}

fn line(call: &Call, body: &[u8]) -> Result<UpstreamRequest, Problem> {
    let made = shared_gemini::translate(body, &call.model, &Options::parse(&call.options)?)?;
    let request = serde_json::from_slice(&made).map_err(Problem::bad_answer)?;
    let metadata = Metadata { key: Some(kept::object(call).into()) };
    Ok(UpstreamRequest::post("").json(&Asked { request, metadata }))
}

/// What the vendor says of a batch, or a batch's results.
pub(crate) struct BatchDecoder {
    call: Call,
    frames: usize,
}

impl Decoder for BatchDecoder {
    fn new(call: Call, _head: ResponseHead, _state: Vec<u8>) -> Self {
        Self { call, frames: 0 }
    }

    fn push(&mut self, frames: Vec<Frame>) -> Result<Vec<Output>, Problem> {
        let read = |frame: Frame| {
            self.frames += 1;
            match self.call.operation.as_str() {
                "files.content" => self.result(&frame.data),
                _ => self.batch(&frame.data),
            }
        };
        frames.into_iter().map(read).collect()
    }

    fn finish(&mut self) -> Result<Ending, Problem> {
        batches::ending(self.call.operation == "files.content" || self.frames > 0)
    }
}

/// `google.longrunning.Operation`, without what is in it.
#[derive(Deserialize)]
struct Operation<'a> {
    #[serde(borrow, default)]
    name: Option<Cow<'a, str>>,
    #[serde(default)]
    done: bool,
    #[serde(borrow, default)]
    error: Option<Status<'a>>,
}

/// `google.rpc.Status`.
#[derive(Deserialize)]
struct Status<'a> {
    #[serde(default)]
    code: u16,
    #[serde(borrow, default)]
    message: Cow<'a, str>,
}

#[derive(Deserialize)]
struct Answered<'a> {
    #[serde(borrow, default)]
    response: Option<&'a RawValue>,
    #[serde(borrow, default)]
    error: Option<&'a RawValue>,
    #[serde(borrow, default)]
    metadata: Metadata<'a>,
}

impl BatchDecoder {
    fn batch(&self, data: &[u8]) -> Result<Output, Problem> {
        let told: Operation<'_> = serde_json::from_slice(data).map_err(Problem::bad_answer)?;
        let name = told.name.as_deref().and_then(|name| name.strip_prefix("batches/"));
        // The answer to a cancellation is empty.
        let is_cancelling = self.call.operation == "batches.cancel";
        let id = match name {
            Some(name) => name,
            None if is_cancelling => kept::object(&self.call),
            None => return Err(Problem::bad_answer("a batch without a name")),
        };
        let (status, error) = match &told.error {
            Some(error) if error.code == CANCELLED => ("cancelled", None),
            Some(error) => ("failed", Some(Reason::new("batch_failed", &error.message))),
            None if told.done => ("completed", None),
            None if is_cancelling => ("cancelling", None),
            None => ("in_progress", None),
        };
        Ok(Output::json(&Batch {
            id,
            status,
            output_file_id: (status == "completed").then_some(id),
            error_file_id: None,
            errors: error.map(|error| Errors { data: vec![error] }),
            request_counts: None,
        }))
    }

    fn result(&self, data: &[u8]) -> Result<Output, Problem> {
        let answered: Answered<'_> = serde_json::from_slice(data).map_err(Problem::bad_answer)?;
        let line = Line(answered.metadata.key.as_deref());
        if let Some(response) = answered.response {
            // Calls of several lines may not have the same id.
            let id = format!("{}-{}", self.call.request_id, self.frames);
            return Ok(line.answered(shared_gemini::whole(
                response.get().as_bytes(),
                self.call.created,
                &id,
            )));
        }
        let error = answered.error.map_or("{}", RawValue::get);
        let status: Status<'_> = serde_json::from_str(error).map_err(Problem::bad_answer)?;
        Ok(match status.code {
            CANCELLED => line.cancelled(),
            _ => line.answered(Err(shared_gemini::problem_of_status(error.as_bytes()))),
        })
    }
}
