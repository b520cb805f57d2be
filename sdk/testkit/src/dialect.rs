//! Dialects' fixtures: a folder each.
//!
//! | file | what |
//! |---|---|
//! | `case.json` | `endpoint`; `model`, `streaming`, `query` where the URL says them; `error`: a status and a problem's code |
//! | `request.json` | the caller's body: `expected-head.json`, and `expected-canonical.json` or `expected-problem.json` |
//! | `answer.json` | a canonical answer: `expected-answer.json` |
//! | `chunks.jsonl` | a canonical stream, a chunk a line: `expected-stream.json`; the same however the chunks are batched |
//! | `native.json`, `native.sse` | an answer that has the dialect already: `expected-reading.json` |
//!
//! For `count-tokens`: `expected-estimate.json`. With `error`: `expected-error.json`, and `expected-failed.json` for an error
//! after the first half of the stream, or for what is added to a `native.sse` that breaks off there.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use brokle_runtime::dialects::{Call, Frame, Reading};
use brokle_runtime::{
    Body, CallContext, DialectInstance, DialectPlugin, Framer, Observer, PluginError, Problem, ProblemKind,
};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::run::compare;
use crate::{Error, case, outcome};

/// `case.json`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Case {
    endpoint: String,
    #[serde(default)]
    model: String,
    #[serde(default)]
    streaming: bool,
    #[serde(default)]
    query: BTreeMap<String, String>,
    #[serde(default)]
    error: Option<Failure>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Failure {
    status: u16,
    code: String,
}

impl Failure {
    fn problem(&self) -> Problem {
        let kind = match self.status {
            429 => ProblemKind::RateLimit,
            400..=499 => ProblemKind::InvalidRequest,
            503 => ProblemKind::Overloaded,
            _ => ProblemKind::Upstream,
        };
        Problem {
            kind,
            message: "What went wrong.".into(),
            code: Some(self.code.clone()),
            param: None,
            status: Some(self.status),
            retry_after_ms: None,
            body: None,
        }
    }
}

struct Player<'a> {
    plugin: &'a DialectPlugin,
    heard: &'a Arc<dyn Observer>,
    call: Call,
    state: Vec<u8>,
    events: bool,
}

/// Plays one fixture; how often, and what differs.
pub(crate) async fn play(
    plugin: &DialectPlugin,
    folder: &Path,
    heard: &Arc<dyn Observer>,
) -> Result<(usize, Vec<String>), Error> {
    let case: Case = case::required(&folder.join("case.json"))?;
    let call = Call {
        endpoint: case.endpoint.clone(),
        model: case.model.clone(),
        streaming: case.streaming,
        query: case.query.clone().into_iter().collect(),
        request_id: "01JTESTKIT0000000000000000".into(),
        created: 1_700_000_000,
        attributes: Vec::new(),
    };
    let player = Player { plugin, heard, call, state: Vec::new(), events: true };
    let mut made = Vec::new();
    let mut differences = Vec::new();
    let plays = match player.all(folder, case.error.as_ref(), &mut made, &mut differences).await {
        Ok(plays) => plays,
        Err(Stopped::Plugin(error)) => return Ok((1, vec![error.to_string()])),
        Err(Stopped::Fixture(error)) => return Err(error),
    };
    for name in [
        "expected-head.json",
        "expected-canonical.json",
        "expected-problem.json",
        "expected-estimate.json",
        "expected-answer.json",
        "expected-stream.json",
        "expected-reading.json",
        "expected-error.json",
        "expected-failed.json",
    ] {
        let value = made.iter().find(|(made, _)| *made == name).map(|(_, value)| value.clone());
        differences.extend(compare(&folder.join(name), value)?);
    }
    Ok((plays, differences))
}

enum Stopped {
    Plugin(PluginError),
    Fixture(Error),
}

impl From<PluginError> for Stopped {
    fn from(error: PluginError) -> Self {
        Self::Plugin(error)
    }
}

impl From<Error> for Stopped {
    fn from(error: Error) -> Self {
        Self::Fixture(error)
    }
}

type Made = Vec<(&'static str, Value)>;

impl Player<'_> {
    async fn open(&self) -> Result<DialectInstance, PluginError> {
        let context = CallContext { observer: Some(Arc::clone(self.heard)), ..CallContext::default() };
        self.plugin.open(context).await
    }

    async fn all(
        mut self,
        folder: &Path,
        error: Option<&Failure>,
        made: &mut Made,
        differences: &mut Vec<String>,
    ) -> Result<usize, Stopped> {
        let mut plays = 1;
        let request = folder.join("request.json");
        if request.exists() {
            self.request(case::bytes(&request)?, made).await?;
        }
        if let Some(answer) = case::optional::<Value>(&folder.join("answer.json"))? {
            let answer = answer.to_string().into_bytes();
            match self.open().await?.write_answer(&self.call, &self.state, &answer).await? {
                Ok(answer) => made.push(("expected-answer.json", value(&answer))),
                Err(problem) => made.push(("expected-problem.json", outcome::problem(&problem))),
            }
        }
        let chunks = folder.join("chunks.jsonl");
        let mut stream = Vec::new();
        if chunks.exists() {
            let bytes = case::bytes(&chunks)?;
            stream = bytes.split(|&b| b == b'\n').filter(|l| !l.is_empty()).map(<[u8]>::to_vec).collect();
            let whole = self.encoded(&[&stream]).await?;
            for at in 1..stream.len() {
                let (first, second) = stream.split_at(at);
                plays += 1;
                if self.encoded(&[first, second]).await? != whole {
                    differences.push(format!("split after chunk {at}, the stream is another one"));
                }
            }
            let single: Vec<&[Vec<u8>]> = stream.chunks(1).collect();
            plays += 1;
            if self.encoded(&single).await? != whole {
                differences.push("chunk by chunk, the stream is another one".to_owned());
            }
            match whole {
                Ok(bytes) => made.push(("expected-stream.json", self.shown(&bytes))),
                Err(problem) => made.push(("expected-problem.json", problem)),
            }
        }
        if let Some(error) = error {
            let body = self.open().await?.write_error(&self.call, error.status, &error.problem()).await?;
            made.push(("expected-error.json", value(&body)));
            if !stream.is_empty() {
                let mut encoder = self.open().await?.encode(&self.call, &self.state).await?;
                let half = stream.get(..stream.len() / 2).unwrap_or_default();
                let mut bytes = encoder.push(half).await?.unwrap_or_default();
                bytes.extend(encoder.failed(error.status, &error.problem()).await?);
                made.push(("expected-failed.json", self.shown(&bytes)));
            }
        }
        for name in ["native.json", "native.sse"] {
            let path = folder.join(name);
            if path.exists() {
                plays += self.native(name, &case::bytes(&path)?, error, made, differences).await?;
            }
        }
        Ok(plays)
    }

    async fn request(&mut self, body: Vec<u8>, made: &mut Made) -> Result<(), Stopped> {
        let body = Body::json(body.into());
        let mut instance = self.open().await?;
        let head = match instance.read_head(&self.call, body.clone()).await? {
            Ok(head) => head,
            Err(problem) => {
                made.push(("expected-problem.json", outcome::problem(&problem)));
                return Ok(());
            }
        };
        self.events = head.content_type.starts_with("text/event-stream");
        let shown = json!({
            "operation": head.operation, "model": head.model, "streaming": head.streaming,
            "content_type": head.content_type, "max_output_tokens": head.max_output_tokens,
            "user": head.user, "features": head.features, "previous": head.previous,
        });
        made.push(("expected-head.json", shown));
        if head.operation == "count-tokens" {
            match instance.estimate(&self.call, body.clone()).await? {
                Ok(answer) => made.push(("expected-estimate.json", value(&answer))),
                Err(problem) => made.push(("expected-problem.json", outcome::problem(&problem))),
            }
        }
        match instance.to_canonical(&self.call, body.clone()).await? {
            Ok(translated) => match (body.completed(&translated.body), body.completed(&translated.state)) {
                (Ok(canonical), Ok(state)) => {
                    self.state = state.into_owned();
                    made.push(("expected-canonical.json", value(&canonical)));
                }
                (Err(refused), _) | (_, Err(refused)) => {
                    made.push(("expected-problem.json", refused.to_string().into()));
                }
            },
            Err(problem) => made.push(("expected-problem.json", outcome::problem(&problem))),
        }
        Ok(())
    }

    async fn encoded(&self, batches: &[&[Vec<u8>]]) -> Result<Result<Vec<u8>, Value>, Stopped> {
        let mut encoder = self.open().await?.encode(&self.call, &self.state).await?;
        let mut bytes = Vec::new();
        for batch in batches {
            match encoder.push(batch).await? {
                Ok(more) => bytes.extend(more),
                Err(problem) => return Ok(Err(outcome::problem(&problem))),
            }
        }
        Ok(match encoder.finish().await? {
            Ok(more) => {
                bytes.extend(more);
                Ok(bytes)
            }
            Err(problem) => Err(outcome::problem(&problem)),
        })
    }

    async fn native(
        &self,
        name: &str,
        bytes: &[u8],
        error: Option<&Failure>,
        made: &mut Made,
        differences: &mut Vec<String>,
    ) -> Result<usize, Stopped> {
        if name == "native.json" {
            let reading = self.open().await?.read_answer(&self.call, &bytes.to_vec()).await?;
            made.push(("expected-reading.json", read(&reading)));
            return Ok(1);
        }
        let frames = frames("sse", bytes);
        let mut readings = Vec::new();
        for size in [1, frames.len().max(1)] {
            let mut reader = self.open().await?.read(&self.call).await?;
            let mut all = json!({});
            for batch in frames.chunks(size) {
                merge(&mut all, read(&reader.push(batch).await?));
            }
            readings.push(all);
        }
        if readings.first() != readings.last() {
            differences.push("event by event, the reading is another one".to_owned());
        }
        made.push(("expected-reading.json", readings.pop().unwrap_or_default()));
        if let Some(error) = error {
            let mut reader = self.open().await?.read(&self.call).await?;
            reader.push(frames.get(..frames.len() / 2).unwrap_or_default()).await?;
            let added = reader.failed(error.status, &error.problem()).await?;
            made.push(("expected-failed.json", self.shown(&added)));
        }
        Ok(2)
    }

    /// A stream as `[event, data]` pairs, or as its documents.
    fn shown(&self, bytes: &[u8]) -> Value {
        if !self.events {
            return value(bytes);
        }
        let events = frames("sse", bytes).into_iter().map(|frame| match frame.event.as_str() {
            "" => document(&frame.data),
            event => json!([event, document(&frame.data)]),
        });
        events.collect()
    }
}

fn frames(framing: &str, bytes: &[u8]) -> Vec<Frame> {
    let framed = Framer::new(framing).and_then(|mut framer| framer.push(bytes).ok()).unwrap_or_default();
    framed.into_iter().map(|frame| Frame { event: frame.event, data: frame.data }).collect()
}

fn value(json: &[u8]) -> Value {
    serde_json::from_slice(json).unwrap_or_else(|_| String::from_utf8_lossy(json).into())
}

/// An event's data, which must be JSON on its own: what isn't is shown as what it is.
fn document(data: &[u8]) -> Value {
    let broken = |_| json!({ "not JSON": String::from_utf8_lossy(data) });
    serde_json::from_slice(data).unwrap_or_else(broken)
}

/// What is known, absent members left out.
fn read(reading: &Reading) -> Value {
    let mut shown = json!({});
    let usage: serde_json::Map<_, _> =
        reading.usage.iter().map(|entry| (entry.kind.clone(), entry.amount.into())).collect();
    for (name, value) in [
        ("model", reading.model.clone().map(Value::from)),
        ("id", reading.id.clone().map(Value::from)),
        ("usage", (!usage.is_empty()).then(|| usage.into())),
        ("finish_reason", reading.finish_reason.clone().map(Value::from)),
        ("failure", reading.failure.clone().map(Value::from)),
        ("complete", reading.complete.then_some(Value::Bool(true))),
    ] {
        if let (Some(value), Some(members)) = (value, shown.as_object_mut()) {
            members.insert(name.to_owned(), value);
        }
    }
    shown
}

/// Later counts and facts take the place of earlier ones.
fn merge(all: &mut Value, more: Value) {
    match (all, more) {
        (Value::Object(all), Value::Object(more)) => {
            for (name, value) in more {
                merge(all.entry(name).or_insert(Value::Null), value);
            }
        }
        (all, more) => *all = more,
    }
}
