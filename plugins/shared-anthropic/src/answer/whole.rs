//! The whole answer.

use alloc::string::String;
use alloc::vec;
use alloc::vec::Vec;

use brokle_plugin::Problem;
use brokle_plugin::provider::Output;

use super::canonical::{Choice, Completion, End, Function, Kept, Message, ToolCall};
use super::event::{self, Block};

/// The usage and the canonical document of a whole answer.
///
/// # Errors
/// It can't be understood.
pub fn whole(data: &[u8], created: u64) -> Result<Vec<Output>, Problem> {
    let answer: event::Message<'_> = serde_json::from_slice(data).map_err(Problem::bad_answer)?;
    let stop_reason = answer.stop_reason.as_deref().unwrap_or("end_turn");
    let completion = Completion {
        id: &answer.id,
        object: "chat.completion",
        created,
        model: &answer.model,
        choices: [Choice {
            index: 0,
            message: message(&answer)?,
            logprobs: (),
            end: End {
                finish_reason: super::finish_reason(stop_reason),
                native_finish_reason: stop_reason,
                stop_sequence: answer.stop_sequence.as_deref(),
            },
        }],
        usage: answer.usage.canonical(),
    };
    Ok(vec![Output::Usage(answer.usage.entries()), Output::json(&completion)])
}

fn message<'a>(answer: &event::Message<'a>) -> Result<Message<'a>, Problem> {
    let (mut content, mut reasoning_content) = (None, None);
    let (mut tool_calls, mut kept) = (Vec::new(), Kept::default());
    for raw in &answer.content {
        let block: Block<'a> = serde_json::from_str(raw.get()).map_err(Problem::bad_answer)?;
        match block.kind.as_str() {
            "text" => {
                content.get_or_insert_with(String::new).push_str(&block.text);
                kept.citations.extend(block.citations.into_iter().flatten());
            }
            "thinking" => {
                reasoning_content.get_or_insert_with(String::new).push_str(&block.thinking);
                kept.thinking_blocks.push(*raw);
            }
            "redacted_thinking" => kept.thinking_blocks.push(*raw),
            "tool_use" => {
                let arguments = block.input.map_or("{}", |input| input.get());
                let function = Function { name: block.name, arguments };
                tool_calls.push(ToolCall { id: block.id, kind: "function", function });
            }
            _ => kept.anthropic_blocks.push(*raw),
        }
    }
    Ok(Message { role: "assistant", content, refusal: (), reasoning_content, tool_calls, kept })
}
