//! The streamed answer: a state machine over the vendor's events.
//!
//! `message_start` gives the first chunk (the role) and the input's count; deltas of text,
//! thinking and calls give a chunk each; thinking blocks, citations and server tools' blocks are
//! gathered and given once, before the last chunk. `message_stop` gives the chunk with the finish
//! reason and the one with the usage. An `error` event is the end. Other events are let pass: the
//! API's versioning policy allows new ones.

use alloc::borrow::ToOwned;
use alloc::boxed::Box;
use alloc::string::String;
use alloc::vec::Vec;

use alloc::collections::BTreeMap;

use brokle_plugin::Problem;
use brokle_plugin::provider::Output;
use serde_json::value::{RawValue, to_raw_value};

use super::canonical::{Chunk, ChunkChoice, Delta, FunctionDelta, Kept, ToolCallDelta};
use super::event::{self, Block, Event};
use super::usage::{CanonicalUsage, Usage};

/// One streamed answer so far.
#[derive(Debug)]
pub(crate) struct Stream {
    created: u64,
    id: String,
    model: String,
    usage: Usage,
    /// Blocks that have begun and not ended, by the vendor's index.
    open: BTreeMap<u32, Open>,
    tool_calls: u32,
    thinking_blocks: Vec<Box<RawValue>>,
    citations: Vec<Box<RawValue>>,
    anthropic_blocks: Vec<Box<RawValue>>,
    stop_reason: Option<String>,
    stop_sequence: Option<String>,
    complete: bool,
}

/// A block in the making.
#[derive(Debug)]
enum Open {
    Text,
    Thinking {
        thinking: String,
        signature: String,
    },
    /// `input` is what stood at the start, for a call whose arguments don't come in deltas.
    ToolUse {
        index: u32,
        input: String,
        any_delta: bool,
    },
    /// One that is kept as it is; `input` is what came in deltas.
    Kept {
        start: Box<RawValue>,
        input: String,
        thinking: bool,
    },
}

impl Stream {
    pub(crate) fn new(created: u64) -> Self {
        Self {
            created,
            id: String::new(),
            model: String::new(),
            usage: Usage::default(),
            open: BTreeMap::new(),
            tool_calls: 0,
            thinking_blocks: Vec::new(),
            citations: Vec::new(),
            anthropic_blocks: Vec::new(),
            stop_reason: None,
            stop_sequence: None,
            complete: false,
        }
    }

    /// Whether `message_stop` (or an error, which ends it as well) has come.
    pub(crate) fn is_complete(&self) -> bool {
        self.complete
    }

    /// Takes one event.
    pub(crate) fn event(&mut self, data: &[u8], outputs: &mut Vec<Output>) -> Result<(), Problem> {
        if self.complete || data.is_empty() {
            return Ok(());
        }
        let event: Event<'_> = serde_json::from_slice(data).map_err(Problem::bad_answer)?;
        match event.kind.as_ref() {
            "message_start" => {
                let message =
                    event.message.ok_or_else(|| Problem::bad_answer("'message_start' has no message"))?;
                (self.id, self.model) = (message.id, message.model);
                self.count(&message.usage, outputs);
                outputs.push(self.delta(Delta {
                    role: Some("assistant"),
                    content: Some(""),
                    ..Delta::default()
                }));
            }
            "content_block_start" => {
                let raw = event
                    .content_block
                    .ok_or_else(|| Problem::bad_answer("a block starts without a block"))?;
                self.begin(event.index, raw, outputs)?;
            }
            "content_block_delta" => {
                let delta = event.delta.ok_or_else(|| Problem::bad_answer("a delta has no delta"))?;
                self.more(event.index, &delta, outputs);
            }
            "content_block_stop" => self.end(event.index, outputs)?,
            "message_delta" => {
                if let Some(delta) = event.delta {
                    self.stop_reason = delta.stop_reason.or(self.stop_reason.take());
                    self.stop_sequence = delta.stop_sequence.or(self.stop_sequence.take());
                }
                self.count(&event.usage.unwrap_or_default(), outputs);
            }
            "message_stop" => self.stop(outputs),
            "error" => {
                let error = event.error.ok_or_else(|| Problem::bad_answer("an error without an error"))?;
                self.complete = true;
                outputs.push(Output::Failure(crate::error::from_error(&error)));
            }
            // ping, and what may come.
            _ => {}
        }
        Ok(())
    }

    fn count(&mut self, usage: &Usage, outputs: &mut Vec<Output>) {
        self.usage.update(usage);
        outputs.push(Output::Usage(self.usage.entries()));
    }

    fn begin(&mut self, index: u32, raw: &RawValue, outputs: &mut Vec<Output>) -> Result<(), Problem> {
        let block: Block<'_> = serde_json::from_str(raw.get()).map_err(Problem::bad_answer)?;
        let open = match block.kind.as_str() {
            "text" => {
                self.citations.extend(block.citations.into_iter().flatten().map(ToOwned::to_owned));
                self.text(&block.text, outputs);
                Open::Text
            }
            "thinking" => {
                self.thinking(&block.thinking, outputs);
                Open::Thinking {
                    thinking: block.thinking.into_owned(),
                    signature: block.signature.into_owned(),
                }
            }
            "tool_use" => {
                let call = self.tool_calls;
                self.tool_calls += 1;
                let function = FunctionDelta { name: Some(&block.name), arguments: "" };
                outputs.push(self.call(call, Some(&block.id), function));
                let input = block.input.map_or("{}", |input| input.get()).to_owned();
                Open::ToolUse { index: call, input, any_delta: false }
            }
            kind => Open::Kept {
                start: raw.to_owned(),
                input: String::new(),
                thinking: kind == "redacted_thinking",
            },
        };
        self.open.insert(index, open);
        Ok(())
    }

    fn more(&mut self, index: u32, delta: &event::Delta<'_>, outputs: &mut Vec<Output>) {
        let mut call = None;
        match (delta.kind.as_ref(), self.open.get_mut(&index)) {
            ("citations_delta", _) => self.citations.extend(delta.citation.map(ToOwned::to_owned)),
            ("thinking_delta", Some(Open::Thinking { thinking, .. })) => thinking.push_str(&delta.thinking),
            ("signature_delta", Some(Open::Thinking { signature, .. })) => {
                signature.push_str(&delta.signature);
            }
            ("input_json_delta", Some(Open::ToolUse { index, any_delta, .. }))
                if !delta.partial_json.is_empty() =>
            {
                *any_delta = true;
                call = Some(*index);
            }
            ("input_json_delta", Some(Open::Kept { input, .. })) => input.push_str(&delta.partial_json),
            _ => {}
        }
        self.text(&delta.text, outputs);
        self.thinking(&delta.thinking, outputs);
        if let Some(call) = call {
            outputs.push(self.call(call, None, FunctionDelta { name: None, arguments: &delta.partial_json }));
        }
    }

    fn end(&mut self, index: u32, outputs: &mut Vec<Output>) -> Result<(), Problem> {
        match self.open.remove(&index) {
            Some(Open::Thinking { thinking, signature }) => {
                let block =
                    serde_json::json!({"type": "thinking", "thinking": thinking, "signature": signature});
                self.thinking_blocks.push(to_raw_value(&block).map_err(Problem::bad_answer)?);
            }
            Some(Open::ToolUse { index, input, any_delta: false }) => {
                outputs.push(self.call(index, None, FunctionDelta { name: None, arguments: &input }));
            }
            Some(Open::Kept { start, thinking: true, .. }) => self.thinking_blocks.push(start),
            Some(Open::Kept { start, input, .. }) if input.is_empty() => self.anthropic_blocks.push(start),
            Some(Open::Kept { start, input, .. }) => {
                let mut block: serde_json::Map<_, _> =
                    serde_json::from_str(start.get()).map_err(Problem::bad_answer)?;
                block.insert("input".to_owned(), serde_json::from_str(&input).map_err(Problem::bad_answer)?);
                self.anthropic_blocks.push(to_raw_value(&block).map_err(Problem::bad_answer)?);
            }
            Some(Open::Text | Open::ToolUse { .. }) | None => {}
        }
        Ok(())
    }

    fn stop(&mut self, outputs: &mut Vec<Output>) {
        self.complete = true;
        let kept = Kept {
            thinking_blocks: self.thinking_blocks.iter().map(AsRef::as_ref).collect(),
            citations: self.citations.iter().map(AsRef::as_ref).collect(),
            anthropic_blocks: self.anthropic_blocks.iter().map(AsRef::as_ref).collect(),
        };
        if !kept.is_empty() {
            outputs.push(self.delta(Delta { kept, ..Delta::default() }));
        }
        let stop_reason = self.stop_reason.as_deref().unwrap_or("end_turn");
        let last = ChunkChoice {
            index: 0,
            delta: Delta::default(),
            logprobs: (),
            finish_reason: Some(super::finish_reason(stop_reason)),
            native_finish_reason: Some(stop_reason),
            stop_sequence: self.stop_sequence.as_deref(),
        };
        outputs.push(self.chunk(&[last], None));
        outputs.push(self.chunk(&[], Some(self.usage.canonical())));
    }

    fn text(&self, text: &str, outputs: &mut Vec<Output>) {
        if !text.is_empty() {
            outputs.push(self.delta(Delta { content: Some(text), ..Delta::default() }));
        }
    }

    fn thinking(&self, thinking: &str, outputs: &mut Vec<Output>) {
        if !thinking.is_empty() {
            outputs.push(self.delta(Delta { reasoning_content: Some(thinking), ..Delta::default() }));
        }
    }

    fn call(&self, index: u32, id: Option<&str>, function: FunctionDelta<'_>) -> Output {
        let call = ToolCallDelta { index, id, kind: id.map(|_| "function"), function };
        self.delta(Delta { tool_calls: Some([call]), ..Delta::default() })
    }

    fn delta(&self, delta: Delta<'_>) -> Output {
        let choice = ChunkChoice {
            index: 0,
            delta,
            logprobs: (),
            finish_reason: None,
            native_finish_reason: None,
            stop_sequence: None,
        };
        self.chunk(&[choice], None)
    }

    fn chunk(&self, choices: &[ChunkChoice<'_>], usage: Option<CanonicalUsage>) -> Output {
        Output::json(&Chunk {
            id: &self.id,
            object: "chat.completion.chunk",
            created: self.created,
            model: &self.model,
            choices,
            usage,
        })
    }
}
