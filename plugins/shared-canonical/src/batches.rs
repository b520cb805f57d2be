//! Batches of vendors that take their lines with them (`batches` with `lines`), told in OpenAI's form: how one goes
//! ([`Batch`]), and the lines of its output ([`Line`]). Source: OpenAI's API reference, batches.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use brokle_plugin::provider::{Ending, Output};
use brokle_plugin::{Problem, ProblemKind};
use serde::Serialize;
use serde_json::value::RawValue;

/// How a batch goes.
#[derive(Debug, Serialize)]
#[serde(tag = "object", rename = "batch")]
pub struct Batch<'a> {
    /// What the vendor calls it.
    pub id: &'a str,
    /// `validating`, `in_progress`, `completed`, `failed`, `expired`, `cancelling` or `cancelled`.
    pub status: &'static str,
    /// Where its results are.
    pub output_file_id: Option<&'a str>,
    /// Where those of its lines are that failed, if they are elsewhere.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error_file_id: Option<&'a str>,
    /// Why it failed as a whole.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub errors: Option<Errors<'a>>,
    /// None: the vendor doesn't tell, and the host counts the lines of the results.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub request_counts: Option<Counts>,
}

/// A batch's lines.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct Counts {
    /// All of them.
    pub total: u64,
    /// Those with a good answer.
    pub completed: u64,
    /// Those with another one, or none.
    pub failed: u64,
}

/// What is wrong with a batch.
#[derive(Debug, Serialize)]
#[serde(tag = "object", rename = "list")]
pub struct Errors<'a> {
    /// Each of it.
    pub data: Vec<Reason<'a>>,
}

/// What is wrong.
#[derive(Debug, Serialize)]
pub struct Reason<'a> {
    /// For programs.
    pub code: &'a str,
    /// For people.
    pub message: &'a str,
    /// OpenAI's `type` of an error that a call would have been answered with.
    #[serde(rename = "type", skip_serializing_if = "Option::is_none")]
    pub kind: Option<&'a str>,
    /// The member at fault.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub param: Option<&'a str>,
}

impl<'a> Reason<'a> {
    /// With no more than these.
    pub fn new(code: &'a str, message: &'a str) -> Self {
        Self { code, message, kind: None, param: None }
    }
}

/// A batch's results as a file, of a vendor that has no files.
pub fn file(id: &str) -> Output {
    #[derive(Serialize)]
    #[serde(tag = "object", rename = "file")]
    struct File<'a> {
        id: &'a str,
        purpose: &'static str,
        status: &'static str,
    }
    Output::json(&File { id, purpose: "batch_output", status: "processed" })
}

/// The end of an answer about a batch.
///
/// # Errors
/// It isn't whole: nothing came of what can't be empty.
pub fn ending(is_whole: bool) -> Result<Ending, Problem> {
    match is_whole {
        true => Ok(Ending { outputs: Vec::new(), next: None }),
        false => Err(Problem::bad_answer("it ended before it began")),
    }
}

/// A line of a batch's output in the making, by the `custom_id` of the line that it answers; none: the vendor didn't say.
#[derive(Debug, Clone, Copy)]
pub struct Line<'a>(pub Option<&'a str>);

#[derive(Serialize)]
struct Written<'a> {
    id: String,
    custom_id: Option<&'a str>,
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
    Answer(&'a RawValue),
    Error { error: Reason<'a> },
}

impl Line<'_> {
    /// The vendor answered it: what a decoder made of the whole answer. One that can't be understood is that line's failure.
    pub fn answered(self, made: Result<Vec<Output>, Problem>) -> Output {
        let made = made.and_then(|outputs| {
            let found = outputs.into_iter().find_map(|output| match output {
                Output::Chunk(chunk) => Some(Ok(chunk)),
                Output::Failure(problem) => Some(Err(problem)),
                Output::Bytes(_) | Output::Usage(_) => None,
            });
            found.unwrap_or_else(|| Err(Problem::bad_answer("it is empty")))
        });
        let problem = match &made {
            Ok(chunk) => match serde_json::from_slice(chunk) {
                Ok(body) => return self.responded(200, Content::Answer(body)),
                Err(error) => &Problem::bad_answer(error),
            },
            Err(problem) => problem,
        };
        let (status, code, kind) = told(&problem.kind);
        let reason = Reason {
            code: problem.code.as_deref().unwrap_or(code),
            message: &problem.message,
            kind: Some(kind),
            param: problem.param.as_deref(),
        };
        self.refused(problem.status.unwrap_or(status), reason)
    }

    /// The vendor refused it as it would have refused a call.
    pub fn refused(self, status: u16, reason: Reason<'_>) -> Output {
        self.responded(status, Content::Error { error: reason })
    }

    /// It was cancelled before its turn.
    pub fn cancelled(self) -> Output {
        self.left("batch_cancelled", "The batch was cancelled before this line's turn.")
    }

    /// Its turn never came.
    pub fn expired(self) -> Output {
        self.left("batch_expired", "The batch's time was over before this line's turn.")
    }

    /// It has no answer.
    pub fn left(self, code: &str, message: &str) -> Output {
        self.written(None, Some(Reason::new(code, message)))
    }

    fn responded(self, status_code: u16, body: Content<'_>) -> Output {
        self.written(Some(Response { status_code, body }), None)
    }

    fn written(self, response: Option<Response<'_>>, error: Option<Reason<'_>>) -> Output {
        let id = format!("batch_req_{}", self.0.unwrap_or_default());
        Output::json(&Written { id, custom_id: self.0, response, error })
    }
}

/// Status, code and OpenAI's `type` of a problem that says no more than its kind, as the host answers a call with it.
fn told(kind: &ProblemKind) -> (u16, &'static str, &'static str) {
    const REQUEST: &str = "invalid_request_error";
    match kind {
        ProblemKind::InvalidRequest => (400, "invalid_request", REQUEST),
        ProblemKind::Authentication => (401, "upstream_authentication", "authentication_error"),
        ProblemKind::Permission => (403, "upstream_permission", "permission_error"),
        ProblemKind::NotFound => (404, "not_found", REQUEST),
        ProblemKind::RateLimit => (429, "rate_limit_exceeded", "rate_limit_error"),
        ProblemKind::ContextLength => (400, "context_length_exceeded", REQUEST),
        ProblemKind::ContentPolicy => (400, "content_filter", REQUEST),
        ProblemKind::Unsupported => (400, "unsupported", REQUEST),
        ProblemKind::Overloaded => (503, "upstream_overloaded", "upstream_error"),
        ProblemKind::Timeout => (504, "upstream_timeout", "upstream_error"),
        ProblemKind::Upstream | ProblemKind::Other(_) => (502, "upstream_error", "upstream_error"),
    }
}
