//! The conversation: system blocks apart, neighbors of one role joined, tool results in the user's turn, cache points
//! after what they cover.

use alloc::borrow::ToOwned;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use brokle_plugin::Problem;
use serde::Deserialize;
use serde_json::value::RawValue;
use shared_canonical::{Fields, parse};

use super::blocks::{Block, CachePoint, Reasoning, ToolResult, ToolUse, Turn};
use super::parts::{Allowed, Parts};

/// The vendor's view of the messages.
pub(crate) struct Conversation<'a> {
    pub(crate) system: Vec<Block<'a>>,
    pub(crate) turns: Vec<Turn<'a>>,
    /// Whether there are calls in it: the vendor wants their tools then.
    pub(crate) has_calls: bool,
    /// Whether the last assistant turn called tools without a thinking block before the calls.
    pub(crate) bare_tool_turn: bool,
}

#[derive(Deserialize)]
struct Message<'a> {
    role: String,
    #[serde(borrow, default)]
    content: Option<&'a RawValue>,
    #[serde(borrow, default)]
    tool_calls: Option<Vec<ToolCall<'a>>>,
    #[serde(default)]
    tool_call_id: Option<String>,
    /// Whether a tool message tells of a failure; Anthropic's own member.
    #[serde(default)]
    is_error: Option<bool>,
    #[serde(borrow, default)]
    thinking_blocks: Option<Vec<&'a RawValue>>,
    #[serde(borrow, default)]
    cache_control: Option<&'a RawValue>,
    #[serde(borrow, default)]
    function_call: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct ToolCall<'a> {
    id: String,
    #[serde(rename = "type", default)]
    kind: Option<String>,
    #[serde(default)]
    function: Option<FunctionCall>,
    #[serde(borrow, default)]
    cache_control: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct FunctionCall {
    name: String,
    #[serde(default)]
    arguments: String,
}

#[derive(Deserialize)]
struct ThinkingBlock<'a> {
    #[serde(rename = "type")]
    kind: String,
    #[serde(borrow, default)]
    thinking: Option<&'a RawValue>,
    #[serde(borrow, default)]
    signature: Option<&'a RawValue>,
    #[serde(borrow, default)]
    data: Option<&'a RawValue>,
}

pub(crate) fn translate<'a>(fields: &Fields<'a>) -> Result<Conversation<'a>, Problem> {
    let Some(messages) = fields.get::<Vec<&'a RawValue>>("messages")? else {
        return Err(Problem::invalid("messages", "'messages' is required."));
    };
    let mut conversation =
        Conversation { system: Vec::new(), turns: Vec::new(), has_calls: false, bare_tool_turn: false };
    let mut parts = Parts::default();
    for (index, raw) in messages.into_iter().enumerate() {
        let param = format!("messages[{index}]");
        let message: Message<'a> = parse(raw, &param)?;
        conversation.add(message, &mut parts, &param)?;
    }
    if let (Some(turn), Some(point)) =
        (conversation.turns.last_mut(), CachePoint::of(fields.raw("cache_control"), "cache_control")?)
        && !matches!(turn.content.last(), Some(Block::CachePoint(_)))
    {
        turn.content.push(Block::CachePoint(point));
    }
    Ok(conversation)
}

impl<'a> Conversation<'a> {
    fn add(&mut self, message: Message<'a>, parts: &mut Parts, param: &str) -> Result<(), Problem> {
        let point = CachePoint::of(message.cache_control, &format!("{param}.cache_control"))?;
        let point = point.map(Block::CachePoint);
        match message.role.as_str() {
            "system" | "developer" => {
                self.system.extend(content(&message, Allowed::Text, parts, param)?);
                self.system.extend(point);
            }
            "user" => {
                let blocks = content(&message, Allowed::All, parts, param)?;
                self.extend("user", blocks.into_iter().chain(point).collect());
            }
            "tool" => {
                self.has_calls = true;
                let blocks = tool_result(message, parts, param)?;
                self.extend("user", blocks.into_iter().chain(point).collect());
            }
            "assistant" => {
                let calls = message.tool_calls.as_ref().is_some_and(|calls| !calls.is_empty());
                self.has_calls |= calls;
                self.bare_tool_turn = calls && message.thinking_blocks.as_ref().is_none_or(Vec::is_empty);
                let blocks = assistant(message, parts, param)?;
                self.extend("assistant", blocks.into_iter().chain(point).collect());
            }
            other => {
                let message = format!("Bedrock has no role '{other}'.");
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

fn content<'a>(
    message: &Message<'a>,
    allowed: Allowed,
    parts: &mut Parts,
    param: &str,
) -> Result<Vec<Block<'a>>, Problem> {
    match message.content.filter(|content| content.get() != "null") {
        Some(content) => parts.blocks(content, allowed, &format!("{param}.content")),
        None => Ok(Vec::new()),
    }
}

/// The result; cache points that stand among its parts come after it, since there is no place for them inside.
fn tool_result<'a>(message: Message<'a>, parts: &mut Parts, param: &str) -> Result<Vec<Block<'a>>, Problem> {
    let content = content(&message, Allowed::All, parts, param)?;
    let (points, content) = content.into_iter().partition(|block| matches!(block, Block::CachePoint(_)));
    let Some(tool_use_id) = message.tool_call_id else {
        let text = "A tool message needs a 'tool_call_id'.";
        return Err(Problem::invalid(format!("{param}.tool_call_id"), text));
    };
    let status = message.is_error.map(|is_error| if is_error { "error" } else { "success" });
    let mut blocks = Vec::from([Block::ToolResult(ToolResult { tool_use_id, content, status })]);
    let points: Vec<Block<'a>> = points;
    blocks.extend(points);
    Ok(blocks)
}

/// Thinking first and unchanged, then text, then calls.
fn assistant<'a>(message: Message<'a>, parts: &mut Parts, param: &str) -> Result<Vec<Block<'a>>, Problem> {
    if message.function_call.is_some_and(|call| call.get() != "null") {
        let text = "Bedrock has no 'function_call': use 'tool_calls'.";
        return Err(Problem::unsupported(format!("{param}.function_call"), text));
    }
    let text = content(&message, Allowed::Assistant, parts, param)?;
    let mut blocks = Vec::new();
    for (index, raw) in message.thinking_blocks.into_iter().flatten().enumerate() {
        blocks.push(Block::ReasoningContent(thought(raw, &format!("{param}.thinking_blocks[{index}]"))?));
    }
    blocks.extend(text);
    for (index, call) in message.tool_calls.into_iter().flatten().enumerate() {
        let param = format!("{param}.tool_calls[{index}]");
        let point = CachePoint::of(call.cache_control, &format!("{param}.cache_control"))?;
        blocks.push(Block::ToolUse(tool_use(call, &param)?));
        blocks.extend(point.map(Block::CachePoint));
    }
    Ok(blocks)
}

/// A thinking block, in Anthropic's form, as answers have it.
fn thought<'a>(raw: &'a RawValue, param: &str) -> Result<Reasoning<'a>, Problem> {
    let block: ThinkingBlock<'a> = parse(raw, param)?;
    match (block.kind.as_str(), block.thinking, block.data) {
        ("thinking", Some(text), _) => Ok(Reasoning::ReasoningText { text, signature: block.signature }),
        ("redacted_thinking", _, Some(data)) => Ok(Reasoning::RedactedContent(data)),
        _ => {
            let message =
                "A block of type 'thinking' with 'thinking', or 'redacted_thinking' with 'data' is expected.";
            Err(Problem::invalid(param, message))
        }
    }
}

fn tool_use(call: ToolCall<'_>, param: &str) -> Result<ToolUse, Problem> {
    let Some(function) = call.function.filter(|_| call.kind.as_deref().is_none_or(|kind| kind == "function"))
    else {
        let message = "Bedrock only has calls of type 'function'.";
        return Err(Problem::unsupported(format!("{param}.type"), message));
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
    Ok(ToolUse { tool_use_id: call.id, name: function.name, input })
}
