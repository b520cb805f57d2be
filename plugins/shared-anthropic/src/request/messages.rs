//! The conversation: system blocks apart, neighbors of one role joined, tool results in the
//! user's turn.

use alloc::borrow::ToOwned;
use alloc::format;
use alloc::vec;
use alloc::vec::Vec;

mod parts;

use brokle_plugin::Problem;
use serde_json::value::RawValue;

use super::blocks::{Block, Kind, Turn};
use super::input::{Message, ToolCall};
use parts::Allowed;
use shared_canonical::Fields;

/// The vendor's view of the messages.
pub(crate) struct Conversation<'a> {
    pub(crate) system: Vec<Block<'a>>,
    pub(crate) turns: Vec<Turn<'a>>,
    /// Whether the last assistant turn called tools without a thinking block before the calls:
    /// the vendor refuses such a turn when a thinking budget is set.
    pub(crate) bare_tool_turn: bool,
}

pub(crate) fn translate<'a>(fields: &Fields<'a>) -> Result<Conversation<'a>, Problem> {
    let mut conversation = Conversation { system: Vec::new(), turns: Vec::new(), bare_tool_turn: false };
    for (index, message) in messages(fields)?.into_iter().enumerate() {
        conversation.add(message, &format!("messages[{index}]"))?;
    }
    Ok(conversation)
}

/// The messages, read in one go; where one doesn't fit they are read one by one, to say which.
fn messages<'a>(fields: &Fields<'a>) -> Result<Vec<Message<'a>>, Problem> {
    if let Ok(Some(messages)) = fields.get("messages") {
        return Ok(messages);
    }
    let Some(each) = fields.get::<Vec<&'a RawValue>>("messages")? else {
        return Err(Problem::invalid("messages", "'messages' is required."));
    };
    let each = each.into_iter().enumerate();
    each.map(|(index, raw)| shared_canonical::parse(raw, &format!("messages[{index}]"))).collect()
}

impl<'a> Conversation<'a> {
    fn add(&mut self, message: Message<'a>, param: &str) -> Result<(), Problem> {
        match message.role.as_ref() {
            "system" | "developer" => {
                let blocks = content(&message, Allowed::Text, param)?;
                self.system.extend(blocks);
            }
            "user" => {
                let blocks = content(&message, Allowed::All, param)?;
                self.extend("user", blocks);
            }
            "tool" => {
                let block = tool_result(message, param)?;
                self.extend("user", vec![block]);
            }
            "assistant" => {
                self.bare_tool_turn = message.tool_calls.as_ref().is_some_and(|calls| !calls.is_empty())
                    && message.thinking_blocks.as_ref().is_none_or(Vec::is_empty);
                let blocks = assistant(message, param)?;
                self.extend("assistant", blocks);
            }
            other => {
                let message = format!("Anthropic has no role '{other}'.");
                return Err(Problem::unsupported(format!("{param}.role"), message));
            }
        }
        Ok(())
    }

    /// Adds blocks to the last turn when it has the role, else to a new one.
    fn extend(&mut self, role: &'static str, blocks: Vec<Block<'a>>) {
        match self.turns.last_mut() {
            _ if blocks.is_empty() => {}
            Some(turn) if turn.role == role => turn.content.extend(blocks),
            _ => self.turns.push(Turn { role, content: blocks }),
        }
    }
}

/// A message's content as blocks; a `cache_control` at the message goes to the last of them.
fn content<'a>(message: &Message<'a>, allowed: Allowed, param: &str) -> Result<Vec<Block<'a>>, Problem> {
    let Some(content) = message.content else { return Ok(Vec::new()) };
    let mut blocks = parts::blocks(content, allowed, &format!("{param}.content"))?;
    if let Some(last) = blocks.last_mut() {
        last.cache_from(message.cache_control);
    }
    Ok(blocks)
}

/// Unlike elsewhere, a `cache_control` at the message belongs to the result, not to its content.
fn tool_result<'a>(mut message: Message<'a>, param: &str) -> Result<Block<'a>, Problem> {
    let cache_control = message.cache_control.take();
    let content = content(&message, Allowed::All, param)?;
    let Some(tool_use_id) = message.tool_call_id else {
        return Err(Problem::invalid(
            format!("{param}.tool_call_id"),
            "A tool message needs a 'tool_call_id'.",
        ));
    };
    Ok(Block::made(Kind::ToolResult { tool_use_id, content, is_error: message.is_error }, cache_control))
}

/// Thinking first and unchanged, then the vendor's other blocks, text, calls.
fn assistant<'a>(message: Message<'a>, param: &str) -> Result<Vec<Block<'a>>, Problem> {
    if message.function_call.is_some() {
        let text = "Anthropic has no 'function_call': use 'tool_calls'.";
        return Err(Problem::unsupported(format!("{param}.function_call"), text));
    }
    let text = content(&message, Allowed::Assistant, param)?;
    let raw = message.thinking_blocks.into_iter().chain(message.anthropic_blocks).flatten();
    let mut blocks: Vec<_> = raw.map(Block::Raw).chain(text).collect();
    for (index, call) in message.tool_calls.into_iter().flatten().enumerate() {
        blocks.push(tool_use(call, &format!("{param}.tool_calls[{index}]"))?);
    }
    Ok(blocks)
}

fn tool_use<'a>(call: ToolCall<'a>, param: &str) -> Result<Block<'a>, Problem> {
    let Some(function) = call.function.filter(|_| call.kind.as_deref().is_none_or(|kind| kind == "function"))
    else {
        return Err(Problem::unsupported(
            format!("{param}.type"),
            "Anthropic only has calls of type 'function'.",
        ));
    };
    let arguments = match function.arguments.trim() {
        "" => "{}".to_owned(),
        text => text.to_owned(),
    };
    let input = RawValue::from_string(arguments).ok().filter(|input| input.get().starts_with('{'));
    let Some(input) = input else {
        let param = format!("{param}.function.arguments");
        return Err(Problem::invalid(param, "The arguments of a call must be the text of a JSON object."));
    };
    Ok(Block::made(Kind::ToolUse { id: call.id, name: function.name, input }, call.cache_control))
}
