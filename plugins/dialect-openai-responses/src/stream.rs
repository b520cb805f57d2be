//! From a canonical stream to the events of a response.
//!
//! One item is open at a time: what begins another one ends it. Arguments that still come for an earlier call belong to
//! an item that is done, and are the canonical stream's fault: refused.

use alloc::collections::BTreeMap;
use alloc::string::String;
use alloc::vec::Vec;

use brokle_plugin::Problem;
use brokle_plugin::dialect::answer::{Call as ToolCall, Chunk, ChunkChoice, Usage};
use brokle_plugin::dialect::{self, Call, event};
use serde::Serialize;
use serde_json::value::RawValue;

use crate::answer::{Content, Item, Response, Summary, ending, item_id};

/// An event: its name, its own members, the next number.
#[derive(Serialize)]
struct Event<'a, T> {
    #[serde(rename = "type")]
    kind: &'a str,
    #[serde(flatten)]
    members: T,
    sequence_number: u64,
}

#[derive(Serialize)]
struct WithResponse<'a> {
    response: Response<'a>,
}

#[derive(Serialize)]
struct WithItem<'a> {
    output_index: usize,
    item: &'a Item,
}

/// A part of an item: by `content_index` in messages, by `summary_index` in reasoning.
#[derive(Serialize)]
struct OfPart<'a, T> {
    item_id: &'a str,
    output_index: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    content_index: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    summary_index: Option<usize>,
    #[serde(flatten)]
    members: T,
}

#[derive(Serialize)]
struct Part<T> {
    part: T,
}

#[derive(Serialize, Default)]
struct Texts<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    delta: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    text: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    refusal: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    arguments: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    logprobs: Option<[(); 0]>,
}

/// What is said.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Thought,
    Text,
    Refusal,
    Call(u32),
}

/// One stream.
pub(crate) struct Encoder {
    request_id: String,
    created_at: u64,
    state: Vec<u8>,
    model: String,
    begun: bool,
    output: Vec<Item>,
    /// The last item is open, and this is being said in it.
    open: Option<Kind>,
    calls: BTreeMap<u32, usize>,
    usage: Usage,
    finish: Option<String>,
    number: u64,
    out: Vec<u8>,
}

impl dialect::Encoder for Encoder {
    fn new(call: Call, state: Vec<u8>) -> Self {
        Self {
            request_id: call.request_id,
            created_at: call.created,
            state,
            model: String::new(),
            begun: false,
            output: Vec::new(),
            open: None,
            calls: BTreeMap::new(),
            usage: Usage::default(),
            finish: None,
            number: 0,
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
            self.usage = chunk.usage.unwrap_or(self.usage);
            for choice in chunk.choices.into_iter().filter(|choice| choice.index == 0) {
                self.choice(choice)?;
            }
        }
        Ok(core::mem::take(&mut self.out))
    }

    fn finish(&mut self) -> Result<Vec<u8>, Problem> {
        self.begin();
        if self.output.is_empty() {
            self.to(Kind::Text, None);
        }
        self.close();
        let (status, incomplete) = ending(self.finish.as_deref());
        let kind = if incomplete.is_some() { "response.incomplete" } else { "response.completed" };
        self.respond(kind, status, incomplete, None);
        Ok(core::mem::take(&mut self.out))
    }

    fn failed(&mut self, _status: u16, problem: &Problem) -> Vec<u8> {
        let number = self.next();
        crate::native::in_stream(&mut self.out, problem, number);
        if self.begun {
            let code = problem.code.as_deref().unwrap_or("server_error");
            self.respond("response.failed", "failed", None, Some((code, &problem.message)));
        }
        core::mem::take(&mut self.out)
    }
}

impl Encoder {
    fn next(&mut self) -> u64 {
        let number = self.number;
        self.number += 1;
        number
    }

    fn begin(&mut self) {
        if !core::mem::replace(&mut self.begun, true) {
            self.respond("response.created", "in_progress", None, None);
            self.respond("response.in_progress", "in_progress", None, None);
        }
    }

    fn respond(
        &mut self,
        kind: &str,
        status: &'static str,
        incomplete: Option<&'static str>,
        error: Option<(&str, &str)>,
    ) {
        let sequence_number = self.next();
        let usage = Some(&self.usage).filter(|_| status == "completed" || status == "incomplete");
        let response = Response {
            request_id: &self.request_id,
            created_at: self.created_at,
            state: &self.state,
            status,
            model: &self.model,
            output: &self.output,
            usage,
            incomplete,
            error,
        };
        event(&mut self.out, kind, &Event { kind, members: WithResponse { response }, sequence_number });
    }

    fn choice(&mut self, choice: ChunkChoice) -> Result<(), Problem> {
        let said = choice.delta;
        for (kind, text) in [
            (Kind::Thought, said.reasoning_content),
            (Kind::Text, said.content),
            (Kind::Refusal, said.refusal),
        ] {
            if let Some(text) = text.filter(|text| !text.is_empty()) {
                self.to(kind, None);
                self.say(kind, &text);
            }
        }
        for call in said.tool_calls.into_iter().flatten() {
            self.call(&call)?;
        }
        self.finish = choice.finish_reason.or(self.finish.take());
        Ok(())
    }

    fn call(&mut self, call: &ToolCall) -> Result<(), Problem> {
        let kind = Kind::Call(call.index);
        let arguments = call.function.arguments.clone().unwrap_or_default();
        if !self.calls.contains_key(&call.index) {
            self.to(kind, Some(call));
            self.calls.insert(call.index, self.output.len() - 1);
        }
        if arguments.is_empty() {
            return Ok(());
        }
        if self.open != Some(kind) {
            return Err(Problem::bad_answer("arguments came for a call that was over"));
        }
        self.say(kind, &arguments);
        Ok(())
    }

    /// Makes this what is being said; a call brings what it calls.
    fn to(&mut self, kind: Kind, call: Option<&ToolCall>) {
        if self.open == Some(kind) {
            return;
        }
        // A refusal is a part of the same message as the text before it.
        let same_message = matches!(
            (self.open, kind),
            (Some(Kind::Text), Kind::Refusal) | (Some(Kind::Refusal), Kind::Text)
        );
        if same_message {
            self.end_part();
        } else {
            self.close();
            let item = self.item(kind, call);
            self.output.push(item);
            self.item_event("response.output_item.added");
        }
        self.open = Some(kind);
        self.begin_part(kind);
    }

    fn item(&self, kind: Kind, call: Option<&ToolCall>) -> Item {
        let id = |prefix| item_id(prefix, &self.request_id, self.output.len());
        match kind {
            Kind::Thought => Item::Reasoning { id: id("rs"), summary: Vec::new() },
            Kind::Text | Kind::Refusal => {
                Item::Message { id: id("msg"), status: "in_progress", role: "assistant", content: Vec::new() }
            }
            Kind::Call(_) => Item::FunctionCall {
                id: id("fc"),
                call_id: call.and_then(|call| call.id.clone()).unwrap_or_else(|| id("call")),
                name: call.and_then(|call| call.function.name.clone()).unwrap_or_default(),
                arguments: String::new(),
                status: "in_progress",
            },
        }
    }

    fn item_event(&mut self, kind: &str) {
        let sequence_number = self.next();
        let output_index = self.output.len().saturating_sub(1);
        if let Some(item) = self.output.last() {
            let members = WithItem { output_index, item };
            event(&mut self.out, kind, &Event { kind, members, sequence_number });
        }
    }

    fn begin_part(&mut self, kind: Kind) {
        let part = match (self.output.last_mut(), kind) {
            (Some(Item::Reasoning { summary, .. }), _) => {
                summary.push(Summary::SummaryText { text: String::new() });
                "response.reasoning_summary_part.added"
            }
            (Some(Item::Message { content, .. }), Kind::Refusal) => {
                content.push(Content::Refusal { refusal: String::new() });
                "response.content_part.added"
            }
            (Some(Item::Message { content, .. }), _) => {
                content.push(Content::text(String::new()));
                "response.content_part.added"
            }
            _ => return,
        };
        self.part_event(part);
    }

    /// An event with the open part as it is.
    fn part_event(&mut self, kind: &str) {
        let part = match self.output.last() {
            Some(Item::Reasoning { summary, .. }) => summary.last().and_then(raw),
            Some(Item::Message { content, .. }) => content.last().and_then(raw),
            _ => None,
        };
        self.of_part(kind, Part { part });
    }

    /// An event of the open part.
    fn of_part(&mut self, kind: &str, members: impl Serialize) {
        let sequence_number = self.next();
        let Some(item) = self.output.last() else { return };
        let (content_index, summary_index) = match item {
            Item::Reasoning { summary, .. } => (None, Some(summary.len().saturating_sub(1))),
            Item::Message { content, .. } => (Some(content.len().saturating_sub(1)), None),
            Item::FunctionCall { .. } => (None, None),
        };
        let output_index = self.output.len() - 1;
        let members = OfPart { item_id: item.id(), output_index, content_index, summary_index, members };
        event(&mut self.out, kind, &Event { kind, members, sequence_number });
    }

    /// More of what is being said.
    fn say(&mut self, kind: Kind, more: &str) {
        match self.output.last_mut() {
            Some(Item::Reasoning { summary, .. }) => {
                if let Some(Summary::SummaryText { text }) = summary.last_mut() {
                    text.push_str(more);
                }
            }
            Some(Item::Message { content, .. }) => match content.last_mut() {
                Some(Content::OutputText { text, .. } | Content::Refusal { refusal: text }) => {
                    text.push_str(more);
                }
                None => {}
            },
            Some(Item::FunctionCall { arguments, .. }) => arguments.push_str(more),
            None => {}
        }
        let (name, logprobs) = match kind {
            Kind::Thought => ("response.reasoning_summary_text.delta", None),
            Kind::Text => ("response.output_text.delta", Some([])),
            Kind::Refusal => ("response.refusal.delta", None),
            Kind::Call(_) => ("response.function_call_arguments.delta", None),
        };
        self.of_part(name, Texts { delta: Some(more), logprobs, ..Texts::default() });
    }

    fn end_part(&mut self) {
        let whole = match self.output.last() {
            Some(Item::Reasoning { summary, .. }) => summary.last().map(|part| match part {
                Summary::SummaryText { text } => text.clone(),
            }),
            Some(Item::Message { content, .. }) => content.last().map(|part| match part {
                Content::OutputText { text, .. } | Content::Refusal { refusal: text } => text.clone(),
            }),
            Some(Item::FunctionCall { arguments, .. }) => Some(arguments.clone()),
            None => None,
        };
        let whole = whole.as_deref();
        match self.open {
            Some(Kind::Thought) => {
                self.of_part(
                    "response.reasoning_summary_text.done",
                    Texts { text: whole, ..Texts::default() },
                );
                self.part_event("response.reasoning_summary_part.done");
            }
            Some(Kind::Text) => {
                let texts = Texts { text: whole, logprobs: Some([]), ..Texts::default() };
                self.of_part("response.output_text.done", texts);
                self.part_event("response.content_part.done");
            }
            Some(Kind::Refusal) => {
                self.of_part("response.refusal.done", Texts { refusal: whole, ..Texts::default() });
                self.part_event("response.content_part.done");
            }
            Some(Kind::Call(_)) => {
                let texts = Texts { arguments: whole, ..Texts::default() };
                self.of_part("response.function_call_arguments.done", texts);
            }
            None => {}
        }
    }

    fn close(&mut self) {
        if self.open.is_none() {
            return;
        }
        self.end_part();
        self.open = None;
        if let Some(item) = self.output.last_mut() {
            item.complete();
        }
        self.item_event("response.output_item.done");
    }
}

fn raw(part: &impl Serialize) -> Option<alloc::boxed::Box<RawValue>> {
    serde_json::value::to_raw_value(part).ok()
}
