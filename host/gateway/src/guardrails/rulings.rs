//! Holding a ruling against what was shown, and writing it onto the trace.

use std::borrow::Cow;
use std::time::Duration;

use brokle_core::json::{Change, Splices};
use brokle_core::observation::{Kind, Status, Step};
use brokle_core::random::Random;
use brokle_runtime::capabilities::telemetry::TraceParent;
use brokle_runtime::guarding::{self, Annotation, Edit};
use brokle_runtime::{Fault as PluginFault, PluginError};
use bytes::Bytes;
use serde_json::Value;

use super::call::Link;
use crate::account::Meter;
use crate::refusal::{Fault, Refusal};

/// What is kept of a reason, in characters.
const REASON: usize = 500;
/// What is kept of annotations: how many, and how large each.
const ANNOTATIONS: usize = 32;
const ANNOTATION: usize = 4 << 10;

/// Why a guardrail has failed.
#[derive(Debug)]
pub(crate) struct Failed {
    /// The stable word for it, on the trace.
    class: Cow<'static, str>,
    /// For the operator: in the log and on the trace, never in an answer.
    detail: String,
    busy: bool,
    trapped: bool,
}

impl Failed {
    /// It ruled nonsense.
    pub(crate) fn ruling(detail: impl Into<String>) -> Self {
        Self { class: "bad_ruling".into(), detail: detail.into(), busy: false, trapped: false }
    }

    /// Its component doesn't serve.
    pub(crate) fn missing(plugin: &str) -> Self {
        let detail = format!("no component '{plugin}' serves here");
        Self { class: "missing".into(), detail, busy: false, trapped: false }
    }

    /// There is something that can't be shown to it.
    pub(crate) fn unreadable(detail: impl Into<String>) -> Self {
        Self { class: "unreadable".into(), detail: detail.into(), busy: false, trapped: false }
    }

    /// For the operator.
    pub(crate) fn detail(&self) -> &str {
        &self.detail
    }

    /// What the caller is told, if calls don't go on without this guardrail.
    fn refusal(&self, name: &str) -> Refusal {
        let message = format!("Guardrail '{name}' failed, and calls don't go on without it.");
        let retry_after = self.busy.then_some(Duration::from_secs(1));
        let status = if self.busy { 503 } else { 502 };
        Refusal { fault: Fault::Plugin, retry_after, ..Refusal::client(status, "guardrail_failed", message) }
    }
}

impl From<PluginError> for Failed {
    fn from(error: PluginError) -> Self {
        let busy = matches!(error.fault, PluginFault::Busy);
        Self { class: error.fault.class().into(), detail: error.to_string(), busy, trapped: !busy }
    }
}

impl From<guarding::Failure> for Failed {
    fn from(failure: guarding::Failure) -> Self {
        let (class, detail) = match failure {
            guarding::Failure::Unavailable(detail) => ("unavailable", detail),
            guarding::Failure::Misconfigured(detail) => ("misconfigured", detail),
            guarding::Failure::Other(detail) => ("failure", detail),
        };
        Self { class: class.into(), detail, busy: false, trapped: false }
    }
}

/// What texts become by a ruling's edits: none where nothing changes. `ends` says up to where each may be changed.
///
/// # Errors
/// An edit that lies outside its text, between the bytes of a character, over another one, or in what is held back.
pub(crate) fn edited(values: &[&str], ends: &[usize], edits: &[Edit]) -> Result<Vec<Option<String>>, Failed> {
    let mut sorted: Vec<&Edit> = edits.iter().collect();
    sorted.sort_by_key(|edit| (edit.text, edit.start, edit.end));
    let mut results: Vec<Option<String>> = vec![None; values.len()];
    for of_text in sorted.chunk_by(|a, b| a.text == b.text) {
        let index = of_text.first().map_or(0, |edit| edit.text as usize);
        let (Some(value), Some(&limit), Some(result)) =
            (values.get(index), ends.get(index), results.get_mut(index))
        else {
            return Err(Failed::ruling(format!("an edit of text {index}, which isn't there")));
        };
        let mut text = String::with_capacity(limit);
        let mut at = 0;
        for edit in of_text {
            let (start, end) = (edit.start as usize, edit.end as usize);
            let kept = value.get(at..start).filter(|_| end <= limit && value.get(start..end).is_some());
            let Some(kept) = kept else {
                let detail =
                    format!("an edit of bytes {start} to {end} of {limit}, after one that ends at {at}");
                return Err(Failed::ruling(detail));
            };
            text.push_str(kept);
            text.push_str(&edit.replacement);
            at = end;
        }
        text.push_str(value.get(at..limit).unwrap_or_default());
        *result = (value.get(..limit) != Some(&text)).then_some(text);
    }
    Ok(results)
}

/// A document with other strings at these pointers.
///
/// # Errors
/// A string that isn't where it was.
pub(crate) fn respell(
    document: &[u8],
    texts: impl IntoIterator<Item = (String, String)>,
    nulls: impl IntoIterator<Item = String>,
) -> Result<Bytes, Failed> {
    let spelled: Vec<(String, Vec<u8>)> = texts
        .into_iter()
        .map(|(pointer, text)| (pointer, Value::from(text).to_string().into_bytes()))
        .chain(nulls.into_iter().map(|pointer| (pointer, b"null".to_vec())))
        .collect();
    let changes: Vec<Change<'_>> =
        spelled.iter().map(|(pointer, json)| Change::Set(pointer, json.as_slice().into())).collect();
    let spliced = Splices::apply(document, &changes).map_err(|error| Failed::ruling(error.to_string()))?;
    Ok(spliced.to_vec().into())
}

/// What is noted of one guardrail's work: a step of the call.
#[derive(Debug)]
pub(crate) struct Note {
    step: Step,
    stage: &'static str,
    verdict: &'static str,
    category: Option<String>,
    edits: usize,
    annotations: Vec<Annotation>,
}

impl Note {
    /// The guardrail is asked.
    pub(crate) fn begin(meter: &Meter, link: &Link, stage: &'static str, random: &dyn Random) -> Self {
        let step = meter.step(Kind::Guardrail, link.guardrail.name.to_string().into(), random);
        Self { step, stage, verdict: "allow", category: None, edits: 0, annotations: Vec::new() }
    }

    /// Where it stands in the trace; nowhere in one that has no steps.
    pub(crate) fn parent(&self, meter: &Meter) -> Option<TraceParent> {
        meter.trace_parent(self.step.span_id)
    }

    /// It changes texts.
    pub(crate) fn changes(&mut self, edits: usize) {
        if edits > 0 {
            self.verdict = "change";
            self.edits += edits;
        }
    }

    /// It wants the model asked again.
    pub(crate) fn retries(&mut self) {
        self.verdict = "retry";
    }

    /// It blocks. What the caller is told, if that counts.
    pub(crate) fn blocks(&mut self, link: &Link, refusal: &guarding::Refusal) -> Refusal {
        self.verdict = "block";
        let category: String = refusal.category.chars().take(64).collect();
        let reason: String = refusal.reason.chars().take(REASON).collect();
        self.category = Some(category.clone());
        let told = Refusal::client(400, "content_policy_violation", reason);
        let body = serde_json::json!({"error": {
            "message": told.message, "type": told.kind(), "param": null, "code": told.code,
            "category": category, "guardrail": &*link.guardrail.name,
        }});
        Refusal { body: Some(body.to_string().into()), ..told }
    }

    /// Findings.
    pub(crate) fn annotate(&mut self, annotations: Vec<Annotation>) {
        for annotation in annotations {
            let plain =
                |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'.' | b'_' | b'-');
            let fits = annotation.value.len() <= ANNOTATION
                && (1..=64).contains(&annotation.name.len())
                && annotation.name.bytes().all(plain);
            let room = self.annotations.len() < ANNOTATIONS;
            match self.annotations.iter_mut().find(|known| known.name == annotation.name) {
                Some(known) if fits => *known = annotation,
                None if fits && room => self.annotations.push(annotation),
                _ => tracing::debug!(guardrail = %self.step.name, "an annotation is too large or misnamed"),
            }
        }
    }

    /// It failed: what that means for the call.
    pub(crate) fn fails(&mut self, meter: &Meter, link: &Link, failed: &Failed) -> Option<Refusal> {
        self.verdict = "failed";
        self.step.status = Status::Error;
        self.step.error_class = Some(failed.class.clone());
        self.step.error_message = Some(failed.detail.chars().take(REASON).collect::<String>().into());
        if failed.trapped {
            meter.trap(link.label());
        }
        tracing::warn!(guardrail = %link.guardrail.name, plugin = link.label(), class = %failed.class, "guardrail failed: {}", failed.detail);
        let counts = link.guardrail.enforces() && link.guardrail.on_failure == super::OnFailure::Closed;
        counts.then(|| failed.refusal(&link.guardrail.name))
    }

    /// It is done; its plugin took this long.
    pub(crate) fn end(
        mut self,
        meter: &mut Meter,
        link: &Link,
        spent: Duration,
        export: &'static str,
        random: &dyn Random,
    ) {
        let mode = if link.guardrail.enforces() { "enforce" } else { "shadow" };
        let attributes = &mut self.step.attributes;
        let mut put = |name: &str, value: Value| attributes.insert(format!("brokle.guardrail.{name}"), value);
        for annotation in self.annotations {
            if let Ok(value) = serde_json::from_slice(&annotation.value) {
                put(&annotation.name, value);
            }
        }
        put("stage", self.stage.into());
        put("mode", mode.into());
        put("verdict", self.verdict.into());
        if let Some(category) = self.category {
            put("category", category.into());
        }
        if self.edits > 0 {
            put("edits", self.edits.into());
        }
        let span = self.step.span_id;
        meter.end_step(self.step, None);
        meter.plugin(link.label(), export, Some(span), spent, random);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn edit(text: u32, start: u32, end: u32, replacement: &str) -> Edit {
        Edit { text, start, end, replacement: replacement.into() }
    }

    #[test]
    fn edits_come_in_any_order_and_stay_in_their_text() {
        let values = ["abcdef", "héllo"];
        let edits = [edit(0, 4, 6, "Z"), edit(1, 1, 3, "e"), edit(0, 0, 1, "AA"), edit(0, 1, 1, "-")];
        let made = edited(&values, &[6, 6], &edits).unwrap();
        assert_eq!(made, [Some("AA-bcdZ".to_owned()), Some("hello".to_owned())]);
        assert_eq!(edited(&values, &[6, 6], &[edit(0, 0, 1, "a")]).unwrap(), [None, None]);
        for wrong in [
            vec![edit(2, 0, 0, "")],
            vec![edit(0, 5, 7, "")],
            vec![edit(0, 3, 2, "")],
            vec![edit(1, 2, 3, "")],
            vec![edit(0, 0, 3, ""), edit(0, 2, 4, "")],
        ] {
            assert!(edited(&values, &[6, 6], &wrong).is_err(), "{wrong:?}");
        }
        // What is held back comes again, so it isn't changed yet.
        assert!(edited(&values, &[3, 6], &[edit(0, 2, 4, "")]).is_err());
        assert_eq!(edited(&values, &[3, 6], &[edit(0, 1, 2, "")]).unwrap()[0].as_deref(), Some("ac"));
    }

    #[test]
    fn a_respelled_document_keeps_every_other_byte() {
        let document = br#"{ "a":[ {"b~c/d" : "x\u0031"} ], "n":1e0 }"#;
        let made = respell(document, [("/a/0/b~0c~1d".into(), "y\"\n".into())], []).unwrap();
        assert_eq!(made, r#"{ "a":[ {"b~c/d" : "y\"\n"} ], "n":1e0 }"#.as_bytes());
    }
}
