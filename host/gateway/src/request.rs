//! Reading a request: one scan, the hot fields, and the checks that need no vendor.

use std::ops::Range;
use std::sync::Arc;

use brokle_core::json::{self, Members};
use bytes::Bytes;

use crate::cache::Entry;
use crate::dialects::Dialected;
use crate::guardrails::Chain;
use crate::operation::Operation;
use crate::refusal::Refusal;
use crate::routing::preferences::Preferences;
use crate::routing::routes::{Route, Rules};
use brokle_runtime::Body;

/// A request that was scanned and checked, and what the gateway needs to know of it.
#[derive(Debug, Clone)]
pub(crate) struct Request {
    /// What is asked for.
    pub(crate) operation: Operation,
    /// The whole body, as components read it too; empty where it isn't read here.
    pub(crate) body: Body,
    /// The model as the caller wrote it.
    pub(crate) model: String,
    /// Whether a stream is wanted.
    pub(crate) streaming: bool,
    /// Whether the caller wants the usage chunk in its stream.
    pub(crate) include_usage: bool,
    /// The most tokens wanted back.
    pub(crate) max_output_tokens: Option<u64>,
    /// How many answers are wanted: `n`, 1 to 128.
    pub(crate) choices: u64,
    /// The `user` field.
    pub(crate) user: Option<String>,
    /// The `prompt_cache_key` field.
    pub(crate) prompt_cache_key: Option<String>,
    /// What the request needs, in the catalogue's words.
    pub(crate) features: Vec<String>,
    /// Where `provider` is, if it is an object.
    pub(crate) provider: Option<Range<usize>>,
    /// What it says of who may serve.
    pub(crate) preferences: Option<Arc<Preferences>>,
    /// The route that it is for.
    pub(crate) route: Option<Arc<Route>>,
    /// Those that have ruled on it, and will on its answer.
    pub(crate) guards: Option<Arc<Chain>>,
    /// The answer, if it is known.
    pub(crate) cached: Option<Arc<Entry>>,
    /// How it came, if not in the canonical form.
    pub(crate) dialect: Option<Dialected>,
}

/// What a top-level member must be, where the vendors agree. What isn't named here passes unchecked.
const TYPES: [(&str, &str); 25] = [
    ("audio", "object"),
    ("dimensions", "integer"),
    ("documents", "array"),
    ("encoding_format", "string"),
    ("frequency_penalty", "number"),
    ("logit_bias", "object"),
    ("logprobs", "boolean or integer"),
    ("max_completion_tokens", "integer"),
    ("max_tokens", "integer"),
    ("messages", "array"),
    ("metadata", "object"),
    ("modalities", "array"),
    ("n", "integer"),
    ("parallel_tool_calls", "boolean"),
    ("presence_penalty", "number"),
    ("response_format", "object"),
    ("seed", "integer"),
    ("stop", "string or array"),
    ("stream", "boolean"),
    ("stream_options", "object"),
    ("temperature", "number"),
    ("tools", "array"),
    ("top_logprobs", "integer"),
    ("top_p", "number"),
    ("user", "string"),
];

/// Who classifies where the caller names nobody.
const MODERATION_MODEL: &str = "omni-moderation-latest";

impl Request {
    /// Scans and checks a body.
    ///
    /// # Errors
    /// 400 with the field at fault.
    pub(crate) fn read(operation: Operation, body: Bytes) -> Result<Self, Refusal> {
        let mut model = None;
        let mut streaming = false;
        let mut speaks_events = false;
        let mut stream_options = None;
        let mut max_output_tokens = None;
        let mut choices = 1;
        let mut user = None;
        let mut prompt_cache_key = None;
        let mut features = Vec::new();
        let mut content = None;
        let mut provider = None;
        let mut wrong = None;
        let (mut messages, mut no_message) = (0, None);
        let message = |message: &[u8]| {
            if no_message.is_none() {
                no_message = check_message(messages, message).err();
            }
            messages += 1;
        };
        let member = |key: &str, range: Range<usize>| {
            let value = body.get(range.clone()).unwrap_or_default();
            if let Some(problem) = type_problem(key, value) {
                wrong.get_or_insert((key.to_owned(), problem));
            }
            match key {
                "model" => model = Some(range),
                "stream" => streaming = value == b"true",
                // Speech has another word for it.
                "stream_format" => speaks_events = value == b"\"sse\"",
                "stream_options" => stream_options = Some(range),
                "max_tokens" | "max_completion_tokens" => {
                    max_output_tokens = number(value).or(max_output_tokens);
                }
                "n" => choices = number(value).unwrap_or(1).clamp(1, 128),
                "user" => user = string(value),
                "provider" if value.starts_with(b"{") => provider = Some(range),
                "prompt_cache_key" => prompt_cache_key = string(value),
                "tools" if value != b"[]" && value != b"null" => features.push("tools".to_owned()),
                "response_format" if memchr::memmem::find(value, b"json_schema").is_some() => {
                    features.push("json_schema".to_owned());
                }
                "reasoning_effort" | "reasoning" if value != b"null" => features.push("reasoning".to_owned()),
                "messages" | "prompt" | "input" | "query" => content = Some((key.to_owned(), range)),
                _ => {}
            }
        };
        let read = object(&body, member, message)?;
        if let Some((param, expected)) = wrong {
            let message = format!("Invalid type for '{param}': expected {expected}.");
            return Err(Refusal { code: "invalid_type".into(), ..Refusal::invalid(param, message) });
        }
        let model = match (model, operation) {
            // OpenAI's own default, which its clients rely on.
            (None, Operation::Moderations) => MODERATION_MODEL.to_owned(),
            (model, _) => model_name(&body, model)?,
        };
        check_content(operation, &body, content, messages, no_message)?;
        if streaming && !operation.streams() {
            return Err(Refusal::invalid("stream", "This operation can't be streamed."));
        }
        let streaming = streaming || (operation == Operation::Speech && speaks_events);
        if operation == Operation::ChatCompletions && read.has_images {
            features.push("vision".to_owned());
        }
        let include_usage = stream_options
            .and_then(|range: Range<usize>| {
                json::find(body.get(range.clone())?, "/include_usage").map(|at| (range, at))
            })
            .is_some_and(|(range, at)| {
                body.get(range.start + at.start..range.start + at.end) == Some(b"true")
            });
        let guards = None;
        Ok(Self {
            operation,
            model,
            streaming,
            include_usage,
            max_output_tokens,
            choices,
            user,
            prompt_cache_key,
            features,
            body: Body::visited(body, read.members),
            provider,
            preferences: None,
            route: None,
            guards,
            cached: None,
            dialect: None,
        })
    }

    /// A call whose body isn't read here, to this model if that is known.
    pub(crate) fn unread(operation: Operation, model: &str, streaming: bool) -> Self {
        Self {
            operation,
            model: model.to_owned(),
            streaming,
            include_usage: true,
            max_output_tokens: None,
            choices: 1,
            user: None,
            prompt_cache_key: None,
            features: Vec::new(),
            provider: None,
            preferences: None,
            route: None,
            body: Body::json(Bytes::new()),
            guards: None,
            cached: None,
            dialect: None,
        }
    }

    /// Reads a form: where its parts are, and its fields `model`, `user` and `n`. Files stay where they are.
    ///
    /// # Errors
    /// 400 with the field at fault.
    pub(crate) fn read_form(
        operation: Operation,
        content_type: &str,
        bytes: &Bytes,
    ) -> Result<Self, Refusal> {
        let form = Body::form(content_type, bytes.clone()).map_err(|error| {
            let message = format!("We could not parse the form of your request: {error}.");
            Refusal { code: "invalid_form".into(), ..Refusal::invalid("", message) }
        })?;
        let field = |name: &str| form.form_field(name).map(|value| value.trim().to_owned());
        let missing = |param: &'static str| Refusal {
            code: "missing_required_parameter".into(),
            ..Refusal::invalid(param, format!("Missing required parameter: '{param}'."))
        };
        let model = field("model").ok_or_else(|| missing("model"))?;
        if model.is_empty() || model.len() > 256 {
            return Err(Refusal::invalid("model", "'model' must have 1 to 256 characters."));
        }
        if operation == Operation::ImageEdits && field("prompt").is_none() {
            return Err(missing("prompt"));
        }
        let streaming = field("stream").is_some_and(|stream| stream == "true");
        if streaming && !operation.streams() {
            return Err(Refusal::invalid("stream", "This operation can't be streamed."));
        }
        Ok(Self {
            operation,
            model,
            streaming,
            include_usage: false,
            max_output_tokens: None,
            choices: field("n").and_then(|n| n.parse().ok()).unwrap_or(1).clamp(1, 128),
            user: field("user"),
            prompt_cache_key: None,
            features: Vec::new(),
            body: form,
            provider: None,
            preferences: None,
            route: None,
            guards: None,
            cached: None,
            dialect: None,
        })
    }

    /// Finds the route that it is for, and reads what it says of who may serve.
    ///
    /// # Errors
    /// What `find` says; 400 for a preference that can't be fulfilled.
    pub(crate) fn choose(
        &mut self,
        find: impl FnOnce(&str) -> Result<Option<Arc<Route>>, Refusal>,
    ) -> Result<(), Refusal> {
        self.route = find(&self.model)?;
        // In a dialect it is a member like any other.
        if let Some(range) = self.provider.take().filter(|_| self.dialect.is_none()) {
            self.preferences = Some(Arc::new(Preferences::read(self.body.bytes(), range)?));
        }
        Ok(())
    }

    /// What its route says beside its candidates.
    pub(crate) fn rules(&self) -> Option<&Rules> {
        self.route.as_ref()?.rules.as_deref()
    }

    /// Whether it came as `multipart/form-data`.
    pub(crate) fn is_form(&self) -> bool {
        self.body.as_form().is_some()
    }

    /// A guess at the prompt's tokens: four bytes each.
    pub(crate) fn estimated_tokens(&self) -> u64 {
        self.body.bytes().len() as u64 / 4
    }
}

/// No API has a tenth as many, and what is noted of each takes ten times the room of the shortest.
const MOST_MEMBERS: usize = 1024;
/// Three times the tokens that OpenAI takes in one request for embeddings. Guardrails and the cache read a body as a tree, in which
/// each takes sixteen times the room of the shortest.
const MOST_VALUES: usize = 1 << 20;

/// What one look at a body tells beside its members' values.
#[derive(Debug, Default)]
pub(crate) struct Read {
    pub(crate) members: Members,
    /// Whether a part is an image, by OpenAI's word for it.
    has_images: bool,
}

/// Reads a request's members, and what is in its `messages`: it must be a JSON object, and have no member twice.
///
/// # Errors
/// 400 with the field at fault.
pub(crate) fn object(
    body: &[u8],
    member: impl FnMut(&str, Range<usize>),
    message: impl FnMut(&[u8]),
) -> Result<Read, Refusal> {
    struct Reading<'a, F, G> {
        body: &'a [u8],
        told: F,
        message: G,
        names: json::Names<'a>,
        twice: Option<&'a [u8]>,
        count: usize,
        values: usize,
        read: Read,
    }

    impl<F: FnMut(&str, Range<usize>), G: FnMut(&[u8])> json::Visitor for Reading<'_, F, G> {
        fn member(&mut self, key: Range<usize>, value: Range<usize>) {
            self.count += 1;
            if self.count > MOST_MEMBERS {
                return;
            }
            let raw = self.body.get(key.clone()).unwrap_or_default();
            let name = json::name(raw);
            (self.told)(&name, value.clone());
            if !self.names.insert(name) {
                self.twice.get_or_insert(raw);
            }
            self.read.members.member(key, value);
        }

        fn element(&mut self, key: Range<usize>, value: Range<usize>) {
            if self.body.get(key).is_some_and(|key| json::same_key(key, "messages")) {
                (self.message)(self.body.get(value).unwrap_or_default());
            }
        }

        fn key(&mut self, raw: &[u8]) {
            self.read.has_images |= raw == b"image_url";
        }

        fn value(&mut self) {
            self.values += 1;
        }
    }

    let (names, twice, read) = (json::Names::default(), None, Read::default());
    let mut reading = Reading { body, told: member, message, names, twice, count: 0, values: 0, read };
    let whole = json::visit(body, &mut reading).map_err(|error| not_json(body, error))?;
    if body.get(whole.start) != Some(&b'{') {
        return Err(Refusal::invalid("", "The request's body must be a JSON object."));
    }
    if reading.count > MOST_MEMBERS || reading.values > MOST_VALUES {
        let message = format!(
            "The request's body has more than {MOST_MEMBERS} members, or {MOST_VALUES} values in all of them."
        );
        return Err(Refusal { code: "too_many_values".into(), ..Refusal::invalid("", message) });
    }
    let Some(raw) = reading.twice else { return Ok(reading.read) };
    let name: String = json::name(raw).chars().take(64).collect();
    let message = format!("'{name}' is there twice, and which of the two counts would be up to the reader.");
    Err(Refusal { code: "duplicate_member".into(), ..Refusal::invalid(name, message) })
}

fn not_json(body: &[u8], error: json::ScanError) -> Refusal {
    let path = json::path_at(body, error.offset);
    // An index alone names nothing: the body isn't even an object.
    let param = if path.starts_with('[') { String::new() } else { path };
    let message = format!("We could not parse the JSON body of your request: {error}.");
    Refusal { code: "invalid_json".into(), ..Refusal::invalid(param, message) }
}

/// What a value must be instead, if it is of the wrong type. Null is as good as absent.
pub(crate) fn type_problem(key: &str, value: &[u8]) -> Option<&'static str> {
    let (_, expected) = TYPES.get(TYPES.binary_search_by_key(&key, |(name, _)| name).ok()?)?;
    let first = *value.first()?;
    if first == b'n' {
        return None;
    }
    let digit = first == b'-' || first.is_ascii_digit();
    // 1.0 and 1e3 are integers to some clients.
    let whole = |text: &str| text.parse::<f64>().is_ok_and(|n| n.fract() == 0.0);
    let integer = digit && std::str::from_utf8(value).is_ok_and(whole);
    let fits = match *expected {
        "object" => first == b'{',
        "array" => first == b'[',
        "string" => first == b'"',
        "boolean" => first == b't' || first == b'f',
        "number" => digit,
        "integer" => integer,
        "string or array" => first == b'"' || first == b'[',
        _ => first == b't' || first == b'f' || integer,
    };
    (!fits).then_some(*expected)
}

fn model_name(body: &[u8], range: Option<Range<usize>>) -> Result<String, Refusal> {
    let missing = || Refusal {
        code: "missing_required_parameter".into(),
        ..Refusal::invalid("model", "Missing required parameter: 'model'.")
    };
    let value = body.get(range.ok_or_else(missing)?).unwrap_or_default();
    let Some(name) = string(value) else {
        let message = "Invalid type for 'model': expected string.";
        return Err(Refusal { code: "invalid_type".into(), ..Refusal::invalid("model", message) });
    };
    match name.trim().is_empty() || name.len() > 256 {
        true => Err(Refusal::invalid("model", "'model' must have 1 to 256 characters.")),
        false => Ok(name),
    }
}

fn check_content(
    operation: Operation,
    body: &[u8],
    content: Option<(String, Range<usize>)>,
    messages: usize,
    no_message: Option<Refusal>,
) -> Result<(), Refusal> {
    let required = match operation {
        Operation::ChatCompletions => "messages",
        Operation::Completions => "prompt",
        Operation::Embeddings | Operation::Moderations | Operation::Speech => "input",
        Operation::ImageGenerations => "prompt",
        Operation::Rerank => "query",
        // Forms are read elsewhere.
        Operation::ImageEdits | Operation::Transcriptions | Operation::Translations => return Ok(()),
        // Never read here: its body is the dialect's.
        Operation::CountTokens | Operation::Realtime | Operation::Raw => return Ok(()),
    };
    let missing = || Refusal {
        code: "missing_required_parameter".into(),
        ..Refusal::invalid(required, format!("Missing required parameter: '{required}'."))
    };
    let range = content.filter(|(key, _)| key == required).map(|(_, range)| range).ok_or_else(missing)?;
    let value = body.get(range).unwrap_or_default();
    if value == b"null" {
        return Err(missing());
    }
    if operation != Operation::ChatCompletions {
        let only_text =
            matches!(operation, Operation::Speech | Operation::ImageGenerations | Operation::Rerank);
        return match value.first() {
            Some(b'"') => Ok(()),
            Some(b'[') if !only_text => Ok(()),
            _ if only_text => {
                let message = format!("Invalid type for '{required}': expected string.");
                Err(Refusal { code: "invalid_type".into(), ..Refusal::invalid(required, message) })
            }
            _ => {
                let message = format!("Invalid type for '{required}': expected string or array.");
                Err(Refusal { code: "invalid_type".into(), ..Refusal::invalid(required, message) })
            }
        };
    }
    if messages == 0 {
        return Err(Refusal {
            code: "empty_array".into(),
            ..Refusal::invalid("messages", "Invalid 'messages': expected at least one message.")
        });
    }
    no_message.map_or(Ok(()), Err)
}

/// An element of `messages`.
fn check_message(index: usize, message: &[u8]) -> Result<(), Refusal> {
    let role = json::find(message, "/role").and_then(|range| message.get(range)).unwrap_or_default();
    let (param, code, expected) = match (message.first(), role.first()) {
        (Some(b'{'), Some(b'"')) => return Ok(()),
        (Some(b'{'), None) => (format!("messages[{index}].role"), "missing_required_parameter", "a string"),
        (Some(b'{'), _) => (format!("messages[{index}].role"), "invalid_type", "a string"),
        _ => (format!("messages[{index}]"), "invalid_type", "an object"),
    };
    let message = format!("Invalid '{param}': expected {expected}.");
    Err(Refusal { code: code.into(), ..Refusal::invalid(param, message) })
}

fn string(value: &[u8]) -> Option<String> {
    serde_json::from_slice(value).ok()
}

fn number(value: &[u8]) -> Option<u64> {
    serde_json::from_slice(value).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(operation: Operation, body: &str) -> (u16, String, String) {
        let refusal = Request::read(operation, Bytes::copy_from_slice(body.as_bytes())).unwrap_err();
        (refusal.status, refusal.code.into_owned(), refusal.param.unwrap_or_default())
    }

    #[test]
    fn the_types_are_sorted_for_the_search() {
        assert!(TYPES.is_sorted_by_key(|(name, _)| *name));
    }

    #[test]
    fn the_hot_fields_are_read() {
        let body = r#"{"model":"gpt-4o","stream":true,"stream_options":{"include_usage":true},"max_tokens":5,
            "user":"u\u0031","messages":[{"role":"user","content":"hi"}],"tools":[{}],"unknown":{"deep":[1]}}"#;
        let request = Request::read(Operation::ChatCompletions, body.into()).unwrap();
        assert_eq!(
            (request.model.as_str(), request.streaming, request.include_usage),
            ("gpt-4o", true, true)
        );
        assert_eq!((request.max_output_tokens, request.user.as_deref()), (Some(5), Some("u1")));
        assert_eq!(request.features, ["tools"]);
    }

    #[test]
    fn each_bad_request_names_its_field() {
        let chat = |body: &str| refused(Operation::ChatCompletions, body);
        let is = |code: &str, param: &str| (400, code.to_owned(), param.to_owned());
        assert_eq!(chat(r#"{"messages":[]}"#), is("missing_required_parameter", "model"));
        assert_eq!(chat(r#"{"model":7,"messages":[]}"#), is("invalid_type", "model"));
        assert_eq!(chat(r#"{"model":"m"}"#), is("missing_required_parameter", "messages"));
        assert_eq!(chat(r#"{"model":"m","messages":"hi"}"#), is("invalid_type", "messages"));
        assert_eq!(chat(r#"{"model":"m","messages":[]}"#), is("empty_array", "messages"));
        assert_eq!(chat(r#"{"model":"m","messages":[1]}"#), is("invalid_type", "messages[0]"));
        assert_eq!(
            chat(r#"{"model":"m","messages":[{"role":"user"},{"content":"x"}]}"#),
            is("missing_required_parameter", "messages[1].role")
        );
        assert_eq!(
            chat(r#"{"model":"m","temperature":"hot","messages":[{}]}"#),
            is("invalid_type", "temperature")
        );
        assert_eq!(chat(r#"{"model":"m","n":1.5,"messages":[{}]}"#), is("invalid_type", "n"));
        assert_eq!(
            chat(r#"{"model":"m","messages":[{"role":"user","content":"\u0000"}]}"#),
            is("invalid_json", "messages[0].content")
        );
        assert_eq!(chat(&"[".repeat(100_000)).1, "invalid_json");
        assert_eq!(chat("[]").0, 400);
        assert_eq!(refused(Operation::Embeddings, r#"{"model":"m","input":5}"#), is("invalid_type", "input"));
        assert_eq!(
            refused(Operation::Embeddings, r#"{"model":"m","input":"x","stream":true}"#),
            is("invalid_request", "stream")
        );
    }
}
