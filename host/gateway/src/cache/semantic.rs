//! Answers to questions that mean the same.
//!
//! **What is compared** is the text of the last message, which has to be a user's. Everything else has to be the same, as the
//! exact cache has it: tenant, route, model, parameters, system prompt, earlier turns, the key's restrictions, the headers that
//! go on, and with [`Settings::per_user`] the user. Its hash is the *space* in which the nearest question is looked for; so a
//! "yes" is never the answer to another conversation's "yes".
//!
//! **Which calls** ([`Question::of`]): chat completions in the canonical form that ask for one answer, without tools and
//! pictures, at a temperature up to [`Settings::max_temperature`] (1 where nothing is said), with a text up to
//! [`Settings::max_text_bytes`]. Their route may switch it off or have a threshold of its own; a caller may ask for less
//! (`x-brokle-cache-semantic: off`) or for nearer questions (`0.98`).
//!
//! **What it means** is asked of an embedding model after the exact cache had nothing ([`embedding`](super::embedding)). If that
//! fails or takes longer than [`Settings::wait`], nothing is found and nothing kept: a miss, counted (`semantic_error`). What a
//! request means is remembered for an hour, in a quarter of [`Settings::max_bytes`] beside them: who asks the same again, or at
//! the same time, costs no further embedding.
//!
//! **What is found** is an entry of the exact cache, under its own key: it ends, is invalidated and counted there.

use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use super::control::Control;
use super::vectors::{Vector, Vectors};
use super::{Key, key};
use crate::operation::Operation;
use crate::routing::Candidate;
use crate::routing::conditions::Said;
use crate::shadow::WHOLE;
use brokle_core::json::{self, Change, Splices};
use moka::sync::Cache;

/// How long it is remembered what a request means.
const REMEMBERED: Duration = Duration::from_secs(3_600);

/// What is looked for by meaning.
#[derive(Debug, Clone, PartialEq)]
pub struct Settings {
    /// Who says what a text means: a model as callers would name it.
    pub model: String,
    /// How near a question has to be, in millionths: 950,000.
    pub threshold: u32,
    /// Up to which temperature: 1.
    pub max_temperature: f64,
    /// Whether a question is only found by the user who asked it: yes. Calls that name no user are one user's.
    pub per_user: bool,
    /// Bytes of a question: 8 KiB.
    pub max_text_bytes: usize,
    /// Questions: 10,000.
    pub max_entries: usize,
    /// Bytes of all questions' vectors: 64 MiB.
    pub max_bytes: usize,
    /// How long the embedding may take: 2 s.
    pub wait: Duration,
}

impl Default for Settings {
    /// Without a model.
    fn default() -> Self {
        Self {
            model: String::new(),
            threshold: 950_000,
            max_temperature: 1.0,
            per_user: true,
            max_text_bytes: 8 << 10,
            max_entries: 10_000,
            max_bytes: 64 << 20,
            wait: Duration::from_secs(2),
        }
    }
}

/// Questions that were answered.
#[derive(Debug)]
pub(super) struct Semantic {
    pub(super) settings: Settings,
    pub(super) vectors: Arc<dyn Vectors>,
    /// What requests mean, by their exact keys.
    pub(super) meanings: Cache<Key, Vector>,
}

/// What is looked for.
#[derive(Debug, PartialEq)]
pub(super) struct Question {
    /// Everything but the text.
    pub(super) space: Key,
    pub(super) text: String,
    /// How near another one has to be.
    pub(super) threshold: f32,
}

/// A question, and what it means; its answer is to be kept under it.
#[derive(Debug)]
pub(super) struct Meaning {
    pub(super) space: Key,
    pub(super) vector: Vector,
}

impl Semantic {
    pub(super) fn new(settings: Settings, vectors: Arc<dyn Vectors>) -> Self {
        let meanings = Cache::builder()
            .max_capacity(settings.max_bytes as u64 / 4)
            .weigher(|_: &Key, vector: &Vector| u32::try_from(vector.bytes()).unwrap_or(u32::MAX))
            .time_to_live(REMEMBERED)
            .build();
        Self { settings, vectors, meanings }
    }
}

impl Question {
    /// The call's; none if it isn't one that may be answered by another's answer.
    pub(super) fn of(
        said: Said<'_>,
        settings: &Settings,
        control: &Control,
        chosen: Option<&Candidate>,
    ) -> Option<Self> {
        let request = said.request;
        let rules = request.rules();
        let exact_only = control.exact_only || rules.is_some_and(|rules| rules.exact_only);
        let plain = request.operation == Operation::ChatCompletions
            && request.dialect.is_none()
            && request.choices == 1
            && !request.features.iter().any(|feature| feature == "tools" || feature == "vision");
        if exact_only || !plain || !is_cool(request.body.bytes(), settings) {
            return None;
        }
        let threshold = rules.and_then(|rules| rules.semantic_threshold).unwrap_or(settings.threshold);
        let threshold = (f64::from(threshold) / f64::from(WHOLE)).max(control.near) as f32;
        let (pointer, text) =
            text(request.body.bytes()).filter(|(_, text)| text.len() <= settings.max_text_bytes)?;
        let blank = Splices::apply(request.body.bytes(), &[Change::Set(&pointer, b"null".into())]).ok()?;
        let user = said.user().filter(|_| settings.per_user).unwrap_or_default();
        let space = key::of_space(said, chosen, &blank.to_vec(), [&settings.model, user])?;
        Some(Self { space, text, threshold })
    }
}

fn is_cool(body: &[u8], settings: &Settings) -> bool {
    let said = json::find(body, "/temperature").and_then(|at| body.get(at));
    let said = said.and_then(|value| serde_json::from_slice::<Option<f64>>(value).ok().flatten());
    said.unwrap_or(1.0) <= settings.max_temperature
}

/// Where the last message's content is, and what it says; none if it isn't a user's, or isn't text alone.
fn text(body: &[u8]) -> Option<(String, String)> {
    let messages = body.get(json::find(body, "/messages")?)?;
    let elements: Vec<Range<usize>> = json::elements(messages);
    let last = messages.get(elements.last()?.clone())?;
    let member = |name| json::find(last, name).and_then(|at| last.get(at));
    if member("/role")? != b"\"user\"" {
        return None;
    }
    let content = member("/content")?;
    let text = match serde_json::from_slice(content).ok()? {
        serde_json::Value::String(text) => text,
        serde_json::Value::Array(parts) => {
            let text = |part: &serde_json::Value| {
                let is_text = part.get("type")? == "text" && part.as_object()?.len() == 2;
                part.get("text")?.as_str().filter(|_| is_text).map(str::to_owned)
            };
            parts.iter().map(text).collect::<Option<Vec<_>>>()?.join("\n")
        }
        _ => return None,
    };
    (!text.trim().is_empty()).then(|| (format!("/messages/{}/content", elements.len() - 1), text))
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use http::{HeaderMap, HeaderValue};

    use super::*;
    use crate::request::Request;
    use crate::routing::routes::{Route, Rules};
    use crate::who::tests::principal;

    fn settings() -> Settings {
        Settings { model: "openai/text-embedding-3-small".into(), ..Settings::default() }
    }

    struct Asked {
        body: String,
        settings: Settings,
        headers: HeaderMap,
        control: Control,
        rules: Rules,
        principal: brokle_identity::Principal,
    }

    impl Asked {
        fn new(body: &str) -> Self {
            Self {
                body: body.into(),
                settings: settings(),
                headers: HeaderMap::new(),
                control: Control::default(),
                rules: Rules::default(),
                principal: principal(),
            }
        }

        fn question(&self) -> Option<Question> {
            let body = Bytes::copy_from_slice(self.body.as_bytes());
            let mut request = Request::read(Operation::ChatCompletions, body).unwrap();
            let rules = Some(Arc::new(self.rules.clone()));
            request.route = Some(Arc::new(Route { name: "r".into(), rules, ..Route::default() }));
            let said = Said { principal: &self.principal, headers: &self.headers, request: &request };
            Question::of(said, &self.settings, &self.control, None)
        }
    }

    const BODY: &str = r#"{"model":"m","temperature":0.5,"messages":[
        {"role":"system","content":"Be brief."},{"role":"user","content":"Who wrote Faust?"}]}"#;

    #[test]
    fn the_space_is_everything_but_the_question() {
        let asked = Asked::new(BODY);
        let question = asked.question().unwrap();
        assert_eq!(question.text, "Who wrote Faust?");
        let other = |from: &str, to: &str| {
            assert!(BODY.contains(from));
            let other =
                Asked { body: BODY.replace(from, to), principal: asked.principal.clone(), ..Asked::new("") };
            other.question().unwrap()
        };
        assert_eq!(other("Who wrote Faust?", "Faust: author?").space, question.space);
        let parts = r#"[{"type":"text","text":"Who wrote"},{"text":"Faust?","type":"text"}]"#;
        let parts = other("\"Who wrote Faust?\"", parts);
        assert_eq!((parts.space, parts.text.as_str()), (question.space, "Who wrote\nFaust?"));
        for (from, to) in [("brief", "long"), ("0.5", "0.6"), (r#""m""#, r#""n""#), ("system", "developer")] {
            assert_ne!(other(from, to).space, question.space, "{to}");
        }
        let named = |name: &'static str, per_user| {
            let mut asked = Asked { principal: asked.principal.clone(), ..Asked::new(BODY) };
            asked.settings.per_user = per_user;
            asked.headers.insert("x-brokle-user", HeaderValue::from_static(name));
            asked.question().unwrap().space
        };
        assert_eq!(named("ann", true), named("ann", true));
        assert_ne!(named("ann", true), named("bob", true));
        assert_eq!(named("ann", false), named("bob", false));
        assert_ne!(Asked::new(BODY).question().unwrap().space, question.space, "another tenant's");
    }

    #[test]
    fn only_plain_questions_are_compared() {
        let cool = Asked { settings: Settings { max_temperature: 0.4, ..settings() }, ..Asked::new(BODY) };
        assert_eq!(cool.question(), None);
        let unsaid = BODY.replace(r#""temperature":0.5,"#, "");
        assert_eq!(Asked { body: unsaid.clone(), ..cool }.question(), None, "it is 1 then");
        assert!(Asked::new(&unsaid).question().is_some());
        for (from, to) in [
            ("0.5", "1.5"),
            (r#""m","#, r#""m","tools":[{}],"#),
            (r#""m","#, r#""m","n":2,"#),
            (r#""role":"user""#, r#""role":"assistant""#),
            ("\"Who wrote Faust?\"", "\"  \""),
            ("\"Who wrote Faust?\"", r#"[{"type":"image_url","image_url":{"url":"https://x"}}]"#),
            ("\"Who wrote Faust?\"", r#"[{"type":"text","text":"x","cache_control":{}}]"#),
            ("\"Who wrote Faust?\"", "null"),
            ("Faust", &"x".repeat(9_000)),
        ] {
            assert!(BODY.contains(from));
            assert_eq!(Asked::new(&BODY.replace(from, to)).question(), None, "{to:.60}");
        }
        let never = Asked { rules: Rules { exact_only: true, ..Rules::default() }, ..Asked::new(BODY) };
        assert_eq!(never.question(), None);
    }

    #[test]
    fn a_caller_may_ask_for_less_and_a_route_for_anything() {
        let near = |control: Control, route: Option<u32>| {
            let mut asked = Asked { control, ..Asked::new(BODY) };
            asked.rules.semantic_threshold = route;
            asked.question().map(|question| question.threshold)
        };
        let control = |near| Control { near, ..Control::default() };
        assert_eq!(near(control(0.0), None), Some(0.95));
        assert_eq!(near(control(0.99), None), Some(0.99));
        assert_eq!(near(control(0.5), None), Some(0.95));
        assert_eq!(near(control(0.0), Some(800_000)), Some(0.8));
        assert_eq!(near(control(0.9), Some(800_000)), Some(0.9));
        assert_eq!(near(Control { exact_only: true, ..Control::default() }, None), None);
    }
}
