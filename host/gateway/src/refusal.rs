//! A call that isn't answered as asked: who is at fault, what the caller is told, whether another try may help.

use std::borrow::Cow;
use std::time::Duration;

use brokle_core::observation::Status;
use brokle_runtime::{PluginError, Problem, ProblemKind};
use bytes::Bytes;

/// Who is at fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// The caller, or its key.
    Client,
    /// The provider, or the way to it.
    Upstream,
    /// A component.
    Plugin,
    /// We.
    Internal,
}

/// What kind of failure it is, as far as routes have fallbacks for it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Class {
    /// Any other.
    #[default]
    General,
    /// The request is too long for the model.
    ContextLength,
    /// The vendor doesn't want to answer this.
    ContentPolicy,
    /// The vendor has had too many requests.
    RateLimit,
}

/// Why a call isn't answered as asked. What it shows is for the caller; nothing in it is secret.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{code}: {message}")]
pub struct Refusal {
    /// Who is at fault.
    pub fault: Fault,
    /// The answer's HTTP status.
    pub status: u16,
    /// The stable name of what went wrong: OpenAI's `code`, and `error.type` on the trace.
    pub code: Cow<'static, str>,
    /// For people.
    pub message: String,
    /// The field at fault.
    pub param: Option<String>,
    /// How long to wait before trying again.
    pub retry_after: Option<Duration>,
    /// The vendor's own error body, where it has OpenAI's form already.
    pub body: Option<Bytes>,
    /// Whether that body has the dialect that the caller speaks instead.
    pub native: bool,
    /// Whether another candidate may do better.
    pub retryable: bool,
    /// What kind of failure it is.
    pub class: Class,
    /// How the observation ends.
    pub outcome: Status,
}

impl Refusal {
    /// The caller's fault.
    pub fn client(status: u16, code: &'static str, message: impl Into<String>) -> Self {
        Self {
            fault: Fault::Client,
            status,
            code: Cow::Borrowed(code),
            message: message.into(),
            param: None,
            retry_after: None,
            body: None,
            native: false,
            retryable: false,
            class: Class::General,
            outcome: Status::Error,
        }
    }

    /// The request is wrong in this field. 400.
    pub fn invalid(param: impl Into<String>, message: impl Into<String>) -> Self {
        Self { param: Some(param.into()), ..Self::client(400, "invalid_request", message) }
    }

    /// The provider, or the way to it, failed: another candidate may do better.
    pub fn upstream(status: u16, code: &'static str, message: impl Into<String>) -> Self {
        let outcome = if status == 504 { Status::Timeout } else { Status::Error };
        Self { fault: Fault::Upstream, retryable: true, outcome, ..Self::client(status, code, message) }
    }

    /// OpenAI's word for the kind of failure.
    pub fn kind(&self) -> &'static str {
        match (self.fault, self.status) {
            (_, 401) => "authentication_error",
            (_, 403) => "permission_error",
            (_, 429) => "rate_limit_error",
            (Fault::Client, 400..=499) => "invalid_request_error",
            (Fault::Upstream, 400..=499) => "invalid_request_error",
            (Fault::Upstream, _) => "upstream_error",
            (Fault::Plugin, _) => "plugin_error",
            _ => "server_error",
        }
    }

    /// The answer's body: the vendor's own, or one in OpenAI's form.
    pub fn json(&self) -> Bytes {
        if let Some(body) = &self.body {
            return body.clone();
        }
        let error = serde_json::json!({"error": {
            "message": self.message, "type": self.kind(), "param": self.param, "code": self.code,
        }});
        error.to_string().into()
    }

    /// A provider's problem. Failures that the vendor reports with one of the statuses 429 and 5xx, and those that
    /// say so by their kind, may be tried elsewhere.
    pub fn from_problem(problem: Problem) -> Self {
        use ProblemKind as P;
        let (status, code, retryable): (u16, Cow<'static, str>, bool) = match &problem.kind {
            P::InvalidRequest => (400, "invalid_request".into(), false),
            P::Authentication => (401, "upstream_authentication".into(), false),
            P::Permission => (403, "upstream_permission".into(), false),
            P::NotFound => (404, "not_found".into(), false),
            P::RateLimit => (429, "rate_limit_exceeded".into(), true),
            P::ContextLength => (400, "context_length_exceeded".into(), false),
            P::ContentPolicy => (400, "content_filter".into(), false),
            P::Unsupported => (400, "unsupported".into(), false),
            P::Overloaded => (503, "upstream_overloaded".into(), true),
            P::Upstream => (502, "upstream_error".into(), true),
            P::Timeout => (504, "upstream_timeout".into(), true),
            P::Other(name) => (502, name.clone().into(), true),
        };
        let status = problem.status.filter(|status| (400..=599).contains(status)).unwrap_or(status);
        let class = match &problem.kind {
            P::ContextLength => Class::ContextLength,
            P::ContentPolicy => Class::ContentPolicy,
            P::RateLimit => Class::RateLimit,
            _ if status == 429 => Class::RateLimit,
            _ => Class::General,
        };
        let fault = if problem.status.is_some() || retryable { Fault::Upstream } else { Fault::Client };
        Self {
            fault,
            status,
            code: problem.code.map_or(code, Cow::Owned),
            message: problem.message,
            param: problem.param.filter(|param| !param.is_empty()),
            retry_after: problem.retry_after_ms.map(Duration::from_millis),
            body: problem
                .body
                .filter(|body| brokle_core::json::scan(body, |_, _| {}).is_ok())
                .map(Bytes::from),
            native: false,
            retryable: retryable || status == 429 || status >= 500,
            class,
            outcome: if status == 504 { Status::Timeout } else { Status::Error },
        }
    }
}

impl From<PluginError> for Refusal {
    fn from(error: PluginError) -> Self {
        let busy = matches!(error.fault, brokle_runtime::Fault::Busy);
        Self {
            fault: Fault::Plugin,
            status: if busy { 503 } else { 502 },
            code: Cow::Owned(format!("plugin_{}", error.fault.class())),
            message: error.to_string(),
            retry_after: busy.then_some(Duration::from_secs(1)),
            retryable: true,
            ..Self::client(502, "plugin_error", "")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_providers_word_tells_the_kind_of_failure() {
        let class = |kind: ProblemKind, status| {
            let refusal = Refusal::from_problem(Problem {
                kind,
                status,
                message: "m".into(),
                code: Some("the vendors own".into()),
                param: None,
                retry_after_ms: None,
                body: None,
            });
            (refusal.class, refusal.retryable)
        };
        assert_eq!(class(ProblemKind::ContextLength, Some(400)), (Class::ContextLength, false));
        assert_eq!(class(ProblemKind::ContentPolicy, Some(400)), (Class::ContentPolicy, false));
        assert_eq!(class(ProblemKind::RateLimit, None), (Class::RateLimit, true));
        assert_eq!(class(ProblemKind::Upstream, Some(429)), (Class::RateLimit, true));
        assert_eq!(class(ProblemKind::Overloaded, Some(529)), (Class::General, true));
        assert_eq!(class(ProblemKind::InvalidRequest, Some(400)), (Class::General, false));
    }
}
