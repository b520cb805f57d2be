//! From Gemini's answer to the canonical one.
//!
//! Parts become deltas: text, thoughts (`reasoning_content`), calls with an id of ours where the vendor gives none,
//! signatures (`extra_content`). A whole answer is its deltas joined. Images and the vendor's other parts
//! (`gemini_parts`: executed code and its results) come once and whole, before the last chunk: clients' libraries
//! can't join lists of objects that have no `index`. Grounding, citations and URL context stand at the choice, in the
//! vendor's words.

mod event;
mod usage;

use alloc::borrow::ToOwned;
use alloc::collections::BTreeMap;
use alloc::collections::btree_map::Entry;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use brokle_plugin::Problem;
use brokle_plugin::provider::{Call, Frame, Output};
use serde_json::{Map, Value, json};

use crate::error;
use event::{Candidate, Part, Response};
use usage::UsageMetadata;

/// One answer so far.
#[derive(Debug)]
pub struct AnswerDecoder {
    streaming: bool,
    created: u64,
    request_id: String,
    id: String,
    model: String,
    usage: Option<UsageMetadata>,
    choices: BTreeMap<u32, Choice>,
    /// An error ended it: nothing more is to be said.
    failed: bool,
}

/// One candidate so far.
#[derive(Debug, Default)]
struct Choice {
    calls: u32,
    finish_reason: Option<String>,
    blocked: bool,
    images: Vec<Value>,
    parts: Vec<Value>,
    metadata: Map<String, Value>,
    /// A whole answer's message.
    message: Map<String, Value>,
}

/// The outputs of a whole answer.
///
/// # Errors
/// It can't be understood.
pub fn whole(data: &[u8], created: u64, request_id: &str) -> Result<Vec<Output>, Problem> {
    let mut decoder = AnswerDecoder::begin(false, created, request_id, "");
    let mut outputs = decoder.push(&[Frame { event: String::new(), data: data.to_vec() }])?;
    outputs.extend(decoder.finish()?);
    Ok(outputs)
}

impl AnswerDecoder {
    /// A new answer to this call.
    pub fn new(call: &Call) -> Self {
        Self::begin(call.streaming, call.created, &call.request_id, &call.model)
    }

    fn begin(streaming: bool, created: u64, request_id: &str, model: &str) -> Self {
        Self {
            streaming,
            created,
            request_id: request_id.to_owned(),
            id: format!("chatcmpl-{request_id}"),
            model: model.to_owned(),
            usage: None,
            choices: BTreeMap::new(),
            failed: false,
        }
    }

    /// Takes frames, in order.
    ///
    /// # Errors
    /// They can't be understood.
    pub fn push(&mut self, frames: &[Frame]) -> Result<Vec<Output>, Problem> {
        let mut outputs = Vec::with_capacity(frames.len());
        for frame in frames.iter().filter(|frame| !frame.data.is_empty() && frame.data != b"[DONE]") {
            if self.failed {
                break;
            }
            self.response(&frame.data, &mut outputs)?;
        }
        Ok(outputs)
    }

    fn response(&mut self, data: &[u8], outputs: &mut Vec<Output>) -> Result<(), Problem> {
        let response: Response<'_> = serde_json::from_slice(data).map_err(Problem::bad_answer)?;
        if let Some(error) = &response.error {
            self.failed = true;
            outputs.push(Output::Failure(error::from_error(error)));
            return Ok(());
        }
        self.id = response.response_id.unwrap_or_else(|| core::mem::take(&mut self.id));
        self.model = response.model_version.unwrap_or_else(|| core::mem::take(&mut self.model));
        if let Some(usage) = response.usage_metadata {
            outputs.push(Output::Usage(usage.entries()));
            self.usage = Some(usage);
        }
        for candidate in response.candidates {
            self.candidate(candidate, outputs)?;
        }
        if let Some(reason) = response.prompt_feedback.and_then(|feedback| feedback.block_reason) {
            self.begun(0, outputs);
            let refusal = json!(format!("The prompt was blocked: {reason}."));
            self.delta(0, [("refusal".to_owned(), refusal)], outputs);
            let choice = self.choices.entry(0).or_default();
            (choice.blocked, choice.finish_reason) = (true, Some(reason));
        }
        Ok(())
    }

    fn candidate(&mut self, candidate: Candidate<'_>, outputs: &mut Vec<Output>) -> Result<(), Problem> {
        let index = candidate.index;
        self.begun(index, outputs);
        for raw in candidate.content.into_iter().flat_map(|content| content.parts) {
            let part: Part<'_> = serde_json::from_str(raw.get()).map_err(Problem::bad_answer)?;
            match self.part(index, part, outputs) {
                true => {}
                false => {
                    let part = serde_json::from_str(raw.get()).map_err(Problem::bad_answer)?;
                    self.choices.entry(index).or_default().parts.push(part);
                }
            }
        }
        let choice = self.choices.entry(index).or_default();
        choice.finish_reason = candidate.finish_reason.or(choice.finish_reason.take());
        for (name, value) in [
            ("grounding_metadata", candidate.grounding_metadata),
            ("citation_metadata", candidate.citation_metadata),
            ("url_context_metadata", candidate.url_context_metadata),
        ] {
            choice.metadata.extend(value.map(|value| (name.to_owned(), value)));
        }
        Ok(())
    }

    /// The role, in a candidate's first chunk.
    fn begun(&mut self, index: u32, outputs: &mut Vec<Output>) {
        if let Entry::Vacant(entry) = self.choices.entry(index) {
            entry.insert(Choice::default());
            let content = if self.streaming { json!("") } else { Value::Null };
            self.delta(
                index,
                [("role".to_owned(), json!("assistant")), ("content".to_owned(), content)],
                outputs,
            );
        }
    }

    /// Whether the part is one that has a canonical form.
    fn part(&mut self, index: u32, part: Part<'_>, outputs: &mut Vec<Output>) -> bool {
        let signed = part.thought_signature.map(|text| json!({"google": {"thought_signature": text}}));
        if let Some(call) = part.function_call {
            let choice = self.choices.entry(index).or_default();
            let number = choice.calls;
            choice.calls += 1;
            let id = call.id.filter(|id| !id.is_empty());
            let id = id.unwrap_or_else(|| format!("call_{}_{index}_{number}", self.request_id));
            let arguments = call.args.map_or_else(|| "{}".to_owned(), |args| compact(args.get()));
            let mut made = json!({
                "index": number, "id": id, "type": "function",
                "function": {"name": call.name, "arguments": arguments},
            });
            if let (Some(made), Some(signed)) = (made.as_object_mut(), signed) {
                made.insert("extra_content".to_owned(), signed);
            }
            self.delta(index, [("tool_calls".to_owned(), json!([made]))], outputs);
            return true;
        }
        if let Some(image) = part.inline_data {
            let url = format!("data:{};base64,{}", image.mime_type, image.data);
            let image = json!({"type": "image_url", "image_url": {"url": url}});
            self.choices.entry(index).or_default().images.push(image);
        } else if let Some(text) = &part.text {
            let name = if part.thought { "reasoning_content" } else { "content" };
            if !text.is_empty() {
                self.delta(index, [(name.to_owned(), json!(text))], outputs);
            }
        } else if signed.is_none() {
            return false;
        }
        if let Some(signed) = signed {
            self.delta(index, [("extra_content".to_owned(), signed)], outputs);
        }
        true
    }

    /// Says what is new, or keeps it for the whole message.
    fn delta<const N: usize>(&mut self, index: u32, delta: [(String, Value); N], outputs: &mut Vec<Output>) {
        if self.streaming {
            let delta: Map<String, Value> = delta.into_iter().collect();
            let choice = json!({"index": index, "delta": delta, "logprobs": null, "finish_reason": null});
            outputs.push(self.chunk(&json!([choice]), None));
            return;
        }
        let message = &mut self.choices.entry(index).or_default().message;
        for (name, value) in delta {
            join(message, name, value);
        }
    }

    /// The answer has ended.
    ///
    /// # Errors
    /// It was cut short.
    pub fn finish(&mut self) -> Result<Vec<Output>, Problem> {
        if self.failed {
            return Ok(Vec::new());
        }
        if self.choices.is_empty() || self.choices.values().any(|choice| choice.finish_reason.is_none()) {
            return Err(Problem::bad_answer("it ended before the message did"));
        }
        let mut outputs = Vec::new();
        let indices: Vec<u32> = self.choices.keys().copied().collect();
        for index in indices {
            let choice = self.choices.entry(index).or_default();
            let (images, parts) = (core::mem::take(&mut choice.images), core::mem::take(&mut choice.parts));
            if !images.is_empty() {
                self.delta(index, [("images".to_owned(), images.into())], &mut outputs);
            }
            if !parts.is_empty() {
                self.delta(index, [("gemini_parts".to_owned(), parts.into())], &mut outputs);
            }
        }
        let usage = self.usage.clone().unwrap_or_default().canonical();
        let choices = core::mem::take(&mut self.choices);
        let made: Vec<Value> = choices.into_iter().map(|(index, choice)| self.ended(index, choice)).collect();
        if self.streaming {
            outputs.extend(made.iter().map(|choice| self.chunk(&json!([choice]), None)));
            outputs.push(self.chunk(&json!([]), Some(usage)));
        } else {
            outputs.push(Output::json(&json!({
                "id": self.id, "object": "chat.completion", "created": self.created, "model": self.model,
                "choices": made, "usage": usage,
            })));
        }
        Ok(outputs)
    }

    /// A choice at its end: the whole message, or the last chunk's.
    fn ended(&self, index: u32, choice: Choice) -> Value {
        let native = choice.finish_reason.unwrap_or_default();
        let reason = if choice.blocked { "content_filter" } else { finish_reason(&native, choice.calls > 0) };
        let mut made = choice.metadata;
        made.extend([
            ("index".to_owned(), json!(index)),
            ("logprobs".to_owned(), Value::Null),
            ("finish_reason".to_owned(), json!(reason)),
            ("native_finish_reason".to_owned(), json!(native)),
        ]);
        match self.streaming {
            true => made.insert("delta".to_owned(), json!({})),
            false => {
                let mut message = choice.message;
                message.entry("refusal").or_insert(Value::Null);
                made.insert("message".to_owned(), message.into())
            }
        };
        made.into()
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

/// JSON text without the white space between its tokens: the vendor indents whole answers.
fn compact(json: &str) -> String {
    let (mut in_string, mut escaped) = (false, false);
    let is_kept = |c: &char| {
        let kept = in_string || !c.is_ascii_whitespace();
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = in_string,
            '"' => in_string = !in_string,
            _ => {}
        }
        kept
    };
    json.chars().filter(is_kept).collect()
}

/// Joins a delta to the message: texts are appended, calls added, everything else is taken as it last came.
fn join(message: &mut Map<String, Value>, name: String, value: Value) {
    match (name.as_str(), value) {
        ("content" | "reasoning_content", Value::String(more)) => match message.get_mut(&name) {
            Some(Value::String(text)) => text.push_str(&more),
            _ => drop(message.insert(name, more.into())),
        },
        ("tool_calls", Value::Array(mut calls)) => {
            calls.iter_mut().filter_map(Value::as_object_mut).for_each(|call| drop(call.remove("index")));
            match message.get_mut(&name) {
                Some(Value::Array(made)) => made.extend(calls),
                _ => drop(message.insert(name, calls.into())),
            }
        }
        (_, value) => drop(message.insert(name, value)),
    }
}

/// OpenAI's finish reason for the vendor's; the vendor's own goes along as `native_finish_reason`.
fn finish_reason(native: &str, has_calls: bool) -> &'static str {
    match native {
        "MAX_TOKENS" => "length",
        "SAFETY"
        | "RECITATION"
        | "LANGUAGE"
        | "BLOCKLIST"
        | "PROHIBITED_CONTENT"
        | "SPII"
        | "IMAGE_SAFETY"
        | "IMAGE_PROHIBITED_CONTENT"
        | "IMAGE_RECITATION" => "content_filter",
        _ if has_calls => "tool_calls",
        // STOP, MALFORMED_FUNCTION_CALL, OTHER, and what may come.
        _ => "stop",
    }
}
