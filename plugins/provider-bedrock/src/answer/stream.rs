//! The streamed answer: `messageStart`, for each block a start, deltas and a stop, `messageStop` with the reason, then
//! `metadata` with the counts, which is the end. An exception is the end as well. Texts' blocks have no start.

use alloc::string::String;
use alloc::vec::Vec;

use brokle_plugin::Problem;
use brokle_plugin::provider::Output;

use super::AnswerDecoder;
use super::event::{Delta, Event, ToolUse};
use crate::error;

/// A block in the making.
#[derive(Default)]
pub(crate) struct Open {
    kind: Kind,
    thinking: String,
    signature: String,
    redacted: String,
}

#[derive(Default, Clone, Copy)]
enum Kind {
    /// Text or thinking: the deltas say which.
    #[default]
    Plain,
    /// A call's number, and whether some of its arguments have come.
    Call(usize, bool),
    /// The tool that stands in for a schema.
    Answer,
    /// A call that the vendor itself carries out.
    Vendors,
}

impl AnswerDecoder {
    pub(crate) fn event(
        &mut self,
        name: &str,
        data: &[u8],
        outputs: &mut Vec<Output>,
    ) -> Result<(), Problem> {
        if let Some(problem) = error::from_event(name, data) {
            self.complete = true;
            outputs.push(Output::Failure(problem));
            return Ok(());
        }
        let event: Event<'_> = match name {
            "messageStart" | "contentBlockStart" | "contentBlockDelta" | "contentBlockStop"
            | "messageStop" | "metadata" => serde_json::from_slice(data).map_err(Problem::bad_answer)?,
            // What may come.
            _ => return Ok(()),
        };
        self.begin(outputs);
        let index = event.content_block_index;
        match name {
            "contentBlockStart" => {
                if let Some(call) = event.start.and_then(|start| start.tool_use) {
                    self.start(index, &call, outputs);
                }
            }
            "contentBlockDelta" => {
                if let Some(delta) = event.delta {
                    self.more(index, delta, outputs);
                }
            }
            "contentBlockStop" => self.stop(index, outputs),
            "messageStop" => self.stop_reason = event.stop_reason.or_else(|| Some("end_turn".into())),
            "metadata" => {
                self.count(event.usage, outputs);
                self.trace = event.trace.and_then(|trace| trace.guardrail);
                // Without a reason the message hasn't ended.
                if self.stop_reason.is_some() {
                    self.end(outputs);
                }
            }
            _ => {}
        }
        Ok(())
    }

    fn start(&mut self, index: u32, call: &ToolUse<'_>, outputs: &mut Vec<Output>) {
        let kind = match call.kind {
            Some(_) => Kind::Vendors,
            None => match self.call(&call.tool_use_id, &call.name, "", outputs) {
                Some(number) => Kind::Call(number, false),
                None => Kind::Answer,
            },
        };
        self.open.insert(index, Open { kind, ..Open::default() });
    }

    fn more(&mut self, index: u32, delta: Delta<'_>, outputs: &mut Vec<Output>) {
        let open = self.open.entry(index).or_default();
        self.chat.text("content", &delta.text.unwrap_or_default(), outputs);
        if let Some(reasoning) = delta.reasoning_content {
            open.thinking.push_str(&reasoning.text);
            open.signature.push_str(&reasoning.signature);
            open.redacted.push_str(&reasoning.redacted_content);
            self.chat.text("reasoning_content", &reasoning.text, outputs);
        }
        if let Some(call) = delta.tool_use.filter(|call| !call.input.is_empty()) {
            match &mut open.kind {
                Kind::Call(number, any) => {
                    *any = true;
                    self.chat.arguments(*number, &call.input, outputs);
                }
                Kind::Answer => self.chat.text("content", &call.input, outputs),
                Kind::Plain | Kind::Vendors => {}
            }
        }
        self.citations.extend(delta.citation);
    }

    fn stop(&mut self, index: u32, outputs: &mut Vec<Output>) {
        let Some(open) = self.open.remove(&index) else { return };
        match open.kind {
            // A function without parameters.
            Kind::Call(number, false) => self.chat.arguments(number, "{}", outputs),
            Kind::Plain if !open.thinking.is_empty() || !open.signature.is_empty() => {
                self.thought(&open.thinking, &open.signature);
            }
            Kind::Plain if !open.redacted.is_empty() => self.redacted(&open.redacted),
            _ => {}
        }
    }
}
