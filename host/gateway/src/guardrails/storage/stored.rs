//! The texts of a stored body: a JSON document's, a stream's, or the text that it is.

use std::collections::HashMap;

use brokle_runtime::guarding::Text;
use bytes::Bytes;
use serde_json::Value;

use crate::guardrails::rulings::{Failed, respell};
use crate::guardrails::texts;

/// A stored body and the texts in it.
pub(super) struct Stored<'a> {
    body: &'a [u8],
    form: Form,
    pub(super) texts: Vec<Text>,
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
    pub(super) fn of(body: Option<&'a Bytes>) -> Result<Self, Failed> {
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
    pub(super) fn with(&self, new: &[Option<String>]) -> Result<Option<Bytes>, Failed> {
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

/// Whether a log record's body is JSON whose texts are ruled on one by one, and not a text by itself. What only looks like JSON
/// and has escapes may hide a text in them: it is taken for JSON that can't be read.
pub(super) fn is_document(body: &str) -> bool {
    let looks_like_it = body.trim_start().starts_with(['{', '[']);
    looks_like_it && (body.contains('\\') || serde_json::from_str::<texts::Strict>(body).is_ok())
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

    #[test]
    fn a_text_that_begins_like_json_is_a_text() {
        for text in ["[INFO] started", "plain", "", "\"quoted\"", "{a}"] {
            assert!(!is_document(text), "{text}");
        }
        for document in [r#"{"a":"b"}"#, " [1]", r#"{"a":"sec\u0072et","#] {
            assert!(is_document(document), "{document}");
        }
    }
}
