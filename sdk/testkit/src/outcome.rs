//! Outcomes as the JSON that fixtures hold.

use brokle_core::json::Splices;
use brokle_runtime::exchange::{Auth, BodyPlan, FormEdit, Output, ResponsePlan, UpstreamRequest};
use brokle_runtime::{Body, Problem, ProblemKind};
use serde_json::{Map, Value, json};

/// What a fixture came to.
#[derive(Debug, Default, Clone, PartialEq)]
pub(crate) struct Outcome {
    pub(crate) upstream: Option<Value>,
    pub(crate) chunks: Vec<Value>,
    pub(crate) usage: Option<Value>,
    pub(crate) problem: Option<Value>,
    /// The further requests.
    pub(crate) next: Vec<Value>,
}

impl Outcome {
    /// Takes outputs over, in order. What can't be shown as JSON is shown as a text that says so.
    pub(crate) fn extend(&mut self, outputs: &[Output]) {
        for output in outputs {
            match output {
                Output::Chunk(chunk) => self.chunks.push(value(chunk)),
                Output::Bytes(bytes) => self.chunks.push(json!({"bytes": bytes.len()})),
                Output::Usage(entries) => {
                    let entries = entries.iter().map(|entry| (entry.kind.clone(), entry.amount.into()));
                    self.usage = Some(Value::Object(entries.collect()));
                }
                Output::Failure(failure) => self.problem = Some(problem(failure)),
            }
        }
    }

    /// The files that hold it, each with its content.
    pub(crate) fn files(&self, streaming: bool) -> [(&'static str, Option<Value>); 5] {
        let answer = match self.chunks.as_slice() {
            [] => None,
            [whole] if !streaming => Some(whole.clone()),
            chunks => Some(chunks.into()),
        };
        [
            ("expected-upstream.json", self.upstream.clone()),
            ("expected.json", answer),
            ("expected-usage.json", self.usage.clone()),
            ("expected-problem.json", self.problem.clone()),
            ("expected-next.json", (!self.next.is_empty()).then(|| self.next.clone().into())),
        ]
    }
}

fn value(json: &[u8]) -> Value {
    serde_json::from_slice(json).unwrap_or_else(|_| String::from_utf8_lossy(json).into())
}

/// A problem's members, absent ones left out.
pub(crate) fn problem(problem: &Problem) -> Value {
    let mut members = Map::new();
    members.insert("kind".into(), kind(&problem.kind).into());
    members.insert("message".into(), problem.message.as_str().into());
    let texts = [("code", &problem.code), ("param", &problem.param)];
    members.extend(texts.into_iter().filter_map(|(name, text)| Some((name.into(), text.as_deref()?.into()))));
    members.extend(problem.status.map(|status| ("status".into(), status.into())));
    members.extend(problem.retry_after_ms.map(|wait| ("retry_after_ms".into(), wait.into())));
    members.extend(problem.body.as_ref().map(|body| ("body".into(), value(body))));
    members.into()
}

fn kind(kind: &ProblemKind) -> &str {
    match kind {
        ProblemKind::InvalidRequest => "invalid-request",
        ProblemKind::Authentication => "authentication",
        ProblemKind::Permission => "permission",
        ProblemKind::NotFound => "not-found",
        ProblemKind::RateLimit => "rate-limit",
        ProblemKind::ContextLength => "context-length",
        ProblemKind::ContentPolicy => "content-policy",
        ProblemKind::Unsupported => "unsupported",
        ProblemKind::Overloaded => "overloaded",
        ProblemKind::Upstream => "upstream",
        ProblemKind::Timeout => "timeout",
        ProblemKind::Other(name) => name,
    }
}

/// The request that the vendor would get, its body plan applied to the caller's body.
pub(crate) fn upstream(request: &UpstreamRequest, caller: &Body) -> Result<Value, String> {
    let headers = request.headers.iter().map(|header| (header.name.clone(), header.value.clone().into()));
    let auth = match &request.auth {
        Auth::None => json!("none"),
        Auth::Bearer => json!("bearer"),
        Auth::Header(header) => json!({"header": header.name, "prefix": header.prefix}),
        Auth::Query(name) => json!({"query": name}),
        other => json!(format!("{other:?}")),
    };
    let response = match &request.response {
        ResponsePlan::Native => "native",
        ResponsePlan::Decoded(framing) => framing,
        ResponsePlan::Opaque => "opaque",
    };
    Ok(json!({
        "method": request.method,
        "path": request.path,
        "headers": Value::Object(headers.collect()),
        "auth": auth,
        "body": body(&request.body, caller)?,
        "response": response,
    }))
}

fn body(plan: &BodyPlan, caller: &Body) -> Result<Value, String> {
    match plan {
        BodyPlan::None => Ok(Value::Null),
        BodyPlan::Unchanged => Ok(value(caller.bytes())),
        BodyPlan::Edits(edits) => {
            let changes = caller.changes(edits).map_err(|error| error.to_string())?;
            let spliced = Splices::apply(caller.bytes(), &changes).map_err(|error| error.to_string())?;
            Ok(value(&spliced.to_vec()))
        }
        BodyPlan::Replaced(payload) => {
            Ok(value(&caller.completed(&payload.data).map_err(|error| error.to_string())?))
        }
        // The changes: a recording of the whole would hold the file.
        BodyPlan::Form(edits) => Ok(edits
            .iter()
            .map(|edit| match edit {
                FormEdit::Set(set) => json!({"set": set.name, "value": set.value}),
                FormEdit::Rename(rename) => json!({"rename": rename.name, "to": rename.to}),
                FormEdit::Remove(name) => json!({"remove": name}),
            })
            .collect()),
    }
}
