//! Errors, in OpenAI's form.

use alloc::vec::Vec;

use brokle_plugin::{Problem, ProblemKind};
use serde::Serialize;

#[derive(Serialize)]
struct Envelope<'a> {
    error: Inner<'a>,
}

#[derive(Serialize)]
struct Inner<'a> {
    message: &'a str,
    #[serde(rename = "type")]
    kind: &'static str,
    param: Option<&'a str>,
    code: Option<&'a str>,
}

pub(crate) fn whole(status: u16, problem: &Problem) -> Vec<u8> {
    let error = Inner {
        message: &problem.message,
        kind: kind(status, &problem.kind),
        param: problem.param.as_deref(),
        code: problem.code.as_deref(),
    };
    serde_json::to_vec(&Envelope { error }).unwrap_or_default()
}

fn kind(status: u16, kind: &ProblemKind) -> &'static str {
    match (status, kind) {
        (401, _) => "authentication_error",
        (403, _) => "permission_error",
        (429, _) => "rate_limit_error",
        (400..=499, _) => "invalid_request_error",
        (_, ProblemKind::Upstream | ProblemKind::Overloaded | ProblemKind::Timeout) => "upstream_error",
        _ => "server_error",
    }
}
