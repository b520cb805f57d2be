//! From Bedrock's answer to the canonical one.
//!
//! `Converse` answers in one document, `ConverseStream` in events; both come to the same deltas. Thinking is
//! `reasoning_content`, and, with its signatures, `thinking_blocks` in Anthropic's form, which the next request gives back;
//! `thinking_blocks` and `citations` come once and whole, before the finish reason. Calls of the vendor's own tools, their
//! results and other kinds of blocks aren't passed on. What a guardrail did is the choice's `guardrail_trace`.

mod event;
mod stream;
mod whole;

use alloc::borrow::ToOwned;
use alloc::string::String;
use alloc::vec::Vec;

use brokle_plugin::Problem;
use brokle_plugin::provider::{Call, Frame, Output};
use serde_json::{Map, Value, json};
use shared_canonical::{Chat, Usage};

use crate::ANSWER_TOOL;
use event::TokenUsage;
use stream::Open;
pub(crate) use whole::whole;

/// One answer so far.
pub(crate) struct AnswerDecoder {
    streaming: bool,
    chat: Chat,
    /// Blocks that have begun and not ended, by the vendor's index.
    open: alloc::collections::BTreeMap<u32, Open>,
    calls: usize,
    /// Whether the tool that stands in for a schema was called.
    answered: bool,
    thinking_blocks: Vec<Value>,
    citations: Vec<Value>,
    stop_reason: Option<String>,
    usage: Option<Usage>,
    trace: Option<Value>,
    begun: bool,
    complete: bool,
}

impl AnswerDecoder {
    pub(crate) fn new(call: &Call) -> Self {
        Self {
            streaming: call.streaming,
            chat: Chat::new(call),
            open: alloc::collections::BTreeMap::new(),
            calls: 0,
            answered: false,
            thinking_blocks: Vec::new(),
            citations: Vec::new(),
            stop_reason: None,
            usage: None,
            trace: None,
            begun: false,
            complete: false,
        }
    }

    /// Takes the whole answer, or one event.
    pub(crate) fn frame(&mut self, frame: &Frame, outputs: &mut Vec<Output>) -> Result<(), Problem> {
        match (self.complete, self.streaming) {
            (true, _) => Ok(()),
            (false, true) => self.event(&frame.event, &frame.data, outputs),
            (false, false) => self.document(&frame.data, outputs),
        }
    }

    /// The answer has ended: a stream whose last event, which has the counts, didn't come has none.
    pub(crate) fn finish(&mut self, outputs: &mut Vec<Output>) -> Result<(), Problem> {
        match (self.complete, self.stop_reason.is_some()) {
            (true, _) => {}
            (false, true) => self.end(outputs),
            (false, false) => return Err(Problem::bad_answer("it ended before the message did")),
        }
        Ok(())
    }

    fn count(&mut self, usage: Option<TokenUsage>, outputs: &mut Vec<Output>) {
        self.usage = usage.map(|usage| usage.canonical());
        outputs.extend(self.usage.as_ref().map(Usage::entries));
    }

    fn begin(&mut self, outputs: &mut Vec<Output>) {
        if !core::mem::replace(&mut self.begun, true) {
            self.chat.begin(outputs);
        }
    }

    fn thought(&mut self, text: &str, signature: &str) {
        // Not every maker signs: a signature that wasn't there must not come back.
        self.thinking_blocks.push(match signature.is_empty() {
            true => json!({"type": "thinking", "thinking": text}),
            false => json!({"type": "thinking", "thinking": text, "signature": signature}),
        });
    }

    fn redacted(&mut self, data: &str) {
        self.thinking_blocks.push(json!({"type": "redacted_thinking", "data": data}));
    }

    /// The number of a call that begins; none for the one that is the answer.
    fn call(&mut self, id: &str, name: &str, arguments: &str, outputs: &mut Vec<Output>) -> Option<usize> {
        if name == ANSWER_TOOL {
            self.answered = true;
            self.chat.text("content", arguments, outputs);
            return None;
        }
        let number = self.calls;
        self.calls += 1;
        self.chat.call(number, id, name, arguments, outputs);
        Some(number)
    }

    fn end(&mut self, outputs: &mut Vec<Output>) {
        self.complete = true;
        self.begin(outputs);
        let lists = [("thinking_blocks", &mut self.thinking_blocks), ("citations", &mut self.citations)];
        for (name, list) in lists {
            if !list.is_empty() {
                self.chat.delta(name, &core::mem::take(list), outputs);
            }
        }
        let native = self.stop_reason.take().unwrap_or_else(|| "end_turn".to_owned());
        let reason = match native.as_str() {
            "tool_use" if self.calls == 0 && self.answered => "stop",
            "tool_use" => "tool_calls",
            "max_tokens" | "model_context_window_exceeded" => "length",
            "guardrail_intervened" | "content_filtered" => "content_filter",
            // end_turn, stop_sequence, malformed_model_output, malformed_tool_use, and what may come.
            _ => "stop",
        };
        let mut more = Map::new();
        more.extend(self.trace.take().map(|trace| ("guardrail_trace".to_owned(), trace)));
        self.chat.end((reason, &native), more, self.usage.as_ref(), outputs);
    }
}

#[cfg(test)]
mod tests;
