//! A chat answer in the making, whole or streamed.
//!
//! What the vendor says becomes deltas. Streamed, each is a chunk; a whole answer is its deltas joined, so that the two
//! can't differ. A stream ends with the chunk that has the finish reason, then the one that has the usage.

use alloc::borrow::ToOwned;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use brokle_plugin::UsageEntry;
use brokle_plugin::provider::{Call, Output};
use serde::{Serialize, Serializer};
use serde_json::{Map, Value, json};

/// One answer so far.
#[derive(Debug)]
pub struct Chat {
    streaming: bool,
    created: u64,
    id: String,
    model: String,
    /// A whole answer's.
    message: Map<String, Value>,
}

/// A call's token counts, as the canonical form has them: wholes, and the parts that are in them.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Usage {
    /// All prompt tokens.
    pub input: u64,
    /// All completion tokens.
    pub output: u64,
    /// Prompt tokens out of a cache.
    pub cached_read: u64,
    /// Prompt tokens that went into one.
    pub cache_write: u64,
}

/// A piece of a stream. There is one for each of the vendor's events, so that none is built as a tree first. Members, here
/// and below, are in the order of their names, as they are in the trees that whole answers are.
#[derive(Serialize)]
struct Chunk<'a, C> {
    choices: C,
    created: u64,
    id: &'a str,
    model: &'a str,
    object: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    usage: Option<Value>,
}

/// The one answer in a chunk, not ended.
#[derive(Serialize)]
struct Choice<D> {
    delta: D,
    finish_reason: (),
    index: u32,
    logprobs: (),
}

impl<D> Choice<D> {
    fn new(delta: D) -> Self {
        Self { delta, finish_reason: (), index: 0, logprobs: () }
    }
}

#[derive(Serialize)]
struct Beginning {
    content: &'static str,
    role: &'static str,
}

/// An object with one member.
struct One<'a, T: ?Sized>(&'a str, &'a T);

impl<T: Serialize + ?Sized> Serialize for One<'_, T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map([(self.0, self.1)])
    }
}

#[derive(Serialize)]
struct CallDelta<'a> {
    function: FunctionDelta<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<&'a str>,
    index: usize,
    #[serde(rename = "type", skip_serializing_if = "Option::is_none")]
    kind: Option<&'static str>,
}

#[derive(Serialize)]
struct FunctionDelta<'a> {
    arguments: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<&'a str>,
}

impl Usage {
    /// For accounting. Parts of zero are left out.
    pub fn entries(&self) -> Output {
        let parts = [("cached_read", self.cached_read), ("cache_write", self.cache_write)];
        let wholes = [("input", self.input), ("output", self.output)];
        let all = wholes.into_iter().chain(parts.into_iter().filter(|(_, amount)| *amount > 0));
        Output::Usage(all.map(|(kind, amount)| UsageEntry { kind: kind.to_owned(), amount }).collect())
    }

    /// For the caller.
    pub fn canonical(&self) -> Value {
        json!({
            "prompt_tokens": self.input,
            "completion_tokens": self.output,
            "total_tokens": self.input.saturating_add(self.output),
            "prompt_tokens_details": {"cached_tokens": self.cached_read, "cache_write_tokens": self.cache_write},
        })
    }
}

impl Chat {
    /// An answer to this call, with an id and a model of ours until the vendor says its own.
    pub fn new(call: &Call) -> Self {
        Self {
            streaming: call.streaming,
            created: call.created,
            id: format!("chatcmpl-{}", call.request_id),
            model: call.model.clone(),
            message: Map::new(),
        }
    }

    /// The vendor's own id.
    pub fn identify(&mut self, id: &str) {
        id.clone_into(&mut self.id);
    }

    /// The role, with which every answer begins.
    pub fn begin(&mut self, outputs: &mut Vec<Output>) {
        if self.streaming {
            outputs.push(self.chunk([Choice::new(Beginning { content: "", role: "assistant" })], None));
            return;
        }
        self.message.insert("role".to_owned(), json!("assistant"));
        self.message.insert("content".to_owned(), Value::Null);
    }

    /// More of a text: `content` or `reasoning_content`. Nothing for an empty one.
    pub fn text(&mut self, name: &str, text: &str, outputs: &mut Vec<Output>) {
        if !text.is_empty() {
            self.delta(name, text, outputs);
        }
    }

    /// The beginning of a call, with what is known of its arguments.
    pub fn call(&mut self, number: usize, id: &str, name: &str, arguments: &str, outputs: &mut Vec<Output>) {
        let function = FunctionDelta { arguments, name: Some(name) };
        let call = CallDelta { function, id: Some(id), index: number, kind: Some("function") };
        self.delta("tool_calls", &[call], outputs);
    }

    /// More of a call's arguments.
    pub fn arguments(&mut self, number: usize, arguments: &str, outputs: &mut Vec<Output>) {
        let function = FunctionDelta { arguments, name: None };
        let call = CallDelta { function, id: None, index: number, kind: None };
        self.delta("tool_calls", &[call], outputs);
    }

    /// Says what is new, or keeps it for the whole message.
    pub fn delta<T: Serialize + ?Sized>(&mut self, name: &str, new: &T, outputs: &mut Vec<Output>) {
        if self.streaming {
            outputs.push(self.chunk([Choice::new(One(name, new))], None));
        } else if let Ok(new) = serde_json::to_value(new) {
            join(&mut self.message, name, new);
        }
    }

    /// The end: OpenAI's finish reason, the vendor's own, further members of the choice, and the counts, where the vendor
    /// says them.
    pub fn end(
        &mut self,
        (finish_reason, native): (&str, &str),
        more: Map<String, Value>,
        usage: Option<&Usage>,
        outputs: &mut Vec<Output>,
    ) {
        let mut choice = more;
        choice.insert("index".to_owned(), json!(0));
        choice.insert("logprobs".to_owned(), Value::Null);
        choice.insert("finish_reason".to_owned(), json!(finish_reason));
        choice.insert("native_finish_reason".to_owned(), json!(native));
        let usage = usage.map(Usage::canonical);
        if self.streaming {
            choice.insert("delta".to_owned(), json!({}));
            outputs.push(self.chunk([choice], None));
            outputs.extend(usage.map(|usage| self.chunk([(); 0], Some(usage))));
            return;
        }
        self.message.entry("refusal").or_insert(Value::Null);
        choice.insert("message".to_owned(), core::mem::take(&mut self.message).into());
        let mut whole = json!({
            "id": self.id, "object": "chat.completion", "created": self.created, "model": self.model,
            "choices": [choice],
        });
        if let (Some(whole), Some(usage)) = (whole.as_object_mut(), usage) {
            whole.insert("usage".to_owned(), usage);
        }
        outputs.push(Output::json(&whole));
    }

    fn chunk(&self, choices: impl Serialize, usage: Option<Value>) -> Output {
        Output::json(&Chunk {
            choices,
            created: self.created,
            id: &self.id,
            model: &self.model,
            object: "chat.completion.chunk",
            usage,
        })
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
