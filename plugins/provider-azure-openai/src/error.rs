//! What an error answer means: OpenAI's form, but for two things.
//!
//! The content filter is told as `code: "content_filter"`, or only inside, as
//! `innererror.code: "ResponsibleAIPolicyViolation"`. And what stands before the service (its API management) answers
//! `{"statusCode", "message"}`.

use alloc::borrow::ToOwned;
use alloc::string::String;
use alloc::vec::Vec;

use brokle_plugin::provider::ResponseHead;
use brokle_plugin::{Problem, ProblemKind};

#[derive(serde::Deserialize)]
struct Document {
    error: Option<Error>,
    message: Option<String>,
}

#[derive(serde::Deserialize)]
struct Error {
    innererror: Option<Inner>,
}

#[derive(serde::Deserialize)]
struct Inner {
    code: Option<String>,
}

pub(crate) fn from_answer(head: &ResponseHead, body: Vec<u8>) -> Problem {
    let document = serde_json::from_slice::<Document>(&body).ok();
    if let Some(Document { error: None, message: Some(message) }) = document {
        let mut problem = Problem::new(Problem::kind_of_status(head.status), message);
        problem.status = Some(head.status);
        problem.retry_after_ms = head.retry_after_ms();
        return problem;
    }
    let inner = document.and_then(|document| document.error?.innererror?.code);
    let mut problem = Problem::from_openai(head, body);
    if inner.as_deref() == Some("ResponsibleAIPolicyViolation") {
        problem.kind = ProblemKind::ContentPolicy;
        problem.code.get_or_insert_with(|| "content_filter".to_owned());
    }
    problem
}
