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
        let content = if self.streaming { json!("") } else { Value::Null };
        self.delta([("role", json!("assistant")), ("content", content)], outputs);
    }

    /// More of a text: `content` or `reasoning_content`. Nothing for an empty one.
    pub fn text(&mut self, name: &str, text: &str, outputs: &mut Vec<Output>) {
        if !text.is_empty() {
            self.delta([(name, json!(text))], outputs);
        }
    }

    /// The beginning of a call, with what is known of its arguments.
    pub fn call(&mut self, number: usize, id: &str, name: &str, arguments: &str, outputs: &mut Vec<Output>) {
        let call = json!({
            "index": number, "id": id, "type": "function", "function": {"name": name, "arguments": arguments},
        });
        self.delta([("tool_calls", json!([call]))], outputs);
    }

    /// More of a call's arguments.
    pub fn arguments(&mut self, number: usize, arguments: &str, outputs: &mut Vec<Output>) {
        let call = json!({"index": number, "function": {"arguments": arguments}});
        self.delta([("tool_calls", json!([call]))], outputs);
    }

    /// Says what is new, or keeps it for the whole message.
    pub fn delta<const N: usize>(&mut self, delta: [(&str, Value); N], outputs: &mut Vec<Output>) {
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
            outputs.push(self.chunk(&json!([choice]), None));
            outputs.extend(usage.map(|usage| self.chunk(&json!([]), Some(usage))));
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
