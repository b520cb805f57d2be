//! Answers in which the model's thinking is called `reasoning`, or stands among the parts of the content: it becomes
//! `reasoning_content`.
//!
//! A document or chunk without it keeps its bytes. Both names in one message: it stays as it is.

mod parts;

use alloc::collections::BTreeMap;
use alloc::string::ToString;
use alloc::vec;
use alloc::vec::Vec;

use brokle_plugin::provider::{Call, Decoder, Ending, Frame, Output, ResponseHead};
use brokle_plugin::{Problem, UsageEntry};
use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::Value;
use serde_json::value::RawValue;

use crate::error;
use parts::Thinking;

/// One answer, whole or streamed.
#[derive(Debug)]
pub(crate) struct Rewriting {
    streaming: bool,
    complete: bool,
    /// `[DONE]` has come.
    done: bool,
    /// By the choices' indices.
    thinking: BTreeMap<u64, Thinking>,
}

/// A document or a chunk, as far as it is looked at.
#[derive(Deserialize)]
struct Glance<'a> {
    #[serde(default)]
    #[serde(borrow)]
    choices: Option<Vec<Choice<'a>>>,
    #[serde(default)]
    usage: Option<Usage>,
    #[serde(borrow, default)]
    error: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct Choice<'a> {
    #[serde(default)]
    finish_reason: Option<IgnoredAny>,
    #[serde(borrow, default)]
    message: Option<Message<'a>>,
    #[serde(borrow, default)]
    delta: Option<Message<'a>>,
}

#[derive(Deserialize)]
struct Message<'a> {
    #[serde(default)]
    reasoning: Option<IgnoredAny>,
    #[serde(borrow, default)]
    content: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct Usage {
    #[serde(default)]
    prompt_tokens: Option<u64>,
    #[serde(default)]
    completion_tokens: Option<u64>,
    #[serde(default)]
    prompt_tokens_details: Option<Details>,
    #[serde(default)]
    completion_tokens_details: Option<Details>,
}

#[derive(Deserialize)]
struct Details {
    #[serde(default)]
    cached_tokens: Option<u64>,
    #[serde(default)]
    audio_tokens: Option<u64>,
    #[serde(default)]
    reasoning_tokens: Option<u64>,
}

impl Decoder for Rewriting {
    fn new(call: Call, _head: ResponseHead, _state: Vec<u8>) -> Self {
        Self { streaming: call.streaming, complete: false, done: false, thinking: BTreeMap::new() }
    }

    fn push(&mut self, frames: Vec<Frame>) -> Result<Vec<Output>, Problem> {
        let mut outputs = Vec::with_capacity(frames.len());
        for frame in frames {
            match frame.data.as_slice() {
                b"" => {}
                // Whatever follows it isn't the answer's.
                _ if self.done => {}
                b"[DONE]" => (self.complete, self.done) = (true, true),
                _ => self.document(frame.data, &mut outputs)?,
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

impl Rewriting {
    fn document(&mut self, data: Vec<u8>, outputs: &mut Vec<Output>) -> Result<(), Problem> {
        let glance: Glance<'_> = serde_json::from_slice(&data).map_err(Problem::bad_answer)?;
        let choices = glance.choices.as_deref();
        if let Some(error) =
            glance.error.filter(|error| error.get() != "null" && choices.is_none_or(<[_]>::is_empty))
        {
            let error: Value = serde_json::from_str(error.get()).map_err(Problem::bad_answer)?;
            outputs.push(Output::Failure(error::in_stream(&error)));
            self.complete = true;
            return Ok(());
        }
        let choices = choices.unwrap_or_default();
        self.complete |= !self.streaming || choices.iter().any(|choice| choice.finish_reason.is_some());
        if let Some(usage) = &glance.usage {
            let entries = usage.entries();
            if !entries.is_empty() {
                outputs.push(Output::Usage(entries));
            }
        }
        let is_other = |message: &Message<'_>| {
            message.reasoning.is_some()
                || message.content.is_some_and(|content| content.get().starts_with('['))
        };
        let any = |choice: &Choice<'_>| [&choice.message, &choice.delta].into_iter().flatten().any(is_other);
        // What was gathered goes with a finish reason.
        let is_owed = choices.iter().any(|choice| choice.finish_reason.is_some())
            && self.thinking.values().any(|thinking| !thinking.is_empty());
        let chunk = match is_owed || choices.iter().any(any) {
            true => self.rewritten(&data)?,
            false => data,
        };
        outputs.push(Output::Chunk(chunk));
        Ok(())
    }

    /// The document with the thinking under its canonical name.
    fn rewritten(&mut self, data: &[u8]) -> Result<Vec<u8>, Problem> {
        let mut document: Value = serde_json::from_slice(data).map_err(Problem::bad_answer)?;
        let choices = document.get_mut("choices").and_then(Value::as_array_mut);
        for choice in choices.into_iter().flatten() {
            let index = choice.get("index").and_then(Value::as_u64).unwrap_or(0);
            let is_last = !self.streaming || choice.get("finish_reason").is_some_and(|why| !why.is_null());
            for place in ["message", "delta"] {
                let Some(message) = choice.get_mut(place).and_then(Value::as_object_mut) else { continue };
                self.thinking.entry(index).or_default().take(message, self.streaming, is_last);
                if message.get("reasoning_content").is_some_and(|value| !value.is_null()) {
                    continue;
                }
                if let Some(thinking) = message.remove("reasoning") {
                    message.insert("reasoning_content".to_string(), thinking);
                }
            }
        }
        serde_json::to_vec(&document).map_err(Problem::bad_answer)
    }
}

impl Usage {
    fn entries(&self) -> Vec<UsageEntry> {
        let prompt = |of: fn(&Details) -> Option<u64>| self.prompt_tokens_details.as_ref().and_then(of);
        let completion =
            |of: fn(&Details) -> Option<u64>| self.completion_tokens_details.as_ref().and_then(of);
        let counts = vec![
            ("input", self.prompt_tokens),
            ("output", self.completion_tokens),
            ("cached_read", prompt(|details| details.cached_tokens).filter(|count| *count > 0)),
            ("reasoning", completion(|details| details.reasoning_tokens).filter(|count| *count > 0)),
            ("audio_input", prompt(|details| details.audio_tokens).filter(|count| *count > 0)),
            ("audio_output", completion(|details| details.audio_tokens).filter(|count| *count > 0)),
        ];
        let entry = |(kind, amount): (&str, Option<u64>)| {
            Some(UsageEntry { kind: kind.to_string(), amount: amount? })
        };
        counts.into_iter().filter_map(entry).collect()
    }
}
