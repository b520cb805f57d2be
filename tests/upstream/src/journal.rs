//! What the upstream saw: every request with what became of its answer, and the scripts for those to come.

use crate::{Fault, FaultError, answer::split_model};
use bytes::Bytes;
use serde_json::{Value, json};
use std::{
    collections::{HashMap, VecDeque},
    fmt,
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};
use tokio::sync::watch;

/// How long [`wait_for`](crate::Upstream::wait_for) waits.
pub const DEADLINE: Duration = Duration::from_secs(10);

/// One request.
#[derive(Debug, Clone)]
pub struct Seen {
    /// Counts from 1 since the start, over resets too. Answers repeat it as `x-request-id: req_test_ID` (Anthropic's: `request-id`), in six digits.
    pub id: u64,
    /// Counts from 1; requests with the same number came over one connection.
    pub connection: u64,
    /// `POST`
    pub method: String,
    /// The path, with its query.
    pub path: String,
    /// Names in lower case, in the order in which they came.
    pub headers: Vec<(String, String)>,
    /// The body without its framing; shorter than it was meant to be when the client left in its middle.
    pub body: Bytes,
    /// When the first byte was read, since the start of the upstream.
    pub received_at: Duration,
    /// What the answer suffered.
    pub fault: Fault,
    /// How the answer ended; nothing while it is under way.
    pub end: Option<End>,
}

/// How an answer ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct End {
    /// Who ended it, and how.
    pub outcome: Outcome,
    /// When, since the start of the upstream.
    pub at: Duration,
    /// Bytes of the response that the kernel took.
    pub bytes_sent: usize,
}

/// Who ended an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// It was written to its end.
    Answered,
    /// The client disconnected before its end.
    ClientLeft,
    /// A fault sent a RST.
    Reset,
    /// A fault sent a FIN.
    Closed,
}

impl Outcome {
    fn name(self) -> &'static str {
        match self {
            Self::Answered => "answered",
            Self::ClientLeft => "client-left",
            Self::Reset => "reset",
            Self::Closed => "closed",
        }
    }
}

impl Seen {
    /// The first header of this name, given in lower case.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    /// The body as JSON, if it is.
    pub fn json(&self) -> Option<Value> {
        serde_json::from_slice(&self.body).ok()
    }

    /// The path without its query.
    pub fn route(&self) -> &str {
        self.path.split('?').next().unwrap_or_default()
    }

    /// The provider key that the request was made with.
    pub fn key(&self) -> Option<&str> {
        let bearer = self.header("authorization").and_then(|value| value.strip_prefix("Bearer "));
        bearer.or_else(|| self.header("x-api-key")).or_else(|| self.header("api-key"))
    }

    /// Whether the client disconnected before the answer's end.
    pub fn client_left(&self) -> bool {
        self.end.is_some_and(|end| end.outcome == Outcome::ClientLeft)
    }

    pub(crate) fn to_json(&self) -> Value {
        let ms = |time: Duration| time.as_secs_f64() * 1000.0;
        let body = self.json().unwrap_or_else(|| Value::from(String::from_utf8_lossy(&self.body)));
        let end = self.end.map(
            |end| json!({"outcome": end.outcome.name(), "at_ms": ms(end.at), "bytes_sent": end.bytes_sent}),
        );
        json!({
            "id": self.id, "connection": self.connection, "method": self.method, "path": self.path,
            "headers": self.headers, "body": body, "fault": self.fault.to_string(),
            "received_ms": ms(self.received_at), "end": end,
        })
    }
}

/// The deadline passed before the predicate held.
#[derive(Debug, thiserror::Error)]
#[error("not within {waited:?}; the upstream saw:\n{seen}")]
pub struct NeverSeen {
    waited: Duration,
    seen: Log,
}

/// One line for each request.
#[derive(Debug)]
struct Log(Vec<Seen>);

impl fmt::Display for Log {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|seen| {
            writeln!(f, "{} {} {} [{}] {:?}", seen.id, seen.method, seen.path, seen.fault, seen.end)
        })
    }
}

/// Shared by all connections.
#[derive(Debug)]
pub(crate) struct Journal {
    started: Instant,
    state: Mutex<State>,
    changes: watch::Sender<()>,
}

#[derive(Debug, Default)]
struct State {
    last_id: u64,
    requests: Vec<Seen>,
    scripts: HashMap<Option<String>, VecDeque<Fault>>,
}

impl Journal {
    pub(crate) fn new() -> Self {
        Self { started: Instant::now(), state: Mutex::default(), changes: watch::Sender::new(()) }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Every change is one assignment: what a panicking holder leaves is whole.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Time since the start.
    pub(crate) fn since_start(&self, at: Instant) -> Duration {
        at.saturating_duration_since(self.started)
    }

    /// Records a request and gives it its id.
    pub(crate) fn begin(&self, mut seen: Seen) -> Seen {
        let mut state = self.state();
        state.last_id += 1;
        seen.id = state.last_id;
        state.requests.push(seen.clone());
        drop(state);
        self.changes.send_replace(());
        seen
    }

    /// Records how its answer ended.
    pub(crate) fn end(&self, id: u64, outcome: Outcome, bytes_sent: usize) {
        let at = self.since_start(Instant::now());
        if let Some(seen) = self.state().requests.iter_mut().find(|seen| seen.id == id) {
            seen.end = Some(End { outcome, at, bytes_sent });
        }
        self.changes.send_replace(());
    }

    pub(crate) fn requests(&self) -> Vec<Seen> {
        self.state().requests.clone()
    }

    pub(crate) fn reset(&self) {
        let mut state = self.state();
        state.requests.clear();
        state.scripts.clear();
    }

    pub(crate) fn script(&self, key: Option<String>, faults: impl IntoIterator<Item = Fault>) {
        self.state().scripts.entry(key).or_default().extend(faults);
    }

    /// The fault of this request, by the order that the README gives.
    pub(crate) fn fault(&self, seen: &Seen) -> Result<Fault, FaultError> {
        if let Some(text) = seen.header("x-test-fault") {
            return text.parse();
        }
        if seen.method == "POST" {
            let mut state = self.state();
            for key in [seen.key().map(str::to_owned), None] {
                if let Some(fault) = state.scripts.get_mut(&key).and_then(VecDeque::pop_front) {
                    return Ok(fault);
                }
            }
        }
        let body = seen.json();
        let model = body.as_ref().and_then(|body| body.get("model")).and_then(Value::as_str);
        model.and_then(|model| split_model(model).1).unwrap_or_default().parse()
    }

    /// Waits until `found` finds something in what was seen.
    pub(crate) async fn wait<T>(
        &self,
        deadline: Duration,
        mut found: impl FnMut(&[Seen]) -> Option<T>,
    ) -> Result<T, NeverSeen> {
        let mut changes = self.changes.subscribe();
        let search = async {
            loop {
                changes.mark_unchanged();
                if let Some(found) = found(&self.state().requests) {
                    return found;
                }
                // The sender lives as long as `self`.
                let _ = changes.changed().await;
            }
        };
        match tokio::time::timeout(deadline, search).await {
            Ok(found) => Ok(found),
            Err(_) => Err(NeverSeen { waited: deadline, seen: Log(self.requests()) }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_wait_in_vain_ends_with_what_there_was() {
        let journal = Journal::new();
        journal.begin(Seen {
            id: 0,
            connection: 1,
            method: "GET".into(),
            path: "/v1/models".into(),
            headers: Vec::new(),
            body: Bytes::new(),
            received_at: Duration::ZERO,
            fault: "gzip".parse().unwrap(),
            end: None,
        });
        let error = journal.wait(Duration::from_millis(1), |_| None::<()>).await.unwrap_err();
        assert_eq!(error.to_string(), "not within 1ms; the upstream saw:\n1 GET /v1/models [gzip] None\n");
    }
}
