//! The conversation: `system` first; a user's turn as the results of calls, then what the user said; an assistant's turn
//! as one message; a system's turn (Claude Code sends them) where it stands.

use alloc::borrow::Cow;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use brokle_plugin::Problem;
use brokle_plugin::dialect::request::{Content, File, ImageUrl, Message, Part, ToolCall};
use brokle_plugin::dialect::{Fields, parse};
use serde::Deserialize;
use serde_json::value::RawValue;

#[derive(Deserialize)]
struct Turn<'a> {
    role: String,
    #[serde(borrow)]
    content: &'a RawValue,
}

#[derive(Deserialize)]
struct Block<'a> {
    #[serde(rename = "type")]
    kind: String,
    #[serde(borrow, default)]
    text: Cow<'a, str>,
    #[serde(borrow, default)]
    source: Option<&'a RawValue>,
    #[serde(default)]
    title: Option<String>,
    #[serde(borrow, default)]
    cache_control: Option<&'a RawValue>,
    #[serde(borrow, default)]
    id: Cow<'a, str>,
    #[serde(borrow, default)]
    name: Cow<'a, str>,
    #[serde(borrow, default)]
    input: Option<&'a RawValue>,
    #[serde(borrow, default)]
    tool_use_id: Cow<'a, str>,
    #[serde(borrow, default)]
    content: Option<&'a RawValue>,
    #[serde(default)]
    is_error: Option<bool>,
    #[serde(borrow, default)]
    signature: Cow<'a, str>,
}

#[derive(Deserialize)]
struct Source<'a> {
    #[serde(rename = "type")]
    kind: String,
    #[serde(borrow, default)]
    media_type: Cow<'a, str>,
    #[serde(borrow, default)]
    data: Cow<'a, str>,
    #[serde(borrow, default)]
    url: Cow<'a, str>,
    #[serde(borrow, default)]
    content: Option<&'a RawValue>,
}

pub(super) fn translate<'a>(fields: &Fields<'a>) -> Result<Vec<Message<'a>>, Problem> {
    let mut messages = Vec::new();
    if let Some(system) = fields.raw("system") {
        self::system(system, "system", &mut messages)?;
    }
    let turns = fields.get::<Vec<Turn<'a>>>("messages")?;
    let turns = turns.ok_or_else(|| Problem::invalid("messages", "messages: Field required"))?;
    if turns.is_empty() {
        return Err(Problem::invalid("messages", "messages: at least one message is required"));
    }
    for (index, turn) in turns.into_iter().enumerate() {
        let param = format!("messages.{index}.content");
        match turn.role.as_str() {
            "user" => user(turn.content, &param, &mut messages)?,
            "assistant" => messages.push(assistant(turn.content, &param)?),
            "system" => system(turn.content, &param, &mut messages)?,
            other => {
                let message = format!("messages.{index}.role: there is no role '{}'", other.escape_debug());
                return Err(Problem::invalid(format!("messages.{index}.role"), message));
            }
        }
    }
    Ok(messages)
}

/// A content's blocks: a text is one.
fn blocks<'a>(content: &'a RawValue, param: &str) -> Result<Vec<Block<'a>>, Problem> {
    if content.get().starts_with('"') {
        return Ok(alloc::vec![text_block(parse::<Cow<'a, str>>(content, param)?)]);
    }
    parse(content, param)
}

fn text_block(text: Cow<'_, str>) -> Block<'_> {
    Block {
        kind: "text".into(),
        text,
        source: None,
        title: None,
        cache_control: None,
        id: Cow::Borrowed(""),
        name: Cow::Borrowed(""),
        input: None,
        tool_use_id: Cow::Borrowed(""),
        content: None,
        is_error: None,
        signature: Cow::Borrowed(""),
    }
}

fn parts<'a>(content: &'a RawValue, param: &str) -> Result<Vec<Part<'a>>, Problem> {
    let mut parts = Vec::new();
    for (index, block) in blocks(content, param)?.into_iter().enumerate() {
        part(block, &format!("{param}.{index}"), &mut parts)?;
    }
    Ok(parts)
}

/// A block that says or shows something.
fn part<'a>(block: Block<'a>, param: &str, parts: &mut Vec<Part<'a>>) -> Result<(), Problem> {
    let cache_control = block.cache_control;
    match (block.kind.as_str(), block.source) {
        ("text", _) => parts.push(Part::Text { text: block.text, cache_control }),
        ("image", Some(source)) => {
            let source: Source<'a> = parse(source, param)?;
            let url = match source.kind.as_str() {
                "base64" => data_url(&source),
                "url" => source.url,
                other => return Err(lacks(param, other)),
            };
            parts.push(Part::ImageUrl { image_url: ImageUrl { url, detail: None }, cache_control });
        }
        ("document", Some(source)) => document(block.title, source, cache_control, param, parts)?,
        ("search_result", _) => {
            let found =
                block.content.map_or_else(|| Ok(Vec::new()), |content| self::parts(content, param))?;
            parts.extend(block.title.map(Part::text));
            parts.extend(found);
        }
        (other, _) => return Err(lacks(param, other)),
    }
    Ok(())
}

fn document<'a>(
    title: Option<String>,
    source: &'a RawValue,
    cache_control: Option<&'a RawValue>,
    param: &str,
    parts: &mut Vec<Part<'a>>,
) -> Result<(), Problem> {
    let source: Source<'a> = parse(source, param)?;
    match (source.kind.as_str(), source.content) {
        ("base64", _) => {
            let filename = title.map_or(Cow::Borrowed("document.pdf"), Cow::Owned);
            let file = File { filename: Some(filename), file_data: Some(data_url(&source)) };
            parts.push(Part::File { file, cache_control });
        }
        ("text", _) => {
            parts.extend(title.map(Part::text));
            parts.push(Part::Text { text: source.data, cache_control });
        }
        ("content", Some(content)) => {
            parts.extend(title.map(Part::text));
            parts.extend(self::parts(content, param)?);
        }
        (other, _) => return Err(lacks(param, other)),
    }
    Ok(())
}

fn data_url<'a>(source: &Source<'_>) -> Cow<'a, str> {
    let mut url = String::with_capacity(source.data.len() + source.media_type.len() + 13);
    for piece in ["data:", &source.media_type, ";base64,", &source.data] {
        url.push_str(piece);
    }
    Cow::Owned(url)
}

fn lacks(param: &str, kind: &str) -> Problem {
    let kind = kind.chars().take(60).collect::<String>();
    let message = format!(
        "{param}: '{}' is understood by Anthropic only, and the model isn't served by Anthropic",
        kind.escape_debug()
    );
    Problem::unsupported(param, message)
}

fn system<'a>(content: &'a RawValue, param: &str, messages: &mut Vec<Message<'a>>) -> Result<(), Problem> {
    let parts = parts(content, param)?;
    if !parts.is_empty() {
        messages.push(Message { role: "system", content: Content::of(parts), ..Message::default() });
    }
    Ok(())
}

/// Results come first, each a message; images in them follow with what the user said, since a result is text elsewhere.
fn user<'a>(content: &'a RawValue, param: &str, messages: &mut Vec<Message<'a>>) -> Result<(), Problem> {
    let (mut said, mut shown) = (Vec::new(), Vec::new());
    for (index, block) in blocks(content, param)?.into_iter().enumerate() {
        let param = format!("{param}.{index}");
        if block.kind != "tool_result" {
            part(block, &param, &mut said)?;
            continue;
        }
        let all = block.content.map_or_else(|| Ok(Vec::new()), |content| parts(content, &param))?;
        let (texts, others): (Vec<_>, Vec<_>) =
            all.into_iter().partition(|part| matches!(part, Part::Text { .. }));
        let content = match Content::of(texts) {
            Content::None => Content::Text(Cow::Borrowed("")),
            content => content,
        };
        shown.extend(others);
        messages.push(Message {
            role: "tool",
            content,
            tool_call_id: Some(block.tool_use_id),
            is_error: block.is_error.filter(|is_error| *is_error),
            cache_control: block.cache_control,
            ..Message::default()
        });
    }
    shown.extend(said);
    if !shown.is_empty() {
        messages.push(Message { role: "user", content: Content::of(shown), ..Message::default() });
    }
    Ok(())
}

fn assistant<'a>(content: &'a RawValue, param: &str) -> Result<Message<'a>, Problem> {
    let mut message = Message { role: "assistant", ..Message::default() };
    if content.get().starts_with('"') {
        message.content = Content::Text(parse(content, param)?);
        return Ok(message);
    }
    let mut said = Vec::new();
    for (index, raw) in parse::<Vec<&'a RawValue>>(content, param)?.into_iter().enumerate() {
        let param = format!("{param}.{index}");
        let block: Block<'a> = parse(raw, &param)?;
        match block.kind.as_str() {
            "tool_use" => {
                let input = block.input.map_or("{}", RawValue::get);
                message.tool_calls.push(ToolCall::function(block.id, block.name, input));
            }
            // What nobody signed is no use to anybody.
            "thinking" if block.signature.is_empty() => {}
            "thinking" | "redacted_thinking" => message.thinking_blocks.push(raw),
            _ => part(block, &param, &mut said)?,
        }
    }
    message.content = Content::of(said);
    Ok(message)
}
