//! From a canonical stream to Gemini's.

use alloc::collections::BTreeMap;
use alloc::string::String;
use alloc::vec::Vec;

use brokle_plugin::Problem;
use brokle_plugin::dialect::answer::{Call as ToolCall, Chunk, ChunkChoice, Usage as Counted};
use brokle_plugin::dialect::{self, Call};

use crate::answer::{Answer, Candidate, Content, Part, Usage, finish_reason};

/// What is known of one candidate.
#[derive(Default)]
struct Growing {
    calls: BTreeMap<u32, ToolCall>,
    finish: Option<String>,
    signature: Option<String>,
}

/// One stream.
pub(crate) struct Encoder {
    request_id: String,
    events: bool,
    thinks: bool,
    model: String,
    begun: bool,
    candidates: BTreeMap<u32, Growing>,
    usage: Option<Counted>,
    out: Vec<u8>,
}

/// Puts an answer into a stream: as an event, or as an element of the array.
pub(crate) fn element(out: &mut Vec<u8>, events: bool, begun: bool, json: &[u8]) {
    let before: &[u8] = match (events, begun) {
        (true, _) => b"data: ",
        (false, true) => b",\r\n",
        (false, false) => b"[",
    };
    out.extend_from_slice(before);
    let start = out.len();
    out.extend_from_slice(json);
    if events {
        dialect::one_line(out, start);
        out.extend_from_slice(b"\r\n\r\n");
    }
}

impl dialect::Encoder for Encoder {
    fn new(call: Call, state: Vec<u8>) -> Self {
        Self {
            events: crate::asks_for_events(&call),
            request_id: call.request_id,
            thinks: !state.is_empty(),
            model: String::new(),
            begun: false,
            candidates: BTreeMap::new(),
            usage: None,
            out: Vec::new(),
        }
    }

    fn push(&mut self, chunks: Vec<Vec<u8>>) -> Result<Vec<u8>, Problem> {
        for chunk in &chunks {
            let chunk = Chunk::parse(chunk)?;
            if self.model.is_empty() {
                self.model = chunk.model;
            }
            self.usage = chunk.usage.or(self.usage);
            for choice in chunk.choices {
                self.choice(choice);
            }
        }
        Ok(core::mem::take(&mut self.out))
    }

    fn finish(&mut self) -> Result<Vec<u8>, Problem> {
        let mut candidates = Vec::new();
        for (index, candidate) in core::mem::take(&mut self.candidates) {
            let mut parts: Vec<Part> = candidate.calls.into_values().map(Part::call).collect();
            if parts.is_empty() {
                parts.push(Part::text(String::new()).signed(candidate.signature));
            }
            candidates.push(Candidate {
                content: Content { parts, role: "model" },
                finish_reason: Some(finish_reason(candidate.finish.as_deref())),
                index,
            });
        }
        let usage = self.usage.as_ref().map(Usage::of);
        self.write(candidates, usage);
        if !self.events {
            self.out.push(b']');
        }
        Ok(core::mem::take(&mut self.out))
    }

    fn failed(&mut self, status: u16, problem: &Problem) -> Vec<u8> {
        element(&mut self.out, self.events, self.begun, &crate::error::whole(status, problem));
        if !self.events {
            self.out.push(b']');
        }
        core::mem::take(&mut self.out)
    }
}

impl Encoder {
    fn choice(&mut self, choice: ChunkChoice) {
        let (index, said) = (choice.index, choice.delta);
        let candidate = self.candidates.entry(index).or_default();
        candidate.finish = choice.finish_reason.or(candidate.finish.take());
        let signature = said.extra_content.and_then(brokle_plugin::dialect::answer::ExtraContent::signature);
        candidate.signature = signature.or(candidate.signature.take());
        for piece in said.tool_calls.into_iter().flatten() {
            let call = candidate.calls.entry(piece.index).or_default();
            call.id = piece.id.or(call.id.take());
            call.function.name = piece.function.name.or(call.function.name.take());
            call.extra_content = piece.extra_content.or(call.extra_content.take());
            if let Some(more) = piece.function.arguments {
                call.function.arguments.get_or_insert_default().push_str(&more);
            }
        }
        let mut parts = Vec::new();
        let thought = said.reasoning_content.filter(|text| self.thinks && !text.is_empty());
        parts.extend(thought.map(Part::thought));
        let texts = [said.content, said.refusal].into_iter().flatten();
        parts.extend(texts.filter(|text| !text.is_empty()).map(Part::text));
        if !parts.is_empty() {
            let content = Content { parts, role: "model" };
            self.write(Vec::from([Candidate { content, finish_reason: None, index }]), None);
        }
    }

    fn write(&mut self, candidates: Vec<Candidate>, usage_metadata: Option<Usage>) {
        let answer =
            Answer { candidates, usage_metadata, model_version: &self.model, response_id: &self.request_id };
        // A type of ours always serializes: maps have string keys.
        let json = serde_json::to_vec(&answer).unwrap_or_default();
        element(&mut self.out, self.events, self.begun, &json);
        self.begun = true;
    }
}
