//! Guardrails that rule on what is stored: those with the stage `storage`.
//!
//! They are shown copies, after the call: nobody waits for them but the row. Of a call, and of a span from elsewhere, they see
//! every text of the input and of the attributes (as a request) and of the output (as an answer), each with its place, in a fresh
//! instance for each. Of a plugin's own span they see its name and its failure, too: a component chose them, which may
//! have put anything there that it was shown.
//!
//! - `change`: the texts get their new text, every other byte stays. The row says who changed some: [`MASKED`].
//! - `block`, `retry`, and a guardrail that has failed with `on_failure = "closed"`: input, output and attributes that
//!   hold texts are left out, and the row says why: [`WITHHELD`]. Nothing is ever stored raw instead.
//! - In shadow mode they aren't asked: nobody would hear of it.
//!
//! What can't be read is such a failure: JSON that is cut off or has a member twice, a stream that isn't of OpenAI's events. A
//! stream's texts are put together first, and a changed one stands in its first event.
//!
//! Calls wait in memory for their turn, [`MAX_WAITING`] of them and [`MAX_BYTES`] at most; one that comes on top goes without
//! its content. A crash loses those that wait. Spans are masked before they are acknowledged.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use brokle_core::ids::ApiKeyId;
use brokle_core::observation::{Kind, Observation};
use brokle_core::tenancy::Tenant;
use brokle_plugins::Snapshots;
use brokle_runtime::Body;
use brokle_runtime::guarding::{self, Text, Verdict};
use brokle_telemetry::Recorder;
use brokle_telemetry::recording::Recording;
use bytes::Bytes;
use futures_util::StreamExt as _;
use parking_lot::Mutex;
use serde_json::Value;
use tokio::sync::mpsc::{Receiver, Sender, channel};
use tokio_util::sync::CancellationToken;

use super::call::Link;
use super::rulings::{Failed, edited, respell};
use super::{Chain, Guardrails, OnFailure, texts};

/// The attribute that names the guardrails that changed something.
const MASKED: &str = "brokle.storage.masked";
/// The attribute that says why there is no content.
const WITHHELD: &str = "brokle.storage.withheld";
/// Calls that wait at most.
const MAX_WAITING: usize = 4_096;
/// Their bytes at most.
const MAX_BYTES: usize = 64 << 20;
/// Calls that are masked at the same time.
const AT_ONCE: usize = 4;

/// How long a server that stops goes on masking; what is left then goes without its content.
const LAST: Duration = Duration::from_secs(2);

/// What is stored, as guardrails leave it.
#[derive(Debug)]
pub struct Masking {
    guardrails: Guardrails,
    plugins: Arc<Snapshots>,
    recording: Arc<Recording>,
    recorder: Arc<Recorder>,
    sender: Sender<Observation>,
    receiver: Mutex<Option<Receiver<Observation>>>,
    bytes: AtomicUsize,
}

impl Masking {
    /// By these guardrails; what is done is cut as the operator wants it, and goes to the recorder.
    #[must_use]
    pub fn new(
        guardrails: Guardrails,
        plugins: Arc<Snapshots>,
        recording: Arc<Recording>,
        recorder: Arc<Recorder>,
    ) -> Self {
        let (sender, receiver) = channel(MAX_WAITING);
        let receiver = Mutex::new(Some(receiver));
        Self { guardrails, plugins, recording, recorder, sender, receiver, bytes: AtomicUsize::new(0) }
    }

    fn chain(&self, tenant: Tenant, key: Option<ApiKeyId>) -> Option<Chain> {
        let snapshot = self.plugins.load();
        self.guardrails.of_storage(tenant, key, snapshot.of(tenant))
    }

    /// Records a call, or a plugin's span, at once if nobody rules on what is stored of it. Never waits.
    pub fn record(&self, mut row: Observation) {
        if !self.guardrails.rule_on_storage(row.tenant, row.key_id) {
            return self.keep(row);
        }
        let weight = row.weight();
        let has_room = self.bytes.fetch_add(weight, Ordering::SeqCst).saturating_add(weight) <= MAX_BYTES;
        if has_room {
            match self.sender.try_send(row) {
                Ok(()) => return,
                Err(error) => row = error.into_inner(),
            }
        }
        self.bytes.fetch_sub(weight, Ordering::SeqCst);
        withhold(&mut row, "there is too much to rule on");
        self.keep(row);
    }

    fn keep(&self, mut row: Observation) {
        self.recording.cut(&mut row);
        self.recorder.record(row);
    }

    /// Works on calls that wait until it is told to stop, and then for [`LAST`] on those that are left.
    pub async fn run(&self, stop: CancellationToken) {
        let Some(receiver) = self.receiver.lock().take() else { return };
        let stopped = stop.clone();
        let waiting = futures_util::stream::unfold((receiver, stop), |(mut receiver, stop)| async move {
            let row = tokio::select! {
                biased;
                row = receiver.recv() => row,
                () = stop.cancelled() => {
                    receiver.close();
                    receiver.recv().await
                }
            };
            row.map(|row| (row, (receiver, stop)))
        });
        let over = CancellationToken::new();
        let work = waiting.for_each_concurrent(AT_ONCE, |mut row| {
            let over = &over;
            async move {
                let weight = row.weight();
                let is_late = tokio::select! {
                    biased;
                    () = over.cancelled() => true,
                    () = self.mask(&mut row) => false,
                };
                if is_late {
                    withhold(&mut row, "the server was stopped");
                }
                self.bytes.fetch_sub(weight, Ordering::SeqCst);
                self.keep(row);
            }
        });
        let end = async {
            stopped.cancelled().await;
            tokio::time::sleep(LAST).await;
            over.cancel();
            std::future::pending::<()>().await;
        };
        tokio::select! {
            () = work => {}
            () = end => {}
        }
    }

    /// Masks spans that came together.
    pub async fn mask_all(&self, rows: &mut [Observation]) {
        for row in rows {
            self.mask(row).await;
        }
    }

    async fn mask(&self, row: &mut Observation) {
        let Some(chain) = self.chain(row.tenant, row.key_id) else { return };
        let mut masked: Vec<Value> = Vec::new();
        for link in &chain.links {
            match rule(link, row).await {
                Ok(true) => masked.push((*link.guardrail.name).into()),
                Ok(false) => {}
                Err(Refused::Blocked(category)) => {
                    return withhold(row, &format!("{}: blocked as {category}", link.guardrail.name));
                }
                Err(Refused::Failed(failed)) => {
                    let (guardrail, plugin) = (&*link.guardrail.name, link.label());
                    tracing::warn!(
                        guardrail,
                        plugin,
                        "guardrail failed on what is stored: {}",
                        failed.detail()
                    );
                    if link.guardrail.on_failure == OnFailure::Closed {
                        return withhold(row, &format!("{guardrail}: failed"));
                    }
                }
            }
        }
        if !masked.is_empty() {
            row.attributes.insert(MASKED.to_owned(), masked.into());
        }
    }
}

/// Why content isn't stored as it is.
enum Refused {
    Blocked(String),
    Failed(Failed),
}

impl<T: Into<Failed>> From<T> for Refused {
    fn from(failed: T) -> Self {
        Self::Failed(failed.into())
    }
}

/// Leaves out whatever may hold a text.
fn withhold(row: &mut Observation, why: &str) {
    (row.input, row.output, row.error_message) = (None, None, None);
    row.attributes.retain(|_, value| value.is_number() || value.is_boolean());
    row.attributes.insert(WITHHELD.to_owned(), why.into());
    if row.kind == Kind::Plugin {
        row.name = "plugin".into();
    }
}

/// One guardrail's rulings on both sides; true when it changed something.
async fn rule(link: &Link, row: &mut Observation) -> Result<bool, Refused> {
    let mut changed = false;
    if link.has_rules_for("request") {
        let body = row.input.clone();
        let input = Stored::of(body.as_ref())?;
        let mut shown = input.texts.clone();
        for (name, value) in &row.attributes {
            texts::everything(value, &format!("/attributes/{}", texts::escaped(name)), "", &mut shown);
        }
        if row.kind == Kind::Plugin {
            for (pointer, value) in
                [("/name", Some(&*row.name)), ("/error_message", row.error_message.as_deref())]
            {
                let text = |value: &str| Text {
                    pointer: pointer.to_owned(),
                    kind: String::new(),
                    role: String::new(),
                    value: value.to_owned(),
                };
                shown.extend(value.map(text));
            }
        }
        let new = ask(link, row, "request", &shown).await?;
        let (of_input, of_attributes) = new.split_at_checked(input.texts.len()).unwrap_or_default();
        if let Some(body) = input.with(of_input)? {
            row.input = Some(body);
            changed = true;
        }
        let places = shown.iter().skip(input.texts.len()).map(|text| text.pointer.as_str());
        for (pointer, text) in places.zip(of_attributes) {
            let Some(text) = text else { continue };
            replace(row, pointer, text)?;
            changed = true;
        }
    }
    if link.has_rules_for("response") && row.output.is_some() {
        let body = row.output.clone();
        let output = Stored::of(body.as_ref())?;
        let new = ask(link, row, "response", &output.texts).await?;
        if let Some(body) = output.with(&new)? {
            row.output = Some(body);
            changed = true;
        }
    }
    Ok(changed)
}

/// The attribute's value at `/attributes/NAME/…`, anew; or what a plugin's span is called, or why it failed.
fn replace(row: &mut Observation, pointer: &str, text: &str) -> Result<(), Failed> {
    match pointer {
        "/name" => row.name = text.to_owned().into(),
        "/error_message" => row.error_message = Some(text.into()),
        _ => return replace_attribute(row, pointer, text),
    }
    Ok(())
}

fn replace_attribute(row: &mut Observation, pointer: &str, text: &str) -> Result<(), Failed> {
    let lost = || Failed::ruling("an attribute isn't where it was");
    let rest = pointer.strip_prefix("/attributes/").ok_or_else(lost)?;
    let (name, inside) = rest.find('/').map_or((rest, ""), |at| rest.split_at(at));
    let name = name.replace("~1", "/").replace("~0", "~");
    let value = row.attributes.get_mut(&name).and_then(|value| value.pointer_mut(inside)).ok_or_else(lost)?;
    *value = text.into();
    Ok(())
}

/// What becomes of each text; none where nothing changes.
async fn ask(
    link: &Link,
    row: &Observation,
    stage: &str,
    shown: &[Text],
) -> Result<Vec<Option<String>>, Refused> {
    if shown.is_empty() {
        return Ok(Vec::new());
    }
    let call = guarding::Call {
        operation: row.operation.to_string(),
        model: row.model_requested.as_deref().unwrap_or_default().to_owned(),
        streaming: row.streaming,
        request_id: row.request_id.map(|id| id.to_string()).unwrap_or_default(),
        retries: 0,
        state: Vec::new(),
        attributes: vec![("stage".to_owned(), "storage".to_owned())],
    };
    let mut instance = link.open(None).await?;
    let document = Body::json(row.input.clone().unwrap_or_else(|| Bytes::from_static(b"null")));
    let ruling = match stage {
        "request" => instance.on_request(&call, document, shown).await?,
        _ => instance.on_response(&call, document, shown).await?,
    };
    match ruling?.verdict {
        Verdict::Allow => Ok(vec![None; shown.len()]),
        Verdict::Change(edits) => {
            let values: Vec<&str> = shown.iter().map(|text| text.value.as_str()).collect();
            let ends: Vec<usize> = values.iter().map(|value| value.len()).collect();
            Ok(edited(&values, &ends, &edits)?)
        }
        Verdict::Block(refusal) => Err(Refused::Blocked(refusal.category.chars().take(64).collect())),
        Verdict::Retry(_) => Err(Refused::Blocked("retry".to_owned())),
    }
}

/// A stored body and the texts in it.
struct Stored<'a> {
    body: &'a [u8],
    form: Form,
    texts: Vec<Text>,
}

enum Form {
    Json,
    Plain,
    /// Each event's JSON, and the texts that have a part in it.
    Events(Vec<Event>),
}

struct Event {
    json: std::ops::Range<usize>,
    /// The part's place in the event, and the text's index.
    parts: Vec<(String, usize)>,
}

impl<'a> Stored<'a> {
    fn of(body: Option<&'a Bytes>) -> Result<Self, Failed> {
        let body: &[u8] = body.map_or(b"null", |body| &**body);
        if let Ok(texts::Strict(document)) = serde_json::from_slice(body) {
            let mut texts = Vec::new();
            texts::everything(&document, "", "", &mut texts);
            return Ok(Self { body, form: Form::Json, texts });
        }
        let text = std::str::from_utf8(body).map_err(|_| Failed::unreadable("it isn't UTF-8"))?;
        let begin = text.trim_start();
        if begin.starts_with("data:") || begin.starts_with("event:") || begin.starts_with(':') {
            return Self::of_stream(text);
        }
        if begin.starts_with(['{', '[', '"']) {
            return Err(Failed::unreadable("it is JSON that can't be read"));
        }
        let (pointer, kind) = (String::new(), "content".to_owned());
        let whole = Text { pointer, kind, role: String::new(), value: text.to_owned() };
        Ok(Self { body, form: Form::Plain, texts: vec![whole] })
    }

    fn of_stream(text: &'a str) -> Result<Self, Failed> {
        let (mut texts, mut events, mut at) = (Vec::<Text>::new(), Vec::new(), 0);
        let mut known = HashMap::<String, usize>::new();
        for line in text.split_inclusive('\n') {
            let begin = at;
            at += line.len();
            let Some(data) = line.strip_prefix("data:") else { continue };
            let json = data.trim();
            if json.is_empty() || json == "[DONE]" {
                continue;
            }
            let unreadable = || Failed::unreadable("it has an event that can't be read");
            let texts::Strict(event) = serde_json::from_str(json).map_err(|_| unreadable())?;
            if !event.get("choices").is_some_and(Value::is_array) {
                return Err(unreadable());
            }
            let start = begin + (line.len() - data.len()) + (data.len() - data.trim_start().len());
            let mut parts = Vec::new();
            for delta in texts::of_event(&event).0.into_iter().filter(|delta| !delta.value.is_empty()) {
                let index = *known.entry(delta.pointer.clone()).or_insert_with(|| {
                    let (pointer, kind) = (delta.pointer.clone(), delta.kind.to_owned());
                    texts.push(Text { pointer, kind, role: "assistant".to_owned(), value: String::new() });
                    texts.len() - 1
                });
                if let Some(text) = texts.get_mut(index) {
                    text.value.push_str(&delta.value);
                }
                parts.push((delta.at, index));
            }
            events.push(Event { json: start..start + json.len(), parts });
        }
        Ok(Self { body: text.as_bytes(), form: Form::Events(events), texts })
    }

    /// The body with other texts; none when none is another.
    fn with(&self, new: &[Option<String>]) -> Result<Option<Bytes>, Failed> {
        if new.iter().all(Option::is_none) {
            return Ok(None);
        }
        let changes =
            self.texts.iter().zip(new).filter_map(|(text, new)| Some((text.pointer.clone(), new.clone()?)));
        match &self.form {
            Form::Json => respell(self.body, changes, []).map(Some),
            Form::Plain => Ok(changes.map(|(_, new)| Bytes::from(new)).next()),
            Form::Events(events) => {
                let (mut written, mut at, mut begun) =
                    (Vec::with_capacity(self.body.len()), 0, vec![false; new.len()]);
                for event in events {
                    let mut changes = Vec::new();
                    for (place, index) in &event.parts {
                        let (Some(Some(new)), Some(begun)) = (new.get(*index), begun.get_mut(*index)) else {
                            continue;
                        };
                        let whole = if std::mem::replace(begun, true) { String::new() } else { new.clone() };
                        changes.push((place.clone(), whole));
                    }
                    let json = self.body.get(event.json.clone()).unwrap_or_default();
                    written.extend_from_slice(self.body.get(at..event.json.start).unwrap_or_default());
                    written.extend_from_slice(&respell(json, changes, [])?);
                    at = event.json.end;
                }
                written.extend_from_slice(self.body.get(at..).unwrap_or_default());
                Ok(Some(written.into()))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every `secret` masked, as a guardrail would.
    fn masked(body: &str) -> Result<Option<String>, Failed> {
        let body = Bytes::from(body.to_owned());
        let stored = Stored::of(Some(&body))?;
        let new: Vec<_> = stored
            .texts
            .iter()
            .map(|text| text.value.contains("secret").then(|| text.value.replace("secret", "***")))
            .collect();
        Ok(stored.with(&new)?.map(|body| String::from_utf8(body.to_vec()).unwrap()))
    }

    #[test]
    fn every_text_of_a_document_is_shown_and_other_bytes_stay() {
        let body = r#"{ "name":"a secret", "n": 1e0, "messages":[{"role":"user","content":"sec\u0072et"}] }"#;
        let expected = r#"{ "name":"a ***", "n": 1e0, "messages":[{"role":"user","content":"***"}] }"#;
        assert_eq!(masked(body).unwrap().as_deref(), Some(expected));
        assert_eq!(masked(r#"{"a": "nothing"}"#).unwrap(), None);
        assert_eq!(masked(r#""secret""#).unwrap().as_deref(), Some(r#""***""#));
        assert_eq!(masked("a secret in words").unwrap().as_deref(), Some("a *** in words"));
    }

    #[test]
    fn a_stream_is_put_together_before_it_is_shown() {
        let event = |text: &str| {
            format!("data: {{\"choices\":[{{\"index\":0,\"delta\":{{\"content\":\"{text}\"}}}}]}}\n\n")
        };
        let body =
            [": hi\n\n", &event("my sec"), &event("ret"), &event(" is out"), "data: [DONE]\n\n"].concat();
        let expected =
            [": hi\n\n", &event("my *** is out"), &event(""), &event(""), "data: [DONE]\n\n"].concat();
        assert_eq!(masked(&body).unwrap(), Some(expected));
    }

    #[test]
    fn what_cant_be_read_is_never_taken_for_harmless() {
        for body in [
            r#"{"a":"secret","a":"x"}"#,
            r#"{"a":"sec"#,
            "data: {\"type\":\"content_block_delta\",\"delta\":{\"text\":\"secret\"}}\n\n",
            "data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"sec",
        ] {
            assert!(masked(body).is_err(), "{body}");
        }
        assert!(Stored::of(Some(&Bytes::from_static(b"\xff\xfe"))).is_err());
    }
}
