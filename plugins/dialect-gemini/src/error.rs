//! Errors, as Google's APIs write them: `{"error": {"code", "message", "status"}}`.

use alloc::vec::Vec;

use brokle_plugin::{Problem, ProblemKind};
use serde::Serialize;

#[derive(Serialize)]
struct Envelope<'a> {
    error: Inner<'a>,
}

#[derive(Serialize)]
struct Inner<'a> {
    code: u16,
    message: &'a str,
    status: &'static str,
}

pub(crate) fn whole(status: u16, problem: &Problem) -> Vec<u8> {
    let error = Inner { code: status, message: &problem.message, status: name(status, &problem.kind) };
    serde_json::to_vec(&Envelope { error }).unwrap_or_default()
}

/// The canonical name of an error, as `google.rpc.Code` has them.
fn name(status: u16, kind: &ProblemKind) -> &'static str {
    match (status, kind) {
        (_, ProblemKind::Authentication) | (401, _) => "UNAUTHENTICATED",
        (_, ProblemKind::Permission) | (403, _) => "PERMISSION_DENIED",
        (_, ProblemKind::NotFound) | (404, _) => "NOT_FOUND",
        (_, ProblemKind::RateLimit) | (429, _) => "RESOURCE_EXHAUSTED",
        (_, ProblemKind::Overloaded) | (503, _) => "UNAVAILABLE",
        (_, ProblemKind::Timeout) | (504, _) => "DEADLINE_EXCEEDED",
        (400..=499, _) => "INVALID_ARGUMENT",
        _ => "INTERNAL",
    }
}
