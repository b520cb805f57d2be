//! From a canonical stream to Anthropic's events.
//!
//! One block is open at a time. A text, a thought or a call that begins closes what was open before. Signed thinking,
//! which the canonical form has at its end, comes as blocks of its own: a block that was streamed has no signature.

use alloc::collections::BTreeMap;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use brokle_plugin::Problem;
use brokle_plugin::dialect::answer::{Call as ToolCall, Chunk, ChunkChoice, Usage as Canonical};
use brokle_plugin::dialect::{self, Call, event};
use serde::Serialize;
use serde_json::value::RawValue;

use crate::answer::{Block, Made, Message, Usage, id, stop_reason};

#[derive(Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
enum Event<'a> {
    MessageStart { message: Message<'a> },
    Ping,
    ContentBlockStart { index: u32, content_block: Start<'a> },
    ContentBlockDelta { index: u32, delta: Delta<'a> },
    ContentBlockStop { index: u32 },
    MessageDelta { delta: Stop<'a>, usage: Usage },
    MessageStop,
}

#[derive(Serialize)]
#[serde(untagged)]
enum Start<'a> {
    Raw(&'a RawValue),
    Block(Block),
}

#[derive(Serialize)]
#[serde(tag = "type")]
enum Delta<'a> {
    #[serde(rename = "text_delta")]
    Text { text: &'a str },
    #[serde(rename = "thinking_delta")]
    Thinking { thinking: &'a str },
    #[serde(rename = "signature_delta")]
    Signature { signature: &'a str },
    #[serde(rename = "input_json_delta")]
    InputJson { partial_json: &'a str },
}

#[derive(Serialize)]
struct Stop<'a> {
    stop_reason: &'static str,
    stop_sequence: Option<&'a str>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Open {
    Text,
    Thinking,
    Tool(u32),
}

/// One stream.
pub(crate) struct Encoder {
    request_id: String,
    thinks: bool,
    model: String,
    begun: bool,
    open: Option<(Open, u32)>,
    next: u32,
    /// The block of each call that has begun.
    calls: BTreeMap<u32, u32>,
    usage: Canonical,
    finish: Option<String>,
    native: Option<String>,
    sequence: Option<String>,
    out: Vec<u8>,
}

impl dialect::Encoder for Encoder {
    fn new(call: Call, state: Vec<u8>) -> Self {
        Self {
            request_id: call.request_id,
            thinks: !state.is_empty(),
            model: String::new(),
            begun: false,
            open: None,
            next: 0,
            calls: BTreeMap::new(),
            usage: Canonical::default(),
            finish: None,
            native: None,
            sequence: None,
            out: Vec::new(),
        }
    }

    fn push(&mut self, chunks: Vec<Vec<u8>>) -> Result<Vec<u8>, Problem> {
        for chunk in &chunks {
            let chunk = Chunk::parse(chunk)?;
            if self.model.is_empty() {
                self.model = chunk.model;
            }
            // One about the prompt alone (Azure's first) doesn't say who answers.
            if !chunk.choices.is_empty() {
                self.begin();
            }
            if let Some(usage) = chunk.usage {
                self.usage = usage;
            }
            // A message is one answer.
            for choice in chunk.choices.into_iter().filter(|choice| choice.index == 0) {
                self.choice(choice);
            }
        }
        Ok(core::mem::take(&mut self.out))
    }

    fn finish(&mut self) -> Result<Vec<u8>, Problem> {
        self.begin();
        if self.next == 0 {
            self.start(Open::Text, Block::Made(Made::Text { text: String::new() }));
        }
        self.close();
        let calling = !self.calls.is_empty();
        let stop_reason = stop_reason(self.finish.as_deref(), self.native.as_deref(), calling);
        let stop = Stop { stop_reason, stop_sequence: self.sequence.as_deref() };
        let usage = Usage::of(&self.usage);
        event(&mut self.out, "message_delta", &Event::MessageDelta { delta: stop, usage });
        event(&mut self.out, "message_stop", &Event::MessageStop);
        Ok(core::mem::take(&mut self.out))
    }

    fn failed(&mut self, status: u16, problem: &Problem) -> Vec<u8> {
        crate::error::in_stream(&mut self.out, status, problem);
        core::mem::take(&mut self.out)
    }
}

impl Encoder {
    fn begin(&mut self) {
        if core::mem::replace(&mut self.begun, true) {
            return;
        }
        let message = Message {
            id: id(&self.request_id),
            kind: "message",
            role: "assistant",
            model: &self.model,
            content: Vec::new(),
            stop_reason: None,
            stop_sequence: None,
            usage: Usage::default(),
        };
        event(&mut self.out, "message_start", &Event::MessageStart { message });
        event(&mut self.out, "ping", &Event::Ping);
    }

    fn choice(&mut self, choice: ChunkChoice) {
        let said = choice.delta;
        if self.thinks
            && let Some(thinking) = said.reasoning_content.filter(|text| !text.is_empty())
        {
            let empty = Made::Thinking { thinking: String::new(), signature: "" };
            let index = self.to(Open::Thinking, Block::Made(empty));
            self.delta(index, Delta::Thinking { thinking: &thinking });
        }
        for text in [said.content, said.refusal].into_iter().flatten().filter(|text| !text.is_empty()) {
            let index = self.to(Open::Text, Block::Made(Made::Text { text: String::new() }));
            self.delta(index, Delta::Text { text: &text });
        }
        for call in said.tool_calls.into_iter().flatten() {
            self.call(call);
        }
        for block in said.thinking_blocks.into_iter().flatten() {
            self.signed(&block);
        }
        self.finish = choice.finish_reason.or(self.finish.take());
        self.native = choice.native_finish_reason.or(self.native.take());
        self.sequence = choice.stop_sequence.or(self.sequence.take());
    }

    fn call(&mut self, call: ToolCall) {
        let index = match self.calls.get(&call.index) {
            Some(index) => *index,
            None => {
                let id = call.id.unwrap_or_else(|| format!("toolu_{}_{}", self.request_id, call.index));
                let name = call.function.name.unwrap_or_default();
                let input = crate::answer::input("");
                let index = self.to(Open::Tool(call.index), Block::Made(Made::ToolUse { id, name, input }));
                self.calls.insert(call.index, index);
                index
            }
        };
        if let Some(arguments) = call.function.arguments.filter(|text| !text.is_empty()) {
            self.delta(index, Delta::InputJson { partial_json: &arguments });
        }
    }

    /// A block that was signed, as a stream of its own.
    fn signed(&mut self, block: &RawValue) {
        #[derive(serde::Deserialize)]
        struct Signed {
            #[serde(rename = "type")]
            kind: String,
            #[serde(default)]
            thinking: String,
            #[serde(default)]
            signature: String,
        }
        let Ok(signed) = serde_json::from_str::<Signed>(block.get()) else { return };
        self.close();
        let index = self.next;
        self.next += 1;
        if signed.kind != "thinking" {
            let start = Event::ContentBlockStart { index, content_block: Start::Raw(block) };
            event(&mut self.out, "content_block_start", &start);
        } else {
            let empty = Made::Thinking { thinking: String::new(), signature: "" };
            let content_block = Start::Block(Block::Made(empty));
            event(&mut self.out, "content_block_start", &Event::ContentBlockStart { index, content_block });
            self.delta(index, Delta::Thinking { thinking: &signed.thinking });
            self.delta(index, Delta::Signature { signature: &signed.signature });
        }
        event(&mut self.out, "content_block_stop", &Event::ContentBlockStop { index });
    }

    /// The index of the open block, which is this one from here on.
    fn to(&mut self, wanted: Open, block: Block) -> u32 {
        match self.open {
            Some((open, index)) if open == wanted => index,
            _ => {
                self.close();
                self.start(wanted, block)
            }
        }
    }

    fn start(&mut self, open: Open, block: Block) -> u32 {
        let index = self.next;
        self.next += 1;
        self.open = Some((open, index));
        let start = Event::ContentBlockStart { index, content_block: Start::Block(block) };
        event(&mut self.out, "content_block_start", &start);
        index
    }

    fn close(&mut self) {
        if let Some((_, index)) = self.open.take() {
            event(&mut self.out, "content_block_stop", &Event::ContentBlockStop { index });
        }
    }

    fn delta(&mut self, index: u32, delta: Delta<'_>) {
        event(&mut self.out, "content_block_delta", &Event::ContentBlockDelta { index, delta });
    }
}
