//! Errors, whole and in a stream: `{"type": "error", "error": {"type", "message"}, "request_id"}`. Source: Anthropic's API
//! reference, errors.

use alloc::vec::Vec;

use brokle_plugin::dialect::event;
use brokle_plugin::{Problem, ProblemKind};
use serde::Serialize;

#[derive(Serialize)]
struct Envelope<'a> {
    #[serde(rename = "type")]
    kind: &'static str,
    error: Inner<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    request_id: Option<&'a str>,
}

#[derive(Serialize)]
struct Inner<'a> {
    #[serde(rename = "type")]
    kind: &'static str,
    message: &'a str,
}

fn envelope<'a>(status: u16, problem: &'a Problem, request_id: Option<&'a str>) -> Envelope<'a> {
    let error = Inner { kind: kind(status, &problem.kind), message: &problem.message };
    Envelope { kind: "error", error, request_id }
}

pub(crate) fn whole(status: u16, problem: &Problem, request_id: &str) -> Vec<u8> {
    serde_json::to_vec(&envelope(status, problem, Some(request_id))).unwrap_or_default()
}

pub(crate) fn in_stream(out: &mut Vec<u8>, status: u16, problem: &Problem) {
    event(out, "error", &envelope(status, problem, None));
}

fn kind(status: u16, kind: &ProblemKind) -> &'static str {
    match (status, kind) {
        (413, _) => "request_too_large",
        (_, ProblemKind::Authentication) | (401, _) => "authentication_error",
        (_, ProblemKind::Permission) | (403, _) => "permission_error",
        (_, ProblemKind::NotFound) | (404, _) => "not_found_error",
        (_, ProblemKind::RateLimit) | (429, _) => "rate_limit_error",
        (_, ProblemKind::Overloaded) | (503 | 529, _) => "overloaded_error",
        (_, ProblemKind::Timeout) | (504, _) => "timeout_error",
        (400..=499, _) => "invalid_request_error",
        _ => "api_error",
    }
}
