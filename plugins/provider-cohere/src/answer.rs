//! Chat answers, whole and streamed.
//!
//! Blocks and events become deltas: text, thinking (`reasoning_content`), calls. A whole answer is its deltas joined.
//! `tool_plan` (why the calls are made) and `citations` come once and whole, before the last chunk; a caller gives them
//! back as they are. Counts are the billed ones where the vendor says them: without what it adds to a prompt itself.

use alloc::borrow::{Cow, ToOwned};
use alloc::collections::BTreeMap;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use brokle_plugin::provider::{Call, Output};
use brokle_plugin::{Problem, ProblemKind, UsageEntry};
use serde::Deserialize;
use serde_json::{Map, Value, json};

/// One answer so far.
pub(crate) struct AnswerDecoder {
    streaming: bool,
    created: u64,
    model: String,
    id: String,
    tool_plan: String,
    citations: Vec<Value>,
    /// The calls' numbers, by the vendor's index.
    calls: BTreeMap<u32, usize>,
    message: Map<String, Value>,
    complete: bool,
}

#[derive(Deserialize)]
struct Event<'a> {
    #[serde(rename = "type", borrow, default)]
    kind: Cow<'a, str>,
    #[serde(default)]
    id: Option<String>,
    #[serde(default)]
    index: u32,
    #[serde(borrow, default)]
    delta: Option<Delta<'a>>,
    /// Of a whole answer.
    #[serde(borrow, default)]
    message: Option<Message<'a>>,
    #[serde(borrow, default)]
    finish_reason: Option<Cow<'a, str>>,
    #[serde(default)]
    usage: Option<Usage>,
}

#[derive(Deserialize)]
struct Delta<'a> {
    #[serde(borrow, default)]
    message: Option<Message<'a>>,
    #[serde(borrow, default)]
    finish_reason: Option<Cow<'a, str>>,
    #[serde(default)]
    usage: Option<Usage>,
    #[serde(borrow, default)]
    error: Option<Cow<'a, str>>,
}

/// Lists where the answer is whole, single things in a stream.
#[derive(Deserialize)]
#[serde(untagged)]
enum OneOrMany<T> {
    Many(Vec<T>),
    One(T),
}

impl<T> OneOrMany<T> {
    fn into_vec(self) -> Vec<T> {
        match self {
            Self::Many(all) => all,
            Self::One(one) => Vec::from([one]),
        }
    }
}

#[derive(Deserialize)]
struct Message<'a> {
    #[serde(borrow, default)]
    content: Option<OneOrMany<Block<'a>>>,
    #[serde(borrow, default)]
    tool_plan: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    tool_calls: Option<OneOrMany<ToolCall<'a>>>,
    #[serde(default)]
    citations: Option<OneOrMany<Value>>,
}

#[derive(Deserialize)]
struct Block<'a> {
    #[serde(borrow, default)]
    text: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    thinking: Option<Cow<'a, str>>,
}

#[derive(Deserialize)]
struct ToolCall<'a> {
    #[serde(default)]
    id: Option<String>,
    #[serde(borrow, default)]
    function: Option<Function<'a>>,
}

#[derive(Deserialize)]
struct Function<'a> {
    #[serde(default)]
    name: Option<String>,
    #[serde(borrow, default)]
    arguments: Option<Cow<'a, str>>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Usage {
    billed_units: Tokens,
    tokens: Tokens,
    cached_tokens: Option<f64>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Tokens {
    input_tokens: Option<f64>,
    output_tokens: Option<f64>,
}

/// The vendor writes whole numbers as `3.0` here and there.
fn count(one: Option<f64>, other: Option<f64>) -> u64 {
    one.or(other).filter(|count| (0.0..1e15).contains(count)).unwrap_or(0.0) as u64
}

/// The outputs of a whole answer.
pub(crate) fn whole(data: &[u8], created: u64, model: &str) -> Result<Vec<Output>, Problem> {
    let mut decoder = AnswerDecoder::begin(false, created, model, "");
    let mut outputs = Vec::new();
    decoder.document(data, &mut outputs)?;
    Ok(outputs)
}

impl AnswerDecoder {
    pub(crate) fn new(call: &Call) -> Self {
        Self::begin(call.streaming, call.created, &call.model, &call.request_id)
    }

    fn begin(streaming: bool, created: u64, model: &str, request_id: &str) -> Self {
        Self {
            streaming,
            created,
            model: model.to_owned(),
            id: format!("chatcmpl-{request_id}"),
            tool_plan: String::new(),
            citations: Vec::new(),
            calls: BTreeMap::new(),
            message: Map::new(),
            complete: false,
        }
    }

    pub(crate) fn is_complete(&self) -> bool {
        self.complete
    }

    /// Takes the whole answer, or one event.
    pub(crate) fn document(&mut self, data: &[u8], outputs: &mut Vec<Output>) -> Result<(), Problem> {
        if self.complete || data == b"[DONE]" {
            return Ok(());
        }
        let event: Event<'_> = serde_json::from_slice(data).map_err(Problem::bad_answer)?;
        self.id = event.id.unwrap_or_else(|| core::mem::take(&mut self.id));
        if !self.streaming {
            let message = event.message.ok_or_else(|| Problem::bad_answer("it has no message"))?;
            self.start(outputs);
            self.message(message, None, outputs);
            let reason = event.finish_reason.unwrap_or(Cow::Borrowed("COMPLETE"));
            self.end(&reason, &event.usage.unwrap_or_default(), None, outputs);
            return Ok(());
        }
        match (event.kind.as_ref(), event.delta) {
            ("message-start", _) => self.start(outputs),
            ("message-end", Some(delta)) => {
                let reason = delta.finish_reason.unwrap_or(Cow::Borrowed("COMPLETE"));
                self.end(&reason, &delta.usage.unwrap_or_default(), delta.error.as_deref(), outputs);
            }
            (_, Some(Delta { message: Some(message), .. })) => {
                self.message(message, Some(event.index), outputs);
            }
            // Ends of blocks, and what may come.
            _ => {}
        }
        Ok(())
    }

    fn start(&mut self, outputs: &mut Vec<Output>) {
        let content = if self.streaming { json!("") } else { Value::Null };
        self.delta([("role", json!("assistant")), ("content", content)], outputs);
    }

    /// What a message, or the piece of one at an index, has.
    fn message(&mut self, message: Message<'_>, index: Option<u32>, outputs: &mut Vec<Output>) {
        for block in message.content.map(OneOrMany::into_vec).into_iter().flatten() {
            for (name, text) in [("reasoning_content", block.thinking), ("content", block.text)] {
                if let Some(text) = text.filter(|text| !text.is_empty()) {
                    self.delta([(name, json!(text))], outputs);
                }
            }
        }
        self.tool_plan.push_str(message.tool_plan.as_deref().unwrap_or_default());
        self.citations.extend(message.citations.map(OneOrMany::into_vec).into_iter().flatten());
        let calls = message.tool_calls.map(OneOrMany::into_vec).into_iter().flatten();
        for (position, call) in calls.enumerate() {
            let at = index.unwrap_or_else(|| u32::try_from(position).unwrap_or(u32::MAX));
            self.call(at, call, outputs);
        }
    }

    fn call(&mut self, at: u32, call: ToolCall<'_>, outputs: &mut Vec<Output>) {
        let next = self.calls.len();
        let number = *self.calls.entry(at).or_insert(next);
        let function = call.function;
        let arguments =
            function.as_ref().and_then(|function| function.arguments.as_deref()).unwrap_or_default();
        let made = match (call.id, function.as_ref().and_then(|function| function.name.as_deref())) {
            (Some(id), Some(name)) => json!({
                "index": number, "id": id, "type": "function", "function": {"name": name, "arguments": arguments},
            }),
            _ => json!({"index": number, "function": {"arguments": arguments}}),
        };
        self.delta([("tool_calls", json!([made]))], outputs);
    }

    fn end(&mut self, reason: &str, usage: &Usage, error: Option<&str>, outputs: &mut Vec<Output>) {
        self.complete = true;
        let input = count(usage.billed_units.input_tokens, usage.tokens.input_tokens);
        let output = count(usage.billed_units.output_tokens, usage.tokens.output_tokens);
        let cached = count(usage.cached_tokens, None).min(input);
        let entries = [("input", input), ("output", output), ("cached_read", cached)];
        let entries = entries.into_iter().filter(|(kind, amount)| *kind != "cached_read" || *amount > 0);
        let entry = |(kind, amount): (&str, u64)| UsageEntry { kind: kind.to_string(), amount };
        outputs.push(Output::Usage(entries.map(entry).collect()));
        if matches!(reason, "ERROR" | "TIMEOUT") {
            let kind = if reason == "TIMEOUT" { ProblemKind::Timeout } else { ProblemKind::Upstream };
            let message =
                error.map_or_else(|| format!("Cohere ended its answer with {reason}."), ToOwned::to_owned);
            outputs.push(Output::Failure(Problem::new(kind, message)));
            return;
        }
        if !self.tool_plan.is_empty() {
            let plan = core::mem::take(&mut self.tool_plan);
            self.delta([("tool_plan", json!(plan))], outputs);
        }
        if !self.citations.is_empty() {
            let citations = core::mem::take(&mut self.citations);
            self.delta([("citations", citations.into())], outputs);
        }
        let usage = json!({
            "prompt_tokens": input, "completion_tokens": output, "total_tokens": input.saturating_add(output),
            "prompt_tokens_details": {"cached_tokens": cached},
        });
        let mut choice = json!({
            "index": 0, "logprobs": null, "finish_reason": finish_reason(reason), "native_finish_reason": reason,
        });
        let Some(members) = choice.as_object_mut() else { return };
        if self.streaming {
            members.insert("delta".to_owned(), json!({}));
            outputs.push(self.chunk(&json!([choice]), None));
            outputs.push(self.chunk(&json!([]), Some(usage)));
            return;
        }
        self.message.entry("refusal").or_insert(Value::Null);
        members.insert("message".to_owned(), core::mem::take(&mut self.message).into());
        outputs.push(Output::json(&json!({
            "id": self.id, "object": "chat.completion", "created": self.created, "model": self.model,
            "choices": [choice], "usage": usage,
        })));
    }

    /// Says what is new, or keeps it for the whole message.
    fn delta<const N: usize>(&mut self, delta: [(&str, Value); N], outputs: &mut Vec<Output>) {
        if self.streaming {
            let delta: Map<String, Value> =
                delta.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
            let choice = json!({"index": 0, "delta": delta, "logprobs": null, "finish_reason": null});
            outputs.push(self.chunk(&json!([choice]), None));
            return;
        }
        for (name, value) in delta {
            join(&mut self.message, name, value);
        }
    }

    fn chunk(&self, choices: &Value, usage: Option<Value>) -> Output {
        let mut chunk = json!({
            "id": self.id, "object": "chat.completion.chunk", "created": self.created, "model": self.model,
            "choices": choices,
        });
        if let (Some(chunk), Some(usage)) = (chunk.as_object_mut(), usage) {
            chunk.insert("usage".to_owned(), usage);
        }
        Output::json(&chunk)
    }
}

/// Joins a delta to the message: texts are appended, calls added, everything else is taken as it last came.
fn join(message: &mut Map<String, Value>, name: &str, value: Value) {
    match (name, value) {
        ("content" | "reasoning_content", Value::String(more)) => match message.get_mut(name) {
            Some(Value::String(text)) => text.push_str(&more),
            _ => drop(message.insert(name.to_owned(), more.into())),
        },
        ("tool_calls", Value::Array(mut calls)) => {
            calls.iter_mut().filter_map(Value::as_object_mut).for_each(|call| drop(call.remove("index")));
            match message.get_mut(name) {
                Some(Value::Array(made)) => made.extend(calls),
                _ => drop(message.insert(name.to_owned(), calls.into())),
            }
        }
        (_, value) => drop(message.insert(name.to_owned(), value)),
    }
}

/// OpenAI's finish reason for the vendor's; the vendor's own goes along as `native_finish_reason`.
fn finish_reason(native: &str) -> &'static str {
    match native {
        "MAX_TOKENS" => "length",
        "TOOL_CALL" => "tool_calls",
        // COMPLETE, STOP_SEQUENCE, and what may come.
        _ => "stop",
    }
}
