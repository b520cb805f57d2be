//! Answers: OpenAI's form, but for thinking, which is a part of the content, and three names.
//!
//! A document or chunk is rewritten, not rebuilt: what isn't known here stays. In a stream the counts come in the last
//! chunk; they are given in one of their own, as at OpenAI.

use alloc::borrow::ToOwned;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use brokle_plugin::provider::{Call, Decoder, Ending, Frame, Output, ResponseHead};
use brokle_plugin::{Problem, ProblemKind, UsageEntry};
use serde_json::{Map, Value, json};

/// One answer, whole or streamed.
pub(crate) struct AnswerDecoder {
    streaming: bool,
    complete: bool,
    /// `[DONE]` has come.
    done: bool,
}

/// The outputs of a whole answer.
///
/// # Errors
/// It can't be understood.
pub(crate) fn whole(data: &[u8]) -> Result<Vec<Output>, Problem> {
    let mut outputs = Vec::new();
    AnswerDecoder::begin(false).document(data, &mut outputs)?;
    Ok(outputs)
}

impl Decoder for AnswerDecoder {
    fn new(call: Call, _head: ResponseHead, _state: Vec<u8>) -> Self {
        Self::begin(call.streaming)
    }

    fn push(&mut self, frames: Vec<Frame>) -> Result<Vec<Output>, Problem> {
        let mut outputs = Vec::with_capacity(frames.len());
        for frame in frames {
            match frame.data.as_slice() {
                b"" => {}
                // Whatever follows it isn't the answer's.
                _ if self.done => {}
                b"[DONE]" => (self.complete, self.done) = (true, true),
                data => self.document(data, &mut outputs)?,
            }
        }
        Ok(outputs)
    }

    fn finish(&mut self) -> Result<Ending, Problem> {
        match self.complete {
            true => Ok(Ending { outputs: Vec::new(), next: None }),
            false => Err(Problem::bad_answer("it ended before the message did")),
        }
    }
}

impl AnswerDecoder {
    fn begin(streaming: bool) -> Self {
        Self { streaming, complete: false, done: false }
    }

    fn document(&mut self, data: &[u8], outputs: &mut Vec<Output>) -> Result<(), Problem> {
        let mut document: Map<String, Value> = serde_json::from_slice(data).map_err(Problem::bad_answer)?;
        if document.get("object").is_some_and(|object| object == "error")
            || document.get("error").is_some_and(|error| !error.is_null())
        {
            self.complete = true;
            let told = document.get("message").or_else(|| document.get("error")?.get("message"));
            let message =
                told.and_then(Value::as_str).unwrap_or("Mistral reported a failure inside its answer.");
            outputs.push(Output::Failure(Problem::new(ProblemKind::Upstream, message)));
            return Ok(());
        }
        let place = if self.streaming { "delta" } else { "message" };
        let choices = document.get_mut("choices").and_then(Value::as_array_mut);
        for choice in choices.into_iter().flatten().filter_map(Value::as_object_mut) {
            if let Some(message) = choice.get_mut(place).and_then(Value::as_object_mut) {
                content(message);
                calls(message, self.streaming);
            }
            let native = choice.get("finish_reason").and_then(Value::as_str).map(ToOwned::to_owned);
            if let Some(native) = native {
                self.complete = true;
                if native == "model_length" {
                    choice.insert("finish_reason".to_owned(), json!("length"));
                }
                choice.insert("native_finish_reason".to_owned(), native.into());
            }
        }
        self.complete |= !self.streaming;
        let usage = document.get("usage").filter(|usage| usage.is_object()).cloned();
        if let Some(usage) = &usage {
            outputs.push(Output::Usage(entries(usage)));
        }
        if !self.streaming {
            outputs.push(Output::json(&document));
            return Ok(());
        }
        document.remove("usage");
        outputs.push(Output::json(&document));
        if let Some(usage) = usage {
            document.insert("choices".to_owned(), json!([]));
            document.insert("usage".to_owned(), usage);
            outputs.push(Output::json(&document));
        }
        Ok(())
    }
}

/// Parts become texts: what was thought, and what is said.
fn content(message: &mut Map<String, Value>) {
    let Some(Value::Array(parts)) = message.get("content") else { return };
    let (mut said, mut thought) = (String::new(), String::new());
    for part in parts {
        let text = |part: &Value| part.get("text").and_then(Value::as_str).unwrap_or_default().to_owned();
        match part.get("thinking") {
            Some(Value::Array(inner)) => inner.iter().for_each(|part| thought.push_str(&text(part))),
            Some(Value::String(inner)) => thought.push_str(inner),
            _ => said.push_str(&text(part)),
        }
    }
    message.insert(
        "content".to_owned(),
        if said.is_empty() && !thought.is_empty() { Value::Null } else { said.into() },
    );
    if !thought.is_empty() {
        message.insert("reasoning_content".to_owned(), thought.into());
    }
}

/// Calls have their type, arguments are text, and only a stream's have an index.
fn calls(message: &mut Map<String, Value>, streaming: bool) {
    let Some(Value::Array(calls)) = message.get_mut("tool_calls") else { return };
    for (index, call) in calls.iter_mut().filter_map(Value::as_object_mut).enumerate() {
        call.insert("type".to_owned(), json!("function"));
        match streaming {
            true => drop(call.entry("index").or_insert_with(|| json!(index))),
            false => drop(call.remove("index")),
        }
        let arguments = call.get_mut("function").and_then(|function| function.get_mut("arguments"));
        if let Some(arguments) = arguments.filter(|arguments| arguments.is_object()) {
            *arguments = arguments.to_string().into();
        }
    }
}

/// Counts of zero are left out, but for the two wholes.
fn entries(usage: &Value) -> Vec<UsageEntry> {
    let count = |place: &str| usage.pointer(place).and_then(Value::as_u64).unwrap_or(0);
    let cached = count("/prompt_tokens_details/cached_tokens").max(count("/num_cached_tokens"));
    let all = [
        ("input", count("/prompt_tokens")),
        ("output", count("/completion_tokens")),
        ("cached_read", cached),
    ];
    all.into_iter()
        .filter(|(kind, amount)| *kind != "cached_read" || *amount > 0)
        .map(|(kind, amount)| UsageEntry { kind: kind.to_string(), amount })
        .collect()
}
