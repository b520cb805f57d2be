//! Chat answers: one line when whole, many in a stream, each with what is new. The last has `done` and the counts.

use alloc::borrow::{Cow, ToOwned};
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use brokle_plugin::provider::{Call, Output};
use brokle_plugin::{Problem, ProblemKind, UsageEntry};
use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Map, Value, json};

/// One answer so far.
pub(crate) struct AnswerDecoder {
    streaming: bool,
    created: u64,
    request_id: String,
    model: String,
    calls: u32,
    begun: bool,
    complete: bool,
    message: Map<String, Value>,
}

#[derive(Deserialize)]
struct Line<'a> {
    #[serde(default)]
    model: Option<String>,
    #[serde(borrow, default)]
    message: Option<Message<'a>>,
    #[serde(default)]
    done: bool,
    #[serde(borrow, default)]
    done_reason: Option<Cow<'a, str>>,
    #[serde(default)]
    prompt_eval_count: u64,
    #[serde(default)]
    eval_count: u64,
    #[serde(default)]
    error: Option<String>,
}

#[derive(Deserialize)]
struct Message<'a> {
    #[serde(borrow, default)]
    content: Cow<'a, str>,
    #[serde(borrow, default)]
    thinking: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    tool_calls: Option<Vec<ToolCall<'a>>>,
}

#[derive(Deserialize)]
struct ToolCall<'a> {
    #[serde(borrow)]
    function: Function<'a>,
}

#[derive(Deserialize)]
struct Function<'a> {
    name: String,
    #[serde(borrow, default)]
    arguments: Option<&'a RawValue>,
}

impl AnswerDecoder {
    pub(crate) fn new(call: &Call) -> Self {
        Self {
            streaming: call.streaming,
            created: call.created,
            request_id: call.request_id.clone(),
            model: call.model.clone(),
            calls: 0,
            begun: false,
            complete: false,
            message: Map::new(),
        }
    }

    pub(crate) fn is_complete(&self) -> bool {
        self.complete
    }

    pub(crate) fn line(&mut self, data: &[u8], outputs: &mut Vec<Output>) -> Result<(), Problem> {
        if self.complete {
            return Ok(());
        }
        let line: Line<'_> = serde_json::from_slice(data).map_err(Problem::bad_answer)?;
        if let Some(error) = line.error {
            self.complete = true;
            outputs.push(Output::Failure(Problem::new(ProblemKind::Upstream, error)));
            return Ok(());
        }
        self.model = line.model.unwrap_or_else(|| core::mem::take(&mut self.model));
        if !self.begun {
            self.begun = true;
            self.delta([("role", json!("assistant")), ("content", json!(""))], outputs);
        }
        if let Some(message) = line.message {
            if let Some(thinking) = message.thinking.filter(|text| !text.is_empty()) {
                self.delta([("reasoning_content", json!(thinking))], outputs);
            }
            if !message.content.is_empty() {
                self.delta([("content", json!(message.content))], outputs);
            }
            for call in message.tool_calls.into_iter().flatten() {
                let made = json!({
                    "index": self.calls, "id": format!("call_{}_{}", self.request_id, self.calls), "type": "function",
                    "function": {"name": call.function.name, "arguments": call.function.arguments.map_or("{}", RawValue::get)},
                });
                self.calls += 1;
                self.delta([("tool_calls", json!([made]))], outputs);
            }
        }
        if line.done {
            let reason = line.done_reason.unwrap_or(Cow::Borrowed("stop"));
            self.end(&reason, line.prompt_eval_count, line.eval_count, outputs);
        }
        Ok(())
    }

    fn end(&mut self, native: &str, input: u64, output: u64, outputs: &mut Vec<Output>) {
        self.complete = true;
        let entry = |kind: &str, amount| UsageEntry { kind: kind.to_string(), amount };
        outputs.push(Output::Usage(Vec::from([entry("input", input), entry("output", output)])));
        let reason = match native {
            "length" => "length",
            _ if self.calls > 0 => "tool_calls",
            _ => "stop",
        };
        let usage = json!({
            "prompt_tokens": input, "completion_tokens": output, "total_tokens": input.saturating_add(output),
        });
        let mut choice = json!({
            "index": 0, "logprobs": null, "finish_reason": reason, "native_finish_reason": native,
        });
        let Some(members) = choice.as_object_mut() else { return };
        if self.streaming {
            members.insert("delta".to_owned(), json!({}));
            outputs.push(self.document("chat.completion.chunk", &json!([choice]), None));
            outputs.push(self.document("chat.completion.chunk", &json!([]), Some(usage)));
            return;
        }
        self.message.insert("refusal".to_owned(), Value::Null);
        members.insert("message".to_owned(), core::mem::take(&mut self.message).into());
        outputs.push(self.document("chat.completion", &json!([choice]), Some(usage)));
    }

    /// Says what is new, or keeps it for the whole message.
    fn delta<const N: usize>(&mut self, delta: [(&str, Value); N], outputs: &mut Vec<Output>) {
        if self.streaming {
            let delta: Map<String, Value> =
                delta.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
            let choice = json!({"index": 0, "delta": delta, "logprobs": null, "finish_reason": null});
            outputs.push(self.document("chat.completion.chunk", &json!([choice]), None));
            return;
        }
        for (name, value) in delta {
            match (self.message.get_mut(name), value) {
                (Some(Value::Array(made)), Value::Array(mut calls)) => {
                    calls
                        .iter_mut()
                        .filter_map(Value::as_object_mut)
                        .for_each(|call| drop(call.remove("index")));
                    made.extend(calls);
                }
                (None, Value::Array(mut calls)) => {
                    calls
                        .iter_mut()
                        .filter_map(Value::as_object_mut)
                        .for_each(|call| drop(call.remove("index")));
                    self.message.insert(name.to_owned(), calls.into());
                }
                (_, value) => drop(self.message.insert(name.to_owned(), value)),
            }
        }
    }

    fn document(&self, object: &str, choices: &Value, usage: Option<Value>) -> Output {
        let mut document = json!({
            "id": format!("chatcmpl-{}", self.request_id), "object": object, "created": self.created,
            "model": self.model, "choices": choices,
        });
        if let (Some(members), Some(usage)) = (document.as_object_mut(), usage) {
            members.insert("usage".to_owned(), usage);
        }
        Output::json(&document)
    }
}
